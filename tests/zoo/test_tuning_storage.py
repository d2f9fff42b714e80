"""Where a study lives: one file a name, whatever signs the name holds, and no password where others can read it."""

import multiprocessing
import socket
import sqlite3
import urllib.request
from pathlib import Path

import optuna
import pytest

from sb3_lecture.zoo import options, tuning_cli, tuning_study
from sb3_lecture.zoo.errors import UserError
from sb3_lecture.zoo.tuning_storage import open_storage, serve_dashboard


@pytest.fixture(autouse=True)
def _quiet():
    tuning_study.quiet()


@pytest.mark.parametrize(
    "name",
    ["runs?1/study.db", "a%41.db", "a{b}.db", "{SCHEMA_VERSION}.db", "x y#z.db", "a:b@c.db", "ü.db", "?uri=true", "a;b=c.db"],
)
def test_a_file_of_any_name_is_that_file(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    optuna.create_study(storage=open_storage(name), study_name="here")
    files = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert {file for file in files if not file.endswith(("-wal", "-shm"))} == {name, f"{name}.lock"}
    with sqlite3.connect(tmp_path / name) as connection:
        assert connection.execute("SELECT study_name FROM studies").fetchall() == [("here",)]
    assert optuna.get_all_study_names(open_storage(name)) == ["here"]


def test_a_place_that_takes_no_file_is_refused_at_once(tmp_path):
    (tmp_path / "file").write_text("")
    for where in ("/proc/x", str(tmp_path / "file" / "study.db")):
        with pytest.raises(UserError, match="cannot open the study storage"):
            open_storage(where)


def parsed(*words):
    parser = options.Parser()
    tuning_cli.options(parser)
    return tuning_cli.read(parser.parse_args(["--algo", "q_learning", *words]))


def test_the_storage_may_stand_in_the_environment(monkeypatch):
    monkeypatch.setenv(tuning_cli.STORAGE_VARIABLE, "postgresql://me:secret@host/db")
    assert parsed().where == "postgresql://me:secret@host/db"
    assert parsed("--storage", "mine.db").where == "mine.db"
    monkeypatch.delenv(tuning_cli.STORAGE_VARIABLE)
    assert parsed().storage is None


def test_workers_are_bounded_by_the_cores(monkeypatch):
    monkeypatch.setattr("os.sched_getaffinity", lambda pid: {0, 1, 2}, raising=False)
    assert parsed("--n-workers", "12").n_workers == 12
    with pytest.raises(UserError, match="--n-workers 13: at most 12 on 3 cores"):
        parsed("--n-workers", "13")


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="reads /proc")
def test_the_dashboard_shows_the_study_and_its_command_line_does_not_show_the_storage(tmp_path):
    pytest.importorskip("optuna_dashboard", reason="optuna-dashboard is not installed (the extra tuning)")
    where = str(tmp_path / "secret.db")
    optuna.create_study(storage=open_storage(where), study_name="shown")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    server = multiprocessing.get_context("spawn").Process(target=serve_dashboard, args=(where, port), daemon=True)
    server.start()
    try:
        answer = None
        while answer is None:
            assert server.is_alive(), "the dashboard has ended"
            try:
                answer = urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies").read().decode()
            except OSError:
                server.join(0.05)
        assert "shown" in answer
        assert b"secret" not in Path(f"/proc/{server.pid}/cmdline").read_bytes()
    finally:
        server.kill()
        server.join()
