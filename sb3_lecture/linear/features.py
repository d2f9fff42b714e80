"""Features of an observation: which entries of x(s) are not 0, and what they are.

- "tiles": tile coding of a Box (``common/tile_coding.py``), binary
- "one-hot": one feature a state, which makes the linear methods the tabular ones
- "aggregation": one feature a group of neighbouring states (section 9.3), binary
- "fourier": cos(π cᵀs) with s scaled to [0, 1] and every c in {0 … order}ᵏ (Konidaris et al. 2011; eq. 9.18)
- a matrix [S, d]: row s is x(s)
"""

from itertools import product
from typing import Any, NamedTuple

import numpy as np
from gymnasium import spaces

from sb3_lecture.common.checks import Integer, as_numbers
from sb3_lecture.common.tile_coding import TileCoder

FEATURES = ("auto", "tiles", "one-hot", "aggregation", "fourier")


class Active(NamedTuple):
    """The features of n observations that are not 0: their numbers int64 [n, k], their values float64 [n, k]."""

    entry: np.ndarray
    value: np.ndarray


class StateFeatures:
    """Features of a finite space, looked up in a table of its S states.

    :param space: Discrete or MultiDiscrete (the last entry changes fastest)
    :param features: "one-hot", "aggregation", or a matrix [S, d]
    :param n_groups: groups of the aggregation
    :raises ValueError: if they do not fit each other
    """

    def __init__(self, space: spaces.Discrete | spaces.MultiDiscrete, features: Any, n_groups: int) -> None:
        self.sizes = np.atleast_1d(space.n if isinstance(space, spaces.Discrete) else space.nvec).ravel().astype(np.int64)
        self.start = np.atleast_1d(space.start).ravel().astype(np.int64)
        n_states = int(np.prod(self.sizes))
        if isinstance(features, str):
            index = np.arange(n_states)[:, None]  # [S, 1]
            if features == "aggregation":
                Integer(1).check("n_groups", n_groups)
                if n_groups > n_states:
                    raise ValueError(f"n_groups={n_groups} is more than the {n_states} states")
                index = index * int(n_groups) // n_states
            value, self.size, self.binary = np.ones(index.shape), int(index[-1, 0]) + 1, True
        else:
            try:
                matrix = np.array(features, np.float64)
            except (TypeError, ValueError) as error:
                raise ValueError(f"features must be one of {FEATURES} or a matrix of numbers [S, d]: {error}") from None
            if matrix.ndim != 2 or matrix.shape[0] != n_states or not matrix.size or not np.all(np.isfinite(matrix)):
                raise ValueError(
                    f"features must be finite, [S, d], a row for each of the {n_states} states; got shape {matrix.shape}"
                )
            most = max(1, int((matrix != 0.0).sum(axis=1).max()))
            index = np.argsort(matrix == 0.0, axis=1, kind="stable")[:, :most]  # [S, k], those that are not 0 first
            value = np.take_along_axis(matrix, index, axis=1)
            self.size, self.binary = matrix.shape[1], bool(np.isin(matrix, (0.0, 1.0)).all())
        self.index, self.value = np.ascontiguousarray(index, np.int64), np.ascontiguousarray(value)

    def states(self, observations: Any) -> np.ndarray:
        """Observations [n, …] → states int64 [n]."""
        parts = np.asarray(observations).reshape(-1, self.sizes.size) - self.start
        return (
            parts[:, 0] if self.sizes.size == 1 else np.ravel_multi_index(tuple(parts.T.astype(np.int64)), tuple(self.sizes))
        )

    def __call__(self, observations: Any) -> Active:
        """Features of observations [n, …]."""
        states = self.states(observations)
        return Active(self.index[states], self.value[states])

    def matrix(self) -> np.ndarray:
        """All features of all states, float64 [S, d]."""
        dense = np.zeros((self.index.shape[0], self.size))
        np.add.at(dense, (np.arange(self.index.shape[0])[:, None], self.index), self.value)
        return dense


class TileFeatures:
    """Tile coding of a Box; see :class:`TileCoder`.

    :param low: lowest value of each dimension
    :param high: highest value of each dimension
    :param kwargs: the other arguments are those of :class:`TileCoder`
    """

    binary = True

    def __init__(self, low: np.ndarray, high: np.ndarray, **kwargs: Any) -> None:
        self.tiles = TileCoder(low, high, **kwargs)
        self.size, self._ones = self.tiles.size, np.ones((0, self.tiles.n_tilings))

    def __call__(self, observations: Any) -> Active:
        """Features of observations [n, …]."""
        points = np.ascontiguousarray(observations, np.float64).reshape(-1, self.tiles.low.size)
        if self._ones.shape[0] != points.shape[0]:
            self._ones = np.ones((points.shape[0], self.tiles.n_tilings))
        return Active(self.tiles(points), self._ones)


