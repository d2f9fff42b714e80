"""Mathematics of a population of players: who to meet, how strong each is, and what a mixture of them plays.

A payoff matrix M [n, n] holds what member i wins against member j on the average of both seats, so M = −Mᵀ.
"""

import numpy as np

from sb3_lecture.exact.exploitability_kernels import fill_reach
from sb3_lecture.exact.exploitability_tree import GameTree

WEIGHTINGS = ("hard", "even", "uniform", "latest")


def meeting_weights(win_rates: np.ndarray, weighting: str = "hard", power: float = 2.0) -> np.ndarray:
    """How often to meet each opponent: prioritised fictitious self-play (Vinyals et al. 2019, AlphaStar, methods).

    :param win_rates: p of the learner against each, float [n] in [0, 1]
    :param weighting: "hard": f(p) = (1 − p)^power, those that one loses to; "even": p (1 − p), those of one's own strength;
        "uniform": all alike, fictitious self-play; "latest": the newest alone, plain self-play
    :param power: of "hard" (default 2)
    :return: float64 [n], summing to 1; uniform where all would be 0
    :raises ValueError: for an unknown weighting, no opponents, or rates outside [0, 1]
    """
    p = np.asarray(win_rates, np.float64)
    if weighting not in WEIGHTINGS:
        raise ValueError(f"weighting={weighting!r} is unknown: choose one of {', '.join(WEIGHTINGS)}")
    if p.ndim != 1 or not len(p) or not ((p >= 0) & (p <= 1)).all():
        raise ValueError(f"win_rates={win_rates!r} must be at least one number, all from 0 to 1")
    if weighting == "latest":
        return np.eye(len(p))[-1]
    weights = {"hard": (1.0 - p) ** power, "even": p * (1.0 - p), "uniform": np.ones(len(p))}[weighting]
    total = weights.sum()
    return weights / total if total > 0 else np.full(len(p), 1.0 / len(p))


def elo_ratings(win_rates: np.ndarray, iterations: int = 1000, draws: float = 0.5) -> np.ndarray:
    """Fit Elo ratings to a table of expected scores: Bradley & Terry 1952 by Hunter 2004, eq. 3.

    :param win_rates: expected score of row against column, float [n, n]; the diagonal does not count
    :param iterations: steps (default 1000)
    :param draws: games that every pair is also given as drawn, without which a member that never loses has no rating
    :return: float64 [n], mean 0; 400 points are odds of 10 to 1
    """
    n = len(win_rates)
    scores = np.asarray(win_rates, np.float64) + draws / 2.0  # of 1 + draws games
    np.fill_diagonal(scores, 0.0)
    wins, strength = scores.sum(axis=1), np.ones(n)
    for _ in range(iterations):
        odds = (1.0 + draws) / (strength[:, None] + strength[None, :])
        np.fill_diagonal(odds, 0.0)
        strength = wins / odds.sum(axis=1) if n > 1 else strength
        strength /= np.exp(np.log(strength).mean())
    return 400.0 * np.log10(strength)


def alpha_rank(payoffs: np.ndarray, alpha: float = 10.0, population: int = 50) -> np.ndarray:
    """How much of the time evolution spends at each member: α-rank of a symmetric game (Omidshafiei et al. 2019, section 3.1).

    In a population of m players of member i a mutant of member j takes over with probability

        ρ = (1 − e^{−α d}) / (1 − e^{−α m d}),  d = M[j, i] − M[i, j],  or 1/m where d = 0;

    the Markov chain that goes from i to j with ρ / (n − 1) has the stationary law that is returned.

    :param payoffs: M, float [n, n]
    :param alpha: α, how strong selection is (default 10)
    :param population: m (default 50)
    :return: float64 [n], summing to 1
    """
    payoffs = np.asarray(payoffs, np.float64)
    n = len(payoffs)
    if n == 1:
        return np.ones(1)
    d = np.clip(alpha * (payoffs.T - payoffs), -600.0 / population, 600.0 / population)  # [i, j]
    with np.errstate(divide="ignore", invalid="ignore"):
        rho = np.where(np.abs(d) < 1e-12, 1.0 / population, np.expm1(-d) / np.expm1(-population * d))
    chain = rho / (n - 1)
    np.fill_diagonal(chain, 0.0)
    np.fill_diagonal(chain, 1.0 - chain.sum(axis=1))
    system = np.vstack([chain.T - np.eye(n), np.ones(n)])
    law = np.linalg.lstsq(system, np.append(np.zeros(n), 1.0), rcond=None)[0]
    law = np.maximum(law, 0.0)
    return law / law.sum()


def nash_mixture(payoffs: np.ndarray, iterations: int = 20_000) -> np.ndarray:
    """A mixture of members that no member beats: regret matching+ in self-play on M, linear averaging.

    :param payoffs: M, float [n, n]
    :param iterations: steps (default 20,000)
    :return: float64 [n], summing to 1
    """
    payoffs = np.asarray(payoffs, np.float64)
    n = len(payoffs)
    regrets, total = np.zeros((2, n)), np.zeros((2, n))

    def match(row: np.ndarray) -> np.ndarray:
        return row / row.sum() if row.sum() > 0 else np.full(n, 1.0 / n)

    for t in range(iterations):
        for p, matrix in enumerate((payoffs, -payoffs.T)):  # the players take turns
            values = matrix @ match(regrets[1 - p])
            mine = match(regrets[p])
            total[p] += (t + 1) * mine
            regrets[p] = np.maximum(regrets[p] + values - mine @ values, 0.0)
    mixture = total.sum(axis=0)
    return mixture / mixture.sum()


def mix_strategies(tree: GameTree, tables: list[np.ndarray], weights: np.ndarray) -> np.ndarray:
    """The behaviour strategy of drawing a member before each game and playing it to the end.

    In a set a member counts by its weight and by how likely *it* comes there (Kuhn 1953):
    Σ_k w_k π_k(I) σ_k(I, a) / Σ_k w_k π_k(I).

    :param tree: the game
    :param tables: the members' strategies, float64 [I, A] each
    :param weights: float [n], summing to 1
    :return: float64 [I, A]
    """
    n_nodes = len(tree.arrays.player)
    own, others = np.empty(n_nodes), np.empty(n_nodes)
    total = np.zeros(tree.legal.shape)
    first = np.full(tree.n_infosets, -1)
    deciding = np.flatnonzero(tree.arrays.infoset >= 0)[::-1]
    first[tree.arrays.infoset[deciding]] = deciding  # a node of each set: all have the same own past
    for table, weight in zip(tables, weights, strict=True):
        for p in (0, 1):
            fill_reach(tree.arrays, table, p, own, others)
            mine = tree.player == p
            total[mine] += weight * own[first[mine]][:, None] * table[mine]
    reached = total.sum(axis=1, keepdims=True)
    return np.where(reached > 0, total / np.where(reached > 0, reached, 1.0), tree.uniform)
