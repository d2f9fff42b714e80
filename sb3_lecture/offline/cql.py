"""Conservative Q-learning (Kumar et al. 2020, https://arxiv.org/abs/2006.04779).

Q-learning from data takes the maximum over actions that nobody tried, where the network may say anything: the errors are
chosen, not averaged. CQL pushes all action values down, and those of the data up again (eq. 4, with the maximum-entropy
distribution over actions):

    loss = α E_s [ log Σ_a exp q(s, a) − q(s, a_D) ]  +  ½ E [ (r + γ v(s') − q(s, a_D))² ]

so that what the policy is said to be worth bounds its true value from below where α is large enough (theorem 3.2). α = 0 is
Q-learning on a fixed replay buffer, the learner that fails (Fujimoto et al. 2019).

- Discrete actions: v(s') = q(s', argmax_a q(s', a); w⁻), double Q-learning. The paper's code for Atari has a distribution of
  quantiles in the place of q.
- Boxes: an actor and two critics, as in SAC; v(s') = min_i q_i(s', a'; w⁻) of one a' ~ π, without the entropy, as in the
  paper's code. The sum over actions becomes an integral, estimated from N uniform actions and N of the policy's (appendix F):

    log ∫ exp q(s, a) da ≈ log ( 1 / 2N Σ_{a ~ U} exp q(s, a) / U(a) + 1 / 2N Σ_{a ~ π} exp q(s, a) / π(a | s) )

  The paper's code draws N actions of π(· | s') besides. The actor's weight of the entropy is learned as in SAC.
"""

import math
from copy import deepcopy
from typing import Any, ClassVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from torch import nn
from torch.distributions import Normal
from torch.nn import functional as F

from sb3_lecture.common.checks import Integer, Real, check_arguments
from sb3_lecture.offline.base import RANDOM_DATA, Data, OfflineAlgorithm
from sb3_lecture.offline.dataset import Batch
from sb3_lecture.offline.policies import LOG_STD, OfflinePolicy

__all__ = ["CQL", "CQLPolicy", "conservative_penalty", "sampled_logsumexp"]


def conservative_penalty(q: th.Tensor, actions: th.Tensor) -> th.Tensor:
    """Return log Σ_a exp q(s, a) − q(s, a_D), eq. (4), [B]; at least 0, and least where the data's action towers above all.

    :param q: q(s, ·) [B, A]
    :param actions: a_D [B]
    """
    return q.logsumexp(dim=1) - q.gather(1, actions[:, None])[:, 0]


def sampled_logsumexp(uniform: th.Tensor, own: th.Tensor, log_prob: th.Tensor, n_dimensions: int) -> th.Tensor:
    """Estimate log ∫ exp q(s, a) da over actions in [-1, 1]^d, appendix F, [B].

    :param uniform: q(s, a) of N uniform actions [N, B]
    :param own: of N actions of the policy [N, B]
    :param log_prob: log π(a | s) of these [N, B]
    :param n_dimensions: d; the uniform density is ½^d
    """
    weighted = th.cat([uniform + n_dimensions * math.log(2.0), own - log_prob])  # [2N, B]
    return weighted.logsumexp(dim=0) - math.log(len(weighted))


