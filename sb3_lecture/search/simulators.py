"""What a search can look ahead in: a board game, a tabular MDP, a Gymnasium env that can be copied, a learned model.

Games and tabular MDPs are *laws* (see ``sb3_lecture_envs.board.game``): their rules are compiled into the search's own
kernels, which keep the integer states [batch, node, state_size] beside the tree. An env or a learned model is called once a
simulation for the whole batch, with the *embeddings* of the parents (numbers that stand for states) and the actions; a small
one can be compiled too.
"""

import copy
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import gymnasium as gym
import numpy as np
from numba import njit

from sb3_lecture_envs.board.game import HEADER, OVER, Game, Rules, register_rules
from sb3_lecture_envs.mdp import TabularMDP, sample_outcome

from .compiled_mlp import TOGETHER, CompiledMLP, aligned
from .model_kernels import LINEAR, RELU, SCALE, TANH, finish, read_rows

#: observations float32 [n, …] -> logits [n, A], values [n]
Evaluate = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]

# a tabular MDP's state row: [0, over, s, random bits, outcome drawn]
STATE, BITS, OUTCOME = HEADER, HEADER + 1, HEADER + 2


class MDPLaw(NamedTuple):
    """A TabularMDP's arrays, as a law for kernels; see there for the shapes.

    :param allowed: bool [S, A], or [0, 0] where every action is
    :param table: float32 [S, …] observations, or [0] for one-hot vectors
    """

    n_actions: int
    row_ptr: np.ndarray
    next_state: np.ndarray
    prob: np.ndarray
    reward: np.ndarray
    terminated: np.ndarray
    allowed: np.ndarray
    table: np.ndarray


@njit(cache=True)
def _initial(law, state):  # type: ignore[no-untyped-def]
    state[:] = 0


@njit(cache=True)
def _legal(law, state, mask):  # type: ignore[no-untyped-def]
    n = 0
    for a in range(law.n_actions):
        mask[a] = state[OVER] == 0 and (law.allowed.shape[0] == 0 or law.allowed[state[STATE], a])
        n += mask[a]
    return n


@njit(cache=True)
def _accepts(law, state, action):  # type: ignore[no-untyped-def]
    if state[OVER] != 0 or action < 0 or action >= law.n_actions:
        return False
    return law.allowed.shape[0] == 0 or law.allowed[state[STATE], action]


@njit(cache=True)
def _step(law, state, action):  # type: ignore[no-untyped-def]
    row = state[STATE] * law.n_actions + action
    j = law.row_ptr[row]
    if law.row_ptr[row + 1] - j > 1:
        # the next number of a linear congruential generator (Knuth's MMIX), mixed by splitmix64's finaliser
        bits = np.uint64(state[BITS]) * np.uint64(6364136223846793005) + np.uint64(1442695040888963407)
        state[BITS] = np.int64(bits)
        z = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        j = sample_outcome(law.row_ptr, law.prob, row, np.float64((z ^ (z >> np.uint64(31))) >> np.uint64(11)) * 2.0**-53)
    state[STATE] = law.next_state[j]
    state[OUTCOME] = j
    state[OVER] = law.terminated[j]
    return law.reward[j], law.terminated[j]


@njit(cache=True)
def _observe(law, state, out):  # type: ignore[no-untyped-def]
    if law.table.shape[0] == 0:
        out[:] = 0.0
        out[state[STATE]] = 1.0
    else:
        out[:] = law.table[state[STATE]]


@njit(cache=True)
def _state_of(law, observation, state):  # type: ignore[no-untyped-def]
    state[:] = 0
    state[STATE] = np.argmax(observation)


register_rules(MDPLaw, Rules(_initial, _legal, _accepts, _step, _observe, _state_of))


class LawSimulator(Protocol):
    """A simulator whose rules compile into the search.

    :ivar law: picks the rules
    :ivar discount: of every step that does not end the episode: γ, or −1 between two players
    :ivar stochastic: whether an action may have several outcomes
    """

    law: Any
    n_actions: int
    state_size: int
    state_dtype: type
    observation_shape: tuple[int, ...]
    discount: float
    stochastic: bool

    def roots(self, states: np.ndarray) -> np.ndarray:
        """Return the states as rows, int [B, state_size]."""
        ...


