"""PettingZoo's own tests over our two-player worlds, and what their rewards are."""

import warnings

import numpy as np
import pytest

pytest.importorskip("pettingzoo")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # its tests load its games in its old way
    from pettingzoo.test import api_test, parallel_api_test, seed_test
from pettingzoo.utils import AssertOutOfBoundsWrapper, OrderEnforcingWrapper

import sb3_lecture_envs  # noqa: F401
from sb3_lecture_envs.pettingzoo_env import aec_env, parallel_env

WORLDS = {
    "Lecture/KuhnPoker-v0": {}, "Lecture/LeducPoker-v0": {}, "Lecture/RockPaperScissors-v0": {}, "Lecture/TicTacToe-v0": {},
    "Lecture/ConnectFour-v0": {}, "Lecture/Nim-v0": {}, "Lecture/Othello-v0": {},
    "Lecture/Go-v0": {"size": 5, "max_plies": 30},
}  # fmt: skip
every_world = pytest.mark.parametrize("env_id", WORLDS)


@every_world
def test_pettingzoos_own_tests_pass(env_id):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its advice on the number of observed values and on wrappers
        api_test(aec_env(env_id, **WORLDS[env_id]), num_cycles=60)
        api_test(OrderEnforcingWrapper(AssertOutOfBoundsWrapper(aec_env(env_id, **WORLDS[env_id]))), num_cycles=20)
        seed_test(lambda: aec_env(env_id, **WORLDS[env_id]), num_cycles=20)
        parallel_api_test(parallel_env(env_id, **WORLDS[env_id]), num_cycles=60)


@every_world
def test_a_game_is_the_envs_and_pays_both(env_id):
    env, rng = aec_env(env_id, **WORLDS[env_id]), np.random.default_rng(0)
    for game in range(8):
        env.reset(seed=game)
        total = {"first": 0.0, "second": 0.0}
        for agent in env.agent_iter():
            observation, reward, terminated, truncated, _ = env.last()
            total[agent] += reward
            mask = observation["action_mask"]
            if terminated or truncated:
                env.step(None)
                continue
            assert mask.any() and not env.observe("second" if agent == "first" else "first")["action_mask"].any()
            env.step(int(rng.choice(np.flatnonzero(mask))))
        assert total["first"] == -total["second"]
        if hasattr(env.game_env, "rules"):
            assert total["first"] == env.game_env.rules.payoffs(env.game_env.tables.state)[0]


def test_kuhns_players_see_their_own_card_alone():
    env = aec_env("Lecture/KuhnPoker-v0")
    env.reset(seed=4)
    mine, theirs = env.observe("first")["observation"], env.observe("second")["observation"]
    assert mine[0] == theirs[1] == 1 and mine[2:5].sum() == theirs[2:5].sum() == 1 and not (mine[2:5] * theirs[2:5]).any()


def test_both_choose_at_once():
    env = parallel_env("Lecture/RockPaperScissors-v0")
    env.reset(seed=0)
    _, rewards, terminations, _, _ = env.step({"first": 1, "second": 0})  # paper wraps rock
    assert rewards == {"first": 1.0, "second": -1.0} and all(terminations.values())


def test_an_illegal_move_costs_the_mover_alone():
    env = aec_env("Lecture/LeducPoker-v0")
    env.reset(seed=0)
    env.step(0)
    assert env.rewards == {"first": -13.0, "second": 0.0} and all(env.terminations.values())


def test_what_is_no_two_player_game_is_refused():
    with pytest.raises(ValueError, match="Lecture/Maze-v0 is no two-player game"):
        aec_env("Lecture/Maze-v0")
    with pytest.raises(ValueError, match="opponent='random': both players are"):
        aec_env("Lecture/KuhnPoker-v0", opponent="random")
