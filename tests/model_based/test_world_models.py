"""V, M and C of World Models against torch.distributions, slow twins, limits of the temperature, and worlds solved exactly."""

import math

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecNormalize
from torch.distributions import Bernoulli, Categorical, MixtureSameFamily, Normal, kl_divergence
from torch.nn import functional as F

import sb3_lecture_envs  # noqa: F401
from sb3_lecture.common.vec_env import make_native_vec_env
from sb3_lecture.exact.grade import exact_evaluation
from sb3_lecture.model_based.world_models import Episode, WorldModels, _Steps
from sb3_lecture.model_based.world_models_mdn_rnn import (
    MDNRNN,
    Mixture,
    draw_noise,
    mixture_log_prob,
    sample_done,
    sample_mixture,
)
from sb3_lecture.model_based.world_models_policy import N_STARTS, CnnWorldModelPolicy, MlpWorldModelPolicy
from sb3_lecture.model_based.world_models_vae import ConvVAE, MlpVAE, kl_to_standard_normal, sample_gaussian

CATCH = "Lecture/Catch-v0"
NETWORKS = {"latent_dim": 4, "lstm_hidden_size": 8, "net_arch": [16]}
TINY = {
    "learning_starts": 60, "batch_size": 16, "vae_epochs": 1, "rnn_epochs": 1, "population_size": 4, "n_eval_episodes": 2,
    "n_generations": 2, "seed": 0, "device": "cpu", "policy_kwargs": NETWORKS,
}  # fmt: skip


def tiny(env=None, policy="MlpPolicy", **more):
    env = make_native_vec_env(CATCH, 3, seed=0, env_kwargs={"rows": 4, "columns": 3}) if env is None else env
    return WorldModels(policy, env, **{**TINY, **more})


def constant(value):
    return lambda progress: value


# ---- V


def test_the_terms_of_the_elbo_are_those_of_torch_distributions():
    th.manual_seed(0)
    mean, log_var = th.randn(5, 3), th.randn(5, 3)
    expected = kl_divergence(Normal(mean, (0.5 * log_var).exp()), Normal(th.zeros(3), th.ones(3))).sum(dim=1)
    th.testing.assert_close(kl_to_standard_normal(mean, log_var), expected)
    assert kl_to_standard_normal(th.zeros(1, 3), th.zeros(1, 3)).item() == 0.0

    for binary in (False, True):
        vae = MlpVAE(6, 2, [8], binary)
        x = th.rand(5, 6).round() if binary else th.rand(5, 6)
        th.manual_seed(1)
        reconstruction, kl = vae.losses(x)
        th.manual_seed(1)
        mean, log_var = vae.encode(x)
        out = vae.decode(sample_gaussian(mean, log_var))
        if binary:
            log_prob = Bernoulli(out).log_prob(x).sum(dim=1)
        else:  # variance ½; the squared error leaves out ½ log π of each number
            log_prob = Normal(out, math.sqrt(0.5)).log_prob(x).sum(dim=1) + 6 * 0.5 * math.log(math.pi)
        th.testing.assert_close(reconstruction, -log_prob, rtol=1e-4, atol=1e-5)
        th.testing.assert_close(kl, kl_to_standard_normal(mean, log_var))


def test_latents_are_drawn_from_the_encoders_gaussian():
    th.manual_seed(0)
    mean, log_var = th.tensor([1.0, -2.0]).expand(20_000, 2), th.tensor([0.0, 1.0]).expand(20_000, 2)
    z = sample_gaussian(mean, log_var)
    th.testing.assert_close(z.mean(dim=0), mean[0], atol=0.06, rtol=0)
    th.testing.assert_close(z.var(dim=0), log_var[0].exp(), atol=0.12, rtol=0)


