"""What SB3's learners write into every table of the log; theirs stand inside their own loops."""

import sys
import time

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.utils import safe_mean


def record_progress(model: BaseAlgorithm) -> None:
    """Record the averages of the last episodes, the steps and the time, under SB3's names.

    :param model: the learner, set up by ``_setup_learn``
    """
    seconds = max((time.time_ns() - model.start_time) / 1e9, sys.float_info.epsilon)
    if model.ep_info_buffer:
        model.logger.record("rollout/ep_rew_mean", safe_mean([info["r"] for info in model.ep_info_buffer]))
        model.logger.record("rollout/ep_len_mean", safe_mean([info["l"] for info in model.ep_info_buffer]))
    model.logger.record("time/fps", int((model.num_timesteps - model._num_timesteps_at_start) / seconds))
    model.logger.record("time/time_elapsed", int(seconds), exclude="tensorboard")
    model.logger.record("time/total_timesteps", model.num_timesteps, exclude="tensorboard")
