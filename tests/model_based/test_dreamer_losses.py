"""Every term of DreamerV3's losses: worked numbers, second writings, and each coefficient's effect."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.logger import configure

from sb3_lecture import DreamerV3
from sb3_lecture.model_based.dreamer_latents import CategoricalLatent, GaussianLatent
from sb3_lecture.model_based.dreamer_networks import SIZES, Actor, ContinueHead, Decoder, Inputs, TwoHotHead, make_latent
from sb3_lecture.model_based.dreamer_rssm import kl_losses

TINY = {"size": "debug", "deter": 16, "hidden": 8, "units": 8, "stoch": 4, "classes": 4, "bins": 15, "depth": 2, "blocks": 4}


class Toggle(gym.Env):
    """What is seen alternates, six steps an episode, cut or ended in turn; the reward is the number of the step."""

    def __init__(self, observation_space, action_space=None):
        self.observation_space, self.action_space = observation_space, action_space or spaces.Discrete(2)
        self.episodes = 0

    def _look(self):
        space = self.observation_space
        low, high = (space.low, space.high) if isinstance(space, spaces.Box) else (np.zeros(space.shape), np.ones(space.shape))
        return (low if self.t % 2 else high).astype(space.dtype)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.episodes = 0, self.episodes + 1
        return self._look(), {}

    def step(self, action):
        self.t += 1
        over, cut = self.t == 6, self.episodes % 2 == 1
        return self._look(), float(self.t), over and not cut, over and cut, {}


BOX = spaces.Box(-3.0, 5.0, (3,), np.float32)


def build(env=None, policy="MlpPolicy", policy_kwargs=None, **more):
    settings = dict(batch_size=4, batch_length=8, learning_starts=20, horizon=4, buffer_size=500, seed=0, device="cpu")
    model = DreamerV3(policy, env or Toggle(BOX), policy_kwargs={**TINY, **(policy_kwargs or {})}, **settings | more)
    return model


@pytest.fixture(scope="module")
def model():
    """A model whose heads are no longer 0, with episodes that end and episodes that are cut."""
    model = build(replay_ratio=1e-9, free_bits=0.01).learn(120)
    th.manual_seed(0)
    with th.no_grad():
        for p in model.policy.parameters():
            p += 0.2 * th.randn_like(p)
        for head in (model.policy.reward, model.policy.critic, model.policy.slow_critic):  # numbers of some size, near 0
            head.last.bias -= 0.3 * th.arange(-7.0, 8.0).square()
            head.last.weight += 0.5 * th.randn_like(head.last.weight)
        model.policy.actor.last.weight += th.randn_like(model.policy.actor.last.weight)
        model.policy.return_range.fill_(400.0)
    return model


@pytest.fixture
def batch(model):
    np.random.seed(0)
    batch = model.replay_buffer.sample(10)
    cut, inside = batch.is_last & ~batch.is_terminal, slice(1, -1)
    assert batch.is_terminal[inside].any() and cut[inside].any() and batch.is_first[inside].any()
    return batch


def world(model, batch):
    th.manual_seed(3)
    return model.world_loss(batch)


# --- worked numbers --------------------------------------------------------------------------------------------------


def test_kl_losses_by_hand():
    """q = (¾, ¼), p = (½, ½): KL = ¾ ln 3/2 + ¼ ln 1/2; it moves p's logits by p − q and q's by q (ln q/p − KL)."""
    latent, kl = CategoricalLatent(1, 2, unimix=0.0), 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    post, prior = th.tensor([math.log(3.0), 0.0]).requires_grad_(), th.zeros(2).requires_grad_()
    for free_bits, number, moves in ((0.0, kl, 1.0), (0.13, kl, 1.0), (0.14, 0.14, 0.0), (1.0, 1.0, 0.0)):
        dyn, rep = kl_losses(latent, post, prior, free_bits)
        assert dyn.item() == pytest.approx(number, rel=1e-5) and rep.item() == pytest.approx(number, rel=1e-5)
        grad = th.autograd.grad(dyn, (post, prior), allow_unused=True, retain_graph=True)
        assert grad[0] is None and grad[1].tolist() == pytest.approx([-0.25 * moves, 0.25 * moves], abs=1e-6)
        grad = th.autograd.grad(rep, (post, prior), allow_unused=True)
        push = 0.75 * (math.log(1.5) - kl) * moves
        assert grad[1] is None and grad[0].tolist() == pytest.approx([push, -push], abs=1e-6)


def test_free_bits_are_counted_over_all_variables_together():
    """Two variables of 0.131 nats each are 0.262: above 0.2, though each is below it."""
    latent = CategoricalLatent(2, 2, unimix=0.0)
    post, prior = th.tensor([math.log(3.0), 0.0, math.log(3.0), 0.0]), th.zeros(4)
    assert kl_losses(latent, post, prior, 0.2)[0].item() == pytest.approx(2 * 0.1308, abs=1e-3)


def test_gaussian_kl_by_hand():
    """KL(N(1, 1) ‖ N(0, 2²)) = ln 2 + (1 + 1) / 8 − ½; σ = softplus(x) + 0.1."""
    latent = GaussianLatent(1)
    raw = [math.log(math.expm1(std - 0.1)) for std in (1.0, 2.0)]
    kl = latent.kl(th.tensor([1.0, raw[0]]), th.tensor([0.0, raw[1]]))
    assert kl.item() == pytest.approx(math.log(2.0) + 0.25 - 0.5, abs=1e-5)


def test_the_one_percent_mix_by_hand():
    latent = CategoricalLatent(1, 2)
    logits = th.tensor([50.0, -50.0])  # all but certain: (0.995, 0.005) after the mix
    kl = latent.kl(logits, -logits).item()
    assert kl == pytest.approx(0.99 * math.log(0.995 / 0.005), abs=1e-4)


def test_the_continue_loss_by_hand():
    """A probability of ¾: −ln ¼ at an end, −0.9 ln ¾ − 0.1 ln ¼ where γ = 0.9 is left."""
    sizes = SIZES["debug"]
    head = ContinueHead(make_latent("categorical", sizes), sizes)
    with th.no_grad():
        head.last.weight.zero_()
        head.last.bias.fill_(math.log(3.0))
    h, z = th.randn(2, sizes.deter), th.randn(2, sizes.stoch * sizes.classes)
    assert head.discount(h, z).tolist() == pytest.approx([0.75, 0.75])
    expected = [-math.log(0.25), -0.9 * math.log(0.75) - 0.1 * math.log(0.25)]
    assert head.loss(h, z, th.tensor([0.0, 0.9])).tolist() == pytest.approx(expected, rel=1e-5)


def test_the_two_hot_loss_by_hand():
    """Five bins −4.9e8, −22025, 0, 22025, 4.9e8; a quarter of 22025 has the weights ¾ and ¼; logits (0, 0, ln 2, 0, 0)."""
    sizes = SIZES["debug"]._replace(bins=5)
    head = TwoHotHead(make_latent("categorical", sizes), sizes, 1)
    step = math.expm1(10.0)
    assert head.bins.tolist() == pytest.approx([-math.expm1(20.0), -step, 0.0, step, math.expm1(20.0)], rel=1e-5)
    logits = th.tensor([0.0, 0.0, math.log(2.0), 0.0, 0.0])
    assert head.loss(logits, th.tensor(step / 4)).item() == pytest.approx(math.log(6.0) - 0.75 * math.log(2.0), rel=1e-5)
    both = head.loss(logits, th.tensor(step / 4), th.tensor(-step))
    assert both.item() == pytest.approx(2 * math.log(6.0) - 0.75 * math.log(2.0), rel=1e-5)
    shifted = th.tensor([-99.0, -99.0, math.log(3.0), 0.0, -99.0])  # ¾ and ¼ again
    assert head.mean(shifted).item() == pytest.approx(step / 4, rel=1e-4)


def test_the_decoders_loss_by_hand():
    """Numbers: (1.5 − symlog(e² − 1))² = ¼. Pictures: every white pixel is ½ and grey is foretold, ¼ each."""
    sizes = SIZES["debug"]._replace(deter=8, units=8, depth=2)
    latent = make_latent("categorical", sizes)
    space = spaces.Dict({"v": spaces.Box(-9, 9, (2,)), "i": spaces.Box(0, 255, (3, 16, 16), np.uint8)})
    inputs = Inputs(space, "auto")
    decoder = Decoder(inputs, latent, sizes)
    with th.no_grad():
        decoder.mlp.last.weight.zero_()
        decoder.mlp.last.bias.copy_(th.tensor([1.5, 0.0]))
        decoder.cnn[-1].weight.zero_()
    seen = {"v": th.tensor([[math.e**2 - 1, 0.0]]), "i": th.full((1, 3, 16, 16), 255, dtype=th.uint8)}
    h, z = th.randn(1, 8), th.randn(1, latent.width)
    assert decoder.loss(h, z, *inputs(seen)).item() == pytest.approx(0.25 + 0.25 * 3 * 16 * 16, rel=1e-5)


def test_normal_actions_by_hand():
    """Mean tanh(½), σ = 0.1 + 0.9 sigmoid(2 + 1): the density and the entropy of two such numbers."""
    sizes = SIZES["debug"]
    actor = Actor(spaces.Box(-1.0, 1.0, (2,)), make_latent("categorical", sizes), sizes)
    with th.no_grad():
        actor.last.weight.zero_()
        actor.last.bias.copy_(th.tensor([0.5, 0.5, 1.0, 1.0]))
    h, z = th.randn(1, sizes.deter), th.randn(1, sizes.stoch * sizes.classes)
    mean, std = math.tanh(0.5), 0.1 + 0.9 / (1 + math.exp(-3.0))
    log_prob, entropy = actor.evaluate(h, z, th.tensor([[0.9, -0.3]]))
    density = [math.exp(-0.5 * ((x - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi)) for x in (0.9, -0.3)]
    assert log_prob.item() == pytest.approx(sum(map(math.log, density)), rel=1e-5)
    assert entropy.item() == pytest.approx(2 * 0.5 * math.log(2 * math.pi * math.e * std**2), rel=1e-5)
    assert actor.draw(h, z, deterministic=True).tolist() == [[pytest.approx(mean)] * 2]


# --- the world model's loss ------------------------------------------------------------------------------------------


def test_the_worlds_loss_is_the_weighted_sum_of_its_parts(model, batch, monkeypatch):
    for name, number in {"decoder_coef": 7.0, "dyn_coef": 0.5, "rep_coef": 0.25}.items():
        monkeypatch.setattr(model, name, number)
    loss, _, parts = world(model, batch)
    kl = parts["kl"]  # L_dyn and L_rep are one number
    expected = 7.0 * parts["decoder_loss"] + parts["reward_loss"] + parts["continue_loss"] + 0.75 * kl
    th.testing.assert_close(loss, expected)
    assert min(part.item() for part in parts.values()) > 0.05  # none of them is lost beside the others


def test_what_is_foretold_is_what_came(model, batch, monkeypatch):
    """The reward head is shown r_t, the continue head γ but for true ends: a cut is none."""
    shown = {}
    for name in ("reward", "proceed"):
        head = getattr(model.policy, name)
        monkeypatch.setattr(head, "loss", lambda *a, name=name, loss=head.loss: shown.update({name: a[-1]}) or loss(*a))
    world(model, batch)
    assert th.equal(shown["reward"], batch.rewards)
    expected = [[0.0 if end else model.gamma for end in row] for row in batch.is_terminal.tolist()]
    assert shown["proceed"].tolist() == [pytest.approx(row) for row in expected]


def gradient(loss, *modules):
    flat = [p for module in modules for p in module.parameters() if p.requires_grad]
    grads = th.autograd.grad(loss, flat, allow_unused=True, retain_graph=True)
    return th.cat([th.zeros(p.numel()) if g is None else g.flatten() for g, p in zip(grads, flat, strict=True)])


def test_the_prior_learns_by_dyn_coef_alone_and_the_posterior_by_rep_coef_too(model, batch, monkeypatch):
    policy = model.policy

    def both(dyn, rep):
        monkeypatch.setattr(model, "dyn_coef", dyn)
        monkeypatch.setattr(model, "rep_coef", rep)
        return gradient(world(model, batch)[0], policy.rssm.prior), gradient(world(model, batch)[0], policy.rssm.post_params)

    (prior, post), (prior_rep, post_rep), (prior_dyn, _) = both(1.0, 0.0), both(1.0, 2.0), both(3.0, 0.0)
    assert prior.norm() > 0
    th.testing.assert_close(prior_rep, prior)
    th.testing.assert_close(prior_dyn, 3.0 * prior)
    assert (post_rep - post).norm() > 0.01 * post.norm()


def test_free_bits_silence_the_kl(model, batch, monkeypatch):
    kl = world(model, batch)[2]["kl"].item()
    monkeypatch.setattr(model, "free_bits", 50.0)
    loss, _, parts = world(model, batch)
    assert parts["kl"].item() == 50.0 and kl < 20.0
    assert gradient(loss, model.policy.rssm.prior).norm() == 0.0


# --- actor and critic ------------------------------------------------------------------------------------------------


def dream_of(model, observed, monkeypatch):
    """The behaviour's loss, what it returns, and the dream that it came from."""
    dreams = []
    imagine = model.policy.rssm.imagine
    monkeypatch.setattr(model.policy.rssm, "imagine", lambda *a, **k: dreams.append(imagine(*a, **k)) or dreams[-1])
    th.manual_seed(4)
    loss, returns, parts = model.behaviour_loss(observed)
    return loss, returns, parts, dreams[0]


