"""Open-loop predictions as pictures: what came, what the world model foretold of it, and the difference.

The model looks at the first observations of an episode and then foretells the others from the actions alone (Hafner et al.
2023, https://arxiv.org/abs/2301.04104, "open-loop video prediction").
"""

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import Image

__all__ = ["DreamCallback", "Foretold", "OpenLoop", "play_and_foretell", "record", "video_frames"]

Array = np.ndarray[Any, Any]
SEEING, FORETELLING = (0, 158, 115), (213, 94, 0)  # colours of the line under the model's picture (Okabe and Ito)
#: colours of the planes of an observation that is no picture
PLANES = np.array([(230, 159, 0), (86, 180, 233), (0, 158, 115), (240, 228, 66), (0, 114, 178), (213, 94, 0), (204, 121, 167)])
STEPS_SHOWN = 12  # of an episode in one picture
GAP, LINE, SMALLEST = 2, 2, 128  # pixels between the pictures, of the line, and of a picture's side at least


class Foretold(NamedTuple):
    """One part of the observations of an episode.

    :param truth: as they came, float32 [T, C, H, W] (planes, or pixels in [0, 1]) or numbers [T, V]
    :param model: of the same shape: up to the context what the model made of what it saw, then what it foretold
    """

    truth: Array
    model: Array


class OpenLoop(Protocol):
    """A policy with a world model."""

    def open_loop(self, observations: Any, actions: Array, context: int) -> dict[str, Foretold]:
        """Look at ``context`` observations of an episode and foretell the others.

        :param observations: of one episode, [T, …], or a dict of such
        :param actions: of the env, [T − 1, …]
        :param context: at least 1, less than T
        :return: each part of the observations by its name, "" where there is one only
        """
        ...


def record(steps: list[Any]) -> Any:
    """Stack single observations, or dicts of them, to [T, …]."""
    if isinstance(steps[0], Mapping):
        return {key: np.stack([np.asarray(step[key]) for step in steps]) for key in steps[0]}
    return np.stack([np.asarray(step) for step in steps])


def _colours(planes: Array) -> Array:
    """Show planes [T, C, H, W] in [0, 1] as float [T, H, W, 3] in [0, 1]: grey, RGB, or a colour for each plane."""
    n = planes.shape[1]
    if n in (1, 3):
        return np.broadcast_to(planes.transpose(0, 2, 3, 1), (*planes[:, 0].shape, 3))
    palette = PLANES[np.arange(n) % len(PLANES)] / 255.0  # [C, 3]
    return np.einsum("tchw,cd->thwd", planes, palette).clip(0.0, 1.0)


def video_frames(foretold: Foretold, context: int) -> list[Array]:
    """Draw truth | model | error, uint8 [height, width, 3] for each observation.

    The line below is green while the model sees and red while it foretells; the error is black where there is none.

    :param foretold: pictures or planes
    :param context: observations that the model saw
    """
    low, high = min(0.0, float(foretold.truth.min())), max(1.0, float(foretold.truth.max()))
    truth, model = (_colours(((part - low) / (high - low)).clip(0.0, 1.0)) for part in foretold)
    scale = -(-SMALLEST // max(truth.shape[1:3]))
    frames = []
    for t, pictures in enumerate(zip(truth, model, np.abs(truth - model), strict=True)):
        large = [
            np.kron(np.rint(255.0 * picture).astype(np.uint8), np.ones((scale, scale, 1), np.uint8)) for picture in pictures
        ]
        height, width = large[0].shape[:2]
        frame = np.full((height + LINE, 3 * width + 2 * GAP, 3), 255, np.uint8)
        frame[height:] = SEEING if t < context else FORETELLING
        for i, picture in enumerate(large):
            frame[:height, i * (width + GAP) : i * (width + GAP) + width] = picture
        frames.append(frame)
    return frames


class DreamCallback(BaseCallback):
    """Write open-loop predictions to tensorboard as pictures ``dream/…`` while a world model learns.

    Every ``freq`` env steps the next episode of the first env is written down, to its end or for ``length`` observations. The
    picture shows truth | model | error at up to twelve of its steps, one below the other; parts of the observations that are
    no pictures are left out. (Pictures, for torch's writer of videos knows no moviepy of today.)

    :param freq: env steps between two pictures, all envs together (default 10,000)
    :param context: observations that the model sees first (default 5)
    :param length: longest episode, in observations (default 64)
    :param verbose: not used
    :raises ValueError: for a number out of range
    """

    def __init__(self, freq: int = 10_000, context: int = 5, length: int = 64, verbose: int = 0) -> None:
        super().__init__(verbose)
        if freq < 1 or context < 1 or length < 2:
            raise ValueError(f"{freq=} and {context=} must be at least 1, {length=} at least 2")
        self.freq, self.context, self.length = freq, context, length
        self._due, self._begun = freq, False
        self._observations: list[Any] = []
        self._actions: list[Any] = []

    def _on_training_start(self) -> None:
        self._due, self._begun = self.num_timesteps + self.freq, False

    def _on_step(self) -> bool:
        done = bool(self.locals["dones"][0])
        if self._begun:
            info = self.locals["infos"][0]
            new = self.locals["new_obs"]
            seen = info["terminal_observation"] if done else _first(new)
            self._observations.append(seen)
            self._actions.append(np.asarray(self.locals["actions"][0]))
            if done or len(self._observations) >= self.length:
                self._write()
                self._begun, self._due = False, self.num_timesteps + self.freq
        if done and not self._begun and self.num_timesteps >= self._due:
            self._begun, self._actions = True, []
            self._observations = [_first(self.locals["new_obs"])]
        return True

    def _write(self) -> None:
        policy: Any = self.model.policy
        context = min(self.context, len(self._actions))
        parts = policy.open_loop(record(self._observations), np.stack(self._actions), context)
        for name, foretold in parts.items():
            if foretold.truth.ndim == 4:
                frames = video_frames(foretold, context)
                shown = np.linspace(0, len(frames) - 1, min(len(frames), STEPS_SHOWN)).round().astype(int)
                strip = Image(np.concatenate([frames[t] for t in shown]), "HWC")
                others = ("stdout", "log", "json", "csv")  # they write no pictures
                self.logger.record(f"dream/{name or 'observation'}", strip, exclude=others)


def _first(observations: Any) -> Any:
    """Copy the first env's part of a batch of observations."""
    if isinstance(observations, Mapping):
        return {key: np.array(part[0]) for key, part in observations.items()}
    return np.array(observations[0])


def play_and_foretell(
    act: Callable[..., Any], policy: OpenLoop, env: Any, context: int, length: int
) -> tuple[dict[str, Foretold], int]:
    """Play one episode and foretell it.

    :param act: ``predict`` of a model that carries its state
    :param policy: its world model
    :param env: a VecEnv of one env
    :param context: observations seen first, fewer if the episode is shorter
    :param length: longest episode, in observations
    :return: its parts, and the observations seen
    """
    observation, state, starts = env.reset(), None, np.ones(1, np.bool_)
    observations, actions = [_first(observation)], list[Array]()
    while len(observations) < length:
        action, state = act(observation, state=state, episode_start=starts, deterministic=False)
        observation, _, starts, infos = env.step(action)
        actions.append(np.array(action[0]))
        observations.append(infos[0]["terminal_observation"] if starts[0] else _first(observation))
        if starts[0]:
            break
    context = min(context, len(actions))
    return policy.open_loop(record(observations), np.stack(actions), context), context
