"""The loop of the tabular learners: every env acts, every env steps, every env is learned from.

``plain_run`` is the whole of it in twenty lines of Python. ``compile_rules(act, update)`` makes three machine-code loops of
one pair of rules (see ``kernels``): ``run``, the same with the world inside, and ``act_batch`` / ``learn_batch``, one VecEnv
step, the world being somewhere else. The tests hold ``run`` against ``plain_run``, bit by bit. How rules get into a compiled
loop is told in ``sb3_lecture.common.compiling``.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from sb3_lecture.common.compiling import compiled, fingerprint, rule
from sb3_lecture.tabular.kernels import WORLD_STREAM, Agent, uniform
from sb3_lecture_envs.mdp import TabularMDP, sample_outcome, sample_start

NO_LIMIT = np.iinfo(np.int64).max  # steps of an episode without a time limit
#: what ``learn_batch`` says of a transition
FINE, BAD_STATE, BAD_REWARD = 0, 1, 2


class World(NamedTuple):
    """The law of a TabularMDP, as the compiled loop reads it; ``certain``: deterministic; ``max_steps``: the time limit."""

    row_ptr: np.ndarray
    next_state: np.ndarray
    prob: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    start_state: np.ndarray
    start_cdf: np.ndarray
    n_actions: int
    certain: bool
    max_steps: int


class Walk(NamedTuple):
    """Where each of the n envs stands, its last transition, and the episodes that ended since Python last looked.

    ``ended`` int64 [1] counts those episodes; the last ``score.size`` of them are kept, in a ring.
    """

    state: np.ndarray  # int64 [n]
    action: np.ndarray  # int64 [n]
    elapsed: np.ndarray  # int64 [n], steps of the running episode
    total: np.ndarray  # float64 [n], its return so far, undiscounted
    reward: np.ndarray  # float64 [n]
    last_state: np.ndarray  # int64 [n], where the last transition led, before any reset
    terminated: np.ndarray  # bool [n]
    truncated: np.ndarray  # bool [n]
    ended: np.ndarray  # int64 [1]
    score: np.ndarray  # float64 [window], returns
    length: np.ndarray  # int64 [window]
    who: np.ndarray  # int64 [window], which env


class EpsilonSchedule(NamedTuple):
    """ε falls linearly from ``initial`` to ``final`` over the first ``horizon`` steps, then stays."""

    initial: float
    final: float
    horizon: float


def make_world(mdp: TabularMDP, max_steps: int | None) -> World:
    """The arrays of a law; ``max_steps=None`` means no time limit."""
    return World(
        mdp.row_ptr, mdp.next_state, mdp.prob, mdp.reward, mdp.terminated, mdp.start_state, mdp.start_cdf,
        mdp.n_actions, mdp.is_deterministic, NO_LIMIT if max_steps is None else int(max_steps),
    )  # fmt: skip


def make_walk(state: np.ndarray, window: int) -> Walk:
    """N envs that begin an episode in ``state`` [n], remembering the last ``window`` episodes."""
    n = state.shape[0]
    return Walk(
        state=state.astype(np.int64), action=np.zeros(n, np.int64), elapsed=np.zeros(n, np.int64), total=np.zeros(n),
        reward=np.zeros(n), last_state=state.astype(np.int64), terminated=np.zeros(n, np.bool_),
        truncated=np.zeros(n, np.bool_), ended=np.zeros(1, np.int64), score=np.zeros(window),
        length=np.zeros(window, np.int64), who=np.zeros(window, np.int64),
    )  # fmt: skip


def with_window(walk: Walk, window: int) -> Walk:
    """The same envs, remembering the last ``window`` episodes; they share all other arrays."""
    return walk._replace(score=np.zeros(window), length=np.zeros(window, np.int64), who=np.zeros(window, np.int64))


def plain_run(
    act: Callable[..., int], update: Callable[..., None], agent: Agent, mdp: TabularMDP, max_steps: int,
    state: list[int], elapsed: list[int], schedule: EpsilonSchedule, t: int, n_steps: int,
) -> None:  # fmt: skip
    """What ``run`` does, slowly. ``state`` and ``elapsed`` are where the envs stand; they are changed."""
    envs = range(len(state))
    for step in range(n_steps):
        agent.epsilon[0] = epsilon_at(schedule, t + step * len(state))
        actions = []
        for i in envs:
            actions.append(act(agent, i, state[i]))
            agent.tries[state[i], actions[i]] += 1
        for i in envs:
            s, a, row = state[i], actions[i], mdp.outcomes(state[i], actions[i])
            u = 0.0 if mdp.is_deterministic else uniform(agent.rng, WORLD_STREAM)
            while len(row) > 1 and u >= row[0][0]:  # the inverse of the cumulative distribution
                u -= row.pop(0)[0]
            _, s2, r, terminated = row[0]
            elapsed[i] += 1
            last = terminated or elapsed[i] >= max_steps
            update(agent, i, s, a, r, 0.0 if terminated else agent.gamma, s2, last)
            if last:
                elapsed[i], starts = 0, mdp.start_state
                s2 = starts[0]
                if len(starts) > 1:
                    s2 = starts[int((mdp.start_cdf <= uniform(agent.rng, WORLD_STREAM)).sum())]
            state[i] = int(s2)


# ---- the parts of a compiled step


@rule
def epsilon_at(schedule: EpsilonSchedule, t: int) -> float:
    """ε after t steps; the line that SB3's exploration arguments describe."""
    if t >= schedule.horizon:
        return schedule.final
    return schedule.initial + (schedule.final - schedule.initial) * (t / schedule.horizon)


