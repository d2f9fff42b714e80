"""Exact values and optima of a finite MDP: the answers learners are held against.

Policy evaluation solves v = r_π + γ P_π v (Sutton & Barto 2018, eq. 4.4) as a Markov chain (``chain.py``). Optima
solve v = max_a [r(s, a) + γ Σ p(s' | s, a) v(s')] (eq. 4.1): discounted ones by value iteration (section 4.4) or modified
policy iteration (``sweeps.py``), undiscounted and ε-soft ones by policy iteration (section 4.3), whose policies are
evaluated by ``chain.py``. The value after the episode's end is 0; time limits are no part of an MDP.
"""

from dataclasses import dataclass, field
from functools import cached_property
from typing import NamedTuple

import numba
import numpy as np

from sb3_lecture.exact.bellman import backup, check_gamma, q_from_v
from sb3_lecture.exact.chain import chain_value, one_hot, policy_chain, policy_evaluation
from sb3_lecture.exact.graph import end_components, surely_ending
from sb3_lecture.exact.sweeps import solve_discounted
from sb3_lecture_envs.mdp import TabularMDP

#: accuracy of the policies' values in policy iteration, where elimination would take too long
EVALUATION_TOLERANCE = 1e-11
#: rises below this share of the largest value are rounding
RISE = 1e-12
#: greedy sweeps between two evaluations, at most
MAX_GREEDY_SWEEPS = 64


@dataclass(eq=False)
class Solution:
    """An optimum.

    :param v: value of each state, float64 [S]
    :param policy: a greedy action in each state, int32 [S]
    :param iterations: greedy sweeps (value and modified policy iteration) or policies evaluated (policy iteration)
    :param error_bound: how far ``v`` may be from the exact optimum, rounding apart
    """

    v: np.ndarray
    policy: np.ndarray
    iterations: int
    error_bound: float
    _mdp: TabularMDP = field(repr=False)
    _gamma: float = field(repr=False)

    @cached_property
    def q(self) -> np.ndarray:
        """Action values of ``v``, float64 [S, A], computed when first asked for."""
        return q_from_v(self._mdp, self.v, self._gamma)


# ---- what values say


def start_value(mdp: TabularMDP, v: np.ndarray) -> float:
    """Expected value of the start, Σ p(s₀) v(s₀).

    :param mdp: the world
    :param v: values, [S]
    """
    possible = mdp.start_prob > 0
    return float(mdp.start_prob[possible] @ v[mdp.start_state[possible]])


def optimal_actions(q: np.ndarray, mask: np.ndarray | None = None, tol: float = 1e-9) -> np.ndarray:
    """Which actions are as good as the best one allowed.

    :param q: action values, [S, A]
    :param mask: allowed actions, bool [S, A]; default all
    :param tol: how much less still counts as equal (default 1e-9)
    :return: bool [S, A]
    """
    allowed = np.ones(q.shape, np.bool_) if mask is None else np.asarray(mask, np.bool_)
    best = np.where(allowed, q, -np.inf).max(axis=1, keepdims=True)
    # not best - q <= tol: that is NaN where both are infinite
    return allowed & ((q >= best - tol) | (q == best))


def greedy_policy(q: np.ndarray, tie_tol: float = 1e-9) -> np.ndarray:
    """The first action whose value is within ``tie_tol`` of the best, int32 [S].

    :param q: action values, [S, A]
    :param tie_tol: values this close are equal (default 1e-9)
    """
    return optimal_actions(q, tol=tie_tol).argmax(axis=1).astype(np.int32)


def softmax_policy(q: np.ndarray, temperature: float) -> np.ndarray:
    """π(a | s) ∝ exp(q(s, a) / temperature) (Sutton & Barto, eq. 13.2), float64 [S, A].

    :param q: action values, [S, A]; -∞ gives probability 0
    :param temperature: > 0; small is greedy
    :raises ValueError: if the temperature is not positive
    """
    if not temperature > 0.0:
        raise ValueError(f"temperature must be > 0, got {temperature}; for the greedy policy use greedy_policy")
    best = q.max(axis=1, keepdims=True)
    with np.errstate(over="ignore"):  # a gap beyond the largest float is a probability of 0
        weights = np.exp((q - np.where(np.isfinite(best), best, 0.0)) / temperature)
    weights = np.where(np.isfinite(best), weights, (q == best).astype(np.float64))
    return weights / weights.sum(axis=1, keepdims=True)


