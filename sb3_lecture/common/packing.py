"""Python objects as JSON and arrays, and back, without any code: what checkpoints are made of.

    tree, arrays = pack(value)        # JSON, and numpy arrays that it refers to by number
    value = unpack(tree, arrays)

Plain values stand in the JSON as they are; everything else is a dict with the key "~" that names its kind. Classes and
functions stand there by name only, and a name is followed only where it is on the allow-list: the networks, optimizers,
schedules, spaces, buffers and noises of PyTorch, Gymnasium, Stable-Baselines3, sb3-contrib and this package, and what
``allow`` added. Nothing is ever called that a file names: an object is made empty and its attributes are put into it.
"""

import enum
import importlib
import inspect
import math
import sys
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable
from pathlib import Path, PurePath
from typing import Any, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.buffers import BaseBuffer
from stable_baselines3.common.noise import ActionNoise
from stable_baselines3.common.running_mean_std import RunningMeanStd
from stable_baselines3.common.utils import ConstantSchedule, FloatSchedule, LinearSchedule
from torch import nn

from sb3_lecture_envs.board.game import Game
from sb3_lecture_envs.mdp import TabularMDP

__all__ = ["Missing", "Packed", "allow", "name_of", "pack", "resolve", "unpack"]

#: modules that were renamed: files name the old ones
RENAMED = {
    "sb3_lecture.preferences.transformer": "sb3_lecture.common.transformer",
    "sb3_lecture.model_based.world_model_policy": "sb3_lecture.model_based.world_models_policy",
    "sb3_lecture.model_based.vae": "sb3_lecture.model_based.world_models_vae",
    "sb3_lecture.model_based.mdn_rnn": "sb3_lecture.model_based.world_models_mdn_rnn",
    "sb3_lecture.model_based.rssm": "sb3_lecture.model_based.dreamer_rssm",
    "sb3_lecture.model_based.latents": "sb3_lecture.model_based.dreamer_latents",
}
#: packages whose modules a name may reach
PACKAGES = ("stable_baselines3", "sb3_contrib", "sb3_lecture", "sb3_lecture_envs", "cmaes", "rl_zoo3")
#: in torch and Gymnasium only these modules
MODULES = ("torch.nn.modules.", "torch.optim.", "gymnasium.spaces.")
#: what a class must be one of
KINDS: tuple[type, ...] = (nn.Module, th.optim.Optimizer, BaseAlgorithm, BaseBuffer, ActionNoise, spaces.Space, Game)
#: classes of which a file may hold objects, beside buffers, noises and named tuples
OBJECTS: set[Any] = {FloatSchedule, ConstantSchedule, LinearSchedule, RunningMeanStd}
OBJECT_NAMES = {
    "cmaes._cma:CMA", "cmaes._sepcma:SepCMA", "rl_zoo3.utils:SimpleLinearSchedule", "sb3_lecture.common.sequence_buffer:_Disk",
    "sb3_lecture.model_based.self_play:TabularWorld", "sb3_lecture.offline.dataset:OfflineDataset",
}  # fmt: skip
#: classes whose objects are made anew by their constructor, which checks its arguments: laws, and what is read off them
MADE = {
    "sb3_lecture_envs.mdp:TabularMDP": None,
    "sb3_lecture.model_based.self_play:BoardWorld": ("game",),
    "sb3_lecture.model_based.self_play:PuzzleWorld": ("game", "discount"),
    "sb3_lecture.common.sum_tree:SumTree": ("priorities",),
}
#: functions that may stand for themselves, such as activations
ACTIVATIONS = ("relu", "elu", "gelu", "silu", "tanh", "sigmoid", "leaky_relu", "softplus", "mish")
FUNCTIONS = {f"torch.nn.functional:{name}" for name in ACTIVATIONS}
_allowed: dict[str, Any] = {}


