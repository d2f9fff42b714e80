"""RLHF's optimum in closed form, held against sums over strings one by one."""

import itertools

import numpy as np
import pytest

from sb3_lecture.exact.string_tree import StringTree, grade_text, optimal_leaves, overoptimisation

V, L, X, PAD = 3, 3, 2, 9


@pytest.fixture(name="setting")
def _setting():
    rng, tree = np.random.default_rng(0), StringTree(V, L, PAD)

    def policy():
        logits = rng.normal(size=(X, tree.n_prefixes, V))
        return logits - np.log(np.exp(logits).sum(axis=2, keepdims=True))

    return tree, policy(), policy(), tree.spread(rng.normal(size=(X, tree.n_leaves)))


def strings():
    """All responses, written down by hand: tokens up to the stop 0 or three of them."""
    found = []
    for n in range(1, L + 1):
        for words in itertools.product(range(V), repeat=n):
            stops = [i for i, word in enumerate(words) if word == 0]
            if (stops == [n - 1]) or (n == L and not stops):
                found.append(words)
    return found


def probability(tree, log_next, x, words):
    """π(words|x), token by token."""
    p, rows = 1.0, tree.prefixes.tolist()
    for i, word in enumerate(words):
        prefix = [*words[:i], *[PAD] * (L - i)]
        p *= np.exp(log_next[x, rows.index(prefix), word])
    return p


def test_all_strings_are_there_once():
    tree = StringTree(V, L, PAD)
    rows = [tuple(word for word in row if word != PAD) for row in tree.responses().tolist()]
    assert sorted(rows) == sorted(strings()) and len(rows) == 1 + 2 + 4 + 8
    large = StringTree(8, 5, 12)
    assert (large.n_prefixes, large.n_leaves) == (2801, 19608)
    # 8⁵ token arrays: a response of n tokens with a stop stands for 8^(5 − n) of them
    lengths = (large.responses() != 12).sum(axis=1)
    assert (8 ** (5 - lengths)).sum() == 8**5


def test_probabilities_of_strings_are_products_and_sum_to_one(setting):
    tree, pi, _, _ = setting
    leaves = np.exp(tree.log_leaves(pi))[:, tree.is_leaf]
    rows = [tuple(word for word in row if word != PAD) for row in tree.responses().tolist()]
    for x in range(X):
        np.testing.assert_allclose(leaves[x], [probability(tree, pi, x, words) for words in rows])
    np.testing.assert_allclose(leaves.sum(axis=1), 1.0)


def test_kl_by_the_chain_rule_is_the_sum_over_strings(setting):
    tree, pi, sft, _ = setting

    def term(x, words):
        p = probability(tree, pi, x, words)
        return p * np.log(p / probability(tree, sft, x, words))

    by_strings = sum(term(x, words) for x in range(X) for words in strings()) / X
    assert tree.kl(pi, sft) == pytest.approx(by_strings, abs=1e-12)
    assert tree.kl(pi, pi) == 0.0


def test_the_optimum_is_a_tilted_law_and_its_value_beta_log_z(setting):
    tree, pi, sft, score = setting
    for beta in (0.1, 0.5, 3.0):
        best, j_star = optimal_leaves(tree.log_leaves(sft), score, beta)
        for x in range(X):
            p = np.array([probability(tree, sft, x, tuple(w for w in row if w != PAD)) for row in tree.responses().tolist()])
            r = score[x][tree.is_leaf]
            z = (p * np.exp(r / beta)).sum()
            np.testing.assert_allclose(np.exp(best[x][tree.is_leaf]), p * np.exp(r / beta) / z)
            assert j_star[x] == pytest.approx(beta * np.log(z))
            q = np.exp(best[x][tree.is_leaf])
            assert j_star[x] == pytest.approx((q * r).sum() - beta * (q * np.log(q / p)).sum())  # J(π*) = J*
        grade = grade_text(tree, pi, sft, score, beta)
        assert grade.optimum - grade.value == pytest.approx(beta * grade.kl_to_optimal)  # J* − J = β KL(π ‖ π*)
        assert grade.value < grade.optimum and grade.regret_share > 0
        at_sft = grade_text(tree, sft, sft, score, beta)
        assert at_sft.value == pytest.approx(at_sft.sft_value) and at_sft.regret_share == pytest.approx(1.0)


