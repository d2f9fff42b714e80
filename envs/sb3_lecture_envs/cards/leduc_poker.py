"""Leduc poker (Southey et al. 2005, "Bayes' bluff: opponent modelling in poker"): two rounds of betting and a common card.

Six cards, two suits of three ranks. Each player antes 1 and gets one card; a round of betting with raises of 2; a card is
laid open; a second round with raises of 4. At most two raises a round. A pair with the open card wins, otherwise the higher
rank; equal ranks share the pot. Suits are seen though they do not count, as in OpenSpiel: 936 information sets.
"""

from functools import partial

import numpy as np

from sb3_lecture_envs.checks import whole

from .env import CardEnv, CardVectorEnv, Opponent
from .game import CHANCE, OVER, TURN, HiddenGame, Table, ending

FOLD, CALL, RAISE = 0, 1, 2
MAX_RAISES = 2
RAISES = np.array([2, 4])  # chips of a raise in each round
PLIES = 4  # call, raise, raise, call: the longest round
# columns: the two private cards and the open one (−1: not dealt), round, raises and plies of this round, chips put in by each,
# who has folded (−1: nobody), then the plies of both rounds (−1: not yet)
CARD, OPEN, ROUND, N_RAISES, N_PLIES, CHIPS, FOLDED, PLAYED = 1, 3, 4, 5, 6, 7, 9, 10
LETTERS = {3: "JQK", 4: "TJQK", 5: "TJQKA"}


