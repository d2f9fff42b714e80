"""DreamerV3: learn how the world goes, then learn to act in the imagination alone.

The *world model* is an RSSM (see ``rssm``) with a decoder, a reward and a continue head, trained on replayed sequences:

    L(φ) = E[ β_pred L_pred + β_dyn L_dyn + β_rep L_rep ]                                                    (eq. 2)

From every replayed state the *actor* imagines ``horizon`` steps with the prior. The *critic* learns the distribution of the
λ-returns, the actor the actions that beat the critic (REINFORCE), in units of the returns' spread S:

    R_t = r_t + γ c_t ((1 − λ) v_{t+1} + λ R_{t+1})                                                          (eq. 5)
    L(θ) = −Σ sg((R_t − v_t) / max(1, S)) log π(a_t | s_t) + η H[π(· | s_t)]                                 (eq. 6)
    S = EMA(Per(R, 95) − Per(R, 5), 0.99)                                                                    (eq. 7)

Symlog squashes what is seen and decoded, rewards and values are two-hot distributions over exponentially spaced bins, so that
one set of numbers serves worlds of any scale. Hafner et al. 2023, version 2, https://arxiv.org/abs/2301.04104 ("Mastering
diverse control tasks through world models", Nature 2025); equation numbers are those of that version.

Deviations and choices (where text and code of the authors differ, this follows their code, github.com/danijar/dreamerv3):

- squared errors are not halved; γ is part of what the continue head predicts; every map has a bias;
- categorical actions are mixed with 1 % of the uniform distribution, as the text has it (their code mixes one-hot ones only);
- clipping takes norms of tensors as they are kept here: some of the authors' matrices are two or three (``rssm``);
- sequences are drawn uniformly, without the online queue that shows each new step at least once;
- the decoder's first map is one matrix of (h, z), without blocks; normal weights are cut at two standard deviations;
- before ``learning_starts`` actions are random;
- the sizes "XS" and "debug" have layer norms, strided convolutions and one layer a head, as version 1 has at its XS;
- no actions but Discrete and Box; in ``predict(deterministic=True)`` the latent's mode is taken too.

What the first two Dreamers did differently are options. DreamerV2 (https://arxiv.org/abs/2010.02193): KL balancing is
``dyn_coef=0.8 * β, rep_coef=0.2 * β, free_bits=0``. DreamerV1 (https://arxiv.org/abs/1912.01603): Gaussian latents,
``policy_kwargs=dict(latent="gaussian")``; one KL for both, ``dyn_coef=rep_coef=1, free_bits=3``; the gradient of the returns
through the dynamics, ``actor_gradient="dynamics"``, for continuous actions.
"""

from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule, TrainFreq
from stable_baselines3.common.utils import polyak_update

from sb3_lecture.common.checkpoint import SafeSave
from sb3_lecture.common.checks import Choice, Integer, Real, check_arguments, check_finite, is_finite, naming_memory
from sb3_lecture.common.sequence_buffer import SequenceBatch, SequenceBuffer, machine_memory
from sb3_lecture.common.spaces import check_flat

from .dreamer_latents import NotFiniteError
from .dreamer_networks import Sizes, action_size, make_latent, resolve_sizes
from .dreamer_policy import DreamerCnnPolicy, DreamerMlpPolicy, DreamerMultiInputPolicy, DreamerPolicy, Memory
from .dreamer_rssm import Observed, kl_losses

__all__ = ["DreamerV3", "lambda_returns"]

SelfDreamerV3 = TypeVar("SelfDreamerV3", bound="DreamerV3")
PERCENTILES = (0.05, 0.95)  # of the returns
RANGE_RATE = 0.01  # of the moving average of their distance
REPLAY_VALUE_COEF = 0.3  # of the critic's loss on replayed returns
MOST_GRADIENT_STEPS = 1000  # after one step of the envs
COMPILE_MODES = ("default", "reduce-overhead", "max-autotune", "max-autotune-no-cudagraphs")  # of torch.compile


