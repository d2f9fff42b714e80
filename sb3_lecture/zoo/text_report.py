"""What ``train`` shows of a learner of text: its grade, one prompt at each stage, and the picture."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch as th
from stable_baselines3.common.callbacks import BaseCallback

from sb3_lecture.preferences.base import TextLearner
from sb3_lecture.preferences.callbacks import TextEvalCallback
from sb3_lecture.preferences.policies import TransformerPolicy
from sb3_lecture.zoo import plotting
from sb3_lecture.zoo.runs import Run

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from sb3_lecture.exact.string_tree import TextGrade

PROGRESS_FILE = "text.npz"
PICTURE_FILE = "learning_curve.png"
SHOWN = 3  # answers to the prompt at each stage


def callback(model: Any, folder: str | Path, freq: int) -> list[BaseCallback]:
    """Return the callback that writes exact progress to ``text.npz``, every fifth ``freq``; none for other models."""
    if not isinstance(model, TextLearner) or not model.is_enumerable or not _has_optimum(model):
        return []
    return [TextEvalCallback(eval_freq=5 * freq, log_path=Path(folder) / PROGRESS_FILE)]


def finish(model: TextLearner, run: Run) -> list[Path]:
    """Print how good the model is and what it writes; draw its progress beside the exact optimum.

    :param model: the trained model
    :param run: its run
    :return: the pictures
    """
    grade: TextGrade | None = getattr(model, "grade", lambda: None)() if model.is_enumerable and _has_optimum(model) else None
    samples = _samples(model)
    for stage, texts in samples.items():
        print(f"{stage + ':':<12}{' | '.join(texts)}")
    print(grade.summary() if grade is not None else model.summary())
    return [plotting.save(_picture(model, run, grade, samples), run.path / PICTURE_FILE)]


def _has_optimum(model: Any) -> bool:
    return getattr(model, "beta", 1.0) > 0


def _samples(model: Any) -> dict[str, list[str]]:
    """What the policy wrote to the first prompt at each stage."""
    if not isinstance(model.policy, TransformerPolicy):
        return {}
    stages: dict[str, Any] = {}
    with th.random.fork_rng(devices=[]):
        th.manual_seed(0)
        stages["before SFT"] = model._make(model.policy_class)
        if hasattr(model, "reference"):
            stages["after SFT"] = model.reference
        stages["after PPO" if hasattr(model, "judge") else f"after {type(model).__name__}"] = model.policy
        prompts = model._to_tensor(np.repeat(model.world.prompts[:1], SHOWN, axis=0))
        texts: dict[str, list[str]] = {}
        for stage, policy in stages.items():
            answers = policy.generate(prompts, model.world.max_length).cpu().numpy()
            texts[stage] = [model.world.text(model.world.prompts[0], answer) for answer in answers]
    return texts


def _picture(model: TextLearner, run: Run, grade: "TextGrade | None", samples: dict[str, list[str]]) -> "Figure":
    """Left the progress; right, of RLHF and DPO, score and KL as bars with the optimum as a line."""
    from matplotlib.figure import Figure

    n = 1 + 2 * (grade is not None)
    figure = Figure(figsize=(3.4 + 3.0 * n, 4.6), layout="constrained")
    axes = figure.subplots(1, n, squeeze=False, width_ratios=[2.0] + [1.0] * (n - 1))[0]
    path = run.path / PROGRESS_FILE
    if path.is_file():
        with np.load(path) as progress:
            axes[0].plot(progress["timesteps"], progress["values"], label="model")
            optimum = float(progress["optimal_values"][-1])
            axes[0].axhline(optimum, color="black", linestyle="--", linewidth=1.2, label=f"optimum {optimum:.4g}")
        axes[0].legend(loc="lower right")
    axes[0].set_xlabel("Timesteps")
    axes[0].set_ylabel(model.progress_label)
    if grade is not None:
        bars = ((axes[1], "Score", (grade.sft_value, grade.score), grade.optimal_score),
                (axes[2], "KL to SFT, nats", (0.0, grade.kl), grade.optimal_kl))  # fmt: skip
        for ax, title, heights, optimum in bars:
            ax.bar(["SFT", type(model).__name__], heights, color=["#9ab", "#27c"])
            ax.axhline(optimum, color="black", linestyle="--", linewidth=1.2, label=f"optimum {optimum:.3g}")
            ax.axhline(0.0, color="black", linewidth=0.5)
            ax.set_title(title, fontsize="medium")
            ax.legend(fontsize="small")
    lines = [f"{stage}: {' | '.join(texts)}" for stage, texts in samples.items()]
    figure.suptitle("\n".join([f"{run.algo} on {run.env_id}", *lines]), fontsize="small")
    return figure
