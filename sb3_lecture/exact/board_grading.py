"""How strong a player of a board game is: matches, every line of play, the share of optimal moves, Elo between checkpoints.

A *player* is a callable (observations [n, planes, H, W], masks bool [n, A]) -> legal actions int [n]. ``model_player`` makes
one of any SB3 model, or of its policy: for a model that searches, ``model`` plays with the search and ``model.policy`` is the
raw network.
"""

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sb3_lecture.common.callbacks import PeriodicEvaluation
from sb3_lecture.common.opponents import legal_actions
from sb3_lecture_envs.board.game import PLY, Game
from sb3_lecture_envs.board.players import ILLEGAL, RandomPlayer, optimal_moves

Player = Callable[[np.ndarray, np.ndarray], np.ndarray]
BATCH = 512  # positions shown to a player at once


class Record(NamedTuple):
    """Results of one side: numbers of games, or of ends of lines of play."""

    wins: int
    draws: int
    losses: int

    @property
    def score(self) -> float:
        """Wins and half the draws, as a share."""
        return (self.wins + 0.5 * self.draws) / max(1, sum(self))


def model_player(model: Any, seed: int | None = 0) -> Player:
    """Make a player of a model that takes its best legal move.

    :param model: any SB3 model with discrete actions, or a policy whose ``predict`` takes ``action_masks``
    :param seed: of random moves, where a model gives none that is legal
    """
    return partial(legal_actions, model, deterministic=True, rng=np.random.default_rng(seed))


def random_player(seed: int | None = None) -> Player:
    """Make a player that draws among the legal moves."""
    rng = np.random.default_rng(seed)

    def play(observations: np.ndarray, masks: np.ndarray) -> np.ndarray:
        return ((1.0 - rng.random(masks.shape)) * masks).argmax(axis=1)

    return play


def perfect_player(game: Game, seed: int | None = None) -> Player:
    """Make a player that draws among the optimal moves.

    :raises ValueError: where the game has no exact solver
    """
    return game.perfect_player(seed).batch


def ask(game: Game, player: Player, states: np.ndarray) -> np.ndarray:
    """Return a player's moves in unfinished states, int [n].

    :raises ValueError: for an illegal move
    """
    masks = game.legal(states)
    parts = [slice(i, i + BATCH) for i in range(0, len(states), BATCH)]
    moves = [np.asarray(player(game.observe(states[part]), masks[part]), np.int64) for part in parts]
    actions = np.concatenate(moves) if moves else np.zeros(0, np.int64)
    fair = masks[np.arange(len(states)), actions]
    if not fair.all():
        i = int(fair.argmin())
        raise ValueError(f"Move {actions[i]} is illegal in state {states[i].tolist()}.")
    return actions


