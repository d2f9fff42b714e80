"""The env objects and the model agree, whichever loop has run: switching loops, time limits, Monitors, counters, tables."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers.common import TimeLimit
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecMonitor

import sb3_lecture
from sb3_lecture.common.vec_env import GymnasiumVecEnv
from sb3_lecture.tabular.kernels import choose
from sb3_lecture.tabular.loop import compile_rules, make_walk, make_world, plain_run
from sb3_lecture.tabular.policy import TabularPolicy
from sb3_lecture_envs.mdp import TabularMDP
from sb3_lecture_envs.tabular_env import TabularEnv

CLIFF = "Lecture/CliffWalking-v0"


def cliff(kind, n_envs=2):
    """Envs of the cliff that are cut after 37 steps, so that a limit falls between two calls of learn."""
    if kind == "native":
        return GymnasiumVecEnv(gym.make_vec(CLIFF, n_envs, max_episode_steps=37, autoreset_mode="SAME_STEP"))
    env = make_vec_env(lambda: TimeLimit(gym.make(CLIFF).unwrapped, 37), n_envs)
    return VecMonitor(DummyVecEnv([lambda: TimeLimit(gym.make(CLIFF).unwrapped, 37)])) if kind == "vec-monitor" else env


def told(env):
    """What an env's objects say of the running and the ended episodes."""
    if isinstance(env, VecMonitor):
        limits = [e._elapsed_steps for e in env.venv.envs]
        return [env.episode_returns.tolist(), env.episode_lengths.tolist(), limits, env.get_attr("state")]
    if isinstance(env, DummyVecEnv):
        monitors = env.envs
        return [
            [(m.get_episode_rewards(), m.get_episode_lengths(), len(m.get_episode_times())) for m in monitors],
            [(sum(m.rewards), len(m.rewards), m.needs_reset) for m in monitors],
            [m.env._elapsed_steps for m in monitors],
            env.get_attr("state"),
        ]
    return [env._returns.tolist(), env._lengths.tolist(), env.venv.unwrapped.elapsed.tolist(), env.get_attr("state")]


@pytest.mark.parametrize("kind", ["monitors", "native", "vec-monitor"])
@pytest.mark.parametrize("cls", [sb3_lecture.QLearning, sb3_lecture.SarsaLambda])
def test_switching_the_loop_between_two_calls_changes_nothing(plain, cls, kind):
    outcome = {}
    for backends in (("env", "env", "env"), ("compiled", "env", "compiled"), ("env", "compiled", "env")):
        model = cls(env=cliff(kind), seed=3, exploration_fraction=0.0, exploration_final_eps=0.2)
        for k, backend in enumerate(backends):
            model.backend = backend
            model.learn(250, reset_num_timesteps=k == 0)
        episodes = [(e["r"], e["l"]) for e in model.ep_info_buffer]
        outcome[backends] = (model.q_table.tolist(), model.policy.tries.tolist(), episodes, told(model.env))
    first, *others = outcome.values()
    assert all(other == first for other in others)
    assert model._episode_num > 5


def test_every_monitor_hears_of_its_own_episodes(plain, tmp_path):
    env = make_vec_env("Lecture/TreasureLine-v0", 2, monitor_dir=str(tmp_path))
    model = sb3_lecture.QLearning(env=env, seed=0, stats_window_size=3).learn(2000)
    env.close()
    for i, monitor in enumerate(env.envs):
        lines = (tmp_path / f"{i}.monitor.csv").read_text().splitlines()[2:]
        assert [round(r, 6) for r in monitor.get_episode_rewards()] == [float(line.split(",")[0]) for line in lines]
        assert monitor.get_episode_lengths() == [int(line.split(",")[1]) for line in lines]
        assert sum(monitor.get_episode_lengths()) + len(monitor.rewards) == 1000
    assert sum(len(m.get_episode_lengths()) for m in env.envs) == model._episode_num > 20


def two_arms():
    return TabularEnv(TabularMDP.from_P({0: {0: [(1.0, 0, 0.0, True)], 1: [(1.0, 0, 1.0, True)]}}, 0))


