"""kill -9: no study lost, no completed trial lost, lost trials requeued exactly once."""

import contextlib
import random
import sqlite3
import time
from multiprocessing.connection import wait

import optuna
import pytest
import sqlalchemy
import tuning_helpers
from optuna.storages import JournalStorage, RetryHeartbeatStaleTrialCallback
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from sb3_lecture.zoo import tuning_study
from sb3_lecture.zoo.tuning_storage import open_storage
from sb3_lecture.zoo.tuning_study import WORKER, Job, context, counts, outcome, requeue_lost, run_workers, tally, work

TIMINGS = {"heartbeat": 1, "grace": 10**6}  # nothing here is judged by the clock


@pytest.fixture(autouse=True)
def _quiet():
    tuning_study.quiet()


def start_workers(job, n, target=work):
    start = context(tuning_helpers.PRELOAD)
    workers = [start.Process(target=target, args=(job,)) for _ in range(n)]
    for worker in workers:
        worker.start()
    return workers


def until(condition, workers):
    """Wait for what the workers are to do; they may take as long as the machine makes them."""
    while not condition():
        if all(not worker.is_alive() for worker in workers):
            assert condition(), "the workers ended, and it did not come true"
        wait([worker.sentinel for worker in workers], timeout=0.02)


def lines(log):
    return log.read_bytes().count(b"\n")


def running(study):
    return [trial for trial in study.trials if trial.state == TrialState.RUNNING]


def successors(study, number):
    return [t for t in study.trials if RetryHeartbeatStaleTrialCallback.retry_history(t)[-1:] == [number]]


@pytest.mark.parametrize("rounds", [4, pytest.param(50, marks=pytest.mark.slow)])
def test_kills_at_random_moments_lose_nothing(tmp_path, rounds):
    rng = random.Random(rounds)
    log, where = tmp_path / "log", str(tmp_path / "study.db")
    log.touch()
    job = Job(where, "s", 10**6, tuning_helpers.Logged(str(log), 0.005), str(tmp_path / "lock"), sampler="random", **TIMINGS)
    completed: dict[int, float] = {}
    for _ in range(rounds):
        workers, begun, wanted = start_workers(job, 3), lines(log), rng.randint(0, 12)
        until(lambda begun=begun, wanted=wanted: lines(log) - begun >= wanted, workers)  # 0: they are still starting
        time.sleep(rng.uniform(0.0, 0.1))
        for worker in rng.sample(workers, rng.randint(1, 3)):
            worker.kill()
        time.sleep(rng.uniform(0.0, 0.05))
        for worker in workers:
            worker.kill()
        for worker in workers:
            worker.join()
        trials = job.open().trials  # readable, and:
        for trial in trials:
            if trial.state == TrialState.COMPLETE:
                assert completed.setdefault(trial.number, trial.value) == trial.value
        assert {number for number in completed if trials[number].state != TrialState.COMPLETE} == set()
    assert completed, "no trial was completed between the kills: nothing was tested"
    with sqlite3.connect(where) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)

    study, storage = job.open(), job.connect()
    for _ in range(2):  # a worker killed before it wrote its name into its trial is missed by its heartbeat alone
        requeue_lost(study, storage)
        grow_old(storage, job.grace + 1)  # heartbeats count whole seconds: this round may take less than one
    assert not running(study)
    n_trials = tally(study).total() + 3
    work(Job(where, "s", n_trials, job.objective, job.lock, sampler="random", **TIMINGS))
    trials = study.trials
    assert [trial.number for trial in trials] == list(range(len(trials)))
    assert sum(map(counts, trials)) == n_trials
    begun = [int(line.split()[0]) for line in log.read_text().splitlines()]
    assert len(set(begun)) == len(begun), "a trial ran twice under one number"
    for trial in trials:
        history = RetryHeartbeatStaleTrialCallback.retry_history(trial)
        expected = 1 if outcome(trial) == "lost" and not history else 0
        assert len(successors(study, trial.number)) == expected


def test_a_killed_worker_is_requeued_exactly_once_with_the_same_values(tmp_path):
    flag = tmp_path / "go"
    job = Job(str(tmp_path / "s.db"), "s", 4, tuning_helpers.Held(str(flag)), str(tmp_path / "lock"), **TIMINGS)
    study = job.open()
    (worker,) = start_workers(job, 1)
    until(lambda: running(study) and running(study)[0].params and WORKER in running(study)[0].user_attrs, [worker])
    worker.kill()
    worker.join()
    flag.touch()
    work(job)
    trials = study.trials
    assert [outcome(trial) for trial in trials] == ["lost", "complete", "complete", "complete", "complete"]
    assert trials[1].params == trials[0].params
    assert RetryHeartbeatStaleTrialCallback.retried_trial_number(trials[1]) == 0
    requeue_lost(study, job.connect())
    assert len(study.trials) == 5


