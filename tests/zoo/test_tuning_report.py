"""What is concluded from a study: intervals, verdicts, pictures, the config's text, and that noise does not win."""

import csv
import math
import statistics

import numpy as np
import optuna
import pytest
import yaml
from optuna.samplers import GridSampler
from scipy import stats

from sb3_lecture.zoo import tuning_study
from sb3_lecture.zoo.errors import UserError
from sb3_lecture.zoo.tuning import best_trials
from sb3_lecture.zoo.tuning_config import write_entry
from sb3_lecture.zoo.tuning_objective import HYPERPARAMETERS
from sb3_lecture.zoo.tuning_report import REPORT_FILE, draw, interval, judge, write
from sb3_lecture.zoo.tuning_study import DIVERGED, TRACEBACK


@pytest.fixture(autouse=True)
def _quiet():
    tuning_study.quiet()


def test_interval_is_students():
    values = [4.1, 5.3, 4.8, 6.0, 5.1, 4.4, 5.9, 5.0, 4.7, 5.2]
    low, high = stats.t.interval(0.95, 9, np.mean(values), stats.sem(values))
    ours = interval(values)
    assert (ours.mean - ours.half, ours.mean + ours.half) == pytest.approx((low, high))
    # by hand: the table's t of 9 degrees of freedom is 2.262
    assert ours.half == pytest.approx(2.262 * statistics.stdev(values) / math.sqrt(10), rel=1e-4)
    assert interval([3.0]).half == math.inf


def test_interval_covers_the_mean_as_often_as_it_says():
    rng = np.random.default_rng(0)
    hits = [abs((i := interval(rng.normal(1.0, 2.0, 5))).mean - 1.0) <= i.half for _ in range(2000)]
    assert np.mean(hits) == pytest.approx(0.95, abs=4 * math.sqrt(0.95 * 0.05 / 2000))


def judged(present, **fresh):
    numbers = {int(name[1:]): scores for name, scores in fresh.items()}
    return judge(present, numbers, dict.fromkeys(numbers, 0.0), {n: {"learning_rate": 0.1 * n} for n in numbers})


def test_gain_is_paired_by_seed_and_widened_for_the_number_of_candidates():
    verdict = judged([1.0, 2.0, 3.0, 4.0], t1=[2.0, 3.1, 4.2, 5.1], t2=[1.0, 2.0, 3.0, 4.0])
    gain = verdict.winner.gain
    differences = [1.0, 1.1, 1.2, 1.1]
    assert verdict.winner.number == 1
    assert gain.mean == pytest.approx(1.1)
    half = stats.t.ppf(1 - 0.05 / 2 / 2, 3) * statistics.stdev(differences) / 2  # two candidates: 97.5 % each
    assert gain.half == pytest.approx(half)
    assert verdict.better
    assert "Trial 1 is better than the present values" in verdict.sentence()


@pytest.mark.parametrize(
    ("scores", "words"),
    [
        ([1.1, 1.9, 3.05, 3.95], "trial 1, is not distinguishable from the present values"),
        ([0.0, 1.1, 2.0, 3.0], "All candidates are worse"),
        ([1.0, None, 3.0, 4.0], "nothing was found"),
    ],
)
def test_verdicts_that_change_nothing(scores, words):
    verdict = judged([1.0, 2.0, 3.0, 4.0], t1=scores)
    assert words in verdict.sentence()
    assert not verdict.better


def test_present_values_that_diverge_lose():
    verdict = judged([1.0, None], t1=[0.5, 0.6])
    assert verdict.better
    assert "the present values diverge or fail" in verdict.sentence()


def test_a_candidate_that_fails_on_a_fresh_seed_cannot_win():
    assert judged([1.0, 1.0], t1=[9.0, None], t2=[0.0, 0.1]).winner.number == 2


