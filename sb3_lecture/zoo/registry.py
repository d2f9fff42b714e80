"""The one table of algorithms: Stable-Baselines3's, sb3-contrib's, ours, and those that other packages bring.

One row an algorithm: its class and its search space, imported when they are first asked for. Another package adds its own
through two entry-point groups::

    [project.entry-points."sb3_lecture.algorithms"]
    my_algo = "my_package.my_algo:MyAlgo"

    [project.entry-points."sb3_lecture.search_spaces"]
    my_algo = "my_package.my_algo:sample_my_algo"

and may ship ``zoo_configs/my_algo.yml`` inside ``my_package``.
"""

import importlib
import importlib.metadata
import sys
from collections.abc import Callable, Iterable
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple

from sb3_lecture.zoo.errors import UserError, nearest

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm


class Row(NamedTuple):
    """Where an algorithm is.

    :param target: "module:Class"
    :param space: its search space, a function of ``sb3_lecture.zoo.search_spaces`` or "module:function", in rl_zoo3's form
        (trial, n_actions, n_envs, additional_args) → hyperparameters; "": the one that rl_zoo3 itself has
    """

    target: str
    space: str = ""


#: name on the command line → where it is
ALGORITHMS: dict[str, Row] = {
    # Stable-Baselines3
    "a2c": Row("stable_baselines3:A2C"),
    "ddpg": Row("stable_baselines3:DDPG"),
    "dqn": Row("stable_baselines3:DQN"),
    "ppo": Row("stable_baselines3:PPO"),
    "sac": Row("stable_baselines3:SAC"),
    "td3": Row("stable_baselines3:TD3"),
    # sb3-contrib
    "ars": Row("sb3_contrib:ARS"),
    "crossq": Row("sb3_contrib:CrossQ", "sample_crossq"),
    "ppo_lstm": Row("sb3_contrib:RecurrentPPO"),
    "ppo_mask": Row("sb3_contrib:MaskablePPO", "rl_zoo3.hyperparams_opt:sample_ppo_params"),
    "qrdqn": Row("sb3_contrib:QRDQN"),
    "tqc": Row("sb3_contrib:TQC"),
    "trpo": Row("sb3_contrib:TRPO"),
    # ours: tables
    "double_q_learning": Row("sb3_lecture.tabular.double_q_learning:DoubleQLearning", "sample_table"),
    "dyna_q": Row("sb3_lecture.tabular.dyna_q:DynaQ", "sample_dyna_q"),
    "expected_sarsa": Row("sb3_lecture.tabular.expected_sarsa:ExpectedSarsa", "sample_table"),
    "gradient_bandit": Row("sb3_lecture.tabular.gradient_bandit:GradientBandit", "sample_gradient_bandit"),
    "monte_carlo_control": Row("sb3_lecture.tabular.monte_carlo_control:MonteCarloControl", "sample_monte_carlo_control"),
    "monte_carlo_prediction": Row(
        "sb3_lecture.tabular.monte_carlo_prediction:MonteCarloPrediction", "sample_monte_carlo_prediction"
    ),
    "n_step_sarsa": Row("sb3_lecture.tabular.n_step_sarsa:NStepSarsa", "sample_n_step_sarsa"),
    "off_policy_n_step_sarsa": Row(
        "sb3_lecture.tabular.off_policy_n_step_sarsa:OffPolicyNStepSarsa", "sample_off_policy_n_step_sarsa"
    ),
    "option_q_learning": Row("sb3_lecture.tabular.option_q_learning:OptionQLearning", "sample_table"),
    "policy_evaluation": Row("sb3_lecture.tabular.policy_evaluation:PolicyEvaluation", "sample_planning"),
    "policy_iteration": Row("sb3_lecture.tabular.policy_iteration:PolicyIteration", "sample_policy_iteration"),
    "prioritized_sweeping": Row("sb3_lecture.tabular.prioritized_sweeping:PrioritizedSweeping", "sample_prioritized_sweeping"),
    "q_lambda": Row("sb3_lecture.tabular.q_lambda:QLambda", "sample_q_lambda"),
    "q_learning": Row("sb3_lecture.tabular.q_learning:QLearning", "sample_table"),
    "q_sigma": Row("sb3_lecture.tabular.q_sigma:QSigma", "sample_q_sigma"),
    "sarsa": Row("sb3_lecture.tabular.sarsa:Sarsa", "sample_table"),
    "sarsa_lambda": Row("sb3_lecture.tabular.sarsa_lambda:SarsaLambda", "sample_sarsa_lambda"),
    "td_prediction": Row("sb3_lecture.tabular.td_prediction:TDPrediction", "sample_td_prediction"),
    "tree_backup": Row("sb3_lecture.tabular.tree_backup:TreeBackup", "sample_n_step_sarsa"),
    "value_iteration": Row("sb3_lecture.tabular.value_iteration:ValueIteration", "sample_planning"),
    # ours: weights on fixed features
    "gradient_td": Row("sb3_lecture.linear.gradient_td:GradientTD", "sample_gradient_td"),
    "lstd": Row("sb3_lecture.linear.lstd:LSTD", "sample_lstd"),
    "semi_gradient_q": Row("sb3_lecture.linear.semi_gradient_q:SemiGradientQ", "sample_linear"),
    "semi_gradient_sarsa": Row("sb3_lecture.linear.semi_gradient_sarsa:SemiGradientSarsa", "sample_semi_gradient_sarsa"),
    "semi_gradient_td": Row("sb3_lecture.linear.semi_gradient_td:SemiGradientTD", "sample_semi_gradient_td"),
    # ours: policy gradients
    "actor_critic": Row("sb3_lecture.policy_gradient.actor_critic:ActorCritic", "sample_actor_critic"),
    "mpo": Row("sb3_lecture.policy_gradient.mpo:MPO", "sample_mpo"),
    "ppo_penalty": Row("sb3_lecture.policy_gradient.ppo_penalty:PPOPenalty", "sample_ppo_penalty"),
    "reinforce": Row("sb3_lecture.policy_gradient.reinforce:REINFORCE", "sample_reinforce"),
    "sac_discrete": Row("sb3_lecture.policy_gradient.sac_discrete:SACDiscrete", "sample_sac_discrete"),
    # ours: values
    "barebone_dqn": Row("sb3_lecture.value_based.barebone_dqn:BareboneDQN", "sample_barebone_dqn"),
    "c51": Row("sb3_lecture.value_based.c51:C51", "sample_c51"),
    "deep_q_learning": Row("sb3_lecture.value_based.deep_q_learning:DeepQLearning", "sample_deep_q_learning"),
    "iqn": Row("sb3_lecture.value_based.iqn:IQN", "sample_iqn"),
    "rainbow": Row("sb3_lecture.value_based.rainbow:Rainbow", "sample_rainbow"),
    # ours: data alone
    "awac": Row("sb3_lecture.offline.awac:AWAC", "sample_awac"),
    "bc": Row("sb3_lecture.offline.bc:BC", "sample_offline"),
    "bcq": Row("sb3_lecture.offline.bcq:BCQ", "sample_bcq"),
    "cql": Row("sb3_lecture.offline.cql:CQL", "sample_cql"),
    "decision_transformer": Row("sb3_lecture.offline.decision_transformer:DecisionTransformer", "sample_decision_transformer"),
    "iql": Row("sb3_lecture.offline.iql:IQL", "sample_iql"),
    "td3bc": Row("sb3_lecture.offline.td3bc:TD3BC", "sample_td3bc"),
    # ours: models and search
    "alphazero": Row("sb3_lecture.model_based.alphazero:AlphaZero", "sample_alphazero"),
    "dreamer_v3": Row("sb3_lecture.model_based.dreamer_v3:DreamerV3", "sample_dreamer_v3"),
    "muzero": Row("sb3_lecture.model_based.muzero:MuZero", "sample_muzero"),
    "world_models": Row("sb3_lecture.model_based.world_models:WorldModels", "sample_world_models"),
    # ours: games of hidden information
    "cfr": Row("sb3_lecture.games.cfr:CFR", "sample_cfr"),
    "cfr_plus": Row("sb3_lecture.games.cfr_plus:CFRPlus", "sample_cfr"),
    "magnet_ppo": Row("sb3_lecture.games.magnet_ppo:MagnetPPO", "sample_magnet_ppo"),
    "mccfr": Row("sb3_lecture.games.mccfr:MCCFR", "sample_mccfr"),
    "rnad": Row("sb3_lecture.games.rnad:RNaD", "sample_rnad"),
    "tabular_rnad": Row("sb3_lecture.games.tabular_rnad:TabularRNaD", "sample_tabular_rnad"),
    # ours: learning from preferences
    "dpo": Row("sb3_lecture.preferences.dpo:DPO", "sample_dpo"),
    "reward_model": Row("sb3_lecture.preferences.reward_model:RewardModel", "sample_sft"),
    "rlhf": Row("sb3_lecture.preferences.rlhf:RLHF", "sample_rlhf"),
    "sft": Row("sb3_lecture.preferences.sft:SFT", "sample_sft"),
    # ours: evolution
    "cmaes": Row("sb3_lecture.evolutionary.cma_es:CMAES", "sample_cmaes"),
    "es": Row("sb3_lecture.evolutionary.evolution_strategies:EvolutionStrategies", "sample_es"),
    "ga": Row("sb3_lecture.evolutionary.genetic_algorithm:GeneticAlgorithm", "sample_ga"),
}

