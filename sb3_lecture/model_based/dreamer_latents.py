"""Stochastic states z of a world model: 32 categorical variables (DreamerV2 and V3) or a Gaussian (PlaNet, DreamerV1).

A *kind* of latent turns the numbers that a network puts out (*params*) into distributions. Its states come in two forms:

- *dense*, float […, width], what a gradient can be taken through: one-hot vectors side by side, or the Gaussian itself;
- *compact*, what is stored, carried and imagined with: int32 […, n] rows of a weight table, or the Gaussian itself.

A one-hot vector times a matrix is a row of the matrix, so that n categorical variables times a matrix are a sum of n rows:
``embed`` takes either form, and on the CPU the compact one costs n · units additions instead of width · units products.
Where no gradient goes through the state (imagination for REINFORCE, acting) the compact form is used throughout.

Equation numbers: Hafner et al. 2023, version 2, https://arxiv.org/abs/2301.04104 ("Mastering diverse control tasks through
world models", Nature 2025).
"""

from typing import Any, Protocol

import numpy as np
import torch as th
from numba import njit
from torch.nn import functional as F

__all__ = [
    "CategoricalLatent", "GaussianLatent", "Latent", "NotFiniteError", "categorical_kl", "embed", "sample_index",
    "uniform_mix",
]  # fmt: skip

Array = np.ndarray[Any, Any]
#: of compiled loops: sums in any order, but NaN and infinity remain what they are, for they are looked for
FAST = {"reassoc", "nsz", "arcp", "contract", "afn"}


class NotFiniteError(ValueError):
    """A draw from probabilities with NaN among them."""


class Latent(Protocol):
    """A kind of stochastic state.

    ``n_params``: numbers that a network puts out for one; ``width``: numbers in the dense form; ``shape`` and ``dtype``: of
    the compact form, without the batch.
    """

    n_params: int
    width: int
    shape: tuple[int, ...]
    dtype: th.dtype

    def sample(self, params: th.Tensor) -> th.Tensor:
        """Draw dense states […, width] of params […, n_params]; a gradient passes through the draw."""
        ...

    def draw(self, params: th.Tensor, deterministic: bool = False) -> th.Tensor:
        """Draw compact states […, *shape] without a gradient; or take the mode."""
        ...

    def compact(self, dense: th.Tensor) -> th.Tensor:
        """Return the compact form of dense states."""
        ...

    def dense(self, compact: th.Tensor) -> th.Tensor:
        """Return the dense form of compact states."""
        ...

    def kl(self, p: th.Tensor, q: th.Tensor) -> th.Tensor:
        """Return KL(p ‖ q) […] of params p and q, summed over the variables."""
        ...

    def entropy(self, params: th.Tensor) -> th.Tensor:
        """Return the entropy […], summed over the variables."""
        ...


class CategoricalLatent:
    """n categorical variables of c classes each, mixed with 1 % of the uniform distribution.

    The gradient passes straight through a draw: z = one_hot(index) + p − sg(p).

    :param n: variables (default 32)
    :param classes: of each (default 32)
    :param unimix: share of the uniform distribution (default 0.01)
    """

    dtype = th.int32

    def __init__(self, n: int = 32, classes: int = 32, unimix: float = 0.01) -> None:
        self.n, self.classes, self.unimix = n, classes, unimix
        self.n_params = self.width = n * classes
        self.shape: tuple[int, ...] = (n,)

    def _split(self, params: th.Tensor) -> th.Tensor:
        return params.reshape(*params.shape[:-1], self.n, self.classes)  # […, n, c]

    def _offsets(self, device: th.device) -> th.Tensor:
        return th.arange(0, self.width, self.classes, dtype=th.int32, device=device)  # [n], first row of each variable

    def sample(self, params: th.Tensor) -> th.Tensor:
        """See Latent."""
        softmax = self._split(params).softmax(dim=-1)
        probs = uniform_mix(softmax, self.unimix)  # […, n, c]
        index = sample_index(softmax, self.unimix)  # […, n]
        one_hot = th.zeros_like(probs).scatter_(-1, index[..., None].long(), 1.0)
        return (one_hot + (probs - probs.detach())).flatten(-2)  # straight through

    def draw(self, params: th.Tensor, deterministic: bool = False) -> th.Tensor:
        """See Latent."""
        logits = self._split(params)
        index = logits.argmax(dim=-1).int() if deterministic else sample_index(logits.softmax(dim=-1), self.unimix)
        return index + self._offsets(params.device)

    def compact(self, dense: th.Tensor) -> th.Tensor:
        """See Latent."""
        return self._split(dense).argmax(dim=-1).int() + self._offsets(dense.device)

    def dense(self, compact: th.Tensor) -> th.Tensor:
        """See Latent."""
        zeros = th.zeros(*compact.shape[:-1], self.width, device=compact.device)
        return zeros.scatter_(-1, compact.long(), 1.0)

    def kl(self, p: th.Tensor, q: th.Tensor) -> th.Tensor:
        """See Latent."""
        return categorical_kl(self._split(p), self._split(q), self.unimix).sum(dim=-1)

    def entropy(self, params: th.Tensor) -> th.Tensor:
        """See Latent."""
        probs = uniform_mix(self._split(params).softmax(dim=-1), self.unimix)
        return -(probs * probs.log()).sum(dim=(-2, -1))


