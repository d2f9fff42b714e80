"""The cliff without a browser: the book's finding, exactly."""

import numpy as np
import pytest

import sb3_lecture
from sb3_lecture.common.wrappers import TimeLimit
from sb3_lecture.lab.page import encode
from sb3_lecture.lab.pages import make_page
from sb3_lecture.lab.pages.cliff import moving_mean, way
from sb3_lecture_envs.cliff_walking import CliffWalkingEnv


def page_with(**changes):
    page = make_page("cliff")
    page.set(changes)
    return page


def test_the_best_ways_are_the_known_ones():
    state = page_with(steps=0).state()
    assert state["best"]["value"] == -13 and state["best"]["way"] == [36, *range(24, 36), 47]  # along the edge
    row = [s // 12 for s in state["soft"]["way"]]
    assert min(row) == 1 and row.count(1) == 12 and len(row) == 12 + 2 + 2  # with ε = 0.1 one row further up
    assert -21 < state["soft"]["value"] < -20
    assert page_with(steps=0, epsilon=0.0).state()["soft"]["value"] == -13


def test_q_learning_finds_the_edge_and_earns_less_than_sarsa():
    """Sutton & Barto 2018, example 6.6."""
    for seed in (0, 1, 2):
        sides = page_with(alpha=0.1, steps=30_000, seed=seed).state()["sides"]
        sarsa, q_learning = sides["learner"], sides["other"]
        assert q_learning["regret"] == 0 and q_learning["way"] == [36, *range(24, 36), 47]
        assert sarsa["online"] > q_learning["online"] + 20
        assert min(s // 12 for s in sarsa["way"]) < 2  # further from the edge
        assert np.mean(sarsa["returns"][-200:]) > np.mean(q_learning["returns"][-200:]) + 15


def test_no_policy_that_explores_earns_more_than_the_best_of_them():
    for changes in ({}, {"alpha": 0.1, "steps": 50_000}, {"epsilon": 0.3}, {"slip": 0.1, "gamma": 0.9}):
        state = page_with(**changes).state()
        for side in state["sides"].values():
            assert side["online"] <= state["soft"]["value"] + 1e-9 <= state["best"]["value"] + 1e-9


def test_the_exact_value_while_exploring_is_what_long_play_earns():
    page = page_with(alpha=0.1, steps=20_000)
    run, rng, returns = page.runs["other"], np.random.default_rng(0), []
    behaviour, mdp = run.behaviour(run.model.q_table), page.runs["other"].mdp
    for _ in range(1500):
        state, total, over = 36, 0.0, False
        while not over:
            action = rng.choice(4, p=behaviour[state])
            j = mdp.row_ptr[state * 4 + action]
            total, state, over = total + mdp.reward[j], mdp.next_state[j], mdp.terminated[j]
        returns.append(total)
    error = np.std(returns) / np.sqrt(len(returns))
    assert page.state()["sides"]["other"]["online"] == pytest.approx(np.mean(returns), abs=4 * error)


def test_a_way_ends_at_the_end_or_where_it_repeats():
    mdp = CliffWalkingEnv().mdp
    assert way(mdp, np.zeros(48, int)) == [36, 24, 12, 0, 0]  # up, and against the border for ever
    assert way(mdp, np.ones(48, int)) == [36, 36]  # into the cliff, and back


def test_the_moving_mean_is_the_mean_of_the_last_ten():
    values = np.random.default_rng(0).normal(size=37)
    want = [values[max(0, i - 9) : i + 1].mean() for i in range(37)]
    assert moving_mean(values) == pytest.approx(want) and len(moving_mean(np.zeros(0))) == 0


def test_the_curve_is_the_mean_over_seeds_each_trained_alone():
    page = page_with(runs=3, steps=2000, seed=5)
    alone = []
    for seed in (5, 6, 7):
        model = sb3_lecture.QLearning(
            "TabularPolicy", TimeLimit(CliffWalkingEnv(), 200), seed=seed, learning_rate=0.5, gamma=1.0,
            exploration_fraction=0.0, exploration_initial_eps=0.1, exploration_final_eps=0.1, stats_window_size=9999,
        )  # fmt: skip
        model.learn(2000)
        alone.append([e["r"] for e in model.ep_info_buffer])
    n = min(map(len, alone))
    want = moving_mean(np.mean([row[:n] for row in alone], axis=0))
    assert page.state()["sides"]["other"]["returns"] == pytest.approx(want)


def test_the_python_shown_makes_both_tables():
    page, names = page_with(steps=700, learner="expected_sarsa", slip=0.1, gamma=0.95), {}
    exec(page.code()["python"].replace("print(", "(lambda *_: None)("), names)
    for model, side in zip(names["models"], ("learner", "other"), strict=True):
        np.testing.assert_array_equal(model.q_table, page.runs[side].model.q_table)
    assert [line.split()[3] for line in page.code()["command"].splitlines()] == ["expected_sarsa", "q_learning"]


def test_the_same_settings_are_the_same_picture():
    page = page_with(steps=100, runs=2)
    for action in ("step", "episode", "step"):
        page.do(action)
    page.set({"steps": 900})
    page.set({"steps": 400, "other": "sarsa"})
    assert encode(page_with(**page.settings).state()) == encode(page.state())
    sides = page.state()["sides"]
    assert encode(sides["learner"]) == encode(sides["other"])  # the same learner on the same seeds
