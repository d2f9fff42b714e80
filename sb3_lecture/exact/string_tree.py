"""RLHF's optimum in closed form, where every answer can be enumerated.

RL from human feedback maximises, for each prompt x, the score less a penalty for leaving the supervised policy π_SFT
(Ouyang et al. 2022, https://arxiv.org/abs/2203.02155, eq. 2 without its pretraining term):

    J(π) = E_{x, y ~ π}[ r(x, y) ] − β E_x KL(π(·|x) ‖ π_SFT(·|x))

Its maximum is known (Rafailov et al. 2023, https://arxiv.org/abs/2305.18290, eqs. 4 and 5; Korbak et al. 2022):

    π*(y|x) = π_SFT(y|x) exp(r(x, y) / β) / Z(x),      Z(x) = Σ_y π_SFT(y|x) exp(r(x, y) / β)
    J* = E_x[ β log Z(x) ],        J* − J(π) = β E_x KL(π(·|x) ‖ π*(·|x))

Answers are the leaves of a tree: a *prefix* is a node, the next token an edge; a leaf is an edge labelled "stop", or any
edge from a prefix of L − 1 tokens. All numbers are float64, arrays of leaves are [X, M, V] (prompt, prefix, token) and −∞
or 0 where (prefix, token) is no leaf. One matrix of next-token log-probabilities [X, M, V] says all of a policy.
"""

from dataclasses import dataclass

import numpy as np

__all__ = ["StringTree", "TextGrade", "grade_text", "log_expectation", "optimal_leaves", "overoptimisation"]

MOST_LEAVES = 1_000_000


class StringTree:
    """All responses over V tokens with at most L of them.

    :param n_tokens: V; token 0 stops
    :param length: L
    :param pad: id that fills a row after its end
    :raises ValueError: if there are more than ``MOST_LEAVES`` responses
    """

    def __init__(self, n_tokens: int, length: int, pad: int) -> None:
        inner = n_tokens - 1
        leaves = sum(inner**d for d in range(length)) + inner**length
        if leaves > MOST_LEAVES:
            raise ValueError(
                f"{n_tokens} tokens and a length of {length} are {leaves:,} responses; at most {MOST_LEAVES:,} are enumerated"
            )
        self.n_tokens, self.length, self.pad, self.n_leaves = n_tokens, length, pad, leaves
        levels, parents, first = [np.full((1, length), pad, np.int64)], [np.full(1, -1)], [0, 1]
        for depth in range(1, length):
            above, n = levels[-1], len(levels[-1])
            level = np.repeat(above, inner, axis=0)
            level[:, depth - 1] = np.tile(np.arange(1, n_tokens), n)
            levels.append(level)
            parents.append(first[depth - 1] + np.repeat(np.arange(n), inner))
            first.append(first[-1] + len(level))
        self.prefixes = np.concatenate(levels)  # [M, L]
        self.parent = np.concatenate(parents)  # [M]
        self.first = first  # prefixes of depth d are first[d] … first[d + 1] − 1
        self.depth = np.repeat(np.arange(length), np.diff(first))  # [M]
        self.is_leaf = np.zeros((len(self.prefixes), n_tokens), np.bool_)  # [M, V]
        self.is_leaf[:, 0] = True
        self.is_leaf[self.depth == length - 1] = True

    @property
    def n_prefixes(self) -> int:
        """M."""
        return len(self.prefixes)

    def responses(self) -> np.ndarray:
        """All responses, int64 [number of leaves, L], in the order of ``leaves[is_leaf]``."""
        prefix, token = np.nonzero(self.is_leaf)
        rows = self.prefixes[prefix].copy()
        rows[np.arange(len(rows)), self.depth[prefix]] = token
        return rows

    def spread(self, values: np.ndarray) -> np.ndarray:
        """Numbers of the responses, [X, number of leaves], at their places: [X, M, V]; 0 elsewhere."""
        placed = np.zeros((len(values), *self.is_leaf.shape))
        placed[:, self.is_leaf] = values
        return placed

    def log_prefixes(self, log_next: np.ndarray) -> np.ndarray:
        """log-probability of passing each prefix.

        :param log_next: log π(token | prompt, prefix), [X, M, V]
        :return: [X, M]
        """
        log_reach = np.zeros(log_next.shape[:2])
        for depth in range(1, self.length):
            rows = np.arange(self.first[depth], self.first[depth + 1])
            above, token = self.parent[rows], self.prefixes[rows, depth - 1]
            log_reach[:, rows] = log_reach[:, above] + log_next[:, above, token]
        return log_reach

    def log_leaves(self, log_next: np.ndarray) -> np.ndarray:
        """Log π(y|x) of every response: [X, M, V] → [X, M, V], −∞ where there is no leaf."""
        return np.where(self.is_leaf, self.log_prefixes(log_next)[:, :, None] + log_next, -np.inf)

    def kl(self, log_next: np.ndarray, log_other: np.ndarray) -> float:
        """E_x KL(π ‖ other), by the chain rule over prefixes: Σ_prefix π(prefix) KL(π(·|prefix) ‖ other(·|prefix)).

        :param log_next: log π(token | prompt, prefix), [X, M, V]
        :param log_other: the other policy's, [X, M, V]
        """
        at_prefix = log_expectation(log_next, np.where(np.isneginf(log_next), 0.0, log_next - log_other))  # [X, M]
        return float((np.exp(self.log_prefixes(log_next)) * at_prefix).sum(axis=1).mean())


