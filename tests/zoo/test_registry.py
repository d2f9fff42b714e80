"""The table of algorithms."""

import importlib.metadata

import pytest
from stable_baselines3 import DQN
from stable_baselines3.common.base_class import BaseAlgorithm

from sb3_lecture.zoo import configs, registry
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


def test_every_public_class_of_ours_has_a_name():
    import sb3_lecture

    ours = {target.split(":")[1] for target in registry.ALGORITHMS.values() if target.startswith("sb3_lecture.")}
    assert ours <= set(sb3_lecture.__all__)


def test_filling_rl_zoo3_enters_the_asked_algorithms():
    from rl_zoo3.utils import ALGOS

    ALGOS.pop("ppo_mask", None)
    registry.fill_rl_zoo3(["ppo_mask", "dqn"])
    assert ALGOS["ppo_mask"].__name__ == "MaskablePPO"
    assert ALGOS["dqn"] is DQN


def _entry(name, value):
    return importlib.metadata.EntryPoint(name=name, value=value, group=registry.ENTRY_POINT_GROUP)


def test_another_package_adds_an_algorithm_and_its_config(monkeypatch, tmp_path):
    package = tmp_path / "other_package"
    (package / "zoo_configs").mkdir(parents=True)
    (package / "__init__.py").write_text("from stable_baselines3 import DQN as MyAlgo\n")
    (package / "zoo_configs" / "my_algo.yml").write_text("CartPole-v1:\n  n_timesteps: 10\n  policy: 'MlpPolicy'\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [_entry("my_algo", "other_package:MyAlgo")])
    assert registry.algorithm("my_algo") is DQN
    assert configs.config_path("my_algo") == package / "zoo_configs" / "my_algo.yml"


def test_another_package_cannot_take_our_names(monkeypatch, capsys):
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [_entry("dqn", "other:Class")])
    assert registry.algorithm("dqn") is DQN
    assert "the name 'dqn' is taken" in capsys.readouterr().err


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(importlib.metadata, "entry_points", lambda group: [_entry("far", "not_installed_here:Far")])
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
