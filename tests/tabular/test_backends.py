"""One rule, two loops: the env loop and the compiled loop give the same tables, calls, statistics and files."""

import importlib
import inspect
import os
import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.wrappers.common import TimeLimit
from stable_baselines3.common.callbacks import (
    BaseCallback,
    CallbackList,
    CheckpointCallback,
    EvalCallback,
    EventCallback,
    EveryNTimesteps,
    StopTrainingOnMaxEpisodes,
    StopTrainingOnRewardThreshold,
)
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import configure
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

import sb3_lecture
from sb3_lecture.common.compiling import fingerprint
from sb3_lecture.common.stepping import step_in_turn, step_together
from sb3_lecture.common.vec_env import make_native_vec_env
from sb3_lecture.exact import ExactEvalCallback
from sb3_lecture.tabular.base import TabularAlgorithm
from sb3_lecture.tabular.callback_calls import NEVER, NextCall, next_call
from sb3_lecture.tabular.planning import PlanningAlgorithm
from sb3_lecture_envs.mdp import TabularMDP
from sb3_lecture_envs.tabular_env import TabularEnv

WORLD = "Lecture/CliffWalking-v0"
LEARNERS = [
    (name, cls)
    for name, cls in ((name, getattr(sb3_lecture, name)) for name in sb3_lecture.__all__)
    if inspect.isclass(cls) and issubclass(cls, TabularAlgorithm) and not issubclass(cls, PlanningAlgorithm)
]
VARIANTS = [
    *((cls, {}) for _, cls in LEARNERS),
    (sb3_lecture.DynaQ, {"exploration_bonus": 0.01, "model_outcomes": 1}),
    (sb3_lecture.MonteCarloControl, {"importance_sampling": "weighted"}),
    (sb3_lecture.TDPrediction, {"n_steps": 3}),
    (sb3_lecture.TDPrediction, {"lambda_": 0.7}),
    (sb3_lecture.QLearning, {"learning_rate": "1/N"}),
    (sb3_lecture.SarsaLambda, {"traces": "accumulating"}),
    (sb3_lecture.QLambda, {"traces": "accumulating"}),
    (sb3_lecture.MonteCarloControl, {"importance_sampling": "ordinary"}),
    (sb3_lecture.MonteCarloControl, {"visits": "every"}),
    (sb3_lecture.MonteCarloControl, {"exploring_starts": True}),
    (sb3_lecture.NStepSarsa, {"expected": True}),
    (sb3_lecture.OffPolicyNStepSarsa, {"expected": True}),
    (sb3_lecture.TDPrediction, {"lambda_": 0.7, "traces": "true-online"}),
    (sb3_lecture.TDPrediction, {"lambda_": 0.7, "offline": True}),
    (sb3_lecture.QLearning, {"exploration": "softmax", "temperature": 0.5}),
    (sb3_lecture.QLearning, {"exploration": "ucb"}),
    (sb3_lecture.Sarsa, {"exploration": "softmax"}),
]


@pytest.mark.parametrize(("cls", "kwargs"), VARIANTS, ids=lambda x: x.__name__ if inspect.isclass(x) else str(x or ""))
@pytest.mark.parametrize("n_envs", [1, 3])
def test_both_loops_give_the_same_table(plain, cls, kwargs, n_envs):
    """As plain Python: that the compiled loops do what Python does is the next test's matter."""
    models = []
    for backend in ("env", "compiled"):
        env = make_vec_env(lambda: TimeLimit(gym.make(WORLD).unwrapped, 40), n_envs)
        models.append(cls(env=env, seed=5, backend=backend, **kwargs).learn(450))
    env, compiled = models
    assert (env.active_backend, compiled.active_backend) == ("env", "compiled")
    np.testing.assert_array_equal(env.policy.table.numpy(), compiled.policy.table.numpy())
    np.testing.assert_array_equal(env.policy.tries.numpy(), compiled.policy.tries.numpy())
    np.testing.assert_array_equal(env.policy.updates.numpy(), compiled.policy.updates.numpy())
    np.testing.assert_array_equal(env.memory.random_state()[0], compiled.memory.random_state()[0])
    assert env.policy.table.numpy().any()
    assert [(e["r"], e["l"]) for e in env.ep_info_buffer] == [(e["r"], e["l"]) for e in compiled.ep_info_buffer]
    assert env._episode_num == compiled._episode_num > 0


