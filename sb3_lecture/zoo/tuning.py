"""``tune``: a study of an algorithm's hyperparameters, judged on fresh seeds, reported, and written into the config.

The order: workers run the trials (``tuning_study``), each worth what ``tuning_objective`` says; the best k and the present
values are trained again on fresh seeds; ``tuning_report`` compares them and draws; ``tuning_config`` writes the winner back.
Everything that was computed stands in the study, fresh scores too: after a kill at any moment the same command goes on.
"""

import contextlib
import dataclasses
import importlib.util
import multiprocessing
import re
import shlex
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState
from tqdm import tqdm

from sb3_lecture.zoo import configs, tuning_orphans, tuning_report
from sb3_lecture.zoo.errors import UserError, first_line, hide_passwords
from sb3_lecture.zoo.tuning_config import write_entry
from sb3_lecture.zoo.tuning_objective import (
    HYPERPARAMETERS,
    DivergedError,
    Objective,
    Settings,
    Trainer,
    check,
)
from sb3_lecture.zoo.tuning_report import Verdict
from sb3_lecture.zoo.tuning_storage import hide_password, is_file, is_proxy, open_storage, serve_dashboard
from sb3_lecture.zoo.tuning_study import (
    GRACE,
    HEARTBEAT,
    Job,
    context,
    make_pruner,
    make_sampler,
    quiet,
    run_workers,
    tally,
)

STUDY_FILE = "study.db"
DASHBOARD_PORT = 8080
#: attributes of a study
SETTINGS, WINNER, FRESH = "settings", "winner", "fresh"
#: fresh seeds begin so far above the trials' own
FRESH_OFFSET = 10_000
PRESENT = "present"
_PRELOAD = ["sb3_lecture.zoo.tuning_objective"]
#: a pool whose processes die is made anew so often
_POOLS = 5


@dataclass(frozen=True)
class Options:
    """Options of ``tune``.

    :param settings: what is tuned, and how a trial is scored
    :param folder: where the study's file, report and pictures go
    :param storage: a file or URL, see ``open_storage``; None: a file in the folder
    :param name: the study's name
    :param n_trials: trials that the study shall hold
    :param n_workers: processes
    :param sampler: "tpe", "gp", "cmaes" or "random"
    :param pruner: "auto", "percentile", "wilcoxon" or "none"
    :param seed: of the sampler
    :param top_k: trials that are trained again on fresh seeds
    :param n_fresh_seeds: how many
    :param write_config: write the winner into the config
    :param dashboard: start optuna-dashboard
    :param progress: show a bar
    :param heartbeat: seconds between two heartbeats
    :param grace: seconds without one until a trial counts as lost
    """

    settings: Settings
    folder: Path
    storage: str | None
    name: str
    n_trials: int = 100
    n_workers: int = 1
    sampler: str = "tpe"
    pruner: str = "auto"
    seed: int = 0
    top_k: int = 5
    n_fresh_seeds: int = 10
    write_config: bool = False
    dashboard: bool = False
    progress: bool = True
    heartbeat: int = HEARTBEAT
    grace: int = GRACE

    @property
    def where(self) -> str:
        """The storage, a file or URL."""
        return str(self.folder / STUDY_FILE) if self.storage is None else self.storage


