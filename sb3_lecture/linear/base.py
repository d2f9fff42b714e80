"""LinearAlgorithm: the one learning loop of the linear methods, and what they save.

Every env acts, every env steps, every env learns, then the callback is called. A control method that is *committed* (Sarsa)
chooses its next action before it learns, for its target needs it, and then takes that action; one that is not (Q-learning)
chooses with what it has just learned. At a time limit a committed method draws an action for the target only.

Deviation from SB3: the callback of a step is called after the step was learned from, not before.
"""

from typing import Any, ClassVar, TypeVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback, Schedule
from stable_baselines3.common.utils import FloatSchedule
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_lecture.common.checkpoint import SafeSave
from sb3_lecture.common.checks import Real, check_arguments, check_settings, naming_memory
from sb3_lecture.common.logs import record_progress
from sb3_lecture.common.stepping import step_in_turn, step_together
from sb3_lecture.linear import kernels
from sb3_lecture.linear.features import Active
from sb3_lecture.linear.policy import LinearPolicy, LinearValuePolicy, given_policy

SelfLinear = TypeVar("SelfLinear", bound="LinearAlgorithm")
STEP_SIZE = Real(above=0, schedule=True)
FEATURE_ARRAYS = ("features", "initial_weights", "ranges")  # arguments of the policy that may be arrays


