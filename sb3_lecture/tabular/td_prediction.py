"""Temporal-difference prediction (Sutton 1988; Sutton & Barto 2018, chapters 6, 7 and 12): learn a guess from a guess.

- TD(0): V(s) ← V(s) + α [r + γ V(s') - V(s)] (eq. 6.2).
- n-step TD: n real rewards before the guess (eq. 7.2); ``n_steps`` = 1 is TD(0).
- TD(λ): all n-step returns at once, by eligibility traces (section 12.2); λ = 0 is TD(0). ``offline=True`` keeps the values
  still during an episode and makes all its updates at the end: then λ = 1 is every-visit Monte Carlo.
- True online TD(λ) (van Seijen et al. 2016; section 12.5): exactly the online λ-return algorithm, at TD(λ)'s cost.

With several envs each has its own traces, and true online TD(λ) its own memory of how far its last update moved the state it
is in: what the other envs change meanwhile is not taken for its own.

Deviation: a trace that has faded below 1e-10 is taken as 0.
"""

from typing import Any, NamedTuple

import numpy as np

from sb3_lecture.common.checks import FLAG, Choice, Integer, Real, check_settings
from sb3_lecture.common.compiling import rule
from sb3_lecture.common.updates import accumulating_trace, dutch_trace, td_learning, true_online_change
from sb3_lecture.tabular.base import Rules
from sb3_lecture.tabular.kernels import Agent, rate, step_size
from sb3_lecture.tabular.n_step_sarsa import is_due, make_window, oldest_return, pop, push
from sb3_lecture.tabular.prediction import PredictionAlgorithm, act_given
from sb3_lecture.tabular.traces import fade, make_traces, set_trace


class WindowAndPolicy(NamedTuple):
    """``n_step_sarsa.Window``'s fields, and the policy, float64 [S, A]."""

    next_action: np.ndarray
    state: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    first: np.ndarray
    waiting: np.ndarray
    behavior: np.ndarray


class StateTraces(NamedTuple):
    """``traces.Traces``'s fields for a table of one column, and what TD(λ) remembers besides."""

    trace: np.ndarray
    active_state: np.ndarray
    active_action: np.ndarray
    n_active: np.ndarray
    pending: np.ndarray  # float64 [n_envs, S], offline: the changes to be made when the episode ends
    moved: np.ndarray  # float64 [n_envs], true online: how far the env's last update moved V of the state it is in now
    behavior: np.ndarray  # float64 [S, A], the policy


class Lambda(NamedTuple):
    """λ; whether updates wait for the episode's end."""

    lambda_: float
    offline: bool


@rule
def update_n_step(agent: Agent, i: int, s: int, a: int, r: float, discount: float, s2: int, last: bool) -> None:
    """V(s₀) ← V(s₀) + α [r₁ + … + γⁿ⁻¹ rₙ + γⁿ V(s') - V(s₀)] (eq. 7.2)."""
    memory = agent.memory
    push(memory, i, s, a, r)
    while is_due(memory, i, last):
        s0 = memory.state[i, memory.first[i]]
        target = oldest_return(memory, i, agent.gamma, discount, agent.q[s2, 0])
        agent.q[s0, 0] += step_size(agent, s0, 0) * (target - agent.q[s0, 0])
        pop(memory, i)


@rule
def update_lambda(agent: Agent, i: int, s: int, a: int, r: float, discount: float, s2: int, last: bool) -> None:
    """e(s) += 1, then V(x) ← V(x) + α δ e(x) for all x, then e ← γλ e (the box of section 12.2)."""
    memory = agent.memory
    delta = td_learning(agent.q[s, 0], r, discount, agent.q[s2, 0])
    agent.updates[s, 0] += 1
    set_trace(memory, i, s, 0, accumulating_trace(memory.trace[i, s, 0]))
    for k in range(memory.n_active[i]):
        x = memory.active_state[i, k]
        change = rate(agent, x, 0) * delta * memory.trace[i, x, 0]
        if agent.options.offline:
            memory.pending[i, x] += change
        else:
            agent.q[x, 0] += change
    fade(memory, i, 0.0 if last else agent.gamma * agent.options.lambda_)
    if last and agent.options.offline:
        for x in range(memory.pending.shape[1]):
            agent.q[x, 0] += memory.pending[i, x]
            memory.pending[i, x] = 0.0


