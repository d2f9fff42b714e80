"""What the pages about tables share: the learner's sliders, and training to a number of steps whenever one of them moves."""

from collections.abc import Mapping, Sequence
from typing import Any

from sb3_lecture.lab.page import STEPS, Choice, Control, Number, Page, Refused
from sb3_lecture.lab.tabular_run import LEARNERS, WITH_TRACES, TabularRun
from sb3_lecture_envs.tabular_env import TabularEnv

SEED = Number("seed", "Seed", 0, 0, 9999, whole=True)


def learner_choice(default: str, *names: str) -> Choice:
    """A choice among some of ``LEARNERS``."""
    return Choice("learner", "Algorithm", default, {name: LEARNERS[name][1] for name in names})


def learner_sliders(alpha: float, gamma: float, epsilon: float) -> tuple[Number, ...]:
    """Step size, discount, exploration."""
    return (
        Number("alpha", "Step size", alpha, 0.01, 1.0, 0.01, symbol="α"),
        Number("gamma", "Discount", gamma, 0.0, 1.0, 0.01, symbol="γ"),
        Number("epsilon", "Random actions", epsilon, 0.0, 1.0, 0.01, symbol="ε"),
    )


def steps_slider(default: int, largest: int) -> Number:
    """The time line of a run."""
    return Number(STEPS, "Steps trained", default, 0, largest, unit="steps", log=True, whole=True)


class TabularPage(Page):
    """A page on which a table is learned; subclasses state the world and add to the picture."""

    controls: Sequence[Control] = ()
    window = 100  # episodes that are remembered

    def __init__(self) -> None:
        super().__init__()
        self.run: TabularRun | None = None
        self.problem = ""  # why there is no run

    # ---- what a page states

    def make_env(self) -> TabularEnv:
        """The world of the settings.

        :raises ValueError: if there is none; the message goes to the page
        """
        raise NotImplementedError

    def env_snippet(self) -> tuple[str, str, list[str]]:
        """How to make the same world: Python's imports, its expression, and the words for ``sb3-lecture train`` (or none)."""
        raise NotImplementedError

    # ---- training

    def arguments(self) -> dict[str, Any]:
        """Arguments of the learner's class, seed and exploration apart."""
        settings = self.settings
        arguments = {"learning_rate": settings["alpha"], "gamma": settings["gamma"]}
        if "initial_value" in settings:
            arguments["initial_value"] = settings["initial_value"]
        if settings["learner"] in WITH_TRACES:
            arguments["lambda_"] = settings["lambda_"]
        return arguments

    def changed(self, names: frozenset[str]) -> None:
        """Train anew where anything but the pace has changed; go on where only steps were added."""
        names -= {"speed"}
        if names:
            if names != {STEPS} or self.run is None or self.settings[STEPS] < self.run.steps:
                self.run = None
            self.train()

    def train(self) -> None:
        """Make the run that the settings describe."""
        settings = self.settings
        try:
            if self.run is None:
                env, learner = self.make_env(), settings["learner"]
                self.run = TabularRun(env, learner, self.arguments(), settings["epsilon"], settings["seed"], self.window)
            self.run.train_to(settings[STEPS])
            self.problem = ""
        except ValueError as error:  # a map without an end, an optimum without a bound: the page says so, and stays
            self.run, self.problem, self.playing = None, str(error), False

    def _largest(self) -> int:
        control = next(control for control in self.controls if control.name == STEPS)
        return int(control.high)  # type: ignore[union-attr]

    def advance(self, steps: int) -> None:
        """Train on."""
        self.settings[STEPS] = min(self._largest(), self.settings[STEPS] + steps)
        self.train()
        self.playing = self.playing and self.settings[STEPS] < self._largest()

    def do_step(self) -> None:
        """One step."""
        self.playing = False
        self.advance(1)

    def do_episode(self) -> None:
        """To the end of the episode."""
        self.playing = False
        self.train()
        if self.run is None:
            raise Refused(self.problem)
        self.settings[STEPS] = self.run.end_of_episode(self._largest())
        self.run = None  # trained anew, so that the last transition is seen
        self.train()

    def do_reset(self) -> None:
        """Forget what was learned."""
        self.playing = False
        self.settings[STEPS], self.run = 0, None
        self.train()

    # ---- the picture

    def picture(self) -> dict[str, Any]:
        """The table, what is known exactly, the last transition, and how to do the same without the lab."""
        if self.run is None and not self.problem:
            self.train()
        run = self.run
        drawn: dict[str, Any] = {"problem": self.problem, "code": self.code(), "learned": None}
        if run is None:
            return drawn
        returns, lengths = run.episodes()
        q, best = run.model.q_table, run.optimum
        drawn["learned"] = {
            "q": q, "greedy": run.greedy(), "visits": run.visits(), "traces": run.traces(),
            "optimal_q": best.q, "optimal_v": best.v, "good": run.good_actions(),
            "regret": run.regret(), "curve": dict(zip(("steps", "regret"), run.curve_points(), strict=True)),
            "transition": None if run.transition is None else run.transition._asdict(),
            "returns": returns, "lengths": lengths, "state": run.state, "episodes": int(run.model._episode_num),
        }  # fmt: skip
        return drawn

    def code(self) -> dict[str, str]:
        """The command and the Python that do the same."""
        settings = self.settings
        imports, make, words = self.env_snippet()
        arguments = self.arguments() | {
            "exploration_fraction": 0.0, "exploration_initial_eps": settings["epsilon"],
            "exploration_final_eps": settings["epsilon"],
        }  # fmt: skip
        name = LEARNERS[settings["learner"]][0]
        python = (
            f"from gymnasium.wrappers import TimeLimit\n\nfrom sb3_lecture import {name}\n{imports}\n\n"
            f"env = TimeLimit({make}, 200)\n"
            f'model = {name}("TabularPolicy", env, seed={settings["seed"]}, {_keywords(arguments)})\n'
            f"model.learn({settings[STEPS]})\nprint(model.q_table)\n"
        )
        command = ""
        if words:
            pairs = " ".join(f"{key}:{value!r}" for key, value in arguments.items())
            command = (
                f"sb3-lecture train --algo {settings['learner']} {' '.join(words)} -n {max(1, settings[STEPS])} "
                f"--seed {settings['seed']} --hyperparams {pairs}"
            )
        return {"python": python, "command": command}


def _keywords(arguments: Mapping[str, Any]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in arguments.items())
