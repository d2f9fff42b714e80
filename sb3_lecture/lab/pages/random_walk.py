"""The random walk: TD(0), TD(λ) and Monte Carlo guess the same walk, episode by episode, beside the exact values."""

from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback, CallbackList, StopTrainingOnMaxEpisodes

import sb3_lecture
from sb3_lecture.common.wrappers import TimeLimit
from sb3_lecture.exact.chain import policy_evaluation
from sb3_lecture.lab.page import SPEED, STEPS, Choice, Number, Page
from sb3_lecture.lab.tabular_page import SEED
from sb3_lecture_envs.random_walk import RandomWalkEnv

METHODS = {"td": "TD(0)", "td_lambda": "TD(λ)", "mc": "Monte Carlo"}
LARGEST = 200  # episodes
MAX_EPISODE_STEPS = 10_000
FOREVER = 2**40


class _Tables(BaseCallback):
    """Keeps the values after every episode; beside a callback that stops at episodes, it is called at their ends alone."""

    def __init__(self, kept: list[np.ndarray], ends: list[tuple[float, int, int]]) -> None:
        super().__init__()
        self.kept, self.ends = kept, ends

    def steps_until_call(self) -> int:
        """Never for its own sake."""
        return FOREVER

    def _on_step(self) -> bool:
        if self.locals["dones"][0]:
            self.kept.append(self.model.v_table.copy())  # type: ignore[attr-defined]
            end = int(self.locals["infos"][0]["terminal_observation"])
            self.ends.append((float(self.locals["rewards"][0]), end, self.model.num_timesteps))
        return True


class Walked:
    """A method on one seed, with its values after each episode.

    :param method: a key of ``METHODS``
    :param n: cells between the ends
    :param arguments: of the learner's class
    :param seed: of the walk
    """

    def __init__(self, method: str, n: int, arguments: dict[str, Any], seed: int) -> None:
        name = "MonteCarloPrediction" if method == "mc" else "TDPrediction"
        env = TimeLimit(RandomWalkEnv(n, left_reward=0.0), MAX_EPISODE_STEPS)
        self.model = getattr(sb3_lecture, name)("TabularPolicy", env, seed=seed, **arguments)
        self.tables, self.ends = [self.model.v_table.copy()], [(0.0, -1, 0)]

    def to(self, episodes: int) -> np.ndarray:
        """The values after 0 … ``episodes`` episodes, float64 [episodes + 1, n + 2]."""
        missing = episodes + 1 - len(self.tables)
        if missing > 0:
            callback = CallbackList([StopTrainingOnMaxEpisodes(missing), _Tables(self.tables, self.ends)])
            self.model.learn(FOREVER, callback=callback, log_interval=None, reset_num_timesteps=False)
        return np.array(self.tables[: episodes + 1])


