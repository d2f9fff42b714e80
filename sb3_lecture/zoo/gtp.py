"""A Go engine that speaks the Go Text Protocol, version 2 (Farnebäck 2002), for any player of this package.

    sb3-lecture gtp --size 9 --opponent mcts

GTP lets either colour move at any time, after two passes too. Out of turn, the other side is taken to have stood by: the turn
changes hands, the ko is void, and no pass is counted. Positional superko is enforced, as in Lecture/Go-v0; the cap on moves,
which ends games there, is not: no referee knows of it. A player of this package does, so it sees a long game as half over.
"""

import argparse
import io
import re
import sys
from collections.abc import Callable, Sequence
from importlib.metadata import version
from typing import TextIO

import numpy as np

from sb3_lecture.zoo.errors import UserError, first_line
from sb3_lecture.zoo.human_play import SIMULATIONS, named_opponent
from sb3_lecture_envs.board.env import Opponent
from sb3_lecture_envs.board.game import OVER, PLY
from sb3_lecture_envs.board.go import KO, PASSES, Go

COLOURS = {"b": 0, "black": 0, "w": 1, "white": 1}
CONTROL = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")  # what a reader discards, the tab excepted (section 3.1)
UNSIGNED = re.compile(r"[0-9]+")
DECIMAL = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


class GtpError(Exception):
    """A failure response; its text is the protocol's."""


