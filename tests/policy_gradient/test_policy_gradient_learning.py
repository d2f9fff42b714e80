"""What the policy-gradient learners learn: a fast seeded part by default, the table of the docs under ``slow``."""

from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from numpy.testing import assert_allclose
from sign_world import Signs
from stable_baselines3.common.callbacks import CheckpointCallback, EvalCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_lecture import REINFORCE, ActorCritic, PPOPenalty
from sb3_lecture.common.vec_env import make_native_vec_env
from sb3_lecture.exact.grade import exact_evaluation
from sb3_lecture.exact.solver import policy_evaluation, start_value
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


@pytest.mark.parametrize(
    ("cls", "settings", "n_steps"),
    [
        (REINFORCE, {"learning_rate": 5e-3, "normalize_returns": True}, 14_000),
        (ActorCritic, {"n_steps": 8}, 12_000),
        (PPOPenalty, {"learning_rate": 1e-3, "n_steps": 32, "batch_size": 256, "gae_lambda": 0.8, "gamma": 0.98}, 20_000),
    ],
    ids=str,
)
def test_the_pole_is_held_four_times_as_long_as_untrained(cls, settings, n_steps):
    def steps_held():  # by the policy itself, that is, with its own randomness
        return evaluate_policy(model, make_vec_env("CartPole-v1", 4, seed=99), n_eval_episodes=40, deterministic=False)[0]

    model = cls("MlpPolicy", make_vec_env("CartPole-v1", 8, seed=0), seed=0, device="cpu", **settings)
    untrained = steps_held()
    model.learn(n_steps)
    assert steps_held() > 4 * untrained > 40.0


@pytest.mark.parametrize(("epsilon", "best_row"), [(0.001, 2), (0.01, 1), (0.1, 1), (0.2, 0)])
def test_the_more_a_walker_strays_the_further_from_the_cliff_it_should_walk(epsilon, best_row):
    """Why learners that explore settle on 15 or 17 steps: a greedy one needs 13, along the edge (row 2)."""
    mdp = gym.make("Lecture/CliffWalking-v0").unwrapped.mdp
    rows, columns = np.divmod(np.arange(48), 12)
    values = []
    for row in range(3):
        action = np.where(columns == 11, 2, np.where(rows > row, 0, np.where(rows < row, 2, 1)))  # up, right, down
        policy = np.full((48, 4), epsilon / 4) + (1 - epsilon) * (action[:, None] == np.arange(4))
        values.append(start_value(mdp, policy_evaluation(mdp, policy, 0.99)))
        steps = 17 - 2 * row
        greedy = start_value(mdp, policy_evaluation(mdp, action, 0.99))
        assert greedy == pytest.approx(-(1 - 0.99**steps) / (1 - 0.99))
    assert int(np.argmax(values)) == best_row


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
    evaluations = np.load(tmp_path / "evaluations.npz")
    assert evaluations["timesteps"].tolist() == list(range(100, model.num_timesteps + 1, 100))
    assert_allclose(evaluations["results"], evaluations["ep_lengths"])  # the pole pays 1 a step: returns are not normalised
    checkpoints = {cls.load(path, device="cpu").num_timesteps for path in (tmp_path / "checkpoints").glob("*.zip")}
    assert checkpoints == set(evaluations["timesteps"].tolist())
    scalars = read_scalars(tmp_path / "tb")
    assert {"rollout/ep_rew_mean", "eval/mean_reward", "train/value_loss"} <= scalars.keys()
    assert all(np.isfinite(values).all() for values in scalars.values())
    # the model has seen what VecNormalize gives out, and counted what the world pays
    assert_allclose(env.normalize_obs(env.get_original_obs()), model._last_obs, rtol=1e-5)
    assert env.obs_rms.count == pytest.approx(model.num_timesteps + 2, abs=20)
    assert all(episode["r"] == episode["l"] for episode in model.ep_info_buffer)


