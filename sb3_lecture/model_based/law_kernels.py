"""The compiled simulations of a search in a law: descend, step the rules, evaluate, back up.

One simulation walks from the root along the selected actions to an edge that leads nowhere yet, plays it, and evaluates the
new state: by one call of a network for the whole batch (``grow``, the call, ``settle``), by a compiled network
(``grow_with_mlp``), or by a random rollout (``grow_with_rollouts``); the last two run all their simulations in one call.
"""

import numpy as np
from numba import njit

from sb3_lecture_envs.board.game import accepts, legal, observe, step

from .compiled_mlp import forward_row
from .search_tree import (
    DEPTH,
    DISCOUNT,
    FRESH,
    ILLEGAL,
    PARENT,
    REWARD,
    SEEN,
    SIBLING,
    SUM,
    USED,
    VALUE,
    backup,
    clear_node,
    follow,
    set_prior,
)
from .simulators import BITS, OUTCOME

TRIES = 6  # draws of a move before the legal ones are listed


@njit(cache=True)
def _next(z):  # type: ignore[no-untyped-def]
    """Return 64 random bits, which are also the generator's next state (Marsaglia 2003, xorshift; never 0)."""
    z ^= z << np.uint64(13)
    z ^= z >> np.uint64(7)
    z ^= z << np.uint64(17)
    return z


@njit(cache=True)
def _walk(  # type: ignore[no-untyped-def]
    law, prior, visits, total, child, links, stats, span, path, row, states, b, rule, discount, stochastic, rng, scratch
):  # type: ignore[no-untyped-def]
    """Follow one simulation of row b to its leaf and return it; the path is in the tree, a new leaf's state in scratch."""
    node, depth = 0, 0
    while True:
        depth = follow(prior, visits, total, child, links, stats, span, path, b, node, depth, rule, stochastic)
        node, action = path[b, depth - 1, 0], path[b, depth - 1, 1]
        newest = child[b, node, action]
        leaf, bits = newest, np.uint64(0)
        if stochastic:
            bits = _next(rng[b])
            rng[b] = bits
            if leaf >= 0:  # draw an outcome anew; it may have been met before
                for i in range(scratch.shape[0]):
                    scratch[i] = states[b, node, i]
                scratch[BITS] = np.int64(bits)
                step(law, scratch, action)
                while leaf >= 0 and states[b, leaf, OUTCOME] != scratch[OUTCOME]:
                    leaf = links[b, leaf, SIBLING]
        if leaf < 0:
            leaf = row[b, USED]
            row[b, USED] += 1
            for i in range(scratch.shape[0]):
                scratch[i] = states[b, node, i]
            if stochastic:
                scratch[BITS] = np.int64(bits)
            reward, over = step(law, scratch, action)
            for i in range(scratch.shape[0]):
                states[b, leaf, i] = scratch[i]
            clear_node(visits, total, child, links, stats, b, leaf, node, reward, 0.0 if over else discount)
            links[b, leaf, SIBLING] = newest
            child[b, node, action] = leaf
            row[b, FRESH] = not over
            break
        if stats[b, leaf, DISCOUNT] == 0.0:
            row[b, FRESH] = 0
            break
        node = leaf
    path[b, depth, 0] = leaf
    row[b, DEPTH] = depth
    return leaf


@njit(cache=True)
def _mark_legal(law, prior, b, node, state, mask):  # type: ignore[no-untyped-def]
    """Give legal actions the prior 1 until their evaluation comes, and mark the others; return how many are legal."""
    n = legal(law, state, mask)
    for a in range(mask.shape[0]):
        prior[b, node, a] = np.float32(1.0) if mask[a] else ILLEGAL
    return n


@njit(cache=True)
def plant(law, tree, states, roots, kept, observations):  # type: ignore[no-untyped-def]
    """Write the roots of all rows but those kept from the last search, and what the network sees there.

    Returns the first row whose episode is over, or −1.
    """
    prior, visits, total, child, links, stats, _span, _path, row = tree
    mask = np.zeros(prior.shape[2], np.bool_)
    for b in range(roots.shape[0]):
        if not kept[b]:
            states[b, 0] = roots[b]
            clear_node(visits, total, child, links, stats, b, 0, -1, 0.0, 1.0)
            row[b, USED] = 1
        if _mark_legal(law, prior, b, 0, states[b, 0], mask) == 0:
            return b
        observe(law, states[b, 0], observations[b])
    return -1


