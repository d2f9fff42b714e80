"""The picture of overestimation: by how much DQN and Double DQN promise more than their greedy policy gets, exactly."""

from typing import TYPE_CHECKING, Any

import gymnasium as gym
import numpy as np
from stable_baselines3.common.env_util import make_vec_env
from tqdm import tqdm

from sb3_lecture.exact.callbacks import ExactEvalCallback
from sb3_lecture.exact.law import law_of
from sb3_lecture.value_based.deep_q_learning import DeepQLearning
from sb3_lecture.zoo.errors import UserError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["overestimation_figure", "q_errors"]

VALUES: dict[str, Any] = {  # the same for both
    "learning_rate": 1e-3, "gamma": 0.9, "buffer_size": 5000, "learning_starts": 200, "batch_size": 32, "train_freq": 2,
    "target_update_interval": 50, "exploration_final_eps": 0.3, "policy_kwargs": {"net_arch": [64]},
}  # fmt: skip
COLOURS = {False: "#D55E00", True: "#0072B2"}


class _Errors(ExactEvalCallback):
    """Keep every ``exact/q_error``."""

    def _evaluate(self, timesteps: int) -> dict[str, Any]:
        arrays = super()._evaluate(timesteps)
        self.__dict__.setdefault("errors", []).append((timesteps, self.last_q_error))
        return arrays


def q_errors(env_id: str, double: bool, seed: int, n_timesteps: int) -> np.ndarray:
    """Train once and return rows of (env steps, ``exact/q_error``), float64 [evaluations, 2].

    :param env_id: an env that states its law
    :param double: Double DQN, or DQN
    :param seed: random seed
    :param n_timesteps: env steps
    """
    callback = _Errors(max(n_timesteps // 40, 1))
    model = DeepQLearning("MlpPolicy", make_vec_env(env_id, 1, seed=seed), double=double, seed=seed, device="cpu", **VALUES)
    model.learn(n_timesteps, callback)
    return np.array(callback.__dict__["errors"], dtype=np.float64)


def overestimation_figure(env_id: str, n_seeds: int, n_timesteps: int) -> tuple["Figure", dict[str, float]]:
    """Draw the exact error of both over env steps, a thin line a seed and their mean.

    :param env_id: an env that states its law
    :param n_seeds: trainings of each, seeds 0 …
    :param n_timesteps: env steps of each
    :return: the figure, and each one's mean error over the second half of training
    :raises UserError: if the env does not state its law
    """
    from matplotlib.figure import Figure

    if law_of(gym.make(env_id)) is None:
        raise UserError(
            f"{env_id} states no law, so what its policies get is not known exactly; take a world of sb3_lecture_envs"
        )
    figure = Figure(figsize=(7.0, 4.2), layout="constrained")
    axes = figure.subplots()
    means, late = {}, []
    for double, name in ((False, "DQN"), (True, "Double DQN")):
        seeds = tqdm(range(n_seeds), desc=name, leave=False)
        runs = np.stack([q_errors(env_id, double, seed, n_timesteps) for seed in seeds])  # [seeds, evaluations, 2]
        for run in runs:
            axes.plot(run[:, 0], run[:, 1], color=COLOURS[double], alpha=0.25, linewidth=0.8)
        mean = runs[:, :, 1].mean(axis=0)
        late.append(runs[:, runs.shape[1] // 5 :, 1])
        axes.plot(runs[0, :, 0], mean, color=COLOURS[double], linewidth=2.0, label=name)
        means[name] = float(mean[len(mean) // 2 :].mean())
    axes.axhline(0.0, color="0.5", linewidth=0.8)
    low, high = min(map(np.min, late)), max(map(np.max, late))  # what comes before any learning is hundreds of times as large
    axes.set_ylim(min(low, 0.0) - 0.05 * (high - low) - 1e-3, high + 0.05 * (high - low) + 1e-3)
    axes.set_xlabel("env steps")
    axes.set_ylabel("mean of Q − q_π over the states met")
    axes.set_title(f"{env_id}, {n_seeds} seeds (thin) and their mean (thick)", fontsize="medium")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure, means
