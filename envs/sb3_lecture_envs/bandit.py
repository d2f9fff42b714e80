"""Bandit: the k-armed testbed, one state and k actions of unknown worth."""

from functools import partial
from statistics import NormalDist

import numpy as np

from sb3_lecture_envs.checks import finite, size_of_law, whole
from sb3_lecture_envs.mdp import TabularMDP
from sb3_lecture_envs.tabular_env import TabularEnv, TabularVectorEnv


def normal_points(n: int) -> np.ndarray:
    """N equally likely values with the mean 0 and variance 1 of a standard normal variable, float64 [n]."""
    points = np.array([NormalDist().inv_cdf((i + 0.5) / n) for i in range(n)])
    return points / np.sqrt(np.mean(points**2))


def law(k: int = 10, task: int = 0, mean: float = 0.0, n_points: int = 51) -> tuple[TabularMDP, None]:
    """The law of one bandit task."""
    k, n_points = whole("k", k, 2), whole("n_points", n_points, 2)
    size_of_law(k * n_points, f"k={k} arms of n_points={n_points} rewards")
    task, mean = whole("task", task, 0), finite("mean", mean)
    worth = np.random.default_rng(task).normal(mean, 1.0, size=k)  # q*(a)
    reward = (worth[:, None] + normal_points(n_points)).ravel()  # [k * n_points]
    n = reward.shape[0]
    return TabularMDP(
        1, k, np.arange(0, n + 1, n_points), np.zeros(n, np.int32), np.full(n, 1.0 / n_points), reward,
        np.ones(n, np.bool_), [0], [1.0],
    ), None  # fmt: skip


class BanditEnv(TabularEnv):
    """The k-armed testbed (Sutton & Barto 2018, section 2.3).

    ## Description
    One state and k levers. Lever a pays q*(a) plus noise of variance 1; the q*(a) are drawn once for each `task` from a
    normal distribution of variance 1. So that the law is finite and the value of every policy exact, the normal noise is
    represented by `n_points` equally likely values with the same mean and variance.

    ## Action Space
    `Discrete(k)`: the levers.

    ## Observation Space
    `Discrete(1)`.

    ## Rewards
    q*(a) + noise.

    ## Starting State
    The only one.

    ## Episode End
    Terminated after every pull.

    ## Arguments
    - `k`: number of levers. Default 10.
    - `task`: seed of the q*(a). Default 0.
    - `mean`: mean of the q*(a); 4 in the book's figure on the gradient bandit's baseline. Default 0.
    - `n_points`: number of values the noise can take. Default 51.
    - `obs`, `render_mode`: as in `Lecture/GridWorld-v0`.

    ## Version History
    - v0: first version.

    :raises ValueError: if ``k`` or ``n_points`` is less than 2, or another argument is not one of those
    """

    def __init__(
        self,
        k: int = 10,
        task: int = 0,
        mean: float = 0.0,
        n_points: int = 51,
        obs: str = "index",
        render_mode: str | None = None,
    ) -> None:
        super().__init__(*law(k, task, mean, n_points), obs=obs, render_mode=render_mode)


make_vector = partial(TabularVectorEnv.from_law, law)
