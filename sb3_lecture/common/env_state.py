"""Where envs stand: taken down as plain values, and put back into other envs of the same kind.

What is known how to save: this package's worlds (``get_state`` and ``set_state``, which any env can have), Gymnasium's
classic control and toy text, the wrappers in ``WRAPPERS``, SB3's DummyVecEnv and its wrappers, ``GymnasiumVecEnv``, and the
``SubprocVecEnv`` below. For the others ``CannotSave`` says which class it was.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import SyncVectorEnv, VectorEnv
from stable_baselines3.common import vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecCheckNan,
    VecEnv,
    VecEnvWrapper,
    VecExtractDictObs,
    VecFrameStack,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
)

from sb3_lecture.common.packing import pack
from sb3_lecture.common.vec_env import GymnasiumVecEnv

__all__ = ["CannotSave", "SubprocVecEnv", "get_env_state", "needs_reset", "set_env_state"]

#: wrapper, by module and name → the attributes that change from step to step
WRAPPERS: dict[str, tuple[str, ...]] = {
    "gymnasium.wrappers:TimeLimit": ("_elapsed_steps",),
    "gymnasium.wrappers:OrderEnforcing": ("_has_reset",),
    "gymnasium.wrappers:PassiveEnvChecker": (),
    "gymnasium.wrappers:TimeAwareObservation": ("timesteps",),
    "gymnasium.wrappers:FrameStackObservation": ("obs_queue",),
    "stable_baselines3.common:EpisodicLifeEnv": ("lives", "was_real_done"),
    "stable_baselines3.common:MaxAndSkipEnv": ("_obs_buffer",),
    "stable_baselines3.common:StickyActionEnv": ("_sticky_action",),
    "stable_baselines3.common:Monitor": ("rewards", "needs_reset", "total_steps", "current_reset_info"),
    "rl_zoo3.wrappers:TimeFeatureWrapper": ("_current_step",),
} | dict.fromkeys(
    (
        *(f"gymnasium.wrappers:{name}" for name in (
            "FlattenObservation", "ReshapeObservation", "RescaleObservation", "ResizeObservation", "GrayscaleObservation",
            "DtypeObservation", "AddRenderObservation", "FilterObservation", "TransformObservation", "TransformReward",
            "TransformAction", "ClipAction", "RescaleAction", "ClipReward",
        )),
        *(f"stable_baselines3.common:{name}" for name in (
            "AtariWrapper", "NoopResetEnv", "FireResetEnv", "ClipRewardEnv", "WarpFrame",
        )),
        "sb3_lecture_envs.wrappers:DiscretizeObservation", "sb3_lecture_envs.wrappers:PictureObservation",
    ),
    (),
)  # fmt: skip
#: attributes of Gymnasium's own small envs that change from step to step
CORE = (
    "state", "steps_beyond_terminated", "last_u", "s", "lastaction", "dealer", "player", "dealer_top_card_suit",
    "dealer_top_card_value_str", "fickle_step", "steps", "prev_done", "low", "high",
)  # fmt: skip
CORE_MODULES = ("gymnasium.envs.classic_control.", "gymnasium.envs.toy_text.")
STATELESS = (VecTransposeImage, VecExtractDictObs, VecCheckNan)


class CannotSave(ValueError):
    """An env whose state nobody knows how to save; the message names it."""


class SubprocVecEnv(vec_env.SubprocVecEnv):
    """SB3's SubprocVecEnv, whose processes can be asked where their envs stand; its arguments."""

    def __init__(self, env_fns: list[Callable[[], gym.Env]], start_method: str | None = None) -> None:
        super().__init__([partial(_stateful, make) for make in env_fns], start_method)


