"""Supervised fine-tuning: maximum likelihood on demonstrations, RLHF's first step.

    L(θ) = −E_{(x, y) ~ people}[ Σ_t log π_θ(y_t | x, y_<t) ] / E[|y|]          (Ouyang et al. 2022, §3.5, step 1)

https://arxiv.org/abs/2203.02155. Deviation: a model of 0.2 million parameters begins from nothing where InstructGPT begins
from GPT-3. One timestep is one step of Adam.
"""

from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule

from sb3_lecture.common.checks import Integer, check_arguments
from sb3_lecture.preferences.base import TextLearner, exact_log_next


class SFT(TextLearner):
    """A language model from demonstrations.

    :param policy: "TransformerPolicy" ("MlpPolicy" is another name of it)
    :param env: ``Lecture/Text-v0`` or another env with a ``text_world``, its id, or a VecEnv of it
    :param learning_rate: step size of Adam, or a schedule of the remaining progress (default 1e-3)
    :param batch_size: demonstrations in a step (default 256)
    :param n_demonstrations: demonstrations in all (default 20,000)
    :param policy_kwargs: ``width``, ``n_layers``, ``n_heads`` of the transformers
    :param stats_window_size: accepted for SB3's sake
    :param tensorboard_log: folder of the TensorBoard log; None: none
    :param verbose: 0 silent, 1 log tables
    :param device: torch device
    :param seed: one seed, one result
    :param _init_setup_model: whether to build the networks at once
    :raises ValueError: if an argument is out of its range, or the env holds no text
    """

    _demonstrations: tuple[th.Tensor, th.Tensor] | None = None

    def __init__(
        self,
        policy: str | type[BasePolicy] = "TransformerPolicy",
        env: GymEnv | str | None = None,
        learning_rate: float | Schedule = 1e-3,
        batch_size: int = 256,
        n_demonstrations: int = 20_000,
        policy_kwargs: dict[str, Any] | None = None,
        stats_window_size: int = 100,
        tensorboard_log: str | None = None,
        verbose: int = 0,
        device: th.device | str = "auto",
        seed: int | None = None,
        _init_setup_model: bool = True,
    ) -> None:
        check_arguments(locals(), n_demonstrations=Integer(1))
        super().__init__(
            policy, env, learning_rate, batch_size, policy_kwargs, stats_window_size, tensorboard_log, verbose, device, seed
        )
        self.n_demonstrations = n_demonstrations
        if _init_setup_model:
            self._setup_model()

    def _begin(self) -> None:
        self._demonstrations = self._draw_demonstrations(self.n_demonstrations)

    def _iterate(self) -> int:
        assert self._demonstrations is not None
        loss = self._likelihood_loss(self.policy, self._demonstrations, self.batch_size)  # type: ignore[arg-type]
        self._descend(self.policy.optimizer, self.policy, loss)
        self.logger.record("train/loss", loss.item())
        return 1

    progress_label = "E[log π(demonstration)], nats"

    def exact_progress(self) -> tuple[float, float]:
        """E log π(y) of people's answers, and its maximum, minus the grammar's entropy; nats an answer.

        :raises ValueError: if the responses cannot be enumerated, or the world has no grammar
        """
        world, tree = self.world, self.tree
        law = world.log_law(tree.prefixes)[None].repeat(len(world.prompts), axis=0)
        negative_entropy = tree.kl(law, np.zeros_like(law))
        return negative_entropy - self.kl_from_grammar(), negative_entropy

    def summary(self) -> str:
        """Say how near the grammar it is, in one line."""
        if not self.is_enumerable:
            return super().summary()
        value, best = self.exact_progress()
        return (
            f"Log-likelihood of a demonstration: {value:.3f}, optimum {best:.3f}, KL from the grammar {best - value:.4f} nats"
        )

    def kl_from_grammar(self) -> float:
        """KL(grammar ‖ π), exactly, in nats a response; where the world states its grammar.

        :raises ValueError: if the responses cannot be enumerated, or the world has no grammar
        """
        world, tree = self.world, self.tree
        if not hasattr(world, "log_law"):
            raise ValueError(f"{type(world).__name__} states no grammar")
        law = world.log_law(tree.prefixes)[None].repeat(len(world.prompts), axis=0)
        return tree.kl(law, exact_log_next(self.policy, world, tree))
