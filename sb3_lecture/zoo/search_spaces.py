"""Search spaces of the algorithms that rl_zoo3 has none for, in its form: (trial, n_actions, n_envs, …) → hyperparameters.

What defines the problem is not searched: a table's γ, which its exact grading solves for, and the policy that a prediction
method evaluates. ``fill_rl_zoo3`` enters all spaces into rl_zoo3's own tables too.
"""

from collections.abc import Callable, Iterable
from typing import Any

from optuna.trial import FixedTrial, Trial

from sb3_lecture.zoo import registry

Space = dict[str, Any]
NET_ARCHS = {"tiny": [64], "small": [64, 64], "medium": [256, 256]}


def convert(algo: str, params: dict[str, Any]) -> Space:
    """Turn a trial's parameters into hyperparameters by running the space on them again.

    :param algo: the algorithm's name
    :param params: the parameters, as the study holds them
    :raises ValueError: if they are not of this space
    """
    return registry.search_space(algo)(FixedTrial(params), 1, 1, no_her())


def no_her() -> dict[str, Any]:
    """The last argument of rl_zoo3's spaces: no hindsight replay (they may write into it)."""
    return {"using_her_replay_buffer": False, "her_kwargs": {}}


def fill_rl_zoo3(names: Iterable[str] | None = None) -> None:
    """Enter search spaces, and their converters, into rl_zoo3's own tables.

    :param names: the algorithms; None: all whose row names a space
    """
    from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER

    for name in [name for name, row in registry.algorithms().items() if row.space] if names is None else names:
        if name not in HYPERPARAMS_SAMPLER:
            HYPERPARAMS_SAMPLER[name] = registry.search_space(name)
        if name not in HYPERPARAMS_CONVERTER:
            HYPERPARAMS_CONVERTER[name] = _converter(name)


def _converter(name: str) -> Callable[..., Space]:
    def converter(sampled_params: dict[str, Any]) -> Space:
        return convert(name, sampled_params)

    return converter


# --- pieces ----------------------------------------------------------------------------------------------------------


def _discount(trial: Trial) -> float:
    return 1.0 - trial.suggest_float("one_minus_gamma", 1e-4, 0.1, log=True)


def _net(trial: Trial, *names: str) -> dict[str, Any]:
    return {"net_arch": NET_ARCHS[trial.suggest_categorical("net_arch", list(names or NET_ARCHS))]}


def _epsilon(trial: Trial) -> Space:
    """ε falls from the config's first value."""
    return {
        "exploration_fraction": trial.suggest_float("exploration_fraction", 0.02, 1.0),
        "exploration_final_eps": trial.suggest_float("exploration_final_eps", 0.0, 0.3),
    }


def _rate_or_average(trial: Trial) -> float | str:
    """α, or the sample average."""
    if trial.suggest_categorical("average", [True, False]):
        return "1/N"
    return trial.suggest_float("learning_rate", 1e-3, 1.0, log=True)


# --- tables ----------------------------------------------------------------------------------------------------------


def sample_table(trial: Trial, *_: Any) -> Space:
    """Q-learning, Double Q-learning, Sarsa, Expected Sarsa."""
    return {"learning_rate": trial.suggest_float("learning_rate", 0.01, 1.0, log=True), **_epsilon(trial)}


def sample_n_step_sarsa(trial: Trial, *_: Any) -> Space:
    """n-step Sarsa, n-step tree backup."""
    return {**sample_table(trial), "n_steps": trial.suggest_int("n_steps", 1, 32, log=True)}


def sample_off_policy_n_step_sarsa(trial: Trial, *_: Any) -> Space:
    """Off-policy n-step Sarsa."""
    return {**sample_n_step_sarsa(trial), "expected": trial.suggest_categorical("expected", [False, True])}


def sample_q_sigma(trial: Trial, *_: Any) -> Space:
    """n-step Q(σ)."""
    return {**sample_n_step_sarsa(trial), "sigma": trial.suggest_float("sigma", 0.0, 1.0)}


def sample_q_lambda(trial: Trial, *_: Any) -> Space:
    """Watkins's Q(λ)."""
    return {**sample_table(trial), "lambda_": trial.suggest_float("lambda_", 0.0, 1.0)}


def sample_sarsa_lambda(trial: Trial, *_: Any) -> Space:
    """Sarsa(λ)."""
    kinds = ["accumulating", "replacing", "true-online"]
    return {**sample_q_lambda(trial), "traces": trial.suggest_categorical("traces", kinds)}


def sample_dyna_q(trial: Trial, *_: Any) -> Space:
    """Dyna-Q."""
    return {**sample_table(trial), "n_planning_steps": trial.suggest_int("n_planning_steps", 1, 100, log=True)}


