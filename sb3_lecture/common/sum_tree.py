"""A sum tree: draws among a million in proportion to their priorities, in the time of a few memory reads.

Every node holds the sum of its children, the leaves hold the priorities. A number x in [0, total) belongs to the leaf that is
found by going down: to the first child whose sum exceeds what is left of x, less the sums of the children before it (Schaul et
al. 2016, appendix B.2.1, https://arxiv.org/abs/1511.05952). A node has eight children here, not two: eight float64 are one
cache line, and a million leaves are seven levels down instead of twenty.

Sums are added anew from the children whenever one of these changes, never corrected by differences: they do not drift, and the
leaves alone determine the tree.
"""

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

__all__ = ["SumTree"]

BRANCHES = 8
FINE, NOT_FINITE, OUTSIDE = 0, 1, 2


@njit(cache=True)
def _sum_up(nodes, offsets, level, parent):  # type: ignore[no-untyped-def]
    """Sum of the children, at ``level``, of the node ``parent`` one level up."""
    total = 0.0
    first = offsets[level] + BRANCHES * parent
    for i in range(first, first + BRANCHES):
        total += nodes[i]
    return total


@njit(cache=True)
def _build(nodes, offsets):  # type: ignore[no-untyped-def]
    """Fill in all sums above the leaves."""
    for level in range(offsets.shape[0] - 2):
        for parent in range((offsets[level + 1] - offsets[level]) // BRANCHES):
            nodes[offsets[level + 1] + parent] = _sum_up(nodes, offsets, level, parent)


@njit(cache=True)
def _set(nodes, offsets, n, leaves, priorities):  # type: ignore[no-untyped-def]
    """Write leaves and the sums above them, all or none.

    :return: FINE or what is wrong; where (an index into ``leaves``); by how much the number of leaves above 0 has grown
    """
    for b in range(leaves.shape[0]):
        if not 0.0 <= priorities[b] < np.inf:
            return NOT_FINITE, b, 0
        if not 0 <= leaves[b] < n:
            return OUTSIDE, b, 0
    grown = 0
    for b in range(leaves.shape[0]):
        j = leaves[b]
        grown += int(priorities[b] > 0.0) - int(nodes[j] > 0.0)
        nodes[j] = priorities[b]
        for level in range(offsets.shape[0] - 2):
            j //= BRANCHES
            nodes[offsets[level + 1] + j] = _sum_up(nodes, offsets, level, j)
    return FINE, 0, grown


@njit(cache=True)
def _find(nodes, offsets, x, leaves, shares):  # type: ignore[no-untyped-def]
    """Find the leaf of each x in [0, 1), a share of the total; write the leaves and their shares."""
    top = offsets.shape[0] - 2
    total = nodes[offsets[top]]
    for b in range(x.shape[0]):
        left, j = x[b] * total, 0
        for level in range(top - 1, -1, -1):
            first = offsets[level] + BRANCHES * j
            child = -1
            for i in range(BRANCHES):
                if nodes[first + i] > 0.0:
                    child = i  # the last one above 0, should rounding leave more of x than there is
                    if left < nodes[first + i]:
                        break
                    left -= nodes[first + i]
            j = BRANCHES * j + child
        leaves[b], shares[b] = j, nodes[j] / total


class SumTree:
    """Priorities of n leaves, and draws in proportion to them.

    :param priorities: float [n], at least 0; a number n: n zeros
    :raises ValueError: if one of them is negative, infinite or NaN
    """

    def __init__(self, priorities: npt.ArrayLike | int) -> None:
        leaves = np.zeros(priorities) if isinstance(priorities, (int, np.integer)) else np.asarray(priorities, np.float64)
        if leaves.ndim != 1 or len(leaves) == 0:
            raise ValueError(f"a sum tree needs a row of at least one priority, got the shape {leaves.shape}")
        if not ((leaves >= 0.0) & (leaves < np.inf)).all():
            raise ValueError("priorities must be finite numbers of at least 0")
        sizes = [len(leaves)]
        while sizes[-1] > 1:
            sizes.append(-(-sizes[-1] // BRANCHES))
        offsets = [0]
        for size in sizes:
            offsets.append(offsets[-1] + -(-size // BRANCHES) * BRANCHES)  # each level fills whole cache lines
        self._offsets = np.array(offsets)  # of the levels, leaves first, root last, and the end
        raw = np.zeros(offsets[-1] + BRANCHES)
        start = -raw.ctypes.data % (8 * BRANCHES) // 8
        self._nodes = raw[start : start + offsets[-1]]  # begins at a cache line
        self._n = len(leaves)
        self._nodes[: self._n] = leaves
        self.count = int(np.count_nonzero(leaves))
        _build(self._nodes, self._offsets)

    def __len__(self) -> int:
        return self._n

    @property
    def total(self) -> float:
        """Sum of all priorities."""
        return float(self._nodes[self._offsets[-2]])

    @property
    def priorities(self) -> np.ndarray[Any, Any]:
        """The priorities, a read-only view, float64 [n]."""
        view = self._nodes[: self._n]
        view.flags.writeable = False
        return view

    def set(self, leaves: npt.ArrayLike, priorities: npt.ArrayLike) -> None:
        """Give leaves new priorities, all or, if one is wrong, none; of a leaf that is named twice the last counts.

        :param leaves: int [B]
        :param priorities: float [B], at least 0; 0: not to be drawn
        :raises ValueError: if a priority is NaN, infinite or negative, or there is no such leaf
        """
        where = np.asarray(leaves, np.int64)
        values = np.asarray(priorities, np.float64)
        if where.shape != values.shape or where.ndim != 1:
            raise ValueError(
                f"as many priorities as leaves are needed, in a row; got the shapes {values.shape}, {where.shape}"
            )
        wrong, at, grown = _set(self._nodes, self._offsets, self._n, where, values)
        if wrong == NOT_FINITE:
            raise ValueError(f"the priority of row {where[at]} is {values[at]}, it must be a finite number of at least 0")
        if wrong == OUTSIDE:
            raise ValueError(f"there is no row {where[at]}, rows are counted from 0 to {self._n - 1}")
        self.count += grown

    def draw(self, size: int, stratified: bool = False) -> tuple[np.ndarray[Any, Any], np.ndarray[Any, Any]]:
        """Draw leaves in proportion to their priorities, with replacement, by NumPy's global generator.

        :param size: how many, B
        :param stratified: one from each of B equal parts of the total (Schaul et al.): the same law for each, and a minibatch
            that varies less (default False)
        :return: the leaves, int64 [B], and their shares of the total, float64 [B]
        :raises ValueError: if all priorities are 0
        """
        if self.count == 0:
            raise ValueError("there is no row to draw: all priorities are 0")
        x = np.random.random(size)
        if stratified:
            x = (np.arange(size) + x) / size
        leaves, shares = np.empty(size, np.int64), np.empty(size)
        _find(self._nodes, self._offsets, x, leaves, shares)
        return leaves, shares
