"""PPO with a KL penalty (Schulman et al. 2017, §4, https://arxiv.org/abs/1707.06347).

PPO's better-known half clips the probability ratio r_t(θ) = π_θ(a_t|s_t) / π_old(a_t|s_t). The other half leaves the ratio
alone and charges the policy for moving away from the one that collected the data (eq. 8):

    L(θ) = E_t[ r_t(θ) Â_t − β KL[π_old(·|s_t), π_θ(·|s_t)] ]

β may be fixed or follow the distance d = E_t[KL[π_old, π_θ]] that an update has travelled:
d < d_targ / 1.5 → β ← β / 2;  d > 1.5 d_targ → β ← 2 β. Here β stays within 10⁻⁸ and 10⁸, for a β that had reached 0 or ∞
would stay there.

With β = 0, one epoch and one minibatch the ratio is 1 where its gradient is taken, and the update is a plain
policy-gradient step.

Choices: the KL divergence is the closed form over the action distribution, not an estimate from the sampled actions; it is
summed over the action's components. Collecting, the advantages Â_t (GAE), the value loss and the entropy bonus are those of
SB3's PPO, whose class this one extends, as are the names in the log; its ``clip_range`` and early stopping do not take part.
``target_kl`` is the paper's d_targ.
"""

from typing import Any, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import explained_variance
from torch.distributions import Distribution as TorchDistribution
from torch.distributions import Normal, kl_divergence
from torch.nn import functional as F

from sb3_lecture.common.checkpoint import SafeSave
from sb3_lecture.common.checks import FLAG, Real, check_arguments, check_finite, naming_memory, naming_non_finite
from sb3_lecture.common.optimizers import fused_adam
from sb3_lecture.common.spaces import check_zero_based

__all__ = ["PPOPenalty"]

SelfPPOPenalty = TypeVar("SelfPPOPenalty", bound="PPOPenalty")
LEAST_BETA, LARGEST_BETA = 1e-8, 1e8  # of an adaptive penalty


def kl_per_state(old: TorchDistribution | list[Any], new: TorchDistribution | list[Any]) -> th.Tensor:
    """KL[old(·|s), new(·|s)] of each state of the batch, summed over independent action components.

    :param old: the ``distribution`` of an SB3 distribution: over a batch of states, a list of them for MultiDiscrete actions
    :param new: the same kind over the same states
    :return: [batch]
    """
    if isinstance(old, list) and isinstance(new, list):
        return th.stack([kl_divergence(p, q) for p, q in zip(old, new, strict=True)]).sum(dim=0)
    kl = kl_divergence(old, new)  # type: ignore[arg-type]  # [batch], or [batch, action_dim] for Gaussian and Bernoulli actions
    return kl if kl.dim() == 1 else kl.sum(dim=1)


def rows_of(distribution: TorchDistribution | list[Any], rows: th.Tensor) -> TorchDistribution | list[Any]:
    """Some states of a batch of distributions.

    :param distribution: Normal, Categorical or Bernoulli over a batch, or a list of them
    :param rows: which states, int64 [n]
    :return: the same kind over n states
    """
    if isinstance(distribution, list):
        return [rows_of(part, rows) for part in distribution]
    if isinstance(distribution, Normal):
        return Normal(distribution.loc[rows], distribution.scale[rows], validate_args=False)
    return type(distribution)(logits=distribution.logits[rows], validate_args=False)  # type: ignore[attr-defined,call-arg]


