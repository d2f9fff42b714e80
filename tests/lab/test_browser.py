"""A real browser opens the pages, moves every control, paints, plays, reloads, and loses its server."""

import json
import re

import pytest
from lab_helpers import Lab, click, move, settled, state

from sb3_lecture.lab.pages import PAGES, make_page
from sb3_lecture.lab.pages.gridworld import PRESETS

pytestmark = pytest.mark.usefixtures("chromium")


def expected(page):
    """What a page without a browser shows for the same settings."""
    twin = make_page(page.url.split("/page/")[1].split("#")[0])
    twin.set(state(page, "settings"))
    return twin.state()


def same_table(page):
    assert state(page, "learned", "q") == json.loads(json.dumps(json.loads(encoded(expected(page)))["learned"]["q"]))


def encoded(value):
    from sb3_lecture.lab.page import encode

    return encode(value)


@pytest.mark.parametrize("name", PAGES)
def test_every_page_fits_its_window(tab, name):
    page = tab(name, color_scheme="light")
    for width, height, scheme in ((1280, 720, "light"), (360, 740, "light"), (3840, 2160, "light"), (1280, 720, "dark")):
        page.set_viewport_size({"width": width, "height": height})
        if scheme == "dark":
            page.locator("#theme").click()
        settled(page)
        inner = page.evaluate("[document.documentElement.scrollWidth, document.documentElement.scrollHeight]")
        assert inner[0] <= width and (width == 360 or inner[1] <= height), (width, inner)
        assert page.evaluate("document.documentElement.dataset.theme") == scheme
        small = page.evaluate(
            "[...document.querySelectorAll('body *')].filter((e) => e.checkVisibility() &&"
            " [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())"
            " && parseFloat(getComputedStyle(e).fontSize) < 12).map((e) => e.outerHTML)"
        )
        assert small == []
        cut = page.evaluate(
            "[...document.querySelectorAll('main button, main select, main input, main .term')].filter((e) =>"
            " e.checkVisibility() && (e.getBoundingClientRect().right > innerWidth + 1)).map((e) => e.outerHTML)"
        )
        assert cut == []


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[] if name in ("gridworld", "boards") else pytest.mark.slow) for name in PAGES]
)  # two to three seconds each
def test_every_control_moves_and_has_a_name(tab, name):
    page = tab(name)
    for control in page.evaluate("window.lab.hello.controls"):
        locator = page.locator(f"[data-control={control['name']}]")
        if control["kind"] == "choice":
            for value in control["options"]:
                locator.select_option(value)
                settled(page)
                assert state(page, "settings", control["name"]) == value
        elif control["kind"] == "number" and locator.is_enabled():
            before = state(page, "settings", control["name"])
            move(page, control["name"], -1 if before == control["high"] else 1)
            after = state(page, "settings", control["name"])
            assert after != before and control["low"] <= after <= control["high"]
            assert locator.get_attribute("aria-valuetext")
    assert page.evaluate("window.lab.state") == json.loads(encoded(expected(page)))
    nameless = page.evaluate(
        "[...document.querySelectorAll('button, input, select, textarea, canvas, [role=img]')].filter((e) =>"
        " !(e.textContent.trim() || e.closest('[role=img][aria-label]')"
        " || e.labels?.length || e.getAttribute('aria-label'))).map((e) => e.outerHTML)"
    )
    assert nameless == []


@pytest.mark.parametrize("name", ["treasure_line", "gridworld"])
def test_step_episode_reset_and_the_lit_equation(tab, name):
    page = tab(name)
    click(page, "reset")
    assert state(page, "settings", "steps") == 0 and state(page, "learned", "transition") is None
    click(page, "step")
    assert state(page, "settings", "steps") == 1
    assert page.locator(".term.lit").count() >= 1
    click(page, "episode")
    t = state(page, "learned", "transition")
    assert t["terminated"] or t["truncated"]
    shown = page.locator("[data-term='δ, the TD error'] span").text_content().replace("−", "-")
    assert float(shown) == pytest.approx(t["delta"], abs=5e-5)
    same_table(page)


