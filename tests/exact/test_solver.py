"""Exact solutions against closed forms, dense linear algebra and exhaustive search."""

import itertools

import gymnasium as gym
import numba
import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from sb3_lecture.exact import chain
from sb3_lecture.exact.bellman import q_from_v
from sb3_lecture.exact.chain import episode_lengths, policy_evaluation
from sb3_lecture.exact.solver import (
    epsilon_soft_optimum,
    exact_optimum,
    greedy_policy,
    modified_policy_iteration,
    optimal_actions,
    softmax_policy,
    start_value,
    value_iteration,
)
from sb3_lecture.exact.sweeps import Sweeper, plain_policy_iteration
from sb3_lecture_envs.mdp import TabularMDP

#: large worlds shrink where compiled functions run as plain Python (NUMBA_DISABLE_JIT=1: coverage, mutants)
SHRINK = 300 if numba.config.DISABLE_JIT else 1
MANY = 30 if numba.config.DISABLE_JIT else 150
GRID_4X4 = [0, -14, -20, -22, -14, -18, -20, -20, -20, -20, -18, -14, -22, -20, -14, 0]


def world(env_id, **kwargs):
    import sb3_lecture_envs  # noqa: F401  (registers the ids)

    return gym.make(env_id, **kwargs).unwrapped.mdp


def mdp_of(rows, start=0):
    """An MDP from rows[s][a] = [(probability, next state, reward, terminated), …]."""
    return TabularMDP.from_P({s: dict(enumerate(actions)) for s, actions in enumerate(rows)}, start)


def go(state, reward, terminated=False):
    return [(1.0, state, reward, terminated)]


def random_mdp(seed, n_states=7, n_actions=2, fan=3, ends=0.15):
    """Random outcomes, a share of them terminating; state 0 can always be left."""
    rng = np.random.default_rng(seed)
    shape = (n_states * n_actions, fan)
    prob = rng.dirichlet(np.ones(fan), size=shape[0])
    row_ptr = np.arange(0, shape[0] * fan + 1, fan)
    terminated = rng.random(shape) < ends
    return TabularMDP(
        n_states,
        n_actions,
        row_ptr,
        rng.integers(n_states, size=shape).ravel(),
        prob.ravel(),
        rng.normal(size=shape).ravel(),
        terminated.ravel(),
        [0],
        [1.0],
    )


def dense(mdp, pi):
    """P_π (without the outcomes that end) and r_π."""
    n, n_actions = mdp.n_states, mdp.n_actions
    p, r = np.zeros((n, n)), np.zeros(n)
    for s, a in itertools.product(range(n), range(n_actions)):
        for probability, t, reward, end in mdp.outcomes(s, a):
            p[s, t] += pi[s, a] * probability * (not end)
            r[s] += pi[s, a] * probability * reward
    return p, r


def dense_value(mdp, pi, gamma):
    p, r = dense(mdp, pi)
    return np.linalg.solve(np.eye(mdp.n_states) - gamma * p, r)


def one_hot(policy, n_actions):
    return np.eye(n_actions)[np.asarray(policy)]


def best_by_enumeration(mdp, gamma, epsilon=0.0):
    """The best value over all deterministic policies made ε-soft: the slow twin."""
    values = []
    for policy in itertools.product(range(mdp.n_actions), repeat=mdp.n_states):
        pi = (1 - epsilon) * one_hot(policy, mdp.n_actions) + epsilon / mdp.n_actions
        values.append(dense_value(mdp, pi, gamma))
    return np.max(values, axis=0)


# ---- policy evaluation


def test_the_random_policy_on_the_4x4_grid_has_the_books_values():
    mdp = world("Lecture/GridWorld-v0", map="4x4")
    v = policy_evaluation(mdp, np.full((16, 4), 0.25), gamma=1.0)
    np.testing.assert_allclose(v, GRID_4X4, atol=1e-9)


