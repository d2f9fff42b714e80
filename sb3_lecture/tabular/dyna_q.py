"""Dyna-Q and Dyna-Q+ (Sutton 1990; Sutton & Barto 2018, sections 8.2 and 8.3): learn a model, and learn from the model.

After every real step, ``n_planning_steps`` steps are replayed from a learned model: pairs met before, drawn at random, with
outcomes as often as they happened. Few real steps then go a long way. Dyna-Q+ (``exploration_bonus`` κ > 0) adds κ √τ to the
reward of replayed pairs, τ being the time since the pair was last tried, and lets planning try actions that were never taken
in a known state: they are believed to lead back with reward 0.

Deviation from the book: its model keeps the last outcome of a pair, which is right for deterministic worlds. Ours counts up
to ``model_outcomes`` different ones (the rarest gives way to a new one); ``model_outcomes=1`` is the book's.
"""

from typing import Any, NamedTuple

import numpy as np

from sb3_lecture.common.checks import Integer, Real, check_settings
from sb3_lecture.common.compiling import rule
from sb3_lecture.common.updates import exploration_bonus, q_learning
from sb3_lecture.tabular.base import Rules, TabularAlgorithm
from sb3_lecture.tabular.kernels import AGENT_STREAM, Agent, below, choose, step_size, uniform


class Model(NamedTuple):
    """What every pair has led to; K = ``model_outcomes``."""

    next_state: np.ndarray  # int64 [S, A, K]
    reward: np.ndarray  # float64 [S, A, K], mean
    terminated: np.ndarray  # bool [S, A, K]
    seen: np.ndarray  # int64 [S, A, K], 0: an empty slot
    total: np.ndarray  # int64 [S, A], sum of the counts
    known: np.ndarray  # bool [S, A], pairs that planning may draw
    pair_state: np.ndarray  # int64 [S * A], those pairs as a list
    pair_action: np.ndarray  # int64 [S * A]
    n_pairs: np.ndarray  # int64 [1], its length
    last_tried: np.ndarray  # int64 [S, A], time of the last real try
    clock: np.ndarray  # int64 [1], real steps so far


class Planning(NamedTuple):
    """Replayed steps for each real one, and Dyna-Q+'s κ."""

    n_planning_steps: int
    bonus: float


@rule
def find_slot(model: Model, s: int, a: int, s2: int, terminated: bool) -> int:
    """The slot of outcome (s2, terminated): its own, an empty one, or the rarest."""
    slot = 0
    for k in range(model.seen.shape[2]):
        if model.seen[s, a, k] > 0 and model.next_state[s, a, k] == s2 and model.terminated[s, a, k] == terminated:
            return k
        if model.seen[s, a, k] < model.seen[s, a, slot]:
            slot = k
    return slot


@rule
def remember(model: Model, s: int, a: int, r: float, s2: int, terminated: bool) -> int:
    """Count an outcome of (s, a) and return its slot."""
    k = find_slot(model, s, a, s2, terminated)
    if model.seen[s, a, k] == 0 or model.next_state[s, a, k] != s2 or model.terminated[s, a, k] != terminated:
        model.total[s, a] -= model.seen[s, a, k]
        model.seen[s, a, k] = 0
        model.next_state[s, a, k], model.terminated[s, a, k], model.reward[s, a, k] = s2, terminated, 0.0
    elif model.seen.shape[2] == 1 and model.reward[s, a, k] != r:  # the book's model: the last outcome and nothing else
        model.total[s, a], model.seen[s, a, k] = 0, 0
    model.seen[s, a, k] += 1
    model.total[s, a] += 1
    model.reward[s, a, k] += (r - model.reward[s, a, k]) / model.seen[s, a, k]
    return k


@rule
def make_known(model: Model, s: int, a: int) -> None:
    """Let planning draw (s, a)."""
    if not model.known[s, a]:
        model.known[s, a] = True
        model.pair_state[model.n_pairs[0]], model.pair_action[model.n_pairs[0]] = s, a
        model.n_pairs[0] += 1


@rule
def q_update(agent: Agent, s: int, a: int, r: float, discount: float, s2: int) -> None:
    """Q-learning's update (eq. 6.8)."""
    agent.q[s, a] += step_size(agent, s, a) * q_learning(agent.q[s], a, r, discount, agent.q[s2])


