"""The compiled simulations of a search in a law: descend, step the rules, evaluate, back up.

One simulation walks from the root along the selected actions to an edge that leads nowhere yet, plays it, and evaluates the
new state: by one call of a network for the whole batch, by a compiled network, or by a random rollout; with the last two
``grow`` runs all simulations in one call, and ``grow_together`` those of a few rows in step.
"""

import numpy as np
from numba import njit

from sb3_lecture_envs.board.game import draw, legal, next_bits, observe, step

from .compiled_mlp import TOGETHER, forward_block, forward_row
from .simulators import BITS, OUTCOME
from .tree import (
    DEPTH,
    DISCOUNT,
    FAULT,
    FRESH,
    ILLEGAL,
    NO_FAULT,
    NO_MOVE,
    PARENT,
    REWARD,
    SEEN,
    SIBLING,
    SUM,
    USED,
    VALUE,
    Rule,
    Tree,
    backup,
    clear_node,
    follow,
    set_prior,
    uncounted,
)

ASK, COMPUTE, ROLL_OUT = 0, 1, 2  # how a leaf is evaluated


@uncounted
def _mark(prior, b, node, mask):  # type: ignore[no-untyped-def]
    """Give legal actions the prior 1 until their evaluation comes, and mark the others."""
    for a in range(mask.shape[0]):
        prior[b, node, a] = np.float32(1.0) if mask[a] else ILLEGAL


@uncounted
def _copy(states, b, node, scratch):  # type: ignore[no-untyped-def]
    for i in range(scratch.shape[0]):
        scratch[i] = states[b, node, i]


@uncounted
def _hang(visits, child, links, stats, row, states, scratch, b, node, action, reward, discount):  # type: ignore[no-untyped-def]
    """Add a node for the state in ``scratch`` below an edge, beside earlier outcomes of it, and return the node."""
    leaf = row[b, USED]
    row[b, USED] += 1
    clear_node(visits, child, links, stats, b, leaf, node, reward, discount)
    links[b, leaf, SIBLING] = child[b, node, action]
    child[b, node, action] = leaf
    for i in range(scratch.shape[0]):
        states[b, leaf, i] = scratch[i]
    return leaf


@uncounted
def _met(links, states, b, leaf, outcome):  # type: ignore[no-untyped-def]
    """Return the node among a leaf and its siblings that an outcome led to before, or −1."""
    while leaf >= 0 and states[b, leaf, OUTCOME] != outcome:
        leaf = links[b, leaf, SIBLING]
    return leaf


@uncounted
def _settle(prior, visits, q, links, stats, span, path, row, b, logits, value):  # type: ignore[no-untyped-def]
    """Give row b's leaf the evaluation that was asked for last time, if any was, and back it up."""
    if row[b, DEPTH] < 0:
        return
    if row[b, FRESH] == 1:
        set_prior(prior, row, b, path[b, row[b, DEPTH], 0], logits)
    backup(visits, q, links, stats, span, path, row, b, value if row[b, FRESH] == 1 else np.float32(0.0))
    row[b, DEPTH] = -1


@njit(cache=True)
def plant(law, tree, states, roots, kept, observations):  # type: ignore[no-untyped-def]
    """Write the roots of all rows but those kept from the last search, and what the network sees there.

    Returns the first row whose episode is over, or −1.
    """
    prior, visits, _q, child, links, stats, _span, _path, row = tree
    mask = np.zeros(prior.shape[2], np.bool_)
    for b in range(roots.shape[0]):
        if not kept[b]:
            states[b, 0] = roots[b]
            clear_node(visits, child, links, stats, b, 0, -1, 0.0, 1.0)
            row[b, USED] = 1
        row[b, DEPTH], row[b, FAULT] = -1, NO_FAULT
        legal(law, states[b, 0], mask)
        if not mask.any():
            return b
        _mark(prior, b, 0, mask)
        observe(law, states[b, 0], observations[b])
    return -1


@njit(cache=True)
def rollout(law, state, discount, length, z, mask):  # type: ignore[no-untyped-def]
    """Play random legal actions from ``state``, in place.

    :return: the discounted return of the side to move there, and the generator's next state
    """
    total, weight = 0.0, 1.0
    for _ in range(length):
        action, z = draw(law, state, z, mask)
        if action < 0:
            break
        reward, over = step(law, state, action)
        total += weight * reward
        if over:
            break
        weight *= discount
    return total, z


