"""Bandits: ε-greedy, UCB, preferences and Thompson sampling on the same levers, pull by pull, beside their worth."""

from typing import Any

import numpy as np

from sb3_lecture.lab.bandits import METHODS, Pulls, play, softmax
from sb3_lecture.lab.page import SPEED, STEPS, Choice, Number, Page
from sb3_lecture.lab.tabular_page import SEED

LARGEST = 1000
#: the setting that holds each method's parameter
PARAMETERS = {"epsilon": "epsilon", "ucb": "c", "gradient": "alpha", "thompson": "prior"}
POINTS = 120  # of a curve


class BanditsPage(Page):
    """One method pull by pull, and all four on average."""

    controls = (
        Choice("method", "Method shown", "epsilon", METHODS),
        Number("k", "Levers", 10, 2, 20, whole=True),
        Number("epsilon", "Random", 0.1, 0.0, 1.0, 0.01, symbol="ε"),
        Number("c", "UCB", 2.0, 0.0, 5.0, 0.1, symbol="c"),
        Number("alpha", "Gradient", 0.1, 0.01, 1.0, 0.01, symbol="α"),
        Number("prior", "Prior", 1.0, 0.1, 10.0, 0.1, symbol="σ²"),
        SEED,
        Number("tasks", "Tasks averaged", 50, 1, 500, whole=True),
        Number(STEPS, "Pulls", 200, 0, LARGEST, whole=True, log=True),
        SPEED._replace(default=10, high=1000, unit="pulls/s"),
    )

    def __init__(self) -> None:
        super().__init__()
        self._averages: dict[tuple[Any, ...], dict[str, np.ndarray]] = {}

    def _play(self, method: str, steps: int, tasks: int) -> Pulls:
        """Pulls of a method with its parameter."""
        settings = self.settings
        return play(method, settings["k"], steps, tasks, settings[PARAMETERS[method]], settings["seed"])

    def _average(self, method: str) -> dict[str, np.ndarray]:
        """Over the tasks, exactly for what was pulled: share of the best lever, and regret so far; [LARGEST].

        The first pulls of a long run are those of a short one, so that the time line costs nothing.
        """
        settings = self.settings
        key = (method, settings["k"], settings["tasks"], settings[PARAMETERS[method]], settings["seed"])
        if key not in self._averages:
            if len(self._averages) >= 4 * len(METHODS):
                self._averages.clear()
            made = self._play(method, LARGEST, settings["tasks"])
            rows = np.arange(len(made.worth))[:, None]
            pulled, best = made.worth[rows, made.actions], made.worth.max(axis=1)[:, None]
            self._averages[key] = {
                "optimal": (pulled == best).mean(axis=0),
                "regret": np.cumsum((best - pulled).mean(axis=0)),
            }
        return self._averages[key]

    # ---- playing

    def advance(self, steps: int) -> None:
        """Some pulls more."""
        self.settings[STEPS] = min(LARGEST, self.settings[STEPS] + steps)
        self.playing = self.playing and self.settings[STEPS] < LARGEST

    def do_step(self) -> None:
        """One pull."""
        self.playing = False
        self.advance(1)

    def do_episode(self) -> None:
        """A hundred pulls."""
        self.playing = False
        self.advance(100)

    def do_reset(self) -> None:
        """Forget all."""
        self.playing, self.settings[STEPS] = False, 0

    # ---- the picture

    def picture(self) -> dict[str, Any]:
        """The levers of the first task, the last pull, and how all methods do on average."""
        settings = self.settings
        method, t = settings["method"], settings[STEPS]
        made = self._play(method, t, 1)
        worth, counts, values = made.worth[0], made.counts[0], made.values[0]
        lost = worth.max() - worth
        averages = {name: self._average(name) for name in METHODS}
        steps = np.unique(np.round(np.geomspace(1, max(1, t), POINTS)).astype(int)) if t else np.zeros(0, int)
        return {
            "problem": "", "code": self.code(), "worth": worth, "counts": counts, "values": values,
            "bound": self._bound(method, values, counts, t), "last": self._last(made, method, t),
            "regret": float(counts @ lost), "optimal": float(counts[worth.argmax()] / max(1, t)),
            "curve": {"steps": steps, **{name: {key: row[steps - 1] for key, row in each.items()}
                                         for name, each in averages.items()}},
        }  # fmt: skip

    def _bound(self, method: str, values: np.ndarray, counts: np.ndarray, t: int) -> np.ndarray:
        """What the next choice looks at, beside the value: UCB's bound, the probability, or the posterior's deviation."""
        with np.errstate(divide="ignore", invalid="ignore"):
            if method == "ucb":
                bonus = self.settings["c"] * np.sqrt(np.log(max(1, t)) / counts)
                return np.where(counts > 0, values + bonus, np.inf)
        if method == "gradient":
            return softmax(values)
        if method == "thompson":
            return 1.0 / np.sqrt(counts + 1.0 / self.settings["prior"])
        greedy = values == values.max()
        return self.settings["epsilon"] / len(values) + (1.0 - self.settings["epsilon"]) * greedy / greedy.sum()

    def _last(self, made: Pulls, method: str, t: int) -> dict[str, Any] | None:
        """The last pull, and the numbers of its update."""
        if t == 0:
            return None
        action, reward = int(made.actions[0, -1]), float(made.rewards[0, -1])
        old, new, n = float(made.before[0, action]), float(made.values[0, action]), int(made.counts[0, action])
        last = {"action": action, "reward": reward, "old": old, "new": new, "n": n}
        if method == "gradient":
            baseline = float(made.rewards[0, :-1].mean()) if t > 1 else 0.0
            last |= {"baseline": baseline, "pi": float(softmax(made.before[0])[action]), "alpha": self.settings["alpha"]}
        return last | {"step": 1.0 / (n + 1.0 / self.settings["prior"]) if method == "thompson" else 1.0 / n}

    def code(self) -> dict[str, str]:
        """The command and the Python that do the same."""
        settings = self.settings
        method, steps, k = settings["method"], settings[STEPS], settings["k"]
        parameter = settings[PARAMETERS[method]]
        learner = {
            "epsilon": f'QLearning("TabularPolicy", env, learning_rate="1/N", exploration_fraction=0.0,\n'
            f"                  exploration_initial_eps={parameter!r}, exploration_final_eps={parameter!r})",
            "ucb": f'QLearning("TabularPolicy", env, learning_rate="1/N", exploration="ucb", ucb_c={parameter!r})',
            "gradient": f'GradientBandit("TabularPolicy", env, learning_rate={parameter!r})',
        }.get(method)
        python = (
            f"from sb3_lecture.lab.bandits import play\n\npulls = play({method!r}, k={k}, steps={steps}, tasks=1, parameter="
            f"{parameter!r}, seed={settings['seed']})\nprint(pulls.values[0], pulls.counts[0], pulls.worth[0])\n"
        )
        command = ""
        if learner is not None:
            name = learner.split("(")[0]
            python += (
                f"\n# the same rule by the project's learner, with levers and draws of its own\n"
                f"from sb3_lecture import {name}\n"
                f"from sb3_lecture_envs.bandit import BanditEnv\n\nenv = BanditEnv(k={k}, task={settings['seed']})\n"
                f"model = {learner}\nmodel.learn({max(1, steps)})\nprint(model.q_table)\n"
            )
            words = {
                "epsilon": f"exploration_fraction:0.0 exploration_initial_eps:{parameter!r} "
                f"exploration_final_eps:{parameter!r} \"learning_rate:'1/N'\"",
                "ucb": f"\"exploration:'ucb'\" ucb_c:{parameter!r} \"learning_rate:'1/N'\"",
                "gradient": f"learning_rate:{parameter!r}",
            }[method]
            algo = "gradient_bandit" if method == "gradient" else "q_learning"
            command = (
                f"sb3-lecture train --algo {algo} --env Lecture/Bandit-v0 --env-kwargs k:{k} task:{settings['seed']} "
                f"-n {max(1, steps)} --hyperparams {words}"
            )
        return {"python": python, "command": command}


make = BanditsPage
