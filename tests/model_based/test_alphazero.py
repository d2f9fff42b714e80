"""AlphaZero against hand-worked targets and losses, exact players and solved worlds."""

from types import SimpleNamespace

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

import sb3_lecture_envs  # noqa: F401
from sb3_lecture.common.opponents import SearchOpponent
from sb3_lecture.common.vec_env import make_native_vec_env
from sb3_lecture.exact import ExactEvalCallback, exact_evaluation
from sb3_lecture.exact.board_grading import (
    BoardEvalCallback,
    _Checkpoint,
    all_lines,
    model_player,
    optimal_share,
    perfect_player,
    play_match,
    random_player,
    rating,
)
from sb3_lecture.model_based.alphazero import AlphaZero, AlphaZeroMlpPolicy, BoardCnnPolicy
from sb3_lecture.model_based.self_play import SelfPlayBuffer, returns_to_go, transform
from sb3_lecture.search.compiled_mlp import CompiledMLP
from sb3_lecture_envs.board.connect_four import ConnectFour
from sb3_lecture_envs.board.go import Go
from sb3_lecture_envs.board.nim import Nim
from sb3_lecture_envs.board.othello import Othello
from sb3_lecture_envs.board.tic_tac_toe import TicTacToe

TIC_TAC_TOE = "Lecture/TicTacToe-v0"
SMALL = {
    "n_games": 4,
    "n_simulations": 4,
    "learning_starts": 0,
    "batch_size": 8,
    "policy_kwargs": {"net_arch": [16]},
    "seed": 0,
}


def small(env=TIC_TAC_TOE, **more):
    return AlphaZero("MlpPolicy", env, **{**SMALL, **more})


# ---- targets and losses


def test_returns_to_go_alternate_in_a_game():
    """The player who makes the third move wins: +1 to whoever moved first and third, −1 to the other."""
    np.testing.assert_array_equal(returns_to_go([0.0, 0.0, 1.0], -1.0, 0.0), [1.0, -1.0, 1.0])


def test_returns_to_go_of_one_player_bootstrap_a_time_limit():
    """γ = ½, rewards 1, 0, 2, then a state worth 4: 2 + ½·4 = 4; 0 + ½·4 = 2; 1 + ½·2 = 2."""
    np.testing.assert_allclose(returns_to_go([1.0, 0.0, 2.0], 0.5, 4.0), [2.0, 2.0, 4.0])


def test_losses_are_those_of_equation_1():
    """p = (¼, ¾) and v = tanh(1) by hand; π = (½, ½), z = −1."""
    model = small()
    with th.no_grad():
        for parameter in model.policy.parameters():
            parameter.zero_()
        model.policy.policy_head.bias[:2] = th.log(th.tensor([0.25, 0.75]))
        model.policy.policy_head.bias[2:] = -1e9  # the other seven moves have no probability
        model.policy.value_head.bias.fill_(1.0)
    pi = th.zeros(1, 9)
    pi[0, :2] = 0.5
    value, policy, l2 = model.losses(th.zeros(1, 2, 3, 3), pi, th.tensor([-1.0]))
    assert value.item() == pytest.approx((-1 - np.tanh(1.0)) ** 2)
    assert policy.item() == pytest.approx(-0.5 * np.log(0.25) - 0.5 * np.log(0.75))
    assert l2.item() == pytest.approx(np.log(0.25) ** 2 + np.log(0.75) ** 2 + 7e18 + 1.0)


def test_a_gradient_step_descends_the_whole_of_equation_1():
    """With plain gradient descent θ' = θ − α ∇l, l with c = 3 differentiated by torch on its own."""
    model = small(l2_coef=3.0, policy_kwargs={"net_arch": [8], "optimizer_class": th.optim.SGD}, learning_rate=0.01)
    model.set_logger(_silent())
    rows = TicTacToe().initial(1)
    pi, z = np.zeros((1, 9), np.float32), np.ones(1, np.float32)
    pi[0, 4] = 1.0  # the centre of an empty board: every symmetry leaves it
    model.replay_buffer.add_episode(rows, pi, z)
    theta = [p.detach().clone().requires_grad_() for p in model.policy.parameters()]
    names = [name for name, _ in model.policy.named_parameters()]
    logits, v = th.func.functional_call(model.policy, dict(zip(names, theta, strict=True)), (th.zeros(1, 2, 3, 3),))
    loss = (1 - v[0]) ** 2 - th.log_softmax(logits, 1)[0, 4] + 3.0 * sum((p**2).sum() for p in theta)
    gradients = th.autograd.grad(loss, theta)
    model.train(1, 4)
    for after, before, gradient in zip(model.policy.parameters(), theta, gradients, strict=True):
        th.testing.assert_close(after, before - 0.01 * gradient)


