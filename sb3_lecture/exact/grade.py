"""Exact grading: what a policy is worth where the env's law is known, by solving its Bellman equation over all states.

The observations of all states go through the model at once, which gives π(a | s) for every s; then
v_π = r_π + γ P_π v_π (Sutton & Barto 2018, eq. 4.4) is solved, and v_π from the start distribution is held against v*. No
episode is played: the figure has no sampling error, and time limits do not enter.

A prediction method follows a given policy, so its policy says nothing about it: its *values* are held against v_π instead.
It is a model whose class says ``predicts_values = True`` and that has two methods: ``state_values(observations [n, …])`` →
[n], what it holds states to be worth, and ``action_probabilities(observations [n, …])`` → [n, A], whose values these are.
"""

import inspect
from functools import cached_property
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import wrappers as gym_wrappers
from gymnasium.wrappers.common import OrderEnforcing, PassiveEnvChecker
from sb3_contrib.common.wrappers import ActionMasker
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    SubprocVecEnv,
    VecCheckNan,
    VecEnv,
    VecEnvWrapper,
    VecExtractDictObs,
    VecMonitor,
    VecNormalize,
    VecTransposeImage,
    VecVideoRecorder,
)

from sb3_lecture.common.wrappers import TimeLimit
from sb3_lecture.exact.chain import policy_evaluation
from sb3_lecture.exact.law import law_of
from sb3_lecture.exact.solver import Solution, exact_optimum, optimal_actions, start_value

#: states that go through the network at once
BATCH = 4096
#: how much worse than the best an action may be and still count as optimal, relative to the largest |q*|
OPTIMAL_TOLERANCE = 1e-7
#: wrappers that leave observations and actions as they are (rl_zoo3 puts a subclass in place of gym.wrappers.TimeLimit)
PASSIVE_WRAPPERS = (
    TimeLimit, OrderEnforcing, PassiveEnvChecker, Monitor, gym_wrappers.RecordEpisodeStatistics,
    gym_wrappers.RecordVideo, gym_wrappers.HumanRendering, gym_wrappers.RenderCollection, gym_wrappers.NormalizeReward,
    gym.RewardWrapper, ActionMasker,
)  # fmt: skip
#: observation wrappers that show more than the state, though they show the same when asked twice
STATEFUL_WRAPPERS = (gym_wrappers.TimeAwareObservation, gym_wrappers.DelayObservation)
PASSIVE_VEC_WRAPPERS = (VecMonitor, VecCheckNan, VecVideoRecorder)


class ExactResult(NamedTuple):
    """The exact grade of a policy.

    :param value: expected discounted return from the start distribution
    :param optimal_value: the same of an optimal policy
    :param regret: ``optimal_value - value``, 0 for an optimal policy
    :param optimal_action_share: share of the states that can be met in which the greedy action is optimal
    :param values: value of each state under the policy, float64 [S]
    :param actions: greedy action of each state, int64 [S]
    :param is_optimal: whether that action is an optimal one, within ``OPTIMAL_TOLERANCE``, bool [S]
    """

    value: float
    optimal_value: float
    regret: float
    optimal_action_share: float
    values: np.ndarray
    actions: np.ndarray
    is_optimal: np.ndarray


class ExactPrediction(NamedTuple):
    """The exact grade of predicted values.

    :param rms_error: root of the mean squared error over the states that can be met, each counted once
    :param largest_error: largest absolute error among them
    :param values: v_π of the policy that is predicted, float64 [S]
    :param estimates: the model's values, float64 [S]
    """

    rms_error: float
    largest_error: float
    values: np.ndarray
    estimates: np.ndarray


