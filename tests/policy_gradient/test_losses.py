"""Every term of every loss against a second writing of it, on a handful of transitions; step sizes, clipping and schedules.

The world has three observations and two actions, the networks are tables (one linear layer over one-hot observations), the
optimizer is SGD, so that a step is −α times a gradient and nothing else.
"""

import copy

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from numpy.testing import assert_allclose
from stable_baselines3 import A2C, PPO
from stable_baselines3.common.buffers import RolloutBuffer
from stable_baselines3.common.type_aliases import ReplayBufferSamples
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_lecture import REINFORCE, ActorCritic, PPOPenalty
from sb3_lecture.policy_gradient.sac_discrete import SACDiscrete

SGD = {"optimizer_class": th.optim.SGD}
TABLES = {"net_arch": {"pi": [], "vf": []}, **SGD}


class Triangle(gym.Env):
    """States 0, 1, 2; action 1 pays the state's number plus one, action 0 nothing; an episode has ``length`` steps."""

    observation_space = spaces.Discrete(3)
    action_space = spaces.Discrete(2)

    def __init__(self, length=4, truncate=False, poison=None):
        self.length, self.truncate, self.poison = length, truncate, poison

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return 0, {}

    def step(self, action):
        reward = float(action) * (1 + self.t % 3)
        self.t += 1
        over = self.t == self.length
        if self.poison == "reward" and self.t == 2:
            reward = float("nan")
        return self.t % 3, reward, over and not self.truncate, over and self.truncate, {}


class Numbers(Triangle):
    """The same, its state as a number of a Box; it may go bad."""

    observation_space = spaces.Box(-np.inf, np.inf, (1,), np.float32)

    def seen(self, state):
        bad = self.poison == "observation" and self.t == 2
        return np.full(1, np.nan if bad else state, np.float32)

    def reset(self, *, seed=None, options=None):
        return self.seen(super().reset(seed=seed)[0]), {}

    def step(self, action):
        state, *rest = super().step(action)
        return self.seen(state), *rest


def envs(n=2, cls=Triangle, **kwargs):
    return DummyVecEnv([lambda: cls(**kwargs)] * n)


def state_of(model):
    return {key: value.clone() for key, value in model.policy.state_dict().items()}


# ---------------------------------------------------------------- against SB3's own


def half_then_less(progress):
    return 0.2 * progress


@pytest.mark.parametrize("ent_coef", [0.0, 0.3])
@pytest.mark.parametrize("max_grad_norm", [0.05, 1e9])
@pytest.mark.parametrize("normalize_advantage", [False, True])
def test_actor_critic_is_sb3_s_a2c_in_every_term(ent_coef, max_grad_norm, normalize_advantage):
    """Entropy, the critic's weight, clipping and a falling learning rate, over three updates and the ends of episodes."""

    def learned(cls, **kwargs):
        model = cls("MlpPolicy", envs(), learning_rate=half_then_less, n_steps=3, gamma=0.8, ent_coef=ent_coef, vf_coef=0.7,
                    max_grad_norm=max_grad_norm, normalize_advantage=normalize_advantage, seed=1, device="cpu",
                    policy_kwargs=copy.deepcopy(TABLES), **kwargs)  # fmt: skip
        return state_of(model.learn(18))

    ours, theirs = learned(ActorCritic), learned(A2C, gae_lambda=1.0, use_rms_prop=False)
    for key, value in theirs.items():
        th.testing.assert_close(ours[key], value)


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"ent_coef": 0.3, "max_grad_norm": 0.05, "gae_lambda": 0.5, "gamma": 0.7},
        {"clip_range_vf": 0.01, "vf_coef": 2.0, "normalize_advantage": False},
    ],
    ids=str,
)
def test_without_its_penalty_ppo_penalty_is_sb3_s_ppo_without_its_clip(settings):
    def learned(cls, **kwargs):
        model = cls("MlpPolicy", envs(), learning_rate=lambda progress: 0.1 * (2 - progress), n_steps=6, batch_size=12,
                    n_epochs=3, seed=1, device="cpu", policy_kwargs=copy.deepcopy(TABLES), **settings, **kwargs)  # fmt: skip
        model.learn(12)  # one rollout: the second would be drawn with other random numbers
        return state_of(model), dict(model.logger.name_to_value)

    ours, our_log = learned(PPOPenalty, beta=0.0, adaptive=False)
    theirs, their_log = learned(PPO, clip_range=1e9)
    for key, value in theirs.items():
        th.testing.assert_close(ours[key], value, rtol=1e-4, atol=1e-6)
    shared = {key for key in their_log if key.startswith("train/")} - {"train/clip_fraction", "train/clip_range"}
    assert {"train/loss", "train/approx_kl", "train/value_loss", "train/entropy_loss"} <= shared
    for key in shared:
        assert our_log[key] == pytest.approx(their_log[key], rel=1e-3, abs=1e-6), key


