"""Catch and MiniBreakout: their rules, their pictures, their many-at-once twins, and what is known exactly about Catch."""

import itertools
import warnings
from typing import ClassVar

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as check_gymnasium
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from gymnasium.wrappers.common import TimeLimit  # rl_zoo3 puts its own in the place of gym.wrappers.TimeLimit
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_checker import check_env as check_sb3

from sb3_lecture.common.vec_env import make_native_vec_env
from sb3_lecture.exact.grade import exact_evaluation
from sb3_lecture.exact.solver import policy_evaluation, start_value, value_iteration
from sb3_lecture_envs import catch
from sb3_lecture_envs.wrappers import PictureObservation

CATCH, BREAKOUT = "Lecture/Catch-v0", "Lecture/MiniBreakout-v0"
SPACES = {"channels": gym.spaces.MultiBinary([2, 10, 10]), "rgb": gym.spaces.Box(0, 255, (64, 64, 3), np.uint8)}


def check(env_id, **kwargs):
    env = gym.make(env_id, render_mode="rgb_array", **kwargs)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*CUDA.*|.*different from the unwrapped version.*")
        check_gymnasium(env.unwrapped, skip_render_check=True)
        check_sb3(env)
    assert env.observation_space.contains(env.reset(seed=1)[0])
    picture = env.render()
    assert picture.dtype == np.uint8 and picture.ndim == 3 and len(np.unique(picture.reshape(-1, 3), axis=0)) > 2
    return env


# --- Catch -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("obs", SPACES)
def test_checkers_of_gymnasium_and_sb3_are_content_with_catch(obs):
    assert check(CATCH, obs=obs).observation_space == SPACES[obs]


@pytest.mark.parametrize("obs", catch.OBS_MODES)
def test_every_observation_of_catch_tells_its_state(obs):
    env = gym.make(CATCH, rows=4, columns=5, obs=obs).unwrapped
    batch = env.observe(np.arange(env.mdp.n_states))
    assert len({np.asarray(row).tobytes() for row in batch}) == env.mdp.n_states == 100
    for s in range(0, 100, 7):
        env.reset(options={"state": s})
        np.testing.assert_array_equal(batch[s], env.observe.one(env.state))


