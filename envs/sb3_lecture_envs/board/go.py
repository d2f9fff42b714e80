"""Go on 5 × 5 to 19 × 19 boards: surround stones to capture them, surround points to own them.

State: [ply, over, passes in a row, ko point, board]. The board is stored with a border: ``size + 2`` rows of ``size + 1``
points and one more, so that a point's neighbours are p ± 1 and p ± (size + 1) and no edge needs a test; +1 is a stone of the
first player (black), −1 of the second (white), 0 empty, 2 the border. The ko point is an index into it (0: none).

Rules: no suicide; area scoring (Tromp and Taylor's: a point belongs to the colour whose stones it holds or alone reaches)
with komi for white; two passes, or ``max_plies`` moves, end the game. The state forbids the simple ko: taking back at once
the single stone that has just taken one. Positional superko (no whole-board position may come back) is a matter of the
game's history: ``position_keys`` and ``forbid_repetition`` serve the env, which knows the history; a search that knows the
state alone plays by simple ko, and the cap on plies ends its longer cycles.
"""

from functools import partial
from typing import NamedTuple

import numpy as np
from numba import njit

from sb3_lecture_envs.checks import finite, whole

from .env import BoardEnv, BoardVectorEnv, Opponent
from .game import HEADER, OVER, PLY, Game, Rules, grid_symmetries, register_rules

PASSES, KO = HEADER, HEADER + 1
BOARD = HEADER + 2
BORDER = 2
COLUMNS = "ABCDEFGHJKLMNOPQRST"  # Go skips the I


class GoLaw(NamedTuple):
    """The constants of Go.

    :param size: rows and columns
    :param komi: points white receives
    :param max_plies: the cap on moves
    """

    size: int
    komi: float
    max_plies: int


