"""A line an episode: how long it was, what it returned, and how it ended where the env tells."""

import sys
from collections.abc import Callable
from typing import Any, TextIO

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

#: last observation [n], last reward → how it ended, for envs of Gymnasium's; the bounds are those of their own sources
ENDINGS: dict[str, Callable[[np.ndarray, float], str]] = {
    "CartPole": lambda obs, reward: "Left the track" if abs(obs[0]) > 2.4 else "Pole fell",
    "MountainCar": lambda obs, reward: "Reached the flag",
    "MountainCarContinuous": lambda obs, reward: "Reached the flag",
    "Acrobot": lambda obs, reward: "Swung up",
    "LunarLander": lambda obs, reward: "Landed" if reward > 0 else "Left the picture" if abs(obs[0]) >= 1 else "Crashed",
    "FrozenLake": lambda obs, reward: "Goal" if reward > 0 else "Hole",
    "CliffWalking": lambda obs, reward: "Goal",
    "Taxi": lambda obs, reward: "Passenger delivered",
    "Blackjack": lambda obs, reward: "Won" if reward > 0 else "Lost" if reward < 0 else "Draw",
}
#: what ends an episode on a map of our worlds
SYMBOLS = {"G": "Goal", "T": "End", "P": "Pit", "C": "Cliff"}


def state_of(env: VecEnv, index: int, observation: Any) -> int:
    """The state of a world of ours that looks so.

    :param env: the VecEnv
    :param index: of the env in it
    :param observation: as the world gives it, in any of its observation modes
    :return: the state; -1 if the env is no such world, or the observation none of its
    """
    if not (env.has_attr("observe") and env.has_attr("mdp")):
        return -1
    observe, n_states = env.get_attr("observe", index)[0], env.get_attr("mdp", index)[0].n_states
    seen = [np.asarray(observation)]
    if seen[0].ndim == 3:
        seen.append(np.moveaxis(seen[0], 0, -1))  # SB3 puts a picture's channels first
    shown = ((state, observe.one(state)) for state in range(n_states))
    return next((state for state, own in shown if any(np.array_equal(own, one) for one in seen)), -1)


def ending(env: VecEnv, index: int, observation: Any, reward: float, info: dict[str, Any]) -> str:
    """Say how an episode ended.

    :param env: the VecEnv
    :param index: of the env in it
    :param observation: the last observation, as the env gives it
    :param reward: the last reward, as the env gives it
    :param info: the last step's; an env of your own may name its end there, as ``info["ending"]``
    :return: such as "Crashed" or "Time limit"; "Ended" where nothing tells
    """
    if info.get("TimeLimit.truncated", False):
        return "Time limit"
    if "ending" in info:
        return str(info["ending"])
    layout = env.get_attr("layout", index)[0] if env.has_attr("layout") else None
    if layout is not None and (state := state_of(env, index, observation)) >= 0:
        symbol = str(layout.state_symbols[state])
        return SYMBOLS.get(symbol, f"Cell of {symbol}" if symbol not in ".S" else "Ended")
    if env.has_attr("game"):
        return "Won" if reward > 0 else "Lost" if reward < 0 else "Draw"  # by the one who moved last
    spec = env.get_attr("spec", index)[0] if env.has_attr("spec") else None
    name = "" if spec is None else spec.id.split("-v")[0]
    known = ENDINGS.get(name)
    return "Ended" if known is None else known(np.asarray(observation).reshape(-1), reward)


class DescribeEpisodesCallback(BaseCallback):
    """Write a line when an episode ends: ``Episode 1 | Duration: 84 steps | Return: −871.38 | Crashed``.

    Episodes are counted over all envs in the order in which they end. Duration and return are Monitor's where there is one
    (frames of an Atari game), else the sum of what the env gave, before VecNormalize. On a cliff that leads back to the start
    the falls are counted too.

    :param every: write every so many episodes (default 1)
    :param stream: where to (default the standard output)
    :param verbose: not used
    :raises ValueError: if ``every`` is below 1
    """

    def __init__(self, every: int = 1, stream: TextIO | None = None, verbose: int = 0) -> None:
        super().__init__(verbose)
        if every < 1:
            raise ValueError(f"every={every} episodes; at least 1 is needed")
        self.every, self.stream = every, stream
        self.episode = 0

    def _on_training_start(self) -> None:
        n = self.training_env.num_envs
        self.episode = 0
        self._total, self._length, self._falls = np.zeros(n), np.zeros(n, np.int64), np.zeros(n, np.int64)
        self._fall_reward = self._reward_of_a_fall()

    def _reward_of_a_fall(self) -> float | None:
        """The reward of a step off a cliff that ends no episode; None where there is no such cliff."""
        env = self.training_env
        layout = env.get_attr("layout", 0)[0] if env.has_attr("layout") and env.has_attr("mdp") else None
        if layout is None or "C" not in layout.symbols:
            return None
        return float(env.get_attr("mdp", 0)[0].reward.min())

    def _on_step(self) -> bool:
        normalizer = unwrap_vec_normalize(self.training_env)
        rewards = self.locals["rewards"] if normalizer is None else normalizer.get_original_reward()  # [n_envs]
        self._total += rewards
        self._length += 1
        if self._fall_reward is not None:
            self._falls += np.asarray(rewards) == self._fall_reward
        for i in np.flatnonzero(self.locals["dones"]):
            self.episode += 1
            if (self.episode - 1) % self.every == 0:
                self._write(int(i), float(rewards[i]), normalizer)
            self._total[i], self._length[i], self._falls[i] = 0.0, 0, 0
        return True

    def _write(self, i: int, reward: float, normalizer: Any) -> None:
        info = self.locals["infos"][i]
        monitored = info.get("episode", {})
        total, length = float(monitored.get("r", self._total[i])), int(monitored.get("l", self._length[i]))
        last = info.get("terminal_observation")
        if normalizer is not None and last is not None:
            last = normalizer.unnormalize_obs(last)
        how = "Ended" if last is None else ending(self.training_env, i, last, reward, info)
        falls = int(self._falls[i])
        how += f" after {falls} fall{'s' if falls > 1 else ''}" if falls and how != "Cliff" else ""
        text = f"{total:.2f}".replace("-", "−")
        out = sys.stdout if self.stream is None else self.stream
        print(f"Episode {self.episode} | Duration: {length} steps | Return: {text} | {how}", file=out, flush=True)
