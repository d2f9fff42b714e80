"""World Models: learn to see (V), to foresee (M), and act on both by a few hundred weights (C).

Ha & Schmidhuber (2018), https://arxiv.org/abs/1803.10122 (their "Recurrent World Models Facilitate Policy Evolution"):

    V: z_t ~ q(z | x_t)                              a variational autoencoder (``vae.py``)
    M: P(z_{t+1} | a_t, z_t, h_t)                    an LSTM with a mixture density output (``mdn_rnn.py``)
    C: a_t = W [z_t h_t] + b                         eq. 1, evolved by CMA-ES

A round (their section 5, "iterative training procedure") collects steps, the first ones at random; trains V on what was
seen; trains M on what V made of it; and evolves C with its few parameters, in the real environment or inside M, in the
*dream*. A round in the dream costs no further steps of the environment, and its temperature τ makes it less certain than the
world, so that C cannot live off M's mistakes.

Deviations and choices:

- M also predicts the reward (iterative training needs it in general, section 5; the paper's own dream counts steps survived);
- latents: V's mean where C acts in the real world (the paper samples), a sample where M learns and in the dream;
- a Discrete action is arg max of C's outputs; a Box action is squashed by tanh to its bounds, as are the paper's;
- the KL term has a floor of ``kl_tolerance`` nats a dimension and sample, as in the authors' code;
- C is the mean of the search distribution, not its best candidate; all candidates of a generation dream the same chance;
- an episode of the dream ends when M says so or as long as the longest real one; M's sequences begin where episodes begin;
- defaults suit a small world on a CPU; the paper's are in the config of CarRacing-v3.
"""

from collections import deque
from collections.abc import Iterable, Iterator
from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import update_learning_rate
from torch import nn

from sb3_lecture.common.checkpoint import SafeSave
from sb3_lecture.common.checks import Choice, Integer, Real, check_arguments, check_finite, naming_memory
from sb3_lecture.common.fitness import rank_non_finite_last
from sb3_lecture.common.logs import record_progress
from sb3_lecture.common.spaces import check_zero_based

from .world_models_mdn_rnn import State, draw_noise, sample_done, sample_mixture
from .world_models_policy import N_STARTS, CnnWorldModelPolicy, MlpWorldModelPolicy, WorldModelPolicy
from .world_models_vae import sample_gaussian

__all__ = ["Episode", "WorldModels"]

SelfWorldModels = TypeVar("SelfWorldModels", bound="WorldModels")
#: frames that are encoded at once
BATCH = 512


class Episode(NamedTuple):
    """One episode, or the first part of one: observations [L + 1, …], actions [L, …], rewards [L], terminated."""

    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    terminated: bool


class _Steps:
    """All steps kept, one episode after the other, ready to be cut into batches of whole episodes.

    :param episodes: E of them
    :param codes: μ and log σ² of their frames, [F, 2, Z]
    :param policy: knows actions as vectors
    """

    def __init__(self, episodes: Iterable[Episode], codes: th.Tensor, policy: WorldModelPolicy) -> None:
        episodes = list(episodes)
        self.codes = codes
        self.lengths = np.array([len(episode.rewards) for episode in episodes])  # [E]
        self.first = np.cumsum(self.lengths) - self.lengths  # [E], number of an episode's first step
        self.actions = policy.from_env(np.concatenate([episode.actions for episode in episodes]))  # [S, A]
        ends = np.zeros(len(self.actions), dtype=np.float32)
        ends[self.first + self.lengths - 1] = [episode.terminated for episode in episodes]  # a time limit is no end
        rewards = np.concatenate([episode.rewards for episode in episodes])
        self.rewards, self.ends = (th.as_tensor(part, device=codes.device) for part in (rewards, ends))  # [S]

    def padded(self, batch: np.ndarray) -> tuple[th.Tensor, ...]:
        """Sampled latents [n, T + 1, Z], actions [n, T, A], rewards, ends and mask, each [n, T], of episodes ``batch`` [n]."""
        lengths = self.lengths[batch][:, None]  # [n, 1]
        t = np.arange(lengths.max() + 1)  # [T + 1]
        taken = t[:-1] < lengths  # [n, T]
        step = np.where(taken, self.first[batch][:, None] + t[:-1], 0)
        frame = self.first[batch][:, None] + batch[:, None] + np.minimum(t, lengths)  # an episode has a frame more than steps
        code = self.codes[frame]  # [n, T + 1, 2, Z]
        mask = th.as_tensor(taken, dtype=th.float32, device=code.device)
        z = sample_gaussian(code[:, :, 0], code[:, :, 1])
        return z, self.actions[step], self.rewards[step] * mask, self.ends[step] * mask, mask


