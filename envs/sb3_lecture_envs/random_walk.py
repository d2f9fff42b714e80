"""RandomWalk: the world on which prediction methods are compared."""

from functools import partial

import numpy as np

from sb3_lecture_envs.checks import finite, size_of_law, whole
from sb3_lecture_envs.grid import GridLayout, line_mdp
from sb3_lecture_envs.mdp import TabularMDP
from sb3_lecture_envs.tabular_env import TabularEnv, TabularVectorEnv


def law(n: int = 19, left_reward: float = -1.0, reach: int = 1) -> tuple[TabularMDP, GridLayout]:
    """The law of a walk over ``n`` states between two ends."""
    n, left_reward, reach = whole("n", n, 1), finite("left_reward", left_reward), whole("reach", reach, 1)
    size_of_law(2 * n * reach, f"{n=} states, {reach=}")
    symbols = ["P" if left_reward < 0 else "T", *["."] * n, "G"]
    symbols[(n + 1) // 2] = "S"
    one_step, layout = line_mdp(n + 2, start=(n + 1) // 2, end_rewards={0: left_reward, n + 1: 1.0}, symbols=symbols)
    return (one_step if reach == 1 else _jumps(n, left_reward, reach)), layout


def _jumps(n: int, left_reward: float, reach: int) -> TabularMDP:
    """The law of jumps of 1 … reach cells, all alike; those beyond an end lead to it."""
    s, ends = np.arange(n + 2), np.array([0, n + 1])
    jumps = np.arange(1, reach + 1) * np.array([[-1], [1]])  # [2, reach]
    next_state = np.clip(s[:, None, None] + jumps, 0, n + 1)  # [S, 2, reach]
    next_state[ends] = ends[:, None, None]
    reward = np.select([next_state == 0, next_state == n + 1], [left_reward, 1.0], 0.0)
    reward[ends] = 0.0
    return TabularMDP(
        n + 2, 2, np.arange(0, next_state.size + 1, reach), next_state.ravel(), np.full(next_state.size, 1.0 / reach),
        reward.ravel(), np.isin(next_state, ends).ravel(), [(n + 1) // 2], [1.0],
    )  # fmt: skip


class RandomWalkEnv(TabularEnv):
    """A line of n cells between two ends, walked by chance (Sutton & Barto 2018, examples 6.2 and 7.1).

    ## Description
    Under the random policy and γ = 1 the value of state s is `left_reward + (1 - left_reward) s / (n + 1)`: a straight
    line, which makes the error of an estimate easy to see. With `n=1000, reach=100` it is the walk of example 9.1, the one on
    which features are compared: a step jumps to one of the 100 nearest cells on its side, whatever lies beyond an end being
    that end, and the values bend a little at the ends.

    ## Action Space
    `Discrete(2)`: 0 left, 1 right.

    ## Observation Space
    `Discrete(n + 2)` with `obs="index"`: 0 is the left end, n + 1 the right end; the other modes are those of
    `Lecture/GridWorld-v0` (one row).

    ## Rewards
    `left_reward` at the left end, +1 at the right end, 0 otherwise.

    ## Starting State
    The middle, state (n + 1) // 2.

    ## Episode End
    Terminated at either end. Truncated after `max_episode_steps` (1000 by default).

    ## Arguments
    - `n`: number of states between the ends. Default 19.
    - `left_reward`: -1 (example 7.1) or 0 (example 6.2, with `n=5`). Default -1.
    - `reach`: farthest cell a step can jump to, all up to it being alike. Default 1.
    - `obs`, `render_mode`: as in `Lecture/GridWorld-v0`.

    ## Version History
    - v0: first version.

    :raises ValueError: if ``n`` or ``reach`` is less than 1, or ``obs`` or ``render_mode`` is unknown
    """

    def __init__(
        self, n: int = 19, left_reward: float = -1.0, reach: int = 1, obs: str = "index", render_mode: str | None = None
    ) -> None:
        super().__init__(*law(n, left_reward, reach), obs=obs, render_mode=render_mode)


make_vector = partial(TabularVectorEnv.from_law, law)
