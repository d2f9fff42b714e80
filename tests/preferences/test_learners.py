"""The three steps and DPO: what they log, what they find, what they refuse."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th

import sb3_lecture_envs  # noqa: F401
from sb3_lecture import DPO, RLHF, SFT, RewardModel
from sb3_lecture.exact.string_tree import optimal_leaves
from sb3_lecture.preferences.base import exact_log_next, exact_rewards, exact_scores
from sb3_lecture.preferences.comparisons import Comparisons, rank_by, read_comparisons, write_comparisons

SMALL = {"policy_kwargs": {"width": 16, "n_heads": 2, "n_layers": 1}, "device": "cpu", "seed": 0}
TEXT = "sb3_lecture_envs:Lecture/Text-v0"


def env(**kwargs):
    return gym.make("Lecture/Text-v0", **kwargs)


@pytest.fixture(name="rlhf", scope="module")
def _rlhf():
    model = RLHF(env=env(), sft_steps=60, reward_steps=20, n_comparisons=500, n_responses=64, batch_size=32, **SMALL)
    return model.learn(2000)


def test_the_logged_kl_is_that_of_all_answers_one_by_one(rlhf):
    world, tree = rlhf.world, rlhf.tree
    responses = th.as_tensor(tree.responses())
    by_answers = []
    with th.no_grad():
        for prompt in th.as_tensor(world.prompts):
            prompts = prompt.repeat(len(responses), 1)
            pi, sft = (part.log_probs(prompts, responses).double().sum(dim=1) for part in (rlhf.policy, rlhf.reference))
            by_answers.append((pi.exp() * (pi - sft)).sum().item())
    rlhf.dump_logs()
    assert rlhf.exact_kl() == pytest.approx(np.mean(by_answers), abs=1e-6)
    assert rlhf.exact_kl() > 1e-3
    assert rlhf.grade().kl == pytest.approx(rlhf.exact_kl(), abs=1e-9)


def test_the_estimates_of_the_kl_are_near_it(rlhf):
    exact, found = rlhf.exact_kl(), {}
    rlhf.logger.record = lambda key, value, *_: found.update({key: value})
    rlhf.n_responses = 20_000
    th.manual_seed(0)
    rlhf._collect()
    rlhf.n_responses = 64
    del rlhf.logger.record
    for name in ("k1", "k3", "vocabulary"):
        assert found[f"kl/{name}"] == pytest.approx(exact, rel=0.1), name


def test_rlhf_climbs_and_the_reference_stays(rlhf):
    grade = rlhf.grade()
    assert grade.value > grade.sft_value + 0.1 * (grade.optimum - grade.sft_value)
    assert grade.optimum - grade.value == pytest.approx(rlhf.beta * grade.kl_to_optimal, abs=1e-6)
    before = {key: value.clone() for key, value in rlhf.reference.state_dict().items()}
    rlhf.learn(100, reset_num_timesteps=False)
    assert all(th.equal(value, before[key]) for key, value in rlhf.reference.state_dict().items())


def test_sft_finds_the_grammar():
    model = SFT(env=env(), learning_rate=1e-2, batch_size=128, **SMALL)
    far = model.kl_from_grammar()
    model.learn(150)
    assert model.kl_from_grammar() < 0.1 < 1.0 < far
    value, best = model.exact_progress()
    assert best - value == pytest.approx(model.kl_from_grammar())
    world = model.world  # the optimum is minus the entropy: the mean log-likelihood of drawn answers under the grammar
    _, responses = world.demonstrations(20_000, np.random.default_rng(0))
    total = np.zeros(len(responses))
    for t in range(5):
        prefix = responses.copy()
        prefix[:, t:] = world.pad
        written = responses[:, t] != world.pad
        total[written] += world.log_law(prefix)[written, responses[written, t]]
    assert best == pytest.approx(total.mean(), abs=0.03)


def test_the_reward_model_finds_the_hidden_score():
    model = RewardModel(env=env(), learning_rate=5e-3, batch_size=64, n_comparisons=4000, **SMALL).learn(250)
    world, tree = model.world, model.tree
    found, true = exact_rewards(model.policy, world, tree), exact_scores(world, tree)
    law = np.exp(tree.log_leaves(world.log_law(tree.prefixes)[None].repeat(4, axis=0)))
    for x in range(4):  # up to a constant a prompt, weighed as people write
        weight, difference = law[x][tree.is_leaf], (found - true)[x][tree.is_leaf]
        own = true[x][tree.is_leaf]
        left, all_of_it = (weight @ (part - weight @ part) ** 2 for part in (difference, own))
        assert left < 0.4 * all_of_it
    share, bayes = model.accuracy()
    assert bayes - 0.05 < share <= bayes + 0.005
    np.testing.assert_allclose(
        model.reward(np.repeat(world.prompts[:1], len(tree.responses()), axis=0), tree.responses()),
        found[0][tree.is_leaf], rtol=1e-5, atol=1e-5,
    )  # fmt: skip


def test_dpo_climbs_to_the_same_optimum():
    model = DPO(env=env(), learning_rate=3e-3, batch_size=64, sft_steps=60, n_comparisons=2000, **SMALL).learn(100)
    grade = model.grade()
    assert grade.regret_share < 0.5
    assert model.exact_progress() == (grade.value, grade.optimum)


def test_one_step_of_dpo_raises_what_was_preferred():
    model = DPO(env=env(), sft_steps=0, n_comparisons=64, batch_size=64, learning_rate=1e-3, **SMALL)
    model.learn(1)
    rows = th.arange(len(model._comparisons))
    with th.no_grad():
        ratio = model._log_of(model.policy, model._comparisons, rows) - th.as_tensor(model._reference_log)
    assert (ratio[:, 0] - ratio[:, -1]).mean() > 0


@pytest.mark.parametrize("beta", [1e-3, 1e3])
def test_beta_near_its_limits(rlhf, beta):
    """β → 0: only the best answers remain; β → ∞: π_SFT."""
    world, tree = rlhf.world, rlhf.tree
    sft, score = tree.log_leaves(exact_log_next(rlhf.reference, world, tree)), exact_scores(world, tree)
    best, j_star = optimal_leaves(sft, score, beta)
    if beta < 1:
        top = np.where(tree.is_leaf, score, -np.inf).max(axis=(1, 2))
        assert (top - j_star < 0.1).all() and (j_star < top).all()
    else:
        p = np.exp(sft)
        assert (np.abs(np.exp(best) - p)).sum() < 0.02
        np.testing.assert_allclose(j_star, (p * score).sum(axis=(1, 2)), atol=1e-3)


def test_kl_stops_learning(rlhf):
    before = {key: value.clone() for key, value in rlhf.policy.state_dict().items()}
    rlhf.target_kl = 1e-6
    rlhf.learn(100, reset_num_timesteps=False)
    rlhf.target_kl = None
    assert rlhf.stopped_by_kl
    assert all(th.equal(value, before[key]) for key, value in rlhf.policy.state_dict().items())


def test_a_missing_stop_costs(rlhf):
    prompts = th.full((2, 1), 8)
    responses = th.tensor([[4, 0, 12, 12, 12], [4, 1, 4, 1, 4]])
    free = rlhf._scores(prompts, responses)
    rlhf.missing_stop_penalty = 0.75
    charged = rlhf._scores(prompts, responses)
    rlhf.missing_stop_penalty = 0.0
    th.testing.assert_close(free - charged, th.tensor([0.0, 0.75]))


def test_without_a_reward_model_the_world_scores():
    model = RLHF(env=env(), use_reward_model=False, sft_steps=2, n_responses=16, batch_size=16, **SMALL).learn(10)
    prompts, responses = model.world.demonstrations(20, np.random.default_rng(0))
    scores = model._scores(th.as_tensor(prompts), th.as_tensor(responses))
    np.testing.assert_allclose(scores.numpy(), model.world.score(prompts, responses), rtol=1e-6)


def test_beta_zero_has_no_grade(rlhf):
    beta, rlhf.beta = rlhf.beta, 0.0
    with pytest.raises(ValueError, match="beta=0 has no optimal policy"):
        rlhf.grade()
    rlhf.beta = beta


# --- comparisons -----------------------------------------------------------------------------------------------------


def some_comparisons(world, n=12, k=2):
    rng = np.random.default_rng(0)
    prompts = world.draw_prompts(n, rng)
    return rank_by(world, prompts, world.demonstrations(n * k, rng)[1].reshape(n, k, -1), rng)


def test_comparisons_go_to_a_file_and_back_and_are_learned_from(tmp_path):
    world = env().unwrapped.text_world
    given = some_comparisons(world)
    write_comparisons(tmp_path / "labels.npz", given)
    read = read_comparisons(tmp_path / "labels.npz", world)
    np.testing.assert_array_equal(read.responses, given.responses)
    path = str(tmp_path / "labels.npz")
    for cls, more in (
        (RewardModel, {}),
        (DPO, {"sft_steps": 2}),
        (RLHF, {"sft_steps": 2, "reward_steps": 2, "n_responses": 8}),
    ):
        model = cls(env=env(), preferences=path, batch_size=4, **more, **SMALL).learn(3)
        assert model.preferences == path


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda c: Comparisons(c.prompts[:0], c.responses[:0]), "holds no comparison"),
        (lambda c: Comparisons(np.stack([c.prompts, 19 - c.prompts], 1), c.responses), "comparison 0 have unequal prompts"),
        (lambda c: Comparisons(c.prompts, np.where(c.responses == 4, 9, c.responses)), "another vocabulary"),
        (lambda c: Comparisons(c.prompts + 40, c.responses), "another vocabulary: it holds token"),
        (lambda c: Comparisons(c.prompts, c.responses[:, :1]), "K of at least 2"),
        (lambda c: Comparisons(c.prompts, c.responses[:, :, :3]), "responses of 3 tokens; the world has 1 and 5"),
        (lambda c: Comparisons(c.prompts.astype(float), c.responses), "must be integers"),
    ],
)
def test_a_bad_file_is_one_clear_error(tmp_path, change, words):
    write_comparisons(tmp_path / "x.npz", change(some_comparisons(env().unwrapped.text_world)))
    with pytest.raises(ValueError, match=words) as error:
        RewardModel(env=env(), preferences=str(tmp_path / "x.npz"), **SMALL).learn(1)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("content", [b"", b"no zip", None])
def test_a_file_that_is_none_is_named(tmp_path, content):
    if content is not None:
        (tmp_path / "x.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"x\.npz is no file of comparisons"):
        RewardModel(env=env(), preferences=str(tmp_path / "x.npz"), **SMALL).learn(1)


def test_an_env_without_text_is_refused():
    for cls in (SFT, RewardModel, DPO, RLHF):
        with pytest.raises(ValueError, match=f"{cls.__name__} needs the world's law"):
            cls(env="CartPole-v1")
