"""Players: random, and perfect by the exact values of a solver.

A *grader* knows a game's truth: ``move_scores(states) -> int [n, A]``, larger for better moves, positive where the move
keeps a win for the mover, 0 where it keeps a draw, negative where it loses, ILLEGAL elsewhere; of two winning moves the one
that wins earlier has the larger score, of two losing moves the one that loses later.
"""

from typing import Protocol

import numpy as np

ILLEGAL = -1000  # the score of a move that may not be played
UNKNOWN = -999  # a score that was not computed


class Player(Protocol):
    """Whoever answers an observation with a move."""

    def __call__(self, observation: np.ndarray, mask: np.ndarray) -> int:
        """Choose a legal action."""
        ...


class ReadsStates(Protocol):
    """Rules that read the state off an observation, as every Game does."""

    def state_of(self, observations: np.ndarray) -> np.ndarray:
        """Return the states, int [n, state_size], of observations [n, planes, H, W]."""
        ...


class Grader(Protocol):
    """Exact knowledge of a game."""

    def move_scores(self, states: np.ndarray) -> np.ndarray:
        """Return the score of every move, int [n, A]."""
        ...

    def move_values(self, states: np.ndarray) -> np.ndarray:
        """Return the win (1), draw (0) or loss (−1) that every move leads to, int [n, A], ILLEGAL where none."""
        ...


def optimal_moves(values: np.ndarray) -> np.ndarray:
    """Return which moves are as good as the best, bool [n, A].

    :param values: int [n, A] of a grader: move values say which moves keep the win/draw/loss value, move scores which of
        them also win soonest or lose latest
    """
    best = values.max(axis=-1, keepdims=True)
    return (values == best) & (best > ILLEGAL)


def uniform_choice(rng: np.random.Generator, mask: np.ndarray) -> np.ndarray:
    """Draw one True of every row: mask bool [n, A] -> int [n]."""
    return ((1.0 - rng.random(mask.shape)) * mask).argmax(axis=-1)  # 1 − [0, 1) is never 0


class RandomPlayer:
    """Draws uniformly among the legal moves.

    :param seed: of its generator; None: unpredictable
    """

    def __init__(self, seed: int | None = None) -> None:
        self.rng = np.random.default_rng(seed)

    def seed(self, seed: int) -> None:
        """Start the generator anew."""
        self.rng = np.random.default_rng(seed)

    def __call__(self, observation: np.ndarray, mask: np.ndarray) -> int:
        """Draw a legal move."""
        return int(self.batch(observation[None], mask[None])[0])

    def batch(self, observations: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """Draw a legal move in every row: masks bool [n, A] -> int [n]."""
        return uniform_choice(self.rng, masks)


class PerfectPlayer:
    """Draws uniformly among the optimal moves, by the exact values of a grader.

    :param game: the rules
    :param grader: knows the value of every move
    :param seed: of its generator; None: unpredictable
    :param shortest: whether to draw among the moves that win soonest or lose latest (default False: among all that keep the
        win, draw or loss)
    """

    def __init__(self, game: ReadsStates, grader: Grader, seed: int | None = None, shortest: bool = False) -> None:
        self.game, self.grader, self.shortest = game, grader, shortest
        self.rng = np.random.default_rng(seed)

    def seed(self, seed: int) -> None:
        """Start the generator anew."""
        self.rng = np.random.default_rng(seed)

    def __call__(self, observation: np.ndarray, mask: np.ndarray) -> int:
        """Draw an optimal move."""
        return int(self.batch(observation[None], mask[None])[0])

    def batch(self, observations: np.ndarray, masks: np.ndarray) -> np.ndarray:
        """Draw an optimal move in every row: observations [n, planes, H, W] -> int [n]."""
        states = self.game.state_of(observations)
        values = self.grader.move_scores(states) if self.shortest else self.grader.move_values(states)
        return uniform_choice(self.rng, optimal_moves(np.where(masks, values, ILLEGAL)))


def grade(actions: np.ndarray, values: np.ndarray, scores: np.ndarray) -> dict[str, float]:
    """Compare moves with the truth.

    :param actions: int [n], the moves to grade, legal
    :param values: int [n, A], the move values of a grader in the states they were played in
    :param scores: int [n, A], the move scores, UNKNOWN in the whole row where they were not computed
    :return: ``optimal``, the share of moves that keep the win/draw/loss value; ``matters``, the same over the states where
        some legal move errs; ``shortest``, the share that also win soonest or lose latest, where scores are known (NaN for
        a share of nothing)
    """
    rows = np.arange(len(actions))
    best = optimal_moves(values)
    kept, counts = best[rows, actions], (best != (values != ILLEGAL)).any(axis=1)
    known = scores.max(axis=1) != UNKNOWN
    shortest = optimal_moves(scores)[rows, actions]
    return {name: _share(x) for name, x in (("optimal", kept), ("matters", kept[counts]), ("shortest", shortest[known]))}


def _share(which: np.ndarray) -> float:
    return float(which.mean()) if len(which) else float("nan")
