"""The transformer with and without its cache, as an SB3 policy, under plain SB3 PPO."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import PPO
from stable_baselines3.common.env_util import make_vec_env

import sb3_lecture_envs  # noqa: F401
from sb3_lecture.preferences.kl_penalty import KLPenalty
from sb3_lecture.preferences.policies import RewardPolicy, TransformerPolicy

PAD = 12
SPACES = (spaces.MultiDiscrete([13] * 6), spaces.Discrete(8))


@pytest.fixture(name="policy")
def _policy():
    th.manual_seed(0)
    policy = TransformerPolicy(*SPACES, lambda _: 1e-3, width=16, n_heads=2)
    with th.no_grad():
        for parameter in policy.parameters():
            parameter.add_(0.2 * th.randn_like(parameter))
    return policy


def test_a_place_knows_nothing_of_what_follows(policy):
    tokens = th.randint(0, 12, (4, 6))
    other = tokens.clone()
    other[:, 4:] = (other[:, 4:] + 1) % 12
    th.testing.assert_close(policy.log_next(tokens)[:, :4], policy.log_next(other)[:, :4])
    assert not th.allclose(policy.log_next(tokens)[:, 5], policy.log_next(other)[:, 5])


def test_step_by_step_with_the_cache_is_the_whole_row(policy):
    tokens, cache = th.randint(0, 12, (5, 6)), policy.actor.empty_cache(5)
    whole = policy.actor(tokens)
    for t in range(6):
        th.testing.assert_close(policy.actor.step(tokens[:, t], th.full((5,), t), cache), whole[:, t], atol=1e-5, rtol=1e-4)


def test_generation_with_and_without_cache_draws_the_same(policy):
    prompts = th.randint(8, 12, (200, 1))
    drawn = [policy.generate(prompts, 5, th.Generator().manual_seed(3), cached=cached) for cached in (True, False)]
    assert th.equal(*drawn)
    stops = (drawn[0] == 0).int().cumsum(dim=1)
    assert ((drawn[0] == PAD) == (stops - (drawn[0] == 0).int() > 0)).all()  # pad after the stop, and only there


def test_drawn_answers_have_the_frequencies_that_log_probs_says(policy):
    answers = policy.generate(th.full((20_000, 1), 9), 5, th.Generator().manual_seed(0))
    for word in range(8):
        first = th.full((1, 5), PAD)
        first[0, 0] = word
        p = policy.log_probs(th.tensor([[9]]), first)[0, 0].exp().item()
        assert (answers[:, 0] == word).float().mean().item() == pytest.approx(p, abs=5 * np.sqrt(p / 20_000))


def test_observations_are_read_up_to_the_first_pad(policy):
    rows = th.tensor([[9, 4, 1, PAD, PAD, PAD], [9, 4, 1, PAD, 3, 3], [8, 1, 2, 3, 4, 5]])
    at = (th.arange(3), th.tensor([2, 2, 5]))
    th.testing.assert_close(policy.get_distribution(rows).distribution.logits, policy.log_next(rows)[at])
    th.testing.assert_close(policy.predict_values(rows)[:, 0], policy.values_along(rows)[at])


def test_predict_with_the_state_it_gave_is_predict_without(policy):
    rng, rows = np.random.default_rng(0), np.full((6, 6), PAD)
    rows[:, 0], state = rng.integers(8, 12, 6), None
    for t in range(1, 6):
        again, state = policy.predict(rows, state, deterministic=True)
        np.testing.assert_array_equal(again, policy.predict(rows, None, deterministic=True)[0])
        if t == 3:  # some rows begin anew, as in an evaluation
            rows[::2, 1:] = PAD
        for row in rows:
            row[int((row != PAD).sum())] = rng.integers(1, 8)
    one, _ = policy.predict(rows[0], deterministic=True)
    assert np.shape(one) == ()


def test_predict_reads_only_the_new_token(policy, monkeypatch):
    rows = np.full((2, 6), PAD)
    rows[:, 0] = 9
    _, state = policy.predict(rows, deterministic=True)
    rows[:, 1] = 4
    steps, step = [], policy.actor.step
    monkeypatch.setattr(policy.actor, "step", lambda *args: steps.append(1) or step(*args))
    policy.predict(rows, state, deterministic=True)
    assert len(steps) == 1
    policy.predict(rows, None, deterministic=True)
    assert len(steps) == 3


def test_the_judge_reads_the_last_token_and_acts_by_it():
    th.manual_seed(0)
    judge = RewardPolicy(*SPACES, lambda _: 1e-3, width=16, n_heads=2)
    row = th.tensor([[9, 4, PAD, PAD, PAD, PAD]])
    longer = row.repeat(8, 1)
    longer[:, 2] = th.arange(8)
    assert int(judge.predict(row[0].numpy(), deterministic=True)[0]) == int(judge.score(longer).argmax())
    other = row.clone()
    other[0, 4] = 3  # behind the first pad: not read
    assert judge.score(row).item() == judge.score(other).item()


@pytest.mark.parametrize(
    ("kwargs", "words"), [({"width": 10, "n_heads": 4}, "n_heads=4 must divide width=10"), ({"n_layers": 0}, "n_layers=0")]
)
def test_nonsense_is_refused(kwargs, words):
    with pytest.raises(ValueError, match=words):
        TransformerPolicy(*SPACES, lambda _: 1e-3, **kwargs)


@pytest.mark.parametrize(
    ("name", "kwargs"), [("MlpPolicy", {}), (TransformerPolicy, {"width": 8, "n_heads": 2, "n_layers": 1})]
)
def test_plain_ppo_learns_in_the_wrapped_env_and_is_charged(policy, name, kwargs):
    env = KLPenalty(make_vec_env("Lecture/Text-v0", 4), policy, beta=0.3)
    model = PPO(name, env, n_steps=32, batch_size=32, n_epochs=1, gamma=1.0, policy_kwargs=kwargs, device="cpu", seed=0)
    with pytest.raises(ValueError, match=r"call env\.charge\(model\.policy\)"):
        model.learn(8)
    env.charge(model.policy)
    model.learn(128)
    tensor = model.policy.obs_to_tensor(env.reset())[0]
    actions = np.array([4, 1, 2, 0])
    with th.no_grad():
        logs = [part.get_distribution(tensor).log_prob(th.as_tensor(actions)).numpy() for part in (model.policy, policy)]
    _, rewards, _, infos = env.step(actions)
    own = np.array([info["env_reward"] for info in infos])
    np.testing.assert_allclose(rewards, own - 0.3 * (logs[0] - logs[1]), rtol=1e-5, atol=1e-6)
    assert own.tolist() == [0.0, 0.0, 0.0, -1.0]  # a stop at once is no answer


def test_a_policy_for_text_refuses_other_spaces():
    with pytest.raises(ValueError, match="needs the world's law"):
        PPO(TransformerPolicy, gym.make("CartPole-v1"))