FAST = (  # tables of two kinds, a model, traces: seconds of compiling each
    "DoubleQLearning",
    "DynaQ",
    "QLearning",
    "SarsaLambda",
)


@pytest.mark.parametrize(
    ("_", "cls"),
    [pytest.param(name, cls, marks=[] if name in FAST else [pytest.mark.slow]) for name, cls in LEARNERS],
    ids=lambda x: x if isinstance(x, str) else "",
)
def test_compiled_rules_do_what_they_do_in_python(request, _, cls):
    """Three envs for 300 steps; only the exponential of the softmax may differ, in its last bits."""
    compiled = cls(env=make_vec_env(WORLD, 3), seed=5).learn(300)
    assert compiled.active_backend == "compiled"
    request.getfixturevalue("plain")
    python = cls(env=make_vec_env(WORLD, 3), seed=5).learn(300)
    np.testing.assert_allclose(compiled.policy.table.numpy(), python.policy.table.numpy(), rtol=1e-12, atol=1e-14)
    for name in ("tries", "updates", "epsilon"):
        np.testing.assert_array_equal(getattr(compiled.policy, name).numpy(), getattr(python.policy, name).numpy())
    np.testing.assert_array_equal(compiled.memory.random_state(), python.memory.random_state())


def test_compiled_batches_do_what_they_do_in_python(request):
    def learned(cls):
        policy = cls(env=make_vec_env(WORLD, 3), seed=5, backend="env").learn(300).policy
        return policy.table.numpy(), policy.tries.numpy(), policy.updates.numpy()

    classes = (sb3_lecture.QLearning, sb3_lecture.Sarsa)
    compiled = [learned(cls) for cls in classes]
    request.getfixturevalue("plain")
    for arrays, cls in zip(compiled, classes, strict=True):
        for one, other in zip(arrays, learned(cls), strict=True):
            np.testing.assert_array_equal(one, other)


def test_scheduled_learning_rates_agree_and_are_read(plain):
    """One arm that pays 1, α = ½ of what is left of the run: q is 1 - Π (1 - α)."""
    arm = TabularMDP.from_P({0: {0: [(1.0, 0, 1.0, True)]}}, 0)
    for backend in ("env", "compiled"):
        model = sb3_lecture.QLearning(env=TabularEnv(arm), seed=1, backend=backend, learning_rate=lambda left: 0.5 * left)
        rates = 0.5 * (1 - np.arange(10) / 10)
        assert model.learn(10).q_table.item() == pytest.approx(1 - np.prod(1 - rates), rel=1e-12), backend


def test_auto_backend_says_why():
    class Shift(gym.RewardWrapper):
        def reward(self, reward):
            return reward + 1

    def backend(env):
        return sb3_lecture.QLearning(env=env).active_backend

    assert backend(WORLD) == "compiled"
    assert backend(make_native_vec_env(WORLD, 4)) == "compiled"
    assert backend(gym.make("CliffWalking-v1")) == "env"
    assert backend(Shift(gym.make(WORLD))) == "env"
    assert backend(make_vec_env("Lecture/Maze-v0", 2)) == "compiled"
    assert backend(DummyVecEnv([lambda: gym.make("Lecture/TreasureLine-v0", n=6) for _ in range(2)])) == "compiled"
    with pytest.raises(ValueError, match="Shift may change what the env does"):
        _ = sb3_lecture.QLearning(env=Shift(gym.make(WORLD)), backend="compiled").active_backend
    assert sb3_lecture.QLearning(env="CliffWalking-v1", backend="compiled").active_backend == "compiled"


