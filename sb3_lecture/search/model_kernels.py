"""The compiled simulations of a search in a learned model: descend, ask the model, back up.

One simulation walks from the root along the selected actions to an edge that leads nowhere yet and asks the model what that
step leads to: by one call for the whole batch between two calls of ``explore``, or, for a ``CompiledModel``, inside the
kernel, which then runs all simulations of a row (``imagine``) or of a few rows in step (``imagine_together``).
"""

import numpy as np
from numba import njit

from sb3_lecture.common.distributional import EPSILON

from .compiled_mlp import TOGETHER, forward_block, forward_row, go_on, wide_layer
from .tree import DEPTH, FRESH, SEEN, USED, backup, clear_node, follow, set_prior, uncounted

LINEAR, RELU, TANH, SCALE = 0, 1, 2, 3  # how a latent state is finished


@njit(cache=True)
def explore(tree, embeddings, rule, target, actions, needed, at, found, rewards, discounts, values, logits):  # type: ignore[no-untyped-def]
    """Take in the model's answers, and walk every row with fewer than ``target`` visits to the next edge to ask about.

    An answer becomes a node and is backed up; where a walk ends at a terminal node the model is not needed.

    :param embeddings: [B, M, …]; nodes of the tree
    :param actions: int64 [B], written: of the edges
    :param needed: bool [B], written: which rows need the model
    :param at: [B, …], written: the embeddings of the parents
    :param found: [B, …], the answers to the last call: embeddings, rewards [B], discounts [B], values [B] and logits [B, A]
    """
    prior, visits, q, child, links, stats, span, path, row = tree
    policy = np.zeros(prior.shape[2], np.float32)
    for b in range(row.shape[0]):
        if row[b, DEPTH] >= 0:  # asked last time
            row[b, FRESH] = 0
            value = np.float32(0.0)
            if needed[b]:
                depth, leaf = row[b, DEPTH], row[b, USED]
                row[b, USED] += 1
                node = path[b, depth - 1, 0]
                clear_node(visits, child, links, stats, b, leaf, node, rewards[b], discounts[b])
                child[b, node, actions[b]] = leaf
                path[b, depth, 0] = leaf
                embeddings[b, leaf] = found[b]
                if discounts[b] != 0.0:
                    row[b, FRESH] = 1
                    value = values[b]
                    for a in range(prior.shape[2]):
                        prior[b, leaf, a] = np.float32(1.0)
                    set_prior(prior, row, b, leaf, logits[b])
            backup(visits, q, links, stats, span, path, row, b, value)
            row[b, DEPTH] = -1
        needed[b] = False
        if links[b, 0, SEEN] > target:
            continue
        depth = follow(prior, visits, q, child, links, stats, span, path, b, 0, 0, rule, False, policy)
        row[b, DEPTH] = depth
        node, actions[b] = path[b, depth - 1, 0], path[b, depth - 1, 1]
        at[b] = embeddings[b, node]
        leaf = child[b, node, actions[b]]
        needed[b] = leaf < 0
        path[b, depth, 0] = leaf


@uncounted
def finish(latent, how):  # type: ignore[no-untyped-def]
    """Apply a latent state's activation in place: float32 [n]."""
    n = latent.shape[0]
    if how == RELU:
        for i in range(n):
            latent[i] = np.float32(0.0) if latent[i] <= 0.0 else latent[i]  # NaN stays NaN
    elif how == TANH:
        for i in range(n):
            latent[i] = np.tanh(latent[i])
    elif how == SCALE:  # to [0, 1] (Schrittwieser et al. 2020, appendix G)
        low, high = latent[0], latent[0]
        for i in range(1, n):
            low, high = min(low, latent[i]), max(high, latent[i])
        scale = np.float32(1.0) / (high - low) if high > low else np.float32(0.0)
        for i in range(n):
            latent[i] = (latent[i] - low) * scale


