"""Run folders: finding them and reading what stands in them.

rl_zoo3 lays a run out as ``logs/<algo>/<env>_<number>/``: the model ``<env>.zip``, ``best_model.zip``, the episodes
``*monitor.csv``, the evaluations ``evaluations.npz``, and in ``<env>/`` the hyperparameters and the command. Ours adds
``exact.npz``, the exact value of the policy during training.
"""

import csv
import io
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.envs.registration import load_env_creator
from huggingface_sb3 import EnvironmentName

from sb3_lecture.zoo.errors import UserError, first_line, nearest
from sb3_lecture.zoo.safe import read_yaml

EXACT_FILE = "exact.npz"
BOARD_FILE = "board.npz"


@dataclass(frozen=True)
class Run:
    """One run's folder.

    :param path: the folder, ``logs/dqn/Lecture-Maze-v0_1``
    :param algo: the algorithm's name
    :param env_id: the environment's id
    :param seed: the seed; None where the folder does not say
    :param packages: those that the command imported, which register envs
    """

    path: Path
    algo: str
    env_id: str
    seed: int | None = None
    packages: tuple[str, ...] = ()

    @property
    def env_name(self) -> EnvironmentName:
        """The environment's name as it stands in file names."""
        return EnvironmentName(self.env_id)

    @property
    def number(self) -> int:
        """The run's number, the end of the folder's name; 0 where it has none."""
        match = re.search(r"_(\d+)(?:_[0-9a-f-]{36})?$", self.path.name)
        return int(match[1]) if match else 0

    @property
    def params_path(self) -> Path:
        """The folder of the hyperparameters and of VecNormalize's statistics."""
        return self.path / self.env_name

    @property
    def model_path(self) -> Path:
        """The trained model's file."""
        return self.path / f"{self.env_name}.zip"

    def saved_args(self) -> dict[str, Any]:
        """Read the arguments of the command that made the run."""
        return _read_args(self.params_path / "args.yml")

    def options(self, trust: bool = False) -> dict[str, Any]:
        """Read the hyperparameters and env_kwargs that the run was made with; empty if they were not saved.

        :param trust: build the Python objects that the file names
        """
        path = self.params_path / "config.yml"
        options = read_yaml(path, trust) if path.is_file() else {}
        if env_kwargs := self.saved_args().get("env_kwargs"):
            options["env_kwargs"] = env_kwargs
        return options


def open_run(path: str | Path) -> Run:
    """Read which algorithm and environment a folder belongs to.

    :raises UserError: if the folder is no run of rl_zoo3's or ours
    """
    path = Path(path)
    if path.is_file():
        raise UserError(f"{path} is a file; give the folder of a run")
    if not path.is_dir():
        siblings = [p.name for p in path.parent.iterdir()] if path.parent.is_dir() else []
        raise UserError(f"there is no folder {path}{nearest(path.name, siblings)}")
    found = sorted(path.glob("*/args.yml"))
    if len(found) != 1:
        raise UserError(f"{path} is no run's folder: it must hold one <env>/args.yml, as logs/<algo>/<env>_<number> does")
    args = _read_args(found[0])
    seed = args.get("seed")
    packages = args.get("gym_packages")
    return Run(
        path, str(args.get("algo", path.parent.name)), args["env"], seed if isinstance(seed, int) else None,
        tuple(map(str, packages)) if isinstance(packages, list) else (),
    )  # fmt: skip


def find_runs(folder: str | Path, algo: str, env_id: str | None = None) -> list[Run]:
    """List the runs of an algorithm, the newest first.

    :param folder: the log folder
    :param algo: the algorithm's name
    :param env_id: only runs on this environment; None: on any
    :raises UserError: if there is none
    """
    parent = Path(folder) / algo
    runs = [open_run(args.parent.parent) for args in parent.glob("*/*/args.yml")]
    if not runs:
        raise UserError(f"{parent} holds no run; train one first: sb3-lecture train --algo {algo}")
    chosen = [run for run in runs if env_id is None or run.env_name == EnvironmentName(env_id)]
    if not chosen:
        known = sorted({run.env_id for run in runs})
        raise UserError(f"{parent} holds no run on {env_id!r}{nearest(str(env_id), known)}; runs exist on {', '.join(known)}")
    return sorted(chosen, key=lambda run: ((run.params_path / "args.yml").stat().st_mtime, run.number), reverse=True)


def find_run(folder: str | Path, algo: str, env_id: str | None = None, number: int = 0) -> Run:
    """Find one run.

    :param number: the run's number; 0: the newest that has a model
    :raises UserError: if there is none
    """
    runs = find_runs(folder, algo, env_id)
    if number == 0:
        return next((run for run in runs if run.model_path.is_file()), runs[0])
    for run in runs:
        if run.number == number:
            return run
    known = ", ".join(str(run.number) for run in sorted(runs, key=lambda run: run.number))
    raise UserError(f"{Path(folder) / algo} holds no run with the number {number}; numbers: {known}")


