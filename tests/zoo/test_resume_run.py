"""A run that is killed and resumed ends where one that was never killed ends: model, episodes and evaluations."""

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sb3_lecture.common import files
from sb3_lecture.zoo import cli, resuming
from sb3_lecture.zoo.runs import Run

#: algorithm → options of a run of a few seconds, with a checkpoint at every chance
RUNS = {
    "q_learning": ["--env", "Lecture/Maze-v0", "-n", "150", "--eval-freq", "50", "-params", "exploration_fraction:0.9"],
    "dqn": ["--env", "CartPole-v1", "-n", "1500", "--eval-freq", "500"],
    "ppo": ["--env", "CartPole-v1", "-n", "4000", "--eval-freq", "1000", "-params", "n_envs:2", "n_steps:64"],
    "dreamer_v3": ["--env", "CartPole-v1", "-n", "300", "--eval-freq", "-1", "-params", "learning_starts:64", "batch_size:2",
                   "batch_length:16", "policy_kwargs:dict(size='debug')", "buffer_size:1000"],
    "alphazero": ["--env", "Lecture/TicTacToe-v0", "-n", "2000", "--eval-freq", "-1", "-params", "n_simulations:8",
                  "learning_starts:100", "n_games:16"],
    "muzero": ["--env", "Lecture/TicTacToe-v0", "-n", "1000", "--eval-freq", "-1", "-params", "n_simulations:8",
               "learning_starts:100", "n_games:16"],
}  # fmt: skip
N_KILLS = 9  # of each: more than fifty
COMMON = ["--seed", "1", "--checkpoint-every", "0", "--device", "cpu", "--no-progress"]
CLOCKS = ("t", "elapsed", "start_time", "_num_timesteps_at_start", "tensorboard_log")


def command(algo, folder):
    return ["train", "--algo", algo, *RUNS[algo], *COMMON, "-f", str(folder)]


def content(path):
    """All that a model's file holds but for clocks, with each array's bytes in its place."""
    with zipfile.ZipFile(path) as archive:
        if "content.json" not in archive.namelist():  # SB3's own
            return {
                name: hashlib.sha256(archive.read(name)).hexdigest() for name in archive.namelist() if name.endswith(".pth")
            }
        head = json.loads(archive.read("content.json"))["content"]

        def walk(part):
            if isinstance(part, dict):
                if part.get("~") in ("array", "tensor", "scalar"):
                    return {**part, "v": hashlib.sha256(archive.read(f"arrays/{part['v']}.npy")).hexdigest()}
                return {key: walk(inner) for key, inner in part.items() if key not in CLOCKS}
            return [walk(inner) for inner in part] if isinstance(part, list) else part

        return walk(head)


def run_of(folder):
    [run] = [path.parent.parent for path in Path(folder).glob("*/*/*/args.yml")]
    return run


def assert_same_run(a, b, drawn=True):
    model = next(path.name for path in a.glob("*.zip") if path.name != "best_model.zip")
    assert content(a / model) == content(b / model)
    for file in sorted(a.glob("*monitor.csv")):
        rows, others = ([line.rsplit(",", 1)[0] for line in (run / file.name).read_text().splitlines()][1:] for run in (a, b))
        assert rows == others and len(rows) > 0
    for file in sorted(a.glob("*.npz")):
        with np.load(file) as mine, np.load(b / file.name) as theirs:
            assert set(mine) == set(theirs)
            for name in mine:
                np.testing.assert_array_equal(mine[name], theirs[name])
    files_of = [{path.name for path in run.iterdir() if drawn or path.suffix != ".png"} for run in (a, b)]
    assert files_of[0] == files_of[1]
    assert not (b / resuming.CHECKPOINT_FILE).exists()


class Killed(BaseException):
    """Stands for a kill: nothing after it runs."""


def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path, monkeypatch, capsys):
    assert cli.main(command("q_learning", tmp_path / "whole")) == 0
    saves, save = [], resuming.RunCheckpoint._save

    def save_and_die(self):
        saves.append(self.model.num_timesteps)
        if len(saves) in (72, 112):
            raise Killed  # before this checkpoint: the one before it counts, which lies between two evaluations
        save(self)

    monkeypatch.setattr(resuming.RunCheckpoint, "_save", save_and_die)
    with pytest.raises(Killed):
        cli.main(command("q_learning", tmp_path / "broken"))
    run = run_of(tmp_path / "broken")
    assert (run / resuming.CHECKPOINT_FILE).exists()
    with open(run / "0.monitor.csv", "a") as file:
        file.write("9.0,9,9.0\n")  # an episode after the checkpoint
    with pytest.raises(Killed):
        cli.main(["train", "--resume", str(run), "--checkpoint-every", "0"])
    assert cli.main([*command("q_learning", tmp_path / "broken"), "--resume"]) == 0
    assert saves.count(saves[71]) == 2, "what came after the checkpoint was done again"
    assert_same_run(run_of(tmp_path / "whole"), run)
    assert cli.main(["train", "--resume", str(run)]) == 2
    assert "is finished" in capsys.readouterr().err


