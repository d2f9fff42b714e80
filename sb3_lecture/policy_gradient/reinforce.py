"""REINFORCE: Monte Carlo policy gradient (Williams 1992, https://doi.org/10.1007/BF00992696).

The policy gradient theorem (Sutton & Barto 2018, eq. 13.5) says that J(θ) = v_π(s_0) climbs along E[Σ_t ∇ln π(A_t|S_t)
Ψ_t]. REINFORCE samples whole episodes with the current policy and takes one ascent step on the mean over ``n_episodes`` of
them. What stands for Ψ_t is the lecture's choice, each with the same expectation (up to γ^t, below); the second has less
variance than the first, and a baseline lowers it further where it is near v_π(S_t):

- ``returns="total"``: the return of the whole episode, Ψ_t = G_0;
- ``returns="reward_to_go"``: the return that follows the action, Ψ_t = G_t (eq. 13.8), for no action changes the past;
- ``baseline="mean"``: Ψ_t minus the mean return of the *other* episodes of the batch, which makes it exactly unbiased; one
  number for all steps, which adds variance where their values differ much (an example is in the docs);
- ``baseline="value"``: Ψ_t minus a learnt V(S_t) (eq. 13.11).

Deviations and choices:

- γ^t: eq. (13.8) in its discounted form (p. 328, box) weighs step t by γ^t. Nearly all practice drops the factor, for it
  silences all but the first steps of a long episode, and so does the default here; ``discount_gradient=True`` puts it back,
  and the estimate is then unbiased for ∇v_π(s_0) also when γ < 1. ``returns="total"`` needs no factor: G_0 is discounted
  already.
- ``normalize_returns`` standardises Ψ over the batch: a common trick that gives up unbiasedness for a steady step size.
- Time limits: a truncated episode goes on behind its last reward. With the value baseline that remainder is bootstrapped,
  γ V(s_T) joins the last reward; without one nothing is known of it, and the rewards are counted as they are.
- Several environments: a batch is the first ``n_episodes`` episodes *started*, not finished, else short episodes would be
  over-represented. Environments that wait for the last episodes go on stepping, uncounted, and are reset before the next
  batch.
- The step is the optimizer's (Adam by default), the value net takes the same number of steps on its own squared error.
"""

from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.on_policy_algorithm import OnPolicyAlgorithm
from stable_baselines3.common.policies import ActorCriticCnnPolicy, ActorCriticPolicy, BasePolicy, MultiInputActorCriticPolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import explained_variance, obs_as_tensor
from stable_baselines3.common.vec_env import VecEnv
from torch.nn import functional as F

from sb3_lecture.common.buffers import EpisodeBuffer
from sb3_lecture.common.checkpoint import SafeSave
from sb3_lecture.common.checks import (
    FLAG,
    Choice,
    Integer,
    Real,
    check_arguments,
    check_finite,
    naming_memory,
    naming_non_finite,
)
from sb3_lecture.common.optimizers import fused_adam
from sb3_lecture.common.returns import discounted_returns, leave_one_out_means, powers_of_discount, returns_at_start
from sb3_lecture.common.spaces import check_zero_based

__all__ = ["REINFORCE"]

SelfREINFORCE = TypeVar("SelfREINFORCE", bound="REINFORCE")
Array = np.ndarray[Any, Any]


