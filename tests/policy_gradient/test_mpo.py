"""MPO: one update by hand, the M-step's gradients, multipliers, copies, a Box's critics, and what is learned."""

import copy
import math

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.envs import FakeImageEnv
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import DummyVecEnv
from test_losses import SGD, TRANSITIONS, assert_allclose, envs, shifted, table_of
from torch.distributions import Independent, Normal

from sb3_lecture import MPO, SACDiscrete
from sb3_lecture.common.vec_env import make_native_vec_env
from sb3_lecture.exact.grade import exact_evaluation
from sb3_lecture.policy_gradient.mpo import Gaussian, m_step


def softmax(logits):
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def tables(**kwargs):
    """A model of tables that is always given the three transitions, and the tables: actor, critics, their copies [S, A]."""
    rng = np.random.default_rng(0)
    numbers = rng.normal(size=(6, 3, 2))
    settings = {"learning_rate": 0.1, "buffer_size": 10, "epsilon": 0.05, "seed": 0, "device": "cpu"} | kwargs
    model = MPO("MlpPolicy", envs(1), policy_kwargs={"net_arch": [], "n_critics": 2, **SGD}, **settings)
    model._setup_learn(1)
    policy = model.policy
    nets = [policy.actor, *policy.critics, policy.actor_target, *policy.critic_targets]
    with th.no_grad():
        for net, table in zip(nets, numbers, strict=True):
            net.q_net[0].weight.copy_(th.as_tensor(table.T))
            net.q_net[0].bias.zero_()
    s, a, r, s_next, end, discount = (th.tensor(x) for x in zip(*TRANSITIONS, strict=True))
    data = ReplayBufferSamples(s[:, None], a[:, None], s_next[:, None], end[:, None], r[:, None], discount[:, None])
    model.replay_buffer.sample = lambda batch_size, env=None: data
    return model, nets, numbers


def test_one_update_of_discrete_actions_by_hand():
    model, nets, (logits, q_1, q_2, old, slow_1, slow_2) = tables(multiplier_init=3.0, epsilon_mean=0.01)
    model.train(1, 3)
    logged = model.logger.name_to_value
    pi, prior, slow = softmax(logits), softmax(old), np.minimum(slow_1, slow_2)
    v = (prior * slow).sum(axis=1)  # E_{a'~π⁻} min Q⁻
    for net, q in zip(nets[1:3], (q_1, q_2), strict=True):
        gradient = np.zeros((3, 2))
        for s, a, r, s_next, end, discount in TRANSITIONS:
            gradient[s, a] = (q[s, a] - (r + (1 - end) * discount * v[s_next])) / 3  # of ½ mean (Q − y)²
        assert_allclose(table_of(net), shifted(q, gradient), rtol=1e-5, atol=1e-6)
    eta = logged["train/eta"]
    q = prior * np.exp(slow / eta)  # the three transitions are of the three states
    q /= q.sum(axis=1, keepdims=True)
    assert (q * np.log(q / prior)).sum(axis=1).mean() == pytest.approx(0.05, rel=1e-5)  # KL(q ‖ π⁻) = ε
    assert logged["train/kl_q"] == pytest.approx(0.05, rel=1e-4)
    gradient = (pi - q + 3.0 * (pi - prior)) / 3  # of −Σ q ln π + α KL(π⁻ ‖ π), in the logits
    assert_allclose(table_of(nets[0]), shifted(logits, gradient), rtol=1e-4, atol=1e-6)
    kl = (prior * np.log(prior / pi)).sum(axis=1).mean()
    assert logged["train/kl_policy"] == pytest.approx(kl, rel=1e-4)
    assert logged["train/actor_loss"] == pytest.approx(-(q * np.log(pi)).sum(axis=1).mean(), rel=1e-4)
    x = math.log(math.expm1(3.0)) + 0.01 * np.sign(kl - 0.01)  # α = ln(1 + eˣ); Adam's first step has its step size's length
    assert model.raw_multipliers.item() == pytest.approx(x, rel=1e-5)
    for net, table in zip(nets[3:], (old, slow_1, slow_2), strict=True):
        assert_allclose(table_of(net), table, rtol=1e-6)  # not renewed yet


