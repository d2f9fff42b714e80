"""Games of hidden information: rules against a referee written from the books, envs against the rules, one by one and many."""

import itertools
import warnings

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env as check_gymnasium
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env as check_sb3

from sb3_lecture.exact import GameTree, match_value
from sb3_lecture_envs.cards.env import CardVectorEnv
from sb3_lecture_envs.cards.game import CHANCE, OVER, TURN
from sb3_lecture_envs.cards.kuhn_poker import KuhnPoker
from sb3_lecture_envs.cards.leduc_poker import LeducPoker
from sb3_lecture_envs.cards.matrix_game import MatrixGame

IDS = ["Lecture/KuhnPoker-v0", "Lecture/LeducPoker-v0", "Lecture/RockPaperScissors-v0"]
GAMES = {"kuhn": KuhnPoker(), "kuhn5": KuhnPoker(5), "leduc": LeducPoker(), "leduc4": LeducPoker(2, 2), "rps": MatrixGame()}
every_game = pytest.mark.parametrize("game", GAMES.values(), ids=GAMES)


def histories(game):
    """All complete plays, as (first player's payoff, the deals and moves, the last state)."""
    states, plays, done = game.initial(1), [()], []
    while len(states):
        legal, chances = game.legal(states), game.chances(states)
        for state, play in zip(states, plays, strict=True):
            if state[TURN] == OVER:
                done.append((float(game.payoffs(state[None])[0]), play, state))
        ways = [(i, a) for i, s in enumerate(states) for a in np.flatnonzero(legal[i] if s[TURN] >= 0 else chances[i])]
        rows, actions = np.array(ways, np.int64).reshape(-1, 2).T
        plays = [(*plays[i], int(a)) for i, a in ways]
        states = game.step(states[rows], actions)
    return done


def test_kuhns_poker_is_kuhns():
    """His table: 6 deals, 5 ways to play each."""
    referee = {}
    for first, second in itertools.permutations(range(3), 2):
        sign = 1 if first > second else -1
        lines = {(0, 0): sign, (1, 0): 1, (1, 1): 2 * sign, (0, 1, 0): -1, (0, 1, 1): 2 * sign}
        referee.update({(first, second, *line): payoff for line, payoff in lines.items()})
    assert {play: payoff for payoff, play, _ in histories(KuhnPoker())} == referee


