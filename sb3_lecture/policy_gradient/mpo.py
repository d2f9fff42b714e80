"""MPO, maximum a posteriori policy optimisation (Abdolmaleki et al. 2018a, https://arxiv.org/abs/1806.06920, and 2018b,
https://arxiv.org/abs/1812.02256): improve the policy without parameters, then fit the parameters to it; both within KL balls.

    critic   J_Q = ½ E (Q(s, a) − r − γ E_{a'~π⁻} Q⁻(s', a'))²
    E-step   q(a|s) ∝ π⁻(a|s) exp(Q⁻(s, a)/η),  η such that E_s KL(q ‖ π⁻) = ε                        2018a, §4.2
    M-step   max_θ E_s Σ_a q(a|s) ln π_θ(a|s)   subject to   E_s KL(π⁻ ‖ π_θ) ≤ ε'                        2018a, §4.3

π⁻ and Q⁻ are copies that are renewed every ``target_update_interval`` updates. With Discrete actions all sums are exact.
In a Box π is a Gaussian, the sums are means over ``n_samples`` actions of π⁻, and the M-step is decoupled (2018b): one
likelihood and one bound for the mean (σ stays the old one), and one each for σ (the mean stays). The bounds of the M-step
are held by multipliers, which Adam lets grow while a KL is above its bound:

    J_π = −E_s Σ_a q(a|s) ln π_θ(a|s) + Σ_k α_k (KL_k − ε'_k),   min over θ, max over α_k = ln(1 + e^{x_k})

Choices and deviations: η is solved for in each minibatch, where the authors descend the dual; so KL(q ‖ π⁻) is ε, always.
The critic's target is an n-step return with an expectation at its end, not Retrace (``n_steps`` > 1 is as off-policy as
DQN's). A mean goes through a tanh, actions are clipped to the Box when they are played, and their value is asked for where
they were clipped; there is no penalty for actions outside. A KL is summed over dimensions. A time limit is bootstrapped
through.
"""

import math
from copy import deepcopy
from typing import Any, ClassVar, NamedTuple, TypeVar

import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy, ContinuousCritic
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, FlattenExtractor, NatureCNN
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, PyTorchObs, Schedule
from stable_baselines3.dqn.policies import QNetwork
from torch import nn
from torch.nn import functional as F

from sb3_lecture.common.buffers import memory_as_given
from sb3_lecture.common.checkpoint import SafeSave
from sb3_lecture.common.checks import Integer, Real, check_arguments, check_finite, naming_memory, naming_non_finite
from sb3_lecture.common.kl_bound import gaussian_kls, mean_kl, reweighted, solve_temperature
from sb3_lecture.common.optimizers import fused_adam
from sb3_lecture.common.spaces import check_zero_based

__all__ = ["MPO", "MPOPolicy", "m_step"]

SelfMPO = TypeVar("SelfMPO", bound="MPO")
LOG_STD_RANGE = (-10.0, 2.0)


class Gaussian(NamedTuple):
    """π(·|s) over a Box that is scaled to ±1.

    :param mean: μ, inside ±1, [batch, d]
    :param log_std: ln σ, [batch, d]
    """

    mean: th.Tensor
    log_std: th.Tensor

    def log_prob(self, actions: th.Tensor) -> th.Tensor:
        """Return ln π(a|s) of actions [batch, N, d], [batch, N]."""
        mean, log_std = self.mean.unsqueeze(1), self.log_std.unsqueeze(1)  # [batch, 1, d]
        return (-(((actions - mean) / log_std.exp()).square()) / 2 - log_std - math.log(2 * math.pi) / 2).sum(dim=2)

    def sample(self, n: int) -> th.Tensor:
        """Return n actions of each, [batch, n, d]."""
        shape = (self.mean.shape[0], n, self.mean.shape[1])
        return self.mean.unsqueeze(1) + self.log_std.exp().unsqueeze(1) * th.randn(shape, device=self.mean.device)


#: logits [batch, A] of Discrete actions
Distribution = Gaussian | th.Tensor