def test_the_multiplier_falls_where_the_policy_may_move_further():
    model, *_ = tables(multiplier_init=3.0, epsilon_mean=50.0)
    model.train(1, 3)
    assert model.raw_multipliers.item() == pytest.approx(math.log(math.expm1(3.0)) - 0.01, rel=1e-5)


def test_copies_are_renewed_every_so_many_updates():
    model, nets, _ = tables(target_update_interval=2)
    model.train(1, 3)
    assert not np.allclose(table_of(nets[3]), table_of(nets[0]))
    model.train(1, 3)
    for copied, net in zip(nets[3:], nets[:3], strict=True):
        assert_allclose(table_of(copied), table_of(net))


def gaussian(seed, d=2, states=3):
    mean, log_std = th.randn(2, states, d, generator=th.Generator().manual_seed(seed), dtype=th.float64)
    return Gaussian(mean.requires_grad_(True), log_std.requires_grad_(True))


def test_a_boxs_m_step_fits_mean_and_deviation_apart():
    """−Σ q [ln N(a; μ, σ_old) + ln N(a; μ_old, σ)], each KL with the other part left as it was; torch's densities."""
    old, new = Gaussian(*(part.detach() for part in gaussian(0))), gaussian(1)
    actions = th.randn(3, 4, 2, generator=th.Generator().manual_seed(2), dtype=th.float64)
    q = th.rand(3, 4, dtype=th.float64).softmax(dim=1)
    loss, (of_mean, of_std) = m_step(old, new, actions, q)

    def log_prob(mean, log_std):
        return Independent(Normal(mean[:, None], log_std.exp()[:, None]), 1).log_prob(actions)

    log_pi = log_prob(new.mean, old.log_std) + log_prob(old.mean, new.log_std)
    th.testing.assert_close(loss, -(q * log_pi).sum() / 3)
    th.testing.assert_close(Gaussian(new.mean, new.log_std).log_prob(actions), log_prob(new.mean, new.log_std))
    assert th.autograd.grad(of_mean, new.log_std, allow_unused=True, retain_graph=True)[0] is None
    assert th.autograd.grad(of_std, new.mean, allow_unused=True, retain_graph=True)[0] is None
    pull = th.autograd.grad(loss, new.mean)[0]  # towards the mean of q's actions, in units of the old deviation
    expected = -(q[..., None] * (actions - new.mean.detach()[:, None])).sum(dim=1) / old.log_std.exp() ** 2 / 3
    th.testing.assert_close(pull, expected)


def test_a_gaussian_draws_what_it_says():
    th.manual_seed(0)
    pi = Gaussian(th.tensor([[0.5, -0.2]]), th.tensor([[0.1, 1.0]]).log())
    draws = pi.sample(40_000)[0]
    assert ((draws.mean(dim=0) - pi.mean[0]).abs() < 4 * pi.log_std.exp()[0] / 200).all()
    th.testing.assert_close(draws.std(dim=0), th.tensor([0.1, 1.0]), rtol=0.02, atol=0)


class Target(gym.Env):
    """One step; pays −(a − s/2)² for an action a and a state s of ±1, in a Box from −3 to 1 that SB3 scales."""

    observation_space, action_space = spaces.Box(-1, 1, (1,), np.float32), spaces.Box(-3, 1, (1,), np.float32)

    def __init__(self, cut=False):
        self.cut = cut

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = np.float32(self.np_random.choice([-1, 1]))
        return np.full(1, self.state), {}

    def step(self, action):
        return np.full(1, self.state), -float((action[0] - self.state / 2) ** 2), not self.cut, self.cut, {}


