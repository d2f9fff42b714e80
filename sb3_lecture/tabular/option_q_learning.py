"""Q-learning over options (Sutton, Precup & Singh 1999): actions that last, learned from their ends or from within.

An option is a policy with a chance β(s) to end (``exact.options``). A choice lasts until its option ends; then, k steps and
the discounted sum R of their rewards later, Q-learning for semi-MDPs updates the pair that was chosen,

    Q(s, o) ← Q(s, o) + α [R + γ^k max_{o'} Q(s', o') − Q(s, o)]

and, because what an option does from a state on its way is what it would have done had it begun there, those states too.

Intra-option Q-learning does not wait. After every step it updates every option that would have done the same,

    Q(s, o) ← Q(s, o) + α [r + γ U(s', o) − Q(s, o)],   U(s, o) = (1 − β(s)) Q(s, o) + β(s) max_{o'} Q(s, o')

so that one step teaches many options, and options learn that were never chosen.

``predict`` looks anew in every state (an option is interrupted where another one is worth more), which is never worse than
following an option to its end. A time limit that cuts an option is bootstrapped through by U.
"""

from typing import Any, ClassVar, NamedTuple

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv

from sb3_lecture.common.checks import Integer, check_arguments
from sb3_lecture.common.compiling import rule
from sb3_lecture.common.rules import FLAG
from sb3_lecture.exact.options import Options, hallway_options, make_options, primitive_options
from sb3_lecture.tabular.backend import find_world
from sb3_lecture.tabular.base import Rules, TabularAlgorithm
from sb3_lecture.tabular.kernels import AGENT_STREAM, Agent, below, step_size, uniform
from sb3_lecture.tabular.policy import TabularPolicy

__all__ = ["OptionPolicy", "OptionQLearning"]

NONE = -1


class Running(NamedTuple):
    """What options are, and which one runs in each env since when."""

    policy: np.ndarray  # int64 [O, S], the action, or -1 where the option may not begin
    beta: np.ndarray  # float64 [O, S], the chance to end
    option: np.ndarray  # int64 [n], the option that runs, or -1
    taken: np.ndarray  # int64 [n], its steps so far
    state: np.ndarray  # int64 [n, longest], where it was
    reward: np.ndarray  # float64 [n, longest], what followed


@rule
def best_value(agent: Agent, s: int) -> float:
    """max_o Q(s, o) over the options that may begin in s."""
    best = -np.inf
    for o in range(agent.q.shape[1]):
        if agent.memory.policy[o, s] >= 0:
            best = max(best, agent.q[s, o])
    return best


@rule
def choose_option(agent: Agent, s: int) -> int:
    """An ε-greedy option among those that may begin in s, ties at random (each new one wins with chance 1 / ties)."""
    policy, found, count = agent.memory.policy, 0, 0
    explores, best = uniform(agent.rng, AGENT_STREAM) < agent.epsilon[0], best_value(agent, s)
    for o in range(agent.q.shape[1]):
        if policy[o, s] >= 0 and (explores or agent.q[s, o] == best):
            count += 1
            if below(agent.rng, count) == 0:
                found = o
    return found


@rule
def act(agent: Agent, i: int, s: int) -> int:
    """The action of the option that runs; a new one is chosen where none does."""
    running = agent.memory
    if running.option[i] == NONE:
        running.option[i], running.taken[i] = choose_option(agent, s), 0
    return running.policy[running.option[i], s]


@rule
def ends(agent: Agent, i: int, s2: int) -> bool:
    """Whether the option that runs ends in s', by chance β(s')."""
    beta = agent.memory.beta[agent.memory.option[i], s2]
    return beta >= 1.0 or (beta > 0.0 and uniform(agent.rng, AGENT_STREAM) < beta)


@rule
def upon_arrival(agent: Agent, o: int, s: int, best: float) -> float:
    """U(s, o), ``best`` being max_{o'} Q(s, o'); an option that may not go on in s ends there."""
    beta = agent.memory.beta[o, s]
    return best if beta >= 1.0 else (1.0 - beta) * agent.q[s, o] + beta * best


@rule
def update(agent: Agent, i: int, s: int, a: int, r: float, discount: float, s2: int, last: bool) -> None:
    """When the option ends, Q(s, o) ← Q(s, o) + α [R + γ^k max Q(s', ·) − Q(s, o)] for all s on its way, from the last."""
    running = agent.memory
    o, k = running.option[i], running.taken[i]
    running.state[i, k], running.reward[i, k] = s, r
    running.taken[i] = k + 1
    over = ends(agent, i, s2)
    if last or over or k + 1 == running.state.shape[1]:
        best = best_value(agent, s2)
        g = r + discount * (best if over else upon_arrival(agent, o, s2, best))
        while k >= 0:
            passed = running.state[i, k]
            agent.q[passed, o] += step_size(agent, passed, o) * (g - agent.q[passed, o])
            k -= 1
            if k >= 0:
                g = running.reward[i, k] + agent.gamma * g
        running.option[i] = NONE


@rule
def update_within(agent: Agent, i: int, s: int, a: int, r: float, discount: float, s2: int, last: bool) -> None:
    """For every option that does a in s: Q(s, o) ← Q(s, o) + α [r + γ U(s', o) − Q(s, o)]."""
    running, best = agent.memory, best_value(agent, s2)
    for o in range(agent.q.shape[1]):
        if running.policy[o, s] == a:
            target = r + discount * upon_arrival(agent, o, s2, best)
            agent.q[s, o] += step_size(agent, s, o) * (target - agent.q[s, o])
    if last or ends(agent, i, s2):
        running.option[i] = NONE


