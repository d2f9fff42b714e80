"""Exploring starts (Sutton & Barto 2018, section 5.3): every episode begins in a state drawn evenly from those not terminal.

The compiled loop draws from the list of these states. In the env loop an env is started anew with
``reset(options={"state": s})``, which TabularEnv and all worlds over it understand; an env that starts elsewhere is refused.
Both take the same random numbers.
"""

from functools import lru_cache
from typing import Any

import numpy as np
from stable_baselines3.common.vec_env import VecEnv

from sb3_lecture.common.vec_env import GymnasiumVecEnv
from sb3_lecture.exact.law import law_of
from sb3_lecture.tabular.backend import without_monitors
from sb3_lecture.tabular.kernels import WORLD_STREAM, uniform
from sb3_lecture_envs.mdp import TabularMDP, sample_start


@lru_cache(maxsize=8)
def even_starts(mdp: TabularMDP) -> tuple[np.ndarray, np.ndarray]:
    """The states that are not terminal, int64 [M], and the cumulative probabilities of an even draw, float64 [M].

    A state is terminal if every action leads back to it with reward 0 and ends the episode.

    :raises ValueError: if all states are terminal
    """
    per_state = mdp.row_ptr[:: mdp.n_actions].astype(np.int64)  # [S + 1], where each state's entries begin
    owner = np.repeat(np.arange(mdp.n_states), np.diff(per_state))  # [entries]
    stays = mdp.terminated & (mdp.next_state == owner) & (mdp.reward == 0.0)
    states = np.flatnonzero(~np.logical_and.reduceat(stays, per_state[:-1])).astype(mdp.start_state.dtype)
    if states.size == 0:
        raise ValueError("exploring_starts=True: every state of this world is terminal, so no episode can start")
    return states, np.arange(1, states.size + 1) / states.size


def draw_start(mdp: TabularMDP, rng: np.ndarray) -> int:
    """One state of ``even_starts``, as the compiled loop draws it: no random number where there is no choice."""
    states, cdf = even_starts(mdp)
    if states.size == 1:
        return int(states[0])
    with np.errstate(over="ignore"):  # the random numbers' mixing overflows, as it should
        return int(sample_start(states, cdf, uniform(rng, WORLD_STREAM)))


def law_to_explore(env: VecEnv) -> TabularMDP:
    """The law that says which states there are.

    :raises ValueError: if the env states none, or its envs cannot be started one by one
    """
    mdp = law_of(env)
    if mdp is None:
        raise ValueError(
            "exploring_starts=True needs a world that states its law (a TabularMDP or Gymnasium's P) and can be started in "
            "any of its states, and this env states none; leave it False and explore by ε"
        )
    if isinstance(without_monitors(env), GymnasiumVecEnv):
        raise ValueError(
            "exploring_starts=True cannot start the envs of a Gymnasium VectorEnv one by one; use backend='compiled', or a "
            "DummyVecEnv"
        )
    return mdp


def start_in(env: VecEnv, i: int, s: int, index: Any) -> Any:
    """Start a new episode of env i in state s; returns its observation.

    :raises ValueError: if the env does not start there
    """
    observation = env.env_method("reset", options={"state": s}, indices=[i])[0][0]
    found = int(index(observation)[0])
    if found != s:
        raise ValueError(
            f"exploring_starts=True: reset(options={{'state': {s}}}) started env {i} in state {found}; this env cannot be "
            "started in a given state, so use backend='compiled' if it states its law, or leave exploring_starts False"
        )
    return observation
