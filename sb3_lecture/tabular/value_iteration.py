"""Value iteration (Bellman 1957; Sutton & Barto 2018, section 4.4): the Bellman optimality equation as an assignment.

v(s) ← max_a Σ p(s', r | s, a) [r + γ v(s')] (eq. 4.10), for every state in turn and in place. A sweep that changes no value by
more than d leaves an error of at most γ / (1 - γ) d, which is where it stops. With γ = 1 there is no such bound: it stops when
a sweep changes nothing by more than ``tol``, and is refused where the optimum is not finite.
"""

from collections.abc import Iterator

import numpy as np

from sb3_lecture.exact.solver import modified_policy_iteration
from sb3_lecture.tabular.planning import PlanningAlgorithm, optimality_sweep
from sb3_lecture_envs.mdp import TabularMDP


def refuse_endless(mdp: TabularMDP) -> None:
    """Refuse γ = 1 in a world whose episodes cannot be made to end surely.

    :raises ValueError: naming the state and the reason
    """
    endless = ~np.isfinite(modified_policy_iteration(mdp, 1.0).v)
    if endless.any():
        raise ValueError(
            f"gamma=1, but from state {int(np.argmax(endless))} no policy surely ends the episode, and the rewards until then "
            "have no finite sum; use gamma < 1"
        )


class ValueIteration(PlanningAlgorithm):
    """Value iteration.

    :param policy: "TabularPolicy" ("MlpPolicy" is another name of it)
    :param env: an env that carries its law, its id, or a VecEnv
    :param kwargs: the other arguments are those of :class:`PlanningAlgorithm`
    :raises ValueError: if γ = 1 and episodes may go on for ever (while learning)
    """

    def _sweeps(self, mdp: TabularMDP) -> Iterator[float]:
        if self.gamma == 1.0:
            refuse_endless(mdp)
        law, change = (mdp.row_ptr, mdp.next_state, mdp.prob, mdp.reward, mdp.terminated), np.inf
        actions = self.policy.actions.numpy()  # type: ignore[union-attr, operator]
        while change > self._largest_change():
            change = optimality_sweep(*law, float(self.gamma), self.v_table, actions)
            yield change