def test_ctrl_c_ends_the_workers_and_the_next_run_goes_on(tmp_path):
    flag = tmp_path / "go"
    job = Job(str(tmp_path / "s.db"), "s", 3, tuning_helpers.Held(str(flag)), str(tmp_path / "lock"), **TIMINGS)

    def interrupt(study):
        if any(WORKER in trial.user_attrs for trial in running(study)):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_workers(job, 1, tuning_helpers.PRELOAD, interrupt)
    flag.touch()
    work(job)
    assert [outcome(trial) for trial in job.open().trials] == ["lost", "complete", "complete", "complete"]


@pytest.mark.slow
def test_a_trial_lost_twice_is_given_up_and_counts(tmp_path):
    job = Job(str(tmp_path / "s.db"), "s", 1, tuning_helpers.Held(str(tmp_path / "never")), str(tmp_path / "lock"), **TIMINGS)
    study = job.open()
    for lost in (1, 2):
        (worker,) = start_workers(job, 1)
        until(lambda: running(study) and WORKER in running(study)[0].user_attrs, [worker])
        worker.kill()
        worker.join()
        requeue_lost(study, job.connect())
        assert [outcome(t) for t in study.trials] == (["lost", "waiting"] if lost == 1 else ["lost", "lost"])
    work(job)  # there is nothing left to do
    assert tally(study) == {"lost": 1}


@pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed to be used with Study.optimize")
def test_a_kill_between_lost_and_requeued_is_made_up_for(tmp_path):
    job = Job(str(tmp_path / "s.db"), "s", 1, tuning_helpers.quadratic, str(tmp_path / "lock"), **TIMINGS)
    study = job.open()
    study.tell(study.ask(), state=TrialState.FAIL)  # closed as lost; who closed it was killed before it queued it again
    work(job)
    assert [outcome(trial) for trial in study.trials] == ["lost", "complete"]


def grow_old(storage, seconds):
    """Let all heartbeats lie further back, and the clock stand still."""
    with storage.engine.begin() as connection:
        connection.execute(
            sqlalchemy.text("UPDATE trial_heartbeats SET heartbeat = datetime(heartbeat, :back)"),
            {"back": f"-{seconds} seconds"},
        )


@pytest.mark.filterwarnings("ignore:Heartbeat of storage is supposed to be used with Study.optimize")
def test_silence_beyond_the_grace_period_is_death_with_and_without_a_first_heartbeat(tmp_path):
    grace = 10**6
    storage = open_storage(str(tmp_path / "s.db"), 1, grace)
    study = optuna.create_study(storage=storage, direction="maximize")
    beaten, silent = study.ask(), study.ask()  # `silent` was killed before its first heartbeat
    beaten.set_user_attr(WORKER, "elsewhere 1")
    storage.record_heartbeat(1)
    requeue_lost(study, storage)
    assert len(study.trials) == 2, "both had a moment ago"
    for age, states in ((grace // 2, 2), (grace, 4)):
        grow_old(storage, age)
        requeue_lost(study, storage)
        assert len(study.trials) == states
    grow_old(storage, grace)
    requeue_lost(study, storage)
    assert [outcome(trial) for trial in study.trials] == ["lost", "lost", "waiting", "waiting"]
    assert [RetryHeartbeatStaleTrialCallback.retried_trial_number(t) for t in study.trials[2:]] in ([0, 1], [1, 0])
    assert silent.number == 1


def test_a_result_that_comes_after_the_trial_was_given_up_is_not_counted_twice(tmp_path):
    flag = tmp_path / "go"
    job = Job(str(tmp_path / "s.db"), "s", 1, tuning_helpers.Held(str(flag)), str(tmp_path / "lock"), **TIMINGS)
    study = job.open()
    (worker,) = start_workers(job, 1)
    until(lambda: running(study) and WORKER in running(study)[0].user_attrs, [worker])
    study.tell(0, state=TrialState.FAIL)
    flag.touch()
    worker.join()
    assert worker.exitcode == 0
    assert [outcome(trial) for trial in study.trials] == ["lost", "complete"]


def test_why_not_a_journal_a_half_written_line_makes_it_unreadable(tmp_path):
    path = str(tmp_path / "journal.log")
    optuna.create_study(storage=JournalStorage(JournalFileBackend(path)), study_name="s")
    with open(path, "ab") as journal:  # what a kill in the middle of a write leaves
        journal.write(b'{"op_code":4,"worker_id":"1-')
    for _ in range(2):  # the workers that live on glue a line to the half one, and do not notice
        with contextlib.suppress(AttributeError, ValueError):
            optuna.load_study(storage=JournalStorage(JournalFileBackend(path)), study_name="s").add_trial(
                optuna.create_trial(value=2.0)
            )
    with pytest.raises(ValueError, match=r"delimiter|Invalid log format|Unterminated"):
        optuna.load_study(storage=JournalStorage(JournalFileBackend(path)), study_name="s")
