"""The compiled side of ``chain.py``: v = r + W v over the strong components of a chain, sinks first.

Numbers only; nothing here knows of actions or episodes. A component is eliminated (``_eliminate``), swept (``_sweep``,
``_sweep_conservative``) or, where nothing leaves it and rewards are left, given its sign (``_mean_reward_sign``).
"""

from typing import NamedTuple

import numba
import numpy as np

from sb3_lecture.exact.bellman import row_value
from sb3_lecture.exact.graph import group_by_component, strong_components

#: what cancels to less than this share of the terms' sizes is 0: it decides whether staying for ever has a value
CANCELLED = 1e-12
#: a change below this share of the values is rounding: sweeps end there
ROUNDING = 4e-16
#: plain sweeps whose bound falls by less than this factor, after a few, give way to Gauss-Seidel
SLOW_MIXING, FEW_SWEEPS = 0.8, 4
#: rows whose weights leak the same share to within this are alike
SAME_LEAK = 1e-15


class Chain(NamedTuple):
    """A Markov chain with rewards.

    :param ptr: first entry of each state, int64 [S + 1]
    :param head: state an entry leads to, int32 [E]
    :param weight: γ times its probability, float64 [E], all > 0
    :param leak: 1 - Σ weight of each state: 1 - γ plus γ times the probability that the episode ends, float64 [S]
    :param reward: expected reward of the step from each state, float64 [S]
    """

    ptr: np.ndarray
    head: np.ndarray
    weight: np.ndarray
    leak: np.ndarray
    reward: np.ndarray


@numba.njit(cache=True)
def _block_edges(
    c: int, nodes: np.ndarray, chain: Chain, component: np.ndarray, place: np.ndarray, value: np.ndarray
) -> tuple[np.ndarray, np.ndarray, bool, int]:
    """What a component gets from outside: rewards plus values of its exits [n], what leaves it [n], closed?, bandwidth."""
    n = nodes.shape[0]
    gain, leave = np.empty(n), np.empty(n)
    closed, band = True, 0
    for i in range(n):
        s = nodes[i]
        gain[i], leave[i] = chain.reward[s], chain.leak[s]
        for j in range(chain.ptr[s], chain.ptr[s + 1]):
            t = chain.head[j]
            if component[t] == c:
                band = max(band, abs(i - place[t]))
            else:
                gain[i] += chain.weight[j] * value[t]
                leave[i] += chain.weight[j]
        if leave[i] > 0.0:
            closed = False
    return gain, leave, closed, band


@numba.njit(cache=True)
def _eliminate(
    c: int,
    nodes: np.ndarray,
    chain: Chain,
    component: np.ndarray,
    place: np.ndarray,
    band: int,
    gain: np.ndarray,
    leave: np.ndarray,
    value: np.ndarray,
) -> float:
    """State elimination inside a band; fills ``value`` unless the component is closed.

    :return: for a closed component, the reward of one excursion from its first state, which has the sign of the mean
        reward a step (0 if it is zero to rounding); else NaN
    """
    n = nodes.shape[0]
    w = np.zeros((n, 2 * band + 1))  # w[i, j - i + band]: weight from i to j
    for i in range(n):
        for j in range(chain.ptr[nodes[i]], chain.ptr[nodes[i] + 1]):
            if component[chain.head[j]] == c:
                w[i, place[chain.head[j]] - i + band] += chain.weight[j]
    out = np.zeros(n)  # the pivots: all that leaves a state once the later ones are eliminated
    size = np.abs(gain)
    for p in range(n - 1, 0, -1):
        low = max(0, p - band)
        total = leave[p]
        for j in range(low, p):
            total += w[p, j - p + band]
        out[p] = total
        for i in range(low, p):
            f = w[i, p - i + band] / total
            if f > 0.0:
                gain[i] += f * gain[p]
                size[i] += f * size[p]
                leave[i] += f * leave[p]
                for j in range(low, p):
                    w[i, j - i + band] += f * w[p, j - p + band]
    if leave[0] == 0.0:
        return gain[0] if abs(gain[0]) > CANCELLED * size[0] else 0.0
    value[nodes[0]] = gain[0] / leave[0]
    for p in range(1, n):
        total = gain[p]
        for j in range(max(0, p - band), p):
            total += w[p, j - p + band] * value[nodes[j]]
        value[nodes[p]] = total / out[p]
    return np.nan


