"""The board of Connect Four as bits: what the rules, the solver and the book of positions have in common.

Seven bits a column, the seventh an empty roof so that lines do not wrap: row r (from the bottom) of column c is bit
``7 * c + r``.
"""

from numba import njit

from .game import HEADER

OWN, OTHER = HEADER, HEADER + 1
WIDTH, HEIGHT = 7, 6
COLUMN_BITS = HEIGHT + 1
CELLS = WIDTH * HEIGHT
BOTTOM = sum(1 << (COLUMN_BITS * column) for column in range(WIDTH))
TOP = BOTTOM << (HEIGHT - 1)  # the highest cell of every column


@njit(cache=True)
def has_four(stones: int) -> bool:
    """Say whether a bitboard holds four in a row."""
    for shift in (1, COLUMN_BITS, COLUMN_BITS - 1, COLUMN_BITS + 1):  # up, right, right-down, right-up
        pairs = stones & (stones >> shift)
        if pairs & (pairs >> (2 * shift)):
            return True
    return False
