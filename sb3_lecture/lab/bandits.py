"""The bandit testbed, compiled whole: four ways to explore, each on many tasks, pull by pull (Sutton & Barto 2018, chapter 2).

A pull of lever a pays q*(a) + noise; the q*(a) of a task and the noise are standard normal. The rules are those of the
project's tabular learners (``QLearning`` with sample averages by ε-greedy and UCB, ``GradientBandit``); this kernel draws its
own numbers, so that all methods of a task meet the same levers. Thompson sampling (Thompson 1933; the Gaussian form as in
Russo et al. 2018, https://arxiv.org/abs/1707.02038, with prior N(0, 1) and noise of variance 1) has no learner of its own.
"""

from typing import NamedTuple

import numba
import numpy as np

EPSILON, UCB, GRADIENT, THOMPSON = 0, 1, 2, 3
METHODS = {"epsilon": "ε-greedy", "ucb": "UCB", "gradient": "Gradient", "thompson": "Thompson"}


class Pulls(NamedTuple):
    """One method on some tasks.

    :param worth: q*(a), float64 [tasks, k]
    :param actions: int64 [tasks, steps]
    :param rewards: float64 [tasks, steps]
    :param values: what is learned in the end, float64 [tasks, k]: mean rewards, preferences, or posterior means
    :param before: the same before the last pull
    :param counts: pulls of each lever, int64 [tasks, k]
    """

    worth: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    values: np.ndarray
    before: np.ndarray
    counts: np.ndarray


@numba.njit(cache=True)
def _argmax(scores):  # type: ignore[no-untyped-def]
    """The largest of the scores, ties drawn."""
    best, n, choice = -np.inf, 0, 0
    for a in range(scores.shape[0]):
        if scores[a] > best:
            best, n, choice = scores[a], 1, a
        elif scores[a] == best:
            n += 1
            if np.random.randint(n) == 0:
                choice = a
    return choice


@numba.njit(cache=True)
def softmax(preferences):  # type: ignore[no-untyped-def]
    """exp(H) normalised (eq. 2.11): float64 [k]."""
    weights = np.exp(preferences - preferences.max())
    return weights / weights.sum()


@numba.njit(cache=True)
def _play(method, seed, k, parameter, initial, actions, rewards, worth, values, before, counts):  # type: ignore[no-untyped-def]
    steps = actions.shape[1]
    scores = np.zeros(k)
    for task in range(actions.shape[0]):
        np.random.seed(seed + task)
        for a in range(k):
            worth[task, a] = np.random.normal()
        np.random.seed(1_000_003 * (method + 1) + seed + task)
        q, n, mean = values[task], counts[task], 0.0
        q[:] = initial
        for t in range(steps):
            if method == EPSILON:
                choice = np.random.randint(k) if np.random.random() < parameter else _argmax(q)
            elif method == UCB:
                for a in range(k):  # eq. 2.10; what was never tried comes first
                    scores[a] = q[a] + parameter * np.sqrt(np.log(t) / n[a]) if n[a] > 0 else np.inf
                choice = _argmax(scores)
            elif method == GRADIENT:
                pi, u, choice = softmax(q), np.random.random(), 0
                while choice + 1 < k and u >= pi[choice]:
                    u -= pi[choice]
                    choice += 1
            else:
                for a in range(k):  # a draw of each posterior N(m, 1 / (n + 1 / σ²))
                    scores[a] = q[a] + np.random.normal() / np.sqrt(n[a] + 1.0 / parameter)
                choice = _argmax(scores)
            reward = worth[task, choice] + np.random.normal()
            actions[task, t], rewards[task, t] = choice, reward
            if t == steps - 1:
                before[task] = q
            n[choice] += 1
            if method == GRADIENT:
                for a in range(k):  # eq. 2.12; the baseline is the mean of the rewards before
                    q[a] += parameter * (reward - mean) * ((1.0 if a == choice else 0.0) - pi[a])
                mean += (reward - mean) / (t + 1)
            elif method == THOMPSON:
                q[choice] += (reward - q[choice]) / (n[choice] + 1.0 / parameter)
            else:
                q[choice] += (reward - q[choice]) / n[choice]  # eq. 2.3


def play(method: str, k: int, steps: int, tasks: int, parameter: float, seed: int, initial: float = 0.0) -> Pulls:
    """Pull levers.

    :param method: a key of ``METHODS``
    :param k: levers
    :param steps: pulls of each task
    :param tasks: how many
    :param parameter: ε, c of UCB, the step size of preferences, or the variance of Thompson's prior
    :param seed: of the first task; task i has seed + i, for all methods alike
    :param initial: first estimate of every lever; the first pull of a lever replaces it in a sample average
    """
    made = Pulls(
        np.zeros((tasks, k)), np.zeros((tasks, steps), np.int64), np.zeros((tasks, steps)), np.zeros((tasks, k)),
        np.zeros((tasks, k)), np.zeros((tasks, k), np.int64),
    )  # fmt: skip
    kind = list(METHODS).index(method)
    _play(kind, seed, k, float(parameter), float(initial), *made[1:3], made.worth, *made[3:])
    if steps == 0:
        made.before[:] = made.values
    return made
