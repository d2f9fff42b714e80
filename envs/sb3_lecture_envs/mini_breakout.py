"""MiniBreakout: a ball, a paddle and a wall of bricks on 10 by 10 cells (the idea of MinAtar, arXiv:1903.03176)."""

from typing import Any

import gymnasium as gym
import numba
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from sb3_lecture_envs.checks import action_of, autoreset_mode_of, choice, whole
from sb3_lecture_envs.pixel_world import PIXEL_MODES, Screen
from sb3_lecture_envs.rendering import Window
from sb3_lecture_envs.state import copy_state, put_state

SIDE = 10  # cells of the board's sides
FLOOR = SIDE - 1  # the paddle's row
FIRST_BRICK, LAST_BRICK = 1, 3  # rows of the wall
SERVE = 7  # row in which an episode's ball is first seen, on its way up
PADDLE, BALL, TRAIL, BRICK = range(4)
CHANNELS = {"=": (86, 156, 255), "o": (244, 244, 244), ",": (122, 122, 134), "#": (214, 120, 66)}
ACTIONS = "←·→"
#: columns of ``game``, int64 [n, 5]: paddle, the ball's row and column, its direction (rows, columns)
P, R, C, DR, DC = range(5)


@numba.njit(cache=True, inline="always")
def _sideways(column: int, dc: int) -> tuple[int, int]:
    """Where a ball flies sideways: on by one cell, or mirrored at a wall, where it stays in its column."""
    if 0 <= column + dc < SIDE:
        return column + dc, dc
    return column, -dc


@numba.njit(cache=True)
def _step_many(
    game: np.ndarray, planes: np.ndarray, skip: np.ndarray, action: np.ndarray, reward: np.ndarray, terminated: np.ndarray
) -> None:
    """One step of every game that is not skipped; game [n, 5], planes int8 [n, 4, SIDE, SIDE] are changed in place."""
    for i in range(game.shape[0]):
        reward[i], terminated[i] = 0.0, False
        if skip[i]:
            continue
        board = planes[i]
        paddle, r, c, dr, dc = game[i]
        board[PADDLE, FLOOR, paddle] = 0
        paddle = min(max(paddle + action[i] - 1, 0), SIDE - 1)
        board[PADDLE, FLOOR, paddle] = 1

        column, dc = _sideways(c, dc)
        if r + dr < 0:  # the top mirrors too
            row, dr = r, 1
        else:
            row = r + dr
        if board[BRICK, row, column]:
            board[BRICK, row, column] = 0
            reward[i] = 1.0
            back = r - dr
            if back >= 0 and not board[BRICK, back, column]:  # no way back: the ball breaks through
                row, dr = back, -dr
        elif row == FLOOR:
            if paddle == column or paddle == c:
                if paddle != column:  # caught by the corner: back to where it came from
                    column, dc = _sideways(c, -dc)
                row, dr = r - 1, -1
                if not board[BRICK].any():
                    board[BRICK, FIRST_BRICK : LAST_BRICK + 1] = 1
            else:
                terminated[i] = True
        board[TRAIL] = 0
        board[TRAIL, r, c] = 1
        board[BALL, r, c] = 0
        board[BALL, row, column] = 1
        game[i, P], game[i, R], game[i, C], game[i, DR], game[i, DC] = paddle, row, column, dr, dc


