"""Models on disk: files without pickles, written whole, that go on exactly where they stopped.

    model.save("model.zip", include_replay=True)            # any class of ours
    model = QLearning.load("model.zip", env=env)            # in another process
    model.learn(10_000, reset_num_timesteps=False)          # as if the first had never stopped

    model = load("their_ppo.zip", env=env)                  # SB3's own, nothing pickled in it is run
    save(model, "ppo_checkpoint.zip")                       # SB3's own, in our format

Our classes inherit ``SafeSave``: their ``save``, ``load``, ``save_replay_buffer`` and ``load_replay_buffer`` are these.
``save`` also takes down the random states, where the envs stand, the running episodes and the callbacks' counters (see
``resume``), and the replay buffer where ``include_replay=True`` asks for it; the next ``learn(…,
reset_num_timesteps=False)`` takes them up.
"""

import importlib
import threading
import warnings
from collections.abc import Iterable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import stable_baselines3 as sb3
import torch as th
from stable_baselines3.common import base_class
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.save_util import load_from_zip_file, recursive_getattr
from stable_baselines3.common.type_aliases import GymEnv, MaybeCallback
from stable_baselines3.common.utils import get_system_info
from stable_baselines3.common.vec_env import VecEnv, VecNormalize
from stable_baselines3.her.her_replay_buffer import HerReplayBuffer

from sb3_lecture.common.archive import File, find_file, is_archive, read_archive, write_archive
from sb3_lecture.common.env_state import needs_reset
from sb3_lecture.common.old_files import missing_fields, read_pickle, read_zip
from sb3_lecture.common.packing import name_of, resolve
from sb3_lecture.common.resume import RUNNING, capture, set_callback_state, set_env, set_noise, set_random, set_running
from sb3_lecture.common.spaces import check_kinds

__all__ = ["SafeSave", "load", "load_replay_buffer", "load_statistics", "save", "save_statistics", "take_up"]

SelfSafeSave = TypeVar("SelfSafeSave", bound="SafeSave")
#: attributes that are made anew, or stand in the file's other parts
EXCLUDED = ("lr_schedule", "_resume", "_force_reset", "_callback_state", "_callback", *RUNNING)
#: entries of ``policy_kwargs`` that our constructors add to what the user gave
ADDED = ("optimizer_kwargs", "optimizer_class", "squash_value", "value_limit", "net_arch")
#: whose tensors may hold infinite numbers
UNCHECKED = ("memory",)
#: SB3's and contrib's classes that share their policies with others: a field that only this one has
BY_FIELD = (
    ("sb3_contrib.trpo.trpo:TRPO", "cg_max_steps"),
    ("stable_baselines3.ppo.ppo:PPO", "clip_range"),
    ("stable_baselines3.a2c.a2c:A2C", "n_steps"),
)
_sb3_load = threading.Lock()


