"""The envs seen from the loops: which can be run compiled, how the others are stepped.

Compiled are those that carry their law and have nothing around them that changes it.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium.wrappers.common import OrderEnforcing, PassiveEnvChecker
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv, VecMonitor

from sb3_lecture.common.vec_env import GymnasiumVecEnv
from sb3_lecture.common.wrappers import TimeLimit
from sb3_lecture.tabular.loop import Walk
from sb3_lecture_envs.mdp import TabularMDP

BACKENDS = ("auto", "env", "compiled")
#: what changes nothing of the law; a subclass of these, such as rl_zoo3's TimeLimit, does neither
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
        if other.mdp is None or other.max_steps != first.max_steps or not first.mdp.same_as(other.mdp):
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


def _checked(mdp: Any, max_steps: int | None, env: VecEnv) -> CompiledWorld:
    if not isinstance(mdp, TabularMDP):
        return CompiledWorld(None, None, "the env carries no TabularMDP")
    if not isinstance(env.observation_space, gym.spaces.Discrete) or env.observation_space.n != mdp.n_states:
        return CompiledWorld(None, None, f"its observations {env.observation_space} are not the {mdp.n_states} states")
    return CompiledWorld(mdp, max_steps, "the env carries its law")


def put_states(env: VecEnv, walk: Walk) -> None:
    """Tell the env objects where the compiled loop has taken them, for callbacks that look or draw."""
    inner = without_monitors(env)
    if isinstance(inner, GymnasiumVecEnv):
        venv: Any = inner.venv.unwrapped
        venv.state[:], venv.elapsed[:] = walk.state, walk.elapsed
    elif isinstance(inner, DummyVecEnv):
        for e, state in zip(inner.envs, walk.state.tolist(), strict=True):
            core: Any = e.unwrapped
            setattr(core, "state" if hasattr(core, "mdp") else "s", state)  # "s" in Gymnasium's own tables


def write_episodes(env: VecEnv, walk: Walk) -> None:
    """Leave the running episodes in the env objects as the env loop would have: time limits and statistics."""
    while isinstance(env, VecMonitor):
        env.episode_returns, env.episode_lengths = walk.total.astype(np.float32), walk.elapsed.astype(np.int32)
        env = env.venv
    if isinstance(env, GymnasiumVecEnv):
        env._returns[:], env._lengths[:] = walk.total, walk.elapsed
    elif isinstance(env, DummyVecEnv):
        for i, e in enumerate(env.envs):
            steps, action = int(walk.elapsed[i]), int(walk.action[i])
            for wrapper in wrappers(e):
                if isinstance(wrapper, TimeLimit):
                    wrapper._elapsed_steps = steps  # type: ignore[assignment]
                elif isinstance(wrapper, Monitor):  # it keeps every reward, but reads nothing except their number and sum
                    wrapper.rewards, wrapper.needs_reset = [float(walk.total[i])] + [0.0] * (steps - 1) if steps else [], False
            core: Any = e.unwrapped
            for name in ("last_action", "lastaction"):
                if hasattr(core, name):
                    setattr(core, name, action if steps else None)


def read_episodes(env: VecEnv, walk: Walk) -> None:
    """Read the running episodes' steps and returns off the env objects, where these know them."""
    if isinstance(env, VecMonitor):
        walk.elapsed[:], walk.total[:] = env.episode_lengths, env.episode_returns
    inner = without_monitors(env)
    if isinstance(inner, GymnasiumVecEnv):
        walk.elapsed[:] = inner.venv.unwrapped.elapsed  # type: ignore[attr-defined]
        walk.total[:] = inner._returns
    elif isinstance(inner, DummyVecEnv):
        for i, e in enumerate(inner.envs):
            for wrapper in wrappers(e):  # from the outermost: the innermost counts
                if isinstance(wrapper, TimeLimit):
                    walk.elapsed[i] = wrapper._elapsed_steps or 0
                elif isinstance(wrapper, Monitor):
                    walk.elapsed[i], walk.total[i] = len(wrapper.rewards), sum(wrapper.rewards)


def without_monitors(env: VecEnv) -> VecEnv:
    """The VecEnv under its VecMonitors."""
    while isinstance(env, VecMonitor):
        env = env.venv
    return env


def wrappers(env: gym.Env) -> Iterator[gym.Wrapper]:
    """The wrappers around an env, from the outermost."""
    while isinstance(env, gym.Wrapper):
        yield env
        env = env.env


def monitors(env: VecEnv) -> list[list[Monitor]]:
    """The Monitors around each env."""
    return [[w for w in wrappers(e) if isinstance(w, Monitor)] for e in getattr(without_monitors(env), "envs", [])]


def note_episodes(files: list[list[Monitor]], scores: list[float], lengths: list[int], envs: list[int], now: float) -> None:
    """Tell the Monitors of episodes that have ended.

    :param files: the Monitors around each env
    :param scores: returns of the episodes
    :param lengths: their steps
    :param envs: the env of each
    :param now: the time
    """
    for i, those in enumerate(files):
        mine = [k for k, who in enumerate(envs) if who == i] if len(files) > 1 else range(len(envs))
        for monitor in those:
            monitor.episode_returns.extend(scores[k] for k in mine)
            monitor.episode_lengths.extend(lengths[k] for k in mine)
            monitor.episode_times.extend([now - monitor.t_start] * len(mine))
            if monitor.results_writer is not None:
                for k in mine:
                    row = {"r": round(scores[k], 6), "l": lengths[k], "t": round(now - monitor.t_start, 6)}
                    monitor.results_writer.write_row({**row, **monitor.current_reset_info})
