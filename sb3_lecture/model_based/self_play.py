"""What a search that learns needs besides its network: the world it looks ahead in, and a memory of what it found.

A *world* reads states off observations, shows them to a network and hands them to the search; its discount is −1 in a game
(what is good for one side is bad for the other) and γ in an MDP, so that one recursion z_t = r_{t+1} + d z_{t+1} makes the
value targets of both.
"""

from collections.abc import Iterable
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from sb3_lecture.common.returns import discounted_returns
from sb3_lecture.common.vec_env import make_native_vec_env
from sb3_lecture.exact.grade import ExactGrader
from sb3_lecture.exact.law import law_of
from sb3_lecture.search.simulators import GameSimulator, PuzzleSimulator, TabularSimulator
from sb3_lecture_envs.board.game import Game, Symmetries
from sb3_lecture_envs.mdp import TabularMDP

UNIT = 65535  # a policy is kept in 65535ths


class BoardWorld:
    """A board game as the learner sees it.

    :param game: the rules
    """

    discount = -1.0

    def __init__(self, game: Game) -> None:
        self.game, self.state_size, self.state_dtype = game, game.state_size, np.dtype(game.state_dtype)
        self.symmetries: Symmetries | None = game.symmetries

    def simulator(self) -> GameSimulator:
        """Return what the search looks ahead in."""
        return GameSimulator(self.game)

    def rows(self, observations: np.ndarray) -> np.ndarray:
        """Return the states that observations [n, planes, H, W] show, int [n, state_size]."""
        return self.game.state_of(observations)

    def roots(self, rows: np.ndarray) -> np.ndarray:
        """Return rows as the search takes them."""
        return rows

    def legal(self, rows: np.ndarray) -> np.ndarray:
        """Return the legal moves, bool [n, A]."""
        return self.game.legal(rows)

    def inputs(self, rows: np.ndarray) -> np.ndarray:
        """Return what the network sees, float32 [n, planes, H, W]."""
        return self.game.observe(rows)


class TabularWorld:
    """A TabularMDP as the learner sees it: a row is the state's number alone.

    :param mdp: the law
    :param gamma: discount
    :param observations: of all states as the model sees them, [S, …]
    :param space: of one observation
    :raises ValueError: if two states that can be met look alike
    """

    symmetries: Symmetries | None = None
    state_size, state_dtype = 1, np.dtype(np.int32)

    def __init__(self, mdp: TabularMDP, gamma: float, observations: np.ndarray, space: spaces.Space) -> None:
        self.mdp, self.discount = mdp, gamma
        self.table: np.ndarray | None = None  # float32 [S, …] network inputs; None: one-hot vectors
        self.numbers: dict[bytes, int] = {}
        if not isinstance(space, spaces.Discrete):
            self.table = np.asarray(preprocess_obs(th.as_tensor(observations), space).numpy(), np.float32)  # type: ignore[union-attr]
            self.dtype = np.asarray(observations).dtype
            for s, row in enumerate(np.ascontiguousarray(observations)):
                other = self.numbers.setdefault(row.tobytes(), s)
                if other != s and mdp.reachable[s] and mdp.reachable[other]:
                    raise ValueError(f"States {other} and {s} look alike; a search needs observations that tell states apart")

    def simulator(self) -> TabularSimulator:
        """Return what the search looks ahead in."""
        return TabularSimulator(self.mdp, self.discount, self.table)

    def rows(self, observations: np.ndarray) -> np.ndarray:
        """Return the states that observations [n, …] show, int32 [n, 1].

        :raises ValueError: for an observation of no state
        """
        if self.table is None:
            return np.asarray(observations, np.int32).reshape(-1, 1)
        given = np.ascontiguousarray(observations, self.dtype)
        found = np.array([self.numbers.get(row.tobytes(), -1) for row in given], np.int32)
        if (found < 0).any():
            raise ValueError(f"Observation {given[int(found.argmin())].tolist()} is that of no state of the world.")
        return found[:, None]

    def roots(self, rows: np.ndarray) -> np.ndarray:
        """Return rows as the search takes them, int [n]."""
        return rows[:, 0]

    def legal(self, rows: np.ndarray) -> np.ndarray:
        """Return the allowed actions, bool [n, A]."""
        mask = self.mdp.action_mask
        return np.ones((len(rows), self.mdp.n_actions), np.bool_) if mask is None else mask[rows[:, 0]].copy()

    def inputs(self, rows: np.ndarray) -> np.ndarray:
        """Return what the network sees, float32 [n, …]."""
        states = rows[:, 0]
        return np.eye(self.mdp.n_states, dtype=np.float32)[states] if self.table is None else self.table[states]


