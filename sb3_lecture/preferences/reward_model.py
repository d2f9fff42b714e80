"""A reward model from rankings: RLHF's second step.

A labeller ranks K answers to a prompt. Each of the C(K, 2) pairs counts as one comparison of Bradley & Terry's (1952), and
all pairs of a prompt stand in one step, so that they cannot be learned by heart (Ouyang et al. 2022, eq. 1,
https://arxiv.org/abs/2203.02155):

    L(θ) = −1 / C(K, 2) E[ Σ_{i better than j} log σ(r_θ(x, y_i) − r_θ(x, y_j)) ]

A score is known up to a constant for each prompt, and in units of the labeller's noise τ: if P(i over j) = σ((s_i − s_j) /
τ), then r_θ → s / τ + c(x). Afterwards a constant makes the mean score of the demonstrations 0, as in the paper.

Deviation: the network begins from nothing, not from the supervised model. One timestep is one step of Adam.
"""

from typing import Any, ClassVar

import numpy as np
import torch as th
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule

from sb3_lecture.common.checks import Integer, check_arguments
from sb3_lecture.common.rules import Instance
from sb3_lecture.preferences.base import TextLearner
from sb3_lecture.preferences.comparisons import Comparisons
from sb3_lecture.preferences.policies import RewardPolicy


class RewardModel(TextLearner):
    """A judge of answers, learned from rankings; as a policy it writes what it itself would score best, token by token.

    :param policy: "RewardPolicy" ("MlpPolicy" is another name of it)
    :param env: ``Lecture/Text-v0`` or another env with a ``text_world``, its id, or a VecEnv of it
    :param learning_rate: step size of Adam, or a schedule of the remaining progress (default 1e-3)
    :param batch_size: rankings in a step (default 128)
    :param n_comparisons: rankings that the world's labeller makes (default 16,384); those that find no partner are fewer
    :param n_ranked: K answers in each (default 4); 2: pairs
    :param preferences: an .npz file of comparisons to learn from instead, see ``comparisons``; None: none
    :param policy_kwargs: ``width``, ``n_layers``, ``n_heads`` of the transformer
    :param stats_window_size: accepted for SB3's sake
    :param tensorboard_log: folder of the TensorBoard log; None: none
    :param verbose: 0 silent, 1 log tables
    :param device: torch device
    :param seed: one seed, one result
    :param _init_setup_model: whether to build the networks at once
    :raises ValueError: if an argument is out of its range, the env holds no text, or the file cannot be learned from
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"RewardPolicy": RewardPolicy, "MlpPolicy": RewardPolicy}
    policy: RewardPolicy
    _comparisons: Comparisons | None = None

    def __init__(
        self,
        policy: str | type[BasePolicy] = "RewardPolicy",
        env: GymEnv | str | None = None,
        learning_rate: float | Schedule = 1e-3,
        batch_size: int = 128,
        n_comparisons: int = 16_384,
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
        check_arguments(locals(), n_comparisons=Integer(2), n_ranked=Integer(2, 64), preferences=Instance((str,)))
        super().__init__(
            policy, env, learning_rate, batch_size, policy_kwargs, stats_window_size, tensorboard_log, verbose, device, seed
        )
        self.n_comparisons, self.n_ranked, self.preferences = n_comparisons, n_ranked, preferences
        if _init_setup_model:
            self._setup_model()

    def _begin(self) -> None:
        self._comparisons = self._draw_comparisons(self.n_comparisons, self.n_ranked, self.preferences, None)

    def _iterate(self) -> int:
        assert self._comparisons is not None
        loss, accuracy = self._ranking_loss(self.policy, self._comparisons, self.batch_size)
        self._descend(self.policy.optimizer, self.policy, loss)
        self.logger.record("train/loss", loss.item())
        self.logger.record("train/accuracy", accuracy)
        return 1

    progress_label = "Agreement with the labeller on new pairs"

    def exact_progress(self) -> tuple[float, float]:
        """The share of new pairs that it orders as the labeller will, and the rate of Bayes; see ``accuracy``."""
        return self.accuracy()

    def summary(self) -> str:
        """Say how good a judge it is, in one line."""
        share, bayes = self.accuracy()
        return f"Agreement with the labeller on new pairs: {100 * share:.2f} %, of the true score (Bayes): {100 * bayes:.2f} %"

    def reward(self, prompts: np.ndarray, responses: np.ndarray) -> np.ndarray:
        """r̂ of a batch; a scorer for ``Lecture/Text-v0``.

        :param prompts: int64 [B, P]
        :param responses: int64 [B, L]
        :return: float64 [B]
        """
        tokens = self._to_tensor(np.concatenate([prompts, responses], axis=1))
        with th.no_grad():
            return self.policy.score(tokens).double().cpu().numpy()

    def accuracy(self, n: int = 10_000, seed: int = 0) -> tuple[float, float]:
        """How often it agrees with the labeller on new pairs of people's answers, and how often the true score itself would.

        The second is the rate of Bayes: the labeller contradicts itself, nobody can foresee it better.

        :param n: pairs
        :param seed: of their draw
        """
        world, rng = self.world, np.random.default_rng(seed)
        prompts, first = world.demonstrations(n, rng)
        second = first[rng.permutation(n)]
        difference = world.score(prompts, first) - world.score(prompts, second)
        likely = world.preference_probability(difference)
        said = self.reward(prompts, first) > self.reward(prompts, second)
        told = np.abs(difference) > 0
        return float(np.where(said, likely, 1 - likely)[told].mean()), float(np.maximum(likely, 1 - likely)[told].mean())
