"""Numbers as distributions over fixed bins, and the squashing maps they are used with, as pure functions of tensors.

A network that must predict returns of unknown size is easier to train as a classifier: bins b_1 < … < b_m stand for numbers,
a number becomes the two-hot weights of the bins around it, the loss is the cross-entropy, and the prediction is the
expectation of the bins. ``two_hot`` is Schrittwieser et al. 2020 (https://arxiv.org/abs/1911.08265, appendix F) and Hafner et
al. 2023 (https://arxiv.org/abs/2301.04104); ``expectation`` undoes it for every number within the bins.

Two maps make large numbers small and are undone exactly:

- MuZero's h(x) = sign(x) (√(|x| + 1) − 1) + ε x (Pohlen et al. 2018, https://arxiv.org/abs/1805.11593, proposition A.2);
- DreamerV3's symlog(x) = sign(x) ln(|x| + 1).

Returns as whole distributions, not only their means:

- ``project`` puts any distribution onto fixed atoms (Bellemare et al. 2017, https://arxiv.org/abs/1707.06887, eq. 7);
- ``quantile_huber_loss`` is what quantiles descend (Dabney et al. 2018, https://arxiv.org/abs/1710.10044, eq. 10).
"""

import torch as th

__all__ = [
    "expectation", "inverse_value_transform", "project", "quantile_huber_loss", "symexp", "symlog", "two_hot",
    "value_transform",
]  # fmt: skip

EPSILON = 1e-3  # ε of h: its slope far from zero, so that the inverse is Lipschitz


def symlog(x: th.Tensor) -> th.Tensor:
    """Return sign(x) ln(|x| + 1) (Hafner et al. 2023)."""
    return x.sign() * x.abs().log1p()


def symexp(x: th.Tensor) -> th.Tensor:
    """Return sign(x) (exp|x| − 1), the inverse of ``symlog``."""
    return x.sign() * x.abs().expm1()


def value_transform(x: th.Tensor, epsilon: float = EPSILON) -> th.Tensor:
    """Return h(x) = sign(x) (√(|x| + 1) − 1) + ε x (Pohlen et al. 2018).

    √(|x| + 1) − 1 is written |x| / (√(|x| + 1) + 1), which keeps the digits of small numbers.

    :param x: any shape
    :param epsilon: ε ≥ 0 (default 0.001)
    """
    return x / ((x.abs() + 1.0).sqrt() + 1.0) + epsilon * x


def inverse_value_transform(y: th.Tensor, epsilon: float = EPSILON) -> th.Tensor:
    """Return x with h(x) = y.

    With u = √(|x| + 1), |y| = u − 1 + ε (u² − 1). Pohlen et al. solve that by u = (√(1 + 4ε (|y| + 1 + ε)) − 1) / 2ε, where
    nearly equal numbers cancel. Here it is solved for s = u − 1, ε s² + (1 + 2ε) s = |y|: small numbers keep their digits, 0
    remains 0, and ε = 0 is allowed.

    :param y: any shape
    :param epsilon: ε ≥ 0 (default 0.001)
    """
    size, slope = y.abs(), 1.0 + 2.0 * epsilon
    s = 2.0 * size / (slope + (slope * slope + 4.0 * epsilon * size).sqrt())
    return y.sign() * s * (s + 2.0)


def two_hot(values: th.Tensor, bins: th.Tensor) -> th.Tensor:
    """Return weights of the two bins around each value whose expectation is the value; values beyond the bins are clamped.

    :param values: any shape […]
    :param bins: ascending, at least two, evenly spaced or not [m]
    :return: […, m]; each row is non-negative and sums to 1
    """
    values = values.to(bins.dtype).clamp(bins[0], bins[-1])
    above = th.searchsorted(bins, values.contiguous()).clamp(1, len(bins) - 1)  # […], b_{above−1} ≤ value ≤ b_above
    low, high = bins[above - 1], bins[above]
    share = (values - low) / (high - low)  # of the upper bin
    weights = th.zeros(*values.shape, len(bins), dtype=bins.dtype, device=bins.device)
    weights.scatter_(-1, above[..., None] - 1, (1.0 - share)[..., None])
    return weights.scatter_(-1, above[..., None], share[..., None])


def expectation(logits: th.Tensor, bins: th.Tensor) -> th.Tensor:
    """Return Σ_i softmax(logits)_i b_i.

    Where the bins are symmetric about 0 the terms of ±b are added first, so that equal logits give exactly 0 (Hafner et al.
    2023 start their predictions there).

    :param logits: […, m]
    :param bins: [m]
    :return: […]
    """
    terms = logits.softmax(dim=-1) * bins
    m = len(bins)
    half = m // 2
    pairs = terms[..., :half] + terms[..., m - half :].flip(-1)  # outermost first
    return pairs.sum(dim=-1) + (terms[..., half] if m % 2 else 0.0)


def project(support: th.Tensor, probabilities: th.Tensor, atoms: th.Tensor) -> th.Tensor:
    """Return Φ of a distribution: each of its points gives its probability to the two atoms around it, by nearness.

    (Φ p)_i = Σ_j p_j [1 − |clamp(x_j) − z_i| / Δ]₀¹ (Bellemare et al. 2017, eq. 7), where Δ is the distance of the two atoms
    around x_j, which need not be the same everywhere. Points beyond the atoms go to the outermost; the mean of what lies
    within is kept.

    :param support: the points x_j, in any order [..., k]
    :param probabilities: p_j [..., k]
    :param atoms: z_i, ascending, at least two [m]
    :return: [..., m]; each row sums to what ``probabilities`` sums to
    """
    x = support.clamp(atoms[0], atoms[-1])
    above = th.searchsorted(atoms, x.contiguous()).clamp(1, len(atoms) - 1)  # z_{above−1} ≤ x ≤ z_above
    low, high = atoms[above - 1], atoms[above]
    upper = probabilities * ((x - low) / (high - low))  # in this order never above p: no weight is negative
    projected = th.zeros(*x.shape[:-1], len(atoms), dtype=probabilities.dtype, device=atoms.device)
    projected.scatter_add_(-1, above - 1, probabilities - upper)
    return projected.scatter_add_(-1, above, upper)


def quantile_huber_loss(quantiles: th.Tensor, fractions: th.Tensor, targets: th.Tensor, kappa: float = 1.0) -> th.Tensor:
    """Return Σ_i mean_j |τ_i − 1{δ_ij < 0}| L_κ(δ_ij) / κ, δ_ij = targets_j − quantiles_i.

    L_κ is Huber's loss, ½ δ² for |δ| ≤ κ and κ (|δ| − ½ κ) beyond; κ = 0 is the quantile loss |τ_i − 1{δ < 0}| |δ|, whose
    minimum over all numbers is the quantile itself (Dabney et al. 2018, eqs. 8–10; 2018b, eqs. 2–3).

    :param quantiles: θ_i, the estimates [..., N]
    :param fractions: τ_i in (0, 1) [..., N] or [N]
    :param targets: samples, or quantiles, of what is to be learned [..., N']
    :param kappa: κ ≥ 0 (default 1)
    :return: [...]
    """
    delta = targets[..., None, :] - quantiles[..., :, None]  # [..., N, N']
    size = delta.abs()
    if kappa > 0.0:
        size = th.where(size <= kappa, 0.5 * size * size / kappa, size - 0.5 * kappa)
    weight = (fractions[..., :, None] - (delta < 0).to(size.dtype)).abs()
    return (weight * size).mean(dim=-1).sum(dim=-1)
