"""Every entry of every config builds its model and takes a few steps; wrong configs are named in one line."""

from pathlib import Path

import pytest
import yaml

from sb3_lecture.common.checks import keywords_of
from sb3_lecture.zoo import cli, configs, registry, report, safe
from sb3_lecture.zoo.errors import UserError

ENTRIES = [(algo, str(key)) for algo in sorted(registry.ALGORITHMS) for key in configs.read_entries(configs.config_path(algo))]
DEFAULTS = {
    **dict.fromkeys(["a2c", "ars", "ppo", "ppo_lstm", "qrdqn", "trpo"], "CartPole-v1"),
    **dict.fromkeys(["crossq", "ddpg", "sac", "td3", "tqc"], "Pendulum-v1"),
    **dict.fromkeys(["dqn", "ppo_mask"], "Lecture/Maze-v0"),
}


def small(algo, entry):
    """Overrides that make an entry's first update come soon and its memory small."""
    cheap = {"learning_starts": 8, "train_freq": 4, "gradient_steps": 1, "buffer_size": 300, "n_epochs": 1}
    cheap = {key: value for key, value in cheap.items() if key in entry}
    if algo in ("dpo", "reward_model", "rlhf", "sft"):
        data = {"n_demonstrations": 500, "n_comparisons": 100, "sft_steps": 3, "reward_steps": 3, "n_responses": 16}
        known = keywords_of(registry.algorithm(algo))
        cheap |= {key: value for key, value in data.items() if key in known} | {"batch_size": 8}
    if "dataset" in keywords_of(registry.algorithm(algo)):
        cheap["dataset"] = "'random:300'"
    n_envs = entry.get("n_envs", 1)
    if "n_steps" in entry:
        cheap["n_steps"] = 4
        if algo not in ("a2c", "actor_critic") and entry["policy"] != "TabularPolicy":  # these take no batch size
            cheap["batch_size"] = 4 * n_envs
    elif "buffer_size" in entry or algo in ("sac", "tqc", "crossq", "td3", "ddpg"):
        cheap["batch_size"] = 16
    return [f"{key}:{value}" for key, value in cheap.items()]


FIRST = {algo: key for algo, key in reversed(ENTRIES)}  # the default env of each algorithm; the others are slow tests


@pytest.mark.parametrize(
    ("algo", "key"),
    [pytest.param(*entry, marks=[] if FIRST[entry[0]] == entry[1] else [pytest.mark.slow]) for entry in ENTRIES],
)
def test_every_entry_trains_a_few_steps(algo, key, tmp_path, monkeypatch):
    if key.startswith("MinAtar/"):
        pytest.importorskip("minatar")  # an extra of its own
    entries = configs.read_entries(configs.config_path(algo))
    entry, first = entries[key], next(iter(entries)) == key
    if not first:  # one picture an algorithm is enough
        monkeypatch.setattr(report, "finish", lambda manager, model, command: None)
    env = "ALE/Breakout-v5" if key == "atari" else key
    from_data = registry.target(algo).startswith(("sb3_lecture.offline", "sb3_lecture.preferences"))  # gradient steps
    steps = "150" if first and not from_data else "40"  # for the picture some episodes must end
    command = ["train", "--algo", algo, "--env", env, "-n", steps, "-f", str(tmp_path), "--seed", "1", "--eval-freq", "-1"]
    overrides = small(algo, entry)
    assert cli.main(command + (["--hyperparams", *overrides] if overrides else [])) == 0
    assert list(tmp_path.glob(f"{algo}/*_1/*.zip"))
    long = ("Pendulum-v1", "MountainCar-v0")  # 200 steps an episode
    assert not first or key in long or list(tmp_path.glob(f"{algo}/*_1/learning_curve.png"))


@pytest.mark.parametrize(("algo", "env"), DEFAULTS.items())
def test_the_first_entry_is_the_default_env(algo, env):
    assert next(iter(configs.read_entries(configs.config_path(algo)))) == env


@pytest.mark.parametrize("algo", sorted(registry.ALGORITHMS))
def test_every_entry_names_its_source(algo):
    text = configs.config_path(algo).read_text()
    blocks = ("\n" + text).split("\n")
    starts = [i for i, line in enumerate(blocks) if line and line[0] not in " #"]
    for start, end in zip(starts, [*starts[1:], len(blocks)], strict=True):
        assert any(line.strip().startswith("# source:") for line in blocks[start:end]), f"{algo}: {blocks[start]}"


#: rooms whose algorithms need tables, features, the game's rules, or data that somebody has recorded
NO_PICTURES = tuple(f"sb3_lecture.{room}." for room in ("tabular", "linear", "games", "offline", "preferences"))


def test_every_algorithm_for_pictures_and_finite_actions_has_an_entry_for_atari_games():
    missing = {algo for algo in registry.ALGORITHMS if "atari" not in configs.read_entries(configs.config_path(algo))}
    rooms = {algo for algo in missing if registry.target(algo).startswith(NO_PICTURES)}
    vectors = {"crossq", "ddpg", "sac", "td3", "tqc"}
    others = {"ars", "alphazero", "cmaes", "es", "ga", "ppo_mask", "world_models"}  # no pictures, or masks, or rules
    assert missing - rooms - vectors == others


