"""The standard data sets: who played them, what counts as 0 and as 100, and the score in the end of a run."""

import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env

from sb3_lecture import BC, OfflineDataset
from sb3_lecture.zoo import grading, qualities
from sb3_lecture.zoo.cli import main
from sb3_lecture.zoo.qualities import QUALITIES, World

COLUMNS = ("observations", "actions", "rewards", "next_observations", "terminations", "truncations")


@pytest.fixture(scope="module")
def made():
    return qualities.make(World("Lecture/CliffWalking-v0", "q_learning"), 3, 600, 8, 6000)


def test_what_the_qualities_are(made):
    """Random is worst, medium a third of the way, expert best; the replay ends where medium's player was kept."""
    mean = {name: made.data[name].returns().mean() for name in QUALITIES}
    assert mean["random"] < mean["medium"] < mean["expert"]
    low, high = made.data["random"].reference
    assert all(data.reference == (low, high) for data in made.data.values())
    assert low == pytest.approx(-2000, abs=800) and high == -13.0  # the shortest way, and chance within 200 steps
    assert len(made.data["medium-replay"]) == made.at["medium"] < made.at["expert"] <= 6000
    assert all(len(made.data[name]) == 600 for name in QUALITIES if name != "medium-replay")
    first = made.data["medium-replay"]  # the training begins as random play
    assert np.bincount(first.actions[:200], minlength=4).min() > 25
    halves = made.data["mixed"]
    assert halves.truncations[299] or halves.terminations[299]
    assert mean["medium"] < mean["mixed"] < mean["expert"]


@pytest.mark.slow
def test_one_seed_gives_the_same_files(made):
    again = qualities.make(World("Lecture/CliffWalking-v0", "q_learning"), 3, 600, 8, 6000)
    for name in QUALITIES:
        for column in COLUMNS:
            assert getattr(again.data[name], column).tobytes() == getattr(made.data[name], column).tobytes()


def test_the_score(made, tmp_path):
    data = made.data["expert"]
    low, high = data.reference
    assert [data.score(value) for value in (low, high, (low + high) / 2, 2 * high - low)] == [0.0, 100.0, 50.0, 200.0]
    data.save(tmp_path / "data.npz")
    loaded = OfflineDataset.load(tmp_path / "data.npz")
    assert loaded.reference == data.reference
    data.save(tmp_path / "folder")
    assert OfflineDataset.load(tmp_path / "folder").reference == data.reference
    env = make_vec_env("Lecture/CliffWalking-v0", 1)
    model = BC("MlpPolicy", env, loaded, learning_rate=0.05, policy_kwargs={"net_arch": []}, seed=0, device="cpu").learn(300)
    assert grading.offline_score(model, env, 2) == (
        f"Normalised score: 100.0 (return -13.00 over 2 episodes, random {low:.2f}, expert -13.00)"
    )
    model.dataset = OfflineDataset.record("Lecture/CliffWalking-v0", 5)
    assert model.dataset.score(1.0) is None and grading.offline_score(model, env) is None
    for reference in ((1.0, 1.0), (2.0, 1.0), (0.0, np.inf)):
        with pytest.raises(ValueError, match="an expert's return must lie above"):
            OfflineDataset(*(getattr(data, name) for name in ("observation_space", "action_space", *COLUMNS)), reference)


def test_two_data_sets_become_one(made):
    a, b = made.data["random"], made.data["medium"]
    both = a.joined(b)
    np.testing.assert_array_equal(both.actions, np.concatenate([a.actions, b.actions]))
    np.testing.assert_allclose(both.returns(), np.concatenate([a.returns(), b.returns()]))
    with pytest.raises(ValueError, match="observation_space"):
        a.joined(OfflineDataset.record("CartPole-v1", 5))


def test_what_cannot_be_made_is_one_line(capsys):
    for words, said in (
        (["qualities", "mase"], "unknown world 'mase' (did you mean 'maze'?)"),
        (["qualities", "Lecture/RiverSwim-v0"], "say who learns in Lecture/RiverSwim-v0: --algo dqn"),
        (["qualities", "cliff", "--algo", "sac", "--n-timesteps", "10"], "CliffWalking"),
        (["qualities", "maze", "-n", "0"], "at least 1"),
    ):
        assert main(["record", *words]) == 2
        error = capsys.readouterr().err
        assert said in error and error.count("\n") == 1


@pytest.mark.slow
def test_the_command_and_a_run_from_its_data(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert main(["record", "qualities", "four-rooms", "-n", "5000", "--n-timesteps", "60000"]) == 0
    said = capsys.readouterr().out.replace('"', "")
    assert "Next:    sb3-lecture train --algo iql --env Lecture/GridWorld-v0 --env-kwargs map:'four-rooms'" in said.replace(
        '"', ""
    )
    words = ["train", "--algo", "iql", "--env", "Lecture/GridWorld-v0", "-n", "1500", "--seed", "0"]
    assert main([*words, "--dataset", "data/four-rooms/mixed.npz"]) == 0
    assert "Normalised score: 100.0 (return 1.00 over 20 episodes" in capsys.readouterr().out
