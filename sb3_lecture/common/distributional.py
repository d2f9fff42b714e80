"""Numbers as distributions over fixed bins, and the squashing maps they are used with, as pure functions of tensors.

A network that must predict returns of unknown size is easier to train as a classifier: bins b_1 < … < b_m stand for numbers,
a number becomes the two-hot weights of the bins around it, the loss is the cross-entropy, and the prediction is the
expectation of the bins. ``two_hot`` is Schrittwieser et al. 2020 (https://arxiv.org/abs/1911.08265, appendix F) and Hafner et
al. 2023 (https://arxiv.org/abs/2301.04104); ``expectation`` undoes it for every number within the bins.

Two maps make large numbers small and are undone exactly:

- MuZero's h(x) = sign(x) (√(|x| + 1) − 1) + ε x (Pohlen et al. 2018, https://arxiv.org/abs/1805.11593, proposition A.2);
- DreamerV3's symlog(x) = sign(x) ln(|x| + 1).
"""

import torch as th

__all__ = ["expectation", "inverse_value_transform", "symexp", "symlog", "two_hot", "value_transform"]

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
