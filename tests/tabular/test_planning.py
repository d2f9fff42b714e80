"""Planning: the exact values, sweep by sweep."""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv

import sb3_lecture
from sb3_lecture.exact.grade import exact_evaluation
from sb3_lecture.exact.law import law_of
from sb3_lecture.exact.solver import policy_evaluation, value_iteration
from sb3_lecture_envs.mdp import TabularMDP
from sb3_lecture_envs.tabular_env import TabularEnv

WORLDS = [
    ("Lecture/GridWorld-v0", {"map": "four-rooms", "slip": 0.2}),
    ("Lecture/CliffWalking-v0", {}),
    ("Lecture/Maze-v0", {}),
    ("FrozenLake-v1", {}),
    ("Taxi-v4", {}),
]
PLANNERS = [sb3_lecture.ValueIteration, sb3_lecture.PolicyIteration, sb3_lecture.PolicyEvaluation]


def exact(cls, mdp, gamma):
    if cls is sb3_lecture.PolicyEvaluation:
        return policy_evaluation(mdp, np.full((mdp.n_states, mdp.n_actions), 1 / mdp.n_actions), gamma)
    return value_iteration(mdp, gamma).v


@pytest.mark.parametrize("cls", PLANNERS)
@pytest.mark.parametrize(("env_id", "kwargs"), WORLDS, ids=[w for w, _ in WORLDS])
@pytest.mark.parametrize("gamma", [0.0, 0.9, 0.99])
def test_planning_is_as_exact_as_it_says(cls, env_id, kwargs, gamma):
    tol = 1e-7
    model = cls(env=gym.make(env_id, **kwargs), gamma=gamma, tol=tol).learn(10**9)
    mdp = law_of(model.env)
    assert np.abs(model.v_table - exact(cls, mdp, gamma)).max() <= tol + 1e-8
    assert model.num_timesteps % mdp.n_states == 0


@pytest.mark.parametrize("cls", PLANNERS[:2])
def test_planned_policies_are_optimal(cls, regret):
    for env_id, kwargs in WORLDS:
        model = cls(env=gym.make(env_id, **kwargs), gamma=0.99, tol=1e-9).learn(10**9)
        assert regret(model) == pytest.approx(0.0, abs=1e-7)
        np.testing.assert_allclose(model.q_table.max(axis=1), model.v_table, atol=1e-7)


def test_the_random_walk_has_straight_values():
    model = sb3_lecture.PolicyEvaluation(env="Lecture/RandomWalk-v0", gamma=1.0, tol=1e-13).learn(10**9)
    np.testing.assert_allclose(model.v_table[1:-1], np.arange(-9, 10) / 10, atol=1e-9)


def test_the_sixteen_values_of_the_4x4_grid():
    """Sutton & Barto, figure 4.1: the uniform policy, two terminal corners, -1 a step."""
    transition, reward = np.zeros((16, 4, 16)), np.full((16, 4), -1.0)
    for s in range(16):
        for a, (dr, dc) in enumerate(((-1, 0), (0, 1), (1, 0), (0, -1))):
            r, c = np.clip(s // 4 + dr, 0, 3), np.clip(s % 4 + dc, 0, 3)
            transition[s, a, 4 * r + c] = 1.0
    mdp = TabularMDP.from_dense(transition, reward, terminal=np.isin(np.arange(16), [0, 15]), start=5)
    model = sb3_lecture.PolicyEvaluation(env=TabularEnv(mdp), gamma=1.0, tol=1e-12).learn(10**9)
    expected = [0, -14, -20, -22, -14, -18, -20, -20, -20, -20, -18, -14, -22, -20, -14, 0]
    np.testing.assert_allclose(model.v_table, expected, atol=1e-8)
    best = sb3_lecture.ValueIteration(env=TabularEnv(mdp), gamma=1.0).learn(10**9)
    steps = [min(r + c, 6 - r - c) for r in range(4) for c in range(4)]
    np.testing.assert_array_equal(best.v_table, -np.array(steps, dtype=float))


@pytest.mark.parametrize("cls", PLANNERS)
def test_gamma_1_is_refused_where_episodes_may_not_end(cls):
    ring = TabularMDP.from_dense(np.roll(np.eye(3), 1, axis=1)[:, None, :], np.full((3, 1), -1.0))
    with pytest.raises(ValueError, match="gamma=1, but from state 0"):
        cls(env=TabularEnv(ring), gamma=1.0).learn(1000)


def test_planning_without_a_law_is_refused():
    with pytest.raises(ValueError, match="law"):
        env = gym.wrappers.TransformObservation(gym.make("CartPole-v1"), lambda obs: 0, gym.spaces.Discrete(1))
        sb3_lecture.ValueIteration(env=env).learn(10)


class Watch(BaseCallback):
    def __init__(self, stop_after):
        super().__init__()
        self.stop_after, self.values = stop_after, []

    def _on_step(self):
        self.values.append(self.model.v_table.copy())
        return self.n_calls < self.stop_after


def test_callbacks_see_and_stop_every_sweep():
    watch = Watch(3)
    model = sb3_lecture.ValueIteration(env="Lecture/CliffWalking-v0", gamma=1.0).learn(10**9, callback=watch)
    n = law_of(model.env).n_states
    assert model.num_timesteps == 3 * n == watch.num_timesteps
    assert watch.values[0].tolist() != watch.values[1].tolist()
    assert (watch.values[2] <= watch.values[1]).all()  # from 0, values of a world of costs fall
    model.learn(n * 2)
    assert model.num_timesteps == 2 * n


def test_plans_survive_their_file(tmp_path):
    model = sb3_lecture.PolicyIteration(env="Lecture/Maze-v0").learn(10**9)
    model.save(tmp_path / "plan")
    loaded = sb3_lecture.PolicyIteration.load(tmp_path / "plan")
    states = np.arange(len(model.v_table))
    np.testing.assert_array_equal(loaded.predict(states)[0], model.predict(states)[0])
    np.testing.assert_array_equal(loaded.v_table, model.v_table)
    with pytest.raises(ValueError, match="give an env"):
        _ = loaded.q_table


def test_worlds_that_state_p_are_graded_exactly():
    for env in (gym.make("FrozenLake-v1"), DummyVecEnv([lambda: gym.make("FrozenLake-v1")])):
        model = sb3_lecture.ValueIteration(env=env, gamma=0.99, tol=1e-10).learn(10**9)
        grade = exact_evaluation(model, env)
        assert grade.regret == pytest.approx(0.0, abs=1e-9) and 0.5 < grade.value < 0.6
