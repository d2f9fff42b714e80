"""``enjoy``: watch a trained agent, or play a board game against one."""

import argparse

from sb3_lecture.zoo import pretrained, registry
from sb3_lecture.zoo.errors import UserError
from sb3_lecture.zoo.options import (
    DEFAULT_LOG_FOLDER,
    StoreDict,
    add_run_options,
    evaluate,
    folder,
    import_packages,
    real,
    resolve_env,
    seed,
    steps,
    whole,
)


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options; those that rl_zoo3's enjoy has too keep its names."""
    parser.add_argument("--algo", help="the algorithm; default: the one trained last")
    parser.add_argument("--env", help="environment id; default: the one trained last")
    parser.add_argument(
        "-f", "--folder", "--log-folder", type=folder, default=DEFAULT_LOG_FOLDER, help="log folder, default logs"
    )
    parser.add_argument("--pretrained", metavar="ALGO", help="a model that comes with the package, such as alphazero")
    parser.add_argument("--exp-id", type=whole(0), default=0, help="the run's number; default: the newest")
    parser.add_argument("--n-episodes", type=whole(1), default=5, help="episodes to play, default 5")
    parser.add_argument("-n", "--n-timesteps", type=steps, help="stop after n steps in all; default: never")
    parser.add_argument("--load-best", action="store_true", help="the model that evaluated best, not the last one")
    parser.add_argument("--load-checkpoint", type=whole(0), metavar="STEPS", help="the checkpoint at that step (--save-freq)")
    choice = parser.add_mutually_exclusive_group()
    choice.add_argument("--deterministic", action="store_true", help="the best action (default, except for Atari games)")
    choice.add_argument("--stochastic", action="store_true", help="actions drawn from the policy")
    parser.add_argument("--seed", type=seed, default=0, help="random seed, default 0")
    parser.add_argument("--render", choices=("auto", "ansi", "human", "none"), default="auto", help="where to show it")
    parser.add_argument("--no-render", dest="render", action="store_const", const="none", help="the same as --render none")
    parser.add_argument("--video", metavar="FILE", help="write the episodes to FILE, .mp4 or .gif, instead of showing them")
    parser.add_argument("--fps", type=real(0.0, above=True), help="pictures a second; default: the env's, in the terminal 4")
    parser.add_argument("--device", default="auto", help="cpu, cuda, …")
    parser.add_argument(
        "--env-kwargs", nargs="+", action=StoreDict, metavar="NAME:VALUE", help="of the env, on top of the run's"
    )
    parser.add_argument("--norm-reward", action="store_true", help="scale the rewards as VecNormalize did in training")
    add_run_options(parser)
    human = parser.add_argument_group("play a board or card game yourself, in the terminal")
    human.add_argument("--human", action="store_true", help="you play --env, against --opponent")
    human.add_argument(
        "--opponent", default="random", metavar="WHO", help="random (default), perfect, mcts, equilibrium, or a model's path"
    )
    human.add_argument("--side", choices=("first", "second", "random"), default="first", help="yours, default first")
    human.add_argument("--simulations", type=whole(1, 10**9), help="of mcts, a move")


def run(args: argparse.Namespace) -> int:
    """Show episodes of a trained agent and print the mean return."""
    evaluate(args, "env_kwargs")
    import_packages(args.gym_packages)
    if args.pretrained is not None:
        if args.algo not in (None, args.pretrained):
            raise UserError(f"--pretrained {args.pretrained} and --algo {args.algo} are two algorithms; leave --algo out")
        pretrained.check(args.pretrained, args.env)
        args.algo, args.folder = args.pretrained, str(pretrained.folder())
    if args.algo is not None:
        registry.target(args.algo)
    if args.env is not None:
        args.env = resolve_env(args.env)
    if args.human:
        return _play(args)
    from sb3_lecture.zoo import report

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