@rule
def update_true_online(agent: Agent, i: int, s: int, a: int, r: float, discount: float, s2: int, last: bool) -> None:
    """The box of section 12.5: z ← γλz + (1 - αγλ z(s)) x, V += α (δ + V - V_old) z - α (V - V_old) x."""
    memory, before = agent.memory, agent.q[s2, 0]
    agent.updates[s, 0] += 1
    alpha = rate(agent, s, 0)
    delta = td_learning(agent.q[s, 0], r, discount, before)
    fade(memory, i, agent.gamma * agent.options.lambda_)
    set_trace(memory, i, s, 0, dutch_trace(memory.trace[i, s, 0], alpha))
    for k in range(memory.n_active[i]):
        x = memory.active_state[i, k]
        met = 1.0 if x == s else 0.0
        agent.q[x, 0] += true_online_change(alpha, delta, memory.moved[i], memory.trace[i, x, 0], met)
    memory.moved[i] = 0.0 if last else agent.q[s2, 0] - before
    if last:
        fade(memory, i, 0.0)


class TDPrediction(PredictionAlgorithm):
    """TD prediction.

    :param policy: "TabularPolicy"
    :param env: the env, its id, or a VecEnv
    :param target_policy: π: None for uniform, one action a state [S], or probabilities [S, A]
    :param n_steps: n of n-step TD (default 1, TD(0))
    :param lambda_: λ of TD(λ); None: n-step TD (default None)
    :param traces: "accumulating" (TD(λ)) or "true-online" (default "accumulating")
    :param offline: TD(λ) with all updates at the episode's end (default False)
    :param kwargs: the other arguments are those of :class:`TabularAlgorithm`
    :raises ValueError: if arguments are out of range or contradict each other
    """

    def __init__(
        self,
        policy: Any = "TabularPolicy",
        env: Any = None,
        target_policy: Any = None,
        n_steps: int = 1,
        lambda_: float | None = None,
        traces: str = "accumulating",
        offline: bool = False,
        **kwargs: Any,
    ) -> None:
        self.n_steps = n_steps
        self.lambda_ = lambda_
        self.traces = traces
        self.offline = offline
        super().__init__(policy, env, target_policy, **kwargs)

    def _check_arguments(self) -> None:
        super()._check_arguments()
        check_settings(
            self, traces=Choice("accumulating", "true-online"), n_steps=Integer(1), lambda_=Real(0, 1, none=True), offline=FLAG
        )
        if self.lambda_ is not None:
            if self.n_steps != 1:
                raise ValueError(f"n_steps={self.n_steps}, lambda_={self.lambda_}; n_steps must be 1 where λ is given")
        elif self.traces == "true-online":
            raise ValueError("traces='true-online' is a form of TD(λ): give lambda_")
        if self.offline and (self.lambda_ is None or self.traces == "true-online"):
            raise ValueError("offline=True is a form of TD(λ): give lambda_, and traces='accumulating'")

    @property
    def _per_env(self) -> tuple[str, ...]:  # type: ignore[override]
        fields = WindowAndPolicy._fields if self.lambda_ is None else StateTraces._fields
        return tuple(name for name in fields if name != "behavior")

    def _rules(self) -> Rules:
        if self.lambda_ is None:
            return act_given, update_n_step
        return act_given, update_true_online if self.traces == "true-online" else update_lambda

    def _options(self) -> NamedTuple:
        return Lambda(0.0 if self.lambda_ is None else float(self.lambda_), bool(self.offline))

    def _make_memory(self) -> NamedTuple:
        n, n_states = self.n_envs, self.policy.table.shape[0]
        if self.lambda_ is None:
            return WindowAndPolicy(*make_window(n, int(self.n_steps)), behavior=self._followed())
        return StateTraces(
            *make_traces(n, n_states, 1), pending=np.zeros((n, n_states)), moved=np.zeros(n), behavior=self._followed()
        )