def test_the_papers_network_has_the_papers_sizes():
    vae = ConvVAE(3, 32)
    assert sum(p.numel() for p in vae.parameters()) == 4_348_547  # appendix A.1
    mean, log_var = vae.encode(th.rand(2, 3, 64, 64))
    assert mean.shape == log_var.shape == (2, 32)
    picture = vae.decode(mean)
    assert picture.shape == (2, 3, 64, 64) and 0 <= picture.min() and picture.max() <= 1


# ---- M


def random_mixture(*shape, k=3):
    return Mixture(th.randn(*shape, k), th.randn(*shape, k), 0.3 * th.randn(*shape, k))


def test_mixture_log_prob_equals_a_slow_twin_and_torch_distributions():
    th.manual_seed(0)
    mixture, z = random_mixture(2, 4), th.randn(2, 4)
    log_prob = mixture_log_prob(mixture, z)
    for i in range(2):
        for j in range(4):
            logits, means, log_sigmas = (part[i, j].tolist() for part in mixture)
            total, density = sum(map(math.exp, logits)), 0.0
            for logit, m, s in zip(logits, means, log_sigmas, strict=True):
                normal = math.exp(-0.5 * ((z[i, j].item() - m) / math.exp(s)) ** 2) / (math.exp(s) * math.sqrt(2 * math.pi))
                density += math.exp(logit) / total * normal
            assert log_prob[i, j].item() == pytest.approx(math.log(density), rel=1e-4, abs=1e-5)
    family = MixtureSameFamily(Categorical(logits=mixture.logits), Normal(mixture.mean, mixture.log_sigma.exp()))
    th.testing.assert_close(log_prob, family.log_prob(z))


def test_temperature_zero_is_the_likeliest_components_mean():
    th.manual_seed(0)
    rnn, mixture = MDNRNN(4, 2, 8, n_gaussians=3), random_mixture(5, 4)
    z = sample_mixture(mixture, 0.0, draw_noise(rnn, 5, th.Generator().manual_seed(1)))
    best = mixture.logits.argmax(dim=-1)
    for i in range(5):
        for j in range(4):
            assert z[i, j] == mixture.mean[i, j, best[i, j]]


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_a_temperature_scales_logits_and_variances(temperature):
    """Moments of Π_k ∝ π_k^(1/τ), σ² τ; at τ = 1 those of the mixture itself."""
    n = 40_000
    mixture = Mixture(*(th.tensor(row).expand(n, 1, 3) for row in ([0.5, -0.5, 0.0], [-1.0, 0.0, 2.0], [-0.5, 0.3, -1.0])))
    z = sample_mixture(mixture, temperature, draw_noise(MDNRNN(1, 1, 4, 3), n, th.Generator().manual_seed(0)))
    weights = th.softmax(mixture.logits[0, 0] / temperature, dim=0)
    family = MixtureSameFamily(
        Categorical(weights), Normal(mixture.mean[0, 0], mixture.log_sigma[0, 0].exp() * math.sqrt(temperature))
    )
    error = 5 * (family.variance / n).sqrt().item()
    assert z.mean().item() == pytest.approx(family.mean.item(), abs=error)
    assert z.var().item() == pytest.approx(family.variance.item(), rel=0.04)


def test_the_end_is_drawn_at_the_temperature_too():
    n, logit = 40_000, th.full((40_000,), -0.8)
    noise = draw_noise(MDNRNN(1, 1, 4, 3), n, th.Generator().manual_seed(0))
    assert not sample_done(logit, 0.0, noise).any() and sample_done(-logit, 0.0, noise).all()
    for temperature in (0.5, 1.0, 2.0):
        p = 1 / (1 + math.exp(0.8 / temperature))
        assert sample_done(logit, temperature, noise).float().mean().item() == pytest.approx(p, abs=5 * math.sqrt(p / n))


def test_noise_is_repeated_for_every_candidate():
    rnn = MDNRNN(2, 1, 4, 3)
    once = draw_noise(rnn, 3, th.Generator().manual_seed(0))
    thrice = draw_noise(rnn, 3, th.Generator().manual_seed(0), repeats=2)
    for a, b in zip(once, thrice, strict=True):
        th.testing.assert_close(th.cat([a, a]), b)


