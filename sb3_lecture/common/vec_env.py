"""A Gymnasium VectorEnv as an SB3 VecEnv: many envs stepped by one call instead of a Python loop over them.

SB3 learns from VecEnvs that reset within the step that ends an episode (Gymnasium's SAME_STEP) and says in ``infos[i]``
what happened: ``terminal_observation``, the last observation of the episode; ``TimeLimit.truncated``, whether it was cut
off rather than over; and, as Monitor would, ``episode`` with its return ``r``, length ``l`` and time ``t``.
"""

import importlib
import inspect
import time
from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.envs.registration import load_env_creator
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvIndices, VecEnvObs, VecEnvStepReturn


class GymnasiumVecEnv(VecEnv):
    """Any Gymnasium VectorEnv in SAME_STEP mode, as SB3 expects its envs.

    Keys appear in ``infos[i]`` only in the step that ends an episode of env i. ``get_attr`` and ``env_method`` reach the
    vector env: an attribute that holds one entry an env (an array or list of length n, such as ``state``) is handed out
    entry by entry, anything else (such as ``mdp``) is the same for all.

    :param venv: the vector env; ``metadata["autoreset_mode"]`` must be SAME_STEP
    :param monitor: whether to add episode statistics as Monitor does (default True)
    :raises ValueError: if the vector env resets in another way, or its observations are not one array or dict of arrays
    """

    def __init__(self, venv: VectorEnv, monitor: bool = True) -> None:
        mode = venv.metadata.get("autoreset_mode")
        if mode != AutoresetMode.SAME_STEP:
            raise ValueError(
                f"{venv} resets by {mode}; SB3 needs AutoresetMode.SAME_STEP. Make it with autoreset_mode=SAME_STEP: "
                "gym.make_vec(id, n, autoreset_mode='SAME_STEP') for this package's ids, "
                "gym.make_vec(id, n, vector_kwargs={'autoreset_mode': AutoresetMode.SAME_STEP}) for sync and async ones"
            )
        if not isinstance(venv.single_observation_space, (spaces.Box, spaces.Discrete, spaces.MultiBinary,
                                                          spaces.MultiDiscrete, spaces.Dict)):  # fmt: skip
            raise ValueError(
                f"Observation space {venv.single_observation_space} is not supported; allowed: Box, Discrete, MultiBinary, "
                "MultiDiscrete, Dict of these"
            )
        self.venv = venv
        self.monitor = monitor
        super().__init__(venv.num_envs, venv.single_observation_space, venv.single_action_space)
        self._actions = np.empty(0)
        self._returns = np.zeros(self.num_envs)  # [n], return of each running episode
        self._lengths = np.zeros(self.num_envs, dtype=np.int64)  # [n]
        self._start_time = time.time()

    def reset(self) -> VecEnvObs:
        """Reset all envs, with the seeds and options given by ``seed`` and ``set_options``."""
        seeds = None if self._seeds[0] is None else list(self._seeds)
        options = self._options[0] or None
        if any(other != self._options[0] for other in self._options):
            raise ValueError("A vector env takes one set of reset options for all its envs; pass set_options one dict")
        observations, infos = self.venv.reset(seed=seeds, options=deepcopy(options))  # type: ignore[arg-type]
        self.reset_infos = [_info_of(infos, i) for i in range(self.num_envs)] if infos else [{} for _ in range(self.num_envs)]
        self._returns[:], self._lengths[:] = 0.0, 0
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_async(self, actions: np.ndarray) -> None:
        """Keep the actions for ``step_wait``."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Step all envs.

        :return: observations [n, …], rewards float32 [n], dones bool [n], infos (one dict an env)
        """
        observations, rewards, terminated, truncated, vector_infos = self.venv.step(self._actions)
        dones = terminated | truncated  # [n]
        self._returns += rewards
        self._lengths += 1
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        if vector_infos:
            final = {key: vector_infos.pop(key, None) for key in ("final_obs", "_final_obs", "final_info", "_final_info")}
            if vector_infos:
                infos = [_info_of(vector_infos, i) for i in range(self.num_envs)]
            elapsed = round(time.time() - self._start_time, 6)
            for i in np.flatnonzero(dones).tolist():
                self.reset_infos[i] = infos[i]  # after a SAME_STEP reset these are the new episode's
                info = infos[i] = _info_of(final["final_info"], i) if final["final_info"] else {}
                info["terminal_observation"] = _entry(final["final_obs"], i)
                info["TimeLimit.truncated"] = bool(truncated[i] and not terminated[i])
                if self.monitor:
                    length = int(self._lengths[i])
                    info["episode"] = {"r": round(float(self._returns[i]), 6), "l": length, "t": elapsed}
                self._returns[i], self._lengths[i] = 0.0, 0
        return observations, rewards.astype(np.float32), dones, infos

    def close(self) -> None:
        """Close the vector env."""
        self.venv.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """One picture an env (``render_mode="rgb_array"``)."""
        frames: Any = self.venv.render()
        return [None] * self.num_envs if frames is None else [np.asarray(frame) for frame in frames]

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """Read an attribute of the vector env, one entry an env where it has as many."""
        value = self._lookup(attr_name)
        return [self._share(value, i) for i in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of the vector env; it is shared, so all envs at once."""
        if len(list(self._get_indices(indices))) != self.num_envs:
            raise ValueError(f"{attr_name!r} is shared by all {self.num_envs} envs of a vector env; set it without indices")
        setattr(self.venv.unwrapped, attr_name, value)

    def env_method(
        self, method_name: str, *method_args: Any, indices: VecEnvIndices = None, **method_kwargs: Any
    ) -> list[Any]:
        """Call a method of the vector env once; of a result with one entry an env, each gets its own.

        ``observe`` (observations of given states) is the same for all envs.
        """
        result = self._lookup(method_name)(*method_args, **method_kwargs)
        if method_name == "observe":
            return [result for _ in self._get_indices(indices)]
        return [self._share(result, i) for i in self._get_indices(indices)]

    def env_is_wrapped(self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None) -> list[bool]:
        """Only Monitor is stood in for; no other wrapper lies around an env of a vector env."""
        wrapped = self.monitor and issubclass(wrapper_class, Monitor)
        return [wrapped for _ in self._get_indices(indices)]

    def _lookup(self, name: str) -> Any:
        if not hasattr(self.venv.unwrapped, name):
            raise AttributeError(f"{type(self.venv.unwrapped).__name__} has no attribute {name!r}")
        return getattr(self.venv.unwrapped, name)

    def _share(self, value: Any, i: int) -> Any:
        own = isinstance(value, (list, tuple, np.ndarray)) and len(value) == self.num_envs
        return value[i] if own else value


def _info_of(vector_info: dict[str, Any], i: int) -> dict[str, Any]:
    """The part of a vector env's infos that belongs to env i."""
    return {
        key: _info_of(value, i) if isinstance(value, dict) else value[i]
        for key, value in vector_info.items()
        if not key.startswith("_") and (f"_{key}" not in vector_info or vector_info[f"_{key}"][i])
    }


def _entry(observations: Any, i: int) -> Any:
    if isinstance(observations, dict):
        return {key: value[i] for key, value in observations.items()}
    return observations[i]


def make_native_vec_env(
    env_id: str, n_envs: int = 1, seed: int | None = None, env_kwargs: dict[str, Any] | None = None
) -> GymnasiumVecEnv:
    """Build an SB3 VecEnv on an id's own vector env; what SB3's ``make_vec_env`` is for the others.

    :param env_id: an id with a ``vector_entry_point``, such as "Lecture/Maze-v0"; "module:id" imports the module first
    :param n_envs: number of envs (default 1)
    :param seed: seed of all of them; None: not seeded
    :param env_kwargs: keyword arguments of the env
    :return: the VecEnv, with episode statistics as Monitor gives them
    :raises ValueError: if the id has no vector env of its own, or one that begins new episodes a step late
    """
    if ":" in env_id:  # as gym.make takes it
        module, env_id = env_id.split(":", 1)
        importlib.import_module(module)
    spec = gym.spec(env_id)
    if spec.vector_entry_point is None:
        raise ValueError(f"{env_id} has no vector env of its own (vector_entry_point); use SB3's make_vec_env for it")
    cls: Any = spec.vector_entry_point if callable(spec.vector_entry_point) else load_env_creator(spec.vector_entry_point)
    parameters = inspect.signature(cls).parameters.values()
    if not any(part.name == "autoreset_mode" or part.kind is part.VAR_KEYWORD for part in parameters):
        raise ValueError(
            f"{env_id}'s own vector env ({cls.__name__}) takes no autoreset_mode, and SB3 needs a new episode in the "
            "step that ends one; use SB3's make_vec_env for it"
        )
    kwargs = {"autoreset_mode": AutoresetMode.SAME_STEP, **(env_kwargs or {})}
    env = GymnasiumVecEnv(gym.make_vec(spec, num_envs=n_envs, vectorization_mode="vector_entry_point", **kwargs))
    if seed is not None:
        env.seed(seed)
    return env


def reward_scaling(env: VecNormalize | None) -> tuple[float, float]:
    """Return what VecNormalize multiplies rewards by today, and the bound it clips them to.

    :param env: None: 1 and no bound
    """
    if env is None or not env.norm_reward:
        return 1.0, float("inf")
    return float(1.0 / np.sqrt(env.ret_rms.var + env.epsilon)), float(env.clip_reward)
