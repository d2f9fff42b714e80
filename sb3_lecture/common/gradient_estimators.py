"""Monte Carlo estimates of ∇_θ E_{x~p_θ}[f(x)]: five ways, one call each, one estimate a sample.

All are pure functions of a distribution and f (Mohamed et al. 2020, https://arxiv.org/abs/1906.10652, for the survey):

- ``score_function`` (REINFORCE, Williams 1992): f(x) ∇ ln p_θ(x). Needs no derivative of f. Unbiased.
- the same with a ``baseline`` b: (f(x) − b) ∇ ln p_θ(x). Unbiased, as E ∇ ln p_θ(x) = 0; less variance if b is near f.
- ``pathwise`` (reparametrisation; Kingma & Welling 2014, §2.4): x = g(θ, ε), then ∇_θ f(g(θ, ε)). Needs f' and a
  continuous x. Unbiased.
- ``gumbel_softmax`` (Jang et al. 2017, https://arxiv.org/abs/1611.01144, eq. 2; Maddison et al. 2017): a one-hot x is
  replaced by y = softmax((logits + Gumbel noise) / τ), which is differentiable. Biased, as f is taken where no x lies: the
  bias vanishes and the variance explodes as τ → 0.
- ``straight_through`` (Jang et al. 2017, §2.2): f sees the one-hot argmax of y, the gradient flows as if it had seen y. It is
  right about f's value, biased about its slope.

Shapes: θ is [d]; f maps a batch of samples [n, …] to [n]; every estimator returns the n single-sample estimates [n, d], whose
mean over n is the estimate and whose spread is the variance. ``exact_categorical_gradient`` is the truth that they are held
against where x is one of k categories.
"""

from collections.abc import Callable
from typing import Literal

import torch as th
from torch.distributions import Distribution
from torch.nn import functional as F

__all__ = [
    "exact_categorical_gradient",
    "gumbel_softmax",
    "pathwise",
    "relaxed_one_hot",
    "score_function",
    "straight_through",
]

Family = Callable[[th.Tensor], Distribution]  # parameters [n, d] → a distribution of batch shape [n]
Objective = Callable[[th.Tensor], th.Tensor]  # samples [n, …] → [n]


def score_function(
    family: Family,
    theta: th.Tensor,
    f: Objective,
    n_samples: int,
    baseline: float | Literal["leave_one_out"] | None = None,
) -> th.Tensor:
    """Estimate by (f(x) − b) ∇_θ ln p_θ(x).

    :param family: θ [n, d] → distribution, such as ``lambda mu: Independent(Normal(mu, 1.0), 1)``
    :param theta: θ, [d]
    :param f: the function, samples [n, …] → [n]
    :param n_samples: n
    :param baseline: b: a number, "leave_one_out" (the mean f of the other samples, which keeps each estimate unbiased), None
        for 0 (default)
    :return: estimates, [n, d]
    :raises ValueError: if the baseline is unknown, or leaves one out of a single sample
    """
    thetas = _one_row_each(theta, n_samples)  # [n, d]
    distribution = family(thetas)
    with th.no_grad():
        x = distribution.sample()  # [n, …]
        weights = f(x)  # [n]
        if baseline == "leave_one_out":
            if n_samples < 2:
                raise ValueError(f'baseline="leave_one_out" needs at least 2 samples, not n_samples={n_samples}')
            weights = weights - (weights.sum() - weights) / (n_samples - 1)
        elif isinstance(baseline, (int, float)):
            weights = weights - baseline
        elif baseline is not None:
            raise ValueError(f'baseline={baseline!r} is unknown: choose a number, "leave_one_out" or None')
    log_prob = distribution.log_prob(x)  # ln p_θ(x) [n]
    return th.autograd.grad((weights * log_prob).sum(), thetas)[0]


