"""What the evolutionary learners share: batched networks, honest counting, a search that survives its process."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.evaluation import evaluate_policy
from stable_baselines3.common.vec_env import DummyVecEnv, VecFrameStack, VecMonitor, VecNormalize

import sb3_lecture_envs  # noqa: F401
from sb3_lecture.evolutionary.cma_es import CMAES
from sb3_lecture.evolutionary.evolution_strategies import EvolutionStrategies
from sb3_lecture.evolutionary.genetic_algorithm import GeneticAlgorithm
from sb3_lecture.evolutionary.policies import EvolutionLinearPolicy, EvolutionPolicy, NetworkStack
from sb3_lecture.evolutionary.population_env import NextStepVecEnv, make_population_env

ALGORITHMS = [EvolutionStrategies, GeneticAlgorithm, CMAES]
every_algorithm = pytest.mark.parametrize("cls", ALGORITHMS)
BOX = spaces.Box(-2.0, 3.0, (3,))
ACTIONS = [spaces.Discrete(3), spaces.Box(np.array([-1.0, 0.0]), np.array([2.0, 0.5]), dtype=np.float64)]


class Nothing(BaseCallback):
    def _on_step(self):
        return True


def callback_for(model):
    callback = Nothing()
    callback.init_callback(model)
    model._setup_learn(1)
    return callback


class LastsAsAsked(gym.Env):
    """Episode k of this environment lasts ``lengths[k]`` steps, each worth the action; it counts all steps ever taken."""

    observation_space = BOX
    action_space = spaces.Discrete(3)

    def __init__(self, lengths):
        self.lengths, self.episode, self.left, self.total = lengths, -1, 0, 0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.episode += 1
        self.left = self.lengths[self.episode % len(self.lengths)]
        return self.observation_space.low, {}

    def step(self, action):
        self.left -= 1
        self.total += 1
        return self.observation_space.low, float(action) + 1.0, self.left == 0, False, {}


@pytest.mark.parametrize("action_space", ACTIONS, ids=["discrete", "box"])
@pytest.mark.parametrize(
    "kwargs",
    [{}, {"net_arch": []}, {"net_arch": [7, 5], "activation_fn": th.nn.ReLU}, {"with_bias": False}, {"squash_output": False}],
    ids=str,
)
@pytest.mark.parametrize("normalize", [False, True])
def test_batched_networks_equal_the_policy_one_by_one(action_space, kwargs, normalize):
    th.manual_seed(0)
    rng = np.random.default_rng(0)
    policy = EvolutionPolicy(BOX, action_space, lambda _: 0.1, **kwargs)
    if normalize:
        seen = rng.normal([1.0, -1.0, 0.0], [0.3, 2.0, 1e-3], size=(50, 3))
        policy.count_observations(np.array([seen.sum(axis=0), (seen**2).sum(axis=0)]), 50)
    vectors = rng.normal(size=(6, len(policy.get_vector()))).astype(np.float32)
    observations = rng.uniform(-2, 3, size=(6, 3)).astype(np.float32)
    stack = NetworkStack(policy, vectors[[0, 1, 2, 3, 4, 4]])
    stack.replace(5, vectors[5])
    batched = stack.actions(policy.features(observations))
    for i in range(6):
        policy.set_vector(vectors[i])
        np.testing.assert_array_equal(policy.get_vector(), vectors[i])
        one, _ = policy.predict(observations[i], deterministic=True)
        np.testing.assert_allclose(batched[i], one, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    "space", [spaces.Discrete(5), spaces.MultiBinary(4), spaces.MultiDiscrete([2, 3]), spaces.Box(-1, 1, (2, 2))], ids=str
)
def test_batched_networks_read_every_kind_of_observation(space):
    policy = EvolutionPolicy(space, spaces.Discrete(3), lambda _: 0.1)
    space.seed(0)
    observations = np.array([space.sample() for _ in range(8)])
    vectors = np.random.default_rng(0).normal(size=(8, len(policy.get_vector()))).astype(np.float32)
    batched = NetworkStack(policy, vectors).actions(policy.features(observations))
    for i in range(8):
        policy.set_vector(vectors[i])
        assert policy.predict(observations[i])[0] == batched[i]


def test_an_activation_with_parameters_is_refused():
    policy = EvolutionPolicy(BOX, ACTIONS[0], lambda _: 0.1, activation_fn=th.nn.PReLU)
    with pytest.raises(ValueError, match="outside linear layers"):
        NetworkStack(policy, policy.get_vector()[None])


def test_observation_statistics_are_the_samples():
    seen = np.random.default_rng(1).normal(3.0, 2.0, size=(200, 3))
    policy = EvolutionPolicy(BOX, ACTIONS[0], lambda _: 0.1)
    for part in (seen[:50], seen[50:]):
        policy.count_observations(np.array([part.sum(axis=0), (part**2).sum(axis=0)]), len(part))
    mean, std = policy.observation_statistics()
    np.testing.assert_allclose(mean, seen.mean(axis=0), rtol=1e-5)
    np.testing.assert_allclose(std, seen.std(axis=0), rtol=1e-5)


@pytest.mark.parametrize("n_envs", [1, 2, 4, 7])
@pytest.mark.parametrize("n_episodes", [1, 3])
def test_every_candidate_plays_its_episodes_and_only_those_count(n_envs, n_episodes):
    lengths = [3, 1, 4, 2, 5]
    env = DummyVecEnv([lambda: LastsAsAsked([4]) for _ in range(n_envs)])
    model = EvolutionStrategies("LinearPolicy", env, population_size=4, seed=0)
    candidates = np.zeros((4, model.n_params), dtype=np.float32)
    for c in range(4):
        candidates[c, -3 + c % 3] = 1.0  # biases: candidate c always takes action c % 3
    fitness = model.play(candidates, n_episodes, callback_for(model))
    np.testing.assert_array_equal(fitness, 4.0 * (np.arange(4) % 3 + 1))
    assert model.num_timesteps == 4 * 4 * n_episodes and model._episode_num == 4 * n_episodes

    env = DummyVecEnv([lambda: LastsAsAsked(lengths) for _ in range(n_envs)])
    model = EvolutionStrategies("LinearPolicy", env, population_size=4, seed=0)
    candidates[:] = 0.0  # action 0: a step is worth 1, so a return is a length
    fitness = model.play(candidates, n_episodes, callback_for(model))
    assert model.num_timesteps == pytest.approx(n_episodes * fitness.sum())
    assert model.num_timesteps <= sum(e.total for e in env.envs)


def test_the_late_resetting_cartpole_counts_like_the_plain_one():
    """The same candidates from the same starts: returns of NEXT_STEP envs, played back to back, are true episode lengths."""
    env = make_population_env("CartPole-v1", 3)
    assert isinstance(env, NextStepVecEnv)
    model = EvolutionStrategies("LinearPolicy", env, population_size=4, seed=0)
    candidates = np.random.default_rng(0).normal(size=(4, model.n_params)).astype(np.float32)
    lengths = []

    class Listen(Nothing):
        def _on_step(self):
            lengths.extend(self.locals["infos"][i]["episode"]["l"] for i in np.flatnonzero(self.locals["dones"]))
            return True

    callback = Listen()
    callback.init_callback(model)
    model._setup_learn(1)
    fitness = model.play(candidates, 5, callback)
    assert len(lengths) == 20
    assert all(0.0 <= info["t"] < 1e6 for info in model.ep_info_buffer)  # seconds since the start, not since 1970
    assert sum(lengths) == model.num_timesteps == pytest.approx(5 * fitness.sum())  # CartPole pays 1 a step
    assert np.mean([info["r"] for info in model.ep_info_buffer]) == pytest.approx(fitness.mean())

    plain = make_vec_env("CartPole-v1", n_envs=4)
    again = EvolutionStrategies("LinearPolicy", plain, population_size=4, seed=0)
    twin = again.play(candidates, 60, callback_for(again))
    many = model.play(candidates, 60, callback_for(model))
    np.testing.assert_allclose(many, twin, rtol=0.25)  # other starts, the same law


def test_evaluate_policy_is_right_on_late_resetting_envs():
    env = make_population_env("CartPole-v1", 4)
    model = EvolutionStrategies("LinearPolicy", env, population_size=4, seed=0)
    rewards, lengths = evaluate_policy(model, env, n_eval_episodes=8, return_episode_rewards=True)
    assert rewards == lengths  # of the infos, which leave the reset's step out


class PaysItsStart(gym.Env):
    """An episode of two steps that pays where it began, whatever is done."""

    observation_space = BOX
    action_space = spaces.Discrete(3)

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.start, self.over = self.np_random.uniform(-2.0, 3.0, size=3).astype(np.float32), False
        return self.start, {}

    def step(self, action):
        self.over, over = True, self.over
        return self.start, float(self.start.sum()), over, False, {}


@pytest.mark.parametrize("n_envs", [1, 3, 4, 7])
@pytest.mark.parametrize("wrapper", [lambda env: env, lambda env: VecNormalize(env, training=False), VecMonitor])
def test_common_random_numbers_give_all_candidates_the_same_starts(n_envs, wrapper):
    def play(common, n_episodes=3):
        env = wrapper(DummyVecEnv([PaysItsStart] * n_envs))
        model = EvolutionStrategies("LinearPolicy", env, population_size=4, common_random_numbers=common, seed=0)
        candidates = np.zeros((4, model.n_params), dtype=np.float32)
        return [model.play(candidates, n_episodes, callback_for(model)) for _ in range(2)], model

    (first, second), model = play(common=True)
    np.testing.assert_array_equal(first, np.full(4, first[0]))
    assert (first != second).all()  # another contest, other starts
    assert model.num_timesteps == 2 * 3 * 4  # two steps an episode; the last contest's
    (own, _), _ = play(common=False)
    assert len(set(own)) == 4


def test_candidates_see_the_common_start_that_they_are_paid_for():
    env = VecNormalize(make_vec_env(PaysItsStart, n_envs=3), training=False)
    env.obs_rms.mean[:], env.obs_rms.var[:] = 1.0, 4.0
    model = EvolutionStrategies("LinearPolicy", env, population_size=4, common_random_numbers=True, seed=0)
    errors = []

    class Compare(Nothing):
        def _on_step(self):
            variables = self.locals
            features = variables["self"]._last_obs  # what the networks were given in this step
            paid = env.get_original_reward()
            errors.extend((env.unnormalize_obs(features).sum(axis=1) - paid)[variables["counted"]])
            return True

    callback = Compare()
    callback.init_callback(model)
    model._setup_learn(1)
    model.play(np.zeros((4, model.n_params), dtype=np.float32), 3, callback)
    assert len(errors) == 24
    np.testing.assert_allclose(errors, 0.0, atol=1e-4)


def test_common_random_numbers_name_the_envs_that_cannot_have_them():
    native = make_population_env("CartPole-v1", 4)
    stacked = VecFrameStack(make_vec_env("CartPole-v1", 4), 2)
    for env, text in ((native, "one by one"), (stacked, "VecFrameStack")):
        with pytest.raises(ValueError, match=text):
            EvolutionStrategies("LinearPolicy", env, population_size=4, common_random_numbers=True).learn(10)
    assert isinstance(CMAES("MlpPolicy", "CartPole-v1", common_random_numbers=True).env, DummyVecEnv)  # the id's are built to


def test_envs_that_reset_in_another_way_are_refused():
    with pytest.raises(ValueError, match="NEXT_STEP"):
        NextStepVecEnv(gym.make_vec("Lecture/TreasureLine-v0", 2, autoreset_mode="SameStep"))


@every_algorithm
@pytest.mark.parametrize(("n_envs", "common"), [(4, False), (3, True)])
def test_a_killed_run_goes_on_as_if_nothing_had_happened(cls, n_envs, common, tmp_path):
    def build():
        return make_vec_env("CartPole-v1", n_envs=n_envs)

    settings = {"population_size": 4, "seed": 5, "normalize_observations": True, "common_random_numbers": common}
    whole = cls("MlpPolicy", build(), **settings)

    class SaveMidway(BaseCallback):
        def _on_step(self):
            if self.model.generation == 2:
                self.model.save(tmp_path / "killed.zip")
                return False
            return True

    first = cls("MlpPolicy", build(), **settings)
    first.learn(100_000, callback=SaveMidway())
    second = cls.load(tmp_path / "killed.zip", env=build())
    assert second.generation == 2

    class Until(BaseCallback):
        def _on_step(self):
            return self.model.generation < 5

    second.learn(100_000, callback=Until(), reset_num_timesteps=False)
    whole.learn(100_000, callback=Until())
    assert second.generation == whole.generation == 5
    np.testing.assert_array_equal(second.policy.get_vector(), whole.policy.get_vector())
    np.testing.assert_array_equal(second._ask(second._rng()), whole._ask(whole._rng()))


@every_algorithm
def test_box_actions_stay_in_the_box_and_are_learnt_from(cls):
    model = cls("MlpPolicy", "Pendulum-v1", population_size=4, seed=0)
    before = model.policy.get_vector()
    model.learn(1600)
    assert model.n_envs == 4 and model.num_timesteps >= 1600 and model.num_timesteps % 200 == 0
    assert not np.array_equal(before, model.policy.get_vector())
    action, _ = model.predict(model.env.reset())
    assert ((action >= -2) & (action <= 2)).all()


def test_fitness_is_the_envs_reward_even_where_vecnormalize_scales_it():
    env = VecNormalize(make_vec_env("CartPole-v1", n_envs=4), norm_reward=True)
    model = EvolutionStrategies("LinearPolicy", env, population_size=4, seed=0)
    fitness = model.play(np.zeros((4, model.n_params), dtype=np.float32), 1, callback_for(model))
    assert (fitness == fitness.astype(int)).all() and fitness.min() >= 5


def test_observations_are_standardised_by_earlier_generations_only():
    model = EvolutionStrategies("LinearPolicy", "CartPole-v1", population_size=4, normalize_observations=True, seed=0)
    counts = []

    class Watch(Nothing):
        def _on_step(self):
            counts.append((self.model.generation, self.model.policy.obs_count.item()))
            return True

    model.learn(400, callback=Watch())
    for generation in {g for g, _ in counts}:
        assert len({c for g, c in counts if g == generation}) == 1
    assert model.policy.obs_count.item() == model.num_timesteps


@pytest.mark.parametrize(
    ("cls", "wrong", "text"),
    [
        (EvolutionStrategies, {"population_size": 5}, "even"),
        (EvolutionStrategies, {"population_size": 0}, "population_size=0"),
        (EvolutionStrategies, {"sigma": 0.0}, "sigma=0.0"),
        (EvolutionStrategies, {"fitness_shaping": "rank"}, "'rank'"),
        (EvolutionStrategies, {"n_eval_episodes": 0}, "n_eval_episodes=0"),
        (GeneticAlgorithm, {"n_parents": 65}, "n_parents=65"),
        (GeneticAlgorithm, {"n_elite_episodes": -1}, "n_elite_episodes=-1"),
        (CMAES, {"population_size": 3}, "population_size=3"),
    ],
)
def test_wrong_arguments_are_named(cls, wrong, text):
    with pytest.raises(ValueError, match=text):
        cls("MlpPolicy", "CartPole-v1", **wrong)


def test_dict_observations_are_refused_by_name():
    with pytest.raises(ValueError, match="FlattenObservation"):
        EvolutionPolicy(spaces.Dict({"a": BOX}), ACTIONS[0], lambda _: 0.1)


def test_a_saved_policy_alone_loads(tmp_path):
    for cls in (EvolutionPolicy, EvolutionLinearPolicy):
        policy = cls(BOX, ACTIONS[1], lambda _: 0.1)
        policy.save(tmp_path / "policy.pth")
        th.testing.assert_close(cls.load(tmp_path / "policy.pth").get_vector(), policy.get_vector())
