"""BareboneDQN's loss on hand-worked transitions, and what each switch does."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from numpy.testing import assert_allclose
from stable_baselines3 import DQN
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize

from sb3_lecture import BareboneDQN
from sb3_lecture.common.optimizers import without_denormals
from sb3_lecture.value_based.plain_net import clip_gradients

GAMMA = 0.5
# q(s, ·) of the online network and of the target network, three states, two actions
Q = np.array([[1.0, 2.0], [4.0, 3.0], [0.5, 0.25]], np.float32)
Q_TARGET = np.array([[0.0, 0.0], [10.0, 20.0], [7.0, 8.0]], np.float32)


class Chain(gym.Env):
    """State 0 → 1 → 2, reward 3 then 5; the episode ends on arriving in 2, by death or by a time limit."""

    observation_space = spaces.Discrete(3)
    action_space = spaces.Discrete(2)

    def __init__(self, truncate: bool = False) -> None:
        self.truncate = truncate

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.s = 0
        return 0, {}

    def step(self, action):
        self.s += 1
        over = self.s == 2
        return self.s, (3.0, 5.0)[self.s - 1], over and not self.truncate, over and self.truncate, {}


def tabular(truncate: bool = False, n_envs: int = 1, **kwargs) -> BareboneDQN:
    """A model whose networks are the tables above."""
    settings = {"gamma": GAMMA, "seed": 0, "device": "cpu", "policy_kwargs": {"net_arch": [], "optimizer_class": th.optim.SGD},
                "exploration_initial_eps": 0.0, "exploration_final_eps": 0.0, "max_grad_norm": 1e9} | kwargs  # fmt: skip
    model = BareboneDQN("MlpPolicy", DummyVecEnv([lambda: Chain(truncate)] * n_envs), **settings)
    with th.no_grad():
        for net, table in ((model.q_net, Q), (model.q_net_target, Q_TARGET)):
            net.q_net[0].weight.copy_(th.as_tensor(table.T))
            net.q_net[0].bias.zero_()
    return model


# greedy from state 0: a = 1 (q = 2), r = 3, s' = 1; then a = 0 (q = 4), r = 5, s' = 2
NEXT_VALUE = {  # of s' = 1 and s' = 2
    (False, False): (4.0, 0.5),  # max q(s', ·; w)
    (True, False): (20.0, 8.0),  # max q(s', ·; w⁻)
    (True, True): (10.0, 7.0),  # q(s', argmax q(s', ·; w); w⁻): the online net prefers action 0 in both
}


@pytest.mark.parametrize("truncate", [False, True])
@pytest.mark.parametrize("switches", NEXT_VALUE)
def test_the_loss_of_each_transition_is_the_hand_worked_one(switches, truncate):
    target_network, double = switches
    model = tabular(truncate, target_network=target_network, double=double, learning_rate=0.0, train_freq=1)
    losses = []
    for _ in range(2):
        model.learn(1, reset_num_timesteps=False)
        losses.append(model.logger.name_to_value["train/loss"])
    first, second = NEXT_VALUE[switches]
    rest = GAMMA * second if truncate else 0.0  # a time limit is bootstrapped through, death is not
    assert_allclose(losses, [(3.0 + GAMMA * first - 2.0) ** 2, (5.0 + rest - 4.0) ** 2], rtol=1e-5)


@pytest.mark.parametrize("truncate", [False, True])
def test_n_steps_reach_over_the_steps_between(truncate):
    """From state 0 both rewards, 3 + γ 5, and γ² behind a time limit; from state 1 what one step gives."""
    model = tabular(truncate, replay=True, n_steps=2, learning_rate=0.0, batch_size=8, learning_starts=100).learn(20)
    rest = GAMMA**2 if truncate else 0.0, GAMMA if truncate else 0.0
    pairs = set()
    for _, _, rewards, discounts, *_ in model._minibatches(5, 8):
        pairs |= set(zip(rewards.flatten().tolist(), discounts.flatten().tolist(), strict=True))
    assert pairs == {(3.0 + GAMMA * 5.0, rest[0]), (5.0, rest[1])}
    with pytest.raises(ValueError, match="n_steps=2 needs a memory"):
        tabular(n_steps=2)


def test_with_memory_and_target_network_it_is_sb3_s_dqn_where_huber_s_loss_is_a_square():
    """½ δ² below 1: SB3's steps are half of ours. Double Q is not SB3's."""
    settings = {"gamma": GAMMA, "batch_size": 4, "train_freq": 1, "target_update_interval": 2, "tau": 0.5, "n_steps": 2,
                "max_grad_norm": 1e9, "buffer_size": 100}  # fmt: skip
    ours = tabular(replay=True, target_network=True, learning_rate=lambda progress: 0.5 * progress, **settings)
    theirs = DQN("MlpPolicy", ours.env, learning_rate=lambda progress: progress, seed=0, device="cpu",
                 policy_kwargs={"net_arch": [], "optimizer_class": th.optim.SGD}, **settings)  # fmt: skip
    with th.no_grad():
        for parameter in ours.policy.parameters():
            parameter *= 0.05  # so that no error reaches 1
    theirs.policy.load_state_dict(ours.policy.state_dict())
    for model in (ours, theirs):
        model._setup_learn(8)
        rng = np.random.default_rng(0)
        for i in range(12):
            s, a, r, s_next = (np.array([x]) for x in (rng.integers(3), rng.integers(2), 0.1 * rng.normal(), rng.integers(3)))
            model.replay_buffer.add(s, s_next, a, r, np.array([i % 5 == 4]), [{"TimeLimit.truncated": i == 9}])
        np.random.seed(0)
        for step in range(4):
            model.num_timesteps += 1
            model._update_current_progress_remaining(step, 8)
            model._on_step()
            model.train(1, 4)
    for key, value in theirs.policy.state_dict().items():
        th.testing.assert_close(ours.policy.state_dict()[key], value, rtol=1e-5, atol=1e-6)
    assert not np.allclose(ours.q_net.q_net[0].weight.detach().numpy().T, 0.05 * Q, atol=1e-3)


def test_a_clipped_step_is_the_schedule_s_learning_rate_long():
    model = tabular(learning_rate=lambda progress: 0.2 * progress, max_grad_norm=1e-3)
    before = th.cat([p.detach().flatten().clone() for p in model.q_net.parameters()])
    _, callback = model._setup_learn(2)
    model.collect_rollouts(model.env, callback, model.train_freq, model.replay_buffer, learning_starts=0)
    model.train(1)  # half of the two steps is over: α = 0.1
    after = th.cat([p.detach().flatten() for p in model.q_net.parameters()])
    assert (after - before).norm().item() == pytest.approx(0.1 * 1e-3, rel=0.01)


def test_epsilon_falls_over_its_fraction_of_the_training():
    model = tabular(exploration_initial_eps=1.0, exploration_final_eps=0.2, exploration_fraction=0.5, learning_rate=0.0)
    rates = []
    step = model._on_step
    model._on_step = lambda: (step(), rates.append(model.exploration_rate))
    model.learn(8)
    assert_allclose(rates, [0.8, 0.6, 0.4, 0.2, 0.2, 0.2, 0.2, 0.2])


def test_random_actions_come_before_learning_starts_and_are_uniform():
    model = tabular(n_envs=2, learning_starts=10, learning_rate=0.0)
    model.num_timesteps = 9
    drawn = [model._sample_action(10, None, 3000)[0] for _ in range(2)]
    assert abs(np.mean(drawn) - 0.5) < 0.03
    model.num_timesteps, model._last_obs = 10, np.zeros(2, np.int64)
    assert model._sample_action(10, None, 2)[0].tolist() == [1, 1]  # greedy from then on: ε is 0


@pytest.mark.parametrize("poison", ["observation", "reward", "network"])
def test_nan_is_one_error_that_names_where_it_came_from(poison):
    env = make_vec_env("CartPole-v1", 1, seed=0)
    model = BareboneDQN("MlpPolicy", env, seed=0, device="cpu")
    if poison == "network":
        with th.no_grad():
            model.q_net.q_net[0].bias[0] = float("nan")
    elif poison == "reward":
        env.envs[0] = gym.wrappers.TransformReward(env.envs[0], lambda r: r * np.nan)
    else:
        env.envs[0] = gym.wrappers.TransformObservation(env.envs[0], lambda x: x * np.nan, env.observation_space)
    with pytest.raises(ValueError, match=f"NaN or inf in the {poison}"):
        model.learn(5)
    if poison != "network":  # refused before the step: the weights are whole
        assert all(th.isfinite(p).all() for p in model.policy.parameters())


def test_the_gradient_flows_through_the_chosen_action_alone():
    model = tabular(learning_rate=0.1).learn(1)
    expected = Q.copy()
    expected[0, 1] += 0.1 * 2 * (3.0 + GAMMA * 4.0 - 2.0)  # w ← w + α · 2 δ at (s, a); nothing moves at s'
    bias = model.q_net.q_net[0].bias.detach().numpy()
    assert_allclose(model.q_net.q_net[0].weight.detach().numpy().T, expected, rtol=1e-6)
    assert_allclose(bias, [0.0, 0.1 * 2 * 3.0], rtol=1e-6)


def test_without_replay_each_transition_is_used_once_in_order():
    """With train_freq = 3 and two envs a batch is the last 3 × 2 transitions, no more and no less."""
    model = tabular(n_envs=2, train_freq=3, learning_rate=0.0)
    batches = []
    error = model.bellman_error
    model.bellman_error = lambda *arguments: batches.append(arguments) or error(*arguments)
    model.learn(12)
    rewards = [batch[2].flatten().tolist() for batch in batches]
    assert rewards == [[3.0, 3.0, 5.0, 5.0, 3.0, 3.0], [5.0, 5.0, 3.0, 3.0, 5.0, 5.0]]
    discounts = batches[0][3].flatten().tolist()
    assert discounts == [GAMMA, GAMMA, 0.0, 0.0, GAMMA, GAMMA]
    assert batches[0][0].shape[0] == 6


def test_replay_draws_from_the_whole_memory_and_targets_match_the_step_by_step_ones():
    model = tabular(replay=True, target_network=True, double=True, learning_rate=0.0, batch_size=8, gradient_steps=5)
    model.learn(40)
    pairs = []
    for observations, _, rewards, discounts, next_observations, next_q in model._minibatches(5, 8):
        assert observations.shape[0] == 8
        with th.no_grad():
            th.testing.assert_close(next_q, model.q_net_target(next_observations))  # one pass for all batches is the same
        pairs += zip(rewards.flatten().tolist(), discounts.flatten().tolist(), strict=True)
    assert set(pairs) == {(3.0, GAMMA), (5.0, 0.0)} and len(pairs) == 40


@pytest.mark.parametrize("n_envs", [1, 2])
def test_the_target_network_is_refreshed_when_due(n_envs):
    model = tabular(n_envs=n_envs, replay=True, target_network=True, target_update_interval=8, learning_rate=0.01, tau=0.25)
    model.learn(6)
    assert_allclose(model.q_net_target.q_net[0].weight.detach().numpy().T, Q_TARGET)
    online = []
    polyak = model._on_step
    model._on_step = lambda: (online.append(model.q_net.q_net[0].weight.detach().numpy().T.copy()), polyak())
    model.learn(2, reset_num_timesteps=False)
    expected = 0.25 * online[-1] + 0.75 * Q_TARGET
    assert_allclose(model.q_net_target.q_net[0].weight.detach().numpy().T, expected, rtol=1e-5)


def test_every_environment_tosses_its_own_coin():
    model = tabular(n_envs=64, exploration_initial_eps=0.5, exploration_final_eps=0.5)
    model.learn(64)
    state_0 = np.zeros(4000, np.int64)
    assert set(model.predict(state_0, deterministic=True)[0]) == {1}
    share = float(np.mean(model.predict(state_0)[0] == 0))  # ε / 2 of the coins end on the other action
    assert abs(share - 0.25) < 3 * np.sqrt(0.25 * 0.75 / 4000)
    model._last_obs = np.zeros(64, np.int64)
    shares = [np.mean(model._sample_action(0, None, 64)[0] == 0) for _ in range(60)]
    assert abs(np.mean(shares) - 0.25) < 0.03 and min(shares) > 0.0  # one coin for all would give 0 or about a half
    assert model.predict(np.array(0), deterministic=True)[0].shape == ()


def test_normalised_environments_are_learned_from():
    for replay in (False, True):
        env = VecNormalize(make_vec_env("CartPole-v1", 2, seed=0))
        model = BareboneDQN(
            "MlpPolicy", env, replay=replay, train_freq=4, batch_size=8, learning_starts=0, seed=0, device="cpu"
        )
        model.learn(64)
        observations, _, rewards, *_ = next(model._minibatches(1, 8))
        assert observations.abs().max() <= 10.0 and not th.allclose(rewards, th.ones_like(rewards))


def test_numpy_evaluates_the_networks_themselves():
    env = make_vec_env("CartPole-v1", 2, seed=0)
    settings = {"replay": True, "target_network": True, "target_update_interval": 20, "learning_rate": 0.01, "device": "cpu"}
    model = BareboneDQN("MlpPolicy", env, seed=0, **settings).learn(50)
    assert model._layers is not None and model._target_layers is not None
    observations = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)

    def same():
        with th.no_grad():
            assert_allclose(model._q_values(observations), model.q_net(th.as_tensor(observations)).numpy(), atol=1e-5)
            for *_, next_observations, next_q in model._minibatches(3, 16):
                th.testing.assert_close(next_q, model.q_net_target(next_observations), atol=1e-5, rtol=1e-4)

    same()  # after training: the views follow the optimizer and the copies into the target network
    assert not np.allclose(model._layers[0][0], model._target_layers[0][0])
    model.set_parameters(BareboneDQN("MlpPolicy", env, seed=1, **settings).get_parameters())
    same()  # and loading
    tanh = BareboneDQN("MlpPolicy", env, policy_kwargs={"activation_fn": th.nn.Tanh}, seed=0, device="cpu").learn(10)
    assert tanh._layers is None


def test_denormal_numbers_are_zero_in_training_alone():
    tiny = th.tensor([1e-39])
    with without_denormals():
        assert (tiny * 1.0).item() == 0.0
    assert (tiny * 1.0).item() > 0.0
    BareboneDQN("MlpPolicy", "CartPole-v1", seed=0, device="cpu").learn(2)
    assert (tiny * 1.0).item() > 0.0


@pytest.mark.parametrize("max_norm", [0.5, 1e3])
def test_clipping_is_torch_s_own(max_norm):
    generator = th.Generator().manual_seed(0)
    gradients = [th.randn(3, 2, generator=generator), th.randn(4, generator=generator)]
    ours, torchs = ([th.nn.Parameter(th.zeros_like(g)) for g in gradients] for _ in range(2))
    for parameters in (ours, torchs):
        for parameter, gradient in zip(parameters, gradients, strict=True):
            parameter.grad = gradient.clone()
    clip_gradients(ours, max_norm)
    th.nn.utils.clip_grad_norm_(torchs, max_norm)
    for a, b in zip(ours, torchs, strict=True):
        th.testing.assert_close(a.grad, b.grad)


def test_saving_keeps_both_networks(tmp_path):
    model = tabular(replay=True, target_network=True, learning_rate=0.1).learn(20)
    model.save(tmp_path / "model.zip")
    loaded = BareboneDQN.load(tmp_path / "model.zip", env=model.env, device="cpu")
    assert loaded.q_net is loaded.policy.q_net and (loaded.replay, loaded.target_network, loaded.double) == (True, True, False)
    for key, value in model.policy.state_dict().items():
        th.testing.assert_close(loaded.policy.state_dict()[key], value)
    with pytest.warns(UserWarning, match="Chain has no get_state"):  # an env whose state nobody knows
        loaded.learn(20, reset_num_timesteps=False)


def test_an_interval_that_a_step_of_all_envs_exceeds_is_said():
    settings = {"replay": True, "buffer_size": 100, "target_update_interval": 1, "device": "cpu"}
    with pytest.warns(UserWarning, match="is greater than target_update_interval=1: one step of all 2"):
        BareboneDQN("MlpPolicy", make_vec_env("CartPole-v1", 2), target_network=True, **settings)
    BareboneDQN("MlpPolicy", make_vec_env("CartPole-v1", 2), **settings)  # no second network, no warning


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match="target_network=True"):
        BareboneDQN("MlpPolicy", "CartPole-v1", double=True)
    with pytest.raises(ValueError, match="number of steps"):
        BareboneDQN("MlpPolicy", "CartPole-v1", train_freq=(1, "episode"))
