"""Evolution strategies: the gradient of a blurred objective, from scores alone (Salimans et al. 2017, arXiv:1703.03864).

The return F(θ) of a policy with parameters θ need not be differentiable. Blurred with Gaussian noise it is, and the score
function of the noise gives its gradient from the scores of perturbed parameters (§2, the equation before Algorithm 1):

    ∇_θ E_{ε~N(0,I)} F(θ + σε) = 1/σ · E[F(θ + σε) ε]

Algorithm 1 estimates it with n candidates and takes a step. Three things of §2.1 and §3 make it work:

- antithetic noise: every ε is tried with its mirror image −ε, and all that is even in ε cancels;
- rank shaping: the scores' ranks, spread over [−½, ½], replace the scores, so that outliers do not drown the rest and the
  step does not depend on the scale of the reward;
- Adam on the estimated gradient, with weight decay that shrinks θ.

Choices and deviations: the paper's workers share seeds, here one process draws the noise; ``normalize_observations`` gives
its standardised observations (virtual batch normalisation, for Atari, is left out); actions carry no noise of their own; the
paper's weight decay is added to the gradient (an L2 penalty through Adam), and so it is here, 0 by default.
"""

from typing import Any, Literal

import numpy as np
import torch as th
from stable_baselines3.common.type_aliases import GymEnv, Schedule
from stable_baselines3.common.utils import FloatSchedule, update_learning_rate

from sb3_lecture.common.checks import Choice, Integer, Real, check_arguments
from sb3_lecture.evolutionary.base import PopulationAlgorithm
from sb3_lecture.evolutionary.policies import Array, EvolutionPolicy

__all__ = ["EvolutionStrategies", "centered_ranks", "es_gradient"]


def centered_ranks(fitness: Array) -> Array:
    """Ranks of the scores, spread evenly over [−½, ½]; equal scores share the mean of their ranks, so noise decides nothing.

    Scores that are NaN or infinite share the lowest ranks.

    :param fitness: scores, [P]
    :return: float64 [P], of mean 0
    """
    fitness = np.where(np.isfinite(fitness), fitness, -np.inf)
    _, group, counts = np.unique(fitness, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)  # one past the last rank of each group of equals
    ranks = (last - (counts + 1) / 2)[group]  # [P], mean rank of each
    return ranks / max(len(fitness) - 1, 1) - 0.5


def es_gradient(noise: Array, weights: Array, sigma: float) -> Array:
    """Antithetic estimate of ∇_θ E F(θ + σε), 1/(2mσ) Σ_i (F(θ + σε_i) − F(θ − σε_i)) ε_i.

    :param noise: ε, [m, n_params]
    :param weights: scores F, or what replaces them, of θ + σε_i for all i and then of θ − σε_i, [2m]
    :param sigma: σ
    :return: [n_params]
    """
    m = len(noise)
    return (weights[:m] - weights[m:]) @ noise / (2 * m * sigma)


class EvolutionStrategies(PopulationAlgorithm):
    """OpenAI's evolution strategy: antithetic, rank-shaped, Adam.

    :param policy: "MlpPolicy" (one hidden layer of 16, tanh), "LinearPolicy" or a subclass of EvolutionPolicy
    :param env: environment with Discrete or Box actions; an id gets one environment a candidate; None only when loading
    :param learning_rate: step size of the optimizer, or a schedule of the remaining progress (default 0.03)
    :param population_size: candidates a generation, even: each noise vector is tried in both directions (default 64)
    :param sigma: σ, standard deviation of the noise on the parameters, or a schedule of the remaining progress (default 0.1)
    :param weight_decay: weight of the L2 penalty on the parameters (default 0)
    :param fitness_shaping: "ranks" (default) or "none": the scores themselves
    :param _init_setup_model: build the policy now (SB3's loader passes False)
    :param kwargs: the other arguments are those of :class:`PopulationAlgorithm`
    :raises ValueError: ``population_size`` odd, a number out of range, unknown ``fitness_shaping``
    """

    def __init__(
        self,
        policy: str | type[EvolutionPolicy],
        env: GymEnv | str | None,
        learning_rate: float | Schedule = 0.03,
        population_size: int = 64,
        sigma: float | Schedule = 0.1,
        weight_decay: float = 0.0,
        fitness_shaping: Literal["ranks", "none"] = "ranks",
        _init_setup_model: bool = True,
        **kwargs: Any,
    ) -> None:
        check_arguments(
            locals(), population_size=Integer(2), sigma=Real(above=0, schedule=True), weight_decay=Real(0),
            fitness_shaping=Choice("ranks", "none"),
        )  # fmt: skip
        if population_size % 2:
            raise ValueError(f"population_size={population_size} must be even: each noise vector has its mirror image")
        super().__init__(policy, env, population_size, **kwargs)
        self.learning_rate = learning_rate
        self.sigma = sigma
        self.weight_decay = weight_decay
        self.fitness_shaping = fitness_shaping
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        super()._setup_model()
        self._sigma_schedule = FloatSchedule(self.sigma)

    def _noise(self, rng: np.random.Generator) -> Array:
        return rng.standard_normal((self.population_size // 2, self.n_params), dtype=np.float32)  # ε [P/2, n_params]

    def _ask(self, rng: np.random.Generator) -> Array:
        sigma = self._sigma_schedule(self._current_progress_remaining)
        theta, noise = self.policy.get_vector(), np.float32(sigma) * self._noise(rng)
        return np.concatenate([theta + noise, theta - noise])  # θ ± σε [P, n_params]

    def _tell(self, candidates: Array, fitness: Array) -> None:
        if self.fitness_shaping == "ranks":
            weights = centered_ranks(fitness)
        else:  # the worst finite score, for one that is not
            weights = np.where(np.isfinite(fitness), fitness, fitness[np.isfinite(fitness)].min())
        sigma = self._sigma_schedule(self._current_progress_remaining)
        noise = self._noise(self._rng())  # drawn again rather than kept: the same numbers
        theta = self.policy.get_vector()
        gradient = es_gradient(noise, weights, sigma) - self.weight_decay * theta  # Algorithm 1, line 5; [n_params]
        optimizer = self.policy.optimizer
        learning_rate = self.lr_schedule(self._current_progress_remaining)
        update_learning_rate(optimizer, learning_rate)
        start = 0
        for parameter in self.policy.parameters():
            part = gradient[start : start + parameter.numel()].reshape(parameter.shape)
            parameter.grad = th.as_tensor(-part, dtype=th.float32, device=self.device)  # optimizers descend
            start += parameter.numel()
        optimizer.step()
        self.logger.record("train/learning_rate", learning_rate)
        self.logger.record("train/sigma", sigma)
        self.logger.record("train/gradient_norm", float(np.linalg.norm(gradient)))

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_sigma_schedule"]

    def _get_torch_save_params(self) -> tuple[list[str], list[str]]:
        return ["policy", "policy.optimizer"], []