@njit(cache=True)
def point_of(law, action):  # type: ignore[no-untyped-def]
    """Return the index into the bordered board of action ``size * row + column``."""
    return (action // law.size + 1) * (law.size + 1) + action % law.size + 1


@njit(cache=True)
def _chain(board, point, stride, stack, at_most):  # type: ignore[no-untyped-def]
    """Collect the chain of ``point`` in ``stack`` and count its liberties, up to ``at_most``.

    Stops at ``at_most`` liberties, the chain then being incomplete. Stones and liberties seen are marked on the board in
    passing, and restored.

    :return: (stones collected, liberties found)
    """
    colour = board[point]
    stack[0], n_stones = point, 1
    board[point] = 5 * colour
    n_liberties, last = 0, len(stack)  # liberties are remembered at the stack's far end
    i = 0
    while i < n_stones and n_liberties < at_most:
        for offset in (1, -1, stride, -stride):
            neighbour = stack[i] + offset
            if board[neighbour] == 0:
                last -= 1
                stack[last] = neighbour
                board[neighbour] = 7
                n_liberties += 1
            elif board[neighbour] == colour:
                stack[n_stones] = neighbour
                board[neighbour] = 5 * colour
                n_stones += 1
        i += 1
    for j in range(n_stones):
        board[stack[j]] = colour
    for j in range(last, len(stack)):
        board[stack[j]] = 0
    return n_stones, n_liberties


@njit(cache=True)
def _breathes(board, point, colour, stride, stack):  # type: ignore[no-untyped-def]
    """Say whether a stone of ``colour`` on the empty ``point`` has a liberty, once what it captures is gone."""
    for offset in (1, -1, stride, -stride):
        neighbour = board[point + offset]
        if neighbour == 0:
            return True
        if neighbour == colour:
            if _chain(board, point + offset, stride, stack, 2)[1] >= 2:
                return True
        elif neighbour == -colour:
            if _chain(board, point + offset, stride, stack, 2)[1] == 1:
                return True
    return False


@njit(cache=True)
def _initial(law, state):  # type: ignore[no-untyped-def]
    state[:BOARD] = 0
    state[BOARD:] = BORDER
    for action in range(law.size * law.size):
        state[BOARD + point_of(law, action)] = 0


@njit(cache=True)
def _legal(law, state, mask):  # type: ignore[no-untyped-def]
    if state[OVER]:
        mask[:] = False
        return 0
    board, stride = state[BOARD:], law.size + 1
    colour = 1 - 2 * (state[PLY] & 1)
    stack = np.empty(len(board), np.int16)
    # the liberties of every chain, counted up to two, once a chain: legality of all points needs no more
    liberties = np.zeros(len(board), np.int8)
    n, point = 1, stride
    for row in range(law.size):
        point += 1  # over the border
        for column in range(law.size):
            legal_here = False
            if board[point] == 0 and point != state[KO]:
                for offset in (1, -1, stride, -stride):
                    neighbour = point + offset
                    stone = board[neighbour]
                    if stone == 0:
                        legal_here = True
                        break
                    if stone != BORDER:
                        if liberties[neighbour] == 0:
                            n_stones, found = _chain(board, neighbour, stride, stack, 2)
                            for j in range(n_stones):
                                liberties[stack[j]] = found
                        if (liberties[neighbour] >= 2) == (stone == colour):
                            legal_here = True
                            break
            mask[row * law.size + column] = legal_here
            n += legal_here
            point += 1
    mask[law.size * law.size] = True  # pass
    return n


@njit(cache=True)
def _accepts(law, state, action):  # type: ignore[no-untyped-def]
    if state[OVER] or action < 0 or action > law.size * law.size:
        return False
    if action == law.size * law.size:
        return True
    board, point = state[BOARD:], point_of(law, action)
    if board[point] != 0 or point == state[KO]:
        return False
    return _breathes(board, point, 1 - 2 * (state[PLY] & 1), law.size + 1, np.empty(len(board), np.int16))


@njit(cache=True)
def area(law, state):  # type: ignore[no-untyped-def]
    """Return black's area and white's: their stones, and the empty regions that reach one colour alone."""
    board, stride = state[BOARD:], law.size + 1
    seen = np.zeros(len(board), np.bool_)
    stack = np.empty(len(board), np.int16)
    black, white = 0, 0
    for action in range(law.size * law.size):
        point = point_of(law, action)
        if board[point] != 0:
            black += board[point] == 1
            white += board[point] == -1
        elif not seen[point]:
            stack[0], n, i = point, 1, 0
            seen[point] = True
            meets_black, meets_white = False, False
            while i < n:
                for offset in (1, -1, stride, -stride):
                    neighbour = stack[i] + offset
                    if board[neighbour] == 0:
                        if not seen[neighbour]:
                            seen[neighbour] = True
                            stack[n] = neighbour
                            n += 1
                    elif board[neighbour] == 1:
                        meets_black = True
                    elif board[neighbour] == -1:
                        meets_white = True
                i += 1
            if meets_black and not meets_white:
                black += n
            elif meets_white and not meets_black:
                white += n
    return black, white


@njit(cache=True)
def _step(law, state, action):  # type: ignore[no-untyped-def]
    colour = 1 - 2 * (state[PLY] & 1)
    state[PLY] += 1
    state[KO] = 0
    if action == law.size * law.size:
        state[PASSES] += 1
    else:
        state[PASSES] = 0
        board, stride, point = state[BOARD:], law.size + 1, point_of(law, action)
        board[point] = colour
        stack = np.empty(len(board), np.int16)
        n_captured, captured, alone = 0, 0, True
        for offset in (1, -1, stride, -stride):
            neighbour = point + offset
            if board[neighbour] == -colour:
                n_stones, n_liberties = _chain(board, neighbour, stride, stack, 1)
                if n_liberties == 0:
                    for j in range(n_stones):
                        board[stack[j]] = 0
                    n_captured += n_stones
                    captured = neighbour
        if n_captured == 1:
            for offset in (1, -1, stride, -stride):
                neighbour = point + offset
                if board[neighbour] == colour or (board[neighbour] == 0 and neighbour != captured):
                    alone = False
            if alone:  # a single stone that stands on the captured point's liberty alone: ko
                state[KO] = captured
    if state[PASSES] < 2 and state[PLY] < law.max_plies:
        return 0.0, False
    state[OVER] = 1
    black, white = area(law, state)
    return float(np.sign(colour * (black - white - law.komi))), True


@njit(cache=True)
def _observe(law, state, out):  # type: ignore[no-untyped-def]
    colour = 1 - 2 * (state[PLY] & 1)
    board = state[BOARD:]
    for row in range(law.size):
        for column in range(law.size):
            point = (row + 1) * (law.size + 1) + column + 1
            out[0, row, column] = board[point] == colour
            out[1, row, column] = board[point] == -colour
            out[2, row, column] = state[KO] == point
            out[3, row, column] = state[PASSES] / 2
            out[4, row, column] = state[PLY] / law.max_plies
            out[5, row, column] = colour == 1


@njit(cache=True)
def _state_of(law, observation, state):  # type: ignore[no-untyped-def]
    _initial(law, state)
    state[PLY] = int(np.rint(observation[4, 0, 0] * law.max_plies))
    state[PASSES] = int(np.rint(observation[3, 0, 0] * 2))
    state[OVER] = state[PASSES] >= 2 or state[PLY] >= law.max_plies
    colour = 1 - 2 * (state[PLY] & 1)
    for row in range(law.size):
        for column in range(law.size):
            point = (row + 1) * (law.size + 1) + column + 1
            if observation[0, row, column] > 0.5:
                state[BOARD + point] = colour
            elif observation[1, row, column] > 0.5:
                state[BOARD + point] = -colour
            if observation[2, row, column] > 0.5:
                state[KO] = point


register_rules(GoLaw, Rules(_initial, _legal, _accepts, _step, _observe, _state_of))


@njit(cache=True)
def _stone_key(action, stone):  # type: ignore[no-untyped-def]
    """Mix the point and colour of one stone to 64 bits (the finaliser of splitmix64)."""
    z = np.uint64(2 * action + (stone == 1) + 1) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


@njit(cache=True)
def _position_key(law, state):  # type: ignore[no-untyped-def]
    """Hash a board to 64 bits: the sum of its stones' keys, so that one more stone is one more term."""
    key = np.uint64(0)
    for action in range(law.size * law.size):
        stone = state[BOARD + point_of(law, action)]
        if stone != 0:
            key += _stone_key(action, stone)
    return np.int64(key)


@njit(cache=True)
def _position_keys(law, states, keys):  # type: ignore[no-untyped-def]
    for i in range(len(states)):
        keys[i] = _position_key(law, states[i])


@njit(cache=True)
def _captures(law, state, action):  # type: ignore[no-untyped-def]
    """Say whether a stone on an empty point takes the last liberty of some chain of the other colour."""
    board, point, stride = state[BOARD:], point_of(law, action), law.size + 1
    colour = 1 - 2 * (state[PLY] & 1)
    stack = np.empty(len(board), np.int16)
    for offset in (1, -1, stride, -stride):
        if board[point + offset] == -colour and _chain(board, point + offset, stride, stack, 2)[1] == 1:
            return True
    return False


@njit(cache=True)
def _forbid_repetition(law, state, history, mask):  # type: ignore[no-untyped-def]
    if state[OVER]:
        return
    colour = 1 - 2 * (state[PLY] & 1)
    present = np.uint64(_position_key(law, state))
    for action in range(law.size * law.size):
        if mask[action]:
            key = np.int64(present + _stone_key(action, colour))
            if _captures(law, state, action):
                after = state.copy()
                _step(law, after, action)
                key = _position_key(law, after)
            for j in range(len(history)):
                if history[j] == key:
                    mask[action] = False
                    break


class Go(Game):
    """The rules of Go. Action ``size * row + column`` lays a stone, action ``size * size`` passes.

    Planes [6, size, size]: own stones, the other's stones, the ko point, passes in a row / 2, the share of ``max_plies``
    played, and ones for black to move (whom komi burdens); the last three are the same everywhere.

    :param size: rows and columns, 5 to 19 (default 9)
    :param komi: points for white, who moves second (default 7.5; a whole number allows draws)
    :param max_plies: the game is scored after so many moves (default twice the points of the board)
    :raises ValueError: for a size or a cap out of range
    """

    state_dtype = np.int16
    has_history_rule = True

    def __init__(self, size: int = 9, komi: float = 7.5, max_plies: int | None = None) -> None:
        size, komi = whole("size", size, 5, 19), finite("komi", komi)
        self.max_plies = 2 * size * size if max_plies is None else whole("max_plies", max_plies, 1, 32_000)
        self.law = GoLaw(size, komi, self.max_plies)
        self.n_actions = size * size + 1
        self.state_size = BOARD + (size + 2) * (size + 1) + 1
        self.observation_shape = (6, size, size)
        self.symmetries = grid_symmetries(size, size, n_extra=1)

    def position_keys(self, states: np.ndarray) -> np.ndarray:
        """Return a 64-bit key of every whole-board position, int64 [n]; two positions share one with chance 2^-64."""
        keys = np.zeros(len(states), np.int64)
        _position_keys(self.law, states, keys)
        return keys

    def forbid_repetition(self, state: np.ndarray, history: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Strike the moves that positional superko forbids out of one state's mask, in place, and return it."""
        _forbid_repetition(self.law, state, history, mask)
        return mask

    def score(self, state: np.ndarray) -> float:
        """Return black's lead in points as the board stands: area, less komi."""
        black, white = area(self.law, state)
        return black - white - self.law.komi

    def board(self, state: np.ndarray) -> np.ndarray:
        """Return the stones, int8 [size, size], top row first: +1 black's, −1 white's."""
        size = self.law.size
        return state[BOARD:-1].reshape(size + 2, size + 1)[1:-1, 1:].astype(np.int8)

    def action_to_text(self, action: int) -> str:
        """Name a point, column A–T without I then row from the bottom, or ``pass``: GTP's vertices."""
        size = self.law.size
        return "pass" if action == size * size else f"{COLUMNS[action % size]}{size - action // size}"

    def text_to_action(self, text: str) -> int:
        """Read a vertex such as ``E5``, or ``pass``."""
        names = {self.action_to_text(action).lower(): action for action in range(self.n_actions)}
        if text.strip().lower() not in names:
            raise ValueError(f"{text!r} is no move. Write a column (no I) and a row from the bottom, such as C3, or pass.")
        return names[text.strip().lower()]

    def render_text(self, state: np.ndarray) -> str:
        """Draw the board between its letters and numbers."""
        size = self.law.size
        lines = [f"{size - row:2d} {line}" for row, line in enumerate(super().render_text(state).split("\n"))]
        return "\n".join([*lines, "   " + " ".join(COLUMNS[:size])])


class GoEnv(BoardEnv):
    """Go as an env.

    ## Description
    Two players lay stones to surround points; area scoring, no suicide. The env enforces positional superko from its own
    history: no whole-board position may come back.

    ## Action Space
    `Discrete(size * size + 1)`: `size * row + column`, and the last passes.
    `info["action_mask"]` and `action_masks()` show the legal moves; what superko forbids is struck out there, and no
    observation shows it.

    ## Observation Space
    `Box(0, 1, (6, size, size), float32)`: stones of the side to move, stones of the other, the ko point, passes in a row / 2,
    the share of `max_plies` played, ones for black to move; the last three are the same everywhere.

    ## Rewards
    +1 for a move that ends the game won, −1 lost, −1 for an illegal one with `illegal="lose"`, otherwise 0. Without an
    opponent the reward is the mover's; with one it is the agent's, −1 where the opponent's answer wins.

    ## Starting State
    An empty board; black begins.

    ## Episode End
    Terminated by two passes in a row, at `max_plies`, or by an illegal move with `illegal="lose"`.

    ## Arguments
    - `size`: rows and columns, 5 to 19. Default 9.
    - `komi`: points for white. Default 7.5.
    - `max_plies`: the game is scored after so many moves. Default: twice the points of the board.
    - `opponent`: None (two players alternate, the default), "random", or a callable (observation, mask) -> action.
    - `side`: against an opponent "random" (drawn at reset, the default), "first" or "second".
    - `illegal`: "lose" (default) or "error".
    - `render_mode`: None, "ansi", "rgb_array" or "human".

    ## Version History
    - v0: first version.

    :raises ValueError: if an argument is not one of those
    """

    def __init__(
        self,
        size: int = 9,
        komi: float = 7.5,
        max_plies: int | None = None,
        opponent: str | Opponent | None = None,
        side: str = "random",
        illegal: str = "lose",
        render_mode: str | None = None,
    ) -> None:
        super().__init__(Go(size, komi, max_plies), opponent, side, illegal, render_mode)


make_vector = partial(BoardVectorEnv.from_game, Go)
