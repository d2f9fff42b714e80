"""Pictures of runs: learning curves (several seeds: mean and 95 % band) and the value map of a grid world.

Matplotlib is imported where a picture is drawn, and draws to files only (Agg), whatever backend the machine has.
"""

import os
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from sb3_lecture.zoo import registry
from sb3_lecture.zoo.errors import UserError, first_line
from sb3_lecture.zoo.runs import Run, is_self_play_run, read_board, read_episodes, read_evaluations, read_exact

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

    from sb3_lecture_envs.grid import GridLayout

#: Okabe and Ito's palette, told apart by colour-blind readers too; its yellow is too pale for lines
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
GRID_POINTS = 300
FEW_RUNS = 5  # up to so many runs of a group are drawn one by one too
#: direction of each arrow sign, x to the right and y down
_DIRECTIONS = {"↑": (0, -1), "→": (1, 0), "↓": (0, 1), "←": (-1, 0)}


@cache
def t_quantile(degrees: int) -> float:
    """Return the 97.5 % quantile of Student's t, half the width of a 95 % interval in standard errors.

    With t = √ν tan θ the density is proportional to cos^(ν−1) θ, which is summed on a fine grid.

    :param degrees: degrees of freedom ν, at least 1
    """
    theta = np.linspace(0.0, np.pi / 2, 200_001)
    mass = np.cumsum(np.cos((theta[1:] + theta[:-1]) / 2) ** (degrees - 1))
    return float(np.sqrt(degrees) * np.tan(np.interp(0.95 * mass[-1], mass, theta[1:])))


