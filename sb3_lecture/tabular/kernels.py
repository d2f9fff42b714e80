"""What a tabular algorithm is made of: the agent that its two rules read and write, and the ways to explore.

An algorithm is a pair of *rules*, plain functions marked ``@rule``:

- ``act(agent, i, s) -> a``: the action of env i in state s (``choose`` unless the algorithm commits to actions ahead);
- ``update(agent, i, s, a, r, discount, s2, last)``: learn from one transition of env i. ``discount`` is γ, or 0 where the
  episode is over; ``last`` says that it ends here, be it over or cut off by a time limit.

The loop that calls them (``loop``) settles what a time limit is, counts how often each action was selected, and draws what
the world does. The mathematics of an update stands in ``sb3_lecture.common.updates``, one line an equation. So Q-learning is

    delta = q_learning(agent.q[s], a, r, discount, agent.q[s2])
    agent.q[s, a] += step_size(agent, s, a) * delta

Comparisons with NaN are false, so every index that comes from comparing values starts from one that exists.
"""

from typing import Any, NamedTuple

import numpy as np

from sb3_lecture.common.compiling import rule
from sb3_lecture.common.updates import max_value, softmax_total, softmax_weight

EPSILON_GREEDY, SOFTMAX, UCB = 0, 1, 2
EXPLORATIONS = {"epsilon-greedy": EPSILON_GREEDY, "softmax": SOFTMAX, "ucb": UCB}

AGENT_STREAM, WORLD_STREAM = 0, 1  # the two random streams: what the learner draws, what the world draws

# splitmix64's increment and multipliers (Steele, Lea & Flood 2014)
GAMMA_64, MIX_1, MIX_2 = np.uint64(0x9E3779B97F4A7C15), np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)
TO_UNIT = 2.0**-53  # 53 random bits to a number in [0, 1)


class Nothing(NamedTuple):
    """The memory of an algorithm that keeps nothing but its table."""


class Agent(NamedTuple):
    """All that a rule reads and writes. Arrays are views: what a rule writes is in the model at once."""

    q: np.ndarray  # float64 [S, A]; prediction: values [S, 1]
    tries: np.ndarray  # int64 [S, A], how often an action was selected, N of eq. 2.10; counted by the loop
    updates: np.ndarray  # int64, like q, how often an entry was updated, N of the step size 1/N; counted by ``step_size``
    rng: np.ndarray  # uint64 [2], the random streams
    epsilon: np.ndarray  # float64 [1], the present ε
    alpha: float  # the step size; negative: 1/N
    gamma: float
    exploration: tuple[int, ...]  # as many zeros as EXPLORATIONS says: the compiler knows a tuple's length, and leaves the
    temperature: float  # other ways to explore out
    ucb_c: float
    memory: Any  # a named tuple, the algorithm's own arrays
    options: Any  # a named tuple, the algorithm's own numbers


# ---- random numbers: splitmix64, a counter and a mixing function


@rule
def uniform(rng: np.ndarray, stream: int) -> float:
    """A uniform number in [0, 1) with 53 random bits; advances ``rng[stream]``."""
    z = rng[stream] + GAMMA_64
    rng[stream] = z
    z = (z ^ (z >> np.uint64(30))) * MIX_1
    z = (z ^ (z >> np.uint64(27))) * MIX_2
    return float(np.int64((z ^ (z >> np.uint64(31))) >> np.uint64(11))) * TO_UNIT


@rule
def below(rng: np.ndarray, n: int) -> int:
    """A random integer in 0 … n-1 from the agent's stream."""
    return min(int(uniform(rng, AGENT_STREAM) * n), n - 1)


# ---- how a row of values is turned into an action


@rule
def greedy(q: np.ndarray, rng: np.ndarray) -> int:
    """An action of the greatest value of a row [A], ties broken at random; a number is drawn only where there is a tie."""
    best, a, ties = q[0], 0, 1
    for b in range(1, q.shape[0]):
        if q[b] > best:
            best, a, ties = q[b], b, 1
        elif q[b] == best:
            ties += 1
    if ties == 1:
        return a
    k = below(rng, ties)
    for b in range(a, q.shape[0]):
        if q[b] == best:
            if k == 0:
                return b
            k -= 1
    return a