def pathwise(family: Family, theta: th.Tensor, f: Objective, n_samples: int) -> th.Tensor:
    """Estimate by ∇_θ f(g(θ, ε)), the derivative through the sample.

    :param family: θ [n, d] → distribution with a differentiable sampler (``has_rsample``)
    :param theta: θ, [d]
    :param f: the function, differentiable, samples [n, …] → [n]
    :param n_samples: n
    :return: estimates, [n, d]
    :raises ValueError: if the distribution cannot be reparametrised
    """
    thetas = _one_row_each(theta, n_samples)
    distribution = family(thetas)
    if not distribution.has_rsample:
        raise ValueError(f"{type(distribution).__name__} has no reparametrised sampler; use score_function, or gumbel_softmax")
    return th.autograd.grad(f(distribution.rsample()).sum(), thetas)[0]


def relaxed_one_hot(logits: th.Tensor, temperature: float, hard: bool = False) -> th.Tensor:
    """Draw y = softmax((logits + g) / τ) with g ~ Gumbel(0, 1), eq. (2) of Jang et al.; its argmax is an exact sample.

    :param logits: unnormalised log-probabilities, [..., k]
    :param temperature: τ > 0
    :param hard: return the one-hot argmax, with the gradient of y (straight-through)
    :return: [..., k]
    :raises ValueError: if the temperature is not positive
    """
    if temperature <= 0:
        raise ValueError(f"temperature={temperature} must be above 0; hard=True gives the limit of 0 a gradient")
    tiny = th.finfo(logits.dtype).tiny
    gumbel = -th.log(th.empty_like(logits).exponential_().clamp(min=tiny))  # −ln E with E ~ Exp(1) is Gumbel(0, 1)
    soft = ((logits + gumbel) / temperature).softmax(dim=-1)
    if not hard:
        return soft
    one_hot = F.one_hot(soft.argmax(dim=-1), logits.shape[-1]).to(soft.dtype)
    return one_hot + (soft - soft.detach())


def gumbel_softmax(logits: th.Tensor, f: Objective, n_samples: int, temperature: float = 1.0) -> th.Tensor:
    """Estimate by ∇ f(y), y the relaxed one-hot.

    :param logits: θ, [k]
    :param f: the function, differentiable and defined between the one-hots too, [n, k] → [n]
    :param n_samples: n
    :param temperature: τ (default 1)
    :return: estimates, [n, k]
    """
    rows = _one_row_each(logits, n_samples)
    return th.autograd.grad(f(relaxed_one_hot(rows, temperature)).sum(), rows)[0]


def straight_through(logits: th.Tensor, f: Objective, n_samples: int, temperature: float = 1.0) -> th.Tensor:
    """Estimate by f'(one-hot) · ∇y: forward the exact sample, backward the relaxed one.

    :param logits: θ, [k]
    :param f: the function, differentiable at the one-hots, [n, k] → [n]
    :param n_samples: n
    :param temperature: τ of the backward pass (default 1)
    :return: estimates, [n, k]
    """
    rows = _one_row_each(logits, n_samples)
    return th.autograd.grad(f(relaxed_one_hot(rows, temperature, hard=True)).sum(), rows)[0]


def exact_categorical_gradient(logits: th.Tensor, f: Objective) -> th.Tensor:
    """The truth for categories: ∂/∂logit_j Σ_i p_i f(e_i) = p_j (f(e_j) − E f).

    :param logits: [k]
    :param f: the function, [k, k] one-hots → [k]
    :return: [k]
    """
    probabilities = logits.softmax(dim=0)
    values = f(th.eye(len(logits), dtype=logits.dtype))  # f(e_i) [k]
    return probabilities * (values - probabilities @ values)


def _one_row_each(theta: th.Tensor, n_samples: int) -> th.Tensor:
    """θ [d] → n leaves [n, d]: the gradient of row i is the estimate of sample i."""
    return theta.detach().expand(n_samples, -1).clone().requires_grad_(True)
