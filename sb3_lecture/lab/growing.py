"""A search tree that is watched while it grows: the tree after t simulations, and what the next choice weighs.

A search with the same seed does the same simulations in the same order, so the tree after t of n is the search stopped early:
pictures follow from t alone. The scores are written out here with numpy, apart from the compiled selection of
``sb3_lecture.search.tree``; tests hold the two to each other.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from sb3_lecture.search.law_kernels import rollout
from sb3_lecture.search.mcts import MCTS
from sb3_lecture.search.simulators import LawSimulator
from sb3_lecture.search.tree import DISCOUNT, PARENT, PUCT, REWARD, SEEN, SUM, UCT, USED, VALUE, Rule, Tree

ROLLOUTS = 8  # of an evaluation without a network
LONGEST_ROLLOUT = 200
MOST_KEPT = 20_000  # evaluations that are remembered


class RolloutEvaluator:
    """Equal priors, and the mean result of some random rollouts: what stands in for a network.

    A state's rollouts follow from the state and the seed alone.

    :param simulator: the rules
    :param seed: of the rollouts
    """

    def __init__(self, simulator: LawSimulator, seed: int) -> None:
        self.simulator, self.seed = simulator, seed
        self._kept: dict[bytes, float] = {}

    def __call__(self, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Evaluate: observations [n, …] -> logits [n, A], values [n]."""
        return np.zeros((len(observations), self.simulator.n_actions)), np.array([self._value(o) for o in observations])

    def _value(self, observation: np.ndarray) -> float:
        key = observation.tobytes()
        if key not in self._kept:
            if len(self._kept) >= MOST_KEPT:
                self._kept.clear()
            self._kept[key] = self._roll_out(observation, np.random.default_rng([self.seed, *key]))
        return self._kept[key]

    def _roll_out(self, observation: np.ndarray, rng: np.random.Generator) -> float:
        sim = self.simulator
        game = getattr(sim, "game", None)
        rows = game.state_of(observation[None]) if game is not None else sim.roots(np.array([observation.argmax()]))
        z, total, mask = np.uint64(rng.integers(1, 2**63)), 0.0, np.zeros(sim.n_actions, np.bool_)
        for _ in range(ROLLOUTS):
            result, z = rollout(sim.law, rows[0].copy(), float(sim.discount), LONGEST_ROLLOUT, np.uint64(z), mask)
            total += result
        return total / ROLLOUTS


class _Watched(MCTS):
    """A search that leaves its rule behind."""

    rule: Rule

    def _prepare(self, tree: Tree, noise: bool) -> Rule:
        self.rule = super()._prepare(tree, noise)
        return self.rule


class Weighed(NamedTuple):
    """What a node's next choice weighs, each float64 [A]: score = value + bonus, −inf where an action is out."""

    value: np.ndarray
    bonus: np.ndarray
    score: np.ndarray