class Packed(NamedTuple):
    """What ``pack`` made: JSON, the arrays it refers to, and where it met what no file without code can hold."""

    tree: Any
    arrays: list[np.ndarray]
    lost: list[str]


class Missing:
    """Stands for what a file could not hold, or what may not be read from it.

    :param what: says what it was
    """

    def __init__(self, what: str) -> None:
        self.what = what

    def __repr__(self) -> str:
        return f"Missing({self.what})"


def allow(thing: Any) -> Any:
    """Allow checkpoints to name a class or function of yours; a decorator.

    Objects of an allowed class that is no network, buffer or the like are stored by their attributes.

    :param thing: the class or the module's function
    :return: the same
    """
    _allowed[name_of(thing)] = thing
    if isinstance(thing, type) and not issubclass(thing, (nn.Module, th.optim.Optimizer, BaseAlgorithm)):
        OBJECTS.add(thing)
    return thing


def name_of(thing: Any) -> str:
    """Return "module:name" of a class or function."""
    return f"{getattr(thing, '__module__', '?')}:{getattr(thing, '__qualname__', type(thing).__qualname__)}"


def resolve(name: str, custom_objects: dict[str, Any] | None = None) -> Any:
    """Find the class or function that a file names.

    :param name: "module:name"
    :param custom_objects: may hold it under that name
    :raises ValueError: if it is not on the allow-list, or is not there
    """
    module, _, qualname = name.partition(":")
    module = RENAMED.get(module, module)
    name = f"{module}:{qualname}"
    for table in (custom_objects or {}, _allowed):
        if name in table:
            return table[name]
    in_package = module.split(".")[0] in PACKAGES
    if not (in_package or module.startswith(MODULES) or name in FUNCTIONS) or not qualname.isidentifier():
        raise ValueError(_refusal(name))
    if module.split(".")[0] not in sys.modules and module.split(".")[0] == "rl_zoo3" and name not in OBJECT_NAMES:
        raise ValueError(_refusal(name))  # imported for the schedule alone that ``train`` gives its models
    try:
        thing = getattr(importlib.import_module(module), qualname)
    except (ImportError, AttributeError, ValueError) as error:
        raise ValueError(f"the file names {name}, which is not there: {error}") from error
    if name in FUNCTIONS or name in OBJECT_NAMES or name in MADE:
        return thing
    fits = isinstance(thing, type) and (issubclass(thing, (*KINDS, enum.Enum)) or thing in OBJECTS or _is_named_tuple(thing))
    if not fits:
        raise ValueError(_refusal(name))
    return thing


def _refusal(name: str) -> str:
    return (
        f"the file names {name}, which is not on the allow-list; if it is yours, pass custom_objects={{{name!r}: it}} or "
        "decorate it with sb3_lecture.common.packing.allow"
    )


def _is_named_tuple(cls: type) -> bool:
    return issubclass(cls, tuple) and hasattr(cls, "_fields")


def _is_object(thing: Any) -> bool:
    """Whether an object is stored by its attributes."""
    cls = type(thing)
    return isinstance(thing, (BaseBuffer, ActionNoise)) or cls in OBJECTS or name_of(cls) in OBJECT_NAMES


def _arguments(thing: Any) -> dict[str, Any] | None:
    """The constructor's arguments, of an object that is made anew by it."""
    if isinstance(thing, TabularMDP):
        return {"n_states": thing.n_states, "n_actions": thing.n_actions, **thing._arrays()}
    if isinstance(thing, Game) and thing.arguments is not None:
        return thing.arguments
    if isinstance(thing, Game):
        parameters = inspect.signature(type(thing)).parameters
        return {name: getattr(thing.law, name) for name in parameters if hasattr(thing.law, name)}
    names = MADE.get(name_of(type(thing)))
    return None if names is None else {name: getattr(thing, name) for name in names}


# --- packing ---------------------------------------------------------------------------------------------------------


