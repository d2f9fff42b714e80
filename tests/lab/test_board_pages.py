"""The pages of games without a browser: what they show is what independent rules and solvers say."""

import json
from functools import cache

import numpy as np
import pytest

from sb3_lecture.lab.board_line import GAMES, Line, Solver, place
from sb3_lecture.lab.page import Refused, encode
from sb3_lecture.lab.pages import make_page
from sb3_lecture_envs.board.connect_four import ConnectFour
from sb3_lecture_envs.board.go import Go
from sb3_lecture_envs.board.nim import Nim

LINES = [(0, 1, 2), (3, 4, 5), (6, 7, 8), (0, 3, 6), (1, 4, 7), (2, 5, 8), (0, 4, 8), (2, 4, 6)]


def page_with(**changes):
    page = make_page("boards")
    page.set(changes)
    return page


def option(page, text):
    return next(o for o in page.state()["options"] if o["text"] == text)


# --- TicTacToe by a solver written for the test alone


@cache
def minimax(cells, mover):
    """Value for the mover, and moves until the end with best play: wins soonest, loses latest."""
    if any(all(cells[i] == -mover for i in line) for line in LINES):
        return -1, 0
    if 0 not in cells:
        return 0, 0
    best = None
    for i in range(9):
        if cells[i] == 0:
            value, plies = minimax((*cells[:i], mover, *cells[i + 1 :]), -mover)
            found = -value, plies + 1
            if best is None or (found[0], -found[0] * found[1]) > (best[0], -best[0] * best[1]):
                best = found
    return best


@pytest.mark.parametrize("moves", ["", "b2", "a1 b2", "a1 b1 b2", "a1 c3 c1 b1", "b2 a1 c3 a3 a2", "a1 b2 c3 a3 c1"])
def test_the_exact_values_and_the_moves_to_the_end_are_minimax_s(moves):
    page = page_with(moves=moves, opponent="nobody")
    cells = tuple(page.state()["board"]["cells"].ravel().tolist())
    mover = 1 if len(moves.split()) % 2 == 0 else -1
    assert page.state()["options"]
    for o in page.state()["options"]:
        i = 3 * o["place"][0] + o["place"][1]
        value, plies = minimax((*cells[:i], mover, *cells[i + 1 :]), -mover)
        assert o["value"] == -value and (value == 0 or o["plies"] == plies + 1), o


@pytest.mark.parametrize("side", ["first", "second"])
def test_the_perfect_player_never_loses_to_any_line_of_play(side):
    page, ends = page_with(side=side), []

    def walk(moves):
        page.set({"moves": moves})
        state = page.state()["board"]
        if state["over"]:
            ends.append(state["result"] if side == "first" else -state["result"])
            return
        for text in page.line.legal_texts()[:4]:  # four replies a position
            walk(f"{state['moves']} {text}".strip())

    walk("")
    assert max(ends) <= 0 and len(ends) > 8 and min(ends) == -1


def test_both_sides_at_their_best_draw_tic_tac_toe():
    page = page_with()
    page.do("episode")
    while page.playing:
        assert page.tick()
    board = page.state()["board"]
    assert board["over"] and board["result"] == 0 and len(page.settings["moves"].split()) == 9
    assert page.state()["verdict"] == "The game is drawn."


# --- Nim by its theorem, Connect Four by its rules


def test_nim_is_won_exactly_where_the_heaps_sum_to_something():
    page = page_with(game="nim", opponent="nobody", moves="4-5 3-2")  # 1 3 3 2: xor 3
    for o in page.state()["options"]:
        heaps = [1, 3, 3, 2]
        heap, taken = (int(x) for x in o["text"].split("-"))
        heaps[heap - 1] -= taken
        left = heaps[0] ^ heaps[1] ^ heaps[2] ^ heaps[3]
        assert o["value"] == (1 if left == 0 else -1)
        assert o["place"] == (heap - 1, heaps[heap - 1])


def test_connect_four_says_in_how_many_moves_it_is_won():
    page = page_with(game="connect_four", opponent="nobody", moves="1 2 1 2 1 3 2 3 5 6 7 6")
    assert option(page, "1")["value"] == 1 and option(page, "1")["plies"] == 1  # the fourth stone of column 1
    page.set({"moves": "1 2 1 2 1 3 2 3 5 6"})
    assert option(page, "1")["plies"] == 1
    page.set({"moves": "1 7 1 7 1 2 2 7 5 5"})  # 1 wins at once, and so would 7 for the other side
    assert [o["text"] for o in page.state()["options"] if o["best"]] == ["1"]
    page.do("step")
    assert page.state()["board"]["result"] == 1.0


@pytest.mark.parametrize("plies", [18, 25, 32])
def test_the_moves_to_the_end_of_connect_four_are_those_that_best_play_takes(plies):
    rng, game = np.random.default_rng(plies), ConnectFour()
    solver, seen = Solver(game), 0
    while seen < 5:
        line = Line(game, "")
        while len(line.actions) < plies and not line.over:
            line.play(int(rng.choice(np.flatnonzero(line.mask))))
        if line.over:
            continue
        known = solver(line.state)
        promised, value, mover = int(known.plies[known.best].max()), known.value, line.mover
        start = len(line.actions)
        while not line.over:
            line.play(int(rng.choice(np.flatnonzero(solver(line.state).best))))
        assert line.result == value * (1 if mover == 0 else -1)
        assert value == 0 or len(line.actions) - start == promised
        seen += 1


