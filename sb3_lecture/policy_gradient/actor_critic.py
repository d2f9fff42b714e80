"""Actor-critic: a policy gradient that learns online, from bootstrapped returns.

REINFORCE waits for the end of an episode. The actor-critic replaces the return by a target that bootstraps on a learnt
critic and so takes a step after every ``n_steps`` steps (Sutton & Barto 2018, §13.5; n-step form as in Mnih et al. 2016,
Algorithm S3, https://arxiv.org/abs/1602.01783). With one step:

- ``critic="v"``, the advantage actor-critic (box on p. 332):
  δ = R + γ v(S') − v(S), w ← w + α δ ∇v(S), θ ← θ + α δ ∇ln π(A|S)                                              (13.12–13.14);
- ``critic="q"``, the Q actor-critic, straight from the policy gradient theorem (13.5):
  δ = R + γ Σ_a π(a|S') q(S', a) − q(S, A), w ← w + α δ ∇q(S, A), θ ← θ + α q(S, A) ∇ln π(A|S).

With ``n_steps`` = n the target of the step at time t is the n-step return up to the end of the block (7.1): n rewards for
the block's first step, one for its last.

Deviations and choices:

- The Q critic's target is Expected Sarsa's (6.9): the mean over π instead of one sampled next action. The same expectation,
  less variance, and it gives V(s) = Σ_a π(a|s) q(s, a), the bootstrap behind a time limit. It needs Discrete actions.
- The box on p. 332 weighs step t by γ^t; as nearly all practice, this file does not.
- Several environments average their gradients in one step; actor and critic share one optimizer (Adam by default).
- SB3's A2C is this file with critic="v", n_steps=5, an entropy bonus, RMSprop and a GAE(λ) switch.
"""

from functools import partial
from typing import Any, ClassVar, Literal, TypeVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticCnnPolicy, ActorCriticPolicy, BasePolicy, MultiInputActorCriticPolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, PyTorchObs, Schedule
from torch import nn
from torch.nn import functional as F

from sb3_lecture.common.checkpoint import SafeSave
from sb3_lecture.common.checks import Choice, check_arguments, check_finite, naming_memory, naming_non_finite
from sb3_lecture.common.optimizers import fused_adam
from sb3_lecture.common.spaces import check_zero_based

__all__ = ["ActorCritic", "QActorCriticCnnPolicy", "QActorCriticPolicy", "QMultiInputActorCriticPolicy"]

SelfActorCritic = TypeVar("SelfActorCritic", bound="ActorCritic")


class QActorCriticPolicy(ActorCriticPolicy):
    """SB3's actor-critic policy with an action-value critic: ``value_net`` has one output per action.

    Its arguments are those of ``ActorCriticPolicy``; the action space must be Discrete.
    """

    def _build(self, lr_schedule: Schedule) -> None:
        super()._build(lr_schedule)
        n_actions = int(self.action_space.n)  # type: ignore[attr-defined]
        self.value_net = nn.Linear(self.mlp_extractor.latent_dim_vf, n_actions)  # q(s, ·)
        if self.ortho_init:
            self.value_net.apply(partial(self.init_weights, gain=1))
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def _probs_and_q(self, obs: PyTorchObs) -> tuple[th.distributions.Categorical, th.Tensor]:
        """π(·|s) and q(s, ·) [batch, n_actions]."""
        features = self.extract_features(obs)  # one tensor, or (actor's, critic's)
        pi_features, vf_features = features if isinstance(features, tuple) else (features, features)
        distribution = self._get_action_dist_from_latent(self.mlp_extractor.forward_actor(pi_features)).distribution
        return distribution, self.value_net(self.mlp_extractor.forward_critic(vf_features))  # type: ignore[return-value]

    def forward(self, obs: PyTorchObs, deterministic: bool = False) -> tuple[th.Tensor, th.Tensor, th.Tensor]:  # type: ignore[override]
        """Choose actions.

        :param obs: observations [batch, …]
        :param deterministic: take the most probable action instead of sampling
        :return: actions [batch], v(s) = Σ_a π(a|s) q(s, a) [batch, 1], ln π(a|s) [batch]
        """
        pi, q = self._probs_and_q(obs)
        actions = pi.probs.argmax(dim=1) if deterministic else pi.sample()
        return actions, (pi.probs * q).sum(dim=1, keepdim=True), pi.log_prob(actions)

    def evaluate_actions(self, obs: PyTorchObs, actions: th.Tensor) -> tuple[th.Tensor, th.Tensor, th.Tensor | None]:
        """Judge actions taken.

        :param obs: observations [batch, …]
        :param actions: [batch]
        :return: the *action values* q(s, a) [batch, 1], ln π(a|s) [batch], the entropy of π(·|s) [batch]
        """
        pi, q = self._probs_and_q(obs)
        return q.gather(1, actions.long().reshape(-1, 1)), pi.log_prob(actions), pi.entropy()

    def predict_values(self, obs: PyTorchObs) -> th.Tensor:
        """State values v(s) = Σ_a π(a|s) q(s, a).

        :param obs: observations [batch, …]
        :return: [batch, 1]
        """
        pi, q = self._probs_and_q(obs)
        return (pi.probs * q).sum(dim=1, keepdim=True)