@settings(max_examples=60)
@given(seed=st.integers(0, 10**6), gamma=st.sampled_from([0.0, 0.5, 0.9, 0.999]), stochastic=st.booleans())
def test_policy_evaluation_equals_a_dense_linear_solve(seed, gamma, stochastic):
    mdp = random_mdp(seed, n_states=12)
    rng = np.random.default_rng(seed + 1)
    pi = rng.dirichlet(np.full(2, 0.3), size=12)
    policy = pi if stochastic else pi.argmax(axis=1)
    expected = dense_value(mdp, pi if stochastic else one_hot(policy, 2), gamma)
    np.testing.assert_allclose(policy_evaluation(mdp, policy, gamma), expected, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("gamma", [0.9, 0.999, 1.0])
@pytest.mark.parametrize("ends", [0.0, 0.1])
def test_sweeps_over_a_large_component_meet_their_error_bound(gamma, ends, monkeypatch):
    if gamma == 1.0 and ends == 0.0:
        ends = 0.02
    mdp = random_mdp(3, n_states=MANY, ends=ends)
    pi = np.random.default_rng(0).dirichlet(np.ones(2), size=MANY)
    expected = dense_value(mdp, pi, gamma)
    monkeypatch.setattr(chain, "ELIMINATION_MEMORY", 0.0)
    np.testing.assert_allclose(policy_evaluation(mdp, pi, gamma), expected, rtol=1e-10, atol=1e-9)


def test_equal_exits_are_no_closed_component(monkeypatch):
    """Two states that swap, each leaving for an absorbing third with chance 1/2: constant leaks, but with exits."""
    monkeypatch.setattr(chain, "ELIMINATION_MEMORY", 0.0)
    swap = [[(0.5, 1, 1.0, False), (0.5, 2, 0.0, False)]], [[(0.5, 0, 1.0, False), (0.5, 2, 0.0, False)]]
    mdp = mdp_of([*swap, [go(2, 1.0)]])
    third = 1 / (1 - 0.9)
    pair = (0.5 + 0.45 * third) / (1 - 0.45)
    np.testing.assert_allclose(policy_evaluation(mdp, [0, 0, 0], 0.9), [pair, pair, third], atol=1e-9)


def test_a_long_deterministic_corridor_is_solved_in_one_pass():
    n = 300_000 // SHRINK
    for step in (1, -1):  # both directions of the numbering
        end = n - 1 if step == 1 else 0
        next_state = np.clip(np.arange(n) + step, 0, n - 1)
        next_state[end] = end
        reward = np.full(n, -1.0)
        reward[end] = 0.0
        terminated = next_state == end
        mdp = TabularMDP(n, 1, np.arange(n + 1), next_state, np.ones(n), reward, terminated, [0], [1.0])
        steps = np.abs(end - np.arange(n))
        np.testing.assert_array_equal(policy_evaluation(mdp, np.zeros(n, int), 1.0), -steps)
        v = policy_evaluation(mdp, np.zeros(n, int), 0.999)
        np.testing.assert_allclose(v, -(1 - 0.999**steps) / 0.001, rtol=1e-9)


def test_a_symmetric_walk_has_gamblers_ruin_values():
    """From state i of 1 … n the right end is reached before the left one with probability i / (n + 1)."""
    n = 20_000 // SHRINK
    rows = np.arange(n)
    next_state = np.stack([np.maximum(rows - 1, 0), np.minimum(rows + 1, n - 1)], axis=1)
    terminated = np.zeros((n, 2), bool)
    terminated[0, 0] = terminated[-1, 1] = True
    reward = np.zeros((n, 2))
    reward[-1, 1] = 1.0
    mdp = TabularMDP(
        n, 2, np.arange(2 * n + 1), next_state.ravel(), np.ones(2 * n), reward.ravel(), terminated.ravel(), [0], [1.0]
    )
    v = policy_evaluation(mdp, np.full((n, 2), 0.5), gamma=1.0)
    np.testing.assert_allclose(v, (rows + 1) / (n + 1), atol=1e-9)


def test_a_chain_that_ends_once_in_a_trillion_steps_loses_no_digit():
    p = 1e-12
    mdp = mdp_of([[[(1 - p, 1, 1.0, False), (p, 0, 1.0, True)]], [go(0, 0.0)]])
    np.testing.assert_allclose(policy_evaluation(mdp, [0, 0], 1.0), [1e12, 1e12], rtol=1e-11)


LOOPS = {
    "loss": (go(0, -1.0), -np.inf),
    "gain": (go(0, 2.0), np.inf),
    "nothing": (go(0, 0.0), 0.0),
    "swing": ([(0.5, 0, 0.0, False), (0.5, 0, 0.0, False)], 0.0),
}


@pytest.mark.parametrize("kind", LOOPS)
def test_staying_for_ever_is_worth_the_sign_of_its_mean_reward(kind):
    loop, expected = LOOPS[kind]
    # state 0 loops; 1 walks into it; 2 ends with chance 1/2, else walks into it; 3 ends
    mdp = mdp_of([[loop], [go(0, 5.0)], [[(0.5, 0, 1.0, False), (0.5, 3, 1.0, True)]], [go(3, 0.0, True)]])
    v = policy_evaluation(mdp, [0, 0, 0, 0], gamma=1.0)
    np.testing.assert_array_equal(v, [expected, expected + 5.0, expected + 1.0, 0.0])


@pytest.mark.parametrize("memory", [4e7, 0.0])
@pytest.mark.parametrize(
    ("there", "back", "expected"),
    [(1.0, -2.0, -np.inf), (1.0, -0.5, np.inf), (1.0, -1.0, np.nan), (-1.0, 0.0, -np.inf), (0.0, 1.0, np.inf)],
)
def test_a_cycle_of_gains_and_losses_is_worth_its_mean(memory, there, back, expected, monkeypatch):
    monkeypatch.setattr(chain, "ELIMINATION_MEMORY", memory)
    mdp = mdp_of([[go(1, there)], [go(0, back)], [go(0, 0.0)]])
    v = policy_evaluation(mdp, [0, 0, 0], gamma=1.0)
    np.testing.assert_array_equal(v, np.full(3, expected))


def test_a_policy_that_bumps_into_a_wall_for_ever_has_no_singular_matrix():
    mdp = world("Lecture/GridWorld-v0", map="4x4")
    v = policy_evaluation(mdp, np.zeros(16, int), gamma=1.0)  # always up
    column_0 = np.arange(0, 16, 4)
    np.testing.assert_array_equal(v[column_0], [0, -1, -2, -3])
    assert v[15] == 0.0 and np.isneginf(np.delete(v, [*column_0, 15])).all()


# ---- optima


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), gamma=st.sampled_from([0.3, 0.9, 0.99]), ends=st.sampled_from([0.0, 0.2]))
def test_every_solver_finds_the_best_of_all_policies(seed, gamma, ends):
    mdp = random_mdp(seed, n_states=5, n_actions=2, ends=ends)
    best = best_by_enumeration(mdp, gamma)
    for solution in (
        value_iteration(mdp, gamma, tol=1e-8),
        modified_policy_iteration(mdp, gamma, tol=1e-8),
        epsilon_soft_optimum(mdp, 0.0, gamma),
    ):
        np.testing.assert_allclose(solution.v, best, atol=2e-8)
        assert np.abs(solution.v - best).max() <= solution.error_bound + 1e-11
        np.testing.assert_allclose(policy_evaluation(mdp, solution.policy, gamma), best, atol=1e-6)
        np.testing.assert_allclose(solution.q.max(axis=1), solution.v, atol=1e-7)


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6), epsilon=st.sampled_from([0.1, 0.5]), gamma=st.sampled_from([0.9, 1.0]))
def test_the_best_soft_policy_is_the_best_of_all_soft_policies(seed, epsilon, gamma):
    mdp = random_mdp(seed, n_states=5, n_actions=2, ends=0.3)
    mdp = TabularMDP(
        5, 2, mdp.row_ptr, mdp.next_state, mdp.prob, mdp.reward, np.tile([True, False, False], 10), mdp.start_state, [1.0]
    )  # every step may end: all policies are proper
    best = best_by_enumeration(mdp, gamma, epsilon)
    np.testing.assert_allclose(epsilon_soft_optimum(mdp, epsilon, gamma).v, best, atol=1e-9)
    if gamma == 1.0:
        np.testing.assert_allclose(modified_policy_iteration(mdp, 1.0).v, best_by_enumeration(mdp, 1.0), atol=1e-9)


