"""Watch a model learn in the terminal: the env's ANSI picture after every step, or a line's treasure demo."""

import sys
import time
from typing import TextIO

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback


class TerminalRenderCallback(BaseCallback):
    """Draw the first training env in the terminal while it is learned from.

    A world that is a line is drawn in place, ``-o---T``, and each episode's number of steps when it ends; other worlds as
    ``render_mode="ansi"`` draws them, if they were made with it, else as the number of the state.

    :param speed: steps a second (default 10); 0: as fast as the terminal goes
    :param every: draw every so many episodes, run through the others (default 1)
    :param stream: where to (default the standard output)
    :param verbose: not used
    :raises ValueError: if ``speed`` is negative or ``every`` is below 1
    """

    def __init__(self, speed: float = 10.0, every: int = 1, stream: TextIO | None = None, verbose: int = 0) -> None:
        super().__init__(verbose)
        if speed < 0 or every < 1:
            raise ValueError(f"speed={speed} steps a second (at least 0), every={every} episodes (at least 1)")
        self.speed, self.every, self.stream = speed, every, stream
        self.episode, self.steps, self._lines = 1, 0, 0

    def _on_training_start(self) -> None:
        self.episode, self.steps, self._lines = 1, 0, 0

    def _on_step(self) -> bool:
        self.steps += 1
        done = bool(self.locals["dones"][0])
        if (self.episode - 1) % self.every == 0:
            self._show(self._picture(done), done)
            if self.speed > 0:
                time.sleep(1.0 / self.speed)
        if done:
            self.episode, self.steps = self.episode + 1, 0
        return True

    def _picture(self, done: bool) -> str:
        env = self.training_env
        layout = env.get_attr("layout", 0)[0] if env.has_attr("layout") else None
        if done:
            state = int(np.asarray(self.locals["infos"][0].get("terminal_observation", -1)).reshape(-1)[0])
        else:
            state = int(np.asarray(env.get_attr("state", 0)[0])) if env.has_attr("state") else -1
        if layout is not None and layout.symbols.shape[0] == 1 and 0 <= state < layout.symbols.shape[1]:
            cells = ["T" if symbol in "TG" else "-" for symbol in layout.symbols[0]]
            cells[state] = "o"
            return "".join(cells)
        if env.render_mode == "ansi" and env.has_attr("render") and not done:
            return str(env.env_method("render", indices=0)[0])
        return f"state {state}"

    def _show(self, picture: str, done: bool) -> None:
        out = sys.stdout if self.stream is None else self.stream
        if self._lines:
            out.write(f"\x1b[{self._lines}F\x1b[J")  # back to the picture's first line, and clear from there
        out.write(f"{picture}\n")
        self._lines = picture.count("\n") + 1
        if done:
            out.write(f"Episode {self.episode}: {self.steps} steps\n")
            self._lines = 0
        out.flush()
