"""The commands from end to end: training, watching, plotting; one line and exit code 2 for what the user can put right."""

import argparse
import os
import shlex
import signal
import subprocess
import sys
import time
import types
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from stable_baselines3.common.vec_env import VecNormalize

from sb3_lecture.common.vec_env import make_native_vec_env
from sb3_lecture.zoo import cli, options, playing
from sb3_lecture.zoo import train as train_command
from sb3_lecture.zoo.comparison import comparison_lines
from sb3_lecture.zoo.runs import find_run, read_episodes

ROOT = Path(cli.__file__).parents[2]
SMALL_DQN = ["--hyperparams", "learning_starts:50", "train_freq:4", "gradient_steps:1", "buffer_size:500"]


def train(folder, *arguments):
    return cli.main(["train", "-f", str(folder), *arguments])


@pytest.fixture(scope="module")
def cartpole(tmp_path_factory):
    """Two DQN runs of a few steps."""
    folder = tmp_path_factory.mktemp("logs")
    for seed in ("0", "1"):
        assert train(folder, "--algo", "dqn", "--env", "CartPole-v1", "-n", "400", "--seed", seed, *SMALL_DQN) == 0
    return folder


# --- train -----------------------------------------------------------------------------------------------------------


def test_a_run_leaves_its_model_episodes_evaluations_and_picture(cartpole):
    run = find_run(cartpole, "dqn", "CartPole-v1")
    assert (run.number, run.seed) == (2, 1)
    for name in ("CartPole-v1.zip", "best_model.zip", "0.monitor.csv", "evaluations.npz", "learning_curve.png"):
        assert (run.path / name).is_file(), name
    with np.load(run.path / "evaluations.npz") as data:
        assert len(data["timesteps"]) == 20  # --eval-freq's default follows the length of the run
    assert not list(run.path.glob(".saving*"))


def test_training_says_where_everything_is_and_what_comes_next(tmp_path, capsys):
    assert train(tmp_path, "--algo", "dqn", "--env", "CartPole-v1", "-n", "100", *SMALL_DQN) == 0
    out = capsys.readouterr().out
    folder = tmp_path / "dqn" / "CartPole-v1_1"
    assert f"Run:     {folder}" in out
    assert f"Picture: {folder / 'learning_curve.png'}" in out
    assert f"Next:    sb3-lecture enjoy --algo dqn --env CartPole-v1 -f {tmp_path}" in out


