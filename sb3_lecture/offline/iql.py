"""Implicit Q-learning (Kostrikov et al. 2022, https://arxiv.org/abs/2110.06169).

No action is ever asked for that the data do not show. v(s) is the τ-expectile of q(s, a) over the data's actions, close to
their maximum where τ is close to 1; q learns from v, and the policy is cloned from the data, weighted by the advantage:

    L_v = E |τ − 1(u < 0)| u²,   u = min_i q_i(s, a; w⁻) − v(s)                          eqs. (5), (6)
    L_q = E (r + γ v(s') − q_i(s, a))²                                                   eq. (7)
    L_π = −E exp(β (min_i q_i(s, a; w⁻) − v(s))) log π(a | s)                            eq. (8), weights cut at 100

As τ → 1 the fixed point is the optimum over the actions that the data support (theorem 3).
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

__all__ = ["IQL", "IQLPolicy", "expectile_loss"]


def expectile_loss(u: th.Tensor, expectile: float) -> th.Tensor:
    """Return |τ − 1(u < 0)| u², eq. (5), elementwise.

    :param u: target minus estimate
    :param expectile: τ; ½ is half the squared error
    """
    return (expectile - (u < 0).to(u.dtype)).abs() * u.square()


class IQLPolicy(BCPolicy):
    """Actor, value network, Q-networks and their slow copies; the actor acts.

    :param n_critics: Q-networks, whose least value counts (default 2)
    :param kwargs: the arguments of ``OfflinePolicy``
    """

    optimizers = ("optimizer", "value_optimizer", "critic_optimizer")

    def __init__(self, *args: Any, n_critics: int = 2, **kwargs: Any) -> None:
        check_arguments({"n_critics": n_critics}, n_critics=Integer(1, 1000))
        self.n_critics = n_critics
        super().__init__(*args, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        self.value = self.make_network(1)
        self.critics = nn.ModuleList([self.make_critic() for _ in range(self.n_critics)])
        self.critic_targets = deepcopy(self.critics).requires_grad_(False)
        self.value_optimizer = self.make_optimizer(lr_schedule, self.value)
        self.critic_optimizer = self.make_optimizer(lr_schedule, self.critics)

    def predict_values(self, observation: th.Tensor) -> th.Tensor:
        """Return v(s) [B] of observations [B, …]."""
        return self.value(self.inputs(observation))[:, 0]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {"n_critics": self.n_critics}


class IQL(OfflineAlgorithm):
    """Implicit Q-learning, for Discrete actions and Boxes.

    :param policy: "MlpPolicy" or a subclass of ``IQLPolicy``
    :param env: for evaluation, and to record in; its id; or None
    :param dataset: the data, see ``OfflineAlgorithm``
    :param expectile: τ in (0, 1) (default 0.7, the paper's; 0.9 where trajectories must be stitched)
    :param beta: β, how much the advantage counts in the policy (default 3.0, the paper's)
    :param tau: how far the slow copies follow in a step (default 0.005)
    :param max_weight: largest weight of a row in the policy's loss (default 100.0)
    :param kwargs: ``learning_rate`` and the other arguments of ``OfflineAlgorithm``
    :raises ValueError: see ``OfflineAlgorithm``
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": IQLPolicy}
    policy: IQLPolicy

    def __init__(
        self,
        policy: str | type[IQLPolicy],
        env: GymEnv | str | None = None,
        dataset: Data = RANDOM_DATA,
        expectile: float = 0.7,
        beta: float = 3.0,
        tau: float = 0.005,
        max_weight: float = 100.0,
        **kwargs: Any,
    ) -> None:
        check_arguments(locals(), expectile=Real(above=0, high=1), beta=Real(0), max_weight=Real(above=0))
        if expectile == 1.0:
            raise ValueError("expectile=1.0 would learn nothing from what is too high: take a number below 1, such as 0.9")
        self.expectile, self.beta, self.tau, self.max_weight = expectile, beta, tau, max_weight
        super().__init__(policy, env, dataset, **kwargs)

    def train_step(self, batch: Batch, inputs: th.Tensor, next_inputs: th.Tensor, actions: th.Tensor) -> dict[str, th.Tensor]:
        """Descend the three losses of the module's first lines; see ``OfflineAlgorithm``."""
        policy = self.policy
        with th.no_grad():
            values = [policy.critic_values(critic, inputs, actions) for critic in policy.critic_targets]  # type: ignore[arg-type]
            q_target = th.stack(values).min(dim=0).values  # [B], min_i q_i(s, a; w⁻)
            next_v = policy.value(next_inputs)[:, 0]  # [B]
        v = policy.value(inputs)[:, 0]  # [B]
        advantage = q_target - v
        value_loss = expectile_loss(advantage, self.expectile).mean()  # eqs. (5), (6)
        self._descend(policy.value_optimizer, value_loss)

        target = batch.rewards + batch.discounts * next_v  # [B]
        errors = [target - policy.critic_values(critic, inputs, actions) for critic in policy.critics]  # type: ignore[arg-type]
        critic_loss = th.stack([error.square().mean() for error in errors]).sum()  # eq. (7)
        self._descend(policy.critic_optimizer, critic_loss)

        weights = (self.beta * advantage.detach()).exp().clamp(max=self.max_weight)  # [B]
        actor_loss = -(weights * policy.distribution(policy.actor, inputs).log_prob(actions)).mean()  # eq. (8)
        self._descend(policy.optimizer, actor_loss)
        for critic, slow in zip(policy.critics, policy.critic_targets, strict=True):
            self._follow(critic, slow, self.tau)  # type: ignore[arg-type]
        return {"value_loss": value_loss.detach(), "critic_loss": critic_loss.detach(), "actor_loss": actor_loss.detach()}