def test_predict_takes_the_epsilon_that_is_written():
    model = sb3_lecture.QLearning(env=two_arms(), seed=0)
    model.q_table[:] = [[0.0, 1.0]]
    model.exploration_rate = 0.0
    assert set(model.predict(np.zeros(50, int))[0]) == {1}
    model.exploration_rate = 1.0
    assert set(model.predict(np.zeros(50, int))[0]) == {0, 1}
    with pytest.raises(ValueError, match=r"exploration_rate.*1\.5"):
        model.exploration_rate = 1.5


ONE_STEP = [
    sb3_lecture.QLearning, sb3_lecture.DoubleQLearning, sb3_lecture.Sarsa, sb3_lecture.ExpectedSarsa, sb3_lecture.NStepSarsa,
    sb3_lecture.SarsaLambda, sb3_lecture.QLambda, sb3_lecture.MonteCarloControl, sb3_lecture.DynaQ,
    sb3_lecture.PrioritizedSweeping,
]  # fmt: skip


@pytest.mark.parametrize("cls", ONE_STEP)
@pytest.mark.parametrize("backend", ["env", "compiled"])
def test_ucb_finds_the_better_arm_and_counts_each_selection_once(plain, cls, backend):
    model = cls(env=two_arms(), seed=0, exploration="ucb", backend=backend).learn(300)
    tries = model.policy.tries.numpy()[0]
    assert tries.sum() == 300 and tries[1] > 250
    assert model.predict(0, deterministic=True)[0] == 1
    for _ in range(50):
        model.learn(1, reset_num_timesteps=False)
    assert model.policy.tries.numpy().sum() == 350


def test_selections_are_counted_when_they_are_made(plain):
    """Learners that wait for n steps or for the episode's end count at once; planning counts updates only."""
    for cls, kwargs, updates in (
        (sb3_lecture.MonteCarloControl, {}, 0), (sb3_lecture.NStepSarsa, {"n_steps": 6}, 0),
        (sb3_lecture.DynaQ, {"n_planning_steps": 3}, 20), (sb3_lecture.TDPrediction, {}, 5),
    ):  # fmt: skip
        model = cls(env=gym.make("Lecture/RandomWalk-v0", n=19), seed=0, **kwargs).learn(5)
        assert model.policy.tries.numpy().sum() == 5, cls
        assert model.policy.updates.numpy().sum() == updates, cls


@pytest.mark.parametrize("n_envs", [1, 3])
@pytest.mark.parametrize("world", ["certain", "chance"])
def test_the_compiled_loop_does_what_the_plain_one_does(n_envs, world):
    """Bit by bit: table, counters and random numbers."""
    if world == "certain":
        mdp = gym.make(CLIFF).unwrapped.mdp
    else:
        mdp = TabularMDP.from_P(
            {s: {a: [(0.5, (s + 1) % 6, s - a, s == 4), (0.3, s, 0.5, False), (0.2, 0, -1, a == 1)] for a in range(4)}
             for s in range(6)}, start=[0.4, 0, 0.6, 0, 0, 0],
        )  # fmt: skip
    models = [sb3_lecture.QLearning(env=TabularEnv(mdp), seed=7) for _ in range(2)]
    agents, limit, steps = [model._agent() for model in models], 23, 400
    schedule = models[0]._epsilon_schedule(600)
    first = np.full(n_envs, mdp.start_state[0])
    walk = make_walk(first, 10)
    state, elapsed = first.tolist(), [0] * n_envs
    with np.errstate(over="ignore"):
        compile_rules(*models[0]._rules()).run(agents[0], make_world(mdp, limit), walk, schedule, 0, steps, 10**9)
        plain_run(*models[1]._rules(), agents[1], mdp, limit, state, elapsed, schedule, 0, steps)
    for one, other in zip(agents[0][:5], agents[1][:5], strict=True):
        np.testing.assert_array_equal(one, other)
    assert (walk.state.tolist(), walk.elapsed.tolist()) == (state, elapsed)
    assert agents[0].tries.sum() == steps * n_envs


def test_writing_into_the_table_of_double_q_learning_is_learned(plain):
    model = sb3_lecture.DoubleQLearning(env=two_arms(), seed=0, exploration_final_eps=0.0).learn(50)
    model.q_table[0] = [5.0, -5.0]
    model.learn(10, reset_num_timesteps=False)
    assert 0 < model.q_table[0, 0] < 5.0 and model.q_table[0, 1] == -5.0  # the arm that was written up is tried, and sinks
    np.testing.assert_allclose(model.q_tables.mean(axis=0), model.q_table, rtol=1e-12)


