"""Policy iteration (Howard 1960; Sutton & Barto 2018, section 4.3), in its modified form (Puterman & Shin 1978).

Evaluate the policy, make it greedy for its values, repeat. Full evaluation is wasted on a policy that is about to change, so
the sweeps of evaluation between two improvements stop as soon as they change values by less than a tenth of what the
improvement did: with none of them it would be value iteration, with all of them Howard's method.

The sweeps are those of ``common.mdp_sweeps``: in place and in both directions, from the ends of the world outwards. With
γ = 1 they start from 0 and go in the order of the states.
"""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from sb3_lecture.exact.sweeps import Sweeper
from sb3_lecture.tabular.planning import PlanningAlgorithm, evaluation_sweep, optimality_sweep
from sb3_lecture.tabular.value_iteration import refuse_endless
from sb3_lecture_envs.mdp import TabularMDP


class PolicyIteration(PlanningAlgorithm):
    """Modified policy iteration.

    :param policy: "TabularPolicy" ("MlpPolicy" is another name of it)
    :param env: an env that carries its law, its id, or a VecEnv
    :param max_evaluation_sweeps: sweeps of evaluation between two improvements, at most (default 100)
    :param kwargs: the other arguments are those of :class:`PlanningAlgorithm`
    :raises ValueError: if max_evaluation_sweeps is negative, or (while learning) γ = 1 and episodes may go on for ever
    """

    def __init__(
        self, policy: Any = "TabularPolicy", env: Any = None, max_evaluation_sweeps: int = 100, **kwargs: Any
    ) -> None:
        self.max_evaluation_sweeps = max_evaluation_sweeps
        super().__init__(policy, env, **kwargs)

    def _check_arguments(self) -> None:
        super()._check_arguments()
        if self.max_evaluation_sweeps < 0:
            raise ValueError(f"max_evaluation_sweeps={self.max_evaluation_sweeps}; at least 0 (which is value iteration)")

    def _sweeps(self, mdp: TabularMDP) -> Iterator[float]:
        improve, evaluate = self._plain(mdp) if self.gamma == 1.0 else self._fast(mdp)
        enough = self._largest_change()
        while True:
            change = improve()
            yield change
            if change <= enough:
                return
            target = max(0.1 * change, 0.3 * enough)
            for k in range(self.max_evaluation_sweeps):
                moved = evaluate(k % 2 == 0)
                yield moved
                if moved <= target:
                    break

    def _fast(self, mdp: TabularMDP) -> tuple[Callable[[], float], Callable[[bool], float]]:
        """Improvement and evaluation sweeps for γ < 1; they write into the policy's own arrays."""
        sweeper = Sweeper(mdp, float(self.gamma))
        self.v_table[:] = sweeper.v
        sweeper.v, sweeper.policy = self.v_table, self.policy.actions.numpy()  # type: ignore[union-attr, operator]
        return sweeper.greedy_in_place, sweeper.sweep_in_place

    def _plain(self, mdp: TabularMDP) -> tuple[Callable[[], float], Callable[[bool], float]]:
        """Improvement and evaluation sweeps for γ = 1."""
        refuse_endless(mdp)
        law = (mdp.row_ptr, mdp.next_state, mdp.prob, mdp.reward, mdp.terminated)
        actions, everywhere = self.policy.actions.numpy(), np.arange(mdp.n_states)  # type: ignore[union-attr, operator]

        def evaluate(backward: bool) -> float:
            pi = np.zeros((mdp.n_states, mdp.n_actions))
            pi[everywhere, actions] = 1.0
            return evaluation_sweep(*law, 1.0, self.v_table, pi)

        return lambda: optimality_sweep(*law, 1.0, self.v_table, actions), evaluate
