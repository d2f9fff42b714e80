"""AlphaZero with the values of its config, on games and worlds whose answers are known: long training."""

import ast
import re

import pytest
from stable_baselines3.common.utils import LinearSchedule

import sb3_lecture_envs  # noqa: F401
from sb3_lecture.common.opponents import SearchOpponent
from sb3_lecture.common.vec_env import make_native_vec_env
from sb3_lecture.exact import exact_evaluation
from sb3_lecture.exact.board_grading import all_lines, model_player, optimal_share, play_match, random_player
from sb3_lecture.model_based.alphazero import AlphaZero
from sb3_lecture.search.mcts import RolloutSearch
from sb3_lecture.zoo import configs
from sb3_lecture_envs.board.connect_four import ConnectFour
from sb3_lecture_envs.board.connect_four_positions import load_positions
from sb3_lecture_envs.board.go import Go
from sb3_lecture_envs.board.tic_tac_toe import TicTacToe

TIC_TAC_TOE = "Lecture/TicTacToe-v0"


def configured(env_id, seed, **changes):
    """Train with the values of zoo_configs/alphazero.yml, some of them changed."""
    entry = configs.read_entries(configs.config_path("alphazero"))[env_id]
    entry |= changes
    env = make_native_vec_env(env_id, entry.pop("n_envs"), env_kwargs=entry.pop("env_kwargs", None))
    rate, steps, policy = entry.pop("learning_rate", 1e-3), int(entry.pop("n_timesteps")), entry.pop("policy")
    if isinstance(rate, str):
        rate = LinearSchedule(float(rate.removeprefix("lin_")), 0.0, 1.0)
    if isinstance(kwargs := entry.pop("policy_kwargs", {}), str):
        kwargs = {name: ast.literal_eval(value) for name, value in re.findall(r"(\w+)=(\[.*?\]|\(.*?\))", kwargs)}  # dict(…)
    entry["policy_kwargs"] = kwargs
    return AlphaZero(policy, env, learning_rate=rate, seed=seed, **entry).learn(steps)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_the_configured_tic_tac_toe_player_loses_no_line_of_play(seed):
    """Zero losing leaves from either side, and at least 95 % optimal moves over all positions that play can reach."""
    model = configured(TIC_TAC_TOE, seed)
    game, player = TicTacToe(), model_player(model)
    assert [all_lines(game, player, side).losses for side in (0, 1)] == [0, 0]
    assert optimal_share(game, player) >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("env_id", ["Lecture/GridWorld-v0", "Lecture/Maze-v0"])
def test_the_configured_player_has_no_regret(env_id, seed):
    """Four rooms, and a maze of 15 by 15 cells whose only way to the goal is 88 steps long."""
    assert exact_evaluation(configured(env_id, seed)).regret == pytest.approx(0.0, abs=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_gumbel_search_learns_tic_tac_toe_from_sixteen_simulations(seed):
    """A third of the simulations that PUCT is trained with. Measured with half the moves: 2, 0 and 1 lines of play lost."""
    player = model_player(configured(TIC_TAC_TOE, seed, selection="gumbel", n_simulations=16))
    lost, share = sum(all_lines(TicTacToe(), player, side).losses for side in (0, 1)), optimal_share(TicTacToe(), player)
    print(f"lines lost: {lost}, optimal moves: {share:.3f}")
    assert lost <= 2 and share >= 0.95


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_gumbel_search_finds_the_way_through_four_rooms(seed):
    model = configured("Lecture/GridWorld-v0", seed, selection="gumbel", n_simulations=16)
    assert exact_evaluation(model).regret == pytest.approx(0.0, abs=1e-12)


@pytest.mark.slow
def test_connect_four_is_learned_beyond_its_searches():
    """A twentieth of the config's moves; a random mover keeps the value in 55.3 % of the solved positions."""
    game, states = ConnectFour(), load_positions()[0]
    model = configured("Lecture/ConnectFour-v0", 0, n_timesteps=4e4, n_envs=64, buffer_size=40_000)
    untrained = AlphaZero("BoardCnnPolicy", make_native_vec_env("Lecture/ConnectFour-v0", 1), n_simulations=50, seed=0)
    share, before = (optimal_share(game, model_player(each), states) for each in (model, untrained))
    print(f"optimal moves: {share:.3f}, before training {before:.3f}")
    assert share >= 0.85 and share >= before + 0.05


@pytest.mark.slow
def test_go_on_five_by_five_is_learned():
    """More than nine in ten games against random moves, and more than half against rollouts of twice its simulations."""
    env = make_native_vec_env("Lecture/Go-v0", 64, env_kwargs={"size": 5})
    model = AlphaZero(
        "BoardCnnPolicy", env, n_simulations=32, batch_size=128, learning_rate=LinearSchedule(2e-3, 0.0, 1.0), train_freq=4,
        gradient_steps=4, buffer_size=40_000, q_fraction=0.5, seed=0,
    ).learn(4e4)  # fmt: skip
    game = Go(5)
    random = play_match(game, (model_player(model), random_player(0)), 100, seed=0)
    rollouts = SearchOpponent(game, RolloutSearch(game, n_simulations=64, seed=1), seed=1).batch
    searched = play_match(game, (model_player(model), rollouts), 100, seed=0, random_plies=2)
    print(f"random {random}, rollouts {searched}")
    assert random.wins >= 90 and searched.wins > 50
