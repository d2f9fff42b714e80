"""Exact grading against hand-worked values and against what its users may wrap around an env."""

import os
import sys

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
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv, VecFrameStack, VecNormalize

import sb3_lecture
import sb3_lecture_envs  # noqa: F401
from sb3_lecture.exact import ExactEvalCallback, ExactGrader, exact_evaluation, exact_prediction
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
    n = 1000
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
    assert stochastic.value == pytest.approx(start_value(mdp, policy_evaluation(mdp, draws, model.gamma)), abs=0.1)
    assert stochastic.value != result.value


def test_callback_logs_and_keeps_what_the_grader_says(tmp_path):
    callback = ExactEvalCallback(eval_freq=8, log_path=tmp_path / "deep" / "exact.npz")
    model = A2C("MlpPolicy", make_vec_env(LINE, 1, seed=0), seed=0, gamma=0.9, device="cpu", policy_kwargs={"net_arch": [4]})
    model.learn(16, callback=callback)
    result = exact_evaluation(model)
    assert callback.evaluations[-1] == (
        20,
        *result[:4],
    )  # A2C's rollouts are of 5 steps: looked at after 0, 8, 16 and at the end
    assert [row[0] for row in callback.evaluations] == [0, 8, 16, 20]
    np.testing.assert_array_equal(callback.last.values, result.values)
    logged = {key: value for key, value in model.logger.name_to_value.items() if key.startswith("exact/")}
    names = ("value", "optimal_value", "regret", "optimal_actions")
    assert logged == {f"exact/{name}": figure for name, figure in zip(names, result[:4], strict=True)}
    saved = np.load(tmp_path / "deep" / "exact.npz")
    for name, column in zip(ExactEvalCallback.NAMES, zip(*callback.evaluations, strict=True), strict=True):
        np.testing.assert_array_equal(saved[name], column)


def test_what_counts_as_optimal_is_said_once():
    """Two actions whose values differ by less than 1e-7 of the largest are equally good; the grade says so of each state."""
    big = 1e4
    close, apart = big * (1 - 0.5e-7), big * (1 - 2e-7)
    rows = {
        0: {0: [(1.0, 0, close, True)], 1: [(1.0, 0, big, True)]},
        1: {0: [(1.0, 1, apart, True)], 1: [(1.0, 1, big, True)]},
    }
    result = exact_evaluation(Fixed([0, 0]), TabularEnv(TabularMDP.from_P(rows, [0.5, 0.5])))
    assert result.is_optimal.tolist() == [True, False] and result.actions.tolist() == [0, 0]
    assert result.optimal_action_share == 0.5 and result.regret == pytest.approx(1.25e-3, rel=1e-4)


def test_a_policys_grade_passes_every_file_once():
    """law → solver → sweeps → chain for the optimum, chain for the policy: no file is entered again from one it calls."""
    entered = []

    def watch(frame, event, _):
        if event == "call" and frame.f_back is not None:
            room, name = os.path.split(frame.f_code.co_filename)
            caller = os.path.basename(frame.f_back.f_code.co_filename)
            if room.endswith("exact") and caller != name and not frame.f_code.co_name.startswith("<"):
                entered.append((caller, name))

    model, env = Fixed([1] * 6), gym.make(LINE)
    exact_evaluation(model, env)  # what is loaded and compiled at first
    sys.setprofile(watch)
    try:
        exact_evaluation(model, env)
    finally:
        sys.setprofile(None)
    order = ["grade.py", "law.py", "solver.py", "sweeps.py", "chain.py", "bellman.py"]
    inside = [(order.index(caller), order.index(name)) for caller, name in entered if {caller, name} <= set(order)]
    assert all(caller < name for caller, name in inside)
    assert [name for caller, name in entered if caller == "grade.py"].count("law.py") == 1
    ways = {("grade.py", "law.py"), ("solver.py", "sweeps.py"), ("solver.py", "chain.py"), ("grade.py", "chain.py")}
    assert ways <= set(entered)


# ---- predicted values


class Predictor(Fixed):
    """Values of a table, predicted for a policy of a table [S, A]."""

    predicts_values = True

    def __init__(self, values, policy):
        super().__init__(np.asarray(policy).argmax(axis=1))
        self.table, self.pi = np.asarray(values, float), np.asarray(policy, float)

    def state_values(self, observation):
        return self.table[np.asarray(observation)]

    def action_probabilities(self, observation, deterministic=False):
        return self.pi[np.asarray(observation)]