def noisy_arms(n_arms, n_seeds, study_seed):
    """A study over arms of which 0 is worth 0 and the others -1, seen through noise of sd 1 a seed."""

    def score(arm, seed):
        return (0.0 if arm == 0 else -1.0) + np.random.default_rng([study_seed, arm, seed]).normal()

    def objective(trial):
        arm = trial.suggest_int("arm", 0, n_arms - 1)
        trial.set_user_attr(HYPERPARAMETERS, {"arm": arm})
        return float(np.mean([score(arm, seed) for seed in range(n_seeds)]))

    study = optuna.create_study(direction="maximize", sampler=GridSampler({"arm": range(n_arms)}, seed=0))
    study.optimize(objective, n_trials=n_arms)
    return study, score


def test_noise_wins_with_one_seed_and_loses_with_fresh_ones():
    n_studies, wrong_single, wrong_ours = 100, 0, 0
    for study_seed in range(n_studies):
        study, _ = noisy_arms(10, 1, study_seed)
        wrong_single += study.best_params["arm"] != 0
        study, score = noisy_arms(10, 3, study_seed)
        best = best_trials(study, 5)
        fresh = {trial.number: [score(trial.params["arm"], 10_000 + i) for i in range(10)] for trial in best}
        present = [score(1, 10_000 + i) for i in range(10)]
        verdict = judge(present, fresh, dict.fromkeys(fresh, 0.0), {t.number: t.user_attrs[HYPERPARAMETERS] for t in best})
        wrong_ours += verdict.winner.hyperparameters["arm"] != 0
    assert wrong_single / n_studies > 0.3
    assert wrong_ours / n_studies < 0.1


def test_equal_hyperparameters_are_one_candidate():
    study = optuna.create_study(direction="maximize")
    for value, rate in ((1.0, 0.1), (3.0, 0.2), (2.0, 0.2), (0.5, 0.3)):
        study.add_trial(optuna.create_trial(value=value, user_attrs={HYPERPARAMETERS: {"learning_rate": rate}}))
    assert [trial.number for trial in best_trials(study, 3)] == [1, 0, 3]


# --- report ----------------------------------------------------------------------------------------------------------


def full_study(n=12):
    study = optuna.create_study(direction="maximize", study_name="a <study>", sampler=optuna.samplers.RandomSampler(0))

    def objective(trial):
        x, kind = trial.suggest_float("x", -1, 1), trial.suggest_categorical("kind", ["a", "b"])
        trial.set_user_attr(HYPERPARAMETERS, {"x": x, "kind": kind})
        if trial.number == 2:
            trial.set_user_attr(TRACEBACK, "Traceback …\nValueError: <broken>")
            raise ValueError
        if trial.number == 3:
            trial.set_user_attr(DIVERGED, "seed 1: after evaluation 2 of 5")
            raise optuna.TrialPruned
        return -x * x

    study.optimize(objective, n_trials=n, catch=(ValueError,))
    return study


def test_report_holds_the_verdict_the_failures_and_all_pictures(tmp_path):
    study = full_study()
    best = best_trials(study, 2)
    verdict = judged([0.0, 0.1, 0.2], **{f"t{t.number}": [0.5, 0.7, 0.6] for t in best})
    path = write(study, tmp_path, verdict, {"Command": "tune --algo <x>"})
    page = path.read_text(encoding="utf-8")
    assert path.name == REPORT_FILE
    assert "12 trials: 10 complete, 1 diverged, 1 failed" in page
    assert verdict.sentence() in page
    assert "ValueError: &lt;broken&gt;" in page
    assert "seed 1: after evaluation 2 of 5" in page
    assert "tune --algo &lt;x&gt;" in page
    assert page.count("data:image/png;base64,") == 4
    assert "http" not in page, "the report asks the network for nothing"
    for name in ("history", "importances", "parallel_coordinates", "slices"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
    with open(tmp_path / "trials.csv", newline="") as rows:
        assert [int(row["number"]) for row in csv.DictReader(rows)] == list(range(12))


def test_pictures_that_cannot_be_drawn_say_why(tmp_path, monkeypatch):
    def refuse(study):
        raise ValueError("only one trial")

    monkeypatch.setattr("optuna.visualization.matplotlib.plot_param_importances", refuse)
    study = full_study()
    assert draw(study, tmp_path)["importances"] == "only one trial"
    page = write(study, tmp_path, None, {}).read_text(encoding="utf-8")
    assert "No picture: only one trial" in page
    assert page.count("data:image/png;base64,") == 3


def test_equal_trials_have_no_importances(tmp_path):
    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.RandomSampler(0))
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1) * 0.0, n_trials=4)
    drawn = draw(study, tmp_path)
    assert drawn["importances"] == "all trials are worth the same"
    assert (tmp_path / "history.png").is_file()


