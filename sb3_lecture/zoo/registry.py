"""The one table of algorithms: Stable-Baselines3's, sb3-contrib's, ours, and those that other packages bring.

An algorithm is named as ``"module:Class"`` and its module is imported when it is first asked for. Another package adds its
own through the entry-point group ``sb3_lecture.algorithms``::

    [project.entry-points."sb3_lecture.algorithms"]
    my_algo = "my_package.my_algo:MyAlgo"

and may ship ``zoo_configs/my_algo.yml`` inside ``my_package``.
"""

import importlib
import importlib.metadata
import sys
from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING, Any

from sb3_lecture.zoo.errors import UserError, nearest

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm

#: name on the command line → "module:Class"
ALGORITHMS: dict[str, str] = {
    # Stable-Baselines3
    "a2c": "stable_baselines3:A2C",
    "ddpg": "stable_baselines3:DDPG",
    "dqn": "stable_baselines3:DQN",
    "ppo": "stable_baselines3:PPO",
    "sac": "stable_baselines3:SAC",
    "td3": "stable_baselines3:TD3",
    # sb3-contrib
    "ars": "sb3_contrib:ARS",
    "crossq": "sb3_contrib:CrossQ",
    "ppo_lstm": "sb3_contrib:RecurrentPPO",
    "ppo_mask": "sb3_contrib:MaskablePPO",
    "qrdqn": "sb3_contrib:QRDQN",
    "tqc": "sb3_contrib:TQC",
    "trpo": "sb3_contrib:TRPO",
    # ours: tables
    "double_q_learning": "sb3_lecture.tabular.double_q_learning:DoubleQLearning",
    "dyna_q": "sb3_lecture.tabular.dyna_q:DynaQ",
    "expected_sarsa": "sb3_lecture.tabular.expected_sarsa:ExpectedSarsa",
    "gradient_bandit": "sb3_lecture.tabular.gradient_bandit:GradientBandit",
    "monte_carlo_control": "sb3_lecture.tabular.monte_carlo_control:MonteCarloControl",
    "monte_carlo_prediction": "sb3_lecture.tabular.monte_carlo_prediction:MonteCarloPrediction",
    "n_step_sarsa": "sb3_lecture.tabular.n_step_sarsa:NStepSarsa",
    "policy_evaluation": "sb3_lecture.tabular.policy_evaluation:PolicyEvaluation",
    "policy_iteration": "sb3_lecture.tabular.policy_iteration:PolicyIteration",
    "prioritized_sweeping": "sb3_lecture.tabular.prioritized_sweeping:PrioritizedSweeping",
    "q_lambda": "sb3_lecture.tabular.q_lambda:QLambda",
    "q_learning": "sb3_lecture.tabular.q_learning:QLearning",
    "sarsa": "sb3_lecture.tabular.sarsa:Sarsa",
    "sarsa_lambda": "sb3_lecture.tabular.sarsa_lambda:SarsaLambda",
    "td_prediction": "sb3_lecture.tabular.td_prediction:TDPrediction",
    "value_iteration": "sb3_lecture.tabular.value_iteration:ValueIteration",
    # ours: policy gradients
    "actor_critic": "sb3_lecture.policy_gradient.actor_critic:ActorCritic",
    "ppo_penalty": "sb3_lecture.policy_gradient.ppo_penalty:PPOPenalty",
    "reinforce": "sb3_lecture.policy_gradient.reinforce:REINFORCE",
    "sac_discrete": "sb3_lecture.policy_gradient.sac_discrete:SACDiscrete",
    # ours: values
    "barebone_dqn": "sb3_lecture.value_based.barebone_dqn:BareboneDQN",
    # ours: models and search
    "alphazero": "sb3_lecture.model_based.alphazero:AlphaZero",
    "dreamer_v3": "sb3_lecture.model_based.dreamer_v3:DreamerV3",
    "muzero": "sb3_lecture.model_based.muzero:MuZero",
    "world_models": "sb3_lecture.model_based.world_models:WorldModels",
    # ours: evolution
    "cmaes": "sb3_lecture.evolutionary.cma_es:CMAES",
    "es": "sb3_lecture.evolutionary.evolution_strategies:EvolutionStrategies",
    "ga": "sb3_lecture.evolutionary.genetic_algorithm:GeneticAlgorithm",
}

