"""Files that hold pickles (SB3's and contrib's zips, replay buffers, VecNormalize's statistics), read without running them.

A pickle is a program: it names functions and calls them. The reader here follows only names on an allow-list (containers,
arrays, tensors, generators, spaces, schedules, noises, buffers, networks as classes) and refuses all others, so that a file
either gives plain values or is refused with the names that it would have run.
"""

import base64
import binascii
import io
import json
import pickle
import zipfile
from collections import OrderedDict, deque
from pathlib import Path
from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.vec_env import VecNormalize

from sb3_lecture.common.archive import DAMAGED, File
from sb3_lecture.common.packing import OBJECTS, Missing, resolve

__all__ = ["Refused", "read_pickle", "read_zip", "safe_loads"]

#: what a pickle of plain data names
PLAIN: dict[tuple[str, str], Any] = {
    ("builtins", thing.__name__): thing for thing in (set, frozenset, bytearray, complex, slice, range)
}  # fmt: skip
PLAIN |= {("collections", "deque"): deque, ("collections", "OrderedDict"): OrderedDict}
for _package in ("numpy.core", "numpy._core"):
    PLAIN |= {
        (f"{_package}.multiarray", "_reconstruct"): np.ndarray.__reduce__(np.zeros(1))[0],
        (f"{_package}.multiarray", "scalar"): np.float32(0).__reduce__()[0],
        (f"{_package}.numeric", "_frombuffer"): np.zeros(1).__reduce_ex__(5)[0],
    }
PLAIN["_codecs", "encode"] = lambda text, encoding="latin1": text.encode("latin1")  # bytes, in old protocols
PLAIN |= {("numpy", "ndarray"): np.ndarray, ("numpy", "dtype"): np.dtype}
PLAIN |= {("numpy", kind.__name__): kind for kind in {*np.sctypeDict.values()} - {np.object_}}
PLAIN["numpy", "bool_"] = np.bool_
for _name in ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"):
    PLAIN[f"numpy.random._{_name.lower()}", _name] = getattr(np.random, _name)
#: names of pickles of numpy's generators and of torch's tensors
FOLLOWED = {
    ("numpy.random._pickle", "__generator_ctor"), ("numpy.random._pickle", "__bit_generator_ctor"),
    ("numpy.random._pickle", "__randomstate_ctor"), ("numpy.random.bit_generator", "SeedSequence"),
    ("numpy.random.bit_generator", "__pyx_unpickle_SeedSequence"), ("numpy.random._generator", "Generator"),
    ("torch._utils", "_rebuild_tensor_v2"), ("torch._utils", "_rebuild_parameter"), ("torch", "Size"), ("torch", "device"),
}  # fmt: skip
TORCH_STORAGES = {"FloatStorage", "DoubleStorage", "HalfStorage", "LongStorage", "IntStorage", "ByteStorage", "BoolStorage"}
#: fields that ``_setup_model`` makes anew from others: not needed where they would run code
DERIVED = ("lr_schedule", "exploration_schedule")


class Refused(ValueError):
    """A pickle that names what is not on the allow-list; the message is that name."""


def _load_tensor(content: bytes) -> Any:
    """What torch does for a tensor inside a pickle, without what it would run."""
    return th.load(io.BytesIO(content), map_location="cpu", weights_only=True)


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) in PLAIN:
            return PLAIN[module, name]
        if (module, name) == ("torch.storage", "_load_from_bytes"):
            return _load_tensor
        if (module, name) in FOLLOWED or (module == "torch" and name in TORCH_STORAGES):
            return super().find_class(module, name)
        if module == "torch" and isinstance(getattr(th, name, None), th.dtype):
            return getattr(th, name)
        if (module, name) == ("stable_baselines3.common.vec_env.vec_normalize", "VecNormalize"):
            return VecNormalize
        try:
            thing = resolve(f"{module}:{name}")
        except ValueError as error:
            raise Refused(f"{module}.{name}") from error
        return _by_name_only(thing)

    def persistent_load(self, pid: Any) -> Any:
        raise Refused("a persistent id")


def _by_name_only(thing: Any) -> Any:
    """A class to be called: networks, optimizers and algorithms may be named by a file, but none is built."""
    if isinstance(thing, type) and issubclass(thing, (th.nn.Module, th.optim.Optimizer, BaseAlgorithm)):
        return _Named(thing)
    return thing


