"""Exact values and optima of a finite MDP: the answers learners are held against.

Policy evaluation solves v = r_π + γ P_π v (Sutton & Barto 2018, eq. 4.4) as a Markov chain (``chain.py``). Optima
solve v = max_a [r(s, a) + γ Σ p(s' | s, a) v(s')] (eq. 4.1): discounted ones by value iteration (section 4.4) or modified
policy iteration (``sweeps.py``), undiscounted and ε-soft ones by policy iteration (section 4.3). The value after the
episode's end is 0; time limits are no part of an MDP.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numba
import numpy as np
import numpy.typing as npt

from sb3_lecture.exact.chain import Chain, chain_value
from sb3_lecture.exact.graph import end_components, surely_ending
from sb3_lecture.exact.sweeps import solve_discounted
from sb3_lecture_envs.mdp import TabularMDP


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


# ---- evaluation


@numba.njit(cache=True)
def _policy_chain(
    row_ptr: np.ndarray,
    next_state: np.ndarray,
    prob: np.ndarray,
    reward: np.ndarray,
    terminated: np.ndarray,
    pi: np.ndarray,
    gamma: float,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The chain that policy ``pi`` [S, A] makes of an MDP; a state with no action at all rests there at value 0."""
    n_states, n_actions = pi.shape
    ptr = np.zeros(n_states + 1, np.int64)
    for s in range(n_states):
        ptr[s + 1] = ptr[s]
        for a in range(n_actions):
            if pi[s, a] > 0.0:
                ptr[s + 1] += row_ptr[s * n_actions + a + 1] - row_ptr[s * n_actions + a]
    head, weight = np.empty(ptr[-1], np.int32), np.empty(ptr[-1])
    leak, gain = np.full(n_states, 1.0 - gamma), np.zeros(n_states)
    end = 0
    for s in range(n_states):
        start, size = end, 0.0
        resting = True
        for a in range(n_actions):
            if not pi[s, a] > 0.0:
                continue
            resting = False
            for j in range(row_ptr[s * n_actions + a], row_ptr[s * n_actions + a + 1]):
                p = pi[s, a] * prob[j]
                gain[s] += p * reward[j]
                size += abs(p * reward[j])
                if terminated[j]:
                    leak[s] += gamma * p
                elif gamma * p > 0.0:
                    i = start if end - start <= 32 else end  # several ways to one state become one entry
                    while i < end and head[i] != next_state[j]:
                        i += 1
                    if i == end:
                        head[end], weight[end] = next_state[j], 0.0
                        end += 1
                    weight[i] += gamma * p
        if abs(gain[s]) <= 1e-14 * size:  # what cancels to rounding is 0: it decides whether staying for ever has a value
            gain[s] = 0.0
        if resting:
            leak[s] = 1.0
        ptr[s] = start
    ptr[n_states] = end
    return ptr, head[:end].copy(), weight[:end].copy(), leak, gain


def _chain(mdp: TabularMDP, pi: np.ndarray, gamma: float) -> Chain:
    return Chain(*_policy_chain(mdp.row_ptr, mdp.next_state, mdp.prob, mdp.reward, mdp.terminated, pi, gamma))


def _one_hot(policy: np.ndarray, n_actions: int) -> np.ndarray:
    """Probabilities [S, A] of a deterministic policy; negative actions (rest) become rows of zeros."""
    pi = np.zeros((policy.shape[0], n_actions))
    acting = np.flatnonzero(policy >= 0)
    pi[acting, policy[acting]] = 1.0
    return pi


def _policy_probabilities(mdp: TabularMDP, policy: npt.ArrayLike) -> np.ndarray:
    policy = np.asarray(policy)
    if policy.shape == (mdp.n_states,) and np.issubdtype(policy.dtype, np.integer):
        wrong = np.flatnonzero((policy < 0) | (policy >= mdp.n_actions))
        if wrong.size:
            s = wrong[0]
            raise ValueError(f"policy[{s}] is {policy[s]}, actions are 0 to {mdp.n_actions - 1}")
        return _one_hot(policy, mdp.n_actions)
    if policy.shape != (mdp.n_states, mdp.n_actions):
        raise ValueError(
            f"policy must be integers of shape ({mdp.n_states},) or probabilities of shape ({mdp.n_states}, {mdp.n_actions}), "
            f"got {policy.dtype} of shape {policy.shape}"
        )
    pi = np.array(policy, dtype=np.float64, order="C")
    total = pi.sum(axis=1)
    wrong = np.flatnonzero(~((pi.min(axis=1) >= 0) & (np.abs(total - 1) <= 1e-4)))
    if wrong.size:
        s = wrong[0]
        raise ValueError(f"policy[{s}] is {pi[s].tolist()} with sum {total[s]}; it must be at least 0 and sum to 1")
    pi /= total[:, None]  # networks give float32 sums: take the rounding out
    return pi


