"""Files without pickles: they hold all that was saved, run nothing, and say in one line what is wrong with them."""

import base64
import io
import json
import math
import os
import pickle
import random
import subprocess
import sys
import zipfile
from collections import deque
from pathlib import Path

import cloudpickle
import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from sb3_contrib import QRDQN, MaskablePPO
from stable_baselines3 import A2C, DQN, PPO, SAC
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.save_util import load_from_pkl, save_to_pkl
from stable_baselines3.common.utils import FloatSchedule, LinearSchedule
from stable_baselines3.common.vec_env import VecNormalize
from torch import nn

from sb3_lecture.common import checkpoint, packing
from sb3_lecture.common.archive import read_archive, write_archive
from sb3_lecture.common.old_files import Refused, safe_loads
from sb3_lecture.policy_gradient.actor_critic import ActorCritic
from sb3_lecture.policy_gradient.sac_discrete import SACDiscrete
from sb3_lecture.tabular.q_learning import QLearning
from sb3_lecture.tabular.sarsa import Sarsa
from sb3_lecture.value_based.barebone_dqn import BareboneDQN
from sb3_lecture_envs.board.go import Go
from sb3_lecture_envs.board.nim import Nim
from sb3_lecture_envs.mdp import TabularMDP

RENAMED = {
    "world_model_policy": "WorldModelPolicy", "vae": "VAE", "mdn_rnn": "MDNRNN", "rssm": "RSSM",
    "latents": "CategoricalLatent",
}  # fmt: skip


def through_a_file(value, **kwargs):
    file = io.BytesIO()
    lost = write_archive(file, "test", {"value": value})
    file.seek(0)
    return read_archive(file, "test", **kwargs)["value"], lost


# --- values ----------------------------------------------------------------------------------------------------------


def test_every_kind_of_value_comes_back_as_it_was():
    value = {
        "plain": [None, True, -3, 2**70, 1.5, "ä~", b"\x00\xff", 1 + 2j, range(1, 9, 2)],
        "not finite": [math.inf, -math.inf], "tuple": (1, (2.5, "x")), "deque": deque([1, 2], maxlen=3), "set": {3, 1},
        "keys": {1: "a", (2, 3): "b", "~": "c"}, "arrays": [np.arange(6, dtype=np.int16).reshape(2, 3), np.zeros((0, 4))],
        "scalars": [np.float32(0.1), np.int64(-5), np.bool_(True), np.array(2.5)], "dtype": np.dtype("<f4"),
        "type": np.float32,
        "bf16": th.tensor([1.5, -2.0], dtype=th.bfloat16), "tensor": th.arange(3), "size": th.Size([2, 3]),
        "device": th.device("cpu"), "torchtype": th.float16, "path": Path("a/b"), "objects": np.array([None, 1], dtype=object),
        "class": nn.Tanh, "optimizer": th.optim.RMSprop, "function": nn.functional.relu, "buffer class": ReplayBuffer,
    }  # fmt: skip
    back, lost = through_a_file(value)
    assert lost == [] and list(back) == list(value)
    for key, part in value.items():
        assert type(back[key]) is type(part), key
        if key in ("arrays", "scalars", "objects"):
            for x, y in zip(part, back[key], strict=True):
                assert type(x) is type(y) and np.asarray(x).dtype == np.asarray(y).dtype and np.shape(x) == np.shape(y)
                np.testing.assert_array_equal(x, y)
        elif isinstance(part, th.Tensor):
            assert back[key].dtype == part.dtype and th.equal(back[key], part)
        else:
            assert back[key] == part, key
    assert back["deque"].maxlen == 3 and back["arrays"][0].flags.writeable
    assert math.isnan(through_a_file(math.nan)[0])


@pytest.mark.parametrize(
    "space",
    [
        spaces.Box(-1.0, np.array([2.0, np.inf], np.float32), dtype=np.float32), spaces.Box(0, 255, (3, 2), np.uint8),
        spaces.Discrete(4, start=-2), spaces.MultiDiscrete([3, 4]), spaces.MultiDiscrete(np.array([[2, 3]]), start=[[1, 0]]),
        spaces.MultiBinary(5), spaces.MultiBinary([2, 3]),
        spaces.Dict(b=spaces.Discrete(2), a=spaces.Tuple([spaces.MultiBinary(1), spaces.Box(0.0, 1.0, (1,), np.float64)])),
    ],
)  # fmt: skip
def test_every_space_comes_back_as_it_was(space):
    back, lost = through_a_file(space)
    assert back == space and type(back) is type(space) and lost == []
    if isinstance(space, spaces.Dict):
        assert list(back.spaces) == list(space.spaces)
    elif not isinstance(space, spaces.Tuple):
        assert back.dtype == space.dtype


