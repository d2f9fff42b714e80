"""CliffWalking: the short way is the dangerous one."""

from functools import partial

from sb3_lecture_envs.grid import CLIFF, GridLayout, grid_mdp, parse_map
from sb3_lecture_envs.mdp import TabularMDP
from sb3_lecture_envs.tabular_env import TabularEnv, TabularVectorEnv

ROWS = ("............", "............", "............", "SCCCCCCCCCCT")


def law(slip: float = 0.0, cliff_terminates: bool = False) -> tuple[TabularMDP, GridLayout]:
    """The law of the cliff; the arguments are those of ``CliffWalkingEnv``."""
    symbols = parse_map(ROWS, extra_symbols=CLIFF)
    return grid_mdp(symbols, slip=slip, step_reward=-1.0, cliff_reward=-100.0, cliff_terminates=cliff_terminates)


class CliffWalkingEnv(TabularEnv):
    """Walk from the left to the right along a cliff (Sutton & Barto 2018, example 6.6).

    ## Description
    A 4 by 12 grid. The start is the lower left corner, the end the lower right one, and between them runs the cliff.
    Off-policy Q-learning learns the shortest way along its edge, on-policy SARSA the safer way further up.

    ## Action Space
    `Discrete(4)`: 0 up, 1 right, 2 down, 3 left. Moves against the border lead nowhere; `action_masks()` hides them.

    ## Observation Space
    `Discrete(48)` with `obs="index"`, row by row, as Gymnasium's CliffWalking numbers them (start 36, end 47); the other
    modes are those of `Lecture/GridWorld-v0`.

    ## Rewards
    -1 a step; -100 for a step into the cliff.

    ## Starting State
    State 36.

    ## Episode End
    Terminated at state 47. The cliff leads back to the start (the book's reading) or, with `cliff_terminates`, ends the
    episode. Truncated after `max_episode_steps` (200 by default).

    ## Arguments
    - `slip`: probability of moving at a right angle to the action, half to each side. Default 0.
    - `cliff_terminates`: whether the cliff ends the episode. Default False.
    - `obs`, `render_mode`: as in `Lecture/GridWorld-v0`.

    ## Version History
    - v0: first version.

    :raises ValueError: if ``slip``, ``obs`` or ``render_mode`` is not one of those
    """

    def __init__(
        self, slip: float = 0.0, cliff_terminates: bool = False, obs: str = "index", render_mode: str | None = None
    ) -> None:
        super().__init__(*law(slip, cliff_terminates), obs=obs, render_mode=render_mode)


make_vector = partial(TabularVectorEnv.from_law, law)
