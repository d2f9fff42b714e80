"""The search tree as arrays ``[batch, node, action]``, and the compiled selection and backup that work on it.

No Python object stands for a node. Row b of the batch is a tree of its own; its node 0 is the root, and new nodes take the
next free index, so a child's index is larger than its parent's. An edge (node, action) keeps the visit count N, the sum W of
the returns seen through it and the prior P; its value is Q = W / N. A node keeps the reward r and the *discount* of the step
that entered it: γ for one player, −1 between two (the value of the side to move next is the mover's loss), 0 where the game
ended. So termination and zero-sum play need no branches: a return is ``r + discount * value`` (Schrittwieser et al. 2020,
https://arxiv.org/abs/1911.08265, appendix B, eq. 3, with Λ for this discount).

Selection, one function each:
- PUCT, Schrittwieser et al. 2020, eq. 2, on values normalised by the least and largest Q of the tree (eq. 5);
- Gumbel, Danihelka et al. 2022 (https://openreview.net/forum?id=bERaNdoegnO): sequential halving at the root (algorithm 2),
  eq. 14 below it;
- UCT, Kocsis and Szepesvári 2006, UCB1 with unvisited actions first, on values as they are.

Deviations: the range of eq. 5 starts at the root's own value; an edge without visits counts as the mean value of its node
rather than 0 (``first_play="lowest"`` restores the paper's pseudo-code); counts below the root include the node's own
evaluation, as in the pseudo-code, so that the first choice in a node follows its prior.
"""

from typing import NamedTuple

import numpy as np
from numba import njit

PUCT, GUMBEL, UCT = 0, 1, 2
ILLEGAL = np.float32(-1.0)  # in place of a prior
SMALLEST = 1e-30  # least prior of a legal action: log(prior) stays finite


class Tree(NamedTuple):
    """B trees of at most M nodes with A actions; D is the longest path.

    :param prior: float32 [B, M, A], P, or −1 where an action is illegal
    :param visits: int32 [B, M, A], N
    :param total: float32 [B, M, A], W
    :param child: int32 [B, M, A], node an edge leads to (of several, the newest), −1 none
    :param parent: int32 [B, M]
    :param sibling: int32 [B, M], next outcome of the same edge, −1 none (chance alone makes more than one)
    :param count: int32 [B, M], 1 (the node's own evaluation) + visits through it
    :param sum: float32 [B, M], sum of the values that ``count`` counts
    :param value: float32 [B, M], the node's own evaluation
    :param reward: float32 [B, M], of the step into the node, to its mover
    :param discount: float32 [B, M], of that step; 0: the end
    :param used: int32 [B], nodes in use
    :param low: float32 [B], least Q seen
    :param high: float32 [B], largest Q seen
    :param path: int32 [B, D], nodes from the root to the leaf of the simulation at hand
    :param moves: int32 [B, D], actions taken there
    :param depth: int32 [B], edges of the path; −1: the row is idle
    :param fresh: bool [B], whether the leaf is new and waits for its evaluation
    """

    prior: np.ndarray
    visits: np.ndarray
    total: np.ndarray
    child: np.ndarray
    parent: np.ndarray
    sibling: np.ndarray
    count: np.ndarray
    sum: np.ndarray
    value: np.ndarray
    reward: np.ndarray
    discount: np.ndarray
    used: np.ndarray
    low: np.ndarray
    high: np.ndarray
    path: np.ndarray
    moves: np.ndarray
    depth: np.ndarray
    fresh: np.ndarray


class Rule(NamedTuple):
    """How to select.

    :param kind: PUCT, GUMBEL or UCT
    :param c_init: c1 of PUCT's eq. 2, or the constant of UCT
    :param c_base: c2 of eq. 2
    :param pessimist: whether an edge without visits has the least value rather than its node's mean
    :param c_visit: of Gumbel's eq. 8
    :param c_scale: of Gumbel's eq. 8
    :param root_score: float32 [B, A], Gumbel draw + log prior at the root, −inf where illegal ([0, 0] otherwise)
    :param turn: int32 [K + 1, n_simulations]; row k says which visit count to serve with k actions considered
    :param considered: int32 [B], k of each row
    """

    kind: int
    c_init: float
    c_base: float
    pessimist: bool
    c_visit: float
    c_scale: float
    root_score: np.ndarray
    turn: np.ndarray
    considered: np.ndarray


