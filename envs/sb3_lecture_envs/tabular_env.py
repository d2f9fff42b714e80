"""TabularEnv and TabularVectorEnv: any TabularMDP as a Gymnasium env, one by one or many at once."""

from collections import defaultdict
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numba
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from sb3_lecture_envs.checks import action_of, autoreset_mode_of, choice, whole
from sb3_lecture_envs.grid import GridLayout
from sb3_lecture_envs.mdp import TabularMDP, sample_outcome, sample_start
from sb3_lecture_envs.observations import Observer
from sb3_lecture_envs.state import copy_state, put_state

#: probability, next state, reward, terminated
Outcome = tuple[float, int, float, bool]
#: where nothing is left to chance, no uniform number is drawn
NO_DRAW = np.empty(0)
Law = tuple[TabularMDP, GridLayout | None]


class TabularEnv(gym.Env[Any, Any]):
    """One episode at a time over a TabularMDP.

    Every world of this package is a subclass that only states its law. Any other law works too:
    ``TabularEnv(TabularMDP.from_gymnasium(gym.make("FrozenLake-v1")))``.

    :param mdp: the law
    :param layout: where the states lie on a grid; None: the world is no grid
    :param obs: "index" (the state's number), "one-hot"; with a layout also "coords", "grid", "rgb"
    :param render_mode: None, "ansi", "rgb_array" or "human"
    :raises ValueError: if ``obs`` or ``render_mode`` is unknown, or needs a layout that is not there
    """

    metadata: dict[str, Any] = {"render_modes": ["human", "rgb_array", "ansi"], "render_fps": 8}  # noqa: RUF012

    def __init__(
        self, mdp: TabularMDP, layout: GridLayout | None = None, obs: str = "index", render_mode: str | None = None
    ) -> None:
        choice("render_mode", render_mode, (None, *self.metadata["render_modes"]))
        self.mdp = mdp
        self.layout = layout
        self.obs = obs
        self.observe = Observer(mdp.n_states, layout, obs)
        self.observation_space = self.observe.space
        self.action_space = spaces.Discrete(mdp.n_actions)
        self.render_mode = render_mode
        self.state = int(mdp.start_state[0])
        self.last_action: int | None = None
        self._plain = obs == "index" and render_mode is None
        # what follows a state and an action, as Python objects, read when first met: much faster than indexing arrays
        self._rows: dict[tuple[int, int], list[Outcome]] = {}
        self._certain: defaultdict[int, dict[int, tuple[int, float, bool]]] = defaultdict(dict)
        self._renderer: Any = None

    @property
    def P(self) -> dict[int, dict[int, list[tuple[float, int, float, bool]]]]:
        """The law in Gymnasium's form: ``P[s][a] = [(probability, next_state, reward, terminated), …]``."""
        return self.mdp.P

    @property
    def initial_state_distrib(self) -> np.ndarray:
        """The start distribution, float64 [S]; the name that Gymnasium's own tables use."""
        return self.mdp.start

    def action_masks(self) -> np.ndarray:
        """Actions that can change something in the present state, bool [A] (sb3-contrib's MaskablePPO reads this)."""
        mask = self.mdp.action_mask
        return np.ones(self.mdp.n_actions, dtype=np.bool_) if mask is None else mask[self.state].copy()

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[Any, dict[str, Any]]:
        """Start an episode; ``options={"state": s}`` starts it in state s."""
        if seed is not None:
            super().reset(seed=seed)
        mdp = self.mdp
        if options is not None and "state" in options:
            self.state = whole("state", options["state"], 0, mdp.n_states - 1)
        elif mdp.start_state.shape[0] == 1:
            self.state = int(mdp.start_state[0])
        else:
            self.state = int(sample_start(mdp.start_state, mdp.start_cdf, self.np_random.random()))
        self.last_action = None
        if self.render_mode == "human":
            self.render()
        return self.observe.one(self.state), {}

    def step(self, action: int) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Draw an outcome of (state, action)."""
        try:
            self.state, reward, terminated = self._certain[self.state][action]
        except (KeyError, TypeError):  # not met yet, or an array, as ``predict`` returns it: no key of a dictionary
            action = action_of(action, self.mdp.n_actions)
            self.state, reward, terminated = self._draw(action)
        if self._plain:
            return self.state, reward, terminated, False, {}
        self.last_action = int(action)
        if self.render_mode == "human":
            self.render()
        return self.observe.one(self.state), reward, terminated, False, {}

    def _draw(self, action: int) -> tuple[int, float, bool]:
        """Draw an outcome as ``mdp.sample_outcome`` does; remember those that leave nothing to chance."""
        key = self.state, action
        row = self._rows.get(key)
        if row is None:
            row = self._rows[key] = self.mdp.outcomes(*key)
        if len(row) == 1:
            self._certain[self.state][action] = row[0][1:]
            return row[0][1:]
        u = self.np_random.random()
        for outcome in row:  # the inverse of the cumulative distribution
            if u < outcome[0]:
                break
            u -= outcome[0]
        return outcome[1:]

    def render(self) -> Any:
        """Draw the present state as ``render_mode`` says."""
        from sb3_lecture_envs import rendering

        if self.render_mode is None:
            gym.logger.warn("render() was called without a render_mode; pass render_mode='ansi' or 'rgb_array' to gym.make")
            return None
        if self.render_mode == "ansi":
            return rendering.ansi(self.mdp, self.layout, self.state, self.last_action)
        if self._renderer is None:
            self._renderer = rendering.Renderer(self.mdp, self.layout, self.metadata["render_fps"])
        if self.render_mode == "human":
            return self._renderer.show(self.state)
        return self._renderer.image(self.state)

    def close(self) -> None:
        """Close the window, if one is open."""
        if self._renderer is not None:
            self._renderer.close()
            self._renderer = None

    def get_state(self) -> dict[str, Any]:
        """Where the episode stands, and the env's random generator: plain values for ``set_state`` of another such env."""
        return copy_state(self, ("state", "last_action"))

    def set_state(self, state: dict[str, Any]) -> None:
        """Put the env where another of its kind stood.

        :param state: from ``get_state``
        :raises ValueError: if it is of another kind of env
        """
        put_state(self, ("state", "last_action"), state)

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_renderer": None}  # a window cannot travel to another process


