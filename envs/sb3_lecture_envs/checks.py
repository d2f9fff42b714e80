"""One clear error for what a world cannot be made of: the checks that all worlds share."""

import operator
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode

#: outcomes of the largest law that is written out as arrays (about 2 GB)
MAX_OUTCOMES = 50_000_000


def whole(name: str, value: Any, least: int, most: int | None = None) -> int:
    """A whole number in its range; NumPy's integers and arrays of one entry count, 3.0 does too, True does not.

    :param name: of the argument
    :param value: what was given
    :param least: smallest value allowed
    :param most: largest value allowed; None: any
    :raises TypeError: if it is no number
    :raises ValueError: if it is none of the numbers allowed
    """
    allowed = f"a whole number of at least {least}" if most is None else f"a whole number from {least} to {most}"
    given = value.item() if isinstance(value, (np.ndarray, np.generic)) and np.size(value) == 1 else value
    if isinstance(given, float) and given.is_integer():
        given = int(given)
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise TypeError(f"{name}={value!r} must be {allowed}")
    if not isinstance(given, int) or given < least or (most is not None and given > most):
        raise ValueError(f"{name}={value!r} must be {allowed}")
    return operator.index(given)


def finite(name: str, value: Any, low: float = -np.inf, high: float = np.inf) -> float:
    """A finite number in its range.

    :param name: of the argument
    :param value: what was given
    :param low: smallest value allowed
    :param high: largest value allowed
    :raises TypeError: if it is no number
    :raises ValueError: if it is none of the numbers allowed
    """
    allowed = "a finite number" + (f" in [{low:g}, {high:g}]" if np.isfinite([low, high]).any() else "")
    given = value.item() if isinstance(value, (np.ndarray, np.generic)) and np.size(value) == 1 else value
    if isinstance(given, bool) or not isinstance(given, (int, float)):
        raise TypeError(f"{name}={value!r} must be {allowed}")
    if not np.isfinite(given) or not low <= given <= high:
        raise ValueError(f"{name}={value!r} must be {allowed}")
    return float(given)


def flag(name: str, value: Any) -> bool:
    """True or False.

    :param name: of the argument
    :param value: what was given
    :raises TypeError: if it is neither
    """
    if not isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name}={value!r} must be True or False")
    return bool(value)


def choice(name: str, value: Any, allowed: tuple[Any, ...]) -> Any:
    """One of a few values.

    :param name: of the argument
    :param value: what was given
    :param allowed: what may be given
    :raises ValueError: if it is none of them
    """
    if not (value is None or isinstance(value, (str, int))) or value not in allowed:
        raise ValueError(f"{name}={value!r} is unknown; allowed: {list(allowed)}")
    return value


def size_of_law(outcomes: int, arguments: str) -> None:
    """Refuse a law that would not fit the memory, before it is written out.

    :param outcomes: entries of its arrays
    :param arguments: what asks for so many
    :raises ValueError: if they are more than ``MAX_OUTCOMES``
    """
    if outcomes > MAX_OUTCOMES:
        raise ValueError(f"{arguments} would be a law of {outcomes:,} outcomes; at most {MAX_OUTCOMES:,} are written out")


def action_of(action: Any, n_actions: int) -> int:
    """The action as an int: what ``predict`` returns, a NumPy number or an array of one entry, counts too.

    :param action: what ``step`` was given
    :param n_actions: actions are 0 to ``n_actions - 1``
    :raises ValueError: if there is no such action
    """
    try:
        return whole("action", action, 0, n_actions - 1)
    except (TypeError, ValueError) as error:
        raise ValueError(f"Action {action} is outside the action space; actions are 0 to {n_actions - 1}") from error


def autoreset_mode_of(mode: AutoresetMode | str) -> AutoresetMode:
    """The autoreset mode that an argument names: itself, its name or its value.

    :raises ValueError: if it is none that the vector envs of this package know
    """
    allowed = (AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP)
    for candidate in allowed:
        if mode in (candidate, candidate.value, candidate.name, candidate.name.lower()):
            return candidate
    raise ValueError(f"autoreset_mode={mode!r} is not supported; allowed: {[m.name for m in allowed]}")
