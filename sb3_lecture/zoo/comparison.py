"""Algorithms beside one another on one world, over many seeds: the figure that lectures compare learners with."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np

from sb3_lecture.common.checks import keywords_of
from sb3_lecture.zoo import plotting, registry
from sb3_lecture.zoo.errors import UserError, first_line

if TYPE_CHECKING:
    from matplotlib.figure import Figure

EPISODES_KEPT = 1_000_000


def episode_returns(
    name: str, env_id: str, seeds: Sequence[int], n_timesteps: int, hyperparameters: dict[str, Any]
) -> list[np.ndarray]:
    """Train an algorithm once a seed and return what its episodes brought.

    :param name: the algorithm's name in the registry
    :param env_id: the world
    :param seeds: one training each
    :param n_timesteps: env steps of each
    :param hyperparameters: arguments of the algorithm; those it does not have are left out
    :return: returns of the training episodes in their order, one array a seed
    :raises UserError: if the algorithm does not take the env or a value
    """
    cls = registry.algorithm(name)
    known = keywords_of(cls)
    own = {key: value for key, value in hyperparameters.items() if key in known}
    returns = []
    for seed in seeds:
        try:
            model = cls("MlpPolicy", env_id, seed=seed, stats_window_size=EPISODES_KEPT, **own)
        except Exception as error:  # what an env or an algorithm may raise of a value is anything
            raise UserError(f"{name} on {env_id}: {first_line(error)}") from error
        try:
            model.learn(n_timesteps)
        except (ValueError, TypeError, RuntimeError, ArithmeticError) as error:
            raise UserError(f"{name} on {env_id}: {first_line(error)}") from error
        returns.append(np.array([episode["r"] for episode in model.ep_info_buffer or ()]))
    return returns


def comparison_lines(returns: dict[str, list[np.ndarray]], window: int) -> list[str]:
    """Say in numbers what the figure shows: mean return of all training episodes and of the last ones, ± over seeds.

    :param returns: algorithm → returns of its episodes, one array a seed
    :param window: how many are the last ones
    """
    width, lines = max(map(len, returns)), []
    for name, runs in returns.items():
        spans = [[run[-n:].mean() for run in runs if len(run)] for n in (window, max(map(len, runs), default=1) or 1)]
        last, every = (
            f"{np.mean(means):8.2f} ± {plotting.t_quantile(len(means) - 1) * np.std(means, ddof=1) / len(means) ** 0.5:.2f}"
            if len(means) > 1
            else f"{np.mean(means):8.2f}"
            for means in spans
        )
        lines.append(f"{name:{width}}  last {window} episodes {last}, all {every} (mean ± 95 %, {len(runs)} seeds)")
    return lines


def comparison_figure(returns: dict[str, list[np.ndarray]], env_id: str, window: int, title: str) -> "Figure":
    """Draw the mean return of each algorithm's training episodes with a 95 % band over seeds.

    :param returns: algorithm → returns of its episodes, one array a seed
    :param env_id: the world; the return of its optimal policy is drawn where its law is known
    :param window: episodes in the rolling mean
    :param title: the picture's title
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    lowest = np.inf
    for (name, runs), colour in zip(returns.items(), plotting.COLOURS, strict=False):
        n = min(map(len, runs))
        if n == 0:
            raise UserError(f"{name} ended no episode on {env_id}; give it more steps with -n")
        curves = [(np.arange(1, n + 1, dtype=float), plotting.rolling_mean(run[:n], window)) for run in runs]
        x, mean, half = plotting.mean_and_band(curves)
        axes.plot(x, mean, color=colour, label=f"{name}, last {window} episodes: {np.mean([r[-window:] for r in runs]):.1f}")
        axes.fill_between(x, mean - half, mean + half, color=colour, alpha=0.2, linewidth=0)
        lowest = min(lowest, float(np.min(mean[len(mean) // 20 :])))
    optimum = _optimal_return(env_id)
    if optimum is not None:
        axes.axhline(optimum, color="black", linestyle="--", linewidth=1, label=f"optimum {optimum:.4g}")
        axes.set_ylim(lowest - 0.1 * (optimum - lowest), optimum + 0.1 * (optimum - lowest))
    axes.set(xlabel="Episode", ylabel=f"Return during training, mean of {window} episodes", title=title)
    axes.legend(frameon=False)
    axes.grid(alpha=0.3)
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def _optimal_return(env_id: str) -> float | None:
    """Undiscounted return of an optimal policy, if the world's law is known and it is finite."""
    mdp = getattr(gym.make(env_id).unwrapped, "mdp", None)
    if mdp is None:
        return None
    from sb3_lecture.exact.solver import start_value, value_iteration

    try:
        value = start_value(mdp, value_iteration(mdp, 1.0).v)
    except ValueError:  # undiscounted, some worlds pay for ever
        return None
    return value if np.isfinite(value) else None
