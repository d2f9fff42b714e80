"""Eligibility traces, and the list of those that are not 0: a step costs as many updates as entries are remembered.

A trace that has faded below 1e-10 is taken as 0. For values of states, the table has one column and a is 0.
"""

from typing import Any, NamedTuple

import numpy as np

from sb3_lecture.common.compiling import rule

FADED = 1e-10


class Traces(NamedTuple):
    """The traces of each env."""

    trace: np.ndarray  # float64 [n_envs, S, A]
    active_state: np.ndarray  # int64 [n_envs, S * A], the first ``n_active`` entries name what is remembered
    active_action: np.ndarray  # int64 [n_envs, S * A]
    n_active: np.ndarray  # int64 [n_envs]


@rule
def set_trace(memory: Any, i: int, s: int, a: int, value: float) -> None:
    """Give (s, a) a trace that is not 0, and remember it."""
    if memory.trace[i, s, a] == 0.0:
        k = memory.n_active[i]
        memory.active_state[i, k], memory.active_action[i, k] = s, a
        memory.n_active[i] = k + 1
    memory.trace[i, s, a] = value


@rule
def fade(memory: Any, i: int, by: float) -> None:
    """Fade, e ← by · e, all that env i remembers; what falls below FADED is forgotten (``by`` 0 forgets all)."""
    k = 0
    while k < memory.n_active[i]:
        s, a = memory.active_state[i, k], memory.active_action[i, k]
        memory.trace[i, s, a] *= by
        if memory.trace[i, s, a] >= FADED:
            k += 1
        else:  # the last one takes its place
            memory.trace[i, s, a] = 0.0
            memory.n_active[i] -= 1
            memory.active_state[i, k] = memory.active_state[i, memory.n_active[i]]
            memory.active_action[i, k] = memory.active_action[i, memory.n_active[i]]


def make_traces(n_envs: int, n_states: int, n_columns: int) -> Traces:
    """Nothing is remembered."""
    entries = n_states * n_columns
    return Traces(
        trace=np.zeros((n_envs, n_states, n_columns)), active_state=np.zeros((n_envs, entries), np.int64),
        active_action=np.zeros((n_envs, entries), np.int64), n_active=np.zeros(n_envs, np.int64),
    )  # fmt: skip
