"""Expected Sarsa (van Seijen et al. 2009; Sutton & Barto 2018, eq. 6.9): average over the next action instead of drawing it.

The same expected update as Sarsa without the variance of a', so larger step sizes work. With a greedy target policy
(ε = 0) it is Q-learning.
"""

from sb3_lecture.tabular.base import Rules, TabularAlgorithm
from sb3_lecture.tabular.kernels import Agent, choose, expected_value, rule, step_size


@rule
def update(agent: Agent, i: int, s: int, a: int, r: float, s2: int, terminated: bool, truncated: bool) -> None:
    """Q(s, a) ← Q(s, a) + α [r + γ Σ_a' π(a' | s') Q(s', a') - Q(s, a)] (eq. 6.9)."""
    target = r if terminated else r + agent.gamma * expected_value(agent, s2)
    agent.q[s, a] += step_size(agent, s, a) * (target - agent.q[s, a])


class ExpectedSarsa(TabularAlgorithm):
    """Expected Sarsa.

    :param policy: "TabularPolicy"
    :param env: the env, its id, or a VecEnv
    :param kwargs: the other arguments are those of :class:`TabularAlgorithm`
    """

    def _rules(self) -> Rules:
        return choose, update
