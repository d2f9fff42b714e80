"""The compiled loops over the envs of one step; the rules they call stand in ``common/linear_updates.py``.

All arrays of transitions are [n_envs, …], taken in the envs' order, each env learning from what the ones before it left.
``index``, ``value`` [n, k] are the features of the state left, ``index2``, ``value2`` those of the state reached (before any
reset). Every loop returns the first env whose TD error is not finite, or −1.
"""

from typing import Any

import numpy as np
from numba import njit

from sb3_lecture.common.linear_updates import (
    TRUE_ONLINE,
    dot,
    gradient_td,
    least_squares,
    max_value,
    semi_gradient,
    trace_step,
)

_njit: Any = njit  # numba's type stubs do not know ``_nrt``
compiled = _njit(cache=True, _nrt=False, error_model="numpy")


@compiled
def choose(w: np.ndarray, index: np.ndarray, value: np.ndarray, epsilon: float, u: np.ndarray, action: np.ndarray) -> None:
    """Write an ε-greedy action of each env, ties at random.

    :param u: uniform numbers [n, 2]: ε's coin (which draws the random action too), the tie's
    :param action: int64 [n]
    """
    n_actions = w.shape[0]
    for i in range(action.shape[0]):
        if u[i, 0] < epsilon:
            action[i] = min(int(u[i, 0] / epsilon * n_actions), n_actions - 1)
            continue
        best, ties = -np.inf, 0
        for a in range(n_actions):
            q = dot(w, a, index[i], value[i])
            if q > best:
                best, ties, action[i] = q, 0, a
            ties += q == best
        if ties > 1:
            k = min(int(u[i, 1] * ties), ties - 1)  # the k-th of the tied
            for a in range(action[i], n_actions):
                if dot(w, a, index[i], value[i]) == best:
                    if k == 0:
                        action[i] = a
                        break
                    k -= 1


@compiled
def one_step(
    w: np.ndarray, index: np.ndarray, value: np.ndarray, action: np.ndarray, reward: np.ndarray, discount: np.ndarray,
    index2: np.ndarray, value2: np.ndarray, action2: np.ndarray, greedy: bool, alpha: float, rho: np.ndarray,
) -> int:  # fmt: skip
    """One step w ← w + α ρ [r + γ w_{a'}ᵀx' − w_aᵀx] x; ``greedy``: max_{a'} (Q-learning) instead of a' (Sarsa)."""
    for i in range(reward.shape[0]):
        if greedy:
            v2 = max_value(w, index2[i], value2[i])
        else:
            v2 = dot(w, action2[i], index2[i], value2[i])
        delta = semi_gradient(w, action[i], index[i], value[i], reward[i] + discount[i] * v2, alpha, rho[i])
        if not np.isfinite(delta):
            return i
    return -1


@compiled
def n_steps(
    w: np.ndarray, index: np.ndarray, value: np.ndarray, action: np.ndarray, reward: np.ndarray, discount: np.ndarray,
    index2: np.ndarray, value2: np.ndarray, action2: np.ndarray, done: np.ndarray, alpha: float, rho: np.ndarray, gamma: float,
    kept_index: np.ndarray, kept_value: np.ndarray, kept_action: np.ndarray, kept_reward: np.ndarray, kept_rho: np.ndarray,
    first: np.ndarray, waiting: np.ndarray,
) -> int:  # fmt: skip
    """Do w ← w + α (ρ₁ … ρₙ) [r₁ + … + γⁿ⁻¹ rₙ + γⁿ wᵀx' − wᵀx₀] x₀ (eq. 7.9, 9.15, 10.3).


    At an episode's end all that wait are learned from. ``kept_*``: rings [n_envs, n_steps, …] of the transitions that wait, as
    many as ``waiting`` says, the oldest at ``first``.
    """
    n = kept_reward.shape[1]
    for i in range(reward.shape[0]):
        j = (first[i] + waiting[i]) % n
        for k in range(index.shape[1]):
            kept_index[i, j, k], kept_value[i, j, k] = index[i, k], value[i, k]
        kept_action[i, j], kept_reward[i, j], kept_rho[i, j] = action[i], reward[i], rho[i]
        waiting[i] += 1
        while waiting[i] == n or (done[i] and waiting[i] > 0):
            g, ratio = dot(w, action2[i], index2[i], value2[i]) * discount[i], 1.0
            for k in range(waiting[i] - 1, -1, -1):
                j = (first[i] + k) % n
                g = kept_reward[i, j] + (g if k == waiting[i] - 1 else gamma * g)  # ``discount`` is the last γ, or 0
                ratio *= kept_rho[i, j]
            j = first[i]
            delta = semi_gradient(w, kept_action[i, j], kept_index[i, j], kept_value[i, j], g, alpha, ratio)
            if not np.isfinite(delta):
                return i
            first[i], waiting[i] = (first[i] + 1) % n, waiting[i] - 1
    return -1


