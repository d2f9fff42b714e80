"""What selection makes of scores: those that are not finite, the contest for the elite, step sizes and their schedules."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from numpy.testing import assert_allclose, assert_array_equal
from stable_baselines3.common.callbacks import BaseCallback, EveryNTimesteps
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_lecture.evolutionary.cma_es import CMAES
from sb3_lecture.evolutionary.evolution_strategies import EvolutionStrategies, centered_ranks
from sb3_lecture.evolutionary.genetic_algorithm import GeneticAlgorithm
from sb3_lecture.evolutionary.population_env import make_population_env

NAN, INF = float("nan"), float("inf")
ALGORITHMS = [EvolutionStrategies, GeneticAlgorithm, CMAES]


class Broken(gym.Env):
    """One step: action 0 pays 0; action 1 pays ``broken`` and shows NaN."""

    observation_space = spaces.Box(-1.0, 1.0, (1,), np.float32)
    action_space = spaces.Discrete(2)

    def __init__(self, broken):
        self.broken = broken

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return np.ones(1, np.float32), {}

    def step(self, action):
        return np.full(1, np.nan if action else 1.0, np.float32), self.broken if action else 0.0, bool(action), not action, {}


def test_centered_ranks_put_what_is_not_finite_last():
    assert_allclose(centered_ranks(np.array([1.0, NAN, 0.0])), [0.5, -0.5, 0.0])
    assert_allclose(centered_ranks(np.array([1.0, INF, -INF, NAN, 0.0])), [0.5, -0.25, -0.25, -0.25, 0.25])


@pytest.mark.parametrize("cls", ALGORITHMS)
@pytest.mark.parametrize("broken", [NAN, INF])
def test_an_action_whose_reward_is_not_finite_is_not_learned(cls, broken):
    """Ranked by NumPy's sort, NaN was the best: ES learned this action on each of three seeds."""
    counts = []

    class Count(BaseCallback):
        def _on_step(self):
            return True

        def _on_rollout_end(self):
            counts.append(self.logger.name_to_value["fitness/non_finite"])

    kwargs = {GeneticAlgorithm: {"n_elite_episodes": 1}, EvolutionStrategies: {"learning_rate": 0.3}}.get(cls, {})
    env = DummyVecEnv([lambda: Broken(broken)] * 16)
    model = cls("LinearPolicy", env, population_size=16, sigma=1.0, seed=1, normalize_observations=True, **kwargs)
    model.learn(16 * 12, callback=Count())
    assert model.predict(np.ones(1, np.float32))[0] == 0
    assert counts[0] > 0 and counts[0] > counts[-1]  # there were some, and they die out
    assert np.isfinite(model.policy.get_vector()).all() and th.isfinite(model.policy.obs_sum).all()


def test_raw_scores_take_the_worst_finite_one_for_what_is_not():
    model = EvolutionStrategies(
        "MlpPolicy", DummyVecEnv([lambda: Broken(0.0)]), population_size=4, sigma=0.5, fitness_shaping="none",
        learning_rate=1.0, policy_kwargs={"optimizer_class": th.optim.SGD, "net_arch": [2]}, weight_decay=0.1, seed=0,
    )  # fmt: skip
    model._setup_learn(1)
    candidates, theta = model._ask(model._rng()), model.policy.get_vector()
    noise = (candidates[:2] - theta) / 0.5  # ε
    assert_allclose(candidates[2:], theta - 0.5 * noise, atol=1e-6)
    model._tell(candidates, np.array([3.0, -INF, 1.0, 2.0]))  # as play() gives it: NaN is −∞
    gradient = ((3.0 - 1.0) * noise[0] + (1.0 - 2.0) * noise[1]) / (2 * 2 * 0.5)  # the worst finite one, 1, for −∞
    assert_allclose(model.policy.get_vector(), theta + gradient - 0.1 * theta, rtol=1e-4, atol=1e-5)


def test_where_no_score_is_finite_the_rewards_are_blamed():
    class AllBroken(Broken):
        def step(self, action):
            observation, _, *rest = super().step(action)
            return observation, NAN, *rest

    with pytest.raises(ValueError, match="all 4 candidates are NaN or infinite"):
        CMAES("LinearPolicy", DummyVecEnv([lambda: AllBroken(NAN)]), population_size=4, seed=0).learn(8)


def played(scores):
    """A ``play`` that gives the scores asked for, whoever plays."""
    return lambda candidates, n_episodes, callback: np.array(scores[: len(candidates)], dtype=float)


def test_the_elite_is_chosen_by_the_contest_s_episodes_alone():
    """Scores 9, 8, 7, 0 in the selection, 1, 2, 3 in the contest of the three best: the third wins, though 9 + 1 is most."""
    model = GeneticAlgorithm("LinearPolicy", DummyVecEnv([lambda: Broken(0.0)]), population_size=4, n_elite_candidates=3,
                             n_elite_episodes=1, n_eval_episodes=3, seed=0)  # fmt: skip
    model._setup_learn(1)
    candidates = model._ask(model._rng())
    selection = np.array([0.0, 8.0, 9.0, 7.0])
    model.play = played([1.0, 2.0, 3.0])
    assert model._select(candidates, selection, None)
    assert_array_equal(model.elite.numpy()[0], candidates[3])
    assert model.logger.name_to_value["train/elite_fitness"] == 3.0
    # candidate 0 is now an elite that scored worst: it takes part all the same, and wins ties of the contest's scores
    model.play = played([1.0, 2.0, 0.5, 4.0])
    model._select(candidates, selection, None)
    assert_array_equal(model.elite.numpy()[0], candidates[0])
    model.n_elite_episodes = 0  # no contest: the best of the selection
    model._select(candidates, selection, None)
    assert_array_equal(model.elite.numpy()[0], candidates[2])


def test_all_of_a_population_may_be_parents():
    env = DummyVecEnv([lambda: Broken(0.0)])
    model = GeneticAlgorithm("LinearPolicy", env, population_size=4, n_parents=4, n_elite_episodes=0, seed=0).learn(4)
    assert len(model.parents) == 4


def test_children_are_parents_and_noise_of_the_schedule_s_size():
    model = GeneticAlgorithm("LinearPolicy", DummyVecEnv([lambda: Broken(0.0)]), population_size=200, n_parents=1,
                             sigma=lambda progress: 0.5 * progress, seed=0)  # fmt: skip
    model._setup_learn(1)
    model.parents, model.elite = th.zeros(1, model.n_params), th.zeros(1, model.n_params)
    for progress in (1.0, 0.1):
        model._current_progress_remaining = progress
        children = model._ask(model._rng())[1:]
        assert children.std() == pytest.approx(0.5 * progress, rel=0.1)
        assert model.logger.name_to_value["train/sigma"] == 0.5 * progress


def test_step_size_and_noise_of_evolution_strategies_follow_their_schedules():
    model = EvolutionStrategies(
        "LinearPolicy", DummyVecEnv([lambda: Broken(0.0)]), population_size=2, learning_rate=lambda progress: 2.0 * progress,
        sigma=lambda progress: 0.5 * progress, policy_kwargs={"optimizer_class": th.optim.SGD}, seed=0,
    )  # fmt: skip
    model._setup_learn(1)
    for progress in (1.0, 0.25):
        model._current_progress_remaining = progress
        theta, candidates = model.policy.get_vector(), model._ask(model._rng())
        noise = (candidates[0] - theta) / (0.5 * progress)
        assert_allclose(noise, model._noise(model._rng())[0], rtol=1e-3, atol=1e-4)
        model._tell(candidates, np.array([1.0, 0.0]))  # ranks ½ and −½
        expected = 2.0 * progress * noise / (2 * 0.5 * progress)
        assert_allclose(model.policy.get_vector() - theta, expected, rtol=1e-3, atol=1e-4)
        log = model.logger.name_to_value
        assert (log["train/learning_rate"], log["train/sigma"]) == (2.0 * progress, 0.5 * progress)


@pytest.mark.parametrize("cls", [EvolutionStrategies, GeneticAlgorithm])
def test_a_scheduled_sigma_survives_the_file(cls, tmp_path):
    model = cls("LinearPolicy", "CartPole-v1", population_size=4, sigma=0.25, seed=0)
    model.save(tmp_path / "model.zip")
    loaded = cls.load(tmp_path / "model.zip")
    assert loaded.sigma == 0.25 and loaded._sigma_schedule(0.5) == 0.25


@pytest.mark.parametrize("late", [False, True], ids=["plain", "resets late"])
@pytest.mark.parametrize("cls", ALGORITHMS)
def test_with_one_env_every_call_is_a_timestep(cls, late):
    """SB3's rule, which its callbacks rely on; a step that only resets is neither."""
    env = make_population_env("CartPole-v1", 1) if late else make_vec_env("CartPole-v1", 1)
    model = cls("LinearPolicy", env, population_size=4, n_eval_episodes=2, seed=0)
    inner = Nothing()
    outer = EveryNTimesteps(n_steps=20, callback=inner)
    model.learn(150, callback=outer)
    assert outer.n_calls == outer.num_timesteps == model.num_timesteps
    assert inner.n_calls == model.num_timesteps // 20


class Nothing(BaseCallback):
    def _on_step(self):
        return True


def test_the_log_s_clock_begins_with_the_training():
    model = CMAES("LinearPolicy", DummyVecEnv([lambda: Broken(0.0)]), population_size=4, seed=0).learn(4)
    log = {}
    model.logger.record = lambda key, value, **_: log.update({key: value})
    model.dump_logs()
    assert 0 <= log["time/time_elapsed"] < 1e6  # seconds since the start, not since 1970
