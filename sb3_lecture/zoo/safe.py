"""Values from files and command lines, without running what is written there.

rl_zoo3 evaluates some texts as Python and reads runs with YAML's unsafe loader and with pickle. Here a text is parsed, and may
hold literals, arithmetic of numbers, ``dict(…)`` and names of an allow-list (``nn.ReLU``, ``th.optim.AdamW``, …); YAML builds
plain data, of bounded size. Models, replay buffers and VecNormalize's statistics go through ``common.checkpoint``. ``--trust``
opens the rest, for files whose author one trusts.
"""

import ast
import importlib
import operator
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from sb3_lecture.zoo.errors import UserError, first_line

if TYPE_CHECKING:
    from stable_baselines3.common.vec_env import VecEnv, VecNormalize

#: what ``--trust`` means, in the help of every command that has it
TRUST_HELP = "run code that files of this run or config hold (pickles, Python in texts); only where you trust their author"
MAX_TEXT = 20_000  # characters
MAX_NUMBER = 1e300
MAX_VALUES = 100_000  # of a YAML file, where each alias counts as all that it stands for
#: names that stand for a value by themselves; the classes by module and name, imported when they are asked for
_CLASSES = {
    "HerReplayBuffer": "stable_baselines3.her.her_replay_buffer",
    "NStepReplayBuffer": "stable_baselines3.common.buffers",
    "ReplayBuffer": "stable_baselines3.common.buffers",
    "DictReplayBuffer": "stable_baselines3.common.buffers",
    "RMSpropTFLike": "stable_baselines3.common.sb2_compat.rmsprop_tf_like",
}
_CALLS: dict[str, Callable[..., Any]] = {"dict": dict, "list": list, "tuple": tuple, "float": float, "int": int}
_OPERATORS: dict[type, Callable[[Any, Any], Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul, ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}  # fmt: skip
_TORCH = {("nn",), ("th", "nn"), ("torch", "nn")}
_OPTIMIZERS = {("optim",), ("th", "optim"), ("torch", "optim")}
_KNOWN = "literals, dict(…), nn.…, th.optim.…, " + ", ".join(_CLASSES)


def value(text: str, trust: bool = False) -> Any:
    """Read a text as rl_zoo3's configs and options write values, such as ``dict(net_arch=[64], activation_fn=nn.ReLU)``.

    :param text: the text
    :param trust: evaluate it as Python
    :raises ValueError: if it is no such value
    """
    if trust:
        return _evaluated(text)
    if len(text) > MAX_TEXT:
        raise ValueError(f"a text of {len(text)} characters; at most {MAX_TEXT} are read")
    try:
        return _built(ast.parse(text.strip(), mode="eval").body)
    except SyntaxError as error:
        raise ValueError(f"{_short(text)} is no Python value: {error.msg}") from error
    except (RecursionError, MemoryError) as error:
        raise ValueError(f"{_short(text)} is nested too deeply") from error
    except (TypeError, ArithmeticError) as error:  # dict(1), 1 / 0, unhashable keys
        raise ValueError(f"{_short(text)}: {first_line(error)}") from error


def _built(node: ast.expr) -> Any:
    match node:
        case ast.Constant(value=constant):
            return constant
        case ast.List(elts=parts):
            return [_built(part) for part in parts]
        case ast.Tuple(elts=parts):
            return tuple(_built(part) for part in parts)
        case ast.Dict(keys=keys, values=values) if None not in keys:
            return {_built(key): _built(part) for key, part in zip(keys, values, strict=True) if key is not None}
        case ast.UnaryOp(op=ast.USub() | ast.UAdd() as sign, operand=operand):
            number = _number(_built(operand))
            return -number if isinstance(sign, ast.USub) else number
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _number(_OPERATORS[type(op)](_number(_built(left)), _number(_built(right))))
        case ast.BinOp(left=left, op=ast.Pow(), right=right):
            return _number(float(_number(_built(left))) ** _number(_built(right)))
        case ast.Call(func=ast.Name(id=name), args=args, keywords=keywords) if name in _CALLS and all(k.arg for k in keywords):
            return _CALLS[name](*map(_built, args), **{str(k.arg): _built(k.value) for k in keywords})
        case ast.Name() | ast.Attribute():
            return _named(ast.unparse(node))
    raise ValueError(f"{_short(ast.unparse(node))} is not allowed here, only {_KNOWN}; --trust evaluates it as Python")


def _number(number: Any) -> Any:
    """Only numbers take part in arithmetic: ``"a" * 10**9`` would fill the memory."""
    if isinstance(number, complex) or not isinstance(number, (int, float)) or abs(number) > MAX_NUMBER:
        raise ValueError(f"{_short(repr(number))} is no number to calculate with")
    return number


def _named(name: str) -> type:
    parts = name.split(".")
    if name in _CLASSES:
        return getattr(importlib.import_module(_CLASSES[name]), name)
    module = "torch.nn" if tuple(parts[:-1]) in _TORCH else "torch.optim" if tuple(parts[:-1]) in _OPTIMIZERS else None
    if module is not None:
        base = importlib.import_module(module)
        found = getattr(base, parts[-1], None)
        if isinstance(found, type) and issubclass(found, base.Module if module == "torch.nn" else base.Optimizer):
            return found
    raise ValueError(f"name {name!r} is not known here, only {_KNOWN} (text needs quotes: \"'{parts[-1]}'\")")


def _evaluated(text: str) -> Any:
    """Evaluate as rl_zoo3 does, with the names that its modules have."""
    import rl_zoo3.exp_manager

    try:
        return eval(text, dict(vars(rl_zoo3.exp_manager)))  # the user has said --trust
    except Exception as error:
        raise ValueError(f"{_short(text)}: {type(error).__name__}: {first_line(error)}") from error


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= 80 else f"{line[:77]}…"


def text_of(value: Any) -> str:
    """Write a value, which may hold classes of ``torch.nn``, as ``value`` reads it."""
    if isinstance(value, type):
        module = value.__module__.split(".")
        if module[:2] in (["torch", "nn"], ["torch", "optim"]):
            return f"{'nn' if module[1] == 'nn' else 'th.optim'}.{value.__name__}"
        return value.__name__
    if isinstance(value, dict):
        if all(isinstance(key, str) and key.isidentifier() for key in value):
            return f"dict({', '.join(f'{k}={text_of(v)}' for k, v in value.items())})"
        return "{" + ", ".join(f"{text_of(k)}: {text_of(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return f"[{', '.join(map(text_of, value))}]"
    if isinstance(value, tuple):
        return f"({', '.join(map(text_of, value))}{',' if len(value) == 1 else ''})"
    return repr(value)


def plain(value: Any) -> Any:
    """Turn a hyperparameter into what YAML can hold: tuples become lists, what holds a class or another object text."""
    if not _is_plain(value):
        return text_of(value)
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    return [plain(inner) for inner in value] if isinstance(value, (list, tuple)) else value


def _is_plain(value: Any) -> bool:
    if isinstance(value, (dict, list, tuple)):
        return all(map(_is_plain, [*value, *value.values()] if isinstance(value, dict) else value))
    return value is None or type(value) in (str, int, float, bool)


# --- names of classes ------------------------------------------------------------------------------------------------


def check_classes(names: Any, base: type, key: str) -> None:
    """Check that a config's dotted names, one or a list, with arguments or without, are classes of a kind.

    :param names: "module.Class", {"module.Class": arguments}, such a class itself, or a list of these; None: nothing
    :param base: what they must be subclasses of; rl_zoo3 would call whatever the name leads to
    :param key: the config's key, for the message
    :raises ValueError: if one is not
    """
    for name in names if isinstance(names, list) else [] if names is None else [names]:
        arguments: Any = {}
        if isinstance(name, dict) and len(name) == 1:
            ((name, arguments),) = name.items()
        if not isinstance(arguments, dict):
            raise ValueError(f"{key}: {name} takes arguments such as {{size: 3}}, not {arguments!r}")
        if isinstance(name, base):  # a callback that was built already
            continue
        found = name if isinstance(name, type) else _imported(name, key)
        if not (isinstance(found, type) and issubclass(found, base)):
            raise ValueError(f"{key}: {name} is no {base.__name__}")


def _imported(name: Any, key: str) -> Any:
    if not isinstance(name, str) or not all(part.isidentifier() for part in name.split(".")) or "." not in name:
        raise ValueError(f"{key}: write module.Class, not {name!r}")
    module, _, attribute = name.rpartition(".")
    try:
        return getattr(importlib.import_module(module), attribute)
    except Exception as error:  # a module may raise anything
        raise ValueError(f"{key}: cannot import {name}: {first_line(error)}") from error


# --- files -----------------------------------------------------------------------------------------------------------


class _Bounded(yaml.SafeLoader):
    """YAML of bounded size: a few lines of aliases to aliases may stand for more values than any memory holds."""

    def get_single_node(self) -> Any:
        node = super().get_single_node()
        if node is not None and (size := _unfolded(node, {})) > MAX_VALUES:
            number = f"{size:,}" if size < 10**12 else "over 10^12"
            raise yaml.YAMLError(f"it holds {number} values with its aliases unfolded, at most {MAX_VALUES:,} are read")
        return node


def _unfolded(node: yaml.Node, sizes: dict[yaml.Node, int]) -> int:
    """Count the values that a node stands for, each as often as aliases repeat it.

    :param sizes: those known already; 0: one that is being counted
    """
    if node in sizes:
        if sizes[node] == 0:
            raise yaml.YAMLError("an alias stands within what it is an alias of")
        return sizes[node]
    sizes[node] = 0
    parts = node.value if isinstance(node, yaml.CollectionNode) else []
    flat = [part for pair in parts for part in pair] if isinstance(node, yaml.MappingNode) else parts
    sizes[node] = 1 + sum(_unfolded(part, sizes) for part in flat)
    return sizes[node]


class _PlainLoader(_Bounded):
    """YAML without code: an OrderedDict becomes a dict, a tuple a list, any other Python object None."""


def _ordered_dict(loader: yaml.SafeLoader, node: Any) -> dict[str, Any]:
    return dict(loader.construct_sequence(node, deep=True)[0])


def _list(loader: Any, node: Any) -> list[Any]:
    return loader.construct_sequence(node, deep=True)


_PlainLoader.add_constructor("tag:yaml.org,2002:python/object/apply:collections.OrderedDict", _ordered_dict)
_PlainLoader.add_constructor("tag:yaml.org,2002:python/tuple", _list)
_PlainLoader.add_multi_constructor("tag:yaml.org,2002:python/", lambda loader, suffix, node: None)


def config_of(text: str) -> Any:
    """Read a config's YAML.

    :param text: the YAML
    :raises yaml.YAMLError: if it is none, or stands for too many values
    """
    try:
        return yaml.load(text, Loader=_Bounded)
    except (ValueError, RecursionError) as error:  # the date 2001-13-01, an integer of 5000 digits; nested too deeply
        raise yaml.YAMLError(first_line(error)) from error


def read_yaml(path: Path, trust: bool = False) -> dict[str, Any]:
    """Read a run's YAML file, of ours or rl_zoo3's.

    :param path: the file
    :param trust: build the Python objects that it names
    :raises UserError: if it cannot be read, or is no mapping
    """
    try:
        loader = yaml.UnsafeLoader if trust else _PlainLoader
        read = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except Exception as error:  # no YAML, no text, or a broken Python tag: whatever a damaged file brings
        raise UserError(f"{path} is damaged: {first_line(error)}") from error
    if not isinstance(read, dict) or not all(isinstance(key, str) for key in read):
        raise UserError(f"{path} is damaged: it must hold names and values")
    return dict(read)


#: VecNormalize's statistics in a run's folder, as ``train`` writes them, and as rl_zoo3 does
STATISTICS_FILE, OLD_STATISTICS_FILE = "vecnormalize.zip", "vecnormalize.pkl"


def statistics_path(folder: Path) -> Path:
    """Where VecNormalize's statistics lie: ours, or, where there are none, rl_zoo3's."""
    old = folder / OLD_STATISTICS_FILE
    return old if old.is_file() and not (folder / STATISTICS_FILE).is_file() else folder / STATISTICS_FILE


def load_vec_normalize(path: Path, venv: "VecEnv", trust: bool = False) -> "VecNormalize":
    """Load VecNormalize's statistics and wrap an env with them.

    :param path: ours, or a pickle as SB3 writes it, which is not run
    :param venv: the env
    :param trust: run the pickle
    :raises UserError: if the file is missing, damaged, of another env, or would run code
    """
    import numpy as np
    from gymnasium import spaces

    from sb3_lecture.common.checkpoint import load_statistics

    try:
        loaded = load_statistics(path, venv, trust)
        if isinstance(venv.observation_space, spaces.Box):  # arrays of another shape or kind show here
            loaded.normalize_obs(np.zeros(venv.observation_space.shape, np.float32))
    except FileNotFoundError as error:
        raise UserError(f"there are no statistics of VecNormalize in {path}") from error
    except OSError as error:
        raise UserError(f"cannot read VecNormalize's statistics {path}: {error.strerror or error}") from error
    except Exception as error:  # damaged files raise anything
        reason = first_line(error).replace("pass trusted=True if", "--trust runs it, where")
        raise UserError(f"cannot load VecNormalize's statistics: {reason}") from error
    return loaded
