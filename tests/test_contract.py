"""What every algorithm of the registry must do: learn, predict, stop when told, repeat itself, survive its file.

A new algorithm is tested here from the day it enters the registry: its world is the first entry of its config.
"""

import base64
import inspect
import io
import json
import pickle
import zipfile

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

import sb3_lecture_envs  # noqa: F401
from sb3_lecture.common.checks import keywords_of
from sb3_lecture.zoo import configs, registry

NAMES = sorted(registry.algorithms())
OURS = [name for name in NAMES if registry.target(name).startswith("sb3_lecture")]
every_algorithm = pytest.mark.parametrize("name", NAMES)
STEPS = 240
GRADIENT_STEPS = 40  # of those that learn from data: their timesteps are gradient steps
#: settings that make any algorithm act and learn within STEPS, where it has them
SMALL = {
    "learning_starts": 30, "buffer_size": 500, "batch_size": 16, "n_steps": 16, "n_epochs": 2, "train_freq": 12,
    "gradient_steps": 1, "n_delta": 2, "n_episodes": 2, "population_size": 4, "n_simulations": 4, "n_games": 4,
    "batch_length": 8, "n_responses": 16, "sft_steps": 4, "reward_steps": 4, "n_comparisons": 64, "n_demonstrations": 500,
    "dataset": "random:300",
}  # fmt: skip
#: networks as small as they go, where the policy has them
SMALL_NETWORKS = {"net_arch": [16], "lstm_hidden_size": 8, "size": "debug", "width": 8}
#: their own learn loops go on after a callback returned False, for as long as the population plays
DEAF = {"ars": "sb3-contrib's ARS evaluates on after a callback stopped it"}


def world(name):
    """The env of the first config entry, with the arguments that the entry gives it."""
    entries = configs.read_entries(configs.config_path(name))
    env_id, entry = next(iter(entries.items()))
    kwargs = entry.get("env_kwargs", {})
    return env_id, kwargs if isinstance(kwargs, dict) else {}


def policy_of(name):
    return next(iter(configs.read_entries(configs.config_path(name)).values())).get("policy", "MlpPolicy")


def build_settings(name):
    """Arguments that make any algorithm small."""
    cls = registry.algorithm(name)
    known = keywords_of(cls)
    settings = {key: value for key, value in SMALL.items() if key in known}
    if issubclass(cls, OffPolicyAlgorithm):
        settings.pop("n_steps", None)  # there it is the n of n-step returns
    settings |= {"device": "cpu"} if "device" in known else {}
    taken = inspect.signature(cls.policy_aliases[policy_of(name)]).parameters
    networks = {key: value for key, value in SMALL_NETWORKS.items() if key in taken}
    return settings | ({"policy_kwargs": networks} if networks else {})


def steps_of(name):
    """How long an algorithm learns here."""
    return GRADIENT_STEPS if registry.target(name).startswith(("sb3_lecture.offline", "sb3_lecture.preferences")) else STEPS


def build(name, n_envs=1, seed=3, **more):
    env_id, env_kwargs = world(name)
    env = make_vec_env(env_id, n_envs=n_envs, seed=seed, env_kwargs=env_kwargs)
    return registry.algorithm(name)(policy_of(name), env, seed=seed, **build_settings(name), **more)


def parameters(model):
    """Everything that ``save`` stores with torch, as one flat table."""
    flat = {}

    def walk(prefix, value):
        if isinstance(value, th.Tensor):
            flat[prefix] = value.detach().clone()
        elif isinstance(value, dict):
            for key, inner in value.items():
                walk(f"{prefix}.{key}", inner)

    walk("", model.get_parameters())
    return flat


def assert_same(a, b):
    assert a.keys() == b.keys()
    for key, value in a.items():
        th.testing.assert_close(value, b[key], rtol=0, atol=0, equal_nan=True, msg=lambda text, key=key: f"{key}: {text}")


def observations(model, n=5):
    model.observation_space.seed(0)
    return np.stack([model.observation_space.sample() for _ in range(n)])


def what_acts(model):
    """The numbers that decide what the policy does: its parameters, without counters and random states."""
    return {key: value.detach().clone() for key, value in model.policy.named_parameters() if "visits" not in key}


@every_algorithm
def test_it_learns_and_predicts(name):
    model = build(name)
    before = what_acts(model)
    assert model.learn(steps_of(name)) is model
    assert model.num_timesteps >= 1
    learned = what_acts(model)
    assert any(not th.equal(before[key], value) for key, value in learned.items()), "nothing was learned"
    after = parameters(model)
    assert not any(th.isnan(value).any() for value in after.values() if value.is_floating_point())
    batch = observations(model)
    actions, _ = model.predict(batch, deterministic=True)
    assert actions.shape == (len(batch), *model.action_space.shape)
    assert all(model.action_space.contains(action) for action in actions)
    one, _ = model.predict(batch[0], deterministic=True)
    assert model.action_space.contains(one if model.action_space.shape else np.int64(one))


