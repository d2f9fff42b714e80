"""Where ``zoo_configs/<algo>.yml`` lie, and what stands in them.

In a checkout they lie at the repository's root, in a wheel inside the package. The format is rl_zoo3's: one entry an
environment id, or ``atari`` for all Atari games, or ``default``; the first entry is the algorithm's default environment.
"""

import importlib.resources
import math
import os
import sysconfig
from pathlib import Path
from typing import Any

import yaml

from sb3_lecture.common.files import write_bytes
from sb3_lecture.zoo import registry
from sb3_lecture.zoo.errors import UserError, nearest
from sb3_lecture.zoo.safe import config_of

_PACKAGE = Path(__file__).resolve().parent.parent
#: keys that rl_zoo3 reads itself; every other key of an entry is an argument of the algorithm's class
ZOO_KEYS = frozenset(
    {"callback", "env_kwargs", "env_wrapper", "frame_stack", "monitor_kwargs", "n_envs", "n_timesteps", "noise_std",
     "noise_type", "normalize", "policy", "vec_env_wrapper"}
)  # fmt: skip
#: arguments of the algorithms that the command line sets: --seed, --device, --verbose, --tensorboard-log
_COMMAND_LINE_KEYS = frozenset({"env", "seed", "device", "verbose", "tensorboard_log", "_init_setup_model"})


def user_folder() -> Path:
    """The folder of configs of the user's own, which go before those that are installed: ``$SB3_LECTURE_CONFIGS``, or
    ``sb3_lecture/zoo_configs`` in the folder of the user's settings (``$XDG_CONFIG_HOME``, ``~/.config``, ``%APPDATA%``).
    """
    if os.environ.get("SB3_LECTURE_CONFIGS"):
        return Path(os.environ["SB3_LECTURE_CONFIGS"])
    settings = os.environ.get("APPDATA" if os.name == "nt" else "XDG_CONFIG_HOME")
    return (Path(settings) if settings else Path.home() / ".config") / "sb3_lecture" / "zoo_configs"


def is_installed(path: str | Path) -> bool:
    """Whether a file belongs to an installed package, which nobody edits: an update would undo it."""
    places = {sysconfig.get_path(name) for name in ("purelib", "platlib")} | {str(_PACKAGE)}
    return any(Path(path).resolve().is_relative_to(Path(place).resolve()) for place in places)


def config_to_write(path: str | Path) -> Path:
    """The file that values for a config are written to: itself, or its copy in the user's folder if it is installed.

    :param path: the config
    :raises UserError: if the copy cannot be made
    """
    path = Path(path)
    if not is_installed(path):
        return path
    copy = user_folder() / path.name
    try:
        copy.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(copy, path.read_bytes())
    except OSError as error:
        raise UserError(f"cannot write {copy}: {error.strerror}; $SB3_LECTURE_CONFIGS names another folder") from error
    return copy


def config_path(algo: str) -> Path:
    """Find an algorithm's config file: the user's own, or the installed one.

    :param algo: the algorithm's name
    :raises UserError: if there is none
    """
    users = user_folder() / f"{algo}.yml"
    if users.is_file():
        return users
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
        entries = config_of(Path(path).read_text(encoding="utf-8"))
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


def is_atari(env_id: str) -> bool:
    """Whether rl_zoo3 takes a registered env for an Atari game."""
    import gymnasium as gym

    return "AtariEnv" in str(gym.registry[env_id].entry_point)


def entry_key(entries: dict[str, dict[str, Any]], env_id: str, is_atari: bool, path: str | Path, algo: str = "") -> str:
    """Return the key of the entry that rl_zoo3 will use for an environment.

    :param algo: the algorithm, for the message
    :raises UserError: if there is none
    """
    for key in (env_id, *(["atari"] if is_atari else []), "default"):
        if key in entries:
            return key
    reason = _why_not(algo, env_id)
    if reason:
        raise UserError(f"{path} has no entry for {env_id!r}: {algo} needs {reason}; entries: {', '.join(map(str, entries))}")
    raise UserError(
        f"{path} has no entry for {env_id!r}{nearest(env_id, entries)}; entries: {', '.join(map(str, entries))}. "
        "Give the env one in a file of your own (--conf-file); --hyperparams then changes single values"
    )


#: algorithms that choose among finitely many actions, besides the tables, and those that draw vectors
_FINITE_ACTIONS = {
    "alphazero", "barebone_dqn", "c51", "deep_q_learning", "dqn", "iqn", "muzero", "ppo_mask", "qrdqn", "rainbow",
    "sac_discrete",
}  # fmt: skip
_VECTOR_ACTIONS = {"crossq", "ddpg", "sac", "td3", "tqc"}


