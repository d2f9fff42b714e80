"""What the policies of the offline learners share: observations scaled by the data, networks, an actor with a likelihood."""

from typing import Any, ClassVar

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import get_action_dim, preprocess_obs
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor, FlattenExtractor, NatureCNN
from stable_baselines3.common.type_aliases import Schedule
from torch import nn
from torch.distributions import Categorical, Distribution, Independent, Normal

from sb3_lecture.common.checks import check_arguments
from sb3_lecture.common.networks import mlp

__all__ = ["Network", "OfflinePolicy"]

LOG_STD = (-5.0, 2.0)  # of an actor's actions, which lie in [-1, 1]


class Network(nn.Module):
    """A features extractor and a multi-layer perceptron behind it.

    :param extractor: of its own
    :param sizes: widths from behind the extractor (and the action) to the outputs
    :param activation_fn: class of the activations
    """

    def __init__(self, extractor: BaseFeaturesExtractor, sizes: list[int], activation_fn: type[nn.Module]) -> None:
        super().__init__()
        self.extractor, self.layers = extractor, mlp(sizes, activation_fn)

    def forward(self, inputs: th.Tensor, actions: th.Tensor | None = None) -> th.Tensor:
        """Return the outputs [B, k] of preprocessed observations [B, …], and of actions [B, d] where there are some."""
        features = self.extractor(inputs)
        return self.layers(features if actions is None else th.cat([features, actions], dim=1))