@every_algorithm
def test_one_seed_gives_one_result(name):
    assert_same(*(parameters(build(name).learn(steps_of(name))) for _ in range(2)))


@every_algorithm
def test_several_envs_work(name):
    model = build(name, n_envs=3).learn(steps_of(name))
    assert model.n_envs == 3 and model.num_timesteps >= 3


class StopAt(BaseCallback):
    def __init__(self, at):
        super().__init__()
        self.at, self.calls_after = at, 0

    def _on_step(self):
        self.calls_after += self.num_timesteps >= self.at
        return self.num_timesteps < self.at


@every_algorithm
def test_a_callback_that_says_stop_is_obeyed(name):
    if name in DEAF:
        pytest.skip(DEAF[name])
    callback = StopAt(50)
    model = build(name)
    model.learn(10_000, callback=callback)
    assert callback.calls_after == 1, "steps were taken after the callback returned False"
    assert model.num_timesteps < 5_000


@every_algorithm
def test_save_load_save_is_stable(name, tmp_path):
    model = build(name).learn(steps_of(name))
    batch = observations(model)
    expected, _ = model.predict(batch, deterministic=True)
    first, second = tmp_path / "first.zip", tmp_path / "second.zip"
    model.save(first)
    loaded = type(model).load(first, env=model.env)
    assert_same(parameters(model), parameters(loaded))
    np.testing.assert_array_equal(loaded.predict(batch, deterministic=True)[0], expected)
    loaded.save(second)
    again = type(model).load(second)  # without an env
    assert_same(parameters(model), parameters(again))
    np.testing.assert_array_equal(again.predict(batch, deterministic=True)[0], expected)
    a, b = stored(first), stored(second)
    assert a.keys() == b.keys()
    plain = {key for key, value in a.items() if not (isinstance(value, dict) and ":serialized:" in value)}
    assert {key: a[key] for key in plain} == {key: b[key] for key in plain}
    loaded.learn(40, reset_num_timesteps=False)  # and goes on
    assert loaded.num_timesteps > model.num_timesteps


@pytest.mark.parametrize("name", OURS)
def test_the_same_policy_kwargs_are_recognised_by_load(name, tmp_path):
    """SB3's load refuses others; what a class adds on its own must not make those of the user others."""
    model = build(name)
    given = build_settings(name).get("policy_kwargs", {})
    assert model.policy_kwargs == given, "policy_kwargs are not as the user gave them"
    model.save(tmp_path / "model.zip")
    loaded = type(model).load(tmp_path / "model.zip", env=model.env, policy_kwargs=dict(given))
    assert_same(parameters(model), parameters(loaded))
    with pytest.raises(ValueError, match="policy kwargs"):
        type(model).load(tmp_path / "model.zip", policy_kwargs={**given, "other": 1})


@pytest.mark.parametrize("name", OURS)
def test_a_policy_alone_can_be_saved_and_loaded(name, tmp_path):
    model = build(name)
    batch = observations(model)
    with th.no_grad():  # as if it had learned
        for parameter in model.policy.parameters():
            parameter.add_(th.rand(parameter.shape, generator=th.Generator().manual_seed(0)))
    model.policy.save(tmp_path / "policy.pkl")
    loaded = type(model.policy).load(tmp_path / "policy.pkl")
    for key, value in model.policy.state_dict().items():
        assert th.equal(loaded.state_dict()[key], value), key
    expected = model.policy.predict(batch, deterministic=True)[0]
    np.testing.assert_array_equal(loaded.predict(batch, deterministic=True)[0], expected)


class Shifted(gym.Env):
    """Three states in a row and two ways, counted from where the spaces say."""

    def __init__(self, observation_start, action_start):
        self.observation_space = spaces.Discrete(3, start=observation_start)
        self.action_space = spaces.Discrete(2, start=action_start)
        self.played = set()

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state, self.steps = 0, 0
        return self.state + int(self.observation_space.start), {}

    def step(self, action):
        assert self.action_space.contains(action), f"action {action!r} is not in {self.action_space}"
        self.played.add(int(action))
        self.state, self.steps = min(self.state + 1, 2), self.steps + 1
        right = int(action) == int(self.action_space.start) + 1
        return self.state + int(self.observation_space.start), float(right), self.state == 2, self.steps >= 5, {}


def tables_are_slow(name):
    """Each table's pair of rules takes seconds to compile; Q-learning speaks for them in the fast tests."""
    slow = ".tabular." in registry.target(name) and name != "q_learning"
    return pytest.param(name, marks=[pytest.mark.slow] if slow else [])