def test_ctrl_c_saves_the_model_and_says_so(tmp_path, capsys, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    interrupt = "callback:[{'zoo_helpers.InterruptAt': {'step': 150}}]"
    code = train(tmp_path, "--algo", "dqn", "--env", "CartPole-v1", "-n", "5000", *SMALL_DQN, interrupt)
    assert code == 130
    assert "Interrupted after 150 of 5000 steps; saving the model" in capsys.readouterr().out
    assert find_run(tmp_path, "dqn").model_path.is_file()
    assert cli.main(["enjoy", "-f", str(tmp_path), "--algo", "dqn", "--n-episodes", "1", "--no-render"]) == 0


def _hear_ctrl_c():
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def test_ctrl_c_in_a_real_process_saves_the_model(tmp_path):
    command = [
        sys.executable,
        str(ROOT / "scripts" / "train.py"),
        "--algo",
        "a2c",
        "--env",
        "CartPole-v1",
        "-f",
        str(tmp_path),
    ]
    process = subprocess.Popen(
        [*command, "-n", "100000000"],
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=_hear_ctrl_c,  # a shell's background jobs, and so the tests started there, ignore SIGINT
    )
    try:
        deadline = time.monotonic() + 120
        episodes = tmp_path / "a2c" / "CartPole-v1_1" / "0.monitor.csv"
        while not (episodes.is_file() and episodes.read_text().count("\n") > 3):
            assert process.poll() is None and time.monotonic() < deadline
            time.sleep(0.2)
        os.kill(process.pid, signal.SIGINT)
        out, _ = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert "saving the model as it is" in out
    assert f"Next:    python {ROOT / 'scripts' / 'enjoy.py'} --algo a2c --env CartPole-v1" in out
    assert find_run(tmp_path, "a2c").model_path.is_file()


def test_two_runs_at_once_take_different_numbers(tmp_path):
    from rl_zoo3 import exp_manager, utils

    from sb3_lecture.zoo import manager as module
    from sb3_lecture.zoo.seams import replaced

    (tmp_path / "dqn" / "CartPole-v1_1").mkdir(parents=True)  # another run came first, after this one chose its number
    real = utils.get_latest_run_id
    answers = iter([0])
    with (
        replaced(exp_manager, get_latest_run_id=lambda *args: next(answers)),
        replaced(module, get_latest_run_id=real),
    ):
        assert train(tmp_path, "--algo", "dqn", "--env", "CartPole-v1", "-n", "60", "--eval-freq", "-1", *SMALL_DQN) == 0
    assert find_run(tmp_path, "dqn").number == 2


def test_env_takes_module_and_id(tmp_path):
    code = train(tmp_path, "--algo", "dqn", "--env", "gymnasium:CartPole-v1", "-n", "60", "--eval-freq", "-1", *SMALL_DQN)
    assert code == 0
    assert find_run(tmp_path, "dqn").env_id == "CartPole-v1"


def test_training_goes_on_from_a_saved_model(cartpole, tmp_path):
    model = find_run(cartpole, "dqn").model_path
    assert train(tmp_path, "--algo", "dqn", "--env", "CartPole-v1", "-n", "60", "-i", str(model), *SMALL_DQN) == 0


@pytest.mark.filterwarnings("ignore:rich is experimental")
def test_a_progress_bar_is_shown_on_request(tmp_path, capsys):
    command = ["--algo", "dqn", "--env", "CartPole-v1", "-n", "60", "-f", str(tmp_path), "--eval-freq", "30", *SMALL_DQN]
    assert cli.main(["train", "-P", *command]) == 0
    shown = capsys.readouterr()
    assert "60/60" in shown.err + shown.out
    assert "Eval num_timesteps" not in shown.out  # the bar is enough
    assert cli.main(["train", "--no-progress", *command]) == 0
    shown = capsys.readouterr()
    assert "60/60" not in shown.err + shown.out


def test_atari_runs_with_one_skip_of_frames(tmp_path, capsys):
    pytest.importorskip("ale_py", reason="needs the extra [atari]")
    small = ["--hyperparams", "buffer_size:300", "learning_starts:60"]  # evaluation: its env is made, its turn never comes
    code = train(tmp_path, "--algo", "dqn", "--env", "ALE/Breakout-v5", "-n", "120", "--eval-freq", "10000", *small)
    assert code == 0
    out = capsys.readouterr().out
    assert "eval_env_kwargs={'frameskip': 1, 'repeat_action_probability': 0.0}" in out
    video = tmp_path / "breakout.gif"
    shown = ["--n-episodes", "1", "-n", "20", "--video", str(video)]
    assert cli.main(["enjoy", "-f", str(tmp_path), "--algo", "dqn", *shown]) == 0
    assert video.read_bytes()[:4] == b"GIF8"


def test_vec_normalize_is_saved_and_loaded(tmp_path):
    normalized = 'normalize:"dict(norm_obs=True, norm_reward=False)"'
    code = train(tmp_path, "--algo", "dqn", "--env", "CartPole-v1", "-n", "60", "--eval-freq", "-1", *SMALL_DQN, normalized)
    assert code == 0
    assert not list(tmp_path.glob("**/*.pkl"))
    assert cli.main(["enjoy", "-f", str(tmp_path), "--n-episodes", "1", "--no-render"]) == 0
    run = find_run(tmp_path, "dqn")
    env = playing.make_run_env(run)
    assert isinstance(env, VecNormalize) and env.obs_rms.count > 60
    assert (env.training, env.norm_obs, env.norm_reward) == (False, True, False)
    assert playing.make_run_env(run, norm_reward=True).norm_reward
    on = ["--algo", "dqn", "--env", "CartPole-v1", "-n", "30", "--eval-freq", "-1", "-i", str(run.model_path)]
    assert train(tmp_path, *on, *SMALL_DQN, normalized) == 0
    assert playing.make_run_env(find_run(tmp_path, "dqn")).obs_rms.count > env.obs_rms.count + 29


# --- our worlds ------------------------------------------------------------------------------------------------------


def test_dqn_learns_the_maze_to_its_optimum(tmp_path, capsys):
    assert train(tmp_path, "--algo", "dqn", "--seed", "0", "-n", "3000") == 0
    out = capsys.readouterr().out
    assert "Exact value of the greedy policy: 0.59049, optimal: 0.59049, regret: 0" in out  # 0.9^5
    run = find_run(tmp_path, "dqn", "Lecture/Maze-v0")
    for name in ("learning_curve.png", "value_map.png", "exact.npz"):
        assert (run.path / name).is_file(), name
    assert cli.main(["enjoy", "-f", str(tmp_path), "--algo", "dqn", "--n-episodes", "3"]) == 0
    shown = capsys.readouterr().out
    assert ". x o ." in shown  # the agent on the treasure: the end of the episode is seen
    assert "Return over 3 episodes: 1.00 ± 0.00" in shown
    (run.path / "value_map.png").unlink()
    assert cli.main(["plot", str(run.path)]) == 0
    assert (run.path / "value_map.png").is_file()


@pytest.mark.slow
def test_masked_ppo_steps_many_native_envs(tmp_path):
    small = ["--hyperparams", "n_steps:16", "n_envs:8", "batch_size:64", "n_epochs:1"]
    assert train(tmp_path, "--algo", "ppo_mask", "-n", "256", "--eval-episodes", "1", *small) == 0
    run = find_run(tmp_path, "ppo_mask")
    assert [path.name for path in run.path.glob("*monitor.csv")] == ["monitor.csv"]  # one file of one vector env
    steps, returns = read_episodes(run)
    assert len(steps) > 5 and set(returns) <= {-1.0, 0.0, 1.0}
    assert steps[-1] <= 256
    assert cli.main(["enjoy", "-f", str(tmp_path), "--n-episodes", "2", "--no-render"]) == 0


def test_env_wrappers_take_the_ordinary_path(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    small = ["--hyperparams", "n_steps:16", "n_envs:2", "batch_size:32", "n_epochs:1", "env_wrapper:'zoo_helpers.Unchanged'"]
    assert train(tmp_path, "--algo", "ppo_mask", "-n", "64", "--eval-freq", "-1", *small) == 0
    names = sorted(path.name for path in find_run(tmp_path, "ppo_mask").path.glob("*monitor.csv"))
    assert names == ["0.monitor.csv", "1.monitor.csv"]


# --- enjoy and plot --------------------------------------------------------------------------------------------------


def test_enjoy_prints_mean_and_deviation(cartpole, capsys):
    command = ["enjoy", "-f", str(cartpole), "--algo", "dqn", "--env", "CartPole-v1", "--n-episodes", "3", "--render", "none"]
    assert cli.main(command) == 0
    first = capsys.readouterr().out
    returns = [float(line.split("return ")[1].split(",")[0]) for line in first.splitlines() if line.startswith("Episode")]
    assert f"Return over 3 episodes: {np.mean(returns):.2f} ± {np.std(returns, ddof=1):.2f} (mean ± sd)" in first
    assert cli.main(command) == 0
    assert capsys.readouterr().out == first  # one seed, one result


@pytest.mark.parametrize("name", ["episode.mp4", "episode.gif"])
def test_enjoy_writes_a_video(cartpole, tmp_path, name, capsys):
    assert cli.main(["enjoy", "-f", str(cartpole), "--n-episodes", "1", "--exp-id", "1", "--video", str(tmp_path / name)]) == 0
    assert f"Video: {tmp_path / name}" in capsys.readouterr().out
    head = (tmp_path / name).read_bytes()[:12]
    assert head[:4] == b"GIF8" or head[4:8] == b"ftyp"
    assert [path.name for path in tmp_path.iterdir()] == [name]  # nothing left beside


def test_enjoy_takes_the_best_model(cartpole):
    assert cli.main(["enjoy", "-f", str(cartpole), "--load-best", "--n-episodes", "1", "--no-render", "--stochastic"]) == 0


def test_plot_averages_the_runs_of_a_folder(cartpole, tmp_path, capsys):
    picture = tmp_path / "both.png"
    assert cli.main(["plot", str(cartpole / "dqn"), "-o", str(picture)]) == 0
    assert picture.read_bytes()[:4] == b"\x89PNG"
    assert cli.main(["plot", str(cartpole / "dqn" / "CartPole-v1_1"), str(cartpole / "dqn" / "CartPole-v1_2")]) == 0
    assert (cartpole / "dqn" / "learning_curve.png").is_file()


def test_plot_dream_writes_a_video_of_pictures_and_curves_of_numbers(cartpole, tmp_path, capsys):
    tiny = ["--hyperparams", "learning_starts:100", "policy_kwargs:dict(size='debug',deter=16)"]
    for env, kwargs in (("Lecture/Catch-v0", ["--env-kwargs", "rows:4", "columns:4"]), ("CartPole-v1", [])):
        assert train(tmp_path, "--algo", "dreamer_v3", "--env", env, "-n", "40", "--eval-freq", "-1", *kwargs, *tiny) == 0
    catch, pole = (find_run(tmp_path, "dreamer_v3", env).path for env in ("Lecture/Catch-v0", "CartPole-v1"))
    assert cli.main(["plot", "dream", str(catch), "--context", "2", "--n-episodes", "2"]) == 0
    assert f"Picture: {catch / 'dream.gif'}" in capsys.readouterr().out
    with Image.open(catch / "dream.gif") as video:
        # two episodes of four observations, the last one held for half a second more; GIFs join frames that are alike
        assert video.size == (388, 130) and 8 <= getattr(video, "n_frames", 1) <= 14
    assert cli.main(["plot", "dream", str(pole)]) == 0
    assert (pole / "dream.png").read_bytes()[:4] == b"\x89PNG"
    for arguments, message in (
        ([str(catch), "-o", "a.png"], "--output a.png: what the run foretells is pictures: .mp4 or .gif"),
        ([str(pole), "-o", "a.gif"], "is numbers: .png, .svg or .pdf"),
        ([str(pole), "--context", "0"], "argument --context: at least 1 is needed, not '0'"),
        ([str(cartpole / "dqn" / "CartPole-v1_1")], "dqn learns no world model that could be drawn"),
    ):
        assert cli.main(["plot", "dream", *arguments]) == 2
        assert message in capsys.readouterr().err


# --- what the user can put right -------------------------------------------------------------------------------------

CARTPOLE = ["--env", "CartPole-v1", "-n", "10"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "unknown command 'trian' (did you mean 'train'?)"),
        (["train", "--algo", "dqm"], "unknown algorithm 'dqm' (did you mean 'dqn'?)"),
        (["train", "--algo", "dqn", "--env", "CartPol-v1"], "unknown env 'CartPol-v1' (did you mean 'CartPole-v1'?)"),
        (["train", "--algo", "dqn", "--env", "Lecture/Mase-v0"], "(did you mean 'Lecture/Maze-v0'?)"),
        (["train", "--algo", "dqn", "--env", "atari"], "name a game: --env ALE/Breakout-v5"),
        (["train", "--algo", "dqn", "--env", "no_such_package:X-v0"], "No module named 'no_such_package'"),
        (["train", "--algo", "dqn", "--gym-packages", "no_such_package"], "--gym-packages no_such_package: cannot import it"),
        (["train", "--algo", "dqn", "--env", "Pendulum-v1"], "has no entry for 'Pendulum-v1'"),
        (["train", "--algo", "dqn", *CARTPOLE, "--hyperparams", "learning_ratte:0.1"], "(did you mean 'learning_rate'?)"),
        (["train", "--algo", "dqn", *CARTPOLE, "--hyperparams", "learning_rate:fast"], "name 'fast' is not known here"),
        (["train", "--algo", "dqn", *CARTPOLE, "--hyperparams", "batch_size:("], "write name:value with a Python value"),
        (["train", "--algo", "dqn", *CARTPOLE, "--hyperparams", "learning_rate:'fast'"], "learning_rate must be a number"),
        (["train", "--algo", "dqn", *CARTPOLE, "--hyperparams", "policy:'Mlp'"], "dqn on CartPole-v1: "),
        (["train", "--algo", "dqn", "--env-kwargs", "sise:3", "-n", "10"], "sise"),
        (["train", "--algo", "dqn", "--evl-freq", "3"], "(did you mean '--eval-freq'?)"),
        (["train", "--algo", "dqn", "-n", "many"], "invalid int value: 'many'"),
        (["train", "--algo", "dqn", "-i", "nothing.zip"], "--trained-agent nothing.zip: there is no such .zip file"),
        (["train", "--algo", "dqn", "--conf-file", "nothing.yml"], "the config file nothing.yml does not exist"),
        (["train", "--algo", "dqn", "--conf-file", "nothing.py", *CARTPOLE], "--conf-file nothing.py: there is no such file"),
        (
            ["train", "--algo", "dqn", "--conf-file", "no_such_module", *CARTPOLE],
            "--conf-file no_such_module: cannot import it",
        ),
        (["train", "--algo", "ppo_mask", "--conf-file", "{conf}", *CARTPOLE], "needs an env with action_masks()"),
        (["train", "--algo", "dqn", "--conf-file", "{conf}", "--env", "Pendulum-v1", "-n", "10"], "dqn on Pendulum-v1: "),
        (["enjoy", "--algo", "dqn", "-f", "{empty}"], "holds no run; train one first"),
        (["enjoy", "-f", "{empty}"], "holds no run; train one first"),
        (["enjoy", "--algo", "dqm"], "(did you mean 'dqn'?)"),
        (["enjoy", "--n-episodes", "0"], "at least 1 is needed"),
        (["enjoy", "--redner", "none"], "(did you mean '--render'?)"),
        (["plot", "{empty}/none"], "there is no folder"),
        (["plot", "{empty}"], "is no run's folder"),
        (["plot"], "the following arguments are required: RUN"),
    ],
)
def test_a_mistake_gives_one_line_and_exit_code_2(arguments, message, tmp_path, capsys):
    conf = tmp_path / "any.yml"
    conf.write_text("default:\n  n_timesteps: 10\n  policy: 'MlpPolicy'\n")
    (tmp_path / "empty").mkdir()
    filled = [argument.format(conf=conf, empty=tmp_path / "empty") if "{" in argument else argument for argument in arguments]
    if filled[0] == "train":
        filled += ["-f", str(tmp_path / "logs")]
    assert cli.main(filled) == 2
    error = capsys.readouterr().err.strip()
    assert message in error
    assert error.startswith("error: ") and "\n" not in error
    assert not list(tmp_path.glob("logs/*/*")), "a run that never began leaves no folder"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--env", "CartPole-v2"], "unknown env 'CartPole-v2'"),
        (["--exp-id", "7"], "no run with the number 7; numbers: 1, 2"),
        (["--env", "Pendulum-v1"], "holds no run on 'Pendulum-v1'; runs exist on CartPole-v1"),
        (["--render", "ansi"], "cannot render 'ansi'; it can: human, rgb_array"),
        (["--video", "episode.avi"], "the ending must be one of .mp4, .gif"),
        (["--video", "no/such/folder/e.mp4"], "does not exist"),
        (["--load-checkpoint", "7"], "holds no rl_model_7_steps.zip; it holds "),
        (["--no-render", "--env-kwargs", "sise:3"], "cannot make CartPole-v1"),
    ],
)
def test_a_mistake_in_enjoy_gives_one_line(cartpole, arguments, message, capsys):
    assert cli.main(["enjoy", "-f", str(cartpole), "--algo", "dqn", *arguments]) == 2
    error = capsys.readouterr().err.strip()
    assert message in error and "\n" not in error


