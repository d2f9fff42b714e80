"""n-step Sarsa (Sutton & Barto 2018, section 7.2): n real rewards before the estimate takes over.

The pair of n steps ago is updated towards G = r₁ + γ r₂ + … + γⁿ⁻¹ rₙ + γⁿ Q(s', a') (eq. 7.4). n = 1 is Sarsa, n beyond the
episode's end is Monte Carlo; between the two lies the best trade of bias against variance. When an episode ends, the pairs
still waiting are updated with what is left; at a time limit their returns still end in an estimate.
"""

from typing import Any, NamedTuple

import numpy as np

from sb3_lecture.tabular.base import Rules, TabularAlgorithm
from sb3_lecture.tabular.kernels import Agent, rule, step_size
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
def n_step_return(memory: Window, i: int, gamma: float, value: float) -> float:
    """G of the oldest transition waiting: its rewards up to now, then ``value`` (eq. 7.4)."""
    n = memory.reward.shape[1]
    for k in range(memory.waiting[i] - 1, -1, -1):
        value = memory.reward[i, (memory.first[i] + k) % n] + gamma * value
    return value


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
def update(agent: Agent, i: int, s: int, a: int, r: float, s2: int, terminated: bool, truncated: bool) -> None:
    """Update the pair of n steps ago; at an episode's end all that still wait."""
    memory = agent.memory
    a2 = commit(agent, i, s2, terminated, truncated)
    push(memory, i, s, a, r)
    while memory.waiting[i] == memory.reward.shape[1] or ((terminated or truncated) and memory.waiting[i] > 0):
        target = n_step_return(memory, i, agent.gamma, 0.0 if terminated else agent.q[s2, a2])
        s0, a0 = memory.state[i, memory.first[i]], memory.action[i, memory.first[i]]
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
    :param kwargs: the other arguments are those of :class:`TabularAlgorithm`
    :raises ValueError: if n_steps is below 1
    """

    _per_env = Window._fields

    def __init__(self, policy: Any = "TabularPolicy", env: Any = None, n_steps: int = 4, **kwargs: Any) -> None:
        self.n_steps = n_steps
        super().__init__(policy, env, **kwargs)

    def _check_arguments(self) -> None:
        super()._check_arguments()
        if self.n_steps < 1:
            raise ValueError(f"n_steps={self.n_steps}; at least 1 (which is Sarsa)")

    def _rules(self) -> Rules:
        return act_committed, update

    def _make_memory(self) -> NamedTuple:
        return make_window(self.n_envs, self.n_steps)
