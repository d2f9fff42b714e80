"""How good could any learner be that has data alone: the optimum over the actions that the data show, exactly.

A data set D of transitions counts n(s, a). A learner that may only follow what it has seen chooses in each state s among
A_D(s) = {a : n(s, a) > 0}; where D shows nothing of a state (n(s, ·) = 0) it cannot choose, and is taken to act at random
among what is allowed there. The *in-support optimum* is the best such policy, under the true law (``in_support_optimum``)
or under the law that the data show (``empirical_law``). Its regret to the optimum of the world is what the data lack; a
learner's regret to it is what the learner lacks. What batch-constrained learning converges to on a finite world is this
optimum of the empirical law (Fujimoto et al. 2019, theorem 4, https://arxiv.org/abs/1812.02900).

Two tabular learners from data stand beside it, both sums of this file's parts:

- pessimistic value iteration: the optimum of the empirical law with rewards r̂(s, a) − β / √n(s, a), a lower bound of a
  policy's value where β is large (Jin et al. 2021, algorithm 1, https://arxiv.org/abs/2012.15085; the penalty for counts
  as in Rashidinejad et al. 2021, https://arxiv.org/abs/2103.12021);
- SPIBB: policy iteration on the empirical law in which pairs seen fewer than n_min times keep the behaviour's probability
  (Laroche et al. 2019, algorithm 1, Π_b-SPIBB, https://arxiv.org/abs/1712.06924).
"""

from typing import NamedTuple

import numpy as np
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_lecture.exact.chain import policy_evaluation
from sb3_lecture.exact.grade import ExactGrader
from sb3_lecture.exact.solver import Solution, exact_optimum, start_value
from sb3_lecture_envs.mdp import TabularMDP

__all__ = [
    "OfflineGrade", "behaviour_policy", "count_pairs", "empirical_law", "in_support_optimum", "offline_grade",
    "pessimistic_value_iteration", "restrict", "spibb",
]  # fmt: skip


class OfflineGrade(NamedTuple):
    """What data allow, and what a learner made of them; expected discounted returns from the world's start.

    :param value: of the learner's greedy policy
    :param in_support: of the best policy over the actions that the data show
    :param optimum: of the best policy of all
    :param behaviour: of the behaviour that the data show, π_D
    """

    value: float
    in_support: float
    optimum: float
    behaviour: float

    @property
    def regret(self) -> float:
        """What the learner lacks to the in-support optimum; below 0 it has done better than the data show."""
        return self.in_support - self.value

    def summary(self) -> str:
        """Say it in one line."""
        regret = 0.0 if abs(self.regret) < 5e-7 else self.regret
        return (
            f"Regret against the in-support optimum: {regret:.3g} (in-support value {self.in_support:.3f}, optimum "
            f"{self.optimum:.3f}, behaviour {self.behaviour:.3f})"
        )


def offline_grade(grader: ExactGrader, model: BaseAlgorithm, observations: np.ndarray, actions: np.ndarray) -> OfflineGrade:
    """Hold a learner's greedy policy against what its data allow, exactly.

    :param grader: of the world
    :param model: the learner
    :param observations: of the data [N, …]
    :param actions: of the data [N]
    :raises ValueError: if the observations do not say in which state the world is
    """
    mdp, gamma = grader.mdp, grader.gamma
    counts = count_pairs(mdp, grader.states_of(observations), actions)
    result = grader.grade(model)
    return OfflineGrade(
        result.value,
        start_value(mdp, in_support_optimum(mdp, counts, gamma).v),
        result.optimal_value,
        start_value(mdp, policy_evaluation(mdp, behaviour_policy(counts, mdp), gamma)),
    )


