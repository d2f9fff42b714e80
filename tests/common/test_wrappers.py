"""Gymnasium's own TimeLimit is found whatever stands in its place."""

import importlib

import gymnasium as gym
from gymnasium.wrappers import common
from stable_baselines3.common.vec_env import DummyVecEnv

import sb3_lecture_envs  # noqa: F401
from sb3_lecture.common import wrappers
from sb3_lecture.exact import ExactGrader
from sb3_lecture.tabular.backend import find_world


def test_a_class_that_another_package_puts_there_does_not_hide_it(monkeypatch):
    original = wrappers.TimeLimit

    class Patched(original):
        pass

    monkeypatch.setattr(common, "TimeLimit", Patched)
    assert importlib.reload(wrappers).TimeLimit is original
    assert original.__module__ == "gymnasium.wrappers.common" and original.__name__ == "TimeLimit"
    for kind in (original, Patched):  # wrapped before, and after
        env = kind(gym.make("Lecture/GridWorld-v0").unwrapped, 30)
        world = find_world(DummyVecEnv([lambda env=env: env]))
        assert world.mdp is env.unwrapped.mdp and world.max_steps == 30
        assert ExactGrader(env, 0.9).mdp is env.unwrapped.mdp
