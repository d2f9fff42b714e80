"""Every world, in every observation mode: its law, its steps, its many-at-once twin."""

import subprocess
import sys
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as check_gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.common import TimeLimit  # rl_zoo3 puts its own in the place of gym.wrappers.TimeLimit
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as check_sb3

import sb3_lecture_envs
from sb3_lecture_envs.grid import MOVES, WALL
from sb3_lecture_envs.maze import random_maze
from sb3_lecture_envs.mdp import TabularMDP
from sb3_lecture_envs.tabular_env import TabularEnv, TabularVectorEnv

OBS_MODES = ("index", "one-hot", "coords", "grid", "rgb")
WORLDS = [
    ("Lecture/GridWorld-v0", {}),
    ("Lecture/GridWorld-v0", {"map": "4x4"}),
    ("Lecture/GridWorld-v0", {"map": "four-rooms", "slip": 0.3}),
    ("Lecture/GridWorld-v0", {"map": ["S . -5 G", "# P 2 T"], "step_reward": -0.1}),
    ("Lecture/CliffWalking-v0", {}),
    ("Lecture/CliffWalking-v0", {"cliff_terminates": True, "slip": 0.1}),
    ("Lecture/TreasureLine-v0", {}),
    ("Lecture/Maze-v0", {}),
    ("Lecture/Maze-v0", {"layout": "random", "size": 4, "seed": 3, "slip": 0.2}),
    ("Lecture/RandomWalk-v0", {}),
    ("Lecture/RandomWalk-v0", {"n": 12, "reach": 4}),
    ("Lecture/DeepSea-v0", {"size": 4}),
    ("Lecture/RiverSwim-v0", {}),
    ("Lecture/BairdStar-v0", {}),
]
NAMES = [f"{env_id.split('/')[1]}-{i}" for i, (env_id, _) in enumerate(WORLDS)]
every_world = pytest.mark.parametrize(("env_id", "kwargs"), WORLDS, ids=NAMES)


@pytest.mark.parametrize("obs", OBS_MODES)
@every_world
def test_checkers_of_gymnasium_and_sb3_are_content(env_id, kwargs, obs):
    env = gym.make(env_id, obs=obs, render_mode="rgb_array", **kwargs)
    assert env.spec.max_episode_steps is not None
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*CUDA.*|.*different from the unwrapped version.*")
        check_gymnasium(env.unwrapped, skip_render_check=True)
        check_sb3(env)
    assert env.observation_space.contains(env.reset(seed=1)[0])
    picture = env.render()
    assert picture.dtype == np.uint8 and picture.ndim == 3 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 2


@pytest.mark.parametrize("obs", OBS_MODES)
@every_world
def test_every_observation_tells_its_state(env_id, kwargs, obs):
    env = gym.make(env_id, obs=obs, **kwargs).unwrapped
    batch = env.observe(np.arange(env.mdp.n_states))
    assert len({np.asarray(row).tobytes() for row in batch}) == env.mdp.n_states
    assert all(env.observation_space.contains(row if batch.ndim > 1 else int(row)) for row in batch)
    env.reset(seed=0)
    np.testing.assert_array_equal(env.observe(np.array([env.state]))[0], env.observe.one(env.state))


@every_world
def test_law_equals_the_frequencies_of_step(env_id, kwargs):
    env = gym.make(env_id, **kwargs).unwrapped
    env.reset(seed=0)
    states = np.random.default_rng(0).choice(np.flatnonzero(env.mdp.reachable), size=2)
    n = 400
    for s in states:
        for a in range(env.mdp.n_actions):
            seen = {}
            for _ in range(n):
                env.reset(options={"state": s})
                _, reward, terminated, truncated, _ = env.step(a)
                assert not truncated
                seen[env.state, reward, terminated] = seen.get((env.state, reward, terminated), 0) + 1
            law = {}
            for p, *outcome in env.P[s][a]:
                law[tuple(outcome)] = law.get(tuple(outcome), 0.0) + p
            assert set(seen) <= set(law)
            for outcome, p in law.items():  # within 5 standard errors
                assert abs(seen.get(outcome, 0) / n - p) <= 5 * np.sqrt(p * (1 - p) / n) + 1e-12


