"""Boards: play against the perfect player or a search, and see what each move is worth: searched, and exactly."""

import shlex
from typing import Any

import numpy as np

from sb3_lecture.lab.board_line import GAMES, SOON, TRAINED, Exact, Line, Solver, Thinker, place, trained_network
from sb3_lecture.lab.page import Choice, Number, Page, Refused, Text
from sb3_lecture.lab.tabular_page import SEED
from sb3_lecture_envs.board.go import Go

OPPONENTS = {
    "perfect": "perfect player",
    "rollouts": "rollouts",
    "alphazero": "AlphaZero",
    "raw": "AlphaZero's network, no search",
    "random": "random moves",
    "nobody": "nobody (both are yours)",
}
#: simulations behind a move of the perfect player where nothing is solved, and a point of the curve
STAND_IN, CURVE = 20_000, 300


class BoardsPage(Page):
    """A line of play, two players, a search and the truth."""

    controls = (
        Choice("game", "Game", "tic_tac_toe", {name: kind.title for name, kind in GAMES.items()}),
        Choice("opponent", "Opponent", "perfect", OPPONENTS),
        Choice("side", "You play", "first", {"first": "first", "second": "second"}),
        Choice("thinker", "Search by", "rollouts", {"rollouts": "random rollouts", "alphazero": "AlphaZero"}),
        Number("simulations", "Simulations", 1000, 1, 10_000, log=True, whole=True),
        SEED,
        Text("moves", "Moves so far", "", 1000),
        Number("speed", "Speed", 2, 1, 20, unit="moves/s", whole=True),
    )
    actions = ("step", "episode", "reset", "undo", "play", "pause")

    def __init__(self) -> None:
        super().__init__()
        self._hurried = False
        self._open_game()

    @staticmethod
    def info() -> dict[str, Any]:
        """What the view needs once: how each game is drawn."""
        return {"games": {name: {"title": kind.title, "drawn": kind.drawn} for name, kind in GAMES.items()}}

    # ---- the line

    def _open_game(self) -> None:
        self.kind = GAMES[self.settings["game"]]
        self.game = self.kind.make()
        self.solver = Solver(self.game)
        self._curve: dict[tuple[int, str], float] = {}  # seed and line -> value for the first player
        self._thinkers: dict[tuple[bool, int], Thinker] = {}
        self._follow()

    def _follow(self) -> None:
        """Replay the line, and let the opponent answer."""
        self.line = Line(self.game, self.settings["moves"])
        self._answer()

    def _answer(self) -> None:
        opponent, mine = self.settings["opponent"], int(self.settings["side"] == "second")
        while not (self.line.problem or self.line.over or opponent == "nobody" or self.line.mover == mine):
            self.line.play(self._move(opponent))
        if not self.line.problem:
            self.settings["moves"] = self.line.text

    def changed(self, names: frozenset[str]) -> None:
        """Go to the line that was set; another game begins anew."""
        if "game" in names:
            if "moves" not in names:
                self.settings["moves"] = ""
            self._open_game()
        elif names - {"speed", "thinker", "simulations"}:
            self._follow()

    # ---- who moves

    def _rng(self) -> np.random.Generator:
        return np.random.default_rng([self.settings["seed"], len(self.line.actions)])

    def _think(self, trained: bool, simulations: int) -> Any:
        trained = trained and self.settings["game"] in TRAINED
        if (trained, simulations) not in self._thinkers:
            while len(self._thinkers) > 8:
                self._thinkers.pop(next(iter(self._thinkers)))
            self._thinkers[trained, simulations] = Thinker(self.settings["game"], self.game, trained, simulations)
        return self._thinkers[trained, simulations](self.line, int(self._rng().integers(2**31)))

    def _move(self, who: str) -> int:
        """The move of a player; the perfect one searches where nothing is solved, and the page says so."""
        rng, mask = self._rng(), self.line.mask
        if who == "random":
            return int(rng.choice(np.flatnonzero(mask)))
        if who == "raw" and self.settings["game"] in TRAINED:
            logits, _ = trained_network(self.settings["game"]).evaluate(self.game.observe(self.line.state[None]))
            return int(np.where(mask, logits[0], -np.inf).argmax())
        if who == "perfect":
            exact = self.solver(self.line.state)
            if exact is not None:
                return int(rng.choice(np.flatnonzero(exact.best & mask)))
            simulations = STAND_IN if self.solver.solves else int(self.settings["simulations"])
            return int(self._think(False, simulations).visits[0].argmax())
        return int(self._think(who in ("alphazero", "raw"), int(self.settings["simulations"])).visits[0].argmax())

    def advance(self, steps: int) -> None:
        """Some moves of yours, each the best known, and their answers."""
        for _ in range(steps):
            if self.line.over or self.line.problem:
                break
            self.line.play(self._move("perfect"))
            self._answer()
        self.playing = self.playing and not (self.line.over or self.line.problem)

    def do_step(self) -> None:
        """The best move known, and the answer to it."""
        self.playing = False
        if self.line.problem:
            raise Refused(self.line.problem)
        self.advance(1)

    def do_episode(self) -> None:
        """Play to the end of the game, a move a frame: a long search would let nobody else come to speak."""
        self.do_play()
        self._hurried = True

    def do_play(self) -> None:
        """Go on by itself, at the pace of ``speed``."""
        super().do_play()
        self._hurried = False

    def tick(self) -> bool:
        """A thirtieth of a second has passed."""
        if self._hurried:
            self.advance(1)
            return True
        return super().tick()

    def do_reset(self) -> None:
        """A new game."""
        self.playing, self.settings["moves"] = False, ""
        self._follow()

    def do_undo(self) -> None:
        """Take the last move of yours back, and the answer."""
        self.playing = False
        actions, mine = self.line.actions, int(self.settings["side"] == "second")
        back = len(actions) - 1
        while back > 0 and self.settings["opponent"] != "nobody" and back % 2 != mine:
            back -= 1
        self.settings["moves"] = " ".join(self.game.action_to_text(action) for action in actions[: max(0, back)])
        self._follow()

    # ---- the picture

    def picture(self) -> dict[str, Any]:
        """The board, its moves with prior, visits, values and truth, the course of the game, and code."""
        line, last = self.line, self.line.actions[-1:]
        board: dict[str, Any] = {
            "drawn": self.kind.drawn, "cells": self.game.board(line.state), "mover": line.mover, "ply": len(line.actions),
            "over": line.over, "result": line.result, "moves": line.text,
            "last": [place(self.game, line.states[-2], last[0])] if last else [], "pass": "pass" in line.legal_texts(),
        }  # fmt: skip
        if isinstance(self.game, Go):
            board["lead"] = self.game.score(line.state)
        exact = None if line.over else self.solver(line.state)
        drawn: dict[str, Any] = {
            "problem": line.problem, "board": board, "options": [], "search": None, "verdict": self._verdict(exact),
            "course": self._course(), "code": self.code(), "solved": self.solver.solves,
        }  # fmt: skip
        if not line.over:
            drawn |= self._moves(exact)
        return drawn

    def _moves(self, exact: Exact | None) -> dict[str, Any]:
        line, n = self.line, int(self.settings["simulations"])
        trained = self.settings["thinker"] == "alphazero" and self.settings["game"] in TRAINED
        found = self._think(trained, n)
        moves = [
            {
                "text": self.game.action_to_text(int(a)), "place": place(self.game, line.state, int(a)),
                "visits": found.visits[0, a], "q": found.q[0, a] if found.visits[0, a] else None,
                "prior": found.prior[0, a] if trained else None,
                "value": None if exact is None else exact.values[a],
                "plies": None if exact is None or exact.plies[a] < 0 else exact.plies[a],
                "best": exact is not None and bool(exact.best[a]),
            }
            for a in np.flatnonzero(line.mask)
        ]  # fmt: skip
        thinker = self._thinkers[trained, n]
        search = {"n": found.visits[0].sum(), "value": found.values[0], "c": thinker.c_uct or thinker.search_.c_init,
                  "base": thinker.search_.c_base, "trained": trained}  # fmt: skip
        return {"options": moves, "search": search}

    def _course(self) -> dict[str, Any]:
        """The values of all positions of the line for the first player: exact, and by a small search."""
        line, exact, searched = self.line, [], []
        at = Line(self.game, "")
        for i, state in enumerate(line.states):
            sign = 1 if i % 2 == 0 else -1
            known = None if i == len(line.actions) and line.over else self.solver(state)
            if i == len(line.actions) and line.over:
                value: float | None = line.result
                guess = line.result
            else:
                value = None if known is None else float(sign * known.value)
                key = self.settings["seed"], at.text
                if key not in self._curve:
                    search = Thinker(self.settings["game"], self.game, False, CURVE)
                    self._curve[key] = sign * float(search(at, self.settings["seed"]).values[0])
                guess = self._curve[key]
            exact.append(value)
            searched.append(guess)
            if i < len(line.actions):
                at.play(line.actions[i])
        return {"exact": exact, "searched": searched}

    def _verdict(self, exact: Exact | None) -> str:
        line = self.line
        names = ("X", "O") if self.kind.drawn in ("marks", "columns") else ("The first player", "The second player")
        if self.kind.drawn in ("discs", "stones"):
            names = ("Black", "White")
        if line.over:
            return "The game is drawn." if line.result == 0 else f"{names[0 if line.result > 0 else 1]} has won."
        searched = self.settings["opponent"] == "perfect" and self.solver.solves and line.actions
        doubt = " The last answer was searched, not proven." if searched and self.solver(line.states[-2]) is None else ""
        mover = f"{names[line.mover]} is to move."
        if exact is None:
            why = "has no solver" if not self.solver.solves else f"is solved here from {SOON} stones on and in the book"
            return f"{mover} {self.kind.title} {why}: values are searched.{doubt}"
        if exact.value == 0:
            return f"{mover} With best play the game is drawn.{doubt}"
        winner = names[line.mover if exact.value > 0 else 1 - line.mover]
        plies = int(exact.plies[exact.best].max())
        soon = "" if plies < 0 else f" in {plies} move{'s' if plies > 1 else ''}"
        return f"{mover} With best play {winner[0].lower() + winner[1:] if len(winner) > 5 else winner} wins{soon}.{doubt}"

    def code(self) -> dict[str, str]:
        """The command and the Python that do the same."""
        settings, kind = self.settings, self.kind
        rules = type(self.game).__name__
        opponent = settings["opponent"]
        if opponent != "random" and (opponent != "perfect" or not self.solver.solves):
            opponent = "mcts"
        simulations, seed = int(settings["simulations"]), int(self._rng().integers(2**31))
        trained = settings["thinker"] == "alphazero" and settings["game"] in TRAINED
        env = kind.env.replace("/", "-")
        search = (
            f'network = load("pretrained/alphazero/{env}_1/{env}.zip").policy.evaluator()\n'
            f"search = MCTS(GameSimulator(game), network, {simulations}, seed={seed})\n"
            if trained
            else f"search = RolloutSearch(game, {simulations}, seed={seed})\n"
        )
        imports = (
            "from sb3_lecture.common.checkpoint import load\nfrom sb3_lecture.search.mcts import MCTS\n"
            "from sb3_lecture.search.simulators import GameSimulator\n"
            if trained
            else "from sb3_lecture.search.mcts import RolloutSearch\n"
        )
        known = not self.line.over and self.solver(self.line.state) is not None  # else the solver would take minutes
        solved = "print(game.grader().move_values(state))  # 1 win, 0 draw, -1 loss\n" if known else ""
        python = (
            f"{imports}from {kind.source} import {rules}\n\ngame = {rules}()\nstate = game.initial()\n"
            f"for move in {self.line.text!r}.split():\n    state, _, _ = game.step(state, [game.text_to_action(move)])\n"
            f"{search}result = search.search(state)\nprint(result.visits, result.q)\n{solved}"
        )
        if settings["opponent"] in ("alphazero", "raw") and settings["game"] in TRAINED:
            opponent = f"pretrained/alphazero/{env}_1"
        words = ["sb3-lecture", "enjoy", "--env", kind.env, "--human", "--opponent", opponent, "--side", settings["side"]]
        if opponent == "mcts":
            words += ["--simulations", str(simulations)]
        command = shlex.join([*words, "--seed", str(settings["seed"])])
        return {"python": python, "command": "" if settings["opponent"] == "nobody" else command}


make = BoardsPage