def test_a_run_killed_before_its_first_checkpoint_begins_anew(tmp_path, monkeypatch):
    def die(self):
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(resuming.RunCheckpoint, "_save", die)
        cli.main(command("q_learning", tmp_path / "broken"))
    run = run_of(tmp_path / "broken")
    assert cli.main(["train", "--resume", str(run)]) == 0
    assert cli.main(command("q_learning", tmp_path / "whole")) == 0
    whole = run_of(tmp_path / "whole")
    model = "Lecture-Maze-v0.zip"
    assert content(whole / model)["params"] == content(run / model)["params"]


def test_a_damaged_checkpoint_is_one_line(tmp_path, monkeypatch, capsys):
    def die(self):
        (self.folder / resuming.CHECKPOINT_FILE).write_bytes(b"PK torn")
        raise Killed

    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr(resuming.RunCheckpoint, "_save", die)
        cli.main(command("q_learning", tmp_path))
    assert cli.main(["train", "--resume", str(run_of(tmp_path))]) == 2
    assert "delete it to begin the run anew" in capsys.readouterr().err


#: forks a process for each command that it reads: imports take seconds, and hundreds of kills would take hours
SERVER = """
import json, os, sys, traceback
from sb3_lecture.zoo import cli, manager, report
for line in sys.stdin:
    if child := os.fork():
        print(child, flush=True)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
        continue
    code, log = 1, os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.dup2(log, 1), os.dup2(log, 2)
    try:
        code = cli.main(json.loads(line))
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(code)
"""


class Server:
    """Runs commands, each in a process of its own, one after the other."""

    def __init__(self, log):
        self.process = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", SERVER, str(log)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self, arguments, is_time=lambda began: False):
        """The exit code of a command, -9 if it was killed because ``is_time`` said so; and how many seconds it took."""
        began = time.monotonic()
        self.process.stdin.write(json.dumps(arguments) + "\n")
        self.process.stdin.flush()
        child = int(self.process.stdout.readline())
        while files._lives(child):
            if is_time(began):
                os.kill(child, signal.SIGKILL)
                break
            time.sleep(0.001)
        return int(self.process.stdout.readline()), time.monotonic() - began

    def close(self):
        self.process.stdin.close()
        self.process.stdout.close()
        self.process.wait()


@pytest.fixture
def server(tmp_path):
    server = Server(tmp_path / "log.txt")
    yield server
    server.close()


def moment(rng, folder, kills, seconds):
    """When to kill: by turns at any time, and around one of the next checkpoints, of which there are hundreds."""
    if kills >= N_KILLS:
        return lambda began: False
    if kills % 2:
        wait = float(rng.uniform(0.0, 0.5)) * seconds
        return lambda began: time.monotonic() - began > wait
    seen, wanted = set(), int(rng.integers(2, 30))

    def is_time(began):
        for path in folder.glob(f"*/*/{resuming.CHECKPOINT_FILE}"):
            with contextlib.suppress(FileNotFoundError):
                seen.add(path.stat().st_mtime_ns)
        return len(seen) >= wanted

    return is_time


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="the runs are forked, for imports take seconds")
@pytest.mark.parametrize("algo", RUNS)
def test_kills_at_any_moment_leave_a_run_that_ends_the_same(algo, server, tmp_path):
    rng, log = np.random.default_rng(0), tmp_path / "log.txt"
    code, seconds = server.run(command(algo, tmp_path / "whole"))
    assert code == 0, log.read_text()[-2000:]
    kills, chains = 0, 0
    while kills < N_KILLS:
        folder = tmp_path / f"broken_{chains}"
        arguments, code = command(algo, folder), -9
        while code == -9:
            code, _ = server.run(arguments, moment(rng, folder, kills, seconds))
            kills += code == -9
            if list(folder.glob("*/*/*/args.yml")):
                arguments = ["train", "--resume", str(run_of(folder)), "--checkpoint-every", "0"]
                if resuming.is_finished(Run(run_of(folder), algo, RUNS[algo][1])):
                    break  # killed, if it was, while the results were drawn
        assert code in (0, -9), log.read_text()[-2000:]
        assert_same_run(run_of(tmp_path / "whole"), run_of(folder), drawn=code == 0)
        chains += 1
    went_on = re.findall(r"Going on from .*/broken_\d+/.* at (\d+) of", log.read_text())
    print(f"{algo}: {kills} kills, {len(went_on)} times gone on from a checkpoint, {chains} runs of {seconds:.1f} s")
    assert len(set(went_on)) > 1, "no kill came while it learned"
