"""The study's loop: samplers, pruners, outcomes, resuming; all with objectives whose answers are known."""

import multiprocessing
import re

import numpy as np
import optuna
import pytest
import tuning_helpers
from optuna.trial import TrialState

from sb3_lecture.zoo import tuning_study
from sb3_lecture.zoo.errors import UserError
from sb3_lecture.zoo.tuning_study import (
    DIVERGED,
    TRACEBACK,
    VOID,
    Job,
    NumberedSampler,
    make_pruner,
    make_sampler,
    outcome,
    run_workers,
    tally,
    work,
)


@pytest.fixture(autouse=True)
def _quiet():
    tuning_study.quiet()
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)


def job_in(folder, objective, n_trials, **kwargs):
    return Job(str(folder / "study.db"), "s", n_trials, objective, str(folder / "claims.lock"), **kwargs)


def test_tpe_finds_the_top_of_a_quadratic(tmp_path):
    job = job_in(tmp_path, tuning_helpers.quadratic, 40)
    work(job)
    study = job.open()
    assert tally(study) == {"complete": 40}
    assert abs(study.best_params["x"] - 2.0) < 0.5  # 40 uniform draws miss this interval with probability 0.13
    guided = [trial.params["x"] for trial in study.trials[20:]]
    assert np.median(np.abs(np.array(guided) - 2.0)) < 2.0  # uniform draws have a median of 5


@pytest.mark.parametrize("kind", ["random", "gp", "cmaes"])
def test_every_sampler_runs(tmp_path, kind):
    make_sampler(kind, 0)
    job = job_in(tmp_path, tuning_helpers.quadratic, 14, sampler=kind)
    work(job)
    assert tally(job.open())["complete"] == 14


def test_workers_draw_distinct_start_up_trials_and_those_of_a_single_worker(tmp_path):
    (tmp_path / "one").mkdir()
    (tmp_path / "two").mkdir()
    one = job_in(tmp_path / "one", tuning_helpers.quadratic, 8, sampler="random", seed=5)
    two = job_in(tmp_path / "two", tuning_helpers.Together(str(tmp_path / "log")), 8, sampler="random", seed=5)
    work(one)
    run_workers(two, 2, tuning_helpers.PRELOAD)
    draws = [[trial.params["x"] for trial in job.open().trials] for job in (one, two)]
    assert len(set(draws[1])) == 8
    assert draws[0] == draws[1]  # (seed, trial number) says it all
    assert len({line.split()[1] for line in (tmp_path / "log").read_text().splitlines()}) == 2


def test_another_seed_draws_other_trials():
    draws = []
    for seed in (0, 1):
        study = optuna.create_study(sampler=NumberedSampler("random", seed))
        study.optimize(tuning_helpers.quadratic, n_trials=3)
        draws.append([trial.params["x"] for trial in study.trials])
    assert not set(draws[0]) & set(draws[1])


def test_nan_prunes_an_exception_fails_with_its_traceback(tmp_path):
    job = job_in(tmp_path, tuning_helpers.logarithm, 12, sampler="random")
    work(job)
    trials = job.open().trials
    assert trials[3].state == TrialState.FAIL
    assert "ZeroDivisionError" in trials[3].user_attrs[TRACEBACK]
    assert "in logarithm" in trials[3].user_attrs[TRACEBACK]
    for trial in trials[:3] + trials[4:]:
        assert outcome(trial) == ("diverged" if trial.params["x"] < 0 else "complete")
        assert (DIVERGED in trial.user_attrs) == (trial.state == TrialState.PRUNED)


@pytest.mark.slow
def test_resuming_goes_on_to_exactly_n_trials(tmp_path):
    log = tmp_path / "log"
    for n_trials, n_workers, in_the_end in ((5, 1, 5), (12, 3, 12), (8, 1, 12)):
        job = job_in(tmp_path, tuning_helpers.Logged(str(log), 0.01), n_trials)
        run_workers(job, n_workers, tuning_helpers.PRELOAD)
        assert tally(job.open()) == {"complete": in_the_end}
    assert sorted(int(line.split()[0]) for line in log.read_text().splitlines()) == list(range(12))


