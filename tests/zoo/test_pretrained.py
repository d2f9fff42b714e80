"""The models that come with the package: each is there, small, safe, made by its command, and plays as its card says."""

import zipfile

import numpy as np
import pytest

from sb3_lecture.common import checkpoint
from sb3_lecture.zoo import cli, pretrained
from sb3_lecture.zoo.runs import open_run

MODELS = sorted(pretrained.COMMANDS)


def test_there_is_a_model_for_each_command_and_no_other():
    assert sorted(f"{path.parent.name}/{path.name.removesuffix('_1')}" for path in pretrained.folder().glob("*/*_1")) == MODELS


def test_all_are_smaller_than_ten_megabytes():
    assert sum(path.stat().st_size for path in pretrained.folder().rglob("*") if path.is_file()) < 10_000_000


@pytest.mark.parametrize("name", MODELS)
def test_a_model_loads_without_running_what_it_holds(name):
    run = open_run(pretrained.folder() / f"{name}_1")
    assert run.seed == 0 and f"sb3-lecture {pretrained.COMMANDS[name]}\n" in (run.path / "card.md").read_text()
    assert not [entry for entry in zipfile.ZipFile(run.model_path).namelist() if entry.endswith((".pkl", ".pickle"))]
    checkpoint.load(run.model_path)


@pytest.mark.parametrize(("name", "expected"), [("q_learning/Lecture-CliffWalking-v0", -13), ("dqn/Lecture-Maze-v0", 1)])
def test_enjoy_plays_a_pretrained_model(name, expected, capsys):
    algo, env = name.split("/")
    words = ["--env", env.replace("Lecture-", "Lecture/"), "--n-episodes", "2", "--no-render"]
    assert cli.main(["enjoy", "--pretrained", algo, *words]) == 0
    assert f"Return over 2 episodes: {expected:.2f} ± 0.00" in capsys.readouterr().out


def test_the_game_players_card_is_its_last_match():
    run = open_run(pretrained.folder() / "alphazero/Lecture-TicTacToe-v0_1")
    with np.load(run.path / "board.npz") as board:
        assert board["perfect_loss"][-1] == 0 and board["random_win"][-1] > 0.9
        assert (
            f"Against random, half of the games with each side: won {board['random_win'][-1]:.0%}"
            in (run.path / "card.md").read_text()
        )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pretrained", "alphazer"], "no pretrained model alphazer"),
        (["--pretrained", "dqn", "--env", "CartPole-v1"], "no pretrained model dqn/CartPole-v1"),
        (["--pretrained", "dqn", "--algo", "sarsa"], "are two algorithms"),
    ],
)
def test_a_model_that_is_not_there_is_named_in_one_line(words, message, capsys):
    assert cli.main(["enjoy", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_making_a_model_that_is_none_is_named_in_one_line(capsys):
    assert pretrained.make_all(["dqn/Lecture-Maze"]) == 2
    assert "did you mean 'dqn/Lecture-Maze-v0'" in capsys.readouterr().err
