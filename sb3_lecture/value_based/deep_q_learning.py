"""Deep Q-learning and what has been added to it since, each a switch of one loop.

With every switch off it is SB3's DQN (Mnih et al. 2015, https://doi.org/10.1038/nature14236): for a transition
(s, a, r, s') from the memory, with γᵏ for the k ≤ ``n_steps`` steps that r sums over, it descends Huber's loss of

    δ = r + γᵏ max_a' q(s', a'; w⁻) − q(s, a; w)

| switch | what changes | source |
| --- | --- | --- |
| ``double`` | q(s', argmax_a' q(s', a'; w); w⁻) | van Hasselt et al. 2016, eq. 4, https://arxiv.org/abs/1509.06461 |
| ``dueling`` | q = v + A − mean A, in two streams | Wang et al. 2016, eq. 9, https://arxiv.org/abs/1511.06581 |
| ``prioritized`` | P(i) ∝ (abs(δ_i) + ε)^α, weighted back | Schaul et al. 2016, https://arxiv.org/abs/1511.05952 |
| ``n_steps`` | Σ γⁱ r before the bootstrap | Sutton & Barto 2018, §7.1; Hessel et al. 2018 |
| ``noisy`` | weights with learned noise, in the place of ε | Fortunato et al. 2018, https://arxiv.org/abs/1706.10295 |
| ``munchausen`` | r + α τ ln π(a, s), a soft maximum at s' | Vieillard et al. 2020, eq. 2, https://arxiv.org/abs/2007.14430 |
| ``distribution`` | the law of the return in the place of its mean | see below |

- "categorical": probabilities of fixed atoms z_i; the law of r + γ z at the next action is projected onto them, the loss is
  its cross-entropy (Bellemare et al. 2017, algorithm 1, https://arxiv.org/abs/1707.06887);
- "quantile": N numbers, the τ̂_i = (i + ½) / N quantiles, by the quantile Huber loss (Dabney et al. 2018, algorithm 1,
  https://arxiv.org/abs/1710.10044);
- "implicit-quantile": a network of (s, a, τ), at fractions τ drawn anew for each minibatch (Dabney et al. 2018b, eq. 3,
  https://arxiv.org/abs/1806.06923).

A variant overrides ``row_losses``, the loss of each transition and the error that its priority is made of. Choices where
papers leave them open, or differ: one coin an env (ε-greedy); noise anew for each step of each env, and for each pass of a
minibatch; priorities by |δ| of the means, for categorical laws by the Kullback–Leibler divergence (Hessel et al.); implicit
quantiles act by the mean over evenly spread fractions, not drawn ones, so that evaluation is one policy; with ``n_steps`` > 1
Munchausen's term is that of the first action alone.

Speed: a plain network of linear layers and ReLUs acts by NumPy, and where no law is learned it learns by NumPy too: the same
loss with its gradient written out (``plain_step.py``), in a third of torch's time where the net is small.
"""

import warnings
from collections.abc import Iterable
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import LinearSchedule, get_parameters_by_name, obs_as_tensor, polyak_update
from torch.nn import functional as F

from sb3_lecture.common.buffers import memory_as_given
from sb3_lecture.common.checkpoint import SafeSave
from sb3_lecture.common.checks import FLAG, Choice, Integer, Real, check_arguments, check_finite, naming_memory
from sb3_lecture.common.distributional import project, quantile_huber_loss
from sb3_lecture.common.munchausen import munchausen_bonus, soft_value
from sb3_lecture.common.optimizers import FUSED_ADAM, policy_defaults, without_denormals
from sb3_lecture.common.prioritized_buffer import PrioritizedReplayBuffer
from sb3_lecture.common.spaces import check_zero_based
from sb3_lecture.value_based.networks import (
    DISTRIBUTIONS,
    CnnPolicy,
    Distribution,
    MlpPolicy,
    MultiInputPolicy,
    ValueNetwork,
    ValuePolicy,
)
from sb3_lecture.value_based.plain_net import Layers, clip_gradients, evaluate_layers, linear_layers
from sb3_lecture.value_based.plain_step import PlainStep, descend_plain
from sb3_lecture.value_based.transitions import Transitions, pick, uniform_samples

