"""Data sets of others: Minari's, and HDF5 files in D4RL's form.

Minari keeps an episode's observations s_0 … s_T as one array, so a row's s' is the next row's s; both kinds of end are kept
apart there as here. D4RL's files (Fu et al. 2020, https://arxiv.org/abs/2004.07219) are flat columns ``observations``,
``actions``, ``rewards``, ``terminals``, ``timeouts`` and, in some, ``next_observations``; where these are missing, s' is the
next row's s, and the step before a time limit, whose s' nobody kept, is left out: the one before it becomes the cut.
"""

import importlib
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces

from sb3_lecture.offline.recording import COLUMNS

Parts = tuple[spaces.Space, spaces.Space, dict[str, Any]]  # spaces of observations and actions, columns by name

__all__ = ["HDF5", "MINARI", "from_hdf5", "from_minari", "to_minari"]

MINARI = "minari:"
HDF5 = (".hdf5", ".h5")


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(f"{name} is not installed: pip install 'sb3-lecture[minari]'") from error


def from_minari(source: Any) -> Parts:
    """Read a data set of Minari; ``OfflineDataset.load("minari:ID")`` makes one of it.

    :param source: a ``minari.MinariDataset``, or the id of one on this machine ("minari download ID" fetches it)
    :raises ValueError: if the package or the data set is missing, it has no episode, or spaces that cannot be kept
    """
    if isinstance(source, str):
        minari = _package("minari")
        try:
            source = minari.load_dataset(source)
        except (FileNotFoundError, ValueError, KeyError, OSError) as error:
            line = (str(error).splitlines() or [type(error).__name__])[0]
            raise ValueError(
                f"Minari has no data set {source!r} on this machine ({line}): minari download {source}"
            ) from error
    parts: dict[str, list[Any]] = {name: [] for name in COLUMNS}
    for episode in source.iterate_episodes():
        if isinstance(episode.observations, (dict, tuple)) or isinstance(episode.actions, (dict, tuple)):
            raise ValueError(f"observations of {source.observation_space} cannot be kept as one array: flatten them")
        states, ends = np.asarray(episode.observations), np.array(episode.truncations, np.bool_)
        if len(ends) == 0:
            continue
        ends[-1] |= not episode.terminations[-1]  # what was left off in the middle is cut
        row = (states[:-1], episode.actions, episode.rewards, states[1:], episode.terminations, ends)
        for name, part in zip(COLUMNS, row, strict=True):
            parts[name].append(np.asarray(part))
    if not parts["rewards"]:
        raise ValueError("The data set is empty: it holds no transition")
    columns: dict[str, Any] = {name: np.concatenate(part) for name, part in parts.items()}
    metadata = source.storage.metadata
    low, high = metadata.get("ref_min_score"), metadata.get("ref_max_score")
    if low is not None and high is not None and high > low:
        columns["reference"] = (float(low), float(high))
    return source.observation_space, source.action_space, columns


def to_minari(data: Any, dataset_id: str, **metadata: Any) -> Any:
    """Keep a data set among Minari's on this machine.

    :param data: the ``OfflineDataset``
    :param dataset_id: "name-v0", or "group/name-v0"
    :param metadata: further arguments of ``minari.create_dataset_from_buffers``, such as ``author`` or ``description``
    :return: the ``minari.MinariDataset``
    :raises ValueError: if a row's s' is not the next row's s, the id is taken, or the package is missing
    """
    minari = _package("minari")
    buffers: list[Any] = []
    for rows in data.episodes():
        s, following = data.observations[rows], data.next_observations[rows]
        if not np.array_equal(s[1:], following[:-1], equal_nan=following.dtype.kind == "f"):
            raise ValueError(
                f"In the episode of rows {rows.start} to {rows.stop - 1} a next observation is not the next row's"
            )
        buffers.append(
            minari.data_collector.EpisodeBuffer(
                id=len(buffers), observations=np.concatenate([s, following[-1:]]), actions=np.asarray(data.actions[rows]),
                rewards=np.asarray(data.rewards[rows]), terminations=np.asarray(data.terminations[rows]),
                truncations=np.asarray(data.truncations[rows]), infos={},
            )
        )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)  # what metadata could be given besides
        made = minari.create_dataset_from_buffers(
            dataset_id, buffers, observation_space=data.observation_space, action_space=data.action_space, **metadata
        )
    if data.reference is not None:
        made.storage.update_metadata({"ref_min_score": data.reference[0], "ref_max_score": data.reference[1]})
    return made


def from_hdf5(
    path: str | Path, observation_space: spaces.Space | None = None, action_space: spaces.Space | None = None
) -> Parts:
    """Read a HDF5 file in D4RL's form; ``OfflineDataset.load`` makes a data set of it.

    :param path: the file
    :param observation_space: of the world; None: a Box without bounds
    :param action_space: of the world; None: a Box from −1 to 1, as D4RL's worlds have it
    :raises FileNotFoundError: if there is none
    :raises ValueError: if it is damaged, lacks a column, or the package h5py is missing
    """
    if not Path(path).exists():
        raise FileNotFoundError(f"there is no data set {path}")
    h5py = _package("h5py")
    try:
        with h5py.File(path, "r") as file:
            found = {name: np.asarray(part) for name, part in file.items() if isinstance(part, h5py.Dataset)}
        s, a, r, terminals = (found[name] for name in ("observations", "actions", "rewards", "terminals"))
    except (OSError, KeyError, RuntimeError) as error:
        line = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} is no data set in D4RL's form, or damaged: {line}") from error
    r, ended = r.reshape(-1), terminals.reshape(-1).astype(np.bool_)
    cut = found.get("timeouts", np.zeros(len(r))).reshape(-1).astype(np.bool_) & ~ended
    if len({len(part) for part in (s, a, r, ended, cut)}) > 1 or len(r) == 0:
        raise ValueError(f"{path}: its columns have {len(s)}, {len(a)}, {len(r)}, {len(ended)} and {len(cut)} rows")
    kept = np.ones(len(r), np.bool_)
    if "next_observations" in found:
        following = found["next_observations"]
        cut[-1] |= not ended[-1]
    else:
        following = np.concatenate([s[1:], s[-1:]])
        following[ended] = s[ended]  # what follows an end is never looked at
        last = cut.copy()
        last[-1] |= not ended[-1]
        kept = ~last  # their s' was not kept
        begins = np.concatenate([[True], (ended | last)[:-1]])
        cut = np.concatenate([last[1:] & ~begins[1:], [False]])
    columns = {name: part[kept] for name, part in zip(COLUMNS, (s, a, r, following, ended, cut), strict=True)}
    if observation_space is None:
        observation_space = spaces.Box(-np.inf, np.inf, s.shape[1:], np.float32)
    if action_space is None:
        action_space = spaces.Box(-1.0, 1.0, a.shape[1:], np.float32)
    return observation_space, action_space, columns