def test_generators_schedules_noises_laws_and_games_come_back_as_they_were():
    rng, old, bits = np.random.default_rng(3), np.random.RandomState(4), th.Generator().manual_seed(5)
    for thing in (rng, old):
        thing.normal(size=3)
    mdp = TabularMDP(2, 1, [0, 1, 3], [1, 0, 1], [1.0, 0.25, 0.75], [1.0, 2.0, 3.0], [False, True, False], [0], [1.0])
    noise = OrnsteinUhlenbeckActionNoise(np.zeros(2), np.ones(2))
    noise.noise_prev = np.array([0.5, -0.5])
    value = [
        rng,
        old,
        bits,
        FloatSchedule(LinearSchedule(1.0, 0.1, 0.5)),
        noise,
        mdp,
        Go(5, komi=0.5),
        Nim((1, 2), misere=True),
    ]
    (rng2, old2, bits2, schedule, noise2, mdp2, go, nim), lost = through_a_file(value)
    assert lost == []
    np.testing.assert_array_equal(rng.normal(size=4), rng2.normal(size=4))
    np.testing.assert_array_equal(old.normal(size=4), old2.normal(size=4))
    assert th.equal(th.rand(3, generator=bits), th.rand(3, generator=bits2))
    assert [schedule(p) for p in (1.0, 0.75, 0.5, 0.0)] == [value[3](p) for p in (1.0, 0.75, 0.5, 0.0)]
    np.testing.assert_array_equal(noise2.noise_prev, noise.noise_prev)
    assert all(
        np.array_equal(x, y) for x, y in zip(mdp._arrays().values(), mdp2._arrays().values(), strict=True) if x is not None
    )
    assert go == Go(5, komi=0.5) and nim == Nim((1, 2), misere=True) and go != Go(5)


class Stranger(nn.Module):
    """A class that is on no list."""


def test_only_listed_names_are_followed():
    for name in ("os:system", "builtins:eval", "torch:load", "torch.hub:load", "subprocess:Popen", "sb3_lecture.zoo.gtp:gtp",
                 "stable_baselines3.common.save_util:load_from_pkl", "numpy:load", "torch.nn.modules.linear:F",
                 "stable_baselines3:os.system", "rl_zoo3:os", "sb3_lecture.common.opponents:ModelOpponent"):  # fmt: skip
        with pytest.raises(ValueError, match=r"not on the allow-list|not there"):
            packing.resolve(name)
    file = io.BytesIO()
    write_archive(file, "test", {"value": Stranger})
    name = f"{__name__}:Stranger"
    with pytest.raises(ValueError, match="Stranger, which is not on the allow-list"):
        read_archive(file, "test")
    assert read_archive(file, "test", {name: Stranger})["value"] is Stranger
    try:
        assert packing.allow(Stranger) is Stranger
        assert read_archive(file, "test")["value"] is Stranger
    finally:
        del packing._allowed[name]


@pytest.mark.parametrize("old", RENAMED)
def test_names_of_modules_that_moved_are_found(old):
    if old == "latents":
        assert packing.RENAMED["sb3_lecture.model_based.latents"] == "sb3_lecture.model_based.dreamer_latents"
        return
    assert packing.resolve(f"sb3_lecture.model_based.{old}:{RENAMED[old]}").__name__ == RENAMED[old]


def test_what_needs_code_is_said_when_it_is_saved_and_asked_for_when_it_is_loaded(tmp_path):
    model = ActorCritic(
        "MlpPolicy", "CartPole-v1", learning_rate=lambda p: 0.01 * p, policy_kwargs={"net_arch": [4]}, device="cpu"
    )
    with pytest.warns(UserWarning, match=r"learning_rate cannot be kept without code.*custom_objects=\{'learning_rate': …\}"):
        model.save(tmp_path / "model")
    with pytest.raises(ValueError, match=r"holds no learning_rate \(.*lambda.*\), which is code: pass custom_objects"):
        ActorCritic.load(tmp_path / "model")
    loaded = ActorCritic.load(tmp_path / "model", custom_objects={"learning_rate": LinearSchedule(0.01, 0.0, 1.0)})
    assert loaded.lr_schedule(0.5) == 0.005


# --- models ----------------------------------------------------------------------------------------------------------


def small(cls, **kwargs):
    return cls(
        "MlpPolicy", make_vec_env("CartPole-v1", 1, seed=0), seed=0, policy_kwargs={"net_arch": [4]}, device="cpu", **kwargs
    )