class LinearAlgorithm(SafeSave, BaseAlgorithm):
    """The base of the linear learners.

    :param policy: "LinearPolicy" ("MlpPolicy" is another name of it)
    :param env: an env with a Box, Discrete or MultiDiscrete observation space and Discrete actions, its id, or a VecEnv
    :param learning_rate: step size α, or a schedule of the remaining progress. It is the whole step: with T tilings, 1/T
        takes a state's value to its target at once, and the book's α = 0.5/8 stands here as 0.0625 (default 0.0625)
    :param gamma: discount γ in [0, 1] (default 0.99)
    :param policy_kwargs: the features: see :class:`LinearPolicy`
    :param stats_window_size: episodes over which the logged averages go (default 100)
    :param tensorboard_log: folder of the TensorBoard log; None: none
    :param verbose: 0 silent, 1 log tables
    :param device: accepted for SB3's sake; the weights stay on the CPU
    :param seed: of the learner and the env; one seed, one result
    :param _init_setup_model: whether to build the weights at once
    :raises ValueError: if an argument is out of its range, or the features do not fit the spaces
    """

    _running = ("_rng", "_memory", "_x", "_action", "_rho")
    _whole_at = "step"

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"LinearPolicy": LinearPolicy, "MlpPolicy": LinearPolicy}
    policy: LinearPolicy
    action_space: spaces.Discrete
    #: whether the next action is chosen before the step is learned from
    _committed: ClassVar[bool] = False

    def __init__(
        self,
        policy: str | type[BasePolicy] = "LinearPolicy",
        env: GymEnv | str | None = None,
        learning_rate: float | Schedule = 0.0625,
        gamma: float = 0.99,
        policy_kwargs: dict[str, Any] | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        device: th.device | str = "auto",
        seed: int | None = None,
        _init_setup_model: bool = True,
    ) -> None:
        check_arguments(locals())
        kwargs = dict(policy_kwargs or {})
        kwargs |= {name: np.asarray(kwargs[name]).tolist() for name in FEATURE_ARRAYS if kwargs.get(name) is not None}
        super().__init__(
            policy, env, learning_rate, kwargs, stats_window_size, tensorboard_log, verbose,  # type: ignore[arg-type]
            device="cpu", support_multi_env=True, seed=seed,
        )  # fmt: skip
        self.gamma = gamma
        self._check_arguments()
        if _init_setup_model:
            self._setup_model()

    # ---- what an algorithm states

    def _check_arguments(self) -> None:
        """Refuse arguments outside their range.

        :raises ValueError: naming the value and what is allowed
        """
        check_settings(self, gamma=Real(0, 1), learning_rate=STEP_SIZE)

    def _setup_memory(self) -> None:
        """Make what is remembered of running episodes; called whenever all envs were reset."""

    def _act(self, observation: np.ndarray, x: Active) -> np.ndarray:
        """Actions int64 [n], counted from 0."""
        raise NotImplementedError

    def _update(
        self, x: Active, action: np.ndarray, reward: np.ndarray, discount: np.ndarray, done: np.ndarray, x2: Active,
        action2: np.ndarray,
    ) -> int:  # fmt: skip
        """Learn from one transition of every env; returns the first env whose error is not finite, or −1.

        :param x: features of the states left
        :param action: what was done, int64 [n]
        :param reward: float64 [n]
        :param discount: γ, or 0 where the episode has ended for good, float64 [n]
        :param done: ended or cut off, bool [n]
        :param x2: features of the states reached, before any reset
        :param action2: what will be done there, int64 [n]; zeros unless ``_committed``
        """
        raise NotImplementedError

    def _before_step(self, progress_remaining: float) -> None:
        """Look at the schedules."""
        self._alpha = float(self.lr_schedule(progress_remaining))

    # ---- what SB3 builds, saves and loads

    @naming_memory("policy_kwargs")
    def _setup_model(self) -> None:
        self.lr_schedule = FloatSchedule(self.learning_rate)
        self.set_random_seed(self.seed)
        policy_class: Any = self.policy_class
        self.policy = policy_class(self.observation_space, self.action_space, **self._policy_arguments(), **self.policy_kwargs)

    def _policy_arguments(self) -> dict[str, Any]:
        return {}

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seed the learner, the action space and the env."""
        super().set_random_seed(seed)
        # a stream of its own: Gymnasium's envs draw from default_rng(seed), and actions must not follow the world's chance
        self._rng = np.random.default_rng(np.random.SeedSequence(seed, spawn_key=(1,)))

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_rng", "_memory", "_x", "_action"]

    # ---- learning

    def learn(
        self: SelfLinear,
        total_timesteps: int,
        callback: MaybeCallback = None,
        log_interval: int | None = 100,
        tb_log_name: str | None = None,
        reset_num_timesteps: bool = True,
        progress_bar: bool = False,
    ) -> SelfLinear:
        """Learn from experience.

        :param total_timesteps: env steps to take, all envs together
        :param callback: SB3's callbacks; False from one of them stops
        :param log_interval: episodes between two log tables; None: none
        :param tb_log_name: name of the run in TensorBoard; None: the class's name
        :param reset_num_timesteps: whether the step counter and the schedules start anew
        :param progress_bar: whether to show one
        :return: the model
        :raises ValueError: if an observation or a reward is not finite, or the weights diverge
        """
        self._take_up(reset_num_timesteps)
        fresh = reset_num_timesteps or self._last_obs is None or not hasattr(self, "_x")
        total_timesteps, callback = self._setup_learn(
            total_timesteps, callback, reset_num_timesteps, tb_log_name or type(self).__name__, progress_bar
        )
        env, last_obs = self.env, self._last_obs
        assert env is not None and isinstance(last_obs, np.ndarray)
        step = step_in_turn if type(env) is DummyVecEnv else step_together
        start, nobody = int(self.action_space.start), np.zeros(self.n_envs, np.int64)
        self._before_step(self._current_progress_remaining)
        if fresh:
            self._setup_memory()
            self._x = self.policy.x(last_obs)
            self._action = self._act(last_obs, self._x)  # [n], what each env does next
        callback.on_training_start(locals(), globals())
        callback.on_rollout_start()
        while self.num_timesteps < total_timesteps:
            actions = self._action + start
            new_obs, rewards, terminated, truncated, final_obs, infos = step(env, actions)  # type: ignore[arg-type]
            if not np.isfinite(rewards).all():
                raise ValueError(f"The env paid a reward that is not finite: {rewards.tolist()}")
            dones, x2 = terminated | truncated, self.policy.x(final_obs)
            self._before_step(self._current_progress_remaining)
            action2 = self._act(final_obs, x2) if self._committed else nobody
            discount = np.where(terminated, 0.0, self.gamma)
            bad = self._update(self._x, self._action, rewards, discount, dones, x2, action2)
            if bad >= 0:
                raise ValueError(
                    f"The weights diverged at step {self.num_timesteps} (env {bad}): the update is no longer finite. Lower "
                    f"learning_rate={self.learning_rate}, or take a method that converges off-policy (GradientTD, LSTD)"
                )
            self._x, self._action, self._last_obs = x2, action2, new_obs
            if dones.any():  # those envs act from their new start
                self._x = self.policy.x(new_obs)
                again = self._act(new_obs, self._x)
                self._action = np.where(dones, again, action2) if self._committed else again
            elif not self._committed:
                self._action = self._act(new_obs, x2)
            self.num_timesteps += self.n_envs
            self._update_current_progress_remaining(self.num_timesteps, total_timesteps)
            before = self._episode_num
            self._episode_num += int(dones.sum())
            if self._episode_num > before:
                self._update_info_buffer(infos, dones)
            callback.update_locals(locals())
            if not callback.on_step():
                break
            if log_interval is not None and self._episode_num // log_interval > before // log_interval:
                self.dump_logs()
        callback.on_rollout_end()
        callback.on_training_end()
        return self

    def dump_logs(self) -> None:
        """Write the averages of the last episodes, as SB3's learners do."""
        record_progress(self)
        self._record_logs()
        self.logger.record("time/episodes", self._episode_num, exclude="tensorboard")
        self.logger.dump(step=self.num_timesteps)

    def _record_logs(self) -> None:
        self.logger.record("train/largest_weight", float(np.abs(self.policy.weights.numpy()).max()))


