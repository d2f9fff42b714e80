"""What a trial is worth: the mean (or a quantile) over seeds of what the trained agent brings in fixed episodes.

Every trial trains with the same seeds and is evaluated in the same episodes, so two trials differ by their values only. A
prediction method has no policy to improve: its score is minus the root mean square error of its values against the exact
ones, over the states that can be reached; in a game with hidden information it is minus the exploitability.
A trial is run as ``train.py`` would run it: its hyperparameters are those of the config with the sampled ones on top, in the
config's own form (``entry``), prepared by the same manager.

NaN or infinity in a score or in a parameter is divergence and prunes the trial; any other exception is the trial's failure.
"""

import argparse
import contextlib
import copy
import io
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import gymnasium as gym
import numpy as np
import optuna
import torch as th
from gymnasium import spaces
from rl_zoo3.utils import ALGOS
from sb3_contrib import MaskablePPO
from sb3_contrib.common.maskable.evaluation import evaluate_policy as evaluate_masked_policy
from sb3_contrib.common.maskable.utils import is_masking_supported
from stable_baselines3.common.base_class import BaseAlgorithm
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.noise import NormalActionNoise, OrnsteinUhlenbeckActionNoise
from stable_baselines3.common.vec_env import VecEnv, sync_envs_normalization

import sb3_lecture_envs
from sb3_lecture.zoo import registry
from sb3_lecture.zoo.errors import UserError, first_line
from sb3_lecture.zoo.grading import StrategyGrade, grade, hides_information
from sb3_lecture.zoo.manager import LectureExperimentManager
from sb3_lecture.zoo.search_spaces import no_her
from sb3_lecture.zoo.tuning_study import DIVERGED

#: user attributes of a trial: its hyperparameters in the config's form; its score for each seed
HYPERPARAMETERS, SCORES = "hyperparameters", "scores"
#: evaluation episodes are seeded far from the training seeds
EVALUATION_SEED = 1_000_000
SCORE_KINDS = ("final", "mean")
_DIGITS = 4  # of sampled numbers: what is tried is what will stand in the config


@dataclass(frozen=True)
class Settings:
    """What is tuned, and how it is scored.

    :param algo: the algorithm's name
    :param env_id: the environment
    :param conf_file: the config
    :param seeds: training seeds of every trial
    :param n_timesteps: env steps of a training; 0: the config's
    :param n_evaluations: evaluations during a training, the last at its end
    :param n_eval_episodes: episodes of an evaluation
    :param score: "final": the last evaluation; "mean": the mean of all, which rewards learning fast too
    :param quantile: over the seeds; None: their mean
    :param per_seed: report whole seeds to the pruner (Wilcoxon), not evaluations
    :param device: torch's device
    :param threads: torch's threads a worker
    :param gym_packages: modules to import, which register envs
    """

    algo: str
    env_id: str
    conf_file: str
    seeds: tuple[int, ...]
    n_timesteps: int = 0
    n_evaluations: int = 5
    n_eval_episodes: int = 10
    score: str = "final"
    quantile: float | None = None
    per_seed: bool = False
    device: str = "auto"
    threads: int = 1
    gym_packages: tuple[str, ...] = ()

    def over_seeds(self, scores: list[float]) -> float:
        """The value of a trial with these scores."""
        return float(np.mean(scores) if self.quantile is None else np.quantile(scores, self.quantile))


class DivergedError(Exception):
    """Values have become infinite or NaN."""


@dataclass
class Objective:
    """Trial → value, for Optuna; picklable.

    :param settings: what is tuned
    """

    settings: Settings
    _trainer: "Trainer | None" = field(default=None, init=False, repr=False, compare=False)

    def __getstate__(self) -> dict[str, Any]:
        return {"settings": self.settings, "_trainer": None}

    @property
    def trainer(self) -> "Trainer":
        """Made where it is first needed: in the worker."""
        if self._trainer is None:
            self._trainer = Trainer(self.settings)
        return self._trainer

    def __call__(self, trial: optuna.Trial) -> float:
        """Train once a seed.

        :raises optuna.TrialPruned: if the pruner stops the trial, or the values diverge
        """
        settings, manager = self.settings, self.trainer.manager
        space = registry.search_space(settings.algo)
        sampled = space(trial, manager.n_actions, manager.n_envs, no_her())
        changed = entry(sampled, trial.params)
        trial.set_user_attr(HYPERPARAMETERS, changed)
        scores: list[float] = []
        last = len(settings.seeds) * settings.n_evaluations - 1
        for i, seed in enumerate(settings.seeds):

            def report(evaluation: int, value: float, first: int = i * settings.n_evaluations) -> None:
                step = first + evaluation
                trial.report(value, step)
                if step < last and trial.should_prune():
                    raise optuna.TrialPruned

            try:
                scores.append(self.trainer.train(changed, seed, (lambda *_: None) if settings.per_seed else report))
            except DivergedError as error:
                trial.set_user_attr(DIVERGED, f"seed {seed}: {error}")
                raise optuna.TrialPruned from error
            trial.set_user_attr(SCORES, scores)
            if settings.per_seed:
                report(settings.n_evaluations - 1, scores[-1])
        return settings.over_seeds(scores)


