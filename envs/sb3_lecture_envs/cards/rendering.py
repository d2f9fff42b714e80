"""Pictures of card tables, drawn with numpy."""

import numpy as np

from .game import HiddenGame

CARD_SIZE, GAP, CHIP = (72, 52), 12, 14  # pixels: height and width of a card, space, height of a chip
FELT, PAPER, INK, BACK, CHIPS = (35, 105, 70), (250, 248, 240), (40, 40, 40), (150, 60, 60), (230, 190, 70)
#: letters as rows of five bits
FONT = {
    "J": (1, 1, 1, 1, 17, 17, 14), "Q": (14, 17, 17, 17, 21, 18, 13), "K": (17, 18, 20, 24, 20, 18, 17),
    "T": (31, 4, 4, 4, 4, 4, 4), "A": (14, 17, 17, 31, 17, 17, 17), "R": (30, 17, 17, 30, 20, 18, 17),
    "P": (30, 17, 17, 30, 16, 16, 16), "S": (15, 16, 16, 14, 1, 1, 30), "0": (14, 17, 19, 21, 25, 17, 14),
    "1": (4, 12, 4, 4, 4, 4, 14), "2": (14, 17, 1, 2, 4, 8, 31), "3": (31, 2, 4, 2, 1, 17, 14),
    "4": (2, 6, 10, 18, 31, 2, 2), "5": (31, 16, 30, 1, 1, 17, 14), "6": (6, 8, 16, 30, 17, 17, 14),
    "7": (31, 1, 2, 4, 8, 8, 8), "8": (14, 17, 17, 14, 17, 17, 14), "9": (14, 17, 17, 15, 1, 2, 12),
}  # fmt: skip


def _letter(text: str, scale: int) -> np.ndarray:
    """Return a text's dots, bool [7 * scale, width]."""
    letters = [(np.array(FONT[c])[:, None] >> np.arange(4, -1, -1)) & 1 for c in text]
    dots = np.concatenate([np.pad(letter, ((0, 0), (0, 1))) for letter in letters], axis=1)[:, :-1]
    return np.kron(dots, np.ones((scale, scale), np.int64)).astype(np.bool_)


def _card(text: str) -> np.ndarray:
    """Return a card, uint8 [*CARD_SIZE, 3]; "?" lies face down."""
    image = np.empty((*CARD_SIZE, 3), np.uint8)
    image[:] = INK
    image[2:-2, 2:-2] = PAPER
    if text == "?":
        image[5:-5, 5:-5] = BACK
        return image
    dots = _letter(text, 5 if len(text) == 1 else max(1, 10 // len(text) - 1))
    top, left = (CARD_SIZE[0] - dots.shape[0]) // 2, max(2, (CARD_SIZE[1] - dots.shape[1]) // 2)
    dots = dots[:, : CARD_SIZE[1] - left - 2]
    image[top : top + dots.shape[0], left : left + dots.shape[1]][dots] = INK
    return image


def draw(game: HiddenGame, state: np.ndarray, viewer: int | None = None) -> np.ndarray:
    """Draw the table: the second player's cards above, the first's below, open cards between, chips on the right.

    :param game: the rules
    :param state: int [state_size]
    :param viewer: the player who looks; None sees all
    :return: uint8 [height, width, 3]
    """
    table = game.table(state, viewer)
    height, width = CARD_SIZE
    image = np.empty((3 * height + 4 * GAP, 4 * width + 7 * GAP, 3), np.uint8)
    image[:] = FELT
    for row, cards in ((0, table.hands[1]), (1, table.public), (2, table.hands[0])):
        top = GAP + row * (height + GAP)
        for i, card in enumerate(cards):
            left = GAP + i * (width + GAP)
            image[top : top + height, left : left + width] = _card(card)
    for row, chips in ((0, table.chips[1]), (2, table.chips[0])):
        top = GAP + row * (height + GAP)
        for i in range(chips):  # columns of four
            left, up = 2 * (width + GAP) + GAP + (i // 4) * 3 * GAP, top + height - CHIP * (i % 4 + 1)
            image[up : up + CHIP - 3, left : left + 2 * GAP] = CHIPS
    return image
