"""The policy of the learners that write a game out: a table over information states."""

from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy

from sb3_lecture.exact.exploitability_tree import GameTree, nearest


class StrategyPolicy(BasePolicy):
    """A behaviour strategy: probabilities of the actions in each information state.

    ``predict(deterministic=False)`` draws from it, which is how such a game is played; ``deterministic=True`` takes the most
    probable action, which an opponent can foresee. An observation that is no information state is taken for the nearest one.

    :param observation_space: Box, the features of information states
    :param action_space: Discrete
    :param n_infosets: number of information sets I (default 1)
    :raises ValueError: if a space is of another kind
    """

    observations: th.Tensor
    legal: th.Tensor
    regrets: th.Tensor
    iteration: th.Tensor
    action_space: spaces.Discrete

    def __init__(self, observation_space: spaces.Space, action_space: spaces.Space, n_infosets: int = 1) -> None:
        super().__init__(observation_space, action_space)
        self.n_infosets = n_infosets
        features = int(np.prod(observation_space.shape or ()))
        shape = (n_infosets, int(action_space.n))  # type: ignore[attr-defined]
        self.register_buffer("observations", th.zeros((n_infosets, features), dtype=th.float32))
        self.register_buffer("legal", th.ones(shape, dtype=th.bool))
        self.register_buffer("regrets", th.zeros(shape, dtype=th.float64))  # summed counterfactual regrets
        self.register_buffer("iteration", th.zeros(1, dtype=th.int64))  # iterations done
        #: what the played strategy is proportional to: the sum of the strategies so far, float64 [I, A]
        self.strategy_sum = th.nn.Parameter(th.zeros(shape, dtype=th.float64), requires_grad=False)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in ("observation_space", "action_space", "n_infosets")}

    def put_tree(self, tree: GameTree) -> None:
        """Take the information states over from a game written out, if there are as many."""
        if tree.legal.shape != tuple(self.legal.shape):
            return  # ``learn`` refuses the game
        self.observations[:] = th.as_tensor(tree.observations)
        self.legal[:] = th.as_tensor(tree.legal)

    @property
    def strategy(self) -> np.ndarray:
        """The average strategy, float64 [I, A]; uniform where a set was never reached."""
        legal, sums = self.legal.numpy(), self.strategy_sum.numpy()
        total = sums.sum(axis=1, keepdims=True)
        return np.where(total > 0, sums / np.where(total > 0, total, 1.0), legal / legal.sum(axis=1, keepdims=True))

    def action_probabilities(self, observation: Any) -> np.ndarray:
        """The average strategy in given information states: [n, O] or one observation → float64 [n, A]."""
        rows = np.asarray(observation, np.float64).reshape(-1, self.observations.shape[1])
        return self.strategy[nearest(self.observations.numpy(), rows)]

    def _predict(self, observation: Any, deterministic: bool = False) -> th.Tensor:
        actions, _ = self.predict(np.asarray(observation), deterministic=deterministic)
        return th.as_tensor(actions)

    def predict(
        self,
        observation: Any,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Actions for observations.

        :param observation: float [n, O] or one observation
        :param state: returned as it is; the observation holds all that the player knows
        :param episode_start: not used
        :param deterministic: the most probable action, or one drawn from the strategy (by NumPy's global generator)
        :return: actions int64 [n] (or one action), ``state``
        """
        observation = np.asarray(observation)
        rows = self.action_probabilities(observation)
        if deterministic:
            actions = rows.argmax(axis=1)
        else:
            actions = (rows.cumsum(axis=1)[:, :-1] <= np.random.random((len(rows), 1))).sum(axis=1)
        return (actions if observation.ndim > 1 else actions[0]), state
