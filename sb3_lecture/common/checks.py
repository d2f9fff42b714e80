"""Checks of what comes in: arguments when a model is built, numbers when it learns.

A wrong argument is one line that names the argument, its value and what is allowed. SB3's argument names mean the same
everywhere, so what they may be stands here once, in ``ALLOWED``; a class adds its own::

    check_arguments(locals(), sigma=Real(above=0))      # the first line of __init__
"""

import math
import operator
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch as th

__all__ = ["ALLOWED", "Integer", "Real", "check_arguments", "check_finite", "is_finite", "naming_non_finite"]

INF = float("inf")


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
    """

    low: float = -INF
    high: float = INF
    above: float | None = None
    none: bool = False
    schedule: bool = False
    infinite: bool = False
    text: str = ""
    kind = "number"

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

    def convert(self, value: Any) -> float:
        """Return the number that ``value`` is; numbers of NumPy and 0-d arrays are numbers, booleans and strings are not."""
        if isinstance(value, (bool, np.bool_, str, bytes)):
            raise TypeError
        return float(value)

    def check(self, name: str, value: Any) -> None:
        """Check one argument.

        :raises TypeError: if it is no number
        :raises ValueError: if it is out of range, NaN or infinite
        """
        if (value is None and self.none) or (callable(value) and self.schedule) or (isinstance(value, str) and self.text):
            return
        try:
            number = self.convert(value)
        except (TypeError, ValueError):
            raise TypeError(f"{name}={value!r} must be {self.describe()}, not a {type(value).__name__}") from None
        inside = self.low <= number <= self.high and (self.above is None or number > self.above)
        if not inside or (math.isinf(number) and not self.infinite):  # NaN is inside of nothing
            raise ValueError(f"{name}={value!r} must be {self.describe()}")


@dataclass(frozen=True)
class Integer(Real):
    """What a whole number may be: an int, of Python or NumPy, or a 0-d array of one."""

    kind = "integer"

    def convert(self, value: Any) -> float:
        """Return the whole number that ``value`` is."""
        if isinstance(value, (bool, np.bool_)):
            raise TypeError
        return operator.index(value)


#: what SB3's arguments may be, in every class that has them
ALLOWED: dict[str, Real] = {
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
    "stats_window_size": Integer(1),
    "seed": Integer(0, 2**32 - 1, none=True),
}


def check_arguments(arguments: Mapping[str, Any], **more: Real) -> None:
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
