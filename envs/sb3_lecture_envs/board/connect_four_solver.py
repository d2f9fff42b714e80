"""An exact Connect Four player: alpha-beta over bitboards with a transposition table.

The *score* of a position is what Allis (1988, "A Knowledge-based Approach of Connect-Four") proves for the empty board,
with the distance in it: 0 for a draw, otherwise ± (22 − the number of stones the winner has played when the game ends), so
that its sign is the win/draw/loss value for the side to move and a larger score is an earlier win or a later loss.

Three ideas make the search fast. Moves that let the other side win at once are never looked at. Moves are ordered by the
number of winning cells they leave (Knuth and Moore 1975: the saving of alpha-beta lives from the order), then from the
centre out. A table of bounds, indexed by position, spans moves that transpose. Signs are decided with the window (−1, 1),
scores by bisection with windows of width one.
"""

from typing import Any

import numpy as np
from numba import njit

from .bits import popcount
from .connect_four_board import BOTTOM, CELLS, COLUMN_BITS, HEIGHT, OTHER, OWN, WIDTH, has_four
from .connect_four_positions import load_book
from .game import OVER, PLY
from .players import ILLEGAL

COLUMN = (1 << HEIGHT) - 1
FULL = BOTTOM * COLUMN
WEIGHT_SHIFT = COLUMN_BITS * WIDTH  # above the bits of a move
MIN_SCORE = -(CELLS // 2) + 3  # the other side's fourth stone wins
MAX_SCORE = (CELLS + 1) // 2 - 3  # the fourth own stone wins
N_SCORES = MAX_SCORE - MIN_SCORE + 1
TABLE_BITS = 23  # a table of 2^23 positions, 64 MiB
DEEP = 30  # from this ply on a look into the table costs more than it saves
CENTRE_OUT = (3, 2, 4, 1, 5, 0, 6)
SOON = 8  # stones from which on the values of all moves take seconds


@njit(cache=True)
def winning_cells(stones: int, occupied: int) -> int:
    """Return the empty cells that would complete four for ``stones``."""
    cells = (stones << 1) & (stones << 2) & (stones << 3)  # upright: only on top of three
    for shift in (COLUMN_BITS, COLUMN_BITS - 1, COLUMN_BITS + 1):
        pair = (stones << shift) & (stones << (2 * shift))
        cells |= pair & (stones << (3 * shift))  # xxx_
        cells |= pair & (stones >> shift)  # xx_x
        pair = (stones >> shift) & (stones >> (2 * shift))
        cells |= pair & (stones << shift)  # x_xx
        cells |= pair & (stones >> (3 * shift))  # _xxx
    return cells & (FULL ^ occupied)


@njit(cache=True)
def _mirror(stones: int) -> int:
    turned = 0
    for column in range(WIDTH):
        turned |= ((stones >> (COLUMN_BITS * column)) & ((1 << COLUMN_BITS) - 1)) << (COLUMN_BITS * (WIDTH - 1 - column))
    return turned


@njit(cache=True)
def position_key(own: int, occupied: int, ply: int) -> int:
    """Return a number unique to a position, and to it and its mirror image early in the game, where that pays."""
    key = own + occupied  # the sum marks the height of every column: no two positions share it
    if ply < 13:
        key = min(key, _mirror(own) + _mirror(occupied))
    return key


@njit(cache=True)
def _order_moves(own: int, occupied: int, possible: int, moves: np.ndarray) -> int:
    """Sort the possible moves, the one that leaves most winning cells last; of equals the one nearer the centre last."""
    n = 0
    for i in range(WIDTH - 1, -1, -1):
        move = possible & (COLUMN << (COLUMN_BITS * CENTRE_OUT[i]))
        if move:
            weight = popcount(winning_cells(own | move, occupied | move))
            j = n
            while j > 0 and moves[j - 1] >> WEIGHT_SHIFT > weight:
                moves[j] = moves[j - 1]
                j -= 1
            moves[j] = (weight << WEIGHT_SHIFT) | move
            n += 1
    return n


@njit(cache=True)
def _slot(key: int, table: np.ndarray) -> int:
    """Return a key's place in the table, by a multiplicative hash (Knuth's golden ratio, 64 bits)."""
    return int(np.uint64(key) * np.uint64(0x9E3779B97F4A7C15) >> np.uint64(32)) & (len(table) - 1)


@njit(cache=True)
def _window(own: int, other: int, ply: int, key: int, entry: int, alpha: int, beta: int) -> tuple[int, int]:
    """Narrow (alpha, beta) by what is known of a position without looking at its moves."""
    low = -((CELLS - 2 - ply) // 2)  # the other side does not win with its next stone
    high = (CELLS - 1 - ply) // 2  # nor this side with its own next
    if not has_four(FULL & ~other):
        high = min(high, 0)  # all free cells would not give this side four
    if not has_four(FULL & ~own):
        low = max(low, 0)
    if entry >> 8 == key:
        code = entry & 0xFF
        if code > N_SCORES:
            low = max(low, code - N_SCORES - 1 + MIN_SCORE)
        else:
            high = min(high, code - 1 + MIN_SCORE)
    return max(alpha, low), min(beta, high)


@njit(cache=True)
def _known_cutoff(other: int, occupied: int, ply: int, beta: int, moves: np.ndarray, table: np.ndarray) -> int:
    """Return a lower bound of at least beta that the table already holds by way of a successor, or MIN_SCORE − 1."""
    for i in range(len(moves) - 1, -1, -1):
        key = position_key(other, occupied | (moves[i] & FULL), ply + 1)
        entry = table[_slot(key, table)]
        if entry >> 8 == key and entry & 0xFF <= N_SCORES:
            bound = -((entry & 0xFF) - 1 + MIN_SCORE)
            if bound >= beta:
                return bound
    return MIN_SCORE - 1


# one signature, fixed: numba 0.68 loads a recursion through several from its cache as a call to nowhere
@njit("int64(int64, int64, int64, int64, int64, int64[::1], int64[:, ::1])", cache=True)
def _negamax(own: int, occupied: int, ply: int, alpha: int, beta: int, table: np.ndarray, scratch: np.ndarray) -> int:
    """Return a bound of the score that is exact inside (alpha, beta); the side to move has no win at once."""
    other = own ^ occupied
    possible = (occupied + BOTTOM) & FULL  # the first empty cell of every column
    threats = winning_cells(other, occupied)
    forced = possible & threats
    if forced:
        if forced & (forced - 1):
            return -((CELLS - ply) // 2)  # two wins at once cannot be stopped
        possible = forced
    possible &= ~(threats >> 1)  # nor may a stone be laid under a winning cell of the other side
    if possible == 0:
        return -((CELLS - ply) // 2)
    if ply >= CELLS - 2:
        return 0
    key = position_key(own, occupied, ply)
    slot = _slot(key, table)
    alpha, beta = _window(own, other, ply, key, table[slot], alpha, beta)
    if alpha >= beta:
        return alpha
    moves = scratch[ply]
    n = _order_moves(own, occupied, possible, moves)
    if ply < DEEP:
        bound = _known_cutoff(other, occupied, ply, beta, moves[:n], table)
        if bound >= beta:
            return bound
    for i in range(n - 1, -1, -1):
        move = moves[i] & FULL
        score = -_negamax(other, occupied | move, ply + 1, -beta, -alpha, table, scratch)
        if score >= beta:
            table[slot] = (key << 8) | (score - MIN_SCORE + N_SCORES + 1)  # a lower bound
            return score
        alpha = max(alpha, score)
    table[slot] = (key << 8) | (alpha - MIN_SCORE + 1)  # an upper bound
    return alpha


@njit(cache=True)
def _score(own: int, occupied: int, ply: int, sign_only: bool, table: np.ndarray, scratch: np.ndarray) -> int:
    """Return the score (or its sign) of an unfinished position."""
    if ply == CELLS:
        return 0
    if winning_cells(own, occupied) & (occupied + BOTTOM):
        return 1 if sign_only else (CELLS + 1 - ply) // 2
    low, high = -((CELLS - ply) // 2), (CELLS + 1 - ply) // 2
    if sign_only:
        low, high = -1, 1
        return min(max(_negamax(own, occupied, ply, low, high, table, scratch), low), high)
    while low < high:  # bisection by null windows, first around zero, where most of the information lies
        middle = low + (high - low) // 2
        if middle <= 0 and low // 2 < middle:
            middle = low // 2
        elif middle >= 0 and high // 2 > middle:
            middle = high // 2
        score = _negamax(own, occupied, ply, middle, middle + 1, table, scratch)
        if score <= middle:
            high = score
        else:
            low = score
    return low


@njit(cache=True)
def _move_scores(states: np.ndarray, sign_only: bool, table: np.ndarray, scratch: np.ndarray, scores: np.ndarray) -> None:
    """Write the score of every move: states [n, 4] -> scores int16 [n, 7]."""
    for i in range(len(states)):
        own, occupied, ply = states[i, OWN], states[i, OWN] | states[i, OTHER], states[i, PLY]
        for column in range(WIDTH):
            move = (occupied + BOTTOM) & FULL & (COLUMN << (COLUMN_BITS * column))
            if states[i, OVER] or move == 0:
                scores[i, column] = ILLEGAL
            elif winning_cells(own, occupied) & move:
                scores[i, column] = 1 if sign_only else (CELLS + 1 - ply) // 2
            else:
                scores[i, column] = -_score(own ^ occupied, occupied | move, ply + 1, sign_only, table, scratch)


class ConnectFourSolver:
    """Exact values of every Connect Four position: a grader in the sense of ``players``.

    Positions with twelve or more stones take 0.15 s or less in the mean; each stone less doubles the time (two seconds with
    eight, half a minute with four, a quarter of an hour on the empty board), so the committed book is asked first. The table
    of bounds (8 bytes an entry) lives as long as the object and is not pickled.

    :param table_bits: the table holds 2^bits positions (default 23: 64 MiB), allocated at the first search
    :param book: whether to look positions up in the committed book first (default True)
    """

    def __init__(self, table_bits: int = TABLE_BITS, book: bool = True) -> None:
        if not 16 <= table_bits <= 32:
            raise ValueError(f"table_bits={table_bits} is out of range. Choose 16 (512 KiB) to 32 (32 GiB).")
        self.table_bits, self.book = table_bits, book
        self._table: np.ndarray | None = None
        self._scratch = np.zeros((CELLS + 1, WIDTH), np.int64)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_table": None}

    def _search(self, states: np.ndarray, sign_only: bool) -> np.ndarray:
        if self._table is None:
            self._table = np.zeros(1 << self.table_bits, np.int64)
        scores = np.zeros((len(states), WIDTH), np.int16)
        _move_scores(np.ascontiguousarray(states, np.int64), sign_only, self._table, self._scratch, scores)
        return scores

    def _look_up(self, states: np.ndarray, which: str) -> np.ndarray:
        out = np.empty((len(states), WIDTH), np.int16)
        book = load_book() if self.book else {}
        for i, state in enumerate(states):
            known = book.get((int(state[OWN]), int(state[OTHER])), {})
            out[i] = known[which] if which in known else self._search(states[i : i + 1], which == "values")[0]
        return out

    def knows_soon(self, states: np.ndarray) -> np.ndarray:
        """Return where ``move_values`` answers at once or within seconds, bool [n]: from eight stones on, and in the book.

        :param states: int64 [n, 4] of ConnectFour
        """
        book = load_book() if self.book else {}
        return np.array([state[PLY] >= SOON or (int(state[OWN]), int(state[OTHER])) in book for state in states], np.bool_)

    def move_scores(self, states: np.ndarray) -> np.ndarray:
        """Return the score of every move, int16 [n, 7], ILLEGAL where none.

        :param states: int64 [n, 4] of ConnectFour
        """
        return self._look_up(states, "scores")

    def move_values(self, states: np.ndarray) -> np.ndarray:
        """Return the value of every move, int16 [n, 7]: 1 win, 0 draw, −1 loss, ILLEGAL where none. Faster than the scores.

        :param states: int64 [n, 4] of ConnectFour
        """
        return self._look_up(states, "values")
