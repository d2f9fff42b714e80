"""AlphaZero on TensorGame: one player, demonstrations, and Karatsuba found from scratch."""

import numpy as np
import pytest
import torch as th
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

from sb3_lecture import AlphaZero
from sb3_lecture_envs.board.game import HEADER
from sb3_lecture_envs.tensor_game import TensorGame

SMALL = {"n_simulations": 8, "learning_starts": 8, "batch_size": 8, "policy_kwargs": {"net_arch": [8]}, "device": "cpu"}


def karatsuba(n=4, **kwargs):
    return make_vec_env("Lecture/TensorGame-v0", n, env_kwargs={"tensor": "karatsuba", **kwargs}, seed=0)


def test_values_count_moves_down():
    """With discount 1 a solved game of R moves has z = −R, −R + 1 … −1."""
    model = AlphaZero("MlpPolicy", karatsuba(), seed=0, gamma=1.0, **SMALL).learn(64)
    rows, values = model.replay_buffer.rows, model.replay_buffer.values
    assert model.world.discount == 1.0
    for i in range(model.replay_buffer.size() - 1):
        if rows[i + 1, 0] == rows[i, 0] + 1:  # the next move of the same game
            assert values[i] == values[i + 1] - 1.0
    assert not model.policy.squash_value


def test_demonstrations_are_drawn_into_the_batch():
    model = AlphaZero("MlpPolicy", karatsuba(), seed=0, gamma=1.0, demonstrations=1.0, **SMALL)
    targets = model._targets(50)
    assert (targets.policies.max(axis=1) == 1).all() and set(targets.values.tolist()) <= {-1.0, -2.0, -3.0, -4.0}
    game = TensorGame("karatsuba")
    last = targets.values == -1.0
    after, _, _ = game.step(targets.rows[last], targets.policies[last].argmax(axis=1))
    assert last.any() and not after[:, HEADER:].any()
    model.learn(32)
    model.demonstrations = 0.5
    half = model._targets(8)
    assert 4 <= len(half.values) <= 8 and (half.policies.max(axis=1) == 1).sum() < len(half.values)
    with pytest.raises(ValueError, match=r"demonstrations=0.5: only puzzles such as Lecture/TensorGame-v0"):
        AlphaZero("MlpPolicy", "Lecture/TicTacToe-v0", demonstrations=0.5)


def test_a_file_brings_its_puzzle_along(tmp_path):
    for tensor in ("karatsuba", np.ones((1, 1, 2), np.int64)):
        env = make_vec_env("Lecture/TensorGame-v0", 2, env_kwargs={"tensor": tensor})
        model = AlphaZero("MlpPolicy", env, seed=0, gamma=0.9, **SMALL).learn(16)
        model.save(tmp_path / "model")
        loaded = AlphaZero.load(tmp_path / "model")
        assert loaded.world.game == model.world.game and loaded.world.discount == 0.9
        assert loaded.world.game.names == model.world.game.names
        observation = env.reset()
        np.testing.assert_array_equal(loaded.predict(observation)[0], model.predict(observation)[0])


class Found(BaseCallback):
    """Stops at a solution of so many moves."""

    def __init__(self, rank):
        super().__init__()
        self.rank, self.factors = rank, None

    def _on_step(self):
        for info in self.locals["infos"]:
            if info.get("rank", 99) <= self.rank:
                self.factors = info["factors"]
        return self.factors is None


@pytest.mark.slow
def test_karatsubas_three_products_are_found():
    th.set_num_threads(1)
    found = Found(3)
    AlphaZero(
        "MlpPolicy", karatsuba(16), seed=0, gamma=1.0, selection="gumbel", n_simulations=32, learning_starts=100,
        demonstrations=0.5, policy_kwargs={"net_arch": [64, 64]}, device="cpu",
    ).learn(8000, callback=found)  # fmt: skip
    assert found.factors is not None and TensorGame("karatsuba").is_factorization(found.factors)
    assert len(found.factors[0]) == 3
    np.testing.assert_array_equal(found.factors[0].shape, (3, 2))
