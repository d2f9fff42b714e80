"""Watkins's Q(λ) (Watkins 1989; Sutton & Barto 2018, section 12.10): Q-learning with traces that end where exploring begins.

The TD error is Q-learning's. Traces fade by γλ as long as greedy actions are taken; the first exploring action says nothing
about the greedy policy, so it cuts all traces. Deviation as in Sarsa(λ): traces below 1e-10 are 0.
"""

from sb3_lecture.tabular.base import Rules
from sb3_lecture.tabular.kernels import Agent, max_value, rule
from sb3_lecture.tabular.sarsa import act_committed, commit
from sb3_lecture.tabular.sarsa_lambda import SarsaLambda, mark, spread


@rule
def learn(agent: Agent, i: int, s: int, a: int, r: float, s2: int, terminated: bool, truncated: bool, replacing: bool) -> None:
    """δ = r + γ max_a' Q(s', a') - Q(s, a); traces fade if the next action is greedy, and end if not."""
    a2 = commit(agent, i, s2, terminated, truncated)
    best = 0.0 if terminated else max_value(agent.q, s2)
    delta = r + agent.gamma * best - agent.q[s, a]
    greedy_next = not (terminated or truncated) and agent.q[s2, a2] == best
    agent.visits[s, a] += 1
    mark(agent.memory, i, s, a, replacing)
    spread(agent, i, delta, agent.gamma * agent.options.lambda_ if greedy_next else 0.0)


@rule
def update_accumulating(agent: Agent, i: int, s: int, a: int, r: float, s2: int, terminated: bool, truncated: bool) -> None:
    """e(s, a) ← e(s, a) + 1."""
    learn(agent, i, s, a, r, s2, terminated, truncated, False)


@rule
def update_replacing(agent: Agent, i: int, s: int, a: int, r: float, s2: int, terminated: bool, truncated: bool) -> None:
    """e(s, a) ← 1."""
    learn(agent, i, s, a, r, s2, terminated, truncated, True)


class QLambda(SarsaLambda):
    """Watkins's Q(λ).

    :param policy: "TabularPolicy"
    :param env: the env, its id, or a VecEnv
    :param kwargs: the other arguments are those of :class:`SarsaLambda`; ``lambda_`` 0 is Q-learning
    """

    def _rules(self) -> Rules:
        return act_committed, update_replacing if self.traces == "replacing" else update_accumulating