def test_the_behaviours_returns_and_critic_loss_written_a_second_time(model, batch, monkeypatch):
    """λ-returns by recursion, one dream after the other; the critic is drawn to them and to its slow copy, by the chance to be
    there at all."""
    policy = model.policy
    _, observed, _ = world(model, batch)
    loss, returns, parts, dream = dream_of(model, observed, monkeypatch)
    th.testing.assert_close(loss, parts["actor_loss"] + parts["critic_loss"])
    n, lam = dream.deter.shape[1], model.gae_lambda
    assert n == batch.rewards.numel() and len(dream.actions) == model.horizon
    th.testing.assert_close(dream.deter[0], observed.deter.detach().flatten(0, 1))
    with th.no_grad():
        r = policy.reward.mean(policy.reward(dream.deter, dream.z)).double()  # [H + 1, N]
        c = policy.proceed.discount(dream.deter, dream.z).double()
        v = policy.critic.mean(policy.critic(dream.deter, dream.z)).double()
        slow = policy.slow_critic.mean(policy.slow_critic(dream.deter, dream.z))
    expected, chances = th.zeros(model.horizon, n), th.zeros(model.horizon, n)
    for i in range(n):
        g, chance = v[-1, i], 1.0
        for t in reversed(range(model.horizon)):
            g = r[t + 1, i] + c[t + 1, i] * ((1 - lam) * v[t + 1, i] + lam * g)  # (eq. 5)
            expected[t, i] = g
        for t in range(model.horizon):
            chance *= c[t, i].item()
            chances[t, i] = chance
    th.testing.assert_close(returns, expected, rtol=1e-4, atol=1e-4)
    logits = policy.critic(dream.deter[:-1], dream.z[:-1])
    log_p = logits.log_softmax(-1)
    total = th.zeros(())
    for target in (expected, slow[:-1]):
        for t in range(model.horizon):
            for i in range(n):
                j = int((policy.critic.bins <= target[t, i]).sum()) - 1
                low, high = policy.critic.bins[j], policy.critic.bins[j + 1]
                share = (target[t, i] - low) / (high - low)
                total = total - chances[t, i] * ((1 - share) * log_p[t, i, j] + share * log_p[t, i, j + 1])
    total = total / (n * model.horizon)
    assert parts["critic_loss"].item() == pytest.approx(total.item(), rel=1e-4)
    actual, expected = gradient(loss, policy.critic), gradient(total, policy.critic)
    th.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-5)