def test_configs_use_no_text_that_rl_zoo3_would_evaluate_beyond_dict():
    """rl_zoo3 evaluates a few strings as Python; ours only say dict(...)."""
    for algo, key in ENTRIES:
        entry = configs.read_entries(configs.config_path(algo))[key]
        for name in ("policy_kwargs", "normalize", "monitor_kwargs", "replay_buffer_kwargs"):
            if isinstance(entry.get(name), str):
                assert entry[name].startswith("dict("), (algo, key, name)


def test_the_lecture_worlds_ids_and_the_zoo_folder_agree():
    import gymnasium as gym

    import sb3_lecture_envs  # noqa: F401

    for algo, key in ENTRIES:
        optional = key in ("atari", "default") or key.startswith("MinAtar/")
        assert optional or key in gym.registry, f"{algo}: {key}"


#: 10^20 values in 20 lines
BOMB = "CartPole-v1:\n  k0: &a0 1\n" + "".join(f"  k{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 21))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("CartPole-v1: {n_timesteps: 10", "line 1 is no valid YAML"),
        ("", "must hold entries"),
        ("- CartPole-v1", "must hold entries"),
        ("CartPole-v1: 3", "'CartPole-v1' must hold hyperparameters"),
        ("CartPole-v1: {a: 2001-13-01}", "month must be in 1..12"),
        ("CartPole-v1: {a: " + "[" * 400, "is no valid YAML"),
        (BOMB, "it holds over 10^12 values with its aliases unfolded, at most 100,000 are read"),
        ("CartPole-v1: &a {b: [*a]}", "an alias stands within what it is an alias of"),
    ],
    ids=["cut", "empty", "list", "number", "date", "deep", "bomb", "circle"],
)
def test_a_malformed_config_is_named(text, message, tmp_path):
    path = tmp_path / "bad.yml"
    path.write_text(text)
    with pytest.raises(UserError) as error:
        configs.read_entries(path)
    assert message in str(error.value)
    assert "\n" not in str(error.value)


def test_aliases_that_repeat_little_are_values_like_others(tmp_path):
    (tmp_path / "mine.yml").write_text("A-v0: &a {n_timesteps: 1}\nB-v0:\n  <<: *a\n  policy: P\nC-v0: {net_arch: [*a, *a]}\n")
    entries = configs.read_entries(tmp_path / "mine.yml")
    assert entries["B-v0"] == {"n_timesteps": 1, "policy": "P"} and entries["C-v0"]["net_arch"] == [entries["A-v0"]] * 2


def test_as_many_values_as_are_allowed_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr(safe, "MAX_VALUES", 25)  # 2 mappings, 2 keys, 1 list, the rest in it
    (tmp_path / "mine.yml").write_text(f"A-v0: {{a: [{'1,' * 20}]}}")
    assert len(configs.read_entries(tmp_path / "mine.yml")["A-v0"]["a"]) == 20
    (tmp_path / "mine.yml").write_text(f"A-v0: {{a: [{'1,' * 21}]}}")
    with pytest.raises(UserError, match=r"it holds 26 values with its aliases unfolded, at most 25 are read"):
        configs.read_entries(tmp_path / "mine.yml")


def test_a_runs_files_are_bounded_too(tmp_path):
    (tmp_path / "config.yml").write_text(BOMB)
    with pytest.raises(UserError, match=r"config.yml is damaged: it holds over 10\^12 values"):
        safe.read_yaml(tmp_path / "config.yml")


def test_a_missing_config_suggests_its_neighbour(tmp_path):
    (tmp_path / "mine.yml").write_text("CartPole-v1: {n_timesteps: 1}")
    with pytest.raises(UserError, match=r"did you mean 'mine.yml'"):
        configs.read_entries(tmp_path / "mime.yml")


def test_entries_are_chosen_as_rl_zoo3_does():
    entries = {"CartPole-v1": {}, "atari": {}}
    assert configs.entry_key(entries, "CartPole-v1", False, "x.yml") == "CartPole-v1"
    assert configs.entry_key(entries, "ALE/Pong-v5", True, "x.yml") == "atari"
    assert configs.entry_key({**entries, "default": {}}, "Acrobot-v1", False, "x.yml") == "default"
    with pytest.raises(UserError, match="CartPole-v1"):
        configs.entry_key(entries, "CartPole-v0", False, "x.yml")


@pytest.mark.parametrize("algo", sorted(registry.ALGORITHMS))
def test_a_wrong_hyperparameter_is_found_for_every_algorithm(algo):
    for entry in configs.read_entries(configs.config_path(algo)).values():
        configs.check_hyperparameters(algo, entry, "test")
    with pytest.raises(UserError, match=r"has no hyperparameter 'n_timestepps'.*did you mean 'n_timesteps'"):
        configs.check_hyperparameters(algo, ["n_timestepps"], "test")
    with pytest.raises(UserError, match="--seed"):
        configs.check_hyperparameters(algo, ["seed"], "test")


def test_the_configs_lie_in_the_checkout():
    path = configs.config_path("dqn")
    assert path.parent.name == "zoo_configs"
    assert isinstance(yaml.safe_load(Path(path).read_text()), dict)
