"""The networks of World Models as one SB3 policy: V and M (``vae.py``, ``mdn_rnn.py``), and C of Ha & Schmidhuber (2018).

C: a_t = W [z_t h_t] + b                         https://arxiv.org/abs/1803.10122, eq. 1
"""

from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.preprocessing import get_flattened_obs_dim, is_image_space, preprocess_obs
from stable_baselines3.common.type_aliases import Schedule
from torch import nn
from torch.nn import functional as F

from sb3_lecture.common.checks import FLAG, Integer, check_arguments

from .dream_video import Foretold
from .world_models_mdn_rnn import MDNRNN, State, draw_noise, sample_mixture
from .world_models_vae import IMAGE_SIZE, VAE, ConvVAE, MlpVAE, sample_gaussian

__all__ = ["CnnWorldModelPolicy", "MlpWorldModelPolicy", "WorldModelPolicy"]

#: first latents kept for the dream's episodes to begin with
N_STARTS = 256


class WorldModelPolicy(BasePolicy):
    """V, M and C in one module; ``predict`` carries M's h and c as its ``state``, each [n, H].

    :param observation_space: of the env
    :param action_space: Discrete, or Box with finite bounds
    :param lr_schedule: learning rate by the remaining progress (unused: the algorithm owns the optimizers)
    :param latent_dim: length Z of z (default 32)
    :param lstm_hidden_size: units H of M (default 256)
    :param n_gaussians: components of each mixture of M (default 5)
    :param use_hidden: whether C sees h; without it C is a function of the observation alone, and ``predict`` keeps no state
    :raises ValueError: for a size below 1, or an observation or action space that is not supported
    """

    vae: VAE
    starts: th.Tensor

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        latent_dim: int = 32,
        lstm_hidden_size: int = 256,
        n_gaussians: int = 5,
        use_hidden: bool = True,
    ) -> None:
        check_arguments(
            locals(), latent_dim=Integer(1, plain=True), lstm_hidden_size=Integer(1, plain=True), n_gaussians=Integer(1),
            use_hidden=FLAG
        )  # fmt: skip
        super().__init__(observation_space, action_space)
        if isinstance(observation_space, (spaces.Dict, spaces.Tuple)):
            raise ValueError(f"{observation_space} is not supported; allowed: Box, Discrete, MultiBinary, MultiDiscrete")
        if isinstance(action_space, spaces.Box) and not action_space.is_bounded():
            raise ValueError(f"{action_space} has no bounds to squash actions to; rescale the env's actions")
        self.latent_dim, self.lstm_hidden_size, self.n_gaussians = latent_dim, lstm_hidden_size, n_gaussians
        self.use_hidden = use_hidden
        discrete = isinstance(action_space, spaces.Discrete)
        self.action_dim = int(action_space.n) if discrete else int(np.prod(action_space.shape))  # type: ignore
        self._build_vae()
        self.rnn = MDNRNN(latent_dim, self.action_dim, lstm_hidden_size, n_gaussians)
        self.controller = nn.Linear(latent_dim + lstm_hidden_size * use_hidden, self.action_dim)
        nn.init.zeros_(self.controller.weight)  # where the search begins
        nn.init.zeros_(self.controller.bias)
        self.controller.requires_grad_(False)
        self.register_buffer("starts", th.zeros(N_STARTS, 2, latent_dim))  # μ and log σ² of first observations

    def _build_vae(self) -> None:
        raise NotImplementedError

    # ---- V

    def inputs(self, observations: th.Tensor) -> th.Tensor:
        """Turn observations as SB3 hands them over, [n, …], into what V sees."""
        raise NotImplementedError

    def encode(self, observations: th.Tensor) -> tuple[th.Tensor, th.Tensor]:
        """Return μ and log σ² of z, both [n, Z], of observations [n, …]."""
        return self.vae.encode(self.inputs(observations))

    def see(self, observations: Any, deterministic: bool = True) -> th.Tensor:
        """Return z, [n, Z], of a batch of observations [n, …] as the env gives them: V's mean, or a sample."""
        tensor, _ = self.obs_to_tensor(observations)
        mean, log_var = self.encode(tensor)  # type: ignore[arg-type]
        return mean if deterministic else sample_gaussian(mean, log_var)

    # ---- C

    def features(self, z: th.Tensor, h: th.Tensor) -> th.Tensor:
        """Return what C sees: [z h], or z alone."""
        return th.cat([z, h], dim=-1) if self.use_hidden else z

    def outputs(self, z: th.Tensor, h: th.Tensor, weights: th.Tensor | None = None) -> th.Tensor:
        """Return W [z h] + b (eq. 1), [n, A].

        :param z: latents [n, Z]
        :param h: [n, H]
        :param weights: parameters of a controller a row, [n, n_params]; None: the policy's own for all
        """
        x = self.features(z, h)  # [n, D]
        if weights is None:
            return self.controller(x)
        n_weights = self.controller.weight.numel()
        w = weights[:, :n_weights].view(len(x), self.action_dim, -1)  # [n, A, D]
        return th.einsum("nad,nd->na", w, x) + weights[:, n_weights:]

    def action_vectors(self, outputs: th.Tensor) -> th.Tensor:
        """Return the actions as M sees them, [n, A], of C's outputs: one-hot, or squashed to (−1, 1)."""
        if isinstance(self.action_space, spaces.Discrete):
            return F.one_hot(outputs.argmax(dim=-1), self.action_dim).to(outputs.dtype)
        return outputs.tanh()

    def to_env(self, vectors: th.Tensor) -> np.ndarray:
        """Return the env's actions of action vectors [n, A]."""
        space, v = self.action_space, vectors.cpu().numpy()
        if isinstance(space, spaces.Discrete):
            return v.argmax(axis=-1) + int(space.start)
        assert isinstance(space, spaces.Box)
        actions = space.low + (v.reshape(len(v), *space.shape) + 1) / 2 * (space.high - space.low)
        return actions.clip(space.low, space.high).astype(space.dtype)

    def from_env(self, actions: np.ndarray) -> th.Tensor:
        """Return the action vectors [n, A] of the env's actions."""
        space = self.action_space
        if isinstance(space, spaces.Discrete):
            index = th.as_tensor(np.asarray(actions).reshape(-1) - int(space.start), device=self.device)
            return F.one_hot(index.long(), self.action_dim).float()
        assert isinstance(space, spaces.Box)
        v = 2 * (np.asarray(actions) - space.low) / (space.high - space.low) - 1
        return th.as_tensor(v.reshape(len(v), -1), dtype=th.float32, device=self.device)

    def get_vector(self) -> np.ndarray:
        """Return the controller's parameters, float64 [n_params]."""
        return nn.utils.parameters_to_vector(self.controller.parameters()).cpu().numpy().astype(np.float64)

    def set_vector(self, vector: np.ndarray) -> None:
        """Set the controller's parameters, [n_params]."""
        flat = th.as_tensor(vector, dtype=th.float32, device=self.device)
        nn.utils.vector_to_parameters(flat, self.controller.parameters())

    # ---- looking ahead

    @th.no_grad()
    def open_loop(self, observations: np.ndarray, actions: np.ndarray, context: int) -> dict[str, Foretold]:
        """Look at ``context`` observations of an episode and foretell the others at temperature 0; see ``OpenLoop``."""
        tensor, _ = self.obs_to_tensor(observations)
        x = self.inputs(tensor)  # type: ignore[arg-type]  # [T, …]
        seen, state, latents = self.vae.encode(x[:context])[0], self.rnn.initial_state(1), []
        noise = draw_noise(self.rnn, 1, th.Generator())  # weighs nothing
        for t, action in enumerate([*self.from_env(actions), None]):
            z = seen[t, None] if t < context else sample_mixture(self.rnn.mixture(state[0]), 0.0, noise)  # [1, Z]
            latents.append(z)
            if action is not None:
                state = self.rnn.advance(z, action[None], state)
        shape = x.shape[1:] if x.dim() == 4 else self.observation_space.shape or ()
        shape = shape if len(shape) == 3 else x.shape[1:]
        decoded = self.vae.decode(th.cat(latents))  # [T, …]
        return {"": Foretold(*(part.reshape(-1, *shape).cpu().numpy() for part in (x, decoded)))}

    # ---- acting

    @th.no_grad()
    def act(
        self, observations: Any, state: State, weights: th.Tensor | None = None, deterministic: bool = True
    ) -> tuple[np.ndarray, State]:
        """See, act, foresee: return the env's actions and M's state after them.

        :param observations: a batch, [n, …]
        :param state: h_t and c_t, each [n, H]
        :param weights: parameters of a controller a row, [n, n_params]; None: the policy's own for all
        :param deterministic: whether z is V's mean or a sample
        """
        z = self.see(observations, deterministic)
        vectors = self.action_vectors(self.outputs(z, state[0], weights))
        return self.to_env(vectors), self.rnn.advance(z, vectors, state) if self.use_hidden else state

    def predict(  # type: ignore[override]
        self,
        observation: Any,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Return actions and M's state after them.

        :param observation: one observation or a batch
        :param state: h and c after the step before, each [n, H]; None: episodes begin
        :param episode_start: where episodes begin, bool [n]; h and c are 0 there
        :param deterministic: whether z is V's mean or a sample
        """
        self.set_training_mode(False)
        _, vectorized = self.obs_to_tensor(observation)
        batch = observation if vectorized else np.asarray(observation)[None]
        n = len(batch)
        if state is None:
            h, c = self.rnn.initial_state(n)
        else:
            keep = np.ones(n) if episode_start is None else 1.0 - np.asarray(episode_start, dtype=np.float64)
            kept = th.as_tensor(keep, dtype=th.float32, device=self.device)[:, None]
            h, c = (th.as_tensor(part, device=self.device) * kept for part in state)
        actions, (h, c) = self.act(batch, (h, c), deterministic=deterministic)
        after = (h.cpu().numpy(), c.cpu().numpy()) if self.use_hidden else None
        return (actions if vectorized else actions[0]), after

    def _predict(self, observation: th.Tensor, deterministic: bool = False) -> th.Tensor:  # type: ignore[override]
        actions, _ = self.act(observation.cpu().numpy(), self.rnn.initial_state(len(observation)), deterministic=deterministic)
        return th.as_tensor(actions, device=self.device)

    def _get_constructor_parameters(self) -> dict[str, Any]:
        data = super()._get_constructor_parameters()
        del data["normalize_images"]
        names = ("latent_dim", "lstm_hidden_size", "n_gaussians", "use_hidden")
        return {**data, "lr_schedule": self._dummy_schedule, **{name: getattr(self, name) for name in names}}


class MlpWorldModelPolicy(WorldModelPolicy):
    """V is a multi-layer perceptron; observations are flattened, bits are told by their probabilities.

    :param net_arch: units of the encoder's hidden layers (default [256]), the decoder has them in reverse
    :param kwargs: of WorldModelPolicy
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        net_arch: list[int] | None = None,
        latent_dim: int = 32,
        lstm_hidden_size: int = 256,
        n_gaussians: int = 5,
        use_hidden: bool = True,
    ) -> None:
        check_arguments(locals())
        self.net_arch = [256] if net_arch is None else list(net_arch)
        super().__init__(
            observation_space, action_space, lr_schedule, latent_dim, lstm_hidden_size, n_gaussians, use_hidden
        )  # fmt: skip

    def _build_vae(self) -> None:
        space = self.observation_space
        bits = isinstance(space, (spaces.MultiBinary, spaces.Discrete, spaces.MultiDiscrete))
        self.vae = MlpVAE(get_flattened_obs_dim(space), self.latent_dim, self.net_arch, bits)

    def inputs(self, observations: th.Tensor) -> th.Tensor:
        """See WorldModelPolicy."""
        return preprocess_obs(observations, self.observation_space).flatten(1)  # type: ignore[union-attr]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "net_arch": self.net_arch}


