"""The losses of every switch, written a second time over networks that are tables; what acts; what is refused."""

import warnings

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv

import sb3_lecture_envs  # noqa: F401
from sb3_lecture import C51, IQN, DeepQLearning, Rainbow
from sb3_lecture.common.munchausen import munchausen_bonus, soft_value
from sb3_lecture.common.networks import NoisyLinear
from sb3_lecture.common.prioritized_buffer import PrioritizedReplayBuffer
from sb3_lecture.value_based.networks import CnnPolicy, SmallPictureExtractor
from sb3_lecture.value_based.transitions import Transitions

N_STATES, N_ACTIONS, B = 4, 3, 6
SMALL = {"buffer_size": 300, "learning_starts": 20, "batch_size": 8, "train_freq": 1, "device": "cpu", "seed": 0}


class Ring(gym.Env):
    """Four states in a ring, three actions; ends or is cut now and then."""

    observation_space, action_space = spaces.Discrete(N_STATES), spaces.Discrete(N_ACTIONS)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s = self.t = 0
        return 0, {}

    def step(self, action):
        self.s, self.t = (self.s + int(action)) % N_STATES, self.t + 1
        return self.s, float(self.s == 2), self.s == 3, self.t == 6, {}


def model_of(cls=DeepQLearning, n_envs=1, **kwargs):
    return cls("MlpPolicy", DummyVecEnv([Ring] * n_envs), **SMALL | {"policy_kwargs": {"net_arch": [8]}} | kwargs)


def tables(seed=0, **kwargs):
    """A model whose networks are tables [S, A, k], and these tables, of the online and the target network."""
    kwargs.setdefault("policy_kwargs", {})
    model = model_of(**kwargs | {"policy_kwargs": {"net_arch": []} | kwargs["policy_kwargs"]})
    rng = np.random.default_rng(seed)
    found = []
    for net in (model.q_net, model.q_net_target):
        table = rng.normal(size=(N_STATES, N_ACTIONS, net.n_outputs))
        with th.no_grad():
            net.q_net[0].weight.copy_(th.as_tensor(table.reshape(N_STATES, -1).T))
            net.q_net[0].bias.zero_()
        found.append(table)
    return model, *found


def transitions(seed=1):
    rng = np.random.default_rng(seed)
    s, s_next = rng.integers(N_STATES, size=(2, B))
    a, r = rng.integers(N_ACTIONS, size=B), rng.normal(size=B)
    d = rng.choice([0.0, 0.9, 0.81], size=B)
    one_hot = [th.as_tensor(x) for x in (s, s_next)]
    rewards, discounts = th.tensor(r, dtype=th.float32), th.tensor(d, dtype=th.float32)
    batch = Transitions(one_hot[0], th.as_tensor(a), rewards, discounts, one_hot[1], None, None)
    return batch, s, a, r, d, s_next