def count_pairs(mdp: TabularMDP, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
    """Count how often each pair was seen, int64 [S, A].

    :param mdp: the world
    :param states: int [N]
    :param actions: int [N]
    :raises ValueError: if there are none, or one is none of the world's
    """
    states, actions = np.asarray(states).ravel(), np.asarray(actions).ravel()
    if states.size == 0 or states.shape != actions.shape:
        raise ValueError(f"{states.size} states and {actions.size} actions: give as many of each, and at least one")
    for name, found, n in (("state", states, mdp.n_states), ("action", actions, mdp.n_actions)):
        if found.min() < 0 or found.max() >= n:
            wrong = found[(found < 0) | (found >= n)][0]
            raise ValueError(f"{name} {wrong} is none of the world's {n}, 0 to {n - 1}")
    rows = states.astype(np.int64) * mdp.n_actions + actions
    return np.bincount(rows, minlength=mdp.n_states * mdp.n_actions).reshape(mdp.n_states, mdp.n_actions)


def behaviour_policy(counts: np.ndarray, mdp: TabularMDP | None = None) -> np.ndarray:
    """π_D(a | s) = n(s, a) / n(s), and the same chance for all actions where the data show nothing; float64 [S, A].

    :param counts: n(s, a), int [S, A]
    :param mdp: the world, whose action mask says what is allowed; None: everything
    """
    allowed = np.ones(counts.shape) if mdp is None or mdp.action_mask is None else mdp.action_mask.astype(np.float64)
    weights = np.where(counts.sum(axis=1, keepdims=True) > 0, counts, allowed).astype(np.float64)
    return weights / weights.sum(axis=1, keepdims=True)


def restrict(mdp: TabularMDP, counts: np.ndarray) -> TabularMDP:
    """The world in which only what the data show can be chosen.

    :param mdp: the world, or an empirical law of it
    :param counts: n(s, a), int [S, A]
    :return: the same states and actions; one that was never seen does what the state's first seen one does, and in a state
        without data every action is a random choice among what was allowed there
    """
    n_states, n_actions = mdp.n_states, mdp.n_actions
    if counts.shape != (n_states, n_actions):
        raise ValueError(f"counts of shape {counts.shape} are not those of {n_states} states and {n_actions} actions")
    blind, chance = counts.sum(axis=1) == 0, behaviour_policy(counts, mdp)  # [S], [S, A]
    entries, prob = [], []  # of each row
    for s in range(n_states):
        rows = [np.arange(*mdp.row_ptr[s * n_actions + a : s * n_actions + a + 2]) for a in range(n_actions)]
        mixed = np.concatenate(rows)
        weights = np.concatenate([chance[s, a] * mdp.prob[row] for a, row in enumerate(rows)])
        for a in range(n_actions):
            row = rows[a if counts[s, a] > 0 else _first_seen(counts[s])]
            entries.append(mixed if blind[s] else row)
            prob.append(weights if blind[s] else mdp.prob[row])
    flat = np.concatenate(entries)
    return TabularMDP(
        n_states, n_actions, np.concatenate(([0], np.cumsum([len(row) for row in entries]))), mdp.next_state[flat],
        np.concatenate(prob), mdp.reward[flat], mdp.terminated[flat], mdp.start_state, mdp.start_prob,
    )  # fmt: skip


def _first_seen(row: np.ndarray) -> int:
    """The first action of a state that was seen; 0 where none was."""
    return int(np.argmax(row > 0))


def in_support_optimum(mdp: TabularMDP, counts: np.ndarray, gamma: float) -> Solution:
    """The best policy that never takes an action which the data do not show, solved.

    :param mdp: the true law; or ``empirical_law``, for the best of what the data say
    :param counts: n(s, a), int [S, A]
    :param gamma: discount in [0, 1]
    :return: its values and policy; in states without data the policy names action 0, which there stands for a random one
    """
    best = exact_optimum(restrict(mdp, counts), gamma)
    seen = counts[np.arange(mdp.n_states), best.policy] > 0
    first = np.array([_first_seen(row) for row in counts], best.policy.dtype)
    best.policy = np.where(seen, best.policy, first)
    return best


def empirical_law(
    mdp: TabularMDP, states: np.ndarray, actions: np.ndarray, rewards: np.ndarray, next_states: np.ndarray, ends: np.ndarray
) -> TabularMDP:
    """The law that the data show: P̂(s', end | s, a) by counting, and the mean reward of each outcome.

    Pairs without data end with reward 0. The start distribution is the world's.

    :param mdp: the world, for its sizes and its starts
    :param states: int [N]
    :param actions: int [N]
    :param rewards: float [N]
    :param next_states: int [N]
    :param ends: whether the episode was over for good, bool [N]; a time limit is no end
    """
    counts = count_pairs(mdp, states, actions)
    columns = [np.asarray(c).ravel().astype(np.int64) for c in (states, actions, next_states, ends)]
    outcomes, which, n = np.unique(np.stack(columns, axis=1), axis=0, return_inverse=True, return_counts=True)
    reward = np.bincount(which.ravel(), weights=np.asarray(rewards, np.float64).ravel()) / n  # [outcomes]
    unseen = np.argwhere(counts == 0)  # [pairs, 2]
    filler = np.concatenate([unseen, unseen[:, :1], np.ones_like(unseen[:, :1])], axis=1)  # s, a → s, over
    rows = np.concatenate([outcomes, filler])
    order = np.lexsort((rows[:, 1], rows[:, 0]))
    pair = rows[:, 0] * mdp.n_actions + rows[:, 1]
    prob = np.concatenate([n / counts[outcomes[:, 0], outcomes[:, 1]], np.ones(len(filler))])
    lengths = np.bincount(pair, minlength=counts.size)
    return TabularMDP(
        mdp.n_states, mdp.n_actions, np.concatenate(([0], np.cumsum(lengths))), rows[order, 2], prob[order],
        np.concatenate([reward, np.zeros(len(filler))])[order], rows[order, 3].astype(bool), mdp.start_state, mdp.start_prob,
        mdp.action_mask,
    )  # fmt: skip


def pessimistic_value_iteration(law: TabularMDP, counts: np.ndarray, gamma: float, beta: float = 1.0) -> Solution:
    """The optimum of the empirical law with rewards r̂(s, a) − β / √n(s, a), over the pairs seen.

    :param law: ``empirical_law`` of the data
    :param counts: n(s, a), int [S, A]
    :param gamma: discount in [0, 1)
    :param beta: β ≥ 0; 0 is the in-support optimum of the empirical law
    """
    if not (beta >= 0 and np.isfinite(beta)):
        raise ValueError(f"{beta=} must be a finite number of at least 0")
    penalty = beta / np.sqrt(np.maximum(counts, 1)) * (counts > 0)  # [S, A]
    punished = TabularMDP(
        law.n_states, law.n_actions, law.row_ptr, law.next_state, law.prob,
        law.reward - np.repeat(penalty.ravel(), np.diff(law.row_ptr)), law.terminated, law.start_state, law.start_prob,
    )  # fmt: skip
    return in_support_optimum(punished, counts, gamma)


def spibb(law: TabularMDP, counts: np.ndarray, gamma: float, n_min: int = 5) -> tuple[np.ndarray, np.ndarray]:
    """Safe policy improvement: what was seen fewer than ``n_min`` times is done as often as the behaviour did it.

    :param law: ``empirical_law`` of the data
    :param counts: n(s, a), int [S, A]
    :param gamma: discount in [0, 1)
    :param n_min: N_∧; 0 improves everywhere, a number above all counts returns the behaviour
    :return: the policy π(a | s), float64 [S, A], and its values under the empirical law, float64 [S]
    """
    behaviour = behaviour_policy(counts, law)
    free = counts >= max(n_min, 1)  # pairs that may be improved
    mass = np.where(free, behaviour, 0.0).sum(axis=1)  # [S], the probability that may be moved
    pi = behaviour
    while True:
        v = policy_evaluation(law, pi, gamma)
        backup = law.prob * (law.reward + gamma * np.where(law.terminated, 0.0, v[law.next_state]))  # [outcomes]
        q = np.add.reduceat(backup, law.row_ptr[:-1]).reshape(counts.shape)  # [S, A]
        best = np.where(free, q, -np.inf)
        present = (np.where(free, pi * q, 0.0)).sum(axis=1)  # what the moved mass is worth now
        gain = mass * np.where(mass > 0, best.max(axis=1), 0.0) - present
        if not (gain > 1e-12 * np.maximum(1.0, np.abs(present))).any():
            return pi, v
        improved = np.where(free, 0.0, behaviour)
        moved = np.flatnonzero(mass > 0)
        improved[moved, best[moved].argmax(axis=1)] += mass[moved]
        pi = improved
