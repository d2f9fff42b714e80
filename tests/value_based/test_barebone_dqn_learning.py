"""What BareboneDQN learns: a fast seeded part by default, the table of the docs under ``slow``."""

from pathlib import Path

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import FakeImageEnv, SimpleMultiObsEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_lecture import BareboneDQN
from sb3_lecture.common.callbacks import exact_evaluation
from sb3_lecture.common.vec_env import make_native_vec_env
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
    assert np.load(tmp_path / "evaluations.npz")["results"].shape[1] == 2
    checkpoints = sorted((tmp_path / "checkpoints").glob("*.zip"))
    assert checkpoints and BareboneDQN.load(checkpoints[0], device="cpu").num_timesteps <= 300
    assert any(f.stat().st_size > 500 for f in (tmp_path / "tb").rglob("events.out.tfevents.*"))


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
def test_images_and_dicts_are_learned_from(policy, switches, tmp_path):
    if policy == "CnnPolicy":
        env = DummyVecEnv([lambda: FakeImageEnv(screen_height=40, screen_width=40, n_channels=1, discrete=True)] * 2)
    else:
        env = DummyVecEnv([lambda: SimpleMultiObsEnv(discrete_actions=True, random_start=False)] * 2)
    model = BareboneDQN(policy, env, buffer_size=100, seed=0, device="cpu", **switches)
    before = {key: value.clone() for key, value in model.q_net.state_dict().items()}
    model.learn(24)
    assert any(not th.equal(before[key], value) for key, value in model.q_net.state_dict().items())
    model.save(tmp_path / "model.zip")
    loaded = BareboneDQN.load(tmp_path / "model.zip", env=env, device="cpu").policy.state_dict()
    for key, value in model.policy.state_dict().items():
        th.testing.assert_close(loaded[key], value)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_all_switches_solve_cartpole(seed, tmp_path):
    command = ["train", "--algo", "barebone_dqn", "--env", "CartPole-v1", "--seed", str(seed), "-f", str(tmp_path)]
    assert cli.main([*command, "--eval-freq", "-1"]) == 0
    (path,) = (p for p in Path(tmp_path).rglob("*.zip") if "best" not in p.name)
    model = BareboneDQN.load(path, device="cpu")
    mean, _ = evaluate_policy(model, make_vec_env("CartPole-v1", 1, seed=10_000 + seed), n_eval_episodes=100)
    assert mean >= 475.0
