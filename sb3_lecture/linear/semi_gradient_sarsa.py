"""Semi-gradient Sarsa (Sutton & Barto 2018, sections 10.1, 10.2 and 12.7): Sarsa on features.

- one step: w ← w + α [r + γ q̂(s', a') − q̂(s, a)] ∇q̂(s, a), and ∇q̂ = x(s) in the row of a (eq. 10.2)
- ``n_steps``: n real rewards before the estimate (eq. 10.3, 10.4)
- ``lambda_``: Sarsa(λ) by traces; ``traces="true-online"`` is true online Sarsa(λ) (van Seijen et al. 2016; section 12.7),
  exactly the online λ-return algorithm at the cost of a trace

Deviations: w has a row of weights an action, which for tiles is what the book's action coordinate does. At a time limit the
return ends in an estimate. With several envs each has its own trace, and "true online" holds for what it changed itself.
"""

from typing import Any

import numpy as np

from sb3_lecture.linear.base import LinearControl
from sb3_lecture.linear.features import Active
from sb3_lecture.linear.multi_step import MultiStep


class SemiGradientSarsa(MultiStep, LinearControl):
    """Semi-gradient Sarsa: one-step, n-step, Sarsa(λ), true online Sarsa(λ).

    :param policy: "LinearPolicy"
    :param env: the env, its id, or a VecEnv
    :param n_steps: n, rewards before the estimate (default 1)
    :param lambda_: λ of Sarsa(λ) in [0, 1]; None: n-step Sarsa (default None)
    :param traces: "accumulating", "replacing" (binary features only) or "true-online" (default)
    :param kwargs: the other arguments are those of :class:`LinearControl`
    :raises ValueError: if arguments are out of range or contradict each other
    """

    _committed = True

    def __init__(
        self,
        policy: Any = "LinearPolicy",
        env: Any = None,
        n_steps: int = 1,
        lambda_: float | None = None,
        traces: str = "true-online",
        **kwargs: Any,
    ) -> None:
        self.n_steps = n_steps
        self.lambda_ = lambda_
        self.traces = traces
        super().__init__(policy, env, **kwargs)

    def _setup_model(self) -> None:
        super()._setup_model()
        self._on_policy = np.ones(self.n_envs)  # [n], importance ratios

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_on_policy"]

    def _update(
        self, x: Active, action: np.ndarray, reward: np.ndarray, discount: np.ndarray, done: np.ndarray, x2: Active,
        action2: np.ndarray,
    ) -> int:  # fmt: skip
        return self._learn_steps(x, action, reward, discount, done, x2, action2, self._on_policy)
