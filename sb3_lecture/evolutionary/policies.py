"""The policy of the evolutionary learners, and a population of its networks run as one."""

from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import get_action_dim, preprocess_obs
from stable_baselines3.common.torch_layers import create_mlp
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from torch import nn

from sb3_lecture.common.checks import FLAG, check_arguments

__all__ = ["EvolutionLinearPolicy", "EvolutionPolicy", "NetworkStack"]

Array = np.ndarray[Any, Any]
MIN_VARIANCE = 1e-2  # of an observation's entry when it is standardised: what hardly moves is not blown up
MAX_DEVIATIONS = 5.0  # standardised observations are clipped here, as in the code of Salimans et al. (2017)


class EvolutionPolicy(BasePolicy):
    """A deterministic network: the largest output names a discrete action, tanh outputs span a Box.

    Its parameters, strung together, are the vector that evolution works on; the statistics that standardise observations
    are buffers, saved with it but not evolved.

    :param observation_space: Box, Discrete, MultiDiscrete or MultiBinary; flattened
    :param action_space: Discrete or Box
    :param lr_schedule: step size of the optimizer, for learners that have one
    :param net_arch: widths of the hidden layers (default [16])
    :param activation_fn: activation between the layers, without parameters of its own (default Tanh)
    :param with_bias: whether layers have biases (default True)
    :param squash_output: tanh on outputs for a Box, scaled to its bounds; otherwise they are clipped (default True)
    :param optimizer_class: optimizer of learners that follow an estimated gradient (default Adam)
    :param optimizer_kwargs: its arguments
    :raises ValueError: if the observations are a Dict
    """

    obs_sum: th.Tensor  # [features], over all counted observations
    obs_sum_of_squares: th.Tensor  # [features]
    obs_count: th.Tensor  # []

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        net_arch: list[int] | None = None,
        activation_fn: type[nn.Module] = nn.Tanh,
        with_bias: bool = True,
        squash_output: bool = True,
        optimizer_class: type[th.optim.Optimizer] = th.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        check_arguments(locals(), with_bias=FLAG)
        if isinstance(observation_space, spaces.Dict):
            raise ValueError(
                "Dict observations are not supported by the evolutionary learners; wrap the env in FlattenObservation"
            )
        super().__init__(
            observation_space,
            action_space,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
            squash_output=squash_output and isinstance(action_space, spaces.Box),
        )
        self.net_arch = [16] if net_arch is None else net_arch
        self.activation_fn = activation_fn
        self.with_bias = with_bias
        self.features_extractor = self.make_features_extractor()
        self.features_dim = self.features_extractor.features_dim
        n_outputs = int(action_space.n) if isinstance(action_space, spaces.Discrete) else get_action_dim(action_space)
        layers = create_mlp(
            self.features_dim, n_outputs, self.net_arch, activation_fn, squash_output=self.squash_output, with_bias=with_bias
        )
        self.action_net = nn.Sequential(*layers)
        self.register_buffer("obs_sum", th.zeros(self.features_dim, dtype=th.float64))
        self.register_buffer("obs_sum_of_squares", th.zeros(self.features_dim, dtype=th.float64))
        self.register_buffer("obs_count", th.zeros((), dtype=th.float64))
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def forward(self, obs: PyTorchObs, deterministic: bool = True) -> th.Tensor:
        """Outputs → actions; observations [batch, …] → [batch] or [batch, action size]."""
        features = self.extract_features(obs, self.features_extractor)
        if self.obs_count > 0:
            mean, std = self.observation_statistics()
            features = ((features - mean) / std).clamp(-MAX_DEVIATIONS, MAX_DEVIATIONS)
        outputs = self.action_net(features)
        return outputs.argmax(dim=1) if isinstance(self.action_space, spaces.Discrete) else outputs

    def _predict(self, observation: PyTorchObs, deterministic: bool = True) -> th.Tensor:
        return self(observation)

    def observation_statistics(self) -> tuple[th.Tensor, th.Tensor]:
        """Mean and standard deviation of the counted observations, float32 [features] each."""
        mean = self.obs_sum / self.obs_count
        variance = self.obs_sum_of_squares / self.obs_count - mean**2
        return mean.float(), variance.clamp(min=MIN_VARIANCE).sqrt().float()

    def count_observations(self, sums: Array, count: int) -> None:
        """Take more observations into the statistics.

        :param sums: their sum and the sum of their squares, float64 [2, features]
        :param count: how many they are
        """
        self.obs_sum += th.as_tensor(sums[0], device=self.device)
        self.obs_sum_of_squares += th.as_tensor(sums[1], device=self.device)
        self.obs_count += count

    def features(self, observations: Array) -> Array:
        """What the network is fed before standardisation; observations [n, …] → float32 [n, features]."""
        tensor = preprocess_obs(th.as_tensor(observations), self.observation_space, self.normalize_images)
        return tensor.flatten(1).numpy()  # type: ignore[union-attr]

    def get_vector(self) -> Array:
        """All parameters as one vector, float32 [n_params]."""
        return nn.utils.parameters_to_vector(self.parameters()).detach().cpu().numpy().copy()

    def set_vector(self, vector: Array) -> None:
        """Take all parameters from one vector, float [n_params]."""
        tensor = th.as_tensor(vector, dtype=th.float32, device=self.device)
        with th.no_grad():
            nn.utils.vector_to_parameters(tensor, self.parameters())

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        del data["normalize_images"]
        data.update(
            lr_schedule=self._dummy_schedule,
            net_arch=self.net_arch,
            activation_fn=self.activation_fn,
            with_bias=self.with_bias,
            squash_output=self.squash_output,
            optimizer_class=self.optimizer_class,
            optimizer_kwargs=self.optimizer_kwargs,
        )
        return data


