"""DeepSea and RiverSwim: bsuite's rules, the papers' numbers."""

import gymnasium as gym
import numpy as np
import pytest

import sb3_lecture_envs
from sb3_lecture.exact.chain import policy_evaluation
from sb3_lecture.exact.solver import exact_optimum, start_value


@pytest.mark.parametrize("size", [2, 10, 50])
@pytest.mark.parametrize("mapping_seed", [None, 0, 3])
def test_the_best_return_is_099_and_chance_finds_it_once_in_two_to_the_n(size, mapping_seed):
    mdp = gym.make("Lecture/DeepSea-v0", size=size, mapping_seed=mapping_seed).unwrapped.mdp
    assert start_value(mdp, exact_optimum(mdp, 1.0).v) == pytest.approx(0.99, abs=1e-12)
    uniform = policy_evaluation(mdp, np.full((mdp.n_states, 2), 0.5), 1.0)
    assert start_value(mdp, uniform) == pytest.approx(0.5**size - 0.005, abs=1e-12)  # half the steps go right


def test_steps_are_bsuites():
    """Its rules written down again, cell by cell, with the actions' meaning drawn as it draws it."""
    size = 5
    env = gym.make("Lecture/DeepSea-v0", size=size, mapping_seed=42, obs="grid")
    mapping = np.random.RandomState(42).binomial(1, 0.5, [size, size])
    rng = np.random.default_rng(0)
    for episode in range(60):
        env.reset()
        row = column = 0
        for _ in range(size):
            action = int(mapping[row, column]) if episode == 0 else int(rng.integers(2))
            goes_right = action == mapping[row, column]
            expected = float(column == size - 1 and goes_right) - 0.01 / size * goes_right
            column = min(max(column + (1 if goes_right else -1), 0), size - 1)
            row += 1
            observation, reward, terminated, truncated, _ = env.step(action)
            assert reward == pytest.approx(expected) and not truncated
            assert np.argwhere(observation[0]).tolist() == [[row, column]]
            assert terminated == (row == size)


def test_the_river_is_strehl_and_littmans():
    mdp = gym.make("Lecture/RiverSwim-v0").unwrapped.mdp
    assert (mdp.n_states, mdp.n_actions) == (6, 2) and mdp.start.tolist() == [0, 0.5, 0.5, 0, 0, 0]

    def law(s, a):
        return {(after, reward): pytest.approx(p) for p, after, reward, ends in mdp.outcomes(s, a) if not ends}

    assert law(0, 0) == {(0, 5e-4): 1.0} and law(0, 1) == {(0, 0.0): 0.7, (1, 0.0): 0.3}
    for s in range(1, 5):
        assert law(s, 0) == {(s - 1, 0.0): 1.0}
        assert law(s, 1) == {(s - 1, 0.0): 0.1, (s, 0.0): 0.6, (s + 1, 0.0): 0.3}
    assert law(5, 0) == {(4, 0.0): 1.0} and law(5, 1) == {(4, 0.0): 0.7, (5, 1.0): 0.3}
    assert (exact_optimum(mdp, 0.95).policy == 1).all()  # swim, from everywhere
    assert exact_optimum(mdp, 0.5).policy[0] == 0  # who is impatient drifts


@pytest.mark.parametrize(
    ("env_id", "wrong"),
    [("DeepSea", {"size": 1}), ("DeepSea", {"size": 1001}), ("DeepSea", {"mapping_seed": -1}), ("RiverSwim", {"n": 2})],
)
def test_wrong_arguments_are_named(env_id, wrong):
    name, value = next(iter(wrong.items()))
    with pytest.raises(ValueError, match=f"{name}={value}"):
        gym.make(f"Lecture/{env_id}-v0", **wrong)


def test_minatars_ids_are_there_as_soon_as_the_package_is(monkeypatch):
    ids = {f"MinAtar/{game}-v{version}" for game in sb3_lecture_envs.MINATAR for version in (0, 1)}
    monkeypatch.setattr(sb3_lecture_envs, "find_spec", lambda name: object() if name == "minatar" else None)
    before = dict(gym.registry)
    try:
        sb3_lecture_envs.register_envs()
        assert ids <= set(gym.registry)
        spec = gym.spec("MinAtar/SpaceInvaders-v1")
        assert spec.kwargs == {"game": "space_invaders", "use_minimal_action_set": True} and spec.max_episode_steps == 5000
        monkeypatch.setattr(sb3_lecture_envs, "find_spec", lambda name: None)
        for env_id in ids - set(before):
            del gym.registry[env_id]
        sb3_lecture_envs.register_envs()
        assert set(gym.registry) == set(before)
    finally:
        gym.registry.clear()
        gym.registry.update(before)