@rule
def world_step(
    agent: Agent, world: World, s: int, a: int, elapsed: int, total: float
) -> tuple[float, int, bool, bool, int, float]:
    """Action a in state s; returns r, s', terminated, truncated, and the episode's steps and return with this step."""
    j = s * world.n_actions + a  # with one outcome a row, entries and rows are the same
    if not world.certain:
        j = int(sample_outcome(world.row_ptr, world.prob, j, uniform(agent.rng, WORLD_STREAM)))
    r, terminated = world.reward[j], world.terminated[j]
    truncated = elapsed + 1 >= world.max_steps and not terminated
    return r, int(world.next_state[j]), terminated, truncated, elapsed + 1, total + r


@rule
def settle(
    agent: Agent, world: World, walk: Walk, i: int, a: int, r: float, s2: int, terminated: bool, truncated: bool,
    elapsed: int, total: float, look: bool,
) -> tuple[int, int, float]:  # fmt: skip
    """Env i after its step: note an episode that has ended and start a new one.

    :param elapsed: steps of the episode
    :param total: its return
    :param look: a callback may look at this transition, so it must be written down
    :return: the state in which to act next, and the steps and the return of the episode that goes on there
    """
    if look or terminated or truncated:
        walk.action[i], walk.reward[i], walk.last_state[i] = a, r, s2
        walk.terminated[i], walk.truncated[i] = terminated, truncated
    if terminated or truncated:
        k = walk.ended[0] % walk.score.shape[0]
        walk.score[k], walk.length[k], walk.who[k] = total, elapsed, i
        walk.ended[0] += 1
        s2, elapsed, total = int(world.start_state[0]), 0, 0.0
        if world.start_state.shape[0] > 1:
            s2 = int(sample_start(world.start_state, world.start_cdf, uniform(agent.rng, WORLD_STREAM)))
    return s2, elapsed, total


# ---- the compiled loops


class Loops(NamedTuple):
    """The compiled loops of one pair of rules; each compiles at its first call, or comes from the disk cache."""

    run: Callable[..., int]
    act_batch: Callable[..., int]
    learn_batch: Callable[..., tuple[int, int]]


