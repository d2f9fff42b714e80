"""Decision Transformer (Chen et al. 2021, https://arxiv.org/abs/2106.01345): ask for a return, and do what led to it.

No values, no Bellman equation: a causal transformer reads (R̂_1, s_1, a_1, R̂_2, s_2, a_2, …) and is taught to say a_t after s_t
(§3), where R̂_t = Σ_{k ≥ t} γ^(k − t) r_k is the return that followed in the data. To act, R̂_1 is what one asks for, and

    R̂_{t+1} = (R̂_t − r_t) / γ

after each step. Trajectories are not stitched: what no trajectory of the data got from a state, nobody can ask for there.

Deviations. ``predict`` is told no rewards, so a small network r̂(s, a, s'), fitted to the data, says r_t; it is exact where the
reward is a function of these. γ is 1 in the paper; below 1 shorter ways are worth more. Windows are padded behind, not before:
under a causal mask nothing looks there. No dropout, no warm-up of the step size; Adam without weight decay. Discrete actions
have a cross-entropy, Boxes the paper's squared error, so that a Box's policy has no chance of its own.
"""

from typing import Any, ClassVar

import numpy as np
import torch as th
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from torch import nn
from torch.distributions import Categorical
from torch.nn import functional as F

from sb3_lecture.common.checks import Integer, Real, check_arguments
from sb3_lecture.common.networks import mlp
from sb3_lecture.common.transformer import Block
from sb3_lecture.offline.base import RANDOM_DATA, Data, OfflineAlgorithm
from sb3_lecture.offline.dataset import OfflineDataset
from sb3_lecture.offline.policies import OfflinePolicy
from sb3_lecture.offline.recording import Array

__all__ = ["DecisionTransformer", "DecisionTransformerPolicy", "returns_to_go"]

Memory = tuple[Array, ...]


def returns_to_go(rewards: Array, ends: Array, gamma: float) -> Array:
    """Return R̂_t = Σ_{k ≥ t} γ^(k − t) r_k within each episode, float32 [N].

    :param rewards: [N]
    :param ends: last rows of the episodes, bool [N]
    :param gamma: γ
    """
    to_go, ahead = np.empty(len(rewards), np.float64), 0.0
    for t in reversed(range(len(rewards))):
        ahead = to_go[t] = rewards[t] + gamma * (0.0 if ends[t] else ahead)
    return to_go.astype(np.float32)


