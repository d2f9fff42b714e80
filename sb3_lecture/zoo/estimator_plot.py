"""The picture of the gradient estimators: bias and variance of each on one problem, beside the closed form.

The problem is to differentiate E‖x − t‖² in the parameters of x's law. Under a Gaussian law, x ~ N(θ, I), the truth is
2(θ − t); there the sample can be differentiated, so pathwise estimates exist. Under a categorical law, x a one-hot with
logits θ, the truth is a sum over the categories; there Gumbel-softmax and straight-through take the pathwise estimate's place,
at several temperatures. The score function serves both.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["EstimatorRow", "estimator_figure", "estimator_rows"]

THETA = (0.5, -0.3, 0.0)
TARGET = (0.2, -0.5, 1.0)
TEMPERATURES = (0.1, 0.25, 0.5, 1.0, 2.0)
LAWS = {
    "Gaussian": "x ~ N(θ, I); truth 2(θ − t)",
    "categorical": "x a one-hot with logits θ; truth a sum over 3 categories",
}
COLOURS = {
    "score function": "#D55E00",
    "with baseline": "#E69F00",
    "pathwise": "#009E73",
    "Gumbel-softmax": "#0072B2",
    "straight-through": "#CC79A7",
}


@dataclass
class EstimatorRow:
    """What one estimator did under one law.

    :ivar law: "Gaussian" or "categorical"
    :ivar estimator: its name, with the temperature where it has one
    :ivar truth: ‖the closed form‖
    :ivar bias: ‖mean of the estimates − closed form‖
    :ivar standard_error: root mean square of ‖mean − its expectation‖: a bias below twice this shows nothing
    :ivar variance: trace of the covariance of one estimate
    """

    law: str
    estimator: str
    truth: float
    bias: float
    standard_error: float
    variance: float


def estimator_rows(n_samples: int = 100_000, seed: int = 0) -> list[EstimatorRow]:
    """Measure every estimator.

    :param n_samples: samples each
    :param seed: seed of PyTorch's generator, which is left as it was
    :raises ValueError: if there are fewer than 2 samples
    """
    import torch as th
    from torch.distributions import Distribution, Independent, Normal, OneHotCategorical

    from sb3_lecture.common import gradient_estimators as ge

    if n_samples < 2:
        raise ValueError(f"n_samples={n_samples} must be at least 2: a variance is measured")
    theta = th.tensor(THETA, dtype=th.float64)
    target = th.tensor(TARGET, dtype=th.float64)

    def f(x: th.Tensor) -> th.Tensor:
        return ((x - target) ** 2).sum(dim=-1)

    def gaussian(mean: th.Tensor) -> Distribution:
        return Independent(Normal(mean, 1.0), 1)

    def categorical(logits: th.Tensor) -> Distribution:
        return OneHotCategorical(logits=logits)

    def measure(law: str, name: str, truth: th.Tensor, estimate: Callable[[], th.Tensor]) -> EstimatorRow:
        estimates = estimate()  # [n_samples, d]
        variance = estimates.var(dim=0).sum().item()
        bias = (estimates.mean(dim=0) - truth).norm().item()
        return EstimatorRow(law, name, truth.norm().item(), bias, float(np.sqrt(variance / n_samples)), variance)

    rows = []
    with th.random.fork_rng(devices=[]):
        th.manual_seed(seed)
        truths = {"Gaussian": 2 * (theta - target), "categorical": ge.exact_categorical_gradient(theta, f)}
        for law, family in (("Gaussian", gaussian), ("categorical", categorical)):
            truth = truths[law]
            score = ge.score_function
            rows.append(measure(law, "score function", truth, lambda: score(family, theta, f, n_samples)))  # noqa: B023
            rows.append(
                measure(law, "with baseline", truth, lambda: score(family, theta, f, n_samples, "leave_one_out"))  # noqa: B023
            )
        rows.insert(2, measure("Gaussian", "pathwise", truths["Gaussian"], lambda: ge.pathwise(gaussian, theta, f, n_samples)))
        for name, relaxed in (("Gumbel-softmax", ge.gumbel_softmax), ("straight-through", ge.straight_through)):
            for tau in TEMPERATURES:
                label = f"{name}, τ={tau:g}"
                truth = truths["categorical"]
                rows.append(measure("categorical", label, truth, lambda: relaxed(theta, f, n_samples, tau)))  # noqa: B023
    return rows


def estimator_figure(n_samples: int = 100_000, seed: int = 0) -> "Figure":
    """Draw bias and variance of every estimator, one row of panels a law; a bias below twice its standard error is pale.

    :param n_samples: samples each
    :param seed: seed of the samples
    :raises ValueError: if there are fewer than 2 samples
    """
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
    from matplotlib.ticker import PercentFormatter

    laws = {law: [row for row in estimator_rows(n_samples, seed) if row.law == law] for law in LAWS}
    heights = [len(rows) for rows in laws.values()]
    figure = Figure(figsize=(10.0, 0.36 * sum(heights) + 2.6), layout="constrained")
    panels = figure.subplots(len(laws), 2, height_ratios=heights, sharex="col", squeeze=False)
    for (law, rows), (left, right) in zip(laws.items(), panels, strict=True):
        places = np.arange(len(rows))
        shown = [row.bias > 2 * row.standard_error for row in rows]
        colours = [COLOURS[row.estimator.split(",")[0]] for row in rows]
        biases = left.barh(places, [row.bias / row.truth for row in rows], color=colours)
        for bar, clear in zip(biases, shown, strict=True):
            bar.set_alpha(1.0 if clear else 0.3)
        left.bar_label(biases, [f"{row.bias / row.truth:.1%}" + ("" if c else " (noise)")
                                for row, c in zip(rows, shown, strict=True)], padding=3)  # fmt: skip
        variances = right.barh(places, [row.variance / row.truth**2 for row in rows], color=colours)
        right.bar_label(variances, [f"{row.variance / row.truth**2:.2g}" for row in rows], padding=3)
        left.xaxis.set_major_formatter(PercentFormatter(1.0))
        right.set_xscale("log")
        right.tick_params(axis="y", left=False)
        for axes in (left, right):
            axes.set_yticks(places, [row.estimator for row in rows] if axes is left else [])
            axes.invert_yaxis()
            axes.margins(x=0.25)
            axes.spines[["top", "right"]].set_visible(False)
        left.set_title(LAWS[law], loc="left", fontsize="medium")
    panels[-1, 0].set_xlabel("bias: ‖mean estimate − truth‖ / ‖truth‖")
    panels[-1, 1].set_xlabel("variance of one estimate: trace / ‖truth‖², log scale")
    pale = Patch(color="grey", alpha=0.3, label="below 2 standard errors of its measurement: no bias shown")
    figure.legend(handles=[pale], loc="outside lower center", frameon=False)
    figure.suptitle(f"Five ways to estimate ∇ E‖x − t‖², {n_samples:,} samples each, seed {seed}")
    return figure
