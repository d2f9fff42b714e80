"""The command from end to end, on tables that learn in milliseconds, and how it refuses what is wrong."""

import numpy as np
import optuna
import pytest
import tuning_helpers
import yaml
from optuna.trial import FixedTrial, TrialState

from sb3_lecture.exact.solver import policy_evaluation
from sb3_lecture.zoo import configs, tuning_study
from sb3_lecture.zoo.cli import main
from sb3_lecture.zoo.tuning_objective import DivergedError, Objective, Settings, Trainer, has_diverged
from sb3_lecture.zoo.tuning_report import REPORT_FILE
from sb3_lecture.zoo.tuning_study import DIVERGED, make_pruner

CLIFF = "Lecture/CliffWalking-v0"
CONFIG = f"""{CLIFF}:
  # source: chosen to be bad
  n_timesteps: 4000
  policy: 'TabularPolicy'
  gamma: 1.0
  learning_rate: 0.01
"""


@pytest.fixture(autouse=True)
def _quiet():
    tuning_study.quiet()


@pytest.fixture
def conf_file(tmp_path):
    path = tmp_path / "q_learning.yml"
    path.write_text(CONFIG)
    return path


def settings(conf_file, **kwargs):
    return Settings("q_learning", CLIFF, str(conf_file), **{"seeds": (0, 1), "n_eval_episodes": 2, **kwargs})


# --- what a trial is worth -------------------------------------------------------------------------------------------


def test_a_seed_gives_one_score_and_another_seed_another(conf_file):
    trainer = Trainer(settings(conf_file, score="mean"))
    changed = {"learning_rate": 0.9, "exploration_fraction": 0.05}
    scores = [trainer.train(changed, seed) for seed in (3, 3, 4, 5, 6)]
    assert scores[0] == scores[1]
    assert len(set(scores)) > 1


def test_the_final_score_of_a_solved_world_is_its_optimum(conf_file):
    assert Trainer(settings(conf_file, n_timesteps=20_000)).train({"learning_rate": 0.5}, 0) == -13.0


def test_evaluations_stand_on_one_axis_of_seed_and_evaluation(conf_file):
    study = optuna.create_study(direction="maximize")
    study.optimize(Objective(settings(conf_file, seeds=(0, 1, 2), n_evaluations=4)), 1)
    trial = study.trials[0]
    assert list(trial.intermediate_values) == list(range(12))
    finals = [trial.intermediate_values[step] for step in (3, 7, 11)]
    assert trial.user_attrs["scores"] == finals
    assert trial.value == pytest.approx(np.mean(finals))


def test_quantile_and_mean_of_evaluations(conf_file):
    study = optuna.create_study(direction="maximize")
    study.enqueue_trial({"learning_rate": 0.2, "exploration_fraction": 0.5, "exploration_final_eps": 0.1})
    study.optimize(Objective(settings(conf_file, seeds=(0, 1, 2), n_evaluations=2, quantile=0.0, score="mean")), 1)
    trial = study.trials[0]
    assert trial.value == min(trial.user_attrs["scores"])


def test_from_six_seeds_on_whole_seeds_are_reported(conf_file):
    study = optuna.create_study(direction="maximize", pruner=make_pruner("auto", 6, 2))
    study.optimize(Objective(settings(conf_file, seeds=tuple(range(6)), n_evaluations=2, per_seed=True)), 1)
    assert list(study.trials[0].intermediate_values) == [1, 3, 5, 7, 9, 11]


def test_prediction_is_scored_by_its_error(tmp_path):
    conf = configs.config_path("td_prediction")
    trainer = Trainer(Settings("td_prediction", "Lecture/RandomWalk-v0", str(conf), (0,), n_evaluations=2))
    with trainer.manager.built({}, 0) as (model, env):
        model.learn(1000)
        mdp = env.get_attr("mdp")[0]
        exact = policy_evaluation(mdp, np.full((mdp.n_states, mdp.n_actions), 0.5), 1.0)
        error = (model.v_table - exact)[mdp.reachable]
        assert trainer._evaluate(model, env, 0) == pytest.approx(-np.sqrt(np.mean(error**2)))
        model.v_table[:] = exact
        assert trainer._evaluate(model, env, 0) == 0.0


def test_divergence_prunes(conf_file):
    study = optuna.create_study(direction="maximize")
    objective = Objective(settings(conf_file))
    objective.trainer.train = lambda *_: (_ for _ in ()).throw(DivergedError("after evaluation 1 of 5"))
    study.optimize(objective, 1)
    assert study.trials[0].state == TrialState.PRUNED
    assert study.trials[0].user_attrs[DIVERGED] == "seed 0: after evaluation 1 of 5"


def test_infinite_parameters_are_divergence(conf_file):
    trainer = Trainer(settings(conf_file))
    with trainer.manager.built({}, 0) as (model, _):
        assert not has_diverged(model)
        model.q_table[0, 0] = np.inf
        assert has_diverged(model)
    trainer._evaluate = lambda model, *_: model.q_table.fill(np.inf) or 0.0
    with pytest.raises(DivergedError):
        trainer.train({}, 0)