def sample_prioritized_sweeping(trial: Trial, *_: Any) -> Space:
    """Prioritized sweeping."""
    return {**sample_dyna_q(trial), "threshold": trial.suggest_float("threshold", 1e-8, 1e-1, log=True)}


def sample_monte_carlo_control(trial: Trial, *_: Any) -> Space:
    """Monte Carlo control."""
    return {
        "learning_rate": _rate_or_average(trial),
        "visits": trial.suggest_categorical("visits", ["first", "every"]),
        **_epsilon(trial),
    }


def sample_gradient_bandit(trial: Trial, *_: Any) -> Space:
    """The gradient bandit."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 0.01, 1.0, log=True),
        "baseline": trial.suggest_categorical("baseline", [True, False]),
    }


def sample_td_prediction(trial: Trial, *_: Any) -> Space:
    """n-step TD."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-3, 1.0, log=True),
        "n_steps": trial.suggest_int("n_steps", 1, 64, log=True),
    }


def sample_monte_carlo_prediction(trial: Trial, *_: Any) -> Space:
    """Monte Carlo prediction."""
    return {
        "learning_rate": _rate_or_average(trial),
        "visits": trial.suggest_categorical("visits", ["first", "every"]),
    }


def sample_planning(trial: Trial, *_: Any) -> Space:
    """Policy evaluation and value iteration: when to stop is all there is."""
    return {"tol": trial.suggest_float("tol", 1e-10, 1.0, log=True)}


def sample_policy_iteration(trial: Trial, *_: Any) -> Space:
    """Policy iteration: how exactly each policy is evaluated."""
    return {
        **sample_planning(trial),
        "max_evaluation_sweeps": trial.suggest_int("max_evaluation_sweeps", 1, 200, log=True),
    }


# --- weights on fixed features; which features stays the config's choice ----------------------------------------------


def sample_linear(trial: Trial, *_: Any) -> Space:
    """Semi-gradient Q-learning."""
    return {"learning_rate": trial.suggest_float("learning_rate", 1e-3, 0.5, log=True), **_epsilon(trial)}


def sample_semi_gradient_sarsa(trial: Trial, *_: Any) -> Space:
    """Semi-gradient Sarsa(λ)."""
    return {
        **sample_linear(trial),
        "lambda_": trial.suggest_float("lambda_", 0.0, 1.0),
        "traces": trial.suggest_categorical("traces", ["accumulating", "replacing", "true-online"]),
    }


def sample_semi_gradient_td(trial: Trial, *_: Any) -> Space:
    """n-step semi-gradient TD."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1.0, log=True),
        "n_steps": trial.suggest_int("n_steps", 1, 64, log=True),
    }


def sample_gradient_td(trial: Trial, *_: Any) -> Space:
    """Gradient TD."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 0.5, log=True),
        "secondary_learning_rate": trial.suggest_float("secondary_learning_rate", 1e-4, 0.5, log=True),
        "variant": trial.suggest_categorical("variant", ["tdc", "gtd2"]),
    }


def sample_lstd(trial: Trial, *_: Any) -> Space:
    """Least-squares TD(λ)."""
    return {
        "lambda_": trial.suggest_float("lambda_", 0.0, 1.0),
        "ridge": trial.suggest_float("ridge", 1e-6, 10.0, log=True),
    }


# --- policy gradients and values -------------------------------------------------------------------------------------


def sample_reinforce(trial: Trial, *_: Any) -> Space:
    """REINFORCE."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 3e-2, log=True),
        "n_episodes": 2 ** trial.suggest_int("n_episodes_pow", 0, 6),
        "gamma": _discount(trial),
        "baseline": trial.suggest_categorical("baseline", [None, "mean", "value"]),
        "normalize_returns": trial.suggest_categorical("normalize_returns", [True, False]),
        "ent_coef": trial.suggest_float("ent_coef", 1e-8, 0.1, log=True),
        "policy_kwargs": _net(trial, "tiny", "small"),
    }


def sample_actor_critic(trial: Trial, *_: Any) -> Space:
    """Actor-critic, one step or several."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
        "n_steps": trial.suggest_int("n_steps", 1, 32, log=True),
        "gamma": _discount(trial),
        "ent_coef": trial.suggest_float("ent_coef", 1e-8, 0.2, log=True),
        "vf_coef": trial.suggest_float("vf_coef", 0.1, 1.0),
        "policy_kwargs": _net(trial, "tiny", "small"),
    }


