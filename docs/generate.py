"""Pages of the site that are read off the code: worlds, the reference, and the lists of what there is.

A new world, algorithm or page of docs/ falls into its place by itself: worlds by the table of ids, algorithms by their room,
pages that belong nowhere else under Topics.
"""

import ast
import importlib
import inspect
import re
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np

import sb3_lecture
import sb3_lecture_envs
from sb3_lecture.zoo import registry

#: rooms in the order of the lectures, and what their lists are called; a room that is not named comes after these
ROOMS = {
    "tabular": "Tables: planning, prediction, control",
    "linear": "Linear function approximation",
    "value_based": "Values by deep networks",
    "policy_gradient": "Policy gradients",
    "deterministic": "Deterministic policy gradients",
    "evolutionary": "Evolution",
    "search": "Search",
    "model_based": "Models, search and games",
    "games": "Games of hidden information",
    "exploration": "Exploration",
    "offline": "Learning from data",
    "preferences": "Preferences",
    "distributed": "Acting apart from learning",
}
FLOORS = {"common": "Mathematics and parts", "exact": "What is known exactly", "search": "Search"}
GUIDES = ("zoo", "exact_grading", "tuning")
TRUST = ("promises", "testing")
GENERATED = "_generated"
MAX_FRAMES = 24


def write_all(docs: Path) -> None:
    """Write every generated page below docs/_generated."""
    out = docs / GENERATED
    worlds = write_worlds(out / "worlds")
    write_reference(out / "reference")
    places = page_places(docs)
    write_lists(out, docs, places)
    assert worlds, "the table of worlds is empty"