# ---- optima


def value_iteration(mdp: TabularMDP, gamma: float, tol: float = 1e-8) -> Solution:
    """The optimum by value iteration, v ← max_a [r + γ P v] (Sutton & Barto, eq. 4.10), stopped by MacQueen's bounds.

    With γ = 1 no sweep bounds the error; policy iteration takes over, see ``modified_policy_iteration``.

    :param mdp: the world
    :param gamma: discount in [0, 1]
    :param tol: error allowed (default 1e-8)
    :return: the optimum over all actions (``action_mask`` is not looked at)
    :raises ValueError: if gamma is outside [0, 1], or γ = 1 and the optimum is unbounded or undefined
    """
    return modified_policy_iteration(mdp, gamma, tol, max_sweeps=0)


def modified_policy_iteration(mdp: TabularMDP, gamma: float, tol: float = 1e-6, max_sweeps: int = 100) -> Solution:
    """The optimum by modified policy iteration (Puterman & Shin 1978), stopped by MacQueen's bounds.

    With γ = 1, policy iteration from a policy that ends surely. Its optimum is the best over policies that end surely or
    stay for ever where there is no reward (worth 0); a state from which every policy may go on for ever at a loss is -∞.

    :param mdp: the world
    :param gamma: discount in [0, 1]
    :param tol: error allowed (default 1e-6)
    :param max_sweeps: sweeps of policy evaluation between two greedy sweeps, at most; how many are made is chosen on the way
    :return: the optimum over all actions (``action_mask`` is not looked at)
    :raises ValueError: if gamma is outside [0, 1], tol is not positive, or γ = 1 and the optimum is unbounded or undefined
    """
    check_gamma(gamma)
    if not tol > 0.0:
        raise ValueError(f"tol must be > 0, got {tol}; the default is 1e-6")
    if gamma == 1.0:
        return _policy_iteration(mdp, gamma, epsilon=0.0)
    return Solution(*solve_discounted(mdp, gamma, tol, max_sweeps), mdp, gamma)


def exact_optimum(mdp: TabularMDP, gamma: float, tol: float = 1e-9) -> Solution:
    """The optimum, with the values of its own policy, solved: whoever follows that policy has regret 0, to the last digit.

    :param mdp: the world
    :param gamma: discount in [0, 1]
    :param tol: how much better a better policy could be (default 1e-9)
    :raises ValueError: if gamma is outside [0, 1], or γ = 1 and the optimum is unbounded or undefined
    """
    best = modified_policy_iteration(mdp, gamma, tol)
    best.v = policy_evaluation(mdp, best.policy, gamma)
    return best


def epsilon_soft_optimum(mdp: TabularMDP, epsilon: float, gamma: float) -> Solution:
    """The best policy that takes a uniformly random action with probability ε (Sutton & Barto, section 5.4).

    v(s) = (1 - ε) max_a q(s, a) + ε/A Σ_a q(s, a): what Sarsa with a constant ε can reach at best.

    :param mdp: the world
    :param epsilon: probability of a random action, in [0, 1]; 0 gives the optimum, 1 the uniform policy's value
    :param gamma: discount in [0, 1]
    :return: ``v`` and ``q`` of the soft policy itself (online value); ``policy`` is its greedy part
    :raises ValueError: if epsilon or gamma is outside [0, 1], or γ = 1 and the optimum is unbounded or undefined
    """
    check_gamma(gamma)
    if not 0.0 <= epsilon <= 1.0:
        raise ValueError(f"epsilon must be in [0, 1], got {epsilon}")
    return _policy_iteration(mdp, gamma, epsilon)