def play_match(
    game: Game, players: tuple[Player, Player], n_games: int, seed: int | None = None, random_plies: int = 0
) -> Record:
    """Play games, the first of the players moving first in every other one; the record is that player's.

    :param game: the rules
    :param players: the two sides
    :param n_games: how many
    :param seed: of the opening moves
    :param random_plies: first moves of every game that are drawn at random, the same for games 2 k and 2 k + 1, so that
        both sides play each opening (two players without chance would play the same games again and again)
    """
    states = game.initial(n_games)
    rng = np.random.default_rng(seed)
    side = np.arange(n_games) % 2  # [n], which ply (mod 2) is the first player's
    result, alive = np.zeros(n_games), np.ones(n_games, np.bool_)  # result to the first of the players
    while alive.any():
        rows = np.flatnonzero(alive)
        ply = int(states[rows[0], PLY])  # all unfinished games are equally old
        masks = game.legal(states[rows])
        actions = np.zeros(len(rows), np.int64)
        if ply < random_plies:
            keys = rng.random(((n_games + 1) // 2, masks.shape[1]))[rows // 2]  # one draw for both games of a pair
            actions = np.where(masks, keys, -1.0).argmax(axis=1)
        else:
            for k, player in enumerate(players):
                mine = (side[rows] == ply % 2) == (k == 0)
                actions[mine] = ask(game, player, states[rows[mine]])
        states[rows], rewards, terminated = game.step(states[rows], actions)
        result[rows] = np.where(side[rows] == ply % 2, rewards, -rewards)
        alive[rows] = ~terminated
    return Record(int((result > 0).sum()), int((result == 0).sum()), int((result < 0).sum()))


def all_lines(game: Game, player: Player, side: int) -> Record:
    """Let one side play against every reply, and count the distinct ends: a perfect player of a drawn game loses none.

    :param game: the rules, of a small game
    :param player: answers the same in the same state
    :param side: 0 moves first, 1 second
    """
    level = game.initial(1)
    counts = np.zeros(3, np.int64)
    while len(level):
        if int(level[0, PLY]) % 2 == side:
            rows, actions = np.arange(len(level)), ask(game, player, level)
        else:
            rows, actions = np.nonzero(game.legal(level))
        states, rewards, terminated = game.step(level[rows], actions)
        first = np.unique(states[terminated], axis=0, return_index=True)[1]  # two lines of play may end alike
        outcome = rewards[terminated][first] * (1 if int(level[0, PLY]) % 2 == side else -1)
        counts += (outcome > 0).sum(), (outcome == 0).sum(), (outcome < 0).sum()
        level = np.unique(states[~terminated], axis=0)
    return Record(*counts.tolist())


def optimal_share(game: Game, player: Player | None, states: np.ndarray | None = None, critical: bool = False) -> float:
    """Return the share of states in which a player's move keeps the win, draw or loss that the state is worth.

    :param game: the rules, with an exact solver
    :param player: to be graded; None: a random mover, exactly: the mean share of legal moves that are optimal. In many games
        most moves are, so that this is the figure to read the others by
    :param states: int [n, state_size], unfinished; None: all that play can reach, in a game solved in full
    :param critical: whether only states count in which some legal move is not optimal (default False: all)
    :return: NaN where no state counts
    """
    grader = game.grader()
    states = np.concatenate(grader.states) if states is None else states
    values = grader.move_values(states)  # int [n, A]
    best = optimal_moves(values)  # bool [n, A]
    legal = values != ILLEGAL
    if critical:
        counts = (best != legal).any(axis=1)
        states, best, legal = states[counts], best[counts], legal[counts]
    if not len(states):
        return float("nan")
    if player is None:
        return float((best.sum(axis=1) / legal.sum(axis=1)).mean())
    return float(best[np.arange(len(states)), ask(game, player, states)].mean())


class _Checkpoint:
    """A model with the parameters that it had once.

    :param model: whose policy alone decides
    :param weights: these parameters; None: the present ones
    :param raw: whether the raw network plays
    """

    def __init__(self, model: Any, weights: dict[str, Any] | None = None, raw: bool = False) -> None:
        self.model, self.play = model, model_player(model.policy if raw else model)
        self.weights = deepcopy(model.policy.state_dict()) if weights is None else weights

    def __call__(self, observations: np.ndarray, masks: np.ndarray) -> np.ndarray:
        present = deepcopy(self.model.policy.state_dict())
        self.model.policy.load_state_dict(self.weights)
        try:
            return self.play(observations, masks)
        finally:
            self.model.policy.load_state_dict(present)


class BoardEvalCallback(PeriodicEvaluation):
    """Grade a board player while it learns.

    Logs ``board/<opponent>_win``, ``_draw``, ``_loss`` against each opponent, half of the games with each side, and
    ``board/elo``: the first checkpoint has 0, each further one plays the last few from random openings and is placed where
    the sum of its results is expected, with rating differences D scoring 1 / (1 + 10^(−D/400)) (Elo 1978).
    ``last`` holds the newest figures, ``evaluations`` all of them with their timesteps.

    :param eval_freq: env steps between two evaluations, all envs together (default 20,000)
    :param n_games: games against each opponent (default 100)
    :param opponents: "random", "perfect", or players; "perfect" is left out where the game has no exact solver. Default
        both words
    :param n_checkpoints: past checkpoints that a new one plays for its rating; 0: no rating (default 3)
    :param random_plies: drawn moves that begin a rated game (default 2)
    :param raw: whether ``model.policy``, the raw network, is graded rather than the model (default False)
    :param seed: of opponents and openings (default 0)
    :param log_path: file that gets ``evaluations`` as an .npz, ``timesteps`` and one array a figure; None: none
    :param verbose: 1 prints each evaluation
    :raises ValueError: if ``eval_freq`` or ``n_games`` is less than 1; at the start of training, where the env plays no
        board game
    """

    def __init__(
        self,
        eval_freq: int = 20_000,
        n_games: int = 100,
        opponents: Sequence[str | Player] = ("random", "perfect"),
        n_checkpoints: int = 3,
        random_plies: int = 2,
        raw: bool = False,
        seed: int = 0,
        log_path: str | Path | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(eval_freq, log_path, verbose)
        if n_games < 1:
            raise ValueError(f"{n_games=} must be at least 1")
        self.n_games, self.opponents = n_games, list(opponents)
        self.n_checkpoints, self.random_plies, self.raw, self.seed = n_checkpoints, random_plies, raw, seed
        self.last: dict[str, float] = {}
        self.evaluations: list[tuple[int, dict[str, float]]] = []
        self._past: list[tuple[dict[str, Any], float]] = []  # newest last: parameters, and their rating
        self._generators: dict[str, np.random.Generator] = {}  # of the opponents

    #: what a resumed run goes on with
    resume_names = ("_past", "_generators", "last")

    def _prepare(self) -> None:
        found = self.training_env.get_attr("game", [0])[0] if self.training_env.has_attr("game") else None
        if not isinstance(found, Game):
            raise ValueError("BoardEvalCallback grades board games; for a TabularMDP there is ExactEvalCallback")
        self.game = found
        self._players: dict[str, Player] = {}
        if self.model.num_timesteps == 0:
            self._generators = {}
        for opponent in self.opponents:
            if callable(opponent):
                self._players[getattr(opponent, "__name__", type(opponent).__name__)] = opponent
            elif opponent == "random":
                self._play_on("random", RandomPlayer(self.seed))
            elif opponent == "perfect":
                try:
                    self._play_on("perfect", self.game.perfect_player(self.seed))
                except ValueError:  # no exact solver
                    continue
            else:
                raise ValueError(f"{opponent!r} is no opponent: give 'random', 'perfect' or a player")

    def _play_on(self, name: str, player: Any) -> None:
        """Let an opponent draw on from where it was, in training that goes on."""
        player.rng = self._generators.setdefault(name, player.rng)
        self._players[name] = player.batch

    def _evaluate(self, timesteps: int) -> dict[str, Any]:
        player = model_player(self.model.policy if self.raw else self.model)
        self.last = {}
        for name, opponent in self._players.items():
            record = play_match(self.game, (player, opponent), self.n_games, self.seed)
            for what, n in zip(("win", "draw", "loss"), record, strict=True):
                self.last[f"{name}_{what}"] = n / self.n_games
        if self.n_checkpoints > 0:
            self.last["elo"] = self._rate(player)
        self.evaluations.append((timesteps, self.last))
        for name, figure in self.last.items():
            self.logger.record(f"board/{name}", figure)
        if self.verbose > 0:
            print(f"{timesteps} moves: " + ", ".join(f"{name} {figure:.3g}" for name, figure in self.last.items()))
        columns: dict[str, Any] = {name: [figures[name] for _, figures in self.evaluations] for name in self.last}
        return {"timesteps": [steps for steps, _ in self.evaluations], **columns}

    def _rate(self, player: Player) -> float:
        played = []
        for weights, past_rating in self._past:
            past = _Checkpoint(self.model, weights, self.raw)
            record = play_match(self.game, (player, past), self.n_games, self.seed + 1, self.random_plies)
            played.append((past_rating, record.score))
        new = rating(played, self.n_games)
        self._past = [*self._past, (_Checkpoint(self.model).weights, new)][-self.n_checkpoints :]
        return new


def rating(played: Sequence[tuple[float, float]], n_games: int) -> float:
    """Return the Elo rating at which the sum of expected scores is the sum of scores.

    :param played: (rating, score in [0, 1]) against each opponent; none: the rating is 0
    :param n_games: games of each match; half a game is added to either side of each, so that a clean sweep is finite
    """
    if not played:
        return 0.0
    ratings = np.array([r for r, _ in played])
    total = sum((score * n_games + 0.5) / (n_games + 1) for _, score in played)
    low, high = float(ratings.min()) - 2000.0, float(ratings.max()) + 2000.0
    for _ in range(60):  # bisection: expected scores grow with the rating
        middle = (low + high) / 2
        expected = float((1.0 / (1.0 + 10.0 ** ((ratings - middle) / 400.0))).sum())
        low, high = (middle, high) if expected < total else (low, middle)
    return (low + high) / 2
