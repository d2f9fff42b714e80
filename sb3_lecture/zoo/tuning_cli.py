"""The parsers of ``tune`` and ``tune-server``."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sb3_lecture.zoo import cli
from sb3_lecture.zoo.errors import UserError

if TYPE_CHECKING:
    from sb3_lecture.zoo.tuning import Options

PORT = 13000


def tune_parser() -> cli.Parser:
    """Build the parser of ``tune``; options that rl_zoo3 has too keep its names."""
    parser = cli.Parser(
        prog=cli._command("tune"),
        description="Search hyperparameters. After a kill, or to add trials, give the same command again.",
    )
    parser.add_argument("--algo", required=True, help="the algorithm")
    parser.add_argument("--env", help="environment id, or module:id; default: the first entry of zoo_configs/<algo>.yml")
    parser.add_argument("-f", "--folder", "--log-folder", default=cli.DEFAULT_LOG_FOLDER, help="log folder, default logs")
    parser.add_argument("--conf-file", help="config whose values are tuned; default: zoo_configs/<algo>.yml")
    parser.add_argument("--gym-packages", nargs="+", default=[], help="packages to import, which register envs")
    parser.add_argument("--device", default="auto", help="cpu, cuda, …")
    study = parser.add_argument_group("the study")
    study.add_argument("--n-trials", type=int, default=100, help="trials that the study shall hold in the end, default 100")
    study.add_argument("--n-workers", type=int, default=1, help="processes, default 1")
    study.add_argument("--sampler", choices=("tpe", "gp", "cmaes", "random"), default="tpe", help="default tpe")
    study.add_argument(
        "--pruner", choices=("auto", "percentile", "wilcoxon", "none"), default="auto",
        help="auto: stop the worst quarter (percentile); from 6 seeds on, a test against the best trial (wilcoxon)",
    )  # fmt: skip
    study.add_argument("--seed", type=int, default=0, help="of the sampler, and the first training seed; default 0")
    study.add_argument("--study-name", help="default: <algo>-<env>")
    study.add_argument(
        "--storage", help="FILE, postgresql://…, mysql://… or grpc://host:port (tune-server); default: a file in the folder"
    )
    study.add_argument("--heartbeat", type=int, default=10, help="seconds between two signs of life of a trial, default 10")
    study.add_argument("--grace", type=int, default=60, help="seconds without one until it is run again, default 60")
    score = parser.add_argument_group("what a trial is worth")
    score.add_argument("--n-seeds", type=int, default=3, help="trainings of a trial, default 3")
    score.add_argument("-n", "--n-timesteps", type=int, default=0, help="env steps of each; default: the config's")
    score.add_argument("--n-evaluations", type=int, default=5, help="evaluations during a training, default 5")
    score.add_argument("--n-eval-episodes", type=int, default=10, help="episodes of each, always the same; default 10")
    score.add_argument(
        "--score", choices=("final", "mean"), default="final",
        help="final: the last evaluation (default); mean: the mean of all, which rewards learning fast",
    )  # fmt: skip
    score.add_argument("--quantile", type=float, help="over the seeds, such as 0.25; default: their mean")
    result = parser.add_argument_group("the result")
    result.add_argument("--top-k", type=int, default=5, help="best trials to train again on fresh seeds, default 5")
    result.add_argument("--n-fresh-seeds", type=int, default=10, help="default 10")
    result.add_argument("--write-config", action="store_true", help="write the winner into the config, if it is better")
    result.add_argument("--dashboard", action="store_true", help="start optuna-dashboard on the study")
    result.add_argument("--no-progress", action="store_true", help="show no progress bar")
    return parser


def parse(argv: Sequence[str]) -> "Options":
    """Read the options of ``tune``.

    :raises UserError: if one is wrong
    """
    parser = tune_parser()
    args = parser.parse_args(argv)
    least = {"n_trials": 1, "n_workers": 1, "n_seeds": 1, "n_timesteps": 0, "n_evaluations": 1, "n_eval_episodes": 1}
    least |= {"top_k": 1, "n_fresh_seeds": 2, "heartbeat": 1, "grace": 2 * args.heartbeat, "seed": 0}
    for name, bound in least.items():
        if getattr(args, name) < bound:
            parser.error(f"--{name.replace('_', '-')} {getattr(args, name)}: at least {bound} is needed")
    if args.quantile is not None and not 0.0 <= args.quantile <= 1.0:
        parser.error(f"--quantile {args.quantile}: it lies between 0 and 1")
    from sb3_lecture.zoo import configs, registry

    registry.target(args.algo)
    registry.search_space(args.algo)
    cli._import_worlds()
    for package in args.gym_packages:
        cli._import_package(package, "--gym-packages")
    conf_file = str(configs.config_path(args.algo)) if args.conf_file is None else args.conf_file
    entries = configs.read_entries(conf_file)
    env_id = cli.resolve_env(str(next(iter(entries))) if args.env is None else args.env, entries)
    if args.env is not None and ":" in args.env:
        args.gym_packages.append(args.env.split(":", 1)[0])
    from rl_zoo3.exp_manager import ExperimentManager

    configs.entry_key(entries, env_id, ExperimentManager.is_atari(env_id), conf_file)
    from huggingface_sb3 import EnvironmentName

    from sb3_lecture.zoo.tuning import Options
    from sb3_lecture.zoo.tuning_objective import Settings
    from sb3_lecture.zoo.tuning_study import WILCOXON_SEEDS

    name = args.study_name or f"{args.algo}-{EnvironmentName(env_id)}"
    if Path(name).name != name:
        parser.error(f"--study-name {name}: it names a folder too, so it holds no slash")
    n_cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    per_seed = args.pruner == "wilcoxon" or (args.pruner == "auto" and args.n_seeds >= WILCOXON_SEEDS)
    settings = Settings(
        args.algo, env_id, conf_file, tuple(range(args.seed, args.seed + args.n_seeds)), args.n_timesteps, args.n_evaluations,
        args.n_eval_episodes, args.score, args.quantile, per_seed, args.device, max(1, n_cores // args.n_workers),
        tuple(args.gym_packages),
    )  # fmt: skip
    return Options(
        settings, Path(args.folder) / args.algo / f"study-{args.study_name or EnvironmentName(env_id)}", args.storage, name,
        args.n_trials, args.n_workers, args.sampler, args.pruner, args.seed, args.top_k, args.n_fresh_seeds, args.write_config,
        args.dashboard, not args.no_progress and os.isatty(2), args.heartbeat, args.grace,
    )  # fmt: skip


def tune(argv: Sequence[str]) -> int:
    """Run a study."""
    options = parse(argv)
    from sb3_lecture.zoo.tuning import tune as run

    try:
        return run(options)
    except KeyboardInterrupt:
        print("\nInterrupted; the same command goes on from here.")
        return cli.INTERRUPTED


def tune_server(argv: Sequence[str]) -> int:
    """Serve a storage to workers on other machines, and requeue their lost trials."""
    parser = cli.Parser(
        prog="sb3-lecture tune-server",
        description="Optuna's gRPC proxy in front of a study storage, for tune --storage grpc://host:port. It asks for no "
        "password: listen where only those you trust can reach it.",
    )
    parser.add_argument("--storage", required=True, help="FILE, postgresql://… or mysql://…")
    parser.add_argument("--host", default="127.0.0.1", help="address to listen on, default 127.0.0.1")
    parser.add_argument("--port", type=int, default=PORT, help=f"default {PORT}")
    parser.add_argument("--heartbeat", type=int, default=10, help="seconds between two looks for lost trials, default 10")
    parser.add_argument("--grace", type=int, default=60, help="seconds without a sign of life until one is lost, default 60")
    args = parser.parse_args(argv)
    if args.heartbeat < 1 or args.grace < 2 * args.heartbeat:
        parser.error(f"--heartbeat {args.heartbeat} --grace {args.grace}: at least 1, and at least twice that")
    from sb3_lecture.zoo.tuning_storage import hide_password, serve
    from sb3_lecture.zoo.tuning_study import quiet, requeue_all

    quiet()
    print(f"Serving {hide_password(args.storage)} at grpc://{args.host}:{args.port} until Ctrl-C", flush=True)
    try:
        serve(args.storage, args.host, args.port, requeue_all, args.heartbeat, args.grace)
    except KeyboardInterrupt:
        return 0
    raise UserError("the server has stopped")
