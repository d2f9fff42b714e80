"""Lines of play on a board: replayed from text, searched, and solved where a solver answers soon."""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import numpy as np

from sb3_lecture.search.mcts import MCTS, RolloutSearch, SearchResult
from sb3_lecture.search.simulators import GameSimulator
from sb3_lecture_envs.board.connect_four import ConnectFour
from sb3_lecture_envs.board.connect_four_board import OTHER, OWN
from sb3_lecture_envs.board.connect_four_positions import load_book
from sb3_lecture_envs.board.connect_four_solver import ConnectFourSolver
from sb3_lecture_envs.board.game import PLY, Game
from sb3_lecture_envs.board.go import Go
from sb3_lecture_envs.board.nim import Nim
from sb3_lecture_envs.board.othello import Othello
from sb3_lecture_envs.board.players import ILLEGAL, UNKNOWN, optimal_moves
from sb3_lecture_envs.board.tic_tac_toe import TicTacToe


class Kind(NamedTuple):
    """A game of the lab.

    :param title: what people read
    :param make: makes the rules
    :param drawn: how the view draws it: "marks", "columns", "discs", "stones" or "heaps"
    :param env: id of its env
    :param source: module of the rules
    """

    title: str
    make: Callable[[], Game]
    drawn: str
    env: str
    source: str


_ENVS = "sb3_lecture_envs.board"
GAMES = {
    "tic_tac_toe": Kind("TicTacToe", TicTacToe, "marks", "Lecture/TicTacToe-v0", f"{_ENVS}.tic_tac_toe"),
    "connect_four": Kind("Connect Four", ConnectFour, "columns", "Lecture/ConnectFour-v0", f"{_ENVS}.connect_four"),
    "othello": Kind("Othello", Othello, "discs", "Lecture/Othello-v0", f"{_ENVS}.othello"),
    "go": Kind("Go 9 × 9", Go, "stones", "Lecture/Go-v0", f"{_ENVS}.go"),
    "nim": Kind("Nim 1-3-5-7", Nim, "heaps", "Lecture/Nim-v0", f"{_ENVS}.nim"),
}
#: games with a trained network in the package
TRAINED = ("tic_tac_toe",)
#: stones on the board from which Connect Four's solver needs well under a second; before that, only the book is asked
SOON = 10
SOLVER_BITS = 20  # of Connect Four's table: 8 MiB a page
MOST_KEPT = 4096  # solved positions that are remembered


class Line:
    """Moves from the start, as far as they can be played.

    :param game: the rules
    :param text: the moves as players write them, between spaces
    """

    def __init__(self, game: Game, text: str) -> None:
        self.game, self.problem = game, ""
        self.states = [game.initial()[0]]
        self.actions: list[int] = []
        self.over, self.result = False, 0.0  # the result is the first player's
        self._keys = [game.position_keys(self.states[0][None])[0]]
        self.mask = self._legal()
        for word in text.split():
            try:
                action = game.text_to_action(word)
                if self.over or not self.mask[action]:
                    why = "the game is over" if self.over else f"legal are {' '.join(self.legal_texts())}"
                    raise ValueError(f"{word} cannot be played as move {len(self.actions) + 1}: {why}")
            except ValueError as error:
                self.problem = str(error)
                return
            self.play(action)

    @property
    def state(self) -> np.ndarray:
        """The position at the end of the line."""
        return self.states[-1]

    @property
    def mover(self) -> int:
        """Who is to move: 0 the first player, 1 the second."""
        return int(self.state[PLY]) % 2

    @property
    def text(self) -> str:
        """The moves played."""
        return " ".join(self.game.action_to_text(action) for action in self.actions)

    def legal_texts(self) -> list[str]:
        """The legal moves as players write them."""
        return [self.game.action_to_text(int(action)) for action in np.flatnonzero(self.mask)]

    def play(self, action: int) -> None:
        """Play a legal move."""
        sign = 1.0 if self.mover == 0 else -1.0
        states, rewards, terminated = self.game.step(self.state[None], np.array([action]))
        self.states.append(states[0])
        self.actions.append(action)
        self._keys.append(self.game.position_keys(states)[0])
        self.over, self.result = bool(terminated[0]), sign * float(rewards[0]) + 0.0  # no −0
        self.mask = self._legal()

    def _legal(self) -> np.ndarray:
        mask = self.game.legal(self.state[None])[0]
        return self.game.forbid_repetition(self.state, np.array(self._keys, np.int64), mask)


