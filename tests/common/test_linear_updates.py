"""Update rules of linear function approximation: by hand, against dense twins, forward views and closed forms."""

import numpy as np
import pytest

from sb3_lecture.common.linear_updates import (
    ACCUMULATING,
    REPLACING,
    TRUE_ONLINE,
    dot,
    gradient_td,
    least_squares,
    max_value,
    semi_gradient,
    trace_step,
)

ALL = np.arange(3)


def x(*entries):
    return np.array(entries, dtype=float)


def test_values_by_hand():
    w, index, value = np.array([[1.0, 2.0, 3.0], [-1.0, 5.0, 4.0]]), np.array([0, 2]), x(1, 0.5)
    assert dot(w, 0, index, value) == 2.5
    assert dot(w, 1, index, value) == 1.0
    assert max_value(w, index, value) == 2.5


def test_semi_gradient_by_hand():
    w = np.array([[9.0, 9.0, 9.0], [1.0, 2.0, 3.0]])
    delta = semi_gradient(w, 1, np.array([0, 2]), x(1, 0.5), target=4.5, alpha=0.1, rho=2.0)
    assert delta == 2.0
    np.testing.assert_allclose(w, [[9, 9, 9], [1.4, 2.0, 3.2]])


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        # α = 0.5, γλ = 0.4, rewards 1 and 2, no values ahead; x₁ = (1, 0), x₂ = (1, 1)
        # z₁ = (1, 0), δ₁ = 1, w = (0.5, 0); δ₂ = 2 − 0.5 = 1.5
        (ACCUMULATING, [0.5 + 0.5 * 1.5 * 1.4, 0.5 * 1.5 * 1.0]),  # z₂ = 0.4 (1, 0) + (1, 1)
        (REPLACING, [0.5 + 0.5 * 1.5 * 1.0, 0.5 * 1.5 * 1.0]),  # z₂ = (1, 1)
        # z₂ = 0.4 (1, 0) + (1 − 0.5 · 0.4 · 1)(1, 1) = (1.2, 0.8); V − V_old = 0.5: w += 0.5 · 2.0 z₂ − 0.5 · 0.5 x₂
        (TRUE_ONLINE, [0.5 + 1.2 - 0.25, 0.8 - 0.25]),
    ],
)
def test_traces_by_hand(kind, expected):
    w, z = np.zeros((1, 2)), np.zeros((1, 2))
    index = np.arange(2)
    assert trace_step(w, z, 0.0, 0, index, x(1, 0), 1.0, 1.0, 0.0, 0.5, 1.0, 0.4, kind) == 1.0
    moved = w[0] @ [1, 1] - 0.0  # the value of x₂, before and after the update
    assert trace_step(w, z, moved, 0, index, x(1, 1), 2.0, 1.0, 0.0, 0.5, 1.0, 0.4, kind) == 1.5
    np.testing.assert_allclose(w[0], expected)


def test_off_policy_traces_carry_all_ratios():
    w, z, index = np.zeros((1, 2)), np.zeros((1, 2)), np.arange(2)
    trace_step(w, z, 0.0, 0, index, x(1, 0), 1.0, 1.0, 0.0, 0.5, 2.0, 0.4, ACCUMULATING)  # z = 2 (1, 0), w = (1, 0)
    trace_step(w, z, 0.0, 0, index, x(0, 1), 1.0, 1.0, 0.0, 0.5, 3.0, 0.4, ACCUMULATING)  # z = 3 (0.8, 1), δ = 1
    np.testing.assert_allclose(z[0], [2.4, 3.0])
    np.testing.assert_allclose(w[0], [1 + 0.5 * 2.4, 0.5 * 3.0])


def test_rows_of_other_actions_keep_their_traces():
    w, z, index = np.zeros((2, 2)), np.zeros((2, 2)), np.arange(2)
    trace_step(w, z, 0.0, 0, index, x(1, 0), 0.0, 1.0, 0.0, 0.5, 1.0, 0.4, ACCUMULATING)
    trace_step(w, z, 0.0, 1, index, x(1, 0), 1.0, 1.0, 0.0, 0.5, 1.0, 0.4, ACCUMULATING)
    np.testing.assert_allclose(w, [[0.2, 0], [0.5, 0]])


def online_lambda_return(xs, rewards, gamma, lambda_, alpha):
    """The online λ-return algorithm (section 12.4): after each step all steps so far are done anew, with the returns known."""
    w, horizon = np.zeros(xs.shape[1]), len(rewards)  # xs [T + 1, d], the last one is where it stops
    trail = [w]
    for h in range(1, horizon + 1):
        w = np.zeros(xs.shape[1])
        for t in range(h):

            def n_step(n, t=t):
                g = sum(gamma**k * rewards[t + k] for k in range(n))
                return g + gamma**n * trail[t + n - 1] @ xs[t + n]

            g = (1 - lambda_) * sum(lambda_ ** (n - 1) * n_step(n) for n in range(1, h - t)) + lambda_ ** (h - t - 1) * n_step(
                h - t
            )
            w = w + alpha * (g - w @ xs[t]) * xs[t]
        trail.append(w)
    return trail


