"""The committed Connect Four positions, and what is known of their moves; ``connect_four_book`` makes the file."""

from functools import lru_cache
from pathlib import Path

import numpy as np

from .connect_four_board import OTHER, OWN, WIDTH
from .players import UNKNOWN

BOOK = Path(__file__).parent / "connect_four_positions.npz"


def mirrored_stones(stones: int) -> int:
    """Return the mirror image of a bitboard."""
    columns = [(stones >> (7 * column)) & 127 for column in range(WIDTH)]
    return sum(column << (7 * (WIDTH - 1 - i)) for i, column in enumerate(columns))


def load_positions(path: Path = BOOK) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the committed positions.

    :param path: of the file (default: the committed one)
    :return: states int64 [1000, 4]; the value of every move, int16 [1000, 7] (1, 0, −1, ILLEGAL); its score, int16 [1000, 7]
        (UNKNOWN in the whole row where it was not computed)
    """
    with np.load(path) as data:
        return data["states"].astype(np.int64), data["values"].astype(np.int16), data["scores"].astype(np.int16)


@lru_cache(maxsize=1)
def load_book() -> dict[tuple[int, int], dict[str, np.ndarray]]:
    """Return (own stones, other's stones) -> values, and where known scores, of the moves; mirror images included."""
    book: dict[tuple[int, int], dict[str, np.ndarray]] = {}
    for state, values, scores in zip(*load_positions(), strict=True):
        known = {"values": values} if scores.max() == UNKNOWN else {"values": values, "scores": scores}
        own, other = int(state[OWN]), int(state[OTHER])
        book[own, other] = known
        book.setdefault((mirrored_stones(own), mirrored_stones(other)), {name: row[::-1] for name, row in known.items()})
    return book
