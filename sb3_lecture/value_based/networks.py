"""Q-networks and their policies: SB3's DQN policies, with heads and layers to choose by ``policy_kwargs``.

| argument | what it changes |
| --- | --- |
| ``dueling`` | value and advantage in two streams, of which the last layer of ``net_arch`` is the hidden one |
| ``noisy`` | every linear layer after the features extractor is a ``NoisyLinear`` |
| ``distribution`` | an action's outputs: one number, logits of atoms, quantiles, or quantiles at the fractions asked for |

    features → hidden layers ────────────────────────────────────────────→ A k outputs    plain: SB3's own layers
    features → hidden layers but the last → [⊙ φ(τ)] → the last, in one stream or two → A k outputs
"""

from typing import Any, Literal

import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, CombinedExtractor, FlattenExtractor, NatureCNN
from stable_baselines3.common.type_aliases import PyTorchObs, Schedule
from stable_baselines3.dqn.policies import DQNPolicy, QNetwork
from torch import nn

from sb3_lecture.common.checks import FLAG, Choice, Integer, Real, check_arguments
from sb3_lecture.common.networks import (
    DuelingHead,
    NoisyLinear,
    QuantileEmbedding,
    SmallPictureExtractor,
    is_small_picture,
    mlp,
    remove_noise,
    resample_noise,
)

__all__ = ["CnnPolicy", "MlpPolicy", "MultiInputPolicy", "ValueNetwork", "ValuePolicy", "midpoints"]

Distribution = Literal["none", "categorical", "quantile", "implicit-quantile"]
DISTRIBUTIONS = ("none", "categorical", "quantile", "implicit-quantile")


def midpoints(n: int) -> th.Tensor:
    """Return the fractions τ̂_i = (i + ½) / n of n quantiles (Dabney et al. 2018, lemma 2), float32 [n]."""
    return (th.arange(n, dtype=th.float32) + 0.5) / n


class ValueNetwork(QNetwork):
    """Outputs for each action, and the action values that they say.

    The arguments are those of ``ValuePolicy``; ``features_extractor`` and ``features_dim`` are SB3's.
    """

    atoms: th.Tensor  # z_i of a categorical distribution [n_atoms]
    fractions: th.Tensor  # τ̂_i of quantiles [n_quantiles]

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        features_extractor: BaseFeaturesExtractor,
        features_dim: int,
        net_arch: list[int] | None = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        normalize_images: bool = True,
        dueling: bool = False,
        noisy: bool = False,
        noisy_std: float = 0.5,
        distribution: Distribution = "none",
        n_atoms: int = 51,
        v_min: float = -10.0,
        v_max: float = 10.0,
        n_quantiles: int = 32,
        n_cosines: int = 64,
    ) -> None:
        BasePolicy.__init__(
            self, observation_space, action_space, features_extractor=features_extractor, normalize_images=normalize_images
        )
        self.net_arch = net_arch = [64, 64] if net_arch is None else list(net_arch)
        self.activation_fn, self.features_dim = activation_fn, features_dim
        self.dueling, self.noisy, self.noisy_std, self.distribution = dueling, noisy, noisy_std, distribution
        self.n_atoms, self.v_min, self.v_max = n_atoms, v_min, v_max
        self.n_quantiles, self.n_cosines = n_quantiles, n_cosines
        self.n_actions = int(action_space.n)
        self.n_outputs = {"categorical": n_atoms, "quantile": n_quantiles}.get(distribution, 1)  # k
        self.register_buffer("atoms", th.linspace(v_min, v_max, n_atoms), persistent=False)
        self.register_buffer("fractions", midpoints(n_quantiles), persistent=False)

        def linear(n_in: int, n_out: int) -> nn.Module:
            return NoisyLinear(n_in, n_out, noisy_std) if noisy else nn.Linear(n_in, n_out)

        n_all = self.n_actions * self.n_outputs
        self.head: nn.Module | None = None
        self.embedding: QuantileEmbedding | None = None
        if not dueling and distribution != "implicit-quantile":
            self.q_net = mlp([features_dim, *net_arch, n_all], activation_fn, linear)
        else:
            body, hidden = net_arch[:-1], net_arch[-1:]
            self.q_net = mlp([features_dim, *body], activation_fn, linear, last=True)
            width = [features_dim, *body][-1]
            if distribution == "implicit-quantile":
                self.embedding = QuantileEmbedding(width, n_cosines, linear)
            self.head = (
                DuelingHead(width, self.n_actions, self.n_outputs, hidden, activation_fn, linear)
                if dueling
                else mlp([width, *hidden, n_all], activation_fn, linear)
            )
        self.noisy_layers = [part for part in self.modules() if isinstance(part, NoisyLinear)]

    def outputs(self, obs: PyTorchObs, fractions: th.Tensor | None = None) -> th.Tensor:
        """Return k outputs for each action, [B, A, k].

        :param obs: observations [B, …]
        :param fractions: τ at which implicit quantiles are asked for, [B, k]; None: the midpoints of ``n_quantiles``
        """
        x = self.q_net(self.extract_features(obs, self.features_extractor))  # [B, d], or [B, A k]
        if self.embedding is not None:
            if fractions is None:
                fractions = self.fractions.expand(len(x), -1)
            x = x[:, None] * self.embedding(fractions)  # [B, k, d]
        if self.head is not None:
            x = self.head(x)
        if self.embedding is not None:
            return x.reshape(*x.shape[:2], self.n_actions).transpose(1, 2)  # [B, k, A] → [B, A, k]
        return x.reshape(len(x), self.n_actions, self.n_outputs)

    def values(self, outputs: th.Tensor) -> th.Tensor:
        """Return the action values [B, A] that outputs [B, A, k] say: the mean of the distribution."""
        if self.distribution == "categorical":
            return outputs.softmax(dim=-1) @ self.atoms
        return outputs.mean(dim=-1)  # of one number: itself

    def forward(self, obs: PyTorchObs) -> th.Tensor:
        """Return the action values [B, A] of observations [B, …]."""
        return self.values(self.outputs(obs))

    def _predict(self, observation: PyTorchObs, deterministic: bool = True) -> th.Tensor:
        if deterministic:
            self.remove_noise()
        else:
            self.resample_noise(len(next(iter(observation.values())) if isinstance(observation, dict) else observation))
        return self(observation).argmax(dim=1)

    def resample_noise(self, batch: int | None = None) -> None:
        """Draw the noise anew, for each of ``batch`` rows, or (None) one for all; nothing without noisy layers."""
        resample_noise(self.noisy_layers, batch)

    def remove_noise(self) -> None:
        """Let noisy layers be their means."""
        remove_noise(self.noisy_layers)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        names = ("dueling", "noisy", "noisy_std", "distribution", "n_atoms", "v_min", "v_max", "n_quantiles", "n_cosines")
        return super()._get_constructor_parameters() | {name: getattr(self, name) for name in names}


