"""The growing tree without a browser: its scores are a twin of the compiled search, its trees are that search's own."""

import json

import numpy as np
import pytest

from sb3_lecture.exact.solver import exact_optimum
from sb3_lecture.lab.growing import RolloutEvaluator
from sb3_lecture.lab.page import Refused, encode
from sb3_lecture.lab.pages import make_page
from sb3_lecture.search.simulators import GameSimulator
from sb3_lecture.search.tree import halving_schedule
from sb3_lecture_envs.board.tic_tac_toe import TicTacToe
from sb3_lecture_envs.maze import MazeEnv

WORLDS = ["tic_tac_toe", "connect_four", "maze"]
SELECTIONS = ["uct", "puct", "gumbel"]


def page_with(**changes):
    page = make_page("search_tree")
    page.set(changes)
    return page


@pytest.mark.parametrize("world", WORLDS)
@pytest.mark.parametrize("selection", SELECTIONS)
@pytest.mark.parametrize("leaves", ["rollouts", pytest.param("network", marks=pytest.mark.slow)])
def test_every_simulation_follows_the_largest_score_and_carries_the_mean(world, selection, leaves):
    noise = "off" if selection == "uct" else "on"
    page = page_with(world=world, selection=selection, budget=60, noise=noise, seed=3, explore=0.7, leaves=leaves)
    before = page.growing.after(page.root, 0)
    assert before.size == 1 and before.tree.visits.sum() == 0
    for t in range(1, 61):
        grown = page.growing.after(page.root, t)
        path = grown.last_path()
        assert grown.tree.visits[0].sum() == t and path[0][0] == 0
        for node, action, child, value in path:
            score = before.weigh(node).score
            assert score[action] == pytest.approx(score.max(), abs=1e-5) and score[action] > -np.inf
            n, q = int(before.tree.visits[node, action]), float(before.tree.q[node, action])
            assert grown.tree.visits[node, action] == n + 1
            assert grown.tree.q[node, action] == pytest.approx(q * n / (n + 1) + value / (n + 1), abs=1e-5)
            assert grown.edge(child) == (node, action)
        touched = {(node, action) for node, action, _, _ in path}
        for node, action in np.argwhere(grown.tree.visits[: before.size] != before.tree.visits):
            assert (node, action) in touched
        before = grown


def test_the_tree_stopped_early_is_the_search_s_own_and_the_python_shown_makes_it():
    for changes in (
        {"selection": "gumbel", "noise": "on", "budget": 40, "steps": 17, "moves": "b2 a1"},
        {"selection": "puct", "world": "maze", "budget": 30, "steps": 30, "moves": "right"},
        {"selection": "uct", "world": "connect_four", "steps": 64, "seed": 5},
    ):
        page, names = page_with(**changes), {}
        exec(page.code()["python"].replace("print(", "(lambda *_: None)("), names)
        tree = page.state()["tree"]
        np.testing.assert_array_equal(names["result"].visits[0], tree["visits"][0])
        if changes["steps"] == page.settings["budget"]:
            assert names["result"].actions[0] == tree["chosen"]


def test_gumbel_halves_what_it_considers():
    page = page_with(selection="gumbel", noise="on", budget=32, steps=32)
    visits = np.sort(page.state()["tree"]["visits"][0])[::-1]
    turns = halving_schedule(32, 9)[9]
    counts = [sum(turns >= k) for k in range(turns.max() + 1)]  # how many of the simulations served count k or more
    assert visits.sum() == 32 and visits.max() == turns.max() + 1
    assert ((visits > 0).sum() == 9 and counts[0] == 32 and visits[1] == visits[0]) or visits[1] == visits[0] - 1


def test_the_exact_values_are_the_solvers():
    page = page_with(moves="a1 b1", steps=30)
    exact = page.state()["tree"]["exact"][0]
    assert exact[4] == 1.0 and np.nanmax(exact) == 1.0  # b2 wins
    maze = page_with(world="maze", moves="right right", steps=10)
    want = exact_optimum(MazeEnv().mdp, 0.9).q[maze.cell]
    np.testing.assert_array_equal(maze.state()["tree"]["exact"][0], want)
    assert maze.state()["curve"]["exact"] == want.max()


@pytest.mark.slow
def test_long_searches_find_the_optimum():
    game = page_with(moves="a1 b1", leaves="network", budget=200, steps=200).state()["tree"]
    assert game["exact"][0][game["chosen"]] == 1.0 and game["root_value"] > 0.6
    maze = page_with(world="maze", moves="right right right down down", budget=200, steps=200).state()["tree"]
    assert maze["chosen"] == 3 and maze["q"][0][3] == pytest.approx(1.0)  # left, to the treasure


def test_rollouts_of_a_state_are_its_own_and_their_mean_is_fair():
    simulator = GameSimulator(TicTacToe())
    one, two = RolloutEvaluator(simulator, 0), RolloutEvaluator(simulator, 0)
    seen = simulator.game.observe(simulator.game.initial(2))
    first = one(seen)[1]
    assert first[0] == first[1] and two(seen[:1])[1][0] == first[0]
    values = [RolloutEvaluator(simulator, seed)(seen[:1])[1][0] for seed in range(500)]
    # random play from the empty board: the first player wins 0.585, loses 0.288 of the games (known figures)
    assert np.mean(values) == pytest.approx(0.585 - 0.288, abs=0.05)


def test_playing_the_move_begins_a_new_tree_there():
    page = page_with(moves="a1 b1 b2 c2", selection="uct", budget=200, steps=200)
    page.do("move")
    assert len(page.settings["moves"].split()) == 5 and page.settings["steps"] == 0
    with pytest.raises(Refused, match="simulations first"):
        page.do("move")
    while not page.over:
        page.do("episode")
        page.do("move")
    assert page.line.result == 1.0 and page.state()["over"]
    with pytest.raises(Refused, match="over"):
        page.do("step")
    page.do("play")
    for _ in range(10):
        page.tick()
    assert not page.playing
    page.do("reset")
    assert page.settings["moves"] == "" and not page.over


def test_a_maze_is_walked_by_words():
    page = page_with(world="maze", moves="right right right down down left")
    assert page.over and page.state()["tree"] is None
    page.set({"moves": "right sideways"})
    assert "sideways" in page.state()["problem"] and page.cell == 1


@pytest.mark.parametrize("world", WORLDS)
def test_the_same_settings_are_the_same_picture(world):
    page = page_with(world=world, budget=50, seed=2)
    for _ in range(5):
        page.do("step")
    page.set({"steps": 40})
    page.set({"steps": 20})
    again = page_with(**page.settings)
    assert encode(again.state()) == encode(page.state())
    curve = json.loads(encode(page.state()))["curve"]
    assert curve["steps"][0] == 1 and curve["steps"][-1] == 20
    for steps, value in zip(curve["steps"], curve["value"], strict=True):
        assert value == pytest.approx(page.growing.after(page.root, steps).root_value, abs=1e-6)


def test_the_budget_bounds_the_simulations():
    page = page_with(budget=10, steps=200)
    assert page.settings["steps"] == 10
    page.set({"steps": 0})
    page.do("play")
    for _ in range(200):
        page.tick()
    assert page.settings["steps"] == 10 and not page.playing
