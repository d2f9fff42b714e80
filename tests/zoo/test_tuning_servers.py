"""Studies that machines share: a real PostgreSQL, the gRPC proxy in front of it and of a file, workers killed behind both."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import optuna
import pytest
import tuning_helpers
from optuna.storages import RetryHeartbeatStaleTrialCallback
from optuna.trial import TrialState

from sb3_lecture.zoo import tuning_study
from sb3_lecture.zoo.cli import main
from sb3_lecture.zoo.errors import UserError
from sb3_lecture.zoo.tuning_storage import hide_password, open_storage
from sb3_lecture.zoo.tuning_study import WORKER, Job, context, outcome, tally, work

TIMINGS = {"heartbeat": 1, "grace": 10**6}  # no worker is judged by the clock: a test says when one has been silent too long


@pytest.fixture(autouse=True)
def _quiet():
    tuning_study.quiet()


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture(scope="module")
def postgres():
    """A server of Debian's package, on loopback."""
    pytest.importorskip("psycopg", reason="psycopg is not installed (the extra tuning)")
    binaries = sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    if not binaries:
        pytest.skip("no PostgreSQL is installed (apt-get install postgresql)")
    user: list[str] = []
    folder = Path(tempfile.mkdtemp(prefix="pg"))
    if os.geteuid() == 0:  # the server refuses to run as root
        with contextlib.suppress(KeyError):
            os.chown(folder, pwd.getpwnam("postgres").pw_uid, -1)
            user = ["runuser", "-u", "postgres", "--"]
        if not user:
            pytest.skip("PostgreSQL refuses to run as root, and there is no user postgres")
    tools, port = binaries[-1], free_port()

    def run(*command):
        subprocess.run([*user, *map(str, command)], check=True, cwd=folder, stdout=subprocess.DEVNULL, timeout=60)

    run(tools / "initdb", "-D", folder / "data", "-A", "trust", "-U", "tuner")
    options = f"-c fsync=off -c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories="
    run(tools / "pg_ctl", "-D", folder / "data", "-w", "-l", folder / "log", "-o", options, "start")
    yield f"postgresql://tuner@127.0.0.1:{port}/postgres"
    run(tools / "pg_ctl", "-D", folder / "data", "-m", "immediate", "stop")
    shutil.rmtree(folder)


@contextlib.contextmanager
def tune_server(where):
    """The command ``tune-server``, in a process of its own."""
    port = free_port()
    code = "import sys; from sb3_lecture.zoo.cli import main; sys.exit(main(sys.argv[1:]))"
    command = ["tune-server", "--storage", where, "--port", str(port), "--heartbeat", "1", "--grace", str(TIMINGS["grace"])]
    server = subprocess.Popen([sys.executable, "-c", code, *command], stdout=subprocess.DEVNULL)
    try:
        until(lambda: is_listening(port), lambda: server.poll() is None)
        yield f"grpc://127.0.0.1:{port}"
    finally:
        server.terminate()
        server.wait()


