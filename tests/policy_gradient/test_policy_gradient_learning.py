"""What the policy-gradient learners learn: a fast seeded part by default, the table of the docs under ``slow``."""

from pathlib import Path

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import FakeImageEnv, SimpleMultiObsEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_lecture import REINFORCE, ActorCritic, PPOPenalty
from sb3_lecture.common.callbacks import exact_evaluation
from sb3_lecture.common.vec_env import make_native_vec_env
from sb3_lecture.zoo import cli, registry

LEARNERS = [
    (REINFORCE, {"n_episodes": 4}),
    (ActorCritic, {"n_steps": 4}),
    (ActorCritic, {"critic": "q"}),
    (PPOPenalty, {"n_steps": 32, "batch_size": 32, "n_epochs": 2}),
]
every_learner = pytest.mark.parametrize(("cls", "settings"), LEARNERS, ids=str)


@pytest.mark.parametrize(
    ("cls", "settings", "n_steps"),
    [
        (REINFORCE, {"learning_rate": 3e-3, "normalize_returns": True}, 2500),
        (REINFORCE, {"learning_rate": 3e-3, "returns": "total", "baseline": None}, 6000),
        (ActorCritic, {"learning_rate": 3e-3, "n_steps": 4, "ent_coef": 0.01}, 4000),
        (ActorCritic, {"learning_rate": 3e-3, "n_steps": 4, "ent_coef": 0.01, "critic": "q"}, 4000),
        (PPOPenalty, {"n_steps": 32, "batch_size": 64, "learning_rate": 1e-3}, 2048),
    ],
    ids=str,
)
def test_the_smallest_grid_world_is_solved_exactly(cls, settings, n_steps):
    env = make_native_vec_env("Lecture/GridWorld-v0", 8, seed=1)
    model = cls("MlpPolicy", env, gamma=0.95, seed=1, device="cpu", **settings)
    assert exact_evaluation(model).regret > 0.1  # not solved by its first weights
    model.learn(n_steps)
    assert exact_evaluation(model).regret == pytest.approx(0.0, abs=1e-9)


@every_learner
def test_sb3_s_callbacks_normalisation_and_tensorboard_work(cls, settings, tmp_path):
    env, eval_env = (VecNormalize(make_vec_env("CartPole-v1", 2, seed=seed)) for seed in (0, 1))
    model = cls("MlpPolicy", env, seed=0, device="cpu", tensorboard_log=str(tmp_path / "tb"), **settings)
    model.learn(
        400,
        callback=[
            EvalCallback(eval_env, eval_freq=50, n_eval_episodes=2, log_path=str(tmp_path), verbose=0),
            CheckpointCallback(save_freq=50, save_path=str(tmp_path / "checkpoints")),
        ],
        log_interval=1,
    )
    assert np.load(tmp_path / "evaluations.npz")["results"].shape[1] == 2
    checkpoints = sorted((tmp_path / "checkpoints").glob("*.zip"))
    assert checkpoints and cls.load(checkpoints[0], device="cpu").num_timesteps <= 400
    assert any(f.stat().st_size > 500 for f in (tmp_path / "tb").rglob("events.out.tfevents.*"))
    assert np.abs(env.obs_rms.mean).max() > 0


@every_learner
def test_a_compiled_policy_learns_the_same_as_a_plain_one(cls, settings, tmp_path):
    def learned(compiled):
        model = cls("MlpPolicy", make_vec_env("CartPole-v1", 2, seed=0), seed=0, device="cpu", **settings)
        if compiled:
            model.policy = th.compile(model.policy, backend="eager")
        model.learn(100)
        model.save(tmp_path / "model.zip")
        return cls.load(tmp_path / "model.zip", device="cpu").policy.state_dict()

    plain, compiled = learned(False), learned(True)
    for key, value in plain.items():
        th.testing.assert_close(compiled[key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("cls", "settings"),
    [
        (REINFORCE, {"n_episodes": 2}),
        (REINFORCE, {"n_episodes": 2, "baseline": "mean", "ent_coef": 0.01}),  # the images pay nothing
        (PPOPenalty, {"n_steps": 8, "batch_size": 8, "n_epochs": 2}),
    ],
    ids=str,
)
@pytest.mark.parametrize("policy", ["CnnPolicy", "MultiInputPolicy"])
def test_images_and_dicts_are_learned_from(policy, cls, settings, tmp_path):
    if policy == "CnnPolicy":
        env = DummyVecEnv([lambda: FakeImageEnv(screen_height=40, screen_width=40, n_channels=1, discrete=True)] * 2)
    else:
        env = DummyVecEnv([lambda: SimpleMultiObsEnv(discrete_actions=True, random_start=False)] * 2)
    model = cls(policy, env, seed=0, device="cpu", **settings)
    before = {key: value.clone() for key, value in model.policy.state_dict().items()}
    model.learn(24)
    assert any(not th.equal(before[key], value) for key, value in model.policy.state_dict().items())
    model.save(tmp_path / "model.zip")
    loaded = cls.load(tmp_path / "model.zip", env=env, device="cpu").policy.state_dict()
    for key, value in model.policy.state_dict().items():
        th.testing.assert_close(loaded[key], value)


CARTPOLE, PENDULUM = ("CartPole-v1", [], 475.0), ("Pendulum-v1", [], -250.0)
GRIDS = [
    ("Lecture/GridWorld-v0", [], None),
    ("Lecture/GridWorld-v0", ["--env-kwargs", "map:'4x4'"], None),
    ("Lecture/Maze-v0", [], None),
]
TABLE = [
    ("reinforce", CARTPOLE),
    ("actor_critic", CARTPOLE),
    ("ppo_penalty", CARTPOLE),
    ("ppo_penalty", PENDULUM),
    *[(algo, grid) for algo in ("reinforce", "actor_critic") for grid in GRIDS],
]


@pytest.mark.slow
@pytest.mark.parametrize(("algo", "claim"), TABLE, ids=str)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_table_of_the_docs_holds(algo, claim, seed, tmp_path):
    env_id, options, bound = claim
    command = ["train", "--algo", algo, "--env", env_id, "--seed", str(seed), "-f", str(tmp_path), "--eval-freq", "-1"]
    assert cli.main([*command, *options]) == 0
    (path,) = (p for p in Path(tmp_path).rglob("*.zip") if "best" not in p.name)
    model = registry.algorithm(algo).load(path, device="cpu")
    if bound is None:
        env = make_native_vec_env(env_id, env_kwargs={"map": "4x4"} if options else None)
        assert exact_evaluation(model, env).regret == pytest.approx(0.0, abs=1e-9)
    else:
        mean, _ = evaluate_policy(model, make_vec_env(env_id, 1, seed=10_000 + seed), n_eval_episodes=100)
        assert mean >= bound
