"""DreamerV3 names the number that is none: of the env, of a weight, of a file."""

import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.logger import configure
from test_dreamer_v3 import BOX, Toy, build

import sb3_lecture_envs  # noqa: F401
from sb3_lecture.model_based.dreamer_compiled_step import CompiledStep


class Broken(Toy):
    """A Toy in which one number is what it should not be, from the k-th step on."""

    def __init__(self, where, number, k=3):
        super().__init__(BOX, spaces.Discrete(2))
        self.where, self.number, self.k = where, number, k

    def step(self, action):
        observation, reward, ended, cut, info = super().step(action)
        if self.t >= self.k:
            reward = self.number if self.where == "reward" else reward
            observation[0] = self.number if self.where == "observation" else observation[0]
        return observation, reward, ended, cut, info


@pytest.mark.parametrize(
    ("where", "k", "words"),
    [
        ("reward", 3, "sum of rewards after 3 steps is .*: there is NaN or inf in the rewards"),
        ("observation", 3, "there is NaN or inf in the observations"),
        ("observation", 7, "in the last observation of an episode, after 7 steps"),
    ],
)
@pytest.mark.parametrize("number", [float("nan"), float("inf")])
def test_a_number_of_the_env_that_is_none_is_named(where, k, words, number):
    with pytest.raises(ValueError, match=words):
        build(Broken(where, number, k), replay_ratio=1e-9).learn(20)


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(
    "weight", ["encoder.mlp.0.bias", "rssm.gru.weight", "rssm.post_params.bias", "actor.last.weight", "rssm.in_z"]
)
@pytest.mark.parametrize("deterministic", [True, False])
def test_acting_with_a_weight_that_is_nan_names_it(weight, compiled, deterministic, monkeypatch):
    model = build()
    monkeypatch.setattr(CompiledStep, "serves", staticmethod(lambda policy: compiled))
    with th.no_grad():
        dict(model.policy.named_parameters())[weight].fill_(float("nan"))
    with pytest.raises(ValueError, match=rf"there is NaN or inf in the {weight} \(a weight\)"):
        state = None
        for _ in range(2):  # in_z is read at the second step of an episode
            _, state = model.predict(np.ones(4, np.float32), state, np.zeros(1, bool), deterministic)
    with pytest.raises(ValueError, match="there is NaN or inf in the observations"):
        build().predict(np.full(4, np.nan, np.float32), deterministic=deterministic)


@pytest.mark.parametrize("weight", ["decoder.mlp.last.bias", "reward.last.bias", "critic.last.bias", "rssm.gru.bias"])
def test_learning_with_a_weight_that_is_nan_names_it_and_changes_nothing(weight):
    model = build(replay_ratio=1e-9).learn(60)
    model.set_logger(configure(None, []))
    weights = dict(model.policy.named_parameters())
    with th.no_grad():
        weights[weight].fill_(float("nan"))
    before = {name: p.clone() for name, p in weights.items()}
    latents = model.replay_buffer.store["deter"].copy()
    model._owed = 1.0
    with pytest.raises(ValueError, match=rf"there is NaN or inf in the {weight}"):
        model.train(1, 4)
    assert all(th.equal(before[name], p) for name, p in weights.items() if name != weight)
    np.testing.assert_array_equal(latents, model.replay_buffer.store["deter"])


def test_a_state_that_points_outside_the_tables_is_refused():
    model = build()
    _, (h, z, a) = model.predict(np.zeros(4, np.float32))
    for wrong in (-1, 16):  # 4 variables of 4 classes
        with pytest.raises(ValueError, match="allowed: 0 to 15"):
            model.predict(np.zeros(4, np.float32), (h, np.full_like(z, wrong), a), np.zeros(1, bool))