class OptionPolicy(TabularPolicy):
    """A table of the options' values, and what the best of them does.

    :param observation_space: Discrete or MultiDiscrete
    :param action_space: Discrete
    :param option_policies: int64 [O, S], see ``exact.options``
    :param kwargs: the other arguments are those of ``TabularPolicy``
    """

    def __init__(
        self, observation_space: spaces.Space, action_space: spaces.Space, option_policies: Any = None, **kwargs: Any
    ) -> None:
        super().__init__(observation_space, action_space, **kwargs)
        self.option_policies = np.asarray(option_policies)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {"option_policies": self.option_policies}

    def _values(self, states: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Q(s, ·) [n, O], −∞ where an option may not begin, and what each does there [n, O]."""
        actions = self.option_policies[:, states].T
        return np.where(actions >= 0, self.table.numpy()[states], -np.inf), actions

    def _greedy(self, states: np.ndarray) -> np.ndarray:
        q, actions = self._values(states)
        return np.take_along_axis(actions, q.argmax(axis=1)[:, None], axis=1)[:, 0]

    def _behaviour(self, states: np.ndarray) -> np.ndarray:
        """What a new choice in each state does, ε-greedy over options; float64 [n, A]."""
        q, actions = self._values(states)
        epsilon, may = float(self.epsilon[0]), actions >= 0
        best = q == q.max(axis=1, keepdims=True)
        chance = epsilon * may / may.sum(axis=1, keepdims=True) + (1 - epsilon) * best / best.sum(axis=1, keepdims=True)
        out = np.zeros((len(states), int(self.action_space.n)))
        rows, options = np.nonzero(may)
        np.add.at(out, (rows, actions[rows, options]), chance[rows, options])
        return out


class OptionQLearning(TabularAlgorithm):
    """Q-learning over options, from their ends or from within.

    :param policy: "TabularPolicy"
    :param env: the env, its id, or a VecEnv
    :param options: "hallways" (default): a way from each room to each of its hallways, found in the world's law;
        "primitive": none but the actions; or (actions int [O, S], chances to end float [O, S]), −1 where none may begin
    :param primitives: whether each action is an option of one step, too (default True)
    :param intra_option: learn from every step (default True), or when an option ends
    :param max_option_steps: steps after which an option is interrupted where learning waits for its end (default 1000)
    :param kwargs: the other arguments are those of :class:`TabularAlgorithm`; exploration is ε-greedy
    :raises ValueError: if the options are none of these world's, or "hallways" is asked for and the world states no law
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"TabularPolicy": OptionPolicy, "MlpPolicy": OptionPolicy}
    _per_env = ("option", "taken", "state", "reward")

    def __init__(
        self,
        policy: str | type[TabularPolicy] = "TabularPolicy",
        env: GymEnv | str | None = None,
        options: Any = "hallways",
        primitives: bool = True,
        intra_option: bool = True,
        max_option_steps: int = 1000,
        **kwargs: Any,
    ) -> None:
        given = {"primitives": primitives, "intra_option": intra_option, "max_option_steps": max_option_steps}
        check_arguments(given, primitives=FLAG, intra_option=FLAG, max_option_steps=Integer(1))
        if isinstance(options, str) and options not in ("hallways", "primitive"):
            raise ValueError(
                f'options={options!r} must be "hallways", "primitive", or (actions [O, S], chances to end [O, S])'
            )
        self.options, self.primitives, self.intra_option = options, primitives, intra_option
        self.max_option_steps = max_option_steps
        self._option_set: list[np.ndarray] | None = None
        super().__init__(policy, env, **kwargs)

    def _check_arguments(self) -> None:
        super()._check_arguments()
        if self.exploration != "epsilon-greedy":
            raise ValueError(f"exploration={self.exploration!r} must be 'epsilon-greedy': options are explored so")

    def _setup_model(self) -> None:
        if self._option_set is None:  # a file brings its own
            self._option_set = list(self._find_options())
        super()._setup_model()

    def _find_options(self) -> Options:
        states, n_actions = TabularPolicy(self.observation_space, self.action_space).table.shape
        basic = primitive_options(states, n_actions)
        if isinstance(self.options, str) and self.options == "primitive":
            return basic
        if isinstance(self.options, str):
            world = find_world(self.env, read_p=True) if self.env is not None else None
            if world is None or world.mdp is None:
                raise ValueError(
                    f'options="hallways" needs the world\'s law, and {world.reason if world else "there is no env"}'
                )
            found = hallway_options(world.mdp)
        else:
            try:
                policy, termination = self.options
            except (TypeError, ValueError) as error:
                raise ValueError(f"options={self.options!r} must be (actions [O, S], chances to end [O, S])") from error
            found = Options(np.asarray(policy), np.asarray(termination))
        if isinstance(self.options, str) and not len(found.policy):
            return basic  # there is no hallway
        return make_options(*found, states, n_actions, self.primitives)

    @property
    def option_set(self) -> Options:
        """The options, those that were given or found first, then the actions."""
        assert self._option_set is not None
        return Options(*self._option_set)

    def _policy_arguments(self) -> dict[str, Any]:
        return {"n_columns": len(self.option_set.policy), "option_policies": self.option_set.policy}

    def _rules(self) -> Rules:
        return act, update_within if self.intra_option else update

    def _make_memory(self) -> NamedTuple:
        shape = (self.n_envs, 1 if self.intra_option else int(self.max_option_steps))
        return Running(
            policy=self.option_set.policy.copy(), beta=self.option_set.termination.copy(),
            option=np.full(self.n_envs, NONE), taken=np.zeros(self.n_envs, np.int64),
            state=np.zeros(shape, np.int64), reward=np.zeros(shape),
        )  # fmt: skip
