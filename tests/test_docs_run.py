"""What the pages show runs: how-to pages as a reader follows them, the notebooks, and (slow) every command for a moment."""

import re
import runpy
import sys

import matplotlib
import pytest
from doc_blocks import COMMANDS, DOCS, blocks

from sb3_lecture.zoo import cli

NAMED = re.compile(r"# (my_\w+\.(?:py|yml))\n")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A new folder, whose modules can be imported and are forgotten afterwards."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    before = set(sys.modules)
    yield tmp_path
    for name in {name for name in sys.modules if name.startswith("my_")} - before:
        del sys.modules[name]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("page", sorted(path.stem for path in DOCS.glob("howto/*.md") if path.stem != "index"))
def test_a_how_to_page_runs_as_it_is_read(page, folder):
    names = {}
    for _, code in blocks(DOCS / "howto" / f"{page}.md", "python", "yaml"):
        if named := NAMED.match(code):
            (folder / named[1]).write_text(code)
        else:
            exec(compile(code, f"{page}.md", "exec"), names)
    if page == "own_world":
        assert (
            cli.main(["train", "--algo", "q_learning", "--env", "my_worlds:My/Corner-v0", "--conf-file", "my_worlds.yml"]) == 0
        )
        assert list(folder.glob("logs/q_learning/My-Corner-v0_1/value_map.png"))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("notebook", sorted(path.name for path in DOCS.glob("notebooks/*.py")))
def test_a_notebook_runs(notebook, folder):
    matplotlib.use("Agg")
    names = runpy.run_path(str(DOCS / "notebooks" / notebook))
    assert names["line"].q_table.argmax(axis=1)[:-1].tolist() == [1] * (len(names["line"].q_table) - 1)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize(("words", "where"), [pytest.param(*item, id=item[1]) for item in COMMANDS if item[0][0] == "train"])
def test_every_documented_training_runs_for_a_moment(words, where, folder):
    long = ("--resume", "--study", "--conf-file", "-conf", "-i", "--track", "--tensorboard-log", "--render-training")
    if set(words) & set(long):
        pytest.skip("needs what the page made before, or an account")
    words = list(words)
    if "-n" in words:
        del words[words.index("-n") : words.index("-n") + 2]
    assert cli.main([*words, "-n", "40", "--eval-freq", "-1", "--no-progress", "--checkpoint-every", "-1"]) == 0
