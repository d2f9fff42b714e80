"""What is saved and loaded in another process goes on as if nothing had happened, bit for bit, for every class of ours.

This file is a script too: the other process runs it. All models of a number of envs share one.
"""

import hashlib
import json
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import A2C, SAC
from stable_baselines3.common.callbacks import EveryNTimesteps
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecNormalize
from test_contract import OURS, build

from sb3_lecture import (
    LSTD,
    REINFORCE,
    ActorCritic,
    AlphaZero,
    PolicyEvaluation,
    PolicyIteration,
    PPOPenalty,
    QLearning,
    SemiGradientSarsa,
    ValueIteration,
)
from sb3_lecture.common import checkpoint
from sb3_lecture.common.env_state import CannotSave, SubprocVecEnv, get_env_state, set_env_state
from sb3_lecture.common.packing import pack, unpack
from sb3_lecture.common.vec_env import make_native_vec_env
from sb3_lecture.exact.board_grading import BoardEvalCallback
from sb3_lecture.zoo import registry
from sb3_lecture.zoo.resuming import RunCheckpoint

#: whose parameters the second half leaves alone: planners that are done at once, a walk of a thousand states that is paid at
#: its ends alone, and a controller whose generation is not over yet
STILL = (
    "value_iteration", "policy_iteration", "policy_evaluation", "gradient_td", "lstd", "semi_gradient_td", "world_models",
)  # fmt: skip
STEPS = 61  # of each half: inside an episode, a rollout and a batch of games
#: what says when learning began, and how long it took
CLOCKS = ("t", "elapsed", "start_time", "_num_timesteps_at_start")
#: cases beside the registry's own worlds: algorithm, env, what else
MORE = {
    "native": ("q_learning", lambda: make_native_vec_env("Lecture/Maze-v0", 3, seed=1)),
    "env_backend": ("q_learning", lambda: make_vec_env("FrozenLake-v1", 2, seed=1)),
    "normalized": ("actor_critic", lambda: VecNormalize(make_vec_env("CartPole-v1", 2, seed=1))),
    "games": ("alphazero", lambda: make_native_vec_env("Lecture/TicTacToe-v0", 4, seed=1)),
    "random_opponent": ("muzero", lambda: make_native_vec_env("Lecture/TicTacToe-v0", 3, 1, {"opponent": "random"})),
    "pixels": ("barebone_dqn", lambda: make_vec_env("Lecture/MiniBreakout-v0", 2, seed=1)),
    "cliff": ("q_learning", lambda: make_vec_env("CliffWalking-v1", 2, seed=1)),
}  # fmt: skip


def callback():
    return EveryNTimesteps(25, callback=None)


def again(name, n_envs):
    """The model as a new process would build it, and its env."""
    if name in MORE:
        algo, make = MORE[name]
        policy = "MlpPolicy"
        env = make()
        cls = registry.algorithm(algo)
        settings = {"seed": 3}
        if algo not in ("q_learning",):
            settings |= {"device": "cpu", "policy_kwargs": {"net_arch": [8]}}
        if algo in ("barebone_dqn", "muzero", "alphazero"):
            settings |= {"learning_starts": 20, "buffer_size": 300, "batch_size": 8}
        if algo in ("muzero", "alphazero"):
            settings |= {"n_simulations": 4}
        return cls(policy, env, **settings), env
    model = build(name, n_envs)
    return model, model.env


def content(path):
    """All that a file holds but for clocks, with each array's bytes in its place."""
    with zipfile.ZipFile(path) as archive:
        head = json.loads(archive.read("content.json"))["content"]
        sums = {}
        for name in archive.namelist():
            if name.startswith("arrays/"):
                sums[int(name[7:-4])] = hashlib.sha256(archive.read(name)).hexdigest()

    def walk(part):
        if isinstance(part, dict):
            if part.get("~") in ("array", "tensor", "scalar"):
                return {**part, "v": sums[part["v"]]}
            return {key: walk(inner) for key, inner in part.items() if key not in CLOCKS}
        return [walk(inner) for inner in part] if isinstance(part, list) else part

    return walk(head)


