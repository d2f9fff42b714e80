"""AlphaZero: a network learns from its own search, and the search looks ahead with the network.

In every position a tree search guided by the network's policy p and value v finds a better policy π. Games are played by π
against itself; their results z and the π teach the network (Silver et al. 2017, https://doi.org/10.1038/nature24270, eq. 1):

    (p, v) = f_θ(s),    l = (z − v)² − πᵀ log p + c ‖θ‖²

so that the next search begins where the last one ended: policy iteration, the search its improvement operator, the result of
self-play its evaluation. AlphaZero (Silver et al. 2018, https://doi.org/10.1126/science.aar6404) plays always with the newest
network. One player in a ``TabularMDP`` is the same algorithm with another discount: z is the return to go.

Deviations and choices:

- one process: all games take a move, then the network takes ``gradient_steps`` every ``train_freq`` moves of a game;
- the search normalises values to [0, 1] and has MuZero's constants c1 and c2 (Schrittwieser et al. 2020, eq. 2), the same
  rule with another scale; ``selection="gumbel"`` is Danihelka et al. 2022, whose π is the improved policy of eq. 11;
- symmetries are drawn when the network learns (2017), not when the search evaluates; no game is resigned;
- trees are not kept from move to move (2017 keeps them): every ``train_freq`` moves the network that grew them is another one,
  and all games begin their search with equally many visits;
- ``q_fraction`` can mix the root's searched value into z (0 by default, as in the papers);
- Adam by default, where the papers take momentum; ``policy_kwargs`` may name another optimizer;
- a time limit is no end: z is bootstrapped there with the value that a search gives the last state.
"""

from typing import Any, ClassVar, Literal, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, RolloutReturn, Schedule
from torch.nn import functional as F

from sb3_lecture.common.checkpoint import SafeSave
from sb3_lecture.common.checks import FLAG, Choice, Integer, Real, check_arguments, check_known, naming_memory
from sb3_lecture.common.optimizers import policy_defaults, without_denormals
from sb3_lecture.common.spaces import check_zero_based
from sb3_lecture.search.mcts import MCTS, SEARCH_SETTINGS
from sb3_lecture_envs.board.game import PLY

from .alphazero_policy import AlphaZeroMlpPolicy, AlphaZeroPolicy, BoardCnnPolicy
from .self_play import (
    BoardWorld,
    PuzzleWorld,
    SelfPlayBuffer,
    Targets,
    World,
    log_first_player,
    many_envs,
    read_world,
    returns_to_go,
    transform,
)

__all__ = ["AlphaZero", "AlphaZeroMlpPolicy", "AlphaZeroPolicy", "BoardCnnPolicy"]

SelfAlphaZero = TypeVar("SelfAlphaZero", bound="AlphaZero")


