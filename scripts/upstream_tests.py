"""Run SB3's or sb3-contrib's own tests with our classes in the place of their nearest kin; see docs/promises.md.

The kin's name is bound to our class before the test files are imported, and tests that do not use it are left away. Arguments
that our class does not have are dropped. Where a method is made for other spaces, the ids of the tests' envs get a world that
fits. A failure for one of the ``REASONS`` counts as left out; any other one is a failure.
"""

import argparse
import functools
import inspect
import re
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import sb3_contrib.common.envs  # its classes inherit from envs that get a stand-in
import stable_baselines3
from gymnasium.envs.classic_control.pendulum import PendulumEnv
from stable_baselines3.common import envs
from stable_baselines3.common.base_class import BaseAlgorithm

import sb3_lecture
import sb3_lecture_envs  # noqa: F401
from sb3_lecture.common.checks import keywords_of

FILES = ("save_load", "callbacks", "run", "predict", "deterministic", "logger", "spaces", "dict_env", "utils")
ALL = [name for name in sb3_lecture.__all__ if issubclass(getattr(sb3_lecture, name), BaseAlgorithm)]
#: class or room → kin in SB3, kin in contrib, world, settings that the tests do not give
PLACES: dict[str, tuple[str, str, str, dict[str, Any]]] = {
    "ActorCritic": ("A2C", "", "", {}),
    "REINFORCE": ("A2C", "", "", {"n_episodes": 2}),
    "PPOPenalty": ("PPO", "TRPO", "", {}),
    "BareboneDQN": ("DQN", "QRDQN", "", {"replay": True, "target_network": True}),
    "value_based": ("DQN", "QRDQN", "", {}),
    "SACDiscrete": ("SAC DQN", "", "torques", {}),
    "MPO": ("SAC DQN", "", "", {}),
    "tabular": ("DQN", "QRDQN", "Lecture/CliffWalking-v0", {}),
    "linear": ("DQN", "QRDQN", "Lecture/CliffWalking-v0", {}),
    "evolutionary": ("A2C", "ARS", "", {"population_size": 4}),
    "AlphaZero": ("DQN", "", "Lecture/TicTacToe-v0", {"n_simulations": 4, "n_games": 1}),
    "MuZero": ("DQN", "", "", {"n_simulations": 4, "n_games": 1, "batch_size": 8}),
    "DreamerV3": ("A2C", "", "", {"policy_kwargs": {"size": "debug"}, "batch_size": 4, "batch_length": 8}),
    "offline": ("DQN", "QRDQN", "", {"dataset": "random:300"}),
    "TD3BC": ("TD3", "TQC", "", {"dataset": "random:300"}),
    "games": ("DQN", "QRDQN", "Lecture/KuhnPoker-v0", {}),
    "WorldModels": ("A2C", "", "", {"population_size": 4, "n_generations": 1, "vae_epochs": 1, "rnn_epochs": 1}),
}
WHOLE = "RNaD|MagnetPPO|REINFORCE|EvolutionStrategies|GeneticAlgorithm|CMAES|WorldModels"  # play episodes to their end
#: reason, explained in the docs → what the "class test: error" of a test that is left out looks like
REASONS = {
    "action": r"test_predict\[(cpu|auto)-CartPole.*assert False",
    "counts": r"check_uniform_bounds|to - 1 is out of bounds for bool|QSigma test_save_load.*did not change",
    "data": r"(BCQ?|[CI]QL|AWAC|TD3BC) test_callbacks.*`dones`|'replay_buffer' of '\w+' object has no setter"
    r"|VecNormalize would scale",
    "episodes": rf"({WHOLE}|ValueIteration|Policy\w+) test_(set_env.*assert \d+ == |eval_friendly.*assert False)"
    r"|MuZero test_offpolicy_multi",
    "error": r"must be (an? |one of)|must have one axis|test_ppo_warnings",
    "files": r"holds no \w+ \(|item named 'data'",
    "learning": r"C51 test_eval_success_logging.* > 0.5",
    "name": r"DQN_1",
    "parts": r"Policy \w+ unknown|no attribute '(dones|observations|replay_buffer|q_net|quantile_net|actor)'"
    r"|no attribute 'target_update_interval'|'Network' object has no attribute 'predict'|needs a PrioritizedReplayBuffer"
    r"|(?!Bare)\w+ test_(save_load_no_target|warn_dqn)|(?!Bare|SAC)\w+ test_(warn_buffer\[True|offpolicy_multi)"
    r"|(\w*CFR\w*|\w*RNaD|MagnetPPO) test_checkpoint_additional_info"
    r"|SACDiscrete test_save_load_pytorch_var|'async_eval'|specified policy kwargs|test_ars_n_top",
    "spaces": r"only supports|needs? a (Discrete|Box)|takes Discrete|DID NOT RAISE .*Assertion|VecNormalize moves"
    r"|LSTD takes at most",
    "law": r"states no rules|needs the world's law|KeyError: 'new_obs'",
    "time": r"test_fps_logger.*1000 / 10",
}
ENDLESS = rf"({WHOLE}) test_action_spaces\[env2"  # an env without an end