#: entry-point groups of other packages
ALGORITHM_GROUP, SPACE_GROUP = "sb3_lecture.algorithms", "sb3_lecture.search_spaces"
_SPACES_MODULE = "sb3_lecture.zoo.search_spaces"


@cache
def algorithms() -> dict[str, Row]:
    """Return every known algorithm by name: the table above, and what installed packages add to it."""
    table = dict(ALGORITHMS)
    for entry in importlib.metadata.entry_points(group=ALGORITHM_GROUP):
        if entry.name in ALGORITHMS:
            _ignore(entry.value, f"the name {entry.name!r} is taken by {ALGORITHMS[entry.name].target}")
        else:
            table[entry.name] = Row(entry.value)
    for entry in importlib.metadata.entry_points(group=SPACE_GROUP):
        if entry.name in ALGORITHMS:
            _ignore(entry.value, f"{entry.name!r} is no algorithm of its package, but {ALGORITHMS[entry.name].target}")
        elif entry.name not in table:
            _ignore(entry.value, f"no package brings an algorithm {entry.name!r} (entry points of {ALGORITHM_GROUP!r})")
        else:
            table[entry.name] = table[entry.name]._replace(space=entry.value)
    return dict(sorted(table.items()))


def _ignore(value: str, reason: str) -> None:
    print(f"Ignoring {value!r}: {reason}", file=sys.stderr)