class PuzzleWorld:
    """A puzzle for one player, with a board game's compiled rules, as the learner sees it.

    :param game: the rules
    :param discount: γ
    """

    symmetries: Symmetries | None = None

    def __init__(self, game: Game, discount: float) -> None:
        self.game, self.discount = game, discount
        self.state_size, self.state_dtype = game.state_size, np.dtype(game.state_dtype)

    def simulator(self) -> GameSimulator:
        """Return what the search looks ahead in."""
        return PuzzleSimulator(self.game, self.discount)

    def rows(self, observations: np.ndarray) -> np.ndarray:
        """Return the states that observations [n, planes, H, W] show, int [n, state_size]."""
        return self.game.state_of(observations)

    def roots(self, rows: np.ndarray) -> np.ndarray:
        """Return rows as the search takes them."""
        return rows

    def legal(self, rows: np.ndarray) -> np.ndarray:
        """Return the legal moves, bool [n, A]."""
        return self.game.legal(rows)

    def inputs(self, rows: np.ndarray) -> np.ndarray:
        """Return what the network sees, float32 [n, planes, H, W]."""
        return self.game.observe(rows)

    def demonstrations(self, n: int) -> "Targets":
        """Draw about n synthetic demonstrations, by NumPy's global generator."""
        draw: Any = self.game
        rows, actions, left = draw.demonstrations(n, np.random.default_rng(np.random.randint(2**31)))
        policies = np.zeros((len(rows), self.game.n_actions), np.float32)
        policies[np.arange(len(rows)), actions] = 1.0
        g = self.discount
        values = -left if g == 1.0 else -(1.0 - g**left) / (1.0 - g)  # −1 for each move that is left
        return Targets(rows, policies, np.asarray(values, np.float32))


World = BoardWorld | TabularWorld | PuzzleWorld


def read_world(env: VecEnv, gamma: float) -> World:
    """Find the rules that an env states.

    :param env: the env, wrapped as the model sees it
    :param gamma: discount of an MDP
    :raises ValueError: if it states none, plays against an opponent of its own, or hides its states
    """
    if unwrap_vec_normalize(env) is not None:
        raise ValueError("VecNormalize moves the observations that states are read from; leave it out")
    if env.has_attr("game") and isinstance(game := env.get_attr("game", [0])[0], Game):
        if env.has_attr("opponent") and env.get_attr("opponent", [0])[0] is not None:
            raise ValueError("Self-play moves for both sides: make the env with opponent=None (grade it against opponents)")
        if env.observation_space.shape != game.observation_shape:
            raise ValueError(f"Observations {env.observation_space.shape} are not those of {game!r}: leave wrappers out")
        return BoardWorld(game)
    if env.has_attr("puzzle") and isinstance(puzzle := env.get_attr("puzzle", [0])[0], Game):
        if env.observation_space.shape != puzzle.observation_shape:
            raise ValueError(f"Observations {env.observation_space.shape} are not those of {puzzle!r}: leave wrappers out")
        return PuzzleWorld(puzzle, gamma)
    if law_of(env) is None:
        raise ValueError(
            f"{env} states no rules to search in. Use a board game or a tabular world of sb3_lecture_envs, TabularEnv(mdp), "
            "or an env with Gymnasium's P (a world whose rules are not known is for MuZero)"
        )
    grader = ExactGrader(env, gamma)
    assert grader.mdp is not None
    return TabularWorld(grader.mdp, gamma, np.asarray(grader.observations()), env.observation_space)


