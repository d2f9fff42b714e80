"""Pieces that configs name by their dotted path."""

import gymnasium as gym
from stable_baselines3.common.callbacks import BaseCallback


class InterruptAt(BaseCallback):
    """Press Ctrl-C at a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def _on_step(self) -> bool:
        if self.num_timesteps >= self.step:
            raise KeyboardInterrupt
        return True


class BreakAt(BaseCallback):
    """Raise at a step."""

    def __init__(self, step: int) -> None:
        super().__init__()
        self.step = step

    def _on_step(self) -> bool:
        if self.num_timesteps >= self.step:
            raise LookupError("broken here")
        return True


class Unchanged(gym.Wrapper):
    """A wrapper that changes nothing."""
