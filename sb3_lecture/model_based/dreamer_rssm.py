"""Recurrent state-space model: a world that is remembered in h and guessed at in z.

    sequence model   h_t = f(h_{t−1}, z_{t−1}, a_{t−1})       deterministic, a GRU of block-diagonal matrices
    posterior        z_t ~ q(z_t | h_t, x_t)                  what the observation x_t says
    prior            ẑ_t ~ p(ẑ_t | h_t)                       what could be expected without it           (eq. 1)

Trained so that the prior learns to foresee the posterior and, ten times more gently, the posterior to be foreseeable, each
only as long as they differ by more than ``free_bits``:

    L_dyn = max(1, KL[sg(q) ‖ p]),   L_rep = max(1, KL[q ‖ sg(p)])                                          (eq. 3)

Source: Hafner et al. 2023, version 2, https://arxiv.org/abs/2301.04104, whose equation numbers stand on the lines. The first
RSSM is Hafner et al. 2019 (PlaNet), https://arxiv.org/abs/1811.04551.

What does not depend on time is computed for all steps at once, outside the scan: what the actions and the observations
contribute, and the prior. A matrix of [h, z] is kept as one of h and one of z, for z is often given by its row numbers
(see ``latents``). The layers' order and the GRU are those of the authors' code: each input has a layer of its own, a
block-diagonal layer mixes them, and the GRU's candidate is tanh(r · c) with its update gate shifted by −1.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch as th
from torch import nn
from torch.nn import functional as F

from .dreamer_latents import Latent, NotFiniteError, embed

__all__ = ["RSSM", "BlockLinear", "FeatureLayer", "Imagined", "NormAct", "Observed", "SplitLinear", "initialise", "kl_losses"]

UPDATE_BIAS = -1.0  # of the GRU's update gate: at first it remembers


class Observed(NamedTuple):
    """A sequence of posterior states: deter h [T, B, D], z dense [T, B, width], post params [T, B, n_params]."""

    deter: th.Tensor
    z: th.Tensor
    post: th.Tensor


class Imagined(NamedTuple):
    """A sequence of prior states: deter h [T, N, D], z [T, N, …] in the form of its start, actions between [T − 1, N, …]."""

    deter: th.Tensor
    z: th.Tensor
    actions: th.Tensor


def initialise(module: nn.Module) -> None:
    """Draw the weights of a matrix or convolution from a truncated normal of variance 1 / fan-in, biases 0."""
    weight = getattr(module, "weight", None)
    if isinstance(module, (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, BlockLinear)) and isinstance(weight, th.Tensor):
        fan_in = weight[0].numel() if isinstance(module, (nn.Linear, nn.Conv2d)) else weight.shape[-2]
        if isinstance(module, nn.ConvTranspose2d):
            fan_in = weight.shape[0] * weight[0, 0].numel()
        truncated_normal(weight, fan_in)
        if getattr(module, "bias", None) is not None:
            nn.init.zeros_(module.bias)  # type: ignore[arg-type]
    elif isinstance(module, SplitLinear):
        for part in (module.deter_weight, module.table):
            truncated_normal(part, module.deter_weight.shape[0] + module.table.shape[0])


def truncated_normal(weight: th.Tensor, fan_in: int) -> None:
    """Fill a weight from a normal of variance 1 / fan_in, cut at two standard deviations (which shrink it by 0.88)."""
    std = 1.0 / (0.87962566 * fan_in**0.5)
    nn.init.trunc_normal_(weight, std=std, a=-2.0 * std, b=2.0 * std)


class NormAct(nn.Module):
    """Normalisation over the last axis, then SiLU.

    :param units: of the last axis
    :param norm: "rms" (version 2) or "layer" (version 1)
    """

    def __init__(self, units: int, norm: str) -> None:
        super().__init__()
        self.norm: nn.Module = nn.RMSNorm(units, eps=1e-4) if norm == "rms" else nn.LayerNorm(units, eps=1e-3)

    def forward(self, x: th.Tensor) -> th.Tensor:
        """Return silu(norm(x)), any shape […, units]."""
        return F.silu(self.norm(x))


class BlockLinear(nn.Module):
    """A matrix of g blocks on its diagonal: [in, out] with 1/g of the weights and of the work.

    :param n_in: inputs, a multiple of ``blocks``
    :param n_out: outputs, a multiple of ``blocks``
    :param blocks: g
    """

    def __init__(self, n_in: int, n_out: int, blocks: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(th.empty(blocks, n_in // blocks, n_out // blocks))
        self.bias = nn.Parameter(th.zeros(n_out))

    def forward(self, x: th.Tensor) -> th.Tensor:
        """Return [n, out] of x [n, in]."""
        blocks, n_in, n_out = self.weight.shape
        if blocks == 1:
            return th.addmm(self.bias, x, self.weight[0])
        y = th.bmm(x.view(-1, blocks, n_in).transpose(0, 1), self.weight)  # [g, n, out / g]
        return y.transpose(0, 1).reshape(-1, blocks * n_out) + self.bias

    def dense(self) -> th.Tensor:
        """Return the whole matrix [in, out], for the curious and for tests."""
        return th.block_diag(*self.weight)


class SplitLinear(nn.Module):
    """A linear map of [h, z], its matrix kept as one of h and one of z.

    :param deter: size of h
    :param width: size of the dense z
    :param units: outputs
    """

    def __init__(self, deter: int, width: int, units: int) -> None:
        super().__init__()
        self.deter_weight = nn.Parameter(th.empty(deter, units))
        self.table = nn.Parameter(th.empty(width, units))
        self.bias = nn.Parameter(th.zeros(units))

    def forward(self, deter: th.Tensor, z: th.Tensor) -> th.Tensor:
        """Return […, units] of h […, deter] and z in either form."""
        return deter @ self.deter_weight + embed(z, self.table) + self.bias


class FeatureLayer(nn.Module):
    """First layer of every head that reads (h, z).

    :param deter: size of h
    :param width: size of the dense z
    :param units: outputs
    :param norm: see NormAct
    """

    def __init__(self, deter: int, width: int, units: int, norm: str) -> None:
        super().__init__()
        self.linear = SplitLinear(deter, width, units)
        self.act = NormAct(units, norm)

    def forward(self, deter: th.Tensor, z: th.Tensor) -> th.Tensor:
        """Return […, units] of h […, deter] and z in either form."""
        return self.act(self.linear(deter, z))


def layers(n_in: int, units: int, n_layers: int, norm: str) -> nn.Sequential:
    """Linear maps, each with normalisation and SiLU.

    Their biases, 0 at first, are what tells a large input from a small one: RMSNorm(s W x) is the same for every s > 0.
    """
    parts: list[nn.Module] = []
    for i in range(n_layers):
        parts += [nn.Linear(n_in if i == 0 else units, units), NormAct(units, norm)]
    return nn.Sequential(*parts)


class RSSM(nn.Module):
    """The model of eq. 1 without encoder and heads.

    :param embed_size: numbers that the encoder makes of an observation
    :param action_size: numbers of an action (one-hot or continuous)
    :param latent: kind of z
    :param deter: size of h
    :param hidden: units of the layers around h and z
    :param blocks: blocks of the GRU, a divisor of ``deter``
    :param prior_layers: layers from h to the prior (default 1)
    :param norm: "rms" (default) or "layer"
    :raises ValueError: if ``deter`` is not a multiple of ``blocks``
    """

    def __init__(
        self, embed_size: int, action_size: int, latent: Latent, deter: int, hidden: int, blocks: int, prior_layers: int = 1,
        norm: str = "rms",
    ) -> None:  # fmt: skip
        super().__init__()
        if deter % blocks:
            raise ValueError(f"{deter=} must be a multiple of {blocks=}: choose another block count, a divisor of {deter}")
        self.latent, self.deter_size = latent, deter
        self.in_deter = layers(deter, hidden, 1, norm)
        self.in_z = nn.Parameter(th.empty(latent.width, hidden))
        self.in_z_bias = nn.Parameter(th.zeros(hidden))
        self.in_z_act = NormAct(hidden, norm)
        self.in_action = layers(action_size, hidden, 1, norm)
        self.mix_inputs = nn.Linear(2 * hidden, deter, bias=False)  # each block sees all of both …
        self.mix_action = nn.Linear(hidden, deter, bias=False)
        self.mix_deter = BlockLinear(deter, deter, blocks)  # … and its own part of h; the bias of all three
        self.mix_act = NormAct(deter, norm)
        self.gru = BlockLinear(deter, 3 * deter, blocks)
        self.post_deter = nn.Linear(deter, hidden, bias=False)
        self.post_embed = nn.Linear(embed_size, hidden)  # the bias of both
        self.post_act = NormAct(hidden, norm)
        self.post_params = nn.Linear(hidden, latent.n_params)
        self.prior = nn.Sequential(*layers(deter, hidden, prior_layers, norm), nn.Linear(hidden, latent.n_params))
        self.apply(initialise)
        truncated_normal(self.in_z.data, latent.width)
        for mix in (self.mix_inputs, self.mix_action, self.mix_deter):  # three parts of one matrix
            truncated_normal(mix.weight.data, 3 * hidden + deter // blocks)

    def initial(self, n: int) -> tuple[th.Tensor, th.Tensor]:
        """Return the state before an episode, zeros: h [n, D] and z dense [n, width]."""
        device = self.in_z.device
        return th.zeros(n, self.deter_size, device=device), th.zeros(n, self.latent.width, device=device)

    def action_features(self, actions: th.Tensor) -> th.Tensor:
        """Return what actions […, A] add to the inputs of the GRU […, D]; actions beyond ±1 are brought back."""
        actions = actions / actions.detach().abs().clamp(min=1.0)
        return self.mix_action(self.in_action(actions))

    def core(self, deter: th.Tensor, z_features: th.Tensor, action_features: th.Tensor) -> th.Tensor:
        """Return h_t [n, D] of h_{t−1} [n, D], z_{t−1} times ``in_z`` [n, hidden], and action features [n, D] (eq. 1).

        Block k of the GRU sees block k of h_{t−1} and all of z_{t−1} and a_{t−1}.
        """
        inputs = th.cat((self.in_deter(deter), self.in_z_act(z_features + self.in_z_bias)), dim=-1)  # [n, 2 hidden]
        x = self.mix_act(self.mix_inputs(inputs) + self.mix_deter(deter) + action_features)  # [n, D]
        blocks = self.gru.weight.shape[0]
        gates = self.gru(x).view(-1, blocks, 3, self.deter_size // blocks)  # each block puts out its own three gates
        reset, candidate, update = gates.unbind(dim=2)  # [n, g, D / g] each
        candidate = th.tanh(th.sigmoid(reset) * candidate)
        update = th.sigmoid(update + UPDATE_BIAS)
        return deter + update.flatten(1) * (candidate.flatten(1) - deter)  # (1 − u) h + u c

    def posterior(self, deter: th.Tensor, embed_features: th.Tensor) -> th.Tensor:
        """Return params of q(z_t | h_t, x_t) [n, n_params] of h_t [n, D] and the observation's part [n, hidden] (eq. 1)."""
        return self.post_params(self.post_act(self.post_deter(deter) + embed_features))

    def observe(
        self, embeds: th.Tensor, actions: th.Tensor, is_first: th.Tensor, state: tuple[th.Tensor, th.Tensor]
    ) -> Observed:
        """Follow sequences with the posterior.

        :param embeds: encoded observations x_t [T, B, E]
        :param actions: a_{t−1}, which led to x_t [T, B, A]
        :param is_first: whether x_t opens an episode: the state and action before it are forgotten, bool [T, B]
        :param state: h [B, D] and dense z [B, width] before the first step
        """
        deter, z = state
        keep = (~is_first)[..., None].to(deter.dtype)  # [T, B, 1]
        embed_features = self.post_embed(embeds)  # [T, B, hidden]
        action_features = self.action_features(actions * keep)  # [T, B, D]
        deters, zs, posts = [], [], []
        for k, e, a in zip(keep, embed_features, action_features, strict=True):
            deter = self.core(deter * k, (z * k) @ self.in_z, a)
            post = self.posterior(deter, e)
            z = self.latent.sample(post)
            deters.append(deter)
            zs.append(z)
            posts.append(post)
        return Observed(th.stack(deters), th.stack(zs), th.stack(posts))

    def observe_step(
        self,
        embeds: th.Tensor,
        actions: th.Tensor,
        is_first: th.Tensor,
        state: tuple[th.Tensor, th.Tensor],
        deterministic: bool = False,
    ) -> tuple[th.Tensor, th.Tensor]:
        """Take one step of ``observe`` with compact z and without a gradient through it.

        :param embeds: x_t [n, E]
        :param actions: a_{t−1} [n, A]
        :param is_first: bool [n]
        :param state: h_{t−1} [n, D] and compact z_{t−1} [n, *shape]
        :param deterministic: take the posterior's mode instead of a draw
        :return: h_t and compact z_t
        :raises NotFiniteError: where the posterior is none
        """
        deter, z = state
        keep = (~is_first)[:, None].to(deter.dtype)  # [n, 1]
        deter = self.core(deter * keep, embed(z, self.in_z) * keep, self.action_features(actions * keep))
        post = self.posterior(deter, self.post_embed(embeds))
        if not post.isfinite().all():
            raise NotFiniteError("There is NaN in what the networks put out")
        return deter, self.latent.draw(post, deterministic)

    def imagine(
        self,
        deter: th.Tensor,
        z: th.Tensor,
        act: Callable[[th.Tensor, th.Tensor], th.Tensor],
        horizon: int,
        n_actions: int | None = None,
        differentiable: bool = False,
    ) -> Imagined:
        """Follow the prior for ``horizon`` steps, choosing actions as it goes.

        :param deter: h_0 [N, D]
        :param z: z_0 [N, …], dense if ``differentiable``, else compact
        :param act: chooses actions of (h, z): int64 [N] if ``n_actions`` is given, else float [N, A]
        :param horizon: number of actions
        :param n_actions: number of discrete actions; None: continuous ones
        :param differentiable: whether a gradient passes through the states
        """
        follow = self.latent.sample if differentiable else self.latent.draw
        table = None if n_actions is None else self.action_features(th.eye(n_actions, device=deter.device))  # [A, D]
        deters, zs, actions = [deter], [z], []
        for _ in range(horizon):
            action = act(deter, z)
            features = self.action_features(action) if table is None else table[action]  # [N, D]
            deter = self.core(deter, embed(z, self.in_z), features)
            z = follow(self.prior(deter))
            deters.append(deter)
            zs.append(z)
            actions.append(action)
        return Imagined(th.stack(deters), th.stack(zs), th.stack(actions))


def kl_losses(latent: Latent, post: th.Tensor, prior: th.Tensor, free_bits: float) -> tuple[th.Tensor, th.Tensor]:
    """Return L_dyn and L_rep […] (eq. 3): equal numbers, one teaches the prior and the other the posterior.

    :param latent: kind of z
    :param post: params of q […, n_params]
    :param prior: params of p […, n_params]
    :param free_bits: KL below which nothing is learned, in nats
    """
    dyn = latent.kl(post.detach(), prior).clamp(min=free_bits)  # max(1, KL[sg(q) ‖ p])
    rep = latent.kl(post, prior.detach()).clamp(min=free_bits)  # max(1, KL[q ‖ sg(p)])
    return dyn, rep