class Marked(RolloutBuffer):
    def __init__(self, *args, mark=0, **kwargs):
        super().__init__(*args, **kwargs)
        self.mark = mark


def test_ppo_penalty_takes_a_rollout_buffer_class():
    model = PPOPenalty("MlpPolicy", envs(), rollout_buffer_class=Marked, rollout_buffer_kwargs={"mark": 7}, device="cpu")
    assert isinstance(model.rollout_buffer, Marked) and model.rollout_buffer.mark == 7


# ---------------------------------------------------------------- PPO's penalty


def test_the_penalty_is_kl_from_the_old_policy_to_the_new():
    """Two epochs of one minibatch; in the second the penalty has a gradient, that of β Σ_a π_old ln(π_old / π)."""
    beta, alpha = 3.0, 5.0
    model = PPOPenalty("MlpPolicy", envs(), learning_rate=alpha, n_steps=6, batch_size=12, n_epochs=2, beta=beta, gamma=0.9,
                       adaptive=False, normalize_advantage=False, ent_coef=0.1, max_grad_norm=1e9, seed=0, device="cpu",
                       policy_kwargs=TABLES)  # fmt: skip
    with th.no_grad():
        model.policy.action_net.weight.copy_(th.tensor([[1.5, -0.5, 0.0], [0.0, 0.5, -1.0]]))  # far from uniform
    twin = copy.deepcopy(model.policy)
    model.learn(12)
    data = model.rollout_buffer
    s, a = th.as_tensor(data.observations).flatten().long(), th.as_tensor(data.actions).flatten().long()  # [12]
    advantages, returns = th.as_tensor(data.advantages).flatten(), th.as_tensor(data.returns).flatten()
    one_hot = th.nn.functional.one_hot(s, 3).float()
    old = twin.action_net(one_hot).softmax(dim=1).detach()  # π_old [12, 2]
    for _ in range(2):
        pi = twin.action_net(one_hot).softmax(dim=1)
        surrogate = (pi / old).gather(1, a[:, None])[:, 0] * advantages  # eq. (8)
        kl = (old * (old / pi).log()).sum(dim=1)
        entropy = -(pi * pi.log()).sum(dim=1)
        critic = (twin.value_net(one_hot)[:, 0] - returns) ** 2
        loss = (-surrogate + beta * kl - 0.1 * entropy + 0.5 * critic).mean()
        heads = [*twin.action_net.parameters(), *twin.value_net.parameters()]
        steps = th.autograd.grad(loss, heads)
        with th.no_grad():
            for parameter, gradient in zip(heads, steps, strict=True):
                parameter -= alpha * gradient
    for ours, theirs in ((model.policy.action_net, twin.action_net), (model.policy.value_net, twin.value_net)):
        th.testing.assert_close(ours.weight, theirs.weight, rtol=1e-4, atol=1e-6)
    pi = twin.action_net(one_hot).softmax(dim=1)
    forward, backward = ((p * (p / q).log()).sum(dim=1).mean().item() for p, q in ((old, pi), (pi, old)))
    assert abs(forward - backward) > 0.05 * forward  # the two directions differ here
    assert model.logger.name_to_value["train/kl"] == pytest.approx(forward, rel=1e-4)


def test_beta_neither_dies_nor_explodes_and_does_not_begin_dead():
    model = PPOPenalty("MlpPolicy", envs(), beta=1.0, device="cpu")
    for distance, end in ((0.0, 1e-8), (1.0, 1e8)):
        for _ in range(100):
            model.adapt_beta(distance)
        assert model.beta == end
    with pytest.raises(ValueError, match="adaptive=False"):
        PPOPenalty("MlpPolicy", envs(), beta=0.0)


# ---------------------------------------------------------------- REINFORCE