class Exact(NamedTuple):
    """What is known of a position's moves.

    :param values: int [A], 1 win, 0 draw, −1 loss for the mover, ILLEGAL
    :param plies: int [A], moves until the end when both play their best; −1: not known
    :param best: bool [A], moves that keep the value, and win soonest or lose latest where that is known
    """

    values: np.ndarray
    plies: np.ndarray
    best: np.ndarray

    @property
    def value(self) -> int:
        """The position's value for the mover."""
        return int(self.values.max())


class Solver:
    """Exact values where they come soon.

    :param game: the rules
    """

    def __init__(self, game: Game) -> None:
        self.game = game
        self._kept: dict[bytes, Exact | None] = {}
        try:
            self._grader = ConnectFourSolver(table_bits=SOLVER_BITS) if isinstance(game, ConnectFour) else game.grader()
        except ValueError:  # no exact solver
            self._grader = None

    @property
    def solves(self) -> bool:
        """Whether the game is solved at all."""
        return self._grader is not None

    def __call__(self, state: np.ndarray) -> Exact | None:
        """What is known of an unfinished position; None: nothing, or not soon."""
        key = state.tobytes()
        if key not in self._kept:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[key] = self._solve(state)
        return self._kept[key]

    def _solve(self, state: np.ndarray) -> Exact | None:
        if self._grader is None:
            return None
        if isinstance(self.game, ConnectFour) and state[PLY] < SOON:
            known = load_book().get((int(state[OWN]), int(state[OTHER])))
            if known is None:
                return None
            values, scores = known["values"], known.get("scores", np.full(7, UNKNOWN))
        else:
            scores = self._grader.move_scores(state[None])[0]
            values = np.where(scores == ILLEGAL, ILLEGAL, np.sign(scores))
        exact = scores.max() != UNKNOWN
        plies = self._plies(state, scores) if exact else np.full(len(scores), -1)
        return Exact(values.astype(np.int64), plies, optimal_moves(scores if exact else values))

    def _plies(self, state: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Moves until the end: a table's score is M + 1 − plies, Connect Four's counts the winner's stones left."""
        left, size = self.game.max_plies - int(state[PLY]), np.abs(scores.astype(np.int64))
        if isinstance(self.game, ConnectFour):
            won, lost = 2 * ((left + 1) // 2 - size) + 1, 2 * (left // 2 - size) + 2
            plies = np.where(scores > 0, won, np.where(scores < 0, lost, left))
        else:
            plies = np.where(scores == 0, left, self.game.max_plies + 1 - size)
        return np.where(scores == ILLEGAL, -1, plies)


@cache
def trained_network(name: str) -> Any:
    """The network of a game that comes with the package, compiled.

    :param name: one of ``TRAINED``
    """
    from sb3_lecture.common.checkpoint import load
    from sb3_lecture.zoo.pretrained import folder

    env = GAMES[name].env.replace("/", "-")
    return load(folder() / "alphazero" / f"{env}_1" / f"{env}.zip").policy.evaluator()


class Thinker:
    """A search over a game.

    :param name: of the game
    :param game: its rules
    :param trained: whether a trained network guides it; False: random rollouts
    :param simulations: visits of the root
    """

    def __init__(self, name: str, game: Game, trained: bool, simulations: int) -> None:
        self.search_: MCTS = (
            MCTS(GameSimulator(game), trained_network(name), simulations) if trained else RolloutSearch(game, simulations)
        )
        self.c_uct = None if trained else self.search_.c_uct

    def __call__(self, line: Line, seed: int) -> SearchResult:
        """Search from the end of a line; the same line and seed, the same numbers."""
        self.search_.seed(seed)
        return self.search_.search(line.state[None], legal=line.mask[None])


def place(game: Game, state: np.ndarray, action: int) -> tuple[int, int] | None:
    """Where a move is drawn, row and column of the board; None: a pass.

    In Connect Four that is the cell the stone falls to, in Nim the first of the stones that are taken.
    """
    board = game.board(state)
    if isinstance(game, ConnectFour):
        return int((board[:, action] == 0).sum()) - 1, action
    if isinstance(game, Nim):
        heap, taken = divmod(action, game.law.largest)
        return heap, int(board[0, heap]) - taken - 1
    row, column = divmod(action, board.shape[1])
    return (row, column) if row < board.shape[0] else None
