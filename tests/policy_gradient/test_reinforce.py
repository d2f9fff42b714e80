"""REINFORCE against the exact policy gradient, and its switches."""

import copy
import itertools

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from numpy.testing import assert_allclose
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.vec_env import DummyVecEnv
from torch.distributions import Bernoulli, Categorical, Normal

from sb3_lecture import REINFORCE
from sb3_lecture.common.vec_env import GymnasiumVecEnv
from sb3_lecture_envs.mdp import TabularMDP
from sb3_lecture_envs.tabular_env import TabularEnv, TabularVectorEnv

GAMMA = 0.9
LINEAR = {"net_arch": {"pi": [], "vf": []}, "optimizer_class": th.optim.SGD}
SWITCHES = list(itertools.product(("total", "reward_to_go"), (None, "mean", "value")))


def small_mdp() -> TabularMDP:
    """Six states in three layers, two actions, stochastic, some episodes short; the rewards do not average to zero."""
    rng = np.random.default_rng(3)
    transition, reward = np.zeros((6, 2, 6)), rng.normal(0.5, 1.0, size=(6, 2, 6))
    reward[:, 1] += 2.0
    for s, successors in {0: (1, 2), 1: (3, 4, 5), 2: (3, 4, 5), 3: (5,), 4: (5,)}.items():
        for a in range(2):
            transition[s, a, list(successors)] = rng.dirichlet(np.ones(len(successors)))
    return TabularMDP.from_dense(transition, reward, terminal=np.arange(6) == 5, start=np.array([0.8, 0.2, 0, 0, 0, 0]))


def exact_value(mdp: TabularMDP, policy: th.Tensor, start: np.ndarray, gamma: float) -> th.Tensor:
    """Σ over all trajectories of probability times discounted return, enumerated; differentiable in ``policy`` [S, A]."""
    total = th.zeros((), dtype=th.float64)
    open_ends = [(th.tensor(p, dtype=th.float64), s, 0.0, 0) for s, p in enumerate(start) if p > 0]
    while open_ends:
        probability, s, g, t = open_ends.pop()
        for a in range(mdp.n_actions):
            for p, s_next, r, terminated in mdp.outcomes(s, a):
                path, g_next = probability * policy[s, a] * p, g + gamma**t * r
                if terminated:
                    total = total + path * g_next
                else:
                    open_ends.append((path, s_next, g_next, t + 1))
    return total


class Gradients(BaseCallback):
    """Gradient of the actor left by each update (with learning rate 0, estimates at the same parameters)."""

    def __init__(self) -> None:
        super().__init__()
        self.estimates: list[np.ndarray] = []

    def _on_step(self) -> bool:
        return True

    def _on_rollout_start(self) -> None:
        weight = self.model.policy.action_net.weight
        if weight.grad is not None:
            self.estimates.append(-weight.grad.numpy().T.copy())  # ascent direction [S, A]


def gradient_estimates(n_batches: int, **kwargs) -> tuple[np.ndarray, np.ndarray]:
    """Estimates of ∇J by REINFORCE [n_batches, S, A], and the exact gradient [S, A]."""
    mdp = small_mdp()
    env = GymnasiumVecEnv(TabularVectorEnv(mdp, num_envs=16, autoreset_mode="SAME_STEP"))
    model = REINFORCE("MlpPolicy", env, learning_rate=0.0, n_episodes=64, gamma=GAMMA, seed=1, device="cpu",
                      policy_kwargs=LINEAR, discount_gradient=True, **kwargs)  # fmt: skip
    theta = th.as_tensor(np.random.default_rng(0).normal(size=(6, 2)), dtype=th.float64).requires_grad_()  # a softmax policy
    exact = th.autograd.grad(exact_value(mdp, theta.softmax(dim=1), mdp.start, GAMMA), theta)[0].numpy()
    policy = model.policy
    with th.no_grad():
        policy.action_net.weight.copy_(theta.T)
        policy.action_net.bias.zero_()
        values = [exact_value(mdp, theta.softmax(dim=1), np.eye(6)[s], GAMMA) for s in range(5)]
        policy.value_net.weight.copy_(th.tensor([[*values, 0.0]]))  # the baseline is v_π itself
        policy.value_net.bias.zero_()
    callback = Gradients()
    while len(callback.estimates) < n_batches:
        model.learn(n_batches * 200, callback=callback, reset_num_timesteps=False)
    return np.array(callback.estimates[:n_batches]), exact


