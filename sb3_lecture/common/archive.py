"""The file that holds what ``packing`` made: a zip of one JSON and of .npy arrays. Nothing in it is ever executed.

    content.json        {"format": "sb3_lecture", "version": 1, "kind": "model", "content": {…}}
    arrays/0.npy …      numpy's own format, without objects; ``numpy.load`` opens them too

The same content gives the same bytes. Reading is bounded by what the zip's own table says, and whatever is wrong with a file
(cut off, bits flipped, another kind of file) is one ValueError that names it.
"""

import io
import json
import lzma
import struct
import tokenize
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np

from sb3_lecture.common.files import written
from sb3_lecture.common.packing import pack, unpack

__all__ = ["find_file", "is_archive", "read_archive", "write_archive"]

FORMAT, VERSION = "sb3_lecture", 1
CONTENT = "content.json"
DATE = (1980, 1, 1, 0, 0, 0)  # no clock in the bytes
File = str | Path | io.BufferedIOBase
#: what a damaged zip, JSON or array raises
DAMAGED = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error, tokenize.TokenError, ValueError, KeyError, IndexError,
    EOFError, NotImplementedError, RuntimeError, OverflowError, RecursionError, MemoryError, SyntaxError, TypeError,
    AttributeError,
)  # fmt: skip


def find_file(path: str | Path, suffix: str) -> Path:
    """Return the path of an existing file; where there is none, that with the suffix added, as SB3 does.

    :raises FileNotFoundError: if neither is there
    """
    for candidate in (Path(path), Path(f"{path}.{suffix}")):
        if candidate.is_file():
            return candidate
    raise FileNotFoundError(f"there is no file {path} (nor {path}.{suffix})")


def write_archive(path: File, kind: str, content: dict[str, Any], texts: dict[str, str] | None = None) -> list[str]:
    """Write a file, whole or not at all.

    :param path: where, or an open binary file
    :param kind: what it is, such as "model"
    :param content: name → value, see ``packing.pack``
    :param texts: further entries to read with a zip program
    :return: the places of what no file without code can hold
    """
    if not isinstance(path, (str, Path)):
        return _write(path, kind, content, texts or {})
    with written(path) as beside, open(beside, "wb") as file:
        return _write(file, kind, content, texts or {})


def _write(file: Any, kind: str, content: dict[str, Any], texts: dict[str, str]) -> list[str]:
    packed = pack(content)
    head = {"format": FORMAT, "version": VERSION, "kind": kind, "content": packed.tree}
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        archive.writestr(_entry(CONTENT), json.dumps(head, allow_nan=False, separators=(",", ":")), compresslevel=1)
        for name, text in texts.items():
            archive.writestr(_entry(name), text, compresslevel=1)
        for i, array in enumerate(packed.arrays):
            with archive.open(_entry(f"arrays/{i}.npy"), "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)
    return packed.lost


def _entry(name: str) -> zipfile.ZipInfo:
    info = zipfile.ZipInfo(name, DATE)
    info.compress_type, info.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
    return info


def is_archive(path: File) -> bool:
    """Whether a file is one of these (that it is whole is not looked at)."""
    try:
        with zipfile.ZipFile(path) as archive:  # type: ignore[arg-type]
            return CONTENT in archive.namelist()
    except (*DAMAGED, OSError):
        return False
    finally:
        if not isinstance(path, (str, Path)):
            path.seek(0)


def read_archive(path: File, kind: str, custom_objects: dict[str, Any] | None = None) -> dict[str, Any]:
    """Read a file.

    :param path: where, or an open binary file
    :param kind: what it must be
    :param custom_objects: fields of the content's parts that are replaced unread, or "module:name" → class or function
    :return: the content
    :raises ValueError: if the file is damaged, of another kind, or names what is not on the allow-list
    """
    custom = custom_objects or {}
    try:
        with zipfile.ZipFile(path) as archive:  # type: ignore[arg-type]
            head = json.loads(archive.read(CONTENT))
            arrays = [_array(archive, f"arrays/{i}.npy") for i in range(_count(archive))]
        if head["format"] != FORMAT:
            raise ValueError("it was not written by this package")
        if not isinstance(head["version"], int) or head["version"] > VERSION:
            raise ValueError(f"its version {head['version']} is newer than this package's {VERSION}: update sb3-lecture")
        found, parts = head["kind"], dict(head["content"])
    except FileNotFoundError:
        raise
    except (*DAMAGED, OSError) as error:  # a seek to nowhere
        raise ValueError(f"{path} cannot be read, it is damaged or no file of this package: {_line(error)}") from error
    if found != kind:
        raise ValueError(f"{path} holds a {found}, not a {kind}")
    content: dict[str, Any] = {}
    for name, tree in parts.items():
        try:
            if isinstance(tree, dict) and "~" not in tree:
                content[name] = {
                    key: custom[key] if name == "data" and key in custom else _part(part, arrays, custom, key)
                    for key, part in tree.items()
                }
            else:
                content[name] = unpack(tree, arrays, custom)
        except DAMAGED as error:
            raise ValueError(f"{path}, {name}: {_line(error)}") from error
    return content


def _part(tree: Any, arrays: list[np.ndarray], custom: dict[str, Any], key: str) -> Any:
    try:
        return unpack(tree, arrays, custom)
    except ValueError as error:
        raise ValueError(f"{key}: {error}") from error


def _count(archive: zipfile.ZipFile) -> int:
    return sum(name.startswith("arrays/") for name in archive.namelist())


def _array(archive: zipfile.ZipFile, name: str) -> np.ndarray:
    info = archive.getinfo(name)
    with archive.open(info) as entry:
        version = np.lib.format.read_magic(entry)
        read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}[version]
        shape, _, dtype = read_header(entry)
        if dtype.hasobject or dtype.itemsize * int(np.prod(shape, dtype=object)) > info.file_size:
            raise ValueError(f"{name} is no array of numbers")
    with archive.open(info) as entry:
        array = np.lib.format.read_array(entry, allow_pickle=False)
        if entry.read(1):  # to the end: only then the checksum is compared
            raise ValueError(f"{name} is longer than its array")
    return array if array.flags.writeable else array.copy()


def _line(error: BaseException) -> str:
    text = str(error).strip().splitlines()
    return text[0] if text else type(error).__name__
