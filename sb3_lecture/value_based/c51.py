"""C51: the law of the return on fifty-one atoms (Bellemare et al. 2017, https://arxiv.org/abs/1707.06887).

A network gives, for every action, the probabilities p_i(s, a) of atoms z_1 < … < z_m. Acting takes their mean,
Q(s, a) = Σ_i z_i p_i(s, a); learning takes the whole law (algorithm 1):

    T̂ z_j = [r + γ z_j]                       where each atom lands, at a* = argmax_a' Q(s', a'; w⁻)
    m = Φ T̂ p(s', a*; w⁻)                     eq. (7): each gives its probability to the two atoms around it
    loss = −Σ_i m_i ln p_i(s, a; w)            the cross-entropy, of the gradient of KL(m ‖ p)

The loss is ``DeepQLearning.categorical_losses``. All other switches are that class's; the paper's agent has none of them on.
It learns by Adam with ε = 0.01 / 32; ours has torch's 1e-8 unless ``policy_kwargs`` say otherwise.
"""

from typing import Any

from stable_baselines3.common.type_aliases import GymEnv, Schedule

from sb3_lecture.common.checks import Integer, Real, check_arguments
from sb3_lecture.value_based.deep_q_learning import DeepQLearning
from sb3_lecture.value_based.networks import ValuePolicy

__all__ = ["C51"]


class C51(DeepQLearning):
    """Categorical DQN.

    :param policy: "MlpPolicy", "CnnPolicy", "MultiInputPolicy" or a policy class
    :param env: environment with Discrete actions, or its id; None only when loading
    :param learning_rate: step size of Adam, or a schedule of the remaining progress (default 2.5e-4, the paper's)
    :param n_atoms: m (default 51)
    :param v_min: z_1, not above the least discounted return that can be met (default -10, the paper's, of clipped rewards)
    :param v_max: z_m, not below the greatest (default 10)
    :param kwargs: the other arguments of ``DeepQLearning``, but for ``distribution``
    :raises ValueError: ``v_min`` ≥ ``v_max``, or a number out of range
    """

    def __init__(
        self,
        policy: str | type[ValuePolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 2.5e-4,
        n_atoms: int = 51,
        v_min: float = -10.0,
        v_max: float = 10.0,
        **kwargs: Any,
    ) -> None:
        check_arguments(locals(), n_atoms=Integer(2, 10_000), v_min=Real(), v_max=Real())
        if v_min >= v_max:
            raise ValueError(f"v_min={v_min!r} must be less than v_max={v_max!r}: returns are expected between them")
        self.n_atoms, self.v_min, self.v_max = n_atoms, v_min, v_max
        super().__init__(policy, env, learning_rate, distribution="categorical", **kwargs)

    def _policy_defaults(self) -> dict[str, Any]:
        return super()._policy_defaults() | {"n_atoms": self.n_atoms, "v_min": self.v_min, "v_max": self.v_max}
