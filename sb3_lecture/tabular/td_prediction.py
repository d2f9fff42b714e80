"""Temporal-difference prediction (Sutton 1988; Sutton & Barto 2018, chapters 6, 7 and 12): learn a guess from a guess.

- TD(0): V(s) ← V(s) + α [r + γ V(s') - V(s)] (eq. 6.2).
- n-step TD: n real rewards before the guess (eq. 7.2); ``n_steps`` = 1 is TD(0).
- TD(λ): all n-step returns at once, by eligibility traces (section 12.2); λ = 0 is TD(0). ``offline=True`` keeps the values
  still during an episode and makes all its updates at the end: then λ = 1 is every-visit Monte Carlo.
- True online TD(λ) (van Seijen et al. 2016; section 12.5): exactly the online λ-return algorithm, at TD(λ)'s cost.

Deviation: a trace that has faded below 1e-10 is taken as 0.
"""

from typing import Any, NamedTuple

import numpy as np

from sb3_lecture.tabular.base import Rules, check_choice
from sb3_lecture.tabular.kernels import Agent, rate, rule, step_size
from sb3_lecture.tabular.n_step_sarsa import make_window, n_step_return, pop, push
from sb3_lecture.tabular.prediction import PredictionAlgorithm, act_given
from sb3_lecture.tabular.sarsa_lambda import FADED


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
    """Traces of states, and which of them are not 0."""

    trace: np.ndarray  # float64 [n_envs, S]
    active: np.ndarray  # int64 [n_envs, S], the first ``n_active`` entries name the states that are remembered
    n_active: np.ndarray  # int64 [n_envs]
    pending: np.ndarray  # float64 [n_envs, S], offline: the changes to be made when the episode ends
    old_value: np.ndarray  # float64 [n_envs], true online: V(s) before the last update
    behavior: np.ndarray  # float64 [S, A]


class Lambda(NamedTuple):
    """λ; whether updates wait for the episode's end."""

    lambda_: float
    offline: bool


@rule
def update_n_step(agent: Agent, i: int, s: int, a: int, r: float, s2: int, terminated: bool, truncated: bool) -> None:
    """V(s₀) ← V(s₀) + α [r₁ + … + γⁿ⁻¹ rₙ + γⁿ V(s') - V(s₀)] (eq. 7.2)."""
    memory = agent.memory
    push(memory, i, s, a, r)
    while memory.waiting[i] == memory.reward.shape[1] or ((terminated or truncated) and memory.waiting[i] > 0):
        target = n_step_return(memory, i, agent.gamma, 0.0 if terminated else agent.q[s2, 0])
        s0 = memory.state[i, memory.first[i]]
        agent.q[s0, 0] += step_size(agent, s0, 0) * (target - agent.q[s0, 0])
        pop(memory, i)


@rule
def keep_traces(memory: StateTraces, i: int, fading: float) -> None:
    """Fade all traces of env i; those below FADED are dropped from the list of the active ones."""
    k = 0
    while k < memory.n_active[i]:
        x = memory.active[i, k]
        memory.trace[i, x] *= fading
        if memory.trace[i, x] >= FADED:
            k += 1
        else:
            memory.trace[i, x] = 0.0
            memory.n_active[i] -= 1
            memory.active[i, k] = memory.active[i, memory.n_active[i]]


@rule
def raise_trace(memory: StateTraces, i: int, s: int, by: float) -> None:
    """Add to the trace of s."""
    if memory.trace[i, s] == 0.0:
        memory.active[i, memory.n_active[i]] = s
        memory.n_active[i] += 1
    memory.trace[i, s] += by


@rule
def update_lambda(agent: Agent, i: int, s: int, a: int, r: float, s2: int, terminated: bool, truncated: bool) -> None:
    """e(s) += 1, then V(x) ← V(x) + α δ e(x) for all x, then e ← γλ e (the box of section 12.2)."""
    memory, done = agent.memory, terminated or truncated
    delta = (r if terminated else r + agent.gamma * agent.q[s2, 0]) - agent.q[s, 0]
    agent.visits[s, 0] += 1
    raise_trace(memory, i, s, 1.0)
    for k in range(memory.n_active[i]):
        x = memory.active[i, k]
        change = rate(agent, x, 0) * delta * memory.trace[i, x]
        if agent.options.offline:
            memory.pending[i, x] += change
        else:
            agent.q[x, 0] += change
    keep_traces(memory, i, 0.0 if done else agent.gamma * agent.options.lambda_)
    if done and agent.options.offline:
        for x in range(memory.pending.shape[1]):
            agent.q[x, 0] += memory.pending[i, x]
            memory.pending[i, x] = 0.0


@rule
def update_true_online(agent: Agent, i: int, s: int, a: int, r: float, s2: int, terminated: bool, truncated: bool) -> None:
    """The box of section 12.5 z ← γλz + (1 - αγλ z(s)) x, V += α(δ + V - V_old) z - α(V - V_old) x."""
    memory, done = agent.memory, terminated or truncated
    agent.visits[s, 0] += 1
    alpha, fading = rate(agent, s, 0), agent.gamma * agent.options.lambda_
    value, next_value = agent.q[s, 0], 0.0 if terminated else agent.q[s2, 0]
    delta = r + agent.gamma * next_value - value
    keep_traces(memory, i, fading)
    raise_trace(memory, i, s, 1.0 - alpha * memory.trace[i, s])  # z(s) has faded already: this is αγλ z_old(s)
    moved = value - memory.old_value[i]
    for k in range(memory.n_active[i]):
        x = memory.active[i, k]
        agent.q[x, 0] += alpha * (delta + moved) * memory.trace[i, x]
    agent.q[s, 0] -= alpha * moved
    memory.old_value[i] = 0.0 if done else next_value
    if done:
        keep_traces(memory, i, 0.0)


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
        check_choice("traces", self.traces, ("accumulating", "true-online"))
        if self.n_steps < 1 or (self.lambda_ is not None and self.n_steps != 1):
            raise ValueError(f"n_steps={self.n_steps}, lambda_={self.lambda_}; n_steps is at least 1, and 1 where λ is given")
        if self.lambda_ is not None and not 0.0 <= self.lambda_ <= 1.0:
            raise ValueError(f"lambda_={self.lambda_} is outside [0, 1]")
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
            return WindowAndPolicy(*make_window(n, self.n_steps), behavior=self._followed())
        return StateTraces(
            trace=np.zeros((n, n_states)), active=np.zeros((n, n_states), np.int64), n_active=np.zeros(n, np.int64),
            pending=np.zeros((n, n_states)), old_value=np.zeros(n), behavior=self._followed(),
        )  # fmt: skip
