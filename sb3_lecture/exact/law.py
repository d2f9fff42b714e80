"""Where a world states its law: as a TabularMDP (``mdp``), or as Gymnasium's ``P`` (FrozenLake, Taxi, CliffWalking)."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
from stable_baselines3.common.vec_env import VecEnv

from sb3_lecture_envs.mdp import TabularMDP


def law_of(env: VecEnv | gym.Env) -> TabularMDP | None:
    """The law that an env states, or the first env of a VecEnv; None where it states none."""

    def read(name: str) -> Any:
        if isinstance(env, VecEnv):
            return env.get_attr(name, 0)[0] if env.has_attr(name) else None
        return getattr(env.unwrapped, name, None)

    mdp = read("mdp")
    if isinstance(mdp, TabularMDP):
        return mdp
    p, start = read("P"), read("initial_state_distrib")
    return TabularMDP.from_P(p, 0 if start is None else start) if isinstance(p, Mapping) else None
