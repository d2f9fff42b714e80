"""Refusing arguments in one line that names the value and what is allowed."""

import inspect
import math
import numbers
from typing import Any

import numpy as np


def check_choice(name: str, value: Any, allowed: tuple[Any, ...]) -> None:
    """Refuse a value that is not one of those allowed.

    :raises ValueError: naming the value and what is allowed
    """
    if not any(value is choice or (isinstance(value, str) and value == choice) for choice in allowed):
        raise ValueError(f"{name}={value!r}; allowed: {', '.join(map(repr, allowed))}")


def check_number(name: str, value: Any, least: float = -math.inf, most: float = math.inf, above: bool = False) -> None:
    """Refuse what is not a finite number in [least, most].

    :param above: whether ``least`` itself is refused, too
    :raises TypeError: if it is no number
    :raises ValueError: if it is NaN, infinite or out of range
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value.item()
    if not isinstance(value, numbers.Real) or isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}={value!r}; it must be a number")
    number = float(value)
    if not math.isfinite(number) or not least <= number <= most or (above and number == least):
        left = "" if least == -math.inf else f" {'above' if above else 'at least'} {least:g}"
        right = "" if most == math.inf else f"{' and' if left else ''} at most {most:g}"
        raise ValueError(f"{name}={value}; it must be a finite number{left}{right}")


def check_integer(name: str, value: Any, least: int) -> None:
    """Refuse what is not an integer of at least ``least``.

    :raises TypeError: if it is no number
    :raises ValueError: if it is out of range or has a fraction
    """
    check_number(name, value)
    if value != int(value) or value < least:
        raise ValueError(f"{name}={value}; it must be an integer of at least {least}")


def keywords_of(cls: type) -> list[str]:
    """The keyword arguments of a class and, where it hands ``**kwargs`` on, of the classes that it inherits from."""
    names: list[str] = []
    for parent in cls.__mro__:
        if "__init__" not in vars(parent):
            continue
        parameters = inspect.signature(vars(parent)["__init__"]).parameters.values()
        names += [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY) and p.name not in names]
        if not any(p.kind == p.VAR_KEYWORD for p in parameters):
            break
    return names[1:]  # without self
