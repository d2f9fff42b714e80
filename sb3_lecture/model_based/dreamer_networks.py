"""The networks of DreamerV3: encoder, decoder, heads, actor, and their sizes.

Every head reads the model state s = (h, z). Observations are made of two parts, either of which may be missing: *vectors*
[…, V], of numbers squashed by symlog, of bits and of one-hot choices, and *images* […, C, H, W]. Equation numbers: Hafner et
al. 2023, version 2, https://arxiv.org/abs/2301.04104.
"""

from typing import Any, Literal, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import is_image_space
from torch import nn
from torch.nn import functional as F

from sb3_lecture.common.checks import FLAG, Choice, Integer
from sb3_lecture.common.distributional import expectation, symexp, symlog, two_hot

from .dream_video import Foretold
from .dreamer_latents import CategoricalLatent, GaussianLatent, Latent, sample_index, uniform_mix
from .dreamer_rssm import FeatureLayer, NormAct, SplitLinear, initialise, layers

__all__ = [
    "SIZES", "Actor", "ContinueHead", "Decoder", "Encoder", "Head", "Inputs", "Sizes", "TwoHotHead", "action_size",
    "make_latent", "resolve_sizes",
]  # fmt: skip

BINS_END = 20.0  # bins of reward and critic are symexp(−20 … 20) (eq. 10)
MOST_ROWS = 2**15  # of a table of z
MIN_STD, MAX_STD = 0.1, 1.0  # of continuous actions
SMALLEST_IMAGE = 16  # pixels a side, in Dict observations; anything smaller is a vector


class Sizes(NamedTuple):
    """How large the networks are.

    :param deter: size of h
    :param hidden: units around h and z in the RSSM
    :param stoch: variables in z
    :param classes: of each
    :param units: of the layers of encoder, decoder and heads
    :param depth: channels of the first convolution are twice this, then 3, 4 and 4 times
    :param blocks: of the GRU
    :param layers: of encoder, decoder, actor and critic (reward and continue heads have one)
    :param prior_layers: from h to the prior
    :param norm: "rms" or "layer"
    :param strided: convolutions of stride 2, instead of a pooling after each
    :param bins: of reward and critic, an odd number
    """

    deter: int
    hidden: int
    stoch: int
    classes: int
    units: int
    depth: int
    blocks: int = 8
    layers: int = 3
    prior_layers: int = 2
    norm: Literal["rms", "layer"] = "rms"
    strided: bool = False
    bins: int = 255


#: the authors' names and numbers; "XS" is of version 1's scale, "debug" learns in seconds what needs no more
SIZES: dict[str, Sizes] = {
    "debug": Sizes(64, 64, 8, 8, 64, 4, blocks=4, layers=1, prior_layers=1, norm="layer", strided=True, bins=63),
    "XS": Sizes(256, 256, 32, 32, 256, 24, blocks=8, layers=1, prior_layers=1, norm="layer", strided=True),
    "size1M": Sizes(512, 64, 32, 4, 64, 4),
    "size12M": Sizes(2048, 256, 32, 16, 256, 16),
    "size25M": Sizes(3072, 384, 32, 24, 384, 24),
    "size50M": Sizes(4096, 512, 32, 32, 512, 32),
    "size100M": Sizes(6144, 768, 32, 48, 768, 48),
    "size200M": Sizes(8192, 1024, 32, 64, 1024, 64),
    "size400M": Sizes(12288, 1536, 32, 96, 1536, 96),
}


def resolve_sizes(size: str, overrides: dict[str, Any]) -> Sizes:
    """Return the numbers of a size, some of them replaced.

    :raises ValueError: for an unknown size or number, or one below 1
    :raises TypeError: for a number that is not whole
    """
    if not isinstance(size, str) or size not in SIZES:
        raise ValueError(
            f"{size=} is unknown; sizes: {', '.join(SIZES)}. Parts can be replaced: policy_kwargs=dict(deter=512)"
        )
    if unknown := set(overrides) - set(Sizes._fields):
        raise ValueError(f"unknown part(s) {sorted(unknown)} of a size; parts: {', '.join(Sizes._fields)}")
    sizes = SIZES[size]._replace(**overrides)
    for name, value in sizes._asdict().items():
        rule = {"norm": Choice("rms", "layer"), "strided": FLAG}.get(name, Integer(1, 10**6))
        rule.check(name, value)
    if sizes.stoch * sizes.classes > MOST_ROWS:
        raise ValueError(f"stoch={sizes.stoch} times classes={sizes.classes} must be at most {MOST_ROWS}: z is kept as int16")
    if sizes.bins % 2 == 0 or sizes.bins < 3:
        raise ValueError(f"bins={sizes.bins} must be an odd number of at least 3: one of them is 0")
    return sizes


