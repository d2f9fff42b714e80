"""Off-policy n-step Sarsa (Sutton & Barto 2018, section 7.3): follow one policy, learn the values of another.

The behaviour policy b explores; the target policy π is ε-greedy with an ε of its own, greedy as a rule. The pair of n steps
ago moves towards its n-step return as far as π would have taken the same actions:

    Q(s, a) ← Q(s, a) + α ρ [G - Q(s, a)]   (eq. 7.11),   ρ = Π π(a | s) / b(a | s) over the actions after the first (eq. 7.10)

``expected=True`` ends the return in Σ_a π(a | s') Q(s', a) instead of Q(s', a') (eq. 7.7), and ρ without the factor of a'.
With π = b all ratios are 1: n-step Sarsa.

The price is variance: an action that π would not take makes ρ 0 and nothing is learned from what led there; a rare one
multiplies α. Under a uniform behaviour of A actions ρ is 0 or a power of A, so the default n is 2. Tree backup learns
without ratios, and Q(σ) lies between.

A ratio is that of the moment when its action was chosen (the box of section 7.3); π takes tied actions with equal chances.
"""

from typing import Any, NamedTuple

import numpy as np

from sb3_lecture.common.checks import Real, check_settings
from sb3_lecture.common.compiling import rule
from sb3_lecture.common.updates import importance_ratio, max_value, mean_value, off_policy_error
from sb3_lecture.tabular.base import Rules
from sb3_lecture.tabular.kernels import Agent, behavior, probability, step_size
from sb3_lecture.tabular.n_step_sarsa import NStepSarsa, Window, is_due, make_window, oldest_return, pop, push
from sb3_lecture.tabular.sarsa import act_committed, commit

ON_POLICY = -1.0  # the target's ε where the target is the behaviour policy itself


class RatioWindow(NamedTuple):
    """``n_step_sarsa.Window``'s fields, and the importance ratios of their actions."""

    next_action: np.ndarray
    state: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    first: np.ndarray
    waiting: np.ndarray
    ratio: np.ndarray  # float64 [n_envs, n], ρ of each action that waits; that of an episode's first action is never read
    next_ratio: np.ndarray  # float64 [n_envs], ρ of next_action
    probs: np.ndarray  # float64 [A], room for one row π(· | s)


class Target(NamedTuple):
    """ε of the target policy, or ON_POLICY."""

    target_eps: float


# ---- the target policy


@rule
def epsilon_greedy(q: np.ndarray, epsilon: float, probs: np.ndarray) -> np.ndarray:
    """An ε-greedy policy's row, written into ``probs`` [A] and returned; tied actions share evenly. q is a row [A]."""
    n, top, ties = q.shape[0], max_value(q), 0
    for b in range(n):
        ties += q[b] == top
    for b in range(n):
        probs[b] = epsilon / n + ((1.0 - epsilon) / ties if q[b] == top else 0.0)
    return probs


@rule
def target(agent: Agent, s: int, probs: np.ndarray) -> np.ndarray:
    """The row π(· | s), written into ``probs`` [A] and returned."""
    if agent.options.target_eps < 0.0:
        behavior(agent, s, probs)
    else:
        epsilon_greedy(agent.q[s], agent.options.target_eps, probs)
    return probs


# ---- the window with ratios


@rule
def wait(agent: Agent, i: int, s: int, a: int, r: float, discount: float, s2: int, last: bool) -> int:
    """Choose a' in s', let the transition wait, and note ρ of a' (1 where the episode is over); returns a'."""
    memory = agent.memory
    a2 = commit(agent, i, s2, discount, last)
    memory.ratio[i, (memory.first[i] + memory.waiting[i]) % memory.reward.shape[1]] = memory.next_ratio[i]
    push(memory, i, s, a, r)
    over = last and discount == 0.0
    memory.next_ratio[i] = (
        1.0 if over else importance_ratio(1.0, target(agent, s2, memory.probs)[a2], probability(agent, s2, a2))
    )
    return a2


@rule
def later_ratio(memory: RatioWindow, i: int) -> float:
    """The ratio of all actions that wait, except the oldest (eq. 7.10)."""
    rho = 1.0
    for k in range(1, memory.waiting[i]):
        rho *= memory.ratio[i, (memory.first[i] + k) % memory.reward.shape[1]]
    return rho


# ---- the rules


