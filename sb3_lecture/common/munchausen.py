"""Munchausen's term and the soft maximum (Vieillard et al. 2020, https://arxiv.org/abs/2007.14430)."""

import torch as th

__all__ = ["munchausen_bonus", "soft_value"]


def soft_value(q: th.Tensor, tau: float) -> th.Tensor:
    """Return τ ln Σ_a exp(q_a / τ), which is Σ_a π_a (q_a − τ ln π_a) for π = softmax(q / τ).

    :param q: [..., A]
    :param tau: τ > 0
    :return: [...]
    """
    return tau * (q / tau).logsumexp(dim=-1)


def munchausen_bonus(q: th.Tensor, actions: th.Tensor, tau: float, alpha: float, clip: float) -> th.Tensor:
    """Return α [τ ln π(a | s)] cut off below at l₀, π = softmax(q / τ) (Vieillard et al. 2020, eq. 2).

    :param q: of the target network at s [B, A]
    :param actions: a [B]
    :param tau: τ > 0
    :param alpha: α
    :param clip: l₀ ≤ 0
    :return: [B]
    """
    log_pi = tau * (q / tau).log_softmax(dim=-1).gather(-1, actions[:, None])[:, 0]  # τ ln π
    return alpha * log_pi.clamp(clip, 0.0)
