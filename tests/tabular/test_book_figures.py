"""Figures of Sutton & Barto (2018) that one run of a few seconds can repeat."""

import gymnasium as gym
import numpy as np
import pytest

import sb3_lecture_envs  # noqa: F401
from sb3_lecture import DoubleQLearning, DynaQ, QLearning, Sarsa
from sb3_lecture_envs.mdp import TabularMDP
from sb3_lecture_envs.tabular_env import TabularEnv

CONSTANT = {"exploration_initial_eps": 0.1, "exploration_final_eps": 0.1, "stats_window_size": 100_000}


def episodes(model, key):
    return np.array([episode[key] for episode in model.ep_info_buffer])


def test_sarsa_earns_more_on_the_cliff_than_q_learning_although_it_knows_less():
    """Example 6.6: online, at ε = 0.1 and α = 0.5, SARSA levels off near -25 and Q-learning near -50."""
    online = {}
    for cls in (Sarsa, QLearning):
        runs = [
            cls("MlpPolicy", "Lecture/CliffWalking-v0", learning_rate=0.5, gamma=1.0, seed=seed, **CONSTANT).learn(30_000)
            for seed in range(10)
        ]
        online[cls] = np.mean([episodes(model, "r")[-300:].mean() for model in runs])
    assert -30 < online[Sarsa] < -20
    assert -60 < online[QLearning] < -42


def test_double_q_learning_is_not_lured_by_noise():
    """Example 6.7: from A, going left leads to rewards of mean -0.1 and spread 1; Q-learning goes there too often."""
    n = 10
    ends = {a: [(1.0, 2, 0.0, True)] for a in range(n)}
    noisy = {a: [(0.5, 2, -1.1, True), (0.5, 2, 0.9, True)] for a in range(n)}
    start = {a: [(1.0, 2, 0.0, True)] if a < n // 2 else [(1.0, 1, 0.0, False)] for a in range(n)}
    mdp = TabularMDP.from_P({0: start, 1: noisy, 2: ends})
    left = {}
    for cls in (QLearning, DoubleQLearning):
        shares = []
        for seed in range(60):
            model = cls("MlpPolicy", TabularEnv(mdp), learning_rate=0.1, gamma=1.0, seed=seed, **CONSTANT).learn(400)
            visits = model.policy.visits.numpy()[0]
            shares.append(visits[n // 2 :].sum() / visits.sum())
        left[cls] = np.mean(shares)
    assert left[QLearning] > left[DoubleQLearning] + 0.1


DYNA_MAZE = [".......#G", "..#....#.", "S.#....#.", "..#......", ".....#...", "........."]  # section 8.2


@pytest.mark.parametrize(("n_planning_steps", "low", "high"), [(0, 12, 40), (5, 3, 9), (50, 1.5, 5)])
def test_planning_saves_episodes_in_the_dyna_maze(n_planning_steps, low, high):
    """Figure 8.2: about 25, 5 and 3 episodes until the way (14 steps) is found, at α = 0.1, γ = 0.95, ε = 0.1."""
    needed = []
    for seed in range(20):
        env = gym.make("Lecture/GridWorld-v0", map=DYNA_MAZE, max_episode_steps=5000)
        settings = {"learning_rate": 0.1, "gamma": 0.95, "n_planning_steps": n_planning_steps, **CONSTANT}
        lengths = episodes(DynaQ("MlpPolicy", env, seed=seed, **settings).learn(12_000), "l")
        needed.append(np.argmax(lengths <= 18))  # 14 steps and what ε costs
    assert low <= np.mean(needed) <= high
