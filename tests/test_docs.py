"""The site takes every page, world and algorithm in, and what the pages say to type can be typed."""

import ast
import importlib
import importlib.util
import re
import sys

import pytest
from doc_blocks import COMMANDS, DOCS, PAGES, ROOT, blocks, indexed

import sb3_lecture_envs
from sb3_lecture.zoo import cli, registry, train
from sb3_lecture.zoo.options import import_packages, resolve_env


def generator():
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules["docs_generate"] = module
    spec.loader.exec_module(module)
    return module


def test_every_page_has_its_place():
    generate = generator()
    places = generate.page_places(DOCS)
    assert set(places) == {path.stem for path in DOCS.glob("*.md")} - {"index"}
    assert (places["q_learning"], places["cmaes"], places["evolution_strategies"]) == (
        "tabular",
        "evolutionary",
        "evolutionary",
    )
    assert (places["benchmarks_deep"], places["board_games"], places["zoo"]) == ("results", "worlds", "guides")
    assert (places["deadly_triad"], places["mcts"], places["cfr"]) == ("topics", "search", "games")


def test_every_algorithm_of_ours_has_a_page():
    places = generator().page_places(DOCS)
    for name, row in registry.ALGORITHMS.items():
        if row.target.startswith("sb3_lecture."):
            assert places.get(name) or places.get(row.target.split(":")[0].split(".")[-1]), f"{name} has no page in docs/"


@pytest.mark.parametrize("env_id", sb3_lecture_envs.WORLDS)
def test_a_worlds_page_has_gymnasiums_sections(env_id):
    generate = generator()
    module, name, limit = sb3_lecture_envs.WORLDS[env_id]
    page = generate.world_page(env_id, getattr(importlib.import_module(f"sb3_lecture_envs.{module}"), name), limit, "")
    sections = re.findall(r"^## (.*)", page, re.MULTILINE)
    assert sections == [
        "Description", "Action Space", "Observation Space", "Rewards", "Starting State", "Episode End", "Arguments",
        "Version History",
    ]  # fmt: skip
    assert ":raises" not in page and f'gym.make("sb3_lecture_envs:{env_id}")' in page


def anchors(path):
    """The anchors that GitHub and MyST give to a page's headings."""
    titles = re.findall(r"^#+ (.*)", path.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def test_the_index_of_demos_leads_to_headings_that_exist():
    assert len(indexed()) >= 13
    for links, _ in indexed():
        for link in links:
            page, _, anchor = link.partition("#")
            assert (ROOT / page).is_file() and (not anchor or anchor in anchors(ROOT / page)), link


def test_every_figure_is_made_by_a_command_that_its_page_shows():
    spec = importlib.util.spec_from_file_location("docs_figures", DOCS / "figures.py")
    figures = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(figures)
    shown = set()
    for path in DOCS.glob("lectures/*.md"):
        for name in re.findall(r"\.\./figures/([\w.]+)", path.read_text()):
            shown.add(name)
            assert figures.FIGURES[name][0] in path.read_text(), f"{path} does not say how {name} is made"
    assert shown == set(figures.FIGURES) == {path.name for path in (DOCS / "figures").iterdir()}


def test_the_pages_hold_commands():
    assert len(COMMANDS) > 60


@pytest.mark.parametrize(("words", "where"), [pytest.param(*item, id=item[1]) for item in COMMANDS])
def test_every_documented_command_is_one(words, where, tmp_path, monkeypatch):
    """Its options exist, and so do its algorithm, its env, the config's entry and the hyperparameters."""
    monkeypatch.chdir(tmp_path)
    words = [" ".join(words[:2]), *words[2:]] if " ".join(words[:2]) in cli.COMMANDS else list(words)
    if words[0] in ("gtp", "--help") or "--help" in words:
        return
    args = cli._parser(words[0]).parse_args(words)
    if words[0] == "train" and args.resume is None and not args.study and not args.conf_file and not args.trained_agent:
        train.complete(args)
        from sb3_lecture.zoo import configs

        configs.check_hyperparameters(args.algo, args.hyperparams or {}, where)
        configs.check_values(args.hyperparams or {}, where)
    elif getattr(args, "env", None):
        import_packages([])
        resolve_env(args.env)
    for algo in [args.algo] if getattr(args, "algo", None) else getattr(args, "algos", []):
        assert algo in registry.ALGORITHMS or (words[0], algo) == ("record", "random")


SNIPPETS = [(f"{path.relative_to(ROOT)}:{line}", code) for path in PAGES for line, code in blocks(path, "python", "py")]


@pytest.mark.parametrize(("where", "code"), [pytest.param(*item, id=item[0]) for item in SNIPPETS])
def test_every_snippet_is_python_whose_imports_exist(where, code):
    for node in ast.walk(ast.parse(code, where)):
        modules = [a.name for a in node.names] if isinstance(node, ast.Import) else []
        if isinstance(node, ast.ImportFrom) and node.module:
            modules = [node.module]
        for module in modules:
            if module.split(".")[0] not in ("sb3_lecture", "sb3_lecture_envs"):
                continue
            loaded = importlib.import_module(module)
            for alias in node.names if isinstance(node, ast.ImportFrom) else []:
                assert hasattr(loaded, alias.name) or importlib.util.find_spec(f"{module}.{alias.name}"), (where, alias.name)
