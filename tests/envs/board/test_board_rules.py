"""The rules of the board games against published counts, properties of all games, and slow twins."""

import pickle
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numba import njit

from sb3_lecture_envs.board import game as protocol
from sb3_lecture_envs.board.connect_four import ConnectFour
from sb3_lecture_envs.board.game import OVER, PLY
from sb3_lecture_envs.board.go import Go
from sb3_lecture_envs.board.nim import Nim
from sb3_lecture_envs.board.othello import Othello
from sb3_lecture_envs.board.tic_tac_toe import TicTacToe

GAMES = [
    TicTacToe(),
    ConnectFour(),
    Othello(8),
    Othello(6),
    Go(5),
    Go(9, komi=5.0, max_plies=40),
    Nim(),
    Nim((2, 4), misere=True),
]
each_game = pytest.mark.parametrize("game", GAMES, ids=repr)


def play(game, choices):
    """States of one game whose moves are picked from the legal ones by the given numbers."""
    states = [game.initial(1)]
    for choice in choices:
        moves = np.flatnonzero(game.legal(states[-1])[0])
        if not len(moves):
            break
        states.append(game.step(states[-1], moves[[choice % len(moves)]])[0])
    return np.concatenate(states)


@njit(cache=True)
def count_games(law, state):
    mask = np.zeros(9, np.bool_)
    if protocol.legal(law, state, mask) == 0:
        return 1
    total = 0
    for action in range(9):
        if mask[action]:
            after = state.copy()
            protocol.step(law, after, action)
            total += count_games(law, after)
    return total


def test_tic_tac_toe_has_255168_games():
    game = TicTacToe()
    assert count_games(game.law, game.initial(1)[0]) == 255_168


def test_connect_four_has_the_published_numbers_of_positions():
    game, states, counts = ConnectFour(), ConnectFour().initial(1), []
    for _ in range(8):
        rows, actions = np.nonzero(game.legal(states))
        states = np.unique(game.step(states[rows], actions)[0], axis=0)
        counts.append(len(states))
        states = states[states[:, OVER] == 0]
    assert counts == [7, 49, 238, 1120, 4263, 16422, 54859, 184275]


def test_othello_has_the_published_perft():
    game, states, counts = Othello(8), Othello(8).initial(1), []
    for _ in range(6):
        rows, actions = np.nonzero(game.legal(states))
        states = game.step(states[rows], actions)[0]
        counts.append(len(states))
    assert counts == [4, 12, 56, 244, 1396, 8200]


def othello_twin(board, colour):
    """Legal moves and what each turns, read off the board square by square."""
    size, moves = len(board), {}
    for row in range(size):
        for column in range(size):
            turned = []
            for dr, dc in [(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1) if (a, b) != (0, 0)]:
                run, r, c = [], row + dr, column + dc
                while 0 <= r < size and 0 <= c < size and board[r, c] == -colour:
                    run.append((r, c))
                    r, c = r + dr, c + dc
                if 0 <= r < size and 0 <= c < size and board[r, c] == colour:
                    turned += run
            if board[row, column] == 0 and turned:
                moves[size * row + column] = turned
    return moves


@pytest.mark.parametrize("size", [6, 8])
def test_othello_agrees_with_a_slow_twin_to_the_end_of_games(size):
    game, rng, passes = Othello(size), np.random.default_rng(size), 0
    for _ in range(12):
        states, board = game.initial(1), game.board(game.initial(1)[0])
        while True:
            colour = 1 - 2 * (int(states[0, PLY]) % 2)
            moves = othello_twin(board, colour)
            legal = np.flatnonzero(game.legal(states)[0]).tolist()
            assert legal == (sorted(moves) if moves else [size * size])
            action = int(rng.choice(legal))
            if moves:
                for cell in [divmod(action, size), *moves[action]]:
                    board[cell] = colour
            passes += not moves
            states, rewards, terminated = game.step(states, [action])
            np.testing.assert_array_equal(game.board(states[0]), board)
            assert terminated[0] == (not othello_twin(board, 1) and not othello_twin(board, -1))
            if terminated[0]:
                assert rewards[0] == np.sign(colour * board.sum(dtype=int))
                break
    assert passes  # or the pass was never tried


def four_twin(board, colour):
    """Four in a row anywhere, cell by cell."""
    height, width = board.shape
    return any(
        all(0 <= r + k * dr < height and 0 <= c + k * dc < width and board[r + k * dr, c + k * dc] == colour for k in range(4))
        for r in range(height) for c in range(width) for dr, dc in [(0, 1), (1, 0), (1, 1), (1, -1)]
    )  # fmt: skip


def test_connect_four_agrees_with_a_slow_twin():
    game, rng, wins = ConnectFour(), np.random.default_rng(0), 0
    for _ in range(40):
        states, board = game.initial(1), np.zeros((6, 7), np.int8)
        for ply in range(42):
            colour = 1 - 2 * (ply % 2)
            legal = np.flatnonzero(board[0] == 0)
            np.testing.assert_array_equal(np.flatnonzero(game.legal(states)[0]), legal)
            action = int(rng.choice(legal))
            board[np.flatnonzero(board[:, action] == 0)[-1], action] = colour
            states, rewards, terminated = game.step(states, [action])
            np.testing.assert_array_equal(game.board(states[0]), board)
            won = four_twin(board, colour)
            assert rewards[0] == won
            assert terminated[0] == (won or ply == 41)
            wins += won
            if terminated[0]:
                break
    assert wins > 20


@pytest.mark.parametrize("misere", [False, True])
def test_nim_ends_with_the_last_stone(misere):
    game = Nim((1, 2), misere)
    states, rewards, terminated = game.step(game.initial(1), [0])
    assert not terminated[0] and rewards[0] == 0
    states, rewards, terminated = game.step(states, [3])  # both stones of the second heap
    assert terminated[0] and rewards[0] == (-1 if misere else 1)