@pytest.mark.parametrize("max_grad_norm", [None, 0.01])
def test_reinforce_s_loss_term_by_term(max_grad_norm):
    """−(1/n) Σ Ψ ln π − c_H (1/n) Σ H + c_v mean (v − G)², its gradient by autograd of that line."""
    model = REINFORCE("MlpPolicy", envs(), learning_rate=0.1, n_episodes=3, gamma=0.5, ent_coef=0.2, vf_coef=0.7,
                      max_grad_norm=max_grad_norm, seed=0, device="cpu", policy_kwargs=TABLES)  # fmt: skip
    with th.no_grad():
        model.policy.action_net.weight.copy_(th.tensor([[1.0, -0.5, 0.0], [0.0, 0.5, -1.0]]))
        model.policy.value_net.weight.copy_(th.tensor([[0.5, -1.0, 2.0]]))
    twin = copy.deepcopy(model.policy)
    model.learn(1)  # three episodes of four steps on two envs
    buffer = model.rollout_buffer
    counted = buffer.counted[: buffer.pos]
    s, a, r = (x[: buffer.pos].squeeze() for x in (buffer.observations[""], buffer.actions, buffer.rewards))  # [8, 2]
    g = np.zeros_like(r)
    for row in range(buffer.pos - 1, -1, -1):
        g[row] = r[row] + (0.0 if row == buffer.pos - 1 else 0.5 * g[row + 1] * ~buffer.dones[row])
    s, a, g = (th.as_tensor(x[counted]) for x in (s, a, g))  # [12]
    one_hot = th.nn.functional.one_hot(s.long(), 3).float()
    pi = twin.action_net(one_hot).softmax(dim=1)
    v = twin.value_net(one_hot)[:, 0]
    log_prob = pi.gather(1, a.long()[:, None])[:, 0].log()
    entropy = -(pi * pi.log()).sum(dim=1)
    loss = -((g - v.detach()) * log_prob).sum() / 3 - 0.2 * entropy.sum() / 3 + 0.7 * ((v - g) ** 2).mean()
    heads = [twin.action_net.weight, twin.action_net.bias, twin.value_net.weight, twin.value_net.bias]
    gradients = th.autograd.grad(loss.float(), heads)
    norm = th.cat([x.flatten() for x in gradients]).norm()
    scale = 1.0 if max_grad_norm is None else max_grad_norm / norm
    ours = [model.policy.action_net.weight, model.policy.action_net.bias, model.policy.value_net.weight,
            model.policy.value_net.bias]  # fmt: skip
    for new, old, gradient in zip(ours, heads, gradients, strict=True):
        th.testing.assert_close(new, old - 0.1 * scale * gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("cls", "settings", "n"),
    [(REINFORCE, {"n_episodes": 2}, 8), (ActorCritic, {"n_steps": 4}, 8), (ActorCritic, {"n_steps": 4, "critic": "q"}, 8),
     (PPOPenalty, {"n_steps": 4, "batch_size": 8, "n_epochs": 1}, 8)],
    ids=str,
)  # fmt: skip
def test_a_clipped_step_is_the_schedule_s_learning_rate_long(cls, settings, n):
    """At the first update half of the training is over: α = 0.2 · ½; the gradient's norm is clipped to 0.001."""
    model = cls("MlpPolicy", envs(), learning_rate=half_then_less, max_grad_norm=1e-3, seed=0, device="cpu",
                policy_kwargs=copy.deepcopy(SGD), **settings)  # fmt: skip
    before = th.cat([p.detach().flatten().clone() for p in model.policy.parameters()])
    steps = []
    update = model.policy.optimizer.step
    model.policy.optimizer.step = lambda *args: (update(*args), steps.append(0))[0]
    train = model.train

    def once():
        if not steps:
            train()

    model.train = once
    model.learn(2 * n)
    after = th.cat([p.detach().flatten() for p in model.policy.parameters()])
    assert len(steps) == 1
    assert (after - before).norm().item() == pytest.approx(0.1 * 1e-3, rel=0.02)


def mean_baseline_variance(baseline):
    """Total variance of REINFORCE's estimate in the two-step example, by enumeration of all batches of two episodes.

    A pays 100 for action 0 and 99 for action 1, and its policy takes 0 with probability 1 − 10⁻⁶; B pays nothing, and its
    policy tosses a coin.
    """
    p = {"A": np.array([1 - 1e-6, 1e-6]), "B": np.array([0.5, 0.5])}
    episodes = []  # (probability, returns to go, ∇ ln π in the logits of A and of B)
    for a in range(2):
        for b in range(2):
            scores = np.zeros((2, 4))  # [step, logits]
            scores[0, :2], scores[1, 2:] = np.eye(2)[a] - p["A"], np.eye(2)[b] - p["B"]
            episodes.append((p["A"][a] * p["B"][b], np.array([100.0 - a, 0.0]), scores))
    first, second = np.zeros(4), 0.0
    for weight_1, g_1, scores_1 in episodes:
        for weight_2, g_2, scores_2 in episodes:
            b_1, b_2 = (g_2.mean(), g_1.mean()) if baseline else (0.0, 0.0)  # of the other episode, over its steps
            estimate = ((g_1 - b_1) @ scores_1 + (g_2 - b_2) @ scores_2) / 2
            first += weight_1 * weight_2 * estimate
            second += weight_1 * weight_2 * estimate @ estimate
    return second - first @ first


