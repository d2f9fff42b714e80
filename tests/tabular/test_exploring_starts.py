"""Monte Carlo ES: episodes start with a pair drawn evenly, in both loops; what cannot be started in a state is refused."""

import gymnasium as gym
import numpy as np
import pytest
from stable_baselines3.common.env_util import make_vec_env
from stable_baselines3.common.monitor import Monitor
from stable_baselines3.common.vec_env import DummyVecEnv

import sb3_lecture
import sb3_lecture_envs  # noqa: F401
from sb3_lecture.common.vec_env import make_native_vec_env
from sb3_lecture.tabular.exploring_starts import even_starts
from sb3_lecture_envs.mdp import TabularMDP
from sb3_lecture_envs.tabular_env import TabularEnv

pytestmark = pytest.mark.usefixtures("plain")
GREEDY = {"exploration_initial_eps": 0.0, "exploration_final_eps": 0.0}


def one_step(n=3, n_actions=2):
    """From each of n states both actions lead to the terminal state n, with the reward 10 s + a + 1; the env starts in 0."""
    rows = {s: {a: [(1.0, n, 10.0 * s + a + 1, True)] for a in range(n_actions)} for s in range(n)}
    return TabularMDP.from_P({**rows, n: {a: [(1.0, n, 0.0, True)] for a in range(n_actions)}}, 0)


def test_states_that_are_not_terminal():
    """A state that a reward, or one action, or one outcome leads out of is not terminal."""
    rows = {
        0: {0: [(1.0, 0, 0.0, True)], 1: [(1.0, 0, 0.0, True)]},  # terminal
        1: {0: [(1.0, 1, 0.0, True)], 1: [(1.0, 1, 2.0, True)]},  # a bandit
        2: {0: [(1.0, 2, 0.0, False)], 1: [(1.0, 2, 0.0, True)]},
        3: {0: [(0.5, 3, 0.0, True), (0.5, 4, 0.0, True)], 1: [(1.0, 3, 0.0, True)]},
        4: {0: [(1.0, 4, 0.0, True)], 1: [(1.0, 4, 0.0, True)]},  # terminal
    }
    states, cdf = even_starts(TabularMDP.from_P(rows, 0))
    assert states.tolist() == [1, 2, 3]
    np.testing.assert_allclose(cdf, [1 / 3, 2 / 3, 1])
    with pytest.raises(ValueError, match="every state of this world is terminal"):
        even_starts(TabularMDP.from_P({0: rows[0]}, 0))


@pytest.mark.parametrize("n_envs", [1, 2])
@pytest.mark.parametrize("backend", ["env", "compiled"])
def test_every_pair_is_a_start_equally_often(backend, n_envs):
    """A greedy learner of one-step episodes: its selections are the starts, 1200 over 6 pairs (± 4 standard deviations)."""
    mdp = one_step()
    env = DummyVecEnv([lambda: Monitor(TabularEnv(mdp)) for _ in range(n_envs)])
    model = sb3_lecture.MonteCarloControl(env=env, seed=0, backend=backend, exploring_starts=True, **GREEDY).learn(1200)
    tries = model.policy.tries.numpy()
    assert tries.sum() == 1200 and (np.abs(tries[:3] - 200) < 4 * np.sqrt(1200 * 5 / 36)).all() and not tries[3].any()
    np.testing.assert_allclose(model.q_table, [[1, 2], [11, 12], [21, 22], [0, 0]], rtol=1e-12)
    assert np.mean([episode["r"] for episode in model.ep_info_buffer]) > 5  # they are the episodes that Monitor counts
    usual = sb3_lecture.MonteCarloControl(env=env, seed=0, backend=backend, **GREEDY).learn(100)
    assert usual.policy.tries.numpy()[0].sum() == 100


def test_monte_carlo_es_solves_a_world_without_exploring(regret):
    """The box of section 5.3 on a 2x2 grid, greedy throughout; without exploring starts ties alone must find the way."""
    env = make_vec_env("Lecture/GridWorld-v0", 1, env_kwargs={"map": "2x2"})
    model = sb3_lecture.MonteCarloControl(env=env, seed=0, exploring_starts=True, **GREEDY).learn(3000)
    assert regret(model) == pytest.approx(0.0, abs=1e-9)
    states, _ = even_starts(env.get_attr("mdp")[0])
    assert (model.policy.updates.numpy()[states] > 0).all()


def test_the_first_action_is_any_and_the_others_are_greedy():
    """0 → 1 → end, whatever is done; action 1 is better in both. In state 1 action 0 is taken only as a start."""
    rows = {0: {a: [(1.0, 1, float(a), False)] for a in range(2)}, 1: {a: [(1.0, 2, float(a), True)] for a in range(2)}}
    mdp = TabularMDP.from_P({**rows, 2: {a: [(1.0, 2, 0.0, True)] for a in range(2)}}, 0)
    model = sb3_lecture.MonteCarloControl(env=TabularEnv(mdp), seed=0, exploring_starts=True, **GREEDY)
    model.q_table[:] = [[0.0, 1.0], [0.0, 1.0], [0.0, 0.0]]
    model.learn(900)
    tries = model.policy.tries.numpy()
    starts = model._episode_num
    assert tries[0].sum() == pytest.approx(starts / 2, abs=4 * np.sqrt(starts) / 2)
    assert tries[0, 0] == pytest.approx(starts / 4, abs=4 * np.sqrt(starts * 3) / 4)
    assert tries[1, 0] == pytest.approx(starts / 4, abs=4 * np.sqrt(starts * 3) / 4)


class Blackjack(gym.ObservationWrapper):
    """Blackjack's three numbers as a MultiDiscrete space."""

    def __init__(self):
        super().__init__(gym.make("Blackjack-v1"))
        self.observation_space = gym.spaces.MultiDiscrete([32, 11, 2])

    def observation(self, observation):
        return np.array(observation)


def test_worlds_that_cannot_be_started_in_a_state_are_refused():
    for env, backend, words in (
        (Blackjack(), "auto", "needs a world that states its law"),
        ("FrozenLake-v1", "env", "started env 0 in state 0"),
        (make_native_vec_env("Lecture/CliffWalking-v0", 2), "env", "one by one; use backend='compiled'"),
    ):
        model = sb3_lecture.MonteCarloControl(env=env, seed=0, backend=backend, exploring_starts=True)
        with pytest.raises(ValueError, match=words) as error:
            model.learn(10)
        assert "\n" not in str(error.value)
    with pytest.raises(ValueError, match="exploring_starts=True with importance_sampling='weighted'"):
        sb3_lecture.MonteCarloControl(env=TabularEnv(one_step()), exploring_starts=True, importance_sampling="weighted")


def test_laws_that_others_state_and_native_vector_envs_start_anywhere_when_compiled():
    for env in ("FrozenLake-v1", make_native_vec_env("Lecture/CliffWalking-v0", 2)):
        model = sb3_lecture.MonteCarloControl(env=env, seed=0, backend="compiled", exploring_starts=True).learn(3000)
        mdp = model._resolve_backend()[1].mdp
        tries = model.policy.tries.numpy().sum(axis=1)
        states, _ = even_starts(mdp)
        assert not np.delete(tries, states).any() and (tries[states] > 0).mean() > 0.9
