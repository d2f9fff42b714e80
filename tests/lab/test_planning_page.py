"""Planning without a browser: each sweep and each imagined step is what the book's boxes say."""

import numpy as np
import pytest

from sb3_lecture.exact.solver import exact_optimum
from sb3_lecture.lab.page import encode
from sb3_lecture.lab.pages import make_page
from sb3_lecture.lab.pages.planning import METHODS, WORLDS

SWEEPING, LEARNING = ["value_iteration", "policy_iteration"], ["dyna_q", "prioritized_sweeping"]


def page_with(**changes):
    page = make_page("planning")
    page.set(changes)
    return page


def backup(mdp, v, s, a, gamma):
    """Σ p [r + γ v(s')] of one pair, outcome by outcome."""
    j, end = mdp.row_ptr[s * mdp.n_actions + a : s * mdp.n_actions + a + 2]
    return sum(mdp.prob[k] * (mdp.reward[k] + gamma * (not mdp.terminated[k]) * v[mdp.next_state[k]]) for k in range(j, end))


@pytest.mark.parametrize("world", ["2x2", "maze", "4x4"])
@pytest.mark.parametrize("sweeps", [1, 2, 5])
def test_a_sweep_of_value_iteration_is_the_box_s(world, sweeps):
    page = page_with(world=world, steps=sweeps, slip=0.2, gamma=0.8)
    mdp, v = page.run.mdp, np.zeros(page.run.mdp.n_states)
    for _ in range(sweeps):
        before = v.copy()
        for s in range(mdp.n_states):  # in place
            v[s] = max(backup(mdp, v, s, a, 0.8) for a in range(4))
    state = page.state()
    np.testing.assert_allclose(state["values"], v, atol=1e-12)
    np.testing.assert_allclose(state["old"], before, atol=1e-12)
    np.testing.assert_allclose(state["q"].max(axis=1), v, atol=1e-12)  # what the equation shows
    assert state["error"] == pytest.approx(np.abs(v - exact_optimum(mdp, 0.8).v).max(), abs=1e-12)
    np.testing.assert_array_equal(state["lit"], state["values"] != state["old"])


def test_policy_iteration_evaluates_then_improves_and_ends_at_the_optimum():
    page, phases = page_with(learner="policy_iteration", world="maze", slip=0.1, gamma=0.5), []
    for _ in range(1000):
        page.do("step")
        state = page.state()
        mdp, phase = page.run.mdp, state["phase"]
        phases.append(phase)
        if phase == "evaluate":  # v(s) is the backup of π(s), with what the same sweep had changed before
            chosen = state["q"][np.arange(mdp.n_states), state["policy"]]
            np.testing.assert_allclose(chosen, state["values"], atol=1e-12)
            np.testing.assert_array_equal(state["policy"], state["old_policy"])
        else:
            greedy = [[backup(mdp, state["values"], s, a, 0.5) for a in range(4)] for s in range(mdp.n_states)]
            rows = np.arange(mdp.n_states)
            assert np.array(greedy)[rows, state["policy"]] == pytest.approx(np.max(greedy, axis=1), abs=1e-7)
        if state["converged"]:
            break
    sweep = len(phases)
    assert page.settings["steps"] == sweep and phases[-1] == "improve" and phases.count("improve") == state["improvements"]
    assert state["regret"] == pytest.approx(0, abs=1e-9) and state["error"] < 1e-7
    page.do("step")
    assert page.settings["steps"] == sweep  # nothing is left to do


@pytest.mark.parametrize("world", WORLDS)
def test_one_press_is_one_policy(world):
    page, policies = page_with(learner="policy_iteration", world=world, gamma=0.7), 0
    while not page.state()["converged"]:
        page.do("episode")
        policies += 1
        assert page.state()["phase"] == "improve" and page.state()["improvements"] == policies
    assert page.state()["regret"] == pytest.approx(0, abs=1e-9) and policies > 1


def test_value_iteration_goes_to_its_end_in_one_press():
    page = page_with(world="four-rooms")
    page.do("episode")
    assert page.state()["converged"] and page.state()["regret"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("learner", LEARNING)
@pytest.mark.parametrize("steps", [1, 40, 300])
def test_the_python_shown_makes_the_table_shown(learner, steps):
    page, names = page_with(learner=learner, steps=steps, slip=0.1, imagined=7, seed=3), {}
    exec(page.code()["python"].replace("print(model.q_table)", ""), names)
    np.testing.assert_array_equal(names["model"].q_table, page.state()["q"])


@pytest.mark.parametrize("learner", SWEEPING)
def test_the_python_shown_makes_the_values_shown(learner):
    page, names = page_with(learner=learner, steps=9, slip=0.1, world="4x4"), {}
    exec(page.code()["python"].replace("print(model.v_table)", ""), names)
    np.testing.assert_array_equal(names["model"].v_table, page.state()["values"])


def test_the_queue_is_ranked_by_how_much_an_update_would_change():
    page = page_with(learner="prioritized_sweeping", world="four-rooms", imagined=1, steps=1, epsilon=1.0, gamma=0.9)
    seen = 0
    for _ in range(40):
        page.do("episode")
        state, memory = page.state(), page.run.model.memory.arrays()
        urgencies = [row["urgency"] for row in state["queue"]]
        assert urgencies == sorted(urgencies, reverse=True) and state["waiting"] >= len(urgencies)
        seen += len(urgencies)
        for row in state["queue"]:
            assert memory.total[row["state"], row["action"]] > 0  # only what was met
        if seen > 10:
            break
    assert seen > 0
    assert page.state()["known"].sum() == (page.run.model.memory.arrays().total > 0).sum()


def test_planning_needs_fewer_real_steps():
    """Dyna's point: with imagined steps the maze is solved from fewer real ones (Sutton & Barto 2018, figure 8.2)."""
    needed = {}
    for imagined in (1, 50):
        page = page_with(learner="dyna_q", imagined=imagined, seed=1, epsilon=0.3)
        while page.state()["regret"] > 1e-9 and page.settings["steps"] < 4000:
            page.do("episode")
        needed[imagined] = page.settings["steps"]
    assert needed[50] < needed[1] < 4000


def test_what_is_framed_has_changed():
    page = page_with(learner="dyna_q", imagined=20, steps=60, epsilon=0.5, seed=4)
    earlier = page_with(learner="dyna_q", imagined=20, steps=59, epsilon=0.5, seed=4)
    state = page.state()
    np.testing.assert_array_equal(state["lit"], (state["q"] != earlier.state()["q"]).any(axis=1))
    assert state["changed"] == (state["q"] != earlier.state()["q"]).sum() > 0


@pytest.mark.parametrize("learner", METHODS)
def test_the_same_settings_are_the_same_picture(learner):
    page = page_with(learner=learner, seed=2)
    for action in ("step", "episode", "step"):
        page.do(action)
    assert encode(page_with(**page.settings).state()) == encode(page.state())


@pytest.mark.parametrize("learner", METHODS)
def test_playing_and_reset(learner):
    page = page_with(learner=learner, speed=1000, world="2x2")
    page.do("play")
    for _ in range(10):
        page.tick()
    assert page.settings["steps"] >= 3
    page.do("reset")
    assert page.settings["steps"] == 0 and not np.any(page.state()["values"]) and not page.playing
