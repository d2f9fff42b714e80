"""``plot`` and pictures of something else than runs: ``compare``, ``dream``, ``estimators``, ``overestimation``, ``triad``."""

import argparse
from typing import Any

from sb3_lecture.zoo import configs
from sb3_lecture.zoo.options import StoreDict, add_run_options, evaluate, import_packages, resolve_env, seed, steps, whole

#: what Sutton & Barto (2018, example 6.6) compare Sarsa and Q-learning with: ε and α constant, no discount
BOOK = {"learning_rate": 0.5, "gamma": 1.0, "exploration_initial_eps": 0.1, "exploration_final_eps": 0.1}


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``plot``."""
    parser.description = (
        "Draw learning curves of runs (several of one algorithm and env: their mean and a 95 % band), and the value map of "
        "each grid world's run."
    )
    parser.epilog = (
        "Other pictures: plot compare ALGO… (learners on one world over many seeds), plot dream RUN (what a world model "
        "foretells), plot estimators (gradient estimators' bias and variance), plot triad (when learning diverges), plot "
        "overestimation (DQN and Double DQN, exactly), plot overoptimisation (a learned reward followed too far), plot "
        "offline RUN (data and policy); each has its own --help."
    )
    parser.add_argument("runs", nargs="+", metavar="RUN", help="a run's folder, or a folder that holds runs")
    parser.add_argument("-o", "--output", metavar="FILE", help="the curves; default: learning_curve.png beside the runs")
    parser.add_argument("--window", type=steps, help="episodes in the rolling mean; default: 1 to 100, by the run's length")
    parser.add_argument("--evaluations", action="store_true", help="draw evaluation episodes only (train's --eval-freq)")
    parser.add_argument("--no-values", action="store_true", help="no value maps")
    add_run_options(parser)


def run(args: argparse.Namespace) -> int:
    """Draw pictures of runs."""
    import_packages(args.gym_packages)
    from sb3_lecture.zoo import report

    report.plot(args.runs, args.output, args.window, not args.no_values, args.evaluations, args.trust)
    return 0


def compare_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``plot compare``."""
    parser.description = (
        "Training returns of algorithms on one world, mean and 95 % band over seeds. All get the same values: "
        + ", ".join(f"{key} {value}" for key, value in BOOK.items())
    )
    parser.add_argument("algos", nargs="+", metavar="ALGO", help="algorithms to compare")
    parser.add_argument("--env", default="Lecture/CliffWalking-v0", help="the world, default Lecture/CliffWalking-v0")
    parser.add_argument("--seeds", type=whole(1, 10**6), default=30, help="trainings of each, default 30")
    parser.add_argument("-n", "--n-timesteps", type=steps, default=20_000, help="env steps of each, default 20000")
    parser.add_argument(
        "-params", "--hyperparams", nargs="+", action=StoreDict, metavar="NAME:VALUE", help="other values, such as gamma:0.9"
    )
    parser.add_argument("--window", type=steps, default=20, help="episodes in the rolling mean, default 20")
    parser.add_argument("-o", "--output", metavar="FILE", default="comparison.png", help="default comparison.png")
    add_run_options(parser)


def compare(args: argparse.Namespace) -> int:
    """Train algorithms on one world over many seeds, print their training returns and draw them."""
    from sb3_lecture.zoo import plotting

    plotting.check_output(args.output)
    evaluate(args, "hyperparams")
    import_packages(args.gym_packages)
    env_id = resolve_env(args.env)
    own: dict[str, Any] = args.hyperparams or {}
    algos = list(dict.fromkeys(args.algos))
    for algo in algos:
        configs.check_hyperparameters(algo, own, "--hyperparams")
        configs.check_values(own, "--hyperparams")
    from sb3_lecture.zoo.comparison import comparison_figure, comparison_lines, episode_returns

    returns = {algo: episode_returns(algo, env_id, range(args.seeds), args.n_timesteps, {**BOOK, **own}) for algo in algos}
    figure = comparison_figure(returns, env_id, args.window, f"{env_id}, {args.seeds} seeds")
    for line in comparison_lines(returns, args.window):
        print(line)
    print(f"Picture: {plotting.save(figure, args.output)}")
    return 0


def dream_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``plot dream``."""
    parser.description = (
        "Play episodes and let the run's model foretell them after a few observations: truth | model | error as a video, or "
        "curves where the observations are numbers."
    )
    parser.add_argument("run_folder", metavar="RUN", help="the run's folder")
    parser.add_argument("-o", "--output", metavar="FILE", help=".gif or .mp4, .png of numbers; default dream.*")
    parser.add_argument("--context", type=whole(1, 10**6), default=5, help="observations that the model sees, default 5")
    parser.add_argument("--length", type=whole(2, 10**6), default=64, help="longest episode, in observations, default 64")
    parser.add_argument("--n-episodes", type=whole(1, 10**6), default=3, help="episodes in the video, default 3")
    parser.add_argument("--seed", type=seed, default=0, help="random seed, default 0")
    add_run_options(parser)


def dream(args: argparse.Namespace) -> int:
    """Draw what a run's world model foretells."""
    import_packages(args.gym_packages)
    from sb3_lecture.zoo.dreams import dream as draw

    for path in draw(args.run_folder, args.output, args.context, args.length, args.n_episodes, args.seed, args.trust):
        print(f"Picture: {path}")
    return 0


