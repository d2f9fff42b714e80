"""Load a run's model and let it play: in the terminal, in a window, into a video file, or unseen."""

import contextlib
import inspect
import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import load_env_creator
from rl_zoo3.utils import create_test_env
from sb3_contrib.common.maskable.utils import get_action_masks
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper, VecFrameStack, VecTransposeImage

from sb3_lecture.common import checkpoint
from sb3_lecture.zoo import registry, safe
from sb3_lecture.zoo.errors import UserError, first_line
from sb3_lecture.zoo.runs import Run

#: what a model that only plays keeps of its replay buffer
PLAYING_BUFFER_SIZE = 1000
RENDER_CHOICES = ("auto", "ansi", "human", "none")
VIDEO_ENDINGS = (".mp4", ".gif")


@dataclass(frozen=True)
class Episode:
    """One played episode.

    :param episode_return: sum of the env's own rewards
    :param length: steps
    """

    episode_return: float
    length: int


# --- loading ---------------------------------------------------------------------------------------------------------


def check_registered(run: Run) -> None:
    """Refuse a run on an env that nobody has registered.

    :raises UserError: if so; it names the packages that the training imported
    """
    if run.env_id not in gym.registry:
        packages = f"; it was made with --gym-packages {' '.join(run.packages)}" if run.packages else ""
        raise UserError(f"{run.path} is on {run.env_id!r}, which is not registered{packages}")


def make_run_env(
    run: Run,
    seed: int = 0,
    render_mode: str | None = None,
    env_kwargs: dict[str, Any] | None = None,
    show: Callable[[Any, bool], None] | None = None,
    norm_reward: bool = False,
    trust: bool = False,
) -> VecEnv:
    """Make one env as the run's training had it: kwargs, wrappers, VecNormalize's statistics, frame stack.

    :param run: the run
    :param seed: seed of the env
    :param render_mode: passed to the env
    :param env_kwargs: arguments on top of the run's
    :param show: gets each picture, see ``FrameTap``
    :param norm_reward: whether VecNormalize scales the rewards too
    :param trust: run what the run's files hold: Python in texts, pickles
    :raises UserError: if the env refuses its arguments, its package is missing, or a file is damaged or would run code
    """
    check_registered(run)
    options = run.options(trust)
    wrappers = options.get("env_wrapper") or []
    wrappers = list(wrappers) if isinstance(wrappers, list) else [wrappers]
    try:
        kwargs = {**(options.get("env_kwargs") or {}), **(env_kwargs or {})}
        if render_mode is not None:
            kwargs["render_mode"] = render_mode
        safe.check_classes(wrappers, gym.Wrapper, "env_wrapper")
        safe.check_classes(options.get("vec_env_wrapper"), VecEnvWrapper, "vec_env_wrapper")
        hyperparams = {"env_wrapper": [*wrappers, *([{FrameTap: {"show": show}}] if show is not None else [])]}
        if options.get("vec_env_wrapper") is not None:
            hyperparams["vec_env_wrapper"] = options["vec_env_wrapper"]
        env = create_test_env(run.env_id, seed=seed, should_render=False, hyperparams=hyperparams, env_kwargs=kwargs)
    except Exception as error:  # what an env or a wrapper may raise is anything
        raise UserError(f"cannot make {run.env_id} as {run.path} had it: {first_line(error)}") from error
    try:
        return _normalized_and_stacked(run, env, options, norm_reward, trust)
    except BaseException:
        env.close()
        raise


def _normalized_and_stacked(run: Run, env: VecEnv, options: dict[str, Any], norm_reward: bool, trust: bool) -> VecEnv:
    normalize = options.get("normalize")
    if isinstance(normalize, str):
        try:
            normalize = safe.value(normalize, trust)
        except ValueError as error:
            raise UserError(f"{run.params_path / 'config.yml'}: normalize: {error}") from error
    if normalize:
        env = safe.load_vec_normalize(safe.statistics_path(run.params_path), env, trust)
        env.training = False  # type: ignore[attr-defined]
        env.norm_reward = norm_reward  # type: ignore[attr-defined]
    stack = options.get("frame_stack")
    if stack is not None and not (isinstance(stack, int) and 1 <= stack <= 1000):
        raise UserError(f"{run.params_path / 'config.yml'}: frame_stack {stack!r} must be a whole number from 1")
    return VecFrameStack(env, stack) if stack is not None else env