@pytest.mark.parametrize("gamma", [0.9, 1.0])
def test_full_softness_is_the_uniform_policy_and_none_the_optimum(gamma):
    mdp = world("Lecture/CliffWalking-v0")
    uniform = policy_evaluation(mdp, np.full((mdp.n_states, 4), 0.25), gamma)
    np.testing.assert_allclose(epsilon_soft_optimum(mdp, 1.0, gamma).v, uniform, rtol=1e-9, atol=1e-9)
    optimum = modified_policy_iteration(mdp, gamma, tol=1e-10).v
    np.testing.assert_allclose(epsilon_soft_optimum(mdp, 0.0, gamma).v, optimum, atol=1e-9)
    np.testing.assert_allclose(epsilon_soft_optimum(mdp, 1e-12, gamma).v, optimum, rtol=1e-8, atol=1e-8)


def test_cliff_walkings_optimum_and_best_soft_policy():
    mdp = world("Lecture/CliffWalking-v0")
    assert start_value(mdp, modified_policy_iteration(mdp, 1.0).v) == pytest.approx(-13.0, abs=1e-9)
    soft = epsilon_soft_optimum(mdp, 0.1, 1.0)
    assert start_value(mdp, soft.v) == pytest.approx(-20.71, abs=5e-3)
    assert start_value(mdp, policy_evaluation(mdp, soft.policy, 1.0)) == pytest.approx(-15.0, abs=1e-9)