def row(name: str) -> Row:
    """Return where an algorithm and its search space are.

    :raises UserError: if there is no such algorithm
    """
    table = algorithms()
    if name not in table:
        raise UserError(f"unknown algorithm {name!r}{nearest(name, table)}; known: {', '.join(table)}")
    return table[name]


def target(name: str) -> str:
    """Return where an algorithm lives, as "module:Class".

    :raises UserError: if there is no such algorithm
    """
    return row(name).target


def algorithm(name: str) -> "type[BaseAlgorithm]":
    """Import an algorithm's class.

    :param name: its name on the command line
    :raises UserError: if there is no such algorithm, or its package cannot be imported
    """
    return _load(target(name))


def search_space(name: str) -> Callable[..., dict[str, Any]]:
    """Return the search space of an algorithm: its row's, otherwise rl_zoo3's.

    :raises UserError: if there is no such algorithm, or neither has a space for it
    """
    space = row(name).space
    if space:
        return _load(space if ":" in space else f"{_SPACES_MODULE}:{space}")
    from rl_zoo3.hyperparams_opt import HYPERPARAMS_SAMPLER

    if name not in HYPERPARAMS_SAMPLER:
        raise UserError(f"{name} has no search space; its package can bring one (entry points of {SPACE_GROUP!r})")
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
    except (AttributeError, ValueError) as error:  # a wrong name, or an empty one
        raise UserError(f"cannot import {where!r}: {error}; write module:name") from error
