"""Sarsa (Rummery & Niranjan 1994; Sutton & Barto 2018, eq. 6.7): learn the values of the policy that is being followed.

The target takes the action that the behaviour policy will really take next, exploration included: the method is on-policy.
With ε fixed the table tends to the values of the best ε-soft policy, not to q*; on the cliff that is the safe way round.

Deviation from the book: at a time limit an action is drawn for the target only; the next episode draws its own.
"""

from typing import NamedTuple

import numpy as np

from sb3_lecture.common.compiling import rule
from sb3_lecture.common.updates import sarsa
from sb3_lecture.tabular.base import Rules, TabularAlgorithm
from sb3_lecture.tabular.kernels import Agent, choose, step_size


class Committed(NamedTuple):
    """The action each env is bound to take next: int64 [n], -1 where it is free."""

    next_action: np.ndarray


@rule
def act_committed(agent: Agent, i: int, s: int) -> int:
    """The action chosen when the last transition was learned from, or a new one."""
    a = agent.memory.next_action[i]
    return a if a >= 0 else choose(agent, i, s)


@rule
def commit(agent: Agent, i: int, s2: int, discount: float, last: bool) -> int:
    """Choose a' in s' and stay bound to it; no choice (0, which counts for nothing) where the episode is over."""
    a2 = 0 if last and discount == 0.0 else choose(agent, i, s2)
    agent.memory.next_action[i] = -1 if last else a2
    return a2


@rule
def update(agent: Agent, i: int, s: int, a: int, r: float, discount: float, s2: int, last: bool) -> None:
    """Q(s, a) ← Q(s, a) + α [r + γ Q(s', a') - Q(s, a)] (eq. 6.7)."""
    a2 = commit(agent, i, s2, discount, last)
    agent.q[s, a] += step_size(agent, s, a) * sarsa(agent.q[s], a, r, discount, agent.q[s2], a2)


class Sarsa(TabularAlgorithm):
    """Sarsa.

    :param policy: "TabularPolicy"
    :param env: the env, its id, or a VecEnv
    :param kwargs: the other arguments are those of :class:`TabularAlgorithm`
    """

    _per_env = ("next_action",)

    def _rules(self) -> Rules:
        return act_committed, update

    def _make_memory(self) -> NamedTuple:
        return Committed(next_action=np.full(self.n_envs, -1, np.int64))
