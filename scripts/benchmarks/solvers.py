"""The solvers: modified policy iteration against QuantEcon's, warm, one thread each, at the same accuracy.

Random MDPs: 4 actions, 5 successors (uniform, with flat Dirichlet probabilities), uniform rewards. Grids: a fifth of the
cells are walls, one goal in a corner, -1 a step, every move slips sideways with probability 0.2; the goal absorbs.
γ = 0.99, tolerance 1e-6.
"""

from collections.abc import Callable, Iterator

import numpy as np

from benchmarks._measure import REPEATS, Row, in_turn
from sb3_lecture.exact.solver import modified_policy_iteration
from sb3_lecture_envs.mdp import TabularMDP

GAMMA, TOLERANCE = 0.99, 1e-6


def rows() -> Iterator[Row]:
    """Yield one row a comparison."""
    for name, mdp, repeats in (
        ("random MDP of 10^5 states", random_mdp(100_000), REPEATS),
        ("random MDP of 10^6 states", random_mdp(1_000_000), 5),
        ("slippery grid of 300 x 300 cells", slippery_grid(300), 5),
    ):
        ours, peer = solve(mdp), solve_with_quantecon(mdp)
        gap = np.abs(ours() - peer()).max()
        if not gap <= 2 * TOLERANCE:
            raise RuntimeError(f"{name}: the two solutions differ by {gap}, more than their tolerances of {TOLERANCE}")
        rates = in_turn(lambda solve=ours: solve().size, lambda solve=peer: solve().size, repeats)
        at_least = 1.5 if name.startswith("random") else 2.0
        yield Row(f"modified policy iteration against QuantEcon's, {name}", "states/s", *rates, at_least)


def random_mdp(n_states: int, n_actions: int = 4, fan: int = 5, seed: int = 0) -> TabularMDP:
    """An MDP whose outcomes are spread over all states."""
    rng = np.random.default_rng(seed)
    n_rows = n_states * n_actions
    prob = rng.exponential(size=(n_rows, fan))
    prob /= prob.sum(axis=1, keepdims=True)
    return TabularMDP(
        n_states,
        n_actions,
        np.arange(0, n_rows * fan + 1, fan),
        rng.integers(n_states, size=n_rows * fan, dtype=np.int32),
        prob.ravel(),
        np.repeat(rng.random(n_rows), fan),
        np.zeros(n_rows * fan, np.bool_),
        [0],
        [1.0],
    )


def slippery_grid(side: int, slip: float = 0.2, seed: int = 0) -> TabularMDP:
    """A square grid with walls at random; entering the goal (bottom right) ends the episode."""
    rng = np.random.default_rng(seed)
    wall = rng.random((side, side)) < 0.2
    wall[0, 0] = wall[-1, -1] = False
    cells = np.arange(side * side, dtype=np.int32).reshape(side, side)
    row, column = np.indices((side, side))
    neighbour = np.empty((side * side, 4), np.int32)
    for action, (down, right) in enumerate([(-1, 0), (0, 1), (1, 0), (0, -1)]):
        r, c = np.clip(row + down, 0, side - 1), np.clip(column + right, 0, side - 1)
        neighbour[:, action] = np.where(wall[r, c], cells, cells[r, c]).ravel()
    next_state = np.stack([neighbour[:, [a, (a + 1) % 4, (a - 1) % 4]] for a in range(4)], axis=1)  # [S, A, 3]
    reward = np.full(next_state.shape, -1.0)
    goal = side * side - 1
    next_state[goal], reward[goal] = goal, 0.0
    return TabularMDP(
        side * side,
        4,
        np.arange(0, next_state.size + 1, 3),
        next_state.ravel(),
        np.tile([1 - slip, slip / 2, slip / 2], next_state.size // 3),
        reward.ravel(),
        (next_state == goal).ravel(),
        [0],
        [1.0],
    )


def solve(mdp: TabularMDP) -> Callable[[], np.ndarray]:
    """Return our solver, ready to run."""
    return lambda: modified_policy_iteration(mdp, GAMMA, TOLERANCE).v


def solve_with_quantecon(mdp: TabularMDP) -> Callable[[], np.ndarray]:
    """Return QuantEcon's solver, its problem built beforehand from the same law (extra ``bench``)."""
    from quantecon.markov import DiscreteDP
    from scipy.sparse import csr_matrix

    n, n_actions = mdp.n_states, mdp.n_actions
    # outcomes that end the episode lead to the goal, which absorbs at reward 0: the same problem without an end
    transitions = csr_matrix((mdp.prob.copy(), mdp.next_state.copy(), mdp.row_ptr.copy()), shape=(n * n_actions, n))
    transitions.sum_duplicates()
    states, actions = np.repeat(np.arange(n), n_actions), np.tile(np.arange(n_actions), n)
    problem = DiscreteDP(mdp.expected_reward.ravel(), transitions, GAMMA, states, actions)
    method = "modified_policy_iteration"
    return lambda: problem.solve(method=method, epsilon=TOLERANCE, max_iter=100_000).v
