"""Checks of what comes in: arguments when a model is built, numbers when it learns.

A wrong argument is one line that names the argument, its value and what is allowed. SB3's argument names mean the same
everywhere, so what they may be stands here once, in ``ALLOWED``; a class adds its own::

    check_arguments(locals(), sigma=Real(above=0), critic=Choice("v", "q"))      # the first line of __init__
"""

import inspect
import math
import numbers
import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from typing import Any, ClassVar, Protocol, TypeVar, cast

import numpy as np
import torch as th

__all__ = [
    "ALLOWED",
    "FLAG",
    "Choice",
    "Integer",
    "Real",
    "check_arguments",
    "check_finite",
    "check_settings",
    "is_finite",
    "keywords_of",
    "naming_memory",
    "naming_non_finite",
]

INF = float("inf")
Method = TypeVar("Method", bound=Callable[..., Any])


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


FLAG = Choice(False, True)

#: what SB3's arguments may be, in every class that has them
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
}


def check_arguments(arguments: Mapping[str, Any], **more: Rule) -> None:
    """Check the arguments of a constructor.

    :param arguments: its ``locals()``, before anything else is in them; names without a rule are left alone
    :param more: rules of this class, by name; they come before those of ``ALLOWED``
    :raises TypeError: for an argument of the wrong type
    :raises ValueError: for one out of its range, NaN or infinite
    """
    rules = ALLOWED | more
    for name, value in arguments.items():
        if name in rules:
            rules[name].check(name, value)
    train_freq = arguments.get("train_freq", 1)
    Integer(1).check("train_freq", train_freq[0] if isinstance(train_freq, tuple) and train_freq else train_freq)


def check_settings(model: Any, **rules: Rule) -> None:
    """Check attributes of a model, by name.

    :param model: what has them
    :param rules: what each may be
    :raises TypeError: for one of the wrong type
    :raises ValueError: for one out of its range, NaN or infinite
    """
    for name, rule in rules.items():
        rule.check(name, getattr(model, name))


def keywords_of(cls: type) -> list[str]:
    """The arguments of a class and, where it hands ``**kwargs`` on, of the classes that it inherits from."""
    names: list[str] = []
    for parent in cls.__mro__:
        if "__init__" not in vars(parent):
            continue
        parameters = inspect.signature(vars(parent)["__init__"]).parameters.values()
        names += [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in names]
        if not any(p.kind == p.VAR_KEYWORD for p in parameters):
            break
    return names[1:]  # without self


def is_finite(source: Any) -> bool:
    """Whether all numbers of an array, a tensor, a module, or a dict or list of them are finite."""
    if isinstance(source, th.nn.Module):
        return all(is_finite(parameter) for parameter in source.parameters())
    if isinstance(source, th.Tensor):
        return bool(th.isfinite(source).all())
    if isinstance(source, Mapping):
        return all(is_finite(part) for part in source.values())
    if isinstance(source, (list, tuple)):
        return all(is_finite(part) for part in source)
    array = np.asarray(source)
    return array.dtype.kind not in "fc" or bool(np.isfinite(array).all())


def check_finite(value: float | th.Tensor, what: str, **sources: Any) -> None:
    """Refuse to learn from a number that is NaN or infinite, and say where it came from. Costs one comparison if all is well.

    :param value: the loss, or the norm of its gradient
    :param what: its name
    :param sources: what it was computed from, by name, in the order in which they are suspected: arrays, tensors, modules or
        dicts and lists of them
    :raises ValueError: if it is not finite
    """
    if math.isfinite(value):
        return
    for name, source in sources.items():
        if not is_finite(source):
            raise ValueError(f"{what} is {float(value)}: there is NaN or inf in the {name.replace('_', ' ')}")
    raise ValueError(
        f"{what} is {float(value)}, though what it was computed from ({', '.join(sources).replace('_', ' ')}) is finite: the "
        "numbers grew too large. Lower learning_rate, or scale the rewards (VecNormalize)"
    )


def naming_memory(*names: str) -> Callable[[Method], Method]:
    """Decorate a method that makes arrays: where they do not fit into memory, a ValueError names what asked for them.

    :param names: attributes that say how large the arrays are; those that a class does not have are left out
    """

    def decorate(method: Method) -> Method:
        @wraps(method)
        def named(self: Any, *args: Any, **kwargs: Any) -> Any:
            try:
                return method(self, *args, **kwargs)
            except (MemoryError, ValueError) as error:
                if isinstance(error, ValueError) and not re.match("array is too big|Maximum allowed", str(error)):
                    raise
                given = ", ".join(f"{name}={getattr(self, name)!r}" for name in names if hasattr(self, name))
                raise ValueError(f"{given} does not fit into memory ({error}); lower it") from error

        return cast(Method, named)

    return decorate


@contextmanager
def naming_non_finite(model: Any) -> Iterator[None]:
    """Say of an error while a model acts whether NaN or inf in the last observation, or in the network, is its cause.

    :param model: an SB3 model
    :raises ValueError: in the place of a ValueError or RuntimeError of torch, where that is so
    """
    try:
        yield
    except (ValueError, RuntimeError) as error:
        for name, source in (("last observation of the environment", model._last_obs), ("network", model.policy)):
            if source is not None and not is_finite(source):
                raise ValueError(
                    f"there is NaN or inf in the {name}, no action can be drawn ({type(error).__name__})"
                ) from error
        raise
