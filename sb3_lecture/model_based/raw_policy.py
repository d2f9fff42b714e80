"""What the networks of AlphaZero and MuZero share as policies: they play their most likely action, without a search."""

from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import preprocess_obs

from sb3_lecture.common.optimizers import FUSED_ADAM
from sb3_lecture.search.compiled_mlp import DIVERGED

__all__ = ["RawPolicy"]


class RawPolicy(BasePolicy):
    """A policy of one network. Subclasses write ``logits``.

    :param observation_space: of the env
    :param action_space: Discrete
    :param optimizer_class: default Adam
    :param optimizer_kwargs: its arguments but the learning rate; Adam is fused by default
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        optimizer_class: type[th.optim.Optimizer] = th.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        if optimizer_kwargs is None:
            optimizer_kwargs = FUSED_ADAM if optimizer_class is th.optim.Adam else {}
        super().__init__(observation_space, action_space, optimizer_class=optimizer_class, optimizer_kwargs=optimizer_kwargs)
        self.n_actions = int(action_space.n)
        empty = th.zeros((1, *observation_space.shape), dtype=th.long)  # type: ignore[misc]
        self.input_shape = tuple(preprocess_obs(empty, observation_space).shape[1:])  # type: ignore[union-attr]

    def logits(self, inputs: th.Tensor) -> th.Tensor:
        """Return logits [n, A] of preprocessed observations float32 [n, …]."""
        raise NotImplementedError

    def best(self, logits: Any) -> Any:
        """Return the most likely actions [n] of logits [n, A], a tensor or an array.

        :raises ValueError: where one is no finite number: any choice would be chance
        """
        if not bool((abs(logits) < np.inf).all()):
            raise ValueError(f"The network's logits hold NaN or infinity: are the observations finite? {DIVERGED}")
        return logits.argmax(1)

    def _predict(self, observation: th.Tensor, deterministic: bool = False) -> th.Tensor:  # type: ignore[override]
        return self.best(self.logits(preprocess_obs(observation, self.observation_space)))  # type: ignore[arg-type]

    def predict(  # type: ignore[override]
        self,
        observation: Any,
        state: Any = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
        action_masks: np.ndarray | None = None,
    ) -> tuple[np.ndarray, Any]:
        """Return the raw network's best actions, among all or among those that ``action_masks`` [n, A] allows."""
        if action_masks is None:
            return super().predict(observation, state, episode_start, deterministic)
        self.set_training_mode(False)
        tensor, vectorized = self.obs_to_tensor(observation)
        with th.no_grad():
            logits = self.logits(preprocess_obs(tensor, self.observation_space)).cpu().numpy()  # type: ignore[arg-type]
        self.best(logits)
        actions = np.where(np.asarray(action_masks, np.bool_).reshape(logits.shape), logits, -np.inf).argmax(axis=1)
        return (actions if vectorized else actions[0]), state

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        del data["normalize_images"]
        return {
            **data, "lr_schedule": self._dummy_schedule, "optimizer_class": self.optimizer_class,
            "optimizer_kwargs": self.optimizer_kwargs,
        }  # fmt: skip