def tree_bytes(batch: int, nodes: int, n_actions: int, depth: int) -> int:
    """Return the memory of ``new_tree`` in bytes."""
    return batch * (nodes * (16 * n_actions + 28) + 8 * depth + 20)


def new_tree(batch: int, nodes: int, n_actions: int, depth: int) -> Tree:
    """Allocate B trees of M nodes with A actions and paths of ``depth``; nodes are written when they come into use."""
    edges, rows = (batch, nodes, n_actions), (batch, nodes)
    return Tree(
        prior=np.empty(edges, np.float32),
        visits=np.empty(edges, np.int32),
        total=np.empty(edges, np.float32),
        child=np.empty(edges, np.int32),
        parent=np.empty(rows, np.int32),
        sibling=np.empty(rows, np.int32),
        count=np.empty(rows, np.int32),
        sum=np.empty(rows, np.float32),
        value=np.empty(rows, np.float32),
        reward=np.empty(rows, np.float32),
        discount=np.empty(rows, np.float32),
        used=np.zeros(batch, np.int32),
        low=np.empty(batch, np.float32),
        high=np.empty(batch, np.float32),
        path=np.empty((batch, depth), np.int32),
        moves=np.empty((batch, depth), np.int32),
        depth=np.full(batch, -1, np.int32),
        fresh=np.zeros(batch, np.bool_),
    )


