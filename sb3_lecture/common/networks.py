"""Layers that more than one network is made of; each is a plain torch module and stands beside SB3's own.

NoisyLinear(64, 64)                       # in the place of nn.Linear
resample_noise(net); remove_noise(net)    # of all its noisy layers
policy_kwargs=dict(features_extractor_class=SmallPictureExtractor)   # any SB3 policy
"""

import math
from collections.abc import Callable, Iterable
from itertools import pairwise

import gymnasium as gym
import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn
from torch.nn import functional as F

__all__ = [
    "DuelingHead", "NoisyLinear", "QuantileEmbedding", "SmallPictureExtractor", "mlp", "remove_noise", "resample_noise",
]  # fmt: skip

MakeLinear = Callable[[int, int], nn.Module]


class NoisyLinear(nn.Module):
    """A linear layer with learned noise on its weights, factorised (Fortunato et al. 2018, https://arxiv.org/abs/1706.10295).

        y = (μʷ + σʷ ⊙ εʷ) x + μᵇ + σᵇ ⊙ εᵇ,   εʷ_ij = f(ε_i) f(ε_j),   εᵇ_j = f(ε_j),   f(x) = sgn(x) √|x|     eqs. (9)–(11)

    computed as μʷ x + μᵇ + f(ε_out) ⊙ (σʷ (f(ε_in) ⊙ x) + σᵇ), which needs no noisy matrix and lets every row of a batch have
    noise of its own. Without noise, as at first, the layer is the mean μ. ``train()`` and ``eval()`` change nothing: exploring
    is acting by noise too.

    :param in_features: p
    :param out_features: q
    :param std: σ₀; σ begins at σ₀ / √p, μ uniform in ± 1 / √p (default 0.5)
    """

    def __init__(self, in_features: int, out_features: int, std: float = 0.5) -> None:
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        bound = 1.0 / math.sqrt(in_features)
        self.weight = nn.Parameter(th.empty(out_features, in_features).uniform_(-bound, bound))  # μʷ
        self.bias = nn.Parameter(th.empty(out_features).uniform_(-bound, bound))  # μᵇ
        self.weight_std = nn.Parameter(th.full((out_features, in_features), std * bound))  # σʷ
        self.bias_std = nn.Parameter(th.full((out_features,), std * bound))  # σᵇ
        self.noise: tuple[th.Tensor, th.Tensor] | None = None  # f(ε_in) [(B,) p] and f(ε_out) [(B,) q]

    def forward(self, x: th.Tensor) -> th.Tensor:
        """Return y [..., q] of x [..., p]; with noise for each row x is [B, p] or [B, N, p]."""
        mean = F.linear(x, self.weight, self.bias)
        if self.noise is None:
            return mean
        noise_in, noise_out = self.noise
        if noise_in.dim() == 2 and x.dim() == 3:
            noise_in, noise_out = noise_in[:, None], noise_out[:, None]
        return mean + noise_out * F.linear(noise_in * x, self.weight_std, self.bias_std)


def resample_noise(net: nn.Module | Iterable[NoisyLinear], batch: int | None = None) -> None:
    """Draw the noise of all noisy layers anew, by torch's global generator.

    :param net: the network, or its noisy layers
    :param batch: noise for each of so many rows; None: one for all rows (default)
    """
    layers = [part for part in (net.modules() if isinstance(net, nn.Module) else net) if isinstance(part, NoisyLinear)]
    if not layers:
        return
    sizes = [size for layer in layers for size in (layer.in_features, layer.out_features)]
    shape = (sum(sizes),) if batch is None else (batch, sum(sizes))
    x = th.randn(shape, device=layers[0].weight.device)
    parts = (x.sign() * x.abs().sqrt_()).split(sizes, dim=-1)  # f(ε)
    for layer, noise_in, noise_out in zip(layers, parts[::2], parts[1::2], strict=True):
        layer.noise = (noise_in, noise_out)


def remove_noise(net: nn.Module | Iterable[NoisyLinear]) -> None:
    """Let all noisy layers be their means."""
    for part in net.modules() if isinstance(net, nn.Module) else net:
        if isinstance(part, NoisyLinear):
            part.noise = None


def mlp(widths: list[int], activation: type[nn.Module], linear: MakeLinear = nn.Linear, last: bool = False) -> nn.Sequential:
    """Return linear layers with activations between them.

    :param widths: of the input and of each layer
    :param activation: class of the activations
    :param linear: makes a layer (default ``nn.Linear``)
    :param last: an activation after the last layer too (default False)
    """
    layers: list[nn.Module] = []
    for n_in, n_out in pairwise(widths):
        layers += [linear(n_in, n_out), activation()]
    return nn.Sequential(*(layers if last else layers[:-1]))


