"""Players: random, and one who draws from a table of information states."""

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from .game import HiddenGame


class RandomPlayer:
    """Draws uniformly among the legal moves.

    :param seed: of its generator; None: unpredictable
    """

    def __init__(self, seed: int | None = None) -> None:
        self.rng = np.random.default_rng(seed)

    def seed(self, seed: int) -> None:
        """Start the draws anew."""
        self.rng = np.random.default_rng(seed)

    def __call__(self, observation: np.ndarray, mask: np.ndarray) -> int:
        """Choose a legal move: observation [O], mask bool [A]."""
        return int(self.batch(observation[None], mask[None])[0])

    def batch(self, observations: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """Choose a legal move in every row: observations [n, O], masks bool [n, A] -> int [n]."""
        return ((1.0 - self.rng.random(masks.shape)) * masks).argmax(axis=1)  # 1 − [0, 1) is never 0


class TablePlayer:
    """Draws from a table.

    :param game: the rules
    :param table: information state's name (``game.describe``) → probabilities, float [A]
    :param seed: of its generator; None: unpredictable
    """

    def __init__(self, game: "HiddenGame", table: dict[str, np.ndarray], seed: int | None = None) -> None:
        self.rng = np.random.default_rng(seed)
        self.by_observation = {
            game.observe(state[None], np.array([player]))[0].tobytes(): table[game.describe(state, player)]
            for state, player in information_states(game)
        }

    def seed(self, seed: int) -> None:
        """Start the draws anew."""
        self.rng = np.random.default_rng(seed)

    def __call__(self, observation: np.ndarray, mask: np.ndarray) -> int:
        """Choose a move: observation [O], mask bool [A]."""
        return int(self.batch(observation[None], mask[None])[0])

    def batch(self, observations: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """Choose a move in every row: observations [n, O], masks bool [n, A] -> int [n]."""
        rows = np.stack([self.by_observation[np.asarray(o, np.float32).tobytes()] for o in observations])  # [n, A]
        return (rows.cumsum(axis=1)[:, :-1] <= self.rng.random((len(rows), 1))).sum(axis=1)


def information_states(game: "HiddenGame") -> list[tuple[np.ndarray, int]]:
    """Return one state of every information state, with its player, in the order of a walk by levels. For small games."""
    found: dict[bytes, tuple[np.ndarray, int]] = {}
    states = game.initial(1)
    while len(states):
        turn = states[:, 0]
        chances, legal = game.chances(states), game.legal(states)
        for state, observation in zip(states[turn >= 0], game.observe(states[turn >= 0], turn[turn >= 0]), strict=True):
            found.setdefault(observation.tobytes(), (state, int(state[0])))
        moves = [(i, a) for i in range(len(states)) for a in np.flatnonzero(legal[i] if turn[i] >= 0 else chances[i] > 0)]
        rows, actions = np.array(moves, np.int64).reshape(-1, 2).T
        states = game.step(states[rows], actions)
    return list(found.values())
