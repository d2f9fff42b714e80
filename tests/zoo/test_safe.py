"""No file and no text runs code: what is read as values, and what is refused, with the attack standing there."""

import os
import pickle

import numpy as np
import pytest
import torch as th
import yaml
from stable_baselines3 import HerReplayBuffer
from stable_baselines3.common.callbacks import BaseCallback, CheckpointCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize
from test_plotting import make_run

from sb3_lecture.common.checkpoint import save_statistics
from sb3_lecture.zoo import cli, safe
from sb3_lecture.zoo.errors import UserError, hide_passwords
from sb3_lecture.zoo.runs import open_run

#: what a stranger would write to see whether his code runs: it makes the file that the test looks for
ATTACK = "__import__('pathlib').Path({path!r}).touch()"


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("0.01", 0.01),
        ("-3", -3),
        ("1e-3 * 2", 0.002),
        ("2**10 - 1", 1023),
        ("(1, 'episode')", (1, "episode")),
        ("[{'a.b.C': {'step': 150}}, None, True]", [{"a.b.C": {"step": 150}}, None, True]),
        ("dict(net_arch=dict(pi=[64], vf=[8]), log_std_init=-2)", {"net_arch": {"pi": [64], "vf": [8]}, "log_std_init": -2}),
        ("dict(activation_fn=nn.ReLU)", {"activation_fn": th.nn.ReLU}),
        ("dict(optimizer_class=th.optim.AdamW)", {"optimizer_class": th.optim.AdamW}),
        ("torch.nn.Tanh", th.nn.Tanh),
        ("HerReplayBuffer", HerReplayBuffer),
        ("float('inf')", float("inf")),
    ],
)
def test_the_texts_of_configs_are_read(text, value):
    assert safe.value(text) == value
    assert safe.value(safe.text_of(value)) == value if value != float("inf") else True


@pytest.mark.parametrize(
    "text",
    [
        "",
        "(",
        "nope",
        "dict(",
        "dict(1)",
        "1 / 0",
        "2 ** 9999",
        "9 ** 9 ** 9 ** 9",
        "'a' * 10**9",
        "[0] * 10**9",
        "(" * 5000 + ")" * 5000,
        "x" * 100_000,
        "{[]: 1}",
        "{**{}}",
        "dict(**{'a': 1})",
        "dict(*[])",
        "[x for x in ()]",
        "lambda: 0",
        "f'{1}'",
        "nn.functional",
        "nn.Module.__init__",
        "nn._reduction",
        "th.hub.load",
        "th.load('x')",
        "nn.Linear(1, 2)",
        "().__class__.__bases__",
        "open('/etc/passwd')",
        "eval('1')",
        "os.system('true')",
        "print",
        "1j + 1",
    ],
)
def test_what_is_no_value_is_refused_in_one_line(text):
    with pytest.raises(ValueError) as refusal:
        safe.value(text)
    assert "\n" not in str(refusal.value) and len(str(refusal.value)) < 400


def test_trust_evaluates(tmp_path):
    attack = ATTACK.format(path=str(tmp_path / "ran"))
    with pytest.raises(ValueError, match="--trust"):
        safe.value(attack)
    assert not (tmp_path / "ran").exists()
    safe.value(attack, trust=True)
    assert (tmp_path / "ran").exists()


def test_values_are_written_as_yaml_holds_them_and_read_back():
    value = {"train_freq": (1, "episode"), "policy_kwargs": {"activation_fn": th.nn.ReLU, "net_arch": [8]}, "gamma": 0.9}
    plain = {key: safe.plain(inner) for key, inner in value.items()}
    assert plain == {
        "train_freq": [1, "episode"], "policy_kwargs": "dict(activation_fn=nn.ReLU, net_arch=[8])", "gamma": 0.9,
    }  # fmt: skip
    assert yaml.safe_load(yaml.safe_dump(plain)) == plain
    assert safe.value(plain["policy_kwargs"]) == value["policy_kwargs"]


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("os.system", "os.system is no BaseCallback"),
        ([{"subprocess.Popen": {"args": "true"}}], "subprocess.Popen is no BaseCallback"),
        ("callbacks", "write module.Class"),
        (3, "write module.Class"),
        ("no_such_module.X", "cannot import no_such_module.X"),
        ("stable_baselines3.common.callbacks.Nothing", "cannot import"),
        ({"stable_baselines3.common.callbacks.CheckpointCallback": 3}, "takes arguments such as"),
    ],
)
def test_only_classes_of_their_kind_are_called(names, message):
    with pytest.raises(ValueError, match=message):
        safe.check_classes(names, BaseCallback, "callback")


def test_classes_of_their_kind_pass():
    name = "stable_baselines3.common.callbacks.CheckpointCallback"
    for names in (None, name, {name: {"save_freq": 1}}, [name], CheckpointCallback, [CheckpointCallback(1, "x")]):
        safe.check_classes(names, BaseCallback, "callback")


# --- files of a run --------------------------------------------------------------------------------------------------


class Bomb:
    """A pickle that runs code when it is opened."""

    def __init__(self, path):
        self.path = str(path)

    def __reduce__(self):
        return os.mkdir, (self.path,)


@pytest.fixture
def venv():
    env = make_vec_env("CartPole-v1")
    yield env
    env.close()