class Trainer:
    """Trains one algorithm on one env with changing hyperparameters.

    :param settings: what is trained
    :raises UserError: if the config or the env is wrong
    """

    def __init__(self, settings: Settings) -> None:
        sb3_lecture_envs.register_envs()
        for package in settings.gym_packages:
            __import__(package)
        registry.fill_rl_zoo3([settings.algo])
        th.set_num_threads(settings.threads)
        self.settings = settings
        self.manager = TrialManager(settings)

    def train(self, changed: dict[str, Any], seed: int, report: Callable[[int, float], None] = lambda *_: None) -> float:
        """Train with the config's values and the changed ones.

        :param changed: hyperparameters in the config's form
        :param seed: of the training
        :param report: called with (evaluation from 0, score so far); may raise to stop
        :return: the score
        :raises DivergedError: if values become infinite or NaN
        """
        values: list[float] = []
        n = self.settings.n_evaluations

        def evaluated(value: float) -> None:
            if not np.isfinite(value) or has_diverged(model):
                raise DivergedError(f"after evaluation {len(values) + 1} of {n}")
            values.append(value)
            report(len(values) - 1, value if self.settings.score == "final" else float(np.mean(values)))

        with self.manager.built(changed, seed) as (model, env):
            turns = EvaluationTurns(n, self.manager.n_timesteps, lambda: evaluated(self._evaluate(model, env, seed)))
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore")  # what a sampled value is warned of, its score tells
                    model.learn(self.manager.n_timesteps, callback=turns, log_interval=None)  # type: ignore[arg-type]
            except (DivergedError, optuna.TrialPruned):
                raise
            except Exception as error:
                if isinstance(error, FloatingPointError) or has_diverged(model):
                    raise DivergedError(first_line(error)) from error
                raise
            while len(values) < n:  # the last one; and those that a method which was done early did not get to
                evaluated(self._evaluate(model, env, seed))
        return values[-1] if self.settings.score == "final" else float(np.mean(values))

    def _evaluate(self, model: BaseAlgorithm, env: VecEnv, seed: int) -> float:
        if getattr(model, "predicts_values", False):
            return -self._prediction_error(model, env)
        if hides_information(env):
            return -self._exploitability(model, env)
        training_env = model.get_env()
        assert training_env is not None
        sync_envs_normalization(training_env, env)
        env.seed(EVALUATION_SEED + seed)  # the same episodes each time
        evaluate: Callable[..., Any] = evaluate_policy
        if isinstance(model, MaskablePPO) and is_masking_supported(env):
            evaluate = evaluate_masked_policy
        deterministic = self.manager.deterministic_eval
        mean, _ = evaluate(model, env, self.settings.n_eval_episodes, deterministic=deterministic, warn=False)
        return float(mean)

    def _exploitability(self, model: BaseAlgorithm, env: VecEnv) -> float:
        """What a perfect opponent wins; illegal moves are struck out."""
        found = grade(model, env)
        if not isinstance(found, StrategyGrade):
            raise UserError(f"{self.settings.algo} is scored by its exploitability: {found}")
        return found.exact.exploitability

    def _prediction_error(self, model: Any, env: VecEnv) -> float:
        """Root mean square error of the values over the states that can be reached."""
        from sb3_lecture.exact import ExactGrader

        try:
            return ExactGrader(env, float(model.gamma)).grade_prediction(model).rms_error
        except ValueError as refusal:
            raise UserError(f"{self.settings.algo} is scored against exact values: {refusal}") from refusal


