"""CFR, CFR+ and MCCFR: against a twin written from the paper by recursion, known figures, and the truth of their averages."""

import gymnasium as gym
import numpy as np
import pytest

import sb3_lecture_envs  # noqa: F401
from sb3_lecture import CFR, MCCFR, CFRPlus, QLearning
from sb3_lecture.exact import GameTree, exact_strength, exploitability
from sb3_lecture.exact.exploitability_kernels import fill_q
from sb3_lecture.games.cfr import match_regrets
from sb3_lecture.games.mccfr import mccfr_walks
from sb3_lecture_envs.cards.game import CHANCE, OVER, TURN
from sb3_lecture_envs.cards.kuhn_poker import KuhnPoker
from sb3_lecture_envs.cards.leduc_poker import LeducPoker

KUHN = "Lecture/KuhnPoker-v0"


class Twin:
    """CFR by dictionaries and recursion over histories, each player's pass for itself."""

    def __init__(self, game, alternating, plus, power):
        self.game, self.alternating, self.plus, self.power = game, alternating, plus, power
        self.regrets, self.sums, self.t = {}, {}, 0

    def sigma(self, name, mask):
        positive = np.maximum(self.regrets.get(name, np.zeros(len(mask))), 0.0)
        return positive / positive.sum() if positive.sum() > 0 else mask / mask.sum()

    def run(self, state, p, own, others, sigma_of):
        turn = state[TURN]
        if turn == OVER:
            return (1 - 2 * p) * float(self.game.payoffs(state[None])[0])
        if turn == CHANCE:
            weights = self.game.chances(state[None])[0]
            return sum(
                w * self.run(self.game.step(state[None], np.array([a]))[0], p, own, others * w, sigma_of)
                for a, w in enumerate(weights) if w > 0
            )  # fmt: skip
        name, mask = self.game.describe(state, turn), self.game.legal(state[None])[0]
        sigma = sigma_of(name, mask)
        values = np.zeros(len(mask))
        for a in np.flatnonzero(mask):
            reach = (own * sigma[a], others) if turn == p else (own, others * sigma[a])
            values[a] = self.run(self.game.step(state[None], np.array([a]))[0], p, *reach, sigma_of)
        value = float(sigma @ values)
        if turn == p:
            regret, total = self.new.setdefault(name, (np.zeros(len(mask)), [0.0, sigma]))
            regret += mask * others * (values - value)
            total[0] = own
        return value

    def iterate(self):
        self.t += 1
        frozen = {name: values.copy() for name, values in self.regrets.items()}

        def before(name, mask):
            now, self.regrets = self.regrets, frozen
            try:
                return self.sigma(name, mask)
            finally:
                self.regrets = now

        for p in (0, 1):
            self.new = {}
            self.run(self.game.initial(1)[0], p, 1.0, 1.0, self.sigma if self.alternating else before)
            for name, (regret, (own, sigma)) in self.new.items():
                total = self.regrets.get(name, 0.0) + regret
                self.regrets[name] = np.maximum(total, 0.0) if self.plus else total
                self.sums[name] = self.sums.get(name, 0.0) + self.t**self.power * own * sigma


@pytest.mark.parametrize(
    ("cls", "kwargs", "twin"),
    [
        (CFR, {}, (True, False, 0)),
        (CFR, {"alternating": False}, (False, False, 0)),
        (CFR, {"averaging": "quadratic"}, (True, False, 2)),
        (CFRPlus, {}, (True, True, 1)),
    ],
)
def test_regrets_and_averages_are_the_twins(cls, kwargs, twin):
    model, other = cls(env=KUHN, seed=0, **kwargs), Twin(KuhnPoker(), *twin)
    for _ in range(7):
        model.learn(1, log_interval=None)
        other.iterate()
        for s, name in enumerate(model.tree.names):
            np.testing.assert_allclose(model.policy.regrets.numpy()[s], other.regrets[name], atol=1e-12)
            np.testing.assert_allclose(model.policy.strategy_sum.numpy()[s], other.sums[name], atol=1e-12)


def test_a_small_leduc_is_the_twins_too():
    """Illegal moves, pairs, two rounds."""
    game = LeducPoker(2, 2)
    model, other = CFR(env=sb3_env(game), seed=0), Twin(game, True, False, 0)
    model.learn(3, log_interval=None)
    for _ in range(3):
        other.iterate()
    found = dict(zip(model.tree.names, model.policy.regrets.numpy(), strict=True))
    assert found.keys() == other.regrets.keys()
    for name, values in other.regrets.items():
        np.testing.assert_allclose(found[name], values, atol=1e-12)


def sb3_env(game):
    from sb3_lecture_envs.cards.env import CardEnv

    return CardEnv(game)


