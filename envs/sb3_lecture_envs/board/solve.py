"""Full solution of a small game: every state the players can reach, ply by ply, then values from the end backwards.

Zermelo's backward induction on the game's own batched rules: level k + 1 holds the distinct unfinished successors of level k,
and a state's score is the best of its moves' scores. A win in d plies scores M + 1 − d, a loss −(M + 1 − d), a draw 0, with
M = ``max_plies``: the sign is the value, the size tells sooner from later.
"""

from functools import lru_cache

import numpy as np

from .game import PLY, Game
from .players import ILLEGAL


class TableGrader:
    """The solved game as a table of move scores; made by ``solve``.

    :param states: all unfinished states by ply, one array int [n_k, state_size] a ply, rows in lexicographic order
    :param scores: move scores int16 [n_k, A] of each
    """

    def __init__(self, states: list[np.ndarray], scores: list[np.ndarray]) -> None:
        self.states, self.scores = states, scores
        self._rows = [{row.tobytes(): i for i, row in enumerate(level)} for level in states]

    @property
    def n_states(self) -> int:
        """Number of unfinished states that play can reach."""
        return sum(len(level) for level in self.states)

    def move_scores(self, states: np.ndarray) -> np.ndarray:
        """Return the score of every move, int16 [n, A], ILLEGAL where none.

        :raises ValueError: for a state that play cannot reach, or a finished one
        """
        scores = np.empty((len(states), self.scores[0].shape[1]), np.int16)
        for i, state in enumerate(np.ascontiguousarray(states)):
            row = self._rows[state[PLY]].get(state.tobytes()) if state[PLY] < len(self._rows) else None
            if row is None:
                raise ValueError(f"State {state.tolist()} is over, or no play from the start leads to it.")
            scores[i] = self.scores[state[PLY]][row]
        return scores

    def move_values(self, states: np.ndarray) -> np.ndarray:
        """Return the value of every move, int16 [n, A]: 1 win, 0 draw, −1 loss, ILLEGAL where none."""
        scores = self.move_scores(states)
        return np.where(scores == ILLEGAL, ILLEGAL, np.sign(scores)).astype(np.int16)


@lru_cache(maxsize=8)
def solve(game: Game, max_states: int = 2_000_000) -> TableGrader:
    """Solve a small game from its start.

    :param game: the rules
    :param max_states: limit on the states of one ply (default 2 million)
    :raises ValueError: where the game is larger
    """
    levels: list[np.ndarray] = [game.initial(1)]
    links = []  # of each level: row and action of every legal move, its reward, index of its successor or −1
    while len(levels[-1]):
        if len(levels[-1]) > max_states:
            raise ValueError(f"{game!r} has {len(levels[-1])} states at ply {len(levels) - 1}, over max_states={max_states}.")
        rows, actions = np.nonzero(game.legal(levels[-1]))
        successors, rewards, terminated = game.step(levels[-1][rows], actions)
        unfinished = ~terminated
        level, inverse = np.unique(successors[unfinished], axis=0, return_inverse=True)
        child = np.full(len(rows), -1)
        child[unfinished] = inverse.ravel()
        links.append((rows, actions, rewards, child))
        levels.append(level)
    levels.pop()
    scores: list[np.ndarray] = []
    best = np.zeros(0, np.int16)  # score of every state of the level below
    for level, (rows, actions, rewards, child) in zip(reversed(levels), reversed(links), strict=True):
        table = np.full((len(level), game.n_actions), ILLEGAL, np.int16)
        if len(best):
            below = best[child]
            moved = (-np.sign(below) * (np.abs(below) - 1)).astype(np.int16)  # one ply further from the end
        else:
            moved = np.zeros(len(rows), np.int16)
        table[rows, actions] = np.where(child < 0, (np.sign(rewards) * game.max_plies).astype(np.int16), moved)
        best = table.max(axis=1)
        scores.append(table)
    return TableGrader(levels, scores[::-1])
