"""Treasure line: the first world of many lectures in slow motion; a reward travels back through the values."""

from typing import Any

from sb3_lecture.lab.page import SPEED, Number
from sb3_lecture.lab.tabular_page import SEED, TabularPage, learner_choice, learner_sliders, steps_slider
from sb3_lecture_envs.treasure_line import TreasureLineEnv


class TreasureLinePage(TabularPage):
    """A line of cells, two values a cell, one number at a time."""

    controls = (
        Number("n", "Cells", 6, 2, 12, whole=True),
        learner_choice("q_learning", "q_learning", "sarsa", "expected_sarsa"),
        *learner_sliders(0.1, 0.9, 0.1),
        SEED,
        steps_slider(0, 10_000),
        SPEED._replace(default=3, high=3000),
    )
    window = 10_000

    def make_env(self) -> TreasureLineEnv:
        """A line."""
        return TreasureLineEnv(self.settings["n"])

    def env_snippet(self) -> tuple[str, str, list[str]]:
        """The same line outside the lab."""
        n = self.settings["n"]
        words = ["--env", "Lecture/TreasureLine-v0", "--env-kwargs", f"n:{n}"]
        return "from sb3_lecture_envs.treasure_line import TreasureLineEnv", f"TreasureLineEnv({n})", words

    def picture(self) -> dict[str, Any]:
        """The table's picture and the line's length."""
        return {**super().picture(), "n": self.settings["n"]}


make = TreasureLinePage
