"""Data sets of others: Minari's there and back bit for bit, D4RL's flat files row by row."""

import numpy as np
import pytest
from gymnasium import spaces
from test_dataset import hand_made

import sb3_lecture_envs  # noqa: F401
from sb3_lecture import BC, TD3BC, OfflineDataset
from sb3_lecture.offline.recording import COLUMNS

h5py = pytest.importorskip("h5py")
minari = pytest.importorskip("minari")


@pytest.fixture
def place(tmp_path, monkeypatch):
    monkeypatch.setenv("MINARI_DATASETS_PATH", str(tmp_path / "minari"))
    return tmp_path


def rows(data):
    return [tuple(np.asarray(getattr(data, name)[i]).tolist() for name in COLUMNS) for i in range(len(data))]


def both_ends():
    """Three episodes: one that ends, one that is cut, one that is both at once."""
    s = np.array([0, 1, 2, 5, 6, 8], np.float32)[:, None]
    return hand_made(
        observations=s, next_observations=np.array([1, 2, 3, 6, 7, 9], np.float32)[:, None],
        actions=np.array([0, 1, 1, 0, 1, 0]),
        rewards=np.array([0.1, 0.2, 0.3, -4.0, 5.0, 1e-7], np.float32), terminations=np.array([0, 0, 1, 0, 0, 1], bool),
        truncations=np.array([0, 0, 0, 0, 1, 1], bool), reference=(0.5, 2.0),
    )  # fmt: skip


@pytest.mark.parametrize("make", [both_ends, lambda: OfflineDataset.record("Lecture/Maze-v0", 300, seed=0),
                                  lambda: OfflineDataset.record("Pendulum-v1", 450, seed=0)])  # fmt: skip
def test_minari_there_and_back_bit_for_bit(make, place):
    data = make()
    data.save("minari:lecture/test-v0")
    loaded = OfflineDataset.load("minari:lecture/test-v0")
    assert (loaded.observation_space, loaded.action_space) == (data.observation_space, data.action_space)
    assert loaded.reference == data.reference
    for name in COLUMNS:
        assert getattr(loaded, name).dtype == getattr(data, name).dtype, name
        assert getattr(loaded, name).tobytes() == getattr(data, name).tobytes(), name
    assert minari.load_dataset("lecture/test-v0").total_steps == len(data)


def test_what_minari_cannot_hold_or_has_not_is_one_line(place):
    torn = hand_made(next_observations=np.full((5, 1), 9, np.float32))
    for act, words in (
        (lambda: torn.save("minari:torn-v0"), "rows 0 to 1 a next observation is not the next row's"),
        (lambda: OfflineDataset.load("minari:none-v0"), "has no data set 'none-v0' on this machine"),
        (lambda: BC("MlpPolicy", "CartPole-v1", "minari:none-v0"), "has no data set 'none-v0'"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            act()
        assert "\n" not in str(error.value)


def test_learners_take_minaris_ids(place):
    OfflineDataset.record("CartPole-v1", 60, seed=0).save("minari:cart-v0")
    assert BC("MlpPolicy", "CartPole-v1", "minari:cart-v0", device="cpu").learn(2).num_timesteps == 2


def write(path, **columns):
    with h5py.File(path, "w") as file:
        for name, part in columns.items():
            file[name] = part


def flat():
    """An episode that ends after two steps, one that is cut after three, one that runs when the file ends."""
    return {
        "observations": np.arange(7, dtype=np.float32)[:, None] * 10,
        "actions": np.linspace(-1, 1, 7, dtype=np.float32)[:, None],
        "rewards": np.arange(7, dtype=np.float32), "terminals": np.array([0, 1, 0, 0, 0, 0, 0], bool),
        "timeouts": np.array([0, 0, 0, 0, 1, 0, 0], bool),
    }  # fmt: skip


def test_d4rls_rows(place):
    write(place / "data.hdf5", **flat())
    data = OfflineDataset.load(place / "data.hdf5")
    assert [(row[0][0], row[2], row[3][0], row[4], row[5]) for row in rows(data)] == [
        (0, 0, 10, False, False), (10, 1, 10, True, False),
        (20, 2, 30, False, False), (30, 3, 40, False, True),  # the cut's own s' is not in the file
        (50, 5, 60, False, True),
    ]  # fmt: skip
    assert data.action_space == spaces.Box(-1, 1, (1,))
    following = flat()["observations"] + 10
    write(place / "full.h5", **flat(), next_observations=following)
    data = OfflineDataset.load(place / "full.h5")
    assert [row[3][0] for row in rows(data)] == following[:, 0].tolist()
    assert np.flatnonzero(data.truncations).tolist() == [4, 6] and np.flatnonzero(data.terminations).tolist() == [1]


def test_d4rls_files_have_the_worlds_spaces(place):
    data = OfflineDataset.record("Pendulum-v1", 420, seed=0)
    write(place / "p.hdf5", observations=data.observations, actions=data.actions, rewards=data.rewards,
          terminals=data.terminations, timeouts=data.truncations, next_observations=data.next_observations)  # fmt: skip
    model = TD3BC("MlpPolicy", "Pendulum-v1", str(place / "p.hdf5"), device="cpu").learn(1)
    for name in COLUMNS:
        assert getattr(model.dataset, name).tobytes() == getattr(data, name).tobytes(), name


def test_a_damaged_file_is_one_line(place):
    (place / "cut.hdf5").write_bytes(b"\x89HDF\r\n")
    write(place / "poor.hdf5", **{name: part for name, part in flat().items() if name != "rewards"})
    write(place / "short.hdf5", **flat() | {"rewards": np.zeros(3)})
    write(place / "wide.hdf5", **flat() | {"actions": np.full((7, 1), 2.0, np.float32)})
    for name, words in (
        ("cut", "or damaged"),
        ("poor", "rewards"),
        ("short", "7, 7, 3, 7 and 7 rows"),
        ("wide", "is not in Box"),
    ):
        with pytest.raises(ValueError, match=words) as error:
            OfflineDataset.load(place / f"{name}.hdf5")
        assert "\n" not in str(error.value)
    with pytest.raises(FileNotFoundError, match="there is no data set"):
        OfflineDataset.load(place / "none.hdf5")