def mean_and_band(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Average curves over seeds, each as far as it goes.

    :param curves: (x, y) of each seed, x increasing
    :return: x, mean over the curves that live there, and half the width of its 95 % t-interval, all [points]; the width is NaN
        where fewer than two live, the mean where none does. The points are those of the curves, so that mean and band are
        straight between them; from GRID_POINTS on they are an even grid
    """
    if len(curves) == 1:
        x, y = curves[0]
        return x, y, np.full(len(y), np.nan)
    points = np.unique(np.concatenate([x for x, _ in curves]))
    grid = points if len(points) <= GRID_POINTS else np.linspace(points[0], points[-1], GRID_POINTS)
    values = np.array([np.interp(grid, x, y, left=np.nan, right=np.nan) for x, y in curves])  # [seeds, points]
    alive = np.isfinite(values)
    n = alive.sum(axis=0)  # [points]
    mean = np.where(alive, values, 0.0).sum(axis=0) / np.where(n > 0, n, np.nan)
    squares = np.where(alive, (values - mean) ** 2, 0.0).sum(axis=0)
    several = np.where(n > 1, n, np.nan)
    factors = np.array([t_quantile(int(k) - 1) if k > 1 else np.nan for k in n])
    return grid, mean, factors * np.sqrt(squares / (several - 1) / several)


def rolling_mean(y: np.ndarray, window: int) -> np.ndarray:
    """Mean of the last ``window`` values, fewer at the start; float [n] → [n]."""
    total = np.concatenate([[0.0], np.cumsum(y)])
    end = np.arange(1, len(y) + 1)
    start = np.maximum(end - window, 0)
    return (total[end] - total[start]) / (end - start)


@dataclass
class _Group:
    """The runs of one algorithm on one environment: one line of the picture."""

    label: str
    runs: list[Run]
    colour: str


def _groups(runs: Sequence[Run]) -> list[_Group]:
    """Put runs of one world together that differ in their seed and length alone; name each group by what tells it apart."""
    table: dict[str, list[tuple[Run, dict[str, Any]]]] = {}
    for run in runs:
        table.setdefault(run.algo, []).append((run, run.options()))
    groups: list[_Group] = []
    for algo, members in table.items():
        keys = dict.fromkeys(key for _, options in members for key in options if key not in ("n_timesteps", "env_kwargs"))
        told = [key for key in keys if len({repr(options.get(key)) for _, options in members}) > 1]
        variants: dict[str, list[Run]] = {}
        for run, options in members:
            variants.setdefault(_variant({key: options.get(key) for key in told}), []).append(run)
        for variant, group in variants.items():
            label = ", ".join(name for name in (algo if len(table) > 1 else "", variant) if name) or algo
            label += "" if len(group) == 1 else f" ({len(group)} runs)"
            groups.append(_Group(label, group, COLOURS[len(groups) % len(COLOURS)]))
    return groups


def _variant(options: dict[str, Any]) -> str:
    """Name a variant by its values, and by the names of the switches that are on: "replay + target"."""
    switches = {
        key.removesuffix("_network"): value
        for key, value in options.items()
        if value is None or value is True or value is False
    }
    parts = [f"{key} {_short(value)}" for key, value in options.items() if key.removesuffix("_network") not in switches]
    if switches:
        on = [key for key, value in switches.items() if value]
        parts.append(" + ".join(on) or ("no switch" if len(switches) > 1 else f"no {next(iter(switches))}"))
    return ", ".join(parts)


def _short(value: Any) -> str:
    if isinstance(value, dict):
        return " ".join(f"{key}={_short(inner)}" for key, inner in value.items())
    text = f"{value:g}" if isinstance(value, float) else " ".join(str(value).split())
    return text if len(text) <= 30 else f"{text[:29]}…"


def world_of(run: Run) -> str:
    """Name the world of a run, its arguments included: two worlds are never one."""
    kwargs = run.options().get("env_kwargs")
    told = [f"{key} {_short(value)}" for key, value in kwargs.items()] if isinstance(kwargs, dict) else []
    return ", ".join([run.env_id, *told])


@dataclass
class _Curves:
    """What is drawn of the runs of one world, by the runs' folders."""

    runs: list[Run]
    episodes: dict[Path, tuple[np.ndarray, np.ndarray]]
    evaluations: dict[Path, tuple[np.ndarray, np.ndarray]]
    exact: dict[Path, dict[str, np.ndarray]]
    board: dict[Path, dict[str, np.ndarray]]

    @property
    def games(self) -> bool:
        return len(self.board) == len(self.runs)

    @property
    def strategies(self) -> bool:
        return len(self.exact) == len(self.runs) and all("exploitability" in table for table in self.exact.values())

    @property
    def empty(self) -> bool:
        curves = [*self.episodes.values(), *self.evaluations.values()]
        return not self.exact and not self.board and not any(len(x) for x, _ in curves)


def learning_curve(runs: Sequence[Run], window: int | None = None, evaluations_only: bool = False) -> "Figure":
    """Draw the learning curves of runs, a row of panels a world; runs of one algorithm are averaged, each as far as it goes.

    Left: the return of the training episodes, a mean over the last ``window`` of each run, or the evaluations where no
    episode was written. Right, where the environment's law is known: the exact value of the policy, the optimum dashed.
    Of a board game played against oneself, whose returns say nothing: the score against fixed opponents, and Elo. Of a game
    with hidden information: how much a perfect opponent wins.

    :param runs: the runs
    :param window: episodes in the rolling mean; None: a twentieth of the median run's, at most 100
    :param evaluations_only: leave the training episodes out (default False)
    :raises UserError: if no run has an episode or an evaluation yet
    """
    from matplotlib.figure import Figure

    worlds: dict[str, list[Run]] = {}
    for run in runs:
        worlds.setdefault(world_of(run), []).append(run)
    none = np.zeros(0, np.int64), np.zeros(0)
    read = {
        world: _Curves(
            members,
            {run.path: none if evaluations_only else read_episodes(run) for run in members},
            {run.path: read_evaluations(run) for run in members},
            {run.path: curve for run in members if (curve := read_exact(run))},
            {run.path: curve for run in members if (curve := read_board(run))},
        )
        for world, members in worlds.items()
    }
    shown = {world: curves for world, curves in read.items() if not curves.empty}
    if not shown:
        raise UserError(f"no episode has ended yet in {', '.join(str(run.path) for run in runs)}: there is nothing to draw")
    two = any((curves.exact and not curves.strategies) or curves.games for curves in shown.values())
    figure = Figure(figsize=(11.0 if two else 6.8, 4.2 * len(shown)), layout="constrained")
    panels = figure.subplots(len(shown), 2 if two else 1, squeeze=False)
    for (world, curves), axes in zip(shown.items(), panels, strict=True):
        groups = _groups(curves.runs)
        if curves.strategies:
            _draw_exploitability(axes[0], groups, curves.exact)
            for other in axes[1:]:
                other.set_visible(False)
        elif curves.games:
            _draw_scores(axes[0], groups, curves.board)
            _draw_elo(axes[1], groups, curves.board)
        else:
            if _same_returns(curves):  # the line with the treasure: what falls is the number of steps
                lengths = {path: (x, np.diff(x, prepend=0).astype(np.float64)) for path, (x, _) in curves.episodes.items()}
                none_tested = dict.fromkeys(lengths, (np.zeros(0, np.int64), np.zeros(0)))
                _draw_returns(axes[0], groups, lengths, none_tested, window or _window(curves))
                returned = next(y[0] for _, y in curves.episodes.values() if len(y))
                axes[0].set_ylabel("Steps of an episode")
                axes[0].set_title(
                    axes[0].get_title().replace("Return", f"Steps; every return is {returned:g}"), fontsize="medium"
                )
            else:
                _draw_returns(axes[0], groups, curves.episodes, curves.evaluations, window or _window(curves))
            errors = {path: table for path, table in curves.exact.items() if "rms_errors" in table}
            if len(errors) < len(curves.exact):  # beside learners of control, predictions have no line
                _draw_exact(axes[1], groups, {path: table for path, table in curves.exact.items() if path not in errors})
            elif errors:
                _draw_errors(axes[1], groups, errors)
            elif two:
                axes[1].set_visible(False)
        if len(shown) > 1:
            axes[0].set_title(f"{world}\n{axes[0].get_title()}", fontsize="medium")
    figure.suptitle(_title(runs, next(iter(shown)) if len(shown) == 1 else ""))
    return figure


def _same_returns(curves: _Curves) -> bool:
    """Whether every training episode returned the same, so that its length alone tells one from another.

    Lengths are read off the steps at which episodes ended: of one env.
    """
    returns = [y for _, y in curves.episodes.values() if len(y)]
    one_env = all(run.options().get("n_envs", 1) == 1 for run in curves.runs)
    return one_env and bool(returns) and bool(np.ptp(np.concatenate(returns)) == 0) and len(np.concatenate(returns)) > 1


def _window(curves: _Curves) -> int:
    counts = [len(x) for x, _ in curves.episodes.values() if len(x)]
    return int(np.clip((np.median(counts) if counts else 1) // 20, 1, 100))


def _title(runs: Sequence[Run], world: str) -> str:
    """Say what all runs have in common."""
    algos = {run.algo for run in runs}
    seeds = [run.seed for run in runs if run.seed is not None]
    title = " on ".join([*(algos if len(algos) == 1 else []), *([world] if world else [])])
    detail = f"seed {seeds[0]}" if len(seeds) == 1 == len(runs) else f"{len(runs)} runs"
    return "\n".join(textwrap.wrap(f"{title}, {detail}" if title else detail, 90))


def _draw_returns(
    ax: "Axes",
    groups: list[_Group],
    episodes: dict[Path, tuple[np.ndarray, np.ndarray]],
    evaluations: dict[Path, tuple[np.ndarray, np.ndarray]],
    window: int,
) -> None:
    alone = len(groups) == 1
    several = any(len(group.runs) > 1 for group in groups)
    for group in groups:
        curves = [(x, rolling_mean(y, window)) for x, y in (episodes[run.path] for run in group.runs) if len(x)]
        tested = [curve for run in group.runs if len((curve := evaluations[run.path])[0])]
        if alone and len(curves) == 1 and window > 1:
            x, y = episodes[group.runs[0].path]
            if len(x):
                ax.plot(x, y, ".", color=group.colour, alpha=0.3, markersize=2.5, markeredgewidth=0, zorder=1)
        if curves:
            noun = "training episodes" if alone else group.label
            mean = f", mean of {window}" if alone and window > 1 else ""
            raw = np.concatenate([y for _, y in (episodes[run.path] for run in group.runs)])
            _line(ax, curves, group.colour, noun + mean, bounds=(float(raw.min()), float(raw.max())))
        if tested and (alone or not curves):
            colour = COLOURS[1] if alone and curves else group.colour
            _line(ax, tested, colour, "evaluation episodes" if alone else f"{group.label}, evaluated", marker="o")
    ax.set_xlabel(_steps(groups))
    alternate = all(is_self_play_run(run) for group in groups for run in group.runs)
    ax.set_ylabel("Result of the first player" if alternate else "Return of an episode")
    noun = "Return" if any(len(x) for x, _ in episodes.values()) else "Return in evaluation"
    noun += "; thin: single runs" if any(1 < len(group.runs) <= FEW_RUNS for group in groups) else ""
    ax.set_title(noun + ("; band: 95 % t-interval of the mean" if several else ""), fontsize="medium")
    _finish(ax)


def _draw_exact(ax: "Axes", groups: list[_Group], exact: dict[Path, dict[str, np.ndarray]]) -> None:
    optima: dict[float, _Group] = {}
    for group in groups:
        tables = [exact[run.path] for run in group.runs if run.path in exact]
        curves = []
        for table in tables:
            finite = np.isfinite(table["values"])
            if finite.any():
                curves.append((table["timesteps"][finite], table["values"][finite]))
            optima.setdefault(round(float(table["optimal_values"][-1]), 9), group)
        if curves:
            best = max(float(table["optimal_values"].max()) for table in tables)
            _line(ax, curves, group.colour, "greedy policy" if len(groups) == 1 else group.label, bounds=(-np.inf, best))
    for optimum, group in sorted(optima.items(), key=lambda item: item[0]):
        one = len(optima) == 1  # otherwise their discounts differ, and so do the optima
        label = f"optimum {optimum:.4g}" if one else f"optimum {optimum:.4g} of {group.runs[0].algo}"
        ax.axhline(optimum, color="black" if one else group.colour, linestyle="--", linewidth=1.2, label=label)
    ax.set_xlabel(_steps(groups))
    ax.set_ylabel("Discounted value from the start")
    ax.set_title("Exact value of the greedy policy", fontsize="medium")
    _finish(ax)


def _draw_errors(ax: "Axes", groups: list[_Group], exact: dict[Path, dict[str, np.ndarray]]) -> None:
    for group in groups:
        tables = [exact[run.path] for run in group.runs if run.path in exact]
        curves = [(table["timesteps"], table["rms_errors"]) for table in tables]
        if curves:
            _line(ax, curves, group.colour, "values of the states" if len(groups) == 1 else group.label)
    ax.set_ylim(bottom=0)
    ax.set_xlabel("Environment steps")
    ax.set_ylabel("RMS error against the exact values")
    ax.set_title("Error of the values of the given policy", fontsize="medium")
    _finish(ax)


def _draw_exploitability(ax: "Axes", groups: list[_Group], exact: dict[Path, dict[str, np.ndarray]]) -> None:
    lowest = 1.0
    for group in groups:
        tables = [exact[run.path] for run in group.runs]
        curves = [(table["timesteps"], np.maximum(table["exploitability"], 1e-12)) for table in tables]
        lowest = min(lowest, *(float(y.min()) for _, y in curves))
        _line(ax, curves, group.colour, "both seats" if len(groups) == 1 else group.label, bounds=(1e-12, np.inf))
    if lowest < 0.1:
        ax.set_yscale("log")
    else:
        ax.set_ylim(bottom=0)
    ax.set_xlabel("Steps (CFR and its kin: iterations)")
    ax.set_ylabel("Exploitability (NashConv / 2)")
    ax.set_title("What a perfect opponent wins", fontsize="medium")
    _finish(ax)


def _draw_scores(ax: "Axes", groups: list[_Group], board: dict[Path, dict[str, np.ndarray]]) -> None:
    names = list(dict.fromkeys(key.removesuffix("_win") for table in board.values() for key in table if key.endswith("_win")))
    for i, (group, name) in enumerate((group, name) for group in groups for name in names):
        tables = [table for run in group.runs if f"{name}_win" in (table := board[run.path])]
        curves = [(table["timesteps"], table[f"{name}_win"] + table[f"{name}_draw"] / 2) for table in tables]
        if curves:
            label = f"against {name}" if len(groups) == 1 else f"{group.label}, against {name}"
            _line(ax, curves, COLOURS[i % len(COLOURS)], label, bounds=(0.0, 1.0))
    ax.set_ylim(-0.03, 1.03)
    ax.set_xlabel("Moves")
    ax.set_ylabel("Wins + half the draws")
    ax.set_title("Score, half of the games with each side", fontsize="medium")
    _finish(ax)


def _draw_elo(ax: "Axes", groups: list[_Group], board: dict[Path, dict[str, np.ndarray]]) -> None:
    for group in groups:
        curves = [(board[run.path]["timesteps"], board[run.path]["elo"]) for run in group.runs if "elo" in board[run.path]]
        if curves:
            _line(ax, curves, group.colour, "checkpoints among themselves" if len(groups) == 1 else group.label)
    ax.set_xlabel("Moves")
    ax.set_ylabel("Elo, 0 at the start")
    ax.set_title("Rating against earlier checkpoints", fontsize="medium")
    _finish(ax)


def _line(
    ax: "Axes",
    curves: list[tuple[np.ndarray, np.ndarray]],
    colour: str,
    label: str,
    marker: str = "",
    bounds: tuple[float, float] = (-np.inf, np.inf),
) -> None:
    """Draw the mean of curves, its band where at least two of them live, and few curves one by one.

    :param bounds: what a value cannot leave: nor does the band
    """
    x, mean, half = mean_and_band(curves)
    to_the_end = sum(bool(own[-1] >= 0.95 * x[-1]) for own, _ in curves)
    label += "" if to_the_end == len(curves) else f", {to_the_end} of {len(curves)} to the end"
    few = marker or ("o" if len(x) < 3 else "")
    ax.plot(x, mean, color=colour, linewidth=1.8, marker=few if len(x) <= 40 else "", markersize=3.5, label=label, zorder=3)
    for single_x, single_y in curves if 1 < len(curves) <= FEW_RUNS else []:  # what a mean would hide
        ax.plot(single_x, single_y, color=colour, linewidth=0.7, alpha=0.5, zorder=2.5)
    if (half > 0).any():
        lowest, highest = min(y.min() for _, y in curves), max(y.max() for _, y in curves)
        ax.update_datalim([(x[0], lowest), (x[-1], highest)])
        limits = ax.dataLim.frozen()  # the axis fits the runs; a band of few runs may go beyond it
        low, high = np.maximum(mean - half, bounds[0]), np.minimum(mean + half, bounds[1])
        ax.fill_between(x, low, high, color=colour, alpha=0.2, linewidth=0, zorder=2)
        ax.dataLim.set(limits)


def _steps(groups: "list[_Group]") -> str:
    """What the runs' steps count."""
    rows = [registry.algorithms().get(run.algo) for group in groups for run in group.runs]
    offline = {row is not None and row.target.startswith("sb3_lecture.offline.") for row in rows}
    return {True: "Gradient steps", False: "Environment steps"}[offline.pop()] if len(offline) == 1 else "Steps"


def _finish(ax: "Axes") -> None:
    from matplotlib.ticker import EngFormatter

    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.set_xlim(left=0)
    ax.margins(y=0.08)
    ax.grid(alpha=0.3)
    ax.spines[["top", "right"]].set_visible(False)
    handles, labels = ax.get_legend_handles_labels()
    if handles:  # below the axes: it can hide nothing there
        longest = max(map(len, labels))
        columns = max(1, min(len(labels), 70 // (longest + 8)))  # a panel has room for 70 signs, a line's mark takes 8
        labels = [textwrap.fill(label, 60) for label in labels]
        ax.legend(
            handles, labels, loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=columns, frameon=False, fontsize="small"
        )


def value_map(
    layout: "GridLayout",
    panels: dict[str, np.ndarray],
    optimum: np.ndarray,
    actions: np.ndarray | None,
    is_optimal: np.ndarray | None,
    terminal: np.ndarray,
    title: str = "",
    regret: np.ndarray | None = None,
    error: np.ndarray | None = None,
) -> "Figure":
    """Draw values of a grid world's states as colours, and a policy as arrows.

    :param layout: where the states lie
    :param panels: caption → values, float [S]; one map each, on one colour scale
    :param optimum: values of an optimal policy, float [S]; the colour scale is theirs
    :param actions: the policy's action in each state, int [S]; None: no arrows
    :param is_optimal: whether that action is optimal, bool [S]; None: nothing is said of it
    :param terminal: states that end the episode, bool [S]; they get their symbol instead of an arrow
    :param title: the picture's title
    :param regret: what each state lacks to the optimum, float [S]; drawn last, on a scale of its own; None: no such map
    :param error: how far each predicted value is off, float [S]; drawn in the regret's place
    """
    from matplotlib.figure import Figure

    shown = optimum[np.isfinite(optimum) & ~terminal]
    low, high = (float(shown.min()), float(shown.max())) if len(shown) else (0.0, 1.0)
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    height, width = layout.height, layout.width
    stacked = width >= 2 * height  # wide maps lie below one another
    what, lack = "Regret of each state: optimal value minus exact value", regret
    if error is not None:
        what, lack = "Error of each state: the model's value minus the exact one, without its sign", error
    optimal = np.ones(len(optimum), np.bool_) if is_optimal is None else is_optimal
    n_maps = len(panels) + (lack is not None)
    rows, columns = (n_maps, 1) if stacked else (1, n_maps)
    cell = float(np.clip((11.0 if stacked else 7.0) / max(height, width), 0.09, 1.15))  # inches
    size = (max(width * cell, 3.2) * columns + 1.6, (max(height * cell, 0.6) + 0.4) * rows + 0.7)
    figure = Figure(figsize=size, layout="compressed")
    axes = figure.subplots(rows, columns, squeeze=False).ravel()
    image = None
    for ax, (caption, values) in zip(axes, panels.items(), strict=False):
        image = _draw_map(ax, layout, values, terminal, (low, high), cell)
        if actions is not None:
            _draw_arrows(ax, layout, actions, optimal, terminal, cell)
        ax.set_title(caption, fontsize="medium")
    assert image is not None
    if lack is not None:
        lacking = lack[~terminal & np.isfinite(lack)]
        worst = float(lacking.max(initial=0.0))
        worst = worst if worst > 1e-9 else 1.0  # nothing is lacking
        last = _draw_map(axes[-1], layout, np.where(lack < 1e-9, 0.0, lack), terminal, (0.0, worst), cell, "Reds")
        if actions is not None:
            _draw_arrows(axes[-1], layout, actions, optimal, terminal, cell)
        axes[-1].set_title(what, fontsize="medium")
        endless = bool((~np.isfinite(lack[~terminal])).any())
        figure.colorbar(last, ax=[axes[-1]], label=what.split()[0], pad=0.02, extend="max" if endless else "neither")
    below = any((values[~terminal] < low - 1e-9).any() for values in panels.values())
    figure.colorbar(
        image, ax=list(axes[: len(panels)]), label="Discounted value", pad=0.02, extend="min" if below else "neither"
    )
    note = "" if bool(optimal[~terminal].all()) else "; red arrows: not optimal"
    figure.suptitle(f"{title}{note}")
    return figure


def _draw_map(
    ax: "Axes",
    layout: "GridLayout",
    values: np.ndarray,
    terminal: np.ndarray,
    limits: tuple[float, float],
    cell: float,
    colour_map: str = "cividis",
) -> Any:
    import matplotlib

    colours = matplotlib.colormaps[colour_map].with_extremes(bad="#e8e8e8")
    shown = np.where(terminal, np.nan, np.clip(values, *limits))  # −inf (the policy never ends) becomes the lowest colour
    image = ax.imshow(layout.to_cells(shown), cmap=colours, vmin=limits[0], vmax=limits[1])
    ax.set_xticks([])
    ax.set_yticks([])
    if cell >= 0.3:  # lines between the cells
        ax.set_xticks(np.arange(layout.width + 1) - 0.5, minor=True)
        ax.set_yticks(np.arange(layout.height + 1) - 0.5, minor=True)
        ax.grid(which="minor", color="white", linewidth=0.8)
        ax.tick_params(which="minor", length=0)
    names = {"G": ("#009E73", "goal"), "P": ("#D55E00", "pit"), "T": ("#bdbdbd", "end"), "C": ("#D55E00", "cliff")}
    for state, (row, column) in enumerate(layout.cells):
        if terminal[state]:
            colour, name = names.get(str(layout.state_symbols[state]), ("#bdbdbd", str(layout.state_symbols[state])))
            ax.add_patch(matplotlib.patches.Rectangle((column - 0.5, row - 0.5), 1, 1, color=colour, linewidth=0))
            if cell >= 0.45:
                ax.text(column, row, name, ha="center", va="center", fontsize=min(10, 12 * cell))
        elif cell >= 0.4:
            share = (shown[state] - limits[0]) / (limits[1] - limits[0])
            dark = share < 0.55 if colour_map == "cividis" else share > 0.6
            infinite = "∞" if values[state] > 0 else "−∞"
            text = f"{values[state]:.{3 if cell >= 0.7 else 2}g}" if np.isfinite(values[state]) else infinite
            colour = "white" if dark else "black"
            ax.text(column, row - 0.3, text, ha="center", va="center", fontsize=min(9, 10 * cell), color=colour)
            if layout.state_symbols[state] == "S":
                ax.text(column - 0.46, row + 0.46, "start", ha="left", va="bottom", fontsize=min(7, 8 * cell), color=colour)
    return image


def _draw_arrows(
    ax: "Axes", layout: "GridLayout", actions: np.ndarray, is_optimal: np.ndarray, terminal: np.ndarray, cell: float
) -> None:
    steps = np.array([_DIRECTIONS.get(sign, (0, 0)) for sign in layout.actions], dtype=np.float64)  # [A, 2]
    shift = 0.12 if cell >= 0.4 else 0.0  # below the number
    for chosen, face, edge in ((is_optimal, "white", "black"), (~is_optimal, "#D55E00", "white")):
        states = np.flatnonzero(chosen & ~terminal)
        rows, columns = layout.cells[states].T
        dx, dy = 0.55 * steps[actions[states]].T
        ax.quiver(
            columns, rows + shift, dx, dy, angles="xy", scale_units="xy", scale=1, pivot="mid", units="xy", width=0.1,
            headwidth=3.2, headlength=2.6, headaxislength=2.6, color=face, edgecolor=edge, linewidth=min(0.8, 1.2 * cell),
            zorder=4,
        )  # fmt: skip


def check_output(path: str | Path) -> Path:
    """Refuse a picture's file before the work that would be drawn into it.

    :raises UserError: if the ending is unknown, or no file can be written there
    """
    from matplotlib.backend_bases import FigureCanvasBase

    path = Path(path)
    formats = sorted(FigureCanvasBase.get_supported_filetypes())
    if path.suffix.lstrip(".").lower() not in formats:
        raise UserError(f"cannot write {path}: its ending must be one of {', '.join(formats)}")
    if not path.parent.is_dir():
        raise UserError(f"cannot write {path}: the folder {path.parent} does not exist")
    if path.is_dir() or not os.access(path if path.exists() else path.parent, os.W_OK):
        raise UserError(f"cannot write {path}: {'it is a folder' if path.is_dir() else 'permission denied'}")
    return path


def save(figure: "Figure", path: str | Path) -> Path:
    """Write a picture, beside its place first; the format follows the file's ending (png, pdf, svg, …).

    :raises UserError: if the ending is unknown, or the file cannot be written
    """
    path = check_output(path)
    beside = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        figure.savefig(beside, dpi=140, format=path.suffix.lstrip(".").lower())
        os.replace(beside, path)
    except OSError as error:
        beside.unlink(missing_ok=True)
        raise UserError(f"cannot write {path}: {error.strerror or first_line(error)}") from error
    return path
