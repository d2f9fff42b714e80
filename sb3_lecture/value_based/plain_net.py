"""A plain Q-network without torch's overhead: where the net is small, its calls cost more than the arithmetic.

A network of linear layers and ReLUs is evaluated by NumPy, through views that share memory with its parameters, wherever no
gradient is needed.
"""

from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.torch_layers import FlattenExtractor
from stable_baselines3.dqn.policies import QNetwork

__all__ = ["Layers", "clip_gradients", "evaluate_layers", "linear_layers"]

Array = np.ndarray[Any, Any]
Layers = list[tuple[Array, Array]]  # (weight [n_in, n_out], bias [n_out]) of each layer


def clip_gradients(parameters: list[th.nn.Parameter], max_norm: float) -> float:
    """Scale gradients down to a largest joint norm: ``clip_grad_norm_``, but they are touched only where that is needed.

    :param parameters: parameters that may have a gradient
    :param max_norm: largest norm
    :return: their joint norm before
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    norm = th.cat([gradient.flatten() for gradient in gradients]).norm().item()
    if norm > max_norm:
        for gradient in gradients:
            gradient.mul_(max_norm / (norm + 1e-6))
    return norm


def linear_layers(net: QNetwork) -> Layers | None:
    """The layers of a plain ReLU network as NumPy views that share memory with its parameters.

    :param net: SB3's Q-network
    :return: None where the network is anything else: on a GPU, with another activation, or with observations that SB3
        flattens, scales or encodes first
    """
    layers, activations = list(net.q_net)[::2], list(net.q_net)[1::2]
    flat = isinstance(net.observation_space, spaces.Box) and len(net.observation_space.shape) == 1
    if (
        not (flat and net.observation_space.dtype == np.float32 and type(net.features_extractor) is FlattenExtractor)
        or not all(type(layer) is th.nn.Linear and layer.weight.device.type == "cpu" for layer in layers)
        or not all(type(activation) is th.nn.ReLU for activation in activations)
    ):
        return None
    return [(layer.weight.detach().numpy().T, layer.bias.detach().numpy()) for layer in layers]  # type: ignore[operator]


def evaluate_layers(layers: Layers, x: Array) -> Array:
    """Pass a batch through a plain ReLU network: NumPy's calls cost a fraction of torch's where the net is small.

    :param layers: the network's, from ``linear_layers``
    :param x: observations, float32 [batch, n_in]
    :return: outputs [batch, n_out]
    """
    for weight, bias in layers[:-1]:
        x = x @ weight
        x += bias
        np.maximum(x, 0.0, out=x)
    weight, bias = layers[-1]
    return x @ weight + bias
