"""The one exception for what the user can put right, which ``main`` prints as one line, and texts for such lines."""

import difflib
import re
from collections.abc import Iterable


class UserError(Exception):
    """Something in the command, a config or an argument is wrong; the message says what, and what to do instead."""


def nearest(name: str, known: Iterable[str]) -> str:
    """Say which known name lies nearest to a wrong one.

    :param name: what was given
    :param known: the names that exist
    :return: ``" (did you mean 'dqn'?)"``, or an empty string where none is near
    """
    known = list(known)
    match = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    if not match:  # case alone may differ: DQN, cartpole-v1
        lower = {k.lower(): k for k in known}
        match = [lower[m] for m in difflib.get_close_matches(name.lower(), lower, n=1, cutoff=0.5)]
    return f" (did you mean {match[0]!r}?)" if match else ""


def first_line(error: BaseException) -> str:
    """Return the first line of an exception's message that says something, or its class's name."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


def hide_passwords(text: str) -> str:
    """A text, such as a command, with the passwords of all URLs in it hidden."""
    return re.sub(r"(://[^/:@\s]*:)[^/@\s]*@", r"\1***@", text)