@pytest.mark.parametrize(
    ("env", "words"),
    [
        (WORLD, "QLearning runs compiled: the env carries its law"),
        ("CliffWalking-v1", "QLearning runs env: the env carries no TabularMDP"),
        (gym.wrappers.RecordEpisodeStatistics(gym.make(WORLD)), "the wrapper RecordEpisodeStatistics may change"),
    ],
    ids=["law", "no law", "wrapper"],
)
def test_the_log_says_which_loop_runs_and_why(tmp_path, env, words):
    model = sb3_lecture.QLearning(env=env)
    model.set_logger(configure(str(tmp_path), ["log"]))
    model.learn(1)
    model.logger.close()
    assert words in (tmp_path / "log.txt").read_text()


def test_training_scripts_run_compiled(monkeypatch):
    """rl_zoo3 puts a class of its own in place of gymnasium.wrappers.TimeLimit."""

    class Patched(TimeLimit):
        pass

    monkeypatch.setattr(gym.wrappers, "TimeLimit", Patched)
    assert sb3_lecture.QLearning(env=WORLD).active_backend == "compiled"
    assert sb3_lecture.QLearning(env=Patched(gym.make("Lecture/Maze-v0").unwrapped, 9)).active_backend == "compiled"


def test_a_plain_vec_env_is_stepped_as_its_own_step_would():
    actions = np.random.default_rng(0).integers(4, size=(300, 2))
    cut = {"wrapper_class": TimeLimit, "wrapper_kwargs": {"max_episode_steps": 7}}
    ours, theirs = (make_vec_env("CliffWalking-v1", 2, seed=0, **cut) for _ in range(2))
    for env in (ours, theirs):
        env.reset()
    for action in actions:
        one, other = step_in_turn(ours, action), step_together(theirs, action)
        for mine, its in zip(one[:5], other[:5], strict=True):
            np.testing.assert_array_equal(mine, its)
            assert np.asarray(mine).dtype == np.asarray(its).dtype
        for mine, its in zip(one.infos, other.infos, strict=True):
            assert {**mine, "episode": None} == {**its, "episode": None}
            assert ("episode" in mine) == ("episode" in its)


def test_compiled_statistics_reach_logger_and_monitor_file(tmp_path):
    env = Monitor(gym.make("Lecture/TreasureLine-v0"), str(tmp_path / "log"))
    model = sb3_lecture.QLearning(env=env, seed=0)
    model.set_logger(configure(str(tmp_path), ["csv"]))
    model.learn(2000, log_interval=10)
    env.close()
    model.logger.close()
    lines = (tmp_path / "log.monitor.csv").read_text().splitlines()[2:]
    assert len(lines) == model._episode_num
    last = [line.split(",") for line in lines[-3:]]
    assert [(float(r), int(n)) for r, n, _ in last] == [(e["r"], e["l"]) for e in list(model.ep_info_buffer)[-3:]]
    header = (tmp_path / "progress.csv").read_text().splitlines()
    assert "rollout/ep_rew_mean" in header[0] and len(header) - 1 == model._episode_num // 10


class EveryStep(BaseCallback):
    def __init__(self):
        super().__init__()
        self.seen = []

    def _on_step(self):
        self.seen.append((self.num_timesteps, bool(self.locals["dones"][0]), "episode" in self.locals["infos"][0]))
        return True


class CountEvents(BaseCallback):
    def __init__(self):
        super().__init__()
        self.at = []

    def _on_step(self):
        self.at.append(self.num_timesteps)
        return True


def callbacks(tmp_path, env):
    events = CountEvents()
    evaluate = EvalCallback(env, eval_freq=300, n_eval_episodes=2, verbose=0, warn=False)
    checkpoints = CheckpointCallback(250, str(tmp_path), name_prefix="m")
    tree = CallbackList([evaluate, CallbackList([checkpoints]), EveryNTimesteps(130, events), EventCallback()])
    return tree, evaluate, checkpoints, events


