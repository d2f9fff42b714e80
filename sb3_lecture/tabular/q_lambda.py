"""Watkins's Q(λ) (Watkins 1989; Sutton & Barto 2018, section 12.10): Q-learning with traces that end where exploring begins.

The TD error is Q-learning's. Traces fade by γλ as long as greedy actions are taken; the first exploring action says nothing
about the greedy policy, so it cuts all traces. Deviation as in Sarsa(λ): traces below 1e-10 are 0.
"""

from sb3_lecture.common.checks import Choice, check_settings
from sb3_lecture.common.compiling import rule
from sb3_lecture.common.updates import accumulating_trace, max_value, q_learning, replacing_trace
from sb3_lecture.tabular.base import Rules
from sb3_lecture.tabular.kernels import Agent
from sb3_lecture.tabular.sarsa import act_committed, commit
from sb3_lecture.tabular.sarsa_lambda import SarsaLambda, spread
from sb3_lecture.tabular.traces import set_trace


@rule
def learn(agent: Agent, i: int, s: int, a: int, r: float, discount: float, s2: int, last: bool, trace: float) -> None:
    """Q-learning's δ; traces fade if the next action is greedy, and end if not. ``trace`` is what (s, a) has now."""
    a2 = commit(agent, i, s2, discount, last)
    delta = q_learning(agent.q[s], a, r, discount, agent.q[s2])
    greedy_next = not last and agent.q[s2, a2] == max_value(agent.q[s2])
    agent.updates[s, a] += 1
    set_trace(agent.memory, i, s, a, trace)
    spread(agent, i, delta, agent.gamma * agent.options.lambda_ if greedy_next else 0.0)


@rule
def update_accumulating(agent: Agent, i: int, s: int, a: int, r: float, discount: float, s2: int, last: bool) -> None:
    """e(s, a) ← e(s, a) + 1."""
    learn(agent, i, s, a, r, discount, s2, last, accumulating_trace(agent.memory.trace[i, s, a]))


@rule
def update_replacing(agent: Agent, i: int, s: int, a: int, r: float, discount: float, s2: int, last: bool) -> None:
    """e(s, a) ← 1."""
    learn(agent, i, s, a, r, discount, s2, last, replacing_trace(agent.memory.trace[i, s, a]))


class QLambda(SarsaLambda):
    """Watkins's Q(λ).

    :param policy: "TabularPolicy"
    :param env: the env, its id, or a VecEnv
    :param kwargs: the other arguments are those of :class:`SarsaLambda`; ``lambda_`` 0 is Q-learning
    """

    def _check_arguments(self) -> None:
        super()._check_arguments()
        check_settings(self, traces=Choice("accumulating", "replacing"))

    def _rules(self) -> Rules:
        return act_committed, update_replacing if self.traces == "replacing" else update_accumulating