def pack(value: Any, where: str = "") -> Packed:
    """Turn a value into JSON and arrays.

    :param value: plain values, containers, arrays, tensors, generators, spaces, schedules, buffers, classes by name
    :param where: the value's name, for ``lost``
    :return: the JSON, the arrays, and the places of what could not be packed (a mark stands there)
    """
    packer = _Packer()
    tree = packer.pack(value, where, ())
    return Packed(tree, packer.arrays, packer.lost)


Inner = Callable[[Any, Any], Any]


class _Packer:
    def __init__(self) -> None:
        self.arrays: list[np.ndarray] = []
        self.lost: list[str] = []

    def array(self, array: np.ndarray) -> int:
        self.arrays.append(np.ascontiguousarray(array).reshape(array.shape))
        return len(self.arrays) - 1

    def pack(self, value: Any, where: str, above: tuple[int, ...]) -> Any:
        if value is None or (isinstance(value, (bool, str)) and type(value) in (bool, str)):
            return value
        if type(value) is int:
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {"~": "float", "v": repr(value)}
        if id(value) in above:
            return self.lose(value, where, "refers to itself")
        return self.pack_other(value, where, (*above, id(value)))

    def pack_other(self, value: Any, where: str, above: tuple[int, ...]) -> Any:
        def inner(part: Any, name: Any) -> Any:
            return self.pack(part, f"{where}.{name}" if where else str(name), above)

        if isinstance(value, Missing):
            self.lost.append(where)
            return {"~": "lost", "v": value.what}
        for kind in (self.container, self.numbers, self.of_torch, self.of_numpy, self.by_name):
            found = kind(value, inner)
            if found is not None:
                return found
        if isinstance(value, spaces.Space):
            return self.space(value, inner) or self.lose(value, where, "is a space of an unknown kind")
        arguments = _arguments(value)
        if arguments is not None:
            return {"~": "made", "class": name_of(type(value)), "v": {k: inner(part, k) for k, part in arguments.items()}}
        if _is_object(value):
            own = vars(value) if name_of(type(value)).startswith("cmaes.") else value.__getstate__()
            state = {key: part for key, part in own.items() if key not in ("env", "_vec_normalize_env")}
            return {"~": "object", "class": name_of(type(value)), "v": self.pack(state, where, above)}
        return self.lose(value, where, "")

    def container(self, value: Any, inner: Inner) -> Any:
        def each(parts: Iterable[Any]) -> list[Any]:
            return [inner(part, i) for i, part in enumerate(parts)]

        cls = type(value)
        if cls is list:
            return each(value)
        if cls in (dict, OrderedDict):
            if all(isinstance(key, str) for key in value) and "~" not in value:
                return {key: inner(part, key) for key, part in value.items()}
            return {"~": "dict", "v": [[inner(key, "key"), inner(part, key)] for key, part in value.items()]}
        if _is_named_tuple(cls):
            return {"~": "named", "class": name_of(cls), "v": each(value)}
        if cls is tuple:
            return {"~": "tuple", "v": each(value)}
        if isinstance(value, deque):
            return {"~": "deque", "maxlen": value.maxlen, "v": each(value)}
        if isinstance(value, (set, frozenset)):
            return {"~": cls.__name__, "v": each(sorted(value, key=repr))}
        if isinstance(value, np.ndarray) and (value.dtype.hasobject or value.dtype.names is not None):
            return {"~": "objects", "shape": list(value.shape), "v": each(value.reshape(-1).tolist())}
        return None

    def numbers(self, value: Any, inner: Inner) -> Any:
        if isinstance(value, np.generic):
            return {"~": "scalar", "v": self.array(np.asarray(value))}
        if isinstance(value, enum.Enum):
            return {"~": "enum", "class": name_of(type(value)), "v": value.name}
        if isinstance(value, (bytes, bytearray)):
            return {"~": "bytes", "v": bytes(value).hex()}
        if isinstance(value, complex):
            return {"~": "complex", "v": [inner(value.real, "real"), inner(value.imag, "imag")]}
        if isinstance(value, range):
            return {"~": "range", "v": [value.start, value.stop, value.step]}
        if isinstance(value, PurePath):
            return {"~": "path", "v": str(value)}
        for plain in (int, float, str):  # a subclass: its plain value
            if isinstance(value, plain):
                return inner(plain(value), "")
        return None

    def of_torch(self, value: Any, inner: Inner) -> Any:
        if isinstance(value, th.Tensor):
            tensor = value.detach().cpu()
            if tensor.dtype == th.bfloat16:
                return {"~": "tensor", "v": self.array(tensor.view(th.int16).numpy()), "dtype": "bfloat16"}
            return {"~": "tensor", "v": self.array(tensor.numpy())}
        if isinstance(value, th.Generator):
            return {"~": "torchgenerator", "v": inner(value.get_state(), "state")}
        if isinstance(value, th.Size):
            return {"~": "size", "v": list(value)}
        if isinstance(value, th.device):
            return {"~": "device", "v": str(value)}
        if isinstance(value, th.dtype):
            return {"~": "torchdtype", "v": str(value).removeprefix("torch.")}
        return None

    def of_numpy(self, value: Any, inner: Inner) -> Any:
        if isinstance(value, np.ndarray):
            return {"~": "array", "v": self.array(value)}
        if isinstance(value, np.random.Generator):
            return {"~": "generator", "v": inner(value.bit_generator.state, "state")}
        if isinstance(value, np.random.RandomState):
            return {"~": "randomstate", "v": inner(value.get_state(legacy=False), "state")}
        if isinstance(value, np.dtype):
            return {"~": "dtype", "v": value.str}
        if isinstance(value, type) and issubclass(value, np.generic):
            return {"~": "dtypeclass", "v": np.dtype(value).str}
        return None

    def by_name(self, value: Any, inner: Inner) -> Any:
        return {"~": "name", "v": name_of(value)} if isinstance(value, type) or _is_function(value) else None

    def space(self, space: spaces.Space, inner: Inner) -> dict[str, Any] | None:
        kind = type(space).__name__
        out: dict[str, Any] = {"~": "space", "class": kind}
        if type(space) is spaces.Box:
            return out | {"low": inner(space.low, "low"), "high": inner(space.high, "high"), "dtype": space.dtype.str}
        if type(space) is spaces.Discrete:
            return out | {"n": int(space.n), "start": int(space.start), "dtype": np.dtype(space.dtype).str}
        if type(space) is spaces.MultiDiscrete:
            return out | {"nvec": inner(space.nvec, "nvec"), "start": inner(space.start, "start"), "dtype": space.dtype.str}
        if type(space) is spaces.MultiBinary:
            n = space.n
            return out | {"n": int(n) if isinstance(n, (int, np.integer)) else [int(k) for k in n]}
        if type(space) is spaces.Dict:
            return out | {"v": [[key, inner(part, key)] for key, part in space.spaces.items()]}
        if type(space) is spaces.Tuple:
            return out | {"v": [inner(part, i) for i, part in enumerate(space.spaces)]}
        return None

    def lose(self, value: Any, where: str, why: str) -> dict[str, Any]:
        self.lost.append(where)
        return {"~": "lost", "v": f"{name_of(value if hasattr(value, '__qualname__') else type(value))} {why}".strip()}