def save(
    model: BaseAlgorithm,
    path: File,
    exclude: Iterable[str] | None = None,
    include: Iterable[str] | None = None,
    include_replay: bool = False,
    callback: BaseCallback | None = None,
    notes: dict[str, str] | None = None,
    rollout_begun: bool = False,
) -> None:
    """Save any SB3 model in a file without pickles.

    :param model: the model; an SB3 class or one of ours
    :param path: where, ".zip" is added if there is no suffix; or an open binary file
    :param exclude: attributes to leave out
    :param include: attributes to keep though they are left out by default
    :param include_replay: keep the replay buffer too (default False)
    :param callback: whose counters are kept; None: those of the last ``learn``, of our classes
    :param notes: further texts to put into the zip, by the names of their entries
    :param rollout_begun: a callback saves in ``on_rollout_start``, by when gSDE has drawn its noise: keep that (default False)
    :raises OSError: if the disk is full; the file that was there stays as it was
    """
    names, variables = model._get_torch_save_params()
    left_out = {*(exclude or ()), *model._excluded_save_params(), *EXCLUDED, *getattr(model, "_running", ())}
    left_out |= {name.split(".")[0] for name in (*names, *variables)}
    left_out -= set(include or ())
    pending = getattr(model, "_resume", None)  # loaded, and not yet gone on with
    content: dict[str, Any] = {
        "class": name_of(type(model)),
        "data": {key: value for key, value in vars(model).items() if key not in left_out},
        "params": model.get_parameters(),
        "variables": {name: recursive_getattr(model, name) for name in variables},
        "resume": pending,
    }
    if pending is None:
        content["resume"] = capture(model, callback or getattr(model, "_callback", None), rollout_begun)
    if include_replay:
        replay = getattr(model, "replay_buffer", None)
        on_disk = getattr(replay, "memmap_id", None) is not None  # it stays where it is
        content["replay"] = None if on_disk else replay
    texts = {
        "_stable_baselines3_version": sb3.__version__,
        "system_info.txt": get_system_info(print_info=False)[1],
        **(notes or {}),
    }
    lost = write_archive(_with_suffix(path, "zip"), "model", content, texts)
    fields = sorted({place.split(".")[1] for place in lost if place.startswith("data.")})
    if fields:
        warnings.warn(
            f"{', '.join(fields)} cannot be kept without code (a lambda, or an object of a class of yours): load will need "
            f"custom_objects={{{fields[0]!r}: …}}",
            stacklevel=3,
        )


def _with_suffix(path: File, suffix: str) -> File:
    """Complete a path as SB3 does."""
    if not isinstance(path, (str, Path)):
        if not path.writable():
            raise ValueError("Expected a writable file.")
        return path
    path = Path(path)
    if path.suffix == "":
        path = path.with_name(f"{path.name}.{suffix}")
    if path.is_dir():
        warnings.warn(f"Path '{path}' is a folder. Will save instead to {path}_2", stacklevel=3)
        path = path.with_name(f"{path.name}_2")
    return path


def load(
    path: File,
    env: GymEnv | None = None,
    device: th.device | str = "auto",
    custom_objects: dict[str, Any] | None = None,
    print_system_info: bool = False,
    force_reset: bool = True,
    trusted: bool = False,
    cls: type[BaseAlgorithm] | None = None,
    **kwargs: Any,
) -> Any:
    """Load any model's file, ours, SB3's or sb3-contrib's, and run nothing that is pickled in it.

    :param path: the file, ".zip" may be left out; or an open binary file
    :param env: the env to go on with
    :param device: torch device
    :param custom_objects: field → what stands in its place, unread; "module:name" → a class that the file names
    :param print_system_info: print this system's description and the file's
    :param force_reset: False: keep the file's last observations though the envs could not be put where they stood
    :param trusted: unpickle what SB3 pickled, which runs whatever code the file holds
    :param cls: the model's class; None: the one that the file says, or that its fields show
    :param kwargs: further attributes to change
    :return: the model
    :raises ValueError: if the file is damaged, of another class, would run code, or holds weights that are not finite
    """
    if custom_objects is not None and not isinstance(custom_objects, dict):
        raise ValueError("custom_objects argument must be a dict or None")
    if isinstance(path, (str, Path)):
        path = find_file(path, "zip")
    resume, replay = None, None
    if is_archive(path):
        content = read_archive(path, "model", custom_objects)
        try:
            named, data, params = content["class"], content["data"], content["params"]
            variables, resume, replay = content["variables"], content["resume"], content.get("replay")
        except KeyError as error:
            raise ValueError(f"{path} is damaged: it lacks {error}") from error
        parts = ((named, str), (data, dict), (params, dict), (variables, dict), (resume, dict))
        if not all(isinstance(part, kind) for part, kind in parts):
            raise ValueError(f"{path} is damaged: a part of it is of another kind")
        if cls is None or not named.startswith(("stable_baselines3.", "sb3_contrib.", "sb3_lecture.")):
            cls = cls or resolve(named, custom_objects)
        elif name_of(cls) != named and not _related(cls, named):
            raise ValueError(f"{path} is a file of {named.partition(':')[2]}, not of {cls.__name__}")
        if missing := missing_fields(data):
            first = missing[0].split(" ")[0]
            raise ValueError(f"{path} holds no {', '.join(missing)}, which is code: pass custom_objects={{{first!r}: …}}")
        system = ""
    elif trusted:
        data, params, variables = load_from_zip_file(path, device="cpu", custom_objects=custom_objects)  # type: ignore
        system = ""
    else:
        data, params, variables, system = read_zip(path, custom_objects)
    cls = cls or _class_of(data, path)
    if resume is None and issubclass(cls, SafeSave):
        warnings.warn(f"{path} is a file in SB3's format, with pickles: save the model anew to be rid of them", stacklevel=3)
    _check_finite(params, path)
    if print_system_info:
        print("== CURRENT SYSTEM INFO ==")
        get_system_info()
        print(f"== SAVED MODEL SYSTEM INFO ==\n{system or _system_info(path)}")
    model = _build(cls, path, data, params, variables, env, device, force_reset, kwargs)
    if "seed" in kwargs and resume is not None:
        resume.pop("random", None)
    model._resume = resume  # type: ignore[attr-defined]
    model._force_reset = force_reset  # type: ignore[attr-defined]
    if not force_reset and resume is not None and resume.get("n_envs") == model.n_envs:
        running = resume.get("running", {})
        set_running(model, {name: running[name] for name in RUNNING if name in running})
    if replay is not None:
        _put_replay(model, replay)
    return model


