"""Replay of sequences for learners with a memory: one ring of rows for each env, cut anywhere, episodes and all.

A row is a moment: what was seen, the reward that came with it, what was done next, and the learner's latent state there.

    row t:  x_t, r_t, is_first, is_last, is_terminal,  a_t,  h_t, z_t

An episode of n steps has n + 1 rows: its last observation has one too (``is_last``; ``is_terminal`` unless a time limit cut
the episode), and the next episode opens with ``is_first`` and no reward. The latent of the row before a sequence is where a
learner takes up the sequence; ``refresh`` writes its newer latents back (Hafner et al. 2023, version 2, "replay context").

On disk (``memmap_dir``) a buffer is a folder: an .npy a column, ``written.npy`` with the rows written so far, ``buffer.json``
with its layout and an id, and a lock. ``buffer.json`` is written last and whole, a row is counted after it has been stored:
what a kill leaves is a buffer, less the row that was being written, which the next one replaces. A folder is never emptied:
a new buffer wants a new folder, and only one that names the id, as a loaded model does, opens what is there.
"""

import json
import os
import uuid
import weakref
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
from stable_baselines3.common.vec_env import VecNormalize

__all__ = ["SequenceBatch", "SequenceBuffer", "machine_memory"]

Array = np.ndarray[Any, Any]
MEMORY_SHARE = 0.9  # of the machine's memory that a buffer may ask for


class SequenceBatch(NamedTuple):
    """B sequences of T rows, time first.

    :param observations: x_t [T, B, …], a dict of such tensors for Dict spaces; stored types (pixels are uint8)
    :param prev_actions: a_{t−1} float32 [T, B, A], of another episode where ``is_first``
    :param rewards: r_t float32 [T, B]
    :param is_first: bool [T, B]
    :param is_last: bool [T, B]
    :param is_terminal: bool [T, B]
    :param deter: h of the row before the first, float32 [B, D]
    :param z: z of the row before the first [B, *latent_shape]
    :param rows: where they lie, int64 [T, B], for ``refresh``
    """

    observations: Any
    prev_actions: th.Tensor
    rewards: th.Tensor
    is_first: th.Tensor
    is_last: th.Tensor
    is_terminal: th.Tensor
    deter: th.Tensor
    z: th.Tensor
    rows: Array


