"""Pictures of every page, by the system's Chromium: for the documentation, and for looking at every size and theme."""

import argparse
import itertools
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sb3_lecture.lab.pages import PAGES

#: name → width, height, theme
SIZES: dict[str, tuple[int, int, Any]] = {
    "": (1280, 720, "light"),
    "_dark": (1280, 720, "dark"),
    "_phone": (360, 740, "light"),
    "_4k": (3840, 2160, "dark"),
}
#: state in which a page is shown, as its permalink has it; default: as it opens
STATES = {
    "treasure_line": "#steps=150&alpha=0.3",
    "boards": "#game=connect_four&moves=4+4+4+6+4+4+6+3+3+3+3+3+7+7",
    "planning": "#world=four-rooms&steps=9&slip=0.1",
    "cliff": "#alpha=0.1&steps=30000&runs=10",
    "bandits": "#method=ucb&steps=150",
    "random_walk": "#steps=100&runs=20",
    "runs": "#window=50&run=0",
    "search_tree": "#leaves=network&steps=48&moves=b2+b1",
}


def main(argv: Sequence[str]) -> int:
    """Take the pictures.

    :param argv: ``--folder docs``, ``--all-sizes``, names of pages (default: all)
    """
    parser = argparse.ArgumentParser(description="Take pictures of the lab's pages.")
    parser.add_argument("pages", nargs="*", default=list(PAGES), help=f"of {', '.join(PAGES)} (default: all)")
    parser.add_argument("--folder", type=Path, default=Path("docs"), help="where to put lab_<page>.png (default docs)")
    parser.add_argument("--log-folder", help="runs for the page of runs (default: some are trained for it)")
    parser.add_argument("--all-sizes", action="store_true", help="1280 × 720 in both themes, 360 wide, 4k")
    args = parser.parse_args(argv)
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        parser.error("no Chromium on this machine: apt-get install chromium")
    from playwright.sync_api import sync_playwright

    place = tempfile.TemporaryDirectory()
    logs = args.log_folder or place.name
    command = [sys.executable, "-c", "import sys; from sb3_lecture.zoo.cli import main; sys.exit(main(sys.argv[1:]))"]
    if "runs" in args.pages and args.log_folder is None:
        for algo, seed in itertools.product(("sarsa", "q_learning"), range(4)):
            words = [
                "train",
                "--algo",
                algo,
                "--env",
                "Lecture/CliffWalking-v0",
                "--seed",
                str(seed),
                "-n",
                "20000",
                "-f",
                logs,
            ]
            subprocess.run([*command, *words, "--no-progress"], check=True, stdout=subprocess.DEVNULL)
    words = ["lab", "--no-browser", "--port", "0", "-f", logs]
    server = subprocess.Popen([*command, *words], stdout=subprocess.PIPE, text=True)
    assert server.stdout is not None
    try:
        found = re.search(r"http://\S+", server.stdout.readline())
        assert found is not None
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            for suffix, (width, height, theme) in SIZES.items() if args.all_sizes else [("", SIZES[""])]:
                context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=theme)
                tab = context.new_page()
                tab.goto(found.group())
                for name in args.pages:
                    tab.goto(f"{found.group().split('/?')[0]}/page/{name}{STATES.get(name, '')}")
                    tab.wait_for_selector("main[data-ready=true]", timeout=120_000)
                    tab.wait_for_function("() => window.lab.connected && !window.lab.busy")
                    tab.wait_for_timeout(1000)
                    path = args.folder / f"lab_{name}{suffix}.png"
                    tab.screenshot(path=path, full_page=width < 900)
                    print(path)
                context.close()
            browser.close()
    finally:
        server.terminate()
        server.wait()
        place.cleanup()
    return 0
