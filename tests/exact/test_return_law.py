"""Laws of returns: fixed points of the projected operators, and learned laws, against laws computed in other ways."""

import gymnasium as gym
import numpy as np
import pytest
import torch as th
from hypothesis import given
from hypothesis import strategies as st
from stable_baselines3 import DQN

import sb3_lecture_envs  # noqa: F401
from sb3_lecture import C51, IQN, DeepQLearning
from sb3_lecture.exact import ExactEvalCallback, ExactGrader
from sb3_lecture.exact.return_law import categorical_law, cramer_distance, quantile_law
from sb3_lecture.exact.solver import epsilon_soft_optimum, exact_optimum
from sb3_lecture_envs.mdp import TabularMDP
from sb3_lecture_envs.tabular_env import TabularEnv


def walk(n):
    return gym.make("Lecture/RandomWalk-v0", n=n).unwrapped.mdp


def first_passages(n, start, gamma, horizon):
    """The law of the random walk's return by the times at which it ends: points ± γ^(t−1), and their probabilities."""
    alive = np.zeros(n + 2)
    alive[start] = 1.0
    points, probabilities = [], []
    for t in range(horizon):
        moved = np.zeros(n + 2)
        moved[:-1] += 0.5 * alive[1:]
        moved[1:] += 0.5 * alive[:-1]
        points += [-(gamma**t), gamma**t]
        probabilities += [moved[0], moved[-1]]
        moved[[0, -1]] = 0.0
        alive = moved
    return np.array(points), np.array(probabilities)


@given(st.lists(st.tuples(st.floats(-5, 5), st.floats(0.01, 1)), min_size=1, max_size=6), st.floats(-3, 3))
def test_the_cramer_distance_by_its_integral(points, shift):
    x, p = map(np.array, zip(*points, strict=True))
    p = p / p.sum()
    assert cramer_distance(p, x, p, x) == pytest.approx(0.0, abs=1e-12)
    grid = np.arange(-9, 9, 1e-3)
    f, g = ((p[:, None] * (c[:, None] <= grid)).sum(axis=0) for c in (x, x + shift))
    assert cramer_distance(p, x, p, x + shift) ** 2 == pytest.approx(((f - g) ** 2).sum() * 1e-3, abs=0.02)
    assert cramer_distance([1.0], [0.0], [1.0], [4.0]) == pytest.approx(2.0)


@pytest.mark.parametrize("n", [5, 19])
def test_the_undiscounted_walk_ends_on_the_right_with_a_chance_that_grows_in_a_line(n):
    """P(G = 1) = s / (n + 1), on atoms that hold both returns: the operator's fixed point is the law itself."""
    law = categorical_law(walk(n), np.full((n + 2, 2), 0.5), 1.0, [-1.0, 0.0, 1.0], tol=1e-12)
    by_state = law.mean(axis=1)[1:-1]
    chance = np.arange(1, n + 1) / (n + 1)
    np.testing.assert_allclose(by_state, np.stack((1 - chance, 0 * chance, chance), axis=1), atol=1e-6)


def test_the_law_of_the_cliff_is_that_of_a_recursion_over_integers():
    """P(G = g | s) = Σ p P(G = g − r | s'), r = −1 or −100, from g = 0 down; what lies below the atoms is on the last."""
    mdp = gym.make("Lecture/CliffWalking-v0").unwrapped.mdp
    policy = epsilon_soft_optimum(mdp, 0.3, 1.0).policy
    pi = np.full((mdp.n_states, 4), 0.3 / 4)
    pi[np.arange(mdp.n_states), policy] += 0.7
    low = -160
    exact = np.zeros((-low + 1, mdp.n_states))  # [−g, s]
    terminal = 47
    exact[0, terminal] = 1.0
    for g in range(1, -low + 1):
        for s in range(mdp.n_states):
            if s == terminal:
                continue
            for a in range(4):
                for p, after, reward, _ in mdp.outcomes(s, a):
                    if g + reward >= 0:
                        exact[g, s] += pi[s, a] * p * exact[int(g + reward), after]
    exact[-1] = 1.0 - exact[:-1].sum(axis=0)
    law = categorical_law(mdp, pi, 1.0, np.arange(low, 1.0), tol=1e-9)
    by_state = (pi[..., None] * law).sum(axis=1)[:, ::-1].T  # [−g, s]
    used = np.flatnonzero(mdp.reachable)
    np.testing.assert_allclose(by_state[:, used], exact[:, used], atol=1e-6)
    assert exact[-1, 36] > 0.01 and (exact[:, 36] > 0.01).sum() > 10  # a law worth the name


def test_where_nothing_is_left_to_chance_both_operators_find_the_one_return():
    mdp = gym.make("Lecture/CliffWalking-v0").unwrapped.mdp
    optimum = exact_optimum(mdp, 1.0)
    quantiles = quantile_law(mdp, optimum.policy, 1.0, 8)
    law = categorical_law(mdp, optimum.policy, 1.0, np.arange(-120.0, 1.0))
    for s in np.flatnonzero(mdp.reachable):
        np.testing.assert_allclose(quantiles[s, optimum.policy[s]], optimum.v[s])
        assert law[s, optimum.policy[s], int(optimum.v[s]) + 120] == pytest.approx(1.0)


def test_half_of_the_quantiles_of_a_coin_are_its_sides():
    """For an odd N the middle one is the lower median."""
    coin = one_action(1).mdp
    assert quantile_law(coin, np.zeros(3, np.int64), 1.0, 8)[1, 0].tolist() == [-1.0] * 4 + [1.0] * 4
    assert quantile_law(coin, np.zeros(3, np.int64), 1.0, 5)[1, 0].tolist() == [-1.0] * 3 + [1.0] * 2