@pytest.mark.parametrize("n_envs", [1, 2])
def test_callbacks_count_the_same_in_both_loops(tmp_path, n_envs):
    outcome = {}
    for backend in ("env", "compiled"):
        tree, evaluate, checkpoints, events = callbacks(tmp_path / backend, make_vec_env("Lecture/TreasureLine-v0", 1))
        model = sb3_lecture.QLearning(env=make_vec_env("Lecture/TreasureLine-v0", n_envs), seed=2, backend=backend)
        model.learn(1000, callback=tree)
        files = sorted(path.name for path in (tmp_path / backend).iterdir())
        counts = (tree.n_calls, evaluate.n_calls, checkpoints.n_calls, evaluate.num_timesteps)
        outcome[backend] = (counts, files, events.at, evaluate.last_mean_reward)
    assert outcome["env"] == outcome["compiled"]
    assert outcome["env"][0][0] == 1000 // n_envs and len(outcome["env"][2]) >= 7 // n_envs


def test_an_unknown_callback_gets_every_step(tmp_path):
    seen = {}
    for backend in ("env", "compiled"):
        callback = EveryStep()
        model = sb3_lecture.QLearning(env="Lecture/TreasureLine-v0", seed=2, backend=backend)
        model.set_logger(configure(str(tmp_path / backend), ["log"]))
        model.learn(300, callback=callback)
        model.logger.close()
        seen[backend] = callback.seen
    assert seen["env"] == seen["compiled"]
    assert [t for t, _, _ in seen["env"]] == list(range(1, 301))
    assert any(done for _, done, _ in seen["env"]) and all(done == info for _, done, info in seen["env"])
    assert "every step stops for EveryStep" in (tmp_path / "compiled" / "log.txt").read_text()


@pytest.mark.parametrize("backend", ["env", "compiled"])
def test_stock_callbacks_stop_where_they_should(backend):
    model = sb3_lecture.QLearning(env="Lecture/TreasureLine-v0", seed=2, backend=backend)
    model.learn(10_000, callback=StopTrainingOnMaxEpisodes(7))
    assert model._episode_num == 7
    assert sum(e["l"] for e in model.ep_info_buffer) == model.num_timesteps
    stop = StopTrainingOnRewardThreshold(0.5)
    evaluate = EvalCallback(make_vec_env("Lecture/TreasureLine-v0", 1), stop, eval_freq=500, verbose=0, warn=False)
    model.learn(100_000, callback=evaluate)
    assert model.num_timesteps % 500 == 0 and model.num_timesteps < 100_000


def test_next_call_reads_the_tree(tmp_path):
    tree, evaluate, _, events = callbacks(tmp_path, make_vec_env("Lecture/TreasureLine-v0", 1))
    model = sb3_lecture.QLearning(env="Lecture/TreasureLine-v0")
    model.set_logger(configure(None, []))
    tree.init_callback(model)
    assert next_call(tree, 1, 1000) == NextCall(130, NEVER)
    assert next_call(evaluate, 1, 1000) == NextCall(300, NEVER)
    evaluate.n_calls = 299
    assert next_call(tree, 4, 1000) == NextCall(1, NEVER)
    assert next_call(events, 1, 1000) == NextCall(1, NEVER)
    assert next_call(StopTrainingOnMaxEpisodes(3), 1, 1000) == NextCall(NEVER, 1)


def test_exact_eval_callback_runs_compiled():
    callback = ExactEvalCallback(eval_freq=5000)
    sb3_lecture.QLearning(env=WORLD, seed=0, learning_rate=0.5).learn(20_000, callback=callback)
    assert [row[0] for row in callback.evaluations] == [0, 5000, 10_000, 15_000, 20_000]
    assert callback.n_calls == 20_000
    assert callback.last.regret == pytest.approx(0.0, abs=1e-9)