@each_game
@settings(max_examples=30)
@given(choices=st.lists(st.integers(0, 10_000), max_size=80))
def test_the_observation_holds_the_state(game, choices):
    states = play(game, choices)
    observations = game.observe(states)
    assert observations.shape == (len(states), *game.observation_shape) and observations.dtype == np.float32
    assert observations.min() >= 0 and observations.max() <= 1
    np.testing.assert_array_equal(game.state_of(observations), states)


@each_game
@settings(max_examples=10)
@given(choices=st.lists(st.integers(0, 10_000), max_size=60))
def test_legal_moves_are_those_that_step_accepts(game, choices):
    state = play(game, choices)[-1:]
    mask = game.legal(state)[0]
    assert mask.any() != state[0, OVER]
    for action in range(-1, game.n_actions + 1):
        if 0 <= action < game.n_actions and mask[action]:
            game.step(state, [action])
        else:
            with pytest.raises(ValueError, match="illegal"):
                game.step(state, [action])


@each_game
@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1))
def test_a_batch_is_its_rows_one_by_one(game, seed):
    rng = np.random.default_rng(seed)
    states = np.concatenate([play(game, rng.integers(0, 1000, size=rng.integers(1, 30)))[-1:] for _ in range(6)])
    states = states[states[:, OVER] == 0]
    if not len(states):
        return
    masks, before = game.legal(states), states.copy()
    actions = (rng.random(masks.shape) * masks).argmax(axis=1)
    after, rewards, terminated = game.step(states, actions)
    np.testing.assert_array_equal(states, before)  # a pure function
    for i, action in enumerate(actions):
        state, mask = states[i].copy(), np.zeros(game.n_actions, np.bool_)
        assert protocol.legal(game.law, state, mask) == masks[i].sum()
        np.testing.assert_array_equal(mask, masks[i])
        assert protocol.step(game.law, state, action) == (rewards[i], terminated[i])
        np.testing.assert_array_equal(state, after[i])


@each_game
def test_every_game_ends_within_its_cap(game):
    rng, states = np.random.default_rng(0), game.initial(50)
    for ply in range(game.max_plies + 1):
        np.testing.assert_array_equal(states[:, PLY], ply)
        masks = game.legal(states)
        states, rewards, terminated = game.step(states, ((1 - rng.random(masks.shape)) * masks).argmax(axis=1))
        assert set(rewards) <= {-1.0, 0.0, 1.0} and not rewards[~terminated].any()
        np.testing.assert_array_equal(states[:, OVER], terminated)
        states = states[~terminated]
        if not len(states):
            return
    pytest.fail(f"{game} lasted longer than {game.max_plies} plies")


@each_game
def test_symmetries_commute_with_the_rules(game):
    rng, symmetries = np.random.default_rng(1), game.symmetries
    np.testing.assert_array_equal(symmetries.cells[0], np.arange(len(symmetries.cells[0])))
    np.testing.assert_array_equal(symmetries.actions[0], np.arange(game.n_actions))
    assert len(np.unique(symmetries.actions, axis=0)) == len(symmetries.actions)
    same_law = game if not isinstance(game, Nim) else Nim((game.law.largest,) * len(game.law.heaps), game.law.misere)

    def turned(states, k):
        flat = same_law.observe(states).reshape(len(states), same_law.observation_shape[0], -1)
        return same_law.state_of(flat[:, :, symmetries.cells[k]].reshape(len(states), *same_law.observation_shape))

    for _ in range(5):
        state = play(same_law, rng.integers(0, 1000, size=12))
        state = state[state[:, OVER] == 0][-1:]
        for k in range(len(symmetries.cells)):
            image, mask = turned(state, k), same_law.legal(state)[0]
            np.testing.assert_array_equal(same_law.legal(image)[0], mask[symmetries.actions[k]])
            for action in np.flatnonzero(same_law.legal(image)[0])[:5]:
                after, rewards, terminated = same_law.step(image, [action])
                twin, twin_rewards, twin_terminated = same_law.step(state, symmetries.actions[k][[action]])
                np.testing.assert_array_equal(turned(twin, k), after)
                assert (rewards, terminated) == (twin_rewards, twin_terminated)


@each_game
def test_a_game_pickles_and_compares_by_its_law(game):
    copy = pickle.loads(pickle.dumps(game))
    assert copy == game and hash(copy) == hash(game)
    assert sum(other == game for other in GAMES) == 1


@each_game
def test_moves_are_read_as_they_are_written(game):
    for action in range(game.n_actions):
        assert game.text_to_action(game.action_to_text(action)) == action
    with pytest.raises(ValueError, match="zz"):
        game.text_to_action("zz")
    assert len(game.render_text(game.initial(1)[0])) > 5


@pytest.mark.parametrize(
    ("build", "message"),
    [
        (lambda: Othello(7), "size=7"),
        (lambda: Go(4), "size=4"),
        (lambda: Go(9, max_plies=0), "max_plies=0"),
        (lambda: Nim(()), "heaps"),
        (lambda: Nim((3, 0)), "heaps"),
    ],
)
def test_wrong_sizes_are_named(build, message):
    with pytest.raises(ValueError, match=message):
        build()


@pytest.mark.slow
def test_another_process_finds_the_compiled_rules_in_the_cache():
    code = (
        "from sb3_lecture_envs.board.othello import Othello; from sb3_lecture_envs.board.game import legal_batch;"
        "game = Othello(); game.legal(game.initial(1)); print(sum(legal_batch.stats.cache_hits.values()))"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(2)]
    assert runs[1].stdout.strip() == "1"
