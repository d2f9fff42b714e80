"""Prediction: exact values, limiting cases, slow twins, and importance sampling on a world worked by hand."""

import itertools

import gymnasium as gym
import numpy as np
import pytest

import sb3_lecture
from sb3_lecture import MonteCarloPrediction, TDPrediction
from sb3_lecture_envs.mdp import TabularMDP
from sb3_lecture_envs.tabular_env import TabularEnv

WALK = np.arange(-9, 10) / 10  # values of the 19-state walk
EPISODE = [(3, 1, 0.5, 4), (4, 0, -1.0, 3), (3, 1, 0.0, 4), (4, 1, 0.0, 5), (5, 1, 2.0, 6)]  # states 3 and 4 twice


def walk(**kwargs):
    return gym.make("Lecture/RandomWalk-v0", **kwargs)


def feed(model, episode, times=1):
    """Let a model learn from given transitions, the last of them terminal."""
    update, agent = model._rules()[1], model._agent()
    for _ in range(times):
        for t, (s, a, r, s2) in enumerate(episode):
            last = t == len(episode) - 1
            update(agent, 0, s, a, float(r), 0.0 if last else agent.gamma, s2, last)
    return model.v_table.copy()


@pytest.mark.parametrize(
    ("cls", "kwargs"),
    [
        (TDPrediction, {}),
        (TDPrediction, {"n_steps": 4}),
        (TDPrediction, {"lambda_": 0.8}),
        (TDPrediction, {"lambda_": 0.8, "offline": True}),
        (TDPrediction, {"lambda_": 0.8, "traces": "true-online"}),
        (MonteCarloPrediction, {}),
        (MonteCarloPrediction, {"visits": "every"}),
    ],
    ids=lambda x: str(x) if isinstance(x, dict) else x.__name__,
)
def test_prediction_approaches_the_exact_values(cls, kwargs):
    rate = {} if cls is MonteCarloPrediction else {"learning_rate": lambda left: 0.05 * left + 1e-4}
    model = cls(env=walk(), seed=1, gamma=1.0, **rate, **kwargs).learn(1_000_000)
    np.testing.assert_allclose(model.v_table[1:-1], WALK, atol=0.04)


def test_lambda_0_is_td_0(plain):
    tables = [TDPrediction(env=walk(), seed=2, **kw).learn(1000).v_table for kw in ({"lambda_": 0.0}, {})]
    np.testing.assert_array_equal(*tables)
    online = TDPrediction(env=walk(), seed=2, lambda_=0.0, traces="true-online").learn(1000).v_table
    np.testing.assert_allclose(online, tables[0], rtol=1e-12, atol=1e-14)


def test_offline_lambda_1_is_every_visit_monte_carlo():
    alpha, gamma = 0.1, 0.9
    v = feed(TDPrediction(env=walk(), gamma=gamma, learning_rate=alpha, lambda_=1.0, offline=True), EPISODE)
    twin, g = np.zeros(21), 0.0
    for s, _, r, _ in reversed(EPISODE):  # all changes are made from the values before the episode, here 0
        g = r + gamma * g
        twin[s] += alpha * g
    np.testing.assert_allclose(v, twin, rtol=1e-12)
    once = [(s, 1, 0.0 if s < 8 else 1.0, s + 1) for s in range(4, 9)]  # no state twice: also with values that move
    models = [
        TDPrediction(env=walk(), gamma=gamma, learning_rate=alpha, lambda_=1.0, offline=True),
        MonteCarloPrediction(env=walk(), gamma=gamma, learning_rate=alpha, visits="every"),
    ]
    np.testing.assert_allclose(*(feed(model, once, 3) for model in models), rtol=1e-12)


