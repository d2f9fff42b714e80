"""CardEnv and CardVectorEnv: any HiddenGame as a Gymnasium env, one by one or many at once.

Without an opponent two players take part in one episode: every observation is the information state of the player to move
(``info["to_move"]``), every reward that of the player who has just moved, and ``info["payoffs"]`` of the last step has both.
Players do not always alternate. With an opponent the env is an ordinary one-player env. Nature's moves are drawn by the env.

An opponent is a callable ``(observation float32 [O], mask bool [A]) -> action``; ``seed(int)`` and ``batch(observations
[n, O], masks [n, A]) -> actions [n]`` are used where it has them, as in the board envs: ``ModelOpponent`` plays here too.
"""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from sb3_lecture_envs.checks import action_of, autoreset_mode_of, choice, whole
from sb3_lecture_envs.state import copy_state, players_state, put_players_state, put_state, set_generator

from .game import CHANCE, OVER, TURN, HiddenGame
from .players import RandomPlayer, TablePlayer

Opponent = Callable[[np.ndarray, np.ndarray], int]
RENDER_MODES = ["human", "rgb_array", "ansi"]


def make_opponent(game: HiddenGame, opponent: str | Opponent | None) -> Opponent | None:
    """Turn an env's argument into a player.

    :param game: the rules
    :param opponent: None, "random", "equilibrium", or a callable (observation, mask) -> action
    :raises ValueError: for another word, or "equilibrium" where none is known in closed form
    """
    if opponent is None or callable(opponent):
        return opponent
    if opponent == "random":
        return RandomPlayer()
    if opponent == "equilibrium":
        return TablePlayer(game, game.equilibrium())
    raise ValueError(
        f"opponent={opponent!r} is unknown. Give None (two players take part), 'random', 'equilibrium', or a callable "
        "(observation, mask) -> action, such as sb3_lecture.common.opponents.ModelOpponent."
    )


