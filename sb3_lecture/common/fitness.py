"""Scores that searches rank candidates by."""

from typing import Any

import numpy as np

__all__ = ["rank_non_finite_last"]

Array = np.ndarray[Any, Any]


def rank_non_finite_last(fitness: Array) -> tuple[Array, int]:
    """Put −∞ for every score that is NaN or infinite, so that it ranks behind all others.

    NaN compares as neither larger nor smaller: a sort leaves it at the end, where the best stand.

    :param fitness: scores, the larger the better [P]
    :return: float64 [P], and how many were not finite
    :raises ValueError: if none is finite
    """
    finite = np.isfinite(fitness)
    if not finite.any():
        raise ValueError(
            f"the returns of all {len(fitness)} candidates are NaN or infinite, so there is nothing to choose by: look at the "
            "environment's rewards"
        )
    return np.where(finite, fitness, -np.inf), int(len(fitness) - finite.sum())