class CnnWorldModelPolicy(WorldModelPolicy):
    """V is the paper's convolutional network; pictures of other sizes are resized to 64×64.

    :param cnn_width: channels of the first convolution (default 32, the paper's); cost grows with its square
    :param kwargs: of WorldModelPolicy
    :raises ValueError: for observations that are no pictures
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        cnn_width: int = 32,
        latent_dim: int = 32,
        lstm_hidden_size: int = 256,
        n_gaussians: int = 5,
        use_hidden: bool = True,
    ) -> None:
        check_arguments(locals(), cnn_width=Integer(1))
        self.cnn_width = cnn_width
        if not is_image_space(observation_space):
            raise ValueError(f"CnnPolicy needs pictures (Box of uint8, 0 to 255), not {observation_space}: use MlpPolicy")
        super().__init__(
            observation_space, action_space, lr_schedule, latent_dim, lstm_hidden_size, n_gaussians, use_hidden
        )  # fmt: skip

    def _build_vae(self) -> None:
        assert self.observation_space.shape is not None
        self.vae = ConvVAE(self.observation_space.shape[0], self.latent_dim, self.cnn_width)

    def inputs(self, observations: th.Tensor) -> th.Tensor:
        """See WorldModelPolicy."""
        x: Any = preprocess_obs(observations, self.observation_space)  # [n, channels, h, w] in [0, 1]
        side = (IMAGE_SIZE, IMAGE_SIZE)
        return x if x.shape[2:] == side else F.interpolate(x, side, mode="area")

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return {**super()._get_constructor_parameters(), "cnn_width": self.cnn_width}