def test_the_opening_of_connect_four_is_the_book_s():
    page = page_with(game="connect_four")
    assert [o["value"] for o in page.state()["options"]] == [-1, -1, 0, 1, 0, -1, -1]
    assert "X wins" in page.state()["verdict"]
    assert Solver(ConnectFour())(Line(ConnectFour(), "1 1 2 2 3 5 6").state) is None  # nobody waits for minutes


def test_superko_forbids_a_position_to_come_back():
    line = Line(Go(), "B9 C9 A8 D8 B7 C7 C8 B8")  # white takes the stone at C8
    assert line.game.board(line.state)[1, 2] == 0 and not line.problem
    assert not line.mask[line.game.text_to_action("C8")]


@pytest.mark.parametrize("name", GAMES)
def test_every_move_has_a_place_of_its_own(name):
    game = GAMES[name].make()
    line = Line(game, "")
    for _ in range(4):
        places = [place(game, line.state, int(a)) for a in np.flatnonzero(line.mask)]
        drawn = [p for p in places if p is not None]
        assert len(set(drawn)) == len(drawn) >= len(places) - 1
        board = game.board(line.state)
        if not isinstance(game, Nim):
            assert all(board[p] == 0 for p in drawn)
        line.play(int(np.flatnonzero(line.mask)[-2 if line.mask.sum() > 1 else 0]))


# --- the search


@pytest.mark.parametrize(
    "changes",
    [{"moves": "b2 a1", "opponent": "nobody", "simulations": 333},
     pytest.param({"thinker": "alphazero", "moves": "b2 a1", "seed": 4, "opponent": "nobody"}, marks=pytest.mark.slow),
     {"game": "connect_four", "moves": "4 4 4", "opponent": "nobody"},
     pytest.param({"game": "othello", "simulations": 50}, marks=pytest.mark.slow)],
)  # fmt: skip
def test_the_search_shown_is_the_one_of_the_python_shown(changes):
    page, names = page_with(**changes), {}
    exec(page.code()["python"].replace("print(", "(lambda *_: None)("), names)
    legal = np.flatnonzero(page.line.mask)
    shown = [o["visits"] for o in page.state()["options"]]
    np.testing.assert_array_equal(names["result"].visits[0, legal], shown)
    assert sum(shown) == page.settings["simulations"]


@pytest.mark.slow
def test_a_network_has_priors_and_rollouts_have_none():
    rollouts, network = page_with().state(), page_with(thinker="alphazero").state()
    assert all(o["prior"] is None for o in rollouts["options"])
    assert sum(o["prior"] for o in network["options"]) == pytest.approx(1, abs=1e-6)
    assert page_with(thinker="alphazero", game="nim").state()["search"]["trained"] is False


def test_the_course_of_a_game_is_for_the_first_player():
    page = page_with(opponent="nobody", moves="a1 b1 b2 c3 a3 b3 a2")
    assert page.state()["board"]["result"] == 1
    exact = page.state()["course"]["exact"]
    assert exact[0] == 0 and exact[2] == 1 and exact[-2:] == [1, 1]  # b1 was the mistake
    searched = page.state()["course"]["searched"]
    assert len(exact) == len(searched) == 8 and searched[-1] == 1
    assert searched[-2] == 1 and searched[5] > 0.5  # X wins at once; O, to move before, knows that, too


# --- lines, and what is done with them


def test_another_game_begins_anew_and_a_line_that_cannot_be_played_is_told():
    page = page_with(moves="b2")
    page.set({"game": "connect_four"})
    assert page.settings["moves"] == ""
    page.set({"moves": "4 9"})
    assert "9" in page.state()["problem"] and page.state()["board"]["ply"] == 1
    with pytest.raises(Refused):
        page.do("step")
    page.set({"moves": "4 4 4 4 4 4 4", "opponent": "nobody"})
    assert "cannot be played as move 7" in page.state()["problem"]
    page.do("undo")
    assert page.state()["problem"] == "" and page.settings["moves"] == "4 4 4 4 4"


def test_taking_back_takes_the_answer_back_too():
    page = page_with(moves="b2")
    assert len(page.settings["moves"].split()) == 2
    page.do("undo")
    assert page.settings["moves"] == ""
    page = page_with(side="second")
    first = page.settings["moves"]
    page.set({"moves": f"{first} {page.line.legal_texts()[0]}"})
    assert len(page.settings["moves"].split()) == 3
    page.do("undo")
    assert page.settings["moves"] == first


NETWORKS = [pytest.param(name, marks=pytest.mark.slow) for name in ("alphazero", "raw")]  # loading one takes seconds


@pytest.mark.parametrize("opponent", ["perfect", "rollouts", "random", *NETWORKS])
def test_the_same_settings_are_the_same_picture(opponent):
    page = page_with(opponent=opponent, seed=3, simulations=40)
    for _ in range(2):
        page.do("step")
    again = page_with(**page.settings)
    assert encode(again.state()) == encode(page.state())
    assert json.loads(encode(page.state()))["board"]["ply"] >= 4


def test_playing_ends_with_the_game():
    page = page_with(game="nim", speed=20)
    page.do("play")
    for _ in range(200):
        page.tick()
    assert page.line.over and not page.playing


@pytest.mark.parametrize("game", GAMES)
@pytest.mark.parametrize("opponent", ["perfect", NETWORKS[0]])
def test_every_opponent_answers_in_every_game(game, opponent):
    page = page_with(game=game, opponent=opponent, side="second", simulations=20)
    assert page.line.mover == 1 and len(page.line.actions) == 1
    assert page.code()["command"].startswith(f"sb3-lecture enjoy --env {GAMES[game].env} --human")
