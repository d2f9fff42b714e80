"""Returns of sampled trajectories, as pure functions of arrays.

Every function is time-major, ``[T, n_envs]``, and looks at one column at a time. A *discount* stands where ``done`` would: γ
inside an episode, 0 on the step that ends it (or that a bootstrap has already closed), so that episodes which follow one
another in a column need no branch.

Sutton, R. S. and Barto, A. G. (2018), Reinforcement Learning: An Introduction, 2nd edition, http://incompleteideas.net/book.
"""

from typing import Any

import numpy as np
from numba import njit

__all__ = ["discounted_returns", "leave_one_out_means", "powers_of_discount", "returns_at_start"]

Array = np.ndarray[Any, Any]


@njit(cache=True)
def discounted_returns(rewards: Array, discounts: Array, last_values: Array) -> Array:
    """Return of each step, ``G_t = r_{t+1} + γ_{t+1} G_{t+1}`` (Sutton & Barto eq. 3.9), computed backwards.

    With ``T`` steps and ``last_values = V(s_T)`` the rows are the n-step returns of eq. (7.1), ``n = T - t``.

    :param rewards: reward that follows step t [T, n_envs]
    :param discounts: γ while the episode goes on, 0 on its last step [T, n_envs]
    :param last_values: value of the state behind the last row, 0 where nothing follows [n_envs]
    :return: the returns, float64 [T, n_envs]
    """
    n_steps, n_envs = rewards.shape
    returns = np.empty((n_steps, n_envs), np.float64)
    for i in range(n_envs):
        g = float(last_values[i])
        for t in range(n_steps - 1, -1, -1):
            g = rewards[t, i] + discounts[t, i] * g  # eq. (3.9)
            returns[t, i] = g
    return returns


@njit(cache=True)
def returns_at_start(returns: Array, starts: Array) -> Array:
    """Write the return of an episode's first step, ``G_0``, on each of its steps.

    :param returns: ``G_t`` [T, n_envs]
    :param starts: True on the first step of an episode [T, n_envs]; a column's first row counts as a start
    :return: ``G_0`` of the episode that each step belongs to, float64 [T, n_envs]
    """
    n_steps, n_envs = returns.shape
    totals = np.empty((n_steps, n_envs), np.float64)
    for i in range(n_envs):
        g_0 = 0.0
        for t in range(n_steps):
            if t == 0 or starts[t, i]:
                g_0 = returns[t, i]
            totals[t, i] = g_0
    return totals


@njit(cache=True)
def powers_of_discount(starts: Array, gamma: float) -> Array:
    """``γ^t`` with t counted from the start of each episode: the factor of Sutton & Barto's REINFORCE (eq. 13.8 with γ < 1).

    :param starts: True on the first step of an episode [T, n_envs]; a column's first row counts as a start
    :param gamma: discount factor γ
    :return: γ^t, float64 [T, n_envs]
    """
    n_steps, n_envs = starts.shape
    powers = np.empty((n_steps, n_envs), np.float64)
    for i in range(n_envs):
        power = 1.0
        for t in range(n_steps):
            power = 1.0 if t == 0 or starts[t, i] else power * gamma
            powers[t, i] = power
    return powers


def leave_one_out_means(values: Array, groups: Array) -> Array:
    """Mean, for each entry, of the entries of all *other* groups.

    A baseline for one episode that is computed from the other episodes of the batch is independent of that episode, so it
    leaves a policy-gradient estimate unbiased; the mean over the whole batch would not quite.

    :param values: [N]
    :param groups: group (episode) of each entry, 0 … n_groups − 1, none empty [N]
    :return: float64 [N]
    :raises ValueError: there are fewer than two groups
    """
    counts = np.bincount(groups)  # [n_groups]
    if len(counts) < 2:
        raise ValueError("a leave-one-out mean needs at least 2 groups, got 1: collect two or more episodes")
    sums = np.bincount(groups, weights=values)  # [n_groups]
    means = (sums.sum() - sums) / (counts.sum() - counts)
    return means[groups]
