"""``plot dream``: what a run's world model foretells of an episode, beside what came."""

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from stable_baselines3.common.utils import set_random_seed

from sb3_lecture.model_based.dream_video import Foretold, play_and_foretell, video_frames
from sb3_lecture.zoo import playing, plotting
from sb3_lecture.zoo.errors import UserError
from sb3_lecture.zoo.runs import open_run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FPS = 6.0
MAX_CURVES = 8


def dream(
    folder: str, output: str | None, context: int, length: int, n_episodes: int, seed: int, trust: bool = False
) -> list[Path]:
    """Play episodes with a run's model, foretell them, and write a video of the pictures and a figure of the numbers.

    :param folder: the run's
    :param output: the file, .gif or .mp4 (pictures) or a picture's (numbers); None: ``dream.gif`` or ``dream.png`` in the run
    :param context: observations that the model sees of each episode
    :param length: longest episode, in observations
    :param n_episodes: episodes in the video; numbers are drawn of the first
    :param seed: of the env and of all draws
    :param trust: run what the run's files hold
    :return: the files
    :raises UserError: if the run's model has no world model, or the output's ending fits nothing that it foretells
    """
    run = open_run(folder)
    set_random_seed(seed)
    env = playing.make_run_env(run, seed, trust=trust)
    try:
        model = playing.load_model(run, env=env, trust=trust)
        policy = model.policy
        if not hasattr(policy, "open_loop"):
            raise UserError(f"{run.algo} learns no world model that could be drawn; dreamer_v3 and world_models do")
        episodes = [play_and_foretell(model.predict, policy, env, context, length) for _ in range(n_episodes)]  # type: ignore[arg-type]
    finally:
        env.close()
    written = []
    for name, first in episodes[0][0].items():
        pictures = first.truth.ndim == 4
        path = Path(output) if output else run.path / f"dream{f'_{name}' if name else ''}.{'gif' if pictures else 'png'}"
        if pictures != (path.suffix.lower() in playing.VIDEO_ENDINGS):
            if len(episodes[0][0]) > 1:  # the ending chooses among the parts of a Dict
                continue
            what = f"pictures: {' or '.join(playing.VIDEO_ENDINGS)}" if pictures else "numbers: .png, .svg or .pdf"
            raise UserError(f"--output {output}: what the run foretells is {what}")
        if pictures:
            video = playing.Video(path, FPS)
            for parts, seen in episodes:
                frames = video_frames(parts[name], seen)
                for t, frame in enumerate(frames):
                    video.show(frame, t == len(frames) - 1)
            video.close()
            written.append(path)
        else:
            title = f"{run.algo} on {run.env_id}: what it foretells after {episodes[0][1]} observations"
            written.append(plotting.save(curves(first, episodes[0][1], title), path))
    return written


def curves(foretold: Foretold, context: int, title: str) -> "Figure":
    """Draw the numbers of an observation over an episode: what came, and what the model foretold.

    :param foretold: numbers [T, V]; the first eight are drawn
    :param context: observations that the model saw; a line stands where it saw the last
    :param title: of the figure
    """
    from matplotlib.figure import Figure

    n = min(foretold.truth.shape[1], MAX_CURVES)
    figure = Figure(figsize=(8.0, 1.0 + 1.5 * n), layout="constrained")
    steps = np.arange(len(foretold.truth))
    for i, axes in enumerate(figure.subplots(n, 1, sharex=True, squeeze=False)[:, 0]):
        axes.plot(steps, foretold.truth[:, i], color=plotting.COLOURS[6], label="truth")
        axes.plot(steps, foretold.model[:, i], color=plotting.COLOURS[1], linestyle="--", label="model")
        axes.axvline(context - 1, color="0.7", linewidth=1.0)
        axes.set_ylabel(f"number {i}")
    figure.axes[0].legend(loc="upper right")
    figure.axes[-1].set_xlabel("step of the episode")
    figure.suptitle(title)
    return figure