class GameSimulator:
    """Look ahead in a board game: two players, zero sum.

    :param game: the rules
    """

    discount = -1.0
    stochastic = False

    def __init__(self, game: Game) -> None:
        self.game, self.law = game, game.law
        self.n_actions, self.state_size, self.state_dtype = game.n_actions, game.state_size, game.state_dtype
        self.observation_shape = game.observation_shape

    def roots(self, states: np.ndarray) -> np.ndarray:
        """Check the states int [B, state_size].

        :raises ValueError: for another shape
        """
        states = np.ascontiguousarray(states, self.state_dtype)
        if states.ndim != 2 or states.shape[1] != self.state_size:
            raise ValueError(f"States of {self.game!r} have shape [B, {self.state_size}], not {states.shape}.")
        return states


class PuzzleSimulator(GameSimulator):
    """Look ahead in a puzzle: one player, a board game's compiled rules.

    :param game: the rules
    :param gamma: discount, in (0, 1] (default 1)
    :raises ValueError: for gamma out of range
    """

    def __init__(self, game: Game, gamma: float = 1.0) -> None:
        if not 0.0 < gamma <= 1.0:
            raise ValueError(f"gamma={gamma} is out of range. Give a discount in (0, 1].")
        super().__init__(game)
        self.discount = float(gamma)


class TabularSimulator:
    """Look ahead in a tabular MDP, deterministic or not: an edge then has a node for every outcome that was drawn.

    :param mdp: the law
    :param gamma: discount, in (0, 1] (default 0.99)
    :param observations: what a network sees, float32 [S, …]; None: one-hot vectors [S]
    :raises ValueError: for gamma out of range, or a table with another number of states
    """

    state_size = OUTCOME + 1
    state_dtype = np.int64

    def __init__(self, mdp: TabularMDP, gamma: float = 0.99, observations: np.ndarray | None = None) -> None:
        if not 0.0 < gamma <= 1.0:
            raise ValueError(f"gamma={gamma} is out of range. Give a discount in (0, 1].")
        if observations is not None and len(observations) != mdp.n_states:
            raise ValueError(f"observations has {len(observations)} rows, the MDP {mdp.n_states} states. Give one a state.")
        self.mdp, self.discount, self.n_actions = mdp, float(gamma), mdp.n_actions
        self.stochastic = not mdp.is_deterministic
        table = np.zeros(0, np.float32) if observations is None else np.ascontiguousarray(observations, np.float32)
        self.observation_shape = (mdp.n_states,) if observations is None else table.shape[1:]
        allowed = np.zeros((0, 0), np.bool_) if mdp.action_mask is None else np.array(mdp.action_mask)
        self.law = MDPLaw(mdp.n_actions, mdp.row_ptr, mdp.next_state, mdp.prob, mdp.reward, mdp.terminated, allowed, table)

    def roots(self, states: np.ndarray) -> np.ndarray:
        """Return states, int [B], as rows.

        :raises ValueError: for a number that is no state
        """
        given = np.asarray(states, np.int64)
        if given.ndim != 1 or (len(given) and not (given.min() >= 0 and given.max() < self.mdp.n_states)):
            raise ValueError(f"{given.tolist()} are no states. Give integers [B] from 0 to {self.mdp.n_states - 1}.")
        rows = np.zeros((len(given), self.state_size), np.int64)
        rows[:, STATE] = given
        return rows


class Root(NamedTuple):
    """Where a search in a learned model begins.

    :param embeddings: [B, …] of the states
    :param logits: float [B, A]
    :param values: float [B]
    """

    embeddings: np.ndarray
    logits: np.ndarray
    values: np.ndarray