@numba.njit(cache=True)
def _improve(
    row_ptr: np.ndarray,
    next_state: np.ndarray,
    prob: np.ndarray,
    terminated: np.ndarray,
    reward: np.ndarray,
    gamma: float,
    epsilon: float,
    can_rest: np.ndarray,
    order: np.ndarray,
    backward: bool,
    threshold: float,
    v: np.ndarray,
    policy: np.ndarray,
) -> int:
    """One in-place sweep v(s) ← T v(s) that only takes rises above ``threshold``; returns how many."""
    n_states, n_actions = reward.shape
    rises = 0
    for i in range(n_states):
        s = order[n_states - 1 - i] if backward else order[i]
        best, chosen, mean = -np.inf, 0, 0.0
        for a in range(n_actions):
            e = row_ptr[s * n_actions + a]
            n = row_ptr[s * n_actions + a + 1] - e
            q = backup(reward[s, a], gamma, e, n, next_state, prob, terminated, False, v)
            mean += q / n_actions
            if q > best:
                best, chosen = q, a
        value = best
        if epsilon > 0.0:
            value = mean if epsilon == 1.0 else (1.0 - epsilon) * best + epsilon * mean
        if can_rest[s] and value < 0.0:
            value, chosen = 0.0, -1
        if value > v[s] + threshold:
            v[s], policy[s] = value, chosen
            rises += 1
    return rises


class EndingPolicy(NamedTuple):
    """Where undiscounted planning starts: a policy that surely ends, or surely comes to where it can stay for nothing.

    :param actions: int32 [S]; -1 where one stays for nothing, -2 where no policy surely ends
    :param order: the states, nearest to an end first, int32 [S]
    :param resting: pairs with which one can stay for ever at reward 0, bool [S, A]
    """

    actions: np.ndarray
    order: np.ndarray
    resting: np.ndarray

    def with_rest(self, actions: np.ndarray) -> np.ndarray:
        """Actions [S] in which every -1 has become a pair to rest with."""
        return np.where(actions == -1, self.resting.argmax(axis=1), actions).astype(np.int32)


def ending_policy(mdp: TabularMDP, gamma: float = 1.0) -> EndingPolicy:
    """A policy that ends with probability 1 from every state where one exists.

    :param mdp: the world
    :param gamma: discount; staying for nothing counts as an end where it is 1
    """
    law, n = (mdp.row_ptr, mdp.next_state, mdp.prob, mdp.terminated), mdp.n_states
    pairs = np.zeros(n * mdp.n_actions, np.bool_)
    if gamma == 1.0:
        pairs = np.ascontiguousarray((mdp.expected_reward == 0.0).ravel())
        end_components(*law, mdp.n_actions, pairs)
    resting = pairs.reshape(n, mdp.n_actions)
    return EndingPolicy(*surely_ending(*law, mdp.n_actions, np.asarray(resting.any(axis=1))), resting)


def _policy_iteration(mdp: TabularMDP, gamma: float, epsilon: float) -> Solution:
    """Policy iteration with exact evaluation and strict improvement (Sutton & Barto, section 4.3), for any γ and ε.

    Between two evaluations, in-place greedy sweeps carry improvements through the world. The policy of the last rises has
    T_μ v >= v, with strict inequality somewhere in every recurrent class that contains a rise (the last state to rise has
    predecessors that do not know it yet). So if μ has a never-ending class, which the surely ending policy before it had
    not, its mean reward there is positive and the optimum is +∞. Ties, on which naive greedy policies turn in circles, are
    never taken.
    """
    law = (mdp.row_ptr, mdp.next_state, mdp.prob, mdp.terminated)
    n, n_actions = mdp.n_states, mdp.n_actions
    reward = mdp.expected_reward
    first = EndingPolicy(np.zeros(n, np.int32), np.arange(n, dtype=np.int32), np.zeros((n, n_actions), np.bool_))
    doomed: np.ndarray = np.zeros(n, np.bool_)
    if epsilon == 0.0:
        first = ending_policy(mdp, gamma)
        if gamma == 1.0:
            doomed = first.actions == -2
            _refuse_endless_gain(mdp, doomed)
    elif gamma == 1.0:
        doomed = _doomed_by_chance(mdp, epsilon)
    policy, can_rest = np.where(first.actions == -2, 0, first.actions).astype(np.int32), np.asarray(first.resting.any(axis=1))
    v_old, policy_old, iterations = np.full(n, -np.inf), policy, 0
    while True:
        iterations += 1
        chain = policy_chain(mdp, _soft(policy, n_actions, epsilon), gamma)
        start = v_old if iterations > 1 else None
        v, _, bound = chain_value(chain, gamma < 1.0, EVALUATION_TOLERANCE, start)
        v[doomed] = -np.inf
        if np.any(v == np.inf):
            raise ValueError(_unbounded(int(np.argmax(v))))
        scale = float(np.abs(v[~doomed]).max(initial=1.0))
        threshold = max(RISE * scale, 4.0 * bound)
        if not np.all(v >= v_old - threshold):
            policy = policy_old  # what looked like a rise was rounding
            break
        v_old, policy_old = v.copy(), policy.copy()
        rises = 0
        for sweep in range(MAX_GREEDY_SWEEPS):
            now = _improve(*law, reward, gamma, epsilon, can_rest, first.order, sweep % 2 == 1, threshold, v, policy)
            rises += now
            if now == 0:
                break
        if rises == 0:
            break
    v = v_old
    error = bound + _optimality_gap(mdp, gamma, epsilon, v, policy, can_rest, doomed)
    return Solution(v, first.with_rest(policy), iterations, error, mdp, gamma)