def _why_not(algo: str, env_id: str) -> str:
    """Say what spaces an algorithm needs, if the env has others: then no entry would help."""
    import gymnasium as gym
    from gymnasium.spaces import Box, Discrete

    tabular = bool(algo) and registry.row(algo).target.startswith("sb3_lecture.tabular")
    try:
        env = gym.make(env_id)
        observations, actions = env.observation_space, env.action_space
        env.close()
    except Exception:  # an env that cannot be made without arguments: then this is not what is wrong
        return ""
    lacking = ["observations"] if tabular and not isinstance(observations, Discrete) else []
    lacking += ["actions"] if (tabular or algo in _FINITE_ACTIONS) and not isinstance(actions, Discrete) else []
    if lacking:
        return f"finite {' and '.join(lacking)}"
    return "actions that are vectors" if algo in _VECTOR_ACTIONS and not isinstance(actions, Box) else ""


def check_hyperparameters(algo: str, names: Any, source: str) -> None:
    """Check that every hyperparameter is one of the algorithm's or of rl_zoo3's.

    :param algo: the algorithm's name
    :param names: the hyperparameters' names
    :param source: where they come from, for the message
    :raises UserError: if one is unknown
    """
    from sb3_lecture.common.checks import keywords_of  # not for --help

    known = ZOO_KEYS | (set(keywords_of(registry.algorithm(algo))) - _COMMAND_LINE_KEYS)
    for name in names:
        if name in _COMMAND_LINE_KEYS:
            raise UserError(f"{source}: {name!r} is set on the command line, as --{name.replace('_', '-')}")
        if name not in known:
            raise UserError(f"{source}: {algo} has no hyperparameter {name!r}{nearest(str(name), known)}")


#: rl_zoo3 makes schedules of them
_SCHEDULED = ("learning_rate", "clip_range", "clip_range_vf", "delta_std")
_NOISES = ("normal", "ornstein-uhlenbeck")
MAX_ENVS = 65_536


def check_values(entry: dict[str, Any], source: str) -> None:
    """Check the values that rl_zoo3 reads itself, and numbers that no algorithm can work with.

    What remains, the algorithms' own constructors check.

    :param entry: hyperparameters, as they stand in a config
    :param source: where they come from, for the message
    :raises UserError: if one is wrong
    """
    for name, value in entry.items():
        if (expected := _wrong(name, value)) is not None:
            raise UserError(f"{source}: {name} must be {expected}, not {_shown(value)}")
    if entry.get("noise_type") is not None and entry.get("noise_std") is None:
        raise UserError(f"{source}: noise_type needs noise_std, such as noise_std: 0.1")


def _wrong(name: str, value: Any) -> str | None:
    """What a value must be, if it is not that."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if number and math.isnan(value):
        return "a number"
    if name in ("n_envs", "n_timesteps", "frame_stack"):
        most = MAX_ENVS if name == "n_envs" else 2**62
        whole = number and math.isfinite(value) and value == int(value)
        fits = whole and 1 <= value <= most and (name == "n_timesteps" or isinstance(value, int))
        bounds = f"from 1 to {most:,}" if name == "n_envs" else "that is at least 1"
        return None if fits or (value is None and name == "frame_stack") else f"a whole number {bounds}"
    if name in _SCHEDULED and value is not None:
        text = value.split("_", 1) if isinstance(value, str) else []
        if (name, value) == ("learning_rate", "1/N") or callable(value):
            return None
        size = _float(text[1]) if len(text) == 2 and text[0].startswith("lin") else value if number else None
        right = size is not None and math.isfinite(size) and (size >= 0 or (number and name.startswith("clip_range")))
        return None if right else "a number from 0, or lin_ and one, such as lin_0.001"
    if name in ("gamma", "gae_lambda", "lambda_"):
        return None if number and 0 <= value <= 1 else "a number from 0 to 1, without quotes"
    if name == "noise_type":
        return None if value is None or value in _NOISES else " or ".join(map(repr, _NOISES))
    if name == "noise_std":
        return None if value is None or (number and 0 <= value < math.inf) else "a number from 0"
    if name in ("env_kwargs", "monitor_kwargs", "policy_kwargs", "replay_buffer_kwargs"):
        text_is_read = name != "env_kwargs" and isinstance(value, str)
        return None if value is None or text_is_read or _is_arguments(value) else "arguments such as {size: 3}"
    if name == "normalize":
        return None if isinstance(value, (bool, str)) or _is_arguments(value) else "true, false or arguments of VecNormalize"
    if name == "policy":
        return None if isinstance(value, (str, type)) else "a text such as MlpPolicy"
    return None


def _is_arguments(value: Any) -> bool:
    return isinstance(value, dict) and all(isinstance(key, str) for key in value)


def _float(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