def test_predictions_are_graded_by_their_error_from_the_given_policys_values():
    always_right = np.tile([0.0, 1.0], (6, 1))
    truth = [0.9**4, 0.9**3, 0.9**2, 0.9, 1.0]
    off = [0.3, 0.0, 0.0, -0.4, 0.0, 9.0]  # the treasure itself is no state in which to act: it does not count
    grade = exact_prediction(Predictor(np.array([*truth, 0.0]) + off, always_right), gym.make(LINE))
    assert grade.rms_error == pytest.approx(np.sqrt((0.3**2 + 0.4**2) / 5)) and grade.largest_error == pytest.approx(0.4)
    np.testing.assert_allclose(grade.values, [*truth, 0.0])
    half = exact_prediction(Predictor(np.zeros(6), np.full((6, 2), 0.5)), gym.make(LINE), gamma=1.0)
    np.testing.assert_allclose(half.values, [1, 1, 1, 1, 1, 0], atol=1e-12)  # the random walk comes to the treasure surely
    assert half.rms_error == pytest.approx(1.0)


def test_predictions_that_have_no_error_are_refused():
    env, right = gym.make(LINE), np.tile([0.0, 1.0], (6, 1))
    with pytest.raises(ValueError, match="The model's value of state 2 is nan"):
        exact_prediction(Predictor([0, 0, np.nan, 0, 0, 0], right), env)
    cliff = gym.make("Lecture/CliffWalking-v0")
    up = Predictor(np.zeros(48), np.tile([1.0, 0, 0, 0], (48, 1)))
    with pytest.raises(ValueError, match="The exact value of state 0 is -inf"):
        exact_prediction(up, cliff, gamma=1.0)
    with pytest.raises(ValueError, match="Fixed predicts no values"):
        exact_prediction(Fixed([1] * 6), env)


def test_the_callback_grades_the_values_of_a_prediction_method(tmp_path):
    callback = ExactEvalCallback(eval_freq=1, log_path=tmp_path / "exact.npz")
    model = sb3_lecture.PolicyEvaluation(env=gym.make(LINE), target_policy=[1] * 6, gamma=0.9, tol=1e-12)
    model.learn(10**6, callback=callback)
    assert callback.evaluations[0] == (0, pytest.approx(np.sqrt(np.mean(0.81 ** np.arange(5)))), 1.0)
    assert callback.last.rms_error == pytest.approx(0.0, abs=1e-12)
    saved = np.load(tmp_path / "exact.npz")
    assert (
        sorted(saved) == ["largest_errors", "rms_errors", "timesteps"] and saved["rms_errors"][-1] == callback.last.rms_error
    )


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


@pytest.mark.parametrize("vec_env_cls", [None, pytest.param(SubprocVecEnv, marks=pytest.mark.slow)])  # a process takes seconds
def test_observation_wrappers_are_followed_across_processes(vec_env_cls):
    env = make_vec_env(LINE, 1, seed=0, env_kwargs={"obs": "one-hot"}, wrapper_class=halved_inside, vec_env_cls=vec_env_cls)
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


class Blind(gym.ObservationWrapper):
    def observation(self, observation):
        return np.where(observation[3] == 1, np.nan, observation)


def test_an_observation_that_is_not_finite_is_refused_with_its_state():
    with pytest.raises(ValueError, match="The observation of state 3 is not finite"):
        ExactGrader(Blind(gym.make(LINE, obs="one-hot")), 0.9)


def test_models_that_cannot_be_graded_are_refused_with_the_reason():
    env = make_vec_env(LINE, 1)
    with pytest.raises(ValueError, match="RecurrentPPO has a recurrent policy"):
        exact_evaluation(RecurrentPPO("MlpLstmPolicy", env, device="cpu"))
    fixed = Fixed([1] * 6)
    fixed.policy = None
    with pytest.raises(ValueError, match="The distribution Fixed acts by is not known"):
        exact_evaluation(fixed, env, deterministic=False)
    with pytest.raises(ValueError, match="has no TabularMDP"):
        A2C("MlpPolicy", "CartPole-v1", device="cpu").learn(10, callback=ExactEvalCallback())
