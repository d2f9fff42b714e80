"""The worlds' own distribution states what they need, and no more than the main one does."""

import tomllib
from pathlib import Path

import sb3_lecture_envs

ROOT = Path(__file__).parent.parent
MAIN = tomllib.loads((ROOT / "pyproject.toml").read_text())
WORLDS = tomllib.loads((ROOT / "envs" / "pyproject.toml").read_text())


def name(requirement):
    return requirement.split("[")[0].split(">")[0].split("<")[0].strip()


def test_the_worlds_need_three_packages_in_the_versions_of_the_learners():
    ranges = {name(r): r.split("]")[-1].replace(name(r), "") for r in MAIN["project"]["dependencies"]}
    own = {name(r): r.replace(name(r), "") for r in WORLDS["project"]["dependencies"]}
    assert set(own) == {"gymnasium", "numba", "numpy"}
    assert own == {package: ranges[package] for package in own}


def test_both_distributions_have_one_version_and_one_license():
    assert MAIN["project"]["version"] == sb3_lecture_envs.__version__
    assert WORLDS["tool"]["hatch"]["version"]["path"] == "sb3_lecture_envs/__init__.py"
    assert (ROOT / "envs" / "LICENSE").read_text() == (ROOT / "LICENSE").read_text()