class Numbered(gym.Env):
    """States k and k + 1, actions m and m + 1; the second action goes on, and ends with reward 1."""

    def __init__(self, observations=3, actions=1):
        self.observation_space = gym.spaces.Discrete(2, start=observations)
        self.action_space = gym.spaces.Discrete(2, start=actions)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.at = int(self.observation_space.start)
        return self.at, {}

    def step(self, action):
        assert self.action_space.contains(action)
        start, first = int(self.observation_space.start), int(self.action_space.start)
        on = action == first + 1
        end = bool(self.at == start + 1 and on)
        self.at = start + on
        return self.at, float(end), end, False, {}


@pytest.mark.parametrize("cls", [*ONE_STEP, sb3_lecture.GradientBandit])
@pytest.mark.parametrize(("observations", "actions"), [(3, 1), (-2, -1)])
def test_spaces_may_start_anywhere(plain, cls, observations, actions):
    model = cls(env=Numbered(observations, actions), seed=0, gamma=0.5, exploration_final_eps=0.9)
    if cls is sb3_lecture.GradientBandit:
        model = cls(env=Numbered(observations, actions), seed=0, learning_rate=2.0)  # larger than 1: preferences have no scale
    model.learn(800)
    states = np.array([observations, observations + 1])
    chosen = model.predict(states, deterministic=True)[0]
    assert chosen[1] == actions + 1
    assert set(model.predict(np.repeat(states, 50), deterministic=False)[0]) <= {actions, actions + 1}
    if cls is not sb3_lecture.GradientBandit:
        assert chosen[0] == actions + 1
        assert model.q_table.max() == pytest.approx(1.0, abs=0.1)


@pytest.mark.parametrize("cls", [sb3_lecture.TDPrediction, sb3_lecture.MonteCarloPrediction])
@pytest.mark.parametrize(("observations", "actions"), [(3, 1), (-2, -1)])
def test_predictions_in_spaces_that_start_anywhere(plain, cls, observations, actions):
    model = cls(env=Numbered(observations, actions), seed=0, gamma=0.5, target_policy=[1, 1]).learn(400)
    np.testing.assert_allclose(model.v_table, [0.5, 1.0], atol=1e-3)
    np.testing.assert_array_equal(model.predict([observations, observations + 1])[0], [actions + 1] * 2)


def test_arguments_of_the_policy_may_stand_in_policy_kwargs(plain):
    settings = {"exploration": "softmax", "temperature": 0.25, "ucb_c": 3.0, "initial_value": 2.0}
    models = [
        sb3_lecture.QLearning(env=two_arms(), seed=0, **settings),
        sb3_lecture.QLearning(env=two_arms(), seed=0, policy_kwargs=settings),
    ]
    for model in models:
        assert model.q_table.tolist() == [[2.0, 2.0]] and model._agent().temperature == 0.25
        assert (model.policy.exploration, model.policy.ucb_c) == ("softmax", 3.0)
        model.learn(50)
    np.testing.assert_array_equal(models[0].q_table, models[1].q_table)
    with pytest.raises(ValueError, match=r"policy_kwargs=\['net_arch'\]; TabularPolicy takes exploration, temperature, ucb_c"):
        sb3_lecture.QLearning(env=two_arms(), policy_kwargs={"net_arch": [64]})
    with pytest.raises(ValueError, match=r"temperature=0\.0"):
        sb3_lecture.QLearning(env=two_arms(), policy_kwargs={"temperature": 0.0})
    policy = [[0.0, 1.0]]
    given = sb3_lecture.TDPrediction(env=two_arms(), policy_kwargs={"target_policy": policy})
    assert given.action_probabilities(0).tolist() == policy


class Stubborn(TabularPolicy):
    """Always takes the last action."""

    def _behaviour(self, states):
        return np.eye(2)[np.ones(len(states), int)]


def act_last(agent, i, s):
    return agent.q.shape[1] - 1


class StubbornQ(sb3_lecture.QLearning):
    def _rules(self):
        return act_last, super()._rules()[1]