@every_world
def test_reset_follows_the_start_distribution(env_id, kwargs):
    env = gym.make(env_id, **kwargs).unwrapped
    env.reset(seed=0)
    n = 2000
    frequencies = np.bincount([env.reset()[0] for _ in range(n)], minlength=env.mdp.n_states) / n
    np.testing.assert_array_less(np.abs(frequencies - env.mdp.start), 5 * np.sqrt(env.mdp.start / n) + 1e-12)


@every_world
def test_one_seed_gives_one_episode(env_id, kwargs):
    def episode():
        env = gym.make(env_id, **kwargs)
        actions = np.random.default_rng(5).integers(env.action_space.n, size=50).tolist()
        trace = [env.reset(seed=7)[0]]
        for action in actions:
            observation, reward, terminated, truncated, _ = env.step(action)
            trace.append((observation, reward, terminated, truncated))
            if terminated or truncated:
                trace.append(env.reset()[0])
        return trace

    assert episode() == episode()


class Uniforms:
    """Stands in for a generator: hands out numbers prepared for each env."""

    def __init__(self, numbers):
        self.numbers = iter(numbers)

    def random(self, size=None):
        return next(self.numbers) if size is None else np.array([next(self.numbers) for _ in range(size)])


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@every_world
def test_many_at_once_equal_one_by_one(env_id, kwargs, mode):
    """Against Gymnasium's own SyncVectorEnv over single envs, with the same uniform numbers where chance decides."""
    n, steps, limit = 3, 60, 9
    ours = gym.make_vec(env_id, n, autoreset_mode=mode, max_episode_steps=limit, **kwargs)
    single = gym.make(env_id, **kwargs).unwrapped
    starts = single.mdp.start_state
    slow = SyncVectorEnv(
        [lambda: TimeLimit(TabularEnv(single.mdp, single.layout), limit) for _ in range(n)], autoreset_mode=mode
    )
    rng = np.random.default_rng(0)
    assert ours.metadata["autoreset_mode"] == mode
    chance, choice = not single.mdp.is_deterministic, len(starts) > 1
    first = rng.random(n)
    ours._np_random = Uniforms(first if choice else [])
    for env, u in zip(slow.envs, first, strict=True):
        env.unwrapped._np_random = Uniforms([u])
    np.testing.assert_array_equal(ours.reset()[0], slow.reset()[0])
    resetting = np.zeros(n, dtype=bool)
    for _ in range(steps):
        actions = rng.integers(single.mdp.n_actions, size=n)
        draws, restarts = rng.random(n), rng.random(n)
        for i, env in enumerate(slow.envs):
            certain = len(single.mdp.outcomes(env.unwrapped.state, int(actions[i]))) == 1
            moves = [] if resetting[i] or certain else [draws[i]]
            env.unwrapped._np_random = Uniforms([*moves, restarts[i]])
        expected = slow.step(actions)
        done = expected[2] | expected[3]
        who = resetting if mode == AutoresetMode.NEXT_STEP else done
        ours._np_random = Uniforms([*(draws if chance else []), *(restarts[who] if choice else [])])
        result = ours.step(actions)
        for got, want in zip(result[:4], expected[:4], strict=True):
            np.testing.assert_array_equal(got, want)
        if mode == AutoresetMode.SAME_STEP and done.any():
            np.testing.assert_array_equal(result[4]["final_obs"], expected[4]["final_obs"])
            np.testing.assert_array_equal(result[4]["_final_obs"], expected[4]["_final_obs"])
        else:
            assert result[4] == {}
        resetting = done if mode == AutoresetMode.NEXT_STEP else np.zeros(n, dtype=bool)


def test_reset_mask_restarts_only_the_envs_it_names():
    env = gym.make_vec("Lecture/TreasureLine-v0", 3)
    env.reset(seed=0)
    env.step(np.ones(3, dtype=int))
    observations, _ = env.reset(options={"reset_mask": np.array([True, False, True])})
    assert observations.tolist() == [0, 1, 0]
    with pytest.raises(ValueError, match="reset_mask must be a bool array"):
        env.reset(options={"reset_mask": np.zeros(3, dtype=bool)})


