"""TensorGame: its tensors are the products, its moves subtract, known algorithms solve it, and what is found is checked."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as check_gymnasium

from sb3_lecture_envs.board.game import HEADER, OVER, PLY
from sb3_lecture_envs.tensor_game import TensorGame, invertible, multiplication_tensor, vectors

#: Strassen 1969: a11, a12, a21, a22; b11 …; c11 …
STRASSEN = (
    np.array([[1, 0, 0, 1], [0, 0, 1, 1], [1, 0, 0, 0], [0, 0, 0, 1], [1, 1, 0, 0], [-1, 0, 1, 0], [0, 1, 0, -1]]),
    np.array([[1, 0, 0, 1], [1, 0, 0, 0], [0, 1, 0, -1], [-1, 0, 1, 0], [0, 0, 0, 1], [1, 1, 0, 0], [0, 0, 1, 1]]),
    np.array([[1, 0, 0, 1], [0, 0, 1, -1], [0, 1, 0, 1], [1, 0, 1, 0], [-1, 1, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0]]),
)
KARATSUBA = (
    np.array([[1, 0], [0, 1], [1, 1]]),
    np.array([[1, 0], [0, 1], [1, 1]]),
    np.array([[1, 1, 0], [0, 1, 1], [0, 1, 0]]),
)


def actions_of(game, factors):
    """The numbers of moves, by their factors up to signs that cancel."""
    found = []
    for u, v, w in zip(*factors, strict=True):
        product = np.einsum("a,b,c->abc", u, v, w).ravel()
        found.append(int(np.flatnonzero((game.law.moves == product).all(axis=1))[0]))
    return found


@pytest.mark.parametrize("sizes", [(2, 2, 2), (1, 2, 2), (2, 3, 4)])
def test_the_tensor_multiplies_matrices(sizes):
    n, m, p = sizes
    tensor = multiplication_tensor(f"{n},{m},{p}")[0]
    rng = np.random.default_rng(0)
    a, b = rng.integers(-9, 9, (n, m)), rng.integers(-9, 9, (m, p))
    np.testing.assert_array_equal(np.einsum("a,b,abc->c", a.ravel(), b.ravel(), tensor).reshape(n, p), a @ b)
    assert tensor.sum() == n * m * p


def test_karatsubas_tensor_multiplies_polynomials():
    tensor = multiplication_tensor("karatsuba")[0]
    np.testing.assert_array_equal(np.einsum("a,b,abc->c", [2, 3], [5, 7], tensor), np.convolve([2, 3], [5, 7]))


def test_the_numbers_of_moves_are_those_of_the_literature():
    assert TensorGame("karatsuba").n_actions == 63 and TensorGame("1,2,2").n_actions == 3 * 15 * 3
    assert TensorGame("2,2,2").n_actions == 3375 == len(np.unique(TensorGame("2,2,2").law.moves, axis=0))
    game = TensorGame("2,2,2", "integers")
    assert game.n_actions == 128_000
    assert len(vectors(4, "integers")) == 40


@pytest.mark.parametrize("field", ["z2", "integers"])
def test_strassens_algorithm_solves_it_in_seven_moves(field):
    env = gym.make("Lecture/TensorGame-v0", field=field).unwrapped
    env.reset()
    factors = [part % 2 if field == "z2" else part for part in STRASSEN]
    total = 0.0
    for i, action in enumerate(actions_of(env.puzzle, factors)):
        _, reward, terminated, _, info = env.step(action)
        total += reward
        assert terminated == (i == 6)
    assert total == -7.0 and info["rank"] == 7 and env.puzzle.is_factorization(info["factors"])
    lines = info["algorithm"].splitlines()
    assert lines[0] == "m1 = (a11 + a22)(b11 + b22)"
    if field == "integers":  # first entries are above 0, so m4 is −Strassen's
        assert lines[3] == "m4 = (a22)(b11 - b21)" and lines[7] == "c11 = m1 - m4 - m5 + m7"
    else:
        assert lines[7] == "c11 = m1 + m4 + m5 + m7" and lines[-1] == "(modulo 2)"
    wrong = (info["factors"][0].copy(), *info["factors"][1:])
    wrong[0][3, 1] ^= 1
    assert not env.puzzle.is_factorization(wrong)


def test_karatsuba_and_nothing_less():
    """Three products suffice; by trying all pairs, two do not: the rank over Z₂ is 3."""
    game = TensorGame("karatsuba", max_moves=3)
    states = game.initial(1)
    for action in actions_of(game, KARATSUBA):
        states, _, terminated = game.step(states, np.array([action]))
    assert terminated[0] and not states[0, HEADER:].any()
    moves, target = game.law.moves.astype(int), game.tensor.ravel()
    pairs = (moves[:, None, :] + moves[None, :, :]) % 2
    assert not (pairs == target).all(axis=2).any() and not (moves == target).all(axis=1).any()


def test_what_is_left_at_the_end_costs_its_lines():
    """⟨1,2,2⟩ over integers: one move that undoes nothing, then the end; a line is a product."""
    env = gym.make("Lecture/TensorGame-v0", tensor="1,2,2", field="integers", max_moves=1).unwrapped
    env.reset()
    one = np.zeros((2, 4, 2), int)
    one[0, 0, 0] = 1  # a11 b11 for c11, one of four products
    action = int(np.flatnonzero((env.puzzle.law.moves == one.ravel()).all(axis=1))[0])
    _, reward, terminated, _, info = env.step(action)
    assert terminated and reward == -1.0 - 3.0 and "rank" not in info
    assert TensorGame("2,2,2").max_plies == 8 and TensorGame("karatsuba").max_plies == 4


def test_other_bases_have_the_same_algorithms():
    """Strassen's factors, moved into the basis that was drawn, solve the tensor that is shown; the env writes them back."""
    env = gym.make("Lecture/TensorGame-v0", change_of_basis=True).unwrapped
    for seed in range(3):
        shown, _ = env.reset(seed=seed)
        assert not np.array_equal(env.state[HEADER:], env.puzzle.tensor.ravel()) and shown.max() == 1
        moved = [part @ basis.T % 2 for part, basis in zip((f % 2 for f in STRASSEN), env._parts(env.bases), strict=True)]
        for action in actions_of(env.puzzle, moved):
            *_, info = env.step(action)
        assert info["rank"] == 7 and env.puzzle.is_factorization(info["factors"])
        for mine, his in zip(info["factors"], STRASSEN, strict=True):
            np.testing.assert_array_equal(mine, his % 2)


