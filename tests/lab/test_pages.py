"""The pages without a browser: what they show is what the project's own learners and solvers say."""

import json
import math
import shlex

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sb3_lecture
from sb3_lecture.common.updates import expected_sarsa, q_learning, sarsa
from sb3_lecture.exact import exact_evaluation
from sb3_lecture.lab.messages import LONGEST_MESSAGE, read_message
from sb3_lecture.lab.page import FRAMES_PER_SECOND, Number, Refused, encode, plain
from sb3_lecture.lab.pages import PAGES, make_page
from sb3_lecture.lab.pages.gridworld import PRESETS
from sb3_lecture.lab.tabular_run import LEARNERS, WITH_TRACES
from sb3_lecture.zoo import cli

TABULAR = ["treasure_line", "gridworld"]


def page_with(name="gridworld", **changes):
    page = make_page(name)
    page.set(changes)
    return page


def run_python(page):
    names = {}
    exec(page.code()["python"].replace("print(model.q_table)", ""), names)
    return names["model"]


# --- the table that is shown


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_run_in_pieces_is_the_run_in_one_piece(learner):
    whole = page_with(learner=learner, steps=700, slip=0.1, alpha=0.3)
    pieces = page_with(learner=learner, steps=0, slip=0.1, alpha=0.3)
    for steps in (1, 2, 150, 151, 699):
        pieces.set({"steps": steps})
    pieces.do("step")
    assert pieces.settings["steps"] == 700
    np.testing.assert_array_equal(pieces.run.model.q_table, whole.run.model.q_table)
    assert encode(pieces.state()) == encode(whole.state())


def test_going_back_in_time_forgets():
    page = page_with(steps=1000)
    page.set({"steps": 300})
    assert encode(page.state()) == encode(page_with(steps=300).state())


@pytest.mark.parametrize("name", TABULAR)
@pytest.mark.parametrize("learner", ["q_learning", "sarsa", "expected_sarsa"])
def test_the_python_shown_makes_the_table_shown(name, learner):
    page = page_with(name, learner=learner, steps=400, alpha=0.25, epsilon=0.3, seed=7)
    np.testing.assert_array_equal(run_python(page).q_table, page.run.model.q_table)


@pytest.mark.parametrize("preset", PRESETS)
def test_the_python_shown_makes_every_preset(preset):
    _, text, step_reward = PRESETS[preset]
    page = page_with(
        map=text, step_reward=step_reward, learner="q_lambda", lambda_=0.7, slip=0.2, steps=500, initial_value=0.5
    )
    model = run_python(page)
    np.testing.assert_array_equal(model.q_table, page.run.model.q_table)
    assert page.state()["learned"]["regret"] == pytest.approx(exact_evaluation(model).regret, abs=1e-12)


@pytest.mark.parametrize("changes", [{"slip": 0.1}, {"map": "S.-5\nG..".replace("-5", "#")}, {"learner": "sarsa_lambda"}])
def test_the_command_shown_trains_the_table_shown(tmp_path, changes):
    page = page_with(steps=300, seed=2, **changes)
    words = shlex.split(page.code()["command"])
    assert words[:2] == ["sb3-lecture", "train"] and cli.main([*words[1:], "-f", str(tmp_path)]) == 0
    (path,) = tmp_path.glob("*/*/Lecture-GridWorld-v0.zip")
    model = getattr(sb3_lecture, LEARNERS[page.settings["learner"]][0]).load(path)
    np.testing.assert_array_equal(model.q_table, page.run.model.q_table)


# --- the last transition and its numbers


@pytest.mark.parametrize("learner", LEARNERS)
def test_the_equation_adds_up_to_the_change_of_the_table(learner):
    page = page_with(learner=learner, map="S.\n.5\n.G", alpha=0.4, epsilon=0.5, steps=0, slip=0.3, step_reward=-0.1)
    seen = 0
    for steps in range(1, 120):
        before = page.run.model.q_table.copy()
        page.set({"steps": steps})
        t = page.run.transition
        assert t.q == before[t.state, t.action]
        assert t.delta == t.reward + t.discount * t.next_value - t.q
        assert t.discount == (0.0 if t.terminated else 0.9)
        assert page.run.model.q_table[t.state, t.action] == pytest.approx(t.q + 0.4 * t.delta, abs=1e-12)
        seen += t.terminated
    assert seen > 3


