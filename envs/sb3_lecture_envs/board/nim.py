"""Nim: take any number of stones from one heap; who takes the last stone wins (misère: loses).

Bouton (1901, "Nim, a game with a complete mathematical theory") solved it: the side to move loses exactly when the binary
sum (xor) of the heaps is zero; in misère play too, unless every heap holds at most one stone.

State: [ply, over, stones of every heap].
"""

from collections.abc import Sequence
from functools import partial
from itertools import permutations
from typing import Any, NamedTuple

import numpy as np
from numba import njit

from sb3_lecture_envs.checks import flag, whole

from .env import BoardEnv, BoardVectorEnv, Opponent
from .game import HEADER, OVER, PLY, Game, Rules, Symmetries, register_rules


class NimLaw(NamedTuple):
    """The constants of Nim.

    :param heaps: stones of every heap at the start
    :param largest: the largest of them
    :param misere: who takes the last stone loses
    :param max_plies: stones altogether
    """

    heaps: tuple[int, ...]
    largest: int
    misere: bool
    max_plies: int


@njit(cache=True)
def _initial(law, state):  # type: ignore[no-untyped-def]
    state[:] = 0
    for heap in range(len(law.heaps)):
        state[HEADER + heap] = law.heaps[heap]


@njit(cache=True)
def _legal(law, state, mask):  # type: ignore[no-untyped-def]
    n = 0
    for heap in range(len(law.heaps)):
        stones = state[HEADER + heap]
        n += stones
        for take in range(law.largest):
            mask[heap * law.largest + take] = take < stones
    return n


