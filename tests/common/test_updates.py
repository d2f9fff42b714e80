"""The update rules of tables: numbers worked by hand, and each formula written out once more, slowly."""

import numpy as np
import pytest

from sb3_lecture.common import updates

Q, NEXT = np.array([1.0, 3.0, -2.0]), np.array([0.5, 4.0, 4.0])
PROBS = np.array([0.5, 0.25, 0.25])


def test_values_of_a_row():
    assert updates.max_value(Q) == 3.0
    assert updates.max_value(np.array([-5.0])) == -5.0
    assert updates.mean_value(Q, PROBS) == 0.5 + 0.75 - 0.5


def test_td_errors_by_hand():
    """R = 2 and γ = 0.5; a discount of 0 leaves the reward alone."""
    assert updates.td_learning(1.0, 2.0, 0.5, 4.0) == 2.0 + 0.5 * 4.0 - 1.0
    assert updates.sarsa(Q, 1, 2.0, 0.5, NEXT, 0) == 2.0 + 0.5 * 0.5 - 3.0
    assert updates.expected_sarsa(Q, 2, 2.0, 0.5, NEXT, PROBS) == 2.0 + 0.5 * (0.25 + 1.0 + 1.0) + 2.0
    assert updates.q_learning(Q, 0, 2.0, 0.5, NEXT) == 2.0 + 0.5 * 4.0 - 1.0
    assert updates.double_q_learning(Q, 0, 2.0, 0.5, NEXT, 0) == 2.0 + 0.5 * 0.5 - 1.0
    assert updates.td_learning(1.0, 2.0, 0.0, 4.0) == 1.0
    assert updates.sarsa(Q, 1, 2.0, 0.0, NEXT, 0) == -1.0
    assert updates.expected_sarsa(Q, 1, 2.0, 0.0, NEXT, PROBS) == -1.0
    assert updates.q_learning(Q, 1, 2.0, 0.0, NEXT) == -1.0
    assert updates.double_q_learning(Q, 1, 2.0, 0.0, NEXT, 0) == -1.0


def test_td_errors_meet_where_they_should():
    """Under a greedy policy expected Sarsa is Q-learning; under one that is sure of a', Sarsa."""
    greedy = np.array([0.0, 0.5, 0.5])
    sure = np.eye(3)[0]
    assert updates.expected_sarsa(Q, 1, 2.0, 0.9, NEXT, greedy) == updates.q_learning(Q, 1, 2.0, 0.9, NEXT)
    assert updates.expected_sarsa(Q, 1, 2.0, 0.9, NEXT, sure) == updates.sarsa(Q, 1, 2.0, 0.9, NEXT, 0)
    assert updates.double_q_learning(Q, 1, 2.0, 0.9, NEXT, 1) == updates.q_learning(Q, 1, 2.0, 0.9, NEXT)


def test_returns_by_hand():
    assert updates.discounted_return(1.0, 0.5, 6.0) == 4.0
    ring = np.array([8.0, 16.0, 1.0, 2.0])  # r₁ stands at 2: 1, 2, 8, 16
    assert updates.n_step_return(ring, 2, 3, 0.5, 32.0) == 1.0 + 0.5 * 2.0 + 0.25 * 8.0 + 0.125 * 32.0
    assert updates.n_step_return(ring, 2, 1, 0.5, 32.0) == 1.0 + 0.5 * 32.0
    assert updates.n_step_return(ring, 3, 4, 0.5, 0.0) == 2.0 + 0.5 * 8.0 + 0.25 * 16.0 + 0.125 * 1.0
    assert updates.n_step_return(ring, 1, 0, 0.5, 32.0) == 32.0


def test_returns_over_a_tree_by_hand():
    """s' = NEXT under PROBS is worth 2.25; a' = 0 was taken there and G' = 10."""
    assert updates.tree_backup_return(2.0, 0.5, NEXT, PROBS, 0, 10.0) == 2.0 + 0.5 * (0.5 * 10.0 + 0.25 * 4.0 + 0.25 * 4.0)
    assert updates.tree_backup_return(2.0, 0.5, NEXT, PROBS, 1, 4.0) == 2.0 + 0.5 * 2.25  # the last step: Expected Sarsa
    assert updates.tree_backup_return(2.0, 0.0, NEXT, PROBS, 0, 10.0) == 2.0
    # σ = ¼ and ρ = 2: ¼ · 2 + ¾ · ½ = 0.875 of G' - q(s', a') = 9.5
    assert updates.q_sigma_return(2.0, 0.5, NEXT, PROBS, 0, 2.0, 0.25, 10.0) == 2.0 + 0.5 * (0.875 * 9.5 + 2.25)
    assert updates.q_sigma_return(2.0, 0.5, NEXT, PROBS, 0, 2.0, 0.25, 0.5) == 2.0 + 0.5 * 2.25  # the last step, whatever σ
    assert updates.q_sigma_return(2.0, 0.0, NEXT, PROBS, 0, 2.0, 0.25, 10.0) == 2.0
    bare = updates.q_sigma_return_without_control_variate
    assert bare(2.0, 0.5, NEXT, PROBS, 0, 2.0, 0.25, 10.0) == 2.0 + 0.5 * (0.25 * 2.0 * 10.0 + 0.75 * 7.0)
    assert bare(2.0, 0.0, NEXT, PROBS, 0, 2.0, 0.25, 10.0) == 2.0


