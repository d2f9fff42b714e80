"""How the small pixel worlds look: boards of a few cells, as bits, as a 64×64 picture, as text, and in a window."""

from typing import Any

import numba
import numpy as np
from gymnasium import spaces

from sb3_lecture_envs.observations import RGB_SIZE
from sb3_lecture_envs.rendering import MAX_CELL, PICTURE_SIZE

PIXEL_MODES = ("channels", "rgb")
#: what an empty cell looks like
EMPTY_COLOUR, EMPTY_SIGN = (12, 14, 22), "."


@numba.njit(cache=True)
def _paint(planes: np.ndarray, colours: np.ndarray, scale: int, picture: np.ndarray) -> None:
    """Paint bits [n, C, H, W] on pictures [n, h, w, 3] of empty boards, centred, ``scale`` pixels a cell.

    A cell gets the colour of its first channel that is on.
    """
    n, n_channels, height, width = planes.shape
    top, left = (picture.shape[1] - height * scale) // 2, (picture.shape[2] - width * scale) // 2
    for i in range(n):
        for row in range(height):
            for column in range(width):
                k = 0
                while k < n_channels and planes[i, k, row, column] == 0:
                    k += 1
                if k == n_channels:
                    continue
                red, green, blue = colours[k]
                for y in range(top + row * scale, top + (row + 1) * scale):
                    for x in range(left + column * scale, left + (column + 1) * scale):
                        picture[i, y, x, 0], picture[i, y, x, 1], picture[i, y, x, 2] = red, green, blue


class Screen:
    """What a board of H × W cells with C channels shows.

    - ``"channels"``: bits, int8 [C, H, W] in ``MultiBinary``. SB3 hands them to a network as the numbers 0 and 1; as a Box
      it would take them for an image, whose values it divides by 255. ``CnnPolicy`` refuses boards as small as these,
      ``MlpPolicy`` flattens them.
    - ``"rgb"``: a picture, uint8 [64, 64, 3] (one pixel a cell where a side of the board is longer)

    :param channels: sign (one character) and colour of each channel; a cell shows the first one that is on
    :param height: rows H
    :param width: columns W
    :param mode: "channels" or "rgb"
    """

    def __init__(self, channels: dict[str, tuple[int, int, int]], height: int, width: int, mode: str) -> None:
        self.signs = [*channels, EMPTY_SIGN]
        self.colours = np.array([*channels.values()], dtype=np.uint8)  # [C, 3]
        self.height, self.width, self.mode = height, width, mode
        self._scale = max(1, RGB_SIZE // max(height, width))
        self._empty = self._blank(max(RGB_SIZE, height), max(RGB_SIZE, width), self._scale)  # [64, 64, 3]
        self.space: spaces.Space[Any]
        if mode == "rgb":
            self.space = spaces.Box(0, 255, self._empty.shape, np.uint8)
        else:
            self.space = spaces.MultiBinary([len(channels), height, width])

    def _blank(self, h: int, w: int, scale: int) -> np.ndarray:
        """The empty board in the middle of a black picture, uint8 [h, w, 3]."""
        out = np.zeros((h, w, 3), dtype=np.uint8)
        top, left = (h - self.height * scale) // 2, (w - self.width * scale) // 2
        out[top : top + self.height * scale, left : left + self.width * scale] = EMPTY_COLOUR
        return out

    def observations(self, planes: np.ndarray) -> np.ndarray:
        """Observations in the screen's mode, [n, …], of bits int8 [n, C, H, W]."""
        if self.mode != "rgb":
            return planes
        pictures = np.repeat(self._empty[None], len(planes), axis=0)
        _paint(planes, self.colours, self._scale, pictures)
        return pictures

    def picture(self, planes: np.ndarray) -> np.ndarray:
        """A large picture, uint8 [h, w, 3], of bits [C, H, W]."""
        scale = int(np.clip(PICTURE_SIZE // max(self.height, self.width), 1, MAX_CELL))
        out = self._blank(self.height * scale, self.width * scale, scale)
        _paint(planes[None], self.colours, scale, out[None])
        return out

    def text(self, planes: np.ndarray, last_action: str | None) -> str:
        """One line a row of bits [C, H, W], and below them the last action's sign."""
        first = np.argmax(np.concatenate([planes, np.ones_like(planes[:1])]), axis=0)  # [H, W], the first channel that is on
        rows = "\n".join(" ".join(self.signs[k] for k in row) for row in first)
        return f"{rows}\n" if last_action is None else f"{rows}\n({last_action})\n"
