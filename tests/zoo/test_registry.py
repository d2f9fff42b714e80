"""The table of algorithms."""

import ast
import importlib.metadata
import subprocess
import sys
from pathlib import Path

import pytest
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm

import sb3_lecture
from sb3_lecture.zoo import configs, registry, search_spaces
from sb3_lecture.zoo.errors import UserError, nearest


@pytest.fixture(autouse=True)
def _fresh_table():
    registry.algorithms.cache_clear()
    yield
    registry.algorithms.cache_clear()


@pytest.mark.parametrize("name", sorted(registry.ALGORITHMS))
def test_every_algorithm_is_a_class_with_a_config(name):
    assert issubclass(registry.algorithm(name), BaseAlgorithm)
    assert configs.read_entries(configs.config_path(name))


def test_the_table_holds_sb3_and_contrib():
    expected = "a2c ddpg dqn ppo sac td3 ars crossq ppo_lstm ppo_mask qrdqn tqc trpo".split()
    assert set(expected) <= set(registry.ALGORITHMS)


def exported():
    """What the stub file exports: "module:Class" of every public name."""
    stub = Path(sb3_lecture.__file__).with_suffix(".pyi")
    return {
        f"sb3_lecture.{line.module}:{name.asname}"
        for line in ast.parse(stub.read_text(encoding="utf-8")).body
        if isinstance(line, ast.ImportFrom)
        for name in line.names
    }


def test_every_exported_algorithm_has_a_row_and_every_row_of_ours_is_exported():
    algorithms = {where for where in exported() if issubclass(getattr(sb3_lecture, where.split(":")[1]), BaseAlgorithm)}
    ours = {row.target for row in registry.ALGORITHMS.values() if row.target.startswith("sb3_lecture.")}
    assert ours == algorithms
    assert {where.split(":")[1] for where in exported()} == set(sb3_lecture.__all__)


def test_filling_rl_zoo3_enters_the_asked_algorithms():
    from rl_zoo3.utils import ALGOS

    ALGOS.pop("ppo_mask", None)
    registry.fill_rl_zoo3(["ppo_mask", "dqn"])
    assert ALGOS["ppo_mask"].__name__ == "MaskablePPO"
    assert ALGOS["dqn"] is DQN


def bring(monkeypatch, algorithms=(), spaces=()):
    """Stand in for the entry points of installed packages, (name, value) each."""
    groups = {registry.ALGORITHM_GROUP: algorithms, registry.SPACE_GROUP: spaces}

    def entry_points(group):
        return [importlib.metadata.EntryPoint(name, value, group) for name, value in groups[group]]

    monkeypatch.setattr(importlib.metadata, "entry_points", entry_points)


def test_another_package_adds_an_algorithm_its_config_and_its_search_space(monkeypatch, tmp_path):
    package = tmp_path / "other_package"
    (package / "zoo_configs").mkdir(parents=True)
    (package / "__init__.py").write_text("from stable_baselines3 import DQN as MyAlgo\n")
    (package / "spaces.py").write_text("def sample(trial, *_):\n    return {'gamma': trial.suggest_float('g', 0, 1)}\n")
    (package / "zoo_configs" / "my_algo.yml").write_text("CartPole-v1:\n  n_timesteps: 10\n  policy: 'MlpPolicy'\n")
    monkeypatch.syspath_prepend(tmp_path)
    bring(monkeypatch, [("my_algo", "other_package:MyAlgo")], [("my_algo", "other_package.spaces:sample")])
    assert registry.algorithm("my_algo") is DQN
    assert configs.config_path("my_algo") == package / "zoo_configs" / "my_algo.yml"
    assert search_spaces.convert("my_algo", {"g": 0.25}) == {"gamma": 0.25}


def test_another_package_cannot_take_our_names(monkeypatch, capsys):
    bring(monkeypatch, [("dqn", "other:Class")], [("q_learning", "other:space"), ("absent", "other:space")])
    assert registry.algorithm("dqn") is DQN
    assert registry.row("q_learning") == registry.ALGORITHMS["q_learning"]
    said = capsys.readouterr().err
    assert "Ignoring 'other:Class': the name 'dqn' is taken" in said
    assert "Ignoring 'other:space': 'q_learning' is no algorithm of its package" in said
    assert "no package brings an algorithm 'absent'" in said


@pytest.mark.parametrize(
    ("value", "message"), [("json:Nothing", "no attribute 'Nothing'"), ("json", "write module:name"), (":x", "module:name")]
)
def test_an_entry_point_that_leads_nowhere_is_named(monkeypatch, value, message):
    bring(monkeypatch, [("far", value)])
    with pytest.raises(UserError, match=message):
        registry.algorithm("far")


def test_an_algorithm_without_a_space_says_who_can_bring_one(monkeypatch):
    bring(monkeypatch, [("my_algo", "stable_baselines3:DQN")])
    with pytest.raises(UserError, match=r"my_algo has no search space.*sb3_lecture\.search_spaces"):
        registry.search_space("my_algo")


def test_a_missing_package_is_named(monkeypatch):
    bring(monkeypatch, [("far", "not_installed_here:Far")])
    with pytest.raises(UserError, match="not_installed_here"):
        registry.algorithm("far")


def test_search_spaces_come_from_the_table_or_rl_zoo3():
    from rl_zoo3.hyperparams_opt import HYPERPARAMS_SAMPLER

    assert registry.search_space("dqn") is HYPERPARAMS_SAMPLER["dqn"]
    assert registry.search_space("ppo_mask") is HYPERPARAMS_SAMPLER["ppo"]


@pytest.mark.parametrize(
    ("wrong", "right"), [("dqm", "dqn"), ("DQN", "dqn"), ("ppo-mask", "ppo_mask"), ("recurrent_ppo", None), ("zzzzzz", None)]
)
def test_the_nearest_name_is_near(wrong, right):
    hint = nearest(wrong, ["dqn", "ppo_mask", "sac"])
    assert hint == (f" (did you mean {right!r}?)" if right else "")


def test_atari_games_are_known_to_a_new_process():
    pytest.importorskip("ale_py", reason="needs the extra [atari]")
    code = "from sb3_lecture.zoo.options import resolve_env; print(resolve_env('ALE/Pong-v5'))"
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", code], capture_output=True, text=True)
    assert done.stdout.splitlines()[-1:] == ["ALE/Pong-v5"], done.stderr