@pytest.fixture(scope="module")
def estimates():
    return {switch: gradient_estimates(60, returns=switch[0], baseline=switch[1]) for switch in SWITCHES}


@pytest.mark.parametrize("switch", SWITCHES, ids=str)
def test_the_estimate_is_the_exact_policy_gradient_within_three_standard_errors(estimates, switch):
    samples, exact = estimates[switch]
    error = samples.std(axis=0, ddof=1) / np.sqrt(len(samples))  # [S, A]
    assert np.linalg.norm(exact) > 10 * np.linalg.norm(error)  # the bound below is worth something
    assert np.all(np.abs(samples.mean(axis=0) - exact) <= 3 * error + 1e-12)


def test_variance_falls_from_total_to_reward_to_go_to_value_baseline(estimates):
    def variance(switch):
        return estimates[switch][0].var(axis=0).sum()

    total, to_go, value = variance(("total", None)), variance(("reward_to_go", None)), variance(("reward_to_go", "value"))
    assert total > 1.2 * to_go > 1.2 * 1.2 * value
    assert variance(("total", "mean")) < total and variance(("reward_to_go", "mean")) < to_go


def test_without_the_factor_the_weights_are_undiscounted_in_time():
    mdp = small_mdp()
    env = DummyVecEnv([lambda: TabularEnv(mdp)] * 3)
    model = REINFORCE("MlpPolicy", env, n_episodes=4, gamma=GAMMA, baseline=None, seed=0, device="cpu")
    model.learn(1)
    _, weights = model.compute_weights(None)
    model.discount_gradient = True
    _, discounted = model.compute_weights(None)
    buffer = model.rollout_buffer
    age = np.zeros(3, int)
    ages = []  # steps since the start of each counted step's episode
    for t in range(buffer.pos):
        age = np.where(buffer.starts[t], 0, age + 1)
        ages.extend(age[buffer.counted[t]])
    assert len(set(ages)) > 1
    assert_allclose(discounted.numpy(), weights.numpy() * GAMMA ** np.array(ages), rtol=1e-5)


class Countdown(gym.Env):
    """Episodes of ``length`` steps, reward 1 a step; the observation is the step's number. Terminates, or is truncated."""

    def __init__(self, length: int, truncate: bool, action_space: spaces.Space | None = None) -> None:
        self.length, self.truncate = length, truncate
        self.observation_space = spaces.Box(0.0, 100.0, (1,), np.float32)
        self.action_space = spaces.Discrete(2) if action_space is None else action_space

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.t += 1
        over = self.t == self.length
        return np.full(1, self.t, np.float32), 1.0, over and not self.truncate, over and self.truncate, {}


def countdown_model(lengths: list[int], truncate: bool, action_space: spaces.Space | None = None, **kwargs) -> REINFORCE:
    env = DummyVecEnv([lambda n=n: Countdown(n, truncate, action_space) for n in lengths])
    return REINFORCE("MlpPolicy", env, learning_rate=0.0, gamma=0.5, seed=0, device="cpu", **kwargs)


def test_a_truncated_episode_is_bootstrapped_with_the_value_baseline_only():
    for truncate, baseline in itertools.product((False, True), (None, "value")):
        model = countdown_model([3], truncate, baseline=baseline, n_episodes=2)
        model.learn(1)
        with th.no_grad():
            values = model.policy.predict_values(th.tensor([[0.0], [1.0], [2.0], [3.0]])).flatten()  # v(s_0) … v(s_3)
        returns, weights = model.compute_weights(values[[0, 1, 2, 0, 1, 2]] if baseline else None)
        rest = 0.5 * float(values[3]) if truncate and baseline == "value" else 0.0
        g = np.array([1 + 0.5 * (1 + 0.5 * (1 + rest)), 1 + 0.5 * (1 + rest), 1 + rest])
        assert_allclose(returns.numpy(), np.tile(g, 2), rtol=1e-5)
        expected = g - values[:3].numpy() if baseline else g
        assert_allclose(weights.numpy(), np.tile(expected, 2), rtol=1e-4, atol=1e-6)


