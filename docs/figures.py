"""The figures of the lectures' companions, each by the command that its page shows.

``python docs/figures.py [NAME …]`` runs the commands in a new folder and puts their pictures into docs/figures/.
"""

import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

FOLDER = Path(__file__).resolve().parent / "figures"

#: picture → (command as the page has it, the file that it leaves; of a run, relative to the run's folder)
FIGURES = {
    "treasure.png": (
        "sb3-lecture train --algo q_learning --env Lecture/TreasureLine-v0 -n 500 --seed 0",
        "learning_curve.png",
    ),
    "two_by_two.png": (
        "sb3-lecture train --algo value_iteration --env Lecture/GridWorld-v0 --env-kwargs \"map:'2x2'\"",
        "value_map.png",
    ),
    "four_rooms.png": (
        "sb3-lecture train --algo policy_iteration --env Lecture/GridWorld-v0 --env-kwargs \"map:'four-rooms'\"",
        "value_map.png",
    ),
    "td_prediction.png": ("sb3-lecture train --algo td_prediction --env Lecture/RandomWalk-v0 --seed 0", "learning_curve.png"),
    "monte_carlo.png": (
        "sb3-lecture train --algo monte_carlo_prediction --env Lecture/RandomWalk-v0 --seed 0",
        "learning_curve.png",
    ),
    "cliff.png": ("sb3-lecture plot compare sarsa q_learning --env Lecture/CliffWalking-v0 --seeds 30", "comparison.png"),
    "maze.png": ("sb3-lecture train --algo dqn --seed 0", "value_map.png"),
    "maze.gif": ("sb3-lecture enjoy --algo dqn --n-episodes 1 --video maze.gif", "maze.gif"),
    "triad.png": ("sb3-lecture plot triad", "triad.png"),
    "estimators.png": ("sb3-lecture plot estimators", "estimators.png"),
    "cart_pole.png": ("sb3-lecture train --algo reinforce --env CartPole-v1 --seed 0", "learning_curve.png"),
    "tic_tac_toe.png": (
        "sb3-lecture train --algo alphazero --env Lecture/TicTacToe-v0 -n 20000 --seed 0",
        "learning_curve.png",
    ),
}


def make(name: str, folder: Path) -> Path:
    """Run a figure's command and take its picture.

    :param name: of the figure
    :param folder: where the command runs; the runs of earlier figures are found there
    :return: the picture
    :raises RuntimeError: if the command fails or leaves no such file
    """
    command, file = FIGURES[name]
    words = [str(Path(sys.executable).with_name("sb3-lecture")), *shlex.split(command)[1:]]
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    made = sorted([*folder.glob(file), *folder.glob(f"logs/*/*/{file}")], key=lambda path: path.stat().st_mtime)
    if done.returncode != 0 or not made:
        raise RuntimeError(f"{command}: exit code {done.returncode}, no {file}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    FOLDER.mkdir(exist_ok=True)
    return Path(shutil.copyfile(made[-1], FOLDER / name))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        for chosen in sys.argv[1:] or FIGURES:
            print(make(chosen, Path(place)))