def test_small_beta_finds_the_best_string_and_large_beta_stays(setting):
    tree, _, sft, score = setting
    top = np.where(tree.is_leaf, score, -np.inf).max(axis=(1, 2))
    best, j_star = optimal_leaves(tree.log_leaves(sft), score, 1e-3)
    np.testing.assert_allclose(j_star, top, atol=0.01)
    assert (np.exp(best).max(axis=(1, 2)) > 0.999).all()
    far, j_far = optimal_leaves(tree.log_leaves(sft), score, 1e6)
    np.testing.assert_allclose(np.exp(far), np.exp(tree.log_leaves(sft)), atol=1e-5)
    expected = (np.exp(tree.log_leaves(sft)) * score).sum(axis=(1, 2))
    np.testing.assert_allclose(j_far, expected, atol=1e-5)


def test_what_sft_never_writes_the_optimum_never_writes(setting):
    tree, _, sft, score = setting
    sft = sft.copy()
    sft[:, 0, 1] = -np.inf  # no answer begins with token 1
    sft[:, 0] -= np.log(np.exp(sft[:, 0]).sum(axis=1, keepdims=True))
    best, _ = optimal_leaves(tree.log_leaves(sft), score, 0.5)
    first = np.array([[row[0] == 1] for row in tree.responses()])[:, 0]
    assert (np.exp(best[:, tree.is_leaf])[:, first] == 0).all()
    grade = grade_text(tree, sft, sft, score, 0.5)
    assert np.isfinite([grade.value, grade.optimum, grade.kl_to_optimal]).all() and grade.kl == 0.0


def test_the_line_for_students():
    tree = StringTree(2, 1, 5)
    log_sft, score = np.log(np.full((1, 1, 2), 0.5)), tree.spread(np.array([[0.0, 1.0]]))
    line = grade_text(tree, log_sft, log_sft, score, 1.0).summary()
    # J* = log((1 + e) / 2) = 0.6201, KL(½ ‖ π*) = J* − ½
    assert line == "J: 0.50, optimum 0.62, SFT 0.50, regret 100.0 % of the gap, KL to the optimal policy 0.120 nats"


def test_too_many_strings_are_refused():
    with pytest.raises(ValueError, match="at most 1,000,000 are enumerated"):
        StringTree(502, 12, 502)


def test_overoptimisation_is_that_of_the_strings_one_by_one(setting):
    tree, log_sft, _, score = setting
    learned = tree.spread(np.random.default_rng(5).normal(size=(X, tree.n_leaves)))
    kl, expected, true = overoptimisation(tree.log_leaves(log_sft), learned, score, np.array([0.7, 0.05]))
    rows = tree.responses().tolist()
    for b, beta in enumerate((0.7, 0.05)):
        kls, learned_means, true_means = [], [], []
        for x in range(X):
            p = np.array([probability(tree, log_sft, x, [w for w in row if w != PAD]) for row in rows])
            r_hat, r = learned[x][tree.is_leaf], score[x][tree.is_leaf]
            q = p * np.exp(r_hat / beta)
            q /= q.sum()
            kls.append((q * np.log(q / p)).sum())
            learned_means.append(q @ r_hat)
            true_means.append(q @ r)
        assert kl[b] == pytest.approx(np.mean(kls), abs=1e-9)
        assert expected[b] == pytest.approx(np.mean(learned_means), abs=1e-9)
        assert true[b] == pytest.approx(np.mean(true_means), abs=1e-9)


def test_a_true_reward_is_never_followed_too_far(setting):
    tree, log_sft, _, score = setting
    kl, expected, true = overoptimisation(tree.log_leaves(log_sft), score, score, np.geomspace(10.0, 0.01, 20))
    np.testing.assert_allclose(expected, true)
    assert (np.diff(kl) > 0).all() and (np.diff(true) >= 0).all()
    top = np.where(tree.is_leaf, score, -np.inf).max(axis=(1, 2)).mean()
    assert true[-1] == pytest.approx(top, abs=1e-3)