def test_our_cliff_has_the_law_of_gymnasiums():
    ours, theirs = (TabularMDP.from_gymnasium(gym.make(i)) for i in ("Lecture/CliffWalking-v0", "CliffWalking-v1"))
    assert np.flatnonzero(ours.reachable).tolist() == [*range(37)]
    for s in np.flatnonzero(ours.reachable):
        for a in range(4):
            assert ours.outcomes(s, a) == [tuple(outcome) for outcome in theirs.outcomes(s, a)]
    assert ours.start_state.tolist() == theirs.start_state.tolist() == [36]


def test_cliff_can_end_the_episode():
    mdp = TabularMDP.from_gymnasium(gym.make("Lecture/CliffWalking-v0", cliff_terminates=True))
    assert mdp.outcomes(36, 1) == [(1.0, 37, -100.0, True)]


def test_maze_is_the_lectures():
    env = gym.make("Lecture/Maze-v0").unwrapped
    assert env.P[0] == {a: [(1.0, s, 0.0, False)] for a, s in enumerate((0, 1, 4, 0))}
    assert env.P[5][1] == env.P[2][2] == [(1.0, 6, -1.0, True)]  # the pit at column 2, row 1
    assert env.P[8][1] == env.P[5][2] == [(1.0, 9, -1.0, True)]  # the pit at column 1, row 2
    assert env.P[11][3] == env.P[14][0] == [(1.0, 10, 1.0, True)]  # the treasure at column 2, row 2


@settings(max_examples=30)
@given(st.integers(2, 25), st.integers(0, 2**31))
def test_generated_mazes_join_any_two_rooms_by_one_path(size, seed):
    symbols = random_maze(size, seed)
    free = symbols != WALL
    assert free[::2, ::2].all() and free.sum() == 2 * size**2 - 1  # a tree: rooms and one door less
    reached, frontier = {(0, 0)}, [(0, 0)]
    while frontier:
        cell = frontier.pop()
        for move in MOVES.tolist():
            r, c = cell[0] + move[0], cell[1] + move[1]
            if 0 <= r < len(free) and 0 <= c < len(free) and free[r, c] and (r, c) not in reached:
                reached.add((r, c))
                frontier.append((r, c))
    assert len(reached) == free.sum()
    np.testing.assert_array_equal(symbols, random_maze(size, seed))


def test_slip_moves_at_a_right_angle():
    mdp = TabularMDP.from_gymnasium(gym.make("Lecture/GridWorld-v0", map="4x4", slip=0.2))
    assert mdp.outcomes(5, 0) == [(0.8, 1, -1.0, False), (0.1, 4, -1.0, False), (0.1, 6, -1.0, False)]
    assert mdp.action_mask is None


def test_masks_hide_the_moves_that_lead_nowhere():
    env = gym.make("Lecture/Maze-v0")
    env.reset(seed=0)
    assert env.unwrapped.action_masks().tolist() == [False, True, True, False]
    vector = gym.make_vec("Lecture/Maze-v0", 2)
    vector.reset(seed=0)
    vector.step(np.array([1, 2]))
    assert vector.action_masks().tolist() == [[False, True, True, True], [True, True, True, False]]


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"map": ["S.", ".?"]}, r"Unknown symbol '\?' in row 1"),
        ({"map": ["S.", ".G."]}, r"Row 1 of the map \('.G.'\) has 3 cells, row 0 has 2"),
        ({"map": ["S#", "#G"]}, "No reachable terminal"),
        ({"map": ["S.", ".."]}, "No reachable terminal"),
        ({"map": []}, "is empty"),
        ({"map": "5x5"}, "map='5x5' is unknown; named maps are"),
        ({"slip": 1.5}, r"slip=1.5 must be a finite number in \[0, 1\]"),
        ({"slip": -0.1}, "slip=-0.1"),
        ({"slip": float("nan")}, "slip=nan"),
        ({"step_reward": float("inf")}, "step_reward=inf must be a finite number"),
        ({"obs": "pixels"}, "obs='pixels' is not possible here; allowed"),
        ({"render_mode": "gif"}, "render_mode='gif' is unknown"),
    ],
)
def test_bad_arguments_are_named(kwargs, words):
    with pytest.raises(ValueError, match=words):
        sb3_lecture_envs.grid_world.GridWorldEnv(**kwargs)


