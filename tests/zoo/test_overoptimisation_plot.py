"""The picture of over-optimisation shows what is claimed: with few rankings the true score rises, then falls."""

import pytest

from sb3_lecture.zoo import cli
from sb3_lecture.zoo.overoptimisation_plot import overoptimisation_figure


@pytest.mark.slow
def test_the_true_score_of_few_rankings_rises_then_falls():
    figure, found = overoptimisation_figure([20], 60, 0)
    lines = {line.get_label(): line.get_xydata() for line in figure.axes[0].lines}
    curve = lines["learned from 20 rankings"][:, 1]
    row = found[20]
    assert row.best == curve.max() > curve[0] + 0.1
    assert row.last == curve[-1] < row.best - 0.05
    assert row.best <= row.true + 1e-6  # nobody is above the true reward at the same KL


def test_the_command_draws(tmp_path, capsys):
    path = tmp_path / "picture.png"
    assert cli.main(["plot", "overoptimisation", "--labels", "10", "-n", "5", "-o", str(path)]) == 0
    assert path.stat().st_size > 10_000
    assert "10 rankings: true score at most" in capsys.readouterr().out
