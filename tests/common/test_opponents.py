"""Models and searches as opponents: legal always, picklable, and as strong as what they wrap."""

import pickle

import gymnasium as gym
import numpy as np
import pytest
from sb3_contrib import QRDQN, MaskablePPO
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import SubprocVecEnv

import sb3_lecture_envs  # noqa: F401  registers the ids
from sb3_lecture.common.opponents import ModelOpponent, OpeningOpponent, SearchOpponent, legal_actions
from sb3_lecture.search.mcts import RolloutSearch
from sb3_lecture_envs.board.game import PLY
from sb3_lecture_envs.board.players import RandomPlayer
from sb3_lecture_envs.board.solve import solve
from sb3_lecture_envs.board.tic_tac_toe import TicTacToe

ENV = "Lecture/TicTacToe-v0"
MODELS = {
    DQN: {"learning_starts": 10},
    QRDQN: {"learning_starts": 10},
    PPO: {"n_steps": 32, "batch_size": 32, "n_epochs": 1},
    MaskablePPO: {"n_steps": 32, "batch_size": 32, "n_epochs": 1},
}
each_model = pytest.mark.parametrize("algorithm", MODELS, ids=lambda cls: cls.__name__)


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    folder = tmp_path_factory.mktemp("models")
    paths = {}
    for cls, kwargs in MODELS.items():
        paths[cls] = str(folder / f"{cls.__name__}.zip")
        cls("MlpPolicy", gym.make(ENV, opponent="random"), seed=0, device="cpu", **kwargs).save(paths[cls])
    return paths


class TableSearch:
    """A search that knows the truth: it counts the optimal moves, and nothing else."""

    def __call__(self, states):
        values = solve(TicTacToe()).move_values(states)
        return 10.0 * (values == values.max(axis=1, keepdims=True))


def some_states(n):
    states = np.concatenate(solve(TicTacToe()).states)
    return states[np.random.default_rng(0).permutation(len(states))[:n]]


@each_model
@pytest.mark.parametrize("deterministic", [True, False])
def test_a_models_moves_are_legal(models, algorithm, deterministic):
    game, states = TicTacToe(), some_states(300)
    player = ModelOpponent(algorithm, models[algorithm], deterministic, seed=0)
    masks, observations = game.legal(states), game.observe(states)
    actions = player.batch(observations, masks)
    assert masks[np.arange(300), actions].all()
    assert masks[0, player(observations[0], masks[0])]


def test_the_draws_follow_the_masked_policy(models):
    game, model, rng = TicTacToe(), PPO.load(models[PPO], device="cpu"), np.random.default_rng(0)
    state = game.step(game.initial(1), [4])[0]
    observations, masks = np.repeat(game.observe(state), 20_000, axis=0), np.repeat(game.legal(state), 20_000, axis=0)
    masks[:, 7] = False
    counts = np.bincount(legal_actions(model, observations, masks, False, rng), minlength=9)
    tensor = model.policy.obs_to_tensor(observations[:1])[0]
    expected = model.policy.get_distribution(tensor).distribution.probs.detach().numpy()[0] * masks[0]
    expected /= expected.sum()
    np.testing.assert_allclose(counts / 20_000, expected, atol=4 * np.sqrt(0.25 / 20_000))
    assert counts[4] == counts[7] == 0


@pytest.mark.slow
@each_model
def test_a_model_plays_in_subprocesses(models, algorithm):
    player = ModelOpponent(algorithm, models[algorithm])
    player(np.zeros((2, 3, 3), np.float32), np.ones(9, bool))  # the model it has loaded does not travel
    assert len(pickle.dumps(player)) < 5000
    if algorithm is PPO:
        env = make_vec_env(ENV, 2, seed=0, env_kwargs={"opponent": player}, vec_env_cls=SubprocVecEnv)
        try:
            env.reset()
            env.step(np.stack(env.env_method("action_masks")).argmax(axis=1))
        finally:
            env.close()


def test_one_seed_gives_one_sequence_of_moves(models):
    game, states = TicTacToe(), some_states(100)
    player, runs = ModelOpponent(PPO, models[PPO]), []
    for seed in (1, 1, 2):
        player.seed(seed)
        runs.append(player.batch(game.observe(states), game.legal(states)))
    np.testing.assert_array_equal(runs[0], runs[1])
    assert (runs[0] != runs[2]).any()


