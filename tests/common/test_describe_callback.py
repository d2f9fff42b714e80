"""A line an episode says how long it was, what it returned and how it ended."""

import io

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3 import DQN
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_lecture import QLearning
from sb3_lecture.common.describe_callback import ENDINGS, DescribeEpisodesCallback, ending


def lines_of(model, steps, **kwargs):
    out = io.StringIO()
    model.learn(steps, callback=DescribeEpisodesCallback(stream=out, **kwargs))
    return out.getvalue().splitlines()


@pytest.mark.parametrize("backend", ["env", "compiled"])
def test_every_episode_of_the_line_ends_at_the_treasure(backend):
    model = QLearning(env=gym.make("Lecture/TreasureLine-v0", n=6), seed=0, backend=backend)
    lines = lines_of(model, 300)
    expected = [f"Episode {i} | Duration: {e['l']} steps | Return: 1.00 | Goal" for i, e in enumerate(model.ep_info_buffer, 1)]
    assert len(lines) > 5 and lines == expected


def test_falls_off_the_cliff_are_counted_and_time_limits_named():
    model = QLearning(env="Lecture/CliffWalking-v0", seed=0, exploration_initial_eps=1.0, exploration_final_eps=1.0)
    lines = lines_of(model, 1000)
    assert len(lines) == 5
    for line, episode in zip(lines, model.ep_info_buffer, strict=True):
        falls = round((-episode["r"] - episode["l"]) / 99)  # -1 a step, -100 a fall
        assert falls > 1
        total = f"{episode['r']:.2f}".replace("-", "−")
        assert line.endswith(f"| Duration: 200 steps | Return: {total} | Time limit after {falls} falls")


def test_pits_and_goals_of_a_maze_are_told_from_any_observation():
    env = gym.make("Lecture/Maze-v0", obs="one-hot")
    ends = {}
    lines = lines_of(DQN("MlpPolicy", env, learning_starts=10_000, seed=0, device="cpu"), 600)
    for line in lines:
        ends.setdefault(line.split(" | ")[-1], set()).add(float(line.split("Return: ")[1].split(" ")[0].replace("−", "-")))
    assert ends["Pit"] == {-1.0} and ends.get("Goal", {1.0}) == {1.0}


def test_returns_are_the_envs_own_under_vec_normalize():
    env = VecNormalize(DummyVecEnv([lambda: gym.make("CartPole-v1")] * 2), norm_reward=True)
    lines = lines_of(DQN("MlpPolicy", env, learning_starts=10_000, seed=0, device="cpu"), 200, every=2)
    assert [line.split(" | ")[0] for line in lines] == [f"Episode {i}" for i in range(1, 2 * len(lines), 2)]
    for line in lines:
        duration = int(line.split("Duration: ")[1].split(" ")[0])
        assert f"Return: {duration}.00 |" in line and line.endswith(("Pole fell", "Left the track"))


@pytest.mark.parametrize(
    ("name", "observation", "reward", "end"),
    [
        ("LunarLander", [0.1] * 8, -100.0, "Crashed"),
        ("LunarLander", [0.1] * 8, 100.0, "Landed"),
        ("LunarLander", [-1.2] + [0.0] * 7, -100.0, "Left the picture"),
        ("CartPole", [2.5, 0, 0.1, 0], 1.0, "Left the track"),
        ("CartPole", [0.0, 0, 0.25, 0], 1.0, "Pole fell"),
        ("FrozenLake", 5, 0.0, "Hole"),
        ("Blackjack", (20, 10, 0), 0.0, "Draw"),
    ],
)
def test_endings_of_gymnasiums_envs(name, observation, reward, end):
    assert ENDINGS[name](np.asarray(observation).reshape(-1), reward) == end


def test_an_env_of_ones_own_names_its_end():
    env = DummyVecEnv([lambda: gym.make("CartPole-v1")])
    assert ending(env, 0, np.zeros(4), 1.0, {"ending": "Bored"}) == "Bored"
    assert ending(env, 0, np.zeros(4), 1.0, {"ending": "Bored", "TimeLimit.truncated": True}) == "Time limit"


def test_every_below_one_is_named():
    with pytest.raises(ValueError, match="every=0"):
        DescribeEpisodesCallback(every=0)
