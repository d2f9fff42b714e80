"""Losses and estimates on numbers that can be worked out by hand."""

import numpy as np
import pytest
import torch as th

from sb3_lecture.preferences.losses import dpo_loss, k1, k3, ranking_loss, token_rewards, whiten
from sb3_lecture.preferences.rlhf import gae


def log_sigmoid(x):
    return -np.log1p(np.exp(-x))


def test_a_pair_is_bradley_and_terry():
    assert ranking_loss(th.tensor([[2.0, 0.5]])).item() == pytest.approx(-log_sigmoid(1.5))
    assert ranking_loss(th.tensor([[0.5, 2.0]])).item() == pytest.approx(-log_sigmoid(-1.5))
    assert ranking_loss(th.tensor([[1.0, 1.0]])).item() == pytest.approx(np.log(2))


def test_a_ranking_counts_every_pair_once_over_k_choose_2():
    a, b, c = 1.0, -0.5, 0.25  # in the labeller's order
    by_hand = -(log_sigmoid(a - b) + log_sigmoid(a - c) + log_sigmoid(b - c)) / 3
    assert ranking_loss(th.tensor([[a, b, c]])).item() == pytest.approx(by_hand)
    two = ranking_loss(th.tensor([[a, b, c], [0.0, 0.0, 0.0]])).item()
    assert two == pytest.approx((by_hand + np.log(2)) / 2)  # a mean over prompts


def test_dpo_is_the_ranking_loss_of_its_implicit_reward():
    assert dpo_loss(th.tensor([[0.3, -0.9]]), beta=0.5).item() == pytest.approx(-log_sigmoid(0.5 * 1.2))


def test_k1_and_k3_are_unbiased_and_k3_is_never_negative():
    p, q = th.tensor([0.7, 0.2, 0.1]), th.tensor([0.3, 0.3, 0.4])
    log_ratio = (p / q).log()
    kl = (p * log_ratio).sum().item()
    assert (p * k1(log_ratio)).sum().item() == pytest.approx(kl)
    assert (p * k3(log_ratio)).sum().item() == pytest.approx(kl, abs=1e-6)
    assert (k1(log_ratio) < 0).any() and (k3(log_ratio) >= 0).all()


def test_tokens_are_charged_and_the_score_comes_at_the_last():
    written = th.tensor([[True, True, False], [True, True, True]])
    log_ratio = th.tensor([[0.5, -0.2, 9.0], [0.1, 0.2, 0.3]])
    rewards = token_rewards(th.tensor([2.0, -1.0]), log_ratio, written, beta=0.5)
    th.testing.assert_close(rewards, th.tensor([[-0.25, 2.1, 0.0], [-0.05, -0.1, -1.15]]))


def test_advantages_without_discount():
    rewards, values = th.tensor([[0.0, 1.0, 0.0]]), th.tensor([[0.2, 0.6, 0.0]])
    written = th.tensor([[True, True, False]])
    d0, d1 = 0.0 + 0.6 - 0.2, 1.0 - 0.6  # nothing follows the second token
    th.testing.assert_close(gae(rewards, values, written, 0.5), th.tensor([[d0 + 0.5 * d1, d1, 0.0]]))
    # λ = 1: the return less the value; λ = 0: one step
    th.testing.assert_close(gae(rewards, values, written, 1.0), th.tensor([[1.0 - 0.2, 0.4, 0.0]]))
    th.testing.assert_close(gae(rewards, values, written, 0.0), th.tensor([[d0, d1, 0.0]]))


def test_a_value_behind_the_end_does_not_count():
    rewards, written = th.tensor([[1.0, 0.0]]), th.tensor([[True, False]])
    assert gae(rewards, th.tensor([[0.5, 7.0]]), written, 0.95)[0].tolist() == [0.5, 0.0]


def test_whitening_looks_at_written_tokens_alone():
    white = whiten(th.tensor([[1.0, 3.0, 50.0]]), th.tensor([[True, True, False]]))
    th.testing.assert_close(white, th.tensor([[-1.0, 1.0, 0.0]]))