class _Named:
    """A class that a pickle may name and not call."""

    def __init__(self, thing: type) -> None:
        self.thing = thing


def _plain(value: Any) -> Any:
    """Put the classes themselves in the place of their marks."""
    if isinstance(value, _Named):
        return value.thing
    if type(value) in (list, tuple, set):
        return type(value)(_plain(part) for part in value)
    if isinstance(value, dict):
        return type(value)((key, _plain(part)) for key, part in value.items())
    return value


def safe_loads(content: bytes) -> Any:
    """Read a pickle of plain data.

    :param content: the pickle
    :return: the value
    :raises Refused: if it names what is not on the allow-list
    :raises ValueError: if it is damaged
    """
    try:
        return _plain(_Reader(io.BytesIO(content)).load())
    except Refused:
        raise
    except (*DAMAGED, pickle.UnpicklingError, ImportError, OSError, AssertionError, ZeroDivisionError) as error:
        raise ValueError(f"the pickle cannot be read: {type(error).__name__}: {error}") from error


def read_pickle(path: File, trusted: bool = False) -> Any:
    """Read a .pkl file, without running it.

    :param path: where, or an open binary file
    :param trusted: unpickle it as Python does, which runs what it names
    :raises ValueError: if it would run code, or is damaged
    """
    content = path.read() if not isinstance(path, (str, Path)) else Path(path).read_bytes()
    try:
        return pickle.loads(content) if trusted else safe_loads(content)
    except Refused as error:
        raise ValueError(
            f"{path} would run {error} when unpickled; pass trusted=True if you trust whoever wrote it"
        ) from error
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    except (*DAMAGED, pickle.UnpicklingError, ImportError) as error:
        raise ValueError(f"{path} cannot be unpickled: {type(error).__name__}: {error}") from error


def read_zip(
    path: File, custom_objects: dict[str, Any] | None = None
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any] | None, str]:
    """Read a model that SB3 saved, without running what is pickled in it.

    :param path: where, or an open binary file
    :param custom_objects: field → what stands in its place, unread
    :return: the fields, the state dicts, PyTorch's variables, the system's description
    :raises ValueError: naming the fields that would run code, or if the file is damaged
    """
    custom = custom_objects or {}
    data: dict[str, Any] = {}
    params: dict[str, Any] = {}
    variables: dict[str, Any] | None = None
    refused: list[str] = []
    try:
        with zipfile.ZipFile(path) as archive:  # type: ignore[arg-type]
            names = archive.namelist()
            fields = json.loads(archive.read("data").decode())
            system = archive.read("system_info.txt").decode() if "system_info.txt" in names else ""
            for key, item in fields.items():
                if key in custom:
                    data[key] = custom[key]
                elif isinstance(item, dict) and ":serialized:" in item:
                    try:
                        data[key] = safe_loads(base64.b64decode(item[":serialized:"].encode()))
                    except Refused as error:
                        if key not in DERIVED:
                            refused.append(f"{key} ({error})")
                else:
                    data[key] = item
            for name in names:
                if name.endswith(".pth"):
                    loaded = th.load(io.BytesIO(archive.read(name)), map_location="cpu", weights_only=True)
                    if name in ("pytorch_variables.pth", "tensors.pth"):
                        variables = loaded
                    else:
                        params[name.removesuffix(".pth")] = loaded
    except (*DAMAGED, pickle.UnpicklingError, binascii.Error, OSError) as error:
        if isinstance(error, FileNotFoundError):
            raise
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} cannot be read, it is damaged or no model's file: {first}") from error
    if refused:
        raise ValueError(
            f"{path} would run code to load {', '.join(sorted(refused))}; pass custom_objects={{field: value}}, or "
            "trusted=True (at the command line --trust) if you trust its author"
        )
    return data, params, variables, system


def missing_fields(data: dict[str, Any]) -> list[str]:
    """Return the fields that hold what a file could not keep."""
    return sorted(f"{key} ({value.what})" for key, part in data.items() for value in _walk(part) if isinstance(value, Missing))


def _walk(value: Any) -> Any:
    yield value
    if isinstance(value, dict):
        for part in value.values():
            yield from _walk(part)
    elif isinstance(value, (list, tuple)):
        for part in value:
            yield from _walk(part)
    elif type(value) in OBJECTS:
        for part in vars(value).values():
            yield from _walk(part)
