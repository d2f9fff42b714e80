"""What BareboneDQN learns: a fast seeded part by default, the table of the docs under ``slow``."""

from pathlib import Path

import numpy as np
import pytest
import torch as th
from numpy.testing import assert_allclose
from sign_world import Signs
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from sb3_lecture import BareboneDQN
from sb3_lecture.common.vec_env import make_native_vec_env
from sb3_lecture.exact.grade import exact_evaluation
from sb3_lecture.zoo import cli

SWITCHES = [
    {},
    {"replay": True},
    {"replay": True, "target_network": True},
    {"replay": True, "target_network": True, "double": True},
]
every_switch = pytest.mark.parametrize("switches", SWITCHES, ids=lambda switches: "+".join(switches) or "none")


@every_switch
def test_a_small_grid_world_is_solved_exactly(switches):
    env = make_native_vec_env("Lecture/GridWorld-v0", 4, seed=1)
    model = BareboneDQN(
        "MlpPolicy", env, gamma=0.9, learning_rate=3e-3, target_update_interval=100, exploration_fraction=0.8, seed=0,
        device="cpu", **switches,
    )  # fmt: skip
    assert exact_evaluation(model).regret > 0.1  # not solved by its first weights
    model.learn(2000)
    assert exact_evaluation(model).regret == pytest.approx(0.0, abs=1e-9)


def test_the_pole_is_held_ten_times_as_long_as_untrained():
    env, eval_env = make_vec_env("CartPole-v1", 1, seed=0), make_vec_env("CartPole-v1", 4, seed=99)
    model = BareboneDQN(
        "MlpPolicy", env, learning_rate=2e-3, batch_size=64, train_freq=16, gradient_steps=8, target_update_interval=50,
        exploration_fraction=0.2, learning_starts=500, seed=0, device="cpu", **SWITCHES[3],
    )  # fmt: skip
    assert evaluate_policy(model, eval_env, n_eval_episodes=20)[0] < 12.0
    assert evaluate_policy(model.learn(8000), eval_env, n_eval_episodes=20)[0] > 120.0


@every_switch
def test_sb3_s_callbacks_normalisation_and_tensorboard_work(switches, tmp_path):
    env, eval_env = (VecNormalize(make_vec_env("CartPole-v1", 2, seed=seed)) for seed in (0, 1))
    model = BareboneDQN("MlpPolicy", env, seed=0, device="cpu", tensorboard_log=str(tmp_path / "tb"), **switches)
    model.learn(
        300,
        callback=[
            EvalCallback(eval_env, eval_freq=50, n_eval_episodes=2, log_path=str(tmp_path), verbose=0),
            CheckpointCallback(save_freq=50, save_path=str(tmp_path / "checkpoints")),
        ],
        log_interval=1,
    )
    evaluations = np.load(tmp_path / "evaluations.npz")
    assert evaluations["timesteps"].tolist() == [100, 200, 300]
    assert_allclose(evaluations["results"], evaluations["ep_lengths"])  # the pole pays 1 a step: returns are not normalised
    checkpoints = {BareboneDQN.load(path, device="cpu").num_timesteps for path in (tmp_path / "checkpoints").glob("*.zip")}
    assert checkpoints == {100, 200, 300}
    (path,) = (tmp_path / "tb").rglob("events.out.tfevents.*")
    log = EventAccumulator(str(path)).Reload()
    assert {"rollout/ep_rew_mean", "eval/mean_reward", "train/loss"} <= set(log.Tags()["scalars"])
    assert np.isfinite([event.value for event in log.Scalars("train/loss")]).all()
    assert all(episode["r"] == episode["l"] for episode in model.ep_info_buffer)


def test_a_compiled_policy_learns_the_same_as_a_plain_one(tmp_path):
    def learned(compiled):
        model = BareboneDQN("MlpPolicy", make_vec_env("CartPole-v1", 2, seed=0), **SWITCHES[3], seed=0, device="cpu")
        if compiled:
            model.policy = th.compile(model.policy, backend="eager")
        model.learn(100)
        model.save(tmp_path / "model.zip")
        return BareboneDQN.load(tmp_path / "model.zip", device="cpu").policy.state_dict()

    plain, compiled = learned(False), learned(True)
    for key, value in plain.items():
        th.testing.assert_close(compiled[key], value, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("switches", [SWITCHES[0], SWITCHES[3]], ids=lambda switches: "+".join(switches) or "none")
@pytest.mark.parametrize("policy", ["CnnPolicy", "MultiInputPolicy"])
def test_images_and_dicts_are_read(policy, switches, tmp_path):
    settings = {"buffer_size": 1000, "target_update_interval": 50, "train_freq": 2, "exploration_fraction": 1.0, **switches}
    env = DummyVecEnv([lambda: Signs(policy == "MultiInputPolicy")] * 8)
    small = {"features_extractor_kwargs": {"features_dim" if policy == "CnnPolicy" else "cnn_output_dim": 32}}
    model = BareboneDQN(policy, env, learning_rate=1e-3, policy_kwargs=small, seed=0, device="cpu", **settings)
    pictures = np.stack([np.full((1, 36, 36), shade, np.uint8) for shade in (0, 255, 0, 255)])
    signs = pictures[:2] if policy == "CnnPolicy" else {"picture": pictures, "number": np.array([0, 0, 1, 1])}
    right = list(range(env.action_space.n))
    while model.predict(signs, deterministic=True)[0].tolist() != right and model.num_timesteps < 3000:
        model.learn(250, reset_num_timesteps=False)
    assert model.predict(signs, deterministic=True)[0].tolist() == right and model.num_timesteps > 0
    model.save(tmp_path / "model.zip")
    loaded = BareboneDQN.load(tmp_path / "model.zip", env=env, device="cpu")
    assert loaded.policy_class is model.policy_class
    for key, value in model.policy.state_dict().items():
        th.testing.assert_close(loaded.policy.state_dict()[key], value)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_all_switches_solve_cartpole(seed, tmp_path):
    command = ["train", "--algo", "barebone_dqn", "--env", "CartPole-v1", "--seed", str(seed), "-f", str(tmp_path)]
    assert cli.main([*command, "--eval-freq", "-1"]) == 0
    (path,) = (p for p in Path(tmp_path).rglob("*.zip") if "best" not in p.name)
    model = BareboneDQN.load(path, device="cpu")
    mean, _ = evaluate_policy(model, make_vec_env("CartPole-v1", 1, seed=10_000 + seed), n_eval_episodes=100)
    assert mean >= 475.0
