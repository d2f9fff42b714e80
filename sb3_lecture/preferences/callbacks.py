"""TextEvalCallback: learners of text graded exactly while they learn."""

from pathlib import Path
from typing import Any

from sb3_lecture.common.callbacks import PeriodicEvaluation

__all__ = ["TextEvalCallback"]


class TextEvalCallback(PeriodicEvaluation):
    """Ask a learner for its ``exact_progress``, a value and its optimum, at the start, now and then, and at the end.

    Logs ``exact/value`` and ``exact/optimal_value``. ``evaluations`` are rows of (timesteps, value, optimal value).

    :param eval_freq: timesteps between two evaluations (default 1000)
    :param log_path: file that gets ``evaluations`` as an .npz with the arrays ``timesteps``, ``values``, ``optimal_values``
    :param verbose: 1 prints each evaluation
    """

    NAMES = ("timesteps", "values", "optimal_values")

    def __init__(self, eval_freq: int = 1000, log_path: str | Path | None = None, verbose: int = 0) -> None:
        super().__init__(eval_freq, log_path, verbose)
        self.evaluations: list[tuple[float, ...]] = []

    def _prepare(self) -> None:
        """Nothing: the learner knows its world."""

    def _evaluate(self, timesteps: int) -> dict[str, Any]:
        model: Any = self.model
        value, optimum = model.exact_progress()
        self.evaluations.append((timesteps, value, optimum))
        self.logger.record("exact/value", value)
        self.logger.record("exact/optimal_value", optimum)
        if self.verbose > 0:
            print(f"{timesteps} steps: {value:.6g} of {optimum:.6g}")
        return dict(zip(self.NAMES, zip(*self.evaluations, strict=True), strict=True))