def softmax(x):
    e = np.exp(x - x.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


SOFT = {"munchausen": True, "munchausen_tau": 0.5, "munchausen_alpha": 0.7, "munchausen_clip": -0.4}


def target_of(kind, q, q_target, r, d, s, a, s_next):
    """The scalar target of one transition, from action values [S, A]."""
    if kind == "max":
        return r + d * q_target[s_next].max()
    if kind == "double":
        return r + d * q_target[s_next, q[s_next].argmax()]
    pi = softmax(q_target / 0.5)
    bonus = 0.7 * min(max(0.5 * np.log(pi[s, a]), -0.4), 0.0)
    return r + bonus + d * sum(pi[s_next, b] * (q_target[s_next, b] - 0.5 * np.log(pi[s_next, b])) for b in range(N_ACTIONS))


KINDS = {"max": {}, "double": {"double": True}, "soft": SOFT}


@pytest.mark.parametrize("kind", KINDS)
def test_the_scalar_loss_is_hubers_of_the_target(kind):
    model, table, table_target = tables(**KINDS[kind])
    q, q_target = table[..., 0], table_target[..., 0]
    batch, *columns = transitions()
    losses, errors = model.row_losses(batch)
    for i, (s, a, r, d, s_next) in enumerate(zip(*columns, strict=True)):
        delta = target_of(kind, q, q_target, r, d, s, a, s_next) - q[s, a]
        expected = 0.5 * delta**2 if abs(delta) < 1 else abs(delta) - 0.5
        assert losses[i].item() == pytest.approx(expected, rel=1e-4, abs=1e-6)
        assert errors[i].item() == pytest.approx(abs(delta), rel=1e-4, abs=1e-6)
    losses.sum().backward()
    assert all(p.grad is None for p in model.q_net_target.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_the_categorical_loss_is_the_cross_entropy_of_the_projected_law(kind):
    model, table, table_target = tables(distribution="categorical", policy_kwargs={"n_atoms": 5, "v_min": -1.0, "v_max": 1.0},
                                        **KINDS[kind])  # fmt: skip
    model._warned = True
    z = np.linspace(-1, 1, 5)
    p, p_target = softmax(table), softmax(table_target)
    q, q_target = p @ z, p_target @ z
    batch, *columns = transitions()
    losses, errors = model.row_losses(batch)
    for i, (s, a, r, d, s_next) in enumerate(zip(*columns, strict=True)):
        law = np.zeros(5)
        pi = softmax(q_target / 0.5)
        greedy = (q if kind == "double" else q_target)[s_next].argmax()
        shares = pi[s_next] if kind == "soft" else np.eye(N_ACTIONS)[greedy]
        for b in range(N_ACTIONS):
            for j in range(5):
                point = z[j]
                reward = r
                if kind == "soft":
                    point -= 0.5 * np.log(pi[s_next, b])
                    reward += 0.7 * min(max(0.5 * np.log(pi[s, a]), -0.4), 0.0)
                x = (min(max(reward + d * point, -1), 1) + 1) / 0.5  # in units of Δ
                low = min(int(np.floor(x)), 3)
                law[low] += shares[b] * p_target[s_next, b, j] * (low + 1 - x)
                law[low + 1] += shares[b] * p_target[s_next, b, j] * (x - low)
        cross = -(law * np.log(p[s, a])).sum()
        kl = cross + sum(x * np.log(x) for x in law if x > 1e-12)
        assert losses[i].item() == pytest.approx(cross, rel=1e-4)
        assert errors[i].item() == pytest.approx(kl, rel=1e-3, abs=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_the_quantile_loss_compares_every_pair(kind):
    model, table, table_target = tables(distribution="quantile", policy_kwargs={"n_quantiles": 4}, kappa=0.5, **KINDS[kind])
    q, q_target = table.mean(axis=-1), table_target.mean(axis=-1)
    batch, *columns = transitions()
    losses, errors = model.row_losses(batch)
    for i, (s, a, r, d, s_next) in enumerate(zip(*columns, strict=True)):
        if kind == "soft":
            pi = softmax(q_target / 0.5)
            bonus = 0.7 * min(max(0.5 * np.log(pi[s, a]), -0.4), 0.0)
            soft = sum(pi[s_next, b] * (table_target[s_next, b] - 0.5 * np.log(pi[s_next, b])) for b in range(N_ACTIONS))
            targets = r + bonus + d * soft
        else:
            targets = r + d * table_target[s_next, (q if kind == "double" else q_target)[s_next].argmax()]
        loss = 0.0
        for k in range(4):
            for target in targets:
                delta = target - table[s, a, k]
                size = delta**2 / (2 * 0.5) if abs(delta) <= 0.5 else abs(delta) - 0.25
                loss += abs((k + 0.5) / 4 - (delta < 0)) * size / 4
        assert losses[i].item() == pytest.approx(loss, rel=1e-4)
        assert errors[i].item() == pytest.approx(abs(targets.mean() - q[s, a]), rel=1e-3, abs=1e-5)


@pytest.mark.parametrize("double", [False, True])
def test_implicit_quantiles_are_compared_at_the_fractions_drawn(double):
    model = model_of(
        distribution="implicit-quantile", n_tau=3, n_tau_prime=5, double=double, policy_kwargs={"net_arch": [8, 8]}
    )
    with th.no_grad():
        for part in model.q_net_target.parameters():
            part.mul_(1.5)
    batch, *columns = transitions()
    th.manual_seed(7)
    losses, _ = model.row_losses(batch)
    th.manual_seed(7)
    tau_prime, tau = th.rand(B, 5), th.rand(B, 3)
    chooser = model.q_net if double else model.q_net_target
    for i, (_, a, r, d, _) in enumerate(zip(*columns, strict=True)):
        best = chooser(batch.next_observations[i : i + 1])[0].argmax()
        targets = r + d * model.q_net_target.outputs(batch.next_observations[i : i + 1], tau_prime[i : i + 1])[0, best]
        own = model.q_net.outputs(batch.observations[i : i + 1], tau[i : i + 1])[0, a]
        loss = 0.0
        for k in range(3):
            for target in targets.tolist():
                delta = target - own[k].item()
                loss += abs(tau[i, k].item() - (delta < 0)) * (0.5 * delta**2 if abs(delta) <= 1 else abs(delta) - 0.5) / 5
        assert losses[i].item() == pytest.approx(loss, rel=1e-4, abs=1e-6)


def test_the_soft_maximum_and_munchausens_term_by_hand():
    """τ = 1, q = ln 1, ln 3: π = ¼, ¾; τ ln 4 = Σ π (q − ln π); the rarer action's ln ¼ is cut off at −1."""
    q = th.log(th.tensor([[1.0, 3.0]], dtype=th.float64))
    pi = th.tensor([0.25, 0.75], dtype=th.float64)
    assert soft_value(q, 1.0).item() == pytest.approx(np.log(4.0))
    assert soft_value(q, 1.0).item() == pytest.approx((pi * (q[0] - pi.log())).sum().item())
    assert munchausen_bonus(q, th.tensor([0]), 1.0, 0.5, -1.0).item() == pytest.approx(-0.5)
    assert munchausen_bonus(q, th.tensor([1]), 1.0, 0.5, -1.0).item() == pytest.approx(0.5 * np.log(0.75))


# ---- beside SB3, and beside one another


def test_with_every_switch_off_it_is_sb3s_dqn():
    """The same rows give the same weights, to rounding: targets, Huber's loss, clipping, Adam, target network."""
    settings = {"gamma": 0.9, "batch_size": 4, "target_update_interval": 2, "tau": 0.5, "max_grad_norm": 0.05}
    settings |= {"learning_rate": lambda x: 0.01 * x, "buffer_size": 100, "policy_kwargs": {"net_arch": [8]}, "device": "cpu"}
    env = DummyVecEnv([Ring])
    ours, theirs = (cls("MlpPolicy", env, seed=0, **settings) for cls in (DeepQLearning, DQN))
    for parameter in ours.policy.parameters():
        parameter.data.mul_(3.0)
    theirs.policy.load_state_dict(ours.policy.state_dict())
    for model in (ours, theirs):
        model._setup_learn(8)
        rng = np.random.default_rng(0)
        for i in range(12):
            s, a, r, s_next = (np.array([x]) for x in (rng.integers(4), rng.integers(3), 3 * rng.normal(), rng.integers(4)))
            model.replay_buffer.add(s, s_next, a, r, np.array([i % 5 == 4]), [{"TimeLimit.truncated": i == 9}])
        np.random.seed(0)
        for step in range(5):
            model._update_current_progress_remaining(step, 8)
            model._on_step()
            model.train(2, 4)
    for key, value in theirs.policy.state_dict().items():
        th.testing.assert_close(ours.policy.state_dict()[key], value, rtol=1e-4, atol=1e-6)
    logged = [model.logger.name_to_value["train/loss"] for model in (ours, theirs)]  # the mean of the last two minibatches
    assert logged[0] == pytest.approx(logged[1], rel=1e-4)


def test_rainbow_is_deep_q_learning_with_these_switches():
    """Bit for bit, though its file has a loss of its own."""
    steps = {"n_steps": 3, "target_update_interval": 10}
    noisy = {"noisy_std": 0.3, "n_atoms": 11, "v_min": -9.0, "v_max": 9.0}
    rainbow = model_of(Rainbow, learning_rate=1e-3, per_alpha=0.7, per_beta=0.3, **noisy, **steps).learn(80)
    switches = dict(double=True, dueling=True, prioritized=True, noisy=True, distribution="categorical")
    kwargs = {"net_arch": [8], "optimizer_kwargs": {"fused": True, "eps": 1.5e-4}} | noisy
    same = model_of(
        learning_rate=1e-3, replay_buffer_kwargs={"alpha": 0.7, "beta": 0.3}, **switches, **steps, policy_kwargs=kwargs
    )
    same.learn(80)
    for key, value in rainbow.policy.state_dict().items():
        assert th.equal(same.policy.state_dict()[key], value), key
    np.testing.assert_array_equal(rainbow.replay_buffer.tree.priorities, same.replay_buffer.tree.priorities)
    assert len(np.unique(rainbow.replay_buffer.tree.priorities)) > 10
    assert 0.3 < rainbow.replay_buffer.beta <= 1.0


@pytest.mark.parametrize(("cls", "distribution"), [(C51, "categorical"), (IQN, "implicit-quantile")])
def test_named_classes_are_their_switch(cls, distribution):
    sizes = {"n_atoms": 7, "v_min": -3.0, "v_max": 3.0} if cls is C51 else {"n_quantiles": 5, "n_cosines": 6}
    own = model_of(cls, learning_rate=1e-3, **sizes).learn(40)
    same = model_of(learning_rate=1e-3, distribution=distribution, policy_kwargs={"net_arch": [8]} | sizes).learn(40)
    for key, value in own.policy.state_dict().items():
        assert th.equal(same.policy.state_dict()[key], value), key


def test_one_quantile_is_a_number():
    """The median's loss is half of Huber's."""
    model, *_ = tables(distribution="quantile", policy_kwargs={"n_quantiles": 1})
    plain, *_ = tables()
    plain.policy.load_state_dict(model.policy.state_dict())
    batch, *_ = transitions()
    th.testing.assert_close(model.row_losses(batch)[0], 0.5 * plain.row_losses(batch)[0])


# ---- acting


@pytest.mark.parametrize("distribution", ["none", "categorical", "quantile"])
def test_acting_by_numpy_is_the_network(distribution):
    env = make_vec_env("CartPole-v1", 5, seed=0)
    model = DeepQLearning("MlpPolicy", env, distribution=distribution, **SMALL)
    model._setup_learn(10)
    assert model._layers is not None
    with th.no_grad():
        expected = model.q_net(th.as_tensor(model._last_obs))
    np.testing.assert_allclose(model._explore(model._last_obs), expected, rtol=1e-5, atol=1e-6)


def test_evaluation_plays_the_mean_of_noisy_layers_and_exploration_the_noise():
    model = model_of(noisy=True, dueling=True, policy_kwargs={"net_arch": [8, 8]})
    with th.no_grad():
        for layer in model.q_net.noisy_layers:
            layer.weight_std.mul_(20.0)
    mean = model_of(dueling=True, policy_kwargs={"net_arch": [8, 8]})
    mean.q_net.load_state_dict({k: v for k, v in model.q_net.state_dict().items() if "_std" not in k})
    states = np.arange(N_STATES)
    expected = mean.predict(states, deterministic=True)[0]
    model.q_net.resample_noise()
    for _ in range(3):
        np.testing.assert_array_equal(model.predict(states, deterministic=True)[0], expected)
        th.testing.assert_close(model.q_net(th.as_tensor(states)), mean.q_net(th.as_tensor(states)))
    played = np.stack([model.predict(states, deterministic=False)[0] for _ in range(30)])
    assert all(len(np.unique(column)) > 1 for column in played.T) and model.exploration_rate == 0.0


def test_a_noisy_network_alone_plays_its_mean_too(tmp_path):
    """SB3's way to keep a Q-network without its policy: whatever noise it had last, what it plays is kept."""
    model = model_of(policy_kwargs={"net_arch": [8], "noisy_std": 30.0}, noisy=True)
    observations = np.arange(N_STATES)
    model.q_net.resample_noise()
    noisy = model.q_net(model.q_net.obs_to_tensor(observations)[0]).argmax(dim=1)
    played = model.q_net.predict(observations, deterministic=True)[0]
    assert (noisy.numpy() != played).any()
    model.q_net.save(tmp_path / "q_net.pkl")
    loaded = type(model.q_net).load(tmp_path / "q_net.pkl")
    np.testing.assert_array_equal(loaded.predict(observations, deterministic=True)[0], played)
    np.testing.assert_array_equal(model.predict(observations, deterministic=True)[0], played)
    draws = [tuple(model.q_net.predict(observations, deterministic=False)[0]) for _ in range(20)]
    assert len(set(draws)) > 1


def test_every_env_explores_by_noise_of_its_own_while_the_network_collects():
    model = model_of(n_envs=6, noisy=True)
    model._setup_learn(10)
    model.policy.set_training_mode(False)  # as collect_rollouts does
    assert len(np.unique(model._explore(model._last_obs), axis=0)) == 6  # all in state 0
    model.num_timesteps = 100
    first = model._explore(model._last_obs)
    assert not np.array_equal(first, model._explore(model._last_obs))  # and anew at each step


def test_online_and_target_noise_are_drawn_anew_for_each_pass(monkeypatch):
    model = model_of(noisy=True, double=True)
    drawn = []
    real = type(model.q_net).resample_noise
    monkeypatch.setattr(type(model.q_net), "resample_noise", lambda net, batch=None: (drawn.append(net), real(net, batch))[1])
    model.row_losses(transitions()[0])
    assert drawn == [model.q_net_target, model.q_net, model.q_net]


# ---- networks


def test_heads_have_the_layers_they_are_asked_for():
    def shapes(**kwargs):
        net = model_of(policy_kwargs={"net_arch": [8, 5], **kwargs}).q_net
        return {name: tuple(p.shape) for name, p in net.named_parameters() if "weight" in name}

    assert shapes() == {"q_net.0.weight": (8, 4), "q_net.2.weight": (5, 8), "q_net.4.weight": (3, 5)}
    assert shapes(distribution="quantile", n_quantiles=7)["q_net.4.weight"] == (21, 5)
    assert shapes(dueling=True, distribution="categorical", n_atoms=9) == {
        "q_net.0.weight": (8, 4), "head.value.0.weight": (5, 8), "head.value.2.weight": (9, 5),
        "head.advantage.0.weight": (5, 8), "head.advantage.2.weight": (27, 5),
    }  # fmt: skip
    implicit = shapes(distribution="implicit-quantile", n_cosines=6)
    assert implicit["embedding.linear.weight"] == (8, 6) and implicit["head.2.weight"] == (3, 5)
    noisy = model_of(noisy=True, dueling=True, policy_kwargs={"net_arch": [8, 5]}).q_net
    linear = [part for part in noisy.modules() if isinstance(part, (th.nn.Linear, NoisyLinear))]
    assert len(linear) == 5 and all(isinstance(part, NoisyLinear) for part in linear)


def test_cnn_policy_takes_small_pictures_and_large_ones():
    for env_id, small in (("Lecture/Catch-v0", True), ("Lecture/MiniBreakout-v0", True)):
        model = DeepQLearning("CnnPolicy", env_id, **SMALL).learn(30)
        assert isinstance(model.q_net.features_extractor, SmallPictureExtractor) is small
    policy = CnnPolicy(spaces.Box(0, 255, (4, 84, 84), np.uint8), spaces.Discrete(2), lambda _: 1e-3)
    assert policy.q_net.features_dim == 512 and policy.net_arch == []


def test_dict_observations_with_every_memory():
    class Pair(Ring):
        observation_space = spaces.Dict({"state": spaces.Discrete(N_STATES), "odd": spaces.Discrete(2)})

        def reset(self, **kwargs):
            s, info = super().reset(**kwargs)
            return {"state": s, "odd": s % 2}, info

        def step(self, action):
            s, *rest = super().step(action)
            return {"state": s, "odd": s % 2}, *rest

    for switches in ({}, {"n_steps": 3}, {"prioritized": True, "optimize_memory_usage": True, "n_steps": 2, "noisy": True}):
        model = DeepQLearning("MultiInputPolicy", DummyVecEnv([Pair] * 2), **SMALL | switches).learn(60)
        assert model._n_updates > 0


# ---- memory


def test_which_memory_the_switches_take():
    assert type(model_of().replay_buffer) is ReplayBuffer
    for switches, alpha in (({"n_steps": 3}, 0.0), ({"prioritized": True}, 0.6), ({"optimize_memory_usage": True}, 0.0)):
        model = model_of(gamma=0.8, **switches)
        memory = model.replay_buffer
        assert isinstance(memory, PrioritizedReplayBuffer)
        assert (memory.alpha, memory.n_steps, memory.gamma) == (alpha, model.n_steps, 0.8)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            model.learn(40).learn(40)  # the second cuts the running episode
        assert memory.timeouts.sum() + memory.dones.sum() > 1
    assert model_of(Rainbow).replay_buffer.alpha == 0.5
    mild = model_of(prioritized=True, replay_buffer_kwargs={"alpha": 0.2, "epsilon": 0.1}).replay_buffer
    assert (mild.alpha, mild.epsilon) == (0.2, 0.1)


def test_weights_weigh_and_errors_become_priorities():
    model = model_of(prioritized=True, policy_kwargs={"net_arch": [], "optimizer_class": th.optim.SGD}, max_grad_norm=1e9)
    model._setup_learn(10)
    model.learning_rate = model.lr_schedule = lambda _: 1.0
    rng = np.random.default_rng(0)
    for _ in range(20):
        s, a, s_next = (np.array([x]) for x in (rng.integers(4), rng.integers(3), rng.integers(4)))
        model.replay_buffer.add(s, s_next, a, rng.normal(size=1), np.zeros(1), [{}])
    model.replay_buffer.update_priorities(np.arange(20), rng.normal(size=20))
    np.random.seed(0)
    batch = model.draw(5)
    losses, errors = model.row_losses(batch)
    assert batch.weights.max() == 1.0 and batch.weights.min() < 1.0
    expected = [p - g for p, g in zip(model.q_net.parameters(), th.autograd.grad((batch.weights * losses).mean(),
                list(model.q_net.parameters())), strict=True)]  # fmt: skip
    np.random.seed(0)
    model.train(1, 5)
    for p, e in zip(model.q_net.parameters(), expected, strict=True):
        th.testing.assert_close(p, e)
    last = {row: error for row, error in zip(batch.indices, errors.numpy(), strict=True)}
    for row, error in last.items():
        assert model.replay_buffer.tree.priorities[row] == pytest.approx((error + 1e-6) ** 0.6, rel=1e-5)


# ---- bad input


def test_what_does_not_fit_is_one_line():
    env = DummyVecEnv([Ring])
    for kwargs, words in (
        ({"double": True, "munchausen": True}, "double=True chooses"),
        ({"n_steps": 0}, "n_steps=0"),
        ({"distribution": "normal"}, "distribution='normal'"),
        ({"munchausen_tau": 0.0}, "munchausen_tau=0.0"),
        ({"munchausen_clip": 1.0}, "munchausen_clip=1.0"),
        ({"prioritized": True, "replay_buffer_class": ReplayBuffer}, "needs a PrioritizedReplayBuffer"),
        ({"policy_kwargs": {"v_min": 1.0, "v_max": 1.0}}, "v_min=1.0 must be less than v_max=1.0"),
        ({"policy_kwargs": {"n_atoms": 1}}, "n_atoms=1"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            DeepQLearning("MlpPolicy", env, **SMALL | kwargs)
        assert "\n" not in str(error.value)
    for cls in (C51, Rainbow):
        with pytest.raises(ValueError, match=r"v_min=3.0 must be less than v_max=2.0"):
            cls("MlpPolicy", env, v_min=3.0, v_max=2.0)
    with pytest.raises(ValueError, match="Discrete"):
        DeepQLearning("MlpPolicy", "Pendulum-v1")


@pytest.mark.parametrize(
    ("cls", "name", "first", "last"),
    [
        (DeepQLearning, "n_tau", 1, None), (DeepQLearning, "n_tau_prime", 1, None), (DeepQLearning, "n_steps", 1, None),
        (C51, "n_atoms", 2, 10_000), (Rainbow, "n_atoms", 2, 10_000), (IQN, "n_quantiles", 1, 10_000),
        (IQN, "n_cosines", 1, 10_000), (IQN, "n_tau", 1, None),
    ],
)  # fmt: skip
def test_counts_have_these_ends(cls, name, first, last):
    for value, wrong in ((first, first - 1), *(((last, last + 1),) if last else ())):
        cls("MlpPolicy", None, **{name: value, "_init_setup_model": False})
        with pytest.raises(ValueError, match=f"{name}={wrong}"):
            cls("MlpPolicy", None, **{name: wrong, "_init_setup_model": False})


@pytest.mark.parametrize(("name", "first"), [("n_atoms", 2), ("n_quantiles", 1), ("n_cosines", 1)])
def test_counts_of_the_policy_have_these_ends(name, first):
    model_of(policy_kwargs={name: first})
    with pytest.raises(ValueError, match=f"{name}={first - 1}"):
        model_of(policy_kwargs={name: first - 1})


def test_one_coin_an_observation_says_who_explores():
    model = model_of(seed=0)
    model.exploration_rate = 0.3
    observation = np.zeros(3000, np.int64)
    greedy = model.predict(observation, deterministic=True)[0]
    share = np.mean(model.predict(observation, deterministic=False)[0] != greedy)
    assert share == pytest.approx(0.3 * (N_ACTIONS - 1) / N_ACTIONS, abs=0.04)  # standard deviation 0.007
    model.exploration_rate = 0.0
    np.testing.assert_array_equal(model.predict(observation, deterministic=False)[0], greedy)


@pytest.mark.parametrize("cls", [C51, Rainbow])
def test_a_return_beyond_the_atoms_is_said_once(cls):
    model = model_of(cls, v_min=-0.1, v_max=0.1, n_steps=1)
    with pytest.warns(
        UserWarning, match=r"were met, the atoms reach from v_min=-0.1 to v_max=0.1: set v_min and v_max"
    ) as seen:
        model.learn(60)
    assert len(seen) == 1


def test_nan_in_training_is_one_line_that_names_where_it_came_from():
    model = model_of(prioritized=True)
    model.learn(30)
    with th.no_grad():
        model.q_net_target.q_net[0].weight[:] = th.nan
    with pytest.raises(ValueError, match="NaN or inf in the target network"):
        model.train(1, 8)
