"""Gradient steps of a plain Q-network by NumPy: where the net is small, torch's calls cost more than the arithmetic.

A step of 64 rows through a 64-64 net is 2 MFLOP. Here it is a dozen calls of BLAS on views of the torch parameters, the
backward pass written out, and Adam as one compiled loop over all weights at once, whose averages are views of the torch
optimizer's: what is saved, loaded or read from outside is torch's own, at any time.
"""

import math
from typing import TYPE_CHECKING, Any

import numpy as np
import torch as th
from numba import njit
from stable_baselines3.dqn.policies import QNetwork

from sb3_lecture.common.checks import check_finite
from sb3_lecture.common.munchausen import soft_value
from sb3_lecture.value_based.plain_net import Layers, evaluate_layers, linear_layers

if TYPE_CHECKING:
    from sb3_lecture.value_based.deep_q_learning import DeepQLearning

__all__ = ["PlainStep", "descend_plain", "huber_gradient"]

Array = np.ndarray[Any, Any]
MAX_ROWS = 4096  # transitions drawn from the memory in one call


@njit(cache=True, fastmath={"contract", "reassoc", "nsz"})
def _adam(w, g, m, v, scale, lr, beta1, beta2, eps, correction):  # type: ignore[no-untyped-def]
    """W ← w − lr m / (√v / correction + ε) (Kingma & Ba 2015), with the gradient g · scale; ``lr`` holds 1 / (1 − β₁ᵗ)."""
    for i in range(w.shape[0]):
        gradient = g[i] * scale
        m[i] += (np.float32(1.0) - beta1) * (gradient - m[i])
        v[i] += (np.float32(1.0) - beta2) * (gradient * gradient - v[i])
        w[i] -= lr * m[i] / (np.sqrt(v[i]) / correction + eps)


def huber_gradient(q: Array, actions: Array, targets: Array, weights: Array | None) -> tuple[Array, Array, Array]:
    """Differentiate the mean of w · Huber(target − q(s, a)) in q.

    :param q: [B, A]
    :param actions: a [B]
    :param targets: [B]
    :param weights: w [B]; None: 1
    :return: ∂ mean / ∂ q [B, A], the losses [B], and |target − q(s, a)| [B]
    """
    rows = np.arange(len(actions))
    delta = q[rows, actions] - targets  # [B]
    size = np.abs(delta)
    slope = np.clip(delta, -1.0, 1.0) / np.float32(len(actions))
    gradient = np.zeros_like(q)
    gradient[rows, actions] = slope if weights is None else slope * weights
    return gradient, np.where(size < 1.0, 0.5 * size * size, size - 0.5), size


class PlainStep:
    """Steps of Adam for one plain network.

    While it lives, the network's parameters and the optimizer's averages are views of its arrays.

    :param net: a network that ``linear_layers`` takes
    :param optimizer: torch's Adam over its parameters
    """

    def __init__(self, net: QNetwork, optimizer: th.optim.Optimizer) -> None:
        self.optimizer, self.parameters = optimizer, list(net.parameters())
        n = sum(parameter.numel() for parameter in self.parameters)
        self.w, self.m, self.v, self.g = (_aligned(n) for _ in range(4))
        self.steps = 0
        begin = 0
        self.gradients: list[Array] = []  # views of g, in the shapes of the parameters
        for parameter in self.parameters:
            end = begin + parameter.numel()
            view = {name: getattr(self, name)[begin:end].reshape(parameter.shape) for name in "wmvg"}
            state = optimizer.state[parameter]
            if state:
                self.steps = int(state["step"])
                view["m"][...], view["v"][...] = state["exp_avg"].numpy(), state["exp_avg_sq"].numpy()
            view["w"][...] = parameter.detach().numpy()
            parameter.data = th.from_numpy(view["w"])
            state["step"] = th.tensor(float(self.steps))
            state["exp_avg"], state["exp_avg_sq"] = th.from_numpy(view["m"]), th.from_numpy(view["v"])
            self.gradients.append(view["g"])
            begin = end
        layers = linear_layers(net)
        assert layers is not None, "not a plain network"
        self.layers: Layers = layers  # (W [n_in, n_out], b) of each layer

    @staticmethod
    def fits(net: QNetwork, optimizer: th.optim.Optimizer) -> bool:
        """Whether a network and its optimizer can be stepped here: plain layers, plain Adam, on the CPU."""
        if type(optimizer) is not th.optim.Adam or len(optimizer.param_groups) != 1 or linear_layers(net) is None:
            return False
        group = optimizer.param_groups[0]
        plain = not (group["weight_decay"] or group["amsgrad"] or group["maximize"])
        return plain and all(parameter.dtype == th.float32 for parameter in net.parameters())

    def forward(self, x: Array) -> tuple[Array, list[Array]]:
        """Return the outputs [B, n_out] of x [B, n_in], and what went into each layer."""
        inputs = [x]
        for weight, bias in self.layers[:-1]:
            x = x @ weight
            x += bias
            np.maximum(x, 0.0, out=x)
            inputs.append(x)
        return evaluate_layers(self.layers[-1:], x), inputs

    def backward(self, inputs: list[Array], gradient: Array) -> None:
        """Write the gradients of all parameters, given that of the outputs [B, n_out]."""
        for i in range(len(self.layers) - 1, -1, -1):
            np.matmul(gradient.T, inputs[i], out=self.gradients[2 * i])
            np.sum(gradient, axis=0, out=self.gradients[2 * i + 1])
            if i > 0:
                gradient = gradient @ self.layers[i][0].T
                gradient *= inputs[i] > 0.0  # through the ReLU

    def step(self, max_norm: float) -> float:
        """Clip the gradient to a largest norm, take a step of Adam, and return the norm before.

        :param max_norm: largest norm
        """
        norm = math.sqrt(float(self.g @ self.g))
        if not math.isfinite(norm):
            return norm
        group = self.optimizer.param_groups[0]
        beta1, beta2 = group["betas"]
        self.steps += 1
        scale = max_norm / (norm + 1e-6) if norm > max_norm else 1.0
        lr = float(group["lr"]) / (1.0 - beta1**self.steps)
        numbers = (scale, lr, beta1, beta2, group["eps"], math.sqrt(1.0 - beta2**self.steps))
        _adam(self.w, self.g, self.m, self.v, *map(np.float32, numbers))
        return norm

    def attached(self) -> bool:
        """Whether network and optimizer still hold these arrays; ``load_state_dict`` gives an optimizer others."""
        first = self.parameters[0]
        average = self.optimizer.state[first].get("exp_avg")
        return average is not None and (first.data_ptr(), average.data_ptr()) == (self.w.ctypes.data, self.m.ctypes.data)

    def write_steps(self) -> None:
        """Tell torch's optimizer how many steps were taken."""
        for parameter in self.parameters:
            self.optimizer.state[parameter]["step"].fill_(self.steps)