class GtpEngine:
    """One game of Go, driven by GTP commands.

    :param make_player: builds the player that answers ``genmove``, for a board of the size and komi set
    :param size: of the board (default 9)
    :param komi: points for white (default 7.5)
    """

    def __init__(self, make_player: Callable[[Go], Opponent], size: int = 9, komi: float = 7.5) -> None:
        self.make_player = make_player
        self.commands: dict[str, Callable[[list[str]], str]] = {
            "protocol_version": lambda arguments: "2",
            "name": lambda arguments: "sb3-lecture",
            "version": self._version,
            "known_command": lambda arguments: str(bool(arguments) and arguments[0] in self.commands).lower(),
            "list_commands": lambda arguments: "\n".join(self.commands),
            "quit": lambda arguments: "",
            "boardsize": self._boardsize,
            "clear_board": self._clear_board,
            "komi": self._komi,
            "play": self._play,
            "genmove": self._genmove,
            "undo": self._undo,
            "showboard": lambda arguments: "\n" + self.game.render_text(self.state),
            "final_score": self._final_score,
        }
        self._set_up(Go(size, komi))

    def _set_up(self, game: Go) -> None:
        self.player = self.make_player(game)  # may refuse the board: then all stays as it was
        self.game = game
        self._clear_board([])

    def warm_up(self) -> None:
        """Let the player move once on a board of its own: kernels are compiled and models loaded before the clock runs."""
        start = self.game.initial(1)
        self.player(self.game.observe(start)[0], self.game.legal(start)[0])
        self._mask(start[0])

    @property
    def state(self) -> np.ndarray:
        """The present state, int [state_size]."""
        return self.states[-1]

    def run(self, source: TextIO, sink: TextIO) -> None:
        """Answer commands, one a line, until ``quit`` or the end.

        :param source: where they come from
        :param sink: where the answers go
        """
        for line in source:
            answer, name = self.answer(line)
            if answer:
                sink.write(answer)
                sink.flush()
            if name == "quit":
                return

    def answer(self, line: str) -> tuple[str, str]:
        """Answer one line.

        :param line: ``[id] command [arguments]``; comments from # on, of any bytes
        :return: the response with its empty line, or nothing for an empty line; the command's name
        """
        words = CONTROL.sub("", line).split("#")[0].split()
        number = words.pop(0) if words and UNSIGNED.fullmatch(words[0]) else ""
        if not words:
            return "", ""
        name, *arguments = words
        try:
            if name not in self.commands:
                raise GtpError("unknown command")
            text = self.commands[name](arguments)
        except GtpError as error:
            return f"?{number} {error}\n\n", name
        return f"={number} {text}".rstrip(" ") + "\n\n", name

    def _version(self, arguments: list[str]) -> str:
        return version("sb3-lecture")

    def _boardsize(self, arguments: list[str]) -> str:
        word = _only(arguments)
        try:
            self._set_up(Go(int(word) if UNSIGNED.fullmatch(word) else -1, self.game.law.komi))
        except (ValueError, UserError) as error:  # a saved model plays on the board that it knows
            raise GtpError("unacceptable size") from error
        return ""

    def _clear_board(self, arguments: list[str]) -> str:
        self.states = [self.game.initial(1)[0]]  # one a move, for undo
        self.keys = [self.game.position_keys(self.state[None])[0]]  # of the positions, for superko
        return ""

    def _komi(self, arguments: list[str]) -> str:
        word = _only(arguments)
        try:
            game = Go(self.game.law.size, float(word) if DECIMAL.fullmatch(word) else float("nan"))
        except ValueError as error:
            raise GtpError("syntax error") from error
        states, keys = self.states, self.keys
        self._set_up(game)
        self.states, self.keys = states, keys
        return ""

    def _turned_to(self, colour: str) -> np.ndarray:
        """Return the present state with ``colour`` to move."""
        if colour.lower() not in COLOURS:
            raise GtpError("syntax error")
        state = self.state.copy()
        mover = COLOURS[colour.lower()]
        if state[PLY] % 2 != mover:
            state[KO] = 0
            state[PASSES] = 0
        state[PLY] = mover  # only who moves matters to the rules, and no game is too long
        return state

    def _mask(self, state: np.ndarray) -> np.ndarray:
        mask = self.game.legal(state[None])[0]
        return self.game.forbid_repetition(state, np.array(self.keys, np.int64), mask)

    def _move(self, state: np.ndarray, action: int) -> None:
        after = self.game.step(state[None], np.array([action]))[0][0]
        after[OVER], after[PASSES] = False, min(after[PASSES], 2)  # two passes end nothing: either colour may play on
        self.states.append(after)
        self.keys.append(self.game.position_keys(self.state[None])[0])

    def _play(self, arguments: list[str]) -> str:
        if len(arguments) != 2:
            raise GtpError("syntax error")
        state = self._turned_to(arguments[0])
        try:
            action = self.game.text_to_action(arguments[1])
        except ValueError as error:
            raise GtpError("illegal move") from error
        if not self._mask(state)[action]:
            raise GtpError("illegal move")
        self._move(state, action)
        return ""

    def _genmove(self, arguments: list[str]) -> str:
        state = self._turned_to(_only(arguments))
        action = self.game.n_actions - 1  # after two passes nothing is left to play for: a third
        if state[PASSES] < 2:
            seen, mover = state.copy(), int(state[PLY])
            age = min(len(self.states) - 1, self.game.max_plies // 2)
            seen[PLY] = age + (age + mover) % 2
            try:
                action = int(self.player(self.game.observe(seen[None])[0], self._mask(state)))
            except ValueError as error:  # a network that is not finite, say
                raise GtpError(f"no move: {first_line(error)}") from error
        self._move(state, action)
        return self.game.action_to_text(action)

    def _undo(self, arguments: list[str]) -> str:
        if len(self.states) == 1:
            raise GtpError("cannot undo")
        self.states.pop()
        self.keys.pop()
        return ""

    def _final_score(self, arguments: list[str]) -> str:
        lead = self.game.score(self.state)
        return "0" if lead == 0 else f"{'B' if lead > 0 else 'W'}+{abs(lead):g}"


def _only(arguments: list[str]) -> str:
    if len(arguments) != 1:
        raise GtpError("syntax error")
    return arguments[0]


def gtp(argv: Sequence[str], source: TextIO | None = None, sink: TextIO | None = None) -> int:
    """Run the engine from the command line.

    :param argv: its options
    :param source: commands; None: standard input
    :param sink: answers; None: standard output
    :return: the exit code
    :raises UserError: for an unknown opponent, size or komi
    """
    parser = argparse.ArgumentParser(prog="sb3-lecture gtp", description="A Go engine that speaks GTP 2.")
    parser.add_argument("--opponent", default="mcts", help="random, mcts (default), or the path of a saved model")
    parser.add_argument("--algo", help="the algorithm of the saved model; default: read off its path")
    parser.add_argument("--size", type=int, default=9, help="rows of the board, 5 to 19, default 9")
    parser.add_argument("--komi", type=float, default=7.5, help="points for white, default 7.5")
    parser.add_argument("--simulations", type=int, default=SIMULATIONS, help=f"of mcts, a move, default {SIMULATIONS}")
    parser.add_argument("--seed", type=int, help="of the player's draws")
    args = parser.parse_args(argv)
    try:
        engine = GtpEngine(
            lambda game: named_opponent(game, args.opponent, args.algo, args.simulations, args.seed), args.size, args.komi
        )
    except ValueError as error:
        raise UserError(str(error)) from error
    try:
        engine.warm_up()
    except ValueError as error:
        raise UserError(first_line(error)) from error
    if source is None:  # bytes as they come: comments may be in any encoding, and a carriage return ends no line
        source = io.TextIOWrapper(sys.stdin.buffer, encoding="latin-1", newline="\n")
    engine.run(source, sys.stdout if sink is None else sink)
    return 0
