"""A first call says that it compiles, and compiled code finds a folder where neither package nor home can be written to."""

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from sb3_lecture.common.compiling import NOTICE
from sb3_lecture_envs import compile_cache

SCRIPT = """
import numba
from sb3_lecture.common.compiling import announce
announce()
announce()
import sys
sys.path.insert(0, {folder!r})
import compiled_here
print(compiled_here.double(21), compiled_here.double(1.5))
"""
MODULE = """
import numba

@numba.njit(cache=True)
def double(x):
    return x + x
"""


def test_compiling_is_said_once_and_what_is_cached_is_silent(tmp_path):
    (tmp_path / "compiled_here.py").write_text(MODULE)
    env = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path / "cache")}
    command = [sys.executable, "-W", "ignore", "-c", SCRIPT.format(folder=str(tmp_path))]
    first, second = (subprocess.run(command, env=env, capture_output=True, text=True, check=True) for _ in range(2))
    assert first.stdout == second.stdout == "42 3.0\n"
    assert first.stderr.splitlines() == [NOTICE]
    assert second.stderr == ""


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """Package and home refuse files (root may write anywhere, so the question is answered for it)."""
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(compile_cache.tempfile, "gettempdir", lambda: str(tmp_path))
    ask = compile_cache._writable
    monkeypatch.setattr(compile_cache, "_writable", lambda folder: tmp_path in Path(folder).parents and ask(folder))
    monkeypatch.setitem(sys.modules, "numba", None)
    return tmp_path


def test_a_private_folder_takes_the_place_of_an_unwritable_cache(nowhere):
    compile_cache.ensure_cache()
    folder = Path(os.environ["NUMBA_CACHE_DIR"])
    assert folder.parent == nowhere and stat.S_IMODE(folder.stat().st_mode) == 0o700
    del os.environ["NUMBA_CACHE_DIR"]
    compile_cache.ensure_cache()
    assert os.environ["NUMBA_CACHE_DIR"] == str(folder)


def test_a_folder_that_others_can_write_to_is_not_run_from(nowhere):
    (nowhere / f"sb3-lecture-numba-{os.getuid()}").mkdir(mode=0o777)
    (nowhere / f"sb3-lecture-numba-{os.getuid()}").chmod(0o777)
    compile_cache.ensure_cache()
    chosen = Path(os.environ["NUMBA_CACHE_DIR"])
    assert chosen.name != f"sb3-lecture-numba-{os.getuid()}" and stat.S_IMODE(chosen.stat().st_mode) == 0o700
    chosen.rmdir()


def test_where_a_cache_can_be_written_nothing_is_changed(monkeypatch):
    monkeypatch.delenv("NUMBA_CACHE_DIR", raising=False)
    monkeypatch.setattr(compile_cache, "_writable", lambda folder: folder.name == "numba")
    compile_cache.ensure_cache()
    assert "NUMBA_CACHE_DIR" not in os.environ
