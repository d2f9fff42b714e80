"""What the planning methods share: sweeps of state backups over the law, with SB3's callbacks after every sweep.

One timestep is the backup of one state. The envs are never stepped; they only bring the law: a TabularMDP, or Gymnasium's P.
"""

from collections.abc import Iterator
from typing import Any, ClassVar, NamedTuple, TypeVar

import numba
import numpy as np
import torch as th
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import MaybeCallback
from stable_baselines3.common.vec_env import VecEnv

from sb3_lecture.common.checks import Real, check_settings
from sb3_lecture.exact.bellman import backup, q_from_v
from sb3_lecture.exact.chain import episode_lengths, policy_evaluation
from sb3_lecture.exact.law import law_of
from sb3_lecture.exact.solver import ending_policy, modified_policy_iteration
from sb3_lecture.tabular.base import Rules, TabularAlgorithm
from sb3_lecture.tabular.kernels import Nothing
from sb3_lecture.tabular.policy import TabularPolicy
from sb3_lecture_envs.mdp import TabularMDP

SelfPlanning = TypeVar("SelfPlanning", bound="PlanningAlgorithm")


class PlannedPolicy(TabularPolicy):
    """State values [S, 1] and an action for each state, int32 [S]. Takes :class:`TabularPolicy`'s arguments."""

    actions: th.Tensor

    def __init__(self, observation_space: Any, action_space: Any, **kwargs: Any) -> None:
        super().__init__(observation_space, action_space, **{**kwargs, "n_columns": 1})
        self.register_buffer("actions", th.zeros(self.index.size, dtype=th.int32))

    def _greedy(self, states: np.ndarray) -> np.ndarray:
        return self.actions.numpy()[states].astype(np.int64)

    def _behaviour(self, states: np.ndarray) -> np.ndarray:
        return np.eye(int(self.action_space.n))[self._greedy(states)]


def stated_law(env: VecEnv) -> TabularMDP:
    """The law that a VecEnv's first env states, as ``mdp`` or as ``P``.

    :raises ValueError: if it states none
    """
    mdp = law_of(env)
    if mdp is None:
        raise ValueError(
            "Planning needs the world's law: an env with a TabularMDP (mdp) or Gymnasium's P. Learn from experience instead, "
            "for example with QLearning"
        )
    return mdp


@numba.njit(cache=True, inline="always")
def best_action(
    row_ptr: np.ndarray, next_state: np.ndarray, prob: np.ndarray, terminated: np.ndarray, reward: np.ndarray,
    gamma: float, v: np.ndarray, s: int, action: int
) -> tuple[float, int, float]:  # fmt: skip
    """max_a Σ p(s', r | s, a) [r + γ v(s')], the first action that reaches it, and the same sum of the present ``action``."""
    n_actions = reward.shape[1]
    best, chosen, present = -np.inf, action, -np.inf
    for a in range(n_actions):
        e = row_ptr[s * n_actions + a]
        n = row_ptr[s * n_actions + a + 1] - e
        q = backup(reward[s, a], gamma, e, n, next_state, prob, terminated, False, v)
        if a == action:
            present = q
        if q > best:
            best, chosen = q, a
    return best, chosen, present


@numba.njit(cache=True)
def optimality_sweep(
    row_ptr: np.ndarray, next_state: np.ndarray, prob: np.ndarray, terminated: np.ndarray, reward: np.ndarray,
    gamma: float, v: np.ndarray, actions: np.ndarray, slack: float
) -> float:  # fmt: skip
    """v(s) ← max_a Σ p [r + γ v(s')] for every state in turn, in place (eq. 4.10); returns the largest change.

    ``actions[s]`` gives way to the first best action where that is better by more than ``slack``: ties, on which a policy
    might go in circles, change nothing.
    """
    change = 0.0
    for s in range(v.shape[0]):
        best, chosen, present = best_action(row_ptr, next_state, prob, terminated, reward, gamma, v, s, actions[s])
        if best > present + slack:
            actions[s] = chosen
        change = max(change, abs(best - v[s]))
        v[s] = best
    return change


@numba.njit(cache=True)
def evaluation_sweep(
    row_ptr: np.ndarray, next_state: np.ndarray, prob: np.ndarray, terminated: np.ndarray, reward: np.ndarray,
    gamma: float, v: np.ndarray, pi: np.ndarray
) -> float:  # fmt: skip
    """v(s) ← Σ_a π(a | s) Σ p [r + γ v(s')] for every state in turn, in place (eq. 4.5); returns the largest change."""
    n_actions, change = pi.shape[1], 0.0
    for s in range(v.shape[0]):
        value = 0.0
        for a in range(n_actions):
            if pi[s, a] > 0.0:
                e = row_ptr[s * n_actions + a]
                n = row_ptr[s * n_actions + a + 1] - e
                value += pi[s, a] * backup(reward[s, a], gamma, e, n, next_state, prob, terminated, False, v)
        change = max(change, abs(value - v[s]))
        v[s] = value
    return change


def rounding(v: np.ndarray) -> float:
    """What 64-bit sums of such values cannot tell from 0."""
    return 16.0 * float(np.finfo(np.float64).eps) * float(np.abs(v).max(initial=1.0))


class EndingStart(NamedTuple):
    """Where planning with γ = 1 may start: a policy that surely ends (or stays where there is nothing), and its value.

    :param actions: int32 [S]
    :param v: its exact value, a lower bound of the optimum, float64 [S]
    """

    actions: np.ndarray
    v: np.ndarray


