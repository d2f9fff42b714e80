"""AlphaZero's networks f_θ(s) = (p, v): a perceptron and a small residual network over boards (see ``alphazero``)."""

from collections.abc import Sequence
from copy import deepcopy
from itertools import pairwise
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.preprocessing import preprocess_obs
from stable_baselines3.common.type_aliases import Schedule
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from sb3_lecture.common.checks import FLAG, Integer, check_arguments
from sb3_lecture.common.rules import Layers
from sb3_lecture.search.compiled_mlp import CompiledMLP
from sb3_lecture.search.simulators import Evaluate

from .raw_policy import RawPolicy

__all__ = ["AlphaZeroMlpPolicy", "AlphaZeroPolicy", "BoardCnnPolicy"]


class AlphaZeroPolicy(RawPolicy):
    """f_θ(s) = (p, v). Subclasses write ``net``; as a policy it plays the raw network, without a search.

    :param observation_space: of the env
    :param action_space: Discrete
    :param lr_schedule: learning rate by the remaining progress
    :param squash_value: whether v is a tanh, for games (default), or any number, for an MDP
    :param optimizer_class: default Adam
    :param optimizer_kwargs: its arguments but the learning rate; Adam is fused by default
    """

    policy_head: Any
    value_head: Any

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        squash_value: bool = True,
        optimizer_class: type[th.optim.Optimizer] = th.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        check_arguments(locals(), squash_value=FLAG)
        super().__init__(observation_space, action_space, optimizer_class, optimizer_kwargs)
        self.squash_value = squash_value
        self._build()
        for head in (self.policy_head, self.value_head):  # before it has learned, p is uniform and v is 0
            last: Any = head[-1] if isinstance(head, nn.Sequential) else head
            nn.init.zeros_(last.weight)
            nn.init.zeros_(last.bias)
        self.optimizer = optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def _build(self) -> None:
        raise NotImplementedError

    def net(self, inputs: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """Return logits [n, A] and values before squashing [n] of preprocessed observations float32 [n, …]."""
        raise NotImplementedError

    def forward(self, inputs: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """Return logits [n, A] and values v [n] of preprocessed observations float32 [n, …]."""
        logits, values = self.net(inputs)
        return logits, th.tanh(values) if self.squash_value else values

    def evaluate(self, inputs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return logits [n, A] and values [n] as the search asks for them."""
        if self.training:
            self.set_training_mode(False)
        with th.no_grad():
            logits, values = self(th.as_tensor(inputs, device=self.device))
        return logits.cpu().numpy(), values.cpu().numpy()

    def evaluator(self) -> Evaluate | CompiledMLP:
        """Return the present network for a search; a compiled one does not follow later training."""
        return self.evaluate

    def predict_values(self, observations: th.Tensor) -> th.Tensor:
        """Return v, float [n], of observations [n, …]."""
        return self(preprocess_obs(observations, self.observation_space))[1]

    def logits(self, inputs: th.Tensor) -> th.Tensor:
        """See RawPolicy."""
        return self.net(inputs)[0]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "squash_value": self.squash_value}


class AlphaZeroMlpPolicy(AlphaZeroPolicy):
    """A multi-layer perceptron, which the search runs compiled on the CPU.

    :param net_arch: units of each hidden layer (default [128, 128])
    :param activation_fn: ``nn.ReLU`` (default) or ``nn.Tanh``
    :param kwargs: of AlphaZeroPolicy
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        net_arch: list[int] | None = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        **kwargs: Any,
    ) -> None:
        check_arguments(locals())
        self.net_arch = [128, 128] if net_arch is None else list(net_arch)
        self.activation_fn = activation_fn
        if not self.net_arch or activation_fn not in (nn.ReLU, nn.Tanh):
            raise ValueError(f"{net_arch=} needs a layer, activation_fn={activation_fn.__name__} must be nn.ReLU or nn.Tanh")
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)

    def _build(self) -> None:
        sizes = [int(np.prod(self.input_shape)), *self.net_arch]
        layers = [part for a, b in pairwise(sizes) for part in (nn.Linear(a, b), self.activation_fn())]
        self.body = nn.Sequential(nn.Flatten(), *layers)
        self.policy_head, self.value_head = nn.Linear(sizes[-1], self.n_actions), nn.Linear(sizes[-1], 1)

    def net(self, inputs: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """See AlphaZeroPolicy."""
        hidden = self.body(inputs)
        return self.policy_head(hidden), self.value_head(hidden)[:, 0]

    def evaluator(self) -> Evaluate | CompiledMLP:
        """Return a compiled copy of the network on the CPU, the network itself elsewhere."""
        if self.device.type != "cpu":
            return self.evaluate
        return CompiledMLP.from_torch(self.body, heads=(self.policy_head, self.value_head), squash=self.squash_value)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "net_arch": self.net_arch, "activation_fn": self.activation_fn}


class BoardCnnPolicy(AlphaZeroPolicy):
    """A small residual network over planes [C, H, W]: a convolution, residual blocks, one head for p and one for v (2017).

    :param n_blocks: residual blocks (default 2)
    :param channels: of every 3 × 3 convolution (default 32)
    :param head_planes: to which a 1 × 1 convolution narrows them before p and before v (default 2 and 1, as in the paper)
    :param kwargs: of AlphaZeroPolicy
    :raises ValueError: for observations that are no planes, or ``head_planes`` that are not two numbers of at least 1
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        n_blocks: int = 2,
        channels: int = 32,
        head_planes: Sequence[int] = (2, 1),
        **kwargs: Any,
    ) -> None:
        check_arguments(locals(), n_blocks=Integer(0, 1000), channels=Integer(1), head_planes=Layers())
        self.n_blocks, self.channels, self.head_planes = n_blocks, channels, tuple(head_planes)
        if len(observation_space.shape or ()) != 3:
            raise ValueError(f"BoardCnnPolicy needs planes [C, H, W], not {observation_space}: use MlpPolicy or obs='grid'")
        if len(self.head_planes) != 2:
            raise ValueError(f"head_planes={self.head_planes} must be two numbers, such as (2, 1)")
        super().__init__(observation_space, action_space, lr_schedule, **kwargs)

    def _build(self) -> None:
        planes, height, width = self.input_shape
        c, cells, (p, v) = self.channels, height * width, self.head_planes
        self.stem = nn.Sequential(*_convolution(planes, c, 3), nn.ReLU())
        blocks = [nn.Sequential(*_convolution(c, c, 3), nn.ReLU(), *_convolution(c, c, 3)) for _ in range(self.n_blocks)]
        self.blocks = nn.ModuleList(blocks)
        self.policy_head = nn.Sequential(*_convolution(c, p, 1), nn.ReLU(), nn.Flatten(), nn.Linear(p * cells, self.n_actions))
        self.value_head = nn.Sequential(
            *_convolution(c, v, 1), nn.ReLU(), nn.Flatten(), nn.Linear(v * cells, c), nn.ReLU(), nn.Linear(c, 1)
        )

    def net(self, inputs: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """See AlphaZeroPolicy."""
        hidden = self.stem(inputs)  # [n, channels, H, W]
        for block in self.blocks:
            hidden = F.relu(hidden + block(hidden))
        return self.policy_head(hidden), self.value_head(hidden)[:, 0]

    def evaluator(self) -> Evaluate | CompiledMLP:
        """Return on the CPU a copy whose normalisations are part of the convolutions, the network itself elsewhere."""
        if self.device.type != "cpu":
            return self.evaluate
        self.set_training_mode(False)
        copy: BoardCnnPolicy = deepcopy(self, {id(self.optimizer): None})
        for part in copy.modules():
            if isinstance(part, nn.Sequential):
                for i, (layer, following) in enumerate(pairwise(part)):
                    if isinstance(following, nn.BatchNorm2d):
                        part[i], part[i + 1] = fuse_conv_bn_eval(layer, following), nn.Identity()  # type: ignore[type-var]
        return copy.to(memory_format=th.channels_last).evaluate  # type: ignore[call-overload]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        own = ("n_blocks", "channels", "head_planes")
        return super()._get_constructor_parameters() | {name: getattr(self, name) for name in own}


def _convolution(n_in: int, n_out: int, size: int) -> tuple[nn.Module, nn.Module]:
    """A convolution that keeps the board's size, and its batch normalisation."""
    return nn.Conv2d(n_in, n_out, size, padding=size // 2, bias=False), nn.BatchNorm2d(n_out)
