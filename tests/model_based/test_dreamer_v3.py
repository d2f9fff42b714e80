"""DreamerV3: returns, gradients, memory and replay as the equations have them; and that it learns."""

from copy import deepcopy

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.logger import configure
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch.distributions import Bernoulli, Categorical

import sb3_lecture_envs  # noqa: F401
from sb3_lecture import DreamerV3
from sb3_lecture.common.distributional import symlog, two_hot
from sb3_lecture.model_based.dreamer_compiled_step import CompiledStep
from sb3_lecture.model_based.dreamer_networks import SIZES, Inputs, TwoHotHead, make_latent
from sb3_lecture.model_based.dreamer_policy import DreamerPolicy
from sb3_lecture.model_based.dreamer_rssm import Observed
from sb3_lecture.model_based.dreamer_v3 import lambda_returns

TINY = {"size": "debug", "deter": 16, "hidden": 8, "units": 8, "stoch": 4, "classes": 4, "bins": 15, "depth": 2, "blocks": 4}
SMALL = {
    "batch_size": 4,
    "batch_length": 8,
    "learning_starts": 20,
    "horizon": 4,
    "buffer_size": 500,
    "seed": 0,
    "device": "cpu",
}


def build(env="CartPole-v1", policy="MlpPolicy", policy_kwargs=None, **more):
    return DreamerV3(policy, env, policy_kwargs={**TINY, **(policy_kwargs or {})}, **{**SMALL, **more})


class Toy(gym.Env):
    """Episodes of n steps that end, or are cut, in a world of any spaces; the reward is the number of the step."""

    def __init__(self, observation_space, action_space, n=7, cut=False):
        self.observation_space, self.action_space, self.n, self.cut = observation_space, action_space, n, cut

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.t += 1
        over = self.t == self.n
        return self.observation_space.sample(), float(self.t), over and not self.cut, over and self.cut, {}


BOX = spaces.Box(-1.0, 1.0, (3,), np.float32)
PIXELS = spaces.Box(0, 255, (16, 16, 3), np.uint8)


# --- returns and heads -----------------------------------------------------------------------------------------------


def test_lambda_returns_are_their_definition():
    rng = np.random.default_rng(0)
    r, d, v, last = rng.normal(size=(6, 3)), rng.random((6, 3)), rng.normal(size=(6, 3)), rng.normal(size=3)

    def slow(t, i, lam):
        following = last[i] if t == 5 else slow(t + 1, i, lam)
        return r[t, i] + d[t, i] * ((1 - lam) * v[t, i] + lam * following)

    tensors = [th.tensor(x) for x in (r, d, v, last)]
    for lam in (0.0, 0.95, 1.0):
        expected = [[slow(t, i, lam) for i in range(3)] for t in range(6)]
        np.testing.assert_allclose(lambda_returns(*tensors, lam), expected)
    np.testing.assert_allclose(lambda_returns(*tensors, 0.0), r + d * v)  # one step


def test_a_cut_episode_is_bootstrapped_with_the_value_and_an_ended_one_is_not():
    r, v, last = th.ones(3, 1), 10.0 * th.ones(3, 1), th.full((1,), 100.0)
    cut = lambda_returns(r, th.full((3, 1), 0.9), v, last, 0.95 * th.tensor([[1.0], [0.0], [1.0]]))
    assert cut[1].item() == pytest.approx(1 + 0.9 * 10)  # nothing of what follows the cut
    ended = lambda_returns(r, th.tensor([[0.9], [0.0], [0.9]]), v, last, 0.95)
    assert ended[1].item() == 1.0


@pytest.mark.parametrize("size", ["debug", "XS"])
def test_a_two_hot_head_starts_at_zero_and_its_loss_is_least_at_the_target(size):
    sizes = SIZES[size]
    head = TwoHotHead(make_latent("categorical", sizes), sizes, 1)
    h, z = th.randn(4, sizes.deter), th.randn(4, sizes.stoch * sizes.classes)
    assert (head.mean(head(h, z)) == 0).all()
    targets = th.tensor([-3000.0, -0.4, 0.0, 77.0])
    logits = two_hot(targets, head.bins).add(1e-30).log().requires_grad_()
    th.testing.assert_close(head.mean(logits.detach()), targets)
    (gradient,) = th.autograd.grad(head.loss(logits, targets).sum(), logits)
    assert gradient.abs().max() < 1e-6
    other = th.randn(4, sizes.bins)
    assert (head.loss(other, targets) > head.loss(logits, targets)).all()
    both = head.loss(other, targets, -targets)
    th.testing.assert_close(both, head.loss(other, targets) + head.loss(other, -targets))


