"""What the neural learners of hidden information share: games played to their end against oneself, and SB3's loop around them.

Rollouts use the env's rules (``HiddenGame``) on arrays: ``n_games`` games at once, every player asked through one network,
whose input is the information state of whoever moves. The envs are never stepped. One timestep is one decision of a player.

Time runs over the decisions of a game, whoever makes them: row t of a batch is everybody's t-th decision.
"""

from typing import Any, ClassVar, NamedTuple, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import update_learning_rate

from sb3_lecture.common.checkpoint import SafeSave
from sb3_lecture.common.checks import Integer, Real, check_arguments
from sb3_lecture.common.logs import record_progress
from sb3_lecture.exact.exploitability_callback import rules_of
from sb3_lecture.games.base import NO_RULES
from sb3_lecture_envs.cards.game import CHANCE, TURN, HiddenGame

SelfSelfPlay = TypeVar("SelfSelfPlay", bound="SelfPlayAlgorithm")


class Games(NamedTuple):
    """Games played to their end: T decisions at most of n games.

    :param observations: what the one who decides knows, float32 [T, n, O]
    :param masks: legal actions, bool [T, n, A]; all True after the end
    :param actions: int64 [T, n]
    :param players: who decides, int64 [T, n]
    :param valid: whether there was a decision, bool [T, n]
    :param payoffs: the first player's, float64 [n]
    """

    observations: np.ndarray
    masks: np.ndarray
    actions: np.ndarray
    players: np.ndarray
    valid: np.ndarray
    payoffs: np.ndarray


def let_nature_move(game: HiddenGame, states: np.ndarray) -> np.ndarray:
    """Draw nature's moves until a player is to move or the game is over, by NumPy's global generator."""
    while len(rows := np.flatnonzero(states[:, TURN] == CHANCE)):
        cumulative = game.chances(states[rows]).cumsum(axis=1)  # [k, C]
        drawn = (cumulative <= np.random.random((len(rows), 1)) * cumulative[:, -1:]).sum(axis=1)
        states[rows] = game.step(states[rows], drawn)
    return states


def decision_returns(games: Games, costs: np.ndarray, values: np.ndarray, lambda_: float) -> np.ndarray:
    """What each decision was followed by, to the one who made it: λ-returns over the player's own decisions, float64 [T, n].

    A player pays the other ``costs`` for what it does. The return of a decision leaves its own cost out; what both pay later
    counts, and so does the payoff. Between two decisions of one player, V of the later one is trusted by 1 − λ:

        G_t = r + (1 − λ) V(next own) + λ (G_next own − cost_next own)

    On the policy that played, V-trace's ratios are 1 and this is V-trace.

    :param games: T decisions of n games
    :param costs: η log(π(a) / π_reg(a)) of the actions taken, float64 [T, n]
    :param values: V of the information states (own cost of the next action included), float64 [T, n]
    :param lambda_: 1 for the payoffs alone
    """
    n_steps, n = games.valid.shape
    rows = np.arange(n)
    following = np.stack([games.payoffs, -games.payoffs], axis=1)  # [n, 2]: what each player gets from here on
    returns = np.zeros((n_steps, n))
    for t in range(n_steps - 1, -1, -1):
        mover, valid = games.players[t], games.valid[t]
        returns[t] = np.where(valid, following[rows, mover], 0.0)
        mine = (1.0 - lambda_) * values[t] + lambda_ * (returns[t] - costs[t])
        following[rows[valid], mover[valid]] = mine[valid]
        following[rows[valid], 1 - mover[valid]] += costs[t][valid]
    return returns


