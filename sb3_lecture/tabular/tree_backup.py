"""n-step tree backup (Precup, Sutton & Singh 2000; Sutton & Barto 2018, section 7.5): off-policy without importance sampling.

The return goes down the path that was taken, and at each state on the way adds what the actions *not* taken are worth under
the target policy π; the one taken counts with its own π(a | s):

    G = r + γ Σ_{a ≠ a'} π(a | s') Q(s', a) + γ π(a' | s') G'   (eq. 7.16),   at the last step r + γ Σ_a π(a | s') Q(s', a)

No ratio appears, so b need not even be known and no return has a huge weight. Where π would hardly have taken a', what
comes after it hardly counts: with a greedy π the return ends at the first exploring action. n = 1 is Expected Sarsa, with a
greedy π Q-learning. It is Q(σ) with σ = 0.
"""

from typing import Any, NamedTuple

import numpy as np

from sb3_lecture.common.checks import Integer, Real, check_settings
from sb3_lecture.common.compiling import rule
from sb3_lecture.common.updates import tree_backup_return
from sb3_lecture.tabular.base import Rules, TabularAlgorithm
from sb3_lecture.tabular.kernels import Agent, choose, step_size
from sb3_lecture.tabular.n_step_sarsa import Window, is_due, make_window, pop, push
from sb3_lecture.tabular.off_policy_n_step_sarsa import ON_POLICY, Target, target


class TreeWindow(NamedTuple):
    """``n_step_sarsa.Window``'s fields, and room for a row."""

    next_action: np.ndarray
    state: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    first: np.ndarray
    waiting: np.ndarray
    probs: np.ndarray  # float64 [A], room for one row π(· | s)


@rule
def tree_return(agent: Agent, i: int, discount: float, s2: int) -> float:
    """The return of the oldest transition that waits, from s', where the newest has led, back to it (eq. 7.16)."""
    memory, x, b = agent.memory, s2, 0
    g = agent.q[x, b]  # in s' no action was taken: with any action's own value the sum is the expectation (eq. 7.15)
    for k in range(memory.waiting[i] - 1, -1, -1):
        j = (memory.first[i] + k) % memory.reward.shape[1]
        g = tree_backup_return(memory.reward[i, j], discount, agent.q[x], target(agent, x, memory.probs), b, g)
        x, b, discount = memory.state[i, j], memory.action[i, j], agent.gamma
    return g


@rule
def update(agent: Agent, i: int, s: int, a: int, r: float, discount: float, s2: int, last: bool) -> None:
    """Q(s₀, a₀) ← Q(s₀, a₀) + α [G - Q(s₀, a₀)] for the pair of n steps ago; at an episode's end for all that still wait."""
    memory = agent.memory
    push(memory, i, s, a, r)
    while is_due(memory, i, last):
        s0, a0 = memory.state[i, memory.first[i]], memory.action[i, memory.first[i]]
        agent.q[s0, a0] += step_size(agent, s0, a0) * (tree_return(agent, i, discount, s2) - agent.q[s0, a0])
        pop(memory, i)


class TreeBackup(TabularAlgorithm):
    """n-step tree backup.

    :param policy: "TabularPolicy"
    :param env: the env, its id, or a VecEnv
    :param n_steps: n, levels of the tree (default 4)
    :param target_eps: ε of the target policy π, the probability of a random action; 0: greedy; None: π is the behaviour
        policy (default 0.0)
    :param kwargs: the other arguments are those of :class:`TabularAlgorithm`
    :raises ValueError: if n_steps is below 1 or target_eps outside [0, 1]
    """

    _per_env = Window._fields

    def __init__(
        self,
        policy: Any = "TabularPolicy",
        env: Any = None,
        n_steps: int = 4,
        target_eps: float | None = 0.0,
        **kwargs: Any,
    ) -> None:
        self.n_steps = n_steps
        self.target_eps = target_eps
        super().__init__(policy, env, **kwargs)

    def _check_arguments(self) -> None:
        super()._check_arguments()
        check_settings(self, n_steps=Integer(1), target_eps=Real(0, 1, none=True))

    def _rules(self) -> Rules:
        return choose, update

    def _make_memory(self) -> NamedTuple:
        return TreeWindow(*make_window(self.n_envs, int(self.n_steps)), probs=np.zeros(self.policy.table.shape[1]))

    def _options(self) -> NamedTuple:
        return Target(ON_POLICY if self.target_eps is None else float(self.target_eps))
