"""Returns of trajectories against literal sums."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from sb3_lecture.common.returns import discounted_returns, leave_one_out_means, powers_of_discount, returns_at_start

shapes = st.tuples(st.integers(1, 12), st.integers(1, 3), st.integers(0, 10_000))


def random_episodes(n_steps: int, n_envs: int, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Rewards, dones, starts [T, n_envs] of episodes of random length, and values behind the last row [n_envs]."""
    rng = np.random.default_rng(seed)
    rewards, dones = rng.normal(size=(n_steps, n_envs)), rng.random((n_steps, n_envs)) < 0.3
    starts = np.concatenate((np.ones((1, n_envs), bool), dones[:-1]))
    return rewards, dones, starts, rng.normal(size=n_envs)


def episode_of(dones: np.ndarray, i: int, t: int) -> tuple[int, int, bool]:
    """First and last row of the episode that step (t, i) belongs to, and whether it ended."""
    first = t
    while first > 0 and not dones[first - 1, i]:
        first -= 1
    last = t
    while last < len(dones) - 1 and not dones[last, i]:
        last += 1
    return first, last, bool(dones[last, i])


@settings(max_examples=40)
@given(shapes)
def test_discounted_returns_are_the_literal_sums(shape):
    rewards, dones, _, last_values = random_episodes(*shape)
    gamma = 0.9
    returns = discounted_returns(rewards, np.where(dones, 0.0, gamma), last_values)
    for t, i in np.ndindex(returns.shape):
        _, last, ended = episode_of(dones, i, t)
        literal = sum(gamma ** (k - t) * rewards[k, i] for k in range(t, last + 1))
        if not ended:
            literal += gamma ** (last + 1 - t) * last_values[i]
        assert_allclose(returns[t, i], literal, atol=1e-12)


@settings(max_examples=40)
@given(shapes)
def test_the_start_s_return_and_the_power_of_gamma_belong_to_the_step_s_own_episode(shape):
    rewards, dones, starts, last_values = random_episodes(*shape)
    returns = discounted_returns(rewards, np.where(dones, 0.0, 0.8), last_values)
    totals, powers = returns_at_start(returns, starts), powers_of_discount(starts, 0.8)
    for t, i in np.ndindex(returns.shape):
        first, _, _ = episode_of(dones, i, t)
        assert totals[t, i] == returns[first, i]
        assert_allclose(powers[t, i], 0.8 ** (t - first))


def test_gamma_one_gives_sums_and_gamma_zero_gives_rewards():
    rewards = np.arange(6.0).reshape(3, 2)
    assert_allclose(discounted_returns(rewards, np.ones((3, 2)), np.zeros(2)), rewards[::-1].cumsum(axis=0)[::-1])
    assert_allclose(discounted_returns(rewards, np.zeros((3, 2)), np.full(2, 9.0)), rewards)


def test_integer_rewards_are_not_truncated():
    assert_allclose(discounted_returns(np.ones((2, 1), int), np.full((2, 1), 0.5), np.zeros(1)), [[1.5], [1.0]])


def test_leave_one_out_means_are_means_over_the_other_groups():
    values, groups = np.array([1.0, 2.0, 4.0, 8.0, 16.0]), np.array([0, 1, 1, 2, 0])
    expected = [np.mean([v for v, g in zip(values, groups, strict=True) if g != own]) for own in groups]
    assert_allclose(leave_one_out_means(values, groups), expected)


def test_one_group_has_no_others():
    with pytest.raises(ValueError, match="at least 2 groups"):
        leave_one_out_means(np.ones(3), np.zeros(3, int))
