"""Expected Sarsa (van Seijen et al. 2009; Sutton & Barto 2018, eq. 6.9): average over the next action instead of drawing it.

The same expected update as Sarsa without the variance of a', so larger step sizes work. With a greedy target policy
(ε = 0) it is Q-learning.
"""

from typing import NamedTuple

import numpy as np

from sb3_lecture.common.compiling import rule
from sb3_lecture.common.updates import expected_sarsa
from sb3_lecture.tabular.base import Rules, TabularAlgorithm
from sb3_lecture.tabular.kernels import Agent, behavior, choose, step_size


class Scratch(NamedTuple):
    """Room for one row b(· | s'), float64 [A]."""

    probs: np.ndarray


@rule
def update(agent: Agent, i: int, s: int, a: int, r: float, discount: float, s2: int, last: bool) -> None:
    """Q(s, a) ← Q(s, a) + α [r + γ Σ_a' π(a' | s') Q(s', a') - Q(s, a)] (eq. 6.9)."""
    probs = behavior(agent, s2, agent.memory.probs)
    agent.q[s, a] += step_size(agent, s, a) * expected_sarsa(agent.q[s], a, r, discount, agent.q[s2], probs)


class ExpectedSarsa(TabularAlgorithm):
    """Expected Sarsa.

    :param policy: "TabularPolicy"
    :param env: the env, its id, or a VecEnv
    :param kwargs: the other arguments are those of :class:`TabularAlgorithm`
    """

    def _rules(self) -> Rules:
        return choose, update

    def _make_memory(self) -> NamedTuple:
        return Scratch(probs=np.zeros(self.policy.table.shape[1]))