def _soft(policy: np.ndarray, n_actions: int, epsilon: float) -> np.ndarray:
    """Probabilities [S, A] of a deterministic policy with a share ε of uniformly random actions."""
    pi = one_hot(policy, n_actions)
    return (1.0 - epsilon) * pi + epsilon / n_actions if epsilon > 0.0 else pi


def _unbounded(state: int) -> str:
    return (
        f"With gamma=1 the optimum from state {state} is unbounded or undefined: a policy can go on for ever with rewards "
        "above 0. Use gamma < 1, or a law whose episodes end"
    )


def _optimality_gap(
    mdp: TabularMDP, gamma: float, epsilon: float, v: np.ndarray, policy: np.ndarray, can_rest: np.ndarray, doomed: np.ndarray
) -> float:
    """What is left of T v - v, summed over the steps to come (1/(1-γ), or the longest expected episode of the policy)."""
    soft = _soft(policy, mdp.n_actions, epsilon)
    q = q_from_v(mdp, v, gamma)[~doomed]
    value = q.max(axis=1)
    if epsilon > 0.0:
        value = (1.0 - epsilon) * value + epsilon * q.mean(axis=1)
    value = np.where(can_rest[~doomed], np.maximum(value, 0.0), value)
    rest = float(np.abs(value - v[~doomed]).max(initial=0.0))
    if gamma < 1.0:
        return rest / (1.0 - gamma)
    acting = (soft.sum(axis=1) > 0.0).astype(np.float64)
    steps, _, _ = chain_value(policy_chain(mdp, soft, gamma)._replace(reward=acting), False)
    return rest * float(steps[np.isfinite(steps)].max(initial=1.0))


def _refuse_endless_gain(mdp: TabularMDP, doomed: np.ndarray) -> None:
    """Where no policy ends surely, -∞ is the optimum if what one can repeat for ever brings no reward above 0; else refuse."""
    if not doomed.any():
        return
    pairs = np.repeat(doomed, mdp.n_actions)
    end_components(mdp.row_ptr, mdp.next_state, mdp.prob, mdp.terminated, mdp.n_actions, pairs)
    gains = pairs & (mdp.expected_reward.ravel() > 0.0)
    if gains.any():
        raise ValueError(_unbounded(int(np.argmax(gains)) // mdp.n_actions))


def _doomed_by_chance(mdp: TabularMDP, epsilon: float) -> np.ndarray:
    """States from which a policy that tries every action goes on for ever at a loss with some chance, bool [S]."""
    uniform = np.full((mdp.n_states, mdp.n_actions), 1.0 / mdp.n_actions)
    v, closed, _ = chain_value(policy_chain(mdp, uniform, 1.0), False)
    gains = np.isnan(v) | (v == np.inf)
    if epsilon < 1.0:
        gains |= closed & (mdp.expected_reward > 0.0).any(axis=1)
    if gains.any():
        raise ValueError(_unbounded(int(np.argmax(gains))))
    return v == -np.inf