def test_a_behaviour_that_no_rule_would_ask_is_refused(plain):
    with pytest.raises(ValueError, match=r"Stubborn overrides _behaviour, but QLearning acts by the compiled rule choose"):
        sb3_lecture.QLearning(Stubborn, two_arms())
    assert sb3_lecture.QLearning(env=two_arms())._rules()[0] is choose
    model = StubbornQ(Stubborn, two_arms(), seed=0, exploration_final_eps=1.0).learn(20)
    assert model.policy.tries.tolist() == [[0, 20]]


@pytest.mark.parametrize("backend", ["env", "compiled"])
def test_values_that_are_no_numbers_are_named(plain, backend):
    model = sb3_lecture.QLearning(env=CLIFF, seed=0, backend=backend)
    model.q_table[5, 2] = np.nan
    with pytest.raises(ValueError, match="holds nan in state 5, column 2, before learning"):
        model.learn(10)
    huge = TabularEnv(TabularMDP.from_P({0: {0: [(1.0, 0, 1e308, False)]}}, 0))
    diverging = sb3_lecture.QLearning(env=huge, seed=0, learning_rate=1.0, gamma=1.0, backend=backend)
    with np.errstate(all="ignore"), pytest.raises(ValueError, match=r"holds inf in state 0, column 0, after 2 .* diverged"):
        diverging.learn(2)


class Broken(gym.Env):
    observation_space, action_space = gym.spaces.Discrete(2), gym.spaces.Discrete(2)

    def __init__(self, observation=1, reward=0.0, first=0):
        self.after, self.reward, self.first = observation, reward, first

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.first, {}

    def step(self, action):
        return self.after, self.reward, False, False, {}


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"reward": np.nan}, "Env 0 gave the reward nan for action"),
        ({"reward": -np.inf}, "Env 0 gave the reward -inf for action"),
        ({"observation": 2}, r"Env 0 gave the observation 2, which is outside Discrete\(2\)"),
        ({"observation": -1}, r"Env 0 gave the observation -1"),
        ({"first": 7}, r"Env 0 gave the observation 7"),
    ],
)
def test_envs_that_break_their_promise_are_named(plain, kwargs, words):
    with pytest.raises(ValueError, match=words):
        sb3_lecture.QLearning(env=Broken(**kwargs), seed=0).learn(10)


NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("cls", "name", "value", "error"),
    [
        *((sb3_lecture.QLearning, "gamma", value, ValueError) for value in (-1, 2, NAN)),
        *((sb3_lecture.QLearning, "learning_rate", value, ValueError) for value in (NAN, 0.0, -0.5, 1.5, INF, "1/n")),
        *((sb3_lecture.QLearning, "ucb_c", value, ValueError) for value in (NAN, INF, -1.0)),
        *((sb3_lecture.QLearning, "temperature", value, ValueError) for value in (NAN, INF, 0.0, -1.0)),
        *((sb3_lecture.QLearning, "exploration_final_eps", value, ValueError) for value in (INF, NAN, -0.1)),
        *((sb3_lecture.QLearning, "exploration_initial_eps", value, ValueError) for value in (1.1, NAN)),
        *((sb3_lecture.QLearning, "exploration_fraction", value, ValueError) for value in (2, NAN)),
        *((sb3_lecture.QLearning, "initial_value", value, ValueError) for value in (NAN, -INF)),
        (sb3_lecture.QLearning, "gamma", "0.9", TypeError),
        (sb3_lecture.QLearning, "temperature", None, TypeError),
        (sb3_lecture.GradientBandit, "learning_rate", INF, ValueError),
        (sb3_lecture.NStepSarsa, "n_steps", 0, ValueError),
        (sb3_lecture.NStepSarsa, "n_steps", 2.5, TypeError),
        (sb3_lecture.NStepSarsa, "expected", 1, ValueError),
        *((cls, "target_eps", 1.5, ValueError)
          for cls in (sb3_lecture.OffPolicyNStepSarsa, sb3_lecture.TreeBackup, sb3_lecture.QSigma)),
        (sb3_lecture.TreeBackup, "n_steps", 0, ValueError),
        (sb3_lecture.QSigma, "n_steps", 2.5, TypeError),
        *((sb3_lecture.QSigma, "sigma", value, ValueError) for value in (-0.1, 1.5, NAN)),
        (sb3_lecture.QSigma, "control_variate", 2, ValueError),
        (sb3_lecture.MonteCarloControl, "exploring_starts", 1, ValueError),
        (sb3_lecture.SarsaLambda, "lambda_", NAN, ValueError),
        (sb3_lecture.DynaQ, "n_planning_steps", -1, ValueError),
        (sb3_lecture.DynaQ, "exploration_bonus", NAN, ValueError),
        (sb3_lecture.DynaQ, "model_outcomes", 0, ValueError),
        (sb3_lecture.PrioritizedSweeping, "threshold", NAN, ValueError),
        (sb3_lecture.PrioritizedSweeping, "n_planning_steps", 0, ValueError),
        (sb3_lecture.MonteCarloControl, "max_episode_length", 0, ValueError),
        (sb3_lecture.MonteCarloControl, "visits", "last", ValueError),
        (sb3_lecture.TDPrediction, "n_steps", 0, ValueError),
    ],
)  # fmt: skip
def test_arguments_out_of_their_range_are_named(cls, name, value, error):
    with pytest.raises(
        error, match=f"{name}={value}".replace("=1/n", "='1/n'").replace("=0.9", "=.?0.9").replace("last", ".last")
    ):
        cls(env=two_arms(), **{name: value})