def _is_function(value: Any) -> bool:
    """Whether a module's function, which can be found by its name again."""
    name = getattr(value, "__qualname__", "")
    module = sys.modules.get(getattr(value, "__module__", None) or "")
    return callable(value) and name.isidentifier() and getattr(module, name, None) is value


# --- unpacking -------------------------------------------------------------------------------------------------------


def unpack(tree: Any, arrays: list[np.ndarray], custom_objects: dict[str, Any] | None = None) -> Any:
    """Turn what ``pack`` made into the value again.

    :param tree: the JSON
    :param arrays: the arrays
    :param custom_objects: "module:name" → a class or function that is not on the allow-list
    :raises ValueError: if the JSON is not of this form, or names what is not on the allow-list
    """
    try:
        return _Unpacker(arrays, custom_objects or {}).unpack(tree)
    except ValueError:
        raise
    except (KeyError, TypeError, IndexError, AttributeError, OverflowError, RuntimeError, AssertionError) as error:
        raise ValueError(f"damaged: {type(error).__name__}: {error}") from error


class _Unpacker:
    def __init__(self, arrays: list[np.ndarray], custom_objects: dict[str, Any]) -> None:
        self.arrays, self.custom = arrays, custom_objects

    def unpack(self, tree: Any) -> Any:
        if isinstance(tree, list):
            return [self.unpack(part) for part in tree]
        if not isinstance(tree, dict):
            return tree
        if "~" not in tree:
            return {key: self.unpack(part) for key, part in tree.items()}
        kind, v = tree["~"], tree.get("v")
        read = getattr(self, f"_{kind}", None)
        if read is None or not isinstance(kind, str):
            raise ValueError(f"damaged: {kind!r} is no kind of value")
        return read(tree, v)

    def _values(self, v: Any) -> list[Any]:
        if not isinstance(v, list):
            raise ValueError("damaged: a list was expected")
        return [self.unpack(part) for part in v]

    def _class(self, tree: Any, *kinds: type) -> Any:
        cls = resolve(str(tree["class"]), self.custom)
        if not isinstance(cls, type) or (kinds and not issubclass(cls, kinds)):
            raise ValueError(f"damaged: {tree['class']} is not what belongs there")
        return cls

    def _float(self, tree: Any, v: Any) -> float:
        return {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}[v]

    def _dict(self, tree: Any, v: Any) -> dict[Any, Any]:
        return {self.unpack(key): self.unpack(part) for key, part in v}

    def _lost(self, tree: Any, v: Any) -> Missing:
        return Missing(str(v))

    def _array(self, tree: Any, v: Any) -> np.ndarray:
        return self.arrays[_index(v)]

    def _objects(self, tree: Any, v: Any) -> np.ndarray:
        array = np.empty(len(v), dtype=object)
        array[:] = self._values(v)
        return array.reshape(tree["shape"])

    def _tensor(self, tree: Any, v: Any) -> th.Tensor:
        tensor = th.from_numpy(self.arrays[_index(v)])
        return tensor.view(th.bfloat16) if tree.get("dtype") == "bfloat16" else tensor

    def _scalar(self, tree: Any, v: Any) -> Any:
        return self.arrays[_index(v)][()]

    def _enum(self, tree: Any, v: Any) -> Any:
        return self._class(tree, enum.Enum)[v]

    def _named(self, tree: Any, v: Any) -> Any:
        cls = self._class(tree, tuple)
        values = self._values(v)
        if len(values) != len(cls._fields):
            raise ValueError(f"damaged: {len(values)} values for {cls.__name__}")
        return tuple.__new__(cls, values)

    def _tuple(self, tree: Any, v: Any) -> tuple[Any, ...]:
        return tuple(self._values(v))

    def _deque(self, tree: Any, v: Any) -> deque[Any]:
        return deque(self._values(v), maxlen=tree["maxlen"])

    def _set(self, tree: Any, v: Any) -> set[Any]:
        return set(self._values(v))

    def _frozenset(self, tree: Any, v: Any) -> frozenset[Any]:
        return frozenset(self._values(v))

    def _bytes(self, tree: Any, v: Any) -> bytes:
        return bytes.fromhex(v)

    def _complex(self, tree: Any, v: Any) -> complex:
        return complex(*self._values(v))

    def _path(self, tree: Any, v: Any) -> Path:
        return Path(v)

    def _range(self, tree: Any, v: Any) -> range:
        return range(*v)

    def _size(self, tree: Any, v: Any) -> th.Size:
        return th.Size(v)

    def _device(self, tree: Any, v: Any) -> th.device:
        return th.device(v)

    def _torchdtype(self, tree: Any, v: Any) -> th.dtype:
        dtype = getattr(th, v)
        if not isinstance(dtype, th.dtype):
            raise ValueError(f"damaged: {v!r} is no dtype")
        return dtype

    def _dtype(self, tree: Any, v: Any) -> np.dtype:
        return np.dtype(str(v))

    def _dtypeclass(self, tree: Any, v: Any) -> type:
        return np.dtype(str(v)).type

    def _name(self, tree: Any, v: Any) -> Any:
        return resolve(str(v), self.custom)

    def _generator(self, tree: Any, v: Any) -> np.random.Generator:
        state = self.unpack(v)
        name = state["bit_generator"]
        if name not in ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"):
            raise ValueError(f"damaged: {name!r} is no random generator")
        bits = getattr(np.random, name)()
        bits.state = state
        return np.random.Generator(bits)

    def _randomstate(self, tree: Any, v: Any) -> np.random.RandomState:
        generator = np.random.RandomState()
        generator.set_state(self.unpack(v))
        return generator

    def _torchgenerator(self, tree: Any, v: Any) -> th.Generator:
        generator = th.Generator()
        generator.set_state(self.unpack(v))
        return generator

    def _object(self, tree: Any, v: Any) -> Any:
        cls = self._class(tree)
        if not (issubclass(cls, (BaseBuffer, ActionNoise)) or cls in OBJECTS or name_of(cls) in OBJECT_NAMES):
            raise ValueError(f"damaged: {tree['class']} is not stored by its attributes")
        made = cls.__new__(cls)
        state = self.unpack(v)
        if not all(isinstance(key, str) for key in state):
            raise ValueError("damaged: attributes without names")
        made.__dict__.update(state)
        if name_of(cls).endswith(":TabularWorld") and not all(0 <= s < made.mdp.n_states for s in made.numbers.values()):
            raise ValueError("damaged: an observation of no state")
        return made

    def _made(self, tree: Any, v: Any) -> Any:
        cls = self._class(tree)
        if not (issubclass(cls, Game) or name_of(cls) in MADE):
            raise ValueError(f"damaged: {tree['class']} is not made by its constructor")
        return cls(**{key: self.unpack(part) for key, part in v.items()})

    def _space(self, tree: Any, v: Any) -> spaces.Space:
        kind = tree["class"]
        if kind == "Box":
            low, high = self.unpack(tree["low"]), self.unpack(tree["high"])
            return spaces.Box(low, high, dtype=np.dtype(str(tree["dtype"])).type)
        if kind == "Discrete":
            dtype = np.dtype(str(tree.get("dtype", "<i8")))
            if dtype == np.int64:
                return spaces.Discrete(tree["n"], start=tree["start"])
            return spaces.Discrete(tree["n"], start=tree["start"], dtype=dtype.type)
        if kind == "MultiDiscrete":
            nvec, start = self.unpack(tree["nvec"]), self.unpack(tree["start"])
            return spaces.MultiDiscrete(nvec, dtype=np.dtype(str(tree["dtype"])).type, start=start)
        if kind == "MultiBinary":
            return spaces.MultiBinary(tree["n"])
        if kind == "Dict":
            return spaces.Dict(OrderedDict((key, self.unpack(part)) for key, part in v))  # in this order
        if kind == "Tuple":
            return spaces.Tuple([self.unpack(part) for part in v])
        raise ValueError(f"damaged: {kind!r} is no space")


def _index(v: Any) -> int:
    if type(v) is not int or v < 0:
        raise ValueError(f"damaged: {v!r} is no array's number")
    return v