def write(path: Path, text: str) -> None:
    """Write a page if it has changed: Sphinx reads only what is newer than its last build."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.is_file() or path.read_text(encoding="utf-8") != text:
        path.write_text(text, encoding="utf-8")


# --- worlds ----------------------------------------------------------------------------------------------------------


def write_worlds(folder: Path) -> list[str]:
    """A page a world: its docstring, its spaces, how it is made, a picture where it can be drawn."""
    names = []
    for env_id, (module, class_name, limit) in sb3_lecture_envs.WORLDS.items():
        cls = getattr(importlib.import_module(f"sb3_lecture_envs.{module}"), class_name)
        name = env_id.removeprefix("Lecture/").removesuffix("-v0")
        names.append(name)
        picture = draw_world(env_id, folder / f"{name}.gif")
        write(folder / f"{name}.md", world_page(env_id, cls, limit, f"{name}.gif" if picture else ""))
    entries = "\n".join(names)
    write(folder / "index.md", f"# All worlds\n\nOne page a world, from its docstring.\n\n```{{toctree}}\n\n{entries}\n```\n")
    return names


def world_page(env_id: str, cls: type, limit: int | None, picture: str) -> str:
    """A world's page; the sections of the docstring are Gymnasium's."""
    text = inspect.getdoc(cls) or ""
    text = re.split(r"\n:(?:param|raises)", text)[0].strip()
    first, _, rest = text.partition("\n")
    env = gym.make(env_id).unwrapped
    head = [
        f"# {env_id.removeprefix('Lecture/').removesuffix('-v0')}", "", first, "",
        *([f"![{env_id}]({picture})", ""] if picture else []),
        "| | |", "| --- | --- |",
        f"| made by | `gym.make(\"sb3_lecture_envs:{env_id}\")` |",
        f"| actions | `{env.action_space}` |",
        f"| observations | `{_short(env.observation_space)}` |",
        f"| time limit | {'none' if limit is None else f'{limit} steps'} |",
        f"| rendered as | {', '.join(f'`{mode}`' for mode in env.metadata.get('render_modes', [])) or 'nothing'} |",
        f"| code | `{cls.__module__.replace('.', '/')}.py` |",
    ]  # fmt: skip
    env.close()
    return "\n".join([*head, rest, ""])


def _short(space: Any) -> str:
    text = " ".join(str(space).split())
    return text if len(text) <= 90 else f"{text[:89]}…"


def draw_world(env_id: str, path: Path) -> bool:
    """Draw some steps of a world into a gif: along the best way where its law is known, else at random.

    :return: whether it can be drawn
    """
    from PIL import Image

    if path.is_file():
        return True
    if "rgb_array" not in gym.make(env_id).unwrapped.metadata.get("render_modes", []):
        return False
    env = gym.make(env_id, render_mode="rgb_array")
    best = best_actions(env)
    frames = []
    env.action_space.seed(1)
    env.reset(seed=1)
    for _ in range(MAX_FRAMES):
        frames.append(np.asarray(env.render()))
        state: Any = getattr(env.unwrapped, "state", 0)
        masks = env.unwrapped.action_masks() if hasattr(env.unwrapped, "action_masks") else None
        action = env.action_space.sample() if masks is None else env.np_random.choice(np.flatnonzero(masks))
        _, _, terminated, truncated, _ = env.step(int(action if best is None else best[int(state)]))
        if terminated or truncated:
            frames += [np.asarray(env.render())] * 4
            env.reset()
    env.close()
    pictures = [_small(Image.fromarray(frame)) for frame in frames]
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures[0].save(path, save_all=True, append_images=pictures[1:], duration=350, loop=0, optimize=True)
    return True


def _small(picture: Any) -> Any:
    picture.thumbnail((420, 420))
    return picture.quantize(32, method=2)  # an octree: five times as fast as the median cut


def best_actions(env: gym.Env) -> np.ndarray | None:
    """The optimal action of each state, int [S]; None where the world has no law of the tabular kind."""
    from sb3_lecture_envs.mdp import TabularMDP

    mdp = getattr(env.unwrapped, "mdp", None)
    if not isinstance(mdp, TabularMDP) or not hasattr(env.unwrapped, "state"):
        return None
    from sb3_lecture.exact.solver import exact_optimum

    return np.asarray(exact_optimum(mdp, 0.99).policy)


# --- reference -------------------------------------------------------------------------------------------------------


def exported() -> dict[str, tuple[str, str]]:
    """Public name → (room, module), read off ``sb3_lecture/__init__.pyi``."""
    stub = Path(sb3_lecture.__file__).with_name("__init__.pyi")
    lines = [node for node in ast.parse(stub.read_text()).body if isinstance(node, ast.ImportFrom)]
    table = {alias.name: str(node.module) for node in lines for alias in node.names}
    return {name: (module.split(".")[0], f"sb3_lecture.{module}") for name, module in table.items()}


def write_reference(folder: Path) -> None:
    """A page a room: its algorithms; and one each for the floors below them and for the worlds' own classes."""
    table = exported()
    rooms = [*ROOMS, *sorted({room for room, _ in table.values()} - set(ROOMS))]
    pages = []
    for room in rooms:
        names = sorted(name for name, (own, _) in table.items() if own == room)
        if names:
            blocks = [f".. autoclass:: {table[name][1]}.{name}\n" for name in names]
            bases = {"tabular": ["sb3_lecture.tabular.base.TabularAlgorithm"]}.get(room, [])
            blocks += [f".. autoclass:: {base}\n" for base in bases]
            write(folder / f"{room}.md", rst_page(ROOMS.get(room, room), blocks))
            pages.append(room)
    for floor, title in FLOORS.items():
        modules = list(module_names(f"sb3_lecture.{floor}"))
        blocks = [f"{module}\n{'-' * len(module)}\n\n.. automodule:: {module}\n" for module in modules]
        write(folder / f"{floor}.md", rst_page(title, blocks))
        pages.append(floor)
    modules = [name for name in module_names("sb3_lecture_envs") if name.count(".") == 1 and name not in world_modules()]
    blocks = [f"{module}\n{'-' * len(module)}\n\n.. automodule:: {module}\n" for module in modules]
    write(folder / "worlds.md", rst_page("What worlds are made of", blocks))
    listed = "\n".join(dict.fromkeys([*pages, "worlds"]))
    text = f"# Reference\n\nFrom the docstrings.\n\n```{{toctree}}\n\n{listed}\n```\n"
    write(folder / "index.md", text)


