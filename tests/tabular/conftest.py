"""Yardsticks: the exact regret of a table's greedy policy."""

import numpy as np
import pytest

import sb3_lecture_envs  # noqa: F401
from sb3_lecture.exact.law import law_of
from sb3_lecture.exact.solver import policy_evaluation, start_value, value_iteration
from sb3_lecture.tabular import base
from sb3_lecture.tabular.loop import Loops, compile_rules


def greedy_regret(model, gamma=0.99):
    """v*(start) - v_π(start) of the policy that predict(deterministic=True) follows."""
    mdp = law_of(model.env)
    actions, _ = model.predict(range(mdp.n_states), deterministic=True)
    optimum = start_value(mdp, value_iteration(mdp, gamma).v)
    return optimum - start_value(mdp, policy_evaluation(mdp, actions, gamma))


@pytest.fixture
def regret():
    return greedy_regret


def interpreted(act, update):
    """The loops of a pair of rules as plain Python."""
    return Loops(*(getattr(loop, "py_func", loop) for loop in compile_rules(act, update)))


@pytest.fixture
def plain(monkeypatch):
    """Learners run as plain Python: nothing is compiled, which takes seconds a pair of rules."""
    monkeypatch.setattr(base, "compile_rules", interpreted)
    with np.errstate(over="ignore"):  # the random numbers' mixing overflows, as it should
        yield
