"""Grid laws: from an ASCII map to a TabularMDP and the layout that pictures and grid observations need."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numba
import numpy as np

from sb3_lecture_envs.checks import finite, flag
from sb3_lecture_envs.mdp import TabularMDP

#: row and column change of each action, Gymnasium's order: 0 up, 1 right, 2 down, 3 left; [4, 2]
MOVES = np.array([(-1, 0), (0, 1), (1, 0), (0, -1)])
ARROWS = "↑→↓←"

WALL, FREE, START, GOAL, PIT, END, CLIFF = "#", ".", "S", "G", "P", "T", "C"
#: what each symbol of a map means
SYMBOLS = {
    WALL: "wall",
    FREE: "free cell",
    START: "start",
    GOAL: "goal: +1 on arrival, ends the episode",
    PIT: "pit: -1 on arrival, ends the episode",
    END: "end of the episode without a reward of its own",
}
#: reward of entering a symbol, besides the reward of the step
ARRIVAL_REWARD = {GOAL: 1.0, PIT: -1.0}
TERMINAL_SYMBOLS = (GOAL, PIT, END)
#: what a cell shows in text, and where the agent is; a free cell of a line is a dash, as the treasure demo draws it
SIGNS = {WALL: "#", FREE: ".", START: ".", GOAL: "T", PIT: "x", END: "T", CLIFF: "x"}
AGENT_SIGN = "o"


@dataclass(frozen=True, eq=False)
class GridLayout:
    """Where the states of a grid world lie.

    :param symbols: the map, one symbol a cell, str [height, width]
    :param cells: row and column of each state, int32 [S, 2]; every cell that is no wall, in reading order
    :param actions: the sign of each action in text, one character each
    """

    symbols: np.ndarray
    cells: np.ndarray
    actions: str = ARROWS
    _state_of: np.ndarray = field(init=False, repr=False)

    def __post_init__(self) -> None:
        state_of = np.full(self.symbols.shape, -1, dtype=np.int32)
        state_of[tuple(self.cells.T)] = np.arange(len(self.cells))
        object.__setattr__(self, "_state_of", state_of)

    @property
    def height(self) -> int:
        """Rows of the map."""
        return self.symbols.shape[0]

    @property
    def width(self) -> int:
        """Columns of the map."""
        return self.symbols.shape[1]

    @property
    def state_of(self) -> np.ndarray:
        """State number of each cell, -1 at walls, int32 [height, width]."""
        return self._state_of

    def text(self, state: int) -> str:
        """The map with the agent in a state, one line a row: ``o`` the agent, ``T`` the treasure, ``x`` what costs."""
        line = self.height == 1
        rows = [["-" if line and symbol in ".S" else SIGNS.get(symbol, symbol) for symbol in row] for row in self.symbols]
        row, column = self.cells[state]
        rows[row][column] = AGENT_SIGN
        width = max(len(sign) for signs in rows for sign in signs)
        return "\n".join(("" if line else " ").join(sign.rjust(width) for sign in signs) for signs in rows)

    @property
    def state_symbols(self) -> np.ndarray:
        """The symbol of each state, str [S]."""
        return self.symbols[tuple(self.cells.T)]

    def to_cells(self, per_state: np.ndarray, fill: float = np.nan) -> np.ndarray:
        """Spread one number a state over the map.

        :param per_state: [S]
        :param fill: value at walls
        :return: float64 [height, width]
        """
        out = np.full(self.symbols.shape, fill, dtype=np.float64)
        out[tuple(self.cells.T)] = per_state
        return out


def parse_map(rows: str | Sequence[Any] | np.ndarray, extra_symbols: str = "") -> np.ndarray:
    """Read an ASCII map.

    Each character is a cell; where rows hold spaces, each word is a cell, so that rewards of several digits or with a
    sign fit (``"S . -5 G"``). Numbers are rewards of arriving in a cell.

    :param rows: one string with line breaks, one string a row, or one list or array of symbols a row (Gymnasium's FrozenLake
        keeps its map as an array of bytes)
    :param extra_symbols: symbols allowed besides ``SYMBOLS`` and numbers
    :return: the symbols, str [height, width]
    :raises TypeError: if it is neither text nor rows of text
    :raises ValueError: if the map is empty or ragged or holds an unknown symbol
    """
    if isinstance(rows, (str, bytes)):
        given: list[Any] = _text(rows).strip().splitlines()
    elif isinstance(rows, (Sequence, np.ndarray)):
        given = list(rows)
    else:
        raise TypeError(f"map={rows!r} must be text: one string with line breaks, or one string a row")
    words = [_symbols(row) for row in given]
    if not words or not words[0]:
        raise ValueError(f"The map {rows!r} is empty; give one string a row, such as ['S.', '.G']")
    for i, row in enumerate(words):
        if len(row) != len(words[0]):
            raise ValueError(
                f"Row {i} of the map ({given[i]!r}) has {len(row)} cells, row 0 has {len(words[0])}; make all equal"
            )
        for symbol in row:
            if symbol not in SYMBOLS and symbol not in extra_symbols and not _is_number(symbol):
                allowed = ", ".join(f"{key!r} {meaning}" for key, meaning in SYMBOLS.items())
                raise ValueError(f"Unknown symbol {symbol!r} in row {i} of the map; allowed: {allowed}, or a number (reward)")
    return np.array(words)


def _text(piece: Any) -> str:
    if isinstance(piece, bytes):
        return piece.decode("utf-8", errors="replace")
    if isinstance(piece, bool) or not isinstance(piece, (str, int, float, np.number)):
        raise TypeError(f"{piece!r} in the map must be text (or a number, the reward of arriving there)")
    return str(piece)


def _symbols(row: Any) -> list[str]:
    """The symbols of one row of a map."""
    if isinstance(row, (str, bytes)):
        line = _text(row).strip()
        return line.split() if " " in line else list(line)
    if isinstance(row, (Sequence, np.ndarray)) and np.ndim(row) == 1:
        return [_text(cell).strip() for cell in row]
    raise TypeError(f"Row {row!r} of the map must be text, or a list of symbols")


def _is_number(symbol: str) -> bool:
    try:
        return bool(np.isfinite(float(symbol)))
    except ValueError:
        return False


def grid_mdp(
    symbols: np.ndarray,
    slip: float = 0.0,
    step_reward: float = 0.0,
    cliff_reward: float = -100.0,
    cliff_terminates: bool = False,
) -> tuple[TabularMDP, GridLayout]:
    """State the law of a grid map.

    A move against a wall or the border leaves the agent where it is. Each step pays ``step_reward``, and arriving in
    another cell pays what the cell's symbol says on top. A cliff cell pays ``cliff_reward`` instead and sends the agent
    back to the start, or ends the episode. Without a start symbol, episodes start in any cell that ends none, uniformly.

    ``action_mask`` hides the moves that lead nowhere; with ``slip`` every move can be of use, so all are shown.

    :param symbols: str [height, width], see ``parse_map``
    :param slip: probability that the agent moves at a right angle to the action instead, half to each side; in [0, 1]
    :param step_reward: reward of every step
    :param cliff_reward: reward of entering a cliff cell
    :param cliff_terminates: whether a cliff ends the episode instead of leading back to the start
    :return: the law and its layout
    :raises ValueError: if ``slip`` is outside [0, 1], or no end can be reached from a start
    """
    slip, step_reward = finite("slip", slip, 0.0, 1.0), finite("step_reward", step_reward)
    cliff_reward = finite("cliff_reward", cliff_reward)
    cliff_terminates = flag("cliff_terminates", cliff_terminates)
    height, width = symbols.shape
    cells = np.argwhere(symbols != WALL).astype(np.int32)  # [S, 2]
    if not len(cells):
        raise ValueError(f"The map {[''.join(row) for row in symbols]} is all walls; leave a cell free, and one to end in")
    layout = GridLayout(symbols, cells)
    state_symbols = layout.state_symbols  # [S]
    n_states = len(cells)
    everyone = np.arange(n_states)

    terminal = np.isin(state_symbols, TERMINAL_SYMBOLS) | (cliff_terminates & (state_symbols == CLIFF))
    start = np.flatnonzero(state_symbols == START)
    if start.size == 0:
        start = np.flatnonzero(~terminal & (state_symbols != CLIFF))
    if start.size == 0:
        raise ValueError(
            f"The map {[''.join(row) for row in symbols]} has no cell to start in; leave one that ends no episode"
        )

    # where each move leads: [S, 4]
    target = cells[:, None, :] + MOVES[None]  # [S, 4, 2]
    inside = ((target >= 0) & (target < (height, width))).all(axis=2)
    target = np.where(inside[..., None], target, cells[:, None, :])
    moved_to = layout.state_of[target[..., 0], target[..., 1]]
    moved_to = np.where(moved_to < 0, everyone[:, None], moved_to)
    if not _ends_reachable(moved_to, terminal)[start].all():
        raise ValueError(
            "No reachable terminal: from some start no 'G', 'P' or 'T' can be reached, so episodes would never end; "
            f"the map is {[''.join(row) for row in symbols]}"
        )

    # what each move pays and does: [S, 4]
    arrival = np.array([float(x) if _is_number(x) else ARRIVAL_REWARD.get(x, 0.0) for x in state_symbols])
    reward = step_reward + np.where(moved_to != everyone[:, None], arrival[moved_to], 0.0)
    falls = (state_symbols[moved_to] == CLIFF) & (state_symbols != CLIFF)[:, None]
    reward = np.where(falls, cliff_reward, reward)
    next_state = moved_to if cliff_terminates else np.where(falls, start[0] if start.size else 0, moved_to)
    ends = terminal[next_state]
    next_state, reward, ends = (
        np.where(terminal[:, None], everyone[:, None], next_state),
        np.where(terminal[:, None], 0.0, reward),
        np.where(terminal[:, None], True, ends),
    )
    mask = moved_to != everyone[:, None]
    mask |= ~mask.any(axis=1, keepdims=True)  # a walled-in cell keeps all its moves

    # an action draws its direction: itself, or at a right angle
    if slip == 0.0:
        directions, chances = np.arange(4)[:, None], np.ones(1)  # [4, 1], [1]
    else:
        directions = np.arange(4)[:, None] + np.array([0, -1, 1])
        directions, chances = directions % 4, np.array([1.0 - slip, slip / 2, slip / 2])  # [4, 3], [3]
    k = chances.size
    mdp = TabularMDP(
        n_states,
        4,
        row_ptr=np.arange(0, n_states * 4 * k + 1, k),
        next_state=next_state[:, directions].ravel(),
        prob=np.tile(chances, n_states * 4),
        reward=reward[:, directions].ravel(),
        terminated=ends[:, directions].ravel(),
        start_state=start,
        start_prob=np.full(start.size, 1.0 / start.size),
        action_mask=mask if slip == 0.0 else None,
    )
    return mdp, layout


def line_mdp(n_cells: int, start: int, end_rewards: dict[int, float], symbols: Sequence[str]) -> tuple[TabularMDP, GridLayout]:
    """State the law of a line of cells with the actions 0 left and 1 right.

    :param n_cells: number of states
    :param start: where episodes start
    :param end_rewards: cells that end the episode, and the reward of entering each; every other step pays 0
    :param symbols: one map symbol a cell
    :return: the law and its layout (one row)
    """
    s = np.arange(n_cells)
    next_state = np.clip(s[:, None] + np.array([-1, 1]), 0, n_cells - 1)  # [S, 2]
    pays = np.zeros(n_cells)
    pays[list(end_rewards)] = list(end_rewards.values())
    terminal = np.isin(s, list(end_rewards))
    next_state[terminal] = s[terminal, None]
    reward = np.where(terminal[:, None], 0.0, pays[next_state])
    mask = (next_state != s[:, None]) | terminal[:, None]
    mdp = TabularMDP(
        n_cells, 2, np.arange(2 * n_cells + 1), next_state.ravel(), np.ones(2 * n_cells), reward.ravel(),
        terminal[next_state].ravel(), [start], [1.0], action_mask=mask,
    )  # fmt: skip
    cells = np.stack([np.zeros(n_cells, dtype=np.int32), s.astype(np.int32)], axis=1)
    return mdp, GridLayout(np.array([list(symbols)]), cells, actions="←→")


@numba.njit(cache=True)
def _flood(neighbours: np.ndarray, seen: np.ndarray) -> None:
    room = np.empty(neighbours.shape[0], dtype=np.int64)  # a loop: numba takes two seconds to compile np.flatnonzero
    depth = 0
    for s in range(seen.shape[0]):
        if seen[s]:
            room[depth] = s
            depth += 1
    while depth > 0:
        depth -= 1
        for t in neighbours[room[depth]]:
            if not seen[t]:
                seen[t] = True
                room[depth] = t
                depth += 1


def _ends_reachable(neighbours: np.ndarray, terminal: np.ndarray) -> np.ndarray:
    """States from which a terminal state can be reached, bool [S]; moves between cells go both ways."""
    seen = terminal.copy()
    _flood(neighbours, seen)
    return seen
