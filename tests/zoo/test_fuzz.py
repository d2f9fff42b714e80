"""Command lines, configs and runs' files with nonsense in them: success, or one line and exit code 2; never anything else.

``FUZZ_EXAMPLES=5000 pytest tests/zoo/test_fuzz.py`` searches longer, from another seed each time.
"""

import os
import shutil

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from test_plotting import make_run

from sb3_lecture.zoo import cli, report

EXAMPLES = int(os.environ.get("FUZZ_EXAMPLES", 0))


def fuzz(examples):
    """Short and always the same; long and always another where FUZZ_EXAMPLES says so."""
    return settings(
        max_examples=EXAMPLES or examples, derandomize=not EXAMPLES, database=None, deadline=None,
        suppress_health_check=list(HealthCheck),
    )  # fmt: skip


@pytest.fixture(autouse=True)
def _little_work(monkeypatch, tmp_path):
    """No pictures at the end of a training, and what is written goes to a folder of its own."""
    monkeypatch.setattr(report, "finish", lambda manager, model, command: None)
    monkeypatch.chdir(tmp_path)


def outcome(capsys, arguments, logs=None):
    """Run a command; complain of anything but success or one line with code 2, and of a folder that a failure leaves."""
    try:
        code = cli.main(arguments)
    except SystemExit as done:  # --help
        code = done.code
    error = capsys.readouterr().err
    assert code in (0, 2), (arguments, code)
    if code == 2:
        lines = [line for line in error.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1 and error.endswith("\n"), (arguments, error)
        assert "Traceback" not in error, (arguments, error)
        if logs is not None:
            left = [path for path in logs.glob("*/*") if not (path / "error.txt").is_file()]
            assert not left, (arguments, error, left)
    return code


WORDS = st.sampled_from(
    ["", "-1", "0", "1", "3", "-5", "99999999999999999999", "1e3", "nan", "inf", "-inf", "nope", "dict(", "()", "None", "True",
     "'a'", "/proc/x", "/dev/null", ".", "a b", "ä∂", "a:b", ":", "::", "x:y:z",
     "Lecture/Maze-v0", "CartPole-v1", "Pendulum-v1", "gymnasium:CartPole-v1", "tpu9", "cuda:99", "4294967296", "%s", "{}",
     "--", "-", "no_such_module", "os", "json", "this_is_not.there"]
)  # fmt: skip
VALUES = st.one_of(WORDS, st.text(max_size=8).filter(lambda text: not set(text) & set("\0/~")))  # nothing is made elsewhere
NAMES = st.sampled_from(["gamma", "learning_rate", "n_envs", "n_timesteps", "policy", "env_wrapper", "callback", "noise_type",
                         "policy_kwargs", "exploration_final_eps", "", "seed", "x"])  # fmt: skip
TRAIN = st.sampled_from(
    ["--env", "--seed", "--verbose", "--device", "--num-threads", "--render-training", "--conf-file", "--study", "--algo",
     "--vec-env", "--eval-freq", "--eval-episodes", "--n-eval-envs", "--save-freq", "--trained-agent", "--log-interval",
     "--gym-packages", "--truncate-last-trajectory", "--optimize-hyperparameters", "--n-trials", "--tensorboard-log", "-P"]
)  # fmt: skip
OTHERS = {
    "enjoy": ["--algo", "--env", "-f", "--exp-id", "--n-episodes", "-n", "--load-checkpoint", "--seed", "--render", "--video",
              "--fps", "--device", "--gym-packages", "--env-kwargs", "--opponent", "--side", "--simulations"],
    "plot": ["-o", "--window", "--evaluations", "--no-values", "--gym-packages", ""],
    "plot compare": ["--env", "--seeds", "-n", "--hyperparams", "--window", "-o", ""],
    "plot dream": ["-o", "--context", "--length", "--n-episodes", "--seed", ""],
    "plot estimators": ["-o", "--n-samples", "--seed"],
    "tune": ["--algo", "--env", "-f", "--conf-file", "--n-trials", "--n-workers", "--sampler", "--pruner", "--seed",
             "--study-name", "--heartbeat", "--grace", "--n-seeds", "-n", "--score", "--quantile", "--top-k"],
}  # fmt: skip


@fuzz(15)
@given(st.lists(st.tuples(TRAIN, VALUES), max_size=3), st.lists(st.tuples(NAMES, VALUES), max_size=2))
def test_train_takes_or_refuses_any_command_line(capsys, tmp_path, options, hyperparams):
    logs = tmp_path / "logs"
    shutil.rmtree(logs, ignore_errors=True)
    words = [f"{option}={value}" if option.startswith("--") else option for option, value in options]
    texts = [f"{name}:{value}" for name, value in hyperparams]
    small = ["--algo", "q_learning", "--env", "Lecture/Maze-v0", "-f", str(logs), "-n", "40", "--no-progress"]
    outcome(capsys, ["train", *small, *words, *(["--hyperparams", *texts] if texts else [])], logs)


@fuzz(15)
@given(st.data())
def test_other_commands_refuse_any_nonsense(capsys, data):
    command = data.draw(st.sampled_from(sorted(OTHERS)))
    options = data.draw(st.lists(st.tuples(st.sampled_from(OTHERS[command]), VALUES), min_size=1, max_size=3))
    words = [word for option, value in options for word in ([option, value] if option else [value])]
    last = ["--n-workers", "99999999"] if command == "tune" else ["no_such_folder"] if command.startswith("plot") else []
    if command == "plot compare":
        last = ["no_such_algorithm"]
    if command == "plot estimators":
        last = ["-o", "no/such/folder.png"]
    assert outcome(capsys, [*command.split(), *words, *last]) == 2 or "-h" in "".join(words)


SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(-3, 3), st.just(10**30), st.floats(), WORDS, st.text(max_size=5),
    st.sampled_from(["dict(", "dict(net_arch=[8])", "lin_-5", "lin_nan", "lin_0.1", "1/N", "0.9", "os.getcwd", "nn.ReLU",
                     "stable_baselines3.common.callbacks.CheckpointCallback", "gymnasium.wrappers.TimeLimit"]),
)  # fmt: skip
TREES = st.recursive(
    SCALARS, lambda inner: st.one_of(st.lists(inner, max_size=2), st.dictionaries(st.text(max_size=4), inner, max_size=2)),
    max_leaves=4,
)  # fmt: skip
KEYS = {
    "q_learning": ["learning_rate", "gamma", "exploration_fraction", "exploration_initial_eps", "exploration_final_eps",
                   "initial_value"],
    "dqn": ["learning_rate", "gamma", "batch_size", "buffer_size", "train_freq", "gradient_steps", "learning_starts",
            "target_update_interval", "tau", "policy_kwargs", "exploration_fraction", "max_grad_norm", "replay_buffer_class"],
    "ppo": ["learning_rate", "gamma", "n_steps", "batch_size", "n_epochs", "clip_range", "ent_coef", "policy_kwargs",
            "gae_lambda", "normalize_advantage", "target_kl", "max_grad_norm"],
}  # fmt: skip
ZOO_KEYS = ["n_envs", "n_timesteps", "policy", "env_kwargs", "env_wrapper", "vec_env_wrapper", "frame_stack", "normalize",
            "monitor_kwargs", "noise_type", "noise_std", "callback"]  # fmt: skip


