"""TabularMDP: a finite Markov decision process as flat arrays.

The law of a world is p(s', r | s, a) (Sutton & Barto 2018, eq. 3.2). Every state-action pair (s, a) owns one *row*,
number ``s * n_actions + a``; the outcomes of a row are the entries ``row_ptr[row] : row_ptr[row + 1]`` of four parallel
arrays (compressed sparse rows). One object serves the env, the vectorised env, exact solvers, compiled learners and search.

An outcome with ``terminated=True`` ends the episode: it contributes its reward and no future value, whatever its
``next_state`` is. A terminal state is written as Gymnasium writes it: every action leads back to it with reward 0 and
``terminated=True``.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from typing import Any

import gymnasium as gym
import numba
import numpy as np
import numpy.typing as npt

from sb3_lecture_envs.stated_law import check_law

#: Gymnasium's form of a law: ``P[s][a] = [(probability, next_state, reward, terminated), …]``
TransitionDict = Mapping[int, Mapping[int, Sequence[tuple[float, int, float, bool]]]]

#: how far the probabilities of one row may sum from 1
PROBABILITY_TOLERANCE = 1e-8


@numba.njit(cache=True, inline="always")
def sample_outcome(row_ptr: np.ndarray, prob: np.ndarray, row: int, u: float) -> int:
    """Inverse of the cumulative distribution of one row.

    :param row_ptr: first entry of each row, [S * A + 1]
    :param prob: probability of each entry, [T]
    :param row: ``s * n_actions + a``
    :param u: a uniform number in [0, 1)
    :return: the entry j of the outcome drawn
    """
    j = row_ptr[row]
    last = row_ptr[row + 1] - 1
    while j < last and u >= prob[j]:
        u -= prob[j]
        j += 1
    while prob[j] == 0.0:  # the row sums to a little less than 1, and u is above that
        j -= 1
    return j


@numba.njit(cache=True, inline="always")
def sample_start(start_state: np.ndarray, start_cdf: np.ndarray, u: float) -> int:
    """A start state from a uniform number, by bisection of the cumulative start distribution.

    :param start_state: the states an episode may start in, [M]
    :param start_cdf: cumulative probabilities of ``start_state``, [M]
    :param u: a uniform number in [0, 1)
    :return: the state drawn
    """
    i = np.searchsorted(start_cdf, u, side="right")
    return start_state[min(int(i), start_state.shape[0] - 1)]


@numba.njit(cache=True)
def _expected_reward(row_ptr: np.ndarray, prob: np.ndarray, reward: np.ndarray, out: np.ndarray) -> None:
    for row in range(out.shape[0]):
        total = 0.0
        for j in range(row_ptr[row], row_ptr[row + 1]):
            total += prob[j] * reward[j]
        out[row] = total


@numba.njit(cache=True)
def _bad_row(row_ptr: np.ndarray, prob: np.ndarray, tolerance: float) -> int:
    """First row whose probabilities are negative, NaN or do not sum to 1; -1 if all are well."""
    for row in range(row_ptr.shape[0] - 1):
        total = 0.0
        for j in range(row_ptr[row], row_ptr[row + 1]):
            if not prob[j] >= 0.0:
                return row
            total += prob[j]
        if not abs(total - 1.0) <= tolerance:
            return row
    return -1


@numba.njit(cache=True)
def _reachable(
    row_ptr: np.ndarray,
    next_state: np.ndarray,
    prob: np.ndarray,
    terminated: np.ndarray,
    n_actions: int,
    seen: np.ndarray,
    stack: np.ndarray,
    depth: int,
) -> None:
    """Depth-first search over outcomes that do not end the episode; ``stack[:depth]`` holds the starts, marked in ``seen``."""
    while depth > 0:
        depth -= 1
        s = stack[depth]
        for j in range(row_ptr[s * n_actions], row_ptr[(s + 1) * n_actions]):
            t = next_state[j]
            if prob[j] > 0.0 and not terminated[j] and not seen[t]:
                seen[t] = True
                stack[depth] = t
                depth += 1


class TabularMDP:
    """A finite MDP: p(s', r, terminated | s, a) in flat arrays, with a start distribution.

    About 21 bytes an outcome (int32 + 2 float64 + bool) and 4 bytes a state-action pair. The arrays are read-only
    views: no copy is made of an array that has the right type already.

    :param n_states: number of states S
    :param n_actions: number of actions A, the same in every state
    :param row_ptr: [S * A + 1], outcomes of (s, a) are the entries ``row_ptr[s * A + a] : row_ptr[s * A + a + 1]``
    :param next_state: [T], the state an outcome leads to
    :param prob: [T], its probability; each row sums to 1
    :param reward: [T], its reward, on (s, a, s')
    :param terminated: [T], whether it ends the episode
    :param start_state: [M], states an episode may start in
    :param start_prob: [M], their probabilities, summing to 1
    :param action_mask: [S, A], actions a mask-aware agent may take; None: all of them
    :raises ValueError: if a shape, a probability or an index is wrong; the message names the value and what is allowed
    """

    def __init__(
        self,
        n_states: int,
        n_actions: int,
        row_ptr: npt.ArrayLike,
        next_state: npt.ArrayLike,
        prob: npt.ArrayLike,
        reward: npt.ArrayLike,
        terminated: npt.ArrayLike,
        start_state: npt.ArrayLike,
        start_prob: npt.ArrayLike,
        action_mask: npt.ArrayLike | None = None,
    ) -> None:
        if n_states < 1 or n_actions < 1:
            raise ValueError(f"An MDP needs at least one state and one action, got n_states={n_states}, n_actions={n_actions}")
        self.n_states, self.n_actions = int(n_states), int(n_actions)
        n_entries = np.shape(prob)[0]
        index = np.int32 if n_entries < 2**31 else np.int64
        self.row_ptr = _frozen(row_ptr, index, (n_states * n_actions + 1,), "row_ptr")
        self.next_state = _frozen(next_state, np.int32, (n_entries,), "next_state")
        self.prob = _frozen(prob, np.float64, (n_entries,), "prob")
        self.reward = _frozen(reward, np.float64, (n_entries,), "reward")
        self.terminated = _frozen(terminated, np.bool_, (n_entries,), "terminated")
        self.start_state = _frozen(start_state, np.int32, (np.shape(start_prob)[0],), "start_state")
        self.start_prob = _frozen(start_prob, np.float64, self.start_state.shape, "start_prob")
        self.action_mask = (
            None if action_mask is None else _frozen(action_mask, np.bool_, (n_states, n_actions), "action_mask")
        )
        self._validate()

    def _validate(self) -> None:
        n_entries = self.prob.shape[0]
        if self.row_ptr[0] != 0 or self.row_ptr[-1] != n_entries or np.any(np.diff(self.row_ptr) < 1):
            raise ValueError(
                "row_ptr must rise from 0 to the number of outcomes with at least one outcome a row, "
                f"got row_ptr[0]={self.row_ptr[0]}, row_ptr[-1]={self.row_ptr[-1]} for {n_entries} outcomes"
            )
        for name, states in (("next_state", self.next_state), ("start_state", self.start_state)):
            if states.size and not (0 <= states.min() and states.max() < self.n_states):
                entry = int(np.argmax((states < 0) | (states >= self.n_states)))
                where = f" for {self._pair_of(entry)}" if name == "next_state" else ""
                raise ValueError(f"{name} holds {states[entry]}{where}, states are 0 to {self.n_states - 1}")
        if not np.all(np.isfinite(self.reward)):
            entry = int(np.argmin(np.isfinite(self.reward)))
            raise ValueError(f"A reward of {self._pair_of(entry)} is {self.reward[entry]}; rewards must be finite")
        row = _bad_row(self.row_ptr, self.prob, PROBABILITY_TOLERANCE)
        if row >= 0:
            p = self.prob[self.row_ptr[row] : self.row_ptr[row + 1]]
            raise ValueError(
                f"The probabilities of state {row // self.n_actions}, action {row % self.n_actions} are {p.tolist()} with "
                f"sum {p.sum()}; each must be at least 0 and they must sum to 1 (within {PROBABILITY_TOLERANCE})"
            )
        if not (np.all(self.start_prob >= 0) and abs(self.start_prob.sum() - 1.0) <= PROBABILITY_TOLERANCE):
            wrong = self.start_state[~(self.start_prob >= 0)]
            which = f"the probability of state {wrong[0]} is not" if wrong.size else f"its sum is {self.start_prob.sum()}"
            raise ValueError(f"The start distribution must be at least 0 and sum to 1, {which}")
        if self.action_mask is not None and not self.action_mask.any(axis=1).all():
            raise ValueError(
                f"action_mask allows no action in state {int(np.argmin(self.action_mask.any(axis=1)))}; allow one"
            )

    def _pair_of(self, entry: int) -> str:
        row = int(np.searchsorted(self.row_ptr, entry, side="right")) - 1
        return f"state {row // self.n_actions}, action {row % self.n_actions}"

    # ---- other ways to state a law

    @classmethod
    def from_P(
        cls, P: TransitionDict, start: npt.ArrayLike | int = 0, action_mask: npt.ArrayLike | None = None
    ) -> "TabularMDP":
        """Read Gymnasium's dictionary form; outcomes of one row with the same meaning stay apart, as they are written.

        :param P: ``P[s][a] = [(probability, next_state, reward, terminated), …]`` for s = 0 … S-1, a = 0 … A-1
        :param start: start distribution [S], or one start state; default state 0
        :param action_mask: [S, A] or None
        :raises ValueError: naming the state and action that is missing, or whose outcomes are no distribution of that form
        """
        n_states, n_actions = len(P), len(P[0]) if 0 in P else 0
        if n_actions == 0:
            raise ValueError(
                f"P must be {{state: {{action: outcomes}}}} with at least one state and one action, got {P!r:.80}"
            )
        rows: list[Sequence[tuple[float, int, float, bool]]] = []
        for s in range(n_states):
            if s not in P or sorted(P[s]) != list(range(n_actions)):
                raise ValueError(
                    f"P must have the keys 0 to {n_states - 1} and each P[s] the keys 0 to {n_actions - 1}; state {s} has "
                    f"{sorted(P[s]) if s in P else 'no entry'}"
                )
            for a in range(n_actions):
                _check_outcomes(P[s][a], s, a)
                rows.append(P[s][a])
        prob, next_state, reward, terminated = zip(*(outcome for row in rows for outcome in row), strict=True)
        row_ptr = np.concatenate([[0], np.cumsum([len(row) for row in rows])])
        start_state, start_prob = _sparse_start(start, n_states)
        return cls(n_states, n_actions, row_ptr, next_state, prob, reward, terminated, start_state, start_prob, action_mask)

    @classmethod
    def from_gymnasium(cls, env: gym.Env) -> "TabularMDP":
        """Read the law of any env that states it as ``P`` (FrozenLake, Taxi, CliffWalking, ours).

        The start distribution is ``initial_state_distrib`` where the env has one, otherwise the one state in which its resets
        begin. ``P`` is held against steps of a copy of the env (see ``stated_law``); the env itself stays as it is.

        :param env: the env, wrapped or not
        :raises ValueError: if the env has no ``P``, or does what its ``P`` does not hold
        """
        core: Any = env.unwrapped
        if isinstance(getattr(core, "mdp", None), TabularMDP):
            return core.mdp
        if not hasattr(core, "P"):
            raise ValueError(f"{core} has no transition law P (P[s][a] = [(probability, next_state, reward, terminated), …])")
        cls.from_P(core.P)  # the form, before anything is stepped
        return cls.from_P(core.P, check_law(core))

    @classmethod
    def from_dense(
        cls,
        transition: npt.ArrayLike,
        reward: npt.ArrayLike,
        terminal: npt.ArrayLike | None = None,
        start: npt.ArrayLike | int = 0,
    ) -> "TabularMDP":
        """Read dense matrices.

        :param transition: [S, A, S'] probabilities
        :param reward: [S, A, S'] or [S, A]
        :param terminal: [S], states that end the episode when entered; None: none does
        :param start: start distribution [S], or one start state; default state 0
        :raises ValueError: if the shapes do not fit
        """
        p = np.asarray(transition, dtype=np.float64)
        if p.ndim != 3 or p.shape[0] != p.shape[2]:
            raise ValueError(f"transition must have shape [S, A, S], got {p.shape}")
        n_states, n_actions, _ = p.shape
        r = np.asarray(reward, dtype=np.float64)
        if r.shape not in (p.shape, p.shape[:2]):
            raise ValueError(f"reward must have shape {p.shape} or {p.shape[:2]}, got {r.shape}")
        r = np.broadcast_to(r if r.ndim == 3 else r[:, :, None], p.shape).copy()
        end = np.zeros(n_states, dtype=np.bool_) if terminal is None else np.asarray(terminal, dtype=np.bool_)
        p = p.copy()
        p[end], r[end] = 0.0, 0.0
        p[end, :, end] = 1.0  # a terminal state leads to itself
        s, a, next_state = np.nonzero(p)
        row_ptr = np.concatenate([[0], np.cumsum(np.count_nonzero(p, axis=2).ravel())])
        return cls(
            n_states, n_actions, row_ptr, next_state, p[s, a, next_state], r[s, a, next_state], end[next_state],
            *_sparse_start(start, n_states),
        )  # fmt: skip

    # ---- what follows from the law

    @cached_property
    def is_deterministic(self) -> bool:
        """Whether every state-action pair has one outcome."""
        return self.prob.shape[0] == self.n_states * self.n_actions

    @cached_property
    def start_cdf(self) -> np.ndarray:
        """Cumulative probabilities of ``start_state``, float64 [M]."""
        return np.cumsum(self.start_prob)

    @property
    def start(self) -> np.ndarray:
        """The start distribution over all states, float64 [S]."""
        return np.bincount(self.start_state, weights=self.start_prob, minlength=self.n_states)

    @cached_property
    def expected_reward(self) -> np.ndarray:
        """r(s, a) = Σ p(s', r | s, a) r (Sutton & Barto, eq. 3.5), float64 [S, A]."""
        out = np.empty(self.n_states * self.n_actions)
        _expected_reward(self.row_ptr, self.prob, self.reward, out)
        return out.reshape(self.n_states, self.n_actions)

    @cached_property
    def reachable(self) -> np.ndarray:
        """States in which an action can be due: those met from the start before the episode ends, bool [S]."""
        seen = np.zeros(self.n_states, dtype=np.bool_)
        starts = np.unique(self.start_state[self.start_prob > 0])
        seen[starts] = True
        stack = np.empty(self.n_states, dtype=np.int64)
        stack[: starts.size] = starts
        _reachable(self.row_ptr, self.next_state, self.prob, self.terminated, self.n_actions, seen, stack, starts.size)
        return seen

    @property
    def P(self) -> dict[int, dict[int, list[tuple[float, int, float, bool]]]]:
        """The law in Gymnasium's form, built anew at each call; see ``TransitionDict``."""
        return {s: {a: self.outcomes(s, a) for a in range(self.n_actions)} for s in range(self.n_states)}

    def outcomes(self, state: int, action: int) -> list[tuple[float, int, float, bool]]:
        """The outcomes of one state-action pair: ``[(probability, next_state, reward, terminated), …]``."""
        row = state * self.n_actions + action
        entries = slice(self.row_ptr[row], self.row_ptr[row + 1])
        columns = (self.prob[entries], self.next_state[entries], self.reward[entries], self.terminated[entries])
        return list(zip(*(column.tolist() for column in columns), strict=True))

    @property
    def nbytes(self) -> int:
        """Memory of the law's arrays, bytes."""
        return sum(array.nbytes for array in self._arrays().values() if array is not None)

    def _arrays(self) -> dict[str, np.ndarray | None]:
        names = ("row_ptr", "next_state", "prob", "reward", "terminated", "start_state", "start_prob", "action_mask")
        return {name: getattr(self, name) for name in names}

    def same_as(self, other: "TabularMDP") -> bool:
        """Whether two laws are equal, entry by entry."""
        if self is other:
            return True
        pairs = zip(self._arrays().values(), other._arrays().values(), strict=True)
        return all((x is None and y is None) or (x is not None and y is not None and np.array_equal(x, y)) for x, y in pairs)

    def __repr__(self) -> str:
        kind = "deterministic" if self.is_deterministic else "stochastic"
        return f"TabularMDP({self.n_states} states, {self.n_actions} actions, {self.prob.shape[0]} outcomes, {kind})"

    def __reduce__(self) -> tuple[Callable[..., "TabularMDP"], tuple[Any, ...]]:
        return TabularMDP, (self.n_states, self.n_actions, *self._arrays().values())


def _check_outcomes(outcomes: Any, s: int, a: int) -> None:
    """Refuse what is no list of (probability, next state, reward, terminated)."""
    form = "a list of at least one (probability, next_state, reward, terminated)"
    if not isinstance(outcomes, Sequence) or len(outcomes) == 0:
        raise ValueError(f"P[{s}][{a}] must be {form}, got {outcomes!r:.80}")
    for outcome in outcomes:
        if not isinstance(outcome, Sequence) or isinstance(outcome, str) or len(outcome) != 4:
            raise ValueError(f"P[{s}][{a}] must be {form}, it holds {outcome!r:.80}")


def _frozen(values: npt.ArrayLike, dtype: npt.DTypeLike, shape: tuple[int, ...], name: str) -> np.ndarray:
    source = np.asarray(values)
    if source.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {source.shape}")
    if np.issubdtype(dtype, np.integer) and not np.issubdtype(source.dtype, np.integer) and np.any(source != source // 1):
        raise ValueError(f"{name} must hold whole numbers, got {source[source != source // 1][0]}")
    array = np.ascontiguousarray(source, dtype=dtype).view()  # a view: no copy where the dtype fits
    array.flags.writeable = False
    return array


def _sparse_start(start: npt.ArrayLike | int, n_states: int) -> tuple[np.ndarray, np.ndarray]:
    if np.ndim(start) == 0:
        return np.array([start]), np.ones(1)
    dense = np.asarray(start, dtype=np.float64)
    if dense.shape != (n_states,):
        raise ValueError(f"start must be one state or a distribution of shape ({n_states},), got shape {dense.shape}")
    states = np.flatnonzero(dense)
    return states, dense[states]