class PaysOnce(gym.Env):
    observation_space, action_space = spaces.Discrete(2), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return 0, {}

    def step(self, action):
        self.t += 1
        return min(self.t, 1), 100.0 - action if self.t == 1 else 0.0, self.t == 2, False, {}


def test_the_mean_baseline_can_add_variance():
    """The docs' example: 0.0098 without, 625 with; and the weights of ∇ ln π are those of the enumeration."""
    assert mean_baseline_variance(False) == pytest.approx(0.0098, rel=0.01)
    assert mean_baseline_variance(True) == pytest.approx(625.0, rel=0.01)
    for baseline, expected in ((None, [100.0, 0.0]), ("mean", [50.0, -50.0])):
        model = REINFORCE("MlpPolicy", envs(1, PaysOnce), n_episodes=2, gamma=1.0, baseline=baseline, seed=0, device="cpu",
                          policy_kwargs=TABLES)  # fmt: skip
        with th.no_grad():
            model.policy.action_net.weight.copy_(th.tensor([[20.0, 0.0], [0.0, 0.0]]))
        model.learn(1)
        assert_allclose(model.compute_weights(None)[1].numpy(), expected * 2)


@pytest.mark.parametrize(("cls", "settings"), [(REINFORCE, {"n_episodes": 1}), (ActorCritic, {"n_steps": 4})], ids=str)
def test_the_entropy_of_squashed_actions_is_estimated_by_minus_ln_pi(cls, settings):
    policy_kwargs = {"squash_output": True, **TABLES}
    env = DummyVecEnv([lambda: gym.make("Pendulum-v1", max_episode_steps=4)])
    model = cls("MlpPolicy", env, use_sde=True, learning_rate=0.0, ent_coef=0.1, seed=0, device="cpu",
                policy_kwargs=policy_kwargs, **settings)  # fmt: skip
    model.learn(4)
    buffer = model.rollout_buffer
    observations = buffer.observation_batch() if cls is REINFORCE else th.as_tensor(buffer.observations)
    actions = buffer.action_batch() if cls is REINFORCE else th.as_tensor(buffer.actions)
    with th.no_grad():
        _, log_prob, entropy = model.policy.evaluate_actions(observations, actions)
    assert entropy is None
    assert model.logger.name_to_value["train/entropy_loss"] == pytest.approx(log_prob.mean().item(), rel=1e-4)


# ---------------------------------------------------------------- SAC for discrete actions

#: (s, a, r, s', end, discount): an n-step return's γ², and two of γ
TRANSITIONS = [(0, 1, 1.0, 1, 0.0, 0.81), (1, 0, -2.0, 2, 0.0, 0.9), (2, 1, 0.5, 0, 1.0, 0.9)]


def sac(**kwargs):
    """A model of tables that is always given the three transitions, and the tables: actor, critics, slow critics [S, A]."""
    rng = np.random.default_rng(0)
    tables = rng.normal(size=(5, 3, 2))
    settings = {"learning_rate": 0.1, "tau": 0.25, "buffer_size": 10, "seed": 0, "device": "cpu"} | kwargs
    model = SACDiscrete("MlpPolicy", envs(1), policy_kwargs={"net_arch": [], **SGD}, **settings)
    model._setup_learn(1)
    nets = [model.policy.actor, *model.policy.critics, *model.policy.critic_targets]
    with th.no_grad():
        for net, table in zip(nets, tables, strict=True):
            net.q_net[0].weight.copy_(th.as_tensor(table.T))
            net.q_net[0].bias.zero_()
    s, a, r, s_next, end, discount = (th.tensor(x) for x in zip(*TRANSITIONS, strict=True))
    observations = [th.nn.functional.one_hot(x, 3)[:, None].float().argmax(dim=2) for x in (s, s_next)]
    data = ReplayBufferSamples(observations[0], a[:, None], observations[1], end[:, None], r[:, None], discount[:, None])
    model.replay_buffer.sample = lambda batch_size, env=None: data
    return model, nets, tables


def table_of(net):
    """What a net of one layer says of each state, [S, A]."""
    layer = net.q_net[0]
    return (layer.weight.T + layer.bias).detach().numpy()