@numba.njit(cache=True)
def _sweep_conservative(
    nodes: np.ndarray, chain: Chain, gain: np.ndarray, tol: float, max_sweeps: int, value: np.ndarray
) -> float:
    """Plain sweeps for a component without exits whose rows all sum to one γ < 1, moved to the middle of MacQueen's bounds.

    The exact values lie between v' + γ/(1-γ) min d and v' + γ/(1-γ) max d, with d = r + W v - v and v' = v + d (Puterman
    1994, eq. 6.6.11). Ends when that proves ``tol``, or when the chain mixes too slowly; returns the bound reached.
    """
    n = nodes.shape[0]
    new = np.empty(n)
    leak = chain.leak[nodes[0]]
    last = np.inf
    for sweep in range(max_sweeps):
        low, high, largest = np.inf, -np.inf, 0.0
        for i in range(n):
            s = nodes[i]
            first = chain.ptr[s]
            total = row_value(gain[i], first, chain.ptr[s + 1] - first, chain.head, chain.weight, value)
            low, high = min(low, total - value[s]), max(high, total - value[s])
            new[i] = total
        shift = 0.5 * (1.0 - leak) / leak * (low + high)
        for i in range(n):
            value[nodes[i]] = new[i] + shift
            largest = max(largest, abs(value[nodes[i]]))
        bound = 0.5 * (1.0 - leak) / leak * (high - low)
        if bound <= tol or high - low <= ROUNDING * largest or (sweep > FEW_SWEEPS and bound > SLOW_MIXING * last):
            return bound
        last = bound
    return last


@numba.njit(cache=True)
def _sweep(  # noqa: C901  (one compiled loop)
    c: int,
    nodes: np.ndarray,
    chain: Chain,
    component: np.ndarray,
    gain: np.ndarray,
    leave: np.ndarray,
    discounted: bool,
    tol: float,
    max_sweeps: int,
    value: np.ndarray,
) -> float:
    """Gauss-Seidel forward and backward, then a look at the residual; returns the error bound reached."""
    n = nodes.shape[0]
    steps = np.zeros(value.shape[0] if not discounted else 0)  # w of the bound; grows towards the expected steps to leave
    factor = np.inf
    if discounted:
        factor = 1.0 / leave.min()
        if leave.max() - leave.min() <= SAME_LEAK and np.all(leave == chain.leak[nodes]):
            reached = _sweep_conservative(nodes, chain, gain, tol, max_sweeps, value)
            if reached <= tol:
                return reached
    bound = np.inf
    for _ in range(max_sweeps):
        for k in range(2 * n):
            i = k if k < n else 2 * n - 1 - k
            s = nodes[i]
            v, w, out = gain[i], 1.0, leave[i]
            for j in range(chain.ptr[s], chain.ptr[s + 1]):
                t = chain.head[j]
                if t != s and component[t] == c:
                    v += chain.weight[j] * value[t]
                    out += chain.weight[j]
                    if not discounted:
                        w += chain.weight[j] * steps[t]
            value[s] = v / out
            if not discounted:
                steps[s] = w / out
        low, high, slack, longest, largest = np.inf, -np.inf, np.inf, 0.0, 0.0
        for i in range(n):
            s = nodes[i]
            out = leave[i]
            v, w = gain[i], 0.0
            for j in range(chain.ptr[s], chain.ptr[s + 1]):
                t = chain.head[j]
                if t != s and component[t] == c:
                    out += chain.weight[j]
                    v += chain.weight[j] * value[t]
                    if not discounted:
                        w += chain.weight[j] * steps[t]
            residual = v - out * value[s]
            low, high = min(low, residual), max(high, residual)
            largest = max(largest, abs(value[s]))
            if not discounted:
                slack, longest = min(slack, out * steps[s] - w), max(longest, steps[s])
        if not discounted:
            factor = longest / slack if slack > 0.0 else np.inf
        off = max(abs(low), abs(high))
        bound = factor * off if off > 0.0 else 0.0  # not ∞ · 0
        if bound <= tol or off <= ROUNDING * largest:
            break
    return bound


