"""TabularMDP against independent readings of the same law."""

import pickle
import re

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sb3_lecture_envs.mdp import TabularMDP, sample_outcome, sample_start


def random_law(rng, n_states, n_actions, max_outcomes):
    """Gymnasium's dictionary form, drawn at random."""
    P = {}
    for s in range(n_states):
        P[s] = {}
        for a in range(n_actions):
            k = int(rng.integers(1, max_outcomes + 1))
            p = rng.dirichlet(np.ones(k))
            P[s][a] = [
                (float(p[i]), int(rng.integers(n_states)), float(rng.normal()), bool(rng.random() < 0.2)) for i in range(k)
            ]
    return P


laws = st.builds(
    lambda seed, s, a, k: random_law(np.random.default_rng(seed), s, a, k),
    st.integers(0, 2**32 - 1),
    st.integers(1, 8),
    st.integers(1, 4),
    st.integers(1, 5),
)


@settings(max_examples=40)
@given(laws)
def test_dictionary_form_survives_the_arrays(P):
    mdp = TabularMDP.from_P(P)
    assert mdp.P == P
    again = pickle.loads(pickle.dumps(mdp))
    assert again.P == P and again.start_state.tolist() == [0]


@settings(max_examples=40)
@given(laws)
def test_expected_reward_and_reachability_equal_the_slow_ones(P):
    mdp = TabularMDP.from_P(P)
    slow = [[sum(p * r for p, _, r, _ in P[s][a]) for a in P[s]] for s in P]
    np.testing.assert_allclose(mdp.expected_reward, slow, atol=1e-14)
    reached, frontier = {0}, [0]
    while frontier:
        for outcomes in P[frontier.pop()].values():
            new = {s for p, s, _, ended in outcomes if p > 0 and not ended} - reached
            reached |= new
            frontier += new
    assert set(np.flatnonzero(mdp.reachable)) == reached


@settings(max_examples=40)
@given(laws, st.floats(0, 1, exclude_max=True))
def test_sampling_inverts_the_cumulative_distribution(P, u):
    mdp = TabularMDP.from_P(P)
    for s in P:
        for a in P[s]:
            row = s * mdp.n_actions + a
            j = sample_outcome(mdp.row_ptr, mdp.prob, row, u) - mdp.row_ptr[row]
            p = mdp.prob[mdp.row_ptr[row] : mdp.row_ptr[row + 1]]
            below = p[:j].sum()
            assert below <= u + 1e-12 and (j == len(p) - 1 or u < below + p[j] + 1e-12)


def test_start_sampling_follows_the_start_distribution():
    start = np.array([0.0, 0.25, 0.0, 0.75])
    mdp = TabularMDP.from_dense(np.full((4, 1, 4), 0.25), np.zeros((4, 1)), start=start)
    np.testing.assert_array_equal(mdp.start, start)
    drawn = [sample_start(mdp.start_state, mdp.start_cdf, u) for u in (0.0, 0.2499, 0.25, 0.9999999)]
    assert drawn == [1, 1, 3, 3]


def test_dense_matrices_read_as_the_dictionary_does():
    rng = np.random.default_rng(0)
    p, r = rng.dirichlet(np.ones(4), size=(4, 3)), rng.normal(size=(4, 3, 4))
    terminal = np.array([False, False, False, True])
    mdp = TabularMDP.from_dense(p, r, terminal, start=np.full(4, 0.25))
    for s in range(3):
        for a in range(3):
            assert mdp.outcomes(s, a) == [(p[s, a, t], t, r[s, a, t], bool(terminal[t])) for t in range(4)]
    assert mdp.outcomes(3, 1) == [(1.0, 3, 0.0, True)]


@pytest.mark.parametrize("env_id", ["FrozenLake-v1", "FrozenLake8x8-v1", "CliffWalking-v1", "Taxi-v4"])
def test_law_of_gymnasiums_tables_is_read_as_it_stands(env_id):
    env = gym.make(env_id)
    mdp = TabularMDP.from_gymnasium(env)
    assert mdp.P == {s: {a: [tuple(o) for o in env.unwrapped.P[s][a]] for a in env.unwrapped.P[s]} for s in env.unwrapped.P}
    np.testing.assert_allclose(mdp.start, env.unwrapped.initial_state_distrib, atol=1e-12)


def test_memory_of_a_law_is_at_most_24_bytes_an_outcome():
    n_states, n_actions, k = 20_000, 4, 5
    rng = np.random.default_rng(0)
    n = n_states * n_actions * k
    mdp = TabularMDP(
        n_states, n_actions, np.arange(0, n + 1, k), rng.integers(n_states, size=n), np.full(n, 0.2), rng.random(n),
        np.zeros(n, dtype=bool), [0], [1.0],
    )  # fmt: skip
    assert mdp.nbytes <= 24 * n