def differences(a, b, where=""):
    if isinstance(a, dict) and isinstance(b, dict):
        return [d for key in {*a, *b} for d in differences(a.get(key), b.get(key), f"{where}.{key}")]
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        return [d for i, (x, y) in enumerate(zip(a, b, strict=True)) for d in differences(x, y, f"{where}[{i}]")]
    return [] if a == b else [f"{where}: {str(a)[:60]} != {str(b)[:60]}"]


def run_elsewhere(folder, names, n_envs):
    """Let another process load each model, learn on and save it."""
    command = [sys.executable, __file__, str(folder), str(n_envs), *names]
    done = subprocess.run(command, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr[-3000:]


def main():
    folder, n_envs, *names = sys.argv[1:]
    warnings.simplefilter("error", UserWarning)
    np.random.seed(12345)  # nothing of this process may matter
    for name in names:
        model, env = again(name, int(n_envs))
        loaded = type(model).load(Path(folder) / f"{name}.zip", env=env)
        loaded.learn(STEPS, callback=callback(), reset_num_timesteps=False)
        loaded.save(Path(folder) / f"{name}_there.zip", include_replay=True)


def check(tmp_path, names, n_envs):
    for name in names:
        model, _ = again(name, n_envs)
        counter = callback()
        model.learn(STEPS, callback=counter)
        model.save(tmp_path / f"{name}.zip", include_replay=True)
        model.learn(STEPS, callback=counter, reset_num_timesteps=False)
        model.save(tmp_path / f"{name}_here.zip", include_replay=True)
    run_elsewhere(tmp_path, names, n_envs)
    wrong = {}
    for name in names:
        here, there = content(tmp_path / f"{name}_here.zip"), content(tmp_path / f"{name}_there.zip")
        if found := differences(here, there):
            wrong[name] = found[:8]
        before = content(tmp_path / f"{name}.zip")
        assert before["params"] != here["params"] or name in STILL, name
    assert not wrong, "\n".join(f"{name}: {found}" for name, found in wrong.items())


@pytest.mark.slow  # one to two minutes of processor time each
@pytest.mark.parametrize("n_envs", [1, 8])
def test_every_class_goes_on_in_another_process_as_if_nothing_had_happened(n_envs, tmp_path):
    check(tmp_path, OURS, n_envs)


def test_every_kind_of_env_goes_on_where_it_stood(tmp_path):
    check(tmp_path, list(MORE), 1)


class At(RunCheckpoint):
    """The checkpoint of one chance alone."""

    def __init__(self, folder, chance):
        super().__init__(folder, every=0.0)
        self.left = chance

    def _save(self):
        self.left -= 1
        if self.left == 0:
            super()._save()


#: what goes on from the midst of its ``learn``: class, env, arguments, steps, and the chance at which it is saved
MIDST = {
    "sweeps": (ValueIteration, "Lecture/Maze-v0", {}, 10**6, 5),
    "ending sweeps": (ValueIteration, "Lecture/CliffWalking-v0", {"gamma": 1.0}, 10**6, 3),
    "evaluation": (PolicyIteration, "Lecture/Maze-v0", {"max_evaluation_sweeps": 7}, 10**6, 5),
    "improvement": (PolicyIteration, "Lecture/Maze-v0", {"max_evaluation_sweeps": 7}, 10**6, 7),
    "last improvement": (PolicyIteration, "Lecture/Maze-v0", {"max_evaluation_sweeps": 7}, 10**6, 13),
    "given policy": (PolicyEvaluation, "Lecture/RandomWalk-v0", {"gamma": 1.0}, 84, 2),
    "all sweeps it may": (PolicyEvaluation, "Lecture/RandomWalk-v0", {"gamma": 1.0}, 84, 4),
    "linear control": (SemiGradientSarsa, "MountainCar-v0", {}, 90, 40),
    "linear prediction": (LSTD, "Lecture/RandomWalk-v0", {"lambda_": 0.5}, 90, 40),
    "gSDE, A2C's": (ActorCritic, "Pendulum-v1", {"use_sde": True, "n_steps": 7}, 70, 4),
    "gSDE, drawn again": (PPOPenalty, "Pendulum-v1", {"use_sde": True, "sde_sample_freq": 3, "n_steps": 64}, 192, 1),
    "gSDE, REINFORCE's": (REINFORCE, "Pendulum-v1", {"use_sde": True, "n_episodes": 1}, 600, 1),
    "gSDE, SB3's": (A2C, "Pendulum-v1", {"use_sde": True, "n_steps": 7}, 70, 4),
    "gSDE, off-policy": (SAC, "Pendulum-v1", {"use_sde": True, "learning_starts": 5, "batch_size": 4}, 60, 30),
}  # fmt: skip


@pytest.mark.parametrize("name", MIDST)
def test_a_checkpoint_in_the_midst_of_learning_goes_on_as_if_nothing_had_happened(name, tmp_path):
    cls, env, arguments, steps, chance = MIDST[name]
    small = {"policy_kwargs": {"net_arch": [8]}, "device": "cpu"} if "Pendulum" in env else {}

    def make():
        return cls("MlpPolicy", make_vec_env(env, 1, seed=1), seed=3, **small, **arguments)

    whole = make().learn(steps, callback=At(tmp_path, chance))
    checkpoint.save(whole, tmp_path / "whole.zip")
    np.random.seed(0)
    resumed = checkpoint.load(tmp_path / "checkpoint.zip", env=make().env, device="cpu")
    left = steps - resumed.num_timesteps
    assert 0 <= left < steps
    resumed.learn(left, reset_num_timesteps=False, callback=At(tmp_path, -1))
    checkpoint.save(resumed, tmp_path / "resumed.zip")
    assert not differences(content(tmp_path / "whole.zip"), content(tmp_path / "resumed.zip"))


@pytest.mark.slow  # six processes
def test_ratings_and_opponents_go_on_where_they_stood(tmp_path):
    """Elo places a checkpoint by games against the last ones, and opponents draw their moves on: both are kept."""

    def grader():
        return BoardEvalCallback(eval_freq=32, n_games=6, opponents=["random"], n_checkpoints=2, seed=5)

    def build():
        env = make_native_vec_env("Lecture/TicTacToe-v0", 2)
        return AlphaZero("MlpPolicy", env, n_simulations=4, learning_rate=0.05, batch_size=16, learning_starts=10,
                         policy_kwargs={"net_arch": [8]}, device="cpu", seed=1)  # fmt: skip

    whole, model = grader(), build()
    model.learn(64, callback=whole)
    model.learn(64, callback=whole, reset_num_timesteps=False)
    begun, first = grader(), build()
    first.learn(64, callback=begun)
    first.save(tmp_path / "model.zip", include_replay=True)
    gone_on = grader()
    AlphaZero.load(tmp_path / "model.zip", env=make_native_vec_env("Lecture/TicTacToe-v0", 2)).learn(
        64, callback=gone_on, reset_num_timesteps=False
    )
    assert [steps for steps, _ in gone_on.evaluations] == [steps for steps, _ in whole.evaluations]
    assert gone_on.evaluations == whole.evaluations
    assert len({figures["elo"] for _, figures in whole.evaluations}) > 2  # they do tell the checkpoints apart


def test_envs_in_processes_go_on_where_they_stood():
    def make():
        makers = [lambda: Monitor(gym.make("Lecture/Maze-v0")), lambda: Monitor(gym.make("FrozenLake-v1"))]
        return SubprocVecEnv(makers, start_method="fork")  # at once; the others import everything anew

    env, other = make(), make()
    env.seed(5)
    env.reset()
    for _ in range(7):
        env.step([1, 1])
    packed = pack(get_env_state(env))
    set_env_state(other, unpack(packed.tree, packed.arrays))
    for action in (2, 1, 3, 0) * 20:
        *here, infos = env.step([action] * 2)
        *there, others = other.step([action] * 2)
        np.testing.assert_array_equal(here, there)
        assert [info.get("episode", {}).get("r") for info in infos] == [info.get("episode", {}).get("r") for info in others]
    alone = SubprocVecEnv([lambda: gym.make("Lecture/Maze-v0")], start_method="fork")
    with pytest.raises(CannotSave, match="the file is of 2, the env is 1"):
        set_env_state(alone, unpack(packed.tree, packed.arrays))
    stateless = SubprocVecEnv([Stateless], start_method="fork")
    with pytest.raises(CannotSave, match=r"Stateless has no get_state"):
        get_env_state(stateless)
    stateless.reset()  # its process lives
    for one in (env, other, alone, stateless):
        one.close()


class Stateless(gym.Env):
    """An env that nobody knows how to save."""

    observation_space, action_space = gym.spaces.Discrete(3), gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        return 1 + int(action), 1.0, bool(action), False, {}


def test_what_was_cut_is_said_in_one_line(tmp_path):
    QLearning("MlpPolicy", Stateless(), seed=0).learn(9).save(tmp_path / "model.zip")
    loaded = QLearning.load(tmp_path / "model.zip", env=Stateless())
    with pytest.warns(UserWarning, match=r"the running ones were cut: Stateless has no get_state\(\) and set_state\(\)"):
        loaded.learn(9, reset_num_timesteps=False)
    assert loaded.num_timesteps == 18


@pytest.mark.parametrize("force_reset", [True, False])
def test_an_env_that_was_never_reset_is_not_stepped_on(force_reset, tmp_path):
    QLearning("MlpPolicy", Stateless(), seed=0, backend="env").learn(9).save(tmp_path / "model.zip")
    loaded = QLearning.load(tmp_path / "model.zip", env=gym.wrappers.OrderEnforcing(Stateless()), force_reset=force_reset)
    with pytest.warns(UserWarning, match="were cut"):
        loaded.learn(9, reset_num_timesteps=False)
    assert loaded.num_timesteps == 18


def test_without_a_reset_a_loaded_model_stands_where_its_env_stands(tmp_path):
    model = ActorCritic("MlpPolicy", Stateless(), seed=0).learn(9)
    model.save(tmp_path / "model.zip")
    env = model.get_env()
    assert ActorCritic.load(tmp_path / "model.zip", env=env)._last_obs is None
    loaded = ActorCritic.load(tmp_path / "model.zip", env=env, force_reset=False)
    np.testing.assert_array_equal(loaded._last_obs, model._last_obs)
    np.testing.assert_array_equal(loaded._last_episode_starts, model._last_episode_starts)
    two = make_vec_env(Stateless, 2)
    assert ActorCritic.load(tmp_path / "model.zip", env=two, force_reset=False)._last_obs is None


def test_another_number_of_envs_begins_new_episodes(tmp_path):
    QLearning("MlpPolicy", make_vec_env("Lecture/Maze-v0", 2), seed=0).learn(20).save(tmp_path / "model.zip")
    loaded = QLearning.load(tmp_path / "model.zip", env=make_vec_env("Lecture/Maze-v0", 3))
    with pytest.warns(UserWarning, match="were cut: the file has 2 envs"):
        loaded.learn(30, reset_num_timesteps=False)


def test_a_new_seed_or_a_new_count_takes_nothing_up(tmp_path):
    model = QLearning("MlpPolicy", make_vec_env("Lecture/Maze-v0", 1), seed=0).learn(20)
    model.save(tmp_path / "model.zip")
    state = np.random.get_state()[1].copy()
    loaded = QLearning.load(tmp_path / "model.zip", env=make_vec_env("Lecture/Maze-v0", 1))
    loaded.set_random_seed(7)
    expected = np.random.get_state()[1].copy()
    loaded.learn(1, reset_num_timesteps=False)
    np.testing.assert_array_equal(np.random.get_state()[1], expected)
    assert not np.array_equal(expected, state)
    loaded = QLearning.load(tmp_path / "model.zip", env=make_vec_env("Lecture/Maze-v0", 1))
    loaded.learn(20)
    assert loaded.num_timesteps == 20


if __name__ == "__main__":
    main()