@uncounted
def read_out(y, first, bins):  # type: ignore[no-untyped-def]
    """Return the number that outputs stand for: ``y[first]``, or, where there are bins [m], h⁻¹ of their expectation.

    The m logits begin at ``first``; h⁻¹ is ``common.distributional.inverse_value_transform``.
    """
    m = bins.shape[0]
    if m == 0:
        return y[first]
    top = np.float32(-np.inf)
    for i in range(m):
        top = max(top, y[first + i])
    mass, total = np.float32(0.0), np.float32(0.0)
    if m % 2 == 1:
        mass = np.exp(y[first + m // 2] - top)
        total = mass * bins[m // 2]
    for i in range(m // 2):  # outer and outer first: equal logits over symmetric bins mean 0 exactly
        low, high = np.exp(y[first + i] - top), np.exp(y[first + m - 1 - i] - top)
        mass += low + high
        total += low * bins[i] + high * bins[m - 1 - i]
    mean = total / mass
    size, slope = abs(mean), np.float32(1.0 + 2.0 * EPSILON)
    s = np.float32(2.0) * size / (slope + np.sqrt(slope * slope + np.float32(4.0 * EPSILON) * size))
    x = s * (s + np.float32(2.0))
    return x if mean >= 0.0 else -x


@njit(cache=True)
def read_rows(y, n_actions, bins):  # type: ignore[no-untyped-def]
    """Return rewards [n], logits [n, A] and values [n] of outputs y [n, A + 2] or, with m bins, [n, A + 2 m]."""
    n = y.shape[0]
    rewards, values = np.empty(n, np.float32), np.empty(n, np.float32)
    for b in range(n):
        values[b] = read_out(y[b], n_actions, bins)
        rewards[b] = read_out(y[b], n_actions + max(1, bins.shape[0]), bins)
    return rewards, np.ascontiguousarray(y[:, :n_actions]), values


@uncounted
def _hang(prior, visits, q, child, links, stats, span, path, row, b, depth, y, discount, bins):  # type: ignore[no-untyped-def]
    """Write the next node of row b, at the end of its path, as the model's outputs y say, and back it up."""
    n_actions, leaf = prior.shape[2], row[b, USED]
    node, action = path[b, depth - 1, 0], path[b, depth - 1, 1]
    value, reward = read_out(y, n_actions, bins), read_out(y, n_actions + max(1, bins.shape[0]), bins)
    clear_node(visits, child, links, stats, b, leaf, node, reward, discount)
    child[b, node, action] = leaf
    path[b, depth, 0] = leaf
    row[b, USED], row[b, DEPTH], row[b, FRESH] = leaf + 1, depth, 1  # no imagined step ends the episode
    for a in range(n_actions):
        prior[b, leaf, a] = np.float32(1.0)
    set_prior(prior, row, b, leaf, y)
    backup(visits, q, links, stats, span, path, row, b, value)


@njit(cache=True)
def imagine(tree, embeddings, rule, target, discount, how, dynamics, prediction, bins, scratch):  # type: ignore[no-untyped-def]
    """Simulate in a compiled model until every root has ``target`` visits: all simulations of a row, then of the next.

    :param embeddings: float32 [B, M, latent]
    :param how: LINEAR, RELU, TANH or SCALE
    :param dynamics: rows, layers, tanh, packed of a CompiledMLP
    :param prediction: the same
    :param bins: float32 [m] that values and rewards are predicted over, [0] where they are predicted as numbers
    :param scratch: float32 [latent + A], ``buffers`` and ``active`` of the networks, and ``halves`` of ``forward_block``
    """
    prior, visits, q, child, links, stats, span, path, row = tree
    rows, layers, tanh, _packed = dynamics
    head_rows, head_layers, head_tanh, _packed = prediction
    inputs, buffers, active, _halves = scratch
    n_actions, size = prior.shape[2], embeddings.shape[2]
    policy = np.zeros(n_actions, np.float32)
    begun, known = np.empty((embeddings.shape[1], rows.shape[1]), np.float32), np.zeros(embeddings.shape[1], np.bool_)
    for b in range(row.shape[0]):
        known[:] = False
        while links[b, 0, SEEN] <= target:
            depth = follow(prior, visits, q, child, links, stats, span, path, b, 0, 0, rule, False, policy)
            node, action = path[b, depth - 1, 0], path[b, depth - 1, 1]
            if layers[0, 3] == 0:  # what the first layer makes of the state is the same for all its actions
                sums, first = begun[node], layers[0, 2]
                if not known[node]:
                    wide_layer(embeddings[b, node], size, False, rows, first, sums, active)
                    known[node] = True
                w, h = rows[first + 1 + size + action], buffers[0]
                for j in range(w.shape[0]):
                    h[j] = sums[j] + w[j]
                y = buffers[go_on(rows, layers, tanh, buffers, active)]
            else:
                for i in range(size):
                    inputs[i] = embeddings[b, node, i]
                for a in range(n_actions):
                    inputs[size + a] = np.float32(a == action)
                y = buffers[forward_row(inputs, rows, layers, tanh, buffers, active)]
            latent = embeddings[b, row[b, USED]]
            for i in range(size):
                latent[i] = y[i]
            finish(latent, how)
            y = buffers[forward_row(latent, head_rows, head_layers, head_tanh, buffers, active)]
            _hang(prior, visits, q, child, links, stats, span, path, row, b, depth, y, discount, bins)


@njit(cache=True)
def imagine_together(tree, embeddings, rule, target, discount, how, dynamics, prediction, bins, scratch):  # type: ignore[no-untyped-def]
    """As ``imagine``, but ``TOGETHER`` rows take each simulation in step, so that the model's weights are read once for all.

    All roots have equally many visits, as they have when a search in a model begins.
    """
    prior, visits, q, child, links, stats, span, path, row = tree
    rows, layers, tanh, packed = dynamics
    head_rows, head_layers, head_tanh, head_packed = prediction
    n_actions, size = prior.shape[2], embeddings.shape[2]
    halves, policy, depths = scratch[3], np.zeros(n_actions, np.float32), np.zeros(TOGETHER, np.int64)
    block, block_latents = np.empty((TOGETHER, size + n_actions), np.float32), np.empty((TOGETHER, size), np.float32)
    for start in range(0, row.shape[0], TOGETHER):
        n = min(TOGETHER, row.shape[0] - start)
        inputs, latents = block[:n], block_latents[:n]
        while links[start, 0, SEEN] <= target:
            for k in range(n):
                b = start + k
                depths[k] = follow(prior, visits, q, child, links, stats, span, path, b, 0, 0, rule, False, policy)
                node, action = path[b, depths[k] - 1, 0], path[b, depths[k] - 1, 1]
                latent = embeddings[b, node]
                for i in range(size):
                    inputs[k, i] = latent[i]
                for a in range(n_actions):
                    inputs[k, size + a] = np.float32(a == action)
            y = forward_block(inputs, rows, layers, tanh, packed, halves)  # [n, latent]
            for k in range(n):
                latent = embeddings[start + k, row[start + k, USED]]
                for i in range(size):
                    latent[i] = y[k, i]
                finish(latent, how)
                for i in range(size):
                    latents[k, i] = latent[i]
            y = forward_block(latents, head_rows, head_layers, head_tanh, head_packed, halves)  # [n, A + 2 …]
            for k in range(n):
                b, depth = start + k, depths[k]
                _hang(prior, visits, q, child, links, stats, span, path, row, b, depth, y[k], discount, bins)
