"""MuZero's three functions as one policy: representation h, dynamics g and prediction f.

    z_0 = h(observation),    z_{k+1} = g(z_k, a_{k+1}),    (p, v, r) = f(z)

The latent states z need not look like anything; they need only let f foretell policies, values and rewards. Values and rewards
are distributions over the same bins, in the scale of the invertible transform (Schrittwieser et al. 2020, appendix F); each
latent state is scaled to [0, 1] (appendix G). Deviations: the reward of a step is read off the state that it leads to, by f
rather than by g; all heads begin at zero, so that before learning p is uniform and v and r are 0.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.type_aliases import Schedule
from torch import nn
from torch.nn import functional as F

from sb3_lecture.common.checks import FLAG, Integer, Real, check_arguments
from sb3_lecture.common.distributional import expectation, inverse_value_transform, value_transform
from sb3_lecture.search.compiled_mlp import CompiledMLP
from sb3_lecture.search.simulators import CompiledModel, Expansion, ModelSimulator, Root

from .raw_policy import RawPolicy

__all__ = ["MuZeroCnnPolicy", "MuZeroMlpPolicy", "MuZeroPolicy"]

LARGEST_PLANE = 8  # cells a side that a convolutional latent state has at most


class MuZeroPolicy(RawPolicy):
    """The learned model. Subclasses write the networks; as a policy it plays f(h(s)), without a search.

    :param observation_space: of the env
    :param action_space: Discrete
    :param lr_schedule: learning rate by the remaining progress
    :param value_limit: largest |value| or |reward| that the bins reach (default 500)
    :param n_bins: bins of values and of rewards, an odd number (default 51)
    :param optimizer_class: default Adam
    :param optimizer_kwargs: its arguments but the learning rate; Adam is fused by default
    :raises ValueError: for too few or an even number of bins, or no positive limit
    """

    prediction: nn.Sequential  # f but for its last layer
    head: nn.Linear  # the last layer of f: A logits of p, m of v, m of r
    bins: th.Tensor

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        value_limit: float = 500.0,
        n_bins: int = 51,
        optimizer_class: type[th.optim.Optimizer] = th.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        check_arguments(locals(), n_bins=Integer(3), value_limit=Real(above=0))
        if n_bins % 2 == 0:
            raise ValueError(f"{n_bins=} must be odd, so that one bin is 0")
        super().__init__(observation_space, action_space, optimizer_class, optimizer_kwargs)
        self.value_limit, self.n_bins = float(value_limit), n_bins
        top = value_transform(th.tensor(self.value_limit, dtype=th.float64))
        half = th.linspace(0.0, float(top), n_bins // 2 + 1)
        self.register_buffer("bins", th.cat((-half.flip(0), half[1:])))  # float32 [m], in the scale of h
        self._build()
        nn.init.zeros_(self.head.weight)
        nn.init.zeros_(self.head.bias)
        self.optimizer = optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def _build(self) -> None:
        raise NotImplementedError

    def represent(self, inputs: th.Tensor) -> th.Tensor:
        """Return z_0 = h(o) of preprocessed observations float32 [n, …]."""
        raise NotImplementedError

    def step(self, latents: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """Return z' = g(z, a) of latent states [n, …] and one-hot actions float32 [n, A]."""
        raise NotImplementedError

    def foretell(self, latents: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """Return f(z): logits of p [n, A], and of v and of the reward of the step that led to z [n, 2, m]."""
        y = self.head(self.prediction(latents))  # [n, A + 2 m]
        return y[:, : self.n_actions], y[:, self.n_actions :].unflatten(1, (2, self.n_bins))

    def scalar(self, logits: th.Tensor) -> th.Tensor:
        """Return the numbers that logits […, m] over the bins stand for: h⁻¹ of the expectation."""
        return inverse_value_transform(expectation(logits, self.bins))

    def root(self, inputs: np.ndarray | th.Tensor) -> Root:
        """Return where a search from preprocessed observations [n, …] begins."""
        self.set_training_mode(False)
        with th.no_grad():
            latents = self.represent(th.as_tensor(inputs, device=self.device))
            logits, numbers = self.foretell(latents)
            return Root(latents.cpu().numpy(), logits.cpu().numpy(), self.scalar(numbers[:, 0]).cpu().numpy())

    def simulator(self, discount: float) -> ModelSimulator:
        """Return the learned model for a search, with the present weights or with those to come.

        :param discount: of every step: γ, or −1 between two players
        """

        def ask(embeddings: np.ndarray, actions: np.ndarray) -> Expansion:
            if self.training:
                self.set_training_mode(False)
            with th.no_grad():
                one_hot = F.one_hot(th.as_tensor(actions, device=self.device), self.n_actions).float()
                latents = self.step(th.as_tensor(embeddings, device=self.device), one_hot)
                logits, pair = self.foretell(latents)
                numbers = self.scalar(pair).cpu().numpy()
            return Expansion(latents.cpu().numpy(), numbers[:, 1], discount, logits.cpu().numpy(), numbers[:, 0])

        return ModelSimulator(ask, self.n_actions)

    def predict_values(self, observations: th.Tensor) -> th.Tensor:
        """Return v, float [n], of observations [n, …]."""
        latents = self.represent(preprocess_obs(observations, self.observation_space))  # type: ignore[arg-type]
        return self.scalar(self.foretell(latents)[1][:, 0])

    def logits(self, inputs: th.Tensor) -> th.Tensor:
        """See RawPolicy."""
        return self.foretell(self.represent(inputs))[0]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        own = ("value_limit", "n_bins")
        return super()._get_constructor_parameters() | {name: getattr(self, name) for name in own}


def scaled(latents: th.Tensor) -> th.Tensor:
    """Scale each latent state [n, …] to [0, 1] by its least and largest number (appendix G)."""
    flat = latents.flatten(1)
    low, high = flat.min(dim=1, keepdim=True).values, flat.max(dim=1, keepdim=True).values  # [n, 1]
    return ((flat - low) / (high - low).clamp_min(1e-12)).view_as(latents)


class MuZeroMlpPolicy(MuZeroPolicy):
    """Multi-layer perceptrons, which the search runs compiled on the CPU.

    :param net_arch: units of the hidden layers of each of h, g and f (default [128])
    :param latent_size: numbers in a latent state (default 64)
    :param activation_fn: ``nn.ReLU`` (default) or ``nn.Tanh``
    :param kwargs: of MuZeroPolicy
    :raises ValueError: without a hidden layer, or for another activation
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        net_arch: list[int] | None = None,
        latent_size: int = 64,
        activation_fn: type[nn.Module] = nn.ReLU,
        **kwargs: Any,
    ) -> None:
        check_arguments(locals(), latent_size=Integer(2))
        self.net_arch = [128] if net_arch is None else list(net_arch)
        self.latent_size, self.activation_fn = latent_size, activation_fn
        if not self.net_arch or activation_fn not in (nn.ReLU, nn.Tanh):
            raise ValueError(f"{net_arch=} needs a layer, activation_fn={activation_fn.__name__} must be nn.ReLU or nn.Tanh")
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)

    def _build(self) -> None:
        n, size, last = int(np.prod(self.input_shape)), self.latent_size, self.net_arch[-1]
        self.representation = nn.Sequential(nn.Flatten(), *self._hidden(n), nn.Linear(last, size))
        self.dynamics = nn.Sequential(*self._hidden(size + self.n_actions), nn.Linear(last, size))
        self.prediction = nn.Sequential(*self._hidden(size))
        self.head = nn.Linear(last, self.n_actions + 2 * self.n_bins)

    def _hidden(self, n_in: int) -> list[nn.Module]:
        sizes = [n_in, *self.net_arch]
        return [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), self.activation_fn())]

    def represent(self, inputs: th.Tensor) -> th.Tensor:
        """See MuZeroPolicy; [n, latent_size]."""
        return scaled(self.representation(inputs))

    def step(self, latents: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """See MuZeroPolicy."""
        return scaled(self.dynamics(th.cat((latents, actions), dim=1)))

    def simulator(self, discount: float) -> ModelSimulator:
        """Return a compiled copy of the model on the CPU, the model itself elsewhere."""
        if self.device.type != "cpu":
            return super().simulator(discount)
        dynamics = CompiledMLP.from_torch(self.dynamics)
        prediction = CompiledMLP.from_torch(self.prediction, heads=(self.head,))
        return CompiledModel(dynamics, prediction, discount, "scale", self.bins.numpy())

    def _get_constructor_parameters(self) -> dict[str, Any]:
        own = {"net_arch": self.net_arch, "latent_size": self.latent_size, "activation_fn": self.activation_fn}
        return {**super()._get_constructor_parameters(), **own}


class _Block(nn.Module):
    """A residual block of two 3 × 3 convolutions over planes [n, channels, H, W]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.body = nn.Sequential(*_convolution(channels, channels), nn.ReLU(), *_convolution(channels, channels))

    def forward(self, planes: th.Tensor) -> th.Tensor:
        return F.relu(planes + self.body(planes))


def _convolution(n_in: int, n_out: int, stride: int = 1) -> tuple[nn.Module, nn.Module]:
    """A convolution and its norm; without the bias the norm would take the size of the input away, bright from dim."""
    return nn.Conv2d(n_in, n_out, 3, stride, padding=1), nn.GroupNorm(1, n_out)


class MuZeroCnnPolicy(MuZeroPolicy):
    """Small residual networks over planes: boards as they are, images made smaller by convolutions of stride 2.

    An action is a set of planes, one for each, of which its own is 1; on a board (appendix E) it is a plane that is 1 where
    the stone is laid, and one more that is 1 everywhere for a pass. Deviation from the paper's networks (appendix F): layers
    are normalised over their own numbers (GroupNorm) and not over the batch, so that acting and learning see the same model.

    :param n_blocks: residual blocks in h and in g (default 2)
    :param channels: of every convolution (default 32)
    :param net_arch: units of the hidden layer of f (default [64])
    :param board: whether actions are the cells of the planes, row by row, and then perhaps a pass (Go, Othello, TicTacToe), or
        their columns (Connect Four); such planes are not made smaller. MuZero says so of a board game (default False)
    :param kwargs: of MuZeroPolicy
    :raises ValueError: for observations that are no planes, or actions that are no cells of theirs with ``board``
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        n_blocks: int = 2,
        channels: int = 32,
        net_arch: list[int] | None = None,
        board: bool = False,
        **kwargs: Any,
    ) -> None:
        check_arguments(locals(), n_blocks=Integer(0, 1000), channels=Integer(1), board=FLAG)
        self.n_blocks, self.channels, self.net_arch = n_blocks, channels, [64] if net_arch is None else list(net_arch)
        self.board = board
        if len(observation_space.shape or ()) != 3:
            raise ValueError(f"CnnPolicy needs planes [C, H, W], not {observation_space}: use MlpPolicy or obs='grid'")
        if len(self.net_arch) != 1:
            raise ValueError(f"{net_arch=} must name one layer")
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)

    def _build(self) -> None:
        planes, height, width = self.input_shape
        c, last = self.channels, self.net_arch[0]
        layers: list[nn.Module] = []
        cells, a = height * width, self.n_actions
        if self.board and a not in (cells, cells + 1, width):
            raise ValueError(f"{a} actions are neither the {cells} cells of a board, with or without a pass, nor its {width} "
                             "columns: leave board out")  # fmt: skip
        action_planes = a if not self.board else 2 if a == cells + 1 else 1
        while max(height, width) > LARGEST_PLANE and not self.board:
            layers += [*_convolution(planes, c, 2), nn.ReLU()]
            planes, height, width = c, (height + 1) // 2, (width + 1) // 2
        layers += [] if layers else [*_convolution(planes, c), nn.ReLU()]
        self.representation = nn.Sequential(*layers, *(_Block(c) for _ in range(self.n_blocks)))
        self.entrance = nn.Sequential(*_convolution(c + action_planes, c))
        self.dynamics = nn.Sequential(*(_Block(c) for _ in range(self.n_blocks)))
        cells, self.plane = height * width, (height, width)
        self.prediction = nn.Sequential(nn.Conv2d(c, 4, 1), nn.ReLU(), nn.Flatten(), nn.Linear(4 * cells, last), nn.ReLU())
        self.head = nn.Linear(last, self.n_actions + 2 * self.n_bins)

    def represent(self, inputs: th.Tensor) -> th.Tensor:
        """See MuZeroPolicy; [n, channels, H', W']."""
        return scaled(self.representation(inputs))

    def step(self, latents: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """See MuZeroPolicy."""
        planes = th.cat((latents, self.action_planes(actions)), dim=1)
        return scaled(self.dynamics(F.relu(latents + self.entrance(planes))))

    def action_planes(self, actions: th.Tensor) -> th.Tensor:
        """Return one-hot actions float32 [n, A] as planes [n, …, H', W'] beside a latent state's."""
        height, width = self.plane
        if not self.board:
            return actions[:, :, None, None].expand(-1, -1, height, width)
        if actions.shape[1] == width:
            return actions[:, None, None, :].expand(-1, 1, height, width)  # a stone falls into its column
        cells = height * width
        stones = actions[:, :cells].unflatten(1, (1, height, width))
        passes = actions[:, cells:, None, None].expand(-1, -1, height, width)  # none, or one plane
        return th.cat((stones, passes), dim=1)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        own = {"n_blocks": self.n_blocks, "channels": self.channels, "net_arch": self.net_arch, "board": self.board}
        return {**super()._get_constructor_parameters(), **own}
