"""Sarsa(λ) (Rummery & Niranjan 1994; Sutton & Barto 2018, section 12.7): credit flows back along eligibility traces.

Every pair carries a trace that rises when the pair is met and fades by γλ a step; one TD error updates all pairs by their
traces. That mixes all n-step returns with weights (1 - λ) λⁿ⁻¹. An accumulating trace adds 1 at each visit, a replacing one
is set to 1 (Singh & Sutton 1996). True online Sarsa(λ) (van Seijen et al. 2016; sections 12.5 and 12.7, with a feature a pair)
equals the online λ-return algorithm at the cost of a trace; of several envs each corrects for its own changes alone.

Deviation: a trace that has faded below 1e-10 is taken as 0, so that a step costs as many updates as pairs are remembered.
"""

from typing import Any, NamedTuple

import numpy as np

from sb3_lecture.common.checks import Choice, Real, check_settings
from sb3_lecture.common.compiling import rule
from sb3_lecture.common.updates import accumulating_trace, dutch_trace, replacing_trace, sarsa, true_online_change
from sb3_lecture.tabular.base import Rules, TabularAlgorithm
from sb3_lecture.tabular.kernels import Agent, rate
from sb3_lecture.tabular.sarsa import act_committed, commit
from sb3_lecture.tabular.traces import fade, make_traces, set_trace


class CommittedTraces(NamedTuple):
    """``sarsa.Committed``'s and ``traces.Traces``'s fields."""

    next_action: np.ndarray
    trace: np.ndarray
    active_state: np.ndarray
    active_action: np.ndarray
    n_active: np.ndarray
    moved: np.ndarray  # float64 [n_envs], true online: Q - Q_old of the pair each env is bound to


class Lambda(NamedTuple):
    """λ."""

    lambda_: float


@rule
def spread(agent: Agent, i: int, delta: float, fading: float) -> None:
    """Q(x) ← Q(x) + α δ e(x) for all remembered pairs x, then e(x) ← fading · e(x) (``fading`` 0 forgets them)."""
    memory = agent.memory
    for k in range(memory.n_active[i]):
        s, a = memory.active_state[i, k], memory.active_action[i, k]
        agent.q[s, a] += rate(agent, s, a) * delta * memory.trace[i, s, a]
    fade(memory, i, fading)


@rule
def learn(agent: Agent, i: int, s: int, a: int, r: float, discount: float, s2: int, last: bool, trace: float) -> None:
    """One step of Sarsa(λ) with either kind of trace, ``trace`` being what (s, a) has now."""
    a2 = commit(agent, i, s2, discount, last)
    delta = sarsa(agent.q[s], a, r, discount, agent.q[s2], a2)
    agent.updates[s, a] += 1
    set_trace(agent.memory, i, s, a, trace)
    spread(agent, i, delta, 0.0 if last else agent.gamma * agent.options.lambda_)


@rule
def update_accumulating(agent: Agent, i: int, s: int, a: int, r: float, discount: float, s2: int, last: bool) -> None:
    """e(s, a) ← e(s, a) + 1."""
    learn(agent, i, s, a, r, discount, s2, last, accumulating_trace(agent.memory.trace[i, s, a]))


@rule
def update_replacing(agent: Agent, i: int, s: int, a: int, r: float, discount: float, s2: int, last: bool) -> None:
    """e(s, a) ← 1."""
    learn(agent, i, s, a, r, discount, s2, last, replacing_trace(agent.memory.trace[i, s, a]))


@rule
def update_true_online(agent: Agent, i: int, s: int, a: int, r: float, discount: float, s2: int, last: bool) -> None:
    """The box of section 12.7: z ← γλz + (1 - αγλ z(s, a)) x, Q += α (δ + Q - Q_old) z - α (Q - Q_old) x."""
    memory, a2 = agent.memory, commit(agent, i, s2, discount, last)
    before = agent.q[s2, a2]
    agent.updates[s, a] += 1
    alpha, delta = rate(agent, s, a), sarsa(agent.q[s], a, r, discount, agent.q[s2], a2)
    fade(memory, i, agent.gamma * agent.options.lambda_)
    set_trace(memory, i, s, a, dutch_trace(memory.trace[i, s, a], alpha))
    for k in range(memory.n_active[i]):
        x, b = memory.active_state[i, k], memory.active_action[i, k]
        met = 1.0 if x == s and b == a else 0.0
        agent.q[x, b] += true_online_change(alpha, delta, memory.moved[i], memory.trace[i, x, b], met)
    memory.moved[i] = 0.0 if last else agent.q[s2, a2] - before
    if last:
        fade(memory, i, 0.0)


UPDATES = {"accumulating": update_accumulating, "replacing": update_replacing, "true-online": update_true_online}


class SarsaLambda(TabularAlgorithm):
    """Sarsa(λ).

    :param policy: "TabularPolicy"
    :param env: the env, its id, or a VecEnv
    :param lambda_: λ in [0, 1]; 0 is Sarsa (default 0.9)
    :param traces: "accumulating", "replacing" (default) or "true-online"
    :param kwargs: the other arguments are those of :class:`TabularAlgorithm`
    :raises ValueError: if λ or the kind of trace is not one of those
    """

    _per_env = CommittedTraces._fields

    def __init__(
        self, policy: Any = "TabularPolicy", env: Any = None, lambda_: float = 0.9, traces: str = "replacing", **kwargs: Any
    ) -> None:
        self.lambda_ = lambda_
        self.traces = traces
        super().__init__(policy, env, **kwargs)

    def _check_arguments(self) -> None:
        super()._check_arguments()
        check_settings(self, lambda_=Real(0, 1), traces=Choice(*UPDATES))

    def _rules(self) -> Rules:
        return act_committed, UPDATES[self.traces]

    def _options(self) -> NamedTuple:
        return Lambda(float(self.lambda_))

    def _make_memory(self) -> NamedTuple:
        n, (n_states, n_actions) = self.n_envs, self.policy.table.shape
        return CommittedTraces(np.full(n, -1, np.int64), *make_traces(n, n_states, n_actions), np.zeros(n))