@numba.njit(cache=True)
def _mean_reward_sign(nodes: np.ndarray, chain: Chain, gain: np.ndarray, max_sweeps: int, value: np.ndarray) -> float:
    """Sign of the mean reward of a large closed component: relative value sweeps with MacQueen's bounds (Puterman 8.5)."""
    n = nodes.shape[0]
    h, new = np.zeros(value.shape[0]), np.zeros(n)
    for _ in range(max_sweeps):
        low, high = np.inf, -np.inf
        for i in range(n):
            s = nodes[i]
            first = chain.ptr[s]
            total = row_value(gain[i], first, chain.ptr[s + 1] - first, chain.head, chain.weight, h)
            low, high = min(low, total - h[s]), max(high, total - h[s])
            new[i] = 0.5 * (h[s] + total)  # half a step: no period can keep it from converging
        if low > 0.0 or high < 0.0:
            return low + high
        if high - low <= CANCELLED * np.abs(gain).max():
            return 0.0
        for i in range(n):
            h[nodes[i]] = new[i] - new[0]
    return 0.0


@numba.njit(cache=True)
def solve_components(
    chain: Chain, discounted: bool, tol: float, work: float, memory: float, max_sweeps: int, value: np.ndarray
) -> tuple[np.ndarray, np.ndarray, float]:
    """All components, sinks first.

    :param value: the sweeps' starting point, [S]; filled
    :return: values, closed states (in components that are never left), a proven bound of the sweeps' error
    """
    n = value.shape[0]
    component, n_components = strong_components(chain.ptr, chain.head, np.ones(chain.head.shape[0], np.bool_))
    nodes_of, first = group_by_component(component, n_components)
    place = np.empty(n, np.int32)
    for c in range(n_components):
        for i in range(first[c], first[c + 1]):
            place[nodes_of[i]] = i - first[c]
    closed_states = np.zeros(n, np.bool_)
    bound = 0.0
    for c in range(n_components):
        nodes = nodes_of[first[c] : first[c + 1]]
        gain, leave, closed, band = _block_edges(c, nodes, chain, component, place, value)
        size = nodes.shape[0]
        small = size * (float(band) ** 2 + 1) <= work and size * (2.0 * band + 1) <= memory
        if closed:
            sign = 0.0
            if gain.min() < 0.0 and gain.max() > 0.0:
                if small:
                    sign = _eliminate(c, nodes, chain, component, place, band, gain, leave, value)
                else:
                    sign = _mean_reward_sign(nodes, chain, gain, max_sweeps, value)
            elif gain.min() < 0.0 or gain.max() > 0.0:
                sign = gain.min() + gain.max()
            rewarded = np.any(gain != 0.0)
            for s in nodes:
                closed_states[s] = True
                value[s] = 0.0 if not rewarded else np.nan if sign == 0.0 else np.inf if sign > 0.0 else -np.inf
        elif not np.all(np.isfinite(gain)):
            total = gain.sum()  # from every state here each exit is reached with a positive probability
            for s in nodes:
                value[s] = total
        elif small:
            _eliminate(c, nodes, chain, component, place, band, gain, leave, value)
        else:
            for s in nodes:
                value[s] = value[s] if np.isfinite(value[s]) else 0.0
            bound += _sweep(c, nodes, chain, component, gain, leave, discounted, tol, max_sweeps, value)
    return value, closed_states, bound