#: name → "module:function" of the algorithm's search space, in rl_zoo3's form
#: (trial, n_actions, n_envs, additional_args) → hyperparameters; rl_zoo3's own spaces serve where none is named
SEARCH_SPACES: dict[str, str] = {
    "actor_critic": "sb3_lecture.zoo.search_spaces:sample_actor_critic",
    "alphazero": "sb3_lecture.zoo.search_spaces:sample_alphazero",
    "barebone_dqn": "sb3_lecture.zoo.search_spaces:sample_barebone_dqn",
    "cmaes": "sb3_lecture.zoo.search_spaces:sample_cmaes",
    "crossq": "sb3_lecture.zoo.search_spaces:sample_crossq",
    "double_q_learning": "sb3_lecture.zoo.search_spaces:sample_table",
    "dreamer_v3": "sb3_lecture.zoo.search_spaces:sample_dreamer_v3",
    "dyna_q": "sb3_lecture.zoo.search_spaces:sample_dyna_q",
    "es": "sb3_lecture.zoo.search_spaces:sample_es",
    "expected_sarsa": "sb3_lecture.zoo.search_spaces:sample_table",
    "ga": "sb3_lecture.zoo.search_spaces:sample_ga",
    "gradient_bandit": "sb3_lecture.zoo.search_spaces:sample_gradient_bandit",
    "monte_carlo_control": "sb3_lecture.zoo.search_spaces:sample_monte_carlo_control",
    "monte_carlo_prediction": "sb3_lecture.zoo.search_spaces:sample_monte_carlo_prediction",
    "muzero": "sb3_lecture.zoo.search_spaces:sample_muzero",
    "n_step_sarsa": "sb3_lecture.zoo.search_spaces:sample_n_step_sarsa",
    "policy_evaluation": "sb3_lecture.zoo.search_spaces:sample_planning",
    "policy_iteration": "sb3_lecture.zoo.search_spaces:sample_policy_iteration",
    "ppo_penalty": "sb3_lecture.zoo.search_spaces:sample_ppo_penalty",
    "prioritized_sweeping": "sb3_lecture.zoo.search_spaces:sample_prioritized_sweeping",
    "q_lambda": "sb3_lecture.zoo.search_spaces:sample_q_lambda",
    "q_learning": "sb3_lecture.zoo.search_spaces:sample_table",
    "reinforce": "sb3_lecture.zoo.search_spaces:sample_reinforce",
    "sac_discrete": "sb3_lecture.zoo.search_spaces:sample_sac_discrete",
    "sarsa": "sb3_lecture.zoo.search_spaces:sample_table",
    "sarsa_lambda": "sb3_lecture.zoo.search_spaces:sample_sarsa_lambda",
    "td_prediction": "sb3_lecture.zoo.search_spaces:sample_td_prediction",
    "value_iteration": "sb3_lecture.zoo.search_spaces:sample_planning",
    "world_models": "sb3_lecture.zoo.search_spaces:sample_world_models",
    "ppo_mask": "rl_zoo3.hyperparams_opt:sample_ppo_params",
}

ENTRY_POINT_GROUP = "sb3_lecture.algorithms"


@cache
def algorithms() -> dict[str, str]:
    """Return every known algorithm, name → "module:Class": the table above, and what installed packages add to it."""
    table = dict(ALGORITHMS)
    for entry in importlib.metadata.entry_points(group=ENTRY_POINT_GROUP):
        if entry.name in ALGORITHMS:
            print(f"Ignoring {entry.value!r}: the name {entry.name!r} is taken by {ALGORITHMS[entry.name]}", file=sys.stderr)
        else:
            table[entry.name] = entry.value
    return dict(sorted(table.items()))


def target(name: str) -> str:
    """Return where an algorithm lives, as "module:Class".

    :raises UserError: if there is no such algorithm
    """
    table = algorithms()
    if name not in table:
        raise UserError(f"unknown algorithm {name!r}{nearest(name, table)}; known: {', '.join(table)}")
    return table[name]


def algorithm(name: str) -> "type[BaseAlgorithm]":
    """Import an algorithm's class.

    :param name: its name on the command line
    :raises UserError: if there is no such algorithm, or its package cannot be imported
    """
    return _load(target(name))


def search_space(name: str) -> Callable[..., dict[str, Any]]:
    """Return the search space of an algorithm: the one named in ``SEARCH_SPACES``, otherwise rl_zoo3's.

    :raises UserError: if neither has one
    """
    from rl_zoo3.hyperparams_opt import HYPERPARAMS_SAMPLER

    if name in SEARCH_SPACES:
        return _load(SEARCH_SPACES[name])
    if name not in HYPERPARAMS_SAMPLER:
        known = sorted({*SEARCH_SPACES, *HYPERPARAMS_SAMPLER})
        raise UserError(f"{name} has no search space yet; spaces exist for {', '.join(known)}")
    return HYPERPARAMS_SAMPLER[name]


def fill_rl_zoo3(names: Iterable[str] | None = None) -> None:
    """Enter algorithms into rl_zoo3's own table, which all of its commands look them up in.

    :param names: the algorithms to import and enter; None: all
    """
    from rl_zoo3.utils import ALGOS

    for name in algorithms() if names is None else names:
        ALGOS[name] = algorithm(name)


def _load(where: str) -> Any:
    module, _, attribute = where.partition(":")
    try:
        return getattr(importlib.import_module(module), attribute)
    except ModuleNotFoundError as error:
        raise UserError(f"cannot import {where!r}: {error}; is its package installed?") from error
