"""Segments of behaviour for comparisons: where they are kept, who compares them, and the file of their labels.

A segment is at most k steps of one episode. One that ends with its episode may be shorter, and some are cut shorter by chance:
among segments of equal length a constant reward for every step cannot be told from none, and where episodes can end, that
constant is part of the task. Nothing crosses the end of an episode, and no time limit makes a segment short.
"""

import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from sb3_lecture.common.checks import Real

__all__ = ["LabelFile", "Segment", "SegmentPool", "SyntheticLabeller"]

#: from two segments to 1 (the first is better), 0 (the second), 0.5 (equal) or None (no answer)
Labeller = Callable[["Segment", "Segment"], float | None]


@dataclass(frozen=True)
class Segment:
    """Some steps of one episode.

    :param observations: [k, …]
    :param actions: [k, …]
    :param rewards: the world's own, which a labeller may use and a learner must not, float64 [k]
    :param terminated: whether the episode ended with the last step
    """

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool = False

    def __len__(self) -> int:
        return len(self.actions)


class SegmentPool:
    """The last steps of all envs, of which segments are cut.

    :param capacity: steps of each env that are kept
    :param n_envs: how many
    """

    def __init__(self, capacity: int, n_envs: int) -> None:
        self.capacity, self.n_envs, self.written = capacity, n_envs, 0
        self._observations: np.ndarray | None = None
        self._actions: np.ndarray | None = None
        self._rewards = np.zeros((capacity, n_envs))
        self._ends = np.zeros((capacity, n_envs), np.int8)  # 1: terminated, 2: cut off

    def __len__(self) -> int:
        return min(self.written, self.capacity) * self.n_envs

    def add(
        self, observations: np.ndarray, actions: np.ndarray, rewards: np.ndarray, dones: np.ndarray, truncated: np.ndarray
    ) -> None:
        """Keep one step of each env: [n_envs, …] each."""
        if self._observations is None or self._actions is None:
            self._observations = np.zeros((self.capacity, *observations.shape), observations.dtype)
            self._actions = np.zeros((self.capacity, *actions.shape), actions.dtype)
        row = self.written % self.capacity
        self._observations[row], self._actions[row], self._rewards[row] = observations, actions, rewards
        self._ends[row] = np.where(dones, np.where(truncated, 2, 1), 0)
        self.written += 1

    def cut(self) -> None:
        """What comes next does not follow on what came last: the envs were reset."""
        if self.written:
            row = (self.written - 1) % self.capacity
            self._ends[row] = np.maximum(self._ends[row], np.where(self._ends[row] == 0, 2, 0))

    def steps(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw single steps: observations [n, …], actions [n, …]."""
        assert self._observations is not None and self._actions is not None
        rows, columns = rng.integers(min(self.written, self.capacity), size=n), rng.integers(self.n_envs, size=n)
        return self._observations[rows, columns], self._actions[rows, columns]

    def draw(self, n: int, length: int, rng: np.random.Generator, shortened: float = 0.0) -> list[Segment]:
        """Draw n segments of ``length`` steps, or fewer where an episode terminated; every possible start is as likely.

        :param n: how many
        :param length: k
        :param rng: chance
        :param shortened: share of them of which a random number of the first steps is taken off
        :return: n segments; none if there is no such segment yet
        """
        held = min(self.written, self.capacity)
        rows = (self.written - held + np.arange(held)) % self.capacity  # the oldest first
        ends = self._ends[rows]  # [held, n_envs]
        places = np.where(ends > 0, np.arange(held)[:, None], 2 * held + length)
        following = np.minimum.accumulate(places[::-1], axis=0)[::-1]  # the next end at or after each step
        kind = np.take_along_axis(ends, np.minimum(following, held - 1), axis=0)
        stop = np.minimum(following + 1, np.arange(held)[:, None] + length)  # one past the last step
        whole = stop - np.arange(held)[:, None] == length
        fits = (stop <= held) & (whole | ((kind == 1) & (following < held)))
        starts = np.argwhere(fits)
        if not len(starts):
            return []
        segments = []
        for t, e in starts[rng.integers(len(starts), size=n)]:
            first = int(rng.integers(t, stop[t, e])) if rng.random() < shortened else t
            segments.append(self._segment(rows[first : stop[t, e]], e))
        return segments

    def _segment(self, rows: np.ndarray, env: int) -> Segment:
        assert self._observations is not None and self._actions is not None
        return Segment(
            self._observations[rows, env],
            self._actions[rows, env],
            self._rewards[rows, env],
            bool(self._ends[rows[-1], env] == 1),
        )


class SyntheticLabeller:
    """A labeller who knows the true reward: P(first) = σ((R₁ − R₂) / temperature), R the sum over a segment.

    Rewards of some worlds are so large that any labeller of temperature 1 is never in doubt; ``doubt``, the mean of
    min(P, 1 − P) over pairs that are not equal, tells it. Segments whose returns differ by no more than ``tie`` are equal.

    :param temperature: in units of reward; 0 (default): never wrong
    :param tie: difference of returns up to which segments are equal (default 1e-9)
    :param gamma: discount within a segment (default 1)
    :param seed: of its chance
    :raises ValueError: if an argument is out of its range
    """

    def __init__(self, temperature: float = 0.0, tie: float = 1e-9, gamma: float = 1.0, seed: int = 0) -> None:
        for name, value, rule in (("temperature", temperature, Real(0)), ("tie", tie, Real(0)), ("gamma", gamma, Real(0, 1))):
            rule.check(name, value)
        self.temperature, self.tie, self.gamma = temperature, tie, gamma
        self.rng = np.random.default_rng(seed)
        self._n_unequal, self._doubts = 0, 0.0

    @property
    def doubt(self) -> float:
        """The mean of min(P, 1 − P) over unequal pairs: 0 is a labeller without any, 0.5 one who tosses coins."""
        return self._doubts / max(1, self._n_unequal)

    def __call__(self, first: Segment, second: Segment) -> float:
        """Compare two segments: 1, 0 or 0.5."""
        better = self._return(first) - self._return(second)
        if abs(better) <= self.tie:
            return 0.5
        self._n_unequal += 1
        if self.temperature == 0.0:
            return float(better > 0)
        p = 0.5 * (1.0 + np.tanh(0.5 * better / self.temperature))  # σ without overflow
        self._doubts += min(p, 1.0 - p)
        return float(self.rng.random() < p)

    def _return(self, segment: Segment) -> float:
        return float(segment.rewards @ self.gamma ** np.arange(len(segment)))


class LabelFile:
    """Labels on disk, one line of JSON each, written as they come: what was answered is never asked again.

    A line that a kill tore off half-way is dropped when the file is opened.

    :param path: a ``.jsonl`` file, which may be there already; None: kept in memory only
    :param observation_shape: of one observation
    :param action_shape: of one action
    :raises ValueError: if the file holds something else, or labels of another world
    """

    def __init__(self, path: str | Path | None, observation_shape: tuple[int, ...], action_shape: tuple[int, ...]) -> None:
        self.path = None if path is None else Path(path)
        self.labels: list[tuple[Segment, Segment, float]] = []
        if self.path is None or not self.path.exists():
            return
        content = self.path.read_bytes()
        kept = content.rfind(b"\n") + 1
        for number, line in enumerate(content[:kept].splitlines(), start=1):
            self.labels.append(self._read(line, number, observation_shape, action_shape))
        if kept < len(content):
            with open(self.path, "r+b") as file:
                file.truncate(kept)

    def _read(
        self, line: bytes, number: int, observation_shape: tuple[int, ...], action_shape: tuple[int, ...]
    ) -> tuple[Segment, Segment, float]:
        where = f"{self.path}, line {number}"
        try:
            row = json.loads(line)
            label, pair = float(row["label"]), []
            for name in ("first", "second"):
                observations, actions = (np.asarray(row[name][part]) for part in ("observations", "actions"))
                pair.append(Segment(observations, actions, np.full(len(actions), np.nan), bool(row[name]["terminated"])))
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{where} is no label: {(str(error).splitlines() or [type(error).__name__])[0]}") from error
        if label not in (0.0, 0.5, 1.0):
            raise ValueError(f"{where}: label={label!r} must be 1 (the first is better), 0 (the second) or 0.5 (equal)")
        for segment in pair:
            found = (segment.observations.shape[1:], segment.actions.shape[1:])
            if found != (observation_shape, action_shape) or len(segment.observations) != len(segment) or not len(segment):
                raise ValueError(
                    f"{where} is of another world: observations and actions of shapes {found[0]} and {found[1]}, here they "
                    f"are {observation_shape} and {action_shape}"
                )
        return pair[0], pair[1], label

    def __len__(self) -> int:
        return len(self.labels)

    def add(self, first: Segment, second: Segment, label: float) -> None:
        """Keep an answer, on disk before anything else happens.

        :raises OSError: if it cannot be written
        """
        if self.path is not None:
            row = {"label": label, "first": _plain(first), "second": _plain(second)}
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with open(self.path, "a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
                file.flush()
                os.fsync(file.fileno())
        self.labels.append((first, second, label))


def _plain(segment: Segment) -> dict[str, object]:
    return {
        "observations": segment.observations.tolist(),
        "actions": segment.actions.tolist(),
        "terminated": segment.terminated,
    }
