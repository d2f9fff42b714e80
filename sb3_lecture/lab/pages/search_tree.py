"""A search tree grows: one simulation a click, with N, Q, P and the bonus U on every edge, beside the exact values."""

from functools import cache
from typing import Any

import numpy as np

from sb3_lecture.exact.solver import exact_optimum
from sb3_lecture.lab.board_line import GAMES, SOON, TRAINED, Line, Solver, trained_network
from sb3_lecture.lab.growing import Growing, Grown, RolloutEvaluator
from sb3_lecture.lab.page import STEPS, Choice, Number, Page, Refused, Text
from sb3_lecture.lab.tabular_page import SEED
from sb3_lecture.search.simulators import STATE, GameSimulator, TabularSimulator
from sb3_lecture.search.tree import DISCOUNT, GUMBEL, UCT
from sb3_lecture_envs.board.game import PLY
from sb3_lecture_envs.board.players import ILLEGAL
from sb3_lecture_envs.maze import LECTURE_MAZE, MazeEnv

MAZE = "maze"
MOVES = ("up", "right", "down", "left")
GAMMA = 0.9  # of the maze
WORLDS = {name: GAMES[name].title for name in ("tic_tac_toe", "connect_four")} | {MAZE: "Lecture maze"}
POINTS = 8  # of the curve
LARGEST = 200  # simulations
SELECTIONS = {"puct": "PUCT", "gumbel": "Gumbel", "uct": "UCT"}


@cache
def _maze() -> MazeEnv:
    return MazeEnv()