def descend_plain(model: "DeepQLearning", plain: PlainStep, gradient_steps: int, batch_size: int) -> float:
    """Take gradient steps of ``DeepQLearning.scalar_losses`` by NumPy.

    :param model: whose memory is drawn from, and whose switches hold
    :param plain: the steps of its network
    :param gradient_steps: how many minibatches
    :param batch_size: transitions in each
    :return: the sum of the losses
    """
    total = 0.0
    target_layers = linear_layers(model.q_net_target)
    assert target_layers is not None
    while gradient_steps > 0:
        # without priorities the rows of several steps are drawn, and rated by the target network, at once
        n = 1 if model.prioritized else min(gradient_steps, max(MAX_ROWS // batch_size, 1))
        gradient_steps -= n
        batch = model.draw(n * batch_size)
        x, x_next = batch.observations.numpy(), batch.next_observations.numpy()  # type: ignore[union-attr]
        actions = batch.actions.numpy()
        next_q = evaluate_layers(target_layers, x_next)  # q(s', ·; w⁻) [n B, A]
        with th.no_grad():
            rewards = (batch.rewards + model.bonus(batch)).numpy()
        discounts, weights = batch.discounts.numpy(), None if batch.weights is None else batch.weights.numpy()
        if model.munchausen:
            next_value = soft_value(th.from_numpy(next_q), model.munchausen_tau).numpy()
        elif not model.double:
            next_value = next_q.max(axis=1)
        for i in range(0, n * batch_size, batch_size):
            part = slice(i, i + batch_size)
            if model.double:
                best = evaluate_layers(plain.layers, x_next[part]).argmax(axis=1)  # argmax q(s', ·; w)
                value = next_q[part][np.arange(batch_size), best]
            else:
                value = next_value[part]
            q, inputs = plain.forward(x[part])
            target = rewards[part] + discounts[part] * value
            gradient, losses, errors = huber_gradient(q, actions[part], target, weights)
            plain.backward(inputs, gradient)
            norm = plain.step(model.max_grad_norm)
            check_finite(
                norm, "the gradient's norm", observations=x, next_observations=x_next, rewards=rewards,
                network=model.q_net, target_network=model.q_net_target,
            )  # fmt: skip
            total += float((losses if weights is None else weights * losses).mean())
        if batch.indices is not None:
            model.replay_buffer.update_priorities(batch.indices, errors)  # type: ignore[union-attr]
    plain.write_steps()
    return total


def _aligned(n: int) -> Array:
    """Return float32 zeros [n] that begin at a cache line."""
    raw = np.zeros(n + 16, np.float32)
    start = -raw.ctypes.data % 64 // 4
    return raw[start : start + n]