def test_the_range_of_returns_is_a_moving_average_of_percentiles():
    model = build()
    returns = th.linspace(0.0, 1000.0, 2001).view(3, -1)
    for k in range(1, 4):
        scale = model._return_scale(returns)
        assert model.policy.return_range.item() == pytest.approx(900.0 * (1 - 0.99**k), rel=1e-4)
    assert scale == model.policy.return_range
    small = build()
    assert small._return_scale(0.001 * returns / 1000.0).item() == 1.0


def test_sizes_are_the_papers_and_every_part_can_be_replaced():
    assert (SIZES["size12M"].deter, SIZES["size12M"].hidden, SIZES["size12M"].classes, SIZES["size12M"].units) == (
        2048,
        256,
        16,
        256,
    )
    policy = DreamerPolicy(BOX, spaces.Discrete(2), lambda _: 1e-3, size="XS", deter=32, classes=5, blocks=2)
    assert policy.sizes == SIZES["XS"]._replace(deter=32, classes=5, blocks=2)
    for size, millions in (("size1M", 1), ("size12M", 12)):  # named after their millions of weights, with images
        policy = DreamerPolicy(spaces.Box(0, 255, (3, 64, 64), np.uint8), spaces.Discrete(6), lambda _: 1e-3, size=size)
        n = sum(p.numel() for p in policy.parameters() if p.requires_grad)
        assert 0.6 < n / (millions * 1e6) < 1.5, n


# --- gradients -------------------------------------------------------------------------------------------------------


def learned(module):
    return [p for p in module.parameters() if p.requires_grad]


def touched(model, loss):
    """Parts of the policy that a loss has a gradient for."""
    policy = model.policy
    parts = {
        name: learned(getattr(policy, name)) for name in ("encoder", "rssm", "decoder", "reward", "proceed", "actor", "critic")
    }
    flat = [p for part in parts.values() for p in part]
    grads = iter(th.autograd.grad(loss, flat, allow_unused=True, retain_graph=True))
    reached = {name: [next(grads) for _ in part] for name, part in parts.items()}
    return {name for name, part in reached.items() if any(g is not None and g.abs().sum() > 0 for g in part)}


@pytest.fixture(scope="module")
def trained():
    model = build(replay_ratio=1)
    model.learn(120)
    with th.no_grad():  # heads that start at 0 pass no gradient on
        for head in (model.policy.reward, model.policy.critic):
            head.last.weight.normal_()
    return model


def test_each_loss_reaches_what_it_must_and_stops_where_it_must(trained):
    batch = trained.replay_buffer.sample(4)
    world_loss, observed, _ = trained.world_loss(batch)
    assert touched(trained, world_loss) == {"encoder", "rssm", "decoder", "reward", "proceed"}
    behaviour_loss, returns, _ = trained.behaviour_loss(observed)
    assert touched(trained, behaviour_loss) == {"actor", "critic"}
    replay_loss = trained.replay_value_loss(batch, observed, returns[0].view_as(batch.rewards))
    assert touched(trained, replay_loss) == {"encoder", "rssm", "critic"}
    assert not any(p.requires_grad for p in trained.policy.slow_critic.parameters())