def _check_gamma(gamma: float) -> None:
    if not 0.0 <= gamma <= 1.0:
        raise ValueError(f"gamma must be in [0, 1], got {gamma}")


def policy_evaluation(mdp: TabularMDP, policy: npt.ArrayLike, gamma: float, tol: float = 1e-10) -> np.ndarray:
    """v_π, the expected return of a policy from every state (Sutton & Barto, eq. 4.4), solved exactly.

    With γ = 1 a state from which the episode need not end gets the sum of its rewards all the same: 0 if the never-ending
    part gives none, -∞ or +∞ by the sign of its mean reward a step, NaN if that mean is zero (the sum only swings).

    :param mdp: the world
    :param policy: actions, int [S], or probabilities, float [S, A]
    :param gamma: discount in [0, 1]
    :param tol: error allowed for chains too large for elimination (default 1e-10)
    :return: values, float64 [S]
    :raises ValueError: if the policy or gamma is malformed
    """
    _check_gamma(gamma)
    return chain_value(_chain(mdp, _policy_probabilities(mdp, policy), gamma), gamma < 1.0, tol)[0]


def start_value(mdp: TabularMDP, v: np.ndarray) -> float:
    """Expected value of the start, Σ p(s₀) v(s₀).

    :param mdp: the world
    :param v: values, [S]
    """
    possible = mdp.start_prob > 0
    return float(mdp.start_prob[possible] @ v[mdp.start_state[possible]])


@numba.njit(cache=True)
def _action_values(
    row_ptr: np.ndarray,
    next_state: np.ndarray,
    prob: np.ndarray,
    terminated: np.ndarray,
    gamma: float,
    v: np.ndarray,
    q: np.ndarray,
) -> None:
    n_states, n_actions = q.shape
    for s in range(n_states):
        for a in range(n_actions):
            for j in range(row_ptr[s * n_actions + a], row_ptr[s * n_actions + a + 1]):
                if not terminated[j] and gamma * prob[j] > 0.0:
                    q[s, a] += gamma * prob[j] * v[next_state[j]]


def q_from_v(mdp: TabularMDP, v: np.ndarray, gamma: float) -> np.ndarray:
    """q(s, a) = r(s, a) + γ Σ p(s' | s, a) v(s') (Sutton & Barto, eq. 4.6).

    :param mdp: the world
    :param v: state values, [S]
    :param gamma: discount in [0, 1]
    :return: action values, float64 [S, A]
    """
    _check_gamma(gamma)
    q = mdp.expected_reward.copy()
    _action_values(mdp.row_ptr, mdp.next_state, mdp.prob, mdp.terminated, gamma, np.asarray(v, np.float64), q)
    return q


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
    _check_gamma(gamma)
    if not tol > 0.0:
        raise ValueError(f"tol must be > 0, got {tol}; the default is 1e-6")
    if gamma == 1.0:
        return _policy_iteration(mdp, gamma, epsilon=0.0)
    return Solution(*solve_discounted(mdp, gamma, tol, max_sweeps), mdp, gamma)


