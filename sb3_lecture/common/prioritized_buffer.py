"""Prioritized experience replay, with n-step returns, for any number of envs and any kind of observation.

A transition is replayed the more often the more it surprised when it was last seen (Schaul et al. 2016,
https://arxiv.org/abs/1511.05952, the proportional variant):

    P(i) = p_i^α / Σ_k p_k^α,   p_i = |δ_i| + ε        eq. (1); new transitions have the largest p so far
    w_i = (1 / (N P(i)))^β / max_j w_j                  §3.4: undoes what that does to expectations, wholly at β = 1

β rises to 1 as the training ends. A minibatch of k has one row from each of k equal parts of the total priority (appendix
B.2.1), and the maximum in w is that of the minibatch.

n-step returns follow the rules of SB3's ``NStepReplayBuffer``: Σ_{i<k} γ^i r_{t+i}, bootstrapped by γ^k, where k ≤ n is what
there is before the episode ends, is cut by a time limit, or the newest row is reached. Each row's γ^k is handed out.

SB3's own algorithms take this buffer as ``replay_buffer_class``; as they neither weigh nor renew priorities, all stay alike
and it is a buffer of n-step returns, of Dict observations too.
"""

from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from numba import njit
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer
from stable_baselines3.common.type_aliases import TensorDict
from stable_baselines3.common.vec_env import VecNormalize

from sb3_lecture.common.checks import Integer, Real, check_arguments
from sb3_lecture.common.sum_tree import SumTree
from sb3_lecture.common.vec_env import reward_scaling

__all__ = ["PrioritizedReplayBuffer", "PrioritizedSamples"]

Array = np.ndarray[Any, Any]


class PrioritizedSamples(NamedTuple):
    """B transitions; the first six fields are those of SB3's ``ReplayBufferSamples``.

    :param observations: s_t [B, …]
    :param actions: a_t [B, action_dim]
    :param next_observations: s_{t+k} [B, …]
    :param dones: 1 where s_{t+k} is terminal, 0 where a time limit cut the episode there [B, 1]
    :param rewards: Σ_{i<k} γ^i r_{t+i} [B, 1]
    :param discounts: γ^k [B, 1]
    :param weights: w, float32 [B, 1]
    :param indices: of the rows, for ``update_priorities``, int64 [B]
    """

    observations: th.Tensor | TensorDict
    actions: th.Tensor
    next_observations: th.Tensor | TensorDict
    dones: th.Tensor
    rewards: th.Tensor
    discounts: th.Tensor
    weights: th.Tensor
    indices: Array


@njit(cache=True)
def _n_step(rewards, dones, timeouts, rows, newest, n, gamma, scaling, returns, discounts, ends, last):  # type: ignore[no-untyped-def]
    """Write return, γ^k, terminal or not, and the last row, of each row [B]; the stored arrays are [T, n_envs]."""
    length, n_envs = rewards.shape
    for b in range(rows.shape[0]):
        t, e, total, weight = rows[b] // n_envs, rows[b] % n_envs, 0.0, 1.0
        for i in range(n):
            total += weight * min(max(rewards[t, e] * scaling[0], -scaling[1]), scaling[1])
            weight *= gamma
            if i == n - 1 or t == newest or dones[t, e] > 0 or timeouts[t, e] > 0:
                break
            t = (t + 1) % length
        returns[b, 0], discounts[b, 0], last[b] = total, weight, t * n_envs + e
        ends[b, 0] = dones[t, e] * (1.0 - timeouts[t, e])


