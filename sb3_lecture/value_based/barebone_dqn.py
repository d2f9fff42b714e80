"""Deep Q-learning, from the lecture's first loop to DQN, one switch at a time.

The first loop takes Q-learning (Watkins 1989; Sutton & Barto 2018, eq. 6.8), puts a network where the table was, and
descends the squared Bellman error of each transition (s, a, r, s') as it happens, no gradient through the target (a
semi-gradient, §9.3):

    L(w) = (r + γ max_a' q(s', a'; w) − q(s, a; w))²

Consecutive transitions are alike and the target moves with every step, so it is unstable. Three switches mend it:

- ``replay=True``: minibatches drawn at random from a memory of transitions (Lin 1992; Mnih et al. 2015, Algorithm 1,
  https://doi.org/10.1038/nature14236), which breaks the likeness;
- ``target_network=True``: the target is computed with w⁻, a copy of w refreshed every ``target_update_interval`` steps;
- ``double=True``: the online network chooses a', the target network rates it (van Hasselt et al. 2016, eq. 4,
  https://arxiv.org/abs/1509.06461), which stops the maximum from picking its own errors.

With ``replay`` and ``target_network`` this is SB3's DQN (which has no double Q), ``n_steps`` included, but for the loss, the
square instead of Huber's function, which the papers' clipped error amounts to, and for SB3's defaults ``train_freq=4`` and
``learning_starts=100``. With all three it is double DQN. Gradients are clipped as in SB3, actions are ε-greedy with one coin
per environment, and a time limit is bootstrapped through.

Speed: the minibatches of several gradient steps are drawn in one call; as the target network stands still meanwhile, their
targets are computed in one forward pass; Adam runs fused; where no gradient is needed, a plain network is evaluated by NumPy,
through views of its own weights.
"""

import warnings
from collections.abc import Iterator
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, PyTorchObs, Schedule, TrainFreq, TrainFrequencyUnit
from stable_baselines3.common.utils import LinearSchedule, get_parameters_by_name, obs_as_tensor, polyak_update
from stable_baselines3.dqn.policies import CnnPolicy, DQNPolicy, MlpPolicy, MultiInputPolicy, QNetwork
from torch.nn import functional as F

from sb3_lecture.common.buffers import memory_as_given
from sb3_lecture.common.checkpoint import SafeSave
from sb3_lecture.common.checks import FLAG, check_arguments, check_finite, naming_memory
from sb3_lecture.common.optimizers import fused_adam, without_denormals
from sb3_lecture.common.spaces import check_zero_based
from sb3_lecture.value_based.plain_net import Layers, clip_gradients, evaluate_layers, linear_layers

__all__ = ["BareboneDQN"]

SelfBareboneDQN = TypeVar("SelfBareboneDQN", bound="BareboneDQN")
Array = np.ndarray[Any, Any]
MAX_ROWS = 4096  # transitions drawn from the memory in one call