class SequenceBuffer(ReplayBuffer):
    """The newest ``buffer_size`` rows of all envs together.

    Says how many bytes it takes before it takes them. h is kept in half precision, z as int16 if it is made of integers.

    :param buffer_size: rows of all envs together
    :param observation_space: of one env, Dict allowed
    :param action_space: of one env
    :param device: of the tensors handed out
    :param n_envs: number of envs (default 1)
    :param optimize_memory_usage: accepted for SB3; observations are kept once in any case
    :param batch_length: T, rows of a sequence (default 64)
    :param action_size: numbers of an action vector (default 1)
    :param deter_size: size of h (default 1)
    :param latent_shape: of z (default (1,))
    :param latent_dtype: torch dtype of z by name, "int32" (default) or "float32"
    :param memmap_dir: folder of files to keep the arrays in instead of memory; None: memory (default)
    :param memmap_id: id of the buffer on disk to go on with, opened when it is first used; None: a new one (default)
    :raises ValueError: if it cannot hold one sequence an env, is larger than the machine's memory, or if the folder holds
        another buffer or is in use
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: th.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        batch_length: int = 64,
        action_size: int = 1,
        deter_size: int = 1,
        latent_shape: tuple[int, ...] = (1,),
        latent_dtype: str = "int32",
        memmap_dir: str | None = None,
        memmap_id: str | None = None,
    ) -> None:
        BaseBuffer.__init__(self, buffer_size, observation_space, action_space, device, n_envs)  # its own arrays, below
        self.optimize_memory_usage, self.handle_timeout_termination = False, True
        self.batch_length, self.latent_dtype = batch_length, getattr(th, latent_dtype)
        self.capacity = buffer_size // n_envs  # rows of each env
        if batch_length < 1 or self.capacity < batch_length + 1:
            raise ValueError(
                f"{buffer_size=} rows for {n_envs} env(s) hold no sequence of {batch_length=} rows and the one before it: "
                f"give at least {n_envs * (batch_length + 1)} rows, or shorter sequences"
            )
        of_dict = isinstance(observation_space, spaces.Dict)
        parts = observation_space.spaces if isinstance(observation_space, spaces.Dict) else {"": observation_space}
        shapes = self.obs_shape if of_dict else {"": self.obs_shape}
        layout: dict[str, tuple[tuple[int, ...], Any]] = {
            f"obs.{key}": (() if isinstance(space, spaces.Discrete) else shapes[key], space.dtype)  # type: ignore[call-overload]
            for key, space in parts.items()
        }
        layout |= {
            "actions": ((action_size,), np.float32), "rewards": ((), np.float32), "deter": ((deter_size,), np.float16),
            "is_first": ((), np.bool_), "is_last": ((), np.bool_), "is_terminal": ((), np.bool_),
            "z": (latent_shape, np.float32 if self.latent_dtype.is_floating_point else np.int16),
        }  # fmt: skip
        self.rows_total = n_envs * self.capacity
        layout = {name: ((self.rows_total, *shape), kind) for name, (shape, kind) in layout.items()}
        n_bytes = sum(int(np.prod(shape)) * np.dtype(kind).itemsize for shape, kind in layout.values())
        _announce(n_bytes, self.rows_total, memmap_dir)
        self._store: dict[str, Array] | None = None
        self._write = np.zeros(n_envs, np.int64)
        self._disk = None if memmap_dir is None else _Disk(memmap_dir, layout, n_envs, memmap_id or uuid.uuid4().hex)
        if self._disk is None:
            self._store = {name: np.zeros(shape, kind) for name, (shape, kind) in layout.items()}  # pages are taken as written
        elif memmap_id is None:
            self._disk.create()
            self._open()

    def _open(self) -> None:
        assert self._disk is not None
        self._store, self._write = self._disk.open()
        self.full = bool((self._write >= self.capacity).all())
        self.pos = int(self._write[0] % self.capacity)

    @property
    def memmap_id(self) -> str | None:
        """The id of the buffer on disk, None in memory."""
        return None if self._disk is None else self._disk.id

    @property
    def store(self) -> dict[str, Array]:
        """The columns, each [rows of all envs, …]."""
        if self._store is None:
            self._open()
        assert self._store is not None
        return self._store

    @property
    def write(self) -> Array:
        """Rows ever written by each env, int64 [n_envs]."""
        if self._store is None:
            self._open()
        return self._write

    def close(self) -> None:
        """Let another buffer have the folder; what is used again is opened again."""
        if self._disk is not None:
            self._store = None
            self._write = np.zeros(self.n_envs, np.int64)
            self._disk.close()

    def __getstate__(self) -> dict[str, Any]:
        """Pickle a buffer in memory whole, and of one on disk where it is."""
        state = self.__dict__.copy()
        if self._disk is not None:
            state |= {"_store": None, "_write": np.zeros(self.n_envs, np.int64)}
        return state

    def size(self) -> int:
        """Return the rows held, of all envs together."""
        return int(np.minimum(self.write, self.capacity).sum())

    @property
    def ready(self) -> bool:
        """Whether any env holds a whole sequence."""
        return bool((self._n_windows() > 0).any())

    def _n_windows(self) -> Array:
        """Sequences that each env's ring holds, with the row before them, int64 [n_envs]."""
        return np.maximum(np.minimum(self.write, self.capacity) - self.batch_length, 0)

    def add(self, envs: Array, observations: Any, **columns: Any) -> None:  # type: ignore[override]
        """Store one row of some envs.

        :param envs: which, int [m], no env twice
        :param observations: x_t [m, …], or a dict of such arrays
        :param columns: ``rewards``, ``is_first``, ``is_last``, ``is_terminal`` [m], ``actions`` [m, A], ``deter`` [m, D] and
            ``z`` [m, *latent_shape]; what is left out is zero. A row that opens an episode closes the one before it
        """
        at = envs * self.capacity + self.write[envs] % self.capacity  # [m]
        opens = np.asarray(columns["is_first"])
        if opens.any():  # an episode left unfinished (a new call of learn, a resumed run) was cut, not ended
            before = envs * self.capacity + (self.write[envs] - 1) % self.capacity
            self.store["is_last"][before[opens & (self.write[envs] > 0)]] = True
        given = {f"obs.{key}": part for key, part in observations.items()} if isinstance(observations, dict) else {
            "obs.": observations
        }  # fmt: skip
        given |= columns
        for name, array in self.store.items():
            array[at] = given.get(name, 0)
        self.write[envs] += 1  # after the row: a kill between loses it, and nothing else
        self.full = bool((self.write >= self.capacity).all())
        self.pos = int(self.write[0] % self.capacity)

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> SequenceBatch:  # type: ignore[override]
        """Draw sequences uniformly from all that lie in the rings, with replacement.

        :param batch_size: B
        :param env: a VecNormalize to normalise observations and rewards with
        :raises ValueError: if there is none yet
        """
        windows = np.cumsum(self._n_windows())  # [n_envs]
        if windows[-1] == 0:
            raise ValueError(f"No env has {self.batch_length + 1} rows yet; it holds {self.size()} in all: collect more first")
        drawn = np.random.randint(windows[-1], size=batch_size)  # [B]
        envs = np.searchsorted(windows, drawn, side="right")
        start = drawn - np.where(envs > 0, windows[envs - 1], 0)  # rows after the oldest
        oldest = np.maximum(self.write[envs] - self.capacity, 0)
        steps = oldest + start + np.arange(self.batch_length + 1)[:, None]  # [T + 1, B]
        rows = envs * self.capacity + steps % self.capacity
        return self._batch(rows, env)

    def _batch(self, rows: Array, env: VecNormalize | None) -> SequenceBatch:
        """Gather rows int64 [T + 1, B], the first of which gives the latent to start from."""
        store, before, inside = self.store, rows[:-1], rows[1:]
        raw: Any = {name[4:]: store[name][inside] for name in store if name.startswith("obs.")}
        raw = self._normalize_obs(raw if isinstance(self.observation_space, spaces.Dict) else raw[""], env)
        observations = {key: self._tensor(part) for key, part in raw.items()} if isinstance(raw, dict) else self._tensor(raw)
        return SequenceBatch(
            observations,
            self._tensor(store["actions"][before]),
            self._tensor(self._normalize_reward(store["rewards"][inside], env).astype(np.float32, copy=False)),
            self._tensor(store["is_first"][inside]),
            self._tensor(store["is_last"][inside]),
            self._tensor(store["is_terminal"][inside]),
            self._tensor(store["deter"][before[0]]).float(),
            self._tensor(store["z"][before[0]]).to(self.latent_dtype),
            inside,
        )

    def refresh(self, rows: Array, deter: th.Tensor, z: th.Tensor) -> None:
        """Replace the latents of rows by newer ones.

        :param rows: of a SequenceBatch, int64 [T, B]
        :param deter: h [T, B, D]
        :param z: z [T, B, *latent_shape]
        """
        self.store["deter"][rows] = deter.float().cpu().numpy()
        self.store["z"][rows] = z.cpu().numpy()

    def _tensor(self, array: Array) -> th.Tensor:
        return th.from_numpy(np.ascontiguousarray(array)).to(self.device)


