"""Catch: a ball falls, a paddle waits; the smallest world of pixels whose exact answers are known."""

from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from sb3_lecture_envs.checks import choice, size_of_law, whole
from sb3_lecture_envs.mdp import TabularMDP
from sb3_lecture_envs.observations import Observer
from sb3_lecture_envs.pixel_world import PIXEL_MODES, Screen
from sb3_lecture_envs.rendering import Window
from sb3_lecture_envs.tabular_env import TabularEnv, TabularVectorEnv

OBS_MODES = (*PIXEL_MODES, "index", "one-hot")
CHANNELS = {"o": (244, 244, 244), "=": (86, 156, 255)}  # the ball, the paddle
ACTIONS = "←·→"


def law(rows: int = 10, columns: int = 10) -> TabularMDP:
    """The law of Catch; state ``(ball_row * columns + ball_column) * columns + paddle_column``.

    :param rows: height of the board, at least 2 (default 10)
    :param columns: its width, at least 1 (default 10)
    :raises ValueError: if the board is smaller than that
    """
    rows, columns = whole("rows", rows, 2), whole("columns", columns, 1)
    size_of_law(3 * rows * columns**2, f"{rows=} and {columns=}")
    n_states, bottom = rows * columns**2, rows - 1
    s, action = np.divmod(np.arange(n_states * 3), 3)  # [S * 3]
    row, ball, paddle = s // columns**2, s // columns % columns, s % columns
    moved = np.clip(paddle + action - 1, 0, columns - 1)
    over = row == bottom  # the episode has ended here: a state that leads to itself
    landed = row + 1 == bottom
    next_state = np.where(over, s, ((row + 1) * columns + ball) * columns + moved)
    reward = np.where(landed, np.where(moved == ball, 1.0, -1.0), 0.0)
    start = np.arange(columns) * columns + columns // 2  # the ball in any column of row 0, the paddle in the middle
    return TabularMDP(
        n_states, 3, np.arange(n_states * 3 + 1), next_state, np.ones(n_states * 3), reward, over | landed,
        start, np.full(columns, 1 / columns),
    )  # fmt: skip


class CatchObserver(Observer):
    """From state numbers to observations: ``Screen``'s modes and the plain ones of ``Observer``."""

    def __init__(self, rows: int, columns: int, mode: str) -> None:
        choice("obs", mode, OBS_MODES)
        super().__init__(rows * columns**2, None, "index" if mode in PIXEL_MODES else mode)
        self.mode = mode
        self.screen = Screen(CHANNELS, rows, columns, mode)
        if mode in PIXEL_MODES:
            self.space = self.screen.space

    def planes(self, states: Any) -> np.ndarray:
        """Where the ball and the paddle are: bits, int8 [n, 2, rows, columns]."""
        s, columns = np.asarray(states), self.screen.width
        n = np.arange(s.shape[0])
        out = np.zeros((s.shape[0], 2, self.screen.height, columns), dtype=np.int8)
        out[n, 0, s // columns**2, s // columns % columns] = 1
        out[n, 1, -1, s % columns] = 1
        return out

    def __call__(self, states: Any) -> np.ndarray:
        """Observations [n, …] of any states, int [n]."""
        return self.screen.observations(self.planes(states)) if self.mode in PIXEL_MODES else super().__call__(states)


class CatchEnv(TabularEnv):
    """Catch the falling ball (the first game of Mnih et al. 2014, arXiv:1406.6247, and of bsuite, arXiv:1908.03568).

    ## Description
    A ball falls from the top row of a 10 by 10 board, one row a step, straight down; a paddle of one cell moves along the
    bottom row. The only reward comes at the end: long enough for credit to be hard, short enough for a CPU. The law is a
    `TabularMDP` (`mdp`), so that any learner, of pixels too, is graded exactly.

    What is known: a paddle that reaches every column catches every ball, the optimal return is 1; this holds where
    `rows - 1 >= columns // 2`. On a wider board the balls further than `rows - 1` columns from the middle are lost. The
    uniformly random policy catches 1 ball in `columns`, for the ball's column is uniform and independent of the paddle:
    its return is `2 / columns - 1`, here -0.8.

    ## Action Space
    `Discrete(3)`: 0 left, 1 stay, 2 right. Moves against the border lead nowhere.

    ## Observation Space
    - `obs="channels"` (default): `MultiBinary([2, rows, columns])`, the ball and the paddle
    - `obs="rgb"`: a picture, `Box(0, 255, (64, 64, 3), uint8)`
    - `obs="index"`: `Discrete(rows * columns**2)`, `(ball_row * columns + ball_column) * columns + paddle_column`
    - `obs="one-hot"`: that as `Box(0, 1, (rows * columns**2,), float32)`

    ## Rewards
    +1 if the paddle is under the ball when it reaches the bottom row, -1 if not, 0 before.

    ## Starting State
    The ball in a random column of the top row, the paddle in column `columns // 2`.

    ## Episode End
    Terminated when the ball reaches the bottom row, after `rows - 1` steps. No time limit.

    ## Arguments
    - `rows`, `columns`: size of the board. Default 10 and 10.
    - `obs`: see above.
    - `render_mode`: `None`, `"ansi"`, `"rgb_array"` or `"human"`.

    ## Version History
    - v0: first version.

    :raises ValueError: if an argument is not one of those
    """

    def __init__(self, rows: int = 10, columns: int = 10, obs: str = "channels", render_mode: str | None = None) -> None:
        super().__init__(law(rows, columns), render_mode=render_mode)
        self.obs = obs
        self.observe: CatchObserver = CatchObserver(rows, columns, obs)
        self.observation_space = self.observe.space
        self._plain = obs == "index" and render_mode is None

    def render(self) -> Any:
        """Draw the present state as ``render_mode`` says."""
        if self.render_mode is None:
            return super().render()  # which warns
        planes = self.observe.planes([self.state])[0]
        if self.render_mode == "ansi":
            return self.observe.screen.text(planes, None if self.last_action is None else ACTIONS[self.last_action])
        picture = self.observe.screen.picture(planes)
        if self.render_mode == "rgb_array":
            return picture
        if self._renderer is None:
            self._renderer = Window("Catch", self.metadata["render_fps"])
        return self._renderer.show(picture)


class CatchVectorEnv(TabularVectorEnv):
    """Many games of Catch at once.

    :param num_envs: number of games n
    :param rows: as in ``CatchEnv``
    :param columns: as in ``CatchEnv``
    :param obs: as in ``CatchEnv``
    :param max_episode_steps: as in ``TabularVectorEnv``, as are the rest
    :param render_mode: None, "ansi" or "rgb_array"
    :param autoreset_mode: ``AutoresetMode.NEXT_STEP`` (default) or ``SAME_STEP``
    """

    def __init__(
        self,
        num_envs: int = 1,
        rows: int = 10,
        columns: int = 10,
        obs: str = "channels",
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        super().__init__(law(rows, columns), None, num_envs, "index", max_episode_steps, render_mode, autoreset_mode)
        self.obs = obs
        self.observe: CatchObserver = CatchObserver(rows, columns, obs)
        self.single_observation_space = self.observe.space
        self.observation_space = batch_space(self.single_observation_space, num_envs)

    def render(self) -> tuple[Any, ...] | None:
        """One picture or text a game."""
        if self.render_mode is None:
            return None
        planes, screen = self.observe.planes(self.state), self.observe.screen
        if self.render_mode == "ansi":
            return tuple(screen.text(board, None) for board in planes)
        return tuple(screen.picture(board) for board in planes)


make_vector = CatchVectorEnv
