"""What a world cannot be made of, or stepped with, is refused in one line; what a NumPy program hands over is taken."""

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import sb3_lecture_envs
from sb3_lecture_envs import checks
from sb3_lecture_envs.board.rendering import CELL, draw
from sb3_lecture_envs.grid import parse_map

IDS = list(sb3_lecture_envs.WORLDS)


@pytest.mark.parametrize("env_id", IDS)
def test_an_action_is_the_same_as_a_number_a_numpy_number_and_an_array(env_id):
    """``model.predict`` returns arrays: ``env.step(np.array(3))`` is ``env.step(3)``, step by step."""
    outcomes = []
    for form in (int, np.int32, np.array, lambda a: np.array([a])):
        env = gym.make(env_id, **({"max_plies": 9, "size": 5} if env_id == "Lecture/Go-v0" else {})).unwrapped
        env.reset(seed=3)
        rng, steps = np.random.default_rng(5), []
        for _ in range(6):
            legal = np.flatnonzero(env.action_masks()) if hasattr(env, "action_masks") else np.arange(env.action_space.n)
            observation, reward, terminated, truncated, _ = env.step(form(int(rng.choice(legal))))
            steps.append((np.asarray(observation).tolist(), reward, terminated, truncated))
            if terminated:
                break
        outcomes.append(steps)
    assert outcomes[0] == outcomes[1] == outcomes[2] == outcomes[3]


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("action", [99_999, -1, 0.5, np.nan, None, "0", np.array([0, 1])])
def test_an_action_that_does_not_exist_is_refused(env_id, action):
    env = gym.make(env_id, disable_env_checker=True).unwrapped
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"outside the action space; actions are 0 to \d+"):
        env.step(action)


def test_a_side_needs_an_opponent():
    for make in (gym.make, gym.make_vec):
        with pytest.raises(ValueError, match="side='first' is the agent's side against an opponent"):
            make("Lecture/TicTacToe-v0", side="first")
    gym.make("Lecture/TicTacToe-v0", side="first", opponent="random")


@pytest.mark.parametrize(
    "rows",
    [
        ["S.", ".G"],
        "S.\n.G",
        b"S.\n.G",
        [b"S.", b".G"],
        [["S", "."], [".", "G"]],
        (("S", "."), (".", "G")),
        np.array([["S", "."], [".", "G"]]),
        np.array([[b"S", b"."], [b".", b"G"]]),
        np.array(["S.", ".G"], dtype="S2"),
    ],
)
def test_a_map_is_read_in_every_form_that_gymnasium_knows(rows):
    assert parse_map(rows).tolist() == [["S", "."], [".", "G"]]
    assert gym.make("Lecture/GridWorld-v0", map=rows).unwrapped.mdp.n_states == 4


def test_rewards_of_arrival_may_be_numbers():
    assert parse_map([["S", -5], [2.5, "G"]]).tolist() == [["S", "-5"], ["2.5", "G"]]


@pytest.mark.parametrize(
    ("rows", "error", "words"),
    [
        (["##", "##"], ValueError, "all walls"),
        ([], ValueError, "is empty"),
        (["GG"], ValueError, "no cell to start in"),
        (["S.", "G"], ValueError, "Row 1 of the map"),
        (["SFHG"], ValueError, "Unknown symbol 'F' in row 0"),
        ({"S": 1}, TypeError, "must be text"),
        (None, TypeError, "must be"),
        ([["S", None]], TypeError, "None in the map"),
        ([[["S"]]], TypeError, "must be text, or a list of symbols"),
        ([3], TypeError, "Row 3 of the map"),
        (["S.", ".."], ValueError, "No reachable terminal"),
    ],
)
def test_other_maps_are_refused(rows, error, words):
    with pytest.raises(error, match=words):
        gym.make("Lecture/GridWorld-v0", map=rows)


