"""Play a card game in the terminal: what ``human_play`` does for boards."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from sb3_lecture.zoo.errors import UserError, first_line
from sb3_lecture_envs.cards.env import CardEnv, Opponent, make_opponent
from sb3_lecture_envs.cards.game import PLAYERS, HiddenGame

HELP = "Write a move or its first letter, or: quit."


def named_opponent(game: HiddenGame, word: str, algo: str | None, seed: int | None) -> Opponent:
    """Find a player by a word of the command line.

    :param game: the rules
    :param word: "random", "equilibrium" ("perfect" is another name of it), or the path of a saved model or of a run's folder
    :param algo: the algorithm of the saved model; None: the folder above the run's, as in ``logs/<algo>/<run>/``
    :param seed: of its draws; None: unpredictable
    :raises UserError: for a word that names none of these, or a model of another game
    """
    if word in ("random", "equilibrium", "perfect"):
        try:
            player: Any = make_opponent(game, "equilibrium" if word == "perfect" else word)
        except ValueError as error:
            raise UserError(f"--opponent {word}: {first_line(error)}") from error
        if seed is not None:
            player.seed(seed)
        return player
    from sb3_lecture.common.opponents import ModelOpponent
    from sb3_lecture.zoo import registry

    path = Path(word)
    if path.is_dir():
        path = next(iter([*sorted(path.glob("Lecture-*.zip")), *sorted(path.glob("*.zip"))]), path)
    if not path.is_file():
        raise UserError(f"--opponent {path}: no such model. Give random, equilibrium, or the path of a saved model.")
    name = path.resolve().parent.parent.name if algo is None else algo
    if algo is None and name not in registry.algorithms():
        raise UserError(f"--opponent {path}: the path does not say which algorithm saved it; add --algo NAME")
    player = ModelOpponent(registry.algorithm(name), str(path), seed=seed)
    try:
        player._fit((game.observation_size,), game.n_actions)
    except ValueError as error:
        raise UserError(f"--opponent {path}: {first_line(error)}") from error
    return player


def play_cards(
    env: CardEnv,
    opponent: str | Opponent,
    side: str,
    algo: str | None,
    seed: int | None,
    ask: Callable[[HiddenGame, np.ndarray], int | None],
    write: Callable[[str], None],
) -> float:
    """Play one game between the terminal and an opponent, whose cards lie face down until the end.

    :param env: the game
    :param opponent: a word of ``named_opponent``, or a callable (observation, mask) -> action
    :param side: the human's: "first", "second" or "random"
    :param algo: the algorithm of a saved opponent
    :param seed: of the cards, the opponent and the draw of the side
    :param ask: asks for a legal move; None: the human leaves
    :param write: prints a text
    :return: what the human won, 0 if left
    :raises UserError: if the opponent is unknown
    """
    env.opponent = named_opponent(env.rules, opponent, algo, seed) if isinstance(opponent, str) else opponent
    env.reset(seed=seed, options={"side": side})
    human = int(env.tables.agent[0])
    write(f"You are the {PLAYERS[human]} player. {HELP}")
    terminated, reward = False, 0.0
    while not terminated:
        write(env.rules.render_text(env.tables.state[0], human))
        action = ask(env.rules, env.action_masks())
        if action is None:
            write("Goodbye.")
            return 0.0
        _, reward, terminated, _, _ = env.step(action)
    write(env.rules.render_text(env.tables.state[0], human))
    write(f"You win {reward:g}." if reward > 0 else f"You lose {-reward:g}." if reward < 0 else "A draw.")
    return reward
