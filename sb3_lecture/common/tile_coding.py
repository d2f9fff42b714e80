"""Tile coding (Sutton & Barto 2018, section 9.5.4): several displaced grids, of each the one tile that holds the point.

Grid t of T is displaced by t (1, 3, 5, …) / T tile widths: odd numbers, because grids that all move along one diagonal
generalise along it too (Miller & Glanz 1996), and those of Sutton's tiles3.py. A displacement by whole tiles changes
nothing, so it is taken modulo the tile width; each grid then has one tile more than asked for in every dimension.

Deviation from tiles3.py: the tiles are numbered one by one, without a hash table, wherever they fit into ``memory_size``;
where they do not, a hash spreads them over it, and tiles that meet there share a weight.
"""

from typing import Any

import numpy as np
from numba import njit

from sb3_lecture.common.checks import Integer, check_arguments

MAX_TILES = 10_000_000  #: tiles that are numbered one by one unless ``memory_size`` says otherwise: 80 MB of weights an action

_njit: Any = njit  # numba's type stubs do not know ``_nrt``


class TileCoder:
    """Tiles of points in a box; points outside count as points on its border.

    :param low: lowest value of each dimension, float [k]
    :param high: highest value of each dimension, float [k]
    :param n_tilings: grids T; a power of two of at least 4 k is the book's advice (default 8)
    :param n_tiles: tiles across the box in each dimension, one number or one a dimension (default 8)
    :param memory_size: weights at most; None: one a tile (default None)
    :raises ValueError: if a number is below 1, a bound is not finite or not above its counterpart, or there are too many tiles
    """

    def __init__(
        self, low: Any, high: Any, n_tilings: int = 8, n_tiles: int | list[int] = 8, memory_size: int | None = None
    ) -> None:
        check_arguments(locals(), n_tilings=Integer(1), memory_size=Integer(1, none=True))
        self.low, self.high = np.array(low, np.float64).ravel(), np.array(high, np.float64).ravel()  # [k]
        if self.low.shape != self.high.shape or not np.all(np.isfinite(self.low) & np.isfinite(self.high)):
            raise ValueError(f"low={self.low.tolist()}, high={self.high.tolist()}; tiles need two finite bounds a dimension")
        if not np.all(self.low < self.high):
            raise ValueError(f"low={self.low.tolist()} must lie below high={self.high.tolist()} in every dimension")
        tiles = np.asarray(n_tiles)
        if tiles.shape not in ((), self.low.shape):
            raise ValueError(f"n_tiles={n_tiles!r} must be one number, or one for each of {self.low.size} dimensions")
        for n in np.array(n_tiles, object).ravel():
            Integer(1).check("n_tiles", n)
        self.n_tilings, self.n_tiles = int(n_tilings), np.full(self.low.shape, tiles, np.int64)  # [k]
        n_all = self.n_tilings * int(np.prod([int(n) + 1 for n in self.n_tiles], dtype=object))
        limit = MAX_TILES if memory_size is None else int(memory_size)
        if memory_size is None and n_all > limit:
            raise ValueError(f"{n_all} tiles are too many; fewer n_tilings or n_tiles, or memory_size={2**20} to hash them")
        self.hashed = n_all > limit
        self.size = min(n_all, limit)
        self._per_width = self.n_tiles / (self.high - self.low)  # [k], tiles a unit

    def __call__(self, points: np.ndarray) -> np.ndarray:
        """Number of the tile that holds each point, in each grid.

        :param points: float [n, k]
        :return: int64 [n, T]
        :raises ValueError: if a point is not finite
        """
        out = np.empty((points.shape[0], self.n_tilings), np.int64)
        if not tile_indices(points, self.low, self._per_width, self.n_tiles, self.size, self.hashed, out):
            raise ValueError(f"An observation is not finite: {points[~np.isfinite(points).all(axis=1)][0].tolist()}")
        return out


@_njit(cache=True, _nrt=False, error_model="numpy")
def tile_indices(
    points: np.ndarray, low: np.ndarray, per_width: np.ndarray, n_tiles: np.ndarray, size: int, hashed: bool, out: np.ndarray
) -> bool:
    """Write the tile of each point in each grid; False if a point is not finite.

    :param points: float64 [n, k]
    :param low: float64 [k]
    :param per_width: tiles a unit, float64 [k]
    :param n_tiles: tiles across the box, int64 [k]
    :param size: how many numbers there are
    :param hashed: whether tiles share them
    :param out: int64 [n, T]
    """
    n_tilings = out.shape[1]
    for i in range(points.shape[0]):
        for t in range(n_tilings):
            tile = np.uint64(t)
            for j in range(low.shape[0]):
                x = (points[i, j] - low[j]) * per_width[j] * n_tilings  # in T-ths of a tile
                if not np.isfinite(x):
                    return False
                x = min(max(np.floor(x), 0.0), float(n_tiles[j] * n_tilings))
                coordinate = (np.int64(x) + t * (2 * j + 1) % n_tilings) // n_tilings  # 0 … n_tiles
                tile = tile * np.uint64(n_tiles[j] + 1) + np.uint64(coordinate)
                if hashed:  # the mixing function of splitmix64 (Steele, Lea & Flood 2014)
                    tile = tile + np.uint64(0x9E3779B97F4A7C15)
                    tile = (tile ^ (tile >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
                    tile = (tile ^ (tile >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
                    tile = tile ^ (tile >> np.uint64(31))
            out[i, t] = np.int64(tile % np.uint64(size))
    return True
