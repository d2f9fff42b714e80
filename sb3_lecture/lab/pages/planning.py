"""Planning: sweeps over a known world, or imagined steps in a learned one, each change lit, beside the exact optimum."""

from typing import Any

import numpy as np

from sb3_lecture.lab.page import SPEED, STEPS, Choice, Number, Page
from sb3_lecture.lab.pages.gridworld import PRESETS
from sb3_lecture.lab.planned_run import SWEEPERS, PlannedRun
from sb3_lecture.lab.tabular_page import SEED
from sb3_lecture.lab.tabular_run import WITH_MODEL, TabularRun
from sb3_lecture_envs.grid import WALL, grid_mdp, parse_map
from sb3_lecture_envs.tabular_env import TabularEnv

WORLDS = {name: row for name, row in PRESETS.items() if name != "cliff"}
METHODS = SWEEPERS | WITH_MODEL
LARGEST = 5000
MOST_SHOWN = 12  # pairs of the queue


class PlanningPage(Page):
    """A world, a planner, and what its last step has changed."""

    controls = (
        Choice("world", "World", "maze", {name: title for name, (title, _, _) in WORLDS.items()}),
        Choice("learner", "Method", "value_iteration", {name: title for name, (_, title) in METHODS.items()}),
        Number("gamma", "Discount", 0.9, 0.0, 0.99, 0.01, symbol="γ"),
        Number("slip", "Slip", 0.0, 0.0, 1.0, 0.01),
        Number("imagined", "Imagined steps", 10, 1, 100, unit="a real one", whole=True),
        Number("alpha", "Step size", 0.5, 0.01, 1.0, 0.01, symbol="α"),
        Number("epsilon", "Random actions", 0.1, 0.0, 1.0, 0.01, symbol="ε"),
        SEED,
        Number(STEPS, "Sweeps, or real steps", 0, 0, LARGEST, log=True, whole=True),
        SPEED._replace(default=4, high=1000),
    )

    def __init__(self) -> None:
        super().__init__()
        self.run: PlannedRun | TabularRun | None = None
        self.rows = np.zeros((0, 0))

    # ---- planning

    @property
    def sweeps(self) -> bool:
        """Whether the method sweeps over a known world."""
        return self.settings["learner"] in SWEEPERS

    def make_env(self) -> TabularEnv:
        """The world."""
        _, text, step_reward = WORLDS[self.settings["world"]]
        self.rows = parse_map(text)
        return TabularEnv(*grid_mdp(self.rows, slip=self.settings["slip"], step_reward=step_reward))

    def arguments(self) -> dict[str, Any]:
        """Arguments of the learner's class."""
        settings = self.settings
        if self.sweeps:
            rest: dict[str, Any] = {"max_evaluation_sweeps": None} if settings["learner"] == "policy_iteration" else {}
            return {"gamma": settings["gamma"], **rest}
        alpha = {"learning_rate": settings["alpha"]} if settings["learner"] == "dyna_q" else {}
        return {**alpha, "gamma": settings["gamma"], "n_planning_steps": settings["imagined"]}

    def _plan(self, whole: bool = False) -> None:
        """Plan from the beginning to the step that is shown."""
        settings, env = self.settings, self.make_env()
        if self.sweeps:
            self.run = PlannedRun(env, settings["learner"], settings["gamma"], settings[STEPS], whole)
            settings[STEPS] = len(self.run.phases)  # no more than it takes
            return
        self.run = TabularRun(env, settings["learner"], self.arguments(), settings["epsilon"], settings["seed"])
        if whole:
            self.run.train_to(settings[STEPS])
            settings[STEPS] = self.run.end_of_episode(LARGEST)
            self.run = TabularRun(env, settings["learner"], self.arguments(), settings["epsilon"], settings["seed"])
        self.run.train_to(settings[STEPS])

    def changed(self, names: frozenset[str]) -> None:
        """Plan anew."""
        if names - {"speed"}:
            self._plan()

    def advance(self, steps: int) -> None:
        """Some sweeps, or real steps, more."""
        before = self.settings[STEPS]
        self.settings[STEPS] = min(LARGEST, before + steps)
        self._plan()
        self.playing = self.playing and self.settings[STEPS] > before

    def do_step(self) -> None:
        """One sweep, or one real step."""
        self.playing = False
        self.advance(1)

    def do_episode(self) -> None:
        """To the next improved policy, the end of the sweeps, or the end of an episode."""
        self.playing = False
        self.settings[STEPS] = min(LARGEST, self.settings[STEPS] + 1)
        self._plan(whole=True)

    def do_reset(self) -> None:
        """Forget all."""
        self.playing = False
        self.settings[STEPS] = 0
        self._plan()

    # ---- the picture

    def picture(self) -> dict[str, Any]:
        """Values and policy, what has changed, the optimum, and how to do the same without the lab."""
        if self.run is None:
            self._plan()
        run = self.run
        assert run is not None
        drawn: dict[str, Any] = {"problem": "", "code": self.code()}
        if isinstance(run, PlannedRun):
            drawn |= self._swept(run)
        else:
            drawn |= self._imagined(run)
        drawn["grid"] = {"rows": self.rows, "cells": np.argwhere(self.rows != WALL)}
        drawn["optimal_v"] = run.optimum.v
        return drawn

    def _swept(self, run: PlannedRun) -> dict[str, Any]:
        phase = run.phases[-1] if run.phases else ""
        q = run.met()
        return {
            "values": run.v, "policy": run.actions, "q": q, "phase": phase, "old": run.before,
            "old_policy": run.actions_before,
            "lit": (run.actions != run.actions_before) if phase == "improve" else run.v != run.before,
            "regret": run.regrets[-1], "error": run.errors[-1], "converged": run.converged, "queue": [], "known": None,
            "curve": {"steps": np.arange(len(run.errors)), "error": run.errors, "regret": run.regrets},
            "improvements": run.phases.count("improve"),
        }  # fmt: skip

    def _imagined(self, run: TabularRun) -> dict[str, Any]:
        table, memory = run.model.q_table, run.model.memory.arrays()
        lit = table != run.before if run.transition is not None else np.zeros(table.shape, np.bool_)  # [S, A]
        queue: list[dict[str, Any]] = []
        if self.settings["learner"] == "prioritized_sweeping":
            waiting = memory.heap[: int(memory.size[0])]
            ranked = waiting[np.argsort(-memory.urgency[waiting], kind="stable")]
            queue = [
                {"state": pair // table.shape[1], "action": pair % table.shape[1], "urgency": memory.urgency[pair]}
                for pair in ranked[:MOST_SHOWN]
            ]
        steps, regret = run.curve_points()
        return {
            "values": table.max(axis=1), "policy": table.argmax(axis=1), "q": table, "phase": "imagine",
            "old": run.before.max(axis=1),
            "old_policy": run.before.argmax(axis=1), "lit": lit.any(axis=1), "changed": int(lit.sum()), "regret": run.regret(),
            "error": float(np.abs(table.max(axis=1) - run.optimum.v)[np.isfinite(run.optimum.v)].max()), "converged": False,
            "queue": queue, "waiting": int(memory.size[0]) if self.settings["learner"] == "prioritized_sweeping" else 0,
            "known": memory.total > 0, "curve": {"steps": steps, "error": [], "regret": regret},
            "transition": None if run.transition is None else run.transition._asdict(), "state": run.state,
            "episodes": int(run.model._episode_num),
        }  # fmt: skip

    def code(self) -> dict[str, str]:
        """The command and the Python that do the same."""
        settings, arguments = self.settings, self.arguments()
        _, text, step_reward = WORLDS[settings["world"]]
        rows, slip, name = text.split(), settings["slip"], METHODS[settings["learner"]][0]
        make = f"GridWorldEnv({rows!r}, slip={slip!r}, step_reward={step_reward!r})"
        if self.sweeps:
            words = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
            python = (
                f"from sb3_lecture import {name}\nfrom sb3_lecture_envs.grid_world import GridWorldEnv\n\n"
                f'env = {make}\nmodel = {name}("TabularPolicy", env, {words})\n'
                f"model.learn({settings[STEPS]} * env.mdp.n_states)  # sweeps\nprint(model.v_table)\n"
            )
            command_steps = settings[STEPS] * int((self.rows != WALL).sum())
            pairs = " ".join(f"{key}:{value!r}" for key, value in arguments.items())
        else:
            arguments |= {
                "exploration_fraction": 0.0, "exploration_initial_eps": settings["epsilon"],
                "exploration_final_eps": settings["epsilon"],
            }  # fmt: skip
            words = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
            python = (
                f"from gymnasium.wrappers import TimeLimit\n\nfrom sb3_lecture import {name}\n"
                f"from sb3_lecture_envs.grid_world import GridWorldEnv\n\nenv = TimeLimit({make}, 200)\n"
                f'model = {name}("TabularPolicy", env, seed={settings["seed"]}, {words})\n'
                f"model.learn({settings[STEPS]})\nprint(model.q_table)\n"
            )
            command_steps = settings[STEPS]
            pairs = " ".join(f"{key}:{value!r}" for key, value in arguments.items())
        map_words = "map:[" + ", ".join(f'"{row}"' for row in rows) + "]"
        command = (
            f"sb3-lecture train --algo {settings['learner']} --env Lecture/GridWorld-v0 --env-kwargs '{map_words}' "
            f"slip:{slip!r} step_reward:{step_reward!r} -n {max(1, command_steps)} "
            f"--seed {settings['seed']} --hyperparams {pairs}"
        )
        return {"python": python, "command": command}


make = PlanningPage