def test_the_law_cannot_be_changed():
    mdp = TabularMDP.from_P({0: {0: [(1.0, 0, 0.0, True)]}})
    with pytest.raises(ValueError, match="read-only"):
        mdp.prob[0] = 0.5


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"prob": [0.5, 0.4, 1.0, 1.0, 1.0]}, "sum 0.9"),
        ({"prob": [1.5, -0.5, 1.0, 1.0, 1.0]}, "at least 0"),
        ({"prob": [np.nan, 0.5, 1.0, 1.0, 1.0]}, "state 0, action 0"),
        ({"next_state": [0, 1, 2, 0, 0]}, "next_state holds 2 for state 0, action 1, states are 0 to 1"),
        ({"reward": [0.0, np.inf, 0.0, 0.0, 0.0]}, "A reward of state 0, action 0 is inf; rewards must be finite"),
        ({"row_ptr": [0, 2, 2, 4, 5]}, "at least one outcome a row"),
        ({"start_prob": [0.4]}, "sum is 0.4"),
        ({"start_state": [-1]}, "start_state holds -1"),
        ({"reward": [0.0]}, "reward must have shape (5,), got (1,)"),
        ({"action_mask": [[True, True], [False, False]]}, "no action in state 1"),
    ],
)
def test_a_wrong_law_is_refused_with_the_value_named(change, words):
    arguments = {
        "n_states": 2,
        "n_actions": 2,
        "row_ptr": [0, 2, 3, 4, 5],
        "next_state": [0, 1, 0, 1, 1],
        "prob": [0.5, 0.5, 1.0, 1.0, 1.0],
        "reward": [0.0, 1.0, 0.0, 0.0, 0.0],
        "terminated": [False, True, False, True, True],
        "start_state": [0],
        "start_prob": [1.0],
    }
    TabularMDP(**arguments)
    with pytest.raises(ValueError, match=re.escape(words)):
        TabularMDP(**{**arguments, **change})


def test_an_env_without_a_law_is_refused():
    with pytest.raises(ValueError, match="has no transition law P"):
        TabularMDP.from_gymnasium(gym.make("CartPole-v1"))
    with pytest.raises(ValueError, match=r"keys 0 to 1 .* state 1 has no entry"):
        TabularMDP.from_P({0: {0: [(1.0, 0, 0.0, False)]}, 2: {0: [(1.0, 0, 0.0, False)]}})


@pytest.mark.parametrize(
    ("P", "words"),
    [
        ({}, "P must be {state: {action: outcomes}} with at least"),
        ({0: {}}, "P must be {state: {action: outcomes}} with at least"),
        ({0: {0: []}}, "P[0][0] must be a list of at least one (probability, next_state, reward, terminated), got []"),
        ({0: {0: [(1.0, 0, 0.0, True)], 1: [(1.0, 0, 0.0)]}}, "P[0][1] must be a list of at least one"),
        ({0: {0: (1.0, 0, 0.0, True)}}, "it holds 1.0"),
        ({0: {0: [(1.0, 0.5, 0.0, True)]}}, "next_state must hold whole numbers, got 0.5"),
        ({0: {0: [(1.0, 0, np.nan, True)]}}, "A reward of state 0, action 0 is nan"),
        ({0: {0: [(np.nan, 0, 0.0, True)]}}, "The probabilities of state 0, action 0 are [nan]"),
    ],
)
def test_a_dictionary_of_another_form_is_refused_with_its_place(P, words):
    with pytest.raises(ValueError, match=re.escape(words)):
        TabularMDP.from_P(P)


@pytest.mark.parametrize(
    ("start", "words"),
    [(0.5, "whole numbers, got 0.5"), ([np.nan, 1.0], "the probability of state 0 is not"), ([0.5, 0.4], "its sum is 0.9")],
)
def test_a_start_that_is_no_state_or_no_distribution_is_refused(start, words):
    with pytest.raises(ValueError, match=words):
        TabularMDP.from_P({s: {0: [(1.0, s, 0.0, True)]} for s in range(2)}, start)


def test_what_rounding_leaves_over_goes_to_no_outcome_of_probability_0():
    prob = np.array([0.5, 0.5 - 1e-9, 0.0])
    drawn = [sample_outcome(np.array([0, 3], np.int32), prob, 0, u) for u in (0.0, 0.5, 1.0 - 1e-12)]
    assert drawn == [0, 1, 1]