@pytest.mark.parametrize(
    ("env_id", "kwargs", "error"),
    [
        ("GridWorld", {"slip": "0.1"}, TypeError),
        ("GridWorld", {"slip": np.nan}, ValueError),
        ("GridWorld", {"step_reward": np.inf}, ValueError),
        ("CliffWalking", {"cliff_terminates": "no"}, TypeError),
        ("Bandit", {"n_points": 1e9}, ValueError),
        ("Bandit", {"k": 2.5}, ValueError),
        ("Bandit", {"task": -1}, ValueError),
        ("Bandit", {"mean": np.nan}, ValueError),
        ("Maze", {"layout": "random", "size": 10**9}, ValueError),
        ("Maze", {"layout": ["random"]}, ValueError),
        ("RandomWalk", {"n": 1e12}, ValueError),
        ("RandomWalk", {"left_reward": None}, TypeError),
        ("TreasureLine", {"n": True}, TypeError),
        ("Catch", {"rows": 10**6, "columns": 10**6}, ValueError),
        ("Catch", {"obs": 3}, ValueError),
        ("Go", {"size": 4}, ValueError),
        ("Go", {"komi": np.nan}, ValueError),
        ("Go", {"max_plies": 0}, ValueError),
        ("Nim", {"heaps": ()}, ValueError),
        ("Nim", {"heaps": (1.5,)}, ValueError),
        ("Nim", {"heaps": 3}, ValueError),
        ("Nim", {"heaps": (10**9,)}, ValueError),
        ("Othello", {"size": 7}, ValueError),
        ("MiniBreakout", {"obs": {}}, ValueError),
        ("TicTacToe", {"opponent": 3}, ValueError),
        ("TicTacToe", {"illegal": 1}, ValueError),
    ],
)
def test_an_argument_out_of_its_range_is_refused_by_name(env_id, kwargs, error):
    for make in (gym.make, gym.make_vec):
        with pytest.raises(error, match=f"{list(kwargs)[-1]}|{next(iter(kwargs))}") as caught:
            make(f"Lecture/{env_id}-v0", **kwargs)
        assert "\n" not in str(caught.value)


def test_numpy_numbers_are_numbers():
    made = gym.make("Lecture/Maze-v0", layout="random", size=np.int64(3), seed=np.array(4), slip=np.float32(0.25)).unwrapped
    plain = gym.make("Lecture/Maze-v0", layout="random", size=3, seed=4, slip=0.25).unwrapped
    assert made.layout.symbols.tolist() == plain.layout.symbols.tolist()
    assert made.mdp.prob.tolist() == plain.mdp.prob.tolist()
    assert checks.whole("n", 3.0, 1) == 3


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 12),
    st.sampled_from([10**6, 10**12, -(10**12), np.int64(3), np.array(2), np.array([1, 2])]),
    st.floats(allow_nan=True, allow_infinity=True),
    st.text(max_size=4),
    st.lists(st.integers(0, 4), max_size=3),
    st.sampled_from(["index", "rgb", "random", "first", "perfect", "ansi", "2x2", "S.\n.G", "lecture"]),
)
ARGUMENTS = {
    "GridWorld": ["map", "slip", "step_reward"],
    "CliffWalking": ["slip", "cliff_terminates"],
    "TreasureLine": ["n"],
    "Maze": ["layout", "size", "seed", "slip", "step_reward"],
    "RandomWalk": ["n", "left_reward"],
    "Catch": ["rows", "columns"],
    "Bandit": ["k", "task", "mean", "n_points"],
    "MiniBreakout": [],
    "TicTacToe": ["opponent", "side", "illegal"],
    "ConnectFour": ["opponent", "side"],
    "Othello": ["size", "side"],
    "Go": ["size", "komi", "max_plies"],
    "Nim": ["heaps", "misere"],
}


@settings(max_examples=150, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_any_arguments_make_a_world_that_steps_or_one_clear_error(data):
    name = data.draw(st.sampled_from(sorted(ARGUMENTS)))
    boards = ("TicTacToe", "ConnectFour", "Othello", "Go", "Nim")
    names = [*ARGUMENTS[name], "opponent" if name in boards else "obs"]
    kwargs = data.draw(st.dictionaries(st.sampled_from(names), ANYTHING, max_size=3))
    try:
        env = gym.make(f"Lecture/{name}-v0", disable_env_checker=True, **kwargs).unwrapped
    except (ValueError, TypeError) as error:
        message = str(error)
        assert message and "\n" not in message
        assert any(argument in message for argument in (*kwargs, "map", "Row", "Unknown", "law")), (kwargs, message)
        return
    observation, _ = env.reset(seed=0)
    assert env.observation_space.contains(observation)
    legal = np.flatnonzero(env.action_masks()) if hasattr(env, "action_masks") else np.arange(env.action_space.n)
    observation, reward, *_ = env.step(legal[0])
    assert env.observation_space.contains(observation)
    assert np.isfinite(reward)


def test_a_stone_is_painted_inside_its_cell_alone():
    """Pictures of boards are put together cell by cell: a stone's pixels are those of the whole picture's formula."""
    env = gym.make("Lecture/ConnectFour-v0").unwrapped
    env.reset(seed=0)
    empty = draw(env.game, env.state)
    env.step(3)
    played = draw(env.game, env.state)
    rows, columns = np.nonzero((empty != played).any(axis=2))
    assert rows.min() >= 5 * CELL and columns.min() >= 3 * CELL and columns.max() < 4 * CELL
    y, x = np.mgrid[:CELL, :CELL] - 0.5 * CELL
    inside = np.hypot(y, x) < 0.42 * CELL - 1
    assert (played[5 * CELL :, 3 * CELL : 4 * CELL][inside] == (225, 60, 50)).all()