def make_latent(kind: str, sizes: Sizes) -> Latent:
    """Return the kind of latent by its name, "categorical" or "gaussian".

    :raises ValueError: for another name
    """
    Choice("categorical", "gaussian").check("latent", kind)
    if kind == "categorical":
        return CategoricalLatent(sizes.stoch, sizes.classes)
    return GaussianLatent(sizes.stoch)


# --- observations ----------------------------------------------------------------------------------------------------


class Inputs:
    """Splits observations of a space into vectors and images.

    :param space: of one observation, Dict allowed
    :param pixels: which Box spaces of three axes are images: "never", "always", or "auto": those of uint8 pixels
    :raises ValueError: for images of different sizes, or none where all must be
    """

    def __init__(self, space: spaces.Space, pixels: str) -> None:
        self.of_dict = isinstance(space, spaces.Dict)
        self.parts: dict[str, spaces.Space] = dict(space.spaces) if isinstance(space, spaces.Dict) else {"": space}
        self.images = [key for key, part in self.parts.items() if _is_image(part, pixels)]
        if pixels == "always" and len(self.images) < len(self.parts):
            raise ValueError(f"CnnPolicy needs images, Box(0, 255, [C, H, W], uint8), not {space}: use MlpPolicy")
        shapes = {tuple(self.parts[key].shape[1:]) for key in self.images}  # type: ignore[index]
        if len(shapes) > 1:
            raise ValueError(f"images of different sizes {sorted(shapes)}: resize them with gymnasium's ResizeObservation")
        #: size and kind of each group of numbers in a vector: one choice, several bits or several numbers
        self.groups = [group for key, part in self.parts.items() if key not in self.images for group in _groups(part)]
        self.vector_size = sum(size for size, _ in self.groups)
        channels = sum(self.parts[key].shape[0] for key in self.images)  # type: ignore[index,misc]
        self.image_shape = (channels, *shapes.pop()) if shapes else None

    def __call__(self, observations: Any) -> tuple[th.Tensor | None, th.Tensor | None]:
        """Return vectors […, V], numbers after symlog, and images in [−½, ½] […, C, H, W], or None where there are none.

        :param observations: tensor […, *shape], or a dict of them
        """
        given = observations if self.of_dict else {"": observations}
        vectors = [_vector(given[key], part) for key, part in self.parts.items() if key not in self.images]
        images = [given[key].float() / 255.0 - 0.5 for key in self.images]
        return (th.cat(vectors, dim=-1) if vectors else None), (th.cat(images, dim=-3) if images else None)

    def loss(self, outputs: th.Tensor, vectors: th.Tensor) -> th.Tensor:
        """Return −ln p […] of vectors […, V], up to a constant, summed over their groups.

        :param outputs: of the decoder […, V]: logits of choices and bits, means of numbers
        """
        outputs, loss = outputs.float(), th.zeros(vectors.shape[:-1], device=vectors.device)
        sizes = [size for size, _ in self.groups]
        for (_, kind), out, x in zip(self.groups, outputs.split(sizes, -1), vectors.split(sizes, -1), strict=True):
            if kind == "choice":
                loss = loss - (x * out.log_softmax(dim=-1)).sum(dim=-1)
            elif kind == "bits":
                loss = loss + F.binary_cross_entropy_with_logits(out, x, reduction="none").sum(dim=-1)
            else:
                loss = loss + (out - x).square().sum(dim=-1)  # (eq. 8)
        return loss

    def mean(self, outputs: th.Tensor) -> th.Tensor:
        """Return the expected vectors […, V] of the decoder's outputs […, V]."""
        parts = outputs.split([size for size, _ in self.groups], dim=-1)
        how = {"choice": lambda x: x.softmax(dim=-1), "bits": th.sigmoid, "numbers": lambda x: x}
        return th.cat([how[kind](part) for part, (_, kind) in zip(parts, self.groups, strict=True)], dim=-1)

    def parts_of(self, *pairs: tuple[th.Tensor | None, th.Tensor | None]) -> dict[str, Foretold]:
        """Undo ``__call__`` for what came and what is expected, vectors [T, 1, V] and images [T, 1, C, H, W]."""
        found: dict[str, list[np.ndarray]] = {key: [] for key in self.parts}
        for vectors, images in pairs:
            numbers = channels = 0
            for key, space in self.parts.items():
                if key in self.images:
                    assert images is not None
                    n = space.shape[0]  # type: ignore[index]
                    part = images[:, 0, channels : channels + n] + 0.5  # [T, C, H, W]
                    channels += n
                else:
                    assert vectors is not None
                    groups = _groups(space)
                    n = sum(size for size, _ in groups)
                    part = vectors[:, 0, numbers : numbers + n]  # [T, V]
                    part = symexp(part) if groups[0][1] == "numbers" else part
                    part = part.reshape(-1, *space.shape) if len(space.shape or ()) == 3 else part  # type: ignore[misc]
                    numbers += n
                found[key].append(part.cpu().numpy())
        return {key: Foretold(*both) for key, both in found.items()}