def leduc_referee(n_ranks=3, n_suits=2):
    """Leduc poker played by strings: the two private cards, rounds of letters, the open card."""
    found = {}

    def rounds():
        """Every line of one round: (letters, what each has put in beyond before, in raises; who folded)."""

        def go(letters, put, raises):
            mover = len(letters) % 2
            if raises and put[mover] < put[1 - mover]:
                yield letters + "f", put, mover
            level = [*put]
            level[mover] = put[1 - mover]
            if letters:
                yield letters + "c", tuple(level), None
            else:
                yield from go("c", tuple(level), raises)
            if raises < 2:
                level[mover] += 1
                yield from go(letters + "r", tuple(level), raises + 1)

        return list(go("", (0, 0), 0))

    code = {"f": 0, "c": 1, "r": 2}
    for a, b in itertools.permutations(range(n_ranks * n_suits), 2):
        for first, put, folded in rounds():
            chips = [1 + 2 * put[0], 1 + 2 * put[1]]
            start = (a, b, *(code[letter] for letter in first))
            if folded is not None:
                found[start] = -chips[0] if folded == 0 else chips[1]
                continue
            for c in set(range(n_ranks * n_suits)) - {a, b}:
                for second, more, folded_2 in rounds():
                    pot = [chips[0] + 4 * more[0], chips[1] + 4 * more[1]]
                    play = (*start, c, *(code[letter] for letter in second))
                    if folded_2 is not None:
                        found[play] = -pot[0] if folded_2 == 0 else pot[1]
                        continue
                    ranks = [card // n_suits for card in (a, b, c)]
                    strength = [100 * (rank == ranks[2]) + rank for rank in ranks[:2]]
                    found[play] = pot[1] * int(np.sign(strength[0] - strength[1]))
    return found


@pytest.mark.parametrize("deck", [(3, 2), (2, 2), (2, 3)])
def test_leduc_poker_is_the_referees(deck):
    assert {play: payoff for payoff, play, _ in histories(LeducPoker(*deck))} == leduc_referee(*deck)


def test_a_matrix_is_looked_up_rows_first():
    game = MatrixGame([[1, 2, 3], [4, 5, 6]])
    assert {play: payoff for payoff, play, _ in histories(game)} == {
        (0, 0): 1, (0, 1): 2, (0, 2): 3, (1, 0): 4, (1, 1): 5, (1, 2): 6,
    }  # fmt: skip
    np.testing.assert_array_equal(game.legal(game.initial(1)), [[True, True, False]])
    assert MatrixGame().payoff_table[0, 2] == 1 == -MatrixGame().payoff_table[0, 1]  # rock breaks scissors, paper wraps rock


@every_game
def test_nobody_wins_more_than_there_is_and_nature_is_fair(game):
    done = histories(game)
    assert max(abs(payoff) for payoff, _, _ in done) == game.max_payoff
    states = game.initial(1)
    while states[0, TURN] == CHANCE:
        row = game.chances(states)[0]
        assert len(set(row[row > 0])) == 1 and row.sum() == pytest.approx(1.0)
        states = game.step(states, np.array([np.flatnonzero(row)[-1]]))
        assert states[0, TURN] == 0 or game.chances(states)[0, np.flatnonzero(row)[-1]] == 0  # no card is dealt twice


@every_game
def test_a_player_sees_neither_the_others_card_nor_an_unplayed_move(game):
    """Observations are one-to-one with what one was dealt and what was said aloud."""
    names, observations = {}, {}
    for _, play, _ in histories(game):
        state = game.initial(1)
        for action in play:
            for player in (0, 1):
                if state[0, TURN] == player:
                    name = game.describe(state[0], player)
                    seen = game.observe(state, np.array([player]))[0].tobytes()
                    assert names.setdefault(name, seen) == seen and observations.setdefault(seen, name) == name
            state = game.step(state, np.array([action]))
    first_moves = [name for name in names if name.endswith(":")]
    if isinstance(game, KuhnPoker):
        assert len(names) == 4 * game.n_cards and len(first_moves) == game.n_cards


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("opponent", [None, "random"])
def test_checkers_of_gymnasium_and_sb3_are_content(env_id, opponent):
    env = gym.make(env_id, opponent=opponent, render_mode="rgb_array")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*CUDA.*|.*different from the unwrapped version.*|.*illegal.*")
        check_gymnasium(env.unwrapped, skip_render_check=True)
        check_sb3(env)
    env.reset(seed=1)
    picture = env.render()
    assert picture.dtype == np.uint8 and picture.ndim == 3
    text = gym.make(env_id, render_mode="ansi")
    text.reset(seed=1)
    assert text.render().count("\n") >= 2


def play_out(env, rng, n_games):
    """Rewards, payoffs and movers of games by random legal actions."""
    results = []
    for _ in range(n_games):
        _, info = env.reset()
        terminated = False
        while not terminated:
            mover = info["to_move"]
            _, reward, terminated, _, info = env.step(int(rng.choice(np.flatnonzero(info["action_mask"]))))
            assert terminated or reward == 0.0
        results.append((mover, reward, info["payoffs"]))
    return results


@pytest.mark.parametrize("env_id", IDS)
def test_without_an_opponent_the_reward_is_the_last_movers(env_id):
    env = gym.make(env_id).unwrapped
    env.reset(seed=0)
    for mover, reward, payoffs in play_out(env, np.random.default_rng(0), 60):
        assert payoffs[0] == -payoffs[1] and reward == payoffs[mover]


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("side", ["first", "second"])
def test_against_an_opponent_the_reward_is_the_agents(env_id, side):
    env = gym.make(env_id, opponent="random", side=side).unwrapped
    env.reset(seed=0)
    agent = ("first", "second").index(side)
    for mover, reward, payoffs in play_out(env, np.random.default_rng(0), 60):
        assert mover == agent and reward == payoffs[agent]


def test_play_against_kuhns_equilibrium_pays_what_the_tree_says():
    tree = GameTree(KuhnPoker())
    perfect = KuhnPoker().equilibrium()
    exact = {"first": match_value(tree, tree.uniform, perfect), "second": -match_value(tree, perfect, tree.uniform)}
    for side, expected in exact.items():
        env = CardVectorEnv(KuhnPoker(), 2000, opponent="equilibrium", side=side, autoreset_mode="same_step")
        env.reset(seed=5)
        rng, results = np.random.default_rng(1), [[] for _ in range(2000)]
        while min(map(len, results)) < 10:
            _, reward, terminated, _, _ = env.step(rng.integers(2, size=2000))
            for i in np.flatnonzero(terminated):
                results[i].append(reward[i])
        first_ten = np.array([games[:10] for games in results])
        assert first_ten.mean() == pytest.approx(expected, abs=4 * first_ten.std() / np.sqrt(first_ten.size))


@pytest.mark.parametrize("env_id", IDS)
@pytest.mark.parametrize("mode", ["same_step", "next_step"])
def test_many_at_once_play_by_the_same_rules(env_id, mode):
    """Every game of a vector env is a complete play of the rules with its payoff, and none is lost between two games."""
    env = gym.make_vec(env_id, 16, autoreset_mode=mode)
    rules = env.unwrapped.rules
    known = {}
    for payoff, _, state in histories(rules):
        known[state.tobytes()] = payoff
    _, infos = env.reset(seed=3)
    rng, n_ended = np.random.default_rng(0), 0
    resetting = np.zeros(16, bool)
    for _ in range(60):
        masks, movers = infos["action_mask"], infos["to_move"]
        np.testing.assert_array_equal(masks, env.unwrapped.action_masks())
        actions = np.where(masks.any(axis=1), ((1 - rng.random(masks.shape)) * masks).argmax(axis=1), 0)
        _, rewards, terminated, truncated, infos = env.step(actions)
        assert not truncated.any()
        ends = infos.get("final_info", {}) if mode == "same_step" else infos
        for i in np.flatnonzero(terminated):
            n_ended += 1
            payoffs = ends["payoffs"][i]
            assert rewards[i] == payoffs[movers[i]] and payoffs.sum() == 0 and payoffs[0] in known.values()
            if mode == "next_step":
                assert known[env.unwrapped.tables.state[i].tobytes()] == payoffs[0]
        assert not terminated[resetting].any() and not rewards[resetting].any()
        resetting = terminated if mode == "next_step" else resetting
    assert n_ended > 100 and env.metadata["autoreset_mode"] == AutoresetMode(env.metadata["autoreset_mode"].value)


@pytest.mark.parametrize("env_id", IDS)
def test_a_state_put_back_goes_on_alike(env_id):
    for n in (None, 5):
        make = gym.make if n is None else lambda env_id, **kw: gym.make_vec(env_id, 5, **kw)
        env, other = (make(env_id, opponent="random").unwrapped for _ in range(2))
        env.reset(seed=1)
        other.reset(seed=2)
        other.set_state(env.get_state())
        for _ in range(25):
            mask = env.action_masks()
            action = int(mask.argmax()) if n is None else mask.argmax(axis=1)
            here, there = env.step(action), other.step(action)
            for a, b in zip(here[:4], there[:4], strict=True):
                np.testing.assert_array_equal(a, b)
            if n is None and here[2]:
                np.testing.assert_array_equal(env.reset()[0], other.reset()[0])


def test_illegal_moves_lose_or_are_refused():
    env = gym.make("Lecture/LeducPoker-v0").unwrapped
    env.reset(seed=0)
    _, reward, terminated, _, info = env.step(0)  # nothing to fold for
    assert (reward, terminated, info["illegal"]) == (-13.0, True, True) and not env.action_masks().any()
    with pytest.raises(ValueError, match="The game is over"):
        env.step(1)
    env = gym.make("Lecture/LeducPoker-v0", illegal="error").unwrapped
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"Action 0 is illegal in LeducPoker. Legal are \[1, 2\]"):
        env.step(0)
    env = gym.make("Lecture/LeducPoker-v0", opponent=lambda observation, mask: 0).unwrapped
    with pytest.raises(ValueError, match="The opponent's action 0 is illegal"):
        env.reset(seed=0, options={"side": "second"})
    many = gym.make_vec("Lecture/LeducPoker-v0", 3, autoreset_mode="same_step")
    many.reset(seed=0)
    _, rewards, terminated, _, infos = many.step(np.array([1, 0, 2]))
    assert rewards.tolist() == [0, -13, 0] and terminated.tolist() == [False, True, False]
    assert infos["final_info"]["illegal"].tolist() == [False, True, False] and many.unwrapped.action_masks()[1].any()


