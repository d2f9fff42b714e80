"""What the worked numbers of the update rules share: a small world, a model with a table, and transitions to learn from."""

import numpy as np
from stable_baselines3.common.vec_env import DummyVecEnv

from sb3_lecture_envs.mdp import TabularMDP
from sb3_lecture_envs.tabular_env import TabularEnv

ALPHA, GAMMA = 0.5, 0.5
GO, END, CUT = (False, False), (True, False), (False, True)  # (terminated, truncated)


def world(n_states=4, n_actions=2):
    """A law of the right size; the transitions learned from are the tests' own."""
    rows = {s: {a: [(1.0, s, 0.0, True)] for a in range(n_actions)} for s in range(n_states)}
    return TabularEnv(TabularMDP.from_P(rows, 0))


def make(cls, n_states=4, n_actions=2, q=None, n_envs=1, **kwargs):
    """A model with a table, and its agent; the behaviour is greedy."""
    env = world(n_states, n_actions)
    if n_envs > 1:
        env = DummyVecEnv([lambda: world(n_states, n_actions)] * n_envs)
    settings = {"learning_rate": ALPHA, "gamma": GAMMA, "seed": 0, **kwargs}
    model = cls(env=env, **settings)
    if q is not None:
        model.policy.table.numpy()[:] = np.asarray(q, float).reshape(model.policy.table.shape)
    agent = model._agent()
    agent.epsilon[0] = 0.0
    return model, agent


def learn(model, agent, *transitions, env=0):
    """Learn from (s, a, r, s', (terminated, truncated)) …"""
    for s, a, r, s2, (terminated, truncated) in transitions:
        discount = 0.0 if terminated else agent.gamma
        model._rules()[1](agent, env, s, a, float(r), discount, s2, terminated or truncated)
    return agent.q