def test_bad_arguments_of_the_other_worlds_are_named():
    for env_id, kwargs, words in [
        ("Lecture/Maze-v0", {"layout": "spiral"}, "layout='spiral' is unknown"),
        ("Lecture/Maze-v0", {"size": 9}, "size=9 does not fit layout='lecture'"),
        ("Lecture/Maze-v0", {"layout": "random", "size": 1}, "size=1 must be a whole number of at least 2"),
        ("Lecture/Maze-v0", {"layout": "random", "seed": -1}, "seed=-1"),
        ("Lecture/TreasureLine-v0", {"n": 1}, "n=1 must be"),
        ("Lecture/RandomWalk-v0", {"n": 0}, "n=0 must be"),
    ]:
        with pytest.raises(ValueError, match=words):
            gym.make(env_id, **kwargs)
        with pytest.raises(ValueError, match=words):
            gym.make_vec(env_id, 2, **kwargs)
    with pytest.raises(ValueError, match=r"obs='grid' is not possible here \(this world is no grid\)"):
        TabularEnv(TabularMDP.from_gymnasium(gym.make("FrozenLake-v1")), obs="grid")
    with pytest.raises(ValueError, match=r"autoreset_mode=.* is not supported"):
        gym.make_vec("Lecture/Maze-v0", 2, autoreset_mode=AutoresetMode.DISABLED)


@pytest.mark.parametrize("action", [4, -1, 0.5])
def test_an_action_outside_the_space_is_refused(action):
    env = gym.make("Lecture/Maze-v0").unwrapped
    env.reset(seed=0)
    for _ in range(2):
        with pytest.raises(ValueError, match=f"Action {action} is outside the action space; actions are 0 to 3"):
            env.step(action)
    vector = gym.make_vec("Lecture/Maze-v0", 2)
    vector.reset(seed=0)
    with pytest.raises(ValueError, match=r"outside the action space|must be 2 integers"):
        vector.step(np.array([0, action]))


def test_text_shows_the_agent_the_treasure_and_the_last_action():
    line = gym.make("Lecture/TreasureLine-v0", render_mode="ansi")
    line.reset(seed=0)
    assert line.render() == "o----T\n"
    line.step(1)
    assert line.render() == "-o---T\n(→)\n"
    maze = gym.make("Lecture/Maze-v0", render_mode="ansi")
    maze.reset(seed=0)
    assert maze.render() == "o . . .\n. . x .\n. x T .\n. . . .\n"


def test_law_of_another_env_can_be_played():
    lake = gym.make("FrozenLake-v1")
    env = TabularEnv(TabularMDP.from_gymnasium(lake), render_mode="ansi")
    env.reset(seed=0)
    assert env.render() == "state 0 of 16\n"
    vector = TabularVectorEnv(env.mdp, num_envs=4)
    vector.reset(seed=0)
    assert vector.step(np.zeros(4, dtype=int))[0].shape == (4,)


def test_ids_need_no_import_and_registration_is_idempotent():
    sb3_lecture_envs.register_envs()
    code = (
        "import gymnasium as gym, sys\n"
        "env = gym.make('sb3_lecture_envs:Lecture/Maze-v0')\n"
        "assert env.reset(seed=0)[0] == 0\n"
        "assert not {'torch', 'stable_baselines3', 'sb3_lecture', 'pygame'} & set(sys.modules), 'too much was imported'\n"
    )
    light = "import sb3_lecture_envs, sys; assert not {'numba', 'pygame', 'torch'} & set(sys.modules)"
    for program in (code, light):
        done = subprocess.run([sys.executable, "-W", "error", "-c", program], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr


def test_without_pygame_pictures_say_what_to_install(monkeypatch):
    env = gym.make("Lecture/Maze-v0", render_mode="rgb_array")
    env.reset(seed=0)
    monkeypatch.setitem(sys.modules, "pygame", None)
    with pytest.raises(ModuleNotFoundError, match=r"pip install pygame .*render_mode='ansi' draws text"):
        env.render()