@pytest.mark.slow
def test_a_box_is_learned_in_its_own_units():
    env = make_vec_env(Target, 4, seed=0)
    model = MPO(
        "MlpPolicy", env, learning_rate=3e-3, epsilon_mean=0.1, epsilon_std=1e-3, multiplier_init=1.0,
        multiplier_init_std=10.0, target_update_interval=20, batch_size=64, learning_starts=200, gradient_steps=2,
        seed=0, device="cpu",
    ).learn(2_400)  # fmt: skip
    actions = model.predict(np.array([[-1.0], [1.0]]), deterministic=True)[0]
    np.testing.assert_allclose(actions[:, 0], [-0.5, 0.5], atol=0.2)
    played = model.predict(np.ones((500, 1)))[0]
    assert played.min() >= -3 and played.max() <= 1 and 0 < played.std() < 0.5


@pytest.mark.parametrize("cut", [False, True])
def test_a_boxs_critic_learns_its_target(cut):
    """½ (Q(s, a) − r − γ E Q⁻(s', a'))², the mean over π⁻'s actions, clipped; a time limit is looked beyond, an end is not."""
    model = MPO("MlpPolicy", DummyVecEnv([lambda: Target(cut)]), gamma=0.9, n_samples=3, seed=0, device="cpu", batch_size=8,
                learning_starts=0, buffer_size=50, policy_kwargs={"log_std_init": 1.0})  # fmt: skip
    model.learn(10)
    policy = copy.deepcopy(model.policy)
    with th.no_grad():
        policy.critic_targets[0].q_networks[0][-1].bias += 2.0  # so that it matters which network is asked
    model.policy = policy
    data = model.replay_buffer.sample(8)
    th.manual_seed(1)
    loss = model._critic_loss(data, 0.9)
    th.manual_seed(1)
    drawn = policy.distribution(data.next_observations, target=True).sample(3).clamp(-1, 1)
    with th.no_grad():
        values = [policy.critic_targets[0](data.next_observations, drawn[:, i])[0] for i in range(3)]
        q = policy.critics[0](data.observations, data.actions)[0]
    target = data.rewards + 0.9 * float(cut) * sum(values) / 3
    th.testing.assert_close(loss.detach(), (q - target).square().mean() / 2)


def test_the_lectures_grid_is_solved_exactly():
    env = make_native_vec_env("Lecture/GridWorld-v0", 8, seed=0)
    model = MPO("MlpPolicy", env, learning_rate=3e-3, gamma=0.95, epsilon_mean=0.05, target_update_interval=25, batch_size=64,
                learning_starts=200, seed=0, device="cpu").learn(4_000)  # fmt: skip
    assert exact_evaluation(model).regret == pytest.approx(0.0, abs=1e-9)


@pytest.mark.parametrize("cls", [MPO, SACDiscrete])
def test_a_picture_policys_extractor_takes_its_arguments(cls):
    env = FakeImageEnv(screen_height=36, screen_width=36, n_channels=1, discrete=True)
    more = {"features_extractor_kwargs": {"features_dim": 16}}
    assert cls("CnnPolicy", env, buffer_size=10, policy_kwargs=more).policy.actor.features_dim == 16


def test_more_samples_than_memory_are_named():
    model = MPO("MlpPolicy", "Pendulum-v1", n_samples=10**12, buffer_size=50, learning_starts=2, batch_size=4, device="cpu")
    with pytest.raises(ValueError, match=r"n_samples=1000000000000, batch_size=4.* does not fit into memory"):
        model.learn(4)


def test_actions_of_several_axes_are_refused():
    class Matrix(Target):
        action_space = spaces.Box(-1, 1, (2, 2), np.float32)

    with pytest.raises(ValueError, match="must have one axis"):
        MPO("MlpPolicy", Matrix())


@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_the_configured_player_swings_the_pendulum_up(seed):
    from sb3_lecture.zoo import configs

    entry = configs.read_entries(configs.config_path("mpo"))["Pendulum-v1"]
    steps, n_envs, policy = (entry.pop(name) for name in ("n_timesteps", "n_envs", "policy"))
    model = MPO(policy, make_vec_env("Pendulum-v1", n_envs, seed=seed), seed=seed, **entry).learn(int(steps))
    assert evaluate_policy(model, make_vec_env("Pendulum-v1", 10, seed=5000), 50, warn=False)[0] >= -180