def test_frozen_lakes_optimum_from_gymnasiums_own_law():
    mdp = TabularMDP.from_gymnasium(gym.make("FrozenLake-v1", is_slippery=True))
    for solve in (value_iteration, modified_policy_iteration):
        assert start_value(mdp, solve(mdp, 0.99).v) == pytest.approx(0.5420, abs=5e-5)
    # undiscounted, the lake is crossed with probability 14/17
    assert start_value(mdp, modified_policy_iteration(mdp, 1.0).v) == pytest.approx(14 / 17, abs=1e-9)


def test_plain_and_in_place_sweeps_agree_on_a_slippery_grid():
    mdp = world("Lecture/GridWorld-v0", map="four-rooms", slip=0.2)
    fast, slow = modified_policy_iteration(mdp, 0.99, tol=1e-9), value_iteration(mdp, 0.99, tol=1e-9)
    assert fast.error_bound <= 1e-9 and slow.error_bound <= 1e-9
    np.testing.assert_allclose(fast.v, slow.v, atol=2e-9)
    assert fast.iterations < slow.iterations


def test_a_slowly_mixing_world_without_end_meets_its_bound():
    """A ring of 150 states, reward 1 on entering state 0: forwards or backwards."""
    n = MANY
    s = np.arange(n)
    next_state = np.stack([(s + 1) % n, (s - 1) % n], axis=1).ravel()
    mdp = TabularMDP(
        n, 2, np.arange(2 * n + 1), next_state, np.ones(2 * n), (next_state == 0) * 1.0, np.zeros(2 * n, bool), [0], [1.0]
    )
    solution = modified_policy_iteration(mdp, 0.99, tol=1e-8)
    entered = 1 / (1 - 0.99**2)  # from state 0: out and in again for ever, reward 1 at every second step
    distance = np.minimum(s, n - s)
    expected = np.where(s == 0, 0.99 * entered, 0.99 ** (distance - 1.0) * entered)
    np.testing.assert_allclose(solution.v, expected, atol=1e-8)


