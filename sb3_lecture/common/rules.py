"""What arguments may be: rules of one value each, and the table of SB3's names; ``checks`` holds arguments against them.

SB3's argument names mean the same everywhere, so what they may be stands here once, in ``ALLOWED``.
"""

import math
import numbers
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import numpy as np
import torch as th
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

__all__ = ["ALLOWED", "FLAG", "Choice", "Device", "Instance", "Integer", "Layers", "Real", "Rule", "Subclass"]

INF = float("inf")


class Rule(Protocol):
    """What an argument may be."""

    def check(self, name: str, value: Any) -> None:
        """Refuse a value by TypeError or ValueError in one line that names it."""


@dataclass(frozen=True)
class Real:
    """What a number may be.

    :param low: smallest value
    :param high: largest value
    :param above: a value that it must exceed, instead of ``low``
    :param none: may be None
    :param schedule: may be a function of the remaining progress
    :param infinite: may be infinite where the range is
    :param text: form of the strings that it may be, which the class checks itself; "" for none
    :param plain: must be Python's own number, where SB3 or Python refuse NumPy's (SB3's schedules do)
    """

    low: float = -INF
    high: float = INF
    above: float | None = None
    none: bool = False
    schedule: bool = False
    infinite: bool = False
    text: str = ""
    plain: bool = False
    kind: ClassVar[str] = "number"
    kin: ClassVar[Any] = numbers.Real
    largest: ClassVar[float] = float(np.finfo(np.float32).max)  # networks compute with float32

    def describe(self) -> str:
        """Return the rule in words."""
        text = f"an {self.kind}" if self.kind == "integer" else f"a {self.kind}" if self.infinite else f"a finite {self.kind}"
        if self.above is not None:
            text += f" above {self.above:g}" + (f" and at most {self.high:g}" if self.high < INF else "")
        elif self.low > -INF and self.high < INF:
            text += f" from {self.low:.12g} to {self.high:.12g}"
        elif self.low > -INF:
            text += f" of at least {self.low:g}"
        return text + ", or a schedule" * self.schedule + ", or None" * self.none + f", or {self.text}" * bool(self.text)

    def check(self, name: str, value: Any) -> None:
        """Check one argument.

        :raises TypeError: if it is no number
        :raises ValueError: if it is out of range, NaN or infinite
        """
        if (value is None and self.none) or (isinstance(value, str) and self.text):
            return
        if callable(value) and self.schedule:
            self._check_schedule(name, value)
            return
        if isinstance(value, bool) or not isinstance(value, self.kin):
            raise TypeError(f"{name}={value!r} must be {self.describe()}, not a {type(value).__name__}")
        if (self.plain or self.schedule) and not isinstance(value, (int, float)):
            raise TypeError(f"{name}={value!r} must be a number of Python, not of NumPy: {name}={value.item()!r}")
        inside = self.low <= value <= self.high and (self.above is None or value > self.above)
        if not inside or (math.isinf(value) and not self.infinite):  # NaN is inside of nothing
            raise ValueError(f"{name}={value!r} must be {self.describe()}")
        if abs(value) > self.largest and not math.isinf(value):
            raise ValueError(f"{name}={value!r} must be {self.describe()}, and not beyond {self.largest:.12g}")

    def _check_schedule(self, name: str, schedule: Callable[[float], Any]) -> None:
        try:
            float(schedule(1.0))
        except (TypeError, ValueError) as error:
            raise TypeError(f"{name}={schedule!r} makes no number of the remaining progress 1.0: {error}") from error


@dataclass(frozen=True)
class Integer(Real):
    """What a whole number may be: an int, of Python or NumPy."""

    kind: ClassVar[str] = "integer"
    kin: ClassVar[Any] = numbers.Integral
    largest: ClassVar[float] = 2**63 - 1


class Choice:
    """One of a few values.

    :param allowed: texts, flags or None
    """

    def __init__(self, *allowed: str | bool | None) -> None:
        self.allowed = allowed

    def check(self, name: str, value: Any) -> None:
        """Check one argument.

        :raises ValueError: if it is none of them
        """
        if isinstance(value, np.bool_):
            value = bool(value)
        if not any(value is choice or (isinstance(value, str) and value == choice) for choice in self.allowed):
            *others, last = map(repr, self.allowed)
            raise ValueError(f"{name}={value!r} is unknown: choose {', '.join(others)}{' or ' * bool(others)}{last}")


