"""What a study found: candidates against the present values on fresh seeds, one HTML file, four pictures.

The best of many noisy trials looks better than it is. So the k best are trained again with seeds that no trial has seen,
and so are the config's present values with the same seeds. The differences, seed by seed, get Student's t-intervals at level
1 - 0.05 / k (Bonferroni): all k hold at once with 95 %, so that picking the best of them afterwards is fair.
"""

import base64
import contextlib
import html
import math
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from optuna.study import Study
from optuna.trial import TrialState

from sb3_lecture.zoo.errors import first_line
from sb3_lecture.zoo.tuning_study import DIVERGED, TRACEBACK, tally

REPORT_FILE = "report.html"
LEVEL = 0.95
#: picture → what it shows
PICTURES = {
    "history": "What each trial was worth",
    "importances": "Share of each hyperparameter in what makes trials good (PED-ANOVA)",
    "parallel_coordinates": "Trials as lines, dark ones worth more",
    "slices": "Each hyperparameter by itself",
}


@dataclass(frozen=True)
class Interval:
    """A mean with its confidence interval.

    :param mean: the mean
    :param half: half the interval's width; infinite with one value
    """

    mean: float
    half: float

    def __str__(self) -> str:
        return f"{self.mean:.4g} ± {self.half:.2g}"

    def bounds(self) -> str:
        """The interval in words."""
        return f"{self.mean - self.half:+.3g} to {self.mean + self.half:+.3g}"


def interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Student's t-interval of a mean.

    :param values: independent values, at least one
    :param level: of confidence
    """
    from scipy.stats import t

    array = np.asarray(values, dtype=np.float64)
    n = len(array)
    if n < 2:
        return Interval(float(array.mean()), math.inf)
    half = t.ppf(0.5 + level / 2, n - 1) * array.std(ddof=1) / math.sqrt(n)
    return Interval(float(array.mean()), float(half))


@dataclass(frozen=True)
class Candidate:
    """A trial beside the present values on the same fresh seeds.

    :param number: the trial's number
    :param value: what it was worth in the study
    :param fresh: its scores on the fresh seeds; None where it diverged or failed
    :param hyperparameters: in the config's form
    :param gain: its score minus that of the present values; None where either has none
    """

    number: int
    value: float
    fresh: tuple[float | None, ...]
    hyperparameters: dict[str, Any]
    gain: Interval | None

    @property
    def mean(self) -> Interval | None:
        """Mean of the fresh scores; None if a seed failed."""
        scores = [score for score in self.fresh if score is not None]
        return interval(scores) if len(scores) == len(self.fresh) else None


@dataclass(frozen=True)
class Verdict:
    """What the fresh seeds say.

    :param present: scores of the config's present values; None where a training diverged or failed
    :param candidates: the k best trials, best on the fresh seeds first
    """

    present: tuple[float | None, ...]
    candidates: tuple[Candidate, ...]

    @property
    def winner(self) -> Candidate | None:
        """The best candidate; None if each of them failed on a fresh seed."""
        return next((candidate for candidate in self.candidates if candidate.mean is not None), None)

    @property
    def present_mean(self) -> Interval | None:
        """Mean of the present values' scores; None if a seed failed."""
        scores = [score for score in self.present if score is not None]
        return interval(scores) if len(scores) == len(self.present) else None

    @property
    def better(self) -> bool:
        """Whether the winner is better than the present values beyond doubt."""
        winner = self.winner
        if winner is None:
            return False
        return winner.gain is None or winner.gain.mean - winner.gain.half > 0

    def sentence(self) -> str:
        """The verdict in words."""
        winner, k, n = self.winner, len(self.candidates), len(self.present)
        if winner is None:
            return f"Each of the {k} best trials diverged or failed on one of {n} fresh seeds: nothing was found."
        if winner.gain is None:
            return f"Trial {winner.number} brings {winner.mean} on {n} fresh seeds; the present values diverge or fail there."
        against = (
            f"{winner.mean} against {self.present_mean} on {n} fresh seeds, gain {winner.gain.mean:+.3g} "
            f"({winner.gain.bounds()}, 95 % over all {k} candidates)"
        )
        if self.better:
            return f"Trial {winner.number} is better than the present values: {against}."
        if winner.gain.mean + winner.gain.half < 0:
            return f"All candidates are worse than the present values; the best, trial {winner.number}: {against}."
        return f"The winner, trial {winner.number}, is not distinguishable from the present values: {against}."


