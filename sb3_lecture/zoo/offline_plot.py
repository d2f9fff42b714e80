"""``plot offline``: where the data have been, where the learned policy leaves them, and what that does to its values.

On a grid whose law is known: visits of each cell in the data, the policy's arrows over them, red where no data show that
action; beside it the learned action values against the optimal ones, for pairs that the data show and pairs that they do not.
In other worlds: observations of the data on their two principal axes, and what the policy meets in some episodes, red where
the pair (s, a) lies farther from the data than 99 % of the data's pairs lie from one another.
"""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch as th

from sb3_lecture.zoo.errors import UserError
from sb3_lecture.zoo.options import add_run_options, import_packages, seed, whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from stable_baselines3.common.vec_env import VecEnv

    from sb3_lecture.offline.base import OfflineAlgorithm
    from sb3_lecture.offline.dataset import OfflineDataset

PICTURE = "offline.png"
SEEN, UNSEEN = "#0072B2", "#D55E00"
MOST_ROWS, MOST_MET = 4000, 2000  # pairs whose distances are taken
FAR = 0.99


def offline_options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        "Draw the data's coverage of the states beside the learned policy, and where it leaves them; where the law is known "
        "also the learned action values against the optimal ones."
    )
    parser.add_argument("run_folder", metavar="RUN", help="the folder of a run that learned from data")
    parser.add_argument("-o", "--output", metavar="FILE", help=f"default {PICTURE} in the run's folder")
    parser.add_argument("--n-episodes", type=whole(1, 10**4), default=10, help="played where no law is known, default 10")
    parser.add_argument("--seed", type=seed, default=0, help="random seed of these, default 0")
    add_run_options(parser)


def offline(args: argparse.Namespace) -> int:
    """Draw the picture and say in numbers what it shows.

    :raises UserError: if the run did not learn from data
    """
    import_packages(args.gym_packages)
    from sb3_lecture.zoo import playing, plotting
    from sb3_lecture.zoo.runs import open_run

    run = open_run(args.run_folder)
    output = plotting.check_output(args.output or run.path / PICTURE)
    env = playing.make_run_env(run, args.seed, trust=args.trust)
    try:
        model: Any = playing.load_model(run, env=env, trust=args.trust)
        if not hasattr(model, "dataset"):
            raise UserError(f"{run.path} is of {run.algo}, which does not learn from data alone")
        try:
            if model.get_env() is None:
                model.n_envs = env.num_envs
                model.set_env(env)
            model.read_data()
        except (ValueError, FileNotFoundError) as error:
            raise UserError(str(error)) from error
        figure, lines = offline_figure(model, env, f"{run.algo} on {run.env_id}", args.n_episodes)
    finally:
        env.close()
    for line in lines:
        print(line)
    print(f"Picture: {plotting.save(figure, Path(output))}")
    return 0


def offline_figure(model: "OfflineAlgorithm", env: "VecEnv", title: str, n_episodes: int = 10) -> tuple["Figure", list[str]]:
    """Draw what the data cover and where the policy leaves it.

    :param model: a learner with its data
    :param env: one env of the world
    :param title: the picture's title
    :param n_episodes: played where no law is known
    :return: the figure, and what it shows in numbers
    """
    from sb3_lecture.zoo.grading import has_law

    data = model.dataset
    assert data is not None
    if has_law(env) and env.has_attr("layout"):
        return _grid_figure(model, data, env, title)
    return _cloud_figure(model, data, env, title, n_episodes)


# --- a grid ------------------------------------------------------------------------------------------------------------


