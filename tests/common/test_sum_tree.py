"""The sum tree against a linear scan."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_lecture.common.packing import pack, unpack
from sb3_lecture.common.sum_tree import SumTree

priority = st.one_of(st.just(0.0), st.floats(1e-6, 1e6))


def scan(priorities, x):
    """The leaf of a share x by a linear scan, and how near x lies to a border."""
    sums = np.cumsum(priorities)
    borders = np.concatenate(([0.0], sums[np.asarray(priorities) > 0])) / sums[-1]
    return int(np.searchsorted(sums, x * sums[-1], side="right")), np.abs(borders - x).min()


def draw(tree, x):
    """Draw at given shares."""
    real = np.random.random
    np.random.random = lambda size: np.asarray(x)
    try:
        return tree.draw(len(x))
    finally:
        np.random.random = real


@settings(max_examples=100, deadline=None)
@given(
    priorities=st.lists(priority, min_size=1, max_size=100),
    changes=st.lists(st.tuples(st.integers(0, 99), priority), max_size=30),
    x=st.lists(st.floats(0, 1, exclude_max=True), min_size=1, max_size=20),
)
def test_it_is_a_linear_scan(priorities, changes, x):
    tree = SumTree(priorities)
    expected = np.array(priorities)
    changes = [(leaf, value) for leaf, value in changes if leaf < len(priorities)]
    tree.set([leaf for leaf, _ in changes], [value for _, value in changes])
    for leaf, value in changes:
        expected[leaf] = value
    np.testing.assert_array_equal(tree.priorities, expected)
    assert tree.count == np.count_nonzero(expected) and tree.total == pytest.approx(expected.sum())
    if not expected.any():
        with pytest.raises(ValueError, match="no row to draw"):
            tree.draw(1)
        return
    leaves, shares = draw(tree, x)
    np.testing.assert_allclose(shares, expected[leaves] / expected.sum())
    assert (expected[leaves] > 0).all()
    for leaf, share in zip(leaves, x, strict=True):
        by_scan, distance = scan(expected, share)
        assert leaf == by_scan or distance < 1e-12
    again = unpack(*pack(tree)[:2])  # from its file: the leaves determine the sums, to the last bit
    np.testing.assert_array_equal(again._nodes, tree._nodes)
    assert again.count == tree.count


def test_a_stratified_draw_takes_one_of_each_part():
    tree = SumTree(np.ones(64))
    np.testing.assert_array_equal(tree.draw(64, stratified=True)[0], np.arange(64))
    tree = SumTree([1.0, 3.0])
    assert tree.draw(4, stratified=True)[0].tolist() == [0, 1, 1, 1]


def test_draws_follow_the_priorities():
    np.random.seed(0)
    leaves, shares = SumTree([0.0, 1.0, 2.0, 0.0, 7.0]).draw(20_000)
    np.testing.assert_allclose(np.bincount(leaves) / 20_000, [0, 0.1, 0.2, 0, 0.7], atol=0.012)
    np.testing.assert_allclose(shares, np.array([0, 0.1, 0.2, 0, 0.7])[leaves])


def test_sums_do_not_drift():
    tree = SumTree(100)
    rng = np.random.default_rng(0)
    for _ in range(200):
        tree.set(rng.integers(100, size=50), 10.0 ** rng.uniform(-8, 8, 50))
    tree.set(np.arange(100), np.full(100, 1e-3))
    assert tree.total == pytest.approx(0.1, rel=1e-14)


@pytest.mark.parametrize("wrong", [np.nan, np.inf, -1.0])
def test_a_wrong_priority_is_named_and_nothing_is_written(wrong):
    tree = SumTree([1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match=rf"the priority of row 2 is {wrong}"):
        tree.set([0, 2], [5.0, wrong])
    np.testing.assert_array_equal(tree.priorities, [1.0, 2.0, 3.0])
    with pytest.raises(ValueError, match="there is no row 3"):
        tree.set([3], [1.0])
    with pytest.raises(ValueError, match="there is no row -1"):
        tree.set([-1], [1.0])
    with pytest.raises(ValueError, match="as many priorities as leaves"):
        tree.set([1, 2], [1.0])
    with pytest.raises(ValueError, match="finite"):
        SumTree([1.0, wrong])
    with pytest.raises(ValueError, match="at least one"):
        SumTree(0)
    with pytest.raises(ValueError, match="read-only"):
        tree.priorities[0] = 9.0


@pytest.mark.parametrize("n", [3, 20, 300])
def test_what_rounding_leaves_over_finds_no_leaf_of_priority_0(n, monkeypatch):
    """A draw of the whole total, which sums of floats may leave, ends at the last leaf above 0."""
    priorities = np.zeros(n)
    priorities[[0, n // 2]] = 1.0, 2.0
    monkeypatch.setattr(np.random, "random", np.ones)
    leaves, shares = SumTree(priorities).draw(2)
    np.testing.assert_array_equal(leaves, [n // 2, n // 2])
    np.testing.assert_allclose(shares, [2 / 3, 2 / 3])
