"""The compiled simulations of a search in a law: descend, step the rules, evaluate, back up.

One simulation walks from the root along the selected actions to an edge that leads nowhere yet, plays it, and evaluates the
new state: by one call of a network for the whole batch (``grow``, the call, ``settle``), by a compiled network
(``grow_with_mlp``), or by a random rollout (``grow_with_rollouts``); the last two run all their simulations in one call.
"""

import numpy as np
from numba import njit

from sb3_lecture_envs.board.game import accepts, legal, observe, step

from .compiled_mlp import forward_row
from .search_tree import ILLEGAL, backup, clear_node, select, set_prior
from .simulators import BITS, OUTCOME

TRIES = 6  # draws of a move before the legal ones are listed


@njit(cache=True, inline="always")
def _draw(rng, b):  # type: ignore[no-untyped-def]
    """Return 64 random bits of row b's generator (Marsaglia 2003, xorshift; the state is never 0)."""
    z = rng[b]
    z ^= z << np.uint64(13)
    z ^= z >> np.uint64(7)
    z ^= z << np.uint64(17)
    rng[b] = z
    return z


@njit(cache=True, inline="always")
def _walk(law, tree, states, b, rule, discount, stochastic, rng, scratch):  # type: ignore[no-untyped-def]
    """Follow one simulation of row b to its leaf and return it; the path is in the tree, the state in states [B, M, S]."""
    node, depth = 0, 0
    while True:
        action = select(tree, b, node, rule)
        tree.path[b, depth], tree.moves[b, depth] = node, action
        depth += 1
        newest = tree.child[b, node, action]
        leaf, bits = newest, np.uint64(0)
        if stochastic:
            bits = _draw(rng, b)
            if leaf >= 0:  # draw an outcome anew; it may have been met before
                scratch[:] = states[b, node]
                scratch[BITS] = np.int64(bits)
                step(law, scratch, action)
                while leaf >= 0 and states[b, leaf, OUTCOME] != scratch[OUTCOME]:
                    leaf = tree.sibling[b, leaf]
        if leaf < 0:
            leaf = tree.used[b]
            tree.used[b] += 1
            state = states[b, leaf]
            for i in range(state.shape[0]):
                state[i] = states[b, node, i]
            if stochastic:
                state[BITS] = np.int64(bits)
            reward, over = step(law, state, action)
            clear_node(tree, b, leaf, node, reward, 0.0 if over else discount)
            tree.sibling[b, leaf] = newest
            tree.child[b, node, action] = leaf
            tree.fresh[b] = not over
            break
        if tree.discount[b, leaf] == 0.0:
            tree.fresh[b] = False
            break
        node = leaf
    tree.path[b, depth] = leaf
    tree.depth[b] = depth
    return leaf


@njit(cache=True, inline="always")
def _mark_legal(law, tree, b, node, state, mask):  # type: ignore[no-untyped-def]
    """Give legal actions the prior 1 until their evaluation comes, and mark the others; return how many are legal."""
    n = legal(law, state, mask)
    for a in range(mask.shape[0]):
        tree.prior[b, node, a] = np.float32(1.0) if mask[a] else ILLEGAL
    return n


@njit(cache=True)
def plant(law, tree, states, roots, kept, observations):  # type: ignore[no-untyped-def]
    """Write the roots of all rows but those kept from the last search, and what the network sees there.

    Returns the first row whose episode is over, or −1.
    """
    mask = np.zeros(tree.prior.shape[2], np.bool_)
    for b in range(roots.shape[0]):
        if not kept[b]:
            states[b, 0] = roots[b]
            clear_node(tree, b, 0, -1, 0.0, 1.0)
            tree.used[b] = 1
        if _mark_legal(law, tree, b, 0, states[b, 0], mask) == 0:
            return b
        observe(law, states[b, 0], observations[b])
    return -1