def load_model(
    run: Run, path: Path | None = None, env: VecEnv | None = None, device: str = "auto", trust: bool = False
) -> BaseAlgorithm:
    """Load a run's model to play with it: without the memory of its replay buffer.

    :param run: the run
    :param path: the model's file; None: the model that training ended with
    :param env: the env to play in, needed by HER's models
    :param device: where to put it
    :param trust: run what the file holds
    :raises UserError: if the file is missing, is damaged, or belongs to another algorithm or env
    """
    path = run.model_path if path is None else path
    if not path.is_file():
        others = sorted(p.name for p in run.path.glob("*.zip"))
        hint = f"; it holds {', '.join(others)}" if others else "; was the training killed before it saved?"
        raise UserError(f"{run.path} holds no {path.name}{hint}")
    cls = registry.algorithm(run.algo)
    hyperparams = run.options()
    kwargs: dict[str, Any] = {"device": device}
    if "buffer_size" in inspect.signature(cls.__init__).parameters:  # type: ignore[misc]
        kwargs["buffer_size"] = PLAYING_BUFFER_SIZE
        if hyperparams.get("optimize_memory_usage"):
            kwargs["optimize_memory_usage"] = False
    if "HerReplayBuffer" in str(hyperparams.get("replay_buffer_class", "")):
        kwargs["env"] = env
    try:
        model: BaseAlgorithm = checkpoint.load(path, cls=cls, trusted=trust, **kwargs)
        if env is not None:
            _check_spaces(model, env)
    except Exception as error:  # a damaged file brings anything
        raise UserError(f"cannot load {path} as {run.algo}: {first_line(error)}") from error
    return model


def _check_spaces(model: BaseAlgorithm, env: VecEnv) -> None:
    """Refuse an env of other spaces; pictures may have their channels first in the model and last in the env."""
    seen = [env.observation_space]
    with contextlib.suppress(AssertionError):  # no picture
        seen.append(VecTransposeImage.transpose_space(env.observation_space))  # type: ignore[arg-type]
    if model.observation_space not in seen:
        raise ValueError(f"it observes {model.observation_space}, the env has {env.observation_space}")
    if model.action_space != env.action_space:
        raise ValueError(f"it acts in {model.action_space}, the env has {env.action_space}")


# --- showing ---------------------------------------------------------------------------------------------------------


def render_modes(env_id: str) -> list[str]:
    """List the render modes of an env, without making it."""
    entry_point = gym.spec(env_id).entry_point
    creator = load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
    return list((getattr(creator, "metadata", None) or {}).get("render_modes", []))


def choose_render_mode(env_id: str, choice: str, video: str | None) -> str | None:
    """Return the ``render_mode`` of an env for a choice of the user.

    :param env_id: the env
    :param choice: "auto" (the terminal where the env can, else a window where there is a display), "ansi", "human", "none"
    :param video: the video file asked for, or None
    :raises UserError: if the env cannot do that, or the video's ending is unknown
    """
    modes = render_modes(env_id)
    wanted = choice
    if video is not None:
        if Path(video).suffix.lower() not in VIDEO_ENDINGS:
            raise UserError(f"--video {video}: the ending must be one of {', '.join(VIDEO_ENDINGS)}")
        if not Path(video).resolve().parent.is_dir():
            raise UserError(f"--video {video}: the folder {Path(video).parent} does not exist")
        wanted = "rgb_array"
    if wanted == "none":
        return None
    if wanted == "auto":
        if "ansi" in modes:
            return "ansi"
        if "human" in modes and not has_display():
            print("There is no display here, so nothing is shown; --video FILE.mp4 (or .gif) writes the episodes to a file")
        return "human" if "human" in modes and has_display() else None
    if modes and wanted not in modes:
        raise UserError(f"{env_id} cannot render {wanted!r}; it can: {', '.join(modes)}")
    if wanted == "human" and not has_display():
        other = "--render ansi shows it in the terminal, " if "ansi" in modes else ""
        raise UserError(f"--render human: there is no display here; {other}--video FILE.mp4 (or .gif) writes it to a file")
    return wanted


def has_display() -> bool:
    """Whether a window can be opened here; SDL's driver of one's own choice (SDL_VIDEODRIVER) counts as a display."""
    names = ("DISPLAY", "WAYLAND_DISPLAY", "SDL_VIDEODRIVER")
    return sys.platform in ("darwin", "win32") or any(os.environ.get(name) for name in names)


class FrameTap(gym.Wrapper):
    """Pass each picture of an env on, the last one of an episode included.

    A VecEnv starts the next episode at once, so that the end is never seen from outside. The first picture of an episode is
    held back until its first step: the start of an episode that is not played is not shown.

    :param env: the env, with a render mode
    :param show: gets each picture (text or array) and whether the episode ended with it
    """

    def __init__(self, env: gym.Env, show: Callable[[Any, bool], None]) -> None:
        super().__init__(env)
        self._show = show
        self._first: Any = None

    def reset(self, **kwargs: Any) -> tuple[Any, dict[str, Any]]:
        """Start an episode."""
        result = self.env.reset(**kwargs)
        self._first = self.env.render()
        return result

    def step(self, action: Any) -> tuple[Any, Any, bool, bool, dict[str, Any]]:
        """Take a step and pass its picture on."""
        if self._first is not None:
            self._show(self._first, False)
            self._first = None
        result = self.env.step(action)
        self._show(self.env.render(), result[2] or result[3])
        return result


