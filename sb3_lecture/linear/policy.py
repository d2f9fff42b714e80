"""The policy modules of the linear learners: weights on features, and how actions follow from them."""

from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy

from sb3_lecture.common.checks import Integer, as_numbers, check_arguments
from sb3_lecture.linear.features import StateFeatures, make_features


class LinearPolicy(BasePolicy):
    """Action values q(s, a) = wₐᵀ x(s), and the ε-greedy policy that follows from them.

    :param observation_space: Box, Discrete or MultiDiscrete
    :param action_space: Discrete
    :param features: "auto" (tiles of a Box, one-hot of a finite space), "tiles", "one-hot", "aggregation", "fourier", or a
        matrix [S, d] whose row s is x(s) (default "auto")
    :param n_tilings: grids of the tile coding (default 8)
    :param n_tiles: tiles across a Box, one number or one a dimension (default 8)
    :param memory_size: weights at most, tiles beyond it share them by a hash; None: one a tile (default None)
    :param n_groups: groups of "aggregation" (default 10)
    :param order: highest frequency of "fourier" (default 3)
    :param ranges: [low, high] for each dimension of a Box without finite bounds; None: the Box's own (default None)
    :param initial_weights: what w starts with, a number or d of them; above the true values it makes the learner curious
        (default 0.0)
    :param n_rows: rows of w; None: one an action
    :raises ValueError: if a space is of another kind or the features do not fit it
    """

    weights: th.Tensor
    epsilon: th.Tensor
    action_space: spaces.Discrete

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        features: Any = "auto",
        n_tilings: int = 8,
        n_tiles: int | list[int] = 8,
        memory_size: int | None = None,
        n_groups: int = 10,
        order: int = 3,
        ranges: Any = None,
        initial_weights: Any = 0.0,
        n_rows: int | None = None,
    ) -> None:
        check_arguments(
            locals(), n_tilings=Integer(1), memory_size=Integer(1, none=True), n_groups=Integer(1), order=Integer(0),
            n_rows=Integer(1, none=True),
        )  # fmt: skip
        super().__init__(observation_space, action_space)
        if not isinstance(action_space, spaces.Discrete):
            raise ValueError(f"Linear methods need a Discrete action space, got {action_space}")
        self.arguments = {
            "features": features, "n_tilings": n_tilings, "n_tiles": n_tiles, "memory_size": memory_size,
            "n_groups": n_groups, "order": order, "ranges": ranges, "initial_weights": initial_weights, "n_rows": n_rows,
        }  # fmt: skip
        self.x = make_features(observation_space, features, n_tilings, n_tiles, memory_size, n_groups, order, ranges)
        start = as_numbers("initial_weights", initial_weights)
        if start.shape not in ((), (self.x.size,)) or not np.all(np.isfinite(start)):
            raise ValueError(f"initial_weights={initial_weights!r}; one finite number, or {self.x.size} of them")
        w = np.empty((int(action_space.n) if n_rows is None else n_rows, self.x.size))
        w[:] = start
        self.weights = th.nn.Parameter(th.from_numpy(w), requires_grad=False)  # float64 [A, d]
        self.register_buffer("epsilon", th.ones(1, dtype=th.float64))  # the present ε

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {"observation_space": self.observation_space, "action_space": self.action_space, **self.arguments}

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        for name in ("secondary", "inverse", "b"):  # GradientTD and LSTD keep them beside the weights
            if prefix + name in state_dict and not hasattr(self, name):
                self.register_buffer(name, th.empty_like(state_dict[prefix + name]))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def values(self, observation: Any) -> np.ndarray:
        """wᵀx of observations [n, …] or of one, float64 [n, rows]: action values, or the value where w has one row."""
        index, value = self.x(np.asarray(observation))  # [n, k]
        return np.einsum("ank,nk->na", self.weights.numpy()[:, index], value)

    def predict_values(self, obs: th.Tensor) -> th.Tensor:
        """The learner's own value of each observation, max_a q(s, a), [n, 1]."""
        return th.from_numpy(self.values(obs.cpu().numpy()).max(axis=1, keepdims=True))

    def action_probabilities(self, observation: Any, deterministic: bool = False) -> np.ndarray:
        """The policy that ``predict`` follows.

        :param observation: [n, …] or one observation
        :param deterministic: the greedy policy (first of tied actions), or the ε-greedy one with its present ε
        :return: float64 [n, A]
        """
        q = self.values(observation)
        n_actions = q.shape[1]
        if deterministic:
            return np.eye(n_actions)[q.argmax(axis=1)]
        best = q == q.max(axis=1, keepdims=True)
        epsilon = float(self.epsilon[0])
        return epsilon / n_actions + (1.0 - epsilon) * best / best.sum(axis=1, keepdims=True)

    def _predict(self, observation: Any, deterministic: bool = False) -> th.Tensor:
        return th.as_tensor(self.predict(np.asarray(observation), deterministic=deterministic)[0])

    def predict(
        self,
        observation: Any,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Actions for observations.

        :param observation: [n, …] or one observation
        :param state: returned as it is; a linear policy has no memory
        :param episode_start: not used
        :param deterministic: the likeliest action, or one drawn (by NumPy's global generator)
        :return: actions int64 [n] (or one action), ``state``
        :raises ValueError: if the observation is the (observation, info) pair of Gymnasium's ``reset``, or not finite
        """
        if isinstance(observation, tuple) and len(observation) == 2 and isinstance(observation[1], dict):
            raise ValueError("predict() got a pair (observation, info); pass the observation: obs, info = env.reset()")
        observation = np.asarray(observation)
        pi = self.action_probabilities(observation, deterministic)
        if deterministic:
            actions = pi.argmax(axis=1)
        else:
            actions = (pi.cumsum(axis=1)[:, :-1] <= np.random.random((len(pi), 1))).sum(axis=1)
        actions = actions + int(self.action_space.start)
        shape: Any = self.observation_space.shape
        return (actions if observation.ndim > len(shape) else actions[0]), state


class LinearValuePolicy(LinearPolicy):
    """A given policy π and the values of states v(s) = wᵀ x(s).

    :param observation_space: Box, Discrete or MultiDiscrete
    :param action_space: Discrete
    :param target_policy: π, as :func:`given_policy` reads it (default None, uniform)
    :param kwargs: the other arguments are those of :class:`LinearPolicy`
    """

    target: th.Tensor

    def __init__(self, observation_space: Any, action_space: Any, target_policy: Any = None, **kwargs: Any) -> None:
        super().__init__(observation_space, action_space, **{**kwargs, "n_rows": 1})
        self.arguments["target_policy"] = target_policy
        pi = given_policy(target_policy, self.x, int(self.action_space.n), "target_policy")
        self.register_buffer("target", th.from_numpy(pi))

    def action_probabilities(self, observation: Any, deterministic: bool = False) -> np.ndarray:
        """π in given states, float64 [n, A]; ``deterministic``: its likeliest action."""
        pi = self.probabilities(self.target.numpy(), np.asarray(observation))
        return np.eye(pi.shape[1])[pi.argmax(axis=1)] if deterministic else pi

    def probabilities(self, policy: np.ndarray, observation: np.ndarray) -> np.ndarray:
        """A policy that :func:`given_policy` has read, in given states, float64 [n, A]."""
        if isinstance(self.x, StateFeatures):
            return policy[self.x.states(observation)]
        index, value = self.x(observation)
        if policy.ndim == 1:
            return np.broadcast_to(policy, (len(index), policy.size))
        q = np.einsum("ank,nk->na", policy[:, index], value)
        best = q == q.max(axis=1, keepdims=True)
        return best / best.sum(axis=1, keepdims=True)


def given_policy(policy: Any, features: Any, n_actions: int, name: str) -> np.ndarray:
    """Any way to write a policy down → the array that :meth:`LinearValuePolicy.probabilities` reads.

    :param policy: None: all actions alike. In a finite space [S], one action a state, or probabilities [S, A]. In a Box
        probabilities [A], the same everywhere, or weights [A, d] of action values: greedy (what a linear control method
        learned with the same features: ``model.policy.weights``)
    :param features: of the observation space
    :param n_actions: A
    :param name: the argument's name, for the error
    :return: float64 [S, A], or of a Box [A] or [A, d]
    :raises ValueError: if it is none of these
    """
    finite = isinstance(features, StateFeatures)
    uniform = np.full(n_actions, 1.0 / n_actions)
    n_states = len(features.index) if finite else 0
    if policy is None:
        return np.tile(uniform, (n_states, 1)) if finite else uniform
    pi = np.asarray(policy)
    sums = pi.dtype.kind in "iuf" and pi.ndim in (1, 2) and bool(np.all(pi >= 0) and np.all(abs(pi.sum(axis=-1) - 1) < 1e-8))
    if finite:
        if pi.shape == (n_states,) and pi.dtype.kind in "iu" and 0 <= pi.min() and pi.max() < n_actions:
            return np.eye(n_actions)[pi]
        if pi.shape == (n_states, n_actions) and sums:
            return pi.astype(np.float64)
        allowed = f"one action (0 to {n_actions - 1}) for each of the {n_states} states, or probabilities [S, A] = "
        allowed += f"({n_states}, {n_actions}) whose rows sum to 1"
    else:
        if pi.shape == (n_actions,) and sums:
            return pi.astype(np.float64)
        if pi.shape == (n_actions, features.size) and pi.dtype.kind in "iuf" and np.all(np.isfinite(pi)):
            return pi.astype(np.float64)
        allowed = f"probabilities [{n_actions}], or weights of action values [A, d] = ({n_actions}, {features.size})"
    raise ValueError(f"{name} must be None (uniform), {allowed}; got shape {pi.shape} of {pi.dtype}")
