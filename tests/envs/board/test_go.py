"""Go: captures, ko, superko and scoring on hand-made positions, and a slow twin."""

import gymnasium as gym
import numpy as np
import pytest

import sb3_lecture_envs  # noqa: F401  registers the ids
from sb3_lecture_envs.board.go import BOARD, KO, Go, point_of


def position(game, rows, to_move="X"):
    """A state with the stones drawn: X black, O white."""
    state = game.initial(1)[0]
    for row, line in enumerate(rows):
        for column, cell in enumerate(line.split()):
            state[BOARD + point_of(game.law, game.law.size * row + column)] = {".": 0, "X": 1, "O": -1}[cell]
    state[0] = 20 + (to_move == "O")
    return state


def after(game, state, *moves):
    states = state[None]
    for move in moves:
        states, rewards, terminated = game.step(states, [game.text_to_action(move)])
    return states[0], rewards[0], terminated[0]


def drawing(game, state):
    return [line[3:] for line in game.render_text(state).split("\n")[:-1]]


def test_a_chain_without_liberties_is_captured():
    game = Go(5)
    state = position(game, [". O O . .", "O X X O .", ". O . . .", ". . . . .", ". . . . ."], to_move="O")
    state, _, _ = after(game, state, "C3")
    assert drawing(game, state) == [". O O . .", "O . . O .", ". O O . .", ". . . . .", ". . . . ."]
    assert state[KO] == 0  # two stones: no ko


def test_one_move_captures_on_several_sides_and_in_the_corner():
    game = Go(5)
    state = position(game, ["X . X O .", "O X O . .", ". O . . .", ". . . . .", ". . . . ."], to_move="O")
    state, _, _ = after(game, state, "B5")
    assert drawing(game, state) == [". O . O .", "O . O . .", ". O . . .", ". . . . .", ". . . . ."]
    state = position(game, [". X X O .", "O X O . .", "X O . . .", ". . . . .", ". . . . ."], to_move="O")
    state, _, _ = after(game, state, "A5")
    assert drawing(game, state) == ["O . . O .", "O . O . .", "X O . . .", ". . . . .", ". . . . ."]


def test_suicide_is_illegal_but_a_capture_that_makes_room_is_not():
    game = Go(5)
    suicide = position(game, [". O . . .", "O . . . .", ". . . . .", ". . . . .", ". . . . ."])
    assert not game.legal(suicide[None])[0, 0]
    chain = position(game, [". X O . .", "X O . . .", "O . . . .", ". . . . .", ". . . . ."])
    assert not game.legal(chain[None])[0, 0]  # three stones without a liberty
    capture = position(game, [". O X . .", "O X . . .", "X . . . .", ". . . . .", ". . . . ."])
    assert game.legal(capture[None])[0, 0]
    assert drawing(game, after(game, capture, "A5")[0])[:2] == ["X . X . .", ". X . . ."]


def test_ko_may_not_be_taken_back_at_once():
    game = Go(5)
    state = position(game, [". X O . .", "X O . O .", ". X O . .", ". . . . .", ". . . . ."])
    taken, _, _ = after(game, state, "C4")
    assert drawing(game, taken)[1] == "X . X O ."
    ko = game.text_to_action("B4")
    assert point_of(game.law, ko) == taken[KO] and not game.legal(taken[None])[0, ko]
    assert game.observe(taken[None])[0, 2].reshape(-1).argmax() == ko
    later, _, _ = after(game, taken, "E1", "E2")  # a threat and its answer
    assert game.legal(later[None])[0, ko]
    passed, _, _ = after(game, taken, "pass", "A1")
    assert game.legal(passed[None])[0, ko]


def test_a_snapback_is_no_ko():
    game = Go(5)
    state = position(game, [". O X . .", ". O X . .", "O O X . .", "X X . . .", ". . . . ."])
    state, _, _ = after(game, state, "A5", "A4")  # black throws in, white takes one stone
    assert drawing(game, state)[:2] == [". O X . .", "O O X . ."]
    assert state[KO] == 0 and game.legal(state[None])[0, game.text_to_action("A5")]
    state, _, _ = after(game, state, "A5")  # and loses five
    assert drawing(game, state) == ["X . X . .", ". . X . .", ". . X . .", "X X . . .", ". . . . ."]


def test_area_scoring_with_komi():
    rows = [". X O . .", ". X O . .", "X X O O O", ". X X X O", ". . . X O"]
    game = Go(5, komi=0.5)
    state = position(game, rows)
    # black: 8 stones and A5 A4 A2 A1 B1 C1; white: 7 stones and D5 E5 D4 E4
    assert game.score(state) == 8 + 6 - (7 + 4) - 0.5
    _, reward, terminated = after(game, state, "pass", "pass")
    assert terminated and reward == -1  # white passed last and lost
    assert after(Go(5, komi=3.5), state, "pass", "pass")[1] == 1
    assert after(Go(5, komi=3.0), state, "pass", "pass")[1] == 0  # a whole komi draws


def test_points_that_both_colours_reach_belong_to_none():
    game = Go(5, komi=0.0)
    seki = position(game, ["X . O . .", ". . . . .", ". . . . .", ". . . . .", ". . . . ."])
    assert game.score(seki) == 0
    assert game.score(game.initial(1)[0]) == 0
    assert game.score(position(game, ["X . . . .", ". . . . .", ". . . . .", ". . . . .", ". . . . ."])) == 25