def _stateful(make: Callable[[], gym.Env]) -> gym.Env:
    """Make an env that answers ``env_method`` with its state, or why it has none: an error would end its process."""
    env: Any = make()

    def whole_state() -> list[Any] | str:
        try:
            return _gym_state(env)
        except CannotSave as error:
            return str(error)

    def set_whole_state(parts: list[Any]) -> str | None:
        try:
            _set_gym_state(env, parts)
        except (CannotSave, KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
            return str(error)
        return None

    env.whole_state, env.set_whole_state = whole_state, set_whole_state
    return env


def get_env_state(env: VecEnv) -> dict[str, Any]:
    """Take down where a VecEnv stands.

    :param env: the VecEnv, with its wrappers
    :return: plain values, arrays and generators, as ``packing.pack`` takes them
    :raises CannotSave: if one of its parts is not known
    """
    state = _vec_state(env)
    if lost := pack(state).lost:
        raise CannotSave(f"the env's {lost[0]} is no plain value")
    return state


def set_env_state(env: VecEnv, state: dict[str, Any]) -> None:
    """Put a VecEnv where another of its kind stood.

    :param env: the VecEnv
    :param state: from ``get_env_state``
    :raises CannotSave: if the envs are of another kind or number
    """
    try:
        _set_vec_state(env, state)
    except CannotSave:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, IndexError) as error:
        raise CannotSave(f"the state in the file does not fit the env: {error}") from error


def needs_reset(env: VecEnv) -> bool:
    """Whether an env of a DummyVecEnv has ended, or never begun, so that stepping it would raise."""
    while isinstance(env, VecEnvWrapper):
        env = env.venv
    for one in getattr(env, "envs", []):
        while isinstance(one, gym.Wrapper):
            if getattr(one, "needs_reset", False) or getattr(one, "_has_reset", True) is False:
                return True
            one = one.env
    return False


# --- VecEnvs ---------------------------------------------------------------------------------------------------------


def _vec_state(env: VecEnv) -> dict[str, Any]:
    state: dict[str, Any] = {"class": type(env).__name__}
    if isinstance(env, VecEnvWrapper):
        state["venv"] = _vec_state(env.venv)
        if isinstance(env, VecNormalize):
            names = ("obs_rms", "ret_rms", "returns", "old_obs", "old_reward")
            state["own"] = {name: getattr(env, name) for name in names if hasattr(env, name)}
        elif isinstance(env, VecMonitor):
            state["own"] = {name: getattr(env, name) for name in ("episode_returns", "episode_lengths", "episode_count")}
            state["elapsed"] = time.time() - env.t_start
        elif isinstance(env, VecFrameStack):
            stacks = getattr(env.stacked_obs, "sub_stacked_observations", None)
            parts = {"": env.stacked_obs} if stacks is None else stacks
            state["own"] = {key: part.stacked_obs for key, part in parts.items()}
        elif not isinstance(env, STATELESS):
            raise CannotSave(f"{type(env).__name__} is a wrapper whose state is not known")
        return state
    state |= {"seeds": list(env._seeds), "options": list(env._options)}
    if isinstance(env, DummyVecEnv):
        return state | {"envs": [_gym_state(one) for one in env.envs]}
    if isinstance(env, GymnasiumVecEnv):
        own = {name: getattr(env, name) for name in ("_returns", "_lengths", "_resetting") if hasattr(env, name)}
        return state | {"own": own, "vector": _vector_state(env.venv), "elapsed": time.time() - env._start_time}
    if isinstance(env, SubprocVecEnv):
        return state | {"envs": [_told(answer) for answer in env.env_method("whole_state")]}
    raise CannotSave(f"{type(env).__name__} keeps its envs in other processes, or is not known")


def _told(answer: Any) -> Any:
    """What a process said of its env.

    :raises CannotSave: if it is why it has no state
    """
    if isinstance(answer, str):
        raise CannotSave(answer)
    return answer


def _set_vec_state(env: VecEnv, state: dict[str, Any]) -> None:
    _same(type(env).__name__, state["class"])
    if isinstance(env, VecEnvWrapper):
        _set_vec_state(env.venv, state["venv"])
        own = state.get("own", {})
        if isinstance(env, VecFrameStack):
            stacks = getattr(env.stacked_obs, "sub_stacked_observations", None)
            for key, part in ({"": env.stacked_obs} if stacks is None else stacks).items():
                part.stacked_obs = own[key]
        else:
            for name, value in own.items():
                setattr(env, name, value)
        if isinstance(env, VecMonitor):
            env.t_start = time.time() - state["elapsed"]
        return
    if isinstance(env, DummyVecEnv):
        _same(len(env.envs), len(state["envs"]))
        for one, part in zip(env.envs, state["envs"], strict=True):
            _set_gym_state(one, part)
    elif isinstance(env, SubprocVecEnv):
        _same(env.num_envs, len(state["envs"]))
        for i, part in enumerate(state["envs"]):
            _told(env.env_method("set_whole_state", part, indices=i)[0])
    elif isinstance(env, GymnasiumVecEnv):
        for name, value in state["own"].items():
            setattr(env, name, value)
        _set_vector_state(env.venv, state["vector"])
        env._start_time = time.time() - state["elapsed"]
    env._seeds, env._options = list(state["seeds"]), list(state["options"])