class SearchTreePage(Page):
    """A root, a rule of selection, and the tree after some simulations."""

    controls = (
        Choice(
            "world",
            "World",
            "tic_tac_toe",
            {n: GAMES[n].title for n in ("tic_tac_toe", "connect_four")} | {MAZE: "Lecture maze"},
        ),
        Choice("selection", "Selection", "puct", SELECTIONS),
        Choice("leaves", "Leaves valued by", "rollouts", {"rollouts": "rollouts", "network": "AlphaZero's net"}),
        Choice("noise", "Root noise", "off", {"off": "off", "on": "on"}),
        Number("explore", "Exploration", 1.25, 0.0, 5.0, 0.05, symbol="c"),
        Number("budget", "Simulations in all", 64, 1, LARGEST, whole=True),
        SEED,
        Text("moves", "Moves so far", "", 400),
        Number(STEPS, "Simulations done", 0, 0, LARGEST, whole=True),
        Number("speed", "Speed", 5, 1, 60, unit="simulations/s", whole=True),
    )
    actions = ("step", "episode", "reset", "move", "play", "pause")

    def __init__(self) -> None:
        super().__init__()
        self._made: tuple[Any, ...] = ()
        self._curve: dict[int, float] = {}
        self._set_up()

    @staticmethod
    def info() -> dict[str, Any]:
        """What the view needs once: how each world is drawn, and the maze's map."""
        drawn = {name: kind.drawn for name, kind in GAMES.items()} | {MAZE: MAZE}
        return {"drawn": drawn, "maze": [list(row) for row in LECTURE_MAZE]}

    # ---- the root

    def _set_up(self) -> None:
        """Make what the settings describe: the root, the search, and what is known exactly."""
        settings = self.settings
        self.settings[STEPS] = min(settings[STEPS], settings["budget"])
        key = tuple(settings[name] for name in settings if name not in (STEPS, "speed"))
        if self._made == key:
            return
        world, self.problem, self.over = settings["world"], "", False
        self._curve, self._made = {}, key
        if world == MAZE:
            self.simulator: Any = TabularSimulator(_maze().mdp, GAMMA)
            self.root, self.cell = np.array([0]), 0
            for word in settings["moves"].split():
                if word not in MOVES or self.over:
                    self.problem = f"{word!r} is no move here; write {', '.join(MOVES)} as long as the episode lasts"
                    break
                self.cell, ended = self._maze_step(self.cell, MOVES.index(word))
                self.over = self.over or ended
            self.root = np.array([self.cell])
            self.exact_q = exact_optimum(_maze().mdp, GAMMA).q
        else:
            self.line = Line(GAMES[world].make(), settings["moves"])
            self.simulator, self.root = GameSimulator(self.line.game), self.line.state[None]
            self.problem, self.over, self.solver = self.line.problem, self.line.over, Solver(self.line.game)
        self.networked = settings["leaves"] == "network" and world in TRAINED and settings["selection"] != "uct"
        evaluate: Any = None
        if settings["selection"] != "uct":
            evaluate = trained_network(world) if self.networked else RolloutEvaluator(self.simulator, settings["seed"])
        self.growing = Growing(
            self.simulator, evaluate, settings["selection"], settings["budget"], settings["explore"], settings["seed"],
            settings["noise"] == "on" and settings["selection"] != "uct",
        )  # fmt: skip
        if self.over:
            self.settings[STEPS], self.playing = 0, False

    @staticmethod
    def _maze_step(state: int, action: int) -> tuple[int, bool]:
        mdp = _maze().mdp
        j = int(mdp.row_ptr[state * mdp.n_actions + action])
        return int(mdp.next_state[j]), bool(mdp.terminated[j])

    def changed(self, names: frozenset[str]) -> None:
        """Grow the tree anew; another world begins at its start."""
        if "world" in names and "moves" not in names:
            self.settings["moves"] = ""
        self._set_up()

    # ---- growing

    def advance(self, steps: int) -> None:
        """Some simulations more."""
        if self.over:
            self.playing = False
            return
        self.settings[STEPS] = min(self.settings["budget"], self.settings[STEPS] + steps)
        self.playing = self.playing and self.settings[STEPS] < self.settings["budget"]

    def do_step(self) -> None:
        """One simulation."""
        self.playing = False
        if self.over:
            raise Refused("the episode is over here: press Reset, or change the moves")
        self.advance(1)

    def do_episode(self) -> None:
        """All simulations of the budget."""
        self.playing = False
        self.advance(LARGEST)

    def do_reset(self) -> None:
        """The bare root; at a bare root, the start."""
        self.playing = False
        if self.settings[STEPS] == 0:
            self.settings["moves"] = ""
        self.settings[STEPS] = 0
        self._set_up()

    def do_move(self) -> None:
        """Play the move that the search has found, and begin a new tree there."""
        self.playing = False
        if self.over or self.settings[STEPS] == 0:
            raise Refused("do some simulations first: the move is the one most visited")
        grown = self.growing.after(self.root, self.settings[STEPS])
        text = self._name(self._chosen(grown))
        self.settings["moves"] = f"{self.settings['moves']} {text}".strip()
        self.settings[STEPS] = 0
        self._set_up()

    def _chosen(self, grown: Grown) -> int:
        """The root's action: most visited; for Gumbel, of those the best by g + logits + σ(Q)."""
        visits = grown.tree.visits[0]
        if grown.rule.kind != GUMBEL:
            return int(visits.argmax())
        most = visits == visits.max()
        sigma = (grown.rule.c_visit + visits.max()) * grown.rule.c_scale / 2.0
        with np.errstate(invalid="ignore"):
            scores = grown.rule.root_score[0] + sigma * np.where(visits > 0, grown.tree.q[0], 0.0)
        return int(np.where(most & (grown.tree.prior[0] >= 0), scores, -np.inf).argmax())

    def _name(self, action: int) -> str:
        return MOVES[action] if self.settings["world"] == MAZE else self.line.game.action_to_text(action)

    # ---- what is known

    def _exact(self, grown: Grown) -> np.ndarray:
        """The exact value of every edge for its mover, float64 [M, A]; NaN: not known."""
        exact = np.full(grown.tree.prior.shape, np.nan)
        for node, state in enumerate(grown.states):
            if grown.tree.stats[node, DISCOUNT] == 0.0:
                continue
            if self.settings["world"] == MAZE:
                exact[node] = self.exact_q[int(state[STATE])]
            elif node == 0 or self.settings["world"] != "connect_four" or state[PLY] >= SOON + 8:
                known = self.solver(state)
                if known is not None:
                    exact[node] = np.where(known.values == ILLEGAL, np.nan, known.values)
        return exact

    # ---- the picture

    def picture(self) -> dict[str, Any]:
        """The tree with everything on its edges, the last simulation step by step, and code."""
        drawn: dict[str, Any] = {
            "problem": self.problem, "over": self.over, "code": self.code(), "tree": None, "drawn": self.settings["world"],
            "names": [self._name(a) for a in range(self.simulator.n_actions)],
        }  # fmt: skip
        if self.over:
            return {**drawn, "boards": [self._board(self.root[0] if self.settings["world"] != MAZE else [self.cell])]}
        t = self.settings[STEPS]
        grown = self.growing.after(self.root, t)
        tree, exact = grown.tree, self._exact(grown)
        weighed = [grown.weigh(node) if tree.stats[node, DISCOUNT] != 0.0 else None for node in range(grown.size)]
        none = np.full(self.simulator.n_actions, np.nan)
        edges = [grown.edge(node) for node in range(1, grown.size)]
        return drawn | {
            "boards": [self._board(state) for state in grown.states],
            "tree": {
                "parent": [-1, *(parent for parent, _ in edges)], "action": [-1, *(action for _, action in edges)],
                "ends": tree.stats[:, DISCOUNT] == 0.0, "legal": tree.prior >= 0, "visits": tree.visits,
                "q": np.where(tree.visits > 0, tree.q, np.nan), "prior": np.maximum(tree.prior, 0.0), "exact": exact,
                "value": [none if w is None else w.value for w in weighed],
                "bonus": [none if w is None else w.bonus for w in weighed],
                "score": [none if w is None else w.score for w in weighed],
                "next": [-1 if w is None else int(w.score.argmax()) for w in weighed],
                "chosen": self._chosen(grown) if t else -1, "root_value": grown.root_value,
            },
            "last": self._last(grown, t), "curve": self._course(grown, t, exact[0]), "networked": self.networked,
            "priors": grown.rule.kind != UCT,
        }  # fmt: skip

    def _board(self, state: Any) -> Any:
        return int(state[0]) if self.settings["world"] == MAZE else self.line.game.board(state)

    def _last(self, grown: Grown, t: int) -> list[dict[str, Any]]:
        """What the last simulation did on each edge of its path, with the numbers it met there."""
        if t == 0:
            return []
        before, steps = self.growing.after(self.root, t - 1), []
        for node, action, child, value in grown.last_path():
            weighed = before.weigh(node)
            n = int(before.tree.visits[node, action])
            steps.append(
                {
                    "node": node, "action": action, "child": child, "g": value, "n": n, "new_n": n + 1,
                    "q": float(before.tree.q[node, action]) if n else None, "new_q": float(grown.tree.q[node, action]),
                    "prior": float(before.tree.prior[node, action]), "value": weighed.value[action],
                    "bonus": weighed.bonus[action], "score": weighed.score[action],
                }
            )  # fmt: skip
        return steps

    def _course(self, grown: Grown, t: int, exact: np.ndarray) -> dict[str, Any]:
        """The root's value after some numbers of simulations up to the present one; the exact value."""
        steps = np.unique(np.round(np.geomspace(1, t, POINTS)).astype(int)).tolist() if t else []
        self._curve[t] = grown.root_value
        for n in steps:
            if n not in self._curve:
                self._curve[n] = self.growing.after(self.root, n).root_value
        best = None if np.isnan(exact).all() else float(np.nanmax(exact))
        return {"steps": steps, "value": [self._curve[n] for n in steps], "exact": best}

    def code(self) -> dict[str, str]:
        """The command and the Python that do the same."""
        settings, world = self.settings, self.settings["world"]
        selection, seed, t = settings["selection"], settings["seed"], settings[STEPS]
        if world == MAZE:
            imports = "from sb3_lecture.search.simulators import TabularSimulator\nfrom sb3_lecture_envs.maze import MazeEnv\n"
            make = f"simulator = TabularSimulator(MazeEnv().mdp, {GAMMA})\nroot = np.array([{self.cell}])\n"
        else:
            kind, rules = GAMES[world], type(self.line.game).__name__
            imports = f"from sb3_lecture.search.simulators import GameSimulator\nfrom {kind.source} import {rules}\n"
            make = (
                f"game = {rules}()\nsimulator = GameSimulator(game)\nroot = game.initial()\n"
                f"for move in {self.line.text!r}.split():\n    root, _, _ = game.step(root, [game.text_to_action(move)])\n"
            )
        evaluate = "None"
        if self.networked:
            env = GAMES[world].env.replace("/", "-")
            imports = "from sb3_lecture.common.checkpoint import load\n" + imports
            evaluate = f'load("pretrained/alphazero/{env}_1/{env}.zip").policy.evaluator()'
        elif selection != "uct":
            imports = "from sb3_lecture.lab.growing import RolloutEvaluator\n" + imports
            evaluate = f"RolloutEvaluator(simulator, seed={seed})"
        python = (
            f"import numpy as np\n\nfrom sb3_lecture.search.mcts import MCTS\n{imports}\n{make}"
            f"search = MCTS(simulator, {evaluate}, {settings['budget']}, {selection!r}, c_init={settings['explore']!r},\n"
            f"              c_uct={settings['explore']!r}, value_range=(-1.0, 1.0), seed={seed})\n"
            f"search.n_simulations = {max(1, t)}  # stopped early\n"
            f"result = search.search(root, noise={settings['noise'] == 'on' and selection != 'uct'})\n"
            "print(result.visits, result.q, result.actions)\n"
        )
        command = ""
        if world != MAZE and selection == "uct":
            command = (
                f"sb3-lecture enjoy --env {GAMES[world].env} --human --opponent mcts --simulations {settings['budget']} "
                f"--seed {seed}"
            )
        return {"python": python, "command": command}


make = SearchTreePage