@rule
def draw_outcome(agent: Agent, s: int, a: int) -> int:
    """The slot of an outcome that the model remembers of (s, a), as often as it happened."""
    model, k = agent.memory, 0
    u = uniform(agent.rng, AGENT_STREAM) * model.total[s, a]
    while k + 1 < model.seen.shape[2] and u >= model.seen[s, a, k]:
        u -= model.seen[s, a, k]
        k += 1
    return k


@rule
def update(agent: Agent, i: int, s: int, a: int, r: float, discount: float, s2: int, last: bool) -> None:
    """Learn from the real step, learn the model, then plan (the box of section 8.2, lines d to f)."""
    model, kappa = agent.memory, agent.options.bonus
    q_update(agent, s, a, r, discount, s2)
    remember(model, s, a, r, s2, last and discount == 0.0)
    model.clock[0] += 1
    model.last_tried[s, a] = model.clock[0]
    make_known(model, s, a)
    if kappa > 0.0:
        for b in range(agent.q.shape[1]):
            make_known(model, s, b)
    for _ in range(agent.options.n_planning_steps):
        pair = below(agent.rng, model.n_pairs[0])
        x, b = model.pair_state[pair], model.pair_action[pair]
        extra = exploration_bonus(kappa, model.clock[0] - model.last_tried[x, b]) if kappa > 0.0 else 0.0
        if model.total[x, b] == 0:  # never tried: stays, reward 0
            q_update(agent, x, b, extra, agent.gamma, x)
            continue
        k = draw_outcome(agent, x, b)
        gamma = 0.0 if model.terminated[x, b, k] else agent.gamma
        q_update(agent, x, b, model.reward[x, b, k] + extra, gamma, model.next_state[x, b, k])


def make_model(n_states: int, n_actions: int, outcomes: int) -> Model:
    """A model that knows nothing."""
    pairs, slots = (n_states, n_actions), (n_states, n_actions, outcomes)
    return Model(
        next_state=np.zeros(slots, np.int64), reward=np.zeros(slots), terminated=np.zeros(slots, np.bool_),
        seen=np.zeros(slots, np.int64), total=np.zeros(pairs, np.int64), known=np.zeros(pairs, np.bool_),
        pair_state=np.zeros(n_states * n_actions, np.int64), pair_action=np.zeros(n_states * n_actions, np.int64),
        n_pairs=np.zeros(1, np.int64), last_tried=np.zeros(pairs, np.int64), clock=np.zeros(1, np.int64),
    )  # fmt: skip


class DynaQ(TabularAlgorithm):
    """Dyna-Q; with ``exploration_bonus`` > 0 Dyna-Q+.

    :param policy: "TabularPolicy"
    :param env: the env, its id, or a VecEnv
    :param n_planning_steps: replayed steps for each real one; 0 is Q-learning (default 10)
    :param exploration_bonus: Dyna-Q+'s κ; the book names no number, "some small κ" (default 0.0)
    :param model_outcomes: different outcomes that the model keeps of a pair (default 4)
    :param kwargs: the other arguments are those of :class:`TabularAlgorithm`
    :raises ValueError: if one of these is out of its range
    """

    def __init__(
        self,
        policy: Any = "TabularPolicy",
        env: Any = None,
        n_planning_steps: int = 10,
        exploration_bonus: float = 0.0,
        model_outcomes: int = 4,
        **kwargs: Any,
    ) -> None:
        self.n_planning_steps = n_planning_steps
        self.exploration_bonus = exploration_bonus
        self.model_outcomes = model_outcomes
        super().__init__(policy, env, **kwargs)

    def _check_arguments(self) -> None:
        super()._check_arguments()
        check_settings(self, n_planning_steps=Integer(0), model_outcomes=Integer(1), exploration_bonus=Real(0))

    def _rules(self) -> Rules:
        return choose, update

    def _options(self) -> NamedTuple:
        return Planning(int(self.n_planning_steps), float(self.exploration_bonus))

    def _make_memory(self) -> NamedTuple:
        n_states, n_actions = self.policy.table.shape
        return make_model(n_states, n_actions, int(self.model_outcomes))
