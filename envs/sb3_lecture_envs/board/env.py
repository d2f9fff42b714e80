"""BoardEnv and BoardVectorEnv: any Game as a Gymnasium env, one by one or many at once.

Without an opponent two players alternate in one episode: every observation is the side to move's, every reward the mover's.
With an opponent the env is an ordinary one-player env: it answers each move itself, and observations and rewards are the
agent's. (The observation after the last move is always that of the side which would be next; nothing is played from it.)

An opponent is a callable ``(observation float32 [planes, H, W], mask bool [A]) -> action``. Two more methods are used where
it has them: ``seed(int)``, called by ``reset(seed=…)``, and ``batch(observations [n, …], masks [n, A]) -> actions [n]``,
called by the vector env.
"""

from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from sb3_lecture_envs.checks import action_of, autoreset_mode_of, choice, whole
from sb3_lecture_envs.state import copy_state, players_state, put_players_state, put_state

from .game import OVER, PLY, Game, legal, observe, step
from .players import RandomPlayer

Opponent = Callable[[np.ndarray, np.ndarray], int]
RENDER_MODES = ["human", "rgb_array", "ansi"]
#: attributes that change from move to move
STATE = ("state", "agent", "_mask", "_history", "_n_history", "_last_action")
VECTOR_STATE = ("state", "agent", "_masks", "_history", "_n_history", "_reset_next")


def make_opponent(game: Game, opponent: str | Opponent | None) -> Opponent | None:
    """Turn an env's argument into a player.

    :param game: the rules
    :param opponent: None, "random", "perfect", or a callable (observation, mask) -> action
    :raises ValueError: for another word, or "perfect" where the game has no exact player
    """
    if opponent is None or callable(opponent):
        return opponent
    if opponent == "random":
        return RandomPlayer()
    if opponent == "perfect":
        return game.perfect_player()
    raise ValueError(
        f"opponent={opponent!r} is unknown. Give None (two players alternate), 'random', 'perfect', or a callable "
        "(observation, mask) -> action, such as those of sb3_lecture.common.opponents."
    )


def _check_arguments(
    opponent: Opponent | None, side: str, illegal: str, render_mode: str | None, render_modes: list[str]
) -> None:
    choice("side", side, ("random", "first", "second"))
    if opponent is None and side != "random":
        raise ValueError(f"side={side!r} is the agent's side against an opponent, but opponent is None: give one, or no side")
    choice("illegal", illegal, ("lose", "error"))
    choice("render_mode", render_mode, (None, *render_modes))


def _seed_opponent(opponent: Opponent | None, rng: np.random.Generator) -> None:
    seed = getattr(opponent, "seed", None)
    if seed is not None:
        seed(int(rng.integers(2**31)))


def _illegal_error(game: Game, action: Any, mask: np.ndarray, who: str) -> ValueError:
    moves = np.flatnonzero(mask).tolist()
    return ValueError(
        f"{who} {action} is illegal in {game!r}. " + (f"Legal are {moves}." if moves else "The game is over: call reset().")
    )


