"""Files that are whole or not there: each is written beside its place and renamed, so that no kill leaves half of one.

    with written("model.zip") as path:
        save(path)               # a temporary file in the same folder; renamed to model.zip when the block ends well

A process that dies while it writes leaves its temporary file behind, which bears its host and process id; the next writer of
the same file, and ``clear_torn``, remove those of processes that are gone.
"""

import errno
import os
import re
import shutil
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np

__all__ = ["clear_torn", "save_arrays", "write_bytes", "written"]

HOST = re.sub(r"[^A-Za-z0-9]", "", socket.gethostname())[:32] or "host"
#: what a temporary file is called: .NAME.HOST-PID.tmp, and the suffix once more, which NumPy and SB3 add where it lacks
TORN = re.compile(r"^\.(?P<name>.+)\.(?P<host>[A-Za-z0-9]+)-(?P<pid>\d+)\.tmp(?:\.\w+)?$")
#: what older versions left: .saving-PID folders, and .NAME.npz.PID.npz
OLD_TORN = (re.compile(r"^\.saving-(?P<pid>\d+)$"), re.compile(r"^\..+\.npz\.(?P<pid>\d+)\.npz$"))


@contextmanager
def written(path: str | Path) -> Iterator[Path]:
    """Give a temporary path to write to, and put what was written in its place.

    :param path: where the file belongs; its folder is made if need be
    :return: where to write it: a path in the same folder, with the same suffix
    :raises OSError: if the disk is full ("disk full …"), or the file cannot be written; the file of that name stays as it was
    """
    path = Path(os.path.realpath(path))  # what a link points to, not the link
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        clear_torn(path.parent, path.name)
        beside = path.with_name(f".{path.name}.{HOST}-{os.getpid()}.tmp{path.suffix}")
        try:
            yield beside
            _to_disk(beside)
            os.replace(beside, path)
        except BaseException:
            with suppress(OSError):
                beside.unlink()
            raise
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise OSError(error.errno, f"disk full: {path} was not written, what stood there before is as it was") from error
        raise
    if os.name == "posix":  # the name itself
        with suppress(OSError):
            _to_disk(path.parent)


def _to_disk(path: Path) -> None:
    """Let the system write a file, or a folder's names, to the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def write_bytes(path: str | Path, content: bytes) -> None:
    """Write a file whole.

    :param path: where
    :param content: what
    :raises OSError: as ``written``
    """
    with written(path) as beside:
        beside.write_bytes(content)


def save_arrays(path: str | Path, **arrays: Any) -> None:
    """Write an .npz whole: ``numpy.savez`` beside its place, then renamed.

    :param path: where, with the suffix .npz
    :param arrays: name → array; no objects
    :raises OSError: as ``written``
    :raises ValueError: if an array holds objects, which no reader opens without running their code
    """
    with written(path) as beside:
        np.savez(beside, allow_pickle=False, **arrays)


def clear_torn(folder: str | Path, name: str | None = None) -> list[Path]:
    """Remove what processes that died left half written in a folder.

    Only files of this machine whose process is gone are touched.

    :param folder: the folder; one that is not there is empty
    :param name: only what was to become this file; None: all
    :return: what was removed
    """
    removed = []
    with suppress(OSError):
        for entry in Path(folder).iterdir():
            match = TORN.match(entry.name)
            if match is not None:
                mine = match["host"] == HOST and name in (None, match["name"])
            else:
                match = next((found for pattern in OLD_TORN if (found := pattern.match(entry.name))), None)
                mine = match is not None and name is None
            if match is None or not mine or _lives(int(match["pid"])):
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry, ignore_errors=True)
            else:
                with suppress(OSError):
                    entry.unlink()
            removed.append(entry)
    return removed


def _lives(pid: int) -> bool:
    """Whether a process of this machine runs (or cannot be asked)."""
    if pid == os.getpid():
        return True
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):
        return True
    return True