def _related(cls: type, named: str) -> bool:
    """Whether a class is the one that a file names, or below or above it."""
    try:
        other = resolve(named)
    except ValueError:
        return False
    return isinstance(other, type) and (issubclass(cls, other) or issubclass(other, cls))


def _system_info(path: File) -> str:
    import zipfile

    with zipfile.ZipFile(path) as archive:  # type: ignore[arg-type]
        return archive.read("system_info.txt").decode() if "system_info.txt" in archive.namelist() else "unknown"


def _class_of(data: dict[str, Any], path: File) -> type[BaseAlgorithm]:
    """Find the class of a model in SB3's format, which does not name it."""
    policy = data.get("policy_class")
    module = getattr(policy, "__module__", "")
    package, _, _ = module.rpartition(".")
    if module.startswith("sb3_lecture."):
        found = _algorithms(module)
    elif package in ("stable_baselines3.common", "sb3_contrib.common"):
        return next((resolve(name) for name, field in BY_FIELD if field in data), None) or _unknown(path)
    else:
        found = _algorithms(f"{package}.{package.rpartition('.')[2]}") if package.startswith(("stable", "sb3_")) else []
        if not found and "recurrent" in module:
            found = [resolve("sb3_contrib.ppo_recurrent.ppo_recurrent:RecurrentPPO")]
        if not found and "maskable" in module:
            found = [resolve("sb3_contrib.ppo_mask.ppo_mask:MaskablePPO")]
    fitting = [cls for cls in found if policy in cls.policy_aliases.values()]
    return fitting[0] if len(fitting) == 1 else _unknown(path)


def _algorithms(module: str) -> list[Any]:
    try:
        loaded = importlib.import_module(module)
    except ImportError:
        return []
    own = [thing for thing in vars(loaded).values() if isinstance(thing, type) and thing.__module__ == module]
    return [thing for thing in own if issubclass(thing, BaseAlgorithm)]


def _unknown(path: File) -> Any:
    raise ValueError(f"{path} does not say of which class it is: use that class's load, or pass cls=")


def _check_finite(params: dict[str, Any], path: File) -> None:
    for name, part in params.items():
        for place, tensor in _tensors(part, name):
            if name not in UNCHECKED and tensor.is_floating_point() and not bool(th.isfinite(tensor).all()):
                raise ValueError(f"{path}: the tensor {place} holds numbers that are not finite: the model had diverged")


