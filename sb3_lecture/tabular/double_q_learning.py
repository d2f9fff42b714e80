"""Double Q-learning (van Hasselt 2010; Sutton & Barto 2018, eq. 6.10): one table picks the best action, another rates it.

The maximum of noisy estimates overestimates the best value. Two tables learned from different samples break that: a coin
says which one learns, and the other one tells it what its own best action is worth. Behaviour and ``predict`` read the mean
of both.
"""

from typing import NamedTuple

import numpy as np

from sb3_lecture.tabular.base import Rules, TabularAlgorithm
from sb3_lecture.tabular.kernels import Agent, below, choose, greedy, rule


class TwoTables(NamedTuple):
    """Q1 and Q2, float64 [2, S, A], and their updates so far, int64 [2, S, A]."""

    tables: np.ndarray
    counts: np.ndarray


@rule
def update(agent: Agent, i: int, s: int, a: int, r: float, s2: int, terminated: bool, truncated: bool) -> None:
    """Q1(s, a) ← Q1(s, a) + α [r + γ Q2(s', argmax_a' Q1(s', a')) - Q1(s, a)] (eq. 6.10), or with 1 and 2 exchanged."""
    tables, counts = agent.memory.tables, agent.memory.counts
    k = below(agent.rng, 2)
    target = r if terminated else r + agent.gamma * tables[1 - k, s2, greedy(tables[k], s2, agent.rng)]
    counts[k, s, a] += 1
    agent.visits[s, a] += 1
    alpha = agent.alpha if agent.alpha >= 0.0 else 1.0 / counts[k, s, a]
    tables[k, s, a] += alpha * (target - tables[k, s, a])
    agent.q[s, a] = 0.5 * (tables[0, s, a] + tables[1, s, a])


class DoubleQLearning(TabularAlgorithm):
    """Double Q-learning.

    :param policy: "TabularPolicy"
    :param env: the env, its id, or a VecEnv
    :param kwargs: the other arguments are those of :class:`TabularAlgorithm`
    """

    def _rules(self) -> Rules:
        return choose, update

    def _make_memory(self) -> NamedTuple:
        shape = (2, *self.policy.table.shape)
        return TwoTables(tables=np.full(shape, self.initial_value, np.float64), counts=np.zeros(shape, np.int64))