@pytest.mark.parametrize("name", [tables_are_slow(name) for name in OURS])
@pytest.mark.parametrize("starts", [(1, 0), (0, 2), (-2, -1)], ids=str)
def test_spaces_that_do_not_begin_with_0_are_right_or_refused_in_one_line(name, starts):
    env = Shifted(*starts)
    cls = registry.algorithm(name)
    try:
        settings = build_settings(name)
        if policy_of(name) != "MlpPolicy":
            settings.pop("policy_kwargs", None)
        model = cls("MlpPolicy", env, seed=0, **settings).learn(60)
    except ValueError as error:  # planners ask for the law of the world, which this one does not state
        assert "\n" not in str(error), str(error)
        assert any(
            words in str(error) for words in ("start=", "needs the world's law", "(<class 'gymnasium.spaces.box.Box'>,)")
        )
        return
    start, least = starts
    assert env.played <= {least, least + 1}
    for state in range(2):
        action, _ = model.predict(np.array(start + state), deterministic=True)
        assert env.action_space.contains(np.int64(action))
    if "exploration_initial_eps" in keywords_of(cls):
        assert env.played == {least, least + 1}


#: SB3's arguments, and values that no class may take without a word
BAD_VALUES = {
    "gamma": [-0.1, 1.5, float("nan"), "0.9"],
    "learning_rate": [-1e-3, float("nan")],
    "batch_size": [0, float("nan")],
    "n_steps": [0],
    "ent_coef": [float("nan")],
    "exploration_final_eps": [float("inf")],
    "beta": [-1.0, float("nan")],
    "sigma": [0.0, float("nan")],
    "population_size": [0, float("nan")],
    "seed": [-1, 2**32],
}
DEEP = [name for name in OURS if not registry.target(name).startswith(("sb3_lecture.tabular", "sb3_lecture.linear"))]


@pytest.mark.parametrize("name", DEEP)
def test_nonsense_is_refused_with_its_name_and_value(name):
    cls = registry.algorithm(name)
    known = keywords_of(cls)
    env = make_vec_env(world(name)[0], env_kwargs=world(name)[1])
    for key in BAD_VALUES.keys() & known:
        for value in BAD_VALUES[key]:
            with pytest.raises((ValueError, TypeError)) as error:
                cls(policy_of(name), env, **{key: value})
            assert f"{key}={value!r}" in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize("name", OURS)
def test_our_files_hold_no_pickles_and_the_same_bytes_again(name, tmp_path):
    model = build(name).learn(40)
    model.save(tmp_path / "first.zip", include_replay=True)
    type(model).load(tmp_path / "first.zip", env=model.env).save(tmp_path / "second.zip", include_replay=True)
    assert (tmp_path / "first.zip").read_bytes() == (tmp_path / "second.zip").read_bytes()
    with zipfile.ZipFile(tmp_path / "first.zip") as archive:
        assert b":serialized:" not in archive.read("content.json")
        json.loads(archive.read("content.json"), parse_constant=pytest.fail)  # NaN and Infinity are no JSON
        for entry in archive.namelist():
            if entry not in ("content.json", "_stable_baselines3_version", "system_info.txt"):
                assert entry.startswith("arrays/") and entry.endswith(".npy")
                np.lib.format.read_array(io.BytesIO(archive.read(entry)), allow_pickle=False)


class Attack:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return type(self.path).touch, (self.path,)


def test_no_class_runs_what_a_strangers_file_holds(tmp_path):
    pickled = {":type:": "x", ":serialized:": base64.b64encode(pickle.dumps(Attack(tmp_path / "ran"))).decode()}
    state = io.BytesIO()
    th.save({"x": Attack(tmp_path / "ran")}, state)
    for number, (fields, policy) in enumerate((({"policy_class": pickled, "policy_kwargs": {}}, b""), ({}, state.getvalue()))):
        with zipfile.ZipFile(tmp_path / f"{number}.zip", "w") as archive:
            archive.writestr("data", json.dumps(fields))
            archive.writestr("policy.pth", policy)
        for name in OURS:
            with pytest.raises(ValueError, match=r"would run code|cannot be read"):
                registry.algorithm(name).load(tmp_path / f"{number}.zip")
            assert not (tmp_path / "ran").exists(), name


@pytest.mark.parametrize("name", OURS)
def test_our_classes_keep_sb3s_seams(name):
    cls = registry.algorithm(name)
    required = [
        p.name
        for p in inspect.signature(cls).parameters.values()
        if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL)
    ]
    assert set(required) <= {"policy", "env"}, "load() gives only policy, env and device"
    assert "MlpPolicy" in cls.policy_aliases
    assert cls.__doc__ and ":param" in cls.__doc__
    model = build(name)
    before = parameters(model).keys(), {k: v for k, v in vars(model).items() if isinstance(v, (int, float, str, bool))}
    model._setup_model()
    after = parameters(model).keys(), {k: v for k, v in vars(model).items() if isinstance(v, (int, float, str, bool))}
    assert before == after, "_setup_model must not change what it reads"


def stored(path):
    with zipfile.ZipFile(path) as archive:
        if "content.json" in archive.namelist():
            return json.loads(archive.read("content.json"))["content"]["data"]
        return json.loads(archive.read("data"))
