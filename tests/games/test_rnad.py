"""R-NaD, tabular and neural, and PPO with a magnet: each estimate against the exact values, each loss by hand."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import StopTrainingOnMaxEpisodes

import sb3_lecture_envs  # noqa: F401
from sb3_lecture import MagnetPPO, RNaD, TabularRNaD
from sb3_lecture.exact import GameTree, exploitability
from sb3_lecture.games.magnet_ppo import magnet_loss
from sb3_lecture.games.rnad import action_values, neurd_loss
from sb3_lecture.games.self_play import Games, decision_returns
from sb3_lecture.games.tabular_rnad import regularized_q
from sb3_lecture_envs.cards.game import CHANCE, OVER, TURN
from sb3_lecture_envs.cards.kuhn_poker import KuhnPoker

KUHN = "Lecture/KuhnPoker-v0"
TREE = GameTree(KuhnPoker())
BIASED = ((0, -3, 1), (3, 0, -2), (-1, 2, 0))  # its equilibrium is (2, 1, 3) / 6 for both


def some_policy(seed):
    raw = np.random.default_rng(seed).exponential(size=TREE.legal.shape)
    return raw / raw.sum(axis=1, keepdims=True)


def transformed(game, state, sigma, cost):
    """The first player's value of the transformed game, by recursion over the rules; dictionaries of names."""
    turn = state[TURN]
    if turn == OVER:
        return float(game.payoffs(state[None])[0])
    after = [game.step(state[None], np.array([a]))[0] for a in range(game.n_outcomes if turn == CHANCE else game.n_actions)]
    if turn == CHANCE:
        chances = game.chances(state[None])[0]
        return sum(w * transformed(game, s, sigma, cost) for w, s in zip(chances, after, strict=True) if w > 0)
    name = game.describe(state, turn)
    ways = zip(sigma[name], cost[name], after, strict=True)
    return sum(p * (transformed(game, s, sigma, cost) - (1 - 2 * turn) * c) for p, c, s in ways)


def test_the_transformed_values_are_the_rules():
    """In each seat's first decision, Q of an action is the recursion's value behind it, less its own cost."""
    sigma, cost = some_policy(1), np.random.default_rng(2).normal(size=TREE.legal.shape)
    q, reach = np.empty(sigma.shape), np.empty(len(sigma))
    regularized_q(TREE.arrays, sigma, cost, q, reach)
    names = dict(zip(TREE.names, range(12), strict=True))
    game = KuhnPoker()
    by_name = [dict(zip(TREE.names, table, strict=True)) for table in (sigma, cost)]
    for card in range(3):
        for action in range(2):
            expected = 0.0
            for other in {0, 1, 2} - {card}:
                state = game.initial(1)
                for move in (card, other, action):
                    state = game.step(state, np.array([move]))
                expected += 0.5 * transformed(game, state[0], *by_name)
            s = names["JQK"[card] + ":"]
            assert q[s, action] == pytest.approx(expected - cost[s, action], abs=1e-12)
    s = names["Q:b"]  # the second player, bet against with the queen: the first has the jack or the king
    bets = np.array([sigma[names["J:"], 1], sigma[names["K:"], 1]])
    assert q[s, 0] == pytest.approx(-1 - cost[s, 0])
    assert q[s, 1] == pytest.approx((2 * bets[0] - 2 * bets[1]) / bets.sum() - cost[s, 1])


@pytest.mark.parametrize(("env", "kwargs", "n"), [("Lecture/RockPaperScissors-v0", {"payoffs": BIASED}, 30), (KUHN, {}, 40)])
def test_the_last_tabular_policy_is_an_equilibrium(env, kwargs, n):
    model = TabularRNaD(env=gym.make(env, **kwargs)).learn(n)
    assert exploitability(model.tree, model) < 1e-9
    if kwargs:
        np.testing.assert_allclose(model.strategy, np.tile([2 / 6, 1 / 6, 3 / 6], (2, 1)), atol=1e-8)


def test_without_new_regularisation_policies_it_stops_short():
    """The transformed game's equilibrium is another one: what step 3 is for."""
    one = TabularRNaD(env=KUHN, steps=20_000).learn(1)
    many = TabularRNaD(env=KUHN, steps=500).learn(40)
    assert exploitability(one.tree, one) > 0.01 > 1e-9 > exploitability(many.tree, many)


def test_returns_of_decisions_by_hand():
    """Two games: first, second, first decide and the first wins 2; the second game ends after two decisions, −1."""
    valid = np.array([[True, True], [True, True], [True, False]])
    players = np.array([[0, 0], [1, 1], [0, 0]])
    empty = np.zeros(0)
    games = Games(empty, empty, empty, players, valid, np.array([2.0, -1.0]))
    costs = np.array([[0.1, 0.5], [0.2, 0.25], [0.4, 9.0]])
    values = np.array([[7.0, 7.0], [8.0, 8.0], [1.0, 9.0]])
    alone = decision_returns(games, costs, values, 1.0)
    # game 1: the last decision is followed by 2; the second's by −2 and the first's cost 0.4; the first's by 2 − 0.4 + 0.2
    np.testing.assert_allclose(alone[:, 0], [1.8, -1.6, 2.0])
    np.testing.assert_allclose(alone[:, 1], [-0.75, 1.0, 0.0])
    half = decision_returns(games, costs, values, 0.5)
    # the first's next own decision counts half by its value: (1 + 2 − 0.4) / 2 = 1.3, and the 0.2 that the second pays
    np.testing.assert_allclose(half[:, 0], [1.5, -1.6, 2.0])