def test_a_scan_over_time_equals_single_steps_and_the_textbook():
    th.manual_seed(0)
    rnn = MDNRNN(3, 2, 5)
    z, actions = th.randn(4, 6, 3), th.randn(4, 6, 2)
    scanned = rnn.scan(z, actions)
    h, c = rnn.initial_state(4)
    lstm = rnn.lstm
    for t in range(6):
        gates = th.cat([z[:, t], actions[:, t]], dim=1) @ lstm.weight_ih_l0.T + lstm.bias_ih_l0 + h @ lstm.weight_hh_l0.T
        i, f, g, o = (gates + lstm.bias_hh_l0).chunk(4, dim=1)
        next_c = f.sigmoid() * c + i.sigmoid() * g.tanh()
        next_h = o.sigmoid() * next_c.tanh()
        h, c = rnn.advance(z[:, t], actions[:, t], (h, c))
        for ours, expected in ((h, next_h), (c, next_c), (scanned[:, t], next_h)):
            th.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-6)


def episode_of(length, rng):
    observations, rewards = rng.normal(size=(length + 1, 2)), rng.normal(size=length)
    actions = rng.integers(2, size=length)
    return Episode(observations.astype(np.float32), actions, rewards.astype(np.float32), length % 2 == 0)


def policy_of(observation_space, action_space, **more):
    return MlpWorldModelPolicy(observation_space, action_space, constant(1e-3), **{**NETWORKS, **more})


def test_batches_hold_the_episodes_and_padding_changes_no_loss():
    th.manual_seed(0)
    rng = np.random.default_rng(0)
    policy = policy_of(spaces.Box(-9, 9, (2,)), spaces.Discrete(2))
    episodes = [episode_of(length, rng) for length in (3, 1, 4)]
    n_frames = sum(len(e.observations) for e in episodes)
    codes = th.stack([th.randn(n_frames, 4), th.full((n_frames, 4), -60.0)], dim=1)
    steps = _Steps(episodes, codes, policy)  # σ = e^-30: samples are means
    z, actions, rewards, ends, mask = steps.padded(np.array([2, 0]))
    assert z.shape == (2, 5, 4) and actions.shape == (2, 4, 2) and mask.tolist() == [[1, 1, 1, 1], [1, 1, 1, 0]]
    th.testing.assert_close(z[0], codes[6:11, 0])  # after 4 and 2 frames
    th.testing.assert_close(z[1, :4], codes[:4, 0])
    for row, e in enumerate((2, 0)):
        n = len(episodes[e].rewards)
        assert actions[row, :n].argmax(dim=1).tolist() == episodes[e].actions.tolist()
        np.testing.assert_allclose(rewards[row, :n], episodes[e].rewards)
        assert ends[row].tolist() == [0.0] * (n - 1) + [float(episodes[e].terminated)] + [0.0] * (4 - n)

    together = policy.rnn.losses(z, actions, rewards, ends, mask)
    alone = [policy.rnn.losses(*steps.padded(np.array([e]))) for e in (2, 0)]
    for i in range(3):
        th.testing.assert_close(together[i], (4 * alone[0][i] + 3 * alone[1][i]) / 7)

    # and one episode's losses against the distributions, step by step
    z, actions, rewards, ends, _ = steps.padded(np.array([0]))
    state, expected = policy.rnn.initial_state(1), th.zeros(3)
    for t in range(3):
        state = policy.rnn.advance(z[:, t], actions[:, t], state)
        mixture = policy.rnn.mixture(state[0])
        family = MixtureSameFamily(Categorical(logits=mixture.logits), Normal(mixture.mean, mixture.log_sigma.exp()))
        reward, logit = policy.rnn.outcome(state[0], z[:, t + 1])
        expected += th.stack([
            -family.log_prob(z[:, t + 1]).mean(), (reward - rewards[:, t]).square().sum(),
            -Bernoulli(logits=logit).log_prob(ends[:, t]).sum(),
        ]) / 3  # fmt: skip
    th.testing.assert_close(th.stack(alone[1]), expected)


