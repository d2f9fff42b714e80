"""Perfect players: solved games against theory, the Connect Four solver against an independent search and published values."""

import os
import pickle
from functools import reduce

import gymnasium as gym
import numpy as np
import pytest

import sb3_lecture_envs  # noqa: F401  registers the ids
from sb3_lecture_envs.board.connect_four import ConnectFour
from sb3_lecture_envs.board.connect_four_board import OTHER, OWN
from sb3_lecture_envs.board.connect_four_book import random_positions
from sb3_lecture_envs.board.connect_four_positions import BOOK, load_positions
from sb3_lecture_envs.board.connect_four_solver import ConnectFourSolver
from sb3_lecture_envs.board.game import OVER, PLY
from sb3_lecture_envs.board.nim import Nim
from sb3_lecture_envs.board.othello import Othello
from sb3_lecture_envs.board.players import ILLEGAL, UNKNOWN, PerfectPlayer, RandomPlayer, grade, optimal_moves
from sb3_lecture_envs.board.solve import solve
from sb3_lecture_envs.board.tic_tac_toe import TicTacToe


def test_tic_tac_toe_is_a_draw_with_4520_open_positions():
    table = solve(TicTacToe())
    assert table.n_states == 4520  # of the 5478 positions; 958 are final
    start = TicTacToe().initial(1)
    np.testing.assert_array_equal(table.move_values(start), np.zeros((1, 9)))
    corner = TicTacToe().step(start, [0])[0]
    assert optimal_moves(table.move_values(corner))[0].tolist() == [False] * 4 + [True] + [False] * 4  # only the centre draws


