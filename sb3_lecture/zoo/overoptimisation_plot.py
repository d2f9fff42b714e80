"""The picture of over-optimisation: true and learned score of the best policies for a learned reward, against √KL.

The reward models are learned from rankings of people's answers in ``Lecture/Text-v0``. What follows them is no trained policy
but the exact optimum for each β, from the grammar as π_SFT: nothing in the picture is an error of a policy's training.
"""

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from sb3_lecture.exact.string_tree import StringTree, overoptimisation
from sb3_lecture.preferences.base import exact_rewards, exact_scores
from sb3_lecture.preferences.reward_model import RewardModel

if TYPE_CHECKING:
    from matplotlib.figure import Figure

BETAS = np.geomspace(20.0, 0.02, 60)
COLOURS = ("#D55E00", "#E69F00", "#0072B2", "#009E73", "#CC79A7")


class Curve(NamedTuple):
    """What became of one learned reward.

    :param kl: KL to π_SFT at the largest true score, nats: where to stop
    :param best: that score
    :param last: the score at the smallest β
    :param true: the score that the true reward leads to at the KL of ``best``
    """

    kl: float
    best: float
    last: float
    true: float


def overoptimisation_figure(labels: list[int], n_timesteps: int, seed: int) -> tuple["Figure", dict[int, Curve]]:
    """Learn a reward from each number of rankings, and draw where it leads.

    :param labels: rankings of four answers
    :param n_timesteps: steps of Adam of each reward model
    :param seed: random seed
    :return: the figure, and the curves' figures by their numbers of rankings
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7.0, 4.4), layout="constrained")
    axes, found = figure.subplots(), {}
    for i, n in enumerate(labels):
        model = RewardModel(
            env="sb3_lecture_envs:Lecture/Text-v0", learning_rate=2e-3, n_comparisons=max(n, 2), seed=seed, device="cpu",
            policy_kwargs={"width": 32, "n_heads": 2},
        )  # fmt: skip
        world, tree = model.world, StringTree(model.world.n_words, model.world.max_length, model.world.pad)
        log_sft = tree.log_leaves(np.repeat(world.log_law(tree.prefixes)[None], len(world.prompts), axis=0))
        score = exact_scores(world, tree)
        model.learn(n_timesteps, log_interval=None)
        learned = exact_rewards(model.policy, world, tree)
        kl, _, true = overoptimisation(log_sft, learned, score, BETAS)
        best_kl, _, best_true = overoptimisation(log_sft, score, score, BETAS)
        top = int(true.argmax())
        at_same_kl = float(np.interp(kl[top], best_kl, best_true))
        found[n] = Curve(float(kl[top]), float(true[top]), float(true[-1]), at_same_kl)
        if i == 0:
            axes.plot(np.sqrt(best_kl), best_true, color="black", linestyle="--", linewidth=1.2, label="the true reward")
        axes.plot(np.sqrt(kl), true, color=COLOURS[i % len(COLOURS)], label=f"learned from {n} rankings")
        axes.plot(np.sqrt(kl[top]), true[top], "o", color=COLOURS[i % len(COLOURS)], markersize=5)
    axes.set_xlabel("√KL(π ‖ π_SFT), KL in nats")
    axes.set_ylabel("true score")
    axes.set_title("Lecture/Text-v0: the best policies for a learned reward; dots: where to stop", fontsize="medium")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    return figure, found