@pytest.mark.parametrize(("rows", "columns"), [(10, 10), (2, 1), (2, 2), (3, 9), (5, 4), (4, 20)])
def test_values_of_catch_are_the_closed_forms(rows, columns):
    """A paddle from ``columns // 2`` catches the columns within ``rows - 1``; a random one 1 column in ``columns``."""
    mdp = catch.law(rows, columns)
    reach = sum(abs(ball - columns // 2) <= rows - 1 for ball in range(columns))
    optimum = value_iteration(mdp, 1.0, tol=1e-12)
    assert start_value(mdp, optimum.v) == pytest.approx(2 * reach / columns - 1, abs=1e-12)
    uniform = np.full((mdp.n_states, 3), 1 / 3)
    assert start_value(mdp, policy_evaluation(mdp, uniform, 1.0)) == pytest.approx(2 / columns - 1, abs=1e-12)
    if rows - 1 >= columns // 2:
        assert start_value(mdp, optimum.v) == pytest.approx(1.0, abs=1e-12)
        discounted = value_iteration(mdp, 0.9, tol=1e-12)
        assert start_value(mdp, discounted.v) == pytest.approx(0.9 ** (rows - 2), abs=1e-10)  # the last of rows - 1 steps


def test_a_game_of_catch_by_hand():
    env = gym.make(CATCH, rows=4, columns=3, render_mode="ansi")
    env.reset(seed=0, options={"state": (0 * 3 + 2) * 3 + 1})  # ball in column 2, paddle in column 1
    assert env.render() == ". . o\n. . .\n. . .\n. = .\n"
    observation, reward, terminated, _, _ = env.step(2)
    assert env.render() == ". . .\n. . o\n. . .\n. . =\n(→)\n" and (reward, terminated) == (0.0, False)
    assert np.argwhere(observation).tolist() == [[0, 1, 2], [1, 3, 2]]
    env.step(2)  # against the border: stays
    assert env.step(1)[1:3] == (1.0, True)
    assert env.render() == ". . .\n. . .\n. . .\n. . o\n(·)\n"  # the ball lies on the paddle
    env.reset(options={"state": (0 * 3 + 2) * 3 + 1})
    assert [env.step(0)[1:3] for _ in range(3)] == [(0.0, False), (0.0, False), (-1.0, True)]


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("obs", ["channels", "rgb"])
def test_many_games_of_catch_equal_single_ones(obs, mode):
    """A start is drawn from one uniform number, in the order of the envs."""
    n, kwargs = 3, {"rows": 4, "columns": 5, "obs": obs}
    ours = gym.make_vec(CATCH, n, autoreset_mode=mode, **kwargs)
    slow = SyncVectorEnv([lambda: gym.make(CATCH, **kwargs) for _ in range(n)], autoreset_mode=mode)
    shared = np.random.default_rng(5)
    for env in slow.envs:
        env.unwrapped._np_random = shared
    ours._np_random = np.random.default_rng(5)
    np.testing.assert_array_equal(ours.reset()[0], slow.reset()[0])
    rng = np.random.default_rng(0)
    for _ in range(20):
        actions = rng.integers(3, size=n)
        got, want = ours.step(actions), slow.step(actions)
        for a, b in zip(got[:4], want[:4], strict=True):
            np.testing.assert_array_equal(a, b)
        if "final_obs" in want[4]:
            np.testing.assert_array_equal(np.stack(got[4]["final_obs"]), np.stack(want[4]["final_obs"]))


def test_starts_of_catch_are_uniform_and_seeded():
    env = gym.make(CATCH, obs="index").unwrapped
    env.reset(seed=3)
    n = 4000
    states = np.array([env.reset()[0] for _ in range(n)])
    assert set(states % 10) == {5} and set(states // 100) == {0}
    counts = np.bincount(states // 10)
    assert np.all(np.abs(counts - n / 10) < 5 * np.sqrt(n * 0.1 * 0.9))
    first = [gym.make(CATCH).reset(seed=s)[0].tobytes() for s in range(8)]
    assert first == [gym.make(CATCH).reset(seed=s)[0].tobytes() for s in range(8)] and len(set(first)) > 1


@pytest.mark.parametrize(("obs", "policy"), [("channels", "MlpPolicy"), ("rgb", "CnnPolicy")])
def test_learners_of_pixels_are_graded_exactly(obs, policy):
    """The grade from the law equals the mean return of games played from every start."""
    env = make_native_vec_env(CATCH, 2, seed=0, env_kwargs={"obs": obs, "rows": 4, "columns": 5})
    model = PPO(policy, env, n_steps=8, batch_size=8, gamma=1.0, device="cpu", seed=1)
    result = exact_evaluation(model)
    assert result.optimal_value == pytest.approx(1.0)
    single = gym.make(CATCH, obs=obs, rows=4, columns=5).unwrapped
    returns = []
    for start in single.mdp.start_state:
        observation, done = single.reset(options={"state": int(start)})[0], False
        while not done:
            action, _ = model.predict(observation, deterministic=True)
            observation, reward, done, _, _ = single.step(int(action))
        returns.append(reward)
    assert result.value == pytest.approx(np.mean(returns))


def test_cnn_policy_refuses_bits():
    with pytest.raises(AssertionError, match=r"NatureCNN must be used with a gym\.spaces\.Box"):
        DQN("CnnPolicy", gym.make(CATCH), buffer_size=10)


def test_pictures_show_what_the_bits_say():
    states = np.array([0, 345, 999])
    pictures, bits = (gym.make(CATCH, obs=obs).unwrapped.observe(states) for obs in ("rgb", "channels"))
    colours = np.array([*catch.CHANNELS.values()])
    for picture, planes in zip(pictures, bits, strict=True):
        cells = picture[2 + 3 : 62 : 6, 2 + 3 : 62 : 6]  # the middle of each cell: 6 pixels a side, margins of 2
        for k, row, column in itertools.product(range(2), range(10), range(10)):
            covered = k == 1 and planes[0, row, column]
            assert (cells[row, column] == colours[k]).all() == (planes[k, row, column] and not covered)
        assert not picture[:2].any() and not picture[:, 62:].any()


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"rows": 1}, "rows=1 must be a whole number of at least 2"),
        ({"columns": 0}, "columns=0 must be a whole number of at least 1"),
        ({"columns": 2.5}, r"columns=2\.5"),
        ({"obs": "grid"}, r"obs='grid' is unknown; allowed: \['channels', 'rgb', 'index', 'one-hot'\]"),
        ({"render_mode": "gif"}, "render_mode='gif' is unknown"),
    ],
)
def test_bad_arguments_of_catch_are_named(kwargs, words):
    with pytest.raises(ValueError, match=words):
        gym.make(CATCH, **kwargs) if "render_mode" not in kwargs else catch.CatchEnv(**kwargs)
    with pytest.raises(ValueError, match=words):
        gym.make_vec(CATCH, 2, **kwargs)