# --- the config's text -----------------------------------------------------------------------------------------------

CONFIG = """# heading
A-v0:
  # source: by hand,
  # with care
  n_timesteps: !!float 1e5  # long
  policy: 'MlpPolicy'
  # about the rate
  learning_rate: !!float 1e-3
  env_kwargs:
    size: 3

# about B
B-v0:
  policy: 'MlpPolicy'
"""


def test_writing_an_entry_changes_nothing_else(tmp_path):
    path = tmp_path / "x.yml"
    path.write_text(CONFIG)
    changed = {"learning_rate": 1e-05, "gamma": 0.99, "policy_kwargs": "dict(net_arch=[64])", "baseline": None, "double": True}
    write_entry(path, "A-v0", changed, "a study", "A-v0")
    assert path.read_text() == """# heading
A-v0:
  # source: a study
  n_timesteps: !!float 1e5  # long
  policy: 'MlpPolicy'
  # about the rate
  learning_rate: !!float 1e-05
  env_kwargs:
    size: 3
  gamma: 0.99
  policy_kwargs: "dict(net_arch=[64])"
  baseline: null
  double: true

# about B
B-v0:
  policy: 'MlpPolicy'
"""  # fmt: skip


def test_a_source_whose_values_stay_is_kept_beside_the_newest_study(tmp_path):
    path = tmp_path / "x.yml"
    path.write_text(CONFIG)
    for trials in (10, 20):
        write_entry(path, "A-v0", {}, f"tune --algo x: {trials} trials, none better", "A-v0")
    assert path.read_text() == CONFIG.replace(
        "by hand,\n  # with care", "by hand, with care; tune --algo x: 20 trials, none better"
    )


def test_an_entry_that_was_nested_is_replaced_whole(tmp_path):
    path = tmp_path / "x.yml"
    path.write_text(CONFIG)
    write_entry(path, "A-v0", {"env_kwargs": 7}, "words " * 60, "A-v0")
    entries = yaml.safe_load(path.read_text())
    assert entries["A-v0"]["env_kwargs"] == 7
    assert max(map(len, path.read_text().splitlines())) <= 127


def test_a_missing_entry_is_added_as_a_copy(tmp_path):
    path = tmp_path / "x.yml"
    path.write_text(CONFIG)
    write_entry(path, "C-v0", {"gamma": 0.5}, "a study", "B-v0")
    entries = yaml.safe_load(path.read_text())
    assert entries["C-v0"] == {"policy": "MlpPolicy", "gamma": 0.5}
    assert {k: v for k, v in entries.items() if k != "C-v0"} == yaml.safe_load(CONFIG)


def test_an_entry_in_another_form_is_refused_and_the_file_kept(tmp_path):
    path = tmp_path / "x.yml"
    path.write_text("{A-v0: {gamma: 0.9}, B-v0: {gamma: 0.8}}\n")
    with pytest.raises(UserError, match="cannot find where the entry 'A-v0' begins"):
        write_entry(path, "A-v0", {"gamma": 0.5}, "a study", "A-v0")
    assert path.read_text() == "{A-v0: {gamma: 0.9}, B-v0: {gamma: 0.8}}\n"