class SelfPlayAlgorithm(SafeSave, BaseAlgorithm):
    """The base of the neural learners of games with hidden information.

    :param policy: "MlpPolicy"
    :param env: an env of a game with hidden information, its id, or a VecEnv; its opponent does not matter
    :param learning_rate: Adam's: a number or a schedule
    :param n_games: games of an iteration
    :param lambda_: of the λ-returns
    :param vf_coef: weight of the value loss
    :param max_grad_norm: largest norm of the gradient
    :param policy_kwargs: arguments of the policy (``net_arch``, …)
    :param stats_window_size: accepted for SB3's sake
    :param tensorboard_log: folder of the TensorBoard log; None: none
    :param verbose: 0 silent, 1 log tables
    :param device: torch device of the network
    :param seed: one seed, one result
    :param _init_setup_model: whether to build the network at once
    :raises ValueError: if an argument is out of its range, or the env states no such rules (while learning)
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": MaskableActorCriticPolicy}
    policy: MaskableActorCriticPolicy
    _scale = 1.0  # the game's largest payoff: the unit of values

    def __init__(
        self,
        policy: Any,
        env: GymEnv | str | None,
        learning_rate: float | Schedule,
        n_games: int,
        lambda_: float,
        vf_coef: float,
        max_grad_norm: float,
        policy_kwargs: dict[str, Any] | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        device: th.device | str = "cpu",
        seed: int | None = None,
        _init_setup_model: bool = True,
    ) -> None:
        check_arguments(locals(), n_games=Integer(1), lambda_=Real(0, 1))
        super().__init__(
            policy, env, learning_rate, policy_kwargs, stats_window_size, tensorboard_log, verbose, device=device,
            support_multi_env=True, seed=seed, supported_action_spaces=(spaces.Discrete,),
        )  # fmt: skip
        self.n_games, self.lambda_ = n_games, lambda_
        self.vf_coef, self.max_grad_norm = vf_coef, max_grad_norm
        self.iteration = 0
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        if self.env is not None and rules_of(self.env) is None:
            raise ValueError(NO_RULES.format(type(self).__name__))
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        policy_class: Any = self.policy_class
        self.policy = policy_class(self.observation_space, self.action_space, self.lr_schedule, **self.policy_kwargs)
        self.policy = self.policy.to(self.device)

    def predict(  # type: ignore[override]
        self,
        observation: Any,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        action_masks: np.ndarray | None = None,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Actions for observations, as MaskablePPO's.

        :param observation: float [n, O] or one observation
        :param state: returned as it is; the observation holds all that the player knows
        :param episode_start: not used
        :param deterministic: the most probable action, which an opponent can foresee, or one drawn
        :param action_masks: legal actions, bool [n, A] or [A]; None: all
        """
        return self.policy.predict(observation, state, episode_start, deterministic, action_masks=action_masks)

    def log_probabilities(self, policy: Any, observations: th.Tensor, masks: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """What a network says: logits [N, A], −1e8 where illegal, and their log-softmax [N, A]."""
        latent = policy.mlp_extractor.forward_actor(policy.extract_features(observations, policy.pi_features_extractor))
        logits = th.where(masks, policy.action_net(latent), -1e8)
        return logits, th.log_softmax(logits, dim=1)

    def _play(self, game: HiddenGame, callback: BaseCallback) -> Games | None:
        """Play ``n_games`` games to their end; None if the callback stopped it."""
        n = int(self.n_games)
        states = let_nature_move(game, game.initial(n))
        rows: list[tuple[np.ndarray, ...]] = []
        while (valid := states[:, TURN] >= 0).any():
            live = np.flatnonzero(valid)
            players = np.where(valid, states[:, TURN], 0)
            observations = game.observe(states, players)
            masks = np.where(valid[:, None], game.legal(states), True)
            with th.no_grad():
                obs = th.as_tensor(observations[live], device=self.device)
                _, logs = self.log_probabilities(self._acting(), obs, th.as_tensor(masks[live], device=self.device))
            noise = np.random.gumbel(size=logs.shape)  # the Gumbel-max trick draws from the softmax
            actions = np.zeros(n, np.int64)
            actions[live] = np.where(masks[live], logs.cpu().numpy() + noise, -np.inf).argmax(axis=1)
            rows.append((observations, masks, actions, players, valid))
            states[live] = game.step(states[live], actions[live])
            states = let_nature_move(game, states)
            self.num_timesteps += len(live)
            dones = valid & (states[:, TURN] < 0)  # [n], read by callbacks that count episodes
            callback.update_locals(locals())
            if not callback.on_step():
                return None
        seen, allowed, played, movers, decided = (np.stack(column) for column in zip(*rows, strict=True))
        return Games(seen, allowed, played, movers, decided, game.payoffs(states))

    def _acting(self) -> Any:
        """The network that plays against itself."""
        return self.policy

    def _train(self, games: Games) -> None:
        """Learn from games played by the policy."""
        raise NotImplementedError

    def _descend(self, policy: Any, loss: th.Tensor) -> None:
        """One step of the optimizer.

        :raises ValueError: if the loss is not finite
        """
        update_learning_rate(policy.optimizer, self.lr_schedule(self._current_progress_remaining))
        policy.optimizer.zero_grad()
        loss.backward()
        norm = th.nn.utils.clip_grad_norm_(policy.parameters(), self.max_grad_norm)
        if not bool(th.isfinite(norm)):
            raise ValueError(f"the gradient's norm is {float(norm)}: the numbers grew too large. Lower learning_rate")
        policy.optimizer.step()
        self._n_updates += 1

    def learn(
        self: SelfSelfPlay,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int | None = 10,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfSelfPlay:
        """Play and learn until ``total_timesteps`` decisions were made; the last iteration is completed.

        :param total_timesteps: decisions of players
        :param callback: SB3's callbacks, called after every round of decisions; False from one of them stops
        :param log_interval: iterations between two log tables; None: none
        :param tb_log_name: name of the run in TensorBoard; None: the class's name
        :param reset_num_timesteps: whether the counter starts anew (learning goes on in any case)
        :param progress_bar: whether to show one
        :return: the model
        :raises ValueError: if the env states no rules
        """
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name or type(self).__name__, progress_bar
        )
        game = None if self.env is None else rules_of(self.env)
        if game is None:
            raise ValueError(NO_RULES.format(type(self).__name__))
        self._scale = game.max_payoff or 1.0
        callback.on_training_start(locals(), globals())
        while self.num_timesteps < total_timesteps:
            callback.on_rollout_start()
            self.policy.set_training_mode(False)
            games = self._play(game, callback)
            if games is None:
                break
            callback.on_rollout_end()
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
            self.policy.set_training_mode(True)
            self._train(games)
            self.iteration += 1
            if log_interval is not None and self.iteration % log_interval == 0:
                self.dump_logs()
        self.policy.set_training_mode(False)
        callback.on_training_end()
        return self

    def dump_logs(self) -> None:
        """Write the log of the iterations so far."""
        self.logger.record("train/iterations", self.iteration)
        record_progress(self)
        self.logger.dump(step=self.num_timesteps)

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []
