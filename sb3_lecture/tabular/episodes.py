"""Whole episodes, for Monte Carlo: every env's running episode is kept until it ends."""

from typing import Any, NamedTuple

import numpy as np

from sb3_lecture.common.compiling import rule

MAX_EPISODE_LENGTH = 10_000


class Episode(NamedTuple):
    """The running episode of each env; L = ``max_episode_length``."""

    state: np.ndarray  # int64 [n_envs, L]
    action: np.ndarray  # int64 [n_envs, L]
    reward: np.ndarray  # float64 [n_envs, L]
    chance: np.ndarray  # float64 [n_envs, L], b(a | s) with which the action was taken, where it is needed
    length: np.ndarray  # int64 [n_envs]
    occurrences: np.ndarray  # int64 [S, A] or [S, 1], scratch: how often a pair stands in the part not yet looked at
    weight: np.ndarray  # float64, like occurrences: C, the sum of importance weights (eq. 5.8)
    overflow: np.ndarray  # bool [1], an episode was longer than L


@rule
def record(memory: Episode, i: int, s: int, a: int, r: float) -> None:
    """Append a transition to env i's episode."""
    t = memory.length[i]
    if t == memory.reward.shape[1]:
        memory.overflow[0] = True
    else:
        memory.state[i, t], memory.action[i, t], memory.reward[i, t] = s, a, r
        memory.length[i] = t + 1


@rule
def count_occurrences(memory: Episode, i: int, by_action: bool) -> None:
    """Count how often each pair (or state) stands in env i's episode."""
    for t in range(memory.length[i]):
        memory.occurrences[memory.state[i, t], memory.action[i, t] if by_action else 0] += 1


@rule
def is_first(memory: Episode, s: int, column: int) -> bool:
    """Going backwards through an episode: whether this is the first visit; takes it out of the count."""
    memory.occurrences[s, column] -= 1
    return memory.occurrences[s, column] == 0


def make_episode(n_envs: int, length: int, table_shape: Any) -> Episode:
    """Empty episodes."""
    shape = (n_envs, length)
    return Episode(
        state=np.zeros(shape, np.int64), action=np.zeros(shape, np.int64), reward=np.zeros(shape), chance=np.ones(shape),
        length=np.zeros(n_envs, np.int64), occurrences=np.zeros(tuple(table_shape), np.int64),
        weight=np.zeros(tuple(table_shape)), overflow=np.zeros(1, np.bool_),
    )  # fmt: skip


#: fields of Episode that are forgotten when the envs are reset
PER_ENV = ("state", "action", "reward", "chance", "length")


def refuse_overflow(memory: Episode) -> None:
    """Say what to do about an episode that was too long.

    :raises ValueError: if there was one
    """
    if memory.overflow[0]:
        memory.overflow[0] = False
        raise ValueError(
            f"An episode is longer than max_episode_length={memory.reward.shape[1]}, and Monte Carlo learns from whole "
            "episodes only: raise max_episode_length, or give the env a TimeLimit"
        )