@njit(cache=True)
def grow(law, tree, states, observations, rule, discount, stochastic, rng, target):  # type: ignore[no-untyped-def]
    """Walk every row whose root has fewer than ``target`` visits to its next leaf and write what the network sees there."""
    mask = np.zeros(tree.prior.shape[2], np.bool_)
    scratch = np.zeros(states.shape[2], states.dtype)
    for b in range(observations.shape[0]):
        tree.depth[b] = -1
        if tree.count[b, 0] <= target:
            leaf = _walk(law, tree, states, b, rule, discount, stochastic, rng, scratch)
            if tree.fresh[b]:
                _mark_legal(law, tree, b, leaf, states[b, leaf], mask)
                observe(law, states[b, leaf], observations[b])


@njit(cache=True)
def settle(tree, logits, values):  # type: ignore[no-untyped-def]
    """Give the new leaves their evaluation, logits [B, A] and values [B], and back all rows up."""
    for b in range(values.shape[0]):
        if tree.depth[b] >= 0:
            value = np.float32(0.0)
            if tree.fresh[b]:
                set_prior(tree, b, tree.path[b, tree.depth[b]], logits[b])
                value = np.float32(values[b])
            backup(tree, b, value)


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
    n_actions = tree.prior.shape[2]
    mask = np.zeros(n_actions, np.bool_)
    scratch = np.zeros(states.shape[2], states.dtype)
    for b in range(observations.shape[0]):
        while tree.count[b, 0] <= target:
            leaf = _walk(law, tree, states, b, rule, discount, stochastic, rng, scratch)
            value = np.float32(0.0)
            if tree.fresh[b]:
                _mark_legal(law, tree, b, leaf, states[b, leaf], mask)
                observe(law, states[b, leaf], observations[b])
                y = forward_row(flat[b], weights, biases, tanh, buffers, active)
                set_prior(tree, b, leaf, y[:n_actions])
                value = np.tanh(y[n_actions]) if squash else y[n_actions]
            backup(tree, b, value)