@njit(cache=True)
def grow(law, tree, states, observations, rule, discount, stochastic, rng, target):  # type: ignore[no-untyped-def]
    """Walk every row whose root has fewer than ``target`` visits to its next leaf and write what the network sees there."""
    prior, visits, total, child, links, stats, span, path, row = tree
    mask = np.zeros(prior.shape[2], np.bool_)
    scratch = np.zeros(states.shape[2], states.dtype)
    for b in range(observations.shape[0]):
        row[b, DEPTH] = -1
        if links[b, 0, SEEN] <= target:
            leaf = _walk(
                law,
                prior,
                visits,
                total,
                child,
                links,
                stats,
                span,
                path,
                row,
                states,
                b,
                rule,
                discount,
                stochastic,
                rng,
                scratch,
            )
            if row[b, FRESH] == 1:
                _mark_legal(law, prior, b, leaf, scratch, mask)
                observe(law, scratch, observations[b])


@njit(cache=True)
def settle(tree, logits, values):  # type: ignore[no-untyped-def]
    """Give the new leaves their evaluation, logits [B, A] and values [B], and back all rows up."""
    prior, visits, total, _child, links, stats, span, path, row = tree
    for b in range(values.shape[0]):
        if row[b, DEPTH] >= 0:
            value = np.float32(0.0)
            if row[b, FRESH] == 1:
                set_prior(prior, b, path[b, row[b, DEPTH], 0], logits[b])
                value = np.float32(values[b])
            backup(visits, total, links, stats, span, path, row, b, value)


@njit(cache=True)
def grow_with_mlp(  # type: ignore[no-untyped-def]
    law,
    tree,
    states,
    observations,
    flat,
    rule,
    discount,
    stochastic,
    rng,
    target,
    weights,
    biases,
    tanh,
    squash,
    buffers,
    active,
):
    """Run all simulations of all rows with a compiled network; ``flat`` [B, n] is a view of ``observations``."""
    prior, visits, total, child, links, stats, span, path, row = tree
    n_actions = prior.shape[2]
    mask = np.zeros(n_actions, np.bool_)
    scratch = np.zeros(states.shape[2], states.dtype)
    for b in range(observations.shape[0]):
        while links[b, 0, SEEN] <= target:
            leaf = _walk(
                law,
                prior,
                visits,
                total,
                child,
                links,
                stats,
                span,
                path,
                row,
                states,
                b,
                rule,
                discount,
                stochastic,
                rng,
                scratch,
            )
            value = np.float32(0.0)
            if row[b, FRESH] == 1:
                _mark_legal(law, prior, b, leaf, scratch, mask)
                observe(law, scratch, observations[b])
                y = forward_row(flat[b], weights, biases, tanh, buffers, active)
                set_prior(prior, b, leaf, y[:n_actions])
                value = np.tanh(y[n_actions]) if squash else y[n_actions]
            backup(visits, total, links, stats, span, path, row, b, value)


