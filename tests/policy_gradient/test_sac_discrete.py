"""SACDiscrete: the three actor gradients against autograd of the exact sum, the target by hand, what they learn."""

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_lecture.common.vec_env import make_native_vec_env
from sb3_lecture.exact.grade import exact_evaluation
from sb3_lecture.policy_gradient.sac_discrete import SACDiscrete, actor_loss
from sb3_lecture.zoo import cli

LOGITS = th.tensor([[0.3, -0.2, 0.5], [1.0, 0.0, -1.0]], dtype=th.float64)
Q = th.tensor([[1.0, 2.0, -0.5], [0.3, 0.2, 0.9]], dtype=th.float64)
ALPHA = 0.4
every_gradient = pytest.mark.parametrize("kind", ["exact", "score_function", "gumbel_softmax"])


def gradient(kind, n=1, temperature=1.0):
    """n single-sample gradients in the logits, [n, 2, 3]."""
    logits = LOGITS.repeat(n, 1, 1).requires_grad_(True)
    q = Q.repeat(n, 1, 1)
    loss = actor_loss(logits.reshape(-1, 3), q.reshape(-1, 3), ALPHA, kind, temperature)
    return th.autograd.grad(loss.sum(), logits)[0]


def closed_form():
    """∂/∂logit_j Σ_a π_a g_a = π_j (g_j − Σ_a π_a g_a), g = α ln π − Q; the derivative of ln π itself averages to zero."""
    pi = LOGITS.softmax(dim=1)
    g = ALPHA * pi.log() - Q
    return pi * (g - (pi * g).sum(dim=1, keepdim=True))


def test_exact_gradient_is_the_closed_form():
    th.testing.assert_close(gradient("exact")[0], closed_form())


def test_score_function_gradient_is_unbiased():
    th.manual_seed(0)
    estimates = gradient("score_function", n=50_000)
    error = estimates.std(dim=0) / np.sqrt(len(estimates))
    assert ((estimates.mean(dim=0) - closed_form()).abs() <= 3 * error).all()


def test_gumbel_softmax_gradient_points_the_right_way_and_is_biased():
    th.manual_seed(0)
    estimates = gradient("gumbel_softmax", n=50_000)
    mean, truth = estimates.mean(dim=0), closed_form()
    assert (th.nn.functional.cosine_similarity(mean, truth, dim=1) > 0.8).all()
    assert ((mean - truth).abs() > 5 * estimates.std(dim=0) / np.sqrt(len(estimates))).any()


def test_the_actors_optimum_is_the_softmax_of_q_over_alpha():
    logits = (Q / ALPHA).requires_grad_(True)
    loss = actor_loss(logits, Q, ALPHA, "exact", 1.0)
    th.testing.assert_close(loss, -ALPHA * th.logsumexp(Q / ALPHA, dim=1))  # the soft maximum, the least J_π there is
    th.testing.assert_close(th.autograd.grad(loss.sum(), logits)[0], th.zeros_like(Q))


def model_on(env="CartPole-v1", **kwargs):
    settings = {"learning_starts": 50, "buffer_size": 500, "seed": 0, "device": "cpu", **kwargs}
    return SACDiscrete("MlpPolicy", env, **settings)


@every_gradient
def test_every_actor_gradient_trains_and_survives_its_file(kind, tmp_path):
    model = model_on(actor_gradient=kind).learn(150)
    assert model._n_updates > 0
    model.save(tmp_path / "model.zip")
    loaded = SACDiscrete.load(tmp_path / "model.zip", device="cpu")
    assert loaded.actor_gradient == kind
    th.testing.assert_close(loaded.log_ent_coef, model.log_ent_coef)
    for a, b in zip(model.policy.parameters(), loaded.policy.parameters(), strict=True):
        assert th.equal(a, b)
    observations = np.random.default_rng(0).normal(size=(20, 4)).astype(np.float32)
    assert (model.predict(observations, deterministic=True)[0] == loaded.predict(observations, deterministic=True)[0]).all()