@numba.njit(cache=True)
def _step_many(
    row_ptr: np.ndarray,
    next_state: np.ndarray,
    prob: np.ndarray,
    reward: np.ndarray,
    terminated: np.ndarray,
    n_actions: int,
    limit: int,
    state: np.ndarray,
    elapsed: np.ndarray,
    skip: np.ndarray,
    action: np.ndarray,
    uniform: np.ndarray,
    out_reward: np.ndarray,
    out_terminated: np.ndarray,
    out_truncated: np.ndarray,
) -> int:
    """One step of every env that is not skipped; arrays [n]. Returns how many episodes ended, or -1 for a wrong action."""
    ended = 0
    certain = uniform.shape[0] == 0
    for i in range(state.shape[0]):
        if not 0 <= action[i] < n_actions:
            return -1
    for i in range(state.shape[0]):
        if skip[i]:
            out_reward[i], out_terminated[i], out_truncated[i] = 0.0, False, False
            continue
        row = state[i] * n_actions + action[i]
        j = row_ptr[row] if certain else sample_outcome(row_ptr, prob, row, uniform[i])
        state[i] = next_state[j]
        out_reward[i] = reward[j]
        out_terminated[i] = terminated[j]
        elapsed[i] += 1
        out_truncated[i] = elapsed[i] >= limit
        ended += out_terminated[i] or out_truncated[i]
    return ended