def test_the_discounted_walk_is_as_near_as_the_atoms_are():
    """ℓ₂² ≤ Δ / (1 − γ), and the distance shrinks with Δ; the mean is exact, whatever the atoms (projections keep it)."""
    n, gamma = 5, 0.8
    uniform = np.full((n + 2, 2), 0.5)
    points, probabilities = first_passages(n, 3, gamma, 300)
    assert probabilities.sum() == pytest.approx(1.0)
    distances = []
    for m in (11, 51, 201):
        atoms = np.linspace(-1, 1, m)
        law = categorical_law(walk(n), uniform, gamma, atoms)[3].mean(axis=0)
        distances.append(cramer_distance(law, atoms, probabilities, points))
        assert distances[-1] ** 2 <= (atoms[1] - atoms[0]) / (1 - gamma)
        assert law @ atoms == pytest.approx(probabilities @ points, abs=1e-8)
    assert distances[2] < distances[1] < distances[0] and distances[2] < 0.02
    quantiles = quantile_law(walk(n), uniform, gamma, 200)[3].ravel()
    assert cramer_distance(np.full(400, 1 / 400), quantiles, probabilities, points) < 0.02


def test_too_few_sweeps_are_said():
    with pytest.raises(ValueError, match="max_sweeps=3 do not suffice"):
        categorical_law(walk(5), np.full((7, 2), 0.5), 1.0, [-1.0, 1.0], max_sweeps=3)


def one_action(n):
    """The random walk as a world of one action: Q-learning there is the prediction of its returns. Starts anywhere inside."""
    transition, reward = np.zeros((n + 2, 1, n + 2)), np.zeros((n + 2, 1, n + 2))
    for s in range(1, n + 1):
        transition[s, 0, [s - 1, s + 1]] = 0.5
    transition[0, 0, 0] = transition[n + 1, 0, n + 1] = 1.0
    reward[1, 0, 0], reward[n, 0, n + 1] = -1.0, 1.0
    start = np.zeros(n + 2)
    start[1:-1] = 1 / n
    return TabularEnv(TabularMDP.from_dense(transition, reward, np.isin(np.arange(n + 2), (0, n + 1)), start))


LEARNED = {
    C51: ({"v_min": -1.0, "v_max": 1.0, "policy_kwargs": {"net_arch": []}, "learning_rate": 0.05}, 5000),
    IQN: (
        {"n_tau": 16, "n_tau_prime": 16, "policy_kwargs": {"net_arch": [64, 64]}, "learning_rate": 2e-3, "kappa": 0.0},
        5000,
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("cls", LEARNED)
def test_what_is_learned_is_near_the_law(cls):
    """Within 0.05 (Cramér distance) of the walk's exact law, in every state."""
    n, gamma = 5, 0.8
    settings, steps = LEARNED[cls]
    rate = settings["learning_rate"]
    model = cls("MlpPolicy", one_action(n), gamma=gamma, seed=0, device="cpu", learning_starts=500, batch_size=128,
                train_freq=1, target_update_interval=50, **settings | {"learning_rate": lambda x: rate * x})  # fmt: skip
    model.learn(steps)
    with th.no_grad():
        outputs = model.q_net.outputs(th.arange(n + 2), (th.arange(200) + 0.5).expand(n + 2, -1) / 200)[:, 0]  # [S, k]
    for s in range(1, n + 1):
        points, probabilities = first_passages(n, s, gamma, 300)
        if cls is C51:
            distance = cramer_distance(outputs[s].softmax(dim=0), model.q_net.atoms, probabilities, points)
        else:
            distance = cramer_distance(np.full(200, 1 / 200), outputs[s], probabilities, points)
        assert distance < 0.05, (s, distance)


@pytest.mark.parametrize("cls", [DQN, DeepQLearning])
def test_the_overestimation_is_exact(cls):
    """Q = q_π + 0.125, 0.25, … on the states that the greedy policy meets in turn, anything elsewhere."""
    env = gym.make("Lecture/GridWorld-v0", map=["S..", "...", "..G"])
    mdp = env.unwrapped.mdp
    model = cls("MlpPolicy", env, gamma=0.9, device="cpu", buffer_size=10, policy_kwargs={"net_arch": []})
    optimum = exact_optimum(mdp, 0.9)
    table = np.full((mdp.n_states, 4), -9.0)
    table[np.arange(mdp.n_states), optimum.policy] = optimum.v
    s, met = 0, []
    while s != mdp.n_states - 1:
        met.append(s)
        table[s, optimum.policy[s]] += 0.125 * len(met)
        s = mdp.outcomes(s, optimum.policy[s])[0][1]
    error = 0.125 * np.arange(1, len(met) + 1).mean()
    for state in set(range(mdp.n_states)) - set(met):
        table[state] += 7.0  # never met: does not count
    with th.no_grad():
        model.q_net.q_net[0].weight.copy_(th.as_tensor(table.T))
        model.q_net.q_net[0].bias.zero_()
    grader = ExactGrader(model.get_env(), 0.9)
    result = grader.grade(model)
    assert result.regret == pytest.approx(0.0)
    assert grader.q_error(model, result) == pytest.approx(error, abs=1e-5)
    callback = ExactEvalCallback(eval_freq=5)
    model.learn(10, callback=callback)
    assert callback.last_q_error == pytest.approx(error, abs=1e-5)
    assert model.logger.name_to_value["exact/q_error"] == pytest.approx(error, abs=1e-5)
