"""Reinforcement learning from human feedback, all three steps of InstructGPT (Ouyang et al. 2022, https://arxiv.org/abs/2203.02155).

1. π_SFT by maximum likelihood on demonstrations (``SFT``), then frozen.
2. A reward model r̂ from rankings of answers that π_SFT wrote (``RewardModel``, eq. 1).
3. PPO on r̂ less a penalty for leaving π_SFT, charged for each token (eq. 2):

    J(π) = E[ r̂(x, y) − β log π(y|x)/π_SFT(y|x) ] + γ_ptx E_{(x, y) ~ people}[ log π(y|x) ]

PPO as there and in Stiennon et al. 2020: no discount, the generalised advantage estimate, advantages whitened over the
batch, a value model apart that begins as the reward model, four passes over a batch. One token is one action. On answers
that can be enumerated the optimum is known (``exact/string_tree.py``), and the log has the exact KL beside its estimates.

The penalty in the reward must be the k1 estimate, log π − log π_SFT: its gradient is that of the KL. k3 is better to look
at, with less variance, and biased as a reward. Where π = π*, each whole answer has the same penalised reward β log Z(x):
the noise of the gradient vanishes with the distance, and whitening would bring it back, so the learning rate falls to 0.

Deviations: the networks begin from nothing, there is one prompt for each answer, Adam is not restarted between batches, and
``missing_stop_penalty`` and ``ptx_coef`` are 0 unless asked for, as they move the optimum.
"""

from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule

from sb3_lecture.common.checks import FLAG, Integer, Real, check_arguments, check_finite, naming_memory
from sb3_lecture.common.rules import Instance
from sb3_lecture.exact.string_tree import TextGrade
from sb3_lecture.preferences.base import TextLearner, exact_log_next, grade
from sb3_lecture.preferences.losses import k1, k3, token_rewards, whiten
from sb3_lecture.preferences.policies import RewardPolicy, TransformerPolicy


def gae(rewards: th.Tensor, values: th.Tensor, written: th.Tensor, lambda_: float) -> th.Tensor:
    """Generalised advantage estimate without discount (Schulman et al. 2016, eq. 16 with γ = 1).

    :param rewards: after each token, [batch, L]
    :param values: before each token, [batch, L]
    :param written: bool [batch, L]; nothing follows a row's last token
    :param lambda_: λ
    :return: [batch, L], 0 where nothing is written
    """
    advantages, following = th.zeros_like(rewards), th.zeros_like(rewards[:, 0])
    for t in range(rewards.shape[1] - 1, -1, -1):  # places, not rows
        next_value = values[:, t + 1] * written[:, t + 1] if t + 1 < rewards.shape[1] else 0.0
        delta = rewards[:, t] + next_value - values[:, t]
        following = (delta + lambda_ * following) * written[:, t]
        advantages[:, t] = following
    return advantages


