"""What callbacks of ours have in common: evaluations at the start, every so many steps and at the end, kept in a file."""

import os
from pathlib import Path
from typing import Any

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback


class PeriodicEvaluation(BaseCallback):
    """Evaluate at the start of training, every ``eval_freq`` env steps and at the end, and keep the figures in a file.

    A subclass fills ``_prepare`` and ``_evaluate``.

    :param eval_freq: env steps between two evaluations, all envs together
    :param log_path: file that gets all evaluations as an .npz, one array a figure; None: none
    :param verbose: 1 prints each evaluation
    :raises ValueError: if ``eval_freq`` is less than 1
    """

    def __init__(self, eval_freq: int, log_path: str | Path | None = None, verbose: int = 0) -> None:
        super().__init__(verbose)
        if eval_freq < 1:
            raise ValueError(f"eval_freq={eval_freq} env steps between evaluations; at least 1 is needed")
        self.eval_freq, self.log_path = eval_freq, None if log_path is None else Path(log_path)
        self._due, self._done = 0, -1  # timesteps at which the next evaluation is due, and of the last one

    def steps_until_call(self) -> int:
        """VecEnv steps until this callback acts; the tabular learners' compiled loop runs as far."""
        return max(1, -(-(self._due - self.num_timesteps) // self.training_env.num_envs))

    def _on_training_start(self) -> None:
        self._prepare()
        self._run()

    def _on_step(self) -> bool:
        if self.num_timesteps >= self._due:
            self._run()
        return True

    def _on_training_end(self) -> None:
        if self._done != self.model.num_timesteps:
            self._run()

    def _run(self) -> None:
        self._done = steps = self.model.num_timesteps
        self._due = steps - steps % self.eval_freq + self.eval_freq
        columns: Any = self._evaluate(steps)
        if self.log_path is None:
            return
        # write beside and rename: a killed run leaves the file before or the file after
        self.log_path.parent.mkdir(parents=True, exist_ok=True)
        beside = self.log_path.with_name(f".{self.log_path.name}.{os.getpid()}.npz")
        np.savez(beside, **columns)
        os.replace(beside, self.log_path)

    def _prepare(self) -> None:
        """Look at the env, once training starts."""
        raise NotImplementedError

    def _evaluate(self, timesteps: int) -> dict[str, Any]:
        """Evaluate the model, log the figures, and return those of all evaluations by name."""
        raise NotImplementedError
