"""A study that survives kills: claims of trials, lost ones requeued once, worker processes. Imports no torch.

A trial is *lost* when its worker died in it. It is closed as failed, without the traceback that an objective's own failure
leaves, and queued again once with the same values (Optuna's RetryHeartbeatStaleTrialCallback). The step from lost to queued
can be repeated at any time by anybody: a worker killed between the two leaves a lost trial without a successor, which the
next one to look queues. Workers on one machine look and claim under a file lock, which the kernel drops if its holder dies.
Those on other machines may look at the same moment: of two successors of one trial, and of trials beyond the number asked
for, the one with the lower number runs and the other is *void*, which each worker reads off its own trial's number.

Samplers are seeded by (seed, trial number). So no two workers anywhere draw the same start-up trials, and a study that was
killed and went on draws the same ones as one that was not.
"""

import contextlib
import copy
import multiprocessing
import os
import platform
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from filelock import BaseFileLock, FileLock
from optuna.distributions import BaseDistribution
from optuna.exceptions import ExperimentalWarning
from optuna.pruners import BasePruner, NopPruner, PercentilePruner, WilcoxonPruner
from optuna.samplers import BaseSampler, CmaEsSampler, GPSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, RetryHeartbeatStaleTrialCallback, fail_stale_trials
from optuna.study import Study
from optuna.trial import FrozenTrial, Trial, TrialState

from sb3_lecture.zoo import tuning_orphans
from sb3_lecture.zoo.errors import UserError
from sb3_lecture.zoo.tuning_storage import GRACE, HEARTBEAT, HeartbeatStorage, is_proxy, open_storage, proxied_heartbeat

#: user attributes of a trial: why it failed, why it does not count, why it was pruned (absent: the pruner), who runs it
TRACEBACK, VOID, DIVERGED, WORKER = "traceback", "void", "diverged", "worker"
SAMPLERS = ("tpe", "gp", "cmaes", "random")
PRUNERS = ("auto", "percentile", "wilcoxon", "none")
#: one-sided level of the Wilcoxon pruner: 5 seeds can reach it (1/32), so 6 is the first number at which it saves one
WILCOXON_LEVEL, WILCOXON_SEEDS = 0.05, 6
#: share of the trials that the percentile pruner lets pass at each step, and trials before it starts
KEPT_PERCENT, STARTUP_TRIALS = 75.0, 10
#: worker deaths in a row, without a finished trial between, after which a study gives up
MAX_DEATHS = 10
POLL_SECONDS = 0.5

_RETRY = RetryHeartbeatStaleTrialCallback


def quiet() -> None:
    """Silence Optuna's log and its notes that a feature is experimental."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    warnings.simplefilter("ignore", ExperimentalWarning)


# --- sampler and pruner ----------------------------------------------------------------------------------------------


class NumberedSampler(BaseSampler):
    """A sampler that is made anew for each trial, seeded by the study's seed and the trial's number.

    :param kind: "tpe", "gp", "cmaes" or "random"
    :param seed: the study's seed
    """

    def __init__(self, kind: str, seed: int) -> None:
        self._kind, self._seed = kind, seed
        self._sampler: BaseSampler = RandomSampler(seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Make the trial's sampler."""
        seed = int(np.random.SeedSequence([self._seed, trial.number]).generate_state(1)[0])
        self._sampler = make_sampler(self._kind, seed)
        self._sampler.before_trial(study, trial)

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Delegate."""
        return self._sampler.infer_relative_search_space(study, trial)

    def sample_relative(self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]) -> dict[str, Any]:
        """Delegate."""
        return self._sampler.sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """Delegate."""
        return self._sampler.sample_independent(study, trial, param_name, param_distribution)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Any) -> None:
        """Delegate."""
        self._sampler.after_trial(study, trial, state, values)


def make_sampler(kind: str, seed: int) -> BaseSampler:
    """Make one of Optuna's samplers.

    :raises UserError: if its package is missing
    """
    try:
        if kind == "random":
            return RandomSampler(seed)
        if kind == "gp":
            import scipy  # noqa: F401, only looked for: Optuna would say so in the middle of a study
            import torch  # noqa: F401

            return GPSampler(seed=seed, n_startup_trials=STARTUP_TRIALS)
        if kind == "cmaes":
            import cmaes  # noqa: F401

            return CmaEsSampler(seed=seed, n_startup_trials=STARTUP_TRIALS)
    except ImportError as error:
        raise UserError(f"--sampler {kind} needs {error.name}: pip install 'sb3-lecture[tuning]'") from error
    return TPESampler(seed=seed, n_startup_trials=STARTUP_TRIALS, multivariate=True, group=True, constant_liar=True)


def make_pruner(kind: str, n_seeds: int, n_evaluations: int) -> BasePruner:
    """Make the study's one pruner; its steps are seed · n_evaluations + evaluation.

    :param kind: "auto", "percentile", "wilcoxon" or "none"
    :param n_seeds: seeds of a trial
    :param n_evaluations: evaluations of a seed
    :raises UserError: if Wilcoxon's test could not reject before the last seed
    """
    if kind == "none":
        return NopPruner()
    if kind == "wilcoxon" and n_seeds < WILCOXON_SEEDS:
        raise UserError(f"--pruner wilcoxon needs --n-seeds {WILCOXON_SEEDS} or more: with {n_seeds} it never stops a trial")
    if kind == "wilcoxon" or (kind == "auto" and n_seeds >= WILCOXON_SEEDS):
        return WilcoxonPruner(p_threshold=WILCOXON_LEVEL)
    return PercentilePruner(KEPT_PERCENT, n_startup_trials=STARTUP_TRIALS, n_warmup_steps=n_evaluations // 3, n_min_trials=5)


# --- what became of a trial ------------------------------------------------------------------------------------------


def outcome(trial: FrozenTrial) -> str:
    """Say what became of a trial: complete, pruned, diverged, failed, lost, void, running or waiting."""
    if trial.state == TrialState.FAIL:
        return "void" if VOID in trial.user_attrs else "failed" if TRACEBACK in trial.user_attrs else "lost"
    if trial.state == TrialState.PRUNED and DIVERGED in trial.user_attrs:
        return "diverged"
    return trial.state.name.lower()


def counts(trial: FrozenTrial) -> bool:
    """Whether a trial is one of those asked for: the place of a lost one is its successor's, unless that is lost too."""
    what = outcome(trial)
    return what != "void" and (what != "lost" or bool(_RETRY.retry_history(trial)))