def sample_ppo_penalty(trial: Trial, *_: Any) -> Space:
    """PPO with an adaptive penalty."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-5, 5e-3, log=True),
        "n_steps": 2 ** trial.suggest_int("n_steps_pow", 4, 11),
        "batch_size": 2 ** trial.suggest_int("batch_size_pow", 4, 9),
        "n_epochs": trial.suggest_int("n_epochs", 1, 20, log=True),
        "gamma": _discount(trial),
        "gae_lambda": 1.0 - trial.suggest_float("one_minus_gae_lambda", 1e-3, 0.3, log=True),
        "target_kl": trial.suggest_float("target_kl", 1e-3, 0.1, log=True),
        "ent_coef": trial.suggest_float("ent_coef", 1e-8, 0.1, log=True),
        "policy_kwargs": _net(trial),
    }


def _off_policy(trial: Trial) -> Space:
    """As many gradient steps as env steps."""
    train_freq = trial.suggest_int("train_freq", 1, 10)
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-5, 5e-3, log=True),
        "batch_size": 2 ** trial.suggest_int("batch_size_pow", 4, 9),
        "gamma": _discount(trial),
        "train_freq": train_freq,
        "gradient_steps": train_freq,
        "policy_kwargs": _net(trial),
    }


def sample_sac_discrete(trial: Trial, *_: Any) -> Space:
    """SAC for discrete actions."""
    return {**_off_policy(trial), "tau": trial.suggest_float("tau", 1e-3, 0.1, log=True)}


def sample_mpo(trial: Trial, *_: Any) -> Space:
    """MPO: how far q and the policy may go, and how often the copies are renewed."""
    return {
        **_off_policy(trial),
        "epsilon": trial.suggest_float("epsilon", 0.01, 1.0, log=True),
        "epsilon_mean": trial.suggest_float("epsilon_mean", 1e-3, 0.1, log=True),
        "epsilon_std": trial.suggest_float("epsilon_std", 1e-6, 1e-2, log=True),
        "target_update_interval": 2 ** trial.suggest_int("target_update_interval_pow", 3, 8),
    }


def sample_crossq(trial: Trial, *_: Any) -> Space:
    """CrossQ: no target network, so no τ."""
    return {**_off_policy(trial), "policy_delay": trial.suggest_int("policy_delay", 1, 4)}


def sample_barebone_dqn(trial: Trial, *_: Any) -> Space:
    """The DQN built from its parts; which parts are in it stays the config's choice."""
    space = _off_policy(trial)
    del space["gradient_steps"]  # without a memory there is one
    interval = trial.suggest_int("target_update_interval", 10, 10_000, log=True)
    return {**space, **_epsilon(trial), "target_update_interval": interval}


def sample_deep_q_learning(trial: Trial, *_: Any) -> Space:
    """DQN with switches; which of them are on stays the config's choice."""
    interval = trial.suggest_int("target_update_interval", 10, 10_000, log=True)
    return {**_off_policy(trial), **_epsilon(trial), "target_update_interval": interval}


def sample_c51(trial: Trial, *_: Any) -> Space:
    """C51; how far the atoms reach follows from the rewards, so it stays the config's choice."""
    return {**sample_deep_q_learning(trial), "n_atoms": trial.suggest_int("n_atoms", 11, 101, step=10)}


def sample_iqn(trial: Trial, *_: Any) -> Space:
    """IQN."""
    n_tau = 2 ** trial.suggest_int("n_tau_pow", 2, 6)
    return {**sample_deep_q_learning(trial), "n_tau": n_tau, "n_tau_prime": n_tau}


def sample_rainbow(trial: Trial, *_: Any) -> Space:
    """Rainbow: noise in the place of ε."""
    return {
        **_off_policy(trial),
        "target_update_interval": trial.suggest_int("target_update_interval", 10, 10_000, log=True),
        "n_steps": trial.suggest_int("n_steps", 1, 10),
        "noisy_std": trial.suggest_float("noisy_std", 0.05, 1.0, log=True),
        "per_alpha": trial.suggest_float("per_alpha", 0.0, 1.0),
    }


# --- data alone ----------------------------------------------------------------------------------------------------------