def test_the_return_range_divides_the_advantage_and_never_below_one(model, batch, monkeypatch):
    """With S = 400 the reinforce term is a quarter of what it is with S = 100; below 1 nothing is divided."""
    _, observed, _ = world(model, batch)
    monkeypatch.setattr(model, "ent_coef", 0.0)
    grads = []
    for number in (100.0, 400.0, 1.0, 0.2):
        monkeypatch.setattr("sb3_lecture.model_based.dreamer_v3.RANGE_RATE", 0.0)  # S stays
        model.policy.return_range.fill_(number)
        grads.append(gradient(dream_of(model, observed, monkeypatch)[0], model.policy.actor))
    model.policy.return_range.fill_(400.0)
    th.testing.assert_close(grads[0], 4.0 * grads[1], rtol=1e-4, atol=1e-8)
    th.testing.assert_close(grads[2], grads[3])
    assert grads[2].norm() > 50 * grads[0].norm()


def test_the_replayed_returns_and_their_loss_written_a_second_time(model, batch):
    """Row by row: the true reward and end, the imagined return in the place of the value, nothing beyond an episode's last."""
    policy, lam = model.policy, model.gae_lambda
    _, observed, _ = world(model, batch)
    boot = 100.0 * th.randn(batch.rewards.shape)
    loss = model.replay_value_loss(batch, observed, boot)
    logits = policy.critic(observed.deter, observed.z)  # [T, B, bins]
    with th.no_grad():
        slow = policy.slow_critic.mean(policy.slow_critic(observed.deter, policy.latent.compact(observed.z)))
    steps, n = batch.rewards.shape
    total = th.zeros(())
    for i in range(n):
        g = boot[-1, i].item()
        for t in reversed(range(steps - 1)):
            if batch.is_terminal[t + 1, i]:
                g = batch.rewards[t + 1, i].item()
            elif batch.is_last[t + 1, i]:
                g = batch.rewards[t + 1, i].item() + model.gamma * boot[t + 1, i].item()
            else:
                g = batch.rewards[t + 1, i].item() + model.gamma * ((1 - lam) * boot[t + 1, i].item() + lam * g)
            if not batch.is_last[t, i]:
                total = total + policy.critic.loss(logits[t, i], th.tensor(g)) + policy.critic.loss(logits[t, i], slow[t, i])
    total = total / ((steps - 1) * n)
    th.testing.assert_close(loss, total, rtol=1e-4, atol=1e-5)
    parts = policy.critic, policy.rssm, policy.encoder
    actual, expected = gradient(loss, *parts), gradient(total, *parts)
    th.testing.assert_close(actual, expected, rtol=1e-3, atol=1e-5)