class ExactGrader:
    """Grades models on one env: reads its law and the observations of all states once, solves its optimum at most once.

    :param env: the env as the model sees it: a VecEnv with its wrappers, or a Gymnasium env
    :param gamma: discount of the grade, in [0, 1]
    :raises ValueError: if the env states no law or does not keep to it, a wrapper makes an observation more than a state, or
        hides it, or an observation is not finite
    """

    def __init__(self, env: VecEnv | gym.Env, gamma: float) -> None:
        self.gamma = gamma
        self._vec_wrappers: list[VecEnvWrapper] = []
        if isinstance(env, VecEnv):
            while isinstance(env, VecEnvWrapper):
                self._vec_wrappers.insert(0, env)  # innermost first
                env = env.venv
            self.mdp, chain, observe = _inside(env)
        else:
            self.mdp, chain, observe = law_of(env), _chain(env), getattr(env.unwrapped, "observe", np.asarray)
        if self.mdp is None:
            raise ValueError(
                f"{env} has no TabularMDP, so its values are not known exactly; use a world of sb3_lecture_envs, "
                "TabularEnv(mdp) over any TabularMDP, or an env with Gymnasium's P"
            )
        for wrapper in self._vec_wrappers:
            if not isinstance(wrapper, (VecNormalize, VecTransposeImage, VecExtractDictObs, *PASSIVE_VEC_WRAPPERS)):
                raise ValueError(
                    f"{type(wrapper).__name__} makes an observation depend on more than the state; exact grading needs "
                    "observations of single states (no frame stacks)"
                )
        self._observations = _wrapped(chain, observe(np.arange(self.mdp.n_states)))
        _refuse_infinite(self._observations)

    @cached_property
    def optimum(self) -> Solution:
        """The optimum, with the values of its own policy: regret 0 is 0."""
        return exact_optimum(self.mdp, self.gamma)

    def observations(self) -> Any:
        """Observations of all states as the model sees them now (VecNormalize's statistics move), [S, …]."""
        batch = self._observations
        for wrapper in self._vec_wrappers:
            if isinstance(wrapper, VecNormalize):
                batch = wrapper.normalize_obs(batch)
            elif isinstance(wrapper, VecTransposeImage):
                batch = wrapper.transpose_observations(batch)
            elif isinstance(wrapper, VecExtractDictObs):
                batch = batch[wrapper.key]
        return batch

    def states_of(self, observations: np.ndarray) -> np.ndarray:
        """Return the numbers of the states that observations [N, …] show, int64 [N].

        :param observations: as the env gives them
        :raises ValueError: if two states look alike, or an observation is none of the world's
        """
        shown = np.ascontiguousarray(self._observations)
        number = {row.tobytes(): s for s, row in enumerate(shown)}
        if len(number) < len(shown):
            raise ValueError("Several states give the same observation: it does not say in which state the world is")
        rows = np.ascontiguousarray(observations, shown.dtype)
        found = np.array([number.get(row.tobytes(), -1) for row in rows])
        if (found < 0).any():
            row = int(np.argmax(found < 0))
            raise ValueError(f"observation {row}, {np.asarray(observations[row]).tolist()}, is of none of the world's states")
        return found

    def grade(self, model: BaseAlgorithm, deterministic: bool = True) -> ExactResult:
        """Grade a model's policy.

        :param model: any SB3 model with a Discrete action space
        :param deterministic: whether the greedy policy is graded, or the distribution the model acts by
        :raises ValueError: if the policy is recurrent, or its distribution is not known
        """
        mdp, observations = self.mdp, self.observations()
        takes_masks = "action_masks" in inspect.signature(model.predict).parameters
        masks = (
            mdp.action_mask.copy() if takes_masks and mdp.action_mask is not None else None
        )  # [S, A]; torch wants it writable
        greedy = np.empty(mdp.n_states, dtype=np.int64)
        for part in _batches(mdp.n_states):
            extra = {} if masks is None else {"action_masks": masks[part]}
            actions, state = model.predict(_rows(observations, part), deterministic=True, **extra)
            if state is not None:
                raise ValueError(
                    f"{type(model).__name__} has a recurrent policy: it acts on the past, not on the state alone, "
                    "so its Bellman equation over states does not exist"
                )
            greedy[part] = np.asarray(actions).reshape(-1)
        policy = greedy if deterministic else _probabilities(model, observations, greedy, masks, mdp.n_actions)
        values = policy_evaluation(mdp, policy, self.gamma)
        value, optimal_value = start_value(mdp, values), start_value(mdp, self.optimum.v)
        finite = self.optimum.q[np.isfinite(self.optimum.q)]
        tolerance = OPTIMAL_TOLERANCE * max(1.0, float(np.abs(finite).max(initial=0.0)))
        good = optimal_actions(self.optimum.q, masks, tol=tolerance)[np.arange(mdp.n_states), greedy]  # [S]
        share = float(good[mdp.reachable].mean())
        return ExactResult(value, optimal_value, optimal_value - value, share, values, greedy, good)

    def q_error(self, model: Any, result: ExactResult) -> float:
        """Return the mean of Q(s, a) − q_π(s, a) over the states that the greedy policy π meets, at its own actions.

        Above 0 the model overestimates what its policy is worth (van Hasselt et al. 2016, §3).

        :param model: a model with a ``q_net`` that gives action values, such as SB3's DQN
        :param result: its grade
        """
        mdp, observations = self.mdp, self.observations()
        seen = mdp.start > 0
        frontier = np.flatnonzero(seen)
        while frontier.size:  # one step of π from the states met last
            rows = frontier * mdp.n_actions + result.actions[frontier]
            entries = np.concatenate([np.arange(mdp.row_ptr[row], mdp.row_ptr[row + 1]) for row in rows])
            met = mdp.next_state[entries[(mdp.prob[entries] > 0) & ~mdp.terminated[entries]]]
            frontier = np.unique(met[~seen[met]])
            seen[frontier] = True
        errors = []
        with th.no_grad():
            for part in _batches(mdp.n_states):
                batch, _ = model.policy.obs_to_tensor(_rows(observations, part))
                q = model.q_net(batch).cpu().numpy()  # [batch, A]
                errors.append(q[np.arange(len(q)), result.actions[part]] - result.values[part])
        return float(np.concatenate(errors)[seen].mean())

    def grade_prediction(self, model: Any) -> ExactPrediction:
        """Grade the values of a prediction method.

        :param model: a model that predicts values, see this file's head
        :raises ValueError: if one of its values, or a value of its policy, is not finite
        """
        observations, n = self.observations(), self.mdp.n_states
        estimates = np.concatenate(
            [np.asarray(model.state_values(_rows(observations, part)), np.float64).reshape(-1) for part in _batches(n)]
        )
        values = policy_evaluation(self.mdp, _probabilities(model, observations, None, None, self.mdp.n_actions), self.gamma)
        met = self.mdp.reachable
        for name, figures in (("The model's value", estimates), ("The exact value", values)):
            wrong = np.flatnonzero(met & ~np.isfinite(figures))
            if wrong.size:
                raise ValueError(f"{name} of state {wrong[0]} is {figures[wrong[0]]}: there is no error to measure")
        errors = (estimates - values)[met]
        return ExactPrediction(float(np.sqrt(np.mean(errors**2))), float(np.abs(errors).max()), values, estimates)


