"""Let things run for long and print what they gather: memory, open files, threads and processes; Linux only, see ``--help``.

Each run has a process of its own. The first quarter warms up (compiled code, allocators, replay buffers that fill); growth is
the median of the last quarter less that of the second. A run fails where that is over the bounds, or where a thread stays.
"""

import argparse
import os
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context, resource_tracker
from pathlib import Path
from typing import Any, NamedTuple

MIB_AT_MOST, FILES_AT_MOST = 16.0, 0.0  #: growth after warm-up
SAMPLES = 80
Tick = Callable[[float], None]  # told which share of a run is done


class Kept(NamedTuple):
    """What a run has gathered.

    :param amount: what was done
    :param seconds: how long it took
    :param mib: memory (resident set) at each sample
    :param files: open files at each sample
    :param left: threads and processes that were not there before, if any
    """

    amount: str
    seconds: float
    mib: list[float]
    files: list[int]
    left: list[str]

    def row(self) -> tuple[str, ...]:
        """Cells of the table."""
        early, late = middle(self.mib)
        return (
            self.amount, f"{self.seconds:,.0f} s", f"{early:,.1f} → {late:,.1f}", f"{late - early:+.1f}",
            "{:.0f} → {:.0f}".format(*middle(self.files)), ", ".join(self.left) or "none",
        )  # fmt: skip

    def failed(self) -> bool:
        """Whether more was gathered than the bounds allow."""
        (mib, mib_later), (files, files_later) = middle(self.mib), middle(self.files)
        return mib_later - mib > MIB_AT_MOST or files_later - files > FILES_AT_MOST or bool(self.left)


def middle(series: list[float] | list[int]) -> tuple[float, float]:
    """Medians of the second and of the last quarter."""
    n = len(series) // 4
    return statistics.median(series[n : 2 * n]), statistics.median(series[-n:])


# ---- the runs; each returns what it did