def test_the_actor_is_moved_towards_actions_that_beat_the_critic(trained, monkeypatch):
    """The gradient is that of −Σ w sg(A) log π − η H, with everything but π held fixed."""
    model, policy = trained, trained.policy
    monkeypatch.setattr(model, "ent_coef", 1.0)  # as much as the advantages
    batch = model.replay_buffer.sample(4)
    with th.no_grad():
        _, observed, _ = model.world_loss(batch)
    th.manual_seed(5)
    policy.return_range.zero_()
    loss, returns, _ = model.behaviour_loss(observed)
    actual = th.autograd.grad(loss, learned(policy.actor))
    th.manual_seed(5)
    with th.no_grad():
        h, z = observed.deter.flatten(0, 1), policy.latent.compact(observed.z.flatten(0, 1))
        dream = policy.rssm.imagine(h, z, policy.actor.draw, model.horizon, 2)
        values = policy.critic.mean(policy.critic(dream.deter, dream.z))
        weights = policy.proceed.discount(dream.deter, dream.z).cumprod(0)[:-1]
        advantages = (returns - values[:-1]) / policy.return_range.clamp(min=1.0)
    logits = policy.actor(dream.deter[:-1], dream.z[:-1])
    probs = 0.99 * logits.softmax(-1) + 0.01 / 2
    dist = th.distributions.Categorical(probs=probs)
    expected = -(weights * (advantages * dist.log_prob(dream.actions) + model.ent_coef * dist.entropy())).mean()
    for a, b in zip(actual, th.autograd.grad(expected, learned(policy.actor)), strict=True):
        th.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_dynamics_backprop_teaches_the_actor_alone_and_by_the_return():
    env = Toy(BOX, spaces.Box(-2.0, 2.0, (2,), np.float32))
    model = build(env, actor_gradient="dynamics", policy_kwargs={"latent": "gaussian"}, replay_ratio=1, ent_coef=0.0)
    model.learn(60)
    with th.no_grad():  # rewards of some size, without the far ends of the bins
        model.policy.reward.last.weight.normal_(std=0.5)
        model.policy.reward.last.bias.copy_(-symlog(model.policy.reward.bins).square())
        model.policy.actor.last.bias[2:] = -8.0  # σ = 0.1: no action beyond ±1, where the gradient is that of a bound given up
    np.random.seed(0)
    _, observed, _ = model.world_loss(model.replay_buffer.sample(4))
    observed = Observed(*(part.detach() for part in observed))
    th.manual_seed(1)
    model.policy.return_range.zero_()
    loss, _, parts = model.behaviour_loss(observed)
    assert touched(model, loss) == {"actor", "critic"}
    gradient = th.autograd.grad(parts["actor_loss"], learned(model.policy.actor))
    length = sum((g**2).sum() for g in gradient).sqrt().item()
    ends, step = [], 3e-3  # to both sides along the gradient, in the same dream: its length is the slope between them
    for side in (step, -2 * step):
        with th.no_grad():
            for p, g in zip(learned(model.policy.actor), gradient, strict=True):
                p += side * g / length
        th.manual_seed(1)
        model.policy.return_range.zero_()
        ends.append(model.behaviour_loss(observed)[2]["actor_loss"].item())
    assert (ends[0] - ends[1]) / (2 * step) == pytest.approx(length, rel=0.15)  # the weights' slope is left out


# --- acting ----------------------------------------------------------------------------------------------------------


def test_predict_carries_the_latent():
    model = build()
    with th.no_grad():
        model.policy.actor.last.weight.normal_(std=3.0)
    observations = np.random.default_rng(0).normal(size=(6, 3, 4)).astype(np.float32)  # [time, env, number]
    state, starts = None, np.ones(3, bool)
    path = []
    for t, batch in enumerate(observations):
        starts = np.array([t == 0, t == 0, t in (0, 4)])
        _, state = model.predict(batch, state, starts, deterministic=True)
        path.append(state)
    fresh = model.predict(observations[4], None, None, deterministic=True)[1]
    np.testing.assert_allclose(path[4][0][2], fresh[0][2], atol=1e-6)  # the third env began anew …
    assert np.abs(path[4][0][:2] - fresh[0][:2]).max() > 1e-3  # … the others remember
    one, one_state = model.predict(observations[0, 0], deterministic=True)
    assert one.shape == () and np.allclose(one_state[0][0], path[0][0][0], atol=1e-6)
    assert model.policy.predict(observations[0], deterministic=True)[0].shape == (3,)


def test_a_model_of_the_time_without_biases_is_refused_in_one_line():
    model = build()
    old = {name: p for name, p in model.policy.state_dict().items() if not name.endswith("in_z_bias")}
    with pytest.raises(ValueError, match=r"no biases .* train it again"):
        model.set_parameters({"policy": old}, exact_match=True)


def test_parameters_that_lack_one_are_set_unless_they_must_match():
    model = build()
    part = {name: p + 1.0 for name, p in model.policy.state_dict().items() if name != "slow_critic.last.bias"}
    with pytest.raises(RuntimeError, match=r"slow_critic\.last\.bias"):
        model.policy.load_state_dict(part)
    model.set_parameters({"policy": part}, exact_match=False)
    th.testing.assert_close(model.policy.return_range, part["return_range"])