@pytest.mark.parametrize("trust", [False, True])
def test_statistics_are_loaded_without_running_code(trust, tmp_path, venv):
    normalized = VecNormalize(venv, gamma=0.9)
    normalized.seed(0)
    normalized.reset()
    for _ in range(20):
        normalized.step([0])
    normalized.save(tmp_path / "vecnormalize.pkl")  # as rl_zoo3 does
    assert safe.statistics_path(tmp_path).name == "vecnormalize.pkl"
    loaded = safe.load_vec_normalize(safe.statistics_path(tmp_path), venv, trust)
    np.testing.assert_array_equal(loaded.obs_rms.mean, normalized.obs_rms.mean)
    assert (loaded.ret_rms.var, loaded.gamma) == (normalized.ret_rms.var, 0.9)
    normalized.obs_rms.mean[:] = 3.0
    save_statistics(normalized, tmp_path / "vecnormalize.zip")  # ours
    assert safe.statistics_path(tmp_path).name == "vecnormalize.zip"
    loaded = safe.load_vec_normalize(safe.statistics_path(tmp_path), venv, trust)
    np.testing.assert_array_equal(loaded.obs_rms.mean, np.full(4, 3.0))
    assert (loaded.ret_rms.var, loaded.gamma) == (normalized.ret_rms.var, 0.9)


def test_a_pickle_that_would_run_code_is_refused(tmp_path, venv):
    path = tmp_path / "vecnormalize.pkl"
    path.write_bytes(pickle.dumps(Bomb(tmp_path / "ran")))
    with pytest.raises(UserError, match=r"would run (posix|nt)\.mkdir when unpickled; --trust runs it"):
        safe.load_vec_normalize(path, venv)
    assert not (tmp_path / "ran").exists()
    with pytest.raises(UserError, match="holds a NoneType"):
        safe.load_vec_normalize(path, venv, trust=True)
    assert (tmp_path / "ran").exists()


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "missing", "another", "another env"])
@pytest.mark.parametrize("file", ["vecnormalize.zip", "vecnormalize.pkl"])
def test_damaged_statistics_are_one_line(tmp_path, venv, file, damage):
    path = tmp_path / file
    other = make_vec_env("Pendulum-v1" if damage == "another env" else "CartPole-v1")
    save_statistics(VecNormalize(other), path) if file.endswith("zip") else VecNormalize(other).save(path)
    data = path.read_bytes()
    flipped = bytes(255 - byte if i in range(100, 140) else byte for i, byte in enumerate(data))
    contents = {"cut": data[:200], "flipped": flipped, "empty": b"", "another": pickle.dumps({"a": 1})}
    if damage in contents:
        path.write_bytes(contents[damage])
    if damage == "missing":
        path.unlink()
    with pytest.raises(UserError) as refusal:
        safe.load_vec_normalize(path, venv)
    assert "\n" not in str(refusal.value)
    other.close()


def test_a_runs_config_runs_nothing(tmp_path, capsys):
    run = make_run(tmp_path / "logs", 1, [(1, 4, 0.1), (2, 4, 0.2)], env="CartPole-v1")
    ran = tmp_path / "ran"
    attacks = {
        "tag": f"gamma: !!python/object/apply:os.mkdir ['{ran}']\n",
        "text": f'normalize: "{ATTACK.format(path=str(ran))}"\n',
        "wrapper": f"env_wrapper: [{{os.mkdir: {{path: '{ran}'}}}}]\n",
        "vec wrapper": "vec_env_wrapper: os.abort\n",
    }
    (run.path / "CartPole-v1.zip").write_bytes(b"")
    for name, text in attacks.items():
        (run.params_path / "config.yml").write_text(text)
        assert cli.main(["plot", str(run.path), "--no-values"]) == 0
        assert cli.main(["enjoy", "-f", str(tmp_path / "logs"), "--no-render"]) == 2, name
        assert capsys.readouterr().err.count("\n") == 1
        assert not ran.exists(), name
    args = run.params_path / "args.yml"
    args.write_text(f"env: CartPole-v1\nalgo: dqn\nseed: !!python/object/apply:os.mkdir ['{ran}']\n")
    assert open_run(run.path).seed is None
    assert not ran.exists()


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("policy_kwargs", "dict(net_arch=[{attack}])"),
        ("normalize", "{attack}"),
        ("monitor_kwargs", "{attack}"),
        ("replay_buffer_class", "{attack}"),
        ("replay_buffer_kwargs", "{attack}"),
        ("policy", "pathlib.Path.cwd"),
        ("callback", "os.getpid"),
        ("env_wrapper", "os.getpid"),
    ],
)
def test_a_config_from_elsewhere_runs_nothing(tmp_path, capsys, key, text):
    attack = ATTACK.format(path=str(tmp_path / "ran"))
    conf = tmp_path / "theirs.yml"
    entry = {"n_timesteps": 10, "policy": "MlpPolicy", key: text.format(attack=attack)}
    conf.write_text(yaml.safe_dump({"CartPole-v1": entry}))
    command = ["train", "--algo", "dqn", "--conf-file", str(conf), "-f", str(tmp_path / "logs")]
    assert cli.main(command) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and key in error
    assert not (tmp_path / "ran").exists()
    assert not list(tmp_path.glob("logs/*/*"))


def test_a_python_config_needs_trust(tmp_path, capsys):
    conf = tmp_path / "theirs.py"
    conf.write_text(f"{ATTACK.format(path=str(tmp_path / 'ran'))}\nhyperparams = {{}}\n")
    assert cli.main(["train", "--algo", "dqn", "--env", "CartPole-v1", "--conf-file", str(conf)]) == 2
    assert "is a program; --trust runs it" in capsys.readouterr().err
    assert not (tmp_path / "ran").exists()


def test_passwords_are_hidden_wherever_they_stand():
    said = hide_passwords("tune --storage=postgresql://me:se:cret@host/db --study mysql://a@h/b -f x:y@z")
    assert said == "tune --storage=postgresql://me:***@host/db --study mysql://a@h/b -f x:y@z"
