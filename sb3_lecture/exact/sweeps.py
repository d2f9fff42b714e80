"""Modified policy iteration for γ < 1: the loop that drives the compiled sweeps of ``sweep_kernels.py``.

The method is Puterman & Shin's (1978; Puterman 1994, section 6.5): a greedy sweep, then some sweeps of policy evaluation,
stopped by MacQueen's bounds (Puterman 1994, eq. 6.6.11): with d = Tv - v, v* lies between Tv + γ/(1-γ) min d and
Tv + γ/(1-γ) max d; if episodes can end, 0 counts among the d (the end's own). What makes it fast:

- the greedy sweep copies the chosen rows into a small chain while they are in the cache; partial evaluation reads those;
- a state whose best action leads by more than γ span(v - v_then) cannot have changed its mind since: only its chosen row
  is looked at (temporary action elimination, cf. Puterman 1994, section 6.7);
- plain sweeps where they mix fast; where they do not, Gauss-Seidel sweeps in alternating directions, in worlds with an end
  from the nearest states to the farthest, so that the end's value crosses the world in one sweep;
- greedy sweeps go from the ends outwards in place too, from a lower bound up, until only the proof is left to be done;
- the number of evaluation sweeps follows what earlier ones were worth.

``plain_policy_iteration`` says the same in twenty lines.
"""

import numpy as np

from sb3_lecture.exact.bellman import q_from_v
from sb3_lecture.exact.graph import reverse_rows, search_backward
from sb3_lecture.exact.sweep_kernels import greedy_sweep, in_place_sweep, plain_sweep, span
from sb3_lecture_envs.mdp import TabularMDP

#: plain sweeps that shrink the span by less than this factor a sweep, on average over a few, give way to Gauss-Seidel
SLOW_MIXING, FEW_SWEEPS = 0.8, 4
#: rows up to so many outcomes, and worlds up to so many actions, get loops of their own from the compiler
UNROLLED = 8
#: evaluation goes on until it changes this share of what the greedy sweep changed …
SHALLOW, DEEPER, DEEPEST = 0.3, 0.1, 1e-4
#: … but not below this share of the change that proves the tolerance, in place and plain
IN_PLACE_AIM, PLAIN_AIM = 0.3, 0.6
#: greedy sweeps in place before the proof is tried, while they change more than so many times what proves it
FIRST_SWEEPS, FAR_FROM_AIM = 1000, 30.0
#: greedy sweeps before the first evaluation
GREEDY_START = 3
#: sums of many rounded terms cannot be told apart below this share
ROUNDING = 4e-15


def plain_policy_iteration(mdp: TabularMDP, gamma: float, tol: float, max_sweeps: int) -> tuple[np.ndarray, np.ndarray]:
    """What ``solve_discounted`` computes, plainly: modified policy iteration with MacQueen's bounds. The tests' slow twin.

    :return: values within ``tol`` of the optimum, float64 [S]; a greedy policy, [S]
    """
    v, states = np.zeros(mdp.n_states), np.arange(mdp.n_states)
    while True:
        q = q_from_v(mdp, v, gamma)
        policy, d = q.argmax(axis=1), q.max(axis=1) - v
        low, high = d.min(), d.max()
        if mdp.terminated.any():  # the end's own value does not change
            low, high = min(low, 0.0), max(high, 0.0)
        v = q.max(axis=1)
        if 0.5 * gamma / (1.0 - gamma) * (high - low) <= tol:
            return v + 0.5 * gamma / (1.0 - gamma) * (high + low), policy
        for _ in range(max_sweeps):
            v = q_from_v(mdp, v, gamma)[states, policy]


def _uniform_fan(row_ptr: np.ndarray, n_rows: int) -> tuple[int, ...]:
    """A tuple as long as every row if they are all of one length, and short, else ()."""
    k = int(row_ptr[1])
    uniform = k <= UNROLLED and row_ptr[-1] == k * n_rows and bool(np.all(row_ptr[1:] - row_ptr[:-1] == k))
    return (0,) * k if uniform else ()


