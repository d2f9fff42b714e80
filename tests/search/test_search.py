"""The search against trees worked by hand, an independent slow twin, and solved games."""

import pickle

import gymnasium as gym
import numpy as np
import pytest

from sb3_lecture.search.compiled_mlp import CompiledMLP
from sb3_lecture.search.mcts import MCTS, RolloutSearch
from sb3_lecture.search.simulators import (
    EnvSimulator,
    Expansion,
    GameSimulator,
    ModelSimulator,
    Root,
    TabularSimulator,
)
from sb3_lecture.search.tree import halving_schedule
from sb3_lecture_envs.board.connect_four import ConnectFour
from sb3_lecture_envs.board.go import Go
from sb3_lecture_envs.board.nim import Nim
from sb3_lecture_envs.board.othello import Othello
from sb3_lecture_envs.board.players import optimal_moves
from sb3_lecture_envs.board.tic_tac_toe import TicTacToe
from sb3_lecture_envs.mdp import TabularMDP


def uniform(observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """A network that knows nothing of nine cells."""
    return np.zeros((len(observations), 9)), np.zeros(len(observations))


def bandit(rewards: np.ndarray, logits: np.ndarray) -> tuple[ModelSimulator, Root]:
    """One step, then the end: rewards [B, A]."""
    rows = np.arange(len(rewards))

    def step(embeddings: np.ndarray, actions: np.ndarray) -> Expansion:
        return Expansion(embeddings, rewards[rows, actions], 0.0, np.zeros_like(rewards), np.zeros(len(rewards)))

    return ModelSimulator(step, rewards.shape[1]), Root(rows[:, None], logits, np.zeros(len(rewards)))


# ---- trees worked by hand


def test_puct_golden_tree_with_different_legal_moves_a_row() -> None:
    """Three simulations of a bandit with priors (½, ¼, ¼), c1 = 1, c2 → ∞, root value 0, unvisited = least value (0).

    Row 0, all legal, rewards (0, 1, 0). U = P √n / (1 + N), n = 1, 2, 3.
      1: Q none; U = (.5, .25, .25) → 0, reward 0. Range [0, 0].
      2: U = √2 (.25, .25, .25): Q = 0 everywhere, tie → 0. Reward 0.
      3: U = √3 (.5/3, .25, .25) → 1, reward 1. Visits (2, 1, 0), Q(1) = 1.
    Row 1, action 0 illegal: priors (−, ½, ½); rewards the same.
      1: tie → 1, reward 1; range [0, 1]. 2: Q(1) = 1, 1 + √2/4 against √2/2 → 1. 3: 1 + √3/6 against √3/2 → 1.
    """
    rewards = np.array([[0.0, 1.0, 0.0]] * 2)
    simulator, root = bandit(rewards, np.log(np.array([[0.5, 0.25, 0.25]] * 2)))
    search = MCTS(simulator, n_simulations=3, c_init=1.0, c_base=1e12, first_play="lowest")
    legal = np.array([[True, True, True], [False, True, True]])
    result = search.search(root, legal)
    np.testing.assert_array_equal(result.visits, [[2, 1, 0], [0, 3, 0]])
    np.testing.assert_allclose(result.q[0, :2], [0.0, 1.0])
    np.testing.assert_allclose(result.values, [1 / 4, 3 / 4])  # mean of the root's own 0 and three returns
    np.testing.assert_allclose(result.prior, [[0.5, 0.25, 0.25], [0.0, 0.5, 0.5]], rtol=1e-6)
    np.testing.assert_array_equal(result.actions, [0, 1])


@pytest.mark.parametrize(("discount", "value"), [(0.5, 1.0 + 0.5 * (2.0 + 0.5 * 4.0)), (-1.0, 1.0 - (2.0 - 4.0))])
def test_backup_carries_rewards_and_discounts_up_a_chain(discount: float, value: float) -> None:
    """One action, rewards 1, 2, 3 … and leaf values 3, 4 after one and two steps: the second return is worked by hand."""

    def step(embeddings: np.ndarray, actions: np.ndarray) -> Expansion:
        after = embeddings + 1.0
        return Expansion(after, after[:, 0], discount, np.zeros((1, 1)), after[:, 0] + 2.0)

    search = MCTS(ModelSimulator(step, 1), n_simulations=2)
    result = search.search(Root(np.zeros((1, 1)), np.zeros((1, 1)), np.zeros(1)))
    first = 1.0 + discount * 3.0  # reward 1, leaf value 3; the second goes on: 1, then 2, leaf value 4
    np.testing.assert_allclose(result.q[0, 0], (first + value) / 2)


def test_halving_schedule_worked_by_hand() -> None:
    """Sixteen simulations, four actions: two each to four (⌊16 / (2·4)⌋), four each to two."""
    assert halving_schedule(16, 4)[4].tolist() == [0] * 4 + [1] * 4 + [2, 2, 3, 3, 4, 4, 5, 5]
    assert halving_schedule(5, 3)[1].tolist() == [0, 1, 2, 3, 4]


def test_gumbel_visits_follow_sequential_halving() -> None:
    """Eight arms, one illegal, m = 4: the four best logits are served, then the better two of them by reward."""
    logits = np.array([[9.0, 3.0, 2.9, 2.8, 2.7, 0.0, 0.0, 0.0]])
    rewards = np.array([[5.0, 0.1, 0.9, 0.8, 0.2, 5.0, 5.0, 5.0]])
    simulator, root = bandit(rewards, logits)
    search = MCTS(simulator, n_simulations=16, selection="gumbel", max_considered_actions=4)
    result = search.search(root, np.arange(8)[None] > 0)
    np.testing.assert_array_equal(result.visits, [[0, 2, 6, 6, 2, 0, 0, 0]])
    assert result.actions[0] == 2


# ---- an independent slow twin


def slow_puct(prior: np.ndarray, rewards: np.ndarray, n: int, c_init: float, c_base: float) -> np.ndarray:
    """PUCT on a bandit as Schrittwieser et al. 2020 write it, with every return kept in a list."""
    returns: list[list[float]] = [[] for _ in prior]
    for t in range(n):
        means = [np.mean(r) for r in returns if r]
        low, high = min([0.0, *means]), max([0.0, *means])
        if t:
            low, high = min(low, seen_low), max(high, seen_high)  # noqa: F821
        everything = [0.0, *(x for r in returns for x in r)]
        scores = []
        for p, r in zip(prior, returns, strict=True):
            q = (np.mean(r) if r else np.mean(everything)) - low
            bonus = p * np.sqrt(t + 1) / (1 + len(r)) * (c_init + np.log((t + c_base + 1) / c_base))
            scores.append((q / (high - low) if high > low else 0.0) + bonus)
        arm = int(np.argmax(scores))
        returns[arm].append(rewards[arm])
        seen_low, seen_high = min(low, np.mean(returns[arm])), max(high, np.mean(returns[arm]))  # noqa: F841
    return np.array([len(r) for r in returns])


def test_puct_visits_equal_the_slow_twins() -> None:
    rng = np.random.default_rng(0)
    rewards, logits = rng.normal(size=(20, 6)), rng.normal(size=(20, 6))
    simulator, root = bandit(rewards, logits)
    visits = MCTS(simulator, n_simulations=60, c_base=50.0).search(root).visits
    prior = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    for b in range(20):
        np.testing.assert_array_equal(visits[b], slow_puct(prior[b], rewards[b], 60, 1.25, 50.0))


def slow_gumbel(logits: np.ndarray, rewards: np.ndarray, n: int, m: int) -> tuple[np.ndarray, int]:
    """Algorithm 2 of Danihelka et al. 2022 with explicit phases and an explicit set of survivors."""
    visits = np.zeros(len(logits), int)
    logits = logits - np.log(np.exp(logits).sum())
    alive = list(np.argsort(-logits)[:m])
    phases = max(1, int(np.ceil(np.log2(m))))

    def score(a: int) -> float:
        met = [0.0, *rewards[visits > 0]]
        span = max(met) - min(met)
        return float(logits[a] + (50 + visits.max()) * 0.1 * (rewards[a] - min(met)) / span)

    while visits.sum() < n:
        for _ in range(max(1, n // (phases * len(alive)))):
            for a in alive:
                visits[a] += visits.sum() < n
        alive = sorted(alive, key=score, reverse=True)[: max(2, len(alive) // 2)]
    most = [a for a in range(len(logits)) if visits[a] == visits.max()]
    return visits, max(most, key=score)


def test_gumbel_visits_equal_the_slow_twins() -> None:
    rng = np.random.default_rng(1)
    rewards, logits = rng.normal(size=(20, 8)), rng.normal(size=(20, 8))
    simulator, root = bandit(rewards, logits)
    for n, m in ((32, 4), (48, 8), (16, 2)):
        result = MCTS(simulator, n_simulations=n, selection="gumbel", max_considered_actions=m).search(root)
        for b in range(20):
            visits, action = slow_gumbel(logits[b], rewards[b], n, m)
            np.testing.assert_array_equal(result.visits[b], visits)
            assert result.actions[b] == action


def test_gumbel_improved_policy_is_equation_11() -> None:
    """π' = softmax(logits + σ(completed Q)), with v_mix for the actions without visits (eq. 33), written out with numpy."""
    rng = np.random.default_rng(2)
    rewards, logits = rng.normal(size=(5, 8)), rng.normal(size=(5, 8))
    simulator, root = bandit(rewards, logits)
    result = MCTS(simulator, n_simulations=12, selection="gumbel", max_considered_actions=4).search(root)
    for b in range(5):
        pi, n = np.exp(logits[b]) / np.exp(logits[b]).sum(), result.visits[b]
        met = n > 0
        v_mix = (0.0 + n.sum() * (pi[met] @ rewards[b][met]) / pi[met].sum()) / (1 + n.sum())
        low, high = min(0.0, rewards[b][met].min()), max(0.0, rewards[b][met].max())
        z = logits[b] + (50 + n.max()) * 0.1 * (np.where(met, rewards[b], v_mix) - low) / (high - low)
        np.testing.assert_allclose(result.policy[b], np.exp(z - z.max()) / np.exp(z - z.max()).sum(), atol=1e-5)


def mctx_policy(logits: np.ndarray, q: np.ndarray, visits: np.ndarray, raw_value: float) -> np.ndarray:
    """π' as mctx has it (``qtransform_completed_by_mix_value``: value_scale 0.1, maxvisit_init 50, rescale_values)."""
    prior = np.exp(logits - logits.max()) / np.exp(logits - logits.max()).sum()
    met = visits > 0
    mixed = (raw_value + visits.sum() * (prior[met] @ q[met]) / prior[met].sum()) / (visits.sum() + 1)
    completed = np.where(met, q, mixed)
    completed = (completed - completed.min()) / max(completed.max() - completed.min(), 1e-8)
    z = logits + (50 + visits.max()) * 0.1 * completed
    return np.exp(z - z.max()) / np.exp(z - z.max()).sum()


def test_gumbel_improves_a_policy_as_mctx_does_where_the_ranges_agree() -> None:
    """Where the root's own value is the least of all values met, the tree's range is that of the completed values."""
    rng = np.random.default_rng(3)
    rewards, logits = rng.uniform(0.2, 1.0, size=(6, 4)), rng.normal(size=(6, 4))
    rewards[:, 0] = 0.0  # met, and as bad as the root's value
    simulator, root = bandit(rewards, logits)
    result = MCTS(simulator, n_simulations=16, selection="gumbel").search(root)
    assert (result.visits > 0).all()
    for b in range(6):
        np.testing.assert_allclose(result.policy[b], mctx_policy(logits[b], rewards[b], result.visits[b], 0.0), atol=1e-5)


def test_values_a_millionth_apart_stay_alike_where_the_range_is_known() -> None:
    simulator, root = bandit(np.array([[0.0, 1e-6]]), np.zeros((1, 2)))
    known = MCTS(simulator, n_simulations=8, selection="gumbel", value_range=(-1.0, 1.0)).search(root)
    np.testing.assert_allclose(known.policy, [[0.5, 0.5]], atol=1e-5)
    unknown = MCTS(simulator, n_simulations=8, selection="gumbel").search(root)  # σ = 54 · 0.1 on the whole range
    np.testing.assert_allclose(unknown.policy[0, 1], 1 / (1 + np.exp(-5.4)), rtol=1e-5)


def test_an_optimistic_network_leaves_an_improved_policy() -> None:
    """All values lie so far below the mixed one that e^(σ (q − v_mix)) would underflow in each: π' is a softmax still."""
    simulator, root = bandit(np.array([[0.0, 1e-3]]), np.zeros((1, 2)))
    search = MCTS(simulator, n_simulations=4, selection="gumbel", c_scale=100.0)
    policy = search.search(root._replace(values=np.array([1.0]))).policy
    sigma = (50 + 2) * 100.0 * 1e-3 / 1.0
    np.testing.assert_allclose(policy[0, 1], 1 / (1 + np.exp(-sigma)), rtol=1e-3)


# ---- the batch


def random_positions(n: int, seed: int) -> np.ndarray:
    game, rng, out = TicTacToe(), np.random.default_rng(seed), []
    while len(out) < n:
        state = game.initial(1)
        for _ in range(rng.integers(0, 6)):
            state, _, over = game.step(state, [rng.choice(np.flatnonzero(game.legal(state)[0]))])
            if over[0]:
                break
        else:
            out.append(state[0])
    return np.array(out)


@pytest.mark.parametrize("selection", ["puct", "gumbel"])
def test_a_batch_is_searched_as_its_rows_one_by_one(selection: str) -> None:
    rng = np.random.default_rng(0)
    w = rng.normal(size=(18, 10)) / 3

    def evaluate(x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        y = np.einsum("bi,ij->bj", x.reshape(len(x), -1), w)  # the same sum whatever the batch
        return y[:, :9], np.tanh(y[:, 9])

    states = random_positions(12, 0)
    search = MCTS(GameSimulator(TicTacToe()), evaluate, 40, selection)
    together = search.search(states)
    for b in range(len(states)):
        alone = search.search(states[b : b + 1])
        for ours, theirs in zip(alone, together, strict=True):
            np.testing.assert_array_equal(ours[0], theirs[b])
    # the compiled network grows the same trees
    compiled = MCTS(GameSimulator(TicTacToe()), CompiledMLP([w], [np.zeros(10)]), 40, selection).search(states)
    np.testing.assert_array_equal(compiled.visits, together.visits)
    np.testing.assert_allclose(compiled.q, together.q, atol=1e-5)


def test_one_seed_one_result_and_pickling_keeps_it() -> None:
    search = MCTS(GameSimulator(TicTacToe()), uniform, 30, seed=3)
    copy = pickle.loads(pickle.dumps(search))
    states = random_positions(4, 1)
    first, second = search.search(states, noise=True), copy.search(states, noise=True)
    np.testing.assert_array_equal(first.visits, second.visits)
    assert np.any(search.search(states, noise=True).prior != first.prior)


def test_dirichlet_noise_mixes_over_legal_moves_alone() -> None:
    """With fraction 1 and α → ∞ the noise is uniform over the legal moves; with fraction 0 the prior stays."""
    states = random_positions(6, 2)
    legal = TicTacToe().legal(states)
    search = MCTS(GameSimulator(TicTacToe()), uniform, 5, dirichlet_alpha=1e7, dirichlet_fraction=1.0, seed=0)
    result = search.search(states, noise=True)
    np.testing.assert_allclose(result.prior, legal / legal.sum(axis=1, keepdims=True), atol=2e-3)
    assert np.all(result.visits[~legal] == 0)
    np.testing.assert_array_equal(result.visits.sum(axis=1), 5)


def test_forbidden_moves_at_the_root_are_never_visited() -> None:
    states = TicTacToe().initial(2)
    allowed = np.zeros((2, 9), np.bool_)
    allowed[0, [1, 5]], allowed[1, 7] = True, True
    for search in (MCTS(GameSimulator(TicTacToe()), uniform, 20), RolloutSearch(TicTacToe(), 20)):
        visits = search.search(states, allowed).visits
        assert np.all(visits[~allowed] == 0)
        assert np.all(visits.sum(axis=1) == 20)


# ---- tree reuse


def test_a_kept_tree_is_the_subtree_and_is_topped_up() -> None:
    game = TicTacToe()
    search = MCTS(GameSimulator(game), uniform, 60)
    states = random_positions(5, 3)
    before = search.search(states)
    next_states, _, over = game.step(states, before.actions)
    kept = search.advance(before.actions)
    np.testing.assert_array_equal(kept, ~over)
    sizes = search._tree.links[:5, 0, 2] - 1  # visits the new roots bring along
    assert kept.sum() >= 3
    for b in np.flatnonzero(kept):
        assert sizes[b] == before.visits[b, before.actions[b]] - 1  # its first visit was its own evaluation
    edges = search._tree.visits[:5, 0].copy()
    roots = np.where(over[:, None], game.initial(5), next_states)
    after = search.search(roots)
    np.testing.assert_array_equal(after.visits.sum(axis=1), 60)  # topped up, not added to
    assert (after.visits >= edges)[kept].all()


def test_a_kept_tree_is_dropped_where_the_root_is_another_state() -> None:
    game = TicTacToe()
    search, fresh = MCTS(GameSimulator(game), uniform, 60), MCTS(GameSimulator(game), uniform, 60)
    states = game.initial(2)
    actions = search.search(states).actions
    search.advance(actions)
    other = random_positions(2, 4)
    np.testing.assert_array_equal(search.search(other).visits, fresh.search(other).visits)


def test_a_kept_tree_forgets_what_lies_behind_a_forbidden_move() -> None:
    """A move that is forbidden from now on has no visit, no share of π and no part in the root's value."""
    game = TicTacToe()
    search, fresh = MCTS(GameSimulator(game), uniform, 60), MCTS(GameSimulator(game), uniform, 60)
    states = game.initial(2)
    actions = search.search(states).actions
    states, _, _ = game.step(states, actions)
    assert search.advance(actions).all()
    brought = search._tree.visits[:2, 0].argmax(axis=1)  # the move that the kept tree looked at most
    allowed = game.legal(states)
    allowed[0, brought[0]] = False  # in the second row nothing is forbidden: its tree is kept
    result, again = search.search(states, allowed), fresh.search(states, allowed)
    assert result.visits[0, brought[0]] == 0 and result.policy[0, brought[0]] == 0.0
    for ours, theirs in zip(result, again, strict=True):
        np.testing.assert_array_equal(ours[0], theirs[0])
    assert result.visits[1, brought[1]] > 0


# ---- solved games


def test_rollouts_agree_with_the_solver_where_it_matters_a_subset() -> None:
    game = TicTacToe()
    levels = game.grader().states
    rng = np.random.default_rng(0)
    states = np.concatenate([level[rng.permutation(len(level))[:8]] for level in levels])
    result = RolloutSearch(game, 10_000, seed=0).search(states)
    best = optimal_moves(game.grader().move_values(states))
    assert best[np.arange(len(states)), result.actions].all()


@pytest.mark.slow
def test_rollouts_agree_with_the_solver_everywhere() -> None:
    game = TicTacToe()
    states = np.concatenate(game.grader().states)
    best = optimal_moves(game.grader().move_values(states))
    search = RolloutSearch(game, 100_000, seed=0)
    actions = np.concatenate([search.search(part).actions for part in np.array_split(states, len(states) // 16)])
    assert best[np.arange(len(states)), actions].all()


@pytest.mark.slow  # the kernels of one more game are compiled
def test_nim_rollouts_find_the_only_winning_move() -> None:
    game = Nim()
    states = game.initial(1)
    values = game.grader().move_values(states)
    action = RolloutSearch(game, 20_000, seed=0).search(states).actions[0]
    assert optimal_moves(values)[0, action]


def play(game, moves: str) -> np.ndarray:
    state = game.initial(1)
    for word in moves.split():
        state = game.step(state, [game.text_to_action(word)])[0]
    return state


def random_game(game, rng: np.random.Generator, plies: int) -> np.ndarray | None:
    """The state after so many random moves, or None where the game ended before."""
    state = game.initial(1)
    for _ in range(plies):
        state, _, over = game.step(state, [rng.choice(np.flatnonzero(game.legal(state)[0]))])
        if over[0]:
            return None
    return state[0]


def forced(game, plies: int, n: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions where the side to move wins in exactly so many plies by the solver, and all the moves that win at all."""
    rng, grader, found = np.random.default_rng(seed), game.grader(), []
    drawn = (random_game(game, rng, int(rng.integers(game.max_plies // 3, game.max_plies - plies + 1))) for _ in range(3000))
    for state in drawn:
        if state is None:
            continue
        scores = grader.move_scores(state[None])
        if isinstance(game, ConnectFour):  # a win at once scores half the empty cells
            distance = 2 * ((43 - state[0]) // 2 - scores.max()) + 1
        else:
            distance = game.max_plies + 1 - scores.max()
        if scores.max() > 0 and distance == plies and (scores[scores > -1000] <= 0).any():
            found.append(state)
        if len(found) == n:
            break
    states = np.array(found)
    assert len(states) == n
    return states, optimal_moves(grader.move_values(states))


def winning_moves(game, state: np.ndarray, plies: int) -> np.ndarray:
    """Which moves win by force within so many plies, by plain recursion: bool [A]."""
    wins = np.zeros(game.n_actions, np.bool_)
    actions = np.flatnonzero(game.legal(state[None])[0])
    after, rewards, over = game.step(np.repeat(state[None], len(actions), 0), actions)
    for action, child, reward, ended in zip(actions, after, rewards, over, strict=True):
        if ended:
            wins[action] = reward > 0
        elif plies >= 3:
            replies = np.flatnonzero(game.legal(child[None])[0])
            then, back, done = game.step(np.repeat(child[None], len(replies), 0), replies)
            wins[action] = np.all(back[done] < 0) and all(winning_moves(game, s, plies - 2).any() for s in then[~done])
    return wins


def finds_forced_wins(game, plies: int, n: int, simulations: int) -> bool:
    states, winning = forced(game, plies, n, plies)
    actions = RolloutSearch(game, simulations, seed=0).search(states).actions
    return bool(winning[np.arange(len(states)), actions].all())


@pytest.mark.parametrize(
    ("game", "plies"), [(TicTacToe(), 1), (TicTacToe(), 3), (TicTacToe(), 5), (ConnectFour(), 3)], ids=repr
)
def test_forced_wins_are_found(game, plies: int) -> None:
    assert finds_forced_wins(game, plies, 3, 3000)


@pytest.mark.slow
@pytest.mark.parametrize("plies", [1, 3, 5])
@pytest.mark.parametrize("game", [TicTacToe(), ConnectFour(), Nim()], ids=["TicTacToe", "ConnectFour", "Nim"])
def test_more_forced_wins_are_found(game, plies: int) -> None:
    assert finds_forced_wins(game, plies, 10, 20_000)


@pytest.mark.slow  # the kernels of two more games are compiled
@pytest.mark.parametrize(
    ("game", "played", "plies"),
    [
        (Othello(6), 31, 1),
        (Othello(6), 29, 3),
        (Othello(6), 27, 5),
        (Go(5, max_plies=30), 29, 1),
        (Go(5, max_plies=30), 27, 3),
        (Go(5, max_plies=30), 25, 5),
    ],
    ids=lambda x: repr(x),
)
def test_forced_wins_at_the_end_of_longer_games_are_found(game, played: int, plies: int) -> None:
    rng, found, wins = np.random.default_rng(0), [], []
    while len(found) < 4:
        state = random_game(game, rng, played)
        if state is None:
            continue
        win = winning_moves(game, state, game.max_plies)  # to the end of the game: what wins later wins too
        if win.any() and not win[game.legal(state[None])[0]].all():
            found.append(state)
            wins.append(win)
    states = np.array(found)
    result = RolloutSearch(game, 30_000, seed=0).search(states)
    for win, action in zip(wins, result.actions, strict=True):
        assert win[action]


@pytest.mark.parametrize("selection", ["puct", "gumbel"])
@pytest.mark.parametrize("plies", [1, 3])
def test_a_network_that_knows_nothing_finds_forced_wins(selection: str, plies: int) -> None:
    states, winning = forced(TicTacToe(), plies, 5, plies)
    actions = MCTS(GameSimulator(TicTacToe()), uniform, 400, selection).search(states).actions
    assert winning[np.arange(len(states)), actions].all()


# ---- one player


def chain(p: float = 1.0) -> TabularMDP:
    """Four states in a line, right with probability p else stay; 1 for reaching the end, 0.1 for quitting at the start."""
    transition, reward = np.zeros((5, 2, 5)), np.zeros((5, 2))
    transition[:4, 0, 4], reward[0, 0] = 1.0, 0.1  # action 0 ends
    for s in range(4):
        transition[s, 1, s + 1], transition[s, 1, s] = p, 1 - p
    reward[3, 1] = p
    transition[4, :, 4] = 1.0
    return TabularMDP.from_dense(transition, reward, np.arange(5) == 4)


def nothing(observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return np.zeros((len(observations), 2)), np.zeros(len(observations))


@pytest.mark.parametrize(("p", "selection"), [(1.0, "puct"), (1.0, "gumbel"), (1.0, "uct"), (0.6, "puct"), (0.6, "gumbel")])
def test_search_walks_the_chain_with_and_without_chance(p: float, selection: str) -> None:
    """V(s) = (γ l)^(3 − s) l with l = p / (1 − γ(1 − p)): a step takes its time, and the last one pays p a try.

    Without chance the search finds it from nothing; with chance the tree grows with histories, in which
    most nodes are young and explore: it is given V at its leaves and a prior that seldom quits.
    """
    gamma = 0.95
    last = p / (1 - gamma * (1 - p))
    v = np.append((gamma * last) ** np.arange(3, -1, -1.0) * last, 0.0)

    def evaluate(observations: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return np.tile([-6.0 * (p < 1), 0.0], (len(observations), 1)), observations @ v * (p < 1)

    search = MCTS(TabularSimulator(chain(p), gamma), None if selection == "uct" else evaluate, 3000, selection, seed=0)
    result = search.search(np.array([0, 3]))
    np.testing.assert_array_equal(result.actions, [1, 1])
    np.testing.assert_allclose(result.q[[0, 1], 1], [v[0], v[3]], atol=0.12)


def test_chance_keeps_one_node_an_outcome() -> None:
    """A fair coin: two outcomes under the edge, visited alike, their mean the edge's value."""
    transition, reward = np.zeros((3, 1, 3)), np.zeros((3, 1, 3))
    transition[0, 0, 1:] = 0.5
    reward[0, 0] = [0.0, 1.0, 0.0]
    transition[1, 0, 1] = transition[2, 0, 2] = 1.0
    mdp = TabularMDP.from_dense(transition, reward, np.arange(3) > 0)
    search = MCTS(TabularSimulator(mdp, 1.0), lambda x: (np.zeros((len(x), 1)), np.zeros(len(x))), 4000, seed=0)
    result = search.search(np.array([0]))
    assert search._tree.row[0, 0] == 3
    assert abs(result.q[0, 0] - 0.5) < 4 * 0.5 / np.sqrt(4000)


def test_kept_trees_follow_the_outcome_that_came() -> None:
    search = MCTS(TabularSimulator(chain(0.6), 0.95), nothing, 200, seed=0)
    search.search(np.array([0, 0]))
    np.testing.assert_array_equal(search.advance(np.array([1, 1]), np.array([1, 0])), [True, True])
    np.testing.assert_array_equal(search._states[:2, 0, 2], [1, 0])
    assert search.search(np.array([1, 0])).visits.sum() == 400


def test_copies_of_a_gymnasium_env_can_be_searched() -> None:
    """CliffWalking beside the goal: the step down ends the episode; the env searched is left where it was."""
    env = gym.make("CliffWalking-v1").unwrapped
    observation, _ = env.reset(seed=0)
    env.s = 35  # above the goal
    simulator = EnvSimulator(4, lambda obs: (np.zeros((len(obs), 4)), np.full(len(obs), -20.0)), gamma=1.0)
    result = MCTS(simulator, n_simulations=40).search(simulator.root([env], np.array([observation])))
    assert result.actions[0] == 2 and env.s == 35
    np.testing.assert_allclose(result.q[0, 2], -1.0)


# ---- what is refused


def test_memory_is_bounded_before_it_is_taken(capsys) -> None:
    search = MCTS(GameSimulator(TicTacToe()), uniform, 100, max_memory=10_000, verbose=1)
    with pytest.raises(ValueError, match="max_memory=10000"):
        search.search(TicTacToe().initial(4))
    MCTS(GameSimulator(TicTacToe()), uniform, 10, verbose=1).search(TicTacToe().initial(4))
    assert "MiB for 4 trees of 11 nodes" in capsys.readouterr().out
    simulator, root = bandit(np.zeros((4, 3)), np.zeros((4, 3)))
    search = MCTS(simulator, n_simulations=10, verbose=1)
    search.search(root)
    assert "MiB for embeddings of 4 x 11 nodes" in capsys.readouterr().out
    search.max_memory = 100
    with pytest.raises(ValueError, match="max_memory=100"):
        search.search(Root(np.zeros((4, 50)), root.logits, root.values))


def test_reserved_memory_is_what_was_announced() -> None:
    search = MCTS(GameSimulator(TicTacToe()), uniform, 100)
    search.search(TicTacToe().initial(4))
    arrays = [*search._tree, search._states, search._observations]
    assert abs(sum(a.nbytes for a in arrays) - search.memory(4)) <= 0.01 * search.memory(4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"selection": "best"}, "selection='best'"),
        ({"selection": "uct"}, "Rollouts are"),
        ({"first_play": "never"}, "first_play='never'"),
        ({"n_simulations": 0}, "n_simulations=0"),
        ({"dirichlet_alpha": 0.0}, "dirichlet_alpha=0.0"),
    ],
)
def test_wrong_arguments_are_named(arguments: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MCTS(GameSimulator(TicTacToe()), uniform, **arguments)


def test_finished_games_are_refused() -> None:
    state = play(TicTacToe(), "a1 a2 b1 b2 c1")
    with pytest.raises(ValueError, match="row 0 is over"):
        MCTS(GameSimulator(TicTacToe()), uniform).search(state)
