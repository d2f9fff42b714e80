"""Policy iteration (Howard 1960; Sutton & Barto 2018, section 4.3, the box), or its modified form (Puterman & Shin 1978).

1. Start with any values and policy.
2. *Policy evaluation*: sweeps of v(s) ← Σ p(s', r | s, π(s)) [r + γ v(s')], until they change nothing by more than θ.
3. *Policy improvement*: π(s) ← argmax_a Σ p(s', r | s, a) [r + γ v(s')]. If no action has changed, π is stable: stop. Else 2.

Deviations from the box: an action gives way only to one that is better by more than the evaluation's error, or policies that
are equally good would replace one another for ever (the box's bug of exercise 4.4). The sweeps go through the states from the
ends of the world outwards, which carries an end's value far in one sweep. And full evaluation is wasted on a policy that is
about to change: with a number for ``max_evaluation_sweeps`` evaluation is cut short, and "stable" then also asks that the
improvement finds no value that is still wrong.

Cut short and in place, evaluation may cycle (Williams & Baird 1993) unless it starts from values that only rise, v ≤ T v: it
starts from the lowest return there could be. With γ = 1 both forms start from a policy that surely ends, and from its value.
"""

from collections.abc import Iterator
from typing import Any

import numba
import numpy as np

from sb3_lecture.common.checks import Integer, check_settings
from sb3_lecture.exact.bellman import backup
from sb3_lecture.exact.solver import ending_policy
from sb3_lecture.tabular.planning import PlanningAlgorithm, best_action, ending_start, rounding
from sb3_lecture_envs.mdp import TabularMDP


@numba.njit(cache=True)
def policy_sweep(
    row_ptr: np.ndarray, next_state: np.ndarray, prob: np.ndarray, terminated: np.ndarray, reward: np.ndarray,
    gamma: float, v: np.ndarray, actions: np.ndarray, order: np.ndarray
) -> float:  # fmt: skip
    """v(s) ← Σ p(s', r | s, π(s)) [r + γ v(s')] for every state in ``order``, in place; returns the largest change Δ."""
    n_actions, change = reward.shape[1], 0.0
    for s in order:
        e = row_ptr[s * n_actions + actions[s]]
        n = row_ptr[s * n_actions + actions[s] + 1] - e
        value = backup(reward[s, actions[s]], gamma, e, n, next_state, prob, terminated, False, v)
        change = max(change, abs(value - v[s]))
        v[s] = value
    return change


@numba.njit(cache=True)
def improvement_sweep(
    row_ptr: np.ndarray, next_state: np.ndarray, prob: np.ndarray, terminated: np.ndarray, reward: np.ndarray,
    gamma: float, v: np.ndarray, actions: np.ndarray, slack: float
) -> tuple[int, float]:  # fmt: skip
    """π(s) ← argmax_a Σ p(s', r | s, a) [r + γ v(s')] where that is better than π(s) by more than ``slack``.

    :return: how many actions have changed, and the largest difference between the best action's value and v(s)
    """
    changed, largest = 0, 0.0
    for s in range(v.shape[0]):
        best, chosen, present = best_action(row_ptr, next_state, prob, terminated, reward, gamma, v, s, actions[s])
        if best > present + slack:
            actions[s] = chosen
            changed += 1
        largest = max(largest, abs(best - v[s]))
    return changed, largest


class PolicyIteration(PlanningAlgorithm):
    """Policy iteration.

    While it learns and afterwards, ``policy_stable`` tells whether the last improvement left the policy as it was, and
    ``n_improvements`` how many improvements there were; both are logged (``planning/policy_stable``,
    ``planning/improvements``), with the number of actions the last one changed (``planning/changed_actions``).

    :param policy: "TabularPolicy" ("MlpPolicy" is another name of it)
    :param env: an env that carries its law, its id, or a VecEnv
    :param max_evaluation_sweeps: sweeps of evaluation between two improvements, at most (default 100), fewer where one changes
        less than a tenth of what the improvement found; 1 is nearly value iteration; None: as many as the tolerance asks for,
        the box of section 4.3
    :param kwargs: the other arguments are those of :class:`PlanningAlgorithm`
    :raises ValueError: if max_evaluation_sweeps is below 1, or (while learning) γ = 1 and episodes may go on for ever
    """

    def __init__(
        self, policy: Any = "TabularPolicy", env: Any = None, max_evaluation_sweeps: int | None = 100, **kwargs: Any
    ) -> None:
        self.max_evaluation_sweeps = max_evaluation_sweeps
        self.policy_stable, self.n_improvements = False, 0
        super().__init__(policy, env, **kwargs)

    def _check_arguments(self) -> None:
        super()._check_arguments()
        check_settings(self, max_evaluation_sweeps=Integer(1, none=True))

    def _sweeps(self, mdp: TabularMDP) -> Iterator[float]:
        v, gamma = self.v_table, float(self.gamma)
        actions: np.ndarray = self.policy.actions.numpy()  # type: ignore[union-attr, operator]
        law = (mdp.row_ptr, mdp.next_state, mdp.prob, mdp.terminated, mdp.expected_reward, gamma, v, actions)
        order = ending_policy(mdp, gamma).order
        if self._plan is None:
            if gamma == 1.0:
                v[:], actions[:] = (start := ending_start(mdp)).v, start.actions
            elif self.max_evaluation_sweeps is not None:
                v[:] = min(0.0, float(mdp.expected_reward.min())) / (1.0 - gamma)
            self.policy_stable, self.n_improvements = False, 0
            self._plan = self._evaluation(mdp, np.inf)
        plan = self._plan
        while not self.policy_stable:
            # policy evaluation
            while plan["delta"] > max(plan["theta"], rounding(v)) and plan["k"] != self.max_evaluation_sweeps:
                plan["delta"] = policy_sweep(*law, order)
                plan["k"] += 1
                yield plan["delta"]
            # policy improvement
            enough = plan["enough"]
            changed, found = improvement_sweep(*law, max(0.4 * enough, rounding(v)))
            self.n_improvements += 1
            self.policy_stable = changed == 0 and found <= max(enough, 4.0 * rounding(v))
            self.logger.record("planning/improvements", self.n_improvements)
            self.logger.record("planning/changed_actions", changed)
            self.logger.record("planning/policy_stable", int(self.policy_stable))
            if not self.policy_stable:
                plan |= self._evaluation(mdp, found)
            yield found

    def _evaluation(self, mdp: TabularMDP, found: float) -> dict[str, Any]:
        """Where an evaluation of the present policy begins.

        :param found: the largest difference that the improvement before it found
        :return: k, sweeps so far; delta, the last one's change; theta, at which it ends; enough, the Bellman error that proves
            the tolerance: |v - v*| ≤ steps · max |T v - v|
        """
        actions: np.ndarray = self.policy.actions.numpy()  # type: ignore[union-attr, operator]
        steps = self._longest_episode(mdp, actions) if self.gamma == 1.0 else 1.0 / (1.0 - self.gamma)
        enough = self._largest_change(steps)
        theta = 0.5 * enough if self.max_evaluation_sweeps is None else max(0.5 * enough, 0.1 * found)
        return {"k": 0, "delta": np.inf, "theta": theta, "enough": enough}