def predicts_values(model: Any) -> bool:
    """Whether a model predicts the values of a given policy, so that its values are graded, not its policy."""
    return bool(getattr(model, "predicts_values", False))


def exact_prediction(model: Any, env: VecEnv | gym.Env | None = None, gamma: float | None = None) -> ExactPrediction:
    """Hold a prediction method's values against the exact ones.

    :param model: a model that predicts values
    :param env: an env that states its law; None: the model's
    :param gamma: discount; None: the model's
    :raises ValueError: see ``ExactGrader``, or if the model predicts no values
    """
    if not predicts_values(model):
        raise ValueError(f"{type(model).__name__} predicts no values; exact_evaluation grades its policy")
    return ExactGrader(_env_of(model, env), gamma_of(model, gamma)).grade_prediction(model)


def exact_evaluation(
    model: BaseAlgorithm, env: VecEnv | gym.Env | None = None, gamma: float | None = None, deterministic: bool = True
) -> ExactResult:
    """Grade a model's policy exactly.

    :param model: any SB3 model
    :param env: an env that states its law; None: the model's
    :param gamma: discount; None: the model's (1 if it has none)
    :param deterministic: whether the greedy policy is graded (default), or the distribution the model acts by
    :raises ValueError: see ``ExactGrader``
    """
    return ExactGrader(_env_of(model, env), gamma_of(model, gamma)).grade(model, deterministic)


def _env_of(model: BaseAlgorithm, env: VecEnv | gym.Env | None) -> VecEnv | gym.Env:
    env = model.get_env() if env is None else env
    if env is None:
        raise ValueError("The model has no env; pass env= to grade it on")
    return env


def gamma_of(model: BaseAlgorithm, gamma: float | None) -> float:
    """The discount to grade with: the given one, else the model's, else 1."""
    return float(getattr(model, "gamma", 1.0) if gamma is None else gamma)


def _inside(env: VecEnv) -> tuple[Any, list[gym.Wrapper], Any]:
    """The law, the Gymnasium wrappers (innermost first) and the ``observe`` of the first env of a VecEnv."""
    mdp = law_of(env)
    if mdp is None:
        return None, [], None
    chain: list[gym.Wrapper] = []
    if isinstance(env, DummyVecEnv):
        chain = _chain(env.envs[0])
    elif isinstance(env, SubprocVecEnv):
        # the outermost wrapper (SB3's Monitor) cannot be asked for, what lies inside it can
        chain = _chain(env.get_attr("env", indices=[0])[0]) if env.has_attr("env") else []
        seen = any(isinstance(wrapper, gym.ObservationWrapper) for wrapper in chain)
        if env.env_is_wrapped(gym.ObservationWrapper, indices=[0])[0] and not seen:
            raise ValueError(
                "An observation wrapper is the outermost one in a subprocess, out of sight; put Monitor around it"
            )
    if not env.has_attr("observe"):  # Gymnasium's own tables observe the state's number
        return mdp, chain, np.asarray
    return mdp, chain, lambda states: env.env_method("observe", states, indices=[0])[0]


