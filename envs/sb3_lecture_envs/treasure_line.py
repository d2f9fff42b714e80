"""TreasureLine: the first world of many lectures, a line with a treasure at its end."""

from functools import partial

from sb3_lecture_envs.checks import size_of_law, whole
from sb3_lecture_envs.grid import GridLayout, line_mdp
from sb3_lecture_envs.mdp import TabularMDP
from sb3_lecture_envs.tabular_env import TabularEnv, TabularVectorEnv


def law(n: int = 6) -> tuple[TabularMDP, GridLayout]:
    """The law of a line of ``n`` states."""
    n = whole("n", n, 2)
    size_of_law(2 * n, f"{n=} states")
    return line_mdp(n, start=0, end_rewards={n - 1: 1.0}, symbols=["S", *["."] * (n - 2), "G"])


class TreasureLineEnv(TabularEnv):
    """A line of n cells: the agent starts at the left end, the treasure lies at the right end.

    ## Description
    The smallest world in which a reward has to travel back through the values: Q*(s, right) = γ^(n-2-s) and
    Q*(s, left) = γ V*(max(s - 1, 0)).

    ## Action Space
    `Discrete(2)`: 0 left, 1 right. Left of the first cell leads nowhere; `action_masks()` hides it.

    ## Observation Space
    `Discrete(n)` with `obs="index"`; the other modes are those of `Lecture/GridWorld-v0` (one row).

    ## Rewards
    +1 for reaching the treasure, 0 otherwise.

    ## Starting State
    State 0.

    ## Episode End
    Terminated at state n - 1. Truncated after `max_episode_steps` (200 by default).

    ## Arguments
    - `n`: number of states. Default 6.
    - `obs`, `render_mode`: as in `Lecture/GridWorld-v0`.

    ## Version History
    - v0: first version.

    :raises ValueError: if ``n`` is less than 2, or ``obs`` or ``render_mode`` is unknown
    """

    def __init__(self, n: int = 6, obs: str = "index", render_mode: str | None = None) -> None:
        super().__init__(*law(n), obs=obs, render_mode=render_mode)


make_vector = partial(TabularVectorEnv.from_law, law)
