"""A browser on the pages of planning and learning."""

import pytest
from lab_helpers import click, settled, state

pytestmark = pytest.mark.usefixtures("chromium")


def number(text):
    return float(text.replace("−", "-").replace(",", ""))


def test_planning_shows_the_backup_with_its_numbers(tab):
    page = tab("planning", "#steps=4&slip=0.1")
    terms = page.locator(".equation .term")
    name = terms.first.locator("b").text_content()
    s = int(name[2:-1])
    assert number(terms.first.locator("span").text_content()) == pytest.approx(state(page, "values")[s], abs=5e-4)
    shown = [number(terms.nth(i).locator("span").text_content()) for i in range(1, 5)]
    assert shown == pytest.approx(state(page, "q")[s], abs=5e-4) and max(shown) == pytest.approx(
        state(page, "values")[s], abs=1e-3
    )
    page.locator("[data-control=learner]").select_option("policy_iteration")
    settled(page)
    for _ in range(30):
        click(page, "episode")
        if state(page, "converged"):
            break
    assert "optimum" in page.locator(".readout").text_content()
    assert page.locator("[data-figure=regret]").text_content() == "0"


def test_the_cliff_shows_the_exact_values_of_both(tab):
    page = tab("cliff", "#alpha=0.1&steps=20000")
    sides = state(page, "sides")
    for side in ("learner", "other"):
        shown = number(page.locator(f"[data-figure=online-{side}]").text_content())
        assert shown == pytest.approx(sides[side]["online"], abs=0.051)
    assert page.locator("[data-figure=greedy-best]").text_content() == "−13"
    canvas = page.locator(".canvas canvas")
    canvas.focus()
    for _ in range(5):
        canvas.press("ArrowDown")  # from one cliff to the other
    assert page.locator(".readout").text_content().startswith("Q-learning, row 1")
    assert page.locator(".equation").count() == 2


def test_a_bandit_s_update_stands_in_numbers(tab):
    page = tab("bandits", "#method=thompson&steps=0")
    click(page, "step")
    last = state(page, "last")
    assert number(page.locator("[data-term='r'] span").text_content()) == pytest.approx(last["reward"], abs=5e-4)
    assert number(page.locator("[data-term='1 / (N + 1/σ²)'] span").text_content()) == 0.5
    click(page, "episode")
    assert sum(state(page, "counts")) == 101
    assert number(page.locator("[data-figure=regret]").text_content()) == pytest.approx(state(page, "regret"), abs=0.051)


def test_the_random_walk_shows_its_error(tab):
    page = tab("random_walk", "#method=mc&steps=9")
    click(page, "step")
    last = state(page, "last")
    assert number(page.locator("[data-term='G, the return'] span").text_content()) == last["reward"]
    assert number(page.locator(f"[data-term='V({last['state']})'] span").text_content()) == pytest.approx(
        last["new"], abs=5e-5
    )
    shown = page.locator(".readout").text_content()
    assert f"TD(0) {state(page, 'errors', 'td')[-1]:.3f}" in shown and shown.startswith("10 episodes")