class LeducPoker(HiddenGame):
    """The rules of Leduc poker.

    Features [2 + 2 · cards + 16]: which player one is, one's card, the open card, and for each of four plies of each round
    whether it was a call or a raise.

    :param n_ranks: ranks (default 3)
    :param n_suits: cards of each rank (default 2)
    :raises ValueError: for less than 3 cards, or more than 10,000 of them
    """

    n_actions = 3
    state_size = PLAYED + 2 * PLIES
    max_payoff = float(1 + MAX_RAISES * RAISES.sum())

    def __init__(self, n_ranks: int = 3, n_suits: int = 2) -> None:
        self.n_ranks = whole("n_ranks", n_ranks, 2, 5_000)
        self.n_suits = whole("n_suits", n_suits, 1, 5_000)
        if not 3 <= n_ranks * n_suits <= 10_000:
            raise ValueError(f"n_ranks={n_ranks}, n_suits={n_suits} are {n_ranks * n_suits} cards; give 3 to 10,000")
        self.n_cards = self.n_outcomes = self.n_ranks * self.n_suits
        self.observation_size = 2 + 2 * self.n_cards + 4 * PLIES

    def initial(self, n: int) -> np.ndarray:
        """Return n states before the deal."""
        states = np.full((n, self.state_size), -1, np.int64)
        states[:, TURN] = CHANCE
        states[:, ROUND:CHIPS] = 0
        states[:, CHIPS : CHIPS + 2] = 1
        return states

    def legal(self, states: np.ndarray) -> np.ndarray:
        """Folding needs chips to call, raising a raise that is left; calling (checking) is always legal."""
        mover = np.maximum(states[:, TURN], 0)
        rows = np.arange(len(states))
        behind = states[rows, CHIPS + mover] < states[rows, CHIPS + 1 - mover]
        masks = np.stack([behind, np.ones(len(states), np.bool_), states[:, N_RAISES] < MAX_RAISES], axis=1)
        return masks & (states[:, TURN, None] >= 0)

    def chances(self, states: np.ndarray) -> np.ndarray:
        """The cards that are left are equally likely."""
        cards = np.arange(self.n_cards)
        left = (cards != states[:, CARD, None]) & (cards != states[:, CARD + 1, None]) & (states[:, TURN, None] == CHANCE)
        return left / np.maximum(left.sum(axis=1, keepdims=True), 1)

    def step(self, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """Deal a card, or play."""
        states = states.copy()
        deals = states[:, TURN] == CHANCE
        if deals.any():
            states[deals] = self._deal(states[deals], actions[deals])
        if not deals.all():
            states[~deals] = self._play(states[~deals], actions[~deals])
        return states

    def _deal(self, states: np.ndarray, cards: np.ndarray) -> np.ndarray:
        n_dealt = (states[:, CARD : OPEN + 1] >= 0).sum(axis=1)  # [n]
        states[np.arange(len(states)), CARD + n_dealt] = cards
        states[n_dealt >= 1, TURN] = 0
        opened = n_dealt == 2
        states[opened, ROUND] = 1
        states[opened, N_RAISES : N_PLIES + 1] = 0
        return states

    def _play(self, states: np.ndarray, actions: np.ndarray) -> np.ndarray:
        rows, mover = np.arange(len(states)), states[:, TURN].copy()
        level, plies = states[:, ROUND].copy(), states[:, N_PLIES].copy()
        folds, calls, raises = actions == FOLD, actions == CALL, actions == RAISE
        plays = ~folds
        states[rows[plays], PLAYED + PLIES * level[plays] + plies[plays]] = actions[plays]
        states[folds, FOLDED] = mover[folds]
        other = states[rows, CHIPS + 1 - mover]
        chips = np.where(folds, states[rows, CHIPS + mover], other + np.where(raises, RAISES[level], 0))
        states[rows, CHIPS + mover] = chips
        states[:, N_RAISES] += raises
        states[:, N_PLIES] += 1
        closes = calls & (plies > 0)  # a call closes the round, but for a check that opens it
        over = folds | (closes & (level == 1))
        states[:, TURN] = np.where(over, OVER, np.where(closes, CHANCE, 1 - mover))
        return states

    def payoffs(self, states: np.ndarray) -> np.ndarray:
        """The pot goes to the one who has not folded, to the pair, or to the higher rank."""
        mine, theirs, shared = (states[:, column] // self.n_suits for column in (CARD, CARD + 1, OPEN))
        stronger = np.sign((mine + self.n_ranks * (mine == shared)) - (theirs + self.n_ranks * (theirs == shared)))
        winner = np.where(states[:, FOLDED] >= 0, 2 * states[:, FOLDED] - 1, stronger)  # +1: the first player
        lost = np.where(winner > 0, states[:, CHIPS + 1], states[:, CHIPS])  # equal chips at a showdown
        return np.where(states[:, TURN] == OVER, winner * lost, 0).astype(np.float64)

    def observe(self, states: np.ndarray, players: np.ndarray) -> np.ndarray:
        """Return which player one is, the cards one sees and the bets."""
        rows = np.arange(len(states))
        out = np.zeros((len(states), self.observation_size), np.float32)
        out[rows, players] = 1.0
        for start, cards in ((2, states[rows, CARD + players]), (2 + self.n_cards, states[:, OPEN])):
            dealt = cards >= 0
            out[rows[dealt], start + cards[dealt]] = 1.0
        start = 2 + 2 * self.n_cards
        for ply in range(2 * PLIES):
            played = states[:, PLAYED + ply] >= 0
            out[rows[played], start + 2 * ply + states[played, PLAYED + ply] - CALL] = 1.0
        return out

    def describe(self, state: np.ndarray, player: int) -> str:
        """Name the card, the first round, the open card and the second round: ``K2:rc/J1:c``."""
        rounds = ["".join("fcr"[a] for a in state[s : s + PLIES] if a >= 0) for s in (PLAYED, PLAYED + PLIES)]
        text = f"{self._name(state[CARD + player])}:{rounds[0]}"
        return text if state[OPEN] < 0 else f"{text}/{self._name(state[OPEN])}:{rounds[1]}"

    def action_to_text(self, action: int) -> str:
        """Name an action: fold, call (check) or raise."""
        return ("fold", "call", "raise")[action]

    def table(self, state: np.ndarray, viewer: int | None = None) -> Table:
        """Return cards, chips and what was played."""
        over = state[TURN] == OVER
        shown = over and state[FOLDED] < 0
        hands = [[self._letter(state[CARD + p]) if shown or viewer in (None, p) else "?"] for p in (0, 1)]
        rounds = [[self.action_to_text(a) for a in state[s : s + PLIES] if a >= 0] for s in (PLAYED, PLAYED + PLIES)]
        if over and state[FOLDED] >= 0:
            rounds[state[ROUND]].append("fold")
        story = " | ".join(", ".join(words) for words in rounds[: state[ROUND] + 1])
        story += f": {ending(float(self.payoffs(state[None])[0]))}" if over else ""
        public = [] if state[OPEN] < 0 else [self._letter(state[OPEN])]
        return Table((hands[0], hands[1]), public, (int(state[CHIPS]), int(state[CHIPS + 1])), story)

    def _letter(self, card: int) -> str:
        rank = card // self.n_suits
        return "?" if card < 0 else LETTERS[self.n_ranks][rank] if self.n_ranks in LETTERS else str(rank + 1)

    def _name(self, card: int) -> str:
        return f"{self._letter(card)}{card % self.n_suits + 1}"


class LeducPokerEnv(CardEnv):
    """Leduc poker as an env.

    ## Description
    Two rounds of betting, a private card each and an open one between the rounds: 936 information sets.

    ## Action Space
    `Discrete(3)`: 0 folds, 1 calls or checks, 2 raises. `info["action_mask"]` and `action_masks()` show the legal moves:
    folding needs chips to call, and a round has two raises.

    ## Observation Space
    `Box(0, 1, (2 + 2 * n_ranks * n_suits + 16,), float32)`: which player one is, one's card, the open card, and
    for each of four plies of each round whether it was a call or a raise. `info["to_move"]` is the player to move.

    ## Rewards
    Chips won or lost (at most 13), at the end. Without an opponent the reward is that of the player who has moved last;
    `info["payoffs"]` has both. With one it is the agent's. An illegal move with `illegal="lose"` loses 13.

    ## Starting State
    Two of the cards, drawn at reset.

    ## Episode End
    Terminated by a fold, by the call that ends the second round, or by an illegal move with `illegal="lose"`.

    ## Arguments
    - `n_ranks`, `n_suits`: the deck. Default 3 and 2.
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
        n_ranks: int = 3,
        n_suits: int = 2,
        opponent: str | Opponent | None = None,
        side: str = "random",
        illegal: str = "lose",
        render_mode: str | None = None,
    ) -> None:
        super().__init__(LeducPoker(n_ranks, n_suits), opponent, side, illegal, render_mode)


make_vector = partial(CardVectorEnv.from_game, LeducPoker)
