"""The HiddenGame protocol: two-player zero-sum games with chance and hidden information, as pure functions on integer arrays.

No Python object stands for a state: a state is one row of integers, whose first number says who moves,

    state[TURN]   0 or 1: that player; CHANCE: nature, by known probabilities; OVER: nobody, the payoffs stand

and what follows is the game's own business. All functions take many states at once and return new arrays. Players who cannot
see a difference between two states get the same ``observe`` in both: what it shows is the player's *information state*, all
that this player has seen and done (perfect recall), so that a policy over observations is a behaviour strategy.

Moves made at the same time are moves made one after the other that the second player cannot see.
"""

from abc import ABC, abstractmethod

import numpy as np

TURN = 0
CHANCE, OVER = -1, -2
PLAYERS = ("first", "second")

__all__ = ["CHANCE", "OVER", "PLAYERS", "TURN", "HiddenGame"]


class HiddenGame(ABC):
    """The rules of one game.

    :ivar n_actions: number of actions A; in most states some are illegal
    :ivar n_outcomes: number of nature's outcomes C, at least 1
    :ivar state_size: integers a state
    :ivar observation_size: length O of an information state's features
    :ivar max_payoff: the most that a player can win
    """

    n_actions: int
    n_outcomes: int
    state_size: int
    observation_size: int
    max_payoff: float

    @abstractmethod
    def initial(self, n: int) -> np.ndarray:
        """Return n states at the start, int64 [n, state_size]."""

    @abstractmethod
    def legal(self, states: np.ndarray) -> np.ndarray:
        """Return the legal actions of the player to move, bool [n, A]; all False where no player moves."""

    @abstractmethod
    def chances(self, states: np.ndarray) -> np.ndarray:
        """Return the probabilities of nature's outcomes, float64 [n, C]; all 0 where nature does not move."""

    @abstractmethod
    def step(self, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Return the next states; the actions int [n] are nature's outcomes where it moves. Nothing is checked here."""

    @abstractmethod
    def payoffs(self, states: np.ndarray) -> np.ndarray:
        """Return the first player's payoff, float64 [n], 0 while the game goes on; the second's is its negative."""

    @abstractmethod
    def observe(self, states: np.ndarray, players: np.ndarray) -> np.ndarray:
        """Return what given players (int [n], 0 or 1) know, float32 [n, O] of zeros and ones."""

    @abstractmethod
    def describe(self, state: np.ndarray, player: int) -> str:
        """Name a player's information state in a few letters, such as ``K:pb``: its cards, then what was played."""

    @abstractmethod
    def action_to_text(self, action: int) -> str:
        """Name an action in a word."""

    @abstractmethod
    def table(self, state: np.ndarray, viewer: int | None = None) -> "Table":
        """Return what lies on the table, for text and picture; ``viewer`` sees no more than that player does."""

    def text_to_action(self, text: str) -> int:
        """Read an action's name, or the beginning of one.

        :raises ValueError: if it names none
        """
        names = [self.action_to_text(action) for action in range(self.n_actions)]
        found = [a for a, name in enumerate(names) if text.strip() and name.startswith(text.strip().lower())]
        if len(found) != 1:
            raise ValueError(f"{text!r} is no move. Write one of: {', '.join(names)}.")
        return found[0]

    def equilibrium(self) -> dict[str, np.ndarray]:
        """Return a known equilibrium: information state's name → probabilities float64 [A].

        :raises ValueError: if none is known in closed form
        """
        raise ValueError(
            f"no equilibrium of {type(self).__name__} is known in closed form; sb3_lecture.CFRPlus computes one, and its "
            "model plays as an opponent"
        )

    def render_text(self, state: np.ndarray, viewer: int | None = None) -> str:
        """Draw the table as text."""
        table = self.table(state, viewer)
        lines = [
            f"{name:6} {' '.join(f'[{card}]' for card in cards)}  {chips} in the pot" if chips else
            f"{name:6} {' '.join(f'[{card}]' for card in cards)}"
            for name, cards, chips in zip(PLAYERS, table.hands, table.chips, strict=True)
        ]  # fmt: skip
        if table.public:
            lines.append(f"{'table':6} {' '.join(f'[{card}]' for card in table.public)}")
        return "\n".join([*lines, table.story])


class Table:
    """What lies on the table.

    :param hands: the cards of both players, one letter each, "?" face down
    :param public: cards in the middle
    :param chips: what each player has put in
    :param story: what was played, and how it ended, in words
    """

    def __init__(self, hands: tuple[list[str], list[str]], public: list[str], chips: tuple[int, int], story: str) -> None:
        self.hands, self.public, self.chips, self.story = hands, public, chips, story


def ending(payoff: float) -> str:
    """Say in words who won how much."""
    return "a draw" if payoff == 0 else f"{PLAYERS[0 if payoff > 0 else 1]} wins {abs(payoff):g}"