def sample_offline(trial: Trial, *_: Any) -> Space:
    """What all learners from data have; γ and the data stay the config's."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-5, 1e-2, log=True),
        "batch_size": 2 ** trial.suggest_int("batch_size_pow", 5, 9),
        "policy_kwargs": _net(trial),
    }


def sample_bcq(trial: Trial, *_: Any) -> Space:
    """BCQ."""
    return {**sample_offline(trial), "threshold": trial.suggest_float("threshold", 0.05, 0.9), **_follow(trial)}


def sample_cql(trial: Trial, *_: Any) -> Space:
    """CQL."""
    return {**sample_offline(trial), "alpha": trial.suggest_float("alpha", 0.01, 10.0, log=True), **_follow(trial)}


def sample_iql(trial: Trial, *_: Any) -> Space:
    """IQL."""
    expectile, beta = trial.suggest_float("expectile", 0.5, 0.99), trial.suggest_float("beta", 0.3, 30.0, log=True)
    return {**sample_offline(trial), "expectile": expectile, "beta": beta, **_follow(trial)}


def sample_awac(trial: Trial, *_: Any) -> Space:
    """AWAC."""
    return {**sample_offline(trial), "temperature": trial.suggest_float("temperature", 0.03, 3.0, log=True), **_follow(trial)}


def sample_decision_transformer(trial: Trial, *_: Any) -> Space:
    """Decision Transformer."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-5, 1e-2, log=True),
        "batch_size": 2 ** trial.suggest_int("batch_size_pow", 4, 8),
        "policy_kwargs": {
            "context_length": trial.suggest_int("context_length", 1, 50),
            "width": 2 ** trial.suggest_int("width_pow", 4, 7),
            "n_layers": trial.suggest_int("n_layers", 1, 4),
        },
    }


def sample_td3bc(trial: Trial, *_: Any) -> Space:
    """TD3+BC."""
    return {**sample_offline(trial), "alpha": trial.suggest_float("alpha", 0.1, 10.0, log=True), **_follow(trial)}


def _follow(trial: Trial) -> Space:
    return {"tau": trial.suggest_float("tau", 1e-3, 0.1, log=True)}


# --- evolution -------------------------------------------------------------------------------------------------------


def sample_es(trial: Trial, *_: Any) -> Space:
    """Evolution strategies."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-3, 0.3, log=True),
        "sigma": trial.suggest_float("sigma", 0.01, 1.0, log=True),
        "population_size": 2 ** trial.suggest_int("population_size_pow", 3, 7),
        "weight_decay": trial.suggest_float("weight_decay", 1e-6, 1e-1, log=True),
    }


def sample_cmaes(trial: Trial, *_: Any) -> Space:
    """CMA-ES."""
    return {
        "sigma": trial.suggest_float("sigma", 0.02, 2.0, log=True),
        "population_size": 2 ** trial.suggest_int("population_size_pow", 2, 6),
    }


def sample_ga(trial: Trial, *_: Any) -> Space:
    """The genetic algorithm."""
    population_size = 2 ** trial.suggest_int("population_size_pow", 3, 7)
    share = trial.suggest_float("parents_share", 0.02, 0.6)
    return {
        "sigma": trial.suggest_float("sigma", 0.01, 1.0, log=True),
        "population_size": population_size,
        "n_parents": max(1, round(share * population_size)),
        "n_elite_candidates": trial.suggest_int("n_elite_candidates", 1, 8),
    }


# --- models and search -----------------------------------------------------------------------------------------------


def sample_alphazero(trial: Trial, *_: Any) -> Space:
    """AlphaZero; how much is searched stays the config's choice, for more is always better and slower."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
        "batch_size": 2 ** trial.suggest_int("batch_size_pow", 5, 10),
        "train_freq": trial.suggest_int("train_freq", 1, 32, log=True),
        "gradient_steps": trial.suggest_int("gradient_steps", 1, 32, log=True),
        "c_init": trial.suggest_float("c_init", 0.5, 5.0, log=True),
        "dirichlet_alpha": trial.suggest_float("dirichlet_alpha", 0.05, 2.0, log=True),
        "temperature_moves": trial.suggest_int("temperature_moves", 1, 50, log=True),
        "q_fraction": trial.suggest_float("q_fraction", 0.0, 1.0),
        "l2_coef": trial.suggest_float("l2_coef", 1e-6, 1e-3, log=True),
        "policy_kwargs": _net(trial),
    }