def test_numpy_numbers_are_numbers():
    model = sb3_lecture.NStepSarsa(
        env=two_arms(), n_steps=np.int32(3), gamma=np.float32(0.5), learning_rate=np.float64(0.5), ucb_c=np.float32(2.0)
    )
    assert model.memory.reward.shape == (1, 3)


def test_a_schedule_that_leaves_its_range_is_named(plain):
    for schedule in (lambda left: -0.1, lambda left: NAN, lambda left: 2.0 if left < 0.5 else 0.1):
        with pytest.raises(ValueError, match="learning_rate: the schedule says"):
            sb3_lecture.QLearning(env=two_arms(), seed=0, learning_rate=schedule).learn(100)


@pytest.mark.parametrize("kind", ["weighted", "ordinary"])
def test_off_policy_monte_carlo_needs_a_behaviour_that_covers(kind):
    for kwargs, words in (({"exploration": "ucb"}, "coverage"), ({"exploration_final_eps": 0.0}, "exploration_final_eps=0.0")):
        with pytest.raises(ValueError, match=words):
            sb3_lecture.MonteCarloControl(env=two_arms(), importance_sampling=kind, **kwargs)
    sb3_lecture.MonteCarloControl(env=two_arms(), importance_sampling=kind, exploration="softmax", exploration_final_eps=0.0)


def test_files_of_the_first_version_are_understood(plain):
    """They held ``visits`` in place of tries and updates, both tables of double Q-learning, and other traces."""
    model = sb3_lecture.DoubleQLearning(env=two_arms(), seed=0)
    old = model.get_parameters()
    visits = old["policy"].pop("updates") + 3
    del old["policy"]["tries"]
    old["policy"]["visits"] = visits
    for name in ("half_gap", "rows", "row"):
        del old["memory"][name]
    tables = np.array([[[1.0, 2.0]], [[3.0, 6.0]]])
    old["memory"]["tables"] = old["policy"]["table"].new_tensor(tables)
    old["policy"]["table"] = old["policy"]["table"].new_tensor(tables.mean(axis=0))
    model.set_parameters(old)
    np.testing.assert_array_equal(model.q_tables, tables)
    assert model.policy.tries.tolist() == model.policy.updates.tolist() == [[3, 3]]
    online = sb3_lecture.TDPrediction(env=two_arms(), lambda_=0.5, traces="true-online")
    old = online.get_parameters()
    moved = old["memory"].pop("moved")
    old["memory"] |= {"old_value": moved, "active": old["memory"].pop("active_state")}
    del old["memory"]["active_action"]
    del old["policy"]["tries"]
    old["policy"]["visits"] = old["policy"].pop("updates") + 2
    online.set_parameters(old)
    assert online.policy.updates.tolist() == [[2]] and online.policy.tries.tolist() == [[0, 0]]
    online.learn(20)
