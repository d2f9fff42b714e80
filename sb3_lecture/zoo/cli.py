"""The commands: ``sb3-lecture train | enjoy | plot | tune | tune-server | gtp``; ``scripts/*.py`` call them too.

What the user can put right raises a UserError anywhere below, and ``main`` prints it as one line with exit code 2. Anything
else is a bug and keeps its traceback.
"""

import argparse
import importlib
import importlib.util
import os
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from sb3_lecture.zoo.errors import UserError, nearest
from sb3_lecture.zoo.seams import replaced

if TYPE_CHECKING:
    pass

USAGE = """usage: sb3-lecture COMMAND [OPTIONS]

commands:
  train   train an agent:          sb3-lecture train --algo dqn
  enjoy   watch the trained agent: sb3-lecture enjoy --algo dqn
          play against one:        sb3-lecture enjoy --env Lecture/ConnectFour-v0 --human --opponent perfect
  plot    draw learning curves:    sb3-lecture plot logs/dqn/Lecture-Maze-v0_1
          compare learners:        sb3-lecture plot compare sarsa q_learning --env Lecture/CliffWalking-v0 --seeds 30
          gradient estimators:     sb3-lecture plot estimators
  tune    search hyperparameters:  sb3-lecture tune --algo q_learning --n-trials 200
          train with the result:   sb3-lecture train --algo q_learning --study logs/q_learning/…/study.db
  tune-server   share a study among machines
  gtp     a Go engine for GTP programs

sb3-lecture COMMAND --help lists a command's options.
"""
DEFAULT_LOG_FOLDER = "logs"
INTERRUPTED = 130  # what a shell expects of a program that Ctrl-C ended


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    :param argv: the command and its options; None: those of the process
    :return: the exit code: 0, 2 if the user has something to put right, 130 after Ctrl-C
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE, end="")
        return 0 if arguments else 2
    name, *rest = arguments
    try:
        if name not in COMMANDS:
            raise UserError(f"unknown command {name!r}{nearest(name, COMMANDS)}; commands: {', '.join(COMMANDS)}")
        return COMMANDS[name](rest)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted; nothing was saved.", file=sys.stderr)
        return INTERRUPTED


class Parser(argparse.ArgumentParser):
    """A parser whose errors are UserErrors, one line each."""

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments; an unknown option gets the nearest right name."""
        wrong = message.removeprefix("unrecognized arguments: ").split(" ")[0]
        hint = nearest(wrong.split("=")[0], self._option_string_actions) if wrong.startswith("-") else ""
        raise UserError(f"{message}{hint}")


# --- train -----------------------------------------------------------------------------------------------------------


def train(argv: Sequence[str]) -> int:
    """Train an agent with rl_zoo3's own command, our manager, and our parser's defaults."""
    _import_worlds()
    import rl_zoo3.train as zoo_train

    from sb3_lecture.zoo.manager import LectureExperimentManager

    managers: list[LectureExperimentManager] = []

    def build(*args: Any, **kwargs: Any) -> LectureExperimentManager:
        managers.append(LectureExperimentManager(*args, **kwargs))
        return managers[0]

    parser = types.SimpleNamespace(**{**vars(argparse), "ArgumentParser": lambda: _train_parser(argv)})
    with replaced(zoo_train, argparse=parser, ExperimentManager=build):
        zoo_train.train()
    manager = managers[0]
    if manager.model is None:  # -optimize, which trains no model to keep
        return 0
    from sb3_lecture.zoo import report

    report.finish(manager, manager.model, _command("enjoy"))
    return INTERRUPTED if manager.interrupted else 0


def _train_parser(argv: Sequence[str]) -> "TrainParser":
    return TrainParser(argv, prog=_command("train"), description="Train an agent. All options are rl_zoo3's, and these ours.")


class TrainParser(Parser):
    """rl_zoo3 fills this parser with its own options; ``parse_args`` adds ours and works out what was left open.

    :param argv: the arguments to parse
    """

    def __init__(self, argv: Sequence[str], **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._argv = list(argv)

    def add_argument(self, *names: Any, **kwargs: Any) -> argparse.Action:
        """Add an option; ours differ in a default or a check."""
        if "--algo" in names:
            kwargs.update(choices=None, help="the algorithm, default ppo: " + ", ".join(_algorithm_names()))
        if "--env" in names:
            kwargs.update(default=None, help="env id, or module:id; default: the first entry of zoo_configs/<algo>.yml")
        if "--eval-freq" in names:
            kwargs.update(
                default=None, help="evaluate every n steps (negative: never); default: 20 times a run (Atari: every 25000)"
            )
        if "--verbose" in names:
            kwargs.update(default=0, help="0: progress and results, 1: SB3's tables too, 2: tracebacks of setup errors too")
        if "--progress" in names:
            kwargs.update(default=None, help="show a progress bar; default: where the output is a terminal")
        if isinstance(kwargs.get("action"), type) and kwargs["action"].__name__ == "StoreDict":
            kwargs["action"] = _user_dict(kwargs["action"])
        return super().add_argument(*names, **kwargs)

    def parse_args(self, args: Any = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse the arguments and complete them.

        :raises UserError: if one is wrong
        """
        super().add_argument(
            "--render-training", type=float, nargs="?", const=10.0, metavar="SPEED",
            help="draw the first env in the terminal while it learns, SPEED steps a second (default 10, 0: at once)",
        )  # fmt: skip
        super().add_argument("--study", metavar="FILE[:TRIAL]", help="train with what tune found: its winner, or that trial")
        super().add_argument("--no-progress", dest="progress", action="store_false", default=None, help="show no progress bar")
        parsed = super().parse_args(self._argv if args is None else args, namespace)
        complete(parsed)
        return parsed


