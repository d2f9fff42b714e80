"""Play a board or card game in the terminal, against a random, perfect, searching or trained player.

sb3-lecture enjoy --env Lecture/ConnectFour-v0 --human --opponent perfect
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

from sb3_lecture.zoo.errors import UserError, first_line
from sb3_lecture.zoo.human_cards import play_cards
from sb3_lecture_envs.board.env import BoardEnv, Opponent, make_opponent
from sb3_lecture_envs.board.game import PLY, Game
from sb3_lecture_envs.board.players import PerfectPlayer
from sb3_lecture_envs.cards.env import CardEnv
from sb3_lecture_envs.cards.game import HiddenGame

SIMULATIONS = 2000  # of the searching opponent, a move
OPENING_SIMULATIONS = 100_000  # of the search that stands in for the perfect player while the solver would take minutes
HELP = "Write a move, or: moves (list them), quit."


def named_opponent(
    game: Game, word: str, algo: str | None = None, simulations: int = SIMULATIONS, seed: int | None = None
) -> Opponent:
    """Find a player by a word of the command line.

    :param game: the rules
    :param word: "random", "perfect", "mcts", or the path of a saved model or of a run's folder
    :param algo: the algorithm of the saved model; None: the folder above the run's, as in ``logs/<algo>/<run>/``
    :param simulations: of the search, a move
    :param seed: of its draws; None: unpredictable
    :raises UserError: for a word that names none of these, a model of another game, or too few simulations
    """
    if word == "mcts":
        return _search(game, simulations, seed)
    if word in ("random", "perfect"):
        try:
            player = make_opponent(game, word)
        except ValueError as error:
            raise UserError(f"--opponent {word}: {first_line(error)}") from error
        soon = getattr(getattr(player, "grader", None), "knows_soon", None)
        if isinstance(player, PerfectPlayer) and soon is not None:
            from sb3_lecture.common.opponents import OpeningOpponent

            player = OpeningOpponent(game, _search(game, OPENING_SIMULATIONS, seed), player, soon)
        assert player is not None
        if seed is not None:
            player.seed(seed)  # type: ignore[attr-defined]
        return player
    return _saved_opponent(game, Path(word), algo, seed)


def _search(game: Game, simulations: int, seed: int | None) -> Any:
    if simulations < 1:
        raise UserError(f"--simulations {simulations}: give at least 1")
    from sb3_lecture.common.opponents import SearchOpponent
    from sb3_lecture.search.mcts import RolloutSearch

    return SearchOpponent(game, RolloutSearch(game, n_simulations=simulations, seed=seed), seed=seed)


def _saved_opponent(game: Game, path: Path, algo: str | None, seed: int | None) -> Opponent:
    from sb3_lecture.common.opponents import ModelOpponent
    from sb3_lecture.zoo import registry

    if path.is_dir():
        models = [path / "best_model.zip", *sorted(path.glob("Lecture-*.zip")), *sorted(path.glob("*.zip"))]
        path = next((model for model in models if model.is_file()), path)
    if not path.is_file():
        raise UserError(f"--opponent {path}: no such model. Give random, perfect, mcts, or the path of a saved model.")
    name = path.parent.parent.name if algo is None else algo
    if algo is None and name not in registry.algorithms():
        raise UserError(f"--opponent {path}: the path does not say which algorithm saved it; add --algo NAME")
    player = ModelOpponent(registry.algorithm(name), str(path), seed=seed)
    try:
        player.check(game)
    except ValueError as error:
        raise UserError(f"--opponent {path}: {first_line(error)}") from error
    return player


def play(
    env_id: str,
    opponent: str | Opponent = "random",
    *,
    env_kwargs: dict[str, Any] | None = None,
    side: str = "first",
    algo: str | None = None,
    simulations: int = SIMULATIONS,
    seed: int | None = None,
    read: Callable[[str], str] = input,
    write: Callable[[str], None] = print,
) -> float:
    """Play one game between the terminal and an opponent.

    :param env_id: a board or card game's id, such as "Lecture/ConnectFour-v0"
    :param opponent: a word of ``named_opponent``, or a callable (observation, mask) -> action
    :param env_kwargs: arguments of the game, such as ``{"size": 9}``
    :param side: the human's: "first", "second" or "random"
    :param algo: the algorithm of a saved opponent
    :param simulations: of the searching opponent, a move
    :param seed: of the opponent and the draw of the side
    :param read: asks for a line, given a prompt
    :param write: prints a text
    :return: the human's result: 1 won, 0 drawn or left, −1 lost; of a card game what was won
    :raises UserError: where the env is no game, or the opponent unknown
    """
    if side not in ("first", "second", "random"):
        raise UserError(f"--side {side}: choose first, second or random")
    try:
        env = gym.make(env_id, disable_env_checker=True, **(env_kwargs or {})).unwrapped
    except (gym.error.Error, ValueError, TypeError) as error:
        raise UserError(f"cannot make {env_id}: {first_line(error)}") from error
    if isinstance(env, CardEnv):
        return play_cards(env, opponent, side, algo, seed, lambda game, mask: _ask(game, mask, read, write), write)
    if not isinstance(env, BoardEnv):
        raise UserError(f"{env_id} is no game; people play Lecture/ConnectFour-v0, Lecture/KuhnPoker-v0 and their like")
    game = env.game
    player = named_opponent(game, opponent, algo, simulations, seed) if isinstance(opponent, str) else opponent
    human = int(np.random.default_rng(seed).integers(2)) if side == "random" else ("first", "second").index(side)
    observation, _ = env.reset(seed=seed)
    write(f"You play {'XO'[human]}, the {('first', 'second')[human]} player. {HELP}")
    if hasattr(player, "proven"):
        write("The perfect player solves every position; what it cannot solve within seconds it searches, and says so.")
    while True:
        mover = int(env.state[PLY]) % 2
        if mover == human:
            write(game.render_text(env.state))
            action = _ask(game, env.action_masks(), read, write)
            if action is None:
                write("Goodbye.")
                return 0.0
        else:
            action = int(player(observation, env.action_masks()))
            doubt = "" if getattr(player, "proven", True) else " (by search: this opening is not solved)"
            write(f"{'XO'[mover]} plays {game.action_to_text(action)}{doubt}.")
        observation, reward, terminated, _, _ = env.step(action)
        if terminated:
            result = reward if mover == human else 0.0 - reward
            write(game.render_text(env.state))
            write({1.0: "You win.", 0.0: "A draw.", -1.0: "You lose."}[result])
            return result


def _ask(game: Game | HiddenGame, mask: np.ndarray, read: Callable[[str], str], write: Callable[[str], None]) -> int | None:
    """Ask until a legal move comes; None: the human leaves."""
    while True:
        try:
            text = read("Your move: ").strip()
        except EOFError:
            return None
        if text.lower() in ("quit", "exit", "q"):
            return None
        if text.lower() in ("moves", "help", "?", ""):
            write(HELP + " Legal: " + " ".join(game.action_to_text(int(a)) for a in np.flatnonzero(mask)))
            continue
        try:
            action = game.text_to_action(text)
        except ValueError as error:
            write(str(error))
            continue
        if mask[action]:
            return action
        write(f"{text} is not legal here. Write moves to see what is.")