def test_the_whole_loss_is_the_sum_of_its_parts(model, batch):
    th.manual_seed(3)
    loss, _, parts = model.losses(batch)
    expected = parts["world_loss"] + parts["actor_loss"] + parts["critic_loss"] + 0.3 * parts["replay_value_loss"]
    th.testing.assert_close(loss.detach(), expected)


def test_the_slow_critic_follows_by_tau():
    fast = {"optimizer_kwargs": {"warmup": 0}}
    model = build(policy_kwargs=fast, replay_ratio=1e-9, tau=0.3, learning_rate=1e-2).learn(60)
    model.set_logger(configure(None, []))
    old = [p.clone() for p in model.policy.slow_critic.parameters()]
    model._owed = 1.0
    model.train(1, 4)
    moved = 0.0
    for before, slow, fast in zip(old, model.policy.slow_critic.parameters(), model.policy.critic.parameters(), strict=True):
        th.testing.assert_close(slow, 0.7 * before + 0.3 * fast, rtol=1e-4, atol=1e-5)
        moved += (fast - before).abs().sum().item()
    assert moved > 1.0


def test_the_learning_rate_follows_its_schedule():
    model = build(replay_ratio=1e-9, learning_rate=lambda remaining: 1e-3 * remaining).learn(60)
    model.set_logger(configure(None, []))
    for remaining in (0.5, 0.1):
        model._current_progress_remaining, model._owed = remaining, 1.0
        model.train(1, 4)
        assert model.policy.optimizer.param_groups[0]["lr"] == pytest.approx(1e-3 * remaining)