class Grown(NamedTuple):
    """A tree of M nodes.

    :param tree: its arrays, row 0 alone
    :param states: int [M, state_size]
    :param rule: how it selects
    :param root_value: mean value of the root
    """

    tree: Tree
    states: np.ndarray
    rule: Rule
    root_value: float

    @property
    def size(self) -> int:
        """M, the nodes in use."""
        return len(self.states)

    def edge(self, node: int) -> tuple[int, int]:
        """The parent of a node, and the action that leads to it."""
        parent = int(self.tree.links[node, PARENT])
        return parent, int((self.tree.child[parent] == node).argmax())

    def last_path(self) -> list[tuple[int, int, int, float]]:
        """The edges that the last simulation followed: node, action, child, and the return it saw from there on."""
        tree, node = self.tree, 0
        edges: list[tuple[int, int, int]] = []
        while self.size > 1:
            action = int(tree.path[len(edges), 1])
            child = int(tree.child[node, action])
            edges.append((node, action, child))
            if tree.stats[child, DISCOUNT] == 0.0 or tree.links[child, SEEN] == 1:  # an end, or a leaf that is new
                break
            node = child
        found: list[tuple[int, int, int, float]] = []
        value = 0.0
        for node, action, child in reversed(edges):
            if not found:
                value = float(tree.stats[child, VALUE]) if tree.stats[child, DISCOUNT] != 0.0 else 0.0
            value = float(tree.stats[child, REWARD]) + float(tree.stats[child, DISCOUNT]) * value  # G = r + d G
            found.append((node, action, child, value))
        return found[::-1]

    def weigh(self, node: int) -> Weighed:
        """What the next choice in a node weighs."""
        tree, rule = self.tree, self.rule
        prior, visits, q = tree.prior[node].astype(np.float64), tree.visits[node], tree.q[node].astype(np.float64)
        count, (low, high) = int(tree.links[node, SEEN]), tree.span.astype(np.float64)
        legal, tried = prior >= 0, visits > 0
        scale = 1.0 / (high - low) if high > low else 0.0
        with np.errstate(divide="ignore", invalid="ignore"):
            if rule.kind == UCT:
                value = np.where(tried, q, 0.0)
                bonus = np.where(tried, float(rule.explore[count]) / np.sqrt(visits), np.inf)
            elif rule.kind == PUCT:
                mean = tree.stats[node, SUM] / count
                value = (np.where(tried, q, mean) - low) * scale
                bonus = float(rule.explore[count]) * prior / (1.0 + visits)
            elif node > 0:
                value, bonus = self.improved(node), -visits / count
            else:
                turn = rule.turn[int(rule.considered[0])]
                served = turn[min(count - 1, len(turn) - 1)]
                legal = legal & (visits == served)
                sigma = (rule.c_visit + visits.max()) * rule.c_scale * scale
                value, bonus = sigma * (np.where(tried, q, low) - low), rule.root_score[0].astype(np.float64)
        value, bonus = np.where(legal, value, 0.0), np.where(legal, bonus, 0.0)
        return Weighed(value, bonus, np.where(legal, value + bonus, -np.inf))

    def improved(self, node: int) -> np.ndarray:
        """π' of a node (Danihelka et al. 2022, eq. 11 and 33), float64 [A]."""
        tree, rule = self.tree, self.rule
        prior, visits, q = tree.prior[node].astype(np.float64), tree.visits[node], tree.q[node].astype(np.float64)
        legal, tried = prior >= 0, visits > 0
        count, (low, high) = int(tree.links[node, SEEN]), tree.span.astype(np.float64)
        value = float(tree.stats[node, VALUE])
        if tried.any():
            value = (value + (count - 1) * (prior[tried] @ q[tried]) / prior[tried].sum()) / count
        sigma = (rule.c_visit + visits.max()) * rule.c_scale / (high - low) if high > low else 0.0
        completed = np.where(tried, q, value)
        weight = np.where(legal, prior, 0.0) * np.exp(sigma * (completed - completed[legal].max()))
        return weight / weight.sum()


class Growing:
    """A search that can be stopped after any number of its simulations.

    :param simulator: what is searched
    :param evaluate: the network or its stand-in; None: UCT with one rollout a leaf
    :param selection: "uct", "puct" or "gumbel"
    :param budget: simulations in all, which Gumbel's halving divides
    :param explore: c1 of PUCT, c of UCT
    :param seed: of rollouts and noise
    :param noise: whether the root is stirred (PUCT: Dirichlet, Gumbel: its draws)
    """

    def __init__(
        self,
        simulator: LawSimulator,
        evaluate: Callable[[np.ndarray], Any] | Any,
        selection: str,
        budget: int,
        explore: float,
        seed: int,
        noise: bool,
    ) -> None:
        self.search = _Watched(
            simulator, evaluate, budget, selection, c_init=explore, c_uct=explore, value_range=(-1.0, 1.0)
        )  # every return of the lab's worlds lies between −1 and 1
        self.budget, self.seed, self.noise = budget, seed, noise

    def after(self, root: np.ndarray, t: int) -> Grown:
        """The tree after ``t`` simulations.

        :param root: one root, as the simulator takes it
        :param t: from 0 to the budget
        """
        search = self.search
        search.seed(self.seed)
        search.n_simulations = max(1, t)  # stopped early: schedule and tables stay those of the whole budget
        try:
            found = search.search(root, noise=self.noise)
            assert search._tree is not None
            used = int(search._tree.row[0, USED])
            kept = {"span": search._tree.span[0], "path": search._tree.path[0], "row": search._tree.row[0]}
            arrays = {name: getattr(search._tree, name)[0, :used] for name in Tree._fields if name not in kept} | kept
            tree = Tree(**{name: array.copy() for name, array in arrays.items()})
            states = search._states[0, :used].copy()
        finally:
            search.n_simulations = self.budget
            search._forget()
        ended = tree.stats[:, DISCOUNT] == 0.0
        tree.q[tree.visits == 0] = 0.0  # what no visit has written is no number
        tree.prior[ended] = -1.0  # nothing is chosen where the episode is over
        value = float(found.values[0])
        if t == 0:
            tree, states, value = self._unvisited(tree), states[:1], float(tree.stats[0, VALUE])
        return Grown(tree, states, search.rule, value)

    def _unvisited(self, tree: Tree) -> Tree:
        """The root as it was before the first simulation."""
        tree = tree._replace(**{name: getattr(tree, name)[:1] for name in ("prior", "visits", "q", "child", "links", "stats")})
        tree.visits[:], tree.child[:], tree.links[0, SEEN] = 0, -1, 1
        tree.stats[0, SUM] = tree.stats[0, VALUE]
        tree.span[:] = self.search.value_range
        return tree
