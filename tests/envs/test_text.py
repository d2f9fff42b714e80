"""Worlds of text: their law, their judge, their labeller."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.vector import AutoresetMode
from stable_baselines3.common.env_checker import check_env

from sb3_lecture_envs.text import make_vector
from sb3_lecture_envs.text_world import ExactText, WordsText

BEER, SOUP = 8, 9
STOP, AND, VERY, NOT, GOOD, BAD, WARM, COLD, PAD = 0, 1, 2, 3, 4, 5, 6, 7, 12


def row(*words):
    return [*words, *[PAD] * (5 - len(words))]


@pytest.mark.parametrize(
    ("thing", "words", "score"),
    [
        (BEER, (COLD, STOP), 2 * np.tanh(0.5)),
        (SOUP, (COLD, STOP), -2 * np.tanh(0.5)),
        (BEER, (VERY, COLD, STOP), 2 * np.tanh(0.75)),
        (BEER, (NOT, BAD, STOP), 2 * np.tanh(0.25)),  # a negation turns round and halves
        (BEER, (NOT, VERY, COLD, STOP), 2 * np.tanh(-0.375)),  # −0.5 · 1.5
        (BEER, (GOOD, AND, COLD, STOP), 2 * np.tanh(1.0)),
        (BEER, (GOOD, AND, STOP), 2 * np.tanh(0.5) - 0.5),  # breaks off
        (BEER, (STOP,), -1.0),
        (BEER, (GOOD, AND, COLD, AND, GOOD), 2 * np.tanh(1.5) - 1.0),  # does not stop
        (BEER, (GOOD, AND, COLD, AND, VERY), 2 * np.tanh(1.0) - 1.5),  # and breaks off
    ],
)
def test_the_judge_scores_as_its_rules_say(thing, words, score):
    world = ExactText()
    assert world.score(np.array([[thing]]), np.array([row(*words)]))[0] == pytest.approx(score)


def test_a_batch_is_scored_as_its_rows_are():
    world, rng = ExactText(), np.random.default_rng(0)
    prompts, responses = world.demonstrations(300, rng)
    one_by_one = [world.score(prompts[i : i + 1], responses[i : i + 1])[0] for i in range(300)]
    np.testing.assert_allclose(world.score(prompts, responses), one_by_one)


def test_demonstrations_follow_the_grammar():
    world, n = ExactText(slips=0.2), 40_000
    _, responses = world.demonstrations(n, np.random.default_rng(0))
    for before, after in ((responses[:, 0], responses[:, 1]), (responses[:, 1], responses[:, 2])):
        for last in range(1, 8):
            followers = after[before == last]
            share = np.bincount(followers, minlength=8)[:8] / len(followers)
            assert np.all(np.abs(share - world.law[last]) < 5 * np.sqrt(0.25 / len(followers)))
    np.testing.assert_allclose(world.law.sum(axis=1), 1.0)
    assert (responses[responses[:, 0] == STOP, 1:] == PAD).all()


def test_the_labeller_prefers_with_bradley_and_terrys_probability():
    rng, n = np.random.default_rng(0), 40_000
    for noise in (0.5, 1.0, 2.0):
        world = ExactText(noise=noise)
        order = world.rank(np.tile([1.0, 0.3], (n, 1)), rng)
        assert (order[:, 0] == 0).mean() == pytest.approx(1 / (1 + np.exp(-0.7 / noise)), abs=0.013)
        assert world.preference_probability(np.array([0.7]))[0] == pytest.approx(1 / (1 + np.exp(-0.7 / noise)))
    three = ExactText(noise=1.0).rank(np.tile([1.0, 0.0, -1.0], (n, 1)), rng)
    first = np.where(three == 0)[1] < np.where(three == 2)[1]
    assert first.mean() == pytest.approx(1 / (1 + np.exp(-2.0)), abs=0.01)  # pairs of a ranking, too


def test_a_labeller_without_noise_is_always_right_and_ties_by_a_coin():
    world, rng = ExactText(noise=0.0), np.random.default_rng(0)
    assert (world.rank(np.tile([0.0, 0.1], (100, 1)), rng)[:, 0] == 1).all()
    assert (world.rank(np.zeros((20_000, 2)), rng)[:, 0] == 0).mean() == pytest.approx(0.5, abs=0.02)
    np.testing.assert_array_equal(world.preference_probability(np.array([-1.0, 0.0, 2.0])), [0.0, 0.5, 1.0])


def test_the_env_writes_token_by_token_and_scores_at_the_end():
    env = gym.make("Lecture/Text-v0").unwrapped
    observation, _ = env.reset(seed=0, options={"prompt": 0})
    assert observation.tolist() == [BEER, *[PAD] * 5]
    steps = [env.step(a) for a in (VERY, COLD, STOP)]
    assert [step[1] for step in steps] == [0.0, 0.0, pytest.approx(2 * np.tanh(0.75))]
    assert [step[2] for step in steps] == [False, False, True]
    assert steps[-1][0].tolist() == [BEER, VERY, COLD, STOP, PAD, PAD]
    assert steps[-1][4]["text"] == "the beer was very cold."
    with pytest.raises(ValueError, match=r"call reset"):
        env.step(1)
    env.reset(options={"prompt": 1})
    assert [env.step(GOOD)[2] for _ in range(5)] == [False] * 4 + [True]  # five words at most


@pytest.mark.parametrize("size", ["exact", "words"])
def test_checkers_are_content_and_many_pages_are_as_one(size):
    check_env(gym.make("Lecture/Text-v0", size=size))
    many = make_vector(3, size=size, autoreset_mode=AutoresetMode.SAME_STEP)
    one, rng = gym.make("Lecture/Text-v0", size=size).unwrapped, np.random.default_rng(1)
    observations, _ = many.reset(seed=3)
    p = one.text_world.prompt_length
    for _ in range(40):
        actions = rng.integers(4, size=3)
        following, rewards, ended, _, infos = many.step(actions)
        for i in range(3):
            one.tokens[:], one.over = observations[i], False
            one.written = int((observations[i][p:] != one.text_world.pad).sum())
            own, reward, over, _, _ = one.step(int(actions[i]))
            assert (reward, over) == (rewards[i], ended[i])
            np.testing.assert_array_equal(infos["final_obs"][i] if over else following[i], own)
        observations = following


def test_english_has_prompts_answers_and_rhymes():
    world = WordsText()
    prompts, responses = world.demonstrations(200, np.random.default_rng(0))
    assert len(world.words) == 502 and len(world.prompts) > 1000
    assert (prompts < world.n_words).all() and (responses <= world.pad).all()
    number = {word: i for i, word in enumerate(world.words)}
    prompt = np.array([[number["the"], number["of"], number["function"]]])
    pad = [world.pad] * 10
    rhyme = np.array([[number["expression"], STOP, *pad], [number["function"], STOP, *pad], [number["of"], STOP, *pad]])
    np.testing.assert_array_equal(world.score(np.repeat(prompt, 3, axis=0), rhyme), [3.0, 0.0, 0.0])
    unfinished = np.full((1, 12), number["expression"])
    assert world.score(prompt, unfinished)[0] == -1.0


@pytest.mark.parametrize(
    ("kwargs", "error", "words"),
    [
        ({"size": "large"}, ValueError, "size='large' is unknown"),
        ({"noise": -1.0}, ValueError, "noise=-1.0 must be"),
        ({"slips": 2.0}, ValueError, "slips=2.0 must be"),
        ({"scorer": 3}, TypeError, "scorer=3 must be a callable"),
        ({"size": "words", "vocabulary": 3}, ValueError, "vocabulary=3 must be"),
    ],
)
def test_nonsense_is_refused(kwargs, error, words):
    with pytest.raises(error, match=words):
        gym.make("Lecture/Text-v0", **kwargs)


@pytest.mark.parametrize("score", [lambda p, r: np.full(len(r), np.nan), lambda p, r: np.zeros((len(r), 2))])
def test_a_scorer_that_returns_no_numbers_is_named(score):
    env = gym.make("Lecture/Text-v0", scorer=score).unwrapped
    env.reset(seed=0)
    with pytest.raises(ValueError, match=r"the scorer returned (nan for 'the|an array of shape)"):
        env.step(STOP)
