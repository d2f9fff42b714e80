"""Semi-gradient TD prediction (Sutton & Barto 2018, sections 9.3, 11.1, 12.2 and 12.5): TD on features.

- TD(0): w ← w + α ρ [r + γ wᵀx' − wᵀx] x (eq. 9.7, 11.2), n-step with the product of the ratios (eq. 11.5 of its kind)
- TD(λ): z ← ρ (γλ z + x), w ← w + α δ z (eq. 12.5, 12.7, 12.25); true online TD(λ) by dutch traces (section 12.5)

On-policy TD(0) tends to the TD fixed point w_TD = A⁻¹ b with A = E[x (x − γx')ᵀ], b = E[r x] (eq. 9.11, 9.12), whose error is
at most 1/(1 − γ) of the least one (eq. 9.14). Off-policy A may have eigenvalues of negative real part, and w diverges.

Deviation: importance ratios of true online TD(λ) are not offered: its form differs (van Hasselt et al. 2014).
"""

from typing import Any

import numpy as np

from sb3_lecture.linear.base import LinearPrediction
from sb3_lecture.linear.features import Active
from sb3_lecture.linear.multi_step import MultiStep


class SemiGradientTD(MultiStep, LinearPrediction):
    """Semi-gradient TD: TD(0), n-step TD, TD(λ), true online TD(λ); on-policy or off-policy.

    :param policy: "LinearPolicy"
    :param env: the env, its id, or a VecEnv
    :param n_steps: n, rewards before the estimate (default 1, TD(0))
    :param lambda_: λ of TD(λ) in [0, 1]; None: n-step TD (default None)
    :param traces: "accumulating" (default), "replacing" (binary features only) or "true-online"; the latter two on-policy
    :param kwargs: the other arguments are those of :class:`LinearPrediction`
    :raises ValueError: if arguments are out of range or contradict each other
    """

    def __init__(
        self,
        policy: Any = "LinearPolicy",
        env: Any = None,
        n_steps: int = 1,
        lambda_: float | None = None,
        traces: str = "accumulating",
        **kwargs: Any,
    ) -> None:
        self.n_steps = n_steps
        self.lambda_ = lambda_
        self.traces = traces
        super().__init__(policy, env, **kwargs)

    def _check_arguments(self) -> None:
        super()._check_arguments()
        if self.behavior_policy is not None and self.lambda_ is not None and self.traces != "accumulating":
            raise ValueError(f"traces={self.traces!r} are on-policy: with a behavior_policy take 'accumulating'")

    def _update(
        self, x: Active, action: np.ndarray, reward: np.ndarray, discount: np.ndarray, done: np.ndarray, x2: Active,
        action2: np.ndarray,
    ) -> int:  # fmt: skip
        row = np.zeros_like(action)  # w has one row
        return self._learn_steps(x, row, reward, discount, done, x2, row, self._rho)
