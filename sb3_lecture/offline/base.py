"""The loop of all offline learners: draw rows of a data set, take a gradient step, say how it goes.

A learner states its loss in ``train_step``; nothing here knows of any. ``learn(n)`` takes n gradient steps, and
``num_timesteps`` counts them: schedules, callbacks and logs run by them. The env is for evaluation, and to record data in
where ``dataset="random:N"``; without an env the spaces come from the data.

From data to the world: with ``online=True`` (``IQL.load("iql.zip", env=env, online=True)``) ``learn(n)`` goes on in the env
for n of its steps, one gradient step each; episodes join the data as they end, as in AWAC (Nair et al. 2020, algorithm 1).
"""

import sys
import time
from pathlib import Path
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import polyak_update
from stable_baselines3.common.vec_env import unwrap_vec_normalize

from sb3_lecture.common.checkpoint import SafeSave
from sb3_lecture.common.checks import FLAG, Integer, Real, check_arguments, check_finite, naming_memory
from sb3_lecture.common.optimizers import without_denormals
from sb3_lecture.common.spaces import check_zero_based
from sb3_lecture.offline.dataset import Batch, OfflineDataset
from sb3_lecture.offline.policies import Network, OfflinePolicy
from sb3_lecture.offline.recording import COLUMNS, Array, row_of

__all__ = ["RANDOM_DATA", "Data", "OfflineAlgorithm"]

SelfOffline = TypeVar("SelfOffline", bound="OfflineAlgorithm")
RANDOM = "random:"
RANDOM_DATA = "random:10000"
Data = OfflineDataset | str | Path


class _NoEnv:
    """Stands for the env while SB3 sets up a training that has none."""

    num_envs = 1

    def reset(self) -> None:
        """Nothing is there to be reset."""


