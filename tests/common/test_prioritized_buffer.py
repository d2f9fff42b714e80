"""The prioritized buffer: SB3's rows where it has them, Schaul et al.'s law where it has not."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import NStepReplayBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_lecture.common.archive import read_archive, write_archive
from sb3_lecture.common.prioritized_buffer import PrioritizedReplayBuffer

BOX, ACTIONS = spaces.Box(-1e6, 1e6, (2,), np.float32), spaces.Discrete(3)
DICT = spaces.Dict({"image": spaces.Box(0, 255, (3, 4, 4), np.uint8), "cell": spaces.Discrete(100_000)})


def steps(n, n_envs, seed, space=BOX):
    """A stream of transitions as SB3 stores them: episodes that end, are cut, or go on; every observation is another."""
    rng = np.random.default_rng(seed)
    number = 0

    def observe():
        nonlocal number
        number += n_envs
        ids = np.arange(number, number + n_envs)
        if space is DICT:
            return {"image": np.broadcast_to((ids % 256)[:, None, None, None], (n_envs, 3, 4, 4)), "cell": ids}
        return np.stack((ids, -ids), axis=1).astype(np.float32)

    obs = observe()
    for _ in range(n):
        done = rng.random(n_envs) < 0.2
        cut = done & (rng.random(n_envs) < 0.5)
        following, first = observe(), observe()
        infos = [{"TimeLimit.truncated": bool(c)} for c in cut]
        yield obs, following, rng.integers(3, size=n_envs), rng.normal(size=n_envs), done, infos

        def new(now, then, done=done):
            return np.where(done.reshape(-1, *[1] * (now.ndim - 1)), then, now)

        obs = {k: new(following[k], first[k]) for k in following} if space is DICT else new(following, first)


def filled(cls, n, n_envs, seed=0, size=12, space=BOX, **settings):
    buffer = cls(size * n_envs, space, ACTIONS, device="cpu", n_envs=n_envs, **settings)
    for step in steps(n, n_envs, seed, space):
        buffer.add(*step)
    return buffer


def every_row(buffer):
    return np.flatnonzero(buffer.tree.priorities)


def normalizer(n_envs):
    class Env(DummyVecEnv):
        def __init__(self):
            self.num_envs, self.observation_space, self.action_space = n_envs, BOX, ACTIONS
            self.render_mode = None

        def get_attr(self, name, indices=None):
            return [None] * n_envs

    env = VecNormalize(Env(), clip_reward=0.7, clip_obs=1e9)
    env.ret_rms.var, env.obs_rms.mean, env.obs_rms.var = 4.0, np.array([1.0, 2.0]), np.array([4.0, 9.0])
    return env


@settings(max_examples=40, deadline=None)
@given(
    n=st.integers(1, 30), n_envs=st.integers(1, 3), n_steps=st.integers(1, 5), seed=st.integers(0, 1000), norm=st.booleans()
)
def test_rows_are_those_of_sb3s_n_step_buffer(n, n_envs, n_steps, seed, norm):
    theirs = filled(NStepReplayBuffer, n, n_envs, seed, n_steps=n_steps, gamma=0.9)
    ours = filled(PrioritizedReplayBuffer, n, n_envs, seed, n_steps=n_steps, gamma=0.9)
    env = normalizer(n_envs) if norm else None
    rows = every_row(ours)
    assert len(rows) == theirs.size() * n_envs
    real = np.random.randint
    np.random.randint = lambda *args, **kwargs: rows % n_envs  # SB3 draws the env of each row
    try:
        expected = theirs._get_samples(rows // n_envs, env)
    finally:
        np.random.randint = real
    got = ours.rows(rows, np.ones(len(rows)), env)
    for name in ("observations", "actions", "next_observations", "dones"):
        assert th.equal(getattr(got, name), getattr(expected, name)), name
        assert getattr(got, name).dtype == getattr(expected, name).dtype, name
    for name in ("rewards", "discounts"):
        np.testing.assert_allclose(getattr(got, name), getattr(expected, name), rtol=1e-5, atol=1e-6)
        assert getattr(got, name).shape == getattr(expected, name).shape


@settings(max_examples=30, deadline=None)
@given(
    n=st.integers(1, 30), n_envs=st.integers(1, 3), n_steps=st.integers(1, 4), seed=st.integers(0, 1000), image=st.booleans()
)
def test_half_the_memory_holds_the_same_rows(n, n_envs, n_steps, seed, image):
    """But for the row that is written next, and for what follows a terminal state, which nobody looks at."""
    space = DICT if image else BOX
    made = [
        filled(PrioritizedReplayBuffer, n, n_envs, seed, space=space, n_steps=n_steps, gamma=0.9, optimize_memory_usage=memory)
        for memory in (False, True)
    ]
    rows = every_row(made[1])
    lost = np.arange(n_envs) + made[0].pos * n_envs if made[0].full else []
    np.testing.assert_array_equal(rows, np.setdiff1d(every_row(made[0]), lost))
    if len(rows) == 0:
        return
    plain, small = (buffer.rows(rows, np.ones(len(rows))) for buffer in made)
    going_on = plain.dones[:, 0] == 0
    for name in ("observations", "actions", "dones", "rewards", "discounts", "next_observations"):
        a, b = getattr(plain, name), getattr(small, name)
        keep = going_on if name == "next_observations" else slice(None)
        for x, y in zip(a.values(), b.values(), strict=True) if isinstance(a, dict) else [(a, b)]:
            assert th.equal(x[keep], y[keep]), name
    assert len(made[1].last_observations) == int(made[1].timeouts[: made[1].size()].sum()) or made[1].full


def test_n_step_rows_by_hand():
    """γ = ½, n = 3: 1 + ½·2 + ¼·4 = 3 with γ³; 2 + ½·4 = 4, cut there, with γ²; the newest row alone has γ¹."""
    buffer = PrioritizedReplayBuffer(10, BOX, ACTIONS, n_steps=3, gamma=0.5)
    for t, (reward, done, cut) in enumerate([(1, 0, 0), (2, 0, 0), (4, 1, 1), (8, 0, 0), (16, 1, 0), (32, 0, 0)]):
        obs, following = np.full((1, 2), t), np.full((1, 2), t + 0.5)
        buffer.add(
            obs, following, np.array([t % 3]), np.array([reward]), np.array([done]), [{"TimeLimit.truncated": bool(cut)}]
        )
    batch = buffer.rows(np.arange(6), np.ones(6))
    np.testing.assert_allclose(batch.rewards[:, 0], [3, 4, 4, 16, 16, 32])
    np.testing.assert_allclose(batch.discounts[:, 0], [1 / 8, 1 / 4, 1 / 2, 1 / 4, 1 / 2, 1 / 2])
    np.testing.assert_allclose(batch.dones[:, 0], [0, 0, 0, 1, 1, 0])
    np.testing.assert_allclose(batch.next_observations[:, 0], [2.5, 2.5, 2.5, 4.5, 4.5, 5.5])


@pytest.mark.parametrize("small", [False, True])
def test_a_reset_from_outside_cuts_the_running_episodes(small):
    buffer = PrioritizedReplayBuffer(10, BOX, ACTIONS, n_steps=3, gamma=0.5, optimize_memory_usage=small)
    buffer.cut()  # nothing is running
    for t, reward in enumerate([1.0, 2.0]):
        buffer.add(np.full((1, 2), t), np.full((1, 2), t + 1), np.zeros(1), np.array([reward]), np.zeros(1), [{}])
    buffer.cut()
    buffer.add(np.full((1, 2), 7), np.full((1, 2), 8), np.zeros(1), np.array([4.0]), np.ones(1), [{}])
    batch = buffer.rows(np.arange(3), np.ones(3))
    np.testing.assert_allclose(batch.rewards[:, 0], [2.0, 2.0, 4.0])
    np.testing.assert_allclose(batch.next_observations[:2, 0], [2.0, 2.0])
    np.testing.assert_allclose(batch.dones[:, 0], [0, 0, 1])


@pytest.mark.parametrize("small", [False, True])
def test_a_single_row_is_cut_too(small):
    buffer = PrioritizedReplayBuffer(10, BOX, ACTIONS, n_steps=2, gamma=0.5, optimize_memory_usage=small)
    buffer.add(np.full((1, 2), 1), np.full((1, 2), 2), np.zeros(1), np.array([1.0]), np.zeros(1), [{}])
    buffer.cut()
    buffer.add(np.full((1, 2), 7), np.full((1, 2), 8), np.zeros(1), np.array([4.0]), np.zeros(1), [{}])
    batch = buffer.rows(np.arange(1), np.ones(1))
    assert batch.rewards.item() == 1.0 and batch.discounts.item() == 0.5
    np.testing.assert_allclose(batch.next_observations[0], [2.0, 2.0])


def test_rows_of_another_buffer_extend_it_as_sb3s():
    """SB3's ``extend`` hands arrays over where ``add`` gets a flag an env."""
    rows = np.arange(6.0).reshape(3, 1, 2)
    flags = np.array([[0.0], [1.0], [0.0]])
    infos = [[{"TimeLimit.truncated": flag}] for flag in flags]
    buffer = PrioritizedReplayBuffer(10, BOX, ACTIONS)
    buffer.extend(rows, rows + 1, np.zeros((3, 1)), np.ones((3, 1)), flags, infos)
    assert buffer.size() == 3
    np.testing.assert_array_equal(buffer.timeouts[:3], flags)
    np.testing.assert_array_equal(buffer.rows(np.arange(3), np.ones(3)).dones[:, 0], np.zeros(3))  # a cut is no end