__all__ = ["DeepQLearning"]

SelfDeepQLearning = TypeVar("SelfDeepQLearning", bound="DeepQLearning")
Array = np.ndarray[Any, Any]


class DeepQLearning(SafeSave, OffPolicyAlgorithm):
    """DQN with switches; see the module's first lines for what each does.

    :param policy: "MlpPolicy", "CnnPolicy", "MultiInputPolicy" or a policy class
    :param env: environment with Discrete actions, or its id; None only when loading
    :param learning_rate: step size of Adam, or a schedule of the remaining progress (default 1e-4)
    :param buffer_size: transitions the memory holds (default 1 000 000)
    :param learning_starts: environment steps with random actions before the first update (default 100)
    :param batch_size: transitions in a minibatch (default 32)
    :param tau: how far the target network moves when refreshed, 1 for a full copy (default)
    :param gamma: discount factor γ (default 0.99)
    :param train_freq: steps of every environment between updates, or ``(n, "episode")`` (default 4)
    :param gradient_steps: gradient steps in an update, -1 for as many as environment steps (default 1)
    :param replay_buffer_class: class of the memory, None to choose by the switches (default)
    :param replay_buffer_kwargs: its arguments, such as ``alpha``, ``beta``, ``epsilon`` of the priorities
    :param optimize_memory_usage: keep each observation once (default False)
    :param n_steps: steps of the return before bootstrapping (default 1)
    :param target_update_interval: environment steps between two refreshes of the target network (default 10 000)
    :param exploration_fraction: share of the training over which ε falls (default 0.1)
    :param exploration_initial_eps: first ε (default 1.0)
    :param exploration_final_eps: last ε (default 0.05); with ``noisy`` ε is 0 from the first update on
    :param max_grad_norm: largest norm of the gradient (default 10)
    :param double: the online network chooses the target's action (default False)
    :param dueling: value and advantages in two streams (default False)
    :param prioritized: prioritized replay, β rises to 1 as training ends (default False)
    :param noisy: noisy layers explore (default False)
    :param munchausen: Munchausen's term and a soft maximum (default False); there is no maximum for ``double`` then
    :param distribution: "none" (default), "categorical", "quantile" or "implicit-quantile"; their sizes are ``policy_kwargs``
    :param n_tau: fractions drawn for the estimates of implicit quantiles, N (default 64)
    :param n_tau_prime: and for their targets, N' (default 64)
    :param kappa: κ of the quantile Huber loss, 0 for the quantile loss (default 1.0)
    :param munchausen_alpha: α (default 0.9)
    :param munchausen_tau: τ, the temperature (default 0.03)
    :param munchausen_clip: l₀, the least that τ ln π counts for (default -1.0)
    :param stats_window_size: episodes in the logged means (default 100)
    :param tensorboard_log: folder of the tensorboard log, None for none (default)
    :param policy_kwargs: arguments of the policy, see ``networks.ValuePolicy``; Adam is fused unless they name an optimizer
    :param verbose: 0 silent (default), 1 training information
    :param seed: seed of all random generators, None for a random one
    :param device: torch device (default "auto")
    :param _init_setup_model: build the networks now (SB3's loader passes False)
    :raises ValueError: a number out of range, ``double`` with ``munchausen``, or a memory without priorities where they are
        asked for
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }
    policy: ValuePolicy
    q_net: ValueNetwork
    q_net_target: ValueNetwork
    exploration_schedule: Schedule
    batch_norm_stats: list[th.Tensor]
    batch_norm_stats_target: list[th.Tensor]

    def __init__(
        self,
        policy: str | type[ValuePolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 1e-4,
        buffer_size: int = 1_000_000,
        learning_starts: int = 100,
        batch_size: int = 32,
        tau: float = 1.0,
        gamma: float = 0.99,
        train_freq: int | tuple[int, str] = 4,
        gradient_steps: int = 1,
        replay_buffer_class: type[ReplayBuffer] | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        optimize_memory_usage: bool = False,
        n_steps: int = 1,
        target_update_interval: int = 10_000,
        exploration_fraction: float = 0.1,
        exploration_initial_eps: float = 1.0,
        exploration_final_eps: float = 0.05,
        max_grad_norm: float = 10.0,
        double: bool = False,
        dueling: bool = False,
        prioritized: bool = False,
        noisy: bool = False,
        munchausen: bool = False,
        distribution: Distribution = "none",
        n_tau: int = 64,
        n_tau_prime: int = 64,
        kappa: float = 1.0,
        munchausen_alpha: float = 0.9,
        munchausen_tau: float = 0.03,
        munchausen_clip: float = -1.0,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        check_arguments(
            locals(), double=FLAG, dueling=FLAG, prioritized=FLAG, noisy=FLAG, munchausen=FLAG,
            distribution=Choice(*DISTRIBUTIONS), n_tau=Integer(1), n_tau_prime=Integer(1), kappa=Real(0),
            munchausen_alpha=Real(0), munchausen_tau=Real(above=0), munchausen_clip=Real(high=0),
        )  # fmt: skip
        if double and munchausen:
            raise ValueError("double=True chooses the action of a maximum, munchausen=True takes none: leave one of them out")
        super().__init__(
            policy,
            env,  # type: ignore[arg-type]
            learning_rate,
            buffer_size=buffer_size,
            learning_starts=learning_starts,
            batch_size=batch_size,
            tau=tau,
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
            supported_action_spaces=(spaces.Discrete,),
            support_multi_env=True,
        )
        self.target_update_interval = target_update_interval
        self.exploration_fraction = exploration_fraction
        self.exploration_initial_eps = exploration_initial_eps
        self.exploration_final_eps = exploration_final_eps
        self.exploration_rate = 0.0 if noisy else exploration_initial_eps
        self.max_grad_norm = max_grad_norm
        self.double, self.dueling, self.prioritized, self.noisy = double, dueling, prioritized, noisy
        self.munchausen, self.distribution = munchausen, distribution
        self.n_tau, self.n_tau_prime, self.kappa = n_tau, n_tau_prime, kappa
        self.munchausen_alpha, self.munchausen_tau = munchausen_alpha, munchausen_tau
        self.munchausen_clip = munchausen_clip
        self._n_calls = 0  # steps of the vectorised environment
        self._warned = False  # that a return left the atoms
        self._layers: Layers | None = None  # NumPy views of the network's weights, where it is plain
        self._plain: PlainStep | None = None  # and its gradient steps, where its outputs are action values
        if _init_setup_model:
            self._setup_model()

    @naming_memory("buffer_size")
    def _setup_model(self) -> None:
        check_zero_based(self.observation_space, self.action_space)
        if self.n_envs > self.target_update_interval:
            warnings.warn(
                f"The number of environments used is greater than target_update_interval={self.target_update_interval}: "
                f"one step of all {self.n_envs} is the shortest interval there is"
            )
        n_steps = self.n_steps
        self._make_memory()
        self.n_steps = 1  # SB3 would ask for a memory of its own
        try:
            with policy_defaults(self, **self._policy_defaults()), memory_as_given(self):
                super()._setup_model()
        finally:
            self.n_steps = n_steps
        self.q_net, self.q_net_target = self.policy.q_net, self.policy.q_net_target
        self.batch_norm_stats = get_parameters_by_name(self.q_net, ["running_"])
        self.batch_norm_stats_target = get_parameters_by_name(self.q_net_target, ["running_"])
        self.exploration_schedule = LinearSchedule(
            self.exploration_initial_eps, self.exploration_final_eps, self.exploration_fraction
        )

    def _policy_defaults(self) -> dict[str, Any]:
        """What the switches ask of the policy; ``policy_kwargs`` come before it."""
        switches = {"dueling": self.dueling, "noisy": self.noisy, "distribution": self.distribution}
        return switches if "optimizer_class" in self.policy_kwargs else switches | {"optimizer_kwargs": FUSED_ADAM}

    def _make_memory(self) -> None:
        """Make the memory that the switches ask for, unless there is one or SB3's own will do."""
        cls = self.replay_buffer_class
        ours = cls is None and (self.prioritized or self.n_steps > 1 or self.optimize_memory_usage)
        if ours:
            cls = PrioritizedReplayBuffer
        if self.prioritized and not issubclass(cls, PrioritizedReplayBuffer):  # type: ignore[arg-type]
            raise ValueError(f"prioritized=True needs a PrioritizedReplayBuffer, replay_buffer_class={cls!r} is none")
        if self.replay_buffer is None and cls is not None and issubclass(cls, PrioritizedReplayBuffer):
            self.replay_buffer = cls(
                self.buffer_size,
                self.observation_space,
                self.action_space,
                device=self.device,
                n_envs=self.n_envs,
                optimize_memory_usage=self.optimize_memory_usage,
                **self._memory_defaults() | self.replay_buffer_kwargs,
            )

    def _memory_defaults(self) -> dict[str, Any]:
        """What the switches ask of the memory; ``replay_buffer_kwargs`` come before it."""
        defaults: dict[str, Any] = {"n_steps": self.n_steps, "gamma": self.gamma}
        return defaults if self.prioritized else defaults | {"alpha": 0.0}  # drawn uniformly

    def learn(
        self: SelfDeepQLearning,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfDeepQLearning:
        """Alternate ``train_freq`` steps and ``gradient_steps`` updates until ``total_timesteps``.

        :param total_timesteps: environment steps
        :param callback: called at every step; stops the training by returning False
        :param log_interval: episodes between two lines of the log
        :param tb_log_name: name of the tensorboard run, None for the class's
        :param reset_num_timesteps: start counting (and the logs) anew
        :param progress_bar: show a progress bar
        :return: the model itself
        """
        name = type(self).__name__ if tb_log_name is None else tb_log_name
        return super().learn(total_timesteps, callback, log_interval, name, reset_num_timesteps, progress_bar)

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        self._look_for_plain()
        saving = self.optimize_memory_usage
        if isinstance(self.replay_buffer, PrioritizedReplayBuffer):
            self.optimize_memory_usage = False  # SB3 would end the running episodes by death; ``_take_up`` has cut them
        try:
            return super()._setup_learn(*args, **kwargs)
        finally:
            self.optimize_memory_usage = saving

    def _look_for_plain(self) -> None:
        """Learn and act by NumPy where network, optimizer and loss allow it."""
        cls, plain = type(self), self.q_net.distribution == "none" and self.q_net.head is None
        if cls.row_losses is not DeepQLearning.row_losses or cls.scalar_losses is not DeepQLearning.scalar_losses:
            plain = False  # a variant's own loss
        self._plain = None
        if plain and PlainStep.fits(self.q_net, self.policy.optimizer):
            self._plain = PlainStep(self.q_net, self.policy.optimizer)
        self._layers = linear_layers(self.q_net) if self.q_net.head is None else None

    def _take_up(self, reset_num_timesteps: bool) -> None:
        super()._take_up(reset_num_timesteps)
        begins_anew = reset_num_timesteps or self._last_obs is None
        if begins_anew and isinstance(self.replay_buffer, PrioritizedReplayBuffer):
            self.replay_buffer.cut()

    # ------------------------------------------------------------------ acting

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[Array, Array]:
        """ε-greedy or noisy actions [n_envs], random ones before ``learning_starts``."""
        epsilon = 1.0 if self.num_timesteps < learning_starts else self.exploration_rate
        coins = np.random.random(n_envs)  # [n_envs], one an env
        explore = coins < epsilon
        if explore.all():
            actions = self._random_actions(coins, epsilon)
        else:
            actions = self._explore(self._last_obs).argmax(axis=1)
            if explore.any():
                actions = np.where(explore, self._random_actions(coins, epsilon), actions)
        return actions, actions

    def _random_actions(self, coins: Array, epsilon: float) -> Array:
        """Uniform actions from the coins themselves: those below ε are uniform in [0, ε), the others' actions are not used."""
        n_actions = int(self.action_space.n)  # type: ignore[attr-defined]
        return np.minimum(coins / max(epsilon, 1e-12) * n_actions, n_actions - 1).astype(np.int64)

    def _explore(self, observations: Any) -> Array:
        """Action values [n_envs, A] to act by while learning, with new noise for each env."""
        if self._layers is not None:
            outputs = th.from_numpy(evaluate_layers(self._layers, observations))
            return self.q_net.values(outputs.reshape(len(outputs), self.q_net.n_actions, -1)).numpy()
        self.q_net.resample_noise(batch=self.n_envs)
        with th.no_grad():
            return self.q_net(obs_as_tensor(observations, self.device)).cpu().numpy()

    def _on_step(self) -> None:
        """Refresh the target network when due, lower ε."""
        self._n_calls += 1
        if self._n_calls % max(self.target_update_interval // self.n_envs, 1) == 0:
            polyak_update(self.q_net.parameters(), self.q_net_target.parameters(), self.tau)  # w⁻ ← τ w + (1 − τ) w⁻
            polyak_update(self.batch_norm_stats, self.batch_norm_stats_target, 1.0)
        self.exploration_rate = 0.0 if self.noisy else self.exploration_schedule(self._current_progress_remaining)
        self.logger.record("rollout/exploration_rate", self.exploration_rate)

    def predict(
        self,
        observation: Array | dict[str, Array],
        state: tuple[Array, ...] | None = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
    ) -> tuple[Array, tuple[Array, ...] | None]:
        """Greedy actions, by the mean of noisy layers; or exploring ones, one coin and one noise an observation.

        :param observation: one observation or a batch of them
        :param state: passed through (no memory)
        :param episode_start: ignored (no memory)
        :param deterministic: no exploration
        :return: actions [batch] (no axis for a single observation), the state
        """
        actions, state = self.policy.predict(observation, state, episode_start, deterministic)
        if not deterministic and self.exploration_rate > 0.0:
            coins = np.random.random(np.shape(actions))
            actions = np.where(coins < self.exploration_rate, self._random_actions(coins, self.exploration_rate), actions)
        return actions, state

    # ------------------------------------------------------------------ learning

    @without_denormals()
    def train(self, gradient_steps: int, batch_size: int = 32) -> None:
        """Descend the loss of minibatches, and renew their priorities.

        :param gradient_steps: how many minibatches
        :param batch_size: transitions in each
        """
        self._update_learning_rate(self.policy.optimizer)
        if self._plain is not None and not self._plain.attached():
            self._look_for_plain()
        if self._plain is None:
            total = self._descend_torch(gradient_steps, batch_size)
        else:
            total = descend_plain(self, self._plain, gradient_steps, batch_size)
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", total / max(gradient_steps, 1))

    def _descend_torch(self, gradient_steps: int, batch_size: int) -> float:
        """Take gradient steps by torch, for any network and loss; return the sum of the losses."""
        self.policy.set_training_mode(True)
        parameters = list(self.q_net.parameters())
        total = 0.0
        for _ in range(gradient_steps):
            batch = self.draw(batch_size)
            losses, errors = self.row_losses(batch)  # [B], [B]
            loss = (losses if batch.weights is None else batch.weights * losses).mean()
            self.descend(loss, parameters, batch)
            self.renew_priorities(batch, errors)
            total += loss.item()
        return total

    def draw(self, batch_size: int) -> Transitions:
        """Draw transitions from the memory, by their priorities where it has them."""
        memory = self.replay_buffer
        assert memory is not None
        if self.prioritized:
            memory.anneal(self._current_progress_remaining)  # type: ignore[attr-defined]
        data: Any = uniform_samples(memory, batch_size, self._vec_normalize_env)
        if data is None:
            data = memory.sample(batch_size, env=self._vec_normalize_env)
        gamma = self.gamma if data.discounts is None else data.discounts
        return Transitions(
            data.observations,
            data.actions.long()[:, 0],
            data.rewards[:, 0],
            (gamma * (1.0 - data.dones))[:, 0],  # dones leave time limits out
            data.next_observations,
            data.weights[:, 0] if self.prioritized else None,
            data.indices if self.prioritized else None,
        )

    def descend(self, loss: th.Tensor, parameters: Iterable[th.nn.Parameter], batch: Transitions) -> None:
        """Take one step down the gradient, clipped to ``max_grad_norm``."""
        parameters = list(parameters)
        for parameter in parameters:  # optimizer.zero_grad(), in a tenth of its time
            parameter.grad = None
        loss.backward()
        norm = clip_gradients(parameters, self.max_grad_norm)
        check_finite(
            norm, "the gradient's norm", observations=batch.observations, next_observations=batch.next_observations,
            rewards=batch.rewards, network=self.q_net, target_network=self.q_net_target,
        )  # fmt: skip
        self.policy.optimizer.step()

    def renew_priorities(self, batch: Transitions, errors: th.Tensor) -> None:
        """Give the rows of a batch the priorities that their errors [B] say."""
        if batch.indices is not None:
            assert isinstance(self.replay_buffer, PrioritizedReplayBuffer)
            self.replay_buffer.update_priorities(batch.indices, errors.cpu().numpy())

    def row_losses(self, batch: Transitions) -> tuple[th.Tensor, th.Tensor]:
        """Return each transition's loss, with its gradient, and the error that its priority is made of, [B] and [B]."""
        if self.q_net.distribution == "none":
            return self.scalar_losses(batch)
        return self.categorical_losses(batch) if self.q_net.distribution == "categorical" else self.quantile_losses(batch)

    def scalar_losses(self, batch: Transitions) -> tuple[th.Tensor, th.Tensor]:
        """Huber's loss of δ, and |δ|."""
        with th.no_grad():
            self.q_net_target.resample_noise()
            next_q = self.q_net_target(batch.next_observations)  # q(s', ·; w⁻) [B, A]
            if self.munchausen:
                next_value = soft_value(next_q, self.munchausen_tau)
            else:
                next_value = pick(next_q, self.next_actions(batch, next_q))
            target = batch.rewards + self.bonus(batch) + batch.discounts * next_value  # [B]
        self.q_net.resample_noise()
        q = pick(self.q_net(batch.observations), batch.actions)  # q(s, a; w) [B]
        return F.smooth_l1_loss(q, target, reduction="none"), (target - q).detach().abs()

    def categorical_losses(self, batch: Transitions) -> tuple[th.Tensor, th.Tensor]:
        """Cross-entropy of the projected target and the prediction, and their Kullback–Leibler divergence."""
        atoms = self.q_net.atoms  # z [m]
        with th.no_grad():
            self.q_net_target.resample_noise()
            outputs = self.q_net_target.outputs(batch.next_observations)  # [B, A, m]
            next_q = self.q_net_target.values(outputs)  # [B, A]
            p = outputs.softmax(dim=-1)  # p(s', ·; w⁻)
            support = atoms.expand_as(p)
            if self.munchausen:  # the mixture over all next actions, each with its entropy
                log_pi = (next_q / self.munchausen_tau).log_softmax(dim=-1)[..., None]  # [B, A, 1]
                p = (log_pi.exp() * p).flatten(1)  # [B, A m]
                support = (support - self.munchausen_tau * log_pi).flatten(1)
            else:
                best = self.next_actions(batch, next_q)
                p, support = pick(p, best), pick(support, best)  # [B, m]
            support = (batch.rewards + self.bonus(batch))[:, None] + batch.discounts[:, None] * support  # T z
            target = project(support, p, atoms)  # Φ T p [B, m]
            self.watch_range((p * support).sum(dim=1))
        self.q_net.resample_noise()
        log_p = pick(self.q_net.outputs(batch.observations), batch.actions).log_softmax(dim=-1)  # ln p(s, a; w) [B, m]
        losses = -(target * log_p).sum(dim=1)
        return losses, (losses.detach() + th.xlogy(target, target).sum(dim=1)).clamp(min=0.0)

    def quantile_losses(self, batch: Transitions) -> tuple[th.Tensor, th.Tensor]:
        """Quantile Huber loss, and the distance of the means; of fixed or of implicit quantiles."""
        implicit = self.q_net.distribution == "implicit-quantile"
        n = len(batch.actions)
        with th.no_grad():
            self.q_net_target.resample_noise()
            drawn = th.rand(n, self.n_tau_prime, device=self.device) if implicit else None  # τ' ~ U(0, 1)
            outputs = self.q_net_target.outputs(batch.next_observations, drawn)  # [B, A, N']
            if self.munchausen:
                log_pi = (outputs.mean(dim=-1) / self.munchausen_tau).log_softmax(dim=-1)[..., None]  # [B, A, 1]
                targets = (log_pi.exp() * (outputs - self.munchausen_tau * log_pi)).sum(dim=1)  # [B, N']
            else:
                own = self.q_net_target(batch.next_observations) if implicit and not self.double else outputs.mean(dim=-1)
                targets = pick(outputs, self.next_actions(batch, own))
            targets = (batch.rewards + self.bonus(batch))[:, None] + batch.discounts[:, None] * targets
        self.q_net.resample_noise()
        fractions = th.rand(n, self.n_tau, device=self.device) if implicit else None  # τ ~ U(0, 1)
        quantiles = pick(self.q_net.outputs(batch.observations, fractions), batch.actions)  # [B, N]
        losses = quantile_huber_loss(quantiles, self.q_net.fractions if fractions is None else fractions, targets, self.kappa)
        return losses, (targets.mean(dim=1) - quantiles.detach().mean(dim=1)).abs()

    def next_actions(self, batch: Transitions, next_q: th.Tensor) -> th.Tensor:
        """Return a' [B]: the best by the target network's values [B, A], or with ``double`` by the online network's."""
        if self.double:
            self.q_net.resample_noise()
            next_q = self.q_net(batch.next_observations)
        return next_q.argmax(dim=1)

    def bonus(self, batch: Transitions) -> th.Tensor | float:
        """Return Munchausen's term [B], 0 without."""
        if not self.munchausen:
            return 0.0
        q = self.q_net_target(batch.observations)
        return munchausen_bonus(q, batch.actions, self.munchausen_tau, self.munchausen_alpha, self.munchausen_clip)

    def watch_range(self, means: th.Tensor) -> None:
        """Say once that returns leave the atoms: they cannot be told apart there."""
        if self._warned:
            return
        low, high = (bound.item() for bound in means.aminmax())
        slack = 1e-3 * (self.q_net.v_max - self.q_net.v_min)
        if low < self.q_net.v_min - slack or high > self.q_net.v_max + slack:
            self._warned = True
            warnings.warn(
                f"expected returns from {low:.4g} to {high:.4g} were met, the atoms reach from v_min={self.q_net.v_min:g} to "
                f"v_max={self.q_net.v_max:g}: set v_min and v_max so that they hold all discounted returns"
            )

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "q_net", "q_net_target", "_layers", "_plain"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []
