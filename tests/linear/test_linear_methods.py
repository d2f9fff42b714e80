"""The linear learners: each run replayed by a dense twin in numpy, fixed points, Baird's counterexample, MountainCar."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium import spaces
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.env_util import make_vec_env

import sb3_lecture_envs  # noqa: F401
from sb3_lecture import LSTD, GradientTD, SemiGradientQ, SemiGradientSarsa, SemiGradientTD
from sb3_lecture.common.linear_updates import semi_gradient
from sb3_lecture.exact.solver import policy_evaluation
from sb3_lecture_envs.mdp import TabularMDP
from sb3_lecture_envs.tabular_env import TabularEnv

#: seven states, three features that are not binary, and an env that is cut off after nine steps
FEATURES = np.array([[0, 0, 1], [1, 0, 0.5], [0.5, 1, 0], [0, -1, 0], [1, 1, 1], [0, 0.25, 0], [2, 0, 0]])
WALK = {"env_kwargs": {"n": 5, "max_episode_steps": 9}, "seed": 0}
SETTINGS = {"learning_rate": 0.1, "gamma": 0.9, "seed": 5, "policy_kwargs": {"features": FEATURES}}
PI, B = np.tile([0.4, 0.6], (7, 1)), np.tile([0.7, 0.3], (7, 1))


class Recorder(BaseCallback):
    """Every transition of every env: (env, s, a, r, s', terminated, truncated, a')."""

    def _on_training_start(self):
        self.last, self.steps = self.locals["last_obs"], []

    def _on_step(self):
        at = self.locals
        rows = (self.last, at["actions"], at["rewards"], at["final_obs"], at["terminated"], at["truncated"], at["action2"])
        self.steps += [(i, *row) for i, row in enumerate(zip(*rows, strict=True))]
        self.last = at["new_obs"]
        return True


def run(cls, n_envs=2, steps=160, **kwargs):
    recorder = Recorder()
    model = cls("LinearPolicy", make_vec_env("Lecture/RandomWalk-v0", n_envs, **WALK), **{**SETTINGS, **kwargs})
    model.learn(steps, callback=recorder)
    ends = [(end, cut) for *_, end, cut, _ in recorder.steps]
    assert (True, False) in ends and (False, True) in ends  # both kinds of end are met
    return model, recorder.steps


@pytest.mark.parametrize("cls", [SemiGradientSarsa, SemiGradientQ])
def test_one_step_control_is_replayed(cls):
    model, steps = run(cls)
    w = np.zeros((2, 3))
    for _, s, a, r, s2, terminated, _, a2 in steps:
        q2 = w @ FEATURES[s2]
        target = r + 0.9 * (not terminated) * (q2[a2] if cls is SemiGradientSarsa else q2.max())
        w[a] += 0.1 * (target - w[a] @ FEATURES[s]) * FEATURES[s]
    np.testing.assert_allclose(model.policy.weights, w, rtol=1e-10)
    np.testing.assert_allclose(model.q_values(3), FEATURES[3:4] @ w.T)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_n_step_sarsa_is_replayed(n):
    model, steps = run(SemiGradientSarsa, n_steps=n)
    w, waiting = np.zeros((2, 3)), {0: [], 1: []}
    for i, s, a, r, s2, terminated, truncated, a2 in steps:
        window = waiting[i]
        window.append((s, a, r))
        while len(window) == n or ((terminated or truncated) and window):
            g = 0.0 if terminated else w[a2] @ FEATURES[s2]
            for _, _, reward in reversed(window):
                g = reward + 0.9 * g
            s0, a0, _ = window.pop(0)
            w[a0] += 0.1 * (g - w[a0] @ FEATURES[s0]) * FEATURES[s0]
    np.testing.assert_allclose(model.policy.weights, w, rtol=1e-10)


@pytest.mark.parametrize("n", [1, 2, 3])
def test_off_policy_n_step_td_weighs_by_the_product_of_the_ratios(n):
    model, steps = run(SemiGradientTD, n_steps=n, target_policy=PI, behavior_policy=B)
    w, waiting = np.zeros(3), {0: [], 1: []}
    for i, s, a, r, s2, terminated, truncated, _ in steps:
        window = waiting[i]
        window.append((s, a, r))
        while len(window) == n or ((terminated or truncated) and window):
            g, rho = (0.0 if terminated else w @ FEATURES[s2]), 1.0
            for state, action, reward in reversed(window):
                g, rho = reward + 0.9 * g, rho * PI[state, action] / B[state, action]
            s0 = window.pop(0)[0]
            w = w + 0.1 * rho * (g - w @ FEATURES[s0]) * FEATURES[s0]
    np.testing.assert_allclose(model.policy.weights[0], w, rtol=1e-10)
    np.testing.assert_allclose(model.values(np.arange(7)), FEATURES @ w)


def replay_traces(steps, m, gamma, lambda_, alpha, rho, true_online=False):
    w, z, old = np.zeros((m, 3)), {}, {}
    for i, s, a, r, s2, terminated, truncated, a2 in steps:
        x, x2 = np.zeros((m, 3)), np.zeros((m, 3))
        x[a if m > 1 else 0], x2[a2 if m > 1 else 0] = FEATURES[s], FEATURES[s2] * (not terminated)
        trace, v, v2 = z.get(i, 0 * x), (w * x).sum(), (w * x2).sum()
        delta = r + gamma * v2 - v
        if true_online:  # the box of section 12.7
            trace = gamma * lambda_ * trace + (1 - alpha * gamma * lambda_ * (trace * x).sum()) * x
            v_old = old.get(i, 0.0)
            w = w + alpha * (delta + v - v_old) * trace - alpha * (v - v_old) * x
        else:
            trace = rho(s, a) * (gamma * lambda_ * trace + x)
            w = w + alpha * delta * trace
        done = terminated or truncated
        z[i], old[i] = (0 * x, 0.0) if done else (trace, v2)
    return w


def test_sarsa_lambda_is_replayed():
    model, steps = run(SemiGradientSarsa, lambda_=0.8, traces="accumulating")
    expected = replay_traces(steps, 2, 0.9, 0.8, 0.1, lambda s, a: 1.0)
    np.testing.assert_allclose(model.policy.weights, expected, rtol=1e-9)


def test_true_online_sarsa_lambda_is_replayed():
    model, steps = run(SemiGradientSarsa, n_envs=1, lambda_=0.8)
    expected = replay_traces(steps, 2, 0.9, 0.8, 0.1, None, true_online=True)
    np.testing.assert_allclose(model.policy.weights, expected, rtol=1e-9)


def test_off_policy_td_lambda_is_replayed():
    model, steps = run(SemiGradientTD, lambda_=0.6, target_policy=PI, behavior_policy=B, learning_rate=0.02)
    expected = replay_traces(steps, 1, 0.9, 0.6, 0.02, lambda s, a: PI[s, a] / B[s, a])
    np.testing.assert_allclose(model.policy.weights, expected, rtol=1e-9)


def test_true_online_envs_do_not_take_each_others_changes_for_their_own():
    """V − V_old is what the env's own update changed, so λ = 0 is TD(0) with two envs too."""
    online, _ = run(SemiGradientTD, lambda_=0.0, traces="true-online", target_policy=PI)
    plain, _ = run(SemiGradientTD, target_policy=PI)
    np.testing.assert_allclose(online.policy.weights, plain.policy.weights, rtol=1e-10)


@pytest.mark.parametrize("variant", ["tdc", "gtd2"])
def test_gradient_td_is_replayed(variant):
    model, steps = run(
        GradientTD, variant=variant, secondary_learning_rate=0.2, target_policy=PI, behavior_policy=B, learning_rate=0.05
    )
    w, v = np.zeros(3), np.zeros(3)
    for _, s, a, r, s2, terminated, _, _ in steps:
        x, x2, rho = FEATURES[s], 0.9 * (not terminated) * FEATURES[s2], PI[s, a] / B[s, a]
        delta, guess = r + w @ x2 - w @ x, x @ v
        w = w + 0.05 * rho * (delta * x - guess * x2 if variant == "tdc" else guess * (x - x2))
        v = v + 0.2 * rho * (delta - guess) * x
    np.testing.assert_allclose(model.policy.weights[0], w, rtol=1e-9)
    np.testing.assert_allclose(model.policy.secondary[0], v, rtol=1e-9)


@pytest.mark.parametrize("lambda_", [0.0, 0.7])
def test_lstd_solves_the_sums_of_its_transitions(lambda_):
    model, steps = run(LSTD, lambda_=lambda_, ridge=0.01, target_policy=PI, behavior_policy=B)
    a, b, z = 0.01 * np.eye(3), np.zeros(3), np.zeros((2, 3))
    for i, s, action, r, s2, terminated, truncated, _ in steps:
        z[i] = PI[s, action] / B[s, action] * (0.9 * lambda_ * z[i] + FEATURES[s])
        a += np.outer(z[i], FEATURES[s] - 0.9 * (not terminated) * FEATURES[s2])
        b += r * z[i]
        if terminated or truncated:
            z[i] = 0
    np.testing.assert_allclose(model.policy.weights[0], np.linalg.solve(a, b), rtol=1e-7)


def test_lstd_with_a_feature_a_state_finds_the_true_values():
    model = LSTD("LinearPolicy", make_vec_env("Lecture/RandomWalk-v0", 4, **WALK), gamma=1.0, seed=0).learn(8_000)
    truth = policy_evaluation(model.env.get_attr("mdp")[0], np.full((7, 2), 0.5), 1.0)
    np.testing.assert_allclose(model.values(np.arange(1, 6)), truth[1:6], atol=0.08)  # about 3 standard errors


def test_actions_are_independent_of_the_worlds_chance():
    """One seed for learner and world: actions drawn from the world's own stream would walk to one side only."""
    env = gym.make("Lecture/RandomWalk-v0", n=100, reach=10)
    features = {"features": "aggregation", "n_groups": 10}
    model = LSTD("LinearPolicy", env, gamma=1.0, seed=0, policy_kwargs=features).learn(4_000)
    truth = policy_evaluation(env.unwrapped.mdp, np.full((102, 2), 0.5), 1.0)
    np.testing.assert_allclose(model.values(np.arange(5, 100, 10)), truth[5:100:10], atol=0.25)


# ---- Baird's counterexample (Sutton & Barto 2018, example 11.1)

STAR = np.hstack([2 * np.eye(7), np.ones((7, 1))])
STAR[6] = [0, 0, 0, 0, 0, 0, 1, 2]
SOLID, BOTH = np.ones(7, np.int64), np.tile([6 / 7, 1 / 7], (7, 1))


def star():
    """Action 0 leads to one of the six upper states, action 1 to the seventh; nothing is ever paid."""
    law = {s: {0: [(1 / 6, s2, 0.0, False) for s2 in range(6)], 1: [(1.0, 6, 0.0, False)]} for s in range(7)}
    return TabularEnv(TabularMDP.from_P(law, np.full(7, 1 / 7)))


def baird(cls, **kwargs):
    start = [1, 1, 1, 1, 1, 1, 10, 1]
    return cls(
        "LinearPolicy", star(), gamma=0.99, target_policy=SOLID, behavior_policy=BOTH, seed=0,
        policy_kwargs={"features": STAR, "initial_weights": start}, **kwargs,
    )  # fmt: skip


def test_the_expected_update_of_semi_gradient_td_has_a_radius_above_1():
    """Built from the rule itself: w ← M w, and M's spectral radius is 1.0023925: it diverges, however small the start."""
    m = np.eye(8)
    for j, unit in enumerate(np.eye(8)):
        for s in range(7):
            w = unit[None].copy()
            semi_gradient(w, 0, np.arange(8), STAR[s], 0.99 * unit @ STAR[6], 0.01, 1 / (1 / 7))  # ρ = 7 with chance 1/7, or 0
            m[:, j] += (w[0] - unit) / 7 / 7
    assert np.abs(np.linalg.eigvals(m)).max() == pytest.approx(1.0023925, abs=1e-7)


def test_semi_gradient_diverges_on_bairds_star_and_tdc_does_not():
    td = baird(SemiGradientTD, learning_rate=0.01).learn(1000)
    assert td.policy.weights.abs().max() > 100
    tdc = baird(GradientTD, learning_rate=0.005, secondary_learning_rate=0.05).learn(1000)
    assert tdc.policy.weights.abs().max() < 20
    for model, converges in ((td, False), (tdc, True)):
        a = STAR.T @ (STAR - 0.99 * STAR[6]) / 7  # A of the fixed point; b = 0
        residual = a @ model.policy.weights[0].numpy()
        assert (residual @ np.linalg.pinv(STAR.T @ STAR / 7) @ residual < 0.5) == converges  # projected Bellman error


# ---- features and actions of every kind


def test_features_of_a_finite_space():
    def model(**features):
        return SemiGradientTD("LinearPolicy", gym.make("Lecture/RandomWalk-v0", n=5), policy_kwargs=features)

    np.testing.assert_array_equal(model().policy.x.matrix(), np.eye(7))
    groups = model(features="aggregation", n_groups=3).policy.x.matrix()
    np.testing.assert_array_equal(groups.argmax(axis=1), [0, 0, 0, 1, 1, 2, 2])
    np.testing.assert_array_equal(groups.sum(axis=1), 1)
    given = model(features=FEATURES, initial_weights=[1, 2, 3])
    np.testing.assert_array_equal(given.policy.x.matrix(), FEATURES)
    np.testing.assert_allclose(given.values(np.arange(7)), FEATURES @ [1, 2, 3])


def test_the_fourier_basis_by_hand():
    env = gym.make("MountainCar-v0")
    model = SemiGradientQ("LinearPolicy", env, policy_kwargs={"features": "fourier", "order": 1})
    entry, value = model.policy.x(np.array([-1.2 + 1.8 / 3, -0.07 + 0.14 / 2]))  # a third of the way, and half of it
    assert entry.tolist() == [[0, 1, 2, 3]]  # c = (0, 0), (0, 1), (1, 0), (1, 1)
    np.testing.assert_allclose(value[0], [1, np.cos(np.pi / 2), np.cos(np.pi / 3), np.cos(np.pi * 5 / 6)], atol=1e-6)


class Shifted(gym.Env):
    """A walk over the states 3, 4, 5 with the actions −1 (stay, pays 0) and 0 (go on, pays 1)."""

    observation_space, action_space = spaces.Discrete(3, start=3), spaces.Discrete(2, start=-1)
    bad_reward: float | None = None

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.state = 3
        return self.state, {}

    def step(self, action):
        assert self.action_space.contains(action)
        self.state += int(action) + 1
        reward = float(action + 1) if self.bad_reward is None else self.bad_reward
        return min(self.state, 5), reward, self.state == 6, False, {}


def test_spaces_that_do_not_start_at_0():
    model = SemiGradientSarsa("LinearPolicy", Shifted(), learning_rate=0.5, gamma=0.5, seed=0).learn(3000)
    assert model.predict(4, deterministic=True)[0] == 0
    np.testing.assert_allclose(model.q_values([3, 4, 5])[:, 1], [1.75, 1.5, 1.0], atol=0.1)
    probabilities = model.policy.action_probabilities([3])
    np.testing.assert_allclose(probabilities, [[0.025, 0.975]])  # ε = 0.05


def test_several_tied_actions_are_all_taken():
    counts = np.zeros(2)
    greedy = {"exploration_initial_eps": 0.0, "exploration_final_eps": 0.0}
    for row in run(SemiGradientQ, learning_rate=1e-300, steps=400, **greedy)[1]:
        counts[row[2]] += 1
    assert abs(counts[0] - counts[1]) < 4 * np.sqrt(counts.sum())


def test_epsilon_falls_as_it_is_told():
    seen = []

    class Look(BaseCallback):
        def _on_step(self):
            seen.append(self.model.exploration_rate)
            return True

    model = SemiGradientQ("LinearPolicy", Shifted(), exploration_fraction=0.5, exploration_final_eps=0.2, seed=0)
    model.learn(100, callback=Look())
    np.testing.assert_allclose([seen[0], seen[25], seen[50], seen[99]], [1.0, 0.6, 0.2, 0.2], atol=1e-12)


def test_predict_takes_the_epsilon_that_is_written():
    model = SemiGradientQ("LinearPolicy", Shifted(), seed=0).learn(100)
    states = np.full(50, 3)
    model.exploration_rate = 0.0
    np.testing.assert_array_equal(model.predict(states)[0], model.predict(states, deterministic=True)[0])
    model.exploration_rate = 1.0
    assert set(model.predict(states)[0]) == {-1, 0}
    with pytest.raises(ValueError, match=r"exploration_rate.*1\.5"):
        model.exploration_rate = 1.5


def test_a_falling_learning_rate_is_read():
    model = SemiGradientQ(
        "LinearPolicy", Shifted(), learning_rate=lambda left: left, gamma=0.0, exploration_final_eps=1.0, seed=0
    )
    recorder = Recorder()
    model.learn(20, callback=recorder)
    w = np.zeros((3, 2))
    for t, (_, s, a, r, *_) in enumerate(recorder.steps):
        w[s - 3, a + 1] += (1 - t / 20) * (r - w[s - 3, a + 1])
    np.testing.assert_allclose(model.q_values([3, 4, 5]), w, rtol=1e-12)


# ---- what is refused


def test_unbounded_observations_need_ranges():
    with pytest.raises(ValueError, match="ranges"):
        SemiGradientQ("LinearPolicy", "CartPole-v1")
    ranges = [[-2.4, 2.4], [-3, 3], [-0.21, 0.21], [-3, 3]]
    model = SemiGradientQ("LinearPolicy", "CartPole-v1", policy_kwargs={"ranges": np.array(ranges), "n_tiles": [2, 2, 4, 4]})
    assert model.policy.weights.shape == (2, 8 * 3 * 3 * 5 * 5)


def test_numbers_that_are_none_stop_the_learner_in_one_line():
    env = Shifted()
    env.bad_reward = np.nan
    with pytest.raises(ValueError, match="reward that is not finite"):
        SemiGradientQ("LinearPolicy", env, seed=0).learn(10)
    with pytest.raises(ValueError, match=r"diverged at step .*learning_rate=1e\+38"):
        SemiGradientQ("LinearPolicy", Shifted(), learning_rate=1e38, seed=0).learn(1000)
    model = SemiGradientQ("LinearPolicy", "MountainCar-v0")
    with pytest.raises(ValueError, match="not finite"):
        model.predict(np.array([np.nan, 0.0], np.float32))


@pytest.mark.parametrize(
    ("cls", "kwargs", "message"),
    [
        (SemiGradientSarsa, {"learning_rate": 0.0}, "learning_rate=0.0"),
        (SemiGradientSarsa, {"learning_rate": np.nan}, "learning_rate=nan"),
        (SemiGradientSarsa, {"gamma": 1.1}, "gamma=1.1"),
        (SemiGradientSarsa, {"n_steps": 0}, "n_steps=0"),
        (SemiGradientSarsa, {"n_steps": 2, "lambda_": 0.5}, "n_steps is 1 where λ is given"),
        (SemiGradientSarsa, {"lambda_": np.nan}, "lambda_=nan"),
        (SemiGradientSarsa, {"traces": "dutch"}, "traces='dutch'"),
        (SemiGradientSarsa, {"exploration_final_eps": -0.1}, "exploration_final_eps=-0.1"),
        (SemiGradientSarsa, {"lambda_": 0.5, "traces": "replacing", "policy_kwargs": {"features": FEATURES}}, "0 and 1"),
        (SemiGradientTD, {"policy_kwargs": {"features": "tiles"}}, "need a Box"),
        (SemiGradientTD, {"policy_kwargs": {"features": "rbf"}}, "features='rbf'; allowed"),
        (SemiGradientTD, {"policy_kwargs": {"features": FEATURES[:3]}}, "for each of the 7 states"),
        (SemiGradientTD, {"policy_kwargs": {"features": FEATURES * np.nan}}, "finite"),
        (SemiGradientTD, {"policy_kwargs": {"features": "aggregation", "n_groups": 8}}, "more than the 7 states"),
        (SemiGradientTD, {"policy_kwargs": {"initial_weights": [1, 2]}}, "7 of them"),
        (SemiGradientTD, {"target_policy": [0, 1]}, "each of the 7 states"),
        (SemiGradientTD, {"target_policy": PI, "behavior_policy": np.zeros(7, int)}, r"never takes.*\[0, 1\]"),
        (SemiGradientTD, {"behavior_policy": B, "lambda_": 0.5, "traces": "true-online"}, "are on-policy"),
        (GradientTD, {"variant": "gtd"}, "'tdc' or 'gtd2'"),
        (GradientTD, {"secondary_learning_rate": np.inf}, "secondary_learning_rate=inf"),
        (LSTD, {"lambda_": 2}, "lambda_=2"),
        (LSTD, {"ridge": 0}, "ridge=0"),
    ],
)
def test_wrong_arguments_are_named(cls, kwargs, message):
    with pytest.raises(ValueError, match=message):
        cls("LinearPolicy", gym.make("Lecture/RandomWalk-v0", n=5), **kwargs)