class REINFORCE(SafeSave, OnPolicyAlgorithm):
    """Monte Carlo policy gradient, with the lecture's returns and baselines as switches.

    Works with Discrete, MultiDiscrete, MultiBinary and Box actions, with MLP, CNN and Dict policies, and with several
    environments. Episodes must end: give an endless environment a time limit.

    :param policy: "MlpPolicy", "CnnPolicy", "MultiInputPolicy" or a policy class; its value half is used by the value baseline
    :param env: environment, or its id; None only when loading
    :param learning_rate: step size of the optimizer, or a schedule of the remaining progress (default 1e-3)
    :param n_episodes: episodes a gradient step is estimated from (default 8)
    :param gamma: discount factor γ (default 0.99)
    :param returns: "total" (G_0) or "reward_to_go" (G_t, default)
    :param baseline: None, "mean" (of the other episodes' returns) or "value" (learnt V(s), default)
    :param normalize_returns: standardise the weights of ∇ln π over the batch (default False)
    :param discount_gradient: weigh step t by γ^t, the exact gradient of the discounted value (default False)
    :param ent_coef: weight of the policy's entropy in the objective (default 0)
    :param vf_coef: weight of the value baseline's squared error in the loss (default 0.5)
    :param max_grad_norm: largest norm of the gradient, None for no clipping (default)
    :param use_sde: state-dependent exploration for Box actions (default False)
    :param sde_sample_freq: steps between two draws of its noise, -1 for one a batch (default)
    :param stats_window_size: episodes in the logged means (default 100)
    :param tensorboard_log: folder of the tensorboard log, None for none (default)
    :param policy_kwargs: arguments of the policy; Adam is fused unless they name an optimizer
    :param verbose: 0 silent (default), 1 training information
    :param seed: seed of all random generators, None for a random one
    :param device: torch device (default "auto")
    :param _init_setup_model: build the networks now (SB3's loader passes False)
    :raises ValueError: unknown ``returns`` or ``baseline``, a number out of range, one episode with the mean baseline
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": ActorCriticPolicy,
        "CnnPolicy": ActorCriticCnnPolicy,
        "MultiInputPolicy": MultiInputActorCriticPolicy,
    }
    rollout_buffer: EpisodeBuffer  # type: ignore[assignment]

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 1e-3,
        n_episodes: int = 8,
        gamma: float = 0.99,
        returns: Literal["total", "reward_to_go"] = "reward_to_go",
        baseline: Literal["mean", "value"] | None = "value",
        normalize_returns: bool = False,
        discount_gradient: bool = False,
        ent_coef: float = 0.0,
        vf_coef: float = 0.5,
        max_grad_norm: float | None = None,
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        check_arguments(
            locals(), n_episodes=Integer(1), max_grad_norm=Real(above=0, infinite=True, none=True), normalize_returns=FLAG,
            returns=Choice("total", "reward_to_go"), baseline=Choice(None, "mean", "value"), discount_gradient=FLAG,
        )  # fmt: skip
        if n_episodes < 2 and baseline == "mean":  # it is taken over the other episodes
            raise ValueError(f"n_episodes={n_episodes} is too small for baseline={baseline!r}: use 2 or more")
        super().__init__(
            policy,
            env,  # type: ignore[arg-type]
            learning_rate=learning_rate,
            n_steps=1024,  # first size of the episode buffer, which grows
            gamma=gamma,
            gae_lambda=1.0,
            ent_coef=ent_coef,
            vf_coef=vf_coef,
            max_grad_norm=max_grad_norm,  # type: ignore[arg-type]
            use_sde=use_sde,
            sde_sample_freq=sde_sample_freq,
            rollout_buffer_class=EpisodeBuffer,  # type: ignore[arg-type]
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=False,
            supported_action_spaces=(spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary),
        )
        self.n_episodes = n_episodes
        self.returns = returns
        self.baseline = baseline
        self.normalize_returns = normalize_returns
        self.discount_gradient = discount_gradient
        if _init_setup_model:
            self._setup_model()

    @naming_memory("n_episodes")
    def _setup_model(self) -> None:
        check_zero_based(self.observation_space, self.action_space)
        with fused_adam(self, eps=1e-5):  # SB3's ε for actor-critics
            super()._setup_model()

    def learn(
        self: SelfREINFORCE,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 10,
        tb_log_name: str = "REINFORCE",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfREINFORCE:
        """Alternate a batch of episodes and a gradient step until ``total_timesteps``; the last batch is completed.

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

    def collect_rollouts(
        self,
        env: VecEnv,
        callback: BaseCallback,
        rollout_buffer: EpisodeBuffer,  # type: ignore[override]
        n_rollout_steps: int,
    ) -> bool:
        """Play the batch: the first ``n_episodes`` episodes that start, each to its end.

        :param env: training environments
        :param callback: called at every step
        :param rollout_buffer: the episode buffer to fill
        :param n_rollout_steps: ignored: episodes count, not steps
        :return: False if the callback stopped the training
        """
        self.policy.set_training_mode(False)
        if not np.asarray(self._last_episode_starts).all():  # an uncounted episode of the last batch's policy is under way
            self._last_obs = env.reset()  # type: ignore[assignment]
            self._last_episode_starts = np.ones(env.num_envs, dtype=bool)
        rollout_buffer.reset()
        if self.use_sde:
            self.policy.reset_noise(env.num_envs)
        callback.on_rollout_start()

        n_started = min(self.n_episodes, env.num_envs)
        counted = np.arange(env.num_envs) < n_started  # [n_envs]: is the env playing an episode of the batch?
        n_steps = 0
        while counted.any():
            if self.use_sde and self.sde_sample_freq > 0 and n_steps % self.sde_sample_freq == 0:
                self.policy.reset_noise(env.num_envs)
            with th.no_grad():  # only the actor's half: V(s) is computed for the whole batch at once in train()
                obs_tensor = obs_as_tensor(self._last_obs, self.device)  # type: ignore[arg-type]
                actions = self.policy.get_distribution(obs_tensor).sample().cpu().numpy()
            actions = actions.reshape(env.num_envs, *self.action_space.shape)  # type: ignore[misc]
            env_actions = actions
            if isinstance(self.action_space, spaces.Box):
                if self.policy.squash_output:
                    env_actions = self.policy.unscale_action(actions)
                else:
                    env_actions = np.clip(actions, self.action_space.low, self.action_space.high)
            new_obs, rewards, dones, infos = env.step(env_actions)
            self.num_timesteps += env.num_envs
            n_steps += 1

            callback.update_locals(locals())
            if not callback.on_step():
                return False
            self._update_info_buffer(infos, dones)

            rollout_buffer.add(self._last_obs, actions, rewards, self._last_episode_starts, dones, counted)  # type: ignore[arg-type]
            for i in np.flatnonzero(dones & counted):
                if infos[i].get("TimeLimit.truncated", False):
                    rollout_buffer.add_truncation(int(i), infos[i]["terminal_observation"])
                counted[i] = n_started < self.n_episodes  # begin another episode of the batch, or wait
                n_started += int(counted[i])
            self._last_obs = new_obs  # type: ignore[assignment]
            self._last_episode_starts = dones

        callback.update_locals(locals())
        callback.on_rollout_end()
        return True

    def train(self) -> None:
        """One gradient step on the batch."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        buffer = self.rollout_buffer
        observations, actions = buffer.observation_batch(), buffer.action_batch()
        values = None
        if self.baseline == "value":
            values, log_prob, entropy = self.policy.evaluate_actions(observations, actions)
            values = values.flatten()  # V(S_t) [N]
        else:
            distribution = self.policy.get_distribution(observations)  # type: ignore[arg-type]
            log_prob, entropy = distribution.log_prob(actions), distribution.entropy()  # [N]

        returns, weights = self.compute_weights(values)  # G_t [N] and Ψ_t [N]
        # eq. (13.8), (13.11): the mean over the episodes of Σ_t ∇ln π(A_t|S_t) Ψ_t, as a loss to descend
        policy_loss = -(weights * log_prob).sum() / self.n_episodes
        loss = policy_loss
        if self.ent_coef != 0.0:
            entropy = -log_prob if entropy is None else entropy  # no closed form for squashed actions
            loss = loss - self.ent_coef * entropy.sum() / self.n_episodes
        if values is not None:
            value_loss = F.mse_loss(values, returns)
            loss = loss + self.vf_coef * value_loss
            self.logger.record("train/value_loss", value_loss.item())
            self.logger.record(
                "train/explained_variance", explained_variance(values.detach().cpu().numpy(), returns.cpu().numpy())
            )

        check_finite(
            loss.detach(), "the loss",
            observations=observations, rewards=buffer.rewards[: buffer.pos], network=self.policy,
        )  # fmt: skip
        self.policy.optimizer.zero_grad()
        loss.backward()
        if self.max_grad_norm is not None:
            th.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
        self.policy.optimizer.step()

        self._n_updates += 1
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/policy_loss", policy_loss.item())
        if entropy is not None:
            self.logger.record("train/entropy_loss", -entropy.mean().item())
        if hasattr(self.policy, "log_std"):
            self.logger.record("train/std", th.exp(self.policy.log_std).mean().item())

    def compute_weights(self, values: th.Tensor | None) -> tuple[th.Tensor, th.Tensor]:
        """Returns of the batch and what multiplies ∇ln π.

        :param values: V(S_t) of the counted steps for the value baseline [N], else None
        :return: the rewards to go G_t [N], the target of V; and the weights Ψ_t [N], no gradient through either
        """
        buffer = self.rollout_buffer
        rewards, dones, starts, counted = (
            a[: buffer.pos] for a in (buffer.rewards, buffer.dones, buffer.starts, buffer.counted)
        )
        if self.baseline == "value" and buffer.truncations:
            rewards = rewards.copy()
            for row, i, last_observation in buffer.truncations:
                with th.no_grad():
                    value = self.policy.predict_values(self.policy.obs_to_tensor(last_observation)[0])
                rewards[row, i] += self.gamma * value.item()  # a time limit is no death: γ V(s_T) stands for the rest
        discounts = np.where(dones, 0.0, self.gamma)  # [T, n_envs]
        to_go = discounted_returns(rewards, discounts, np.zeros(buffer.n_envs))  # G_t, eq. (3.9) [T, n_envs]
        factor = np.ones(int(counted.sum()))  # [N]
        if self.discount_gradient:
            factor = powers_of_discount(starts, self.gamma)[counted]  # γ^t
        if self.returns == "total":
            weights = returns_at_start(to_go, starts)[counted]  # G_0
        else:
            weights = factor * to_go[counted]  # γ^t G_t
        if self.baseline == "mean":
            weights = weights - leave_one_out_means(weights, buffer.episode_index())
        elif values is not None:
            weights = weights - factor * values.detach().cpu().numpy()  # eq. (13.11)
        if self.normalize_returns and len(weights) > 1:
            weights = (weights - weights.mean()) / (weights.std() + 1e-8)
        return (
            th.as_tensor(to_go[counted], dtype=th.float32, device=self.device),
            th.as_tensor(weights, dtype=th.float32, device=self.device),
        )