def test_the_cap_on_moves_ends_and_scores_the_game():
    game = Go(5, komi=0.5, max_plies=3)
    _, reward, terminated = after(game, game.initial(1)[0], "C3", "pass", "pass")
    assert terminated and reward == 1  # black's third move, black's board


def twin_legal_and_boards(board, colour, ko):
    """Legal points and the boards they lead to, with chains as sets."""

    def neighbours(p):
        return [
            (p[0] + a, p[1] + b)
            for a, b in [(0, 1), (1, 0), (0, -1), (-1, 0)]
            if 0 <= p[0] + a < size and 0 <= p[1] + b < size
        ]

    def chain(grid, p):
        stones, edge = {p}, [p]
        while edge:
            for q in neighbours(edge.pop()):
                if grid[q] == grid[p] and q not in stones:
                    stones.add(q)
                    edge.append(q)
        return stones, {q for s in stones for q in neighbours(s) if grid[q] == 0}

    size, result = len(board), {}
    for p in zip(*np.nonzero(board == 0), strict=True):
        if p == ko:
            continue
        grid = board.copy()
        grid[p] = colour
        taken = set()
        for q in neighbours(p):
            if grid[q] == -colour and not chain(grid, q)[1]:
                taken |= chain(grid, q)[0]
        for q in taken:
            grid[q] = 0
        stones, liberties = chain(grid, p)
        if liberties:
            new_ko = next(iter(taken)) if len(taken) == 1 and len(stones) == 1 and len(liberties) == 1 else None
            result[size * int(p[0]) + int(p[1])] = (grid, new_ko)
    return result


@pytest.mark.parametrize("size", [5, 9])
def test_go_agrees_with_a_slow_twin(size):
    game, rng, kos, captures = Go(size), np.random.default_rng(size), 0, 0
    for _ in range(15 if size == 5 else 2):
        states, board, ko = game.initial(1), np.zeros((size, size), np.int8), None
        while not states[0, 1]:
            colour = 1 - 2 * (int(states[0, 0]) % 2)
            moves = twin_legal_and_boards(board, colour, ko)
            assert np.flatnonzero(game.legal(states)[0]).tolist() == [*sorted(moves), size * size]
            action = int(rng.choice(sorted(moves))) if moves and rng.random() < 0.99 else size * size
            stones = np.count_nonzero(board)
            board, ko = moves[action] if action < size * size else (board, None)
            kos += ko is not None
            captures += np.count_nonzero(board) < stones
            states, _, _ = game.step(states, [action])
            np.testing.assert_array_equal(game.board(states[0]), board)
    assert kos and captures


def test_the_env_forbids_a_cycle_of_three_kos():
    game = Go(9)
    # three kos side by side, which black and white could take in turn for ever
    rows = [
        ". X O . . . . . .",
        "X . X O . . . . .",
        ". X O . . . . . .",
        ". X O . . . . . .",
        "X O . O . . . . .",
        ". X O . . . . . .",
        ". X O . . . . . .",
        "X O . O . . . . .",
        ". X O . . . . . .",
    ]
    env = gym.make("Lecture/Go-v0").unwrapped
    env.reset(options={"state": position(game, rows, to_move="O")})
    # each takes a ko that the other has not just taken; white's last would bring the first board back
    cycle_moves = ["B8", "C5", "pass", "C2", "B5", "C8", "B2"]
    seen = {env.game.board(env.state).tobytes()}
    refused = []
    for move in cycle_moves:
        action = game.text_to_action(move)
        free = game.legal(env.state[None])[0]  # by simple ko
        mask = env.action_masks()
        assert not (mask & ~free).any()
        for other in np.flatnonzero(free):
            board = game.board(game.step(env.state[None], [other])[0][0]).tobytes()
            expected = other == game.n_actions - 1 or board not in seen
            assert mask[other] == expected, game.action_to_text(int(other))
        if not mask[action]:
            refused.append(move)
            break
        env.step(action)
        seen.add(env.game.board(env.state).tobytes())
    assert refused == ["B2"]


def test_superko_holds_in_random_games_and_in_the_vector_env():
    rng, forbidden = np.random.default_rng(0), 0
    env = gym.make_vec("Lecture/Go-v0", 4, size=5, max_plies=1000, autoreset_mode="SAME_STEP").unwrapped
    env.reset(seed=0)
    seen = [{env.game.board(s).tobytes()} for s in env.state]
    for _ in range(400):
        masks, simple = env.action_masks(), env.game.legal(env.state)
        forbidden += int((simple & ~masks).sum())
        masks[:, -1] &= ~masks[:, :-1].any(axis=1)  # pass only when nothing else is left: long games with many captures
        actions = ((1 - rng.random(masks.shape)) * masks).argmax(axis=1)
        _, _, terminated, _, _ = env.step(actions)
        for i, state in enumerate(env.state):
            board = env.game.board(state).tobytes()
            if terminated[i]:
                seen[i] = {board}
            elif actions[i] != env.game.n_actions - 1:
                assert board not in seen[i]
                seen[i].add(board)
    assert forbidden