def is_listening(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def until(condition, alive):
    """Wait for something, as long as those who are to do it live, however slow the machine is."""
    while not condition():
        assert alive() or condition(), "it did not come true"
        time.sleep(0.05)


def fall_silent(database, study, number):
    """Let a trial's last heartbeat lie far back."""
    storage = open_storage(database, **TIMINGS)
    with storage.engine.begin() as connection:
        connection.exec_driver_sql(
            "UPDATE trial_heartbeats SET heartbeat = '2000-01-01 00:00:00' "
            "WHERE trial_id IN (SELECT trial_id FROM trials JOIN studies USING (study_id) "
            f"WHERE number = {number} AND study_name = '{study}')"
        )
    storage.remove_session()
    storage.engine.dispose()


def held(study):
    return [t for t in study.trials if t.state == TrialState.RUNNING and t.params and WORKER in t.user_attrs]


def kill_one_of_two(where, database, tmp_path, name):
    """Two workers, as on other machines, hold a trial each; one is killed; the other finishes the study."""
    flag = tmp_path / "go"
    job = Job(where, name, 6, tuning_helpers.Held(str(flag)), str(tmp_path / "lock"), **TIMINGS)
    study = job.open()
    start = context(tuning_helpers.PRELOAD)
    workers = [start.Process(target=tuning_helpers.work_elsewhere, args=(job,)) for _ in range(2)]
    for worker in workers:
        worker.start()
    until(lambda: len(held(study)) == 2, lambda: any(worker.is_alive() for worker in workers))
    killed = next(t for t in held(study) if t.user_attrs[WORKER].endswith(f" {workers[0].pid}"))
    workers[0].kill()
    workers[0].join()
    flag.touch()

    def ended():
        if study.trials[killed.number].state == TrialState.RUNNING:  # again: a beat under way as its worker died may come late
            fall_silent(database, name, killed.number)
        return workers[1].exitcode is not None

    until(ended, lambda: True)
    assert workers[1].exitcode == 0
    lost = [t for t in study.trials if outcome(t) == "lost"]
    assert [t.number for t in lost] == [killed.number]
    again = [t for t in study.trials if RetryHeartbeatStaleTrialCallback.retried_trial_number(t) == killed.number]
    assert len(again) == 1
    assert again[0].params == killed.params
    assert tally(study) == {"complete": 6}
    work(job)
    assert len(study.trials) == 7


def test_a_worker_killed_on_postgresql_is_requeued_once(postgres, tmp_path):
    kill_one_of_two(postgres, postgres, tmp_path, "direct")


@pytest.mark.slow
def test_a_worker_killed_behind_the_proxy_is_requeued_once_on_postgresql(postgres, tmp_path):
    with tune_server(postgres) as where:
        kill_one_of_two(where, postgres, tmp_path, "proxied")


def test_a_worker_killed_behind_the_proxy_is_requeued_once_on_a_file(tmp_path):
    pytest.importorskip("grpc", reason="grpcio is not installed (the extra tuning)")
    with tune_server(str(tmp_path / "study.db")) as where:
        kill_one_of_two(where, str(tmp_path / "study.db"), tmp_path, "proxied")


@pytest.mark.slow
def test_workers_of_several_machines_run_exactly_n_trials(postgres, tmp_path):
    """No file lock is shared: claims meet in the database alone."""
    start = context(tuning_helpers.PRELOAD)
    log = tmp_path / "log"
    jobs = [
        Job(postgres, "machines", 30, tuning_helpers.Logged(str(log)), str(tmp_path / f"lock{i}"), sampler="random", **TIMINGS)
        for i in range(3)
    ]
    study = jobs[0].open()
    workers = [start.Process(target=tuning_helpers.work_elsewhere, args=(job,)) for job in jobs]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert tally(study) == {"complete": 30}
    begun = [int(line.split()[0]) for line in log.read_text().splitlines()]
    assert len(begun) == len(set(begun)) == 30
    draws = [t.params["x"] for t in study.trials if t.state == TrialState.COMPLETE]
    assert len(set(draws)) == 30


@pytest.mark.slow
def test_tune_runs_behind_the_proxy_and_train_reads_it(tmp_path, capsys):
    pytest.importorskip("grpc", reason="grpcio is not installed (the extra tuning)")
    with tune_server(str(tmp_path / "study.db")) as where:
        options = [
            "--storage",
            where,
            "--n-trials",
            "2",
            "--n-fresh-seeds",
            "2",
            "--top-k",
            "1",
            "-n",
            "500",
            "--heartbeat",
            "1",
        ]
        assert main(["tune", "--algo", "q_learning", "-f", str(tmp_path), *options]) == 0
        assert "2 trials: 2 complete" in capsys.readouterr().out
        train = ["train", "--algo", "q_learning", "-f", str(tmp_path / "runs"), "--no-progress", "--study"]
        assert main([*train, where]) == 0
        assert main([*train, f"{where}:2"]) == 2
        assert "there is no trial 2" in capsys.readouterr().err


def test_wrong_servers_are_named_without_their_password(postgres):
    assert hide_password("postgresql://a:secret@h/d") == "postgresql://a:***@h/d"
    with pytest.raises(UserError) as refusal:
        open_storage(postgres.replace("tuner@", "tuner:secret@").replace("/postgres", "/nothing"))
    assert "nothing" in str(refusal.value)
    assert "secret" not in str(refusal.value)


def test_nobody_at_the_port(tmp_path, capsys, monkeypatch):
    pytest.importorskip("grpc", reason="grpcio is not installed (the extra tuning)")
    monkeypatch.setattr("sb3_lecture.zoo.tuning_storage.CONNECT_SECONDS", 0.3)
    assert main(["tune", "--algo", "q_learning", "-f", str(tmp_path), "--storage", f"grpc://127.0.0.1:{free_port()}"]) == 2
    assert "no server answers; start one with sb3-lecture tune-server" in capsys.readouterr().err


def test_a_server_needs_a_storage_and_a_free_port(tmp_path, capsys):
    pytest.importorskip("grpc", reason="grpcio is not installed (the extra tuning)")
    assert main(["tune-server", "--storage", "grpc://h:1"]) == 2
    assert "not of another server" in capsys.readouterr().err
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert main(["tune-server", "--storage", str(tmp_path / "s.db"), "--port", port]) == 2
    assert "cannot listen on" in capsys.readouterr().err
    assert optuna.get_all_study_names(open_storage(str(tmp_path / "s.db"))) == []