class WorldModels(SafeSave, BaseAlgorithm):
    """World Models (V, M, C).

    ``learn(total_timesteps)`` runs rounds: ``learning_starts`` steps are collected (at random in the first round, then by C),
    V and M learn from all steps kept, C evolves for ``n_generations``. Timesteps are steps of the real environment; the dream
    has none, so ``learn(learning_starts)`` is one whole round with ``controller_env="dream"``.

    :param policy: "MlpPolicy", "CnnPolicy" (pictures) or a subclass of WorldModelPolicy
    :param env: environment, or its id, of which ``population_size`` are built; None only when loading
    :param learning_rate: of V's and M's Adam, or a schedule of the remaining progress (default 1e-3)
    :param buffer_size: newest steps kept (default 100,000); memory is taken as they come
    :param learning_starts: steps collected in each round (default 10,000)
    :param batch_size: frames in a gradient step of V, episodes in one of M (default 100)
    :param vae_epochs: passes of V over all frames in each round (default 10)
    :param rnn_epochs: passes of M over all episodes in each round (default 20)
    :param kl_tolerance: floor of V's KL term, nats a dimension (default 0.5)
    :param reward_coef: weight of the reward's squared error in M's loss (default 1)
    :param done_coef: weight of the end's cross-entropy in M's loss (default 1)
    :param controller_env: where C evolves, "real" (default) or "dream"
    :param temperature: τ of the dream (default 1)
    :param n_generations: of CMA-ES in each round (default 100)
    :param population_size: candidates a generation, at least 4 (default 16)
    :param n_eval_episodes: episodes a candidate plays; its fitness is their mean return (default 4)
    :param sigma: σ of a round's first generation (default 0.1)
    :param sep_above: above so many parameters only the diagonal of the search's covariance is learnt (default 1000)
    :param random_action_prob: share of random actions in the steps that C collects, from the second round on (default 0.2)
    :param max_grad_norm: bound of M's gradient (default 1)
    :param stats_window_size: episodes in the logged means (default 100)
    :param tensorboard_log: folder of the tensorboard log, None for none (default)
    :param policy_kwargs: arguments of the policy
    :param verbose: 0 silent (default), 1 training information
    :param seed: seed of all random generators, None for a random one
    :param device: torch device (default "auto")
    :param _init_setup_model: build the networks now (SB3's loader passes False)
    :raises ValueError: for an unknown ``controller_env``, or a number out of range
    :raises ImportError: from ``learn``, if the package ``cmaes`` is not installed
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": MlpWorldModelPolicy,
        "CnnPolicy": CnnWorldModelPolicy,
    }
    policy: WorldModelPolicy  # type: ignore[assignment]

    def __init__(
        self,
        policy: str | type[WorldModelPolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 1e-3,
        buffer_size: int = 100_000,
        learning_starts: int = 10_000,
        batch_size: int = 100,
        vae_epochs: int = 10,
        rnn_epochs: int = 20,
        kl_tolerance: float = 0.5,
        reward_coef: float = 1.0,
        done_coef: float = 1.0,
        controller_env: str = "real",
        temperature: float = 1.0,
        n_generations: int = 100,
        population_size: int = 16,
        n_eval_episodes: int = 4,
        sigma: float = 0.1,
        sep_above: int = 1000,
        random_action_prob: float = 0.2,
        max_grad_norm: float = 1.0,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        check_arguments(
            locals(), learning_starts=Integer(1), vae_epochs=Integer(0), rnn_epochs=Integer(0), kl_tolerance=Real(0),
            reward_coef=Real(0), done_coef=Real(0), controller_env=Choice("real", "dream"), temperature=Real(0),
            n_generations=Integer(1), population_size=Integer(4), n_eval_episodes=Integer(1), sigma=Real(above=0),
            sep_above=Integer(0), random_action_prob=Real(0, 1),
        )  # fmt: skip
        super().__init__(
            policy,  # type: ignore[arg-type]
            make_vec_env(env, n_envs=population_size) if isinstance(env, str) else env,
            learning_rate,
            policy_kwargs=policy_kwargs,
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            support_multi_env=True,
            seed=seed,
            supported_action_spaces=(spaces.Box, spaces.Discrete),
        )
        self.buffer_size, self.learning_starts, self.batch_size = buffer_size, learning_starts, batch_size
        self.vae_epochs, self.rnn_epochs, self.kl_tolerance = vae_epochs, rnn_epochs, kl_tolerance
        self.reward_coef, self.done_coef, self.max_grad_norm = reward_coef, done_coef, max_grad_norm
        self.controller_env, self.temperature = controller_env, temperature
        self.n_generations, self.population_size, self.n_eval_episodes = n_generations, population_size, n_eval_episodes
        self.sigma, self.sep_above, self.random_action_prob = sigma, sep_above, random_action_prob
        self.round, self.generation, self.generations_left = 0, 0, 0  # rounds and generations completed; left in this round
        self.longest_episode = 1  # steps; bounds the dream's episodes
        self.replay_buffer: deque[Episode] = deque()
        self._steps_kept = 0
        self._search: Any = None  # cmaes.CMA or cmaes.SepCMA
        self._search_seed = int(np.random.randint(2**31)) if seed is None else seed
        if _init_setup_model:
            self._setup_model()

    @naming_memory("policy_kwargs")
    def _setup_model(self) -> None:
        check_zero_based(self.observation_space, self.action_space)
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        self.policy = self.policy_class(  # type: ignore[assignment]
            self.observation_space, self.action_space, self.lr_schedule, **self.policy_kwargs
        ).to(self.device)
        self.vae_optimizer = th.optim.Adam(self.policy.vae.parameters(), lr=self.lr_schedule(1))
        self.rnn_optimizer = th.optim.Adam(self.policy.rnn.parameters(), lr=self.lr_schedule(1))

    # ---- the rounds

    def learn(
        self: SelfWorldModels,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 10,
        tb_log_name: str = "WorldModels",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfWorldModels:
        """Run rounds until ``total_timesteps``; a generation that the budget cuts off teaches nothing.

        :param total_timesteps: steps of the real environment, in collecting and in evolving
        :param callback: called at every step of the VecEnv; stops the training by returning False
        :param log_interval: generations between two lines of the log
        :param tb_log_name: name of the tensorboard run
        :param reset_num_timesteps: start counting (and the logs) anew; the round that was begun goes on in any case
        :param progress_bar: show a progress bar
        :return: the model itself
        """
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name, progress_bar
        )
        callback.on_training_start(locals(), globals())
        while self.num_timesteps < total_timesteps:
            if self.generations_left == 0:
                if not self._collect(min(self.learning_starts, total_timesteps - self.num_timesteps), callback):
                    break
                self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
                self.train()
                self.round, self.generations_left, self._search = self.round + 1, self.n_generations, None
            if not self._evolve(total_timesteps, callback, log_interval):
                break
        callback.on_training_end()
        return self

    # ---- collecting

    @th.no_grad()
    def _collect(self, n_steps: int, callback: BaseCallback) -> bool:
        """Collect episodes, the first round's at random; return False if the callback stopped the training."""
        assert self.env is not None, "_setup_learn asks for an env"
        env, n = self.env, self.n_envs
        rng = np.random.default_rng([self._search_seed, self.round, 1])
        probability = 1.0 if self.round == 0 else self.random_action_prob
        callback.on_rollout_start()  # before anything is drawn: a checkpoint of now begins here again
        running: list[list[tuple[Any, Any, float]]] = [[] for _ in range(n)]
        policy, state = self.policy, self.policy.rnn.initial_state(n)
        obs: Any = env.reset()
        seen = self._seen(obs)
        end = self.num_timesteps + n_steps
        while self.num_timesteps < end:
            if probability < 1.0:
                z = policy.see(obs)
                actions = policy.to_env(policy.action_vectors(policy.outputs(z, state[0])))
                random = rng.random(n) < probability  # one coin an env
                drawn = np.array([self.action_space.sample() for _ in range(n)], dtype=actions.dtype)
                actions = np.where(random.reshape(n, *[1] * (actions.ndim - 1)), drawn, actions)
                state = policy.rnn.advance(z, policy.from_env(actions), state)
            else:
                actions = np.array([self.action_space.sample() for _ in range(n)])
            new_obs, rewards, dones, infos = env.step(actions)
            self.num_timesteps += n
            callback.update_locals(locals())
            if not callback.on_step():
                return False
            self._update_info_buffer(infos, dones)
            rewards = self._original(rewards)
            for i in range(n):
                running[i].append((seen[i], actions[i], float(rewards[i])))
                if dones[i]:
                    terminated = not infos[i].get("TimeLimit.truncated", False)
                    last = infos[i]["terminal_observation"]
                    if self._vec_normalize_env is not None:  # which normalises it where it lies
                        last = self._vec_normalize_env.unnormalize_obs(last)
                    self._keep(running[i], last, terminated)
                    running[i] = []
            state = _forget(state, dones)
            obs, seen = new_obs, self._seen(new_obs)
        self._last_obs = obs
        for i in range(n):
            if running[i]:
                self._keep(running[i], seen[i], terminated=False)
        callback.on_rollout_end()
        return True

    def _keep(self, steps: list[tuple[Any, Any, float]], last: Any, terminated: bool) -> None:
        observations, actions, rewards = zip(*steps, strict=True)
        episode = Episode(np.stack([*observations, last]), np.stack(actions), np.array(rewards, np.float32), terminated)
        self.replay_buffer.append(episode)
        self.longest_episode = max(self.longest_episode, len(steps))
        self._steps_kept += len(steps)
        while self._steps_kept > self.buffer_size and len(self.replay_buffer) > 1:
            self._steps_kept -= len(self.replay_buffer.popleft().rewards)

    def _original(self, rewards: np.ndarray) -> np.ndarray:
        return rewards if self._vec_normalize_env is None else self._vec_normalize_env.get_original_reward()

    def _seen(self, observations: Any) -> Any:
        """Return the newest observations [n, …] as they were before VecNormalize: those are kept."""
        return observations if self._vec_normalize_env is None else self._vec_normalize_env.get_original_obs()

    def _shown(self, observations: np.ndarray) -> th.Tensor:
        """Return observations kept [n, …] as they are seen while acting."""
        if self._vec_normalize_env is not None:
            observations = self._vec_normalize_env.normalize_obs(observations)  # type: ignore[assignment]
        return th.as_tensor(observations, device=self.device)

    # ---- V and M

    def train(self) -> None:
        """Train V on all frames kept, then M on all episodes kept."""
        update_learning_rate(self.vae_optimizer, self.lr_schedule(self._current_progress_remaining))
        update_learning_rate(self.rnn_optimizer, self.lr_schedule(self._current_progress_remaining))
        rng = np.random.default_rng([self._search_seed, self.round, 2])
        self.policy.set_training_mode(True)
        self._train_vae(rng)
        self.policy.set_training_mode(False)
        codes = self._encode()  # [F, 2, Z]
        lengths = [len(episode.observations) for episode in self.replay_buffer]
        first = rng.choice(np.cumsum([0, *lengths[:-1]]), size=N_STARTS)
        self.policy.starts.copy_(codes[first])
        self._train_rnn(codes, rng)
        self.dump_logs()

    def _train_vae(self, rng: np.random.Generator) -> None:
        episodes = list(self.replay_buffer)
        frames = np.array([(e, t) for e, episode in enumerate(episodes) for t in range(len(episode.observations))])
        floor = self.kl_tolerance * self.policy.latent_dim
        for _ in range(self.vae_epochs):
            sums = np.zeros(2)
            for batch in _batches(rng.permutation(len(frames)), self.batch_size):
                observations = np.stack([episodes[e].observations[t] for e, t in frames[batch]])
                x = self.policy.inputs(self._shown(observations))
                reconstruction, kl = self.policy.vae.losses(x)  # [batch] each
                loss = (reconstruction + kl.clamp(min=floor)).mean()
                check_finite(loss.item(), "V's loss", observations=observations, network=self.policy.vae)
                self.vae_optimizer.zero_grad()
                loss.backward()
                self.vae_optimizer.step()
                self._n_updates += 1
                sums += reconstruction.sum().item(), kl.sum().item()
            for name, value in zip(("reconstruction", "kl"), sums / len(frames), strict=True):
                self.logger.record(f"vae/{name}", value)
        self._check_weights("V", self.policy.vae)

    @th.no_grad()
    def _encode(self) -> th.Tensor:
        """μ and log σ² of every frame kept, one episode after the other, [F, 2, Z]."""
        parts = []
        for episode in self.replay_buffer:
            for i in range(0, len(episode.observations), BATCH):
                frames = self._shown(episode.observations[i : i + BATCH])
                parts.append(th.stack(self.policy.encode(frames), dim=1))
        return th.cat(parts)

    def _train_rnn(self, codes: th.Tensor, rng: np.random.Generator) -> None:
        steps = _Steps(self.replay_buffer, codes, self.policy)
        for _ in range(self.rnn_epochs):
            sums = np.zeros(3)
            # episodes of like length together: little padding
            order = np.argsort(steps.lengths + rng.random(len(steps.lengths)), kind="stable")
            batches = list(_batches(order, self.batch_size))
            for k in rng.permutation(len(batches)):
                losses = self.policy.rnn.losses(*steps.padded(batches[k]))
                nll, reward_error, done_error = losses
                loss = nll + self.reward_coef * reward_error + self.done_coef * done_error
                check_finite(loss.item(), "M's loss", codes=codes, network=self.policy.rnn)
                self.rnn_optimizer.zero_grad()
                loss.backward()
                nn.utils.clip_grad_norm_(self.policy.rnn.parameters(), self.max_grad_norm)
                self.rnn_optimizer.step()
                self._n_updates += 1
                sums += [steps.lengths[batches[k]].sum() * part.item() for part in losses]
            for name, value in zip(("nll", "reward_error", "done_error"), sums / steps.lengths.sum(), strict=True):
                self.logger.record(f"rnn/{name}", value)
        self._check_weights("M", self.policy.rnn)

    def _check_weights(self, name: str, network: nn.Module) -> None:
        """Refuse to go on with a network whose last step ended in NaN."""
        with th.no_grad():
            check_finite(
                nn.utils.parameters_to_vector(network.parameters()).abs().max(), f"{name}'s largest weight", network=network
            )

    # ---- C

    def _evolve(self, total_timesteps: int, callback: BaseCallback, log_interval: int) -> bool:
        """Run this round's generations; return False if the callback stopped the training."""
        dream = self.controller_env == "dream"
        while self.generations_left > 0 and (dream or self.num_timesteps < total_timesteps):
            rng = np.random.default_rng([self._search_seed, self.generation])
            candidates = self._ask(rng)
            if dream:
                generator = th.Generator().manual_seed(int(rng.integers(2**31)))
                returns = self.play_dream(candidates, self.n_eval_episodes, self.temperature, generator)
            else:
                callback.on_rollout_start()
                if self.seed is not None and self.env is not None:
                    self.env.seed(int(rng.integers(2**31)))
                played = self.play(candidates, self.n_eval_episodes, total_timesteps, callback)
                if played is None:
                    return False
                if self.num_timesteps >= total_timesteps and np.isnan(played).any():  # cut off by the budget
                    break
                returns = played
                callback.on_rollout_end()
                self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
            fitness, n_non_finite = rank_non_finite_last(returns.mean(axis=1))  # [P]
            self._tell(candidates, fitness)
            self.generation, self.generations_left = self.generation + 1, self.generations_left - 1
            self.logger.record("controller/generation", self.generation)
            finite = fitness[np.isfinite(fitness)]
            self.logger.record("controller/fitness_mean", float(finite.mean()))
            self.logger.record("controller/fitness_max", float(finite.max()))
            self.logger.record("controller/fitness_std", float(finite.std()))
            self.logger.record("fitness/non_finite", n_non_finite)
            if log_interval is not None and (self.generation % log_interval == 0 or self.generations_left == 0):
                self.dump_logs()
        return True

    def _ask(self, rng: np.random.Generator) -> np.ndarray:
        """Draw the candidates of this generation, float64 [P, n_params]."""
        if self._search is None:
            self._search = _make_search(self.policy.get_vector(), self.sigma, self.population_size, self.sep_above)
        self._search.reseed_rng(int(rng.integers(2**31)))
        return np.array([self._search.ask() for _ in range(self.population_size)])

    def _tell(self, candidates: np.ndarray, fitness: np.ndarray) -> None:
        self._search.tell([(x, -float(f)) for x, f in zip(candidates, fitness, strict=True)])  # minimises
        self.policy.set_vector(self._search.mean)

    def play(self, candidates: np.ndarray, n_episodes: int, total_timesteps: int, callback: BaseCallback) -> np.ndarray | None:
        """Let every candidate play whole episodes in the real environment; a free env takes the next episode due.

        :param candidates: parameters of controllers, [C, n_params]
        :param n_episodes: episodes of each
        :param total_timesteps: where to stop in any case
        :param callback: called at every step of the VecEnv
        :return: returns, float64 [C, n_episodes], NaN where an episode was not played to its end; None if the callback stopped
        """
        assert self.env is not None, "_setup_learn asks for an env"
        env, n, n_jobs = self.env, self.n_envs, len(candidates) * n_episodes
        weights = th.as_tensor(candidates, dtype=th.float32, device=self.device)  # [C, n_params]
        job = np.arange(n)  # [n], episode number j belongs to candidate j % C
        next_job, returns = n, np.full(n_jobs, np.nan)
        running, state = np.zeros(n), self.policy.rnn.initial_state(n)
        self._last_obs = env.reset()  # type: ignore[assignment]
        while (playing := job < n_jobs).any() and self.num_timesteps < total_timesteps:
            actions, state = self.policy.act(self._last_obs, state, weights[job % len(candidates)])
            self._last_obs, rewards, dones, infos = env.step(actions)  # type: ignore[assignment]
            self.num_timesteps += int(playing.sum())
            callback.update_locals(locals())
            if not callback.on_step():
                return None
            running += self._original(rewards)
            ended = np.flatnonzero(dones & playing)
            self._update_info_buffer([infos[i] for i in ended], dones[ended])
            returns[job[ended]] = running[ended]
            job[ended] = next_job + np.arange(len(ended))
            next_job += len(ended)
            running[dones] = 0.0
            state = _forget(state, dones)
        return returns.reshape(n_episodes, len(candidates)).T

    @th.no_grad()
    def play_dream(self, candidates: np.ndarray, n_episodes: int, temperature: float, generator: th.Generator) -> np.ndarray:
        """Let every candidate play episodes in M's dream, all at once; the k-th episodes of all meet the same chance.

        :param candidates: parameters of controllers, [C, n_params]
        :param n_episodes: episodes of each
        :param temperature: τ of the dream
        :param generator: of the dream's chance, on the CPU
        :return: returns, float64 [C, n_episodes]
        """
        policy, rnn, n = self.policy, self.policy.rnn, len(candidates)
        weights = th.as_tensor(candidates, dtype=th.float32, device=self.device).repeat_interleave(n_episodes, dim=0)
        start = policy.starts[th.randint(N_STARTS, (n_episodes,), generator=generator).to(self.device)]  # [E, 2, Z]
        noise = draw_noise(rnn, n_episodes, generator).normal
        z = (start[:, 0] + (0.5 * start[:, 1]).exp() * noise).repeat(n, 1)  # [C * E, Z]
        state = rnn.initial_state(n * n_episodes)
        returns = th.zeros(n * n_episodes, dtype=th.float64, device=self.device)
        alive = th.ones(n * n_episodes, dtype=th.bool, device=self.device)
        for _ in range(self.longest_episode):
            vectors = policy.action_vectors(policy.outputs(z, state[0], weights))
            state = rnn.advance(z, vectors, state)
            chance = draw_noise(rnn, n_episodes, generator, repeats=n)
            z = sample_mixture(rnn.mixture(state[0]), temperature, chance)
            reward, done_logit = rnn.outcome(state[0], z)
            returns += alive * reward
            alive &= ~sample_done(done_logit, temperature, chance)
            if not alive.any():
                break
        return returns.view(n, n_episodes).cpu().numpy()

    def evaluate_dream(self, n_eval_episodes: int = 100, temperature: float = 1.0, seed: int = 0) -> tuple[float, float]:
        """Return mean and standard deviation of the return that C has in the dream, as ``evaluate_policy`` does for the world.

        :param n_eval_episodes: episodes dreamt
        :param temperature: τ (default 1, the model as it is)
        :param seed: of the dream's chance
        """
        generator = th.Generator().manual_seed(seed)
        returns = self.play_dream(self.policy.get_vector()[None], n_eval_episodes, temperature, generator)
        return float(returns.mean()), float(returns.std())

    # ---- logs and files

    def dump_logs(self) -> None:
        """Write the log of what has been recorded since the last line."""
        record_progress(self)
        self.logger.record("train/round", self.round)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.dump(step=self.num_timesteps)

    def _put_replay(self, replay: "deque[Episode]") -> None:
        """Take over episodes that were saved; later rounds learn from them too."""
        self.replay_buffer = replay
        self._steps_kept = sum(len(episode.rewards) for episode in replay)

    def predict(
        self,
        observation: Any,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Return C's actions and M's state after them; see ``WorldModelPolicy.predict``."""
        return self.policy.predict(observation, state, episode_start, deterministic)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "replay_buffer", "_steps_kept"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "vae_optimizer", "rnn_optimizer"], []


def _forget(state: State, dones: np.ndarray) -> State:
    """M's state with zeros where an episode has ended."""
    if not dones.any():
        return state
    keep = th.as_tensor(~dones, device=state[0].device)[:, None]
    return state[0] * keep, state[1] * keep


def _batches(order: np.ndarray, size: int) -> Iterator[np.ndarray]:
    return (order[i : i + size] for i in range(0, len(order), size))


def _make_search(mean: np.ndarray, sigma: float, population_size: int, sep_above: int) -> Any:
    try:
        from cmaes import CMA, SepCMA
    except ImportError as error:
        raise ImportError("WorldModels needs the package cmaes: pip install 'sb3-lecture[evolution]'") from error
    return (SepCMA if len(mean) > sep_above else CMA)(mean=mean, sigma=sigma, population_size=population_size)
