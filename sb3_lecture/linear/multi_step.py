"""What reaches back in time: the window of n-step methods and the traces of λ, for Sarsa and for TD prediction alike."""

from typing import Any, NamedTuple

import numpy as np

from sb3_lecture.common.checks import Choice, Integer, Real, check_settings
from sb3_lecture.common.linear_updates import TRACES
from sb3_lecture.linear import kernels
from sb3_lecture.linear.base import LinearAlgorithm
from sb3_lecture.linear.features import Active


class Window(NamedTuple):
    """The transitions waiting for their n-step return, a ring an env."""

    entry: np.ndarray  # int64 [n_envs, n, k]
    value: np.ndarray  # float64 [n_envs, n, k]
    action: np.ndarray  # int64 [n_envs, n]
    reward: np.ndarray  # float64 [n_envs, n]
    rho: np.ndarray  # float64 [n_envs, n]
    first: np.ndarray  # int64 [n_envs], where the oldest one stands
    waiting: np.ndarray  # int64 [n_envs], how many wait


class Traces(NamedTuple):
    """Eligibility traces, and how far each env's last update moved the value of the state it stands in."""

    z: np.ndarray  # float64 [n_envs, m, d]
    moved: np.ndarray  # float64 [n_envs]


class MultiStep(LinearAlgorithm):
    """One step, n steps, or all of them weighed by λ; what the rows of w stand for is the subclass's.

    :param n_steps: rewards before the estimate takes over
    :param lambda_: λ of the traces; None: n-step returns
    :param traces: "accumulating", "replacing" or "true-online"
    """

    n_steps: int
    lambda_: float | None
    traces: str
    _memory: Any = None

    def _check_arguments(self) -> None:
        super()._check_arguments()
        check_settings(self, n_steps=Integer(1), lambda_=Real(0, 1, none=True), traces=Choice(*TRACES))
        if self.n_steps != 1 and self.lambda_ is not None:
            raise ValueError(f"n_steps={self.n_steps}, lambda_={self.lambda_}; n_steps is 1 where λ is given")

    def _setup_model(self) -> None:
        super()._setup_model()
        if self.lambda_ is not None and self.traces == "replacing" and not self.policy.x.binary:
            raise ValueError(
                "traces='replacing' sets active traces to 1 and needs features of 0 and 1: 'accumulating', 'true-online'"
            )

    def _setup_memory(self) -> None:
        n, (m, d) = self.n_envs, self.policy.weights.shape
        self._memory = None
        if self.lambda_ is not None:
            self._memory = Traces(np.zeros((n, m, d)), np.zeros(n))
        elif self.n_steps > 1:
            shape, k = (n, int(self.n_steps)), self.policy.x(self._last_obs).entry.shape[1]
            self._memory = Window(
                np.zeros((*shape, k), np.int64), np.zeros((*shape, k)), np.zeros(shape, np.int64), np.zeros(shape),
                np.ones(shape), np.zeros(n, np.int64), np.zeros(n, np.int64),
            )  # fmt: skip

    def _learn_steps(
        self, x: Active, action: np.ndarray, reward: np.ndarray, discount: np.ndarray, done: np.ndarray, x2: Active,
        action2: np.ndarray, rho: np.ndarray,
    ) -> int:  # fmt: skip
        """One step of whichever it is; ``action`` and ``action2`` name rows of w."""
        w, alpha, gamma = self.policy.weights.numpy(), self._alpha, float(self.gamma)
        if self.lambda_ is not None:
            return kernels.traces(
                w, *x, action, reward, discount, *x2, action2, done, alpha, rho, gamma * float(self.lambda_),
                TRACES[self.traces], *self._memory,
            )  # fmt: skip
        if self.n_steps > 1:
            return kernels.n_steps(w, *x, action, reward, discount, *x2, action2, done, alpha, rho, gamma, *self._memory)
        return kernels.one_step(w, *x, action, reward, discount, *x2, action2, False, alpha, rho)
