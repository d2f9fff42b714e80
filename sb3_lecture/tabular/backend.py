"""The envs seen from the loops: which can be run compiled, how the others are stepped.

Compiled are those that carry their law and have nothing around them that changes it.
"""

from typing import Any, NamedTuple

import gymnasium as gym
from gymnasium.wrappers.common import OrderEnforcing, PassiveEnvChecker, TimeLimit
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor

from sb3_lecture.common.vec_env import GymnasiumVecEnv
from sb3_lecture_envs.mdp import TabularMDP

BACKENDS = ("auto", "env", "compiled")
#: rl_zoo3 puts a subclass in place of gymnasium.wrappers.TimeLimit, so the classes come from where they are defined
TRANSPARENT = (TimeLimit, OrderEnforcing, PassiveEnvChecker, Monitor)


class CompiledWorld(NamedTuple):
    """The law of the envs and their time limit (None: none); or ``mdp=None`` and the reason why there is none."""

    mdp: TabularMDP | None
    max_steps: int | None
    reason: str


def find_world(env: VecEnv, read_p: bool = False) -> CompiledWorld:
    """The world that all envs of a VecEnv share, if the compiled loop can stand in for them.

    :param env: the VecEnv
    :param read_p: also accept an env that states its law as Gymnasium's ``P`` instead of carrying a TabularMDP
    """
    while isinstance(env, VecMonitor):
        env = env.venv
    if isinstance(env, GymnasiumVecEnv):
        venv: Any = env.venv.unwrapped
        return _checked(getattr(venv, "mdp", None), getattr(venv, "max_episode_steps", None), env)
    if type(env) is not DummyVecEnv:
        return CompiledWorld(None, None, f"{type(env).__name__} may change what the envs do")
    worlds = [_inside(e, read_p) for e in env.envs]
    first = worlds[0]
    if first.mdp is None:
        return first
    for other in worlds[1:]:
        if other.mdp is None or other.max_steps != first.max_steps or not same_law(first.mdp, other.mdp):
            return CompiledWorld(None, None, "the envs are not all the same")
    return _checked(first.mdp, first.max_steps, env)


def _inside(env: gym.Env, read_p: bool) -> CompiledWorld:
    max_steps = None
    while isinstance(env, gym.Wrapper):
        if not isinstance(env, TRANSPARENT):
            return CompiledWorld(None, None, f"the wrapper {type(env).__name__} may change what the env does")
        if isinstance(env, TimeLimit):
            max_steps = min(env._max_episode_steps, max_steps or env._max_episode_steps)
        env = env.env
    if env.render_mode == "human":
        return CompiledWorld(None, None, "the env is shown to a person step by step")
    mdp = getattr(env, "mdp", None)
    if read_p and mdp is None and hasattr(env, "P"):
        mdp = TabularMDP.from_gymnasium(env)
    reason = "the env carries no TabularMDP" + (" (backend='compiled' would take its P for it)" if hasattr(env, "P") else "")
    return CompiledWorld(mdp, max_steps, "" if mdp is not None else reason)


def same_law(a: TabularMDP, b: TabularMDP) -> bool:
    """Whether two laws are equal, entry by entry."""
    if a is b:
        return True
    mine, other = a._arrays(), b._arrays()
    return all(
        (x is None and y is None) or (x is not None and y is not None and x.shape == y.shape and bool((x == y).all()))
        for x, y in zip(mine.values(), other.values(), strict=True)
    )


def _checked(mdp: Any, max_steps: int | None, env: VecEnv) -> CompiledWorld:
    if not isinstance(mdp, TabularMDP):
        return CompiledWorld(None, None, "the env carries no TabularMDP")
    if not isinstance(env.observation_space, gym.spaces.Discrete) or env.observation_space.n != mdp.n_states:
        return CompiledWorld(None, None, f"its observations {env.observation_space} are not the {mdp.n_states} states")
    return CompiledWorld(mdp, max_steps, "the env carries its law")


def put_states(env: VecEnv, states: list[int]) -> None:
    """Tell the env objects where the compiled loop has taken them, for callbacks that look or draw."""
    while isinstance(env, VecMonitor):
        env = env.venv
    if isinstance(env, GymnasiumVecEnv):
        env.venv.unwrapped.state[:] = states  # type: ignore[attr-defined]
    elif isinstance(env, DummyVecEnv):
        for e, state in zip(env.envs, states, strict=True):
            core: Any = e.unwrapped
            setattr(core, "state" if hasattr(core, "mdp") else "s", state)  # "s" in Gymnasium's own tables


def monitors(env: VecEnv) -> list[Monitor | None]:
    """The Monitor around each env, where there is one that writes a file."""
    found: list[Monitor | None] = []
    for e in getattr(env, "envs", []):
        while isinstance(e, gym.Wrapper) and not isinstance(e, Monitor):
            e = e.env
        found.append(e if isinstance(e, Monitor) and e.results_writer is not None else None)
    return found
