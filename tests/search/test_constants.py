"""Every constant of the search against numbers worked by hand and slow twins: a term dropped or turned must be noticed.

All trees are small models called from outside, so the tests also run, slowly, with NUMBA_DISABLE_JIT=1.
"""

import numpy as np
import pytest
import torch as th

from sb3_lecture.common.distributional import inverse_value_transform
from sb3_lecture.search.mcts import MCTS
from sb3_lecture.search.model_kernels import read_out
from sb3_lecture.search.simulators import Expansion, ModelSimulator, Root, TabularSimulator
from sb3_lecture.search.tree import PUCT, UCT, exploration_table, halving_schedule
from sb3_lecture_envs.mdp import TabularMDP


def bandit(rewards: np.ndarray, logits: np.ndarray, values: np.ndarray | None = None) -> tuple[ModelSimulator, Root]:
    """One step, then the end: rewards [B, A]."""
    rows = np.arange(len(rewards))

    def step(embeddings: np.ndarray, actions: np.ndarray) -> Expansion:
        return Expansion(embeddings, rewards[rows, actions], 0.0, np.zeros_like(rewards), np.zeros(len(rewards)))

    values = np.zeros(len(rewards)) if values is None else values
    return ModelSimulator(step, rewards.shape[1]), Root(rows[:, None], logits, values)


def softmax(x: np.ndarray) -> np.ndarray:
    return np.exp(x - x.max()) / np.exp(x - x.max()).sum()


# ---- what exploration is worth


def test_exploration_terms_by_hand() -> None:
    """PUCT at ΣN = 3: √4 (c1 + ln((3 + c2 + 1) / c2)), the node's own evaluation counted; UCT at ΣN = 3: c √ln 3."""
    assert exploration_table(PUCT, 5, 1.25, 10.0)[4] == pytest.approx(2.0 * (1.25 + np.log(14 / 10)))
    assert exploration_table(PUCT, 5, 0.0, 10.0)[1] == pytest.approx(np.log(1.1))
    assert exploration_table(UCT, 5, 1.5, 10.0)[4] == pytest.approx(1.5 * np.sqrt(np.log(3)))
    assert exploration_table(UCT, 5, 1.5, 10.0)[2] == 0.0


def slow_uct(rewards: np.ndarray, n: int, c: float) -> np.ndarray:
    """UCB1 (Auer et al. 2002): each arm once, in order, then argmax Q + c √(ln t / N) with t plays so far."""
    visits = np.zeros(len(rewards))
    for t in range(n):
        unseen = np.flatnonzero(visits == 0)
        with np.errstate(divide="ignore", invalid="ignore"):
            arm = unseen[0] if len(unseen) else int(np.argmax(rewards + c * np.sqrt(np.log(t) / visits)))
        visits[arm] += 1
    return visits


@pytest.mark.parametrize("c", [0.3, 1.0, 2.0])
def test_uct_visits_equal_ucb1s(c: float) -> None:
    rng = np.random.default_rng(0)
    rewards = rng.normal(size=(6, 5))
    simulator, root = bandit(rewards, np.zeros((6, 5)))
    visits = MCTS(simulator, n_simulations=40, selection="uct", c_uct=c).search(root).visits
    for b in range(6):
        np.testing.assert_array_equal(visits[b], slow_uct(rewards[b], 40, c))


def slow_puct(prior: np.ndarray, rewards: np.ndarray, n: int, c1: float, c2: float, value: float, span, lowest: bool):
    """PUCT of one node, from its own value on: eq. 2 on eq. 5, the range begun at ``span`` or at the value."""
    visits, total = np.zeros(len(prior)), value
    low, high = (value, value) if span is None else (min(span[0], value), max(span[1], value))
    for t in range(n):
        q = np.where(visits > 0, rewards, low if lowest else total / (t + 1))
        scaled = (q - low) / (high - low) if high > low else np.zeros(len(q))
        bonus = prior * np.sqrt(t + 1) / (1 + visits) * (c1 + np.log((t + c2 + 1) / c2))
        arm = int(np.argmax(scaled + bonus))
        visits[arm] += 1
        total += rewards[arm]
        low, high = min(low, rewards[arm]), max(high, rewards[arm])
    return visits