def test_a_finished_game_is_stored_with_its_result():
    model = small(buffer_size=1000, temperature_moves=None).learn(60)
    buffer = model.replay_buffer
    ends = np.flatnonzero(np.r_[buffer.rows[1 : buffer.size(), 0] == 0, True])  # a game's last stored move
    start = 0
    game = TicTacToe()
    for end in ends:
        rows, z = buffer.rows[start : end + 1], buffer.values[start : end + 1]
        np.testing.assert_array_equal(rows[:, 0], np.arange(len(rows)))  # ply by ply
        np.testing.assert_array_equal(z[1:], -z[:-1])  # what one side wins the other loses
        final = np.unique(
            np.concatenate([game.step(rows[-1:], np.array([a]))[1] for a in np.flatnonzero(game.legal(rows[-1:])[0])])
        )
        assert z[-1] in final
        np.testing.assert_allclose(buffer.policies[start : end + 1].sum(axis=1), 65535, atol=5)
        start = end + 1
    assert start > 9


def test_the_buffer_keeps_the_newest_moves():
    space = gym.spaces.Discrete(10)
    buffer = SelfPlayBuffer(5, space, gym.spaces.Discrete(2))
    for first in (0, 3, 6):
        rows = np.arange(first, first + 3)[:, None]
        buffer.add_episode(rows, np.tile([0.25, 0.75], (3, 1)), rows[:, 0].astype(float))
    assert buffer.size() == 5 and buffer.full
    assert sorted(buffer.values) == [4.0, 5.0, 6.0, 7.0, 8.0]
    np.testing.assert_array_equal(buffer.rows[:, 0], buffer.values)
    np.testing.assert_allclose(buffer.sample(3).policies, [[0.25, 0.75]] * 3, atol=1e-5)
    buffer.add_episode(np.arange(20, 40)[:, None], np.tile([1.0, 0.0], (20, 1)), np.arange(20.0, 40.0))  # longer than all
    assert sorted(buffer.values) == [35.0, 36.0, 37.0, 38.0, 39.0]


# ---- symmetries


@pytest.mark.parametrize("game", [TicTacToe(), ConnectFour(), Othello(), Go(5), Nim()], ids=lambda game: type(game).__name__)
@settings(max_examples=25)
@given(seed=st.integers(0, 2**31), plies=st.integers(0, 12), k=st.integers(0, 63))
def test_symmetries_commute_with_the_rules(game, seed, plies, k):
    """Turning a position and then asking for its legal moves is asking and then turning the answer."""
    rng = np.random.default_rng(seed)
    state = game.initial(1)
    for _ in range(plies):
        legal = np.flatnonzero(game.legal(state)[0])
        after, _, over = game.step(state, rng.choice(legal, 1))
        if over[0]:
            break
        state = after
    legal = game.legal(state).astype(np.float32)
    which = np.array([k % len(game.symmetries.cells)])
    inputs, turned = transform(game.observe(state), legal, game.symmetries, which)
    np.testing.assert_array_equal(game.legal(game.state_of(inputs))[0], turned[0] > 0)


# ---- search and network together


class PerfectPolicy(AlphaZeroMlpPolicy):
    """The exact value of every TicTacToe position; as priors, the optimal moves alike, or nothing at all."""

    knows_moves = True

    def evaluator(self):
        return self.evaluate

    def evaluate(self, inputs):
        game = TicTacToe()
        states = game.state_of(inputs)
        values = game.grader().move_values(states)  # [n, 9]
        best = values.max(axis=1)
        logits = np.where(values == best[:, None], 0.0, -50.0) if self.knows_moves else np.zeros(values.shape)
        return logits.astype(np.float32), best.astype(np.float32)


class PerfectValues(PerfectPolicy):
    knows_moves = False


def test_a_perfect_network_plays_perfectly_with_one_simulation():
    model = AlphaZero(PerfectPolicy, TIC_TAC_TOE, n_games=1, n_simulations=1)
    game, player = TicTacToe(), model_player(model)
    assert optimal_share(game, player) == 1.0
    assert [all_lines(game, player, side).losses for side in (0, 1)] == [0, 0]


def test_perfect_values_alone_play_perfectly_with_one_simulation_a_move():
    model = AlphaZero(PerfectValues, TIC_TAC_TOE, n_games=1, selection="gumbel")
    game = TicTacToe()
    for ply, states in enumerate(game.grader().states):
        model.n_simulations = 9 - ply  # each legal move is tried once
        assert optimal_share(game, model_player(model), states) == 1.0


def test_predict_is_stateless_and_needs_no_mask():
    model = small(n_simulations=20)
    game = TicTacToe()
    states = np.concatenate(game.grader().states[:3])
    observations = game.observe(states)
    together = model.predict(observations)[0]
    backwards = model.predict(observations[::-1], action_masks=game.legal(states[::-1]))[0]
    np.testing.assert_array_equal(together, backwards[::-1])
    assert game.legal(states)[np.arange(len(states)), together].all()
    one, _ = model.predict(observations[5], deterministic=True)
    assert np.shape(one) == () and one == together[5]
    only = np.zeros(9, np.bool_)
    only[[2, 7]] = True
    assert model.predict(game.observe(game.initial(1))[0], action_masks=only)[0] in (2, 7)


def test_the_search_follows_the_network_it_was_given():
    model = small()
    search = model.make_search(n_simulations=3)
    assert isinstance(search.evaluate, CompiledMLP) and search.n_simulations == 3
    with th.no_grad():
        model.policy.policy_head.weight.normal_()
        model.policy.value_head.weight.normal_()
    search = model.make_search(n_simulations=3)
    inputs = TicTacToe().observe(TicTacToe().grader().states[2])
    for compiled, plain in zip(search.evaluate.evaluate(inputs), model.policy.evaluate(inputs), strict=True):
        np.testing.assert_allclose(compiled, plain, atol=1e-5)
    opponent = SearchOpponent(TicTacToe(), search)
    env = gym.make(TIC_TAC_TOE, opponent=opponent)
    env.reset(seed=0)
    assert env.unwrapped.state[0] <= 1


def test_early_moves_are_drawn_and_late_ones_are_not():
    model = small(n_games=64, n_simulations=30, temperature_moves=1, dirichlet_fraction=0.0, learning_starts=10**6)
    model.learn(64)
    first = np.array([game[0][0] for game in model._games])
    actions, _ = model._sample_action()
    assert len({row.tobytes() for row in first}) == 1
    rows, policies, _ = model._found
    np.testing.assert_array_equal(actions, policies.argmax(axis=1))  # τ → 0
    assert len(np.unique(rows[:, 2:], axis=0)) > 3  # τ = 1: the first moves differed


def test_the_values_target_mixes_the_end_of_the_game_with_the_searched_value():
    buffers = {}
    for w in (0.0, 0.25, 1.0):  # without learning all play the same games
        model = small(q_fraction=w, dirichlet_fraction=0.0, learning_starts=10**6).learn(150)
        buffers[w] = model.replay_buffer
    n = buffers[0.0].size()
    rows, z, mixed, q = buffers[0.0].rows[:n], *(buffers[w].values[:n] for w in (0.0, 0.25, 1.0))
    np.testing.assert_array_equal(rows, buffers[1.0].rows[:n])
    np.testing.assert_allclose(q, model.make_search().search(model.world.roots(rows)).values, atol=1e-5)
    np.testing.assert_allclose(mixed, 0.75 * z + 0.25 * q, atol=1e-6)
    with pytest.raises(ValueError, match=r"q_fraction=1\.5 must be a finite number from 0 to 1"):
        small(q_fraction=1.5)


# ---- seams


def test_an_id_builds_many_games_and_logs_the_first_players_results():
    model = small(n_games=6)
    assert model.n_envs == 6
    model.set_logger(_silent())
    model.learn(90, log_interval=10**6)
    model.dump_logs()
    results = [info["r"] for info in model.ep_info_buffer]
    assert results and set(results) <= {1.0, 0.0, -1.0}
    shares = []

    class Keep(BaseCallback):
        def _on_step(self):
            shares.append(dict(self.logger.name_to_value))
            return True

    model.learn(30, callback=Keep(), log_interval=10**6, reset_num_timesteps=False)
    results = [info["r"] for info in model.ep_info_buffer]
    model.logger.dump = lambda step: shares.append(dict(model.logger.name_to_value))
    model.dump_logs()
    assert shares[-1]["rollout/first_player_win"] == pytest.approx(np.mean(np.array(results) > 0))
    assert shares[-1]["rollout/ep_rew_mean"] == pytest.approx(np.mean(results))


@pytest.mark.parametrize("make", [make_vec_env, make_native_vec_env])
def test_a_vec_env_of_the_user_is_played(make):
    model = small(make(TIC_TAC_TOE, n_envs=3), train_freq=2).learn(60)
    assert model.n_envs == 3 and model.num_timesteps == 60
    assert model.replay_buffer.size() > 0


def test_the_residual_network_learns_and_survives_its_file(tmp_path):
    parts = {"n_blocks": 1, "channels": 4, "head_planes": (3, 5)}
    model = AlphaZero("BoardCnnPolicy", TIC_TAC_TOE, **{**SMALL, "policy_kwargs": parts})
    assert isinstance(model.policy, BoardCnnPolicy)
    with pytest.raises(ValueError, match=r"head_planes=\(8,\) must be two numbers"):
        AlphaZero("BoardCnnPolicy", TIC_TAC_TOE, **{**SMALL, "policy_kwargs": {"head_planes": (8,)}})
    assert (model.policy.policy_head[0].out_channels, model.policy.value_head[0].out_channels) == (3, 5)
    model.learn(80).save(tmp_path / "model.zip")
    inputs = TicTacToe().observe(TicTacToe().grader().states[2])
    again = AlphaZero.load(tmp_path / "model.zip")
    for a, b in zip(model.policy.evaluate(inputs), again.policy.evaluate(inputs), strict=True):
        np.testing.assert_array_equal(a, b)
    model.policy.save(tmp_path / "policy.pt")
    alone = BoardCnnPolicy.load(tmp_path / "policy.pt", device="cpu")
    np.testing.assert_array_equal(alone.evaluate(inputs)[1], model.policy.evaluate(inputs)[1])


def test_what_gumbel_learns_from_is_the_improved_policy():
    """At the end of a game forty simulations see all there is: with c_scale = 1 all of π' is on the solver's best moves."""
    constants = {"search_kwargs": {"c_scale": 1.0}}
    model = small(selection="gumbel", n_simulations=40, learning_starts=10**6, buffer_size=200, **constants).learn(60)
    buffer = model.replay_buffer
    rows = buffer.rows[: buffer.size()]
    last = rows[rows[:, 0] >= 7]  # two moves left at most
    assert len(last)
    stored = buffer.policies[: buffer.size()][rows[:, 0] >= 7] / 65535
    values = TicTacToe().grader().move_values(last)
    best = values == values.max(axis=1, keepdims=True)
    np.testing.assert_allclose((stored * best).sum(axis=1), 1.0, atol=0.02)
    assert (stored[values == -1000] == 0).all()


def test_every_constant_reaches_the_search():
    given = {"c_init": 2.0, "dirichlet_alpha": 0.7, "dirichlet_fraction": 0.1, "n_simulations": 3}
    search = small(**given, search_kwargs={"c_base": 5.0}).make_search()
    for name, value in {**given, "c_base": 5.0, "value_range": (-1.0, 1.0)}.items():
        assert getattr(search, name) == value


@pytest.mark.slow
def test_go_is_played_under_its_history_rule():
    model = AlphaZero("MlpPolicy", make_vec_env("Lecture/Go-v0", 2, env_kwargs={"size": 5, "illegal": "error"}), **SMALL)
    assert model.learn(200).num_timesteps == 200  # a repetition would raise


def test_envs_without_rules_are_refused():
    with pytest.raises(ValueError, match="states no rules"):
        AlphaZero("MlpPolicy", "CartPole-v1", n_games=1)
    with pytest.raises(ValueError, match="opponent=None"):
        AlphaZero("MlpPolicy", gym.make(TIC_TAC_TOE, opponent="random"))
    with pytest.raises(ValueError, match="selection='uct'"):
        AlphaZero("MlpPolicy", TIC_TAC_TOE, selection="uct")
    with pytest.raises(ValueError, match="n_simulations=0"):
        AlphaZero("MlpPolicy", TIC_TAC_TOE, n_simulations=0)
    with pytest.raises(ValueError, match="planes"):
        AlphaZero("BoardCnnPolicy", "Lecture/Maze-v0", n_games=1)


# ---- grading


def test_matches_of_exact_players():
    game = TicTacToe()
    perfect = perfect_player(game, 0)
    assert play_match(game, (perfect, perfect), 20, seed=0) == (0, 20, 0)
    record = play_match(game, (perfect, random_player(0)), 100, seed=0)
    assert record.losses == 0 and record.wins > 80
    assert [
        all_lines(game, model_player(AlphaZero(PerfectPolicy, TIC_TAC_TOE, n_games=1, n_simulations=1)), s).losses
        for s in (0, 1)
    ] == [0, 0]
    assert optimal_share(game, perfect) == optimal_share(game, perfect, critical=True) == 1.0
    first_legal = all_lines(game, lambda observations, masks: masks.argmax(axis=1), 1)
    assert first_legal.losses > 0


def test_shares_of_optimal_moves_by_hand():
    """Three positions of nine moves: one move wins and the rest draw; all draw; three draw and the rest lose."""
    values = np.zeros((3, 9), int)
    values[0, 4], values[2, 3:] = 1, -1

    class Told(TicTacToe):
        def grader(self):
            return SimpleNamespace(move_values=lambda states: values[: len(states)])

    game = Told()
    states = game.initial(3)

    def first_legal(observations, masks):  # errs, draws, draws
        return masks.argmax(axis=1)

    assert optimal_share(game, None, states) == pytest.approx((1 / 9 + 1 + 3 / 9) / 3)
    assert optimal_share(game, None, states, critical=True) == pytest.approx((1 / 9 + 3 / 9) / 2)
    assert optimal_share(game, first_legal, states) == pytest.approx(2 / 3)
    assert optimal_share(game, first_legal, states, critical=True) == 0.5
    values[:] = 0
    assert np.isnan(optimal_share(game, first_legal, states, critical=True))


def test_rating_gives_back_a_known_difference():
    """An opponent of 100 against which one scores 10 of 11: 100 + 400 log10(10) with half a game added to each side."""
    assert rating([(100.0, 0.95)], 10) == pytest.approx(100.0 + 400.0 * np.log10(10.0 / 1.0), abs=1e-6)
    assert rating([(0.0, 0.5), (200.0, 0.5)], 50) == pytest.approx(100.0, abs=1e-6)
    assert rating([], 10) == 0.0


def test_a_checkpoint_plays_as_the_network_did():
    model = small(n_simulations=1)  # one simulation follows the prior
    observations = TicTacToe().observe(TicTacToe().grader().states[1])
    masks = TicTacToe().legal(TicTacToe().grader().states[1])
    with th.no_grad():
        model.policy.policy_head.bias[0] = 5.0
    past = _Checkpoint(model)
    with th.no_grad():
        model.policy.policy_head.bias[1] = 9.0
    present = model_player(model)(observations, masks)
    np.testing.assert_array_equal(past(observations, masks), np.where(masks[:, 0], 0, masks.argmax(axis=1)))
    np.testing.assert_array_equal(model_player(model)(observations, masks), present)  # and is gone again
    assert (present[masks[:, 1]] == 1).all()


def test_the_callback_grades_and_leaves_the_network_alone(tmp_path):
    callback = BoardEvalCallback(eval_freq=40, n_games=6, log_path=tmp_path / "board.npz")
    model = small().learn(80, callback=callback)
    plain = small().learn(80)
    for a, b in zip(model.policy.parameters(), plain.policy.parameters(), strict=True):
        th.testing.assert_close(a, b, rtol=0, atol=0)
    assert [steps for steps, _ in callback.evaluations] == [0, 40, 80]
    for _, figures in callback.evaluations:
        for name in ("random", "perfect"):
            assert sum(figures[f"{name}_{what}"] for what in ("win", "draw", "loss")) == pytest.approx(1.0)
        assert figures["perfect_win"] == 0.0
    assert callback.evaluations[0][1]["elo"] == 0.0
    with np.load(tmp_path / "board.npz") as written:
        assert written["timesteps"].tolist() == [0, 40, 80]
        assert written["random_win"].tolist() == [figures["random_win"] for _, figures in callback.evaluations]
    with pytest.raises(ValueError, match="ExactEvalCallback"):
        small("Lecture/Maze-v0").learn(4, callback=BoardEvalCallback())


# ---- learning


def test_it_learns_tic_tac_toe_and_goes_on_after_a_kill(tmp_path):
    """Bound: after 12,000 moves the search loses two lines of play at most, and 90 % of the moves that matter are optimal."""
    settings = {
        "n_games": 32,
        "learning_rate": 2e-3,
        "learning_starts": 200,
        "policy_kwargs": {"net_arch": [64, 64]},
        "seed": 0,
    }
    model = AlphaZero("MlpPolicy", TIC_TAC_TOE, n_simulations=40, train_freq=2, **settings).learn(12_000)
    game = TicTacToe()
    before = optimal_share(game, model_player(model), critical=True)
    assert before >= 0.9  # a random mover: 0.40
    assert sum(all_lines(game, model_player(model), side).losses for side in (0, 1)) <= 2  # of hundreds
    model.save(tmp_path / "model.zip")
    model.save_replay_buffer(tmp_path / "buffer.pkl")
    stored = model.replay_buffer.size()
    del model
    model = AlphaZero.load(tmp_path / "model.zip", env=make_native_vec_env(TIC_TAC_TOE, 32))
    model.load_replay_buffer(tmp_path / "buffer.pkl")
    assert model.replay_buffer.size() == stored
    model.learn(3000, reset_num_timesteps=False)
    assert model.num_timesteps >= 15_000
    assert optimal_share(game, model_player(model), critical=True) >= before - 0.03


@pytest.mark.slow
def test_it_solves_the_lecture_maze():
    """Regret 0 after 4000 moves, the value read from the law."""
    env = make_native_vec_env("Lecture/Maze-v0", 16)
    callback = ExactEvalCallback(eval_freq=2000)
    model = AlphaZero("MlpPolicy", env, n_simulations=25, gamma=0.9, learning_rate=5e-3,
                      learning_starts=0, policy_kwargs={"net_arch": [64]}, seed=0).learn(4000, callback=callback)  # fmt: skip
    assert exact_evaluation(model).regret == pytest.approx(0.0, abs=1e-12)
    assert callback.last is not None and callback.last.regret == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("obs", ["one-hot", "coords", "grid"])
def test_states_are_read_off_any_observation(obs):
    env = make_native_vec_env("Lecture/GridWorld-v0", 2, env_kwargs={"map": "four-rooms", "obs": obs})
    policy = "BoardCnnPolicy" if obs == "grid" else "MlpPolicy"
    model = AlphaZero(policy, env, **{**SMALL, "policy_kwargs": None})
    observations = env.env_method("observe", np.arange(104))[0]
    np.testing.assert_array_equal(model.world.rows(observations)[:, 0], np.arange(104))
    np.testing.assert_array_equal(model.policy.predict(observations)[0], 0)  # all alike before it has learned
    with pytest.raises(ValueError, match="no state"):
        model.world.rows(np.full_like(observations[:1], 0.123))


@pytest.mark.parametrize(("limit", "every"), [(3, None), (200, 3)])
def test_a_cut_episode_is_bootstrapped_with_the_searched_value(limit, every):
    """Before any learning v = −2 = −1 / (1 − ½) everywhere: each step costs 1 and leads to −2, so every z is −2 too."""
    env = make_native_vec_env(
        "Lecture/GridWorld-v0",
        2,
        env_kwargs={"map": ["S...................G"], "max_episode_steps": limit, "step_reward": -1.0},
    )
    model = AlphaZero("MlpPolicy", env, **{**SMALL, "gamma": 0.5, "learning_starts": 10**6, "bootstrap_every": every})
    with th.no_grad():
        for parameter in model.policy.parameters():
            parameter.zero_()
        model.policy.value_head.bias.fill_(-2.0)  # −1 / (1 − ½)
    model.learn(12)
    assert model.replay_buffer.size() == 12
    np.testing.assert_allclose(model.replay_buffer.values[:12], -2.0, atol=1e-6)


def _silent():
    from stable_baselines3.common.logger import Logger

    return Logger(None, [])