def m_step(old: Distribution, new: Distribution, actions: th.Tensor | None, q: th.Tensor) -> tuple[th.Tensor, list[th.Tensor]]:
    """The M-step's likelihood, and what is to be bounded.

    :param old: π⁻
    :param new: π_θ
    :param actions: where q is given, [batch, N, d]; None: all of Discrete ones
    :param q: the E-step's probabilities [batch, N]
    :return: −E_s Σ_a q ln π_θ, and the mean KLs: of the policy, or of its mean and of its deviation
    """
    if isinstance(old, Gaussian) and isinstance(new, Gaussian):
        assert actions is not None
        of_mean, of_std = gaussian_kls(old.mean, old.log_std, new.mean, new.log_std)
        log_pi = Gaussian(new.mean, old.log_std).log_prob(actions) + Gaussian(old.mean, new.log_std).log_prob(actions)
        return -(q * log_pi).sum(dim=1).mean(), [of_mean.mean(), of_std.mean()]
    assert isinstance(old, th.Tensor) and isinstance(new, th.Tensor)
    log_old, log_new = old.log_softmax(dim=1), new.log_softmax(dim=1)  # [batch, A]
    return -(q * log_new).sum(dim=1).mean(), [(log_old.exp() * (log_old - log_new)).sum(dim=1).mean()]


class MPOPolicy(BasePolicy):
    """An actor, critics, and copies of both, each a network of its own.

    :param observation_space: any that SB3's features extractors take
    :param action_space: Discrete or Box
    :param lr_schedule: step size of the optimizers
    :param net_arch: widths of the hidden layers (default [64, 64], none behind NatureCNN)
    :param activation_fn: activation between the layers (default ReLU)
    :param log_std_init: ln σ of an untrained Gaussian, in units of half the Box (default -0.7)
    :param features_extractor_class: what turns observations into vectors
    :param features_extractor_kwargs: its arguments
    :param normalize_images: divide image observations by 255 (default True)
    :param optimizer_class: optimizer (default Adam)
    :param optimizer_kwargs: its arguments
    :param n_critics: critics, the smallest value of which counts (default 1)
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        net_arch: list[int] | None = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        log_std_init: float = -0.7,
        features_extractor_class: type[BaseFeaturesExtractor] = FlattenExtractor,
        features_extractor_kwargs: dict[str, Any] | None = None,
        normalize_images: bool = True,
        optimizer_class: type[th.optim.Optimizer] = th.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        n_critics: int = 1,
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
            squash_output=isinstance(action_space, spaces.Box),  # actions are scaled to ±1 in here
        )
        if net_arch is None:
            net_arch = [] if features_extractor_class == NatureCNN else [64, 64]
        self.net_arch = net_arch
        self.activation_fn = activation_fn
        self.log_std_init = log_std_init
        self.n_critics = n_critics
        discrete = isinstance(action_space, spaces.Discrete)
        self.actor = self._make_net(int(action_space.n) if discrete else 2 * action_space.shape[0])  # type: ignore
        make_critic = (lambda: self._make_net(int(action_space.n))) if discrete else self._make_critic  # type: ignore
        self.critics = nn.ModuleList([make_critic() for _ in range(n_critics)])
        self.actor_target = deepcopy(self.actor).requires_grad_(False).train(False)
        self.critic_targets = deepcopy(self.critics).requires_grad_(False).train(False)
        self.actor_optimizer = self._make_optimizer(self.actor, lr_schedule)
        self.critic_optimizer = self._make_optimizer(self.critics, lr_schedule)

    def _make_net(self, n_outputs: int) -> QNetwork:
        """Make a network from observations to numbers; SB3's QNetwork is one, with a number an action."""
        arguments = {
            "observation_space": self.observation_space, "action_space": spaces.Discrete(n_outputs),
            "net_arch": self.net_arch, "activation_fn": self.activation_fn, "normalize_images": self.normalize_images,
        }  # fmt: skip
        return QNetwork(**self._update_features_extractor(arguments, features_extractor=None)).to(self.device)

    def _make_critic(self) -> ContinuousCritic:
        arguments = {
            "observation_space": self.observation_space, "action_space": self.action_space, "net_arch": self.net_arch,
            "activation_fn": self.activation_fn, "normalize_images": self.normalize_images, "n_critics": 1,
            "share_features_extractor": False,
        }  # fmt: skip
        return ContinuousCritic(**self._update_features_extractor(arguments, features_extractor=None)).to(self.device)

    def _make_optimizer(self, module: nn.Module, lr_schedule: Schedule) -> th.optim.Optimizer:
        return self.optimizer_class(module.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def distribution(self, obs: PyTorchObs, target: bool = False) -> Distribution:
        """Return π(·|s), or π⁻(·|s) of the copy."""
        out = (self.actor_target if target else self.actor)(obs)  # [batch, A] or [batch, 2 d]
        if isinstance(self.action_space, spaces.Discrete):
            return out
        mean, log_std = out.chunk(2, dim=1)
        return Gaussian(th.tanh(mean), (self.log_std_init + log_std).clamp(*LOG_STD_RANGE))

    def q_values(self, obs: PyTorchObs, actions: th.Tensor | None = None, target: bool = False) -> th.Tensor:
        """Return each critic's values of actions, [critics, batch, N].

        :param obs: observations [batch, …]
        :param actions: of a Box, [batch, N, d], taken where they are clipped to it; None: all of Discrete ones
        :param target: whether to ask the copies
        """
        critics: Any = self.critic_targets if target else self.critics
        if actions is None:
            return th.stack([critic(obs) for critic in critics])
        played = actions.clamp(-1.0, 1.0)
        values = []
        for critic in critics:
            features = critic.extract_features(obs, critic.features_extractor)  # [batch, F], once for all actions
            wide = features.unsqueeze(1).expand(-1, actions.shape[1], -1)
            values.append(critic.q_networks[0](th.cat([wide, played], dim=2)).squeeze(2))
        return th.stack(values)

    def forward(self, obs: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        """Draw actions, or take the likeliest; [batch] or [batch, d] inside ±1."""
        pi = self.distribution(obs)
        if isinstance(pi, Gaussian):
            return (pi.mean if deterministic else pi.sample(1)[:, 0]).clamp(-1.0, 1.0)
        return pi.argmax(dim=1) if deterministic else th.multinomial(pi.softmax(dim=1), 1).squeeze(1)

    def _predict(self, observation: PyTorchObs, deterministic: bool = False) -> th.Tensor:
        return self(observation, deterministic)

    def update_targets(self) -> None:
        """Renew the copies, statistics of normalisations with them."""
        self.actor_target.load_state_dict(self.actor.state_dict())
        self.critic_targets.load_state_dict(self.critics.state_dict())

    def set_training_mode(self, mode: bool) -> None:
        """Put actor and critics into training or evaluation mode; the copies stay in the latter."""
        self.actor.set_training_mode(mode)
        self.critics.train(mode)
        self.training = mode

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        names = "net_arch activation_fn log_std_init features_extractor_class features_extractor_kwargs optimizer_class"
        data |= {name: getattr(self, name) for name in [*names.split(), "optimizer_kwargs", "n_critics"]}
        data.pop("squash_output", None)
        return data | {"lr_schedule": self._dummy_schedule}


class MPOCnnPolicy(MPOPolicy):
    """MPOPolicy for images."""

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *,
        features_extractor_class: type[BaseFeaturesExtractor] = NatureCNN,
        **kwargs: Any,
    ) -> None:
        kwargs |= {"features_extractor_class": features_extractor_class}
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)


