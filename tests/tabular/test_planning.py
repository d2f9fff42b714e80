"""Planning: the exact values, sweep by sweep."""

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv

import sb3_lecture
from sb3_lecture.exact.chain import policy_evaluation
from sb3_lecture.exact.grade import exact_evaluation
from sb3_lecture.exact.law import law_of
from sb3_lecture.exact.solver import modified_policy_iteration, value_iteration
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


# ---- without discount


def go(state, reward, terminated=False):
    return [(1.0, state, reward, terminated)]


def world_of(rows):
    """A world from rows[s][a] = [(probability, next state, reward, terminated), …]."""
    return TabularEnv(TabularMDP.from_P({s: dict(enumerate(actions)) for s, actions in enumerate(rows)}))


#: A → B +1, B → A -1: a cycle worth nothing, beside an end for 0 and one for -5
SWING = [[go(1, 1.0), go(0, 0.0, True)], [go(0, -1.0), go(1, -5.0, True)]]
#: staying costs nothing; the end pays 1 from state 0, and state 1 leads there
REST = [[go(0, 0.0), go(0, 1.0, True)], [go(1, 0.0), go(0, 0.0)]]
#: state 0 rests, which is better than the end for -1; state 1 is passed on the way there
BETTER_REST = [[go(0, 0.0), go(0, -1.0, True)], [go(0, 2.0), go(1, 1.0, True)]]
CONTROL = [
    (sb3_lecture.ValueIteration, {}),
    (sb3_lecture.PolicyIteration, {}),
    (sb3_lecture.PolicyIteration, {"max_evaluation_sweeps": None}),
    (sb3_lecture.PolicyIteration, {"max_evaluation_sweeps": 1}),
]


@pytest.mark.parametrize(("cls", "kwargs"), CONTROL)
@pytest.mark.parametrize("initial_value", [0.0, 5.0, -5.0])
@pytest.mark.parametrize(
    ("rows", "values", "actions"),
    [(SWING, [0.0, -1.0], [1, 0]), (REST, [1.0, 1.0], [1, 1]), (BETTER_REST, [0.0, 2.0], [0, 0])],
    ids=["swing", "rest", "better rest"],
)
def test_undiscounted_ties_lead_neither_above_the_optimum_nor_in_circles(cls, kwargs, initial_value, rows, values, actions):
    model = cls(env=world_of(rows), gamma=1.0, initial_value=initial_value, **kwargs).learn(10**6)
    np.testing.assert_allclose(model.v_table, values, atol=1e-9)
    assert model.predict(np.arange(2), deterministic=True)[0].tolist() == actions


@settings(max_examples=40)
@given(seed=st.integers(0, 10**6), initial_value=st.sampled_from([0.0, 3.0, -3.0]), which=st.sampled_from(CONTROL))
def test_undiscounted_planning_says_what_the_solver_says_or_refuses(seed, initial_value, which):
    rng = np.random.default_rng(seed)
    rows = [[_random_outcomes(rng, 4) for _ in range(2)] for _ in range(4)]
    env, (cls, kwargs) = world_of(rows), which
    model = cls(env=env, gamma=1.0, initial_value=initial_value, **kwargs)
    try:
        v = modified_policy_iteration(env.mdp, 1.0).v
    except ValueError as refusal:
        v = np.full(4, np.nan)
        assert "unbounded" in str(refusal)
    if not np.isfinite(v).all():
        with pytest.raises(ValueError, match="gamma=1"):
            model.learn(10**6)
        return
    model.learn(10**6)
    np.testing.assert_allclose(model.v_table, v, atol=1e-7)
    policy = model.predict(np.arange(4), deterministic=True)[0]
    np.testing.assert_allclose(policy_evaluation(env.mdp, policy, 1.0), v, atol=1e-7)  # it ends, or stays for nothing


def _random_outcomes(rng, n_states):
    n = int(rng.integers(1, 3))
    draw = [(int(rng.integers(n_states)), float(rng.choice([-2, -1, 0, 0, 1])), bool(rng.random() < 0.25)) for _ in range(n)]
    return [(1 / n, *outcome) for outcome in draw]


def test_where_every_cycle_costs_undiscounted_sweeps_begin_where_they_are_told():
    line = [[go(0, -1.0), go(1, -1.0)], [go(0, -1.0), go(1, -1.0, True)]]
    watch = Watch(1)
    sb3_lecture.ValueIteration(env=world_of(line), gamma=1.0, initial_value=10.0).learn(10**6, callback=watch)
    assert watch.values[0].tolist() == [9.0, 8.0]  # state 0 → 1, or back; then 1 sees the new 9
    model = sb3_lecture.ValueIteration(env=world_of(line), gamma=1.0, initial_value=10.0).learn(10**6)
    np.testing.assert_allclose(model.v_table, [-2.0, -1.0], atol=1e-8)