def test_in_place_sweeps_do_not_turn_in_circles():
    """A world found by search: in-place evaluation with values shifted to the middle of their bounds cycled on it for ever."""
    mdp = random_mdp(62616, n_states=5, n_actions=2, ends=0.0)
    solution = modified_policy_iteration(mdp, 0.99, tol=1e-8)
    np.testing.assert_allclose(solution.v, best_by_enumeration(mdp, 0.99), atol=1e-8)


def test_undiscounted_optimum_prefers_resting_to_a_loss_and_a_treasure_to_resting():
    # 0 may rest, step into the pit (-1), or walk to 1; 1 may return or take the treasure (+1); 2 only the pit or rest
    pit, treasure = go(3, -1.0, True), go(3, 1.0, True)
    mdp = mdp_of(
        [[go(0, 0.0), pit, go(1, 0.0)], [go(0, 0.0), go(1, 0.0), treasure], [go(2, 0.0), pit, pit], [go(3, 0.0, True)] * 3]
    )
    for solve in (value_iteration, modified_policy_iteration):
        solution = solve(mdp, 1.0)
        np.testing.assert_array_equal(solution.v, [1.0, 1.0, 0.0, 0.0])
        np.testing.assert_array_equal(policy_evaluation(mdp, solution.policy, 1.0), solution.v)


def test_undiscounted_optimum_is_minus_infinity_where_no_policy_ends():
    # 0 loops at a loss; 1 can be trapped there with chance 1/2 or take the long way out
    mdp = mdp_of([[go(0, -1.0)] * 2, [[(0.5, 0, 0.0, False), (0.5, 2, 0.0, True)], go(2, -9.0, True)], [go(2, 0.0, True)] * 2])
    np.testing.assert_array_equal(modified_policy_iteration(mdp, 1.0).v, [-np.inf, -9.0, 0.0])
    np.testing.assert_array_equal(epsilon_soft_optimum(mdp, 0.1, 1.0).v, [-np.inf, -np.inf, 0.0])


def test_an_endless_gain_is_refused_though_another_state_ends():
    with pytest.raises(ValueError, match="from state 0 is unbounded"):
        modified_policy_iteration(mdp_of([[go(0, 1.0)], [go(1, 0.0, True)]]), 1.0)


def test_what_never_happens_joins_no_cycle():
    # 1 goes to 0, where one rests; back again with probability 0
    mdp = mdp_of([[[(1.0, 0, 0.0, False), (0.0, 1, 0.0, False)]], [go(0, 5.0)]])
    np.testing.assert_array_equal(policy_evaluation(mdp, [0, 0], gamma=1.0), [0.0, 5.0])


@given(seed=st.integers(0, 10**6), gamma=st.sampled_from([0.9, 1.0]))
@settings(max_examples=MANY, deadline=None)
def test_what_never_happens_leads_nowhere(seed, gamma):
    """An outcome of probability 0 changes no answer, wherever it leads."""
    mdp = random_mdp(seed)
    rng = np.random.default_rng(seed)
    row = np.repeat(np.arange(len(mdp.row_ptr) - 1), np.diff(mdp.row_ptr))
    rows: list[list[list]] = [[[] for _ in range(mdp.n_actions)] for _ in range(mdp.n_states)]
    for j, r in enumerate(row):
        s, a = divmod(int(r), mdp.n_actions)
        rows[s][a].append((mdp.prob[j], int(mdp.next_state[j]), mdp.reward[j], bool(mdp.terminated[j])))
    for actions in rows:
        for outcomes in actions:
            outcomes.insert(int(rng.integers(4)), (0.0, int(rng.integers(mdp.n_states)), 9.0, bool(rng.integers(2))))
    more, policy = mdp_of(rows), np.zeros(mdp.n_states, np.int64)
    for solve in (value_iteration, modified_policy_iteration):
        try:
            v = solve(mdp, gamma).v
        except ValueError as error:
            with pytest.raises(ValueError, match=str(error)[:20]):
                solve(more, gamma)
        else:
            np.testing.assert_allclose(solve(more, gamma).v, v, atol=1e-8)
    np.testing.assert_allclose(policy_evaluation(more, policy, gamma), policy_evaluation(mdp, policy, gamma), atol=1e-9)


