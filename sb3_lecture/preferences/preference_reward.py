"""Deep reinforcement learning from human preferences (Christiano et al. 2017, https://arxiv.org/abs/1706.03741).

No reward is given. Pairs of short segments are shown to somebody who says which is better; an ensemble r̂ is fitted to the
answers by Bradley & Terry's model (§2.2.3, eq. 1), and any algorithm of Stable-Baselines3 learns from r̂:

    P(σ¹ over σ²) = exp Σ r̂(o¹, a¹) / (exp Σ r̂(o¹, a¹) + exp Σ r̂(o², a²))
    L(r̂) = −Σ_labels μ(1) log P(σ¹ over σ²) + μ(2) log P(σ² over σ¹),    μ = (1, 0), (0, 1) or (½, ½)

Each net has labels of its own, drawn with replacement; pairs on which the nets disagree most are asked about (§2.2.4).

    env = PreferenceReward(make_vec_env("Pendulum-v1", 8))
    asking = PreferenceCallback(env, SyntheticLabeller(temperature=1.0), n_labels=700)
    PPO("MlpPolicy", env).learn(300_000, callback=asking)

Deviations. r̂ is divided by the root of its mean square and not centred: where episodes can end, what a step is worth above
nothing is part of the task, and segments of unequal length tell it; the paper hides ends from its agents instead. The chance
``lapse`` that a labeller answers at random stands in the likelihood (§2.2.3, 10 % there). ℓ2 is a fixed ``weight_decay``, not
adapted on held-out labels. Rewards in a replay buffer are computed anew after each fit (Lee et al. 2021, PEBBLE).
"""

import warnings
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import VecEnv, VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn
from torch import nn

from sb3_lecture.common.checks import Integer, Real, check_finite
from sb3_lecture.preferences.segments import LabelFile, Labeller, Segment, SegmentPool

__all__ = ["PreferenceCallback", "PreferenceReward", "RewardEnsemble"]


MOST_PAIRS = 10_000  # states times actions up to which each pair is an input of its own


def _size(space: spaces.Space) -> int:
    """Numbers by which an element is described to a net.

    :raises ValueError: unless the space is Box or Discrete
    """
    if isinstance(space, spaces.Discrete):
        return int(space.n)
    if isinstance(space, spaces.Box):
        return int(np.prod(space.shape))
    raise ValueError(f"PreferenceReward takes Box and Discrete spaces, not {space}")


def _encode(space: spaces.Space, values: np.ndarray) -> th.Tensor:
    """Discrete as one-hot, Box flat: [n, …] → float32 [n, size]."""
    if isinstance(space, spaces.Discrete):
        return nn.functional.one_hot(th.as_tensor(values).long().reshape(-1) - int(space.start), int(space.n)).float()
    return th.as_tensor(values, dtype=th.float32).reshape(len(values), -1)


class RewardEnsemble(nn.Module):
    """E small networks at once: features [n, D] → rewards [E, n].

    :param n_features: D
    :param n_nets: E
    :param width: of the two hidden layers
    """

    def __init__(self, n_features: int, n_nets: int, width: int) -> None:
        super().__init__()
        self.weights, self.biases = nn.ParameterList(), nn.ParameterList()
        for fan_in, fan_out in ((n_features, width), (width, width), (width, 1)):
            bound = fan_in**-0.5
            self.weights.append(nn.Parameter(th.empty(n_nets, fan_in, fan_out).uniform_(-bound, bound)))
            self.biases.append(nn.Parameter(th.zeros(n_nets, 1, fan_out)))

    def forward(self, features: th.Tensor) -> th.Tensor:
        """[n, D] → [E, n]."""
        x = features.expand(len(self.weights[0]), *features.shape)  # [E, n, D]
        for layer, (weight, bias) in enumerate(zip(self.weights, self.biases, strict=True)):
            x = th.baddbmm(bias, x, weight)
            if layer < 2:
                x = th.tanh(x)
        return x[..., 0]


def preference_loss(returns: th.Tensor, labels: th.Tensor, weights: th.Tensor, lapse: float) -> th.Tensor:
    """Christiano et al. 2017, eq. 1, of each net on its own labels, the sum over nets.

    :param returns: Σ r̂ over the segments of each pair, [E, n, 2]
    :param labels: μ(1) of each pair, [n]
    :param weights: how often each net has each label, [E, n]
    :param lapse: chance of an answer at random, of both with equal chance
    """
    p = lapse / 2 + (1 - lapse) * th.sigmoid(returns[..., 0] - returns[..., 1])  # P(σ¹ over σ²), [E, n]
    p = p.clamp(1e-7, 1 - 1e-7)
    loss = -(labels * p.log() + (1 - labels) * (1 - p).log())
    return ((weights * loss).sum(dim=1) / weights.sum(dim=1).clamp(min=1)).sum()