def test_a_batch_holds_the_first_episodes_started_whatever_their_length():
    model = countdown_model([2, 5], False, n_episodes=4, baseline=None)
    model.learn(1)
    buffer = model.rollout_buffer
    counted, starts = buffer.counted[: buffer.pos], buffer.starts[: buffer.pos]
    # starts: both envs at t = 0, env 0 at t = 2 and t = 4: four; env 0 is then idle, env 1 ends at t = 4
    assert int((starts & counted).sum()) == 4
    assert counted[:, 0].tolist() == [True] * 6 and counted[:, 1].tolist() == [True] * 5 + [False]
    assert not np.all(model._last_episode_starts)  # env 1 has begun an episode that this batch does not count …
    model.learn(1, reset_num_timesteps=False)
    assert model.rollout_buffer.starts[0].all()  # … and begins anew for the next batch


def test_normalized_weights_have_mean_zero_and_variance_one():
    model = countdown_model([3, 4], False, n_episodes=4, baseline=None, normalize_returns=True)
    model.learn(1)
    _, weights = model.compute_weights(None)
    assert_allclose([weights.mean(), weights.std(correction=0)], [0.0, 1.0], atol=1e-5)


def log_density(action_space: spaces.Space, outputs: th.Tensor, log_std: th.Tensor | None, actions: th.Tensor) -> th.Tensor:
    """ln π(a|s) [N] from the action net's outputs, written out in PyTorch's own distributions."""
    if isinstance(action_space, spaces.Discrete):
        return Categorical(logits=outputs).log_prob(actions)
    if isinstance(action_space, spaces.MultiDiscrete):
        parts = outputs.split(action_space.nvec.tolist(), dim=1)
        return sum(Categorical(logits=part).log_prob(actions[:, i]) for i, part in enumerate(parts))
    if isinstance(action_space, spaces.MultiBinary):
        return Bernoulli(logits=outputs).log_prob(actions).sum(dim=1)
    return Normal(outputs, log_std.exp()).log_prob(actions).sum(dim=1)


@pytest.mark.parametrize("baseline", [None, "mean", "value"])
@pytest.mark.parametrize(
    "action_space",
    [spaces.Discrete(3), spaces.MultiDiscrete([2, 3]), spaces.MultiBinary(3), spaces.Box(-1.0, 1.0, (2,), np.float32)],
    ids=lambda space: type(space).__name__,
)
def test_the_step_is_the_gradient_of_log_pi_for_every_action_space(action_space, baseline):
    """Three episodes of different length from two envs; the step by hand: α / 3 · Σ Ψ ∇ln π on the last layer."""
    env = DummyVecEnv([lambda n=n: Countdown(n, False, action_space) for n in (2, 4)])
    model = REINFORCE("MlpPolicy", env, learning_rate=0.1, n_episodes=3, gamma=0.5, baseline=baseline, vf_coef=0.0, seed=0,
                      device="cpu", policy_kwargs={"optimizer_class": th.optim.SGD})  # fmt: skip
    twin = copy.deepcopy(model.policy)
    model.learn(1)
    buffer = model.rollout_buffer
    observations, actions = buffer.observation_batch(), buffer.action_batch()
    with th.no_grad():
        values = twin.predict_values(observations).flatten() if baseline == "value" else None
    to_go, weights = model.compute_weights(values)
    left = np.where(np.arange(2) == 0, 2, 4) - observations.numpy()  # steps to the end, were the env the first or second
    assert all(g in 2 - 2.0 ** (1 - row) for g, row in zip(to_go.numpy(), left, strict=True))  # 1 + 1/2 + 1/4 + …
    latent = twin.mlp_extractor.forward_actor(twin.extract_features(observations))
    log_prob = log_density(action_space, twin.action_net(latent), getattr(twin, "log_std", None), actions)
    gradient = th.autograd.grad((weights * log_prob).sum() / 3, twin.action_net.weight)[0]
    assert gradient.abs().max() > 1e-3
    th.testing.assert_close(model.policy.action_net.weight, twin.action_net.weight + 0.1 * gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"returns": "both"}, "reward_to_go"),
        ({"baseline": "median"}, "mean"),
        ({"n_episodes": 0}, "n_episodes=0"),
        ({"n_episodes": 1, "baseline": "mean"}, "use 2 or more"),
    ],
)
def test_wrong_arguments_are_named(kwargs, message):
    with pytest.raises(ValueError, match=message):
        REINFORCE("MlpPolicy", "CartPole-v1", **kwargs)
