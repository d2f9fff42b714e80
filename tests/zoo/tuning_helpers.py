"""Objectives and workers of the tuning tests; child processes import this module, so it imports no torch."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from gymnasium import Env
from gymnasium.envs.registration import register, registry
from gymnasium.spaces import Discrete
from optuna.trial import Trial

from sb3_lecture.zoo import tuning_study

#: what the server that forks the workers imports; it does not find this module, which lies on pytest's path only
PRELOAD = ["sb3_lecture.zoo.tuning_study", "gymnasium"]


def quadratic(trial: Trial) -> float:
    """Largest, 0, at x = 2."""
    return -((trial.suggest_float("x", -10.0, 10.0) - 2.0) ** 2)


def logarithm(trial: Trial) -> float:
    """NaN for negative x, an exception at x = 0, which number 3 gets."""
    x = 0.0 if trial.number == 3 else trial.suggest_float("x", -1.0, 1.0)
    return float("nan") if x < 0 else 1 / x


@dataclass(frozen=True)
class Logged:
    """A quadratic that notes which trial began, in which process, in one write."""

    path: str
    seconds: float = 0.0

    def __call__(self, trial: Trial) -> float:
        with open(self.path, "ab", buffering=0) as log:
            log.write(f"{trial.number} {os.getpid()}\n".encode())
        value = quadratic(trial)
        time.sleep(self.seconds)
        return value


@dataclass(frozen=True)
class Together(Logged):
    """The same, but no trial ends before two processes have begun one."""

    def __call__(self, trial: Trial) -> float:
        value = super().__call__(trial)
        while len({line.split()[1] for line in Path(self.path).read_text().splitlines()}) < 2:
            time.sleep(0.01)
        return value


@dataclass(frozen=True)
class Held:
    """A quadratic whose trials end only once a file is there."""

    path: str

    def __call__(self, trial: Trial) -> float:
        value = quadratic(trial)
        while not os.path.exists(self.path):
            time.sleep(0.01)
        return value


@dataclass(frozen=True)
class Family:
    """Notes which process runs it and who started that one, and never ends."""

    path: str

    def __call__(self, trial: Trial) -> float:
        with open(self.path, "ab", buffering=0) as log:
            log.write(f"{os.getpid()} {os.getppid()}\n".encode())
        while True:
            time.sleep(0.01)


def die(trial: Trial) -> float:
    """Kill the worker."""
    os._exit(9)


def work_elsewhere(job: tuning_study.Job) -> None:
    """A worker whose process number means nothing here, as if it ran on another machine."""
    tuning_study._machine = lambda: "elsewhere"
    tuning_study.work(job)


class BrokenEnv(Env):
    """Raises in its 20th step."""

    observation_space = Discrete(2)
    action_space = Discrete(2)
    steps = 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return 0, {}

    def step(self, action):
        self.steps += 1
        if self.steps == 20:
            raise ZeroDivisionError("the world ends in its 20th step")
        return int(np.int64(1)), 1.0, False, self.steps % 5 == 0, {}


if "Broken-v0" not in registry:
    register("Broken-v0", entry_point=BrokenEnv, max_episode_steps=50)