def set_world(name: str) -> None:
    """Let the ids of the tests' envs be a world of ours, or Pendulum with five torques, and SB3's own envs Discrete."""
    pendulum, image = name == "torques", envs.FakeImageEnv
    for env_id in ("Pendulum-v1",) if pendulum else ("Pendulum-v1", "CartPole-v1"):
        gym.registry.pop(env_id)
        gym.register(
            env_id, torques if pendulum else lambda **kwargs: gym.make(name, **kwargs).unwrapped, max_episode_steps=200
        )
    if not pendulum:
        envs.IdentityEnv = lambda *args, **kwargs: gym.make(name)  # type: ignore
    envs.IdentityEnvBox = lambda low=-1, high=1, eps=0.05, ep_length=100: envs.IdentityEnv(5, ep_length=ep_length)  # type: ignore
    envs.FakeImageEnv = lambda *args, **kwargs: image(*args, **{**kwargs, "discrete": True})  # type: ignore


def torques(**kwargs: Any) -> gym.Env:
    """Pendulum that takes one of five torques."""
    force: Any = lambda action: np.array([action - 2.0], np.float32)  # noqa: E731
    return gym.wrappers.TransformAction(PendulumEnv(**kwargs), force, gym.spaces.Discrete(5))


def put_in_place(ours: type[BaseAlgorithm], kin: str, settings: dict[str, Any]) -> set[str]:
    """Bind the kin's name to our class, which now takes and drops the kin's arguments; return the names that it drops."""
    dropped, init, known = set[str](), ours.__init__, keywords_of(ours)
    fixed = {key: value for key, value in settings.items() if key != "policy_kwargs"}

    @functools.wraps(init)
    def fitted(model: Any, policy: Any, env: Any = None, **kwargs: Any) -> None:
        asked = {**settings.get("policy_kwargs", {}), **(kwargs.pop("policy_kwargs", None) or {})}
        kind = ours.policy_aliases.get(policy) if isinstance(policy, str) else policy
        taken = asked.keys() if kind is None else keywords_of(kind)
        dropped.update((asked.keys() - taken) | (kwargs.keys() - known))
        if "population_size" in settings and isinstance(env, str):
            env = gym.make(env)  # an id would give one env a candidate
        kwargs = {key: value for key, value in {**fixed, **kwargs}.items() if key in known}
        init(model, policy, env, policy_kwargs={key: asked[key] for key in asked if key in taken}, **kwargs)  # type: ignore

    ours.__init__ = fitted  # type: ignore[method-assign]
    for package in (stable_baselines3, sb3_contrib):
        if hasattr(package, kin):
            setattr(package, kin, ours)
    return dropped