@njit(cache=True)
def rollout(law, state, discount, length, z, mask):  # type: ignore[no-untyped-def]
    """Play random legal actions from ``state``, in place.

    An action is drawn from all until it is legal; after a few misses it is drawn from the list of legal ones, which gives
    the same distribution and is slower on an open board.

    :return: the discounted return of the side to move there, and the generator's next state
    """
    total, weight, n_actions = 0.0, 1.0, mask.shape[0]
    for _ in range(length):
        action = -1
        for _ in range(TRIES):
            z = _next(z)
            action = np.int64(((z >> np.uint64(32)) * np.uint64(n_actions)) >> np.uint64(32))
            if accepts(law, state, action):
                break
            action = -1
        if action < 0:
            legal(law, state, mask)
            n = 0
            for a in range(n_actions):
                n += mask[a]
            if n == 0:
                break
            z = _next(z)
            k = np.int64(((z >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))
            action = 0
            while k > 0 or not mask[action]:  # the k-th legal action, from 0
                k -= mask[action]
                action += 1
        reward, over = step(law, state, action)
        total += weight * reward
        if over:
            break
        weight *= discount
    return total, z


@njit(cache=True)
def grow_with_rollouts(law, tree, states, rule, discount, stochastic, rng, target, length):  # type: ignore[no-untyped-def]
    """Run all simulations of all rows; a new leaf is worth one random rollout of at most ``length`` steps."""
    prior, visits, total, child, links, stats, span, path, row = tree
    mask = np.zeros(prior.shape[2], np.bool_)
    scratch = np.zeros(states.shape[2], states.dtype)
    for b in range(rng.shape[0]):
        while links[b, 0, SEEN] <= target:
            leaf = _walk(
                law,
                prior,
                visits,
                total,
                child,
                links,
                stats,
                span,
                path,
                row,
                states,
                b,
                rule,
                discount,
                stochastic,
                rng,
                scratch,
            )
            value = 0.0
            if row[b, FRESH] == 1:
                _mark_legal(law, prior, b, leaf, scratch, mask)
                if stochastic:
                    scratch[BITS] = np.int64(rng[b])
                value, rng[b] = rollout(law, scratch, discount, length, rng[b], mask)
            backup(visits, total, links, stats, span, path, row, b, value)


@njit(cache=True)
def descend(tree, rule, target, parents, actions, needed):  # type: ignore[no-untyped-def]
    """Walk every row with fewer than ``target`` visits to an edge that leads nowhere yet, for a model to step.

    Writes the parent and the action of that edge, and which rows need the model (the others ended at a terminal node).
    """
    prior, visits, total, child, links, stats, span, path, row = tree
    for b in range(parents.shape[0]):
        parents[b], actions[b], needed[b] = 0, 0, False
        row[b, DEPTH] = -1
        if links[b, 0, SEEN] > target:
            continue
        depth = follow(prior, visits, total, child, links, stats, span, path, b, 0, 0, rule, False)
        node, action = path[b, depth - 1, 0], path[b, depth - 1, 1]
        leaf = child[b, node, action]
        if leaf < 0:
            parents[b], actions[b], needed[b] = node, action, True
        else:
            path[b, depth, 0] = leaf
        row[b, DEPTH] = depth


@njit(cache=True)
def gather(embeddings, nodes, out):  # type: ignore[no-untyped-def]
    """Write the embedding of one node of every row: embeddings [B, M, …] -> out [B, …]."""
    for b in range(nodes.shape[0]):
        out[b] = embeddings[b, nodes[b]]


@njit(cache=True)
def attach(tree, embeddings, parents, actions, needed, found, rewards, discounts, logits, values):  # type: ignore[no-untyped-def]
    """Add what the model said of the edges of ``descend`` as nodes, and back all rows up."""
    prior, visits, total, child, links, stats, span, path, row = tree
    n_actions = prior.shape[2]
    for b in range(parents.shape[0]):
        if row[b, DEPTH] < 0:
            continue
        row[b, FRESH] = 0
        value = np.float32(0.0)
        if needed[b]:
            leaf = row[b, USED]
            row[b, USED] += 1
            clear_node(visits, total, child, links, stats, b, leaf, parents[b], rewards[b], discounts[b])
            child[b, parents[b], actions[b]] = leaf
            path[b, row[b, DEPTH], 0] = leaf
            embeddings[b, leaf] = found[b]
            if discounts[b] != 0.0:
                row[b, FRESH] = 1
                value = np.float32(values[b])
                for a in range(n_actions):
                    prior[b, leaf, a] = 1.0
                set_prior(prior, b, leaf, logits[b])
        backup(visits, total, links, stats, span, path, row, b, value)


@njit(cache=True)
def keep_subtrees(tree, states, tops, kept, places):  # type: ignore[no-untyped-def]
    """Make node tops[b] the root of every row that is ``kept``: its subtree moves to the front, in the same order.

    :param tops: int32 [B]
    :param places: int32 [M], scratch: the new index of every node, −1 where it is dropped
    """
    prior, visits, total, child, links, stats, _span, _path, row = tree
    for b in range(tops.shape[0]):
        if not kept[b]:
            continue
        top, used = tops[b], 0
        for node in range(row[b, USED]):  # parents come before their children
            inside = node == top or (node > top and places[links[b, node, PARENT]] >= 0)
            places[node] = used if inside else -1
            used += inside
        for node in range(top, row[b, USED]):
            new = places[node]
            if new < 0:
                continue
            for a in range(prior.shape[2]):
                prior[b, new, a] = prior[b, node, a]
                visits[b, new, a] = visits[b, node, a]
                total[b, new, a] = total[b, node, a]
                below = child[b, node, a]
                child[b, new, a] = places[below] if below >= 0 else -1
            links[b, new, PARENT] = places[links[b, node, PARENT]] if node != top else -1
            other = links[b, node, SIBLING]
            links[b, new, SIBLING] = places[other] if other >= 0 and node != top else -1
            links[b, new, SEEN], stats[b, new, SUM] = links[b, node, SEEN], stats[b, node, SUM]
            stats[b, new, VALUE] = stats[b, node, VALUE]
            stats[b, new, REWARD], stats[b, new, DISCOUNT] = stats[b, node, REWARD], stats[b, node, DISCOUNT]
            states[b, new] = states[b, node]
        row[b, USED] = used