def ending_start(mdp: TabularMDP) -> EndingStart:
    """A policy that surely ends, and its value.

    :raises ValueError: naming a state from which there is none, or the reason why the optimum is not finite
    """
    endless = ~np.isfinite(modified_policy_iteration(mdp, 1.0).v)
    if endless.any():
        raise ValueError(
            f"gamma=1, but from state {int(np.argmax(endless))} no policy surely ends the episode, and the rewards until then "
            "have no finite sum; use gamma < 1"
        )
    first = ending_policy(mdp)
    actions = first.with_rest(first.actions)
    return EndingStart(actions, policy_evaluation(mdp, actions, 1.0))


class PlanningAlgorithm(TabularAlgorithm):
    """The base of the planning methods.

    :param policy: "TabularPolicy" ("MlpPolicy" is another name of it)
    :param env: an env that carries its law, its id, or a VecEnv
    :param gamma: discount γ in [0, 1]; 1 where episodes end surely (default 0.99)
    :param tol: error allowed in any state's value (default 1e-8). With γ = 1 it is proven for the policy at hand: a sweep's
        largest change times the longest episode that policy is expected to take
    :param kwargs: SB3's other arguments (verbose, seed, tensorboard_log, …)
    :raises ValueError: if an argument is out of its range, or (while learning) γ = 1 and episodes may go on for ever
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"TabularPolicy": PlannedPolicy, "MlpPolicy": PlannedPolicy}
    _n_columns = 1
    _running = ("_plan",)
    #: where the sweeps stand; None: not begun. A callback may stop them, and the next ``learn`` go on
    _plan: dict[str, Any] | None = None

    def __init__(
        self, policy: Any = "TabularPolicy", env: Any = None, gamma: float = 0.99, tol: float = 1e-8, **kwargs: Any
    ) -> None:
        self.tol = tol
        super().__init__(policy, env, gamma=gamma, **kwargs)

    def _check_arguments(self) -> None:
        super()._check_arguments()
        check_settings(self, tol=Real(above=0))

    def _rules(self) -> Rules:
        raise NotImplementedError("planning takes no steps in an env")

    def _make_memory(self) -> NamedTuple:
        return Nothing()

    @property
    def v_table(self) -> np.ndarray:
        """The values of the states, float64 [S], a view."""
        return self.policy.table.numpy()[:, 0]

    @property
    def q_table(self) -> np.ndarray:
        """One look ahead from ``v_table`` by the env's law, float64 [S, A], computed anew at each call."""
        if self.env is None:
            raise ValueError("The action values follow from the world's law: give an env (set_env), or read v_table")
        return q_from_v(stated_law(self.env), self.v_table, self.gamma)

    @property
    def active_backend(self) -> str:
        """Always "compiled": sweeps need no env."""
        return "compiled"

    def _largest_change(self, steps: float | None = None) -> float:
        """A sweep that changes no value by more proves the tolerance: |v - v*| ≤ change · steps.

        :param steps: expected steps until the end, γ = 1; None: those that a discount amounts to, γ / (1 - γ)
        """
        if steps is None:
            steps = self.gamma / (1.0 - self.gamma) if self.gamma < 1.0 else 1.0
        return max(self.tol / max(steps, 1.0), rounding(self.v_table))

    def _longest_episode(self, mdp: TabularMDP, policy: np.ndarray) -> float:
        """Steps that a policy is expected to take until it ends or stays for ever, from the state where it takes most."""
        return float(episode_lengths(mdp, policy)[0].max())

    def _sweeps(self, mdp: TabularMDP) -> Iterator[float]:
        """Sweep until the tolerance is reached; yields the largest change after every sweep.

        All that the next sweep needs, beside the policy's tables, stands in ``_plan`` at each yield.
        """
        raise NotImplementedError

    def learn(
        self: SelfPlanning,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int | None = 100,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfPlanning:
        """Plan until the tolerance is reached, for at most ``total_timesteps`` state backups (whole sweeps, at least one).

        :param total_timesteps: state backups at most
        :param callback: SB3's callbacks, called after every sweep; False from one of them stops
        :param log_interval: sweeps between two log tables; None: none
        :param tb_log_name: name of the run in TensorBoard; None: the class's name
        :param reset_num_timesteps: whether the step counter and the method start anew (the values stay what they are), or the
            sweeps go on where a callback or ``total_timesteps`` stopped them, if any are left
        :param progress_bar: whether to show one
        :return: the model
        """
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name or type(self).__name__, progress_bar
        )
        assert self.env is not None
        if reset_num_timesteps:
            self._plan = None
        mdp = stated_law(self.env)
        if mdp.n_states != self.policy.index.size:
            raise ValueError(
                f"The law has {mdp.n_states} states, the observation space {self.observation_space} has "
                f"{self.policy.index.size}; planning needs observations that are the states"
            )
        wrong = np.flatnonzero(~np.isfinite(self.v_table))
        if wrong.size:
            raise ValueError(f"v_table[{wrong[0]}] is {self.v_table[wrong[0]]}; sweeps start from finite values")
        callback.on_training_start(locals(), globals())
        callback.on_rollout_start()
        infos: list[dict[str, Any]] = [{} for _ in range(self.n_envs)]
        dones, rewards = np.zeros(self.n_envs, np.bool_), np.zeros(self.n_envs)
        left = reset_num_timesteps or self.num_timesteps < total_timesteps
        for change in self._sweeps(mdp) if left else ():
            assert self._plan is not None
            self._plan["sweeps"] = sweep = self._plan.get("sweeps", 0) + 1
            self.num_timesteps += mdp.n_states
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
            self.logger.record("planning/change", change)
            self.logger.record("planning/sweeps", sweep)
            if log_interval is not None and sweep % log_interval == 0:
                self.dump_logs()
            callback.update_locals({"infos": infos, "dones": dones, "rewards": rewards, "change": change})
            if not callback.on_step() or self.num_timesteps >= total_timesteps:
                break
        callback.on_rollout_end()
        callback.on_training_end()
        return self
