"""Prioritized sweeping (Moore & Atkeson 1993; Sutton & Barto 2018, section 8.4): plan first where values change most.

A surprise at (s, a) changes the value of s, so the pairs that lead to s are next in need. A queue holds the pairs by how much
their update would change them; the most urgent is updated first, and its predecessors are looked at again.

Deviations: the box of section 8.4 is for deterministic worlds; we update towards the expectation over the learned model
(section 8.5), which also covers stochastic ones, and by the whole difference (α = 1) unless a learning rate is given.
"""

from typing import Any, NamedTuple

import numpy as np

from sb3_lecture.common.checks import Integer, Real, check_settings
from sb3_lecture.common.compiling import rule
from sb3_lecture.common.updates import outcome_value
from sb3_lecture.tabular.base import Rules, TabularAlgorithm
from sb3_lecture.tabular.dyna_q import find_slot, make_model, remember
from sb3_lecture.tabular.kernels import Agent, choose, step_size


class Sweep(NamedTuple):
    """The model of ``dyna_q`` (its first fields), the queue, and who leads where. P = S·A pairs, number s·A + a."""

    next_state: np.ndarray  # int64 [S, A, K]
    reward: np.ndarray  # float64 [S, A, K]
    terminated: np.ndarray  # bool [S, A, K]
    seen: np.ndarray  # int64 [S, A, K]
    total: np.ndarray  # int64 [S, A]
    heap: np.ndarray  # int64 [P], pairs as a binary heap, most urgent first
    size: np.ndarray  # int64 [1]
    place: np.ndarray  # int64 [P], where a pair stands in the heap, -1: not in it
    urgency: np.ndarray  # float64 [P]
    first_link: np.ndarray  # int64 [S], first outcome slot (number pair·K + k) that leads to a state, -1: none
    next_link: np.ndarray  # int64 [P * K], the one after it


class Sweeping(NamedTuple):
    """Updates for each real step, and the smallest change worth one."""

    n_planning_steps: int
    threshold: float


@rule
def put(memory: Sweep, pair: int, j: int) -> None:
    """Place a pair at position j of the heap."""
    memory.heap[j] = pair
    memory.place[pair] = j


