"""The transformer as SB3 policies: one that writes, with a value model apart, and one that judges."""

from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.distributions import CategoricalDistribution, Distribution
from stable_baselines3.common.policies import ActorCriticPolicy, BasePolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import nn

from sb3_lecture.common.checks import Integer, check_arguments
from sb3_lecture.common.transformer import Cache, CausalTransformer

__all__ = ["RewardPolicy", "TransformerPolicy", "check_text_spaces"]


def check_text_spaces(observation_space: spaces.Space, action_space: spaces.Space, who: str) -> None:
    """Refuse spaces that hold no text.

    :raises ValueError: unless observations are a row of tokens and actions its first ids
    """
    fits = isinstance(observation_space, spaces.MultiDiscrete) and isinstance(action_space, spaces.Discrete)
    if fits:
        seen: Any = observation_space
        done: Any = action_space
        nvec = np.asarray(seen.nvec)
        fits = nvec.ndim == 1 and len(nvec) >= 2 and bool((nvec == nvec[0]).all()) and not np.any(seen.start)
        fits = fits and done.start == 0 and done.n < nvec[0]
    if not fits:
        where = " ".join(f"{observation_space}, {action_space}".split())
        raise ValueError(f"{who} needs the world's law: a world of text such as Lecture/Text-v0, not {where}")


def _lengths(tokens: th.Tensor, pad: int) -> th.Tensor:
    """How many tokens stand before the first pad, at least 1: int64 [batch]."""
    return (tokens != pad).long().cumprod(dim=1).sum(dim=1).clamp(min=1)


def _check_network(width: int, n_heads: int, **arguments: Any) -> None:
    rules = {"width": Integer(1, 4096), "n_layers": Integer(1, 64), "n_heads": Integer(1, 64)}
    check_arguments({"width": width, "n_heads": n_heads, **arguments}, **rules)
    if width % n_heads:
        raise ValueError(f"n_heads={n_heads!r} must divide width={width!r}")


