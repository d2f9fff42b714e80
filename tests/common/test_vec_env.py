"""GymnasiumVecEnv against SB3's own DummyVecEnv over the same worlds."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3 import A2C, DQN
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecNormalize

import sb3_lecture_envs  # noqa: F401
from sb3_lecture.common.vec_env import GymnasiumVecEnv, make_native_vec_env


@pytest.mark.parametrize("obs", ["index", "one-hot", "coords", "grid", "rgb"])
@pytest.mark.parametrize("env_id", ["Lecture/Maze-v0", "Lecture/TreasureLine-v0", "Lecture/CliffWalking-v0"])
def test_steps_and_infos_equal_those_of_dummy_vec_env(env_id, obs):
    n, limit = 3, 12
    ours = make_native_vec_env(env_id, n, seed=0, env_kwargs={"obs": obs, "max_episode_steps": limit})
    slow = make_vec_env(env_id, n, seed=0, env_kwargs={"obs": obs, "max_episode_steps": limit})
    assert ours.observation_space == slow.observation_space and ours.action_space == slow.action_space
    np.testing.assert_array_equal(ours.reset(), slow.reset())
    rng, ended = np.random.default_rng(0), 0
    for _ in range(60):
        actions = rng.integers(ours.action_space.n, size=n)
        got, want = ours.step(actions), slow.step(actions)
        for a, b in zip(got[:3], want[:3], strict=True):
            np.testing.assert_array_equal(a, b)
            assert a.dtype == b.dtype
        for mine, theirs in zip(got[3], want[3], strict=True):
            if "episode" in theirs:
                ended += 1
                assert mine["TimeLimit.truncated"] == theirs["TimeLimit.truncated"]
                np.testing.assert_array_equal(mine["terminal_observation"], theirs["terminal_observation"])
                assert (mine["episode"]["r"], mine["episode"]["l"]) == (theirs["episode"]["r"], theirs["episode"]["l"])
                assert mine["episode"]["t"] >= 0
            else:
                assert mine == {}
    assert ended > 3


def test_one_seed_gives_one_result_and_two_seeds_two():
    def starts(seed):
        env = make_native_vec_env("Lecture/GridWorld-v0", 50, seed=seed, env_kwargs={"map": "4x4"})
        return env.reset().tolist()

    assert starts(1) == starts(1) != starts(2)


def test_a_vector_env_that_resets_a_step_late_is_refused():
    with pytest.raises(ValueError, match=r"SB3 needs AutoresetMode.SAME_STEP. Make it with autoreset_mode"):
        GymnasiumVecEnv(gym.make_vec("Lecture/Maze-v0", 2))
    with pytest.raises(ValueError, match=r"FrozenLake-v1 has no vector env of its own .* use SB3's make_vec_env"):
        make_native_vec_env("FrozenLake-v1")
    with pytest.raises(ValueError, match=r"CartPole-v1's own vector env .* takes no autoreset_mode.* use SB3's make_vec_env"):
        make_native_vec_env("CartPole-v1", 2)


def test_gymnasiums_sync_vector_env_is_taken_too():
    venv = gym.make_vec(
        "FrozenLake-v1", 4, vectorization_mode="sync", vector_kwargs={"autoreset_mode": AutoresetMode.SAME_STEP}
    )
    env = GymnasiumVecEnv(venv)
    env.seed(0)
    env.reset()
    assert len(env.reset_infos) == 4 and env.reset_infos[0]["prob"] == 1
    infos = [info for _ in range(40) for info in env.step(np.array([2, 1, 2, 1]))[3]]
    assert all("prob" in info for info in infos)
    ended = [info for info in infos if "episode" in info]
    assert ended and all("terminal_observation" in info for info in ended)
    env.close()


def test_attributes_and_methods_reach_the_world():
    env = make_native_vec_env("Lecture/Maze-v0", 3)
    env.reset()
    env.step(np.array([1, 2, 2]))
    assert env.get_attr("state") == [1, 4, 4] and env.get_attr("state", indices=1) == [4]
    assert len({id(mdp) for mdp in env.get_attr("mdp")}) == 1
    np.testing.assert_array_equal(env.env_method("observe", np.array([3, 5, 7]), indices=[0])[0], [3, 5, 7])
    assert env.has_attr("layout") and not env.has_attr("no_such_thing")
    assert env.env_is_wrapped(Monitor) == [True] * 3 and env.env_is_wrapped(gym.wrappers.TimeLimit) == [False] * 3
    env.set_attr("note", "here")
    assert env.get_attr("note") == ["here"] * 3
    with pytest.raises(ValueError, match="shared by all 3 envs"):
        env.set_attr("note", "there", indices=[1])
    assert is_masking_supported(env)
    np.testing.assert_array_equal(get_action_masks(env), [[0, 1, 1, 1], [1, 1, 1, 0], [1, 1, 1, 0]])


def test_reset_options_reach_the_vector_env():
    env = make_native_vec_env("Lecture/TreasureLine-v0", 2)
    env.reset()
    env.step(np.array([1, 1]))
    env.set_options({"reset_mask": np.array([True, False])})
    assert env.reset().tolist() == [0, 1]


def test_pictures_are_tiled():
    env = make_native_vec_env("Lecture/Maze-v0", 4, env_kwargs={"render_mode": "rgb_array"})
    env.reset()
    assert env.render().shape == (2 * 384, 2 * 384, 3)


@pytest.mark.parametrize("algorithm", [A2C, DQN, MaskablePPO])
def test_sb3_learns_on_it_as_on_its_own(algorithm):
    env = make_native_vec_env("Lecture/TreasureLine-v0", 4, seed=0)
    settings = {"n_steps": 32} if algorithm is not DQN else {"learning_starts": 100, "exploration_fraction": 0.5}
    model = algorithm("MlpPolicy", env, seed=0, gamma=0.9, device="cpu", **settings).learn(4000)
    assert len(model.ep_info_buffer) > 10
    mean, _ = evaluate_policy(model, make_native_vec_env("Lecture/TreasureLine-v0", 2, seed=1), n_eval_episodes=4)
    assert mean == 1.0


def test_vec_normalize_goes_around_it():
    env = VecNormalize(make_native_vec_env("Lecture/Maze-v0", 2, seed=0, env_kwargs={"obs": "coords"}))
    A2C("MlpPolicy", env, seed=0, device="cpu").learn(40)
    assert env.obs_rms.count > 40
