"""DreamerV3 beside SheepRL's: CartPole-v1, size XS (deter, hidden, units 256, one layer, 32 x 32), batch 16 x 64, horizon 15.

The peer lives in a venv ``dreamer`` (sheeprl) in the folder ``PEERS``; ``DREAMER_SHEEPRL`` is the path of a script that
runs its command line with ``--size XS --threads N --steps GRADIENT_STEPS``. Without them only our own figures are shown. Both
sides run in processes of their own, in turn. Rates are per CPU second, so other load favours neither: the peer's is the
difference of two runs of different length, which leaves imports and random steps out.

    PEERS=… DREAMER_SHEEPRL=… python scripts/benchmark.py dreamer
"""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from benchmarks._measure import Row

REPEATS = int(os.environ.get("BENCH_REPEATS", "5"))
SHORT, LONG = 3, 9  # gradient steps of the peer's two runs
THREADS = os.environ.get("OMP_NUM_THREADS", "1")

OURS = """
import json, resource, time
import torch as th
from stable_baselines3.common.logger import configure
from sb3_lecture import DreamerV3
th.set_num_threads({threads})
model = DreamerV3("MlpPolicy", "CartPole-v1", seed=0, device="cpu", learning_starts=0, replay_ratio=1e-9, buffer_size=10_000)
model.learn(300)
start = time.process_time()
model.learn(1000)
act = 1000 / (time.process_time() - start)
model.set_logger(configure(None, []))
model._owed = 2.0
model.train(1, 16)
start, model._owed = time.process_time(), 6.0
model.train(1, 16)
train = 6 / (time.process_time() - start)
print(json.dumps([train, act, 2**20 / resource.getrusage(resource.RUSAGE_SELF).ru_maxrss]))
"""


#: run a command; print its CPU seconds and its peak memory in KiB
WATCHED = """
import json, resource, subprocess, sys
subprocess.run(sys.argv[1:], check=True, capture_output=True)
used = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps([used.ru_utime + used.ru_stime, used.ru_maxrss]))
"""


def rows() -> Iterator[Row]:
    """Yield gradient steps, env steps and memory."""
    python = Path(os.environ.get("PEERS", "")) / "dreamer" / "bin" / "python"
    script = os.environ.get("DREAMER_SHEEPRL", "")
    found = python.exists() and Path(script).is_file()
    if not found:
        print("dreamer: set PEERS and DREAMER_SHEEPRL to compare with SheepRL", file=sys.stderr)
    ours, peer = [], []
    for _ in range(REPEATS):
        output = subprocess.run(
            [sys.executable, "-c", OURS.format(threads=THREADS)], capture_output=True, text=True, check=True
        )
        ours.append(json.loads(output.stdout.splitlines()[-1]))
        if found:
            peer.append(sheeprl(python, script))
    train, act, memory = ([one[i] for one in ours] for i in range(3))
    what = "DreamerV3 XS, CartPole-v1, batch 16 x 64"
    if found:
        yield Row(f"{what}, against SheepRL", "gradient steps/CPU s", train, [p[0] for p in peer], 1.5)
        yield Row(f"{what}, peak memory against SheepRL", "1/GiB", memory, [p[1] for p in peer], 1.0)
    else:
        yield Row(what, "gradient steps/CPU s", train, [], 0.0)
    yield Row("DreamerV3 XS, CartPole-v1, acting with 1 env", "env steps/CPU s", act, [], 1000.0)


def sheeprl(python: Path, script: str) -> tuple[float, float]:
    """Return the peer's gradient steps a CPU second, and 1 / peak memory in GiB."""
    runs = []
    for steps in (SHORT, LONG):
        command = [str(python), script, "--size", "XS", "--threads", THREADS, "--steps", str(steps)]
        output = subprocess.run([sys.executable, "-c", WATCHED, *command], check=True, capture_output=True, text=True)
        runs.append(json.loads(output.stdout.splitlines()[-1]))
    return (LONG - SHORT) / (runs[1][0] - runs[0][0]), 2**20 / runs[1][1]
