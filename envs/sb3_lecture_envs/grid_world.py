"""GridWorld: any ASCII map as a world."""

from collections.abc import Sequence
from functools import partial

from sb3_lecture_envs.grid import GridLayout, grid_mdp, parse_map
from sb3_lecture_envs.mdp import TabularMDP
from sb3_lecture_envs.tabular_env import TabularEnv, TabularVectorEnv

#: named maps and the reward of every step that belongs to each
MAPS: dict[str, tuple[str, float]] = {
    "2x2": ("S. .G", 0.0),
    "4x4": ("T... .... .... ...T", -1.0),  # Sutton & Barto 2018, example 4.1
    "open-10": (" ".join(["S" + "." * 9, *["." * 10] * 8, "." * 9 + "G"]), 0.0),
    "four-rooms": (  # Sutton, Precup & Singh 1999, figure 2, the outer walls left out
        "S....#..... .....#..... ........... .....#..... .....#..... #.####..... "
        ".....###.## .....#..... .....#..... ........... .....#....G",
        0.0,
    ),
}


def law(
    map: str | Sequence[str] = "2x2", slip: float = 0.0, step_reward: float | None = None
) -> tuple[TabularMDP, GridLayout]:
    """The law of a grid world; the arguments are those of ``GridWorldEnv``."""
    if isinstance(map, str) and map in MAPS:
        text, default_reward = MAPS[map]
        rows: str | Sequence[str] = text.split()
    elif isinstance(map, str) and "\n" not in map.strip():
        raise ValueError(f"map={map!r} is unknown; named maps are {list(MAPS)}, or give the rows of an ASCII map")
    else:
        rows, default_reward = map, 0.0
    return grid_mdp(parse_map(rows), slip=slip, step_reward=default_reward if step_reward is None else step_reward)


class GridWorldEnv(TabularEnv):
    """A grid of cells, walls, goals and pits, drawn as an ASCII map.

    ## Description
    The agent moves from cell to cell until it enters a cell that ends the episode. The map says which cells those are.

    | symbol | meaning |
    | --- | --- |
    | `.` | free cell |
    | `#` | wall |
    | `S` | start (several: one is drawn uniformly; none: a uniform start over all cells that do not end the episode) |
    | `G` | goal: +1 on arrival, ends the episode |
    | `P` | pit: -1 on arrival, ends the episode |
    | `T` | ends the episode, no reward of its own |
    | a number | reward of arriving in the cell, each time; rows with spaces are split there, so that `-5` fits |

    Named maps: `2x2` (start top left, goal bottom right), `4x4` (every step -1, two opposite terminal corners; Sutton &
    Barto 2018, example 4.1), `open-10`, `four-rooms` (Sutton, Precup & Singh 1999).

    ## Action Space
    `Discrete(4)`: 0 up, 1 right, 2 down, 3 left. A move against a wall or the border leads nowhere. `action_masks()` hides
    such moves (with `slip` it shows all: a blocked move can be of use there).

    ## Observation Space
    Chosen by `obs`: `"index"` `Discrete(S)` over the cells that are no wall, in reading order; `"one-hot"` `Box(S,)`;
    `"coords"` row and column scaled to [0, 1], `Box(2,)`; `"grid"` `MultiBinary([4, height, width])` with planes agent,
    walls, good ends, bad cells; `"rgb"` a picture `Box(64, 64, 3)` of uint8. All of them tell the state fully.

    ## Rewards
    `step_reward` for every step, plus what the cell entered says.

    ## Starting State
    The cell `S`; see the table.

    ## Episode End
    Terminated on entering `G`, `P` or `T`. Truncated after `max_episode_steps` (200 by default).

    ## Arguments
    - `map`: a named map, or the rows of an ASCII map, as a list or as one string with line breaks. Default `"2x2"`.
    - `slip`: probability of moving at a right angle to the action, half to each side. Default 0.
    - `step_reward`: reward of every step. Default: what belongs to the named map (-1 for `4x4`), otherwise 0.
    - `obs`: default `"index"`.
    - `render_mode`: `"ansi"`, `"rgb_array"` or `"human"`.

    ## Version History
    - v0: first version.

    :raises ValueError: if the map, ``slip``, ``obs`` or ``render_mode`` is not one of those
    """

    def __init__(
        self,
        map: str | Sequence[str] = "2x2",
        slip: float = 0.0,
        step_reward: float | None = None,
        obs: str = "index",
        render_mode: str | None = None,
    ) -> None:
        super().__init__(*law(map, slip, step_reward), obs=obs, render_mode=render_mode)


make_vector = partial(TabularVectorEnv.from_law, law)