def tune(options: Options) -> int:
    """Run a study to its end, or go on with it, and report.

    :param options: what to do
    :return: the exit code: 0, 1 if no trial was completed
    :raises UserError: if an option, the config or the storage is wrong
    """
    quiet()
    settings = options.settings
    make_sampler(options.sampler, 0)
    if importlib.util.find_spec("scipy") is None:
        raise UserError("tune needs scipy: pip install 'sb3-lecture[tuning]'")
    pruner = make_pruner(options.pruner, len(settings.seeds), settings.n_evaluations)
    try:
        options.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--folder: {error.strerror}: {options.folder}") from error
    job = Job(
        options.where, options.name, options.n_trials, Objective(settings), str(options.folder / "claims.lock"),
        options.sampler, options.seed, pruner, options.heartbeat, options.grace,
    )  # fmt: skip
    try:
        study = job.open()
        _agree(study, settings)
        check(settings)
    except UserError:
        with contextlib.suppress(OSError):  # nothing is in it
            options.folder.rmdir()
        raise
    with _dashboard(options):
        print(f"Study:   {options.name} in {hide_password(options.where)}")
        with _Progress(options) as progress:
            run_workers(job, options.n_workers, _PRELOAD, progress.show)
        print(tuning_report.counts_line(study))
        failure = tuning_report.first_traceback(study)
        if not study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,)):
            print(f"No trial was completed.{' The first failure:' if failure else ''}", file=sys.stderr)
            print(failure or "All were pruned or diverged: see their values in the report.", file=sys.stderr)
            tuning_report.write(study, options.folder, None, _facts(options, study))
            return 1
        verdict = _judge(study, options)
        study.set_user_attr(WINNER, None if verdict.winner is None else verdict.winner.number)
        print(verdict.sentence())
        if len({candidate.value for candidate in verdict.candidates}) == 1 < len(verdict.candidates):
            print(
                "The best trials are worth the same: --score mean or fewer steps (-n) would tell fast learners from slow ones."
            )
        if failure:
            print(f"The first failure: {failure.strip().splitlines()[-1]} (traceback in the report)")
        print(f"Report:  {tuning_report.write(study, options.folder, verdict, _facts(options, study))}")
        if options.write_config:
            _write_config(options, verdict, study)
        if options.dashboard:
            print("The dashboard runs until Ctrl-C.")
            with contextlib.suppress(KeyboardInterrupt):
                _wait_for_ctrl_c()
    return 0


def _agree(study: Study, settings: Settings) -> None:
    """Trials of one study must be worth the same: refuse another task or another way to score it."""
    own = dataclasses.asdict(settings) | {"conf_file": Path(settings.conf_file).name, "seeds": list(settings.seeds)}
    for name in ("device", "threads", "gym_packages"):
        del own[name]
    theirs = study.user_attrs.get(SETTINGS)
    if theirs is None:
        if study.get_trials(deepcopy=False):
            raise UserError(f"the study {study.study_name!r} was not made by tune; give another --study-name")
        study.set_user_attr(SETTINGS, own)
        return
    for name, value in own.items():
        if theirs.get(name) != value:
            raise UserError(
                f"the study {study.study_name!r} was made with {name}={theirs.get(name)!r}, not {value!r}; "
                "use that again, or another --study-name"
            )


# --- fresh seeds -----------------------------------------------------------------------------------------------------


def best_trials(study: Study, k: int) -> list[FrozenTrial]:
    """The k completed trials worth most, each set of hyperparameters once."""
    found: dict[str, FrozenTrial] = {}
    complete = study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
    for trial in sorted(complete, key=lambda trial: (-float(trial.value or 0.0), trial.number)):
        found.setdefault(repr(trial.user_attrs[HYPERPARAMETERS]), trial)
    return list(found.values())[:k]


def _judge(study: Study, options: Options) -> Verdict:
    """Train the best trials and the present values on fresh seeds; scores that the study holds already are kept."""
    trials = best_trials(study, options.top_k)
    values: dict[str, dict[str, Any]] = {PRESENT: {}}
    values |= {str(trial.number): trial.user_attrs[HYPERPARAMETERS] for trial in trials}
    seeds = [options.settings.seeds[0] + FRESH_OFFSET + i for i in range(options.n_fresh_seeds)]
    keys = {f"{FRESH}:{name}:{seed}": (name, seed) for name in values for seed in seeds}
    known = {key: score for key, score in study.user_attrs.items() if key in keys}
    left = {key: where for key, where in keys.items() if key not in known}
    bar = tqdm(total=len(keys), initial=len(known), desc="fresh seeds", disable=not options.progress)
    with bar:
        for _ in range(_POOLS):
            with contextlib.suppress(BrokenProcessPool):  # somebody killed a process: its seeds are still left
                pool = ProcessPoolExecutor(
                    options.n_workers, mp_context=context(_PRELOAD), initializer=tuning_orphans.end_with_parent
                )
                with pool:
                    futures = {
                        pool.submit(fresh_score, options.settings, values[name], seed): key
                        for key, (name, seed) in left.items()
                    }
                    for future in as_completed(futures):
                        known[futures[future]] = future.result()
                        study.set_user_attr(futures[future], future.result())
                        del left[futures[future]]
                        bar.update()
            if not left:
                break
        else:
            raise RuntimeError(f"the processes that train on fresh seeds died {_POOLS} times")
    scores = {name: [_number(known[f"{FRESH}:{name}:{seed}"]) for seed in seeds] for name in values}
    numbers = {trial.number: trial for trial in trials}
    return tuning_report.judge(
        scores[PRESENT],
        {number: scores[str(number)] for number in numbers},
        {number: float(trial.value or 0.0) for number, trial in numbers.items()},
        {number: trial.user_attrs[HYPERPARAMETERS] for number, trial in numbers.items()},
    )