class Sweeper:
    """The arrays that sweeps work on: value vectors, the policy, and the chain of the policy's rows.

    ``v`` float64 [S] and ``policy`` int32 [S] may be replaced by a caller's own arrays before the first sweep.

    :param mdp: the world
    :param gamma: discount in [0, 1)
    """

    def __init__(self, mdp: TabularMDP, gamma: float) -> None:
        n, n_actions = mdp.n_states, mdp.n_actions
        self.gamma, self.horizon = gamma, gamma / (1.0 - gamma)
        self.ends = bool(mdp.terminated.any())
        self.fan = _uniform_fan(mdp.row_ptr, n * n_actions)
        self.actions = (0,) * n_actions if n_actions <= UNROLLED else ()
        self.policy, self.lead = np.zeros(n, np.int32), np.zeros(n)
        self.zero, self.lead_holds = not self.ends, False
        if self.ends:  # sweep from the ends outwards, upwards from the lowest return there could be
            back = reverse_rows(mdp.row_ptr, mdp.next_state, mdp.prob, mdp.terminated, n)
            goal, usable = np.zeros(n, np.bool_), np.ones(n * n_actions, np.bool_)
            law = (mdp.row_ptr, mdp.prob, mdp.terminated)
            _, self.order, n_ending = search_backward(*law, *back, n_actions, goal, usable)
            self.endless = self.order[n_ending:].copy()
            self.v = np.full(n, min(0.0, float(mdp.expected_reward.min())) / (1.0 - gamma))
        else:
            self.order, self.v = np.arange(n, dtype=np.int32), np.zeros(n)
            self.endless = np.zeros(0, np.int32)
        self.new_v, self.v_then = np.zeros(n), np.zeros(n)
        if self.fan:
            room, ptr = n * len(self.fan), np.zeros(1, np.int64)
        else:
            longest = np.diff(mdp.row_ptr).reshape(n, n_actions).max(axis=1)[self.order]
            ptr = np.concatenate([np.zeros(1, np.int64), np.cumsum(longest, dtype=np.int64)])
            room = int(ptr[-1])
        self.law = (mdp.row_ptr, mdp.next_state, mdp.prob, mdp.terminated, self.ends, mdp.expected_reward, gamma)
        self.chain = (ptr, np.zeros(room, np.int32), np.zeros(room), np.zeros(n))

    def greedy(self) -> tuple[float, float]:
        """``v`` becomes T v; returns the least and largest d = T v - v, with 0 counted if episodes can end."""
        low, high = (0.0, 0.0) if self.ends else (np.inf, -np.inf)
        moved = self.gamma * span(self.v, self.v_then, low, high) if self.lead_holds else np.inf
        self.v_then[:] = self.v
        state = (self.order, self.v, self.zero, moved, self.new_v, self.policy, self.lead)
        low, high = greedy_sweep(self.fan, self.actions, *self.law, *state, *self.chain)
        self.zero, self.lead_holds = False, True
        self.v, self.new_v = self.new_v, self.v
        return (min(low, 0.0), max(high, 0.0)) if self.ends else (low, high)

    def greedy_in_place(self) -> float:
        """A greedy Gauss-Seidel sweep in ``order``; returns the largest change."""
        state = (self.order, self.v, False, np.inf, self.v, self.policy, self.lead)
        low, high = greedy_sweep(self.fan, self.actions, *self.law, *state, *self.chain)
        self.lead_holds = False
        return max(-low, high)

    def shift(self, low: float) -> None:
        """Raise the values to MacQueen's lower bound where no end can be reached, so that T v >= v from here on.

        In-place sweeps do not commute with adding a constant; from a v with T v >= v they only rise and cannot cycle.
        """
        if not self.ends:
            self.v += self.horizon * low
        elif self.endless.size:  # a closed world of their own
            d = self.v[self.endless] - self.v_then[self.endless]
            self.v[self.endless] += self.horizon * max(0.0, d.min())

    def evaluate(self, target: float, max_sweeps: int) -> tuple[float, float]:
        """Plain sweeps until the span of the change is at most ``target``; returns it, and its mean factor a sweep of late."""
        spans: list[float] = []
        rate = 0.0  # one sweep alone says little: the extremes of a random world jump
        for _ in range(max_sweeps):
            low, high = plain_sweep(self.fan, self.order, *self.chain, self.v, self.new_v)
            self.v, self.new_v = self.new_v, self.v
            spans.append(high - low)
            if len(spans) > FEW_SWEEPS and spans[-1 - FEW_SWEEPS] > 0.0:
                rate = (spans[-1] / spans[-1 - FEW_SWEEPS]) ** (1 / FEW_SWEEPS)
            if spans[-1] <= target or rate > SLOW_MIXING:
                break
        return spans[-1], rate

    def sweep_in_place(self, backward: bool) -> float:
        """One Gauss-Seidel sweep of policy evaluation, in ``order`` or against it; returns the largest change."""
        return in_place_sweep(self.fan, self.order, *self.chain, self.v, backward)

    def evaluate_in_place(self, target: float, max_sweeps: int) -> float:
        """Gauss-Seidel sweeps there and back until no value changes by more than ``target``; returns the last change."""
        change = np.inf
        for sweep in range(max_sweeps):
            change = self.sweep_in_place(sweep % 2 == 0)
            if change <= target:
                break
        return change