@rule
def is_greedy(q: np.ndarray, a: int) -> bool:
    """Whether a is the greedy policy's action: the first of the best of a row [A]."""
    for b in range(q.shape[0]):
        if q[b] > q[a] or (q[b] == q[a] and b < a):
            return False
    return True


@rule
def softmax_action(q: np.ndarray, temperature: float, u: float) -> int:
    """An action drawn with probability ∝ exp(q(a) / temperature) by a uniform number u; q is a row [A]."""
    n, top = q.shape[0], max_value(q)
    u *= softmax_total(q, temperature)
    for b in range(n - 1):
        u -= softmax_weight(q[b], top, temperature)
        if u < 0.0:
            return b
    return n - 1


@rule
def ucb_score(q: np.ndarray, tries: np.ndarray, a: int, c: float) -> float:
    """q(a) + c √(ln t / N(a)) (eq. 2.10), t being the sum of N; an action never tried comes first. Rows [A]."""
    if tries[a] == 0:
        return np.inf
    t = 0
    for b in range(q.shape[0]):
        t += tries[b]
    return q[a] + c * np.sqrt(np.log(t) / tries[a])


@rule
def ucb_action(q: np.ndarray, tries: np.ndarray, c: float, rng: np.ndarray) -> int:
    """The action of the highest upper confidence bound, ties at random (each new tie wins with chance 1 / ties)."""
    best, a, ties = -np.inf, 0, 0
    for b in range(q.shape[0]):
        score = ucb_score(q, tries, b, c)
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
        return greedy(agent.q[s], agent.rng)
    if len(agent.exploration) == SOFTMAX:
        return softmax_action(agent.q[s], agent.temperature, uniform(agent.rng, AGENT_STREAM))
    return ucb_action(agent.q[s], agent.tries[s], agent.ucb_c, agent.rng)


@rule
def probability(agent: Agent, s: int, a: int) -> float:
    """b(a | s), the probability with which ``choose`` takes action a; tied actions share evenly."""
    q = agent.q[s]
    if len(agent.exploration) == SOFTMAX:
        return softmax_weight(q[a], max_value(q), agent.temperature) / softmax_total(q, agent.temperature)
    best, ties, mine = -np.inf, 0, 0.0
    for b in range(q.shape[0]):
        score = q[b]
        if len(agent.exploration) == UCB:
            score = ucb_score(q, agent.tries[s], b, agent.ucb_c)
        if score > best:
            best, ties = score, 0
        if score == best:
            ties += 1
        if b == a:
            mine = score
    epsilon = agent.epsilon[0] if len(agent.exploration) == EPSILON_GREEDY else 0.0
    return epsilon / q.shape[0] + ((1.0 - epsilon) / ties if mine == best else 0.0)


@rule
def behavior(agent: Agent, s: int, probs: np.ndarray) -> np.ndarray:
    """The row b(· | s), written into ``probs`` float64 [A], and returned."""
    for b in range(probs.shape[0]):
        probs[b] = probability(agent, s, b)
    return probs


@rule
def expected_value(agent: Agent, s: int) -> float:
    """Σ_a b(a | s) q(s, a), the value of state s under the behaviour policy."""
    total = 0.0
    for b in range(agent.q.shape[1]):
        total += probability(agent, s, b) * agent.q[s, b]
    return total


# ---- the step size


@rule
def rate(agent: Agent, s: int, a: int) -> float:
    """The step size of (s, a): α, or 1/N(s, a) where α is negative, N being the updates so far."""
    if agent.alpha < 0.0:
        return 1.0 / agent.updates[s, a]
    return agent.alpha


@rule
def step_size(agent: Agent, s: int, a: int) -> float:
    """Count an update of (s, a) and return its step size."""
    agent.updates[s, a] += 1
    return rate(agent, s, a)
