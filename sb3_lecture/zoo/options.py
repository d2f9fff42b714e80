"""What the commands' parsers share: types that refuse in one line, env ids, packages, how the user calls us. No torch here."""

import argparse
import importlib
import math
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from sb3_lecture.zoo import safe
from sb3_lecture.zoo.errors import UserError, first_line, nearest

DEFAULT_LOG_FOLDER = "logs"
MAX_SEED = 2**32 - 1  # NumPy's
INTERRUPTED = 130  # what a shell expects of a program that Ctrl-C ended


class Parser(argparse.ArgumentParser):
    """A parser whose errors are UserErrors, one line each."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **{"formatter_class": _Formatter, **kwargs})

    def error(self, message: str) -> NoReturn:
        """Refuse the arguments; an unknown option gets the nearest right name."""
        _, unrecognized, wrong = message.rpartition("unrecognized arguments: ")
        hint = nearest(wrong.split(" ")[0].split("=")[0], self._option_string_actions) if unrecognized else ""
        raise UserError(" ".join(f"{message}{hint}".split()))

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # type: ignore[override]
        """Parse all arguments: a subcommand's parser, which argparse asks for those it knows, names a wrong one itself."""
        parsed, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return parsed, unknown


class _Formatter(argparse.HelpFormatter):
    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=110)


# --- types -----------------------------------------------------------------------------------------------------------


def whole(least: int | None = None, most: int | None = None, also: Sequence[int] = ()) -> Callable[[str], int]:
    """Return the type of an option that is a whole number.

    :param least: the smallest
    :param most: the largest
    :param also: other numbers that are allowed
    """

    def parse(text: str) -> int:
        try:
            number = int(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"invalid int value: {_shown(text)}") from error
        if number in also:
            return number
        if least is not None and number < least:
            raise argparse.ArgumentTypeError(f"at least {least} is needed, not {_shown(text)}")
        if most is not None and number > most:
            raise argparse.ArgumentTypeError(f"at most {most} is possible, not {_shown(text)}")
        return number

    return parse


def real(least: float, most: float = math.inf, *, above: bool = False) -> Callable[[str], float]:
    """Return the type of an option that is a finite number.

    :param least: the smallest
    :param most: the largest
    :param above: whether ``least`` itself is too small
    """

    def parse(text: str) -> float:
        try:
            number = float(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(f"invalid float value: {_shown(text)}") from error
        if not math.isfinite(number) or not least <= number <= most or (above and number == least):
            bounds = f"between {least:g} and {most:g}" if most < math.inf else f"{'above' if above else 'at least'} {least:g}"
            raise argparse.ArgumentTypeError(f"it must be {bounds}, not {_shown(text)}")
        return number

    return parse


def _shown(text: str) -> str:
    return repr(text if len(text) <= 40 else f"{text[:37]}…")


def folder(text: str) -> str:
    """The type of an option that names a folder."""
    if not text.strip() or "\0" in text:
        raise argparse.ArgumentTypeError(f"name a folder, not {text!r}")
    return text


steps = whole(1, 2**62)  # int64 with room for another round
seed = whole(0, MAX_SEED)


class StoreDict(argparse.Action):
    """``name:value …`` into a dict, as rl_zoo3's StoreDict, whose values are evaluated; here they are parsed.

    The texts are kept until the parser has seen ``--trust`` or its absence: ``evaluate`` turns them into values.
    """

    def __call__(self, parser: Any, namespace: Any, values: Any, option_string: str | None = None) -> None:
        """Keep the texts."""
        texts: dict[str, str] = {}
        for argument in values:
            name, colon, text = argument.partition(":")
            if not colon or not name:
                parser.error(f"{option_string} {argument}: write name:value, text in quotes: policy:\"'MlpPolicy'\"")
            texts[name] = text
        setattr(namespace, self.dest, texts)


def evaluate(args: argparse.Namespace, name: str) -> None:
    """Turn the texts of a ``StoreDict`` option into values.

    :raises UserError: if one is no value
    """
    texts: dict[str, str] | None = getattr(args, name)
    if texts is None:
        return
    option = f"--{name.replace('_', '-')}"
    for key, text in texts.items():
        try:
            texts[key] = safe.value(text, args.trust)
        except ValueError as error:
            example = "write name:value with a Python value, text in quotes: learning_rate:0.01 policy:\"'MlpPolicy'\""
            raise UserError(f"{option} {key}:{text}: {error}; {example}") from error


# --- envs and packages -----------------------------------------------------------------------------------------------


def add_run_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of every command that opens a run."""
    parser.add_argument("--gym-packages", nargs="+", default=[], metavar="PACKAGE", help="packages that register envs")
    parser.add_argument("--trust", action="store_true", help=safe.TRUST_HELP)


def import_packages(packages: Sequence[str], option: str = "--gym-packages") -> None:
    """Register our worlds, and import packages that register others.

    :raises UserError: if one cannot be imported
    """
    import sb3_lecture_envs

    sb3_lecture_envs.register_envs()
    for name in packages:
        try:
            importlib.import_module(name)
        except Exception as error:  # a module may raise anything
            kind = "" if isinstance(error, ImportError) else f"{type(error).__name__}: "
            raise UserError(f"{option} {name or repr(name)}: cannot import it: {kind}{first_line(error)}") from error


def resolve_env(name: str, entries: dict[str, Any] | None = None) -> str:
    """Turn ``--env`` into a registered id; ``module:id`` imports the module first.

    :param name: what the user gave
    :param entries: the config's entries; names among them are worth suggesting too
    :raises UserError: if no such env is registered
    """
    import gymnasium as gym

    if ":" in name:
        module, name = name.split(":", 1)
        import_packages([module], "--env")
    if name not in gym.registry:  # Gymnasium 1 registers no other package's envs; rl_zoo3 imports those it knows, ALE's too
        importlib.import_module("rl_zoo3.import_envs")
    if name in gym.registry:
        return name
    if name == "atari":
        raise UserError("'atari' is the config entry of all Atari games; name a game: --env ALE/Breakout-v5")
    if name.startswith("ALE/") and "ALE/Breakout-v5" not in gym.registry:
        raise UserError(f"the env {name!r} needs ale-py: pip install 'sb3-lecture[atari]'")
    known = [*(key for key in entries or {} if key in gym.registry), *gym.registry]
    raise UserError(f"unknown env {name!r}{nearest(name, known)}")


def env_with_module(env_id: str, module: str | None) -> str:
    """Write an env as ``--env`` takes it in a new process: with the module that registered it, where that is not ours."""
    return env_id if module is None else f"{module}:{env_id}"


def command(name: str, *arguments: str) -> str:
    """How the user calls a command: as the script beside the one running, or as the console command, quoted for a shell."""
    script = Path(sys.argv[0])
    if script.suffix == ".py" and script.stem in ("train", "enjoy", "plot", "tune"):
        words = ["python", str(script.with_name(f"{name.split(' ')[0]}.py")), *name.split(" ")[1:]]
    else:
        words = ["sb3-lecture", *name.split(" ")]
    return shlex.join([*words, *arguments])