@pytest.mark.parametrize("lambda_", [0.0, 0.4, 0.9, 1.0])
def test_true_online_td_is_the_online_lambda_return_algorithm(lambda_):
    """Sutton & Barto, section 12.3: after every step, redo the episode so far with λ-returns cut off at that step."""
    alpha, gamma = 0.3, 0.9
    model = TDPrediction(env=walk(), gamma=gamma, learning_rate=alpha, lambda_=lambda_, traces="true-online")
    states = [s for s, *_ in EPISODE] + [EPISODE[-1][3]]
    rewards = [r for *_, r, _ in EPISODE]
    start, n = np.zeros(21), len(EPISODE)
    for _ in range(3):
        history = [start]  # history[k]: the values after step k, which judge the state reached in step k + 1
        for h in range(1, n + 1):
            w = start.copy()
            for t in range(h):
                n_step, g = [], 0.0
                for k in range(t, h):
                    g += gamma ** (k - t) * rewards[k]
                    n_step.append(g if k + 1 == n else g + gamma ** (k + 1 - t) * history[k][states[k + 1]])
                mixed = (1 - lambda_) * sum(lambda_**j * x for j, x in enumerate(n_step[:-1]))
                w[states[t]] += alpha * (mixed + lambda_ ** (len(n_step) - 1) * n_step[-1] - w[states[t]])
            history.append(w)
        start = history[-1]
    np.testing.assert_allclose(feed(model, EPISODE, 3), start, rtol=1e-10, atol=1e-12)


def test_n_step_td_equals_a_slow_twin():
    alpha, gamma, n = 0.2, 0.9, 3
    v, length = np.zeros(21), len(EPISODE)
    for _ in range(2):
        for tau_end in range(1, length + n):  # the box of section 7.1
            tau = tau_end - n
            if tau >= 0:
                last = min(tau + n, length)
                g = sum(gamma ** (k - tau) * EPISODE[k][2] for k in range(tau, last))
                if tau + n < length:
                    g += gamma**n * v[EPISODE[tau + n][0]]
                v[EPISODE[tau][0]] += alpha * (g - v[EPISODE[tau][0]])
    model = TDPrediction(env=walk(), gamma=gamma, learning_rate=alpha, n_steps=n)
    np.testing.assert_allclose(feed(model, EPISODE, 2), v, rtol=1e-12)


def test_first_and_every_visit_average_what_they_should():
    gamma, returns = 0.9, {}
    g = 0.0
    for s, _, r, _ in reversed(EPISODE):
        g = r + gamma * g
        returns.setdefault(s, []).append(g)  # the last one is the first visit's
    first = feed(MonteCarloPrediction(env=walk(), gamma=gamma), EPISODE)
    every = feed(MonteCarloPrediction(env=walk(), gamma=gamma, visits="every"), EPISODE)
    for s, values in returns.items():
        assert first[s] == pytest.approx(values[-1], rel=1e-12)
        assert every[s] == pytest.approx(np.mean(values), rel=1e-12)


def two_states():
    """State 0: left ends with 0, right goes to state 1; there left ends with 0, right ends with 1. v = 0.9 · 0.9 = 0.81."""
    rows = {0: {0: [(1.0, 0, 0.0, True)], 1: [(1.0, 1, 0.0, False)]}, 1: {0: [(1.0, 0, 0.0, True)], 1: [(1.0, 0, 1.0, True)]}}
    return TabularEnv(TabularMDP.from_P(rows, 0))


TARGET = [[0.1, 0.9], [0.1, 0.9]]


@pytest.mark.parametrize("n_episodes", [1, 3])
def test_importance_sampling_biased_and_unbiased(n_episodes):
    """Behaviour uniform: left (chance 1/2, ρ=0.2, G=0), right-left (1/4, 0.36, 0), right-right (1/4, 3.24, 1)."""
    exact = {"ordinary": 0.81, "weighted": None}
    if n_episodes == 1:
        exact["weighted"] = 0.25  # G itself, whatever the weight: the behaviour policy's value
    else:
        outcomes = [(0.5, 0.2, 0.0), (0.25, 0.36, 0.0), (0.25, 3.24, 1.0)]
        exact["weighted"] = sum(
            p * q * r * (w * g + x * h + y * i) / (w + x + y)
            for p, w, g in outcomes for q, x, h in outcomes for r, y, i in outcomes
        )  # fmt: skip
    episodes = {"L": [(0, 0, 0.0, 0)], "RL": [(0, 1, 0.0, 1), (1, 0, 0.0, 0)], "RR": [(0, 1, 0.0, 1), (1, 1, 1.0, 0)]}
    chance = {"L": 0.5, "RL": 0.25, "RR": 0.25}
    for kind, expected in exact.items():
        mean = 0.0
        for sequence in itertools.product(episodes, repeat=n_episodes):
            model = MonteCarloPrediction(
                env=two_states(), gamma=1.0, target_policy=TARGET, behavior_policy="uniform", importance_sampling=kind
            )
            for key in sequence:
                v = feed(model, episodes[key])
            mean += np.prod([chance[key] for key in sequence]) * v[0]
        assert mean == pytest.approx(expected, rel=1e-12), kind
    assert exact["weighted"] < 0.6  # biased towards the behaviour policy


