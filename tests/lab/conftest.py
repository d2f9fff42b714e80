"""A lab in a process of its own, and Debian's Chromium to look at it."""

import shutil

import pytest
from lab_helpers import Lab, settled

from sb3_lecture.lab import pages

for package in ("starlette", "uvicorn", "websockets"):
    pytest.importorskip(package, reason=f"the lab needs {package}: pip install 'sb3-lecture[lab]'")


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """One lab for all tests of a process."""
    lab = Lab(tmp_path_factory.mktemp("state"))
    pages.OPTIONS["logs"] = str(lab.folder / "logs")  # what pages of the tests' own look at, too
    yield lab
    lab.stop()


@pytest.fixture(scope="session")
def chromium():
    """The system's Chromium, driven by playwright."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    path = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if path is None:
        pytest.skip("no Chromium on this machine: apt-get install chromium")
    with playwright.sync_playwright() as running:
        browser = running.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture
def tab(lab, chromium):
    """Opens pages of the lab; afterwards, there was no error in the console and no request to another host."""
    opened, wrong = [], []

    def open_page(name, hash_="", width=1280, height=720, forgive=(), **context):
        where = chromium.new_context(viewport={"width": width, "height": height}, **context)
        opened.append(where)
        page = where.new_page()
        page.on("console", lambda m: wrong.append(m.text) if m.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on("request", lambda r: None if r.url.startswith((lab.base, "data:", "blob:")) else wrong.append(r.url))
        page.goto(lab.url)
        page.goto(f"{lab.base}/page/{name}{hash_}")
        page.wait_for_selector("main[data-ready=true]", timeout=120_000)
        settled(page)
        return page

    open_page.wrong = wrong
    yield open_page
    for context in opened:
        context.close()
    assert wrong == []
