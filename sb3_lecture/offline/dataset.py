"""Transitions to learn from without an env: recorded, read, checked, kept.

    data = OfflineDataset.record("Lecture/Maze-v0", 20_000, epsilon=0.3, model=model, seed=0)   # a behaviour policy plays
    data = OfflineDataset.from_buffer(model.replay_buffer)                                     # what SB3 has gathered
    data.save("maze.npz"); data = OfflineDataset.load("maze.npz")

A row is (s, a, r, s', terminated, truncated); rows stand in the order in which they were lived, so that episodes are the
stretches between ends. A termination ends the return; a truncation ends the episode but not the return: γ v(s') counts.

The file is a .npz of plain arrays, which ``numpy.load(path, allow_pickle=False)`` opens too, with the spaces as JSON; a
folder holds the same as .npy files that are mapped, not read, for data larger than memory. ``files.json`` there says which
they are, and is written last: a kill leaves the data of before, or the new ones.
"""

import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile
from zlib import error as ZlibError

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv

from sb3_lecture.common.checks import Integer, Real, check_arguments
from sb3_lecture.common.files import write_bytes, written
from sb3_lecture.common.packing import pack, unpack
from sb3_lecture.offline.exchange import HDF5, MINARI, from_hdf5, from_minari, to_minari
from sb3_lecture.offline.recording import COLUMNS, Array, Explorer, columns_of, record

__all__ = ["Batch", "OfflineDataset"]

LIST = "files.json"
DAMAGED = (
    AttributeError, BadZipFile, ZlibError, ValueError, TypeError, KeyError, IndexError, EOFError, OSError, NotImplementedError,
)  # fmt: skip


class Batch(NamedTuple):
    """Rows as tensors.

    :param observations: s [B, …]
    :param actions: a, int64 [B] of Discrete actions, float32 [B, d] of a Box
    :param rewards: r [B]
    :param next_observations: s' [B, …]
    :param discounts: γ, or 0 where the episode was over for good [B]
    """

    observations: th.Tensor
    actions: th.Tensor
    rewards: th.Tensor
    next_observations: th.Tensor
    discounts: th.Tensor


