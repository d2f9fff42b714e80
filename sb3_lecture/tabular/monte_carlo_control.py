"""Monte Carlo control (Sutton & Barto 2018, sections 5.4 to 5.7): learn from whole returns, with no estimate of an estimate.

- On-policy, ε-soft: the average return after each pair, first or every visit (the box of section 5.4).
- Exploring starts (the box of section 5.3): every episode starts with a pair drawn evenly from all states that are not
  terminal and all actions. Then no ε is needed: with ``exploration_initial_eps=0`` and ``exploration_final_eps=0`` it is
  Monte Carlo ES as in the box; otherwise the start is drawn and the rest explores as well.
- Off-policy: the behaviour policy explores, the greedy policy is learned. A return is weighted by ρ, how much more likely
  its actions were under the greedy policy. ``"weighted"`` divides by the sum of the weights (eq. 5.8), biased but steady;
  ``"ordinary"`` divides by the number of returns (eq. 5.5), unbiased but with a huge variance. Both use every visit. Weighted
  learning can stop at the first action (from the end) that the greedy policy would not take; ordinary counts zeros from there.

Deviations: an episode cut by a time limit ends in an estimate, the value of its last state, because it would have gone
on; a greedy policy may never end one, so Monte Carlo ES needs a time limit. Exploration is that of all learners here
(ε-greedy, softmax, UCB). Off-policy, the learning rate is always that of the averages.
"""

from typing import Any, NamedTuple

import numpy as np

from sb3_lecture.common.checks import FLAG, Choice, Integer, check_settings
from sb3_lecture.common.compiling import rule
from sb3_lecture.common.updates import discounted_return, importance_ratio, max_value, ordinary_error, weighted_change
from sb3_lecture.tabular.backend import CompiledWorld
from sb3_lecture.tabular.base import SAMPLE_AVERAGE, Rules, TabularAlgorithm
from sb3_lecture.tabular.episodes import (
    MAX_EPISODE_LENGTH,
    PER_ENV,
    count_occurrences,
    is_first,
    make_episode,
    record,
    refuse_overflow,
)
from sb3_lecture.tabular.exploring_starts import draw_start, even_starts, law_to_explore, start_in
from sb3_lecture.tabular.kernels import Agent, below, choose, expected_value, is_greedy, probability, step_size
from sb3_lecture.tabular.loop import World


@rule
def act_exploring(agent: Agent, i: int, s: int) -> int:
    """Any action at an episode's start, with even chances (section 5.3); after it the behaviour policy's."""
    if agent.memory.length[i] == 0:
        return below(agent.rng, agent.q.shape[1])
    return choose(agent, i, s)


@rule
def act_recording(agent: Agent, i: int, s: int) -> int:
    """Choose an action and note with what chance it was chosen."""
    memory, a = agent.memory, choose(agent, i, s)
    if memory.length[i] < memory.chance.shape[1]:
        memory.chance[i, memory.length[i]] = probability(agent, s, a)
    return a


@rule
def average_returns(agent: Agent, i: int, g: float, first_visit: bool) -> None:
    """Q(s, a) ← Q(s, a) + α [G - Q(s, a)] for the visits of env i's episode, backwards; g is the value after its end."""
    memory = agent.memory
    count_occurrences(memory, i, True)
    for t in range(memory.length[i] - 1, -1, -1):
        s, a = memory.state[i, t], memory.action[i, t]
        g = discounted_return(memory.reward[i, t], agent.gamma, g)
        first = is_first(memory, s, a)
        if first or not first_visit:
            agent.q[s, a] += step_size(agent, s, a) * (g - agent.q[s, a])
    memory.length[i] = 0


@rule
def update_first_visit(agent: Agent, i: int, s: int, a: int, r: float, discount: float, s2: int, last: bool) -> None:
    """On-policy, first visits."""
    record(agent.memory, i, s, a, r)
    if last:
        average_returns(agent, i, 0.0 if discount == 0.0 else expected_value(agent, s2), True)


@rule
def update_every_visit(agent: Agent, i: int, s: int, a: int, r: float, discount: float, s2: int, last: bool) -> None:
    """On-policy, every visit."""
    record(agent.memory, i, s, a, r)
    if last:
        average_returns(agent, i, 0.0 if discount == 0.0 else expected_value(agent, s2), False)


@rule
def update_weighted(agent: Agent, i: int, s: int, a: int, r: float, discount: float, s2: int, last: bool) -> None:
    """C += W, Q += W / C [G - Q], W /= b(a | s), until an action is not greedy (the box of section 5.7)."""
    memory = agent.memory
    record(memory, i, s, a, r)
    if not last:
        return
    g, w = 0.0 if discount == 0.0 else max_value(agent.q[s2]), 1.0
    for t in range(memory.length[i] - 1, -1, -1):
        x, b = memory.state[i, t], memory.action[i, t]
        g = discounted_return(memory.reward[i, t], agent.gamma, g)
        memory.weight[x, b] += w
        agent.updates[x, b] += 1
        agent.q[x, b] += weighted_change(agent.q[x, b], w, g, memory.weight[x, b])
        if not is_greedy(agent.q[x], b):
            break
        w = importance_ratio(w, 1.0, memory.chance[i, t])  # the greedy policy takes b for certain
    memory.length[i] = 0


