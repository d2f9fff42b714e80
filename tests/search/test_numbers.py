"""Numbers that are not finite: one error that names its source, and no index that leaves its array (``make test-bounds``)."""

import numpy as np
import pytest
import torch as th

from sb3_lecture.model_based.alphazero import AlphaZero
from sb3_lecture.model_based.muzero import MuZero
from sb3_lecture.search.compiled_mlp import CompiledMLP
from sb3_lecture.search.mcts import MCTS, RolloutSearch
from sb3_lecture.search.simulators import CompiledModel, Expansion, GameSimulator, ModelSimulator, Root, TabularSimulator
from sb3_lecture_envs.board.tic_tac_toe import TicTacToe
from sb3_lecture_envs.mdp import TabularMDP

NAN, INF = float("nan"), float("inf")
every_bad_number = pytest.mark.parametrize("bad", [NAN, INF, -INF], ids=["nan", "inf", "-inf"])
each_selection = pytest.mark.parametrize("selection", ["puct", "gumbel"])


def network_that_breaks(call, logit=0.0, value=0.0):
    """Uniform and 0 until the call of that number, from 0; then these numbers everywhere."""
    calls = iter(range(10**6))

    def evaluate(x):
        bad = next(calls) == call
        return np.full((len(x), 9), logit if bad else 0.0), np.full(len(x), value if bad else 0.0)

    return evaluate


@each_selection
@every_bad_number
@pytest.mark.parametrize(("call", "where"), [(0, "at the root"), (3, "in a state that the search met")])
def test_a_network_that_is_not_finite_is_named(bad, call, where, selection):
    states = TicTacToe().initial(2)
    for broken, what in (({"logit": bad}, "logits of the network"), ({"value": bad}, "value of the network")):
        search = MCTS(GameSimulator(TicTacToe()), network_that_breaks(call, **broken), 8, selection)
        with pytest.raises(ValueError, match=rf"row 0 of the search the {what}.* not finite {where}"):
            search.search(states)
        assert search.search(states).visits.sum() == 16  # the next search is sound again


@each_selection
@every_bad_number
def test_a_model_that_is_not_finite_is_named(bad, selection):
    """Root, leaf, reward and discount, by a model that is called."""
    good = {"rewards": np.zeros(2), "discounts": 0.9, "logits": np.zeros((2, 9)), "values": np.zeros(2)}
    root = Root(np.zeros((2, 1)), np.zeros((2, 9)), np.zeros(2))
    one_bad = np.array([0.0, bad])
    cases = [
        (root._replace(values=one_bad), {}, "row 1 .* value of the model is not finite at the root"),
        (root._replace(logits=np.full((2, 9), bad)), {}, "row 0 .* logits of the model"),
        (root, {"values": one_bad}, "row 1 .* value of the model is not finite in a state"),
        (root, {"logits": np.full((2, 9), bad)}, "row 0 .* logits of the model"),
        (root, {"rewards": one_bad}, "row 1 .* a reward"),
        (root, {"discounts": bad, "values": np.ones(2)}, "row 0 .* a reward, or a sum"),
    ]
    for start, broken, message in cases:
        model = ModelSimulator(lambda z, a, broken=broken: Expansion(z, **{**good, **broken}), 9)
        with pytest.raises(ValueError, match=message):
            MCTS(model, n_simulations=6, selection=selection).search(start)


@every_bad_number
def test_an_illegal_actions_logit_does_not_matter(bad):
    """Nor does −∞ for a legal one: it has no probability."""
    state = TicTacToe().step(TicTacToe().initial(1), [4])[0]
    logits = np.zeros(9)
    logits[4], logits[0] = bad, -INF
    search = MCTS(GameSimulator(TicTacToe()), lambda x: (np.tile(logits, (len(x), 1)), np.zeros(len(x))), 1)
    np.testing.assert_allclose(search.search(state).prior[0], [0, *[1 / 7] * 3, 0, *[1 / 7] * 4], atol=1e-6)


