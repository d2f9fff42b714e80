"""LaProp against its formula written out in numpy, and its promises."""

from copy import deepcopy

import numpy as np
import pytest
import torch as th

from sb3_lecture.common.optimizers import LaProp


def test_laprop_is_its_formula():
    rng = np.random.default_rng(0)
    start = [rng.normal(size=(4, 3)), 1e-5 * rng.normal(size=5)]
    params = [th.nn.Parameter(th.tensor(x)) for x in start]
    optimizer = LaProp(params, lr=0.05, betas=(0.8, 0.95), eps=1e-8, agc=0.3, warmup=4)
    theta, v, m = [x.copy() for x in start], [0.0 * x for x in start], [0.0 * x for x in start]
    for t in range(1, 8):
        grads = [rng.normal(size=x.shape) * 10.0 ** rng.integers(-3, 3) for x in start]
        for p, g in zip(params, grads, strict=True):
            p.grad = th.tensor(g)
        optimizer.step()
        for i, g in enumerate(grads):
            g = g * min(1.0, 0.3 * max(np.linalg.norm(theta[i]), 1e-3) / np.linalg.norm(g))
            v[i] = 0.95 * v[i] + 0.05 * g**2
            u = g / (np.sqrt(v[i] / (1 - 0.95**t)) + 1e-8)
            m[i] = 0.8 * m[i] + 0.2 * u
            theta[i] = theta[i] - 0.05 * min(1.0, t / 4) * m[i] / (1 - 0.8**t)
    for p, expected in zip(params, theta, strict=True):
        np.testing.assert_allclose(p.detach().numpy(), expected, rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-15, 1.0, 1e15])
def test_the_first_step_is_as_long_as_the_learning_rate_at_any_scale(scale):
    p = th.nn.Parameter(th.ones(6))
    p.grad = scale * th.tensor([1.0, -1.0, 2.0, -3.0, 0.0, 1.0])
    LaProp([p], lr=0.1).step()
    th.testing.assert_close(p.detach() - 1.0, -0.1 * p.grad.sign(), rtol=1e-4, atol=1e-6)


def test_it_resumes_from_its_state():
    def step(p, optimizer, k):
        p.grad = th.full((3,), float(k))
        optimizer.step()

    p = th.nn.Parameter(th.ones(3))
    optimizer = LaProp([p], lr=0.1, warmup=10)
    step(p, optimizer, 1)
    q = th.nn.Parameter(p.detach().clone())
    other = LaProp([q], lr=0.7)
    other.load_state_dict(deepcopy(optimizer.state_dict()))
    step(p, optimizer, 2)
    step(q, other, 2)
    assert th.equal(p, q)


def test_parameters_without_a_gradient_rest():
    p, q = th.nn.Parameter(th.ones(2)), th.nn.Parameter(th.ones(2))
    p.grad = th.ones(2)
    LaProp([p, q]).step()
    assert th.equal(q.detach(), th.ones(2)) and not th.equal(p.detach(), th.ones(2))


@pytest.mark.parametrize("wrong", [{"lr": -1.0}, {"eps": 0.0}, {"agc": 0.0}, {"betas": (0.9, 1.0)}, {"warmup": -1}])
def test_wrong_numbers_are_named(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LaProp([th.nn.Parameter(th.ones(1))], **wrong)


def test_the_ends_of_its_ranges_are_allowed():
    parameter = th.nn.Parameter(th.ones(1))
    optimizer = LaProp([parameter], lr=0.0, warmup=0, betas=(0.0, 0.0), agc=None)
    parameter.grad = th.ones(1)
    optimizer.step()
    assert parameter.item() == 1.0  # a step of size 0 moves nothing
