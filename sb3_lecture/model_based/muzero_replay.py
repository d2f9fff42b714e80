"""MuZero's memory: whole trajectories by time, and the targets that are read off them.

Row t of a column holds s_t, a_t, the reward r_{t+1} of that step, and what the search found in s_t: its policy π_t and its
value ν_t. From a row the model is unrolled K steps; what it should foretell at each (Schrittwieser et al. 2020, appendix B):

    z_t = r_{t+1} + d r_{t+2} + … + d^{n−1} r_{t+n} + d^n ν_{t+n},     d = γ, or −1 between two players

Rows are drawn with P(t) ∝ |ν_t − z_t|^α and weigh (1 / N P(t))^β (appendix G).

- Beyond the end of an episode the state is absorbing: value and reward 0, any action, no policy to learn.
- Beyond a time limit nothing is known and nothing is learned; z is bootstrapped there with the searched value of the last
  observation.
- The newest row of a running episode closes the returns that would need later ones.
- Rewards are kept as the env gave them; where VecNormalize scales them, ``scaling`` is its factor and bound of today, by which
  they are read. ν and the values of cut states stay as they were found, until Reanalyze renews ν.
"""

from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from numba import njit
from stable_baselines3.common.buffers import BaseBuffer, ReplayBuffer

from sb3_lecture.common.sum_tree import SumTree
from sb3_lecture_envs.board.game import Symmetries

__all__ = ["Batch", "TrajectoryBuffer", "turned"]

GOES_ON, TERMINATED, CUT = 0, 1, 2  # how a step ended
FLOOR = 1e-6  # least |ν − z| that a row is drawn by


class Batch(NamedTuple):
    """B rows and the K steps after each.

    :param rows: int64 [B], indices of the rows, counted over all rows of all columns
    :param observations: [B, …]
    :param actions: int64 [B, K]
    :param rewards: float32 [B, K], of these actions
    :param values: float32 [B, K + 1], z of the states met
    :param policies: float32 [B, K + 1, A], π of the states met; 0 where there is none
    :param known: bool [B, K + 1], whether there is a value, and a reward of the step that led there
    :param weights: float32 [B], importance weights, the largest of them 1
    """

    rows: np.ndarray
    observations: np.ndarray
    actions: np.ndarray
    rewards: np.ndarray
    values: np.ndarray
    policies: np.ndarray
    known: np.ndarray
    weights: np.ndarray


def turned(batch: Batch, symmetries: Symmetries, which: np.ndarray) -> Batch:
    """Show each row, the moves after it and their policies under one symmetry of the board.

    :param batch: of a board game, observations [B, planes, H, W]
    :param symmetries: K' of them
    :param which: int [B]
    """
    planes = batch.observations.reshape(*batch.observations.shape[:2], -1)  # [B, planes, H W]
    shown = np.take_along_axis(planes, symmetries.cells[which][:, None], axis=2).reshape(batch.observations.shape)
    sources = symmetries.actions[which]  # [B, A]: the turned policy at a' is the policy at sources[a']
    policies = np.take_along_axis(batch.policies, sources[:, None], axis=2)
    actions = np.take_along_axis(sources.argsort(axis=1), batch.actions, axis=1)
    return batch._replace(observations=shown, actions=actions, policies=policies)


@njit(cache=True)
def scaled(reward, scaling):  # type: ignore[no-untyped-def]
    """Return a stored reward as VecNormalize shows it: times its factor, within its bound."""
    return min(max(reward * scaling[0], -scaling[1]), scaling[1])


@njit(cache=True)
def n_step_return(rewards, values, ends, end_values, column, t, newest, n, discount, scaling):  # type: ignore[no-untyped-def]
    """Return z_t of one column.

    :param rewards: float32 [T, n_envs], a ring by time; ``values``, ``ends`` and ``end_values`` likewise
    :param column: which env
    :param t: time of the row, counted from the first ever
    :param newest: time of the newest row
    :param n: steps before the bootstrap; 0: as many as there are
    :param scaling: of the rewards, (factor, bound)
    """
    length = rewards.shape[0]
    total, weight, i = 0.0, 1.0, 0
    while True:
        row = t % length
        if (n > 0 and i == n) or (t == newest and ends[row, column] == GOES_ON):
            return total + weight * values[row, column]  # d^n ν
        total += weight * scaled(rewards[row, column], scaling)
        weight *= discount
        if ends[row, column] == TERMINATED:
            return total
        if ends[row, column] == CUT:
            return total + weight * end_values[row, column]
        t, i = t + 1, i + 1


