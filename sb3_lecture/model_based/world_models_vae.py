"""V of World Models: a variational autoencoder turns an observation into a few numbers z.

The encoder gives N(μ(x), diag σ²(x)), the decoder p(x | z); both maximise the evidence lower bound (Kingma & Welling 2014,
arXiv:1312.6114, eq. 3)

    ELBO = E_q[log p(x | z)] − KL(q(z | x) ‖ N(0, I))

with one sample z = μ + σ ε (their eq. 10). Pictures: the network of Ha & Schmidhuber (2018, arXiv:1803.10122, appendix A.1)
and their squared error, which is −log p up to a constant for a Gaussian of variance ½. Bits: independent Bernoullis.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch as th
from torch import nn
from torch.nn import functional as F

__all__ = ["IMAGE_SIZE", "VAE", "ConvVAE", "MlpVAE"]

#: side of the pictures that ConvVAE sees; others are resized to it
IMAGE_SIZE = 64


class VAE(nn.Module):
    """What both encoders share.

    :param latent_dim: length Z of z
    :param binary: whether inputs are bits, and the decoder gives logits, not means
    """

    encoder: nn.Module
    decoder: nn.Module

    def __init__(self, latent_dim: int, binary: bool) -> None:
        super().__init__()
        self.latent_dim, self.binary = latent_dim, binary

    def encode(self, x: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """Return μ and log σ² of q(z | x), both [n, Z], of inputs [n, …]."""
        mean, log_var = self.encoder(x).chunk(2, dim=-1)
        return mean, log_var

    def decode(self, z: th.Tensor) -> th.Tensor:
        """Return the mean of p(x | z), [n, …], of latents [n, Z]."""
        x = self.decoder(z)
        return x.sigmoid() if self.binary else x

    def losses(self, x: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """Return the two terms of −ELBO: reconstruction and KL, both [n], of inputs [n, …]."""
        mean, log_var = self.encode(x)
        out = self.decoder(sample_gaussian(mean, log_var))  # [n, …]
        if self.binary:
            error = F.binary_cross_entropy_with_logits(out, x, reduction="none")
        else:
            error = (out - x).square()  # −log N(x; out, ½ I) − ½ log π for each number
        return error.flatten(1).sum(dim=1), kl_to_standard_normal(mean, log_var)


class ConvVAE(VAE):
    """Four strided convolutions down from 64×64, four transposed ones up again.

    :param channels: of the picture, 3 for RGB
    :param latent_dim: length Z of z
    :param width: channels of the first convolution, the next ones have 2, 4 and 8 times as many (the paper's 32)
    """

    def __init__(self, channels: int, latent_dim: int, width: int = 32) -> None:
        super().__init__(latent_dim, binary=False)
        w = width
        self.encoder = nn.Sequential(
            *_down(channels, w), *_down(w, 2 * w), *_down(2 * w, 4 * w), *_down(4 * w, 8 * w),  # 31, 14, 6, 2 a side
            nn.Flatten(), nn.Linear(32 * w, 2 * latent_dim),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, 32 * w), nn.Unflatten(1, (32 * w, 1, 1)),
            nn.ConvTranspose2d(32 * w, 4 * w, 5, stride=2), nn.ReLU(),  # 5 a side
            nn.ConvTranspose2d(4 * w, 2 * w, 5, stride=2), nn.ReLU(),  # 13
            nn.ConvTranspose2d(2 * w, w, 6, stride=2), nn.ReLU(),  # 30
            nn.ConvTranspose2d(w, channels, 6, stride=2), nn.Sigmoid(),  # 64
        )  # fmt: skip


class MlpVAE(VAE):
    """The same with hidden layers, for observations that are no pictures.

    :param n_inputs: length of a flat observation
    :param latent_dim: length Z of z
    :param net_arch: units of the encoder's hidden layers, the decoder has them in reverse
    :param binary: whether inputs are bits
    """

    def __init__(self, n_inputs: int, latent_dim: int, net_arch: Sequence[int], binary: bool) -> None:
        super().__init__(latent_dim, binary)
        self.encoder = _mlp([n_inputs, *net_arch, 2 * latent_dim])
        self.decoder = _mlp([latent_dim, *reversed(net_arch), n_inputs])


def sample_gaussian(mean: th.Tensor, log_var: th.Tensor) -> th.Tensor:
    """Draw z = μ + σ ε (Kingma & Welling 2014, eq. 10) of the shape of ``mean``."""
    return mean + (0.5 * log_var).exp() * th.randn_like(mean)


def kl_to_standard_normal(mean: th.Tensor, log_var: th.Tensor) -> th.Tensor:
    """Return KL(N(μ, diag σ²) ‖ N(0, I)), [n], in nats (Kingma & Welling 2014, appendix B), of [n, Z]."""
    return 0.5 * (mean.square() + log_var.exp() - log_var - 1).sum(dim=-1)


def _down(n_in: int, n_out: int) -> tuple[nn.Module, nn.Module]:
    return nn.Conv2d(n_in, n_out, 4, stride=2), nn.ReLU()


def _mlp(sizes: Sequence[int]) -> nn.Sequential:
    layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), nn.ReLU())]
    return nn.Sequential(*layers[:-1])  # no ReLU on the output
