"""The gradient bandit (Sutton & Barto 2018, section 2.8): learn preferences instead of values.

Actions are drawn by a softmax of preferences H; a reward above the baseline raises the preference of the action taken and
lowers the others, in proportion to their probabilities. In expectation that is gradient ascent on the expected reward. The
baseline, the mean of the rewards so far, changes no expectation but cuts the variance.

Where the world has several states, each has its own preferences and baseline, and the reward is taken as it comes, with no
look ahead: a contextual bandit (section 2.9).
"""

from typing import Any, NamedTuple

import numpy as np

from sb3_lecture.tabular.base import Rules, TabularAlgorithm
from sb3_lecture.tabular.kernels import Agent, choose, max_value, rule, softmax_total, step_size


class Baseline(NamedTuple):
    """Mean reward R̄, float64 [S], of that many rewards, int64 [S]."""

    mean: np.ndarray
    pulls: np.ndarray


class WithBaseline(NamedTuple):
    """1.0: the baseline is the mean reward; 0.0: it is 0."""

    baseline: float


@rule
def update(agent: Agent, i: int, s: int, a: int, r: float, s2: int, terminated: bool, truncated: bool) -> None:
    """H(b) ← H(b) + α (r - R̄) (1[b = a] - π(b)) for every action b (eq. 2.12)."""
    memory = agent.memory
    advantage = step_size(agent, s, a) * (r - agent.options.baseline * memory.mean[s])
    top, total = max_value(agent.q, s), softmax_total(agent, s)
    for b in range(agent.q.shape[1]):
        pi = np.exp((agent.q[s, b] - top) / agent.temperature) / total
        agent.q[s, b] += advantage * ((1.0 if b == a else 0.0) - pi)
    memory.pulls[s] += 1
    memory.mean[s] += (r - memory.mean[s]) / memory.pulls[s]


class GradientBandit(TabularAlgorithm):
    """The gradient bandit. The table holds preferences.

    :param policy: "TabularPolicy"
    :param env: the env, its id, or a VecEnv
    :param baseline: whether rewards are compared with their mean (default True)
    :param kwargs: the other arguments are those of :class:`TabularAlgorithm`; exploration is always "softmax"
    :raises ValueError: if another exploration is asked for
    """

    def __init__(self, policy: Any = "TabularPolicy", env: Any = None, baseline: bool = True, **kwargs: Any) -> None:
        self.baseline = baseline
        super().__init__(policy, env, **{"exploration": "softmax", **kwargs})

    def _check_arguments(self) -> None:
        super()._check_arguments()
        if self.exploration != "softmax":
            raise ValueError(f"exploration={self.exploration!r}; preferences are drawn from by 'softmax'")

    def _rules(self) -> Rules:
        return choose, update

    def _options(self) -> NamedTuple:
        return WithBaseline(float(self.baseline))

    def _make_memory(self) -> NamedTuple:
        n_states = self.policy.table.shape[0]
        return Baseline(mean=np.zeros(n_states), pulls=np.zeros(n_states, np.int64))
