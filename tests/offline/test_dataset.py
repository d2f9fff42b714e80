"""Data sets: rows as they were lived, ends apart from cuts, files that come back bit for bit, and what is refused."""

import contextlib
import json
import pickle

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3 import DQN
from stable_baselines3.common.buffers import ReplayBuffer
from stable_baselines3.common.vec_env import DummyVecEnv

import sb3_lecture_envs  # noqa: F401
from sb3_lecture import OfflineDataset
from sb3_lecture.common import files as files_module
from sb3_lecture.offline import dataset as dataset_module
from sb3_lecture.offline import recording
from sb3_lecture.offline.dataset import COLUMNS


class Count(gym.Env):
    """Counts its steps; ends after three if the last action was 1, is cut after five."""

    observation_space, action_space = spaces.Box(0.0, 10.0, (1,), np.float32), spaces.Discrete(2)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return np.zeros(1, np.float32), {}

    def step(self, action):
        self.t += 1
        ended = self.t >= 3 and action == 1
        return np.array([self.t], np.float32), 10.0 * self.t + action, ended, self.t == 5 and not ended, {}


class Always:
    """Plays a list of actions, one a step, in every env."""

    def __init__(self, *actions):
        self.actions = list(actions)

    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        return np.full(len(observation), self.actions.pop(0)), None


def rows(data):
    return [
        (data.observations[i].item(), data.actions[i], data.rewards[i], data.next_observations[i].item(),
         data.terminations[i], data.truncations[i]) for i in range(len(data))
    ]  # fmt: skip


def hand_made(**changes):
    columns = {
        "observations": np.arange(5, dtype=np.float32)[:, None],
        "actions": np.array([0, 1, 0, 1, 1]),
        "rewards": np.array([1.0, 2.0, 3.0, 4.0, 5.0], np.float32),
        "next_observations": np.arange(1, 6, dtype=np.float32)[:, None],
        "terminations": np.array([False, True, False, False, False]),
        "truncations": np.array([False, False, True, False, True]),
    }
    spaces_ = (changes.pop("observation_space", Count.observation_space), changes.pop("action_space", Count.action_space))
    return OfflineDataset(*spaces_, **columns | changes)


def test_a_recording_is_what_was_lived():
    data = OfflineDataset.record(Count(), 9, Always(0, 0, 1, 1, 0, 0, 0, 0, 1))
    assert rows(data) == [
        (0, 0, 10, 1, False, False), (1, 0, 20, 2, False, False), (2, 1, 31, 3, True, False),
        (0, 1, 11, 1, False, False), (1, 0, 20, 2, False, False), (2, 0, 30, 3, False, False), (3, 0, 40, 4, False, False),
        (4, 0, 50, 5, False, True),
        (0, 1, 11, 1, False, True),  # the recording was cut
    ]  # fmt: skip
    np.testing.assert_allclose(data.returns(), [61, 151, 11])
    assert [(part.start, part.stop) for part in data.episodes()] == [(0, 3), (3, 8), (8, 9)]


def test_several_envs_stand_one_after_the_other():
    data = OfflineDataset.record(DummyVecEnv([Count, Count]), 7, Always(0, 1, 0, 0))
    assert len(data) == 8
    assert rows(data)[:4] == rows(data)[4:]
    assert [row[5] for row in rows(data)] == [False, False, False, True] * 2


@pytest.mark.parametrize("share", [(0.5, [61.0, 151.0]), (0.01, [151.0]), (1.0, [61.0, 151.0, 11.0])])
def test_the_best_episodes_are_kept_in_their_order(share):
    data = OfflineDataset.record(Count(), 9, Always(0, 0, 1, 1, 0, 0, 0, 0, 1))
    np.testing.assert_allclose(data.best_episodes(share[0]).returns(), share[1])


def test_random_actions_are_mixed_in_as_often_as_asked():
    model = Always(*[1] * 4000)
    data = OfflineDataset.record(gym.make("Lecture/GridWorld-v0"), 4000, model, epsilon=0.4, seed=0)
    assert np.mean(data.actions != 1) == pytest.approx(0.4 * 3 / 4, abs=0.03)  # standard deviation 0.007
    again, other = (
        OfflineDataset.record(gym.make("Lecture/GridWorld-v0"), 500, epsilon=0.4, seed=seed).actions for seed in (0, 1)
    )
    first = OfflineDataset.record(gym.make("Lecture/GridWorld-v0"), 500, epsilon=0.4, seed=0).actions
    np.testing.assert_array_equal(again, first)
    assert (again != other).any()


def test_noise_is_a_share_of_the_range_and_stays_inside():
    class Zero:
        def predict(self, observation, state=None, episode_start=None, deterministic=True):
            return np.zeros((len(observation), 1), np.float32), None

    data = OfflineDataset.record("Pendulum-v1", 600, Zero(), noise=0.1, seed=0)
    assert data.actions.std() == pytest.approx(0.1 * 4.0, rel=0.1)  # actions in [-2, 2]
    wild = OfflineDataset.record("Pendulum-v1", 600, Zero(), noise=5.0, seed=0)
    assert wild.actions.min() == -2.0 and wild.actions.max() == 2.0


