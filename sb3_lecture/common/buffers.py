"""Buffers that Stable-Baselines3 lacks."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import BaseBuffer

__all__ = ["EpisodeBuffer", "memory_as_given"]

Array = np.ndarray[Any, Any]


class EpisodeBuffer(BaseBuffer):
    """Whole episodes of several environments, stored by time: row t is one step of the vectorised environment.

    Storage is allocated once and doubled when an episode outgrows it; ``reset()`` only moves the write position back, so that
    a step costs one copy of each of its arrays. Steps that belong to no episode of the batch (an environment that waits for
    the others) are marked in ``counted`` and left out by the readers.

    The signature is the one that ``OnPolicyAlgorithm`` calls its ``rollout_buffer_class`` with.

    :param buffer_size: steps per environment to reserve at first; the buffer grows
    :param observation_space: observation space, Dict allowed
    :param action_space: action space
    :param device: device of the tensors handed out
    :param gae_lambda: ignored (no λ-return here)
    :param gamma: ignored (returns are the algorithm's business)
    :param n_envs: number of parallel environments
    """

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: th.device | str = "auto",
        gae_lambda: float = 1.0,
        gamma: float = 0.99,
        n_envs: int = 1,
    ) -> None:
        super().__init__(buffer_size, observation_space, action_space, device, n_envs=n_envs)
        self.observations: dict[str, Array] = {}
        if isinstance(observation_space, spaces.Dict):
            parts: dict[str, tuple[spaces.Space, Any]] = {
                key: (space, self.obs_shape[key])  # type: ignore[call-overload]
                for key, space in observation_space.spaces.items()
            }
        else:
            parts = {"": (observation_space, self.obs_shape)}
        for key, (space, shape) in parts.items():
            self.observations[key] = np.zeros((buffer_size, n_envs, *shape), dtype=space.dtype)
        self.actions = np.zeros((buffer_size, n_envs, self.action_dim), dtype=action_space.dtype)
        self.rewards = np.zeros((buffer_size, n_envs), dtype=np.float64)
        self.starts = np.zeros((buffer_size, n_envs), dtype=np.bool_)
        self.dones = np.zeros((buffer_size, n_envs), dtype=np.bool_)
        self.counted = np.zeros((buffer_size, n_envs), dtype=np.bool_)
        self.truncations: list[tuple[int, int, Any]] = []  # (row, env, last observation of a truncated episode)

    def reset(self) -> None:
        """Forget the stored steps, keep the storage."""
        super().reset()
        self.truncations = []

    def add(  # type: ignore[override]
        self,
        obs: Array | dict[str, Array],
        actions: Array,
        rewards: Array,
        starts: Array,
        dones: Array,
        counted: Array,
    ) -> None:
        """Store one step of every environment.

        :param obs: observations the actions were chosen on, [n_envs, …] or a dict of such arrays
        :param actions: [n_envs, …]
        :param rewards: [n_envs]
        :param starts: True where ``obs`` opens an episode [n_envs]
        :param dones: True where the step closed the episode [n_envs]
        :param counted: True where the step belongs to an episode of the batch [n_envs]
        """
        if self.pos == self.buffer_size:
            self._grow()
        for key, store in self.observations.items():
            part = obs[key] if isinstance(obs, dict) else obs
            store[self.pos] = part.reshape(store.shape[1:])  # Discrete observations arrive as [n_envs]
        self.actions[self.pos] = actions.reshape(self.n_envs, self.action_dim)
        self.rewards[self.pos] = rewards
        self.starts[self.pos] = starts
        self.dones[self.pos] = dones
        self.counted[self.pos] = counted
        self.pos += 1

    def add_truncation(self, env_index: int, last_observation: Any) -> None:
        """Remember the observation on which the episode of the step just added was cut off by a time limit.

        :param env_index: which environment
        :param last_observation: its last observation, without the batch axis
        """
        self.truncations.append((self.pos - 1, env_index, last_observation))

    def observation_batch(self) -> th.Tensor | dict[str, th.Tensor]:
        """Observations of the counted steps, by time, then by environment.

        :return: [N, …] on ``device``, or a dict of such tensors
        """
        mask = self.counted[: self.pos]
        tensors = {key: self.to_torch(store[: self.pos][mask], copy=False) for key, store in self.observations.items()}
        return tensors if isinstance(self.observation_space, spaces.Dict) else tensors[""]

    def action_batch(self) -> th.Tensor:
        """Actions of the counted steps: int64 [N] for Discrete, float32 [N, action_dim] otherwise."""
        actions = self.actions[: self.pos][self.counted[: self.pos]]  # [N, action_dim]
        if isinstance(self.action_space, spaces.Discrete):
            return self.to_torch(actions[:, 0].astype(np.int64), copy=False)
        return self.to_torch(actions.astype(np.float32), copy=False)

    def episode_index(self) -> Array:
        """Episode of each counted step, numbered 0 … n_episodes − 1 [N]."""
        numbers = np.cumsum(self.starts[: self.pos], axis=0) + np.arange(self.n_envs) * (self.pos + 1)  # [T, n_envs]
        return np.unique(numbers[self.counted[: self.pos]], return_inverse=True)[1].reshape(-1)

    def _grow(self) -> None:
        """Double the storage."""
        for key, store in self.observations.items():
            self.observations[key] = np.concatenate((store, np.zeros_like(store)))
        for name in ("actions", "rewards", "starts", "dones", "counted"):
            store = getattr(self, name)
            setattr(self, name, np.concatenate((store, np.zeros_like(store))))
        self.buffer_size *= 2

    def _get_samples(self, batch_inds: Array, env: Any = None) -> Any:
        """Refuse random access: a policy gradient is estimated from whole episodes."""
        raise NotImplementedError("EpisodeBuffer hands out whole batches: use observation_batch() and action_batch()")


@contextmanager
def memory_as_given(model: Any) -> Iterator[None]:
    """Let SB3 choose a memory for ``n_steps``, but keep what was given: ``load`` would take SB3's choice for the user's.

    :param model: an off-policy SB3 model, about to make its memory
    """
    given = model.replay_buffer_class, dict(model.replay_buffer_kwargs)
    try:
        yield
    finally:
        model.replay_buffer_class, model.replay_buffer_kwargs = given