@njit(cache=True)
def _settle(rewards, values, ends, end_values, pending, newest, n, discount, alpha, scaling):  # type: ignore[no-untyped-def]
    """Return the rows whose return the newest row has completed, and their |ν − z|^α."""
    length, n_envs = rewards.shape
    last = np.empty(n_envs, np.int64)
    for e in range(n_envs):
        last[e] = newest if ends[newest % length, e] != GOES_ON else newest - n if n > 0 else -1
    rows = np.empty(np.maximum(last + 1 - pending, 0).sum(), np.int64)
    priorities = np.empty(len(rows))
    i = 0
    for e in range(n_envs):
        for t in range(pending[e], last[e] + 1):
            z = n_step_return(rewards, values, ends, end_values, e, t, newest, n, discount, scaling)
            rows[i], priorities[i] = t % length * n_envs + e, max(abs(values[t % length, e] - z), FLOOR) ** alpha
            i += 1
        pending[e] = max(pending[e], last[e] + 1)
    return rows, priorities


@njit(cache=True)
def _unroll(times, columns, stored, newest, n, discount, scaling, targets):  # type: ignore[no-untyped-def]
    """Read K + 1 targets off each row.

    :param times: of the rows [B], counted from the first ever, and their ``columns``
    :param stored: actions, rewards, values, ends, end_values, policies of the memory
    :param targets: written: actions int64 [B, K], random so far; the others of a Batch, zeros so far
    """
    actions, rewards, values, ends, end_values, policies = stored
    played, gains, z, pi, known = targets
    length = rewards.shape[0]
    for b in range(times.shape[0]):
        e, t, over = columns[b], times[b], False
        for k in range(z.shape[1]):
            known[b, k] = True
            if not over:
                row = t % length
                z[b, k] = n_step_return(rewards, values, ends, end_values, e, t, newest, n, discount, scaling)
                pi[b, k] = policies[row, e]
                if k == played.shape[1]:
                    break
                played[b, k], gains[b, k] = actions[row, e], scaled(rewards[row, e], scaling)
                over = ends[row, e] == TERMINATED
                if ends[row, e] == CUT or (t == newest and not over):
                    break
                t += 1


