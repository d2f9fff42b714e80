"""What the commands show: the end of a training run, a played episode, the pictures of runs."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from rl_zoo3.exp_manager import ExperimentManager
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import set_random_seed
from stable_baselines3.common.vec_env import VecEnv

from sb3_lecture.zoo import grading, playing, plotting
from sb3_lecture.zoo.errors import UserError
from sb3_lecture.zoo.manager import LectureExperimentManager
from sb3_lecture.zoo.runs import Run, find_run, open_run, read_board

CURVE_FILE = "learning_curve.png"
VALUES_FILE = "value_map.png"
DEFAULT_FPS = 30.0
TERMINAL_FPS = 4.0


# --- train -----------------------------------------------------------------------------------------------------------


def finish(manager: LectureExperimentManager, model: BaseAlgorithm, enjoy_command: str) -> None:
    """Grade a trained model, draw its pictures, and say where everything is and what to try next.

    :param manager: the run's manager
    :param model: the trained model
    :param enjoy_command: how the user watches it
    """
    run = open_run(manager.save_path)
    pictures = []
    env = manager.create_test_env(model)
    text = hasattr(model, "exact_progress")
    try:
        grade = None if text else grading.grade(model, env)
        if isinstance(grade, str):
            print(f"No exact value: {grade}")
        elif grade is not None:
            print(grade.summary())
            if (offline := grading.offline_summary(model, env)) is not None:
                print(offline)
            pictures += _value_map(run, grade)
        if (score := grading.offline_score(model, env)) is not None:
            print(score)
    finally:
        env.close()
    for line in match_lines(read_board(run)):
        print(line)
    try:
        if text:
            from sb3_lecture.zoo import text_report

            pictures += text_report.finish(model, run)  # type: ignore[arg-type]
        else:
            pictures.insert(0, plotting.save(plotting.learning_curve([run]), run.path / CURVE_FILE))
    except UserError as nothing_yet:
        print(f"No learning curve: {nothing_yet}")
    print(f"Run:     {run.path}")
    for picture in pictures:
        print(f"Picture: {picture}")
    print(f"Next:    {enjoy_command}")


def match_lines(board: dict[str, np.ndarray]) -> list[str]:
    """What the last matches of a run of self-play came to, a line an opponent.

    :param board: see ``read_board``; empty for other runs
    """
    names = [key.removesuffix("_win") for key in board if key.endswith("_win")]
    lines = []
    for name in names:
        won, drawn, lost = (float(board[f"{name}_{end}"][-1]) for end in ("win", "draw", "loss"))
        lines.append(f"Against {name}, half of the games with each side: won {won:.0%}, drawn {drawn:.0%}, lost {lost:.0%}")
    return lines


def _value_map(run: Run, grade: "grading.Grade | grading.PredictionGrade | grading.StrategyGrade") -> list[Path]:
    if isinstance(grade, grading.StrategyGrade) or grade.layout is None:
        return []
    return [plotting.save(grade.value_map(f"{run.algo} on {run.env_id}"), run.path / VALUES_FILE)]


# --- enjoy -----------------------------------------------------------------------------------------------------------


def enjoy(args: argparse.Namespace) -> int:
    """Let a trained agent play and print its mean return.

    :param args: the arguments of ``enjoy``'s parser
    :return: the exit code
    :raises UserError: if there is no such run, or the env cannot be shown in that way
    """
    run = find_run(args.folder, args.algo or _newest_algorithm(args.folder), args.env, args.exp_id)
    playing.check_registered(run)
    render_mode = playing.choose_render_mode(run.env_id, args.render, args.video)
    screen: playing.Terminal | playing.Video | None = None
    if args.video is not None:
        screen = playing.Video(args.video, args.fps or _env_fps(run.env_id))
    elif render_mode == "ansi":
        screen = playing.Terminal(args.fps or TERMINAL_FPS)
    set_random_seed(args.seed)
    env = playing.make_run_env(
        run, args.seed, render_mode, args.env_kwargs, None if screen is None else screen.show, args.norm_reward,
        args.trust,
    )  # fmt: skip
    try:
        model = playing.load_model(run, _model_path(run, args), env, args.device, args.trust)
        random_by_default = ExperimentManager.is_atari(run.env_id) or ExperimentManager.is_minigrid(run.env_id)
        random_by_default |= grading.hides_information(env)  # whoever can be foreseen loses
        random_by_default |= hasattr(model, "exact_progress")  # a language model is a distribution
        deterministic = args.deterministic or not (args.stochastic or random_by_default)
        how = "best actions" if deterministic else "actions drawn from the policy"
        print(f"{run.algo} on {run.env_id}, {run.path}, {how}")
        episodes = playing.play(model, env, args.n_episodes, deterministic, args.n_timesteps, _print_episode)
    except KeyboardInterrupt:
        print("\nStopped.")
        return 130
    finally:
        env.close()
        if screen is not None:
            screen.close()
    _print_returns(episodes, args.n_timesteps)
    if isinstance(screen, playing.Video):
        print(f"Video: {screen.path} ({screen.n_frames} pictures, {screen.n_frames / screen.fps:.1f} s)")
    return 0


def _print_episode(number: int, episode: playing.Episode) -> None:
    print(f"Episode {number}: return {episode.episode_return:.2f}, {episode.length} steps", flush=True)


def _print_returns(episodes: list[playing.Episode], n_timesteps: int | None) -> None:
    returns = np.array([episode.episode_return for episode in episodes])
    if len(returns) == 0:
        print(f"No episode ended within {n_timesteps} steps.")
    elif len(returns) == 1:
        print(f"Return of 1 episode: {returns[0]:.2f}")
    else:
        print(f"Return over {len(returns)} episodes: {returns.mean():.2f} ± {returns.std(ddof=1):.2f} (mean ± sd)")


def _model_path(run: Run, args: argparse.Namespace) -> Path | None:
    if args.load_best:
        return run.path / "best_model.zip"
    if args.load_checkpoint is not None:
        return run.path / f"rl_model_{args.load_checkpoint}_steps.zip"
    return None


def _newest_algorithm(folder: str) -> str:
    found = sorted(Path(folder).glob("*/*/*/args.yml"), key=lambda path: path.stat().st_mtime)
    if not found:
        raise UserError(f"{folder} holds no run; train one first, or name the log folder with -f")
    return found[-1].parent.parent.parent.name


def _env_fps(env_id: str) -> float:
    import gymnasium as gym
    from gymnasium.envs.registration import load_env_creator

    entry_point = gym.spec(env_id).entry_point
    creator = load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
    return float((getattr(creator, "metadata", None) or {}).get("render_fps", DEFAULT_FPS))


# --- plot ------------------------------------------------------------------------------------------------------------


def plot(
    folders: Sequence[str],
    output: str | None = None,
    window: int | None = None,
    values: bool = True,
    evaluations: bool = False,
    trust: bool = False,
) -> None:
    """Draw the learning curves of runs into one picture, and the value map of each grid world's run into its folder.

    :param folders: runs' folders, or folders that hold runs
    :param output: the curves' file; None: ``learning_curve.png`` in the folder that holds all runs
    :param window: episodes in the rolling mean; None: chosen by the number of episodes
    :param values: whether to draw value maps
    :param evaluations: whether evaluation episodes alone are drawn
    :param trust: run what the runs' files hold
    :raises UserError: if a folder is no run, or there is nothing to draw
    """
    runs = [run for folder in folders for run in _runs_in(Path(folder))]
    runs = list({run.path.resolve(): run for run in runs}.values())
    common = Path(os.path.commonpath([run.path.resolve() for run in runs]))
    path = common / CURVE_FILE if output is None else Path(output)
    try:
        path = Path(os.path.relpath(path))
    except ValueError:  # another drive
        pass
    print(f"Picture: {plotting.save(plotting.learning_curve(runs, window, evaluations), path)}")
    for run in runs if values else []:
        for picture in _draw_values(run, trust):
            print(f"Picture: {picture}")


def _runs_in(folder: Path) -> list[Run]:
    inside = sorted({args.parent.parent for depth in ("*/*", "*/*/*") for args in folder.glob(f"{depth}/args.yml")})
    return [open_run(path) for path in inside] if inside else [open_run(folder)]


def _draw_values(run: Run, trust: bool) -> list[Path]:
    if not run.model_path.is_file():
        return []
    env: VecEnv = playing.make_run_env(run, trust=trust)
    try:
        if not grading.has_law(env):
            return []
        grade = grading.grade(playing.load_model(run, env=env, trust=trust), env)
    finally:
        env.close()
    if grade is None or isinstance(grade, str):
        return []
    return _value_map(run, grade)