def _user_dict(store_dict: type[argparse.Action]) -> type[argparse.Action]:
    """Let rl_zoo3's ``key:value`` option, whose values it evaluates as Python, refuse a wrong value in one line."""

    class UserDict(store_dict):  # type: ignore[misc, valid-type]
        def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
            try:
                super().__call__(parser, namespace, values, option_string)
            except Exception as error:  # the user's own expression failed, in whatever way
                parser.error(
                    f"{option_string} {' '.join(values)}: {error}; "
                    "write name:value with a Python value, text in quotes: learning_rate:0.01 policy:\"'MlpPolicy'\""
                )

    return UserDict


def complete(args: argparse.Namespace) -> None:
    """Check rl_zoo3's arguments and fill in what was left open: the config, the environment, the progress bar.

    :param args: what rl_zoo3's parser returned; changed in place
    :raises UserError: if an argument is wrong
    """
    from sb3_lecture.zoo import configs, registry

    registry.target(args.algo)
    for package in args.gym_packages:
        _import_package(package, "--gym-packages")
    if getattr(args, "study", None) is not None:
        _take_from_study(args)
    conf_file = str(configs.config_path(args.algo)) if args.conf_file is None else args.conf_file
    entries = configs.read_entries(conf_file) if conf_file.endswith((".yml", ".yaml")) else None
    if args.env is None:
        if entries is None:
            raise UserError("give --env: only a YAML config has a first entry to default to")
        args.env = str(next(iter(entries)))
    args.env = resolve_env(args.env, entries)
    if entries is not None:
        from rl_zoo3.exp_manager import ExperimentManager

        configs.entry_key(entries, args.env, ExperimentManager.is_atari(args.env), conf_file)
    elif conf_file.endswith(".py") and not Path(conf_file).is_file():
        raise UserError(f"--conf-file {conf_file}: there is no such file")
    elif not conf_file.endswith(".py"):
        _import_package(conf_file, "--conf-file")
    args.conf_file = conf_file
    if args.progress is None:
        args.progress = sys.stdout.isatty()
    _check_extras(args)
    if args.optimize_hyperparameters or args.trial_id is not None:
        from sb3_lecture.zoo.search_spaces import fill_rl_zoo3

        fill_rl_zoo3([args.algo])
    registry.fill_rl_zoo3([args.algo])


def _take_from_study(args: argparse.Namespace) -> None:
    """Fill in what a trial was: env, steps and hyperparameters; what the user gives goes first."""
    from sb3_lecture.zoo.tuning import trained_with

    hyperparams, settings = trained_with(args.study, args.algo)
    args.hyperparams = {**hyperparams, **(args.hyperparams or {})}
    if args.env is None:
        args.env = settings["env_id"]
    if args.n_timesteps <= 0 and settings["n_timesteps"] > 0:
        args.n_timesteps = settings["n_timesteps"]


