"""Value iteration (Bellman 1957; Sutton & Barto 2018, section 4.4): the Bellman optimality equation as an assignment.

v(s) ← max_a Σ p(s', r | s, a) [r + γ v(s')] (eq. 4.10), for every state in turn and in place. A sweep that changes no value by
more than d leaves an error of at most γ / (1 - γ) d, which is where it stops.

With γ = 1 the equation may have many solutions: where a cycle's rewards sum to 0, values above the optimum sustain themselves,
and so do policies that never end. The sweeps then start from below, from the value of a policy that surely ends; from there
they rise to the optimum over such policies (Bertsekas & Yu, "Stochastic shortest path problems under weak conditions", LIDS
report 2909), and an action gives way to a strictly better one only. Where every step that can be repeated for ever costs
something, the solution is unique and any start serves. A world whose optimum is not finite is refused.
"""

from collections.abc import Iterator

import numpy as np

from sb3_lecture.exact.graph import end_components
from sb3_lecture.tabular.planning import PlanningAlgorithm, ending_start, optimality_sweep, rounding
from sb3_lecture_envs.mdp import TabularMDP


def every_cycle_costs(mdp: TabularMDP) -> bool:
    """Whether all that can be repeated for ever (the end components) is made of steps with a reward below 0."""
    pairs = np.ones(mdp.n_states * mdp.n_actions, np.bool_)
    end_components(mdp.row_ptr, mdp.next_state, mdp.prob, mdp.terminated, mdp.n_actions, pairs)
    return not (pairs & (mdp.expected_reward.ravel() >= 0.0)).any()


class ValueIteration(PlanningAlgorithm):
    """Value iteration.

    :param policy: "TabularPolicy" ("MlpPolicy" is another name of it)
    :param env: an env that carries its law, its id, or a VecEnv
    :param kwargs: the other arguments are those of :class:`PlanningAlgorithm`; with γ = 1 ``initial_value`` counts only where
        every cycle costs something
    :raises ValueError: if γ = 1 and episodes may go on for ever (while learning)
    """

    def _sweeps(self, mdp: TabularMDP) -> Iterator[float]:
        actions: np.ndarray = self.policy.actions.numpy()  # type: ignore[union-attr, operator]
        if self._plan is None:
            if self.gamma == 1.0:
                start = ending_start(mdp)
                if not every_cycle_costs(mdp):
                    actions[:], self.v_table[:] = start
            self._plan = {"enough": self._largest_change(), "change": np.inf, "measured": np.full_like(actions, -1)}
        plan = self._plan
        law = (mdp.row_ptr, mdp.next_state, mdp.prob, mdp.terminated, mdp.expected_reward)
        while True:
            if self.gamma == 1.0 and plan["change"] <= self.tol and (actions != plan["measured"]).any():
                plan |= {"enough": self._largest_change(self._longest_episode(mdp, actions)), "measured": actions.copy()}
            if plan["change"] <= max(plan["enough"], rounding(self.v_table)):
                return
            plan["change"] = optimality_sweep(*law, float(self.gamma), self.v_table, actions, rounding(self.v_table))
            yield plan["change"]
