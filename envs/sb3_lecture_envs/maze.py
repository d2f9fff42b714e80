"""Maze: the lecture's 4×4 maze, and generated mazes of any size."""

from functools import partial

import numba
import numpy as np

from sb3_lecture_envs.checks import choice, size_of_law, whole
from sb3_lecture_envs.grid import FREE, GOAL, MOVES, START, WALL, GridLayout, grid_mdp, parse_map
from sb3_lecture_envs.mdp import TabularMDP
from sb3_lecture_envs.tabular_env import TabularEnv, TabularVectorEnv

LECTURE_MAZE = ("S...", "..P.", ".PG.", "....")
LAYOUTS = ("lecture", "random")


def law(
    layout: str = "lecture", size: int | None = None, seed: int = 0, slip: float = 0.0, step_reward: float = 0.0
) -> tuple[TabularMDP, GridLayout]:
    """The law of a maze; the arguments are those of ``MazeEnv``."""
    choice("layout", layout, LAYOUTS)
    if layout == "lecture":
        if size not in (None, 4):
            raise ValueError(f"size={size} does not fit layout='lecture', which is 4 by 4; pass layout='random' with it")
        symbols = parse_map(LECTURE_MAZE)
    else:
        symbols = random_maze(8 if size is None else size, seed)
    return grid_mdp(symbols, slip=slip, step_reward=step_reward)


def random_maze(size: int, seed: int) -> np.ndarray:
    """A maze in which exactly one path joins any two rooms, by the recursive backtracker (a random depth-first search).

    :param size: rooms a side; the map has ``2 * size - 1`` cells a side, walls included
    :param seed: seed of the generator
    :return: symbols, str [2 * size - 1, 2 * size - 1]: start top left, goal bottom right
    :raises ValueError: if ``size`` is less than 2 or ``seed`` is negative
    """
    size, seed = whole("size", size, 2), whole("seed", seed, 0)
    size_of_law(8 * size**2, f"{size=} rooms a side")
    uniform = np.random.default_rng(seed).random(size * size)  # one draw for each room but the first
    symbols = np.where(_carve(size, uniform, MOVES), FREE, WALL)
    symbols[0, 0], symbols[-1, -1] = START, GOAL
    return symbols


@numba.njit(cache=True)
def _carve(size: int, uniform: np.ndarray, moves: np.ndarray) -> np.ndarray:
    """Rooms lie at even rows and columns; a step to a new room opens the cell between."""
    open_cell = np.zeros((2 * size - 1, 2 * size - 1), dtype=np.bool_)
    path = np.empty((size * size, 2), dtype=np.int64)  # rooms from the first to the present one
    choices = np.empty(4, dtype=np.int64)
    path[0] = 0
    open_cell[0, 0] = True
    depth, drawn = 1, 0
    while depth > 0:
        row, column = path[depth - 1]
        n = 0
        for k in range(4):
            r, c = row + moves[k, 0], column + moves[k, 1]
            if 0 <= r < size and 0 <= c < size and not open_cell[2 * r, 2 * c]:
                choices[n] = k
                n += 1
        if n == 0:
            depth -= 1  # a dead end: back to the room before
            continue
        k = choices[int(uniform[drawn] * n)]
        drawn += 1
        r, c = row + moves[k, 0], column + moves[k, 1]
        open_cell[row + r, column + c] = True  # the cell between the two rooms: (2 row + 2 r) / 2
        open_cell[2 * r, 2 * c] = True
        path[depth, 0], path[depth, 1] = r, c
        depth += 1
    return open_cell


class MazeEnv(TabularEnv):
    """Find the treasure and keep out of the pits.

    ## Description
    By default the lecture's 4 by 4 maze: start at the top left, the treasure at column 2, row 2, and pits at (column 2,
    row 1) and (column 1, row 2), so that the treasure is reached from the right or from below only. With
    `layout="random"` a maze of any size is generated, in which one path joins any two rooms.

    ## Action Space
    `Discrete(4)`: 0 up, 1 right, 2 down, 3 left. Moves against a wall or the border lead nowhere; `action_masks()` hides
    them.

    ## Observation Space
    `Discrete(S)` with `obs="index"`, over the cells that are no wall; the other modes are those of `Lecture/GridWorld-v0`.

    ## Rewards
    +1 for the treasure, -1 for a pit, and `step_reward` for every step.

    ## Starting State
    The top left cell.

    ## Episode End
    Terminated at the treasure or in a pit. Truncated after `max_episode_steps` (200 by default; give large mazes more).

    ## Arguments
    - `layout`: `"lecture"` (default) or `"random"`.
    - `size`: rooms a side of a random maze (default 8); its map has `2 * size - 1` cells a side.
    - `seed`: which random maze. Default 0.
    - `slip`: probability of moving at a right angle to the action, half to each side. Default 0.
    - `step_reward`: reward of every step. Default 0.
    - `obs`, `render_mode`: as in `Lecture/GridWorld-v0`.

    ## Version History
    - v0: first version.

    :raises ValueError: if an argument is not one of those
    """

    def __init__(
        self,
        layout: str = "lecture",
        size: int | None = None,
        seed: int = 0,
        slip: float = 0.0,
        step_reward: float = 0.0,
        obs: str = "index",
        render_mode: str | None = None,
    ) -> None:
        super().__init__(*law(layout, size, seed, slip, step_reward), obs=obs, render_mode=render_mode)


make_vector = partial(TabularVectorEnv.from_law, law)
