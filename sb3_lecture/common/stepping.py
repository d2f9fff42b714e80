"""One step of a VecEnv seen by a learner that tells deaths from time limits: SB3 hides the last observation in the infos."""

from typing import Any, NamedTuple

import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv


class Moved(NamedTuple):
    """What one step of n envs led to; ``final`` is where the transitions led, ``observation`` what the agents see next."""

    observation: np.ndarray  # [n, …]
    reward: np.ndarray  # float64 [n]
    terminated: np.ndarray  # bool [n]
    truncated: np.ndarray  # bool [n]
    final: np.ndarray  # [n, …]; ``observation`` itself where no episode has ended
    infos: list[dict[str, Any]]


def step_together(env: VecEnv, actions: np.ndarray) -> Moved:
    """One step of any VecEnv."""
    observation, reward, done, infos = env.step(actions)
    final: Any = observation
    truncated = np.array([info.get("TimeLimit.truncated", False) for info in infos], np.bool_) & done
    if done.any():
        final = final.copy()
        for i in np.flatnonzero(done).tolist():
            final[i] = infos[i]["terminal_observation"]
    return Moved(observation, reward.astype(np.float64), done & ~truncated, truncated, final, infos)  # type: ignore[arg-type]


def step_in_turn(env: DummyVecEnv, actions: np.ndarray) -> Moved:
    """One step of a DummyVecEnv, without its deep copies and rounded rewards: they take small envs a third of the time."""
    observations, finals, rewards, ends, cuts, infos = [], [], [], [], [], []
    for i, (e, action) in enumerate(zip(env.envs, actions.tolist(), strict=True)):
        observation, reward, terminated, truncated, info = e.step(action)
        finals.append(observation)
        info["TimeLimit.truncated"] = truncated and not terminated
        if terminated or truncated:
            info["terminal_observation"] = observation
            observation, env.reset_infos[i] = e.reset()
        observations.append(observation)
        rewards.append(reward)
        ends.append(terminated)
        cuts.append(truncated and not terminated)
        infos.append(info)
    observation = np.asarray(observations)
    ended = True in ends or True in cuts
    return Moved(
        observation, np.asarray(rewards, np.float64), np.asarray(ends, np.bool_), np.asarray(cuts, np.bool_),
        np.asarray(finals) if ended else observation, infos,
    )  # fmt: skip