def _tensors(value: Any, place: str) -> Iterable[tuple[str, th.Tensor]]:
    if isinstance(value, th.Tensor):
        yield place, value
    elif isinstance(value, dict):
        for key, part in value.items():
            yield from _tensors(part, f"{place}.{key}")


def _build(
    cls: type[BaseAlgorithm],
    path: File,
    data: dict[str, Any],
    params: dict[str, Any],
    variables: dict[str, Any] | None,
    env: GymEnv | None,
    device: th.device | str,
    force_reset: bool,
    kwargs: dict[str, Any],
) -> BaseAlgorithm:
    """Let SB3's own ``load`` build the model from what was read."""
    given = kwargs.get("policy_kwargs")
    stored = data.get("policy_kwargs")
    if isinstance(given, dict) and isinstance(stored, dict):
        added = {key: value for key, value in stored.items() if key in ADDED and key not in given}
        if {**added, **given} == stored:  # the same, but for what the constructor added
            kwargs = {key: value for key, value in kwargs.items() if key != "policy_kwargs"}
    if not (isinstance(data.get("policy_class"), type) and isinstance(stored, dict)):
        raise ValueError(f"{path} is damaged: it names no policy")
    data.setdefault("_last_obs", None)
    data.setdefault("_last_episode_starts", None)
    data.setdefault("_last_original_obs", None)
    with _sb3_load:  # it reads the file by a function of its module
        base_class.load_from_zip_file = lambda *args, **kwargs: (data, params, variables)  # type: ignore[assignment]
        try:
            return BaseAlgorithm.load.__func__(cls, path, env, device, None, False, force_reset, **kwargs)  # type: ignore
        except (AttributeError, TypeError, KeyError, IndexError, RuntimeError, AssertionError) as error:
            first = (str(error).splitlines() or [""])[0]
            raise ValueError(f"{path} does not fit {cls.__name__}: {type(error).__name__}: {first}") from error
        finally:
            base_class.load_from_zip_file = load_from_zip_file


# --- replay buffers and statistics -----------------------------------------------------------------------------------


def _put_replay(model: Any, replay: Any) -> None:
    """Give a model the replay buffer that was read."""
    put = getattr(model, "_put_replay", None)
    if put is not None:
        put(replay)
        return
    if hasattr(replay, "device"):
        replay.device = model.device
    model.replay_buffer = replay


def load_replay_buffer(model: Any, path: File, truncate_last_traj: bool = True, trusted: bool = False) -> None:
    """Load a replay buffer into any off-policy model: ours, or SB3's pickle, which is not run.

    :param model: the model
    :param path: the file
    :param truncate_last_traj: cut off the last episode of a HER buffer, which is not finished
    :param trusted: unpickle SB3's file as SB3 does, which runs what it names
    :raises ValueError: if the file is damaged, holds something else, or would run code
    """
    if isinstance(path, (str, Path)):
        path = find_file(path, "pkl")
    replay = read_archive(path, "replay buffer")["replay"] if is_archive(path) else read_pickle(path, trusted)
    own = getattr(model, "replay_buffer", None)
    if not isinstance(replay, type(own)) and own is not None:
        raise ValueError(f"{path} holds a {type(replay).__name__}; {type(model).__name__} needs a {type(own).__name__}")
    _put_replay(model, replay)
    if isinstance(replay, HerReplayBuffer):
        replay.set_env(model.env)
        if truncate_last_traj:
            replay.truncate_last_trajectory()


def save_statistics(env: VecNormalize, path: File) -> None:
    """Save VecNormalize's statistics in a file without pickles.

    :param env: the VecNormalize
    :param path: where
    """
    names = ("norm_obs", "norm_obs_keys", "norm_reward", "clip_obs", "clip_reward", "gamma", "epsilon", "training")
    content = {"arguments": {name: getattr(env, name) for name in names}, "ret_rms": env.ret_rms}
    write_archive(_with_suffix(path, "zip"), "statistics", {**content, "obs_rms": getattr(env, "obs_rms", None)})


