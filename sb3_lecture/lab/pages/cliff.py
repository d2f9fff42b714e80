"""The cliff: two learners on the same seeds, what they earn while they learn, and the ways that their greedy policies go."""

from typing import Any

import numpy as np

import sb3_lecture
from sb3_lecture.common.wrappers import TimeLimit
from sb3_lecture.exact.chain import policy_evaluation
from sb3_lecture.exact.solver import epsilon_soft_optimum, exact_optimum, start_value
from sb3_lecture.lab.page import SPEED, STEPS, Choice, Number, Page
from sb3_lecture.lab.tabular_page import SEED, learner_choice, learner_sliders, steps_slider
from sb3_lecture.lab.tabular_run import LEARNERS, MAX_EPISODE_STEPS, TabularRun
from sb3_lecture_envs.cliff_walking import CliffWalkingEnv
from sb3_lecture_envs.mdp import TabularMDP

OFFERED = ("sarsa", "q_learning", "expected_sarsa")
LARGEST = 50_000
WINDOW = 10  # episodes of the moving average
SIDES = ("learner", "other")


def way(mdp: TabularMDP, actions: np.ndarray) -> list[int]:
    """The states that a policy goes through from the start by likeliest outcomes, until it ends or comes back.

    :param actions: int [S]
    """
    state, found = int(mdp.start_state[0]), []
    while state not in found:
        found.append(state)
        row = state * mdp.n_actions + int(actions[state])
        outcomes = slice(mdp.row_ptr[row], mdp.row_ptr[row + 1])
        likeliest = int(mdp.prob[outcomes].argmax())
        state = int(mdp.next_state[outcomes][likeliest])
        if mdp.terminated[outcomes][likeliest]:
            return [*found, state]
    return [*found, state]


def moving_mean(values: np.ndarray, window: int = WINDOW) -> np.ndarray:
    """The mean of the last ``window`` values, of fewer at the beginning."""
    sums = np.concatenate([[0.0], np.cumsum(values)])
    ends = np.arange(1, len(values) + 1)
    starts = np.maximum(0, ends - window)
    return (sums[ends] - sums[starts]) / (ends - starts)