class CQLPolicy(OfflinePolicy):
    """Discrete actions: a Q-network and its slow copy; it acts greedily. Boxes: an actor, two Q-networks, their slow copies.

    The arguments are those of ``OfflinePolicy``.
    """

    def _build(self, lr_schedule: Schedule) -> None:
        if self.discrete:
            self.critic = self.make_critic()
            self.critic_target = deepcopy(self.critic).requires_grad_(False)
            self.optimizer = self.make_optimizer(lr_schedule, self.critic)
            return
        self.optimizers = ("optimizer", "critic_optimizer", "entropy_optimizer")  # type: ignore[misc]
        self.actor = self.make_network(2 * self.n_actions)  # means and log deviations
        self.critics = nn.ModuleList([self.make_critic() for _ in range(2)])
        self.critic_targets = deepcopy(self.critics).requires_grad_(False)
        self.log_entropy_weight = nn.Parameter(th.zeros(()))
        self.optimizer = self.make_optimizer(lr_schedule, self.actor)
        self.critic_optimizer = self.make_optimizer(lr_schedule, self.critics)
        self.entropy_optimizer = self.make_optimizer(lr_schedule, self.log_entropy_weight)

    def draw(self, inputs: th.Tensor, n: int = 1) -> tuple[th.Tensor, th.Tensor]:
        """Draw actions a = tanh u, u ~ N(μ(s), σ(s)), with a gradient.

        :param inputs: preprocessed observations [B, …]
        :param n: actions for each
        :return: a [n, B, d] and log π(a | s) [n, B]
        """
        mean, log_std = self.actor(inputs).chunk(2, dim=1)  # [B, d]
        normal = Normal(mean, log_std.clamp(*LOG_STD).exp(), validate_args=False)
        u = normal.rsample((n,))
        squash = 2.0 * (math.log(2.0) - u - F.softplus(-2.0 * u))  # log (1 − tanh² u)
        return th.tanh(u), (normal.log_prob(u) - squash).sum(dim=2)

    def least(self, critics: nn.ModuleList, inputs: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """Return min_i q_i(s, a) [B] of a Box's actions in [-1, 1], [B, d]."""
        return th.min(*(critic(inputs, actions)[:, 0] for critic in critics))

    def q_values(self, observation: th.Tensor) -> th.Tensor:
        """Return q(s, ·) [B, A] of observations [B, …], of Discrete actions."""
        return self.critic(self.inputs(observation))

    def predict_values(self, observation: th.Tensor) -> th.Tensor:
        """Return what the policy is held to be worth: max_a q(s, a), or min_i q_i(s, tanh μ(s)), [B]."""
        if self.discrete:
            return self.q_values(observation).max(dim=1).values
        return self.least(self.critics, self.inputs(observation), self._predict(observation, deterministic=True))

    def _predict(self, observation: th.Tensor, deterministic: bool = False) -> th.Tensor:  # type: ignore[override]
        if self.discrete:
            return self.q_values(observation).argmax(dim=1)
        inputs = self.inputs(observation)
        return th.tanh(self.actor(inputs)[:, : self.n_actions]) if deterministic else self.draw(inputs)[0][0]


class CQL(OfflineAlgorithm):
    """Conservative Q-learning, for Discrete actions and Boxes.

    :param policy: "MlpPolicy" or a subclass of ``CQLPolicy``
    :param env: for evaluation, and to record in; its id; or None
    :param dataset: the data, see ``OfflineAlgorithm``
    :param alpha: α, weight of the penalty (default 1.0); 0 for plain Q-learning from data
    :param tau: how far the slow copies follow in a step (default 0.005)
    :param n_action_samples: N, of Boxes (default 10, the paper's)
    :param kwargs: ``learning_rate`` and the other arguments of ``OfflineAlgorithm``
    :raises ValueError: see ``OfflineAlgorithm``
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": CQLPolicy}
    policy: CQLPolicy

    def __init__(
        self,
        policy: str | type[CQLPolicy],
        env: GymEnv | str | None = None,
        dataset: Data = RANDOM_DATA,
        alpha: float = 1.0,
        tau: float = 0.005,
        n_action_samples: int = 10,
        **kwargs: Any,
    ) -> None:
        check_arguments(locals(), alpha=Real(0), n_action_samples=Integer(1, 10_000))
        self.alpha, self.tau, self.n_action_samples = alpha, tau, n_action_samples
        super().__init__(policy, env, dataset, **kwargs)

    def train_step(self, batch: Batch, inputs: th.Tensor, next_inputs: th.Tensor, actions: th.Tensor) -> dict[str, th.Tensor]:
        """Descend the loss of the module's first lines; see ``OfflineAlgorithm``."""
        policy = self.policy
        if isinstance(self.action_space, spaces.Box):
            return self._box_step(batch, inputs, next_inputs, actions)
        with th.no_grad():
            best = policy.critic(next_inputs).argmax(dim=1)  # [B], double Q-learning
            target = batch.rewards + batch.discounts * policy.pick(policy.critic_target(next_inputs), best)  # [B]
        q = policy.critic(inputs)  # [B, A]
        td_loss = 0.5 * (target - policy.pick(q, actions)).square().mean()
        penalty = conservative_penalty(q, actions).mean()
        self._descend(policy.optimizer, self.alpha * penalty + td_loss)
        self._follow(policy.critic, policy.critic_target, self.tau)
        return {"td_loss": td_loss.detach(), "penalty": penalty.detach(), "q": q.detach().mean()}

    def _box_step(self, batch: Batch, inputs: th.Tensor, next_inputs: th.Tensor, actions: th.Tensor) -> dict[str, th.Tensor]:
        """Take a step of the critics, of the actor and of the entropy's weight."""
        policy, n, d = self.policy, self.n_action_samples, self.policy.n_actions
        with th.no_grad():
            next_actions = policy.draw(next_inputs)[0][0]  # [B, d]
            target = batch.rewards + batch.discounts * policy.least(policy.critic_targets, next_inputs, next_actions)  # [B]
            drawn, log_prob = policy.draw(inputs, n)  # [N, B, d], [N, B]
            proposed = th.cat([2.0 * th.rand_like(drawn) - 1.0, drawn]).flatten(0, 1)  # [2NB, d]
            repeated = inputs.repeat(2 * n, *[1] * (inputs.dim() - 1))  # [2NB, …]
        td_loss, penalty = th.zeros((), device=self.device), th.zeros((), device=self.device)
        for critic in policy.critics:
            q = critic(inputs, actions)[:, 0]  # [B]
            uniform, own = critic(repeated, proposed).view(2, n, len(q))  # [N, B] each
            penalty = penalty + (sampled_logsumexp(uniform, own, log_prob, d) - q).mean()  # eq. (4), appendix F
            td_loss = td_loss + 0.5 * (target - q).square().mean()
        self._descend(policy.critic_optimizer, self.alpha * penalty + td_loss)

        (own_actions,), (own_log_prob,) = policy.draw(inputs)  # [B, d], [B]
        weight = policy.log_entropy_weight.exp().detach()
        actor_loss = (weight * own_log_prob - policy.least(policy.critics, inputs, own_actions)).mean()  # SAC's
        self._descend(policy.optimizer, actor_loss)
        entropy_loss = -(policy.log_entropy_weight * (own_log_prob.detach() - d)).mean()  # towards an entropy of −d
        self._descend(policy.entropy_optimizer, entropy_loss)
        for critic, slow in zip(policy.critics, policy.critic_targets, strict=True):
            self._follow(critic, slow, self.tau)  # type: ignore[arg-type]
        return {"td_loss": td_loss.detach(), "penalty": penalty.detach(), "actor_loss": actor_loss.detach()}