def fresh_score(settings: Settings, changed: dict[str, Any], seed: int) -> float | str:
    """Train once.

    :param settings: what is tuned
    :param changed: hyperparameters on top of the config's
    :param seed: of the training
    :return: the score, or why there is none
    """
    try:
        return Trainer(settings).train(changed, seed)
    except (DivergedError, ValueError, RuntimeError, AssertionError, TypeError) as error:
        return f"{type(error).__name__}: {first_line(error)}"


def _number(score: float | str) -> float | None:
    return None if isinstance(score, str) else score


# --- what is shown ---------------------------------------------------------------------------------------------------


class _Progress:
    """A bar with the best value and the counts; without a terminal, a line at each tenth."""

    def __init__(self, options: Options) -> None:
        self._n, self._bar_wanted, self._tenth = options.n_trials, options.progress, 0

    def __enter__(self) -> "_Progress":
        self._bar = tqdm(total=self._n, desc="trials", disable=not self._bar_wanted)
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def show(self, study: Study) -> None:
        now = tally(study)
        done = now.total() - now["running"] - now["waiting"]
        best = max(
            (float(t.value or 0.0) for t in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))), default=None
        )
        facts = {"best": "none" if best is None else f"{best:.4g}", "pruned": now["pruned"] + now["diverged"]}
        facts["failed"] = now["failed"] + now["lost"]
        if self._bar_wanted:
            self._bar.set_postfix(facts, refresh=False)
            self._bar.n = min(done, self._n)
            self._bar.refresh()
        elif done * 10 // self._n > self._tenth:
            self._tenth = done * 10 // self._n
            print(f"{done} of {self._n} trials, " + ", ".join(f"{name} {value}" for name, value in facts.items()), flush=True)


def _facts(options: Options, study: Study) -> dict[str, Any]:
    settings = options.settings
    over = "mean" if settings.quantile is None else f"{settings.quantile:g}-quantile"
    what = "last evaluation" if settings.score == "final" else f"mean of {settings.n_evaluations} evaluations"
    return {
        "Command": hide_passwords(shlex.join(sys.argv)),
        "Algorithm": settings.algo,
        "Environment": settings.env_id,
        "Config": settings.conf_file,
        "Training": f"{settings.n_timesteps} steps" if settings.n_timesteps else "as many steps as the config says",
        "Value of a trial": f"{over} over seeds {settings.seeds[0]} to {settings.seeds[-1]} of the {what}, "
        f"{settings.n_eval_episodes} fixed episodes each",
        "Sampler, pruner": f"{options.sampler}, {options.pruner}",
        "Storage": hide_password(options.where),
        "Optuna": optuna.__version__,
    }


@contextlib.contextmanager
def _dashboard(options: Options) -> Iterator[None]:
    """Run optuna-dashboard beside the study."""
    if not options.dashboard:
        yield
        return
    if importlib.util.find_spec("optuna_dashboard") is None:
        raise UserError("--dashboard needs optuna-dashboard: pip install 'sb3-lecture[tuning]'")
    if is_proxy(options.where):
        raise UserError("--dashboard reads a file or a database: start it there, beside the server")
    # a process of its own; what it shall open goes through a pipe, so that no password stands in a list of processes
    server = multiprocessing.get_context("spawn").Process(
        target=serve_dashboard, args=(options.where, DASHBOARD_PORT), daemon=True
    )
    server.start()
    print(f"Dashboard: http://127.0.0.1:{DASHBOARD_PORT}/")
    try:
        yield
    finally:
        server.terminate()
        server.join()


def _wait_for_ctrl_c() -> None:
    threading.Event().wait()


