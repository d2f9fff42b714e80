"""The picture of overestimation draws the error that the callback logs, of DQN and of Double DQN."""

import numpy as np
import pytest
from stable_baselines3 import DQN

import sb3_lecture_envs  # noqa: F401
from sb3_lecture.exact.callbacks import ExactEvalCallback
from sb3_lecture.zoo import cli
from sb3_lecture.zoo.overestimation_plot import q_errors


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
