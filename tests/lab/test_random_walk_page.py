"""The random walk without a browser: each guess by a slow twin, and the book's figure."""

import numpy as np
import pytest

import sb3_lecture
from sb3_lecture.common.wrappers import TimeLimit
from sb3_lecture.lab.page import encode
from sb3_lecture.lab.pages import make_page
from sb3_lecture.lab.pages.random_walk import METHODS
from sb3_lecture_envs.random_walk import RandomWalkEnv


def page_with(**changes):
    page = make_page("random_walk")
    page.set(changes)
    return page


def test_the_truth_is_the_straight_line():
    for n in (1, 5, 19):
        assert page_with(n=n).state()["true"] == pytest.approx(np.arange(1, n + 1) / (n + 1))


def run(page, method, steps):
    """The learner of a method, trained for so many steps alone."""
    name = "MonteCarloPrediction" if method == "mc" else "TDPrediction"
    model = getattr(sb3_lecture, name)(
        "TabularPolicy", TimeLimit(RandomWalkEnv(page.settings["n"], left_reward=0.0), 10_000), seed=page.settings["seed"],
        **page.arguments(method),
    )  # fmt: skip
    return model.learn(steps) if steps else model


@pytest.mark.parametrize("method", METHODS)
def test_values_after_an_episode_are_those_of_a_run_that_stops_there(method):
    page = page_with(method=method, steps=30, seed=3)
    for episodes in (1, 2, 30):
        page.set({"steps": episodes})
        page.state()
        model = run(page, method, page.walk(method, 0).ends[episodes][2])
        np.testing.assert_array_equal(model.v_table[1:6], page.state()["values"][method])


def test_the_updates_in_numbers_are_those_that_were_made():
    for episodes in (1, 5, 40):
        for method in ("td", "mc"):
            page = page_with(method=method, steps=episodes, seed=1)
            last, steps = page.state()["last"], page.walk(method, 0).ends[episodes][2]
            before = run(page, method, steps - 1).v_table[last["state"]]
            assert last["old"] == pytest.approx(before, abs=1e-12)
            assert last["new"] == pytest.approx(before + last["alpha"] * (last["reward"] - before), abs=1e-12)


def test_the_error_is_the_root_of_the_mean_square_over_cells_and_walks():
    page = page_with(steps=12, runs=3, seed=5)
    state, want = page.state(), []
    for i in range(3):
        alone = page_with(steps=12, seed=5 + i).state()
        want.append(np.sqrt(np.mean((alone["values"]["td"] - alone["true"]) ** 2)))
    assert state["errors"]["td"][-1] == pytest.approx(np.mean(want)) and len(state["errors"]["td"]) == 13
    assert state["errors"]["mc"][0] == pytest.approx(np.sqrt(np.mean((0.5 - state["true"]) ** 2)))


def test_td_is_better_than_monte_carlo_on_the_walk():
    """Sutton & Barto 2018, example 6.2: at its best α, TD's error falls below Monte Carlo's, here after 100 episodes."""
    state = page_with(steps=100, runs=20, alpha=0.05, alpha_mc=0.03).state()
    assert state["errors"]["td"][-1] < state["errors"]["mc"][-1] - 0.01
    assert state["errors"]["td"][-1] < 0.06 < state["errors"]["td"][20]


def test_td_lambda_without_traces_is_td():
    state = page_with(lambda_=0.0, steps=25).state()
    np.testing.assert_allclose(state["values"]["td"], state["values"]["td_lambda"], atol=1e-12)


@pytest.mark.parametrize("method", METHODS)
def test_the_python_shown_makes_the_values_shown(method):
    page, names = page_with(method=method, steps=17, n=7, seed=2), {}
    exec(page.code()["python"].replace("print(", "(lambda *_: None)("), names)
    np.testing.assert_array_equal(names["model"].v_table[1:8], page.state()["values"][method])


def test_the_same_settings_are_the_same_picture():
    page = page_with(runs=2)
    for action in ("step", "episode", "step"):
        page.do(action)
    page.set({"steps": 150})
    page.set({"steps": 20, "alpha": 0.3})
    assert encode(page_with(**page.settings).state()) == encode(page.state())
    page.do("reset")
    assert page.state()["last"] is None and set(page.state()["values"]["td"]) == {0.5}
