"""The sequence buffer against a list of everything that was ever stored."""

import pickle

import numpy as np
import pytest
import torch as th
from gymnasium import spaces

from sb3_lecture.common.sequence_buffer import SequenceBuffer

BOX = spaces.Box(-np.inf, np.inf, (2,))
PIXELS = spaces.Box(0, 255, (3, 8, 8), np.uint8)


def make(size=40, n_envs=2, space=BOX, length=4, **more):
    return SequenceBuffer(
        size,
        space,
        spaces.Discrete(3),
        "cpu",
        n_envs,
        batch_length=length,
        action_size=3,
        deter_size=5,
        latent_shape=(2,),
        **more,
    )


def fill(buffer, steps, seed=0):
    """Episodes of random lengths; return, for each env, every row ever stored, as (number, first, last, terminal)."""
    rng, history = np.random.default_rng(seed), [[] for _ in range(buffer.n_envs)]
    first = np.ones(buffer.n_envs, bool)
    number = 0
    for _ in range(steps):
        for env in range(buffer.n_envs):
            last = not first[env] and rng.random() < 0.3
            terminal = last and rng.random() < 0.5
            number += 1
            buffer.add(
                np.array([env]), np.full((1, 2), number), actions=np.full((1, 3), number), rewards=np.array([number]),
                is_first=first[[env]], is_last=np.array([last]), is_terminal=np.array([terminal]),
                deter=np.full((1, 5), number % 1000), z=np.full((1, 2), number % 1000),
            )  # fmt: skip
            history[env].append((number, first[env], last, terminal))
            first[env] = last
    return history


@pytest.mark.parametrize("steps", [7, 20, 53])  # before, at and after the rings are full
def test_sequences_are_runs_of_what_was_stored(steps):
    buffer = make()
    history = fill(buffer, steps)
    kept = [rows[-20:] for rows in history]
    assert buffer.size() == sum(len(rows) for rows in kept)
    assert buffer.full == (steps >= 20)
    batch = buffer.sample(300)
    starts = set()
    for b in range(300):
        numbers = batch.rewards[:, b].tolist()
        env = next(i for i, rows in enumerate(kept) if numbers[0] in [row[0] for row in rows])
        at = [row[0] for row in kept[env]].index(numbers[0])
        expected = kept[env][at : at + 4]
        assert at >= 1, "the row before gives the latent"
        starts.add((env, at))
        columns = zip(numbers, batch.is_first[:, b], batch.is_last[:, b], batch.is_terminal[:, b], strict=True)
        assert [(n, *map(bool, flags)) for n, *flags in columns] == [(row[0], *map(bool, row[1:])) for row in expected]
        before = kept[env][at - 1][0]
        assert batch.prev_actions[:, b, 0].tolist() == [before, *numbers[:-1]]
        assert batch.deter[b].tolist() == [before % 1000] * 5 and batch.z[b].tolist() == [before % 1000] * 2
        assert batch.observations[:, b, 1].tolist() == numbers
    assert starts == {(i, at) for i, rows in enumerate(kept) for at in range(1, len(rows) - 3)}, "all of them, uniformly"


def test_refreshed_latents_are_what_the_next_sample_starts_from():
    buffer = make()
    fill(buffer, 30)
    batch = buffer.sample(64)
    buffer.refresh(
        batch.rows, batch.rewards[..., None].expand(-1, -1, 5) / 4, -batch.rewards[..., None].int().expand(-1, -1, 2)
    )
    changed = set(batch.rewards.flatten().tolist())
    again = buffer.sample(200)
    for b in range(200):
        before = again.prev_actions[0, b, 0].item()
        assert again.deter[b, 0].item() == (before / 4 if before in changed else before % 1000)
        assert again.z[b, 0].item() == (-before if before in changed else before % 1000)


def test_an_episode_that_was_left_unfinished_is_cut():
    buffer = make(n_envs=1)
    for number, first in enumerate([True, False, False, True, False, False]):
        buffer.add(np.array([0]), np.full((1, 2), number), rewards=np.array([number]), is_first=np.array([first]))
    assert buffer.store["is_last"][:6].tolist() == [False, False, True, False, False, False]
    assert not buffer.store["is_terminal"].any()


def test_pixels_stay_uint8_and_dicts_stay_dicts():
    space = spaces.Dict({"image": PIXELS, "number": spaces.Discrete(4)})
    buffer = make(space=space, n_envs=1)
    for number in range(9):
        observations = {"image": np.full((1, 3, 8, 8), number), "number": np.array([number % 4])}
        buffer.add(np.array([0]), observations, is_first=np.array([number == 0]), rewards=np.array([number]))
    batch = buffer.sample(6)
    assert batch.observations["image"].dtype == th.uint8 and batch.observations["image"].shape == (4, 6, 3, 8, 8)
    assert (batch.observations["image"][..., 0, 0, 0] == batch.rewards).all()
    assert (batch.observations["number"] == batch.rewards.long() % 4).all()