@njit(cache=True, inline="always")
def _random_action(law, state, n_actions, rng, b, mask):  # type: ignore[no-untyped-def]
    """Draw uniformly among the legal actions: a few draws from all, then from their list."""
    for _ in range(TRIES):
        action = np.int64(((_draw(rng, b) >> np.uint64(32)) * np.uint64(n_actions)) >> np.uint64(32))
        if accepts(law, state, action):
            return action
    n = 0
    legal(law, state, mask)
    for a in range(n_actions):
        n += mask[a]
    if n == 0:
        return -1
    k = np.int64(((_draw(rng, b) >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))
    for a in range(n_actions):
        if mask[a]:
            if k == 0:
                return a
            k -= 1
    return -1


@njit(cache=True)
def rollout(law, state, discount, length, rng, b, mask):  # type: ignore[no-untyped-def]
    """Play random legal actions from ``state``, in place, and return the discounted return of the side to move there."""
    total, weight = 0.0, 1.0
    for _ in range(length):
        action = _random_action(law, state, mask.shape[0], rng, b, mask)
        if action < 0:
            break
        reward, over = step(law, state, action)
        total += weight * reward
        if over:
            break
        weight *= discount
    return total


@njit(cache=True)
def grow_with_rollouts(law, tree, states, rule, discount, stochastic, rng, target, length):  # type: ignore[no-untyped-def]
    """Run all simulations of all rows; a new leaf is worth one random rollout of at most ``length`` steps."""
    mask = np.zeros(tree.prior.shape[2], np.bool_)
    scratch = np.zeros(states.shape[2], states.dtype)
    for b in range(rng.shape[0]):
        while tree.count[b, 0] <= target:
            leaf = _walk(law, tree, states, b, rule, discount, stochastic, rng, scratch)
            value = 0.0
            if tree.fresh[b]:
                _mark_legal(law, tree, b, leaf, states[b, leaf], mask)
                for i in range(scratch.shape[0]):
                    scratch[i] = states[b, leaf, i]
                if stochastic:
                    scratch[BITS] = np.int64(_draw(rng, b))
                value = rollout(law, scratch, discount, length, rng, b, mask)
            backup(tree, b, value)


@njit(cache=True)
def descend(tree, rule, target, parents, actions, needed):  # type: ignore[no-untyped-def]
    """Walk every row with fewer than ``target`` visits to an edge that leads nowhere yet, for a model to step.

    Writes the parent and the action of that edge, and which rows need the model (the others ended at a terminal node).
    """
    for b in range(parents.shape[0]):
        parents[b], actions[b], needed[b] = 0, 0, False
        tree.depth[b] = -1
        if tree.count[b, 0] > target:
            continue
        node, depth = 0, 0
        while True:
            action = select(tree, b, node, rule)
            tree.path[b, depth], tree.moves[b, depth] = node, action
            depth += 1
            leaf = tree.child[b, node, action]
            if leaf < 0:
                parents[b], actions[b], needed[b] = node, action, True
                break
            tree.path[b, depth] = leaf
            if tree.discount[b, leaf] == 0.0:
                break
            node = leaf
        tree.depth[b] = depth


@njit(cache=True)
def gather(embeddings, nodes, out):  # type: ignore[no-untyped-def]
    """Write the embedding of one node of every row: embeddings [B, M, …] -> out [B, …]."""
    for b in range(nodes.shape[0]):
        out[b] = embeddings[b, nodes[b]]


@njit(cache=True)
def attach(tree, embeddings, parents, actions, needed, found, rewards, discounts, logits, values):  # type: ignore[no-untyped-def]
    """Add what the model said of the edges of ``descend`` as nodes, and back all rows up."""
    n_actions = tree.prior.shape[2]
    for b in range(parents.shape[0]):
        if tree.depth[b] < 0:
            continue
        tree.fresh[b] = False
        value = np.float32(0.0)
        if needed[b]:
            leaf = tree.used[b]
            tree.used[b] += 1
            clear_node(tree, b, leaf, parents[b], rewards[b], discounts[b])
            tree.child[b, parents[b], actions[b]] = leaf
            tree.path[b, tree.depth[b]] = leaf
            embeddings[b, leaf] = found[b]
            if discounts[b] != 0.0:
                tree.fresh[b] = True
                value = np.float32(values[b])
                for a in range(n_actions):
                    tree.prior[b, leaf, a] = 1.0
                set_prior(tree, b, leaf, logits[b])
        backup(tree, b, value)


@njit(cache=True)
def keep_subtrees(tree, states, tops, kept, places):  # type: ignore[no-untyped-def]
    """Make node tops[b] the root of every row that is ``kept``: its subtree moves to the front, in the same order.

    :param tops: int32 [B]
    :param places: int32 [M], scratch: the new index of every node, −1 where it is dropped
    """
    for b in range(tops.shape[0]):
        if not kept[b]:
            continue
        top, used = tops[b], 0
        for node in range(tree.used[b]):  # parents come before their children
            inside = node == top or (node > top and places[tree.parent[b, node]] >= 0)
            places[node] = used if inside else -1
            used += inside
        for node in range(top, tree.used[b]):
            new = places[node]
            if new < 0:
                continue
            for a in range(tree.prior.shape[2]):
                tree.prior[b, new, a] = tree.prior[b, node, a]
                tree.visits[b, new, a] = tree.visits[b, node, a]
                tree.total[b, new, a] = tree.total[b, node, a]
                child = tree.child[b, node, a]
                tree.child[b, new, a] = places[child] if child >= 0 else -1
            tree.parent[b, new] = places[tree.parent[b, node]] if node != top else -1
            other = tree.sibling[b, node]
            tree.sibling[b, new] = places[other] if other >= 0 and node != top else -1
            tree.count[b, new], tree.sum[b, new] = tree.count[b, node], tree.sum[b, node]
            tree.value[b, new] = tree.value[b, node]
            tree.reward[b, new], tree.discount[b, new] = tree.reward[b, node], tree.discount[b, node]
            states[b, new] = states[b, node]
        tree.used[b] = used