class PPOPenalty(SafeSave, PPO):
    """PPO that penalises the KL divergence from the old policy instead of clipping the ratio.

    :param policy: "MlpPolicy", "CnnPolicy", "MultiInputPolicy" or a policy class
    :param env: environment, or its id; None only when loading
    :param learning_rate: step size of the optimizer, or a schedule of the remaining progress (default 3e-4)
    :param n_steps: steps of every environment in a rollout (default 2048)
    :param batch_size: minibatch size (default 64)
    :param n_epochs: passes over a rollout (default 10)
    :param gamma: discount factor γ (default 0.99)
    :param gae_lambda: λ of the generalised advantage estimate (default 0.95)
    :param beta: weight β of the penalty; the first one if it adapts (default 1.0)
    :param adaptive: let β follow ``target_kl`` after every update (default True)
    :param target_kl: the distance d_targ aimed at, in nats (default 0.01); unused when ``adaptive`` is False
    :param clip_range_vf: how far a value may move from the old one within an update, a number above 0 or a schedule; None for
        no limit (default)
    :param normalize_advantage: standardise the advantages of a minibatch (default True)
    :param ent_coef: weight of the policy's entropy in the objective (default 0)
    :param vf_coef: weight of the value net's squared error in the loss (default 0.5)
    :param max_grad_norm: largest norm of the gradient (default 0.5)
    :param use_sde: state-dependent exploration for Box actions (default False)
    :param sde_sample_freq: steps between two draws of its noise, -1 for one a rollout (default)
    :param rollout_buffer_class: class of the rollout buffer, None for SB3's choice (default)
    :param rollout_buffer_kwargs: its arguments
    :param stats_window_size: episodes in the logged means (default 100)
    :param tensorboard_log: folder of the tensorboard log, None for none (default)
    :param policy_kwargs: arguments of the policy; Adam is fused unless they name an optimizer
    :param verbose: 0 silent (default), 1 training information
    :param seed: seed of all random generators, None for a random one
    :param device: torch device (default "auto")
    :param _init_setup_model: build the networks now (SB3's loader passes False)
    :raises ValueError: a number out of range, an adaptive ``beta`` of 0, or advantages of single steps to standardise
    """

    def __init__(
        self,
        policy: str | type[ActorCriticPolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 3e-4,
        n_steps: int = 2048,
        batch_size: int = 64,
        n_epochs: int = 10,
        gamma: float = 0.99,
        gae_lambda: float = 0.95,
        beta: float = 1.0,
        adaptive: bool = True,
        target_kl: float = 0.01,
        clip_range_vf: float | Schedule | None = None,
        normalize_advantage: bool = True,
        ent_coef: float = 0.0,
        vf_coef: float = 0.5,
        max_grad_norm: float = 0.5,
        use_sde: bool = False,
        sde_sample_freq: int = -1,
        rollout_buffer_class: type[RolloutBuffer] | None = None,
        rollout_buffer_kwargs: dict[str, Any] | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        check_arguments(
            locals(), beta=Real(0), adaptive=FLAG, target_kl=Real(above=0),
            clip_range_vf=Real(above=0, schedule=True, none=True),
        )  # fmt: skip
        if adaptive and beta == 0:
            raise ValueError("beta=0 cannot adapt, as it is halved and doubled: begin above 0, or pass adaptive=False")
        if normalize_advantage and batch_size < 2:
            raise ValueError("batch_size=1 leaves no advantages to standardise: pass 2 or more, or normalize_advantage=False")
        super().__init__(
            policy,
            env,  # type: ignore[arg-type]
            learning_rate=learning_rate,
            n_steps=n_steps,
            batch_size=batch_size,
            n_epochs=n_epochs,
            gamma=gamma,
            gae_lambda=gae_lambda,
            clip_range_vf=clip_range_vf,
            normalize_advantage=normalize_advantage,
            ent_coef=ent_coef,
            vf_coef=vf_coef,
            max_grad_norm=max_grad_norm,
            use_sde=use_sde,
            sde_sample_freq=sde_sample_freq,
            rollout_buffer_class=rollout_buffer_class,
            rollout_buffer_kwargs=rollout_buffer_kwargs,
            target_kl=target_kl,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            policy_kwargs=policy_kwargs,
            verbose=verbose,
            seed=seed,
            device=device,
            _init_setup_model=False,
        )
        self.beta = beta  # the current β: training changes it, so it is saved and restored
        self.adaptive = adaptive
        if _init_setup_model:
            self._setup_model()

    @naming_memory("n_steps")
    def _setup_model(self) -> None:
        check_zero_based(self.observation_space, self.action_space)
        with fused_adam(self, eps=1e-5):  # SB3's ε for actor-critics
            super()._setup_model()

    def learn(
        self: SelfPPOPenalty,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1,
        tb_log_name: str = "PPOPenalty",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfPPOPenalty:
        """Alternate a rollout and ``n_epochs`` passes over it until ``total_timesteps``.

        :param total_timesteps: environment steps
        :param callback: called at every step; stops the training by returning False
        :param log_interval: rollouts between two lines of the log
        :param tb_log_name: name of the tensorboard run
        :param reset_num_timesteps: start counting (and the logs) anew
        :param progress_bar: show a progress bar
        :return: the model itself
        """
        with naming_non_finite(self):
            return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)

    def train(self) -> None:
        """Climb the penalised surrogate objective (eq. 8) on the rollout, then adapt β."""
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        data = next(self.rollout_buffer.get(batch_size=None))  # the whole rollout, flat: [n_steps * n_envs]
        observations, n = data.observations, len(data.advantages)
        actions = data.actions.long().flatten() if isinstance(self.action_space, spaces.Discrete) else data.actions
        with th.no_grad():
            pi_old = self.policy.get_distribution(observations).distribution
        clip_range_vf = None if self.clip_range_vf is None else self.clip_range_vf(self._current_progress_remaining)  # type: ignore[operator]
        losses: list[list[float]] = []  # (policy, penalty, value, entropy, all) of each minibatch
        for _ in range(self.n_epochs):
            approx_kls: list[float] = []  # the last epoch's
            for rows in th.randperm(n, device=self.device).split(int(self.batch_size)):
                batch = {k: v[rows] for k, v in observations.items()} if isinstance(observations, dict) else observations[rows]
                advantages = data.advantages[rows]  # Â_t [batch]
                if self.normalize_advantage and len(rows) > 1:
                    advantages = (advantages - advantages.mean()) / (advantages.std() + 1e-8)

                pi = self.policy.get_distribution(batch)
                log_prob, entropy = pi.log_prob(actions[rows]), pi.entropy()  # [batch]
                log_ratio = log_prob - data.old_log_prob[rows]
                ratio = th.exp(log_ratio)  # r_t(θ), eq. (6)
                policy_loss = -(ratio * advantages).mean()
                penalty = th.zeros((), device=self.device)
                if self.beta > 0:
                    penalty = self.beta * kl_per_state(rows_of(pi_old, rows), pi.distribution).mean()  # eq. (8)
                values = self.policy.predict_values(batch).flatten()
                if clip_range_vf is not None:
                    old_values = data.old_values[rows]
                    values = old_values + (values - old_values).clamp(-clip_range_vf, clip_range_vf)
                value_loss = F.mse_loss(values, data.returns[rows])
                entropy_loss = log_prob.mean() if entropy is None else -entropy.mean()  # no closed form for squashed actions
                loss = (
                    policy_loss + penalty + self.vf_coef * value_loss + self.ent_coef * entropy_loss
                )  # (9), without the clip

                self.policy.optimizer.zero_grad()
                loss.backward()
                norm = th.nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
                check_finite(
                    norm, "the gradient's norm",
                    observations=observations, rewards=self.rollout_buffer.rewards, network=self.policy,
                )  # fmt: skip
                self.policy.optimizer.step()
                losses.append([x.item() for x in (policy_loss, penalty, value_loss, entropy_loss, loss)])
                approx_kls.append((ratio - 1 - log_ratio).mean().item())
            self._n_updates += 1

        self.logger.record("train/beta", self.beta)
        with th.no_grad():  # d = E_t[KL[π_old(·|s_t), π_θ(·|s_t)]], how far the update has gone
            distance = float(kl_per_state(pi_old, self.policy.get_distribution(observations).distribution).mean())
        if self.adaptive:
            self.adapt_beta(distance)
        names = ("policy_gradient_loss", "kl_penalty", "value_loss", "entropy_loss")
        for name, value in zip(names, np.mean(losses, axis=0).tolist(), strict=False):
            self.logger.record(f"train/{name}", value)
        self.logger.record("train/loss", losses[-1][-1])  # of the last minibatch, as SB3 has it
        self.logger.record("train/approx_kl", float(np.mean(approx_kls)))  # from the sampled actions, as SB3 has it
        self.logger.record("train/kl", distance)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        if clip_range_vf is not None:
            self.logger.record("train/clip_range_vf", clip_range_vf)
        buffer = self.rollout_buffer
        self.logger.record("train/explained_variance", explained_variance(buffer.values.flatten(), buffer.returns.flatten()))
        if hasattr(self.policy, "log_std"):
            self.logger.record("train/std", th.exp(self.policy.log_std).mean().item())

    def adapt_beta(self, distance: float) -> None:
        """Halve β after a short step, double it after a long one (Schulman et al. 2017, §4).

        :param distance: the mean KL divergence d of the last update
        """
        assert self.target_kl is not None  # set in __init__; SB3 allows None
        if distance < self.target_kl / 1.5:
            self.beta = max(self.beta / 2, LEAST_BETA)
        elif distance > self.target_kl * 1.5:
            self.beta = min(self.beta * 2, LARGEST_BETA)