@numba.njit(cache=True)
def _restart_many(
    start_state: np.ndarray,
    start_cdf: np.ndarray,
    done: np.ndarray,
    uniform: np.ndarray,
    state: np.ndarray,
    elapsed: np.ndarray,
) -> None:
    """Start a new episode where ``done``; ``uniform`` holds one number for each of those, or none for a single start."""
    k = 0
    for i in range(state.shape[0]):
        if done[i]:
            state[i] = start_state[0] if uniform.shape[0] == 0 else sample_start(start_state, start_cdf, uniform[k])
            elapsed[i] = 0
            k += 1


class TabularVectorEnv(gym.vector.VectorEnv[Any, Any, Any]):
    """Many episodes at once over one TabularMDP, stepped by one compiled loop.

    ``infos`` hold what Gymnasium's vector envs give: under SAME_STEP, ``final_obs`` and ``final_info`` with their masks.

    :param mdp: the law, shared by all envs
    :param layout: where the states lie on a grid; None: the world is no grid
    :param num_envs: number of envs n
    :param obs: observation mode, as in ``TabularEnv``
    :param max_episode_steps: length at which an episode is truncated; None: never
    :param render_mode: None, "ansi" or "rgb_array"
    :param autoreset_mode: ``AutoresetMode.NEXT_STEP`` (Gymnasium's default) or ``SAME_STEP`` (what SB3 needs), or its value
    :raises ValueError: if a mode or a number is not one of those
    """

    def __init__(
        self,
        mdp: TabularMDP,
        layout: GridLayout | None = None,
        num_envs: int = 1,
        obs: str = "index",
        max_episode_steps: int | None = None,
        render_mode: str | None = None,
        autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP,
    ) -> None:
        num_envs = whole("num_envs", num_envs, 1)
        max_episode_steps = None if max_episode_steps is None else whole("max_episode_steps", max_episode_steps, 1)
        mode = autoreset_mode_of(autoreset_mode)
        choice("render_mode", render_mode, (None, "ansi", "rgb_array"))
        self.metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 8, "autoreset_mode": mode}
        self.mdp, self.layout, self.obs = mdp, layout, obs
        self.num_envs = num_envs
        self.observe = Observer(mdp.n_states, layout, obs)
        self.single_observation_space = self.observe.space
        self.single_action_space = spaces.Discrete(mdp.n_actions)
        self.observation_space = batch_space(self.single_observation_space, num_envs)
        self.action_space = batch_space(self.single_action_space, num_envs)
        self.render_mode = render_mode
        self.max_episode_steps = max_episode_steps
        self._limit = np.iinfo(np.int64).max if max_episode_steps is None else max_episode_steps
        self._same_step = mode == AutoresetMode.SAME_STEP
        self.state = np.full(num_envs, mdp.start_state[0], dtype=np.int64)  # [n]
        self.elapsed = np.zeros(num_envs, dtype=np.int64)  # [n], steps of the running episode
        self._skip = np.zeros(num_envs, dtype=np.bool_)  # [n], NEXT_STEP: this step only resets
        self._no_skip = np.zeros(num_envs, dtype=np.bool_)
        self._renderer: Any = None

    @classmethod
    def from_law(cls, law: Callable[..., Law], num_envs: int = 1, **kwargs: Any) -> "TabularVectorEnv":
        """Build n envs of a world: ``kwargs`` that name an argument of this class go there, the others to the law."""
        own = ("obs", "max_episode_steps", "render_mode", "autoreset_mode")
        mdp, layout = law(**{key: value for key, value in kwargs.items() if key not in own})
        return cls(mdp, layout, num_envs, **{key: value for key, value in kwargs.items() if key in own})

    def action_masks(self) -> np.ndarray:
        """Actions that can change something in each present state, bool [n, A]."""
        mask = self.mdp.action_mask
        return np.ones((self.num_envs, self.mdp.n_actions), dtype=np.bool_) if mask is None else mask[self.state]

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Start an episode everywhere, or where ``options["reset_mask"]`` (bool [n]) says.

        One generator serves all envs; of a list of seeds, all are mixed into it.
        """
        if isinstance(seed, list):
            self._np_random = np.random.default_rng([0 if x is None else x for x in seed])
        elif seed is not None:
            super().reset(seed=seed)
        done = np.ones(self.num_envs, dtype=np.bool_)
        if options is not None and "reset_mask" in options:
            done = np.asarray(options["reset_mask"], dtype=np.bool_)
            if done.shape != (self.num_envs,) or not done.any():
                raise ValueError(f"reset_mask must be a bool array of shape ({self.num_envs},) with a True in it, got {done}")
        self._restart(done)
        self._skip[done] = False
        return self.observe(self.state), {}

    def get_state(self) -> dict[str, Any]:
        """Where the episodes stand, and the envs' random generator: plain values for ``set_state`` of another such env."""
        return copy_state(self, ("state", "elapsed", "_skip"))

    def set_state(self, state: dict[str, Any]) -> None:
        """Put the env where another of its kind stood.

        :param state: from ``get_state``
        :raises ValueError: if it is of another kind of env
        """
        put_state(self, ("state", "elapsed", "_skip"), state)

    def _restart(self, done: np.ndarray) -> None:
        starts = self.mdp.start_state
        uniform = NO_DRAW if starts.shape[0] == 1 else self.np_random.random(np.count_nonzero(done))
        _restart_many(starts, self.mdp.start_cdf, done, uniform, self.state, self.elapsed)

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step every env.

        :param actions: int [n]
        :return: observations [n, …], rewards float64 [n], terminated bool [n], truncated bool [n], infos
        :raises ValueError: if an action is outside the action space
        """
        mdp, n = self.mdp, self.num_envs
        action = np.asarray(actions)
        if action.shape != (n,) or action.dtype.kind not in "iu":
            raise ValueError(f"actions must be {n} integers, got shape {action.shape} of {action.dtype}")
        uniform = NO_DRAW if mdp.is_deterministic else self.np_random.random(n)
        rewards, terminated, truncated = np.empty(n), np.empty(n, dtype=np.bool_), np.empty(n, dtype=np.bool_)
        skip = self._no_skip if self._same_step else self._skip
        ended = _step_many(
            mdp.row_ptr, mdp.next_state, mdp.prob, mdp.reward, mdp.terminated, mdp.n_actions, self._limit,
            self.state, self.elapsed, skip, action, uniform, rewards, terminated, truncated,
        )  # fmt: skip
        if ended < 0:
            bad = action[(action < 0) | (action >= mdp.n_actions)][0]
            raise ValueError(f"Action {bad} is outside the action space; actions are 0 to {mdp.n_actions - 1}")
        infos: dict[str, Any] = {}
        if self._same_step:
            if ended:
                done = terminated | truncated
                infos = {"final_obs": self._final_obs(done), "_final_obs": done, "final_info": {}, "_final_info": done}
                self._restart(done)
        else:
            if skip.any():
                self._restart(skip)
            self._skip = terminated | truncated
        return self.observe(self.state), rewards, terminated, truncated, infos

    def _final_obs(self, done: np.ndarray) -> np.ndarray:
        """Last observations of the episodes that ended, an object array [n] with None elsewhere (Gymnasium's form)."""
        which = np.flatnonzero(done)
        final = np.full(self.num_envs, None, dtype=object)
        observations = self.observe(self.state[which])
        if observations.ndim == 1:
            final[which] = observations
        else:
            for i, observation in zip(which, observations, strict=True):
                final[i] = observation
        return final

    def render(self) -> tuple[Any, ...] | None:
        """One picture or text an env."""
        from sb3_lecture_envs import rendering

        if self.render_mode is None:
            return None
        if self.render_mode == "ansi":
            return tuple(rendering.ansi(self.mdp, self.layout, int(s), None) for s in self.state)
        if self._renderer is None:
            self._renderer = rendering.Renderer(self.mdp, self.layout, self.metadata["render_fps"])
        return tuple(self._renderer.image(int(s)) for s in self.state)
