"""The picture of the deadly triad: eight combinations on Baird's star, expected updates beside sampled runs."""

from typing import TYPE_CHECKING

import numpy as np

from sb3_lecture.exact.triad import Combination, triad
from sb3_lecture_envs import baird_star

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["baird_triad", "sampled_run", "triad_figure"]

ALPHA = 0.01  # the book's step size
N_RUNS = 5
DIVERGES, HOLDS = "#D55E00", "#0072B2"


def baird_triad() -> list[Combination]:
    """Return the eight combinations on Baird's star, by the book's step size and discount."""
    solid = np.zeros((baird_star.N_STATES, baird_star.N_STATES))
    solid[:, -1] = 1.0
    uniform = np.full(baird_star.N_STATES, 1.0 / baird_star.N_STATES)  # where b is, whatever it has done before
    return triad(baird_star.FEATURES, solid, uniform, ALPHA, baird_star.GAMMA)


def first_weights(combination: Combination) -> np.ndarray:
    """Return the book's weights, or a table of ones."""
    return np.array(baird_star.START_WEIGHTS) if combination.approximation else np.ones(baird_star.N_STATES)


def sampled_run(combination: Combination, n_steps: int, rng: np.random.Generator) -> np.ndarray:
    """Return the largest absolute weight after 0 … n_steps sampled updates, float64 [n_steps + 1].

    Off-policy TD(0) weighs each step by ρ = π(a | s) / b(a | s), 7 for the solid action, 0 for the dashed one (Sutton & Barto
    2018, eq. 11.2). The return that Monte Carlo waits for is 0 here, whatever happens.
    """
    x = baird_star.FEATURES if combination.approximation else np.eye(baird_star.N_STATES)
    w = first_weights(combination)
    sizes = np.empty(n_steps + 1)
    sizes[0] = np.abs(w).max()
    state = int(rng.integers(baird_star.N_STATES))
    for t in range(n_steps):
        solid = not combination.off_policy or rng.random() < baird_star.BEHAVIOUR[baird_star.SOLID]
        after = baird_star.N_STATES - 1 if solid else int(rng.integers(baird_star.N_STATES - 1))
        if combination.bootstrapping:
            ratio = (1.0 / baird_star.BEHAVIOUR[baird_star.SOLID] if combination.off_policy else 1.0) * solid
            w = w + ALPHA * ratio * (baird_star.GAMMA * x[after] @ w - x[state] @ w) * x[state]
        else:
            w = w - ALPHA * (x[state] @ w) * x[state]
        state, sizes[t + 1] = after, np.abs(w).max()
    return sizes


def triad_figure(n_steps: int = 1000, seed: int = 0) -> "Figure":
    """Draw the weights' growth in each combination.

    :param n_steps: updates
    :param seed: of the sampled runs
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12.0, 5.6), layout="constrained")
    panels = figure.subplots(2, 4, sharex=True, sharey=True)
    rng = np.random.default_rng(seed)
    for combination, axes in zip(baird_triad(), panels.ravel(), strict=True):
        expected = combination.sweeps(first_weights(combination), n_steps)
        colour = DIVERGES if combination.radius > 1.0 + 1e-9 else HOLDS
        for _ in range(N_RUNS):
            axes.plot(sampled_run(combination, n_steps, rng), color=colour, alpha=0.3, linewidth=0.8)
        axes.plot(expected, color=colour, linewidth=2.0)
        legs = (
            "features" if combination.approximation else "table",
            "TD(0)" if combination.bootstrapping else "Monte Carlo",
            "off-policy" if combination.off_policy else "on-policy",
        )
        axes.set_title(f"{', '.join(legs)}\nspectral radius {combination.radius:.7f}", fontsize="medium")
        axes.set_yscale("log")
        axes.spines[["top", "right"]].set_visible(False)
    for axes in panels[:, 0]:
        axes.set_ylabel("largest |weight|, log scale")
    for axes in panels[-1]:
        axes.set_xlabel("updates")
    figure.suptitle(f"Baird's star, α = {ALPHA}: expected updates (thick), {N_RUNS} sampled runs each (thin)")
    return figure