class TransformerPolicy(ActorCriticPolicy):
    """A language model that writes one token an action; the value model is a second transformer.

    An observation is a row of tokens, filled up with the pad id (the last one); what stands before the first pad is read.
    ``predict`` returns the cache of keys and values as its state: given back, only the new token is read.

    :param observation_space: MultiDiscrete [T], all of n_ids
    :param action_space: Discrete(V), V < n_ids
    :param lr_schedule: learning rate
    :param width: W of both transformers (default 64)
    :param n_layers: blocks of each (default 2)
    :param n_heads: heads, which divide the width (default 4)
    :param use_sde: False, the only value: tokens need no noise; SB3 hands it over
    :param optimizer_class: default Adam
    :param optimizer_kwargs: its arguments
    :raises ValueError: for other spaces, or numbers out of range
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        width: int = 64,
        n_layers: int = 2,
        n_heads: int = 4,
        use_sde: bool = False,
        optimizer_class: type[th.optim.Optimizer] = th.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        check_text_spaces(observation_space, action_space, "TransformerPolicy")
        _check_network(width, n_heads, n_layers=n_layers)
        if use_sde:
            raise ValueError(f"use_sde={use_sde!r}: gSDE is for Box actions, tokens are drawn")
        self.width, self.n_layers, self.n_heads = width, n_layers, n_heads
        super().__init__(
            observation_space, action_space, lr_schedule, optimizer_class=optimizer_class, optimizer_kwargs=optimizer_kwargs
        )

    def _build(self, lr_schedule: Schedule) -> None:
        nvec = self.observation_space.nvec  # type: ignore[attr-defined]
        self.pad, self.n_tokens, length = int(nvec[0]) - 1, int(self.action_space.n), len(nvec)  # type: ignore[attr-defined]
        shape = (self.pad + 1, length, self.width, self.n_layers, self.n_heads)
        self.actor, self.critic = CausalTransformer(*shape), CausalTransformer(*shape)
        self.action_net, self.value_net = nn.Linear(self.width, self.n_tokens), nn.Linear(self.width, 1)
        for head in (self.action_net, self.value_net):
            nn.init.normal_(head.weight, std=0.01)
            nn.init.zeros_(head.bias)
        self.action_dist = CategoricalDistribution(self.n_tokens)
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        names = ("observation_space", "action_space", "width", "n_layers", "n_heads", "optimizer_class", "optimizer_kwargs")
        return {name: getattr(self, name) for name in names} | {"lr_schedule": self._dummy_schedule}

    # whole rows -----------------------------------------------------------------------------------------------------

    def log_next(self, tokens: th.Tensor) -> th.Tensor:
        """Log π(next token) after each place: int64 [batch, time] → [batch, time, V]."""
        return th.log_softmax(self.action_net(self.actor(tokens)), dim=-1)

    def values_along(self, tokens: th.Tensor) -> th.Tensor:
        """Value after each place: int64 [batch, time] → [batch, time]."""
        return self.value_net(self.critic(tokens))[..., 0]

    def log_probs(self, prompts: th.Tensor, responses: th.Tensor) -> th.Tensor:
        """Log π of each token of given responses; 0 where a row is over.

        :param prompts: int64 [batch, P]
        :param responses: int64 [batch, L]
        :return: [batch, L]
        """
        log_next = self.log_next(th.cat([prompts, responses[:, :-1]], dim=1))[:, prompts.shape[1] - 1 :]  # [batch, L, V]
        written = responses != self.pad
        return log_next.gather(2, th.where(written, responses, 0)[..., None])[..., 0] * written

    # one token at a time --------------------------------------------------------------------------------------------

    @th.no_grad()
    def generate(
        self, prompts: th.Tensor, length: int, generator: th.Generator | None = None, cached: bool = True,
        deterministic: bool = False,
    ) -> th.Tensor:  # fmt: skip
        """Write a response to each prompt.

        :param prompts: int64 [batch, P]
        :param length: L, longest response
        :param generator: chance; None: torch's own
        :param cached: keep keys and values (default True); False reads the whole row again for each token
        :param deterministic: take the likeliest token instead of drawing one
        :return: int64 [batch, L]: up to and with the stop token 0, then pad
        """
        batch, p = prompts.shape
        tokens = prompts.new_full((batch, p + length), self.pad)
        tokens[:, :p] = prompts
        cache, running = self.actor.empty_cache(batch), th.ones(batch, dtype=th.bool, device=prompts.device)
        for t in range(p + length - 1):
            if cached:
                hidden = self.actor.step(tokens[:, t], tokens.new_full((batch,), t), cache)
            elif t >= p - 1:
                hidden = self.actor(tokens[:, : t + 1])[:, -1]
            if t < p - 1:
                continue
            logits = self.action_net(hidden)  # [batch, V]
            if deterministic:
                drawn = logits.argmax(dim=1)
            else:
                drawn = th.multinomial(th.softmax(logits, dim=1), 1, generator=generator)[:, 0]
            tokens[:, t + 1] = th.where(running, drawn, self.pad)
            running &= drawn != 0
            if not bool(running.any()):
                break
        return tokens[:, p:]

    # SB3's seams ----------------------------------------------------------------------------------------------------

    def _hidden(self, trunk: CausalTransformer, obs: th.Tensor) -> th.Tensor:
        """The vector of the last token before the pads: int [batch, T] → [batch, W]."""
        tokens = obs.long()
        last = _lengths(tokens, self.pad) - 1
        return trunk(tokens)[th.arange(len(tokens), device=tokens.device), last]

    def get_distribution(self, obs: Any) -> CategoricalDistribution:
        """π(·|obs); obs [batch, T]."""
        distribution = CategoricalDistribution(self.n_tokens)
        return distribution.proba_distribution(action_logits=self.action_net(self._hidden(self.actor, obs)))

    def predict_values(self, obs: Any) -> th.Tensor:
        """Values, [batch, 1]; obs [batch, T]."""
        return self.value_net(self._hidden(self.critic, obs))

    def forward(self, obs: th.Tensor, deterministic: bool = False) -> tuple[th.Tensor, th.Tensor, th.Tensor]:
        """Actions [batch], values [batch, 1], log-probabilities [batch]."""
        distribution = self.get_distribution(obs)
        actions = distribution.get_actions(deterministic=deterministic)
        return actions, self.predict_values(obs), distribution.log_prob(actions)

    def evaluate_actions(self, obs: Any, actions: th.Tensor) -> tuple[th.Tensor, th.Tensor, th.Tensor | None]:
        """Values [batch, 1], log-probabilities [batch], entropies [batch] of given actions."""
        distribution: Distribution = self.get_distribution(obs)
        return self.predict_values(obs), distribution.log_prob(actions), distribution.entropy()

    def predict(
        self,
        observation: Any,
        state: tuple[np.ndarray, ...] | None = None,
        episode_start: np.ndarray | None = None,
        deterministic: bool = False,
    ) -> tuple[np.ndarray, tuple[np.ndarray, ...] | None]:
        """Write the next token of each row.

        :param observation: int [n, T], or one row
        :param state: what the last call returned for the same rows: (keys, values, tokens read)
        :param episode_start: not needed: a row that is not the last one with one token more is read anew
        :param deterministic: the likeliest token, or one drawn
        :return: tokens int64 [n] (or one), the state
        """
        self.set_training_mode(False)
        obs, vectorized = self.obs_to_tensor(observation)
        tokens = obs.long()  # type: ignore[union-attr]
        n, last = len(tokens), _lengths(tokens, self.pad) - 1
        with th.no_grad():
            cache, hidden = None, None
            if state is not None and state[2].shape == tuple(tokens.shape):
                read = th.as_tensor(state[2], device=tokens.device)
                grown = tokens.clone()
                grown[th.arange(n), last] = self.pad
                if bool((read == grown).all()) and bool((last > 0).all()):
                    cache = (th.as_tensor(state[0], device=tokens.device), th.as_tensor(state[1], device=tokens.device))
                    hidden = self.actor.step(tokens[th.arange(n), last], last, cache)
            if hidden is None:
                cache, hidden = self._read(tokens, last)
            logits = self.action_net(hidden)
            actions = logits.argmax(dim=1) if deterministic else th.multinomial(th.softmax(logits, dim=1), 1)[:, 0]
        assert cache is not None
        new_state = (cache[0].cpu().numpy(), cache[1].cpu().numpy(), tokens.cpu().numpy())
        chosen = actions.cpu().numpy()
        return (chosen if vectorized else chosen[0]), new_state

    def _read(self, tokens: th.Tensor, last: th.Tensor) -> tuple[Cache, th.Tensor]:
        """Read whole rows into a new cache: [n, T] → cache, the vector at ``last`` [n, W]."""
        cache, rows = self.actor.empty_cache(len(tokens)), []
        for t in range(int(last.max()) + 1):
            rows.append(self.actor.step(tokens[:, t], tokens.new_full((len(tokens),), t), cache))
        return cache, th.stack(rows, dim=1)[th.arange(len(tokens), device=tokens.device), last]


class RewardPolicy(BasePolicy):
    """A reward model r̂(x, y), read at an answer's last token; it acts by the token that makes the best answer so far.

    :param observation_space: MultiDiscrete [T], all of n_ids
    :param action_space: Discrete(V), V < n_ids
    :param lr_schedule: learning rate
    :param width: W of the transformer (default 64)
    :param n_layers: blocks (default 2)
    :param n_heads: heads, which divide the width (default 4)
    :param optimizer_class: default Adam
    :param optimizer_kwargs: its arguments
    :raises ValueError: for other spaces, or numbers out of range
    """

    offset: th.Tensor

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.Space,
        lr_schedule: Schedule,
        width: int = 64,
        n_layers: int = 2,
        n_heads: int = 4,
        optimizer_class: type[th.optim.Optimizer] = th.optim.Adam,
        optimizer_kwargs: dict[str, Any] | None = None,
    ) -> None:
        check_text_spaces(observation_space, action_space, "RewardPolicy")
        _check_network(width, n_heads, n_layers=n_layers)
        super().__init__(
            observation_space, action_space, optimizer_class=optimizer_class, optimizer_kwargs=optimizer_kwargs or {}
        )
        self.width, self.n_layers, self.n_heads = width, n_layers, n_heads
        nvec = observation_space.nvec  # type: ignore[attr-defined]
        self.pad, self.n_tokens = int(nvec[0]) - 1, int(action_space.n)  # type: ignore[attr-defined]
        self.trunk = CausalTransformer(self.pad + 1, len(nvec), width, n_layers, n_heads)
        self.head = nn.Linear(width, 1)
        self.register_buffer("offset", th.zeros(()))  # InstructGPT §C.2: demonstrations score 0 on average
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # type: ignore[call-arg]

    def _get_constructor_parameters(self) -> dict[str, Any]:
        names = ("observation_space", "action_space", "width", "n_layers", "n_heads", "optimizer_class", "optimizer_kwargs")
        return {name: getattr(self, name) for name in names} | {"lr_schedule": self._dummy_schedule}

    def score(self, tokens: th.Tensor) -> th.Tensor:
        """r̂ of prompt and response: int64 [batch, T], filled up with pad → [batch]."""
        last = _lengths(tokens, self.pad) - 1
        hidden = self.trunk(tokens)[th.arange(len(tokens), device=tokens.device), last]
        return self.head(hidden)[:, 0] - self.offset

    def _predict(self, observation: Any, deterministic: bool = False) -> th.Tensor:
        tokens = observation.long()
        n, length = tokens.shape
        place = _lengths(tokens, self.pad).clamp(max=length - 1)
        longer = tokens[:, None].repeat(1, self.n_tokens, 1)  # [n, V, T]
        longer[th.arange(n), :, place] = th.arange(self.n_tokens, device=tokens.device)
        scores = self.score(longer.flatten(0, 1)).view(n, self.n_tokens)
        return scores.argmax(dim=1) if deterministic else th.multinomial(th.softmax(scores, dim=1), 1)[:, 0]
