"""What ``learn`` needs to go on in another process as if nothing had happened, beside what SB3 saves.

random      Python's, NumPy's and PyTorch's random states, the action space's generator
noise       what gSDE has drawn for the rollout that begins
running     the last observations, and what an algorithm keeps of its running episodes (its class names it: ``_running``)
env         where the envs stand (``env_state``)
callbacks   their counters and records, and where their evaluation envs stand
"""

import random
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv

from sb3_lecture.common.env_state import CannotSave, get_env_state, set_env_state
from sb3_lecture.common.packing import pack

__all__ = [
    "callback_state", "capture", "get_random", "set_callback_state", "set_env", "set_noise", "set_random", "set_running",
]  # fmt: skip

#: what every algorithm keeps of its running episodes
RUNNING = ("_last_obs", "_last_episode_starts", "_last_original_obs")
#: what callbacks count and keep; a class adds its own by ``resume_names``
COUNTERS = (
    "n_calls", "num_timesteps", "best_mean_reward", "last_mean_reward", "evaluations_results", "evaluations_timesteps",
    "evaluations_length", "evaluations_successes", "last_time_trigger", "last_best_mean_reward", "no_improvement_evals",
    "n_episodes", "evaluations", "_due", "_done",
)  # fmt: skip
#: where callbacks hold others
CHILDREN = ("callbacks", "callback", "callback_on_new_best")


def capture(model: BaseAlgorithm, callback: BaseCallback | None, rollout_begun: bool = False) -> dict[str, Any]:
    """Take down all that ``learn`` needs to go on.

    :param model: any SB3 model
    :param callback: the callbacks of its last ``learn``; None: none
    :param rollout_begun: whether ``learn`` is at the start of a rollout, and gSDE has drawn its noise for it
    :return: values as ``packing.pack`` takes them
    """
    names = (*RUNNING, *getattr(model, "_running", ()))
    state: dict[str, Any] = {
        "random": get_random(model),
        "noise": _noise(model) if rollout_begun and getattr(model, "use_sde", False) else None,
        "running": {name: value for name in names if _has(model, name) and not pack(value := _find(model, name)).lost},
        "n_envs": model.n_envs,
        "statistics": _statistics(model),
        "callbacks": None if callback is None else callback_state(callback),
    }
    if model.env is None:
        return state | {"env": None, "cut": "the model had no env"}
    try:
        return state | {"env": get_env_state(model.env), "cut": None}
    except CannotSave as error:
        return state | {"env": None, "cut": str(error)}


def _has(model: Any, name: str) -> bool:
    try:
        _find(model, name)
    except AttributeError:
        return False
    return True


def _find(model: Any, name: str) -> Any:
    for part in name.split("."):
        model = getattr(model, part)
    return model


def set_running(model: BaseAlgorithm, running: dict[str, Any]) -> None:
    """Give a model back what it kept of its running episodes."""
    allowed = (*RUNNING, *getattr(model, "_running", ()))
    for name, value in running.items():
        if name in allowed:
            owner, _, last = name.rpartition(".")
            setattr(_find(model, owner) if owner else model, last, value)


def set_env(model: BaseAlgorithm, state: dict[str, Any]) -> str | None:
    """Put a model's env where the file's stood.

    :return: None, or why it could not be done
    """
    _set_statistics(model, state.get("statistics"))
    if state["env"] is None:
        return state["cut"]
    if model.env is None:
        return "the model has no env"
    try:
        set_env_state(model.env, state["env"])
    except CannotSave as error:
        return str(error)
    return None


def _statistics(model: BaseAlgorithm) -> dict[str, Any] | None:
    """VecNormalize's statistics, which are kept though the envs may not be."""
    normalize = model.get_vec_normalize_env()
    return None if normalize is None else {name: getattr(normalize, name, None) for name in ("obs_rms", "ret_rms")}


def _set_statistics(model: BaseAlgorithm, state: dict[str, Any] | None) -> None:
    normalize = model.get_vec_normalize_env()
    if normalize is not None and state is not None:
        for name, value in state.items():
            if value is not None:
                setattr(normalize, name, value)


# --- random states ---------------------------------------------------------------------------------------------------


