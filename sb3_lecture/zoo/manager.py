"""rl_zoo3's ExperimentManager, with our configs, worlds, exact grading and saving.

Overrides and why:

- ``read_hyperparameters`` names a wrong key before the algorithm sees it, and gives the evaluation env the config's
  ``env_kwargs`` too (rl_zoo3 only does so for ``--env-kwargs``; an Atari agent would be evaluated on skipped skips).
- ``create_log_folder`` takes a run number of its own even when several runs start at once.
- ``create_envs`` steps our worlds by one compiled vector env where several are asked for.
- ``create_callbacks`` evaluates MaskablePPO with its masks; ``setup_experiment`` adds the exact evaluation, and plays
  matches in place of evaluation episodes where two players alternate.
- with tensorboard a world model shows what it foretells;
- ``_preprocess_hyperparams``, ``_maybe_normalize`` and ``_save_config`` read and write plain data, where rl_zoo3 evaluates
  texts and unpickles (``--trust`` does as rl_zoo3);
- ``learn`` remembers Ctrl-C, which rl_zoo3 swallows; ``save_trained_model`` writes beside and renames.
"""

import errno
import os
import shlex
import shutil
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import yaml
from rl_zoo3 import exp_manager
from rl_zoo3.callbacks import SaveVecNormalizeCallback
from rl_zoo3.exp_manager import ExperimentManager
from rl_zoo3.utils import get_latest_run_id
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.callbacks import MaskableEvalCallback
from sb3_contrib.common.maskable.utils import is_masking_supported
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback, ProgressBarCallback
from stable_baselines3.common.callbacks import EvalCallback as SB3EvalCallback
from stable_baselines3.common.monitor import Monitor, ResultsWriter
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.utils import ConstantSchedule
from stable_baselines3.common.vec_env import (
    DummyVecEnv,
    VecEnv,
    VecEnvWrapper,
    VecMonitor,
    VecNormalize,
    sync_envs_normalization,
)

from sb3_lecture.common import checkpoint
from sb3_lecture.common.callbacks import CheckpointCallback, EvalCallback, WholeFiles
from sb3_lecture.common.describe_callback import DescribeEpisodesCallback
from sb3_lecture.common.env_state import SubprocVecEnv
from sb3_lecture.common.files import clear_torn, write_bytes, written
from sb3_lecture.common.render_callback import TerminalRenderCallback
from sb3_lecture.common.vec_env import make_native_vec_env
from sb3_lecture.model_based.dream_video import DreamCallback
from sb3_lecture.zoo import configs, registry, safe
from sb3_lecture.zoo.errors import UserError, first_line, hide_passwords
from sb3_lecture.zoo.grading import board_callback, exact_callback, is_self_play
from sb3_lecture.zoo.resuming import EVERY, RunCheckpoint, cut_monitor_files, remove_checkpoint, take_checkpoint
from sb3_lecture.zoo.seams import replaced

#: evaluations in a run where --eval-freq does not say; rl_zoo3's 25,000 steps is more than many of our runs last
N_EVALUATIONS = 20
MAX_EVAL_FREQ = 25_000
#: exact evaluations in a run, where the env's law is known
N_EXACT_EVALUATIONS = 50
#: pictures of what a world model foretells, in a run with tensorboard
N_DREAMS = 10


