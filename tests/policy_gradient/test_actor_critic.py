"""The actor-critic against exact values and a hand-worked update."""

import numpy as np
import pytest
import torch as th
from numpy.testing import assert_allclose
from stable_baselines3 import A2C
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_lecture import ActorCritic
from sb3_lecture.common.vec_env import GymnasiumVecEnv
from sb3_lecture.exact.solver import policy_evaluation, q_from_v
from sb3_lecture_envs.mdp import TabularMDP
from sb3_lecture_envs.tabular_env import TabularEnv, TabularVectorEnv

GAMMA = 0.8


def random_mdp() -> TabularMDP:
    """Five states and a terminal one, two actions; from everywhere to everywhere."""
    rng = np.random.default_rng(5)
    transition, reward = rng.dirichlet(np.ones(6), size=(6, 2)), rng.normal(size=(6, 2))
    return TabularMDP.from_dense(transition, reward, terminal=np.arange(6) == 5, start=np.array([0.2] * 5 + [0.0]))


def freeze_actor(model: ActorCritic, logits: np.ndarray) -> np.ndarray:
    """Fix the policy to softmax(logits) [S, A]; only the critic learns from now on. Returns its probabilities."""
    net = model.policy.action_net
    with th.no_grad():
        net.weight.copy_(th.as_tensor(logits.T))
        net.bias.zero_()
    net.requires_grad_(False)
    return th.as_tensor(logits).softmax(dim=1).numpy()


@pytest.mark.parametrize(("critic", "n_steps", "time_limit"), [("v", 1, None), ("v", 4, None), ("q", 1, None), ("q", 1, 3)])
def test_the_critic_finds_the_exact_values_of_a_fixed_policy(critic, n_steps, time_limit):
    mdp = random_mdp()
    env = GymnasiumVecEnv(TabularVectorEnv(mdp, num_envs=64, max_episode_steps=time_limit, autoreset_mode="SAME_STEP"))
    model = ActorCritic(
        "MlpPolicy", env, critic=critic, n_steps=n_steps, gamma=GAMMA, learning_rate=0.05, seed=0, device="cpu",
        policy_kwargs={"net_arch": {"pi": [], "vf": []}},
    )  # fmt: skip
    pi = freeze_actor(model, np.random.default_rng(1).normal(size=(6, 2)))
    model.learn(150 * 64 * n_steps)
    model.learning_rate = model.lr_schedule = lambda _: 0.004
    model.learn(100 * 64 * n_steps)
    v = policy_evaluation(mdp, pi, GAMMA)  # [S]; a time limit changes nothing, for it is bootstrapped through
    states = th.arange(5)
    with th.no_grad():
        assert_allclose(model.policy.predict_values(states).flatten(), v[:5], atol=0.1)
        if critic == "q":
            q = [model.policy.evaluate_actions(states, th.full((5,), a))[0].flatten().numpy() for a in range(2)]
            assert_allclose(np.stack(q, axis=1), q_from_v(mdp, v, GAMMA)[:5], atol=0.15)
    assert np.ptp(v[:5]) > 0.5  # the values differ by far more than the tolerance


def one_update(critic: str) -> tuple[ActorCritic, dict[str, np.ndarray], tuple[int, int, float, int, bool]]:
    """A model after one one-step update with SGD (α = 0.1), its parameters before, and the transition it saw."""
    mdp = random_mdp()
    env = DummyVecEnv([lambda: TabularEnv(mdp)])
    model = ActorCritic(
        "MlpPolicy", env, critic=critic, gamma=GAMMA, learning_rate=0.1, vf_coef=0.5, max_grad_norm=1e9, seed=0, device="cpu",
        policy_kwargs={"net_arch": {"pi": [], "vf": []}, "optimizer_class": th.optim.SGD},
    )  # fmt: skip
    freeze_actor(model, np.random.default_rng(1).normal(size=(6, 2)))
    model.policy.action_net.requires_grad_(True)
    with th.no_grad():
        model.policy.value_net.weight.normal_(generator=th.Generator().manual_seed(0))
    before = {k: v.numpy().copy() for k, v in model.policy.state_dict().items()}
    model.learn(1)
    buffer = model.rollout_buffer
    s, a, r = int(buffer.observations[0, 0]), int(buffer.actions[0, 0]), float(buffer.rewards[0, 0])
    return model, before, (s, a, r, int(model._last_obs[0]), bool(model._last_episode_starts[0]))


@pytest.mark.parametrize("critic", ["v", "q"])
def test_one_step_is_the_book_s_update(critic):
    model, before, (s, a, r, s_next, done) = one_update(critic)
    w, theta = before["value_net.weight"], before["action_net.weight"]  # [1 or A, S], [A, S]
    pi = np.exp(theta) / np.exp(theta).sum(axis=0)  # [A, S]
    v = w[0] if critic == "v" else (pi * w).sum(axis=0)  # [S]
    row = 0 if critic == "v" else a
    delta = r + GAMMA * (0.0 if done else v[s_next]) - w[row, s]  # (13.12), or Expected Sarsa's error
    w_new = w.copy()
    w_new[row, s] += 0.1 * delta  # (13.13) with vf_coef 1/2: the gradient of δ² / 2 is −δ ∇v
    grad_log_pi = (np.arange(2) == a) - pi[:, s]
    theta_new = theta.copy()
    theta_new[:, s] += 0.1 * (delta if critic == "v" else w[a, s]) * grad_log_pi  # (13.14), (13.5)
    after = model.policy.state_dict()
    assert_allclose(after["value_net.weight"], w_new, atol=1e-5)
    assert_allclose(after["action_net.weight"], theta_new, atol=1e-5)
    assert not np.allclose(theta, theta_new)


def test_the_n_step_v_critic_takes_the_same_step_as_sb3_a2c():
    def policy_after(cls, **kwargs):
        env = DummyVecEnv([lambda: TabularEnv(random_mdp())] * 2)
        env.seed(0)
        optimizer = {"optimizer_class": th.optim.SGD}
        model = cls("MlpPolicy", env, learning_rate=0.05, n_steps=5, gamma=GAMMA, seed=0, device="cpu",
                    policy_kwargs=optimizer, **kwargs)  # fmt: skip
        return model.learn(200).policy.state_dict()

    ours, theirs = policy_after(ActorCritic), policy_after(A2C, gae_lambda=1.0, use_rms_prop=False)
    for key, value in theirs.items():
        th.testing.assert_close(ours[key], value)


def test_a_q_critic_refuses_continuous_actions_and_foreign_policies():
    with pytest.raises(ValueError, match="needs Discrete actions"):
        ActorCritic("MlpPolicy", "Pendulum-v1", critic="q")
    with pytest.raises(ValueError, match="QActorCriticPolicy"):
        ActorCritic(ActorCritic.policy_aliases["MlpPolicy"], "CartPole-v1", critic="q")
    with pytest.raises(ValueError, match="n_steps=1 of one env leaves nothing to standardise"):
        ActorCritic("MlpPolicy", "CartPole-v1", normalize_advantage=True)
    with pytest.raises(ValueError, match="choose 'v' or 'q'"):
        ActorCritic("MlpPolicy", "CartPole-v1", critic="w")
    with pytest.raises(ValueError, match="n_steps=0 must be an integer of at least 1"):
        ActorCritic("MlpPolicy", "CartPole-v1", n_steps=0)