@rule
def rise(memory: Sweep, j: int) -> None:
    """Move the pair at position j up until its parent is as urgent."""
    pair = memory.heap[j]
    while j > 0 and memory.urgency[memory.heap[(j - 1) // 2]] < memory.urgency[pair]:
        put(memory, memory.heap[(j - 1) // 2], j)
        j = (j - 1) // 2
    put(memory, pair, j)


@rule
def sink(memory: Sweep, j: int) -> None:
    """Move the pair at position j down until its children are less urgent."""
    pair, n = memory.heap[j], memory.size[0]
    while 2 * j + 1 < n:
        child = 2 * j + 1
        if child + 1 < n and memory.urgency[memory.heap[child + 1]] > memory.urgency[memory.heap[child]]:
            child += 1
        if memory.urgency[memory.heap[child]] <= memory.urgency[pair]:
            break
        put(memory, memory.heap[child], j)
        j = child
    put(memory, pair, j)


@rule
def queue(agent: Agent, s: int, a: int) -> None:
    """Put (s, a) into the queue if its update would change it by more than the threshold; else leave the queue as it is."""
    memory, pair = agent.memory, s * agent.q.shape[1] + a
    change = abs(expected_target(agent, s, a) - agent.q[s, a])
    if change <= agent.options.threshold or (memory.place[pair] >= 0 and change <= memory.urgency[pair]):
        return
    memory.urgency[pair] = change
    if memory.place[pair] < 0:
        put(memory, pair, memory.size[0])
        memory.size[0] += 1
    rise(memory, memory.place[pair])


@rule
def take(memory: Sweep) -> int:
    """Take the most urgent pair out of the queue."""
    pair = memory.heap[0]
    memory.place[pair] = -1
    memory.size[0] -= 1
    if memory.size[0] > 0:
        put(memory, memory.heap[memory.size[0]], 0)
        sink(memory, 0)
    return pair


@rule
def expected_target(agent: Agent, s: int, a: int) -> float:
    """Σ p̂(s', r | s, a) [r + γ max_a' Q(s', a')] under the learned model (eq. 8.1's target)."""
    memory, target = agent.memory, 0.0
    for k in range(memory.seen.shape[2]):
        if memory.seen[s, a, k] > 0:
            prob, discount = memory.seen[s, a, k] / memory.total[s, a], 0.0 if memory.terminated[s, a, k] else agent.gamma
            target += outcome_value(prob, memory.reward[s, a, k], discount, agent.q[memory.next_state[s, a, k]])
    return target


@rule
def link(memory: Sweep, pair: int, k: int, s2: int) -> None:
    """Note that slot k of a pair leads to s2."""
    slot = pair * memory.seen.shape[2] + k
    memory.next_link[slot] = memory.first_link[s2]
    memory.first_link[s2] = slot


@rule
def unlink(memory: Sweep, pair: int, k: int, s2: int) -> None:
    """Forget that slot k of a pair leads to s2."""
    slot = pair * memory.seen.shape[2] + k
    at = memory.first_link[s2]
    if at == slot:
        memory.first_link[s2] = memory.next_link[slot]
    while at != slot:
        if memory.next_link[at] == slot:
            memory.next_link[at] = memory.next_link[slot]
            break
        at = memory.next_link[at]


@rule
def update(agent: Agent, i: int, s: int, a: int, r: float, discount: float, s2: int, last: bool) -> None:
    """Learn the model, queue the pair met, then update the most urgent pairs (the box of section 8.4)."""
    memory, n_actions, n_slots = agent.memory, agent.q.shape[1], agent.memory.seen.shape[2]
    over = last and discount == 0.0
    k, pair = find_slot(memory, s, a, s2, over), s * n_actions + a
    known = memory.seen[s, a, k] > 0
    old = memory.next_state[s, a, k]
    remember(memory, s, a, r, s2, over)
    if known and old != s2:
        unlink(memory, pair, k, old)
    if not known or old != s2:
        link(memory, pair, k, s2)
    queue(agent, s, a)
    for _ in range(agent.options.n_planning_steps):
        if memory.size[0] == 0:
            break
        pair = take(memory)
        x, b = pair // n_actions, pair % n_actions
        agent.q[x, b] += step_size(agent, x, b) * (expected_target(agent, x, b) - agent.q[x, b])
        slot = memory.first_link[x]
        while slot >= 0:  # pairs that lead to x
            queue(agent, slot // n_slots // n_actions, slot // n_slots % n_actions)
            slot = memory.next_link[slot]


class PrioritizedSweeping(TabularAlgorithm):
    """Prioritized sweeping.

    :param policy: "TabularPolicy"
    :param env: the env, its id, or a VecEnv
    :param learning_rate: step towards the expected target (default 1.0)
    :param n_planning_steps: updates for each real step, at most (default 10)
    :param threshold: θ, the smallest change worth an update (default 1e-6)
    :param model_outcomes: different outcomes that the model keeps of a pair (default 4)
    :param kwargs: the other arguments are those of :class:`TabularAlgorithm`
    :raises ValueError: if one of these is out of its range
    """

    def __init__(
        self,
        policy: Any = "TabularPolicy",
        env: Any = None,
        learning_rate: Any = 1.0,
        n_planning_steps: int = 10,
        threshold: float = 1e-6,
        model_outcomes: int = 4,
        **kwargs: Any,
    ) -> None:
        self.n_planning_steps = n_planning_steps
        self.threshold = threshold
        self.model_outcomes = model_outcomes
        super().__init__(policy, env, learning_rate, **kwargs)

    def _check_arguments(self) -> None:
        super()._check_arguments()
        check_settings(self, n_planning_steps=Integer(1), model_outcomes=Integer(1), threshold=Real(0))

    def _rules(self) -> Rules:
        return choose, update

    def _options(self) -> NamedTuple:
        return Sweeping(int(self.n_planning_steps), float(self.threshold))

    def _make_memory(self) -> NamedTuple:
        n_states, n_actions = self.policy.table.shape
        outcomes, pairs = int(self.model_outcomes), n_states * n_actions
        model = make_model(n_states, n_actions, outcomes)
        return Sweep(
            model.next_state, model.reward, model.terminated, model.seen, model.total,
            heap=np.zeros(pairs, np.int64), size=np.zeros(1, np.int64), place=np.full(pairs, -1, np.int64),
            urgency=np.zeros(pairs), first_link=np.full(n_states, -1, np.int64),
            next_link=np.full(pairs * outcomes, -1, np.int64),
        )  # fmt: skip