def estimators_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``plot estimators``."""
    parser.description = "Bias and variance of gradient estimators against the closed form."
    parser.add_argument("-o", "--output", metavar="FILE", default="estimators.png", help="default estimators.png")
    parser.add_argument("--n-samples", type=whole(2, 10**8), default=100_000, help="samples of each, default 100000")
    parser.add_argument("--seed", type=seed, default=0, help="random seed, default 0")


def estimators(args: argparse.Namespace) -> int:
    """Draw bias and variance of the gradient estimators against the closed form."""
    from sb3_lecture.zoo import estimator_plot, plotting

    plotting.check_output(args.output)
    print(f"Picture: {plotting.save(estimator_plot.estimator_figure(args.n_samples, args.seed), args.output)}")
    return 0


def triad_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``plot triad``."""
    parser.description = "The deadly triad on Baird's star: eight combinations, expected updates beside sampled runs."
    parser.add_argument("-o", "--output", metavar="FILE", default="triad.png", help="default triad.png")
    parser.add_argument("--n-steps", type=whole(1, 10**6), default=1000, help="updates, default 1000")
    parser.add_argument("--seed", type=seed, default=0, help="random seed, default 0")


def triad(args: argparse.Namespace) -> int:
    """Draw the eight combinations of the deadly triad."""
    from sb3_lecture.zoo import plotting, triad_plot

    plotting.check_output(args.output)
    for combination in triad_plot.baird_triad():
        legs = [name for name in ("approximation", "bootstrapping", "off_policy") if getattr(combination, name)]
        print(f"{combination.radius:.7f}  {', '.join(legs) or 'none of the three'}")
    print(f"Picture: {plotting.save(triad_plot.triad_figure(args.n_steps, args.seed), args.output)}")
    return 0


def overestimation_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``plot overestimation``."""
    parser.description = "By how much DQN and Double DQN overestimate their own policy while they learn, exactly."
    parser.add_argument("-o", "--output", metavar="FILE", default="overestimation.png", help="default overestimation.png")
    parser.add_argument("--env", default="Lecture/CliffWalking-v0", help="default Lecture/CliffWalking-v0")
    parser.add_argument("--seeds", type=whole(1, 10**4), default=5, help="trainings of each, default 5")
    parser.add_argument("-n", "--n-timesteps", type=steps, default=10_000, help="env steps of each, default 10000")
    add_run_options(parser)


def overestimation(args: argparse.Namespace) -> int:
    """Train DQN and Double DQN, print and draw the exact error of their action values."""
    from sb3_lecture.zoo import plotting

    plotting.check_output(args.output)
    import_packages(args.gym_packages)
    env_id = resolve_env(args.env)
    from sb3_lecture.zoo.overestimation_plot import overestimation_figure

    figure, means = overestimation_figure(env_id, args.seeds, args.n_timesteps)
    for name, error in means.items():
        print(f"{error:+.4g}  {name}, second half of training")
    print(f"Picture: {plotting.save(figure, args.output)}")
    return 0


def overoptimisation_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of ``plot overoptimisation``."""
    parser.description = "The true score while a reward learned from few rankings is followed too far, exactly."
    parser.add_argument("-o", "--output", metavar="FILE", default="overoptimisation.png", help="default overoptimisation.png")
    parser.add_argument("--labels", type=whole(1, 10**6), nargs="+", default=[30, 300], help="rankings of 4 answers")
    parser.add_argument("-n", "--n-timesteps", type=steps, default=150, help="steps of Adam of each, default 150")
    parser.add_argument("--seed", type=seed, default=0, help="random seed, default 0")


def overoptimisation(args: argparse.Namespace) -> int:
    """Learn rewards from few rankings, follow them, print and draw the true score."""
    from sb3_lecture.zoo import plotting
    from sb3_lecture.zoo.overoptimisation_plot import overoptimisation_figure

    plotting.check_output(args.output)
    figure, found = overoptimisation_figure(args.labels, args.n_timesteps, args.seed)
    for n, (kl, best, last, true) in found.items():
        print(f"{n} rankings: true score at most {best:.2f} at KL {kl:.2f} nats (true reward: {true:.2f}), at last {last:.2f}")
    print(f"Picture: {plotting.save(figure, args.output)}")
    return 0
