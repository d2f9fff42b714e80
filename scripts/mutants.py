"""Plant small faults into modules, one at a time, and see whether the tests notice; see ``--help`` and docs/testing.md.

A mutant turns a sign, a comparison, ``and``/``or``, ``min``/``max``, ``argmax``/``argmin``, adds 1 to a whole number, doubles
another one, sets γ to 1, or takes every end of an episode away. Annotations, messages of errors and decorators are left alone.
Compiled functions run as plain Python (NUMBA_DISABLE_JIT), or with ``--compiled`` are compiled anew for each mutant. Each has
a forked process of its own: no module on the disk is touched.
"""

import argparse
import ast
import copy
import importlib.machinery
import os
import random
import resource
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

Change = Callable[[], None]
SWAPS: dict[type, list[type]] = {
    ast.Lt: [ast.LtE, ast.GtE], ast.LtE: [ast.Lt, ast.Gt], ast.Gt: [ast.GtE, ast.LtE], ast.GtE: [ast.Gt, ast.Lt],
    ast.Eq: [ast.NotEq], ast.NotEq: [ast.Eq], ast.Add: [ast.Sub], ast.Sub: [ast.Add], ast.Mult: [ast.Div],
    ast.Div: [ast.Mult], ast.And: [ast.Or], ast.Or: [ast.And], ast.BitAnd: [ast.BitOr], ast.BitOr: [ast.BitAnd],
}  # fmt: skip
NAMES = {"min": "max", "max": "min", "argmax": "argmin", "argmin": "argmax", "any": "all", "all": "any", "minimum": "maximum"}


def main() -> int:
    """Run the mutants; exit with 1 if fewer than ``--at-least`` percent are noticed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("modules", nargs="+", type=Path, metavar="FILE", help="modules to plant faults into")
    parser.add_argument("--tests", nargs="+", required=True, help="what pytest runs, stopped at the first failure")
    parser.add_argument("-n", type=int, default=60, help="mutants, drawn from all there are (default 60; 0: all)")
    parser.add_argument("--seed", type=int, default=0, help="of the draw (default 0)")
    parser.add_argument("-k", default="", help="pytest's -k: which of the tests run")
    parser.add_argument("--timeout", type=int, default=120, help="CPU seconds until a mutant counts as noticed (default 120)")
    parser.add_argument("--at-least", type=float, default=95, help="percent that must be noticed (default 95)")
    parser.add_argument("--compiled", action="store_true", help="compile what is compiled, for tests that need it")
    args = parser.parse_args()
    if not args.compiled:
        os.environ["NUMBA_DISABLE_JIT"] = "1"
    for heavy in ("numba", "torch", "pytest", "hypothesis", "gymnasium", "stable_baselines3", "sb3_contrib"):
        __import__(heavy)  # once, before the forks

    found = [(path, i, what) for path in args.modules for i, what in enumerate(mutants_of(path))]
    drawn = random.Random(args.seed).sample(found, min(args.n or len(found), len(found)))
    args.tests += ["-k", args.k] if args.k else []
    if run(None, args.tests, args.timeout, args.compiled) != 0:
        print("the tests fail without any mutant")
        return 1
    survivors = []
    for path, i, what in sorted(drawn, key=lambda mutant: (str(mutant[0]), mutant[1])):
        began = time.time()
        noticed = run((path.resolve(), i), args.tests, args.timeout, args.compiled) != 0
        print(f"{'noticed ' if noticed else 'SURVIVED'} {path}:{what} ({time.time() - began:.0f} s)", flush=True)
        if not noticed:
            survivors.append(what)
    share = 100 * (1 - len(survivors) / max(len(drawn), 1))
    print(f"{len(drawn) - len(survivors)} of {len(drawn)} mutants noticed ({share:.0f} %), drawn from {len(found)}")
    return int(share < args.at_least)


def mutants_of(path: Path) -> list[str]:
    """Say where each mutant of a file is and what it does."""
    return [what for what, _ in changes(ast.parse(path.read_text(encoding="utf-8")))]


def changes(tree: ast.AST) -> Iterator[tuple[str, Change]]:
    """Yield what can be changed in a module, and the function that does it."""
    for node in _inside_functions(tree):
        line = f"{getattr(node, 'lineno', 0)} {ast.unparse(node)[:60]!r}"
        if isinstance(node, ast.Compare):
            for k, op in enumerate(node.ops):
                for other in SWAPS.get(type(op), []):
                    yield f"{line} {other.__name__}", lambda node=node, k=k, other=other: node.ops.__setitem__(k, other())
        elif isinstance(node, (ast.BinOp, ast.BoolOp, ast.AugAssign)):
            for other in SWAPS.get(type(node.op), []):
                yield f"{line} {other.__name__}", lambda node=node, other=other: setattr(node, "op", other())
        elif isinstance(node, ast.UnaryOp) and isinstance(node.op, (ast.USub, ast.Not, ast.Invert)):
            change = _replaced(node, ast.UnaryOp(ast.UAdd() if isinstance(node.op, ast.USub) else ast.Not(), node.operand))
            if not isinstance(node.op, ast.USub):  # ``not x`` becomes ``not not x``
                change = _replaced(node, ast.UnaryOp(ast.Not(), ast.UnaryOp(ast.Not(), node.operand)))
            yield f"{line} without its sign", change
        elif isinstance(node, ast.Constant) and type(node.value) in (int, float):
            value = node.value + 1 if isinstance(node.value, int) or node.value == 0 else 2 * node.value
            yield f"{line} {value}", lambda node=node, value=value: setattr(node, "value", value)
        elif isinstance(node, ast.Name) and node.id == "gamma" and isinstance(node.ctx, ast.Load):
            yield f"{line} 1.0", lambda node=node: setattr(node, "id", "float.__call__(1.0)")
        elif isinstance(node, ast.Subscript) and isinstance(node.ctx, ast.Load) and ast.unparse(node.value) == "terminated":
            yield f"{line} False", _replaced(node, ast.Constant(False))
        elif isinstance(node, ast.Call) and _name_of(node.func) in NAMES:
            yield f"{line} {NAMES[_name_of(node.func)]}", lambda node=node: _rename(node.func)


def _inside_functions(tree: ast.AST) -> Iterator[ast.AST]:
    """Every node of the functions' bodies, in a fixed order; no annotations, docstrings, messages or decorators."""
    for outer in ast.walk(tree):
        if isinstance(outer, (ast.FunctionDef, ast.AsyncFunctionDef)):
            stack: list[ast.AST] = list(reversed(outer.body))
            while stack:
                node = stack.pop()
                if isinstance(node, (ast.Raise, ast.JoinedStr, ast.FunctionDef, ast.Assert)):
                    continue
                yield node
                skipped = {id(node.annotation)} if isinstance(node, ast.AnnAssign) else set()
                stack += [child for child in reversed(list(ast.iter_child_nodes(node))) if id(child) not in skipped]


