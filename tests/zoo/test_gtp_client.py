"""The GTP engine under Sabaki's own controller (npm's @sabaki/gtp), in processes of its own, through whole games.

``npm install --no-save @sabaki/gtp@3.0.0`` in the root of the repository brings it; without it the tests are skipped.
"""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from sgfmill.boards import Board

ROOT = Path(__file__).parents[2]
NODE = shutil.which("node")
MODULE = ROOT / "node_modules" / "@sabaki" / "gtp"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        NODE is None or not MODULE.exists(), reason="needs node and `npm install --no-save @sabaki/gtp@3.0.0` in the root"
    ),
]


@pytest.mark.parametrize(("size", "player"), [(5, "random"), (7, "random"), (5, "mcts")])
def test_sabakis_controller_plays_whole_games(size, player):
    """Two engines tell each other their moves; a board of sgfmill's replays them and counts the same score."""
    engine = [sys.executable, "-c", "import sys; from sb3_lecture.zoo.cli import main; sys.exit(main())", "gtp"]
    engine += ["--opponent", player, "--simulations", "30", "--size", str(size)]
    command = [str(NODE), str(Path(__file__).with_name("sabaki_games.js")), str(MODULE), str(size), "0.5", "1", *engine]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    game = json.loads(result.stdout)
    assert {"genmove", "play", "undo", "final_score"} <= set(game["commands"])
    assert game["refused"] == [] and len(game["moves"]) > 2 * size
    assert [vertex for _, vertex in game["moves"][-2:]] == ["pass", "pass"]
    board = Board(size)
    for colour, vertex in game["moves"]:
        if vertex != "pass":
            board.play(int(vertex[1:]) - 1, "ABCDEFGHJ".index(vertex[0]), colour.lower())
    lead = board.area_score() - 0.5
    score = f"{'B' if lead > 0 else 'W'}+{abs(lead):g}"
    assert [answer["content"].strip() for answer in game["scores"]] == [score, score]
    answers = [(answer["error"], answer["content"].strip()) for answer in game["after"]]
    assert answers == [(False, "")] * 4 + [(False, score), (True, "unknown command"), (True, "syntax error")]
