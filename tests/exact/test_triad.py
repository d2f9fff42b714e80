"""Baird's star: the triad diverges, and no pair of its three does."""

import numpy as np
import pytest

from sb3_lecture.exact.triad import expected_update, spectral_radius
from sb3_lecture.zoo import triad_plot
from sb3_lecture.zoo.triad_plot import baird_triad, first_weights, sampled_run
from sb3_lecture_envs import baird_star


def test_only_all_three_together_diverge():
    """The book's step size and weights: radius 1.0023925, and 335.0 after 1000 expected updates (example 11.1)."""
    worst, *others = baird_triad()
    assert (worst.approximation, worst.bootstrapping, worst.off_policy) == (True, True, True)
    assert worst.radius == pytest.approx(1.0023925, abs=5e-8)
    assert worst.sweeps(np.array(baird_star.START_WEIGHTS), 1000)[-1] == pytest.approx(335.0, abs=0.05)
    assert len(others) == 7
    for combination in others:
        assert combination.radius <= 1.0 + 1e-12
        assert combination.sweeps(first_weights(combination), 1000)[-1] <= first_weights(combination).max()


def test_the_expected_update_is_the_sum_of_the_updates():
    """Literally, over states and actions of b with the ratio of π; and w ← M w has no constant, as nothing is paid."""
    rng = np.random.default_rng(0)
    w = rng.normal(size=8)
    x = baird_star.FEATURES
    mdp = baird_star.law()[0]
    pi = (0.0, 1.0)
    for bootstrapping in (True, False):
        total = w.copy()
        for s in range(7):
            for a, b in enumerate(baird_star.BEHAVIOUR):
                for p, after, reward, _ in mdp.outcomes(s, a):
                    target = reward + 0.99 * x[after] @ w if bootstrapping else 0.0
                    ratio = pi[a] / b if bootstrapping else 1.0
                    total += 0.01 / 7 * b * p * ratio * (target - x[s] @ w) * x[s]
        solid = np.zeros((7, 7))
        solid[:, 6] = 1.0
        matrix = expected_update(x, solid, np.full(7, 1 / 7), 0.01, 0.99, bootstrapping)
        np.testing.assert_allclose(matrix @ w, total)


def test_the_data_of_b_has_all_states_alike():
    transition = np.zeros((7, 7))
    mdp = baird_star.law()[0]
    for s in range(7):
        for a, b in enumerate(baird_star.BEHAVIOUR):
            for p, after, *_ in mdp.outcomes(s, a):
                transition[s, after] += b * p
    np.testing.assert_allclose(transition, 1 / 7)


def test_sampled_updates_are_the_expected_one_on_average():
    """One update from the book's weights, 4000 times, within five standard errors."""
    combination = baird_triad()[0]
    rng = np.random.default_rng(0)
    runs = np.array([sampled_run(combination, 200, rng)[-1] for _ in range(200)])
    assert abs(runs.mean() - combination.sweeps(first_weights(combination), 200)[-1]) < 5 * runs.std() / np.sqrt(200) + 1.0
    for calm in baird_triad()[1:]:
        assert sampled_run(calm, 300, rng)[-1] <= 10.0


def test_the_picture_is_drawn():
    figure = triad_plot.triad_figure(n_steps=20)
    assert len(figure.axes) == 8 and "1.0023925" in figure.axes[0].get_title()
    assert spectral_radius(np.array([[0.0, 2.0], [-2.0, 0.0]])) == pytest.approx(2.0)
