"""Pictures of boards: drawn with numpy, shown with pygame."""

from typing import Any

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


def _disc(image: np.ndarray, row: float, column: float, radius: float, colour: tuple[int, ...]) -> None:
    """Paint a disc with a soft edge, in place; centre and radius in cells."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    distance = np.hypot(y - (row + 0.5) * CELL, x - (column + 0.5) * CELL)
    cover = np.clip(radius * CELL - distance + 0.5, 0, 1)[..., None]
    image[:] = image * (1 - cover) + np.array(colour) * cover


def _cross(image: np.ndarray, row: float, column: float, radius: float, colour: tuple[int, ...]) -> None:
    """Paint two diagonal strokes, in place; centre and radius in cells."""
    y, x = np.mgrid[: image.shape[0], : image.shape[1]]
    y, x = y - (row + 0.5) * CELL, x - (column + 0.5) * CELL
    off = np.minimum(np.abs(y - x), np.abs(y + x)) / 2**0.5  # distance from the nearer diagonal
    inside = np.maximum(np.abs(y), np.abs(x)) - radius * CELL * 0.75
    cover = np.clip(0.5 - np.maximum(off - 0.07 * CELL, inside), 0, 1)[..., None]
    image[:] = image * (1 - cover) + np.array(colour) * cover


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
            _disc(image, row, column, 0.07, colour)


def draw(game: Game, state: np.ndarray, last_action: int | None = None) -> np.ndarray:
    """Draw a state.

    :param game: the rules
    :param state: int [state_size]
    :param last_action: marked where it names a cell of the board
    :return: uint8 [height, width, 3]
    """
    kind = type(game).__name__
    paper, lines, first, second = COLOURS.get(kind, COLOURS["TicTacToe"])
    board = game.board(state)
    if kind == "Nim":  # a column of stones for every heap
        board = (np.arange(max(game.observation_shape[2], 1))[::-1, None] < board).astype(np.int8)
    height, width = board.shape
    image = np.empty((height * CELL, width * CELL, 3))
    image[:] = paper
    _grid(image, height, width, lines, on_crossings=kind == "Go")
    for row in range(height):
        for column in range(width):
            if kind == "TicTacToe" and board[row, column] > 0:
                _cross(image, row, column, 0.36, first)
            elif kind == "TicTacToe" and board[row, column]:
                _disc(image, row, column, 0.36, second)
                _disc(image, row, column, 0.26, paper)  # a ring
            elif board[row, column]:
                _disc(image, row, column, 0.42, first if board[row, column] > 0 else second)
            elif kind == "ConnectFour":
                _disc(image, row, column, 0.42, (235, 240, 250))
    if last_action is not None and kind != "Nim":
        row, column = divmod(last_action, width)
        if kind == "ConnectFour":
            row, column = int(np.argmax(board[:, last_action] != 0)), last_action
        if row < height:
            _disc(image, row, column, 0.1, (90, 200, 90))
    return image.astype(np.uint8)


class Window:
    """A pygame window for pictures.

    :param title: its title
    :param fps: pictures a second
    """

    def __init__(self, title: str, fps: int) -> None:
        self.title, self.fps = title, fps
        self._screen: Any = None

    def show(self, image: np.ndarray) -> None:
        """Show a picture uint8 [height, width, 3] and wait for its turn."""
        import pygame

        if self._screen is None:
            pygame.display.init()
            pygame.display.set_caption(self.title)
            self._screen = pygame.display.set_mode((image.shape[1], image.shape[0]))
            self._clock = pygame.time.Clock()
        pygame.event.pump()
        self._screen.blit(pygame.surfarray.make_surface(image.swapaxes(0, 1)), (0, 0))
        pygame.display.flip()
        self._clock.tick(self.fps)

    def close(self) -> None:
        """Close the window."""
        if self._screen is not None:
            import pygame

            pygame.display.quit()
            self._screen = None
