"""Every algorithm has a search space, whose every point is a config entry that the algorithm takes."""

import gymnasium as gym
import optuna
import pytest
import yaml
from optuna.samplers import RandomSampler
from optuna.trial import FixedTrial
from rl_zoo3.hyperparams_opt import HYPERPARAMS_CONVERTER, HYPERPARAMS_SAMPLER
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise

import sb3_lecture_envs
from sb3_lecture.zoo import configs, registry, search_spaces
from sb3_lecture.zoo.tuning_objective import Settings, TrialManager, entry

sb3_lecture_envs.register_envs()
N_POINTS = 3


def points(name, n=N_POINTS):
    study = optuna.create_study(sampler=RandomSampler(0))
    for _ in range(n):
        trial = study.ask()
        yield registry.search_space(name)(trial, 2, 1, search_spaces.no_her()), trial.params


@pytest.mark.parametrize("name", registry.ALGORITHMS)
def test_points_are_config_entries(name):
    for sampled, params in points(name, 10):
        written = entry(sampled, params)
        assert yaml.safe_load(yaml.safe_dump(written)) == written
        configs.check_hyperparameters(name, written, "the space")
        assert params, "nothing is searched"


@pytest.mark.parametrize("name", [name for name in registry.ALGORITHMS if name not in ("dqn", "qrdqn")])
def test_spaces_do_not_search_in_vain(name):
    """Each parameter changes the hyperparameters (exploration's first ones are left alone where the second one settles it)."""
    for sampled, params in points(name):
        for parameter in params:
            if parameter == "noise_std" and params["noise_type"] is None:
                continue
            distribution = next(iter(_distributions(name, parameter)))
            others = [value for value in _other_values(distribution, params[parameter])]
            changed = [c for value in others if (c := _fixed(name, {**params, parameter: value})) is not None]
            assert not changed or any(entry(c, params) != entry(sampled, params) for c in changed), parameter


def _distributions(name, parameter):
    study = optuna.create_study(sampler=RandomSampler(1))
    while True:
        trial = study.ask()
        registry.search_space(name)(trial, 2, 1, search_spaces.no_her())
        if parameter in trial.distributions:
            yield trial.distributions[parameter]


def _other_values(distribution, value):
    choices = getattr(distribution, "choices", None)
    return [c for c in choices if c != value] if choices is not None else [distribution.low, distribution.high]


def _fixed(name, params):
    try:
        return registry.search_space(name)(FixedTrial(params), 2, 1, search_spaces.no_her())
    except (ValueError, UserWarning):  # the other value asks for parameters that were not drawn, or narrows their range
        return None


def installed_env(name):
    """The first env of an algorithm's config that is installed here."""
    for env_id in configs.read_entries(configs.config_path(name)):
        try:
            gym.make(env_id).close()
        except (gym.error.Error, ImportError):
            continue
        return env_id
    pytest.skip(f"no env of zoo_configs/{name}.yml is installed")


@pytest.mark.parametrize("name", registry.ALGORITHMS)
def test_algorithms_take_the_points(name):
    env_id = installed_env(name)
    manager = TrialManager(Settings(name, env_id, str(configs.config_path(name)), (0,), n_eval_episodes=1))
    registry.fill_rl_zoo3([name])
    for sampled, params in points(name, 2):
        with manager.built(entry(sampled, params), seed=1) as (model, _):
            for key in ("gamma", "n_steps", "sigma", "tol", "lambda_"):
                if key in sampled:
                    assert getattr(model, key) == pytest.approx(sampled[key], rel=1e-3)


def test_rl_zoo3s_own_tables_are_filled():
    search_spaces.fill_rl_zoo3()
    assert set(registry.ALGORITHMS) <= set(HYPERPARAMS_SAMPLER)
    assert set(registry.ALGORITHMS) <= set(HYPERPARAMS_CONVERTER)
    for name in ("q_learning", "crossq", "reinforce", "ga", "monte_carlo_control"):
        for sampled, params in points(name):
            assert HYPERPARAMS_CONVERTER[name](params) == sampled


def test_parameters_of_another_space_are_refused():
    with pytest.raises(ValueError, match="learning_rate"):
        search_spaces.convert("q_learning", {"tol": 0.1})


def test_noise_is_written_as_a_config_writes_it():
    study = optuna.create_study(sampler=RandomSampler(0))
    for kind, cls in (("normal", NormalActionNoise), ("ornstein-uhlenbeck", OrnsteinUhlenbeckActionNoise), (None, None)):
        study.enqueue_trial({"noise_type": kind, "noise_std": 0.25})
        trial = study.ask()
        sampled = registry.search_space("td3")(trial, 2, 1, search_spaces.no_her())
        assert isinstance(sampled.get("action_noise"), cls) if cls else "action_noise" not in sampled
        written = entry(sampled, trial.params)
        # no noise is written as noise of no width, which takes the place of what the config has
        assert (written["noise_type"], written["noise_std"]) == ((kind, 0.25) if kind else ("normal", 0.0))


def test_classes_and_nested_arguments_become_text():
    written = entry({"policy_kwargs": {"net_arch": {"pi": [64], "vf": [8]}, "activation_fn": __import__("torch").nn.ReLU}}, {})
    assert written == {"policy_kwargs": "dict(net_arch=dict(pi=[64], vf=[8]), activation_fn=nn.ReLU)"}