# --- Gymnasium's envs ------------------------------------------------------------------------------------------------


def _name(wrapper: Any) -> str:
    """The name a class has in ``WRAPPERS``."""
    module, name = type(wrapper).__module__, type(wrapper).__name__
    if name == "PatchedTimeLimit":  # rl_zoo3's, which it puts in Gymnasium's place
        return "gymnasium.wrappers:TimeLimit"
    for package in ("gymnasium.wrappers", "stable_baselines3.common"):
        if module.startswith(package):
            module = package
    return f"{module}:{name}"


def _gym_state(env: gym.Env) -> list[Any]:
    parts: list[Any] = []
    while isinstance(env, gym.Wrapper):
        name = _name(env)
        if name not in WRAPPERS:
            raise CannotSave(f"{type(env).__name__} is a wrapper whose state is not known")
        part = {attribute: getattr(env, attribute) for attribute in WRAPPERS[name] if hasattr(env, attribute)}
        if isinstance(env, Monitor):
            part["elapsed"] = time.time() - env.t_start
        parts.append([name, part])
        env = env.env
    return [*parts, [type(env).__name__, _core_state(env)]]


def _set_gym_state(env: gym.Env, parts: list[Any]) -> None:
    for name, part in parts[:-1]:
        _same(_name(env) if isinstance(env, gym.Wrapper) else type(env).__name__, name)
        for attribute in WRAPPERS[name]:
            if attribute in part:
                setattr(env, attribute, part[attribute])
        if isinstance(env, Monitor):
            env.t_start = time.time() - part["elapsed"]
        for check in ("checked_reset", "checked_step", "checked_data_reuse"):  # it checks first steps; these are none
            if hasattr(env, check):
                setattr(env, check, True)
        env = env.env  # type: ignore[attr-defined]
    _same(type(env).__name__, parts[-1][0])
    _set_core_state(env, parts[-1][1])


def _core_state(env: Any) -> dict[str, Any]:
    if callable(getattr(env, "get_state", None)) and callable(getattr(env, "set_state", None)):
        return {"state": env.get_state()}
    if not type(env).__module__.startswith(CORE_MODULES):
        raise CannotSave(f"{type(env).__name__} has no get_state() and set_state()")
    own = {name: getattr(env, name) for name in CORE if hasattr(env, name)}
    return {"own": own, "np_random": env._np_random, "seed": env._np_random_seed}


def _set_core_state(env: Any, state: dict[str, Any]) -> None:
    if "state" in state:
        env.set_state(state["state"])
        return
    for name, value in state["own"].items():
        if name in CORE:
            setattr(env, name, value)
    generator = state["np_random"]
    if not (generator is None or isinstance(generator, np.random.Generator)):
        raise CannotSave("np_random is no generator")
    env._np_random, env._np_random_seed = generator, state["seed"]


def _vector_state(venv: VectorEnv) -> dict[str, Any]:
    core = venv.unwrapped
    if core is not venv:
        raise CannotSave(f"{type(venv).__name__} is a wrapper whose state is not known")
    if isinstance(core, SyncVectorEnv):
        return {
            "class": type(core).__name__, "envs": [_gym_state(one) for one in core.envs],
            "own": {"_autoreset_envs": core._autoreset_envs}, "np_random": core._np_random,
        }  # fmt: skip
    return {"class": type(core).__name__, **_core_state(core)}


def _set_vector_state(venv: VectorEnv, state: dict[str, Any]) -> None:
    core: Any = venv.unwrapped
    _same(type(core).__name__, state["class"])
    if isinstance(core, SyncVectorEnv):
        _same(len(core.envs), len(state["envs"]))
        for one, part in zip(core.envs, state["envs"], strict=True):
            _set_gym_state(one, part)
        core._autoreset_envs, core._np_random = state["own"]["_autoreset_envs"], state["np_random"]
    else:
        _set_core_state(core, state)


def _same(here: Any, there: Any) -> None:
    if here != there:
        raise CannotSave(f"the file is of {there}, the env is {here}")
