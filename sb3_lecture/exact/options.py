"""Options: ways of acting that last (Sutton, Precup & Singh 1999, "Between MDPs and semi-MDPs").

An option is a policy that may begin in some states and ends in state s with probability β(s). To a planner it is one action
that takes k steps, whose model is, with all discounting inside it,

    R_o(s) = E[r₁ + … + γ^{k−1} r_k]            R_o = r_π + γ P_π (1 − β) R_o
    P_o(s, s') = Σ_k γ^k Pr(ends in s' after k)  P_o = γ P_π [β + (1 − β) P_o]

two linear systems, solved here exactly. With these models planning looks as with actions:

    V(s) ← max_o R_o(s) + Σ_{s'} P_o(s, s') V(s'),   o among those that may begin in s

The optimum over options is that of the world wherever each action is an option of one step among them.
"""

from collections import deque
from typing import NamedTuple

import numpy as np

from sb3_lecture_envs.mdp import TabularMDP

__all__ = ["Options", "hallway_options", "make_options", "option_models", "option_values", "plan", "primitive_options"]


class Options(NamedTuple):
    """A set of options.

    :param policy: the action in each state, −1 where the option may not begin; int64 [O, S]
    :param termination: β(s), 1 where it may not begin; float64 [O, S]
    """

    policy: np.ndarray
    termination: np.ndarray

    def join(self, other: "Options") -> "Options":
        """Return the options of both."""
        return Options(*(np.concatenate(pair) for pair in zip(self, other, strict=True)))


def make_options(policy: object, termination: object, n_states: int, n_actions: int, primitives: bool = False) -> Options:
    """Check options that somebody wrote down.

    :param policy: an action or −1 for each state, [O, S]
    :param termination: β(s), [O, S]
    :param n_states: of the world
    :param n_actions: of the world
    :param primitives: whether the actions come behind them, as options of one step (default False)
    :raises ValueError: if they are of another shape or out of range, or if no option may begin in a state
    """
    try:
        actions, ends = np.asarray(policy), np.asarray(termination, np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"options must be actions (integers) and chances to end, each an array: {error}") from error
    if actions.ndim != 2 or actions.shape[1] != n_states or ends.shape != actions.shape or actions.dtype.kind not in "iu":
        raise ValueError(
            f"options must be actions (integers) and chances to end, both of shape [options, {n_states} states]; got shapes "
            f"{actions.shape} of {actions.dtype} and {ends.shape}"
        )
    if actions.min() < -1 or actions.max() >= n_actions:
        raise ValueError(
            f"options name the actions {actions.min()} to {actions.max()}; allowed are 0 to {n_actions - 1}, or -1"
        )
    if not ((ends >= 0) & (ends <= 1)).all():
        raise ValueError("options: the chances to end must be from 0 to 1")
    found = Options(actions.astype(np.int64), np.where(actions < 0, 1.0, ends))
    if primitives:
        found = found.join(primitive_options(n_states, n_actions))
    if not (found.policy >= 0).any(axis=0).all():
        raise ValueError(f"options: none may begin in state {int((found.policy >= 0).any(axis=0).argmin())}")
    return found


def primitive_options(n_states: int, n_actions: int) -> Options:
    """Each action as an option of one step, [A, S]."""
    return Options(np.tile(np.arange(n_actions)[:, None], (1, n_states)), np.ones((n_actions, n_states)))


def hallway_options(mdp: TabularMDP) -> Options:
    """The options that lead from a room to each of its hallways, for any world of rooms and hallways.

    A hallway is a state with two neighbours that have nobody else in common; rooms are what is connected without the
    hallways. An option may begin in its room and in the room's other hallways, takes a shortest way through the room, and ends
    outside of it. In the four rooms these are the paper's eight.

    :param mdp: the world
    :return: [O, S]; O is 0 where there is no hallway
    """
    near = _neighbours(mdp)
    hallways = [
        s for s, around in enumerate(near) if len(around) == 2 and set.intersection(*(near[other] for other in around)) == {s}
    ]
    policies, ends = [], []
    for room in _components(near, set(hallways)):
        doors = [h for h in hallways if near[h] & room]
        for door in doors:
            distance = _distances(near, door, room)
            policy, termination = np.full(mdp.n_states, -1), np.ones(mdp.n_states)
            for s in sorted((room | set(doors)) - {door}):
                reached = [distance.get(other, mdp.n_states) for other in near[s]]
                if reached and min(reached) < mdp.n_states:
                    policy[s] = _nearest_action(mdp, s, distance)
                    termination[s] = float(s not in room)
            policies.append(policy)
            ends.append(termination)
    shape = (-1, mdp.n_states)
    return Options(np.array(policies, np.int64).reshape(shape), np.array(ends, np.float64).reshape(shape))


