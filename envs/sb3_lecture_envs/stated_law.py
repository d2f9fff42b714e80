"""Does an env keep to the law that it states as ``P``? A rehearsal on a copy, before anyone trusts the law.

Gymnasium's tables state p(s', r | s, a) as ``P`` and their starts as ``initial_state_distrib``, but nothing makes ``step``
keep to them: Taxi's ``fickle_passenger`` changes the destination behind P's back. So a copy of the env takes some two thousand
steps, always the same ones: walks with random actions, steps from states all over the world (where the env keeps its state as
``s``) with resets in between, and a few rows many times. A single step or start that P does not hold refutes it; frequencies
do where they are further off than chance allows once in 10^9 rehearsals (Chernoff's bound on a binomial share). What the copy
does leaves the env and its random numbers as they are.
"""

import copy
import math
from typing import Any

import gymnasium as gym
import numpy as np

#: steps of the walks, and their longest; steps from anywhere, and those between two resets; rows drawn often, and how often
WALK, LONGEST_WALK = 400, 100
JUMPS, JUMPS_A_RESET = 800, 8
FREQUENT_ROWS, FREQUENT_STEPS = 6, 150
#: resets that must agree where no start distribution is stated
RESETS = 8
#: chance that an env which keeps to its law is refused for its frequencies
FALSE_ALARM = 1e-9
#: rewards this close are equal
SAME_REWARD = 1e-9

Outcomes = list[tuple[float, int, float, bool]]


def detached(core: Any) -> Any:
    """A copy of an env that shares its law ``P`` and its windows, and nothing that a step changes.

    :param core: an unwrapped env
    """
    twin = object.__new__(type(core))
    memo = {id(core): twin, id(core.P): core.P}
    for name, value in vars(core).items():
        try:
            vars(twin)[name] = copy.deepcopy(value, memo)
        except (TypeError, ValueError, NotImplementedError, RuntimeError):  # windows, clocks, locks
            vars(twin)[name] = value
    vars(twin)["render_mode"] = None
    return twin


def check_law(core: Any) -> int | np.ndarray:
    """Rehearse the law that an env states as ``P``.

    :param core: an unwrapped env with a complete ``P``; it is left as it is
    :return: its start: the distribution it states, or the one state in which its resets begin
    :raises ValueError: naming the step that the law does not hold
    """
    rehearsal = _Rehearsal(core)
    try:
        return rehearsal.run()
    except _Deviation as found:
        raise ValueError(
            f"The law P of {core} is not what the env does: {found}. Its values would be those of another world; learn from "
            "its steps (backend='env'), or state the whole law as a TabularMDP"
        ) from None


class _Deviation(Exception):
    """A step or a start that the stated law does not hold."""


