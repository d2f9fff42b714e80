"""TicTacToe: three in a row on a 3 × 3 board.

State: [ply, over, stones of the side to move, stones of the other], each nine bits, cell ``3 * row + column`` its bit number.
"""

from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from .bits import popcount
from .env import BoardEnv, BoardVectorEnv, Opponent
from .game import HEADER, OVER, PLY, Game, Rules, below, grid_symmetries, next_bits, register_rules

OWN, OTHER = HEADER, HEADER + 1
FULL = 0b111_111_111
# rows, columns, diagonals
LINES = (0b111, 0b111_000, 0b111_000_000, 0b001_001_001, 0b010_010_010, 0b100_100_100, 0b100_010_001, 0b001_010_100)
# nine bits are few: whether they hold a line, bool [512], and where their k-th set bit is, int8 [512, 9]
WINS = np.array([any(stones & line == line for line in LINES) for stones in range(512)])
SET_BITS = np.array([sorted(range(9), key=lambda cell: (stones >> cell & 1 == 0, cell)) for stones in range(512)], np.int8)


class TicTacToeLaw(NamedTuple):
    """The constants of TicTacToe.

    :param max_plies: nine cells, nine moves
    """

    max_plies: int = 9


@njit(cache=True)
def has_line(stones: int) -> bool:
    """Say whether nine bits hold three in a row."""
    return WINS[stones & FULL]


@njit(cache=True)
def _initial(law, state):  # type: ignore[no-untyped-def]
    state[:] = 0


@njit(cache=True)
def _legal(law, state, mask):  # type: ignore[no-untyped-def]
    empty = 0 if state[OVER] else FULL & ~(state[OWN] | state[OTHER])
    for cell in range(9):
        mask[cell] = (empty >> cell) & 1
    return popcount(empty)


@njit(cache=True)
def _accepts(law, state, action):  # type: ignore[no-untyped-def]
    return state[OVER] == 0 and 0 <= action < 9 and ((state[OWN] | state[OTHER]) >> action) & 1 == 0


@njit(cache=True)
def _step(law, state, action):  # type: ignore[no-untyped-def]
    mine = state[OWN] | (1 << action)
    won = has_line(mine)
    state[PLY] += 1
    over = won or state[PLY] == 9
    state[OVER] = over
    state[OWN], state[OTHER] = state[OTHER], mine  # the other side is to move
    return (1.0 if won else 0.0), over


@njit(cache=True)
def _observe(law, state, out):  # type: ignore[no-untyped-def]
    for cell in range(9):
        out[0, cell // 3, cell % 3] = (state[OWN] >> cell) & 1
        out[1, cell // 3, cell % 3] = (state[OTHER] >> cell) & 1


@njit(cache=True)
def _state_of(law, observation, state):  # type: ignore[no-untyped-def]
    own, other = 0, 0
    for cell in range(9):
        own |= (observation[0, cell // 3, cell % 3] > 0.5) << cell
        other |= (observation[1, cell // 3, cell % 3] > 0.5) << cell
    state[PLY] = popcount(own | other)
    state[OVER] = state[PLY] == 9 or has_line(own) or has_line(other)
    state[OWN], state[OTHER] = own, other


@njit(cache=True)
def _draw(law, state, bits, mask):  # type: ignore[no-untyped-def]
    empty = 0 if state[OVER] else FULL & ~(state[OWN] | state[OTHER])
    if empty == 0:
        return -1, bits
    bits = next_bits(bits)
    return np.int64(SET_BITS[empty, below(bits, popcount(empty))]), bits


register_rules(TicTacToeLaw, Rules(_initial, _legal, _accepts, _step, _observe, _state_of, _draw))


class TicTacToe(Game):
    """The rules of TicTacToe. Action ``3 * row + column`` marks a cell; planes: own stones, the other's stones."""

    def __init__(self) -> None:
        self.law = TicTacToeLaw()
        self.n_actions = 9
        self.state_size = 4
        self.observation_shape = (2, 3, 3)
        self.max_plies = 9
        self.symmetries = grid_symmetries(3, 3)

    def grader(self) -> Any:
        """Return the fully solved game."""
        from .solve import solve

        return solve(self)

    def board(self, state: np.ndarray) -> np.ndarray:
        """Return the marks, int8 [3, 3]: +1 the first player's, −1 the second's."""
        cells = np.arange(9)
        own = ((int(state[OWN]) >> cells) & 1) - ((int(state[OTHER]) >> cells) & 1)
        return (own * (1 if state[PLY] % 2 == 0 else -1)).astype(np.int8).reshape(3, 3)

    def action_to_text(self, action: int) -> str:
        """Name a cell: column a–c, then row 1–3 from the top."""
        return f"{'abc'[action % 3]}{action // 3 + 1}"

    def text_to_action(self, text: str) -> int:
        """Read a cell such as ``b2``."""
        names: dict[str, int] = {self.action_to_text(action): action for action in range(9)}
        if text.strip().lower() not in names:
            raise ValueError(f"{text!r} is no cell. Write a column a-c and a row 1-3, such as b2 for the centre.")
        return names[text.strip().lower()]


class TicTacToeEnv(BoardEnv):
    """TicTacToe as an env.

    ## Description
    Two players mark the cells of a 3 by 3 board in turn; three in a row win. Perfect play is a draw.

    ## Action Space
    `Discrete(9)`: `3 * row + column`. `info["action_mask"]` and `action_masks()` show the legal ones.

    ## Observation Space
    `Box(0, 1, (2, 3, 3), float32)`: marks of the side to move, marks of the other.

    ## Rewards
    +1 for the move that wins, −1 for an illegal one with `illegal="lose"`, otherwise 0. Without an opponent the reward is the
    mover's; with one it is the agent's, −1 where the opponent's answer wins.

    ## Starting State
    An empty board.

    ## Episode End
    Terminated by three in a row, a full board or an illegal move with `illegal="lose"`.

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
        super().__init__(TicTacToe(), opponent, side, illegal, render_mode)


make_vector = partial(BoardVectorEnv.from_game, TicTacToe)
