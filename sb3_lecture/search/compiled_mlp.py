"""A small multi-layer perceptron compiled for one row at a time, where a call of torch costs more than the search around it.

The weights are one plain float32 array; ``forward_row`` is callable inside other kernels, so that a search and its network run
in one compiled loop. Inputs that are zero (most of a board's planes, about half of what a ReLU leaves) are skipped: their
rows of the weight matrix are never read. ``forward_block`` is its twin for a few rows at once, whose products BLAS takes, so
that the weights are read once for all of them. Batches from outside go through numpy's matrix product.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import torch as th
from numba import njit

LINE = 64  # bytes of a cache line
NARROW = 32  # with fewer outputs a layer takes a sum over its inputs for each, from a transposed matrix
TOGETHER = 16  # rows that a search takes in step: more would leave the core's cache
ROW_BY_ROW = 4  # up to so many rows the compiled loop beats numpy's matrix product and its overhead
DIVERGED = "If it was trained, learning diverged: lower learning_rate, or load an earlier file."


#: sums may be reordered and fused, so that loops over them become vector instructions
vectorised: Any = njit(cache=True, fastmath={"contract", "reassoc", "nsz"}, _nrt=False)  # type: ignore[call-overload]


@vectorised
def wide_layer(x, n_in, rectify, rows, first, y, active):  # type: ignore[no-untyped-def]
    """Write y = f(x) W + b for the first n_in inputs, four nonzero ones at a time; f is the ReLU or the identity.

    Row ``first`` holds the bias, the rows after it the matrix; ``active`` is scratch, int32 [n_in + 1]. A NaN is no zero: what
    went wrong in a layer is seen in the outputs.
    """
    width = rows.shape[1]
    bias = rows[first]
    for j in range(width):
        y[j] = bias[j]
    n = 0
    if rectify:
        for i in range(n_in):
            active[n] = first + 1 + i
            n += not x[i] <= 0.0
    else:
        for i in range(n_in):
            active[n] = first + 1 + i
            n += x[i] != 0.0
    k = 0
    while k + 4 <= n:
        i0, i1, i2, i3 = active[k], active[k + 1], active[k + 2], active[k + 3]
        w0, w1, w2, w3 = rows[i0], rows[i1], rows[i2], rows[i3]
        x0, x1, x2, x3 = x[i0 - first - 1], x[i1 - first - 1], x[i2 - first - 1], x[i3 - first - 1]
        for j in range(width):
            y[j] += x0 * w0[j] + x1 * w1[j] + x2 * w2[j] + x3 * w3[j]
        k += 4
    while k < n:
        x0, w0 = x[active[k] - first - 1], rows[active[k]]
        for j in range(width):
            y[j] += x0 * w0[j]
        k += 1


@vectorised
def narrow_layer(x, n_in, rectify, rows, first, n_out, y):  # type: ignore[no-untyped-def]
    """Write y = f(x) Wᵀ + b: one sum over the inputs for each output; the rows hold Wᵀ."""
    for j in range(n_out):
        total, w = rows[first, j], rows[first + 1 + j]
        if rectify:
            for i in range(n_in):
                total += (np.float32(0.0) if x[i] <= 0.0 else x[i]) * w[i]
        else:
            for i in range(n_in):
                total += x[i] * w[i]
        y[j] = total


@vectorised
def go_on(rows, layers, tanh, buffers, active):  # type: ignore[no-untyped-def]
    """Apply all layers but the first, whose sums are in ``buffers[0]``; else as ``forward_row``."""
    for k in range(1, layers.shape[0]):
        n_in, h, y = layers[k, 0], buffers[(k - 1) % 2], buffers[k % 2]
        if tanh:
            for i in range(n_in):
                h[i] = np.tanh(h[i])
        if layers[k, 3] == 1:
            narrow_layer(h, n_in, not tanh, rows, layers[k, 2], layers[k, 1], y)
        else:
            wide_layer(h, n_in, not tanh, rows, layers[k, 2], y, active)
    return (layers.shape[0] - 1) % 2


@vectorised
def forward_row(x, rows, layers, tanh, buffers, active):  # type: ignore[no-untyped-def]
    """Return which row of ``buffers`` (float32 [2, width]) holds the outputs of one input [n_in], until the next call.

    :param rows: float32 [n_rows, width], bias and matrix of every layer (one array: tuples of arrays would be copied and
        counted here, which takes as long as the products)
    :param layers: int64 [n_layers, 5], each one's n_in, n_out, the row where it begins, whether its matrix is transposed
        there, and where it begins in ``packed``
    """
    if layers[0, 3] == 1:
        narrow_layer(x, layers[0, 0], False, rows, layers[0, 2], layers[0, 1], buffers[0])
    else:
        wide_layer(x, layers[0, 0], False, rows, layers[0, 2], buffers[0], active)
    return go_on(rows, layers, tanh, buffers, active)


@vectorised
def finish_block(y, bias, activate, tanh):  # type: ignore[no-untyped-def]
    """Add the bias [≥ n_out] to sums [n, n_out], and apply the activation or none, in place."""
    for b in range(y.shape[0]):
        row = y[b]
        for j in range(row.shape[0]):
            row[j] += bias[j]
        if activate and tanh:
            for j in range(row.shape[0]):
                row[j] = np.tanh(row[j])
        elif activate:
            for j in range(row.shape[0]):
                row[j] = np.float32(0.0) if row[j] <= 0.0 else row[j]


@njit(cache=True)
def forward_block(x, rows, layers, tanh, packed, halves):  # type: ignore[no-untyped-def]
    """Return the outputs [n, n_out] of n inputs [n, n_in], a view of ``halves`` that holds until the next call.

    :param packed: float32, every layer's matrix [n_in, n_out] without gaps, each from a cache line on (BLAS is a third slower
        elsewhere)
    :param halves: scratch, float32 [2, n · width], aligned likewise
    """
    n, h, n_layers = x.shape[0], x, layers.shape[0]
    for k in range(n_layers):
        n_in, n_out, bias, start = layers[k, 0], layers[k, 1], rows[layers[k, 2]], layers[k, 4]
        y = halves[k % 2, : n * n_out].reshape(n, n_out)
        np.dot(h, packed[start : start + n_in * n_out].reshape(n_in, n_out), y)
        finish_block(y, bias, k < n_layers - 1, tanh)
        h = y
    return h


@njit(cache=True)
def _forward_rows(x, rows, layers, tanh, buffers, active, out):  # type: ignore[no-untyped-def]
    for b in range(x.shape[0]):
        y = buffers[forward_row(x[b], rows, layers, tanh, buffers, active)]
        for j in range(out.shape[1]):
            out[b, j] = y[j]


def _whole_lines(n: int) -> int:
    """Round a number of float32 up to cache lines."""
    return -(-n // (LINE // 4)) * (LINE // 4)


def aligned(n_rows: int, width: int) -> np.ndarray:
    """Return float32 zeros [n_rows, ≥ width] in which every row begins at a cache line: vectors then straddle no two."""
    width = _whole_lines(width)
    room = np.zeros(4 * n_rows * width + LINE, np.uint8)
    start = -room.ctypes.data % LINE
    return room[start : start + 4 * n_rows * width].view(np.float32).reshape(n_rows, width)


class CompiledMLP:
    """x → W_k f(… f(W_1 x + b_1) …) + b_k with f = ReLU or tanh, in float32 on the CPU.

    As a search's ``evaluate`` it has A + 1 outputs: A logits, then the value before squashing.

    :param weights: a matrix [n_in, n_out] for every layer
    :param biases: a vector [n_out] for every layer
    :param activation: "relu" (default) or "tanh", between layers
    :param squash: whether the search takes the tanh of the last output as its value (default True: values in [−1, 1])
    :raises ValueError: if the shapes do not chain, or the activation is unknown
    """

    def __init__(
        self, weights: list[np.ndarray], biases: list[np.ndarray], activation: str = "relu", squash: bool = True
    ) -> None:
        if activation not in ("relu", "tanh"):
            raise ValueError(f"activation={activation!r} is not compiled. Choose 'relu' or 'tanh'.")
        shapes = [np.shape(w) for w in weights]
        chained = all(len(w) == 2 and w[1:] == np.shape(b) for w, b in zip(shapes, biases, strict=True))
        if not shapes or not chained or any(a[1] != b[0] for a, b in pairwise(shapes)):
            raise ValueError(f"Weights of shapes {shapes} and biases {[np.shape(b) for b in biases]} do not chain.")
        for k, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            if not (np.isfinite(weight).all() and np.isfinite(bias).all()):
                raise ValueError(f"The network's layer {k + 1} of {len(weights)} holds NaN or infinite weights. {DIVERGED}")
        self.tanh, self.squash = activation == "tanh", squash
        self.n_in, self.n_out = shapes[0][0], shapes[-1][1]
        self.layers = np.zeros((len(shapes), 5), np.int64)
        n_rows, n_weights, widest = 0, 0, 0
        for k, (n_in, n_out) in enumerate(shapes):
            narrow = n_out < NARROW
            self.layers[k] = n_in, n_out, n_rows, narrow, n_weights
            n_rows += 1 + (n_out if narrow else n_in)
            n_weights += _whole_lines(n_in * n_out)
            widest = max(widest, n_out, n_in if narrow else 0)
        self.rows, self.packed = aligned(n_rows, widest), aligned(1, n_weights)[0]
        for k, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            self._weight(k)[:], self._bias(k)[:] = weight, bias
            start = self.layers[k, 4]
            self.packed[start : start + weight.size] = weight.ravel()
        self.buffers = aligned(2, widest)
        self.active = np.zeros(max(self.n_in, widest) + 1, np.int32)

    def _bias(self, k: int) -> np.ndarray:
        """Return layer k's bias, a view [n_out]."""
        n_out, first = self.layers[k, 1:3]
        return self.rows[first, :n_out]

    def _weight(self, k: int) -> np.ndarray:
        """Return layer k's matrix, a view [n_in, n_out]."""
        n_in, n_out, first, narrow = self.layers[k, :4]
        if narrow:
            return self.rows[first + 1 : first + 1 + n_out, :n_in].T
        return self.rows[first + 1 : first + 1 + n_in, :n_out]

    @classmethod
    def from_torch(cls, *modules: th.nn.Module, heads: tuple[th.nn.Linear, ...] = (), squash: bool = True) -> "CompiledMLP":
        """Copy the weights of torch modules applied in turn; training does not change the copy.

        :param modules: Linear, ReLU, Tanh, Flatten, Identity, or Sequential of these; one kind of activation throughout
        :param heads: Linear layers on the last hidden activations, whose outputs are put side by side (policy, then value)
        :param squash: as in the class
        :raises ValueError: for another module, or an order other than layer, activation, layer …
        """
        flat: list[th.nn.Module] = []
        for module in modules:
            flat += [part for part in module.modules() if not isinstance(part, th.nn.Sequential)]
        flat = [part for part in flat if not isinstance(part, th.nn.Flatten | th.nn.Identity)]
        linear = [part for part in flat if isinstance(part, th.nn.Linear)]
        kinds = {type(part) for part in flat} - {th.nn.Linear}
        order = [isinstance(part, th.nn.Linear) for part in flat]
        wanted = [i % 2 == 0 for i in range(len(flat))]
        mixed = not kinds <= {th.nn.ReLU} and not kinds <= {th.nn.Tanh}
        if mixed or order != wanted or (len(flat) % 2 == 0) != bool(heads):
            raise ValueError(
                f"{[type(part).__name__ for part in flat]} with {len(heads)} heads cannot be compiled. Give Linear layers "
                "with ReLU (or Tanh) between them, ending in Linear, or in the activation where heads follow."
            )

        def arrays(layer: Any) -> tuple[np.ndarray, np.ndarray]:
            bias = th.zeros(layer.out_features) if layer.bias is None else layer.bias
            return layer.weight.detach().cpu().numpy().T, bias.detach().cpu().numpy()

        layers = [arrays(layer) for layer in linear]
        if heads:
            parts = [arrays(head) for head in heads]
            layers.append((np.concatenate([w for w, _ in parts], axis=1), np.concatenate([b for _, b in parts])))
        activation = "tanh" if th.nn.Tanh in kinds else "relu"
        return cls([w for w, _ in layers], [b for _, b in layers], activation, squash)

    @property
    def nbytes(self) -> int:
        """Bytes of the weights."""
        return self.rows.nbytes

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the outputs: float32 [n, …] with n_in numbers a row -> float32 [n, n_out]."""
        x = np.ascontiguousarray(x, np.float32).reshape(len(x), -1)
        if x.shape[1] != self.n_in:
            raise ValueError(f"Rows of {x.shape[1]} numbers do not fit a network with {self.n_in} inputs.")
        if len(x) <= ROW_BY_ROW:
            out = np.empty((len(x), self.n_out), np.float32)
            _forward_rows(x, self.rows, self.layers, self.tanh, self.buffers, self.active, out)
            return out
        for k in range(len(self.layers)):
            if k:
                x = np.tanh(x, out=x) if self.tanh else np.maximum(x, 0.0, out=x)
            x = x @ self._weight(k)
            x += self._bias(k)
        return x

    def evaluate(self, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return logits [n, A] and values [n] of observations [n, …]."""
        y = self(observations)
        return np.ascontiguousarray(y[:, :-1]), np.tanh(y[:, -1]) if self.squash else y[:, -1].copy()
