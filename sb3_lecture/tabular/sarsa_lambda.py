"""Sarsa(λ) (Rummery & Niranjan 1994; Sutton & Barto 2018, section 12.7): credit flows back along eligibility traces.

Every pair carries a trace that rises when the pair is met and fades by γλ a step; one TD error updates all pairs by their
traces. That mixes all n-step returns with weights (1 - λ) λⁿ⁻¹. An accumulating trace adds 1 at each visit, a replacing one
is set to 1 (Singh & Sutton 1996).

Deviation: a trace that has faded below 1e-10 is taken as 0, so that a step costs as many updates as pairs are remembered.
"""

from typing import Any, NamedTuple

import numpy as np

from sb3_lecture.tabular.base import Rules, TabularAlgorithm, check_choice
from sb3_lecture.tabular.kernels import Agent, rate, rule
from sb3_lecture.tabular.sarsa import act_committed, commit

FADED = 1e-10


class Traces(NamedTuple):
    """Traces, and which of them are not 0."""

    next_action: np.ndarray  # int64 [n_envs]
    trace: np.ndarray  # float64 [n_envs, S, A]
    active_state: np.ndarray  # int64 [n_envs, S * A], the first ``n_active`` entries name the pairs that are remembered
    active_action: np.ndarray  # int64 [n_envs, S * A]
    n_active: np.ndarray  # int64 [n_envs]


class Lambda(NamedTuple):
    """λ."""

    lambda_: float


@rule
def mark(memory: Traces, i: int, s: int, a: int, replacing: bool) -> None:
    """Raise the trace of (s, a)."""
    if memory.trace[i, s, a] == 0.0:
        k = memory.n_active[i]
        memory.active_state[i, k], memory.active_action[i, k] = s, a
        memory.n_active[i] = k + 1
    memory.trace[i, s, a] = 1.0 if replacing else memory.trace[i, s, a] + 1.0


@rule
def spread(agent: Agent, i: int, delta: float, fading: float) -> None:
    """Q(x) ← Q(x) + α δ e(x) for all remembered pairs x, then e(x) ← fading · e(x) (``fading`` 0 forgets them)."""
    memory, k = agent.memory, 0
    while k < memory.n_active[i]:
        s, a = memory.active_state[i, k], memory.active_action[i, k]
        agent.q[s, a] += rate(agent, s, a) * delta * memory.trace[i, s, a]
        memory.trace[i, s, a] *= fading
        if memory.trace[i, s, a] >= FADED:
            k += 1
        else:  # the last one takes its place
            memory.trace[i, s, a] = 0.0
            memory.n_active[i] -= 1
            memory.active_state[i, k] = memory.active_state[i, memory.n_active[i]]
            memory.active_action[i, k] = memory.active_action[i, memory.n_active[i]]


@rule
def learn(agent: Agent, i: int, s: int, a: int, r: float, s2: int, terminated: bool, truncated: bool, replacing: bool) -> None:
    """One step of Sarsa(λ) with either kind of trace."""
    a2 = commit(agent, i, s2, terminated, truncated)
    delta = (r if terminated else r + agent.gamma * agent.q[s2, a2]) - agent.q[s, a]
    agent.visits[s, a] += 1
    mark(agent.memory, i, s, a, replacing)
    spread(agent, i, delta, 0.0 if terminated or truncated else agent.gamma * agent.options.lambda_)


@rule
def update_accumulating(agent: Agent, i: int, s: int, a: int, r: float, s2: int, terminated: bool, truncated: bool) -> None:
    """e(s, a) ← e(s, a) + 1."""
    learn(agent, i, s, a, r, s2, terminated, truncated, False)


@rule
def update_replacing(agent: Agent, i: int, s: int, a: int, r: float, s2: int, terminated: bool, truncated: bool) -> None:
    """e(s, a) ← 1."""
    learn(agent, i, s, a, r, s2, terminated, truncated, True)


class SarsaLambda(TabularAlgorithm):
    """Sarsa(λ).

    :param policy: "TabularPolicy"
    :param env: the env, its id, or a VecEnv
    :param lambda_: λ in [0, 1]; 0 is Sarsa (default 0.9)
    :param traces: "accumulating" or "replacing" (default "replacing")
    :param kwargs: the other arguments are those of :class:`TabularAlgorithm`
    :raises ValueError: if λ or the kind of trace is not one of those
    """

    _per_env = Traces._fields

    def __init__(
        self, policy: Any = "TabularPolicy", env: Any = None, lambda_: float = 0.9, traces: str = "replacing", **kwargs: Any
    ) -> None:
        self.lambda_ = lambda_
        self.traces = traces
        super().__init__(policy, env, **kwargs)

    def _check_arguments(self) -> None:
        super()._check_arguments()
        if not 0.0 <= self.lambda_ <= 1.0:
            raise ValueError(f"lambda_={self.lambda_} is outside [0, 1]")
        check_choice("traces", self.traces, ("accumulating", "replacing"))

    def _rules(self) -> Rules:
        return act_committed, update_replacing if self.traces == "replacing" else update_accumulating

    def _options(self) -> NamedTuple:
        return Lambda(float(self.lambda_))

    def _make_memory(self) -> NamedTuple:
        n, (n_states, n_actions) = self.n_envs, self.policy.table.shape
        return Traces(
            next_action=np.full(n, -1, np.int64), trace=np.zeros((n, n_states, n_actions)),
            active_state=np.zeros((n, n_states * n_actions), np.int64),
            active_action=np.zeros((n, n_states * n_actions), np.int64), n_active=np.zeros(n, np.int64),
        )  # fmt: skip
