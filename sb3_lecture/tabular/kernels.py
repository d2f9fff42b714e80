"""What the tabular learners share below Python: random numbers, exploration, and the compiled loop.

An algorithm is a pair of *rules*, plain functions marked ``@rule``:

- ``act(agent, i, s) -> a``: the action of env i in state s (``choose`` unless the algorithm commits to actions ahead);
- ``update(agent, i, s, a, r, s2, terminated, truncated)``: learn from one transition of env i.

``compile_rules(act, update)`` makes three machine-code loops of one pair: ``run`` (world, exploration and update together),
and ``act_batch`` / ``learn_batch`` (one VecEnv step, the world being somewhere else). So each rule is written once.

Three decisions about numba, all measured:

- Rules are closed over, not passed as arguments: numba's disk cache keys on a closure's contents, and a rule is a plain
  module-level function that pickles by its name (one defined inside another would miss the cache every time). A fingerprint
  of the rules and all that they call is closed over as well, because numba looks at the loop's own file only.
- ``_nrt=False``: the loops never allocate, so arrays need no reference counts. With counts the loop is five times slower.
- ``forceinline``: an agent is a tuple of about ten arrays; handing it to a function that is not inlined copies all of them.
"""

import hashlib
import inspect
from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numba.extending import register_jitable

from sb3_lecture_envs.mdp import TabularMDP, sample_outcome, sample_start

#: marks a function that loops compiled by ``compile_rules`` may call; Python may call it, too
rule = register_jitable(forceinline=True)

_njit: Any = njit  # numba's type stubs do not know ``_nrt``
compiled = _njit(cache=True, _nrt=False, error_model="numpy")

EPSILON_GREEDY, SOFTMAX, UCB = 0, 1, 2
EXPLORATIONS = {"epsilon-greedy": EPSILON_GREEDY, "softmax": SOFTMAX, "ucb": UCB}

AGENT_STREAM, WORLD_STREAM = 0, 1  # the two random streams: what the learner draws, what the world draws


class Nothing(NamedTuple):
    """The memory of an algorithm that keeps nothing but its table."""