def make_plugin(ours: type[BaseAlgorithm], kin: str, counts: dict[str, Counter[str]]) -> SimpleNamespace:
    """Make a pytest plugin that runs the tests about the kin, and counts by file what became of them."""

    def count(nodeid: str, outcome: str) -> None:
        counts.setdefault(Path(nodeid.split("::")[0]).stem.removeprefix("test_"), Counter())[outcome] += 1

    def pytest_collection_modifyitems(items: list[Any]) -> None:
        kept = []
        for item in items:
            given = item.callspec.params if hasattr(item, "callspec") else {}
            flat = [part for value in given.values() for part in (value if isinstance(value, (tuple, list)) else [value])]
            asks = kin in item.function.__code__.co_names and not {"algo", "model_class"} & given.keys()
            if not asks and ours not in (part for part in flat if inspect.isclass(part)):
                continue
            if re.match(ENDLESS, f"{ours.__name__} {item.name}"):
                count(item.nodeid, "episodes")
            else:
                kept.append(item)
        items[:] = kept

    def pytest_runtest_logreport(report: Any) -> None:
        if report.when == "call" and not report.skipped:
            test = f"{ours.__name__} {report.nodeid.split('::')[1]}: {report.longrepr and report.longrepr.reprcrash.message}"
            reason = next((reason for reason, pattern in REASONS.items() if re.search(pattern, test)), "FAILED")
            count(report.nodeid, "passed" if report.passed else reason)
            if report.failed:
                print(f"\n{reason}: {test.splitlines()[0]}")

    hooks = (pytest_collection_modifyitems, pytest_runtest_logreport)
    return SimpleNamespace(**{hook.__name__: hook for hook in hooks})


def main() -> int:
    """Run one class here, several in processes of their own; exit with 1 if a test failed for none of the reasons."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkout", type=Path, help="a checkout of stable-baselines3 or stable-baselines3-contrib")
    parser.add_argument("classes", nargs="*", default=ALL, metavar="CLASS[:KIN]", help="of ours (default all)")
    parser.add_argument("--files", nargs="+", default=FILES, help=f"default: {' '.join(FILES)}")
    parser.add_argument("-k", default="", help="pytest's -k: which of the tests run")
    args = parser.parse_args()
    failed = 0
    for name, _, kin in (name.partition(":") for name in args.classes):
        ours = getattr(sb3_lecture, name)
        *places, world, settings = PLACES.get(name) or PLACES[ours.__module__.split(".")[1]]
        kins = [kin] if kin else places[(args.checkout / "sb3_contrib").is_dir()].split()
        if len(args.classes) > 1 or len(kins) > 1:
            again = [sys.executable, __file__, str(args.checkout)]
            for kin in kins:
                command = [*again, f"{name}:{kin}", "--files", *args.files, "-k", args.k]
                failed |= subprocess.run(command, check=False).returncode
            continue
        if world and (world, kins) != ("torques", ["DQN"]):
            set_world(world)
        counts: dict[str, Counter[str]] = {}
        dropped = put_in_place(ours, kins[0], settings)
        with tempfile.TemporaryDirectory() as folder:  # beside the checkout's package, the tests would import that one
            shutil.copytree(args.checkout / "tests", Path(folder) / "tests")
            files = [file for key in args.files if Path(file := f"{folder}/tests/test_{key}.py").exists()]
            options = f"-qq -p no:cacheprovider -p no:xdist --tb=no -W ignore --rootdir {folder} -m".split()
            code = pytest.main([*options, "not expensive", *files, "-k", args.k], plugins=[make_plugin(ours, kins[0], counts)])
        cells = [" ".join(f"{n} {what}" for what, n in counts.get(key, Counter()).items()) for key in args.files]
        print(f"| {name} | {kins[0]} | {' | '.join(cells)} |\ndropped: {', '.join(sorted(dropped))}")
        failed |= code not in (0, 1, 5) or any("FAILED" in count for count in counts.values())
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