# ---- C and the dream


def test_a_dream_is_a_rollout_of_the_model():
    """All candidates and episodes at once, against one after the other by a plain loop; each k-th episode meets one chance."""
    model = tiny().learn(60)
    policy, rnn = model.policy, model.policy.rnn
    model.longest_episode, temperature, n_episodes = 6, 1.3, 3
    with th.no_grad():
        rnn.outcome_net[-1].bias[1] = -1.0  # ends now and then
    candidates = np.random.default_rng(1).normal(size=(4, len(policy.get_vector())))
    returns = model.play_dream(candidates, n_episodes, temperature, th.Generator().manual_seed(3))
    assert returns.shape == (4, n_episodes) and len(np.unique(returns)) > 4

    generator = th.Generator().manual_seed(3)
    which = th.randint(N_STARTS, (n_episodes,), generator=generator)
    noises = [draw_noise(rnn, n_episodes, generator) for _ in range(7)]
    lengths = []
    for c, candidate in enumerate(candidates):
        policy.set_vector(candidate)
        for k in range(n_episodes):
            mean, log_var = policy.starts[which[k]]
            z, state, total = (mean + (0.5 * log_var).exp() * noises[0].normal[k])[None], rnn.initial_state(1), 0.0
            for t in range(6):
                with th.no_grad():
                    action = F.one_hot(policy.controller(th.cat([z, state[0]], dim=1)).argmax(dim=1), 3).float()
                    state = rnn.advance(z, action, state)
                    noise = type(noises[0])(*(part[k : k + 1] for part in noises[t + 1]))
                    z = sample_mixture(rnn.mixture(state[0]), temperature, noise)
                    reward, logit = rnn.outcome(state[0], z)
                total += reward.item()
                if sample_done(logit, temperature, noise).item():
                    break
            lengths.append(t)
            assert returns[c, k] == pytest.approx(total, abs=1e-5)
    assert len(set(lengths)) > 1


class Lights(gym.Env):
    """Four lights, one is on: reward 1 for its number; linear in what is seen. Ten steps; the bits move every step."""

    observation_space, action_space = spaces.MultiBinary(4), spaces.Discrete(4)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self._look(), {}

    def _look(self):
        self.on = int(self.np_random.integers(4))
        return np.eye(4, dtype=np.int8)[self.on]

    def step(self, action):
        reward, self.t = float(action == self.on), self.t + 1
        return self._look(), reward, self.t == 10, False, {}


def test_cma_es_solves_what_is_linear_in_the_latents():
    model = WorldModels(
        "MlpPolicy", make_vec_env(Lights, 16, seed=0), learning_rate=3e-3, learning_starts=500, batch_size=32, vae_epochs=20,
        rnn_epochs=0, n_generations=25, n_eval_episodes=1, sigma=0.5, seed=0,
        policy_kwargs=dict(latent_dim=4, lstm_hidden_size=1, net_arch=[32], use_hidden=False),
    )  # fmt: skip
    model.learn(500 + 25 * 16 * 10)
    assert evaluate_policy(model, make_vec_env(Lights, 4, seed=9), 40)[0] > 9.0  # chance gives 2.5


@pytest.mark.parametrize("n_envs", [1, 3, 20])
def test_every_candidate_plays_its_own_episodes(n_envs):
    """Against evaluating the candidates one by one: a game with one start, so that returns are certain."""
    kwargs = {"obs": "one-hot", "max_episode_steps": 12}
    model = tiny(make_native_vec_env("Lecture/TreasureLine-v0", n_envs, env_kwargs=kwargs))
    candidates = np.random.default_rng(0).normal(size=(5, len(model.policy.get_vector())))
    model._setup_learn(1)
    stop = Stop(10**9)
    stop.init_callback(model)
    returns = model.play(candidates, 2, 10**9, stop)
    expected, steps = [], 0
    for candidate in candidates:
        model.policy.set_vector(candidate)
        rewards, lengths = evaluate_policy(
            model, make_native_vec_env("Lecture/TreasureLine-v0", 1, env_kwargs=kwargs), 2, return_episode_rewards=True
        )
        expected.append(rewards)
        steps += sum(lengths)
    np.testing.assert_allclose(returns, expected, atol=1e-5)
    assert model.num_timesteps == steps and len(np.unique(returns)) > 1


