"""``record``: let a policy play and keep what it lived, for learners that see nothing else."""

import argparse
import sys
from pathlib import Path

from sb3_lecture.zoo import registry
from sb3_lecture.zoo.errors import UserError, first_line
from sb3_lecture.zoo.options import (
    DEFAULT_LOG_FOLDER,
    INTERRUPTED,
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

RANDOM = "random"


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = "Record transitions of a trained agent, of random actions or of a mixture, into one file."
    parser.epilog = "The standard data sets of worlds: record qualities, with its own --help."
    parser.add_argument("--algo", default=RANDOM, help="random (default), or the algorithm of a run in the log folder")
    parser.add_argument("--env", help="environment id; default: that of the algorithm's newest run")
    parser.add_argument("-n", "--n-steps", type=steps, default=20_000, help="transitions, default 20000")
    parser.add_argument("--epsilon", type=real(0.0), default=0.0, help="chance of a random action instead, default 0")
    parser.add_argument(
        "--noise", type=real(0.0), default=0.0, help="deviation of noise on continuous actions, as a share of their range"
    )
    parser.add_argument("--stochastic", action="store_true", help="the agent draws its actions; default: its best ones")
    parser.add_argument("--seed", type=seed, default=0, help="random seed, default 0")
    parser.add_argument("-o", "--output", default="data.npz", metavar="FILE", help="default data.npz; a folder without .npz")
    parser.add_argument(
        "-f", "--folder", "--log-folder", type=folder, default=DEFAULT_LOG_FOLDER, help="log folder, default logs"
    )
    parser.add_argument("--exp-id", type=whole(0), default=0, help="the run's number; default: the newest")
    parser.add_argument("--load-best", action="store_true", help="the model that evaluated best, not the last one")
    parser.add_argument("--env-kwargs", nargs="+", action=StoreDict, metavar="NAME:VALUE", help="arguments of the env")
    parser.add_argument("--resume", action="store_true", help="go on with a recording to the same file that was stopped")
    parser.add_argument("--no-progress", action="store_true", help="no progress bar")
    parser.add_argument("--device", default="auto", help="cpu, cuda, …")
    add_run_options(parser)


def run(args: argparse.Namespace) -> int:
    """Record a data set and say what is in it.

    :raises UserError: if there is no such run, or the env's spaces cannot be kept
    """
    evaluate(args, "env_kwargs")
    import_packages(args.gym_packages)
    if args.epsilon > 1:
        raise UserError(f"--epsilon {args.epsilon} must be a chance, from 0 to 1")
    env_id = None if args.env is None else resolve_env(args.env)
    if args.algo == RANDOM and env_id is None:
        raise UserError("random actions need a world: --env Lecture/Maze-v0")
    if args.algo != RANDOM:
        registry.target(args.algo)
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.utils import set_random_seed
    from stable_baselines3.common.vec_env import unwrap_vec_normalize

    from sb3_lecture.offline.dataset import OfflineDataset
    from sb3_lecture.zoo import playing
    from sb3_lecture.zoo.runs import find_run

    set_random_seed(args.seed)
    checkpoint = Path(f"{args.output}.recording.zip")
    if checkpoint.exists() and not args.resume:
        checkpoint.unlink()
    progress = sys.stderr.isatty() and not args.no_progress
    model = None
    if args.algo == RANDOM:
        env = make_vec_env(env_id, 1, seed=args.seed, env_kwargs=args.env_kwargs)  # type: ignore[arg-type]
    else:
        found = find_run(args.folder, args.algo, env_id, args.exp_id)
        env = playing.make_run_env(found, args.seed, None, args.env_kwargs, None, False, args.trust)
    try:
        if args.algo != RANDOM:
            path = found.path / "best_model.zip" if args.load_best else None
            model = playing.load_model(found, path, env, args.device, args.trust)
            if unwrap_vec_normalize(env) is not None:
                raise UserError(f"{found.path} was trained under VecNormalize: its observations are not the world's own")
        data = OfflineDataset.record(
            env, args.n_steps, model, args.epsilon, args.noise, not args.stochastic, args.seed, checkpoint, progress
        )
        data.save(args.output)
        checkpoint.unlink(missing_ok=True)
    except KeyboardInterrupt:
        if not checkpoint.exists():
            raise
        print("\nInterrupted; the same command with --resume goes on.", file=sys.stderr)
        return INTERRUPTED
    except ValueError as error:
        raise UserError(first_line(error)) from error
    finally:
        env.close()
    returns = data.returns()
    print(
        f"Recorded {len(data)} steps, {len(returns)} episodes, return {returns.mean():.2f} (least {returns.min():.2f}, "
        f"greatest {returns.max():.2f})"
    )
    print(f"Data:    {args.output}")
    print(f"Next:    sb3-lecture train --algo iql --env {env_id or found.env_id} --dataset {args.output}")
    return 0
