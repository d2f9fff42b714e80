"""The runs below a log folder, by number.

A browser names a run by its number and a file of it by its place in a list, never by a path. Numbers are given once, so that a
run that comes later moves none.
"""

import functools
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sb3_lecture.lab.pages import OPTIONS
from sb3_lecture.zoo.errors import UserError
from sb3_lecture.zoo.plotting import mean_and_band, rolling_mean
from sb3_lecture.zoo.runs import Run, open_run, read_episodes, read_evaluations, read_exact

MOST_RUNS = 2000
POINTS = 300  # of a curve
#: files of a run that a browser may see
SEEN = (".png", ".gif", ".mp4")
MOST_FILES = 20


class LogFolder:
    """The runs below a folder.

    :param path: as ``train --log-folder`` takes it
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runs: list[Run] = []
        self._numbers: dict[Path, int] = {}

    def scan(self) -> None:
        """Look for runs that have come."""
        for args in sorted(self.path.glob("*/*/*/args.yml")):
            folder = args.parent.parent
            if folder in self._numbers or len(self.runs) >= MOST_RUNS:
                continue
            try:
                run = open_run(folder)
            except (UserError, OSError):  # being written, or none
                continue
            self._numbers[folder] = len(self.runs)
            self.runs.append(run)

    def files(self, number: int) -> list[Path]:
        """Pictures and videos of a run, those that lie in its folder itself.

        :raises IndexError: if there is no such run
        """
        if number < 0:
            raise IndexError(number)
        folder = self.runs[number].path
        found = [path for path in folder.iterdir() if path.suffix.lower() in SEEN and path.is_file() and not path.is_symlink()]
        return sorted(found)[:MOST_FILES] if folder.is_dir() else []

    def file(self, number: int, place: int) -> Path:
        """One of these files.

        :raises IndexError: if there is none
        """
        if place < 0:
            raise IndexError(place)
        return self.files(number)[place]


_OPEN: dict[str, LogFolder] = {}


def current() -> LogFolder:
    """The folder that the command line has named."""
    name = OPTIONS["logs"]
    if name not in _OPEN:
        _OPEN[name] = LogFolder(Path(name))
    return _OPEN[name]


def _stamp(run: Run) -> tuple[Any, ...]:
    """Changes when one of the run's records does."""
    files = [*sorted(run.path.glob("*monitor.csv")), run.path / "evaluations.npz", run.path / "exact.npz"]
    return tuple((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files if path.is_file())


@functools.lru_cache(maxsize=512)
def _read(path: Path, stamp: tuple[Any, ...], figure: str) -> tuple[np.ndarray, np.ndarray, float | None]:
    run = open_run(path)
    if figure == "episodes":
        return *read_episodes(run), None
    if figure == "evaluations":
        return *read_evaluations(run), None
    exact = read_exact(run)
    column = "regrets" if figure == "regret" else "values"
    if column not in exact:
        return np.zeros(0), np.zeros(0), None
    return exact["timesteps"], exact[column], 0.0 if figure == "regret" else float(exact["optimal_values"][-1])


def read(run: Run, figure: str) -> tuple[np.ndarray, np.ndarray, float | None]:
    """One curve of a run, read anew where its files have changed; empty where there is none or it is damaged.

    :param figure: "episodes", "evaluations", "regret" or "value"
    :return: steps, numbers, and the exact optimum of these numbers if it is known
    """
    try:
        return _read(run.path, _stamp(run), figure)
    except (UserError, OSError):
        return np.zeros(0), np.zeros(0), None


def group(runs: Sequence[Run], figure: str, window: int, read_: Callable[..., Any] = read) -> dict[str, Any]:
    """Mean and 95 % band of some runs.

    :param window: of the rolling mean over episodes; other figures are not smoothed
    :return: x, mean, low, high [points], and the optimum
    """
    curves, optimum = [], None
    for run in runs:
        x, y, best = read_(run, figure)
        optimum = best if optimum is None else optimum
        keep = np.isfinite(y)
        if keep.any():
            y = rolling_mean(y[keep], window) if figure == "episodes" else y[keep]
            curves.append((x[keep].astype(np.float64), y))
    if not curves:
        return {"x": [], "mean": [], "low": [], "high": [], "optimum": optimum, "n": 0}
    x, mean, half = mean_and_band(curves)
    rows = np.unique(np.round(np.linspace(0, len(x) - 1, min(POINTS, len(x)))).astype(int))
    return {"x": x[rows], "mean": mean[rows], "low": (mean - half)[rows], "high": (mean + half)[rows], "optimum": optimum,
            "n": len(curves)}  # fmt: skip