# ---- the policy


def test_a_batch_acts_as_its_rows_do_and_episodes_begin_without_memory():
    model = tiny().learn(60)
    model.policy.set_vector(np.random.default_rng(0).normal(size=len(model.policy.get_vector())))
    model.observation_space.seed(0)
    frames = np.stack([[model.observation_space.sample() for _ in range(3)] for _ in range(5)])  # [T, n, …]
    starts = np.array([[1, 1, 1], [0, 0, 0], [0, 1, 0], [0, 0, 0], [1, 0, 0]], dtype=bool)
    state, singles = None, [None] * 3
    for frame, start in zip(frames, starts, strict=True):
        actions, state = model.predict(frame, state, start, deterministic=True)
        assert state[0].shape == state[1].shape == (3, 8)
        for i in range(3):
            before = None if start[i] else singles[i]
            action, singles[i] = model.predict(frame[i], before, deterministic=True)
            assert action == actions[i]
            np.testing.assert_allclose(singles[i][0][0], state[0][i], atol=1e-6)


def test_without_h_the_policy_keeps_no_state_and_is_graded_exactly():
    model = tiny(policy_kwargs={**NETWORKS, "use_hidden": False})
    env = model.get_env()
    assert model.predict(env.reset())[1] is None
    assert exact_evaluation(model, env, gamma=1.0).optimal_value == pytest.approx(1.0)
    with pytest.raises(ValueError, match="recurrent policy"):
        exact_evaluation(tiny(), gamma=1.0)


def test_actions_reach_the_bounds_of_a_box_and_come_back():
    space = spaces.Box(np.array([-2.0, 0.0]), np.array([2.0, 10.0]), dtype=np.float64)
    policy = policy_of(spaces.Box(-9, 9, (2,)), space)
    vectors = th.tensor([[-1.0, -1.0], [1.0, 1.0], [0.0, 0.5]])
    actions = policy.to_env(vectors)
    np.testing.assert_allclose(actions, [[-2, 0], [2, 10], [0, 7.5]])
    th.testing.assert_close(policy.from_env(actions), vectors)
    assert policy.action_vectors(th.tensor([[100.0, -100.0]])).tolist() == [[1.0, -1.0]]
    shifted = policy_of(spaces.Box(-9, 9, (2,)), spaces.Discrete(3, start=5))
    assert shifted.to_env(shifted.from_env(np.array([7, 5]))).tolist() == [7, 5]


def test_pictures_of_other_sizes_are_resized():
    space = spaces.Box(0, 255, (3, 96, 96), np.uint8)
    policy = CnnWorldModelPolicy(space, spaces.Discrete(2), constant(1e-3), cnn_width=2, latent_dim=4, lstm_hidden_size=8)
    x = policy.inputs(th.full((2, 3, 96, 96), 255, dtype=th.uint8))
    assert x.shape == (2, 3, 64, 64) and (x == 1).all()


@pytest.mark.parametrize("controller_env", ["real", "dream"])
def test_pictures_pass_through_all_phases(controller_env):
    env = make_native_vec_env(CATCH, 2, seed=0, env_kwargs={"obs": "rgb", "rows": 4, "columns": 3})
    networks = {"latent_dim": 4, "lstm_hidden_size": 8, "cnn_width": 2}
    model = tiny(env, "CnnPolicy", controller_env=controller_env, policy_kwargs=networks)
    assert model.learn(100).generation >= 1
    assert evaluate_policy(model, env, 4)[0] in (-1.0, -0.5, 0.0, 0.5, 1.0)


