"""Wrappers that turn other envs into worlds for tables, or for learners of pictures."""

from collections.abc import Sequence
from typing import Any

import gymnasium as gym
import numpy as np
import numpy.typing as npt
from gymnasium import spaces
from gymnasium.wrappers import AddRenderObservation, ResizeObservation


class DiscretizeObservation(gym.ObservationWrapper[Any, Any, Any]):
    """Cut every coordinate of a Box observation into bins, so that a table can hold a value for each cell.

    Coordinate i becomes the number of its bin; bins are half open, the first and the last one reach to infinity, so values
    outside the range are allowed. With one bin a coordinate is ignored.

    ``DiscretizeObservation(gym.make("CartPole-v1"), bins=(1, 1, 6, 12), low=[-1, -1, -0.2, -2], high=[1, 1, 0.2, 2])``

    :param env: an env with a one-dimensional Box observation space [d]
    :param bins: number of bins of every coordinate, or of each one [d] (default 10)
    :param low: where the bins begin, one number or [d]; None: the space's lower bound, which must then be finite
    :param high: where they end, likewise
    :param edges: inner edges of each coordinate's bins, rising, instead of the three above: [d] sequences (possibly empty)
    :raises ValueError: if the space is of another kind, a bound is missing, or edges do not rise
    """

    def __init__(
        self,
        env: gym.Env,
        bins: int | Sequence[int] = 10,
        low: npt.ArrayLike | None = None,
        high: npt.ArrayLike | None = None,
        edges: Sequence[npt.ArrayLike] | None = None,
    ) -> None:
        super().__init__(env)
        space = env.observation_space
        if not isinstance(space, spaces.Box) or len(space.shape) != 1:
            raise ValueError(f"DiscretizeObservation needs a Box observation space of shape (d,), got {space}")
        if edges is None:
            self.edges = _even_edges(space, bins, low, high)
        else:
            self.edges = [np.asarray(e, dtype=np.float64) for e in edges]
        if len(self.edges) != space.shape[0] or any(e.ndim != 1 or np.any(np.diff(e) <= 0) for e in self.edges):
            raise ValueError(f"edges must be {space.shape[0]} rising sequences, got {[e.tolist() for e in self.edges]}")
        self.observation_space = spaces.MultiDiscrete([e.shape[0] + 1 for e in self.edges])

    def observation(self, observation: Any) -> np.ndarray:
        """The bin of every coordinate, int64 [d]."""
        return np.array(
            [edges.searchsorted(x, side="right") for edges, x in zip(self.edges, observation, strict=True)], dtype=np.int64
        )


class PictureObservation(gym.Wrapper[Any, Any, Any, Any]):
    """Show the rendered picture, resized to a square, instead of the observation: uint8 [size, size, 3].

    Gymnasium's AddRenderObservation and ResizeObservation in one, with a name that a config can give. Resizing needs OpenCV.

    ``PictureObservation(gym.make("CartPole-v1", render_mode="rgb_array"))``

    :param env: an env with ``render_mode="rgb_array"``
    :param size: pixels a side (default 64)
    :raises ValueError: for another render mode, or a size below 1
    """

    def __init__(self, env: gym.Env, size: int = 64) -> None:
        if env.render_mode != "rgb_array" or size < 1:
            raise ValueError(
                f"PictureObservation needs render_mode='rgb_array', got {env.render_mode!r}, and size={size} of at least 1: "
                "gym.make(id, render_mode='rgb_array')"
            )
        super().__init__(ResizeObservation(AddRenderObservation(env), (size, size)))


def _even_edges(
    space: spaces.Box, bins: int | Sequence[int], low: npt.ArrayLike | None, high: npt.ArrayLike | None
) -> list[np.ndarray]:
    d = space.shape[0]
    try:
        n = np.broadcast_to(np.asarray(bins), (d,))
        start = np.broadcast_to(np.asarray(space.low if low is None else low, dtype=np.float64), (d,))
        end = np.broadcast_to(np.asarray(space.high if high is None else high, dtype=np.float64), (d,))
    except ValueError as error:
        raise ValueError(f"bins, low and high must be one number or {d} numbers: {error}") from error
    for i in range(d):
        wide = n[i] > 1 and not (
            np.isfinite(start[i]) and np.isfinite(end[i]) and start[i] < end[i] and end[i] - start[i] < 1e30
        )
        if n[i] < 1 or wide:
            raise ValueError(
                f"Coordinate {i} has {n[i]} bins over [{start[i]}, {end[i]}]; at least 1 bin and a finite range are needed: "
                "give low and high, or edges"
            )
    return [np.linspace(start[i], end[i], n[i] + 1)[1:-1] if n[i] > 1 else np.zeros(0) for i in range(d)]