class Expansion(NamedTuple):
    """What a model says of one step in every row.

    :param embeddings: [B, …] of the next states
    :param rewards: float [B], to the mover
    :param discounts: float [B] or one number; 0: the episode ends there
    :param logits: float [B, A] of the next states
    :param values: float [B] of the next states
    """

    embeddings: np.ndarray
    rewards: np.ndarray
    discounts: np.ndarray | float
    logits: np.ndarray
    values: np.ndarray


class ModelSimulator:
    """Look ahead in a learned model; one call a simulation for the whole batch.

    :param step: (embeddings [B, …], actions int [B]) -> Expansion; rows that need no answer are asked all the same
    :param n_actions: A
    """

    def __init__(self, step: Callable[[np.ndarray, np.ndarray], Expansion], n_actions: int) -> None:
        self._step, self.n_actions = step, n_actions

    def expand(self, embeddings: np.ndarray, actions: np.ndarray, needed: np.ndarray) -> Expansion:
        """Step the model in every row; ``needed`` bool [B] marks the rows whose answer will be used."""
        return self._step(embeddings, actions)


class CompiledModel(ModelSimulator):
    """Look ahead in a small learned model that runs inside the search's kernel: z', r, π, v = prediction(dynamics(z, a)).

    It holds copies of networks: build it again after training.

    :param dynamics: latent state [n] and one-hot action [A], side by side -> the next latent state [n]
    :param prediction: latent state [n] -> A + 2 numbers: logits, value, reward of the step that led there; with bins A + 2 m
    :param discount: of every step: γ, or −γ between two players (default 1.0); a learned model's episodes have no end
    :param latent: what finishes a latent state: "linear" (nothing), "relu" (default), "tanh", or "scale" (its numbers to
        [0, 1], Schrittwieser et al. 2020, appendix G)
    :param bins: float [m]; value and reward are then m logits each, and stand for h⁻¹ of the expected bin
        (``common.distributional``); None: they are numbers (default)
    :raises ValueError: if the networks do not fit together, or for an unknown ``latent``
    """

    def __init__(
        self,
        dynamics: CompiledMLP,
        prediction: CompiledMLP,
        discount: float = 1.0,
        latent: str = "relu",
        bins: np.ndarray | None = None,
    ) -> None:
        kinds = {"linear": LINEAR, "relu": RELU, "tanh": TANH, "scale": SCALE}
        if latent not in kinds:
            raise ValueError(f"latent={latent!r} is unknown. Choose one of {sorted(kinds)}.")
        n_actions = dynamics.n_in - dynamics.n_out
        width = 1 if bins is None else len(bins)  # of a value, and of a reward
        if n_actions < 1 or prediction.n_in != dynamics.n_out or prediction.n_out != n_actions + 2 * width:
            raise ValueError(
                f"Networks {dynamics.n_in} -> {dynamics.n_out} and {prediction.n_in} -> {prediction.n_out} do not fit. Give "
                f"dynamics n + A -> n and prediction n -> A + {2 * width}."
            )
        super().__init__(self.expand_all, n_actions)
        self.dynamics, self.prediction, self.discount = dynamics, prediction, float(discount)
        self.latent = kinds[latent]
        self.bins = np.zeros(0, np.float32) if bins is None else np.ascontiguousarray(bins, np.float32)

    @property
    def nbytes(self) -> int:
        """Bytes of the weights."""
        return self.dynamics.nbytes + self.prediction.nbytes

    @property
    def kernel_arguments(self) -> tuple[Any, ...]:
        """What ``imagine`` and ``imagine_together`` take after the discount."""
        nets = (self.dynamics, self.prediction)
        wider = max(nets, key=lambda net: net.buffers.shape[1])
        longer = max(nets, key=lambda net: len(net.active))
        halves = aligned(2, TOGETHER * wider.buffers.shape[1])
        scratch = np.zeros(self.dynamics.n_in, np.float32), wider.buffers, longer.active, halves
        return self.latent, *((net.rows, net.layers, net.tanh, net.packed) for net in nets), self.bins, scratch

    def expand_all(self, embeddings: np.ndarray, actions: np.ndarray) -> Expansion:
        """Step every row with numpy, as ``ModelSimulator`` asks for: latent states [B, n], actions int [B]."""
        one_hot = np.eye(self.n_actions, dtype=np.float32)[actions]
        latents = self.dynamics(np.concatenate([embeddings, one_hot], axis=1))
        for latent in latents:
            finish(latent, self.latent)
        y = self.prediction(latents.copy())
        rewards, logits, values = read_rows(y, self.n_actions, self.bins)
        return Expansion(latents, rewards, self.discount, logits, values)


