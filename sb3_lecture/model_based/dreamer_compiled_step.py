"""One step of a DreamerV3 policy on the CPU, compiled: for a single env thirty small torch calls cost more than their sums.

``CompiledStep`` holds views of the policy's weights, so that it follows their training. It serves vector observations and
categorical latents; the equations are those of ``rssm`` and the tests hold the two to each other.
"""

from typing import Any

import numpy as np
import torch as th
from numba import njit
from torch import nn

from .dreamer_latents import FAST, CategoricalLatent, NotFiniteError, _inverse_cdf

__all__ = ["CompiledStep"]

Array = np.ndarray[Any, Any]
MOST_LAYERS = 5  # of encoder and actor


class CompiledStep:
    """What ``policy.step`` computes.

    :param policy: a DreamerPolicy on the CPU, see ``serves``
    """

    def __init__(self, policy: Any) -> None:
        self.key = _key(policy)
        rssm, actor = policy.rssm, policy.actor
        self.latent: CategoricalLatent = policy.latent
        self.rms = policy.sizes.norm == "rms"
        self.encoder, self.n_encoder = _padded(_perceptron(policy.encoder.mlp))
        self.inputs = (
            *_perceptron(rssm.in_deter)[0],
            _view(rssm.in_z),
            _view(rssm.in_z_bias),
            *_norm(rssm.in_z_act),
            *_perceptron(rssm.in_action)[0],
        )
        self.mix = (_view(rssm.mix_inputs.weight), _view(rssm.mix_action.weight), *_norm(rssm.mix_act))
        self.blocks = (*_blocks(rssm.mix_deter), *_blocks(rssm.gru))
        self.post = (
            _view(rssm.post_deter.weight), _view(rssm.post_embed.weight), _view(rssm.post_embed.bias), *_norm(rssm.post_act),
            _view(rssm.post_params.weight), _view(rssm.post_params.bias),
        )  # fmt: skip
        linear = actor.first.linear
        self.first = (_view(linear.deter_weight), _view(linear.table), _view(linear.bias), *_norm(actor.first.act))
        self.rest, self.n_rest = _padded(_perceptron(actor.rest))
        self.last = _view(actor.last.weight), _view(actor.last.bias)
        self.actor = actor

    @staticmethod
    def serves(policy: Any) -> bool:
        """Whether the policy is one that this computes: on the CPU, in float32, vectors only, categorical latents."""
        plain = isinstance(policy.latent, CategoricalLatent) and policy.inputs.image_shape is None
        return (
            plain
            and policy.sizes.layers <= MOST_LAYERS
            and policy.rssm.in_z.device.type == "cpu"
            and policy.rssm.in_z.dtype == th.float32
        )

    def follows(self, policy: Any) -> bool:
        """Whether the views are still those of the policy's weights (a copied or moved policy has others)."""
        return self.key == _key(policy)

    def __call__(
        self, vectors: th.Tensor, memory: tuple[th.Tensor, ...], is_first: th.Tensor, deterministic: bool
    ) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """Return actions, int64 [n] or float32 [n, A], h_t [n, D] and compact z_t [n, S].

        :param vectors: x_t after symlog, float32 [n, V]
        :param memory: h_{t−1} [n, D], compact z_{t−1} [n, S] and a_{t−1} [n, A]
        :param is_first: bool [n]
        :param deterministic: take modes instead of draws
        """
        n = len(vectors)
        x, deter, z, actions = (part.contiguous().numpy() for part in (vectors, *memory))
        if z.size and not 0 <= z.min() <= z.max() < self.latent.width:
            raise ValueError(f"z of the state has rows from {z.min()} to {z.max()}, allowed: 0 to {self.latent.width - 1}")
        first = is_first.numpy()
        u = th.rand(n, self.latent.n).numpy() if not deterministic else np.empty((n, 0), np.float32)
        new_deter, new_z = np.empty_like(deter), np.empty_like(z)
        outputs = np.empty((n, len(self.last[1])), np.float32)
        finite = True
        for i in range(n):
            finite &= _step(
                x[i], deter[i], z[i], actions[i], first[i], u[i], self.latent.classes,
                self.latent.unimix, self.rms, self.encoder, self.n_encoder, self.inputs, self.mix, self.blocks, self.post,
                self.first, self.rest, self.n_rest, self.last, new_deter[i], new_z[i], outputs[i],
            )  # fmt: skip
        if deterministic or self.actor.n_actions is None:
            finite &= bool(np.isfinite(outputs).all())
            chosen = self.actor.choose(th.from_numpy(outputs), deterministic)
        else:
            drawn = np.empty(n, np.int32)
            finite &= _sample(outputs, th.rand(n).numpy(), self.actor.unimix, drawn)
            chosen = th.from_numpy(drawn).long()
        if not finite:
            raise NotFiniteError("There is NaN in what the networks put out")
        return chosen, th.from_numpy(new_deter), th.from_numpy(new_z)