class BareboneDQN(SafeSave, OffPolicyAlgorithm):
    """Q-learning with a network: the plain loop by default, double DQN with every switch on.

    :param policy: "MlpPolicy", "CnnPolicy", "MultiInputPolicy" or a policy class
    :param env: environment with Discrete actions, or its id; None only when loading
    :param learning_rate: step size of the optimizer, or a schedule of the remaining progress (default 1e-4)
    :param replay: learn from a memory of transitions, not only from the latest (default False)
    :param target_network: compute targets with a slow copy of the network (default False)
    :param double: let the online network choose the target's action; needs ``target_network`` (default False)
    :param buffer_size: transitions the memory holds; unused without ``replay`` (default 1 000 000)
    :param learning_starts: environment steps with random actions before the first update (default 0)
    :param batch_size: transitions in a minibatch; without ``replay`` all those since the last update are one (default 32)
    :param tau: how far the target network moves when refreshed, 1 for a full copy (default)
    :param gamma: discount factor γ (default 0.99)
    :param train_freq: steps of every environment between updates, or ``(1, "episode")`` with ``replay`` (default 1)
    :param gradient_steps: gradient steps in an update, -1 for as many as environment steps (default 1)
    :param target_update_interval: environment steps between two refreshes of the target network (default 10 000)
    :param exploration_fraction: share of the training over which ε falls (default 0.1)
    :param exploration_initial_eps: first ε (default 1.0)
    :param exploration_final_eps: last ε (default 0.05)
    :param max_grad_norm: largest norm of the gradient (default 10)
    :param replay_buffer_class: replay buffer class, None for SB3's own (default); unused without ``replay``
    :param replay_buffer_kwargs: arguments of the replay buffer
    :param optimize_memory_usage: SB3's memory-saving replay buffer (default False)
    :param n_steps: steps of the return before bootstrapping; more than 1 needs ``replay`` (default 1)
    :param stats_window_size: episodes in the logged means (default 100)
    :param tensorboard_log: folder of the tensorboard log, None for none (default)
    :param policy_kwargs: arguments of the policy; Adam is fused unless they name an optimizer
    :param verbose: 0 silent (default), 1 training information
    :param seed: seed of all random generators, None for a random one
    :param device: torch device (default "auto")
    :param _init_setup_model: build the networks now (SB3's loader passes False)
    :raises ValueError: ``double`` without ``target_network``; without ``replay``, a ``train_freq`` counted in episodes or
        ``n_steps`` above 1; a number out of range
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpPolicy,
        "CnnPolicy": CnnPolicy,
        "MultiInputPolicy": MultiInputPolicy,
    }
    q_net: QNetwork
    q_net_target: QNetwork
    policy: DQNPolicy
    exploration_schedule: Schedule
    batch_norm_stats: list[th.Tensor]
    batch_norm_stats_target: list[th.Tensor]

    def __init__(
        self,
        policy: str | type[DQNPolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 1e-4,
        replay: bool = False,
        target_network: bool = False,
        double: bool = False,
        buffer_size: int = 1_000_000,
        learning_starts: int = 0,
        batch_size: int = 32,
        tau: float = 1.0,
        gamma: float = 0.99,
        train_freq: int | tuple[int, str] = 1,
        gradient_steps: int = 1,
        target_update_interval: int = 10_000,
        exploration_fraction: float = 0.1,
        exploration_initial_eps: float = 1.0,
        exploration_final_eps: float = 0.05,
        max_grad_norm: float = 10.0,
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
        check_arguments(locals(), replay=FLAG, target_network=FLAG, double=FLAG)
        if double and not target_network:
            raise ValueError("double=True needs a second network to rate the action: pass target_network=True as well")
        if n_steps > 1 and not replay:
            raise ValueError(f"n_steps={n_steps} needs a memory of the steps between: pass replay=True as well")
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
        self.replay = replay
        self.target_network = target_network
        self.double = double
        self.target_update_interval = target_update_interval
        self.exploration_fraction = exploration_fraction
        self.exploration_initial_eps = exploration_initial_eps
        self.exploration_final_eps = exploration_final_eps
        self.exploration_rate = exploration_initial_eps
        self.max_grad_norm = max_grad_norm
        self._n_calls = 0  # steps of the vectorised environment
        self._layers: Layers | None = None  # NumPy views of the networks' weights, where they allow it
        self._target_layers: Layers | None = None
        if _init_setup_model:
            self._setup_model()

    @naming_memory("buffer_size", "train_freq")
    def _setup_model(self) -> None:
        check_zero_based(self.observation_space, self.action_space)
        self._convert_train_freq()
        assert isinstance(self.train_freq, TrainFreq)
        if self.target_network and self.n_envs > self.target_update_interval:
            warnings.warn(
                f"The number of environments used is greater than target_update_interval={self.target_update_interval}: "
                f"one step of all {self.n_envs} is the shortest interval there is"
            )
        if not self.replay and self.replay_buffer is None:
            if self.train_freq.unit is not TrainFrequencyUnit.STEP:
                raise ValueError(f"train_freq={tuple(self.train_freq)} counts episodes: without replay pass a number of steps")
            kind = DictReplayBuffer if isinstance(self.observation_space, spaces.Dict) else ReplayBuffer
            # no memory: room for the transitions since the last update, and no more
            self.replay_buffer = kind(
                self.train_freq.frequency * self.n_envs,
                self.observation_space,  # type: ignore[arg-type]
                self.action_space,
                device=self.device,
                n_envs=self.n_envs,
            )
        with fused_adam(self), memory_as_given(self):
            super()._setup_model()
        self.q_net, self.q_net_target = self.policy.q_net, self.policy.q_net_target
        self.batch_norm_stats = get_parameters_by_name(self.q_net, ["running_"])
        self.batch_norm_stats_target = get_parameters_by_name(self.q_net_target, ["running_"])
        self.exploration_schedule = LinearSchedule(
            self.exploration_initial_eps, self.exploration_final_eps, self.exploration_fraction
        )

    def learn(
        self: SelfBareboneDQN,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str = "BareboneDQN",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfBareboneDQN:
        """Alternate ``train_freq`` steps and ``gradient_steps`` updates until ``total_timesteps``.

        :param total_timesteps: environment steps
        :param callback: called at every step; stops the training by returning False
        :param log_interval: episodes between two lines of the log
        :param tb_log_name: name of the tensorboard run
        :param reset_num_timesteps: start counting (and the logs) anew
        :param progress_bar: show a progress bar
        :return: the model itself
        """
        return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        self._layers, self._target_layers = linear_layers(self.q_net), linear_layers(self.q_net_target)
        return super()._setup_learn(*args, **kwargs)

    # ------------------------------------------------------------------ acting

    def _sample_action(
        self, learning_starts: int, action_noise: ActionNoise | None = None, n_envs: int = 1
    ) -> tuple[Array, Array]:
        """ε-greedy actions [n_envs], one coin per environment; random ones before ``learning_starts``."""
        epsilon = 1.0 if self.num_timesteps < learning_starts else self.exploration_rate
        coins = np.random.random(n_envs)  # [n_envs]
        explore = coins < epsilon
        if explore.all():
            actions = self._random_actions(coins, epsilon)
        else:
            actions = self._q_values(self._last_obs).argmax(axis=1)
            if explore.any():
                actions = np.where(explore, self._random_actions(coins, epsilon), actions)
        return actions, actions

    def _random_actions(self, coins: Array, epsilon: float) -> Array:
        """Uniform actions from the coins themselves: those below ε are uniform in [0, ε), the others' actions are not used."""
        n_actions = int(self.action_space.n)  # type: ignore[attr-defined]
        return np.minimum(coins / max(epsilon, 1e-12) * n_actions, n_actions - 1).astype(np.int64)

    def _q_values(self, observations: Any) -> Array:
        """q(s, ·; w) of a batch of observations, [batch, n_actions]."""
        if self._layers is not None:
            return evaluate_layers(self._layers, observations)
        with th.no_grad():
            return self.q_net(obs_as_tensor(observations, self.device)).cpu().numpy()

    def _on_step(self) -> None:
        """Refresh the target network when due, lower ε."""
        self._n_calls += 1
        if self.target_network and self._n_calls % max(self.target_update_interval // self.n_envs, 1) == 0:
            polyak_update(self.q_net.parameters(), self.q_net_target.parameters(), self.tau)  # w⁻ ← τ w + (1 − τ) w⁻
            polyak_update(self.batch_norm_stats, self.batch_norm_stats_target, 1.0)
        self.exploration_rate = self.exploration_schedule(self._current_progress_remaining)
        self.logger.record("rollout/exploration_rate", self.exploration_rate)

    def predict(
        self,
        observation: Array | dict[str, Array],
        state: tuple[Array, ...] | None = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
    ) -> tuple[Array, tuple[Array, ...] | None]:
        """Greedy actions, or ε-greedy ones with one coin per observation.

        :param observation: one observation or a batch of them
        :param state: passed through (no memory)
        :param episode_start: ignored (no memory)
        :param deterministic: no exploration
        :return: actions [batch] (no axis for a single observation), the state
        """
        actions, state = self.policy.predict(observation, state, episode_start, deterministic=True)
        if not deterministic:
            coins = np.random.random(np.shape(actions))
            actions = np.where(coins < self.exploration_rate, self._random_actions(coins, self.exploration_rate), actions)
        return actions, state

    # ------------------------------------------------------------------ learning

    @without_denormals()
    def train(self, gradient_steps: int, batch_size: int = 32) -> None:
        """Descend the squared Bellman error.

        :param gradient_steps: how many gradient steps
        :param batch_size: transitions in each, drawn from the memory; ignored without ``replay``
        """
        if self._layers is None:  # a plain network has neither dropout nor batch statistics
            self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        parameters = list(self.q_net.parameters())
        losses = []
        for minibatch in self._minibatches(gradient_steps, batch_size):
            loss = self.bellman_error(*minibatch)
            for parameter in parameters:  # optimizer.zero_grad(), in a tenth of its time
                parameter.grad = None
            loss.backward()
            norm = clip_gradients(parameters, self.max_grad_norm)
            observations, _, rewards, _, next_observations, _ = minibatch
            check_finite(
                norm, "the gradient's norm", observations=observations, next_observations=next_observations, rewards=rewards,
                network=self.q_net, target_network=self.q_net_target,
            )  # fmt: skip
            self.policy.optimizer.step()
            losses.append(loss.detach())
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", th.stack(losses).mean().item())

    def bellman_error(
        self,
        observations: PyTorchObs,
        actions: th.Tensor,
        rewards: th.Tensor,
        discounts: th.Tensor,
        next_observations: PyTorchObs,
        next_target_q: th.Tensor | None = None,
    ) -> th.Tensor:
        """Mean squared Bellman error of a batch of transitions; its gradient flows through q(s, a; w) alone.

        :param observations: s [batch, …]
        :param actions: a, int64 [batch, 1]
        :param rewards: r [batch, 1]
        :param discounts: γ, or 0 where s' is terminal [batch, 1]; a time limit keeps γ
        :param next_observations: s' [batch, …]
        :param next_target_q: q(s', ·; w⁻) of the target network [batch, n_actions], None without one
        :return: scalar
        """
        with th.no_grad():
            if next_target_q is None:
                next_q = self.q_net(next_observations).amax(dim=1, keepdim=True)  # max_a' q(s', a'; w) [batch, 1]
            elif self.double:
                best = self.q_net(next_observations).argmax(dim=1, keepdim=True)  # a' = argmax q(s', ·; w)
                next_q = next_target_q.gather(1, best)  # q(s', a'; w⁻), van Hasselt et al. eq. (4)
            else:
                next_q = next_target_q.amax(dim=1, keepdim=True)  # max_a' q(s', a'; w⁻)
            target = rewards + discounts * next_q  # eq. (6.8)
        return F.mse_loss(self.q_net(observations).gather(1, actions), target)

    def _minibatches(self, gradient_steps: int, batch_size: int) -> Iterator[tuple[Any, ...]]:
        """Arguments of ``bellman_error``, ``gradient_steps`` times."""
        if not self.replay:
            batch = self._with_targets(*self._latest_transitions())
            for _ in range(gradient_steps):
                yield batch
            return
        assert self.replay_buffer is not None
        while gradient_steps > 0:
            n_batches = min(gradient_steps, max(MAX_ROWS // batch_size, 1))
            gradient_steps -= n_batches
            data = self.replay_buffer.sample(n_batches * batch_size, env=self._vec_normalize_env)
            gamma = data.discounts if data.discounts is not None else self.gamma  # γ^n from an n-step buffer
            discounts = gamma * (1.0 - data.dones)  # dones leave time limits out
            arguments = self._with_targets(data.observations, data.actions, data.rewards, discounts, data.next_observations)
            if n_batches == 1:
                yield arguments
                continue
            for i in range(0, n_batches * batch_size, batch_size):
                yield tuple(_rows(argument, slice(i, i + batch_size)) for argument in arguments)

    def _with_targets(
        self, observations: Any, actions: th.Tensor, rewards: th.Tensor, discounts: th.Tensor, next_observations: Any
    ) -> tuple[Any, ...]:
        """Add what stands still during an update: the target network's q(s', ·; w⁻)."""
        next_target_q = None
        if self.target_network and self._target_layers is not None:
            next_target_q = th.from_numpy(evaluate_layers(self._target_layers, next_observations.numpy()))
        elif self.target_network:
            with th.no_grad():
                next_target_q = self.q_net_target(next_observations)
        return observations, actions.long(), rewards, discounts, next_observations, next_target_q

    def _latest_transitions(self) -> tuple[Any, th.Tensor, th.Tensor, th.Tensor, Any]:
        """Every transition since the last update (the whole of the small buffer), each once [train_freq * n_envs, …]."""
        buffer, env = self.replay_buffer, self._vec_normalize_env
        assert buffer is not None
        n = buffer.size()

        def flat(stored: Array) -> Array:
            return stored[:n].reshape(n * buffer.n_envs, *stored.shape[2:]).copy()

        def tensors(stored: Any) -> Any:
            parts = {key: flat(part) for key, part in stored.items()} if isinstance(stored, dict) else flat(stored)
            return obs_as_tensor(buffer._normalize_obs(parts, env), self.device)

        def column(stored: Array) -> th.Tensor:
            return th.as_tensor(flat(stored).reshape(-1, 1), device=self.device)

        rewards = column(buffer._normalize_reward(buffer.rewards, env))
        discounts = self.gamma * (1.0 - column(buffer.dones * (1 - buffer.timeouts)))
        return tensors(buffer.observations), column(buffer.actions), rewards, discounts, tensors(buffer.next_observations)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "q_net", "q_net_target", "_layers", "_target_layers"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []


def _rows(tensors: Any, rows: slice) -> Any:
    """Some rows of a tensor, of each tensor of a dict, or of nothing."""
    if isinstance(tensors, dict):
        return {key: value[rows] for key, value in tensors.items()}
    return None if tensors is None else tensors[rows]
