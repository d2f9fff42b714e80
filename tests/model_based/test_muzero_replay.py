"""MuZero's memory: targets and priorities against hand-worked cases and slow twins."""

import gymnasium as gym
import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_lecture.model_based.muzero_replay import CUT, GOES_ON, TERMINATED, TrajectoryBuffer


def buffer(n_envs=1, size=100, **settings):
    space = gym.spaces.Box(-100, 100, (1,), np.float32)
    return TrajectoryBuffer(size * n_envs, space, gym.spaces.Discrete(2), n_envs=n_envs, **settings)


def fill(memory, rewards, values, ends, end_values=None):
    """Store one step a time [T, n_envs]; the observation is the time, π favours action time mod 2."""
    end_values = np.zeros(np.shape(rewards)) if end_values is None else end_values
    for r, v, e, end in zip(rewards, values, ends, end_values, strict=True):
        n, t = memory.n_envs, memory.total
        pi = np.tile([0.75, 0.25] if t % 2 == 0 else [0.25, 0.75], (n, 1))
        memory.add(np.full((n, 1), t), np.full(n, t % 2), np.array(r), np.array(e), np.array(end), pi, np.array(v))


def read(memory, *places):
    np.random.seed(0)
    return memory.targets(np.array(places), np.ones(len(places), np.float32))


# ---- targets


def test_n_step_returns_by_hand():
    """γ = ½, n = 2: 1 + ½·2 + ¼·40 = 12; 2 + ½·4 + ¼·80 = 24; then the episode ends: 4 + ½·8 = 8; 8."""
    memory = buffer(discount=0.5, td_steps=2, unroll_steps=2)
    fill(memory, [[1.0], [2.0], [4.0], [8.0]], [[10.0], [20.0], [40.0], [80.0]], [[0], [0], [0], [TERMINATED]])
    batch = read(memory, 0, 1, 2, 3)
    np.testing.assert_allclose(batch.values, [[12, 24, 8], [24, 8, 8], [8, 8, 0], [8, 0, 0]])
    np.testing.assert_allclose(batch.rewards, [[1, 2], [2, 4], [4, 8], [8, 0]])
    assert batch.known.all()  # also beyond the end, where value and reward are 0
    np.testing.assert_allclose(batch.policies[3], [[0.25, 0.75], [0, 0], [0, 0]])  # and there is no policy
    np.testing.assert_array_equal(batch.actions[:3], [[0, 1], [1, 0], [0, 1]])
    np.testing.assert_allclose(memory.priorities[:4, 0], [2.0, 4.0, 32.0, 72.0])  # |ν − z|


def test_a_time_limit_is_bootstrapped_and_not_looked_beyond():
    """8 + ½·6 = 11, where 6 is the value of the last observation."""
    memory = buffer(discount=0.5, td_steps=3, unroll_steps=2)
    fill(memory, [[4.0], [8.0], [9.0]], [[40.0], [80.0], [1.0]], [[0], [CUT], [0]], [[0], [6.0], [0]])
    batch = read(memory, 0, 1)
    np.testing.assert_allclose(batch.values, [[4 + 0.5 * 11, 11, 0], [11, 0, 0]])
    np.testing.assert_array_equal(batch.known, [[True, True, False], [True, False, False]])
    np.testing.assert_allclose(batch.policies[1, 1:], 0.0)


def test_returns_alternate_between_two_players():
    """The third move wins: +1 to who made it and the first, −1 to the other; then it is over."""
    memory = buffer(discount=-1.0, td_steps=None, unroll_steps=3)
    fill(memory, [[0.0], [0.0], [1.0]], [[0.3], [0.3], [0.3]], [[0], [0], [TERMINATED]])
    np.testing.assert_array_equal(read(memory, 0).values, [[1.0, -1.0, 1.0, 0.0]])
    np.testing.assert_array_equal(read(memory, 0).rewards, [[0.0, 0.0, 1.0]])


def slow_targets(rewards, values, ends, end_values, t, n, discount, unroll):
    """The same by the sums themselves, for one env."""

    def z(t):
        total = 0.0
        for i in range(len(rewards) - t):
            if i == n or (t + i == len(rewards) - 1 and ends[t + i] == GOES_ON):
                return total + discount**i * values[t + i]
            total += discount**i * rewards[t + i]
            if ends[t + i] != GOES_ON:
                return total + (discount ** (i + 1) * end_values[t + i] if ends[t + i] == CUT else 0.0)
        raise AssertionError

    zs, us, known = [], [], []
    phase = "running"
    for k in range(unroll + 1):
        now = t + k
        zs.append(z(now) if phase == "running" else 0.0)
        known.append(phase != "unknown")
        us.append(rewards[now] if phase == "running" else 0.0)
        if phase == "running":
            last = now == len(rewards) - 1
            phase = {TERMINATED: "over", CUT: "unknown"}.get(ends[now], "unknown" if last else "running")
    return zs, us[:unroll], known