class OfflinePolicy(BasePolicy):
    """The base of the offline learners' policies; a subclass builds its networks in ``_build``.

    Actions of a Box are scaled to [-1, 1] for the networks; ``predict`` scales them back.

    :param observation_space: Box, Discrete, MultiDiscrete or MultiBinary
    :param action_space: Discrete or Box
    :param lr_schedule: step size of the optimizers
    :param net_arch: widths of the hidden layers of each network (default [256, 256])
    :param activation_fn: class of the activations (default ReLU)
    :param features_extractor_class: what turns observations into vectors, one for each network
    :param features_extractor_kwargs: its arguments
    :param normalize_images: divide images by 255 (default True)
    :param optimizer_class: class of the optimizers (default Adam)
    :param optimizer_kwargs: their arguments but the learning rate
    """

    #: attributes that hold optimizers, saved with the model
    optimizers: ClassVar[tuple[str, ...]] = ("optimizer",)
    observation_mean: th.Tensor
    observation_std: th.Tensor

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        net_arch: list[int] | None = None,
        activation_fn: type[nn.Module] = nn.ReLU,
        features_extractor_class: type[BaseFeaturesExtractor] = FlattenExtractor,
        features_extractor_kwargs: dict[str, Any] | None = None,
        normalize_images: bool = True,
        optimizer_class: type[th.optim.Optimizer] = th.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        check_arguments(locals())
        super().__init__(
            observation_space,
            action_space,
            features_extractor_class,
            features_extractor_kwargs,
            normalize_images=normalize_images,
            optimizer_class=optimizer_class,
            optimizer_kwargs=optimizer_kwargs,
            squash_output=isinstance(action_space, spaces.Box),
        )
        if net_arch is None:
            net_arch = [] if features_extractor_class is NatureCNN else [256, 256]
        self.net_arch, self.activation_fn = list(net_arch), activation_fn
        self.discrete = isinstance(action_space, spaces.Discrete)
        self.n_actions = int(action_space.n) if isinstance(action_space, spaces.Discrete) else get_action_dim(action_space)
        shape = observation_space.shape if isinstance(observation_space, spaces.Box) else ()
        self.register_buffer("observation_mean", th.zeros(shape or ()))
        self.register_buffer("observation_std", th.ones(shape or ()))
        self._build(lr_schedule)

    # ------------------------------------------------------------------ for subclasses

    def _build(self, lr_schedule: Schedule) -> None:
        """Make the networks and their optimizers."""
        raise NotImplementedError

    def make_network(self, n_outputs: int, with_action: bool = False) -> Network:
        """Return a network of observations, and of actions of a Box where ``with_action`` says so."""
        extractor = self.make_features_extractor()
        width = extractor.features_dim + (self.n_actions if with_action else 0)
        return Network(extractor, [width, *self.net_arch, n_outputs], self.activation_fn)

    def make_actor(self) -> Network:
        """Return a network of the logits of Discrete actions, or of the means of a Box's; see ``distribution``."""
        if not self.discrete:
            self.log_std = nn.Parameter(th.zeros(self.n_actions))
        return self.make_network(self.n_actions)

    def make_critic(self) -> Network:
        """Return a network of q(s, ·) [B, A] for Discrete actions, of q(s, a) [B, 1] for a Box's."""
        return self.make_network(self.n_actions) if self.discrete else self.make_network(1, with_action=True)

    def make_optimizer(self, lr_schedule: Schedule, *parts: Any) -> th.optim.Optimizer:
        """Return an optimizer of the parameters of modules, and of single parameters."""
        learned = [p for part in parts for p in (part.parameters() if isinstance(part, nn.Module) else [part])]
        return self.optimizer_class(learned, lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    # ------------------------------------------------------------------ what goes in and comes out

    def inputs(self, observations: th.Tensor) -> th.Tensor:
        """Preprocess observations [B, …] as SB3 does, and scale those of a Box by the data's mean and deviation."""
        x: Any = preprocess_obs(observations, self.observation_space, normalize_images=self.normalize_images)
        return (x - self.observation_mean) / self.observation_std if self.observation_mean.dim() else x

    def scaled(self, actions: th.Tensor) -> th.Tensor:
        """Return actions of a Box [B, …] in [-1, 1], [B, d]; Discrete ones [B] as they are."""
        if self.discrete:
            return actions
        space: Any = self.action_space
        low, high = (th.as_tensor(bound, dtype=th.float32, device=actions.device) for bound in (space.low, space.high))
        return (2.0 * (actions.float() - low) / (high - low).clamp(min=1e-8) - 1.0).reshape(len(actions), -1)

    def distribution(self, actor: Network, inputs: th.Tensor) -> Distribution:
        """Return π(· | s): of logits, or a normal one around tanh(means) with a deviation for each dimension."""
        outputs = actor(inputs)
        if self.discrete:
            return Categorical(logits=outputs, validate_args=False)
        std = self.log_std.clamp(*LOG_STD).exp()
        return Independent(Normal(th.tanh(outputs), std.expand_as(outputs), validate_args=False), 1, validate_args=False)

    def pick(self, q: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """Return q(s, a) [B] out of q(s, ·) [B, A]."""
        return q.gather(1, actions[:, None])[:, 0]

    def critic_values(self, critic: Network, inputs: th.Tensor, actions: th.Tensor) -> th.Tensor:
        """Return q(s, a) [B] for Discrete actions [B], or a Box's in [-1, 1], [B, d]."""
        return self.pick(critic(inputs), actions) if self.discrete else critic(inputs, actions)[:, 0]

    def _actor_predict(self, actor: Network, observation: th.Tensor, deterministic: bool) -> th.Tensor:
        pi: Any = self.distribution(actor, self.inputs(observation))
        if self.discrete:
            return pi.probs.argmax(dim=1) if deterministic else pi.sample()
        return pi.mean if deterministic else pi.sample().clamp(-1.0, 1.0)

    def scale_observations(self, observations: np.ndarray) -> None:
        """Take the mean and deviation of each dimension from data [N, …]."""
        if self.observation_mean.dim():
            mean = observations.mean(axis=0, dtype=np.float64)
            std = observations.std(axis=0, dtype=np.float64)
            self.observation_mean.copy_(th.as_tensor(mean))
            self.observation_std.copy_(th.as_tensor(np.where(std < 1e-3, 1.0, std)))

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | {
            "lr_schedule": self._dummy_schedule,
            "net_arch": self.net_arch,
            "activation_fn": self.activation_fn,
            "features_extractor_class": self.features_extractor_class,
            "features_extractor_kwargs": self.features_extractor_kwargs,
            "optimizer_class": self.optimizer_class,
            "optimizer_kwargs": self.optimizer_kwargs,
        }
