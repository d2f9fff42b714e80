"""The exact side of a run: where the env's law is known, the policy is graded by solving its Bellman equation.

The mathematics is in ``sb3_lecture.exact``: ``ExactGrader``, ``ExactEvalCallback`` and the solvers. They load, with numba,
only once an env with a law turns up.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, unwrap_vec_normalize

from sb3_lecture.zoo import plotting
from sb3_lecture.zoo.runs import BOARD_FILE, EXACT_FILE

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sb3_lecture.exact.exploitability import ExactStrength
    from sb3_lecture.exact.grade import ExactPrediction, ExactResult
    from sb3_lecture_envs.grid import GridLayout


def has_law(env: VecEnv) -> bool:
    """Whether the env states its law, as a TabularMDP or as Gymnasium's ``P``."""
    return env.has_attr("mdp") or (env.has_attr("P") and isinstance(env.get_attr("P", 0)[0], dict))


@dataclass(frozen=True)
class Grade:
    """A policy beside the optimum.

    :param exact: its exact value and regret
    :param layout: where the states lie; None: the world is no grid
    :param estimate: the model's own values of the states, float [S]; None: it has none, or they are scaled
    :param optimum: value of each state under an optimal policy, float [S]
    :param no_choice: states in which nothing is decided (ends, cells that nobody can stand on), bool [S]
    """

    exact: "ExactResult"
    layout: "GridLayout | None"
    estimate: np.ndarray | None
    optimum: np.ndarray
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
        panels = {"Exact value of the greedy policy": self.exact.values}
        if self.estimate is not None:
            panels["The model's own estimate"] = self.estimate
        zeros = np.zeros_like(self.optimum)  # also of ∞ − ∞
        return plotting.value_map(
            self.layout, panels, self.optimum, self.exact.actions, self.exact.is_optimal, self.no_choice, title,
            regret=np.subtract(self.optimum, self.exact.values, out=zeros, where=self.optimum != self.exact.values),
        )  # fmt: skip


@dataclass(frozen=True)
class PredictionGrade:
    """Predicted values beside the exact ones.

    :param exact: the values and their error
    :param layout: where the states lie; None: the world is no grid
    :param no_choice: states in which nothing is decided, bool [S]
    """

    exact: "ExactPrediction"
    layout: "GridLayout | None"
    no_choice: np.ndarray

    def summary(self) -> str:
        """Say how good the values are, in one line."""
        exact = self.exact
        return (
            f"Values of the given policy: RMS error {exact.rms_error:.4g} against the exact ones, largest error "
            f"{exact.largest_error:.4g}"
        )

    def value_map(self, title: str) -> "Figure":
        """Draw the exact values, the model's beside them, and their difference.

        :param title: the picture's title
        """
        assert self.layout is not None, "only a grid has a map"
        exact = self.exact
        panels = {"Exact value of the given policy": exact.values, "The model's values": exact.estimates}
        error = np.abs(exact.estimates - exact.values)
        return plotting.value_map(self.layout, panels, exact.values, None, None, self.no_choice, title, error=error)


@dataclass(frozen=True)
class StrategyGrade:
    """A policy of a game with hidden information beside a perfect opponent.

    :param exact: its exploitability and value
    :param struck: whether it plays illegal moves, which were struck out
    """

    exact: "ExactStrength"
    struck: bool

    def summary(self) -> str:
        """Say how good the policy is, in one line."""
        struck = "; illegal moves struck out" if self.struck else ""
        return f"Exploitability: {self.exact.exploitability:.4f} (NashConv / 2{struck})"


def hides_information(env: VecEnv) -> bool:
    """Whether the env is a game of hidden information."""
    if not env.has_attr("rules"):
        return False
    from sb3_lecture_envs.cards.game import HiddenGame

    return isinstance(env.get_attr("rules", [0])[0], HiddenGame)


def _grade_strategy(model: BaseAlgorithm, env: VecEnv) -> StrategyGrade | str | None:
    from sb3_lecture.exact.exploitability import exact_strength
    from sb3_lecture.exact.exploitability_callback import rules_of
    from sb3_lecture.exact.exploitability_tree import GameTree

    if (rules := rules_of(env)) is None:
        return None
    try:
        tree = GameTree(rules)
        try:
            return StrategyGrade(exact_strength(tree, model), struck=False)
        except ValueError:
            return StrategyGrade(exact_strength(tree, model, illegal="strike"), struck=True)
    except ValueError as refusal:  # a game too large, a policy that shows nothing
        return str(refusal)


def grade(model: BaseAlgorithm, env: VecEnv) -> Grade | PredictionGrade | StrategyGrade | str | None:
    """Grade a model's greedy policy, or a prediction method's values.

    :param model: the model
    :param env: one env, wrapped as in training
    :return: the grade; why there is none; or None where the env's law is not known
    """
    if hides_information(env):
        return _grade_strategy(model, env)
    if not has_law(env):
        return None
    from sb3_lecture.exact.grade import ExactGrader, predicts_values

    layout = env.get_attr("layout")[0] if env.has_attr("layout") else None
    try:
        grader = ExactGrader(env, _gamma(model))
        if predicts_values(model):
            return PredictionGrade(grader.grade_prediction(model), layout, _no_choice(grader.mdp, layout))
        exact = grader.grade(model)
    except ValueError as refusal:  # stacked frames, recurrent policies, an env that is not what its P says
        return str(refusal)
    normalizer = unwrap_vec_normalize(env)
    return Grade(
        exact=exact,
        layout=layout,
        estimate=None if normalizer is not None and normalizer.norm_reward else own_values(model, grader.observations()),
        optimum=grader.optimum.v,
        no_choice=_no_choice(grader.mdp, layout),
    )