def test_actions_of_a_box_pass_through_all_phases():
    model = tiny(make_vec_env("Pendulum-v1", 2), controller_env="dream").learn(60)
    assert model.generation == 2 and model.policy.get_vector().any()
    assert evaluate_policy(model, make_vec_env("Pendulum-v1", 1), 1)[0] >= -16.3 * 200  # the least return there is


# ---- rounds, budgets, files


class Stop(BaseCallback):
    def __init__(self, at):
        super().__init__()
        self.at, self.seen = at, []

    def _on_step(self):
        self.seen.append(self.num_timesteps)
        return self.num_timesteps < self.at


def test_rounds_follow_one_another_and_budgets_are_kept():
    model = tiny(controller_env="dream")
    model.learn(150)  # 60, 60 and 30 steps
    assert (model.num_timesteps, model.round, model.generation) == (150, 3, 6)
    assert sum(len(e.rewards) for e in model.replay_buffer) == 150 and model.longest_episode == 3
    model.learn(60, reset_num_timesteps=False)
    assert (model.num_timesteps, model.round, model.generation) == (210, 4, 8)

    real = tiny(n_generations=1)  # 60 steps collected; a generation has 4 candidates, 2 episodes of 3 steps
    real.learn(60 + 10)
    assert real.generation == 0 and 70 <= real.num_timesteps < 73  # cut off: nothing learnt
    real.learn(24, reset_num_timesteps=False)
    assert real.generation == 1 and real.round == 1
    real.learn(10, reset_num_timesteps=False)  # the next round begins
    assert real.round == 2


def test_a_generation_that_is_stopped_teaches_nothing():
    model, stop = tiny(), Stop(70)
    model.learn(10_000, callback=stop)
    assert max(stop.seen) < 73 and model.generation == 0 and model.round == 1
    assert not model.policy.get_vector().any()


def test_old_episodes_give_way():
    model = tiny(buffer_size=20, controller_env="dream").learn(60)
    assert sum(len(e.rewards) for e in model.replay_buffer) <= 20
    assert len(model.replay_buffer) >= 5


def test_a_time_limit_is_no_end():
    env = make_native_vec_env("Lecture/Maze-v0", 2, seed=0, env_kwargs={"obs": "grid", "max_episode_steps": 2})
    model = tiny(env, controller_env="dream").learn(60)
    assert len(model.replay_buffer) >= 30 and not any(e.terminated for e in model.replay_buffer)
    assert all(len(e.observations) == len(e.rewards) + 1 for e in model.replay_buffer)


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


def test_under_vec_normalize_what_the_env_gave_is_kept_and_what_acting_sees_is_learned():
    env = VecNormalize(DummyVecEnv([Count, Count]))
    model, looked = tiny(env, controller_env="dream"), []
    losses = model.policy.vae.losses
    model.policy.vae.losses = lambda x: looked.append(x) or losses(x)
    model.learn(60)
    t = np.arange(6.0)
    for episode in model.replay_buffer:
        np.testing.assert_allclose(episode.observations, np.stack([t, -100.0 * t], axis=1), rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(episode.rewards, 10.0 * t[1:])
    shown = np.unique(np.round(th.cat(looked).numpy(), 4), axis=0)
    seen = env.normalize_obs(np.stack([t, -100.0 * t], axis=1)).astype(np.float32)
    np.testing.assert_allclose(shown, seen, atol=2e-4)


def test_a_loaded_run_goes_on_as_it_would_have(tmp_path):
    model = tiny(controller_env="dream").learn(60)
    model.save(tmp_path / "model.zip")
    model.save_replay_buffer(tmp_path / "episodes.pkl")
    loaded = WorldModels.load(tmp_path / "model.zip", env=model.get_env())
    loaded.load_replay_buffer(tmp_path / "episodes.pkl")
    assert loaded.evaluate_dream(20) == model.evaluate_dream(20)
    np.testing.assert_array_equal(loaded._search.mean, model._search.mean)
    loaded.learn(60, reset_num_timesteps=False)
    assert loaded.round == 2 and sum(len(e.rewards) for e in loaded.replay_buffer) == 120


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"controller_env": "sleep"}, "controller_env='sleep' is unknown"),
        ({"population_size": 3}, "population_size=3 must be an integer of at least 4"),
        ({"temperature": -1.0}, "temperature=-1.0 must be a finite number of at least 0"),
        ({"sigma": 0.0}, "sigma=0.0 must be a finite number above 0"),
        ({"policy_kwargs": {"latent_dim": 0}}, "latent_dim=0"),
        ({"policy": "CnnPolicy", "policy_kwargs": {}}, "CnnPolicy needs pictures"),
    ],
)
def test_bad_arguments_are_named(arguments, words):
    with pytest.raises(ValueError, match=words):
        tiny(**arguments)


