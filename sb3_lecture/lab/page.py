"""What a page of the lab is: controls with ranges, actions, and a picture of its state as plain JSON.

A page knows neither sockets nor clocks. Its picture follows from its settings alone (the number of steps trained is one of
them), so a link that holds the settings brings the same picture back, and a page that reconnects goes on where it was.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

#: pictures a second while a page plays; a page's ``tick`` is called once for each
FRAMES_PER_SECOND = 30
#: digits that pictures carry
DIGITS = 7


class Refused(ValueError):
    """A message that the lab does not take; the text goes to the browser."""


class Number(NamedTuple):
    """A slider.

    :param name: of the setting
    :param label: what people read
    :param default: value at first
    :param low: least value
    :param high: largest value
    :param step: of the slider; where ``log`` is True, it has no meaning
    :param unit: "" or what is counted
    :param log: whether the slider moves by factors (0 lies at its left end)
    :param whole: whether only integers are taken
    :param symbol: the Greek letter or sign of the field, if there is one
    """

    name: str
    label: str
    default: float
    low: float
    high: float
    step: float = 1.0
    unit: str = ""
    log: bool = False
    whole: bool = False
    symbol: str = ""

    def read(self, value: Any) -> float:
        """Check a value that came from outside."""
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise Refused(f"{self.name}={value!r:.60} must be a number from {self.low:g} to {self.high:g}")
        if not self.low <= value <= self.high or (self.whole and value != int(value)):
            kind = "whole number" if self.whole else "number"
            raise Refused(f"{self.name}={value!r:.60} must be a {kind} from {self.low:g} to {self.high:g}")
        return int(value) if self.whole else float(value)

    def describe(self) -> dict[str, Any]:
        """What the browser needs to draw it."""
        return {"kind": "number", **self._asdict()}


class Choice(NamedTuple):
    """One of several words; ``options`` maps them to what people read."""

    name: str
    label: str
    default: str
    options: Mapping[str, str]

    def read(self, value: Any) -> str:
        """Check a value that came from outside."""
        if not isinstance(value, str) or value not in self.options:
            raise Refused(f"{self.name}={value!r:.60} must be one of {', '.join(self.options)}")
        return value

    def describe(self) -> dict[str, Any]:
        """What the browser needs to draw it."""
        return {"kind": "choice", **self._asdict()}


class Text(NamedTuple):
    """A text of bounded length."""

    name: str
    label: str
    default: str
    longest: int

    def read(self, value: Any) -> str:
        """Check a value that came from outside."""
        if not isinstance(value, str) or len(value) > self.longest:
            raise Refused(f"{self.name} must be text of at most {self.longest} characters, got {value!r:.60}")
        return value

    def describe(self) -> dict[str, Any]:
        """What the browser needs to draw it."""
        return {"kind": "text", **self._asdict()}


Control = Number | Choice | Text

STEPS = "steps"
#: what every page that plays has; ``speed`` is its slowest and fastest pace
SPEED = Number("speed", "Speed", 10, 1, 100_000, unit="steps/s", log=True)


class Page:
    """A page; subclasses state their controls and draw.

    :cvar controls: the settings, all of them
    :cvar actions: what the browser may ask for, besides settings; ``do_<name>`` does it
    """

    controls: Sequence[Control] = ()
    actions: Sequence[str] = ("step", "episode", "reset", "play", "pause")

    def __init__(self) -> None:
        self.settings: dict[str, Any] = {control.name: control.read(control.default) for control in self.controls}
        self.playing = False
        self._owed = 0.0  # steps that the pace has earned and no tick has taken yet

    def set(self, changes: Mapping[str, Any]) -> None:
        """Change settings: all of them, or none if one is wrong.

        :raises Refused: naming the setting and what is allowed
        """
        known = {control.name: control for control in self.controls}
        unknown = [name for name in changes if name not in known]
        if unknown:
            raise Refused(f"unknown setting {unknown[0]!r:.60}; this page has {', '.join(known)}")
        self.settings |= {name: known[name].read(value) for name, value in changes.items()}
        self.changed(frozenset(changes))

    def do(self, action: str) -> None:
        """Do one of the actions.

        :raises Refused: if there is none of that name
        """
        if action not in self.actions:
            raise Refused(f"unknown action {action!r:.60}; this page knows {', '.join(self.actions)}")
        getattr(self, f"do_{action}")()

    def do_play(self) -> None:
        """Go on by itself, at the pace of ``speed``."""
        self.playing, self._owed = True, 0.0

    def do_pause(self) -> None:
        """Stand still."""
        self.playing = False

    def tick(self) -> bool:
        """A thirtieth of a second of playing has passed; returns whether the picture has changed."""
        self._owed += self.settings["speed"] / FRAMES_PER_SECOND
        steps = int(self._owed)
        self._owed -= steps
        if steps:
            self.advance(steps)
        return steps > 0

    @staticmethod
    def info() -> dict[str, Any]:
        """What the view needs once, and settings do not change."""
        return {}

    def changed(self, names: frozenset[str]) -> None:
        """Settings were changed."""

    def advance(self, steps: int) -> None:
        """Go on by some steps; a page that has come to its end sets ``playing`` to False."""

    def picture(self) -> dict[str, Any]:
        """Everything that the view draws, as plain JSON."""
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        """The picture, the settings, and whether the page plays."""
        return {"settings": dict(self.settings), "playing": self.playing, **self.picture()}


def plain(value: Any) -> Any:
    """Arrays and numbers as JSON holds them: seven digits, None for what is no finite number."""
    if isinstance(value, np.ndarray):
        return _plain_array(value)
    if isinstance(value, (list, tuple)):
        return [plain(item) for item in value]
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, (float, np.floating)):
        number = float(value)
        return float(f"{number:.{DIGITS}g}") if math.isfinite(number) else None
    return value.item() if isinstance(value, np.generic) else value


def _plain_array(array: np.ndarray) -> Any:
    """What ``plain`` makes of an array, without a call for every number."""
    if array.dtype.kind != "f":
        return array.tolist() if array.dtype.kind in "biuU" else plain(array.tolist())
    numbers = [float(f"{x:.{DIGITS}g}") if math.isfinite(x) else None for x in array.ravel().tolist()]
    return np.array(numbers, dtype=object).reshape(array.shape).tolist()


def encode(message: Mapping[str, Any]) -> str:
    """A message to the browser, as text without NaN or Infinity."""
    return json.dumps(plain(dict(message)), allow_nan=False, ensure_ascii=False, separators=(",", ":"))