def test_sb3s_buffer_is_taken_over_in_the_order_of_each_env():
    buffer = ReplayBuffer(8, Count.observation_space, Count.action_space, device="cpu", n_envs=2)  # four rows an env
    for t in range(6):  # overwrites the first two
        s = np.array([[t], [t + 5]], np.float32)
        infos = [{"TimeLimit.truncated": t == 3}, {}]
        buffer.add(s, s + 1, np.array([t % 2, 0]), np.array([t, -t]), np.array([t == 3, t == 4]), infos)
    data = OfflineDataset.from_buffer(buffer)
    assert rows(data) == [
        (2, 0, 2, 3, False, False), (3, 1, 3, 4, False, True), (4, 0, 4, 5, False, False), (5, 1, 5, 6, False, True),
        (7, 0, -2, 8, False, False), (8, 0, -3, 9, False, False), (9, 0, -4, 10, True, False), (10, 0, -5, 11, False, True),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="optimize_memory_usage"):
        OfflineDataset.from_buffer(DQN("MlpPolicy", "CartPole-v1", buffer_size=10, optimize_memory_usage=True,
                                       replay_buffer_kwargs={"handle_timeout_termination": False}).replay_buffer)  # fmt: skip


def test_a_cut_keeps_the_discount_and_an_end_does_not():
    batch = hand_made().batch(np.array([1, 2, 4, 0]), gamma=0.5)
    np.testing.assert_allclose(batch.discounts.numpy(), [0.0, 0.5, 0.5, 0.5])
    np.testing.assert_allclose(batch.rewards.numpy(), [2, 3, 5, 1])
    np.testing.assert_allclose(batch.next_observations.numpy()[:, 0], [2, 3, 5, 1])


def test_lists_and_other_types_become_the_columns_types():
    data = hand_made(rewards=[1, 2, 3, 4, 5], terminations=[0, 1, 0, 0, 0], actions=np.array([0.0, 1.0, 0.0, 1.0, 1.0]))
    assert (data.rewards.dtype, data.terminations.dtype, data.actions.dtype) == (np.float32, np.bool_, np.int64)
    assert rows(data) == rows(hand_made())


