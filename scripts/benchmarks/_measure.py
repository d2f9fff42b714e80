"""Measure two things in turn, so that a machine whose speed drifts gives an honest ratio."""

import time
from collections.abc import Callable
from typing import NamedTuple

REPEATS = 7


class Row(NamedTuple):
    """One line of the report: rates (more is better) of ours and of a peer, pair by pair.

    :param what: what is compared with what
    :param unit: unit of the rates
    :param ours: our rates, one a repeat
    :param peer: the peer's, or an empty list where ``at_least`` is a figure instead of a ratio
    :param at_least: the bound
    """

    what: str
    unit: str
    ours: list[float]
    peer: list[float]
    at_least: float


def rate(work: Callable[[], int]) -> float:
    """Units of work a second; ``work()`` returns how many it did."""
    start = time.perf_counter()
    return work() / (time.perf_counter() - start)


def in_turn(ours: Callable[[], int], peer: Callable[[], int], repeats: int = REPEATS) -> tuple[list[float], list[float]]:
    """Rates of both, after a warm-up of each, measured ours, peer, ours, peer, …"""
    ours(), peer()
    pairs = [(rate(ours), rate(peer)) for _ in range(repeats)]
    return [a for a, _ in pairs], [b for _, b in pairs]


def alone(ours: Callable[[], int], repeats: int = REPEATS) -> list[float]:
    """Rates after a warm-up."""
    ours()
    return [rate(ours) for _ in range(repeats)]
