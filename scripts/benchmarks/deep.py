"""Deep learners against SB3's own: frames per second on CartPole-v1, one thread, same net, same numbers."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3 import A2C, DQN
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.env_util import make_vec_env

from benchmarks._measure import Row, in_turn
from sb3_lecture import REINFORCE, BareboneDQN, DeepQLearning, Rainbow
from sb3_lecture.common.prioritized_buffer import PrioritizedReplayBuffer

SB3_DEFAULTS = {"learning_rate": 1e-3, "batch_size": 32, "train_freq": 4, "gradient_steps": 1}
RL_ZOO3 = {
    "learning_rate": 2.3e-3, "batch_size": 64, "train_freq": 256, "gradient_steps": 128, "target_update_interval": 10,
    "policy_kwargs": {"net_arch": [256, 256]},
}  # fmt: skip
SHARED = {"learning_starts": 256, "buffer_size": 100_000, "exploration_fraction": 0.16}


def rows() -> Iterator[Row]:
    """Yield one row a comparison."""
    threads = th.get_num_threads()
    th.set_num_threads(1)
    try:
        rates = in_turn(frames(REINFORCE, 8, 40_000), frames(A2C, 8, 16_000))
        yield Row("REINFORCE, value baseline, against SB3's A2C: CartPole-v1, 8 envs, net 64-64", "frames/s", *rates, 1.2)

        ours = {"replay": True, "target_network": True}
        rates = in_turn(
            frames(BareboneDQN, 1, 6000, **SHARED, **SB3_DEFAULTS, **ours), frames(DQN, 1, 6000, **SHARED, **SB3_DEFAULTS)
        )
        what = "BareboneDQN, replay and target network, against SB3's DQN: CartPole-v1,"
        yield Row(f"{what} train_freq 4, gradient_steps 1, batch 32, net 64-64", "frames/s", *rates, 1.5)

        rates = in_turn(frames(BareboneDQN, 1, 4096, **SHARED, **RL_ZOO3, **ours), frames(DQN, 1, 4096, **SHARED, **RL_ZOO3))
        yield Row(f"{what} train_freq 256, gradient_steps 128, batch 64, net 256-256", "frames/s", *rates, 1.5)

        what = "DeepQLearning, every switch off, against SB3's DQN: CartPole-v1,"
        rates = in_turn(
            frames(DeepQLearning, 1, 6000, **SHARED, **SB3_DEFAULTS), frames(DQN, 1, 6000, **SHARED, **SB3_DEFAULTS)
        )
        yield Row(f"{what} train_freq 4, gradient_steps 1, batch 32, net 64-64", "frames/s", *rates, 2.0)
        rates = in_turn(frames(DeepQLearning, 1, 4096, **SHARED, **RL_ZOO3), frames(DQN, 1, 4096, **SHARED, **RL_ZOO3))
        yield Row(f"{what} train_freq 256, gradient_steps 128, batch 64, net 256-256", "frames/s", *rates, 2.0)
        rates = in_turn(updates(Rainbow, v_max=100.0), updates(DQN))
        yield Row("Rainbow's update against that of SB3's DQN: batch 32, net 64-64", "updates/s", *rates, 1 / 3)

        rates = in_turn(draws(PrioritizedReplayBuffer), draws(ReplayBuffer))
        yield Row(
            "PrioritizedReplayBuffer, 32 of 10^6 rows drawn and renewed, against SB3's uniform draw", "draws/s", *rates, 1.0
        )
    finally:
        th.set_num_threads(threads)


def updates(cls: type[BaseAlgorithm], **settings: Any) -> Callable[[], int]:
    """Gradient steps alone, on a full memory."""
    model: Any = cls(
        "MlpPolicy", make_vec_env("CartPole-v1", 1, seed=0), seed=0, device="cpu", learning_starts=10**9, buffer_size=5000,
        learning_rate=1e-3, **settings,
    )  # fmt: skip
    model.learn(5000)

    def work() -> int:
        model.train(500, 32)
        return 500

    return work


def draws(cls: type[ReplayBuffer]) -> Callable[[], int]:
    """Minibatches of 32 out of a million rows; with priorities these are renewed."""
    memory: Any = cls(1_000_000, spaces.Box(-1, 1, (4,), np.float32), spaces.Discrete(2), device="cpu")
    memory.full = True
    errors = np.random.random(1_000_000)
    if isinstance(memory, PrioritizedReplayBuffer):
        memory.update_priorities(np.arange(1_000_000), errors)

    def work() -> int:
        for _ in range(2000):
            batch = memory.sample(32)
            if isinstance(memory, PrioritizedReplayBuffer):
                memory.update_priorities(batch.indices, errors[batch.indices])
        return 2000

    return work


def frames(cls: type[BaseAlgorithm], n_envs: int, n_steps: int, **settings: Any) -> Callable[[], int]:
    """One ``learn()`` after another with the same model."""
    model = cls("MlpPolicy", make_vec_env("CartPole-v1", n_envs, seed=0), seed=0, device="cpu", **settings)

    def work() -> int:
        model.learn(n_steps)
        return model.num_timesteps

    return work
