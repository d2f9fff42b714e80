"""BairdStar: seven states, no reward, and values that grow without end."""

from functools import partial

import numpy as np

from sb3_lecture_envs.grid import GridLayout
from sb3_lecture_envs.mdp import TabularMDP
from sb3_lecture_envs.tabular_env import TabularEnv, TabularVectorEnv

N_STATES = 7
DASHED, SOLID = 0, 1
#: features of the states [7, 8]: 2 w_i + w_8 above, w_7 + 2 w_8 below
FEATURES = np.concatenate((np.diag([2.0] * 6 + [1.0]), np.array([[1.0]] * 6 + [[2.0]])), axis=1)
FEATURES.flags.writeable = False
#: probabilities of the dashed and the solid action of the policy that acts, b
BEHAVIOUR = (6.0 / 7.0, 1.0 / 7.0)
GAMMA = 0.99  # the example's discount
START_WEIGHTS = (1.0, 1.0, 1.0, 1.0, 1.0, 1.0, 10.0, 1.0)  # w of the book's figure


def law() -> tuple[TabularMDP, GridLayout]:
    """The law of the star."""
    transition = np.zeros((N_STATES, 2, N_STATES))
    transition[:, DASHED, :6] = 1.0 / 6.0
    transition[:, SOLID, 6] = 1.0
    symbols = np.array([list("SSSSSS"), list("###S##")])
    cells = np.array([(0, i) for i in range(6)] + [(1, 3)], np.int32)
    start = np.full(N_STATES, 1.0 / N_STATES)
    return TabularMDP.from_dense(transition, np.zeros((N_STATES, 2)), start=start), GridLayout(symbols, cells, actions="ds")


class BairdStarEnv(TabularEnv):
    """Baird's counterexample: the deadly triad in seven states (Sutton & Barto 2018, example 11.1).

    ## Description
    The dashed action leads to one of the six upper states, the solid one to the seventh. No step pays anything: every value
    is 0, and eight weights can say so. Yet semi-gradient TD(0) for the policy that always takes the solid action, learned from
    steps of another that takes the dashed one six times of seven, diverges, in expectation too: the spectral radius of its
    expected update is 1.0023925 at the book's step size. Function approximation, bootstrapping and off-policy data are each
    harmless without the others; `sb3-lecture plot triad` draws all eight combinations.

    `sb3_lecture_envs.baird_star.FEATURES` holds the book's features, for learners that take a matrix of them.

    ## Action Space
    `Discrete(2)`: 0 dashed, 1 solid.

    ## Observation Space
    `Discrete(7)` with `obs="index"`, the seventh state being 6; the other modes are those of `Lecture/GridWorld-v0`.

    ## Rewards
    0.

    ## Starting State
    Any, by equal chance.

    ## Episode End
    Never terminated. Truncated after `max_episode_steps` (1000 by default).

    ## Arguments
    - `obs`, `render_mode`: as in `Lecture/GridWorld-v0`.

    ## Version History
    - v0: first version.

    :raises ValueError: if ``obs`` or ``render_mode`` is unknown
    """

    def __init__(self, obs: str = "index", render_mode: str | None = None) -> None:
        super().__init__(*law(), obs=obs, render_mode=render_mode)


make_vector = partial(TabularVectorEnv.from_law, law)