@pytest.mark.parametrize("heaps", [(1, 3, 5, 7), (2, 3, 3), (4, 4)])
@pytest.mark.parametrize("misere", [False, True])
def test_nim_follows_bouton(heaps, misere):
    game = Nim(heaps, misere)
    for states, scores in zip(solve(game).states, solve(game).scores, strict=True):
        for state, row in zip(states, scores, strict=True):
            for action in np.flatnonzero(row != ILLEGAL):
                after = state[2:].copy()
                after[action // game.law.largest] -= action % game.law.largest + 1
                odd = misere and after.max(initial=0) <= 1
                lost_for_the_next = reduce(np.bitwise_xor, after) == (1 if odd else 0)
                assert np.sign(row[action]) == (1 if lost_for_the_next else -1)


def test_distances_are_those_of_the_rules():
    game = TicTacToe()
    scores = solve(game).move_scores(game.step(game.step(game.initial(1), [0])[0], [1])[0])[0]
    assert scores.max() == 9 + 1 - 5  # X wins in five more plies, from X__ after O beside the corner
    two = game.state_of(np.array([[[[1, 1, 0], [0, 0, 0], [0, 0, 0]], [[0, 0, 0], [1, 1, 0], [0, 0, 0]]]]))
    assert solve(game).move_scores(two)[0, 2] == 9  # at once


def test_a_large_game_is_refused():
    with pytest.raises(ValueError, match="max_states=1000"):
        solve(ConnectFour(), max_states=1000)
    with pytest.raises(ValueError, match="no play"):
        solve(TicTacToe()).move_scores(np.array([[1, 0, 7, 7]]))


def plain_negamax(game, state):
    """(score with distance, by Connect Four's scale) without bitboard tricks or table."""
    rows = np.flatnonzero(game.legal(state[None])[0])
    best = -100
    for action in rows:
        after, rewards, terminated = game.step(state[None], [action])
        ply = int(state[PLY])
        score = (43 - ply) // 2 * int(rewards[0]) if terminated[0] else -plain_negamax(game, after[0])
        best = max(best, score)
    return best


def test_the_connect_four_solver_agrees_with_plain_search():
    game, solver = ConnectFour(), ConnectFourSolver(table_bits=16, book=False)
    rng, compared = np.random.default_rng(0), 0
    for ply in (36, 35, 34, 33):
        states = random_positions(ply, 12, rng)
        scores, values = solver.move_scores(states), solver.move_values(states)
        np.testing.assert_array_equal(values, np.where(scores == ILLEGAL, ILLEGAL, np.sign(scores)))
        for state, row in zip(states, scores, strict=True):
            np.testing.assert_array_equal(row != ILLEGAL, game.legal(state[None])[0])
            assert row.max() == plain_negamax(game, state)
            compared += 1
    assert compared >= 40


def test_the_solver_is_fast_enough_from_twelve_plies_in_and_consistent():
    game, solver = ConnectFour(), ConnectFourSolver(book=False)
    states = random_positions(14, 6, np.random.default_rng(1))
    scores = solver.move_scores(states)
    mirrored = game.state_of(game.observe(states)[:, :, :, ::-1])
    np.testing.assert_array_equal(ConnectFourSolver(book=False).move_scores(mirrored), scores[:, ::-1])
    for state, row in zip(states, scores, strict=True):  # a move's score is the negative of the best answer's
        for action in np.flatnonzero(row != ILLEGAL):
            after, _, terminated = game.step(state[None], [action])
            if not terminated[0]:
                assert row[action] == -solver.move_scores(after)[0].max()


def test_finished_games_have_no_moves():
    state = ConnectFour().step(ConnectFour().initial(1), [0])[0]
    for action in (1, 0, 1, 0, 1, 0):
        state = ConnectFour().step(state, [action])[0]
    assert state[0, OVER]
    assert (ConnectFourSolver(book=False).move_scores(state) == ILLEGAL).all()


def test_the_committed_positions_are_a_thousand_of_all_depths():
    states, values, scores = load_positions()
    assert len(states) == 1000 and os.path.getsize(BOOK) < 300_000
    assert set(states[:, PLY]) == set(range(42))
    game = ConnectFour()
    np.testing.assert_array_equal(game.legal(states), values != ILLEGAL)
    known = scores.max(axis=1) != UNKNOWN
    assert known.sum() > 900
    np.testing.assert_array_equal(np.where(scores == ILLEGAL, ILLEGAL, np.sign(scores))[known], values[known])
    assert len(np.unique(states, axis=0)) == 1000


def test_the_first_move_wins_in_the_centre_draws_beside_it_and_loses_at_the_edge():
    """The values James D. Allen and Victor Allis published in 1988."""
    values = ConnectFourSolver().move_values(ConnectFour().initial(1))
    np.testing.assert_array_equal(values, [[-1, -1, 0, 1, 0, -1, -1]])


def test_the_solver_finds_the_committed_values_again():
    states, values, scores = load_positions()
    rows = np.flatnonzero(states[:, PLY] >= 16)[::7]
    solver = ConnectFourSolver(book=False)
    np.testing.assert_array_equal(solver.move_values(states[rows]), values[rows])
    np.testing.assert_array_equal(solver.move_scores(states[rows[20:]]), scores[rows[20:]])


def test_the_book_knows_mirror_images():
    states, values, _ = load_positions()
    row = int(np.flatnonzero(states[:, PLY] == 9)[0])
    game, solver = ConnectFour(), ConnectFourSolver(table_bits=16)
    mirrored = game.state_of(game.observe(states[row : row + 1])[:, :, :, ::-1])
    np.testing.assert_array_equal(solver.move_values(mirrored)[0], values[row, ::-1])
    assert solver._table is None  # nothing was searched


@pytest.mark.parametrize("game", [TicTacToe(), Nim()], ids=repr)
def test_perfect_players_never_lose_what_they_hold(game):
    perfect, random = game.perfect_player(seed=0), RandomPlayer(seed=1)
    value = solve(game).move_values(game.initial(1)).max()  # for the first player
    for seat in (0, 1):
        for _ in range(100):
            states, rewards, terminated = game.initial(1), np.zeros(1), np.zeros(1, bool)
            while not terminated[0]:
                player = perfect if states[0, PLY] % 2 == seat else random
                states, rewards, terminated = game.step(states, [player(game.observe(states)[0], game.legal(states)[0])])
            mover = (states[0, PLY] - 1) % 2
            result = rewards[0] if mover == seat else -rewards[0]
            assert result >= (value if seat == 0 else -value)


def test_the_perfect_opponent_of_connect_four_gives_nothing_away():
    env, agent, lost = gym.make("Lecture/ConnectFour-v0", opponent="perfect", side="first").unwrapped, RandomPlayer(0), 0
    states, values, _ = load_positions()
    best = np.where(states[:, PLY] == 16, values.max(axis=1), ILLEGAL)
    for row in [*np.flatnonzero(best == -1)[:6], *np.flatnonzero(best == 0)[:6], *np.flatnonzero(best == 1)[:6]]:
        observation, info = env.reset(seed=int(row), options={"state": states[row], "side": "first"})
        terminated = False
        while not terminated:
            observation, reward, terminated, _, info = env.step(agent(observation, info["action_mask"]))
        assert reward <= values[row].max()  # a lost position is lost, a drawn one at best drawn
        lost += values[row].max() == -1
    assert lost  # or nothing was asked of the opponent


def test_a_perfect_player_draws_uniformly_among_the_optimal_moves():
    game = TicTacToe()
    corner = game.step(game.initial(1), [4])[0]  # after the centre, the four corners draw
    player = game.perfect_player(seed=0)
    counts = np.bincount(player.batch(game.observe(np.repeat(corner, 4000, axis=0)), np.ones((4000, 9), bool)), minlength=9)
    np.testing.assert_array_equal(counts[[1, 3, 4, 5, 7]], 0)
    assert abs(counts[[0, 2, 6, 8]] - 1000).max() < 4 * np.sqrt(4000 * 0.25 * 0.75)
    # X has two in the top row, O two in the middle one: the top right cell wins at once
    state = game.initial(1)
    for action in (0, 3, 1, 4):
        state = game.step(state, [action])[0]
    shortest = PerfectPlayer(game, solve(game), seed=0, shortest=True)
    answers = {shortest(game.observe(state)[0], game.legal(state)[0]) for _ in range(20)}
    assert answers == {2}


def test_grading_tells_players_apart():
    game, table = TicTacToe(), solve(TicTacToe())
    states = np.concatenate(table.states)
    values, scores, masks = table.move_values(states), table.move_scores(states), game.legal(states)
    best = grade(game.perfect_player(seed=0).batch(game.observe(states), masks), values, scores)
    blind = grade(RandomPlayer(0).batch(game.observe(states), masks), values, scores)
    assert best["optimal"] == best["matters"] == 1.0 and best["shortest"] < 1.0
    assert blind["matters"] < blind["optimal"] < 1.0
    state = game.step(game.initial(1), [0])[0]  # against the corner the centre alone draws
    values, scores = table.move_values(state), table.move_scores(state)
    assert grade(np.array([4]), values, scores) == {"optimal": 1.0, "matters": 1.0, "shortest": 1.0}
    assert grade(np.array([8]), values, scores)["matters"] == 0.0
    assert np.isnan(grade(np.array([8]), values, np.full_like(scores, UNKNOWN))["shortest"])


def test_a_random_player_on_the_committed_positions():
    states, values, scores = load_positions()
    report = grade(RandomPlayer(0).batch(states, values != ILLEGAL), values, scores)
    assert 0.3 < report["matters"] < report["optimal"] < 0.9 and report["shortest"] < report["optimal"]


def test_the_solver_pickles_without_its_table():
    solver = ConnectFourSolver(table_bits=18, book=False)
    states = random_positions(30, 2, np.random.default_rng(0))
    scores = solver.move_scores(states)
    copy = pickle.loads(pickle.dumps(solver))
    assert len(pickle.dumps(solver)) < 10_000
    np.testing.assert_array_equal(copy.move_scores(states), scores)
    with pytest.raises(ValueError, match="table_bits=8"):
        ConnectFourSolver(table_bits=8)


def test_other_games_say_that_they_have_no_solver():
    with pytest.raises(ValueError, match="no exact solver"):
        Othello().perfect_player()


def test_positions_drawn_are_distinct_up_to_the_mirror():
    states = random_positions(1, 10, np.random.default_rng(0))
    assert len(states) == 4  # 7 columns, 4 up to the mirror
    assert not states[:, OWN].any() and (states[:, OTHER] > 0).all()
