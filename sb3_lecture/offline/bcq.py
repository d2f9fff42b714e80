"""Batch-constrained Q-learning for Discrete actions (Fujimoto et al. 2019b, https://arxiv.org/abs/1910.01708).

A clone of the behaviour, G(a | s), says which actions the data support; the maximum is taken over these alone (eq. 10):

    π(s) = argmax_{a : G(a | s) / max_â G(â | s) > τ} q(s, a)

    δ = r + γ q(s', a'; w⁻) − q(s, a; w),   a' = π(s') by the online network           (double Q-learning, algorithm 1)
    loss = Huber(δ) − log G(a | s) + λ ‖logits‖²

τ = 0 is Q-learning from data, τ → 1 behaviour cloning. On a finite world where every pair of the data has probability above
τ times the largest, this is Q-learning over the support, whose fixed point is the in-support optimum (Fujimoto et al. 2019,
theorem 4, https://arxiv.org/abs/1812.02900). G and q are two networks here; the paper's share their convolutions.
"""

from copy import deepcopy
from typing import Any, ClassVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from torch.nn import functional as F

from sb3_lecture.common.checks import Real, check_arguments
from sb3_lecture.offline.base import RANDOM_DATA, Data, OfflineAlgorithm
from sb3_lecture.offline.dataset import Batch
from sb3_lecture.offline.policies import OfflinePolicy

__all__ = ["BCQ", "BCQPolicy", "constrained"]


def constrained(q: th.Tensor, logits: th.Tensor, threshold: float) -> th.Tensor:
    """Return q(s, ·) with −∞ where the behaviour's clone gives an action too little, eq. (10), [B, A].

    :param q: q(s, ·) [B, A]
    :param logits: of G(· | s) [B, A]
    :param threshold: τ in [0, 1): an action counts whose probability is above τ times the largest
    """
    log_ratio = logits - logits.max(dim=1, keepdim=True).values  # log G(a | s) − log max G(· | s)
    return q.masked_fill(log_ratio.exp() <= threshold, -th.inf) if threshold > 0 else q


class BCQPolicy(OfflinePolicy):
    """A Q-network, its slow copy and the behaviour's clone.

    :param threshold: τ, given by the learner
    :param kwargs: the arguments of ``OfflinePolicy``
    """

    def __init__(self, *args: Any, threshold: float = 0.3, **kwargs: Any) -> None:
        self.threshold = threshold
        super().__init__(*args, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        self.critic, self.clone = self.make_critic(), self.make_network(self.n_actions)
        self.critic_target = deepcopy(self.critic).requires_grad_(False)
        self.optimizer = self.make_optimizer(lr_schedule, self.critic, self.clone)

    def allowed_values(self, inputs: th.Tensor) -> th.Tensor:
        """Return q(s, ·), −∞ where an action is not supported, [B, A]."""
        return constrained(self.critic(inputs), self.clone(inputs), self.threshold)

    def q_values(self, observation: th.Tensor) -> th.Tensor:
        """Return q(s, ·) of observations [B, …], −∞ where an action is not supported, [B, A]."""
        return self.allowed_values(self.inputs(observation))

    def predict_values(self, observation: th.Tensor) -> th.Tensor:
        """Return what the policy is held to be worth [B]."""
        return self.q_values(observation).max(dim=1).values

    def _predict(self, observation: th.Tensor, deterministic: bool = False) -> th.Tensor:  # type: ignore[override]
        return self.q_values(observation).argmax(dim=1)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {"threshold": self.threshold}


class BCQ(OfflineAlgorithm):
    """Discrete batch-constrained Q-learning.

    :param policy: "MlpPolicy" or a subclass of ``BCQPolicy``
    :param env: for evaluation, and to record in, with Discrete actions; its id; or None
    :param dataset: the data, see ``OfflineAlgorithm``
    :param threshold: τ (default 0.3, the paper's)
    :param tau: how far the slow copy follows in a step (default 0.005)
    :param logits_coef: λ, weight of the squared logits (default 0.01, the paper's)
    :param kwargs: ``learning_rate`` and the other arguments of ``OfflineAlgorithm``
    :raises ValueError: see ``OfflineAlgorithm``
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": BCQPolicy}
    actions_allowed = (spaces.Discrete,)
    policy: BCQPolicy

    def __init__(
        self,
        policy: str | type[BCQPolicy],
        env: GymEnv | str | None = None,
        dataset: Data = RANDOM_DATA,
        threshold: float = 0.3,
        tau: float = 0.005,
        logits_coef: float = 0.01,
        **kwargs: Any,
    ) -> None:
        check_arguments(locals(), threshold=Real(0, 1), logits_coef=Real(0))
        self.threshold, self.tau, self.logits_coef = threshold, tau, logits_coef
        super().__init__(policy, env, dataset, **kwargs)

    def _setup_model(self) -> None:
        super()._setup_model()
        self.policy.threshold = self.threshold

    def train_step(self, batch: Batch, inputs: th.Tensor, next_inputs: th.Tensor, actions: th.Tensor) -> dict[str, th.Tensor]:
        """Descend the loss of the module's first lines; see ``OfflineAlgorithm``."""
        policy = self.policy
        with th.no_grad():
            best = policy.allowed_values(next_inputs).argmax(dim=1)  # [B], eq. (10) at s'
            target = batch.rewards + batch.discounts * policy.pick(policy.critic_target(next_inputs), best)  # [B]
        td_loss = F.smooth_l1_loss(policy.pick(policy.critic(inputs), actions), target)
        logits = policy.clone(inputs)  # [B, A]
        clone_loss = F.cross_entropy(logits, actions)
        self._descend(policy.optimizer, td_loss + clone_loss + self.logits_coef * logits.square().mean())
        self._follow(policy.critic, policy.critic_target, self.tau)
        return {"td_loss": td_loss.detach(), "clone_loss": clone_loss.detach()}