class QActorCriticCnnPolicy(QActorCriticPolicy, ActorCriticCnnPolicy):
    """The Q actor-critic's policy for images."""


class QMultiInputActorCriticPolicy(QActorCriticPolicy, MultiInputActorCriticPolicy):
    """The Q actor-critic's policy for Dict observations."""


class ActorCritic(SafeSave, OnPolicyAlgorithm):
    """Online actor-critic, one-step or n-step, with a state-value or an action-value critic.

    :param policy: "MlpPolicy", "CnnPolicy", "MultiInputPolicy" or a policy class (for critic="q" a ``QActorCriticPolicy``)
    :param env: environment, or its id; None only when loading
    :param learning_rate: step size of the optimizer, or a schedule of the remaining progress (default 1e-3)
    :param critic: "v" (advantage actor-critic, default) or "q" (Q actor-critic, Discrete actions only)
    :param n_steps: steps of every environment between two updates; 1 is one-step TD (default)
    :param gamma: discount factor γ (default 0.99)
    :param ent_coef: weight of the policy's entropy in the objective (default 0)
    :param vf_coef: weight of the critic's squared error in the loss (default 0.5)
    :param max_grad_norm: largest norm of the gradient (default 0.5)
    :param use_sde: state-dependent exploration for Box actions (default False)
    :param sde_sample_freq: steps between two draws of its noise, -1 for one a rollout (default)
    :param rollout_buffer_class: class of the rollout buffer, None for SB3's choice (default)
    :param rollout_buffer_kwargs: its arguments
    :param normalize_advantage: standardise the weights of ∇ln π over the steps of an update, two or more (default False)
    :param stats_window_size: episodes in the logged means (default 100)
    :param tensorboard_log: folder of the tensorboard log, None for none (default)
    :param policy_kwargs: arguments of the policy; Adam is fused unless they name an optimizer
    :param verbose: 0 silent (default), 1 training information
    :param seed: seed of all random generators, None for a random one
    :param device: torch device (default "auto")
    :param _init_setup_model: build the networks now (SB3's loader passes False)
    :raises ValueError: unknown ``critic``, a number out of range, a Q critic with actions that are not Discrete, or a single
        step to standardise
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": ActorCriticPolicy,
        "CnnPolicy": ActorCriticCnnPolicy,
        "MultiInputPolicy": MultiInputActorCriticPolicy,
    }
    q_policy_aliases: ClassVar[dict[str, type[ActorCriticPolicy]]] = {
        "MlpPolicy": QActorCriticPolicy,
        "CnnPolicy": QActorCriticCnnPolicy,
        "MultiInputPolicy": QMultiInputActorCriticPolicy,
    }

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 1e-3,
        critic: Literal["v", "q"] = "v",
        n_steps: int = 1,
        gamma: float = 0.99,
        ent_coef: float = 0.0,
        vf_coef: float = 0.5,
        max_grad_norm: float = 0.5,
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        rollout_buffer_class: type[RolloutBuffer] | None = None,
        rollout_buffer_kwargs: dict[str, Any] | None = None,
        normalize_advantage: bool = False,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        check_arguments(locals(), critic=Choice("v", "q"))
        if critic == "q" and isinstance(policy, str):
            policy = self.q_policy_aliases.get(policy, policy)  # an unknown name is SB3's to refuse
        super().__init__(
            policy,
            env,  # type: ignore[arg-type]
            learning_rate=learning_rate,
            n_steps=n_steps,
            gamma=gamma,
            gae_lambda=1.0,  # the buffer's GAE(1) + V is the n-step return
            ent_coef=ent_coef,
            vf_coef=vf_coef,
            max_grad_norm=max_grad_norm,
            use_sde=use_sde,
            sde_sample_freq=sde_sample_freq,
            rollout_buffer_class=rollout_buffer_class,
            rollout_buffer_kwargs=rollout_buffer_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=False,
            supported_action_spaces=(spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary),
        )
        self.critic = critic
        self.normalize_advantage = normalize_advantage
        if _init_setup_model:
            self._setup_model()

    @naming_memory("n_steps")
    def _setup_model(self) -> None:
        check_zero_based(self.observation_space, self.action_space)
        if self.normalize_advantage and self.n_steps * self.n_envs < 2:
            raise ValueError(
                f"n_steps={self.n_steps} of one env leaves nothing to standardise: use 2, or normalize_advantage=False"
            )
        if self.critic == "q":
            if not isinstance(self.action_space, spaces.Discrete):
                raise ValueError(f'critic="q" needs Discrete actions, got {self.action_space}: use critic="v"')
            if not issubclass(self.policy_class, QActorCriticPolicy):
                raise ValueError(f'critic="q" needs a QActorCriticPolicy, got {self.policy_class.__name__}: pass "MlpPolicy"')
        with fused_adam(self, eps=1e-5):  # SB3's ε for actor-critics
            super()._setup_model()

    def learn(
        self: SelfActorCritic,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1000,
        tb_log_name: str = "ActorCritic",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfActorCritic:
        """Alternate ``n_steps`` steps of every environment and a gradient step until ``total_timesteps``.

        :param total_timesteps: environment steps
        :param callback: called at every step; stops the training by returning False
        :param log_interval: gradient steps between two lines of the log
        :param tb_log_name: name of the tensorboard run
        :param reset_num_timesteps: start counting (and the logs) anew
        :param progress_bar: show a progress bar
        :return: the model itself
        """
        with naming_non_finite(self):
            return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)

    def train(self) -> None:
        """One gradient step on the steps just collected."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        data = next(self.rollout_buffer.get(batch_size=None))  # all of it: [n_steps * n_envs]
        actions = data.actions.long().flatten() if isinstance(self.action_space, spaces.Discrete) else data.actions

        values, log_prob, entropy = self.policy.evaluate_actions(data.observations, actions)
        values = values.flatten()  # v(S_t) or q(S_t, A_t)
        targets = data.returns  # G_{t:t+n}, eq. (7.1); a time limit is bootstrapped through, a terminal state is worth 0
        if self.critic == "v":
            weights = targets - values.detach()  # δ, eq. (13.12)–(13.13)
        else:
            weights = values.detach()  # q(S, A), eq. (13.5)
        if self.normalize_advantage:
            weights = (weights - weights.mean()) / (weights.std() + 1e-8)
        policy_loss = -(weights * log_prob).mean()  # eq. (13.14)
        value_loss = F.mse_loss(values, targets)  # its gradient is −2 δ ∇v(S)
        entropy = -log_prob if entropy is None else entropy  # no closed form for squashed actions
        loss = policy_loss - self.ent_coef * entropy.mean() + self.vf_coef * value_loss

        self.policy.optimizer.zero_grad()
        loss.backward()
        norm = th.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
        check_finite(
            norm, "the gradient's norm",
            observations=data.observations, rewards=self.rollout_buffer.rewards, network=self.policy,
        )  # fmt: skip
        self.policy.optimizer.step()

        self._n_updates += 1
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/entropy_loss", -entropy.mean().item())
        self.logger.record("train/policy_loss", policy_loss.item())
        self.logger.record("train/value_loss", value_loss.item())
        if hasattr(self.policy, "log_std"):
            self.logger.record("train/std", th.exp(self.policy.log_std).mean().item())
