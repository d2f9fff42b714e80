"""A policy plays and every step is written down, and a recording that was killed goes on bit for bit."""

import hashlib
import time
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvStepReturn

from sb3_lecture.common.archive import read_archive, write_archive
from sb3_lecture.common.env_state import get_env_state, set_env_state
from sb3_lecture.common.resume import get_random, set_random

Array = np.ndarray[Any, Any]
Row = tuple[Array, Array, Array, Array, Array, Array]  # s, a, r, s', terminated, truncated; each [n_envs, …]

#: the arrays of a data set, in the order of a row
COLUMNS = ("observations", "actions", "rewards", "next_observations", "terminations", "truncations")
KIND = "recording"
SECONDS = 10.0  # between two checkpoints, or twenty times what the last one took


def row_of(observation: Any, action: Array, reward: Array, following: Any, done: Array, infos: list[dict[str, Any]]) -> Row:
    """Return what a step of a VecEnv was, the true last observations in it.

    :param observation: s [n_envs, …]
    :param action: a [n_envs, …]
    :param reward: r [n_envs]
    :param following: what ``step`` returned, the next episode's first observation where one ended [n_envs, …]
    :param done: bool [n_envs]
    :param infos: of which the last observations and the time limits are taken
    """
    last = np.array(following)
    truncated = np.zeros(len(done), np.bool_)
    for e in np.flatnonzero(done):
        last[e] = infos[e]["terminal_observation"]
        truncated[e] = infos[e].get("TimeLimit.truncated", False)
    return np.array(observation), np.array(action), np.array(reward), last, done & ~truncated, truncated


def columns_of(rows: list[Row]) -> dict[str, Array]:
    """Return rows by column, env after env; what still runs at the end counts as cut."""
    columns = {name: np.stack(column, axis=1) for name, column in zip(COLUMNS, zip(*rows, strict=True), strict=True)}
    columns["truncations"][:, -1] |= ~columns["terminations"][:, -1]
    return {name: column.reshape(-1, *column.shape[2:]) for name, column in columns.items()}