class MPOMultiInputPolicy(MPOPolicy):
    """MPOPolicy for Dict observations."""

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        *,
        features_extractor_class: type[BaseFeaturesExtractor] = CombinedExtractor,
        **kwargs: Any,
    ) -> None:
        kwargs |= {"features_extractor_class": features_extractor_class}
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)


class MPO(SafeSave, OffPolicyAlgorithm):
    """Maximum a posteriori policy optimisation, for Discrete actions and Boxes.

    :param policy: "MlpPolicy", "CnnPolicy", "MultiInputPolicy" or a subclass of MPOPolicy
    :param env: environment with Discrete actions or a Box of one axis, or its id; None only when loading
    :param learning_rate: step size of actor and critics, or a schedule of the remaining progress (default 3e-4)
    :param buffer_size: transitions the replay buffer holds (default 1 000 000)
    :param learning_starts: environment steps with random actions before the first update (default 100)
    :param batch_size: transitions in a minibatch (default 256)
    :param gamma: discount factor γ (default 0.99)
    :param train_freq: steps of every environment between two trainings, or (n, "step" | "episode") (default 1)
    :param gradient_steps: updates a training, -1 for as many as environment steps (default 1)
    :param n_samples: N, actions of a Box that stand for π⁻ (default 20)
    :param epsilon: ε, nats, how far q may be from π⁻ (default 0.1)
    :param epsilon_mean: nats, how far π may be from π⁻: Discrete ones, or the mean of a Gaussian (default 0.0025)
    :param epsilon_std: nats, how far the deviation of a Gaussian may be from the old one (default 1e-6)
    :param multiplier_learning_rate: step size of the α's, before their softplus (default 0.01)
    :param multiplier_init: α at the start, of the policy or the mean (default 10)
    :param multiplier_init_std: α at the start of the deviation (default 1000)
    :param target_update_interval: updates between two renewals of the copies (default 100)
    :param max_grad_norm: largest norm of each network's gradient (default 40)
    :param replay_buffer_class: class of the replay buffer, None for SB3's choice (default)
    :param replay_buffer_kwargs: its arguments
    :param optimize_memory_usage: SB3's leaner replay buffer (default False)
    :param n_steps: steps of the return before bootstrapping (default 1)
    :param stats_window_size: episodes in the logged means (default 100)
    :param tensorboard_log: folder of the tensorboard log, None for none (default)
    :param policy_kwargs: arguments of the policy; Adam is fused unless they name an optimizer
    :param verbose: 0 silent (default), 1 training information
    :param seed: seed of all random generators, None for a random one
    :param device: torch device (default "auto")
    :param _init_setup_model: build the networks now (SB3's loader passes False)
    :raises ValueError: a number out of range, or a space of another kind
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MPOPolicy,
        "CnnPolicy": MPOCnnPolicy,
        "MultiInputPolicy": MPOMultiInputPolicy,
    }
    policy: MPOPolicy
    raw_multipliers: th.Tensor

    def __init__(
        self,
        policy: str | type[MPOPolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 3e-4,
        buffer_size: int = 1_000_000,
        learning_starts: int = 100,
        batch_size: int = 256,
        gamma: float = 0.99,
        train_freq: int | tuple[int, str] = 1,
        gradient_steps: int = 1,
        n_samples: int = 20,
        epsilon: float = 0.1,
        epsilon_mean: float = 0.0025,
        epsilon_std: float = 1e-6,
        multiplier_learning_rate: float = 0.01,
        multiplier_init: float = 10.0,
        multiplier_init_std: float = 1000.0,
        target_update_interval: int = 100,
        max_grad_norm: float = 40.0,
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
        positive = Real(above=0)
        check_arguments(
            locals(), n_samples=Integer(1), epsilon=positive, epsilon_mean=positive, epsilon_std=positive,
            multiplier_learning_rate=positive, multiplier_init=positive, multiplier_init_std=positive,
        )  # fmt: skip
        super().__init__(
            policy,
            env,  # type: ignore[arg-type]
            learning_rate,
            buffer_size,
            learning_starts,
            batch_size,
            gamma=gamma,
            train_freq=train_freq,
            gradient_steps=gradient_steps,
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
            supported_action_spaces=(spaces.Discrete, spaces.Box),
            support_multi_env=True,
        )
        self.n_samples = n_samples
        self.epsilon, self.epsilon_mean, self.epsilon_std = epsilon, epsilon_mean, epsilon_std
        self.multiplier_learning_rate = multiplier_learning_rate
        self.multiplier_init, self.multiplier_init_std = multiplier_init, multiplier_init_std
        self.target_update_interval = target_update_interval
        self.max_grad_norm = max_grad_norm
        self.eta = 1.0  # η of the last minibatch, where the next one's search begins
        if _init_setup_model:
            self._setup_model()

    @naming_memory("buffer_size")
    def _setup_model(self) -> None:
        check_zero_based(self.observation_space, self.action_space)
        if isinstance(self.action_space, spaces.Box) and len(self.action_space.shape) != 1:
            raise ValueError(f"the action space {self.action_space} must have one axis: gymnasium.wrappers.TransformAction")
        with fused_adam(self), memory_as_given(self):
            super()._setup_model()
        first, second = (
            math.log(math.expm1(alpha)) if alpha < 30 else alpha for alpha in (self.multiplier_init, self.multiplier_init_std)
        )  # x of softplus(x)
        discrete = isinstance(self.action_space, spaces.Discrete)
        self.bounds = [self.epsilon_mean] if discrete else [self.epsilon_mean, self.epsilon_std]  # ε'_k
        self.raw_multipliers = th.tensor([first] if discrete else [first, second], device=self.device, requires_grad=True)
        self.multiplier_optimizer = th.optim.Adam([self.raw_multipliers], lr=self.multiplier_learning_rate)  # x_k

    @naming_memory("n_samples", "batch_size")
    def train(self, gradient_steps: int, batch_size: int = 64) -> None:
        """Update critics, q, actor and multipliers on ``gradient_steps`` minibatches."""
        policy = self.policy
        policy.set_training_mode(True)
        self._update_learning_rate([policy.actor_optimizer, policy.critic_optimizer])
        figures = []
        for _ in range(gradient_steps):
            data = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)  # type: ignore[union-attr]
            discounts = self.gamma if data.discounts is None else data.discounts  # [batch, 1] with n-step returns

            critic_loss = self._critic_loss(data, discounts)
            check_finite(
                critic_loss.detach(), "the critics' loss", observations=data.observations,
                next_observations=data.next_observations, rewards=data.rewards, network=policy,
            )  # fmt: skip
            self._descend(policy.critic_optimizer, policy.critics, critic_loss)

            with th.no_grad():  # E-step
                old = policy.distribution(data.observations, target=True)
                actions, log_prior = self._candidates(old)  # [batch, N, d], ln π⁻ [batch, N]
                values = policy.q_values(data.observations, actions, target=True).amin(dim=0)  # [batch, N]
                self.eta = solve_temperature(values, log_prior, float(self.epsilon), self.eta)
                q = reweighted(values, log_prior, self.eta)  # [batch, N]

            loss, kls = m_step(old, policy.distribution(data.observations), actions, q)  # M-step
            alphas = F.softplus(self.raw_multipliers.detach())  # α_k
            actor_loss = loss + sum(alpha * kl for alpha, kl in zip(alphas, kls, strict=True))
            self._descend(policy.actor_optimizer, policy.actor, actor_loss)
            over = th.stack([kl.detach() - bound for kl, bound in zip(kls, self.bounds, strict=True)])  # KL_k − ε'_k
            self.multiplier_optimizer.zero_grad()
            (-(F.softplus(self.raw_multipliers) * over).sum()).backward()  # larger α where a KL is above its bound
            self.multiplier_optimizer.step()

            self._n_updates += 1
            if self._n_updates % self.target_update_interval == 0:
                policy.update_targets()
            rows = [
                critic_loss.detach(),
                loss.detach(),
                th.tensor(self.eta),
                mean_kl(q, log_prior),
                *(kl.detach() for kl in kls),
            ]
            figures.append([float(figure) for figure in [*rows, *alphas]])

        kinds = ["policy"] if len(self.bounds) == 1 else ["mean", "std"]
        names = ["critic_loss", "actor_loss", "eta", "kl_q", *(f"kl_{k}" for k in kinds), *(f"alpha_{k}" for k in kinds)]
        for name, mean in zip(names, th.tensor(figures).mean(dim=0).tolist(), strict=True):
            self.logger.record(f"train/{name}", mean)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")

    def _critic_loss(self, data: Any, discounts: Any) -> th.Tensor:
        """J_Q: half the squared error against r + γ E_{a'~π⁻} Q⁻(s', a'), summed over critics."""
        with th.no_grad():
            following = self.policy.distribution(data.next_observations, target=True)
            actions, log_prior = self._candidates(following)
            values = self.policy.q_values(data.next_observations, actions, target=True).amin(dim=0)  # [batch, N]
            next_value = (log_prior.exp() * values).sum(dim=1, keepdim=True)  # [batch, 1]
            target = data.rewards + (1 - data.dones) * discounts * next_value  # [batch, 1]
        if isinstance(self.action_space, spaces.Discrete):
            all_q = self.policy.q_values(data.observations)  # [critics, batch, A]
            chosen = all_q.gather(2, data.actions.long().expand(len(all_q), -1, -1))  # [critics, batch, 1]
        else:
            chosen = self.policy.q_values(data.observations, data.actions.unsqueeze(1))  # [critics, batch, 1]
        return (chosen - target).square().mean(dim=1).sum() / 2

    def _candidates(self, pi: Distribution) -> tuple[th.Tensor | None, th.Tensor]:
        """The actions that stand for a policy, [batch, N, d], and the logarithm of what each counts, [batch, N]."""
        if isinstance(pi, Gaussian):
            actions = pi.sample(int(self.n_samples))
            return actions, th.full(actions.shape[:2], -math.log(self.n_samples), device=actions.device)
        return None, pi.log_softmax(dim=1)

    def _descend(self, optimizer: th.optim.Optimizer, module: nn.Module, loss: th.Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(module.parameters(), self.max_grad_norm)
        optimizer.step()

    def learn(
        self: SelfMPO,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str = "MPO",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfMPO:
        """Alternate steps and updates until ``total_timesteps``; arguments are OffPolicyAlgorithm's."""
        with naming_non_finite(self):
            return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        state_dicts = ["policy", "policy.actor_optimizer", "policy.critic_optimizer", "multiplier_optimizer"]
        return state_dicts, ["raw_multipliers"]

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "multiplier_optimizer", "raw_multipliers"]
