"""Gradient TD (Sutton et al. 2009, https://doi.org/10.1145/1553374.1553501; Sutton & Barto 2018, section 11.7).

Semi-gradient TD follows no gradient, and off-policy it can diverge. GTD2 and TDC descend the projected Bellman error
‖v − Π B v‖² itself. Its gradient is a product of three expectations, two of which v estimates beforehand (v ≈ E[xxᵀ]⁻¹ E[ρδx],
a least-mean-squares rule of its own with step β), so the cost stays O(d):

- "gtd2": w ← w + α ρ (x − γx') xᵀv
- "tdc": w ← w + α ρ (δ x − γ x' xᵀv): TD with a correction (the book's GTD(0))
- both: v ← v + β ρ (δ − xᵀv) x

Both converge to the TD fixed point on- and off-policy where the steps fall with α/β → 0.
"""

from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.type_aliases import Schedule
from stable_baselines3.common.utils import FloatSchedule

from sb3_lecture.common.checks import Choice, check_settings
from sb3_lecture.linear import kernels
from sb3_lecture.linear.base import STEP_SIZE, LinearPrediction
from sb3_lecture.linear.features import Active


class GradientTD(LinearPrediction):
    """GTD2 and TDC.

    :param policy: "LinearPolicy"
    :param env: the env, its id, or a VecEnv
    :param variant: "tdc" (default) or "gtd2"
    :param secondary_learning_rate: step size β of v, or a schedule (default 0.0625)
    :param kwargs: the other arguments are those of :class:`LinearPrediction`
    :raises ValueError: if an argument is out of its range
    """

    def __init__(
        self,
        policy: Any = "LinearPolicy",
        env: Any = None,
        variant: str = "tdc",
        secondary_learning_rate: float | Schedule = 0.0625,
        **kwargs: Any,
    ) -> None:
        self.variant = variant
        self.secondary_learning_rate = secondary_learning_rate
        super().__init__(policy, env, **kwargs)

    def _check_arguments(self) -> None:
        super()._check_arguments()
        check_settings(self, variant=Choice("tdc", "gtd2"), secondary_learning_rate=STEP_SIZE)

    def _setup_model(self) -> None:
        super()._setup_model()
        self._beta_schedule = FloatSchedule(self.secondary_learning_rate)
        self.policy.register_buffer("secondary", th.zeros_like(self.policy.weights))  # v, float64 [1, d]

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_beta_schedule"]

    def _before_step(self, progress_remaining: float) -> None:
        super()._before_step(progress_remaining)
        self._beta = float(self._beta_schedule(progress_remaining))

    def _update(
        self, x: Active, action: np.ndarray, reward: np.ndarray, discount: np.ndarray, done: np.ndarray, x2: Active,
        action2: np.ndarray,
    ) -> int:  # fmt: skip
        w, v = self.policy.weights.numpy(), self.policy.secondary.numpy()  # type: ignore[operator]
        return kernels.gradient(w, v, *x, reward, discount, *x2, self._alpha, self._beta, self._rho, self.variant == "tdc")