@pytest.mark.parametrize("field", ["z2", "integers"])
def test_a_change_of_basis_can_be_undone(field):
    rng = np.random.default_rng(0)
    for _ in range(20):
        matrix, inverse = invertible(4, field, rng)
        product = matrix @ inverse
        np.testing.assert_array_equal(product % 2 if field == "z2" else product, np.eye(4))


@pytest.mark.parametrize(("tensor", "field"), [("2,2,2", "z2"), ("1,2,2", "integers"), ("karatsuba", "z2")])
def test_demonstrations_lead_to_nothing(tensor, field):
    """The demonstrated move leaves a sum of R − 1 products; where R is 1, nothing."""
    game = TensorGame(tensor, field)
    states, actions, left = game.demonstrations(200, np.random.default_rng(1))
    assert (states[:, PLY] == game.max_plies - left).all() and not states[:, OVER].any() and left.min() >= 1
    after, _, terminated = game.step(states, actions)
    assert terminated[left == 1].all() and not after[left == 1, HEADER:].any()
    assert len(np.unique(left)) == game.max_plies


def test_a_state_is_read_off_its_observation():
    for field in ("z2", "integers"):
        game = TensorGame("2,2,2" if field == "z2" else "1,2,2", field)
        states, rng = game.initial(50), np.random.default_rng(0)
        for _ in range(3):
            np.testing.assert_array_equal(game.state_of(game.observe(states)), states)
            states, _, _ = game.step(states, rng.integers(game.n_actions, size=50))


def test_gymnasiums_checker_is_content_and_a_state_put_back_goes_on():
    env = gym.make("Lecture/TensorGame-v0", tensor="karatsuba", render_mode="rgb_array", change_of_basis=True)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*different from the unwrapped version.*")
        check_gymnasium(env.unwrapped, skip_render_check=True)
    env.reset(seed=1)
    assert env.render().shape == (48, 144, 3)
    other = gym.make("Lecture/TensorGame-v0", tensor="karatsuba", change_of_basis=True).unwrapped
    other.reset(seed=9)
    env.step(5)
    other.set_state(env.unwrapped.get_state())
    for action in (3, 8, 60):
        a, b = env.unwrapped.step(action), other.step(action)
        np.testing.assert_array_equal(a[0], b[0])
        assert a[1:4] == b[1:4]
    np.testing.assert_array_equal(env.unwrapped.factors()[0], other.factors()[0])
    with pytest.raises(ValueError, match="the game is over"):
        other.step(0)
    text = gym.make("Lecture/TensorGame-v0", render_mode="ansi")
    text.reset()
    assert text.render().splitlines()[1].startswith("1 . . .") and text.render().endswith("0 of 8 moves")


@pytest.mark.parametrize(
    ("kwargs", "words"),
    [
        ({"tensor": "strassen"}, "give 'karatsuba', 'n,m,p'"),
        ({"tensor": "0,2,2"}, "sizes of matrices must lie between 1 and 9"),
        ({"tensor": np.zeros((2, 2, 2), int)}, "not all 0"),
        ({"tensor": np.full((2, 2, 2), 3)}, r"entries \[3\] must be 0 to 1"),
        ({"tensor": np.full((2, 2, 2), 9), "field": "integers"}, r"entries \[9\] must be -4 to 4"),
        ({"tensor": np.ones((2, 2))}, "must be an int array"),
        ({"tensor": [[1], [2, 3]]}, "must be 'karatsuba'"),
        ({"tensor": "3,3,3"}, "133,432,831 moves over z2"),
        ({"field": "reals"}, "field='reals' is unknown"),
        ({"max_moves": 0}, "max_moves=0"),
        ({"change_of_basis": 3}, "change_of_basis=3 must be True or False"),
    ],
)
def test_an_impossible_tensor_is_one_clear_error(kwargs, words):
    with pytest.raises((ValueError, TypeError), match=words):
        gym.make("Lecture/TensorGame-v0", **kwargs)