class PreferenceReward(VecEnvWrapper):
    """Put a reward learned from comparisons in the place of the envs' own.

    ``infos[i]["env_reward"]`` is the world's own reward, which Monitor and evaluations go on to show. Until the first labels
    the reward is 0. ``PreferenceCallback`` asks and fits.

    :param venv: the envs; observations and actions of Box or Discrete spaces
    :param segment_length: k, steps of a segment (default 25)
    :param shortened: share of segments cut to a random shorter length, so that what a step is worth above nothing can be
        learned (default 0.25); 0 where episodes never end
    :param n_nets: E, size of the ensemble (default 3)
    :param width: of each net's two hidden layers (default 64)
    :param learning_rate: of the nets (default 3e-3)
    :param weight_decay: ℓ2 of the nets, decoupled as AdamW has it (default 0.3)
    :param fit_steps: steps of Adam after each round of labels, on 64 labels each (default 100)
    :param lapse: chance that the labeller answers at random, as the likelihood has it (default 0.1)
    :param pool_size: steps of all envs of which segments are cut (default 20,000)
    :param labels: a ``.jsonl`` file to which labels are added; those in it count; None: memory only
    :param seed: of the nets and of all draws (default 0)
    :raises ValueError: if an argument is out of its range, the spaces are others, or the file holds other labels
    """

    def __init__(
        self,
        venv: VecEnv,
        segment_length: int = 25,
        shortened: float = 0.25,
        n_nets: int = 3,
        width: int = 64,
        learning_rate: float = 3e-3,
        weight_decay: float = 0.3,
        fit_steps: int = 100,
        lapse: float = 0.1,
        pool_size: int = 20_000,
        labels: str | None = None,
        seed: int = 0,
    ) -> None:
        rules: tuple[tuple[str, Any, Any], ...] = (
            ("segment_length", segment_length, Integer(1)), ("shortened", shortened, Real(0, 1)),
            ("n_nets", n_nets, Integer(1, 100)), ("width", width, Integer(1)),
            ("learning_rate", learning_rate, Real(0)), ("weight_decay", weight_decay, Real(0)),
            ("fit_steps", fit_steps, Integer(0)), ("lapse", lapse, Real(0, 1)), ("pool_size", pool_size, Integer(2)),
            ("seed", seed, Integer(0)),
        )  # fmt: skip
        for name, value, rule in rules:
            rule.check(name, value)
        if pool_size // venv.num_envs < segment_length:
            raise ValueError(f"pool_size={pool_size!r} steps of {venv.num_envs} envs hold no segment of {segment_length}")
        super().__init__(venv)
        self.segment_length, self.shortened = segment_length, shortened
        self.fit_steps, self.lapse = fit_steps, lapse
        self._rng = np.random.default_rng(seed)
        with th.random.fork_rng(devices=[]):
            th.manual_seed(seed)
            sizes = _size(venv.observation_space), _size(venv.action_space)
            spaces_discrete = [isinstance(part, spaces.Discrete) for part in (venv.observation_space, venv.action_space)]
            self._tabular = all(spaces_discrete) and sizes[0] * sizes[1] <= MOST_PAIRS
            n_features = sizes[0] * sizes[1] if self._tabular else sum(sizes)
            self.nets = RewardEnsemble(n_features, n_nets, width)
        self.optimizer = th.optim.AdamW(self.nets.parameters(), lr=learning_rate, weight_decay=weight_decay)
        self.pool = SegmentPool(pool_size // venv.num_envs, venv.num_envs)
        shapes = venv.observation_space.shape or (), venv.action_space.shape or ()
        self.label_file = LabelFile(labels, *shapes)
        self.scale = 0.0  # 1 / root of the mean square of r̂ over the pool; 0: nothing known yet
        self._observations: Any = None
        self._actions: Any = None
        if len(self.label_file):
            self.fit()

    # --- the envs ----------------------------------------------------------------------------------------------------

    def reset(self) -> VecEnvObs:
        """Start every env."""
        self.pool.cut()
        self._observations = self.venv.reset()
        return self._observations

    def step_async(self, actions: np.ndarray) -> None:
        """Step with these actions."""
        self._actions = np.array(actions)
        self.venv.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Step; the reward is r̂'s."""
        before = np.array(self._observations)
        self._observations, own, dones, infos = self.venv.step_wait()
        truncated = np.array([info.get("TimeLimit.truncated", False) for info in infos])
        self.pool.add(before, self._actions, own, dones, truncated)
        for info, reward in zip(infos, own, strict=True):
            info["env_reward"] = float(reward)
        return self._observations, self.reward(before, self._actions), dones, infos

    def _features(self, observations: np.ndarray, actions: np.ndarray) -> th.Tensor:
        """[n, D]: observation beside action; in a small finite world each pair of them has an input of its own."""
        o, a = _encode(self.observation_space, observations), _encode(self.action_space, actions)
        return (o[:, :, None] * a[:, None, :]).flatten(1) if self._tabular else th.cat([o, a], dim=1)

    @th.no_grad()
    def reward(self, observations: np.ndarray, actions: np.ndarray) -> np.ndarray:
        """r̂, the mean of the nets, with mean square 1 over the pool.

        :param observations: [n, …]
        :param actions: [n, …]
        :return: float32 [n]
        """
        if self.scale == 0.0:
            return np.zeros(len(actions), np.float32)
        return (self.scale * self.nets(self._features(observations, actions)).mean(dim=0)).numpy()

    # --- labels ------------------------------------------------------------------------------------------------------

    def ask(self, labeller: Labeller, n: int, active: bool = True, candidates: int = 10) -> int:
        """Show pairs of segments to a labeller and keep what he says.

        :param labeller: two segments → 1 (the first is better), 0, 0.5 (equal), or None (no answer)
        :param n: pairs
        :param active: choose those on which the nets disagree most, among ``candidates`` times as many (default True)
        :param candidates: how many times as many (default 10)
        :return: how many labels came
        """
        drawn = self.pool.draw(2 * n * (candidates if active else 1), self.segment_length, self._rng, self.shortened)
        pairs = list(zip(drawn[::2], drawn[1::2], strict=True))
        if active and pairs:
            with th.no_grad():
                returns = self._returns(*self._stack(pairs))  # [E, pairs, 2]
                disagreement = th.sigmoid(returns[..., 0] - returns[..., 1]).var(dim=0, correction=0)
            pairs = [pairs[i] for i in disagreement.argsort(descending=True, stable=True)[:n].tolist()]
        came = 0
        for first, second in pairs:
            label = labeller(first, second)
            if label is not None:
                self.label_file.add(first, second, label)
                came += 1
        return came

    def _stack(self, pairs: list[tuple[Segment, Segment]]) -> tuple[th.Tensor, th.Tensor]:
        """Features of all steps, filled up to k with zeros, and which are steps: [n, 2, k, D], [n, 2, k]."""
        k = max(len(segment) for pair in pairs for segment in pair)
        flat = [segment for pair in pairs for segment in pair]
        features = self._features(np.concatenate([s.observations for s in flat]), np.concatenate([s.actions for s in flat]))
        steps = th.arange(k) < th.tensor([len(s) for s in flat])[:, None]  # [2n, k]
        stacked = features.new_zeros(*steps.shape, features.shape[1])
        stacked[steps] = features
        return stacked.view(len(pairs), 2, k, -1), steps.view(len(pairs), 2, k)

    def _returns(self, features: th.Tensor, steps: th.Tensor) -> th.Tensor:
        """Σ r̂ over segments by each net: [E, n, 2]."""
        rewards = self.nets(features.flatten(0, 2)).view(-1, *steps.shape)  # [E, n, 2, k]
        return (rewards * steps).sum(dim=3)

    def fit(self) -> float:
        """Fit the nets to all labels; return the loss of a net on its last batch."""
        data = self.label_file.labels
        if not data:
            return 0.0
        features, steps = self._stack([(first, second) for first, second, _ in data])
        labels, n_nets, n = th.tensor([label for *_, label in data]), len(self.nets.weights[0]), len(data)
        own = np.stack([np.bincount(self._rng.integers(n, size=n), minlength=n) for _ in range(n_nets)])  # [E, n]
        weights = th.as_tensor(own if n_nets > 1 else np.ones_like(own), dtype=th.float32)
        loss = th.zeros(())
        for _ in range(self.fit_steps):
            rows = th.as_tensor(self._rng.integers(n, size=min(n, 64)))
            loss = preference_loss(self._returns(features[rows], steps[rows]), labels[rows], weights[:, rows], self.lapse)
            self.optimizer.zero_grad()
            loss.backward()
            check_finite(loss.item(), "the loss of the preference reward", observations=features)
            self.optimizer.step()
        self._rescale(features, steps)
        return loss.item() / n_nets

    @th.no_grad()
    def _rescale(self, features: th.Tensor, steps: th.Tensor) -> None:
        seen = self._features(*self.pool.steps(2000, self._rng)) if len(self.pool) else features[steps]
        self.scale = 1.0 / max(float(self.nets(seen).mean(dim=0).square().mean().sqrt()), 1e-6)


class PreferenceCallback(BaseCallback):
    """Ask for labels while any SB3 model learns in a ``PreferenceReward``, and fit r̂ to them.

    A quarter of the labels is asked for as soon as there are segments, the rest in equal rounds. Labels that the env's file
    already held count, so training that is started again asks for the rest only.

    :param env: the ``PreferenceReward`` in which the model learns
    :param labeller: two segments → 1 (the first is better), 0, 0.5 (equal), or None (no answer)
    :param n_labels: labels in all (default 200)
    :param n_rounds: rounds in which they are asked (default 20)
    :param first_steps: env steps before the first (default 2000)
    :param asking_share: share of the training by which the last round is due (default 0.8); the rest is for learning alone
    :param active: ask where the nets disagree (default True)
    :param verbose: 1 prints each round
    :raises ValueError: if an argument is out of its range
    """

    def __init__(
        self,
        env: PreferenceReward,
        labeller: Labeller,
        n_labels: int = 200,
        n_rounds: int = 20,
        first_steps: int = 2000,
        asking_share: float = 0.8,
        active: bool = True,
        verbose: int = 0,
    ) -> None:
        super().__init__(verbose)
        for name, value, low in (("n_labels", n_labels, 1), ("n_rounds", n_rounds, 1), ("first_steps", first_steps, 1)):
            Integer(low).check(name, value)
        Real(0, 1).check("asking_share", asking_share)
        self.env, self.labeller, self.n_labels, self.n_rounds = env, labeller, n_labels, n_rounds
        self.first_steps, self.asking_share, self.active = first_steps, asking_share, active
        self.rounds_done, self._warned = 0, False

    def due(self, timesteps: int, total: int) -> int:
        """How many rounds are due by then."""
        if timesteps < self.first_steps:
            return 0
        span = max(1, int(self.asking_share * total) - self.first_steps)
        return min(self.n_rounds, 1 + int((self.n_rounds - 1) * (timesteps - self.first_steps) / span))

    def wanted(self, rounds: int) -> int:
        """How many labels there shall be after so many rounds."""
        if rounds >= self.n_rounds:
            return self.n_labels
        first = -(-self.n_labels // 4)
        return first + (self.n_labels - first) * (rounds - 1) // max(1, self.n_rounds - 1)

    def _on_training_start(self) -> None:
        env: Any = self.training_env
        while env is not self.env:
            if not isinstance(env, VecEnvWrapper):
                raise ValueError("the model does not learn in the PreferenceReward that PreferenceCallback was given")
            env = env.venv

    def _on_step(self) -> bool:
        if self.rounds_done < self.due(self.num_timesteps, self.model._total_timesteps):
            self.rounds_done = self.due(self.num_timesteps, self.model._total_timesteps)
            missing = self.wanted(self.rounds_done) - len(self.env.label_file)
            if missing > 0:
                self.env.ask(self.labeller, missing, self.active and len(self.env.label_file) > 0)
            self._fit()
        return True

    def _fit(self) -> None:
        loss = self.env.fit()
        self._relabel()
        self.logger.record("preference/labels", len(self.env.label_file))
        self.logger.record("preference/loss", loss)
        doubt, temperature = getattr(self.labeller, "doubt", None), getattr(self.labeller, "temperature", 0.0)
        if doubt is not None:
            self.logger.record("preference/labeller_doubt", doubt)
            if temperature > 0 and doubt < 1e-3 and not self._warned:
                self._warned = True
                warnings.warn(
                    f"temperature={temperature!r} is so small beside the segments' returns that nothing is in doubt",
                    stacklevel=2,
                )
        if self.verbose > 0:
            print(f"{self.num_timesteps} steps: {len(self.env.label_file)} labels, loss {loss:.3f}")

    def _relabel(self) -> None:
        """Compute the rewards in a replay buffer anew."""
        buffer: Any = getattr(self.model, "replay_buffer", None)
        if buffer is None or not isinstance(getattr(buffer, "observations", None), np.ndarray):
            return
        held = buffer.buffer_size if buffer.full else buffer.pos
        for row in range(0, held, 4096):
            part = slice(row, min(row + 4096, held))
            observations, actions = buffer.observations[part], buffer.actions[part]  # [n, n_envs, …]
            n, n_envs = observations.shape[:2]
            rewards = self.env.reward(
                observations.reshape(n * n_envs, *observations.shape[2:]), self._acted(actions.reshape(n * n_envs, -1))
            )
            buffer.rewards[part] = rewards.reshape(n, n_envs)

    def _acted(self, actions: np.ndarray) -> np.ndarray:
        """What the env was given: a buffer keeps Box actions scaled to [−1, 1]."""
        space = self.env.action_space
        if not isinstance(space, spaces.Box):
            return actions
        return self.model.policy.unscale_action(actions.reshape(-1, *space.shape)).astype(np.float32)