@pytest.mark.parametrize("first_play", ["parent", "lowest"])
@pytest.mark.parametrize("value_range", [None, (-2.0, 2.0), (0.0, 0.1)])
@pytest.mark.parametrize(("c1", "c2"), [(1.25, 19652.0), (0.4, 5.0)])
def test_puct_visits_equal_their_slow_twin_with_every_constant(c1, c2, value_range, first_play) -> None:
    rng = np.random.default_rng(1)
    rewards, logits, values = rng.normal(size=(5, 4)), rng.normal(size=(5, 4)), rng.normal(size=5)
    simulator, root = bandit(rewards, logits, values)
    search = MCTS(simulator, n_simulations=30, c_init=c1, c_base=c2, value_range=value_range, first_play=first_play)
    result = search.search(root)
    for b in range(5):
        expected = slow_puct(softmax(logits[b]), rewards[b], 30, c1, c2, values[b], value_range, first_play == "lowest")
        np.testing.assert_array_equal(result.visits[b], expected)
        np.testing.assert_allclose(result.policy[b], expected / 30, atol=1e-6)
        np.testing.assert_allclose(result.values[b], (values[b] + expected @ rewards[b]) / 31, atol=1e-5)


def test_equal_scores_go_to_the_lowest_action_at_the_root_and_below() -> None:
    """Two actions everywhere, uniform priors, no rewards: 0, 1, 0, 1 at the root; below it likewise."""
    kept = {}

    def step(embeddings: np.ndarray, actions: np.ndarray) -> Expansion:
        kept.setdefault(int(embeddings[0, 0]), []).append(int(actions[0]))
        return Expansion(2 * embeddings + 1 + actions[:, None], np.zeros(1), 1.0, np.zeros((1, 2)), np.zeros(1))

    result = MCTS(ModelSimulator(step, 2), n_simulations=6).search(Root(np.zeros((1, 1)), np.zeros((1, 2)), np.zeros(1)))
    assert result.visits.tolist() == [[3, 3]] and result.actions[0] == 0
    assert kept == {0: [0, 1], 1: [0, 1], 2: [0, 1]}


# ---- noise


def test_dirichlet_noise_has_its_share_and_its_concentration() -> None:
    """P = (1 − ε) p + ε η, η ~ Dir(α) over k = 4 actions: each has mean 1 / k and variance (1 / k)(1 − 1 / k) / (k α + 1)."""
    n, k = 4000, 4
    logits = np.tile(np.log([0.1, 0.2, 0.3, 0.4]), (n, 1))
    simulator, root = bandit(np.zeros((n, k)), logits)
    for alpha, fraction in ((0.3, 0.25), (3.0, 0.5)):
        search = MCTS(simulator, n_simulations=1, dirichlet_alpha=alpha, dirichlet_fraction=fraction, seed=0)
        eta = (search.search(root, noise=True).prior - (1 - fraction) * softmax(logits[0])) / fraction
        np.testing.assert_allclose(eta.sum(axis=1), 1.0, atol=1e-4)
        np.testing.assert_allclose(eta.mean(axis=0), 1 / k, atol=0.02)
        np.testing.assert_allclose(eta.var(axis=0), (1 / k) * (1 - 1 / k) / (k * alpha + 1), rtol=0.1)
        assert eta.min() > -1e-5
        np.testing.assert_allclose(search.search(root).prior[0], [0.1, 0.2, 0.3, 0.4], rtol=1e-5)  # without noise: p


def test_gumbel_draws_at_the_root_sample_the_policy() -> None:
    """With one action considered the choice is argmax g + logits, and that is a draw from the softmax (Gumbel-max)."""
    n = 6000
    logits = np.tile(np.log([0.1, 0.2, 0.7]), (n, 1))
    simulator, root = bandit(np.zeros((n, 3)), logits)
    search = MCTS(simulator, n_simulations=1, selection="gumbel", max_considered_actions=1, seed=0)
    drawn = search.search(root, noise=True)
    np.testing.assert_allclose(np.bincount(drawn.actions) / n, [0.1, 0.2, 0.7], atol=0.02)
    np.testing.assert_array_equal(drawn.visits.argmax(axis=1), drawn.actions)
    assert (search.search(root).actions == 2).all()  # without noise: the most likely


def test_a_temperature_draws_in_proportion_to_visits() -> None:
    """Visits 3, 1: at τ = 1 shares ¾ and ¼, at τ = ½ 9 to 1, at τ = 0 the first alone."""
    n = 6000
    simulator, root = bandit(np.tile([1.0, 0.0], (n, 1)), np.zeros((n, 2)))
    search = MCTS(simulator, n_simulations=4, seed=0)
    assert (search.search(root).visits == [3, 1]).all()
    for tau, share in ((1.0, 0.75), (0.5, 0.9), (0.0, 1.0)):
        assert (search.search(root, temperature=tau).actions == 0).mean() == pytest.approx(share, abs=0.02)


# ---- Gumbel


@pytest.mark.parametrize(
    ("n", "k", "order"),
    [
        (8, 4, [0, 0, 0, 0, 1, 1, 2, 2]),  # ⌊8 / (2 · 4)⌋ = 1 to four, ⌊8 / (2 · 2)⌋ = 2 to two
        (7, 3, [0, 0, 0, 1, 1, 2, 2]),  # ⌈log2 3⌉ = 2 phases; three, then two
        (4, 8, [0, 0, 0, 0]),  # too few: the best four once
        (5, 1, [0, 1, 2, 3, 4]),
    ],
)
def test_sequential_halving_by_hand(n: int, k: int, order: list[int]) -> None:
    assert halving_schedule(n, 8)[k].tolist() == order