def test_sb3s_arguments_of_load_stay(tmp_path, capsys):
    model = small(ActorCritic).learn(20)
    model.save(tmp_path / "model.zip")
    env = make_vec_env("CartPole-v1", 2)
    loaded = ActorCritic.load(tmp_path / "model", env=env, device="cpu", print_system_info=True, gamma=0.5,
                              policy_kwargs={"net_arch": [4]})  # fmt: skip
    assert loaded.gamma == 0.5 and loaded.env is env and loaded.n_envs == 2
    assert "== SAVED MODEL SYSTEM INFO ==" in capsys.readouterr().out
    with pytest.raises(ValueError, match="policy kwargs"):
        ActorCritic.load(tmp_path / "model.zip", policy_kwargs={"net_arch": [5]})
    with pytest.raises(ValueError, match="Observation spaces do not match"):
        ActorCritic.load(tmp_path / "model.zip", env=make_vec_env("Acrobot-v1", 1))
    with pytest.raises(FileNotFoundError, match="nothing"):
        ActorCritic.load(tmp_path / "nothing")
    file = io.BytesIO()
    model.save(file)
    file.seek(0)
    again = ActorCritic.load(file)
    model.policy.requires_grad_(False)
    for x, y in zip(model.policy.parameters(), again.policy.parameters(), strict=True):
        assert th.equal(x, y)
    loaded.policy.action_net.weight.data.zero_()
    loaded.set_parameters(tmp_path / "model.zip", device="cpu")
    assert th.equal(loaded.policy.action_net.weight, model.policy.action_net.weight)


def test_another_classs_file_is_one_error(tmp_path):
    small(ActorCritic).save(tmp_path / "a.zip")
    with pytest.raises(ValueError, match=r"a\.zip is a file of ActorCritic, not of BareboneDQN"):
        BareboneDQN.load(tmp_path / "a.zip")
    QLearning("MlpPolicy", "Lecture/Maze-v0").save(tmp_path / "q.zip")
    with pytest.raises(ValueError, match=r"q\.zip is a file of QLearning, not of Sarsa"):
        Sarsa.load(tmp_path / "q.zip")
    save_to_pkl(tmp_path / "x.pkl", [1])
    with pytest.raises(ValueError, match="damaged or no model's file"):
        QLearning.load(tmp_path / "x.pkl")


def test_weights_that_are_not_finite_are_named(tmp_path):
    model = small(ActorCritic)
    model.policy.value_net.bias.data[0] = math.nan
    model.save(tmp_path / "model.zip")
    with pytest.raises(ValueError, match=r"the tensor policy\.value_net\.bias holds numbers that are not finite"):
        ActorCritic.load(tmp_path / "model.zip")


def test_a_damaged_file_is_one_error_or_unharmed(tmp_path):
    """200 flipped bits and 20 cuts, drawn by a fixed seed: each is a ValueError, or what was flipped meant nothing."""
    path = tmp_path / "model.zip"
    QLearning("MlpPolicy", "Lecture/Maze-v0", seed=0).learn(50).save(path)
    table = QLearning.load(path).q_table.tobytes()
    whole, rng = path.read_bytes(), random.Random(1)
    damaged = [whole[: rng.randrange(len(whole))] for _ in range(20)]
    for _ in range(200):
        content = bytearray(whole)
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
        damaged.append(bytes(content))
    refused = 0
    for content in damaged:
        path.write_bytes(content)
        try:
            assert QLearning.load(path).q_table.tobytes() == table
        except ValueError as error:
            assert "\n" not in str(error)
            refused += 1
    assert refused > 100


def test_a_json_of_another_form_is_one_error(tmp_path):
    QLearning("MlpPolicy", "Lecture/Maze-v0", seed=0).save(tmp_path / "good.zip")
    with zipfile.ZipFile(tmp_path / "good.zip") as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    good = json.loads(parts["content.json"])

    def places(part, at=()):
        yield at
        for key, inner in part.items() if isinstance(part, dict) else enumerate(part) if isinstance(part, list) else ():
            yield from places(inner, (*at, key))

    rng = random.Random(2)
    every = [at for at in places(good) if at and at[:2] != ("content", "resume")]
    for at in rng.sample(every, min(120, len(every))):
        wrong = json.loads(parts["content.json"])
        owner = wrong
        for key in at[:-1]:
            owner = owner[key]
        owner[at[-1]] = rng.choice(
            [None, -1, 10**12, "os:system", [], {}, {"~": "name", "v": "os:system"}, {"~": "array", "v": 999}]
        )
        with zipfile.ZipFile(tmp_path / "bad.zip", "w") as archive:
            for name, content in {**parts, "content.json": json.dumps(wrong)}.items():
                archive.writestr(name, content)
        try:
            QLearning.load(tmp_path / "bad.zip")
        except ValueError as error:
            assert "\n" not in str(error), at