@pytest.mark.parametrize("epsilon", [0.0, 0.2])
def test_an_unbounded_undiscounted_optimum_is_refused(epsilon):
    # 0 may loop with reward 1 or end; a cycle 0 → 1 → 0 with net gain counts as well
    for rows in (
        [[go(0, 1.0), go(1, 0.0, True)], [go(1, 0.0, True)] * 2],
        [[go(1, 2.0), go(0, 0.0, True)], [go(0, -1.0), go(0, 0.0, True)]],
        [[go(0, 1.0), go(0, 1.0)]],
    ):
        ends = any(end for row in rows for action in row for *_, end in action)
        if epsilon == 0.0 or not ends:
            with pytest.raises(ValueError, match="unbounded"):
                epsilon_soft_optimum(mdp_of(rows), epsilon, 1.0)
            continue
        assert np.isfinite(epsilon_soft_optimum(mdp_of(rows), epsilon, 1.0).v).all()  # a random action ends it


def test_undiscounted_mazes_with_ties_everywhere_are_solved():
    """Zero step reward: every action of a naive greedy policy ties, and may turn in circles."""
    rng = np.random.default_rng(0)
    rows = ["".join(rng.choice(list("...#"), size=12)) for _ in range(12)]
    rows[0], rows[-1] = "S" + rows[0][1:], rows[-1][:-1] + "G"
    rows = [
        "." * 12 if i % 3 == 1 else row[0].replace("#", ".") + row[1:-1] + row[-1].replace("#", ".")
        for i, row in enumerate(rows)
    ]
    mdp = world("Lecture/GridWorld-v0", map=rows, step_reward=0.0)
    solution = modified_policy_iteration(mdp, 1.0)
    v = policy_evaluation(mdp, solution.policy, 1.0)
    np.testing.assert_allclose(v, solution.v, atol=1e-12)
    assert start_value(mdp, v) == start_value(mdp, modified_policy_iteration(mdp, 1 - 1e-9, tol=1e-3).v.round(3))


# ---- plain twins


def random_chain(seed, n=9):
    """A sparse chain: some rows end with some chance, some only lead on, some rewards are 0; γ = 1 or less."""
    rng = np.random.default_rng(seed)
    rows, leak = [], np.zeros(n)
    gamma = float(rng.choice([0.9, 1.0]))
    for s in range(n):
        heads = np.unique(rng.integers(n, size=rng.integers(1, 4)))
        shares = rng.dirichlet(np.ones(len(heads) + 1))
        if rng.random() < 0.7:
            shares = np.append(shares[:-1] / shares[:-1].sum(), 0.0)
        leak[s] = 1 - gamma + gamma * shares[-1]
        rows.append((heads, gamma * shares[:-1]))
    reward = rng.choice([-1.0, 0.0, 0.0, 2.0], size=n)
    ptr = np.concatenate([[0], np.cumsum([len(heads) for heads, _ in rows])])
    head, weight = (np.concatenate([row[i] for row in rows]) for i in range(2))
    return chain.Chain(ptr, head.astype(np.int32), weight, leak, reward), gamma


