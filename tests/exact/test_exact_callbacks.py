"""Exact grading against hand-worked values and against what its users may wrap around an env."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers import (
    FrameStackObservation,
    NormalizeObservation,
    NormalizeReward,
    TimeAwareObservation,
    TransformAction,
    TransformObservation,
    TransformReward,
)
from sb3_contrib import QRDQN, MaskablePPO, RecurrentPPO
from sb3_contrib.common.wrappers import ActionMasker
from stable_baselines3 import A2C, DQN, PPO
from stable_baselines3.common.callbacks import CallbackList
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv, VecFrameStack, VecNormalize

import sb3_lecture_envs  # noqa: F401
from sb3_lecture.common.vec_env import make_native_vec_env
from sb3_lecture.exact import ExactEvalCallback, ExactGrader, exact_evaluation
from sb3_lecture.exact.solver import policy_evaluation, start_value
from sb3_lecture_envs.mdp import TabularMDP
from sb3_lecture_envs.tabular_env import TabularEnv

LINE = "Lecture/TreasureLine-v0"
QUICK = {"learning_starts": 100, "exploration_fraction": 0.5, "buffer_size": 1000}


class Fixed:
    """A model that does what a table says."""

    gamma = 0.9

    def __init__(self, actions):
        self.actions = np.asarray(actions)

    def predict(self, observation, state=None, episode_start=None, deterministic=False):
        return self.actions[np.asarray(observation)], None


def test_values_are_the_closed_form():
    env = gym.make(LINE)
    right = exact_evaluation(Fixed([1] * 6), env)
    np.testing.assert_allclose(right.values, [0.9**4, 0.9**3, 0.9**2, 0.9, 1.0, 0.0], atol=1e-12)
    assert (right.value, right.regret, right.optimal_action_share) == (pytest.approx(0.9**4), 0.0, 1.0)
    left = exact_evaluation(Fixed([0] * 6), env)
    assert (left.value, left.regret, left.optimal_action_share) == (0.0, pytest.approx(0.9**4), 0.0)
    one_wrong = exact_evaluation(Fixed([1, 1, 1, 1, 0, 0]), env, gamma=0.5)
    assert one_wrong.value == 0.0 and one_wrong.optimal_value == pytest.approx(0.5**4)
    assert one_wrong.optimal_action_share == pytest.approx(4 / 5)  # the end is no state in which to act


def test_time_limits_are_ignored_and_gamma_may_be_one():
    result = exact_evaluation(Fixed([1] * 6), gym.make(LINE, max_episode_steps=2), gamma=1.0)
    assert result.value == 1.0
    cliff = exact_evaluation(Fixed(np.zeros(48, dtype=int)), gym.make("Lecture/CliffWalking-v0"), gamma=1.0)
    assert cliff.value == -np.inf and cliff.optimal_value == -13.0 and cliff.regret == np.inf


@pytest.mark.parametrize("algorithm", [A2C, PPO, DQN, QRDQN, MaskablePPO])
def test_grade_equals_that_of_the_policy_read_out_by_hand(algorithm):
    settings = {"policy_kwargs": {"net_arch": [8]}} if algorithm in (A2C, PPO, MaskablePPO) else QUICK
    model = algorithm("MlpPolicy", make_vec_env("Lecture/Maze-v0", 1, seed=0), seed=0, device="cpu", **settings)
    if algorithm in (DQN, QRDQN):
        model.exploration_rate = 0.3
    mdp = model.get_env().get_attr("mdp")[0]
    masks = mdp.action_mask if algorithm is MaskablePPO else np.ones((16, 4), dtype=bool)
    extra = [{"action_masks": masks[s].copy()} if algorithm is MaskablePPO else {} for s in range(16)]
    greedy = np.array([model.predict(np.array(s), deterministic=True, **extra[s])[0] for s in range(16)])
    result = exact_evaluation(model)
    assert result.value == pytest.approx(start_value(mdp, policy_evaluation(mdp, greedy, model.gamma)), abs=1e-9)
    # frequencies of sampled actions, state by state
    n = 3000
    draws = np.zeros((16, 4))
    for s in range(16):
        batch = np.full(n, s)
        many = {"action_masks": np.tile(masks[s], (n, 1))} if extra[s] else {}
        if algorithm in (DQN, QRDQN):  # their own coin is one for the whole batch
            draws[s, greedy[s]] = 0.7
            draws[s] += 0.3 / 4
        else:
            draws[s] = np.bincount(model.predict(batch, deterministic=False, **many)[0], minlength=4) / n
    stochastic = exact_evaluation(model, deterministic=False)
    assert stochastic.value == pytest.approx(start_value(mdp, policy_evaluation(mdp, draws, model.gamma)), abs=0.06)
    assert stochastic.value != result.value


def test_callback_counts_env_steps_and_keeps_its_figures(tmp_path):
    callback = ExactEvalCallback(eval_freq=500, log_path=tmp_path / "deep" / "exact.npz")
    model = DQN(
        "MlpPolicy",
        make_native_vec_env(LINE, 4, seed=0),
        seed=0,
        gamma=0.9,
        learning_rate=5e-3,
        target_update_interval=100,
        gradient_steps=2,
        device="cpu",
        **QUICK,
    )
    model.learn(4000, callback=CallbackList([callback]))
    assert [row[0] for row in callback.evaluations] == list(range(0, 4001, 500))
    assert callback.last.regret == 0.0 and callback.last.optimal_action_share == 1.0
    assert callback.last.value == pytest.approx(0.9**4)
    logged = {key: value for key, value in model.logger.name_to_value.items() if key.startswith("exact/")}
    assert logged["exact/regret"] == 0.0 and logged["exact/optimal_actions"] == 1.0
    saved = np.load(tmp_path / "deep" / "exact.npz")
    assert saved["timesteps"].tolist() == list(range(0, 4001, 500)) and saved["regrets"][-1] == 0.0
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["exact.npz"]


def test_vec_normalize_observations_are_followed_and_rewards_are_the_laws():
    env = VecNormalize(make_vec_env("Lecture/Maze-v0", 2, seed=0, env_kwargs={"obs": "coords"}))
    model = A2C("MlpPolicy", env, seed=0, device="cpu").learn(200)
    count = env.obs_rms.count
    grader = ExactGrader(model.get_env(), 0.9)
    coords = env.venv.env_method("observe", np.arange(16), indices=[0])[0]
    np.testing.assert_allclose(grader.observations(), env.normalize_obs(coords))
    assert exact_evaluation(model, gamma=0.9).optimal_value == pytest.approx(0.9**5)  # six steps away, +1: not scaled
    assert env.obs_rms.count == count


def halve(observation):
    return observation * np.float32(0.5)


def halved(env):
    return TransformObservation(env, halve, gym.spaces.Box(0, 0.5, (6,), np.float32))


@pytest.mark.parametrize("vec_env_cls", [None, SubprocVecEnv])
def test_observation_wrappers_are_followed_across_processes(vec_env_cls):
    env = make_vec_env(LINE, 2, seed=0, env_kwargs={"obs": "one-hot"}, wrapper_class=halved_inside, vec_env_cls=vec_env_cls)
    np.testing.assert_array_equal(ExactGrader(env, 0.9).observations(), 0.5 * np.eye(6))
    env.close()


def halved_inside(env):
    return TransformReward(halved(env), np.negative)


def test_pictures_are_transposed_as_the_model_sees_them():
    model = A2C("MlpPolicy", make_vec_env(LINE, 1, env_kwargs={"obs": "rgb"}), device="cpu", policy_kwargs={"net_arch": [4]})
    assert ExactGrader(model.get_env(), 0.9).observations().shape == (6, 3, 64, 64)
    assert np.isfinite(exact_evaluation(model).value)


def test_any_law_of_gymnasium_can_be_graded():
    lake = TabularEnv(TabularMDP.from_gymnasium(gym.make("FrozenLake-v1")))
    result = exact_evaluation(Fixed([0] * 16), lake, gamma=0.99)
    assert result.optimal_value == pytest.approx(0.5420, abs=5e-5) and result.value == pytest.approx(0, abs=0.2)


def masked(env):
    return ActionMasker(env, lambda inner: inner.unwrapped.action_masks())


def test_wrappers_that_only_mask_or_scale_rewards_are_passed():
    env = make_vec_env("Lecture/Maze-v0", 1, wrapper_class=lambda inner: NormalizeReward(masked(inner)))
    model = MaskablePPO("MlpPolicy", env, seed=0, device="cpu", policy_kwargs={"net_arch": [4]})
    assert exact_evaluation(model, gamma=0.9).optimal_value == pytest.approx(0.9**5)


def two_steps(env):
    return FrameStackObservation(env, 2)


def mirrored(env):
    return TransformAction(env, lambda action: 1 - action, env.action_space)


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: make_vec_env("CartPole-v1", 1), "has no TabularMDP"),
        (lambda: VecFrameStack(make_vec_env(LINE, 1, env_kwargs={"obs": "one-hot"}), 2), "no frame stacks"),
        (lambda: two_steps(gym.make(LINE, obs="one-hot")), "FrameStackObservation may change actions or stack"),
        (lambda: TimeAwareObservation(gym.make(LINE, obs="one-hot")), "TimeAwareObservation may change actions or stack"),
        (lambda: mirrored(gym.make(LINE)), "TransformAction may change actions"),
        (lambda: NormalizeObservation(gym.make(LINE, obs="one-hot")), "gives one state two observations"),
    ],
)
def test_envs_that_cannot_be_graded_are_refused_with_the_reason(build, words):
    with pytest.raises(ValueError, match=words):
        ExactGrader(build(), 0.9)


def test_models_that_cannot_be_graded_are_refused_with_the_reason():
    env = make_vec_env(LINE, 1)
    with pytest.raises(ValueError, match="RecurrentPPO has a recurrent policy"):
        exact_evaluation(RecurrentPPO("MlpLstmPolicy", env, device="cpu"))
    fixed = Fixed([1] * 6)
    fixed.policy = None
    with pytest.raises(ValueError, match="The distribution Fixed acts by is not known"):
        exact_evaluation(fixed, env, deterministic=False)
    with pytest.raises(ValueError, match="eval_freq=0"):
        ExactEvalCallback(eval_freq=0)
    with pytest.raises(ValueError, match="has no TabularMDP"):
        A2C("MlpPolicy", "CartPole-v1", device="cpu").learn(10, callback=ExactEvalCallback())
