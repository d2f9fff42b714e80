"""What callbacks of ours have in common: evaluations at the start, every so many steps and at the end, kept in a file.

And SB3's own callbacks that write files, writing them whole (see ``files``): a kill leaves the file before or the file after.
"""

import os
import shutil
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from stable_baselines3.common import callbacks as sb3
from stable_baselines3.common.callbacks import BaseCallback

from sb3_lecture.common.files import HOST, save_arrays, written


class PeriodicEvaluation(BaseCallback):
    """Evaluate at the start of training, every ``eval_freq`` env steps and at the end, and keep the figures in a file.

    Training that goes on between two evaluations waits for the next one.

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
        if not self._done <= self.model.num_timesteps < self._due:  # else it goes on from a checkpoint between two evaluations
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
        save_arrays(self.log_path, **columns)

    def _prepare(self) -> None:
        """Look at the env, once training starts."""
        raise NotImplementedError

    def _evaluate(self, timesteps: int) -> dict[str, Any]:
        """Evaluate the model, log the figures, and return those of all evaluations by name."""
        raise NotImplementedError


class WholeFiles:
    """For subclasses of SB3's EvalCallback: ``evaluations.npz`` and ``best_model.zip`` are written beside and renamed."""

    def steps_until_call(self: Any) -> int:
        """VecEnv steps until this callback acts; the tabular learners' compiled loop runs as far."""
        return self.eval_freq - self.n_calls % self.eval_freq if self.eval_freq > 0 else 2**62

    def _on_step(self: Any) -> bool:
        if self.eval_freq <= 0 or self.n_calls % self.eval_freq != 0:
            return super()._on_step()  # type: ignore[misc]
        log_path, best_path = self.log_path, self.best_model_save_path
        with ExitStack() as stack:
            stack.callback(setattr, self, "log_path", log_path)
            stack.callback(setattr, self, "best_model_save_path", best_path)
            if log_path is not None:
                place = written(f"{str(log_path).removesuffix('.npz')}.npz")
                setattr(self, "log_path", str(stack.enter_context(place)))  # noqa: B010
            if best_path is not None:
                beside = Path(best_path) / f".best.{HOST}-{os.getpid()}.tmp"
                beside.mkdir(parents=True, exist_ok=True)
                stack.callback(shutil.rmtree, beside, ignore_errors=True)
                setattr(self, "best_model_save_path", str(beside))  # noqa: B010
            goes_on = super()._on_step()  # type: ignore[misc]
            if best_path is not None and (beside / "best_model.zip").exists():
                with written(Path(best_path) / "best_model.zip") as best:
                    os.replace(beside / "best_model.zip", best)
        return goes_on


class EvalCallback(WholeFiles, sb3.EvalCallback):
    """SB3's EvalCallback, whose files are whole at any moment; its arguments."""


class CheckpointCallback(sb3.CheckpointCallback):
    """SB3's CheckpointCallback, whose files are whole at any moment; its arguments."""

    def steps_until_call(self) -> int:
        """VecEnv steps until this callback acts; the tabular learners' compiled loop runs as far."""
        return self.save_freq - self.n_calls % self.save_freq

    def _on_step(self) -> bool:
        if self.n_calls % self.save_freq != 0:
            return True
        with written(self._checkpoint_path(extension="zip")) as beside:
            self.model.save(beside)
        if self.save_replay_buffer and getattr(self.model, "replay_buffer", None) is not None:
            with written(self._checkpoint_path("replay_buffer_", extension="pkl")) as beside:
                self.model.save_replay_buffer(beside)  # type: ignore[attr-defined]
        statistics = self.model.get_vec_normalize_env()
        if self.save_vecnormalize and statistics is not None:
            with written(self._checkpoint_path("vecnormalize_", extension="pkl")) as beside:
                statistics.save(str(beside))
        if self.verbose >= 2:
            print(f"Saved a checkpoint: {self._checkpoint_path(extension='zip')}")
        return True
