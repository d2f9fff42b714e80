"""The search tree as arrays ``[batch, node, action]``, and the compiled selection and backup that work on it.

No Python object stands for a node. Row b of the batch is a tree of its own; its node 0 is the root, and new nodes take the
next free index, so a child's index is larger than its parent's. An edge (node, action) keeps the visit count N, the mean Q of
the returns seen through it and the prior P. A node keeps the reward r and the *discount* of the step
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
evaluation, as in the pseudo-code, so that the first choice in a node follows its prior. Of equal scores the lowest action is
taken, at the root and below it. Gumbel's σ normalises by the same range of the whole tree, where mctx takes the least and
largest completed Q of the node (``qtransform_completed_by_mix_value``): with a known range of values (``value_range``) a
difference of 1e-6 then stays one.

Whatever the numbers are, no index leaves its array: a choice among NaN is the first legal action, and what is not finite is
written down in ``row[b, FAULT]``, which ``MCTS`` turns into an error that names its source.
"""

from typing import Any, NamedTuple

import numpy as np
from numba import njit

PUCT, GUMBEL, UCT = 0, 1, 2
PARENT, SIBLING, SEEN = 0, 1, 2
SUM, VALUE, REWARD, DISCOUNT = 0, 1, 2, 3
LOW, HIGH = 0, 1
USED, DEPTH, FRESH, FAULT = 0, 1, 2, 3
NO_FAULT, BAD_PRIOR, BAD_VALUE, BAD_REWARD, NO_MOVE = 0, 1, 2, 3, 4
ILLEGAL = np.float32(-1.0)  # in place of a prior
SMALLEST = np.float32(1e-30)  # least prior of a legal action: log(prior) stays finite


#: compiles a function that allocates nothing without reference counts: numba otherwise counts every array argument up and down
#: (atomically) at each call, which takes longer than a choice among ten actions
uncounted: Any = njit(cache=True, _nrt=False, forceinline=True)  # type: ignore[call-overload]


class Tree(NamedTuple):
    """B trees of at most M nodes with A actions; D is the longest path. Few arrays, for every one costs a kernel's call.

    :param prior: float32 [B, M, A], P, or −1 where an action is illegal
    :param visits: int32 [B, M, A], N
    :param q: float32 [B, M, A], Q, where N > 0
    :param child: int32 [B, M, A], node an edge leads to (of several, the newest), −1 none
    :param links: int32 [B, M, 3] by PARENT (its index), SIBLING (next outcome of the same edge, −1 none; chance alone makes
        more than one) and SEEN (1, the node's own evaluation, + visits through it)
    :param stats: float32 [B, M, 4] by SUM (of the values that SEEN counts), VALUE (the node's own evaluation), REWARD (of the
        step into the node, to its mover) and DISCOUNT (of that step; 0: the end)
    :param span: float32 [B, 2] by LOW and HIGH, least and largest Q seen
    :param path: int32 [B, D, 2], nodes from the root to the leaf of the simulation at hand, and the actions taken there
    :param row: int32 [B, 4] by USED (nodes in use), DEPTH (edges of the path; −1: the row is idle), FRESH (1 where the leaf
        is new and waits for its evaluation) and FAULT (what was not finite: BAD_PRIOR, BAD_VALUE, BAD_REWARD; NO_MOVE: a
        state that goes on without a legal action)
    """

    prior: np.ndarray
    visits: np.ndarray
    q: np.ndarray
    child: np.ndarray
    links: np.ndarray
    stats: np.ndarray
    span: np.ndarray
    path: np.ndarray
    row: np.ndarray


class Rule(NamedTuple):
    """How to select.

    :param kind: PUCT, GUMBEL or UCT
    :param explore: float32 [n_simulations + 2], what PUCT or UCT makes of 1 + ΣN alone (``exploration_table``)
    :param pessimist: whether an edge without visits has the least value rather than its node's mean
    :param c_visit: of Gumbel's eq. 8
    :param c_scale: of Gumbel's eq. 8
    :param root_score: float32 [B, A], Gumbel draw + log prior at the root, −inf where illegal ([0, 0] otherwise)
    :param turn: int32 [K + 1, n_simulations]; row k says which visit count to serve with k actions considered
    :param considered: int32 [B], k of each row
    """

    kind: int
    explore: np.ndarray
    pessimist: bool
    c_visit: float
    c_scale: float
    root_score: np.ndarray
    turn: np.ndarray
    considered: np.ndarray