class LinearControl(LinearAlgorithm):
    """The base of the methods that learn action values q(s, a) = wₐᵀ x(s) and follow an ε-greedy policy.

    :param policy: "LinearPolicy"
    :param env: the env, its id, or a VecEnv
    :param learning_rate: step size α (default 0.0625)
    :param gamma: discount γ (default 0.99)
    :param exploration_fraction: share of the run over which ε falls (default 0.1)
    :param exploration_initial_eps: ε at the start, the probability of a *random* action (default 1.0)
    :param exploration_final_eps: ε at the end (default 0.05)
    :param kwargs: the other arguments are those of :class:`LinearAlgorithm`
    """

    def __init__(
        self,
        policy: Any = "LinearPolicy",
        env: Any = None,
        learning_rate: float | Schedule = 0.0625,
        gamma: float = 0.99,
        exploration_fraction: float = 0.1,
        exploration_initial_eps: float = 1.0,
        exploration_final_eps: float = 0.05,
        **kwargs: Any,
    ) -> None:
        self.exploration_fraction = exploration_fraction
        self.exploration_initial_eps = exploration_initial_eps
        self.exploration_final_eps = exploration_final_eps
        super().__init__(policy, env, learning_rate, gamma, **kwargs)

    def _check_arguments(self) -> None:
        super()._check_arguments()
        unit = Real(0, 1)
        check_settings(self, exploration_fraction=unit, exploration_initial_eps=unit, exploration_final_eps=unit)

    def _before_step(self, progress_remaining: float) -> None:
        super()._before_step(progress_remaining)
        done, fraction = 1.0 - progress_remaining, self.exploration_fraction
        part = 1.0 if done >= fraction else done / fraction
        first, last = self.exploration_initial_eps, self.exploration_final_eps
        self.policy.epsilon.numpy()[0] = first + (last - first) * part

    @property
    def exploration_rate(self) -> float:
        """The present ε; what is written here counts for ``predict`` until ``learn`` goes on with its schedule."""
        return float(self.policy.epsilon[0])

    @exploration_rate.setter
    def exploration_rate(self, epsilon: float) -> None:
        check_arguments({"exploration_rate": epsilon}, exploration_rate=Real(0, 1))
        self.policy.epsilon[0] = epsilon

    def q_values(self, observation: Any) -> np.ndarray:
        """q(s, a) of observations [n, …] or of one, float64 [n, A]."""
        return self.policy.values(observation)

    def _act(self, observation: np.ndarray, x: Active) -> np.ndarray:
        action = np.empty(self.n_envs, np.int64)
        u = self._rng.random((self.n_envs, 2))
        kernels.choose(self.policy.weights.numpy(), *x, self.exploration_rate, u, action)
        return action

    def _record_logs(self) -> None:
        self.logger.record("rollout/exploration_rate", self.exploration_rate)
        super()._record_logs()


