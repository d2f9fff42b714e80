"""Every public name of the package and the file it lives in; the lazy loader reads this table at run time."""

from .evolutionary.cma_es import CMAES as CMAES
from .evolutionary.evolution_strategies import EvolutionStrategies as EvolutionStrategies
from .evolutionary.genetic_algorithm import GeneticAlgorithm as GeneticAlgorithm
from .games.cfr import CFR as CFR
from .games.cfr_plus import CFRPlus as CFRPlus
from .games.league import League as League
from .games.magnet_ppo import MagnetPPO as MagnetPPO
from .games.mccfr import MCCFR as MCCFR
from .games.rnad import RNaD as RNaD
from .games.tabular_rnad import TabularRNaD as TabularRNaD
from .linear.gradient_td import GradientTD as GradientTD
from .linear.lstd import LSTD as LSTD
from .linear.semi_gradient_q import SemiGradientQ as SemiGradientQ
from .linear.semi_gradient_sarsa import SemiGradientSarsa as SemiGradientSarsa
from .linear.semi_gradient_td import SemiGradientTD as SemiGradientTD
from .model_based.alphazero import AlphaZero as AlphaZero
from .model_based.dreamer_v3 import DreamerV3 as DreamerV3
from .model_based.muzero import MuZero as MuZero
from .model_based.world_models import WorldModels as WorldModels
from .offline.awac import AWAC as AWAC
from .offline.bc import BC as BC
from .offline.bcq import BCQ as BCQ
from .offline.cql import CQL as CQL
from .offline.dataset import OfflineDataset as OfflineDataset
from .offline.decision_transformer import DecisionTransformer as DecisionTransformer
from .offline.iql import IQL as IQL
from .offline.td3bc import TD3BC as TD3BC
from .policy_gradient.actor_critic import ActorCritic as ActorCritic
from .policy_gradient.mpo import MPO as MPO
from .policy_gradient.ppo_penalty import PPOPenalty as PPOPenalty
from .policy_gradient.reinforce import REINFORCE as REINFORCE
from .policy_gradient.sac_discrete import SACDiscrete as SACDiscrete
from .preferences.dpo import DPO as DPO
from .preferences.reward_model import RewardModel as RewardModel
from .preferences.rlhf import RLHF as RLHF
from .preferences.sft import SFT as SFT
from .tabular.double_q_learning import DoubleQLearning as DoubleQLearning
from .tabular.dyna_q import DynaQ as DynaQ
from .tabular.expected_sarsa import ExpectedSarsa as ExpectedSarsa
from .tabular.gradient_bandit import GradientBandit as GradientBandit
from .tabular.monte_carlo_control import MonteCarloControl as MonteCarloControl
from .tabular.monte_carlo_prediction import MonteCarloPrediction as MonteCarloPrediction
from .tabular.n_step_sarsa import NStepSarsa as NStepSarsa
from .tabular.off_policy_n_step_sarsa import OffPolicyNStepSarsa as OffPolicyNStepSarsa
from .tabular.option_q_learning import OptionQLearning as OptionQLearning
from .tabular.policy_evaluation import PolicyEvaluation as PolicyEvaluation
from .tabular.policy_iteration import PolicyIteration as PolicyIteration
from .tabular.prioritized_sweeping import PrioritizedSweeping as PrioritizedSweeping
from .tabular.q_lambda import QLambda as QLambda
from .tabular.q_learning import QLearning as QLearning
from .tabular.q_sigma import QSigma as QSigma
from .tabular.sarsa import Sarsa as Sarsa
from .tabular.sarsa_lambda import SarsaLambda as SarsaLambda
from .tabular.td_prediction import TDPrediction as TDPrediction
from .tabular.tree_backup import TreeBackup as TreeBackup
from .tabular.value_iteration import ValueIteration as ValueIteration
from .value_based.barebone_dqn import BareboneDQN as BareboneDQN
from .value_based.c51 import C51 as C51
from .value_based.deep_q_learning import DeepQLearning as DeepQLearning
from .value_based.iqn import IQN as IQN
from .value_based.rainbow import Rainbow as Rainbow

__all__ = [
    "C51",
    "CFR",
    "CMAES",
    "DPO",
    "IQN",
    "LSTD",
    "MCCFR",
    "MPO",
    "REINFORCE",
    "RLHF",
    "SFT",
    "ActorCritic",
    "AlphaZero",
    "BareboneDQN",
    "CFRPlus",
    "DeepQLearning",
    "DoubleQLearning",
    "DreamerV3",
    "DynaQ",
    "EvolutionStrategies",
    "ExpectedSarsa",
    "GeneticAlgorithm",
    "GradientBandit",
    "GradientTD",
    "League",
    "MagnetPPO",
    "MonteCarloControl",
    "MonteCarloPrediction",
    "MuZero",
    "NStepSarsa",
    "OffPolicyNStepSarsa",
    "OptionQLearning",
    "PPOPenalty",
    "PolicyEvaluation",
    "PolicyIteration",
    "PrioritizedSweeping",
    "QLambda",
    "QLearning",
    "QSigma",
    "RNaD",
    "Rainbow",
    "RewardModel",
    "SACDiscrete",
    "Sarsa",
    "SarsaLambda",
    "SemiGradientQ",
    "SemiGradientSarsa",
    "SemiGradientTD",
    "TDPrediction",
    "TabularRNaD",
    "TreeBackup",
    "ValueIteration",
    "WorldModels",
]
