"""Watch a model learn in the terminal: the env's picture in text after every step, or a line's treasure demo."""

import sys
import time
from typing import Any, TextIO

import numpy as np
from stable_baselines3.common.callbacks import BaseCallback

from sb3_lecture.common.describe_callback import state_of

#: ANSI's words: clear this line; back up n lines to the first column; clear from here to the end
CLEAR_LINE, UP, CLEAR_DOWN = "\r\x1b[2K", "\x1b[{}F", "\x1b[J"


class TerminalRenderCallback(BaseCallback):
    """Draw the first training env in the terminal while it is learned from.

    A world on a map is drawn in place, a line as ``-o---T``, from the start of each episode on; each episode's number of steps
    is written when it ends. Other worlds are drawn as ``render_mode="ansi"`` draws them, if they were made with it, else as
    the number of the state. A progress bar (``progress_bar=True``) stays below the picture.

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
        self._start = ""  # the picture of where the running episode began, until it is shown

    def _on_training_start(self) -> None:
        self.episode, self.steps, self._lines = 1, 0, 0
        self._start = self._picture(self._state(None), False)

    def _on_step(self) -> bool:
        self.steps += 1
        done = bool(self.locals["dones"][0])
        if (self.episode - 1) % self.every == 0:
            if self.steps == 1:  # only now: what others print after an episode stays above it
                self._show(self._start, "")
            last = self.locals["infos"][0].get("terminal_observation") if done else None
            self._show(self._picture(self._state(last), done), f"Episode {self.episode}: {self.steps} steps\n" if done else "")
        if done:
            self.episode, self.steps = self.episode + 1, 0
            self._start = self._picture(self._state(None), False)
        return True

    def _state(self, last_observation: Any) -> int:
        """The first env's state: that of an episode's last observation, or the present one; -1 if it has none."""
        env = self.training_env
        if last_observation is not None:
            return state_of(env, 0, last_observation)
        state = np.asarray(env.get_attr("state", 0)[0]) if env.has_attr("state") else np.zeros(0)
        return int(state) if state.size == 1 and np.issubdtype(state.dtype, np.integer) else -1

    def _picture(self, state: int, done: bool) -> str:
        env = self.training_env
        layout = env.get_attr("layout", 0)[0] if env.has_attr("layout") else None
        if layout is not None and state >= 0:
            return layout.text(state)
        if env.render_mode == "ansi" and env.has_attr("render") and not done:  # after the end it draws the next start
            return str(env.env_method("render", indices=0)[0]).rstrip("\n")
        return f"state {state}" if state >= 0 else "end" if done else f"step {self.steps}"

    def _show(self, picture: str, below: str) -> None:
        """Draw a picture over the last one, and keep it if a text goes below.

        rich's progress bar puts a proxy in place of the standard output, which drops ANSI's words, and leaves the cursor on
        the line of the bar. So the real stream gets them, the bar's line first; the bar comes back below by itself.
        """
        out: Any = sys.stdout if self.stream is None else self.stream
        behind = getattr(out, "rich_proxied_file", None)
        back = CLEAR_LINE if behind is not None else ""
        back += f"{UP.format(self._lines)}{CLEAR_DOWN}" if self._lines else ""
        out = out if behind is None else behind
        out.write(f"{back}{picture}\n{below}")
        out.flush()
        self._lines = 0 if below else picture.count("\n") + 1
        if self.speed > 0:
            time.sleep(1.0 / self.speed)