class LinearPrediction(LinearAlgorithm):
    """The base of the methods that learn the values v(s) = wᵀ x(s) of a given policy. ``predict`` follows that policy.

    :param policy: "LinearPolicy" ("MlpPolicy" is another name of it)
    :param env: the env, its id, or a VecEnv
    :param learning_rate: step size α (default 0.0625)
    :param gamma: discount γ (default 0.99)
    :param target_policy: π, whose values are learned. None: all actions alike. In a finite space one action a state [S], or
        probabilities [S, A]; in a Box probabilities [A], or weights of action values [A, d] to be greedy in
    :param behavior_policy: b, which acts (off-policy), written in the same ways; None: π itself (default None)
    :param kwargs: the other arguments are those of :class:`LinearAlgorithm`
    :raises ValueError: if a policy does not fit the spaces, or b never takes an action that π takes
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"LinearPolicy": LinearValuePolicy, "MlpPolicy": LinearValuePolicy}
    policy: LinearValuePolicy

    def __init__(
        self,
        policy: Any = "LinearPolicy",
        env: Any = None,
        learning_rate: float | Schedule = 0.0625,
        gamma: float = 0.99,
        target_policy: Any = None,
        behavior_policy: Any = None,
        **kwargs: Any,
    ) -> None:
        self.target_policy = None if target_policy is None else np.asarray(target_policy).tolist()
        self.behavior_policy = None if behavior_policy is None else np.asarray(behavior_policy).tolist()
        super().__init__(policy, env, learning_rate, gamma, **kwargs)

    def _policy_arguments(self) -> dict[str, Any]:
        return {"target_policy": self.target_policy}

    def _setup_model(self) -> None:
        super()._setup_model()
        pi = self.policy.target.numpy()
        b = self.behavior_policy
        self._behavior = None if b is None else given_policy(b, self.policy.x, int(self.action_space.n), "behavior_policy")
        if self._behavior is not None and self._behavior.shape == pi.shape and np.any((pi > 0) & (self._behavior <= 0)):
            if pi.ndim == 1 or hasattr(self.policy.x, "states"):
                where = np.argwhere((pi > 0) & (self._behavior <= 0))[0].tolist()
                raise ValueError(f"behavior_policy never takes an action that target_policy takes: {where} (state, action)")
        self._rho = np.ones(self.n_envs)  # [n], π(a|s) / b(a|s) of the present actions

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_behavior", "_rho"]

    def values(self, observation: Any) -> np.ndarray:
        """v(s) of observations [n, …] or of one, float64 [n]."""
        return self.policy.values(observation)[:, 0]

    def _act(self, observation: np.ndarray, x: Active) -> np.ndarray:
        pi = self.policy.probabilities(self.policy.target.numpy(), observation)  # [n, A]
        b = pi if self._behavior is None else self.policy.probabilities(self._behavior, observation)
        u = self._rng.random((len(b), 1))
        action = (b.cumsum(axis=1)[:, :-1] <= u).sum(axis=1)
        if self._behavior is not None:
            n = np.arange(len(b))
            self._rho = pi[n, action] / b[n, action]
        return action