class DuelingHead(nn.Module):
    """Value and advantages in two streams (Wang et al. 2016, eq. 9, https://arxiv.org/abs/1511.06581).

        q(s, a) = v(s) + A(s, a) − mean_a' A(s, a')

    for each of k outputs an action: logits of atoms (Hessel et al. 2018), quantiles, or one number.

    :param features_dim: width of the input
    :param n_actions: A
    :param n_outputs: k (default 1)
    :param hidden: widths of each stream's hidden layers (default none)
    :param activation: class of the activations (default ReLU)
    :param linear: makes a layer (default ``nn.Linear``)
    """

    def __init__(
        self,
        features_dim: int,
        n_actions: int,
        n_outputs: int = 1,
        hidden: tuple[int, ...] | list[int] = (),
        activation: type[nn.Module] = nn.ReLU,
        linear: MakeLinear = nn.Linear,
    ) -> None:
        super().__init__()
        self.n_outputs = n_outputs
        self.value = mlp([features_dim, *hidden, n_outputs], activation, linear)
        self.advantage = mlp([features_dim, *hidden, n_actions * n_outputs], activation, linear)

    def forward(self, features: th.Tensor) -> th.Tensor:
        """Return the outputs [..., A, k] of features [..., d]."""
        value = self.value(features).unsqueeze(-2)  # [..., 1, k]
        advantage = self.advantage(features).unflatten(-1, (-1, self.n_outputs))  # [..., A, k]
        return value + advantage - advantage.mean(dim=-2, keepdim=True)


class QuantileEmbedding(nn.Module):
    """Quantile fractions as features (Dabney et al. 2018b, eq. 4, https://arxiv.org/abs/1806.06923).

        φ_j(τ) = ReLU(Σ_{i<n} cos(π i τ) w_ij + b_j)

    :param n_outputs: width of φ
    :param n_cosines: n (default 64)
    :param linear: makes the layer (default ``nn.Linear``)
    """

    frequencies: th.Tensor

    def __init__(self, n_outputs: int, n_cosines: int = 64, linear: MakeLinear = nn.Linear) -> None:
        super().__init__()
        self.linear = linear(n_cosines, n_outputs)
        self.register_buffer("frequencies", math.pi * th.arange(n_cosines, dtype=th.float32), persistent=False)

    def forward(self, fractions: th.Tensor) -> th.Tensor:
        """Return φ(τ) [B, N, d] of τ [B, N]."""
        return F.relu(self.linear(th.cos(fractions[..., None] * self.frequencies)))


class SmallPictureExtractor(BaseFeaturesExtractor):
    """Features of small pictures with many channels: MinAtar's, the planes of boards, the channels of grids.

    One convolution of 16 filters 3 × 3, then a linear layer, as in the agent that came with MinAtar (Young & Tian 2019,
    https://arxiv.org/abs/1903.03176). SB3's NatureCNN needs 36 × 36 pixels.

    :param observation_space: Box or MultiBinary of three axes
    :param features_dim: width of the features (default 128)
    :param n_filters: of the convolution (default 16)
    :param channels: "first" [C, H, W], "last" [H, W, C], or "auto": the axis whose length differs from that of the two others,
        the last one where all are alike or all differ (default)
    :raises ValueError: for another space or ``channels``
    """

    def __init__(
        self, observation_space: gym.Space, features_dim: int = 128, n_filters: int = 16, channels: str = "auto"
    ) -> None:
        if not isinstance(observation_space, (spaces.Box, spaces.MultiBinary)) or len(observation_space.shape) != 3:
            raise ValueError(f"SmallPictureExtractor needs a Box or MultiBinary of three axes, got {observation_space}")
        if channels not in ("auto", "first", "last"):
            raise ValueError(f"channels={channels!r} must be 'auto', 'first' or 'last'")
        super().__init__(observation_space, features_dim)
        a, b, c = observation_space.shape
        self.channels_last = channels == "last" or (channels == "auto" and not (b == c and a != b))
        n_channels, height, width = (c, a, b) if self.channels_last else (a, b, c)
        if min(height, width) < 3:
            raise ValueError(f"SmallPictureExtractor needs pictures of at least 3 × 3, got {height} × {width}")
        self.convolution = nn.Conv2d(n_channels, n_filters, kernel_size=3)
        self.linear = nn.Linear(n_filters * (height - 2) * (width - 2), features_dim)

    def forward(self, observations: th.Tensor) -> th.Tensor:
        """Return features [B, d] of pictures [B, …]."""
        x = observations.movedim(-1, 1) if self.channels_last else observations  # [B, C, H, W]
        return F.relu(self.linear(F.relu(self.convolution(x)).flatten(1)))


def is_small_picture(space: gym.Space) -> bool:
    """Whether a space holds pictures that SB3's NatureCNN has no use for: under 36 pixels, or many channels."""
    pictures = isinstance(space, (spaces.Box, spaces.MultiBinary)) and len(space.shape) == 3
    return pictures and int(np.sort(space.shape)[1]) < 36  # type: ignore[arg-type]