# --- using the result ------------------------------------------------------------------------------------------------


def _write_config(options: Options, verdict: Verdict, study: Study) -> None:
    """Write the winner, or that nothing better was found, into the config."""
    settings = options.settings
    path = configs.config_to_write(settings.conf_file)
    entries = configs.read_entries(path)
    based_on = settings.env_id if settings.env_id in entries else "default" if "default" in entries else next(iter(entries))
    winner, n = verdict.winner, len(verdict.present)
    counted = tally(study).total()
    how = (
        f"tune --algo {settings.algo} --env {settings.env_id}, study {options.name}: {counted} trials ({options.sampler}), "
        f"{len(settings.seeds)} seeds each, {settings.score} score"
    )
    if winner is None or not verdict.better:
        beside = "" if winner is None else f"; its best, trial {winner.number}, {winner.mean}"
        source = f"{how}. None distinguishably better than these: {verdict.present_mean} on {n} fresh seeds (95 % CI){beside}"
        write_entry(path, settings.env_id, {}, source, based_on)
        print(f"Config:  {path} keeps its values, and says what was tried{_how_found(path, settings.conf_file)}")
        return
    source = f"{how}. Trial {winner.number}: {winner.mean} on {n} fresh seeds, {verdict.present_mean} before (95 % CI)"
    write_entry(path, settings.env_id, winner.hyperparameters, source, based_on)
    print(f"Config:  {path}, entry {settings.env_id}{_how_found(path, settings.conf_file)}")


def _how_found(path: Path, conf_file: str) -> str:
    """Say that a copy of the user's is found by itself."""
    if path == Path(conf_file):
        return ""
    return f"; train and tune take it in place of the installed {conf_file}, remove it to go back"


def trained_with(study_and_trial: str, algo: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read the hyperparameters of a trial, for ``train --study FILE[:trial]``.

    :param study_and_trial: a study's file (or its folder, or a storage's URL), and after a colon the trial's number; without
        it, the winner
    :param algo: the algorithm that shall be trained
    :return: hyperparameters in the config's form; the study's settings
    :raises UserError: if there is no such study or trial, or it is of another algorithm
    """
    quiet()
    match = re.fullmatch(r"(grpc://[^/]*?:\d+|.*?)(?::(\d+))?", study_and_trial)
    assert match is not None  # the pattern takes any text
    where, number = match[1], match[2]
    if is_file(where):
        path = Path(where) / STUDY_FILE if Path(where).is_dir() else Path(where)
        if not path.is_file():
            raise UserError(f"--study {study_and_trial}: there is no file {path}")
        where = str(path)
    storage = open_storage(where)
    studies = {
        s.study_name: s.user_attrs[SETTINGS] for s in optuna.get_all_study_summaries(storage) if SETTINGS in s.user_attrs
    }
    if not studies:
        raise UserError(f"--study {study_and_trial}: it holds no study that tune made")
    fitting = [name for name, settings in studies.items() if settings["algo"] == algo]
    if not fitting:
        made = ", ".join(sorted({settings["algo"] for settings in studies.values()}))
        raise UserError(f"--study {study_and_trial}: it tuned {made}, not {algo}")
    if len(fitting) > 1:
        raise UserError(f"--study {study_and_trial}: it holds several studies of {algo}: {', '.join(fitting)}")
    study = optuna.load_study(study_name=fitting[0], storage=storage)
    trial = _chosen_trial(study, number, study_and_trial)
    if HYPERPARAMETERS not in trial.user_attrs:
        raise UserError(f"--study {study_and_trial}: trial {trial.number} never began")
    return dict(trial.user_attrs[HYPERPARAMETERS]), studies[fitting[0]]


def _chosen_trial(study: Study, number: str | None, given: str) -> FrozenTrial:
    trials = study.get_trials(deepcopy=False)
    if number is not None:
        if int(number) >= len(trials):
            raise UserError(f"--study {given}: there is no trial {number}; trials are 0 to {len(trials) - 1}")
        return trials[int(number)]
    winner = study.user_attrs.get(WINNER)
    if winner is not None:
        return trials[winner]
    best = best_trials(study, 1)
    if not best:
        raise UserError(f"--study {given}: no trial is complete yet")
    return best[0]