class Agent(NamedTuple):
    """All that a rule reads and writes. Arrays are views: what a rule writes is in the model at once.

    ``q`` float64 [S, A] (prediction: values [S, 1]), ``visits`` int64 like q, ``rng`` uint64 [2], ``epsilon`` float64 [1],
    ``alpha`` the step size (negative: 1/N), ``exploration`` as many zeros as EXPLORATIONS says (the compiler knows a
    tuple's length, so it leaves out the other ways to explore), ``memory`` the algorithm's own arrays, ``options`` its own
    numbers (two named tuples).
    """

    q: np.ndarray
    visits: np.ndarray
    rng: np.ndarray
    epsilon: np.ndarray
    alpha: float
    gamma: float
    exploration: tuple[int, ...]
    temperature: float
    ucb_c: float
    memory: Any
    options: Any


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
    limit = np.iinfo(np.int64).max if max_steps is None else int(max_steps)
    return World(
        mdp.row_ptr, mdp.next_state, mdp.prob, mdp.reward, mdp.terminated, mdp.start_state, mdp.start_cdf,
        mdp.n_actions, mdp.is_deterministic, limit,
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


# ---- random numbers: splitmix64 (Steele, Lea & Flood 2014), a counter and a mixing function


@rule
def uniform(rng: np.ndarray, stream: int) -> float:
    """A uniform number in [0, 1) with 53 random bits; advances ``rng[stream]``."""
    z = rng[stream] + np.uint64(0x9E3779B97F4A7C15)
    rng[stream] = z
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return float(np.int64((z ^ (z >> np.uint64(31))) >> np.uint64(11))) * 2.0**-53


@rule
def below(rng: np.ndarray, n: int) -> int:
    """A random integer in 0 … n-1 from the agent's stream."""
    return min(int(uniform(rng, AGENT_STREAM) * n), n - 1)


# ---- reading a table


@rule
def max_value(q: np.ndarray, s: int) -> float:
    """max_a q(s, a)."""
    best = q[s, 0]
    for b in range(1, q.shape[1]):
        best = max(best, q[s, b])
    return best


@rule
def greedy(q: np.ndarray, s: int, rng: np.ndarray) -> int:
    """An action of the greatest value, ties broken at random; a number is drawn only where there is a tie."""
    best, a, ties = q[s, 0], 0, 1
    for b in range(1, q.shape[1]):
        value = q[s, b]
        if value > best:
            best, a, ties = value, b, 1
        elif value == best:
            ties += 1
    if ties == 1:
        return a
    k = below(rng, ties)
    for b in range(a, q.shape[1]):
        if q[s, b] == best:
            if k == 0:
                return b
            k -= 1
    return a


@rule
def softmax_weight(agent: Agent, s: int, a: int) -> float:
    """exp((q(s, a) - max q) / temperature): the probability of a, not yet normalised."""
    return np.exp((agent.q[s, a] - max_value(agent.q, s)) / agent.temperature)


@rule
def softmax_total(agent: Agent, s: int) -> float:
    """The sum of all softmax weights of state s."""
    total = 0.0
    for b in range(agent.q.shape[1]):
        total += softmax_weight(agent, s, b)
    return total


@register_jitable
def softmax_action(q: np.ndarray, s: int, temperature: float, u: float) -> int:
    """An action drawn with probability ∝ exp(q(s, a) / temperature) by a uniform number u."""
    n, top, total = q.shape[1], max_value(q, s), 0.0
    for b in range(n):
        total += np.exp((q[s, b] - top) / temperature)
    u *= total
    for b in range(n - 1):
        u -= np.exp((q[s, b] - top) / temperature)
        if u < 0.0:
            return b
    return n - 1


@register_jitable
def ucb_score(q: np.ndarray, visits: np.ndarray, s: int, a: int, c: float) -> float:
    """q(s, a) + c √(ln N(s) / N(s, a)) (Sutton & Barto, eq. 2.10); an action never tried comes first."""
    if visits[s, a] == 0:
        return np.inf
    tries = 0
    for b in range(q.shape[1]):
        tries += visits[s, b]
    return q[s, a] + c * np.sqrt(np.log(tries) / visits[s, a])


@register_jitable
def ucb_action(q: np.ndarray, visits: np.ndarray, s: int, c: float, rng: np.ndarray) -> int:
    """The action of the highest upper confidence bound, ties at random (each new tie wins with chance 1 / ties)."""
    best, a, ties = -np.inf, 0, 0
    for b in range(q.shape[1]):
        score = ucb_score(q, visits, s, b, c)
        if score > best:
            best, a, ties = score, b, 1
        elif score == best:
            ties += 1
            if below(rng, ties) == 0:
                a = b
    return a


# ---- the behaviour policy


@rule
def choose(agent: Agent, i: int, s: int) -> int:
    """An action of the behaviour policy in state s: ε-greedy, softmax or UCB. One random number serves ε's coin and action."""
    if len(agent.exploration) == EPSILON_GREEDY:
        u, n = uniform(agent.rng, AGENT_STREAM), agent.q.shape[1]
        if u < agent.epsilon[0]:
            return min(int(u / agent.epsilon[0] * n), n - 1)
        return greedy(agent.q, s, agent.rng)
    if len(agent.exploration) == SOFTMAX:
        return softmax_action(agent.q, s, agent.temperature, uniform(agent.rng, AGENT_STREAM))
    return ucb_action(agent.q, agent.visits, s, agent.ucb_c, agent.rng)


@rule
def probability(agent: Agent, s: int, a: int) -> float:
    """b(a | s), the probability with which ``choose`` takes action a; tied actions share evenly."""
    n = agent.q.shape[1]
    if len(agent.exploration) == SOFTMAX:
        return softmax_weight(agent, s, a) / softmax_total(agent, s)
    best, ties, mine = -np.inf, 0, 0.0
    for b in range(n):
        score = agent.q[s, b]
        if len(agent.exploration) == UCB:
            score = ucb_score(agent.q, agent.visits, s, b, agent.ucb_c)
        if score > best:
            best, ties = score, 0
        if score == best:
            ties += 1
        if b == a:
            mine = score
    epsilon = agent.epsilon[0] if len(agent.exploration) == EPSILON_GREEDY else 0.0
    return epsilon / n + ((1.0 - epsilon) / ties if mine == best else 0.0)


@rule
def expected_value(agent: Agent, s: int) -> float:
    """Σ_a b(a | s) q(s, a), the value of state s under the behaviour policy."""
    total = 0.0
    for b in range(agent.q.shape[1]):
        total += probability(agent, s, b) * agent.q[s, b]
    return total


@rule
def rate(agent: Agent, s: int, a: int) -> float:
    """The step size of (s, a): α, or 1/N(s, a) where α is negative."""
    if agent.alpha < 0.0:
        return 1.0 / agent.visits[s, a]
    return agent.alpha


@rule
def step_size(agent: Agent, s: int, a: int) -> float:
    """Count a visit of (s, a) and return its step size."""
    agent.visits[s, a] += 1
    return rate(agent, s, a)


@rule
def epsilon_at(schedule: EpsilonSchedule, t: int) -> float:
    """ε after t steps; the line that SB3's exploration arguments describe."""
    if t >= schedule.horizon:
        return schedule.final
    return schedule.initial + (schedule.final - schedule.initial) * (t / schedule.horizon)


# ---- the world's part of a step


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


# ---- the loops


class Loops(NamedTuple):
    """The compiled loops of one pair of rules; each compiles at its first call, or comes from the disk cache."""

    run: Callable[..., int]
    act_batch: Callable[..., None]
    learn_batch: Callable[..., None]


def fingerprint(*functions: Callable[..., Any]) -> str:
    """A hash of functions and all that they call: the files they stand in (byte code where there is none), and constants."""
    digest, waiting, seen = hashlib.sha256(), list(functions), set()
    while waiting:
        function = waiting.pop()
        path = str(inspect.getsourcefile(function))
        try:
            with open(path, "rb") as file:
                source = path, file.read()
        except OSError:
            source = path, function.__code__.co_code + repr(function.__code__.co_consts).encode()
        if source not in seen:
            digest.update(source[1])
        seen |= {source, function}
        for name in function.__code__.co_names:
            value = function.__globals__.get(name)
            value = getattr(value, "py_func", value)  # numba's dispatchers
            if inspect.isfunction(value) and value not in seen:
                waiting.append(value)
            elif isinstance(value, (int, float, str)):
                digest.update(f"{name}={value}".encode())
    return digest.hexdigest()


@cache
def compile_rules(act: Callable[..., int], update: Callable[..., None]) -> Loops:
    """The loops of an algorithm.

    :param act: rule ``(agent, i, s) -> a``
    :param update: rule ``(agent, i, s, a, r, s2, terminated, truncated)``
    """
    source = fingerprint(act, update, world_step, settle)  # closed over below only to become part of the cache's key

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
                r, s2, terminated, truncated, elapsed, total = world_step(agent, world, s, a, elapsed, total)
                update(agent, 0, s, a, r, s2, terminated, truncated)
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
            for i in range(n):
                s, a, elapsed, total = walk.state[i], walk.action[i], walk.elapsed[i], walk.total[i]
                r, s2, terminated, truncated, elapsed, total = world_step(agent, world, s, a, elapsed, total)
                update(agent, i, s, a, r, s2, terminated, truncated)
                s, elapsed, total = settle(agent, world, walk, i, a, r, s2, terminated, truncated, elapsed, total, True)
                walk.state[i], walk.elapsed[i], walk.total[i] = s, elapsed, total
            step += 1
        return step

    @compiled
    def act_batch(agent, schedule, t, state, action):  # type: ignore[no-untyped-def]
        """Write the actions of all envs, t timesteps being done."""
        source  # noqa: B018
        agent.epsilon[0] = epsilon_at(schedule, t)
        for i in range(state.shape[0]):
            action[i] = act(agent, i, state[i])

    @compiled
    def learn_batch(agent, state, action, reward, next_state, terminated, truncated):  # type: ignore[no-untyped-def]
        """Learn from one transition of every env, in their order; all arrays [n]."""
        source  # noqa: B018
        for i in range(state.shape[0]):
            update(agent, i, state[i], action[i], reward[i], next_state[i], terminated[i], truncated[i])

    return Loops(run, act_batch, learn_batch)