class EvaluationTurns(BaseCallback):
    """Evaluates at the ends of n - 1 of the n equal parts of a training; the last end is the training's own.

    :param n: parts
    :param n_timesteps: env steps of the training
    :param evaluate: what to call
    """

    def __init__(self, n: int, n_timesteps: int, evaluate: Callable[[], None]) -> None:
        super().__init__()
        self._ends = [round(part * n_timesteps / n) for part in range(1, n)]
        self._evaluate = evaluate

    def steps_until_call(self) -> int:
        """VecEnv steps until the next turn; our compiled loops ask."""
        if not self._ends:
            return 2**62
        n_envs = self.training_env.num_envs
        return max(1, -(-(self._ends[0] - self.model.num_timesteps) // n_envs))

    def _on_step(self) -> bool:
        while self._ends and self.model.num_timesteps >= self._ends[0]:
            del self._ends[0]
            self._evaluate()
        return True


class TrialManager(LectureExperimentManager):
    """rl_zoo3's manager, which builds many models and leaves no folder.

    :param settings: what is trained
    :raises UserError: if the config or the env is wrong
    """

    def __init__(self, settings: Settings) -> None:
        super().__init__(
            argparse.Namespace(), settings.algo, settings.env_id, log_folder="unused", n_timesteps=settings.n_timesteps,
            eval_freq=-1, optimize_hyperparameters=True, verbose=0, n_eval_envs=1, device=settings.device,
            config=settings.conf_file, n_evaluations=settings.n_evaluations,
        )  # fmt: skip
        self._settings = settings
        with contextlib.redirect_stdout(io.StringIO()):
            self._config_values, _ = self.read_hyperparameters()
        self._prepare(self._config_values)
        env = self.create_envs(1, no_log=True)
        env.close()
        if isinstance(env.action_space, spaces.Box):
            self.n_actions = env.action_space.shape[0]

    def _prepare(self, hyperparams: dict[str, Any]) -> dict[str, Any]:
        """Turn a config's values into arguments of the algorithm, and keep those of the envs."""
        with contextlib.redirect_stdout(io.StringIO()):
            prepared, self.env_wrapper, _, self.vec_env_wrapper = self._preprocess_hyperparams(copy.deepcopy(hyperparams))
        return prepared

    @contextlib.contextmanager
    def built(self, changed: dict[str, Any], seed: int) -> Iterator[tuple[BaseAlgorithm, VecEnv]]:
        """Build a model and its evaluation env, and close the envs at the end.

        :param changed: hyperparameters on top of the config's
        :param seed: of the model and its env
        """
        arguments = self._prepare({**self._config_values, **changed})
        self.seed = seed
        self._opened.clear()
        try:
            n_envs = 1 if self.algo == "ars" else self.n_envs
            env = self.create_envs(n_envs, no_log=True)
            with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                arguments = self._preprocess_action_noise(arguments, {}, env)
                model = ALGOS[self.algo](env=env, seed=seed, verbose=0, device=self.device, **arguments)
            yield model, self._create_evaluation_env()
        finally:
            for opened in self._opened:
                opened.close()

    def _create_evaluation_env(self) -> VecEnv:
        """All episodes side by side; create_envs steps our worlds in compiled code if the config's n_envs is above 1."""
        n_envs = self.n_envs
        self.n_envs = self._settings.n_eval_episodes
        try:
            return self.create_envs(self.n_envs, eval_env=True, no_log=True)
        finally:
            self.n_envs = n_envs


def has_diverged(model: BaseAlgorithm) -> bool:
    """Whether a parameter of the model's policy is infinite or NaN."""
    policy = getattr(model, "policy", None)
    if policy is None:
        return False
    tensors = (t for t in policy.state_dict().values() if isinstance(t, th.Tensor) and t.is_floating_point())
    return not all(bool(th.isfinite(t).all()) for t in tensors)


def entry(sampled: dict[str, Any], params: dict[str, Any]) -> dict[str, Any]:
    """Write sampled hyperparameters in the form of a config: what YAML can hold, classes as text.

    :param sampled: what a search space returned
    :param params: the trial's parameters
    """
    written = {name: _rounded(value) for name, value in sampled.items() if name not in ("policy_kwargs", "action_noise")}
    if policy_kwargs := sampled.get("policy_kwargs"):
        written["policy_kwargs"] = f"dict({', '.join(f'{k}={_text(v)}' for k, v in policy_kwargs.items())})"
    noise = sampled.get("action_noise")
    if isinstance(noise, (NormalActionNoise, OrnsteinUhlenbeckActionNoise)):
        written["noise_type"] = "normal" if isinstance(noise, NormalActionNoise) else "ornstein-uhlenbeck"
        written["noise_std"] = _rounded(params["noise_std"])
    elif "noise_type" in params:  # none was drawn: the config's must go
        written.update(noise_type="normal", noise_std=0.0)
    return written


def _rounded(value: Any) -> Any:
    return float(f"{value:.{_DIGITS}g}") if isinstance(value, float) else value


def _text(value: Any) -> str:
    if isinstance(value, type):
        return f"nn.{value.__name__}"
    if isinstance(value, dict):
        return f"dict({', '.join(f'{k}={_text(v)}' for k, v in value.items())})"
    return repr(value)


def check(settings: Settings) -> None:
    """Train nothing, but build the config's model once.

    :raises UserError: if the env or the algorithm refuses its arguments
    """
    try:
        with Trainer(settings).manager.built({}, settings.seeds[0]):
            pass
    except (ValueError, TypeError, AssertionError, gym.error.Error) as error:
        raise UserError(f"{settings.algo} on {settings.env_id}: {first_line(error)}") from error
