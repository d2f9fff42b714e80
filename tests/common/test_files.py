"""What is written is whole or not there, whatever happens while it is written."""

import errno
import os
import signal
import socket
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

from sb3_lecture.common import files
from sb3_lecture.common.callbacks import CheckpointCallback, EvalCallback

DEAD = 2**22 + 1  # above Linux's largest process id


def test_what_was_there_stays_until_the_new_is_whole(tmp_path):
    path = tmp_path / "new" / "model.zip"
    files.write_bytes(path, b"first")
    with pytest.raises(RuntimeError), files.written(path) as beside:
        beside.write_bytes(b"half")
        raise RuntimeError
    assert path.read_bytes() == b"first"
    with files.written(path) as beside:
        beside.write_bytes(b"second")
        assert path.read_bytes() == b"first"
    assert path.read_bytes() == b"second"
    assert [entry.name for entry in path.parent.iterdir()] == ["model.zip"]


def test_a_link_stays_a_link(tmp_path):
    (tmp_path / "real.zip").write_bytes(b"old")
    (tmp_path / "link.zip").symlink_to(tmp_path / "real.zip")
    files.write_bytes(tmp_path / "link.zip", b"new")
    assert (tmp_path / "link.zip").is_symlink() and (tmp_path / "real.zip").read_bytes() == b"new"


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_one_clear_error(tmp_path, number, monkeypatch):
    files.save_arrays(tmp_path / "a.npz", x=np.arange(3))

    def full(path, **arrays):
        Path(path).write_bytes(b"half")
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(np, "savez", full)
    with pytest.raises(OSError, match=r"disk full: .*a\.npz was not written") as caught:
        files.save_arrays(tmp_path / "a.npz", x=np.arange(9))
    assert caught.value.errno == number
    assert [entry.name for entry in tmp_path.iterdir()] == ["a.npz"]
    with np.load(tmp_path / "a.npz") as data:
        np.testing.assert_array_equal(data["x"], np.arange(3))


def test_other_errors_keep_their_own_words(tmp_path):
    with pytest.raises(FileExistsError) as caught, files.written(tmp_path / "a"):
        raise FileExistsError(errno.EEXIST, "as it is")
    assert caught.value.strerror == "as it is"


def test_objects_are_not_written_as_arrays(tmp_path):
    with pytest.raises(ValueError, match="allow_pickle"):
        files.save_arrays(tmp_path / "a.npz", x=np.array([object()]))
    assert list(tmp_path.iterdir()) == []


def test_only_what_dead_processes_of_this_machine_left_is_cleared(tmp_path):
    host = files.HOST
    assert host == "".join(c for c in socket.gethostname() if c.isalnum())[:32]
    torn = [f".model.zip.{host}-{DEAD}.tmp.zip", f".saving-{DEAD}", f".exact.npz.{DEAD}.npz", f".best.{host}-{DEAD}.tmp"]
    kept = [f".model.zip.{host}-{os.getpid()}.tmp.zip", f".model.zip.other{host}-{DEAD}.tmp.zip", "model.zip", ".hidden.npz",
            f".saving-{os.getpid()}"]  # fmt: skip
    for name in torn + kept:
        (tmp_path / name).mkdir() if "saving" in name or ".best" in name else (tmp_path / name).write_bytes(b"x")
    files.clear_torn(tmp_path, "other.zip")
    assert len(list(tmp_path.iterdir())) == len(torn) + len(kept)
    files.write_bytes(tmp_path / "model.zip", b"y")  # the next writer of a file clears what belongs to it
    assert not (tmp_path / torn[0]).exists()
    assert sorted(path.name for path in files.clear_torn(tmp_path)) == sorted(torn[1:])
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(set(kept) - {kept[0]})
    assert files.clear_torn(tmp_path / "nowhere") == []


def test_evaluations_and_checkpoints_are_whole_when_their_writing_fails(tmp_path, monkeypatch):
    env = make_vec_env("CartPole-v1", 1, seed=0)
    model = PPO("MlpPolicy", env, n_steps=16, batch_size=16, n_epochs=1, policy_kwargs={"net_arch": [4]}, device="cpu", seed=0)
    evaluation = EvalCallback(env, n_eval_episodes=1, eval_freq=16, log_path=str(tmp_path), verbose=0, warn=False,
                              best_model_save_path=str(tmp_path))  # fmt: skip
    checkpoint = CheckpointCallback(16, str(tmp_path), name_prefix="c")
    model.learn(16, callback=[evaluation, checkpoint])
    names = ["best_model.zip", "c_16_steps.zip", "evaluations.npz"]
    assert sorted(path.name for path in tmp_path.iterdir()) == names
    before = {name: (tmp_path / name).read_bytes() for name in names}
    good_save = PPO.save

    def torn_save(self, path, *args, **kwargs):
        good_save(self, path, *args, **kwargs)
        path = Path(path) if Path(path).suffix else Path(f"{path}.zip")
        path.write_bytes(path.read_bytes()[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(PPO, "save", torn_save)
    evaluation.best_mean_reward = -np.inf  # the next one is a new best
    with pytest.raises(OSError, match="disk full"):
        model.learn(16, callback=evaluation, reset_num_timesteps=False)
    checkpoint.num_timesteps, checkpoint.n_calls = 16, 0
    with pytest.raises(OSError, match="disk full"):
        checkpoint._on_step()
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    assert evaluation.log_path == str(tmp_path / "evaluations") and evaluation.best_model_save_path == str(tmp_path)


KILLED = """
import os, sys
from sb3_lecture.tabular.q_learning import QLearning
model = QLearning("MlpPolicy", "Lecture/Maze-v0", seed=0)
for _ in sys.stdin:
    child = os.fork()
    while child == 0:
        model.q_table[:] += 1.0
        model.save(sys.argv[1])
    print(child, flush=True)
    os.waitpid(child, 0)
"""


@pytest.mark.slow  # most of it are the imports of one process
@pytest.mark.skipif(not hasattr(os, "fork"), reason="children are forked, for imports take seconds")
def test_fifty_kills_while_saving_leave_a_whole_file(tmp_path):
    path = tmp_path / "model.zip"
    rng = np.random.default_rng(0)
    torn = 0
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as parent:
        for _ in range(50):
            parent.stdin.write("go\n")
            parent.stdin.flush()
            child = int(parent.stdout.readline())
            while not path.exists():
                time.sleep(0.001)
            time.sleep(float(rng.uniform(0.0, 0.1)))
            os.kill(child, signal.SIGKILL)
            while files._lives(child):  # until it is waited for
                time.sleep(0.001)
            torn += len(list(tmp_path.iterdir())) > 1
            with zipfile.ZipFile(path) as archive:
                assert archive.testzip() is None
        parent.stdin.close()
    print("torn", torn)
    assert torn > 0, "no kill came while a file was being written"
    files.clear_torn(tmp_path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.zip"]
