"""A small multi-layer perceptron compiled for one row at a time, where a call of torch costs more than the search around it.

The weights are plain float32 arrays; ``forward_row`` is callable inside other kernels, so that a search and its network run
in one compiled loop. Inputs that are zero (most of a board's planes, about half of what a ReLU leaves) are skipped: their
rows of the weight matrix are never read. Batches go through numpy's matrix product.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import torch as th
from numba import njit

ROW_BY_ROW = 4  # up to so many rows the compiled loop beats numpy's matrix product and its overhead


@njit(cache=True, fastmath={"contract", "reassoc", "nsz"})
def _layer(x, n_in, weight, bias, y, active):  # type: ignore[no-untyped-def]
    """Write y = x W + b for the first n_in inputs, four nonzero inputs at a time; ``active`` is scratch, int32."""
    n_out = weight.shape[1]
    for j in range(n_out):
        y[j] = bias[j]
    n = 0
    for i in range(n_in):
        active[n] = i
        n += x[i] != 0.0
    k = 0
    while k + 4 <= n:
        i0, i1, i2, i3 = active[k], active[k + 1], active[k + 2], active[k + 3]
        x0, x1, x2, x3 = x[i0], x[i1], x[i2], x[i3]
        w0, w1, w2, w3 = weight[i0], weight[i1], weight[i2], weight[i3]
        for j in range(n_out):
            y[j] += x0 * w0[j] + x1 * w1[j] + x2 * w2[j] + x3 * w3[j]
        k += 4
    while k < n:
        x0, w0 = x[active[k]], weight[active[k]]
        for j in range(n_out):
            y[j] += x0 * w0[j]
        k += 1


@njit(cache=True)
def forward_row(x, weights, biases, tanh, buffers, active):  # type: ignore[no-untyped-def]
    """Return the outputs of one input [n_in]: a row of ``buffers`` (float32 [2, widest]), valid until the next call."""
    n_layers = len(weights)
    _layer(x, x.shape[0], weights[0], biases[0], buffers[0], active)
    for k in range(1, n_layers):
        h = buffers[(k - 1) % 2]
        width = weights[k].shape[0]
        if tanh:
            for j in range(width):
                h[j] = np.tanh(h[j])
        else:
            for j in range(width):
                h[j] = max(h[j], np.float32(0.0))
        _layer(h, width, weights[k], biases[k], buffers[k % 2], active)
    return buffers[(n_layers - 1) % 2]


@njit(cache=True)
def _forward_rows(x, weights, biases, tanh, buffers, active, out):  # type: ignore[no-untyped-def]
    for b in range(x.shape[0]):
        out[b] = forward_row(x[b], weights, biases, tanh, buffers, active)[: out.shape[1]]


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
        self.weights = tuple(np.array(w, np.float32, order="C") for w in weights)
        self.biases = tuple(np.array(b, np.float32) for b in biases)
        shapes = [w.shape for w in self.weights]
        chained = all(w.shape[1:] == b.shape for w, b in zip(self.weights, self.biases, strict=True))
        if not shapes or not chained or any(a[1] != b[0] for a, b in pairwise(shapes)):
            raise ValueError(f"Weights of shapes {shapes} and biases {[b.shape for b in self.biases]} do not chain.")
        self.tanh, self.squash = activation == "tanh", squash
        self.n_in, self.n_out = shapes[0][0], shapes[-1][1]
        widest = max(max(shape) for shape in shapes)
        self.buffers, self.active = np.zeros((2, widest), np.float32), np.zeros(widest + 1, np.int32)

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
        return sum(w.nbytes for w in self.weights)

    def __call__(self, x: np.ndarray) -> np.ndarray:
        """Return the outputs: float32 [n, …] with n_in numbers a row -> float32 [n, n_out]."""
        x = np.ascontiguousarray(x, np.float32).reshape(len(x), -1)
        if x.shape[1] != self.n_in:
            raise ValueError(f"Rows of {x.shape[1]} numbers do not fit a network with {self.n_in} inputs.")
        if len(x) <= ROW_BY_ROW:
            out = np.empty((len(x), self.n_out), np.float32)
            _forward_rows(x, self.weights, self.biases, self.tanh, self.buffers, self.active, out)
            return out
        for k, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            if k:
                x = np.tanh(x, out=x) if self.tanh else np.maximum(x, 0.0, out=x)
            x = x @ weight
            x += bias
        return x

    def evaluate(self, observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return logits [n, A] and values [n] of observations [n, …]."""
        y = self(observations)
        return np.ascontiguousarray(y[:, :-1]), np.tanh(y[:, -1]) if self.squash else y[:, -1].copy()
