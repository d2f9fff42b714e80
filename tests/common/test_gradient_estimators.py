"""Estimators against closed forms: means within 3 standard errors, variances in the order that theory says."""

import math

import pytest
import torch as th
from torch.distributions import Independent, Normal, OneHotCategorical

from sb3_lecture.common.gradient_estimators import (
    exact_categorical_gradient,
    gumbel_softmax,
    pathwise,
    relaxed_one_hot,
    score_function,
    straight_through,
)

N = 100_000
MU = th.tensor([0.7, -0.4], dtype=th.float64)
LOGITS = th.tensor([0.5, -0.3, 0.0], dtype=th.float64)
TARGET = th.tensor([0.2, -0.5, 1.0], dtype=th.float64)


def gaussian(mu):
    return Independent(Normal(mu, 1.0), 1)


def categorical(logits):
    return OneHotCategorical(logits=logits)


def square(x):  # E = Σ μ² + d, so the gradient is 2μ
    return (x**2).sum(dim=-1)


def distance(x):  # not linear in x: a relaxed x is worth something else than the mean of the one-hots
    return ((x - TARGET) ** 2).sum(dim=-1)


def assert_mean(estimates, truth, standard_errors=3.0):
    error = estimates.std(dim=0) / math.sqrt(len(estimates))
    assert ((estimates.mean(dim=0) - truth).abs() <= standard_errors * error).all(), (estimates.mean(dim=0), truth, error)


@pytest.fixture(autouse=True)
def seeded():
    th.manual_seed(1)


@pytest.mark.parametrize("baseline", [None, 2.5, "leave_one_out"])
def test_score_function_is_unbiased_on_a_gaussian(baseline):
    assert_mean(score_function(gaussian, MU, square, N, baseline), 2 * MU)


@pytest.mark.parametrize("baseline", [None, 2.5, "leave_one_out"])
def test_score_function_is_unbiased_on_categories(baseline):
    truth = exact_categorical_gradient(LOGITS, distance)
    assert_mean(score_function(categorical, LOGITS, distance, N, baseline), truth)


def test_pathwise_is_unbiased_and_has_its_closed_form_variance():
    estimates = pathwise(gaussian, MU, square, N)
    assert_mean(estimates, 2 * MU)
    th.testing.assert_close(estimates.var(dim=0), th.full((2,), 4.0, dtype=th.float64), rtol=0.03, atol=0.0)  # 2(μ + ε)


def test_score_function_has_its_closed_form_variance():
    mu = th.tensor([0.7], dtype=th.float64)
    m = mu.item()
    # the estimate is (μ + ε)² ε; E of its square is E[(μ + ε)⁴ ε²] = μ⁴ + 18 μ² + 15
    variance = m**4 + 18 * m**2 + 15 - (2 * m) ** 2
    assert score_function(gaussian, mu, square, 4 * N).var().item() == pytest.approx(variance, rel=0.05)


def test_variance_falls_from_score_function_over_baseline_to_pathwise():
    plain, with_baseline, path = (
        e.var(dim=0).sum()
        for e in (
            score_function(gaussian, MU, square, N),
            score_function(gaussian, MU, square, N, baseline="leave_one_out"),
            pathwise(gaussian, MU, square, N),
        )
    )
    assert plain > 1.2 * with_baseline > 1.2 * 1.2 * path


def test_the_exact_gradient_is_the_derivative_of_the_enumerated_sum():
    logits = LOGITS.clone().requires_grad_(True)
    total = (logits.softmax(dim=0) * distance(th.eye(3, dtype=th.float64))).sum()
    th.testing.assert_close(th.autograd.grad(total, logits)[0], exact_categorical_gradient(LOGITS, distance))


def test_gumbel_softmax_trades_bias_for_variance():
    truth = exact_categorical_gradient(LOGITS, distance)
    bias, variance, spread = {}, {}, {}
    for temperature in (0.1, 0.5, 2.0):
        estimates = gumbel_softmax(LOGITS, distance, 4 * N, temperature)
        bias[temperature] = (estimates.mean(dim=0) - truth).norm().item()
        variance[temperature] = estimates.var(dim=0).sum().item()
        spread[temperature] = math.sqrt(variance[temperature] / (4 * N))
    assert bias[2.0] > bias[0.5] + 3 * spread[0.5] and bias[0.5] > bias[0.1] + 3 * spread[0.1]
    assert variance[0.1] > variance[0.5] > variance[2.0]


def test_gumbel_softmax_becomes_unbiased_as_the_temperature_vanishes():
    estimates = gumbel_softmax(LOGITS, distance, 10 * N, temperature=0.02)
    truth = exact_categorical_gradient(LOGITS, distance)
    allowed = 3 * estimates.std(dim=0) / math.sqrt(len(estimates)) + 0.02
    assert ((estimates.mean(dim=0) - truth).abs() < allowed).all()


def test_straight_through_equals_gumbel_softmax_where_the_slope_is_constant():
    def linear(x):
        return x @ TARGET

    th.manual_seed(3)
    soft = gumbel_softmax(LOGITS, linear, 1000, temperature=0.7)
    th.manual_seed(3)
    hard = straight_through(LOGITS, linear, 1000, temperature=0.7)
    th.testing.assert_close(soft, hard)


def test_straight_through_is_biased_and_sees_f_at_one_hots_only():
    seen = []

    def f(x):
        seen.append(x.detach())
        return distance(x)

    estimates = straight_through(LOGITS, f, N, temperature=1.0)
    assert ((seen[0] == 0) | (seen[0] == 1)).all() and (seen[0].sum(dim=1) == 1).all()
    error = estimates.std(dim=0) / math.sqrt(N)
    bias = (estimates.mean(dim=0) - exact_categorical_gradient(LOGITS, distance)).abs()
    assert (bias > 5 * error).any()


def test_the_argmax_of_a_relaxed_sample_is_an_exact_sample():
    y = relaxed_one_hot(LOGITS.expand(N, 3), temperature=5.0)
    th.testing.assert_close(y.sum(dim=1), th.ones(N, dtype=th.float64))
    p = LOGITS.softmax(dim=0)
    frequency = th.bincount(y.argmax(dim=1), minlength=3) / N
    assert ((frequency - p).abs() < 3 * (p * (1 - p) / N).sqrt()).all()


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="temperature=0"):
        relaxed_one_hot(LOGITS, 0)
    with pytest.raises(ValueError, match="OneHotCategorical"):
        pathwise(categorical, LOGITS, distance, 4)
    with pytest.raises(ValueError, match="n_samples=1"):
        score_function(gaussian, MU, square, 1, "leave_one_out")
    with pytest.raises(ValueError, match="median"):
        score_function(gaussian, MU, square, 4, "median")