@settings(max_examples=60)
@example(seed=3303, eliminate=False)  # all values 0: an error bound of 0 times ∞
@example(seed=562287, eliminate=False)  # two components, whose bounds add up
@given(seed=st.integers(0, 10**6), eliminate=st.booleans())
def test_a_chains_value_is_that_of_the_plain_twin(seed, eliminate):
    some, gamma = random_chain(seed)
    expected = chain.plain_chain_value(some)
    with pytest.MonkeyPatch.context() as patch:
        if not eliminate:
            patch.setattr(chain, "ELIMINATION_MEMORY", 0.0)
        v, closed, bound = chain.chain_value(some, gamma < 1.0)
    np.testing.assert_allclose(v, expected, rtol=1e-8, atol=1e-8)
    scale = max(1.0, np.abs(v[np.isfinite(v)]).max(initial=1.0))
    assert bound <= 1e-10 * len(v) * scale * (not eliminate)  # 1e-10 for each component, of which there are up to one a state
    assert not closed[some.leak > 1e-12].any() and (closed.any() or gamma < 1.0 or np.isfinite(v).all())


@settings(max_examples=25)
@given(
    seed=st.integers(0, 10**6),
    ends=st.sampled_from([0.0, 0.2]),
    gamma=st.sampled_from([0.5, 0.95]),
    sweeps=st.sampled_from([0, 3]),
)
def test_discounted_optima_are_those_of_the_plain_twin(seed, ends, gamma, sweeps):
    mdp = random_mdp(seed, n_states=6, ends=ends)
    v, policy = plain_policy_iteration(mdp, gamma, 1e-8, sweeps)
    solution = modified_policy_iteration(mdp, gamma, 1e-8, sweeps)
    np.testing.assert_allclose(solution.v, v, atol=2e-8)
    assert solution.error_bound <= 1e-8
    np.testing.assert_allclose(policy_evaluation(mdp, policy, gamma), v, atol=1e-7)


def test_episode_lengths_end_where_one_stays_for_ever():
    """0 → 1 → 2 (two steps), 2 stays there for a reward; 3 ends with chance 1/4 a step."""
    mdp = mdp_of([[go(1, 5.0)], [go(2, 0.0)], [go(2, 1.0)], [[(0.75, 3, 0.0, False), (0.25, 3, 0.0, True)]]])
    steps, staying = episode_lengths(mdp, [0, 0, 0, 0])
    np.testing.assert_allclose(steps, [2.0, 1.0, 0.0, 4.0])
    assert staying.tolist() == [False, False, True, False]


def test_exact_optima_have_the_values_of_their_own_policy():
    mdp = random_mdp(9, n_states=5)
    best = exact_optimum(mdp, 0.9, tol=0.05)
    np.testing.assert_array_equal(best.v, policy_evaluation(mdp, best.policy, 0.9))
    np.testing.assert_allclose(best.v, best_by_enumeration(mdp, 0.9), atol=0.1)
    np.testing.assert_array_equal(best.q, q_from_v(mdp, best.v, 0.9))


def test_action_values_leave_out_what_cannot_happen():
    """An end's successor, an outcome of probability 0 and all of the future with γ = 0 count for nothing, though it be -∞."""
    mdp = mdp_of([[[(0.5, 1, 2.0, True), (0.5, 0, 4.0, False), (0.0, 1, 9.0, False)]], [go(1, -1.0)]])
    v = np.array([10.0, -np.inf])
    np.testing.assert_array_equal(q_from_v(mdp, v, 0.5), [[3.0 + 0.5 * 5.0], [-np.inf]])
    np.testing.assert_array_equal(q_from_v(mdp, v, 0.0), [[3.0], [-1.0]])
    with pytest.raises(ValueError, match="one value a state"):
        q_from_v(mdp, np.zeros(3), 0.5)


def test_a_uniform_policy_may_stay_where_gains_and_losses_cancel():
    """Rewards +1 and -1 in a state that is never left: worth 0 at ε = 1, a gain for ever below."""
    mdp = mdp_of([[go(0, 1.0), go(0, -1.0)]])
    assert epsilon_soft_optimum(mdp, 1.0, 1.0).v.tolist() == [0.0]
    with pytest.raises(ValueError, match="unbounded"):
        epsilon_soft_optimum(mdp, 0.5, 1.0)


