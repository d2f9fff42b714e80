"""The policy module of the tabular learners: the table, and how actions follow from it."""

from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy

from sb3_lecture.exact.solver import softmax_policy


class StateIndex:
    """Numbers the observations of a finite space 0 … size-1 (MultiDiscrete: the last entry changes fastest).

    :param space: a Discrete or MultiDiscrete space
    :raises ValueError: if the space is of another kind
    """

    def __init__(self, space: spaces.Space) -> None:
        if isinstance(space, spaces.Discrete):
            self.shape: tuple[int, ...] = ()
            self.size = int(space.n)
            self.start: Any = int(space.start)
        elif isinstance(space, spaces.MultiDiscrete):
            self.shape = space.shape
            self.size, self.start = int(np.prod(space.nvec)), np.asarray(space.start).ravel()
            self.strides = np.append(np.cumprod(space.nvec.ravel()[:0:-1])[::-1], 1).astype(np.int64)  # [k]
        else:
            raise ValueError(
                f"A table needs a Discrete or MultiDiscrete observation space, got {space}; wrap an env of boxes in "
                "sb3_lecture_envs.wrappers.DiscretizeObservation, or make a lecture world with obs='index'"
            )

    def __call__(self, observation: Any) -> np.ndarray:
        """Observations [n, …] or one observation → states int64 [n]."""
        obs = np.asarray(observation, dtype=np.int64)
        if self.shape:
            return (obs.reshape(-1, self.strides.shape[0]) - self.start) @ self.strides
        return obs.reshape(-1) - self.start if self.start else obs.reshape(-1)


class TabularPolicy(BasePolicy):
    """A table of action values and the exploration that reads it.

    ``predict(deterministic=True)`` takes the first of the best actions, so that it is a fixed policy that can be graded;
    ``deterministic=False`` draws from the behaviour policy, as SB3's DQN does.

    :param observation_space: Discrete or MultiDiscrete
    :param action_space: Discrete
    :param exploration: "epsilon-greedy", "softmax" or "ucb" (default "epsilon-greedy")
    :param temperature: of the softmax (default 1.0)
    :param ucb_c: width of UCB's confidence bound (default 1.0)
    :param initial_value: what every entry of the table starts with (default 0.0)
    :param n_columns: entries a state; None: one an action
    :raises ValueError: if a space is of another kind
    """

    table: th.Tensor
    tries: th.Tensor
    updates: th.Tensor
    epsilon: th.Tensor
    action_space: spaces.Discrete

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        exploration: str = "epsilon-greedy",
        temperature: float = 1.0,
        ucb_c: float = 1.0,
        initial_value: float = 0.0,
        n_columns: int | None = None,
    ) -> None:
        super().__init__(observation_space, action_space)
        if not isinstance(action_space, spaces.Discrete):
            raise ValueError(f"A table needs a Discrete action space, got {action_space}")
        self.index = StateIndex(observation_space)
        self.exploration, self.temperature, self.ucb_c = exploration, temperature, ucb_c
        self.initial_value, self.n_columns = initial_value, n_columns
        shape = (self.index.size, int(action_space.n) if n_columns is None else n_columns)
        table = th.full(shape, float(initial_value), dtype=th.float64)
        self.table = th.nn.Parameter(table, requires_grad=False)  # float64 [S, A]
        pairs = (self.index.size, int(action_space.n))
        self.register_buffer("tries", th.zeros(pairs, dtype=th.int64))  # [S, A], how often an action was selected
        self.register_buffer("updates", th.zeros(shape, dtype=th.int64))  # like table, how often an entry was updated
        self.register_buffer("epsilon", th.ones(1, dtype=th.float64))  # the present ε

    def _get_constructor_parameters(self) -> dict[str, Any]:
        names = ("observation_space", "action_space", "exploration", "temperature", "ucb_c", "initial_value", "n_columns")
        return {name: getattr(self, name) for name in names}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        if prefix + "visits" in state_dict:  # 0.1.0 counted updates, and took them for tries
            visits = state_dict.pop(prefix + "visits")
            state_dict[prefix + "updates"] = visits
            state_dict[prefix + "tries"] = visits if visits.shape == self.tries.shape else self.tries
        super()._load_from_state_dict(state_dict, prefix, *args)

    def action_probabilities(self, observation: Any, deterministic: bool = False) -> np.ndarray:
        """The policy that ``predict`` follows, in given states.

        :param observation: [n, …] or one observation
        :param deterministic: the greedy policy (first of tied actions), or the behaviour policy with its present ε
        :return: float64 [n, A]
        """
        states = self.index(observation)
        if deterministic:
            return np.eye(int(self.action_space.n))[self._greedy(states)]
        return self._behaviour(states)

    def _greedy(self, states: np.ndarray) -> np.ndarray:
        return self.table.numpy()[states].argmax(axis=1)

    def _behaviour(self, states: np.ndarray) -> np.ndarray:
        """b(a | s), float64 [n, A]; the vectorised form of ``kernels.probability``, which learners use: see there."""
        q = self.table.numpy()[states]  # [n, A]
        if self.exploration == "softmax":
            return softmax_policy(q, self.temperature)
        epsilon = float(self.epsilon[0])
        if self.exploration == "ucb":
            n = self.tries.numpy()[states]
            bonus = np.sqrt(np.log(np.maximum(n.sum(axis=1, keepdims=True), 1)) / np.maximum(n, 1))
            q = np.where(n == 0, np.inf, q + self.ucb_c * bonus)
            epsilon = 0.0
        best = q == q.max(axis=1, keepdims=True)
        return epsilon / q.shape[1] + (1 - epsilon) * best / best.sum(axis=1, keepdims=True)

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

        :param observation: [n, …] or one observation
        :param state: returned as it is; a table has no memory
        :param episode_start: not used
        :param deterministic: greedy, or drawn from the behaviour policy (by NumPy's global generator)
        :return: actions int64 [n] (or one action), ``state``
        :raises ValueError: if the observation is the (observation, info) pair of Gymnasium's ``reset``
        """
        if isinstance(observation, tuple) and len(observation) == 2 and isinstance(observation[1], dict):
            raise ValueError("predict() got a pair (observation, info); pass the observation: obs, info = env.reset()")
        observation = np.asarray(observation)
        states = self.index(observation)
        if deterministic:
            actions = self._greedy(states)
        else:
            cumulative = self._behaviour(states).cumsum(axis=1)
            actions = (cumulative[:, :-1] <= np.random.random((len(states), 1))).sum(axis=1)
        actions += int(self.action_space.start)
        return (actions if observation.ndim > len(self.index.shape) else actions[0]), state
