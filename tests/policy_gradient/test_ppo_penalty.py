"""PPO with a KL penalty: its limits, its penalty and its adaptive weight."""

import math

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from numpy.testing import assert_allclose
from stable_baselines3.common.distributions import make_proba_distribution
from stable_baselines3.common.env_util import make_vec_env
from torch.distributions import Bernoulli, Categorical, Normal

from sb3_lecture import PPOPenalty
from sb3_lecture.policy_gradient.ppo_penalty import kl_per_state, rows_of

SGD = {"optimizer_class": th.optim.SGD}


KINDS = [("CartPole-v1", False), ("Pendulum-v1", False), ("Pendulum-v1", True)]  # the last with state-dependent exploration


@pytest.mark.parametrize(("env_id", "use_sde"), KINDS)
def test_without_penalty_one_epoch_and_one_minibatch_are_a_plain_policy_gradient_step(env_id, use_sde):
    n_steps, n_envs, alpha = 16, 2, 0.01
    env = make_vec_env(env_id, n_envs, seed=0)
    model = PPOPenalty(
        "MlpPolicy", env, learning_rate=alpha, n_steps=n_steps, batch_size=n_steps * n_envs, n_epochs=1, beta=0.0,
        adaptive=False, normalize_advantage=False, vf_coef=0.0, max_grad_norm=1e9, use_sde=use_sde, policy_kwargs=SGD, seed=0,
        device="cpu",
    )  # fmt: skip
    twin = PPOPenalty("MlpPolicy", env, use_sde=use_sde, policy_kwargs=SGD, seed=0, device="cpu")  # the same first weights
    model.learn(n_steps * n_envs)
    buffer = model.rollout_buffer  # flat after training: [n_steps * n_envs, …]
    actions = th.as_tensor(buffer.actions)
    actions = actions.long().flatten() if env_id == "CartPole-v1" else actions
    log_prob = twin.policy.get_distribution(th.as_tensor(buffer.observations)).log_prob(actions)
    (log_prob * th.as_tensor(buffer.advantages).flatten()).mean().backward()  # ∇ E[ln π(a|s) Â]
    moved = 0
    for (name, new), old in zip(model.policy.named_parameters(), twin.policy.parameters(), strict=True):
        step = th.zeros_like(old) if old.grad is None else alpha * old.grad
        th.testing.assert_close(new, old + step, rtol=1e-4, atol=1e-6, msg=name)
        moved += int(step.abs().sum() > 1e-5)
    assert moved >= 4


@pytest.mark.parametrize(("env_id", "use_sde"), KINDS)
def test_the_first_gradient_of_the_penalty_is_zero(env_id, use_sde):
    """KL[π_old, π] is smallest, 0, at π = π_old: a first step is the same with and without it."""

    def weights(beta):
        model = PPOPenalty(
            "MlpPolicy", make_vec_env(env_id, 2, seed=0), n_steps=16, batch_size=32, n_epochs=1, beta=beta, adaptive=False,
            use_sde=use_sde, policy_kwargs=SGD, learning_rate=0.1, seed=0, device="cpu",
        )  # fmt: skip
        return model.learn(32).policy.state_dict()

    with_penalty, without = weights(100.0), weights(0.0)
    for key, value in without.items():
        th.testing.assert_close(with_penalty[key], value, rtol=1e-3, atol=1e-5)


def test_a_larger_penalty_keeps_the_policy_nearer():
    def distance(beta):
        model = PPOPenalty("MlpPolicy", make_vec_env("CartPole-v1", 2, seed=0), n_steps=64, batch_size=32, n_epochs=10,
                           beta=beta, adaptive=False, learning_rate=3e-3, seed=0, device="cpu")  # fmt: skip
        model.learn(128)
        return model.logger.name_to_value["train/kl"]

    far, near, nearest = distance(0.0), distance(3.0), distance(300.0)
    assert far > 2 * near > 4 * nearest > 0


