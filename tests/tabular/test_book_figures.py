"""Figures of Sutton & Barto (2018) that one run of a few seconds can repeat."""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.callbacks import StopTrainingOnMaxEpisodes

import sb3_lecture_envs  # noqa: F401
from sb3_lecture import DoubleQLearning, DynaQ, GradientBandit, MonteCarloPrediction, QLearning, Sarsa, TDPrediction
from sb3_lecture.exact.grade import exact_evaluation
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
            visits = model.policy.tries.numpy()[0]
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


def rms_error(model, truth, first_values, at_episodes, n_runs):
    """Mean RMS error over the states of a walk after each of ``at_episodes``, over runs that begin with ``first_values``."""
    model.set_random_seed(0)
    errors = []
    for _ in range(n_runs):
        model.policy.table.zero_()
        model.v_table[1:-1] = first_values
        done = 0
        for episodes_so_far in at_episodes:
            model.learn(10**9, callback=StopTrainingOnMaxEpisodes(episodes_so_far - done))
            done = episodes_so_far
            errors.append(np.sqrt(np.mean((model.v_table[1:-1] - truth) ** 2)))
    return np.mean(errors)


@pytest.mark.slow
def test_td_0_learns_the_walk_faster_than_constant_alpha_monte_carlo():
    """Example 6.2, right: five states, values begin at 1/2, 100 episodes; every TD curve ends below every MC curve."""
    walk, truth, at = gym.make("Lecture/RandomWalk-v0", n=5, left_reward=0.0), np.arange(1, 6) / 6, (25, 50, 75, 100)

    def curve(cls, alpha, **kwargs):
        return rms_error(cls(env=walk, gamma=1.0, learning_rate=alpha, **kwargs), truth, 0.5, at, 60)

    td = [curve(TDPrediction, alpha) for alpha in (0.05, 0.1, 0.15)]
    mc = [curve(MonteCarloPrediction, alpha, visits="every") for alpha in (0.01, 0.02, 0.03, 0.04)]
    assert max(td) < min(mc) and min(td) < 0.08, (td, mc)


@pytest.mark.parametrize(
    ("name", "alphas"),
    [
        ("n_steps", {1: (0.6, 0.8), 4: (0.3, 0.4, 0.5), 64: (0.05, 0.1)}),  # figure 7.2
        ("lambda_", {0.0: (0.6, 0.8), 0.8: (0.2, 0.3, 0.4), 1.0: (0.01, 0.02)}),  # figure 12.6, left
    ],
)
def test_the_best_prediction_lies_between_one_step_and_monte_carlo(name, alphas):
    """RMS error over 19 states and the first ten episodes, at the best α of each n or λ."""
    walk, truth = gym.make("Lecture/RandomWalk-v0"), np.arange(-9, 10) / 10

    def error(x, alpha):
        return rms_error(TDPrediction(env=walk, gamma=1.0, learning_rate=alpha, **{name: x}), truth, 0.0, range(1, 11), 25)

    best = {x: min(error(x, alpha) for alpha in some) for x, some in alphas.items()}
    least, between, most = best.values()
    assert between < 0.93 * least and between < 0.8 * most, best
    assert 0.2 < between < 0.33


def test_a_baseline_helps_the_gradient_bandit():
    """Figure 2.5: rewards near 4; share of optimal pulls in the last 200 of 1,000, over 100 bandits."""
    share = {}
    for baseline in (True, False):
        for alpha in (0.1, 0.4):
            pulls = []
            for task in range(100):
                env = gym.make("Lecture/Bandit-v0", task=task, mean=4.0)
                best = env.unwrapped.mdp.expected_reward.argmax()
                model = GradientBandit(env=env, baseline=baseline, learning_rate=alpha, seed=task).learn(800)
                before = model.policy.tries.numpy()[0, best]
                model.learn(200, reset_num_timesteps=False)
                pulls.append((model.policy.tries.numpy()[0, best] - before) / 200)
            share[baseline, alpha] = np.mean(pulls)
    assert 0.74 < share[True, 0.1] < 0.9 and 0.58 < share[True, 0.4] < 0.78, share
    assert share[False, 0.1] < share[True, 0.1] - 0.15 and share[False, 0.4] < share[True, 0.4] - 0.2, share
    assert share[False, 0.4] < share[False, 0.1], share


def test_sarsa_with_a_large_step_size_takes_the_safest_way():
    """Example 6.6: at ε = 0.1 and constant α = 0.5 the greedy path keeps to the upper edge (-17), the optimum being -13."""
    paths = []
    for seed in range(10):
        settings = {"learning_rate": 0.5, "gamma": 1.0, "seed": seed, **CONSTANT}
        model = Sarsa("MlpPolicy", "Lecture/CliffWalking-v0", **settings).learn(100_000)
        paths.append(exact_evaluation(model).value)
    assert np.median(paths) == -17, paths
