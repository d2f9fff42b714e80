"""Rainbow: six additions to DQN in one agent (Hessel et al. 2018, https://arxiv.org/abs/1710.02298).

``DeepQLearning`` has them as switches; here they are spelled out, to be read from top to bottom:

| addition | in the paper | in this file |
| --- | --- | --- |
| double Q-learning | a* by the online network, its law by the target network | ``best``, ``next_p`` |
| prioritized replay | p ∝ KL(Φ d ‖ d_θ)^ω, ω = 0.5, β from 0.4 to 1 | ``losses - entropy``, ``update_priorities`` |
| dueling networks | streams of value and advantages for each atom | ``_policy_defaults`` |
| multi-step returns | n = 3: r is Σ_{i<n} γⁱ r_{t+i}, bootstrapped by γⁿ | the memory's rows |
| distributional RL | 51 atoms in [−10, 10] | ``project``, ``losses`` |
| noisy nets | σ₀ = 0.5, no ε | ``resample_noise`` |

Defaults are the paper's table 1, where a frame is a quarter of a step: 80 K frames before learning, the target network of 32 K
frames, Adam with α = 6.25e-5 and ε = 1.5e-4, a minibatch of 32 every 4 steps. Deviations: gradients are clipped to a norm of
10, as SB3's DQN does; random actions before learning starts, as SB3 has it.
"""

from typing import Any

import torch as th
from stable_baselines3.common.type_aliases import GymEnv, Schedule

from sb3_lecture.common.checks import Integer, Real, check_arguments
from sb3_lecture.common.distributional import project
from sb3_lecture.common.optimizers import FUSED_ADAM, without_denormals
from sb3_lecture.common.prioritized_buffer import PrioritizedReplayBuffer
from sb3_lecture.value_based.deep_q_learning import DeepQLearning
from sb3_lecture.value_based.networks import ValuePolicy
from sb3_lecture.value_based.transitions import Transitions

__all__ = ["Rainbow"]