def _is_image(space: spaces.Space, pixels: str) -> bool:
    if pixels == "never" or not isinstance(space, spaces.Box) or len(space.shape) != 3:
        return False
    small = min(space.shape[1:]) < SMALLEST_IMAGE
    return is_image_space(space, check_channels=False) and not (pixels == "auto" and small)


def _groups(space: spaces.Space) -> list[tuple[int, Literal["choice", "bits", "numbers"]]]:
    """Size and kind of what a part of an observation says: one or more choices, bits or numbers."""
    if isinstance(space, spaces.Discrete):
        return [(int(space.n), "choice")]
    if isinstance(space, spaces.MultiDiscrete):
        return [(int(n), "choice") for n in space.nvec.flat]
    return [(int(np.prod(space.shape)), "bits" if isinstance(space, spaces.MultiBinary) else "numbers")]  # type: ignore[arg-type]


def _vector(part: th.Tensor, space: spaces.Space) -> th.Tensor:
    """Vector […, n] of one part of an observation: one-hot choices, bits, or symlog of numbers (eq. 9)."""
    if isinstance(space, spaces.Discrete):
        return F.one_hot(part.long() - int(space.start), int(space.n)).float()
    if isinstance(space, spaces.MultiDiscrete):
        columns = (part.long() - th.as_tensor(space.start, device=part.device)).unbind(dim=-1)
        return th.cat([F.one_hot(c, int(n)).float() for c, n in zip(columns, space.nvec, strict=True)], dim=-1)
    n_axes = len(space.shape)  # type: ignore[arg-type]
    numbers = part.float().flatten(part.dim() - n_axes) if n_axes else part.float()[..., None]
    return numbers if isinstance(space, spaces.MultiBinary) else symlog(numbers)