def machine_memory() -> float:
    """Return the machine's memory in bytes, infinity where the system does not say."""
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else float("inf")


def _announce(n_bytes: int, rows: int, memmap_dir: str | None) -> None:
    """Say what will be taken; refuse more than there is."""
    where = "memory" if memmap_dir is None else str(memmap_dir)
    print(f"Sequence buffer: {rows:,} rows, up to {n_bytes / 2**20:,.1f} MiB in {where}")
    memory = machine_memory()
    if memmap_dir is None and n_bytes > MEMORY_SHARE * memory:
        raise ValueError(
            f"The replay buffer would take {n_bytes / 2**30:.1f} GiB of {memory / 2**30:.1f} GiB of memory: lower buffer_size "
            'or keep it on disk: replay_buffer_kwargs={"memmap_dir": "FOLDER"}'
        )


class _Disk:
    """A buffer's folder.

    :param folder: where
    :param layout: shape and type of each column
    :param n_envs: number of envs
    :param id: of the buffer
    """

    def __init__(self, folder: str, layout: dict[str, tuple[tuple[int, ...], Any]], n_envs: int, id: str) -> None:
        self.folder, self.id = Path(folder), id
        self.arrays = {name.rstrip("."): (shape, np.dtype(kind).str) for name, (shape, kind) in layout.items()}
        self.names = {name: name.rstrip(".") for name in layout}
        self.arrays["written"] = ((n_envs,), np.dtype(np.int64).str)
        self._lock: Any = None

    def _description(self) -> dict[str, Any]:
        return {"id": self.id, "arrays": {name: [list(shape), kind] for name, (shape, kind) in self.arrays.items()}}

    def create(self) -> None:
        """Make the files of an empty buffer.

        :raises ValueError: if there is one already
        """
        self.folder.mkdir(parents=True, exist_ok=True)
        self._take()
        if any(self.folder.glob("*.npy")):
            self.close()
            raise ValueError(
                f"memmap_dir={str(self.folder)!r} holds a replay buffer already. Load the model that it belongs to, give "
                "another folder, or delete this one"
            )
        for name, (shape, kind) in self.arrays.items():
            np.lib.format.open_memmap(self.folder / f"{name}.npy", mode="w+", dtype=np.dtype(kind), shape=shape)
        beside = self.folder / "buffer.json.tmp"
        beside.write_text(json.dumps(self._description()))
        os.replace(beside, self.folder / "buffer.json")

    def open(self) -> tuple[dict[str, Array], Array]:
        """Return the columns and the rows written; make the buffer if there is none.

        :raises ValueError: if another buffer is there, or somebody else has it open
        """
        if not (self.folder / "buffer.json").exists():
            self.create()
        self._take()
        found = json.loads((self.folder / "buffer.json").read_text())
        if found != self._description():
            self.close()
            what = (
                "another model" if found.get("id") != self.id else "the same model with other spaces, sizes or numbers of rows"
            )
            raise ValueError(
                f"memmap_dir={str(self.folder)!r} holds the replay buffer of {what}: give another folder, "
                'replay_buffer_kwargs={"memmap_dir": "FOLDER"}'
            )
        arrays = {name: np.lib.format.open_memmap(self.folder / f"{name}.npy", mode="r+") for name in self.arrays}
        return {name: arrays[file] for name, file in self.names.items()}, arrays["written"]

    def _take(self) -> None:
        """Lock the folder; the lock goes with the process, or with this object."""
        if self._lock is not None:
            return
        lock = os.open(self.folder / "lock", os.O_RDWR | os.O_CREAT)
        try:
            _lock_file(lock)
        except OSError:
            os.close(lock)
            raise ValueError(
                f"memmap_dir={str(self.folder)!r} is in use by another model: give this one its own folder, "
                'replay_buffer_kwargs={"memmap_dir": "FOLDER"}, or close the other (model.replay_buffer.close())'
            ) from None
        self._lock = weakref.finalize(self, os.close, lock)

    def close(self) -> None:
        """Give the lock back."""
        if self._lock is not None:
            self._lock()
            self._lock = None

    def __getstate__(self) -> dict[str, Any]:
        """Leave the lock where it is."""
        return {**self.__dict__, "_lock": None}


def _lock_file(handle: int) -> None:
    """Lock an open file without waiting.

    :raises OSError: if it is locked
    """
    try:
        import fcntl
    except ImportError:  # Windows
        import msvcrt

        msvcrt.locking(handle, msvcrt.LK_NBLCK, 1)  # type: ignore[attr-defined]
    else:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
