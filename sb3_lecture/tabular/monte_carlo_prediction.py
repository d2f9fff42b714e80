"""Monte Carlo prediction (Sutton & Barto 2018, sections 5.1, 5.5 and 5.6): the value of a state is the mean return after it.

First or every visit of a state in an episode counts. With a ``behavior_policy`` b other than the target policy π, returns are
weighted by ρ = Π π(a | s) / b(a | s) (eq. 5.3): "ordinary" importance sampling divides by the number of returns (eq. 5.5),
which is unbiased; "weighted" divides by the sum of the weights (eq. 5.6), which is biased but consistent, and much steadier.

Deviation: an episode cut by a time limit ends in the estimated value of its last state.
"""

from typing import Any, NamedTuple

import numpy as np

from sb3_lecture.common.checks import Choice, Integer, check_settings
from sb3_lecture.common.compiling import rule
from sb3_lecture.common.updates import discounted_return, importance_ratio, ordinary_error, weighted_change
from sb3_lecture.tabular.base import SAMPLE_AVERAGE, Rules
from sb3_lecture.tabular.episodes import (
    MAX_EPISODE_LENGTH,
    PER_ENV,
    Episode,
    count_occurrences,
    is_first,
    make_episode,
    record,
    refuse_overflow,
)
from sb3_lecture.tabular.kernels import Agent, step_size
from sb3_lecture.tabular.prediction import PredictionAlgorithm, act_given, as_list, policy_probabilities


class EpisodeAndPolicies(NamedTuple):
    """``Episode``'s fields, then both policies, float64 [S, A]."""

    state: np.ndarray
    action: np.ndarray
    reward: np.ndarray
    chance: np.ndarray
    length: np.ndarray
    occurrences: np.ndarray
    weight: np.ndarray
    overflow: np.ndarray
    target: np.ndarray
    behavior: np.ndarray


class Kind(NamedTuple):
    """First visits only; divide by the sum of the weights."""

    first_visit: bool
    weighted: bool


@rule
def update(agent: Agent, i: int, s: int, a: int, r: float, discount: float, s2: int, last: bool) -> None:
    """V(s) moves towards the returns of an episode that has ended, going backwards."""
    memory = agent.memory
    record(memory, i, s, a, r)
    if not last:
        return
    g, rho = 0.0 if discount == 0.0 else agent.q[s2, 0], 1.0
    count_occurrences(memory, i, False)
    for t in range(memory.length[i] - 1, -1, -1):
        x, b = memory.state[i, t], memory.action[i, t]
        g = discounted_return(memory.reward[i, t], agent.gamma, g)
        rho = importance_ratio(rho, memory.target[x, b], memory.behavior[x, b])
        first = is_first(memory, x, 0)
        if agent.options.first_visit and not first:
            continue
        if agent.options.weighted:
            agent.updates[x, 0] += 1
            memory.weight[x, 0] += rho
            agent.q[x, 0] += weighted_change(agent.q[x, 0], rho, g, memory.weight[x, 0])
        else:
            agent.q[x, 0] += step_size(agent, x, 0) * ordinary_error(agent.q[x, 0], rho, g)
    memory.length[i] = 0


class MonteCarloPrediction(PredictionAlgorithm):
    """Monte Carlo prediction.

    :param policy: "TabularPolicy"
    :param env: the env, its id, or a VecEnv
    :param target_policy: π: None for uniform, one action a state [S], or probabilities [S, A]
    :param learning_rate: "1/N" averages the returns (default); a number is constant-α Monte Carlo (eq. 6.1)
    :param visits: "first" or "every" (default "first")
    :param behavior_policy: the policy that acts, written like ``target_policy``; None: π itself
    :param importance_sampling: "ordinary" or "weighted", where the behaviour policy is another (default "ordinary")
    :param max_episode_length: longest episode that can be kept (default 10,000)
    :param kwargs: the other arguments are those of :class:`TabularAlgorithm`
    :raises ValueError: if the behaviour policy never takes an action that the target policy may take
    """

    _per_env = PER_ENV

    def __init__(
        self,
        policy: Any = "TabularPolicy",
        env: Any = None,
        target_policy: Any = None,
        learning_rate: Any = SAMPLE_AVERAGE,
        visits: str = "first",
        behavior_policy: Any = None,
        importance_sampling: str = "ordinary",
        max_episode_length: int = MAX_EPISODE_LENGTH,
        **kwargs: Any,
    ) -> None:
        self.visits = visits
        self.behavior_policy = as_list(behavior_policy)
        self.importance_sampling = importance_sampling
        self.max_episode_length = max_episode_length
        super().__init__(policy, env, target_policy, learning_rate=learning_rate, **kwargs)

    def _check_arguments(self) -> None:
        super()._check_arguments()
        check_settings(
            self, visits=Choice("first", "every"), importance_sampling=Choice("ordinary", "weighted"),
            max_episode_length=Integer(1),
        )  # fmt: skip
        if self.importance_sampling == "weighted" and self.learning_rate != SAMPLE_AVERAGE:
            raise ValueError(f"learning_rate={self.learning_rate}; weighted importance sampling averages, use '1/N'")

    def _rules(self) -> Rules:
        return act_given, update

    def _options(self) -> NamedTuple:
        return Kind(self.visits == "first", self.importance_sampling == "weighted")

    def _followed(self) -> np.ndarray:
        target = super()._followed()
        if self.behavior_policy is None:
            return target
        behavior = policy_probabilities(self.behavior_policy, target.shape[0], target.shape[1], name="behavior_policy")
        uncovered = np.argwhere((target > 0) & (behavior == 0))
        if len(uncovered):
            s, a = uncovered[0]
            raise ValueError(
                f"behavior_policy never takes action {a} in state {s}, which target_policy may take; give it a chance"
            )
        return behavior

    def _make_memory(self) -> NamedTuple:
        episode: Episode = make_episode(self.n_envs, int(self.max_episode_length), self.policy.table.shape)
        return EpisodeAndPolicies(*episode, target=super()._followed(), behavior=self._followed())

    def _after_kernel(self, agent: Agent) -> None:
        refuse_overflow(agent.memory)