def _name_of(func: ast.AST) -> str:
    return func.id if isinstance(func, ast.Name) else func.attr if isinstance(func, ast.Attribute) else ""


def _rename(func: Any) -> None:
    setattr(func, "id" if isinstance(func, ast.Name) else "attr", NAMES[_name_of(func)])


def _replaced(node: ast.AST, other: ast.AST) -> Change:
    """Make one node into another where it stands."""

    def change() -> None:
        new = copy.deepcopy(other)
        node.__class__ = new.__class__  # type: ignore[assignment]
        node.__dict__ = {**new.__dict__, "lineno": node.lineno, "col_offset": node.col_offset}  # type: ignore[attr-defined]

    return change


def run(mutant: tuple[Path, int] | None, tests: list[str], timeout: int, compiled: bool) -> int:
    """Run the tests in a forked process; 0 if they pass."""
    with tempfile.TemporaryDirectory() as cache:  # numba's: it would take the file's own code for the mutant's
        return _run(mutant, tests, timeout, cache if compiled else "")


def _run(mutant: tuple[Path, int] | None, tests: list[str], timeout: int, cache: str) -> int:
    child = os.fork()
    if child == 0:
        if cache:
            import numba

            numba.config.CACHE_DIR = os.environ["NUMBA_CACHE_DIR"] = cache
        silence = os.open(os.devnull, os.O_WRONLY)
        os.dup2(silence, 1)
        os.dup2(silence, 2)
        resource.setrlimit(resource.RLIMIT_CPU, (timeout, timeout))  # CPU time: a busy machine kills no mutant
        if mutant is not None:
            _load_mutated(*mutant)
        import pytest

        # ∞ - ∞ warns in plain NumPy, not in compiled code
        quiet = ["-x", "-q", "-p", "no:cacheprovider", "-m", "not slow", "-W", "ignore::RuntimeWarning"]
        quiet += ["-W", "ignore::pytest.PytestAssertRewriteWarning"]  # what the parent has imported
        os._exit(int(pytest.main([*quiet, *tests])))
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def _load_mutated(path: Path, number: int) -> None:
    plain = importlib.machinery.SourceFileLoader.get_code

    def get_code(loader: Any, name: str) -> Any:
        if Path(loader.path).resolve() != path:
            return plain(loader, name)
        tree = ast.parse(path.read_text(encoding="utf-8"))
        list(changes(tree))[number][1]()
        source = ast.unparse(ast.fix_missing_locations(tree)).replace("float.__call__(1.0)", "1.0")
        return compile(source, str(path), "exec")

    importlib.machinery.SourceFileLoader.get_code = get_code  # type: ignore[method-assign]


if __name__ == "__main__":
    sys.exit(main())
