"""Every argument of the tabular and linear learners has an effect: another value leads to other tables or weights.

The tables below must name all arguments of a class, so that a new one comes with its effect. Those of the deep learners are in
``tests/test_deep_arguments.py``.
"""

import functools
import inspect

import gymnasium as gym
import numpy as np
import pytest

from sb3_lecture.linear.base import LinearAlgorithm
from sb3_lecture.tabular.base import TabularAlgorithm
from sb3_lecture.tabular.planning import PlanningAlgorithm
from sb3_lecture.tabular.prediction import PredictionAlgorithm
from sb3_lecture.zoo.registry import algorithm, algorithms

RIGHT, EAST = [1] * 12, [[0.1, 0.4, 0.1, 0.4]] * 12


def falling(progress):
    return 0.5 * progress


#: what every class of SB3 has, what the compiled loop is held to elsewhere, and the arguments' second place
COMMON = {"self", "policy", "env", "verbose", "device", "tensorboard_log", "stats_window_size", "_init_setup_model", "kwargs"}
COMMON |= {"backend", "policy_kwargs", "max_episode_length"}
EXPLORING = {
    "exploration": "softmax", "exploration_fraction": 0.9, "exploration_initial_eps": 0.5, "exploration_final_eps": 0.5,
    "temperature": ({"exploration": "softmax", "temperature": 5.0}, {"exploration": "softmax"}),
    "ucb_c": ({"exploration": "ucb", "ucb_c": 9.0}, {"exploration": "ucb"}),
}  # fmt: skip
CONTROL = EXPLORING | {"learning_rate": falling, "gamma": 0.5, "initial_value": 1.0, "seed": 1}
POLICIES = {"target_policy": EAST, "learning_rate": falling, "gamma": 0.5, "initial_value": 1.0, "seed": 1}
OFF = {"behavior_policy": EAST}
PLANNING = {"gamma": 0.5, "tol": 100.0, "initial_value": -3.0}
COVERING = {name: value for name, value in CONTROL.items() if name != "ucb_c"}  # UCB covers no other policy
BOX = {"max_evaluation_sweeps": None}  # with a bound on them, sweeps start from below every policy's values
LINEAR = {"learning_rate": falling, "gamma": 0.5, "seed": 1}
EPSILON = {name: EXPLORING[name] for name in ("exploration_fraction", "exploration_initial_eps", "exploration_final_eps")}
LONG = {"n_steps": 4}
TRACE = {"lambda_": 0.8}
TWO = {"options": (np.tile([[1], [2]], (1, 12)), np.full((2, 12), 0.2))}  # two ways, each of five steps on the average
#: name, and for each argument another value, or (settings with it, settings without it)
TABLE = {
    "q_learning": CONTROL, "sarsa": CONTROL, "expected_sarsa": CONTROL, "double_q_learning": CONTROL,
    "gradient_bandit": {"baseline": False, "learning_rate": falling, "initial_value": 1.0, "seed": 1, "temperature": 5.0},
    "n_step_sarsa": CONTROL | {"n_steps": 2, "expected": True},
    "off_policy_n_step_sarsa": COVERING | {"n_steps": 3, "expected": True, "target_eps": 0.5},
    "q_sigma": COVERING | {"n_steps": 2, "sigma": 0.1, "target_eps": 0.5, "control_variate": False},
    "tree_backup": CONTROL | {"n_steps": 2, "target_eps": 0.5},
    "sarsa_lambda": CONTROL | {"lambda_": 0.5, "traces": "accumulating"},
    "q_lambda": CONTROL | {"lambda_": 0.5, "traces": "accumulating"},
    "monte_carlo_control": CONTROL | {"visits": "every", "importance_sampling": "weighted", "exploring_starts": True},
    "dyna_q": CONTROL | {"n_planning_steps": 3, "exploration_bonus": 0.1, "model_outcomes": 1},
    "prioritized_sweeping": CONTROL | {"n_planning_steps": 3, "threshold": 0.1, "model_outcomes": 1},
    "monte_carlo_prediction": POLICIES | OFF | {
        "visits": "every", "importance_sampling": (OFF | {"importance_sampling": "weighted"}, OFF),
    },
    "td_prediction": POLICIES | {
        "n_steps": 3, "lambda_": 0.8, "traces": (TRACE | {"traces": "true-online"}, TRACE),
        "offline": (TRACE | {"offline": True}, TRACE),
    },
    "option_q_learning": EPSILON | {
        "learning_rate": falling, "gamma": 0.5, "initial_value": 1.0, "seed": 1, "options": (TWO, {}),
        "primitives": (TWO | {"primitives": False}, TWO), "intra_option": (TWO | {"intra_option": False}, TWO),
        "max_option_steps": (TWO | {"intra_option": False, "max_option_steps": 2}, TWO | {"intra_option": False}),
    },
    "policy_evaluation": PLANNING | {"target_policy": EAST},
    "policy_iteration": PLANNING | {"max_evaluation_sweeps": 1, "initial_value": (BOX | {"initial_value": -3.0}, BOX)},
    "value_iteration": PLANNING,
    "semi_gradient_q": LINEAR | EPSILON,
    "semi_gradient_sarsa": LINEAR | EPSILON | {
        "n_steps": 3, "lambda_": 0.8, "traces": (TRACE | {"traces": "accumulating"}, TRACE),
    },
    "semi_gradient_td": LINEAR | {
        "target_policy": EAST, "n_steps": 3, "lambda_": 0.8, "traces": (TRACE | {"traces": "true-online"}, TRACE),
    } | OFF,
    "gradient_td": LINEAR | {"target_policy": EAST, "variant": "gtd2", "secondary_learning_rate": 0.5} | OFF,
    "lstd": {"gamma": 0.5, "seed": 1, "target_policy": EAST, "lambda_": 0.8, "ridge": 1.0} | OFF,
}  # fmt: skip
#: what a class takes, as its kin do, and has no use for; its page says so
IDLE = {
    PlanningAlgorithm: EXPLORING | {"learning_rate": 0.5, "seed": 1}, PredictionAlgorithm: EXPLORING,
    algorithm("gradient_bandit"): EPSILON | {"exploration": "softmax", "gamma": 0.5, "ucb_c": 9.0},
    algorithm("option_q_learning"): {"exploration": "epsilon-greedy", "temperature": 5.0, "ucb_c": 9.0},
    algorithm("lstd"): {"learning_rate": 0.5}, algorithm("q_sigma"): {"ucb_c": 9.0},
    algorithm("off_policy_n_step_sarsa"): {"ucb_c": 9.0},
}  # fmt: skip
CASES = [(name, argument) for name, others in TABLE.items() for argument in others]


