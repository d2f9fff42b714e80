"""Layers against hand-worked numbers, slow twins and the laws of their noise."""

import math

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN
from torch import nn

import sb3_lecture_envs  # noqa: F401
from sb3_lecture.common.networks import (
    DuelingHead,
    NoisyLinear,
    QuantileEmbedding,
    SmallPictureExtractor,
    is_small_picture,
    mlp,
    remove_noise,
    resample_noise,
)


def test_a_noisy_layer_is_the_papers_matrix():
    """y = (μʷ + σʷ ⊙ f(ε_out) f(ε_in)ᵀ) x + μᵇ + σᵇ ⊙ f(ε_out), with the matrix written out."""
    th.manual_seed(0)
    layer = NoisyLinear(3, 2, std=0.4)
    assert layer.weight_std.unique().tolist() == layer.bias_std.unique().tolist() == [pytest.approx(0.4 / math.sqrt(3))]
    assert layer.weight.abs().max() <= 1 / math.sqrt(3)
    x = th.randn(5, 3)
    th.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias))
    with th.no_grad():
        layer.weight_std.uniform_()
        layer.bias_std.uniform_()
    resample_noise(layer)
    noise_in, noise_out = layer.noise
    weight = layer.weight + layer.weight_std * noise_out[:, None] * noise_in[None, :]
    th.testing.assert_close(layer(x), x @ weight.T + layer.bias + layer.bias_std * noise_out)
    layer.eval()
    assert layer.noise is not None  # acting explores by noise in evaluation mode too
    remove_noise(layer)
    th.testing.assert_close(layer(x), nn.functional.linear(x, layer.weight, layer.bias))


def test_the_noise_is_f_of_normal_numbers_and_of_every_layer_its_own():
    """f(ε) = sgn(ε) √|ε|: f² is |ε|, of mean √(2/π), and f⁴ = ε² of mean 1."""
    th.manual_seed(0)
    net = mlp([400, 300, 300], nn.ReLU, NoisyLinear)
    resample_noise(net)
    parts = [part for layer in net if isinstance(layer, NoisyLinear) for part in layer.noise]
    assert [len(part) for part in parts] == [400, 300, 300, 300]
    everything = th.cat(parts)
    assert everything.mean().abs() < 0.1
    assert (everything**2).mean() == pytest.approx(math.sqrt(2 / math.pi), abs=0.06)
    assert (everything**4).mean() == pytest.approx(1.0, abs=0.15)
    before = net[0].noise[0]
    resample_noise(net)
    assert not th.equal(before, net[0].noise[0])


def test_every_row_may_have_noise_of_its_own():
    th.manual_seed(0)
    net = mlp([3, 4, 2], nn.ReLU, NoisyLinear)
    resample_noise(net, batch=5)
    x = th.ones(5, 3)
    together = net(x)
    assert len(together.unique(dim=0)) == 5
    with_axis = net(x[:, None].expand(5, 7, 3))
    th.testing.assert_close(with_axis, together[:, None].expand(5, 7, 2))
    noises = [layer.noise for layer in net if isinstance(layer, NoisyLinear)]
    for row in range(5):
        for layer, noise in zip((net[0], net[2]), noises, strict=True):
            layer.noise = (noise[0][row], noise[1][row])
        th.testing.assert_close(net(x[row]), together[row])


def test_dueling_adds_the_value_and_advantages_less_their_mean():
    """v = 10, A = 1, 2, 6, of mean 3: q = 8, 9, 13."""
    head = DuelingHead(1, 3)
    with th.no_grad():
        for stream, bias in ((head.value, [10.0]), (head.advantage, [1.0, 2.0, 6.0])):
            stream[0].weight.zero_()
            stream[0].bias.copy_(th.tensor(bias))
    th.testing.assert_close(head(th.zeros(2, 1))[..., 0], th.tensor([[8.0, 9.0, 13.0]]).expand(2, 3))
    wide = DuelingHead(4, 3, n_outputs=5, hidden=[6])
    out = wide(th.randn(2, 4))
    assert out.shape == (2, 3, 5) and wide.value[0].out_features == wide.advantage[0].out_features == 6
    x = th.randn(2, 4)
    th.testing.assert_close(wide(x).mean(dim=1), wide.value(x))  # the advantages' mean is 0 for each output


def test_fractions_are_embedded_by_cosines():
    """n = 2: cos 0 = 1 and cos πτ; ReLU(w₀ + w₁ cos πτ + b)."""
    embedding = QuantileEmbedding(1, n_cosines=2)
    with th.no_grad():
        embedding.linear.weight.copy_(th.tensor([[1.0, 2.0]]))
        embedding.linear.bias.fill_(0.5)
    expected = [1.5 + 2.0 * math.cos(math.pi * 0.25), 1.5, 0.0]  # at τ = 1 it would be −0.5
    th.testing.assert_close(embedding(th.tensor([[0.25, 0.5, 1.0]]))[0, :, 0], th.tensor(expected))


def test_small_pictures_in_either_order_of_axes():
    th.manual_seed(0)
    last = SmallPictureExtractor(spaces.Box(0, 1, (10, 10, 4), np.bool_), 32)
    first = SmallPictureExtractor(spaces.Box(0, 1, (4, 10, 10), np.bool_), 32)
    first.load_state_dict(last.state_dict())
    assert last.convolution.weight.shape == (16, 4, 3, 3) and last.linear.weight.shape == (32, 16 * 8 * 8)
    x = th.rand(3, 10, 10, 4)
    th.testing.assert_close(last(x), first(x.movedim(-1, 1)))
    assert SmallPictureExtractor(spaces.Box(0, 1, (9, 9, 9))).channels_last
    assert not SmallPictureExtractor(spaces.Box(0, 1, (9, 9, 9)), channels="first").channels_last
    assert is_small_picture(spaces.Box(0, 1, (10, 10, 4))) and is_small_picture(spaces.Box(0, 1, (2, 6, 7)))
    assert not is_small_picture(spaces.Box(0, 255, (4, 84, 84))) and not is_small_picture(spaces.Box(0, 1, (10,)))
    for space, kwargs in ((spaces.Box(0, 1, (10,)), {}), (spaces.Box(0, 1, (2, 2, 5)), {}),
                          (spaces.Box(0, 1, (9, 9, 9)), {"channels": "middle"})):  # fmt: skip
        with pytest.raises(ValueError, match=r"SmallPictureExtractor|channels="):
            SmallPictureExtractor(space, **kwargs)


def test_sb3s_dqn_takes_the_extractor():
    model = DQN(
        "MlpPolicy", "Lecture/Catch-v0", buffer_size=100, device="cpu",
        policy_kwargs={"features_extractor_class": SmallPictureExtractor, "net_arch": []},
    )  # fmt: skip
    assert model.q_net.q_net[0].in_features == 128