# ---- priorities


def test_at_beta_1_the_expected_gradient_is_that_of_uniform_replay():
    """Σ_i P(i) w_i ∇L_i = mean_i ∇L_i, enumerated over 64 rows in double precision."""
    th.manual_seed(0)
    buffer = filled(PrioritizedReplayBuffer, 64, 1, size=64, beta=1.0)
    errors = np.random.default_rng(0).normal(size=64)
    buffer.update_priorities(np.arange(64), errors)
    np.testing.assert_allclose(buffer.tree.priorities, (np.abs(errors) + 1e-6) ** 0.6)
    shares = buffer.tree.priorities / buffer.tree.total
    net = th.nn.Sequential(th.nn.Linear(2, 8), th.nn.Tanh(), th.nn.Linear(8, 3)).double()
    batch = buffer.rows(np.arange(64), np.ones(64))

    def gradient(weights):
        q = net(batch.observations.double() / 100).gather(1, batch.actions.long())[:, 0]
        loss = (th.as_tensor(weights) * (q - batch.rewards[:, 0].double()) ** 2).sum()
        return th.cat([part.flatten() for part in th.autograd.grad(loss, list(net.parameters()))])

    uniform = gradient(np.full(64, 1 / 64))
    np.testing.assert_allclose(gradient(shares * buffer.importance_weights(shares)), uniform, rtol=0, atol=1e-12)
    buffer.beta = 0.5
    assert (gradient(shares * buffer.importance_weights(shares)) - uniform).abs().max() > 1e-3