def test_weights_that_are_not_finite_are_refused_when_they_are_compiled():
    for place in range(2):
        for bad in (NAN, INF):
            weights, biases = [np.ones((4, 3)), np.ones((3, 2))], [np.zeros(3), np.zeros(2)]
            weights[place][1, 0] = bad
            with pytest.raises(ValueError, match=f"layer {place + 1} of 2 holds NaN or infinite weights"):
                CompiledMLP(weights, biases)
    with pytest.raises(ValueError, match="layer 1 of 1"):
        CompiledMLP([np.ones((2, 2))], [np.array([0.0, NAN])])


@pytest.mark.parametrize("n", [1, 5])  # row by row, and numpy's product
@pytest.mark.parametrize("width", [3, 40])  # narrow and wide layers
def test_an_overflow_inside_a_network_is_seen_in_its_outputs(n, width):
    """1e30 · 1e30 − 1e30 · 1e30 is no number; a ReLU that let it pass for 0 would hide it."""
    first = np.zeros((2, width))
    first[0, :2], first[1, :2] = 1e30, -1e30
    second = np.full((width, width), 1e30)
    net = CompiledMLP(
        [first, second * np.where(np.arange(width) == 1, -1, 1)[:, None], np.ones((width, 2))],
        [np.zeros(width)] * 2 + [np.zeros(2)],
    )
    with np.errstate(all="ignore"):
        y = net(np.array([[1.0, 0.0]] * n, np.float32))
    assert not np.isfinite(y).any()


@pytest.mark.parametrize("n", [1, 9])  # a row after the other, and in step
@pytest.mark.parametrize("latent", ["linear", "relu", "scale"])
def test_an_overflow_inside_a_compiled_model_is_named(latent, n):
    dynamics = CompiledMLP([np.full((7, 4), 3e38)], [np.zeros(4)])
    prediction = CompiledMLP([np.full((4, 5), 1.0)], [np.zeros(5)])
    root = Root(np.ones((n, 4), np.float32), np.zeros((n, 3)), np.zeros(n))
    with pytest.raises(ValueError, match=r"row 0 of the search .* is not finite in a state"):
        MCTS(CompiledModel(dynamics, prediction, latent=latent), n_simulations=6).search(root)


def line(reward):
    """Three states in a line, one action, a reward for the first step."""
    transition, rewards = np.zeros((3, 1, 3)), np.zeros((3, 1))
    transition[0, 0, 1] = transition[1, 0, 2] = transition[2, 0, 2] = 1.0
    rewards[0, 0] = reward
    return TabularMDP.from_dense(transition, rewards, np.arange(3) == 2)


def test_values_too_far_apart_for_their_type_are_named():
    network = lambda x: (np.zeros((len(x), 1)), np.where(x[:, 0] == 1, 3e38, -3e38))  # noqa: E731
    with pytest.raises(ValueError, match="too far for float32"):
        MCTS(TabularSimulator(line(0.0), 1.0), network, 4).search(np.array([0]))
    with pytest.raises(ValueError, match="a sum of rewards and values, is not finite"):
        MCTS(TabularSimulator(line(3e38), 1.0), lambda x: (np.zeros((len(x), 1)), np.full(len(x), 3e38)), 4).search(
            np.array([0])
        )