class FourierFeatures:
    """The Fourier cosine basis of a Box.

    :param low: lowest value of each dimension, finite
    :param high: highest value of each dimension, finite
    :param order: the highest frequency, in half waves across the box
    :raises ValueError: if there are more than 100,000 features
    """

    binary = False

    def __init__(self, low: np.ndarray, high: np.ndarray, order: int) -> None:
        Integer(1).check("order", order)
        self.size = (int(order) + 1) ** low.size
        if self.size > 100_000:
            raise ValueError(f"order={order} in {low.size} dimensions makes {self.size} features; at most 100,000")
        self.low, self.width = low, high - low
        self.c = np.array(list(product(range(int(order) + 1), repeat=low.size)), np.float64).T  # [k, d]
        self._index = np.arange(self.size)

    def __call__(self, observations: Any) -> Active:
        """Features of observations [n, …]."""
        points = np.asarray(observations, np.float64).reshape(-1, self.low.size)
        if not np.isfinite(points).all():
            raise ValueError(f"An observation is not finite: {points[~np.isfinite(points).all(axis=1)][0].tolist()}")
        scaled = np.clip((points - self.low) / self.width, 0.0, 1.0)
        value = np.cos(np.pi * scaled @ self.c)  # [n, d]
        return Active(np.broadcast_to(self._index, value.shape).copy(), value)


Features = StateFeatures | TileFeatures | FourierFeatures


def make_features(
    space: spaces.Space, features: Any = "auto", n_tilings: int = 8, n_tiles: int | list[int] = 8,
    memory_size: int | None = None, n_groups: int = 10, order: int = 3, ranges: Any = None,
) -> Features:  # fmt: skip
    """The features of an observation space.

    :param space: Box, Discrete or MultiDiscrete
    :param features: "auto" (tiles of a Box, one-hot of a finite space), "tiles", "one-hot", "aggregation", "fourier", or a
        matrix [S, d]
    :param n_tilings: see :class:`TileCoder`
    :param n_tiles: see :class:`TileCoder`
    :param memory_size: see :class:`TileCoder`
    :param n_groups: of "aggregation"
    :param order: of "fourier"
    :param ranges: [low, high] for each dimension of a Box; None: the Box's own bounds
    :raises ValueError: if the features do not fit the space
    """
    if isinstance(features, str) and features not in FEATURES:
        raise ValueError(f"features={features!r}; allowed: {', '.join(map(repr, FEATURES))}, or a matrix [S, d]")
    given = not isinstance(features, str)
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        if not given and features in ("tiles", "fourier"):
            raise ValueError(
                f"features={features!r} need a Box observation space, got {space}; allowed: 'one-hot', 'aggregation'"
            )
        return StateFeatures(space, "one-hot" if not given and features == "auto" else features, n_groups)
    if not isinstance(space, spaces.Box):
        raise ValueError(f"Linear features need a Box, Discrete or MultiDiscrete observation space, got {space}")
    if given or features in ("one-hot", "aggregation"):
        what = "a matrix" if given else repr(features)
        raise ValueError(f"features={what} need a Discrete observation space, got {space}; allowed: 'tiles', 'fourier'")
    low, high = _bounds(space, ranges)
    if features == "fourier":
        return FourierFeatures(low, high, order)
    return TileFeatures(low, high, n_tilings=n_tilings, n_tiles=n_tiles, memory_size=memory_size)


def _bounds(space: spaces.Box, ranges: Any) -> tuple[np.ndarray, np.ndarray]:
    """The bounds of a Box, flat."""
    if ranges is None:
        low, high = space.low.ravel().astype(np.float64), space.high.ravel().astype(np.float64)
    else:
        pairs = as_numbers("ranges", ranges)
        if pairs.shape != (int(np.prod(space.shape)), 2):
            raise ValueError(f"ranges={ranges!r}; one [low, high] for each of the {int(np.prod(space.shape))} dimensions")
        low, high = pairs[:, 0], pairs[:, 1]
    if not np.all(np.isfinite(low) & np.isfinite(high) & (high - low < 1e30) & (low < high)):
        raise ValueError(
            f"The observations have no finite range: low={low.tolist()}, high={high.tolist()}; give one with "
            "policy_kwargs={'ranges': [[low, high], …]}, values beyond it count as its border"
        )
    return low, high