class RandomWalkPage(Page):
    """One walk, three guesses, and the straight line that is true."""

    controls = (
        Choice("method", "Update shown", "td", METHODS),
        Number("n", "Cells", 5, 1, 19, 2, whole=True),
        Number("alpha", "TD", 0.1, 0.01, 1.0, 0.01, symbol="α"),
        Number("lambda_", "Trace decay", 0.8, 0.0, 1.0, 0.01, symbol="λ"),
        Number("alpha_mc", "Monte Carlo", 0.03, 0.01, 1.0, 0.01, symbol="α"),
        Number("initial_value", "First guess", 0.5, 0.0, 1.0, 0.05),
        SEED,
        Number("runs", "Walks averaged", 1, 1, 20, whole=True),
        Number(STEPS, "Episodes", 50, 0, LARGEST, whole=True),
        SPEED._replace(default=5, high=100, unit="episodes/s"),
    )

    def __init__(self) -> None:
        super().__init__()
        self._walked: dict[tuple[Any, ...], Walked] = {}
        self._true: dict[int, np.ndarray] = {}

    def arguments(self, method: str) -> dict[str, Any]:
        """Arguments of a method's class, seed apart."""
        settings = self.settings
        shared = {"gamma": 1.0, "initial_value": settings["initial_value"]}
        if method == "mc":
            return {"learning_rate": settings["alpha_mc"], **shared}
        return {"learning_rate": settings["alpha"], **shared} | (
            {"lambda_": settings["lambda_"]} if method == "td_lambda" else {}
        )

    def walk(self, method: str, run: int) -> Walked:
        """A method on the walk of a seed."""
        settings = self.settings
        arguments = self.arguments(method)
        key = (method, settings["n"], settings["seed"] + run, *arguments.values())
        if key not in self._walked:
            if len(self._walked) > 200:
                self._walked.clear()
            self._walked[key] = Walked(method, settings["n"], arguments, settings["seed"] + run)
        return self._walked[key]

    def true(self) -> np.ndarray:
        """The exact values, float64 [n + 2]; those of the ends are 0."""
        n = self.settings["n"]
        if n not in self._true:
            mdp = RandomWalkEnv(n, left_reward=0.0).mdp
            self._true[n] = policy_evaluation(mdp, np.full((mdp.n_states, 2), 0.5), 1.0)
        return self._true[n]

    # ---- playing

    def advance(self, steps: int) -> None:
        """Some episodes more."""
        self.settings[STEPS] = min(LARGEST, self.settings[STEPS] + steps)
        self.playing = self.playing and self.settings[STEPS] < LARGEST

    def do_step(self) -> None:
        """One episode."""
        self.playing = False
        self.advance(1)

    def do_episode(self) -> None:
        """Ten episodes."""
        self.playing = False
        self.advance(10)

    def do_reset(self) -> None:
        """Forget all."""
        self.playing, self.settings[STEPS] = False, 0

    # ---- the picture

    def picture(self) -> dict[str, Any]:
        """The guesses beside the truth, the error over the episodes, and the last update."""
        settings, true = self.settings, self.true()
        inner = slice(1, settings["n"] + 1)
        values, errors = {}, {}
        for method in METHODS:
            tables = [self.walk(method, run).to(settings[STEPS]) for run in range(int(settings["runs"]))]  # [episodes + 1, S]
            values[method] = tables[0][-1][inner]
            errors[method] = np.mean([np.sqrt(((table - true)[:, inner] ** 2).mean(axis=1)) for table in tables], axis=0)
        return {
            "problem": "", "code": self.code(), "true": true[inner], "values": values, "errors": errors,
            "last": self._last(settings["method"]),
        }  # fmt: skip

    def _last(self, method: str) -> dict[str, Any] | None:
        """The numbers of the last episode's last update: of the state before the end (TD), of the start (Monte Carlo)."""
        episodes, n = self.settings[STEPS], int(self.settings["n"])
        if episodes == 0:
            return None
        walked, alpha = self.walk(method, 0), self.arguments(method)["learning_rate"]
        reward, end, _ = walked.ends[episodes]
        state = (n + 1) // 2 if method == "mc" else (1 if end == 0 else n)
        new = float(walked.tables[episodes][state])
        if method == "mc":  # first visits: one update an episode, towards the return, which is the last reward
            old = float(walked.tables[episodes - 1][state])
        else:  # undone: V ← V + α (r − V), nothing follows the end; a trace counts this visit and what is left of earlier ones
            old = (new - alpha * reward) / (1 - alpha) if alpha < 1 else float("nan")
        exact = method != "td_lambda"
        return {"state": state, "reward": reward, "new": new, "old": old if exact else None, "alpha": alpha,
                "right": end != 0, "exact": exact}  # fmt: skip

    def code(self) -> dict[str, str]:
        """The command and the Python that do the same."""
        settings, method = self.settings, self.settings["method"]
        arguments = self.arguments(method)
        name = "MonteCarloPrediction" if method == "mc" else "TDPrediction"
        words = ", ".join(f"{key}={value!r}" for key, value in arguments.items())
        python = (
            "from stable_baselines3.common.callbacks import StopTrainingOnMaxEpisodes\n"
            f"from gymnasium.wrappers import TimeLimit\n\nfrom sb3_lecture import {name}\n"
            "from sb3_lecture_envs.random_walk import RandomWalkEnv\n\n"
            f"env = TimeLimit(RandomWalkEnv({settings['n']}, left_reward=0.0), {MAX_EPISODE_STEPS})\n"
            f'model = {name}("TabularPolicy", env, seed={settings["seed"]}, {words})\n'
            f"model.learn(10**9, callback=StopTrainingOnMaxEpisodes({settings[STEPS]}))\nprint(model.v_table)\n"
        )
        walked = self.walk(method, 0)
        walked.to(settings[STEPS])
        steps = walked.ends[settings[STEPS]][2]
        pairs = " ".join(f"{key}:{value!r}" for key, value in arguments.items())
        algo = "monte_carlo_prediction" if method == "mc" else "td_prediction"
        command = (
            f"sb3-lecture train --algo {algo} --env Lecture/RandomWalk-v0 --env-kwargs n:{settings['n']} left_reward:0.0 "
            f"-n {max(1, steps)} --seed {settings['seed']} --hyperparams {pairs}"
        )
        return {"python": python, "command": command}


make = RandomWalkPage