@cache
def compile_rules(act: Callable[..., int], update: Callable[..., None]) -> Loops:
    """The loops of an algorithm.

    :param act: rule ``(agent, i, s) -> a``
    :param update: rule ``(agent, i, s, a, r, discount, s2, last)``
    """
    source = fingerprint(act, update, world_step, settle)  # closed over only to become part of the cache's key
    return Loops(_make_run(act, update, source), *_make_batches(act, update, source))


def _make_run(act: Callable[..., int], update: Callable[..., None], source: str) -> Callable[..., int]:
    @compiled
    def run(agent, world, walk, schedule, t, n_steps, max_episodes):  # type: ignore[no-untyped-def]
        """Up to n_steps lockstep steps of all envs, t timesteps being done; returns how many were taken.

        Every env acts, then every env steps and learns, as with a VecEnv. Stops early after ``max_episodes`` ended episodes.
        """
        source  # noqa: B018
        n = walk.state.shape[0]
        falling = np.int64(np.ceil((schedule.horizon - t) / n)) + 1  # steps from here on which epsilon changes
        step = 0
        if n == 1:  # what the only env is at stays in registers
            s, elapsed, total = walk.state[0], walk.elapsed[0], walk.total[0]
            while step < n_steps and walk.ended[0] < max_episodes:
                if step < falling:
                    agent.epsilon[0] = epsilon_at(schedule, t + step)
                step += 1
                a = act(agent, 0, s)
                agent.tries[s, a] += 1
                r, s2, terminated, truncated, elapsed, total = world_step(agent, world, s, a, elapsed, total)
                update(agent, 0, s, a, r, 0.0 if terminated else agent.gamma, s2, terminated or truncated)
                s, elapsed, total = settle(
                    agent, world, walk, 0, a, r, s2, terminated, truncated, elapsed, total, step == n_steps
                )
            walk.state[0], walk.elapsed[0], walk.total[0] = s, elapsed, total
            return step
        while step < n_steps and walk.ended[0] < max_episodes:
            if step < falling:
                agent.epsilon[0] = epsilon_at(schedule, t + step * n)
            for i in range(n):
                walk.action[i] = act(agent, i, walk.state[i])
                agent.tries[walk.state[i], walk.action[i]] += 1
            for i in range(n):
                s, a, elapsed, total = walk.state[i], walk.action[i], walk.elapsed[i], walk.total[i]
                r, s2, terminated, truncated, elapsed, total = world_step(agent, world, s, a, elapsed, total)
                update(agent, i, s, a, r, 0.0 if terminated else agent.gamma, s2, terminated or truncated)
                s, elapsed, total = settle(agent, world, walk, i, a, r, s2, terminated, truncated, elapsed, total, True)
                walk.state[i], walk.elapsed[i], walk.total[i] = s, elapsed, total
            step += 1
        return step

    return run


def _make_batches(act: Callable[..., int], update: Callable[..., None], source: str) -> tuple[Callable[..., Any], ...]:
    @compiled
    def act_batch(agent, schedule, t, state, action):  # type: ignore[no-untyped-def]
        """Write the actions of all envs, t timesteps being done; returns the number of a state that is none, or -1."""
        source  # noqa: B018
        agent.epsilon[0] = epsilon_at(schedule, t)
        for i in range(state.shape[0]):
            if not 0 <= state[i] < agent.q.shape[0]:
                return i
            action[i] = act(agent, i, state[i])
            agent.tries[state[i], action[i]] += 1
        return -1

    @compiled
    def learn_batch(agent, state, action, reward, next_state, terminated, truncated):  # type: ignore[no-untyped-def]
        """Learn from one transition of every env, in their order; all arrays [n]. Returns what was wrong, and with whom."""
        source  # noqa: B018
        for i in range(state.shape[0]):
            if not 0 <= next_state[i] < agent.q.shape[0]:
                return BAD_STATE, i
            if not np.isfinite(reward[i]):
                return BAD_REWARD, i
            update(
                agent, i, state[i], action[i], reward[i], 0.0 if terminated[i] else agent.gamma, next_state[i],
                terminated[i] or truncated[i],
            )  # fmt: skip
        return FINE, -1

    return act_batch, learn_batch