class Rainbow(DeepQLearning):
    """Double, dueling, distributional, noisy DQN with prioritized n-step replay.

    :param policy: "MlpPolicy", "CnnPolicy", "MultiInputPolicy" or a policy class
    :param env: environment with Discrete actions, or its id; None only when loading
    :param learning_rate: step size of Adam, or a schedule of the remaining progress (default 6.25e-5)
    :param buffer_size: transitions the memory holds (default 1 000 000)
    :param learning_starts: environment steps with random actions before the first update (default 20 000)
    :param target_update_interval: environment steps between two refreshes of the target network (default 8000)
    :param n_steps: n (default 3)
    :param n_atoms: atoms of the law (default 51)
    :param v_min: the least of them (default -10, of clipped rewards)
    :param v_max: the greatest (default 10)
    :param noisy_std: σ₀ (default 0.5)
    :param per_alpha: ω, exponent of the priorities (default 0.5)
    :param per_beta: β at first (default 0.4)
    :param double: the online network chooses the target's action (default True)
    :param dueling: value and advantages in two streams (default True)
    :param prioritized: prioritized replay (default True)
    :param noisy: noisy layers explore; without, ε-greedy by the arguments of ``exploration_*`` (default True)
    :param kwargs: the other arguments of ``DeepQLearning``, but for ``distribution`` and ``munchausen``
    :raises ValueError: ``v_min`` ≥ ``v_max``, or a number out of range
    """

    def __init__(
        self,
        policy: str | type[ValuePolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 6.25e-5,
        buffer_size: int = 1_000_000,
        learning_starts: int = 20_000,
        target_update_interval: int = 8000,
        n_steps: int = 3,
        n_atoms: int = 51,
        v_min: float = -10.0,
        v_max: float = 10.0,
        noisy_std: float = 0.5,
        per_alpha: float = 0.5,
        per_beta: float = 0.4,
        double: bool = True,
        dueling: bool = True,
        prioritized: bool = True,
        noisy: bool = True,
        **kwargs: Any,
    ) -> None:
        check_arguments(
            locals(), n_atoms=Integer(2, 10_000), v_min=Real(), v_max=Real(), noisy_std=Real(0), per_alpha=Real(0, 10),
            per_beta=Real(0, 1),
        )  # fmt: skip
        if v_min >= v_max:
            raise ValueError(f"v_min={v_min!r} must be less than v_max={v_max!r}: returns are expected between them")
        self.n_atoms, self.v_min, self.v_max, self.noisy_std = n_atoms, v_min, v_max, noisy_std
        self.per_alpha, self.per_beta = per_alpha, per_beta
        super().__init__(
            policy,
            env,
            learning_rate,
            buffer_size=buffer_size,
            learning_starts=learning_starts,
            target_update_interval=target_update_interval,
            n_steps=n_steps,
            double=double,
            dueling=dueling,
            prioritized=prioritized,
            noisy=noisy,
            distribution="categorical",
            **kwargs,
        )

    def _policy_defaults(self) -> dict[str, Any]:
        defaults: dict[str, Any] = {
            "dueling": self.dueling, "noisy": self.noisy, "noisy_std": self.noisy_std, "distribution": "categorical",
            "n_atoms": self.n_atoms, "v_min": self.v_min, "v_max": self.v_max,
        }  # fmt: skip
        if "optimizer_class" not in self.policy_kwargs:
            defaults["optimizer_kwargs"] = FUSED_ADAM | {"eps": 1.5e-4}
        return defaults

    def _memory_defaults(self) -> dict[str, Any]:
        return super()._memory_defaults() | ({"alpha": self.per_alpha, "beta": self.per_beta} if self.prioritized else {})

    @without_denormals()
    def train(self, gradient_steps: int, batch_size: int = 32) -> None:
        """Descend the weighted cross-entropy of minibatches, and renew their priorities.

        :param gradient_steps: how many minibatches
        :param batch_size: transitions in each
        """
        self.policy.set_training_mode(True)
        self._update_learning_rate(self.policy.optimizer)
        total = 0.0
        for _ in range(gradient_steps):
            batch = self.draw(batch_size)  # by priority, n-step returns; β is annealed
            losses, errors = self.row_losses(batch)  # [B], [B]
            loss = (losses if batch.weights is None else batch.weights * losses).mean()  # (1 / N P)^β
            self.descend(loss, self.q_net.parameters(), batch)
            if batch.indices is not None:
                memory = self.replay_buffer
                assert isinstance(memory, PrioritizedReplayBuffer)
                memory.update_priorities(batch.indices, errors.cpu().numpy())  # KL^ω
            total += loss.item()
        self._n_updates += gradient_steps
        self.logger.record("train/n_updates", self._n_updates, exclude="tensorboard")
        self.logger.record("train/loss", total / max(gradient_steps, 1))

    def row_losses(self, batch: Transitions) -> tuple[th.Tensor, th.Tensor]:
        """Cross-entropy of the projected target and the prediction, and their Kullback–Leibler divergence, [B] and [B]."""
        rows = th.arange(len(batch.actions), device=self.device)
        z = self.q_net.atoms  # [m]
        with th.no_grad():
            self.q_net_target.resample_noise()
            next_p = self.q_net_target.outputs(batch.next_observations).softmax(dim=-1)  # p(s_{t+n}, ·; θ̄) [B, A, m]
            values = next_p @ z  # q(s_{t+n}, ·; θ̄) [B, A]
            if self.double:
                self.q_net.resample_noise()
                values = self.q_net(batch.next_observations)  # q(s_{t+n}, ·; θ)
            best = values.argmax(dim=1)  # a*
            next_p = next_p[rows, best]  # p(s_{t+n}, a*; θ̄) [B, m]
            support = batch.rewards[:, None] + batch.discounts[:, None] * z  # R⁽ⁿ⁾ + γⁿ z, R⁽ⁿ⁾ where the episode ended
            target = project(support, next_p, z)  # Φ d⁽ⁿ⁾ [B, m]
            entropy = -th.xlogy(target, target).sum(dim=1)
            self.watch_range((next_p * support).sum(dim=1))
        self.q_net.resample_noise()
        log_p = self.q_net.outputs(batch.observations)[rows, batch.actions].log_softmax(dim=-1)  # ln p(s_t, a_t; θ)
        losses = -(target * log_p).sum(dim=1)  # KL(Φ d⁽ⁿ⁾ ‖ d_θ) and what does not depend on θ
        return losses, (losses.detach() - entropy).clamp(min=0.0)