@pytest.mark.slow
def test_workers_that_die_in_a_row_end_the_study(tmp_path, monkeypatch):
    monkeypatch.setattr(tuning_study, "MAX_DEATHS", 4)
    with pytest.raises(RuntimeError, match="4 workers died in a row, the last with exit code 9"):
        run_workers(job_in(tmp_path, tuning_helpers.die, 100), 2, tuning_helpers.PRELOAD)


def test_of_two_successors_only_the_first_runs_and_surplus_trials_are_void(tmp_path):
    job = job_in(tmp_path, tuning_helpers.quadratic, 3)
    study = job.open()
    for _ in range(2):  # two machines have both requeued trial 7
        study.add_trial(optuna.create_trial(state=TrialState.WAITING, system_attrs={"failed_trial": 7, "retry_history": [7]}))
    work(job)
    trials = study.trials
    assert [outcome(trial) for trial in trials] == ["complete", "void", "complete", "complete"]
    assert trials[1].user_attrs[VOID] == "trial 0 repeats trial 7 already"
    study.optimize(lambda trial: tuning_study._attempt(job, tuning_study.FileLock(job.lock), trial), 1, catch=(Exception,))
    assert study.trials[4].user_attrs[VOID] == "3 trials were asked for"
    assert tally(study) == {"complete": 3}


# --- pruners, against hand-worked cases ------------------------------------------------------------------------------


def _reporting(values):
    """An objective that reports (step, value) pairs and says where it was stopped."""

    def objective(trial):
        for step, value in values:
            trial.report(value, step)
            if trial.should_prune():
                raise optuna.TrialPruned
        return values[-1][1]

    return objective


@pytest.mark.parametrize(("value", "kept"), [(2.2, False), (2.3, True)])
def test_percentile_pruner_stops_below_the_quarter(value, kept):
    study = optuna.create_study(direction="maximize", pruner=make_pruner("auto", n_seeds=3, n_evaluations=5))
    for i in range(10):
        study.optimize(_reporting([(0, -5.0), (1, float(i))]), 1)
    # at step 1 stand 0, …, 9: their lower quartile is 2.25; step 0 < 5 // 3 is not looked at
    study.optimize(_reporting([(0, -9.0), (1, value)]), 1)
    assert study.trials[-1].state == (TrialState.COMPLETE if kept else TrialState.PRUNED)
    assert list(study.trials[-1].intermediate_values) == [0, 1]


def test_percentile_pruner_waits_for_ten_trials():
    study = optuna.create_study(direction="maximize", pruner=make_pruner("percentile", n_seeds=3, n_evaluations=5))
    for i in range(10):
        study.optimize(_reporting([(1, -float(i))]), 1)
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}


def test_wilcoxon_stops_after_five_worse_seeds():
    study = optuna.create_study(direction="maximize", pruner=make_pruner("auto", n_seeds=6, n_evaluations=5))
    steps = [4, 9, 14, 19, 24, 29]  # the last evaluation of each seed
    study.optimize(_reporting([(step, 10.0 + i) for i, step in enumerate(steps)]), 1)
    study.optimize(_reporting([(step, 9.0 - i) for i, step in enumerate(steps)]), 1)
    # the chance that all of m signs agree is 1 / 2^m: 1/16 > 0.05 after four, 1/32 < 0.05 after five
    assert study.trials[1].state == TrialState.PRUNED
    assert list(study.trials[1].intermediate_values) == steps[:5]


def test_wilcoxon_refuses_what_it_cannot_decide():
    with pytest.raises(UserError, match=re.escape("--n-seeds 6 or more: with 5 it never stops a trial")):
        make_pruner("wilcoxon", 5, 5)


def test_workers_import_no_torch():
    start = multiprocessing.get_context("spawn")
    with start.Pool(1) as pool:
        assert pool.apply(_imports_torch) is False


def _imports_torch():
    import sys

    return "torch" in sys.modules
