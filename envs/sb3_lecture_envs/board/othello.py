"""Othello on 8 × 8 or 6 × 6: a move encloses discs of the other side in straight lines and turns them.

State: [ply, over, discs of the side to move, discs of the other] as bitboards, cell ``size * row + column`` its bit number.
The 64 bits of the large board use the sign bit, so the kernels compute on uint64.

Who cannot turn a disc must pass (the last action); who can may not. The game ends when neither side can move. Feinstein
(1993) proved that the second player wins the 6 × 6 game, 20 to 16.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
from numba import njit

from sb3_lecture_envs.checks import whole

from .bits import popcount
from .env import BoardEnv, BoardVectorEnv, Opponent
from .game import HEADER, OVER, PLY, Game, Rules, grid_symmetries, register_rules

OWN, OTHER = HEADER, HEADER + 1


class OthelloLaw(NamedTuple):
    """The constants of Othello.

    :param size: rows and columns
    :param full: all cells, one bit each
    :param inner: the cells of all columns but the first and the last: a run of discs that crosses them never wraps around
    :param max_plies: every free cell, with a pass after each move
    """

    size: int
    full: int
    inner: int
    max_plies: int


@njit(cache=True)
def _enclosing(own, other, shift, steps):  # type: ignore[no-untyped-def]
    """Return the cells just beyond runs of the other's discs that start beside an own disc, both ways along a shift."""
    up, down = (own << shift) & other, (own >> shift) & other
    for _ in range(steps - 1):
        up |= (up << shift) & other
        down |= (down >> shift) & other
    return (up << shift) | (down >> shift)


@njit(cache=True)
def moves_of(law, own, other):  # type: ignore[no-untyped-def]
    """Return the cells where ``own`` may move, all three uint64 bitboards."""
    size, inner = np.uint64(law.size), other & np.uint64(law.inner)
    one, steps = np.uint64(1), law.size - 2
    cells = _enclosing(own, other, size, steps) | _enclosing(own, inner, one, steps)
    cells |= _enclosing(own, inner, size + one, steps) | _enclosing(own, inner, size - one, steps)
    return cells & np.uint64(law.full) & ~(own | other)


@njit(cache=True)
def _turned_along(disc, own, other, shift):  # type: ignore[no-untyped-def]
    """Return the discs that a new disc turns, both ways along a shift."""
    turned = np.uint64(0)
    run, cell = np.uint64(0), disc << shift
    while cell & other:
        run |= cell
        cell <<= shift
    if cell & own:
        turned |= run
    run, cell = np.uint64(0), disc >> shift
    while cell & other:
        run |= cell
        cell >>= shift
    if cell & own:
        turned |= run
    return turned


@njit(cache=True)
def turned_by(law, own, other, disc):  # type: ignore[no-untyped-def]
    """Return the discs of ``other`` that a new own disc turns, uint64 bitboards."""
    size, inner, one = np.uint64(law.size), other & np.uint64(law.inner), np.uint64(1)
    turned = _turned_along(disc, own, other, size) | _turned_along(disc, own, inner, one)
    return turned | _turned_along(disc, own, inner, size + one) | _turned_along(disc, own, inner, size - one)


@njit(cache=True)
def _initial(law, state):  # type: ignore[no-untyped-def]
    state[:] = 0
    low, high = law.size // 2 - 1, law.size // 2
    state[OWN] = (1 << (law.size * low + high)) | (1 << (law.size * high + low))  # black, who begins
    state[OTHER] = (1 << (law.size * low + low)) | (1 << (law.size * high + high))


@njit(cache=True)
def _legal(law, state, mask):  # type: ignore[no-untyped-def]
    cells = law.size * law.size
    if state[OVER]:
        mask[:] = False
        return 0
    moves = moves_of(law, np.uint64(state[OWN]), np.uint64(state[OTHER]))
    for cell in range(cells):
        mask[cell] = (moves >> np.uint64(cell)) & np.uint64(1)
    mask[cells] = moves == 0
    return max(np.int64(popcount(moves)), 1)


@njit(cache=True)
def _accepts(law, state, action):  # type: ignore[no-untyped-def]
    cells = law.size * law.size
    if state[OVER] or action < 0 or action > cells:
        return False
    moves = moves_of(law, np.uint64(state[OWN]), np.uint64(state[OTHER]))
    if action == cells:
        return moves == 0
    return (moves >> np.uint64(action)) & np.uint64(1) != 0


@njit(cache=True)
def _step(law, state, action):  # type: ignore[no-untyped-def]
    own, other = np.uint64(state[OWN]), np.uint64(state[OTHER])
    if action < law.size * law.size:
        disc = np.uint64(1) << np.uint64(action)
        turned = turned_by(law, own, other, disc)
        own |= disc | turned
        other ^= turned
    state[PLY] += 1
    state[OWN], state[OTHER] = np.int64(other), np.int64(own)  # the other side is to move
    if moves_of(law, other, own) == 0 and moves_of(law, own, other) == 0:
        state[OVER] = 1
        lead = np.int64(popcount(own)) - np.int64(popcount(other))
        return float(np.sign(lead)), True
    return 0.0, False


