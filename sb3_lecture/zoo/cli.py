"""The commands: ``sb3-lecture train | enjoy | plot | tune | tune-server | lab | gtp``; ``scripts/*.py`` call them too.

What the user can put right raises a UserError anywhere below, and ``main`` prints it as one line with exit code 2. Anything
else is a bug and keeps its traceback. A command's options and its work stand in one module, which is imported when the
command is called.
"""

import argparse
import errno
import importlib
import sys
from collections.abc import Sequence
from typing import Any, NamedTuple

from sb3_lecture.zoo.errors import UserError, nearest
from sb3_lecture.zoo.options import INTERRUPTED, Parser

EXAMPLES = """
examples:
  sb3-lecture train                                         DQN learns the maze
  sb3-lecture enjoy                                         watch what was trained last
  sb3-lecture enjoy --env Lecture/ConnectFour-v0 --human --opponent perfect
  sb3-lecture plot logs/dqn
  sb3-lecture plot compare sarsa q_learning --env Lecture/CliffWalking-v0 --seeds 30
  sb3-lecture tune --algo q_learning --n-trials 200
  sb3-lecture train --algo q_learning --study logs/q_learning/…/study.db

sb3-lecture COMMAND --help lists a command's options.
"""


class Command(NamedTuple):
    """A row of the table of commands.

    :param help: one line
    :param module: where it is
    :param prefix: of its two functions there: ``<prefix>options`` fills a parser, ``<prefix>`` or ``run`` does the work
    """

    help: str
    module: str
    prefix: str = ""


COMMANDS: dict[str, Command] = {
    "train": Command("train an agent", "train"),
    "enjoy": Command("watch a trained agent, or play against one", "enjoy"),
    "plot": Command("draw learning curves and value maps", "plot"),
    "plot compare": Command("compare learners on one world over many seeds", "plot", "compare"),
    "plot dream": Command("draw what a world model foretells", "plot", "dream"),
    "plot estimators": Command("draw gradient estimators' bias and variance", "plot", "estimators"),
    "plot triad": Command("draw when learning diverges, and when not", "plot", "triad"),
    "plot overestimation": Command("draw by how much DQN and Double DQN overestimate", "plot", "overestimation"),
    "plot overoptimisation": Command("draw a learned reward that is followed too far", "plot", "overoptimisation"),
    "plot offline": Command("draw what data cover and where a policy leaves them", "offline_plot", "offline"),
    "record": Command("record data for learners that see nothing else", "record"),
    "record qualities": Command("record random, medium, replay, expert and mixed data of worlds", "qualities"),
    "tune": Command("search hyperparameters", "tuning_cli"),
    "tune-server": Command("share a study among machines", "tuning_cli", "server"),
    "lab": Command("open the demos in a browser", "lab"),
    "gtp": Command("a Go engine for GTP programs", "gtp"),
}
#: what the machine, not the program, refuses
_MACHINE_ERRORS = {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.EPERM}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command.

    :param argv: the command and its options; None: those of the process
    :return: the exit code: 0, 2 if the user has something to put right, 130 after Ctrl-C
    """
    words = list(sys.argv[1:] if argv is None else argv)
    if " ".join(words[:2]) in COMMANDS:
        words[:2] = [" ".join(words[:2])]
    try:
        if words and not words[0].startswith("-") and words[0] not in COMMANDS:
            raise UserError(f"unknown command {words[0]!r}{nearest(words[0], COMMANDS)}; commands: {', '.join(COMMANDS)}")
        parser = _parser(words[0] if words else "")
        if not words:
            parser.print_help()
            return 2
        if words[0] == "gtp":  # it has a parser of its own
            return _module("gtp").gtp(words[1:])
        args = parser.parse_args(words)
        if words[0] != "lab":  # which says so itself, when its first page is up
            _announce_compiling()
        return args.run(args)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        if error.errno not in _MACHINE_ERRORS:
            raise
        where = "" if error.filename is None else f": {error.filename}"
        print(f"error: {error.strerror}{where}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nInterrupted; nothing was saved.", file=sys.stderr)
        return INTERRUPTED


def _parser(chosen: str) -> Parser:
    """Build the parser: all commands with their line of help, the chosen one with its options."""
    parser = Parser(prog="sb3-lecture", epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True, parser_class=Parser)
    for name, row in COMMANDS.items():
        command = commands.add_parser(name, help=row.help, description=f"{row.help[0].upper()}{row.help[1:]}.")
        if name == chosen and name != "gtp":
            command.prog = _prog(name)
            module: Any = _module(row.module)
            getattr(module, f"{row.prefix}_options" if row.prefix else "options")(command)
            command.set_defaults(run=getattr(module, row.prefix or "run"))
    return parser


def _announce_compiling() -> None:
    from sb3_lecture.common.compiling import announce  # numba, which --help does without

    announce()


def _prog(name: str) -> str:
    from sb3_lecture.zoo.options import command

    return command(name)


def _module(name: str) -> Any:
    return importlib.import_module(f"sb3_lecture.zoo.{name}")