@dataclass(frozen=True, eq=False, repr=False)
class OfflineDataset:
    """Transitions of whole episodes, in the order in which they were lived.

    :param observation_space: Box, Discrete, MultiDiscrete or MultiBinary
    :param action_space: Discrete or Box
    :param observations: s [N, …]
    :param actions: a [N] or [N, d]
    :param rewards: r, float32 [N]
    :param next_observations: s' [N, …]
    :param terminations: bool [N]
    :param truncations: bool [N]; the last row must have one of the two: mark it as truncated where a recording was cut
    :param reference: returns that count as 0 and as 100 in normalised scores, a random player's and an expert's (default None)
    :raises ValueError: if there are no rows, their numbers differ, a reward or observation is not finite, an action or an
        observation lies outside its space, the last episode has no end, or the expert is no better than chance
    """

    observation_space: spaces.Space
    action_space: spaces.Space
    observations: Array
    actions: Array
    rewards: Array
    next_observations: Array
    terminations: Array
    truncations: Array
    reference: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        _check_spaces(self.observation_space, self.action_space)
        for name in COLUMNS:
            object.__setattr__(self, name, _column(name, getattr(self, name), self.action_space))
        n = len(self.rewards)
        if n == 0:
            raise ValueError("The data set is empty: it holds no transition")
        for name in COLUMNS:
            if len(getattr(self, name)) != n:
                raise ValueError(f"{name} has {len(getattr(self, name))} rows, rewards has {n}: one a transition is needed")
        for name, space in (("observations", self.observation_space), ("next_observations", self.observation_space),
                            ("actions", self.action_space)):  # fmt: skip
            _check_inside(name, getattr(self, name), space)
        if not np.isfinite(self.rewards).all():
            row = int(np.argmin(np.isfinite(self.rewards)))
            raise ValueError(f"rewards[{row}]={self.rewards[row]} is not finite: leave that episode out")
        if not (self.terminations[-1] or self.truncations[-1]):
            raise ValueError("The last episode has no end: set truncations[-1]=True where the recording was cut")
        if self.reference is not None:
            low, high = (float(part) for part in self.reference)
            if not (np.isfinite([low, high]).all() and high > low):
                raise ValueError(f"reference={(low, high)}: an expert's return must lie above a random player's")
            object.__setattr__(self, "reference", (low, high))

    def __len__(self) -> int:
        return len(self.rewards)

    def __repr__(self) -> str:
        episodes = int((self.terminations | self.truncations).sum())
        return f"OfflineDataset({len(self)} steps, {episodes} episodes, {self.observation_space}, {self.action_space})"

    # ------------------------------------------------------------------ what it holds

    def episodes(self) -> Iterator[slice]:
        """Yield the rows of each episode."""
        start = 0
        for end in np.flatnonzero(self.terminations | self.truncations) + 1:
            yield slice(start, int(end))
            start = int(end)

    def returns(self) -> Array:
        """Undiscounted return of each episode, float64 [episodes]."""
        ends = np.flatnonzero(self.terminations | self.truncations)
        return np.diff(np.cumsum(self.rewards, dtype=np.float64)[ends], prepend=0.0)

    def score(self, episode_return: float) -> float | None:
        """Return 100 (J − J_random) / (J_expert − J_random), as D4RL has it; None where there is no reference.

        :param episode_return: J, a mean undiscounted return
        """
        if self.reference is None:
            return None
        low, high = self.reference
        return 100.0 * (episode_return - low) / (high - low)

    def joined(self, other: "OfflineDataset") -> "OfflineDataset":
        """Return these rows and then another's.

        :param other: of the same world
        :raises ValueError: if it has other spaces
        """
        for name in ("observation_space", "action_space"):
            if getattr(self, name) != getattr(other, name):
                raise ValueError(f"The data have the {name} {getattr(self, name)}, the others {getattr(other, name)}")
        columns: Any = {name: np.concatenate([getattr(self, name), getattr(other, name)]) for name in COLUMNS}
        return replace(self, **columns)

    def best_episodes(self, share: float) -> "OfflineDataset":
        """Return the episodes with the highest returns, at least one.

        :param share: of all episodes, in (0, 1]
        """
        check_arguments({"share": share}, share=Real(above=0, high=1))
        returns, slices = self.returns(), list(self.episodes())
        kept = np.sort(np.argsort(-returns, kind="stable")[: max(1, int(np.ceil(share * len(slices))))])
        rows = np.concatenate([np.arange(slices[i].start, slices[i].stop) for i in kept])
        return replace(self, **{name: getattr(self, name)[rows] for name in COLUMNS})

    def batch(self, rows: Array, gamma: float, device: th.device | str = "cpu", env: Any = None) -> Batch:
        """Return rows as tensors.

        :param rows: int [B]
        :param gamma: γ
        :param device: torch device
        :param env: a VecNormalize whose statistics scale observations and rewards, or None
        """
        observations, following, rewards = self.observations[rows], self.next_observations[rows], self.rewards[rows]
        if env is not None:
            observations, following = env.normalize_obs(observations), env.normalize_obs(following)
            rewards = env.normalize_reward(rewards)
        discounts = np.where(self.terminations[rows], np.float32(0.0), np.float32(gamma))
        columns = (observations, self.actions[rows], rewards.astype(np.float32), following, discounts)
        return Batch(*(th.as_tensor(np.ascontiguousarray(column), device=device) for column in columns))

    # ------------------------------------------------------------------ from a policy, from a buffer

    @classmethod
    def record(
        cls,
        env: str | gym.Env | VecEnv,
        n_steps: int,
        model: BaseAlgorithm | None = None,
        epsilon: float = 0.0,
        noise: float = 0.0,
        deterministic: bool = True,
        seed: int | None = None,
        checkpoint: str | Path | None = None,
        progress_bar: bool = False,
    ) -> "OfflineDataset":
        """Let a policy play and keep what it lived; the last episode is cut.

        :param env: the env, its id, or a VecEnv, of which each env then stands for itself
        :param n_steps: transitions, rounded up to as many for each env
        :param model: who plays; None: random actions
        :param epsilon: chance of a random action instead (default 0.0)
        :param noise: standard deviation of noise on actions of a Box, as a share of its width (default 0.0)
        :param deterministic: whether the model plays without its own chance (default True)
        :param seed: of the env and of all that is drawn (default None)
        :param checkpoint: a file that is written from time to time, and from which the same call goes on bit for bit after a
            kill; the one who calls removes it
        :param progress_bar: show one (default False)
        :raises ValueError: for a number out of range, or a checkpoint of another recording
        """
        Integer(1).check("n_steps", n_steps)
        check_arguments({"epsilon": epsilon, "noise": noise, "seed": seed}, epsilon=Real(0, 1), noise=Real(0))
        venv = make_vec_env(env, 1) if isinstance(env, str) else env if isinstance(env, VecEnv) else DummyVecEnv([lambda: env])
        _check_spaces(venv.observation_space, venv.action_space)
        if seed is not None:
            venv.seed(seed)
        explore = Explorer(venv.action_space, epsilon, noise, seed)
        rows = record(venv, -(-n_steps // venv.num_envs), model, explore, deterministic, checkpoint, progress_bar)
        return cls.of(venv.observation_space, venv.action_space, columns_of(rows))

    @classmethod
    def from_buffer(cls, buffer: ReplayBuffer) -> "OfflineDataset":
        """Take over the transitions of SB3's replay buffer, env after env, oldest first.

        :param buffer: of one or several envs; what is running when a stretch ends counts as cut
        :raises ValueError: if it keeps no next observations
        """
        if buffer.optimize_memory_usage:
            raise ValueError("A buffer with optimize_memory_usage=True does not hold the last observations of its episodes")
        oldest = buffer.pos if buffer.full else 0
        order = (oldest + np.arange(buffer.size())) % buffer.buffer_size

        def column(store: Array) -> Array:
            return np.concatenate([store[order, e] for e in range(buffer.n_envs)])

        dones, timeouts = column(buffer.dones) > 0, column(buffer.timeouts) > 0
        truncations = timeouts.copy()
        last = len(order) * np.arange(1, buffer.n_envs + 1) - 1  # of each env
        truncations[last] |= ~dones[last]
        shape, actions = buffer.observation_space.shape, column(buffer.actions)
        return cls.of(
            buffer.observation_space,
            buffer.action_space,
            {
                "observations": column(buffer.observations).reshape(-1, *shape),  # type: ignore[misc]
                "actions": actions.reshape(-1, *buffer.action_space.shape),  # type: ignore[misc]
                "rewards": column(buffer.rewards),
                "next_observations": column(buffer.next_observations).reshape(-1, *shape),  # type: ignore[misc]
                "terminations": dones & ~timeouts,
                "truncations": truncations,
            },
        )

    @classmethod
    def of(cls, observation_space: spaces.Space, action_space: spaces.Space, columns: dict[str, Any]) -> "OfflineDataset":
        """Return a data set of columns of other types.

        :param observation_space: Box, Discrete, MultiDiscrete or MultiBinary
        :param action_space: Discrete or Box
        :param columns: name → rows, see this class
        """
        kinds = {"rewards": np.float32, "terminations": np.bool_, "truncations": np.bool_}
        kinds["actions"] = np.int64 if isinstance(action_space, spaces.Discrete) else np.float32
        for name, kind in kinds.items():
            columns[name] = np.asarray(columns[name]).astype(kind)
        for name in ("rewards", "terminations", "truncations"):
            columns[name] = columns[name].reshape(-1)
        return cls(observation_space, action_space, **columns)

    # ------------------------------------------------------------------ files

    def save(self, path: str | Path) -> None:
        """Write the data set, whole or not at all.

        :param path: a file that ends in .npz; "minari:ID", see ``exchange.to_minari``; any other path becomes a folder of .npy
            files, which ``load`` maps
        """
        if str(path).startswith(MINARI):
            to_minari(self, str(path).removeprefix(MINARI))
            return
        path = Path(path)
        packed = pack({"observation": self.observation_space, "action": self.action_space})
        arrays = {name: getattr(self, name) for name in COLUMNS}
        arrays |= {"spaces": np.array(json.dumps(packed.tree))} | {f"space{i}": part for i, part in enumerate(packed.arrays)}
        if self.reference is not None:
            arrays["reference"] = np.array(self.reference, np.float64)
        if path.suffix == ".npz":
            with written(path) as beside, open(beside, "wb") as file:
                np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
            return
        path.mkdir(parents=True, exist_ok=True)
        mark = uuid.uuid4().hex[:8]  # new names: the old files stay, and may be mapped, until the list names these
        files = {name: f"{name}-{mark}.npy" for name in arrays}
        for name, array in arrays.items():
            with written(path / files[name]) as beside, open(beside, "wb") as file:
                np.lib.format.write_array(file, np.asarray(array, order="C"), allow_pickle=False)
        write_bytes(path / LIST, json.dumps(files, indent=1).encode())
        for other in {*path.glob("*.npy")} - {path / name for name in files.values()}:
            other.unlink()

    @classmethod
    def load(
        cls, path: str | Path, observation_space: spaces.Space | None = None, action_space: spaces.Space | None = None
    ) -> "OfflineDataset":
        """Read a data set; nothing in it is run.

        :param path: a .npz file, or a folder of ``save``; "minari:ID", see ``exchange.from_minari``; a .hdf5 file in D4RL's
            form
        :param observation_space: of the world, for a .hdf5 file, which does not name it; see ``exchange.from_hdf5``
        :param action_space: the same
        :raises FileNotFoundError: if there is none
        :raises ValueError: if the file is damaged, or its rows are not what a data set holds
        """
        if str(path).startswith(MINARI):
            return cls.of(*from_minari(str(path).removeprefix(MINARI)))
        path = Path(path)
        if path.suffix in HDF5:
            read = from_hdf5(path, observation_space, action_space)
            try:
                return cls.of(*read)
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
        if not path.exists():
            raise FileNotFoundError(f"there is no data set {path}")
        try:
            if path.is_dir():
                files = json.loads((path / LIST).read_text(encoding="utf-8"))
                arrays = {
                    name: np.load(path / Path(file).name, mmap_mode="r", allow_pickle=False) for name, file in files.items()
                }
            else:
                with open(path, "rb") as handle, np.load(handle, allow_pickle=False) as file:
                    arrays = dict(file)
            parts = [np.array(arrays[f"space{i}"]) for i in range(sum(name.startswith("space") for name in arrays) - 1)]
            found = unpack(json.loads(str(arrays["spaces"])), parts)
            observation_space, action_space = found["observation"], found["action"]
            columns = {name: arrays[name] for name in COLUMNS}
            if "reference" in arrays:
                low, high = np.array(arrays["reference"], np.float64)
                columns["reference"] = (float(low), float(high))
        except DAMAGED as error:
            line = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(f"{path} is no data set, or damaged: {line}") from error
        try:
            return cls(observation_space, action_space, **columns)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from error


def _column(name: str, values: Any, action_space: spaces.Space) -> Array:
    """Return a column as an array of its type, unread where it is mapped from a file and has that type.

    :raises ValueError: if it holds no numbers, flags that are none, or fractions in the place of Discrete actions
    """
    array = np.asanyarray(values)
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{name} must hold numbers, not {array.dtype}")
    if name in ("rewards", "terminations", "truncations") and array.ndim != 1:
        raise ValueError(f"{name} has the shape {array.shape}: one number a transition is needed")
    if name in ("terminations", "truncations"):
        if not ((array == 0) | (array == 1)).all():
            raise ValueError(f"{name} must be true or false in every row")
        return array.astype(np.bool_, copy=False)
    if name == "rewards":
        return array.astype(np.float32, copy=False)
    if name == "actions" and isinstance(action_space, spaces.Discrete):
        if array.dtype.kind == "f" and not (array == np.round(array)).all():
            row = int(np.argmax(array != np.round(array)))
            raise ValueError(f"actions[{row}]={array[row]} is not in {action_space}")
        return array.astype(np.int64, copy=False)
    return array


def _check_spaces(observation_space: spaces.Space, action_space: spaces.Space) -> None:
    if not isinstance(observation_space, (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)):
        raise ValueError(f"observations of {observation_space} cannot be kept as one array: flatten them")
    if not isinstance(action_space, (spaces.Discrete, spaces.Box)):
        raise ValueError(f"actions of {action_space} are not supported; allowed: Discrete, Box")


def _check_inside(name: str, rows: Array, space: spaces.Space) -> None:
    """Refuse rows that are none of a space's, by the first of them."""
    if rows.shape[1:] != space.shape:
        raise ValueError(f"{name} has rows of shape {rows.shape[1:]}, {space} has {space.shape}")
    if isinstance(space, spaces.Box):
        inside = np.isfinite(rows) if rows.dtype.kind == "f" else np.ones(rows.shape, bool)
        if name == "actions":  # an observation may leave its bounds: envs are not that strict
            inside = inside & (rows >= space.low) & (rows <= space.high)
    elif isinstance(space, spaces.Discrete):
        inside = (rows >= space.start) & (rows < space.start + space.n)
    elif isinstance(space, spaces.MultiDiscrete):
        inside = (rows >= space.start) & (rows < space.start + space.nvec)
    else:
        inside = (rows == 0) | (rows == 1)
    if not inside.all():
        row = int(np.argmin(inside.reshape(len(rows), -1).all(axis=1)))
        raise ValueError(f"{name}[{row}]={np.asarray(rows[row]).tolist()} is not in {space}")
