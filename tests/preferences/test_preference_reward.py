"""Rewards from comparisons of segments: the model's likelihood, what is cut and kept, and what is learned from it."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from stable_baselines3 import DQN, PPO
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv

import sb3_lecture_envs  # noqa: F401
from sb3_lecture import QLearning
from sb3_lecture.exact.grade import ExactGrader
from sb3_lecture.preferences.preference_reward import PreferenceCallback, PreferenceReward, preference_loss
from sb3_lecture.preferences.segments import LabelFile, Segment, SegmentPool, SyntheticLabeller

PLAIN = {"n_nets": 1, "weight_decay": 0.0, "learning_rate": 1e-3}


def segment(rewards, terminated=False):
    n = len(rewards)
    return Segment(np.arange(n), np.zeros(n, np.int64), np.array(rewards, np.float64), terminated)


def test_the_loss_by_hand():
    """One net: P = 0.05 + 0.9 σ(1) = 0.70795 and 0.5; labels 1 and ½, the second counted twice."""
    returns, labels = th.tensor([[[2.0, 1.0], [0.5, 0.5]]]), th.tensor([1.0, 0.5])
    loss = preference_loss(returns, labels, th.tensor([[1.0, 2.0]]), 0.1)
    p = 0.05 + 0.9 / (1 + np.exp(-1.0))
    assert loss.item() == pytest.approx((-np.log(p) - 2 * np.log(0.5)) / 3, abs=1e-6)
    flipped = preference_loss(returns, th.tensor([0.0, 0.5]), th.tensor([[1.0, 2.0]]), 0.1)
    assert flipped.item() == pytest.approx((-np.log(1 - p) - 2 * np.log(0.5)) / 3, abs=1e-6)


def test_the_labeller_says_what_its_temperature_says():
    labeller = SyntheticLabeller(temperature=2.0, seed=0)
    said = [labeller(segment([1.0, 1.0]), segment([1.0])) for _ in range(4000)]
    p = 1 / (1 + np.exp(-0.5))
    assert np.mean(said) == pytest.approx(p, abs=4 * np.sqrt(p * (1 - p) / 4000))
    assert labeller.doubt == pytest.approx(1 - p)
    sure = SyntheticLabeller()
    assert [sure(segment([1.0]), segment([0.0])), sure(segment([0.0]), segment([1.0]))] == [1.0, 0.0]
    assert sure(segment([0.5, 0.5]), segment([1.0])) == 0.5
    late, early = segment([0.0, 1.0]), segment([1.0, 0.0])
    assert sure(late, early) == 0.5 and SyntheticLabeller(gamma=0.9)(late, early) == 0.0


def pool_of(ends, capacity=100):
    """One env whose observation is the number of the step."""
    pool = SegmentPool(capacity, 1)
    for t, end in enumerate(ends):
        pool.add(np.array([t]), np.array([t % 3]), np.array([float(t)]), np.array([end > 0]), np.array([end == 2]))
    return pool


def found(pool, length, shortened=0.0):
    drawn = pool.draw(2000, length, np.random.default_rng(0), shortened)
    return {(int(s.observations[0]), len(s), s.terminated) for s in drawn}


def test_segments_cross_no_end_and_only_deaths_make_them_short():
    """Steps 0 1 2† 3 4 5⏱ 6 7: † terminates, ⏱ is a time limit; k = 3."""
    pool = pool_of([0, 0, 1, 0, 0, 2, 0, 0])
    assert found(pool, 3) == {(0, 3, True), (1, 2, True), (2, 1, True), (3, 3, False)}
    assert found(pool, 2) == {(0, 2, False), (1, 2, True), (2, 1, True), (3, 2, False), (4, 2, False), (6, 2, False)}
    assert found(pool, 9) == {(0, 3, True), (1, 2, True), (2, 1, True)}
    assert all(s.rewards.tolist() == s.observations.tolist() for s in pool.draw(20, 2, np.random.default_rng(1)))


def test_a_reset_ends_segments_and_the_ring_keeps_the_newest():
    pool = pool_of([0, 0])
    pool.cut()
    for t in (2, 3):
        pool.add(np.array([t]), np.array([0]), np.array([0.0]), np.array([False]), np.array([False]))
    assert found(pool, 2) == {(0, 2, False), (2, 2, False)}
    assert found(pool_of([0, 0, 1, 0, 0, 0, 0], capacity=4), 2) == {(3, 2, False), (4, 2, False), (5, 2, False)}
    assert pool_of([0]).draw(3, 2, np.random.default_rng(0)) == []


def test_shortened_segments_keep_their_end():
    assert found(pool_of([0, 0, 1]), 3, shortened=1.0) == {(0, 3, True), (1, 2, True), (2, 1, True)}
    lengths = [len(s) for s in pool_of([0] * 30).draw(4000, 4, np.random.default_rng(0), 0.5)]
    assert np.bincount(lengths)[1:] / 4000 == pytest.approx([0.125, 0.125, 0.125, 0.625], abs=0.03)


def maze(n_envs=4, **kwargs):
    return PreferenceReward(make_vec_env("Lecture/Maze-v0", n_envs, seed=0), **{"segment_length": 5, "seed": 0, **kwargs})


def wander(env, steps, seed=0):
    rng = np.random.default_rng(seed)
    env.reset()
    for _ in range(steps):
        env.step(rng.integers(env.action_space.n, size=env.num_envs))


def test_labels_are_on_disk_as_they_come_and_a_torn_line_is_dropped(tmp_path):
    path = tmp_path / "labels.jsonl"
    env = maze(labels=str(path), fit_steps=5)
    wander(env, 60)
    said = iter([1.0, None, 0.5])

    def labeller(first, second):
        assert len(path.read_text().splitlines() if path.exists() else []) == len(env.label_file)
        try:
            return next(said)
        except StopIteration:
            raise KeyboardInterrupt from None

    with pytest.raises(KeyboardInterrupt):
        env.ask(labeller, 10)
    with open(path, "a") as file:
        file.write('{"label": 1.0, "first": {"obs')
    again = maze(labels=str(path), fit_steps=5)
    assert [label for *_, label in again.label_file.labels] == [1.0, 0.5]
    for (a, b, _), (c, d, _) in zip(env.label_file.labels, again.label_file.labels, strict=True):
        for one, other in ((a, c), (b, d)):
            np.testing.assert_array_equal(one.observations, other.observations)
            np.testing.assert_array_equal(one.actions, other.actions)
            assert one.terminated == other.terminated
    assert again.scale > 0 and path.read_bytes().endswith(b"\n")
    again.label_file.add(a, b, 0.0)
    assert len(LabelFile(path, (), ())) == 3


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{}", "line 1 is no label"),
        ('{"label": 0.7, "first": S, "second": S}', "label=0.7 must be 1"),
        (
            '{"label": 1, "first": S, "second": {"observations": [[1, 2]], "actions": [0], "terminated": false}}',
            "another world",
        ),
    ],
)
def test_files_that_hold_no_labels(tmp_path, line, message):
    path = tmp_path / "labels.jsonl"
    path.write_text(line.replace("S", '{"observations": [1], "actions": [0], "terminated": false}') + "\n")
    with pytest.raises(ValueError, match=message):
        maze(labels=str(path))


def test_the_reward_is_found_where_everything_was_compared():
    """All comparisons of two actions in a state: r̂ is the true reward, up to a constant for each state."""
    env = PreferenceReward(make_vec_env("Lecture/GridWorld-v0", 1), segment_length=1, lapse=0.0, fit_steps=800, **PLAIN)
    worth = np.array([[0.0, 1.0, 1.0, 3.0]] * 4)
    for s in range(4):
        for a in range(4):
            for b in range(4):
                pair = [Segment(np.array([s]), np.array([x]), np.array([worth[s, x]])) for x in (a, b)]
                env.label_file.labels.append((*pair, 1 / (1 + np.exp(worth[s, b] - worth[s, a]))))  # of endlessly many
    env.fit()
    states = np.repeat(np.arange(4), 4)
    found = env.reward(states, np.tile(np.arange(4), 4)).reshape(4, 4) / env.scale
    np.testing.assert_allclose(found - found[:, :1], worth, atol=0.1)


def test_the_worlds_own_reward_is_kept_and_unseen():
    env = maze()
    seen = []
    rng = np.random.default_rng(0)
    env.reset()
    for _ in range(300):
        _, rewards, _, infos = env.step(rng.integers(4, size=4))
        assert not rewards.any()  # nothing was said yet
        seen += [info["env_reward"] for info in infos]
    assert {-1.0, 0.0} <= set(seen)
    env.ask(SyntheticLabeller(), 30)
    env.fit()
    observations, actions = env.pool.steps(5000, np.random.default_rng(0))
    assert np.square(env.reward(observations, actions)).mean() == pytest.approx(1.0, rel=0.15)


def test_nets_disagree_where_they_are_asked():
    env = maze()
    wander(env, 400)
    env.ask(SyntheticLabeller(), 40)
    env.fit()
    shown = {True: [], False: []}
    for active, pairs in shown.items():
        env.ask(lambda a, b, pairs=pairs: pairs.append((a, b)), 40, active=active)
    with th.no_grad():
        spread = {k: th.sigmoid(-env._returns(*env._stack(v)).diff(dim=2)[..., 0]).var(dim=0).mean() for k, v in shown.items()}
    assert spread[True] > 3 * spread[False]


def test_labels_already_given_count_and_rounds_are_kept():
    env = maze(fit_steps=5)
    asking = PreferenceCallback(env, SyntheticLabeller(), n_labels=40, n_rounds=5, first_steps=400, asking_share=0.5)
    assert [asking.wanted(r) for r in range(1, 6)] == [10, 17, 25, 32, 40]
    assert [asking.due(t, 4000) for t in (399, 400, 799, 800, 1600, 4000)] == [0, 1, 1, 2, 4, 5]
    model = QLearning("MlpPolicy", env, seed=0).learn(2000, callback=asking)
    assert len(env.label_file) == 40
    model.learn(500, callback=PreferenceCallback(env, SyntheticLabeller(), n_labels=45, n_rounds=1, first_steps=100))
    assert len(env.label_file) == 45


def test_a_replay_buffer_is_labelled_anew():
    env = PreferenceReward(make_vec_env("CartPole-v1", 2, seed=0), segment_length=5, seed=0, fit_steps=20)
    asking = PreferenceCallback(env, SyntheticLabeller(), n_labels=20, n_rounds=2, first_steps=100)
    model = DQN("MlpPolicy", env, buffer_size=1000, learning_starts=500, seed=0).learn(300, callback=asking)
    buffer = model.replay_buffer
    rows = slice(0, 50)  # lived before anything was known
    assert not np.array_equal(buffer.rewards[rows], np.zeros((50, 2)))
    asking._fit()
    expected = env.reward(buffer.observations[rows].reshape(100, 4), buffer.actions[rows].reshape(100))
    np.testing.assert_allclose(buffer.rewards[rows].reshape(100), expected, rtol=1e-5)


def test_a_labeller_that_never_doubts_is_told_of():
    env = PreferenceReward(make_vec_env("Pendulum-v1", 2, seed=0), segment_length=5, seed=0, fit_steps=2)
    asking = PreferenceCallback(env, SyntheticLabeller(temperature=1e-6), n_labels=10, n_rounds=1, first_steps=40)
    with pytest.warns(UserWarning, match="nothing is in doubt"):
        PPO("MlpPolicy", env, n_steps=32, batch_size=32, device="cpu", seed=0).learn(64, callback=asking)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"segment_length": 0}, "segment_length=0"), ({"lapse": 2.0}, "lapse=2.0"), ({"pool_size": 8}, "hold no segment")],
)
def test_arguments_out_of_range(arguments, message):
    with pytest.raises(ValueError, match=message):
        maze(**arguments)


def test_other_spaces_and_another_env():
    box = gym.spaces.Dict({"a": gym.spaces.Discrete(2)})
    env = DummyVecEnv([lambda: gym.make("CartPole-v1")])
    env.observation_space = box
    with pytest.raises(ValueError, match="Box and Discrete"):
        PreferenceReward(env)
    model = QLearning("MlpPolicy", make_vec_env("Lecture/Maze-v0"), seed=0)
    with pytest.raises(ValueError, match="does not learn in"):
        model.learn(10, callback=PreferenceCallback(maze(), SyntheticLabeller()))


@pytest.mark.slow
def test_200_labels_teach_the_maze():
    env = PreferenceReward(make_vec_env("Lecture/Maze-v0", 8, seed=1), segment_length=10, seed=1)
    asking = PreferenceCallback(env, SyntheticLabeller(seed=1), n_labels=200, n_rounds=8, asking_share=0.3)
    model = QLearning(
        "MlpPolicy", env, gamma=0.99, learning_rate=0.5, exploration_fraction=0.8, exploration_final_eps=0.1, seed=1
    )
    model.learn(120_000, callback=asking)
    assert ExactGrader(make_vec_env("Lecture/Maze-v0", 1), 0.99).grade(model).regret == pytest.approx(0.0, abs=1e-9)
