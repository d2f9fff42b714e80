"""Gradient steps a second, and scores, beside d3rlpy's on the same data, with networks of the same size and as many steps.

d3rlpy lives in a venv of its own, ``d3rlpy`` in the folder ``PEERS``; ``OFFLINE_DATA`` is a folder of ``record qualities``
(default ``data``) with ``cartpole`` and ``pendulum``. Both learn in turn on one thread, from the same rows.

    PEERS=… OFFLINE_DATA=data python scripts/benchmark.py offline
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks._measure import Row

os.environ.setdefault("OMP_NUM_THREADS", "1")
REPEATS = int(os.environ.get("BENCH_REPEATS", "5"))
STEPS = int(os.environ.get("BENCH_STEPS", "400"))  # of a repeat
SIZES = [256, 256]
#: our name → world, quality, d3rlpy's config, values of ours, bound of the ratio
PAIRS: dict[str, tuple[str, str, str, dict[str, Any], float]] = {
    "CQL": ("cartpole", "medium", "DiscreteCQLConfig", {"alpha": 1.0}, 2.0),
    "BCQ": ("cartpole", "medium", "DiscreteBCQConfig", {}, 2.0),
    "IQL": ("pendulum", "expert", "IQLConfig", {}, 1.5),
    "TD3BC": ("pendulum", "expert", "TD3PlusBCConfig", {}, 1.5),
}
PEER = """
import json, os, sys, time
import numpy as np, torch, gymnasium, d3rlpy
from d3rlpy.models import VectorEncoderFactory
torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "1")))
d3rlpy.seed(0)
path, name, env_id, sizes = sys.argv[1], sys.argv[2], sys.argv[3], json.loads(sys.argv[4])
data = np.load(path)
discrete = data["actions"].ndim == 1
encoder = VectorEncoderFactory(sizes)
config = getattr(d3rlpy.algos, name)
own = {"learning_rate": 1e-3} if discrete else {"actor_learning_rate": 1e-3, "critic_learning_rate": 1e-3}
roles = ("", "actor_", "critic_", "value_")
factories = {f"{role}encoder_factory": encoder for role in roles if f"{role}encoder_factory" in config.__dataclass_fields__}
algo = config(batch_size=256, gamma=0.99, **own, **factories).create(device=False)
dataset = d3rlpy.dataset.MDPDataset(
    data["observations"].astype(np.float32), data["actions"].reshape(len(data["rewards"]), -1), data["rewards"],
    data["terminations"].astype(np.float32), data["truncations"].astype(np.float32),
    action_space=d3rlpy.ActionSpace.DISCRETE if discrete else d3rlpy.ActionSpace.CONTINUOUS)
algo.build_with_dataset(dataset)
def play(n):
    env, total = gymnasium.make(env_id), 0.0
    for i in range(n):
        s, over = env.reset(seed=1000 + i)[0], False
        while not over:
            action = algo.predict(np.asarray(s, np.float32)[None])[0]
            s, r, ended, cut, _ = env.step(int(action) if discrete else np.clip(action, -2, 2))
            total, over = total + float(r), ended or cut
    return total / n
print("ready", flush=True)
for line in sys.stdin:
    what, n = line.split()
    if what == "play":
        print(play(int(n)), flush=True)
        continue
    start = time.perf_counter()
    for _ in range(int(n)):
        algo.update(dataset.sample_transition_batch(256))
    print(time.perf_counter() - start, flush=True)
"""


class Peer:
    """A process of d3rlpy that learns and plays when asked."""

    def __init__(self, python: Path, *words: str) -> None:
        command = [str(python), "-W", "ignore", "-c", PEER, *words]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self._read("ready")

    def _read(self, until: str | None = None) -> str:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if until is not None and line.strip() == until:
                return line
            try:
                float(line)
            except ValueError:  # d3rlpy talks on the same line
                continue
            if until is None:
                return line
        raise RuntimeError("d3rlpy's process ended before it answered")

    def ask(self, what: str, n: int) -> float:
        """Let it ``learn`` n steps, and return the seconds, or ``play`` n episodes, and return their mean."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{what} {n}\n")
        self.process.stdin.flush()
        return float(self._read())


def rows() -> Iterator[Row]:
    """Rates and scores of the pairs; nothing where d3rlpy or the data are missing."""
    import time

    import torch as th
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.evaluation import evaluate_policy

    import sb3_lecture
    from sb3_lecture.zoo.qualities import WORLDS

    th.set_num_threads(int(os.environ["OMP_NUM_THREADS"]))
    python = Path(os.environ.get("PEERS", "")) / "d3rlpy" / "bin" / "python"
    folder = Path(os.environ.get("OFFLINE_DATA", "data"))
    for name, (world, quality, theirs, own, at_least) in PAIRS.items():
        path = folder / world / f"{quality}.npz"
        if not (python.exists() and path.exists()):
            print(f"offline: {python} and {path} are needed to compare {name}", file=sys.stderr)
            continue
        data = sb3_lecture.OfflineDataset.load(path)
        env = make_vec_env(WORLDS[world].env_id, 1, seed=0)
        model: Any = getattr(sb3_lecture, name)(
            "MlpPolicy", env, data, learning_rate=1e-3, batch_size=256, gamma=0.99, seed=0, device="cpu",
            policy_kwargs={"net_arch": SIZES}, **own,
        )  # fmt: skip
        peer = Peer(python, str(path), theirs, WORLDS[world].env_id, json.dumps(SIZES))
        try:
            model.learn(50), peer.ask("learn", 50)
            rates: tuple[list[float], list[float]] = ([], [])
            for _ in range(REPEATS):
                start = time.perf_counter()
                model.learn(STEPS, reset_num_timesteps=False)
                rates[0].append(STEPS / (time.perf_counter() - start))
                rates[1].append(STEPS / peer.ask("learn", STEPS))
            yield Row(f"{name} on {world}, gradient steps", "1/s", *rates, at_least)
            scores = [data.score(value) for value in (float(evaluate_policy(model, env, 10)[0]), peer.ask("play", 10))]
            print(f"{name} on {world} {quality}: score {scores[0]:.1f}, d3rlpy {scores[1]:.1f}", file=sys.stderr)
        finally:
            peer.process.terminate()
            env.close()
