"""Where a world states its law: as a TabularMDP (``mdp``), or as Gymnasium's ``P`` (FrozenLake, Taxi, CliffWalking).

A ``P`` is a claim: before it is taken over, a copy of the env is stepped and held against it (``stated_law`` in
``sb3_lecture_envs``), once for every env and law.
"""

from collections.abc import Mapping
from typing import Any
from weakref import WeakKeyDictionary

import gymnasium as gym
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecEnvWrapper

from sb3_lecture_envs.mdp import TabularMDP

#: laws that envs have been found to keep to
_CHECKED: "WeakKeyDictionary[Any, TabularMDP]" = WeakKeyDictionary()


def law_of(env: VecEnv | gym.Env) -> TabularMDP | None:
    """The law that an env states, or the first env of a VecEnv; None where it states none.

    :raises ValueError: if it does what its ``P`` does not hold
    """

    def read(name: str) -> Any:
        if isinstance(env, VecEnv):
            return env.get_attr(name, 0)[0] if env.has_attr(name) else None
        return getattr(env.unwrapped, name, None)

    mdp = read("mdp")
    if isinstance(mdp, TabularMDP):
        return mdp
    p = read("P")
    if not isinstance(p, Mapping):
        return None
    owner = _owner(env)
    known = _CHECKED.get(owner)
    if known is not None:
        start = read("initial_state_distrib")
        again = TabularMDP.from_P(p, known.start if start is None else start)
        if again.same_as(known):
            return known
    _CHECKED[owner] = mdp = TabularMDP.from_gymnasium(owner if isinstance(owner, gym.Env) else _made_anew(env, read))
    return mdp


def _owner(env: VecEnv | gym.Env) -> Any:
    """The env object that has the law, or the VecEnv whose envs are in other processes."""
    while isinstance(env, VecEnvWrapper):
        env = env.venv
    inner: Any = env.envs[0] if isinstance(env, DummyVecEnv) else env
    return inner.unwrapped if isinstance(inner, gym.Env) else inner


def _made_anew(env: Any, read: Any) -> gym.Env:
    """An env like the first one of a VecEnv in other processes: of its spec, else a copy that came through the pipe."""
    spec = read("spec")
    return read("unwrapped") if spec is None else gym.make(spec, render_mode=None)
