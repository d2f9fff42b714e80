"""What data allow, exactly: against enumeration of all policies, worked numbers and limiting cases."""

from itertools import product

import numpy as np
import pytest

from sb3_lecture.exact import ExactGrader, policy_evaluation
from sb3_lecture.exact.in_support import (
    OfflineGrade,
    behaviour_policy,
    count_pairs,
    empirical_law,
    in_support_optimum,
    pessimistic_value_iteration,
    restrict,
    spibb,
)
from sb3_lecture.exact.solver import exact_optimum, start_value
from sb3_lecture_envs.mdp import TabularMDP
from sb3_lecture_envs.tabular_env import TabularEnv

GAMMA = 0.9


def fork():
    """0: end with 1, or go to 1; 1: end with 10, or with 0; 2 is an end."""
    end = [(1.0, 2, 0.0, True)]
    return TabularMDP.from_P(
        {
            0: {0: [(1.0, 2, 1.0, True)], 1: [(1.0, 1, 0.0, False)]},
            1: {0: [(1.0, 2, 10.0, True)], 1: end},
            2: {0: end, 1: end},
        },
        0,
    )


def random_world(rng, n_states=4, n_actions=3):
    rows = {
        s: {
            a: [
                (0.5, int(rng.integers(n_states)), rng.normal(), False),
                (0.5, int(rng.integers(n_states)), rng.normal(), True),
            ]
            for a in range(n_actions)
        }
        for s in range(n_states)
    }
    return TabularMDP.from_P(rows, 0)


@pytest.mark.parametrize(
    ("counts", "value"),
    [
        ([[1, 1], [1, 1], [0, 0]], 9.0),  # all is seen: 0.9 · 10
        ([[1, 1], [0, 1], [0, 0]], 1.0),  # the 10 was never taken: better end at once
        ([[1, 1], [0, 0], [0, 0]], 4.5),  # nothing is known of state 1: a coin, 0.9 · (10 + 0) / 2
        ([[0, 1], [0, 1], [0, 0]], 0.0),  # only the way to 1 was seen, and only its worse action
        ([[0, 0], [3, 0], [0, 0]], 5.0),  # a coin at the start: (1 + 0.9 · 10) / 2
    ],
)
def test_only_what_was_seen_can_be_chosen(counts, value):
    mdp, counts = fork(), np.array(counts)
    assert start_value(mdp, in_support_optimum(mdp, counts, GAMMA).v) == pytest.approx(value, abs=1e-12)


def test_a_random_choice_is_one_among_what_is_allowed():
    """State 1 is blind and allows its action 1 alone, which ends with 0: no coin for the 10."""
    mdp = fork()
    rows = {s: {a: mdp.outcomes(s, a) for a in range(2)} for s in range(3)}
    masked = TabularMDP.from_P(rows, 0, action_mask=np.array([[1, 1], [0, 1], [1, 1]], bool))
    counts = np.array([[0, 1], [0, 0], [0, 0]])
    assert start_value(masked, in_support_optimum(masked, counts, GAMMA).v) == pytest.approx(0.0, abs=1e-12)
    assert start_value(mdp, in_support_optimum(mdp, counts, GAMMA).v) == pytest.approx(4.5)


@pytest.mark.parametrize("seed", range(6))
def test_it_is_the_best_of_all_policies_that_stay_within_the_data(seed):
    rng = np.random.default_rng(seed)
    mdp = random_world(rng)
    counts = rng.integers(0, 2, (4, 3)) * rng.integers(1, 5, (4, 3))
    choices = [[[a] for a in np.flatnonzero(row)] or [[0, 1, 2]] for row in counts]  # a blind state acts at random
    best = -np.inf
    for policy in product(*choices):
        pi = np.zeros((4, 3))
        for s, actions in enumerate(policy):
            pi[s, actions] = 1 / len(actions)
        best = max(best, start_value(mdp, policy_evaluation(mdp, pi, GAMMA)))
    assert start_value(mdp, in_support_optimum(mdp, counts, GAMMA).v) == pytest.approx(best, abs=1e-9)


def test_with_all_pairs_seen_it_is_the_optimum_of_the_world():
    mdp = random_world(np.random.default_rng(9))
    np.testing.assert_allclose(in_support_optimum(mdp, np.ones((4, 3), int), GAMMA).v, exact_optimum(mdp, GAMMA).v, atol=1e-9)


def test_counts_and_the_behaviour_they_show():
    mdp = fork()
    counts = count_pairs(mdp, np.array([0, 0, 0, 1]), np.array([1, 1, 0, 1]))
    np.testing.assert_array_equal(counts, [[1, 2], [0, 1], [0, 0]])
    np.testing.assert_allclose(behaviour_policy(counts), [[1 / 3, 2 / 3], [0, 1], [0.5, 0.5]])
    rows = {s: {a: mdp.outcomes(s, a) for a in range(2)} for s in range(3)}
    masked = TabularMDP.from_P(rows, 0, action_mask=np.array([[1, 0], [1, 1], [0, 1]], bool))
    np.testing.assert_allclose(behaviour_policy(np.zeros((3, 2), int), masked), [[1, 0], [0.5, 0.5], [0, 1]])
    for states, actions, words in (
        ([3], [0], "state 3 is none of the world's 3"),
        ([0], [2], "action 2"),
        ([], [], "at least one"),
    ):
        with pytest.raises(ValueError, match=words):
            count_pairs(mdp, np.array(states, int), np.array(actions, int))
    with pytest.raises(ValueError, match=r"counts of shape \(2, 2\)"):
        restrict(mdp, np.ones((2, 2), int))


