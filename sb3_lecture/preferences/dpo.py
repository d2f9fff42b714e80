"""Direct preference optimisation (Rafailov et al. 2023, https://arxiv.org/abs/2305.18290).

The optimum of RLHF, π*(y|x) = π_SFT(y|x) exp(r(x, y) / β) / Z(x), can be solved for the reward (eq. 5), so a policy *is* a
reward model: r̂ = β log π/π_SFT + β log Z(x), and Z cancels in a comparison. Its likelihood (eq. 7) is the loss:

    L(θ) = −E[ log σ( β log π_θ(y_w|x)/π_SFT(y_w|x) − β log π_θ(y_l|x)/π_SFT(y_l|x) ) ]

No reward model, no sampling while learning; the same optimum as ``RLHF``. Rankings of K answers count as C(K, 2) pairs.

The first ``learn`` begins with supervised fine-tuning (``sft_steps``). One timestep is one step of Adam on comparisons.
"""

from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule

from sb3_lecture.common.checks import Integer, Real, check_arguments
from sb3_lecture.common.rules import Instance
from sb3_lecture.exact.string_tree import TextGrade
from sb3_lecture.preferences.base import CHUNK, TextLearner, grade
from sb3_lecture.preferences.comparisons import Comparisons
from sb3_lecture.preferences.losses import dpo_loss
from sb3_lecture.preferences.policies import TransformerPolicy


class DPO(TextLearner):
    """A policy from comparisons, without a reward model.

    :param policy: "TransformerPolicy" ("MlpPolicy" is another name of it)
    :param env: ``Lecture/Text-v0`` or another env with a ``text_world``, its id, or a VecEnv of it
    :param learning_rate: step size of Adam, or a schedule of the remaining progress (default 1e-3)
    :param batch_size: rankings in a step (default 128)
    :param beta: β, what a nat of KL costs, in units of the labeller's noise (default 0.5)
    :param sft_steps: steps of supervised fine-tuning before (default 600)
    :param sft_learning_rate: their step size, falling linearly to 0 (default 2e-3)
    :param sft_batch_size: demonstrations in each of them (default 256)
    :param n_demonstrations: demonstrations in all (default 20,000)
    :param n_comparisons: rankings that the world's labeller makes (default 32,768)
    :param n_ranked: K answers in each (default 4); 2: pairs
    :param preferences: an .npz file of comparisons to learn from instead; None: none
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
    _comparisons: Comparisons | None = None
    _reference_log: np.ndarray | None = None

    def __init__(
        self,
        policy: str | type[BasePolicy] = "TransformerPolicy",
        env: GymEnv | str | None = None,
        learning_rate: float | Schedule = 1e-3,
        batch_size: int = 128,
        beta: float = 0.5,
        sft_steps: int = 600,
        sft_learning_rate: float = 2e-3,
        sft_batch_size: int = 256,
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
            locals(), beta=Real(above=0), sft_steps=Integer(0), sft_learning_rate=Real(0), sft_batch_size=Integer(1),
            n_demonstrations=Integer(1), n_comparisons=Integer(1), n_ranked=Integer(2, 64), preferences=Instance((str,)),
        )  # fmt: skip
        super().__init__(
            policy, env, learning_rate, batch_size, policy_kwargs, stats_window_size, tensorboard_log, verbose, device, seed
        )
        self.beta, self.sft_steps, self.sft_learning_rate, self.sft_batch_size = (
            beta,
            sft_steps,
            sft_learning_rate,
            sft_batch_size,
        )
        self.n_demonstrations, self.n_comparisons = n_demonstrations, n_comparisons
        self.n_ranked, self.preferences = n_ranked, preferences
        self.ready = False  # whether supervised fine-tuning is done
        if _init_setup_model:
            self._setup_model()

    def _build(self) -> None:
        super()._build()
        self.reference = self._make(self.policy_class)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_reference_log"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer", "reference"], []

    def fine_tune(self) -> None:
        """Step 1: π_SFT by maximum likelihood, then frozen as ``reference``."""
        demonstrations = self._draw_demonstrations(self.n_demonstrations)
        optimizer = th.optim.Adam(self.policy.parameters(), lr=self.sft_learning_rate)
        for step in range(self.sft_steps):
            optimizer.param_groups[0]["lr"] = self.sft_learning_rate * (1.0 - step / self.sft_steps)
            self._descend(optimizer, self.policy, self._likelihood_loss(self.policy, demonstrations, self.sft_batch_size))
        self.reference.load_state_dict(self.policy.state_dict())

    def _begin(self) -> None:
        if not self.ready:
            self.fine_tune()
            self.ready = True
        self._comparisons = data = self._draw_comparisons(self.n_comparisons, self.n_ranked, self.preferences, self.reference)
        n, k, _ = data.responses.shape
        with th.no_grad():
            logs = [self._log_of(self.reference, data, rows).cpu() for rows in th.arange(n).split(CHUNK // k + 1)]
        self._reference_log = th.cat(logs).numpy()  # [N, K]

    def _log_of(self, policy: TransformerPolicy, data: Comparisons, rows: th.Tensor) -> th.Tensor:
        """Log π(y|x) of some rankings: [len(rows), K]."""
        k = data.responses.shape[1]
        prompts = self._to_tensor(np.repeat(data.prompts[rows], k, axis=0))
        responses = self._to_tensor(data.responses[rows].reshape(len(rows) * k, -1))
        return policy.log_probs(prompts, responses).sum(dim=1).view(len(rows), k)

    def _iterate(self) -> int:
        assert self._comparisons is not None and self._reference_log is not None
        rows = th.randint(len(self._comparisons), (self.batch_size,))
        reference = self._to_tensor(self._reference_log[rows.numpy()])
        log_ratio = self._log_of(self.policy, self._comparisons, rows) - reference  # [batch, K]
        loss = dpo_loss(log_ratio, self.beta)  # eq. 7
        self._descend(self.policy.optimizer, self.policy, loss)
        self.logger.record("train/loss", loss.item())
        return 1

    def grade(self) -> TextGrade:
        """How good the policy is, exactly, against RLHF's optimum under the world's own score.

        :raises ValueError: if the responses cannot be enumerated
        """
        return grade(self, self.reference, self.beta)

    def exact_progress(self) -> tuple[float, float]:
        """J(π) and J*; see ``grade``."""
        found = self.grade()
        return found.value, found.optimum
