"""Double Q-learning (van Hasselt 2010; Sutton & Barto 2018, eq. 6.10): one table picks the best action, another rates it.

The maximum of noisy estimates overestimates the best value. Two tables learned from different samples break that: a coin
says which one learns, and the other one tells it what its own best action is worth. Behaviour and ``predict`` read the mean
of both.
"""

from typing import Any, NamedTuple

import numpy as np

from sb3_lecture.common.compiling import rule
from sb3_lecture.common.updates import double_q_learning
from sb3_lecture.tabular.base import Rules, TabularAlgorithm
from sb3_lecture.tabular.kernels import Agent, below, choose, greedy


class TwoTables(NamedTuple):
    """Half of Q1 - Q2, so that Q1 = q + half_gap and Q2 = q - half_gap have the mean q, whatever is written into q."""

    half_gap: np.ndarray  # float64 [S, A]
    counts: np.ndarray  # int64 [2, S, A], updates of each table so far
    rows: np.ndarray  # float64 [2, A], room for Q1(s', ·) and Q2(s', ·)
    row: np.ndarray  # float64 [A], room for the learning table's row of s


@rule
def read_row(agent: Agent, k: int, s: int, row: np.ndarray) -> np.ndarray:
    """Q1(s, ·) (k = 0) or Q2(s, ·) (k = 1), written into ``row`` [A]."""
    for b in range(row.shape[0]):
        gap = agent.memory.half_gap[s, b]
        row[b] = agent.q[s, b] + (gap if k == 0 else -gap)
    return row


@rule
def update(agent: Agent, i: int, s: int, a: int, r: float, discount: float, s2: int, last: bool) -> None:
    """Q1(s, a) ← Q1(s, a) + α [r + γ Q2(s', argmax_a' Q1(s', a')) - Q1(s, a)] (eq. 6.10), or with 1 and 2 exchanged."""
    memory = agent.memory
    k = below(agent.rng, 2)  # the table that learns; the other one judges
    mine, other = read_row(agent, k, s2, memory.rows[k]), read_row(agent, 1 - k, s2, memory.rows[1 - k])
    a2 = greedy(mine, agent.rng)
    delta = double_q_learning(read_row(agent, k, s, memory.row), a, r, discount, other, a2)
    memory.counts[k, s, a] += 1
    agent.updates[s, a] += 1
    change = (agent.alpha if agent.alpha >= 0.0 else 1.0 / memory.counts[k, s, a]) * delta
    agent.q[s, a] += 0.5 * change  # one of the two moved: their mean moves by half of it, and so does half their gap
    memory.half_gap[s, a] += 0.5 * change if k == 0 else -0.5 * change


class DoubleQLearning(TabularAlgorithm):
    """Double Q-learning.

    :param policy: "TabularPolicy"
    :param env: the env, its id, or a VecEnv
    :param kwargs: the other arguments are those of :class:`TabularAlgorithm`
    """

    def _rules(self) -> Rules:
        return choose, update

    def _make_memory(self) -> NamedTuple:
        n_states, n_actions = self.policy.table.shape
        return TwoTables(
            half_gap=np.zeros((n_states, n_actions)), counts=np.zeros((2, n_states, n_actions), np.int64),
            rows=np.zeros((2, n_actions)), row=np.zeros(n_actions),
        )  # fmt: skip

    @property
    def q_tables(self) -> np.ndarray:
        """Q1 and Q2, float64 [2, S, A], a copy. Their mean is ``q_table``; what is written there moves both."""
        half_gap = self.memory.half_gap.numpy()  # type: ignore[operator]
        return np.stack([self.q_table + half_gap, self.q_table - half_gap])

    @staticmethod
    def _translate_memory(old: dict[str, Any]) -> None:
        if "tables" in old:  # files of 0.1.0 held both tables
            tables = old.pop("tables")
            old["half_gap"] = 0.5 * (tables[0] - tables[1])