@rule
def update(agent: Agent, i: int, s: int, a: int, r: float, discount: float, s2: int, last: bool) -> None:
    """Q(s₀, a₀) ← Q(s₀, a₀) + α ρ_{1:n} [r₁ + … + γⁿ⁻¹ rₙ + γⁿ Q(s', a') - Q(s₀, a₀)] (eq. 7.11)."""
    memory = agent.memory
    a2 = wait(agent, i, s, a, r, discount, s2, last)
    while is_due(memory, i, last):
        s0, a0 = memory.state[i, memory.first[i]], memory.action[i, memory.first[i]]
        g = oldest_return(memory, i, agent.gamma, discount, agent.q[s2, a2])
        rho = later_ratio(memory, i) * memory.next_ratio[i]
        agent.q[s0, a0] += step_size(agent, s0, a0) * off_policy_error(agent.q[s0, a0], rho, g)
        pop(memory, i)


@rule
def update_expected(agent: Agent, i: int, s: int, a: int, r: float, discount: float, s2: int, last: bool) -> None:
    """The same with Σ_a π(a | s') Q(s', a) in place of Q(s', a') (eq. 7.7), and ρ_{1:n-1}."""
    memory = agent.memory
    wait(agent, i, s, a, r, discount, s2, last)
    while is_due(memory, i, last):
        s0, a0 = memory.state[i, memory.first[i]], memory.action[i, memory.first[i]]
        g = oldest_return(memory, i, agent.gamma, discount, mean_value(agent.q[s2], target(agent, s2, memory.probs)))
        agent.q[s0, a0] += step_size(agent, s0, a0) * off_policy_error(agent.q[s0, a0], later_ratio(memory, i), g)
        pop(memory, i)


# ---- what the off-policy n-step learners share


def make_ratio_window(n_envs: int, n_steps: int, n_actions: int) -> RatioWindow:
    """An empty window."""
    return RatioWindow(
        *make_window(n_envs, n_steps), ratio=np.ones((n_envs, n_steps)), next_ratio=np.ones(n_envs), probs=np.zeros(n_actions)
    )


def check_coverage(exploration: str, exploration_final_eps: float, target_eps: Any) -> None:
    """Refuse a behaviour policy under which the target's actions have no ratio.

    :raises ValueError: naming the argument and what is allowed
    """
    if target_eps is None:
        return
    if exploration == "ucb":
        raise ValueError(
            "exploration='ucb' takes one action for certain, so the target policy's other actions have no importance ratio "
            "(section 5.5 asks for coverage); use 'epsilon-greedy' or 'softmax', or target_eps=None to learn on-policy"
        )
    if exploration == "epsilon-greedy" and exploration_final_eps == 0.0 and target_eps > 0.0:
        raise ValueError(
            f"exploration_final_eps=0.0 ends in a behaviour that takes greedy actions only, but the target policy explores "
            f"with target_eps={target_eps} (section 5.5 asks for coverage); raise the former, or use target_eps=0"
        )


class OffPolicyNStepSarsa(NStepSarsa):
    """Off-policy n-step Sarsa.

    :param policy: "TabularPolicy"
    :param env: the env, its id, or a VecEnv
    :param n_steps: n, rewards before the estimate (default 2)
    :param expected: whether the return ends in the expectation under π instead of Q(s', a') (default False)
    :param target_eps: ε of the target policy π, the probability of a random action; 0: greedy; None: π is the behaviour
        policy, which is n-step Sarsa (default 0.0)
    :param kwargs: the other arguments are those of :class:`TabularAlgorithm`
    :raises ValueError: if an argument is out of its range, or the behaviour does not cover the target policy
    """

    _per_env = (*Window._fields, "ratio", "next_ratio")

    def __init__(
        self,
        policy: Any = "TabularPolicy",
        env: Any = None,
        n_steps: int = 2,
        expected: bool = False,
        target_eps: float | None = 0.0,
        **kwargs: Any,
    ) -> None:
        self.target_eps = target_eps
        super().__init__(policy, env, n_steps, expected, **kwargs)

    def _check_arguments(self) -> None:
        super()._check_arguments()
        check_settings(self, target_eps=Real(0, 1, none=True))
        check_coverage(self.exploration, self.exploration_final_eps, self.target_eps)

    def _rules(self) -> Rules:
        return act_committed, update_expected if self.expected else update

    def _make_memory(self) -> NamedTuple:
        return make_ratio_window(self.n_envs, int(self.n_steps), self.policy.table.shape[1])

    def _options(self) -> NamedTuple:
        return Target(ON_POLICY if self.target_eps is None else float(self.target_eps))