@pytest.mark.parametrize("a", range(3))
def test_sigma_goes_from_the_tree_to_the_sample(a):
    """σ = 0 is tree backup; σ = 1 the sample, with eq. 7.14's control variate or without, G' itself where ρ = 1."""
    rest = (2.0, 0.9, NEXT, PROBS, a)
    bare = updates.q_sigma_return_without_control_variate
    tree = updates.tree_backup_return(*rest, 7.0)
    assert updates.q_sigma_return(*rest, 3.0, 0.0, 7.0) == pytest.approx(tree, rel=1e-14)
    assert bare(*rest, 3.0, 0.0, 7.0) == pytest.approx(tree, rel=1e-14)
    controlled = 2.0 + 0.9 * (3.0 * 7.0 + 2.25 - 3.0 * NEXT[a])
    assert updates.q_sigma_return(*rest, 3.0, 1.0, 7.0) == pytest.approx(controlled, rel=1e-14)
    assert bare(*rest, 1.0, 1.0, 7.0) == 2.0 + 0.9 * 7.0


@pytest.mark.parametrize("name", ["q_sigma_return", "q_sigma_return_without_control_variate"])
def test_sampled_returns_are_right_on_average(name):
    """σ = 1, a' drawn from b: E_b[G] = r + γ Σ π(a') G'(a'), whatever is sampled after it, with a control variate or not."""
    b, g = np.array([0.2, 0.3, 0.5]), np.array([7.0, -1.0, 4.0])
    mean = sum(b[a] * getattr(updates, name)(2.0, 0.9, NEXT, PROBS, a, PROBS[a] / b[a], 1.0, g[a]) for a in range(3))
    assert mean == pytest.approx(2.0 + 0.9 * PROBS @ g, rel=1e-12)


def test_importance_sampling_by_hand():
    assert updates.off_policy_error(1.0, 3.0, 5.0) == 12.0
    assert updates.importance_ratio(3.0, 0.5, 0.25) == 6.0
    assert updates.importance_ratio(3.0, 0.0, 0.25) == 0.0
    assert updates.ordinary_error(1.0, 3.0, 5.0) == 14.0
    assert updates.weighted_change(1.0, 3.0, 5.0, 12.0) == 1.0
    assert updates.weighted_change(1.0, 0.0, 5.0, 0.0) == 0.0  # no weight yet, nothing to divide by


@pytest.mark.parametrize("seed", range(3))
def test_averages_are_what_they_are_built_from(seed):
    """Eq. 5.5: the mean of ρ G; eq. 5.6: the mean of G, weighted by ρ."""
    rng = np.random.default_rng(seed)
    rho, g = rng.uniform(0, 3, 6), rng.normal(size=6)
    ordinary = weighted = total = 0.0
    for n, (w, x) in enumerate(zip(rho, g, strict=True), start=1):
        ordinary += updates.ordinary_error(ordinary, w, x) / n
        total += w
        weighted += updates.weighted_change(weighted, w, x, total)
    assert ordinary == pytest.approx(np.mean(rho * g), rel=1e-12)
    assert weighted == pytest.approx(np.sum(rho * g) / np.sum(rho), rel=1e-12)


def test_traces_by_hand():
    assert updates.accumulating_trace(0.25) == 1.25
    assert updates.replacing_trace(0.25) == 1.0
    assert updates.dutch_trace(0.25, 0.5) == 1.125
    assert updates.dutch_trace(0.0, 0.5) == 1.0
    # α = 0.5, δ = 2, v - v_old = 3, e = 4: 0.5 · 5 · 4 = 10, less α (v - v_old) for the state that is left
    assert updates.true_online_change(0.5, 2.0, 3.0, 4.0, 0.0) == 10.0
    assert updates.true_online_change(0.5, 2.0, 3.0, 4.0, 1.0) == 8.5


def test_planning_by_hand():
    assert updates.exploration_bonus(0.5, 16) == 2.0
    assert updates.exploration_bonus(0.5, 0) == 0.0
    assert updates.outcome_value(0.25, 2.0, 0.5, NEXT) == 1.0
    assert updates.outcome_value(0.25, 2.0, 0.0, NEXT) == 0.5


def test_softmax_by_hand():
    h = np.array([0.0, np.log(2.0), np.log(5.0)])
    weights = [updates.softmax_weight(x, h[2], 1.0) for x in h]
    np.testing.assert_allclose(weights, [0.2, 0.4, 1.0], rtol=1e-12)
    assert updates.softmax_total(h, 1.0) == pytest.approx(1.6, rel=1e-12)
    assert updates.softmax_weight(0.0, np.log(2.0), 0.5) == pytest.approx(0.25, rel=1e-12)  # half the temperature: squared
    assert updates.softmax_total(h, 0.5) == pytest.approx(0.04 + 0.16 + 1.0, rel=1e-12)
    assert updates.softmax_weight(1000.0, 1000.0, 1e-3) == 1.0  # no overflow: only differences count


def test_the_preference_gradient_is_the_gradient_of_the_expected_reward():
    """Section 2.8: E[(r - R̄) (1[b = A] - π(b))] = ∂ E[r] / ∂H(b), whatever the baseline; against finite differences."""
    assert updates.preference_gradient(2.0, 0.25, True) == 1.5
    assert updates.preference_gradient(2.0, 0.25, False) == -0.5
    h, mean, baseline = np.array([0.3, -0.2, 0.8]), np.array([1.0, 2.0, -1.0]), 0.7

    def policy(h):
        return np.exp(h) / np.exp(h).sum()

    pi = policy(h)
    for b in range(3):
        expected = sum(pi[a] * updates.preference_gradient(mean[a] - baseline, pi[b], a == b) for a in range(3))
        step = 1e-6 * np.eye(3)[b]
        slope = (policy(h + step) @ mean - policy(h - step) @ mean) / 2e-6
        assert expected == pytest.approx(slope, abs=1e-9)
