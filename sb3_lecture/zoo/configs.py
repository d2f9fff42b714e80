"""Where ``zoo_configs/<algo>.yml`` lie, and what stands in them.

In a checkout they lie at the repository's root, in a wheel inside the package. The format is rl_zoo3's: one entry an
environment id, or ``atari`` for all Atari games, or ``default``; the first entry is the algorithm's default environment.
"""

import importlib.resources
import inspect
from pathlib import Path
from typing import Any

import yaml

from sb3_lecture.zoo import registry
from sb3_lecture.zoo.errors import UserError, nearest

_PACKAGE = Path(__file__).resolve().parent.parent
#: keys that rl_zoo3 reads itself; every other key of an entry is an argument of the algorithm's class
ZOO_KEYS = frozenset(
    {"callback", "env_kwargs", "env_wrapper", "frame_stack", "monitor_kwargs", "n_envs", "n_timesteps", "noise_std",
     "noise_type", "normalize", "policy", "vec_env_wrapper"}
)  # fmt: skip
#: arguments of the algorithms that the command line sets: --seed, --device, --verbose, --tensorboard-log
_COMMAND_LINE_KEYS = frozenset({"env", "seed", "device", "verbose", "tensorboard_log", "_init_setup_model"})


def config_path(algo: str) -> Path:
    """Find an algorithm's config file.

    :param algo: the algorithm's name
    :raises UserError: if there is none
    """
    own = importlib.resources.files(registry.target(algo).split(":")[0].split(".")[0])  # a third party's package
    for folder in (_PACKAGE / "zoo_configs", _PACKAGE.parent / "zoo_configs", Path(str(own)) / "zoo_configs"):
        path = folder / f"{algo}.yml"
        if path.is_file():
            return path
    raise UserError(f"there is no zoo_configs/{algo}.yml; name a config file with --conf-file")


def read_entries(path: str | Path) -> dict[str, dict[str, Any]]:
    """Read a config file.

    :param path: a .yml or .yaml file
    :return: environment id → hyperparameters, in the file's order
    :raises UserError: if the file is missing, is no YAML, or is not a mapping of mappings
    """
    try:
        entries = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        near = nearest(Path(path).name, [p.name for p in Path(path).parent.glob("*.y*ml")])
        raise UserError(f"the config file {path} does not exist{near}") from error
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"cannot read the config file {path}: {error}") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f", line {mark.line + 1}" if mark is not None else ""
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UserError(f"{path}{line} is no valid YAML: {problem}") from error
    if not isinstance(entries, dict) or not entries:
        raise UserError(f"{path} must hold entries such as 'CartPole-v1:' with hyperparameters below, not {entries!r}")
    for key, entry in entries.items():
        if not isinstance(entry, dict):
            raise UserError(f"{path}: the entry {key!r} must hold hyperparameters such as 'n_timesteps: 1000', not {entry!r}")
    return entries


def entry_key(entries: dict[str, dict[str, Any]], env_id: str, is_atari: bool, path: str | Path) -> str:
    """Return the key of the entry that rl_zoo3 will use for an environment.

    :raises UserError: if there is none
    """
    for key in (env_id, *(["atari"] if is_atari else []), "default"):
        if key in entries:
            return key
    raise UserError(f"{path} has no entry for {env_id!r}{nearest(env_id, entries)}; entries: {', '.join(map(str, entries))}")


def check_hyperparameters(algo: str, names: Any, source: str) -> None:
    """Check that every hyperparameter is one of the algorithm's or of rl_zoo3's.

    :param algo: the algorithm's name
    :param names: the hyperparameters' names
    :param source: where they come from, for the message
    :raises UserError: if one is unknown
    """
    known = ZOO_KEYS | (_parameters(registry.algorithm(algo)) - _COMMAND_LINE_KEYS)
    for name in names:
        if name in _COMMAND_LINE_KEYS:
            raise UserError(f"{source}: {name!r} is set on the command line, as --{name.replace('_', '-')}")
        if name not in known:
            raise UserError(f"{source}: {algo} has no hyperparameter {name!r}{nearest(str(name), known)}")


def _parameters(cls: type) -> set[str]:
    """Names of all arguments of a class; where it passes ``**kwargs`` on, those of its parents too."""
    names: set[str] = set()
    for parent in cls.__mro__:
        if "__init__" not in vars(parent):
            continue
        parameters = inspect.signature(parent.__init__).parameters.values()  # type: ignore[misc]
        named = {p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)}
        names |= named - {"self"}
        if not any(p.kind == p.VAR_KEYWORD for p in parameters):
            break
    return names