def test_estimated_action_values_are_right_on_the_average():
    """Games sampled by a network against exact values of the transformed game, within 5 standard errors."""
    model = RNaD("MlpPolicy", KUHN, seed=0, n_games=20_000, policy_kwargs={"net_arch": [8]})
    for parameter in model.learner.parameters():  # far from uniform
        parameter.data *= 4.0
    with th.no_grad():
        sigma = np.exp(
            model.log_probabilities(model.learner, th.as_tensor(TREE.observations), th.as_tensor(TREE.legal))[1]
            .double()
            .numpy()
        )
    cost = np.random.default_rng(0).normal(size=sigma.shape) * 0.3
    exact, reach = np.empty(sigma.shape), np.empty(len(sigma))
    regularized_q(TREE.arrays, sigma, cost, exact, reach)
    model._setup_learn(1)
    games = model._play(KuhnPoker(), model._callback)
    valid, actions = games.valid, games.actions[games.valid]
    sets = TREE.index(games.observations[valid])
    taken = np.zeros(valid.shape)
    taken[valid] = cost[sets, actions]
    known = np.zeros(valid.shape)  # any values will do: λ = 1 never trusts them
    known[valid] = np.linspace(-1, 1, len(sets))
    returns = decision_returns(games, taken, known, 1.0)[valid]
    q = action_values(known[valid], cost[sets], actions, sigma[sets], returns)
    for s in range(12):
        rows = q[sets == s]
        if len(rows) > 300:
            error = rows.std(axis=0) / np.sqrt(len(rows))
            assert (np.abs(rows.mean(axis=0) - exact[s]) < 5 * error + 1e-9).all(), TREE.names[s]


def test_neurds_gradient_by_hand():
    logits = th.tensor([[1.0, 0.0, -1.0, 5.0]], requires_grad=True)
    masks = th.tensor([[True, True, True, False]])
    advantages = th.tensor([[2.0, -1.0, -0.5, 100.0]])

    def gradient(beta, clip):
        return th.autograd.grad(neurd_loss(logits, advantages, masks, beta, clip).sum(), logits)[0].tolist()[0]

    # −Σ A (y_a − mean y): the mean takes a third of ΣA = 0.5
    assert gradient(9.0, 9.0) == pytest.approx([-2 + 1 / 6, 1 + 1 / 6, 0.5 + 1 / 6, 0.0], abs=1e-6)
    # the first logit is 1 above the mean: no push further; the third 1 below
    assert gradient(1.0, 9.0) == pytest.approx([-1 / 3, 2 / 3, -1 / 3, 0.0], abs=1e-6)
    assert gradient(9.0, 1.0) == pytest.approx([-1 - 1 / 6, 1 - 1 / 6, 0.5 - 1 / 6, 0.0], abs=1e-6)


def test_the_magnets_loss_by_hand():
    logs, magnet = th.log(th.tensor([[0.8, 0.2], [0.3, 0.7]])), th.log(th.tensor([[0.5, 0.5], [0.3, 0.7]]))
    old, actions, advantages = th.log(th.tensor([0.5, 0.5])), th.tensor([0, 0]), th.tensor([2.0, -2.0])
    loss = magnet_loss(logs, old, magnet, actions, advantages, 0.2, 0.1)
    divergence = 0.8 * np.log(1.6) + 0.2 * np.log(0.4)
    # ratios 1.6 and 0.6: clipped at 1.2 and at 0.8
    assert loss.tolist() == pytest.approx([-2.4 + 0.1 * divergence, 1.6], abs=1e-6)


@pytest.mark.parametrize("cls", [RNaD, MagnetPPO])
def test_illegal_moves_are_never_played(cls):
    model = cls("MlpPolicy", "Lecture/LeducPoker-v0", seed=0, n_games=64, policy_kwargs={"net_arch": [8]})
    model._setup_learn(1)
    for network in (model.policy, model._acting()):
        network.action_net.bias.data[:] = th.tensor([50.0, 0.0, 0.0])  # would fold for ever
    from sb3_lecture_envs.cards.leduc_poker import LeducPoker

    games = model._play(LeducPoker(), model._callback)
    rows = np.flatnonzero(games.valid)
    assert games.masks.reshape(-1, 3)[rows, games.actions.reshape(-1)[rows]].all()
    assert exploitability(LeducPoker(), model) > 0  # graded with its masks: no complaint


def test_what_plays_is_the_average_of_what_learns():
    model = RNaD("MlpPolicy", KUHN, seed=0, n_games=8, averaging=0.25, policy_kwargs={"net_arch": [4]})
    before = model.policy.action_net.weight.detach().clone()
    model.learn(1)
    after = model.learner.action_net.weight.detach()
    th.testing.assert_close(model.policy.action_net.weight.detach(), 0.75 * before + 0.25 * after)
    th.testing.assert_close(model.regular.action_net.weight.detach(), before)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 11])
def test_networks_learn_kuhn_poker(seed):
    th.set_num_threads(1)
    model = RNaD("MlpPolicy", KUHN, seed=seed, n_games=512, learning_rate=lambda p: 1e-3 * p).learn(3_000_000)
    assert exploitability(TREE, model) < 0.02


@pytest.mark.parametrize("cls", [RNaD, MagnetPPO])
def test_callbacks_can_count_the_games(cls):
    """Games of four at a time: the second four are not over when the sixth ends, and nothing is played after it."""
    counter = StopTrainingOnMaxEpisodes(max_episodes=6)
    model = cls("MlpPolicy", KUHN, n_games=4, seed=0).learn(10_000, callback=counter)
    assert 6 <= counter.n_episodes <= 8
    assert 2 * counter.n_episodes <= model.num_timesteps <= 3 * 8  # a game of Kuhn poker takes two or three decisions
