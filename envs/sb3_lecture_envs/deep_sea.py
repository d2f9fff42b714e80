"""DeepSea: a treasure that no walk by chance finds."""

from functools import partial

import numpy as np

from sb3_lecture_envs.checks import size_of_law, whole
from sb3_lecture_envs.grid import GridLayout
from sb3_lecture_envs.mdp import TabularMDP
from sb3_lecture_envs.tabular_env import TabularEnv, TabularVectorEnv

MOVE_COST = 0.01  # of going right all the way


def law(size: int = 10, mapping_seed: int | None = 0) -> tuple[TabularMDP, GridLayout]:
    """The law of a sea of ``size`` × ``size`` cells, and a row below on which episodes end."""
    size = whole("size", size, 2, 1000)
    size_of_law(2 * size * (size + 1), f"{size=}")
    n_states = size * (size + 1)
    rows, columns = np.divmod(np.arange(n_states), size)  # [S]
    sea = rows < size
    right = np.ones((size, size), np.int64)  # the action that goes right in each cell
    if mapping_seed is not None:
        seed = whole("mapping_seed", mapping_seed, 0, 2**32 - 1)
        right = np.random.RandomState(seed).binomial(1, 0.5, [size, size])  # bsuite's draw
    to_right = np.concatenate((right.ravel(), np.zeros(size, np.int64)))[:, None] == np.arange(2)  # [S, 2]
    column = np.clip(columns[:, None] + np.where(to_right, 1, -1), 0, size - 1)
    next_state = np.where(sea[:, None], (rows[:, None] + 1) * size + column, np.arange(n_states)[:, None])
    reward = to_right * ((columns == size - 1)[:, None] - MOVE_COST / size)
    reward[~sea] = 0.0
    mdp = TabularMDP(
        n_states, 2, np.arange(2 * n_states + 1), next_state.ravel(), np.ones(2 * n_states), reward.ravel(),
        (next_state >= size * size).ravel(), [0], [1.0],
    )  # fmt: skip
    symbols = np.full((size + 1, size), ".")
    symbols[0, 0], symbols[size] = "S", "T"
    symbols[size, size - 1] = "G"
    return mdp, GridLayout(symbols, np.stack((rows, columns), axis=1).astype(np.int32), actions="01")


class DeepSeaEnv(TabularEnv):
    """Sink through a sea of N × N cells; the treasure lies in the far corner (Osband et al. 2020, bsuite).

    ## Description
    Every step sinks by one row and goes one column to the left or to the right. Going right costs a little, and only who goes
    right every time finds the treasure: of 2^N ways one. A learner that explores by single random actions needs about 2^N
    episodes; one that explores by whole plans, about N². The rules are those of bsuite's `deep_sea`
    (https://arxiv.org/abs/1908.03568), without its noise. The best return is 1 - 0.01 = 0.99, that of never going right 0; the
    uniformly random policy finds the treasure with probability 2^-N.

    ## Action Space
    `Discrete(2)`: which of the two goes right is drawn once for every cell by `mapping_seed`, so that no direction can be
    learned for all; `None`: 1 goes right everywhere.

    ## Observation Space
    `Discrete(N (N + 1))` with `obs="index"`, row by row, the last row being where episodes end; the other modes are those of
    `Lecture/GridWorld-v0`.

    ## Rewards
    -0.01 / N for going right, +1 more for going right in the last column, 0 for going left.

    ## Starting State
    State 0, the upper left corner.

    ## Episode End
    Terminated after N steps.

    ## Arguments
    - `size`: N, from 2 to 1000. Default 10.
    - `mapping_seed`: seed of the actions' meaning, as in bsuite; None: 1 is right. Default 0.
    - `obs`, `render_mode`: as in `Lecture/GridWorld-v0`.

    ## Version History
    - v0: first version.

    :raises ValueError: if ``size`` or ``mapping_seed`` is out of range, or ``obs`` or ``render_mode`` is unknown
    """

    def __init__(
        self, size: int = 10, mapping_seed: int | None = 0, obs: str = "index", render_mode: str | None = None
    ) -> None:
        super().__init__(*law(size, mapping_seed), obs=obs, render_mode=render_mode)


make_vector = partial(TabularVectorEnv.from_law, law)
