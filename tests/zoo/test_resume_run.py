"""A run that is killed and resumed ends where one that was never killed ends: model, episodes and evaluations."""

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest

from sb3_lecture.zoo import cli, resuming

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
COMMON = ["--seed", "1", "--checkpoint-every", "0", "--device", "cpu", "--no-progress"]
SLOW = [pytest.param(name, marks=pytest.mark.slow) for name in RUNS if name != "q_learning"]
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


def assert_same_run(a, b):
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
    assert sorted(path.name for path in a.iterdir()) == sorted(path.name for path in b.iterdir())
    assert not (b / resuming.CHECKPOINT_FILE).exists()


class Killed(BaseException):
    """Stands for a kill: nothing after it runs."""


def test_a_resumed_run_ends_where_an_unbroken_one_does(tmp_path, monkeypatch, capsys):
    assert cli.main(command("q_learning", tmp_path / "whole")) == 0
    saves, save = [], resuming.RunCheckpoint._save

    def save_and_die(self):
        saves.append(self.model.num_timesteps)
        if len(saves) in (70, 110):
            raise Killed  # before this checkpoint: the one before it counts
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
    assert saves.count(saves[69]) == 2, "what came after the checkpoint was done again"
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


def start(arguments):
    code = "import sys; from sb3_lecture.zoo.cli import main; sys.exit(main(sys.argv[1:]))"
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONWARNINGS": "ignore"},
    )  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("algo", [pytest.param("q_learning", marks=pytest.mark.slow), *SLOW])
def test_kills_at_any_moment_leave_a_run_that_ends_the_same(algo, tmp_path):
    whole = start(command(algo, tmp_path / "whole"))
    assert whole.wait(timeout=900) == 0, whole.stderr.read()[-2000:]
    rng = np.random.default_rng(0)
    broken = start(command(algo, tmp_path / "broken"))
    for _ in range(8):
        deadline = time.time() + 300
        while not list((tmp_path / "broken").glob(f"*/*/{resuming.CHECKPOINT_FILE}")) and broken.poll() is None:
            assert time.time() < deadline
            time.sleep(0.05)
        try:
            broken.wait(timeout=float(rng.uniform(0.0, 2.0)))
        except subprocess.TimeoutExpired:
            broken.send_signal(signal.SIGKILL)
            broken.wait()
        if broken.returncode == 0:
            break
        broken = start(["train", "--resume", str(run_of(tmp_path / "broken")), "--checkpoint-every", "0"])
        time.sleep(float(rng.uniform(3.0, 10.0)))
    assert broken.wait(timeout=900) == 0, broken.stderr.read()[-2000:]
    assert_same_run(run_of(tmp_path / "whole"), run_of(tmp_path / "broken"))