def test_answers_of_another_shape_are_refused():
    states = TicTacToe().initial(2)
    for answer in ((np.zeros((2, 8)), np.zeros(2)), (np.zeros((1, 9)), np.zeros(2)), (np.zeros((2, 9)), np.zeros(3))):
        with pytest.raises(ValueError, match=r"evaluate gave logits .* not \[2, 9\] and \[2\]"):
            MCTS(GameSimulator(TicTacToe()), lambda x, answer=answer: answer, 3).search(states)
    root = Root(np.zeros((2, 1)), np.zeros((2, 9)), np.zeros(2))
    with pytest.raises(ValueError, match="Root gave logits"):
        MCTS(ModelSimulator(lambda z, a: None, 9), n_simulations=2).search(root._replace(logits=np.zeros((2, 3))))
    short = Expansion(np.zeros((1, 1)), np.zeros(2), 1.0, np.zeros((2, 9)), np.zeros(2))
    with pytest.raises(ValueError, match="The model gave embeddings"):
        MCTS(ModelSimulator(lambda z, a: short, 9), n_simulations=2).search(root)
    search = RolloutSearch(TicTacToe(), 4, seed=0)
    search.search(states)
    with pytest.raises(ValueError, match="go beyond 8"):
        search.advance(np.array([0, 99]))


@pytest.mark.parametrize(
    "wrong",
    [
        {"c_init": NAN}, {"c_init": -1.0}, {"c_base": 0.0}, {"c_scale": INF}, {"c_visit": NAN}, {"dirichlet_alpha": INF},
        {"value_range": (1.0, -1.0)}, {"value_range": (NAN, 1.0)}, {"n_simulations": NAN}, {"n_simulations": 0},
        {"dirichlet_fraction": 1.1}, {"first_play": "best"}, {"selection": ["puct"]}, {"rollout_length": 0},
        {"max_memory": 0}, {"value_range": "ab"}, {"value_range": (0.0, 1.0, 2.0)},
    ],
)  # fmt: skip
def test_constants_that_are_no_numbers_are_refused(wrong):
    with pytest.raises((ValueError, TypeError), match=next(iter(wrong))):
        MCTS(GameSimulator(TicTacToe()), network_that_breaks(-1), **wrong)
    with pytest.raises(ValueError, match="temperature=nan"):
        RolloutSearch(TicTacToe(), 4).search(TicTacToe().initial(1), temperature=NAN)


def test_an_observation_that_is_not_finite_shows_no_state():
    game = TicTacToe()
    observation = game.observe(game.initial(1))
    observation[0, 0, 0, 0] = NAN
    with pytest.raises(ValueError, match="with NaN or infinity"):
        game.state_of(observation)
    with pytest.raises(ValueError, match=r"shape \[n, 2, 3, 3\]"):
        game.state_of(observation[:, :1])


# ---- the learners


TINY = {"n_games": 4, "n_simulations": 4, "learning_starts": 0, "batch_size": 8, "seed": 0}


def learner(cls, **more):
    networks = {"net_arch": [16]} if cls is AlphaZero else {"net_arch": [16], "latent_size": 8, "n_bins": 11}
    return cls("MlpPolicy", "Lecture/TicTacToe-v0", **{**TINY, "policy_kwargs": networks, **more})


@pytest.mark.parametrize("cls", [AlphaZero, MuZero])
def test_learning_that_diverges_ends_in_one_error(cls):
    with pytest.raises(ValueError, match=r"not finite|NaN or infinite weights"):
        learner(cls, learning_rate=1e30).learn(400)


@pytest.mark.parametrize("cls", [AlphaZero, MuZero])
@pytest.mark.parametrize("bad", [NAN, INF])
def test_a_network_that_holds_one_bad_weight_plays_no_move(cls, bad, tmp_path):
    """Whichever weight it is, and from a file too."""
    game = TicTacToe()
    observations = game.observe(game.initial(3))
    model = learner(cls)
    for i, parameter in enumerate(model.policy.parameters()):
        with th.no_grad():
            before = parameter.view(-1)[0].item()
            parameter.view(-1)[0] = bad
        if i == 0:
            model.save(tmp_path / "model.zip")
        with pytest.raises(ValueError, match=r"NaN or infin|not finite"):
            model.predict(observations)
        with th.no_grad():
            parameter.view(-1)[0] = before
    assert model.predict(observations)[0].shape == (3,)
    with pytest.raises(ValueError, match=r"the tensor policy\..* holds numbers that are not finite"):
        cls.load(tmp_path / "model.zip")