def offline_summary(model: BaseAlgorithm, env: VecEnv) -> str | None:
    """Say what the data that a model learned from allow, and what it lacks to that; None where it has none or no law is known.

    :param model: the model
    :param env: one env, wrapped as in training
    """
    data = getattr(model, "dataset", None)
    if data is None or not has_law(env):
        return None
    from sb3_lecture.exact.grade import ExactGrader
    from sb3_lecture.exact.in_support import offline_grade

    try:
        return offline_grade(ExactGrader(env, _gamma(model)), model, data.observations, data.actions).summary()
    except ValueError as refusal:
        return f"No in-support optimum: {refusal}"


def offline_score(model: BaseAlgorithm, env: VecEnv, n_episodes: int = 20) -> str | None:
    """Say what a model that learned from data scores between random actions (0) and an expert (100); None if not known.

    :param model: the model
    :param env: one env, wrapped as in training
    :param n_episodes: how many are played
    """
    data = getattr(model, "dataset", None)
    if getattr(data, "reference", None) is None:
        return None
    from stable_baselines3.common.evaluation import evaluate_policy

    returns = evaluate_policy(model, env, n_episodes, return_episode_rewards=True)[0]
    mean = float(np.mean(returns))  # type: ignore[arg-type]
    low, high = data.reference  # type: ignore[union-attr]
    return (
        f"Normalised score: {data.score(mean):.1f} (return {mean:.2f} over {n_episodes} episodes, random {low:.2f}, "  # type: ignore[union-attr]
        f"expert {high:.2f})"
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


def _no_choice(mdp: Any, layout: "GridLayout | None") -> np.ndarray:
    """Ends: states that every action leads back to, as the end of the episode. Cliffs: cells that nobody stands on."""
    rows = mdp.row_ptr[:-1].reshape(mdp.n_states, mdp.n_actions)
    certain = np.diff(mdp.row_ptr).reshape(rows.shape) == 1
    ends = (certain & mdp.terminated[rows] & (mdp.next_state[rows] == np.arange(mdp.n_states)[:, None])).all(axis=1)
    if layout is None:
        return ends
    return ends | ((layout.state_symbols == "C") & ~mdp.reachable)


def exact_callback(model: BaseAlgorithm, env: VecEnv, folder: str | Path, freq: int) -> list[BaseCallback]:
    """Return the callback that writes the policy's exact value during training to ``exact.npz``.

    :param model: the model
    :param env: its env
    :param folder: the run's folder
    :param freq: env steps between two evaluations
    :return: the callback; none where the env's law is not known, or the policy cannot be graded (and then says why)
    """
    if hasattr(model, "exact_progress"):
        from sb3_lecture.zoo import text_report

        return text_report.callback(model, folder, freq)
    if hides_information(env):
        return _strategy_callback(model, env, Path(folder), freq)
    if not has_law(env):
        return []
    from sb3_lecture.exact import ExactEvalCallback, ExactGrader
    from sb3_lecture.exact.grade import predicts_values

    try:
        grader = ExactGrader(env, _gamma(model))
        grader.grade_prediction(model) if predicts_values(model) else grader.grade(model)
    except ValueError as refusal:
        print(f"No exact evaluation: {refusal}")
        return []
    return [ExactEvalCallback(eval_freq=freq, log_path=Path(folder) / EXACT_FILE)]


def _strategy_callback(model: BaseAlgorithm, env: VecEnv, folder: Path, freq: int) -> list[BaseCallback]:
    found = _grade_strategy(model, env)
    if not isinstance(found, StrategyGrade):
        print(f"No exact evaluation: {found}")
        return []
    from sb3_lecture.exact.exploitability_callback import ExploitabilityCallback

    illegal = "strike" if found.struck else "error"
    return [ExploitabilityCallback(eval_freq=freq, illegal=illegal, log_path=folder / EXACT_FILE)]


def is_self_play(env: VecEnv) -> bool:
    """Whether two players take part in the env: its returns then say nothing of how well they play."""
    game = env.has_attr("game") or hides_information(env)
    return game and env.has_attr("opponent") and env.get_attr("opponent", [0])[0] is None


def board_callback(env: VecEnv, folder: str | Path, freq: int) -> list[BaseCallback]:
    """Return the callback that plays matches during training and writes their results to ``board.npz``.

    :param env: the model's env
    :param folder: the run's folder
    :param freq: env steps between two evaluations
    :return: the callback; none where the env is not a board game played against oneself
    """
    if not is_self_play(env) or hides_information(env):
        return []
    from sb3_lecture.exact.board_grading import BoardEvalCallback
    from sb3_lecture_envs.board.solve import TableGrader

    try:
        solved = isinstance(env.get_attr("game", [0])[0].grader(), TableGrader)  # a search per move would take minutes
    except ValueError:  # no exact solver
        solved = False
    opponents = ("random", "perfect") if solved else ("random",)
    return [BoardEvalCallback(eval_freq=freq, opponents=opponents, log_path=Path(folder) / BOARD_FILE)]


def _gamma(model: BaseAlgorithm) -> float:
    return float(getattr(model, "gamma", 1.0))