def _grid_figure(model: Any, data: "OfflineDataset", env: "VecEnv", title: str) -> tuple["Figure", list[str]]:
    from matplotlib.figure import Figure

    from sb3_lecture.exact.grade import ExactGrader
    from sb3_lecture.exact.in_support import count_pairs
    from sb3_lecture.zoo import plotting
    from sb3_lecture.zoo.grading import _no_choice

    grader = ExactGrader(env, float(model.gamma))
    mdp, layout = grader.mdp, env.get_attr("layout")[0]
    counts = count_pairs(mdp, grader.states_of(data.observations), data.actions)  # [S, A]
    actions = grader.grade(model).actions  # [S]
    supported = counts[np.arange(mdp.n_states), actions] > 0
    met = np.flatnonzero(_met(mdp, actions) & ~_no_choice(mdp, layout))
    lines = [f"States that the policy meets: {len(met)}, of which it leaves the data in {int((~supported[met]).sum())}"]

    q_hat = action_values(model, grader.observations())
    wide = layout.width >= 2 * layout.height
    n_panels = 1 + (q_hat is not None)
    shape = (n_panels, 1) if wide else (1, n_panels)
    figure = Figure(figsize=(7.5, 4.0 * n_panels) if wide else (5.6 * n_panels, 5.0), layout="constrained")
    panels = figure.subplots(*shape, squeeze=False).ravel()
    terminal = _no_choice(mdp, layout)
    visits = np.log10(1.0 + counts.sum(axis=1))
    cell = float(np.clip(5.0 / max(layout.height, layout.width), 0.09, 0.39))  # below 0.4: no numbers in the cells
    image = plotting._draw_map(panels[0], layout, visits, terminal, (0.0, max(float(visits.max()), 1.0)), cell)
    plotting._draw_arrows(panels[0], layout, actions, supported, terminal, cell)
    panels[0].set_title("the data, and the learned policy; red: no data show that action", fontsize="medium")
    figure.colorbar(image, ax=[panels[0]], label="log₁₀ (1 + visits in the data)", pad=0.02)
    if q_hat is not None:
        lines += _draw_values(panels[1], q_hat, grader.optimum.q, counts, ~terminal & mdp.reachable)
    figure.suptitle(title)
    return figure, lines


def _met(mdp: Any, actions: np.ndarray) -> np.ndarray:
    """Which states a policy [S] can meet from the start, bool [S]."""
    met = np.array(mdp.start > 0)
    frontier = np.flatnonzero(met)
    while frontier.size:
        rows = frontier * mdp.n_actions + actions[frontier]
        entries = np.concatenate([np.arange(mdp.row_ptr[row], mdp.row_ptr[row + 1]) for row in rows])
        following = mdp.next_state[entries[(mdp.prob[entries] > 0) & ~mdp.terminated[entries]]]
        frontier = np.unique(following[~met[following]])
        met[frontier] = True
    return met


def action_values(model: Any, observations: Any) -> np.ndarray | None:
    """Return what a learner holds Discrete actions to be worth, the least of its critics, [S, A]; None where it has none.

    :param model: the learner
    :param observations: [S, …]
    """
    policy = model.policy
    critics = list(policy.critics) if hasattr(policy, "critics") else [policy.critic] if hasattr(policy, "critic") else []
    if not critics:
        return None
    with th.no_grad():
        inputs = policy.inputs(policy.obs_to_tensor(observations)[0])
        return th.stack([critic(inputs) for critic in critics]).min(dim=0).values.cpu().numpy()


def _draw_values(axes: Any, q_hat: np.ndarray, q_star: np.ndarray, counts: np.ndarray, shown: np.ndarray) -> list[str]:
    lines = []
    for name, pairs, colour in (
        ("pairs in the data", counts > 0, SEEN),
        ("pairs that nobody tried", counts == 0, UNSEEN),
    ):
        chosen = pairs & shown[:, None] & np.isfinite(q_star)
        if not chosen.any():
            continue
        x, y = q_star[chosen], q_hat[chosen]
        error = float((y - x).mean())
        lines.append(f"Q - q*: {error:+.3g} on average, {float((y - x).max()):+.3g} at most, over {chosen.sum()} {name}")
        axes.scatter(
            x, y, s=14, color=colour, alpha=0.7, linewidths=0, label=f"{name} ({chosen.sum()}), mean error {error:+.2g}"
        )
    low, high = axes.get_xlim()
    axes.plot([low, high], [low, high], color="0.5", linewidth=0.8, zorder=0)
    axes.set(xlabel="optimal action value q*(s, a)", ylabel="learned Q(s, a)")
    axes.set_title("learned values against the optimum", fontsize="medium")
    axes.legend(frameon=False, fontsize="small")
    axes.spines[["top", "right"]].set_visible(False)
    return lines


# --- any other world -----------------------------------------------------------------------------------------------------


