"""The deadly triad, exactly: what an expected update does to the weights (Sutton & Barto 2018, §11.2–11.3).

Semi-gradient prediction with linear values v = X w moves w, on average over the states d that are updated and the outcomes of
the policy π, by

    w ← w + α Xᵀ D (r + γ P X w − X w)        TD(0), the target bootstrapped
    w ← w + α Xᵀ D (v_π − X w)                Monte Carlo, the target a return

Both are w ← M w + c. Weights converge from everywhere where no eigenvalue of M is larger than 1, and diverge from almost
everywhere where one is. On Baird's star only one of the eight combinations of approximation, bootstrapping and off-policy data
does so.
"""

from dataclasses import dataclass
from itertools import product

import numpy as np

__all__ = ["Combination", "expected_update", "spectral_radius", "triad"]


def expected_update(
    features: np.ndarray, transition: np.ndarray, state_weights: np.ndarray, alpha: float, gamma: float, bootstrapping: bool
) -> np.ndarray:
    """Return M of the expected update w ← M w + c, float64 [d, d].

    :param features: X [S, d]
    :param transition: P of the policy that is evaluated [S, S]
    :param state_weights: d, the share of updates in each state [S]
    :param alpha: step size
    :param gamma: discount γ
    :param bootstrapping: TD(0), or Monte Carlo
    """
    error = features - gamma * transition @ features if bootstrapping else features  # X − γ P X, or X
    return np.eye(features.shape[1]) - alpha * features.T @ (state_weights[:, None] * error)


def spectral_radius(matrix: np.ndarray) -> float:
    """Return the largest absolute value of an eigenvalue."""
    return float(np.abs(np.linalg.eigvals(matrix)).max())


@dataclass(frozen=True)
class Combination:
    """One of the eight combinations of the triad's three on Baird's star.

    :ivar approximation: the book's eight features for seven states, or a table
    :ivar bootstrapping: TD(0), or Monte Carlo
    :ivar off_policy: all states alike (those of b), or the states where π stays, which is the seventh alone
    :ivar matrix: M of the expected update
    """

    approximation: bool
    bootstrapping: bool
    off_policy: bool
    matrix: np.ndarray

    @property
    def radius(self) -> float:
        """Spectral radius of the expected update: above 1 it diverges."""
        return spectral_radius(self.matrix)

    def sweeps(self, weights: np.ndarray, n: int) -> np.ndarray:
        """Return the largest absolute weight after 0 … n expected updates, float64 [n + 1] (all rewards are 0)."""
        sizes = [np.abs(weights).max()]
        for _ in range(n):
            weights = self.matrix @ weights
            sizes.append(np.abs(weights).max())
        return np.array(sizes)


def triad(
    features: np.ndarray, transition: np.ndarray, behaviour_states: np.ndarray, alpha: float = 0.01, gamma: float = 0.99
) -> list[Combination]:
    """Return the eight combinations for one policy: approximation, bootstrapping, off-policy, each with and without.

    :param features: of the approximation [S, d]; without it every state has a weight of its own
    :param transition: of the policy that is evaluated, deterministic or not, with one place where it stays [S, S]
    :param behaviour_states: share of each state in the data of another policy [S]
    :param alpha: step size (default 0.01)
    :param gamma: discount γ (default 0.99)
    """
    stationary = np.linalg.matrix_power(transition, 64)[0]  # where π is in the long run
    combinations = []
    for approximation, bootstrapping, off_policy in product((True, False), repeat=3):
        x = features if approximation else np.eye(len(transition))
        d = behaviour_states if off_policy else stationary
        matrix = expected_update(x, transition, d, alpha, gamma, bootstrapping)
        combinations.append(Combination(approximation, bootstrapping, off_policy, matrix))
    return combinations
