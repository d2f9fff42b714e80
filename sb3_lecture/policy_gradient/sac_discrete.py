"""Soft actor-critic for discrete actions (Christodoulou 2019, https://arxiv.org/abs/1910.07207), with three actor gradients.

SAC maximises return plus α times the policy's entropy. With few actions nothing needs to be sampled: the critic gives Q(s, a)
for all of them, the actor all π(a|s), and the expectations of SAC become sums (§3 of the paper):

    V(s) = Σ_a π(a|s) [Q(s, a) − α ln π(a|s)]                                    soft value, eq. (10)
    J_Q  = ½ (Q(s, a) − r − γ V(s'))², the smaller of two target critics in V    eq. (4), with (10)
    J_π  = E_s Σ_a π(a|s) [α ln π(a|s) − Q(s, a)]                                actor, eq. (12)
    J_α  = E_s Σ_a π(a|s) [−α (ln π(a|s) + H̄)]                                   temperature, eq. (11)

``actor_gradient`` chooses how the gradient of J_π is found, for comparison; the critic is the same for all:

- "exact": the sum above, differentiated;
- "score_function": one a ~ π for each state, ∇ ln π(a|s) [α ln π(a|s) − Q(s, a) + V(s)]; unbiased, noisier; V is its baseline;
- "gumbel_softmax": one straight-through Gumbel-softmax sample for each state (Jang et al. 2017), the gradient flowing through
  a relaxed action of temperature τ; biased.

Why this room: the actor is an explicit distribution that a gradient is pushed through, the target is an expectation under
it; no maximum over values picks an action.

Choices and deviations: the paper's target entropy, H̄ = 0.98 ln |A|, keeps the policy nearly uniform; it is the default
("auto"), and a number or a fixed ``ent_coef`` overrides it. J_α is taken in ln α, as SB3 does. Actor and critics share no
layers. In J_π stands the critics' minimum, as in the paper's code, and it is the one that their own step has just computed,
one update old. A time limit is bootstrapped through.
"""

from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, FlattenExtractor, NatureCNN
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, PyTorchObs, Schedule
from stable_baselines3.dqn.policies import QNetwork
from torch import nn

from sb3_lecture.common.buffers import memory_as_given
from sb3_lecture.common.checkpoint import SafeSave
from sb3_lecture.common.checks import Choice, Real, check_arguments, check_finite, naming_memory, naming_non_finite
from sb3_lecture.common.gradient_estimators import relaxed_one_hot
from sb3_lecture.common.optimizers import fused_adam
from sb3_lecture.common.spaces import check_zero_based

__all__ = ["SACDiscrete", "SACDiscretePolicy", "actor_loss"]

SelfSACDiscrete = TypeVar("SelfSACDiscrete", bound="SACDiscrete")
ActorGradient = Literal["exact", "score_function", "gumbel_softmax"]


def actor_loss(
    logits: th.Tensor, q_values: th.Tensor, ent_coef: th.Tensor | float, actor_gradient: ActorGradient, temperature: float
) -> th.Tensor:
    """J_π for each state, or what has its gradient, or about its gradient.

    :param logits: the actor's outputs, [batch, A]
    :param q_values: Q(s, a), no gradient through it, [batch, A]
    :param ent_coef: α
    :param actor_gradient: "exact", "score_function" or "gumbel_softmax"
    :param temperature: τ of the relaxed actions
    :return: [batch]
    """
    log_pi = logits.log_softmax(dim=1)  # [batch, A]
    if actor_gradient == "gumbel_softmax":
        action = relaxed_one_hot(log_pi, temperature, hard=True)  # one-hot forward, soft backward [batch, A]
        return (action * (ent_coef * log_pi - q_values)).sum(dim=1)
    pi = log_pi.exp()
    exact = (pi * (ent_coef * log_pi - q_values)).sum(dim=1)  # eq. (12), which is −V(s), eq. (10)
    if actor_gradient == "exact":
        return exact
    action = th.multinomial(pi.detach(), 1)  # a ~ π [batch, 1]
    log_pi_a = log_pi.gather(1, action).squeeze(1)  # ln π(a|s) [batch]
    weight = ent_coef * log_pi_a - q_values.gather(1, action).squeeze(1) - exact
    return weight.detach() * log_pi_a