@njit(cache=True)
def _accepts(law, state, action):  # type: ignore[no-untyped-def]
    if action < 0 or action >= len(law.heaps) * law.largest:
        return False
    return action % law.largest < state[HEADER + action // law.largest]


@njit(cache=True)
def _step(law, state, action):  # type: ignore[no-untyped-def]
    state[PLY] += 1
    state[HEADER + action // law.largest] -= action % law.largest + 1
    for heap in range(len(law.heaps)):
        if state[HEADER + heap] > 0:
            return 0.0, False
    state[OVER] = 1
    return (-1.0 if law.misere else 1.0), True


@njit(cache=True)
def _observe(law, state, out):  # type: ignore[no-untyped-def]
    played = state[PLY] / law.max_plies
    for heap in range(len(law.heaps)):
        for stone in range(law.largest):
            out[0, heap, stone] = stone < state[HEADER + heap]
            out[1, heap, stone] = played


@njit(cache=True)
def _state_of(law, observation, state):  # type: ignore[no-untyped-def]
    state[PLY] = int(np.rint(observation[1, 0, 0] * law.max_plies))
    total = 0
    for heap in range(len(law.heaps)):
        stones = 0
        for stone in range(law.largest):
            stones += observation[0, heap, stone] > 0.5
        state[HEADER + heap] = stones
        total += stones
    state[OVER] = total == 0


register_rules(NimLaw, Rules(_initial, _legal, _accepts, _step, _observe, _state_of))


class Nim(Game):
    """The rules of Nim. Action ``heap * largest + k - 1`` takes k stones from a heap.

    Planes [2, heaps, largest]: a one for every stone, from the left; the share of ``max_plies`` played, everywhere.

    :param heaps: stones of every heap (default 1, 3, 5, 7)
    :param misere: who takes the last stone loses (default False: wins)
    :raises ValueError: without a heap, or for an empty one
    """

    def __init__(self, heaps: tuple[int, ...] = (1, 3, 5, 7), misere: bool = False) -> None:
        if not isinstance(heaps, (Sequence, np.ndarray)) or isinstance(heaps, str) or len(heaps) == 0:
            raise ValueError(f"heaps={heaps!r} must name the stones of at least one heap, such as (1, 3, 5, 7)")
        heaps = tuple(whole(f"heaps[{i}]", stones, 1, 10_000) for i, stones in enumerate(heaps))
        if len(heaps) * max(heaps) > 1_000_000:
            raise ValueError(f"{len(heaps)} heaps of up to {max(heaps)} stones are too many moves; at most 1,000,000")
        largest = max(heaps)
        self.law = NimLaw(heaps, largest, flag("misere", misere), sum(heaps))
        self.n_actions = len(heaps) * largest
        self.state_size = HEADER + len(heaps)
        self.observation_shape = (2, len(heaps), largest)
        self.max_plies = sum(heaps)
        # the rules know no order of heaps; for more than four the permutations would be too many to be of use
        cells = np.arange(self.n_actions, dtype=np.int64).reshape(len(heaps), largest)
        orders = list(permutations(range(len(heaps)))) if len(heaps) <= 4 else [tuple(range(len(heaps)))]
        table = np.stack([cells[list(order)].ravel() for order in orders])
        self.symmetries = Symmetries(table, table)

    def grader(self) -> Any:
        """Return the fully solved game."""
        from .solve import solve

        return solve(self)

    def board(self, state: np.ndarray) -> np.ndarray:
        """Return the sizes of the heaps, int8 [1, heaps]."""
        return np.asarray(state[HEADER:], np.int8)[None]

    def action_to_text(self, action: int) -> str:
        """Name a move ``heap-stones``, heaps counted from 1."""
        return f"{action // self.law.largest + 1}-{action % self.law.largest + 1}"

    def text_to_action(self, text: str) -> int:
        """Read a move such as ``2-3``: three stones from the second heap."""
        names = {self.action_to_text(action): action for action in range(self.n_actions)}
        if text.strip() not in names:
            raise ValueError(f"{text!r} is no move. Write heap-stones, such as 2-3 for three stones from the second heap.")
        return names[text.strip()]

    def render_text(self, state: np.ndarray) -> str:
        """Draw a row of stones for every heap."""
        return "\n".join(f"{heap + 1}: {'o ' * int(stones)}".rstrip() for heap, stones in enumerate(state[HEADER:]))


class NimEnv(BoardEnv):
    """Nim as an env.

    ## Description
    Two players take any number of stones from one heap in turn; who takes the last stone wins.

    ## Action Space
    `Discrete(heaps * largest)`: `heap * largest + k - 1` takes k stones.
    `info["action_mask"]` and `action_masks()` show the legal moves.

    ## Observation Space
    `Box(0, 1, (2, heaps, largest), float32)`: a one for every stone; the share of the longest game played, everywhere.

    ## Rewards
    +1 for the move that wins, −1 for an illegal one with `illegal="lose"`, otherwise 0. Without an opponent the reward is the
    mover's; with one it is the agent's, −1 where the opponent's answer wins.

    ## Starting State
    The heaps given.

    ## Episode End
    Terminated with the last stone, or by an illegal move with `illegal="lose"`.

    ## Arguments
    - `heaps`: stones of every heap. Default (1, 3, 5, 7), which the second player wins.
    - `misere`: who takes the last stone loses. Default False: wins.
    - `opponent`: None (two players alternate, the default), "random", "perfect", or a callable (observation, mask) -> action.
    - `side`: against an opponent "random" (drawn at reset, the default), "first" or "second".
    - `illegal`: "lose" (default) or "error".
    - `render_mode`: None, "ansi", "rgb_array" or "human".

    ## Version History
    - v0: first version.

    :raises ValueError: if an argument is not one of those
    """

    def __init__(
        self,
        heaps: tuple[int, ...] = (1, 3, 5, 7),
        misere: bool = False,
        opponent: str | Opponent | None = None,
        side: str = "random",
        illegal: str = "lose",
        render_mode: str | None = None,
    ) -> None:
        super().__init__(Nim(heaps, misere), opponent, side, illegal, render_mode)


make_vector = partial(BoardVectorEnv.from_game, Nim)
