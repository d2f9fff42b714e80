"""Behaviour cloning: do what was done.

    loss = −(1 / B) Σ log π(a | s)

over the rows of the data (Pomerleau 1991, https://doi.org/10.1162/neco.1991.3.1.88). Of a finite world, with one weight a
state and action, its minimum is the empirical behaviour π(a | s) = n(s, a) / n(s). With ``top_share`` only the episodes with
the highest returns are cloned ("10 % BC", Chen et al. 2021, https://arxiv.org/abs/2106.01345).
"""

from typing import Any, ClassVar

import torch as th
from stable_baselines3.common.distributions import CategoricalDistribution
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import GymEnv, Schedule

from sb3_lecture.common.checks import Real, check_arguments
from sb3_lecture.offline.base import RANDOM_DATA, Data, OfflineAlgorithm
from sb3_lecture.offline.dataset import Batch, OfflineDataset
from sb3_lecture.offline.policies import OfflinePolicy

__all__ = ["BC", "BCPolicy"]


class BCPolicy(OfflinePolicy):
    """An actor alone. The arguments are those of ``OfflinePolicy``."""

    def _build(self, lr_schedule: Schedule) -> None:
        self.actor = self.make_actor()
        self.optimizer = self.make_optimizer(lr_schedule, self.actor, *([] if self.discrete else [self.log_std]))

    def _predict(self, observation: th.Tensor, deterministic: bool = False) -> th.Tensor:  # type: ignore[override]
        return self._actor_predict(self.actor, observation, deterministic)

    def get_distribution(self, observation: th.Tensor) -> CategoricalDistribution:
        """π(· | s) of Discrete actions, in SB3's form."""
        return CategoricalDistribution(self.n_actions).proba_distribution(self.actor(self.inputs(observation)))


class BC(OfflineAlgorithm):
    """Behaviour cloning, for Discrete actions and Boxes.

    :param policy: "MlpPolicy" or a subclass of ``BCPolicy``
    :param env: for evaluation, and to record in; its id; or None
    :param dataset: the data, see ``OfflineAlgorithm``
    :param top_share: share of the episodes, those with the highest returns, that are cloned (default 1.0)
    :param kwargs: ``learning_rate`` and the other arguments of ``OfflineAlgorithm``
    :raises ValueError: see ``OfflineAlgorithm``
    """

    policy_aliases: ClassVar[dict[str, type[BasePolicy]]] = {"MlpPolicy": BCPolicy}
    policy: BCPolicy

    def __init__(
        self,
        policy: str | type[BCPolicy],
        env: GymEnv | str | None = None,
        dataset: Data = RANDOM_DATA,
        top_share: float = 1.0,
        **kwargs: Any,
    ) -> None:
        check_arguments(locals(), top_share=Real(above=0, high=1))
        self.top_share = top_share
        super().__init__(policy, env, dataset, **kwargs)

    def _training_data(self) -> OfflineDataset:
        data = super()._training_data()
        return data if self.top_share == 1.0 else data.best_episodes(self.top_share)

    def train_step(self, batch: Batch, inputs: th.Tensor, next_inputs: th.Tensor, actions: th.Tensor) -> dict[str, th.Tensor]:
        """Raise the likelihood of what was done; see ``OfflineAlgorithm``."""
        policy = self.policy
        loss = -policy.distribution(policy.actor, inputs).log_prob(actions).mean()  # −log π(a | s)
        self._descend(policy.optimizer, loss)
        return {"loss": loss.detach()}
