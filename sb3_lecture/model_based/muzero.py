"""MuZero: AlphaZero without the rules. The search looks ahead in a model that is learned with the network.

A representation h makes a latent state of an observation, the dynamics g leads from there by imagined actions, a prediction f
says of every latent state a policy p, a value v and the reward r of the step that led to it (Schrittwieser et al. 2020,
https://arxiv.org/abs/1911.08265). A tree search in this model finds in each state a better policy π and value ν. All three
are trained as one recurrent network, unrolled K steps along the actions that were played (eq. 1):

    l_t = Σ_{k=0..K} l^p(π_{t+k}, p_k) + l^v(z_{t+k}, v_k) + l^r(u_{t+k}, r_k) + c ‖θ‖²

z is the n-step return that ends in ν, u the reward. Nothing asks the latent states to show the world: the model need only
foretell what planning reads off it. Details of appendix G: the steps k > 0 weigh 1 / K, half of the gradient enters each g,
rows are drawn by |ν − z|. Reanalyze (appendix H): states of the memory are searched anew with the newest network, which
renews their π and ν.

Deviations and choices:

- one process: all envs take ``train_freq`` steps, then follow ``gradient_steps``; the search has always the newest network;
- a board game has the discount −1 and its result as the reward of the last move, where the paper leaves rewards out of games:
  Q = r − v' is then exact at the end too, and beyond it the value is 0 as everywhere;
- values and rewards are categorical in games too, within [−1, 1];
- ``reanalyze_ratio`` counts states searched anew for each step taken, and they keep their place in the memory;
- importance weights are divided by the largest in the batch (Schaul et al. 2016); Adam where the paper has momentum;
- trees are not kept from move to move: a model's latent state after a move is not that of the new observation.

Under VecNormalize the memory holds observations and rewards as the env gave them, and reads them by today's statistics, as
SB3's does.
"""

from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, RolloutReturn, Schedule
from stable_baselines3.common.vec_env import unwrap_vec_normalize
from torch import nn
from torch.nn import functional as F

from sb3_lecture.common.checkpoint import SafeSave
from sb3_lecture.common.checks import FLAG, Choice, Integer, Real, check_arguments, check_known, naming_memory
from sb3_lecture.common.distributional import two_hot, value_transform
from sb3_lecture.common.optimizers import policy_defaults, without_denormals
from sb3_lecture.common.spaces import check_zero_based
from sb3_lecture.common.vec_env import reward_scaling
from sb3_lecture.search.mcts import MCTS, SEARCH_SETTINGS
from sb3_lecture_envs.board.game import Game

from .muzero_networks import MuZeroCnnPolicy, MuZeroMlpPolicy, MuZeroPolicy
from .muzero_replay import CUT, GOES_ON, TERMINATED, Batch, TrajectoryBuffer, turned
from .self_play import log_first_player, many_envs

__all__ = ["MuZero"]

SelfMuZero = TypeVar("SelfMuZero", bound="MuZero")


