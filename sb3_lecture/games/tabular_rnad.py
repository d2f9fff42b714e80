"""Regularised Nash dynamics on a table, with exact values (Perolat et al. 2021, "From Poincaré recurrence to convergence in
imperfect information games", and Perolat et al. 2022, "Mastering the game of Stratego", methods: DeepNash's core).

Follow-the-regularised-leader circles around an equilibrium; a cost of leaving a *regularisation policy* turns the circle into
a spiral. Three steps, over and over:

1. Reward transformation: whoever plays a in I pays η log(π(a|I) / π_reg(a|I)) to the other.
2. Dynamics until they have settled: with Q the exact values of the transformed game,

       y(I, a) ← y(I, a) + α [Q(I, a) − Σ_b π(I, b) Q(I, b)],   π = softmax(y)           (replicator dynamics, NeuRD's form)

3. Update: π_reg ← π.

The transformed game's equilibrium is unique and attracts; the sequence of them is a proximal-point method, whose limit is an
equilibrium of the game itself. So the *last* policy counts, not an average.

Deviation: steps of size α in the place of continuous time.
"""

from typing import Any, ClassVar

import numba
import numpy as np
import torch as th
from stable_baselines3.common.policies import BasePolicy

from sb3_lecture.common.checks import Integer, Real, check_arguments
from sb3_lecture.exact.exploitability_kernels import fill_reach
from sb3_lecture.exact.exploitability_tree import GameTree, TreeArrays
from sb3_lecture.games.base import TreeAlgorithm
from sb3_lecture.games.policy import StrategyPolicy


class RegularizedPolicy(StrategyPolicy):
    """Logits, and the regularisation policy beside them; takes :class:`StrategyPolicy`'s arguments."""

    log_regular: th.Tensor
    logits: th.Tensor

    def __init__(self, observation_space: Any, action_space: Any, n_infosets: int = 1) -> None:
        super().__init__(observation_space, action_space, n_infosets)
        shape = tuple(self.legal.shape)
        self.register_buffer("logits", th.zeros(shape, dtype=th.float64))
        self.register_buffer("log_regular", th.zeros(shape, dtype=th.float64))  # log π_reg, 0 where illegal

    def put_tree(self, tree: GameTree) -> None:
        """Take the information states over; start from the uniform policy, in both places."""
        super().put_tree(tree)
        if tree.legal.shape == tuple(self.legal.shape):
            self.strategy_sum[:] = th.as_tensor(tree.uniform)
            self.log_regular[:] = th.as_tensor(np.log(np.where(tree.legal, tree.uniform, 1.0)))


@numba.njit(cache=True)
def softmax_rows(logits: np.ndarray, legal: np.ndarray, sigma: np.ndarray) -> None:
    """Write the softmax over the legal actions of every row, float64 [I, A], in place."""
    for s in range(logits.shape[0]):
        largest, total = -np.inf, 0.0
        for a in range(logits.shape[1]):
            if legal[s, a]:
                largest = max(largest, logits[s, a])
        for a in range(logits.shape[1]):
            sigma[s, a] = np.exp(logits[s, a] - largest) if legal[s, a] else 0.0
            total += sigma[s, a]
        for a in range(logits.shape[1]):
            sigma[s, a] /= total


