"""The league: its mathematics by hand, its mixtures exactly, its files and going on."""

import json

import numpy as np
import pytest
import torch as th
from stable_baselines3 import PPO

from sb3_lecture.exact import GameTree, exploitability, match_value, strategy_table
from sb3_lecture.games.league import League
from sb3_lecture.games.population import alpha_rank, elo_ratings, meeting_weights, mix_strategies, nash_mixture
from sb3_lecture_envs.cards.kuhn_poker import KuhnPoker

RPS = np.array([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]])
KUHN = GameTree(KuhnPoker())
SMALL = {"n_steps": 16, "batch_size": 32, "n_epochs": 2, "policy_kwargs": {"net_arch": [8]}, "device": "cpu"}


def some_policy(seed):
    raw = np.random.default_rng(seed).exponential(size=KUHN.legal.shape)
    return raw / raw.sum(axis=1, keepdims=True)


def test_pfsp_weights_by_hand():
    p = [0.0, 0.5, 0.9]
    np.testing.assert_allclose(meeting_weights(p), np.array([1.0, 0.25, 0.01]) / 1.26)
    np.testing.assert_allclose(meeting_weights(p, power=1.0), np.array([1.0, 0.5, 0.1]) / 1.6)
    np.testing.assert_allclose(meeting_weights(p, "even"), np.array([0.0, 0.25, 0.09]) / 0.34)
    np.testing.assert_allclose(meeting_weights(p, "uniform"), [1 / 3] * 3)
    assert meeting_weights(p, "latest").tolist() == [0, 0, 1]
    assert meeting_weights([1.0, 1.0]).tolist() == [0.5, 0.5]  # who beats all meets all
    for rates, words in (([1.1], "from 0 to 1"), ([], "from 0 to 1"), ([[0.5]], "from 0 to 1")):
        with pytest.raises(ValueError, match=words):
            meeting_weights(rates)
    with pytest.raises(ValueError, match="weighting='soft' is unknown"):
        meeting_weights(p, "soft")


def test_elo_is_the_odds():
    ratings = elo_ratings(np.array([[0.5, 10 / 11], [1 / 11, 0.5]]), draws=0.0)
    assert ratings.sum() == pytest.approx(0.0, abs=1e-9) and ratings[0] - ratings[1] == pytest.approx(400.0)
    three = elo_ratings(np.array([[0.5, 10 / 11, 100 / 101], [1 / 11, 0.5, 10 / 11], [1 / 101, 1 / 11, 0.5]]), draws=0.0)
    np.testing.assert_allclose(three, [400, 0, -400], atol=1e-6)
    assert np.isfinite(elo_ratings(np.array([[0.5, 1.0], [0.0, 0.5]]))).all()  # never lost
    np.testing.assert_allclose(elo_ratings((1 + RPS) / 2), 0.0, atol=1e-9)


def test_alpha_rank_of_two_by_hand_and_of_three():
    """M[0, 1] = 0.1: d from 0 to 1 is −0.2, so with α = 2, m = 3 fixation is (1 − e^0.4) / (1 − e^1.2)."""
    up, down = (1 - np.exp(-0.4)) / (1 - np.exp(-1.2)), (1 - np.exp(0.4)) / (1 - np.exp(1.2))
    law = alpha_rank(np.array([[0.0, 0.1], [-0.1, 0.0]]), alpha=2.0, population=3)
    np.testing.assert_allclose(law, [up / (up + down), down / (up + down)])
    np.testing.assert_allclose(alpha_rank(RPS), 1 / 3)
    ladder = np.array([[0.0, -1, -1], [1, 0, -1], [1, 1, 0]])
    assert alpha_rank(ladder)[2] == pytest.approx(1.0, abs=1e-6)
    np.testing.assert_allclose(alpha_rank(np.zeros((4, 4))), 0.25)


def test_nobody_beats_the_nash_mixture():
    np.testing.assert_allclose(nash_mixture(RPS), 1 / 3, atol=1e-3)
    biased = np.array([[0.0, -3, 1], [3, 0, -2], [-1, 2, 0]])
    np.testing.assert_allclose(nash_mixture(biased), [2 / 6, 1 / 6, 3 / 6], atol=2e-3)
    with_a_loser = np.array([[0.0, 1, 1, 1], [-1, 0, -1, 1], [-1, 1, 0, -1], [-1, -1, 1, 0]])
    assert nash_mixture(with_a_loser)[0] == pytest.approx(1.0, abs=1e-3)