def test_a_policy_that_stays_for_nothing_is_worth_nothing_whatever_the_table_held():
    # 0 stays; 1 stays or ends for 4, half and half; 2 goes to 0 for 3
    rows = [[go(0, 0.0), go(0, 9.0, True)], [go(1, 0.0), go(1, 4.0, True)], [go(0, 3.0), go(2, 0.0)]]
    pi = [[1.0, 0.0], [0.5, 0.5], [1.0, 0.0]]
    model = sb3_lecture.PolicyEvaluation(env=world_of(rows), target_policy=pi, gamma=1.0, initial_value=7.0, tol=1e-10)
    np.testing.assert_allclose(model.learn(10**6).v_table, [0.0, 4.0, 3.0], atol=1e-9)


@pytest.mark.parametrize("cls", PLANNERS)
def test_without_discount_the_tolerance_counts_the_steps_to_come(cls):
    """One state, left with chance 1/1000 at each step: a sweep's change is a thousandth of what is missing."""
    model = cls(env=world_of([[[(0.999, 0, -1.0, False), (0.001, 0, -1.0, True)]]]), gamma=1.0, tol=1e-3)
    assert abs(model.learn(10**9).v_table[0] + 1000.0) <= 1e-3


# ---- policy iteration, the box of section 4.3


def test_policy_iteration_counts_improvements_until_the_policy_is_stable():
    """A corridor of six cells, always left at first: improvement k can see the goal from cell 5 - k only."""
    n, gamma = 6, 0.9
    rows = [[go(max(s - 1, 0), 0.0), go(s + 1, float(s == n - 2), s == n - 2)] for s in range(n - 1)] + [
        [go(5, 0.0, True)] * 2
    ]
    counts = {}

    class Count(BaseCallback):
        def _on_step(self):
            logged = self.model.logger.name_to_value
            if "planning/improvements" in logged:
                counts[logged["planning/improvements"]] = (
                    logged["planning/changed_actions"],
                    logged["planning/policy_stable"],
                )
            return True

    model = sb3_lecture.PolicyIteration(env=world_of(rows), gamma=gamma, max_evaluation_sweeps=None)
    assert not model.policy_stable and model.n_improvements == 0
    model.learn(10**6, callback=Count(), log_interval=None)
    assert model.policy_stable and model.n_improvements == 6
    assert counts == {k: (1, 0) for k in range(1, 6)} | {6: (0, 1)}
    np.testing.assert_allclose(model.v_table, [0.9**4, 0.9**3, 0.81, 0.9, 1.0, 0.0], atol=1e-8)
    halted = sb3_lecture.PolicyIteration(env=world_of(rows), gamma=gamma, max_evaluation_sweeps=None).learn(n)
    assert not halted.policy_stable


def test_equally_good_policies_do_not_replace_one_another():
    """Exercise 4.4: both actions of state 0 are worth 1; the one that is there stays."""
    rows = [[go(1, 0.0), go(2, 0.0)], [go(1, 1.0, True)] * 2, [go(2, 1.0, True)] * 2]
    model = sb3_lecture.PolicyIteration(env=world_of(rows), gamma=1.0, max_evaluation_sweeps=None).learn(10**6)
    assert model.n_improvements == 1 and model.predict([0], deterministic=True)[0][0] == 0


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"tol": np.inf}, "tol=inf"),
        ({"tol": 0.0}, "tol=0.0"),
        ({"initial_value": np.nan}, "initial_value=nan"),
        ({"max_evaluation_sweeps": 0}, "max_evaluation_sweeps=0"),
    ],
)
def test_arguments_that_no_sweep_can_use_are_refused(kwargs, message):
    with pytest.raises(ValueError, match=message):
        sb3_lecture.PolicyIteration(env=world_of(SWING), **kwargs)
    model = sb3_lecture.PolicyEvaluation(env=world_of(SWING), gamma=0.9)
    model.v_table[1] = np.nan
    with pytest.raises(ValueError, match=r"v_table\[1\] is nan"):
        model.learn(10)


def test_a_policy_that_is_no_distribution_is_refused_with_its_state():
    with pytest.raises(ValueError, match=r"target_policy\[1\] is \[nan, 1.0\]"):
        sb3_lecture.PolicyEvaluation(env=world_of(SWING), target_policy=[[0.5, 0.5], [np.nan, 1.0]])