def test_draws_and_weights_follow_the_priorities():
    """P = 1/10, 2/10, 7/10; w = (1 / 3P)^β over its maximum; β from 0.4 to 1."""
    buffer = filled(PrioritizedReplayBuffer, 3, 1, alpha=1.0, epsilon=1e-12)
    buffer.update_priorities(np.arange(3), np.array([1.0, -2.0, 7.0]))
    np.random.seed(0)
    batch = buffer.sample(10_000)
    np.testing.assert_allclose(np.bincount(batch.indices) / 10_000, [0.1, 0.2, 0.7], atol=1e-3)  # stratified
    for progress, beta in ((1.0, 0.4), (0.5, 0.7), (0.0, 1.0)):
        buffer.anneal(progress)
        assert buffer.beta == pytest.approx(beta)
        batch = buffer.sample(100)
        np.testing.assert_allclose(batch.weights[:, 0], np.array([1.0, 0.5, 1 / 7])[batch.indices] ** beta, rtol=1e-5)


def test_a_new_transition_is_as_urgent_as_the_most_urgent_so_far():
    buffer = filled(PrioritizedReplayBuffer, 3, 2, alpha=0.5, epsilon=1e-12)
    np.testing.assert_allclose(buffer.tree.priorities[:6], 1.0)
    buffer.update_priorities(np.array([1, 4]), np.array([9.0, 0.25]))
    buffer.add(*next(iter(steps(1, 2, 0))))
    np.testing.assert_allclose(buffer.tree.priorities[:8], [1, 3, 1, 1, 0.5, 1, 3, 3])