class _Rehearsal:
    def __init__(self, core: Any) -> None:
        self.twin, self.P = detached(core), core.P
        self.n_actions = len(self.P[0])
        self.rng = np.random.default_rng(0)
        self.can_jump = False  # until a reset has shown a state ``s``
        start = getattr(core, "initial_state_distrib", None)
        self.start = None if start is None else np.asarray(start, np.float64)
        self.first: int | None = None

    def run(self) -> int | np.ndarray:
        for seed in range(RESETS):
            self._reset(seed)
        self._walk()
        if self.can_jump:
            states = self._met()
            self._jump(states)
            self._count(states)
        return self._start() if self.start is None else self.start

    def _start(self) -> int:
        assert self.first is not None  # the first reset has set it
        return self.first

    def _reset(self, seed: int | None = None) -> int:
        observation, _ = self.twin.reset(seed=seed)
        self.can_jump = isinstance(getattr(self.twin, "s", None), (int, np.integer))
        s = self._state(observation)
        if self.start is None and self.first not in (None, s):
            raise _Deviation(f"it states no initial_state_distrib, and its resets begin in state {self.first} and in {s}")
        if self.start is not None and not self.start[s] > 0.0:
            raise _Deviation(f"a reset began in state {s}, whose probability in initial_state_distrib is {self.start[s]}")
        self.first = s
        return s

    def _state(self, observation: Any) -> int:
        """The state's number, which is what these envs show."""
        s = int(self.twin.s) if self.can_jump else int(observation)
        if isinstance(self.twin.observation_space, gym.spaces.Discrete) and int(observation) != s:
            raise _Deviation(f"in state {s} it shows {observation}")
        return s

    def _step(self, s: int, a: int) -> tuple[int, float, bool, bool]:
        observation, reward, terminated, truncated, _ = self.twin.step(a)
        after, reward, terminated = self._state(observation), float(reward), bool(terminated)
        if not any(p > 0.0 and _same((t, r, end), (after, reward, terminated)) for p, t, r, end in self.P[s][a]):
            raise _Deviation(
                f"in state {s}, action {a} led to state {after} with reward {reward:g} and terminated={terminated}, which "
                f"P[{s}][{a}] does not hold"
            )
        return after, reward, terminated, bool(truncated)

    def _walk(self) -> None:
        s, length = self._reset(), 0
        for a in self.rng.integers(self.n_actions, size=WALK).tolist():
            s, _, terminated, truncated = self._step(s, a)
            length += 1
            if terminated or truncated or length == LONGEST_WALK:
                s, length = self._reset(), 0

    def _met(self) -> list[int]:
        """The states in which an action can be due, by the law: those that a copy may be put into."""
        frontier: list[int] = [self._start()] if self.start is None else np.flatnonzero(self.start).tolist()
        met = set(frontier)
        while frontier:
            for outcomes in self.P[frontier.pop()].values():
                for p, t, _, end in outcomes:
                    if p > 0.0 and not end and t not in met:
                        met.add(t)
                        frontier.append(t)
        return sorted(met)

    def _jump(self, states: list[int]) -> None:
        chosen, actions = self.rng.choice(states, JUMPS).tolist(), self.rng.integers(self.n_actions, size=JUMPS).tolist()
        for i, (s, a) in enumerate(zip(chosen, actions, strict=True)):
            if i % JUMPS_A_RESET == 0:
                self._reset()
            self.twin.s = s
            _, _, terminated, truncated = self._step(s, a)
            if terminated or truncated:
                self._reset()

    def _count(self, states: list[int]) -> None:
        """Draw a few rows with several outcomes often, and compare each outcome's share with its probability."""
        rows = [(s, a) for s in states for a in range(self.n_actions) if len(_merged(self.P[s][a])) > 1]
        picks = self.rng.permutation(len(rows))[:FREQUENT_ROWS]
        for s, a in (rows[i] for i in picks):
            merged = _merged(self.P[s][a])
            counts = [0] * len(merged)
            self._reset()
            for _ in range(FREQUENT_STEPS):
                self.twin.s = s
                after, reward, terminated, truncated = self._step(s, a)
                counts[
                    next(i for i, (_, t, r, end) in enumerate(merged) if _same((t, r, end), (after, reward, terminated)))
                ] += 1
                if terminated or truncated:
                    self._reset()
            for count, (p, t, _, _) in zip(counts, merged, strict=True):
                chance = 2.0 * math.exp(-FREQUENT_STEPS * _divergence(count / FREQUENT_STEPS, min(p, 1.0)))
                if chance * FREQUENT_ROWS * len(merged) < FALSE_ALARM:
                    raise _Deviation(
                        f"in state {s}, action {a} led to state {t} {count} times of {FREQUENT_STEPS}, P[{s}][{a}] gives "
                        f"it the probability {p:.3g}"
                    )


def _same(a: tuple[int, float, bool], b: tuple[int, float, bool]) -> bool:
    return a[0] == b[0] and bool(a[2]) == bool(b[2]) and abs(a[1] - b[1]) <= SAME_REWARD * max(1.0, abs(b[1]))


def _merged(outcomes: Outcomes) -> Outcomes:
    """Outcomes of positive probability, those that look alike as one."""
    merged: Outcomes = []
    for p, t, r, end in outcomes:
        for i, other in enumerate(merged):
            if _same((t, r, end), other[1:]):
                merged[i] = (other[0] + p, *other[1:])
                break
        else:
            if p > 0.0:
                merged.append((p, t, r, end))
    return merged


def _divergence(share: float, p: float) -> float:
    """Kullback and Leibler's distance of two coins: P(a share this far off) ≤ 2 exp(-n · distance)."""
    total = 0.0
    for q, expected in ((share, p), (1.0 - share, 1.0 - p)):
        if q > 0.0:
            total += q * math.log(q / expected) if expected > 0.0 else math.inf
    return total
