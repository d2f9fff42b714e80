"""The best distribution within a KL ball: q ∝ π exp(Q/η), the temperature η being such that KL(q ‖ π) is just what is allowed.

    max_q E_s Σ_a q(a|s) Q(s, a)   subject to   E_s KL(q(·|s) ‖ π(·|s)) ≤ ε

is solved by q(a|s) ∝ π(a|s) exp(Q(s, a)/η), where η > 0 minimises the convex dual (Abdolmaleki et al. 2018, §4.2,
https://arxiv.org/abs/1806.06920)

    g(η) = η ε + η E_s ln Σ_a π(a|s) exp(Q(s, a)/η),      g'(η) = ε − E_s KL(q_η ‖ π).

Expectations over a Box are means over actions drawn from π: then π stands for 1/N of each.
"""

import math

import torch as th

__all__ = ["dual", "gaussian_kls", "mean_kl", "reweighted", "solve_temperature"]

#: η in units of the largest difference between values: nearly greedy, nearly π
LEAST, LARGEST = 1e-6, 1e8


def reweighted(q_values: th.Tensor, log_prior: th.Tensor, eta: float) -> th.Tensor:
    """Return q ∝ π exp(Q/η).

    :param q_values: Q(s, a), [batch, N]
    :param log_prior: ln π(a|s), [batch, N]
    :param eta: η
    :return: [batch, N], each row sums to 1
    """
    return (log_prior + q_values / eta).softmax(dim=1)


def mean_kl(q: th.Tensor, log_prior: th.Tensor) -> th.Tensor:
    """Return E_s KL(q ‖ π) in nats, a scalar; an entry of q that is 0 counts nothing.

    :param q: probabilities [batch, N]
    :param log_prior: ln π(a|s), [batch, N]
    """
    return (th.special.xlogy(q, q) - q * log_prior).sum(dim=1).mean()


def dual(q_values: th.Tensor, log_prior: th.Tensor, epsilon: float, eta: float) -> th.Tensor:
    """Return g(η), a scalar.

    :param q_values: Q(s, a), [batch, N]
    :param log_prior: ln π(a|s), [batch, N]
    :param epsilon: ε, nats
    :param eta: η
    """
    return eta * (epsilon + (log_prior + q_values / eta).logsumexp(dim=1).mean())


def solve_temperature(
    q_values: th.Tensor, log_prior: th.Tensor, epsilon: float, guess: float = 1.0, tolerance: float = 1e-9, steps: int = 100
) -> float:
    """Return the η at which E_s KL(q_η ‖ π) = ε, by Newton's method on ln KL over ln η, kept inside a bracket.

    The KL falls with η; where η is large it is Var_π(Q) / 2η², a straight line of those logarithms, on which one step ends.

    :param q_values: Q(s, a), finite, [batch, N]
    :param log_prior: ln π(a|s), [batch, N]
    :param epsilon: ε, nats
    :param guess: where to begin, such as the last minibatch's η (default 1)
    :param tolerance: relative error of the KL (default 1e-9)
    :param steps: at most so many (default 100)
    :raises ValueError: if a value is NaN or infinite, or the guess is not above 0
    :return: η; the least one where even the greedy q is nearer to π than ε, the largest one where all values are equal
    """
    prior = log_prior.double()
    values = q_values.double()
    values = values - values.amax(dim=1, keepdim=True)  # q does not change, and nothing overflows
    spread = float(-values.amin())
    if not math.isfinite(spread) or not guess > 0:
        raise ValueError(f"values must be finite and guess={guess} above 0: no temperature can be found")
    if spread == 0.0:
        return LARGEST
    low, high = math.log(LEAST * spread), math.log(LARGEST * spread)  # of ln η: KL(low) ≥ ε ≥ KL(high), if they can
    x = min(max(math.log(guess), low), high)
    for _ in range(steps):
        eta = math.exp(x)
        q = reweighted(values, prior, eta)  # [batch, N]
        kl = float(mean_kl(q, prior))
        if abs(kl - epsilon) <= tolerance * epsilon:
            return eta
        if kl > epsilon:
            low = x
        else:
            high = x
        mean = (q * values).sum(dim=1, keepdim=True)
        variance = float((q * (values - mean).square()).sum(dim=1).mean())  # −η³ dKL/dη
        step = x + (math.log(kl) - math.log(epsilon)) * eta**2 * kl / variance if kl > 0.0 and variance > 0.0 else math.inf
        x = step if low < step < high else (low + high) / 2
        if high - low < 1e-13:
            break
    return math.exp(x)


def gaussian_kls(
    mean: th.Tensor, log_std: th.Tensor, new_mean: th.Tensor, new_log_std: th.Tensor
) -> tuple[th.Tensor, th.Tensor]:
    """Return KL(old ‖ new) of Gaussians with diagonal covariance where only the mean, or only the deviation, is another.

    Abdolmaleki et al. 2018b (https://arxiv.org/abs/1812.02256): a bound of its own for each.

    :param mean: of the old one, [batch, d]
    :param log_std: ln σ of the old one, [batch, d]
    :param new_mean: [batch, d]
    :param new_log_std: [batch, d]
    :return: KL(N(μ, σ) ‖ N(μ', σ)) [batch], KL(N(μ, σ) ‖ N(μ, σ')) [batch]
    """
    of_mean = ((new_mean - mean) / log_std.exp()).square().sum(dim=1) / 2
    ratio = log_std - new_log_std
    of_std = ((2 * ratio).exp() / 2 - ratio - 0.5).sum(dim=1)
    return of_mean, of_std
