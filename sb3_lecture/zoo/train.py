"""``train``: rl_zoo3's command with our manager and our defaults. Its tuner's options are left out: ``tune`` is ours."""

import argparse
import importlib.util
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sb3_lecture.zoo import configs, registry, safe
from sb3_lecture.zoo.errors import UserError, first_line
from sb3_lecture.zoo.options import (
    DEFAULT_LOG_FOLDER,
    INTERRUPTED,
    MAX_SEED,
    StoreDict,
    add_run_options,
    command,
    env_with_module,
    evaluate,
    folder,
    import_packages,
    real,
    resolve_env,
    steps,
    whole,
)

if TYPE_CHECKING:
    from sb3_lecture.zoo.manager import LectureExperimentManager

#: the algorithm of the README's first command; its config's first entry is the maze
DEFAULT_ALGO = "dqn"
#: options of rl_zoo3's tuner, which is not ours
_TUNER = (
    "-optimize", "--optimize-hyperparameters", "--optimization-log-path", "--n-trials", "--max-total-trials",
    "--no-optim-plots", "--n-jobs", "--sampler", "--pruner", "--n-startup-trials", "--n-evaluations", "--storage",
    "--study-name", "--trial-id",
)  # fmt: skip


class _UseTune(argparse.Action):
    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        parser.error(f"{option_string} belongs to rl_zoo3's tuner; here tune searches, and train --study uses what it found")


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options; those of rl_zoo3 keep its names."""
    add = parser.add_argument
    add("--algo", default=DEFAULT_ALGO, help=f"default {DEFAULT_ALGO}; known: {', '.join(registry.algorithms())}")
    add("--env", help="env id, or module:id; default: the first entry of zoo_configs/<algo>.yml")
    add(
        "-n",
        "--n-timesteps",
        type=steps,
        default=-1,
        help="env steps (cfr, cfr_plus, mccfr, tabular_rnad: iterations); default: the config's",
    )
    add("--seed", type=whole(0, MAX_SEED, also=(-1,)), default=-1, help="random seed; default: a random one")
    add("-f", "--log-folder", type=folder, default=DEFAULT_LOG_FOLDER, help="log folder, default logs")
    add("-P", "--progress", action="store_true", default=None, help="show a progress bar (default: in a terminal)")
    add("--no-progress", dest="progress", action="store_false", default=None, help="show no progress bar")
    add("--verbose", type=whole(0, 2), default=0, help="1: SB3's tables too, 2: tracebacks of setup errors too")
    add("--device", default="auto", help="torch's device: cpu, cuda, …")
    add("--num-threads", type=whole(1, 4096, also=(-1,)), default=-1, help="PyTorch's threads; default: its own choice")
    add(
        "--render-training", type=real(0.0), nargs="?", const=10.0, metavar="SPEED",
        help="draw the first env in the terminal while it learns, SPEED steps a second (default 10, 0: at once)",
    )  # fmt: skip
    add(
        "--describe", type=whole(1), nargs="?", const=1, metavar="EVERY",
        help="a line an episode, or every so many: its duration, return, and how it ended",
    )  # fmt: skip
    values = parser.add_argument_group("hyperparameters")
    add = values.add_argument
    add(
        "-conf",
        "--conf-file",
        help="a YAML file (or a Python file or package, with --trust) instead of zoo_configs/<algo>.yml",
    )
    add("-params", "--hyperparams", nargs="+", action=StoreDict, metavar="NAME:VALUE", help="learning_rate:0.01 train_freq:10")
    add("--dataset", metavar="DATA", help="what an offline learner learns from: a file, minari:ID, .hdf5, or random:N")
    add("--study", metavar="FILE[:TRIAL]", help="train with what tune found: its winner, or that trial")
    add("--env-kwargs", nargs="+", action=StoreDict, metavar="NAME:VALUE", help="arguments of the env")
    add("--eval-env-kwargs", nargs="+", action=StoreDict, metavar="NAME:VALUE", help="of the evaluation env, if others")
    add("--vec-env", choices=("dummy", "subproc"), default="dummy", help="how several envs are stepped, default dummy")
    evaluation = parser.add_argument_group("evaluation")
    add = evaluation.add_argument
    add("--eval-freq", type=whole(), help="every n steps, negative: never; default: 20 times a run (Atari: every 25000)")
    add("--eval-episodes", type=whole(1), default=5, help="episodes of each, default 5")
    add("--n-eval-envs", type=whole(1, 4096), default=1, help="envs, default 1")
    saving = parser.add_argument_group("saving and going on")
    add = saving.add_argument
    add("--save-freq", type=whole(), default=-1, help="save the model every n steps (negative: never, the default)")
    add("--save-replay-buffer", action="store_true", help="save the replay buffer too")
    add("-i", "--trained-agent", default="", metavar="ZIP", help="go on with a saved model")
    add("--truncate-last-trajectory", type=_truth, default=True, help="HER: end the last trajectory of a loaded buffer")
    add(
        "--resume", nargs="?", const="", metavar="RUN",
        help="go on with a run that was stopped: its folder, or nothing for the newest of this --algo and --env",
    )  # fmt: skip
    add("--checkpoint-every", type=real(-1.0), metavar="SECONDS", help="between checkpoints, default 60; -1: none")
    add("-uuid", "--uuid", action="store_true", help="a unique id in the run's name")
    logging = parser.add_argument_group("logging")
    add = logging.add_argument
    add("-tb", "--tensorboard-log", default="", metavar="FOLDER", help="log to TensorBoard")
    add("--log-interval", type=whole(1, also=(-1, -2)), default=-1, help="every n episodes or rollouts; -2: never")
    add("--track", action="store_true", help="log to Weights & Biases")
    add("--wandb-project-name", default="sb3", metavar="NAME", help="default sb3")
    add("--wandb-entity", metavar="TEAM", help="the project's team")
    add("--wandb-group", metavar="NAME", help="the run's group")
    add("-tags", "--wandb-tags", nargs="+", default=[], metavar="TAG", help="the run's tags")
    add_run_options(parser)
    for option in _TUNER:
        parser.add_argument(option, action=_UseTune, nargs="?", default=argparse.SUPPRESS, help=argparse.SUPPRESS)


def _truth(text: str) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if text.lower() not in known:
        raise argparse.ArgumentTypeError(f"write true or false, not {text!r}")
    return known[text.lower()]


def run(args: argparse.Namespace) -> int:
    """Train an agent, save it, and say how good it is.

    :raises UserError: if an argument or the config is wrong
    """
    if args.resume is not None:
        _take_from_run(args)
    if args.dataset is not None:
        args.hyperparams = {**(args.hyperparams or {}), "dataset": repr(args.dataset)}
    complete(args)
    import numpy as np
    import torch as th
    from stable_baselines3.common.utils import set_random_seed

    _check_device(args.device)
    if args.seed < 0:
        args.seed = int(np.random.default_rng().integers(MAX_SEED + 1))
    set_random_seed(args.seed)
    if args.num_threads > 0:
        th.set_num_threads(args.num_threads)
    print("=" * 10, args.env, "=" * 10)
    print(f"Seed: {args.seed}")
    tracked = _track(args) if args.track else None
    manager = _manager(args)
    model, saved = manager.setup_experiment()
    if tracked is not None:
        tracked.config.setdefaults({**vars(args), "saved_hyperparams": saved})
    manager.learn(model)
    manager.save_trained_model(model)
    from sb3_lecture.zoo import report

    report.finish(manager, model, next_command(args))
    return INTERRUPTED if manager.interrupted else 0


#: options of a resumed run that are this command's, not the run's
_OF_NOW = (
    "resume", "checkpoint_every", "progress", "verbose", "render_training", "describe", "gym_packages", "study", "device",
    "trust", "run",
)  # fmt: skip


def _take_from_run(args: argparse.Namespace) -> None:
    """Make a command the one that began a run.

    :param args: ``resume`` names the run's folder, or is empty: then the newest unfinished run of the algorithm and env
    :raises UserError: if there is no such run, or it is finished
    """
    from sb3_lecture.zoo.resuming import is_finished
    from sb3_lecture.zoo.runs import find_runs, open_run

    if args.resume:
        run = open_run(args.resume)
    else:
        unfinished = [run for run in find_runs(args.log_folder, args.algo, args.env) if not is_finished(run)]
        if not unfinished:
            raise UserError(f"no run of {args.algo} in {args.log_folder} is unfinished; leave --resume out to begin one")
        run = unfinished[0]
    if is_finished(run):
        raise UserError(f"{run.path} is finished: {run.model_path} is its model; train on from it with -i {run.model_path}")
    for name, value in run.saved_args().items():
        if name not in _OF_NOW and hasattr(args, name):
            texts = isinstance(value, dict) and name in ("hyperparams", "env_kwargs", "eval_env_kwargs")
            setattr(args, name, {key: _as_text(part) for key, part in value.items()} if texts else value)
    args.resume, args.study = str(run.path), None


def _as_text(value: Any) -> str:
    """Write a saved value as an option has it; a text that is no value stands for itself."""
    if not isinstance(value, str):
        return safe.text_of(value)
    try:
        safe.value(value)
    except ValueError:
        return repr(value)
    return value


def next_command(args: argparse.Namespace) -> str:
    """How to watch what was trained, in a new shell."""
    folder = [] if Path(args.log_folder) == Path(DEFAULT_LOG_FOLDER) else ["-f", args.log_folder]
    packages = [name for name in args.gym_packages if name != args.env_module]
    env = env_with_module(args.env, args.env_module)
    more = ["--gym-packages", *packages] if packages else []
    return command("enjoy", "--algo", args.algo, "--env", env, *folder, *more)


def complete(args: argparse.Namespace) -> None:
    """Check the arguments together and fill in what was left open: the config, the environment, the progress bar.

    :param args: the parser's; changed in place
    :raises UserError: if an argument is wrong
    """
    registry.target(args.algo)
    for name in ("hyperparams", "env_kwargs", "eval_env_kwargs"):
        evaluate(args, name)
    import_packages(args.gym_packages)
    if args.study is not None:
        _take_from_study(args)
    entries = _entries(args)
    if args.env is None:
        if entries is None:
            raise UserError("give --env: only a YAML config has a first entry to default to")
        args.env = str(next(iter(entries)))
    args.env_module = args.env.split(":", 1)[0] if ":" in args.env else None
    args.env = resolve_env(args.env, entries)
    if args.env_module is not None and args.env_module not in args.gym_packages:
        args.gym_packages = [*args.gym_packages, args.env_module]
    if entries is not None:
        configs.entry_key(entries, args.env, configs.is_atari(args.env), args.conf_file, args.algo)
    if args.progress is None:
        args.progress = sys.stdout.isatty()
    _check_files(args)
    registry.fill_rl_zoo3([args.algo])


def _entries(args: argparse.Namespace) -> dict[str, dict[str, Any]] | None:
    """Find the config; read it if it is YAML."""
    if args.conf_file is None:
        args.conf_file = str(configs.config_path(args.algo))
    if args.conf_file.endswith((".yml", ".yaml")):
        return configs.read_entries(args.conf_file)
    if args.conf_file.endswith(".py"):
        if not Path(args.conf_file).is_file():
            raise UserError(f"--conf-file {args.conf_file}: there is no such file")
    else:
        import_packages([args.conf_file], "--conf-file")
    if not args.trust:
        raise UserError(f"--conf-file {args.conf_file} is a program; --trust runs it")
    return None


def _take_from_study(args: argparse.Namespace) -> None:
    """Fill in what a trial was: env, steps and hyperparameters; what the user gives goes first."""
    from sb3_lecture.zoo.tuning import trained_with

    hyperparams, settings = trained_with(args.study, args.algo)
    args.hyperparams = {**hyperparams, **(args.hyperparams or {})}
    if args.env is None:
        args.env = settings["env_id"]
    if args.n_timesteps <= 0 and settings["n_timesteps"] > 0:
        args.n_timesteps = settings["n_timesteps"]


def _check_files(args: argparse.Namespace) -> None:
    if args.trained_agent and not (args.trained_agent.endswith(".zip") and os.path.isfile(args.trained_agent)):
        raise UserError(f"--trained-agent {args.trained_agent}: there is no such .zip file")
    for wanted, package, option, install in (
        (args.track, "wandb", "--track", "wandb"),
        (args.tensorboard_log, "tensorboard", "--tensorboard-log", "'sb3-lecture[tensorboard]'"),
    ):
        if wanted and importlib.util.find_spec(package) is None:
            raise UserError(f"{option} needs {package}: pip install {install}")


def _check_device(device: str) -> None:
    import torch as th

    if device == "auto":
        return
    try:
        th.zeros(1, device=device)
    except (RuntimeError, AssertionError, ValueError, NotImplementedError) as error:
        raise UserError(f"--device {device}: {first_line(error).split('. ')[0]}; auto takes what there is") from error


def _track(args: argparse.Namespace) -> Any:
    """Begin a run of Weights & Biases, as rl_zoo3 does."""
    import stable_baselines3 as sb3
    import wandb

    args.command = " ".join(sys.orig_argv)
    name = f"{args.env}__{args.algo}__{args.seed}__{int(time.time())}"
    args.tensorboard_log = f"runs/{name}"
    return wandb.init(
        name=name, project=args.wandb_project_name, entity=args.wandb_entity, group=args.wandb_group,
        tags=[*args.wandb_tags, f"v{sb3.__version__}"], config=vars(args), sync_tensorboard=True, monitor_gym=True,
        save_code=True,
    )  # fmt: skip


def _manager(args: argparse.Namespace) -> "LectureExperimentManager":
    import uuid

    from sb3_lecture.zoo.manager import LectureExperimentManager

    return LectureExperimentManager(
        args, args.algo, args.env, args.log_folder, args.tensorboard_log, args.n_timesteps, args.eval_freq, args.eval_episodes,
        args.save_freq, args.hyperparams, args.env_kwargs, args.eval_env_kwargs, args.trained_agent,
        truncate_last_trajectory=args.truncate_last_trajectory, uuid_str=f"_{uuid.uuid4()}" if args.uuid else "",
        seed=args.seed, log_interval=args.log_interval, save_replay_buffer=args.save_replay_buffer, verbose=args.verbose,
        vec_env_type=args.vec_env, n_eval_envs=args.n_eval_envs, device=args.device, config=args.conf_file,
        show_progress=args.progress,
    )  # fmt: skip
