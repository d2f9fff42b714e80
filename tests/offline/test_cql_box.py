"""CQL over a Box: the integral by hand and in closed form, every term of a step by a second writing, what the penalty does."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from test_policies_from_values import BOX, LR, N, linear, weights

from sb3_lecture import CQL, OfflineDataset
from sb3_lecture.offline.cql import sampled_logsumexp


def test_the_integral_by_hand():
    uniform, own, log_prob = th.tensor([[1.0], [0.0]]), th.tensor([[2.0], [3.0]]), th.log(th.tensor([[0.5], [2.0]]))
    expected = np.log((np.e / 0.25 + 1 / 0.25 + np.e**2 / 0.5 + np.e**3 / 2.0) / 4)  # two dimensions: U = 1/4
    assert sampled_logsumexp(uniform, own, log_prob, 2).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("slope", "mean"), [(2.0, 0.3), (-3.0, -0.4)])
def test_the_integral_is_the_same_whatever_the_policy(slope, mean):
    """∫ exp(k a) da over [−1, 1] is 2 sinh(k) / k."""
    policy = box_learner().policy
    with th.no_grad():
        policy.actor.layers[0].weight.zero_()
        policy.actor.layers[0].bias.copy_(th.tensor([mean, -0.5]))
        th.manual_seed(0)
        drawn, log_prob = policy.draw(th.zeros(1, 2), 40_000)
        uniform = 2 * th.rand(40_000, 1) - 1
        found = sampled_logsumexp(slope * uniform, slope * drawn[..., 0], log_prob, 1)
    assert found.item() == pytest.approx(np.log(2 * np.sinh(slope) / slope), abs=0.02)


def test_the_density_of_what_is_drawn_sums_to_one():
    policy = box_learner().policy
    with th.no_grad():
        drawn, log_prob = policy.draw(th.zeros(1, 2), 20_000)  # E 1 / π over draws is the length of [−1, 1]
        assert (-log_prob).exp().mean().item() == pytest.approx(2.0, abs=0.1)
        assert drawn.min() >= -1 and drawn.max() <= 1


def box_learner(seed=0, **kwargs):
    """A learner whose networks are linear, with SGD, and its six rows of two observations."""
    rng = np.random.default_rng(seed)
    ends = np.array([0, 0, 1, 0, 1, 0], bool)
    columns = rng.normal(size=(N, 2)), rng.uniform(-2, 2, (N, 1)), rng.normal(size=N), rng.normal(size=(N, 2))
    columns = (x.astype(np.float32) for x in columns)
    data = OfflineDataset(spaces.Box(-9, 9, (2,)), BOX, *columns, ends, ~ends & (np.arange(N) > 2))
    made = CQL("MlpPolicy", dataset=data, gamma=0.5, learning_rate=LR, batch_size=N, device="cpu", seed=seed,
               policy_kwargs={"net_arch": [], "optimizer_class": th.optim.SGD}, **kwargs)  # fmt: skip
    for parameter in made.policy.parameters():
        parameter.data = th.as_tensor(0.5 * rng.normal(size=tuple(parameter.shape)), dtype=th.float32)
    return made


@pytest.mark.parametrize("alpha", [0.0, 1.5])
def test_a_step_is_the_penalty_the_td_error_and_sacs_actor(alpha):
    made = box_learner(alpha=alpha, tau=0.25, n_action_samples=3, seed=1)
    policy, d, n = made.policy, made.dataset, 3
    s, a, s2 = d.observations.astype(float), d.actions.astype(float)[:, 0] / 2, d.next_observations.astype(float)
    head = policy.actor.layers[0]
    w, b = head.weight.detach().numpy().astype(float), head.bias.detach().numpy().astype(float)
    qs, slows = ([weights(net) for net in nets] for nets in (policy.critics, policy.critic_targets))
    entropy = policy.log_entropy_weight.item()

    def draw(states, noise):
        mean, log_std = states @ w[0] + b[0], np.clip(states @ w[1] + b[1], -5, 2)
        u = mean + np.exp(log_std) * noise
        return np.tanh(u), -0.5 * noise**2 - log_std - 0.5 * np.log(2 * np.pi) - np.log(1 - np.tanh(u) ** 2)

    th.manual_seed(7)
    noise = [th.normal(th.zeros(k, N, 1), th.ones(k, N, 1)).numpy()[:, :, 0] for k in (1, n)]
    uniform = 2 * th.rand(n, N, 1).numpy()[:, :, 0] - 1
    noise.append(th.normal(th.zeros(1, N, 1), th.ones(1, N, 1)).numpy()[0, :, 0])
    th.manual_seed(7)
    batch = d.batch(np.arange(N), 0.5)
    inputs, following = policy.inputs(batch.observations), policy.inputs(batch.next_observations)
    figures = made.train_step(batch, inputs, following, policy.scaled(batch.actions))

    a2, _ = draw(s2, noise[0][0])
    target = d.rewards + np.where(d.terminations, 0.0, 0.5) * np.min([linear(q, s2, a2) for q in slows], axis=0)
    own, log_prob = draw(s, noise[1])  # [n, N]
    penalties, tds, moved = [], [], []
    for q in qs:
        proposals = np.concatenate([uniform, own])  # [2n, N]
        mass = np.array([np.exp(linear(q, s, row)) for row in proposals])
        mass /= np.concatenate([np.full((n, N), 0.5), np.exp(log_prob)])
        said = linear(q, s, a)
        penalties.append((np.log(mass.mean(axis=0)) - said).mean())
        tds.append(0.5 * ((target - said) ** 2).mean())
        share = mass / mass.sum(axis=0)
        feature = np.column_stack([s, a, np.ones(N)])
        pushed = np.column_stack([s, (share * proposals).sum(axis=0), np.ones(N)])
        gradient = feature.T @ (said - target) / N + alpha * (pushed - feature).sum(axis=0) / N
        moved.append(q - LR * gradient)
    assert float(figures["penalty"]) == pytest.approx(sum(penalties), rel=1e-4)
    assert float(figures["td_loss"]) == pytest.approx(sum(tds), rel=1e-4)
    for q, slow, net, slow_net in zip(moved, slows, policy.critics, policy.critic_targets, strict=True):
        np.testing.assert_allclose(weights(net), q, atol=1e-5)
        np.testing.assert_allclose(weights(slow_net), 0.75 * slow + 0.25 * q, atol=1e-5)
    acted, log_prob = draw(s, noise[2])
    least = np.min([linear(q, s, acted) for q in moved], axis=0)
    assert float(figures["actor_loss"]) == pytest.approx((np.exp(entropy) * log_prob - least).mean(), rel=1e-4)
    steeper = np.argmin([linear(q, s, acted) for q in moved], axis=0)
    by_u = np.exp(entropy) * 2 * acted - np.array([moved[i][2] for i in steeper]) * (1 - acted**2)  # of the loss, by u
    log_std = s @ w[1] + b[1]
    by_log_std = by_u * np.exp(log_std) * noise[2] - np.exp(entropy)
    step = np.column_stack([s, np.ones(N)]).T @ np.column_stack([by_u, by_log_std]) / N  # [3, 2]
    np.testing.assert_allclose(head.weight.detach().numpy(), w - LR * step[:2].T, atol=1e-5)
    np.testing.assert_allclose(head.bias.detach().numpy(), b - LR * step[2], atol=1e-5)
    assert policy.log_entropy_weight.item() == pytest.approx(entropy + LR * (log_prob - 1).mean(), abs=1e-5)


@pytest.mark.slow
def test_the_penalty_keeps_the_policy_among_what_was_tried():
    """Of one step, that pays its action a, actions in [−0.5, 0.2] were tried: α = 0 goes to where nobody was."""
    rng = np.random.default_rng(0)
    actions = rng.uniform(-1.0, 0.4, (400, 1)).astype(np.float32)  # of [−2, 2]
    rows, ends = np.ones((400, 1), np.float32), np.ones(400, bool)
    data = OfflineDataset(spaces.Box(-1, 1, (1,)), BOX, rows, actions, actions[:, 0] / 2, rows, ends, ~ends)
    found = []
    for alpha in (0.0, 1.0):
        made = CQL("MlpPolicy", dataset=data, alpha=alpha, learning_rate=3e-3, batch_size=64, seed=0, device="cpu",
                   policy_kwargs={"net_arch": [32]}).learn(1500)  # fmt: skip
        found.append(made.predict(np.ones((1, 1), np.float32), deterministic=True)[0][0, 0] / 2)
    assert found[0] > 0.6 and -0.5 <= found[1] <= 0.3


def test_a_box_run_goes_on_where_it_stopped(tmp_path):
    whole = box_learner()
    whole.learn(5)
    whole.save(tmp_path / "model.zip", include_replay=True)
    whole.learn(5, reset_num_timesteps=False)
    th.manual_seed(5), np.random.seed(5)
    loaded = CQL.load(tmp_path / "model.zip").learn(5, reset_num_timesteps=False)
    for a, b in zip(whole.policy.parameters(), loaded.policy.parameters(), strict=True):
        th.testing.assert_close(a, b, rtol=0, atol=0)