@pytest.mark.parametrize("learner", ["q_learning", "sarsa", "expected_sarsa"])
def test_the_td_error_shown_is_the_rule_s(learner):
    page = page_with(learner=learner, map="S.\n..\n.G", alpha=0.4, epsilon=0.5, steps=0, step_reward=-0.1)
    for steps in range(1, 60):
        before = page.run.model.q_table.copy()
        page.set({"steps": steps})
        t = page.run.transition
        row, after = before[t.state], before[t.next_state]
        if learner == "q_learning":
            expected = q_learning(row, t.action, t.reward, t.discount, after)
        elif learner == "sarsa":
            expected = sarsa(row, t.action, t.reward, t.discount, after, max(0, t.next_action))
        else:
            best = (after == after.max()) / (after == after.max()).sum()
            expected = expected_sarsa(row, t.action, t.reward, t.discount, after, 0.125 + 0.5 * best)
        assert t.delta == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("learner", LEARNERS)
def test_a_time_limit_is_no_end(learner):
    rows = "\n".join(["S" + "." * 19, *["." * 20] * 18, "." * 19 + "G"])
    page = page_with(
        learner=learner, map=rows, epsilon=1.0, initial_value=0.5, steps=200, gamma=1.0, alpha=0.5, step_reward=-0.1
    )
    t = page.run.transition
    assert t.truncated and not t.terminated and t.discount == 1.0
    assert page.run.model.q_table[t.state, t.action] == pytest.approx(t.q + 0.5 * t.delta, abs=1e-12)
    page.set({"steps": 201})
    assert page.run.transition.state == 0  # a new episode


def test_an_episode_ends_where_the_line_ends():
    page = page_with("treasure_line", steps=0, n=4)
    ends = []
    for _ in range(5):
        page.do("episode")
        assert page.run.transition.terminated and page.run.transition.next_state == 3
        ends.append(page.settings["steps"])
    learned = page.state()["learned"]
    assert np.diff([0, *ends]).tolist() == learned["lengths"] and learned["episodes"] == 5
    assert min(learned["lengths"]) >= 3


# --- what is known exactly


def test_the_optimum_of_the_treasure_line_is_its_closed_form():
    learned = page_with("treasure_line", n=6, gamma=0.9, steps=0).state()["learned"]
    right = [0.9 ** (4 - s) for s in range(5)]
    assert np.asarray(learned["optimal_q"])[:5, 1] == pytest.approx(right)
    assert learned["regret"] == pytest.approx(0.9**4)  # the first of equal actions leads nowhere


@pytest.mark.parametrize("name", TABULAR)
def test_the_regret_curve_is_the_exact_grade_at_each_point(name):
    page = page_with(name, steps=400, alpha=0.5, seed=3)
    curve = page.state()["learned"]["curve"]
    assert curve["steps"][0] == 0 and curve["steps"][-1] == 400 and np.all(np.diff(curve["steps"]) > 0)
    for steps, regret in list(zip(curve["steps"], curve["regret"], strict=True))[:: 4 if name == "gridworld" else 3]:
        model = run_python(page_with(name, steps=steps, alpha=0.5, seed=3)) if steps else None
        if model is not None:
            assert regret == pytest.approx(exact_evaluation(model).regret, abs=1e-12)


def test_traces_visits_and_optimal_moves_are_the_model_s():
    page = page_with(learner="sarsa_lambda", steps=333)
    learned, model = page.state()["learned"], page.run.model
    assert learned["visits"].sum() == 333
    np.testing.assert_array_equal(learned["traces"], model.memory.arrays().trace[0])
    assert page_with(learner="q_learning").state()["learned"]["traces"] is None
    good = learned["good"]
    assert good[11].tolist() == [False, False, False, True]  # beside the goal: left


# --- maps that are no worlds, and settings that are none


@pytest.mark.parametrize(
    ("text", "words"),
    [("....", "No reachable terminal"), ("S#G", "No reachable terminal"), ("S.\n.", "Row 1"), ("SxG", "'x'"), ("", "empty"),
     ("S" + "." * 20 + "G", "up to 20 by 20"), ("###", "all walls")],
)  # fmt: skip
def test_a_map_that_is_no_world_is_told_and_can_be_mended(text, words):
    page = page_with(steps=200)
    page.set({"map": text})
    state = page.state()
    assert words in state["problem"] and state["learned"] is None
    page.do("step")
    page.set({"map": PRESETS["maze"][1]})
    assert page.state()["problem"] == "" and page.state()["learned"] is not None


def test_an_undiscounted_gain_without_end_is_told():
    page = page_with(map="S.G", gamma=1.0, step_reward=0.5)
    assert "unbounded" in page.state()["problem"]


