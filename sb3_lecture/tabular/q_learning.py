"""Q-learning (Watkins 1989; Sutton & Barto 2018, eq. 6.8): learn the optimal values while behaving otherwise.

The target takes the best action in the next state, whatever the behaviour policy will do there. So the table tends to q*
as long as every pair keeps being tried, and exploration may go on for ever: the method is off-policy.

Deviation from the book: a time limit is no terminal state, so the target of a truncated step still looks ahead.
"""

from sb3_lecture.common.compiling import rule
from sb3_lecture.common.updates import q_learning
from sb3_lecture.tabular.base import Rules, TabularAlgorithm
from sb3_lecture.tabular.kernels import Agent, choose, step_size


@rule
def update(agent: Agent, i: int, s: int, a: int, r: float, discount: float, s2: int, last: bool) -> None:
    """Q(s, a) ← Q(s, a) + α [r + γ max_a' Q(s', a') - Q(s, a)] (eq. 6.8)."""
    agent.q[s, a] += step_size(agent, s, a) * q_learning(agent.q[s], a, r, discount, agent.q[s2])


class QLearning(TabularAlgorithm):
    """Q-learning.

    :param policy: "TabularPolicy"
    :param env: the env, its id, or a VecEnv
    :param kwargs: the other arguments are those of :class:`TabularAlgorithm`
    """

    def _rules(self) -> Rules:
        return choose, update