@pytest.mark.parametrize("n_critics", [1, 2])
def test_the_critics_learn_the_soft_bellman_target(n_critics):
    """½ (Q(s, a) − r − γ Σ π (min Q' − α ln π))², summed over critics; a time limit is looked beyond, an end is not."""
    model = model_on(batch_size=256, ent_coef=0.3, gamma=0.9, policy_kwargs={"n_critics": n_critics})
    rng = np.random.default_rng(0)
    ends = [(False, False), (True, False), (True, True)]  # (done, truncated) of the three transitions
    obs, new_obs = rng.normal(size=(2, 3, 4)).astype(np.float32)
    actions, rewards = np.array([0, 1, 1]), np.array([1.0, -2.0, 0.5])
    for i, (done, truncated) in enumerate(ends):
        infos = [{"TimeLimit.truncated": truncated}]
        model.replay_buffer.add(obs[i : i + 1], new_obs[i : i + 1], actions[[i]], rewards[[i]], np.array([done]), infos)
    with th.no_grad():
        for critic in model.policy.critic_targets:  # so that it matters which network is asked
            critic.q_net[-1].bias += th.tensor([0.3, -0.8])
        log_pi = model.policy.logits(th.from_numpy(new_obs)).log_softmax(dim=1).numpy()
        next_q = np.min([critic(th.from_numpy(new_obs)).numpy() for critic in model.policy.critic_targets], axis=0)
        q = [critic(th.from_numpy(obs)).numpy()[np.arange(3), actions] for critic in model.policy.critics]
    goes_on = np.array([1.0, 0.0, 1.0])
    target = rewards + 0.9 * goes_on * (np.exp(log_pi) * (next_q - 0.3 * log_pi)).sum(axis=1)
    losses = sum((q_i - target) ** 2 for q_i in q) / 2  # [3]
    model._setup_learn(1)
    np.random.seed(0)
    drawn = np.random.RandomState(0).randint(0, 3, size=256)
    model.train(1, 256)
    assert model.logger.name_to_value["train/critic_loss"] == pytest.approx(losses[drawn].mean(), rel=1e-4)


def test_the_temperature_falls_while_entropy_is_above_its_target_and_rises_below():
    low = model_on(target_entropy=0.01).learn(150)
    high = model_on(target_entropy=5.0).learn(150)
    assert low.log_ent_coef.item() < 0 < high.log_ent_coef.item()


def test_automatic_target_and_initial_temperature_are_the_papers():
    model = model_on(ent_coef="auto_0.2")
    assert model._target_entropy == pytest.approx(0.98 * np.log(2))
    assert model.log_ent_coef.exp().item() == pytest.approx(0.2)
    fixed = model_on(ent_coef=0.3).learn(120)
    assert fixed.log_ent_coef.exp().item() == pytest.approx(0.3) and fixed.ent_coef_optimizer is None


def test_predict_draws_from_the_softmax_of_the_logits():
    model = model_on()
    observation = np.array([[0.1, -0.2, 0.05, 0.3]], dtype=np.float32)
    logits = model.policy.logits(th.from_numpy(observation))
    p = logits.softmax(dim=1)[0, 1].item()
    th.manual_seed(0)
    draws, _ = model.predict(observation.repeat(20_000, axis=0))
    assert abs(draws.mean() - p) < 3 * np.sqrt(p * (1 - p) / 20_000)


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"actor_gradient": "reinforce"}, "reinforce"),
        ({"gumbel_temperature": 0}, "gumbel_temperature=0"),
        ({"ent_coef": "automatic"}, "automatic"),
        ({"ent_coef": "auto_x"}, "auto_x"),
        ({"ent_coef": "auto_-1"}, "auto_-1"),
        ({"ent_coef": -0.1}, "ent_coef=-0.1"),
        ({"ent_coef": "auto_0"}, "auto_0"),
        ({"ent_coef": "auto_inf"}, "auto_inf"),
        ({"target_entropy": "low"}, "low"),
    ],
)
def test_wrong_arguments_are_named(wrong, text):
    with pytest.raises(ValueError, match=text):
        model_on(**wrong)


@every_gradient
def test_the_smallest_grid_world_is_solved_exactly(kind):
    env = make_native_vec_env("Lecture/GridWorld-v0", 8, seed=1)
    model = SACDiscrete(
        "MlpPolicy", env, learning_rate=3e-3, learning_starts=200, train_freq=8, gradient_steps=8, tau=0.05, gamma=0.95,
        actor_gradient=kind, ent_coef=0.03, policy_kwargs={"net_arch": [32]}, seed=1, device="cpu",
    )  # fmt: skip
    assert exact_evaluation(model).regret > 0.1  # not solved by its first weights
    model.learn(1536)
    assert exact_evaluation(model).regret == pytest.approx(0.0, abs=1e-9)


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@every_gradient
def test_sac_discrete_solves_cartpole_with_its_config(kind, seed, tmp_path):
    """The figures of docs/benchmarks_evolution.md, by the same command."""
    options = ["--algo", "sac_discrete", "--env", "CartPole-v1", "--seed", str(seed), "-f", str(tmp_path), "--verbose", "0"]
    assert cli.main(["train", *options, "--eval-freq", "-1", "--hyperparams", f"actor_gradient:'{kind}'"]) == 0
    model = SACDiscrete.load(tmp_path / "sac_discrete" / "CartPole-v1_1" / "CartPole-v1.zip", device="cpu")
    env = make_vec_env("CartPole-v1", n_envs=10, seed=1000 + seed)
    mean, std = evaluate_policy(model, env, n_eval_episodes=100)
    print(f"sac_discrete, {kind}, seed {seed}: {mean:.1f} ± {std:.1f}")
    assert mean >= (400 if kind == "score_function" else 475)  # the estimator of the largest variance
