"""Conservative Q-learning for Discrete actions (Kumar et al. 2020, https://arxiv.org/abs/2006.04779).

Q-learning from data takes the maximum over actions that nobody tried, where the network may say anything: the errors are
chosen, not averaged. CQL pushes all action values down, and those of the data up again (eq. 4, with the maximum-entropy
distribution over actions):

    loss = α E_s [ log Σ_a exp q(s, a) − q(s, a_D) ]  +  ½ E [ (r + γ max_a' q(s', a'; w⁻) − q(s, a_D))² ]

so that what the greedy policy is said to be worth bounds its true value from below where α is large enough (theorem 3.2).
α = 0 is Q-learning on a fixed replay buffer, the learner that fails (Fujimoto et al. 2019). The target's action is the online
network's (double Q-learning); the paper's code for Atari has a distribution of quantiles in the place of q.
"""

from copy import deepcopy
from typing import Any, ClassVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule

from sb3_lecture.common.checks import Real, check_arguments
from sb3_lecture.offline.base import RANDOM_DATA, Data, OfflineAlgorithm
from sb3_lecture.offline.dataset import Batch
from sb3_lecture.offline.policies import OfflinePolicy

__all__ = ["CQL", "CQLPolicy", "conservative_penalty"]


def conservative_penalty(q: th.Tensor, actions: th.Tensor) -> th.Tensor:
    """Return log Σ_a exp q(s, a) − q(s, a_D), eq. (4), [B]; at least 0, and least where the data's action towers above all.

    :param q: q(s, ·) [B, A]
    :param actions: a_D [B]
    """
    return q.logsumexp(dim=1) - q.gather(1, actions[:, None])[:, 0]


class CQLPolicy(OfflinePolicy):
    """A Q-network and its slow copy; it acts greedily. The arguments are those of ``OfflinePolicy``."""

    def _build(self, lr_schedule: Schedule) -> None:
        self.critic = self.make_critic()
        self.critic_target = deepcopy(self.critic).requires_grad_(False)
        self.optimizer = self.make_optimizer(lr_schedule, self.critic)

    def q_values(self, observation: th.Tensor) -> th.Tensor:
        """Return q(s, ·) [B, A] of observations [B, …]."""
        return self.critic(self.inputs(observation))

    def predict_values(self, observation: th.Tensor) -> th.Tensor:
        """Return what the greedy policy is held to be worth, max_a q(s, a) [B]."""
        return self.q_values(observation).max(dim=1).values

    def _predict(self, observation: th.Tensor, deterministic: bool = False) -> th.Tensor:  # type: ignore[override]
        return self.q_values(observation).argmax(dim=1)


class CQL(OfflineAlgorithm):
    """Conservative Q-learning.

    :param policy: "MlpPolicy" or a subclass of ``CQLPolicy``
    :param env: for evaluation, and to record in, with Discrete actions; its id; or None
    :param dataset: the data, see ``OfflineAlgorithm``
    :param alpha: α, weight of the penalty (default 1.0); 0 for plain Q-learning from data
    :param tau: how far the slow copy follows in a step (default 0.005)
    :param kwargs: ``learning_rate`` and the other arguments of ``OfflineAlgorithm``
    :raises ValueError: see ``OfflineAlgorithm``
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": CQLPolicy}
    actions_allowed = (spaces.Discrete,)
    policy: CQLPolicy

    def __init__(
        self,
        policy: str | type[CQLPolicy],
        env: GymEnv | str | None = None,
        dataset: Data = RANDOM_DATA,
        alpha: float = 1.0,
        tau: float = 0.005,
        **kwargs: Any,
    ) -> None:
        check_arguments(locals(), alpha=Real(0))
        self.alpha, self.tau = alpha, tau
        super().__init__(policy, env, dataset, **kwargs)

    def train_step(self, batch: Batch, inputs: th.Tensor, next_inputs: th.Tensor, actions: th.Tensor) -> dict[str, th.Tensor]:
        """Descend the loss of the module's first lines; see ``OfflineAlgorithm``."""
        policy = self.policy
        with th.no_grad():
            best = policy.critic(next_inputs).argmax(dim=1)  # [B], double Q-learning
            target = batch.rewards + batch.discounts * policy.pick(policy.critic_target(next_inputs), best)  # [B]
        q = policy.critic(inputs)  # [B, A]
        td_loss = 0.5 * (target - policy.pick(q, actions)).square().mean()
        penalty = conservative_penalty(q, actions).mean()
        self._descend(policy.optimizer, self.alpha * penalty + td_loss)
        self._follow(policy.critic, policy.critic_target, self.tau)
        return {"td_loss": td_loss.detach(), "penalty": penalty.detach(), "q": q.detach().mean()}
