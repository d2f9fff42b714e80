"""The gradient bandit (Sutton & Barto 2018, section 2.8): learn preferences instead of values.

Actions are drawn by a softmax of preferences H; a reward above the baseline raises the preference of the action taken and
lowers the others, in proportion to their probabilities. In expectation that is gradient ascent on the expected reward. The
baseline, the mean of the rewards so far, changes no expectation but cuts the variance.

Where the world has several states, each has its own preferences and baseline, and the reward is taken as it comes, with no
look ahead: a contextual bandit (section 2.9).
"""

import math
from typing import Any, NamedTuple

import numpy as np

from sb3_lecture.common.checks import FLAG, check_settings
from sb3_lecture.common.compiling import rule
from sb3_lecture.common.updates import max_value, preference_gradient, softmax_total, softmax_weight
from sb3_lecture.tabular.base import Rules, TabularAlgorithm
from sb3_lecture.tabular.kernels import Agent, choose, step_size


class Baseline(NamedTuple):
    """Mean reward R̄, float64 [S], of that many rewards, int64 [S]."""

    mean: np.ndarray
    pulls: np.ndarray


class WithBaseline(NamedTuple):
    """1.0: the baseline is the mean reward; 0.0: it is 0."""

    baseline: float


@rule
def update(agent: Agent, i: int, s: int, a: int, r: float, discount: float, s2: int, last: bool) -> None:
    """H(b) ← H(b) + α (r - R̄) (1[b = a] - π(b)) for every action b (eq. 2.12)."""
    memory, h = agent.memory, agent.q[s]
    advantage, alpha = r - agent.options.baseline * memory.mean[s], step_size(agent, s, a)
    top, total = max_value(h), softmax_total(h, agent.temperature)
    for b in range(h.shape[0]):
        pi = softmax_weight(h[b], top, agent.temperature) / total
        h[b] += alpha * preference_gradient(advantage, pi, b == a)
    memory.pulls[s] += 1
    memory.mean[s] += (r - memory.mean[s]) / memory.pulls[s]


class GradientBandit(TabularAlgorithm):
    """The gradient bandit. The table holds preferences.

    :param policy: "TabularPolicy"
    :param env: the env, its id, or a VecEnv
    :param learning_rate: α, any number above 0: preferences have no scale (default 0.1)
    :param baseline: whether rewards are compared with their mean (default True)
    :param kwargs: the other arguments are those of :class:`TabularAlgorithm`; exploration is always "softmax"
    :raises ValueError: if another exploration is asked for
    """

    _largest_rate = math.inf

    def __init__(self, policy: Any = "TabularPolicy", env: Any = None, baseline: bool = True, **kwargs: Any) -> None:
        self.baseline = baseline
        super().__init__(policy, env, **{"exploration": "softmax", **kwargs})

    def _check_arguments(self) -> None:
        super()._check_arguments()
        check_settings(self, baseline=FLAG)
        if self.exploration != "softmax":
            raise ValueError(f"exploration={self.exploration!r}; preferences are drawn from by 'softmax'")

    def _rules(self) -> Rules:
        return choose, update

    def _options(self) -> NamedTuple:
        return WithBaseline(float(self.baseline))

    def _make_memory(self) -> NamedTuple:
        n_states = self.policy.table.shape[0]
        return Baseline(mean=np.zeros(n_states), pulls=np.zeros(n_states, np.int64))
