"""Normalised scores of the learners from data on the standard data sets: a table of worlds and qualities by learners.

    sb3-lecture record qualities --seed 0
    python scripts/offline_table.py maze cartpole pendulum --seeds 1 2 3

The learners have the values of their configs; only the gradient steps are given here.
"""

import argparse
import sys
from typing import Any

import numpy as np
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

import sb3_lecture_envs  # noqa: F401
from sb3_lecture import OfflineDataset
from sb3_lecture.exact import ExactGrader
from sb3_lecture.exact.in_support import offline_grade
from sb3_lecture.zoo import configs, registry, safe
from sb3_lecture.zoo.grading import has_law
from sb3_lecture.zoo.qualities import QUALITIES, WORLDS

LEARNERS = ("bc", "bc 10%", "bcq", "cql", "iql", "awac", "td3bc")
NOT_OF_THE_CLASS = {"n_timesteps", "policy", "dataset", "env_kwargs"}


def train(learner: str, world: str, quality: str, seed: int, n_steps: int, folder: str) -> tuple[float, float | None] | None:
    """Learn once; return the normalised score, and the exact regret to the in-support optimum where the law is known."""
    algo, _, share = learner.partition(" ")
    where = WORLDS[world]
    entries = configs.read_entries(configs.config_path(algo))
    if where.env_id not in entries:
        return None
    entry: dict[str, Any] = {key: value for key, value in entries[where.env_id].items() if key not in NOT_OF_THE_CLASS}
    entry["policy_kwargs"] = safe.value(entry["policy_kwargs"])
    if share:
        entry["top_share"] = 0.1
    kwargs = {key: safe.value(text) for key, text in where.env_kwargs.items()}
    env = make_vec_env(where.env_id, 1, seed=seed, env_kwargs=kwargs)
    data = OfflineDataset.load(f"{folder}/{world}/{quality}.npz")
    model: Any = registry.algorithm(algo)("MlpPolicy", env, data, seed=seed, device="cpu", **entry)
    model.learn(n_steps)
    env.seed(1000 + seed)
    score = data.score(float(evaluate_policy(model, env, 20)[0]))
    assert score is not None
    regret = None
    if has_law(env):
        regret = offline_grade(ExactGrader(env, model.gamma), model, data.observations, data.actions).regret
    env.close()
    return score, regret


def main() -> int:
    """Print the table, a row as soon as it is whole."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("worlds", nargs="*", default=list(WORLDS), choices=[*WORLDS, []], help="default: all")
    parser.add_argument("--qualities", nargs="+", default=QUALITIES, choices=QUALITIES, help="default: all")
    parser.add_argument("--learners", nargs="+", default=LEARNERS, choices=LEARNERS, help="default: all")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2, 3], help="default 1 2 3")
    parser.add_argument("-n", "--n-steps", type=int, default=5000, help="gradient steps, default 5000")
    parser.add_argument("--data", default="data", help="the folder of record qualities")
    args = parser.parse_args()
    print(f"| world | quality | data | {' | '.join(args.learners)} |\n| --- | --- | --- |{' --- |' * len(args.learners)}")
    for world in args.worlds:
        for quality in args.qualities:
            data = OfflineDataset.load(f"{args.data}/{world}/{quality}.npz")
            returns = data.returns()
            best = np.sort(returns)[-max(1, len(returns) // 10) :]  # the best decile
            own = [f"{data.score(float(part.mean())):.1f}" for part in (returns, best)]
            cells = []
            for learner in args.learners:
                runs = [train(learner, world, quality, seed, args.n_steps, args.data) for seed in args.seeds]
                got = [run for run in runs if run is not None]
                if not got:
                    cells.append("")
                    continue
                scores = np.array([run[0] for run in got])
                regrets = [run[1] for run in got if run[1] is not None]
                exact = f" ({np.mean(regrets):.2g})" if regrets else ""
                cells.append(
                    f"{scores.mean():.1f} ± {scores.std(ddof=1):.1f}{exact}" if len(got) > 1 else f"{scores[0]:.1f}{exact}"
                )
            print(f"| {world} | {quality} | {own[0]}, best tenth {own[1]} | {' | '.join(cells)} |", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