@pytest.mark.parametrize(("c_visit", "c_scale"), [(50.0, 0.1), (10.0, 1.0), (0.0, 0.5)])
def test_the_improved_policy_has_both_constants_of_equation_8(c_visit: float, c_scale: float) -> None:
    """σ(q) = (c_visit + max N) c_scale q, on values scaled to [0, 1] by 0 (the root's value) and the best reward."""
    rewards, logits = np.array([[0.5, 2.0, 1.0]]), np.array([[0.3, 0.0, -0.2]])
    simulator, root = bandit(rewards, logits)
    search = MCTS(simulator, n_simulations=9, selection="gumbel", c_visit=c_visit, c_scale=c_scale)
    result = search.search(root)
    assert (result.visits > 0).all()
    sigma = (c_visit + result.visits.max()) * c_scale
    np.testing.assert_allclose(result.policy[0], softmax(logits[0] + sigma * rewards[0] / 2.0), atol=1e-5)


def slow_interior(logits: np.ndarray, rewards: np.ndarray, value: float, n: int) -> np.ndarray:
    """Eq. 14 in a node whose own value is ``value``: argmax π'(a) − N(a) / (1 + ΣN), π' by eq. 11 and 33, c as in mctx.

    The only legal action of the root, worth 0, leads there for nothing; the range is that of the whole tree.
    """
    visits, prior = np.zeros(len(logits)), softmax(logits)
    low, high = min(0.0, value), max(0.0, value)
    returns = [value]
    for t in range(n):
        met = visits > 0
        mixed = value if not met.any() else (value + t * (prior[met] @ rewards[met]) / prior[met].sum()) / (1 + t)
        completed = np.where(met, rewards, mixed)
        sigma = (50 + visits.max()) * 0.1 / (high - low) if high > low else 0.0
        arm = int(np.argmax(softmax(logits + sigma * completed) - visits / (1 + t)))
        visits[arm] += 1
        returns.append(rewards[arm])
        low, high = min(low, rewards[arm], np.mean(returns)), max(high, rewards[arm], np.mean(returns))
    return visits


def test_gumbel_below_the_root_equals_its_slow_twin() -> None:
    rng = np.random.default_rng(4)
    for _ in range(6):
        logits, rewards, value = rng.normal(size=4), rng.normal(size=4), rng.normal()

        def step(embeddings, actions, logits=logits, rewards=rewards, value=value) -> Expansion:
            if embeddings[0, 0] == 0:  # from the root
                return Expansion(np.ones((1, 1)), np.zeros(1), 1.0, logits[None], np.array([value]))
            return Expansion(np.full((1, 1), 2.0), rewards[actions], 0.0, np.zeros((1, 4)), np.zeros(1))

        search = MCTS(ModelSimulator(step, 4), n_simulations=25, selection="gumbel")
        root = Root(np.zeros((1, 1)), np.zeros((1, 4)), np.zeros(1))
        search.search(root, np.array([[True, False, False, False]]))
        edges = search._tree.visits[0, 1]
        np.testing.assert_array_equal(edges, slow_interior(logits, rewards, value, 24))


@pytest.mark.parametrize("m", [4, 5])
def test_a_number_is_read_out_of_its_bins(m):
    """h⁻¹ of the bins' expectation (Pohlen et al. 2018, proposition A.2), wherever the logits begin."""
    y = np.random.default_rng(m).normal(size=3 + m + 2).astype(np.float32)
    bins = np.linspace(-2.0, 3.0, m).astype(np.float32)
    p = np.exp(y[3 : 3 + m])
    expected = inverse_value_transform(th.tensor(float(p @ bins / p.sum())))
    assert read_out(y, 3, bins) == pytest.approx(float(expected), rel=1e-5)
    assert read_out(y, 3, bins[:0]) == y[3]


def test_a_rollout_is_the_discounted_sum_of_its_rewards():
    """Rewards 1, 2 and 4 in a row, then the end, γ = 0.5: 1 + 0.5 · 2 + 0.25 · 4 = 3."""
    mdp = TabularMDP.from_P({0: {0: [(1.0, 1, 1.0, False)]}, 1: {0: [(1.0, 2, 2.0, False)]}, 2: {0: [(1.0, 2, 4.0, True)]}})
    search = MCTS(TabularSimulator(mdp, gamma=0.5), n_simulations=1, selection="uct", seed=0)
    assert search.search(np.array([0])).values == pytest.approx(3.0)
