"""The exact side of a run: where the env's law is known, the policy is graded by solving its Bellman equation.

The mathematics is in ``sb3_lecture.common``: ``exact_evaluation``, ``ExactEvalCallback`` and the solvers. They load, with
numba, only once an env with a law turns up.
"""

import csv
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from sb3_lecture.zoo import plotting
from sb3_lecture.zoo.runs import EXACT_COLUMNS, EXACT_FILE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sb3_lecture.common.callbacks import ExactResult
    from sb3_lecture_envs.grid import GridLayout


def has_law(env: VecEnv) -> bool:
    """Whether the env's law is known, as a TabularMDP."""
    return env.has_attr("mdp")


@dataclass(frozen=True)
class Grade:
    """A policy beside the optimum.

    :param exact: its exact value and regret
    :param layout: where the states lie; None: the world is no grid
    :param values: exact value of the greedy policy in each state, float [S]
    :param estimate: the model's own values of the states, float [S]; None: it has none, or they are scaled
    :param actions: greedy actions, int [S]
    :param is_optimal: whether they are optimal, bool [S]
    :param no_choice: states in which nothing is decided (ends, cells that nobody can stand on), bool [S]
    """

    exact: "ExactResult"
    layout: "GridLayout | None"
    values: np.ndarray
    estimate: np.ndarray | None
    actions: np.ndarray
    is_optimal: np.ndarray
    no_choice: np.ndarray

    def summary(self) -> str:
        """Say how good the policy is, in one line."""
        exact = self.exact
        return (
            f"Exact value of the greedy policy: {exact.value:.6g}, optimal: {exact.optimal_value:.6g}, "
            f"regret: {exact.regret:.3g}, optimal actions: {100 * exact.optimal_action_share:.0f} %"
        )

    def value_map(self, title: str) -> "Figure":
        """Draw the policy's exact values, the model's own beside them, and the policy's arrows.

        :param title: the picture's title
        """
        assert self.layout is not None, "only a grid has a map"
        panels = {"Exact value of the greedy policy": self.values}
        if self.estimate is not None:
            panels["The model's own estimate"] = self.estimate
        return plotting.value_map(self.layout, panels, self.actions, self.is_optimal, self.no_choice, title)


def grade(model: BaseAlgorithm, env: VecEnv) -> Grade | str | None:
    """Grade a model's greedy policy.

    :param model: the model
    :param env: one env, wrapped as in training
    :return: the grade; why there is none; or None where the env's law is not known
    """
    if not has_law(env):
        return None
    from sb3_lecture.common.callbacks import exact_evaluation
    from sb3_lecture.common.mdp_solvers import modified_policy_iteration, optimal_actions, policy_evaluation

    try:
        exact = exact_evaluation(model, env)
    except ValueError as refusal:  # stacked frames, recurrent policies
        return str(refusal)
    mdp, layout = env.get_attr("mdp")[0], env.get_attr("layout")[0] if env.has_attr("layout") else None
    observations = env.env_method("observe", np.arange(mdp.n_states), indices=[0])[0]
    normalizer = unwrap_vec_normalize(env)
    if normalizer is not None:
        observations = normalizer.normalize_obs(observations)
    extra = {} if not _is_masked(model) or mdp.action_mask is None else {"action_masks": mdp.action_mask}
    actions = np.asarray(model.predict(observations, deterministic=True, **extra)[0]).reshape(-1).astype(np.int64)
    gamma = float(getattr(model, "gamma", 1.0))
    optimum = modified_policy_iteration(mdp, gamma)
    good = optimal_actions(optimum.q, mdp.action_mask if extra else None, tol=1e-6)
    return Grade(
        exact=exact,
        layout=layout,
        values=policy_evaluation(mdp, actions, gamma),
        estimate=None if normalizer is not None and normalizer.norm_reward else own_values(model, observations),
        actions=actions,
        is_optimal=good[np.arange(mdp.n_states), actions],
        no_choice=_no_choice(mdp, layout),
    )


