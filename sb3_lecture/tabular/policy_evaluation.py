"""Iterative policy evaluation (Sutton & Barto 2018, section 4.1): v_π by repeated use of its Bellman equation.

Every sweep sets each state's value to what the law and the present values promise (eq. 4.5), in place, so that a new value
serves the states after it at once. With γ = 1 it converges where the policy surely ends its episodes, or stays for ever where
there is no reward: such states are worth 0, which no sweep would find, so they are set to it. Elsewhere it is refused.
"""

from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.policies import BasePolicy

from sb3_lecture.exact.chain import episode_lengths, policy_evaluation
from sb3_lecture.tabular.planning import PlanningAlgorithm, evaluation_sweep, rounding
from sb3_lecture.tabular.prediction import GivenPolicy, as_list
from sb3_lecture_envs.mdp import TabularMDP


class PolicyEvaluation(PlanningAlgorithm):
    """Iterative policy evaluation of a given policy; ``predict`` follows that policy.

    :param policy: "TabularPolicy" ("MlpPolicy" is another name of it)
    :param env: an env that carries its law, its id, or a VecEnv
    :param target_policy: π: None for uniform, one action a state [S], or probabilities [S, A]
    :param kwargs: the other arguments are those of :class:`PlanningAlgorithm`
    :raises ValueError: if γ = 1 and the policy may go on for ever (while learning)
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"TabularPolicy": GivenPolicy, "MlpPolicy": GivenPolicy}
    #: exact grading looks at ``state_values``, not at the policy
    predicts_values: ClassVar[bool] = True

    def __init__(
        self, policy: Any = "TabularPolicy", env: Any = None, target_policy: npt.ArrayLike | str | None = None, **kwargs: Any
    ) -> None:
        self.target_policy = as_list(target_policy)
        super().__init__(policy, env, **kwargs)

    def _policy_arguments(self) -> dict[str, Any]:
        return {**super()._policy_arguments(), "target_policy": self.target_policy}

    def state_values(self, observation: Any) -> np.ndarray:
        """The values of given states, float64 [n]."""
        return self.v_table[self.policy.index(observation)]

    def _sweeps(self, mdp: TabularMDP) -> Iterator[float]:
        pi = self.policy.probabilities.numpy()  # type: ignore[union-attr, operator]
        if self._plan is None:
            self._plan = {"enough": self._begin(mdp, pi), "change": np.inf}
        plan = self._plan
        law = (mdp.row_ptr, mdp.next_state, mdp.prob, mdp.terminated, mdp.expected_reward)
        while plan["change"] > max(plan["enough"], rounding(self.v_table)):
            plan["change"] = evaluation_sweep(*law, float(self.gamma), self.v_table, pi)
            yield plan["change"]

    def _begin(self, mdp: TabularMDP, pi: np.ndarray) -> float:
        """Look whether the values are finite; returns the largest change of a sweep that proves the tolerance."""
        if self.gamma < 1.0:
            return self._largest_change()
        endless = ~np.isfinite(policy_evaluation(mdp, pi, 1.0))
        if endless.any():
            raise ValueError(
                f"gamma=1, but from state {int(np.argmax(endless))} this policy may go on for ever with rewards: its "
                "value is not finite; use gamma < 1 or a policy that ends its episodes"
            )
        steps, staying = episode_lengths(mdp, pi)
        self.v_table[staying] = 0.0
        return self._largest_change(float(steps.max()))
