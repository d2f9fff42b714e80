"""Every term of the offline learners' losses by hand or by a second writing, on networks that are tables."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_lecture import BC, BCQ, CQL, IQL, OfflineDataset
from sb3_lecture.offline.bcq import constrained
from sb3_lecture.offline.cql import conservative_penalty
from sb3_lecture.offline.iql import expectile_loss

S, A, N, LR, GAMMA = 3, 2, 6, 0.1, 0.5


def data():
    """Six rows, of which one ends and one is cut."""
    return OfflineDataset(
        spaces.Discrete(S), spaces.Discrete(A), np.array([0, 1, 2, 0, 0, 1]), np.array([0, 1, 1, 1, 0, 0]),
        np.array([1.0, -1.0, 2.0, 0.5, 3.0, 0.0], np.float32), np.array([1, 2, 0, 0, 1, 2]),
        np.array([0, 0, 1, 0, 0, 0], bool), np.array([0, 0, 0, 1, 0, 1], bool),
    )  # fmt: skip


def model(cls, seed=0, **kwargs):
    """A learner whose networks are tables [S, k], with SGD, and these tables by name."""
    made = cls(
        "MlpPolicy", dataset=data(), gamma=GAMMA, learning_rate=LR, batch_size=N, device="cpu",
        policy_kwargs={"net_arch": [], "optimizer_class": th.optim.SGD}, **kwargs,
    )  # fmt: skip
    rng = np.random.default_rng(seed)
    for parameter in made.policy.parameters():
        parameter.data = th.as_tensor(rng.normal(size=tuple(parameter.shape)), dtype=th.float32)
    for module in made.policy.modules():
        if isinstance(module, th.nn.Linear):
            module.bias.data.zero_()
            module.bias.requires_grad_(False)
    return made


def table(network):
    return network.layers[0].weight.detach().numpy().T.astype(np.float64).copy()  # [S, k]


def step(made, rows=None):
    batch = made.dataset.batch(np.arange(N) if rows is None else rows, GAMMA)
    policy = made.policy
    return made.train_step(
        batch, policy.inputs(batch.observations), policy.inputs(batch.next_observations), policy.scaled(batch.actions)
    )


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def columns():
    d = data()
    return d.observations, d.actions, d.rewards.astype(float), d.next_observations, np.where(d.terminations, 0.0, GAMMA)


def scattered(s, a, values):
    """Σ over the rows of values [N] at (s, a) [S, A]."""
    out = np.zeros((S, A))
    np.add.at(out, (s, a), values)
    return out


def test_bc_follows_the_likelihoods_gradient():
    made = model(BC)
    logits = table(made.policy.actor)
    figures = step(made)
    s, a, *_ = columns()
    pi = softmax(logits)
    assert float(figures["loss"]) == pytest.approx(-np.log(pi[s, a]).mean(), rel=1e-5)
    gradient = (scattered(s, a, np.ones(N)) - np.bincount(s, minlength=S)[:, None] * pi) / N  # of the mean log-likelihood
    np.testing.assert_allclose(table(made.policy.actor), logits + LR * gradient, atol=1e-6)


def test_the_penalty_by_hand():
    q = th.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 0.0]])
    found = conservative_penalty(q, th.tensor([0, 2]))
    np.testing.assert_allclose(found, [np.log(np.e + np.e**2 + np.e**3) - 1.0, np.log(3.0)], rtol=1e-6)


@pytest.mark.parametrize("alpha", [0.0, 0.7])
def test_cql_is_double_q_learning_and_the_penalty(alpha):
    made = model(CQL, alpha=alpha, tau=0.25)
    q, slow = table(made.policy.critic), table(made.policy.critic_target)
    figures = step(made)
    s, a, r, s2, discount = columns()
    delta = r + discount * slow[s2, q[s2].argmax(axis=1)] - q[s, a]
    penalty = np.log(np.exp(q[s]).sum(axis=1)) - q[s, a]
    assert float(figures["td_loss"]) == pytest.approx(0.5 * (delta**2).mean(), rel=1e-5)
    assert float(figures["penalty"]) == pytest.approx(penalty.mean(), rel=1e-5)
    up = scattered(s, a, delta + alpha) / N - alpha * np.bincount(s, minlength=S)[:, None] * softmax(q) / N
    np.testing.assert_allclose(table(made.policy.critic), q + LR * up, atol=1e-6)
    np.testing.assert_allclose(table(made.policy.critic_target), 0.75 * slow + 0.25 * (q + LR * up), atol=1e-6)


def test_which_actions_the_clone_allows():
    q = th.tensor([[1.0, 5.0, 3.0]])
    logits = th.log(th.tensor([[0.6, 0.1, 0.3]]))
    assert constrained(q, logits, 0.3).tolist() == [[1.0, -np.inf, 3.0]]  # 0.1 / 0.6 is too little
    assert constrained(q, logits, 0.1).argmax().item() == 1
    assert constrained(q, logits, 0.6).tolist() == [[1.0, -np.inf, -np.inf]]
    assert constrained(q, logits - 50.0, 0.0).tolist() == q.tolist()


def test_bcq_takes_the_best_supported_action_and_clones():
    made = model(BCQ, threshold=0.8, tau=0.5, logits_coef=0.2, seed=3)
    q, slow, logits = table(made.policy.critic), table(made.policy.critic_target), table(made.policy.clone)
    figures = step(made)
    s, a, r, s2, discount = columns()
    g = softmax(logits)
    allowed = np.where(g / g.max(axis=1, keepdims=True) > 0.8, q, -np.inf)
    assert (allowed[s2].argmax(axis=1) != q[s2].argmax(axis=1)).any()  # the constraint matters here
    delta = r + discount * slow[s2, allowed[s2].argmax(axis=1)] - q[s, a]
    assert (np.abs(delta) > 1).any() and (np.abs(delta) < 1).any()  # both of Huber's parts
    huber = np.where(np.abs(delta) < 1, 0.5 * delta**2, np.abs(delta) - 0.5)
    assert float(figures["td_loss"]) == pytest.approx(huber.mean(), rel=1e-5)
    assert float(figures["clone_loss"]) == pytest.approx(-np.log(g[s, a]).mean(), rel=1e-5)
    up = scattered(s, a, np.clip(delta, -1, 1)) / N
    np.testing.assert_allclose(table(made.policy.critic), q + LR * up, atol=1e-6)
    np.testing.assert_allclose(table(made.policy.critic_target), 0.5 * slow + 0.5 * (q + LR * up), atol=1e-6)
    n = np.bincount(s, minlength=S)[:, None]
    cloned = (scattered(s, a, np.ones(N)) - n * g) / N - 0.2 * 2 * n * logits / (
        N * A
    )  # log-likelihood, and λ times the squares
    np.testing.assert_allclose(table(made.policy.clone), logits + LR * cloned, atol=1e-6)
    for state in range(S):
        allowed = constrained(*(th.as_tensor(table(net)[state][None]) for net in (made.policy.critic, made.policy.clone)), 0.8)
        assert made.predict(np.array([state]))[0] == allowed.argmax().item()


def test_expectiles():
    u = th.tensor([2.0, -2.0, 0.0])
    np.testing.assert_allclose(expectile_loss(u, 0.7), [2.8, 1.2, 0.0], rtol=1e-6)
    np.testing.assert_allclose(expectile_loss(u, 0.5), 0.5 * u.square())
    for tau in (0.5, 0.9, 0.99):  # of 0 and 1, seen as often, the τ-expectile is τ
        v = th.tensor(tau, dtype=th.float64, requires_grad=True)
        expectile_loss(th.tensor([0.0, 1.0], dtype=th.float64) - v, tau).sum().backward()
        assert v.grad.item() == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("max_weight", [100.0, 1.3])
def test_iqls_three_losses(max_weight):
    made = model(IQL, expectile=0.8, beta=2.0, tau=0.25, max_weight=max_weight, seed=2)
    policy = made.policy
    v, logits = table(policy.value)[:, 0], table(policy.actor)
    qs, slows = ([table(net) for net in nets] for nets in (policy.critics, policy.critic_targets))
    figures = step(made)
    s, a, r, s2, discount = columns()
    u = np.minimum(*slows)[s, a] - v[s]
    assert (u > 0).any() and (u < 0).any() and (np.minimum(*slows)[s, a] != slows[0][s, a]).any()
    weight = np.where(u < 0, 0.2, 0.8)
    assert float(figures["value_loss"]) == pytest.approx((weight * u**2).mean(), rel=1e-5)
    np.testing.assert_allclose(table(policy.value)[:, 0], v + LR * 2 * np.bincount(s, weight * u, S) / N, atol=1e-6)
    target = r + discount * v[s2]  # v before its step
    assert float(figures["critic_loss"]) == pytest.approx(sum(((target - q[s, a]) ** 2).mean() for q in qs), rel=1e-5)
    for q, slow, net, slow_net in zip(qs, slows, policy.critics, policy.critic_targets, strict=True):
        moved = q + LR * 2 * scattered(s, a, target - q[s, a]) / N
        np.testing.assert_allclose(table(net), moved, atol=1e-6)
        np.testing.assert_allclose(table(slow_net), 0.75 * slow + 0.25 * moved, atol=1e-6)
    w, pi = np.minimum(np.exp(2.0 * u), max_weight), softmax(logits)
    assert float(figures["actor_loss"]) == pytest.approx(-(w * np.log(pi[s, a])).mean(), rel=1e-5)
    up = (scattered(s, a, w) - np.bincount(s, w, S)[:, None] * pi) / N
    np.testing.assert_allclose(table(policy.actor), logits + LR * up, atol=1e-6)


def test_actions_of_a_box_are_scaled_and_have_this_likelihood():
    box = spaces.Box(np.array([-2.0, 0.0], np.float32), np.array([2.0, 10.0], np.float32))
    rows = np.zeros((1, 1), np.float32)
    one = OfflineDataset(spaces.Box(-1, 1, (1,)), box, rows, np.array([[1.0, 2.5]], np.float32), rows[0], rows,
                         np.array([True]), np.array([False]))  # fmt: skip
    made = BC("MlpPolicy", dataset=one, policy_kwargs={"net_arch": []}, device="cpu")
    policy = made.policy
    np.testing.assert_allclose(policy.scaled(th.tensor([[1.0, 2.5]])), [[0.5, -0.5]])
    with th.no_grad():
        policy.actor.layers[0].weight.zero_()
        policy.actor.layers[0].bias.copy_(th.tensor([0.0, 1.0]))
        policy.log_std.copy_(th.tensor([0.0, np.log(0.5)]))
    found = -float(step_of(made)["loss"])
    z = np.array([0.5 - 0.0, (-0.5 - np.tanh(1.0)) / 0.5])
    assert found == pytest.approx((-0.5 * z**2 - 0.5 * np.log(2 * np.pi) - np.log([1.0, 0.5])).sum(), rel=1e-5)
    made = BC("MlpPolicy", dataset=one, policy_kwargs={"net_arch": []}, device="cpu")
    with th.no_grad():
        made.policy.actor.layers[0].weight.zero_()
        made.policy.actor.layers[0].bias.copy_(th.tensor([0.0, 1.0]))
    action, _ = made.predict(np.zeros(1, np.float32), deterministic=True)
    np.testing.assert_allclose(action, [0.0, 5.0 + 5.0 * np.tanh(1.0)], rtol=1e-5)  # scaled back


def step_of(made):
    batch = made.dataset.batch(np.zeros(1, int), GAMMA)
    policy = made.policy
    return made.train_step(
        batch, policy.inputs(batch.observations), policy.inputs(batch.next_observations), policy.scaled(batch.actions)
    )


def test_observations_are_scaled_by_the_data():
    rows = np.array([[0.0, 5.0], [4.0, 5.0]], np.float32)
    made = BC("MlpPolicy", dataset=OfflineDataset(
        spaces.Box(-9, 9, (2,)), spaces.Discrete(2), rows, np.array([0, 1]), np.zeros(2, np.float32), rows,
        np.array([False, True]), np.array([False, False]),
    ), normalize_observations=True, device="cpu").learn(1)  # fmt: skip
    np.testing.assert_allclose(made.policy.inputs(th.as_tensor(rows)), [[-1.0, 0.0], [1.0, 0.0]])  # what never moves stays
    plain = BC("MlpPolicy", dataset=made.dataset, device="cpu").learn(1)
    np.testing.assert_allclose(plain.policy.inputs(th.as_tensor(rows)), rows)