# --- files of others -------------------------------------------------------------------------------------------------


class Attack:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return Path.touch, (Path(self.path),)


class SystemAttack(Attack):
    def __reduce__(self):
        return os.system, (f"touch {self.path}",)


class HiddenAttack(Attack):
    """A loader that is on no list, fed with what it would run."""

    def __reduce__(self):
        return load_from_pkl, (io.BytesIO(pickle.dumps(SystemAttack(self.path))),)


class TorchAttack(Attack):
    """What torch itself would unpickle."""

    def __reduce__(self):
        file = io.BytesIO()
        th.save(SystemAttack(self.path), file)
        return th.storage._load_from_bytes, (file.getvalue(),)


@pytest.mark.parametrize("attack", [Attack, SystemAttack, TorchAttack])
def test_no_pickle_is_run(attack, tmp_path):
    target = tmp_path / "ran"
    content = pickle.dumps({"x": [attack(target)]})
    with pytest.raises((Refused, ValueError)):
        safe_loads(content)
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(ValueError, match=r"trusted=True|cannot be read"):
        small(BareboneDQN).load_replay_buffer(tmp_path / "a.pkl")
    with pytest.raises(ValueError, match=r"trusted=True|cannot be read"):
        checkpoint.load_statistics(tmp_path / "a.pkl", make_vec_env("CartPole-v1", 1))
    assert not target.exists()


def poisoned(path, out, field, value):
    """SB3's zip with another pickle in a field."""
    with zipfile.ZipFile(path) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    data = json.loads(parts["data"])
    data[field] = {":type:": "x", ":serialized:": base64.b64encode(cloudpickle.dumps(value)).decode()}
    with zipfile.ZipFile(out, "w") as archive:
        for name, content in {**parts, "data": json.dumps(data)}.items():
            archive.writestr(name, content)


def test_sb3s_own_files_open_without_running_what_is_pickled(tmp_path):
    box = gym.make("Pendulum-v1")
    models = [
        small(PPO, n_steps=8, batch_size=8, learning_rate=LinearSchedule(1e-3, 0.0, 1.0)), small(A2C), small(DQN),
        small(QRDQN), small(MaskablePPO, n_steps=8, batch_size=8),
        SAC("MlpPolicy", box, policy_kwargs={"net_arch": [4]}, action_noise=NormalActionNoise(np.zeros(1), np.ones(1))),
    ]  # fmt: skip
    for model in models:
        path = tmp_path / f"{type(model).__name__}.zip"
        model.save(path)
        loaded = checkpoint.load(path, device="cpu")
        assert type(loaded) is type(model)
        for name, part in model.get_parameters().items():
            if "optimizer" not in name:
                assert all(th.equal(x, loaded.get_parameters()[name][key]) for key, x in part.items())
        observation = model.observation_space.sample()
        np.testing.assert_array_equal(
            loaded.predict(observation, deterministic=True)[0], model.predict(observation, deterministic=True)[0]
        )
        checkpoint.save(loaded, tmp_path / "ours.zip")  # and go into ours, and back
        assert type(checkpoint.load(tmp_path / "ours.zip")) is type(model)
    poisoned(tmp_path / "PPO.zip", tmp_path / "bad.zip", "observation_space", SystemAttack(tmp_path / "ran"))
    with pytest.raises(ValueError, match=r"would run code to load observation_space \(posix\.system\).*trusted=True"):
        checkpoint.load(tmp_path / "bad.zip", cls=PPO)
    assert not (tmp_path / "ran").exists()
    space = models[0].observation_space
    assert type(checkpoint.load(tmp_path / "bad.zip", cls=PPO, custom_objects={"observation_space": space})) is PPO
    assert not (tmp_path / "ran").exists()