class EvolutionLinearPolicy(EvolutionPolicy):
    """One linear layer, which is enough for many control tasks (Mania et al. 2018, https://arxiv.org/abs/1803.07055)."""

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        with_bias: bool = True,
        squash_output: bool = True,
        optimizer_class: type[th.optim.Optimizer] = th.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(
            observation_space,
            action_space,
            lr_schedule,
            net_arch=[],
            with_bias=with_bias,
            squash_output=squash_output,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
        )

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        del data["net_arch"], data["activation_fn"]
        return data


class NetworkStack:
    """n networks of one policy's shape, each with its own parameters, run as one batched product a layer.

    Networks this small live on the CPU, where NumPy's batched product is several times faster than PyTorch's.

    :param policy: the shape, and the observation statistics at this moment
    :param vectors: parameters of each network, float32 [n, n_params], in the order of ``policy.parameters()``
    :raises ValueError: if parameters lie outside linear layers
    """

    def __init__(self, policy: EvolutionPolicy, vectors: Array) -> None:
        self.policy = policy
        self.layers: list[tuple[Array, Array | None] | nn.Module] = []  # weights [n, out, in] and biases [n, out, 1]
        self._slices: list[tuple[Array, slice]] = []
        start = 0
        for module in policy.action_net:
            if not isinstance(module, nn.Linear):
                self.layers.append(module)
                continue
            weight, start = self._part(vectors, start, (module.out_features, module.in_features))
            bias = None
            if module.bias is not None:
                bias, start = self._part(vectors, start, (module.out_features, 1))
            self.layers.append((weight, bias))
        if start != vectors.shape[1]:
            raise ValueError(
                f"{vectors.shape[1] - start} of the policy's parameters lie outside linear layers; use an activation_fn "
                "without parameters"
            )
        self.mean: Array | None = None
        if policy.obs_count > 0:
            mean, std = policy.observation_statistics()
            self.mean, self.std = mean.cpu().numpy(), std.cpu().numpy()

    def _part(self, vectors: Array, start: int, shape: tuple[int, int]) -> tuple[Array, int]:
        stop = start + shape[0] * shape[1]
        array = vectors[:, start:stop].reshape(-1, *shape).astype(np.float32)  # a copy, contiguous
        self._slices.append((array, slice(start, stop)))
        return array, stop

    def replace(self, index: int, vector: Array) -> None:
        """Give network ``index`` other parameters, [n_params]."""
        for array, part in self._slices:
            array[index] = vector[part].reshape(array.shape[1:])

    def outputs(self, features: Array) -> Array:
        """Run network i on row i; float32 [n, features] → [n, outputs]."""
        if self.mean is not None:
            features = ((features - self.mean) / self.std).clip(-MAX_DEVIATIONS, MAX_DEVIATIONS)
        x = features[:, :, None]  # [n, in, 1]
        for layer in self.layers:
            if isinstance(layer, nn.Module):
                x = np.tanh(x) if isinstance(layer, nn.Tanh) else layer(th.from_numpy(x)).numpy()
            else:
                x = np.matmul(layer[0], x)  # [n, out, in] @ [n, in, 1] → [n, out, 1]
                if layer[1] is not None:
                    x += layer[1]
        return x[:, :, 0]

    def actions(self, features: Array) -> Array:
        """Action of network i on row i, as the policy's ``predict`` would have it; float32 [n, features] → [n, …]."""
        outputs = self.outputs(features)
        space = self.policy.action_space
        if isinstance(space, spaces.Discrete):
            return outputs.argmax(axis=1)
        outputs = outputs.reshape(-1, *space.shape)  # type: ignore[misc]
        if self.policy.squash_output:
            return self.policy.unscale_action(outputs)
        return np.clip(outputs, space.low, space.high)  # type: ignore[attr-defined]
