"""Least-squares TD (Bradtke & Barto 1996, https://doi.org/10.1007/BF00114723; Sutton & Barto 2018, section 9.8).

TD(0) walks to w = A⁻¹ b, A = E[x (x − γx')ᵀ], b = E[r x]. LSTD adds up Â and b̂ (eq. 9.20) and solves (eq. 9.21), each
transition used in full and no step size to choose; Â starts as ``ridge`` · I so that it can be inverted. Its inverse is kept
up to date by Sherman and Morrison's formula (eq. 9.22): O(d²) time and memory a step, so d should stay below some thousands.

``lambda_`` > 0 is LSTD(λ) (Boyan 2002): a trace z in the place of x. Off-policy z carries the ratios, z ← ρ (γλ z + x).
"""

from typing import Any

import numpy as np
import torch as th

from sb3_lecture.common.checks import Real, check_settings
from sb3_lecture.linear import kernels
from sb3_lecture.linear.base import LinearPrediction
from sb3_lecture.linear.features import Active

MAX_FEATURES = 10_000  # d² numbers are 800 MB there


class LSTD(LinearPrediction):
    """Least-squares TD(λ).

    :param policy: "LinearPolicy"
    :param env: the env, its id, or a VecEnv
    :param lambda_: λ in [0, 1] (default 0.0)
    :param ridge: ε > 0, what Â starts with on its diagonal (default 0.001)
    :param kwargs: the other arguments are those of :class:`LinearPrediction`; ``learning_rate`` has no effect
    :raises ValueError: if an argument is out of its range, or there are more than 10,000 features
    """

    def __init__(
        self, policy: Any = "LinearPolicy", env: Any = None, lambda_: float = 0.0, ridge: float = 1e-3, **kwargs: Any
    ) -> None:
        self.lambda_ = lambda_
        self.ridge = ridge
        super().__init__(policy, env, **kwargs)

    def _check_arguments(self) -> None:
        super()._check_arguments()
        check_settings(self, lambda_=Real(0, 1), ridge=Real(above=0))

    def _setup_model(self) -> None:
        super()._setup_model()
        d = self.policy.x.size
        if d > MAX_FEATURES:
            raise ValueError(
                f"{d} features make a matrix of {d}²; LSTD takes at most {MAX_FEATURES}: fewer tiles, or a memory_size"
            )
        self.policy.register_buffer("inverse", th.eye(d, dtype=th.float64) / float(self.ridge))  # Â⁻¹ [d, d]
        self.policy.register_buffer("b", th.zeros(d, dtype=th.float64))  # b̂ [d]
        self._scratch = np.empty((2, d))

    def _setup_memory(self) -> None:
        self._memory = np.zeros((self.n_envs, self.policy.x.size))  # z, a trace an env

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_scratch"]

    def _update(
        self, x: Active, action: np.ndarray, reward: np.ndarray, discount: np.ndarray, done: np.ndarray, x2: Active,
        action2: np.ndarray,
    ) -> int:  # fmt: skip
        inverse, b = self.policy.inverse.numpy(), self.policy.b.numpy()  # type: ignore[operator]
        fading = float(self.gamma) * float(self.lambda_)
        return kernels.solve(
            self.policy.weights.numpy(), inverse, b, *x, reward, discount, *x2, done, self._rho, fading, self._memory,
            *self._scratch,
        )  # fmt: skip