class TrajectoryBuffer(ReplayBuffer):
    """The newest ``buffer_size`` steps of all envs.

    :param buffer_size: steps of all envs together
    :param observation_space: of the env
    :param action_space: Discrete
    :param device: unused; targets are numpy arrays
    :param n_envs: number of envs (default 1)
    :param discount: d, γ or −1 (default 0.997)
    :param td_steps: n of the returns; None: to the end of the episode
    :param unroll_steps: K (default 5)
    :param alpha: exponent of the priorities; 0: all rows alike (default 1)
    :param beta: exponent of the importance weights (default 1)
    :ivar scaling: factor and bound by which rewards are read, of VecNormalize where there is one
    """

    scaling: tuple[float, float] = (1.0, float("inf"))

    def __init__(
        self,
        buffer_size: int,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        device: th.device | str = "auto",
        n_envs: int = 1,
        discount: float = 0.997,
        td_steps: int | None = 10,
        unroll_steps: int = 5,
        alpha: float = 1.0,
        beta: float = 1.0,
    ) -> None:
        length = max(buffer_size // n_envs, 2)
        BaseBuffer.__init__(self, length, observation_space, action_space, device, n_envs)
        self.optimize_memory_usage, self.handle_timeout_termination = False, True
        self.discount, self.td_steps, self.unroll_steps = discount, td_steps or 0, unroll_steps
        self.alpha, self.beta = alpha, beta
        shape, n_actions = (length, n_envs), int(action_space.n)
        self.observations = np.zeros((*shape, *self.obs_shape), observation_space.dtype)  # type: ignore[misc]
        self.actions = np.zeros(shape, np.int32)
        self.rewards, self.values, self.end_values = (np.zeros(shape, np.float32) for _ in range(3))
        self.ends = np.zeros(shape, np.int8)  # GOES_ON, TERMINATED or CUT
        self.policies = np.zeros((*shape, n_actions), np.float32)
        self.legal = np.ones((*shape, n_actions), np.bool_)
        self.tree = SumTree(length * n_envs)  # of |ν − z|^α; 0: not to be drawn
        self.total = 0  # rows ever added
        self.pending = np.zeros(n_envs, np.int64)  # first row of each column whose return is not complete

    @property
    def priorities(self) -> np.ndarray:
        """|ν − z|^α of all rows, float64 [T, n_envs]; 0: not to be drawn."""
        return self.tree.priorities.reshape(-1, self.n_envs)

    @property
    def newest(self) -> int:
        """Time of the newest row."""
        return self.total - 1

    def add(  # type: ignore[override]
        self,
        obs: np.ndarray,
        actions: np.ndarray,
        rewards: np.ndarray,
        ends: np.ndarray,
        end_values: np.ndarray,
        policies: np.ndarray,
        values: np.ndarray,
        legal: np.ndarray | None = None,
    ) -> None:
        """Store a step of every env.

        :param obs: s [n_envs, …]
        :param actions: a, int [n_envs]
        :param rewards: of the step [n_envs]
        :param ends: GOES_ON, TERMINATED or CUT [n_envs]
        :param end_values: value of the state where the step was CUT, else ignored [n_envs]
        :param policies: π [n_envs, A]
        :param values: ν [n_envs]
        :param legal: actions allowed in s, bool [n_envs, A]; None: all
        :raises ValueError: for a reward that is no finite number
        """
        if not np.isfinite(rewards).all():
            env = int(np.isfinite(rewards).argmin())
            raise ValueError(f"Env {env} gave the reward {rewards[env]}. Rewards must be finite numbers.")
        row = self.pos
        self.observations[row] = np.asarray(obs).reshape(self.n_envs, *self.obs_shape)
        self.actions[row], self.rewards[row], self.values[row], self.policies[row] = actions, rewards, values, policies
        self.ends[row], self.end_values[row] = ends, end_values
        self.legal[row] = True if legal is None else legal
        self._bar(row, np.arange(self.n_envs))
        self.total += 1
        self.pos = self.total % self.buffer_size
        self.full = self.total >= self.buffer_size
        self.pending = np.maximum(self.pending, self.total - self.buffer_size)
        self._settle()

    def _settle(self) -> None:
        rows, priorities = _settle(self.rewards, self.values, self.ends, self.end_values, self.pending, self.newest,
                                   self.td_steps, self.discount, self.alpha, self.scaling)  # fmt: skip
        self.tree.set(rows, priorities)

    def _bar(self, row: int, columns: np.ndarray) -> None:
        """Let some columns of a row not be drawn."""
        self.tree.set(row * self.n_envs + columns, np.zeros(len(columns)))

    def cut(self) -> None:
        """Close the running episodes: the next row follows from none of the newest ones.

        What the newest action led to is not known, so its row only serves to bootstrap the row before, by its ν.
        """
        if self.total == 0:
            return
        row, before = self.newest % self.buffer_size, (self.newest - 1) % self.buffer_size
        running = self.ends[row] == GOES_ON  # [n_envs]
        if self.total > 1:
            joined = running & (self.ends[before] == GOES_ON)
            self.ends[before, joined], self.end_values[before, joined] = CUT, self.values[row, joined]
        self.ends[row, running], self.end_values[row, running] = CUT, self.values[row, running]
        self._settle()
        self._bar(row, np.flatnonzero(running))

    def ready(self) -> bool:
        """Whether a row can be drawn."""
        return self.tree.count > 0

    def sample(self, batch_size: int, env: Any = None) -> Batch:  # type: ignore[override]
        """Draw rows by their priorities, with replacement, and read the targets off them."""
        rows, shares = self.tree.draw(batch_size)
        weights = (self.tree.count * shares) ** -self.beta  # (1 / N P)^β
        return self.targets(rows, (weights / weights.max()).astype(np.float32))

    def targets(self, rows: np.ndarray, weights: np.ndarray) -> Batch:
        """Return the batch of given rows, int [B]: time in the ring · n_envs + column."""
        b, k, n_actions = len(rows), self.unroll_steps, self.policies.shape[2]
        places, columns = np.divmod(rows, self.n_envs)
        actions = np.random.randint(n_actions, size=(b, k))
        rewards, values = np.zeros((b, k), np.float32), np.zeros((b, k + 1), np.float32)
        policies = np.zeros((b, k + 1, n_actions), np.float32)
        known = np.zeros((b, k + 1), np.bool_)
        stored = (self.actions, self.rewards, self.values, self.ends, self.end_values, self.policies)
        times = self.newest - (self.newest - places) % self.buffer_size
        targets = (actions, rewards, values, policies, known)
        _unroll(times, columns, stored, self.newest, self.td_steps, self.discount, self.scaling, targets)
        return Batch(rows, self.observations[places, columns], *targets, weights)

    def renew_priorities(self, rows: np.ndarray, returns: np.ndarray) -> None:
        """Give rows drawn the priorities |ν − z|^α of today: Reanalyze has moved ν, and the bootstraps in z.

        :param rows: int [B]
        :param returns: z of their states, float [B]
        """
        errors = np.abs(self.values.reshape(-1)[rows] - returns)
        self.tree.set(rows, np.maximum(errors, FLOOR) ** self.alpha)

    def draw(self, n: int) -> np.ndarray:
        """Draw n rows uniformly among all stored, to be searched anew: int [n]."""
        return np.random.randint(self.size() * self.n_envs, size=n)

    def refresh(self, rows: np.ndarray, policies: np.ndarray, values: np.ndarray) -> None:
        """Replace π and ν of rows."""
        places, columns = np.divmod(rows, self.n_envs)
        self.policies[places, columns], self.values[places, columns] = policies, values