def is_self_play_run(run: Run) -> bool:
    """Whether the run's env is a game, of boards or cards, that it played against itself."""
    try:
        entry_point = gym.spec(run.env_id).entry_point
        creator = load_env_creator(entry_point) if isinstance(entry_point, str) else entry_point
    except (gym.error.Error, ImportError, AttributeError):  # an env that is not installed here
        return False
    from sb3_lecture_envs.board.env import BoardEnv
    from sb3_lecture_envs.cards.env import CardEnv

    kwargs = run.options().get("env_kwargs")
    alone = not isinstance(kwargs, dict) or kwargs.get("opponent") is None
    return alone and isinstance(creator, type) and issubclass(creator, (BoardEnv, CardEnv))


def read_episodes(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Read the training episodes from Monitor's files.

    :return: the agent's steps when each episode ended, int [n]; its return, float [n]: that of the first player where two
        alternate (Monitor has that of the last mover, who alone gets a reward)
    """
    rows: list[tuple[float, float, int]] = []  # (seconds, return, length)
    for path in sorted(run.path.glob("*monitor.csv")):
        with open(path, newline="", encoding="utf-8", errors="replace") as lines:
            header = re.search(r'"t_start":\s*([0-9]+(?:\.[0-9]*)?(?:e\+?[0-9]+)?)', next(lines, ""))
            t_start = float(header[1]) if header else 0.0
            read = csv.DictReader(line.replace("\0", "") for line in lines)
            while True:
                try:
                    row = next(read)
                    numbers = t_start + float(row["t"]), float(row["r"]), int(float(row["l"]))
                except StopIteration:
                    break
                except (TypeError, ValueError, KeyError, OverflowError, csv.Error):  # damaged, or being written right now
                    continue
                if all(map(math.isfinite, numbers)) and 0 < numbers[2] < 2**31:
                    rows.append(numbers)
    rows.sort(key=lambda row: row[0])
    steps = np.cumsum([row[2] for row in rows], dtype=np.int64) // _frame_skip(run)
    returns = np.array([row[1] for row in rows], dtype=np.float64)
    if rows and is_self_play_run(run):
        returns = np.where([row[2] % 2 == 1 for row in rows], returns, -returns)
    return steps, returns


def _frame_skip(run: Run) -> int:
    """Frames a step of the agent: Monitor, which lies inside SB3's AtariWrapper, counts frames."""
    config = run.params_path / "config.yml"
    text = config.read_text(encoding="utf-8", errors="replace") if config.is_file() else ""
    if "AtariWrapper" not in text:
        return 1
    skip = re.search(r"frame_skip:\s*(\d+)", text)
    return max(1, int(skip[1])) if skip else 4


def read_evaluations(run: Run) -> tuple[np.ndarray, np.ndarray]:
    """Read EvalCallback's evaluations.

    :return: env steps of each evaluation, int [n]; mean return, float [n]
    """
    path = run.path / "evaluations.npz"
    data = _read_npz(path, ("timesteps", "results"))
    if not data:
        return np.zeros(0, dtype=np.int64), np.zeros(0)
    if data["results"].ndim != 2:
        raise UserError(f"{path} is damaged: results have one row an evaluation; move it away to go without it")
    return data["timesteps"], data["results"].mean(axis=1)


def read_exact(run: Run) -> dict[str, np.ndarray]:
    """Read what ExactEvalCallback wrote.

    :return: ``timesteps``, ``values``, ``optimal_values``, ``regrets``, ``optimal_actions``, or of a prediction method
        ``timesteps``, ``rms_errors``, ``largest_errors``, or of a game with hidden information ``timesteps``,
        ``exploitability`` and more, each [n]; empty if there is none
    """
    columns = _read_npz(run.path / EXACT_FILE, ("timesteps",))
    if columns and not {"rms_errors", "exploitability"} & columns.keys():
        columns = _read_npz(run.path / EXACT_FILE, ("timesteps", "values", "optimal_values"))
    return columns


def read_board(run: Run) -> dict[str, np.ndarray]:
    """Read what BoardEvalCallback wrote.

    :return: ``timesteps``, ``<opponent>_win``, ``_draw``, ``_loss`` and ``elo``, each [n]; empty if there is none
    """
    return _read_npz(run.path / BOARD_FILE, ("timesteps",))


def _read_args(path: Path) -> dict[str, Any]:
    args = read_yaml(path)
    if not isinstance(args.get("env"), str) or not args["env"]:
        raise UserError(f"{path} does not say which env the run was on")
    return args


def _read_npz(path: Path, needed: tuple[str, ...]) -> dict[str, np.ndarray]:
    """Read arrays of numbers that have one length; empty if there is no file.

    :raises UserError: if the file is damaged
    """
    if not path.is_file():
        return {}
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as data:  # of a damaged file np.load keeps hold
            arrays = {name: data[name] for name in data.files}
        lengths = {len(arrays[name]) for name in needed}
        if len(lengths) != 1 or not all(np.issubdtype(arrays[name].dtype, np.number) for name in needed):
            raise ValueError("its columns are of several lengths, or no numbers")
    except Exception as error:  # whatever a damaged file brings: BadZipFile, KeyError, EOFError, ValueError, …
        missing = f"it lacks {error}" if isinstance(error, KeyError) else first_line(error)
        raise UserError(f"{path} is damaged: {missing}; move it away to go without it") from error
    return arrays
