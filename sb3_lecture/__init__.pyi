"""Every public name of the package and the file it lives in; the lazy loader reads this table at run time."""

from .evolutionary.cma_es import CMAES as CMAES
from .evolutionary.evolution_strategies import EvolutionStrategies as EvolutionStrategies
from .evolutionary.genetic_algorithm import GeneticAlgorithm as GeneticAlgorithm
from .policy_gradient.actor_critic import ActorCritic as ActorCritic
from .policy_gradient.ppo_penalty import PPOPenalty as PPOPenalty
from .policy_gradient.reinforce import REINFORCE as REINFORCE
from .value_based.barebone_dqn import BareboneDQN as BareboneDQN

__all__ = [
    "CMAES",
    "REINFORCE",
    "ActorCritic",
    "BareboneDQN",
    "EvolutionStrategies",
    "GeneticAlgorithm",
    "PPOPenalty",
]