@pytest.mark.parametrize("lambda_", [0.0, 0.5, 1.0])
def test_true_online_equals_the_online_lambda_return_algorithm(lambda_):
    rng = np.random.default_rng(1)
    xs, rewards, gamma, alpha = rng.normal(size=(7, 3)), rng.normal(size=6), 0.9, 0.2
    expected = online_lambda_return(xs, rewards, gamma, lambda_, alpha)
    w, z, moved = np.zeros((1, 3)), np.zeros((1, 3)), 0.0
    for t in range(6):
        v2 = dot(w, 0, ALL, xs[t + 1])
        trace_step(w, z, moved, 0, ALL, xs[t], rewards[t], gamma, v2, alpha, 1.0, gamma * lambda_, TRUE_ONLINE)
        moved = dot(w, 0, ALL, xs[t + 1]) - v2
        np.testing.assert_allclose(w[0], expected[t + 1], rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("kind", [ACCUMULATING, REPLACING, TRUE_ONLINE])
def test_lambda_0_is_one_step(kind):
    rng = np.random.default_rng(2)
    w, z, moved = rng.normal(size=(1, 3)), np.zeros((1, 3)), 0.0
    plain = w.copy()
    for _ in range(5):
        index, ones, r = rng.choice(3, 2, replace=False), np.ones(2), rng.normal()
        index2 = rng.choice(3, 2, replace=False)
        v2 = dot(w, 0, index2, ones)
        trace_step(w, z, moved, 0, index, ones, r, 0.9, v2, 0.1, 1.0, 0.0, kind)
        semi_gradient(plain, 0, index, ones, r + 0.9 * dot(plain, 0, index2, ones), 0.1, 1.0)
        np.testing.assert_allclose(w, plain, rtol=1e-12)


def test_gradient_td_by_hand():
    # w = (1, 2), v = (0.5, 1), x = (1, 0), x' = (0, 1), r = 1, γ = 0.5: δ = 1 + 1 − 1 = 1, xᵀv = 0.5; α = 0.1, β = 0.2, ρ = 2
    for corrected, expected in ((True, [1 + 0.1 * 2 * 1.0, 2 - 0.1 * 2 * 0.5 * 0.5]), (False, [1 + 0.1 * 2 * 0.5, 2 - 0.05])):
        w, v, index = x(1, 2)[None], x(0.5, 1)[None], np.arange(2)
        delta = gradient_td(w, v, index, x(1, 0), index, x(0, 1), 1.0, 0.5, 0.1, 0.2, 2.0, corrected)
        assert delta == 1.0
        np.testing.assert_allclose(w[0], expected)
        np.testing.assert_allclose(v[0], [0.5 + 0.2 * 2 * (1.0 - 0.5), 1.0])


def problem(seed=0, n_states=5, d=3, gamma=0.9):
    """A random off-policy problem: features, transitions under π, rewards, b's state distribution; A, b, C."""
    rng = np.random.default_rng(seed)
    features, transition = rng.normal(size=(n_states, d)), rng.dirichlet(np.ones(n_states), size=n_states)
    reward, visits = rng.normal(size=n_states), rng.dirichlet(np.ones(n_states))
    a = features.T @ np.diag(visits) @ (features - gamma * transition @ features)
    return features, transition, reward, visits, a, features.T @ (visits * reward), features.T @ np.diag(visits) @ features


@pytest.mark.parametrize("corrected", [True, False])
def test_gradient_td_descends_the_projected_bellman_error(corrected):
    """With v at its own solution, the mean step of w is half the gradient of (b − Aw)ᵀ C⁻¹ (b − Aw), by finite differences."""
    features, transition, reward, visits, a, b, c = problem()
    w0 = np.array([0.3, -0.2, 0.5])

    def error(w):
        return (b - a @ w) @ np.linalg.solve(c, b - a @ w)

    v0, step, d = np.linalg.solve(c, b - a @ w0), np.zeros(3), np.zeros(3)
    for s in range(5):
        for s2 in range(5):
            w, v = w0[None].copy(), v0[None].copy()
            gradient_td(w, v, ALL, features[s], ALL, features[s2], reward[s], 0.9, 1.0, 1.0, 1.0, corrected)
            step += visits[s] * transition[s, s2] * (w[0] - w0)
            d += visits[s] * transition[s, s2] * (v[0] - v0)
    slope = [(error(w0 + e) - error(w0 - e)) / 2e-5 for e in 1e-5 * np.eye(3)]
    np.testing.assert_allclose(step, -0.5 * np.array(slope), rtol=1e-6)
    np.testing.assert_allclose(d, 0, atol=1e-12)  # v stays where it is


def test_least_squares_keeps_the_inverse():
    rng = np.random.default_rng(3)
    a, b = 0.5 * np.eye(4), np.zeros(4)
    inverse, ours, scratch = np.linalg.inv(a), np.zeros(4), np.empty((2, 4))
    for t in range(30):
        index, index2 = rng.choice(4, 2, replace=False), rng.choice(4, 2, replace=False)
        value, value2, z, r, discount = (
            rng.normal(size=2),
            rng.normal(size=2),
            rng.normal(size=4),
            rng.normal(),
            0.9 * (t % 5 > 0),
        )
        now, then = np.zeros(4), np.zeros(4)
        now[index], then[index2] = value, value2
        a += np.outer(z, now - discount * then)
        b += r * z
        least_squares(inverse, ours, z, index, value, index2, value2, r, discount, *scratch)
    np.testing.assert_allclose(inverse, np.linalg.inv(a), rtol=1e-7, atol=1e-9)
    np.testing.assert_allclose(ours, b, rtol=1e-12)
