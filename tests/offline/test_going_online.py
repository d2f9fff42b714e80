"""From data to the world: what is lived joins the data, and learners get better than the data allowed."""

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv
from test_offline_learning import TABLES, grade, limited, recorded

import sb3_lecture_envs  # noqa: F401
from sb3_lecture import AWAC, BC, BCQ, CQL, IQL, TD3BC, DecisionTransformer, OfflineDataset
from sb3_lecture.offline.recording import COLUMNS, Watched, columns_of

DISCRETE = [AWAC, BC, BCQ, CQL, IQL, DecisionTransformer]
SMALL = {"policy_kwargs": {"net_arch": [8]}, "learning_rate": 0.01, "device": "cpu", "seed": 0, "batch_size": 8}


SLOW = [pytest.param(cls, "Lecture/Maze-v0", marks=pytest.mark.slow) for cls in DISCRETE[1:]]
SLOW += [pytest.param(cls, "Pendulum-v1", marks=pytest.mark.slow) for cls in (AWAC, BC, CQL, IQL, DecisionTransformer)]


@pytest.mark.parametrize(("cls", "env_id"), [(AWAC, "Lecture/Maze-v0"), (TD3BC, "Pendulum-v1"), *SLOW])
def test_what_is_lived_joins_the_data_when_its_episode_ends(cls, env_id):
    first = OfflineDataset.record(env_id, 40, seed=0)
    watched = Watched(make_vec_env(env_id, 2, seed=1))
    model = cls("MlpPolicy", watched, first, online=True, **SMALL).learn(420)
    assert model.num_timesteps == model._n_updates == 420 and len(watched.rows) == 210
    lived = columns_of(watched.rows)
    ends = (lived["terminations"] | lived["truncations"]).reshape(2, 210)
    ends[:, -1] &= np.stack([row[4] | row[5] for row in watched.rows])[-1]  # the cut at the end is the recording's
    whole = sum(int(np.flatnonzero(row)[-1]) + 1 if row.any() else 0 for row in ends)
    assert len(model.dataset) == 40 + whole > 40
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(model.dataset, name)[:40], getattr(first, name))
    steps = {tuple(np.concatenate([np.ravel(part[i]) for part in lived.values()])) for i in range(420)}
    for i in range(40, len(model.dataset)):  # each is a step that was lived
        assert tuple(np.concatenate([np.ravel(getattr(model.dataset, name)[i]) for name in COLUMNS])) in steps


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cls", "own"), [(BCQ, {}), (CQL, {"alpha": 0.02}), (IQL, {"expectile": 0.9, "beta": 10.0}), (AWAC, {"temperature": 0.1})]
)
def test_a_learner_gets_better_than_its_data(cls, own):
    """The data go to the left alone: the end of the corridor is found by playing."""
    short = recorded(epsilon=0.0, n=120, actions=(0, 0, 0, 0, 0))
    env = make_vec_env(limited)
    model = cls("MlpPolicy", env, short, batch_size=64, exploration=0.3, **TABLES | {"tau": 0.2} | own)
    model.learn(200)
    before = grade(model, short)
    assert before.optimum - before.value > 5.0  # it walks to the left for ever
    model.online = True
    model.learn(2500)
    after = grade(model, model.dataset)
    assert after.optimum - after.value == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("n_envs", [1, 8])
@pytest.mark.parametrize("cls", [IQL, pytest.param(DecisionTransformer, marks=pytest.mark.slow)])
def test_play_goes_on_bit_for_bit(cls, n_envs, tmp_path):
    def build():
        env = make_vec_env("Lecture/Maze-v0", n_envs, seed=3)
        return cls("MlpPolicy", env, OfflineDataset.record("Lecture/Maze-v0", 40, seed=0), online=True, **SMALL)

    whole = build().learn(80)
    whole.learn(80, reset_num_timesteps=False)
    begun = build().learn(80)
    begun.save(tmp_path / "model.zip", include_replay=True)
    th.manual_seed(9), np.random.seed(9)
    loaded = cls.load(tmp_path / "model.zip", env=make_vec_env("Lecture/Maze-v0", n_envs, seed=4))
    loaded.learn(80, reset_num_timesteps=False)
    assert loaded.num_timesteps == whole.num_timesteps == 160
    for name in COLUMNS:
        np.testing.assert_array_equal(getattr(whole.dataset, name), getattr(loaded.dataset, name))
    for a, b in zip(whole.policy.parameters(), loaded.policy.parameters(), strict=True):
        th.testing.assert_close(a, b, rtol=0, atol=0)


def test_random_actions_are_as_frequent_as_asked_and_stay_inside():
    model = BC("MlpPolicy", "Lecture/Maze-v0", recorded_maze(), exploration=0.4, **SMALL)
    np.random.seed(0)
    mixed = model._explore(np.full(8000, 2))
    assert np.mean(mixed != 2) == pytest.approx(0.4 * 3 / 4, abs=0.02)
    box = TD3BC("MlpPolicy", "Pendulum-v1", "random:5", exploration=0.2, **SMALL)
    noisy = box._explore(np.zeros((8000, 1), np.float32))
    assert noisy.std() == pytest.approx(0.4, rel=0.05) and noisy.dtype == np.float32  # of [−2, 2]
    assert np.abs(box._explore(np.full((8000, 1), 1.9, np.float32))).max() == 2.0


def recorded_maze():
    return OfflineDataset.record("Lecture/Maze-v0", 20, seed=0)


def test_there_must_be_a_world(tmp_path):
    model = IQL("MlpPolicy", dataset=recorded_maze(), online=True, **SMALL)
    with pytest.raises(ValueError, match="online=True plays in an env, and there is none"):
        model.learn(1)
    model.online = False
    model.learn(5).save(tmp_path / "iql.zip")
    env = DummyVecEnv([lambda: make_vec_env("Lecture/Maze-v0", 1).envs[0]])
    gone_on = IQL.load(tmp_path / "iql.zip", env=env, online=True, dataset=recorded_maze()).learn(3, reset_num_timesteps=False)
    assert gone_on.num_timesteps == 8 and np.isfinite(evaluate_policy(gone_on, env, 1, warn=False)[0])
    with pytest.raises(ValueError, match="exploration=2"):
        IQL("MlpPolicy", "Lecture/Maze-v0", exploration=2.0)
