"""Monte-Carlo tree search, one implementation for all: batched, compiled, for games, tabular MDPs, envs and learned models.

    search = MCTS(GameSimulator(ConnectFour()), network.evaluate, n_simulations=50)   # AlphaZero's
    result = search.search(states, noise=True)                                        # int [B, state_size]
    search = RolloutSearch(TicTacToe(), n_simulations=1000)                           # UCT, no network

A simulation selects a path from the root to a new leaf, evaluates the leaf and backs the value up (Sutton & Barto 2018,
section 8.11). ``tree`` holds selection and backup with their equations, ``simulators`` what can be searched,
``law_kernels`` and ``model_kernels`` the compiled loops:

- no ``evaluate``: UCT with random rollouts (Kocsis and Szepesvári 2006), wholly inside one kernel;
- a ``CompiledMLP``: PUCT or Gumbel, network and all inside one kernel, row after row or a few rows in step;
- a ``CompiledModel``: the same for a small learned model;
- any other ``evaluate`` or learned model: one call a simulation for the whole batch.

PUCT is Schrittwieser et al. 2020 (https://arxiv.org/abs/1911.08265), Gumbel Danihelka et al. 2022
(https://openreview.net/forum?id=bERaNdoegnO). Deviations: those in ``tree``; and ``n_simulations`` counts the visits
of the root, those of a tree kept from the last move included (AlphaGo Zero adds them), so that memory is bounded.
"""

import logging
import math
from typing import Any, NamedTuple

import numpy as np

from sb3_lecture.common.checks import Choice, Integer, Real, as_numbers, check_arguments, keywords_of
from sb3_lecture_envs.board.game import Game

from .compiled_mlp import DIVERGED, TOGETHER, CompiledMLP, aligned
from .law_kernels import ASK, COMPUTE, ROLL_OUT, grow, grow_together, keep_subtrees, plant
from .model_kernels import explore, imagine, imagine_together
from .simulators import STATE, CompiledModel, Evaluate, GameSimulator, LawSimulator, Root
from .tree import (
    BAD_PRIOR,
    BAD_REWARD,
    BAD_VALUE,
    DISCOUNT,
    FAULT,
    GUMBEL,
    HIGH,
    LOW,
    NO_MOVE,
    PUCT,
    REWARD,
    SEEN,
    SIBLING,
    SUM,
    UCT,
    Rule,
    Tree,
    exploration_table,
    halving_schedule,
    improved_policy,
    new_tree,
    open_roots,
    tree_bytes,
)

logger = logging.getLogger(__name__)

FEW_ROWS = 8  # up to so many a row after the other is fastest, in a compiled network of any size; more go in step
CACHED_BYTES = 1 << 20  # weights that stay in a core's cache: the compiled network then serves any number of rows

NO_NETWORK = CompiledMLP([np.zeros((1, 1))], [np.zeros(1)])  # fills the kernel's arguments where there is none


class SearchResult(NamedTuple):
    """What a search found at the roots.

    :param actions: int [B], the moves to play
    :param policy: float32 [B, A], the improved policy to learn: visit shares (PUCT, UCT), or π' of eq. 11 (Gumbel)
    :param visits: int32 [B, A]
    :param q: float32 [B, A], values of the actions; the root's own value where there was no visit
    :param values: float32 [B], of the roots for the side to move
    :param prior: float32 [B, A], the priors searched with, noise included; 0 where illegal
    """

    actions: np.ndarray
    policy: np.ndarray
    visits: np.ndarray
    q: np.ndarray
    values: np.ndarray
    prior: np.ndarray


