"""Gradient steps by NumPy are torch's: gradients, Adam, every switch, and what is saved between."""

import copy

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import VecNormalize
from torch.nn import functional as F

import sb3_lecture_envs  # noqa: F401
from sb3_lecture import C51, DeepQLearning
from sb3_lecture.common.networks import NoisyLinear
from sb3_lecture.value_based.plain_net import linear_layers
from sb3_lecture.value_based.plain_step import PlainStep, huber_gradient
from sb3_lecture.value_based.transitions import uniform_samples

SMALL = {"buffer_size": 500, "learning_starts": 50, "batch_size": 16, "train_freq": 4, "gradient_steps": 3, "device": "cpu",
         "seed": 0, "target_update_interval": 20, "learning_rate": 1e-2, "policy_kwargs": {"net_arch": [9, 7]}}  # fmt: skip


class Torch(DeepQLearning):
    """The same, never by NumPy."""

    def _look_for_plain(self):
        super()._look_for_plain()
        self._plain = None


def plain_and_torch(**settings):
    return (cls("MlpPolicy", make_vec_env("CartPole-v1", 2, seed=0), **SMALL | settings) for cls in (DeepQLearning, Torch))


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("net_arch", [[], [8], [16, 12, 5]])
def test_gradients_are_autograds(net_arch, weighted):
    model = DeepQLearning("MlpPolicy", "CartPole-v1", **SMALL | {"policy_kwargs": {"net_arch": net_arch}})
    rng = np.random.default_rng(0)
    x, actions = rng.normal(size=(32, 4)).astype(np.float32), rng.integers(2, size=32)
    targets = (3 * rng.normal(size=32)).astype(np.float32)
    weights = rng.uniform(0.1, 1, 32).astype(np.float32) if weighted else None
    q = model.q_net(th.as_tensor(x))[th.arange(32), th.as_tensor(actions)]
    losses = F.smooth_l1_loss(q, th.as_tensor(targets), reduction="none")
    loss = (losses * th.as_tensor(weights) if weighted else losses).mean()
    expected = th.autograd.grad(loss, list(model.q_net.parameters()))
    plain = PlainStep(model.q_net, model.policy.optimizer)
    outputs, inputs = plain.forward(x)
    gradient, own_losses, errors = huber_gradient(outputs, actions, targets, weights)
    plain.backward(inputs, gradient)
    np.testing.assert_allclose(own_losses, losses.detach(), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(errors, (q.detach() - th.as_tensor(targets)).abs(), rtol=1e-5, atol=1e-6)
    for own, theirs in zip(plain.gradients, expected, strict=True):
        np.testing.assert_allclose(own, theirs, rtol=1e-5, atol=1e-6)


def test_steps_are_adams_and_live_in_the_optimizer():
    """Against torch's Adam over twenty gradients, of which half are clipped; the averages are the optimizer's own."""
    model = DeepQLearning("MlpPolicy", "CartPole-v1", **SMALL)
    twin = [th.nn.Parameter(p.detach().clone()) for p in model.q_net.parameters()]
    adam = th.optim.Adam(twin, lr=1e-2, eps=1e-4, betas=(0.8, 0.95))
    optimizer = th.optim.Adam(model.q_net.parameters(), lr=1e-2, eps=1e-4, betas=(0.8, 0.95))
    plain = PlainStep(model.q_net, optimizer)
    rng = np.random.default_rng(0)
    for i in range(20):
        plain.g[:] = rng.normal(size=plain.g.shape)
        if i == 10:  # taken up from what the optimizer holds
            plain.write_steps()
            plain = PlainStep(model.q_net, optimizer)
            plain.g[:] = rng.normal(size=plain.g.shape)
        for parameter, gradient in zip(twin, plain.gradients, strict=True):
            parameter.grad = th.as_tensor(gradient.copy())
        limit = 1e9 if i % 2 else 1.0
        expected = th.nn.utils.clip_grad_norm_(twin, limit)
        assert plain.step(limit) == pytest.approx(expected.item(), rel=1e-5)
        adam.step()
    plain.write_steps()
    for own, theirs in zip(model.q_net.parameters(), twin, strict=True):
        th.testing.assert_close(own, theirs, rtol=1e-4, atol=1e-6)
        for name in ("step", "exp_avg", "exp_avg_sq"):
            th.testing.assert_close(optimizer.state[own][name], adam.state[theirs][name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    "switches",
    [{}, {"double": True}, {"munchausen": True}, {"n_steps": 3}, {"prioritized": True},
     {"policy_kwargs": {"net_arch": []}}, {"max_grad_norm": 0.05}, {"tau": 0.5}],
    ids=str,
)  # fmt: skip
def test_every_switch_learns_what_it_learns_by_torch(switches):
    by_numpy, by_torch = plain_and_torch(**switches)
    for model in (by_numpy, by_torch):
        model.learn(100)
    assert by_numpy._plain is not None and by_torch._plain is None
    memory = by_torch.replay_buffer
    by_numpy.policy.load_state_dict(by_torch.policy.state_dict())
    by_numpy.policy.optimizer.load_state_dict(by_torch.policy.optimizer.state_dict())
    assert not by_numpy._plain.attached()  # the optimizer has other averages now
    for model in (by_numpy, by_torch):
        model.replay_buffer = copy.deepcopy(memory)
        for seed in range(5):
            np.random.seed(seed)
            model.train(1, 16)
    assert by_numpy._plain.attached()
    for key, value in by_torch.policy.state_dict().items():
        th.testing.assert_close(by_numpy.policy.state_dict()[key], value, rtol=1e-3, atol=1e-5)
    if by_torch.prioritized:
        own, theirs = by_numpy.replay_buffer.tree.priorities, by_torch.replay_buffer.tree.priorities
        np.testing.assert_allclose(own, theirs, rtol=1e-3, atol=1e-4)


def test_who_learns_by_numpy():
    def path(cls=DeepQLearning, env="CartPole-v1", **settings):
        model = cls("MlpPolicy", env, **SMALL | settings)
        model._setup_learn(10)
        return model._plain is not None

    class Variant(DeepQLearning):
        def scalar_losses(self, batch):
            return super().scalar_losses(batch)

    assert path() and path(double=True, prioritized=True)
    assert not path(dueling=True) and not path(noisy=True) and not path(C51) and not path(Variant)
    assert not path(policy_kwargs={"activation_fn": th.nn.Tanh}) and not path(env="Lecture/Maze-v0")
    assert not path(policy_kwargs={"optimizer_class": th.optim.SGD})
    assert not path(policy_kwargs={"optimizer_kwargs": {"weight_decay": 0.1}})


@pytest.mark.parametrize(
    ("place", "layer"), [(0, NoisyLinear(4, 8)), (2, NoisyLinear(8, 2)), (1, th.nn.Tanh()), (3, th.nn.ELU())]
)
def test_one_layer_of_another_kind_is_enough_to_need_torch(place, layer):
    net = DQN("MlpPolicy", "CartPole-v1", policy_kwargs={"net_arch": [8, 8]}, device="cpu").q_net
    assert len(linear_layers(net)) == 3
    net.q_net[place] = layer
    assert linear_layers(net) is None


def test_uniform_rows_are_those_of_sb3s_buffer():
    env = VecNormalize(make_vec_env("CartPole-v1", 2, seed=0), gamma=0.9)
    model = DeepQLearning("MlpPolicy", env, **SMALL | {"buffer_size": 60}).learn(100)
    memory = model.replay_buffer
    assert type(memory) is ReplayBuffer
    rows = np.arange(memory.size() * 2)
    real = np.random.randint
    try:
        np.random.randint = lambda high, size: rows
        own = uniform_samples(memory, len(rows), env)
        np.random.randint = lambda *args, **kwargs: rows % 2
        theirs = memory._get_samples(rows // 2, env)
    finally:
        np.random.randint = real
    for name in ("observations", "actions", "next_observations", "dones", "rewards"):
        th.testing.assert_close(getattr(own, name), getattr(theirs, name), rtol=0, atol=0)
    assert uniform_samples(ReplayBuffer(9, spaces.Discrete(2), spaces.Discrete(2), handle_timeout_termination=False,
                                        optimize_memory_usage=True, device="cpu"), 3, None) is None  # fmt: skip


def test_nan_is_named_where_numpy_learns():
    model = DeepQLearning("MlpPolicy", "CartPole-v1", **SMALL).learn(60)
    with th.no_grad():
        model.q_net_target.q_net[0].weight[:] = th.nan
    before = model.q_net.q_net[0].weight.detach().clone()
    with pytest.raises(ValueError, match="NaN or inf in the target network"):
        model.train(1, 8)
    assert th.equal(model.q_net.q_net[0].weight, before)  # no step was taken