class LectureExperimentManager(ExperimentManager):
    """Prepare, run and save one training run; arguments are ExperimentManager's.

    :ivar interrupted: whether Ctrl-C ended the training
    :ivar model: the trained model, once ``learn`` has begun
    """

    interrupted = False
    model: BaseAlgorithm | None = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        if self.vec_env_class is not DummyVecEnv:
            self.vec_env_class = SubprocVecEnv
        self._opened: list[VecEnv] = []
        resumed = getattr(self.args, "resume", None)
        self.resumed = None if resumed is None else Path(resumed)  # the run's folder
        self._goes_on = self.resumed is not None and cut_monitor_files(self.resumed)  # from a checkpoint

    def read_hyperparameters(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Read the env's entry and check its names.

        :raises UserError: if the config, the entry or one of its keys is wrong
        """
        if self.config.endswith((".yml", ".yaml")):
            entries = configs.read_entries(self.config)
            key = configs.entry_key(entries, self.env_name.gym_id, self._is_atari, self.config)
            source = f"{self.config}, entry {key!r}"
            configs.check_hyperparameters(self.algo, entries[key], source)
            overridden = {"n_timesteps"} if self.n_timesteps > 0 else set()
            overridden |= set(self.custom_hyperparams or {})
            configs.check_values({key: value for key, value in entries[key].items() if key not in overridden}, source)
        configs.check_hyperparameters(self.algo, self.custom_hyperparams or {}, "--hyperparams")
        configs.check_values(self.custom_hyperparams or {}, "--hyperparams")
        hyperparams, saved = super().read_hyperparameters()
        configs.check_hyperparameters(self.algo, hyperparams, self.config)
        configs.check_values(hyperparams, self.config)
        for name in ("policy", *(() if self.n_timesteps > 0 else ("n_timesteps",))):
            if hyperparams.get(name) is None:
                raise UserError(f"{self.config}: the entry for {self.env_name.gym_id!r} lacks {name!r}")
        hyperparams.setdefault("n_timesteps", self.n_timesteps)  # rl_zoo3 deletes the key, present or not
        if self._eval_env_kwargs_args is None:
            self.eval_env_kwargs = hyperparams.get("env_kwargs") or self.env_kwargs
        if self.eval_freq is None:
            n_timesteps = self.n_timesteps if self.n_timesteps > 0 else int(hyperparams["n_timesteps"])
            often = max(1, n_timesteps // N_EVALUATIONS)
            self.eval_freq = MAX_EVAL_FREQ if self._is_atari else min(MAX_EVAL_FREQ, often)  # Atari's games are long
        return hyperparams, saved

    def setup_experiment(self) -> tuple[BaseAlgorithm, dict[str, Any]]:
        """Build the envs, the callbacks and the model.

        :raises UserError: if the env or the algorithm refuses its arguments (``--verbose 2`` shows where)
        """
        try:
            results = super().setup_experiment()
        except (UserError, OSError):
            self._abandon()
            raise
        except Exception as error:  # what a config's values may raise in an env, a wrapper or an algorithm is anything
            self._abandon()
            if self.verbose >= 2:
                raise
            raise UserError(f"{self.algo} on {self.env_name.gym_id}: {first_line(error)} (--verbose 2 shows where)") from error
        except BaseException:
            self._abandon()
            raise
        assert results is not None, "rl_zoo3's tuner is not used"
        model, saved = results
        env = model.get_env()
        if isinstance(model, MaskablePPO) and env is not None and not is_masking_supported(env):
            self._abandon()
            raise UserError(f"{self.algo} needs an env with action_masks(), {self.env_name.gym_id} has none; use ppo")
        if (speed := getattr(self.args, "render_training", None)) is not None:
            self.callbacks.append(TerminalRenderCallback(speed=speed))
        if (every := getattr(self.args, "describe", None)) is not None:
            self.callbacks.append(DescribeEpisodesCallback(every))
        if self.tensorboard_log and hasattr(model.policy, "open_loop"):  # a world model shows what it foretells
            self.callbacks.append(DreamCallback(max(1, self.n_timesteps // N_DREAMS)))
        if env is not None:
            self.callbacks += exact_callback(model, env, self.save_path, max(1, self.n_timesteps // N_EXACT_EVALUATIONS))
            if is_self_play(env) and self.eval_freq > 0:  # EvalCallback would count the wins of both sides
                for callback in list(self.callbacks):
                    if isinstance(callback, SB3EvalCallback) and is_self_play(callback.eval_env):
                        callback.eval_env.close()
                        self.callbacks.remove(callback)
                self.callbacks += board_callback(env, self.save_path, self.eval_freq * self.n_envs)
        seconds = getattr(self.args, "checkpoint_every", None)
        if seconds is None or seconds >= 0:
            self.callbacks.append(RunCheckpoint(self.save_path, EVERY if seconds is None else seconds))
        if self._goes_on:
            assert self.resumed is not None
            model = take_checkpoint(self.resumed, model, self.device)
            print(f"Going on from {self.resumed} at {model.num_timesteps} of {self.n_timesteps} steps")
        return model, saved

    def _preprocess_hyperparams(self, hyperparams: dict[str, Any]) -> Any:
        """Parse the texts that rl_zoo3 would evaluate as Python, and check what it would call by its dotted name.

        :raises UserError: if a text is no value of the allow-list, or a name no class of its kind
        """
        trust = getattr(self.args, "trust", False)
        try:
            for key in ("policy_kwargs", "replay_buffer_class", "replay_buffer_kwargs", "normalize", "monitor_kwargs"):
                if isinstance(hyperparams.get(key), str):
                    try:
                        hyperparams[key] = safe.value(hyperparams[key], trust)
                    except ValueError as error:
                        raise ValueError(f"{key}: {error}") from error
            configs.check_values(hyperparams, self.config)
            for key, base in (("env_wrapper", gym.Wrapper), ("vec_env_wrapper", VecEnvWrapper), ("callback", BaseCallback)):
                safe.check_classes(hyperparams.get(key), base, key)
            if "." in str(hyperparams.get("policy", "")):
                safe.check_classes(hyperparams["policy"], BasePolicy, "policy")
        except ValueError as error:
            raise UserError(f"{self.config}: {error}") from error
        return super()._preprocess_hyperparams(hyperparams)

    @staticmethod
    def _preprocess_schedules(hyperparams: dict[str, Any]) -> dict[str, Any]:
        """Make schedules of "linear_0.1"; the tables' "1/N" stays as it is.

        Numbers stay numbers too: rl_zoo3 makes schedules of them, and a compiled loop stops a thousand times to read one.
        """
        average = {key: value for key, value in hyperparams.items() if (key, value) == ("learning_rate", "1/N")}
        others = {key: value for key, value in hyperparams.items() if key not in average}
        made = {**ExperimentManager._preprocess_schedules(others), **average}
        return {key: value.val if isinstance(value, ConstantSchedule) else value for key, value in made.items()}

    def create_log_folder(self) -> None:
        """Make the run's folder, under the next number that nobody has taken; a resumed run has its own.

        :raises UserError: if none can be made there
        """
        if self.resumed is not None:
            self.save_path = str(self.resumed)
            self.params_path = f"{self.save_path}/{self.env_name}"
            return
        while True:
            try:
                os.makedirs(self.log_path, exist_ok=True)
                os.mkdir(self.save_path)
                break
            except OSError as error:
                if not (isinstance(error, FileExistsError) and os.path.isdir(self.save_path)):
                    raise UserError(f"--log-folder {self.log_folder}: {error.strerror}: {error.filename}") from error
                number = get_latest_run_id(self.log_path, self.env_name) + 1
                self.save_path = os.path.join(self.log_path, f"{self.env_name}_{number}")
        self.params_path = f"{self.save_path}/{self.env_name}"
        super().create_log_folder()

    def _abandon(self) -> None:
        """Close the envs and remove the folder of a run that never began."""
        for env in self._opened:
            env.close()
        if self.resumed is None and Path(self.params_path).is_dir():  # made by this run: makedirs would have refused another's
            shutil.rmtree(self.save_path)

    def _load_pretrained_agent(self, hyperparams: dict[str, Any], env: VecEnv) -> BaseAlgorithm:
        """Load ``-i``'s model without running what is pickled in it; ``--trust`` does.

        :raises UserError: if it would run code, or does not fit
        """
        trusted = bool(getattr(self.args, "trust", False))
        given = {key: value for key, value in hyperparams.items() if key not in ("policy", "policy_kwargs")}
        replay = Path(self.trained_agent).parent / "replay_buffer.pkl"
        try:
            model = checkpoint.load(
                self.trained_agent, env=env, device=self.device, trusted=trusted, cls=registry.algorithm(self.algo),
                seed=self.seed, tensorboard_log=self.tensorboard_log, verbose=self.verbose, **given,
            )  # fmt: skip
            if replay.is_file():
                checkpoint.load_replay_buffer(model, replay, self.truncate_last_trajectory, trusted)
        except (ValueError, OSError) as error:
            raise UserError(f"--trained-agent {self.trained_agent}: {first_line(error)}") from error
        return model

    def _save_config(self, saved_hyperparams: dict[str, Any]) -> None:
        """Write hyperparameters, arguments and command into the run, as YAML that holds plain data alone."""
        folder = Path(self.params_path)
        for name, values in (("config.yml", saved_hyperparams), ("args.yml", vars(self.args))):
            plain = {key: safe.plain(value) for key, value in sorted(values.items()) if not callable(value)}
            if plain.get("study") and name == "args.yml":
                plain["study"] = hide_passwords(plain["study"])
            write_bytes(folder / name, yaml.safe_dump(plain).encode())
        write_bytes(folder / "command.txt", hide_passwords(shlex.join(sys.orig_argv)).encode())
        print(f"Log path: {self.save_path}")

    def _maybe_normalize(self, env: VecEnv, eval_env: bool) -> VecEnv:
        """Load a saved model's statistics without running what their pickle may hold."""
        saved = safe.statistics_path(Path(self.trained_agent).parent / self.env_name)
        if self.continue_training and saved.is_file():
            normalized = safe.load_vec_normalize(saved, env, getattr(self.args, "trust", False))
        elif self.normalize:
            normalized = VecNormalize(env, **self.normalize_kwargs)
        else:
            return env
        if eval_env:
            normalized.training = normalized.norm_reward = False
        return normalized

    def create_envs(self, n_envs: int, eval_env: bool = False, no_log: bool = False) -> VecEnv:
        """Create the envs; our worlds, where several are stepped and no env wrapper is asked for, as a compiled vector env."""
        vector_entry_point = gym.spec(self.env_name.gym_id).vector_entry_point
        native = (
            self.n_envs > 1  # of the config: the evaluation env is then of the same kind
            and str(vector_entry_point).startswith("sb3_lecture_envs.")
            and self.env_wrapper is None
            and self.vec_env_class is DummyVecEnv
            and not self.monitor_kwargs
        )
        make = {"make_vec_env": self._make_native_vec_env} if native else {}
        given = self.monitor_kwargs
        if self._goes_on and not native:
            self.monitor_kwargs = {**given, "override_existing": False}
        with replaced(exp_manager, **make):
            env = super().create_envs(n_envs, eval_env, no_log)
        self.monitor_kwargs = given
        self._opened.append(env)
        return env

    def _make_native_vec_env(
        self,
        make_env: Callable[..., gym.Env],
        n_envs: int,
        seed: int,
        env_kwargs: dict[str, Any],
        monitor_dir: str | None,
        **_: Any,
    ) -> VecEnv:
        """Stand in for SB3's make_vec_env, with its arguments."""
        env = make_native_vec_env(self.env_name.gym_id, n_envs=n_envs, seed=seed, env_kwargs=env_kwargs)
        env.monitor = False  # VecMonitor counts the episodes, and writes them down too
        path = None if monitor_dir is None else os.path.join(monitor_dir, Monitor.EXT)
        if path is None or not self._goes_on:
            return VecMonitor(env, path)
        monitored = VecMonitor(env)
        monitored.results_writer = ResultsWriter(path, override_existing=False)
        return monitored

    def create_callbacks(self) -> None:
        """Create rl_zoo3's callbacks; MaskablePPO's evaluation gets its masks."""
        whole = {
            "EvalCallback": EvalCallback,
            "CheckpointCallback": CheckpointCallback,
            "SaveVecNormalizeCallback": SaveStatistics,
        }
        with replaced(exp_manager, **whole):
            super().create_callbacks()
        maskable = issubclass(registry.algorithm(self.algo), MaskablePPO)
        for i, callback in enumerate(self.callbacks):
            drawn = self.show_progress or getattr(self.args, "render_training", None) is not None
            if isinstance(callback, SB3EvalCallback) and drawn and self.verbose == 0:
                callback.verbose = 0  # the bar is enough, and the picture is drawn in place
            if type(callback) is ProgressBarCallback:
                self.callbacks[i] = ProgressBar()
            elif type(callback) is EvalCallback and maskable:
                self.callbacks[i] = MaskedEvalCallback(
                    callback.eval_env,
                    callback_on_new_best=callback.callback_on_new_best,
                    n_eval_episodes=callback.n_eval_episodes,
                    eval_freq=callback.eval_freq,
                    log_path=self.save_path,
                    best_model_save_path=callback.best_model_save_path,
                    deterministic=callback.deterministic,
                    use_masking=is_masking_supported(callback.eval_env),
                    verbose=callback.verbose,
                )

    def learn(self, model: BaseAlgorithm) -> None:
        """Train; Ctrl-C ends the training, not the program."""
        self.model = model

        def learn(*args: Any, **kwargs: Any) -> None:
            if self._goes_on:
                kwargs["reset_num_timesteps"] = False
                args = (max(0, self.n_timesteps - model.num_timesteps), *args[1:])
            try:
                model.learn(*args, **kwargs)
            except KeyboardInterrupt:
                self.interrupted = True
            except Exception as error:
                failures.append(error)
                raise

        failures: list[Exception] = []
        # all that super().learn touches of a model, with a learn that remembers the interrupt
        try:
            super().learn(SimpleNamespace(learn=learn, policy=model.policy, env=model.env))  # type: ignore[arg-type]
        except Exception as last:  # what went wrong may make rl_zoo3's cleaning up go wrong too
            error = failures[0] if failures else last
            full = isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT)
            if self.verbose >= 2 or full:  # a full disk has no room for a traceback
                raise error from None
            raise self._failed(model, error) from error
        if self.interrupted:
            print(f"Interrupted after {model.num_timesteps} of {self.n_timesteps} steps; saving the model as it is.")

    def _failed(self, model: BaseAlgorithm, error: Exception) -> UserError:
        """Say in one line what ended the training; the traceback stays in the run, which goes if it never took a step."""
        message = f"{self.algo} on {self.env_name.gym_id}: {first_line(error)}"
        if model.num_timesteps == 0:
            self._abandon()
            return UserError(f"{message} (--verbose 2 shows where)")
        path = Path(self.save_path) / "error.txt"
        path.write_text("".join(traceback.format_exception(error)), encoding="utf-8")
        return UserError(f"{message} (after {model.num_timesteps} steps; the traceback is in {path})")

    def save_trained_model(self, model: BaseAlgorithm) -> None:
        """Save the model, and where asked its replay buffer and VecNormalize's statistics.

        Each file is written beside its place and renamed, so that a second Ctrl-C leaves no half file.

        :raises UserError: if the disk is full
        """
        clear_torn(self.save_path)
        try:
            with written(os.path.join(self.save_path, f"{self.env_name}.zip")) as beside:
                model.save(beside)
            if self.save_replay_buffer and hasattr(model, "save_replay_buffer"):
                with written(os.path.join(self.save_path, "replay_buffer.pkl")) as beside:
                    model.save_replay_buffer(beside)
            statistics = model.get_vec_normalize_env()
            if statistics is not None:
                checkpoint.save_statistics(statistics, os.path.join(self.params_path, safe.STATISTICS_FILE))
        except OSError as error:
            raise UserError(error.strerror or str(error)) from error
        if not self.interrupted:
            remove_checkpoint(Path(self.save_path))
        print(f"Saved the model: {os.path.join(self.save_path, f'{self.env_name}.zip')}")

    def create_test_env(self, model: BaseAlgorithm) -> VecEnv:
        """Create one env as in training, with the model's normalisation, that logs nothing."""
        env = self.create_envs(1, eval_env=True, no_log=True)
        if model.get_vec_normalize_env() is not None:
            training_env = model.get_env()
            assert training_env is not None
            sync_envs_normalization(training_env, env)
        return env


class ProgressBar(ProgressBarCallback):
    """SB3's progress bar, which may also end where it never began (Ctrl-C while the envs start)."""

    def _on_training_end(self) -> None:
        if hasattr(self, "pbar"):
            super()._on_training_end()


class MaskedEvalCallback(WholeFiles, MaskableEvalCallback):
    """MaskablePPO's evaluation, whose files are whole at any moment."""


class SaveStatistics(SaveVecNormalizeCallback):
    """rl_zoo3's callback that keeps VecNormalize's statistics of the best model, in a file without pickles, written whole."""

    def _on_step(self) -> bool:
        statistics = self.model.get_vec_normalize_env()
        if statistics is not None and self.n_calls % self.save_freq == 0:
            checkpoint.save_statistics(statistics, os.path.join(self.save_path, safe.STATISTICS_FILE))
        return True