def test_a_search_plays_what_it_counts():
    game, states, table = TicTacToe(), some_states(300), solve(TicTacToe())
    player = SearchOpponent(game, TableSearch(), seed=0)
    masks, values = game.legal(states), table.move_values(states)
    actions = player.batch(game.observe(states), masks)
    np.testing.assert_array_equal(values[np.arange(300), actions], values.max(axis=1))
    start = np.repeat(game.initial(1), 900, axis=0)  # nine equal counts: ties fall at random
    counts = np.bincount(player.batch(game.observe(start), game.legal(start)), minlength=9)
    assert counts.min() > 50
    masks = game.legal(start)
    masks[:, 3:] = False
    assert set(player.batch(game.observe(start), masks)) == {0, 1, 2}  # what the env forbids is not played
    assert isinstance(pickle.loads(pickle.dumps(player)), SearchOpponent)


def test_temperature_draws_in_proportion_to_counts():
    game = TicTacToe()
    counts = np.array([[8.0, 4, 2, 0, 0, 0, 0, 0, 0]])
    start, masks = np.repeat(game.initial(1), 20_000, axis=0), np.ones((20_000, 9), bool)
    for temperature, expected in ((1.0, [8 / 14, 4 / 14, 2 / 14]), (0.5, [64 / 84, 16 / 84, 4 / 84])):
        player = SearchOpponent(game, lambda states: np.repeat(counts, len(states), axis=0), temperature, seed=0)
        shares = np.bincount(player.batch(game.observe(start), masks), minlength=9) / 20_000
        np.testing.assert_allclose(shares[:3], expected, atol=0.015)
        assert shares[3:].sum() == 0
    with pytest.raises(ValueError, match="temperature=-1"):
        SearchOpponent(game, TableSearch(), -1)


def test_a_search_that_counts_nothing_legal_still_moves():
    game = TicTacToe()
    mask = np.zeros(9, bool)
    mask[5] = True
    for temperature in (0.0, 1.0):
        player = SearchOpponent(game, lambda states: np.eye(9)[[0]], temperature, seed=0)
        assert player(game.observe(game.initial(1))[0], mask) == 5


def test_the_search_beats_chance_in_the_env():
    game = TicTacToe()
    env = gym.make_vec(ENV, 50, opponent=SearchOpponent(game, TableSearch(), seed=0), autoreset_mode="SAME_STEP").unwrapped
    env.reset(seed=0)
    player, results = RandomPlayer(0), []
    for _ in range(20):
        _, rewards, terminated, _, _ = env.step(player.batch(game.observe(env.state), env.action_masks()))
        results += rewards[terminated].tolist()
    assert len(results) > 100 and max(results) <= 0 and np.mean(results) < -0.7
    assert (env.state[:, PLY] < 9).all()


def after_two_marks(states):
    return states[:, PLY] >= 2


def test_an_opening_is_searched_and_the_rest_played_perfectly():
    game, states, table = TicTacToe(), some_states(300), solve(TicTacToe())
    states = np.concatenate([states, game.initial(20)])
    opening = SearchOpponent(game, lambda rows: np.repeat(np.eye(9)[[7]], len(rows), axis=0), seed=0)
    player = OpeningOpponent(game, opening, game.perfect_player(seed=0), after_two_marks)
    masks, values, soon = game.legal(states), table.move_values(states), after_two_marks(states)
    actions = player.batch(game.observe(states), masks)
    assert not player.proven and 0 < soon.sum() < len(states)
    np.testing.assert_array_equal(values[soon, actions[soon]], values[soon].max(axis=1))
    assert (actions[-20:] == 7).all()  # the search's first move
    assert player(game.observe(states[soon])[0], masks[soon][0]) < 9 and player.proven
    player = OpeningOpponent(game, SearchOpponent(game, TableSearch()), game.perfect_player(), after_two_marks)
    copy, runs = pickle.loads(pickle.dumps(player)), []
    for each in (player, copy):
        each.seed(5)
        runs.append(each.batch(game.observe(states), masks))
    np.testing.assert_array_equal(runs[0], runs[1])


@pytest.mark.slow
def test_a_tree_search_is_an_opponent_also_after_a_journey():
    game, table = TicTacToe(), solve(TicTacToe())
    player = pickle.loads(pickle.dumps(SearchOpponent(game, RolloutSearch(game, n_simulations=2000, seed=0), seed=0)))
    states = some_states(200)
    masks, values = game.legal(states), table.move_values(states)
    actions = player.batch(game.observe(states), masks)
    assert masks[np.arange(200), actions].all()
    assert (values[np.arange(200), actions] == values.max(axis=1)).mean() > 0.97
    env = gym.make(ENV, opponent=player, side="second")
    observation, info = env.reset(seed=0)
    assert observation.sum() == 1 and info["action_mask"].sum() == 8