class MCTS:
    """A batched tree search. It pickles without its trees.

    :param simulator: what to look ahead in: GameSimulator, TabularSimulator, ModelSimulator,
        CompiledModel or EnvSimulator
    :param evaluate: observations float32 [B, …] -> (logits [B, A], values [B]), or a CompiledMLP with A + 1 outputs; None:
        rollouts (games, MDPs), or the model's own evaluation (ModelSimulator, EnvSimulator)
    :param n_simulations: visits of the root (default 50)
    :param selection: "puct" (default), "gumbel" or "uct"; without ``evaluate`` games and MDPs are searched by "uct"
    :param c_init: c1 of PUCT (default 1.25)
    :param c_base: c2 of PUCT (default 19652)
    :param c_uct: constant of UCT, for returns as they are (default √2)
    :param first_play: value of an action without visits in PUCT: "parent" (its node's mean, default) or "lowest"
    :param value_range: (low, high) of the values if known, where the normalisation begins; None: the range met in the tree
    :param dirichlet_alpha: of PUCT's root noise (default 0.3)
    :param dirichlet_fraction: weight of the noise in the priors (default 0.25)
    :param max_considered_actions: sequential halving's m (default 16)
    :param c_visit: of Gumbel's σ, eq. 8 (default 50)
    :param c_scale: of Gumbel's σ, eq. 8 (default 0.1, mctx's ``value_scale``; the paper has 1.0 in Go and chess, 0.1 in Atari)
    :param rollout_length: most steps of a rollout; None: 10,000, more than any game here lasts
    :param max_memory: most bytes the trees may take (default 4 GiB)
    :param seed: of noise, rollouts and chance
    :param verbose: 1 prints the memory before it is allocated; it is logged (``logging``, INFO) in any case
    :raises ValueError: for an argument out of range
    """

    def __init__(
        self,
        simulator: Any,
        evaluate: Evaluate | CompiledMLP | None = None,
        n_simulations: int = 50,
        selection: str | None = None,
        c_init: float = 1.25,
        c_base: float = 19652.0,
        c_uct: float = 2**0.5,
        first_play: str = "parent",
        value_range: tuple[float, float] | None = None,
        dirichlet_alpha: float = 0.3,
        dirichlet_fraction: float = 0.25,
        max_considered_actions: int = 16,
        c_visit: float = 50.0,
        c_scale: float = 0.1,
        rollout_length: int | None = None,
        max_memory: int = 4 << 30,
        seed: int | None = None,
        verbose: int = 0,
    ) -> None:
        number = Real(0)
        check_arguments(
            locals(), n_simulations=Integer(1, 2**31 - 2), c_init=number, c_base=Real(above=0), c_uct=number, c_visit=number,
            c_scale=number, first_play=Choice("parent", "lowest"), dirichlet_alpha=Real(above=0),
            dirichlet_fraction=Real(0, 1),
            max_considered_actions=Integer(1), rollout_length=Integer(1, none=True), max_memory=Integer(1),
        )  # fmt: skip
        self.is_law = hasattr(simulator, "law")
        rollouts = self.is_law and evaluate is None
        selection = selection or ("uct" if rollouts else "puct")
        kinds = {"puct": PUCT, "gumbel": GUMBEL, "uct": UCT}
        if not isinstance(selection, str) or selection not in kinds:
            raise ValueError(f"selection={selection!r} is unknown. Choose one of {sorted(kinds)}.")
        if rollouts != (selection == "uct") and self.is_law:
            raise ValueError(f"selection={selection!r} does not go {'without' if rollouts else 'with'} evaluate. Rollouts are "
                             "searched by 'uct', networks by 'puct' or 'gumbel'.")  # fmt: skip
        if not self.is_law and evaluate is not None:
            raise ValueError("A model evaluates its own states: leave evaluate out (EnvSimulator takes it as an argument).")
        if value_range is not None:
            numbers = as_numbers("value_range", value_range)
            if numbers.shape != (2,) or not -math.inf < numbers[0] <= numbers[1] < math.inf:
                raise ValueError(f"{value_range=} must be two finite numbers, the smaller first.")
        if isinstance(evaluate, CompiledMLP) and evaluate.n_out != simulator.n_actions + 1:
            raise ValueError(
                f"The network has {evaluate.n_out} outputs; a search over {simulator.n_actions} actions reads "
                f"{simulator.n_actions + 1}: the logits, then the value."
            )
        self.simulator, self.evaluate, self.n_simulations = simulator, evaluate, int(n_simulations)
        self.kind, self.pessimist = kinds[selection], first_play == "lowest"
        self.c_init, self.c_base, self.c_uct = float(c_init), float(c_base), float(c_uct)
        self.value_range = (1.0, 0.0) if value_range is None else (float(value_range[0]), float(value_range[1]))
        self.dirichlet_alpha, self.dirichlet_fraction = dirichlet_alpha, dirichlet_fraction
        self.c_visit, self.c_scale = float(c_visit), float(c_scale)
        self.rollout_length = 10_000 if rollout_length is None else int(rollout_length)
        self.max_memory, self.verbose = max_memory, verbose
        self.rng = np.random.default_rng(seed)
        self.n_actions: int = simulator.n_actions
        self.max_considered = min(max_considered_actions, self.n_actions)
        turn = halving_schedule(self.n_simulations, self.max_considered) if self.kind == GUMBEL else np.zeros((1, 1), np.int32)
        self._turn = turn
        c = self.c_uct if self.kind == UCT else self.c_init
        self._explore = exploration_table(self.kind, self.n_simulations, c, self.c_base)
        self._forget()

    def _forget(self) -> None:
        """Drop the trees."""
        self._capacity = 0
        self._tree: Tree | None = None
        self._states = np.zeros((0, 0, 0), np.int64)
        self._observations = np.zeros((0, 0), np.float32)
        self._embeddings = np.zeros((0, 0), np.float32)
        self._kept = np.zeros(0, np.bool_)  # rows that search() may take up again

    def __getstate__(self) -> dict[str, Any]:
        dropped = ("_tree", "_states", "_observations", "_embeddings", "_kept", "_capacity")
        return {key: value for key, value in self.__dict__.items() if key not in dropped}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._forget()

    def seed(self, seed: int) -> None:
        """Start the draws anew."""
        self.rng = np.random.default_rng(seed)

    def memory(self, batch: int) -> int:
        """Return the bytes that trees for ``batch`` rows take."""
        nodes = self.n_simulations + 1
        total = tree_bytes(batch, nodes, self.n_actions, nodes)
        if self.is_law:
            sim: LawSimulator = self.simulator
            total += batch * nodes * sim.state_size * np.dtype(sim.state_dtype).itemsize
            total += 0 if self.evaluate is None else 4 * batch * int(np.prod(sim.observation_shape))
        return total

    def _reserve(self, batch: int) -> None:
        """Make room for ``batch`` rows, within ``max_memory``."""
        if batch <= self._capacity:
            return
        need = self.memory(batch)
        text = (
            f"{need / 2**20:.1f} MiB for {batch} trees of {self.n_simulations + 1} nodes with {self.n_actions} actions "
            f"(embeddings of a learned model not counted)"
        )
        if need > self.max_memory:
            raise ValueError(f"The search needs {text}, over max_memory={self.max_memory}. Search fewer rows or simulations.")
        logger.info("search: %s", text)
        if self.verbose:
            print(f"search: {text}")
        nodes, self._capacity = self.n_simulations + 1, batch
        self._tree = new_tree(batch, nodes, self.n_actions, nodes)
        self._kept = np.zeros(batch, np.bool_)
        if self.is_law:
            sim: LawSimulator = self.simulator
            self._states = np.empty((batch, nodes, sim.state_size), sim.state_dtype)
            self._observations = np.zeros((batch, *sim.observation_shape), np.float32)

    def _rule(self, root_score: np.ndarray, considered: np.ndarray) -> Rule:
        return Rule(self.kind, self._explore, self.pessimist, self.c_visit, self.c_scale, root_score, self._turn, considered)

    def search(
        self,
        roots: np.ndarray | Root,
        legal: np.ndarray | None = None,
        noise: bool = False,
        temperature: float = 0.0,
    ) -> SearchResult:
        """Search from B states.

        :param roots: states int [B, state_size] of a game, states int [B] of an MDP, a Root of a model or an EnvSimulator
        :param legal: bool [B, A], moves allowed at the roots beyond the simulator's own rules (Go's superko; a model knows
            no rules at all); None: all
        :param noise: whether to explore at the root: Dirichlet noise (PUCT) or Gumbel draws (default False)
        :param temperature: of PUCT's and UCT's choice: 0 takes the most visited action (default), τ draws in proportion to
            visits^(1/τ); Gumbel's choice is algorithm 2's
        :raises ValueError: for a state whose episode is over or that allows no action, too much memory, or a logit, value or
            reward that is no finite number
        """
        if not 0 <= temperature < math.inf:
            raise ValueError(f"{temperature=} must be a number of at least 0.")
        rows = self.simulator.roots(roots) if self.is_law else None
        batch = len(rows) if rows is not None else len(roots.values)  # type: ignore[union-attr]
        if legal is not None and np.shape(legal) != (batch, self.n_actions):
            raise ValueError(f"legal has shape {np.shape(legal)}, not {(batch, self.n_actions)}.")
        self._reserve(batch)
        assert self._tree is not None
        tree = Tree(*(array[:batch] for array in self._tree))
        kept = self._kept[:batch].copy()
        self._kept[:] = False
        if rows is not None:
            kept &= self._same_states(self._states[:batch, 0], rows)
            if legal is not None:  # what a kept tree found behind a forbidden move must not count
                kept &= ~((tree.visits[:, 0] > 0) & ~np.asarray(legal, np.bool_)).any(axis=1)
            self._open_law(tree, rows, kept, legal)
        else:
            self._open_model(tree, roots, legal)  # type: ignore[arg-type]
        self._check(tree, "at the root")
        rule = self._prepare(tree, noise)
        seeds = self.rng.integers(1, 2**63, batch).astype(np.uint64)
        if rows is None:
            self._run_model(tree, roots, rule)  # type: ignore[arg-type]
        else:
            self._run_law(tree, batch, rule, seeds)
        self._check(tree, "in a state that the search met")
        return self._result(tree, rule, temperature)

    def __call__(self, states: np.ndarray) -> np.ndarray:
        """Return the visit counts of a search without noise, float [B, A] (what ``common.opponents`` asks for)."""
        return self.search(states).visits.astype(np.float64)

    # ---- the parts of a search

    def _check(self, tree: Tree, where: str) -> None:
        """Say what was not finite, and where: such a tree holds nothing to play by."""
        faults = tree.row[:, FAULT]
        if faults.any():
            row = int((faults != 0).argmax())
            kind = int(faults[row])
            if kind == NO_MOVE:
                raise ValueError(f"{self.simulator!r} allows no action in a state that is not over, below row {row}.")
            source = "the model" if not self.is_law else "a rollout" if self.evaluate is None else "the network"
            what = {
                BAD_PRIOR: f"the logits of {source}, which become the priors,",
                BAD_VALUE: f"the value of {source}",
                BAD_REWARD: "a reward, or a sum of rewards and values,",
            }[kind]
            raise ValueError(f"In row {row} of the search {what} is not finite {where}. {DIVERGED}")
        with np.errstate(over="ignore"):
            wide = ~np.isfinite(tree.span[:, HIGH] - tree.span[:, LOW])
        if wide.any():
            row = int(wide.argmax())
            low, high = tree.span[row].tolist()
            raise ValueError(
                f"In row {row} of the search values reach from {low} to {high}, too far for float32: scale rewards."
            )

    def _open_law(self, tree: Tree, rows: np.ndarray, kept: np.ndarray, legal: np.ndarray | None) -> None:
        batch = len(rows)
        row = plant(self.simulator.law, tree, self._states[:batch], rows, kept, self._observations[:batch])
        if row >= 0:
            raise ValueError(f"The episode of row {row} is over: state {rows[row].tolist()}. Search unfinished ones only.")
        self._strike(tree, legal)
        if self.evaluate is not None:
            logits, values = self._ask(self._observations[:batch])
            open_roots(tree, logits, values, kept, *self.value_range)

    def _open_model(self, tree: Tree, root: Root, legal: np.ndarray | None) -> None:
        batch = len(root.values)
        tree.prior[:, 0] = 1.0
        tree.visits[:, 0], tree.child[:, 0] = 0, -1
        tree.links[:, 0], tree.row[:] = (-1, -1, 1), (1, -1, 0, 0)  # PARENT, SIBLING, SEEN; USED, DEPTH, FRESH, FAULT
        tree.stats[:, 0, REWARD], tree.stats[:, 0, DISCOUNT] = 0.0, 1.0
        self._strike(tree, legal)
        logits, values = self._shaped("Root", batch, _float32(root.logits), _float32(root.values))
        open_roots(tree, logits, values, np.zeros(batch, np.bool_), *self.value_range)

    @staticmethod
    def _strike(tree: Tree, legal: np.ndarray | None) -> None:
        """Mark the moves that the caller forbids."""
        if legal is None:
            return
        tree.prior[:, 0][~np.asarray(legal, np.bool_)] = -1.0
        none = (tree.prior[:, 0] < 0).all(axis=1)
        if none.any():
            raise ValueError(f"Row {int(none.argmax())} allows no action. Give every row at least one.")

    def _ask(self, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        evaluate: Any = self.evaluate
        logits, values = (evaluate.evaluate if isinstance(evaluate, CompiledMLP) else evaluate)(observations)
        return self._shaped("evaluate", len(observations), _float32(logits), _float32(values).reshape(-1))

    def _shaped(self, source: str, batch: int, logits: np.ndarray, values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Refuse answers of another shape, which the kernels would read beyond their end."""
        if logits.shape != (batch, self.n_actions) or values.shape != (batch,):
            wanted = f"[{batch}, {self.n_actions}] and [{batch}]"
            raise ValueError(f"{source} gave logits {logits.shape} and values {values.shape}, not {wanted}.")
        return logits, values

    def _prepare(self, tree: Tree, noise: bool) -> Rule:
        """Stir the roots' priors, or draw Gumbel's."""
        prior = tree.prior[:, 0]
        allowed = prior >= 0
        if self.kind == PUCT and noise:
            draws = self.rng.standard_gamma(self.dirichlet_alpha, prior.shape) * allowed + 1e-30 * allowed
            draws /= draws.sum(axis=1, keepdims=True)
            stirred = (1 - self.dirichlet_fraction) * prior + self.dirichlet_fraction * draws
            prior[allowed] = stirred[allowed]
        score, considered = np.zeros((0, 0), np.float32), np.zeros(0, np.int32)
        if self.kind == GUMBEL:
            draws = self.rng.gumbel(size=prior.shape) if noise else np.zeros(prior.shape)
            with np.errstate(divide="ignore", invalid="ignore"):
                score = np.where(allowed, draws + np.log(prior), -np.inf).astype(np.float32)  # g + logits
            considered = np.minimum(self.max_considered, allowed.sum(axis=1)).astype(np.int32)
        return self._rule(score, considered)

    def _run_law(self, tree: Tree, batch: int, rule: Rule, rng: np.ndarray) -> None:
        sim, states, observations = self.simulator, self._states[:batch], self._observations[:batch]
        law, discount, stochastic, n = sim.law, float(sim.discount), sim.stochastic, self.n_simulations
        network = self.evaluate
        compiled = isinstance(network, CompiledMLP) and (batch <= FEW_ROWS or network.nbytes <= CACHED_BYTES)
        how = ROLL_OUT if network is None else COMPUTE if compiled else ASK
        mlp = network if isinstance(network, CompiledMLP) else NO_NETWORK
        if how == COMPUTE and batch > FEW_ROWS:
            packed = (mlp.rows, mlp.layers, mlp.tanh, mlp.squash, mlp.packed)
            halves = aligned(2, TOGETHER * mlp.buffers.shape[1])
            grow_together(law, tree, states, observations, rule, discount, stochastic, rng, n, packed, halves)
            return
        parts = (mlp.rows, mlp.layers, mlp.tanh, mlp.squash, mlp.buffers, mlp.active)
        logits, values = np.zeros((batch, self.n_actions), np.float32), np.zeros(batch, np.float32)
        asked = n + 1 - int(tree.links[:, 0, SEEN].min()) if how == ASK else 0
        for i in range(asked + 1):
            grow(
                law, tree, states, observations, rule, discount, stochastic, rng, n, how, self.rollout_length, logits, values,
                parts,
            )  # fmt: skip
            if i < asked:
                logits, values = self._ask(observations)

    def _run_model(self, tree: Tree, root: Root, rule: Rule) -> None:
        batch, simulator = len(root.values), self.simulator
        compiled = isinstance(simulator, CompiledModel)
        first = np.asarray(root.embeddings, np.float32 if compiled else None)
        if compiled and first.shape != (batch, simulator.dynamics.n_out):
            raise ValueError(f"Latent states have shape {(batch, simulator.dynamics.n_out)}, not {first.shape}.")
        embeddings = self._room_for(first)
        embeddings[:, 0] = first
        if compiled and (batch <= FEW_ROWS or simulator.nbytes <= CACHED_BYTES):
            kernel = imagine_together if batch > FEW_ROWS else imagine
            kernel(tree, embeddings, rule, self.n_simulations, simulator.discount, *simulator.kernel_arguments)
            return
        actions, needed, at = np.zeros(batch, np.int64), np.zeros(batch, np.bool_), np.zeros_like(first)
        answer: tuple[np.ndarray, ...] = (at, *np.zeros((3, batch), np.float32), np.zeros((batch, self.n_actions), np.float32))
        for i in range(self.n_simulations + 1):
            explore(tree, embeddings, rule, self.n_simulations, actions, needed, at, *answer)
            if i < self.n_simulations:
                found, rewards, discounts, logits, values = simulator.expand(at, actions, needed)
                logits, values = self._shaped("The model", batch, _float32(logits), _float32(values).reshape(-1))
                found, rewards = np.ascontiguousarray(found, first.dtype), _float32(rewards)
                if found.shape != first.shape or rewards.shape != (batch,):
                    raise ValueError(
                        f"The model gave embeddings {found.shape} and rewards {rewards.shape}, not {first.shape}, [{batch}]."
                    )
                answer = found, rewards, _float32(np.broadcast_to(discounts, batch)), values, logits

    def _room_for(self, first: np.ndarray) -> np.ndarray:
        """Return an array [B, M, …] for the embeddings of all nodes, within ``max_memory``; the last search's if it fits."""
        shape = (len(first), self.n_simulations + 1, *first.shape[1:])
        if self._embeddings.shape != shape or self._embeddings.dtype != first.dtype:
            text = f"{math.prod(shape) * first.itemsize / 2**20:.1f} MiB for embeddings of {shape[0]} x {shape[1]} nodes"
            if math.prod(shape) * first.itemsize > self.max_memory:
                raise ValueError(
                    f"The search needs {text}, over max_memory={self.max_memory}. Search fewer rows or simulations."
                )
            logger.info("search: %s", text)
            if self.verbose:
                print(f"search: {text}")
            self._embeddings = np.empty(shape, first.dtype)
        return self._embeddings

    def _result(self, tree: Tree, rule: Rule, temperature: float) -> SearchResult:
        visits, prior = tree.visits[:, 0].copy(), np.maximum(tree.prior[:, 0], 0.0)
        n = visits.sum(axis=1, keepdims=True)
        if self.kind == UCT and self.is_law:
            values = (np.where(visits > 0, tree.q[:, 0], 0.0) * visits).sum(axis=1, dtype=np.float32) / n[:, 0]
        else:
            values = tree.stats[:, 0, SUM] / tree.links[:, 0, SEEN]
        q = np.where(visits > 0, tree.q[:, 0], values[:, None])
        if self.kind == GUMBEL:
            policy = np.zeros(prior.shape, np.float32)
            improved_policy(tree, rule, policy)
            sigma = (self.c_visit + visits.max(axis=1)) * self.c_scale
            span = tree.span[:, HIGH] - tree.span[:, LOW]
            scale = np.divide(sigma, span, out=np.zeros_like(sigma), where=span > 0)
            scores = rule.root_score + scale[:, None] * q  # algorithm 2's last line: argmax g + logits + σ(q) …
            actions = np.where(visits == visits.max(axis=1, keepdims=True), scores, -np.inf).argmax(axis=1)  # … of those left
        else:
            policy = (visits / n).astype(np.float32)
            if temperature > 0:
                with np.errstate(divide="ignore"):
                    scores = np.log(visits) / temperature + self.rng.gumbel(size=visits.shape)
                actions = scores.argmax(axis=1)
            else:
                actions = visits.argmax(axis=1)
        return SearchResult(actions, policy, visits, q, values, prior)

    # ---- from one move to the next

    def advance(self, actions: np.ndarray, states: np.ndarray | None = None) -> np.ndarray:
        """Keep the trees below the moves played; the next ``search`` takes them up where its roots are those states.

        :param actions: int [B], −1 where nothing is to be kept
        :param states: int [B], where they led, needed for an MDP with chance
        :return: bool [B], rows kept
        :raises ValueError: for Gumbel, whose sequential halving begins with an unvisited root, for a model or an env, or
            without states where there is chance
        """
        if self.kind == GUMBEL or not self.is_law:
            raise ValueError("Trees are kept for games and MDPs searched by 'puct' or 'uct' only.")
        if self.simulator.stochastic and states is None:
            raise ValueError("Say which states the actions led to: advance(actions, states).")
        batch = len(actions)
        if self._tree is None or batch > self._capacity:
            raise ValueError(f"The last search was not over {batch} rows. Call search first.")
        tree = Tree(*(array[:batch] for array in self._tree))
        actions = np.asarray(actions, np.int64)
        if (actions >= self.n_actions).any():
            raise ValueError(f"actions={actions.tolist()} go beyond {self.n_actions - 1}. Give the moves played, −1 for none.")
        tops = np.where(actions >= 0, tree.child[np.arange(batch), 0, actions], -1).astype(np.int32)
        if self.simulator.stochastic:
            wanted = np.asarray(states)
            for b in range(batch):
                while tops[b] >= 0 and self._states[b, tops[b], STATE] != wanted[b]:
                    tops[b] = tree.links[b, tops[b], SIBLING]
        kept = tops >= 0
        kept[kept] = tree.stats[kept, tops[kept], DISCOUNT] != 0  # the episode goes on
        keep_subtrees(tree, self._states[:batch], tops, kept, np.empty(self.n_simulations + 1, np.int32))
        self._kept[:] = False
        self._kept[:batch] = kept
        return kept

    def _same_states(self, ours: np.ndarray, given: np.ndarray) -> np.ndarray:
        if isinstance(self.simulator, GameSimulator):
            return (ours == given).all(axis=1)
        return ours[:, STATE] == given[:, STATE]


class RolloutSearch(MCTS):
    """UCT with random rollouts in a board game, without a network.

    :param game: the rules
    :param n_simulations: rollouts (default 1000)
    :param seed: of the rollouts
    :param kwargs: further arguments of MCTS
    """

    def __init__(self, game: Game, n_simulations: int = 1000, seed: int | None = None, **kwargs: Any) -> None:
        super().__init__(GameSimulator(game), None, n_simulations, seed=seed, **kwargs)


#: what the ``search_kwargs`` of a learner may hold: it gives the others itself
SEARCH_SETTINGS = [
    name for name in keywords_of(MCTS) if name not in ("simulator", "evaluate", "n_simulations", "selection", "seed")
]


def _float32(array: Any) -> np.ndarray:
    return np.ascontiguousarray(array, np.float32)