@pytest.mark.parametrize(
    ("cls", "n", "expected"),
    [(CFR, 100, 0.008226), (CFR, 1000, 0.000938), (CFRPlus, 100, 0.001194), (CFRPlus, 1000, 0.000087)],
)
def test_kuhn_is_where_openspiel_is_after_as_many_iterations(cls, n, expected):
    model = cls(env=KUHN).learn(n)
    assert exploitability(model.tree, model) == pytest.approx(expected, abs=1.5e-6)


def test_leduc_is_where_openspiel_is_after_as_many_iterations():
    model = CFR(env="Lecture/LeducPoker-v0")
    for total, expected in ((10, 0.888579), (100, 0.095716), (1000, 0.011818)):
        model.learn(total - model.num_timesteps, reset_num_timesteps=False, log_interval=None)
        assert exploitability(model.tree, model) == pytest.approx(expected, rel=2e-4), total


def test_the_average_approaches_kuhns_value_and_the_last_strategy_does_not_count():
    model = CFRPlus(env=KUHN).learn(5000)
    strength = exact_strength(model.tree, model)
    assert strength.value == pytest.approx(-1 / 18, abs=1e-4) and strength.exploitability < 3e-5
    row = dict(zip(model.tree.names, model.strategy, strict=True))
    assert row["K:"][1] == pytest.approx(3 * row["J:"][1], abs=0.02)  # he bets the king three times as often as he bluffs
    assert row["J:p"][1] == pytest.approx(1 / 3, abs=0.01) and row["Q:b"][1] == pytest.approx(1 / 3, abs=0.01)


def test_sampled_regrets_are_right_on_the_average():
    """E[r̃] = r: the mean over many walks against the exact counterfactual regrets, within 5 standard errors."""
    tree = GameTree(KuhnPoker())
    regrets = np.random.default_rng(3).normal(size=tree.legal.shape)
    sigma, q, reach = np.empty(regrets.shape), np.empty(regrets.shape), np.empty(len(regrets))
    match_regrets(regrets, tree.legal, sigma)
    fill_q(tree.arrays, sigma, q, reach)
    exact = q - (sigma * q).sum(axis=1, keepdims=True)
    n, total, squares = 20_000, np.zeros(regrets.shape), np.zeros(regrets.shape)
    sums = np.zeros(regrets.shape)
    for seed in range(n):
        found = np.zeros(regrets.shape)
        mccfr_walks(tree.arrays, 1, seed, regrets, found, sums)
        total += found
        squares += found**2
    error = np.sqrt(np.maximum(squares / n - (total / n) ** 2, 1e-12) / n)
    assert (np.abs(total / n - exact) < 5 * error + 1e-9).all()
    played = sums / sums.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(played[sums.sum(axis=1) > 0], sigma[sums.sum(axis=1) > 0], atol=1e-9)


def test_monte_carlo_learns_kuhn_and_one_seed_gives_one_result():
    models = [MCCFR(env=KUHN, seed=seed, walks=10).learn(3000, log_interval=None) for seed in (1, 1, 2)]
    assert exploitability(models[0].tree, models[0]) < 0.02
    np.testing.assert_array_equal(models[0].strategy, models[1].strategy)
    assert not np.array_equal(models[0].strategy, models[2].strategy)


def test_illegal_actions_are_never_played():
    model = CFR(env="Lecture/LeducPoker-v0").learn(5)
    assert (model.strategy[~model.tree.legal] == 0).all()
    np.random.seed(0)
    for _ in range(5):
        actions, _ = model.predict(model.tree.observations)
        assert model.tree.legal[np.arange(936), actions].all()


def test_a_model_without_its_game_says_what_it_needs(tmp_path):
    model = CFR(env=KUHN).learn(10)
    model.save(tmp_path / "kuhn")
    loaded = CFR.load(tmp_path / "kuhn")
    np.testing.assert_array_equal(loaded.strategy, model.strategy)  # predicts without an env
    CFR(env="Lecture/RockPaperScissors-v0").learn(1).save(tmp_path / "rps")
    other = CFR.load(tmp_path / "rps", env=gym.make("Lecture/RockPaperScissors-v0", payoffs=np.ones((3, 2))))
    with pytest.raises(ValueError, match="learned in another game than this MatrixGame"):
        other.learn(1)
    with pytest.raises(ValueError, match="CFR needs the world's law: an env with the rules of a game of hidden information"):
        CFR(env="CartPole-v1")
    with pytest.raises(ValueError, match=r"averaging='cubic' is unknown"):
        CFR(env=KUHN, averaging="cubic")
    with pytest.raises(ValueError, match="policy_kwargs"):
        CFR(env=KUHN, policy_kwargs={"net_arch": [3]})
    with pytest.raises(ValueError, match="Discrete or MultiDiscrete"):
        QLearning("TabularPolicy", KUHN)