def log_expectation(log_p: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Σ exp(log_p) · values over the last axis, with 0 · ∞ = 0."""
    p = np.exp(log_p)
    return np.where(p > 0, p * np.where(p > 0, values, 0.0), 0.0).sum(axis=-1)


def _sum_of_leaves(log_leaves: np.ndarray, values: np.ndarray) -> np.ndarray:
    """E_{y ~ π}[values] for each prompt: [X]."""
    flat = log_leaves.reshape(len(log_leaves), -1)
    return log_expectation(flat, values.reshape(flat.shape))


def optimal_leaves(log_sft: np.ndarray, score: np.ndarray, beta: float) -> tuple[np.ndarray, np.ndarray]:
    """π* and β log Z.

    :param log_sft: log π_SFT(y|x) of the leaves, [X, M, V]
    :param score: r(x, y) at the leaves, [X, M, V]
    :param beta: β > 0
    :return: log π*(y|x) [X, M, V], β log Z(x) [X]
    """
    energy = np.where(np.isneginf(log_sft), -np.inf, log_sft + score / beta)
    top = energy.max(axis=(1, 2), keepdims=True)
    log_z = top + np.log(np.exp(energy - top).sum(axis=(1, 2), keepdims=True))  # [X, 1, 1]
    return energy - log_z, beta * log_z[:, 0, 0]


def overoptimisation(
    log_sft: np.ndarray, learned: np.ndarray, score: np.ndarray, betas: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Follow a learned reward: the best policies for it, π_β ∝ π_SFT exp(r̂ / β), for smaller and smaller β.

    Of all policies with the same KL to π_SFT, π_β has the largest E r̂. The true score rises first and falls later where r̂
    errs (Gao et al. 2022, https://arxiv.org/abs/2210.10760, who drew it against √KL).

    :param log_sft: log π_SFT(y|x) of the leaves, [X, M, V]
    :param learned: r̂ at the leaves, [X, M, V]
    :param score: the true score there, [X, M, V]
    :param betas: β > 0, [B]
    :return: KL(π_β ‖ π_SFT), E r̂ and E score, means over prompts, [B] each
    """
    found = []
    for beta in betas:
        pi, free = optimal_leaves(log_sft, learned, float(beta))
        expected = _sum_of_leaves(pi, learned)
        kl = (expected - free) / beta  # log π_β/π_SFT = (r̂ − β log Z) / β
        found.append((kl.mean(), expected.mean(), _sum_of_leaves(pi, score).mean()))
    kl, expected_learned, expected_score = np.array(found).T
    return kl, expected_learned, expected_score


@dataclass(frozen=True)
class TextGrade:
    """A policy beside the optimum of RLHF; all are means over prompts.

    :param value: J(π)
    :param optimum: J* = E β log Z
    :param sft_value: J(π_SFT), its mean score
    :param score: E r under π
    :param optimal_score: E r under π*
    :param kl: KL(π ‖ π_SFT), nats
    :param optimal_kl: KL(π* ‖ π_SFT)
    :param kl_to_optimal: KL(π ‖ π*), nats
    """

    value: float
    optimum: float
    sft_value: float
    score: float
    optimal_score: float
    kl: float
    optimal_kl: float
    kl_to_optimal: float

    @property
    def regret_share(self) -> float:
        """(J* − J) / (J* − J_SFT)."""
        gap = self.optimum - self.sft_value
        return (self.optimum - self.value) / gap if gap > 0 else 0.0

    def summary(self) -> str:
        """Say how good the policy is, in one line."""
        return (
            f"J: {self.value:.2f}, optimum {self.optimum:.2f}, SFT {self.sft_value:.2f}, "
            f"regret {100 * self.regret_share:.1f} % of the gap, KL to the optimal policy {self.kl_to_optimal:.3f} nats"
        )


def grade_text(tree: StringTree, log_next: np.ndarray, log_sft: np.ndarray, score: np.ndarray, beta: float) -> TextGrade:
    """Grade a policy exactly.

    :param tree: all responses
    :param log_next: the policy's log π(token | prompt, prefix), [X, M, V]
    :param log_sft: the supervised policy's, [X, M, V]
    :param score: r(x, y) at the leaves, [X, M, V]
    :param beta: β > 0
    """
    pi, sft = tree.log_leaves(log_next), tree.log_leaves(log_sft)
    best, j_star = optimal_leaves(sft, score, beta)

    def finite(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        return np.where(np.isneginf(a), 0.0, a - np.where(np.isneginf(a), 0.0, b))

    expected, kl = _sum_of_leaves(pi, score), _sum_of_leaves(pi, finite(pi, sft))
    return TextGrade(
        value=float((expected - beta * kl).mean()),
        optimum=float(j_star.mean()),
        sft_value=float(_sum_of_leaves(sft, score).mean()),
        score=float(expected.mean()),
        optimal_score=float(_sum_of_leaves(best, score).mean()),
        kl=float(kl.mean()),
        optimal_kl=float(_sum_of_leaves(best, finite(best, sft)).mean()),
        kl_to_optimal=float(_sum_of_leaves(pi, finite(pi, best)).mean()),
    )
