"""Bins and squashing maps against round trips, hand-worked cases and slow twins."""

import math

import numpy as np
import pytest
import torch as th
from hypothesis import given
from hypothesis import strategies as st

from sb3_lecture.common.distributional import (
    expectation,
    inverse_value_transform,
    project,
    quantile_huber_loss,
    symexp,
    symlog,
    two_hot,
    value_transform,
)

numbers = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=8)


def tensor(values):
    return th.tensor(values, dtype=th.float64)


def test_hand_worked_values():
    """√(3 + 1) − 1 = 1, √(8 + 1) − 1 = 2; e − 1 ↦ 1."""
    th.testing.assert_close(value_transform(tensor([3.0, -8.0, 0.0]), 0.0), tensor([1.0, -2.0, 0.0]))
    th.testing.assert_close(value_transform(tensor([3.0, -8.0])), tensor([1.003, -2.008]))
    th.testing.assert_close(symlog(tensor([math.e - 1, 1 - math.e, 0.0])), tensor([1.0, -1.0, 0.0]))


@given(numbers)
def test_the_maps_are_undone(xs):
    x = tensor(xs)
    th.testing.assert_close(symexp(symlog(x)), x)
    for epsilon in (0.0, 1e-3, 0.1):
        th.testing.assert_close(inverse_value_transform(value_transform(x, epsilon), epsilon), x, rtol=1e-9, atol=1e-9)


def test_the_inverse_is_that_of_the_paper():
    """Pohlen et al. 2018, proposition A.2, in numbers of double length, where its difference does no harm."""
    y, epsilon = tensor(np.linspace(-400, 400, 101)), 1e-3
    paper = y.sign() * ((((1 + 4 * epsilon * (y.abs() + 1 + epsilon)).sqrt() - 1) / (2 * epsilon)) ** 2 - 1)
    th.testing.assert_close(inverse_value_transform(y), paper, rtol=1e-9, atol=1e-9)


def test_the_inverse_keeps_small_numbers_in_single_precision():
    x = th.tensor([0.0, 1e-30, -1e-8, 1e-4, 1.0, -300.0])
    y = inverse_value_transform(value_transform(x.double()).float())
    th.testing.assert_close(y, x, rtol=1e-6, atol=0.0)


def slow_two_hot(value, bins):
    """One value at a time, by its definition."""
    weights = [0.0] * len(bins)
    if value <= bins[0]:
        weights[0] = 1.0
    elif value >= bins[-1]:
        weights[-1] = 1.0
    else:
        for i in range(len(bins) - 1):
            if bins[i] <= value < bins[i + 1]:
                weights[i] = (bins[i + 1] - value) / (bins[i + 1] - bins[i])
                weights[i + 1] = (value - bins[i]) / (bins[i + 1] - bins[i])
    return weights


@given(
    st.lists(st.floats(-10, 10), min_size=1, max_size=8), st.lists(st.integers(-50, 50), min_size=2, max_size=9, unique=True)
)
def test_two_hot_equals_its_slow_twin(values, bins):
    bins = sorted(float(b) / 5 for b in bins)
    expected = [slow_two_hot(v, bins) for v in values]
    th.testing.assert_close(two_hot(tensor(values), tensor(bins)), tensor(expected), rtol=0, atol=1e-9)


def test_two_hot_by_hand():
    """3.7 between 3 and 4 (Schrittwieser et al. 2020, appendix F): 0.3 and 0.7; a bin itself; beyond the last."""
    weights = two_hot(th.tensor([[3.7, 2.0], [9.0, -9.0]]), th.arange(5.0))
    expected = [[[0, 0, 0, 0.3, 0.7], [0, 0, 1, 0, 0]], [[0, 0, 0, 0, 1], [1, 0, 0, 0, 0]]]
    th.testing.assert_close(weights, th.tensor(expected))