@pytest.mark.parametrize("kind", ["ordinary", "weighted"])
def test_importance_sampling_is_consistent(kind):
    model = MonteCarloPrediction(
        env=two_states(), seed=0, gamma=1.0, target_policy=TARGET, behavior_policy="uniform", importance_sampling=kind
    ).learn(2_000_000)
    np.testing.assert_allclose(model.v_table, [0.81, 0.9], atol=0.01)


def test_a_behavior_that_cannot_cover_is_refused():
    with pytest.raises(ValueError, match="never takes action 1 in state 0"):
        MonteCarloPrediction(env=two_states(), target_policy=TARGET, behavior_policy=[0, 1])


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"lambda_": 1.5}, "lambda_=1.5"),
        ({"n_steps": 0}, "n_steps=0"),
        ({"n_steps": 2, "lambda_": 0.5}, "n_steps=2, lambda_=0.5"),
        ({"offline": True}, "offline"),
        ({"traces": "dutch"}, "true-online"),
        ({"target_policy": [[1.0, 0.0]]}, r"shape \(21, 2\)|\(21, 2\)"),
    ],
)
def test_wrong_arguments_are_named(kwargs, words):
    with pytest.raises(ValueError, match=words):
        TDPrediction(env=walk(), **kwargs)


def test_predict_follows_the_given_policy():
    model = TDPrediction(env=walk(), target_policy=np.arange(21) % 2)
    np.testing.assert_array_equal(model.predict(np.arange(21))[0], np.arange(21) % 2)
    np.testing.assert_array_equal(model.action_probabilities([3, 4]), [[0, 1], [1, 0]])


def test_an_episode_without_end_is_named(plain):
    env = gym.make("Lecture/RandomWalk-v0", max_episode_steps=100)
    model = sb3_lecture.MonteCarloControl(env=env, seed=0, max_episode_length=5)
    with pytest.raises(ValueError, match="longer than max_episode_length=5"):
        model.learn(1000)


def test_time_limits_are_no_death(plain):
    """One state, reward 1 for ever, cut every 10 steps: v = 1 / (1 - γ)."""
    loop = TabularMDP.from_P({0: {0: [(1.0, 0, 1.0, False)]}}, 0)
    for cls, kwargs in (
        (TDPrediction, {}),
        (TDPrediction, {"n_steps": 3}),
        (TDPrediction, {"lambda_": 0.5}),
        (TDPrediction, {"lambda_": 0.5, "traces": "true-online"}),
        (MonteCarloPrediction, {"learning_rate": 0.5}),
        (sb3_lecture.Sarsa, {}),
        (sb3_lecture.ExpectedSarsa, {}),
        (sb3_lecture.NStepSarsa, {}),
        (sb3_lecture.SarsaLambda, {}),
        (sb3_lecture.QLearning, {}),
        (sb3_lecture.DoubleQLearning, {}),
        (sb3_lecture.QLambda, {}),
        (sb3_lecture.DynaQ, {}),
        (sb3_lecture.PrioritizedSweeping, {}),
        (sb3_lecture.MonteCarloControl, {"learning_rate": 0.5}),
    ):
        model = cls(env=gym.wrappers.TimeLimit(TabularEnv(loop), 10), seed=0, gamma=0.9, **kwargs).learn(1500)
        assert model.policy.table.item() == pytest.approx(10.0, rel=1e-3), cls.__name__
        assert model.active_backend == "compiled"
