"""The three searches on functions whose optimum is known, on CartPole and on Pendulum."""

import sys
import time

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy

from sb3_lecture.evolutionary.cma_es import CMAES
from sb3_lecture.evolutionary.evolution_strategies import EvolutionStrategies, centered_ranks, es_gradient
from sb3_lecture.evolutionary.genetic_algorithm import GeneticAlgorithm
from sb3_lecture.zoo import cli


class OneStep(gym.Env):
    """An episode is one step that takes d numbers and pays −f(them): a policy of d biases is a point of R^d."""

    observation_space = spaces.Box(0.0, 0.0, (1,))

    def __init__(self, f, d):
        self.f = f
        self.action_space = spaces.Box(-10.0, 10.0, (d,))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.zeros(1, dtype=np.float32), {}

    def step(self, action):
        return np.zeros(1, dtype=np.float32), -float(self.f(np.asarray(action, dtype=np.float64))), True, False, {}


def sphere(x):
    return np.sum((x - 1.5) ** 2)


def rosenbrock(x):  # its minimum is 0, at (1, …, 1), at the end of a bent valley
    return np.sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def search(cls, f, d, generations, **kwargs):
    env = make_vec_env(lambda: OneStep(f, d), n_envs=kwargs["population_size"])
    model = cls("LinearPolicy", env, policy_kwargs={"squash_output": False}, seed=0, **kwargs)
    model.learn(generations * kwargs["population_size"])
    return f(model.predict(np.zeros(1, dtype=np.float32))[0].astype(np.float64))


def test_cma_es_finds_the_minimum_of_the_sphere():
    assert search(CMAES, sphere, 4, 120, population_size=12) < 1e-8


def test_cma_es_finds_the_minimum_of_rosenbrock():
    assert search(CMAES, rosenbrock, 4, 300, population_size=12) < 1e-6


def test_sep_cma_es_takes_over_above_its_limit_and_finds_the_minimum_of_the_sphere():
    assert search(CMAES, sphere, 4, 150, population_size=12, sep_above=3) < 1e-6


def test_cma_es_keeps_the_full_covariance_up_to_its_limit():
    pytest.importorskip("cmaes")
    from cmaes import CMA, SepCMA

    for limit, kind in ((10, CMA), (9, SepCMA)):
        model = CMAES("MlpPolicy", "CartPole-v1", population_size=4, sep_above=limit, seed=0).learn(1)
        assert model.n_params == 10 and type(model._search) is kind


def test_evolution_strategies_and_the_genetic_algorithm_descend_the_sphere():
    start = sphere(np.zeros(4))
    assert search(EvolutionStrategies, sphere, 4, 150, population_size=16, learning_rate=0.05) < 0.01 * start
    assert search(GeneticAlgorithm, sphere, 4, 60, population_size=16, sigma=0.2, n_elite_episodes=0) < 0.05 * start


def test_es_gradient_is_exact_on_a_quadratic_once_the_noise_spans_the_space():
    """On −½ (θ−c)ᵀA(θ−c) antithetic pairs leave ε εᵀ ∇f: with the unit vectors, times √d, for noise it is ∇f itself."""
    rng = np.random.default_rng(0)
    d, sigma = 5, 0.3
    a = rng.normal(size=(d, d))
    a, c, theta = a @ a.T, rng.normal(size=d), rng.normal(size=d)

    def f(x):
        return -0.5 * (x - c) @ a @ (x - c)

    noise = np.sqrt(d) * np.eye(d)
    weights = np.array([f(theta + s * sigma * e) for s in (1, -1) for e in noise])
    np.testing.assert_allclose(es_gradient(noise, weights, sigma), -a @ (theta - c), rtol=1e-10)


def test_es_gradient_is_unbiased_on_a_quadratic():
    rng = np.random.default_rng(1)
    d, sigma, n = 3, 0.5, 20_000
    c, theta = np.array([1.0, -2.0, 0.5]), np.zeros(d)
    noise = rng.normal(size=(n, d))
    weights = np.concatenate([-0.5 * ((theta + s * sigma * noise - c) ** 2).sum(axis=1) for s in (1, -1)])
    singles = np.array([es_gradient(noise[i : i + 1], weights[[i, n + i]], sigma) for i in range(n)])
    error = singles.std(axis=0) / np.sqrt(n)
    assert (np.abs(singles.mean(axis=0) - (c - theta)) <= 3 * error).all()
    np.testing.assert_allclose(singles.mean(axis=0), es_gradient(noise, weights, sigma), rtol=1e-8)


def test_a_constant_fitness_moves_nothing_with_antithetic_noise():
    noise = np.random.default_rng(0).normal(size=(8, 3))
    np.testing.assert_array_equal(es_gradient(noise, np.full(16, 7.0), 0.1), np.zeros(3))


def test_centered_ranks_ignore_the_scale_and_share_ties():
    fitness = np.array([3.0, -1.0, 10.0, 3.0, 200.0])
    np.testing.assert_allclose(centered_ranks(fitness), [-0.125, -0.5, 0.25, -0.125, 0.5])
    np.testing.assert_array_equal(centered_ranks(fitness), centered_ranks(1e3 * fitness - 7.0))
    np.testing.assert_array_equal(centered_ranks(np.ones(6)), np.zeros(6))
    shuffled = np.random.default_rng(0).permutation(9).astype(float)
    np.testing.assert_allclose(centered_ranks(shuffled), shuffled / 8 - 0.5)


def test_weight_decay_shrinks_the_parameters_where_nothing_else_acts():
    env = make_vec_env(lambda: OneStep(lambda x: 0.0, 2), n_envs=4)
    model = EvolutionStrategies("LinearPolicy", env, population_size=4, weight_decay=0.1, learning_rate=1e-3, seed=0)
    before = np.abs(model.policy.get_vector())
    model.learn(40)
    assert (np.abs(model.policy.get_vector()) < before).all()


def test_the_elite_passes_on_unchanged_and_never_gets_worse_without_noise():
    best = []
    env = make_vec_env(lambda: OneStep(sphere, 3), n_envs=8)
    model = GeneticAlgorithm(
        "LinearPolicy", env, population_size=8, n_elite_episodes=0, policy_kwargs={"squash_output": False}, seed=0
    )
    for _ in range(15):
        model.learn(8)
        best.append(-sphere(np.clip(model.elite.numpy()[0, -3:], -10, 10)))
        np.testing.assert_array_equal(model._ask(model._rng())[0], model.elite.numpy()[0])
        np.testing.assert_array_equal(model.policy.get_vector(), model.elite.numpy()[0])
    assert best == sorted(best) and best[-1] > best[0]


def test_the_elites_contest_counts_its_steps():
    env = make_vec_env(lambda: OneStep(sphere, 3), n_envs=8)
    model = GeneticAlgorithm("LinearPolicy", env, population_size=8, n_elite_candidates=3, n_elite_episodes=5, seed=0)
    model.learn(1)
    assert model.num_timesteps == 8 + 3 * 5


def test_parents_are_the_best_fifth_and_children_are_near_them():
    env = make_vec_env(lambda: OneStep(sphere, 3), n_envs=20)
    model = GeneticAlgorithm(
        "LinearPolicy", env, population_size=20, sigma=1e-3, policy_kwargs={"squash_output": False}, seed=0
    )
    model.learn(20)
    assert model.parents.shape == (4, model.n_params)
    scores = [-sphere(p[-3:]) for p in model.parents.numpy()]
    assert scores == sorted(scores, reverse=True)
    children = model._ask(model._rng())[1:]
    nearest = np.abs(children[:, None] - model.parents.numpy()[None]).max(axis=2).min(axis=1)
    assert nearest.max() < 6e-3


def test_without_cmaes_the_error_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cmaes", None)
    model = CMAES("MlpPolicy", "CartPole-v1", population_size=4)
    with pytest.raises(ImportError, match=r"sb3-lecture\[evolution\]"):
        model.learn(1)


def evaluated(model, env_id, seed, n_episodes):
    env = make_vec_env(env_id, n_envs=10, seed=1000 + seed)
    return evaluate_policy(model, env, n_eval_episodes=n_episodes)


@pytest.mark.parametrize(
    ("cls", "n_steps", "least"), [(EvolutionStrategies, 100_000, 300), (GeneticAlgorithm, 60_000, 300), (CMAES, 30_000, 300)]
)
def test_it_learns_cartpole(cls, n_steps, least):
    model = cls("MlpPolicy", "CartPole-v1", seed=0)
    assert evaluated(model, "CartPole-v1", 0, 20)[0] < 100
    assert evaluated(model.learn(n_steps), "CartPole-v1", 0, 20)[0] >= least


@pytest.mark.slow
def test_evolution_strategies_improve_on_pendulum():
    model = EvolutionStrategies(
        "MlpPolicy", "Pendulum-v1", learning_rate=0.7, sigma=1.0, population_size=32, common_random_numbers=True,
        normalize_observations=True, seed=1,
    )  # fmt: skip
    assert evaluated(model, "Pendulum-v1", 1, 20)[0] < -1200
    assert evaluated(model.learn(130_000), "Pendulum-v1", 1, 20)[0] > -900


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize(("cls", "n_steps"), [(EvolutionStrategies, 500_000), (GeneticAlgorithm, 500_000), (CMAES, 200_000)])
def test_evolution_solves_cartpole(cls, n_steps, seed):
    """The figures of docs/benchmarks_evolution.md, by the same lines."""
    start = time.process_time()
    model = cls("MlpPolicy", "CartPole-v1", seed=seed).learn(n_steps)
    seconds = time.process_time() - start
    mean, std = evaluated(model, "CartPole-v1", seed, 100)
    print(f"{cls.__name__}, CartPole-v1, seed {seed}: {mean:.1f} ± {std:.1f}, {seconds:.0f} s")
    assert mean >= 475


@pytest.mark.slow
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_evolution_strategies_solve_pendulum_with_their_config(seed, tmp_path):
    """The figures of docs/benchmarks_evolution.md, by the same command."""
    options = ["--env", "Pendulum-v1", "--seed", str(seed), "-f", str(tmp_path), "--verbose", "0", "--eval-freq", "-1"]
    start = time.process_time()
    assert cli.main(["train", "--algo", "es", *options]) == 0
    seconds = time.process_time() - start
    model = EvolutionStrategies.load(tmp_path / "es" / "Pendulum-v1_1" / "Pendulum-v1.zip")
    mean, std = evaluated(model, "Pendulum-v1", seed, 100)
    print(f"es, Pendulum-v1, seed {seed}: {mean:.1f} ± {std:.1f}, {seconds:.0f} s")
    assert mean >= -250
