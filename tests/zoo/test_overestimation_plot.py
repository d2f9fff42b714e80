"""The picture of overestimation draws the error that the callback logs, of DQN and of Double DQN."""

import numpy as np
import pytest
from stable_baselines3 import DQN

import sb3_lecture_envs  # noqa: F401
from sb3_lecture.exact.callbacks import ExactEvalCallback
from sb3_lecture.zoo import cli, overestimation_plot
from sb3_lecture.zoo.overestimation_plot import overestimation_figure, q_errors


def test_rows_are_steps_and_errors_and_the_switch_changes_them():
    plain, double = (q_errors("Lecture/CliffWalking-v0", switch, 0, 600) for switch in (False, True))
    assert plain[0, 0] == 0 and plain[-1, 0] == 600 and np.isfinite(plain).all()
    assert plain[0, 1] == double[0, 1]  # the same network before learning
    assert (plain[1:, 1] != double[1:, 1]).any()


def test_sb3s_dqn_logs_its_error_too():
    model = DQN("MlpPolicy", "Lecture/CliffWalking-v0", buffer_size=100, seed=0, device="cpu")
    callback = ExactEvalCallback(100)
    model.learn(100, callback)
    assert model.logger.name_to_value["exact/q_error"] == pytest.approx(callback.last_q_error)


def test_the_command_draws(tmp_path, capsys):
    path = tmp_path / "picture.png"
    assert cli.main(["plot", "overestimation", "--seeds", "1", "-n", "300", "-o", str(path)]) == 0
    assert path.stat().st_size > 10_000
    assert "Double DQN, second half of training" in capsys.readouterr().out


def test_the_lines_are_the_means_of_the_seeds_and_the_figures_those_of_the_second_half(monkeypatch):
    """Seed s of DQN errs by s + 1 at first and by 10 (s + 1) later, Double DQN by half of it."""

    def rows(env_id, double, seed, n_timesteps):
        errors = np.array([1.0, 1.0, 10.0, 10.0]) * (seed + 1) * (0.5 if double else 1.0)
        return np.stack([np.arange(4) * 100.0, errors], axis=1)

    monkeypatch.setattr(overestimation_plot, "q_errors", rows)
    figure, means = overestimation_figure("Lecture/CliffWalking-v0", 3, 400)
    assert means == {"DQN": 20.0, "Double DQN": 10.0}
    named = {line.get_label(): list(line.get_ydata()) for line in figure.axes[0].get_lines()}
    assert named["DQN"] == [2.0, 2.0, 20.0, 20.0] and named["Double DQN"] == [1.0, 1.0, 10.0, 10.0]


@pytest.mark.parametrize("env_id", ["CartPole-v1", "Pendulum-v1", "Lecture/TicTacToe-v0"])
def test_a_world_without_a_law_is_one_line(env_id, tmp_path, capsys):
    assert cli.main(["plot", "overestimation", "--env", env_id, "-o", str(tmp_path / "picture.png")]) == 2
    assert f"error: {env_id} states no law" in capsys.readouterr().err
