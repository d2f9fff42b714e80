"""A run that survives: it leaves a checkpoint every so often, and ``train --resume RUN`` goes on from it.

The checkpoint is one file, ``checkpoint.zip``, written beside and renamed: after a kill at any moment the last one is whole.
It holds all that ``learn`` needs to go on as if nothing had happened (see ``sb3_lecture.common.checkpoint``), and how long
the monitor files were: what was written after it is cut off, for it will be written again.
"""

import json
import time
import warnings
import zipfile
from pathlib import Path
from typing import Any

from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback

from sb3_lecture.common import checkpoint
from sb3_lecture.common.files import clear_torn
from sb3_lecture.common.resume import set_callback_state
from sb3_lecture.zoo.errors import UserError, first_line
from sb3_lecture.zoo.runs import Run

CHECKPOINT_FILE = "checkpoint.zip"
NOTES = "files.json"
#: seconds between two checkpoints; a slow one is made at most this many times its own duration apart
EVERY, AT_MOST = 60.0, 20.0
#: a replay buffer of more bytes is left out
LARGEST_REPLAY = 2 << 30
#: steps of the compiled loop between two looks at the clock
LOOK_EVERY = 200_000


class RunCheckpoint(BaseCallback):
    """Leave a checkpoint of a run every so often, where nothing is half done; and take one up when training starts.

    Put it last in the list of callbacks: the others have then counted what belongs to the checkpoint.

    :param folder: the run's folder
    :param every: seconds between two; 0: at every chance
    """

    def __init__(self, folder: str | Path, every: float = EVERY) -> None:
        super().__init__()
        self.folder, self.every = Path(folder), every
        self._next = 0.0
        self._told = False

    def steps_until_call(self) -> int:
        """VecEnv steps until this callback looks at the clock."""
        return 1 if self.every == 0 else max(1, LOOK_EVERY // self.training_env.num_envs)

    def _on_training_start(self) -> None:
        self._next = time.monotonic() + self.every
        model: Any = self.model
        if not isinstance(model, checkpoint.SafeSave) and getattr(model, "_resume", None) is not None:
            counted = checkpoint.take_up(model)
            if counted is not None:
                set_callback_state(self._root(), counted)

    def _root(self) -> BaseCallback:
        return self.locals["callback"] if isinstance(self.locals.get("callback"), BaseCallback) else self

    def _on_rollout_start(self) -> None:
        if getattr(self.model, "_whole_at", "rollout") == "rollout":
            self._look()

    def _on_step(self) -> bool:
        if getattr(self.model, "_whole_at", "rollout") == "step":
            self._look()
        return True

    def _look(self) -> None:
        if self.model.num_timesteps == 0 or time.monotonic() < self._next:
            return
        began = time.monotonic()
        self._save()
        ended = time.monotonic()
        self._next = ended + max(self.every, AT_MOST * (ended - began) if self.every > 0 else 0.0)

    def _save(self) -> None:
        replay = getattr(self.model, "replay_buffer", None)
        size = sum(getattr(part, "nbytes", 0) for part in vars(replay).values()) if hasattr(replay, "__dict__") else 0
        if size > LARGEST_REPLAY and not self._told:
            self._told = True
            print(f"Checkpoints leave the replay buffer out, it takes {size / 2**30:.1f} GiB: a resumed run fills it anew")
        sizes = {path.name: path.stat().st_size for path in sorted(self.folder.glob("*monitor.csv"))}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # what a file cannot hold, the run's config says again
            checkpoint.save(
                self.model, self.folder / CHECKPOINT_FILE, include_replay=size <= LARGEST_REPLAY, callback=self._whole_list(),
                notes={NOTES: json.dumps(sizes)}, rollout_begun=getattr(self.model, "_whole_at", "rollout") == "rollout",
            )  # fmt: skip

    def _whole_list(self) -> BaseCallback | None:
        own = getattr(self.model, "_callback", None)
        return own if own is not None else self._root()


def cut_monitor_files(folder: Path) -> bool:
    """Cut off what a run's monitor files got after its checkpoint.

    :param folder: the run's folder
    :return: whether there is a checkpoint
    :raises UserError: if it cannot be read
    """
    clear_torn(folder)
    path = folder / CHECKPOINT_FILE
    if not path.is_file():
        return False
    try:
        with zipfile.ZipFile(path) as archive:
            sizes = json.loads(archive.read(NOTES))
    except (OSError, zipfile.BadZipFile, KeyError, ValueError) as error:
        raise UserError(f"{path} cannot be read: {first_line(error)}; delete it to begin the run anew") from error
    for name, size in sizes.items():
        file = folder / Path(name).name
        if file.is_file() and file.stat().st_size > size:
            with open(file, "r+b") as handle:
                handle.truncate(size)
    return True


def take_checkpoint(folder: Path, fresh: BaseAlgorithm, device: Any) -> BaseAlgorithm:
    """Load a run's checkpoint into the env that a fresh model of the run was built with.

    :param folder: the run's folder
    :param fresh: the model that the run would begin with
    :param device: torch device
    :raises UserError: if the checkpoint does not fit
    """
    kept = {name: getattr(fresh, name) for name in ("learning_rate", "clip_range") if callable(getattr(fresh, name, None))}
    try:
        return checkpoint.load(
            folder / CHECKPOINT_FILE, env=fresh.env, device=device, cls=type(fresh), custom_objects=kept,
            tensorboard_log=fresh.tensorboard_log, verbose=fresh.verbose,
        )  # fmt: skip
    except (ValueError, OSError) as error:
        raise UserError(f"{folder / CHECKPOINT_FILE}: {first_line(error)}") from error


def is_finished(run: Run) -> bool:
    """Whether a run has its model, and no checkpoint to go on from."""
    return run.model_path.is_file() and not (run.path / CHECKPOINT_FILE).is_file()


def remove_checkpoint(folder: Path) -> None:
    """Remove the checkpoint of a run that has ended well."""
    (folder / CHECKPOINT_FILE).unlink(missing_ok=True)
