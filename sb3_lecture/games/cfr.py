"""Counterfactual regret minimisation (Zinkevich, Johanson, Bowling & Piccione 2007, "Regret minimization in games with
incomplete information").

Every information set minimises its own regret by regret matching; the *average* strategy approaches an equilibrium of a
zero-sum game of two. With π_{-p}(h) the probability with which the others and nature let node h be reached,

    v(I, a) = Σ_{h ∈ I} π_{-p}(h) u_p(h a)                     counterfactual value                       (eq. 5)
    R(I, a) ← R(I, a) + v(I, a) − Σ_b σ(I, b) v(I, b)          summed regret                              (eq. 7)
    σ(I, a) ∝ max(R(I, a), 0), uniform where none is positive  regret matching                            (eq. 8)
    σ̄(I, a) ∝ Σ_t w_t π_p^t(I) σ^t(I, a)                       the average, w_t = 1                       (eq. 4)

Deviations, which are OpenSpiel's and everybody's by now: the players take turns within an iteration
(``alternating=False``: both at once, as in the paper); ``averaging="linear"`` weighs iteration t by t.
"""

from typing import Any

import numba
import numpy as np

from sb3_lecture.common.checks import FLAG, Choice, check_arguments
from sb3_lecture.exact.exploitability_kernels import fill_reach, fill_values
from sb3_lecture.exact.exploitability_tree import GameTree, TreeArrays
from sb3_lecture.games.base import TreeAlgorithm

AVERAGES = {"uniform": 0.0, "linear": 1.0, "quadratic": 2.0}


@numba.njit(cache=True)
def match_regrets(regrets: np.ndarray, legal: np.ndarray, sigma: np.ndarray) -> None:
    """Write σ(I, a) ∝ max(R(I, a), 0), uniform over the legal actions where none is positive; [I, A], in place (eq. 8)."""
    n_sets, n_actions = regrets.shape
    for s in range(n_sets):
        total, n_legal = 0.0, 0
        for a in range(n_actions):
            total += max(regrets[s, a], 0.0)
            n_legal += legal[s, a]
        for a in range(n_actions):
            if total > 0.0:
                sigma[s, a] = max(regrets[s, a], 0.0) / total
            else:
                sigma[s, a] = 1.0 / n_legal if legal[s, a] else 0.0


@numba.njit(cache=True)
def add_regrets(
    tree: TreeArrays, p: int, value: np.ndarray, own: np.ndarray, others: np.ndarray, sigma: np.ndarray, weight: float,
    regrets: np.ndarray, strategy_sum: np.ndarray
) -> None:  # fmt: skip
    """Add player p's regrets of this iteration, and its strategy to the average; in place.

    :param value: the first player's expected payoff of every node under σ, float64 [N]
    :param own: π_p(h), float64 [N]
    :param others: π_{-p}(h), float64 [N]
    :param weight: w_t of the average
    """
    sign, counted = 1.0 - 2.0 * p, np.zeros(sigma.shape[0], np.bool_)
    for j in range(value.shape[0]):
        if tree.player[j] != p:
            continue
        s = tree.infoset[j]
        for i in range(tree.first_child[j], tree.first_child[j + 1]):
            regrets[s, tree.action[i]] += others[j] * sign * (value[i] - value[j])  # eq. 7
        if not counted[s]:  # all nodes of a set have the same own past, hence the same π_p
            counted[s] = True
            for a in range(sigma.shape[1]):
                strategy_sum[s, a] += weight * own[j] * sigma[s, a]  # eq. 4


@numba.njit(cache=True)
def cfr_iteration(
    tree: TreeArrays, regrets: np.ndarray, strategy_sum: np.ndarray, weight: float, alternating: bool, plus: bool
) -> None:
    """One iteration of CFR on summed regrets and the summed strategy, float64 [I, A], in place.

    :param weight: w_t of the average
    :param alternating: whether the second player answers the first's new strategy
    :param plus: whether summed regrets below 0 are forgotten (CFR+)
    """
    n_nodes = tree.player.shape[0]
    sigma = np.empty(regrets.shape)
    value, own, others = np.empty(n_nodes), np.empty(n_nodes), np.empty(n_nodes)
    match_regrets(regrets, tree.legal, sigma)
    fill_values(tree, sigma, value)
    for p in range(2):
        if p == 1 and alternating:
            match_regrets(regrets, tree.legal, sigma)
            fill_values(tree, sigma, value)
        fill_reach(tree, sigma, p, own, others)
        add_regrets(tree, p, value, own, others, sigma, weight, regrets, strategy_sum)
        if plus:
            for s in range(regrets.shape[0]):
                if tree.infoset_player[s] == p:
                    for a in range(regrets.shape[1]):
                        regrets[s, a] = max(regrets[s, a], 0.0)


class CFR(TreeAlgorithm):
    """Counterfactual regret minimisation.

    :param policy: "StrategyPolicy" ("MlpPolicy" is another name of it)
    :param env: an env of a game with hidden information, its id, or a VecEnv
    :param alternating: players take turns within an iteration (default True); False: both at once, as in the paper
    :param averaging: weight of iteration t in the average strategy: "uniform" (1, default), "linear" (t), "quadratic" (t²)
    :param kwargs: the other arguments are those of :class:`TreeAlgorithm`
    :raises ValueError: if an argument is out of its range, the env states no such rules, or the game is too large
    """

    _plus = False

    def __init__(
        self, policy: Any = "StrategyPolicy", env: Any = None, alternating: bool = True, averaging: str = "uniform",
        **kwargs: Any,
    ) -> None:  # fmt: skip
        check_arguments(locals(), alternating=FLAG, averaging=Choice(*AVERAGES))
        self.alternating, self.averaging = alternating, averaging
        super().__init__(policy, env, **kwargs)

    def _iterate(self, tree: GameTree) -> None:
        weight = float(int(self.policy.iteration[0]) + 1) ** AVERAGES[self.averaging]
        cfr_iteration(
            tree.arrays,
            self.policy.regrets.numpy(),
            self.policy.strategy_sum.numpy(),
            weight,
            bool(self.alternating),
            self._plus,
        )