def world_modules() -> set[str]:
    """Modules whose docstrings are pages of worlds."""
    return {f"sb3_lecture_envs.{row[0]}" for row in sb3_lecture_envs.WORLDS.values()}


def module_names(package: str) -> Iterator[str]:
    """The modules of a package that is a folder, private ones left out."""
    folder = Path(importlib.import_module(package).__file__ or "").parent
    for path in sorted(folder.glob("*.py")):
        if not path.stem.startswith("_"):
            yield f"{package}.{path.stem}"


def rst_page(title: str, blocks: list[str]) -> str:
    """A page of reStructuredText, the docstrings' own form, within Markdown."""
    return f"# {title}\n\n```{{eval-rst}}\n" + "\n".join(blocks) + "```\n"


# --- lists -----------------------------------------------------------------------------------------------------------


def page_places(docs: Path) -> dict[str, str]:
    """Where each page of docs/ belongs: a room, "worlds", "results", "guides", "trust" or "topics"."""
    rooms = {
        name: row.target.split(".")[1] for name, row in registry.ALGORITHMS.items() if row.target.startswith("sb3_lecture.")
    }
    rooms |= {
        path.stem: path.parent.name for path in Path(sb3_lecture.__file__).parent.glob("*/*.py") if path.parent.name in ROOMS
    }
    places = {}
    for path in sorted(docs.glob("*.md")):
        stem = path.stem
        if stem in GUIDES:
            places[stem] = "guides"
        elif stem in TRUST:
            places[stem] = "trust"
        elif stem.startswith("benchmarks"):
            places[stem] = "results"
        elif stem == "worlds" or stem.endswith("_games"):
            places[stem] = "worlds"
        elif stem != "index":
            places[stem] = rooms.get(stem, "topics")
    return places


def write_lists(out: Path, docs: Path, places: dict[str, str]) -> None:
    """The lists of algorithms, results, guides and topics."""
    rooms = [room for room in ROOMS if room in places.values()]
    rooms += sorted(set(places.values()) - set(ROOMS) - {"worlds", "results", "guides", "trust", "topics"})
    lists = "\n".join(f"## {ROOMS.get(room, room)}\n\n{toctree(places, room)}" for room in rooms)
    write(
        out / "algorithms.md",
        f"# Algorithms\n\nOne page an algorithm: the equation, its line of code, how to use it.\n\n{lists}",
    )
    write(out / "results.md", f"# Results\n\n{toctree(places, 'results', first='benchmarks')}")
    write(out / "topics.md", f"# Topics\n\n{toctree(places, 'topics')}")
    write(out / "worlds.md", f"# Worlds\n\n{toctree(places, 'worlds', first='worlds', more=['worlds/index'])}")
    included = {"changelog": "CHANGELOG.md", "contributing": "CONTRIBUTING.md"}
    for name, file in included.items():
        write(out / f"{name}.md", f"```{{include}} ../../{file}\n```\n")
    lectures = docs / "lectures"
    assert not lectures.exists() or (lectures / "index.md").is_file()


def toctree(places: dict[str, str], place: str, first: str = "", more: list[str] | None = None) -> str:
    """A list of the pages of a place."""
    stems = sorted((stem for stem, own in places.items() if own == place), key=lambda stem: (stem != first, stem))
    entries = [f"../{stem}" for stem in stems] + (more or [])
    return textwrap.dedent("""\
        ```{{toctree}}
        :maxdepth: 1

        {}
        ```
        """).format("\n".join(entries))