def test_our_old_files_open_with_a_warning(tmp_path):
    model = small(BareboneDQN, learning_starts=5, buffer_size=50).learn(20)
    model._running = ()
    path = tmp_path / "old.zip"
    excluded = {*model._excluded_save_params()}
    BaseAlgorithm.save(model, path, exclude=excluded)
    with pytest.warns(UserWarning, match="with pickles: save the model anew"):
        loaded = BareboneDQN.load(path)
    assert th.equal(next(iter(loaded.q_net.parameters())), next(iter(model.q_net.parameters())))
    poisoned(path, tmp_path / "bad.zip", "action_space", Attack(tmp_path / "ran"))
    with pytest.raises(ValueError, match="would run code to load action_space"):
        BareboneDQN.load(tmp_path / "bad.zip")
    assert not (tmp_path / "ran").exists()
    with pytest.warns(UserWarning, match="with pickles"), pytest.raises(ValueError, match="space"):
        BareboneDQN.load(tmp_path / "bad.zip", trusted=True)
    assert (tmp_path / "ran").exists(), "trusted=True runs it, as it says"


def test_replay_buffers_and_statistics_go_through_files_without_pickles(tmp_path):
    model = small(BareboneDQN, learning_starts=5, buffer_size=50).learn(20)
    model.save_replay_buffer(tmp_path / "replay")
    assert zipfile.is_zipfile(tmp_path / "replay.pkl")
    other = small(BareboneDQN, learning_starts=5, buffer_size=50)
    other.load_replay_buffer(tmp_path / "replay")
    for name in ("observations", "actions", "rewards", "dones", "pos", "full"):
        np.testing.assert_array_equal(getattr(other.replay_buffer, name), getattr(model.replay_buffer, name))
    save_to_pkl(tmp_path / "sb3.pkl", model.replay_buffer)
    third = small(BareboneDQN, learning_starts=5, buffer_size=50)
    third.load_replay_buffer(tmp_path / "sb3.pkl")  # SB3's own pickle, read without running it
    np.testing.assert_array_equal(third.replay_buffer.observations, model.replay_buffer.observations)
    save_to_pkl(tmp_path / "list.pkl", [1, 2])
    with pytest.raises(ValueError, match=r"holds a list; BareboneDQN needs a ReplayBuffer"):
        third.load_replay_buffer(tmp_path / "list.pkl")
    with pytest.raises(ValueError, match="holds a replay buffer, not a model"):
        BareboneDQN.load(tmp_path / "replay.pkl")

    normalize = VecNormalize(make_vec_env("CartPole-v1", 2, seed=0), gamma=0.5)
    normalize.reset()
    for _ in range(30):
        normalize.step(np.array([0, 1]))
    checkpoint.save_statistics(normalize, tmp_path / "statistics.zip")
    normalize.save(str(tmp_path / "statistics.pkl"))
    for name in ("statistics.zip", "statistics.pkl"):
        back = checkpoint.load_statistics(tmp_path / name, make_vec_env("CartPole-v1", 2))
        np.testing.assert_array_equal(back.obs_rms.mean, normalize.obs_rms.mean)
        np.testing.assert_array_equal(back.ret_rms.var, normalize.ret_rms.var)
        assert back.gamma == 0.5 and back.obs_rms.count == normalize.obs_rms.count
        with pytest.raises(ValueError, match=r"observations of shape \(4,\)|shape"):
            checkpoint.load_statistics(tmp_path / name, make_vec_env("Acrobot-v1", 1))


def test_include_replay_keeps_the_memory_and_is_off_by_default(tmp_path):
    model = small(SACDiscrete, learning_starts=5, buffer_size=50).learn(20)
    model.save(tmp_path / "without.zip")
    model.save(tmp_path / "with.zip", include_replay=True)
    assert SACDiscrete.load(tmp_path / "without.zip").replay_buffer.size() == 0
    kept = SACDiscrete.load(tmp_path / "with.zip").replay_buffer
    assert kept.size() == 20
    np.testing.assert_array_equal(kept.next_observations, model.replay_buffer.next_observations)


def test_a_new_process_reads_a_file_without_importing_more_than_it_names(tmp_path):
    QLearning("MlpPolicy", "Lecture/Maze-v0", seed=0).save(tmp_path / "q.zip")
    code = (
        "import sys; from sb3_lecture.common.checkpoint import load; model = load(sys.argv[1]); "
        "assert type(model).__name__ == 'QLearning'; assert 'rl_zoo3' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "q.zip")], check=True, timeout=120)


def test_the_schedule_that_train_gives_its_models_is_found_without_the_zoo(monkeypatch):
    monkeypatch.delitem(sys.modules, "rl_zoo3", raising=False)
    schedule = packing.resolve("rl_zoo3.utils:SimpleLinearSchedule")(0.5)
    assert schedule(0.25) == 0.125
    monkeypatch.delitem(sys.modules, "rl_zoo3", raising=False)
    with pytest.raises(ValueError, match="not on the allow-list"):
        packing.resolve("rl_zoo3.utils:ALGOS")