def q_learning(tick: Tick, steps: int, seconds: float) -> str:
    """Q-learning that is evaluated, graded and saved all the time."""
    from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback
    from stable_baselines3.common.env_util import make_vec_env

    from sb3_lecture import QLearning
    from sb3_lecture.exact.callbacks import ExactEvalCallback

    with tempfile.TemporaryDirectory() as folder:
        evaluating = EvalCallback(
            make_vec_env("Lecture/Maze-v0"), eval_freq=steps // 200, verbose=0, best_model_save_path=folder, log_path=folder
        )
        saving = CheckpointCallback(steps // 50, folder)
        model = QLearning(env="Lecture/Maze-v0", seed=0)
        model.learn(steps, [ExactEvalCallback(steps // 200), evaluating, saving, ticking(tick, steps)])
    return f"{model.num_timesteps:,} steps"


def dqn(tick: Tick, steps: int, seconds: float) -> str:
    """SB3's DQN on the worlds' own vector env."""
    from stable_baselines3 import DQN

    from sb3_lecture.common.vec_env import make_native_vec_env

    env = make_native_vec_env("Lecture/Maze-v0", 16, seed=0)
    model = DQN(
        "MlpPolicy", env, buffer_size=20_000, train_freq=8, gradient_steps=1, policy_kwargs={"net_arch": [32]}, seed=0,
    )  # fmt: skip
    model.learn(steps, ticking(tick, steps))
    env.close()
    return f"{model.num_timesteps:,} steps"


def muzero(tick: Tick, steps: int, seconds: float) -> str:
    """MuZero on TicTacToe."""
    from sb3_lecture import MuZero

    networks = {"net_arch": [64], "latent_size": 32, "n_bins": 11}
    model = MuZero(
        "MlpPolicy", "Lecture/TicTacToe-v0", n_games=16, buffer_size=2_000, n_simulations=16, policy_kwargs=networks, seed=0
    )
    model.learn(10**12, ticking(tick, seconds=seconds))
    return f"{model.num_timesteps:,} steps"


def dreamer_v3(tick: Tick, steps: int, seconds: float) -> str:
    """DreamerV3 on CartPole."""
    from sb3_lecture import DreamerV3

    model = DreamerV3(
        "MlpPolicy", "CartPole-v1", buffer_size=2_000, batch_length=16, policy_kwargs={"size": "debug"}, seed=0, device="cpu"
    )
    model.learn(10**12, ticking(tick, seconds=seconds))
    return f"{model.num_timesteps:,} steps"


def alphazero(tick: Tick, steps: int, seconds: float) -> str:
    """AlphaZero on TicTacToe."""
    from sb3_lecture import AlphaZero

    model = AlphaZero(
        "MlpPolicy", "Lecture/TicTacToe-v0", n_games=16, buffer_size=2_000, n_simulations=16, seed=0,
        policy_kwargs={"net_arch": [64]},
    )  # fmt: skip
    model.learn(10**12, ticking(tick, seconds=seconds))
    return f"{model.num_timesteps:,} steps"


def envs(tick: Tick, steps: int, seconds: float) -> str:
    """Every world made, reset, drawn, stepped and closed in turn: one, a vector of them, and in another process."""
    import gymnasium as gym
    from stable_baselines3.common.vec_env import SubprocVecEnv

    from sb3_lecture_envs import WORLDS

    n, ids = 1000, list(WORLDS)
    for i in range(n):
        env_id = ids[i % len(ids)]
        if i % 50 == 49:
            other = SubprocVecEnv([partial(gym.make, f"sb3_lecture_envs:{env_id}")], start_method="spawn")
            other.reset()
            other.close()
        single, vector = gym.make(env_id, render_mode="rgb_array"), gym.make_vec(env_id, 4)
        for env in (single, vector):
            env.reset(seed=i)  # type: ignore[attr-defined]
            env.step(env.action_space.sample())  # type: ignore[attr-defined]
            env.render() if env is single else None  # type: ignore[attr-defined]
            env.close()  # type: ignore[attr-defined]
        tick((i + 1) / n)
    return f"{n:,} times {len(ids)} ids"


RUNS: dict[str, Callable[[Tick, int, float], str]] = {
    run.__name__: run for run in (q_learning, dqn, envs, muzero, dreamer_v3, alphazero)
}


# ---- measuring


def ticking(tick: Tick, steps: int | None = None, seconds: float = float("inf")) -> Any:
    """A callback that says how far the run is, by steps or by the clock, and stops it when the time is over."""
    from stable_baselines3.common.callbacks import BaseCallback

    class Ticking(BaseCallback):
        def _on_training_start(self) -> None:
            self.began = time.monotonic()

        def _on_step(self) -> bool:
            share = (time.monotonic() - self.began) / seconds if steps is None else self.num_timesteps / steps
            tick(share)
            return steps is not None or share < 1

    return Ticking()


def around() -> set[str]:
    """Python threads and child processes that there are."""
    children = [pid for task in Path("/proc/self/task").iterdir() for pid in (task / "children").read_text().split()]
    return {f"thread {thread.name}" for thread in threading.enumerate()} | {f"process {pid}" for pid in children}


def measure(name: str, steps: int, seconds: float) -> Kept:
    """Run one of RUNS and look at this process SAMPLES times."""
    import sb3_lecture_envs  # noqa: F401

    mib: list[float] = []
    files: list[int] = []

    def tick(share: float) -> None:
        if share * SAMPLES < len(mib) + 1:
            return
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        mib.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)
        files.append(len(os.listdir("/proc/self/fd")))

    resource_tracker.ensure_running()  # Python's own helper, which stays while this process does
    before, began = around(), time.monotonic()
    amount = RUNS[name](tick, steps, seconds)
    seconds = time.monotonic() - began
    return Kept(amount, seconds, mib, files, sorted(around() - before))


def main() -> int:
    """Measure the chosen runs, each in a fresh process; exit with 1 if one of them gathers too much."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("runs", nargs="*", metavar="RUN", help=f"which, default all: {', '.join(RUNS)}")
    parser.add_argument("--minutes", type=float, default=10, help="of muzero, dreamer_v3 and alphazero, each (default 10)")
    parser.add_argument("--steps", type=int, default=10**6, help="of q_learning and dqn, each (default 1000000)")
    args = parser.parse_args()
    if unknown := set(args.runs) - set(RUNS):
        parser.error(f"unknown runs {sorted(unknown)}; known: {', '.join(RUNS)}")
    if args.minutes < 1 or args.steps < 10_000:
        parser.error(f"--minutes {args.minutes:g} --steps {args.steps}: at least 1 and 10000, less is all warm-up")

    from rich.console import Console
    from rich.table import Table

    table = Table("run", "amount", "time", "memory, MiB", f"growth, at most {MIB_AT_MOST:+g}", "open files", "left behind")
    failures = 0
    for name in args.runs or RUNS:
        with ProcessPoolExecutor(1, get_context("spawn")) as pool:
            kept = pool.submit(measure, name, args.steps, 60 * args.minutes).result()
        failures += kept.failed()
        table.add_row(name + " FAILED" * kept.failed(), *kept.row())
        print(name, *kept.row(), sep=" | ", file=sys.stderr, flush=True)
    Console(width=max(140, Console().width)).print(table)
    return int(failures > 0)


if __name__ == "__main__":
    sys.exit(main())