def halving_schedule(n_simulations: int, max_considered: int) -> np.ndarray:
    """Return which visit count sequential halving serves at every simulation (Danihelka et al. 2022, algorithm 2).

    With k actions considered there are ⌈log2 k⌉ phases; each gives every action left the same number of visits,
    ⌊n / (⌈log2 k⌉ · actions left)⌋ and at least one, then the worse half leaves; two stay to the end. To visit the best of
    the actions whose count is ``turn[k, t]`` at simulation t is the same thing: actions that left have smaller counts.

    :param n_simulations: n
    :param max_considered: largest k
    :return: int32 [max_considered + 1, n]; row 0 is unused
    """
    turn = np.zeros((max_considered + 1, n_simulations), np.int32)
    for k in range(1, max_considered + 1):
        phases = max(1, int(np.ceil(np.log2(k))))
        order: list[int] = []
        left, done = k, 0  # actions left, visits each of them has
        while len(order) < n_simulations:
            each = max(1, n_simulations // (phases * left)) if k > 1 else n_simulations
            for visit in range(done, done + each):
                order += [visit] * left
            done, left = done + each, max(2, left // 2) if k > 1 else 1
        turn[k] = order[:n_simulations]
    return turn


@njit(cache=True, inline="always")
def clear_node(tree, b, node, parent, reward, discount):  # type: ignore[no-untyped-def]
    """Write a node without visits; its priors and value follow."""
    for a in range(tree.visits.shape[2]):
        tree.visits[b, node, a] = 0
        tree.total[b, node, a] = 0.0
        tree.child[b, node, a] = -1
    tree.parent[b, node] = parent
    tree.sibling[b, node] = -1
    tree.count[b, node] = 1
    tree.sum[b, node] = 0.0
    tree.value[b, node] = 0.0
    tree.reward[b, node] = reward
    tree.discount[b, node] = discount


@njit(cache=True)
def _puct(prior, visits, total, count, mean, low, high, rule):  # type: ignore[no-untyped-def]
    """Return the action of PUCT in one node: rows [A] of its edges."""
    scale = 1.0 / (high - low) if high > low else 0.0
    unvisited = 0.0 if rule.pessimist else (mean - low) * scale
    # eq. 2: Q + P · √ΣN / (1 + N) · (c1 + log((ΣN + c2 + 1) / c2)), with count = 1 + ΣN
    explore = np.sqrt(count) * (rule.c_init + np.log((count + rule.c_base) / rule.c_base))
    best, choice = -np.inf, -1
    for a in range(prior.shape[0]):
        if prior[a] >= 0.0:
            n = visits[a]
            q = (total[a] / n - low) * scale if n > 0 else unvisited  # eq. 5
            score = q + prior[a] * explore / (1.0 + n)
            if score > best:
                best, choice = score, a
    return choice


@njit(cache=True)
def _uct(prior, visits, total, count, c):  # type: ignore[no-untyped-def]
    """Return the action of UCB1, Q + c √(ln ΣN / N); unvisited actions come first, in their order."""
    log_count = np.log(np.float32(count - 1))
    best, choice = np.float32(-np.inf), -1
    for a in range(prior.shape[0]):
        if prior[a] >= 0.0:
            n = np.float32(visits[a])
            if n == 0:
                return a
            score = total[a] / n + np.float32(c) * np.sqrt(log_count / n)
            if score > best:
                best, choice = score, a
    return choice


@njit(cache=True)
def completed_value(prior, visits, total, count, value):  # type: ignore[no-untyped-def]
    """Return v_mix (Danihelka et al. 2022, eq. 33), the value that stands in for the actions without visits."""
    weight, mixed = 0.0, 0.0
    for a in range(prior.shape[0]):
        if visits[a] > 0:
            weight += prior[a]
            mixed += prior[a] * (total[a] / visits[a])
    return (value + (count - 1) * mixed / weight) / count if weight > 0.0 else value


@njit(cache=True)
def _gumbel(prior, visits, total, count, value, low, high, rule):  # type: ignore[no-untyped-def]
    """Return the action of eq. 14 in one node below the root: argmax π'(a) − N(a) / (1 + ΣN)."""
    n_actions = prior.shape[0]
    most = 0
    for a in range(n_actions):
        most = max(most, visits[a])
    # σ(q) = (c_visit + max N) c_scale q (eq. 8) on normalised values
    sigma = (rule.c_visit + most) * rule.c_scale / (high - low) if high > low else 0.0
    v_mix = completed_value(prior, visits, total, count, value)
    top = v_mix
    for a in range(n_actions):
        if visits[a] > 0:
            top = max(top, total[a] / visits[a])
    blank = np.exp(sigma * (v_mix - top))  # of all actions without visits
    mass = 0.0
    for a in range(n_actions):
        if prior[a] >= 0.0:  # π'(a) ∝ P(a) exp σ(completed Q) (eq. 11 with logits = log P)
            mass += prior[a] * (np.exp(sigma * (total[a] / visits[a] - top)) if visits[a] > 0 else blank)
    best, choice = -np.inf, -1
    for a in range(n_actions):
        if prior[a] >= 0.0:
            n = visits[a]
            score = prior[a] * (np.exp(sigma * (total[a] / n - top)) if n > 0 else blank) / mass - n / np.float64(count)
            if score > best:
                best, choice = score, a
    return choice


@njit(cache=True)
def _gumbel_root(visits, total, prior, low, high, rule, b, served):  # type: ignore[no-untyped-def]
    """Return the root's action with N = served that is best by g + logits + σ(q) (algorithm 2)."""
    most = 0
    for a in range(visits.shape[0]):
        most = max(most, visits[a])
    sigma = (rule.c_visit + most) * rule.c_scale / (high - low) if high > low else 0.0
    best, choice = -np.inf, -1
    for a in range(visits.shape[0]):
        if prior[a] >= 0.0 and visits[a] == served:
            # all actions served alike have visits, or none has: a common value would change nothing
            score = rule.root_score[b, a] + (sigma * (total[a] / visits[a] - low) if served > 0 else 0.0)
            if choice < 0 or score > best:
                best, choice = score, a
    return choice


@njit(cache=True, inline="always")
def select(tree, b, node, rule):  # type: ignore[no-untyped-def]
    """Return the action to follow from a node of row b."""
    prior, visits, total = tree.prior[b, node], tree.visits[b, node], tree.total[b, node]
    count, low, high = tree.count[b, node], tree.low[b], tree.high[b]
    if rule.kind == PUCT:
        return _puct(prior, visits, total, count, tree.sum[b, node] / count, low, high, rule)
    if rule.kind == UCT:
        return _uct(prior, visits, total, count, rule.c_init)
    if node > 0:
        return _gumbel(prior, visits, total, count, tree.value[b, node], low, high, rule)
    return _gumbel_root(visits, total, prior, low, high, rule, b, rule.turn[rule.considered[b], count - 1])


@njit(cache=True, inline="always")
def set_prior(tree, b, node, logits):  # type: ignore[no-untyped-def]
    """Write the softmax of logits [A] over the actions that are not marked ILLEGAL."""
    top = np.float32(-np.inf)
    n_actions = logits.shape[0]
    for a in range(n_actions):
        if tree.prior[b, node, a] >= 0.0:
            top = max(top, logits[a])
    mass = np.float32(0.0)
    for a in range(n_actions):
        if tree.prior[b, node, a] >= 0.0:
            p = np.float32(np.exp(logits[a] - top)) + np.float32(SMALLEST)
            tree.prior[b, node, a] = p
            mass += p
    for a in range(n_actions):
        if tree.prior[b, node, a] >= 0.0:
            tree.prior[b, node, a] /= mass


@njit(cache=True, inline="always")
def backup(tree, b, leaf_value):  # type: ignore[no-untyped-def]
    """Carry the leaf's value up the path of row b (Schrittwieser et al. 2020, eq. 3 and 4)."""
    depth = tree.depth[b]
    node = tree.path[b, depth]
    value = np.float32(leaf_value)
    tree.count[b, node] += not tree.fresh[b]  # a new leaf has counted itself
    tree.sum[b, node] += value
    if tree.fresh[b]:
        tree.value[b, node] = value
    for i in range(depth - 1, -1, -1):
        value = tree.reward[b, node] + tree.discount[b, node] * value  # G = r + γ G
        node, action = tree.path[b, i], tree.moves[b, i]
        tree.visits[b, node, action] += 1
        tree.total[b, node, action] += value
        tree.count[b, node] += 1
        tree.sum[b, node] += value
        q = tree.total[b, node, action] / tree.visits[b, node, action]
        tree.low[b] = min(tree.low[b], q)
        tree.high[b] = max(tree.high[b], q)


@njit(cache=True)
def open_roots(tree, logits, values, kept, low, high):  # type: ignore[no-untyped-def]
    """Give the roots their evaluation; rows kept from the last search take its priors alone.

    :param low: where the range of values begins, with ``high``; the root's own value where low > high
    """
    for b in range(values.shape[0]):
        set_prior(tree, b, 0, logits[b])
        if not kept[b]:
            tree.value[b, 0] = tree.sum[b, 0] = values[b]
            tree.low[b] = min(low, values[b]) if low <= high else values[b]
            tree.high[b] = max(high, values[b]) if low <= high else values[b]


@njit(cache=True)
def improved_policy(tree, rule, out):  # type: ignore[no-untyped-def]
    """Write π' of every root (Danihelka et al. 2022, eq. 11): out float32 [B, A]."""
    for b in range(out.shape[0]):
        prior, visits, total = tree.prior[b, 0], tree.visits[b, 0], tree.total[b, 0]
        low, high = tree.low[b], tree.high[b]
        v_mix = completed_value(prior, visits, total, tree.count[b, 0], tree.value[b, 0])
        sigma = (rule.c_visit + visits.max()) * rule.c_scale / (high - low) if high > low else 0.0
        top = -np.inf
        for a in range(out.shape[1]):
            if prior[a] >= 0.0:
                top = max(top, np.log(prior[a]) + sigma * (total[a] / visits[a] if visits[a] > 0 else v_mix))
        mass = 0.0
        for a in range(out.shape[1]):
            out[b, a] = 0.0
            if prior[a] >= 0.0:
                out[b, a] = np.exp(np.log(prior[a]) + sigma * (total[a] / visits[a] if visits[a] > 0 else v_mix) - top)
                mass += out[b, a]
        for a in range(out.shape[1]):
            out[b, a] /= mass
