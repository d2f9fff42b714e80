"""The terminal animation shows the treasure line, episode and steps."""

import contextlib
import fcntl
import io
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from itertools import pairwise

import gymnasium as gym
import pytest
from stable_baselines3 import DQN

import sb3_lecture_envs  # noqa: F401
from sb3_lecture import QLearning
from sb3_lecture.common.render_callback import TerminalRenderCallback


class Screen:
    """What a terminal shows of the words that the picture and rich's bar use."""

    def __init__(self) -> None:
        self.lines, self.row = [""], 0

    def feed(self, text):
        for word in re.findall(r"\x1b\[[?0-9;]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", text):
            count = int(re.sub(r"\D", "", word) or 1) if word.startswith("\x1b") else 0
            if word == "\n":
                self.row += 1
                self.lines += [""] * (self.row + 1 - len(self.lines))
            elif word == "\x1b[2K":
                self.lines[self.row] = ""
            elif word == "\x1b[J":
                self.lines[self.row :] = [""]
            elif word.endswith(("F", "A")):
                self.row -= count
                assert self.row >= 0
            elif word[0] not in "\x1b\r":  # every other text is written on a cleared line
                self.lines[self.row] += word


def pictures(text):
    """What is on the line of the picture after each word that ends a line, and the whole screen in the end."""
    screen, seen = Screen(), []
    for line in text.splitlines(keepends=True):
        screen.feed(line)
        seen.append(screen.lines[screen.row - 1])
    return seen, screen.lines


@pytest.mark.parametrize("backend", ["env", "compiled"])
def test_the_treasure_line_is_drawn_from_each_start_on(backend):
    out = io.StringIO()
    model = QLearning(env=gym.make("Lecture/TreasureLine-v0", n=6), seed=0, backend=backend)
    model.learn(300, callback=TerminalRenderCallback(speed=0, stream=out))
    lengths = [e["l"] for e in model.ep_info_buffer]
    seen, screen = pictures(out.getvalue())
    frames = [frame for frame in seen if not frame.startswith("Episode")]
    begun = len(lengths) + (sum(lengths) < 300)
    assert len(frames) == 300 + begun and all(len(frame) == 6 and frame.count("o") == 1 for frame in frames)
    assert "-o---T" in frames
    assert frames.count("-----o") == len(lengths)
    at = 0
    for length in lengths:
        assert frames[at] == "o----T" and frames[at + length] == "-----o"
        at += length + 1
    kept = [line for line in screen if line.startswith("Episode")]
    assert kept == [f"Episode {i}: {n} steps" for i, n in enumerate(lengths, 1)]


@pytest.mark.parametrize("obs", ["one-hot", "coords", "rgb"])
def test_the_last_picture_of_an_episode_is_where_it_ended(obs):
    out = io.StringIO()
    env = gym.make("Lecture/TreasureLine-v0", n=3, obs=obs)
    DQN("MlpPolicy", env, learning_starts=1000, seed=0, device="cpu").learn(
        40, callback=TerminalRenderCallback(speed=0, stream=out)
    )
    seen, _ = pictures(out.getvalue())
    ends = [before for before, line in pairwise(seen) if line.startswith("Episode")]
    assert len(ends) > 3 and set(ends) == {"--o"}


def test_in_a_terminal_the_picture_stays_in_place_above_the_progress_bar():
    script = (
        "from sb3_lecture import QLearning\n"
        "from sb3_lecture.common.render_callback import TerminalRenderCallback\n"
        "from sb3_lecture.common.describe_callback import DescribeEpisodesCallback\n"
        "callbacks = [TerminalRenderCallback(speed=0), DescribeEpisodesCallback(every=2)]\n"
        "QLearning(env='Lecture/TreasureLine-v0', seed=0).learn(100, callback=callbacks, progress_bar=True)\n"
    )
    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 100, 0, 0))
    environment = {**os.environ, "TERM": "xterm-256color"}
    process = subprocess.Popen([sys.executable, "-W", "ignore", "-c", script], stdout=side, stderr=side, env=environment)
    os.close(side)
    written = b""
    with contextlib.suppress(OSError):  # how Linux says that nobody writes there any more
        while part := os.read(main, 65536):
            written += part
    os.close(main)
    assert process.wait() == 0, written.decode()
    _, lines = pictures(written.decode())
    lines = [line for line in lines if line and not line.startswith("Compiling")]
    text = "\n".join(lines)
    assert lines[0] == "-----o" and lines[1].startswith("Episode 1: ") and lines[2].startswith("Episode 1 | Duration: "), text
    assert lines[3] == "-----o" and lines[4].startswith("Episode 2: ") and len(lines[5]) == 6 and "o" in lines[5], text
    assert "100/100" in lines[-1] and sum("/100" in line for line in lines) == 1, text


def test_only_some_episodes_are_drawn():
    out = io.StringIO()
    model = QLearning(env="Lecture/TreasureLine-v0", seed=0)
    model.learn(500, callback=TerminalRenderCallback(speed=0, every=5, stream=out))
    assert "Episode 1:" in out.getvalue() and "Episode 6:" in out.getvalue() and "Episode 2:" not in out.getvalue()


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="speed=-1"):
        TerminalRenderCallback(speed=-1)