@pytest.mark.parametrize(
    ("distance", "factor"), [(0.0, 0.5), (0.0066, 0.5), (0.0067, 1.0), (0.01, 1.0), (0.0149, 1.0), (0.0151, 2.0), (1.0, 2.0)]
)
def test_beta_follows_the_distance(distance, factor):
    model = PPOPenalty("MlpPolicy", "CartPole-v1", beta=1.5, target_kl=0.01, device="cpu")
    model.adapt_beta(distance)
    assert model.beta == 1.5 * factor


def test_beta_is_saved_and_a_fixed_one_stays(tmp_path):
    env = make_vec_env("CartPole-v1", 2, seed=0)
    settings = {"n_steps": 16, "batch_size": 32, "n_epochs": 2, "device": "cpu", "seed": 0}
    model = PPOPenalty("MlpPolicy", env, target_kl=1.0, **settings).learn(96)  # far from the target: halved thrice
    assert model.beta == 0.125
    model.save(tmp_path / "model.zip")
    assert PPOPenalty.load(tmp_path / "model.zip").beta == 0.125
    assert PPOPenalty("MlpPolicy", env, adaptive=False, target_kl=1.0, **settings).learn(96).beta == 1.0


def closed_forms():
    p, q = th.tensor([0.2, 0.8]), th.tensor([0.5, 0.5])
    discrete = sum(a * math.log(a / b) for a, b in zip(p.tolist(), q.tolist(), strict=True))
    gauss = math.log(2.0 / 1.0) + (1.0 + 0.25) / (2 * 4.0) - 0.5  # N(0, 1) against N(0.5, 2²)
    old, new = Categorical(probs=p.repeat(3, 1)), Categorical(probs=q.repeat(3, 1))
    yield "categorical", old, new, discrete
    yield "multi-categorical", [old, old], [new, new], 2 * discrete
    yield "bernoulli", Bernoulli(probs=p[:1].repeat(3, 4)), Bernoulli(probs=q[:1].repeat(3, 4)), 4 * discrete
    yield "gaussian", Normal(th.zeros(3, 2), th.ones(3, 2)), Normal(th.full((3, 2), 0.5), th.full((3, 2), 2.0)), 2 * gauss


@pytest.mark.parametrize(
    ("name", "old", "new", "expected"), list(closed_forms()), ids=lambda x: x if isinstance(x, str) else ""
)
def test_kl_is_the_closed_form_summed_over_components(name, old, new, expected):
    assert_allclose(kl_per_state(old, new), np.full(3, expected), rtol=1e-5)
    rows = th.tensor([2, 0])
    assert_allclose(kl_per_state(rows_of(old, rows), rows_of(new, rows)), np.full(2, expected), rtol=1e-5)


@pytest.mark.parametrize(
    "space", [spaces.Discrete(3), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(4), spaces.Box(-1, 1, (2,))], ids=str
)
def test_rows_of_a_distribution_keep_their_probabilities(space):
    head = make_proba_distribution(space)
    net = head.proba_distribution_net(latent_dim=5)
    latent = th.randn(6, 5, generator=th.Generator().manual_seed(0))
    arguments = (net[0](latent), net[1]) if isinstance(net, tuple) else (net(latent),)
    whole, rows = head.proba_distribution(*arguments).distribution, th.tensor([4, 1, 1])
    part = rows_of(whole, rows)
    some = [part] if not isinstance(part, list) else part
    every = [whole] if not isinstance(whole, list) else whole
    for few, all_ in zip(some, every, strict=True):
        th.testing.assert_close(few.mean if not isinstance(few, Categorical) else few.probs,
                                (all_.mean if not isinstance(all_, Categorical) else all_.probs)[rows])  # fmt: skip


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="beta=-1"):
        PPOPenalty("MlpPolicy", "CartPole-v1", beta=-1)
    with pytest.raises(ValueError, match="target_kl=0"):
        PPOPenalty("MlpPolicy", "CartPole-v1", target_kl=0)