class Tables:
    """n running games: what both envs share. Rows are numbers of games.

    :param game: the rules
    :param n: number of games
    :param opponent: as in CardEnv
    :param side: as in CardEnv
    :param illegal: as in CardEnv
    :raises ValueError: for an unknown word in one of these
    """

    def __init__(self, game: HiddenGame, n: int, opponent: str | Opponent | None, side: str, illegal: str) -> None:
        self.game, self.n = game, n
        self.opponent = make_opponent(game, opponent)
        choice("side", side, ("random", "first", "second"))
        if self.opponent is None and side != "random":
            raise ValueError(
                f"side={side!r} is the agent's side against an opponent, but opponent is None: give one, or no side"
            )
        self.side, self.illegal = side, choice("illegal", illegal, ("lose", "error"))
        self.state = game.initial(n)  # [n, state_size]
        self.agent = np.zeros(n, np.int64)  # [n], the agent's player number against an opponent
        self.viewer = np.zeros(n, np.int64)  # [n], whose information state is shown
        self.masks = np.zeros((n, game.n_actions), np.bool_)  # legal moves of the one who is asked

    def seed_opponent(self, rng: np.random.Generator) -> None:
        """Seed the opponent where it draws."""
        if (seed := getattr(self.opponent, "seed", None)) is not None:
            seed(int(rng.integers(2**31)))

    def observe(self, rows: np.ndarray) -> np.ndarray:
        """Return what the viewers know, float32 [len(rows), O]."""
        return self.game.observe(self.state[rows], self.viewer[rows])

    def restart(self, rows: np.ndarray, rng: np.random.Generator, side: str) -> None:
        """Start games, and let nature and the opponent move until the agent is asked."""
        self.state[rows] = self.game.initial(len(rows))
        if self.opponent is not None:
            self.agent[rows] = rng.integers(2, size=len(rows)) if side == "random" else ("first", "second").index(side)
        self.run(rows, rng)

    def run(self, rows: np.ndarray, rng: np.random.Generator) -> None:
        """Let nature and the opponent move until somebody is asked or the game is over; note masks and viewers."""
        while len(rows):
            turn = self.state[rows, TURN]
            nature = rows[turn == CHANCE]
            if len(nature):
                cumulative = self.game.chances(self.state[nature]).cumsum(axis=1)  # [k, C]
                drawn = (cumulative <= rng.random((len(nature), 1)) * cumulative[:, -1:]).sum(axis=1)
                self.state[nature] = self.game.step(self.state[nature], drawn)
            others = rows[(turn >= 0) & (turn != self.agent[rows])] if self.opponent is not None else rows[:0]
            if len(others):
                self.state[others] = self.game.step(self.state[others], self._answers(others))
            if not len(nature) and not len(others):
                break
        turn = self.state[rows, TURN]
        asked = self.agent[rows] if self.opponent is not None else np.where(turn >= 0, turn, 1 - self.viewer[rows])
        self.viewer[rows] = asked
        self.masks[rows] = self.game.legal(self.state[rows])

    def _answers(self, rows: np.ndarray) -> np.ndarray:
        assert self.opponent is not None
        states = self.state[rows]
        observations, masks = self.game.observe(states, states[:, TURN]), self.game.legal(states)
        if hasattr(self.opponent, "batch"):
            actions = np.asarray(self.opponent.batch(observations, masks), np.int64)
        else:
            actions = np.array([self.opponent(o, m) for o, m in zip(observations, masks, strict=True)], np.int64)
        fair = (actions >= 0) & (actions < self.game.n_actions) & masks[np.arange(len(rows)), actions % self.game.n_actions]
        if not fair.all():
            bad = int(np.flatnonzero(~fair)[0])
            raise self.illegal_error(actions[bad], masks[bad], "The opponent's action")
        return actions

    def play(self, rows: np.ndarray, actions: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Play the legal actions of those asked; return rewards float64 [k] and ends bool [k]."""
        mover = self.viewer[rows].copy()
        self.state[rows] = self.game.step(self.state[rows], actions)
        self.run(rows, rng)
        over = self.state[rows, TURN] == OVER
        payoffs = self.game.payoffs(self.state[rows])
        return np.where(over, payoffs * (1 - 2 * mover), 0.0) + 0.0, over

    def lose(self, rows: np.ndarray) -> np.ndarray:
        """End games by an illegal move; return the rewards, float64 [k]."""
        self.masks[rows] = False
        return np.full(len(rows), -self.game.max_payoff)

    def illegal_error(self, action: Any, mask: np.ndarray, who: str) -> ValueError:
        """Name an illegal move and the legal ones."""
        moves = np.flatnonzero(mask).tolist()
        name = type(self.game).__name__
        return ValueError(
            f"{who} {action} is illegal in {name}. " + (f"Legal are {moves}." if moves else "The game is over: call reset().")
        )


STATE = ("state", "agent", "viewer", "masks")


class CardEnv(gym.Env[np.ndarray, Any]):
    """One game at a time; the envs of this package are subclasses that name their game.

    ``info["action_mask"]`` and ``action_masks()`` show the legal moves, ``info["to_move"]`` who is asked (0 or 1), and in the
    last step ``info["payoffs"]`` what both have won, float64 [2].

    :param rules: the game
    :param opponent: None, "random", "equilibrium" or a callable
    :param side: the agent's against an opponent: "random" (drawn at reset, default), "first" or "second"
    :param illegal: answer to an illegal move: "lose" (default: the game ends, the mover loses ``max_payoff``,
        ``info["illegal"]`` is True) or "error" (ValueError)
    :param render_mode: None, "ansi", "rgb_array" or "human"
    :raises ValueError: for an unknown word in one of these
    """

    metadata: dict[str, Any] = {"render_modes": RENDER_MODES, "render_fps": 1}  # noqa: RUF012

    def __init__(
        self,
        rules: HiddenGame,
        opponent: str | Opponent | None = None,
        side: str = "random",
        illegal: str = "lose",
        render_mode: str | None = None,
    ) -> None:
        self.rules = rules
        self.tables = Tables(rules, 1, opponent, side, illegal)
        self.render_mode = choice("render_mode", render_mode, (None, *RENDER_MODES))
        self.observation_space = spaces.Box(0.0, 1.0, (rules.observation_size,), np.float32)
        self.action_space = spaces.Discrete(rules.n_actions)
        self._window: Any = None

    @property
    def opponent(self) -> Opponent | None:
        """The player that the env answers by, None in self-play; it may be replaced between episodes."""
        return self.tables.opponent

    @opponent.setter
    def opponent(self, opponent: str | Opponent | None) -> None:
        self.tables.opponent = make_opponent(self.rules, opponent)

    def action_masks(self) -> np.ndarray:
        """Return the legal moves, bool [A] (sb3-contrib's MaskablePPO reads this)."""
        return self.tables.masks[0].copy()

    def get_state(self) -> dict[str, Any]:
        """Where the game stands, with the random generators of env and opponent: plain values for ``set_state`` of another."""
        own = {name: getattr(self.tables, name).copy() for name in STATE}
        return own | copy_state(self, ()) | {"opponent": players_state(self.opponent)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Put the env where another of its kind stood.

        :param state: from ``get_state``
        :raises ValueError: if it is of another kind of env
        """
        put_state(self.tables, STATE, state)  # the arrays are the tables', the generator is the env's
        set_generator(self, "_np_random", state["np_random"])
        put_players_state(self.opponent, state["opponent"])

    def _info(self) -> dict[str, Any]:
        info = {"action_mask": self.action_masks(), "to_move": int(self.tables.viewer[0])}
        if self.tables.state[0, TURN] == OVER:
            payoff = float(self.rules.payoffs(self.tables.state)[0])
            info["payoffs"] = np.array([payoff, 0.0 - payoff])
        return info

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Start a game.

        :param seed: seeds nature, the draw of the side and the opponent
        :param options: ``{"side": "first"}`` fixes the agent's side for this game
        :raises ValueError: for an unknown side, or one without an opponent
        """
        super().reset(seed=seed)
        if seed is not None:
            self.tables.seed_opponent(self.np_random)
        side = choice("side", (options or {}).get("side", self.tables.side), ("random", "first", "second"))
        if self.opponent is None and side != "random":
            raise ValueError(
                f"side={side!r} is the agent's side against an opponent, but opponent is None: give one, or no side"
            )
        self.tables.restart(np.zeros(1, np.int64), self.np_random, side)
        if self.render_mode == "human":
            self.render()
        return self.tables.observe(np.zeros(1, np.int64))[0], self._info()

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Play a move; nature and an opponent answer.

        :param action: int
        :return: observation float32 [O], reward, terminated, truncated (always False), info
        :raises ValueError: for an action outside the action space, an illegal move with ``illegal="error"``, and after the end
        """
        action, one = action_of(action, self.rules.n_actions), np.zeros(1, np.int64)
        mask = self.tables.masks[0]
        if not mask.any():
            raise self.tables.illegal_error(action, mask, "Action")
        if not mask[action]:
            if self.tables.illegal == "error":
                raise self.tables.illegal_error(action, mask, "Action")
            observation, reward = self.tables.observe(one)[0], float(self.tables.lose(one)[0])
            return observation, reward, True, False, {**self._info(), "illegal": True}
        rewards, over = self.tables.play(one, np.array([action]), self.np_random)
        if self.render_mode == "human":
            self.render()
        return self.tables.observe(one)[0], float(rewards[0]), bool(over[0]), False, self._info()

    def render(self) -> Any:
        """Return the table as text or as an image uint8 [height, width, 3], or show it in a window.

        Against an opponent its cards lie face down until the end.
        """
        if self.render_mode is None:
            return None
        viewer = None if self.opponent is None else int(self.tables.agent[0])
        if self.render_mode == "ansi":
            return self.rules.render_text(self.tables.state[0], viewer)
        from sb3_lecture_envs.rendering import Window  # the drawing is loaded by those who look

        from .rendering import draw

        image = draw(self.rules, self.tables.state[0], viewer)
        if self.render_mode == "rgb_array":
            return image
        self._window = self._window or Window(type(self.rules).__name__, self.metadata["render_fps"])
        self._window.show(image)
        return None

    def close(self) -> None:
        """Close the window."""
        if self._window is not None:
            self._window.close()
            self._window = None


class CardVectorEnv(gym.vector.VectorEnv[np.ndarray, np.ndarray, Any]):
    """Many games at once on the batched rules; arguments and conventions are CardEnv's.

    ``infos["action_mask"]`` and ``action_masks()`` are bool [n, A], ``infos["to_move"]`` is int [n]. Of the games that end
    ``payoffs`` float64 [n, 2] and ``illegal`` bool [n] stand in ``final_info`` under SAME_STEP, in the infos under NEXT_STEP.

    :param rules: the game
    :param num_envs: number of games n
    :param opponent: as in CardEnv
    :param side: as in CardEnv
    :param illegal: as in CardEnv
    :param render_mode: None, "ansi" or "rgb_array"
    :param autoreset_mode: ``AutoresetMode.NEXT_STEP`` (Gymnasium's default) or ``SAME_STEP`` (what SB3 needs), or its value
    :raises ValueError: for an unknown word or no env
    """

    def __init__(
        self,
        rules: HiddenGame,
        num_envs: int = 1,
        opponent: str | Opponent | None = None,
        side: str = "random",
        illegal: str = "lose",
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        self.num_envs = whole("num_envs", num_envs, 1)
        mode = autoreset_mode_of(autoreset_mode)
        self.metadata = {"render_modes": ["rgb_array", "ansi"], "render_fps": 1, "autoreset_mode": mode}
        self.rules = rules
        self.tables = Tables(rules, self.num_envs, opponent, side, illegal)
        self.render_mode = choice("render_mode", render_mode, (None, "rgb_array", "ansi"))
        self.single_observation_space = spaces.Box(0.0, 1.0, (rules.observation_size,), np.float32)
        self.single_action_space = spaces.Discrete(rules.n_actions)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self._reset_next = np.zeros(self.num_envs, np.bool_)  # NEXT_STEP: games that ended in the last step

    @classmethod
    def from_game(cls, game_class: type[HiddenGame], num_envs: int = 1, **kwargs: Any) -> "CardVectorEnv":
        """Build n games; ``kwargs`` that name an argument of this class go there, the others to the game."""
        own = ("opponent", "side", "illegal", "render_mode", "autoreset_mode")
        game = game_class(**{key: value for key, value in kwargs.items() if key not in own})
        return cls(game, num_envs, **{key: value for key, value in kwargs.items() if key in own})

    @property
    def opponent(self) -> Opponent | None:
        """The player that the env answers by, None in self-play; it may be replaced."""
        return self.tables.opponent

    @opponent.setter
    def opponent(self, opponent: str | Opponent | None) -> None:
        self.tables.opponent = make_opponent(self.rules, opponent)

    def action_masks(self) -> np.ndarray:
        """Return the legal moves, bool [n, A]."""
        return self.tables.masks.copy()

    def get_state(self) -> dict[str, Any]:
        """Where the games stand, with the random generators of env and opponent: plain values for ``set_state`` of another."""
        own = {name: getattr(self.tables, name).copy() for name in STATE}
        own["_reset_next"] = self._reset_next.copy()
        return own | copy_state(self, ()) | {"opponent": players_state(self.opponent)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Put the env where another of its kind and number stood.

        :param state: from ``get_state``
        :raises ValueError: if it is of another kind of env
        """
        put_state(self.tables, STATE, state)  # the arrays are the tables', the generator is the env's
        set_generator(self, "_np_random", state["np_random"])
        self._reset_next[:] = state["_reset_next"]
        put_players_state(self.opponent, state["opponent"])

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Start a game everywhere, or where ``options["reset_mask"]`` (bool [n]) says.

        One generator serves all games; of a list of seeds, all are mixed into it.
        """
        if isinstance(seed, list):
            self._np_random = np.random.default_rng([0 if x is None else x for x in seed])
        elif seed is not None:
            super().reset(seed=seed)
        if seed is not None:
            self.tables.seed_opponent(self.np_random)
        chosen = np.ones(self.num_envs, np.bool_)
        if options is not None and "reset_mask" in options:
            chosen = np.asarray(options["reset_mask"], np.bool_)
            if chosen.shape != (self.num_envs,) or not chosen.any():
                raise ValueError(f"reset_mask={chosen} must be bool of shape ({self.num_envs},) with a True in it.")
        self.tables.restart(np.flatnonzero(chosen), self.np_random, self.tables.side)
        self._reset_next[chosen] = False
        return self.tables.observe(np.arange(self.num_envs)), self._infos()

    def _infos(self) -> dict[str, Any]:
        every = np.ones(self.num_envs, np.bool_)
        viewer = self.tables.viewer.copy()
        return {"action_mask": self.action_masks(), "_action_mask": every, "to_move": viewer, "_to_move": every}

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Play a move in every game; nature and an opponent answer.

        :param actions: int [n]
        :return: observations float32 [n, O], rewards float64 [n], terminated bool [n], truncated bool [n] (all False), infos
        :raises ValueError: for an action outside the action space, or an illegal one with ``illegal="error"``
        """
        n, tables = self.num_envs, self.tables
        actions = np.asarray(actions)
        if actions.shape != (n,) or actions.dtype.kind not in "iu":
            raise ValueError(f"actions must be {n} integers, not an array of shape {actions.shape} and type {actions.dtype}.")
        if actions.min() < 0 or actions.max() >= self.rules.n_actions:
            raise ValueError(f"actions={actions} must lie between 0 and {self.rules.n_actions - 1}.")
        rewards, terminated, resetting = np.zeros(n), np.zeros(n, np.bool_), self._reset_next.copy()
        fair = tables.masks[np.arange(n), actions]
        illegal = ~fair & ~resetting
        if illegal.any() and tables.illegal == "error":
            bad = int(np.flatnonzero(illegal)[0])
            raise tables.illegal_error(actions[bad], tables.masks[bad], f"Env {bad}: action")
        rewards[illegal], terminated[illegal] = tables.lose(np.flatnonzero(illegal)), True
        rows = np.flatnonzero(fair & ~resetting)
        rewards[rows], terminated[rows] = tables.play(rows, actions[rows], self.np_random)
        if resetting.any():
            tables.restart(np.flatnonzero(resetting), self.np_random, tables.side)
        infos: dict[str, Any] = {}
        if terminated.any():
            payoffs = self.rules.payoffs(tables.state)
            ends = {"payoffs": np.stack([payoffs, 0.0 - payoffs], axis=1), "_payoffs": terminated & ~illegal}
            ends |= {"illegal": illegal, "_illegal": terminated}
            if self.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP:
                infos = ends
            else:
                ended = np.flatnonzero(terminated)
                final = np.full(n, None, dtype=object)
                for i, observation in zip(ended, tables.observe(ended), strict=True):
                    final[i] = observation
                infos = {"final_obs": final, "_final_obs": terminated, "final_info": ends, "_final_info": terminated}
                tables.restart(ended, self.np_random, tables.side)
        if self.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP:
            self._reset_next = terminated.copy()
        return tables.observe(np.arange(n)), rewards, terminated, np.zeros(n, np.bool_), {**infos, **self._infos()}

    def render(self) -> tuple[Any, ...] | None:
        """Return one picture or text a game."""
        if self.render_mode is None:
            return None
        viewers = [None if self.opponent is None else int(agent) for agent in self.tables.agent]
        if self.render_mode == "ansi":
            return tuple(self.rules.render_text(s, v) for s, v in zip(self.tables.state, viewers, strict=True))
        from .rendering import draw

        return tuple(draw(self.rules, s, v) for s, v in zip(self.tables.state, viewers, strict=True))
