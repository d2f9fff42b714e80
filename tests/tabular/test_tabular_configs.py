"""The values in zoo_configs reach what docs/benchmarks_tabular.md says."""

import gymnasium as gym
import pytest
from stable_baselines3.common.utils import ConstantSchedule

import sb3_lecture_envs  # noqa: F401
from sb3_lecture import QLearning
from sb3_lecture.exact.grade import exact_evaluation
from sb3_lecture.zoo import configs, registry
from sb3_lecture.zoo.manager import LectureExperimentManager

CONTROL = [
    "double_q_learning", "dyna_q", "expected_sarsa", "gradient_bandit", "monte_carlo_control", "n_step_sarsa",
    "off_policy_n_step_sarsa", "q_sigma", "tree_backup",
    "policy_iteration", "prioritized_sweeping", "q_lambda", "sarsa", "sarsa_lambda", "value_iteration",
]  # fmt: skip
ON_THE_CLIFF = {"expected_sarsa": 2.0, "n_step_sarsa": 4.0, "sarsa": 4.0, "sarsa_lambda": 4.0}  # ε stays 0.1: the safe way


@pytest.mark.parametrize("algo", ["q_learning", *(pytest.param(name, marks=pytest.mark.slow) for name in CONTROL)])
def test_configs_reach_regret_0(algo):
    for env_id, entry in configs.read_entries(configs.config_path(algo)).items():
        if "env_wrapper" in entry:  # CartPole-v1: no law
            continue
        settings = {key: value for key, value in entry.items() if key not in configs.ZOO_KEYS}
        env = gym.make(env_id, **entry.get("env_kwargs", {}))
        model = registry.algorithm(algo)(entry["policy"], env, seed=0, **settings).learn(int(entry["n_timesteps"]))
        allowed = ON_THE_CLIFF.get(algo, 0.0) if env_id == "Lecture/CliffWalking-v0" else 0.0
        assert exact_evaluation(model).regret == pytest.approx(allowed, abs=1e-6), env_id


def test_rates_are_read_as_the_config_writes_them():
    """The sample average and numbers stay what they are; ``lin_`` becomes SB3's falling schedule."""
    read = LectureExperimentManager._preprocess_schedules({"learning_rate": "1/N", "clip_range": 0.2})
    assert read == {"learning_rate": "1/N", "clip_range": 0.2}
    falling = LectureExperimentManager._preprocess_schedules({"learning_rate": "lin_0.4"})["learning_rate"]
    assert [falling(remaining) for remaining in (1.0, 0.5, 0.0)] == [0.4, 0.2, 0.0]


def test_constant_schedules_are_numbers():
    """What rl_zoo3 makes of a config's number."""
    model = QLearning(env="Lecture/TreasureLine-v0", learning_rate=ConstantSchedule(0.25))
    assert model._step_size() == 0.25 and model._steps_to_new_rate(1000) > 1000
    with pytest.raises(ValueError, match=r"learning_rate=2\.5"):
        QLearning(env="Lecture/TreasureLine-v0", learning_rate=ConstantSchedule(2.5))
