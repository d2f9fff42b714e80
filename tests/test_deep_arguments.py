"""Every argument of the deep and evolutionary learners has an effect: another value leads to other parameters.

The tables below must name all arguments of a class, so that a new one comes with its effect.
"""

import functools
import inspect

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.buffers import ReplayBuffer, RolloutBuffer
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_lecture import REINFORCE, ActorCritic, PPOPenalty
from sb3_lecture.evolutionary.base import PopulationAlgorithm
from sb3_lecture.evolutionary.cma_es import CMAES
from sb3_lecture.evolutionary.evolution_strategies import EvolutionStrategies
from sb3_lecture.evolutionary.genetic_algorithm import GeneticAlgorithm
from sb3_lecture.policy_gradient.mpo import MPO
from sb3_lecture.policy_gradient.sac_discrete import SACDiscrete
from sb3_lecture.value_based.barebone_dqn import BareboneDQN
from sb3_lecture.value_based.deep_q_learning import DeepQLearning


class Walk(gym.Env):
    """A number that the action moves and noise disturbs; pays how near it is to 1; five steps, or up to 2."""

    observation_space = spaces.Box(-10.0, 10.0, (1,), np.float32)

    def __init__(self, box):
        self.action_space = spaces.Box(-1.0, 1.0, (1,), np.float32) if box else spaces.Discrete(2)
        self.box = box

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.t, self.x = 0, np.float32(self.np_random.normal())
        return np.full(1, self.x, np.float32), {}

    def step(self, action):
        self.t += 1
        self.x = np.clip(
            self.x + (float(action[0]) if self.box else 2.0 * action - 1.0) + 0.1 * self.np_random.normal(), -9, 9
        )
        return np.full(1, self.x, np.float32), -abs(float(self.x) - 1.0), self.x > 2.0, self.t == 5, {}


def linear(progress):
    return 0.1 * progress


class OtherReplay(ReplayBuffer):
    def sample(self, batch_size, env=None):
        return super().sample(2 * batch_size, env)


class Tilted(RolloutBuffer):
    def __init__(self, *args, bonus=1.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.bonus = bonus

    def compute_returns_and_advantage(self, last_values, dones):
        super().compute_returns_and_advantage(last_values, dones)
        self.returns += self.bonus


SGD = {"policy_kwargs": {"optimizer_class": th.optim.SGD, "net_arch": [4]}, "learning_rate": 0.1, "gamma": 0.9}
BOX = {"box": True}
SEARCH = {"policy_kwargs": {"net_arch": [2]}, "population_size": 4} | BOX
SDE = BOX | {"use_sde": True}
#: what every class of SB3 has, and what is tested below by itself
COMMON = {"policy", "env", "verbose", "device", "tensorboard_log", "stats_window_size", "_init_setup_model", "kwargs", "self"}
ON_POLICY = {
    "learning_rate": linear, "gamma": 0.5, "ent_coef": 0.5, "vf_coef": 2.0, "max_grad_norm": 1e-3, "seed": 1,
    "use_sde": (SDE, BOX), "sde_sample_freq": (SDE | {"sde_sample_freq": 1}, SDE),
    "policy_kwargs": {"optimizer_class": th.optim.SGD, "net_arch": [3]},
}  # fmt: skip
BUFFER = {
    "rollout_buffer_class": Tilted,
    "rollout_buffer_kwargs": ({"rollout_buffer_class": Tilted, "rollout_buffer_kwargs": {"bonus": 3.0}},
                              {"rollout_buffer_class": Tilted}),
}  # fmt: skip
REPLAY, ENDS, PLAIN = {"replay": True}, {"handle_timeout_termination": False}, {"replay_buffer_class": ReplayBuffer}
FULL = {"buffer_size": 8}
OFF_POLICY = {
    "learning_rate": linear, "buffer_size": 8, "learning_starts": 20, "batch_size": 5, "gamma": 0.5, "train_freq": 3,
    "gradient_steps": 2, "seed": 1, "replay_buffer_class": OtherReplay, "n_steps": 3,
    "replay_buffer_kwargs": (PLAIN | {"replay_buffer_kwargs": ENDS}, PLAIN),
    "optimize_memory_usage": ({"optimize_memory_usage": True, "replay_buffer_kwargs": ENDS} | FULL, FULL),
    "policy_kwargs": {"optimizer_class": th.optim.SGD, "net_arch": [3]},
}  # fmt: skip
QUANTILES, IMPLICIT = {"distribution": "quantile"}, {"distribution": "implicit-quantile"}
SOFT = {"munchausen": True, "munchausen_tau": 0.3}
POPULATION = {
    "population_size": 6, "n_eval_episodes": 2, "common_random_numbers": True, "normalize_observations": True, "seed": 1,
    "policy_kwargs": {"net_arch": [3]},
}  # fmt: skip
#: class, its settings, and for each argument another value, or (settings with it, settings without it)
TABLE = {
    REINFORCE: (SGD | {"n_episodes": 2}, ON_POLICY | {
        "n_episodes": 3, "returns": "total", "baseline": "mean", "normalize_returns": True, "discount_gradient": True,
    }),
    ActorCritic: (SGD | {"n_steps": 4}, ON_POLICY | BUFFER | {"critic": "q", "n_steps": 3, "normalize_advantage": True}),
    PPOPenalty: (SGD | {"n_steps": 16, "batch_size": 8, "n_epochs": 2}, ON_POLICY | BUFFER | {
        "n_steps": 24, "batch_size": 4, "n_epochs": 3, "gae_lambda": 0.5, "beta": 100.0, "normalize_advantage": False,
        "adaptive": ({"adaptive": False, "target_kl": 1.0}, {"target_kl": 1.0}), "target_kl": 1e-6, "clip_range_vf": 1e-4,
    }),
    SACDiscrete: (SGD | {"learning_starts": 5, "buffer_size": 100, "batch_size": 4}, OFF_POLICY | {
        "tau": 1.0, "actor_gradient": "score_function", "ent_coef": 0.0, "target_entropy": 0.1, "target_update_interval": 5,
        "gumbel_temperature": ({"actor_gradient": "gumbel_softmax", "gumbel_temperature": 5.0},
                               {"actor_gradient": "gumbel_softmax"}),
    }),
    MPO: (
        SGD | BOX | {"learning_starts": 5, "buffer_size": 100, "batch_size": 4, "target_update_interval": 3,
                     "epsilon_std": 0.01},
        OFF_POLICY | {
            "n_samples": 5, "epsilon": 0.01, "epsilon_mean": 0.5, "epsilon_std": 0.5, "multiplier_learning_rate": 1.0,
            "multiplier_init": 1.0, "multiplier_init_std": 1.0, "target_update_interval": 5, "max_grad_norm": 1e-3,
        },
    ),
    BareboneDQN: (
        SGD | REPLAY | {"target_network": True, "target_update_interval": 4, "buffer_size": 100, "batch_size": 4,
                        "exploration_fraction": 0.5},
        OFF_POLICY | {
            "replay": False, "target_network": False, "double": True, "tau": 0.5, "target_update_interval": 7,
            "exploration_fraction": 0.9, "exploration_initial_eps": 0.5, "exploration_final_eps": 0.9, "max_grad_norm": 1e-3,
        },
    ),
    DeepQLearning: (
        SGD | {"target_update_interval": 4, "buffer_size": 100, "batch_size": 4, "train_freq": 1, "learning_starts": 5,
               "exploration_fraction": 0.5},
        OFF_POLICY | {
            "tau": 0.5, "target_update_interval": 7, "exploration_fraction": 0.9, "exploration_initial_eps": 0.5,
            "exploration_final_eps": 0.9, "max_grad_norm": 1e-3, "double": True, "dueling": True, "prioritized": True,
            "noisy": True, "munchausen": True, "distribution": "quantile",
            "kappa": (QUANTILES | {"kappa": 0.01}, QUANTILES),
            "n_tau": (IMPLICIT | {"n_tau": 3}, IMPLICIT), "n_tau_prime": (IMPLICIT | {"n_tau_prime": 3}, IMPLICIT),
            "munchausen_alpha": (SOFT | {"munchausen_alpha": 0.1}, SOFT),
            "munchausen_tau": (SOFT | {"munchausen_tau": 1.0}, SOFT),
            "munchausen_clip": (SOFT | {"munchausen_clip": -0.01}, SOFT),
        },
    ),
    EvolutionStrategies: (SEARCH, POPULATION | {
        "learning_rate": linear, "sigma": 0.5, "weight_decay": 1.0,
        "fitness_shaping": ({"fitness_shaping": "none"} | SEARCH | {"policy_kwargs": SGD["policy_kwargs"]},
                            SEARCH | {"policy_kwargs": SGD["policy_kwargs"]}),
    }),
    GeneticAlgorithm: (SEARCH | {"n_parents": 2}, POPULATION | {
        "n_parents": 3, "sigma": 0.5, "n_elite_candidates": 1, "n_elite_episodes": 0,
    }),
    CMAES: (SEARCH, POPULATION | {"sigma": 0.1, "sep_above": 1}),
}  # fmt: skip
CASES = [(cls, name) for cls, (_, others) in TABLE.items() for name in others]


@functools.cache
def _trained(cls, frozen):
    settings = dict(frozen)
    box = settings.pop("box", False)
    settings = {key: value.value if isinstance(value, Kept) else value for key, value in settings.items()}
    model = cls("MlpPolicy", DummyVecEnv([lambda: Walk(box)]), device="cpu", **{"seed": 0} | settings)
    model.learn(600 if issubclass(cls, PopulationAlgorithm) else 48)
    learned = [*model.policy.parameters(), *([model.parents] if cls is GeneticAlgorithm else [])]
    return th.cat([parameter.detach().flatten() for parameter in learned])


class Kept:
    """A value that has no hash, told by what it looks like."""

    def __init__(self, value):
        self.value = value

    def __hash__(self):
        return hash(repr(self.value))

    def __eq__(self, other):
        return repr(self.value) == repr(other.value)


def trained(cls, settings):
    """The parameters after a short training."""
    return _trained(cls, tuple(sorted((key, Kept(value)) if isinstance(value, dict) else (key, value) for key, value in
                                      settings.items())))  # fmt: skip


@pytest.mark.parametrize(("cls", "name"), CASES, ids=lambda x: getattr(x, "__name__", x))
def test_the_argument_has_an_effect(cls, name):
    base, others = TABLE[cls]
    other = others[name]
    with_it, without = other if isinstance(other, tuple) else ({name: other}, {})
    changed, plain = trained(cls, base | with_it), trained(cls, base | without)
    assert changed.shape != plain.shape or not th.equal(changed, plain), f"{name} changes nothing"


@pytest.mark.parametrize("cls", TABLE, ids=lambda cls: cls.__name__)
def test_the_table_names_every_argument(cls):
    known = set(inspect.signature(cls).parameters)
    if issubclass(cls, PopulationAlgorithm):
        known |= set(inspect.signature(PopulationAlgorithm).parameters)
    assert known - COMMON == set(TABLE[cls][1])


@pytest.mark.parametrize("cls", TABLE, ids=lambda cls: cls.__name__)
def test_log_folder_and_window_reach_sb3(cls, tmp_path):
    base = {key: value for key, value in TABLE[cls][0].items() if key != "box"}
    env = DummyVecEnv([lambda: Walk(False)])
    model = cls("MlpPolicy", env, tensorboard_log=str(tmp_path), stats_window_size=7, seed=0, **base)
    model.learn(6)
    assert model.ep_info_buffer.maxlen == 7 and len(list(tmp_path.rglob("events.out.tfevents.*"))) == 1


@pytest.mark.parametrize(("cls", "more"), [(BareboneDQN, {"replay": True}), (SACDiscrete, {}), (DeepQLearning, {})])
def test_a_model_of_n_steps_is_loaded_with_a_memory_of_n_steps(cls, more, tmp_path):
    model = cls("MlpPolicy", "CartPole-v1", n_steps=3, gamma=0.5, buffer_size=100, **more)
    model.save(tmp_path / "model")
    loaded = cls.load(tmp_path / "model")  # warnings are errors here
    assert (loaded.replay_buffer.n_steps, loaded.replay_buffer.gamma) == (3, 0.5)
    assert loaded.replay_buffer_class is None and loaded.replay_buffer_kwargs == {}
