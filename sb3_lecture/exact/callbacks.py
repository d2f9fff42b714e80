"""ExactEvalCallback: any SB3 model graded exactly while it learns."""

from pathlib import Path
from typing import Any

import gymnasium as gym
from stable_baselines3.common.vec_env import VecEnv

from sb3_lecture.common.callbacks import PeriodicEvaluation

from .grade import ExactGrader, ExactResult, gamma_of


class ExactEvalCallback(PeriodicEvaluation):
    """Grade the policy exactly while it learns, as EvalCallback does by playing.

    Logs ``exact/value``, ``exact/optimal_value``, ``exact/regret`` and ``exact/optimal_actions``, at the start, every
    ``eval_freq`` env steps and at the end. ``last`` is the newest ``ExactResult``, ``evaluations`` all of them as rows of
    (timesteps, value, optimal value, regret, share of optimal actions).

    :param eval_freq: env steps between two evaluations, all envs together (default 1000)
    :param gamma: discount; None: the model's
    :param deterministic: whether the greedy policy is graded (default), or the distribution the model acts by
    :param eval_env: an env that states its law; None: the training env
    :param log_path: file that gets ``evaluations`` as an .npz with the arrays ``timesteps``, ``values``,
        ``optimal_values``, ``regrets``, ``optimal_actions``; None: none
    :param verbose: 1 prints each evaluation
    :raises ValueError: if ``eval_freq`` is less than 1; at the start of training for what ``ExactGrader`` refuses
    """

    NAMES = ("timesteps", "values", "optimal_values", "regrets", "optimal_actions")

    def __init__(
        self,
        eval_freq: int = 1000,
        gamma: float | None = None,
        deterministic: bool = True,
        eval_env: VecEnv | gym.Env | None = None,
        log_path: str | Path | None = None,
        verbose: int = 0,
    ) -> None:
        super().__init__(eval_freq, log_path, verbose)
        self.gamma, self.deterministic, self.eval_env = gamma, deterministic, eval_env
        self.last: ExactResult | None = None
        self.evaluations: list[tuple[int, float, float, float, float]] = []
        self._grader: ExactGrader | None = None

    def _prepare(self) -> None:
        env = self.training_env if self.eval_env is None else self.eval_env
        self._grader = ExactGrader(env, gamma_of(self.model, self.gamma))

    def _evaluate(self, timesteps: int) -> dict[str, Any]:
        assert self._grader is not None  # made when training starts
        result = self.last = self._grader.grade(self.model, self.deterministic)
        self.evaluations.append((timesteps, *result[:4]))
        for name, figure in zip(("value", "optimal_value", "regret", "optimal_actions"), result[:4], strict=True):
            self.logger.record(f"exact/{name}", figure)
        if self.verbose > 0:
            print(f"{timesteps} steps: exact value {result.value:.6g} of {result.optimal_value:.6g}")
        return dict(zip(self.NAMES, zip(*self.evaluations, strict=True), strict=True))