class MuZero(SafeSave, OffPolicyAlgorithm):
    """MuZero for board games by self-play, and for any env with discrete actions. A timestep is a move.

    In self-play ``rollout/ep_rew_mean`` is the first player's mean result: 1 win, 0 draw, −1 loss.

    :param policy: "MlpPolicy", "CnnPolicy" (planes: images and boards) or a subclass of MuZeroPolicy
    :param env: environment, or its id, of which ``n_games`` are built; None only when loading
    :param learning_rate: step size of the optimizer, or a schedule of the remaining progress (default 1e-3)
    :param n_games: envs played at once where ``env`` is an id; None (default): 64 of a board game, 8 of another
    :param n_simulations: of every search, in training and in ``predict`` (default 50)
    :param selection: "puct" (default) or "gumbel"
    :param buffer_size: newest steps kept, of all envs together (default 50,000)
    :param learning_starts: steps before the first gradient step (default 1000)
    :param batch_size: rows in a gradient step, each unrolled (default 128)
    :param gamma: discount (default 0.997); self-play has none
    :param train_freq: steps of each env between two phases of learning (default 4)
    :param gradient_steps: in each of them (default 8)
    :param td_steps: n of the n-step returns (default 10); None: to the end of the episode
    :param unroll_steps: K, steps that the model is unrolled (default 5)
    :param reanalyze_ratio: states of the memory searched anew for each step taken (default 1.0); 0: no Reanalyze
    :param per_alpha: exponent of the priorities |ν − z|; 0: rows are drawn uniformly (default 1)
    :param per_beta: exponent of the importance weights (default 1)
    :param vf_coef: weight of the value loss (default 0.25, that of Reanalyze)
    :param l2_coef: c of eq. 1 (default 1e-4)
    :param max_grad_norm: bound on the norm of the gradient; None: none (default 10)
    :param temperature: PUCT's moves are drawn ∝ N^(1/τ); τ falls in proportion to the remaining progress from here (default 1)
    :param final_temperature: … to here (default 0.25)
    :param temperature_moves: moves of an episode after which the most visited is played (τ → 0); None (default): none
    :param dirichlet_alpha: of the root's noise (default 0.3)
    :param dirichlet_fraction: its weight in the priors (default 0.25)
    :param c_init: exploration constant c1 of the search (default 1.25)
    :param use_symmetries: learn from boards turned at random, where a game states its symmetries; the paper's MuZero knows of
        none (default False)
    :param search_kwargs: further arguments of ``MCTS``
    :param stats_window_size: episodes in the logged means (default 100)
    :param tensorboard_log: folder of the tensorboard log, None for none (default)
    :param policy_kwargs: arguments of the policy; if not given ``value_limit`` is 1 in self-play, and ``board`` True for
        "CnnPolicy" in a board game
    :param verbose: 0 silent (default), 1 training information
    :param seed: seed of all random generators, None for a random one
    :param device: torch device (default "auto")
    :param _init_setup_model: build the networks now (SB3's loader passes False)
    :raises ValueError: for an unknown selection or a number out of range
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": MuZeroMlpPolicy, "CnnPolicy": MuZeroCnnPolicy}
    policy: MuZeroPolicy
    _running = ("_ages", "_search.rng")
    replay_buffer: TrajectoryBuffer | None  # type: ignore[assignment]

    def __init__(
        self,
        policy: str | type[MuZeroPolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 1e-3,
        n_games: int | None = None,
        n_simulations: int = 50,
        selection: Literal["puct", "gumbel"] = "puct",
        buffer_size: int = 50_000,
        learning_starts: int = 1000,
        batch_size: int = 128,
        gamma: float = 0.997,
        train_freq: int | tuple[int, str] = 4,
        gradient_steps: int = 8,
        td_steps: int | None = 10,
        unroll_steps: int = 5,
        reanalyze_ratio: float = 1.0,
        per_alpha: float = 1.0,
        per_beta: float = 1.0,
        vf_coef: float = 0.25,
        l2_coef: float = 1e-4,
        max_grad_norm: float | None = 10.0,
        temperature: float = 1.0,
        final_temperature: float = 0.25,
        temperature_moves: int | None = None,
        dirichlet_alpha: float = 0.3,
        dirichlet_fraction: float = 0.25,
        c_init: float = 1.25,
        use_symmetries: bool = False,
        search_kwargs: dict[str, Any] | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        check_arguments(
            locals(), n_games=Integer(1, none=True), n_simulations=Integer(1), selection=Choice("puct", "gumbel"),
            td_steps=Integer(1, none=True), unroll_steps=Integer(1), reanalyze_ratio=Real(0), per_alpha=Real(0),
            per_beta=Real(0), l2_coef=Real(0), max_grad_norm=Real(above=0, infinite=True, none=True), temperature=Real(0),
            final_temperature=Real(0), temperature_moves=Integer(0, none=True), dirichlet_alpha=Real(above=0),
            dirichlet_fraction=Real(0, 1), c_init=Real(0), use_symmetries=FLAG,
        )  # fmt: skip
        super().__init__(
            policy,
            many_envs(env, n_games) if isinstance(env, str) else env,  # type: ignore[arg-type]
            learning_rate,
            buffer_size=buffer_size,
            learning_starts=learning_starts,
            batch_size=batch_size,
            gamma=gamma,
            train_freq=train_freq,
            gradient_steps=gradient_steps,
            replay_buffer_class=TrajectoryBuffer,
            policy_kwargs=dict(policy_kwargs or {}),
            stats_window_size=stats_window_size,
            tensorboard_log=tensorboard_log,
            verbose=verbose,
            device=device,
            seed=seed,
            sde_support=False,
            supported_action_spaces=(spaces.Discrete,),
            support_multi_env=True,
        )
        if env is not None and self.action_space.start != 0:  # type: ignore[attr-defined]
            raise ValueError(f"{self.action_space} begins at another number than 0: wrap the env (TransformAction)")
        if env is not None and isinstance(self.observation_space, spaces.Dict):
            raise ValueError(f"{self.observation_space} has several parts; flatten it (gymnasium.wrappers.FlattenObservation)")
        self.n_games, self.n_simulations, self.selection = n_games, n_simulations, selection
        self.td_steps, self.unroll_steps, self.reanalyze_ratio = td_steps, unroll_steps, reanalyze_ratio
        self.per_alpha, self.per_beta = per_alpha, per_beta
        self.vf_coef, self.l2_coef, self.max_grad_norm = vf_coef, l2_coef, max_grad_norm
        self.temperature, self.final_temperature, self.temperature_moves = temperature, final_temperature, temperature_moves
        self.dirichlet_alpha, self.dirichlet_fraction, self.c_init = dirichlet_alpha, dirichlet_fraction, c_init
        self.use_symmetries = use_symmetries
        self.search_kwargs = dict(search_kwargs or {})
        check_known("search_kwargs", self.search_kwargs, SEARCH_SETTINGS)
        self.game: Game | None = None  # whose legal moves are read off observations, and whose players alternate
        self.self_play = False  # whether both sides' moves are ours
        self._network: dict[str, Any] | None = None  # of the policy, as the first env asked for it
        if _init_setup_model:
            self._setup_model()

    @naming_memory("buffer_size")
    def _setup_model(self) -> None:
        check_zero_based(self.observation_space, self.action_space)
        self._read_env()
        if self._network is None:  # what the first env asked for: the networks of a loaded model have that shape
            board = {"board": True} if self.game is not None and issubclass(self.policy_class, MuZeroCnnPolicy) else {}
            self._network = {**({"value_limit": 1.0} if self.self_play else {}), **board}
        if self.replay_buffer is None:
            self.replay_buffer = TrajectoryBuffer(
                self.buffer_size, self.observation_space, self.action_space, self.device, self.n_envs,  # type: ignore[arg-type]
                self.discount, self.td_steps, self.unroll_steps, self.per_alpha, self.per_beta,
            )  # fmt: skip
        with policy_defaults(self, **self._network):
            super()._setup_model()
        self._search = self.make_search(seed=int(np.random.randint(2**31)))
        self._begin_episodes()

    def _read_env(self) -> None:
        """Find out whether the env is a game, whether both sides are ours, and whether it says which actions are allowed."""
        env = self.env
        if env is None:
            return
        found = env.get_attr("game", [0])[0] if env.has_attr("game") else None
        same = isinstance(found, Game) and env.observation_space.shape == found.observation_shape
        self.game = found if same else None  # type: ignore[assignment]
        opponent = env.get_attr("opponent", [0])[0] if env.has_attr("opponent") else None
        self.self_play = isinstance(found, Game) and opponent is None
        self._masked = is_masking_supported(env)
        if isinstance(found, Game) and unwrap_vec_normalize(env) is not None:
            raise ValueError("VecNormalize moves the observations that boards are read from; leave it out")

    @property
    def discount(self) -> float:
        """What the next state's value weighs in this one's: γ, or −1 between two players."""
        return -1.0 if self.self_play else self.gamma

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """Give the model another env, with the same spaces."""
        super().set_env(env, force_reset)
        self._read_env()
        self._begin_episodes()

    def _begin_episodes(self) -> None:
        """The envs are about to be reset: the running episodes go on no further."""
        if self.replay_buffer is not None:
            self.replay_buffer.cut()
        self._ages = np.zeros(self.n_envs, np.int64)  # [n_envs], moves played in each episode
        self._found: tuple[np.ndarray, ...] = ()  # π, ν and the legal actions of the move at hand
        self._owed = 0.0  # states to be searched anew

    @naming_memory("n_simulations")
    def make_search(self, n_simulations: int | None = None, seed: int | None = None) -> MCTS:
        """Return a search in the present model.

        :param n_simulations: None: the model's
        :param seed: of its draws
        """
        return MCTS(
            self.policy.simulator(self.discount),
            None,
            self.n_simulations if n_simulations is None else n_simulations,
            self.selection,
            seed=seed,
            **{
                "c_init": self.c_init,
                "value_range": (-1.0, 1.0) if self.self_play else None,
                "dirichlet_alpha": self.dirichlet_alpha,
                "dirichlet_fraction": self.dirichlet_fraction,
                **self.search_kwargs,
            },
        )

    @without_denormals()
    def learn(
        self: SelfMuZero,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 100,
        tb_log_name: str = "MuZero",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfMuZero:
        """Alternate play and gradient steps until ``total_timesteps``.

        :param total_timesteps: steps of all envs together
        :param callback: called whenever all envs have moved; stops the training by returning False
        :param log_interval: episodes between two lines of the log
        :param tb_log_name: name of the tensorboard run
        :param reset_num_timesteps: start counting (and the logs) anew
        :param progress_bar: show a progress bar
        :return: the model itself
        """
        return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)

    def _setup_learn(self, total_timesteps: int, callback: MaybeCallback = None, reset_num_timesteps: bool = True,
                     *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:  # fmt: skip
        assert self.replay_buffer is not None
        if self.replay_buffer.n_envs != self.n_envs:
            raise ValueError(
                f"The memory holds trajectories of {self.replay_buffer.n_envs} envs, the model has {self.n_envs}: resume with "
                "as many envs as before"
            )
        self._take_up(reset_num_timesteps)
        if reset_num_timesteps or self._last_obs is None:  # the envs are reset
            self._begin_episodes()
        return super()._setup_learn(total_timesteps, callback, reset_num_timesteps, *args, **kwargs)

    # ------------------------------------------------------------------ playing

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> RolloutReturn:
        """Play on with the newest network; see SB3's for the arguments."""
        self._search.simulator = self.policy.simulator(self.discount)
        return super().collect_rollouts(*args, **kwargs)

    def _remembered(self, observations: np.ndarray) -> np.ndarray:
        """Return observations of the memory [n, …] as the env would show them today."""
        env = self._vec_normalize_env
        return observations if env is None else env.normalize_obs(observations)  # type: ignore[return-value]

    def _inputs(self, observations: np.ndarray) -> th.Tensor:
        """Return what the network sees of observations [n, …]."""
        tensor = th.as_tensor(observations, device=self.device)
        return preprocess_obs(tensor, self.observation_space)  # type: ignore[return-value, arg-type]

    @naming_memory("n_simulations")
    def _sample_action(self, *args: Any, **kwargs: Any) -> tuple[np.ndarray, np.ndarray]:
        """Search from all states, with noise, and draw an action from each."""
        assert self.env is not None and isinstance(self._last_obs, np.ndarray)
        legal = get_action_masks(self.env) if self._masked else None  # [n_envs, A]
        remaining = max(0.0, self._current_progress_remaining)  # the last steps of many envs may go past the total
        tau = self.final_temperature + (self.temperature - self.final_temperature) * remaining
        result = self._search.search(self.policy.root(self._inputs(self._last_obs)), legal, noise=True, temperature=tau)
        actions = result.actions  # a ~ N(s, a)^(1/τ)
        if self.selection == "puct" and self.temperature_moves is not None:
            actions = np.where(self._ages >= self.temperature_moves, result.visits.argmax(axis=1), actions)  # τ → 0
        self._found = (result.policy, result.values) if legal is None else (result.policy, result.values, legal)
        return actions, actions

    def _store_transition(
        self, replay_buffer: ReplayBuffer, buffer_action: np.ndarray, new_obs: Any, reward: np.ndarray, dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:  # fmt: skip
        """Store the step; a time limit is no end, so the search says what the last observation is worth."""
        ends = np.where(dones, TERMINATED, GOES_ON)
        end_values = np.zeros(self.n_envs, np.float32)
        limited = [i for i in np.flatnonzero(dones) if infos[i].get("TimeLimit.truncated", False)]
        if limited:
            last = np.stack([infos[i]["terminal_observation"] for i in limited])
            end_values[limited] = self._search.search(self.policy.root(self._inputs(last))).values
            ends[limited] = CUT
        kept, gained, env = self._last_obs, reward, self._vec_normalize_env
        if env is not None:  # as SB3 does: what the statistics make of them is read when they are drawn
            kept, gained = self._last_original_obs, env.get_original_reward()
            self._last_original_obs, replay_buffer.scaling = env.get_original_obs(), reward_scaling(env)  # type: ignore[attr-defined, assignment]
        replay_buffer.add(kept, buffer_action, gained, ends, end_values, *self._found)  # type: ignore[arg-type]
        if self.self_play:
            assert self.ep_info_buffer is not None
            for ply, r in zip(self._ages[dones].tolist(), reward[dones].tolist(), strict=True):
                self.ep_info_buffer.append({"r": r * (-1) ** ply, "l": ply + 1, "t": 0.0})
        self._ages = np.where(dones, 0, self._ages + 1)
        self._owed += self.reanalyze_ratio * self.n_envs
        self._last_obs = new_obs

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: np.ndarray | None = None) -> None:
        if not self.self_play:  # a sum of both sides' rewards means nothing
            super()._update_info_buffer(infos, dones)

    def dump_logs(self) -> None:
        """Write the log: in self-play the shares of wins, draws and losses of the first player."""
        if self.self_play and self.ep_info_buffer:
            log_first_player(self.logger, (info["r"] for info in self.ep_info_buffer))
        super().dump_logs()

    # ------------------------------------------------------------------ learning

    def train(self, gradient_steps: int, batch_size: int = 128) -> None:
        """Renew old targets by Reanalyze, then descend eq. 1 on rows drawn from the memory.

        :param gradient_steps: how many gradient steps
        :param batch_size: rows in each
        """
        memory = self.replay_buffer
        assert memory is not None
        if not memory.ready():  # no return is complete yet
            return
        n = int(self._owed)
        self._owed -= n
        if n > 0:
            self.reanalyze(n)
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        memory.scaling = reward_scaling(self._vec_normalize_env)
        symmetries = self.game.symmetries if self.use_symmetries and self.game is not None else None
        losses = []
        for _ in range(gradient_steps):
            batch = memory.sample(batch_size)
            batch = batch._replace(observations=self._remembered(batch.observations))
            if symmetries is not None:
                batch = turned(batch, symmetries, np.random.randint(len(symmetries.cells), size=batch_size))
            parts = self.losses(batch)  # 3 x [B]
            weights = th.as_tensor(batch.weights, device=self.device)
            l2 = th.stack([p.square().sum() for p in self.policy.parameters()]).sum()  # ‖θ‖²
            loss = (weights * (parts[0] + self.vf_coef * parts[1] + parts[2])).mean() + self.l2_coef * l2  # eq. 1
            self.policy.optimizer.zero_grad()
            loss.backward()
            if self.max_grad_norm is not None:
                nn.utils.clip_grad_norm_(self.policy.parameters(), self.max_grad_norm)
            self.policy.optimizer.step()
            if self.per_alpha > 0:
                memory.renew_priorities(batch.rows, batch.values[:, 0])
            losses.append(th.stack([*(part.mean() for part in parts), l2]).detach())
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        names = ("policy_loss", "value_loss", "reward_loss", "l2")
        for name, mean in zip(names, th.stack(losses).mean(dim=0).tolist(), strict=True):
            self.logger.record(f"train/{name}", mean)

    def losses(self, batch: Batch) -> list[th.Tensor]:
        """Unroll the model along a batch.

        :param batch: rows and the K steps after each
        :return: the cross-entropies of policy, value and reward, each [B], summed over the steps
        """
        (b, k), device = batch.actions.shape, self.device
        actions = F.one_hot(th.as_tensor(batch.actions, device=device), self.policy.n_actions).float()  # [B, K, A]
        latent = self.policy.represent(self._inputs(batch.observations))
        latents = [latent]
        for action in actions.unbind(dim=1):
            latent = self.policy.step(halve_gradient(latent), action)
            latents.append(latent)
        logits, numbers = self.policy.foretell(th.stack(latents, dim=1).flatten(0, 1))
        logits = logits.view(b, k + 1, -1).log_softmax(dim=2)  # [B, K + 1, A]
        logs = numbers.log_softmax(dim=2).view(b, k + 1, 2, -1)  # [B, K + 1, 2, m], of v and r
        rewards = np.concatenate((np.zeros((b, 1), np.float32), batch.rewards), axis=1)
        scalars = th.as_tensor(np.stack((batch.values, rewards), axis=2), device=device)  # [B, K + 1, 2]
        targets = two_hot(value_transform(scalars), self.policy.bins)  # [B, K + 1, 2, m]
        known = np.stack((batch.known, batch.known), axis=2)
        known[:, 0, 1] = False  # no step led to the first state
        weights = th.full((k + 1,), 1.0 / k, device=device)  # 1 / K …
        weights[0] = 1.0  # … but for the state that was seen
        policies = th.as_tensor(batch.policies, device=device)  # [B, K + 1, A], 0 where there is none
        policy_loss = -(policies * logits).sum(dim=2) @ weights
        pair = -((targets * logs).sum(dim=3) * th.as_tensor(known, device=device)).transpose(1, 2) @ weights  # [B, 2]
        return [policy_loss, pair[:, 0], pair[:, 1]]

    def reanalyze(self, n: int) -> None:
        """Search n states of the memory anew, drawn uniformly, and renew their π and ν.

        :param n: how many
        """
        assert self.replay_buffer is not None
        memory = self.replay_buffer
        simulator = self.policy.simulator(self.discount)
        for begin in range(0, n, 256):
            rows = memory.draw(min(256, n - begin))
            places, columns = np.divmod(rows, memory.n_envs)
            self._search.simulator = simulator
            root = self.policy.root(self._inputs(self._remembered(memory.observations[places, columns])))
            result = self._search.search(root, memory.legal[places, columns], noise=True)
            memory.refresh(rows, result.policy, result.values)

    # ------------------------------------------------------------------ acting

    def predict(  # type: ignore[override]
        self,
        observation: np.ndarray,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = True,
        action_masks: np.ndarray | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Search without noise and return the most visited actions; nothing is kept from one call to the next.

        :param observation: one observation or a batch of them
        :param state: passed through (no memory)
        :param episode_start: ignored (no memory)
        :param deterministic: ignored: nothing is drawn (``policy.predict`` is the raw network)
        :param action_masks: bool [n, A], allowed actions; None: all, or those that the board shows to be legal
        :return: actions [n] (no axis for a single observation), the state. Where no action is allowed, the raw network's
        """
        tensor, vectorized = self.policy.obs_to_tensor(observation)
        root = self.policy.root(preprocess_obs(tensor, self.observation_space))  # type: ignore[arg-type]
        legal = np.ones(root.logits.shape, np.bool_)
        if action_masks is not None:
            legal &= np.asarray(action_masks, np.bool_).reshape(legal.shape)
        elif self.game is not None:
            legal &= self.game.legal(self.game.state_of(tensor.cpu().numpy()))  # type: ignore[union-attr]
        actions, alive = self.policy.best(root.logits), legal.any(axis=1)
        if alive.any():
            some = type(root)(*(part[alive] for part in root))
            actions[alive] = self.make_search(seed=0).search(some, legal[alive]).actions
        return (actions if vectorized else actions[0]), state

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_search", "_found", "_ages"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []


def halve_gradient(latent: th.Tensor) -> th.Tensor:
    """Return the same latent states, through which half of the gradient passes (appendix G)."""
    same = latent.view_as(latent)
    if same.requires_grad:
        same.register_hook(_half)
    return same


def _half(gradient: th.Tensor) -> th.Tensor:
    return 0.5 * gradient