@pytest.mark.parametrize("deterministic", [True, False])
@pytest.mark.parametrize("parts", [{}, {"norm": "rms", "layers": 3}, {"blocks": 1}])
@pytest.mark.parametrize("actions", [spaces.Box(-1.0, 1.0, (2,), np.float32), spaces.Discrete(4)])
def test_the_compiled_step_is_the_step_of_torch(actions, parts, deterministic, monkeypatch):
    env = Toy(spaces.Dict({"a": BOX, "b": spaces.Discrete(3)}), actions)
    model = build(env, "MultiInputPolicy", policy_kwargs=parts)
    with th.no_grad():  # weights that are not new: no scale is 1, no bias and no shift 0
        th.manual_seed(1)
        for p in model.policy.parameters():
            p += 0.2 * th.randn_like(p)
    policy, rng = model.policy, np.random.default_rng(0)
    paths = []
    for serves in (True, False):
        monkeypatch.setattr(CompiledStep, "serves", staticmethod(lambda policy, serves=serves: serves))
        policy._compiled = None  # one that still follows the weights would be kept
        th.manual_seed(0)
        rng, memory, path = np.random.default_rng(0), policy.memory(3), []
        for t in range(5):
            observations = {"a": th.tensor(rng.normal(size=(3, 3)), dtype=th.float32), "b": th.tensor(rng.integers(3, size=3))}
            is_first = th.tensor([t == 0, t in (0, 2), t == 0])
            actions, memory = policy.step(observations, memory, is_first, deterministic)
            path.append((actions, *memory))
        paths.append(path)
        assert (policy._compiled is not None) == serves
    for a, b in zip(*paths, strict=True):
        for x, y in zip(a, b, strict=True):
            th.testing.assert_close(x, y, rtol=1e-4, atol=1e-5)


def test_the_compiled_step_follows_training_and_copies():
    model = build()
    observation = np.ones((1, 4), np.float32)
    model.predict(observation, deterministic=True)
    with th.no_grad():
        for p in model.policy.parameters():
            p += 0.1 * th.randn_like(p)
    for policy in (model.policy, deepcopy(model.policy)):
        with th.no_grad():
            for p in policy.parameters():
                p += 0.1 * th.randn_like(p)
        state = policy.predict(observation, deterministic=True)[1]
        x, first = policy.inputs(th.ones(1, 4))[0], th.ones(1, dtype=th.bool)
        h, _ = policy.rssm.observe_step(policy.encoder(x, None), th.zeros(1, 2), first, policy.memory(1)[:2], True)
        np.testing.assert_allclose(state[0], h.detach().numpy(), atol=1e-5)


def test_evaluate_policy_works_unchanged():
    model = build()
    returns, lengths = evaluate_policy(model, model.get_env(), 3, return_episode_rewards=True)
    assert returns == lengths and len(returns) == 3


def test_the_stored_latents_are_those_that_chose_the_actions():
    model = build(learning_starts=0, replay_ratio=1e-9)
    model.learn(40)
    store = model.replay_buffer.store
    n = int(model.replay_buffer.write[0])
    h, z, a = (th.as_tensor(store[name][:n]) for name in ("deter", "z", "actions"))
    x, first, last = th.as_tensor(store["obs."][:n]), th.as_tensor(store["is_first"][:n]), store["is_last"][:n]
    embeds = model.policy.encoder(*model.policy.inputs(x))
    again, _ = model.policy.rssm.observe_step(embeds[1:], a[:-1], first[1:], (h[:-1].float(), z[:-1].int()))
    inside = ~last[1:]
    th.testing.assert_close(again[inside], h[1:][inside].float(), rtol=0, atol=2e-3)  # h is kept in half precision
    assert first[0] and first.sum() >= 2


def test_training_refreshes_the_stored_latents():
    model = build(replay_ratio=1e-9).learn(60)
    model.set_logger(configure(None, []))
    model._owed = 1.0
    old = model.replay_buffer.store["deter"].copy()
    np.random.seed(0)
    rows = model.replay_buffer.sample(4).rows
    np.random.seed(0)
    model.train(1, 4)
    changed = np.flatnonzero((old != model.replay_buffer.store["deter"]).any(axis=1))
    assert set(changed) <= set(rows.flatten()) and len(changed) > 0.8 * len(np.unique(rows))