@pytest.mark.parametrize(
    ("argument", "value"),
    [
        ("gamma", 0.5), ("gae_lambda", 0.1), ("horizon", 2), ("ent_coef", 1.0), ("decoder_coef", 2.0), ("dyn_coef", 2.0),
        ("rep_coef", 2.0), ("free_bits", 20.0), ("batch_length", 4), ("batch_size", 3), ("actor_gradient", "dynamics"),
    ],
)  # fmt: skip
def test_every_argument_of_the_losses_has_an_effect(argument, value):
    env = Toggle(BOX, spaces.Box(-1.0, 1.0, (2,), np.float32))
    found = []
    for more in ({}, {argument: value}):
        model = (
            build(env, replay_ratio=1e-9, free_bits=0.0, **more)
            if "free_bits" not in more
            else build(env, replay_ratio=1e-9, **more)
        )
        model.learn(40)
        th.manual_seed(0)
        np.random.seed(0)
        with th.no_grad():
            for head in (model.policy.reward, model.policy.critic, model.policy.slow_critic):
                head.last.weight.normal_()
        loss, _, _ = model.losses(model.replay_buffer.sample(model.batch_size))
        found.append(gradient(loss, model.policy))
    assert (found[0] - found[1]).norm() > 1e-4 * found[0].norm()


