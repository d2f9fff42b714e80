"""M of World Models: an LSTM whose output is a mixture of Gaussians over the next latent.

    P(z_{t+1} | a_t, z_t, h_t) = Π_i Σ_k π_ik N(z_i; μ_ik, σ_ik²)

(Ha & Schmidhuber 2018, arXiv:1803.10122, section 3.3 and appendix A.2; mixture densities: Bishop 1994). Each dimension i of z
has its own mixture of K Gaussians. One more network reads the reward's mean and the logit of "the episode ends here" off
h_{t+1} and z_{t+1}: what happened decides them, not what was expected on average.

A dream draws from it at a temperature τ (Ha & Eck 2017, arXiv:1704.03477, eq. 8): logits are divided by τ and variances
multiplied by it. τ = 1 is the model itself, τ → 0 the mean of its likeliest component, and at τ > 1 the dream is less certain
than the world it was learnt from.
"""

import math
from typing import NamedTuple

import torch as th
from torch import nn
from torch.nn import functional as F

__all__ = ["MDNRNN", "Mixture", "Noise", "State", "draw_noise", "mixture_log_prob", "sample_done", "sample_mixture"]

#: h and c of the LSTM, each [n, H]
State = tuple[th.Tensor, th.Tensor]
#: bounds of log σ: a latent that the encoder fixes exactly must not make the density infinite
LOG_SIGMA_MIN, LOG_SIGMA_MAX = -7.0, 5.0
HALF_LOG_TWO_PI = 0.5 * math.log(2 * math.pi)


class Mixture(NamedTuple):
    """P(z_{t+1} | a_t, z_t, h_t): a mixture of K Gaussians for each dimension.

    :param logits: of the weights, […, Z, K]
    :param mean: μ, […, Z, K]
    :param log_sigma: log σ, […, Z, K]
    """

    logits: th.Tensor
    mean: th.Tensor
    log_sigma: th.Tensor


class Noise(NamedTuple):
    """The chance in one step of a dream: Gumbel [n, Z, K], standard normal [n, Z] and standard logistic [n] numbers."""

    gumbel: th.Tensor
    normal: th.Tensor
    logistic: th.Tensor


