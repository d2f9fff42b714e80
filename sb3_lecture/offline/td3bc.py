"""TD3+BC (Fujimoto & Gu 2021, https://arxiv.org/abs/2106.06860): TD3, held to the data by one term.

    L_q = E (r + γ min_i q_i(s', ã; w⁻) − q_i(s, a))²,   ã = clip(π(s'; θ⁻) + clip(ε, ±c), ±1),  ε ~ N(0, σ²)
    L_π = −λ E q_1(s, π(s)) + E (π(s) − a)²,   λ = α / (mean |q_1(s, π(s))|)                  eqs. (3), (5)

λ is a number, through which no gradient flows: α weighs the values against the clone whatever the scale of the rewards. The
policy learns in every second step, and so do the slow copies. α = 0 clones the mean of the data's actions; where α is large it
is TD3 on a fixed replay buffer. The observations are scaled by the data, the paper's other change; one that
deviates by less than 1e-3 is only shifted, where the paper adds 1e-3 to all deviations.
"""

from copy import deepcopy
from typing import Any, ClassVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from torch import nn

from sb3_lecture.common.checks import Integer, Real, check_arguments
from sb3_lecture.offline.base import RANDOM_DATA, Data, OfflineAlgorithm
from sb3_lecture.offline.dataset import Batch
from sb3_lecture.offline.policies import OfflinePolicy

__all__ = ["TD3BC", "TD3BCPolicy"]


class TD3BCPolicy(OfflinePolicy):
    """A deterministic actor, two Q-networks, and the slow copies of all; the actor acts.

    The arguments are those of ``OfflinePolicy``.
    """

    optimizers = ("optimizer", "critic_optimizer")

    def _build(self, lr_schedule: Schedule) -> None:
        self.actor = self.make_network(self.n_actions)
        self.actor_target = deepcopy(self.actor).requires_grad_(False)
        self.critics = nn.ModuleList([self.make_critic() for _ in range(2)])
        self.critic_targets = deepcopy(self.critics).requires_grad_(False)
        self.optimizer = self.make_optimizer(lr_schedule, self.actor)
        self.critic_optimizer = self.make_optimizer(lr_schedule, self.critics)

    def predict_values(self, observation: th.Tensor) -> th.Tensor:
        """Return what the policy is held to be worth, q_1(s, π(s)) [B]."""
        inputs = self.inputs(observation)
        return self.critics[0](inputs, th.tanh(self.actor(inputs)))[:, 0]

    def _predict(self, observation: th.Tensor, deterministic: bool = False) -> th.Tensor:  # type: ignore[override]
        return th.tanh(self.actor(self.inputs(observation)))


class TD3BC(OfflineAlgorithm):
    """TD3 with a behaviour-cloning term, for Boxes.

    :param policy: "MlpPolicy" or a subclass of ``TD3BCPolicy``
    :param env: for evaluation, and to record in, with actions of a Box; its id; or None
    :param dataset: the data, see ``OfflineAlgorithm``
    :param alpha: α, weight of the values against the clone (default 2.5, the paper's); 0 for the clone alone
    :param tau: how far the slow copies follow in a step (default 0.005)
    :param policy_delay: the policy and the slow copies learn in one step of so many (default 2)
    :param target_policy_noise: σ, of actions in [-1, 1] (default 0.2)
    :param target_noise_clip: c (default 0.5)
    :param normalize_observations: scale observations by the data's mean and deviation (default True, as in the paper)
    :param kwargs: ``learning_rate`` and the other arguments of ``OfflineAlgorithm``
    :raises ValueError: see ``OfflineAlgorithm``
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": TD3BCPolicy}
    actions_allowed = (spaces.Box,)
    policy: TD3BCPolicy

    def __init__(
        self,
        policy: str | type[TD3BCPolicy],
        env: GymEnv | str | None = None,
        dataset: Data = RANDOM_DATA,
        alpha: float = 2.5,
        tau: float = 0.005,
        policy_delay: int = 2,
        target_policy_noise: float = 0.2,
        target_noise_clip: float = 0.5,
        normalize_observations: bool = True,
        **kwargs: Any,
    ) -> None:
        check_arguments(
            locals(), alpha=Real(0), policy_delay=Integer(1), target_policy_noise=Real(0), target_noise_clip=Real(0)
        )
        self.alpha, self.tau, self.policy_delay = alpha, tau, policy_delay
        self.target_policy_noise, self.target_noise_clip = target_policy_noise, target_noise_clip
        super().__init__(policy, env, dataset, normalize_observations=normalize_observations, **kwargs)

    def train_step(self, batch: Batch, inputs: th.Tensor, next_inputs: th.Tensor, actions: th.Tensor) -> dict[str, th.Tensor]:
        """Descend the losses of the module's first lines; see ``OfflineAlgorithm``."""
        policy = self.policy
        with th.no_grad():
            noise = th.randn_like(actions) * self.target_policy_noise  # [B, d]
            noise = noise.clamp(-self.target_noise_clip, self.target_noise_clip)
            next_actions = (th.tanh(policy.actor_target(next_inputs)) + noise).clamp(-1.0, 1.0)  # [B, d], ã
            next_q = th.stack([critic(next_inputs, next_actions)[:, 0] for critic in policy.critic_targets])  # [2, B]
            target = batch.rewards + batch.discounts * next_q.min(dim=0).values  # [B]
        errors = [target - critic(inputs, actions)[:, 0] for critic in policy.critics]
        critic_loss = th.stack([error.square().mean() for error in errors]).sum()
        self._descend(policy.critic_optimizer, critic_loss)
        figures = {"critic_loss": critic_loss.detach()}
        if (self._n_updates + 1) % self.policy_delay == 0:
            figures |= self._improve(inputs, actions)
        return figures

    def _improve(self, inputs: th.Tensor, actions: th.Tensor) -> dict[str, th.Tensor]:
        """Take a step of the policy, and let the slow copies follow."""
        policy = self.policy
        pi = th.tanh(policy.actor(inputs))  # [B, d]
        q = policy.critics[0](inputs, pi)[:, 0]  # [B]
        scale = self.alpha / q.detach().abs().mean().clamp(min=1e-8)  # λ
        clone_loss = (pi - actions).square().mean()
        self._descend(policy.optimizer, clone_loss - scale * q.mean())  # eqs. (3), (5)
        self._follow(policy.actor, policy.actor_target, self.tau)
        for critic, slow in zip(policy.critics, policy.critic_targets, strict=True):
            self._follow(critic, slow, self.tau)  # type: ignore[arg-type]
        return {"clone_loss": clone_loss.detach(), "q": q.detach().mean()}