def tree_bytes(batch: int, nodes: int, n_actions: int, depth: int) -> int:
    """Return the memory of ``new_tree`` in bytes."""
    return batch * (nodes * (16 * n_actions + 28) + 8 * depth + 24)


def new_tree(batch: int, nodes: int, n_actions: int, depth: int) -> Tree:
    """Allocate B trees of M nodes with A actions and paths of ``depth``; nodes are written when they come into use."""
    edges = (batch, nodes, n_actions)
    return Tree(
        prior=np.empty(edges, np.float32),
        visits=np.empty(edges, np.int32),
        q=np.empty(edges, np.float32),
        child=np.empty(edges, np.int32),
        links=np.empty((batch, nodes, 3), np.int32),
        stats=np.empty((batch, nodes, 4), np.float32),
        span=np.zeros((batch, 2), np.float32),
        path=np.zeros((batch, depth, 2), np.int32),
        row=np.zeros((batch, 4), np.int32),
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


def exploration_table(kind: int, n_simulations: int, c_init: float, c_base: float) -> np.ndarray:
    """Return the factor of the exploration terms that depends on a node's count alone.

    :param kind: PUCT: √ΣN (c1 + log((ΣN + c2 + 1) / c2)), eq. 2, counting the node's own evaluation; UCT: c √ln ΣN
    :param n_simulations: largest ΣN
    :param c_init: c1 of PUCT, or the constant of UCT
    :param c_base: c2 of PUCT
    :return: float32 [n_simulations + 2] by 1 + ΣN
    """
    count = np.arange(n_simulations + 2, dtype=np.float64)
    if kind == UCT:
        return (c_init * np.sqrt(np.log(np.maximum(count - 1, 1)))).astype(np.float32)
    return (np.sqrt(count) * (c_init + np.log((count + c_base) / c_base))).astype(np.float32)


@uncounted
def clear_node(visits, child, links, stats, b, node, parent, reward, discount):  # type: ignore[no-untyped-def]
    """Write a node without visits; its priors and value follow."""
    for a in range(visits.shape[2]):
        visits[b, node, a] = 0
        child[b, node, a] = -1
    links[b, node, PARENT] = parent
    links[b, node, SIBLING] = -1
    links[b, node, SEEN] = 1
    stats[b, node, SUM] = 0.0
    stats[b, node, VALUE] = 0.0
    stats[b, node, REWARD] = reward
    stats[b, node, DISCOUNT] = discount


@uncounted
def _puct(prior, visits, q, b, node, count, mean, low, high, rule):  # type: ignore[no-untyped-def]
    """Return the action of PUCT in one node."""
    # eq. 2: Q + P · √ΣN / (1 + N) · (c1 + log((ΣN + c2 + 1) / c2)), with count = 1 + ΣN
    explore = rule.explore[count]
    scale = np.float32(1.0) / (high - low) if high > low else np.float32(0.0)
    unvisited = np.float32(0.0) if rule.pessimist else (mean - low) * scale
    best, choice = np.float32(-np.inf), -1
    for a in range(prior.shape[2]):
        if prior[b, node, a] >= 0.0:
            n = visits[b, node, a]
            exploit = (q[b, node, a] - low) * scale if n > 0 else unvisited  # eq. 5
            score = exploit + explore * prior[b, node, a] / np.float32(1 + n)
            if score > best:
                best, choice = score, a
    return choice


@uncounted
def _uct(prior, visits, q, b, node, explore):  # type: ignore[no-untyped-def]
    """Return the action of UCB1, Q + c √(ln ΣN / N); unvisited actions come first, in their order."""
    best, choice = np.float32(-np.inf), -1
    for a in range(prior.shape[2]):
        if prior[b, node, a] >= 0.0:
            n = visits[b, node, a]
            if n == 0:
                return a
            score = q[b, node, a] + explore / np.sqrt(np.float32(n))
            if score > best:
                best, choice = score, a
    return choice


@uncounted
def completed_value(prior, visits, q, b, node, count, value):  # type: ignore[no-untyped-def]
    """Return v_mix (Danihelka et al. 2022, eq. 33), the value that stands in for the actions without visits."""
    weight, mixed = np.float32(0.0), np.float32(0.0)
    for a in range(prior.shape[2]):
        if visits[b, node, a] > 0:
            weight += prior[b, node, a]
            mixed += prior[b, node, a] * q[b, node, a]
    if weight == 0.0:
        return value
    return (value + np.float32(count - 1) * mixed / weight) / np.float32(count)


@uncounted
def improve(prior, visits, q, b, node, count, value, low, high, c_visit, c_scale, out):  # type: ignore[no-untyped-def]
    """Write π' of one node (Danihelka et al. 2022, eq. 11), P(a) exp σ(completed Q) normalised: out float32 [A]."""
    n_actions = prior.shape[2]
    v_mix = completed_value(prior, visits, q, b, node, count, value)
    most, top = 0, np.float32(-np.inf)
    for a in range(n_actions):
        if prior[b, node, a] >= 0.0:
            most = max(most, visits[b, node, a])
            top = max(top, q[b, node, a] if visits[b, node, a] > 0 else v_mix)  # so that not all of the exponents underflow
    # σ(q) = (c_visit + max N) c_scale q (eq. 8) on normalised values
    sigma = np.float32((c_visit + most) * c_scale) / (high - low) if high > low else np.float32(0.0)
    blank = np.exp(sigma * (v_mix - top))  # of all actions without visits
    mass = np.float32(0.0)
    for a in range(n_actions):
        out[a] = np.float32(0.0)
        if prior[b, node, a] >= 0.0:
            out[a] = prior[b, node, a] * (np.exp(sigma * (q[b, node, a] - top)) if visits[b, node, a] > 0 else blank)
            mass += out[a]
    for a in range(n_actions):
        out[a] /= mass


@uncounted
def _gumbel(prior, visits, q, b, node, count, value, low, high, rule, policy):  # type: ignore[no-untyped-def]
    """Return the action of eq. 14 in one node below the root: argmax π'(a) − N(a) / (1 + ΣN)."""
    improve(prior, visits, q, b, node, count, value, low, high, rule.c_visit, rule.c_scale, policy)
    share = np.float32(1.0) / np.float32(count)
    best, choice = np.float32(-np.inf), -1
    for a in range(prior.shape[2]):
        if prior[b, node, a] >= 0.0:
            score = policy[a] - np.float32(visits[b, node, a]) * share
            if score > best:
                best, choice = score, a
    return choice


@uncounted
def _gumbel_root(prior, visits, q, b, node, low, high, rule, served):  # type: ignore[no-untyped-def]
    """Return the root's action with N = served that is best by g + logits + σ(q) (algorithm 2)."""
    most = 0
    for a in range(visits.shape[2]):
        most = max(most, visits[b, node, a])
    sigma = (rule.c_visit + most) * rule.c_scale / (high - low) if high > low else 0.0
    best, choice = -np.inf, -1
    for a in range(visits.shape[2]):
        if prior[b, node, a] >= 0.0 and visits[b, node, a] == served:
            # all actions served alike have visits, or none has: a common value would change nothing
            score = rule.root_score[b, a] + (sigma * (q[b, node, a] - low) if served > 0 else 0.0)
            if choice < 0 or score > best:
                best, choice = score, a
    return choice


@uncounted
def select(prior, visits, q, links, stats, span, b, node, rule, policy):  # type: ignore[no-untyped-def]
    """Return the action to follow from a node of row b, −1 where scores are NaN; ``policy`` is scratch, float32 [A]."""
    count, low, high = links[b, node, SEEN], span[b, LOW], span[b, HIGH]
    if rule.kind == PUCT:
        return _puct(prior, visits, q, b, node, count, stats[b, node, SUM] / np.float32(count), low, high, rule)
    if rule.kind == UCT:
        return _uct(prior, visits, q, b, node, rule.explore[count])
    if node > 0:
        return _gumbel(prior, visits, q, b, node, count, stats[b, node, VALUE], low, high, rule, policy)
    return _gumbel_root(prior, visits, q, b, node, low, high, rule, rule.turn[rule.considered[b], count - 1])


@uncounted
def _first_legal(prior, b, node):  # type: ignore[no-untyped-def]
    for a in range(prior.shape[2]):
        if prior[b, node, a] >= 0.0:
            return a
    return 0


@uncounted
def follow(  # type: ignore[no-untyped-def]
    prior, visits, q, child, links, stats, span, path, b, node, depth, rule, one_step, policy
):
    """Walk row b from ``node``, at ``depth``, to an edge that leads nowhere yet or to the end of the episode.

    The path is written; ``one_step`` stops after the first edge, whose outcome chance decides. Returns the new depth.
    """
    while True:
        action = select(prior, visits, q, links, stats, span, b, node, rule, policy)
        if action < 0:  # no score is larger than another: they are no numbers
            action = _first_legal(prior, b, node)
        path[b, depth, 0], path[b, depth, 1] = node, action
        depth += 1
        leaf = child[b, node, action]
        if leaf < 0 or one_step or stats[b, leaf, DISCOUNT] == 0.0:
            return depth
        node = leaf


@uncounted
def set_prior(prior, row, b, node, logits):  # type: ignore[no-untyped-def]
    """Write the softmax of logits, the first A numbers of a row, over the actions that are not marked ILLEGAL.

    Logits without a softmax (a NaN, +∞, or −∞ alone) are a fault of the row, and the priors uniform.
    """
    top = np.float32(-np.inf)
    n_actions = prior.shape[2]
    for a in range(n_actions):
        if prior[b, node, a] >= 0.0:
            top = max(top, logits[a])
    mass = np.float32(0.0)
    for a in range(n_actions):
        if prior[b, node, a] >= 0.0:
            p = np.float32(np.exp(logits[a] - top)) + SMALLEST
            prior[b, node, a] = p
            mass += p
    if not mass < np.inf:
        row[b, FAULT], mass = BAD_PRIOR, np.float32(0.0)
        for a in range(n_actions):
            if not prior[b, node, a] < 0.0:
                prior[b, node, a] = np.float32(1.0)
                mass += np.float32(1.0)
    scale = np.float32(1.0) / mass
    for a in range(n_actions):
        if prior[b, node, a] >= 0.0:
            prior[b, node, a] *= scale


@uncounted
def backup(visits, q, links, stats, span, path, row, b, leaf_value):  # type: ignore[no-untyped-def]
    """Carry the leaf's value up the path of row b (Schrittwieser et al. 2020, eq. 3 and 4)."""
    depth = row[b, DEPTH]
    node = path[b, depth, 0]
    value = np.float32(leaf_value)
    sound = abs(value) < np.inf
    links[b, node, SEEN] += 1 - row[b, FRESH]  # a new leaf has counted itself
    stats[b, node, SUM] += value
    if row[b, FRESH] == 1:
        stats[b, node, VALUE] = value
    for i in range(depth - 1, -1, -1):
        value = stats[b, node, REWARD] + stats[b, node, DISCOUNT] * value  # G = r + γ G
        node, action = path[b, i, 0], path[b, i, 1]
        n = visits[b, node, action] + 1
        mean = value if n == 1 else q[b, node, action] + (value - q[b, node, action]) / np.float32(n)
        visits[b, node, action] = n
        q[b, node, action] = mean
        links[b, node, SEEN] += 1
        stats[b, node, SUM] += value
        span[b, LOW] = min(span[b, LOW], mean)
        span[b, HIGH] = max(span[b, HIGH], mean)
    if not abs(value) < np.inf:
        row[b, FAULT] = BAD_REWARD if sound else BAD_VALUE


@njit(cache=True)
def open_roots(tree, logits, values, kept, low, high):  # type: ignore[no-untyped-def]
    """Give the roots their evaluation; rows kept from the last search take its priors alone.

    :param low: where the range of values begins, with ``high``; the root's own value where low > high
    """
    stats, span = tree.stats, tree.span
    for b in range(values.shape[0]):
        set_prior(tree.prior, tree.row, b, 0, logits[b])
        if not kept[b]:
            if not abs(values[b]) < np.inf:
                tree.row[b, FAULT] = BAD_VALUE
            stats[b, 0, VALUE] = stats[b, 0, SUM] = values[b]
            span[b, LOW] = min(low, values[b]) if low <= high else values[b]
            span[b, HIGH] = max(high, values[b]) if low <= high else values[b]


@njit(cache=True)
def improved_policy(tree, rule, out):  # type: ignore[no-untyped-def]
    """Write π' of every root (Danihelka et al. 2022, eq. 11): out float32 [B, A]."""
    for b in range(out.shape[0]):
        count, value, (low, high) = tree.links[b, 0, SEEN], tree.stats[b, 0, VALUE], tree.span[b]
        improve(tree.prior, tree.visits, tree.q, b, 0, count, value, low, high, rule.c_visit, rule.c_scale, out[b])