def get_random(model: BaseAlgorithm | VecEnv) -> dict[str, Any]:
    """Take down the random states of this process and of the action space of a model or of envs."""
    version, words, gauss = random.getstate()
    return {
        "python": [version, np.array(words, np.uint64), gauss],
        "numpy": np.random.get_state(legacy=False),
        "torch": th.get_rng_state(),
        "action_space": _space_generators(model.action_space),
    }


def set_random(model: BaseAlgorithm | VecEnv, state: dict[str, Any]) -> None:
    """Restore what ``get_random`` took down."""
    version, words, gauss = state["python"]
    random.setstate((version, tuple(int(word) for word in words), gauss))
    np.random.set_state(state["numpy"])
    th.set_rng_state(state["torch"])
    _set_space_generators(model.action_space, state["action_space"])


#: what gSDE's distribution holds of its noise
NOISE = ("exploration_mat", "exploration_matrices")


def _actor(model: Any) -> Any:
    """What draws gSDE's noise: an actor-critic's policy, or an off-policy learner's actor."""
    return getattr(model, "actor", None) or model.policy


def _noise(model: BaseAlgorithm) -> dict[str, th.Tensor]:
    """Take down what gSDE has drawn."""
    return {name: getattr(_actor(model).action_dist, name) for name in NOISE}


def set_noise(model: BaseAlgorithm, noise: dict[str, th.Tensor] | None) -> None:
    """Let gSDE have in the place of its next draw what it had drawn."""
    if noise is None:
        return
    actor = _actor(model)

    def take(*_: Any) -> None:
        del actor.reset_noise  # the next draw is one again
        for name in NOISE:
            setattr(actor.action_dist, name, noise[name].to(model.device))

    actor.reset_noise = take


def _parts(space: spaces.Space) -> list[spaces.Space]:
    inner = getattr(space, "spaces", None)
    return [] if inner is None else list(inner.values() if isinstance(inner, dict) else inner)


def _space_generators(space: spaces.Space) -> list[Any]:
    return [space._np_random, *(_space_generators(part) for part in _parts(space))]


def _set_space_generators(space: spaces.Space, state: list[Any]) -> None:
    if state[0] is None or isinstance(state[0], np.random.Generator):
        space._np_random = state[0]  # type: ignore[assignment]
    for part, inner in zip(_parts(space), state[1:], strict=True):
        _set_space_generators(part, inner)


# --- callbacks -------------------------------------------------------------------------------------------------------


def _inner(callback: BaseCallback) -> list[BaseCallback]:
    found: list[BaseCallback] = []
    for name in CHILDREN:
        child = getattr(callback, name, None)
        found += [part for part in (child if isinstance(child, list) else [child]) if isinstance(part, BaseCallback)]
    return found


def callback_state(callback: BaseCallback) -> dict[str, Any]:
    """Take down what a callback and those inside it count and keep."""
    names = (*COUNTERS, *getattr(callback, "resume_names", ()))
    own = {name: vars(callback)[name] for name in names if name in vars(callback)}
    state = {
        "class": type(callback).__name__,
        "own": {name: value for name, value in own.items() if not pack(value).lost},
        "children": [callback_state(child) for child in _inner(callback)],
        "eval_env": None,
    }
    if (env := getattr(callback, "eval_env", None)) is not None:
        try:
            state["eval_env"] = get_env_state(env)
        except CannotSave:
            pass
        except AttributeError:  # no VecEnv
            pass
    return state


def set_callback_state(callback: BaseCallback, state: dict[str, Any]) -> bool:
    """Give callbacks back what they counted, where they are the same as before.

    :return: whether they all are
    """
    children = _inner(callback)
    if type(callback).__name__ != state["class"]:
        return False
    names = (*COUNTERS, *getattr(callback, "resume_names", ()))
    for name, value in state["own"].items():
        if name in names:
            setattr(callback, name, value)
    same = len(children) == len(state["children"])
    if state["eval_env"] is not None:
        try:
            set_env_state(callback.eval_env, state["eval_env"])  # type: ignore[attr-defined]
        except (CannotSave, AttributeError):
            same = False
    return all([same, *(set_callback_state(child, part) for child, part in zip(children, state["children"], strict=False))])
