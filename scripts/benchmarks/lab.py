"""The lab in a browser: from a slider's movement to the redrawn picture, and what the server costs while a page plays.

Debian's Chromium, headless, through playwright, beside the server on all cores, whatever ``--threads`` says. The bounds are
those for two idle cores: 50 ms (20 pictures a second), 30 pictures a second at a tenth of a core.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks._measure import REPEATS, Row

#: page → the slider that is dragged, and where the page stands
DRAGGED = {
    "treasure_line": ("alpha", "#steps=2000"),
    "gridworld": ("alpha", ""),
    "planning": ("gamma", "#learner=dyna_q&steps=500"),
    "cliff": ("alpha", ""),
    "bandits": ("epsilon", ""),
    "random_walk": ("alpha", ""),
    "boards": ("simulations", "#moves=b2"),
    "search_tree": ("explore", "#steps=64"),
}
MOVES = 10  # of the slider in one repeat
PLAYED = 3.0  # seconds of a repeat
DRAG = """async ([name, moves]) => {
  const [range, model] = [document.querySelector(`[data-control=${name}]`), window.lab];
  let free = () => {};
  model.on("busy", (busy) => { if (!busy) free(); });
  const step = (Number(range.max) - Number(range.min)) / 37;
  const start = performance.now();
  for (let i = 0; i < moves; i++) {
    const answered = new Promise((done) => { free = done; });
    const value = Number(range.value) + step;
    range.value = String(value > Number(range.max) ? Number(range.min) + step : value);
    range.dispatchEvent(new Event("input"));
    await answered;
    await new Promise((done) => requestAnimationFrame(() => setTimeout(done)));  // the picture is on the canvas
  }
  return (performance.now() - start) / moves;
}"""
COUNT = """async (seconds) => {
  const [canvas, start] = [document.querySelector(".canvas canvas"), performance.now()];
  const first = Number(canvas.dataset.drawn);
  await new Promise((done) => setTimeout(done, 1000 * seconds));
  return (Number(canvas.dataset.drawn) - first) / ((performance.now() - start) / 1000);
}"""


def rows() -> Iterator[Row]:
    """Yield a row for every page that is dragged, and two for one that plays."""
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None or importlib.util.find_spec("playwright") is None:
        print("The lab is left out: it needs Chromium (apt-get install chromium) and playwright.", file=sys.stderr)
        return
    from playwright.sync_api import sync_playwright

    if hasattr(os, "sched_setaffinity"):
        pinned = os.sched_getaffinity(0)
        os.sched_setaffinity(0, range(os.cpu_count() or 1))  # server and browser inherit it
    code = "import sys; from sb3_lecture.zoo.cli import main; sys.exit(main(sys.argv[1:]))"
    words = [sys.executable, "-c", code, "lab", "--no-browser", "--port", "0"]
    server = subprocess.Popen(words, stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        found = re.search(r"http://\S+", server.stdout.readline())
        assert found is not None
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            tab = browser.new_page(viewport={"width": 1280, "height": 720})
            tab.goto(found.group())

            def show(name: str, state: str) -> None:
                tab.goto(f"{found.group().split('/?')[0]}/page/{name}{state}")
                tab.reload()  # a change after # alone loads nothing
                tab.wait_for_selector("main[data-ready=true]", timeout=300_000)
                tab.wait_for_function("() => window.lab.connected && !window.lab.busy", timeout=300_000)

            for name, (slider, state) in DRAGGED.items():
                show(name, state)
                tab.evaluate(DRAG, [slider, MOVES])  # compiles
                times = [tab.evaluate(DRAG, [slider, MOVES]) for _ in range(REPEATS)]
                yield Row(f"the lab, {name}: slider to redrawn picture", "pictures/s", [1000 / ms for ms in times], [], 20)
            show("gridworld", "#steps=0&speed=300")
            tab.locator("[data-do=play]").click()
            frames, idle = [], []
            for _ in range(REPEATS):
                before, start = cpu_seconds(server.pid), time.perf_counter()
                frames.append(tab.evaluate(COUNT, PLAYED))
                spent = max(cpu_seconds(server.pid) - before, 1e-3)
                idle.append((time.perf_counter() - start) / spent)
            yield Row("the lab, gridworld playing", "pictures/s", frames, [], 29)
            yield Row("the same: seconds to a CPU second of the server", "s/s", idle, [], 10)
            browser.close()
    finally:
        server.terminate()
        server.wait()
        if hasattr(os, "sched_setaffinity"):
            os.sched_setaffinity(0, pinned)


def cpu_seconds(pid: int) -> float:
    """CPU time of a process so far, its threads' included."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