class PrioritizedReplayBuffer(ReplayBuffer):
    """The newest ``buffer_size`` transitions of all envs, drawn by their priorities.

    :param buffer_size: transitions of all envs together
    :param observation_space: of the env, Dict and images allowed
    :param action_space: of the env
    :param device: of the tensors handed out (default "auto")
    :param n_envs: number of envs (default 1)
    :param optimize_memory_usage: keep each observation once, not again as the next one of the row before; last observations of
        episodes that a time limit cut are kept aside, so that, unlike in SB3's buffer, they are handled (default False)
    :param handle_timeout_termination: tell time limits from terminal states (default True)
    :param n_steps: n of the returns (default 1)
    :param gamma: γ within them (default 0.99)
    :param alpha: α, 0 draws uniformly (default 0.6)
    :param beta: β at first (default 0.4)
    :param beta_final: β at the end (default 1.0)
    :param epsilon: ε, added to each error (default 1e-6)
    :ivar beta: β now, set by ``anneal``
    :ivar tree: the sum tree of the p^α, row ``position · n_envs + env``
    :raises ValueError: for a number out of range
    """

    observations: Any  # array [T, n_envs, …], or a dict of such arrays
    next_observations: Any  # the same; None with optimize_memory_usage

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        device: th.device | str = "auto",
        n_envs: int = 1,
        optimize_memory_usage: bool = False,
        handle_timeout_termination: bool = True,
        n_steps: int = 1,
        gamma: float = 0.99,
        alpha: float = 0.6,
        beta: float = 0.4,
        beta_final: float = 1.0,
        epsilon: float = 1e-6,
    ) -> None:
        check_arguments(
            locals(), n_envs=Integer(1), alpha=Real(0), beta=Real(0, 1), beta_final=Real(0, 1), epsilon=Real(above=0)
        )
        length = max(buffer_size // n_envs, 2 if optimize_memory_usage else 1)  # the row to be written next cannot be drawn
        BaseBuffer.__init__(self, length, observation_space, action_space, device, n_envs)
        self.optimize_memory_usage, self.handle_timeout_termination = optimize_memory_usage, handle_timeout_termination
        self.n_steps, self.gamma = n_steps, gamma
        self.alpha, self.epsilon = alpha, epsilon
        self.beta_initial, self.beta, self.beta_final = beta, beta, beta_final
        shape = (length, n_envs)
        self.observations = self._storage(shape)
        self.next_observations = None if optimize_memory_usage else self._storage(shape)
        self.last_observations: dict[int, Any] = {}  # row → last observation of an episode that was cut there
        self.actions = np.zeros((*shape, self.action_dim), self._maybe_cast_dtype(action_space.dtype))
        self.rewards, self.dones, self.timeouts = (np.zeros(shape, np.float32) for _ in range(3))
        self.tree = SumTree(length * n_envs)
        self.max_priority = 1.0  # largest p^α so far

    def _storage(self, shape: tuple[int, int]) -> Any:
        space, obs_shape = self.observation_space, self.obs_shape
        if isinstance(space, spaces.Dict):
            return {key: np.zeros((*shape, *obs_shape[key]), part.dtype) for key, part in space.spaces.items()}  # type: ignore
        return np.zeros((*shape, *obs_shape), space.dtype)  # type: ignore[misc]

    # ------------------------------------------------------------------ writing

    def add(self, obs: Any, next_obs: Any, action: Array, reward: Array, done: Array, infos: list[dict[str, Any]]) -> None:
        """Store a transition of every env, with the largest priority so far; the arguments are SB3's."""
        row, envs = self.pos, np.arange(self.n_envs)
        following = (row + 1) % self.buffer_size
        _write(self.observations, row, obs)
        if self.optimize_memory_usage:
            _write(self.observations, following, next_obs)
            self.tree.set(following * self.n_envs + envs, np.zeros(self.n_envs))  # its own observation is lost
            for place in (*(row * self.n_envs + envs), *(following * self.n_envs + envs)):
                self.last_observations.pop(int(place), None)
        else:
            _write(self.next_observations, row, next_obs)
        self.actions[row] = np.asarray(action).reshape(self.n_envs, self.action_dim)
        self.rewards[row], self.dones[row] = reward, done
        if self.handle_timeout_termination:
            self.timeouts[row] = np.reshape([info.get("TimeLimit.truncated", False) for info in infos], self.n_envs)
            self._keep_last(row, next_obs)
        self.tree.set(row * self.n_envs + envs, np.full(self.n_envs, self.max_priority))
        self.pos, self.full = following, self.full or following == 0

    def _keep_last(self, row: int, observations: Any) -> None:
        """With ``optimize_memory_usage``, keep aside the last observations of the episodes that ``row`` cuts."""
        if self.optimize_memory_usage:
            for e in np.flatnonzero(self.timeouts[row]):
                self.last_observations[int(row * self.n_envs + e)] = _map(lambda x, e=e: np.array(x[e]), observations)

    def cut(self) -> None:
        """Close the running episodes: the next row follows from none of the newest ones."""
        if self.size() > 0:
            newest = (self.pos - 1) % self.buffer_size
            if self.optimize_memory_usage:
                following = _map(lambda store: store[self.pos], self.observations)
                running = (self.dones[newest] == 0) & (self.timeouts[newest] == 0)
                for e in np.flatnonzero(running):
                    self.last_observations[int(newest * self.n_envs + e)] = _map(lambda x, e=e: np.array(x[e]), following)
            self.timeouts[newest] = np.maximum(self.timeouts[newest], 1.0 - self.dones[newest])

    def update_priorities(self, indices: Array, errors: Array) -> None:
        """Give rows the priorities (|error| + ε)^α.

        :param indices: from a sample, int [B]
        :param errors: what they are surprising by, float [B]
        :raises ValueError: if one of the errors is NaN or infinite
        """
        priorities = (np.abs(errors, dtype=np.float64) + self.epsilon) ** self.alpha
        try:
            self.tree.set(indices, priorities)
        except ValueError as error:
            raise ValueError(f"{error}: the loss has diverged. Lower learning_rate, or scale the rewards") from None
        self.max_priority = max(self.max_priority, float(priorities.max()))

    def anneal(self, progress_remaining: float) -> None:
        """Set β between its two ends.

        :param progress_remaining: 1 at the beginning of the training, 0 at its end
        """
        self.beta = self.beta_final + (self.beta_initial - self.beta_final) * progress_remaining

    # ------------------------------------------------------------------ reading

    def sample(self, batch_size: int, env: VecNormalize | None = None) -> PrioritizedSamples:  # type: ignore[override]
        """Draw rows by their priorities.

        :param batch_size: B
        :param env: normalizes observations and rewards
        :raises ValueError: if nothing is stored yet
        """
        indices, shares = self.tree.draw(batch_size, stratified=True)
        weights = self.importance_weights(shares)
        return self.rows(indices, weights / weights.max(), env)

    def importance_weights(self, shares: Array) -> Array:
        """Return (1 / (N P))^β, with N the number of rows that can be drawn.

        :param shares: P of rows, float64 [B]
        """
        return (self.tree.count * shares) ** -self.beta

    def rows(self, indices: Array, weights: Array, env: VecNormalize | None = None) -> PrioritizedSamples:
        """Return given rows.

        :param indices: ``position · n_envs + env``, int64 [B]
        :param weights: to hand out with them [B]
        :param env: normalizes observations and rewards
        """
        returns, discounts, ends = np.empty((3, len(indices), 1), np.float32)
        last = np.empty_like(indices)
        newest = (self.pos - 1) % self.buffer_size
        _n_step(self.rewards, self.dones, self.timeouts, indices, newest, self.n_steps, self.gamma, reward_scaling(env),
                returns, discounts, ends, last)  # fmt: skip
        if self.optimize_memory_usage:
            following = (last + self.n_envs) % (self.buffer_size * self.n_envs)
            next_observations = _map(lambda store: _take(store, following), self.observations)
            for b in np.flatnonzero(_take(self.timeouts, last)):
                _write(next_observations, int(b), self.last_observations[int(last[b])])
        else:
            next_observations = _map(lambda store: _take(store, last), self.next_observations)
        observations = _map(lambda store: _take(store, indices), self.observations)
        return PrioritizedSamples(
            _map(self._tensor, self._normalize_obs(observations, env)),
            self._tensor(_take(self.actions, indices)),
            _map(self._tensor, self._normalize_obs(next_observations, env)),
            self._tensor(ends),
            self._tensor(returns),
            self._tensor(discounts),
            self._tensor(weights.astype(np.float32).reshape(-1, 1)),
            indices,
        )

    def _tensor(self, array: Array) -> th.Tensor:
        """Return an array that nobody else holds as a tensor: on the CPU it is the same memory."""
        tensor = th.from_numpy(array)
        return tensor if self.device.type == "cpu" else tensor.to(self.device)

    def _get_samples(self, batch_inds: Array, env: VecNormalize | None = None) -> PrioritizedSamples:  # type: ignore[override]
        """Return the transitions of given positions, each of an env drawn at random, with weights of 1."""
        envs = np.random.randint(self.n_envs, size=len(batch_inds))
        return self.rows(batch_inds * self.n_envs + envs, np.ones(len(batch_inds)), env)


def _map(function: Any, parts: Any) -> Any:
    """Apply a function to an array, or to each of a dict."""
    return {key: function(part) for key, part in parts.items()} if isinstance(parts, dict) else function(parts)


def _take(store: Array, rows: Array) -> Array:
    """Gather rows, counted over all positions and envs, of an array [T, n_envs, …]."""
    return store.reshape(-1, *store.shape[2:]).take(rows, axis=0)


def _write(stores: Any, row: int, values: Any) -> None:
    """Write one row of an array, or of each of a dict."""
    if isinstance(stores, dict):
        for key, store in stores.items():
            _write(store, row, values[key])
    else:
        stores[row] = np.asarray(values).reshape(stores.shape[1:])  # Discrete observations arrive as [n_envs]
