"""IQN: the return's quantile function itself as the network (Dabney et al. 2018, https://arxiv.org/abs/1806.06923).

Asked for a fraction τ, the network answers Z_τ(s, a), the number below which the return of (s, a) falls with probability τ:

    Z_τ(s, a) = f(ψ(s) ⊙ φ(τ))_a,   φ_j(τ) = ReLU(Σ_i cos(π i τ) w_ij + b_j)                      eq. (4)
    δ_ij = r + γ Z_τ'_j(s', a*; w⁻) − Z_τ_i(s, a; w),   τ_i, τ'_j ~ U(0, 1)                        eq. (2)
    loss = Σ_i mean_j |τ_i − 1{δ_ij < 0}| L_κ(δ_ij) / κ                                            eq. (3)

Acting takes the mean over ``n_quantiles`` fractions, a* too. The paper draws these (K = 32); here they are evenly spread, a
quadrature without noise, so that evaluation is one policy. ψ are the hidden layers but the last, f the last one and the
outputs. The loss is ``DeepQLearning.quantile_losses``; all other switches are that class's.
"""

from typing import Any

from stable_baselines3.common.type_aliases import GymEnv, Schedule

from sb3_lecture.common.checks import Integer, check_arguments
from sb3_lecture.value_based.deep_q_learning import DeepQLearning
from sb3_lecture.value_based.networks import ValuePolicy

__all__ = ["IQN"]


class IQN(DeepQLearning):
    """Implicit quantile networks.

    :param policy: "MlpPolicy", "CnnPolicy", "MultiInputPolicy" or a policy class
    :param env: environment with Discrete actions, or its id; None only when loading
    :param learning_rate: step size of Adam, or a schedule of the remaining progress (default 5e-5)
    :param n_tau: fractions drawn for the estimates, N (default 64)
    :param n_tau_prime: and for the targets, N' (default 64)
    :param n_quantiles: fractions that acting takes the mean over, K (default 32)
    :param n_cosines: n of the embedding (default 64)
    :param kwargs: the other arguments of ``DeepQLearning``, but for ``distribution``
    :raises ValueError: a number out of range
    """

    def __init__(
        self,
        policy: str | type[ValuePolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 5e-5,
        n_tau: int = 64,
        n_tau_prime: int = 64,
        n_quantiles: int = 32,
        n_cosines: int = 64,
        **kwargs: Any,
    ) -> None:
        check_arguments(locals(), n_quantiles=Integer(1, 10_000), n_cosines=Integer(1, 10_000))
        self.n_quantiles, self.n_cosines = n_quantiles, n_cosines
        super().__init__(
            policy, env, learning_rate, distribution="implicit-quantile", n_tau=n_tau, n_tau_prime=n_tau_prime, **kwargs
        )

    def _policy_defaults(self) -> dict[str, Any]:
        return super()._policy_defaults() | {"n_quantiles": self.n_quantiles, "n_cosines": self.n_cosines}