@pytest.mark.parametrize(("space", "message"), [(spaces.Dict({"a": spaces.Discrete(2)}), "Box, Discrete or MultiDiscrete")])
def test_other_spaces_are_refused(space, message):
    class Other(Shifted):
        observation_space = space

    with pytest.raises(ValueError, match=message):
        SemiGradientQ("LinearPolicy", Other())


def test_a_learned_policy_can_be_evaluated_on_its_own_features():
    learner = SemiGradientQ("LinearPolicy", "MountainCar-v0", seed=0).learn(300)
    judge = LSTD("LinearPolicy", "MountainCar-v0", target_policy=learner.policy.weights, policy_kwargs={"n_tiles": 8})
    observations = np.array([[-0.5, 0.0], [0.3, 0.02], [-1.0, -0.01]], np.float32)
    np.testing.assert_array_equal(
        judge.predict(observations, deterministic=True)[0], learner.predict(observations, deterministic=True)[0]
    )


# ---- the book's figures


@pytest.mark.slow
@pytest.mark.parametrize(
    ("cls", "kwargs", "at_most"),
    [(SemiGradientSarsa, {}, 150), (SemiGradientQ, {}, 150), (SemiGradientSarsa, {"lambda_": 0.9}, 130)],
)
def test_mountain_car_is_learned_in_500_episodes(cls, kwargs, at_most):
    """Figure 10.2: α = 0.5/8, 8 tilings of 8x8, ε = 0; the mean of the last 100 of 500 episodes (10.3 and 12.10 with λ)."""
    from stable_baselines3.common.callbacks import StopTrainingOnMaxEpisodes

    env = gym.make("MountainCar-v0", max_episode_steps=10_000)
    greedy = {"exploration_initial_eps": 0.0, "exploration_final_eps": 0.0}
    model = cls("LinearPolicy", env, gamma=1.0, seed=0, **greedy, **kwargs)
    model.learn(10**7, callback=StopTrainingOnMaxEpisodes(500))
    lengths = [episode["l"] for episode in model.ep_info_buffer]
    assert len(lengths) == 100 and np.mean(lengths) < at_most


@pytest.mark.slow
def test_state_aggregation_finds_the_td_fixed_point_of_the_long_walk():
    """Figure 9.2: 1000 states in 10 groups. The fixed point A⁻¹ b from the law, its error against v, and what was learned."""
    env = make_vec_env("Lecture/RandomWalk-v0", 8, env_kwargs={"n": 1000, "reach": 100}, seed=0)
    settings = {"gamma": 1.0, "seed": 0, "policy_kwargs": {"features": "aggregation", "n_groups": 10}}
    mdp, uniform = env.get_attr("mdp")[0], np.full((1002, 2), 0.5)
    truth = policy_evaluation(mdp, uniform, 1.0)
    step, reward = np.zeros((1002, 1002)), mdp.expected_reward.mean(axis=1)
    rows = np.repeat(np.arange(2004), np.diff(mdp.row_ptr)) // 2
    np.add.at(step, (rows, mdp.next_state), 0.5 * mdp.prob)  # under the uniform policy [S, S']
    inner = slice(1, 1001)
    visits = np.linalg.solve(np.eye(1000) - step[inner, inner].T, np.eye(1000)[499])
    visits /= visits.sum()
    x = SemiGradientTD("LinearPolicy", env, **settings).policy.x.matrix()[inner]
    a = x.T @ (visits[:, None] * (x - step[inner, inner] @ x))
    fixed = np.linalg.solve(a, x.T @ (visits * reward[inner]))

    def error(w):
        return np.sqrt(visits @ (x @ w - truth[inner]) ** 2)

    least = np.linalg.lstsq(np.sqrt(visits)[:, None] * x, np.sqrt(visits) * truth[inner], rcond=None)[0]
    assert error(least) < error(fixed) < 0.15
    solved = LSTD("LinearPolicy", env, **settings).learn(100_000)
    np.testing.assert_allclose(solved.policy.weights[0], fixed, atol=0.1)
    walked = SemiGradientTD("LinearPolicy", env, learning_rate=0.01, **settings).learn(200_000)
    np.testing.assert_allclose(walked.policy.weights[0], fixed, atol=0.15)
