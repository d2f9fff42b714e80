"""One environment for each candidate of a population, stepped by one call where the environment can."""

import time
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecCheckNan, VecEnv, VecEnvWrapper, VecMonitor, VecNormalize
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from sb3_lecture.common.vec_env import GymnasiumVecEnv

__all__ = ["NextStepVecEnv", "check_one_by_one", "make_population_env"]


class NextStepVecEnv(GymnasiumVecEnv):
    """A Gymnasium VectorEnv that resets in the step *after* the last one of an episode, for loops that know of it.

    Gymnasium's own vector environments (``CartPoleVectorEnv``) offer only this mode. The observation that comes with
    ``done`` is the last of its episode; the next step of that environment ignores its action, gives reward 0 and the first
    observation of the next episode. That step is no step of any episode: ``episode`` in the infos leaves it out, and the
    population's loop does not count it. Learners that take every step for a transition must not use this class.

    :param venv: the vector env, with one array as observation; ``metadata["autoreset_mode"]`` must be NEXT_STEP
    :raises ValueError: if it resets in another way, or its observations are not one array
    """

    autoreset_mode = AutoresetMode.NEXT_STEP

    def __init__(self, venv: VectorEnv) -> None:
        mode = venv.metadata.get("autoreset_mode")
        if mode != AutoresetMode.NEXT_STEP:
            raise ValueError(f"{venv} resets by {mode}, not NEXT_STEP; use GymnasiumVecEnv for SAME_STEP")
        if isinstance(venv.single_observation_space, (spaces.Dict, spaces.Tuple)):
            raise ValueError(f"Observation space {venv.single_observation_space} is not supported; allowed: one array")
        self.venv = venv
        self.monitor = True
        VecEnv.__init__(self, venv.num_envs, venv.single_observation_space, venv.single_action_space)
        self._actions = np.empty(0)
        self._returns = np.zeros(self.num_envs)  # [n], return of each running episode
        self._lengths = np.zeros(self.num_envs, dtype=np.int64)  # [n]
        self._resetting = np.zeros(self.num_envs, dtype=bool)  # [n], does the next step only reset?
        self._start_time = time.time()

    def reset(self) -> VecEnvObs:
        """Reset all envs; of the seeds, Gymnasium's vector envs take the first for all."""
        observations, _ = self.venv.reset(seed=self._seeds[0], options=self._options[0] or None)
        self.reset_infos = [{} for _ in range(self.num_envs)]
        self._returns[:], self._lengths[:], self._resetting[:] = 0.0, 0, False
        self._reset_seeds()
        self._reset_options()
        return observations

    def step_wait(self) -> VecEnvStepReturn:
        """Step all envs; those that ended an episode in the step before begin another.

        :return: observations [n, …], rewards float32 [n], dones bool [n], infos (one dict an env, filled at ends)
        """
        observations, rewards, terminated, truncated, _ = self.venv.step(self._actions)
        dones = terminated | truncated  # [n]
        self._returns += rewards
        self._lengths += ~self._resetting
        infos: list[dict[str, Any]] = [{} for _ in range(self.num_envs)]
        for i in np.flatnonzero(dones).tolist():
            infos[i] = {
                "terminal_observation": observations[i],
                "TimeLimit.truncated": bool(truncated[i] and not terminated[i]),
                "episode": {
                    "r": round(float(self._returns[i]), 6),
                    "l": int(self._lengths[i]),
                    "t": round(time.time() - self._start_time, 6),
                },
            }
            self._returns[i], self._lengths[i] = 0.0, 0
        self._resetting = dones
        return observations, rewards.astype(np.float32), dones, infos


def make_population_env(
    env_id: str, n_envs: int, env_kwargs: dict[str, Any] | None = None, one_by_one: bool = False
) -> VecEnv:
    """Build the environments of a population: the id's own vector env where it has one, otherwise SB3's DummyVecEnv.

    :param env_id: id of a registered environment
    :param n_envs: how many, one for each candidate
    :param env_kwargs: keyword arguments of the environment
    :param one_by_one: DummyVecEnv in any case, whose environments can be reset one by one (default False)
    """
    spec = gym.spec(env_id)
    if spec.vector_entry_point is None or one_by_one:
        return make_vec_env(env_id, n_envs=n_envs, env_kwargs=env_kwargs)
    venv = gym.make_vec(spec, num_envs=n_envs, vectorization_mode="vector_entry_point", **(env_kwargs or {}))
    if venv.metadata.get("autoreset_mode") == AutoresetMode.SAME_STEP:
        return GymnasiumVecEnv(venv)
    return NextStepVecEnv(venv)


def check_one_by_one(env: VecEnv) -> None:
    """Check that one environment can be reset alone, and that its observation is then the policy's.

    :param env: the population's environments
    :raises ValueError: if they are reset together, or a wrapper changes or gathers observations
    """
    while isinstance(env, VecEnvWrapper):
        if not isinstance(env, (VecNormalize, VecMonitor, VecCheckNan)):
            raise ValueError(
                f"common_random_numbers resets one environment at a time, which {type(env).__name__} does not see; wrap the "
                "environments themselves instead"
            )
        env = env.venv
    if isinstance(env, GymnasiumVecEnv):
        raise ValueError(
            "common_random_numbers needs environments that are reset one by one, not a vector env; "
            "use stable_baselines3.common.env_util.make_vec_env"
        )