def judge(
    present: Sequence[float | None], fresh: dict[int, Sequence[float | None]], values: dict[int, float],
    hyperparameters: dict[int, dict[str, Any]],
) -> Verdict:  # fmt: skip
    """Compare candidates with the present values.

    :param present: scores of the present values on the fresh seeds
    :param fresh: trial → its scores on the same seeds
    :param values: trial → what it was worth in the study
    :param hyperparameters: trial → hyperparameters
    """
    level = 1.0 - (1.0 - LEVEL) / max(1, len(fresh))
    candidates = []
    for number, scores in fresh.items():
        pairs = [(a, b) for a, b in zip(scores, present, strict=True) if a is not None and b is not None]
        gain = interval([a - b for a, b in pairs], level) if len(pairs) == len(scores) else None
        candidates.append(Candidate(number, values[number], tuple(scores), hyperparameters[number], gain))
    candidates.sort(key=lambda c: -math.inf if c.mean is None else c.mean.mean, reverse=True)
    return Verdict(tuple(present), tuple(candidates))


# --- pictures --------------------------------------------------------------------------------------------------------


def draw(study: Study, folder: Path) -> dict[str, Path | str]:
    """Draw Optuna's pictures of a study.

    :param study: the study
    :param folder: where the PNGs go
    :return: picture → its file, or why there is none
    """
    import matplotlib
    from matplotlib import pyplot
    from optuna.visualization import matplotlib as pictures

    matplotlib.use("Agg")
    n_params = len({name for trial in study.get_trials(deepcopy=False) for name in trial.params})
    draws: dict[str, tuple[Any, tuple[float, float]]] = {
        "history": (pictures.plot_optimization_history, (8, 4.5)),
        "importances": (pictures.plot_param_importances, (8, 1.5 + 0.4 * n_params)),
        "parallel_coordinates": (pictures.plot_parallel_coordinate, (max(8, 1.8 * n_params), 5)),
        "slices": (pictures.plot_slice, (max(8, 3 * n_params), 4)),
    }
    results: dict[str, Path | str] = {}
    if len({trial.value for trial in study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))}) == 1:
        del draws["importances"]  # it would show equal shares
        results["importances"] = "all trials are worth the same"
    for name, (plot, size) in draws.items():
        path = folder / f"{name}.png"
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # what Optuna and Matplotlib say of few or equal trials
            try:
                plot(study)
                pyplot.gcf().set_size_inches(*size)
                if name == "importances" and (legend := pyplot.gca().get_legend()) is not None:
                    legend.remove()  # there is one colour
                if name == "parallel_coordinates":
                    _make_readable(pyplot.gcf().axes)
                pyplot.savefig(path, dpi=110, bbox_inches="tight")
                results[name] = path
            except (ValueError, RuntimeError, ZeroDivisionError, IndexError) as error:  # too few trials, or all alike
                results[name] = first_line(error)
            finally:
                pyplot.close("all")
    return results


def _make_readable(all_axes: Sequence[Any]) -> None:
    """Take away the grids that lie over one another, and the lines behind the numbers."""
    from matplotlib.ticker import NullFormatter

    for axes in all_axes:
        axes.grid(False)
        axes.set_facecolor("white")
        axes.spines[:].set_color("gray")
        axes.yaxis.set_minor_formatter(NullFormatter())  # 6 × 10⁻¹ and the like reach into the next axis
        for label in axes.get_yticklabels(which="both"):
            label.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 1})


# --- the report ------------------------------------------------------------------------------------------------------


def counts_line(study: Study) -> str:
    """Say how many trials of each outcome there are."""
    now = tally(study)
    order = ("complete", "pruned", "diverged", "failed", "lost", "running", "waiting")
    return f"{now.total()} trials: " + ", ".join(f"{now[what]} {what}" for what in order if now[what])