@pytest.mark.parametrize(
    "changes",
    [{"alpha": 0}, {"alpha": 1.01}, {"alpha": "0.1"}, {"alpha": True}, {"alpha": None}, {"alpha": math.nan}, {"seed": 1.5},
     {"steps": -1}, {"steps": 10**7}, {"learner": "dqn"}, {"learner": ["sarsa"]}, {"map": "S" * 4001}, {"map": 5},
     {"nothing": 1}, {"gamma": 0.5, "alpha": 7}],
)  # fmt: skip
def test_settings_out_of_range_are_refused_whole(changes):
    page = page_with(steps=10)
    before = encode(page.state())
    with pytest.raises(Refused, match=next(iter(name for name in changes if name != "gamma"))):
        page.set(changes)
    assert encode(page.state()) == before


# --- playing


@pytest.mark.parametrize("speed", [1, 7, 30, 1000])
def test_a_second_of_ticks_is_a_second_of_steps(speed):
    page = page_with("treasure_line", speed=speed, steps=0)
    page.do("play")
    drawn = sum(page.tick() for _ in range(FRAMES_PER_SECOND))
    assert page.settings["steps"] == pytest.approx(speed, abs=1) and drawn <= FRAMES_PER_SECOND


def test_playing_stops_at_the_end_of_the_time_line():
    page = page_with("treasure_line", speed=3000, steps=9950)
    page.do("play")
    page.tick()
    assert page.settings["steps"] == 10_000 and not page.playing


# --- messages


@pytest.mark.parametrize("name", PAGES)
def test_pictures_are_plain_json(name):
    state = json.loads(encode(make_page(name).state()), parse_constant=pytest.fail)
    assert state["settings"] == make_page(name).settings


def test_numbers_that_are_none_become_null():
    numbers = {"a": np.array([1.0, np.inf, -np.inf, np.nan]), "b": np.float64(1 / 3), "c": np.int64(7), "d": np.bool_(True)}
    assert plain(numbers) == {"a": [1.0, None, None, None], "b": 0.3333333, "c": 7, "d": True}


def test_an_array_becomes_what_its_numbers_become():
    rng = np.random.default_rng(0)
    for array in (rng.normal(size=(3, 4)) * 10.0 ** rng.integers(-9, 9, (3, 4)), np.full((2, 0), 1.0), np.array(0.1234567891),
                  np.array([[np.nan, -0.0], [np.inf, 1e-300]]), np.arange(6).reshape(2, 3), np.array([["a", "b"]]),
                  rng.normal(size=5).astype(np.float32), np.eye(2, dtype=bool)):  # fmt: skip
        assert json.dumps(plain(array)) == json.dumps(plain(array.tolist()))


def test_the_three_forms_of_a_message():
    assert read_message('{"id": 1, "set": {"alpha": 0.5}}').changes == {"alpha": 0.5}
    assert read_message('{"id": 2, "do": "step"}').action == "step"
    assert read_message('{"ack": 3}').ack == 3


@pytest.mark.parametrize(
    "text",
    [None, b"{}", "", "{", "[]", "1", "null", '{"id": 1}', '{"id": -1, "do": "step"}', '{"id": true, "do": "step"}',
     '{"id": 1, "do": 2}', '{"id": 1, "do": "step", "set": {}}', '{"id": 1, "set": []}', '{"ack": 1e300}', '{"ack": 1.5}',
     '{"id": 1, "set": {"alpha": NaN}}', '{"id": 1, "set": {"alpha": Infinity}}', "[" * 60_000, " " * (LONGEST_MESSAGE + 1),
     json.dumps({"id": 1, "set": dict.fromkeys(map(str, range(33)), 0)})],
)  # fmt: skip
def test_every_other_message_is_refused(text):
    with pytest.raises(Refused):
        read_message(text)


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8)
ANYTHING = st.recursive(
    LEAVES, lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(max_size=4), x, max_size=3), max_leaves=6
)
NAMES = st.sampled_from([control.name for control in make_page("gridworld").controls])


@settings(max_examples=300)
@given(st.dictionaries(NAMES | st.text(max_size=5), ANYTHING, max_size=3))
def test_no_settings_break_a_page(changes):
    page = FUZZED
    try:
        page.set(changes)
    except Refused:
        pass
    page.settings["steps"] = min(page.settings["steps"], 1000)
    encode(page.state())


FUZZED = make_page("gridworld")


@given(st.floats(allow_nan=True) | st.integers() | st.text(max_size=5))
def test_a_number_control_lets_only_its_range_through(value):
    control = Number("x", "X", 0, -1, 1, whole=True)
    try:
        assert control.read(value) in (-1, 0, 1)
    except Refused:
        assert isinstance(value, str) or value not in (-1, 0, 1)


def test_every_learner_offered_is_public():
    assert {row[0] for row in LEARNERS.values()} <= set(sb3_lecture.__all__) and set(WITH_TRACES) <= set(LEARNERS)