@pytest.mark.parametrize("cut", [False, True])
def test_a_time_limit_is_no_end_and_every_episode_has_its_last_row(cut):
    env = DummyVecEnv([lambda: Toy(BOX, spaces.Discrete(2), 5, cut), lambda: Toy(BOX, spaces.Discrete(2), 8, cut)])
    model = build(env, replay_ratio=1e-9).learn(60)
    buffer = model.replay_buffer
    for i, n in ((0, 5), (1, 8)):
        rows = slice(i * buffer.capacity, i * buffer.capacity + int(buffer.write[i]))
        step = np.arange(int(buffer.write[i])) % (n + 1)  # n steps have n + 1 observations
        np.testing.assert_array_equal(buffer.store["rewards"][rows], step)
        np.testing.assert_array_equal(buffer.store["is_first"][rows], step == 0)
        np.testing.assert_array_equal(buffer.store["is_last"][rows], step == n)
        np.testing.assert_array_equal(buffer.store["is_terminal"][rows], (step == n) & (not cut))


@pytest.mark.parametrize("n_envs", [1, 2])
def test_the_replay_ratio_sets_the_gradient_steps(n_envs):
    """4 x 8 = 32 rows in a batch: one gradient step in 8 steps of the envs, however many there are."""
    model = build(make_vec_env("CartPole-v1", n_envs, seed=0), replay_ratio=4.0).learn(180)
    assert model._n_updates == 160 * 4 // 32


SPACES = {
    "dict": (spaces.Dict({"image": PIXELS, "vector": BOX, "number": spaces.Discrete(3)}), "MultiInputPolicy"),
    "pixels": (PIXELS, "CnnPolicy"),
    "discrete": (spaces.Discrete(4, start=2), "MlpPolicy"),
    "bits": (spaces.MultiBinary((2, 3, 3)), "MlpPolicy"),
    "several": (spaces.MultiDiscrete([2, 5], start=[3, -1]), "MlpPolicy"),
}


@pytest.mark.parametrize("name", [pytest.param(s, marks=[] if s == "bits" else [pytest.mark.slow]) for s in SPACES])
def test_observations_of_all_kinds_are_learned(name):
    """Sixty gradient steps on four sequences: what the decoder loses on them falls below six tenths (0.01 to 0.4)."""
    space, policy = SPACES[name]
    action_space = spaces.Box(-3.0, 1.0, (2,), np.float32) if name == "dict" else spaces.Discrete(3)
    sizes = {"deter": 32, "hidden": 16, "units": 16, "stoch": 8, "classes": 8}
    model = build(Toy(space, action_space), policy, policy_kwargs=sizes, replay_ratio=1e-9, batch_length=4).learn(60)
    np.random.seed(0)
    batch, losses = model.replay_buffer.sample(4), []
    optimizer = th.optim.Adam(model.policy.parameters(), lr=1e-2)
    for _ in range(60):
        loss, _, parts = model.world_loss(batch)
        losses.append(parts["decoder_loss"].item())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    if model.policy.inputs.image_shape:  # noise: what can be learned in sixty steps is its mean, which leaves 1/12 a pixel
        assert losses[-1] < 1.02 * 16 * 16 * 3 / 12 < losses[0]
    else:
        assert losses[-1] < 0.6 * losses[0]


def test_vectors_are_symlog_and_one_hot_and_images_are_centred():
    inputs = Inputs(spaces.Dict({"a": spaces.Box(-np.inf, np.inf, (2,)), "b": spaces.Discrete(3, start=5)}), "auto")
    vectors, images = inputs({"a": th.tensor([[0.0, -np.e + 1]]), "b": th.tensor([6])})
    th.testing.assert_close(vectors, th.tensor([[0.0, -1.0, 0.0, 1.0, 0.0]]))
    assert images is None
    pixels = Inputs(spaces.Box(0, 255, (3, 16, 16), np.uint8), "always")
    assert pixels(th.full((2, 3, 16, 16), 255, dtype=th.uint8))[1].unique().tolist() == [0.5]


