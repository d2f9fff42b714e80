"""The picture of data and policy: what is counted as outside the data, by hand and by a slow twin."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env

from sb3_lecture import BC, CQL, IQL, OfflineDataset
from sb3_lecture.zoo.cli import main
from sb3_lecture.zoo.offline_plot import _met, _nearest, action_values, offline_figure, outside
from sb3_lecture_envs.mdp import TabularMDP

TABLES = {"policy_kwargs": {"net_arch": []}, "device": "cpu", "seed": 0, "gamma": 0.9}


def test_the_nearest_rows_are_those_of_a_slow_twin():
    rng = np.random.default_rng(0)
    points, rows = rng.normal(size=(300, 3)), rng.normal(size=(40, 3))
    slow = [min(np.linalg.norm(point - row) for row in rows) for point in points]
    np.testing.assert_allclose(_nearest(points, rows), slow, atol=1e-6)
    others = [min(np.linalg.norm(a - b) for j, b in enumerate(points) if j != i) for i, a in enumerate(points)]
    np.testing.assert_allclose(_nearest(points, points, others=True), others, atol=1e-6)


def test_what_lies_outside():
    grid = np.linspace(0, 1, 101)[:, None]  # neighbours are 0.01 apart
    known, done = np.concatenate([grid, grid + 5]), np.repeat([0, 1], 101)
    met, actions = np.array([[0.505], [0.505], [5.5], [1.2], [2.0]]), np.array([0, 1, 1, 0, 2])
    assert outside(known, done, met, actions, spaces.Discrete(3)).tolist() == [False, True, False, True, True]
    box = spaces.Box(-2, 2, (1,))  # the distance in actions counts in halves of the range
    far = outside(grid, np.zeros((101, 1)), np.full((3, 1), 0.505), np.array([[0.0], [0.01], [1.0]]), box)
    assert far.tolist() == [False, False, True]


def test_what_a_policy_meets():
    rows = {s: {a: [(1.0, (s + 1 + a) % 5, 0.0, s == 4)] for a in range(2)} for s in range(5)}
    mdp = TabularMDP.from_P(rows, 0)
    assert _met(mdp, np.zeros(5, int)).tolist() == [True] * 5
    assert _met(mdp, np.ones(5, int)).tolist() == [True, False, True, False, True]


def test_the_picture_counts_the_states_in_which_the_policy_leaves_the_data():
    """Data of a player that only goes right, in a corridor: a policy that goes right stays in them, one that goes left not."""
    env = make_vec_env("Lecture/GridWorld-v0", env_kwargs={"map": [".S...G"]})
    data = OfflineDataset.record(env, 40, _Always(1), seed=0)
    model = CQL("MlpPolicy", env, data, **TABLES)
    n = {}
    for action in (1, 3):  # right, left
        with th.no_grad():
            for part in model.policy.parameters():
                part.zero_()
            model.policy.critic.layers[0].bias[action] = 1.0
        figure, lines = offline_figure(model, env, "corridor")
        n[action] = [int(word) for word in lines[0].replace(",", "").split() if word.isdigit()]
        assert len(figure.axes) == 3 and sum("Q - q*" in line for line in lines) == 2
    assert n[1][0] > 1 and n[1][1] == 0 and n[3][1] == n[3][0] > 0
    values = action_values(model, np.arange(3))
    np.testing.assert_allclose(values, np.tile(np.eye(4)[3], (3, 1)))
    iql = IQL("MlpPolicy", env, data, **TABLES)
    inputs = iql.policy.inputs(th.arange(3))
    with th.no_grad():
        np.testing.assert_allclose(action_values(iql, np.arange(3)), th.min(*(q(inputs) for q in iql.policy.critics)))
    assert action_values(BC("MlpPolicy", env, data, **TABLES), np.arange(3)) is None


class _Always:
    def __init__(self, action):
        self.action = action

    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        return np.full(len(observation), self.action), None


@pytest.mark.slow
def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for algo, env in (("bcq", "Lecture/Maze-v0"), ("td3bc", "Pendulum-v1"), ("bc", "CartPole-v1")):
        words = ["--algo", algo, "--env", env, "-n", "20", "--dataset", "random:500", "--seed", "0", "--eval-freq", "-1"]
        assert main(["train", *words]) == 0
        assert main(["plot", "offline", f"logs/{algo}/{env.replace('/', '-')}_1", "--n-episodes", "2"]) == 0
        assert "Picture: " in capsys.readouterr().out
        assert (tmp_path / f"logs/{algo}/{env.replace('/', '-')}_1/offline.png").stat().st_size > 10_000
    assert main(["train", "--algo", "q_learning", "-n", "50"]) == 0
    assert main(["plot", "offline", "logs/q_learning/Lecture-GridWorld-v0_1"]) == 2
    assert "q_learning, which does not learn from data alone" in capsys.readouterr().err