# --- MiniBreakout ----------------------------------------------------------------------------------------------------


def board(*rows, wall=".........#"):
    """A board whose last rows are ``rows``, each written from its first column on; row 1 is ``wall``."""
    lines = ["", wall, *[""] * (8 - len(rows)), *rows] if len(rows) <= 8 else list(rows)
    return "".join(" ".join(line.ljust(10, ".")) + "\n" for line in lines)


def play(text, *actions):
    """Play on from a position; returns the position after it, the rewards, and whether the ball was lost."""
    env = gym.make(BREAKOUT, render_mode="ansi").unwrapped
    env.reset(options={"board": text})
    assert env.render() == text
    rewards, terminated = [], False
    for action in actions:
        _, reward, terminated, _, _ = env.step(action)
        rewards.append(reward)
    return "".join(line for line in env.render().splitlines(keepends=True) if "(" not in line), rewards, terminated


@pytest.mark.parametrize("obs", ["channels", "rgb"])
def test_checkers_of_gymnasium_and_sb3_are_content_with_mini_breakout(obs):
    env = check(BREAKOUT, obs=obs)
    expected = {"channels": gym.spaces.MultiBinary([4, 10, 10]), "rgb": SPACES["rgb"]}
    assert env.observation_space == expected[obs] and env.spec.max_episode_steps == 1000


#: position, action, what follows
POSITIONS = {
    "through the air": (board(",", ".o", "", "", "....="), 0, board(".,", "..o", "", "...=")),
    "to the side wall": (board(".,", "o", "", "", "="), 1, board(",", "o", "", "=")),
    "off the side wall": (board(",", "o", "", "="), 1, board(",", ".o", "=")),
    "up the right wall": (
        board("", "", "", "", ".........o", "........,", "", "="), 0,
        board("", "", "", ".........o", ".........,", "", "", "="),
    ),
    "to the top": (
        board("...o", "..,......#", "", "", "", "", "", "", "", "="), 1,
        board("...,o", ".........#", "", "", "", "", "", "", "", "="),
    ),
    "off the top": (
        board("...,o", ".........#", "", "", "", "", "", "", "", "="), 1,
        board("....,", ".....o...#", "", "", "", "", "", "", "", "="),
    ),
    "into the corner": (
        board("o", ".,.......#", "", "", "", "", "", "", "", "="), 1,
        board("o", ".........#", "", "", "", "", "", "", "", "="),
    ),
    "out of the corner": (
        board("o", ".........#", "", "", "", "", "", "", "", "="), 1,
        board(",", ".o.......#", "", "", "", "", "", "", "", "="),
    ),
    "caught where it flies to": (board("..,", "...o", ".....="), 0, board("....o", "...,", "....=")),
    "caught by the corner": (board("..,", "...o", "..="), 2, board("..o", "...,", "...=")),
    "caught at the wall": (board(".,", "o", ".="), 0, board("o", ",", "=")),
    "caught by the corner at the wall": (board(",", "o", "="), 1, board("o", ",", "=")),
    "caught ahead of the corner": (board(",", "o", "="), 2, board(".o", ",", ".=")),
}  # fmt: skip
#: positions in which a brick goes: rows 0 to 5 before and after
BRICKS = {
    "from below": ((".", "", "", "#######", "...o", "..,"), ("", "", "", "####.##", "...,", "....o")),
    "from above": (("", "..,", "...o", "#######"), ("", "....o", "...,", "####.##")),
    "at the side wall": (("", "", "", "#######", "o", ".,"), ("", "", "", ".######", ",", "o")),
    "through, for a brick is behind": (("", "..,.#", "...o", "#####"), ("", "....#", "...,", "####o")),
    "through, for the top is behind": (("..,o", "#####"), ("...,", "####o")),
    "the last one": (("", "", "", "....#", "...o", "..,"), ("", "", "", "", "...,", "....o")),
}


