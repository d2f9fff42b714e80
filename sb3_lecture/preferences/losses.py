"""The losses of learning from preferences, and the estimates of a KL divergence: tensors in, tensors out."""

import torch as th
from torch.nn import functional as F

__all__ = ["dpo_loss", "k1", "k3", "ranking_loss", "token_rewards", "whiten"]


def ranking_loss(scores: th.Tensor) -> th.Tensor:
    """−1 / C(K, 2) Σ_{i better than j} log σ(r_i − r_j), the mean over prompts (Ouyang et al. 2022, eq. 1).

    With K = 2 it is the likelihood of Bradley & Terry (1952).

    :param scores: r̂ of K responses to each prompt, the best first, [batch, K]
    """
    better, worse = th.triu_indices(scores.shape[1], scores.shape[1], offset=1)  # the C(K, 2) pairs
    return -F.logsigmoid(scores[:, better] - scores[:, worse]).mean()


def dpo_loss(log_ratio: th.Tensor, beta: float) -> th.Tensor:
    """−log σ(β (log π/π_ref(y_w) − log π/π_ref(y_l))), the mean over all pairs (Rafailov et al. 2023, eq. 7).

    The reward that a policy stands for is r̂ = β log π/π_ref, up to a function of the prompt (their eq. 5), so this is
    ``ranking_loss`` of it.

    :param log_ratio: log π(y|x) − log π_ref(y|x) of K responses, the best first, [batch, K]
    :param beta: β
    """
    return ranking_loss(beta * log_ratio)


def k1(log_ratio: th.Tensor) -> th.Tensor:
    """KL(π ‖ π_ref) estimated from y ~ π by log π − log π_ref: unbiased, may be negative (Schulman 2020)."""
    return log_ratio


def k3(log_ratio: th.Tensor) -> th.Tensor:
    """KL(π ‖ π_ref) estimated from y ~ π by e^{−log ratio} − 1 + log ratio: unbiased, never negative (Schulman 2020)."""
    return th.expm1(-log_ratio) + log_ratio


def token_rewards(scores: th.Tensor, log_ratio: th.Tensor, written: th.Tensor, beta: float) -> th.Tensor:
    """−β (log π − log π_ref) for each token, and the score at the last one (Ouyang et al. 2022, eq. 2).

    :param scores: [batch]
    :param log_ratio: of the drawn tokens, [batch, L]
    :param written: bool [batch, L]
    :param beta: β
    :return: [batch, L], 0 where nothing is written
    """
    rewards = -beta * log_ratio * written
    last = written.sum(dim=1) - 1
    rewards[th.arange(len(scores), device=scores.device), last] += scores
    return rewards


def whiten(x: th.Tensor, mask: th.Tensor) -> th.Tensor:
    """Mean 0 and standard deviation 1 over the masked entries, 0 elsewhere.

    :param x: [batch, L]
    :param mask: bool [batch, L]
    """
    inside = x[mask]
    return (x - inside.mean()) / (inside.std(correction=0) + 1e-8) * mask
