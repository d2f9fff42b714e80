"""The compiled side of ``sweeps.py``: one sweep each, over flat arrays.

``fan`` is a tuple as long as every row of the MDP, or () if rows differ; ``actions`` a tuple of A numbers, or (): the lengths
of tuples are constants to the compiler, which unrolls the loops over them.
"""

import numba
import numpy as np

from sb3_lecture.exact.bellman import backup, row_value

#: relaxations that keep infinities and NaN what they are
_FASTMATH = {"reassoc", "contract", "nsz"}


@numba.njit(cache=True, fastmath=_FASTMATH)
def greedy_sweep(
    fan: tuple[int, ...],
    actions: tuple[int, ...],
    row_ptr: np.ndarray,
    next_state: np.ndarray,
    prob: np.ndarray,
    terminated: np.ndarray,
    ends: bool,
    reward: np.ndarray,
    gamma: float,
    order: np.ndarray,
    v: np.ndarray,
    zero: bool,
    moved: float,
    new_v: np.ndarray,
    policy: np.ndarray,
    lead: np.ndarray,
    ptr: np.ndarray,
    head: np.ndarray,
    weight: np.ndarray,
    gain: np.ndarray,
) -> tuple[float, float]:
    """``new_v`` = T v with its greedy policy, copied to the chain; row i of the chain is that of state ``order[i]``.

    :param ends: whether some outcome ends the episode
    :param new_v: T v; ``v`` itself to sweep in place
    :param zero: whether v is constantly 0, so that q = r
    :param moved: γ span(v - the v of the last greedy sweep)
    :param lead: lead of the best action over the next one, [S]
    :return: min and max of the change
    """
    k = len(fan)
    n_actions = len(actions) if len(actions) else reward.shape[1]
    low, high = np.inf, -np.inf
    for i in range(order.shape[0]):
        s = order[i]
        o = i * k if k else ptr[i]
        if lead[s] > moved:
            lead[s] -= moved
            best = row_value(gain[i], o, k if k else ptr[i + 1] - o, head, weight, v)
        else:
            best, second, chosen = -np.inf, -np.inf, 0
            for a in range(n_actions):
                q = reward[s, a]
                if not zero:
                    row = s * n_actions + a
                    e = row * k if k else row_ptr[row]
                    n = k if k else row_ptr[row + 1] - e
                    q = backup(q, gamma, e, n, next_state, prob, terminated, not ends, v)
                if q > best:
                    best, second, chosen = q, best, a
                elif q > second:
                    second = q
            row = s * n_actions + chosen
            e = row * k if k else row_ptr[row]
            n = k if k else row_ptr[row + 1] - e
            for j in range(n):
                head[o + j] = next_state[e + j]
                weight[o + j] = 0.0 if ends and terminated[e + j] else gamma * prob[e + j]
            if not k:
                for j in range(o + n, ptr[i + 1]):
                    head[j], weight[j] = s, 0.0
            gain[i] = reward[s, chosen]
            policy[s], lead[s] = chosen, best - second
        d = best - v[s]
        if d < low:
            low = d
        if d > high:
            high = d
        new_v[s] = best
    return low, high


@numba.njit(cache=True, fastmath=_FASTMATH)
def plain_sweep(
    fan: tuple[int, ...],
    order: np.ndarray,
    ptr: np.ndarray,
    head: np.ndarray,
    weight: np.ndarray,
    gain: np.ndarray,
    v: np.ndarray,
    new_v: np.ndarray,
) -> tuple[float, float]:
    """``new_v`` = r_π + γ P_π v; returns min and max of the change."""
    k = len(fan)
    low, high = np.inf, -np.inf
    for i in range(order.shape[0]):
        s = order[i]
        o = i * k if k else ptr[i]
        x = row_value(gain[i], o, k if k else ptr[i + 1] - o, head, weight, v)
        d = x - v[s]
        if d < low:
            low = d
        if d > high:
            high = d
        new_v[s] = x
    return low, high


@numba.njit(cache=True, fastmath=_FASTMATH)
def in_place_sweep(
    fan: tuple[int, ...],
    order: np.ndarray,
    ptr: np.ndarray,
    head: np.ndarray,
    weight: np.ndarray,
    gain: np.ndarray,
    v: np.ndarray,
    backward: bool,
) -> float:
    """One Gauss-Seidel sweep of policy evaluation; returns the largest change."""
    k, n = len(fan), order.shape[0]
    largest = 0.0
    for step in range(n):
        i = n - 1 - step if backward else step
        s = order[i]
        o = i * k if k else ptr[i]
        x = row_value(gain[i], o, k if k else ptr[i + 1] - o, head, weight, v)
        d = abs(x - v[s])
        if d > largest:
            largest = d
        v[s] = x
    return largest


@numba.njit(cache=True)
def span(new: np.ndarray, old: np.ndarray, low: float, high: float) -> float:
    """Largest minus smallest of ``new - old`` and of the bounds given."""
    for i in range(new.shape[0]):
        d = new[i] - old[i]
        if d < low:
            low = d
        if d > high:
            high = d
    return high - low
