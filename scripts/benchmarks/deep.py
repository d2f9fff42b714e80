"""Deep learners against SB3's own: frames per second on CartPole-v1, one thread, same net, same numbers."""

from collections.abc import Callable, Iterator
from typing import Any

import torch as th
from stable_baselines3 import A2C, DQN
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.env_util import make_vec_env

from benchmarks._measure import Row, in_turn
from sb3_lecture import REINFORCE, BareboneDQN

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
    finally:
        th.set_num_threads(threads)


def frames(cls: type[BaseAlgorithm], n_envs: int, n_steps: int, **settings: Any) -> Callable[[], int]:
    """One ``learn()`` after another with the same model."""
    model = cls("MlpPolicy", make_vec_env("CartPole-v1", n_envs, seed=0), seed=0, device="cpu", **settings)

    def work() -> int:
        model.learn(n_steps)
        return model.num_timesteps

    return work