@rule
def update_ordinary(agent: Agent, i: int, s: int, a: int, r: float, discount: float, s2: int, last: bool) -> None:
    """Q += 1 / N [W G - Q] (eq. 5.5); W is 0 before the last action that is not greedy."""
    memory = agent.memory
    record(memory, i, s, a, r)
    if not last:
        return
    g, w = 0.0 if discount == 0.0 else max_value(agent.q[s2]), 1.0
    for t in range(memory.length[i] - 1, -1, -1):
        x, b = memory.state[i, t], memory.action[i, t]
        g = discounted_return(memory.reward[i, t], agent.gamma, g)
        agent.updates[x, b] += 1
        agent.q[x, b] += ordinary_error(agent.q[x, b], w, g) / agent.updates[x, b]
        w = importance_ratio(w, 1.0 if is_greedy(agent.q[x], b) else 0.0, memory.chance[i, t])
    memory.length[i] = 0


class MonteCarloControl(TabularAlgorithm):
    """Monte Carlo control.

    :param policy: "TabularPolicy"
    :param env: the env, its id, or a VecEnv
    :param learning_rate: "1/N" averages the returns (default); a number forgets old ones
    :param visits: "first" or "every" visit of a pair in an episode counts, on-policy (default "first")
    :param importance_sampling: None: on-policy; "weighted" or "ordinary": off-policy (default None)
    :param max_episode_length: longest episode that can be kept (default 10,000)
    :param exploring_starts: every episode starts with a state and an action drawn evenly, on-policy only (default False)
    :param kwargs: the other arguments are those of :class:`TabularAlgorithm`
    :raises ValueError: if an argument is not one of those, if off-policy the behaviour does not keep every action possible
        ("ucb", or ε that ends at 0), or (while learning) an episode is too long or an env cannot be started in a state
    """

    _per_env = PER_ENV

    def __init__(
        self,
        policy: Any = "TabularPolicy",
        env: Any = None,
        learning_rate: Any = SAMPLE_AVERAGE,
        visits: str = "first",
        importance_sampling: str | None = None,
        max_episode_length: int = MAX_EPISODE_LENGTH,
        exploring_starts: bool = False,
        **kwargs: Any,
    ) -> None:
        self.visits = visits
        self.importance_sampling = importance_sampling
        self.max_episode_length = max_episode_length
        self.exploring_starts = exploring_starts
        super().__init__(policy, env, learning_rate, **kwargs)

    def _check_arguments(self) -> None:
        super()._check_arguments()
        check_settings(
            self, visits=Choice("first", "every"), importance_sampling=Choice(None, "weighted", "ordinary"),
            max_episode_length=Integer(1), exploring_starts=FLAG,
        )  # fmt: skip
        if self.exploring_starts and self.importance_sampling is not None:
            raise ValueError(
                f"exploring_starts=True with importance_sampling={self.importance_sampling!r}: Monte Carlo ES is on-policy "
                "(section 5.3); use one of the two"
            )
        if self.importance_sampling is None:
            return
        if self.learning_rate != SAMPLE_AVERAGE:
            raise ValueError(f"learning_rate={self.learning_rate}; importance sampling averages, use {SAMPLE_AVERAGE!r}")
        if self.exploration == "ucb":
            raise ValueError(
                "exploration='ucb' takes one action for certain, so returns of other policies have no weight (section 5.5 "
                "asks for coverage); off-policy use 'epsilon-greedy' or 'softmax'"
            )
        if self.exploration == "epsilon-greedy" and self.exploration_final_eps == 0.0:
            raise ValueError(
                "exploration_final_eps=0.0 ends in a behaviour that takes greedy actions only, so it covers no other policy "
                "(section 5.7 asks for a soft one); off-policy it must be above 0"
            )

    def _rules(self) -> Rules:
        if self.importance_sampling is not None:
            return act_recording, update_weighted if self.importance_sampling == "weighted" else update_ordinary
        update = update_first_visit if self.visits == "first" else update_every_visit
        return act_exploring if self.exploring_starts else choose, update

    def _make_memory(self) -> NamedTuple:
        return make_episode(self.n_envs, int(self.max_episode_length), self.policy.table.shape)

    def _world(self, world: CompiledWorld) -> World:
        law = super()._world(world)
        if not self.exploring_starts:
            return law
        assert world.mdp is not None
        states, cdf = even_starts(world.mdp)
        return law._replace(start_state=states, start_cdf=cdf)

    def _restart(self, backend: str, observations: np.ndarray, begun: np.ndarray) -> np.ndarray:
        if not self.exploring_starts:
            return observations
        assert self.env is not None
        observations, rng, index = observations.copy(), self.memory.random_state(), self.policy.index
        mdp = self._resolve_backend()[1].mdp if backend == "compiled" else law_to_explore(self.env)
        assert mdp is not None
        for i in np.flatnonzero(begun).tolist():
            s = draw_start(mdp, rng)
            compiled = backend == "compiled"  # there the env objects follow the loop
            observations[i] = s + index.start if compiled else start_in(self.env, i, s, index)
        return observations

    def _after_kernel(self, agent: Agent) -> None:
        refuse_overflow(agent.memory)
