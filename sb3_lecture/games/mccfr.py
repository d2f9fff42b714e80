"""External-sampling Monte Carlo CFR (Lanctot, Waugh, Zinkevich & Bowling 2009, "Monte Carlo sampling for regret
minimization in extensive games", section 3.2).

An iteration walks the game once for each player: all of that player's own actions are tried, of nature and of the opponent
one is drawn. The regrets so found are unbiased estimates of CFR's, at a small part of the cost:

    r̃(I, a) = ũ(h a) − Σ_b σ(I, b) ũ(h b)                       of the one node h of I that the walk meets       (eq. 10)

The average strategy is summed where the opponent is drawn, which there needs no weight (stochastically weighted averaging).
"""

from typing import Any

import numba
import numpy as np

from sb3_lecture.common.checks import Integer, check_arguments
from sb3_lecture.exact.exploitability_tree import GameTree, TreeArrays
from sb3_lecture.games.base import TreeAlgorithm


@numba.njit(cache=True)
def match_row(regrets: np.ndarray, legal: np.ndarray, s: int, row: np.ndarray) -> None:
    """Write regret matching's probabilities in one information set, float64 [A]."""
    total, n_legal = 0.0, 0
    for a in range(row.shape[0]):
        total += max(regrets[s, a], 0.0)
        n_legal += legal[s, a]
    for a in range(row.shape[0]):
        row[a] = max(regrets[s, a], 0.0) / total if total > 0.0 else legal[s, a] / n_legal


@numba.njit(cache=True)
def draw_child(start: int, end: int, tree: TreeArrays, row: np.ndarray, nature: bool) -> int:
    """Draw one of the children ``start`` to ``end − 1``: by nature, or by a row of action probabilities, float64 [A]."""
    u, i = np.random.random(), start
    while i < end - 1:
        u -= tree.chance[i] if nature else row[tree.action[i]]
        if u < 0.0:
            break
        i += 1
    return i


@numba.njit(cache=True)
def walk(
    tree: TreeArrays, p: int, regrets: np.ndarray, found: np.ndarray, strategy_sum: np.ndarray, met: np.ndarray,
    value: np.ndarray, row: np.ndarray
) -> None:  # fmt: skip
    """Walk the game once for player p.

    :param regrets: summed regrets that σ follows from, float64 [I, A]
    :param found: out: the sampled regrets are added here (``regrets`` itself, when learning: a walk meets a set once)
    :param strategy_sum: out, float64 [I, A]
    :param met: scratch, int64 [N]: the nodes met, parents before children
    :param value: scratch, float64 [N]: player p's sampled payoffs
    :param row: scratch, float64 [A]
    """
    met[0] = 0
    n, k = 1, 0
    while k < n:  # down
        j = met[k]
        k += 1
        start, end, mover = tree.first_child[j], tree.first_child[j + 1], tree.player[j]
        if start == end:
            value[j] = (1.0 - 2.0 * p) * tree.payoff[j]
        elif mover == p:
            for i in range(start, end):
                met[n] = i
                n += 1
        else:
            if mover >= 0:
                s = tree.infoset[j]
                match_row(regrets, tree.legal, s, row)
                for a in range(row.shape[0]):
                    strategy_sum[s, a] += row[a]
            met[n] = draw_child(start, end, tree, row, mover < 0)
            n += 1
    for k in range(n - 1, -1, -1):  # up
        j = met[k]
        start, end = tree.first_child[j], tree.first_child[j + 1]
        if start < end and tree.player[j] == p:
            s, mean = tree.infoset[j], 0.0
            match_row(regrets, tree.legal, s, row)
            for i in range(start, end):
                mean += row[tree.action[i]] * value[i]
            for i in range(start, end):
                found[s, tree.action[i]] += value[i] - mean  # eq. 10
            value[j] = mean
        if k > 0 and tree.player[tree.parent[j]] != p:
            value[tree.parent[j]] = value[j]  # the one child that was drawn


@numba.njit(cache=True)
def mccfr_walks(tree: TreeArrays, n: int, seed: int, regrets: np.ndarray, found: np.ndarray, strategy_sum: np.ndarray) -> None:
    """Walk n times for each player, from a seed; see ``walk``."""
    np.random.seed(seed)
    n_nodes = tree.player.shape[0]
    met, value, row = np.empty(n_nodes, np.int64), np.empty(n_nodes), np.empty(regrets.shape[1])
    for _ in range(n):
        for p in range(2):
            walk(tree, p, regrets, found, strategy_sum, met, value, row)


class MCCFR(TreeAlgorithm):
    """External-sampling Monte Carlo CFR.

    :param policy: "StrategyPolicy" ("MlpPolicy" is another name of it)
    :param env: an env of a game with hidden information, its id, or a VecEnv
    :param walks: walks of each player in an iteration (default 1)
    :param kwargs: the other arguments are those of :class:`TreeAlgorithm`
    :raises ValueError: if an argument is out of its range, the env states no such rules, or the game is too large
    """

    def __init__(self, policy: Any = "StrategyPolicy", env: Any = None, walks: int = 1, **kwargs: Any) -> None:
        check_arguments(locals(), walks=Integer(1))
        self.walks = walks
        super().__init__(policy, env, **kwargs)

    def _iterate(self, tree: GameTree) -> None:
        seed = int(np.random.randint(2**32, dtype=np.uint32))  # of SB3's generator, which files keep
        regrets = self.policy.regrets.numpy()
        mccfr_walks(tree.arrays, int(self.walks), seed, regrets, regrets, self.policy.strategy_sum.numpy())
