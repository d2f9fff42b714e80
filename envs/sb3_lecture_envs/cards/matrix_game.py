"""Matrix games: both choose at once, one table of payoffs; rock, paper, scissors by default.

The second player moves after the first and cannot see the move, which is the same game.
"""

from functools import partial
from typing import Any

import numpy as np

from .env import CardEnv, CardVectorEnv, Opponent
from .game import OVER, TURN, HiddenGame, Table, ending

ROCK_PAPER_SCISSORS = ((0, -1, 1), (1, 0, -1), (-1, 1, 0))
NAMES = ("rock", "paper", "scissors")


class MatrixGame(HiddenGame):
    """A zero-sum game given as a table.

    Features [2]: which player one is.

    :param payoffs: what the first player wins, [rows, columns]: his actions by the second's (default rock, paper, scissors)
    :raises ValueError: if it is no table of finite numbers
    """

    n_outcomes = 1
    state_size = 3  # who moves, and the two moves (−1: not yet)
    observation_size = 2

    def __init__(self, payoffs: Any = ROCK_PAPER_SCISSORS) -> None:
        try:
            table = np.array(payoffs, np.float64)
        except (TypeError, ValueError) as error:
            raise ValueError(f"payoffs={payoffs!r} must be a table of numbers, a row an action of the first player") from error
        if table.ndim != 2 or table.size == 0 or not np.isfinite(table).all() or max(table.shape) > 10_000:
            raise ValueError(
                f"payoffs of shape {table.shape} must be a table [rows, columns] of finite numbers, with 1 to 10,000 of each"
            )
        self.payoff_table = table
        self.n_actions = max(table.shape)
        self.max_payoff = float(np.abs(table).max())
        self.is_rock_paper_scissors = table.shape == (3, 3) and np.array_equal(np.sign(table), ROCK_PAPER_SCISSORS)

    def initial(self, n: int) -> np.ndarray:
        """Return n states before the first move."""
        return np.tile(np.array([0, -1, -1], np.int64), (n, 1))

    def legal(self, states: np.ndarray) -> np.ndarray:
        """The first player's actions are the rows, the second's the columns."""
        n_rows, n_columns = self.payoff_table.shape
        size = np.where(states[:, TURN, None] == 0, n_rows, n_columns)  # [n, 1]
        return (np.arange(self.n_actions) < size) & (states[:, TURN, None] >= 0)

    def chances(self, states: np.ndarray) -> np.ndarray:
        """Nature never moves."""
        return np.zeros((len(states), 1))

    def step(self, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Choose."""
        states, rows = states.copy(), np.arange(len(states))
        mover = states[:, TURN].copy()
        states[rows, 1 + mover] = actions
        states[:, TURN] = np.where(mover == 0, 1, OVER)
        return states

    def payoffs(self, states: np.ndarray) -> np.ndarray:
        """Look the pair of actions up."""
        return np.where(states[:, TURN] == OVER, self.payoff_table[states[:, 1], states[:, 2]], 0.0)

    def observe(self, states: np.ndarray, players: np.ndarray) -> np.ndarray:
        """Return which player one is: nothing else is known."""
        return np.eye(2, dtype=np.float32)[players]

    def describe(self, state: np.ndarray, player: int) -> str:
        """Name the player."""
        return ("first", "second")[player]

    def action_to_text(self, action: int) -> str:
        """Name an action: rock, paper, scissors, or its number from 1."""
        return NAMES[action] if self.is_rock_paper_scissors else str(action + 1)

    def table(self, state: np.ndarray, viewer: int | None = None) -> Table:
        """Return what was chosen."""
        over = state[TURN] == OVER
        shown = [
            [] if a < 0 else [self.action_to_text(a)[0].upper() if self.is_rock_paper_scissors else str(a + 1)]
            if over or viewer in (None, p) else ["?"]
            for p, a in enumerate(state[1:])
        ]  # fmt: skip
        return Table((shown[0], shown[1]), [], (0, 0), ending(float(self.payoffs(state[None])[0])) if over else "choose")

    def equilibrium(self) -> dict[str, np.ndarray]:
        """Return the equilibrium of rock, paper, scissors: each a third.

        :raises ValueError: for another table
        """
        if not np.array_equal(self.payoff_table, ROCK_PAPER_SCISSORS):
            return super().equilibrium()
        return {name: np.full(3, 1 / 3) for name in ("first", "second")}


class MatrixGameEnv(CardEnv):
    """Rock, paper, scissors, or any zero-sum game of one move each, as an env.

    ## Description
    Both choose at once; the table says who wins what.

    ## Action Space
    `Discrete(n)`: the first player's rows, the second's columns; by default 0 rock, 1 paper, 2 scissors. Where there are fewer
    columns than rows (or the reverse), `action_masks()` shows the legal ones.

    ## Observation Space
    `Box(0, 1, (2,), float32)`: which player one is.

    ## Rewards
    The payoff, at the end. Without an opponent the reward is that of the second player, who moves last; `info["payoffs"]` has
    both. With one it is the agent's.

    ## Starting State
    Nobody has chosen.

    ## Episode End
    Terminated when both have chosen.

    ## Arguments
    - `payoffs`: what the first player wins, a table [rows, columns]. Default rock, paper, scissors.
    - `opponent`: None (two players alternate, the default), "random", "equilibrium" (rock, paper, scissors), or a callable
      (observation, mask) -> action.
    - `side`: against an opponent "random" (drawn at reset, the default), "first" or "second".
    - `illegal`: "lose" (default) or "error".
    - `render_mode`: None, "ansi", "rgb_array" or "human".

    ## Version History
    - v0: first version.

    :raises ValueError: if an argument is not one of those
    """

    def __init__(
        self,
        payoffs: Any = ROCK_PAPER_SCISSORS,
        opponent: str | Opponent | None = None,
        side: str = "random",
        illegal: str = "lose",
        render_mode: str | None = None,
    ) -> None:
        super().__init__(MatrixGame(payoffs), opponent, side, illegal, render_mode)


make_vector = partial(CardVectorEnv.from_game, MatrixGame)
