"""A world of pictures and numbers that the learning tests of several rooms share."""

import gymnasium as gym
import numpy as np
from gymnasium import spaces


class Signs(gym.Env):
    """One step an episode: reward 1 for the action that a picture (0 or 1), or a picture and a number (0 to 3), stands for."""

    def __init__(self, with_number: bool) -> None:
        picture = spaces.Box(0, 255, (36, 36, 1), np.uint8)
        self.with_number = with_number
        self.observation_space = spaces.Dict({"picture": picture, "number": spaces.Discrete(2)}) if with_number else picture
        self.action_space = spaces.Discrete(4 if with_number else 2)

    def look(self, bright, number):
        picture = np.full((36, 36, 1), 255 * bright, np.uint8)
        return {"picture": picture, "number": number} if self.with_number else picture

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.sign = self.np_random.integers(2, size=2)
        return self.look(*self.sign), {}

    def step(self, action):
        bright, number = self.sign
        return self.look(bright, number), float(action == bright + 2 * number * self.with_number), True, False, {}
