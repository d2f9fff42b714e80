"""Gymnasium worlds whose exact answers are known.

Importing this package registers the ids below with Gymnasium and nothing else; a world's code loads when it is made.
"""

from importlib.util import find_spec

from gymnasium.envs.registration import register, registry

from sb3_lecture_envs.compile_cache import ensure_cache

__version__ = "0.1.0"

#: id → (module, env class, time limit in steps); each module also offers ``make_vector``, but for ``ONE_BY_ONE``
WORLDS = {
    "Lecture/GridWorld-v0": ("grid_world", "GridWorldEnv", 200),
    "Lecture/CliffWalking-v0": ("cliff_walking", "CliffWalkingEnv", 200),
    "Lecture/TreasureLine-v0": ("treasure_line", "TreasureLineEnv", 200),
    "Lecture/Maze-v0": ("maze", "MazeEnv", 200),
    "Lecture/RandomWalk-v0": ("random_walk", "RandomWalkEnv", 1000),
    "Lecture/DeepSea-v0": ("deep_sea", "DeepSeaEnv", 1000),  # ends by itself
    "Lecture/RiverSwim-v0": ("river_swim", "RiverSwimEnv", 200),
    "Lecture/BairdStar-v0": ("baird_star", "BairdStarEnv", 1000),
    "Lecture/Bandit-v0": ("bandit", "BanditEnv", None),
    "Lecture/Catch-v0": ("catch", "CatchEnv", None),  # ends by itself
    "Lecture/MiniBreakout-v0": ("mini_breakout", "MiniBreakoutEnv", 1000),
    "Lecture/Text-v0": ("text", "TextEnv", None),  # ends by itself
    # board games end by themselves: no time limit
    "Lecture/TicTacToe-v0": ("board.tic_tac_toe", "TicTacToeEnv", None),
    "Lecture/ConnectFour-v0": ("board.connect_four", "ConnectFourEnv", None),
    "Lecture/Othello-v0": ("board.othello", "OthelloEnv", None),
    "Lecture/Go-v0": ("board.go", "GoEnv", None),
    "Lecture/Nim-v0": ("board.nim", "NimEnv", None),
    # so do games of hidden information
    "Lecture/KuhnPoker-v0": ("cards.kuhn_poker", "KuhnPokerEnv", None),
    "Lecture/LeducPoker-v0": ("cards.leduc_poker", "LeducPokerEnv", None),
    "Lecture/RockPaperScissors-v0": ("cards.matrix_game", "MatrixGameEnv", None),
    "Lecture/TensorGame-v0": ("tensor_game", "TensorGameEnv", None),  # ends by itself
}
#: worlds without a vector env of their own: Gymnasium steps many of them one by one
ONE_BY_ONE = ("Lecture/TensorGame-v0",)

#: games of MinAtar, a package of its own (GPL-3: ``pip install sb3-lecture[minatar]``), by its own ids
MINATAR = {
    "Asterix": "asterix", "Breakout": "breakout", "Freeway": "freeway", "Seaquest": "seaquest",
    "SpaceInvaders": "space_invaders",
}  # fmt: skip


def register_envs() -> None:
    """Register every world that is not registered yet, and MinAtar's where it is installed, with a time limit."""
    if find_spec("minatar") is not None:
        for name, game in MINATAR.items():
            for version, minimal in ((0, False), (1, True)):  # all six actions, or those that do something
                if f"MinAtar/{name}-v{version}" not in registry:
                    register(
                        id=f"MinAtar/{name}-v{version}",
                        entry_point="minatar.gym:BaseEnv",
                        kwargs={"game": game, "use_minimal_action_set": minimal},
                        max_episode_steps=5000,
                    )
    for env_id, (module, name, max_episode_steps) in WORLDS.items():
        if env_id not in registry:
            register(
                id=env_id,
                entry_point=f"{__name__}.{module}:{name}",
                vector_entry_point=None if env_id in ONE_BY_ONE else f"{__name__}.{module}:make_vector",
                max_episode_steps=max_episode_steps,
            )


ensure_cache()
register_envs()
