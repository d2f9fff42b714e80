"""Our two-player worlds as PettingZoo environments (``pip install pettingzoo``).

    from sb3_lecture_envs.pettingzoo_env import aec_env, parallel_env
    env = aec_env("Lecture/LeducPoker-v0")           # agents "first" and "second" in turn
    both = parallel_env("Lecture/RockPaperScissors-v0")  # one step asks both

PettingZoo is imported when one of them is called, and nothing else of this package needs it. Observations are PettingZoo's
usual dictionaries: ``observation`` and ``action_mask`` (int8). An illegal move ends the game: the mover gets −1, or loses the
game's ``max_payoff``, the other nothing.
"""

from functools import cache
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces

from sb3_lecture_envs.board.env import BoardEnv
from sb3_lecture_envs.board.game import PLY
from sb3_lecture_envs.cards.env import CardEnv

AGENTS = ["first", "second"]


def aec_env(env_id: str, render_mode: str | None = None, **kwargs: Any) -> Any:
    """Make a PettingZoo ``AECEnv``: the players act in turn.

    :param env_id: of a board or card game, such as "Lecture/ConnectFour-v0"
    :param render_mode: None, "ansi" or "rgb_array"
    :param kwargs: arguments of the game
    :raises ImportError: without PettingZoo
    :raises ValueError: if the env is no two-player game, or an argument is an opponent's
    """
    for name in ("opponent", "side"):
        if name in kwargs:
            raise ValueError(f"{name}={kwargs[name]!r}: both players are PettingZoo's agents here; leave it out")
    env = gym.make(env_id, disable_env_checker=True, render_mode=render_mode, **kwargs).unwrapped
    if not isinstance(env, (BoardEnv, CardEnv)):
        raise ValueError(f"{env_id} is no two-player game; Lecture/ConnectFour-v0, Lecture/KuhnPoker-v0 and their like are")
    return _aec_class()(env, env_id, render_mode)


def parallel_env(env_id: str, **kwargs: Any) -> Any:
    """Make a PettingZoo ``ParallelEnv``: both agents act in every step, and where they take turns only the mover's counts.

    In rock, paper, scissors (and any matrix game) both actions count.

    :param env_id: of a board or card game
    :param kwargs: as ``aec_env``'s
    :raises ImportError: without PettingZoo
    :raises ValueError: as ``aec_env``
    """
    from sb3_lecture_envs.cards.matrix_game import MatrixGameEnv

    aec = aec_env(env_id, **kwargs)
    from pettingzoo.utils.conversions import aec_to_parallel, turn_based_aec_to_parallel

    return (aec_to_parallel if isinstance(aec.game_env, MatrixGameEnv) else turn_based_aec_to_parallel)(aec)


@cache
def _aec_class() -> Any:
    try:
        from pettingzoo import AECEnv
    except ImportError as error:
        raise ImportError("PettingZoo's environments need PettingZoo: pip install pettingzoo") from error

    class TwoPlayerAEC(AECEnv):  # type: ignore[misc]
        """A board or card game with the agents "first" and "second".

        :param game_env: the env, played without an opponent
        :param name: of the game
        :param render_mode: as the env's
        """

        def __init__(self, game_env: Any, name: str, render_mode: str | None) -> None:
            super().__init__()
            self.game_env, self.render_mode = game_env, render_mode
            self.metadata = {
                "name": name.split("/")[-1], "render_modes": ["ansi", "rgb_array"], "is_parallelizable": True,
                "render_fps": game_env.metadata["render_fps"],
            }  # fmt: skip
            self.possible_agents = list(AGENTS)
            n_actions = int(game_env.action_space.n)
            one = spaces.Dict(observation=game_env.observation_space, action_mask=spaces.Box(0, 1, (n_actions,), np.int8))
            self.observation_spaces = {agent: one for agent in AGENTS}
            self.action_spaces = {agent: spaces.Discrete(n_actions) for agent in AGENTS}

        def observation_space(self, agent: str) -> spaces.Space:
            """Return an agent's observation space."""
            return self.observation_spaces[agent]

        def action_space(self, agent: str) -> spaces.Space:
            """Return an agent's action space."""
            return self.action_spaces[agent]

        def reset(self, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
            """Start a game."""
            self.agents = list(self.possible_agents)
            self.rewards = dict.fromkeys(self.agents, 0.0)
            self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
            self.terminations = dict.fromkeys(self.agents, False)
            self.truncations = dict.fromkeys(self.agents, False)
            self.infos: dict[str, dict[str, Any]] = {agent: {} for agent in self.agents}
            self.game_env.reset(seed=seed, options=options)
            self.agent_selection = self._mover()

        def _mover(self) -> str:
            env = self.game_env
            return AGENTS[int(env.state[PLY]) % 2 if isinstance(env, BoardEnv) else int(env.tables.viewer[0])]

        def observe(self, agent: str) -> dict[str, np.ndarray]:
            """Return what an agent knows, and its legal moves; none while the other is to move.

            On a board, which hides nothing, it is the view of the side to move.
            """
            env = self.game_env
            mask = env.action_masks().astype(np.int8)
            if agent != self._mover():
                mask[:] = 0
            if isinstance(env, BoardEnv):
                return {"observation": env._observation(), "action_mask": mask}
            player = np.array([AGENTS.index(agent)])
            return {"observation": env.rules.observe(env.tables.state, player)[0], "action_mask": mask}

        def step(self, action: Any) -> None:
            """Play the selected agent's move."""
            agent = self.agent_selection
            if self.terminations[agent] or self.truncations[agent]:
                self._was_dead_step(action)
                return
            other = AGENTS[1 - AGENTS.index(agent)]
            self._cumulative_rewards[agent] = 0.0
            self._clear_rewards()
            _, reward, terminated, _, info = self.game_env.step(action)
            if terminated:
                self.rewards[agent] = float(reward)
                self.rewards[other] = 0.0 if info.get("illegal") else 0.0 - float(reward)
                self.terminations = dict.fromkeys(self.agents, True)
                self.infos[agent] = {"illegal": True} if info.get("illegal") else {}
                self.agent_selection = other
            else:
                self.agent_selection = self._mover()
            self._accumulate_rewards()

        def render(self) -> Any:
            """Return the table or board, as the env does."""
            return self.game_env.render()

        def close(self) -> None:
            """Close the env."""
            self.game_env.close()

    return TwoPlayerAEC