@compiled
def traces(
    w: np.ndarray, index: np.ndarray, value: np.ndarray, action: np.ndarray, reward: np.ndarray, discount: np.ndarray,
    index2: np.ndarray, value2: np.ndarray, action2: np.ndarray, done: np.ndarray, alpha: float, rho: np.ndarray,
    fading: float, kind: int, z: np.ndarray, moved: np.ndarray,
) -> int:  # fmt: skip
    """TD(λ) or Sarsa(λ); a trace z [n_envs, m, d] an env.

    ``moved``: how far the env's *own* last update moved the value of the state it now stands in. With one env that is the
    book's V − V_old; with several, what the others changed in between is no part of it.
    """
    for i in range(reward.shape[0]):
        v2 = dot(w, action2[i], index2[i], value2[i])
        delta = trace_step(
            w, z[i], moved[i], action[i], index[i], value[i], reward[i], discount[i], v2, alpha, rho[i], fading, kind
        )
        if not np.isfinite(delta):
            return i
        if done[i]:
            z[i], moved[i] = 0.0, 0.0
        elif kind == TRUE_ONLINE:
            moved[i] = dot(w, action2[i], index2[i], value2[i]) - v2
    return -1


@compiled
def gradient(
    w: np.ndarray, v: np.ndarray, index: np.ndarray, value: np.ndarray, reward: np.ndarray, discount: np.ndarray,
    index2: np.ndarray, value2: np.ndarray, alpha: float, beta: float, rho: np.ndarray, corrected: bool,
) -> int:  # fmt: skip
    """GTD2 or TDC; secondary weights v [1, d]."""
    for i in range(reward.shape[0]):
        delta = gradient_td(
            w, v, index[i], value[i], index2[i], value2[i], reward[i], discount[i], alpha, beta, rho[i], corrected
        )
        if not np.isfinite(delta):
            return i
    return -1


@compiled
def solve(
    w: np.ndarray, inverse: np.ndarray, b: np.ndarray, index: np.ndarray, value: np.ndarray, reward: np.ndarray,
    discount: np.ndarray, index2: np.ndarray, value2: np.ndarray, done: np.ndarray, rho: np.ndarray, fading: float,
    z: np.ndarray, left: np.ndarray, right: np.ndarray,
) -> int:  # fmt: skip
    """LSTD(λ): z ← ρ (γλ z + x), then A⁻¹ and b of each env's transition, and once w = A⁻¹ b; traces z [n_envs, d]."""
    d = b.shape[0]
    for i in range(reward.shape[0]):
        for j in range(d):
            z[i, j] *= fading
        for k in range(index.shape[1]):
            z[i, index[i, k]] += value[i, k]
        for j in range(d):
            z[i, j] *= rho[i]
        least_squares(inverse, b, z[i], index[i], value[i], index2[i], value2[i], reward[i], discount[i], left, right)
        if done[i]:
            z[i] = 0.0
    finite = True
    for i in range(d):
        w[0, i] = 0.0
        for j in range(d):
            w[0, i] += inverse[i, j] * b[j]
        finite = finite and np.isfinite(w[0, i])
    return -1 if finite else 0