# ---- small parts


def test_action_values_of_the_optimum_satisfy_bellmans_equation():
    mdp = random_mdp(5)
    v = modified_policy_iteration(mdp, 0.9, tol=1e-11).v
    p, r = dense(mdp, one_hot(np.full(7, 1), 2))
    np.testing.assert_allclose(q_from_v(mdp, v, 0.9)[:, 1], r + 0.9 * p @ v, atol=1e-12)


def test_ties_masks_and_softmax():
    q = np.array([[1.0, 1.0 - 1e-12, 0.0], [-np.inf, -np.inf, -np.inf], [0.0, 2.0, 1.0], [-np.inf, 0.0, np.log(3.0)]])
    np.testing.assert_array_equal(greedy_policy(q), [0, 0, 1, 2])
    np.testing.assert_array_equal(optimal_actions(q)[:2], [[True, True, False], [True, True, True]])
    mask = np.array([[False, False, True], [True, True, False], [True, False, True], [True, True, True]])
    np.testing.assert_array_equal(
        optimal_actions(q, mask), [[False, False, True], [True, True, False], [False, False, True], [False, False, True]]
    )
    pi = softmax_policy(q, temperature=1.0)
    np.testing.assert_allclose(pi[[1, 3]], [[1 / 3, 1 / 3, 1 / 3], [0.0, 0.25, 0.75]])
    np.testing.assert_allclose(softmax_policy(q[2:3], 1e-3), [[0.0, 1.0, 0.0]])
    np.testing.assert_allclose(softmax_policy(q[2:3], 1e9), [[1 / 3, 1 / 3, 1 / 3]], atol=1e-8)


def test_start_value_weighs_the_start_distribution():
    mdp = world("Lecture/GridWorld-v0", map="4x4")  # uniform over the 14 states that are not terminal
    assert start_value(mdp, np.array(GRID_4X4, float)) == pytest.approx(-256 / 14, abs=1e-12)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda m: policy_evaluation(m, np.full(7, 3), 0.9), r"policy\[0\] is 3, actions are 0 to 1"),
        (lambda m: policy_evaluation(m, np.full(6, 0), 0.9), "shape"),
        (lambda m: policy_evaluation(m, np.full((7, 2), 0.3), 0.9), "sum to 1"),
        (lambda m: policy_evaluation(m, np.zeros(7, int), 1.1), "gamma must be in"),
        (lambda m: modified_policy_iteration(m, 0.9, tol=0.0), "tol must be > 0"),
        (lambda m: value_iteration(m, -0.1), "gamma must be in"),
        (lambda m: epsilon_soft_optimum(m, 1.5, 0.9), "epsilon must be in"),
        (lambda m: softmax_policy(np.zeros((2, 2)), 0.0), "temperature must be > 0"),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call(random_mdp(0))


def test_one_slow_sweep_of_a_world_that_mixes_fast_changes_no_method():
    """The span of this world's changes falls by a quarter a sweep on average, but once by less than a fifth."""
    rng, n, n_actions, fan = np.random.default_rng(18), 50, 4, 5
    prob = rng.exponential(size=(n * n_actions, fan))
    prob /= prob.sum(axis=1, keepdims=True)
    mdp = TabularMDP(
        n, n_actions, np.arange(0, prob.size + 1, fan), rng.integers(n, size=prob.size, dtype=np.int32), prob.ravel(),
        np.repeat(rng.random(n * n_actions), fan), np.zeros(prob.size, np.bool_), [0], [1.0],
    )  # fmt: skip
    sweeper = Sweeper(mdp, 0.99)
    sweeper.greedy()
    span, rate = sweeper.evaluate(1e-9, 100)
    assert span <= 1e-9 and rate < 0.8
