"""ExactEvalCallback: any SB3 model graded exactly while it learns."""

from pathlib import Path
from typing import Any

import gymnasium as gym
from stable_baselines3.common.vec_env import VecEnv

from sb3_lecture.common.callbacks import PeriodicEvaluation

from .grade import ExactGrader, ExactPrediction, ExactResult, gamma_of, predicts_values


class ExactEvalCallback(PeriodicEvaluation):
    """Grade the policy exactly while it learns, as EvalCallback does by playing.

    Logs ``exact/value``, ``exact/optimal_value``, ``exact/regret`` and ``exact/optimal_actions``, at the start, every
    ``eval_freq`` env steps and at the end. ``last`` is the newest ``ExactResult``, ``evaluations`` all of them as rows of
    (timesteps, value, optimal value, regret, share of optimal actions).

    Of models with a ``q_net`` (DQN and its kin) it also logs ``exact/q_error``, by how much they overestimate their own
    policy: the mean of Q − q_π over the states that the greedy policy meets (``last_q_error``).

    A prediction method's values are graded instead: ``exact/rms_error`` and ``exact/largest_error``; rows of (timesteps, RMS
    error, largest error), and the arrays ``timesteps``, ``rms_errors``, ``largest_errors`` in the file.

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
    PREDICTION_NAMES = ("timesteps", "rms_errors", "largest_errors")

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
        self.last: ExactResult | ExactPrediction | None = None
        self.last_q_error: float | None = None
        self.evaluations: list[tuple[float, ...]] = []
        self._grader: ExactGrader | None = None

    def _prepare(self) -> None:
        env = self.training_env if self.eval_env is None else self.eval_env
        self._grader = ExactGrader(env, gamma_of(self.model, self.gamma))

    def _evaluate(self, timesteps: int) -> dict[str, Any]:
        assert self._grader is not None  # made when training starts
        if predicts_values(self.model):
            return self._evaluate_prediction(self._grader.grade_prediction(self.model), timesteps)
        result = self.last = self._grader.grade(self.model, self.deterministic)
        self.evaluations.append((timesteps, *result[:4]))
        for name, figure in zip(("value", "optimal_value", "regret", "optimal_actions"), result[:4], strict=True):
            self.logger.record(f"exact/{name}", figure)
        if hasattr(self.model, "q_net"):
            self.last_q_error = self._grader.q_error(self.model, result)
            self.logger.record("exact/q_error", self.last_q_error)
        if self.verbose > 0:
            print(f"{timesteps} steps: exact value {result.value:.6g} of {result.optimal_value:.6g}")
        return dict(zip(self.NAMES, zip(*self.evaluations, strict=True), strict=True))

    def _evaluate_prediction(self, result: ExactPrediction, timesteps: int) -> dict[str, Any]:
        self.last = result
        self.evaluations.append((timesteps, *result[:2]))
        for name, figure in zip(("rms_error", "largest_error"), result[:2], strict=True):
            self.logger.record(f"exact/{name}", figure)
        if self.verbose > 0:
            print(f"{timesteps} steps: RMS error of the values {result.rms_error:.6g}")
        return dict(zip(self.PREDICTION_NAMES, zip(*self.evaluations, strict=True), strict=True))