@functools.cache
def world():
    return gym.make("Lecture/GridWorld-v0", map=["S . 0.3 .", ". P . .", ". . . G"], slip=0.2, max_episode_steps=30)


def trained(cls, settings):
    """What a class has learned after 150 steps."""
    policy = "LinearPolicy" if issubclass(cls, LinearAlgorithm) else "TabularPolicy"
    model = cls(policy, world(), **{"seed": 0} | settings)
    model.learn(150)
    learned = {name: tensor for name, tensor in model.policy.state_dict().items() if name != "epsilon"}
    return np.concatenate([np.ravel(tensor.numpy()) for tensor in learned.values()])


@pytest.mark.parametrize(("name", "argument"), CASES)
def test_the_argument_has_an_effect(plain, name, argument):
    cls, other = algorithm(name), TABLE[name][argument]
    with_it, without = other if isinstance(other, tuple) else ({argument: other}, {})
    assert not np.array_equal(trained(cls, with_it), trained(cls, without)), f"{argument} changes nothing"


def idle(cls):
    return next((arguments for base, arguments in IDLE.items() if issubclass(cls, base)), {})


@pytest.mark.parametrize("name", [name for name in TABLE if idle(algorithm(name))])
def test_what_a_class_has_no_use_for_changes_nothing(plain, name):
    cls = algorithm(name)
    every = {argument: value[0][argument] if isinstance(value, tuple) else value for argument, value in idle(cls).items()}
    assert np.array_equal(trained(cls, every), trained(cls, {}))


@pytest.mark.parametrize("name", TABLE)
def test_the_table_names_every_argument(name):
    cls = algorithm(name)
    known = set()
    for base in (base for base in inspect.getmro(cls) if "__init__" in vars(base)):
        signature = inspect.signature(base.__init__).parameters
        known |= set(signature)
        if "kwargs" not in signature:
            break
    assert known - COMMON == set(TABLE[name]) | set(idle(cls))


def test_every_tabular_and_linear_learner_stands_in_the_table():
    ours = {name for name in algorithms() if issubclass(algorithm(name), (TabularAlgorithm, LinearAlgorithm))}
    assert ours == set(TABLE)