def test_bits_and_choices_are_decoded_as_torchs_distributions():
    parts = {
        "a": spaces.MultiBinary((2, 2)), "b": spaces.Discrete(3, start=-1), "c": spaces.MultiDiscrete([2, 5]),
        "d": spaces.Box(-9.0, 9.0, (2,)),
    }  # fmt: skip
    inputs, space = Inputs(spaces.Dict(parts), "auto"), spaces.Dict(parts, seed=0)
    drawn = [space.sample() for _ in range(6)]
    observations = {key: th.as_tensor(np.stack([one[key] for one in drawn])) for key in parts}
    vectors, _ = inputs(observations)
    assert set(vectors[:, :4].unique().tolist()) == {0.0, 1.0}
    outputs = th.randn(6, 4 + 3 + 7 + 2)
    bits, numbers = Bernoulli(logits=outputs[:, :4]), outputs[:, 14:]
    choices = [Categorical(logits=outputs[:, i:j]) for i, j in ((4, 7), (7, 9), (9, 14))]
    taken = [observations["b"] + 1, *observations["c"].unbind(dim=1)]
    log_prob = bits.log_prob(observations["a"].flatten(1).float()).sum(dim=1)
    log_prob += sum(choice.log_prob(x) for choice, x in zip(choices, taken, strict=True))
    squared = (numbers - symlog(observations["d"])).square().sum(dim=1)
    th.testing.assert_close(inputs.loss(outputs, vectors), squared - log_prob)
    th.testing.assert_close(inputs.mean(outputs), th.cat([bits.mean, *(choice.probs for choice in choices), numbers], dim=1))


# --- the rest of SB3's contract --------------------------------------------------------------------------------------


def test_a_run_resumes_with_its_buffer(tmp_path):
    model = build(replay_ratio=1).learn(80)
    model.save(tmp_path / "model.zip")
    model.save_replay_buffer(tmp_path / "buffer.pkl")
    rows, updates = model.replay_buffer.size(), model._n_updates
    model.learn(40, reset_num_timesteps=False)  # never interrupted
    loaded = DreamerV3.load(tmp_path / "model.zip", env=make_vec_env("CartPole-v1"))
    loaded.load_replay_buffer(tmp_path / "buffer.pkl")
    assert rows == loaded.replay_buffer.size() and updates == loaded._n_updates
    loaded.learn(40, reset_num_timesteps=False)
    assert loaded.num_timesteps == 120 and loaded.replay_buffer.size() > rows and loaded._n_updates > updates
    for name in ("obs.", "actions", "rewards", "is_first", "is_last"):
        np.testing.assert_array_equal(loaded.replay_buffer.store[name], model.replay_buffer.store[name])
    other = DreamerV3.load(tmp_path / "model.zip")
    other.load_replay_buffer(tmp_path / "buffer.pkl")
    other.set_env(make_vec_env("CartPole-v1"))
    with pytest.warns(UserWarning, match="the running ones were cut"):
        other.learn(1, reset_num_timesteps=False)
    borders = other.replay_buffer.store["is_first"][rows], other.replay_buffer.store["is_last"][rows - 1]
    assert all(borders), "in another env the episode that the save interrupted is cut"


def test_a_loaded_model_goes_on_with_the_replay_on_disk(tmp_path):
    folder = {"memmap_dir": str(tmp_path / "replay")}
    model = build(replay_buffer_kwargs=folder, replay_ratio=1).learn(60)
    rewards, written = model.replay_buffer.store["rewards"].copy(), model.replay_buffer.write.copy()
    model.save(tmp_path / "model.zip")
    model.save_replay_buffer(tmp_path / "buffer.pkl")
    loaded = DreamerV3.load(tmp_path / "model.zip", env=make_vec_env("CartPole-v1"))
    assert loaded.predict(np.zeros(4))[0] in (0, 1)  # beside the model that learns
    with pytest.raises(ValueError, match="in use by another model"):
        loaded.learn(1, reset_num_timesteps=False)
    with pytest.raises(ValueError, match="in use by another model"):
        build(replay_buffer_kwargs=folder)
    np.testing.assert_array_equal(model.replay_buffer.store["rewards"], rewards)
    model.replay_buffer.close()
    loaded.learn(10, reset_num_timesteps=False)
    assert loaded.replay_buffer.write[0] >= written[0] + 10
    np.testing.assert_array_equal(loaded.replay_buffer.store["rewards"][: written[0]], rewards[: written[0]])
    loaded.replay_buffer.close()
    moved = DreamerV3.load(tmp_path / "model.zip", env=make_vec_env("CartPole-v1"))
    moved.load_replay_buffer(tmp_path / "buffer.pkl")
    assert moved.replay_buffer.write[0] >= written[0] + 10
    elsewhere = DreamerV3.load(tmp_path / "model.zip", replay_buffer_kwargs={"memmap_dir": str(tmp_path / "other")})
    assert elsewhere.replay_buffer.size() == 0