@njit(cache=True)
def grow(  # type: ignore[no-untyped-def]
    law, tree, states, observations, rule, discount, stochastic, rng, target, how, length, logits, values, network
):
    """Simulate in every row whose root has fewer than ``target`` visits.

    ASK gives each row's last leaf its evaluation, logits [B, A] and values [B], backs it up, walks to the next leaf and writes
    what the network sees there. COMPUTE and ROLL_OUT run all simulations of a row, then of the next: a leaf is worth what the
    compiled network says, or one random rollout. All three are one kernel because a function between this loop and its parts
    would count references at every simulation.

    :param length: most steps of a rollout
    :param network: rows, layers, tanh, squash, buffers and active of a CompiledMLP
    """
    prior, visits, q, child, links, stats, span, path, row = tree
    weights, layers, tanh, squash, buffers, active = network
    n_actions = prior.shape[2]
    mask, policy = np.zeros(n_actions, np.bool_), np.zeros(n_actions, np.float32)
    scratch = np.zeros(states.shape[2], states.dtype)
    flat = observations.reshape(observations.shape[0], -1)
    for b in range(rng.shape[0]):
        _settle(prior, visits, q, links, stats, span, path, row, b, logits[b], values[b])
        z = rng[b]
        while links[b, 0, SEEN] <= target:
            node, depth = 0, 0
            while True:
                depth = follow(prior, visits, q, child, links, stats, span, path, b, node, depth, rule, stochastic, policy)
                node, action = path[b, depth - 1, 0], path[b, depth - 1, 1]
                leaf = child[b, node, action]
                if leaf >= 0 and not stochastic:
                    row[b, FRESH] = 0
                    break
                _copy(states, b, node, scratch)
                if stochastic:
                    z = next_bits(z)
                    scratch[BITS] = np.int64(z)
                reward, over = step(law, scratch, action)
                if stochastic:  # the outcome may have been met before
                    leaf = _met(links, states, b, leaf, scratch[OUTCOME])
                if leaf < 0:
                    further = 0.0 if over else discount
                    leaf = _hang(visits, child, links, stats, row, states, scratch, b, node, action, reward, further)
                    row[b, FRESH] = 0 if over else 1
                    break
                if over:
                    row[b, FRESH] = 0
                    break
                node = leaf
            path[b, depth, 0] = leaf
            row[b, DEPTH] = depth
            value = np.float32(0.0)
            if row[b, FRESH] == 1 and legal(law, scratch, mask) == 0:
                row[b, FRESH], row[b, FAULT], stats[b, leaf, DISCOUNT] = 0, NO_MOVE, 0.0  # nothing to walk on to
            if row[b, FRESH] == 1:
                _mark(prior, b, leaf, mask)
                if how == ROLL_OUT:
                    if stochastic:
                        scratch[BITS] = np.int64(z)
                    returned, z = rollout(law, scratch, discount, length, z, mask)
                    value = np.float32(returned)
                else:
                    observe(law, scratch, observations[b])
            if how == ASK:
                break
            if how == COMPUTE and row[b, FRESH] == 1:
                y = buffers[forward_row(flat[b], weights, layers, tanh, buffers, active)]
                set_prior(prior, row, b, leaf, y)
                value = np.tanh(y[n_actions]) if squash else y[n_actions]
            backup(visits, q, links, stats, span, path, row, b, value)
            row[b, DEPTH] = -1
        rng[b] = z


@njit(cache=True)
def grow_together(law, tree, states, observations, rule, discount, stochastic, rng, target, network, halves):  # type: ignore[no-untyped-def]
    """Do what ``grow`` does by COMPUTE, but for ``TOGETHER`` rows in step: the network's weights are read once for all.

    :param network: rows, layers, tanh, squash and packed of a CompiledMLP
    :param halves: scratch of ``forward_block``
    """
    prior, visits, q, child, links, stats, span, path, row = tree
    weights, layers, tanh, squash, packed = network
    n_actions = prior.shape[2]
    flat = observations.reshape(observations.shape[0], -1)
    no_network = (weights, layers, tanh, squash, halves, np.zeros(0, np.int32))
    logits, values = np.zeros((TOGETHER, n_actions), np.float32), np.zeros(TOGETHER, np.float32)
    for start in range(0, rng.shape[0], TOGETHER):
        s = slice(start, min(start + TOGETHER, rng.shape[0]))
        rows = Tree(prior[s], visits[s], q[s], child[s], links[s], stats[s], span[s], path[s], row[s])
        score, considered = rule.root_score[s], rule.considered[s]
        their = Rule(rule.kind, rule.explore, rule.pessimist, rule.c_visit, rule.c_scale, score, rule.turn, considered)
        while True:
            grow(
                law, rows, states[s], observations[s], their, discount, stochastic, rng[s], target, ASK, 0, logits, values,
                no_network,
            )  # fmt: skip
            if (row[s, DEPTH] < 0).all():
                break
            y = forward_block(flat[s], weights, layers, tanh, packed, halves)  # [n, A + 1]
            for k in range(y.shape[0]):
                for a in range(n_actions):
                    logits[k, a] = y[k, a]
                values[k] = np.tanh(y[k, n_actions]) if squash else y[k, n_actions]


@njit(cache=True)
def keep_subtrees(tree, states, tops, kept, places):  # type: ignore[no-untyped-def]
    """Make node tops[b] the root of every row that is ``kept``: its subtree moves to the front, in the same order.

    :param tops: int32 [B]
    :param places: int32 [M], scratch: the new index of every node, −1 where it is dropped
    """
    prior, visits, q, child, links, stats, _span, _path, row = tree
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
                q[b, new, a] = q[b, node, a]
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