def test_it_says_its_size_before_it_takes_it_and_refuses_more_than_there_is(capsys):
    buffer = make(space=PIXELS)
    n_bytes = sum(array.nbytes for array in buffer.store.values())
    assert f"40 rows, up to {n_bytes / 2**20:.1f} MiB in memory" in capsys.readouterr().out
    with pytest.raises(ValueError, match="memmap_dir"):
        make(size=10**12, space=PIXELS)
    assert "rows" in capsys.readouterr().out


def test_a_buffer_on_disk_is_a_buffer(tmp_path):
    np.random.seed(0)
    batches = []
    for folder in (None, str(tmp_path / "replay")):
        buffer = make(memmap_dir=folder)
        fill(buffer, 30)
        np.random.seed(1)
        batches.append(buffer.sample(20))
    for a, b in zip(*batches, strict=True):
        np.testing.assert_array_equal(a, b)
    assert isinstance(buffer.store["deter"], np.memmap) and (tmp_path / "replay" / "deter.npy").exists()


def test_a_buffer_on_disk_is_opened_again_by_its_id_alone(tmp_path):
    folder = str(tmp_path / "replay")
    buffer = make(memmap_dir=folder)
    fill(buffer, 30)
    rewards = buffer.store["rewards"].copy()
    with pytest.raises(ValueError, match="in use by another model"):
        make(memmap_dir=folder)
    later = make(memmap_dir=folder, memmap_id=buffer.memmap_id)  # touches nothing yet
    with pytest.raises(ValueError, match="in use by another model"):
        later.size()
    buffer.close()
    for id, words in ((None, "holds a replay buffer already"), ("other", "of another model")):
        with pytest.raises(ValueError, match=words):
            make(memmap_dir=folder, memmap_id=id).size()
    with pytest.raises(ValueError, match="other spaces, sizes"):
        make(size=60, memmap_dir=folder, memmap_id=buffer.memmap_id).size()
    assert later.size() == 40 and later.write.tolist() == [30, 30]
    np.testing.assert_array_equal(later.store["rewards"], rewards)
    later.add(np.array([1]), np.full((1, 2), 7.0), rewards=np.array([-5.0]), is_first=np.array([False]))
    assert later.store["rewards"][20 + 30 % 20] == -5.0  # the ring of env 1 goes on where it was
    later.close()
    assert buffer.write.tolist() == [30, 31] and buffer.store["rewards"][30] == -5.0  # and so does the first, opened again


def test_a_buffer_on_disk_is_pickled_where_it_lies(tmp_path):
    buffer = make(size=4000, memmap_dir=str(tmp_path / "replay"))
    fill(buffer, 30)
    pickled = pickle.dumps(buffer)
    assert len(pickled) < 4000
    copy = pickle.loads(pickled)
    buffer.close()
    assert copy.write.tolist() == [30, 30]
    np.testing.assert_array_equal(copy.store["rewards"][:30], buffer_rewards(tmp_path / "replay")[:30])


def buffer_rewards(folder):
    return np.load(folder / "rewards.npy", mmap_mode="r")


def test_what_a_kill_leaves_is_a_buffer_or_refused(tmp_path, monkeypatch):
    buffer = make(memmap_dir=str(tmp_path / "a"), n_envs=1, size=20)
    fill(buffer, 30)
    buffer.store["rewards"][30 % 20] = np.nan  # a row that was being written, not counted yet
    buffer.close()
    buffer.add(np.array([0]), np.full((1, 2), 31.0), rewards=np.array([31.0]), is_first=np.array([False]))
    assert buffer.sample(100).rewards.isfinite().all() and buffer.write.tolist() == [31]
    monkeypatch.setattr("os.replace", lambda *args: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        make(memmap_dir=str(tmp_path / "b"))
    with pytest.raises(ValueError, match="delete this one"):  # never taken for empty
        make(memmap_dir=str(tmp_path / "b"))


def test_a_pickled_buffer_goes_on():
    buffer = make()
    fill(buffer, 30)
    copy = pickle.loads(pickle.dumps(buffer))
    np.random.seed(3)
    a = buffer.sample(10)
    np.random.seed(3)
    b = copy.sample(10)
    assert th.equal(a.rewards, b.rewards) and th.equal(a.deter, b.deter)
    fill(copy, 3, seed=1)


def test_too_small_and_empty_buffers_are_refused():
    with pytest.raises(ValueError, match="hold no sequence"):
        make(size=8)
    buffer = make()
    assert not buffer.ready
    fill(buffer, 4)
    assert not buffer.ready
    with pytest.raises(ValueError, match="collect more"):
        buffer.sample(1)
    fill(buffer, 1)
    assert buffer.ready
