"""``Lecture/Text-v0``: writing as a Markov decision process, one token a step."""

import textwrap
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode
from gymnasium.vector.utils import batch_space

from sb3_lecture_envs.checks import action_of, autoreset_mode_of, choice, whole
from sb3_lecture_envs.state import copy_state, put_state
from sb3_lecture_envs.text_world import SIZES, STOP, Scorer, TextWorld

STATE = ("tokens", "written", "over")


def make_world(size: str, scorer: Scorer | None, noise: float, **kwargs: Any) -> TextWorld:
    """Build the world of an env's arguments.

    :raises ValueError: for an unknown size
    """
    return SIZES[choice("size", size, tuple(SIZES))](scorer=scorer, noise=noise, **kwargs)


def draw(text: str) -> np.ndarray:
    """Draw a page: black on white, lines of at most 40 letters; uint8 [140, 480, 3]."""
    import pygame

    pygame.font.init()
    font, page = pygame.font.Font(None, 30), pygame.Surface((480, 140))
    page.fill((255, 255, 255))
    for i, line in enumerate(textwrap.wrap(text, 40)):
        page.blit(font.render(line, True, (20, 20, 20)), (20, 14 + 30 * i))
    return np.ascontiguousarray(pygame.surfarray.array3d(page).transpose(1, 0, 2))


