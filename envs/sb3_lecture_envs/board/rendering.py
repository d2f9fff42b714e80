"""Pictures of boards, drawn with numpy."""

from functools import cache

import numpy as np

from .game import Game

CELL = 56  # pixels
# background, lines, first player's stones, second player's stones
COLOURS = {
    "TicTacToe": ((250, 250, 250), (60, 60, 60), (200, 60, 50), (50, 90, 190)),
    "ConnectFour": ((40, 90, 190), (40, 90, 190), (225, 60, 50), (250, 210, 60)),
    "Othello": ((40, 130, 80), (20, 80, 50), (25, 25, 25), (245, 245, 245)),
    "Go": ((222, 184, 120), (90, 65, 30), (25, 25, 25), (245, 245, 245)),
    "Nim": ((250, 250, 250), (250, 250, 250), (150, 110, 70), (150, 110, 70)),
}


@cache
def _cover(mark: str, radius: float) -> np.ndarray:
    """How much of every pixel of a cell a mark covers, float64 [CELL, CELL, 1]: a disc or two diagonal strokes."""
    y, x = np.mgrid[:CELL, :CELL] - 0.5 * CELL
    if mark == "disc":
        cover = np.clip(radius * CELL - np.hypot(y, x) + 0.5, 0, 1)
    else:
        off = np.minimum(np.abs(y - x), np.abs(y + x)) / 2**0.5  # distance from the nearer diagonal
        inside = np.maximum(np.abs(y), np.abs(x)) - radius * CELL * 0.75
        cover = np.clip(0.5 - np.maximum(off - 0.07 * CELL, inside), 0, 1)
    return cover[..., None]


def _paint(image: np.ndarray, mark: str, row: int, column: int, radius: float, colour: tuple[int, ...]) -> None:
    """Paint a mark with soft edges into a cell, in place; the radius is in cells, at most 0.5."""
    cell = image[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL]
    cover = _cover(mark, radius)
    cell[:] = cell * (1 - cover) + np.array(colour) * cover


def _star_points(size: int) -> list[int]:
    """Return the rows and columns of a Go board's star points."""
    edge = 2 if size < 12 else 3
    return [size // 2] if size < 7 else [edge, size - 1 - edge] if size % 2 == 0 else [edge, size // 2, size - 1 - edge]


def _grid(image: np.ndarray, height: int, width: int, colour: tuple[int, ...], on_crossings: bool) -> None:
    """Draw the lines around the cells, or (Go) through their middles, with star points, in place."""
    half = CELL // 2 if on_crossings else 0
    for i in range(height + (half == 0)):
        image[min(i * CELL + half, height * CELL - 1), half : width * CELL - half] = colour
    for j in range(width + (half == 0)):
        image[half : height * CELL - half, min(j * CELL + half, width * CELL - 1)] = colour
    stars = _star_points(height) if on_crossings else []
    for row in stars:
        for column in stars:
            _paint(image, "disc", row, column, 0.07, colour)


@cache
def _empty_board(kind: str, height: int, width: int) -> np.ndarray:
    """The board without stones, uint8 [height * CELL, width * CELL, 3]; not to be painted on."""
    paper, lines, *_ = COLOURS.get(kind, COLOURS["TicTacToe"])
    image = np.empty((height * CELL, width * CELL, 3), np.uint8)
    image[:] = paper
    _grid(image, height, width, lines, on_crossings=kind == "Go")
    if kind == "ConnectFour":
        for row, column in np.ndindex(height, width):
            _paint(image, "disc", row, column, 0.42, (235, 240, 250))
    return image


@cache
def _stone(kind: str, height: int, width: int, row: int, column: int, mine: bool) -> np.ndarray:
    """A cell of the board with a stone of the first player (``mine``) or the second, uint8 [CELL, CELL, 3]."""
    paper, _, first, second = COLOURS.get(kind, COLOURS["TicTacToe"])
    cell = _empty_board(kind, height, width)[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL].copy()
    if kind == "TicTacToe" and mine:
        _paint(cell, "cross", 0, 0, 0.36, first)
    elif kind == "TicTacToe":
        _paint(cell, "disc", 0, 0, 0.36, second)
        _paint(cell, "disc", 0, 0, 0.26, paper)  # a ring
    else:
        _paint(cell, "disc", 0, 0, 0.42, first if mine else second)
    return cell


def draw(game: Game, state: np.ndarray, last_action: int | None = None) -> np.ndarray:
    """Draw a state.

    :param game: the rules
    :param state: int [state_size]
    :param last_action: marked where it names a cell of the board
    :return: uint8 [height, width, 3]
    """
    kind = type(game).__name__
    board = game.board(state)
    if kind == "Nim":  # a column of stones for every heap
        board = (np.arange(max(game.observation_shape[2], 1))[::-1, None] < board).astype(np.int8)
    height, width = board.shape
    image = _empty_board(kind, height, width).copy()
    for row, column in np.argwhere(board != 0).tolist():
        stone = _stone(kind, height, width, row, column, bool(board[row, column] > 0))
        image[row * CELL : (row + 1) * CELL, column * CELL : (column + 1) * CELL] = stone
    if last_action is not None and kind != "Nim":
        row, column = divmod(last_action, width)
        if kind == "ConnectFour":
            row, column = int(np.argmax(board[:, last_action] != 0)), last_action
        if row < height:
            _paint(image, "disc", row, column, 0.1, (90, 200, 90))
    return image