@njit(cache=True)
def _observe(law, state, out):  # type: ignore[no-untyped-def]
    own, other, one = np.uint64(state[OWN]), np.uint64(state[OTHER]), np.uint64(1)
    played = state[PLY] / law.max_plies
    for row in range(law.size):
        for column in range(law.size):
            cell = np.uint64(law.size * row + column)
            out[0, row, column] = (own >> cell) & one
            out[1, row, column] = (other >> cell) & one
            out[2, row, column] = played


@njit(cache=True)
def _state_of(law, observation, state):  # type: ignore[no-untyped-def]
    own, other = np.uint64(0), np.uint64(0)
    for row in range(law.size):
        for column in range(law.size):
            disc = np.uint64(1) << np.uint64(law.size * row + column)
            if observation[0, row, column] > 0.5:
                own |= disc
            if observation[1, row, column] > 0.5:
                other |= disc
    state[PLY] = int(np.rint(observation[2, 0, 0] * law.max_plies))
    state[OVER] = moves_of(law, own, other) == 0 and moves_of(law, other, own) == 0
    state[OWN], state[OTHER] = np.int64(own), np.int64(other)


register_rules(OthelloLaw, Rules(_initial, _legal, _accepts, _step, _observe, _state_of))


class Othello(Game):
    """The rules of Othello. Action ``size * row + column`` lays a disc, action ``size * size`` passes.

    Planes [3, size, size]: own discs, the other's discs, the share of ``max_plies`` played, everywhere.

    :param size: 8 (default) or 6
    :raises ValueError: for another size
    """

    def __init__(self, size: int = 8) -> None:
        size = whole("size", size, 6, 8)
        if size == 7:
            raise ValueError("size=7 is no Othello board; choose 8 or 6")
        cells = size * size
        full = (1 << cells) - 1
        inner = sum(1 << (size * row + column) for row in range(size) for column in range(1, size - 1))
        full, inner = (board - (1 << 64) if board >> 63 else board for board in (full, inner))  # as signed numbers
        self.max_plies = 2 * (cells - 4)
        self.law = OthelloLaw(size, full, inner, self.max_plies)
        self.n_actions = cells + 1
        self.state_size = 4
        self.observation_shape = (3, size, size)
        self.symmetries = grid_symmetries(size, size, n_extra=1)

    def board(self, state: np.ndarray) -> np.ndarray:
        """Return the discs, int8 [size, size]: +1 the first player's (black), −1 the second's."""
        size = self.law.size
        own, other = (
            np.asarray(state[[OWN, OTHER]], np.int64).view(np.uint64)[:, None] >> np.arange(size * size, dtype=np.uint64)
        ) & np.uint64(1)
        board = own.astype(np.int8) - other.astype(np.int8)
        return (board * (1 if state[PLY] % 2 == 0 else -1)).astype(np.int8).reshape(size, size)

    def action_to_text(self, action: int) -> str:
        """Name a cell, column a–h then row 1–8 from the top, or ``pass``."""
        size = self.law.size
        return "pass" if action == size * size else f"{'abcdefgh'[action % size]}{action // size + 1}"

    def text_to_action(self, text: str) -> int:
        """Read a cell such as ``d3``, or ``pass``."""
        names = {self.action_to_text(action): action for action in range(self.n_actions)}
        if text.strip().lower() not in names:
            raise ValueError(f"{text!r} is no move. Write a column and a row, such as d3, or pass.")
        return names[text.strip().lower()]

    def render_text(self, state: np.ndarray) -> str:
        """Draw the board between its column letters and row numbers."""
        size = self.law.size
        lines = super().render_text(state).split("\n")
        return "\n".join(["  " + " ".join("abcdefgh"[:size]), *(f"{row + 1} {line}" for row, line in enumerate(lines))])


class OthelloEnv(BoardEnv):
    """Othello as an env.

    ## Description
    Two players lay discs that enclose and turn the other's; who has more discs in the end wins.

    ## Action Space
    `Discrete(size * size + 1)`: `size * row + column`, and the last passes: legal only without another move.
    `info["action_mask"]` and `action_masks()` show the legal moves.

    ## Observation Space
    `Box(0, 1, (3, size, size), float32)`: discs of the side to move, discs of the other, the share of the longest game
    played, everywhere.

    ## Rewards
    +1 for a move that ends the game won, −1 lost, −1 for an illegal one with `illegal="lose"`, otherwise 0. Without an
    opponent the reward is the mover's; with one it is the agent's, −1 where the opponent's answer wins.

    ## Starting State
    Two discs of each colour in the centre; black begins.

    ## Episode End
    Terminated when neither side can move, or by an illegal move with `illegal="lose"`.

    ## Arguments
    - `size`: 8 (default) or 6.
    - `opponent`: None (two players alternate, the default), "random", or a callable (observation, mask) -> action.
    - `side`: against an opponent "random" (drawn at reset, the default), "first" or "second".
    - `illegal`: "lose" (default) or "error".
    - `render_mode`: None, "ansi", "rgb_array" or "human".

    ## Version History
    - v0: first version.

    :raises ValueError: if an argument is not one of those
    """

    def __init__(
        self,
        size: int = 8,
        opponent: str | Opponent | None = None,
        side: str = "random",
        illegal: str = "lose",
        render_mode: str | None = None,
    ) -> None:
        super().__init__(Othello(size), opponent, side, illegal, render_mode)


make_vector = partial(BoardVectorEnv.from_game, Othello)
