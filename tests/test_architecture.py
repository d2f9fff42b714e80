"""The import directions of the rooms, read from the sources."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import sb3_lecture
import sb3_lecture_envs

LEARNERS = Path(sb3_lecture.__file__).parent
WORLDS = Path(sb3_lecture_envs.__file__).parent
ROOT = Path(__file__).parent.parent
STANDARD = set(sys.stdlib_module_names)

#: what a line of each room may import, besides the standard library and its own room
WORLD_PACKAGES = {"gymnasium", "numpy", "numba", "llvmlite"}  # llvmlite is the part of numba that writes machine code
LEARNER_PACKAGES = {"stable_baselines3", "sb3_contrib", "torch", "gymnasium", "numpy", "numba", "lazy_loader"}
LAWS = (
    "sb3_lecture_envs.mdp", "sb3_lecture_envs.board.game", "sb3_lecture_envs.board.players", "sb3_lecture_envs.cards.game",
    "sb3_lecture_envs.stated_law",
)  # fmt: skip
#: packages that are imported only inside the functions that need them
INSIDE_FUNCTIONS = {"pygame", "cmaes", "ray", "minari", "h5py", "matplotlib", "moviepy", "imageio", "tqdm", "rich", "pandas"}


def imports(path):
    """(module, at the top of the file?) of every import statement, as absolute names; TYPE_CHECKING blocks left out."""
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    functions = [node for node in ast.walk(tree) if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef))]
    inner = {id(x) for function in functions for x in ast.walk(function)}
    root = WORLDS if WORLDS in path.parents else LEARNERS
    package = [root.name, *path.relative_to(root).parts[:-1]]
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name, id(node) not in inner
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            module = ".".join([*base, *([node.module] if node.module else [])])
            for alias in node.names:
                yield f"{module}.{alias.name}", id(node) not in inner


def files(folder):
    return [path for path in sorted(folder.rglob("*.py")) if "__pycache__" not in path.parts]


def rooms():
    return [path for path in sorted(LEARNERS.iterdir()) if path.is_dir() and files(path)]


def floors_below(room):
    """common lies at the bottom, exact and search on it, every other room on these three."""
    return {"common": (), "exact": ("common",), "search": ("common",)}.get(room, ("common", "exact", "search"))


def under(module, *packages):
    return any(module == package or module.startswith(f"{package}.") for package in packages)


def test_worlds_know_no_learner():
    for path in files(WORLDS):
        for module, at_top in imports(path):
            top = module.split(".")[0]
            allowed = WORLD_PACKAGES | STANDARD | {"sb3_lecture_envs"} | (set() if at_top else {"pygame", "pettingzoo"})
            assert top in allowed, f"{path} imports {module}"


@pytest.mark.parametrize("room", [path.name for path in rooms() if path.name not in ("zoo", "lab")])
def test_a_room_imports_only_what_lies_below_it(room):
    for path in files(LEARNERS / room):
        for module, at_top in imports(path):
            top = module.split(".")[0]
            if top in STANDARD or top in LEARNER_PACKAGES or (not at_top and top in INSIDE_FUNCTIONS):
                continue
            allowed = under(module, *LAWS, f"sb3_lecture.{room}", *(f"sb3_lecture.{floor}" for floor in floors_below(room)))
            assert allowed, f"{path} imports {module}; {room} sees the laws and {floors_below(room)} only"


def test_nobody_imports_scripts_or_tests():
    for path in files(LEARNERS) + files(WORLDS) + files(ROOT / "scripts"):
        for module, _ in imports(path) if ROOT / "scripts" not in path.parents else _plain_imports(path):
            assert module.split(".")[0] not in {"scripts", "tests", "envs"}, f"{path} imports {module}"


def test_scripts_start_things_and_nothing_else():
    for path in (ROOT / "scripts").glob("*.py"):
        source = ast.parse(path.read_text())
        assert not [node for node in ast.walk(source) if isinstance(node, ast.ClassDef)], f"{path} defines a class"


def _plain_imports(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((alias.name, True) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module, True


#: known circles through imports inside functions
KNOWN_CIRCLES = {frozenset({"sb3_lecture.zoo.cli", "sb3_lecture.zoo.tuning_cli"})}


def import_graph(root, inside_functions):
    """Which module of a package imports which others of it; packages' own ``__init__`` tables left out."""
    graph = {}
    for path in files(root):
        name = ".".join([root.name, *path.relative_to(root).with_suffix("").parts])
        if path.name != "__init__.py":
            seen = [module for module, at_top in imports(path) if at_top or inside_functions]
            graph[name] = {module for module in seen if under(module, root.name)}
    names = set(graph)
    for name, modules in graph.items():  # `from a.b import c` names the module a.b or a.b.c
        graph[name] = {m if m in names else m.rpartition(".")[0] for m in modules} & (names - {name})
    return graph


def circles(graph):
    """The sets of modules that import one another, by who can reach whom."""

    def reach(name):
        met, frontier = set(), [name]
        while frontier:
            for other in graph[frontier.pop()] - met:
                met.add(other)
                frontier.append(other)
        return met

    reached = {name: reach(name) for name in graph}
    return {frozenset(other for other in reached[name] if name in reached[other]) for name in graph if name in reached[name]}


def test_a_circle_is_seen():
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"b"}, "d": set()}) == {frozenset("bc")}


@pytest.mark.parametrize("root", [LEARNERS, WORLDS], ids=lambda root: root.name)
@pytest.mark.parametrize("inside_functions", [False, True])
def test_modules_form_no_circle(root, inside_functions):
    found = circles(import_graph(root, inside_functions))
    assert found <= (KNOWN_CIRCLES if inside_functions else set()), f"import circles: {[sorted(circle) for circle in found]}"


def test_exact_answers_are_handed_on_one_way():
    """law → graph → chain → solver → grade → callbacks: each file of the room imports those before it only."""
    order = ["law", "bellman", "graph", "chain_kernels", "chain", "sweep_kernels", "sweeps", "solver", "grade", "callbacks"]
    graph = import_graph(LEARNERS, True)
    for i, name in enumerate(order):
        before = {f"sb3_lecture.exact.{other}" for other in order[:i]}
        inside = {module for module in graph[f"sb3_lecture.exact.{name}"] if under(module, "sb3_lecture.exact")}
        assert inside <= before, f"exact/{name}.py imports {inside - before}"


def test_importing_the_package_loads_no_algorithm_and_no_tool():
    code = (
        "import sys, stable_baselines3; before = set(sys.modules); import sb3_lecture\n"
        "new = {name for name in set(sys.modules) - before if name.startswith('sb3_lecture')}\n"
        "assert new == {'sb3_lecture', 'sb3_lecture_envs', 'sb3_lecture_envs.compile_cache'}, new\n"
        "heavy = {'rl_zoo3', 'optuna', 'matplotlib', 'numba', 'pandas'} & (set(sys.modules) - before)\n"
        "assert not heavy, heavy\n"
        "assert len(sb3_lecture.__all__) == len(set(sb3_lecture.__all__)) > 0\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_every_public_name_loads_and_unknown_ones_do_not():
    for name in sb3_lecture.__all__:
        assert getattr(sb3_lecture, name).__name__ == name
    with pytest.raises(AttributeError, match="NoSuchAlgorithm"):
        sb3_lecture.NoSuchAlgorithm  # noqa: B018
