"""Bandits without a browser: every rule by a slow twin on the pulls that were recorded, and the book's figures."""

import numpy as np
import pytest

from sb3_lecture.common.updates import preference_gradient
from sb3_lecture.lab.bandits import METHODS, play, softmax
from sb3_lecture.lab.page import encode
from sb3_lecture.lab.pages import make_page


def page_with(**changes):
    page = make_page("bandits")
    page.set({"tasks": 1, **changes})
    return page


def test_all_methods_meet_the_same_levers_and_the_first_pulls_are_those_of_a_short_run():
    for method in METHODS:
        long, short = play(method, 5, 60, 3, 0.5, seed=4), play(method, 5, 20, 3, 0.5, seed=4)
        np.testing.assert_array_equal(long.actions[:, :20], short.actions)
        np.testing.assert_array_equal(long.rewards[:, :20], short.rewards)
        np.testing.assert_array_equal(long.worth, play("epsilon", 5, 1, 3, 0.1, seed=4).worth)
        np.testing.assert_array_equal(long.worth[1:], play(method, 5, 60, 2, 0.5, seed=5).worth)
        for task in range(3):
            np.testing.assert_array_equal(np.bincount(long.actions[task], minlength=5), long.counts[task])


@pytest.mark.parametrize("method", ["epsilon", "ucb"])
def test_sample_averages_are_means_of_what_was_paid(method):
    made = play(method, 6, 300, 2, 0.3, seed=1)
    for task in range(2):
        for a in range(6):
            paid = made.rewards[task][made.actions[task] == a]
            assert made.values[task, a] == pytest.approx(paid.mean() if len(paid) else 0.0)


def test_ucb_pulls_the_largest_bound():
    made = play("ucb", 6, 200, 1, 1.5, seed=2)
    for t in range(200):
        past, paid = made.actions[0, :t], made.rewards[0, :t]
        n = np.bincount(past, minlength=6)
        if (n == 0).any():
            assert n[made.actions[0, t]] == 0  # what was never tried comes first
            continue
        q = np.array([paid[past == a].mean() for a in range(6)])
        bound = q + 1.5 * np.sqrt(np.log(t) / n)
        assert bound[made.actions[0, t]] == pytest.approx(bound.max())


def test_preferences_follow_equation_2_12():
    made, h = play("gradient", 4, 150, 1, 0.2, seed=3), np.zeros(4)
    for t in range(150):
        if t == 149:
            assert made.before[0] == pytest.approx(h)
        pi, a = np.exp(h) / np.exp(h).sum(), made.actions[0, t]
        baseline = made.rewards[0, :t].mean() if t else 0.0
        advantage = made.rewards[0, t] - baseline
        h = h + 0.2 * np.array([preference_gradient(advantage, pi[b], b == a) for b in range(4)])
    assert made.values[0] == pytest.approx(h)


def test_thompson_s_beliefs_are_the_posterior():
    made = play("thompson", 5, 120, 1, 2.0, seed=6)
    for a in range(5):
        paid = made.rewards[0][made.actions[0] == a]
        assert made.values[0, a] == pytest.approx(paid.sum() / (len(paid) + 1 / 2.0))  # prior N(0, 2), noise 1
    state = page_with(method="thompson", prior=2.0, steps=120, seed=6, k=5).state()
    assert state["bound"] == pytest.approx(1 / np.sqrt(made.counts[0] + 0.5))


def test_epsilon_greedy_explores_as_often_as_it_says():
    made = play("epsilon", 10, 1, 20_000, 1.0, seed=0)  # all pulls random
    assert np.bincount(made.actions.ravel(), minlength=10) == pytest.approx(2000, abs=5 * np.sqrt(2000))
    made = play("epsilon", 10, 400, 300, 0.2, seed=0)
    missed = 0
    for task in range(300):  # how often the last pull was not of the best belief
        best = made.before[task].max()
        missed += made.before[task, made.actions[task, -1]] < best
    assert missed / 300 == pytest.approx(0.2 * 0.9, abs=4 * np.sqrt(0.18 * 0.82 / 300))


def test_the_book_s_testbed():
    """Sutton & Barto 2018, figure 2.2: after 1000 pulls ε = 0.1 pulls the best lever in about 80 %, ε = 0.01 in about 60 %."""
    share = {}
    for epsilon in (0.0, 0.01, 0.1):
        made = play("epsilon", 10, 1000, 400, epsilon, seed=0)
        best = made.worth.argmax(axis=1)
        share[epsilon] = (made.actions[:, 900:] == best[:, None]).mean()
    assert share[0.1] == pytest.approx(0.80, abs=0.05)
    assert share[0.0] < share[0.01] < share[0.1] and share[0.0] == pytest.approx(0.37, abs=0.06)


def test_regret_is_exact_for_what_was_pulled():
    page = page_with(method="ucb", steps=80, seed=9, tasks=1)
    state = page.state()
    made = play("ucb", 10, 80, 1, 2.0, seed=9)
    want = sum(made.worth[0].max() - made.worth[0, a] for a in made.actions[0])
    assert state["regret"] == pytest.approx(want) == state["curve"]["ucb"]["regret"][-1]
    assert state["curve"]["steps"][-1] == 80


@pytest.mark.parametrize("method", METHODS)
def test_the_equation_adds_up(method):
    for t in (1, 2, 60):
        last = page_with(method=method, steps=t, seed=2).state()["last"]
        if method == "gradient":
            change = last["alpha"] * (last["reward"] - last["baseline"]) * (1 - last["pi"])
        else:
            change = last["step"] * (last["reward"] - last["old"])
        assert last["new"] == pytest.approx(last["old"] + change)


@pytest.mark.parametrize("method", METHODS)
def test_the_python_shown_makes_the_numbers_shown(method):
    page, names = page_with(method=method, steps=70, seed=3), {}
    exec(page.code()["python"].split("\n# the same")[0].replace("print(", "(lambda *_: None)("), names)
    np.testing.assert_array_equal(names["pulls"].values[0], page.state()["values"])
    assert ("sb3-lecture train" in page.code()["command"]) == (method != "thompson")


def test_softmax_and_the_same_settings():
    assert softmax(np.array([0.0, np.log(3.0)])) == pytest.approx([0.25, 0.75])
    page = page_with(method="gradient", seed=8)
    page.do("step"), page.do("episode")
    assert page.settings["steps"] == 301
    assert encode(page_with(**page.settings).state()) == encode(page.state())
    page.do("reset")
    assert page.state()["last"] is None and page.state()["regret"] == 0