@dataclass(frozen=True)
class Instance:
    """A value of some classes, or None.

    :param classes: which
    """

    classes: tuple[type, ...]

    def check(self, name: str, value: Any) -> None:
        """Check one argument.

        :raises TypeError: if it is of another class
        """
        if value is not None and not isinstance(value, self.classes):
            allowed = ", ".join(cls.__name__ for cls in self.classes)
            raise TypeError(f"{name}={value!r} must be of {allowed}, or None, not a {type(value).__name__}")


class Device:
    """A torch device, or its name."""

    def check(self, name: str, value: Any) -> None:
        """Check one argument.

        :raises ValueError: if torch knows no such device
        """
        try:
            if value != "auto":
                th.device(value)
        except (RuntimeError, TypeError, ValueError) as error:
            raise ValueError(f"{name}={value!r} is no device of torch: choose 'auto', 'cpu' or 'cuda'") from error


@dataclass(frozen=True)
class Subclass:
    """A class that inherits from another one.

    :param parent: which
    """

    parent: type

    def check(self, name: str, value: Any) -> None:
        """Check one argument.

        :raises TypeError: if it is no class, or of another kind
        """
        if not (isinstance(value, type) and issubclass(value, self.parent)):
            raise TypeError(f"{name}={value!r} must be a class that inherits from {self.parent.__name__}")


class Layers:
    """Widths of hidden layers, [64, 64], or those of each part of the network, {"pi": [64], "vf": [64]}; or None."""

    width = Integer(1)

    def check(self, name: str, value: Any) -> None:
        """Check one argument.

        :raises TypeError: if it is no list of whole numbers
        :raises ValueError: for a width below 1
        """
        parts = value.values() if isinstance(value, Mapping) else [] if value is None else [value]
        for widths in parts:
            if not isinstance(widths, (list, tuple)):
                raise TypeError(f"{name}={value!r} must be a list of widths such as [64, 64], not a {type(widths).__name__}")
            for i, width in enumerate(widths):
                self.width.check(f"{name}={value!r}: number {i}", width)


FLAG = Choice(False, True)

#: what the arguments of SB3's algorithms and policies may be, in every class that has them
ALLOWED: dict[str, Rule] = {
    "learning_rate": Real(0, schedule=True),
    "gamma": Real(0, 1),
    "gae_lambda": Real(0, 1),
    "tau": Real(0, 1),
    "ent_coef": Real(0),
    "vf_coef": Real(0),
    "max_grad_norm": Real(above=0, infinite=True),
    "n_steps": Integer(1),
    "batch_size": Integer(1),
    "n_epochs": Integer(1),
    "buffer_size": Integer(1),
    "learning_starts": Integer(0),
    "gradient_steps": Integer(-1),
    "target_update_interval": Integer(1),
    "exploration_fraction": Real(above=0, high=1),
    "exploration_initial_eps": Real(0, 1),
    "exploration_final_eps": Real(0, 1),
    "sde_sample_freq": Integer(-1),
    "stats_window_size": Integer(1, plain=True),
    "seed": Integer(0, 2**32 - 1, none=True, plain=True),
    "verbose": Integer(0),
    "device": Device(),
    "tensorboard_log": Instance((str, os.PathLike)),
    "policy_kwargs": Instance((dict,)),
    "replay_buffer_kwargs": Instance((dict,)),
    "rollout_buffer_kwargs": Instance((dict,)),
    "search_kwargs": Instance((dict,)),
    "use_sde": FLAG,
    "normalize_advantage": FLAG,
    "optimize_memory_usage": FLAG,
    "_init_setup_model": FLAG,
    "net_arch": Layers(),
    "activation_fn": Subclass(nn.Module),
    "features_extractor_class": Subclass(BaseFeaturesExtractor),
    "features_extractor_kwargs": Instance((dict,)),
    "optimizer_class": Subclass(th.optim.Optimizer),
    "optimizer_kwargs": Instance((dict,)),
    "normalize_images": FLAG,
    "share_features_extractor": FLAG,
    "ortho_init": FLAG,
    "full_std": FLAG,
    "use_expln": FLAG,
    "squash_output": FLAG,
    "log_std_init": Real(-50, 50),
    "n_critics": Integer(1, 1000),
}
