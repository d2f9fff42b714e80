"""The law of the return under a policy, by the distributional Bellman equation (Bellemare, Dabney & Munos 2017).

    Z(s, a) = R + γ Z(S', A')   in law,   S' and R by the world, A' by π

What a learner keeps of a law is a projection, and dynamic programming with it has a fixed point that can be computed: the law
that C51 (``categorical_law``, on atoms) or QR-DQN (``quantile_law``) would learn from infinite data. On atoms that hold every
return it is the law itself; else it is near: with atoms Δ apart, ℓ₂² ≤ Δ / (1 − γ) (Rowland et al. 2018, proposition 3,
https://arxiv.org/abs/1802.08163), where ℓ₂ is the Cramér distance.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch as th

from sb3_lecture.common.distributional import project
from sb3_lecture.exact.bellman import check_gamma
from sb3_lecture.exact.chain import policy_probabilities
from sb3_lecture_envs.mdp import TabularMDP

__all__ = ["categorical_law", "cramer_distance", "quantile_law"]


def cramer_distance(
    first: npt.ArrayLike, first_points: npt.ArrayLike, second: npt.ArrayLike, second_points: npt.ArrayLike
) -> float:
    """Return ℓ₂ = (∫ (F − G)²)^½ of two discrete laws.

    :param first: probabilities [k]
    :param first_points: of these numbers, in any order [k]
    :param second: probabilities [l]
    :param second_points: of these numbers [l]
    """
    points = np.concatenate((np.asarray(first_points, np.float64), np.asarray(second_points, np.float64)))
    order = np.argsort(points, kind="stable")
    steps = np.concatenate((np.asarray(first, np.float64), -np.asarray(second, np.float64)))[order]
    gaps = np.diff(points[order])
    return float(np.sqrt((np.cumsum(steps)[:-1] ** 2 * gaps).sum()))


def categorical_law(
    mdp: TabularMDP, policy: npt.ArrayLike, gamma: float, atoms: npt.ArrayLike, tol: float = 1e-10, max_sweeps: int = 100_000
) -> np.ndarray:
    """Return the fixed point of Φ T^π on atoms: probabilities, float64 [S, A, m].

    :param mdp: the law of the world
    :param policy: π, probabilities [S, A] or actions [S]
    :param gamma: discount γ
    :param atoms: ascending [m]
    :param tol: largest change of a probability in the last sweep
    :param max_sweeps: sweeps before giving up
    :raises ValueError: if that many sweeps do not suffice
    """
    check_gamma(gamma)
    z = th.as_tensor(np.asarray(atoms, np.float64))
    n_rows = mdp.n_states * mdp.n_actions
    row = th.as_tensor(np.repeat(np.arange(n_rows), np.diff(mdp.row_ptr)))  # of each outcome [T]
    discount = th.as_tensor(np.where(mdp.terminated, 0.0, gamma))
    support = th.as_tensor(np.array(mdp.reward))[:, None] + discount[:, None] * z  # [T, m]
    prob = th.as_tensor(np.array(mdp.prob))[:, None]
    after = th.as_tensor(mdp.next_state.astype(np.int64))
    pi = th.as_tensor(policy_probabilities(mdp, policy))[..., None]  # [S, A, 1]

    def sweep(law: np.ndarray) -> np.ndarray:
        by_state = (pi * th.as_tensor(law).reshape(mdp.n_states, mdp.n_actions, -1)).sum(dim=1)  # [S, m]
        out = th.zeros(n_rows, len(z), dtype=th.float64)
        return out.index_add_(0, row, project(support, prob * by_state[after], z)).numpy()

    start = np.full((n_rows, len(z)), 1.0 / len(z))
    return _fixed_point(sweep, start, tol, max_sweeps).reshape(mdp.n_states, mdp.n_actions, -1)


def quantile_law(
    mdp: TabularMDP, policy: npt.ArrayLike, gamma: float, n_quantiles: int, tol: float = 1e-10, max_sweeps: int = 100_000
) -> np.ndarray:
    """Return a fixed point of Π T^π on quantiles: the (i + ½) / N quantiles, ascending, float64 [S, A, N].

    :param mdp: the law of the world
    :param policy: π, probabilities [S, A] or actions [S]
    :param gamma: discount γ
    :param n_quantiles: N
    :param tol: largest change of a quantile in the last sweep
    :param max_sweeps: sweeps before giving up
    :raises ValueError: if that many sweeps do not suffice
    """
    check_gamma(gamma)
    pi = policy_probabilities(mdp, policy)  # [S, A]
    n_rows, n = mdp.n_states * mdp.n_actions, n_quantiles
    fractions = (np.arange(n) + 0.5) / n

    def sweep(quantiles: np.ndarray) -> np.ndarray:
        law = quantiles.reshape(mdp.n_states, mdp.n_actions, n)
        out = np.empty_like(quantiles)
        for row in range(n_rows):
            entries = slice(mdp.row_ptr[row], mdp.row_ptr[row + 1])
            after, discount = mdp.next_state[entries], np.where(mdp.terminated[entries], 0.0, gamma)
            points = (mdp.reward[entries][:, None, None] + discount[:, None, None] * law[after]).ravel()
            weights = np.repeat((mdp.prob[entries][:, None] * pi[after]).ravel(), n) / n
            order = np.argsort(points, kind="stable")
            heights = np.cumsum(weights[order])
            found = np.searchsorted(heights, fractions * heights[-1] - 1e-12)  # the first whose height reaches τ
            out[row] = points[order][np.minimum(found, len(points) - 1)]
        return out

    start = np.zeros((n_rows, n))
    return _fixed_point(sweep, start, tol, max_sweeps).reshape(mdp.n_states, mdp.n_actions, n)


def _fixed_point(sweep: Callable[[np.ndarray], np.ndarray], law: np.ndarray, tol: float, max_sweeps: int) -> np.ndarray:
    for _ in range(max_sweeps):
        after = sweep(law)
        change = float(np.abs(after - law).max())
        law = after
        if change <= tol:
            return law
    raise ValueError(f"max_sweeps={max_sweeps} do not suffice: the last one changed {change:.3g}, more than tol={tol:g}")