def lambda_returns(
    r_t: th.Tensor, discount_t: th.Tensor, v_t: th.Tensor, last_value: th.Tensor, lambda_: float | th.Tensor
) -> th.Tensor:
    """Return R_{t−1} = r_t + d_t ((1 − λ_t) v_t + λ_t R_t), backwards from the last value (eq. 5).

    :param r_t: reward of arriving [T, N]
    :param discount_t: of what follows there, 0 where the episode is over [T, N]
    :param v_t: value there [T, N]
    :param last_value: R after the last row [N]
    :param lambda_: λ; or [T, N], 0 where an episode was cut off
    :return: [T, N], the return of the state before each row
    """
    partial = r_t + discount_t * (1.0 - lambda_) * v_t  # [T, N]
    carried = discount_t * lambda_  # [T, N]
    g, returns = last_value, []
    for p, c in zip(partial.flip(0), carried.flip(0), strict=True):
        g = p + c * g
        returns.append(g)
    return th.stack(returns[::-1])


class DreamerV3(SafeSave, OffPolicyAlgorithm):
    """DreamerV3. ``train/world_loss`` and ``train/…`` hold the losses, ``train/return_range`` the S of eq. 7.

    :param policy: "MlpPolicy" (vectors), "CnnPolicy" (images), "MultiInputPolicy" (Dict) or a subclass of DreamerPolicy
    :param env: environment, or its id; None only when loading
    :param learning_rate: of all networks, or a schedule of the remaining progress (default 4e-5)
    :param buffer_size: newest rows kept, of all envs together; an episode of n steps has n + 1 (default 1,000,000)
    :param learning_starts: env steps of random actions before the first gradient step (default 1024)
    :param batch_size: sequences in a gradient step (default 16)
    :param batch_length: steps of each (default 64)
    :param replay_ratio: replayed steps for each env step: a gradient step every batch_size · batch_length / ratio (default 32)
    :param gamma: discount γ (default 1 − 1/333)
    :param gae_lambda: λ of the returns (default 0.95)
    :param horizon: imagined steps (default 15)
    :param ent_coef: η, weight of the policy's entropy (default 3e-4)
    :param decoder_coef: weight of the decoder's loss in L_pred; more than 1 where what is seen has small numbers (default 1)
    :param dyn_coef: β_dyn (default 1)
    :param rep_coef: β_rep (default 0.1)
    :param free_bits: KL in nats below which it is not trained (default 1)
    :param tau: share of the critic that enters its slow copy at each step (default 0.02)
    :param actor_gradient: "reinforce" (default), or "dynamics": through the imagined states, for continuous actions
    :param train_freq: steps of each env between two phases of learning (default 1)
    :param compile: compile the networks with ``torch.compile``; a string names its mode ("reduce-overhead": CUDA graphs)
    :param bf16: compute in bfloat16 where torch does; None: on CUDA devices (default)
    :param replay_buffer_kwargs: arguments of ``SequenceBuffer``, such as ``memmap_dir``
    :param stats_window_size: episodes in the logged means (default 100)
    :param tensorboard_log: folder of the tensorboard log, None for none (default)
    :param policy_kwargs: arguments of the policy, first of all ``size`` (default "XS")
    :param verbose: 0 silent but for the buffer's size (default), 1 training information
    :param seed: seed of all random generators, None for a random one
    :param device: torch device (default "auto")
    :param _init_setup_model: build the networks now (SB3's loader passes False)
    :raises ValueError: for a number out of range, an unknown choice, or an action space that is not supported
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": DreamerMlpPolicy,
        "CnnPolicy": DreamerCnnPolicy,
        "MultiInputPolicy": DreamerMultiInputPolicy,
    }
    policy: DreamerPolicy
    _running = ("_memory", "_is_first", "_arrival_rewards")
    replay_buffer: SequenceBuffer | None  # type: ignore[assignment]

    def __init__(
        self,
        policy: str | type[DreamerPolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 4e-5,
        buffer_size: int = 1_000_000,
        learning_starts: int = 1024,
        batch_size: int = 16,
        batch_length: int = 64,
        replay_ratio: float = 32.0,
        gamma: float = 1.0 - 1.0 / 333.0,
        gae_lambda: float = 0.95,
        horizon: int = 15,
        ent_coef: float = 3e-4,
        decoder_coef: float = 1.0,
        dyn_coef: float = 1.0,
        rep_coef: float = 0.1,
        free_bits: float = 1.0,
        tau: float = 0.02,
        actor_gradient: Literal["reinforce", "dynamics"] = "reinforce",
        train_freq: int | tuple[int, str] = 1,
        compile: bool | str = False,
        bf16: bool | None = None,
        replay_buffer_kwargs: dict[str, Any] | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        check_arguments(
            locals(), batch_length=Integer(2), horizon=Integer(1), replay_ratio=Real(above=0), decoder_coef=Real(0),
            dyn_coef=Real(0), rep_coef=Real(0), free_bits=Real(0), actor_gradient=Choice("reinforce", "dynamics"),
            compile=Choice(False, True, *COMPILE_MODES), bf16=Choice(None, False, True),
        )  # fmt: skip
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
            gradient_steps=1,
            replay_buffer_class=SequenceBuffer,
            replay_buffer_kwargs=replay_buffer_kwargs,
            policy_kwargs=policy_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            seed=seed,
            sde_support=False,
            supported_action_spaces=None,
            support_multi_env=True,
        )
        self.batch_length, self.replay_ratio, self.gae_lambda, self.horizon = batch_length, replay_ratio, gae_lambda, horizon
        self.ent_coef, self.decoder_coef, self.dyn_coef, self.rep_coef = ent_coef, decoder_coef, dyn_coef, rep_coef
        self.free_bits = free_bits
        self.actor_gradient, self.compile, self.bf16 = actor_gradient, compile, bf16
        self._owed = 0.0  # gradient steps that the env steps so far have earned
        self._replay_id: str | None = None  # of the replay buffer on disk, which a loaded model goes on with
        if _init_setup_model:
            self._setup_model()

    @naming_memory("buffer_size")
    def _setup_model(self) -> None:
        check_flat(self.observation_space, scalars=True)
        space = self.action_space
        if not isinstance(space, (spaces.Discrete, spaces.Box)):
            raise ValueError(f"DreamerV3 takes Discrete and Box actions, not {space}: flatten them with an action wrapper")
        if self.actor_gradient == "dynamics" and isinstance(space, spaces.Discrete):
            raise ValueError('actor_gradient="dynamics" needs Box actions: choose "reinforce" for discrete ones')
        named = {k: v for k, v in self.policy_kwargs.items() if k in Sizes._fields and v is not None}
        sizes = resolve_sizes(self.policy_kwargs.get("size", "XS"), named)
        self._check_amounts(sizes)
        if self.replay_buffer is None:
            latent = make_latent(self.policy_kwargs.get("latent", "categorical"), sizes)
            self.replay_buffer = SequenceBuffer(
                self.buffer_size, self.observation_space, space, self.device, self.n_envs, batch_length=self.batch_length,
                action_size=action_size(space), deter_size=sizes.deter, latent_shape=latent.shape,
                latent_dtype=str(latent.dtype).removeprefix("torch."), memmap_id=self._replay_id, **self.replay_buffer_kwargs,
            )  # fmt: skip
            self._replay_id = self.replay_buffer.memmap_id
        super()._setup_model()
        if self.compile:
            mode = self.compile if isinstance(self.compile, str) else None
            self.policy.compile_parts(mode)
        self._begin_episodes()

    def _check_amounts(self, sizes: Sizes) -> None:
        """Refuse what could never end, or never fit.

        :param sizes: of the networks
        :raises ValueError: for a number that is too large
        """
        frequency = self.train_freq.frequency if isinstance(self.train_freq, TrainFreq) else np.ravel(self.train_freq)[0]
        rows = self.buffer_size // self.n_envs
        if int(frequency) > rows:
            raise ValueError(
                f"train_freq={self.train_freq} must be at most {rows}, the rows that the replay buffer holds of an env "
                f"(buffer_size={self.buffer_size} for {self.n_envs} env(s)): older ones would never be learned from"
            )
        rows_a_step = self.batch_size * self.batch_length
        if self.n_envs * self.replay_ratio > MOST_GRADIENT_STEPS * rows_a_step:
            raise ValueError(
                f"replay_ratio={self.replay_ratio} asks for {self.n_envs * self.replay_ratio / rows_a_step:.3g} gradient "
                f"steps of {rows_a_step} rows after each step of the envs; at most {MOST_GRADIENT_STEPS} are taken"
            )
        n_bytes, memory = 4 * rows_a_step * (self.horizon + 1) * sizes.deter, machine_memory()
        if n_bytes > memory:
            raise ValueError(
                f"batch_size={self.batch_size}, batch_length={self.batch_length} and horizon={self.horizon} make dreams of "
                f"{n_bytes / 2**30:.3g} GiB in a gradient step, more than the machine's {memory / 2**30:.3g} GiB: lower them"
            )

    def _begin_episodes(self) -> None:
        """Forget the running episodes."""
        self._memory: Memory = self.policy.memory(self.n_envs)
        self._is_first = np.ones(self.n_envs, np.bool_)  # [n_envs]
        self._arrival_rewards = np.zeros(self.n_envs, np.float32)  # [n_envs], came with the last observation

    def _setup_learn(self, total_timesteps: int, callback: MaybeCallback = None, reset_num_timesteps: bool = True,
                     *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:  # fmt: skip
        self._take_up(reset_num_timesteps)
        if reset_num_timesteps or self._last_obs is None:  # the envs are reset
            self._begin_episodes()
        return super()._setup_learn(total_timesteps, callback, reset_num_timesteps, *args, **kwargs)

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """Give the model another env of the same spaces and number."""
        super().set_env(env, force_reset)
        self._begin_episodes()

    def learn(
        self: SelfDreamerV3,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 4,
        tb_log_name: str = "DreamerV3",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfDreamerV3:
        """Act, and learn from what was seen, until ``total_timesteps``.

        :param total_timesteps: env steps, of all envs together
        :param callback: called after each step of the envs; stops the training by returning False
        :param log_interval: episodes between two lines of the log
        :param tb_log_name: name of the tensorboard run
        :param reset_num_timesteps: start counting (and the logs) anew
        :param progress_bar: show a progress bar
        :return: the model itself
        """
        return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)

    # ------------------------------------------------------------------ acting

    def _sample_action(self, learning_starts: int, *args: Any, **kwargs: Any) -> tuple[np.ndarray, np.ndarray]:
        """Look at the newest observations with the memory of their episodes, and draw actions."""
        observations = self._tensors(self._last_obs)
        actions, self._memory = self.policy.step(observations, self._memory, th.as_tensor(self._is_first, device=self.device))
        if self.num_timesteps < learning_starts:
            drawn = np.array([self.action_space.sample() for _ in range(self.n_envs)])
            if isinstance(self.action_space, spaces.Discrete):
                actions = th.as_tensor(drawn - int(self.action_space.start), device=self.device)
            else:
                scaled = self.policy.scale_action(drawn).reshape(self.n_envs, -1)
                actions = th.as_tensor(scaled, dtype=th.float32, device=self.device)
            self._memory = self._memory._replace(actions=self.policy.actor.vectors(actions))
        chosen = self.policy.env_actions(actions.cpu().numpy())
        return chosen, chosen

    def _tensors(self, observations: Any) -> Any:
        if isinstance(observations, dict):
            return {key: th.as_tensor(part, device=self.device) for key, part in observations.items()}
        return th.as_tensor(observations, device=self.device)

    def _store_transition(
        self, replay_buffer: ReplayBuffer, buffer_action: np.ndarray, new_obs: Any, reward: np.ndarray, dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:  # fmt: skip
        """Store the row of the last observation, and where an episode ended that of its last one too."""
        assert self.replay_buffer is not None
        deter, z, actions = (part.cpu().numpy() for part in self._memory)
        raw_obs, reward_ = self._last_obs, reward
        if self._vec_normalize_env is not None:
            raw_obs, reward_ = self._last_original_obs, self._vec_normalize_env.get_original_reward()
        check_finite(float(reward_.sum()), f"the sum of rewards after {self.num_timesteps} steps", rewards=reward_)
        self.replay_buffer.add(
            np.arange(self.n_envs), raw_obs, actions=actions, rewards=self._arrival_rewards, is_first=self._is_first,
            deter=deter, z=z,
        )  # fmt: skip
        if dones.any():
            ended = np.flatnonzero(dones)
            last = [self._original_observation(infos[i]["terminal_observation"]) for i in ended]
            observations = (
                {k: np.stack([o[k] for o in last]) for k in last[0]} if isinstance(new_obs, dict) else np.stack(last)
            )
            if not is_finite(observations):
                raise ValueError(
                    f"there is NaN or inf in the last observation of an episode, after {self.num_timesteps} steps"
                )
            cut = np.array([infos[i].get("TimeLimit.truncated", False) for i in ended])
            self.replay_buffer.add(
                ended, observations, rewards=reward_[ended], is_first=np.zeros(len(ended), np.bool_),
                is_last=np.ones(len(ended), np.bool_), is_terminal=~cut,
            )  # fmt: skip
        self._is_first = dones.astype(np.bool_)
        self._arrival_rewards = np.where(dones, 0.0, reward_).astype(np.float32)
        self._last_obs = new_obs
        if self._vec_normalize_env is not None:
            self._last_original_obs = self._vec_normalize_env.get_original_obs()
        if self.num_timesteps > self.learning_starts and self.replay_buffer.ready:
            self._owed += self.n_envs * self.replay_ratio / (self.batch_size * self.batch_length)

    def _original_observation(self, observation: Any) -> Any:
        """Undo VecNormalize, which normalises the last observation of an episode where it lies, in the infos."""
        return observation if self._vec_normalize_env is None else self._vec_normalize_env.unnormalize_obs(observation)

    # ------------------------------------------------------------------ learning

    def train(self, gradient_steps: int, batch_size: int = 16) -> None:
        """Take the gradient steps that the env steps have earned.

        :param gradient_steps: ignored: ``replay_ratio`` says how many
        :param batch_size: sequences in each
        """
        assert self.replay_buffer is not None
        due = int(self._owed)
        self._owed -= due
        if due == 0:
            return
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        bf16 = self.device.type == "cuda" if self.bf16 is None else self.bf16
        for _ in range(due):
            batch = self.replay_buffer.sample(batch_size, env=self._vec_normalize_env)
            with th.autocast(self.device.type, th.bfloat16, enabled=bf16), self.policy.naming_non_finite(batch=batch[:3]):
                loss, observed, parts = self.losses(batch)
                if not loss.isfinite():
                    raise NotFiniteError(f"The loss is {loss.item()}")
            loss.backward()
            self.policy.optimizer.step()
            self.policy.optimizer.zero_grad()  # now: the next losses need the memory
            polyak_update(self.policy.critic.parameters(), self.policy.slow_critic.parameters(), self.tau)
            self.replay_buffer.refresh(batch.rows, observed.deter.detach(), self.policy.latent.compact(observed.z))
        self._n_updates += due
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for name, value in zip(parts, th.stack(list(parts.values())).tolist(), strict=True):  # of the last step
            self.logger.record(f"train/{name}", value)

    def losses(self, batch: SequenceBatch) -> tuple[th.Tensor, Observed, dict[str, th.Tensor]]:
        """Return the loss of all networks, the posterior states, and the parts of the loss for the log."""
        world_loss, observed, parts = self.world_loss(batch)
        behaviour_loss, returns, more = self.behaviour_loss(observed)
        replay_loss = self.replay_value_loss(batch, observed, returns[0].view_as(batch.rewards))
        parts |= more | {"world_loss": world_loss, "replay_value_loss": replay_loss}
        loss = world_loss + behaviour_loss + REPLAY_VALUE_COEF * replay_loss
        return loss, observed, {name: part.detach() for name, part in parts.items()}

    def world_loss(self, batch: SequenceBatch) -> tuple[th.Tensor, Observed, dict[str, th.Tensor]]:
        """Return L(φ) (eq. 2), the posterior states [T, B, …], and the parts of the loss."""
        policy = self.policy
        vectors, images = policy.inputs(batch.observations)
        state = batch.deter, policy.latent.dense(batch.z)
        observed = policy.rssm.observe(policy.encoder(vectors, images), batch.prev_actions, batch.is_first, state)
        h, z, post = observed  # [T, B, …]
        dyn, rep = kl_losses(policy.latent, post.float(), policy.rssm.prior(h).float(), self.free_bits)  # (eq. 3), [T, B]
        decoder = policy.decoder.loss(h, z, vectors, images)  # −ln p(x_t | h_t, z_t)
        reward = policy.reward.loss(policy.reward(h, z), batch.rewards)  # −ln p(r_t | h_t, z_t)
        proceed = policy.proceed.loss(h, z, self.gamma * (~batch.is_terminal).float())  # −ln p(c_t | h_t, z_t)
        loss = (self.decoder_coef * decoder + reward + proceed + self.dyn_coef * dyn + self.rep_coef * rep).mean()  # (eq. 2)
        means = {"decoder_loss": decoder, "reward_loss": reward, "continue_loss": proceed, "kl": dyn}
        return loss, observed, {name: part.mean() for name, part in means.items()}

    def behaviour_loss(self, observed: Observed) -> tuple[th.Tensor, th.Tensor, dict[str, th.Tensor]]:
        """Imagine from every posterior state; return the loss of actor and critic, the λ-returns [H, N], and parts."""
        policy, through = self.policy, self.actor_gradient == "dynamics"
        h = observed.deter.detach().flatten(0, 1)  # [N, D], N = T · B
        z = observed.z.detach().flatten(0, 1)
        z = z if through else policy.latent.compact(z)
        with th.set_grad_enabled(through):
            dream = policy.rssm.imagine(h, z, policy.actor.draw, self.horizon, policy.actor.n_actions, through)
            rewards = policy.reward.mean(policy.reward(dream.deter[1:], dream.z[1:]))  # [H, N]
            discounts = policy.proceed.discount(dream.deter, dream.z)  # γ c_t [H + 1, N]
            values = policy.critic.mean(policy.critic(dream.deter, dream.z)) if through else None
        h, z = dream.deter.detach(), dream.z.detach()  # [H + 1, N, …]
        logits = policy.critic(h[:-1], z[:-1])  # [H, N, bins]
        with th.no_grad():
            slow = policy.slow_critic.mean(policy.slow_critic(h[:-1], z[:-1]))  # [H, N]
            last = policy.critic.mean(policy.critic(h[-1], z[-1]))  # [N]
            weights = discounts.detach().cumprod(dim=0)[:-1]  # [H, N], the chance to be there at all
        v = policy.critic.mean(logits.detach())  # [H, N]
        if values is None:
            values = th.cat((v, last[None]))
        returns = lambda_returns(rewards, discounts[1:], values[1:], values[-1], self.gae_lambda)  # [H, N]
        scale = self._return_scale(returns.detach())
        log_prob, entropy = policy.actor.evaluate(h[:-1], z[:-1], dream.actions.detach())  # [H, N]
        if through:
            actor_loss = self._surrogate(-(weights * returns).mean() / scale)
        else:
            actor_loss = -(weights * log_prob * (returns - v) / scale).mean()  # (eq. 6)
        actor_loss = actor_loss - self.ent_coef * (weights * entropy).mean()
        targets = returns.detach()
        critic_loss = (weights * policy.critic.loss(logits, targets, slow)).mean()  # (eq. 5), and towards its slow copy
        parts = {"actor_loss": actor_loss, "critic_loss": critic_loss, "entropy": entropy.mean(), "return_range": scale,
                 "imagined_return": targets.mean(), "imagined_reward": rewards.mean()}  # fmt: skip
        return actor_loss + critic_loss, targets, parts

    def _return_scale(self, returns: th.Tensor) -> th.Tensor:
        """Return max(1, S) after S has taken in new returns (eq. 7)."""
        low, high = returns.flatten().quantile(returns.new_tensor(PERCENTILES))
        self.policy.return_range.lerp_(high - low, RANGE_RATE)
        return self.policy.return_range.clamp(min=1.0)

    def _surrogate(self, loss: th.Tensor) -> th.Tensor:
        """Return a number with the gradient of ``loss`` for the actor and none for what it was computed through."""
        params = list(self.policy.actor.parameters())
        grads = th.autograd.grad(loss, params)
        value = sum((p * g).sum() for p, g in zip(params, grads, strict=True))
        return value + (loss - value).detach()

    def replay_value_loss(self, batch: SequenceBatch, observed: Observed, imagined_returns: th.Tensor) -> th.Tensor:
        """Return the critic's loss on the replayed rewards, whose returns are bootstrapped with imagined ones [T, B].

        It reaches the world model too: states of different value must be told apart.
        """
        critic = self.policy.critic
        logits = critic(observed.deter[:-1], observed.z[:-1])  # [T − 1, B, bins]
        with th.no_grad():
            h, z = observed.deter[:-1], self.policy.latent.compact(observed.z[:-1])
            slow = self.policy.slow_critic.mean(self.policy.slow_critic(h, z))
        discounts = self.gamma * (~batch.is_terminal[1:]).float()  # [T − 1, B]
        lambdas = self.gae_lambda * (~batch.is_last[1:]).float()  # a cut episode: value instead of return
        targets = lambda_returns(batch.rewards[1:], discounts, imagined_returns[1:], imagined_returns[-1], lambdas)
        inside = (~batch.is_last[:-1]).float()  # the step from the last row of an episode is none
        return (inside * critic.loss(logits, targets, slow)).mean()

    def load_replay_buffer(self, path: Any, truncate_last_traj: bool = True, trusted: bool = False) -> None:
        """Load a replay buffer that was saved, or open the folder again in which it lies.

        :param path: file
        :param truncate_last_traj: for SB3; an episode that the save interrupted is cut in any case
        :param trusted: unpickle an old file, which runs what it names
        """
        super().load_replay_buffer(path, truncate_last_traj, trusted)
        assert self.replay_buffer is not None
        self._replay_id = self.replay_buffer.memmap_id

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_memory", "_is_first", "_arrival_rewards"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []
