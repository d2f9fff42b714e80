"""``record qualities``: the standard data sets of a world, from one training, by one seed.

A learner is trained by its config. Some 30 times its acting policy, exploration included, is kept and plays some episodes:

- ``expert``: what played best; its return without exploration is J_expert, a random player's is J_random
- ``medium``: the first that got a third of the way from J_random to the best
- ``medium-replay``: all that was lived until then
- ``mixed``: half medium, half expert
- ``random``: random actions

as D4RL has them (Fu et al. 2020, https://arxiv.org/abs/2004.07219). Every file holds J_random and J_expert, so that a
learner's score is 100 (J − J_random) / (J_expert − J_random).
"""

import argparse
import contextlib
import io
import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from sb3_lecture.zoo import registry, safe
from sb3_lecture.zoo.errors import UserError, first_line, nearest
from sb3_lecture.zoo.options import StoreDict, add_run_options, folder, import_packages, resolve_env, seed, steps, whole

if TYPE_CHECKING:
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.vec_env import VecEnv

    from sb3_lecture.offline.dataset import OfflineDataset

N_SNAPSHOTS = 30


class World(NamedTuple):
    """A world of the standard data sets.

    :param env_id: its id
    :param algo: who learns
    :param env_kwargs: arguments of the env, as texts
    """

    env_id: str
    algo: str
    env_kwargs: Mapping[str, str] = MappingProxyType({})


WORLDS: dict[str, World] = {
    "maze": World("Lecture/Maze-v0", "q_learning"),
    "four-rooms": World("Lecture/GridWorld-v0", "q_learning", {"map": "'four-rooms'"}),
    "cliff": World("Lecture/CliffWalking-v0", "q_learning"),
    "slippery-cliff": World("Lecture/CliffWalking-v0", "q_learning", {"slip": "0.1"}),
    "cartpole": World("CartPole-v1", "ppo"),
    "lunarlander": World("LunarLander-v3", "ppo"),
    "pendulum": World("Pendulum-v1", "sac"),
}
QUALITIES = ("random", "medium", "medium-replay", "expert", "mixed")


class Made(NamedTuple):
    """What a training gave.

    :param data: quality → data set
    :param at: quality → env steps of the training when its player was kept
    """

    data: "dict[str, OfflineDataset]"
    at: dict[str, int]


def options(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    parser.description = (
        "Make the standard data sets of worlds (random, medium, medium-replay, expert, mixed) from one training each: "
        f"{', '.join(WORLDS)}, or any env id with --algo."
    )
    parser.add_argument("worlds", nargs="*", metavar="WORLD", help="a name or an env id; default: all names")
    parser.add_argument("--algo", help="who learns; default: the name's")
    parser.add_argument("--env-kwargs", nargs="+", action=StoreDict, metavar="NAME:VALUE", help="arguments of the env")
    parser.add_argument("--n-timesteps", type=steps, default=-1, help="env steps of the training; default: the config's")
    parser.add_argument("-n", "--n-steps", type=steps, default=20_000, help="transitions of each, default 20000")
    parser.add_argument("--n-episodes", type=whole(1, 10**6), default=20, help="that judge a player, default 20")
    parser.add_argument("--seed", type=seed, default=0, help="random seed, default 0")
    parser.add_argument("-o", "--output", type=folder, default="data", metavar="FOLDER", help="default data: data/maze/…")
    add_run_options(parser)


def run(args: argparse.Namespace) -> int:
    """Make data sets and say what is in them.

    :raises UserError: if a world or an algorithm is unknown, or the learner got no better than chance
    """
    import_packages(args.gym_packages)
    chosen = {name: _world(name, args) for name in args.worlds or WORLDS}
    for name, world in chosen.items():
        made = make(world, args.seed, args.n_steps, args.n_episodes, args.n_timesteps, args.trust)
        where = Path(args.output) / name.replace("/", "-")
        reference = made.data["random"].reference
        assert reference is not None
        print(f"{name}: random {reference[0]:.2f}, expert {reference[1]:.2f} (score 0 and 100)")
        for quality in QUALITIES:
            data = made.data[quality]
            data.save(where / f"{quality}.npz")
            returns = data.returns()
            player = f", player of step {made.at[quality]}" if quality in made.at else ""
            print(
                f"  {quality + '.npz':18} {len(data):7} steps {len(returns):6} episodes, return {returns.mean():8.2f} ± "
                f"{returns.std():.2f}, score {data.score(float(returns.mean())):6.1f}{player}"
            )
        print(f"Data:    {where}")
    kwargs = [f"{key}:{text}" for key, text in world.env_kwargs.items()]
    given = f" --env-kwargs {' '.join(kwargs)}" if kwargs else ""
    discrete = type(made.data["random"].action_space).__name__ == "Discrete"
    algo = "iql" if discrete else "td3bc"
    print(f"Next:    sb3-lecture train --algo {algo} --env {world.env_id}{given} --dataset {where}/medium.npz")
    return 0


def _world(name: str, args: argparse.Namespace) -> World:
    if name in WORLDS:
        world = WORLDS[name]
    elif args.algo is None:
        try:
            resolve_env(name)
        except UserError as error:
            raise UserError(
                f"unknown world {name!r}{nearest(name, WORLDS)}; known: {', '.join(WORLDS)}, and env ids"
            ) from error
        raise UserError(f"say who learns in {name}: --algo dqn")
    else:
        world = World(resolve_env(name), args.algo)
    if args.algo is not None:
        registry.target(args.algo)
        world = world._replace(algo=args.algo)
    return world._replace(env_kwargs={**world.env_kwargs, **(args.env_kwargs or {})})


def make(world: World, seed: int, n_steps: int, n_episodes: int = 20, n_timesteps: int = -1, trust: bool = False) -> Made:
    """Train once and record the five qualities.

    :param world: where, and who learns
    :param seed: of all
    :param n_steps: transitions of each data set but the replay
    :param n_episodes: episodes that judge a player
    :param n_timesteps: env steps of the training, -1 for the config's
    :param trust: run what the config holds
    :raises UserError: if the learner does not fit the world or got no better than chance
    """
    from stable_baselines3.common.env_util import make_vec_env
    from stable_baselines3.common.utils import set_random_seed
    from stable_baselines3.common.vec_env import unwrap_vec_normalize

    from sb3_lecture.offline.dataset import OfflineDataset
    from sb3_lecture.offline.recording import Watched, columns_of

    kwargs = {key: safe.value(text, trust) for key, text in world.env_kwargs.items()}
    env = make_vec_env(world.env_id, 1, seed=seed, env_kwargs=kwargs)
    set_random_seed(seed)
    with tempfile.TemporaryDirectory() as place:
        model, total = _learner(world, seed, n_timesteps, place, trust)
        inside = model.get_env()
        assert inside is not None
        if unwrap_vec_normalize(inside) is not None:
            raise UserError(f"{world.algo} learns {world.env_id} under VecNormalize: its observations are not the world's own")
        watched = Watched(inside)
        try:
            model.set_env(watched)
            players = _train(model, total, env, n_episodes, seed)
            chance = _episode_return(None, env, n_episodes, seed)
            expert = max(players, key=lambda player: (player.value, player.at))
            if expert.value <= chance:
                raise UserError(f"{world.algo} got no better than chance in {total} steps: nothing to record")
            medium = next(player for player in players if player.value >= chance + (expert.value - chance) / 3)
            medium.put(model)
            spaces_ = (env.observation_space, env.action_space)
            recorded = {
                "random": OfflineDataset.record(env, n_steps, seed=seed),
                "medium": OfflineDataset.record(env, n_steps, model, deterministic=False, seed=seed + 1),
                "medium-replay": OfflineDataset.of(*spaces_, columns_of(watched.rows[: max(medium.at // model.n_envs, 1)])),
            }
            half = OfflineDataset.record(env, -(-n_steps // 2), model, deterministic=False, seed=seed + 2)
            expert.put(model)
            recorded["expert"] = OfflineDataset.record(env, n_steps, model, deterministic=False, seed=seed + 3)
            best = OfflineDataset.record(env, -(-n_steps // 2), model, deterministic=False, seed=seed + 4)
            recorded["mixed"] = half.joined(best)
            reference = (chance, max(expert.value, _episode_return(model, env, n_episodes, seed, deterministic=True)))
        except ValueError as error:
            raise UserError(f"{world.algo} on {world.env_id}: {first_line(error)}") from error
        finally:
            watched.close()
            env.close()
    data = {name: _with(part, reference) for name, part in recorded.items()}
    return Made(data, {"medium": medium.at, "expert": expert.at})


def _with(data: "OfflineDataset", reference: tuple[float, float]) -> "OfflineDataset":
    from dataclasses import replace

    return replace(data, reference=reference)


def _learner(world: World, seed: int, n_timesteps: int, place: str, trust: bool) -> "tuple[BaseAlgorithm, int]":
    """Build a learner as ``train`` does, and say how many steps it takes."""
    from sb3_lecture.zoo import train
    from sb3_lecture.zoo.options import Parser

    parser = Parser()
    train.options(parser)
    words = ["--algo", world.algo, "--env", world.env_id, "--seed", str(seed), "-f", place, "--no-progress"]
    words += ["--eval-freq=-1", "--checkpoint-every=-1", "--device=cpu", f"--n-timesteps={n_timesteps}"][
        : 3 + (n_timesteps > 0)
    ]
    args = parser.parse_args(words)
    args.env_kwargs, args.trust = dict(world.env_kwargs), trust
    train.complete(args)
    manager = train._manager(args)
    with contextlib.redirect_stdout(io.StringIO()):  # the config, and a folder that nobody sees again
        model, _ = manager.setup_experiment()
    return model, int(manager.n_timesteps)


class _Player(NamedTuple):
    """A policy as it acted at some time of the training.

    :param at: env steps
    :param value: mean return of its episodes
    :param policy: its parameters
    :param exploration: chance of a random action, None where it has none
    """

    at: int
    value: float
    policy: dict[str, Any]
    exploration: float | None

    def put(self, model: "BaseAlgorithm") -> None:
        """Let a model act so again."""
        model.policy.load_state_dict(self.policy)
        if self.exploration is not None:
            model.exploration_rate = self.exploration  # type: ignore[attr-defined]


def _train(model: "BaseAlgorithm", total: int, env: "VecEnv", n_episodes: int, seed: int) -> list[_Player]:
    """Learn, and keep players on the way."""
    import torch as th
    from stable_baselines3.common.callbacks import BaseCallback

    players: list[_Player] = []
    every = max(total // N_SNAPSHOTS, 1)

    class Keep(BaseCallback):
        def _on_step(self) -> bool:
            if self.num_timesteps >= every * (len(players) + 1):
                self.keep()
            return True

        def keep(self) -> None:
            drawn = np.random.get_state(), th.get_rng_state()  # judging changes nothing of the training
            value = _episode_return(self.model, env, n_episodes, seed)
            np.random.set_state(drawn[0])
            th.set_rng_state(drawn[1])
            policy = {name: part.detach().clone() for name, part in self.model.policy.state_dict().items()}
            players.append(_Player(self.num_timesteps, value, policy, getattr(self.model, "exploration_rate", None)))

    keeper = Keep()
    model.learn(total, keeper)
    if not players or players[-1].at < model.num_timesteps:
        keeper.keep()
    return players


def _episode_return(
    model: "BaseAlgorithm | None", env: "VecEnv", n_episodes: int, seed: int, deterministic: bool = False
) -> float:
    """Mean return of a player's episodes; None: of random actions."""
    env.seed(seed)
    env.action_space.seed(seed)
    returns: list[float] = []
    observation, running = env.reset(), 0.0
    while len(returns) < n_episodes:
        if model is None:
            action = np.stack([np.asarray(env.action_space.sample())])
        else:
            action = model.predict(observation, deterministic=deterministic)[0]  # type: ignore[arg-type]
        observation, reward, done, _ = env.step(action)
        running += float(reward[0])
        if done[0]:
            returns.append(running)
            running = 0.0
    return float(np.mean(returns))
