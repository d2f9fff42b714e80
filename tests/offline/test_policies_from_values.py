"""AWAC and TD3+BC: each term of their losses by a second writing, and the policies that closed forms name."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from test_offline_losses import LR, N, S, columns, model, scattered, softmax, step, table

from sb3_lecture import AWAC, TD3BC, OfflineDataset

BOX = spaces.Box(np.array([-2.0], np.float32), np.array([2.0], np.float32))


@pytest.mark.parametrize(("temperature", "max_weight"), [(0.5, 100.0), (2.0, 1.05)])
def test_awacs_two_losses(temperature, max_weight):
    made = model(AWAC, temperature=temperature, tau=0.25, max_weight=max_weight, seed=4)
    policy = made.policy
    logits, qs, slows = (
        table(policy.actor), [table(net) for net in policy.critics], [table(net) for net in policy.critic_targets]
    )  # fmt: skip
    figures = step(made)
    s, a, r, s2, discount = columns()
    pi = softmax(logits)
    assert (np.argmin(slows, axis=0) == 0).any() and (np.argmin(slows, axis=0) == 1).any()  # both are the least somewhere
    target = r + discount * (pi * np.minimum(*slows)).sum(axis=1)[s2]
    assert float(figures["critic_loss"]) == pytest.approx(sum(((target - q[s, a]) ** 2).mean() for q in qs), rel=1e-5)
    moved = [q + LR * 2 * scattered(s, a, target - q[s, a]) / N for q in qs]
    for q, slow, net, slow_net in zip(moved, slows, policy.critics, policy.critic_targets, strict=True):
        np.testing.assert_allclose(table(net), q, atol=1e-6)
        np.testing.assert_allclose(table(slow_net), 0.75 * slow + 0.25 * q, atol=1e-6)
    least = np.minimum(*moved)
    advantage = least[s, a] - (pi * least).sum(axis=1)[s]
    assert (advantage > 0).any() and (advantage < 0).any()
    w = np.minimum(np.exp(advantage / temperature), max_weight)
    assert (w == max_weight).any() == (max_weight < 2)
    assert float(figures["actor_loss"]) == pytest.approx(-(w * np.log(pi[s, a])).mean(), rel=1e-5)
    up = (scattered(s, a, w) - np.bincount(s, w, S)[:, None] * pi) / N
    np.testing.assert_allclose(table(policy.actor), logits + LR * up, atol=1e-6)


def one_step(actions, rewards, action_space):
    """Episodes of one step in a world of one state."""
    n = len(actions)
    rows, ends = np.ones((n, 1), np.float32), np.ones(n, bool)
    return OfflineDataset(spaces.Box(-1, 1, (1,)), action_space, rows, actions, rewards.astype(np.float32), rows, ends, ~ends)


def test_awac_is_the_behaviour_times_the_exponential_of_the_advantage():
    """π(a) ∝ π_β(a) exp(q(a) / λ), eq. (11): action 2 is the best and was never taken."""
    actions = np.repeat([0, 1, 3], [50, 30, 20])
    worth = np.array([0.0, 0.5, 9.0, 1.0])
    data = one_step(actions, worth[actions], spaces.Discrete(4))
    settings = {"learning_rate": lambda x: 0.05 * x, "policy_kwargs": {"net_arch": []}, "device": "cpu", "seed": 0}
    made = AWAC("MlpPolicy", dataset=data, temperature=0.5, **settings).learn(600)
    with th.no_grad():
        found = made.policy.get_distribution(th.ones(1, 1)).distribution.probs[0].numpy()
    expected = np.array([0.5, 0.3, 0.0, 0.2]) * np.exp(worth / 0.5)
    np.testing.assert_allclose(found, expected / expected.sum(), atol=0.03)


@pytest.mark.slow
def test_awac_in_a_box_is_the_weighted_mean_of_what_was_done():
    """Of actions ±1 (of [−2, 2]: ±2), as often, q(a) = k a: their mean under weights exp(q / λ) is tanh(k / λ)."""
    actions = np.tile([[-2.0], [2.0]], (200, 1)).astype(np.float32)
    data = one_step(actions, 0.2 * actions[:, 0] / 2, BOX)
    settings = {"learning_rate": lambda x: 0.03 * x, "policy_kwargs": {"net_arch": []}, "device": "cpu", "seed": 0}
    for temperature in (0.2, 0.8):
        made = AWAC("MlpPolicy", dataset=data, temperature=temperature, batch_size=64, **settings).learn(600)
        action, _ = made.predict(np.ones((1, 1), np.float32), deterministic=True)
        assert action[0, 0] / 2 == pytest.approx(np.tanh(0.2 / temperature), abs=0.06)


def td3bc(seed=0, **kwargs):
    """A learner whose networks are linear, with SGD, and its six rows of two observations."""
    rng = np.random.default_rng(seed)
    ends = np.array([0, 0, 1, 0, 1, 0], bool)
    s, a, r, s2 = rng.normal(size=(N, 2)), rng.uniform(-2, 2, (N, 1)), rng.normal(size=N), rng.normal(size=(N, 2))
    columns_ = (x.astype(np.float32) for x in (s, a, r, s2))
    data = OfflineDataset(spaces.Box(-9, 9, (2,)), BOX, *columns_, ends, ~ends & (np.arange(N) > 2))
    made = TD3BC("MlpPolicy", dataset=data, gamma=0.5, learning_rate=LR, batch_size=N, device="cpu", seed=seed,
                 policy_kwargs={"net_arch": [], "optimizer_class": th.optim.SGD}, **kwargs)  # fmt: skip
    for parameter in made.policy.parameters():
        parameter.data = th.as_tensor(rng.normal(size=tuple(parameter.shape)), dtype=th.float32)
    return made


def weights(network):
    return np.append(network.layers[0].weight.detach().numpy()[0], network.layers[0].bias.item()).astype(np.float64)


def linear(w, *columns_):
    return np.column_stack([*columns_, np.ones(N)]) @ w


@pytest.mark.parametrize("alpha", [0.0, 2.5])
def test_td3bcs_two_losses(alpha):
    made = td3bc(alpha=alpha, tau=0.25, policy_delay=2, target_noise_clip=0.1, seed=1)
    policy, d = made.policy, made.dataset
    actor, slow_actor = weights(policy.actor), weights(policy.actor_target)
    qs, slows = ([weights(net) for net in nets] for nets in (policy.critics, policy.critic_targets))
    s, a, s2 = d.observations.astype(float), d.actions.astype(float) / 2, d.next_observations.astype(float)
    for late in (False, True):  # the policy learns in the second of two steps
        made._n_updates = int(late)
        th.manual_seed(7)
        noise = th.randn(N, 1).numpy()[:, 0] * 0.2
        th.manual_seed(7)
        figures = step(made)
        assert (np.abs(noise) > 0.1).any() and (np.abs(noise) < 0.1).any()
        a2 = np.clip(np.tanh(linear(slow_actor, s2)) + np.clip(noise, -0.1, 0.1), -1, 1)
        target = d.rewards + np.where(d.terminations, 0.0, 0.5) * np.min([linear(w, s2, a2) for w in slows], axis=0)
        inputs = np.column_stack([s, a, np.ones(N)])
        losses = [((target - inputs @ w) ** 2).mean() for w in qs]
        assert float(figures["critic_loss"]) == pytest.approx(sum(losses), rel=1e-4)
        qs = [w + LR * 2 * inputs.T @ (target - inputs @ w) / N for w in qs]
        for w, net in zip(qs, policy.critics, strict=True):
            np.testing.assert_allclose(weights(net), w, atol=1e-5)
        if not late:
            np.testing.assert_array_equal(weights(policy.actor), actor)
            np.testing.assert_array_equal(weights(policy.critic_targets[0]), slows[0])
    pi = np.tanh(linear(actor, s))
    q = linear(qs[0], s, pi)
    scale = alpha / np.abs(q).mean()
    assert float(figures["clone_loss"]) == pytest.approx(((pi - a[:, 0]) ** 2).mean(), rel=1e-4)
    by_action = (2 * (pi - a[:, 0]) - scale * qs[0][2]) * (1 - pi**2) / N  # of the loss, by the actor's output
    moved = actor - LR * np.column_stack([s, np.ones(N)]).T @ by_action
    np.testing.assert_allclose(weights(policy.actor), moved, atol=1e-5)
    np.testing.assert_allclose(weights(policy.actor_target), 0.75 * slow_actor + 0.25 * moved, atol=1e-5)
    for w, slow, net in zip(qs, slows, policy.critic_targets, strict=True):
        np.testing.assert_allclose(weights(net), 0.75 * slow + 0.25 * w, atol=1e-5)


@pytest.mark.slow
def test_td3bc_goes_from_the_mean_of_the_data_to_what_pays_most():
    """α = 0 is the mean of the actions; where q = a + 3, π gives way by λ / 2, λ = α / (π + 3)."""
    actions = np.array([[-1.0], [1.0], [-2.0], [0.0]] * 50, np.float32)  # mean −0.5, of [−1, 1]: −0.25
    data = one_step(actions, actions[:, 0] / 2 + 3, BOX)
    settings = {"learning_rate": lambda x: 0.03 * x, "policy_kwargs": {"net_arch": []}, "device": "cpu", "seed": 0}
    for alpha in (0.0, 2.0, 5.0):
        made = TD3BC("MlpPolicy", dataset=data, alpha=alpha, batch_size=64, normalize_observations=False, **settings)
        with th.no_grad():  # as the critics come out, so that the actor has no way back to go
            for net in (*made.policy.critics, *made.policy.critic_targets):
                net.layers[0].weight.copy_(th.tensor([[1.5, 1.0]])), net.layers[0].bias.fill_(1.5)
        made.learn(500)
        np.testing.assert_allclose(weights(made.policy.critics[0])[1], 1.0, atol=1e-3)
        action, _ = made.predict(np.ones((1, 1), np.float32))
        pi = np.linspace(-1, 1, 20001)
        still = np.abs(2 * (pi + 0.25) - alpha / (pi + 3))  # where the gradient is 0
        assert action[0, 0] / 2 == pytest.approx(pi[still.argmin()], abs=0.04)


def test_td3bc_goes_on_where_it_stopped(tmp_path):
    whole = td3bc()
    whole.learn(7)
    whole.save(tmp_path / "model.zip", include_replay=True)
    whole.learn(8, reset_num_timesteps=False)
    th.manual_seed(5), np.random.seed(5)
    loaded = TD3BC.load(tmp_path / "model.zip").learn(8, reset_num_timesteps=False)
    for a, b in zip(whole.policy.parameters(), loaded.policy.parameters(), strict=True):
        th.testing.assert_close(a, b, rtol=0, atol=0)


def test_what_does_not_fit_is_one_line():
    for build, words in (
        (lambda: TD3BC("MlpPolicy", "CartPole-v1"), "Box"),
        (lambda: TD3BC("MlpPolicy", "Pendulum-v1", alpha=-1.0), "alpha=-1.0"),
        (lambda: TD3BC("MlpPolicy", "Pendulum-v1", policy_delay=0), "policy_delay=0"),
        (lambda: AWAC("MlpPolicy", "CartPole-v1", temperature=0.0), "temperature=0.0"),
    ):
        with pytest.raises(ValueError, match=words):
            build()


def test_the_value_of_a_policy_over_a_box_is_the_least_critic_at_what_it_draws():
    """Critics a + i over actions in [-1, 1], a policy close to ½: E min = ½ and not ½ + i, nor 0."""
    rows, ends = np.ones((2, 1), np.float32), np.ones(2, bool)
    data = OfflineDataset(BOX, BOX, rows, np.zeros((2, 1), np.float32), np.zeros(2, np.float32), rows, ends, ~ends)
    policy = AWAC("MlpPolicy", dataset=data, policy_kwargs={"net_arch": []}, device="cpu", seed=0).policy
    with th.no_grad():
        for i, critic in enumerate(policy.critics):
            critic.layers[0].weight.copy_(th.tensor([[0.0, 1.0]]))  # of s and a
            critic.layers[0].bias.fill_(float(i))
        policy.actor.layers[0].weight.zero_()
        policy.actor.layers[0].bias.fill_(np.arctanh(0.5))
        policy.log_std.fill_(-9.0)  # held at e⁻⁵
        values = policy.value(policy.critics, th.ones(500, 1))
    assert values.mean().item() == pytest.approx(0.5, abs=2e-3) and 0.004 < values.std().item() < 0.01