class Watched(VecEnvWrapper):
    """Keeps in ``rows`` what whoever plays in a VecEnv lives.

    :param venv: the envs
    """

    def __init__(self, venv: VecEnv) -> None:
        super().__init__(venv)
        self.rows: list[Row] = []
        self._observation: Any = None
        self._action: Any = None

    def reset(self) -> Any:
        """Begin new episodes."""
        self._observation = self.venv.reset()
        return self._observation

    def step_async(self, actions: Array) -> None:
        """Note the actions and pass them on."""
        self._action = actions
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Keep the step."""
        following, reward, done, infos = self.venv.step_wait()
        self.rows.append(row_of(self._observation, self._action, reward, following, done, infos))
        self._observation = np.array(following)
        return following, reward, done, infos


class Explorer:
    """Mixes a policy's actions with random ones.

    :param space: of the actions
    :param epsilon: chance of a random action, in each env by a coin of its own
    :param noise: standard deviation of the noise on actions of a Box, as a share of its width
    :param seed: of all that is drawn
    """

    def __init__(self, space: Any, epsilon: float, noise: float, seed: int | None) -> None:
        self.space, self.epsilon, self.noise, self.seed = space, epsilon, noise, seed
        self.rng = np.random.default_rng(seed)
        space.seed(seed)

    def __call__(self, played: Any, n: int) -> Array:
        """Return what is done, [n, …].

        :param played: the policy's actions; None: there is no policy
        :param n: number of envs
        """
        drawn = np.stack([np.asarray(self.space.sample()) for _ in range(n)])
        if played is None:
            return drawn
        actions = np.asarray(played).reshape(drawn.shape)
        if self.noise > 0 and isinstance(self.space, spaces.Box):
            low, high = self.space.low, self.space.high
            actions = np.clip(actions + self.noise * (high - low) * self.rng.normal(size=actions.shape), low, high)
        coins = self.rng.random(n) < self.epsilon
        return np.where(coins.reshape(-1, *[1] * (drawn.ndim - 1)), drawn, actions).astype(drawn.dtype)


def record(
    venv: VecEnv,
    n_rows: int,
    model: BaseAlgorithm | None,
    explore: Explorer,
    deterministic: bool = True,
    checkpoint: str | Path | None = None,
    progress_bar: bool = False,
) -> list[Row]:
    """Let a policy play.

    :param venv: the envs, seeded
    :param n_rows: steps of each env
    :param model: who plays; None: random actions
    :param explore: what is done instead
    :param deterministic: whether the model plays without its own chance
    :param checkpoint: written from time to time; if it is there, the recording goes on from it
    :param progress_bar: show one
    :return: what every step was
    :raises ValueError: if the checkpoint is of another recording, or damaged
    """
    rows: list[Row] = []
    observation: Any = venv.reset()
    state, starts = None, np.ones(venv.num_envs, np.bool_)  # what a policy with a memory carries
    asked = {"deterministic": deterministic, **_settings(venv, model, explore)}
    if checkpoint is not None and Path(checkpoint).exists():
        rows, observation, state, starts = _go_on(Path(checkpoint), venv, explore, asked)
    due = time.monotonic() + SECONDS
    with _bar(n_rows, len(rows), progress_bar) as bar:
        while len(rows) < n_rows:
            played = None
            if model is not None:
                played, state = model.predict(observation, state, starts, deterministic)
            action = explore(played, venv.num_envs)
            following, reward, done, infos = venv.step(action)
            rows.append(row_of(observation, action, reward, following, done, infos))
            observation, starts = following, done
            if bar is not None:
                bar.update()
            if checkpoint is not None and time.monotonic() >= due:
                began = time.monotonic()
                _save(Path(checkpoint), venv, explore, asked, rows, (observation, state, starts))
                due = time.monotonic() + max(SECONDS, 20 * (time.monotonic() - began))
    return rows[:n_rows]


def _bar(n_rows: int, done: int, shown: bool) -> Any:
    if not shown:
        return nullcontext()
    from tqdm.auto import tqdm  # comes with SB3's extra and with rl_zoo3

    return tqdm(total=n_rows, initial=done, unit="step")


def _settings(venv: VecEnv, model: BaseAlgorithm | None, explore: Explorer) -> dict[str, Any]:
    """What makes a recording this one and no other."""
    digest = hashlib.sha256()
    policy = getattr(model, "policy", None)  # whatever has a ``predict`` may play
    for name, value in ({} if policy is None else policy.state_dict()).items():
        digest.update(name.encode() + value.detach().cpu().numpy().tobytes())
    return {
        "player": f"{type(model).__name__} {digest.hexdigest()[:16]}", "n_envs": venv.num_envs,
        "epsilon": explore.epsilon, "noise": explore.noise, "seed": explore.seed,
    }  # fmt: skip


def _save(path: Path, venv: VecEnv, explore: Explorer, asked: dict[str, Any], rows: list[Row], at: Any) -> None:
    """Write the rows so far, where the envs stand, and every random state."""
    content = {
        "asked": asked, "rows": [np.stack(column) for column in zip(*rows, strict=True)], "at": list(at),
        "explorer": explore.rng, "random": get_random(venv), "env": get_env_state(venv),
    }  # fmt: skip
    write_archive(path, KIND, content)


def _go_on(path: Path, venv: VecEnv, explore: Explorer, asked: dict[str, Any]) -> tuple[Any, ...]:
    """Return the rows of a checkpoint and what the policy sees, remembers and knows of starts; put all else in place."""
    saved = read_archive(path, KIND)
    for name, value in asked.items():
        if saved["asked"][name] != value:
            raise ValueError(f"{path} is of another recording: {name} was {saved['asked'][name]}, not {value}")
    explore.rng = saved["explorer"]
    set_env_state(venv, saved["env"])
    set_random(venv, saved["random"])
    return list(zip(*saved["rows"], strict=True)), *saved["at"]
