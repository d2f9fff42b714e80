"""The episode buffer against plain lists."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from numpy.testing import assert_array_equal

from sb3_lecture.common.buffers import EpisodeBuffer

OBSERVATIONS = {
    "box": spaces.Box(-1.0, 1.0, (3,), np.float32),
    "image": spaces.Box(0, 255, (2, 2, 1), np.uint8),
    "discrete": spaces.Discrete(5),
    "dict": spaces.Dict({"a": spaces.Box(-1.0, 1.0, (2,), np.float32), "b": spaces.Discrete(4)}),
}
ACTIONS = {
    "discrete": spaces.Discrete(3),
    "box": spaces.Box(-1.0, 1.0, (2,), np.float32),
    "multi_discrete": spaces.MultiDiscrete([2, 3]),
    "multi_binary": spaces.MultiBinary(4),
}


def batch_of(space: spaces.Space, n: int):
    samples = [space.sample() for _ in range(n)]
    if isinstance(space, spaces.Dict):
        return {key: np.array([sample[key] for sample in samples]) for key in space.spaces}
    return np.array(samples)


@pytest.mark.parametrize("observation", OBSERVATIONS)
@pytest.mark.parametrize("action", ACTIONS)
def test_counted_steps_come_back_as_they_went_in(observation, action):
    observation_space, action_space = OBSERVATIONS[observation], ACTIONS[action]
    observation_space.seed(0), action_space.seed(0)
    rng, n_envs, n_steps = np.random.default_rng(0), 3, 11
    buffer = EpisodeBuffer(2, observation_space, action_space, device="cpu", n_envs=n_envs)  # outgrown three times
    for _round in range(2):  # the second round reuses the storage of the first
        buffer.reset()
        seen, taken = [], []
        for _ in range(n_steps):
            obs, actions, counted = (
                batch_of(observation_space, n_envs),
                batch_of(action_space, n_envs),
                rng.random(n_envs) < 0.6,
            )
            buffer.add(obs, actions, rng.random(n_envs), np.zeros(n_envs, bool), np.zeros(n_envs, bool), counted)
            for i in np.flatnonzero(counted):
                seen.append({k: v[i] for k, v in obs.items()} if isinstance(obs, dict) else obs[i])
                taken.append(actions[i])
        batch = buffer.observation_batch()
        if isinstance(batch, dict):
            for key, tensor in batch.items():
                assert_array_equal(
                    tensor.numpy().reshape(len(seen), -1), np.array([s[key] for s in seen]).reshape(len(seen), -1)
                )
        else:
            assert_array_equal(batch.numpy().reshape(len(seen), -1), np.array(seen).reshape(len(seen), -1))
        actions = buffer.action_batch()
        assert actions.dtype == (th.int64 if action == "discrete" else th.float32)
        assert_array_equal(actions.numpy().reshape(len(taken), -1), np.array(taken).reshape(len(taken), -1))


def test_episodes_are_numbered_apart():
    buffer = EpisodeBuffer(4, spaces.Discrete(2), spaces.Discrete(2), device="cpu", n_envs=2)
    starts = np.array([[1, 1], [0, 1], [1, 0], [0, 0]], bool)
    counted = np.array([[1, 1], [1, 1], [1, 1], [1, 0]], bool)
    for t in range(4):
        buffer.add(np.zeros(2), np.zeros(2), np.zeros(2), starts[t], np.zeros(2, bool), counted[t])
    # env 0: episodes a a b b; env 1: c d d (and an uncounted step); read by time, then by env
    assert_array_equal(buffer.episode_index(), [0, 2, 0, 3, 1, 3, 1])


def test_truncations_point_at_the_step_just_added():
    buffer = EpisodeBuffer(4, spaces.Discrete(2), spaces.Discrete(2), device="cpu", n_envs=2)
    for _ in range(3):
        buffer.add(np.zeros(2), np.zeros(2), np.zeros(2), *np.zeros((3, 2), bool))
    buffer.add_truncation(1, np.array(1))
    assert buffer.truncations[0][:2] == (2, 1)
    buffer.reset()
    assert buffer.truncations == [] and buffer.pos == 0


def test_random_access_is_refused():
    buffer = EpisodeBuffer(4, spaces.Discrete(2), spaces.Discrete(2), device="cpu")
    with pytest.raises(NotImplementedError, match="whole batches"):
        buffer._get_samples(np.zeros(1, int))