def test_progress_bar_arrives_at_the_end():
    model = sb3_lecture.QLearning(env=WORLD, seed=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # tqdm calls its rich bar experimental
        model.learn(5000, progress_bar=True)
    assert model.num_timesteps == 5000


def test_saved_and_continued_equals_uninterrupted(tmp_path):
    for cls in (sb3_lecture.QLearning, sb3_lecture.SarsaLambda, sb3_lecture.DynaQ, sb3_lecture.DoubleQLearning):
        model = cls(env="Lecture/TreasureLine-v0", seed=4).learn(3000)
        model.save(tmp_path / "model")
        loaded = cls.load(tmp_path / "model", env=gym.make("Lecture/TreasureLine-v0"))
        np.testing.assert_array_equal(loaded.policy.table.numpy(), model.policy.table.numpy())
        for name, value in model.memory.state_dict().items():
            np.testing.assert_array_equal(loaded.memory.state_dict()[name].numpy(), value.numpy(), err_msg=name)
        model.learn(2000)  # both start with a reset
        loaded.learn(2000)
        np.testing.assert_array_equal(loaded.policy.table.numpy(), model.policy.table.numpy())


def test_another_number_of_envs_can_go_on(tmp_path):
    model = sb3_lecture.SarsaLambda(env=make_vec_env(WORLD, 3), seed=4).learn(900)
    model.save(tmp_path / "model")
    loaded = sb3_lecture.SarsaLambda.load(tmp_path / "model", env=make_vec_env(WORLD, 2))
    np.testing.assert_array_equal(loaded.q_table, model.q_table)
    loaded.learn(100)
    assert loaded.n_envs == 2


def test_a_file_from_another_world_is_refused(tmp_path):
    small = sb3_lecture.QLearning(env=gym.make("Lecture/TreasureLine-v0", n=6))
    small.save(tmp_path / "model")
    large = sb3_lecture.QLearning(env=gym.make("Lecture/TreasureLine-v0", n=9))
    with pytest.raises(ValueError, match=r"\(9, 2\)[\s\S]*\[6, 2\]"):
        large.set_parameters(tmp_path / "model")
    with pytest.raises(ValueError, match=r"Discrete\(6\) != Discrete\(9\)"):
        sb3_lecture.QLearning.load(tmp_path / "model", env=gym.make("Lecture/TreasureLine-v0", n=9))


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"gamma": 1.1}, "gamma=1.1"),
        ({"learning_rate": 0.0}, "learning_rate=0.0"),
        ({"learning_rate": "1/n"}, "'1/N'"),
        ({"exploration": "greedy"}, "epsilon-greedy"),
        ({"backend": "fast"}, "'compiled'"),
        ({"temperature": 0.0}, "temperature=0.0"),
        ({"env": "CartPole-v1"}, "DiscretizeObservation"),
        ({"env": "Pendulum-v1"}, "Discrete"),
    ],
)
def test_wrong_arguments_are_named(kwargs, words):
    with pytest.raises(ValueError, match=words):
        sb3_lecture.QLearning(**{"env": WORLD, **kwargs})


def test_an_edited_helper_recompiles_the_loops(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_helper.py").write_text("RATE = 0.5\n\ndef step(x):\n    return RATE * x\n")
    (tmp_path / "my_rule.py").write_text("from my_helper import step\n\ndef update(x):\n    return step(x)\n")
    update = importlib.import_module("my_rule").update
    before = fingerprint(update)
    assert fingerprint(update) == before
    (tmp_path / "my_helper.py").write_text("RATE = 0.5\n\ndef step(x):\n    return RATE + x\n")
    assert fingerprint(update) != before


@pytest.mark.slow
def test_kernels_come_from_the_disk_cache_in_a_new_process(tmp_path):
    """The smallest of the loops, without the learners' imports."""
    code = (
        "import numpy as np\n"
        "from sb3_lecture.tabular.kernels import Agent, Nothing, choose\n"
        "from sb3_lecture.tabular.loop import EpsilonSchedule, compile_rules\n"
        "count = np.zeros((1, 2), np.int64)\n"
        "rng = np.zeros(2, np.uint64)\n"
        "agent = Agent(np.zeros((1, 2)), count, count, rng, np.ones(1), 0.1, 0.9, (), 1.0, 1.0, Nothing(), Nothing())\n"
        "act = compile_rules(choose, choose).act_batch\n"
        "assert act(agent, EpsilonSchedule(1.0, 1.0, 0.0), 0, np.zeros(1, np.int64), np.zeros(1, np.int64)) == -1\n"
        "print(sum(act.stats.cache_hits.values()), sum(act.stats.cache_misses.values()))"
    )
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    counts = [
        subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True) for _ in range(2)
    ]
    assert [done.stdout.split() for done in counts] == [["0", "1"], ["1", "0"]]