class ChannelNormAct(NormAct):
    """NormAct over the channels of images [n, C, H, W]."""

    def forward(self, x: th.Tensor) -> th.Tensor:
        """Return silu(norm(x)) [n, C, H, W]."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


def _stages(height: int, width: int) -> int:
    """How often an image is halved: at most 4 times, to 3 pixels or more."""
    n = 0
    while n < 4 and not (height | width) >> n & 1 and min(height, width) >> (n + 1) >= 3:
        n += 1
    if n == 0 or max(height, width) >> n > 16:
        raise ValueError(
            f"images of {height} x {width} pixels cannot be halved to between 3 and 16: resize them, for example to 64 x 64 "
            "with gymnasium.wrappers.ResizeObservation"
        )
    return n


class Encoder(nn.Module):
    """Numbers of an observation, [n, size], for the posterior.

    :param inputs: parts of the observations
    :param sizes: of the networks
    """

    def __init__(self, inputs: Inputs, sizes: Sizes) -> None:
        super().__init__()
        self.size = 0
        if inputs.vector_size:
            self.mlp = layers(inputs.vector_size, sizes.units, sizes.layers, sizes.norm)
            self.size += sizes.units
        if inputs.image_shape is not None:
            channels, height, width = inputs.image_shape
            n, parts = _stages(height, width), list[nn.Module]()
            for mult in (2, 3, 4, 4)[:n]:
                depth = mult * sizes.depth
                if sizes.strided:
                    parts += [nn.Conv2d(channels, depth, 4, 2, padding=1)]
                else:
                    parts += [nn.Conv2d(channels, depth, 5, padding=2), nn.MaxPool2d(2)]
                parts += [ChannelNormAct(depth, sizes.norm)]
                channels = depth
            self.cnn = nn.Sequential(*parts, nn.Flatten())
            self.size += channels * (height >> n) * (width >> n)
        self.apply(initialise)

    def forward(self, vectors: th.Tensor | None, images: th.Tensor | None) -> th.Tensor:
        """Return […, size] of vectors […, V] and images […, C, H, W]."""
        parts = []
        if vectors is not None:
            parts.append(self.mlp(vectors))
        if images is not None:
            parts.append(self.cnn(images.flatten(0, -4)).reshape(*images.shape[:-3], -1))
        return th.cat(parts, dim=-1) if len(parts) > 1 else parts[0]


class Decoder(nn.Module):
    """Observations as the model state remembers them.

    :param inputs: parts of the observations
    :param latent: kind of z
    :param sizes: of the networks
    """

    def __init__(self, inputs: Inputs, latent: Latent, sizes: Sizes) -> None:
        super().__init__()
        self.inputs = inputs
        self.has_vectors, self.has_images = inputs.vector_size > 0, inputs.image_shape is not None
        if self.has_vectors:
            self.mlp = Head(inputs.vector_size, latent, sizes, sizes.layers)
        if inputs.image_shape is not None:
            channels, height, width = inputs.image_shape
            n = _stages(height, width)
            depths = [mult * sizes.depth for mult in (2, 3, 4, 4)[:n]][::-1]  # deepest first
            self.shape = (depths[0], height >> n, width >> n)
            self.first = SplitLinear(sizes.deter, latent.width, int(np.prod(self.shape)))
            parts: list[nn.Module] = [ChannelNormAct(depths[0], sizes.norm)]
            for before, depth in zip(depths, [*depths[1:], channels], strict=True):
                if sizes.strided:
                    parts += [nn.ConvTranspose2d(before, depth, 4, 2, padding=1)]
                else:
                    parts += [nn.Upsample(scale_factor=2), nn.Conv2d(before, depth, 5, padding=2)]
                parts += [ChannelNormAct(depth, sizes.norm)]
            self.cnn = nn.Sequential(*parts[:-1])
        self.apply(initialise)

    def forward(self, deter: th.Tensor, z: th.Tensor) -> tuple[th.Tensor | None, th.Tensor | None]:
        """Return what vectors follow from […, V] (see ``Inputs.mean``) and images in [−½, ½] […, C, H, W], or None."""
        vectors = self.mlp(deter, z) if self.has_vectors else None
        images = None
        if self.has_images:
            maps = self.first(deter, z).reshape(-1, *self.shape)
            images = self.cnn(maps).sigmoid() - 0.5
            images = images.reshape(*deter.shape[:-1], *images.shape[1:])
        return vectors, images

    def loss(self, deter: th.Tensor, z: th.Tensor, vectors: th.Tensor | None, images: th.Tensor | None) -> th.Tensor:
        """Return −ln p(x | h, z) […] of both parts, up to a constant (eq. 8); images have a squared error."""
        seen_vectors, seen_images = self(deter, z)
        loss = th.zeros(deter.shape[:-1], device=deter.device)
        if vectors is not None:
            loss = loss + self.inputs.loss(seen_vectors, vectors)
        if images is not None:
            loss = loss + (seen_images.float() - images).square().sum(dim=(-3, -2, -1))
        return loss


# --- heads -----------------------------------------------------------------------------------------------------------


class Head(nn.Module):
    """A perceptron of the model state.

    :param n_out: outputs
    :param latent: kind of z
    :param sizes: of the networks
    :param n_layers: hidden layers
    :param scale: of the last layer's first weights; 0: its outputs start at 0
    """

    def __init__(self, n_out: int, latent: Latent, sizes: Sizes, n_layers: int, scale: float = 1.0) -> None:
        super().__init__()
        self.first = FeatureLayer(sizes.deter, latent.width, sizes.units, sizes.norm)
        self.rest = layers(sizes.units, sizes.units, n_layers - 1, sizes.norm)
        self.last = nn.Linear(sizes.units, n_out)
        self.apply(initialise)
        self.last.weight.data *= scale

    def forward(self, deter: th.Tensor, z: th.Tensor) -> th.Tensor:
        """Return […, n_out] of h […, D] and z in either form."""
        return self.last(self.rest(self.first(deter, z)))


class TwoHotHead(Head):
    """A number as a distribution over bins that are exponentially far apart (eq. 10).

    :param latent: kind of z
    :param sizes: of the networks
    :param n_layers: hidden layers
    """

    bins: th.Tensor

    def __init__(self, latent: Latent, sizes: Sizes, n_layers: int) -> None:
        super().__init__(sizes.bins, latent, sizes, n_layers, scale=0.0)
        half = symexp(th.linspace(0.0, BINS_END, sizes.bins // 2 + 1))[1:]  # the other half is the same to the last bit
        self.register_buffer("bins", th.cat((-half.flip(0), th.zeros(1), half)), persistent=False)

    def mean(self, logits: th.Tensor) -> th.Tensor:
        """Return the number that is predicted […] of logits […, bins] (eq. 10)."""
        return expectation(logits.float(), self.bins)

    def loss(self, logits: th.Tensor, *targets: th.Tensor) -> th.Tensor:
        """Return the cross-entropy […] with the two-hot weights of the targets […], summed over the targets (eq. 11)."""
        weights = sum(two_hot(target, self.bins) for target in targets)
        return -(weights * logits.float().log_softmax(dim=-1)).sum(dim=-1)


class ContinueHead(Head):
    """The discount: γ times the probability that the episode goes on.

    :param latent: kind of z
    :param sizes: of the networks
    """

    def __init__(self, latent: Latent, sizes: Sizes) -> None:
        super().__init__(1, latent, sizes, 1)

    def discount(self, deter: th.Tensor, z: th.Tensor) -> th.Tensor:
        """Return γ c, in [0, 1] […]."""
        return self(deter, z)[..., 0].float().sigmoid()

    def loss(self, deter: th.Tensor, z: th.Tensor, discount: th.Tensor) -> th.Tensor:
        """Return the binary cross-entropy […] with the true discount, 0 or γ […]."""
        return F.binary_cross_entropy_with_logits(self(deter, z)[..., 0].float(), discount, reduction="none")


class Actor(Head):
    """π(a | s): a categorical distribution mixed with 1 % of the uniform, or a normal one of mean tanh(·), σ in [0.1, 1].

    Actions are int64 […] or float […, A]; as inputs of the RSSM they are ``vectors``: one-hot, or themselves.

    :param action_space: Discrete or Box
    :param latent: kind of z
    :param sizes: of the networks
    :param unimix: share of the uniform distribution (default 0.01)
    """

    one_hot: th.Tensor  # [A, A], every action as a vector; empty for a Box

    def __init__(self, action_space: spaces.Space, latent: Latent, sizes: Sizes, unimix: float = 0.01) -> None:
        self.n_actions = int(action_space.n) if isinstance(action_space, spaces.Discrete) else None
        self.size = action_size(action_space)
        super().__init__(self.size if self.n_actions else 2 * self.size, latent, sizes, sizes.layers, scale=0.01)
        self.unimix = unimix
        self.register_buffer("one_hot", th.eye(self.n_actions or 0), persistent=False)

    def _normal(self, outputs: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        mean, std = outputs.float().chunk(2, dim=-1)  # […, A] each
        return mean.tanh(), (MAX_STD - MIN_STD) * th.sigmoid(std + 2.0) + MIN_STD

    def draw(self, deter: th.Tensor, z: th.Tensor, deterministic: bool = False) -> th.Tensor:
        """Draw actions, or take the mode; a gradient passes through continuous ones."""
        return self.choose(self(deter, z), deterministic)

    def choose(self, outputs: th.Tensor, deterministic: bool = False) -> th.Tensor:
        """Draw actions from the outputs of the network, or take the mode."""
        if self.n_actions is None:
            mean, std = self._normal(outputs)
            return mean if deterministic else mean + std * th.randn_like(std)
        if deterministic:
            return outputs.argmax(dim=-1)
        return sample_index(outputs.softmax(dim=-1), self.unimix).long()

    def evaluate(self, deter: th.Tensor, z: th.Tensor, actions: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """Return log π(a | s) […] and the entropy of π(· | s) […]."""
        outputs = self(deter, z)
        if self.n_actions is None:
            mean, std = self._normal(outputs)
            log_std = std.log()
            log_prob = -0.5 * ((actions - mean) / std).square() - log_std - 0.5 * float(np.log(2.0 * np.pi))
            entropy = log_std + 0.5 * float(np.log(2.0 * np.pi * np.e))
            return log_prob.sum(dim=-1), entropy.sum(dim=-1)
        log_probs = uniform_mix(outputs.float().softmax(dim=-1), self.unimix).log()  # […, A]
        return log_probs.gather(-1, actions[..., None])[..., 0], -(log_probs.exp() * log_probs).sum(dim=-1)

    def vectors(self, actions: th.Tensor) -> th.Tensor:
        """Return actions as inputs of the RSSM, float32 […, A]."""
        return actions if self.n_actions is None else F.embedding(actions, self.one_hot)


def action_size(space: spaces.Space) -> int:
    """Return the numbers of an action vector."""
    return int(space.n) if isinstance(space, spaces.Discrete) else int(np.prod(space.shape))  # type: ignore[arg-type]
