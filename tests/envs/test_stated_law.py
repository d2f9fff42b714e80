"""An env's ``P`` against what the env does."""

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.envs.toy_text import FrozenLakeEnv, TaxiEnv
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_lecture.exact import law
from sb3_lecture.exact.grade import ExactGrader
from sb3_lecture.exact.law import law_of
from sb3_lecture_envs import stated_law
from sb3_lecture_envs.mdp import TabularMDP
from sb3_lecture_envs.stated_law import check_law


class Line(gym.Env):
    """Five cells; the state shown is the cell. ``fault`` names one thing that ``step`` or ``reset`` does against ``P``."""

    observation_space, action_space = gym.spaces.Discrete(5), gym.spaces.Discrete(2)

    def __init__(self, fault="", where="s"):
        self.fault, self.where = fault, where
        self.P = {s: {a: [(0.8, self.move(s, a), 0.5 * s, s == 4), (0.2, s, -1.0, False)] for a in range(2)} for s in range(5)}
        self.seeds, self.window, self.calls = [], (c for c in "no copy"), 0

    def move(self, s, a):
        return min(max(s + 2 * a - 1, 0), 4)

    def reset(self, seed=None, options=None):
        super().reset(seed=seed)
        self.calls = 0
        setattr(self, self.where, int(self.np_random.integers(2)) if self.fault == "start" else 1)
        return getattr(self, self.where), {}

    def step(self, a):
        s = getattr(self, self.where)
        self.calls += 1
        chance = {"share": 0.4, "late": 0.0 if self.calls > 60 else 0.8}.get(self.fault, 0.8)
        _, after, reward, end = self.P[s][a][int(self.np_random.random() >= chance)]
        if self.fault == "late" and self.calls > 60:
            after, reward = 0, 7.0
        reward += 0.01 if self.fault == "reward" and s == 3 else 0.0
        end = end and self.fault != "end"
        setattr(self, self.where, after)
        return after + (self.fault == "shown" and s == 2), reward, end, False, {}


FAULTS = {
    "reward": r"in state 3, action \d led to state \d with reward 1.51",
    "end": r"in state 4, action \d led to state \d with reward 2 and terminated=False",
    "share": r"led to state \d \d+ times of 150",
    "late": "led to state 0 with reward 7",
    "start": "states no initial_state_distrib, and its resets begin in state 1 and in 0|in state 0 and in 1",
    "shown": r"in state \d it shows",
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_law_that_the_env_does_not_keep_is_refused_with_the_step(fault):
    with pytest.raises(ValueError, match=FAULTS[fault]):
        TabularMDP.from_gymnasium(Line(fault))


@pytest.mark.parametrize("where", ["s", "position"])
def test_a_law_that_the_env_keeps_is_taken_over(where):
    assert TabularMDP.from_gymnasium(Line(where=where)).start.tolist() == [0, 1, 0, 0, 0]
    if where == "position":  # nowhere to jump from: walks alone find the same fault
        with pytest.raises(ValueError, match="terminated=False"):
            TabularMDP.from_gymnasium(Line("end", where))


def test_the_env_and_its_random_numbers_stay_as_they_are():
    env = FrozenLakeEnv()
    env.reset(seed=7)
    env.step(1)
    before = (env.s, env.lastaction, env.np_random.bit_generator.state)
    check_law(env)
    assert (env.s, env.lastaction, env.np_random.bit_generator.state) == before
    line = Line()  # never reset: nothing to start from but the copy's own resets
    check_law(line)
    assert not hasattr(line, "s") and next(line.window) == "n"


def test_taxis_fickle_passenger_is_found_and_its_rain_is_in_the_law():
    for kwargs in ({}, {"is_rainy": True}):
        check_law(TaxiEnv(**kwargs))
    for kwargs in ({"fickle_passenger": True}, {"fickle_passenger": True, "fickle_probability": 0.05, "is_rainy": True}):
        with pytest.raises(ValueError, match=r"The law P of .* is not what the env does: in state \d+, action"):
            ExactGrader(TaxiEnv(**kwargs), 0.99)


def test_sampled_shares_are_refused_no_sooner_than_their_bound_says():
    """Chernoff: 150 throws of a coin of 1/3; ± 4 standard deviations pass, ± 10 do not."""
    limit = np.log(2 * 2 * stated_law.FREQUENT_ROWS / stated_law.FALSE_ALARM) / 150
    assert stated_law._divergence(1 / 3 + 4 * np.sqrt(2 / 9 / 150), 1 / 3) < limit
    assert stated_law._divergence(1 / 3 + 10 * np.sqrt(2 / 9 / 150), 1 / 3) > limit
    assert stated_law._divergence(0.25, 0.5) == pytest.approx(0.25 * np.log(0.5) + 0.75 * np.log(1.5))


def test_a_law_is_rehearsed_once_and_again_when_it_changes(monkeypatch):
    seen, real = [], stated_law.check_law
    monkeypatch.setattr("sb3_lecture_envs.mdp.check_law", lambda core: (seen.append(core), real(core))[1])
    env = DummyVecEnv([FrozenLakeEnv])
    first = law_of(env)
    assert law_of(env) is first and len(seen) == 1
    env.envs[0].P[0][0] = [(1.0, 4, 0.0, False)]
    assert law_of(env).outcomes(0, 0) == [(1.0, 4, 0.0, False)] and len(seen) == 2


def test_a_law_in_another_process_is_rehearsed_on_an_env_of_its_spec():
    env = gym.make("Taxi-v4", fickle_passenger=True, render_mode="ansi")
    anew = law._made_anew(None, {"spec": env.spec}.get)
    assert anew.unwrapped is not env.unwrapped and anew.unwrapped.fickle_passenger and anew.render_mode is None
    assert law._made_anew(None, {"spec": None, "unwrapped": env}.get) is env
