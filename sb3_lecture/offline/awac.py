"""Advantage-weighted actor-critic (Nair et al. 2020, https://arxiv.org/abs/2006.09359).

A critic of the policy itself, and a policy that is cloned from the data, each row weighted by how much better its action is
than the policy:

    L_q = E (r + γ E_{a' ~ π} min_i q_i(s', a'; w⁻) − q_i(s, a))²                        eq. (6)
    L_π = −E exp(A(s, a) / λ) log π(a | s),   A = min_i q_i(s, a) − E_{b ~ π} min_i q_i(s, b)    eq. (13), weights cut at 100

Of a finite world the minimum of L_π is π(a | s) ∝ π_β(a | s) exp(A(s, a) / λ), eq. (11), where π_β is what the data show: an
action that nobody took has the probability 0. The expectations over π are sums for Discrete actions, one draw for a Box's. The
normal distribution of a Box has one deviation for each dimension, the same in all states.
"""

from copy import deepcopy
from typing import Any, ClassVar

import torch as th
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from torch import nn

from sb3_lecture.common.checks import Integer, Real, check_arguments
from sb3_lecture.offline.base import RANDOM_DATA, Data, OfflineAlgorithm
from sb3_lecture.offline.bc import BCPolicy
from sb3_lecture.offline.dataset import Batch

__all__ = ["AWAC", "AWACPolicy"]


class AWACPolicy(BCPolicy):
    """Actor, Q-networks and their slow copies; the actor acts.

    :param n_critics: Q-networks, whose least value counts (default 2)
    :param kwargs: the arguments of ``OfflinePolicy``
    """

    optimizers = ("optimizer", "critic_optimizer")

    def __init__(self, *args: Any, n_critics: int = 2, **kwargs: Any) -> None:
        check_arguments({"n_critics": n_critics}, n_critics=Integer(1, 1000))
        self.n_critics = n_critics
        super().__init__(*args, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        self.critics = nn.ModuleList([self.make_critic() for _ in range(self.n_critics)])
        self.critic_targets = deepcopy(self.critics).requires_grad_(False)
        self.critic_optimizer = self.make_optimizer(lr_schedule, self.critics)

    def least(self, critics: nn.ModuleList, inputs: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """Return min_i q_i(s, a) [B]."""
        return th.stack([self.critic_values(critic, inputs, actions) for critic in critics]).min(dim=0).values  # type: ignore[arg-type]

    def value(self, critics: nn.ModuleList, inputs: th.Tensor) -> th.Tensor:
        """Return E_{a ~ π} min_i q_i(s, a) [B]: the sum over Discrete actions, or one draw of a Box's."""
        pi: Any = self.distribution(self.actor, inputs)
        if self.discrete:
            q = th.stack([critic(inputs) for critic in critics]).min(dim=0).values  # [B, A]
            return (pi.probs * q).sum(dim=1)
        return self.least(critics, inputs, pi.sample().clamp(-1.0, 1.0))

    def predict_values(self, observation: th.Tensor) -> th.Tensor:
        """Return v(s) [B] of observations [B, …]."""
        return self.value(self.critics, self.inputs(observation))

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {"n_critics": self.n_critics}


class AWAC(OfflineAlgorithm):
    """Advantage-weighted actor-critic from data, for Discrete actions and Boxes.

    :param policy: "MlpPolicy" or a subclass of ``AWACPolicy``
    :param env: for evaluation, and to record in; its id; or None
    :param dataset: the data, see ``OfflineAlgorithm``
    :param temperature: λ, the smaller the more the advantage counts in the policy (default 1.0)
    :param tau: how far the slow copies follow in a step (default 0.005)
    :param max_weight: largest weight of a row in the policy's loss (default 100.0)
    :param kwargs: ``learning_rate`` and the other arguments of ``OfflineAlgorithm``
    :raises ValueError: see ``OfflineAlgorithm``
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": AWACPolicy}
    policy: AWACPolicy

    def __init__(
        self,
        policy: str | type[AWACPolicy],
        env: GymEnv | str | None = None,
        dataset: Data = RANDOM_DATA,
        temperature: float = 1.0,
        tau: float = 0.005,
        max_weight: float = 100.0,
        **kwargs: Any,
    ) -> None:
        check_arguments(locals(), temperature=Real(above=0), max_weight=Real(above=0))
        self.temperature, self.tau, self.max_weight = temperature, tau, max_weight
        super().__init__(policy, env, dataset, **kwargs)

    def train_step(self, batch: Batch, inputs: th.Tensor, next_inputs: th.Tensor, actions: th.Tensor) -> dict[str, th.Tensor]:
        """Descend the two losses of the module's first lines; see ``OfflineAlgorithm``."""
        policy = self.policy
        with th.no_grad():
            target = batch.rewards + batch.discounts * policy.value(policy.critic_targets, next_inputs)  # [B]
        errors = [target - policy.critic_values(critic, inputs, actions) for critic in policy.critics]  # type: ignore[arg-type]
        critic_loss = th.stack([error.square().mean() for error in errors]).sum()  # eq. (6)
        self._descend(policy.critic_optimizer, critic_loss)

        with th.no_grad():
            advantage = policy.least(policy.critics, inputs, actions) - policy.value(policy.critics, inputs)  # [B]
            weights = (advantage / self.temperature).exp().clamp(max=self.max_weight)  # [B]
        actor_loss = -(weights * policy.distribution(policy.actor, inputs).log_prob(actions)).mean()  # eq. (13)
        self._descend(policy.optimizer, actor_loss)
        for critic, slow in zip(policy.critics, policy.critic_targets, strict=True):
            self._follow(critic, slow, self.tau)  # type: ignore[arg-type]
        return {"critic_loss": critic_loss.detach(), "actor_loss": actor_loss.detach(), "advantage": advantage.mean()}