def test_a_mixture_wins_the_mean_of_what_its_members_win():
    """Kuhn's theorem, which the mean of the tables would break: against any opponent, in both seats."""
    members, weights = [some_policy(s) for s in range(3)], np.array([0.5, 0.3, 0.2])
    mixed = mix_strategies(KUHN, members, weights)
    other = some_policy(9)
    for values in (
        (match_value(KUHN, mixed, other), [match_value(KUHN, member, other) for member in members]),
        (match_value(KUHN, other, mixed), [match_value(KUHN, other, member) for member in members]),
    ):
        assert values[0] == pytest.approx(float(weights @ values[1]), abs=1e-12)
    assert np.abs(mixed - np.tensordot(weights, members, 1)).max() > 0.01


def test_a_league_goes_on_from_its_folder_as_if_nothing_had_happened(tmp_path):
    arguments = (PPO, "Lecture/KuhnPoker-v0")
    kwargs = {"model_kwargs": SMALL, "exploiters": 1, "n_envs": 2, "seed": 3}
    whole = League(tmp_path / "whole", *arguments, **kwargs).run(3, 64)
    League(tmp_path / "parts", *arguments, **kwargs).run(2, 64)
    again = League(tmp_path / "parts", *arguments, **kwargs)
    assert again.generation == 2 and len(again.members) == 3
    again.run(1, 64)
    np.testing.assert_array_equal(whole.payoffs, again.payoffs)
    assert [m["role"] for m in whole.members] == ["main", "main", "exploiter of 1", "main", "exploiter of 3"]
    np.testing.assert_array_equal(whole.payoffs, -whole.payoffs.T)
    tables = [strategy_table(KUHN, whole.model(i)) for i in (1, 3)]  # ordinary files
    expected = (match_value(KUHN, *tables) - match_value(KUHN, *tables[::-1])) / 2
    assert whole.payoffs[1, 3] == pytest.approx(expected, abs=1e-12)
    PPO.load(tmp_path / "whole" / whole.members[2]["file"])  # SB3 opens them, too
    np.testing.assert_allclose(whole.weights(3), meeting_weights((1 + whole.payoffs[3] / 2) / 2))
    assert whole.exploitability([0, 1, 0, 0, 0]) == pytest.approx(whole.exploitabilities()[1])
    assert whole.exploitability("uniform") == pytest.approx(
        exploitability(KUHN, mix_strategies(KUHN, whole._tables, np.full(5, 0.2)))
    )
    assert whole.draw(tmp_path / "league.png").stat().st_size > 10_000
    with pytest.raises(ValueError, match="holds a league with n_envs=2, not 3"):
        League(tmp_path / "parts", *arguments, **{**kwargs, "n_envs": 3})
    (tmp_path / "parts" / "league.json").write_text(json.dumps({"members": []}))
    with pytest.raises(ValueError, match=r"league.json is damaged"):
        League(tmp_path / "parts", *arguments, **kwargs)


def test_boards_have_leagues_too(tmp_path):
    league = League(tmp_path, PPO, "Lecture/TicTacToe-v0", model_kwargs=SMALL, n_envs=2).run(2, 32)
    assert league.payoffs[1, 0] == -league.payoffs[0, 1] and abs(league.payoffs[0, 1]) <= 1
    assert league.elo().sum() == pytest.approx(0.0, abs=1e-9)
    with pytest.raises(ValueError, match="cannot be written out"):
        league.exploitability()


def test_what_is_no_league_is_refused(tmp_path):
    with pytest.raises(ValueError, match="CartPole-v1 has no opponent"):
        League(tmp_path, PPO, "CartPole-v1")
    with pytest.raises(ValueError, match="weighting='soft' is unknown"):
        League(tmp_path, PPO, "Lecture/KuhnPoker-v0", weighting="soft")
    with pytest.raises(ValueError, match="generations=0"):
        League(tmp_path, PPO, "Lecture/KuhnPoker-v0").run(0, 1)


@pytest.mark.slow
def test_the_leagues_mixture_converges_though_its_members_do_not(tmp_path):
    """Biased rock, paper, scissors: no opponent wins much against the mixture, all win against any member."""
    th.set_num_threads(1)
    kwargs = {"n_steps": 32, "batch_size": 64, "learning_rate": 0.01, "n_epochs": 4, "ent_coef": 0.1}
    league = League(
        tmp_path, PPO, "Lecture/RockPaperScissors-v0", {"payoffs": [[0, -3, 1], [3, 0, -2], [-1, 2, 0]]}, seed=0,
        model_kwargs={**kwargs, "policy_kwargs": {"net_arch": [8]}, "device": "cpu"},
    ).run(16, 1024)  # fmt: skip
    assert league.exploitability("nash") < 0.05 < 0.2 < league.exploitabilities().min()