class ValuePolicy(DQNPolicy):
    """SB3's DQN policy over a ``ValueNetwork``.

    :param observation_space: observation space
    :param action_space: Discrete
    :param lr_schedule: of the learning rate
    :param net_arch: widths of the hidden layers (default [64, 64], none after a convolutional extractor)
    :param activation_fn: class of the activations (default ReLU)
    :param features_extractor_class: class of the features extractor
    :param features_extractor_kwargs: its arguments
    :param normalize_images: divide images by 255 (default True)
    :param optimizer_class: class of the optimizer (default Adam)
    :param optimizer_kwargs: its arguments
    :param dueling: two streams (default False)
    :param noisy: noisy layers (default False)
    :param noisy_std: σ₀ of these (default 0.5)
    :param distribution: "none" (default), "categorical", "quantile" or "implicit-quantile"
    :param n_atoms: atoms of a categorical distribution (default 51)
    :param v_min: the least of them (default -10)
    :param v_max: the greatest (default 10)
    :param n_quantiles: number of quantiles; of implicit ones those that acting and the target's greedy action are computed
        from, evenly spread (default 32)
    :param n_cosines: width of the cosine embedding of implicit quantiles (default 64)
    :raises ValueError: for an argument out of its range, or ``v_min`` ≥ ``v_max``
    """

    q_net: ValueNetwork  # type: ignore[assignment]
    q_net_target: ValueNetwork  # type: ignore[assignment]

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        net_arch: list[int] | None = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        features_extractor_class: type[BaseFeaturesExtractor] = FlattenExtractor,
        features_extractor_kwargs: dict[str, Any] | None = None,
        normalize_images: bool = True,
        optimizer_class: type[th.optim.Optimizer] = th.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
        dueling: bool = False,
        noisy: bool = False,
        noisy_std: float = 0.5,
        distribution: Distribution = "none",
        n_atoms: int = 51,
        v_min: float = -10.0,
        v_max: float = 10.0,
        n_quantiles: int = 32,
        n_cosines: int = 64,
    ) -> None:
        check_arguments(
            locals(), dueling=FLAG, noisy=FLAG, noisy_std=Real(0), distribution=Choice(*DISTRIBUTIONS), n_atoms=Integer(2),
            v_min=Real(), v_max=Real(), n_quantiles=Integer(1), n_cosines=Integer(1),
        )  # fmt: skip
        if v_min >= v_max:
            raise ValueError(f"v_min={v_min!r} must be less than v_max={v_max!r}: returns are expected between them")
        self.more_args: dict[str, Any] = {
            "dueling": dueling, "noisy": noisy, "noisy_std": noisy_std, "distribution": distribution, "n_atoms": n_atoms,
            "v_min": float(v_min), "v_max": float(v_max), "n_quantiles": n_quantiles, "n_cosines": n_cosines,
        }  # fmt: skip
        if net_arch is None and features_extractor_class is SmallPictureExtractor:
            net_arch = []
        super().__init__(
            observation_space, action_space, lr_schedule, net_arch, activation_fn, features_extractor_class,
            features_extractor_kwargs, normalize_images, optimizer_class, optimizer_kwargs,
        )  # fmt: skip

    def make_q_net(self) -> ValueNetwork:
        """Build a network, with a features extractor of its own."""
        net_args = self._update_features_extractor(self.net_args, features_extractor=None)
        return ValueNetwork(**net_args, **self.more_args).to(self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | self.more_args


MlpPolicy = ValuePolicy


class CnnPolicy(ValuePolicy):
    """``ValuePolicy`` for pictures: by default SB3's NatureCNN, or ``SmallPictureExtractor`` below 36 pixels.

    The arguments are those of ``ValuePolicy``.
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        net_arch: list[int] | None = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        features_extractor_class: type[BaseFeaturesExtractor] | None = None,
        **kwargs: Any,
    ) -> None:
        if features_extractor_class is None:
            features_extractor_class = SmallPictureExtractor if is_small_picture(observation_space) else NatureCNN
        super().__init__(
            observation_space, action_space, lr_schedule, net_arch, activation_fn, features_extractor_class, **kwargs
        )


class MultiInputPolicy(ValuePolicy):
    """``ValuePolicy`` for Dict observations; the arguments are those of ``ValuePolicy``."""

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Discrete,
        lr_schedule: Schedule,
        net_arch: list[int] | None = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        features_extractor_class: type[BaseFeaturesExtractor] = CombinedExtractor,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            observation_space, action_space, lr_schedule, net_arch, activation_fn, features_extractor_class, **kwargs
        )