class MDNRNN(nn.Module):
    """The LSTM, its mixture head, and the network of reward and end.

    :param latent_dim: length Z of z
    :param action_dim: length A of an action as a vector
    :param hidden_size: units H of the LSTM
    :param n_gaussians: components K of each mixture
    """

    def __init__(self, latent_dim: int, action_dim: int, hidden_size: int = 256, n_gaussians: int = 5) -> None:
        super().__init__()
        self.latent_dim, self.hidden_size, self.n_gaussians = latent_dim, hidden_size, n_gaussians
        self.lstm = nn.LSTM(latent_dim + action_dim, hidden_size, batch_first=True)
        self.mixture_head = nn.Linear(hidden_size, 3 * latent_dim * n_gaussians)
        self.outcome_net = nn.Sequential(
            nn.Linear(hidden_size + latent_dim, hidden_size), nn.ReLU(), nn.Linear(hidden_size, 2)
        )

    def initial_state(self, n: int) -> State:
        """Return h = c = 0, each [n, H]."""
        zeros = self.mixture_head.weight.new_zeros(n, self.hidden_size)
        return zeros, zeros.clone()

    def scan(self, z: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """Return h_1 … h_T, [n, T, H], of sequences z [n, T, Z] and actions [n, T, A] that begin with h_0 = 0."""
        return self.lstm(th.cat([z, actions], dim=-1))[0]

    def advance(self, z: th.Tensor, actions: th.Tensor, state: State) -> State:
        """Return the state after one step: z [n, Z], actions [n, A]."""
        h, c = state
        _, (h, c) = self.lstm(th.cat([z, actions], dim=-1)[:, None], (h[None], c[None]))
        return h[0], c[0]

    def mixture(self, h: th.Tensor) -> Mixture:
        """Return the distribution of z_{t+1} given h_{t+1}, […, H]."""
        parts = self.mixture_head(h).unflatten(-1, (3, self.latent_dim, self.n_gaussians))  # […, 3, Z, K]
        logits, mean, log_sigma = parts.unbind(dim=-3)
        return Mixture(logits, mean, log_sigma.clamp(LOG_SIGMA_MIN, LOG_SIGMA_MAX))

    def outcome(self, h: th.Tensor, z: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """Return the mean of r_{t+1} and the logit of "ends at t + 1", both […], given h_{t+1} […, H] and z_{t+1} […, Z]."""
        reward, done_logit = self.outcome_net(th.cat([h, z], dim=-1)).unbind(dim=-1)
        return reward, done_logit

    def losses(
        self, z: th.Tensor, actions: th.Tensor, rewards: th.Tensor, terminated: th.Tensor, mask: th.Tensor
    ) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """Return −log P(z') a dimension, squared error of the reward, and cross-entropy of the end: means over steps.

        :param z: latents z_0 … z_T of episodes, [n, T + 1, Z]
        :param actions: [n, T, A]
        :param rewards: r_1 … r_T, [n, T]
        :param terminated: whether the episode ended by itself at t + 1, float [n, T]
        :param mask: 1 where a step was taken, 0 beyond an episode's end, float [n, T]
        """
        h = self.scan(z[:, :-1], actions)  # [n, T, H], h_1 … h_T
        share = mask / mask.sum()  # [n, T]
        log_prob = mixture_log_prob(self.mixture(h), z[:, 1:]).mean(dim=-1)
        reward, done_logit = self.outcome(h, z[:, 1:])
        done_error = F.binary_cross_entropy_with_logits(done_logit, terminated, reduction="none")
        return -(share * log_prob).sum(), (share * (reward - rewards).square()).sum(), (share * done_error).sum()


def mixture_log_prob(mixture: Mixture, z: th.Tensor) -> th.Tensor:
    """Return log Σ_k π_k N(z; μ_k, σ_k²) of each dimension, […, Z], of mixtures […, Z, K] and z […, Z]."""
    logits, mean, log_sigma = mixture
    standardised = (z[..., None] - mean) * (-log_sigma).exp()
    log_normal = -0.5 * standardised.square() - log_sigma - HALF_LOG_TWO_PI
    return th.logsumexp(F.log_softmax(logits, dim=-1) + log_normal, dim=-1)


def draw_noise(rnn: MDNRNN, n: int, generator: th.Generator, repeats: int = 1) -> Noise:
    """Draw the chance of one dream step on the CPU; the n rows are repeated ``repeats`` times one after the other."""
    z, k = rnn.latent_dim, rnn.n_gaussians
    device = rnn.mixture_head.weight.device
    uniform = th.rand(n, z * k + 1, generator=generator).clamp(1e-7, 1 - 1e-7)
    normal = th.randn(n, z, generator=generator)
    gumbel = -(-uniform[:, :-1].log()).log()
    logistic = uniform[:, -1].logit()
    return Noise(*(part.repeat(repeats, *[1] * (part.dim() - 1)).to(device)
                   for part in (gumbel.view(n, z, k), normal, logistic)))  # fmt: skip


def sample_mixture(mixture: Mixture, temperature: float, noise: Noise) -> th.Tensor:
    """Draw z_{t+1}, [n, Z], at temperature τ ≥ 0; τ = 0 gives the means of the most likely components.

    arg max_k (logits_k + τ g_k) with Gumbel noise g draws k from softmax(logits / τ), and needs no division at τ = 0.
    """
    k = (mixture.logits + temperature * noise.gumbel).argmax(dim=-1, keepdim=True)  # [n, Z, 1]
    mean, log_sigma = mixture.mean.gather(-1, k)[..., 0], mixture.log_sigma.gather(-1, k)[..., 0]
    return mean + log_sigma.exp() * temperature**0.5 * noise.normal  # σ² → τ σ²


def sample_done(done_logit: th.Tensor, temperature: float, noise: Noise) -> th.Tensor:
    """Draw whether the episode ends, bool [n]: with probability sigmoid(logit / τ), at τ = 0 the likelier of the two."""
    return done_logit + temperature * noise.logistic > 0
