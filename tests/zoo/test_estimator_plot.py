"""The measured rows of the estimators' picture agree with theory, and the picture draws."""

import pytest
import torch as th

from sb3_lecture.zoo.estimator_plot import TEMPERATURES, estimator_figure, estimator_rows


def test_rows_agree_with_theory_and_leave_the_generator_alone():
    th.manual_seed(5)
    expected = th.rand(3)
    th.manual_seed(5)
    rows = {(row.law, row.estimator): row for row in estimator_rows(20_000, seed=1)}
    assert th.equal(th.rand(3), expected)
    for key in (("Gaussian", "score function"), ("Gaussian", "with baseline"), ("Gaussian", "pathwise"),
                ("categorical", "score function"), ("categorical", "with baseline")):  # fmt: skip
        assert rows[key].bias < 3 * rows[key].standard_error, key
    gaussian = [rows["Gaussian", name].variance for name in ("score function", "with baseline", "pathwise")]
    assert gaussian == sorted(gaussian, reverse=True)
    for name in ("Gumbel-softmax", "straight-through"):
        relaxed = [rows["categorical", f"{name}, τ={tau:g}"] for tau in TEMPERATURES]
        assert [row.variance for row in relaxed] == sorted((row.variance for row in relaxed), reverse=True)
        assert relaxed[-1].bias > relaxed[2].bias > 3 * relaxed[2].standard_error


def test_the_figure_draws(tmp_path):
    estimator_figure(1000).savefig(tmp_path / "estimators.png")
    assert (tmp_path / "estimators.png").stat().st_size > 10_000


def test_too_few_samples_are_named():
    with pytest.raises(ValueError, match="n_samples=1"):
        estimator_rows(1)