@numba.njit(cache=True)
def regularized_q(tree: TreeArrays, sigma: np.ndarray, cost: np.ndarray, q: np.ndarray, reach: np.ndarray) -> None:
    """Write the expected payoffs of actions in the transformed game, given that the set is reached.

    :param sigma: the policy π of both, float64 [I, A]
    :param cost: η log(π / π_reg), what the mover pays the other, float64 [I, A]
    :param q: out, float64 [I, A]: Q(I, a), the cost of a itself included; 0 where others never let the set be reached
    :param reach: out, float64 [I]: Σ_h π_{-p}(h)
    """
    n_nodes = tree.player.shape[0]
    value, own, others = tree.payoff.copy(), np.empty(n_nodes), np.empty(n_nodes)  # value: the first player's
    for i in range(n_nodes - 1, 0, -1):
        j = tree.parent[i]
        mover = tree.player[j]
        if mover >= 0:
            s, a = tree.infoset[j], tree.action[i]
            value[j] += sigma[s, a] * (value[i] - (1.0 - 2.0 * mover) * cost[s, a])
        else:
            value[j] += tree.chance[i] * value[i]
    q[:], reach[:] = 0.0, 0.0
    for p in range(2):
        sign = 1.0 - 2.0 * p
        fill_reach(tree, sigma, p, own, others)
        for j in range(n_nodes):
            if tree.player[j] == p:
                s = tree.infoset[j]
                reach[s] += others[j]
                for i in range(tree.first_child[j], tree.first_child[j + 1]):
                    q[s, tree.action[i]] += others[j] * (sign * value[i] - cost[s, tree.action[i]])
    for s in range(q.shape[0]):
        for a in range(q.shape[1]):
            q[s, a] = q[s, a] / reach[s] if reach[s] > 0.0 else 0.0


@numba.njit(cache=True)
def rnad_steps(
    tree: TreeArrays, logits: np.ndarray, log_regular: np.ndarray, sigma: np.ndarray, n: int, alpha: float, eta: float
) -> None:
    """Take n steps of the dynamics on the logits, [I, A]; then ``sigma`` is their policy and the regularisation policy."""
    q, reach = np.empty(logits.shape), np.empty(logits.shape[0])
    cost = np.zeros(logits.shape)
    for _ in range(n):
        softmax_rows(logits, tree.legal, sigma)
        for s in range(logits.shape[0]):
            for a in range(logits.shape[1]):
                if tree.legal[s, a]:
                    cost[s, a] = eta * (np.log(max(sigma[s, a], 1e-300)) - log_regular[s, a])
        regularized_q(tree, sigma, cost, q, reach)
        for s in range(logits.shape[0]):
            mean = 0.0
            for a in range(logits.shape[1]):
                mean += sigma[s, a] * q[s, a]
            for a in range(logits.shape[1]):
                if tree.legal[s, a]:
                    logits[s, a] += alpha * (q[s, a] - mean)
    softmax_rows(logits, tree.legal, sigma)
    for s in range(logits.shape[0]):
        for a in range(logits.shape[1]):
            if tree.legal[s, a]:
                log_regular[s, a] = np.log(max(sigma[s, a], 1e-300))


class TabularRNaD(TreeAlgorithm):
    """Regularised Nash dynamics with exact values; one iteration is one regularisation policy.

    :param policy: "StrategyPolicy" ("MlpPolicy" is another name of it)
    :param env: an env of a game with hidden information, its id, or a VecEnv
    :param eta: η, how much leaving the regularisation policy costs (default 0.2)
    :param alpha: α, the size of a step (default 0.1)
    :param steps: of the dynamics between two regularisation policies (default 200)
    :param kwargs: the other arguments are those of :class:`TreeAlgorithm`
    :raises ValueError: if an argument is out of its range, the env states no such rules, or the game is too large
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "StrategyPolicy": RegularizedPolicy,
        "MlpPolicy": RegularizedPolicy,
    }
    policy: RegularizedPolicy

    def __init__(
        self, policy: Any = "StrategyPolicy", env: Any = None, eta: float = 0.2, alpha: float = 0.1, steps: int = 200,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        check_arguments(locals(), eta=Real(above=0), alpha=Real(above=0), steps=Integer(1))
        self.eta, self.alpha, self.steps = eta, alpha, steps
        super().__init__(policy, env, **kwargs)

    def _iterate(self, tree: GameTree) -> None:
        policy = self.policy
        rnad_steps(
            tree.arrays, policy.logits.numpy(), policy.log_regular.numpy(), policy.strategy_sum.numpy(), int(self.steps),
            float(self.alpha), float(self.eta),
        )  # fmt: skip
