"""CMA-ES: a Gaussian over parameters that learns its own shape (Hansen 2016, arXiv:1604.00772).

Candidates are drawn from N(m, σ²C) (eq. 38–40). The mean moves to the weighted mean of the better half (eq. 41–42), the
step size σ grows when successive moves agree and shrinks when they cancel (eq. 43–44), and the covariance C takes on the
directions that succeeded: by the path of the mean (rank one) and by the good candidates of this generation (rank μ)
(eq. 45–47). It uses ranks only, so the scale of the return does not matter, and it needs no step size to be tuned.

The update itself is the package ``cmaes`` (install ``sb3-lecture[evolution]``). C has n_params² entries and its
eigenvalues cost n_params³, so policies are small here: one linear layer by default (``net_arch=[]``), and above
``sep_above`` parameters SepCMA keeps the diagonal only (Ros & Hansen 2008, https://doi.org/10.1007/978-3-540-87700-4_30).

The policy that acts and is saved is the mean m, which noise has been averaged out of, not the best candidate met.

Deviations: none of the package's update; its random generator is reseeded each generation, so that a loaded run needs none
of its state (the package decomposes a stored covariance anew, so the draws may differ from those of a run that went on);
``should_stop`` restarts are left to the user, the budget ends a run. Nothing here takes a schedule: there is no learning
rate, and σ is what the algorithm itself adapts; ``sigma`` is only where it begins.
"""

from typing import Any

import numpy as np
from stable_baselines3.common.type_aliases import GymEnv

from sb3_lecture.common.checks import Integer, Real, check_arguments
from sb3_lecture.common.optimizers import policy_defaults
from sb3_lecture.evolutionary.base import PopulationAlgorithm
from sb3_lecture.evolutionary.policies import Array, EvolutionPolicy

__all__ = ["CMAES"]


class CMAES(PopulationAlgorithm):
    """Covariance matrix adaptation on the parameters of a policy.

    :param policy: "MlpPolicy" (without hidden layers unless ``policy_kwargs`` names ``net_arch``), "LinearPolicy" or a
        subclass of EvolutionPolicy
    :param env: environment with Discrete or Box actions; an id gets one environment a candidate; None only when loading
    :param population_size: candidates a generation λ, at least 4 (default 16)
    :param sigma: σ of the first generation (default 0.5)
    :param sep_above: above so many parameters only the diagonal of C is learnt (default 500)
    :param _init_setup_model: build the policy now (SB3's loader passes False)
    :param kwargs: the other arguments are those of :class:`PopulationAlgorithm`
    :raises ValueError: a number out of range
    :raises ImportError: from ``learn``, if the package ``cmaes`` is not installed
    """

    min_population = 4

    def __init__(
        self,
        policy: str | type[EvolutionPolicy],
        env: GymEnv | str | None,
        population_size: int = 16,
        sigma: float = 0.5,
        sep_above: int = 500,
        _init_setup_model: bool = True,
        **kwargs: Any,
    ) -> None:
        check_arguments(locals(), sigma=Real(above=0), sep_above=Integer(0))
        super().__init__(policy, env, population_size, **kwargs)
        self.sigma = sigma
        self.sep_above = sep_above
        self._search: Any = None  # cmaes.CMA or cmaes.SepCMA: m, σ, C and the two paths
        if _init_setup_model:
            self._setup_model()

    def _setup_model(self) -> None:
        linear = self.policy_class is EvolutionPolicy  # "MlpPolicy"
        with policy_defaults(self, **({"net_arch": []} if linear else {})):
            super()._setup_model()

    def _ask(self, rng: np.random.Generator) -> Array:
        if self._search is None:
            self._search = _make_search(self.policy.get_vector(), self.sigma, self.population_size, self.sep_above)
        self._search.reseed_rng(int(rng.integers(2**31)))
        return np.array([self._search.ask() for _ in range(self.population_size)], dtype=np.float32)  # [P, n_params]

    def _tell(self, candidates: Array, fitness: Array) -> None:
        self._search.tell([(x.astype(np.float64), -float(f)) for x, f in zip(candidates, fitness, strict=True)])  # minimises
        self.policy.set_vector(self._search.mean)


def _make_search(mean: Array, sigma: float, population_size: int, sep_above: int) -> Any:
    try:
        from cmaes import CMA, SepCMA
    except ImportError as error:
        raise ImportError("CMAES needs the package cmaes: pip install 'sb3-lecture[evolution]'") from error
    search = SepCMA if len(mean) > sep_above else CMA
    return search(mean=mean.astype(np.float64), sigma=sigma, population_size=population_size)
