"""RiverSwim: a little for drifting, a lot for swimming long against the current."""

from functools import partial

import numpy as np

from sb3_lecture_envs.checks import finite, size_of_law, whole
from sb3_lecture_envs.grid import GridLayout
from sb3_lecture_envs.mdp import TabularMDP
from sb3_lecture_envs.tabular_env import TabularEnv, TabularVectorEnv

FORWARD, BACK = 0.3, 0.1  # probabilities of what a stroke to the right does; else the swimmer stays
EDGE_BACK = 0.7  # in the last state


def law(n: int = 6, left_reward: float = 5e-4) -> tuple[TabularMDP, GridLayout]:
    """The law of a river of ``n`` states."""
    n, left_reward = whole("n", n, 3), finite("left_reward", left_reward)
    size_of_law(4 * n, f"{n=} states")
    transition, reward = np.zeros((n, 2, n)), np.zeros((n, 2, n))
    s = np.arange(n)
    transition[s, 0, np.maximum(s - 1, 0)] = 1.0
    transition[s[:-1], 1, s[1:]] = FORWARD
    transition[s[1:-1], 1, s[:-2]] = BACK
    transition[s[:-1], 1, s[:-1]] = 1.0 - FORWARD - BACK
    transition[0, 1, 0] = 1.0 - FORWARD
    transition[n - 1, 1, [n - 2, n - 1]] = EDGE_BACK, 1.0 - EDGE_BACK
    reward[0, 0, 0], reward[n - 1, 1, n - 1] = left_reward, 1.0
    start = np.zeros(n)
    start[[1, 2]] = 0.5
    symbols = np.array([["."] * n])
    symbols[0, 1:3] = "S"
    cells = np.stack((np.zeros(n, np.int32), s.astype(np.int32)), axis=1)
    return TabularMDP.from_dense(transition, reward, start=start), GridLayout(symbols, cells, actions="←→")


class RiverSwimEnv(TabularEnv):
    """Swim up a river of n states (Strehl & Littman 2008, figure 1).

    ## Description
    Left always drifts one state down the river. Right is a stroke against the current: one state up with probability 0.3, one
    down with 0.1, else none. The lowest state pays a little for drifting on, the highest one a lot for holding it, but a walk
    by chance hardly ever gets there: to explore here is to insist. https://doi.org/10.1016/j.jcss.2007.08.009

    ## Action Space
    `Discrete(2)`: 0 left, 1 right.

    ## Observation Space
    `Discrete(n)` with `obs="index"`; the other modes are those of `Lecture/GridWorld-v0` (one row).

    ## Rewards
    `left_reward` for left in state 0; 1 for a right in the last state that holds it (probability 0.3); 0 otherwise. These are
    the paper's 5 and 10,000, divided by 10,000.

    ## Starting State
    State 1 or 2, by equal chance.

    ## Episode End
    Never terminated: values need a discount. Truncated after `max_episode_steps` (200 by default).

    ## Arguments
    - `n`: number of states. Default 6.
    - `left_reward`: Default 0.0005.
    - `obs`, `render_mode`: as in `Lecture/GridWorld-v0`.

    ## Version History
    - v0: first version.

    :raises ValueError: if ``n`` is less than 3, or ``obs`` or ``render_mode`` is unknown
    """

    def __init__(self, n: int = 6, left_reward: float = 5e-4, obs: str = "index", render_mode: str | None = None) -> None:
        super().__init__(*law(n, left_reward), obs=obs, render_mode=render_mode)


make_vector = partial(TabularVectorEnv.from_law, law)