def load_statistics(path: File, env: VecEnv, trusted: bool = False) -> VecNormalize:
    """Wrap a VecEnv in a VecNormalize with saved statistics: ours, or SB3's pickle, which is not run.

    :param path: the file
    :param env: what to wrap
    :param trusted: unpickle SB3's file as SB3 does, which runs what it names
    :raises ValueError: if the file is damaged, holds something else, would run code, or does not fit the env
    """
    if isinstance(path, (str, Path)):
        path = find_file(path, "zip")
    if is_archive(path):
        content = read_archive(path, "statistics")
        normalize = VecNormalize(env, **content["arguments"])
        normalize.ret_rms = content["ret_rms"]
        if content["obs_rms"] is not None:
            normalize.obs_rms = content["obs_rms"]
        found: Any = normalize
    else:
        found = read_pickle(path, trusted)
        if not isinstance(found, VecNormalize):
            raise ValueError(f"{path} holds a {type(found).__name__}, not VecNormalize's statistics")
        try:
            found.set_venv(env)
        except AssertionError as error:
            raise ValueError(f"{path} does not fit the env: {error}") from error
    shapes = found.obs_rms.mean.shape if found.norm_obs and not isinstance(found.obs_rms, dict) else None
    if shapes is not None and shapes != env.observation_space.shape:
        raise ValueError(f"{path} is of observations of shape {shapes}, the env's have {env.observation_space.shape}")
    return found