# --- what is seen is learned -----------------------------------------------------------------------------------------


PIXELS = spaces.Box(0, 255, (16, 16, 3), np.uint8)


@pytest.mark.parametrize(
    ("space", "policy", "latent", "unknowing"),
    [
        (PIXELS, "CnnPolicy", "categorical", 0.25 * 3 * 256),  # black and white pictures in turn
        (spaces.MultiBinary(6), "MlpPolicy", "categorical", 6 * math.log(2.0)),
        (BOX, "MlpPolicy", "gaussian", 3 * (math.log(24.0) / 2) ** 2),  # symlog −3 and 5 are ln 24 apart
    ],
    ids=["pixels", "bits", "gaussian"],
)
def test_a_world_that_is_certain_is_learned_to_the_bottom(space, policy, latent, unknowing):
    """What is seen alternates. Who knows nothing has the loss ``unknowing`` a step; its floor is 0, and the prior's too."""
    model = build(
        Toggle(space), policy, {"latent": latent, "deter": 32, "units": 16, "hidden": 16}, replay_ratio=1e-9, batch_length=4
    ).learn(60)
    np.random.seed(0)
    batch = model.replay_buffer.sample(4)
    model.free_bits = 0.0
    optimizer = th.optim.Adam(model.policy.parameters(), lr=1e-2)
    for _ in range(100):
        loss, _, parts = model.world_loss(batch)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert parts["decoder_loss"].item() < 0.03 * unknowing
    assert parts["kl"].item() < 0.4  # the prior foresees it too


def test_chance_cannot_be_learned_below_its_entropy():
    """Six fair coins a step: decoder's loss + KL bounds their 6 ln 2 nats (the evidence lower bound), on unseen steps."""

    class Coins(Toggle):
        def _look(self):
            return self.np_random.integers(2, size=6).astype(np.int8)

    model = build(Coins(spaces.MultiBinary(6)), replay_ratio=1e-9, batch_length=4, buffer_size=4000).learn(800)
    model.free_bits, model.rep_coef, optimizer = 0.0, 1.0, th.optim.Adam(model.policy.parameters(), lr=1e-2)
    np.random.seed(0)
    for _ in range(60):
        loss, _, parts = model.world_loss(model.replay_buffer.sample(8))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    fresh = build(Coins(spaces.MultiBinary(6)), replay_ratio=1e-9, batch_length=4, seed=1, buffer_size=4000).learn(800)
    with th.no_grad():
        _, _, parts = model.world_loss(fresh.replay_buffer.sample(64))
    bound = (parts["decoder_loss"] + parts["kl"]).item()
    assert 6 * math.log(2.0) - 0.15 < bound < 6 * math.log(2.0) + 1.0
