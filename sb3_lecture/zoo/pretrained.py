"""Small trained models that come with the package: ``enjoy --pretrained alphazero --env Lecture/TicTacToe-v0``.

``pretrained/<algo>/<env>_1`` is a run's folder as ``train`` leaves it, reduced to what ``enjoy`` needs: the model (a file
without pickles), arguments, config and results; ``card.md`` says how it was made and how good it is. In a checkout they lie at
the repository's root, in a wheel inside the package.
"""

import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import yaml

from sb3_lecture.zoo.errors import UserError, nearest

_PACKAGE = Path(__file__).resolve().parent.parent
#: what each was made with, besides ``--no-progress``; the seed makes the file
COMMANDS = {
    "alphazero/Lecture-TicTacToe-v0": "train --algo alphazero --env Lecture/TicTacToe-v0 -n 20000 --seed 0",
    "dqn/Lecture-Maze-v0": "train --algo dqn --env Lecture/Maze-v0 --seed 0",
    "q_learning/Lecture-CliffWalking-v0": "train --algo q_learning --env Lecture/CliffWalking-v0 --seed 0",
    "sarsa/Lecture-CliffWalking-v0": "train --algo sarsa --env Lecture/CliffWalking-v0 --seed 0",
}
#: files of a run that are kept
KEPT = ("*.zip", "board.npz", "exact.npz", "evaluations.npz", "*/args.yml", "*/config.yml")


def folder() -> Path:
    """Where the models lie."""
    inside = _PACKAGE / "pretrained"
    return inside if inside.is_dir() else _PACKAGE.parent / "pretrained"


def check(algo: str, env_id: str | None) -> None:
    """Check that there is a model.

    :param algo: the algorithm
    :param env_id: the env; None: any
    :raises UserError: if there is none; it names those that there are
    """
    known = sorted(f"{path.parent.name}/{path.name.removesuffix('_1')}" for path in folder().glob("*/*_1"))
    if not known:
        raise UserError(f"no pretrained model in {folder()}")
    wanted = f"{algo}/{'' if env_id is None else env_id.replace('/', '-')}"
    if not any(name == wanted or (env_id is None and name.startswith(wanted)) for name in known):
        raise UserError(f"no pretrained model {wanted.rstrip('/')}{nearest(wanted, known)}; there are: {', '.join(known)}")


def make_all(names: list[str]) -> int:
    """Make models anew.

    :param names: of ``COMMANDS``; empty: all
    :return: exit code: 0, or 2 if a name is wrong
    """
    try:
        for name in names or COMMANDS:
            print(f"{make(name)}: sb3-lecture {COMMANDS[name]}", flush=True)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def make(name: str) -> Path:
    """Train a model by its command, and keep what ``enjoy`` needs.

    :param name: one of ``COMMANDS``
    :return: the model's folder
    :raises UserError: if there is no such name
    """
    if name not in COMMANDS:
        raise UserError(f"no pretrained model {name!r}{nearest(name, COMMANDS)}; there are: {', '.join(COMMANDS)}")
    target = folder() / f"{name}_1"
    with tempfile.TemporaryDirectory() as place:
        words = [str(Path(sys.executable).with_name("sb3-lecture")), *shlex.split(COMMANDS[name]), "--no-progress"]
        said = subprocess.run(words, cwd=place, capture_output=True, text=True, check=True).stdout.splitlines()
        (run,) = Path(place).glob(f"logs/{name}_1")
        shutil.rmtree(target, ignore_errors=True)
        for path in (path for pattern in KEPT for path in sorted(run.glob(pattern)) if path.name != "best_model.zip"):
            kept = target / path.relative_to(run)
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, kept)
    for args in target.glob("*/args.yml"):  # where the config lay on the machine is nobody's business
        values = yaml.safe_load(args.read_text(encoding="utf-8"))
        args.write_text(yaml.safe_dump({**values, "conf_file": None}), encoding="utf-8")
    results = [line for line in said if line.startswith(("Exact value", "Against", "Eval num_timesteps"))]
    results = [line for line in results if not line.startswith("Eval")] or results[-1:]
    (target / "card.md").write_text(card(name, results), encoding="utf-8")
    return target


def card(name: str, results: list[str]) -> str:
    """The card of a model.

    :param name: one of ``COMMANDS``
    :param results: what its training said in the end
    """
    algo, env = name.split("/")
    env_id = env.replace("Lecture-", "Lecture/")
    lines = "\n".join(results)
    return (
        f"# {algo} on {env_id}\n\n```sh\nsb3-lecture {COMMANDS[name]}\n```\n\nmade this file, and said in the end:\n\n"
        f"```\n{lines}\n```\n\nIts hyperparameters stand in `{env}/config.yml`. To watch it, or to go on with it:\n\n"
        f"```sh\nsb3-lecture enjoy --pretrained {algo} --env {env_id}\n```\n\n"
        f"```python\nfrom sb3_lecture.common.checkpoint import load\n\n"
        f'model = load("pretrained/{name}_1/{env}.zip")\n```\n'
    )