class CliffPage(Page):
    """Two learners, one cliff."""

    controls = (
        learner_choice("sarsa", *OFFERED),
        Choice("other", "Against", "q_learning", {name: LEARNERS[name][1] for name in OFFERED}),
        *learner_sliders(0.5, 1.0, 0.1),
        Number("slip", "Slip", 0.0, 0.0, 1.0, 0.01),
        SEED,
        Number("runs", "Seeds averaged", 1, 1, 20, whole=True),
        steps_slider(5000, LARGEST),
        SPEED._replace(default=100),
    )

    def __init__(self) -> None:
        super().__init__()
        self.runs: dict[str, TabularRun] = {}
        self._returns: dict[str, np.ndarray] = {}

    def arguments(self) -> dict[str, Any]:
        """Arguments of both learners' classes, seed apart."""
        return {"learning_rate": self.settings["alpha"], "gamma": self.settings["gamma"]}

    def _train(self, anew: bool) -> None:
        """Train both to the step that is shown."""
        settings = self.settings
        for side in SIDES:
            name, steps = settings[side], settings[STEPS]
            if anew or side not in self.runs or self.runs[side].steps > steps:
                env = CliffWalkingEnv(slip=settings["slip"])
                self.runs[side] = TabularRun(
                    env, name, self.arguments(), settings["epsilon"], settings["seed"], window=LARGEST, graded=False
                )
            self.runs[side].train_to(steps)
            returns = [np.array(self.runs[side].episodes()[0])]
            returns += [self._returns_of(name, settings["seed"] + i) for i in range(1, int(settings["runs"]))]
            shortest = min(map(len, returns))
            self._returns[side] = moving_mean(np.mean([row[:shortest] for row in returns], axis=0))
        mdp = self.runs["learner"].mdp
        self._best = exact_optimum(mdp, settings["gamma"])
        self._soft = epsilon_soft_optimum(mdp, settings["epsilon"], settings["gamma"])

    def _returns_of(self, name: str, seed: int) -> np.ndarray:
        """The returns of another seed's episodes."""
        epsilon = self.settings["epsilon"]
        model = getattr(sb3_lecture, LEARNERS[name][0])(
            "TabularPolicy", TimeLimit(CliffWalkingEnv(slip=self.settings["slip"]), MAX_EPISODE_STEPS), seed=seed,
            exploration_fraction=0.0, exploration_initial_eps=epsilon, exploration_final_eps=epsilon,
            stats_window_size=LARGEST, **self.arguments(),
        )  # fmt: skip
        model.learn(self.settings[STEPS], log_interval=None)
        return np.array([episode["r"] for episode in model.ep_info_buffer or ()])

    def changed(self, names: frozenset[str]) -> None:
        """Train anew; go on where only steps were added."""
        if names - {"speed"}:
            self._train(anew=bool(names - {"speed", "runs", STEPS}))

    def advance(self, steps: int) -> None:
        """Train on."""
        self.settings[STEPS] = min(LARGEST, self.settings[STEPS] + steps)
        self._train(anew=False)
        self.playing = self.playing and self.settings[STEPS] < LARGEST

    def do_step(self) -> None:
        """One step of both."""
        self.playing = False
        self.advance(1)

    def do_episode(self) -> None:
        """To the end of the episode of the first learner."""
        self.playing = False
        self._train(anew=False)
        self.settings[STEPS] = self.runs["learner"].end_of_episode(LARGEST)
        self._train(anew=True)

    def do_reset(self) -> None:
        """Forget all."""
        self.playing = False
        self.settings[STEPS] = 0
        self._train(anew=True)

    # ---- the picture

    def picture(self) -> dict[str, Any]:
        """Both tables, ways and returns, beside the optimum and the best that a random action now and then allows."""
        if not self.runs:
            self._train(anew=True)
        run = self.runs["learner"]
        assert run.layout is not None
        mdp = run.mdp
        return {
            "problem": "", "code": self.code(), "grid": {"rows": run.layout.symbols, "cells": run.layout.cells},
            "sides": {side: self._side(self.runs[side], self._returns[side]) for side in SIDES},
            "best": {"value": start_value(mdp, self._best.v), "way": way(mdp, self._best.policy)},
            "soft": {"value": start_value(mdp, self._soft.v), "way": way(mdp, self._soft.policy)},
        }  # fmt: skip

    @staticmethod
    def _side(run: TabularRun, returns: np.ndarray) -> dict[str, Any]:
        table = run.model.q_table
        online = policy_evaluation(run.mdp, run.behaviour(table), run.gamma)
        return {
            "values": table.max(axis=1), "flat": table.max(axis=1) == table.min(axis=1), "greedy": run.greedy(),
            "way": way(run.mdp, run.greedy()), "regret": run.regret(), "online": start_value(run.mdp, online),
            "returns": returns, "state": run.state,
            "learned": {"transition": None if run.transition is None else run.transition._asdict()},
        }  # fmt: skip

    def code(self) -> dict[str, str]:
        """The command and the Python that do the same."""
        settings = self.settings
        arguments = self.arguments() | {
            "exploration_fraction": 0.0, "exploration_initial_eps": settings["epsilon"],
            "exploration_final_eps": settings["epsilon"],
        }  # fmt: skip
        words = ", ".join(f"{name}={value!r}" for name, value in arguments.items())
        names = [LEARNERS[settings[side]][0] for side in SIDES]
        python = (
            f"from gymnasium.wrappers import TimeLimit\n\nfrom sb3_lecture import {', '.join(sorted(set(names)))}\n"
            "from sb3_lecture_envs.cliff_walking import CliffWalkingEnv\n\nmodels = []\n"
            f"for algorithm in ({', '.join(names)}):\n"
            f"    env = TimeLimit(CliffWalkingEnv(slip={settings['slip']!r}), {MAX_EPISODE_STEPS})\n"
            f'    model = algorithm("TabularPolicy", env, seed={settings["seed"]}, {words})\n'
            f"    models.append(model.learn({settings[STEPS]}))\nprint([model.q_table for model in models])\n"
        )
        pairs = " ".join(f"{name}:{value!r}" for name, value in arguments.items())
        command = "\n".join(
            f"sb3-lecture train --algo {settings[side]} --env Lecture/CliffWalking-v0 --env-kwargs slip:{settings['slip']!r} "
            f"-n {max(1, settings[STEPS])} --seed {settings['seed']} --hyperparams {pairs}"
            for side in SIDES
        )
        return {"python": python, "command": command}


make = CliffPage
