"""When will a callback do something next? The compiled loop runs until then, and skips the calls in between.

SB3 calls every callback after every step; most only count until their turn comes. ``next_call`` reads that turn off a tree
of callbacks, ``skip_calls`` adds the calls that were left out to every ``n_calls`` in it. A callback of any other class can
say when its turn is by a method ``steps_until_call() -> int`` (env steps of the VecEnv); one that does not gets every step.
"""

import sys
from typing import Any, NamedTuple

from stable_baselines3.common import callbacks as sb3
from stable_baselines3.common.callbacks import BaseCallback

NEVER = 2**62


class NextCall(NamedTuple):
    """The callback may act after this many VecEnv steps, or in the step in which this many episodes have ended."""

    steps: int = NEVER
    episodes: int = NEVER

    def sooner(self, other: "NextCall") -> "NextCall":
        """Whichever of the two comes first."""
        return NextCall(min(self.steps, other.steps), min(self.episodes, other.episodes))


def _every(n_calls: int, frequency: int) -> NextCall:
    return NextCall(steps=frequency - n_calls % frequency) if frequency > 0 else NextCall()


def _behaves_as(callback: BaseCallback, *classes: Any) -> bool:
    """Whether its steps are those of one of the classes: a subclass that overrides ``_on_step`` may do anything."""
    return any(cls is not None and type(callback)._on_step is cls._on_step for cls in classes)


def _zoo_callback(name: str) -> Any:
    """A class of rl_zoo3's callbacks, if that module is loaded (it is never imported from here)."""
    return getattr(sys.modules.get("rl_zoo3.callbacks"), name, None)


def next_call(callback: BaseCallback, n_envs: int, total_timesteps: int) -> NextCall:
    """When a tree of callbacks must be called next.

    :param callback: the root
    :param n_envs: timesteps in one VecEnv step
    :param total_timesteps: of the run; a progress bar moves about a hundred times
    """
    declared = getattr(callback, "steps_until_call", None)
    if declared is not None:
        return NextCall(steps=max(1, int(declared())))
    if _behaves_as(callback, sb3.CallbackList):
        call = NextCall()
        for child in callback.callbacks:  # type: ignore[attr-defined]
            call = call.sooner(next_call(child, n_envs, total_timesteps))
        return call
    if _behaves_as(callback, sb3.EvalCallback, _zoo_callback("TrialEvalCallback")):
        return _every(callback.n_calls, callback.eval_freq)  # type: ignore[attr-defined]
    if _behaves_as(callback, sb3.CheckpointCallback, _zoo_callback("SaveVecNormalizeCallback")):
        return _every(callback.n_calls, callback.save_freq)  # type: ignore[attr-defined]
    if _behaves_as(callback, sb3.EveryNTimesteps):
        since = callback.model.num_timesteps - callback.last_time_trigger  # type: ignore[attr-defined]
        return NextCall(steps=max(1, -(-(callback.n_steps - since) // n_envs)))  # type: ignore[attr-defined]
    if _behaves_as(callback, sb3.StopTrainingOnMaxEpisodes, _zoo_callback("RawStatisticsCallback")):
        return NextCall(episodes=1)
    if _behaves_as(callback, sb3.ProgressBarCallback):
        return NextCall(steps=max(1, total_timesteps // (100 * n_envs)))
    idle = isinstance(callback, sb3.ConvertCallback) and callback.callback is None
    if idle or _behaves_as(callback, sb3.EventCallback):
        return NextCall()
    return NextCall(steps=1)


def skip_calls(callback: BaseCallback, calls: int, n_envs: int) -> None:
    """Count calls that were not made, in every callback that would have got them.

    :param callback: the root
    :param calls: how many
    :param n_envs: timesteps in one VecEnv step
    """
    callback.n_calls += calls
    if isinstance(callback, sb3.CallbackList):
        for child in callback.callbacks:
            skip_calls(child, calls, n_envs)
    elif isinstance(callback, sb3.ProgressBarCallback):
        callback.pbar.update(calls * n_envs)


def unknown_callbacks(callback: BaseCallback, n_envs: int, total_timesteps: int) -> list[str]:
    """The names of the callbacks that must be called at every step because nobody says when their turn is."""
    if _behaves_as(callback, sb3.CallbackList):
        children = callback.callbacks  # type: ignore[attr-defined]
        return [name for child in children for name in unknown_callbacks(child, n_envs, total_timesteps)]
    known = hasattr(callback, "steps_until_call") or _behaves_as(
        callback, sb3.EvalCallback, sb3.CheckpointCallback, sb3.EveryNTimesteps, sb3.StopTrainingOnMaxEpisodes,
        sb3.ProgressBarCallback, sb3.EventCallback, *map(_zoo_callback, ("TrialEvalCallback", "SaveVecNormalizeCallback",
                                                                        "RawStatisticsCallback")),
    )  # fmt: skip
    idle = isinstance(callback, sb3.ConvertCallback) and callback.callback is None
    return [] if known or idle else [type(callback).__name__]
