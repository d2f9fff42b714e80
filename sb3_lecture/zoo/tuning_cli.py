"""The options of ``tune`` and ``tune-server``."""

import argparse
import os
from pathlib import Path
from typing import TYPE_CHECKING

from sb3_lecture.zoo import configs, registry
from sb3_lecture.zoo.errors import UserError
from sb3_lecture.zoo.options import (
    DEFAULT_LOG_FOLDER,
    INTERRUPTED,
    MAX_SEED,
    folder,
    import_packages,
    real,
    resolve_env,
    whole,
)

if TYPE_CHECKING:
    from sb3_lecture.zoo.tuning import Options

PORT = 13000
#: environment variable that a storage is read from, so that no password stands in a command line
STORAGE_VARIABLE = "SB3_LECTURE_STORAGE"
#: worker processes a core, at most; each holds PyTorch
WORKERS_PER_CORE = 4
_SECONDS = whole(1, 10**6)


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``tune``; those that rl_zoo3 has too keep its names."""
    parser.description = "Search hyperparameters. After a kill, or to add trials, give the same command again."
    parser.add_argument("--algo", required=True, help="the algorithm")
    parser.add_argument("--env", help="environment id, or module:id; default: the first entry of zoo_configs/<algo>.yml")
    parser.add_argument(
        "-f", "--folder", "--log-folder", type=folder, default=DEFAULT_LOG_FOLDER, help="log folder, default logs"
    )
    parser.add_argument("--conf-file", help="config whose values are tuned; default: zoo_configs/<algo>.yml")
    parser.add_argument("--gym-packages", nargs="+", default=[], help="packages to import, which register envs")
    parser.add_argument("--device", default="auto", help="cpu, cuda, …")
    study = parser.add_argument_group("the study")
    study.add_argument(
        "--n-trials", type=whole(1, 10**9), default=100, help="trials that the study shall hold in the end, default 100"
    )
    study.add_argument("--n-workers", type=whole(1), default=1, help="processes, default 1")
    study.add_argument("--sampler", choices=("tpe", "gp", "cmaes", "random"), default="tpe", help="default tpe")
    study.add_argument(
        "--pruner", choices=("auto", "percentile", "wilcoxon", "none"), default="auto",
        help="auto: stop the worst quarter (percentile); from 6 seeds on, a test against the best trial (wilcoxon)",
    )  # fmt: skip
    study.add_argument(
        "--seed", type=whole(0, MAX_SEED // 2), default=0, help="of the sampler, and the first training seed; default 0"
    )
    study.add_argument("--study-name", help="default: <algo>-<env>")
    study.add_argument(
        "--storage",
        help="FILE, postgresql://…, mysql://… or grpc://host:port (tune-server); default: "
        f"${STORAGE_VARIABLE}, where nobody sees its password, or a file in the folder",
    )
    study.add_argument(
        "--heartbeat", type=_SECONDS, default=10, help="seconds between two signs of life of a trial, default 10"
    )
    study.add_argument("--grace", type=_SECONDS, default=60, help="seconds without one until it is run again, default 60")
    score = parser.add_argument_group("what a trial is worth")
    score.add_argument("--n-seeds", type=whole(1, 10_000), default=3, help="trainings of a trial, default 3")
    score.add_argument("-n", "--n-timesteps", type=whole(0, 2**62), default=0, help="env steps of each; default: the config's")
    score.add_argument("--n-evaluations", type=whole(1, 10_000), default=5, help="evaluations during a training, default 5")
    score.add_argument(
        "--n-eval-episodes", type=whole(1, 10_000), default=10, help="episodes of each, always the same; default 10"
    )
    score.add_argument(
        "--score", choices=("final", "mean"), default="final",
        help="final: the last evaluation (default); mean: the mean of all, which rewards learning fast",
    )  # fmt: skip
    score.add_argument("--quantile", type=real(0.0, 1.0), help="over the seeds, such as 0.25; default: their mean")
    result = parser.add_argument_group("the result")
    result.add_argument(
        "--top-k", type=whole(1, 10_000), default=5, help="best trials to train again on fresh seeds, default 5"
    )
    result.add_argument("--n-fresh-seeds", type=whole(2, 10_000), default=10, help="default 10")
    result.add_argument("--write-config", action="store_true", help="write the winner into the config, if it is better")
    result.add_argument("--dashboard", action="store_true", help="start optuna-dashboard on the study")
    result.add_argument("--no-progress", action="store_true", help="show no progress bar")


def read(args: argparse.Namespace) -> "Options":
    """Check the arguments of ``tune`` together.

    :raises UserError: if one is wrong
    """
    _check_grace(args)
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    if args.n_workers > WORKERS_PER_CORE * n_cores:
        raise UserError(f"--n-workers {args.n_workers}: at most {WORKERS_PER_CORE * n_cores} on {n_cores} cores")
    registry.target(args.algo)
    registry.search_space(args.algo)
    import_packages(args.gym_packages)
    conf_file = str(configs.config_path(args.algo)) if args.conf_file is None else args.conf_file
    entries = configs.read_entries(conf_file)
    env_id = resolve_env(str(next(iter(entries))) if args.env is None else args.env, entries)
    if args.env is not None and ":" in args.env:
        args.gym_packages.append(args.env.split(":", 1)[0])
    configs.entry_key(entries, env_id, configs.is_atari(env_id), conf_file, args.algo)
    from huggingface_sb3 import EnvironmentName

    from sb3_lecture.zoo.tuning import Options
    from sb3_lecture.zoo.tuning_objective import Settings
    from sb3_lecture.zoo.tuning_study import WILCOXON_SEEDS

    name = args.study_name or f"{args.algo}-{EnvironmentName(env_id)}"
    if Path(name).name != name or "\0" in name or len(name) > 200:
        raise UserError(f"--study-name {name[:60]}: it names a folder too, so it holds no slash, and at most 200 characters")
    per_seed = args.pruner == "wilcoxon" or (args.pruner == "auto" and args.n_seeds >= WILCOXON_SEEDS)
    settings = Settings(
        args.algo, env_id, conf_file, tuple(range(args.seed, args.seed + args.n_seeds)), args.n_timesteps, args.n_evaluations,
        args.n_eval_episodes, args.score, args.quantile, per_seed, args.device, max(1, n_cores // args.n_workers),
        tuple(args.gym_packages),
    )  # fmt: skip
    return Options(
        settings, Path(args.folder) / args.algo / f"study-{args.study_name or EnvironmentName(env_id)}",
        args.storage or os.environ.get(STORAGE_VARIABLE) or None, name,
        args.n_trials, args.n_workers, args.sampler, args.pruner, args.seed, args.top_k, args.n_fresh_seeds, args.write_config,
        args.dashboard, not args.no_progress and os.isatty(2), args.heartbeat, args.grace,
    )  # fmt: skip


def _check_grace(args: argparse.Namespace) -> None:
    if args.grace < 2 * args.heartbeat:
        raise UserError(f"--grace {args.grace}: at least {2 * args.heartbeat} is needed, twice the --heartbeat")


def run(args: argparse.Namespace) -> int:
    """Run a study."""
    options = read(args)
    from sb3_lecture.zoo.tuning import tune

    try:
        return tune(options)
    except KeyboardInterrupt:
        print("\nInterrupted; the same command goes on from here.")
        return INTERRUPTED


def server_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``tune-server``."""
    parser.description = (
        "Optuna's gRPC proxy in front of a study storage, for tune --storage grpc://host:port. It asks for no password: "
        "listen where only those you trust can reach it."
    )
    parser.add_argument("--storage", help=f"FILE, postgresql://… or mysql://…; default: ${STORAGE_VARIABLE}")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on, default 127.0.0.1")
    parser.add_argument("--port", type=whole(1, 65535), default=PORT, help=f"default {PORT}")
    parser.add_argument("--heartbeat", type=_SECONDS, default=10, help="seconds between two looks for lost trials, default 10")
    parser.add_argument(
        "--grace", type=_SECONDS, default=60, help="seconds without a sign of life until one is lost, default 60"
    )


def server(args: argparse.Namespace) -> int:
    """Serve a storage to workers on other machines, and requeue their lost trials."""
    _check_grace(args)
    where = args.storage or os.environ.get(STORAGE_VARIABLE)
    if not where:
        raise UserError(f"give --storage, or set {STORAGE_VARIABLE}")
    from sb3_lecture.zoo.tuning_storage import hide_password, serve
    from sb3_lecture.zoo.tuning_study import quiet, requeue_all

    quiet()
    print(f"Serving {hide_password(where)} at grpc://{args.host}:{args.port} until Ctrl-C", flush=True)
    try:
        serve(where, args.host, args.port, requeue_all, args.heartbeat, args.grace)
    except KeyboardInterrupt:
        return 0
    raise UserError("the server has stopped")