def returns_to_go(rewards: np.ndarray, discount: float, last_value: float) -> np.ndarray:
    """Return z_t = r_{t+1} + d z_{t+1} of one episode, float32 [T].

    :param rewards: each to the mover, [T]
    :param discount: d: −1 between two players, γ for one
    :param last_value: z_T: 0 at the end, the value of the state where the episode was cut off
    """
    discounts = np.full((len(rewards), 1), discount)
    z = discounted_returns(np.asarray(rewards, np.float64)[:, None], discounts, np.array([last_value], np.float64))
    return z[:, 0].astype(np.float32)


class Targets(NamedTuple):
    """What the network learns from.

    :param rows: the states, int [n, state_size]
    :param policies: π, float32 [n, A]
    :param values: z, float32 [n]
    """

    rows: np.ndarray
    policies: np.ndarray
    values: np.ndarray


class SelfPlayBuffer(ReplayBuffer):
    """The newest ``buffer_size`` moves as (state, π, z); π in 65535ths.

    :param buffer_size: moves of all games together
    :param observation_space: of the env
    :param action_space: Discrete
    :param device: unused; targets are numpy arrays
    :param n_envs: number of games (default 1)
    :param state_size: integers in a state (default 1)
    :param state_dtype: their type (default "int64")
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        device: th.device | str = "auto",
        n_envs: int = 1,
        state_size: int = 1,
        state_dtype: Any = "int64",
    ) -> None:
        BaseBuffer.__init__(self, buffer_size, observation_space, action_space, device, n_envs)  # no arrays of observations
        self.optimize_memory_usage, self.handle_timeout_termination = False, True
        self.rows = np.zeros((buffer_size, state_size), state_dtype)
        self.policies = np.zeros((buffer_size, int(action_space.n)), np.uint16)
        self.values = np.zeros(buffer_size, np.float32)

    def add_episode(self, rows: np.ndarray, policies: np.ndarray, values: np.ndarray) -> None:
        """Store an episode over the oldest moves: rows int [T, state_size], π [T, A], z [T]."""
        n = len(rows)
        at = (self.pos + np.arange(n))[-self.buffer_size :] % self.buffer_size
        rows, policies, values = (part[-self.buffer_size :] for part in (rows, policies, values))
        self.rows[at], self.values[at] = rows, values
        self.policies[at] = np.rint(policies * UNIT)
        self.full = self.full or self.pos + n >= self.buffer_size
        self.pos = (self.pos + n) % self.buffer_size

    def sample(self, batch_size: int, env: Any = None) -> Targets:  # type: ignore[override]
        """Draw moves uniformly, with replacement."""
        drawn = np.random.randint(self.size(), size=batch_size)
        policies = self.policies[drawn].astype(np.float32)
        return Targets(self.rows[drawn], policies / policies.sum(axis=1, keepdims=True), self.values[drawn])


def transform(
    inputs: np.ndarray, policies: np.ndarray, symmetries: Symmetries, which: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Show each row under one symmetry of the board.

    :param inputs: float32 [n, planes, H, W]
    :param policies: float32 [n, A]
    :param symmetries: K of them
    :param which: int [n], 0 ≤ k < K
    :return: inputs and policies, turned
    """
    flat = inputs.reshape(*inputs.shape[:2], -1)  # [n, planes, H * W]
    turned = np.take_along_axis(flat, symmetries.cells[which][:, None, :], axis=2).reshape(inputs.shape)
    return turned, np.take_along_axis(policies, symmetries.actions[which], axis=1)


def many_envs(env_id: str, n_envs: int | None = None) -> VecEnv:
    """Build n envs of an id; one of this package as one vector env.

    :param env_id: the id
    :param n_envs: how many; None: 64 of a board game, 8 of another
    """
    entry = str(gym.spec(env_id).vector_entry_point)
    n = n_envs if n_envs is not None else 64 if entry.startswith("sb3_lecture_envs.board.") else 8
    return make_native_vec_env(env_id, n) if entry.startswith("sb3_lecture_envs.") else make_vec_env(env_id, n)


def log_first_player(logger: Logger, results: Iterable[float]) -> None:
    """Record the shares of games that the first player won, drew and lost.

    :param logger: of the model
    :param results: 1, 0 or −1 of each game
    """
    values = np.array(list(results))
    for name, share in (("win", values > 0), ("draw", values == 0), ("loss", values < 0)):
        logger.record(f"rollout/first_player_{name}", float(share.mean()))