def test_a_bug_keeps_its_traceback(monkeypatch):
    def broken(arguments):
        raise ValueError("a bug")

    monkeypatch.setattr("sb3_lecture.zoo.plot.run", broken)
    with pytest.raises(ValueError, match="a bug"):
        cli.main(["plot", "x"])


def test_help_of_the_command_loads_nothing_heavy():
    code = (
        "import sys; from sb3_lecture.zoo import cli; code = cli.main(['--help']); "
        "assert not {'torch', 'rl_zoo3', 'matplotlib', 'numba'} & set(sys.modules); sys.exit(code)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "train" in done.stdout and "enjoy" in done.stdout and "plot" in done.stdout


def test_importing_the_package_does_not_import_the_zoo():
    code = "import sys, sb3_lecture; print([m for m in sys.modules if m.startswith(('sb3_lecture.zoo', 'rl_zoo3'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("command", ["train", "enjoy", "plot"])
def test_each_command_has_a_help(command, capsys):
    with pytest.raises(SystemExit) as done:
        cli.main([command, "--help"])
    assert done.value.code == 0
    assert f"usage: sb3-lecture {command}" in capsys.readouterr().out


def test_the_scripts_call_the_commands(tmp_path):
    done = subprocess.run(
        [sys.executable, str(ROOT / "scripts" / "enjoy.py"), "--algo", "dqm"], capture_output=True, text=True, cwd=tmp_path
    )
    assert done.returncode == 2
    assert done.stderr.strip().startswith("error: unknown algorithm 'dqm' (did you mean 'dqn'?)")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["train", "-n", "-5"], "at least 1 is needed, not '-5'"),
        (["train", "--seed", "4294967296"], "at most 4294967295 is possible"),
        (["train", "--device", "tpu9"], "--device tpu9: "),
        (["train", "--gym-packages", ""], "--gym-packages '': cannot import it"),
        (["train", "--n-eval-envs", "0"], "at least 1 is needed"),
        (["train", "--render-training", "-3"], "it must be at least 0"),
        (["train", "-optimize"], "here tune searches"),
        (["train", "-f", "{file}"], "Not a directory"),
        (["train", "--tensorboard-log", "{file}", "-n", "10", "--eval-freq", "-1"], "Not a directory"),
        (["train", "--algo", "q_learning", "--env", "Pendulum-v1"], "q_learning needs finite observations and actions"),
        (["train", "--algo", "dqn", "--env", "Pendulum-v1"], "dqn needs finite actions"),
        (["train", "--algo", "td3", "--env", "CartPole-v1"], "td3 needs actions that are vectors"),
        (["train", "--algo", "dqn", "--env", "Acrobot-v1"], "(--conf-file)"),
        (["train", "--hyperparams", "n_envs:-1"], "n_envs must be a whole number from 1"),
        (["train", "--hyperparams", "n_timesteps:float('inf')"], "n_timesteps must be a whole number"),
        (["train", "--hyperparams", "learning_rate:'lin_-5'"], "learning_rate must be a number from 0"),
        (["train", "--hyperparams", "gamma:'0.9'"], "gamma must be a number from 0 to 1, without quotes"),
        (["train", "--hyperparams", "noise_type:'normal'"], "noise_type needs noise_std"),
        (["train", "--hyperparams", "callback:'no.such.Thing'"], "callback: cannot import no.such.Thing"),
        (["plot", "{file}"], "is a file; give the folder of a run"),
        (["plot", "estimators", "-o", "no/such/folder/x.png"], "does not exist"),
        (["tune", "--algo", "q_learning", "--n-workers", "99999999"], "--n-workers 99999999: at most "),
        (["tune", "--algo", "q_learning", "-f", "{file}"], "Not a directory"),
        (["enjoy", "--human", "--env", "Lecture/TicTacToe-v0", "--simulations", "-1"], "at least 1 is needed"),
    ],
)
def test_numbers_places_and_values_out_of_range_are_one_line(arguments, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("x")
    assert cli.main([argument.format(file="file") for argument in arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and "did you mean '-" not in error
    assert not list(tmp_path.glob("logs/*/*")), "a run that never began leaves no folder"


def test_a_full_disk_is_one_line(tmp_path, monkeypatch, capsys):
    def full(self, *args, **kwargs):
        raise OSError(28, "No space left on device", "0.monitor.csv")

    monkeypatch.setattr("stable_baselines3.common.monitor.ResultsWriter.write_row", full)
    code = train(tmp_path, "--algo", "dqn", "--env", "CartPole-v1", "-n", "400", "--eval-freq", "-1", *SMALL_DQN)
    assert code == 2
    assert capsys.readouterr().err == "error: No space left on device: 0.monitor.csv\n"


def test_a_training_that_fails_in_its_middle_keeps_its_traceback(tmp_path, monkeypatch, capsys):
    monkeypatch.syspath_prepend(Path(__file__).parent)
    breaking = "callback:[{'zoo_helpers.BreakAt': {'step': 30}}]"
    assert train(tmp_path, "--algo", "dqn", "--env", "CartPole-v1", "-n", "60", "--eval-freq", "-1", *SMALL_DQN, breaking) == 2
    file = tmp_path / "dqn" / "CartPole-v1_1" / "error.txt"
    error = capsys.readouterr().err
    assert f"error: dqn on CartPole-v1: broken here (after 30 steps; the traceback is in {file})" in error
    assert 'raise LookupError("broken here")' in file.read_text()


def test_the_next_line_works_in_a_new_shell(tmp_path, capsys, monkeypatch):
    folder = tmp_path / "my logs"
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "my_package.py").write_text(
        "import gymnasium as gym\n"
        "gym.register('My/Pole-v0', 'gymnasium.envs.classic_control:CartPoleEnv', max_episode_steps=20)\n"
    )
    conf = tmp_path / "conf.yml"
    conf.write_text("My/Pole-v0:\n  n_timesteps: 60\n  policy: MlpPolicy\n")
    assert train(folder, "--algo", "dqn", "--env", "my_package:My/Pole-v0", "--conf-file", str(conf), "--eval-freq", "-1") == 0
    (line,) = [line for line in capsys.readouterr().out.splitlines() if line.startswith("Next:")]
    words = shlex.split(line.removeprefix("Next:"))
    assert words == ["sb3-lecture", "enjoy", "--algo", "dqn", "--env", "my_package:My/Pole-v0", "-f", str(folder)]
    assert cli.main([*words[1:], "--no-render", "--n-episodes", "1"]) == 0


def test_train_has_the_options_of_rl_zoo3_but_for_its_tuner(monkeypatch):
    import rl_zoo3.train as zoo_train

    class Parsed(Exception):
        pass

    theirs = []

    class Recorder(argparse.ArgumentParser):
        def parse_args(self, *args, **kwargs):
            theirs.extend(self._option_string_actions)
            raise Parsed

    recording = types.SimpleNamespace(**{**vars(argparse), "ArgumentParser": Recorder})
    monkeypatch.setattr(zoo_train, "argparse", recording)
    with pytest.raises(Parsed):
        zoo_train.train()
    parser = options.Parser()
    train_command.options(parser)
    assert set(theirs) <= set(parser._option_string_actions)
    shown = parser.format_help()
    assert "--n-trials" not in shown and "-optimize" not in shown


def test_plots_help_names_its_other_pictures(capsys):
    with pytest.raises(SystemExit):
        cli.main(["plot", "--help"])
    shown = capsys.readouterr().out
    assert all(name in shown for name in ("plot compare", "plot dream", "plot estimators"))


def test_module_and_id_make_a_native_vec_env():
    env = make_native_vec_env("sb3_lecture_envs:Lecture/Maze-v0", 8)
    assert env.num_envs == 8
    env.close()


def test_compare_prints_the_mean_over_seeds_and_its_interval():
    runs = [np.array([0.0, 2.0]), np.array([4.0, 6.0])]
    (line,) = comparison_lines({"sarsa": runs}, 1)
    # last episodes 2 and 6: mean 4, sd 2√2, t of one degree 12.706: ± 12.706 · 2√2 / √2; all: means 1 and 5
    assert line == "sarsa  last 1 episodes     4.00 ± 25.41, all     3.00 ± 25.41 (mean ± 95 %, 2 seeds)"