def _check_extras(args: argparse.Namespace) -> None:
    if args.trained_agent and not (args.trained_agent.endswith(".zip") and os.path.isfile(args.trained_agent)):
        raise UserError(f"--trained-agent {args.trained_agent}: there is no such .zip file")
    for wanted, package, option, install in (
        (args.track, "wandb", "--track", "wandb"),
        (args.tensorboard_log, "tensorboard", "--tensorboard-log", "'sb3-lecture[tensorboard]'"),
    ):
        if wanted and importlib.util.find_spec(package) is None:
            raise UserError(f"{option} needs {package}: pip install {install}")


def resolve_env(name: str, entries: dict[str, Any] | None = None) -> str:
    """Turn ``--env`` into a registered id; ``module:id`` imports the module first.

    :param name: what the user gave
    :param entries: the config's entries; names among them are worth suggesting too
    :raises UserError: if no such env is registered
    """
    import gymnasium as gym

    if ":" in name:
        module, name = name.split(":", 1)
        _import_package(module, "--env")
    if name in gym.registry:
        return name
    if name == "atari":
        raise UserError("'atari' is the config entry of all Atari games; name a game: --env ALE/Breakout-v5")
    if name.startswith("ALE/") and "ALE/Breakout-v5" not in gym.registry:
        raise UserError(f"the env {name!r} needs ale-py: pip install 'sb3-lecture[atari]'")
    known = [*(key for key in entries or {} if key in gym.registry), *gym.registry]
    raise UserError(f"unknown env {name!r}{nearest(name, known)}")


def _import_worlds() -> None:
    """Register our worlds."""
    import sb3_lecture_envs

    sb3_lecture_envs.register_envs()


def _import_package(name: str, option: str) -> None:
    try:
        importlib.import_module(name)
    except ImportError as error:
        raise UserError(f"{option} {name}: cannot import it: {error}") from error


def _algorithm_names() -> list[str]:
    from sb3_lecture.zoo.registry import algorithms

    return list(algorithms())


# --- enjoy -----------------------------------------------------------------------------------------------------------


def enjoy_parser() -> Parser:
    """Build the parser of ``enjoy``; options that rl_zoo3's enjoy has too keep its names."""
    parser = Parser(prog=_command("enjoy"), description="Watch a trained agent.")
    parser.add_argument("--algo", help="the algorithm; default: the one trained last")
    parser.add_argument("--env", help="environment id; default: the one trained last")
    parser.add_argument("-f", "--folder", "--log-folder", default=DEFAULT_LOG_FOLDER, help="log folder, default logs")
    parser.add_argument("--exp-id", type=int, default=0, help="the run's number; default: the newest")
    parser.add_argument("--n-episodes", type=int, default=5, help="episodes to play, default 5")
    parser.add_argument("-n", "--n-timesteps", type=int, help="stop after n steps in all; default: never")
    parser.add_argument("--load-best", action="store_true", help="the model that evaluated best, not the last one")
    parser.add_argument("--load-checkpoint", type=int, metavar="STEPS", help="the checkpoint at that step (--save-freq)")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--deterministic", action="store_true", help="the best action (default, except for Atari games)")
    choice.add_argument("--stochastic", action="store_true", help="actions drawn from the policy")
    parser.add_argument("--seed", type=int, default=0, help="random seed, default 0")
    parser.add_argument("--render", choices=("auto", "ansi", "human", "none"), default="auto", help="where to show it")
    parser.add_argument("--no-render", dest="render", action="store_const", const="none", help="the same as --render none")
    parser.add_argument("--video", metavar="FILE", help="write the episodes to FILE, .mp4 or .gif, instead of showing them")
    parser.add_argument("--fps", type=float, help="pictures a second; default: the env's, in the terminal 4")
    parser.add_argument("--device", default="auto", help="cpu, cuda, …")
    parser.add_argument("--gym-packages", nargs="+", default=[], help="packages to import, which register envs")
    parser.add_argument("--env-kwargs", nargs="+", metavar="KEY:VALUE", help="arguments of the env, on top of the run's")
    human = parser.add_argument_group("play a board game yourself, in the terminal")
    human.add_argument("--human", action="store_true", help="you play --env, against --opponent")
    human.add_argument(
        "--opponent", default="random", metavar="WHO", help="random (default), perfect, mcts, or a model's path"
    )
    human.add_argument("--side", default="first", help="yours: first (default), second or random")
    human.add_argument("--simulations", type=int, help="of mcts, a move")
    parser.add_argument("--norm-reward", action="store_true", help="scale the rewards as VecNormalize did in training")
    return parser


