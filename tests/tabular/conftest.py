"""Yardsticks: the exact regret of a table's greedy policy."""

import pytest

import sb3_lecture_envs  # noqa: F401
from sb3_lecture.exact.law import law_of
from sb3_lecture.exact.solver import policy_evaluation, start_value, value_iteration


def greedy_regret(model, gamma=0.99):
    """v*(start) - v_π(start) of the policy that predict(deterministic=True) follows."""
    mdp = law_of(model.env)
    actions, _ = model.predict(range(mdp.n_states), deterministic=True)
    optimum = start_value(mdp, value_iteration(mdp, gamma).v)
    return optimum - start_value(mdp, policy_evaluation(mdp, actions, gamma))


@pytest.fixture
def regret():
    return greedy_regret