class TextEnv(gym.Env[np.ndarray, Any]):
    """Write an answer to a prompt, word by word; a judge scores the whole.

    ## Description
    The state is what stands on the page: the prompt and the words so far. RLHF's third step (Ouyang et al. 2022) is a game
    in this world. With ``size="exact"`` every answer can be enumerated, so the best policy under a KL penalty is known in
    closed form (``sb3_lecture.exact.string_tree``); with ``size="words"`` the text is English.

    ## Action Space
    ``Discrete(V)``: the next word; 0 is the full stop. V = 8 ("exact") or 502 ("words").

    ## Observation Space
    ``MultiDiscrete`` [P + L]: the prompt's ids, the words so far, then the pad id. P + L = 1 + 5 or 3 + 12.

    ## Rewards
    0, and the judge's score in the last step.

    ## Starting State
    A prompt, each as likely as the others.

    ## Episode End
    At the full stop, or after L words.

    ## Arguments
    See the parameters. ``info["text"]`` of the last step is what was written.

    ## Version History
    * v0: initial version

    :param size: "exact" (default) or "words"
    :param scorer: (prompts int64 [B, P], responses int64 [B, L]) → scores float [B]; None (default): the world's own judge
    :param noise: temperature τ of the labeller that compares answers by that score (default 1); see ``TextWorld``
    :param render_mode: None, "ansi" or "rgb_array"
    :param kwargs: of the size: ``slips`` of "exact", ``vocabulary`` of "words"
    :raises ValueError: for a value out of range
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4}  # noqa: RUF012

    def __init__(
        self, size: str = "exact", scorer: Scorer | None = None, noise: float = 1.0, render_mode: str | None = None,
        **kwargs: Any,
    ) -> None:  # fmt: skip
        self.text_world = world = make_world(size, scorer, noise, **kwargs)
        self.render_mode = choice("render_mode", render_mode, (None, "ansi", "rgb_array"))
        self.observation_space = spaces.MultiDiscrete([world.n_ids] * (world.prompt_length + world.max_length))
        self.action_space = spaces.Discrete(world.n_words)
        self.tokens = np.full(world.prompt_length + world.max_length, world.pad, np.int64)
        self.written, self.over = 0, True

    def get_state(self) -> dict[str, Any]:
        """What stands on the page, with the random generator: plain values for ``set_state`` of another env."""
        return copy_state(self, STATE)

    def set_state(self, state: dict[str, Any]) -> None:
        """Put the env where another of its kind stood.

        :param state: from ``get_state``
        """
        put_state(self, STATE, state)

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Draw a prompt.

        :param seed: seeds the draw
        :param options: ``{"prompt": i}`` takes the i-th prompt
        """
        super().reset(seed=seed)
        world = self.text_world
        prompt = (options or {}).get("prompt")
        row = int(self.np_random.integers(len(world.prompts))) if prompt is None else prompt
        self.tokens[:] = world.pad
        self.tokens[: world.prompt_length] = world.prompts[whole("prompt", row, 0, len(world.prompts) - 1)]
        self.written, self.over = 0, False
        return self.tokens.copy(), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Write a word.

        :param action: int
        :return: observation int64 [P + L], reward, terminated, truncated (always False), info
        :raises ValueError: for an action outside the action space, after the end, and for a score that is no finite number
        """
        world, action = self.text_world, action_of(action, self.text_world.n_words)
        if self.over:
            raise ValueError("the text is finished: call reset()")
        p = world.prompt_length
        self.tokens[p + self.written] = action
        self.written += 1
        self.over = bool(action == STOP or self.written == world.max_length)
        if not self.over:
            return self.tokens.copy(), 0.0, False, False, {}
        score = float(world.score(self.tokens[None, :p], self.tokens[None, p:])[0])
        return self.tokens.copy(), score, True, False, {"text": world.text(self.tokens[:p], self.tokens[p:])}

    def render(self) -> Any:
        """Return the page as text, or as an image uint8 [height, width, 3]."""
        p = self.text_world.prompt_length
        text = self.text_world.text(self.tokens[:p], self.tokens[p:])
        return None if self.render_mode is None else text if self.render_mode == "ansi" else draw(text)


class TextVectorEnv(gym.vector.VectorEnv[np.ndarray, np.ndarray, Any]):
    """Many pages at once, scored in one call; arguments and conventions are TextEnv's.

    :param num_envs: number of pages n
    :param size: as in TextEnv
    :param scorer: as in TextEnv
    :param noise: as in TextEnv
    :param render_mode: None, "ansi" or "rgb_array"
    :param autoreset_mode: ``AutoresetMode.NEXT_STEP`` (Gymnasium's default) or ``SAME_STEP`` (what SB3 needs), or its value
    :param kwargs: as in TextEnv
    :raises ValueError: for a value out of range
    """

    def __init__(
        self, num_envs: int = 1, size: str = "exact", scorer: Scorer | None = None, noise: float = 1.0,
        render_mode: str | None = None, autoreset_mode: AutoresetMode | str = AutoresetMode.NEXT_STEP, **kwargs: Any,
    ) -> None:  # fmt: skip
        self.num_envs = whole("num_envs", num_envs, 1)
        mode = autoreset_mode_of(autoreset_mode)
        self.metadata = {"render_modes": ["ansi", "rgb_array"], "render_fps": 4, "autoreset_mode": mode}
        self.text_world = world = make_world(size, scorer, noise, **kwargs)
        self.render_mode = choice("render_mode", render_mode, (None, "ansi", "rgb_array"))
        self.single_observation_space = spaces.MultiDiscrete([world.n_ids] * (world.prompt_length + world.max_length))
        self.single_action_space = spaces.Discrete(world.n_words)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.tokens = np.full((self.num_envs, world.prompt_length + world.max_length), world.pad, np.int64)
        self.written = np.zeros(self.num_envs, np.int64)
        self.over = np.ones(self.num_envs, np.bool_)

    def get_state(self) -> dict[str, Any]:
        """What stands on the pages, with the random generator: plain values for ``set_state`` of another env."""
        return copy_state(self, STATE)

    def set_state(self, state: dict[str, Any]) -> None:
        """Put the env where another of its kind and number stood.

        :param state: from ``get_state``
        """
        put_state(self, STATE, state)

    def _restart(self, rows: np.ndarray) -> None:
        world = self.text_world
        self.tokens[rows] = world.pad
        self.tokens[rows, : world.prompt_length] = world.draw_prompts(len(rows), self.np_random)
        self.written[rows], self.over[rows] = 0, False

    def reset(
        self, *, seed: int | list[int | None] | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Draw a prompt for every page, or where ``options["reset_mask"]`` (bool [n]) says; one generator serves all."""
        if isinstance(seed, list):
            self._np_random = np.random.default_rng([0 if x is None else x for x in seed])
        elif seed is not None:
            super().reset(seed=seed)
        chosen = np.ones(self.num_envs, np.bool_)
        if options is not None and "reset_mask" in options:
            chosen = np.asarray(options["reset_mask"], np.bool_)
            if chosen.shape != (self.num_envs,) or not chosen.any():
                raise ValueError(f"reset_mask={chosen} must be bool of shape ({self.num_envs},) with a True in it.")
        self._restart(np.flatnonzero(chosen))
        return self.tokens.copy(), {}

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Write a word on every page.

        :param actions: int [n]
        :return: observations int64 [n, P + L], rewards float64 [n], terminated bool [n], truncated bool [n] (all False), infos
        :raises ValueError: for an action outside the action space, and for a score that is no finite number
        """
        n, world = self.num_envs, self.text_world
        actions = np.asarray(actions)
        if actions.shape != (n,) or actions.dtype.kind not in "iu":
            raise ValueError(f"actions must be {n} integers, not an array of shape {actions.shape} and type {actions.dtype}.")
        if actions.min() < 0 or actions.max() >= world.n_words:
            raise ValueError(f"actions={actions} must lie between 0 and {world.n_words - 1}.")
        p, next_step = world.prompt_length, self.metadata["autoreset_mode"] == AutoresetMode.NEXT_STEP
        resetting = self.over.copy()  # NEXT_STEP: their action is not looked at
        rows = np.flatnonzero(~resetting)
        self.tokens[rows, p + self.written[rows]] = actions[rows]
        self.written[rows] += 1
        ended = rows[(actions[rows] == STOP) | (self.written[rows] == world.max_length)]
        rewards, terminated = np.zeros(n), np.zeros(n, np.bool_)
        infos: dict[str, Any] = {}
        if len(ended):
            rewards[ended] = world.score(self.tokens[ended, :p], self.tokens[ended, p:])
            terminated[ended], self.over[ended] = True, True
        if resetting.any():
            self._restart(np.flatnonzero(resetting))
        if len(ended) and not next_step:
            final = np.full(n, None, dtype=object)
            for i in ended:
                final[i] = self.tokens[i].copy()
            infos = {"final_obs": final, "_final_obs": terminated, "final_info": {}, "_final_info": terminated}
            self._restart(ended)
        return self.tokens.copy(), rewards, terminated, np.zeros(n, np.bool_), infos

    def render(self) -> tuple[Any, ...] | None:
        """Return one text or picture a page."""
        p = self.text_world.prompt_length
        if self.render_mode is None:
            return None
        texts = [self.text_world.text(row[:p], row[p:]) for row in self.tokens]
        return tuple(texts) if self.render_mode == "ansi" else tuple(draw(text) for text in texts)


def make_vector(num_envs: int = 1, **kwargs: Any) -> TextVectorEnv:
    """Build n pages (for ``gymnasium.make_vec``)."""
    return TextVectorEnv(num_envs, **kwargs)