def take_up(model: Any) -> dict[str, Any] | None:
    """Put a loaded model, its env and the random states where they were when it was saved.

    Our classes do so in ``learn``; for SB3's own call it in a callback's ``_on_training_start``. What could not be restored
    is said by a warning.

    :param model: from ``load``
    :return: what the callbacks had counted, for ``resume.set_callback_state``
    """
    resume, model._resume = model._resume, None
    if resume is None:
        return None
    try:
        return _take_up(model, resume)
    except (KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        raise ValueError(f"what the file says of the running episodes is damaged: {error}; load it and begin anew") from error


def _take_up(model: Any, resume: dict[str, Any]) -> dict[str, Any] | None:
    cut = f"the file has {resume['n_envs']} envs" if resume["n_envs"] != model.n_envs else set_env(model, resume)
    running = dict(resume["running"])
    if cut is not None:
        kept = not model._force_reset and model.env is not None and not needs_reset(model.env)
        if not kept or resume["n_envs"] != model.n_envs:
            running = {name: value for name, value in running.items() if isinstance(value, np.random.Generator)}
            model._last_obs = None
        if running.get("_last_obs") is None and resume["running"].get("_last_obs") is not None:
            warnings.warn(f"resumed from new episodes, the running ones were cut: {cut}", stacklevel=6)
    set_running(model, running)
    if "random" in resume:
        set_random(model, resume["random"])
        set_noise(model, resume.get("noise"))
    return resume["callbacks"]


# --- our classes -----------------------------------------------------------------------------------------------------


class SafeSave(BaseAlgorithm):
    """What all our classes inherit: files without pickles, whole at any moment, and exact resumption."""

    #: attributes (``name`` or ``name.part``) that belong to the running episodes: kept for ``learn`` to go on with
    _running: tuple[str, ...] = ()
    #: when nothing is half done: at the start of a "rollout", after each "step", or "never" while ``learn`` runs
    _whole_at: str = "rollout"
    _resume: dict[str, Any] | None = None
    _callback_state: dict[str, Any] | None = None
    _force_reset = True
    _callback: BaseCallback | None = None

    def __init__(self, policy: Any, env: Any, *args: Any, **kwargs: Any) -> None:
        check_kinds(env)
        try:
            super().__init__(policy, env, *args, **kwargs)
        except AssertionError as error:  # SB3's way to refuse an action space
            raise ValueError(str(error)) from error

    def save(
        self,
        path: File,
        exclude: Iterable[str] | None = None,
        include: Iterable[str] | None = None,
        include_replay: bool = False,
    ) -> None:
        """Save the model in a file without pickles, whole or not at all.

        :param path: where, ".zip" is added if there is no suffix; or an open binary file
        :param exclude: attributes to leave out
        :param include: attributes to keep though they are left out by default
        :param include_replay: keep the replay buffer too, without which an off-policy learner does not go on exactly; it may
            be large (default False)
        :raises OSError: if the disk is full; the file that was there stays as it was
        """
        save(self, path, exclude, include, include_replay)

    @classmethod
    def load(  # type: ignore[override]
        cls: type[SelfSafeSave],
        path: File,
        env: GymEnv | None = None,
        device: th.device | str = "auto",
        custom_objects: dict[str, Any] | None = None,
        print_system_info: bool = False,
        force_reset: bool = True,
        trusted: bool = False,
        **kwargs: Any,
    ) -> SelfSafeSave:
        """Load a model; see ``checkpoint.load`` for the arguments. Nothing in the file is run."""
        return load(path, env, device, custom_objects, print_system_info, force_reset, trusted, cls, **kwargs)

    def set_parameters(self, load_path_or_dict: Any, exact_match: bool = True, device: th.device | str = "auto") -> None:
        """Load parameters from a file or a dict; see SB3's for the arguments."""
        if not isinstance(load_path_or_dict, dict):
            path = load_path_or_dict
            if isinstance(path, (str, Path)):
                path = find_file(path, "zip")
            load_path_or_dict = read_archive(path, "model")["params"] if is_archive(path) else read_zip(path)[1]
        super().set_parameters(load_path_or_dict, exact_match, device)

    def set_random_seed(self, seed: int | None = None) -> None:
        """Seed all random generators; a loaded model then goes on with these."""
        if self._resume is not None:
            self._resume.pop("random", None)
        super().set_random_seed(seed)

    def set_env(self, env: GymEnv, force_reset: bool = True) -> None:
        """Give the model another env; a loaded model then goes on in it, from its reset."""
        super().set_env(env, force_reset)
        if self._resume is not None and force_reset:
            self._resume = {**self._resume, "env": None, "cut": "set_env gave the model another env"}

    def save_replay_buffer(self, path: File) -> None:
        """Save the replay buffer in a file without pickles.

        :param path: where, ".pkl" is added if there is no suffix, as SB3 does
        """
        replay = getattr(self, "replay_buffer", None)
        if replay is None:
            raise ValueError("The model holds no replay buffer")
        write_archive(_with_suffix(path, "pkl"), "replay buffer", {"replay": replay})

    def load_replay_buffer(self, path: File, truncate_last_traj: bool = True, trusted: bool = False) -> None:
        """Load a replay buffer, of ours or SB3's pickle, which is not run.

        :param path: the file
        :param truncate_last_traj: accepted for SB3's sake
        :param trusted: unpickle SB3's file as SB3 does, which runs what it names
        :raises ValueError: if the file is damaged, holds something else, or would run code
        """
        load_replay_buffer(self, path, truncate_last_traj, trusted)

    def _excluded_save_params(self) -> list[str]:
        return [*super()._excluded_save_params(), "_resume", "_force_reset", "_callback_state", "_callback"]

    def _take_up(self, reset_num_timesteps: bool) -> None:
        """Go on where the file stopped; called before ``learn`` looks at what is running."""
        if reset_num_timesteps:
            self._resume = None
        elif self._resume is not None:
            self._callback_state = take_up(self)

    def _setup_learn(
        self, total_timesteps: int, callback: MaybeCallback = None, reset_num_timesteps: bool = True, *args: Any, **kwargs: Any
    ) -> tuple[int, BaseCallback]:
        self._take_up(reset_num_timesteps)
        total_timesteps, root = super()._setup_learn(total_timesteps, callback, reset_num_timesteps, *args, **kwargs)
        self._callback = root
        if self._callback_state is not None:
            set_callback_state(root, self._callback_state)
            self._callback_state = None
        return total_timesteps, root