class GaussianLatent:
    """A diagonal Gaussian of d numbers, as DreamerV1 has it: σ = softplus(·) + 0.1.

    :param n: d (default 32)
    :param min_std: least σ (default 0.1)
    """

    dtype = th.float32

    def __init__(self, n: int = 32, min_std: float = 0.1) -> None:
        self.n, self.min_std = n, min_std
        self.n_params, self.width = 2 * n, n
        self.shape: tuple[int, ...] = (n,)

    def _moments(self, params: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        mean, raw = params.chunk(2, dim=-1)  # […, n] each
        return mean, F.softplus(raw) + self.min_std

    def sample(self, params: th.Tensor) -> th.Tensor:
        """See Latent."""
        mean, std = self._moments(params)
        return mean + std * th.randn_like(std)  # reparameterised

    def draw(self, params: th.Tensor, deterministic: bool = False) -> th.Tensor:
        """See Latent."""
        mean, std = self._moments(params.detach())
        return mean if deterministic else mean + std * th.randn_like(std)

    def compact(self, dense: th.Tensor) -> th.Tensor:
        """See Latent."""
        return dense.detach()

    def dense(self, compact: th.Tensor) -> th.Tensor:
        """See Latent."""
        return compact

    def kl(self, p: th.Tensor, q: th.Tensor) -> th.Tensor:
        """See Latent."""
        (mean_p, std_p), (mean_q, std_q) = self._moments(p), self._moments(q)
        square = ((mean_p - mean_q) / std_q).square() + (std_p / std_q).square()
        return (0.5 * (square - 1.0) + std_q.log() - std_p.log()).sum(dim=-1)

    def entropy(self, params: th.Tensor) -> th.Tensor:
        """See Latent."""
        _, std = self._moments(params)
        return (std.log() + 0.5 * float(np.log(2.0 * np.pi * np.e))).sum(dim=-1)


# --- categorical distributions ---------------------------------------------------------------------------------------


def uniform_mix(probs: th.Tensor, unimix: float) -> th.Tensor:
    """Return (1 − u) p + u / c: no class is ever given up, and every log-probability is bounded below.

    :param probs: p […, c]
    :param unimix: u in [0, 1]
    """
    return probs * (1.0 - unimix) + unimix / probs.shape[-1]


def categorical_kl(p: th.Tensor, q: th.Tensor, unimix: float = 0.0) -> th.Tensor:
    """Return KL(p ‖ q) […] of categorical distributions given by logits […, c], both mixed with ``unimix`` of the uniform."""
    p_probs, q_probs = uniform_mix(p.softmax(dim=-1), unimix), uniform_mix(q.softmax(dim=-1), unimix)
    return (p_probs * (p_probs.log() - q_probs.log())).sum(dim=-1)


def sample_index(softmax: th.Tensor, unimix: float = 0.0) -> th.Tensor:
    """Draw classes, int32 […], of softmax […, c] mixed with ``unimix`` of the uniform, by inverse CDF.

    One uniform number a variable: a share ``unimix`` of its range names a class at once, the rest is compared with the CDF.

    :raises NotFiniteError: on the CPU, for probabilities that are NaN; elsewhere they give a class too, and the loss is NaN
    """
    softmax = softmax.detach().float()
    classes = softmax.shape[-1]
    u = th.rand(softmax.shape[:-1], device=softmax.device)
    if softmax.is_cuda or th.compiler.is_compiling():
        v = ((u - unimix) / (1.0 - unimix) if unimix < 1.0 else u)[..., None]
        index = (softmax.cumsum(dim=-1) <= v).sum(dim=-1)
        if unimix > 0.0:
            index = th.where(u < unimix, u * (classes / unimix), index)
        return index.int().clamp(max=classes - 1)
    drawn = np.empty(u.numel(), np.int32)
    if not _inverse_cdf(softmax.contiguous().numpy().reshape(-1, classes), u.numpy().reshape(-1), unimix, drawn):
        raise NotFiniteError("There is NaN in the probabilities to draw from")
    return th.from_numpy(drawn).view(u.shape)


@njit(cache=True)
def _inverse_cdf(probs: Array, u: Array, unimix: float, index: Array) -> bool:
    """Write the class of each row: probs [n, c], u [n], index [n]; return whether all rows were numbers, no NaN."""
    n, classes = probs.shape
    finite = True
    for i in range(n):
        finite &= probs[i, 0] >= 0.0  # false for NaN
        if u[i] < unimix:
            index[i] = min(int(u[i] * classes / unimix), classes - 1)
            continue
        rest = (u[i] - unimix) / (1.0 - unimix)
        k = 0
        while k < classes - 1 and rest >= probs[i, k]:
            rest -= probs[i, k]
            k += 1
        index[i] = k
    return finite


# --- a latent times a matrix -----------------------------------------------------------------------------------------


def embed(z: th.Tensor, table: th.Tensor) -> th.Tensor:
    """Return z times a weight table.

    :param z: dense, float […, width], or compact, int32 […, n]
    :param table: [width, units]
    :return: […, units]
    """
    if z.is_floating_point():
        return z @ table
    rows = z.reshape(-1, z.shape[-1])  # [N, n]
    if table.is_cuda or th.compiler.is_compiling():
        summed = F.embedding_bag(rows, table, mode="sum")
    else:
        summed = _SumOfRows.apply(rows, table)  # type: ignore[no-untyped-call]
    return summed.reshape(*z.shape[:-1], table.shape[1])


class _SumOfRows(th.autograd.Function):
    """``F.embedding_bag(rows, table, mode="sum")`` on the CPU, whose backward pass there is slower than the dense product."""

    @staticmethod
    def forward(ctx: Any, rows: th.Tensor, table: th.Tensor) -> th.Tensor:
        ctx.save_for_backward(rows)
        ctx.n_rows = len(table)
        return F.embedding_bag(rows, table, mode="sum")

    @staticmethod
    def backward(ctx: Any, *grads: th.Tensor) -> tuple[None, th.Tensor]:
        (rows,) = ctx.saved_tensors
        (grad,) = grads
        out = np.zeros((ctx.n_rows, grad.shape[1]), np.float32)
        _scatter_add(rows.contiguous().numpy(), grad.contiguous().numpy(), out)
        return None, th.from_numpy(out)


@njit(cache=True, fastmath=FAST)
def _scatter_add(rows: Array, grad: Array, out: Array) -> None:
    """Add the gradient of each sum to the table rows that it was made of: rows [N, n], grad [N, units], out [width, units].

    64 columns at a time: that part of the table stays in the first-level cache.
    """
    units = out.shape[1]
    for start in range(0, units, 64):
        stop = min(start + 64, units)
        for i in range(rows.shape[0]):
            g = grad[i, start:stop]
            for j in range(rows.shape[1]):
                o = out[rows[i, j], start:stop]
                for k in range(stop - start):
                    o[k] += g[k]
