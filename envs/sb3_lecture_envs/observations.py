"""How a state looks to an agent: the observation modes that all tabular worlds share."""

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sb3_lecture_envs.grid import CLIFF, END, GOAL, PIT, WALL, GridLayout

#: side of an "rgb" observation, pixels; larger maps get one pixel a cell
RGB_SIZE = 64
#: colours of "rgb" observations, uint8 RGB
RGB = {WALL: (52, 58, 70), GOAL: (64, 170, 88), PIT: (196, 62, 62), END: (150, 156, 168), CLIFF: (128, 46, 46)}
RGB_FREE, RGB_REWARD, RGB_AGENT, RGB_MARGIN = (236, 238, 242), (236, 190, 80), (38, 98, 214), (0, 0, 0)

GRID_MODES = ("coords", "grid", "rgb")


class Observer:
    """From state numbers to observations, for one world in one mode.

    - ``"index"``: the state's number, ``Discrete(S)``
    - ``"one-hot"``: float32 [S]
    - ``"coords"``: row and column, each scaled to [0, 1], float32 [2]
    - ``"grid"``: bits [4, height, width]: the agent, walls, cells that end the episode well (goals and plain ends), cells
      that end it badly or cost (pits, cliffs)
    - ``"rgb"``: a picture, uint8 [64, 64, 3] (one pixel a cell where a side of the map is longer)

    :param n_states: number of states S
    :param layout: where the states lie; None allows "index" and "one-hot"
    :param mode: one of the above
    :raises ValueError: if the mode is unknown or needs a layout
    """

    def __init__(self, n_states: int, layout: GridLayout | None, mode: str) -> None:
        allowed = ("index", "one-hot", *(GRID_MODES if layout is not None else ()))
        if mode not in allowed:
            reason = " (this world is no grid)" if mode in GRID_MODES else ""
            raise ValueError(f"obs={mode!r} is not possible here{reason}; allowed: {list(allowed)}")
        self.mode, self.n_states, self.layout = mode, n_states, layout
        self.space: gym.Space[Any]
        if mode == "index":
            self.space = spaces.Discrete(n_states)
        elif mode == "one-hot":
            self.space = spaces.Box(0.0, 1.0, (n_states,), np.float32)
        elif layout is not None:
            self._set_grid(layout)

    def _set_grid(self, layout: GridLayout) -> None:
        rows, columns = layout.cells.T
        if self.mode == "coords":
            self.space = spaces.Box(0.0, 1.0, (2,), np.float32)
            span = np.maximum([layout.height - 1, layout.width - 1], 1)
            self._coords = (layout.cells / span).astype(np.float32)  # [S, 2]
        elif self.mode == "grid":
            self.space = spaces.MultiBinary([4, layout.height, layout.width])
            symbols = layout.symbols
            fixed = [symbols == WALL, np.isin(symbols, (GOAL, END)), np.isin(symbols, (PIT, CLIFF))]
            self._planes = np.stack([np.zeros_like(fixed[0]), *fixed]).astype(np.int8)  # [4, height, width]
        else:
            self._picture, self._scale, (top, left) = _picture(layout)  # [H, W, 3], pixels a cell
            self.space = spaces.Box(0, 255, self._picture.shape, np.uint8)
            self._corner = np.stack([rows * self._scale + top, columns * self._scale + left], axis=1)  # [S, 2]

    def __call__(self, states: Any) -> np.ndarray:
        """Observations of any states.

        :param states: state numbers, int [n]
        :return: observations [n, …]
        """
        s = np.asarray(states)
        if self.mode == "index":
            return s.astype(np.int64)  # a copy
        if self.mode == "coords":
            return self._coords[s]
        n = np.arange(s.shape[0])
        if self.mode == "one-hot":
            out = np.zeros((s.shape[0], self.n_states), dtype=np.float32)
            out[n, s] = 1.0
        elif self.mode == "grid":
            assert self.layout is not None  # "grid" is not allowed without one
            out = np.repeat(self._planes[None], s.shape[0], axis=0)
            rows, columns = self.layout.cells[s].T
            out[n, 0, rows, columns] = 1
        else:
            out = np.repeat(self._picture[None], s.shape[0], axis=0)
            inset = self._scale // 6  # the agent leaves a rim of its cell visible
            for i, (top, left) in enumerate(self._corner[s]):
                out[i, top + inset : top + self._scale - inset, left + inset : left + self._scale - inset] = RGB_AGENT
        return out

    def one(self, state: int) -> Any:
        """The observation of one state."""
        return state if self.mode == "index" else self(np.array([state]))[0]


def _picture(layout: GridLayout) -> tuple[np.ndarray, int, tuple[int, int]]:
    """The map without an agent: uint8 [H, W, 3], pixels a cell, and the pixel where the map's corner lies."""
    colours = np.empty((layout.height, layout.width, 3), dtype=np.uint8)
    for r, c in np.ndindex(layout.height, layout.width):
        symbol = str(layout.symbols[r, c])
        plain = RGB_FREE if symbol in ".S" else RGB_REWARD  # what is left are numbers: rewards
        colours[r, c] = RGB.get(symbol, plain)
    scale = max(1, RGB_SIZE // max(layout.height, layout.width))
    picture = colours.repeat(scale, axis=0).repeat(scale, axis=1)  # [height * scale, width * scale, 3]
    spare = [max(0, RGB_SIZE - side) for side in picture.shape[:2]]
    top, left = spare[0] // 2, spare[1] // 2
    padded = np.full((picture.shape[0] + spare[0], picture.shape[1] + spare[1], 3), RGB_MARGIN, dtype=np.uint8)
    padded[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return padded, scale, (top, left)