def test_no_folder_is_left_by_training(conf_file, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    before = sorted(tmp_path.iterdir())
    Trainer(settings(conf_file)).train({}, 0)
    assert sorted(tmp_path.iterdir()) == before


def test_a_point_of_the_space_is_trained_as_it_will_be_written(conf_file):
    objective = Objective(settings(conf_file))
    trial = FixedTrial({"learning_rate": 0.123456, "exploration_fraction": 0.5, "exploration_final_eps": 0.1})
    value = objective(trial)
    written = trial.user_attrs["hyperparameters"]
    assert written["learning_rate"] == 0.1235
    assert value == np.mean([objective.trainer.train(written, seed) for seed in (0, 1)])


# --- the command -----------------------------------------------------------------------------------------------------


def tune(tmp_path, *options, algo="q_learning"):
    return main(["tune", "--algo", algo, "-f", str(tmp_path / "logs"), "--n-eval-episodes", "1", *map(str, options)])


@pytest.mark.slow
def test_a_study_is_run_resumed_used_and_written_back(tmp_path, conf_file, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    small = ("--conf-file", conf_file, "--score", "mean", "--n-fresh-seeds", 4, "--top-k", 2)
    assert tune(tmp_path, *small, "--n-trials", 4) == 0
    assert tune(tmp_path, *small, "--n-trials", 15, "--write-config") == 0
    output = capsys.readouterr().out
    folder = tmp_path / "logs" / "q_learning" / "study-Lecture-CliffWalking-v0"
    assert "15 trials: " in output
    assert "is better than the present values" in output
    assert (folder / REPORT_FILE).is_file()

    study = optuna.load_study(study_name=None, storage=f"sqlite:///{folder}/study.db")
    assert len(study.trials) == 15
    winner = study.trials[study.user_attrs["winner"]]
    own = yaml.safe_load(conf_file.read_text())[CLIFF]
    assert own == {**yaml.safe_load(CONFIG)[CLIFF], **winner.user_attrs["hyperparameters"]}
    assert f"Trial {winner.number}: " in conf_file.read_text()

    for given, trial in ((folder / "study.db", winner), (f"{folder}/study.db:0", study.trials[0])):
        conf_file.write_text(CONFIG)
        command = ["train", "--algo", "q_learning", "--study", str(given), "--conf-file", str(conf_file), "-n", "100"]
        assert main([*command, "-f", str(tmp_path / "runs"), "--no-progress"]) == 0
        run = max((tmp_path / "runs" / "q_learning").glob("*/*/config.yml"), key=lambda path: path.stat().st_mtime)
        saved = dict(yaml.unsafe_load(run.read_text()))
        for name, value in trial.user_attrs["hyperparameters"].items():
            assert saved[name] == value

    capsys.readouterr()
    for given, algo, message in (
        (f"{folder}/study.db:15", "q_learning", "there is no trial 15; trials are 0 to 14"),
        (folder, "sarsa", "it tuned q_learning, not sarsa"),
        (tmp_path / "none.db", "q_learning", "there is no file"),
        (conf_file, "q_learning", "cannot open the study storage"),
    ):
        assert main(["train", "--algo", algo, "--study", str(given)]) == 2
        errors = capsys.readouterr().err
        assert message in errors
        assert errors.count("\n") == 1
    assert tune(tmp_path, *small, "--n-trials", 15, "--n-seeds", 4) == 2
    assert "was made with seeds=[0, 1, 2], not [0, 1, 2, 3]" in capsys.readouterr().err


@pytest.mark.slow
def test_a_world_that_always_fails_ends_with_code_1_and_the_first_traceback(tmp_path, capsys):
    conf_file = tmp_path / "q_learning.yml"
    conf_file.write_text("Broken-v0:\n  n_timesteps: 100\n  policy: 'TabularPolicy'\n")
    code = tune(tmp_path, "--conf-file", conf_file, "--gym-packages", tuning_helpers.__name__, "--n-trials", 3)
    streams = capsys.readouterr()
    assert code == 1
    assert "3 trials: 3 failed" in streams.out
    assert streams.err.count("Traceback (most recent call last)") == 1
    assert "ZeroDivisionError: the world ends in its 20th step" in streams.err
    assert "3 failed" in next((tmp_path / "logs").rglob(REPORT_FILE)).read_text()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--algo", "q_lerning"], "did you mean 'q_learning'"),
        (["--algo", "q_learning", "--env", "Lecture/Maize-v0"], "did you mean 'Lecture/Maze-v0'"),
        (["--algo", "q_learning", "--n-trials", "0"], "--n-trials: at least 1 is needed, not '0'"),
        (["--algo", "q_learning", "--quantile", "2"], "it must be between 0 and 1"),
        (["--algo", "q_learning", "--pruner", "wilcoxon"], "needs --n-seeds 6 or more"),
        (["--algo", "q_learning", "--grace", "5"], "--grace 5: at least 20"),
        (["--algo", "q_learning", "--study-name", "a/b"], "holds no slash"),
        (["--algo", "q_learning", "--storage", "oracle://x/y"], "a file, or one of postgresql://, mysql://, grpc://"),
        (["--algo", "q_learning", "--storage", "grpc://nowhere"], "write grpc://host:port"),
        (["--algo", "q_learning", "--storage", "grpc://host:port"], "write grpc://host:port"),
        (["--algo", "q_learning", "--storage", "/proc/no/study.db"], "cannot open the study storage"),
    ],
)
def test_wrong_options_get_one_line_and_code_2(tmp_path, monkeypatch, capsys, options, message):
    monkeypatch.chdir(tmp_path)
    assert main(["tune", *options]) == 2
    errors = capsys.readouterr().err
    assert message in errors
    assert errors.startswith("error: ")
    assert errors.count("\n") == 1


def test_an_empty_file_of_another_kind_is_no_study(tmp_path, capsys, conf_file):
    path = tmp_path / "study.db"
    path.write_text("not a database, and long enough to be taken for one " * 20)
    assert tune(tmp_path, "--conf-file", conf_file, "--storage", path) == 2
    assert "file is not a database" in capsys.readouterr().err