@numba.njit(cache=True)
def _serve_many(which: np.ndarray, uniform: np.ndarray, game: np.ndarray, planes: np.ndarray) -> None:
    """Begin the games ``which`` [k]; one uniform number each draws the column and the side, 20 equally likely serves."""
    for k in range(which.shape[0]):
        i = which[k]
        c, side = divmod(int(uniform[k] * 2 * SIDE), 2)
        column, dc = _sideways(c, 2 * side - 1)
        game[i, P], game[i, R], game[i, C], game[i, DR], game[i, DC] = SIDE // 2, SERVE, column, -1, dc
        planes[i] = 0
        planes[i, PADDLE, FLOOR, SIDE // 2] = 1
        planes[i, BALL, SERVE, column] = 1
        planes[i, TRAIL, SERVE + 1, c] = 1
        planes[i, BRICK, FIRST_BRICK : LAST_BRICK + 1] = 1


class _Games:
    """n games and their boards; what the env and the vector env share."""

    def __init__(self, n: int, obs: str) -> None:
        choice("obs", obs, PIXEL_MODES)
        self.game = np.zeros((n, 5), dtype=np.int64)
        self.planes = np.zeros((n, len(CHANNELS), SIDE, SIDE), dtype=np.int8)
        self.reward, self.terminated = np.zeros(n), np.zeros(n, dtype=np.bool_)
        self.screen = Screen(CHANNELS, SIDE, SIDE, obs)
        self.none = np.zeros(n, dtype=np.bool_)
        self.serve(np.arange(n), np.zeros(n))

    def serve(self, which: np.ndarray, uniform: np.ndarray) -> None:
        _serve_many(which, uniform, self.game, self.planes)

    def step(self, action: np.ndarray, skip: np.ndarray | None = None) -> None:
        _step_many(self.game, self.planes, self.none if skip is None else skip, action, self.reward, self.terminated)

    def get_state(self) -> dict[str, Any]:
        return {"game": self.game.copy(), "planes": self.planes.copy()}

    def set_state(self, state: dict[str, Any]) -> None:
        game, planes = np.asarray(state["game"]), np.asarray(state["planes"])
        if game.shape != self.game.shape or planes.shape != self.planes.shape:
            raise ValueError(f"the state is of {len(game)} games, the env has {len(self.game)}")
        self.game[...], self.planes[...] = game, planes

    def place(self, i: int, board: str) -> None:
        """Set game i to a position as ``Screen.text`` prints it."""
        signs = [line.split() for line in str(board).strip().splitlines()]
        known = all(len(line) == SIDE and set(line) <= set(self.screen.signs) for line in signs)
        if len(signs) != SIDE or not known:
            raise ValueError(f"board={board!r} must be {SIDE} lines of {SIDE} signs of {self.screen.signs}, spaces between")
        planes = np.array([[[sign == shown for sign in line] for line in signs] for shown in CHANNELS])  # [4, SIDE, SIDE]
        balls, paddles, trails = (np.argwhere(planes[k]) for k in (BALL, PADDLE, TRAIL))
        if len(balls) != 1 or len(paddles) != 1 or len(trails) > 1 or paddles[0][0] != FLOOR:
            raise ValueError(f"board={board!r} must show one ball, one paddle in the last line and at most one trail")
        (r, c), trail = balls[0], trails[0] if len(trails) else balls[0]  # unseen, it lies under the ball
        planes[TRAIL][tuple(trail)] = True
        dr, dc = balls[0] - trail
        direction = (dr or 1, dc or (1 if c == 0 else -1))  # it has just been mirrored where it has not moved
        self.game[i], self.planes[i] = (paddles[0][1], r, c, *direction), planes

    def observe(self, which: Any = slice(None)) -> np.ndarray:
        """Observations of some games, [n, …]; a copy."""
        return self.screen.observations(self.planes[which].copy())


class MiniBreakoutEnv(gym.Env[np.ndarray, np.int64]):
    """Break the wall and keep the ball in play.

    ## Description
    A wall of 30 bricks fills rows 1 to 3 of a 10 by 10 board, a paddle of one cell moves along row 9, and the ball flies
    diagonally, one cell a step. In a step the paddle moves first, then the ball:

    1. The walls mirror the ball: at a side wall it stays in its column and moves on in its row; at the top it stays in row 0.
    2. A brick on its way vanishes, and the ball turns back vertically: it moves one row back while it moves on sideways.
       Where the cell it would turn back into is a brick itself, or beyond the top, the ball breaks through instead and
       flies on.
    3. On its way into row 9 the ball is caught if the paddle is in the column it flies to: it leaves for row 7 there. If the
       paddle is in the column it comes from, right under it, the corner sends it back the way it came.
    4. When no brick is left the next catch raises a new wall.

    The trail marks the cell the ball was in one step ago, so that one observation tells everything: the ball's direction is
    the step it has just made (a row or column it has not left lies at the wall that mirrored it).

    No position is lost before it is played badly: between two catches the ball needs at least 8 steps and moves at most 8
    columns, and a paddle that stays under the ball catches it always. Only the walls lead the ball from the white squares of
    this chessboard to the black ones and back.

    ## Action Space
    `Discrete(3)`: 0 left, 1 stay, 2 right. Moves against the border lead nowhere.

    ## Observation Space
    - `obs="channels"` (default): `MultiBinary([4, 10, 10])`: the paddle, the ball, its trail, the bricks
    - `obs="rgb"`: a picture, `Box(0, 255, (64, 64, 3), uint8)`

    ## Rewards
    +1 for each brick.

    ## Starting State
    The paddle in column 5; the ball in row 7 on its way up, as if it had just left row 8 from a random column to a random
    side. Nothing else is left to chance.

    ## Episode End
    Terminated when the ball passes the paddle. Truncated after `max_episode_steps` (1000 by default).

    ## Arguments
    - `obs`: see above.
    - `render_mode`: `None`, `"ansi"`, `"rgb_array"` or `"human"`.

    `reset(options={"board": text})` begins with a position as `"ansi"` prints it: `=` the paddle, `o` the ball, `,` its trail
    (without one, the ball has just been mirrored in a corner), `#` a brick, `.` nothing.

    ## Version History
    - v0: first version.

    :raises ValueError: if an argument is not one of those, or an action is outside the action space
    """

    metadata: dict[str, Any] = {"render_modes": ["human", "rgb_array", "ansi"], "render_fps": 12}  # noqa: RUF012

    def __init__(self, obs: str = "channels", render_mode: str | None = None) -> None:
        choice("render_mode", render_mode, (None, *self.metadata["render_modes"]))
        self.games = _Games(1, obs)
        self.observation_space = self.games.screen.space
        self.action_space = spaces.Discrete(3)
        self.render_mode = render_mode
        self.last_action: int | None = None
        self._action = np.zeros(1, dtype=np.int64)
        self._first = np.zeros(1, dtype=np.int64)
        self._window = Window("MiniBreakout", self.metadata["render_fps"])

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Serve a ball; ``options={"board": text}`` sets a position instead, in the form that "ansi" prints."""
        super().reset(seed=seed)
        if options is not None and "board" in options:
            self.games.place(0, options["board"])
        else:
            self.games.serve(self._first, self.np_random.random(1))
        self.last_action = None
        if self.render_mode == "human":
            self.render()
        return self.games.observe()[0], {}

    def step(self, action: np.int64) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Move the paddle, then the ball."""
        self._action[0] = self.last_action = action_of(action, 3)
        games = self.games
        games.step(self._action)
        if self.render_mode == "human":
            self.render()
        return games.observe()[0], float(games.reward[0]), bool(games.terminated[0]), False, {}

    def render(self) -> Any:
        """Draw the present board as ``render_mode`` says."""
        if self.render_mode is None:
            gym.logger.warn("render() was called without a render_mode; pass render_mode='ansi' or 'rgb_array' to gym.make")
            return None
        screen, board = self.games.screen, self.games.planes[0]
        if self.render_mode == "ansi":
            return screen.text(board, None if self.last_action is None else ACTIONS[self.last_action])
        picture = screen.picture(board)
        return self._window.show(picture) if self.render_mode == "human" else picture

    def close(self) -> None:
        """Close the window, if one is open."""
        self._window.close()

    def get_state(self) -> dict[str, Any]:
        """Where the game stands, and the env's random generator: plain values for ``set_state`` of another such env."""
        return copy_state(self, ("last_action",)) | self.games.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        """Put the env where another stood.

        :param state: from ``get_state``
        :raises ValueError: if it is of another kind of env
        """
        self.games.set_state(state)
        put_state(self, ("last_action",), state)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_window": Window("MiniBreakout", self.metadata["render_fps"])}  # a window cannot travel


class MiniBreakoutVectorEnv(gym.vector.VectorEnv[Any, Any, Any]):
    """Many games of MiniBreakout at once, stepped by one compiled loop.

    One generator serves all games: a serve takes one uniform number, in the order of the games.

    :param num_envs: number of games n
    :param obs: "channels" or "rgb"
    :param max_episode_steps: length at which an episode is truncated; None: never
    :param render_mode: None, "ansi" or "rgb_array"
    :param autoreset_mode: ``AutoresetMode.NEXT_STEP`` (Gymnasium's default) or ``SAME_STEP`` (what SB3 needs), or its value
    :raises ValueError: if a mode or a number is not one of those
    """

    def __init__(
        self,
        num_envs: int = 1,
        obs: str = "channels",
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        num_envs = whole("num_envs", num_envs, 1)
        max_episode_steps = None if max_episode_steps is None else whole("max_episode_steps", max_episode_steps, 1)
        mode = autoreset_mode_of(autoreset_mode)
        choice("render_mode", render_mode, (None, "ansi", "rgb_array"))
        self.metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 12, "autoreset_mode": mode}
        self.num_envs = num_envs
        self.games = _Games(num_envs, obs)
        self.single_observation_space = self.games.screen.space
        self.single_action_space = spaces.Discrete(3)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.render_mode = render_mode
        self.max_episode_steps = max_episode_steps
        self._limit = np.iinfo(np.int64).max if max_episode_steps is None else max_episode_steps
        self._same_step = mode == AutoresetMode.SAME_STEP
        self.elapsed = np.zeros(num_envs, dtype=np.int64)  # [n], steps of the running episode
        self._skip = np.zeros(num_envs, dtype=np.bool_)  # [n], NEXT_STEP: this step only resets

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Serve a ball everywhere, or where ``options["reset_mask"]`` (bool [n]) says; of a list of seeds, all are mixed."""
        if isinstance(seed, list):
            self._np_random = np.random.default_rng([0 if x is None else x for x in seed])
        elif seed is not None:
            super().reset(seed=seed)
        done = np.ones(self.num_envs, dtype=np.bool_)
        if options is not None and "reset_mask" in options:
            done = np.asarray(options["reset_mask"], dtype=np.bool_)
            if done.shape != (self.num_envs,) or not done.any():
                raise ValueError(f"reset_mask must be a bool array of shape ({self.num_envs},) with a True in it, got {done}")
        self._serve(done)
        self._skip[done] = False
        return self.games.observe(), {}

    def get_state(self) -> dict[str, Any]:
        """Where the games stand, and their random generator: plain values for ``set_state`` of another such env."""
        return copy_state(self, ("elapsed", "_skip")) | self.games.get_state()

    def set_state(self, state: dict[str, Any]) -> None:
        """Put the env where another stood.

        :param state: from ``get_state``
        :raises ValueError: if it is of another kind of env, or has another number of games
        """
        self.games.set_state(state)
        put_state(self, ("elapsed", "_skip"), state)

    def _serve(self, done: np.ndarray) -> None:
        which = np.flatnonzero(done)
        self.games.serve(which, self.np_random.random(len(which)))
        self.elapsed[which] = 0

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step every game.

        :param actions: int [n]
        :return: observations [n, …], rewards float64 [n], terminated bool [n], truncated bool [n], infos
        :raises ValueError: if an action is outside the action space
        """
        action = np.asarray(actions)
        if action.shape != (self.num_envs,) or action.dtype.kind not in "iu":
            raise ValueError(f"actions must be {self.num_envs} integers, got shape {action.shape} of {action.dtype}")
        if action.min() < 0 or action.max() > 2:
            raise ValueError(
                f"Action {action[(action < 0) | (action > 2)][0]} is outside the action space; actions are 0 to 2"
            )
        games = self.games
        games.step(action.astype(np.int64), self._skip)
        self.elapsed += ~self._skip
        terminated, truncated = games.terminated.copy(), (self.elapsed >= self._limit) & ~self._skip
        done = terminated | truncated
        rewards = games.reward.copy()
        infos: dict[str, Any] = {}
        if self._same_step:
            if done.any():
                final = np.full(self.num_envs, None, dtype=object)
                which = np.flatnonzero(done)
                for i, observation in zip(which, games.observe(which), strict=True):
                    final[i] = observation
                infos = {"final_obs": final, "_final_obs": done, "final_info": {}, "_final_info": done}
                self._serve(done)
        else:
            if self._skip.any():
                self._serve(self._skip)
            self._skip = done
        return games.observe(), rewards, terminated, truncated, infos

    def render(self) -> tuple[Any, ...] | None:
        """One picture or text a game."""
        if self.render_mode is None:
            return None
        screen, boards = self.games.screen, self.games.planes
        if self.render_mode == "ansi":
            return tuple(screen.text(board, None) for board in boards)
        return tuple(screen.picture(board) for board in boards)


make_vector = MiniBreakoutVectorEnv