class OfflineAlgorithm(SafeSave, BaseAlgorithm):
    """The base of the learners from data alone.

    :param policy: "MlpPolicy" or a subclass of the learner's policy
    :param env: for evaluation, and to record in; its id; or None
    :param dataset: the data: an ``OfflineDataset``, the path of one, or "random:N", N steps of random actions recorded in the
        env when learning begins (default "random:10000")
    :param learning_rate: step size of Adam, or a schedule of the remaining progress (default 3e-4)
    :param batch_size: rows in a minibatch (default 256)
    :param gamma: γ (default 0.99)
    :param normalize_observations: scale observations of a Box by the data's mean and deviation (default False)
    :param online: play in the env while learning, and learn from that too; ``learn`` then counts env steps (default False)
    :param exploration: of that play: chance of a random action where they are Discrete, deviation of the noise on a Box's
        actions in [-1, 1] (default 0.1); where the policy has a chance of its own this is added
    :param stats_window_size: as in SB3, of that play
    :param tensorboard_log: folder of the tensorboard log, None for none (default)
    :param policy_kwargs: arguments of the policy
    :param verbose: 0 silent (default), 1 training information
    :param seed: seed of all random generators, None for a random one
    :param device: torch device (default "auto")
    :param _init_setup_model: build the networks now (SB3's loader passes False)
    :raises ValueError: a number out of range; no env and no data to take the spaces from; data of other spaces than the env's
    """

    _whole_at = "step"
    _running = ("_lived", "_memory")
    actions_allowed: ClassVar[tuple[type[spaces.Space], ...]] = (spaces.Discrete, spaces.Box)
    policy: OfflinePolicy

    def __init__(
        self,
        policy: str | type[OfflinePolicy],
        env: GymEnv | str | None = None,
        dataset: Data = RANDOM_DATA,
        learning_rate: float | Schedule = 3e-4,
        batch_size: int = 256,
        gamma: float = 0.99,
        normalize_observations: bool = False,
        online: bool = False,
        exploration: float = 0.1,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        verbose: int = 0,
        seed: int | None = None,
        device: th.device | str = "auto",
        _init_setup_model: bool = True,
    ) -> None:
        check_arguments(locals(), normalize_observations=FLAG, online=FLAG, exploration=Real(0, 1))
        super().__init__(
            policy, env, learning_rate, policy_kwargs, stats_window_size, tensorboard_log, verbose,  # type: ignore[arg-type]
            device, support_multi_env=True, seed=seed, supported_action_spaces=self.actions_allowed,
        )  # fmt: skip
        self.batch_size, self.gamma, self.normalize_observations = batch_size, gamma, normalize_observations
        self.source = "" if isinstance(dataset, OfflineDataset) else str(dataset)
        self.dataset = dataset if isinstance(dataset, OfflineDataset) else None
        self.online, self.exploration = online, exploration
        self._lived: list[list[tuple[Array, ...]]] = []  # rows of each env's running episode
        self._memory: Any = None  # of a policy that has one
        self._n_updates = 0
        self._recorded_for: int | None = None  # the seed of a recording
        if self.dataset is None:
            _check_source(self.source)
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        if isinstance(self.dataset, (str, Path)):  # load(…, dataset=path)
            self.source, self.dataset = str(self.dataset), None
            _check_source(self.source)
        if not hasattr(self, "observation_space"):  # SB3 takes them from the env
            self.observation_space = self.action_space = None  # type: ignore[assignment]
            self.n_envs = 1
        if self.env is not None or self.observation_space is None:  # a loaded model that only plays needs no data
            if self.dataset is None and self.source and not self.source.startswith(RANDOM):
                self.read_data()
        if self.dataset is not None:
            self._fit()
        elif self.observation_space is None:
            raise ValueError(f"{type(self).__name__} needs an env or a data set, to know observations and actions")
        check_zero_based(self.observation_space, self.action_space)
        if isinstance(self.action_space, spaces.Box) and not self.action_space.is_bounded():
            raise ValueError(f"{self.action_space} has no bounds to scale actions by; rescale the env's actions")
        normalizer = None if self.env is None else unwrap_vec_normalize(self.env)
        if normalizer is not None and normalizer.norm_obs:
            raise ValueError("VecNormalize would scale what is played and not the data: use normalize_observations=True")
        self._setup_lr_schedule()
        self.set_random_seed(self.seed)
        self.policy = self.policy_class(  # type: ignore[assignment]
            self.observation_space, self.action_space, self.lr_schedule, **self.policy_kwargs
        ).to(self.device)
        self.policy.set_training_mode(False)

    # ------------------------------------------------------------------ data

    def read_data(self) -> None:
        """Read or record the data, once; ``learn`` does so first.

        :raises ValueError: if the model was saved without its data, or there is no env to record in
        """
        if self.dataset is not None:
            return
        if not self.source:
            raise ValueError("The model was saved without its data: load(…, dataset=…), or save(…, include_replay=True)")
        if self.source.startswith(RANDOM):
            if self.env is None:
                raise ValueError(f"dataset={self.source!r} is recorded in an env, and there is none")
            if self._recorded_for is None:
                self._recorded_for = self.seed if self.seed is not None else int(np.random.randint(2**31))
            self.dataset = OfflineDataset.record(self.env, int(self.source.removeprefix(RANDOM)), seed=self._recorded_for)
        else:
            own = (getattr(self, name, None) for name in ("observation_space", "action_space"))
            self.dataset = OfflineDataset.load(self.source, *own)
        self._fit()

    def _fit(self) -> None:
        """Hold the spaces of env and data together."""
        data = self.dataset
        assert data is not None
        for name, found in (("observation_space", data.observation_space), ("action_space", data.action_space)):
            present = getattr(self, name, None)
            if present is not None and present != found:
                raise ValueError(f"The data have the {name} {found}, the env has {present}: they are of another world")
        if not isinstance(data.action_space, self.actions_allowed):
            allowed = ", ".join(kind.__name__ for kind in self.actions_allowed)
            raise ValueError(f"{type(self).__name__} learns from actions of {allowed}, the data have {data.action_space}")
        self.observation_space, self.action_space = data.observation_space, data.action_space

    @property
    def replay_buffer(self) -> OfflineDataset | None:
        """The data, by the name under which SB3 saves what was gathered."""
        return self.dataset

    def _put_replay(self, replay: Any) -> None:
        if not isinstance(replay, OfflineDataset):
            raise ValueError(f"The file holds a {type(replay).__name__}, not a data set")
        self.dataset = replay
        self._fit()

    # ------------------------------------------------------------------ learning

    def _training_data(self) -> OfflineDataset:
        """Return the rows that are learned from."""
        assert self.dataset is not None
        return self.dataset

    def train_step(self, batch: Batch, inputs: th.Tensor, next_inputs: th.Tensor, actions: th.Tensor) -> dict[str, th.Tensor]:
        """Take one gradient step.

        :param batch: rows of the data
        :param inputs: its observations, preprocessed and scaled [B, …]
        :param next_inputs: the next ones
        :param actions: Discrete [B], or a Box's in [-1, 1] [B, d]
        :return: what is logged, scalars
        """
        raise NotImplementedError

    def learn(
        self: SelfOffline,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int = 1000,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfOffline:
        """Take gradient steps.

        :param total_timesteps: how many; env steps where ``online`` is set
        :param callback: called after every step; stops the training by returning False
        :param log_interval: steps between two lines of the log
        :param tb_log_name: name of the tensorboard run, None for the class's
        :param reset_num_timesteps: start counting (and the logs) anew
        :param progress_bar: show a progress bar
        :return: the model itself
        """
        if self.online and self.env is None:
            raise ValueError("online=True plays in an env, and there is none: load(…, env=env) or set_env(env)")
        self.read_data()
        fresh = reset_num_timesteps or (self._last_obs is None and self._resume is None)
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name or type(self).__name__, progress_bar
        )
        if self._n_updates == 0 and self.normalize_observations:
            assert self.dataset is not None
            self.policy.scale_observations(self.dataset.observations)
        if fresh or len(self._lived) != self.n_envs:
            self._lived, self._memory = [[] for _ in range(self.n_envs)], None
        callback.on_training_start(locals(), globals())
        self.policy.set_training_mode(True)
        self._train(total_timesteps, callback, log_interval)
        self.policy.set_training_mode(False)
        callback.on_training_end()
        return self

    @naming_memory("batch_size")
    @without_denormals()
    def _train(self, total_timesteps: int, callback: BaseCallback, log_interval: int) -> None:
        data = self._training_data()
        self._prepare(data)
        logged = self._n_updates // max(log_interval, 1)
        while self.num_timesteps < total_timesteps:
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
            self._update_learning_rate([getattr(self.policy, name) for name in self.policy.optimizers])
            if self.online and self._play():
                data = self._training_data()  # episodes have ended
            for _ in range(self.n_envs if self.online else 1):
                figures = self._gradient_step(data)
                self._n_updates += 1
                self.num_timesteps += 1
            callback.update_locals(locals())
            if not callback.on_step():
                break
            if log_interval > 0 and self._n_updates // log_interval > logged:
                logged = self._n_updates // log_interval
                self._dump(figures)

    def _prepare(self, data: OfflineDataset) -> None:
        """Take from the data what must be known before anything is played or learned."""

    def _play(self) -> bool:
        """Take a step in each env; return whether an episode has ended and joined the data."""
        assert self.env is not None and self.dataset is not None
        action, self._memory = self.policy.predict(self._last_obs, self._memory, self._last_episode_starts)  # type: ignore[arg-type]
        action = self._explore(action)
        following, reward, done, infos = self.env.step(action)
        row = row_of(self._last_obs, action, reward, following, done, infos)
        ended = []
        for e, lived in enumerate(self._lived):
            lived.append(tuple(np.asarray(part[e]) for part in row))
            if done[e]:
                columns = {name: np.stack(part) for name, part in zip(COLUMNS, zip(*lived, strict=True), strict=True)}
                ended.append(OfflineDataset.of(self.observation_space, self.action_space, columns))
                lived.clear()
        for episode in ended:
            self.dataset = self.dataset.joined(episode)
        self._last_obs, self._last_episode_starts = following, done  # type: ignore[assignment]
        self._update_info_buffer(infos, done)
        return bool(ended)

    def _explore(self, action: Array) -> Array:
        """Mix random actions [n_envs, …] into a policy's."""
        space = self.action_space
        if isinstance(space, spaces.Box):
            noise = self.exploration * np.random.normal(size=action.shape) * (space.high - space.low) / 2
            return np.clip(action + noise, space.low, space.high).astype(action.dtype)
        n = int(space.n)  # type: ignore[attr-defined]
        return np.where(np.random.random(len(action)) < self.exploration, np.random.randint(n, size=len(action)), action)

    def _gradient_step(self, data: OfflineDataset) -> dict[str, th.Tensor]:
        """Draw rows and learn from them."""
        batch = data.batch(np.random.randint(len(data), size=self.batch_size), self.gamma, self.device)
        inputs, next_inputs = self.policy.inputs(batch.observations), self.policy.inputs(batch.next_observations)
        return self.train_step(batch, inputs, next_inputs, self.policy.scaled(batch.actions))

    def _dump(self, figures: dict[str, th.Tensor]) -> None:
        seconds = max((time.time_ns() - self.start_time) / 1e9, sys.float_info.epsilon)
        for name, figure in figures.items():
            check_finite(float(figure), name, data=self.dataset.rewards if self.dataset else [], network=self.policy)
            self.logger.record(f"train/{name}", float(figure))
        if self.online and self.ep_info_buffer:
            for key, name in (("r", "rew"), ("l", "len")):
                mean = float(np.mean([episode[key] for episode in self.ep_info_buffer]))
                self.logger.record(f"rollout/ep_{name}_mean", mean)
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("time/fps", int((self.num_timesteps - self._num_timesteps_at_start) / seconds))
        self.logger.record("time/total_timesteps", self.num_timesteps, exclude="tensorboard")
        self.logger.dump(step=self.num_timesteps)

    def _descend(self, optimizer: th.optim.Optimizer, loss: th.Tensor) -> None:
        """Take a step down a loss."""
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    def _follow(self, network: Network, target: Network, tau: float) -> None:
        """Move a target network by τ towards the network it follows."""
        polyak_update(network.parameters(), target.parameters(), tau)

    def _setup_learn(self, *args: Any, **kwargs: Any) -> tuple[int, BaseCallback]:
        if self.env is not None:
            return super()._setup_learn(*args, **kwargs)
        self.env = _NoEnv()  # type: ignore[assignment]
        try:
            return super()._setup_learn(*args, **kwargs)
        finally:
            self.env = None

    # ------------------------------------------------------------------ files

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "dataset"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", *(f"policy.{name}" for name in self.policy.optimizers)], []


def _check_source(source: str) -> None:
    """Refuse what names no data.

    :raises ValueError: for "random:" without a number of steps
    """
    if source.startswith(RANDOM):
        steps = source.removeprefix(RANDOM)
        if not steps.isdecimal():
            raise ValueError(f"dataset={source!r} must name a number of steps, such as 'random:10000'")
        Integer(1, 10**9).check("dataset", int(steps))
    elif not source or source == "None":
        raise ValueError("dataset must be an OfflineDataset, its path, or 'random:10000'")
