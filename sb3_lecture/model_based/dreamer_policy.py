"""The SB3 policy of DreamerV3: all its networks, and how it acts with a memory of the episode."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import Schedule

from sb3_lecture.common.checks import is_finite
from sb3_lecture.common.optimizers import LaProp

from .dream_video import Foretold
from .dreamer_compiled_step import CompiledStep
from .dreamer_latents import NotFiniteError
from .dreamer_networks import (
    Actor,
    ContinueHead,
    Decoder,
    Encoder,
    Inputs,
    TwoHotHead,
    action_size,
    make_latent,
    resolve_sizes,
)
from .dreamer_rssm import RSSM

__all__ = ["DreamerCnnPolicy", "DreamerMlpPolicy", "DreamerMultiInputPolicy", "DreamerPolicy", "Memory"]


FEW = 8  # envs: a compiled step for each is faster than torch's for all


class Memory(NamedTuple):
    """What is known of the episodes before the next observation.

    :param deter: h_{t−1} float32 [n, D]
    :param z: compact z_{t−1} [n, *latent.shape]
    :param actions: a_{t−1} as inputs of the RSSM, float32 [n, A]
    """

    deter: th.Tensor
    z: th.Tensor
    actions: th.Tensor


class DreamerPolicy(BasePolicy):
    """World model, actor and critic. ``predict`` carries a ``Memory`` as its state.

    :param observation_space: of the env
    :param action_space: Discrete or Box
    :param lr_schedule: learning rate by the remaining progress
    :param size: name of a size, see ``SIZES`` (default "XS"); each number of it can be replaced by an argument of its name:
    :param deter: size of h
    :param hidden: units around h and z in the RSSM
    :param stoch: variables in z
    :param classes: of each
    :param units: of the layers of encoder, decoder and heads
    :param depth: half the channels of the first convolution
    :param blocks: of the GRU
    :param layers: of encoder, decoder, actor and critic
    :param prior_layers: from h to the prior
    :param norm: "rms" or "layer"
    :param strided: convolutions of stride 2, instead of a pooling after each
    :param bins: of reward and critic
    :param latent: "categorical" (default) or "gaussian", as DreamerV1 had it
    :param optimizer_class: default LaProp with adaptive gradient clipping
    :param optimizer_kwargs: its arguments but the learning rate; LaProp's default warm-up is 1000 steps
    :raises ValueError: for an unknown size or part, or observations that the policy does not read
    """

    #: which Box spaces of three axes are images, see ``Inputs``
    pixels: ClassVar[str] = "auto"
    optimizer: th.optim.Optimizer
    return_range: th.Tensor

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        size: str = "XS",
        deter: int | None = None,
        hidden: int | None = None,
        stoch: int | None = None,
        classes: int | None = None,
        units: int | None = None,
        depth: int | None = None,
        blocks: int | None = None,
        layers: int | None = None,
        prior_layers: int | None = None,
        norm: str | None = None,
        strided: bool | None = None,
        bins: int | None = None,
        latent: str = "categorical",
        optimizer_class: type[th.optim.Optimizer] = LaProp,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        if optimizer_kwargs is None:
            optimizer_kwargs = {"warmup": 1000} if optimizer_class is LaProp else {}
        super().__init__(observation_space, action_space, optimizer_class=optimizer_class, optimizer_kwargs=optimizer_kwargs)
        parts = {
            "deter": deter, "hidden": hidden, "stoch": stoch, "classes": classes, "units": units, "depth": depth,
            "blocks": blocks, "layers": layers, "prior_layers": prior_layers, "norm": norm, "strided": strided, "bins": bins,
        }  # fmt: skip
        overrides = {key: value for key, value in parts.items() if value is not None}
        self.sizes, self.latent = resolve_sizes(size, overrides), make_latent(latent, resolve_sizes(size, overrides))
        self._arguments = {"size": size, "latent": latent, **overrides}
        self._compiled: CompiledStep | None = None
        self.inputs = Inputs(observation_space, self.pixels)
        self.encoder = Encoder(self.inputs, self.sizes)
        self.rssm = RSSM(
            self.encoder.size, action_size(action_space), self.latent, self.sizes.deter, self.sizes.hidden, self.sizes.blocks,
            self.sizes.prior_layers, self.sizes.norm,
        )  # fmt: skip
        self.decoder = Decoder(self.inputs, self.latent, self.sizes)
        self.reward = TwoHotHead(self.latent, self.sizes, n_layers=1)
        self.proceed = ContinueHead(self.latent, self.sizes)
        self.actor = Actor(action_space, self.latent, self.sizes)
        self.critic = TwoHotHead(self.latent, self.sizes, self.sizes.layers)
        self.slow_critic = TwoHotHead(self.latent, self.sizes, self.sizes.layers)
        self.slow_critic.load_state_dict(self.critic.state_dict())
        self.slow_critic.requires_grad_(False)
        self.register_buffer("return_range", th.zeros(()))  # S of eq. 7
        learned = [p for p in self.parameters() if p.requires_grad]
        self.optimizer = optimizer_class(learned, lr=lr_schedule(1), **optimizer_kwargs)  # type: ignore[call-arg]

    def load_state_dict(self, state_dict: Mapping[str, Any], strict: bool = True, assign: bool = False) -> Any:
        """Load the weights of a policy of the same sizes, see torch.

        :raises ValueError: for one of the time when its layers had no biases
        """
        missing = set(self.state_dict()) - set(state_dict)
        if strict and any(name.endswith("in_z_bias") for name in missing) and all(name.endswith("bias") for name in missing):
            raise ValueError(
                f"This DreamerV3 was saved when its layers had no biases ({len(missing)} are missing, {min(missing)} first): "
                "train it again, or load it with the version of sb3-lecture that saved it"
            )
        return super().load_state_dict(state_dict, strict=strict, assign=assign)

    # ------------------------------------------------------------------ looking ahead

    def open_loop(self, observations: Any, actions: np.ndarray, context: int) -> dict[str, Foretold]:
        """Look at ``context`` observations of an episode and foretell the others by the prior; see ``OpenLoop``."""
        if isinstance(self.action_space, spaces.Discrete):
            acted = th.as_tensor(actions - int(self.action_space.start), device=self.device).reshape(-1)  # [T − 1]
        else:
            scaled = self.scale_action(actions).reshape(len(actions), -1)
            acted = th.as_tensor(scaled, dtype=th.float32, device=self.device)  # [T − 1, A]
        seen, _ = self.obs_to_tensor(observations)  # [T, …]
        vectors, images = self.inputs(
            {k: part[:, None] for k, part in seen.items()} if isinstance(seen, dict) else seen[:, None]
        )
        with th.no_grad():
            embeds = self.encoder(*(None if part is None else part[:context] for part in (vectors, images)))
            before = self.actor.vectors(acted)[: context - 1, None]  # [context − 1, 1, A]
            before = th.cat((before.new_zeros(1, 1, self.actor.size), before))
            is_first = th.zeros(context, 1, dtype=th.bool, device=self.device)
            is_first[0] = True
            deter, z, _ = self.rssm.observe(embeds, before, is_first, self.rssm.initial(1))
            z, rest = self.latent.compact(z), iter(acted[context - 1 :, None])
            dream = self.rssm.imagine(
                deter[-1], z[-1], lambda *_: next(rest), len(actions) + 1 - context, self.actor.n_actions
            )
            outputs, pictures = self.decoder(th.cat((deter[:-1], dream.deter)), th.cat((z[:-1], dream.z)))
        expected = None if outputs is None else self.inputs.mean(outputs)
        return self.inputs.parts_of((vectors, images), (expected, pictures))

    # ------------------------------------------------------------------ acting

    def memory(self, n: int) -> Memory:
        """Return a memory of nothing, for n envs."""
        deter, _ = self.rssm.initial(n)
        z = th.zeros(n, *self.latent.shape, dtype=self.latent.dtype, device=deter.device)
        return Memory(deter, z, th.zeros(n, self.actor.size, device=deter.device))

    def step(
        self, observations: Any, memory: Memory, is_first: th.Tensor, deterministic: bool = False
    ) -> tuple[th.Tensor, Memory]:
        """Look at observations and choose actions, without a gradient.

        :param observations: tensor [n, …] of stored type, or a dict of them
        :param memory: of the steps before
        :param is_first: bool [n]: here an episode begins and the memory of that env is dropped
        :param deterministic: take modes instead of draws, of the latent and of the action
        :return: actions int64 [n] or float32 [n, A], and the memory with which to call the next time
        """
        with th.no_grad(), self.naming_non_finite(observations=observations, state=memory):
            vectors, images = self.inputs(observations)
            if vectors is not None and len(vectors) <= FEW and (compiled := self._compiled_step()) is not None:
                actions, deter, z = compiled(vectors, memory, is_first, deterministic)
            else:
                embeds = self.encoder(vectors, images)
                deter, z = self.rssm.observe_step(embeds, memory.actions, is_first, memory[:2], deterministic)
                outputs = self.actor(deter, z)
                if not outputs.isfinite().all():
                    raise NotFiniteError("There is NaN in what the networks put out")
                actions = self.actor.choose(outputs, deterministic)
            return actions, Memory(deter, z, self.actor.vectors(actions))

    @contextmanager
    def naming_non_finite(self, **sources: Any) -> Iterator[None]:
        """Say of a NotFiniteError where NaN or infinity came in.

        :param sources: what is looked at before the weights, by name
        :raises NotFiniteError: that names it
        """
        try:
            yield
        except NotFiniteError as error:
            weights = {f"{name} (a weight)": weight for name, weight in self.named_parameters()}
            for name, source in {**sources, **weights}.items():
                if not is_finite(source):
                    raise NotFiniteError(f"{error}: there is NaN or inf in the {name}") from None
            raise NotFiniteError(
                f"{error}, though {', '.join(sources)} and weights are finite: the numbers grew too large; lower learning_rate"
            ) from None

    def _compiled_step(self) -> CompiledStep | None:
        """Return the compiled step of the present weights, None where none serves."""
        if self._compiled is None or not self._compiled.follows(self):
            self._compiled = CompiledStep(self) if CompiledStep.serves(self) else None
        return self._compiled

    def set_training_mode(self, mode: bool) -> None:
        """Do nothing: no layer here has a mode, and SB3 asks at every step."""

    def env_actions(self, actions: np.ndarray) -> np.ndarray:
        """Return actions as the env takes them, of int64 [n] or float32 [n, A] in [−1, 1]."""
        if isinstance(self.action_space, spaces.Discrete):
            return actions + int(self.action_space.start)
        return self.unscale_action(np.clip(actions, -1.0, 1.0).reshape(-1, *self.action_space.shape))  # type: ignore[misc]

    def predict(  # type: ignore[override]
        self,
        observation: Any,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Choose actions.

        :param observation: one observation or a batch of them
        :param state: what the last call returned; None: all episodes begin here
        :param episode_start: bool [n]: where an episode begins, whatever the state says; None: nowhere else
        :param deterministic: take modes instead of draws
        :return: actions, and the state for the next call: arrays h [n, D], z [n, …], a [n, A]
        """
        self.set_training_mode(False)
        tensor, vectorized = self.obs_to_tensor(observation)
        n = len(next(iter(tensor.values())) if isinstance(tensor, dict) else tensor)
        memory = self.memory(n) if state is None else Memory(*(th.as_tensor(part, device=self.device) for part in state))
        starts = np.full(n, state is None)
        if episode_start is not None:
            starts |= np.asarray(episode_start, np.bool_).reshape(-1)
        actions, memory = self.step(tensor, memory, th.as_tensor(starts, device=self.device), deterministic)
        chosen = self.env_actions(actions.cpu().numpy())
        return (chosen if vectorized else chosen[0]), tuple(part.cpu().numpy() for part in memory)

    def _predict(self, observation: Any, deterministic: bool = False) -> th.Tensor:
        n = len(next(iter(observation.values())) if isinstance(observation, dict) else observation)
        starts = th.ones(n, dtype=th.bool, device=self.device)
        return self.step(observation, self.memory(n), starts, deterministic)[0]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        del data["normalize_images"]
        return {
            **data, **self._arguments, "lr_schedule": self._dummy_schedule, "optimizer_class": self.optimizer_class,
            "optimizer_kwargs": self.optimizer_kwargs,
        }  # fmt: skip

    def compile_parts(self, mode: str | None = None) -> None:
        """Compile what is computed in bulk, and the step of the RSSM that the scans repeat; ``mode`` of ``torch.compile``."""
        heads = [self.decoder, self.reward, self.proceed, self.critic, self.slow_critic, self.actor]
        for module in [self.encoder, self.rssm.prior, *heads]:
            module.compile(mode=mode)
        self.rssm.core = th.compile(self.rssm.core, mode=mode)  # type: ignore[method-assign]


class DreamerMlpPolicy(DreamerPolicy):
    """DreamerPolicy for vectors; arrays of more axes are read as vectors too.

    :param args: of DreamerPolicy
    :param kwargs: of DreamerPolicy
    """

    pixels = "never"


class DreamerCnnPolicy(DreamerPolicy):
    """DreamerPolicy for images.

    :param args: of DreamerPolicy
    :param kwargs: of DreamerPolicy
    """

    pixels = "always"


class DreamerMultiInputPolicy(DreamerPolicy):
    """DreamerPolicy for Dict observations of vectors and images.

    :param args: of DreamerPolicy
    :param kwargs: of DreamerPolicy
    """
