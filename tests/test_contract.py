"""What every algorithm of the registry must do: learn, predict, stop when told, repeat itself, survive its file.

A new algorithm is tested here from the day it enters the registry: its world is the first entry of its config.
"""

import base64
import inspect
import json
import zipfile

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.off_policy_algorithm import OffPolicyAlgorithm

import sb3_lecture_envs  # noqa: F401
from sb3_lecture.zoo import configs, registry

NAMES = sorted(registry.algorithms())
OURS = [name for name in NAMES if registry.target(name).startswith("sb3_lecture")]
every_algorithm = pytest.mark.parametrize("name", NAMES)
STEPS = 240
#: settings that make any algorithm act and learn within STEPS, where it has them
SMALL = {
    "learning_starts": 30, "buffer_size": 500, "batch_size": 16, "n_steps": 16, "n_epochs": 2, "train_freq": 4,
    "gradient_steps": 1, "n_delta": 2, "n_episodes": 2, "population_size": 4, "n_simulations": 4, "n_games": 4,
    "batch_length": 8,
}  # fmt: skip
#: networks as small as they go, where the policy has them
SMALL_NETWORKS = {"net_arch": [16], "lstm_hidden_size": 8, "size": "debug"}
#: their own learn loops go on after a callback returned False, for as long as the population plays
DEAF = {"ars": "sb3-contrib's ARS evaluates on after a callback stopped it"}


def world(name):
    """The env of the first config entry, with the arguments that the entry gives it."""
    entries = configs.read_entries(configs.config_path(name))
    env_id, entry = next(iter(entries.items()))
    kwargs = entry.get("env_kwargs", {})
    return env_id, kwargs if isinstance(kwargs, dict) else {}


def build(name, n_envs=1, seed=3, **more):
    cls = registry.algorithm(name)
    known = configs._parameters(cls)
    env_id, env_kwargs = world(name)
    entry = next(iter(configs.read_entries(configs.config_path(name)).values()))
    settings = {key: value for key, value in SMALL.items() if key in known}
    if issubclass(cls, OffPolicyAlgorithm):
        settings.pop("n_steps", None)  # there it is the n of n-step returns
    env = make_vec_env(env_id, n_envs=n_envs, seed=seed, env_kwargs=env_kwargs)
    settings |= {"device": "cpu"} if "device" in known else {}
    policy = entry.get("policy", "MlpPolicy")
    taken = inspect.signature(cls.policy_aliases[policy]).parameters
    networks = {key: value for key, value in SMALL_NETWORKS.items() if key in taken}
    settings |= {"policy_kwargs": networks} if networks else {}
    return cls(policy, env, seed=seed, **settings, **more)


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


@every_algorithm
def test_it_learns_and_predicts(name):
    model = build(name)
    before = parameters(model)
    assert model.learn(STEPS) is model
    assert model.num_timesteps >= 1
    after = parameters(model)
    changed = [key for key in before if before[key].shape != after[key].shape or not th.equal(before[key], after[key])]
    assert changed, "nothing was learned"
    assert not any(th.isnan(value).any() for value in after.values() if value.is_floating_point())
    batch = observations(model)
    actions, _ = model.predict(batch, deterministic=True)
    assert actions.shape == (len(batch), *model.action_space.shape)
    assert all(model.action_space.contains(action) for action in actions)
    one, _ = model.predict(batch[0], deterministic=True)
    assert model.action_space.contains(one if model.action_space.shape else np.int64(one))


@every_algorithm
def test_one_seed_gives_one_result(name):
    assert_same(*(parameters(build(name).learn(STEPS)) for _ in range(2)))


@every_algorithm
def test_several_envs_work(name):
    model = build(name, n_envs=3).learn(STEPS)
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
    model = build(name).learn(STEPS)
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
def test_our_files_hold_no_code(name, tmp_path):
    build(name).learn(40).save(tmp_path / "model.zip")
    for key, value in stored(tmp_path / "model.zip").items():
        if isinstance(value, dict) and ":serialized:" in value:
            pickled = base64.b64decode(value[":serialized:"])
            assert b"_make_function" not in pickled and b"_make_skeleton_func" not in pickled, f"{key} pickles a function"


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
        return json.loads(archive.read("data"))