class DecisionTransformerPolicy(OfflinePolicy):
    """The transformer, and the network that says what reward a step brought; ``predict`` carries the context as its state.

    :param context_length: K, steps that are seen (default 20, the paper's)
    :param width: W of a token (default 64)
    :param n_layers: blocks (default 2)
    :param n_heads: which divide W (default 4)
    :param max_timestep: steps of an episode that are told apart by their time (default 1000)
    :param kwargs: the arguments of ``OfflinePolicy``; ``net_arch`` are the hidden layers of r̂ (default [256, 256])
    :raises ValueError: where the heads do not divide the width
    """

    target_return: th.Tensor
    return_scale: th.Tensor
    gamma: th.Tensor

    def __init__(
        self, *args: Any, context_length: int = 20, width: int = 64, n_layers: int = 2, n_heads: int = 4,
        max_timestep: int = 1000, **kwargs: Any,
    ) -> None:  # fmt: skip
        own = {"context_length": context_length, "width": width, "n_layers": n_layers, "n_heads": n_heads}
        check_arguments(
            own | {"max_timestep": max_timestep}, context_length=Integer(1, 10_000), width=Integer(1, 4096),
            n_layers=Integer(1, 100), n_heads=Integer(1, 1000), max_timestep=Integer(1, 10**6),
        )  # fmt: skip
        if width % n_heads:
            raise ValueError(f"{n_heads=} must divide width={width}")
        self.own = own | {"max_timestep": max_timestep}
        self.context_length, self.width, self.n_layers, self.n_heads = context_length, width, n_layers, n_heads
        self.max_timestep = max_timestep
        super().__init__(*args, **kwargs)

    def _build(self, lr_schedule: Schedule) -> None:
        width, actions = self.width, self.n_actions
        for name in ("target_return", "return_scale", "gamma"):  # what is asked for; what R̂ is divided by
            self.register_buffer(name, th.ones(()))
        self.extractor = self.make_features_extractor()
        features = self.extractor.features_dim
        self.from_return, self.from_state = nn.Linear(1, width), nn.Linear(features, width)
        self.from_action = nn.Embedding(actions, width) if self.discrete else nn.Linear(actions, width)
        self.times = nn.Embedding(self.max_timestep, width)
        nn.init.normal_(self.times.weight, std=0.1)
        self.norm_in, self.norm = nn.LayerNorm(width), nn.LayerNorm(width)
        self.blocks = nn.ModuleList(Block(width, self.n_heads) for _ in range(self.n_layers))
        self.to_action = nn.Linear(width, actions)
        sizes = [2 * features + actions, *self.net_arch]
        self.reward_model = mlp([*sizes, 1], self.activation_fn)
        self.optimizer = self.make_optimizer(lr_schedule, self)

    def forward(self, to_go: th.Tensor, inputs: th.Tensor, actions: th.Tensor, times: th.Tensor) -> th.Tensor:  # type: ignore[override]
        """Return what is done in each state, logits or a Box's tanh⁻¹, [B, T, k]; a_t is not seen at t.

        :param to_go: R̂ [B, T]
        :param inputs: preprocessed observations [B, T, …]
        :param actions: int64 [B, T], or a Box's in [-1, 1], [B, T, d]
        :param times: step of its episode, int64 [B, T]
        """
        batch, time = to_go.shape
        at = self.times(times.clamp(max=self.max_timestep - 1))  # [B, T, W]
        features = self.extractor(inputs.flatten(0, 1)).view(batch, time, -1)
        tokens = (
            self.from_return((to_go / self.return_scale)[..., None]),
            self.from_state(features),
            self.from_action(actions),
        )
        x = th.stack([token + at for token in tokens], dim=2).view(batch, 3 * time, self.width)  # R̂_1 s_1 a_1 R̂_2 …
        x = self.norm_in(x)
        for block in self.blocks:
            x = block(x)
        return self.to_action(self.norm(x[:, 1::3]))  # behind each s_t

    def foretell(self, inputs: th.Tensor, actions: th.Tensor, next_inputs: th.Tensor) -> th.Tensor:
        """Return r̂(s, a, s') [B], in units of the scale, of [B, …], [B] or [B, d], [B, …]."""
        with th.no_grad():  # the features are the transformer's
            parts = [self.extractor(inputs), self.extractor(next_inputs)]
        parts.append(F.one_hot(actions, self.n_actions).float() if self.discrete else actions)
        return self.reward_model(th.cat(parts, dim=1))[:, 0]

    # ------------------------------------------------------------------ acting

    def empty_memory(self, n: int) -> Memory:
        """Return what is known before an episode's first step: R̂ [n, K], s [n, K, …], a [n, K, …], lengths and times [n]."""
        shape = tuple(self.observation_space.shape or ())
        past = (
            np.zeros((n, self.context_length), np.float32),
            np.zeros((n, self.context_length, *shape), self.observation_space.dtype),
        )
        done = np.zeros((n, self.context_length), np.int64) if self.discrete else np.zeros(
            (n, self.context_length, self.n_actions), np.float32
        )  # fmt: skip
        return *past, done, np.zeros(n, np.int64), np.zeros(n, np.int64)

    def predict(  # type: ignore[override]
        self,
        observation: Array,
        state: Memory | None = None,
        episode_start: Array | None = None,
        deterministic: bool = False,
    ) -> tuple[Array, Memory]:
        """Return what to do, and what was seen until now, to be given back with the next observation.

        :param observation: s [n, …], or one
        :param state: as returned; None: an episode begins
        :param episode_start: in which rows an episode begins, bool [n]
        :param deterministic: the likeliest Discrete action, instead of one by chance
        """
        self.set_training_mode(False)
        tensor: Any
        tensor, vectorized = self.obs_to_tensor(observation)
        n, rows = len(tensor), np.arange(len(tensor))
        memory = self.empty_memory(n) if state is None or len(state[0]) != n else tuple(np.array(part) for part in state)
        to_go, seen, done, length, time = memory
        if episode_start is not None:
            length[np.asarray(episode_start, bool)] = time[np.asarray(episode_start, bool)] = 0
        shown = tensor.cpu().numpy().reshape(n, *seen.shape[2:])
        with th.no_grad():
            asked = np.full(n, self.target_return.item(), np.float32)
            if (goes_on := length > 0).any():
                last = length[goes_on] - 1
                triple = (seen[goes_on, last], done[goes_on, last], shown[goes_on])
                s, a, s2 = (th.as_tensor(part, device=self.device) for part in triple)
                reward = (self.foretell(self.inputs(s), a, self.inputs(s2)) * self.return_scale).cpu().numpy()
                asked[goes_on] = (to_go[goes_on, last] - reward) / self.gamma.item()
            full = length == self.context_length
            for part in (to_go, seen, done):
                part[full, :-1] = part[full, 1:]
            length = np.where(full, length, length + 1)
            to_go[rows, length - 1], seen[rows, length - 1] = asked, shown
            longest = int(length.max())
            times = (time - length + 1)[:, None] + np.arange(longest)
            context = (to_go[:, :longest], done[:, :longest], times.clip(min=0))
            returns, actions, at = (th.as_tensor(part, device=self.device) for part in context)
            inputs = self.inputs(th.as_tensor(seen[:, :longest].reshape(-1, *seen.shape[2:]), device=self.device))
            outputs = self(returns, inputs.view(n, longest, *inputs.shape[1:]), actions, at)[rows, length - 1]  # [n, k]
            if self.discrete:
                chosen = outputs.argmax(dim=1) if deterministic else Categorical(logits=outputs).sample()
            else:
                chosen = th.tanh(outputs)
        done[rows, length - 1] = chosen.cpu().numpy()
        action: Array = chosen.cpu().numpy().reshape(n, *(self.action_space.shape or ()))
        if not self.discrete:
            space: Any = self.action_space
            action = np.clip(self.unscale_action(action), space.low, space.high)
        return action if vectorized else action[0], (to_go, seen, done, length, time + 1)

    def _predict(self, observation: th.Tensor, deterministic: bool = False) -> th.Tensor:  # type: ignore[override]
        action, _ = self.predict(observation.cpu().numpy(), deterministic=deterministic)
        return self.scaled(th.as_tensor(action, device=self.device))

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return super()._get_constructor_parameters() | self.own


