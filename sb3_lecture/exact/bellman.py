"""Bellman's backup, once: what all sweeps of the solvers and of the planning methods call.

``backup`` is r(s, a) + γ Σ p(s' | s, a) v(s') (Sutton & Barto 2018, the sum of eq. 4.5 and 4.10), over the outcomes that do
not end the episode: after the end there is nothing, so their v(s') is not looked at. It is inlined where it is called, so that
a compiled sweep pays for no call and keeps its own rules of arithmetic.
"""

import numba
import numpy as np

from sb3_lecture_envs.mdp import TabularMDP


@numba.njit(cache=True, inline="always")
def backup(
    reward: float,
    gamma: float,
    first: int,
    n: int,
    next_state: np.ndarray,
    prob: np.ndarray,
    terminated: np.ndarray,
    plain: bool,
    v: np.ndarray,
) -> float:
    """r(s, a) + γ Σ p(s' | s, a) v(s') of one pair.

    :param reward: r(s, a), the expected reward
    :param first: the pair's first outcome
    :param n: how many outcomes it has
    :param plain: whether no outcome ends an episode and every v is finite, so that none has to be left out
    :param v: state values, [S]; may be infinite if not ``plain``: an outcome of probability 0 counts for nothing
    """
    total = 0.0
    for j in range(n):
        p = prob[first + j]
        if plain or not (terminated[first + j] or p == 0.0):
            total += p * v[np.uint32(next_state[first + j])]  # unsigned: no look for indices from the end
    return reward + gamma * total


@numba.njit(cache=True, inline="always")
def row_value(gain: float, first: int, n: int, head: np.ndarray, weight: np.ndarray, v: np.ndarray) -> float:
    """r(s) + Σ w(s, s') v(s'): the backup of a chain, where γ and the ends are already in the weights.

    :param gain: r(s)
    :param first: the state's first entry
    :param n: how many entries it has
    """
    total = gain
    for j in range(n):
        total += weight[first + j] * v[np.uint32(head[first + j])]
    return total


@numba.njit(cache=True)
def _action_values(
    row_ptr: np.ndarray,
    next_state: np.ndarray,
    prob: np.ndarray,
    terminated: np.ndarray,
    reward: np.ndarray,
    gamma: float,
    v: np.ndarray,
    q: np.ndarray,
) -> None:
    n_states, n_actions = q.shape
    for s in range(n_states):
        for a in range(n_actions):
            e = row_ptr[s * n_actions + a]
            n = row_ptr[s * n_actions + a + 1] - e
            q[s, a] = backup(reward[s, a], gamma, e, n, next_state, prob, terminated, False, v)


def q_from_v(mdp: TabularMDP, v: np.ndarray, gamma: float) -> np.ndarray:
    """q(s, a) = r(s, a) + γ Σ p(s' | s, a) v(s') (Sutton & Barto, eq. 4.6).

    :param mdp: the world
    :param v: state values, [S]
    :param gamma: discount in [0, 1]
    :return: action values, float64 [S, A]
    :raises ValueError: if gamma is outside [0, 1], or v has another shape
    """
    check_gamma(gamma)
    v = np.ascontiguousarray(v, np.float64)
    if v.shape != (mdp.n_states,):
        raise ValueError(f"v must have shape ({mdp.n_states},), one value a state, got {v.shape}")
    q = mdp.expected_reward.copy()
    if gamma > 0.0:  # 0 · ∞ is nothing here
        _action_values(mdp.row_ptr, mdp.next_state, mdp.prob, mdp.terminated, mdp.expected_reward, float(gamma), v, q)
    return q


def check_gamma(gamma: float) -> None:
    """Refuse a discount outside [0, 1].

    :raises ValueError: naming the value
    """
    if not 0.0 <= gamma <= 1.0:
        raise ValueError(f"gamma must be in [0, 1], got {gamma}")