@pytest.mark.parametrize(
    ("env_id", "kwargs", "words"),
    [
        ("Lecture/KuhnPoker-v0", {"n_cards": 1}, "n_cards=1 must be a whole number from 2"),
        ("Lecture/KuhnPoker-v0", {"n_cards": 5, "opponent": "equilibrium"}, "no equilibrium of KuhnPoker is known"),
        ("Lecture/LeducPoker-v0", {"n_ranks": 2, "n_suits": 1}, "are 2 cards; give 3"),
        ("Lecture/LeducPoker-v0", {"opponent": "perfect"}, "opponent='perfect' is unknown"),
        ("Lecture/RockPaperScissors-v0", {"payoffs": [[1, np.nan]]}, "finite numbers"),
        ("Lecture/RockPaperScissors-v0", {"payoffs": [1, 2]}, "must be a table"),
        ("Lecture/RockPaperScissors-v0", {"payoffs": [[1, 2], [3]]}, "must be a table"),
        ("Lecture/RockPaperScissors-v0", {"side": "first"}, "give one, or no side"),
        ("Lecture/RockPaperScissors-v0", {"illegal": "cry"}, "illegal='cry' is unknown"),
    ],
)
def test_bad_arguments_are_one_clear_error(env_id, kwargs, words):
    for make in (gym.make, gym.make_vec):
        with pytest.raises(ValueError, match=words):
            make(env_id, **kwargs)


def test_the_text_hides_the_opponents_card_until_the_end():
    game = KuhnPoker()
    state = game.initial(1)
    for action in (2, 0, 1):
        state = game.step(state, np.array([action]))
    assert game.render_text(state[0], viewer=1) == "first  [?]  2 in the pot\nsecond [J]  1 in the pot\nbet"
    assert game.render_text(state[0]).startswith("first  [K]")
    state = game.step(state, np.array([1]))
    assert game.render_text(state[0], viewer=1).endswith("bet, bet: first wins 2")
    leduc = LeducPoker()
    state = leduc.initial(1)
    for action in (0, 5, 2, 1, 2):
        state = leduc.step(state, np.array([action]))
    assert leduc.describe(state[0], 0) == "J1:rc/Q1:"
    assert leduc.render_text(state[0], viewer=0) == (
        "first  [J]  3 in the pot\nsecond [?]  3 in the pot\ntable  [Q]\nraise, call | "
    )
    assert leduc.text_to_action("R") == 2
    with pytest.raises(ValueError, match=r"'x' is no move. Write one of: fold, call, raise"):
        leduc.text_to_action("x")