class SACDiscretePolicy(BasePolicy):
    """An actor and two critics, each a network of its own, and slow copies of the critics.

    :param observation_space: any that SB3's features extractors take
    :param action_space: Discrete
    :param lr_schedule: step size of the optimizers
    :param net_arch: widths of the hidden layers (default [64, 64], none behind NatureCNN)
    :param activation_fn: activation between the layers (default ReLU)
    :param features_extractor_class: what turns observations into vectors
    :param features_extractor_kwargs: its arguments
    :param normalize_images: divide image observations by 255 (default True)
    :param optimizer_class: optimizer (default Adam)
    :param optimizer_kwargs: its arguments
    :param n_critics: critics, the smallest value of which counts (default 2)
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        net_arch: list[int] | None = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        features_extractor_class: type[BaseFeaturesExtractor] = FlattenExtractor,
        features_extractor_kwargs: dict[str, Any] | None = None,
        normalize_images: bool = True,
        optimizer_class: type[th.optim.Optimizer] = th.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        n_critics: int = 2,
    ) -> None:
        check_arguments(locals())
        super().__init__(
            observation_space,
            action_space,
            features_extractor_class,
            features_extractor_kwargs,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
            normalize_images=normalize_images,
        )
        if net_arch is None:
            net_arch = [] if features_extractor_class == NatureCNN else [64, 64]
        self.net_arch = net_arch
        self.activation_fn = activation_fn
        self.n_critics = n_critics
        self.actor = self._make_net()  # SB3's QNetwork is "observation → one number an action", here the logits
        self.critics = nn.ModuleList([self._make_net() for _ in range(n_critics)])
        self.critic_targets = nn.ModuleList([self._make_net() for _ in range(n_critics)])
        self.critic_targets.load_state_dict(self.critics.state_dict())
        self.critic_targets.requires_grad_(False).train(False)
        self.actor_optimizer = self._make_optimizer(self.actor, lr_schedule)
        self.critic_optimizer = self._make_optimizer(self.critics, lr_schedule)

    def _make_net(self) -> QNetwork:
        arguments = {
            "observation_space": self.observation_space,
            "action_space": self.action_space,
            "net_arch": self.net_arch,
            "activation_fn": self.activation_fn,
            "normalize_images": self.normalize_images,
        }
        return QNetwork(**self._update_features_extractor(arguments, features_extractor=None)).to(self.device)

    def _make_optimizer(self, module: nn.Module, lr_schedule: Schedule) -> th.optim.Optimizer:
        return self.optimizer_class(module.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def logits(self, obs: PyTorchObs) -> th.Tensor:
        """The actor's outputs, [batch, A]."""
        return self.actor(obs)

    def q_values(self, obs: PyTorchObs) -> list[th.Tensor]:
        """Q(s, ·) by each critic, [batch, A] each."""
        return [critic(obs) for critic in self.critics]

    def target_q_values(self, obs: PyTorchObs) -> th.Tensor:
        """The smallest of the slow critics' Q(s, ·), [batch, A]."""
        return th.stack([critic(obs) for critic in self.critic_targets]).amin(dim=0)

    def forward(self, obs: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        """Draw actions, or take the likeliest; [batch]."""
        logits = self.logits(obs)
        return logits.argmax(dim=1) if deterministic else th.multinomial(logits.softmax(dim=1), 1).squeeze(1)

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        return self(observation, deterministic)

    def set_training_mode(self, mode: bool) -> None:
        """Put actor and critics into training or evaluation mode; the slow copies stay in the latter."""
        self.actor.set_training_mode(mode)
        self.critics.train(mode)
        self.training = mode

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        data.update(
            lr_schedule=self._dummy_schedule,
            net_arch=self.net_arch,
            activation_fn=self.activation_fn,
            features_extractor_class=self.features_extractor_class,
            features_extractor_kwargs=self.features_extractor_kwargs,
            optimizer_class=self.optimizer_class,
            optimizer_kwargs=self.optimizer_kwargs,
            n_critics=self.n_critics,
        )
        return data


class SACDiscreteCnnPolicy(SACDiscretePolicy):
    """SACDiscretePolicy for images."""

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        *,
        features_extractor_class: type[BaseFeaturesExtractor] = NatureCNN,
        **kwargs: Any,
    ) -> None:
        kwargs |= {"features_extractor_class": features_extractor_class}
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)


class SACDiscreteMultiInputPolicy(SACDiscretePolicy):
    """SACDiscretePolicy for Dict observations."""

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        *,
        features_extractor_class: type[BaseFeaturesExtractor] = CombinedExtractor,
        **kwargs: Any,
    ) -> None:
        kwargs |= {"features_extractor_class": features_extractor_class}
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)


