"""A browser plays the boards."""

import pytest
from lab_helpers import click, settled, state

from sb3_lecture.lab.board_line import GAMES, Line

pytestmark = pytest.mark.usefixtures("chromium")


def cell(page, row, column):
    """The middle of a cell, on the canvas, as ``boards.js`` lays it out."""
    box = page.locator(".canvas canvas").bounding_box()
    board = state(page, "board")
    heaps = board["drawn"] == "heaps"
    rows = len(board["cells"][0]) if heaps else len(board["cells"])
    columns = max(7, *board["cells"][0]) if heaps else len(board["cells"][0])
    rim = 0 if heaps else 22
    size = int(min((box["width"] - 12 - rim) / columns, (box["height"] - 8 - rim) / rows, max(150, box["height"] * 0.3)))
    left, top = int((box["width"] - size * columns + rim) / 2), int((box["height"] - size * rows - rim) / 2)
    return box["x"] + left + (column + 0.5) * size, box["y"] + top + (row + 0.5) * size


def test_a_whole_tic_tac_toe_against_the_perfect_player_is_drawn(tab):
    page = tab("boards", "#seed=5")
    while not state(page, "board", "over"):
        best = next(o for o in state(page, "options") if o["best"])
        page.mouse.click(*cell(page, *best["place"]))
        settled(page)
    assert state(page, "board", "result") == 0 and "drawn" in page.locator("[data-figure=verdict]").text_content()
    game = GAMES["tic_tac_toe"].make()
    line = Line(game, state(page, "settings", "moves"))
    assert line.over and line.result == 0 and len(line.actions) == 9
    click(page, "undo")
    assert not state(page, "board", "over")


@pytest.mark.slow
def test_a_blunder_loses_to_the_perfect_player_and_the_page_says_so(tab):
    page = tab("boards", "#moves=a1")
    while not state(page, "board", "over"):
        worst = min(state(page, "options"), key=lambda o: o["value"])
        page.locator(f"[data-move={worst['text']}]").click()
        settled(page)
    assert page.locator("[data-figure=verdict]").text_content() == "O has won."
    assert state(page, "course", "exact")[0] == 0 and state(page, "course", "exact")[-1] == -1


@pytest.mark.parametrize(
    "game", [pytest.param(name, marks=[] if name == "nim" else pytest.mark.slow) for name in GAMES]
)  # two seconds each
def test_every_game_is_played_by_mouse_and_by_keyboard(tab, game):
    page = tab("boards", "#opponent=nobody&simulations=50")
    page.locator("[data-control=game]").select_option(game)
    settled(page)
    first = next(o for o in state(page, "options") if o["place"])
    page.mouse.click(*cell(page, *first["place"]))
    settled(page)
    assert state(page, "settings", "moves") == first["text"]
    wanted = next(o for o in state(page, "options") if o["place"])["place"]
    canvas = page.locator(".canvas canvas")
    canvas.focus()
    for key, count in (("ArrowUp", 9), ("ArrowLeft", 9), ("ArrowDown", wanted[0]), ("ArrowRight", wanted[1])):
        for _ in range(count):
            canvas.press(key)
    assert "simulations" in page.locator(".readout").text_content()
    canvas.press("Enter")
    settled(page)
    assert state(page, "board", "ply") == 2
    for show in ("visits", "value", "prior", "none", "exact"):
        page.locator(f"[data-show={show}]").click()
    settled(page)


def test_the_equation_shows_the_search_s_numbers(tab):
    page = tab("boards", "#game=nim&simulations=100")
    most = max(state(page, "options"), key=lambda o: o["visits"])
    shown = page.locator("[data-term='Q, mean result'] span").text_content().replace("−", "-")
    assert float(shown) == pytest.approx(most["q"], abs=5e-4)
    exact = page.locator(f"[data-term='−v(after {most['text']})'] span").text_content().replace("−", "-")
    assert float(exact) == most["value"]


def test_a_permalink_is_a_position(tab):
    page = tab("boards", "#game=connect_four&moves=4%204%204&opponent=nobody")
    assert state(page, "board", "ply") == 3 and state(page, "settings", "moves") == "4 4 4"
    assert page.locator("[data-control=moves]").input_value() == "4 4 4"
    page.locator("[data-control=moves]").fill("4 4 9")
    page.locator("[data-control=moves]").press("Enter")
    page.wait_for_function("() => !document.querySelector('.problem').hidden")
    assert "9" in page.locator(".problem").text_content()


def test_a_search_tree_grows_by_clicks_and_shows_its_numbers(tab):
    page = tab("search_tree", "#moves=a1+b1")
    for n in (1, 2, 3):
        click(page, "step")
        assert sum(state(page, "tree", "visits")[0]) == n
    shown = page.locator("[data-term='G, carried back'] span").text_content().replace("−", "-")
    assert float(shown) == pytest.approx(state(page, "last")[0]["g"], abs=5e-4)
    click(page, "episode")
    rows = page.locator("table tbody tr").all_text_contents()
    assert len(rows) == 7 and page.locator("tr.next").count() == 1
    canvas = page.locator(".canvas canvas")
    canvas.focus()
    canvas.press("ArrowDown")  # to the root's first child
    assert "Node" in page.locator("caption").text_content()
    canvas.press("ArrowUp")
    assert "root" in page.locator("caption").text_content()
    optimal = state(page, "tree", "exact")[0][state(page, "tree", "chosen")] == 1.0
    assert ("optimal" if optimal else "mistake") in page.locator(".readout").text_content()
    click(page, "move")
    assert state(page, "settings", "moves").startswith("a1 b1 ") and state(page, "settings", "steps") == 0