def epsilon_soft_optimum(mdp: TabularMDP, epsilon: float, gamma: float) -> Solution:
    """The best policy that takes a uniformly random action with probability ε (Sutton & Barto, section 5.4).

    v(s) = (1 - ε) max_a q(s, a) + ε/A Σ_a q(s, a): what Sarsa with a constant ε can reach at best.

    :param mdp: the world
    :param epsilon: probability of a random action, in [0, 1]; 0 gives the optimum, 1 the uniform policy's value
    :param gamma: discount in [0, 1]
    :return: ``v`` and ``q`` of the soft policy itself (online value); ``policy`` is its greedy part
    :raises ValueError: if epsilon or gamma is outside [0, 1], or γ = 1 and the optimum is unbounded or undefined
    """
    _check_gamma(gamma)
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
            q = reward[s, a]
            for j in range(row_ptr[s * n_actions + a], row_ptr[s * n_actions + a + 1]):
                if not terminated[j] and gamma * prob[j] > 0.0:
                    q += gamma * prob[j] * v[next_state[j]]
            mean += q / n_actions
            if q > best:
                best, chosen = q, a
        backup = best
        if epsilon > 0.0:
            backup = mean if epsilon == 1.0 else (1.0 - epsilon) * best + epsilon * mean
        if can_rest[s] and backup < 0.0:
            backup, chosen = 0.0, -1
        if backup > v[s] + threshold:
            v[s], policy[s] = backup, chosen
            rises += 1
    return rises


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
    resting, can_rest = np.zeros((n, n_actions), np.bool_), np.zeros(n, np.bool_)
    doomed: np.ndarray = np.zeros(n, np.bool_)
    if epsilon > 0.0:
        policy, order = np.zeros(n, np.int32), np.arange(n, dtype=np.int32)
        if gamma == 1.0:
            doomed = _doomed_by_chance(mdp)
    else:
        if gamma == 1.0:  # where one can stay for ever for nothing
            pairs = np.ascontiguousarray((reward == 0.0).ravel())
            end_components(*law, n_actions, pairs)
            resting = pairs.reshape(n, n_actions)
            can_rest = np.asarray(resting.any(axis=1))
        policy, order = surely_ending(*law, n_actions, np.zeros(n, np.bool_))
        if can_rest.any() and (policy == -2).any():
            policy, order = surely_ending(*law, n_actions, can_rest)
        if gamma == 1.0:
            doomed = policy == -2
            _refuse_endless_gain(mdp, doomed)
        policy[policy == -2] = 0
    v_old, policy_old, iterations = np.full(n, -np.inf), policy, 0
    while True:
        iterations += 1
        chain = _chain(mdp, _soft(policy, n_actions, epsilon), gamma)
        start = v_old if iterations > 1 else None
        v, _, bound = chain_value(chain, gamma < 1.0, tol=1e-11, start=start)
        v[doomed] = -np.inf
        if np.any(v == np.inf):
            raise ValueError(_unbounded(int(np.argmax(v))))
        scale = float(np.abs(v[~doomed]).max(initial=1.0))
        threshold = max(1e-12 * scale, 4.0 * bound)
        if not np.all(v >= v_old - threshold):
            policy = policy_old  # what looked like a rise was rounding
            break
        v_old, policy_old = v.copy(), policy.copy()
        rises = 0
        for sweep in range(64):
            now = _improve(*law, reward, gamma, epsilon, can_rest, order, sweep % 2 == 1, threshold, v, policy)
            rises += now
            if now == 0:
                break
        if rises == 0:
            break
    v = v_old
    error = bound + _optimality_gap(mdp, gamma, epsilon, v, policy, can_rest, doomed)
    stay = np.flatnonzero(policy == -1)
    policy[stay] = resting[stay].argmax(axis=1)
    return Solution(v, policy, iterations, error, mdp, gamma)


def _soft(policy: np.ndarray, n_actions: int, epsilon: float) -> np.ndarray:
    """Probabilities [S, A] of a deterministic policy with a share ε of uniformly random actions."""
    pi = _one_hot(policy, n_actions)
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
    backup = q.max(axis=1)
    if epsilon > 0.0:
        backup = (1.0 - epsilon) * backup + epsilon * q.mean(axis=1)
    backup = np.where(can_rest[~doomed], np.maximum(backup, 0.0), backup)
    rest = float(np.abs(backup - v[~doomed]).max(initial=0.0))
    if gamma < 1.0:
        return rest / (1.0 - gamma)
    steps, _, _ = chain_value(_chain(mdp, soft, gamma)._replace(reward=(soft.sum(axis=1) > 0.0).astype(np.float64)), False)
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


def _doomed_by_chance(mdp: TabularMDP) -> np.ndarray:
    """States from which a policy that tries every action goes on for ever at a loss with some chance, bool [S]."""
    uniform = np.full((mdp.n_states, mdp.n_actions), 1.0 / mdp.n_actions)
    v, endless, _ = chain_value(_chain(mdp, uniform, 1.0), False)
    gains = np.isnan(v) | (v == np.inf) | (endless & (mdp.expected_reward > 0.0).any(axis=1))
    if gains.any():
        raise ValueError(_unbounded(int(np.argmax(gains))))
    return v == -np.inf
