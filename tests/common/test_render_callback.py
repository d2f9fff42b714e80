"""The terminal animation shows the treasure line, episode and steps."""

import io

import gymnasium as gym
import pytest

import sb3_lecture_envs  # noqa: F401
from sb3_lecture import QLearning
from sb3_lecture.common.render_callback import TerminalRenderCallback


@pytest.mark.parametrize("backend", ["env", "compiled"])
def test_the_treasure_line_is_drawn(backend):
    out = io.StringIO()
    model = QLearning(env=gym.make("Lecture/TreasureLine-v0", n=6), seed=0, backend=backend)
    model.learn(300, callback=TerminalRenderCallback(speed=0, stream=out))
    text = out.getvalue()
    frames = [line for line in text.replace("\x1b[1F\x1b[J", "").splitlines() if "Episode" not in line]
    assert len(frames) == 300 and all(len(frame) == 6 and frame.count("o") == 1 for frame in frames)
    assert "-o---T" in frames and "-----o" in frames
    lengths = [e["l"] for e in model.ep_info_buffer]
    assert [f"Episode {i}: {n} steps" for i, n in enumerate(lengths, 1)] == [
        line for line in text.splitlines() if line.startswith("Episode")
    ]


def test_only_some_episodes_are_drawn():
    out = io.StringIO()
    model = QLearning(env="Lecture/TreasureLine-v0", seed=0)
    model.learn(500, callback=TerminalRenderCallback(speed=0, every=5, stream=out))
    assert "Episode 1:" in out.getvalue() and "Episode 6:" in out.getvalue() and "Episode 2:" not in out.getvalue()


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="speed=-1"):
        TerminalRenderCallback(speed=-1)
