"""q ∝ π exp(Q/η) within a KL ball: worked numbers, the dual's optimum, strong duality, what no η can reach."""

import math

import pytest
import torch as th
from torch.distributions import Normal, kl_divergence

from sb3_lecture.common.kl_bound import LARGEST, dual, gaussian_kls, mean_kl, reweighted, solve_temperature


def some(seed, states=7, actions=5, scale=1.0):
    draw = th.Generator().manual_seed(seed)
    values = scale * th.randn(states, actions, generator=draw, dtype=th.float64)
    return values, th.randn(states, actions, generator=draw, dtype=th.float64).log_softmax(dim=1)


def test_two_actions_by_hand():
    """q = (0.9, 0.1) against (0.5, 0.5) is 0.9 ln 1.8 + 0.1 ln 0.2 nats away, and ln(0.9/0.1) = (Q₁ − Q₂)/η."""
    values, prior = th.tensor([[3.0, 1.0]]), th.full((1, 2), 0.5).log()
    epsilon = 0.9 * math.log(1.8) + 0.1 * math.log(0.2)
    eta = solve_temperature(values, prior, epsilon)
    assert eta == pytest.approx(2 / math.log(9), rel=1e-6)
    th.testing.assert_close(reweighted(values, prior, eta), th.tensor([[0.9, 0.1]]))
    assert mean_kl(th.tensor([[0.9, 0.1]]), prior).item() == pytest.approx(epsilon, rel=1e-5)
    assert mean_kl(th.tensor([[1.0, 0.0]]), prior).item() == pytest.approx(math.log(2))


@pytest.mark.parametrize("guess", [1e-3, 1.0, 1e4])
@pytest.mark.parametrize("epsilon", [1e-6, 0.01, 0.1, 0.5])
@pytest.mark.parametrize("scale", [1e-3, 1.0, 1e5])
def test_the_kl_is_what_is_allowed_and_the_dual_is_at_its_least(scale, epsilon, guess):
    values, prior = some(1, scale=scale)
    eta = solve_temperature(values, prior, epsilon, guess)
    q = reweighted(values, prior, eta)
    assert mean_kl(q, prior).item() == pytest.approx(epsilon, rel=1e-6)
    least = dual(values, prior, epsilon, eta)
    assert least <= min(dual(values, prior, epsilon, eta * factor) for factor in (0.9, 0.99, 1.01, 1.1))
    th.testing.assert_close((q * values).sum(dim=1).mean(), least)  # strong duality: the best value is the dual's least


def test_nothing_in_the_ball_is_better():
    values, prior = some(2, states=3, actions=4)
    q = reweighted(values, prior, solve_temperature(values, prior, 0.2))
    best, draw = (q * values).sum(dim=1).mean(), th.Generator().manual_seed(0)
    tried = 0
    for _ in range(3000):
        other = (q.log() + 0.3 * th.randn(q.shape, generator=draw, dtype=th.float64)).softmax(dim=1)
        if mean_kl(other, prior) <= 0.2:
            tried += 1
            assert (other * values).sum(dim=1).mean() <= best
    assert tried > 100


def test_what_no_temperature_reaches():
    values, prior = th.tensor([[0.0, 1.0], [5.0, 2.0]]), th.full((2, 2), 0.5).log()
    eta = solve_temperature(values, prior, 1.0)  # a greedy q is only ln 2 away
    th.testing.assert_close(reweighted(values, prior, eta), th.tensor([[0.0, 1.0], [1.0, 0.0]]))
    assert solve_temperature(th.ones(2, 2), prior, 0.1) == LARGEST
    th.testing.assert_close(reweighted(th.ones(2, 2), prior, LARGEST), th.full((2, 2), 0.5))


def test_gaussians_of_which_one_part_moves():
    draw = th.Generator().manual_seed(0)
    mean, log_std, new_mean, new_log_std = th.randn(4, 6, 3, generator=draw, dtype=th.float64)
    of_mean, of_std = gaussian_kls(mean, log_std, new_mean, new_log_std)
    old = Normal(mean, log_std.exp())
    th.testing.assert_close(of_mean, kl_divergence(old, Normal(new_mean, log_std.exp())).sum(dim=1))
    th.testing.assert_close(of_std, kl_divergence(old, Normal(mean, new_log_std.exp())).sum(dim=1))


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_values_that_are_none_are_refused(bad):
    prior = th.full((1, 2), 0.5).log()
    with pytest.raises(ValueError, match="values must be finite"):
        solve_temperature(th.tensor([[bad, 1.0]]), prior, 0.1)
    with pytest.raises(ValueError, match=r"guess=0\.0 above 0"):
        solve_temperature(th.tensor([[0.0, 1.0]]), prior, 0.1, guess=0.0)