def tally(study: Study) -> Counter[str]:
    """Count the trials that count, by outcome."""
    return Counter(outcome(trial) for trial in study.get_trials(deepcopy=False) if counts(trial))


def requeue_lost(study: Study, storage: BaseStorage) -> None:
    """Close the trials whose worker is gone, and queue every lost one again, once.

    :param study: the study
    :param storage: what ``open_storage`` gave for it
    """
    if isinstance(storage, HeartbeatStorage):
        storage.start_clocks()
    gone = [t for t in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)) if _is_dead(t.user_attrs.get(WORKER))]
    for trial in gone:
        with contextlib.suppress(ValueError):  # somebody else has closed it
            study.tell(trial.number, state=TrialState.FAIL)
    fail_stale_trials(study)
    trials = study.get_trials(deepcopy=False)
    queued = {_RETRY.retried_trial_number(trial) for trial in trials}
    for trial in trials:
        if outcome(trial) == "lost" and not _RETRY.retry_history(trial) and trial.number not in queued:
            trial = copy.deepcopy(trial)
            trial.user_attrs.pop(WORKER, None)
            _RETRY(max_retry=1)(study, trial)


def requeue_all(storage: BaseStorage) -> None:
    """Do so in every study of a storage."""
    for name in optuna.get_all_study_names(storage):
        requeue_lost(optuna.load_study(study_name=name, storage=storage), storage)


def _why_void(trials: list[FrozenTrial], number: int, n_trials: int) -> str | None:
    """Why the trial must not run; None: it may."""
    earlier = [trial for trial in trials if trial.number < number and counts(trial)]
    original = _RETRY.retried_trial_number(trials[number])
    if original is None:
        return f"{n_trials} trials were asked for" if len(earlier) >= n_trials else None
    twin = next((t.number for t in earlier if _RETRY.retried_trial_number(t) == original), None)
    return None if twin is None else f"trial {twin} repeats trial {original} already"


@cache
def _machine() -> str:
    """Name this machine, and who sees its process numbers: a container has its own."""
    parts = [platform.node()]
    with contextlib.suppress(OSError):  # Linux only
        parts += [Path("/proc/sys/kernel/random/boot_id").read_text().strip(), os.readlink("/proc/self/ns/pid")]
    return " ".join(parts)


def _is_dead(worker: str | None) -> bool:
    """Whether a worker ran here and runs no more; others are judged by their heartbeat."""
    if worker is None or os.name != "posix":
        return False
    machine, _, pid = worker.rpartition(" ")
    if machine != _machine():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False