def own_values(model: BaseAlgorithm, observations: np.ndarray) -> np.ndarray | None:
    """Return what a model itself holds its states to be worth: max Q, or its critic's value.

    :param model: the model
    :param observations: observations [S, …], as the model sees them
    :return: float [S]; None if the model keeps no such thing in a form known here
    """
    table = getattr(model, "q_table", None)
    if isinstance(table, np.ndarray) and table.ndim == 2 and len(table) == len(observations):
        return table.max(axis=1)
    policy: Any = model.policy
    q_net, quantile_net = getattr(model, "q_net", None), getattr(model, "quantile_net", None)
    tensor = policy.obs_to_tensor(observations)[0]
    with th.no_grad():
        if isinstance(q_net, th.nn.Module):
            return q_net(tensor).max(dim=1).values.cpu().numpy()  # [S, A] → [S]
        if isinstance(quantile_net, th.nn.Module):
            return quantile_net(tensor).mean(dim=1).max(dim=1).values.cpu().numpy()  # [S, quantiles, A] → [S]
        if hasattr(policy, "predict_values"):
            return policy.predict_values(tensor).flatten().cpu().numpy()
    return None


def _is_masked(model: BaseAlgorithm) -> bool:
    from sb3_contrib import MaskablePPO

    return isinstance(model, MaskablePPO)


def _no_choice(mdp: Any, layout: "GridLayout | None") -> np.ndarray:
    """Ends: states that every action leads back to, as the end of the episode. Cliffs: cells that nobody stands on."""
    rows = mdp.row_ptr[:-1].reshape(mdp.n_states, mdp.n_actions)
    certain = np.diff(mdp.row_ptr).reshape(rows.shape) == 1
    ends = (certain & mdp.terminated[rows] & (mdp.next_state[rows] == np.arange(mdp.n_states)[:, None])).all(axis=1)
    if layout is None:
        return ends
    return ends | ((layout.state_symbols == "C") & ~mdp.reachable)


class ExactCurve(BaseCallback):
    """Write the exact value of the policy during training to ``exact.csv``, and log it as ``ExactEvalCallback`` does.

    :param folder: the run's folder
    :param freq: env steps between two evaluations
    """

    def __init__(self, folder: str | Path, freq: int) -> None:
        super().__init__()
        self.path = Path(folder) / EXACT_FILE
        self.freq = freq
        self._next = 0  # env steps at which the next evaluation is due

    @classmethod
    def if_possible(cls, model: BaseAlgorithm, env: VecEnv, folder: str | Path, freq: int) -> "ExactCurve | None":
        """Return the callback, or None where the policy cannot be graded (frame stacks, recurrent policies)."""
        from sb3_lecture.common.callbacks import exact_evaluation

        try:
            exact_evaluation(model, env)
        except ValueError as refusal:
            print(f"No exact evaluation during training: {refusal}")
            return None
        return cls(folder, freq)

    def steps_until_call(self) -> int:
        """VecEnv steps until this callback has something to do (the tabular learners' compiled loop asks)."""
        return max(1, -(-(self._next - self.num_timesteps) // self.training_env.num_envs))

    def _on_training_start(self) -> None:
        with open(self.path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(EXACT_COLUMNS)
        self._next = self.num_timesteps
        self._on_step()

    def _on_step(self) -> bool:
        if self.num_timesteps >= self._next:
            self._next = self.num_timesteps + self.freq
            self._evaluate()
        return True

    def _on_training_end(self) -> None:
        self._evaluate()

    def _evaluate(self) -> None:
        from sb3_lecture.common.callbacks import exact_evaluation

        exact = exact_evaluation(self.model, self.training_env)
        row = (self.num_timesteps, exact.value, exact.optimal_value, exact.regret, exact.optimal_action_share)
        for name, value in zip(EXACT_COLUMNS[1:], row[1:], strict=True):
            self.logger.record(f"exact/{name}", value)
        with open(self.path, "a", newline="", encoding="utf-8") as file:
            csv.writer(file).writerow(row)