class DecisionTransformer(OfflineAlgorithm):
    """Decision Transformer, for Discrete actions and Boxes.

    :param policy: "MlpPolicy" or a subclass of ``DecisionTransformerPolicy``
    :param env: for evaluation, and to record in; its id; or None
    :param dataset: the data, see ``OfflineAlgorithm``
    :param target_return: R̂_1, the (discounted) return to ask for; None: the best in the data (default). ``ask`` changes it
    :param learning_rate: step size of Adam, or a schedule (default 1e-3; the paper 1e-4 with 10⁵ steps)
    :param batch_size: windows in a minibatch (default 64, the paper's)
    :param gamma: γ of the returns, above 0 (default 1.0, the paper's)
    :param kwargs: the other arguments of ``OfflineAlgorithm``
    :raises ValueError: see ``OfflineAlgorithm``
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": DecisionTransformerPolicy}
    policy: DecisionTransformerPolicy

    def __init__(
        self,
        policy: str | type[DecisionTransformerPolicy],
        env: GymEnv | str | None = None,
        dataset: Data = RANDOM_DATA,
        target_return: float | None = None,
        learning_rate: float | Schedule = 1e-3,
        batch_size: int = 64,
        gamma: float = 1.0,
        **kwargs: Any,
    ) -> None:
        check_arguments(locals(), target_return=Real(none=True), gamma=Real(above=0, high=1))
        self.target_return = target_return
        self._windows: Any = None  # of the data: (the data, R̂ [N], steps into the episode [N], steps to its end [N])
        super().__init__(policy, env, dataset, learning_rate=learning_rate, batch_size=batch_size, gamma=gamma, **kwargs)

    def ask(self, target_return: float) -> None:
        """Set the return that ``predict`` tries to get from an episode's start.

        :param target_return: R̂_1, discounted by γ
        """
        check_arguments({"target_return": target_return}, target_return=Real())
        self.target_return = float(target_return)
        self.policy.target_return.fill_(self.target_return)

    def _read_windows(self, data: OfflineDataset) -> Any:
        """Return R̂, the step of its episode and the steps to its end of each row, [N] each; told once of each data set."""
        if self._windows is None or self._windows[0] is not data:
            ends = data.terminations | data.truncations
            row, first = np.arange(len(data)), np.concatenate([[0], np.flatnonzero(ends) + 1])
            episode: Any = np.cumsum(ends) - ends  # [N]
            to_go = returns_to_go(data.rewards, ends, self.gamma)
            self._windows = data, to_go, row - first[episode], first[episode + 1] - row
            if self._n_updates == 0:
                self.policy.return_scale.fill_(max(float(np.abs(to_go).max()), 1e-6))
                self.policy.gamma.fill_(self.gamma)
                self.ask(float(to_go[first[:-1]].max()) if self.target_return is None else self.target_return)
        return self._windows[1:]

    def _prepare(self, data: OfflineDataset) -> None:
        self._read_windows(data)

    def _gradient_step(self, data: OfflineDataset) -> dict[str, th.Tensor]:
        """Take one gradient step on windows of K steps that begin anywhere."""
        policy, length = self.policy, self.policy.context_length
        to_go, step, left = self._read_windows(data)
        starts = np.random.randint(len(data), size=self.batch_size)  # [B]
        inside = np.arange(length) < left[starts][:, None]  # [B, K]; what lies behind an episode's end is padding
        rows = (starts[:, None] + np.minimum(np.arange(length), left[starts][:, None] - 1)).ravel()
        batch = data.batch(rows, self.gamma, self.device)  # [B K]
        inputs, next_inputs = policy.inputs(batch.observations), policy.inputs(batch.next_observations)
        actions = policy.scaled(batch.actions)
        mask = th.as_tensor(inside.ravel(), device=self.device)
        times, returns = (th.as_tensor(part[rows].reshape(inside.shape), device=self.device) for part in (step, to_go))
        windows = (part.view(*inside.shape, *part.shape[1:]) for part in (inputs, actions))
        outputs = policy(returns, *windows, times).flatten(0, 1)[mask]
        if policy.discrete:
            action_loss = F.cross_entropy(outputs, actions[mask])
        else:
            action_loss = (th.tanh(outputs) - actions[mask]).square().mean()
        foretold = policy.foretell(inputs[mask], actions[mask], next_inputs[mask])
        reward_loss = (foretold - batch.rewards[mask] / policy.return_scale).square().mean()
        self._descend(policy.optimizer, action_loss + reward_loss)
        return {"action_loss": action_loss.detach(), "reward_loss": reward_loss.detach()}

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_windows"]