class SACDiscrete(SafeSave, OffPolicyAlgorithm):
    """Soft actor-critic for Discrete actions.

    :param policy: "MlpPolicy", "CnnPolicy", "MultiInputPolicy" or a subclass of SACDiscretePolicy
    :param env: environment with Discrete actions, or its id; None only when loading
    :param learning_rate: step size of all optimizers, or a schedule of the remaining progress (default 3e-4)
    :param buffer_size: transitions the replay buffer holds (default 1 000 000)
    :param learning_starts: environment steps with random actions before the first update (default 100)
    :param batch_size: transitions in a minibatch (default 64)
    :param tau: how far the slow critics move at each update (default 0.005)
    :param gamma: discount factor γ (default 0.99)
    :param train_freq: steps of every environment between two trainings, or (n, "step" | "episode") (default 1)
    :param gradient_steps: updates a training, -1 for as many as environment steps (default 1)
    :param actor_gradient: "exact" (default), "score_function" or "gumbel_softmax"; see the module's text
    :param gumbel_temperature: τ of "gumbel_softmax" (default 1)
    :param ent_coef: α, 0 for no entropy; "auto" to learn it (default), or "auto_0.1" to learn it from 0.1 on
    :param target_entropy: H̄ in nats, "auto" for 0.98 ln |A| (default)
    :param target_update_interval: updates between two moves of the slow critics (default 1)
    :param replay_buffer_class: class of the replay buffer, None for SB3's choice (default)
    :param replay_buffer_kwargs: its arguments
    :param optimize_memory_usage: SB3's leaner replay buffer (default False)
    :param n_steps: steps of the return before bootstrapping (default 1); the entropy of the steps between is left out
    :param stats_window_size: episodes in the logged means (default 100)
    :param tensorboard_log: folder of the tensorboard log, None for none (default)
    :param policy_kwargs: arguments of the policy; Adam is fused unless they name an optimizer
    :param verbose: 0 silent (default), 1 training information
    :param seed: seed of all random generators, None for a random one
    :param device: torch device (default "auto")
    :param _init_setup_model: build the networks now (SB3's loader passes False)
    :raises ValueError: unknown ``actor_gradient``, ``ent_coef`` or ``target_entropy``, or a number out of range
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": SACDiscretePolicy,
        "CnnPolicy": SACDiscreteCnnPolicy,
        "MultiInputPolicy": SACDiscreteMultiInputPolicy,
    }
    policy: SACDiscretePolicy
    log_ent_coef: th.Tensor

    def __init__(
        self,
        policy: str | type[SACDiscretePolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 3e-4,
        buffer_size: int = 1_000_000,
        learning_starts: int = 100,
        batch_size: int = 64,
        tau: float = 0.005,
        gamma: float = 0.99,
        train_freq: int | tuple[int, str] = 1,
        gradient_steps: int = 1,
        actor_gradient: ActorGradient = "exact",
        gumbel_temperature: float = 1.0,
        ent_coef: str | float = "auto",
        target_entropy: str | float = "auto",
        target_update_interval: int = 1,
        replay_buffer_class: type[ReplayBuffer] | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        optimize_memory_usage: bool = False,
        n_steps: int = 1,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        check_arguments(
            locals(), gumbel_temperature=Real(above=0), ent_coef=Real(0, text='"auto" or "auto_0.1"'),
            target_entropy=Real(text='"auto"'), actor_gradient=Choice("exact", "score_function", "gumbel_softmax"),
        )  # fmt: skip
        if isinstance(target_entropy, str) and target_entropy != "auto":
            raise ValueError(f'target_entropy={target_entropy!r} is unknown: give a number of nats or "auto"')
        _initial_ent_coef(ent_coef)
        super().__init__(
            policy,
            env,  # type: ignore[arg-type]
            learning_rate,
            buffer_size,
            learning_starts,
            batch_size,
            tau,
            gamma,
            train_freq,
            gradient_steps,
            replay_buffer_class=replay_buffer_class,
            replay_buffer_kwargs=replay_buffer_kwargs,
            optimize_memory_usage=optimize_memory_usage,
            n_steps=n_steps,
            policy_kwargs=policy_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            seed=seed,
            sde_support=False,
            supported_action_spaces=(spaces.Discrete,),
            support_multi_env=True,
        )
        self.actor_gradient: ActorGradient = actor_gradient
        self.gumbel_temperature = gumbel_temperature
        self.ent_coef = ent_coef
        self.target_entropy = target_entropy
        self.target_update_interval = target_update_interval
        if _init_setup_model:
            self._setup_model()

    @naming_memory("buffer_size")
    def _setup_model(self) -> None:
        check_zero_based(self.observation_space, self.action_space)
        with fused_adam(self), memory_as_given(self):
            super()._setup_model()
        initial, self._learns_ent_coef = _initial_ent_coef(self.ent_coef)
        self.log_ent_coef = th.full((1,), initial, device=self.device).log().requires_grad_(self._learns_ent_coef)  # ln α
        self.ent_coef_optimizer = th.optim.Adam([self.log_ent_coef], lr=self.lr_schedule(1)) if self._learns_ent_coef else None
        if self.target_entropy == "auto":
            self._target_entropy = 0.98 * float(np.log(self.action_space.n))  # type: ignore[attr-defined]  # §3.2
        else:
            self._target_entropy = float(self.target_entropy)

    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Update critics, actor and α on ``gradient_steps`` minibatches."""
        self.policy.set_training_mode(True)
        optimizers = [self.policy.actor_optimizer, self.policy.critic_optimizer]
        self._update_learning_rate(optimizers if self.ent_coef_optimizer is None else [*optimizers, self.ent_coef_optimizer])
        fast: list[th.Tensor] = list(self.policy.critics.parameters())
        slow: list[th.Tensor] = list(self.policy.critic_targets.parameters())
        statistics = list(zip(self.policy.critics.buffers(), self.policy.critic_targets.buffers(), strict=True))
        losses = []
        for _ in range(gradient_steps):
            data = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)  # type: ignore[union-attr]
            discounts = self.gamma if data.discounts is None else data.discounts  # [batch, 1] with n-step returns
            ent_coef = self.log_ent_coef.detach().exp()  # α

            with th.no_grad():
                next_log_pi = self.policy.logits(data.next_observations).log_softmax(dim=1)  # [batch, A]
                next_q = self.policy.target_q_values(data.next_observations)
                # V(s') = Σ_a π(a|s') [Q(s', a) − α ln π(a|s')], eq. (10)  [batch, 1]
                next_value = (next_log_pi.exp() * (next_q - ent_coef * next_log_pi)).sum(dim=1, keepdim=True)
                target = data.rewards + (1 - data.dones) * discounts * next_value
            all_q = th.stack(self.policy.q_values(data.observations))  # [critics, batch, A]
            chosen = all_q.gather(2, data.actions.long().expand(len(all_q), -1, -1))  # Q(s, a) [critics, batch, 1]
            critic_loss = (chosen - target).square().mean(dim=1).sum() / 2  # eq. (4)
            check_finite(
                critic_loss.detach(), "the critics' loss", observations=data.observations,
                next_observations=data.next_observations, rewards=data.rewards, network=self.policy,
            )  # fmt: skip
            self.policy.critic_optimizer.zero_grad()
            critic_loss.backward()
            self.policy.critic_optimizer.step()

            logits = self.policy.logits(data.observations)
            q = all_q.detach().amin(dim=0)  # [batch, A]
            loss = actor_loss(logits, q, ent_coef, self.actor_gradient, self.gumbel_temperature).mean()
            self.policy.actor_optimizer.zero_grad()
            loss.backward()
            self.policy.actor_optimizer.step()

            log_pi = logits.detach().log_softmax(dim=1)
            entropy = -(log_pi.exp() * log_pi).sum(dim=1).mean()  # H(π(·|s))
            if self.ent_coef_optimizer is not None:
                ent_coef_loss = self.log_ent_coef * (entropy - self._target_entropy)  # eq. (11)
                self.ent_coef_optimizer.zero_grad()
                ent_coef_loss.backward()
                self.ent_coef_optimizer.step()

            if self._n_updates % self.target_update_interval == 0:
                with th.no_grad():
                    th._foreach_lerp_(slow, fast, self.tau)
                for new, old in statistics:  # of batch normalisation, where a features extractor has it
                    old.copy_(new)
            self._n_updates += 1
            losses.append(th.stack([critic_loss.detach(), loss.detach(), entropy, ent_coef[0]]))

        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        names = ("critic_loss", "actor_loss", "entropy", "ent_coef")
        for name, mean in zip(names, th.stack(losses).mean(dim=0).tolist(), strict=True):
            self.logger.record(f"train/{name}", mean)

    def learn(
        self: SelfSACDiscrete,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str = "SACDiscrete",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfSACDiscrete:
        """Alternate steps and updates until ``total_timesteps``; arguments are OffPolicyAlgorithm's."""
        with naming_non_finite(self):
            return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        state_dicts = ["policy", "policy.actor_optimizer", "policy.critic_optimizer"]
        if self.ent_coef_optimizer is not None:
            state_dicts.append("ent_coef_optimizer")
        return state_dicts, ["log_ent_coef"]

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "ent_coef_optimizer", "log_ent_coef"]


def _initial_ent_coef(ent_coef: str | float) -> tuple[float, bool]:
    """Return the first α, and whether it is learnt."""
    learnt = isinstance(ent_coef, str) and ent_coef.startswith("auto")
    try:
        value = 1.0 if ent_coef == "auto" else float(str(ent_coef).removeprefix("auto_"))
    except ValueError:
        value = -1.0
    if not 0 <= value < float("inf") or (learnt and value == 0):  # what is learnt is ln α
        raise ValueError(
            f'ent_coef={ent_coef!r} must be a number of at least 0, "auto", or "auto_0.1" to learn it from 0.1 on (not from 0)'
        )
    return value, learnt
