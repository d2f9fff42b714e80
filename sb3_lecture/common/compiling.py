"""How rules are compiled: what numba needs to know, apart from what the rules say.

A *rule* is a plain function marked ``@rule``: Python can call it, and a compiled loop that calls it takes its code in. Three
decisions, all measured:

- Rules are closed over by a loop, not passed to it: numba's disk cache keys on a closure's contents, and a rule is a plain
  module-level function that pickles by its name (one defined inside another would miss the cache every time). A
  ``fingerprint`` of the rules and all that they call is closed over as well, because numba looks at the loop's own file only.
- ``_nrt=False``: the loops never allocate, so arrays need no reference counts. With counts the loop is five times slower.
- ``forceinline``: an agent is a tuple of about ten arrays; handing it to a function that is not inlined copies all of them.
"""

import hashlib
import inspect
import sys
from collections.abc import Callable
from typing import Any

from numba import njit
from numba.core import event
from numba.extending import register_jitable

#: marks a function that compiled loops may call; Python may call it, too
rule = register_jitable(forceinline=True)

_njit: Any = njit  # numba's type stubs do not know ``_nrt``
#: marks a loop that never allocates
compiled = _njit(cache=True, _nrt=False, error_model="numpy")


def fingerprint(*functions: Callable[..., Any]) -> str:
    """A hash of functions and all that they call: the files they stand in (byte code where there is none), and constants."""
    digest, waiting, seen = hashlib.sha256(), list(functions), set()
    while waiting:
        function = waiting.pop()
        path = str(inspect.getsourcefile(function))
        try:
            with open(path, "rb") as file:
                source = path, file.read()
        except OSError:
            source = path, function.__code__.co_code + repr(function.__code__.co_consts).encode()
        if source not in seen:
            digest.update(source[1])
        seen |= {source, function}
        for name in function.__code__.co_names:
            value = function.__globals__.get(name)
            value = getattr(value, "py_func", value)  # numba's dispatchers
            if inspect.isfunction(value) and value not in seen:
                waiting.append(value)
            elif isinstance(value, (int, float, str)):
                digest.update(f"{name}={value}".encode())
    return digest.hexdigest()


NOTICE = "Compiling what is called for the first time, once per machine: some seconds …"


class _Notice(event.Listener):
    """Says once a process that numba compiles; what it finds in its cache on the disk is no event."""

    listening = said = False

    def on_start(self, event: event.Event) -> None:
        """Say it, before the first function."""
        if not self.said:
            self.said = True
            print(NOTICE, file=sys.stderr, flush=True)

    def on_end(self, event: event.Event) -> None:
        """Say nothing more."""


_notice = _Notice()


def announce() -> None:
    """From now on say on stderr, once a process, when numba begins to compile: the silence would look like a hang."""
    if not _notice.listening:
        _notice.listening = True
        event.register("numba:compile", _notice)