def test_playing_goes_on_until_paused_by_the_keyboard(tab):
    page = tab("treasure_line")
    page.locator("body").press(" ")
    page.wait_for_function("() => window.lab.state.settings.steps >= 5")
    page.locator("body").press(" ")
    page.wait_for_function("() => !window.lab.state.playing")
    settled(page)
    drawn = state(page, "settings", "steps")
    for key in "nn":
        page.locator("body").press(key)
    settled(page)
    assert state(page, "settings", "steps") == drawn + 2
    page.locator("body").press("r")
    settled(page)
    assert state(page, "settings", "steps") == 0


def cell(page, row, column):
    """The middle of a cell, on the canvas."""
    box = page.locator(".canvas canvas").bounding_box()
    rows = state(page, "grid", "rows")
    h, w = len(rows), len(rows[0])
    size = int(min((box["width"] - 4) / w, (box["height"] - 4) / h, max(130, box["height"] * 0.3)))
    left, top = int((box["width"] - size * w) / 2), int((box["height"] - size * h) / 2)
    return box["x"] + left + (column + 0.5) * size, box["y"] + top + (row + 0.5) * size


def test_painting_changes_the_world_and_the_exact_regret(tab):
    page = tab("gridworld")
    page.locator("[data-tool='#']").click()
    x, y = cell(page, 0, 1)
    page.mouse.move(x, y)
    page.mouse.down()
    page.mouse.move(*cell(page, 1, 1), steps=5)  # a stroke over two cells
    page.mouse.up()
    settled(page)
    assert state(page, "settings", "map") == "S#..\n.#P.\n.PG.\n...."
    page.locator("[data-tool=number]").click()
    page.mouse.click(*cell(page, 3, 0))
    settled(page)
    assert state(page, "settings", "map").splitlines()[3] == "-5 . . ."
    want = expected(page)["learned"]
    assert float(page.locator("[data-figure=regret]").get_attribute("data-exact")) == pytest.approx(
        want["regret"], rel=1e-6, abs=1e-9
    )
    same_table(page)


def test_a_map_without_a_goal_is_told_and_mended_by_the_keyboard(tab):
    page = tab("gridworld")
    canvas = page.locator(".canvas canvas")
    canvas.focus()
    for key in ["ArrowDown", "ArrowDown", "ArrowRight", "ArrowRight", "#", "ArrowLeft", "#", "ArrowUp", "ArrowRight", "#"]:
        canvas.press(key)
        settled(page)
    assert "No reachable terminal" in page.locator(".problem").text_content()
    canvas.press("g")
    settled(page)
    assert page.locator(".problem").is_hidden() and state(page, "grid", "rows")[1][2] == "G"
    assert "goal" in page.locator(".readout").text_content()


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_trains(tab, preset):
    page = tab("gridworld")
    page.locator("[data-control=preset]").select_option(preset)
    settled(page)
    assert (
        state(page, "settings", "map") == PRESETS[preset][1] and state(page, "settings", "step_reward") == PRESETS[preset][2]
    )
    for show in ("q", "visits", "traces", "optimum", "values"):
        page.locator(f"[data-show={show}]").click()
        settled(page)
    same_table(page)


def test_rows_and_columns_come_and_go(tab):
    page = tab("gridworld")
    for label in ("One row more", "One column more", "One column more", "One row less"):
        page.get_by_label(label, exact=True).click()
        settled(page)
    assert [len(row) for row in state(page, "grid", "rows")] == [6] * 4


def test_the_map_as_text_goes_both_ways(tab, tmp_path):
    page = tab("gridworld")
    page.locator("[data-do=map-text]").click()
    area = page.get_by_label("The map, one line a row")
    assert area.input_value() == PRESETS["maze"][1]
    with page.expect_download() as download:
        page.get_by_text("Save as a file").click()
    assert download.value.path().read_text() == PRESETS["maze"][1]
    path = tmp_path / "map.txt"
    path.write_text("S.-5\n..G")
    page.get_by_label("Load a map").set_input_files(path)
    page.wait_for_function("() => document.querySelector('textarea').value.startsWith('S.-5')")
    area.fill("S . -5\n. . G")
    click(page, "apply-map")
    assert state(page, "grid", "rows") == [["S", ".", "-5"], [".", ".", "G"]]
    page.locator("[data-do=code]").click()
    assert 'map:["S . -5", ". . G"]' in page.locator("[data-code=command]").text_content()