class Count(gym.Env):
    """Observation (t, −100 t) after t steps, of episodes of 5 steps; nothing is left to chance."""

    observation_space, action_space = spaces.Box(-1e3, 1e3, (2,), np.float32), spaces.Discrete(2)

    def _look(self):
        return np.array([self.t, -100.0 * self.t], np.float32)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._look(), {}

    def step(self, action):
        self.t += 1
        return self._look(), 10.0 * self.t, self.t == 5, False, {}


def test_under_vec_normalize_what_the_env_gave_is_kept_last_observations_too():
    model = build(VecNormalize(DummyVecEnv([Count, Count])), replay_ratio=1e-9).learn(60)
    for i in range(2):
        n = int(model.replay_buffer.write[i])
        rows = slice(i * model.replay_buffer.capacity, i * model.replay_buffer.capacity + n)
        t = np.arange(n) % 6.0  # five steps have six observations
        np.testing.assert_allclose(
            model.replay_buffer.store["obs."][rows], np.stack([t, -100.0 * t], axis=1), rtol=1e-5, atol=1e-4
        )
        np.testing.assert_allclose(model.replay_buffer.store["rewards"][rows], 10.0 * t)


def test_under_vec_normalize_training_sees_what_acting_sees():
    env = VecNormalize(DummyVecEnv([Count, Count]))
    model = build(env, replay_ratio=1).learn(120)
    batch = model.replay_buffer.sample(40, env)
    t = np.arange(6)
    seen = env.normalize_obs(np.stack([t, -100.0 * t], axis=1))  # [6, 2], as acting sees them now
    rewards = env.normalize_reward(10.0 * t)
    shown = {(round(a, 4), round(b, 4)) for a, b in batch.observations.reshape(-1, 2).tolist()}
    assert shown == {(round(float(a), 4), round(float(b), 4)) for a, b in seen.astype(np.float32)}
    assert {round(r, 4) for r in batch.rewards.flatten().tolist()} == {round(float(r), 4) for r in rewards.astype(np.float32)}


def test_bfloat16_trains_too():
    model = build(replay_ratio=1, bf16=True).learn(90)
    assert model._n_updates > 0
    assert all(p.dtype == th.float32 and th.isfinite(p).all() for p in model.policy.parameters())


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"train_freq": 1e12}, "train_freq=1000000000000.0 must be an integer"),
        ({"train_freq": 10**12}, "train_freq=.* at most 500, the rows"),
        ({"train_freq": 501}, "train_freq=.* at most 500, the rows"),
        ({"train_freq": float("nan")}, "train_freq=nan"),
        ({"batch_size": 10**12}, "batch_size=1000000000000, batch_length=8 and horizon=4 make dreams of .* GiB"),
        ({"horizon": 10**12}, "horizon=1000000000000 make dreams"),
        ({"replay_ratio": 1e12}, "3.12e.10 gradient steps of 32 rows"),
        ({"replay_ratio": float("inf")}, "replay_ratio=inf must be a finite number above 0"),
        ({"free_bits": float("nan")}, "free_bits=nan"),
        ({"dyn_coef": -1.0}, "dyn_coef=-1.0 must be"),
        ({"gamma": 1.5}, "gamma=1.5"),
        ({"policy_kwargs": {"stoch": 300, "classes": 300}}, "must be at most 32768"),
        ({"policy_kwargs": {"size": "size13M"}}, "sizes: debug, XS"),
        ({"policy_kwargs": {"deter": 18}}, "multiple of"),
        ({"policy_kwargs": {"latent": "beta"}}, "gaussian"),
        ({"policy_kwargs": {"norm": "batch"}}, "layer"),
        ({"policy": "CnnPolicy"}, "use MlpPolicy"),
        ({"replay_ratio": 0}, "replay_ratio"),
        ({"actor_gradient": "dynamics"}, "Box"),
        ({"actor_gradient": "both"}, "reinforce"),
        ({"buffer_size": 5}, "give at least"),
        ({"env": Toy(BOX, spaces.MultiBinary(2))}, "Discrete and Box"),
        ({"env": Toy(spaces.Box(0, 255, (84, 84, 3), np.uint8), spaces.Discrete(2)), "policy": "CnnPolicy"}, "64 x 64"),
    ],
)
def test_what_cannot_work_is_named_with_its_remedy(settings, words):
    with pytest.raises((ValueError, TypeError), match=words):
        build(**settings)