class EnvSimulator:
    """Look ahead in copies of a Gymnasium env (``copy.deepcopy``): the embedding of a state is the number of its copy.

    A state that the time limit truncates is worth its evaluation, and is not looked beyond.

    :param n_actions: A of the env's Discrete space
    :param evaluate: observations [n, …] -> logits [n, A], values [n]; None: uniform priors and one random rollout
    :param gamma: discount (default 0.99)
    :param rollout_length: most steps of a rollout (default 200)
    :param seed: of the rollouts
    :raises ValueError: for gamma out of range
    """

    def __init__(
        self,
        n_actions: int,
        evaluate: Evaluate | None = None,
        gamma: float = 0.99,
        rollout_length: int = 200,
        seed: int | None = None,
    ) -> None:
        if not 0.0 < gamma <= 1.0:
            raise ValueError(f"gamma={gamma} is out of range. Give a discount in (0, 1].")
        self.n_actions, self.evaluate, self.gamma, self.rollout_length = n_actions, evaluate, gamma, rollout_length
        self.rng = np.random.default_rng(seed)
        self._copies: list[gym.Env] = []

    def root(self, envs: Sequence[gym.Env], observations: np.ndarray) -> Root:
        """Begin a search at the present states of some envs, which are copied and left alone.

        :param envs: B envs
        :param observations: what they last showed, [B, …]
        """
        self._copies = [copy.deepcopy(env) for env in envs]
        logits, values = self._evaluate(self._copies, np.asarray(observations))
        return Root(np.arange(len(envs), dtype=np.int64), logits, values)

    def _evaluate(self, envs: list[gym.Env], observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        if self.evaluate is not None:
            return self.evaluate(observations)
        return np.zeros((len(envs), self.n_actions)), np.array([self._rollout(env) for env in envs])

    def _rollout(self, env: gym.Env) -> float:
        env, total, weight = copy.deepcopy(env), 0.0, 1.0
        for _ in range(self.rollout_length):
            _, reward, terminated, truncated, _ = env.step(int(self.rng.integers(self.n_actions)))
            total += weight * float(reward)
            weight *= self.gamma
            if terminated or truncated:
                break
        return total

    def expand(self, embeddings: np.ndarray, actions: np.ndarray, needed: np.ndarray) -> Expansion:
        """Step a copy of every parent that is needed."""
        n = len(actions)
        rewards, discounts, out = np.zeros(n), np.full(n, self.gamma), np.zeros(n, np.int64)
        logits, values = np.zeros((n, self.n_actions)), np.zeros(n)
        alive, seen, cut = [], [], []
        for b in np.flatnonzero(needed):
            env = copy.deepcopy(self._copies[int(embeddings[b])])
            observation, reward, terminated, truncated, _ = env.step(int(actions[b]))
            out[b], rewards[b] = len(self._copies), float(reward)
            self._copies.append(env)
            if terminated:
                discounts[b] = 0.0
            else:
                alive.append(b)
                seen.append(observation)
                cut.append(truncated)
        if alive:
            rows, over = np.array(alive), np.array(cut)
            if self.evaluate is None:  # a truncated env cannot be rolled out any further
                values[rows[~over]] = [self._rollout(self._copies[out[b]]) for b in rows[~over]]
            else:
                logits[rows], values[rows] = self.evaluate(np.stack(seen))
            rewards[rows[over]] += self.gamma * values[rows[over]]
            discounts[rows[over]] = 0.0
        return Expansion(out, rewards, discounts, logits, values)