# --- workers ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """What a worker needs to know.

    :param storage: a file or URL, see ``open_storage``
    :param study: the study's name
    :param n_trials: trials that the study shall hold in the end, all workers together
    :param objective: trial → value, to be maximised; must be picklable
    :param lock: file whose lock the workers of this machine claim trials under
    :param sampler: one of SAMPLERS
    :param seed: of the sampler
    :param pruner: the pruner
    :param heartbeat: seconds between two heartbeats
    :param grace: seconds without one until a trial counts as lost
    """

    storage: str
    study: str
    n_trials: int
    objective: Callable[[Trial], float]
    lock: str
    sampler: str = "tpe"
    seed: int = 0
    pruner: BasePruner | None = None
    heartbeat: int = HEARTBEAT
    grace: int = GRACE

    def connect(self) -> BaseStorage:
        """Open the storage."""
        quiet()
        return open_storage(self.storage, self.heartbeat, self.grace)

    def open(self, storage: BaseStorage | None = None) -> Study:
        """Open the study, which is made where there is none.

        :param storage: what ``connect`` gave; None: a connection of its own
        """
        quiet()
        return optuna.create_study(
            storage=self.connect() if storage is None else storage, study_name=self.study, direction="maximize",
            load_if_exists=True, sampler=NumberedSampler(self.sampler, self.seed), pruner=self.pruner or NopPruner(),
        )  # fmt: skip


def work(job: Job) -> None:
    """Run trials until the study holds as many as were asked for and none of them can be lost any more.

    :param job: the study and its objective
    """
    storage, lock = job.connect(), FileLock(job.lock)
    study = job.open(storage)
    while True:
        with lock:
            if not is_proxy(job.storage):
                requeue_lost(study, storage)
            now = tally(study)
            busy = now["running"] + now["waiting"]
            if now.total() >= job.n_trials and not now["waiting"]:
                if not busy:
                    return
            else:
                _run_one(job, study, storage, lock)
                continue
        time.sleep(POLL_SECONDS)  # another worker's last trial: if it is lost, it is run here


class VoidTrialError(Exception):
    """The trial must not run."""


def _run_one(job: Job, study: Study, storage: BaseStorage, lock: BaseFileLock) -> None:
    claimed: list[int] = []

    def objective(trial: Trial) -> float:
        claimed.append(trial.number)
        with proxied_heartbeat(storage, job.study, trial.number, job.heartbeat):
            return _attempt(job, lock, trial)

    try:
        study.optimize(objective, n_trials=1, catch=(Exception,))
    except Exception:  # not the objective's: those are caught
        if not claimed or outcome(study.get_trials(deepcopy=False)[claimed[0]]) != "lost":
            raise  # otherwise it was given up for lost and queued again: its result comes too late


def _attempt(job: Job, lock: BaseFileLock, trial: Trial) -> float:
    """Run a claimed trial, and say in the study how it failed."""
    why_void = _why_void(trial.study.get_trials(deepcopy=False), trial.number, job.n_trials)
    trial.set_user_attr(WORKER, f"{_machine()} {os.getpid()}")
    lock.release(force=True)  # the claim is made
    if why_void is not None:
        trial.set_user_attr(VOID, why_void)
        raise VoidTrialError(why_void)
    try:
        value = float(job.objective(trial))
    except optuna.TrialPruned:
        raise
    except Exception:
        trial.set_user_attr(TRACEBACK, traceback.format_exc())
        raise
    if not np.isfinite(value):
        trial.set_user_attr(DIVERGED, f"the objective is {value}")
        raise optuna.TrialPruned
    return value


def context(preload: list[str]) -> Any:
    """How processes start: from a clean one that has imported the modules already, where the system can do that.

    That one ends with this process, also while it imports: its first import is ``tuning_orphans``.
    """
    if "forkserver" not in multiprocessing.get_all_start_methods():
        return multiprocessing.get_context("spawn")
    from multiprocessing import forkserver

    start = multiprocessing.get_context("forkserver")
    start.set_forkserver_preload([tuning_orphans.__name__, *preload])
    with tuning_orphans.announced():
        forkserver.ensure_running()
    return start


def run_workers(
    job: Job, n_workers: int, preload: list[str] | None = None, show: Callable[[Study], None] = lambda study: None
) -> None:
    """Run a study by worker processes. One that dies is replaced.

    :param job: the study and its objective
    :param n_workers: processes
    :param preload: modules that every worker needs, imported once
    :param show: called with the study about twice a second
    :raises RuntimeError: if the workers keep dying
    """
    study = job.open()
    start = context(preload or [])
    workers: list[Any] = []
    deaths, finished = 0, 0
    try:
        workers = [_start(start, job) for _ in range(n_workers)]
        while workers:
            wait([worker.sentinel for worker in workers], timeout=POLL_SECONDS)
            show(study)
            now = tally(study)
            ended = now["complete"] + now["pruned"] + now["diverged"] + now["failed"]
            if ended > finished:
                deaths, finished = 0, ended
            for worker in [worker for worker in workers if not worker.is_alive()]:
                workers.remove(worker)
                if worker.exitcode != 0:
                    deaths += 1
                    if deaths >= MAX_DEATHS:
                        raise RuntimeError(f"{deaths} workers died in a row, the last with exit code {worker.exitcode}")
                    workers.append(_start(start, job))
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.join()
    show(study)


def _worker(job: Job) -> None:
    tuning_orphans.end_with_parent()
    with contextlib.suppress(KeyboardInterrupt):  # the parent got it too, and says so
        work(job)


def _start(start: Any, job: Job) -> Any:
    worker = start.Process(target=_worker, args=(job,))
    worker.start()
    return worker