def first_traceback(study: Study) -> str | None:
    """The traceback of the first failed trial."""
    for trial in study.get_trials(deepcopy=False):
        if TRACEBACK in trial.user_attrs:
            return str(trial.user_attrs[TRACEBACK])
    return None


def write(study: Study, folder: Path, verdict: Verdict | None, facts: dict[str, Any]) -> Path:
    """Write the report and its pictures.

    :param study: the study
    :param folder: where they go
    :param verdict: what the fresh seeds say; None: there was nothing to compare
    :param facts: name → value, listed as they are
    :return: the HTML file, which holds the pictures too
    """
    rows = "".join(f"<tr><th>{_text(name)}</th><td>{_text(value)}</td></tr>" for name, value in facts.items())
    parts = [f"<h1>{_text(study.study_name)}</h1>", f"<p>{_text(counts_line(study))}</p>"]
    if verdict is not None:
        parts += [f"<p class=verdict>{_text(verdict.sentence())}</p>", _table(verdict)]
    parts.append(f"<h2>How</h2><table>{rows}</table>")
    for name, drawn in draw(study, folder).items():
        parts.append(f"<h2>{_text(PICTURES[name])}</h2>")
        if isinstance(drawn, Path):
            data = base64.b64encode(drawn.read_bytes()).decode("ascii")
            parts.append(f'<img alt="{_text(PICTURES[name])}" src="data:image/png;base64,{data}">')
        else:
            parts.append(f"<p>No picture: {_text(drawn)}</p>")
    parts += _failures(study)
    path = folder / REPORT_FILE
    path.write_text(_PAGE.format(title=_text(study.study_name), body="\n".join(parts)), encoding="utf-8")
    with contextlib.suppress(ImportError):  # a table of all trials, for those who want to look further
        study.trials_dataframe().to_csv(folder / "trials.csv", index=False)
    return path


def _table(verdict: Verdict) -> str:
    rows = [f"<tr><td>present values</td><td></td><td>{verdict.present_mean or 'failed'}</td><td></td><td></td></tr>"]
    for candidate in verdict.candidates:
        gain = "" if candidate.gain is None else f"{candidate.gain.mean:+.3g} ({candidate.gain.bounds()})"
        values = ", ".join(f"{name} {value}" for name, value in candidate.hyperparameters.items())
        cells = [f"trial {candidate.number}", f"{candidate.value:.4g}", str(candidate.mean or "failed"), gain, values]
        rows.append("<tr>" + "".join(f"<td>{_text(cell)}</td>" for cell in cells) + "</tr>")
    head = "".join(
        f"<th>{name}</th>"
        for name in ("", "in the study", "fresh seeds, mean ± 95 % CI", "gain (95 % over all)", "hyperparameters")
    )
    return f"<table><tr>{head}</tr>{''.join(rows)}</table>"


def _failures(study: Study) -> list[str]:
    parts = []
    diverged = [t for t in study.get_trials(deepcopy=False) if t.state == TrialState.PRUNED and DIVERGED in t.user_attrs]
    if diverged:
        items = "".join(f"<li>trial {t.number}: {_text(t.user_attrs[DIVERGED])}</li>" for t in diverged)
        parts.append(f"<h2>Diverged</h2><ul>{items}</ul>")
    failed = [t for t in study.get_trials(deepcopy=False) if TRACEBACK in t.user_attrs]
    if failed:
        items = "".join(
            f"<details><summary>trial {t.number}: {_text(t.user_attrs[TRACEBACK].strip().splitlines()[-1])}</summary>"
            f"<pre>{_text(t.user_attrs[TRACEBACK])}</pre></details>"
            for t in failed
        )
        parts.append(f"<h2>Failed</h2>{items}")
    return parts


def _text(value: Any) -> str:
    return html.escape(str(value))


_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 1100px; margin: 2em auto; padding: 0 1em; }}
table {{ border-collapse: collapse; }} th, td {{ border-bottom: 1px solid #ddd; padding: .3em .8em; text-align: left; }}
th, td {{ vertical-align: top; }} img {{ max-width: 100%; }} .verdict {{ font-size: 1.15em; font-weight: 600; }}
</style></head><body>
{body}
</body></html>
"""