def read_scalars(folder):
    """Every scalar of a tensorboard log, name → values."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    (path,) = folder.rglob("events.out.tfevents.*")
    log = EventAccumulator(str(path)).Reload()
    return {tag: [event.value for event in log.Scalars(tag)] for tag in log.Tags()["scalars"]}


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
        (REINFORCE, {"n_episodes": 16}),
        (REINFORCE, {"n_episodes": 16, "baseline": "mean"}),
        (ActorCritic, {}),
        (ActorCritic, {"critic": "q"}),
        (PPOPenalty, {"n_steps": 8, "batch_size": 64, "n_epochs": 4, "beta": 0.1, "target_kl": 0.1}),
    ],
    ids=str,
)
@pytest.mark.parametrize("policy", ["CnnPolicy", "MultiInputPolicy"])
def test_images_and_dicts_are_read(policy, cls, settings, tmp_path):
    env = DummyVecEnv([lambda: Signs(policy == "MultiInputPolicy")] * 8)
    small = {"features_extractor_kwargs": {"features_dim" if policy == "CnnPolicy" else "cnn_output_dim": 32}}
    model = cls(policy, env, learning_rate=1e-3, policy_kwargs=small, seed=0, device="cpu", **settings)
    pictures = np.stack([np.full((1, 36, 36), shade, np.uint8) for shade in (0, 255, 0, 255)])
    signs = pictures[:2] if policy == "CnnPolicy" else {"picture": pictures, "number": np.array([0, 0, 1, 1])}
    right = list(range(env.action_space.n))
    while model.predict(signs, deterministic=True)[0].tolist() != right and model.num_timesteps < 3000:
        model.learn(250, reset_num_timesteps=False)
    assert model.predict(signs, deterministic=True)[0].tolist() == right and model.num_timesteps > 0
    model.save(tmp_path / "model.zip")
    loaded = cls.load(tmp_path / "model.zip", env=env, device="cpu")
    assert loaded.policy_class is model.policy_class
    for key, value in model.policy.state_dict().items():
        th.testing.assert_close(loaded.policy.state_dict()[key], value)


MAP_4X4 = {"map": "4x4"}
TABLE = [  # algorithm, world, its arguments, the least mean return; None: the exact regret is 0
    ("reinforce", "CartPole-v1", {}, 475.0),
    ("actor_critic", "CartPole-v1", {}, 475.0),
    ("ppo_penalty", "CartPole-v1", {}, 475.0),
    ("ppo_penalty", "Pendulum-v1", {}, -250.0),
    ("reinforce", "Lecture/GridWorld-v0", {}, None),
    ("reinforce", "Lecture/GridWorld-v0", MAP_4X4, None),
    ("reinforce", "Lecture/Maze-v0", {}, None),
    ("actor_critic", "Lecture/GridWorld-v0", {}, None),
    ("actor_critic", "Lecture/GridWorld-v0", MAP_4X4, None),
    ("actor_critic", "Lecture/Maze-v0", {}, None),
]


def name(claim):
    algo, env_id, env_kwargs, _ = claim
    return "-".join([algo, env_id.split("/")[-1], *env_kwargs.values()])


@pytest.mark.slow
@pytest.mark.parametrize("claim", TABLE, ids=name)
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_the_table_of_the_docs_holds(claim, seed, tmp_path):
    algo, env_id, env_kwargs, least = claim
    command = ["train", "--algo", algo, "--env", env_id, "--seed", str(seed), "-f", str(tmp_path), "--eval-freq", "-1"]
    if env_kwargs:
        command += ["--env-kwargs", *(f"{key}:{value!r}" for key, value in env_kwargs.items())]
    assert cli.main(command) == 0
    (path,) = Path(tmp_path).rglob("*.zip")
    model = registry.algorithm(algo).load(path, device="cpu")
    if least is None:
        env = make_native_vec_env(env_id, env_kwargs=env_kwargs)
        assert exact_evaluation(model, env).regret == pytest.approx(0.0, abs=1e-9)
    else:
        mean, _ = evaluate_policy(model, make_vec_env(env_id, 1, seed=10_000 + seed), n_eval_episodes=100)
        assert mean >= least
