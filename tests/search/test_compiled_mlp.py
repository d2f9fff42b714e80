"""The compiled networks against torch, numpy and the same model called from outside."""

from itertools import pairwise

import gymnasium as gym
import numpy as np
import pytest

from sb3_lecture.search.compiled_mlp import TOGETHER, CompiledMLP, aligned, forward_block
from sb3_lecture.search.mcts import FEW_ROWS, MCTS, SearchResult
from sb3_lecture.search.simulators import CompiledModel, ModelSimulator, Root, TabularSimulator
from sb3_lecture_envs.mdp import TabularMDP


@pytest.mark.parametrize("activation", ["relu", "tanh"])
def test_compiled_network_equals_torchs(activation: str) -> None:
    import torch as th

    th.manual_seed(0)
    kind = th.nn.ReLU if activation == "relu" else th.nn.Tanh
    body = th.nn.Sequential(th.nn.Linear(18, 33), kind(), th.nn.Linear(33, 20), kind())
    policy, value = th.nn.Linear(20, 9), th.nn.Linear(20, 1)
    net = CompiledMLP.from_torch(body, heads=(policy, value))
    x = th.randn(7, 18) * (th.rand(7, 18) < 0.5)
    with th.no_grad():
        h = body(x)
        logits, v = policy(h).numpy(), th.tanh(value(h)).numpy()[:, 0]
    for n in (1, 7):  # the compiled loop, and numpy's product
        ours = net.evaluate(x[:n].numpy())
        np.testing.assert_allclose(ours[0], logits[:n], atol=1e-5)
        np.testing.assert_allclose(ours[1], v[:n], atol=1e-5)


def test_compiled_network_of_several_widths_equals_numpys() -> None:
    """Wide and narrow layers, and a network of one layer, on inputs with and without zeros."""
    rng = np.random.default_rng(0)
    for widths in ((50, 70, 40, 5), (20, 3, 45), (10, 60), (10, 4)):
        weights = [rng.normal(size=shape) / 5 for shape in pairwise(widths)]
        biases = [rng.normal(size=n) for n in widths[1:]]
        x = rng.normal(size=(4, widths[0])) * (rng.random((4, widths[0])) < 0.6)
        y = x
        for k, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            y = (np.maximum(y, 0) if k else y) @ weight + bias
        net = CompiledMLP(weights, biases)
        np.testing.assert_allclose(net(x), y, atol=1e-5)
        np.testing.assert_allclose(net(np.tile(x, (3, 1))), np.tile(y, (3, 1)), atol=1e-5)
        halves = aligned(2, 4 * max(widths))
        block = forward_block(x.astype(np.float32), net.rows, net.layers, net.tanh, net.packed, halves)
        np.testing.assert_allclose(block, y, atol=1e-5)


@pytest.mark.parametrize("n", [1, FEW_ROWS + 1, 2 * TOGETHER + 3])  # a row after the other; in step, the last ones fewer
@pytest.mark.parametrize("latent", ["linear", "relu", "tanh", "scale"])
def test_a_compiled_model_grows_the_trees_of_the_same_model_called(latent: str, n: int) -> None:
    rng = np.random.default_rng(0)
    hidden = 40 if latent != "tanh" else 20  # layers of both kinds
    shapes = (24, hidden), (hidden, 20)
    dynamics = CompiledMLP([rng.normal(size=shape) / 5 for shape in shapes], [rng.normal(size=m) / 5 for _, m in shapes])
    prediction = CompiledMLP([rng.normal(size=(20, 6)) / 3], [np.zeros(6)])
    model = CompiledModel(dynamics, prediction, discount=0.9, latent=latent)
    called = ModelSimulator(model.expand_all, 4)
    root = Root(rng.random((n, 20)).astype(np.float32), rng.normal(size=(n, 4)), rng.normal(size=n))
    for selection in ("puct", "gumbel"):
        ours = MCTS(model, n_simulations=40, selection=selection, seed=0).search(root)
        theirs = MCTS(called, n_simulations=40, selection=selection, seed=0).search(root)
        np.testing.assert_array_equal(ours.visits, theirs.visits)
        np.testing.assert_allclose(ours.q, theirs.q, atol=1e-4)


@pytest.mark.parametrize("selection", ["puct", "gumbel"])
@pytest.mark.parametrize("slippery", [True, False])
def test_rows_in_step_grow_the_trees_of_rows_one_after_the_other(
    slippery: bool, selection: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From many states, by chance or not, on fresh trees and on kept ones, which differ in their visits."""
    mdp = TabularMDP.from_gymnasium(gym.make("FrozenLake-v1", is_slippery=slippery))
    rng = np.random.default_rng(1)
    shapes = (mdp.n_states, 40), (40, 5)
    net = CompiledMLP([rng.normal(size=shape) for shape in shapes], [rng.normal(size=n) for _, n in shapes])
    over = np.isin(np.arange(mdp.n_states), (5, 7, 11, 12, 15))  # holes and the goal
    first = rng.choice(np.flatnonzero(~over), 2 * TOGETHER + 3)

    def two_searches() -> list[SearchResult]:
        search = MCTS(TabularSimulator(mdp, 0.9), net, 40, selection, seed=0)
        results = [search.search(first)]
        if selection == "puct":
            actions = results[0].actions
            then = mdp.next_state[mdp.row_ptr[first * mdp.n_actions + actions]]  # one of those that may follow
            afresh = over[then] | (np.arange(len(first)) % 3 == 0)
            kept = search.advance(np.where(afresh, -1, actions), then)
            assert kept.any()
            results.append(search.search(np.where(afresh, first, then)))
        return results

    in_step = two_searches()
    monkeypatch.setattr("sb3_lecture.search.mcts.FEW_ROWS", len(first))
    for ours, theirs in zip(in_step, two_searches(), strict=True):
        np.testing.assert_array_equal(ours.visits, theirs.visits)
        np.testing.assert_allclose(ours.q, theirs.q, atol=1e-5)


def test_networks_that_do_not_fit_are_refused() -> None:
    net = CompiledMLP([np.zeros((5, 4))], [np.zeros(4)])
    with pytest.raises(ValueError, match="5 -> 4 and 5 -> 4"):
        CompiledModel(net, net)
    with pytest.raises(ValueError, match="latent='sine'"):
        CompiledModel(net, net, latent="sine")
    model = CompiledModel(net, CompiledMLP([np.zeros((4, 3))], [np.zeros(3)]))
    with pytest.raises(ValueError, match=r"Latent states have shape \(2, 4\), not \(2, 5\)"):
        MCTS(model, n_simulations=3).search(Root(np.zeros((2, 5)), np.zeros((2, 1)), np.zeros(2)))
    with pytest.raises(ValueError, match="do not chain"):
        CompiledMLP([np.zeros((5, 4)), np.zeros((5, 4))], [np.zeros(4)] * 2)
