"""What the replays of the linear learners do not see: ties, policies given as arrays, logs, and a second call of ``learn``."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env

import sb3_lecture_envs  # noqa: F401
from sb3_lecture import LSTD, SemiGradientQ, SemiGradientSarsa, SemiGradientTD
from sb3_lecture.linear import kernels
from sb3_lecture.linear.policy import given_policy

WALK, CAR = "Lecture/RandomWalk-v0", "MountainCar-v0"


def test_the_kth_of_the_tied_actions_is_taken():
    """Actions 1, 2 and 4 of five are worth 3; the tie's number says which, ε's coin which of all."""
    w = np.array([[1.0], [3.0], [3.0], [2.0], [3.0]])
    u = np.array([[0.9, 0.0], [0.9, 0.34], [0.9, 0.67], [0.9, 0.999], [0.05, 0.5], [0.199, 0.5]])
    index, value, action = np.zeros((6, 1), np.int64), np.ones((6, 1)), np.full(6, -1)
    kernels.choose(w, index, value, 0.2, u, action)
    assert action.tolist() == [1, 2, 4, 4, 1, 4]


def test_policies_are_given_as_actions_or_as_probabilities():
    features = SemiGradientTD("LinearPolicy", gym.make(WALK, n=1)).policy.x  # three states
    np.testing.assert_array_equal(given_policy([1, 0, 1], features, 2, "pi"), [[0, 1], [1, 0], [0, 1]])
    certain = [[0.0, 1.0], [1.0, 0.0], [0.5, 0.5]]
    np.testing.assert_array_equal(given_policy(certain, features, 2, "pi"), certain)
    for wrong in ([[0.0, 1.0], [1.0, 0.5], [0.5, 0.5]], [[0.0, 1.0], [2.0, -1.0], [0.5, 0.5]]):
        with pytest.raises(ValueError, match=r"pi must be .* whose rows sum to 1; got shape \(3, 2\)"):
            given_policy(wrong, features, 2, "pi")


def test_a_behavior_that_leaves_out_what_is_asked_for_is_refused_where_states_are_numbers_too():
    with pytest.raises(ValueError, match=r"never takes an action that target_policy takes: \[0\]"):
        SemiGradientTD("LinearPolicy", CAR, target_policy=[1, 0, 0], behavior_policy=[0, 0.5, 0.5])
    some = np.zeros((3, SemiGradientTD("LinearPolicy", CAR).policy.x.size))
    some[0] = 1.0  # weights of action values, of which a nought forbids nothing
    SemiGradientTD("LinearPolicy", CAR, target_policy=some, behavior_policy=-some)


def test_one_group_is_a_group():
    model = SemiGradientTD("LinearPolicy", WALK, policy_kwargs={"features": "aggregation", "n_groups": 1})
    assert model.policy.weights.shape == (1, 1)


def test_least_squares_that_overflow_are_one_error():
    class Rich(gym.RewardWrapper):
        def reward(self, reward):
            return 1e300 * (1 + reward)

    with pytest.raises(ValueError, match="diverged"):
        LSTD("LinearPolicy", Rich(gym.make(WALK)), ridge=1e-12, gamma=1.0, seed=0).learn(500)


@pytest.mark.parametrize("kwargs", [{}, {"n_steps": 3}, {"lambda_": 0.5}])
def test_a_second_call_goes_on_where_the_first_stopped(kwargs):
    """With an ε and a step size that stay, two calls are one: no episode is cut, nothing that waits is dropped."""
    settings = {"exploration_initial_eps": 0.3, "exploration_final_eps": 0.3, "learning_rate": 0.1, "seed": 1} | kwargs
    halves, whole = (SemiGradientSarsa("LinearPolicy", make_vec_env(WALK, 2, seed=0), **settings) for _ in range(2))
    halves.learn(62).learn(62, reset_num_timesteps=False)
    np.testing.assert_array_equal(halves.policy.weights, whole.learn(124).policy.weights)
    assert halves.num_timesteps == 124


def test_logs_are_written_every_so_many_episodes(monkeypatch):
    lines = []
    monkeypatch.setattr(SemiGradientQ, "dump_logs", lambda self: lines.append(self._episode_num))
    for interval in (None, 3):
        lines.clear()
        model = SemiGradientQ("LinearPolicy", gym.make(WALK, n=1), seed=0).learn(10, log_interval=interval)  # one step each
        assert model._episode_num == 10
        assert lines == ([] if interval is None else [3, 6, 9])


def test_the_pair_that_reset_gives_is_no_observation():
    model = SemiGradientQ("LinearPolicy", CAR)
    with pytest.raises(ValueError, match=r"pair \(observation, info\)"):
        model.predict(model.env.envs[0].reset())


def test_the_largest_weight_is_logged():
    model = SemiGradientQ("LinearPolicy", gym.make(WALK, n=1), seed=0).learn(10, log_interval=None)
    with th.no_grad():
        model.policy.weights[:] = 0.25
        model.policy.weights[0, 1] = -3.0
    model._record_logs()
    assert model.logger.name_to_value["train/largest_weight"] == 3.0