class Terminal:
    """Print pictures made of text, over one another where the output is a terminal.

    :param fps: pictures a second; only where the output is a terminal
    """

    def __init__(self, fps: float) -> None:
        self._pause = 1.0 / fps
        self._tty = sys.stdout.isatty()

    def show(self, text: str, end: bool) -> None:
        """Print one picture."""
        if self._tty:
            print(f"\x1b[H\x1b[J{text}", flush=True)
            time.sleep(self._pause * (3 if end else 1))
        else:
            print(text)

    def close(self) -> None:
        """Nothing is left open."""


class Video:
    """Write pictures to a video file, beside its place first.

    :param path: file.mp4 or file.gif
    :param fps: pictures a second
    """

    def __init__(self, path: str | Path, fps: float) -> None:
        self.path = Path(path)
        self.fps = fps
        self.n_frames = 0
        self._beside = self.path.with_name(f".{os.getpid()}-{self.path.name}")
        self._writer: Any = None  # mp4: imageio-ffmpeg's generator
        self._images: list[Any] = []  # gif: Pillow's images

    def show(self, frame: np.ndarray, end: bool) -> None:
        """Add one picture, uint8 [height, width, 3]; the last one of an episode stays for half a second."""
        for _ in range(1 + (round(self.fps / 2) if end else 0)):
            if self.path.suffix.lower() == ".gif":
                self._add_gif(frame)
            else:
                self._add_mp4(frame)
            self.n_frames += 1

    def _add_gif(self, frame: np.ndarray) -> None:
        from PIL import Image

        self._images.append(Image.fromarray(frame).quantize(colors=128))

    def _add_mp4(self, frame: np.ndarray) -> None:
        odd = [(0, size % 2) for size in frame.shape[:2]]  # the codec wants even sizes
        frame = np.ascontiguousarray(np.pad(frame, [*odd, (0, 0)], mode="edge"))
        if self._writer is None:
            try:
                import imageio_ffmpeg
            except ImportError as error:
                raise UserError("an mp4 needs imageio-ffmpeg: pip install 'sb3-lecture[video]', or write a .gif") from error
            size = (frame.shape[1], frame.shape[0])
            self._writer = imageio_ffmpeg.write_frames(str(self._beside), size, fps=self.fps, macro_block_size=2)
            self._writer.send(None)
        self._writer.send(frame)

    def close(self) -> None:
        """Finish the file and move it to its place."""
        if self._images:
            first, *others = self._images
            duration = 1000.0 / self.fps  # milliseconds
            first.save(self._beside, "GIF", save_all=True, append_images=others, duration=duration, loop=0)
        if self._writer is not None:
            self._writer.close()
        if self._beside.is_file():
            os.replace(self._beside, self.path)


# --- playing ---------------------------------------------------------------------------------------------------------


def play(
    model: BaseAlgorithm,
    env: VecEnv,
    n_episodes: int,
    deterministic: bool = True,
    max_steps: int | None = None,
    on_episode: Callable[[int, Episode], None] | None = None,
) -> list[Episode]:
    """Play episodes.

    :param model: any model; recurrent ones keep their state, maskable ones see their masks
    :param env: one env, with a Monitor inside
    :param n_episodes: episodes to play
    :param deterministic: whether the policy's best action is taken, or one drawn from it
    :param max_steps: stop after that many steps in all; None: never
    :param on_episode: called with the number (from 1) and each finished episode
    :return: the finished episodes
    """
    episodes: list[Episode] = []
    masked = "action_masks" in inspect.signature(model.predict).parameters
    observation: Any = env.reset()
    state, starts = None, np.ones(1, dtype=bool)
    step = 0
    while len(episodes) < n_episodes and (max_steps is None or step < max_steps):
        extra: dict[str, Any] = {"action_masks": get_action_masks(env)} if masked else {}
        action, state = model.predict(observation, state=state, episode_start=starts, deterministic=deterministic, **extra)
        observation, _, starts, infos = env.step(action)
        step += 1
        if "episode" in infos[0]:  # a whole episode: an Atari wrapper also ends one at each lost life
            episodes.append(Episode(float(infos[0]["episode"]["r"]), int(infos[0]["episode"]["l"])))
            if on_episode is not None:
                on_episode(len(episodes), episodes[-1])
    return episodes