def _key(policy: Any) -> tuple[int, int]:
    return policy.rssm.in_z.data_ptr(), policy.actor.last.weight.data_ptr()


def _view(weight: th.Tensor) -> Array:
    return weight.detach().numpy()


def _norm(act: Any) -> tuple[Array, Array]:
    """Scale and shift of a normalisation; RMSNorm shifts by 0."""
    shift = getattr(act.norm, "bias", None)
    scale = _view(act.norm.weight)
    return scale, np.zeros_like(scale) if shift is None else _view(shift)


def _perceptron(stack: nn.Sequential) -> tuple[tuple[Array, Array, Array, Array], ...]:
    """Weight [out, in], bias, scale and shift of each layer."""
    modules: list[Any] = list(stack)
    return tuple(
        (_view(linear.weight), _view(linear.bias), *_norm(act))
        for linear, act in zip(modules[::2], modules[1::2], strict=True)
    )


def _padded(layers: tuple[Any, ...]) -> tuple[tuple[Any, ...], int]:
    """Layers and their number; the tuple is filled up, so that all policies are of one type and compiled once."""
    nothing = (np.zeros((0, 0), np.float32), *[np.zeros(0, np.float32)] * 3)
    return (*layers, *[nothing] * (MOST_LAYERS - len(layers))), len(layers)


def _blocks(layer: Any) -> tuple[Array, Array]:
    return _view(layer.weight), _view(layer.bias)


@njit(cache=True)
def _write(x: Array, y: Array) -> None:
    """Write x to y (a loop compiles in a tenth of the time of y[:] = x)."""
    for i in range(x.shape[0]):
        y[i] = x[i]


@njit(cache=True, fastmath=FAST)
def _matvec(weight: Array, x: Array, y: Array) -> None:
    """Add weight [out, in] times x [in] to y [out]."""
    for o in range(weight.shape[0]):
        total = np.float32(0.0)
        row = weight[o]
        for i in range(x.shape[0]):
            total += row[i] * x[i]
        y[o] += total


@njit(cache=True, fastmath=FAST)
def _vecmat(x: Array, weight: Array, y: Array) -> None:
    """Add x [in] times weight [in, out] to y [out]."""
    for i in range(x.shape[0]):
        row, factor = weight[i], x[i]
        for o in range(row.shape[0]):
            y[o] += factor * row[o]


@njit(cache=True, fastmath=FAST)
def _add_rows(rows: Array, table: Array, y: Array) -> None:
    """Add rows of a table [width, out] to y [out]."""
    for j in range(rows.shape[0]):
        row = table[rows[j]]
        for o in range(row.shape[0]):
            y[o] += row[o]


@njit(cache=True, fastmath=FAST)
def _norm_act(x: Array, scale: Array, shift: Array, rms: bool) -> None:
    """Normalise x [units] and take its SiLU, in place; the ε are those of ``NormAct``."""
    n, mean, square = x.shape[0], np.float32(0.0), np.float32(0.0)
    if not rms:
        for i in range(n):
            mean += x[i]
        mean /= n
    for i in range(n):
        square += (x[i] - mean) ** 2
    factor = np.float32(1.0 / np.sqrt(square / n + (1e-4 if rms else 1e-3)))
    for i in range(n):
        y = (x[i] - mean) * factor * scale[i] + shift[i]
        x[i] = y / (np.float32(1.0) + np.exp(-y))


@njit(cache=True, fastmath=FAST)
def _layer(weight: Array, bias: Array, scale: Array, shift: Array, x: Array, y: Array, rms: bool) -> None:
    """Write silu(norm(weight [out, in] times x [in] + bias)) to y [out]."""
    _write(bias, y)
    _matvec(weight, x, y)
    _norm_act(y, scale, shift, rms)