def test_the_empirical_law_counts_outcomes_and_averages_their_rewards():
    mdp = fork()
    law = empirical_law(mdp, [0, 0, 0, 0], [1, 1, 1, 0], [0.0, 3.0, 5.0, 1.0], [1, 2, 2, 2], [False, True, True, True])
    assert law.outcomes(0, 1) == [(pytest.approx(1 / 3), 1, 0.0, False), (pytest.approx(2 / 3), 2, 4.0, True)]
    assert law.outcomes(0, 0) == [(1.0, 2, 1.0, True)]
    assert law.outcomes(1, 0) == [(1.0, 1, 0.0, True)]  # nothing is known of it: nothing comes of it
    counts = np.array([[1, 3], [0, 0], [0, 0]])
    assert start_value(law, in_support_optimum(law, counts, GAMMA).v) == pytest.approx(8 / 3)
    cut = empirical_law(mdp, [0, 0], [1, 1], [1.0, 1.0], [1, 1], [False, True])  # the same state, once as an end
    assert cut.outcomes(0, 1) == [(0.5, 1, 1.0, False), (0.5, 1, 1.0, True)]


def test_pessimism_takes_beta_over_the_root_of_the_count_from_each_reward():
    mdp = fork()
    columns = ([0] * 4 + [0] + [1], [0] * 4 + [1] + [0], [1.0] * 4 + [0.0] + [10.0], [2] * 4 + [1] + [2], [1] * 4 + [0] + [1])
    law, counts = empirical_law(mdp, *map(np.array, columns)), np.array([[4, 1], [1, 0], [0, 0]])
    assert start_value(law, pessimistic_value_iteration(law, counts, GAMMA, 0.0).v) == pytest.approx(9.0)
    assert start_value(law, pessimistic_value_iteration(law, counts, GAMMA, 2.0).v) == pytest.approx(-2 + 0.9 * 8)
    worst = pessimistic_value_iteration(law, counts, GAMMA, 6.0)  # 1 − 6/2 = −2 beats −6 + 0.9 · 4
    assert start_value(law, worst.v) == pytest.approx(-2.0) and worst.policy[0] == 0
    with pytest.raises(ValueError, match="beta=-1"):
        pessimistic_value_iteration(law, counts, GAMMA, -1)


def test_spibb_leaves_alone_what_was_seldom_seen():
    """A bandit of three arms seen 10, 1 and 10 times, which paid 0, 5 and 1."""
    mdp = TabularMDP.from_P({0: {a: [(1.0, 0, r, True)] for a, r in enumerate((0.0, 5.0, 1.0))}}, 0)
    actions = np.repeat([0, 1, 2], [10, 1, 10])
    rewards = np.array([0.0, 5.0, 1.0])[actions]
    zeros = np.zeros(21, int)
    law, counts = empirical_law(mdp, zeros, actions, rewards, zeros, zeros + 1), np.array([[10, 1, 10]])
    for n_min, expected in ((0, [0, 1, 0]), (2, [0, 1 / 21, 20 / 21]), (11, [10 / 21, 1 / 21, 10 / 21])):
        pi, v = spibb(law, counts, GAMMA, n_min)
        np.testing.assert_allclose(pi, [expected], atol=1e-12)
        assert v[0] == pytest.approx(np.dot(expected, [0, 5, 1]))


@pytest.mark.parametrize("seed", range(3))
def test_spibb_between_its_limits(seed):
    rng = np.random.default_rng(seed)
    mdp = random_world(rng)
    s, a = rng.integers(4, size=60), rng.integers(3, size=60)
    rows = [mdp.outcomes(int(x), int(y))[rng.integers(2)] for x, y in zip(s, a, strict=True)]
    law = empirical_law(mdp, s, a, [r[2] for r in rows], [r[1] for r in rows], [r[3] for r in rows])
    counts = count_pairs(mdp, s, a)
    values = [start_value(law, spibb(law, counts, GAMMA, n)[1]) for n in (0, 5, 1000)]
    assert values[0] == pytest.approx(start_value(law, in_support_optimum(law, counts, GAMMA).v), abs=1e-9)
    assert values[2] == pytest.approx(start_value(law, policy_evaluation(law, behaviour_policy(counts), GAMMA)), abs=1e-9)
    assert values[2] - 1e-12 <= values[1] <= values[0] + 1e-12


def test_states_are_read_off_observations():
    grader = ExactGrader(TabularEnv(fork()), GAMMA)
    np.testing.assert_array_equal(grader.states_of(np.array([2, 0, 1, 0])), [2, 0, 1, 0])
    with pytest.raises(ValueError, match="observation 1, 7"):
        grader.states_of(np.array([0, 7]))


def test_the_line_that_says_it():
    grade = OfflineGrade(0.5, 0.59, 0.6, 0.1)
    assert grade.regret == pytest.approx(0.09)
    assert grade.summary() == (
        "Regret against the in-support optimum: 0.09 (in-support value 0.590, optimum 0.600, behaviour 0.100)"
    )
    assert "optimum: 0 (" in OfflineGrade(0.59, 0.59 + 1e-9, 0.6, 0.1).summary()