class AlphaZero(SafeSave, OffPolicyAlgorithm):
    """AlphaZero for board games and, with one player, for tabular MDPs. A timestep is a move.

    In games ``ep_info_buffer``, and so ``rollout/ep_rew_mean``, holds the first player's results: 1 win, 0 draw, −1 loss.

    :param policy: "MlpPolicy", "BoardCnnPolicy" or a subclass of AlphaZeroPolicy
    :param env: environment, or its id, of which ``n_games`` are built; None only when loading
    :param learning_rate: step size of the optimizer, or a schedule of the remaining progress (default 1e-3)
    :param n_games: games played at once where ``env`` is an id (default 64); otherwise there are as many as it has envs
    :param n_simulations: of every search, in training and in ``predict`` (default 50)
    :param selection: "puct" (default) or "gumbel"
    :param buffer_size: newest moves kept (default 50,000)
    :param learning_starts: moves before the first gradient step (default 1000)
    :param batch_size: moves in a gradient step (default 256)
    :param gamma: discount of an MDP (default 0.99); a game has none
    :param train_freq: moves of each game between two phases of learning (default 4)
    :param gradient_steps: in each of them (default 8)
    :param temperature_moves: first moves of a game that are drawn in proportion to visits (τ = 1); later ones are the most
        visited (τ → 0). None: all moves are drawn. Default 30. Gumbel draws all by its own rule
    :param bootstrap_every: moves after which a running episode is stored so far, z bootstrapped with the value that a search
        gives its newest state, for worlds with long episodes; None: at its end only (default)
    :param q_fraction: share w of the root's searched value q in the value's target, (1 − w) z + w q: z of one game is noisy.
        Default 0, the paper's target
    :param demonstrations: share of every batch that is the world's synthetic demonstrations, which puzzles such as
        ``Lecture/TensorGame-v0`` draw (default 0)
    :param dirichlet_alpha: of the root's noise (default 0.5)
    :param dirichlet_fraction: its weight in the priors (default 0.25)
    :param c_init: exploration constant c1 of the search (default 1.25)
    :param l2_coef: c of eq. 1 (default 1e-4)
    :param use_symmetries: learn from boards turned at random, where the game has symmetries (default True)
    :param search_kwargs: further arguments of ``MCTS``
    :param stats_window_size: games in the logged means (default 100)
    :param tensorboard_log: folder of the tensorboard log, None for none (default)
    :param policy_kwargs: arguments of the policy
    :param verbose: 0 silent (default), 1 training information
    :param seed: seed of all random generators, None for a random one
    :param device: torch device (default "auto")
    :param _init_setup_model: build the networks now (SB3's loader passes False)
    :raises ValueError: for an env that states no rules, an unknown selection, or a number out of range
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {
        "MlpPolicy": AlphaZeroMlpPolicy,
        "BoardCnnPolicy": BoardCnnPolicy,
    }
    policy: AlphaZeroPolicy
    _running = ("_games", "_ages", "_search.rng")
    replay_buffer: SelfPlayBuffer | None  # type: ignore[assignment]
    world: World

    def __init__(
        self,
        policy: str | type[AlphaZeroPolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 1e-3,
        n_games: int = 64,
        n_simulations: int = 50,
        selection: Literal["puct", "gumbel"] = "puct",
        buffer_size: int = 50_000,
        learning_starts: int = 1000,
        batch_size: int = 256,
        gamma: float = 0.99,
        train_freq: int | tuple[int, str] = 4,
        gradient_steps: int = 8,
        temperature_moves: int | None = 30,
        bootstrap_every: int | None = None,
        q_fraction: float = 0.0,
        demonstrations: float = 0.0,
        dirichlet_alpha: float = 0.5,
        dirichlet_fraction: float = 0.25,
        c_init: float = 1.25,
        l2_coef: float = 1e-4,
        use_symmetries: bool = True,
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
            locals(), n_games=Integer(1), n_simulations=Integer(1), selection=Choice("puct", "gumbel"),
            temperature_moves=Integer(0, none=True), bootstrap_every=Integer(1, none=True), q_fraction=Real(0, 1),
            demonstrations=Real(0, 1),
            dirichlet_alpha=Real(above=0), dirichlet_fraction=Real(0, 1), c_init=Real(0), l2_coef=Real(0), use_symmetries=FLAG,
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
            replay_buffer_class=SelfPlayBuffer,
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
        self.n_games, self.n_simulations, self.selection = n_games, n_simulations, selection
        self.temperature_moves, self.bootstrap_every, self.q_fraction = temperature_moves, bootstrap_every, q_fraction
        self.demonstrations = demonstrations
        self.dirichlet_alpha, self.dirichlet_fraction, self.c_init = dirichlet_alpha, dirichlet_fraction, c_init
        self.l2_coef, self.use_symmetries = l2_coef, use_symmetries
        self.search_kwargs = dict(search_kwargs or {})
        check_known("search_kwargs", self.search_kwargs, SEARCH_SETTINGS)
        if _init_setup_model:
            self._setup_model()

    @naming_memory("buffer_size")
    def _setup_model(self) -> None:
        check_zero_based(self.observation_space, self.action_space)
        if self.env is not None:
            self.world = read_world(self.env, self.gamma)
            if self.demonstrations > 0 and not isinstance(self.world, PuzzleWorld):
                raise ValueError(f"demonstrations={self.demonstrations}: only puzzles such as Lecture/TensorGame-v0 draw them")
        if self.replay_buffer is None:
            self.replay_buffer = SelfPlayBuffer(
                self.buffer_size, self.observation_space, self.action_space, self.device, self.n_envs,  # type: ignore[arg-type]
                self.world.state_size, self.world.state_dtype,
            )  # fmt: skip
        with policy_defaults(self, squash_value=isinstance(self.world, BoardWorld)):
            super()._setup_model()
        self._search = self.make_search(seed=int(np.random.randint(2**31)))
        self._begin_games()

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """Give the model another env, and so other rules."""
        super().set_env(env, force_reset)
        assert self.env is not None
        self.world = read_world(self.env, self.gamma)
        self._search = self.make_search(seed=int(np.random.randint(2**31)))
        self._begin_games()

    def _begin_games(self) -> None:
        """Forget the unfinished games: of each, the rows, policies, root values and rewards that wait for their z."""
        self._games: list[list[tuple[np.ndarray, np.ndarray, float, float]]] = [[] for _ in range(self.n_envs)]
        self._ages = np.zeros(self.n_envs, np.int64)  # [n_envs], moves played in each
        self._found: tuple[np.ndarray, ...] = ()  # rows, π and root values of the move at hand

    @naming_memory("n_simulations")
    def make_search(self, n_simulations: int | None = None, seed: int | None = None) -> MCTS:
        """Return a search with the present network, for instance for a ``SearchOpponent``.

        :param n_simulations: None: the model's
        :param seed: of its draws
        """
        return MCTS(
            self.world.simulator(),
            self.policy.evaluator(),
            self.n_simulations if n_simulations is None else n_simulations,
            self.selection,
            seed=seed,
            **{
                "c_init": self.c_init,
                "value_range": (-1.0, 1.0) if isinstance(self.world, BoardWorld) else None,
                "dirichlet_alpha": self.dirichlet_alpha,
                "dirichlet_fraction": self.dirichlet_fraction,
                **self.search_kwargs,
            },
        )

    @without_denormals()
    def learn(
        self: SelfAlphaZero,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 100,
        tb_log_name: str = "AlphaZero",
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfAlphaZero:
        """Alternate self-play and gradient steps until ``total_timesteps``.

        :param total_timesteps: moves, of all games together
        :param callback: called whenever all games have moved; stops the training by returning False
        :param log_interval: games between two lines of the log
        :param tb_log_name: name of the tensorboard run
        :param reset_num_timesteps: start counting (and the logs) anew
        :param progress_bar: show a progress bar
        :return: the model itself
        """
        return super().learn(total_timesteps, callback, log_interval, tb_log_name, reset_num_timesteps, progress_bar)

    def _setup_learn(self, total_timesteps: int, callback: MaybeCallback = None, reset_num_timesteps: bool = True,
                     *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:  # fmt: skip
        self._take_up(reset_num_timesteps)
        if reset_num_timesteps or self._last_obs is None:  # the envs are reset
            self._begin_games()
        return super()._setup_learn(total_timesteps, callback, reset_num_timesteps, *args, **kwargs)

    # ------------------------------------------------------------------ self-play

    def collect_rollouts(self, *args: Any, **kwargs: Any) -> RolloutReturn:
        """Play on with the newest network; see SB3's for the arguments."""
        self._search.evaluate = self.policy.evaluator()
        return super().collect_rollouts(*args, **kwargs)

    @naming_memory("n_simulations")
    def _sample_action(self, *args: Any, **kwargs: Any) -> tuple[np.ndarray, np.ndarray]:
        """Search from all positions, with noise, and draw a move from each."""
        rows, legal = self.world.rows(self._last_obs), None  # type: ignore[arg-type]
        if isinstance(self.world, BoardWorld) and self.world.game.has_history_rule:
            assert self.env is not None
            legal = np.stack(self.env.env_method("action_masks"))  # what no state shows (superko)
        result = self._search.search(self.world.roots(rows), legal, noise=True, temperature=1.0)
        actions = result.actions  # a ~ N(s, a)^(1/τ) with τ = 1
        if self.selection == "puct" and self.temperature_moves is not None:
            actions = np.where(self._ages >= self.temperature_moves, result.visits.argmax(axis=1), actions)  # τ → 0
        self._found = rows, result.policy, result.values
        return actions, actions

    def _store_transition(
        self, replay_buffer: ReplayBuffer, buffer_action: np.ndarray, new_obs: Any, reward: np.ndarray, dones: np.ndarray,
        infos: list[dict[str, Any]],
    ) -> None:  # fmt: skip
        """Note the move, and of games that ended, or have gone on for ``bootstrap_every`` moves, (state, π, z)."""
        for game, row, policy, q, r in zip(self._games, *self._found, reward.tolist(), strict=True):
            game.append((row, policy, q, r))
        self._ages = np.where(dones, 0, self._ages + 1)
        long = np.array([len(game) == self.bootstrap_every for game in self._games])
        closed = np.flatnonzero(dones | long)
        last_values = dict.fromkeys(closed, 0.0)
        ends = {i: infos[i]["terminal_observation"] for i in closed if infos[i].get("TimeLimit.truncated", False)}
        ends.update((i, new_obs[i]) for i in closed if not dones[i])
        if ends:  # a time limit is no end
            last = self.world.rows(np.stack(list(ends.values())))
            last_values.update(zip(ends, self._search.search(self.world.roots(last)).values.tolist(), strict=True))
        for i, last_value in last_values.items():
            rows, policies, q, rewards = (np.stack(part) for part in zip(*self._games[i], strict=True))
            z = returns_to_go(rewards, self.world.discount, last_value)
            targets = (1.0 - self.q_fraction) * z + self.q_fraction * q
            self.replay_buffer.add_episode(rows, policies, targets)  # type: ignore[union-attr]
            if dones[i] and isinstance(self.world, BoardWorld):
                assert self.ep_info_buffer is not None
                ply = int(rows[-1, PLY])
                self.ep_info_buffer.append({"r": float(z[-1]) * (-1) ** ply, "l": ply + 1, "t": 0.0})
            self._games[i] = []
        self._last_obs = new_obs

    def _update_info_buffer(self, infos: list[dict[str, Any]], dones: np.ndarray | None = None) -> None:
        if not isinstance(self.world, BoardWorld):  # a sum of both sides' rewards means nothing
            super()._update_info_buffer(infos, dones)

    def dump_logs(self) -> None:
        """Write the log: in games the shares of wins, draws and losses of the first player."""
        if isinstance(self.world, BoardWorld) and self.ep_info_buffer:
            log_first_player(self.logger, (info["r"] for info in self.ep_info_buffer))
        super().dump_logs()

    # ------------------------------------------------------------------ learning

    def train(self, gradient_steps: int, batch_size: int = 256) -> None:
        """Descend eq. 1 on moves drawn from the memory.

        :param gradient_steps: how many gradient steps
        :param batch_size: moves in each
        """
        assert self.replay_buffer is not None
        if self.replay_buffer.size() == 0:  # no game has ended yet
            return
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        losses = []
        for _ in range(gradient_steps):
            inputs, policies, values = self._batch(self._targets(batch_size))
            parts = self.losses(inputs, policies, values)
            loss = parts[0] + parts[1] + self.l2_coef * parts[2]  # eq. 1
            self.policy.optimizer.zero_grad()
            loss.backward()
            self.policy.optimizer.step()
            losses.append(th.stack(parts).detach())
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        for name, mean in zip(("value_loss", "policy_loss", "l2"), th.stack(losses).mean(dim=0).tolist(), strict=True):
            self.logger.record(f"train/{name}", mean)

    def _targets(self, batch_size: int) -> Targets:
        """Draw moves from the memory, and some from the world's demonstrations where they are asked for."""
        assert self.replay_buffer is not None
        n = round(self.demonstrations * batch_size)
        if n == 0 or not isinstance(self.world, PuzzleWorld):
            return self.replay_buffer.sample(batch_size)
        parts = [self.world.demonstrations(n), *([self.replay_buffer.sample(batch_size - n)] if n < batch_size else [])]
        return Targets(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))

    def _batch(self, targets: Targets) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """Return network inputs float32 [n, …], π [n, A] and z [n], each board under a random symmetry."""
        inputs, policies = self.world.inputs(targets.rows), targets.policies
        symmetries = self.world.symmetries
        if self.use_symmetries and symmetries is not None:
            which = np.random.randint(len(symmetries.cells), size=len(inputs))
            inputs, policies = transform(inputs, policies, symmetries, which)
        tensors = [th.as_tensor(array, device=self.device) for array in (inputs, policies, targets.values)]
        return tensors[0], tensors[1], tensors[2]

    def losses(self, inputs: th.Tensor, policies: th.Tensor, values: th.Tensor) -> list[th.Tensor]:
        """Return the three terms of eq. 1, means over the batch: (z − v)², −πᵀ log p and ‖θ‖².

        :param inputs: preprocessed observations, float32 [n, …]
        :param policies: π, float32 [n, A]
        :param values: z, float32 [n]
        """
        logits, v = self.policy(inputs)
        value_loss = F.mse_loss(v, values)  # (z − v)²
        policy_loss = F.cross_entropy(logits, policies)  # −πᵀ log p
        l2 = th.stack([p.square().sum() for p in self.policy.parameters()]).sum()  # ‖θ‖²
        return [value_loss, policy_loss, l2]

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

        :param observation: one observation or a batch of them; each shows its whole state
        :param state: passed through (no memory)
        :param episode_start: ignored (no memory)
        :param deterministic: ignored: nothing is drawn (``policy.predict`` is the raw network)
        :param action_masks: bool [n, A], actions allowed beyond the rules that the state shows; None: all
        :return: actions [n] (no axis for a single observation), the state. Where the episode is over, the raw network's
        """
        tensor, vectorized = self.policy.obs_to_tensor(observation)
        rows = self.world.rows(tensor.cpu().numpy())  # type: ignore[union-attr]
        legal = self.world.legal(rows)  # [n, A]
        if action_masks is not None:
            legal &= np.asarray(action_masks, np.bool_).reshape(legal.shape)
        inputs, alive = self.world.inputs(rows), legal.any(axis=1)
        actions = np.zeros(len(rows), np.int64)
        if alive.any():
            result = self.make_search(seed=0).search(self.world.roots(rows[alive]), legal[alive])
            actions[alive] = result.actions
        if not alive.all():
            actions[~alive] = self.policy.best(self.policy.evaluate(inputs[~alive])[0])
        return (actions if vectorized else actions[0]), state

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_search", "_games", "_ages", "_found"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []
