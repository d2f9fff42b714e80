"""MuZero against hand-worked targets, slow twins, closed forms of its losses, and solved worlds."""

from functools import partial

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

import sb3_lecture_envs  # noqa: F401
from sb3_lecture.common.distributional import expectation, inverse_value_transform, two_hot, value_transform
from sb3_lecture.common.vec_env import make_native_vec_env
from sb3_lecture.exact.solver import policy_evaluation
from sb3_lecture.model_based.muzero import MuZero, halve_gradient
from sb3_lecture.model_based.muzero_networks import MuZeroCnnPolicy, scaled
from sb3_lecture.model_based.muzero_replay import CUT, GOES_ON, TERMINATED, Batch, turned
from sb3_lecture.search.mcts import MCTS
from sb3_lecture.search.model_kernels import read_rows
from sb3_lecture.search.simulators import CompiledModel
from sb3_lecture_envs.board.tic_tac_toe import TicTacToe
from sb3_lecture_envs.mdp import TabularMDP
from sb3_lecture_envs.tabular_env import TabularEnv

TIC_TAC_TOE = "Lecture/TicTacToe-v0"
SMALL = {
    "n_games": 4,
    "n_simulations": 4,
    "learning_starts": 0,
    "batch_size": 8,
    "policy_kwargs": {"net_arch": [16], "latent_size": 8, "n_bins": 11},
    "seed": 0,
}


def small(env=TIC_TAC_TOE, **more):
    return MuZero("MlpPolicy", env, **{**SMALL, **more})


def test_the_temperature_falls_with_the_remaining_progress_and_stops_at_its_end():
    """From 1 to 0.2: 0.6 halfway; the last steps of many envs go past the total, and 0.2 stays."""
    model = small(temperature=1.0, final_temperature=0.2)
    model.learn(4)
    search, seen = model._search.search, []
    model._search.search = lambda *args, **kwargs: seen.append(kwargs["temperature"]) or search(*args, **kwargs)
    for model._current_progress_remaining in (1.0, 0.5, -0.05):
        model._sample_action()
    assert seen == pytest.approx([1.0, 0.6, 0.2])


# ---- priorities


def test_training_renews_the_priorities_by_the_searched_values():
    """|ν − z| of the searched values, whatever the network says: ν is 3 where Reanalyze has been, z stays."""
    model = small("Lecture/GridWorld-v0", per_alpha=0.5, learning_starts=10**6, td_steps=2, reanalyze_ratio=0.0)
    model.learn(40)
    model.set_logger(Logger(None, []))
    drawn = []
    memory = model.replay_buffer
    sample = memory.sample
    memory.sample = lambda n: drawn.append(sample(n)) or drawn[-1]
    with th.no_grad():
        model.policy.head.bias[4 + 8] = 5.0  # v_0 is not 0
    memory.values[:] = 3.0
    model.train(1, 8)
    batch = drawn[0]
    assert (np.abs(3.0 - batch.values[:, 0]) > 0.5).any()
    expected = np.sqrt(np.maximum(np.abs(3.0 - batch.values[:, 0]), 1e-6))
    np.testing.assert_allclose(memory.priorities.reshape(-1)[batch.rows], expected, rtol=1e-6)


# ---- symmetries


@pytest.mark.parametrize("k", range(8))
def test_a_turned_game_is_played_by_the_turned_moves(k):
    """Playing the turned moves on the turned board leads to the turned boards, and legal moves turn with it."""
    game, rng = TicTacToe(), np.random.default_rng(k)
    state, moves = game.initial(1), rng.permutation(9)[:4][None]
    legal = []
    for move in moves[0]:
        legal.append(game.legal(state)[0])
        state, _, _ = game.step(state, np.array([move]))
    legal.append(game.legal(state)[0])
    batch = hand_batch()._replace(
        observations=game.observe(game.initial(1)), actions=moves, policies=np.array([legal], np.float32)
    )
    after = turned(batch, game.symmetries, np.array([k]))
    state = game.initial(1)
    for move, mask in zip(after.actions[0], after.policies[0], strict=False):
        np.testing.assert_array_equal(game.legal(state)[0], mask > 0)
        state, _, _ = game.step(state, np.array([move]))
    final = turned(batch._replace(observations=game.observe(played(game, moves[0]))), game.symmetries, np.array([k]))
    np.testing.assert_array_equal(game.observe(state), final.observations)


def played(game, moves):
    state = game.initial(1)
    for move in moves:
        state, _, _ = game.step(state, np.array([move]))
    return state


def test_symmetries_are_drawn_only_if_asked_for():
    for use in (False, True):
        model = small(use_symmetries=use, learning_starts=10**6).learn(80)
        model.set_logger(Logger(None, []))
        seen, losses = [], model.losses
        model.losses = lambda batch, seen=seen, losses=losses: seen.append(batch) or losses(batch)
        model.train(4, 16)
        memory = model.replay_buffer
        same = [(b.observations == memory.observations[np.divmod(b.rows, 4)]).all() for b in seen]
        assert all(same) != use


# ---- the model


def test_compiled_bins_are_read_as_torch_reads_them():
    rng = np.random.default_rng(0)
    bins = np.linspace(-17, 17, 21).astype(np.float32)
    y = rng.normal(size=(6, 3 + 42)).astype(np.float32) * 4
    rewards, logits, values = read_rows(y, 3, bins)
    np.testing.assert_array_equal(logits, y[:, :3])
    pair = inverse_value_transform(expectation(th.as_tensor(y[:, 3:]).view(6, 2, 21), th.as_tensor(bins)))
    np.testing.assert_allclose(values, pair[:, 0], rtol=1e-4)
    np.testing.assert_allclose(rewards, pair[:, 1], rtol=1e-4)


@pytest.mark.parametrize("selection", ["puct", "gumbel"])
def test_the_compiled_search_is_that_of_the_torch_model(selection):
    model = small(policy_kwargs={"net_arch": [40], "latent_size": 12, "n_bins": 11})
    policy = model.policy
    th.manual_seed(1)
    with th.no_grad():
        policy.head.weight.normal_()
    game = TicTacToe()
    states = np.concatenate(game.grader().states[:2])
    root, legal = policy.root(game.observe(states)), game.legal(states)
    ours, plain = policy.simulator(-1.0), super(type(policy), policy).simulator(-1.0)
    assert isinstance(ours, CompiledModel)
    results = [MCTS(sim, None, 30, selection, value_range=(-1, 1)).search(root, legal) for sim in (ours, plain)]
    np.testing.assert_array_equal(results[0].visits, results[1].visits)
    np.testing.assert_allclose(results[0].q, results[1].q, atol=1e-4)


def test_latent_states_lie_between_0_and_1():
    z = scaled(th.tensor([[1.0, 3.0, 2.0], [5.0, 5.0, 5.0]]))
    th.testing.assert_close(z, th.tensor([[0.0, 1.0, 0.5], [0.0, 0.0, 0.0]]))


def test_before_learning_the_policy_is_uniform_and_values_are_0():
    root = small().policy.root(TicTacToe().observe(TicTacToe().grader().states[1]))
    assert (root.logits == 0).all() and (root.values == 0).all()


def test_half_of_the_gradient_enters_each_step_of_the_dynamics():
    x = th.ones(3, requires_grad=True)
    y = x
    for _ in range(3):
        y = halve_gradient(y)
    y.sum().backward()
    assert (y == x).all()
    th.testing.assert_close(x.grad, th.full((3,), 0.125))


def hand_batch(k=2, n=3):
    rng = np.random.default_rng(0)
    known = np.ones((n, k + 1), np.bool_)
    known[1, 1:] = False  # the second row was cut
    policies = rng.dirichlet(np.ones(9), (n, k + 1)).astype(np.float32)
    policies[1, 1:] = 0.0
    policies[2, 2] = 0.0  # the third row's episode ended
    return Batch(
        np.arange(n),
        rng.random((n, 2, 3, 3)).astype(np.float32),
        rng.integers(9, size=(n, k)),
        rng.uniform(-1, 1, (n, k)).astype(np.float32),
        rng.uniform(-1, 1, (n, k + 1)).astype(np.float32),
        policies,
        known,
        np.ones(n, np.float32),
    )


def literal_losses(policy, batch, k, scale=True):
    """Equation 1 row by row and step by step."""
    rows = []
    for b in range(len(batch.rows)):
        z = policy.represent(th.as_tensor(batch.observations[b : b + 1]))
        sums = [0.0, 0.0, 0.0]
        for i in range(k + 1):
            weight = 1.0 if i == 0 else 1.0 / k
            logits, pair = policy.foretell(z)
            for j, (target, logs) in enumerate(((batch.values[b, i], pair[0, 0]), (batch.rewards[b, i - 1], pair[0, 1]))):
                if batch.known[b, i] and (j == 0 or i > 0):
                    hot = two_hot(value_transform(th.tensor(float(target))), policy.bins)
                    sums[j + 1] = sums[j + 1] - weight * (hot * logs.log_softmax(0)).sum()
            sums[0] = sums[0] - weight * (th.as_tensor(batch.policies[b, i]) * logits[0].log_softmax(0)).sum()
            if i < k:
                action = th.zeros(1, 9)
                action[0, batch.actions[b, i]] = 1.0
                z = policy.step(0.5 * z + 0.5 * z.detach() if scale else z, action)
        rows.append(th.stack([th.as_tensor(part) for part in sums]))
    return th.stack(rows)  # [B, 3]


def test_losses_and_gradients_are_those_of_equation_1():
    model = small(unroll_steps=2)
    th.manual_seed(0)
    with th.no_grad():
        model.policy.head.weight.normal_(0, 0.5)
    batch = hand_batch()
    parts = model.losses(batch)
    literal = literal_losses(model.policy, batch, 2)
    th.testing.assert_close(th.stack(parts, dim=1), literal)
    parameters = list(model.policy.parameters())
    ours = th.autograd.grad(sum(part.sum() for part in parts), parameters)
    theirs = th.autograd.grad(literal.sum(), parameters)
    unscaled = th.autograd.grad(literal_losses(model.policy, batch, 2, scale=False).sum(), parameters)
    for a, b in zip(ours, theirs, strict=True):
        th.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)
    assert not all(th.allclose(a, b, rtol=1e-3) for a, b in zip(theirs, unscaled, strict=True))  # the halves matter


def test_a_gradient_step_descends_the_weighted_sum():
    """With plain gradient descent θ' = θ − α ∇(mean of w (l^p + ¼ l^v + l^r) + c ‖θ‖²)."""
    kwargs = {**SMALL["policy_kwargs"], "optimizer_class": th.optim.SGD, "optimizer_kwargs": {"momentum": 0.0}}
    model = small(
        unroll_steps=2, policy_kwargs=kwargs, learning_rate=0.01, max_grad_norm=None, reanalyze_ratio=0.0, l2_coef=0.3
    )
    model.set_logger(Logger(None, []))
    batch = hand_batch()._replace(weights=np.array([1.0, 0.5, 0.25], np.float32))
    parameters = list(model.policy.parameters())
    literal = literal_losses(model.policy, batch, 2) @ th.tensor([1.0, 0.25, 1.0])
    loss = (literal * th.as_tensor(batch.weights)).mean() + 0.3 * sum((p**2).sum() for p in parameters)
    expected = [p.detach() - 0.01 * g for p, g in zip(parameters, th.autograd.grad(loss, parameters), strict=True)]
    model.replay_buffer.ready = lambda: True
    model.replay_buffer.sample = lambda n: batch
    model.train(1, 3)
    for after, wanted in zip(parameters, expected, strict=True):
        th.testing.assert_close(after.detach(), wanted)


def a_small_law():
    """Three states and an end; of the two actions one may be good or bad, and one pays 2 and ends the episode."""
    steps = [(0, 0, 1, 1.0), (0, 1, 2, 0.0), (1, 0, 2, -1.0), (1, 1, 0, 0.5), (2, 0, 0, 0.0), (2, 1, 3, 2.0)]
    chance, rewards = np.zeros((4, 2, 4)), np.zeros((4, 2))
    for s, a, t, r in steps:
        chance[s, a, t], rewards[s, a] = 1.0, r
    chance[3, :, 3] = 1.0
    return TabularMDP.from_dense(chance, rewards, np.arange(4) == 3, np.array([1.0, 1.0, 1.0, 0.0]) / 3)


def test_the_learned_model_foretells_the_rewards_and_values_of_its_law():
    """Trained on random walks, it says along every path of two actions what the law says, to 0.1 and 0.2.

    Rewards by the law, v_π exactly by the solver for the random policy, both 0 beyond the end.
    """
    mdp, gamma, n = a_small_law(), 0.5, 16
    env = DummyVecEnv([partial(TabularEnv, mdp) for _ in range(n)])
    settings = {"gamma": gamma, "td_steps": 1, "unroll_steps": 2, "per_alpha": 0.0, "reanalyze_ratio": 0.0, "l2_coef": 0.0}
    kwargs = {"net_arch": [32], "latent_size": 16, "n_bins": 21, "value_limit": 5.0}
    model = MuZero("MlpPolicy", env, policy_kwargs=kwargs, vf_coef=1.0, seed=0, **settings)
    model.set_logger(Logger(None, []))
    values = policy_evaluation(mdp, np.full((4, 2), 0.5), gamma)
    rng = np.random.default_rng(0)
    state = rng.integers(3, size=n)
    for _ in range(200):  # a random walk in the law
        actions = rng.integers(2, size=n)
        rows = mdp.row_ptr[state * 2 + actions]  # of the one outcome
        over = mdp.terminated[rows]
        ends = np.where(over, TERMINATED, GOES_ON)
        model.replay_buffer.add(state, actions, mdp.reward[rows], ends, np.zeros(n), np.full((n, 2), 0.5), values[state])
        state = np.where(over, rng.integers(3, size=n), mdp.next_state[rows])
    for rate in (1e-2, 3e-3, 5e-4):
        model.lr_schedule = lambda _, rate=rate: rate
        model.train(150, 64)
    policy = model.policy
    wrong_rewards, wrong_values = [], []
    for start in range(3):
        for path in np.ndindex(2, 2):
            state, over = start, False
            with th.no_grad():
                z = policy.represent(th.eye(4)[[state]])
                wrong_values.append(policy.scalar(policy.foretell(z)[1])[0, 0].item() - values[state])
                for action in path:
                    z = policy.step(z, th.eye(2)[[action]])
                    v, r = policy.scalar(policy.foretell(z)[1])[0].tolist()
                    row = mdp.row_ptr[state * 2 + action]
                    wrong_rewards.append(r - (0.0 if over else mdp.reward[row]))
                    over, state = over or bool(mdp.terminated[row]), int(mdp.next_state[row])
                    wrong_values.append(v - (0.0 if over else values[state]))
    assert np.abs(wrong_rewards).max() < 0.1
    assert np.abs(wrong_values).max() < 0.2


# ---- actions as planes


def planes_of(shape, n_actions, action, board):
    space = gym.spaces.Box(0, 1, shape, np.float32)
    policy = MuZeroCnnPolicy(
        space, gym.spaces.Discrete(n_actions), lambda _: 1e-3, n_blocks=1, channels=4, net_arch=[8], n_bins=3, board=board
    )
    planes = policy.action_planes(th.nn.functional.one_hot(th.tensor([action]), n_actions).float())
    z = policy.represent(th.zeros(1, *shape))
    assert policy.step(z, th.eye(n_actions)[[action]]).shape == z.shape
    return planes[0].numpy(), z.shape[2:]


def test_a_move_on_a_board_is_a_plane_that_is_1_where_the_stone_is_laid():
    planes, _ = planes_of((2, 3, 3), 9, 5, True)
    np.testing.assert_array_equal(planes, [[[0, 0, 0], [0, 0, 1], [0, 0, 0]]])  # row 1, column 2
    stone, size = planes_of((6, 9, 9), 82, 9 * 7 + 3, True)  # Go: as large as it is
    assert size == (9, 9) and stone.shape == (2, 9, 9) and stone.sum() == 1 and stone[0, 7, 3] == 1
    passed, _ = planes_of((6, 9, 9), 82, 81, True)
    assert passed[0].sum() == 0 and (passed[1] == 1).all()
    column, _ = planes_of((2, 6, 7), 7, 2, True)  # Connect Four: the stone falls
    np.testing.assert_array_equal(column, [np.tile([0, 0, 1, 0, 0, 0, 0], (6, 1))])
    whole, size = planes_of((4, 20, 20), 3, 1, False)  # an image: one plane an action
    assert size == (5, 5) and whole[1].min() == 1 and whole[[0, 2]].max() == 0
    with pytest.raises(ValueError, match="5 actions are neither the 9 cells"):
        planes_of((2, 3, 3), 5, 0, True)


def test_a_game_says_that_its_actions_are_cells_and_a_file_remembers_it(tmp_path):
    kwargs = {"n_blocks": 1, "channels": 4, "net_arch": [8], "n_bins": 11}
    model = MuZero("CnnPolicy", TIC_TAC_TOE, **{**SMALL, "policy_kwargs": kwargs})
    assert model.policy.board and model.policy.value_limit == 1.0 and model.policy_kwargs == kwargs
    model.save(tmp_path / "model.zip")
    again = MuZero.load(tmp_path / "model.zip", policy_kwargs=kwargs)
    assert again.policy.board and again.policy.value_limit == 1.0


# ---- VecNormalize


class Counting(gym.Env):
    """Shows 1, 2, 3 …, pays 10 a step, and is cut after three."""

    observation_space, action_space = gym.spaces.Box(-1e3, 1e3, (1,), np.float32), gym.spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.n = 1
        return np.array([1.0], np.float32), {}

    def step(self, action):
        self.n += 1
        return np.array([self.n], np.float32), 10.0, False, self.n == 4, {}


def test_under_vec_normalize_the_memory_holds_what_the_env_gave_and_reads_it_by_todays_statistics():
    env = VecNormalize(make_vec_env(Counting, 2), gamma=0.5, training=False)
    env.ret_rms.var, env.obs_rms.mean, env.obs_rms.var = 100.0, np.array([1.0]), np.array([4.0])
    kwargs = {**SMALL, "td_steps": 2, "unroll_steps": 1, "gamma": 0.5, "learning_starts": 10**6, "reanalyze_ratio": 0.0}
    model = MuZero("MlpPolicy", env, **kwargs)
    seen = []
    root = model.policy.root
    model.policy.root = lambda inputs: seen.append(inputs.numpy().copy()) or root(inputs)
    model.learn(24)
    memory = model.replay_buffer
    np.testing.assert_array_equal(memory.observations[:12, 0, 0], [1, 2, 3] * 4)
    np.testing.assert_array_equal(memory.rewards[:12], 10.0)
    np.testing.assert_allclose(seen[3], 1.5, rtol=1e-5)  # after three moves the state that was cut off: (4 − 1) / √4
    model.set_logger(Logger(None, []))
    env.ret_rms.var, env.obs_rms.var = 25.0, np.array([16.0])  # rewards of 10 are 2 now
    memory.values[:], memory.end_values[:] = 8.0, 4.0
    drawn, losses = [], model.losses
    model.losses = lambda batch: drawn.append(batch) or losses(batch)
    model.train(1, 64)
    (batch,) = drawn
    time = np.divmod(batch.rows, 2)[0] % 3
    assert set(time) == {0, 1, 2}
    np.testing.assert_allclose(batch.observations[:, 0], time / 4, rtol=1e-5)  # (1, 2, 3 − 1) / √16
    np.testing.assert_allclose(batch.rewards[:, 0], 2.0, rtol=1e-5)
    z = np.array([2 + 0.5 * 2 + 0.25 * 8, 2 + 0.5 * 2 + 0.25 * 4, 2 + 0.5 * 4])
    np.testing.assert_allclose(batch.values[:, 0], z[time], rtol=1e-5)
    env.clip_reward = 1.5
    model.train(1, 64)
    np.testing.assert_allclose(drawn[1].rewards[:, 0], 1.5, rtol=1e-5)


# ---- playing


def test_reanalyze_renews_policies_and_values():
    model = small(learning_starts=10**6, n_simulations=8).learn(64)
    memory = model.replay_buffer
    before = memory.policies[:16].copy(), memory.values[:16].copy()
    model.reanalyze(2000)  # every row is drawn
    assert (memory.values[:16] == before[1]).all()  # the same network, whose values are all 0
    with th.no_grad():
        model.policy.head.bias[0] = 100.0  # now the policy knows only the first field
        model.policy.head.bias[9 + 10] = 100.0  # and the side to move wins
    model.reanalyze(2000)
    values, policies, legal = memory.values[:16], memory.policies[:16], memory.legal[:16]
    assert (values != before[1]).all()
    np.testing.assert_allclose(policies.sum(axis=2), 1.0, atol=1e-6)
    assert (policies[~legal] == 0).all()
    free = legal[:, :, 0]
    assert policies[free][:, 0].mean() > before[0][free][:, 0].mean() + 0.3
    assert model._search.simulator is not None


def test_stored_steps_are_those_that_were_played():
    env = make_native_vec_env(TIC_TAC_TOE, 4)
    model = small(env, learning_starts=10**6).learn(200)
    memory, game = model.replay_buffer, TicTacToe()
    for e in range(4):
        for t in range(49):
            state = game.state_of(memory.observations[t, e][None])
            assert game.legal(state)[0, memory.actions[t, e]]
            np.testing.assert_array_equal(game.legal(state)[0], memory.legal[t, e])
            after, reward, over = game.step(state, memory.actions[t, e][None])
            assert reward[0] == memory.rewards[t, e] and (memory.ends[t, e] == TERMINATED) == over[0]
            following = game.state_of(memory.observations[t + 1, e][None])
            np.testing.assert_array_equal(following, game.initial(1) if over[0] else after)


def test_a_time_limit_is_stored_with_its_value():
    """Every state is worth 3 before learning: the head says so."""
    env = make_native_vec_env("Lecture/GridWorld-v0", 2, env_kwargs={"max_episode_steps": 3, "map": ["S........G"]})
    model = small(env, learning_starts=10**6, gamma=0.5, policy_kwargs={"value_limit": 7.0, "n_bins": 3, "net_arch": [16]})
    with th.no_grad():
        model.policy.head.bias[4:7] = th.log(th.tensor([1e-12, 1.0, 1.0]))
    v = model.policy.root(np.eye(10, dtype=np.float32)).values
    model.learn(12)
    memory = model.replay_buffer
    np.testing.assert_array_equal(memory.ends[:6, 0], [GOES_ON, GOES_ON, CUT] * 2)
    assert 0 < memory.end_values[2, 0] <= v[0] and memory.end_values[0, 0] == 0


def test_predict_is_stateless_and_reads_legal_moves_off_the_board():
    model = small(n_simulations=12).learn(100)
    game = TicTacToe()
    states = np.concatenate(game.grader().states[:3])
    observations = game.observe(states)
    together = model.predict(observations)[0]
    backwards = model.predict(observations[::-1], action_masks=game.legal(states[::-1]))[0]
    np.testing.assert_array_equal(together, backwards[::-1])
    assert game.legal(states)[np.arange(len(states)), together].all()
    one, _ = model.predict(observations[5])
    assert np.shape(one) == () and one == together[5]
    only = np.zeros(9, np.bool_)
    only[[2, 7]] = True
    assert model.predict(game.observe(game.initial(1))[0], action_masks=only)[0] in (2, 7)
    assert model.policy.predict(game.observe(game.initial(1))[0], action_masks=only)[0] in (2, 7)
    assert model.predict(observations[:2], action_masks=np.zeros((2, 9), np.bool_))[0].shape == (2,)


def test_an_id_builds_many_envs_and_self_play_logs_the_first_players_results():
    assert MuZero("MlpPolicy", TIC_TAC_TOE, n_simulations=2).n_envs == 64
    assert MuZero("MlpPolicy", "Lecture/Maze-v0", n_simulations=2).n_envs == 8
    model = small(n_games=6).learn(120, log_interval=10**6)
    assert model.discount == -1.0
    results = [info["r"] for info in model.ep_info_buffer]
    assert results and set(results) <= {1.0, 0.0, -1.0}
    written = {}
    model.set_logger(Logger(None, []))
    model.logger.dump = lambda step: written.update(model.logger.name_to_value)
    model.dump_logs()
    assert written["rollout/first_player_win"] == pytest.approx(np.mean(np.array(results) > 0))


def test_every_constant_reaches_the_search():
    given = {"c_init": 2.0, "dirichlet_alpha": 0.7, "dirichlet_fraction": 0.1, "n_simulations": 3}
    search = small(**given, search_kwargs={"c_base": 5.0}).make_search()
    for name, value in {**given, "c_base": 5.0, "value_range": (-1.0, 1.0)}.items():
        assert getattr(search, name) == value


def test_against_an_opponent_it_is_one_player():
    env = make_vec_env(TIC_TAC_TOE, 2, env_kwargs={"opponent": "random"})
    model = small(env).learn(40)
    assert model.discount == 0.997 and not model.self_play and model.game is not None


def test_a_bright_picture_is_no_dim_one():
    """A norm after each convolution takes the size of its input away; the biases keep it: grey and white differ."""
    th.manual_seed(0)
    kwargs = {"n_blocks": 1, "channels": 4, "net_arch": [8], "n_bins": 11}
    policy = MuZeroCnnPolicy(gym.spaces.Box(0, 255, (1, 16, 16), np.uint8), gym.spaces.Discrete(2), lambda _: 1e-3, **kwargs)
    with th.no_grad():
        grey, white = (policy.represent(th.full((1, 1, 16, 16), level)) for level in (0.5, 1.0))
    assert float((grey - white).abs().max()) > 0.05


def test_a_convolutional_model_learns_what_its_pictures_pay():
    """Black and white pictures; action 1 pays 1 on white and −1 on black, action 0 the other way: all four are foretold."""
    th.manual_seed(0)
    kwargs = {"n_blocks": 1, "channels": 16, "net_arch": [64], "n_bins": 11, "value_limit": 2.0}
    policy = MuZeroCnnPolicy(gym.spaces.Box(0, 255, (1, 16, 16), np.uint8), gym.spaces.Discrete(2), lambda _: 3e-3, **kwargs)
    white, action = th.tensor([0, 0, 1, 1]).repeat(8), th.tensor([0, 1, 0, 1]).repeat(8)
    pictures, moves = white.float()[:, None, None, None].expand(-1, 1, 16, 16), th.eye(2)[action]
    pay = 2.0 * (action == white) - 1.0
    for _ in range(250):
        logits = policy.foretell(policy.step(policy.represent(pictures), moves))[1][:, 1]
        loss = -(two_hot(value_transform(pay), policy.bins) * logits.log_softmax(dim=-1)).sum(dim=-1).mean()
        policy.optimizer.zero_grad()
        loss.backward()
        policy.optimizer.step()
    np.testing.assert_allclose(policy.scalar(logits.detach()), pay, atol=0.1)


@pytest.mark.parametrize("selection", ["puct", "gumbel"])
def test_pictures_and_boards_pass_through_the_same_networks(selection, tmp_path):
    """84 × 84 stacks of 4 frames become planes of 6 × 6, boards stay as large as they are, and a file gives both back."""

    class Frames(gym.Env):
        observation_space = gym.spaces.Box(0, 255, (4, 84, 84), np.uint8)
        action_space = gym.spaces.Discrete(3)

        def reset(self, *, seed=None, options=None):
            super().reset(seed=seed)
            return self.observation_space.sample(), {}

        def step(self, action):
            return self.observation_space.sample(), 1.0, bool(self.np_random.random() < 0.2), False, {}

    settings = {**SMALL, "selection": selection, "n_simulations": 2, "buffer_size": 64, "td_steps": 3}
    settings["policy_kwargs"] = {"n_blocks": 1, "channels": 4, "net_arch": [8], "n_bins": 11}
    for env in (make_vec_env(Frames, 2), TIC_TAC_TOE):
        model = MuZero("CnnPolicy", env, **settings).learn(24)
        assert isinstance(model.policy, MuZeroCnnPolicy) and model._n_updates > 0
        latents = model.policy.root(model._inputs(model.env.reset())).embeddings
        assert latents.shape[1:] == ((4, 3, 3) if env is TIC_TAC_TOE else (4, 6, 6))  # 84, 42, 21, 11, 6
        assert latents.min() == 0.0 and latents.max() == 1.0
    model.save(tmp_path / "model.zip")
    again = MuZero.load(tmp_path / "model.zip")
    game = TicTacToe()
    inputs = game.observe(game.grader().states[2])
    np.testing.assert_array_equal(model.policy.root(inputs).values, again.policy.root(inputs).values)


# ---- seams


def test_it_goes_on_after_save_and_kill_with_its_memory(tmp_path):
    model = small().learn(128)
    model.save(tmp_path / "model.zip")
    model.save_replay_buffer(tmp_path / "memory.pkl")
    total, updates = model.replay_buffer.total, model._n_updates
    observations = TicTacToe().observe(TicTacToe().grader().states[1])
    expected, _ = model.predict(observations)
    del model
    model = MuZero.load(tmp_path / "model.zip", env=make_native_vec_env(TIC_TAC_TOE, 4))
    np.testing.assert_array_equal(model.predict(observations)[0], expected)
    model.load_replay_buffer(tmp_path / "memory.pkl")
    memory = model.replay_buffer
    assert memory.total == total
    model.learn(48, reset_num_timesteps=False)
    assert model.num_timesteps == 176 and memory.total == total + 12 and model._n_updates > updates
    assert (memory.ends[total - 1] != CUT).all()  # the games at hand when it was saved went on
    for e in range(4):  # and every other episode in the memory begins with an empty board
        starts = np.flatnonzero(memory.ends[: memory.total - 1, e] != GOES_ON) + 1
        assert (memory.observations[starts[starts != total - 1], e] == 0).all()
    model.load_replay_buffer(tmp_path / "memory.pkl")
    model.set_env(make_native_vec_env(TIC_TAC_TOE, 4))
    assert not (model.replay_buffer.ends[total - 1] == GOES_ON).any()
    other = MuZero.load(tmp_path / "model.zip", env=make_native_vec_env(TIC_TAC_TOE, 4))
    other.load_replay_buffer(tmp_path / "memory.pkl")
    other.replay_buffer.n_envs = 3
    with pytest.raises(ValueError, match="as many envs as before"):
        other.learn(4)


def test_wrong_arguments_are_named():
    for wrong in ({"selection": "uct"}, {"n_simulations": 0}, {"td_steps": 0}, {"per_alpha": -1.0}):
        with pytest.raises(ValueError, match=next(iter(wrong))):
            small(**wrong)
    with pytest.raises(ValueError, match="n_bins=4"):
        small(policy_kwargs={"n_bins": 4})
    with pytest.raises(ValueError, match="planes"):
        MuZero("CnnPolicy", "Lecture/Maze-v0", n_games=1)