@pytest.mark.parametrize("wrong", [np.nan, np.inf])
def test_an_error_that_is_no_number_is_one_line(wrong):
    buffer = filled(PrioritizedReplayBuffer, 3, 1)
    with pytest.raises(ValueError, match=r"the priority of row 1 is .*the loss has diverged") as error:
        buffer.update_priorities(np.array([0, 1]), np.array([1.0, wrong]))
    assert "\n" not in str(error.value) and buffer.max_priority == 1.0


def test_wrong_arguments_are_named():
    wrong = {"n_steps": 0, "alpha": -0.1, "beta": 1.5, "epsilon": 0.0, "gamma": 2.0, "beta_final": np.nan}
    for key, value in wrong.items():
        with pytest.raises(ValueError, match=f"{key}="):
            PrioritizedReplayBuffer(10, BOX, ACTIONS, **{key: value})
    with pytest.raises(ValueError, match="no row to draw"):
        PrioritizedReplayBuffer(10, BOX, ACTIONS).sample(1)


# ---- beside SB3, and on disk


def test_sb3s_dqn_takes_it_for_a_plain_buffer():
    settings = dict(learning_starts=10, buffer_size=100, batch_size=8, seed=0, policy_kwargs={"net_arch": [8]}, device="cpu")
    model = DQN("MlpPolicy", "CartPole-v1", replay_buffer_class=PrioritizedReplayBuffer, **settings)
    model.learn(60)
    assert model.replay_buffer.size() == 60 and isinstance(model.replay_buffer, ReplayBuffer)
    assert set(model.replay_buffer._get_samples(np.arange(20)).indices) == set(range(20))


@pytest.mark.parametrize("small", [False, True])
def test_its_file_goes_on_with_the_same_draws(tmp_path, small):
    buffer = filled(PrioritizedReplayBuffer, 20, 2, space=DICT, n_steps=2, optimize_memory_usage=small)
    buffer.update_priorities(np.arange(2, 9), np.arange(7.0))
    write_archive(tmp_path / "memory.pkl", "replay buffer", {"replay": buffer})
    again = read_archive(tmp_path / "memory.pkl", "replay buffer")["replay"]
    for step in steps(9, 2, 5, DICT):
        batches = []
        for one in (buffer, again):
            one.add(*step)
            np.random.seed(3)
            batches.append(one.sample(16))
        for a, b in zip(*batches, strict=True):
            for x, y in zip(a.values(), b.values(), strict=True) if isinstance(a, dict) else [(a, b)]:
                np.testing.assert_array_equal(x, y)


def test_a_cut_is_a_time_limit_of_the_running_episodes_alone():
    buffer = PrioritizedReplayBuffer(8, BOX, ACTIONS, device="cpu", n_envs=2)
    buffer.cut()  # nothing is there
    assert not buffer.timeouts.any()
    obs = np.zeros((2, 2), np.float32)
    buffer.add(obs, obs, np.zeros(2, np.int64), np.zeros(2), np.array([True, False]), [{}, {}])
    buffer.cut()
    np.testing.assert_array_equal(buffer.timeouts, [[0, 1], [0, 0], [0, 0], [0, 0]])


def test_the_smallest_buffers():
    sizes = [PrioritizedReplayBuffer(1, BOX, ACTIONS, optimize_memory_usage=shared).buffer_size for shared in (False, True)]
    assert sizes == [1, 2]  # one row is written next, and cannot be drawn, where observations are shared
