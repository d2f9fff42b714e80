"""Value and policy iteration stopped after a number of sweeps, with what each sweep met, changed and was off by."""

from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

import sb3_lecture
from sb3_lecture.exact.bellman import q_from_v
from sb3_lecture.exact.chain import policy_evaluation
from sb3_lecture.exact.solver import ending_policy, exact_optimum, start_value
from sb3_lecture_envs.tabular_env import TabularEnv

SWEEPERS = {
    "value_iteration": ("ValueIteration", "Value iteration"),
    "policy_iteration": ("PolicyIteration", "Policy iteration"),
}
SETTLED = 1e-8  # the tolerance of value iteration
SWEEP, EVALUATE, IMPROVE = "sweep", "evaluate", "improve"


class _Note(BaseCallback):
    def __init__(self, run: "PlannedRun") -> None:
        super().__init__()
        self.run = run

    def _on_step(self) -> bool:
        return self.run.note()


class PlannedRun:
    """A planner and its world; γ below 1, so that both methods start from values of 0.

    :param env: the world
    :param method: a key of ``SWEEPERS``
    :param gamma: discount, below 1
    :param sweeps: how many, at most; an improvement counts as one
    :param whole: go on to the end of what the last sweep belongs to: an improvement, or for value iteration the optimum
    """

    def __init__(self, env: TabularEnv, method: str, gamma: float, sweeps: int, whole: bool = False) -> None:
        self.mdp, self.method, self.gamma, self.sweeps, self._whole = env.mdp, method, gamma, sweeps, whole
        arguments: dict[str, Any] = {"max_evaluation_sweeps": None} if method == "policy_iteration" else {}
        self.model = getattr(sb3_lecture, SWEEPERS[method][0])("TabularPolicy", env, gamma=gamma, **arguments)
        self.optimum = exact_optimum(self.mdp, gamma)
        self.phases: list[str] = []
        self.errors, self.regrets = [self.error()], [self.regret()]
        self.before, self.actions_before = self.v.copy(), self.actions.copy()
        self._improvements = 0
        if sweeps > 0:
            self.model.learn(2**60 if whole else sweeps * self.mdp.n_states, callback=_Note(self), log_interval=None)
        #: no sweep is left, or none would change what can be told apart
        self.converged = self.model.policy_stable if method == "policy_iteration" else self.errors[-1] <= SETTLED

    @property
    def v(self) -> np.ndarray:
        """The values, float64 [S], a view."""
        return self.model.v_table

    @property
    def actions(self) -> np.ndarray:
        """The policy, int32 [S], a view."""
        return self.model.policy.actions.numpy()

    def error(self) -> float:
        """The largest difference between the values and the optimum."""
        return float(np.abs(self.v - self.optimum.v).max())

    def regret(self) -> float:
        """By how much the policy falls short of the optimum from the start."""
        value = policy_evaluation(self.mdp, self.actions, self.gamma)
        return start_value(self.mdp, self.optimum.v) - start_value(self.mdp, value)

    def note(self) -> bool:
        """A sweep is done; returns whether to go on."""
        if self.method == "value_iteration":
            self.phases.append(SWEEP)
        else:
            self.phases.append(IMPROVE if self.model.n_improvements > self._improvements else EVALUATE)
            self._improvements = self.model.n_improvements
        self.errors.append(self.error())
        self.regrets.append(self.regret())
        done = len(self.phases) >= self.sweeps and (not self._whole or self.phases[-1] == IMPROVE)
        if not done and len(self.phases) >= self.sweeps - 1:
            self.before, self.actions_before = self.v.copy(), self.actions.copy()
        return not done

    def met(self) -> np.ndarray:
        """The action values that the last sweep met, state after state in its order, float64 [S, A]."""
        if not self.phases or self.phases[-1] == IMPROVE:
            return q_from_v(self.mdp, self.v, self.gamma)
        order = np.arange(self.mdp.n_states) if self.phases[-1] == SWEEP else ending_policy(self.mdp, self.gamma).order
        v, q = self.before.copy(), np.empty((self.mdp.n_states, self.mdp.n_actions))
        for s in order:  # in place: states swept earlier have their new values
            q[s] = q_from_v(self.mdp, v, self.gamma)[s]
            v[s] = self.v[s]
        return q
