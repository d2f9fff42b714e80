"""A genetic algorithm for networks: mutate the best, keep the elite (Such et al. 2017, arXiv:1712.06567).

No gradient at all, not even an estimated one. Algorithm 1 of the paper: the first generation is P freshly initialised
networks; the T best of a generation become parents; each child is a parent drawn uniformly with Gaussian noise of strength
σ on every parameter; and one network, the elite, passes on unchanged.

The elite of a noisy game is not who was luckiest once: the ``n_elite_candidates`` best and the elite before play
``n_elite_episodes`` more episodes, and the best mean of these, without the score that they were selected by, becomes the
elite (10 and 30 in the paper, Algorithm 1). The policy that acts and is saved is the elite.

Choices and deviations: the parents are kept as vectors, not as the paper's lists of mutation seeds, which only matters when
networks travel between machines; the first networks have Glorot-normal weights and zero biases, as the paper's have; the
elite takes one of the P places. The paper's σ is constant; here it may be a schedule, SB3's way of letting a step size fall
(there is no ``learning_rate``, for no gradient is followed).
"""

from typing import Any

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.common.utils import FloatSchedule
from torch import nn

from sb3_lecture.common.checks import Integer, Real, check_arguments
from sb3_lecture.evolutionary.base import PopulationAlgorithm
from sb3_lecture.evolutionary.policies import Array, EvolutionPolicy

__all__ = ["GeneticAlgorithm"]


class GeneticAlgorithm(PopulationAlgorithm):
    """The Deep GA: truncation selection, Gaussian mutation, elitism, no crossover.

    :param policy: "MlpPolicy" (one hidden layer of 16, tanh), "LinearPolicy" or a subclass of EvolutionPolicy
    :param env: environment with Discrete or Box actions; an id gets one environment a candidate; None only when loading
    :param population_size: candidates a generation P, at least 2 (default 64)
    :param n_parents: T, how many of them become parents; None for a fifth (default)
    :param sigma: σ, standard deviation of a mutation, or a schedule of the remaining progress (default 0.1)
    :param n_elite_candidates: best candidates that compete for the elite's place (default 4)
    :param n_elite_episodes: episodes that each of them plays for it, 0 for no contest: the best score wins (default 5)
    :param _init_setup_model: build the policy now (SB3's loader passes False)
    :param kwargs: the other arguments are those of :class:`PopulationAlgorithm`
    :raises ValueError: a number out of its range, which the message names
    """

    parents: th.Tensor  # float32 [T, n_params], the best first, or [0, n_params] before the first generation
    elite: th.Tensor  # float32 [0 or 1, n_params]

    def __init__(
        self,
        policy: str | type[EvolutionPolicy],
        env: GymEnv | str | None,
        population_size: int = 64,
        n_parents: int | None = None,
        sigma: float | Schedule = 0.1,
        n_elite_candidates: int = 4,
        n_elite_episodes: int = 5,
        _init_setup_model: bool = True,
        **kwargs: Any,
    ) -> None:
        check_arguments(
            locals(), population_size=Integer(2), n_parents=Integer(1, none=True), sigma=Real(above=0, schedule=True),
            n_elite_candidates=Integer(1), n_elite_episodes=Integer(0),
        )  # fmt: skip
        if n_parents is not None and n_parents > population_size:
            raise ValueError(f"n_parents={n_parents} must not be above population_size={population_size}")
        super().__init__(policy, env, population_size, **kwargs)
        self.n_parents = n_parents
        self.sigma = sigma
        self.n_elite_candidates = n_elite_candidates
        self.n_elite_episodes = n_elite_episodes
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        super()._setup_model()
        self._sigma_schedule = FloatSchedule(self.sigma)
        self.parents = th.zeros(0, self.n_params)  # load() puts the saved ones in their place
        self.elite = th.zeros(0, self.n_params)

    def _ask(self, rng: np.random.Generator) -> Array:
        if len(self.parents) == 0:
            return self._fresh_networks(rng)
        n_children = self.population_size - len(self.elite)
        chosen = rng.integers(len(self.parents), size=n_children)  # uniform, with replacement
        noise = rng.standard_normal((n_children, self.n_params), dtype=np.float32)
        sigma = self._sigma_schedule(self._current_progress_remaining)
        self.logger.record("train/sigma", sigma)
        children = self.parents.numpy()[chosen] + np.float32(sigma) * noise  # ψ(θ) = θ + σε
        return np.concatenate([self.elite.numpy(), children])  # [P, n_params], the elite first

    def _fresh_networks(self, rng: np.random.Generator) -> Array:
        """Glorot-normal weights, zero biases: [P, n_params]."""
        parts = []
        for module in self.policy.action_net:
            if isinstance(module, nn.Linear):
                std = np.sqrt(2.0 / (module.in_features + module.out_features))
                shape = (self.population_size, module.weight.numel())
                parts.append(std * rng.standard_normal(shape, dtype=np.float32))
                if module.bias is not None:
                    parts.append(np.zeros((self.population_size, module.out_features), dtype=np.float32))
        return np.concatenate(parts, axis=1).astype(np.float32)

    def _select(self, candidates: Array, fitness: Array, callback: BaseCallback) -> bool:
        """Choose the elite: the best, and the elite before, play on (Algorithm 1, "set elite")."""
        order = np.argsort(-fitness, kind="stable")  # an old elite stands first and wins ties
        contenders = order[: self.n_elite_candidates]
        if len(self.elite) and 0 not in contenders:
            contenders = np.append(contenders, 0)
        score = fitness[contenders]
        if self.n_elite_episodes and len(contenders) > 1:
            more = self.play(candidates[contenders], self.n_elite_episodes, callback)
            if more is None:
                return False
            score = more  # the new episodes alone: the old score is the largest of many, and lucky
        best = contenders[np.argmax(score)]
        self.elite = th.from_numpy(candidates[best : best + 1].copy())
        self.logger.record("train/elite_fitness", float(score.max()))
        return True

    def _tell(self, candidates: Array, fitness: Array) -> None:
        n_parents = self.n_parents or max(1, self.population_size // 5)
        best = np.argsort(-fitness, kind="stable")[:n_parents]
        self.parents = th.from_numpy(candidates[best])
        self.policy.set_vector(self.elite.numpy()[0])

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_sigma_schedule"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy"], ["parents", "elite"]