def solve_discounted(mdp: TabularMDP, gamma: float, tol: float, max_sweeps: int) -> tuple[np.ndarray, np.ndarray, int, float]:
    """Modified policy iteration; with ``max_sweeps`` 0, value iteration.

    :param mdp: the world
    :param gamma: discount in [0, 1)
    :param tol: error allowed
    :param max_sweeps: sweeps of policy evaluation between two greedy ones, at most
    :return: values [S], greedy policy [S], number of greedy sweeps, proven bound of the values' error
    """
    sweeper = Sweeper(mdp, gamma)
    horizon = sweeper.horizon
    tol = max(tol, ROUNDING * horizon * max(1.0, horizon) * float(np.abs(mdp.expected_reward).max()))
    aim = tol / horizon if horizon else np.inf  # the largest change that proves the tolerance
    iterations = 0
    change = np.inf if sweeper.ends and max_sweeps else 0.0
    while change > FAR_FROM_AIM * aim and iterations < FIRST_SWEEPS:
        change = sweeper.greedy_in_place()
        iterations += 1
        if iterations > GREEDY_START:
            sweeper.evaluate_in_place(max(DEEPER * change, IN_PLACE_AIM * aim), max_sweeps)
    in_place, depth, reached = sweeper.ends, SHALLOW, 0.0
    while True:
        low, high = sweeper.greedy()
        iterations += 1
        bound = horizon * max(high, -low) if sweeper.ends else 0.5 * horizon * (high - low)
        if bound <= tol:
            if not sweeper.ends:
                sweeper.v += 0.5 * horizon * (low + high)  # the middle of the bounds
            return sweeper.v, sweeper.policy, iterations, bound
        if not max_sweeps:
            continue
        if in_place:
            sweeper.shift(low)
        size = max(-low, high) if in_place else high - low
        # evaluate more deeply once the greedy sweep finds no more than evaluation had left
        depth = max(DEEPER * depth, DEEPEST) if size <= 2.0 * reached else SHALLOW
        if in_place:
            reached = sweeper.evaluate_in_place(max(depth * size, IN_PLACE_AIM * aim), max_sweeps)
        else:
            reached, rate = sweeper.evaluate(max(depth * size, PLAIN_AIM * aim), max_sweeps)
            in_place = rate > SLOW_MIXING