@fuzz(20)
@given(st.data())
def test_train_takes_or_refuses_any_config(capsys, tmp_path, data):
    logs, conf = tmp_path / "logs", tmp_path / "conf.yml"
    shutil.rmtree(logs, ignore_errors=True)
    algo = data.draw(st.sampled_from(sorted(KEYS)))
    entry = {"policy": "TabularPolicy" if algo == "q_learning" else "MlpPolicy", "n_timesteps": 40}
    if algo != "q_learning":
        entry["policy_kwargs"] = "dict(net_arch=[4])"
    entry |= {"n_steps": 8, "batch_size": 8, "n_epochs": 1} if algo == "ppo" else {}
    entry |= {"learning_starts": 10, "buffer_size": 100} if algo == "dqn" else {}
    entry |= data.draw(st.dictionaries(st.sampled_from([*KEYS[algo], *ZOO_KEYS]), TREES, min_size=1, max_size=2))
    if isinstance(entry.get("n_timesteps"), int) and entry["n_timesteps"] > 1000:
        entry["n_timesteps"] = 40  # it would be taken, and take long
    conf.write_text(yaml.safe_dump({"Lecture/Maze-v0": entry}, allow_unicode=True), encoding="utf-8")
    command = ["train", "--algo", algo, "--conf-file", str(conf), "-f", str(logs), "--eval-freq", "-1", "--seed", "0"]
    outcome(capsys, [*command, "--no-progress"], logs)


@fuzz(15)
@given(st.data())
def test_damaged_files_of_a_run_are_named(capsys, tmp_path, data):
    logs = tmp_path / "logs"
    shutil.rmtree(logs, ignore_errors=True)
    run = make_run(logs, 1, [(1, 4, 0.1), (0, 3, 0.2)], exact=[(0, 0.0, 0.9, 0.9, 0.5), (10, 0.9, 0.9, 0.0, 1.0)])
    (run.params_path / "config.yml").write_text("gamma: 0.9\nenv_kwargs: {slip: 0.0}\n")
    names = [run.params_path / "config.yml", run.params_path / "args.yml", run.path / "0.monitor.csv", run.path / "exact.npz"]
    path = data.draw(st.sampled_from(names))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(content) - 1))
        match data.draw(st.sampled_from(["flip", "cut", "insert"])):
            case "flip":
                content[at] ^= data.draw(st.integers(1, 255))
            case "cut":
                del content[at + 1 :]
            case "insert":
                content[at:at] = data.draw(st.binary(min_size=1, max_size=6))
    path.write_bytes(bytes(content))
    outcome(capsys, ["plot", str(logs), "--no-values", "-o", str(tmp_path / "x.svg")])
    assert outcome(capsys, ["enjoy", "-f", str(logs), "--no-render", "--n-episodes", "1"]) == 2