class BoardEnv(gym.Env[np.ndarray, Any]):
    """One game at a time; the envs of this package are subclasses that name their Game.

    ``info["action_mask"]`` and ``action_masks()`` show the legal moves, the history's rule (Go's superko) included.

    :param game: the rules
    :param opponent: None, "random", "perfect" or a callable
    :param side: the agent's against an opponent: "random" (drawn at reset, default), "first" or "second"
    :param illegal: answer to an illegal move: "lose" (default: the game ends, the mover's reward is −1, ``info["illegal"]``
        is True) or "error" (ValueError)
    :param render_mode: None, "ansi", "rgb_array" or "human"
    :raises ValueError: for an unknown word in one of these
    """

    metadata: dict[str, Any] = {"render_modes": RENDER_MODES, "render_fps": 2}  # noqa: RUF012

    def __init__(
        self,
        game: Game,
        opponent: str | Opponent | None = None,
        side: str = "random",
        illegal: str = "lose",
        render_mode: str | None = None,
    ) -> None:
        self.game = game
        self.opponent = make_opponent(game, opponent)
        _check_arguments(self.opponent, side, illegal, render_mode, RENDER_MODES)
        self.side, self.illegal, self.render_mode = side, illegal, render_mode
        self.observation_space = spaces.Box(0.0, 1.0, game.observation_shape, np.float32)
        self.action_space = spaces.Discrete(game.n_actions)
        self.state = game.initial(1)[0]
        self.agent = 0  # the agent's player number against an opponent
        self._mask = np.zeros(game.n_actions, np.bool_)
        self._history = np.zeros(game.max_plies + 1, np.int64)  # keys of the positions since reset
        self._n_history = 0
        self._last_action: int | None = None
        self._window: Any = None
        self._start(self.state)

    def _start(self, state: np.ndarray) -> None:
        self.state = state
        self._n_history = 0
        self._last_action = None
        self._look()

    def _look(self) -> None:
        """Note the position, and write the legal moves."""
        legal(self.game.law, self.state, self._mask)
        if self.game.has_history_rule:
            self._history[self._n_history] = self.game.position_keys(self.state[None])[0]
            self._n_history += 1
            self.game.forbid_repetition(self.state, self._history[: self._n_history], self._mask)

    def action_masks(self) -> np.ndarray:
        """Return the legal moves, bool [A] (sb3-contrib's MaskablePPO reads this)."""
        return self._mask.copy()

    def get_state(self) -> dict[str, Any]:
        """Where the game stands, with the random generators of env and opponent: plain values for ``set_state`` of another."""
        return copy_state(self, STATE) | {"opponent": players_state(self.opponent)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Put the env where another of its kind stood.

        :param state: from ``get_state``
        :raises ValueError: if it is of another kind of env
        """
        put_state(self, STATE, state)
        put_players_state(self.opponent, state["opponent"])

    def _observation(self) -> np.ndarray:
        out = np.zeros(self.game.observation_shape, np.float32)
        observe(self.game.law, self.state, out)
        return out

    def _info(self) -> dict[str, Any]:
        return {"action_mask": self.action_masks()}

    def _play(self, action: int) -> tuple[float, bool]:
        reward, terminated = step(self.game.law, self.state, action)
        self._last_action = action
        self._look()
        return float(reward), bool(terminated)

    def _reply(self) -> tuple[float, bool]:
        """Let the opponent move; the reward is the opponent's."""
        assert self.opponent is not None
        action = int(self.opponent(self._observation(), self.action_masks()))
        if not (0 <= action < self.game.n_actions and self._mask[action]):
            raise _illegal_error(self.game, action, self._mask, "The opponent's action")
        return self._play(action)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Start a game.

        :param seed: seeds the draw of the side and the opponent
        :param options: ``{"state": int [state_size]}`` starts from a position (its past is forgotten), ``{"side": "first"}``
            fixes the agent's side for this game
        """
        super().reset(seed=seed)
        if seed is not None:
            _seed_opponent(self.opponent, self.np_random)
        options = options or {}
        state = self.game.initial(1)[0]
        if "state" in options:
            given = np.asarray(options["state"])
            if given.shape != state.shape or given[OVER]:
                raise ValueError(f"options['state']={given} must be an unfinished state of shape {state.shape}.")
            state = given.astype(state.dtype)
        self._start(state)
        if self.opponent is not None:
            side = options.get("side", self.side)
            _check_arguments(self.opponent, side, self.illegal, None, RENDER_MODES)
            self.agent = int(self.np_random.integers(2)) if side == "random" else ("first", "second").index(side)
            if self.state[PLY] % 2 != self.agent and self._reply()[1]:
                self._start(self.game.initial(1)[0])  # the opponent ended the game given with its first move
                raise ValueError("options['state'] leaves the agent no move: the opponent ends the game at once.")
        if self.render_mode == "human":
            self.render()
        return self._observation(), self._info()

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Play a move, and against an opponent its answer.

        :param action: int
        :return: observation float32 [planes, H, W], reward (+1, 0 or −1), terminated, truncated (always False), info
        :raises ValueError: for an action outside the action space, an illegal move with ``illegal="error"``, and after the end
        """
        action = action_of(action, self.game.n_actions)
        if self.state[OVER] or not self._mask.any():
            raise _illegal_error(self.game, action, np.zeros(0, np.bool_), "Action")
        if not self._mask[action]:
            if self.illegal == "error":
                raise _illegal_error(self.game, action, self._mask, "Action")
            observation = self._observation()
            self._mask[:] = False  # over, though the board does not show it
            return observation, -1.0, True, False, {**self._info(), "illegal": True}
        reward, terminated = self._play(action)
        if self.opponent is not None and not terminated:
            reward, terminated = self._reply()
            reward = -reward
        if self.render_mode == "human":
            self.render()
        return self._observation(), reward + 0.0, terminated, False, self._info()

    def render(self) -> Any:
        """Return the board as text or as an image uint8 [height, width, 3], or show it in a window."""
        from sb3_lecture_envs.rendering import Window  # the drawing is loaded by those who look

        from . import rendering

        if self.render_mode == "ansi":
            return self.game.render_text(self.state)
        if self.render_mode is None:
            return None
        image = rendering.draw(self.game, self.state, self._last_action)
        if self.render_mode == "rgb_array":
            return image
        self._window = self._window or Window(type(self.game).__name__, self.metadata["render_fps"])
        self._window.show(image)
        return None

    def close(self) -> None:
        """Close the window."""
        if self._window is not None:
            self._window.close()
            self._window = None


class BoardVectorEnv(gym.vector.VectorEnv[np.ndarray, np.ndarray, Any]):
    """Many games at once on the batched rules; arguments and conventions are BoardEnv's.

    ``infos["action_mask"]`` and ``action_masks()`` are bool [n, A]. Under SAME_STEP the games that end give ``final_obs`` and
    ``final_info`` with their masks, as Gymnasium's own vector envs do; ``final_info["illegal"]`` says which were lost by an
    illegal move.

    :param game: the rules
    :param num_envs: number of games n
    :param opponent: as in BoardEnv
    :param side: as in BoardEnv
    :param illegal: as in BoardEnv
    :param render_mode: None, "ansi" or "rgb_array"
    :param autoreset_mode: ``AutoresetMode.NEXT_STEP`` (Gymnasium's default) or ``SAME_STEP`` (what SB3 needs), or its value
    :raises ValueError: for an unknown word or no env
    """

    def __init__(
        self,
        game: Game,
        num_envs: int = 1,
        opponent: str | Opponent | None = None,
        side: str = "random",
        illegal: str = "lose",
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        num_envs = whole("num_envs", num_envs, 1)
        mode = autoreset_mode_of(autoreset_mode)
        self.metadata = {"render_modes": ["rgb_array", "ansi"], "render_fps": 2, "autoreset_mode": mode}
        self.game, self.num_envs = game, num_envs
        self.opponent = make_opponent(game, opponent)
        _check_arguments(self.opponent, side, illegal, render_mode, ["rgb_array", "ansi"])
        self.side, self.illegal, self.render_mode = side, illegal, render_mode
        self.single_observation_space = spaces.Box(0.0, 1.0, game.observation_shape, np.float32)
        self.single_action_space = spaces.Discrete(game.n_actions)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.state = game.initial(num_envs)  # [n, state_size]
        self.agent = np.zeros(num_envs, np.int64)  # [n], the agent's player number against an opponent
        self._masks = game.legal(self.state)  # [n, A]
        self._history = np.zeros((num_envs, game.max_plies + 1 if game.has_history_rule else 0), np.int64)
        self._n_history = np.zeros(num_envs, np.int64)
        self._reset_next = np.zeros(num_envs, np.bool_)  # NEXT_STEP: games that ended in the last step

    @classmethod
    def from_game(cls, game_class: type[Game], num_envs: int = 1, **kwargs: Any) -> "BoardVectorEnv":
        """Build n games; ``kwargs`` that name an argument of this class go there, the others to the game."""
        own = ("opponent", "side", "illegal", "render_mode", "autoreset_mode")
        game = game_class(**{key: value for key, value in kwargs.items() if key not in own})
        return cls(game, num_envs, **{key: value for key, value in kwargs.items() if key in own})

    def action_masks(self) -> np.ndarray:
        """Return the legal moves, bool [n, A]."""
        return self._masks.copy()

    def _look(self, rows: np.ndarray) -> None:
        """Note the positions of some rows, and write their legal moves."""
        if not len(rows):
            return
        masks = self.game.legal(self.state[rows])
        if self.game.has_history_rule:
            self._history[rows, self._n_history[rows]] = self.game.position_keys(self.state[rows])
            self._n_history[rows] += 1
            for i, mask in zip(rows, masks, strict=True):
                self.game.forbid_repetition(self.state[i], self._history[i, : self._n_history[i]], mask)
        self._masks[rows] = masks

    def get_state(self) -> dict[str, Any]:
        """Where the games stand, with the random generators of env and opponent: plain values for ``set_state`` of another."""
        return copy_state(self, VECTOR_STATE) | {"opponent": players_state(self.opponent)}

    def set_state(self, state: dict[str, Any]) -> None:
        """Put the env where another of its kind stood.

        :param state: from ``get_state``
        :raises ValueError: if it is of another kind of env
        """
        put_state(self, VECTOR_STATE, state)
        put_players_state(self.opponent, state["opponent"])

    def _play(self, rows: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        self.state[rows], rewards, terminated = self.game.step(self.state[rows], actions)
        self._look(rows)
        return rewards, terminated

    def _reply(self, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Let the opponent move in some rows; rewards are the opponent's."""
        assert self.opponent is not None
        observations, masks = self.game.observe(self.state[rows]), self._masks[rows]
        if hasattr(self.opponent, "batch"):
            actions = np.asarray(self.opponent.batch(observations, masks), np.int64)
        else:
            actions = np.array([self.opponent(o, m) for o, m in zip(observations, masks, strict=True)], np.int64)
        fair = (actions >= 0) & (actions < self.game.n_actions) & masks[np.arange(len(rows)), actions % self.game.n_actions]
        if not fair.all():
            bad = int(np.flatnonzero(~fair)[0])
            raise _illegal_error(self.game, actions[bad], masks[bad], "The opponent's action")
        return self._play(rows, actions)

    def _restart(self, rows: np.ndarray) -> None:
        self.state[rows] = self.game.initial(len(rows))
        self._n_history[rows] = 0
        self._look(rows)
        if self.opponent is not None:
            drawn = self.np_random.integers(2, size=len(rows))
            self.agent[rows] = drawn if self.side == "random" else ("first", "second").index(self.side)
            waiting = rows[self.agent[rows] == 1]
            if len(waiting):
                self._reply(waiting)

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
            _seed_opponent(self.opponent, self.np_random)
        chosen = np.ones(self.num_envs, np.bool_)
        if options is not None and "reset_mask" in options:
            chosen = np.asarray(options["reset_mask"], np.bool_)
            if chosen.shape != (self.num_envs,) or not chosen.any():
                raise ValueError(f"reset_mask={chosen} must be bool of shape ({self.num_envs},) with a True in it.")
        self._restart(np.flatnonzero(chosen))
        self._reset_next[chosen] = False
        return self.game.observe(self.state), self._infos()

    def _infos(self) -> dict[str, Any]:
        return {"action_mask": self.action_masks(), "_action_mask": np.ones(self.num_envs, np.bool_)}

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Play a move in every game, and against an opponent its answers.

        :param actions: int [n]
        :return: observations float32 [n, planes, H, W], rewards float64 [n], terminated bool [n], truncated bool [n] (all
            False), infos
        :raises ValueError: for an action outside the action space, or an illegal one with ``illegal="error"``
        """
        n = self.num_envs
        actions = np.asarray(actions)
        if actions.shape != (n,) or actions.dtype.kind not in "iu":
            raise ValueError(f"actions must be {n} integers, not an array of shape {actions.shape} and type {actions.dtype}.")
        if actions.min() < 0 or actions.max() >= self.game.n_actions:
            raise ValueError(f"actions={actions} must lie between 0 and {self.game.n_actions - 1}.")
        rewards, terminated = np.zeros(n), np.zeros(n, np.bool_)
        resetting = self._reset_next.copy()  # all False under SAME_STEP
        legal_here = self._masks[np.arange(n), actions]
        illegal = ~legal_here & ~resetting
        if illegal.any() and self.illegal == "error":
            bad = int(np.flatnonzero(illegal)[0])
            raise _illegal_error(self.game, actions[bad], self._masks[bad], f"Env {bad}: action")
        rewards[illegal], terminated[illegal] = -1.0, True
        rows = np.flatnonzero(legal_here & ~resetting)
        rewards[rows], terminated[rows] = self._play(rows, actions[rows])
        if self.opponent is not None:
            rows = rows[~terminated[rows]]
            if len(rows):
                replies, terminated[rows] = self._reply(rows)
                rewards[rows] = 0.0 - replies
        self._masks[illegal] = False
        if resetting.any():
            self._restart(np.flatnonzero(resetting))
        infos: dict[str, Any] = {}
        if self.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP:
            self._reset_next = terminated.copy()
        elif terminated.any():
            ended = np.flatnonzero(terminated)
            final = np.full(n, None, dtype=object)
            for i, observation in zip(ended, self.game.observe(self.state[ended]), strict=True):
                final[i] = observation
            final_info = {"illegal": illegal, "_illegal": terminated}
            infos = {"final_obs": final, "_final_obs": terminated, "final_info": final_info, "_final_info": terminated}
            self._restart(ended)
        if illegal.any() and self.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP:
            infos.update(illegal=illegal, _illegal=illegal)
        return self.game.observe(self.state), rewards, terminated, np.zeros(n, np.bool_), {**infos, **self._infos()}

    def render(self) -> tuple[Any, ...] | None:
        """Return one picture or text a game."""
        from . import rendering

        if self.render_mode is None:
            return None
        if self.render_mode == "ansi":
            return tuple(self.game.render_text(state) for state in self.state)
        return tuple(rendering.draw(self.game, state, None) for state in self.state)
