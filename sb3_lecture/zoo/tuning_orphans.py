"""Processes that end with the one that started them, at whatever moment that is killed.

A worker waits in a thread for the end of its parent; the system reports that end, nothing is polled. The server that forks
the workers has no thread while it imports PyTorch for them, so on Linux the kernel is asked to kill it with its parent
(``PR_SET_PDEATHSIG``); the workers, and the server elsewhere, see the closed pipe. The server imports this module first and
finds in its environment who announced it.
"""

import contextlib
import ctypes
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Iterator
from multiprocessing.connection import wait

_VARIABLE = "SB3_LECTURE_PARENT"
_PR_SET_PDEATHSIG = 1


def end_with_parent() -> None:
    """End this process, started by ``multiprocessing``, as soon as the process that started it has ended."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_wait_for, args=(parent.sentinel,), daemon=True).start()


def _wait_for(sentinel: int) -> None:
    wait([sentinel])
    os._exit(1)  # in the middle of whatever it does: nobody is left to want it


@contextlib.contextmanager
def announced() -> Iterator[None]:
    """While this holds, a child that imports this module is killed with this process."""
    os.environ[_VARIABLE] = str(os.getpid())
    try:
        yield
    finally:
        del os.environ[_VARIABLE]


def _end_with(parent: int) -> None:
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.name == "posix" and os.getppid() != parent:  # it has ended already
        os._exit(1)


if _VARIABLE in os.environ and int(os.environ[_VARIABLE]) != os.getpid():
    _end_with(int(os.environ.pop(_VARIABLE)))