def shifted(table, gradient, alpha=0.1):
    """SGD on weights and biases of a one-hot layer: the entry's own gradient, and that of the bias it shares."""
    return table - alpha * gradient - alpha * gradient.sum(axis=0)


@pytest.mark.parametrize("ent_coef", [0.0, 0.3])
def test_one_update_of_sac_discrete_by_hand(ent_coef):
    model, nets, (logits, q_1, q_2, slow_1, slow_2) = sac(ent_coef=ent_coef)
    model.train(1, 3)
    pi = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    v = (pi * (np.minimum(slow_1, slow_2) - ent_coef * np.log(pi))).sum(axis=1)  # eq. (10), the smaller critic
    critics, losses = [], 0.0
    for q in (q_1, q_2):
        gradient = np.zeros((3, 2))
        for s, a, r, s_next, end, discount in TRANSITIONS:
            error = q[s, a] - (r + (1 - end) * discount * v[s_next])
            losses += error**2 / 3 / 2
            gradient[s, a] = error / 3  # of ½ mean (Q − y)², eq. (4)
        critics.append(shifted(q, gradient))
    for net, expected in zip(nets[1:3], critics, strict=True):
        assert_allclose(table_of(net), expected, rtol=1e-5, atol=1e-6)
    assert model.logger.name_to_value["train/critic_loss"] == pytest.approx(losses, rel=1e-5)
    g = ent_coef * np.log(pi) - np.minimum(q_1, q_2)  # of the critics before their step
    gradient = pi * (g - (pi * g).sum(axis=1, keepdims=True)) / 3  # eq. (12)
    assert_allclose(table_of(nets[0]), shifted(logits, gradient), rtol=1e-5, atol=1e-6)
    for net, slow, fast in zip(nets[3:], (slow_1, slow_2), critics, strict=True):
        assert_allclose(table_of(net), 0.75 * slow + 0.25 * fast, rtol=1e-5, atol=1e-6)
    entropy = -(pi * np.log(pi)).sum(axis=1).mean()
    assert model.logger.name_to_value["train/entropy"] == pytest.approx(entropy, rel=1e-5)
    assert model.logger.name_to_value["train/ent_coef"] == pytest.approx(ent_coef)


def test_the_temperature_s_step_is_against_the_entropy_s_error():
    """∂J_α/∂ln α = H − H̄ (eq. 11); Adam's first step has the learning rate's length, and the schedule's."""
    for target, sign in ((0.1, -1.0), (5.0, 1.0)):
        model, *_ = sac(ent_coef="auto_0.5", target_entropy=target, learning_rate=half_then_less)
        model._current_progress_remaining = 0.25
        model.train(1, 3)
        assert model.log_ent_coef.item() == pytest.approx(np.log(0.5) + sign * 0.05, rel=1e-4)
        gradient = model.log_ent_coef.grad.item()
        assert gradient == pytest.approx(model.logger.name_to_value["train/entropy"] - target, rel=1e-4)


def test_slow_critics_move_every_so_many_updates_and_n_steps_reach_the_buffer():
    model, nets, (*_, slow_1, _) = sac(ent_coef=0.3, target_update_interval=2)
    model.train(1, 3)
    first = table_of(nets[3]).copy()
    assert not np.allclose(first, slow_1)
    model.train(1, 3)
    assert_allclose(table_of(nets[3]), first)
    model.train(1, 3)
    assert not np.allclose(table_of(nets[3]), first)
    assert sac(n_steps=3, ent_coef=0.3)[0].replay_buffer.n_steps == 3


# ---------------------------------------------------------------- numbers that are not finite

POISONED = [
    (REINFORCE, {"n_episodes": 2}),
    (ActorCritic, {"n_steps": 4}),
    (PPOPenalty, {"n_steps": 4, "batch_size": 4}),
    (SACDiscrete, {"learning_starts": 0, "buffer_size": 50, "batch_size": 50}),
]


@pytest.mark.parametrize(("cls", "settings"), POISONED, ids=str)
def test_nan_is_one_error_that_names_where_it_came_from(cls, settings):
    for poison, text in (("observation", "observation"), ("reward", "NaN or inf in the rewards")):
        model = cls("MlpPolicy", envs(1, Numbers, poison=poison), seed=0, device="cpu", **settings)
        with pytest.raises(ValueError, match=text):
            model.learn(60)
    model = cls("MlpPolicy", envs(1, Numbers), seed=0, device="cpu", **settings)
    with th.no_grad():
        for parameter in model.policy.parameters():
            parameter.fill_(float("nan"))
    with pytest.raises(ValueError, match="NaN or inf in the network"):
        model.learn(60)