def _neighbours(mdp: TabularMDP) -> list[set[int]]:
    """The states that lead to a state or to which it leads, in one step, but for itself."""
    near: list[set[int]] = [set() for _ in range(mdp.n_states)]
    for s in range(mdp.n_states):
        for a in range(mdp.n_actions):
            for probability, s2, _, _ in mdp.outcomes(s, a):
                if probability > 0 and s2 != s:
                    near[s].add(s2)
                    near[s2].add(s)
    return near


def _components(near: list[set[int]], without: set[int]) -> list[set[int]]:
    """What is connected when some states are taken away; states without neighbours are left out."""
    left = {s for s, around in enumerate(near) if around} - without
    found = []
    while left:
        part, waiting = set(), [min(left)]
        while waiting:
            s = waiting.pop()
            if s in left:
                left.remove(s)
                part.add(s)
                waiting += near[s]
        found.append(part)
    return found


def _distances(near: list[set[int]], door: int, room: set[int]) -> dict[int, int]:
    """Steps to a door on ways through its room, of the room's states."""
    distance, waiting = {door: 0}, deque([door])
    while waiting:
        s = waiting.popleft()
        for other in sorted(near[s] & room - distance.keys()):
            distance[other] = distance[s] + 1
            waiting.append(other)
    return distance


def _nearest_action(mdp: TabularMDP, s: int, distance: dict[int, int]) -> int:
    """The action after which the door is nearest, on the average; the first of equal ones."""
    far = mdp.n_states
    return int(np.argmin([sum(p * distance.get(s2, far) for p, s2, _, _ in mdp.outcomes(s, a)) for a in range(mdp.n_actions)]))


def option_models(mdp: TabularMDP, options: Options, gamma: float) -> tuple[np.ndarray, np.ndarray]:
    """Return what options pay and where they lead, discounted.

    :param mdp: the world
    :param options: [O, S]
    :param gamma: γ, below 1
    :return: R float64 [O, S], P float64 [O, S, S]; where an option may not begin, R is −∞ and P is 0
    :raises ValueError: if γ is not from 0 to below 1
    """
    if not 0 <= gamma < 1:
        raise ValueError(f"gamma={gamma} must be from 0 to below 1: an option need not end")
    n, rows = mdp.n_states, np.arange(mdp.n_states)
    moves = np.zeros((mdp.n_actions, n, n))  # Pr(s' | s, a), of outcomes after which the episode goes on
    for a in range(mdp.n_actions):
        for s in range(n):
            for probability, s2, _, terminated in mdp.outcomes(s, a):
                moves[a, s, s2] += 0.0 if terminated else probability
    pays = mdp.expected_reward.reshape(n, mdp.n_actions)
    rewards, models = np.full(options.policy.shape, -np.inf), np.zeros((*options.policy.shape, n))
    for o, (policy, beta) in enumerate(zip(*options, strict=True)):
        may = policy >= 0
        step = gamma * moves[policy, rows] * may[:, None]  # γ P_π [S, S]
        inverse = np.linalg.inv(np.eye(n) - step * (1 - beta))  # of what goes on under the option
        rewards[o, may] = (inverse @ np.where(may, pays[rows, policy], 0.0))[may]
        models[o] = inverse @ (step * beta)
    return rewards, models


def plan(mdp: TabularMDP, options: Options, gamma: float, sweeps: int) -> np.ndarray:
    """Synchronous value iteration over options, from 0.

    :param mdp: the world
    :param options: [O, S]
    :param gamma: γ
    :param sweeps: how many
    :return: the values before and after each sweep, float64 [sweeps + 1, S]
    """
    rewards, models = option_models(mdp, options, gamma)
    values = [np.zeros(mdp.n_states)]
    for _ in range(sweeps):
        values.append((rewards + models @ values[-1]).max(axis=0))
    return np.array(values)


def option_values(mdp: TabularMDP, options: Options, gamma: float, tolerance: float = 1e-12) -> np.ndarray:
    """Return the best values that options can have, when each is followed to its end.

    :param mdp: the world
    :param options: [O, S]
    :param gamma: γ
    :param tolerance: largest change of the last sweep (default 1e-12)
    :return: Q(s, o) of the optimum over options, float64 [S, O]; −∞ where an option may not begin
    """
    rewards, models = option_models(mdp, options, gamma)
    v = np.zeros(mdp.n_states)
    while True:
        q = rewards + models @ v  # [O, S]
        change, v = np.abs(q.max(axis=0) - v).max(), q.max(axis=0)
        if change <= tolerance:
            return (rewards + models @ v).T