@given(st.lists(st.floats(-20, 20), min_size=1, max_size=8))
def test_expectation_undoes_two_hot(values):
    for bins in (th.linspace(-20, 20, 41, dtype=th.float64), symexp(th.linspace(-4, 4, 10, dtype=th.float64))):
        weights = two_hot(tensor(values), bins)
        th.testing.assert_close(weights.sum(-1), th.ones(len(values), dtype=th.float64))
        th.testing.assert_close(expectation(weights.log(), bins), tensor(values), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("m", [2, 5, 255])
def test_equal_logits_mean_zero(m):
    bins = symexp(th.linspace(-20, 20, m))
    bins = (bins - bins.flip(0)) / 2  # symmetric to the last bit
    assert expectation(th.zeros(3, m), bins).abs().max() == 0.0


def test_expectation_is_a_weighted_sum():
    logits, bins = th.randn(4, 7, generator=th.Generator().manual_seed(0)), th.tensor([-3.0, -1, 0, 2, 2.5, 7, 9])
    slow = [
        sum(math.exp(a) * b for a, b in zip(row, bins.tolist(), strict=True)) / sum(map(math.exp, row))
        for row in logits.tolist()
    ]
    th.testing.assert_close(expectation(logits, bins), th.tensor(slow))
    th.testing.assert_close(expectation(logits.reshape(2, 2, 7), bins), th.tensor(slow).reshape(2, 2))
    th.testing.assert_close(expectation(logits[0], bins), th.tensor(slow[0]))


# ---- returns as distributions


def test_projection_by_hand():
    """Atoms −1, 0, 2. 1 lies halfway between 0 and 2; −0.25 is a quarter of the way from 0 to −1; 5 goes to 2."""
    atoms = tensor([-1.0, 0.0, 2.0])
    support, p = tensor([[1.0, -0.25, 5.0, 0.0]]), tensor([[0.4, 0.4, 0.1, 0.1]])
    th.testing.assert_close(project(support, p, atoms), tensor([[0.1, 0.3 + 0.2 + 0.1, 0.2 + 0.1]]))


@given(
    st.lists(st.tuples(st.floats(-30, 30), st.floats(0, 1)), min_size=1, max_size=8),
    st.lists(st.floats(-20, 20), min_size=2, max_size=9, unique_by=lambda x: round(x, 3)),
)
def test_projection_equals_its_slow_twin(points, atoms):
    z = sorted(atoms)
    x, p = map(np.array, zip(*points, strict=True))
    expected = np.zeros(len(z))
    for point, probability in zip(x, p, strict=True):
        point = min(max(point, z[0]), z[-1])
        for i, atom in enumerate(z):
            if i > 0 and z[i - 1] <= point <= atom:
                expected[i] += probability * (point - z[i - 1]) / (atom - z[i - 1])
                expected[i - 1] += probability * (atom - point) / (atom - z[i - 1])
                break
    projected = project(tensor(x)[None], tensor(p)[None], tensor(z))[0]
    np.testing.assert_allclose(projected, expected, atol=1e-9)
    assert projected.sum().item() == pytest.approx(p.sum())
    single = project(th.tensor(x, dtype=th.float32)[None], th.tensor(p, dtype=th.float32)[None], tensor(z).float())
    assert (single >= 0).all()
    inside = np.clip(x, z[0], z[-1])
    assert (projected * tensor(z)).sum().item() == pytest.approx((p * inside).sum(), abs=1e-8)


def test_quantile_huber_loss_by_hand():
    """θ = 0 at τ = ¼, targets ½ and −2: (¼ · ⅛ + ¾ · 1.5) / 2, with κ = 1; with κ = 0: (¼ · ½ + ¾ · 2) / 2."""
    theta, tau, targets = tensor([[0.0]]), tensor([0.25]), tensor([[0.5, -2.0]])
    th.testing.assert_close(quantile_huber_loss(theta, tau, targets), tensor([(0.03125 + 1.125) / 2]))
    th.testing.assert_close(quantile_huber_loss(theta, tau, targets, kappa=0.0), tensor([(0.125 + 1.5) / 2]))
    th.testing.assert_close(quantile_huber_loss(theta, tau, targets, kappa=2.0), tensor([(0.25 * 0.0625 + 0.75 * 1.0) / 2]))


def test_quantile_huber_loss_equals_its_slow_twin():
    rng = np.random.default_rng(0)
    theta, tau, targets = rng.normal(size=(3, 4)), rng.uniform(size=(3, 4)), 2.0 * rng.normal(size=(3, 5))
    for kappa in (1.0, 0.3, 0.0):
        expected = np.zeros(3)
        for b in range(3):
            for i in range(4):
                for j in range(5):
                    delta = targets[b, j] - theta[b, i]
                    if kappa == 0:
                        size = abs(delta)
                    elif abs(delta) <= kappa:
                        size = delta**2 / (2 * kappa)
                    else:
                        size = abs(delta) - kappa / 2
                    expected[b] += abs(tau[b, i] - (delta < 0)) * size / 5
        np.testing.assert_allclose(quantile_huber_loss(tensor(theta), tensor(tau), tensor(targets), kappa), expected)


def test_the_quantile_losss_minimum_is_the_quantile():
    """Of 0 … 99 the τ quantile lies at 100 τ."""
    targets = th.arange(100, dtype=th.float64)
    grid = th.arange(0, 100, 0.5, dtype=th.float64)[:, None]
    for tau in (0.105, 0.505, 0.905):
        losses = quantile_huber_loss(grid, tensor([tau]), targets, kappa=0.0)
        assert grid[losses.argmin()].item() == int(100 * tau)
