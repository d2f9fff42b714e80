"""Evolution strategies against sb3-contrib's ARS: steps of evaluated episodes a second, one thread, 64 candidates, same net.

ARS plays its candidates one after another on one environment, which is how it wastes nothing: on a VecEnv of n it counts n
times the steps of the one episode that it uses. Every repeat learns CartPole-v1 from scratch.
"""

from collections.abc import Callable, Iterator

import torch as th
from sb3_contrib import ARS
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecEnv

from benchmarks._measure import Row, alone, in_turn
from sb3_lecture import EvolutionStrategies

CANDIDATES = 64
NET = {"net_arch": [16], "activation_fn": th.nn.Tanh}


def rows() -> Iterator[Row]:
    """Yield one row a comparison."""
    threads = th.get_num_threads()
    th.set_num_threads(1)
    try:
        what = f"EvolutionStrategies, {CANDIDATES} candidates, net 16: CartPole-v1"
        yield Row(f"{what} as Gymnasium's vector env", "steps/s", alone(es("CartPole-v1", 100_000)), [], 20_000)
        rates = in_turn(es("CartPole-v1", 100_000), ars(10_000))
        yield Row(f"{what} as Gymnasium's vector env, against sb3-contrib's ARS", "steps/s", *rates, 3.0)
        rates = in_turn(es(make_vec_env("CartPole-v1", CANDIDATES, seed=0), 100_000), ars(10_000))
        yield Row(f"{what} as {CANDIDATES} plain envs, against sb3-contrib's ARS", "steps/s", *rates, 3.0)
    finally:
        th.set_num_threads(threads)


def es(env: VecEnv | str, n_steps: int) -> Callable[[], int]:
    """Learn from scratch with ours."""

    def work() -> int:
        model = EvolutionStrategies("MlpPolicy", env, population_size=CANDIDATES, policy_kwargs=NET, seed=0)
        return model.learn(n_steps).num_timesteps

    return work


def ars(n_steps: int) -> Callable[[], int]:
    """Learn from scratch with sb3-contrib's; ``zero_policy`` off, as ours starts from random weights too."""
    env = make_vec_env("CartPole-v1", 1, seed=0)

    def work() -> int:
        model = ARS("MlpPolicy", env, n_delta=CANDIDATES // 2, zero_policy=False, policy_kwargs=NET, seed=0, device="cpu")
        return model.learn(n_steps).num_timesteps

    return work