def test_a_permalink_brings_the_same_picture_back(tab):
    page = tab("gridworld")
    page.locator("[data-control=learner]").select_option("sarsa_lambda")
    page.locator("[data-control=preset]").select_option("cliff")
    move(page, "slip", 5)
    page.wait_for_function("() => location.hash.includes('slip=0.05')")
    link, learned = page.url, state(page, "learned")
    assert "token" not in link
    again = tab("gridworld", link[link.index("#") :])
    assert state(again, "learned") == learned
    again.reload()
    again.wait_for_selector("main[data-ready=true]")
    settled(again)
    assert state(again, "learned") == learned


@pytest.mark.parametrize("hash_", ["#alpha=7", "#map=xyz", "#steps=1e99&seed=-1", "#nothing=1", "#alpha=<b>"])
def test_a_wrong_permalink_is_told_or_ignored(tab, hash_):
    page = tab("gridworld", hash_)
    assert page.locator(".problem").is_visible() == (hash_ != "#nothing=1")


def test_two_browsers_do_not_mix(tab):
    one, two = tab("gridworld"), tab("gridworld")
    move(one, "seed", 3)
    move(two, "alpha", 2)
    assert state(one, "settings", "alpha") == 0.1 and state(two, "settings", "seed") == 0
    same_table(one)
    same_table(two)


def test_dragging_merges_what_the_server_has_not_seen(tab):
    page = tab("gridworld")
    sent = page.evaluate(
        "() => { const m = window.lab; let n = 0; const raw = m.raw.bind(m); m.raw = (x) => { n += 1; raw(x); };"
        " for (let i = 1; i <= 50; i++) { m.set('alpha', i / 100); m.save_changes(); } return n; }"
    )
    settled(page)
    assert sent == 1 and state(page, "settings", "alpha") == 0.5
    same_table(page)


def test_the_theme_is_kept(tab):
    page = tab("gridworld", color_scheme="light")
    page.locator("#theme").click()
    page.reload()
    page.wait_for_selector("main[data-ready=true]")
    assert page.evaluate("document.documentElement.dataset.theme") == "dark"
    settled(page)


@pytest.mark.slow
def test_a_page_finds_its_restarted_server_and_says_so(lab, tab):
    page = tab("treasure_line")
    move(page, "alpha", 5)
    page.locator("[data-do=play]").click()
    page.wait_for_function("() => window.lab.state.settings.steps >= 4")
    before = state(page, "settings", "steps")
    lab.restart()
    page.wait_for_function(
        "() => window.lab.connected && document.querySelector('#connection').textContent.includes('again; the run')"
    )
    page.wait_for_function(f"() => window.lab.state.playing && window.lab.state.settings.steps > {before}")
    click(page, "play")
    assert state(page, "settings", "alpha") == 0.15
    same_table(page)
    tab.wrong[:] = [text for text in tab.wrong if not re.search("WebSocket|ERR_CONNECTION", text)]


def test_the_start_page_leads_to_every_page(lab, chromium):
    page = chromium.new_page()
    page.goto(lab.url)
    page.wait_for_selector("main[data-ready=true]")
    assert page.url == f"{lab.base}/"
    assert page.locator("main .pages a").evaluate_all("(all) => all.map((a) => a.getAttribute('href'))") == [
        f"/page/{n}" for n in PAGES
    ]
    assert page.locator("main .pages p").evaluate_all("(all) => all.filter((p) => !p.textContent).length") == 0
    page.close()


def test_ctrl_c_ends_the_lab_and_says_so(tmp_path):
    lab = Lab(tmp_path)
    rest, code = lab.stop()
    assert code == 0 and "closed" in rest
