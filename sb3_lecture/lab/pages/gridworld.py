"""Gridworld editor: paint a map and move a slider; the whole run is done anew, and graded exactly, at every change."""

import json
import shlex
from typing import Any

import numpy as np

from sb3_lecture.lab.page import SPEED, Number, Text
from sb3_lecture.lab.tabular_page import SEED, TabularPage, learner_choice, learner_sliders, steps_slider
from sb3_lecture.lab.tabular_run import LEARNERS
from sb3_lecture_envs.cliff_walking import ROWS
from sb3_lecture_envs.grid import CLIFF, SYMBOLS, WALL, grid_mdp, parse_map
from sb3_lecture_envs.grid_world import MAPS
from sb3_lecture_envs.maze import LECTURE_MAZE
from sb3_lecture_envs.tabular_env import TabularEnv

LARGEST = 20  # cells a side
#: name → title, map, reward of every step
PRESETS = {
    "maze": ("Lecture maze", "\n".join(LECTURE_MAZE), 0.0),
    "2x2": ("2 × 2", MAPS["2x2"][0].replace(" ", "\n"), MAPS["2x2"][1]),
    "4x4": ("4 × 4", MAPS["4x4"][0].replace(" ", "\n"), MAPS["4x4"][1]),
    "cliff": ("Cliff", "\n".join(ROWS), -1.0),
    "four-rooms": ("Four rooms", MAPS["four-rooms"][0].replace(" ", "\n"), MAPS["four-rooms"][1]),
    "open": ("An open field", MAPS["open-10"][0].replace(" ", "\n"), MAPS["open-10"][1]),
}


class GridworldPage(TabularPage):
    """A map, a learner, and the exact optimum beside it."""

    controls = (
        Text("map", "Map", PRESETS["maze"][1], 4000),
        learner_choice("q_learning", *LEARNERS),
        *learner_sliders(0.1, 0.9, 0.1),
        Number("lambda_", "Trace decay", 0.9, 0.0, 1.0, 0.01, symbol="λ"),
        Number("slip", "Slip", 0.0, 0.0, 1.0, 0.01),
        Number("initial_value", "Initial value", 0.0, -10.0, 10.0, 0.1, symbol="Q₀"),
        Number("step_reward", "Reward a step", 0.0, -1.0, 1.0, 0.01),
        SEED,
        steps_slider(2000, 1_000_000),
        SPEED._replace(default=30),
    )

    def _rows(self) -> Any:
        symbols = parse_map(self.settings["map"], extra_symbols=CLIFF)
        if max(symbols.shape) > LARGEST:
            raise ValueError(
                f"The map is {symbols.shape[0]} by {symbols.shape[1]}; the lab draws up to {LARGEST} by {LARGEST}"
            )
        return symbols

    def make_env(self) -> TabularEnv:
        """The world of the map."""
        slip, step_reward = self.settings["slip"], self.settings["step_reward"]
        return TabularEnv(*grid_mdp(self._rows(), slip=slip, step_reward=step_reward))

    def env_snippet(self) -> tuple[str, str, list[str]]:
        """The same world outside the lab; maps with cliff cells are made in Python only."""
        slip, step_reward = self.settings["slip"], self.settings["step_reward"]
        rows = map_rows(self.settings["map"])
        laws = f"slip={slip!r}, step_reward={step_reward!r}"
        if any(CLIFF in row for row in rows):
            imports = (
                "from sb3_lecture_envs.grid import grid_mdp, parse_map\nfrom sb3_lecture_envs.tabular_env import TabularEnv"
            )
            return imports, f'TabularEnv(*grid_mdp(parse_map({rows!r}, extra_symbols="C"), {laws}))', []
        words = ["--env", "Lecture/GridWorld-v0", "--env-kwargs", shlex.quote(f"map:{json.dumps(rows)}")]
        words += [f"slip:{slip!r}", f"step_reward:{step_reward!r}"]
        return "from sb3_lecture_envs.grid_world import GridWorldEnv", f"GridWorldEnv({rows!r}, {laws})", words

    def picture(self) -> dict[str, Any]:
        """The table's picture, and the map it lies on; a map that is no world is drawn, too."""
        drawn = super().picture()
        try:
            symbols = self._rows()
        except ValueError:
            return {**drawn, "grid": {"rows": [], "cells": []}}
        return {**drawn, "grid": {"rows": symbols, "cells": np.argwhere(symbols != WALL)}}

    @staticmethod
    def info() -> dict[str, Any]:
        """What the view needs once: the maps to choose from, and what the symbols mean."""
        meanings = SYMBOLS | {CLIFF: "cliff: -100 on arrival, back to the start"}
        presets = [{"name": n, "title": t, "map": m, "step_reward": r} for n, (t, m, r) in PRESETS.items()]
        return {"presets": presets, "symbols": meanings, "largest": LARGEST}


def map_rows(text: str) -> list[str]:
    """The rows of a map as ``--env-kwargs map:[…]`` takes them."""
    return [row.strip() for row in text.strip().splitlines()]


make = GridworldPage
