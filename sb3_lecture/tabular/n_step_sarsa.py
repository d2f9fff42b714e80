"""n-step Sarsa (Sutton & Barto 2018, section 7.2): n real rewards before the estimate takes over.

The pair of n steps ago is updated towards G = r₁ + γ r₂ + … + γⁿ⁻¹ rₙ + γⁿ Q(s', a') (eq. 7.4). n = 1 is Sarsa, n beyond the
episode's end is Monte Carlo; between the two lies the best trade of bias against variance. When an episode ends, the pairs
still waiting are updated with what is left; at a time limit their returns still end in an estimate.

``expected=True`` is n-step Expected Sarsa: the return ends in Σ_a b(a | s') Q(s', a) (eqs. 7.7 and 7.8) and a' is not needed.
"""

from typing import Any, ClassVar, NamedTuple

import numpy as np

from sb3_lecture.common.checks import FLAG, Integer, check_settings
from sb3_lecture.common.compiling import rule
from sb3_lecture.common.updates import n_step_return
from sb3_lecture.tabular.base import Rules, TabularAlgorithm
from sb3_lecture.tabular.kernels import Agent, choose, expected_value, step_size
from sb3_lecture.tabular.sarsa import act_committed, commit


class Window(NamedTuple):
    """The transitions waiting for their n-step return, as a ring an env."""

    next_action: np.ndarray  # int64 [n_envs]
    state: np.ndarray  # int64 [n_envs, n]
    action: np.ndarray  # int64 [n_envs, n]
    reward: np.ndarray  # float64 [n_envs, n]
    first: np.ndarray  # int64 [n_envs], where the oldest one stands
    waiting: np.ndarray  # int64 [n_envs], how many wait


@rule
def push(memory: Window, i: int, s: int, a: int, r: float) -> None:
    """Let a transition wait."""
    j = (memory.first[i] + memory.waiting[i]) % memory.reward.shape[1]
    memory.state[i, j], memory.action[i, j], memory.reward[i, j] = s, a, r
    memory.waiting[i] += 1


@rule
def pop(memory: Window, i: int) -> None:
    """Forget the oldest transition."""
    memory.first[i] = (memory.first[i] + 1) % memory.reward.shape[1]
    memory.waiting[i] -= 1


@rule
def is_due(memory: Window, i: int, last: bool) -> bool:
    """Whether the oldest transition has waited long enough: n steps, or until the episode's end."""
    return memory.waiting[i] == memory.reward.shape[1] or (last and memory.waiting[i] > 0)


@rule
def oldest_return(memory: Window, i: int, gamma: float, discount: float, value: float) -> float:
    """The n-step return of the oldest transition; ``value`` is what the state reached is worth, if the discount is not 0."""
    return n_step_return(memory.reward[i], memory.first[i], memory.waiting[i], gamma, 0.0 if discount == 0.0 else value)


@rule
def update(agent: Agent, i: int, s: int, a: int, r: float, discount: float, s2: int, last: bool) -> None:
    """Update the pair of n steps ago; at an episode's end all that still wait."""
    memory = agent.memory
    a2 = commit(agent, i, s2, discount, last)
    push(memory, i, s, a, r)
    while is_due(memory, i, last):
        s0, a0 = memory.state[i, memory.first[i]], memory.action[i, memory.first[i]]
        target = oldest_return(memory, i, agent.gamma, discount, agent.q[s2, a2])
        agent.q[s0, a0] += step_size(agent, s0, a0) * (target - agent.q[s0, a0])
        pop(memory, i)


@rule
def update_expected(agent: Agent, i: int, s: int, a: int, r: float, discount: float, s2: int, last: bool) -> None:
    """The same with Σ_a b(a | s') Q(s', a) in place of Q(s', a') (eq. 7.7)."""
    memory = agent.memory
    push(memory, i, s, a, r)
    while is_due(memory, i, last):
        s0, a0 = memory.state[i, memory.first[i]], memory.action[i, memory.first[i]]
        target = oldest_return(memory, i, agent.gamma, discount, expected_value(agent, s2))
        agent.q[s0, a0] += step_size(agent, s0, a0) * (target - agent.q[s0, a0])
        pop(memory, i)


def make_window(n_envs: int, n_steps: int) -> Window:
    """An empty window."""
    shape = (n_envs, n_steps)
    return Window(
        next_action=np.full(n_envs, -1, np.int64), state=np.zeros(shape, np.int64), action=np.zeros(shape, np.int64),
        reward=np.zeros(shape), first=np.zeros(n_envs, np.int64), waiting=np.zeros(n_envs, np.int64),
    )  # fmt: skip


class NStepSarsa(TabularAlgorithm):
    """n-step Sarsa.

    :param policy: "TabularPolicy"
    :param env: the env, its id, or a VecEnv
    :param n_steps: n, rewards before the estimate (default 4)
    :param expected: n-step Expected Sarsa: the estimate is the behaviour policy's expectation (default False)
    :param kwargs: the other arguments are those of :class:`TabularAlgorithm`
    :raises ValueError: if n_steps is below 1 or expected neither True nor False
    """

    _per_env: ClassVar[tuple[str, ...]] = Window._fields

    def __init__(
        self, policy: Any = "TabularPolicy", env: Any = None, n_steps: int = 4, expected: bool = False, **kwargs: Any
    ) -> None:
        self.n_steps = n_steps
        self.expected = expected
        super().__init__(policy, env, **kwargs)

    def _check_arguments(self) -> None:
        super()._check_arguments()
        check_settings(self, n_steps=Integer(1), expected=FLAG)

    def _rules(self) -> Rules:
        return (choose, update_expected) if self.expected else (act_committed, update)

    def _make_memory(self) -> NamedTuple:
        return make_window(self.n_envs, int(self.n_steps))
