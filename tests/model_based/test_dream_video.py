"""Open-loop predictions: what the model may look at, what is drawn of it, and when."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.logger import Image, KVWriter, Logger

import sb3_lecture_envs  # noqa: F401
from sb3_lecture import DreamerV3, WorldModels
from sb3_lecture.model_based.dream_video import DreamCallback, Foretold, play_and_foretell, video_frames

TINY = {"size": "debug", "deter": 16, "hidden": 8, "units": 8, "stoch": 4, "classes": 4, "bins": 15, "depth": 2, "blocks": 4}
SPACES = {
    "numbers": spaces.Box(-1.0, 1.0, (3,), np.float32),
    "pixels": spaces.Box(0, 255, (3, 16, 16), np.uint8),
    "planes": spaces.MultiBinary((2, 4, 5)),
    "number": spaces.Discrete(4),
    "dict": spaces.Dict({"eye": spaces.Box(0, 255, (3, 16, 16), np.uint8), "arm": spaces.Box(-9.0, 9.0, (2,), np.float32)}),
}
POLICIES = {"pixels": "CnnPolicy", "dict": "MultiInputPolicy"}


class Noise(gym.Env):
    """Observations of any space at random; the episode ends after eight steps."""

    def __init__(self, observation_space, action_space):
        self.observation_space, self.action_space = observation_space, action_space

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.t = 0
        return self.observation_space.sample(), {}

    def step(self, action):
        self.t += 1
        return self.observation_space.sample(), 0.0, self.t == 8, False, {}


def dreamer(kind, action_space):
    env = Noise(SPACES[kind], action_space)
    return DreamerV3(POLICIES.get(kind, "MlpPolicy"), env, buffer_size=100, policy_kwargs=TINY, seed=0, device="cpu")


def world_models(kind, action_space):
    small = {"latent_dim": 4, "lstm_hidden_size": 8, **({"cnn_width": 2} if kind == "pixels" else {"net_arch": [8]})}
    return WorldModels(
        POLICIES.get(kind, "MlpPolicy"), Noise(SPACES[kind], action_space), policy_kwargs=small, seed=0, device="cpu"
    )


CASES = [
    *((dreamer, kind, spaces.Discrete(3)) for kind in SPACES),
    (dreamer, "numbers", spaces.Box(-2.0, 2.0, (2,), np.float32)),
    *((world_models, kind, spaces.Discrete(3)) for kind in ("numbers", "pixels", "planes", "number")),
]


@pytest.mark.parametrize(("make", "kind", "action_space"), CASES)
def test_only_the_context_is_seen_and_the_rest_follows_from_the_actions(make, kind, action_space):
    model = make(kind, action_space)
    for p in model.policy.parameters():  # untrained heads may be zero: let everything matter
        p.data += 0.3 * th.randn_like(p)
    space, steps, context = SPACES[kind], 9, 4
    for part in (space, action_space):
        part.seed(0)
    seen, others = ([space.sample() for _ in range(steps)] for _ in range(2))
    actions = np.stack([action_space.sample() for _ in range(steps - 1)])

    def foretell(observations, actions):
        th.manual_seed(0)
        stacked = {k: np.stack([o[k] for o in observations]) for k in space} if kind == "dict" else np.stack(observations)
        return model.policy.open_loop(stacked, actions, context)

    base = foretell(seen, actions)
    later = foretell(seen[:context] + others[context:], actions)
    earlier = foretell(others[:context] + seen[context:], actions)
    turned = actions.copy()
    turned[context - 1] = (1 - actions[context - 1]) if action_space.shape == () else -actions[context - 1]
    acted = foretell(seen, turned % 3 if action_space.shape == () else turned)
    for key, (truth, made) in base.items():
        assert truth.shape == made.shape and len(truth) == steps
        np.testing.assert_array_equal(later[key].model, made)  # what comes after the context is not looked at
        assert np.abs(earlier[key].model[:context] - made[:context]).max() > 1e-6
        np.testing.assert_allclose(acted[key].model[:context], made[:context], atol=1e-6)
        assert np.abs(acted[key].model[context:] - made[context:]).max() > 1e-6
        given = np.stack([o[key] if key else o for o in seen])
        if given.dtype == np.uint8:
            np.testing.assert_allclose(truth[:, :, ::8, ::8] if made.shape[-1] == 16 else truth[:, :, ::32, ::32],
                                       given[:, :, ::8, ::8] / 255.0, atol=1e-6)  # fmt: skip
        elif kind == "number":
            np.testing.assert_array_equal(truth.argmax(axis=1), given)
        else:
            np.testing.assert_allclose(truth, given, atol=1e-5)


def test_a_frame_shows_truth_model_and_error_over_a_line_that_tells_seeing_from_foretelling():
    truth = np.zeros((3, 3, 4, 4), np.float32)
    truth[:, 0, 1, 2] = 1.0  # one red pixel
    model = truth.copy()
    model[2] = 0.0
    frames = video_frames(Foretold(truth, model), context=2)
    assert len(frames) == 3 and all(frame.shape == (130, 3 * 128 + 4, 3) for frame in frames)
    red, black = [255, 0, 0], [0, 0, 0]
    for t, (there, foreseen, error) in enumerate([(red, red, black), (red, red, black), (red, black, red)]):
        assert [frames[t][48, x + 80].tolist() for x in (0, 130, 260)] == [
            there,
            foreseen,
            error,
        ]  # row 1, column 2
        assert [frames[t][10, x + 10].tolist() for x in (0, 130, 260)] == [black] * 3
    assert frames[0][-1, 0].tolist() == frames[1][-1, 0].tolist() != frames[2][-1, 0].tolist()


class Kept(KVWriter):
    """Keep what is logged."""

    def __init__(self):
        self.pictures = []

    def write(self, key_values, key_excluded, step=0):
        self.pictures += [value for value in key_values.values() if isinstance(value, Image)]

    def close(self):
        pass


def test_whole_episodes_reach_the_log():
    model = dreamer("pixels", spaces.Discrete(3))
    kept = Kept()
    model.set_logger(Logger(None, [kept]))
    model.learn(60, callback=DreamCallback(freq=10, context=5), log_interval=1)
    # begun at the first reset after 10 steps, t = 16, ended at 24, next due at 34: from 40 to 48, then from 64
    assert [picture.image.shape for picture in kept.pictures] == [(9 * 130, 388, 3)] * 2


def test_a_played_episode_is_foretold_from_its_first_observations():
    model = dreamer("numbers", spaces.Discrete(3))
    parts, context = play_and_foretell(model.predict, model.policy, model.get_env(), context=20, length=50)
    assert parts[""].truth.shape == (9, 3) and context == 8
    parts, context = play_and_foretell(model.predict, model.policy, model.get_env(), context=3, length=6)
    assert parts[""].truth.shape == (6, 3) and context == 3


@pytest.mark.parametrize("settings", [{"freq": 0}, {"context": 0}, {"length": 1}])
def test_numbers_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match="must be at least 1"):
        DreamCallback(**settings)
