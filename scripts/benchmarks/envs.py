"""The worlds: steps a second against Gymnasium's CliffWalking, and what importing the package costs."""

import subprocess
import sys
from collections.abc import Callable, Iterator

import gymnasium as gym
import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv

import sb3_lecture_envs  # noqa: F401
from benchmarks._measure import REPEATS, Row, alone, in_turn
from sb3_lecture.common.vec_env import make_native_vec_env

OURS, PEER = "Lecture/CliffWalking-v0", "CliffWalking-v1"


def rows() -> Iterator[Row]:
    """Yield one row a comparison."""
    rates = in_turn(episodes(OURS, 100_000), episodes(PEER, 10_000))
    yield Row("gym.make, random steps, against Gymnasium's CliffWalking-v1", "steps/s", *rates, 10)

    dummy = DummyVecEnv([lambda: gym.make(PEER)] * 64)
    rates = in_turn(vector_steps(make_native_vec_env(OURS, 64, seed=0), 64, 4000), vector_steps(dummy, 64, 60))
    yield Row("SB3 VecEnv of 64, against DummyVecEnv of 64 CliffWalking-v1", "steps/s", *rates, 50)

    many = vector_steps(gym.make_vec(OURS, 1024), 1024, 4000)
    yield Row("TabularVectorEnv of 1024", "steps/s", alone(many), [], 15e6)

    yield Row("import sb3_lecture after stable_baselines3", "imports/s", imports(), [], 10)


def episodes(env_id: str, n: int) -> Callable[[], int]:
    """Random steps through ``gym.make``, resets included; actions are drawn beforehand."""
    env = gym.make(env_id)
    env.reset(seed=0)
    actions = np.random.default_rng(0).integers(4, size=n).tolist()

    def work() -> int:
        for action in actions:
            _, _, terminated, truncated, _ = env.step(action)
            if terminated or truncated:
                env.reset()
        return n

    return work


def vector_steps(env: object, n_envs: int, n: int) -> Callable[[], int]:
    """Random steps of a vector env, counted env by env."""
    env.reset()  # type: ignore[attr-defined]
    actions = np.random.default_rng(0).integers(4, size=(n, n_envs))

    def work() -> int:
        for action in actions:
            env.step(action)  # type: ignore[attr-defined]
        return n * n_envs

    return work


def imports() -> list[float]:
    """Imports a second, each in a fresh process."""
    code = "import stable_baselines3, time; t = time.perf_counter(); import sb3_lecture; print(time.perf_counter() - t)"
    seconds = [
        float(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True).stdout) for _ in range(REPEATS)
    ]
    return [1 / s for s in seconds]