def sample_dreamer_v3(trial: Trial, *_: Any) -> Space:
    """DreamerV3; size and replay ratio stay the config's choice, for more is better and slower."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 4e-5, 3e-3, log=True),
        "gamma": _discount(trial),
        "horizon": trial.suggest_int("horizon", 5, 30, log=True),
        "ent_coef": trial.suggest_float("ent_coef", 1e-4, 1.0, log=True),
        "decoder_coef": trial.suggest_float("decoder_coef", 0.3, 100.0, log=True),
        "free_bits": trial.suggest_float("free_bits", 0.1, 3.0, log=True),
    }


def sample_muzero(trial: Trial, *_: Any) -> Space:
    """MuZero; how much is searched and the reach of its bins stay the config's choice."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
        "batch_size": 2 ** trial.suggest_int("batch_size_pow", 5, 9),
        "train_freq": trial.suggest_int("train_freq", 1, 32, log=True),
        "gradient_steps": trial.suggest_int("gradient_steps", 1, 32, log=True),
        "td_steps": trial.suggest_int("td_steps", 1, 50, log=True),
        "unroll_steps": trial.suggest_int("unroll_steps", 1, 10, log=True),
        "reanalyze_ratio": trial.suggest_float("reanalyze_ratio", 0.0, 8.0),
        "per_alpha": trial.suggest_float("per_alpha", 0.0, 1.0),
        "vf_coef": trial.suggest_float("vf_coef", 0.1, 1.0, log=True),
        "dirichlet_alpha": trial.suggest_float("dirichlet_alpha", 0.05, 2.0, log=True),
        "l2_coef": trial.suggest_float("l2_coef", 1e-6, 1e-3, log=True),
    }


def sample_world_models(trial: Trial, *_: Any) -> Space:
    """World Models; how much is collected and dreamt stays the config's choice."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
        "kl_tolerance": trial.suggest_float("kl_tolerance", 0.01, 1.0, log=True),
        "reward_coef": trial.suggest_float("reward_coef", 0.1, 100.0, log=True),
        "temperature": trial.suggest_float("temperature", 0.1, 1.5),
        "sigma": trial.suggest_float("sigma", 0.02, 1.0, log=True),
    }


# --- games of hidden information -------------------------------------------------------------------------------------


def sample_cfr(trial: Trial, *_: Any) -> Space:
    """CFR, CFR+."""
    return {
        "alternating": trial.suggest_categorical("alternating", [True, False]),
        "averaging": trial.suggest_categorical("averaging", ["uniform", "linear", "quadratic"]),
    }


def sample_mccfr(trial: Trial, *_: Any) -> Space:
    """External-sampling MCCFR."""
    return {"walks": trial.suggest_int("walks", 1, 64, log=True)}


def sample_tabular_rnad(trial: Trial, *_: Any) -> Space:
    """R-NaD with exact values."""
    return {
        "eta": trial.suggest_float("eta", 0.05, 2.0, log=True),
        "alpha": trial.suggest_float("alpha", 0.01, 0.3, log=True),
        "steps": trial.suggest_int("steps", 20, 500, log=True),
    }


def sample_rnad(trial: Trial, *_: Any) -> Space:
    """R-NaD with a network."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
        "n_games": 2 ** trial.suggest_int("n_games_pow", 6, 10),
        "eta": trial.suggest_float("eta", 0.02, 1.0, log=True),
        "regularization_interval": trial.suggest_int("regularization_interval", 20, 1000, log=True),
        "lambda_": trial.suggest_float("lambda_", 0.8, 1.0),
        "policy_kwargs": _net(trial),
    }


def sample_magnet_ppo(trial: Trial, *_: Any) -> Space:
    """PPO with a magnet."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
        "n_games": 2 ** trial.suggest_int("n_games_pow", 6, 10),
        "n_epochs": trial.suggest_int("n_epochs", 1, 6),
        "eta": trial.suggest_float("eta", 0.01, 1.0, log=True),
        "magnet_interval": trial.suggest_int("magnet_interval", 5, 500, log=True),
        "lambda_": trial.suggest_float("lambda_", 0.8, 1.0),
        "policy_kwargs": _net(trial),
    }


def sample_sft(trial: Trial, *_: Any) -> Space:
    """Supervised fine-tuning, reward models."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
        "batch_size": 2 ** trial.suggest_int("batch_size_pow", 4, 9),
    }


def sample_dpo(trial: Trial, *_: Any) -> Space:
    """Direct preference optimisation."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True),
        "batch_size": 2 ** trial.suggest_int("batch_size_pow", 4, 9),
    }


def sample_rlhf(trial: Trial, *_: Any) -> Space:
    """RLHF's third step; β says what is to be found, and is no matter of search."""
    return {
        "learning_rate": trial.suggest_float("learning_rate", 1e-4, 5e-3, log=True),
        "n_responses": 2 ** trial.suggest_int("n_responses_pow", 7, 11),
        "n_epochs": trial.suggest_int("n_epochs", 1, 8),
        "gae_lambda": 1.0 - trial.suggest_float("one_minus_gae_lambda", 1e-3, 0.3, log=True),
        "clip_range": trial.suggest_float("clip_range", 0.05, 0.5, log=True),
        "normalize_advantage": trial.suggest_categorical("normalize_advantage", [True, False]),
    }
