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
