"""Semi-gradient Q-learning (Watkins 1989; Sutton & Barto 2018, section 11.1): Q-learning on features.

w ← w + α [r + γ max_a' q̂(s', a') − q̂(s, a)] x(s) in the row of a. It bootstraps, it is off-policy and it approximates: the
deadly triad (section 11.3), so nothing promises that it converges, and Baird's counterexample shows that its likes diverge.
On MountainCar's tiles it learns as well as Sarsa does.
"""

import numpy as np

from sb3_lecture.linear import kernels
from sb3_lecture.linear.base import LinearControl
from sb3_lecture.linear.features import Active


class SemiGradientQ(LinearControl):
    """Semi-gradient Q-learning.

    :param policy: "LinearPolicy"
    :param env: the env, its id, or a VecEnv
    :param kwargs: the other arguments are those of :class:`LinearControl`
    """

    def _setup_model(self) -> None:
        super()._setup_model()
        self._no_ratio = np.ones(self.n_envs)  # [n]: one-step Q-learning needs no importance ratio

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_no_ratio"]

    def _update(
        self, x: Active, action: np.ndarray, reward: np.ndarray, discount: np.ndarray, done: np.ndarray, x2: Active,
        action2: np.ndarray,
    ) -> int:  # fmt: skip
        w = self.policy.weights.numpy()
        return kernels.one_step(w, *x, action, reward, discount, *x2, action2, True, self._alpha, self._no_ratio)