class Counts:
    """Counts the steps of each episode in what it carries, and plays 0, 0, 1, 1, …, changed by a coin if it may."""

    policy = th.nn.Linear(1, 1)

    def predict(self, observation, state=None, episode_start=None, deterministic=True):
        state = np.where(episode_start, 0, 0 if state is None else state + 1)
        return (state // 2 + (0 if deterministic else th.randint(2, (1,)).item())) % 2, state


def test_a_policy_with_a_memory_carries_it():
    data = OfflineDataset.record(DummyVecEnv([Count, Count]), 14, Counts())
    assert data.actions.tolist() == 2 * [0, 0, 1, 0, 0, 1, 0]  # the third step's 1 ends the episode, and with it the count


@pytest.mark.parametrize("env", ["Lecture/GridWorld-v0", "Pendulum-v1"])
def test_a_killed_recording_goes_on_bit_for_bit(env, tmp_path, monkeypatch):
    """Killed at any of its steps it ends as one that never was: world, coins, noise, memory and the policy's own chance."""
    model = {"Lecture/GridWorld-v0": Counts(), "Pendulum-v1": None}[env]
    monkeypatch.setattr(recording, "SECONDS", 0.0)
    monkeypatch.setattr(recording.time, "monotonic", lambda: 0.0)  # it is always time for a checkpoint

    def record(**more):
        th.manual_seed(0)
        return OfflineDataset.record(env, 40, model, epsilon=0.3, deterministic=False, seed=1, **more)

    whole, save = record(), recording._save
    for kill in (1, 17, 39):
        path, calls = tmp_path / f"{kill}.zip", iter(range(kill))

        def killed(*arguments, calls=calls):
            if next(calls, None) is None:
                raise KeyboardInterrupt
            save(*arguments)

        monkeypatch.setattr(recording, "_save", killed)
        with pytest.raises(KeyboardInterrupt):
            record(checkpoint=path)
        monkeypatch.setattr(recording, "_save", save)
        resumed = record(checkpoint=path)
        for column in COLUMNS:
            assert getattr(resumed, column).tobytes() == getattr(whole, column).tobytes()
    with pytest.raises(ValueError, match=r"39\.zip is of another recording: epsilon was 0\.3, not 0\.4"):
        OfflineDataset.record(env, 40, model, epsilon=0.4, deterministic=False, seed=1, checkpoint=path)


@pytest.mark.parametrize("name", ["data.npz", "folder"])
def test_a_file_comes_back_bit_for_bit(name, tmp_path):
    data = hand_made()
    data.save(tmp_path / name)
    data.save(tmp_path / name)  # over itself
    loaded = OfflineDataset.load(tmp_path / name)
    assert (loaded.observation_space, loaded.action_space) == (data.observation_space, data.action_space)
    for column in COLUMNS:
        assert getattr(loaded, column).tobytes() == getattr(data, column).tobytes()
        assert getattr(loaded, column).dtype == getattr(data, column).dtype
    assert isinstance(loaded.rewards, np.memmap) == (name == "folder")


def test_a_kill_while_a_folder_is_written_leaves_the_old_data_or_the_new(tmp_path, monkeypatch):
    old, new, folder = hand_made(), hand_made(rewards=np.arange(5, 10)), tmp_path / "folder"
    whole, ends = dataset_module.written, []
    for writes in range(12):  # as many files are written before the kill
        old.save(folder)
        left = iter([True] * writes)

        def written(path, left=left):
            if next(left, None) is None:
                raise KeyboardInterrupt
            return whole(path)

        monkeypatch.setattr(dataset_module, "written", written)
        monkeypatch.setattr(files_module, "written", written)  # of the list
        with contextlib.suppress(KeyboardInterrupt):
            new.save(folder)
        monkeypatch.undo()
        found = OfflineDataset.load(folder)
        assert rows(found) in (rows(old), rows(new))
        ends.append(rows(found) == rows(new))
    assert not ends[0] and ends[-1] and sorted(ends) == ends
    assert len(list(folder.iterdir())) == len(json.loads((folder / "files.json").read_text())) + 1  # nothing is left over


def test_damage_is_one_error(tmp_path):
    hand_made().save(tmp_path / "data.npz")
    whole = (tmp_path / "data.npz").read_bytes()
    for cut in (0, 10, 200, len(whole) // 2, len(whole) - 5):
        (tmp_path / "cut.npz").write_bytes(whole[:cut])
        with pytest.raises(ValueError, match=r"cut\.npz is no data set, or damaged"):
            OfflineDataset.load(tmp_path / "cut.npz")
    with np.load(tmp_path / "data.npz") as file:
        columns = dict(file)

    class Evil:
        def __reduce__(self):
            return (open, (str(tmp_path / "made"), "w"))

    np.savez(tmp_path / "evil.npz", **columns | {"rewards": np.array([Evil()] * 5, object)})
    with pytest.raises(ValueError, match=r"evil\.npz is no data set"):
        OfflineDataset.load(tmp_path / "evil.npz")
    assert not (tmp_path / "made").exists() and pickle.dumps(1)
    np.savez(tmp_path / "short.npz", **columns | {"rewards": columns["rewards"][:3]})
    with pytest.raises(ValueError, match=r"short\.npz: observations has 5 rows, rewards has 3"):
        OfflineDataset.load(tmp_path / "short.npz")
    np.savez(tmp_path / "space.npz", **columns | {"spaces": np.array(json.dumps({"observation": 1, "action": 2}))})
    with pytest.raises(ValueError, match=r"space\.npz"):
        OfflineDataset.load(tmp_path / "space.npz")
    with pytest.raises(FileNotFoundError, match="there is no data set"):
        OfflineDataset.load(tmp_path / "nothing.npz")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({name: np.zeros((0, *shape)) for name, shape in zip(COLUMNS, [(1,), (), (), (1,), (), ()], strict=True)}, "is empty"),
        ({"rewards": np.array([1, 2, np.nan, 4, 5])}, r"rewards\[2\]=nan is not finite"),
        ({"actions": np.array([0, 1, 2, 0, 0])}, r"actions\[2\]=2 is not in Discrete\(2\)"),
        ({"observations": np.array([[0], [np.inf], [0], [0], [0]])}, r"observations\[1\]=\[inf\]"),
        ({"observations": np.zeros((5, 2))}, r"rows of shape \(2,\)"),
        ({"truncations": np.zeros(5, bool)}, r"has no end: set truncations\[-1\]=True"),
        ({"terminations": np.zeros(4, bool)}, "terminations has 4 rows, rewards has 5"),
        ({"observations": np.array([["a"]] * 5)}, "observations must hold numbers"),
        ({"rewards": np.array([None] * 5)}, "rewards must hold numbers"),
        ({"rewards": np.zeros((5, 1))}, r"rewards has the shape \(5, 1\)"),
        ({"terminations": np.array([0, 2, 0, 0, 1])}, "terminations must be true or false"),
        ({"actions": np.array([0, 0.5, 1, 0, 0])}, r"actions\[1\]=0.5 is not in Discrete"),
        ({"observation_space": spaces.Dict({"a": spaces.Discrete(2)})}, "cannot be kept as one array"),
        ({"action_space": spaces.MultiBinary(2)}, "allowed: Discrete, Box"),
        ({"action_space": spaces.Box(-1, 1, (1,)), "actions": np.full((5, 1), 1.5)}, r"actions\[0\]=\[1.5\] is not in Box"),
    ],
)
def test_what_is_no_data_is_one_line(changes, words):
    with pytest.raises(ValueError, match=words) as error:
        hand_made(**changes)
    assert "\n" not in str(error.value)