def enjoy(argv: Sequence[str]) -> int:
    """Show episodes of a trained agent and print the mean return."""
    parser = enjoy_parser()
    args = parser.parse_args(argv)
    if args.n_episodes < 1:
        parser.error(f"--n-episodes {args.n_episodes}: at least 1 is needed")
    if args.fps is not None and not args.fps > 0:
        parser.error(f"--fps {args.fps}: it must be positive")
    _import_worlds()
    from sb3_lecture.zoo import report

    for package in args.gym_packages:
        _import_package(package, "--gym-packages")
    if args.algo is not None:
        from sb3_lecture.zoo import registry

        registry.target(args.algo)
    if args.env is not None:
        args.env = resolve_env(args.env)
    if args.env_kwargs is not None:
        from rl_zoo3.utils import StoreDict

        _user_dict(StoreDict)(["--env-kwargs"], "env_kwargs")(parser, args, args.env_kwargs, "--env-kwargs")
    if args.human:
        return _play(args)
    return report.enjoy(args)


def _play(args: argparse.Namespace) -> int:
    """Let the user play a board game."""
    from sb3_lecture.zoo.human_play import SIMULATIONS, play

    if args.env is None:
        raise UserError("--human needs a game: --env Lecture/ConnectFour-v0")
    play(
        args.env, args.opponent, env_kwargs=args.env_kwargs, side=args.side, algo=args.algo,
        simulations=SIMULATIONS if args.simulations is None else args.simulations, seed=args.seed or None,
    )  # fmt: skip
    return 0


# --- plot ------------------------------------------------------------------------------------------------------------


