"""Tile coding against Sutton's tiles3, and by hand."""

import numpy as np
import pytest

from sb3_lecture.common.tile_coding import TileCoder


def tiles3(point, n_tilings):
    """The tiles of Sutton's tiles3.py, named by their coordinates: ``point`` in units of tiles."""
    scaled, tiles = [int(np.floor(x * n_tilings)) for x in point], []
    for tiling in range(n_tilings):
        coordinates, b = [tiling], tiling
        for q in scaled:
            coordinates.append((q + b) // n_tilings)
            b += 2 * tiling
        tiles.append(tuple(coordinates))
    return tiles


@pytest.mark.parametrize(("k", "n_tilings", "n_tiles"), [(1, 4, 5), (2, 8, 8), (3, 8, [4, 2, 3])])
def test_two_points_share_as_many_tiles_as_in_suttons_tiles(k, n_tilings, n_tiles):
    rng = np.random.default_rng(0)
    low, high = -rng.random(k), 1 + rng.random(k)
    coder = TileCoder(low, high, n_tilings, n_tiles)
    points = low + (high - low) * rng.random((40, k))
    ours = coder(points)
    theirs = [tiles3((p - low) / (high - low) * n_tiles, n_tilings) for p in points]
    assert np.all((ours >= 0) & (ours < coder.size))
    for i in range(40):
        for j in range(40):
            assert (ours[i] == ours[j]).tolist() == [a == b for a, b in zip(theirs[i], theirs[j], strict=True)]


def test_tiles_by_hand():
    line = TileCoder([0.0], [1.0], n_tilings=2, n_tiles=2)  # tiles 0 1 2 of grid 0, 3 4 5 of grid 1 half a tile to the left
    assert line.size == 6
    assert line(np.array([[0.1], [0.3], [0.6], [1.0]])).tolist() == [[0, 3], [0, 4], [1, 4], [2, 5]]
    plane = TileCoder([0.0, 0.0], [1.0, 1.0], n_tilings=4, n_tiles=1)  # displaced by (t, 3 t mod 4) quarters
    # point (0.5, 0.25) is (2, 1) quarters: grids reach (2, 1), (3, 4), (4, 3), (5, 2) → tiles (0, 0), (0, 1), (1, 0), (1, 0)
    assert plane(np.array([[0.5, 0.25]])).tolist() == [[0, 4 + 1, 8 + 2, 12 + 2]]


def test_points_outside_count_as_the_border():
    coder = TileCoder([-1.0, 0.0], [1.0, 2.0])
    np.testing.assert_array_equal(coder(np.array([[-9.0, 1.0], [0.0, 1e300]])), coder(np.array([[-1.0, 1.0], [0.0, 2.0]])))


def test_a_hash_spreads_tiles_evenly():
    everywhere = np.stack(np.meshgrid(np.linspace(0, 1, 64), np.linspace(0, 1, 64)), axis=-1).reshape(-1, 2)
    exact, hashed = TileCoder([0, 0], [1, 1], 8, 16), TileCoder([0, 0], [1, 1], 8, 16, memory_size=1000)
    assert not exact.hashed and exact.size == 8 * 17**2 and hashed.hashed and hashed.size == 1000
    slots = {}
    for tile, slot in zip(exact(everywhere).ravel(), hashed(everywhere).ravel(), strict=True):
        assert slots.setdefault(tile, slot) == slot  # a function of the tile
    n = len(slots)
    expected = 1000 * (1 - (1 - 1 / 1000) ** n)  # slots hit by n random throws
    assert abs(len(set(slots.values())) - expected) < 4 * np.sqrt(1000 * 0.25)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_points_that_are_no_numbers_are_refused(bad):
    with pytest.raises(ValueError, match=r"not finite: .*0\.25"):
        TileCoder([0, 0], [1, 1])(np.array([[0.5, 0.5], [0.25, bad]]))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"high": [np.inf, 1]}, "two finite bounds"),
        ({"high": [0, 1]}, "must lie below"),
        ({"n_tilings": 0}, "n_tilings=0"),
        ({"n_tilings": 2.5}, "n_tilings=2.5"),
        ({"n_tiles": [8, np.nan]}, "n_tiles=nan"),
        ({"n_tiles": [8, 8, 8]}, "must be one number, or one for each of 2 dimensions"),
        ({"n_tiles": 5000}, "too many.*memory_size"),
        ({"memory_size": -1}, "memory_size=-1"),
    ],
)
def test_wrong_arguments_are_named(arguments, message):
    with pytest.raises((ValueError, TypeError), match=message):
        TileCoder(**{"low": [0, 0], "high": [1, 1], **arguments})


def test_numpy_scalars_are_numbers():
    assert TileCoder(0.0, 1.0, np.int64(4), np.array(3)).size == 16