@pytest.mark.parametrize("name", POSITIONS)
def test_flights_played_by_hand(name):
    before, action, after = POSITIONS[name]
    assert play(before, action) == (after, [0.0], False)


@pytest.mark.parametrize("name", BRICKS)
def test_bricks_played_by_hand(name):
    before, after = (board(*rows, *[""] * (9 - len(rows)), "=") for rows in BRICKS[name])
    assert play(before, 1) == (after, [1.0], False)


def test_a_ball_that_passes_the_paddle_ends_the_episode():
    assert play(board("..,", "...o", "="), 0) == (board("...,", "=...o"), [0.0], True)
    assert play(board("..,", "...o", ".....="), 2)[1:] == ([0.0], True)  # on the far side too


def test_a_cleared_wall_is_raised_by_the_next_catch():
    empty = board("", "", "", "....#", "...o", "..,", "", "", "", "....=")
    after, rewards, _ = play(empty, 1, 2, 2, 2)  # back to row 5, and down to row 8
    assert rewards == [1.0, 0.0, 0.0, 0.0] and "#" not in after
    after, rewards, terminated = play(after, 1)
    assert not terminated and rewards == [0.0]
    assert [line.replace(" ", "") for line in after.splitlines()[:5]] == ["." * 10, *["#" * 10] * 3, "." * 10]


def flies_to(env):
    """The column that the ball is about to fly to."""
    _, _, column, _, dc = env.games.game[0].tolist()
    return column + dc if 0 <= column + dc <= 9 else column


def follow(env):
    """The action that brings the paddle under the ball, and keeps it there."""
    return int(1 + np.sign(flies_to(env) - env.games.game[0, 0]))


def test_a_paddle_under_the_ball_never_loses_and_clears_walls():
    """Under the ball until the last step, then either way of catching it."""
    env, rng = gym.make(BREAKOUT).unwrapped, np.random.default_rng(0)
    totals = []
    for seed in range(6):
        env.reset(seed=seed)
        total = 0.0
        for _ in range(1500):
            action = follow(env)
            if env.games.game[0, 1] == 8 and rng.random() < 0.5:
                action = 1  # stay, and catch it by the corner
            _, reward, terminated, _, _ = env.step(action)
            total += reward
            assert not terminated
        totals.append(total)
    assert max(totals) > 30, "no wall was cleared and raised anew"


def test_one_observation_of_mini_breakout_tells_everything():
    """A game set to what the last picture shows goes on as the game itself, hidden state and all."""
    rng = np.random.default_rng(1)
    env, copy = (gym.make(BREAKOUT, render_mode="ansi").unwrapped for _ in range(2))
    seen = set()
    for seed in range(12):
        env.reset(seed=seed)
        terminated = False
        while not terminated:
            text = "".join(env.render().splitlines(keepends=True)[:10])
            copy.reset(options={"board": text})
            np.testing.assert_array_equal(copy.games.game, env.games.game)
            np.testing.assert_array_equal(copy.games.planes, env.games.planes)
            action = follow(env) if rng.random() < 0.97 else int(rng.integers(3))
            terminated = env.step(action)[2]
            seen.add(text)
    assert len(seen) > 200


