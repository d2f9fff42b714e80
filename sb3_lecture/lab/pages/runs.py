"""Runs: what lies in the logs folder, seeds grouped, mean and 95 % band beside the exact optimum, pictures and videos."""

import shlex
from pathlib import Path
from typing import Any

from sb3_lecture.lab import log_folder
from sb3_lecture.lab.page import FRAMES_PER_SECOND, Choice, Number, Page, Text
from sb3_lecture.zoo.errors import UserError
from sb3_lecture.zoo.runs import Run

FIGURES = {
    "episodes": "Return of training episodes",
    "evaluations": "Return of evaluations",
    "regret": "Exact regret",
    "value": "Exact value",
}
MOST_SHOWN = 50  # settings and runs in the tables


class RunsPage(Page):
    """One world's runs, an algorithm a curve."""

    controls = (
        Text("world", "World", "", 200),
        Choice("figure", "Figure", "episodes", FIGURES),
        Number("window", "Rolling mean", 20, 1, 500, unit="episodes", log=True, whole=True),
        Text("run", "Run", "", 8),
    )
    actions = ("refresh", "play", "pause")

    def __init__(self) -> None:
        super().__init__()
        self._ticks = 0
        log_folder.current().scan()

    def do_refresh(self) -> None:
        """Look for new runs."""
        log_folder.current().scan()

    def tick(self) -> bool:
        """Watch: look again once a second."""
        self._ticks += 1
        if self._ticks % FRAMES_PER_SECOND:
            return False
        log_folder.current().scan()
        return True

    # ---- the picture

    def picture(self) -> dict[str, Any]:
        """The worlds, the curves of one of them, and one run in full."""
        logs = log_folder.current()
        worlds = sorted({run.env_id for run in logs.runs})
        chosen = self.settings["world"] or (worlds[0] if worlds else "")
        problem = ""
        if not worlds:
            problem = (
                f"There is no run in {logs.path}: train one with sb3-lecture train --algo q_learning, or give --log-folder"
            )
        elif chosen not in worlds:
            problem = f"There is no run on {chosen}; runs are on {', '.join(worlds[:10])}"
        numbers: dict[str, list[int]] = {}
        for number, run in enumerate(logs.runs):
            if run.env_id == chosen:
                numbers.setdefault(run.algo, []).append(number)
        figure, window = self.settings["figure"], int(self.settings["window"])
        groups = [
            {"algo": algo, "runs": [self._row(number) for number in members[:MOST_SHOWN]],
             **log_folder.group([logs.runs[number] for number in members], figure, window)}
            for algo, members in sorted(numbers.items())
        ]  # fmt: skip
        return {
            "problem": problem, "code": self.code([logs.runs[n].path for members in numbers.values() for n in members]),
            "worlds": [{"id": world, "runs": sum(run.env_id == world for run in logs.runs)} for world in worlds],
            "world_shown": chosen, "groups": groups, "detail": self._detail(), "folder": str(logs.path),
        }  # fmt: skip

    @staticmethod
    def _row(number: int) -> dict[str, Any]:
        run = log_folder.current().runs[number]
        steps, _, _ = log_folder.read(run, "episodes")
        return {"number": number, "name": run.path.name, "seed": run.seed, "steps": int(steps[-1]) if len(steps) else None}

    def _detail(self) -> dict[str, Any] | None:
        """The run that was chosen: its settings, pictures and videos."""
        text, logs = self.settings["run"], log_folder.current()
        if not text.isdecimal() or int(text) >= len(logs.runs):
            return None
        run = logs.runs[int(text)]
        try:
            files = [path.name for path in logs.files(int(text))]
        except OSError:
            return None
        return {
            "number": int(text), "algo": run.algo, "world": run.env_id, "seed": run.seed, "name": run.path.name,
            "files": files, "options": self._options(run),
            "command": f"sb3-lecture enjoy --algo {run.algo} --env {run.env_id} "
            f"-f {shlex.quote(str(logs.path))} --exp-id {run.number}",
        }  # fmt: skip

    @staticmethod
    def _options(run: Run) -> list[list[str]]:
        try:
            options = run.options()
        except (UserError, OSError):
            return []
        return [[str(key)[:40], str(value)[:200]] for key, value in sorted(options.items())][:MOST_SHOWN]

    def code(self, paths: list[Path]) -> dict[str, str]:
        """The command and the Python that do the same."""
        shown = [str(path) for path in paths[:MOST_SHOWN]] or ["logs/q_learning/Lecture-Maze-v0_1"]
        reader = {"episodes": "read_episodes", "evaluations": "read_evaluations"}.get(self.settings["figure"], "read_exact")
        python = (
            f"from sb3_lecture.zoo.plotting import mean_and_band\nfrom sb3_lecture.zoo.runs import open_run, {reader}\n\n"
            f"runs = [open_run(path) for path in {shown!r}]\nfor run in runs:\n    print(run.seed, {reader}(run))\n"
        )
        return {"python": python, "command": f"sb3-lecture plot {shlex.join(shown)}"}


make = RunsPage