def test_unbounded_actions_are_refused():
    with pytest.raises(ValueError, match="has no bounds to squash actions to"):
        policy_of(spaces.Box(-9, 9, (2,)), spaces.Box(-np.inf, np.inf, (1,)))


# ---- learning


def test_it_learns_to_catch_in_its_dream_alone():
    """Two thousand random steps of a 3 by 3 board: V and M learn below stated losses, C never plays the real game."""
    model = WorldModels(
        "MlpPolicy", make_native_vec_env(CATCH, 16, seed=0, env_kwargs={"rows": 3, "columns": 3}), learning_rate=3e-3,
        learning_starts=2000, batch_size=64, vae_epochs=12, rnn_epochs=15, reward_coef=10.0, controller_env="dream",
        n_generations=25, n_eval_episodes=16, policy_kwargs=dict(latent_dim=8, lstm_hidden_size=32, net_arch=[64]), seed=0,
    )  # fmt: skip
    losses, dump = {}, model.dump_logs
    model.dump_logs = lambda: (losses.update(model.logger.name_to_value), dump())
    model.learn(2000)
    assert losses["vae/reconstruction"] < 1.0  # of 18 bits; 27 states
    assert losses["rnn/reward_error"] < 0.2  # it varies by 4/9 around its mean of -1/6
    assert losses["rnn/done_error"] < 0.05
    env = make_native_vec_env(CATCH, 10, seed=1000, env_kwargs={"rows": 3, "columns": 3})
    assert evaluate_policy(model, env, 200)[0] > 0.5  # the random policy's is −1/3


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_four_thousand_random_steps_and_a_dream_solve_catch_of_five_columns(seed):
    """The settings of the config, and the figures of docs/benchmarks_world_models.md; 20 CPU seconds a seed."""
    board = {"rows": 5, "columns": 5}
    model = WorldModels(
        "MlpPolicy", make_native_vec_env(CATCH, 16, seed=seed, env_kwargs=board), learning_rate=2e-3, batch_size=32,
        rnn_epochs=25, kl_tolerance=1.5, reward_coef=10.0, controller_env="dream", population_size=32, n_eval_episodes=32,
        n_generations=50, policy_kwargs=dict(latent_dim=16, lstm_hidden_size=64, net_arch=[128]), seed=seed,
    )  # fmt: skip
    model.learn(4000)
    world = make_native_vec_env(CATCH, 10, seed=1000 + seed, env_kwargs=board)
    assert evaluate_policy(model, world, 300)[0] == 1.0  # all five starts
    assert model.evaluate_dream(300)[0] > 0.3


def test_a_learning_rate_that_ends_in_nan_is_named():
    model = WorldModels("MlpPolicy", "CartPole-v1", learning_rate=1e37, learning_starts=40, batch_size=8, seed=0, device="cpu")
    with pytest.raises(ValueError, match=r"(V|M)'s (loss|largest weight) is (nan|inf).*(network|learning_rate)"):
        model.learn(60)
