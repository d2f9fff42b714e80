"""Kuhn poker (Kuhn 1950, "A simplified two-person poker"): the smallest game in which bluffing pays.

Each player antes 1 and gets one card. The first may pass or bet 1; after a bet the other folds (passes) or calls (bets).
With three cards: 12 information sets, the first player loses 1/18 a game, and his equilibria are a family in
α in [0, 1/3]: he bets the jack with α, the king with 3α, and calls with the queen by α + 1/3.
"""

from functools import partial

import numpy as np

from sb3_lecture_envs.checks import finite, whole

from .env import CardEnv, CardVectorEnv, Opponent
from .game import CHANCE, OVER, TURN, HiddenGame, Table, ending

PASS, BET = 0, 1
CARD, PLIES, BETS = 1, 3, 4  # columns: two cards (−1: not dealt), plies played, three actions (−1: not yet)
LETTERS = {3: "JQK", 4: "TJQK", 5: "TJQKA"}


class KuhnPoker(HiddenGame):
    """The rules of Kuhn poker.

    Features [2 + n_cards + 6]: which player one is, one's card, and for each of three plies whether it was a pass or a bet.

    :param n_cards: cards in the deck, of different ranks (default 3)
    :raises ValueError: for less than 2 cards, or more than 10,000
    """

    n_actions = 2
    state_size = 7
    max_payoff = 2.0

    def __init__(self, n_cards: int = 3) -> None:
        self.n_cards = whole("n_cards", n_cards, 2, 10_000)
        self.n_outcomes = self.n_cards
        self.observation_size = 2 + self.n_cards + 6

    def initial(self, n: int) -> np.ndarray:
        """Return n states before the deal."""
        states = np.full((n, self.state_size), -1, np.int64)
        states[:, TURN], states[:, PLIES] = CHANCE, 0
        return states

    def legal(self, states: np.ndarray) -> np.ndarray:
        """Both actions are always legal."""
        return np.repeat(states[:, TURN, None] >= 0, 2, axis=1)

    def chances(self, states: np.ndarray) -> np.ndarray:
        """The cards that are left are equally likely."""
        left = np.arange(self.n_cards) != states[:, CARD, None]  # [n, cards]
        left &= states[:, TURN, None] == CHANCE
        return left / np.maximum(left.sum(axis=1, keepdims=True), 1)

    def step(self, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Deal, pass or bet."""
        states, rows = states.copy(), np.arange(len(states))
        deals = states[:, TURN] == CHANCE
        second = deals & (states[:, CARD] >= 0)
        states[rows[deals], CARD + second[deals]] = actions[deals]
        states[second, TURN] = 0
        plays = ~deals
        ply = states[plays, PLIES]
        states[rows[plays], BETS + ply] = actions[plays]
        states[plays, PLIES] += 1
        first, second_bet = states[:, BETS], states[:, BETS + 1]
        over = (states[:, PLIES] == 3) | ((states[:, PLIES] == 2) & ~((first == PASS) & (second_bet == BET)))
        states[plays, TURN] = np.where(over[plays], OVER, (ply + 1) % 2)
        return states

    def payoffs(self, states: np.ndarray) -> np.ndarray:
        """The pot goes to the higher card, or to the one who has not folded."""
        first, second, third = states[:, BETS], states[:, BETS + 1], states[:, BETS + 2]
        winner = np.where(states[:, CARD] > states[:, CARD + 1], 1.0, -1.0)
        folded = np.where((first == BET) & (second == PASS), 1.0, np.where((second == BET) & (third == PASS), -1.0, 0.0))
        called = ((first == BET) & (second == BET)) | (third == BET)
        return np.where(states[:, TURN] == OVER, np.where(folded != 0, folded, winner * (1 + called)), 0.0)

    def observe(self, states: np.ndarray, players: np.ndarray) -> np.ndarray:
        """Return which player one is, one's card and the bets."""
        rows = np.arange(len(states))
        out = np.zeros((len(states), self.observation_size), np.float32)
        out[rows, players] = 1.0
        cards = states[rows, CARD + players]
        dealt = cards >= 0
        out[rows[dealt], 2 + cards[dealt]] = 1.0
        for ply in range(3):
            played = states[:, BETS + ply] >= 0
            out[rows[played], 2 + self.n_cards + 2 * ply + states[played, BETS + ply]] = 1.0
        return out

    def describe(self, state: np.ndarray, player: int) -> str:
        """Name a card and the plies, p for a pass and b for a bet: ``K:pb``."""
        return f"{self._letter(state[CARD + player])}:{''.join('pb'[a] for a in state[BETS:] if a >= 0)}"

    def action_to_text(self, action: int) -> str:
        """Name an action: pass (check, fold) or bet (call)."""
        return ("pass", "bet")[action]

    def table(self, state: np.ndarray, viewer: int | None = None) -> Table:
        """Return cards, chips and what was played."""
        over = state[TURN] == OVER
        hands = [[self._letter(state[CARD + p]) if over or viewer in (None, p) else "?"] for p in (0, 1)]
        words = [self.action_to_text(a) for a in state[BETS:] if a >= 0]
        story = ", ".join(words) + (f": {ending(float(self.payoffs(state[None])[0]))}" if over else "")
        chips = tuple(1 + int((state[BETS + p :: 2] == BET).sum()) for p in (0, 1))
        return Table((hands[0], hands[1]), [], chips, story)  # type: ignore[arg-type]

    def _letter(self, card: int) -> str:
        return "?" if card < 0 else LETTERS[self.n_cards][card] if self.n_cards in LETTERS else str(card + 1)

    def equilibrium(self, alpha: float = 1.0 / 3.0) -> dict[str, np.ndarray]:
        """Return Kuhn's equilibrium of three cards.

        :param alpha: how often the first player bluffs with the jack, in [0, 1/3]
        :return: information state's name → probabilities of pass and bet, float64 [2]
        :raises ValueError: for another number of cards, or another α
        """
        if self.n_cards != 3:
            return super().equilibrium()
        alpha = finite("alpha", alpha, 0.0, 1.0 / 3.0)
        bets = {
            "J:": alpha, "Q:": 0.0, "K:": 3 * alpha, "J:pb": 0.0, "Q:pb": alpha + 1 / 3, "K:pb": 1.0,
            "J:p": 1 / 3, "Q:p": 0.0, "K:p": 1.0, "J:b": 0.0, "Q:b": 1 / 3, "K:b": 1.0,
        }  # fmt: skip
        return {name: np.array([1.0 - bet, bet]) for name, bet in bets.items()}


class KuhnPokerEnv(CardEnv):
    """Kuhn poker as an env.

    ## Description
    One card each out of three, an ante of 1, and one bet of 1 at most. The smallest game in which bluffing pays: the first
    player loses 1/18 a game between perfect players.

    ## Action Space
    `Discrete(2)`: 0 passes (checks, or folds after a bet), 1 bets (or calls). Both are always legal.

    ## Observation Space
    `Box(0, 1, (2 + n_cards + 6,), float32)`: which player one is, one's card, and for each of three plies
    whether it was a pass or a bet. `info["to_move"]` is the player to move.

    ## Rewards
    Chips won or lost, at the end. Without an opponent the reward is that of the player who has moved last; `info["payoffs"]`
    has both. With one it is the agent's.

    ## Starting State
    Two of the cards, drawn at reset.

    ## Episode End
    Terminated by a fold, a call, or two passes.

    ## Arguments
    - `n_cards`: cards in the deck. Default 3.
    - `opponent`: None (two players alternate, the default), "random", "equilibrium" (three cards), or a callable
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
        n_cards: int = 3,
        opponent: str | Opponent | None = None,
        side: str = "random",
        illegal: str = "lose",
        render_mode: str | None = None,
    ) -> None:
        super().__init__(KuhnPoker(n_cards), opponent, side, illegal, render_mode)


make_vector = partial(CardVectorEnv.from_game, KuhnPoker)