def _cloud_figure(
    model: Any, data: "OfflineDataset", env: "VecEnv", title: str, n_episodes: int
) -> tuple["Figure", list[str]]:
    from matplotlib.figure import Figure

    states, actions = _play(model, env, n_episodes)
    rng = np.random.default_rng(0)
    rows = np.sort(rng.permutation(len(data))[:MOST_ROWS])
    known = np.asarray(data.observations[rows], np.float64).reshape(len(rows), -1)
    mean, std = known.mean(axis=0), known.std(axis=0)
    std = np.where(std < 1e-9, 1.0, std)
    kept = np.sort(rng.permutation(len(states))[:MOST_MET])
    known, met = (known - mean) / std, (states[kept].reshape(len(kept), -1) - mean) / std
    far = outside(known, np.asarray(data.actions[rows]), met, actions[kept], data.action_space)
    axes_of = np.linalg.svd(known, full_matrices=False)[2][:2]  # principal axes [2, D], or fewer
    if len(axes_of) < 2:
        axes_of = np.concatenate([axes_of, np.zeros((1, known.shape[1]))])
    figure = Figure(figsize=(7.0, 5.4), layout="constrained")
    axes = figure.subplots()
    flat = met @ axes_of.T  # [M, 2]
    for points, size, colour, label in (
        (known @ axes_of.T, 5, "0.75", "data"),
        (flat[~far], 7, SEEN, "learned policy, near the data"),
        (flat[far], 11, UNSEEN, "learned policy, far from the data"),
    ):
        axes.scatter(points[:, 0], points[:, 1], s=size, color=colour, linewidths=0, label=label)
    axes.set(xlabel="first principal axis of the data's observations", ylabel="second")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, fontsize="small")
    figure.suptitle(f"{title}: {far.mean():.0%} of the policy's steps lie outside the data")
    return figure, [f"Steps of the policy outside the data: {int(far.sum())} of {len(far)} (1 % of the data's own would be)"]


def _play(model: Any, env: "VecEnv", n_episodes: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the observations [N, …] and actions [N, …] of a policy's episodes."""
    observation: Any = env.reset()
    state, start, ended = None, np.ones(1, bool), 0
    states, actions = [], []
    while ended < n_episodes:
        action, state = model.predict(observation, state, start, deterministic=True)
        states.append(np.array(observation[0], np.float64))
        actions.append(np.array(action[0]))
        observation, _, start, _ = env.step(action)
        ended += int(start[0])
    return np.stack(states), np.stack(actions)


def outside(known: np.ndarray, done: np.ndarray, met: np.ndarray, actions: np.ndarray, space: Any) -> np.ndarray:
    """Return which pairs of a policy lie farther from the data than 99 % of the data's pairs from their nearest, bool [M].

    :param known: observations of the data, each dimension of deviation 1, [N, D]
    :param done: their actions [N, …]; a Box's count as further dimensions, Discrete ones must be the same
    :param met: observations of the policy [M, D]
    :param actions: its actions [M, …]
    :param space: of the actions
    """
    from gymnasium import spaces

    if isinstance(space, spaces.Discrete):
        far = np.ones(len(met), bool)
        for action in range(int(space.n)):
            own, mine = known[done == action], actions == action
            if len(own) > 1 and mine.any():
                far[mine] = _nearest(met[mine], own) > _own_distance(own)
        return far
    scale = np.asarray(space.high - space.low).ravel()
    pairs = [np.concatenate([x, 2.0 * a.reshape(len(a), -1) / scale], axis=1) for x, a in ((known, done), (met, actions))]
    return _nearest(pairs[1], pairs[0]) > _own_distance(pairs[0])


def _own_distance(rows: np.ndarray) -> float:
    return float(np.quantile(_nearest(rows, rows, others=True), FAR))


def _nearest(points: np.ndarray, rows: np.ndarray, others: bool = False) -> np.ndarray:
    """Distance of each point to the nearest row, [M]; ``others``: the points are the rows, and each looks at the others."""
    found = []
    for start in range(0, len(points), 256):
        part = points[start : start + 256]
        squares = ((part**2).sum(axis=1)[:, None] + (rows**2).sum(axis=1) - 2 * part @ rows.T).clip(min=0.0)
        if others:
            squares[np.arange(len(part)), start + np.arange(len(part))] = np.inf
        found.append(np.sqrt(squares.min(axis=1)))
    return np.concatenate(found)