class RLHF(TextLearner):
    """InstructGPT's three steps: demonstrations, rankings, PPO with a KL penalty.

    The first ``learn`` begins with steps 1 and 2. One timestep is one token that step 3 wrote.

    :param policy: "TransformerPolicy" ("MlpPolicy" is another name of it)
    :param env: ``Lecture/Text-v0`` or another env with a ``text_world``, its id, or a VecEnv of it
    :param learning_rate: of PPO, a number or a schedule of the remaining progress (default 1e-3); let it fall
    :param n_responses: answers in a batch (default 512)
    :param batch_size: answers in a minibatch (default 256)
    :param n_epochs: passes over a batch (default 4)
    :param beta: β, what a nat of KL costs, in units of the labeller's noise (default 0.5); 0: reward hacking
    :param gae_lambda: λ of the advantage estimate (default 0.95)
    :param clip_range: how far a probability ratio may move the objective (default 0.2)
    :param clip_range_vf: how far a value may move from the old one; None (default): no limit
    :param vf_coef: weight of the value loss (default 0.1)
    :param max_grad_norm: largest norm of the gradient (default 1.0)
    :param normalize_advantage: whiten advantages over the batch's tokens (default True)
    :param missing_stop_penalty: taken off the score of an answer that does not stop (default 0)
    :param ptx_coef: γ_ptx, weight of the demonstrations' likelihood (default 0)
    :param target_kl: stop learning once the estimated KL to π_SFT of a batch exceeds this, in nats; None (default): never
    :param use_reward_model: follow r̂ (default True); False: the world's own score, without step 2
    :param sft_steps: steps of Adam in step 1, 256 demonstrations each (default 600)
    :param reward_steps: and in step 2, 128 rankings each (default 800)
    :param pretrain_learning_rate: their step size, falling linearly to 0 (default 2e-3)
    :param n_demonstrations: demonstrations in all (default 20,000)
    :param n_comparisons: rankings that the world's labeller makes (default 32,768)
    :param n_ranked: K answers in each (default 4); 2: pairs
    :param preferences: an .npz file of comparisons for step 2 instead; None: none
    :param policy_kwargs: ``width``, ``n_layers``, ``n_heads`` of the transformers
    :param stats_window_size: accepted for SB3's sake
    :param tensorboard_log: folder of the TensorBoard log; None: none
    :param verbose: 0 silent, 1 log tables
    :param device: torch device
    :param seed: one seed, one result
    :param _init_setup_model: whether to build the networks at once
    :raises ValueError: if an argument is out of its range, the env holds no text, or the file cannot be learned from
    """

    policy: TransformerPolicy
    reference: TransformerPolicy
    judge: RewardPolicy
    _demonstrations: tuple[th.Tensor, th.Tensor] | None = None

    def __init__(
        self,
        policy: str | type[BasePolicy] = "TransformerPolicy",
        env: GymEnv | str | None = None,
        learning_rate: float | Schedule = 1e-3,
        n_responses: int = 512,
        batch_size: int = 256,
        n_epochs: int = 4,
        beta: float = 0.5,
        gae_lambda: float = 0.95,
        clip_range: float = 0.2,
        clip_range_vf: float | None = None,
        vf_coef: float = 0.1,
        max_grad_norm: float = 1.0,
        normalize_advantage: bool = True,
        missing_stop_penalty: float = 0.0,
        ptx_coef: float = 0.0,
        target_kl: float | None = None,
        use_reward_model: bool = True,
        sft_steps: int = 600,
        reward_steps: int = 800,
        pretrain_learning_rate: float = 2e-3,
        n_demonstrations: int = 20_000,
        n_comparisons: int = 32_768,
        n_ranked: int = 4,
        preferences: str | None = None,
        policy_kwargs: dict[str, Any] | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        device: th.device | str = "auto",
        seed: int | None = None,
        _init_setup_model: bool = True,
    ) -> None:
        check_arguments(
            locals(), n_responses=Integer(2), beta=Real(0), clip_range=Real(above=0), clip_range_vf=Real(above=0, none=True),
            missing_stop_penalty=Real(0), ptx_coef=Real(0), target_kl=Real(above=0, none=True), use_reward_model=FLAG,
            sft_steps=Integer(0), reward_steps=Integer(0), pretrain_learning_rate=Real(0), n_demonstrations=Integer(1),
            n_comparisons=Integer(1), n_ranked=Integer(2, 64), preferences=Instance((str,)),
        )  # fmt: skip
        super().__init__(
            policy, env, learning_rate, batch_size, policy_kwargs, stats_window_size, tensorboard_log, verbose, device, seed
        )
        self.n_responses, self.n_epochs, self.beta, self.gae_lambda = n_responses, n_epochs, beta, gae_lambda
        self.clip_range, self.clip_range_vf, self.vf_coef, self.max_grad_norm = (
            clip_range,
            clip_range_vf,
            vf_coef,
            max_grad_norm,
        )
        self.normalize_advantage, self.missing_stop_penalty = normalize_advantage, missing_stop_penalty
        self.ptx_coef, self.target_kl, self.use_reward_model = ptx_coef, target_kl, use_reward_model
        self.sft_steps, self.reward_steps, self.pretrain_learning_rate = sft_steps, reward_steps, pretrain_learning_rate
        self.n_demonstrations, self.n_comparisons = n_demonstrations, n_comparisons
        self.n_ranked, self.preferences = n_ranked, preferences
        self.ready = False  # whether steps 1 and 2 are done
        self.stopped_by_kl = False
        if _init_setup_model:
            self._setup_model()

    def _build(self) -> None:
        super()._build()
        self.reference, self.judge = self._make(self.policy_class), self._make(RewardPolicy)

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer", "reference", "judge"], []

    # --- steps 1 and 2 -----------------------------------------------------------------------------------------------

    def fine_tune(self) -> None:
        """Step 1: π_SFT by maximum likelihood, then frozen as ``reference``."""
        assert self._demonstrations is not None
        optimizer = th.optim.Adam(self.policy.parameters(), lr=self.pretrain_learning_rate)
        for step in range(self.sft_steps):
            optimizer.param_groups[0]["lr"] = self.pretrain_learning_rate * (1.0 - step / self.sft_steps)
            loss = self._likelihood_loss(self.policy, self._demonstrations, 256)
            self._descend(optimizer, self.policy, loss)
        self.reference.load_state_dict(self.policy.state_dict())

    def fit_judge(self) -> None:
        """Step 2: the reward model from rankings of π_SFT's answers; the value model begins as it."""
        assert self._demonstrations is not None
        comparisons = self._draw_comparisons(self.n_comparisons, self.n_ranked, self.preferences, self.reference)
        optimizer = th.optim.Adam(self.judge.parameters(), lr=self.pretrain_learning_rate)
        for step in range(self.reward_steps):
            optimizer.param_groups[0]["lr"] = self.pretrain_learning_rate * (1.0 - step / self.reward_steps)
            self._descend(optimizer, self.judge, self._ranking_loss(self.judge, comparisons, 128)[0])
        with th.no_grad():
            tokens = th.cat([part[:4096] for part in self._demonstrations], dim=1)
            self.judge.offset += self.judge.score(tokens).mean()  # demonstrations score 0 on average
            self.policy.critic.load_state_dict(self.judge.trunk.state_dict())
            self.policy.value_net.load_state_dict(self.judge.head.state_dict())
            self.policy.value_net.bias.sub_(self.judge.offset)

    def _begin(self) -> None:
        self._demonstrations = self._draw_demonstrations(self.n_demonstrations)
        if not self.ready:
            self.fine_tune()
            if self.use_reward_model:
                self.fit_judge()
            self.ready = True

    # --- step 3 ------------------------------------------------------------------------------------------------------

    def _scores(self, prompts: th.Tensor, responses: th.Tensor) -> th.Tensor:
        """What is to be maximised: r̂, or the world's own score; less the penalty of what does not stop. [batch]."""
        if self.use_reward_model:
            scores = self.judge.score(th.cat([prompts, responses], dim=1))
        else:
            own = self.world.score(prompts.cpu().numpy(), responses.cpu().numpy())
            scores = self._to_tensor(own).float()
        return scores - self.missing_stop_penalty * ~(responses == 0).any(dim=1)

    @naming_memory("n_responses")
    @th.no_grad()
    def _collect(self) -> dict[str, th.Tensor]:
        """Write a batch of answers and judge them."""
        world, policy = self.world, self.policy
        rng = np.random.default_rng(int(th.randint(2**31, (1,))))
        prompts = self._to_tensor(world.draw_prompts(self.n_responses, rng))  # [n, P]
        responses = policy.generate(prompts, world.max_length)  # [n, L]
        written = responses != policy.pad
        log_pi = policy.log_probs(prompts, responses)
        log_ratio = log_pi - self.reference.log_probs(prompts, responses)  # [n, L]
        values = self._values(prompts, responses) * written
        scores = self._scores(prompts, responses)
        rewards = token_rewards(scores, log_ratio, written, self.beta)  # eq. 2
        advantages = gae(rewards, values, written, self.gae_lambda)
        data = {
            "prompts": prompts, "responses": responses, "written": written, "log_pi": log_pi, "values": values,
            "returns": advantages + values, "advantages": advantages,
        }  # fmt: skip
        if self.normalize_advantage:
            data["advantages"] = whiten(advantages, written)
        self._record_kl(log_ratio, prompts, responses, written)
        self.logger.record("rollout/score", scores.mean().item())
        self.logger.record("rollout/length", written.sum().item() / self.n_responses)
        return data

    def _values(self, prompts: th.Tensor, responses: th.Tensor) -> th.Tensor:
        """The value model's before each token: [batch, L]."""
        return self.policy.values_along(th.cat([prompts, responses[:, :-1]], dim=1))[:, prompts.shape[1] - 1 :]

    def _record_kl(self, log_ratio: th.Tensor, prompts: th.Tensor, responses: th.Tensor, written: th.Tensor) -> None:
        """Log KL(π ‖ π_SFT) in nats an answer: from the drawn tokens, and as a sum over the vocabulary at each drawn place."""
        row, p = th.cat([prompts, responses[:, :-1]], dim=1), prompts.shape[1]
        pi, reference = (part.log_next(row)[:, p - 1 :] for part in (self.policy, self.reference))  # [n, L, V]
        whole = ((pi.exp() * (pi - reference)).sum(dim=2) * written).sum(dim=1).mean().item()
        self.logger.record("kl/k1", k1(log_ratio).sum(dim=1).mean().item())
        self.logger.record("kl/k3", (k3(log_ratio) * written).sum(dim=1).mean().item())
        self.logger.record("kl/vocabulary", whole)
        if self.target_kl is not None and whole > self.target_kl:
            self.stopped_by_kl = True

    def _iterate(self) -> int:
        self.stopped_by_kl = False
        data = self._collect()
        tokens = int(data["written"].sum())
        if self.stopped_by_kl:  # over-optimisation: π is left as it is
            return tokens
        losses = []
        for _ in range(self.n_epochs):
            for rows in th.randperm(self.n_responses, device=self.device).split(self.batch_size):
                losses.append(self._update({name: part[rows] for name, part in data.items()}))
        policy_loss, value_loss, clipped = np.mean(losses, axis=0)
        self.logger.record("train/policy_gradient_loss", float(policy_loss))
        self.logger.record("train/value_loss", float(value_loss))
        self.logger.record("train/clip_fraction", float(clipped))
        return tokens

    def _update(self, batch: dict[str, th.Tensor]) -> tuple[float, float, float]:
        """One step of Adam on a minibatch of answers; return its losses and the share of clipped tokens."""
        written, n = batch["written"], batch["written"].sum()
        log_pi = self.policy.log_probs(batch["prompts"], batch["responses"])
        ratio = (log_pi - batch["log_pi"]).exp()  # [batch, L]
        clipped = ratio.clamp(1.0 - self.clip_range, 1.0 + self.clip_range)
        gain = th.min(ratio * batch["advantages"], clipped * batch["advantages"])  # Schulman et al. 2017, eq. 7
        policy_loss = -(gain * written).sum() / n
        values = self._values(batch["prompts"], batch["responses"])
        error = (values - batch["returns"]) ** 2
        if self.clip_range_vf is not None:
            near = batch["values"] + (values - batch["values"]).clamp(-self.clip_range_vf, self.clip_range_vf)
            error = th.max(error, (near - batch["returns"]) ** 2)
        value_loss = 0.5 * (error * written).sum() / n
        loss = policy_loss + self.vf_coef * value_loss
        if self.ptx_coef > 0:
            assert self._demonstrations is not None
            loss = loss + self.ptx_coef * self._likelihood_loss(
                self.policy, self._demonstrations, len(written)
            )  # eq. 2, γ_ptx
        check_finite(loss.item(), "the loss", returns=batch["returns"], network=self.policy)
        self._descend(self.policy.optimizer, self.policy, loss, self.max_grad_norm)
        share = ((ratio - 1.0).abs() > self.clip_range)[written].float().mean().item()
        return policy_loss.item(), value_loss.item(), share

    # --- what is known exactly ---------------------------------------------------------------------------------------

    def exact_kl(self) -> float:
        """KL(π ‖ π_SFT) in nats an answer, by the chain rule over all prefixes.

        :raises ValueError: if the responses cannot be enumerated
        """
        pi, sft = (exact_log_next(part, self.world, self.tree) for part in (self.policy, self.reference))
        return self.tree.kl(pi, sft)

    def grade(self) -> TextGrade:
        """How good the policy is, exactly, against the optimum under the world's own score.

        :raises ValueError: if the responses cannot be enumerated, or ``beta`` is 0
        """
        if self.beta == 0:
            raise ValueError("beta=0 has no optimal policy to compare with: only the best answers would remain")
        return grade(self, self.reference, self.beta)

    def exact_progress(self) -> tuple[float, float]:
        """J(π) and J*; see ``grade``."""
        found = self.grade()
        return found.value, found.optimum

    def dump_logs(self) -> None:
        """Write the log of the batches so far, with the exact KL where the answers can be enumerated."""
        if self.is_enumerable:
            self.logger.record("kl/exact", self.exact_kl())
        super().dump_logs()
