"""What the periodic evaluations have in common: when they are made, and what their file holds."""

import types

import numpy as np
import pytest

from sb3_lecture.common.callbacks import PeriodicEvaluation


class Steps(PeriodicEvaluation):
    """Writes down at which timesteps it was asked."""

    def __init__(self, eval_freq, **kwargs):
        super().__init__(eval_freq, **kwargs)
        self.seen, self.prepared = [], 0

    def _prepare(self):
        self.prepared += 1

    def _evaluate(self, timesteps):
        self.seen.append(timesteps)
        return {"timesteps": self.seen, "squares": np.square(self.seen)}


def train(callback, n_envs, total):
    """SB3's loop without a learner: every step of ``n_envs`` envs is a call."""
    model = types.SimpleNamespace(num_timesteps=0, get_env=lambda: types.SimpleNamespace(num_envs=n_envs), logger=None)
    callback.init_callback(model)
    callback.on_training_start({}, {})
    left = []
    while model.num_timesteps < total:
        left.append(callback.steps_until_call())
        model.num_timesteps += n_envs
        assert callback.on_step()
    callback.on_training_end()
    return left


@pytest.mark.parametrize(
    ("n_envs", "total", "seen"),
    [(1, 20, [0, 8, 16, 20]), (3, 20, [0, 9, 18, 21]), (4, 16, [0, 8, 16]), (20, 40, [0, 20, 40])],
)
def test_evaluations_are_made_at_the_start_every_so_many_env_steps_and_at_the_end(n_envs, total, seen):
    callback = Steps(8)
    left = train(callback, n_envs, total)
    assert callback.seen == seen and callback.prepared == 1
    if n_envs == 3:  # calls until 9, 18 (due from 16 on) and 24: what a compiled loop may run without asking
        assert left == [3, 2, 1, 3, 2, 1, 2]


def test_the_file_holds_all_evaluations_and_nothing_lies_beside_it(tmp_path):
    callback = Steps(8, log_path=tmp_path / "deep" / "file.npz")
    train(callback, 1, 20)
    saved = np.load(tmp_path / "deep" / "file.npz")
    assert saved["timesteps"].tolist() == [0, 8, 16, 20] and saved["squares"].tolist() == [0, 64, 256, 400]
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["file.npz"]


def test_a_frequency_below_one_is_refused():
    with pytest.raises(ValueError, match="eval_freq=0"):
        Steps(0)