def test_serves_are_twenty_and_equally_likely():
    env = gym.make(BREAKOUT).unwrapped
    env.reset(seed=0)
    n = 4000
    starts = {}
    for _ in range(n):
        env.reset()
        key = tuple(env.games.game[0].tolist()), int(env.games.planes[0, 2].argmax())
        starts[key] = starts.get(key, 0) + 1
    assert len(starts) == 20 and {key[0][0] for key in starts} == {5}
    assert all(abs(count - n / 20) < 5 * np.sqrt(n / 20 * 0.95) for count in starts.values())


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("obs", ["channels", "rgb"])
def test_many_games_of_mini_breakout_equal_single_ones(obs, mode):
    n, limit = 3, 40
    ours = gym.make_vec(BREAKOUT, n, autoreset_mode=mode, obs=obs, max_episode_steps=limit)
    slow = SyncVectorEnv(
        [lambda: TimeLimit(gym.make(BREAKOUT, obs=obs).unwrapped, limit) for _ in range(n)], autoreset_mode=mode
    )
    shared = np.random.default_rng(5)
    for env in slow.envs:
        env.unwrapped._np_random = shared
    ours._np_random = np.random.default_rng(5)
    np.testing.assert_array_equal(ours.reset()[0], slow.reset()[0])
    rng = np.random.default_rng(0)
    ends = np.zeros(2)
    for _ in range(150):
        follower = [follow(env.unwrapped) for env in slow.envs]
        actions = np.where(rng.random(n) < 0.9, follower, rng.integers(3, size=n))
        got, want = ours.step(actions), slow.step(actions)
        for a, b in zip(got[:4], want[:4], strict=True):
            np.testing.assert_array_equal(a, b)
        ends += want[2].sum(), want[3].sum()
        if "final_obs" in want[4]:
            np.testing.assert_array_equal(got[4]["_final_obs"], want[4]["_final_obs"])
            for a, b in zip(got[4]["final_obs"], want[4]["final_obs"], strict=True):
                np.testing.assert_array_equal(a, b)
    assert ends.all(), "both kinds of end were met"


def test_one_seed_gives_one_game():
    def game(seed):
        env = make_native_vec_env(BREAKOUT, 2, seed=seed)
        observations = [env.reset()]
        for action in np.random.default_rng(5).integers(3, size=(60, 2)):
            observations.append(env.step(action)[0])
        return np.stack(observations)

    np.testing.assert_array_equal(game(7), game(7))
    assert not np.array_equal(game(7), game(8))


def test_bad_input_of_mini_breakout_is_named():
    for kwargs, words in (({"obs": "index"}, "obs='index' is unknown"), ({"autoreset_mode": "never"}, "'never'")):
        with pytest.raises(ValueError, match=words):
            gym.make_vec(BREAKOUT, 2, **kwargs)
    with pytest.raises(ValueError, match="max_episode_steps=0 must be a whole number of at least 1"):
        gym.make_vec(BREAKOUT, 2, max_episode_steps=0)
    env, many = gym.make(BREAKOUT).unwrapped, gym.make_vec(BREAKOUT, 2)
    env.reset(seed=0)
    many.reset(seed=0)
    for action in (3, -1, 0.5):
        with pytest.raises(ValueError, match=f"Action {action} is outside the action space"):
            env.step(action)
        with pytest.raises(ValueError, match=r"outside the action space|must be 2 integers"):
            many.step(np.array([0, action]))
    with pytest.raises(ValueError, match="reset_mask must be a bool array"):
        many.reset(options={"reset_mask": np.zeros(2, dtype=bool)})
    for text, words in (
        ("o", "must be 10 lines of 10 signs"),
        (board("..,", "....", "="), "must show one ball"),
        (board("..,", "=..o", ""), "one paddle in the last line"),
    ):
        with pytest.raises(ValueError, match=words):
            env.reset(options={"board": text})


class Halves(gym.Env):
    """A window of 100 × 200 pixels, dark on the left, bright on the right."""

    metadata: ClassVar = {"render_modes": ["rgb_array"], "render_fps": 1}
    observation_space, action_space, render_mode = gym.spaces.Discrete(2), gym.spaces.Discrete(2), "rgb_array"

    def reset(self, *, seed=None, options=None):
        return 0, {}

    def step(self, action):
        return 1, 0.0, False, False, {}

    def render(self):
        return np.where(np.arange(200)[:, None] < 100, 10, 250).astype(np.uint8) * np.ones((100, 1, 3), np.uint8)


def test_a_window_is_shown_as_a_small_square():
    env = PictureObservation(Halves(), size=8)
    shown, _ = env.reset()
    assert env.observation_space == gym.spaces.Box(0, 255, (8, 8, 3), np.uint8)
    np.testing.assert_array_equal(shown[:, :4], 10)
    np.testing.assert_array_equal(shown[:, 4:], 250)
    np.testing.assert_array_equal(env.step(0)[0], shown)


def test_a_picture_needs_a_renderer():
    with pytest.raises(ValueError, match=r"render_mode='rgb_array', got None"):
        PictureObservation(gym.make("CartPole-v1"))
