"""Connect Four: four in a row on a board of 7 columns and 6 rows, stones fall.

State: [ply, over, stones of the side to move, stones of the other] as bitboards, see ``connect_four_board``.
"""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from .bits import popcount
from .connect_four_board import CELLS, COLUMN_BITS, HEIGHT, OTHER, OWN, TOP, WIDTH, has_four
from .env import BoardEnv, BoardVectorEnv, Opponent
from .game import OVER, PLY, Game, Rules, Symmetries, register_rules


class ConnectFourLaw(NamedTuple):
    """The constants of Connect Four.

    :param max_plies: 42 cells, 42 moves
    """

    max_plies: int = CELLS


@njit(cache=True)
def _initial(law, state):  # type: ignore[no-untyped-def]
    state[:] = 0


@njit(cache=True)
def _legal(law, state, mask):  # type: ignore[no-untyped-def]
    open_tops = 0 if state[OVER] else TOP & ~(state[OWN] | state[OTHER])
    for column in range(WIDTH):
        mask[column] = (open_tops >> (COLUMN_BITS * column + HEIGHT - 1)) & 1
    return popcount(open_tops)


@njit(cache=True)
def _accepts(law, state, action):  # type: ignore[no-untyped-def]
    if state[OVER] != 0 or action < 0 or action >= WIDTH:
        return False
    return ((state[OWN] | state[OTHER]) >> (COLUMN_BITS * action + HEIGHT - 1)) & 1 == 0


@njit(cache=True)
def _step(law, state, action):  # type: ignore[no-untyped-def]
    own, other = state[OWN], state[OTHER]
    # adding the column's lowest bit carries up to its first empty cell
    own |= ((own | other) + (1 << (COLUMN_BITS * action))) & (((1 << HEIGHT) - 1) << (COLUMN_BITS * action)) & ~other
    won = has_four(own)
    state[PLY] += 1
    over = won or state[PLY] == CELLS
    state[OVER] = over
    state[OWN], state[OTHER] = other, own  # the other side is to move
    return (1.0 if won else 0.0), over


@njit(cache=True)
def _observe(law, state, out):  # type: ignore[no-untyped-def]
    for row in range(HEIGHT):  # row 0 of the picture is the top
        for column in range(WIDTH):
            bit = COLUMN_BITS * column + HEIGHT - 1 - row
            out[0, row, column] = (state[OWN] >> bit) & 1
            out[1, row, column] = (state[OTHER] >> bit) & 1


@njit(cache=True)
def _state_of(law, observation, state):  # type: ignore[no-untyped-def]
    own, other = 0, 0
    for row in range(HEIGHT):
        for column in range(WIDTH):
            bit = COLUMN_BITS * column + HEIGHT - 1 - row
            own |= (observation[0, row, column] > 0.5) << bit
            other |= (observation[1, row, column] > 0.5) << bit
    state[PLY] = popcount(own | other)
    state[OVER] = state[PLY] == CELLS or has_four(own) or has_four(other)
    state[OWN], state[OTHER] = own, other


register_rules(ConnectFourLaw, Rules(_initial, _legal, _accepts, _step, _observe, _state_of))


class ConnectFour(Game):
    """The rules of Connect Four. Action c drops a stone in column c; planes: own stones, the other's stones."""

    def __init__(self) -> None:
        self.law = ConnectFourLaw()
        self.n_actions = WIDTH
        self.state_size = 4
        self.observation_shape = (2, HEIGHT, WIDTH)
        self.max_plies = CELLS
        cells = np.arange(CELLS, dtype=np.int64).reshape(HEIGHT, WIDTH)
        columns = np.arange(WIDTH, dtype=np.int64)
        self.symmetries = Symmetries(
            np.stack([cells.ravel(), cells[:, ::-1].ravel()]), np.stack([columns, columns[::-1]])
        )  # the identity and the mirror

    def grader(self) -> Any:
        """Return the alpha-beta solver."""
        from .connect_four_solver import ConnectFourSolver

        return ConnectFourSolver()

    def board(self, state: np.ndarray) -> np.ndarray:
        """Return the stones, int8 [6, 7], top row first: +1 the first player's, −1 the second's."""
        rows, columns = np.mgrid[:HEIGHT, :WIDTH]
        bits = COLUMN_BITS * columns + HEIGHT - 1 - rows
        own = ((int(state[OWN]) >> bits) & 1) - ((int(state[OTHER]) >> bits) & 1)
        return (own * (1 if state[PLY] % 2 == 0 else -1)).astype(np.int8)

    def action_to_text(self, action: int) -> str:
        """Name a column, 1 to 7 from the left."""
        return str(action + 1)

    def text_to_action(self, text: str) -> int:
        """Read a column, 1 to 7 from the left."""
        if text.strip() not in {str(column + 1) for column in range(WIDTH)}:
            raise ValueError(f"{text!r} is no column. Write a number from 1 (left) to 7 (right).")
        return int(text) - 1

    def render_text(self, state: np.ndarray) -> str:
        """Draw the board with the columns' numbers below."""
        return super().render_text(state) + "\n" + " ".join(str(column + 1) for column in range(WIDTH))


class ConnectFourEnv(BoardEnv):
    """Connect Four as an env.

    ## Description
    Two players drop stones into the columns of a board 7 wide and 6 high; four in a row win. With perfect play the first
    player wins, starting in the centre (Allen and Allis, 1988).

    ## Action Space
    `Discrete(7)`: the column. `info["action_mask"]` and `action_masks()` show the legal ones.

    ## Observation Space
    `Box(0, 1, (2, 6, 7), float32)`, top row first: stones of the side to move, stones of the other.

    ## Rewards
    +1 for the move that wins, −1 for an illegal one with `illegal="lose"`, otherwise 0. Without an opponent the reward is the
    mover's; with one it is the agent's, −1 where the opponent's answer wins.

    ## Starting State
    An empty board.

    ## Episode End
    Terminated by four in a row, a full board or an illegal move with `illegal="lose"`.

    ## Arguments
    - `opponent`: None (two players alternate, the default), "random", "perfect", or a callable (observation, mask) -> action.
    - `side`: against an opponent "random" (drawn at reset, the default), "first" or "second".
    - `illegal`: "lose" (default) or "error".
    - `render_mode`: None, "ansi", "rgb_array" or "human".

    ## Version History
    - v0: first version.

    :raises ValueError: if an argument is not one of those
    """

    def __init__(
        self,
        opponent: str | Opponent | None = None,
        side: str = "random",
        illegal: str = "lose",
        render_mode: str | None = None,
    ) -> None:
        super().__init__(ConnectFour(), opponent, side, illegal, render_mode)


make_vector = partial(BoardVectorEnv.from_game, ConnectFour)