def _chain(env: gym.Env) -> list[gym.Wrapper]:
    chain: list[gym.Wrapper] = []
    while isinstance(env, gym.Wrapper):
        chain.insert(0, env)
        env = env.env
    return chain


def _wrapped(chain: list[gym.Wrapper], observations: np.ndarray) -> Any:
    """Send the observations of all states through the wrappers of one env, innermost first."""
    rows: list[Any] | None = None
    for wrapper in chain:
        if isinstance(wrapper, gym.ObservationWrapper) and not isinstance(wrapper, STATEFUL_WRAPPERS):
            rows = list(observations) if rows is None else rows
            once, twice = ([wrapper.observation(row) for row in rows] for _ in range(2))
            if not all(_equal(a, b) for a, b in zip(once, twice, strict=True)):
                raise ValueError(
                    f"{type(wrapper).__name__} gives one state two observations: it keeps a memory, so there is no "
                    "observation of a state to grade (for running statistics use VecNormalize)"
                )
            rows = once
        elif not isinstance(wrapper, PASSIVE_WRAPPERS):
            raise ValueError(
                f"{type(wrapper).__name__} may change actions or stack observations; exact grading allows observation and "
                "reward wrappers and those that only watch"
            )
    if rows is None:
        return observations
    if isinstance(rows[0], dict):
        return {key: np.stack([row[key] for row in rows]) for key in rows[0]}
    return np.stack(rows)


def _refuse_infinite(observations: Any) -> None:
    for batch in observations.values() if isinstance(observations, dict) else (observations,):
        if np.issubdtype(batch.dtype, np.floating) and not np.isfinite(batch).all():
            state = int(np.argwhere(~np.isfinite(batch))[0][0])
            raise ValueError(f"The observation of state {state} is not finite: {batch[state]}")


def _equal(a: Any, b: Any) -> bool:
    if isinstance(a, dict):
        return all(_equal(a[key], b[key]) for key in a)
    return np.array_equal(a, b, equal_nan=np.issubdtype(np.asarray(a).dtype, np.floating))  # NaN is refused elsewhere


def _batches(n: int) -> list[slice]:
    return [slice(i, i + BATCH) for i in range(0, n, BATCH)]


def _rows(observations: Any, part: slice) -> Any:
    if isinstance(observations, dict):
        return {key: value[part] for key, value in observations.items()}
    return observations[part]


def _probabilities(
    model: Any, observations: Any, greedy: np.ndarray | None, masks: np.ndarray | None, n_actions: int
) -> np.ndarray:
    """π(a | s) of the distribution a model acts by, float64 [S, A]; ``greedy`` [S] for models that flip a coin."""
    n = len(next(iter(observations.values()))) if isinstance(observations, dict) else len(observations)
    if hasattr(model, "action_probabilities"):
        parts = [np.asarray(model.action_probabilities(_rows(observations, part))) for part in _batches(n)]
        return np.concatenate(parts).astype(np.float64)
    if hasattr(model.policy, "get_distribution"):
        parts = []
        with th.no_grad():
            for part in _batches(n):
                batch, _ = model.policy.obs_to_tensor(_rows(observations, part))
                extra = () if masks is None else (masks[part],)
                parts.append(model.policy.get_distribution(batch, *extra).distribution.probs.cpu().numpy())  # [batch, A]
        probabilities = np.concatenate(parts).astype(np.float64)
        return probabilities / probabilities.sum(axis=1, keepdims=True)  # float32 rounding
    if greedy is not None and hasattr(model, "exploration_rate"):  # DQN and its kin: a coin, then any action
        probabilities = np.full((n, n_actions), model.exploration_rate / n_actions)
        probabilities[np.arange(n), greedy] += 1.0 - model.exploration_rate
        return probabilities
    raise ValueError(
        f"The distribution {type(model).__name__} acts by is not known; pass deterministic=True, or give the model a method "
        "action_probabilities(observations [n, …]) → [n, A]"
    )