@settings(max_examples=60)
@given(data=st.data(), n=st.integers(1, 6), unroll=st.integers(1, 4), size=st.integers(3, 12))
def test_targets_equal_their_slow_twin(data, n, unroll, size):
    steps = data.draw(st.integers(2, 20))
    rng = np.random.default_rng(data.draw(st.integers(0, 10**6)))
    rewards, values, end_values = rng.normal(size=(3, steps, 2))
    ends = rng.choice([GOES_ON, TERMINATED, CUT], (steps, 2), p=[0.7, 0.2, 0.1])
    memory = buffer(2, size, discount=-0.9, td_steps=n, unroll_steps=unroll)  # a ring that may have turned
    fill(memory, rewards, values, ends, end_values)
    first = max(0, steps - size)
    for t in range(first, steps):
        for e in range(2):
            batch = read(memory, t % size * 2 + e)
            columns = (part[first:, e] for part in (rewards, values, ends, end_values))
            zs, us, known = slow_targets(*columns, t - first, n, -0.9, unroll)
            np.testing.assert_allclose(batch.values[0] * known, np.array(zs) * known, atol=1e-5)
            np.testing.assert_array_equal(batch.known[0], known)
            np.testing.assert_allclose(batch.rewards[0] * known[1:], np.array(us) * known[1:], atol=1e-5)
            assert batch.observations[0, 0] == t
    complete = [
        (ends[t : t + n + 1, e] != GOES_ON).any() or t + n < steps for t in range(first, steps) for e in range(2)
    ]  # a return is complete when its bootstrap, or the end, is there
    stored = [memory.priorities[t % size, e] > 0 for t in range(first, steps) for e in range(2)]
    # an end at t + n itself closes the return only with that row
    assert sum(stored) == sum(complete)


def test_a_reset_from_outside_cuts_the_running_episodes():
    """Nobody knows what the newest action led to: its row bootstraps the one before, and is not drawn."""
    memory = buffer(2, discount=0.5, td_steps=None, unroll_steps=2)
    fill(memory, [[1.0, 1.0], [2.0, 2.0], [4.0, 4.0]], [[10.0] * 2, [20.0] * 2, [40.0] * 2], [[0, 0], [0, TERMINATED], [0, 0]])
    memory.cut()
    fill(memory, [[8.0, 8.0]], [[9.0, 9.0]], [[TERMINATED, TERMINATED]])
    batch = read(memory, 0, 1)
    np.testing.assert_allclose(batch.values[0, :2], [1 + 0.5 * (2 + 0.5 * 40), 2 + 0.5 * 40])
    np.testing.assert_allclose(batch.values[1, :2], [2.0, 2.0])
    np.testing.assert_array_equal(memory.priorities[:4] > 0, [[True, True], [True, True], [False, False], [True, True]])
    memory.cut()  # nothing is running
    np.testing.assert_array_equal(memory.priorities[:4] > 0, [[True, True], [True, True], [False, False], [True, True]])


# ---- priorities


def test_rows_are_drawn_by_their_errors_and_weighted_back():
    """P = 1/10, 2/10, 7/10 (α = 1); w = (1 / 3 P)^β, the rarest at 1. On average w P is uniform for β = 1."""
    memory = buffer(discount=0.5, td_steps=1, beta=1.0)
    fill(memory, [[1.0], [2.0], [7.0]], [[0.0]] * 3, [[TERMINATED]] * 3)
    np.random.seed(0)
    batch = memory.sample(30_000)
    share = np.bincount(batch.rows) / 30_000
    np.testing.assert_allclose(share, [0.1, 0.2, 0.7], atol=0.01)
    by_row = np.array([batch.weights[batch.rows == row][0] for row in range(3)])
    np.testing.assert_allclose(by_row, [1.0, 0.5, 1 / 7], rtol=1e-5)
    np.testing.assert_allclose(by_row * [0.1, 0.2, 0.7], 0.1, rtol=1e-5)
    memory.renew_priorities(np.array([0, 1, 2]), np.array([0.0, 5.0, -5.0]))  # ν is 0 everywhere
    np.testing.assert_allclose(memory.priorities[:3, 0], [1e-6, 5.0, 5.0])
    assert np.bincount(memory.sample(1000).rows, minlength=3)[0] <= 1  # an error of 0 is as good as never drawn


def test_exponents_of_zero_draw_alike():
    memory = buffer(discount=0.5, td_steps=1, alpha=0.0)
    fill(memory, [[1.0], [2.0], [7.0]], [[0.0]] * 3, [[TERMINATED]] * 3)
    np.random.seed(0)
    batch = memory.sample(3000)
    np.testing.assert_allclose(np.bincount(batch.rows) / 3000, 1 / 3, atol=0.03)
    assert (batch.weights == 1.0).all()