def plot_parser() -> Parser:
    """Build the parser of ``plot``."""
    parser = Parser(
        prog=_command("plot"),
        description="Draw learning curves of runs (several of one algorithm and env: their mean and a 95 % band), and the "
        "value map of each grid world's run.",
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's folder, or a folder that holds runs")
    parser.add_argument(
        "-o", "--output", metavar="FILE", help="the picture of the curves; default: learning_curve.png beside the runs"
    )
    parser.add_argument("--window", type=int, help="episodes in the rolling mean; default: 1 to 100, by the run's length")
    parser.add_argument("--evaluations", action="store_true", help="draw evaluation episodes only (train's --eval-freq)")
    parser.add_argument("--no-values", action="store_true", help="no value maps")
    return parser


def plot(argv: Sequence[str]) -> int:
    """Draw pictures of runs; ``plot estimators``, ``plot compare`` and ``plot dream`` draw others."""
    if argv and argv[0] in PICTURES:
        return PICTURES[argv[0]](argv[1:])
    parser = plot_parser()
    args = parser.parse_args(argv)
    if args.window is not None and args.window < 1:
        parser.error(f"--window {args.window}: at least 1 episode is needed")
    _import_worlds()
    from sb3_lecture.zoo import report

    report.plot(args.runs, args.output, args.window, not args.no_values, args.evaluations)
    return 0


def plot_estimators(argv: Sequence[str]) -> int:
    """Draw bias and variance of the gradient estimators against the closed form."""
    parser = Parser(prog=f"{_command('plot')} estimators", description="Bias and variance of gradient estimators.")
    parser.add_argument("-o", "--output", metavar="FILE", default="estimators.png", help="default estimators.png")
    parser.add_argument("--n-samples", type=int, default=100_000, help="samples of each estimator, default 100000")
    parser.add_argument("--seed", type=int, default=0, help="random seed, default 0")
    args = parser.parse_args(argv)
    if args.n_samples < 2:
        parser.error(f"--n-samples {args.n_samples}: at least 2 are needed")
    from sb3_lecture.zoo import estimator_plot, plotting

    print(f"Picture: {plotting.save(estimator_plot.estimator_figure(args.n_samples, args.seed), args.output)}")
    return 0


def plot_comparison(argv: Sequence[str]) -> int:
    """Train algorithms on one world over many seeds and draw their training returns."""
    from sb3_lecture.zoo.comparison import BOOK, comparison_figure, episode_returns

    parser = Parser(
        prog=f"{_command('plot')} compare",
        description="Training returns of algorithms on one world, mean and 95 % band over seeds. All get the same values: "
        + ", ".join(f"{key} {value}" for key, value in BOOK.items()),
    )
    parser.add_argument("algos", nargs="+", metavar="ALGO", help="algorithms to compare")
    parser.add_argument("--env", default="Lecture/CliffWalking-v0", help="the world, default Lecture/CliffWalking-v0")
    parser.add_argument("--seeds", type=int, default=30, help="trainings of each, default 30")
    parser.add_argument("-n", "--n-timesteps", type=int, default=20_000, help="env steps of each, default 20000")
    parser.add_argument("-params", "--hyperparams", nargs="+", metavar="NAME:VALUE", help="other values, such as gamma:0.9")
    parser.add_argument("--window", type=int, default=20, help="episodes in the rolling mean, default 20")
    parser.add_argument("-o", "--output", metavar="FILE", default="comparison.png", help="default comparison.png")
    args = parser.parse_args(argv)
    for name in ("seeds", "n_timesteps", "window"):
        if getattr(args, name) < 1:
            parser.error(f"--{name.replace('_', '-')} {getattr(args, name)}: at least 1 is needed")
    _import_worlds()
    from rl_zoo3.utils import StoreDict

    from sb3_lecture.zoo import configs, plotting

    args.env = resolve_env(args.env)
    own: dict[str, Any] = {}
    if args.hyperparams:
        _user_dict(StoreDict)(["--hyperparams"], "hyperparams")(parser, args, args.hyperparams, "--hyperparams")
        own = args.hyperparams
    for algo in args.algos:
        configs.check_hyperparameters(algo, own, "--hyperparams")
    returns = {
        algo: episode_returns(algo, args.env, range(args.seeds), args.n_timesteps, {**BOOK, **own}) for algo in args.algos
    }
    figure = comparison_figure(returns, args.env, args.window, f"{args.env}, {args.seeds} seeds")
    print(f"Picture: {plotting.save(figure, args.output)}")
    return 0


def plot_dream(argv: Sequence[str]) -> int:
    """Draw what a run's world model foretells."""
    parser = Parser(
        prog=f"{_command('plot')} dream",
        description="Play episodes and let the run's model foretell them after a few observations: truth | model | "
        "error as a video, or curves where the observations are numbers.",
    )
    parser.add_argument("run", metavar="RUN", help="the run's folder")
    parser.add_argument("-o", "--output", metavar="FILE", help=".gif or .mp4, .png of numbers; default dream.*")
    parser.add_argument("--context", type=int, default=5, help="observations that the model sees, default 5")
    parser.add_argument("--length", type=int, default=64, help="longest episode, in observations, default 64")
    parser.add_argument("--n-episodes", type=int, default=3, help="episodes in the video, default 3")
    parser.add_argument("--seed", type=int, default=0, help="random seed, default 0")
    args = parser.parse_args(argv)
    for name, least in (("context", 1), ("length", 2), ("n_episodes", 1)):
        if getattr(args, name) < least:
            parser.error(f"--{name.replace('_', '-')} {getattr(args, name)}: at least {least} is needed")
    _import_worlds()
    from sb3_lecture.zoo.dreams import dream

    for path in dream(args.run, args.output, args.context, args.length, args.n_episodes, args.seed):
        print(f"Picture: {path}")
    return 0


def gtp(argv: Sequence[str]) -> int:
    """Run the Go engine."""
    from sb3_lecture.zoo.gtp import gtp as run

    return run(argv)


def tune(argv: Sequence[str]) -> int:
    """Search hyperparameters."""
    from sb3_lecture.zoo.tuning_cli import tune as run

    return run(argv)


def tune_server(argv: Sequence[str]) -> int:
    """Share a study among machines."""
    from sb3_lecture.zoo.tuning_cli import tune_server as run

    return run(argv)


# --- helpers ---------------------------------------------------------------------------------------------------------


def _command(name: str) -> str:
    """How the user calls a command: as the script beside the one running, or as the console command."""
    script = Path(sys.argv[0])
    if script.suffix == ".py" and script.stem in COMMANDS:
        return f"python {script.with_name(f'{name}.py')}"
    return f"sb3-lecture {name}"


#: pictures that ``plot`` draws of something else than runs
PICTURES: dict[str, Callable[[Sequence[str]], int]] = {
    "compare": plot_comparison, "dream": plot_dream, "estimators": plot_estimators,
}  # fmt: skip
COMMANDS: dict[str, Callable[[Sequence[str]], int]] = {
    "train": train, "enjoy": enjoy, "plot": plot, "tune": tune, "tune-server": tune_server, "gtp": gtp,
}  # fmt: skip