@njit(cache=True, fastmath=FAST)
def _step(
    vector: Array, deter: Array, z: Array, action: Array, is_first: bool, u: Array, classes: int, unimix: float, rms: bool,
    encoder: Any, n_encoder: int, inputs: Any, mix: Any, blocks: Any, post: Any, first: Any, rest: Any, n_rest: int, last: Any,
    new_deter: Array, new_z: Array, outputs: Array,
) -> bool:  # fmt: skip
    """One env: see CompiledStep and RSSM.observe_step; no ``u`` means the mode. Return whether the posterior was numbers."""
    embed = vector
    for k in range(n_encoder):
        weight, bias, scale, shift = encoder[k]
        y = np.empty(bias.shape[0], np.float32)
        _layer(weight, bias, scale, shift, embed, y, rms)
        embed = y
    d_weight, d_bias, d_scale, d_shift, in_z, z_bias, z_scale, z_shift, a_weight, a_bias, a_scale, a_shift = inputs
    hidden, size = d_weight.shape[0], deter.shape[0]
    h, x = np.zeros(size, np.float32), np.zeros(2 * hidden, np.float32)
    _write(z_bias, x[hidden:])
    bounded = np.zeros(action.shape[0], np.float32)
    if not is_first:
        _write(deter, h)
        _add_rows(z, in_z, x[hidden:])
        for i in range(action.shape[0]):
            bounded[i] = action[i] / max(np.float32(1.0), abs(action[i]))
    _layer(d_weight, d_bias, d_scale, d_shift, h, x[:hidden], rms)
    _norm_act(x[hidden:], z_scale, z_shift, rms)
    mix_inputs, mix_action, mix_scale, mix_shift = mix
    mix_deter, mix_bias, gru, gru_bias = blocks
    mixed, acted, gates = np.empty(size, np.float32), np.empty(hidden, np.float32), np.empty(3 * size, np.float32)
    _write(mix_bias, mixed)
    _matvec(mix_inputs, x, mixed)
    _layer(a_weight, a_bias, a_scale, a_shift, bounded, acted, rms)
    _matvec(mix_action, acted, mixed)
    n_blocks = mix_deter.shape[0]
    part = size // n_blocks
    for b in range(n_blocks):
        _vecmat(h[b * part : (b + 1) * part], mix_deter[b], mixed[b * part : (b + 1) * part])
    _norm_act(mixed, mix_scale, mix_shift, rms)
    one = np.float32(1.0)
    _write(gru_bias, gates)
    for b in range(n_blocks):
        own = gates[3 * b * part : 3 * (b + 1) * part]  # reset, candidate, update
        _vecmat(mixed[b * part : (b + 1) * part], gru[b], own)
        for i in range(part):
            candidate = np.tanh(own[part + i] / (one + np.exp(-own[i])))
            update = one / (one + np.exp(one - own[2 * part + i]))
            new_deter[b * part + i] = h[b * part + i] + update * (candidate - h[b * part + i])
    post_deter, post_embed, post_bias, post_scale, post_shift, params_weight, params_bias = post
    y, params = np.empty(hidden, np.float32), np.empty(params_bias.shape[0], np.float32)
    _write(post_bias, y)
    _matvec(post_deter, new_deter, y)
    _matvec(post_embed, embed, y)
    _norm_act(y, post_scale, post_shift, rms)
    _write(params_bias, params)
    _matvec(params_weight, y, params)
    finite = _draw(params.reshape((-1, classes)), u, unimix, new_z)
    deter_weight, table, bias, scale, shift = first
    y = np.empty(bias.shape[0], np.float32)
    _write(bias, y)
    _vecmat(new_deter, deter_weight, y)
    _add_rows(new_z, table, y)
    _norm_act(y, scale, shift, rms)
    for k in range(n_rest):
        weight, bias, scale, shift = rest[k]
        x = y
        y = np.empty(bias.shape[0], np.float32)
        _layer(weight, bias, scale, shift, x, y, rms)
    _write(last[1], outputs)
    _matvec(last[0], y, outputs)
    return finite


@njit(cache=True)
def _draw(logits: Array, u: Array, unimix: float, rows: Array) -> bool:
    """Write the row of each variable's class, or of its mode without ``u``: logits [S, c], u [S], rows [S]."""
    total, classes = np.float32(0.0), logits.shape[1]
    for s in range(logits.shape[0]):
        best = 0
        for k in range(classes):
            total += logits[s, k]  # NaN and infinity stay in it
            best = k if logits[s, k] > logits[s, best] else best
        rows[s] = best
    if len(u) > 0:
        _sample(logits, u, unimix, rows)
    for s in range(logits.shape[0]):
        rows[s] += s * classes
    return bool(np.isfinite(total))


@njit(cache=True)
def _sample(logits: Array, u: Array, unimix: float, index: Array) -> bool:
    """Draw a class for each row: logits [n, c], which become probabilities, u [n], index [n]; see ``_inverse_cdf``."""
    for i in range(logits.shape[0]):
        highest, total = logits[i, 0], np.float32(0.0)
        for k in range(1, logits.shape[1]):
            highest = max(highest, logits[i, k])
        for k in range(logits.shape[1]):
            logits[i, k] = np.exp(logits[i, k] - highest)
            total += logits[i, k]
        for k in range(logits.shape[1]):
            logits[i, k] /= total
    return _inverse_cdf(logits, u, unimix, index)
