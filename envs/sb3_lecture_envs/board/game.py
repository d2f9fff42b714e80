"""The Game protocol: the rules of a two-player zero-sum board game as pure functions on integer arrays.

One game object serves the env, the search and the solver. No Python object stands for a state: a state is one row of
integers, and every row begins with the same two numbers,

    state[PLY]   moves played so far; player ``ply % 2`` is to move (player 0 moves first)
    state[OVER]  1 once the game has ended, else 0

and what follows is the game's own business. Rewards are the mover's (+1 win, −1 loss, 0 otherwise); the other
player's are their negatives.

How a compiled kernel specialises on a game
-------------------------------------------
A game's constants (board size, komi, …) are a ``NamedTuple`` of numbers, its *law*. The functions ``legal``, ``accepts``,
``step``, ``observe``, ``state_of`` and ``initial`` below take the law first; inside a numba kernel the *type* of the law
picks the rules at compile time, and its *fields* are read at run time. So

    @njit(cache=True)
    def playout(law, state): ... legal(law, state, mask) ... step(law, state, action) ...

compiles once for Go of every size and once for Connect Four, is inlined like a hand-written loop, and (unlike a kernel that
takes compiled functions as arguments) is found again in numba's on-disk cache by the next process. The same calls work from
plain Python. Numba's cache looks only at the file of the kernel itself: after editing a game's rules delete the ``*.nbi``
files of the kernels that use them.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numba import njit
from numba.extending import overload

from .players import PerfectPlayer

PLY = 0
OVER = 1
HEADER = 2  # a game's own numbers start here
TRIES = 6  # draws of a move before the legal ones are listed


class Rules(NamedTuple):
    """The single-state kernels of one game: compiled functions (``njit``).

    All take the law first. ``state`` is one row, int ``[state_size]``.

    :param initial: ``(law, state) -> None`` writes the initial state
    :param legal: ``(law, state, mask bool [A]) -> int`` writes the legal moves, returns how many (0 once the game is over)
    :param accepts: ``(law, state, action) -> bool`` is this one move legal?
    :param step: ``(law, state, action) -> (reward float, terminated bool)`` plays a legal move in place, without a check
    :param observe: ``(law, state, out float32 [planes, H, W]) -> None`` writes the view of the side to move
    :param state_of: ``(law, observation [planes, H, W], state) -> None`` the inverse of observe
    :param draw: ``(law, state, bits uint64, mask bool [A]) -> (int, uint64)`` draws a legal move uniformly, −1 if there is
        none, and returns the next bits; ``mask`` is scratch. None: ``draw_by_trial``, which serves any game
    """

    initial: Any
    legal: Any
    accepts: Any
    step: Any
    observe: Any
    state_of: Any
    draw: Any = None


class Symmetries(NamedTuple):
    """The symmetries of a board in gather form; entry 0 is the identity.

    ``planes.reshape(..., H * W)[..., cells[k]]`` is a board under symmetry k, ``policy[..., actions[k]]`` its policy.

    :param cells: int64 ``[K, H * W]``
    :param actions: int64 ``[K, A]``
    """

    cells: np.ndarray
    actions: np.ndarray


_RULES: dict[type, Rules] = {}  # law class -> its kernels


def register_rules(law_class: type, rules: Rules) -> None:
    """Bind a law's type to its kernels; called once at the end of a game's file.

    :param law_class: the NamedTuple class of the law
    :param rules: the compiled single-state kernels
    """
    _RULES[law_class] = rules


def initial(law: Any, state: np.ndarray) -> None:
    """Write the initial state of the law's game into ``state``."""
    _RULES[type(law)].initial(law, state)


def legal(law: Any, state: np.ndarray, mask: np.ndarray) -> int:
    """Write the legal moves of ``state`` into ``mask`` (bool [A]) and return their number, 0 once the game is over."""
    return _RULES[type(law)].legal(law, state, mask)


def accepts(law: Any, state: np.ndarray, action: int) -> bool:
    """Say whether one move is legal (any integer is a fair question)."""
    return _RULES[type(law)].accepts(law, state, action)


def step(law: Any, state: np.ndarray, action: int) -> tuple[float, bool]:
    """Play a legal move in place and return (reward of the mover, terminated). An illegal move is not noticed here."""
    return _RULES[type(law)].step(law, state, action)


def observe(law: Any, state: np.ndarray, out: np.ndarray) -> None:
    """Write the view of the side to move into ``out`` (float32 [planes, H, W])."""
    _RULES[type(law)].observe(law, state, out)


def state_of(law: Any, observation: np.ndarray, state: np.ndarray) -> None:
    """Write the state that an observation shows into ``state``."""
    _RULES[type(law)].state_of(law, observation, state)


def draw(law: Any, state: np.ndarray, bits: np.uint64, mask: np.ndarray) -> tuple[int, np.uint64]:
    """Draw a legal move uniformly with the generator ``bits`` (``next_bits``): the move or −1, and the next bits."""
    return (_RULES[type(law)].draw or draw_by_trial)(law, state, bits, mask)


@njit(cache=True)
def next_bits(z):  # type: ignore[no-untyped-def]
    """Return 64 random bits, which are also the generator's next state (Marsaglia 2003, xorshift; never 0)."""
    z ^= z << np.uint64(13)
    z ^= z >> np.uint64(7)
    z ^= z << np.uint64(17)
    return z


@njit(cache=True)
def below(z, n):  # type: ignore[no-untyped-def]
    """Return an integer from 0 to n − 1 made of the upper half of 64 random bits (Lemire 2019, without his rejection)."""
    return np.int64(((z >> np.uint64(32)) * np.uint64(n)) >> np.uint64(32))


@njit(cache=True)
def draw_by_trial(law, state, bits, mask):  # type: ignore[no-untyped-def]
    """Draw from all actions until one is legal; after a few misses, from the list of legal ones: the same distribution."""
    n_actions = mask.shape[0]
    for _ in range(TRIES):
        bits = next_bits(bits)
        action = below(bits, n_actions)
        if accepts(law, state, action):
            return action, bits
    legal(law, state, mask)
    n = 0
    for a in range(n_actions):
        n += mask[a]
    if n == 0:
        return -1, bits
    bits = next_bits(bits)
    k, action = below(bits, n), 0
    while k > 0 or not mask[action]:  # the k-th legal action, from 0
        k -= mask[action]
        action += 1
    return action, bits


def _kernel(law: Any, name: str) -> Callable | None:
    """Find the source of a kernel from the numba type of a law, or None where the argument is no law."""
    rules = _RULES.get(getattr(law, "instance_class", type(None)))
    kernel = None if rules is None else getattr(rules, name) or draw_by_trial
    return None if kernel is None else kernel.py_func


@overload(initial, strict=False)
def _initial(law: Any, state: Any) -> Callable | None:
    return _kernel(law, "initial")


@overload(legal, strict=False)
def _legal(law: Any, state: Any, mask: Any) -> Callable | None:
    return _kernel(law, "legal")


@overload(accepts, strict=False)
def _accepts(law: Any, state: Any, action: Any) -> Callable | None:
    return _kernel(law, "accepts")


@overload(step, strict=False)
def _step(law: Any, state: Any, action: Any) -> Callable | None:
    return _kernel(law, "step")


@overload(observe, strict=False)
def _observe(law: Any, state: Any, out: Any) -> Callable | None:
    return _kernel(law, "observe")


@overload(state_of, strict=False)
def _state_of(law: Any, observation: Any, state: Any) -> Callable | None:
    return _kernel(law, "state_of")


@overload(draw, strict=False)
def _draw(law: Any, state: Any, bits: Any, mask: Any) -> Callable | None:
    return _kernel(law, "draw")


@njit(cache=True)
def legal_batch(law, states, masks):  # type: ignore[no-untyped-def]
    """Write the legal moves of every row: states [n, state_size] -> masks bool [n, A]."""
    for i in range(states.shape[0]):
        legal(law, states[i], masks[i])


@njit(cache=True)
def step_batch(law, states, actions, rewards, terminated):  # type: ignore[no-untyped-def]
    """Play one move in every row in place; return the first row whose move is illegal (rows before it are played), or −1."""
    for i in range(states.shape[0]):
        if not accepts(law, states[i], actions[i]):
            return i
        rewards[i], terminated[i] = step(law, states[i], actions[i])
    return -1


@njit(cache=True)
def observe_batch(law, states, out):  # type: ignore[no-untyped-def]
    """Write the view of the side to move of every row: out float32 [n, planes, H, W]."""
    for i in range(states.shape[0]):
        observe(law, states[i], out[i])


@njit(cache=True)
def state_of_batch(law, observations, states):  # type: ignore[no-untyped-def]
    """Write the state of every observation [n, planes, H, W] into states [n, state_size]."""
    for i in range(states.shape[0]):
        state_of(law, observations[i], states[i])


class Game(ABC):
    """The rules of one game, for whole batches of states. A game pickles, and compares by its class and its law.

    Subclasses set the attributes below in ``__init__`` and write the three text methods.

    :ivar law: NamedTuple of numbers; its type picks the compiled rules, its fields hold the constants
    :ivar n_actions: size of the action set, legal or not
    :ivar state_size: integers in a state
    :ivar state_dtype: integer type of a state
    :ivar observation_shape: (planes, H, W) of an observation, float32 in [0, 1]
    :ivar max_plies: no game is longer
    :ivar symmetries: of the board, identity first
    :ivar has_history_rule: whether past positions forbid moves (Go's superko), which no state shows
    """

    law: Any
    n_actions: int
    state_size: int
    state_dtype: type[np.signedinteger] = np.int64
    observation_shape: tuple[int, int, int]
    max_plies: int
    symmetries: Symmetries
    has_history_rule: bool = False
    #: arguments that make the same game anew; None: the law's fields of the constructor's names
    arguments: dict[str, Any] | None = None

    @property
    def kernels(self) -> Rules:
        """The game's single-state compiled functions."""
        return _RULES[type(self.law)]

    def initial(self, n: int = 1) -> np.ndarray:
        """Return n initial states, int [n, state_size]."""
        state = np.zeros(self.state_size, self.state_dtype)
        initial(self.law, state)
        return np.tile(state, (n, 1))

    def legal(self, states: np.ndarray) -> np.ndarray:
        """Return the legal moves, bool [n, A]; no move is legal in a finished game."""
        masks = np.zeros((len(states), self.n_actions), np.bool_)
        legal_batch(self.law, states, masks)
        return masks

    def step(self, states: np.ndarray, actions: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Play one move in every state; the states given are left alone.

        :param states: int [n, state_size]
        :param actions: int [n], legal in their states
        :return: the next states, the mover's rewards float64 [n], terminated bool [n]
        :raises ValueError: where a move is illegal, or the game over
        """
        states = np.array(states, self.state_dtype)
        actions = np.asarray(actions, np.int64)
        if actions.shape != states.shape[:1]:
            raise ValueError(f"{len(states)} states need {len(states)} actions, not an array of shape {actions.shape}.")
        rewards, terminated = np.zeros(len(states)), np.zeros(len(states), np.bool_)
        row = step_batch(self.law, states, actions, rewards, terminated)
        if row >= 0:
            moves = np.flatnonzero(self.legal(states[row : row + 1])[0]).tolist()
            allowed = f"Legal are {moves}" if moves else "The game is over: start a new one with initial()"
            raise ValueError(f"Action {actions[row]} in row {row} is illegal in this {type(self).__name__} state. {allowed}.")
        return states, rewards, terminated

    def observe(self, states: np.ndarray) -> np.ndarray:
        """Return what the side to move sees, float32 [n, planes, H, W]."""
        out = np.zeros((len(states), *self.observation_shape), np.float32)
        observe_batch(self.law, states, out)
        return out

    def state_of(self, observations: np.ndarray) -> np.ndarray:
        """Return the states that observations [n, planes, H, W] show, int [n, state_size].

        :raises ValueError: for another shape, or numbers that are not finite
        """
        if np.shape(observations)[1:] != self.observation_shape or not np.isfinite(observations).all():
            shape = ", ".join(map(str, self.observation_shape))
            fault = "" if np.isfinite(observations).all() else " with NaN or infinity"
            raise ValueError(
                f"Observations of {self!r} have shape [n, {shape}] and finite numbers, not {np.shape(observations)}{fault}."
            )
        states = np.zeros((len(observations), self.state_size), self.state_dtype)
        state_of_batch(self.law, np.ascontiguousarray(observations, np.float32), states)
        return states

    def position_keys(self, states: np.ndarray) -> np.ndarray:
        """Return a key of every position as the game's history rule compares them, int64 [n]; games without one: zeros."""
        return np.zeros(len(states), np.int64)

    def forbid_repetition(self, state: np.ndarray, history: np.ndarray, mask: np.ndarray) -> np.ndarray:
        """Strike the moves that the history of the game forbids out of a mask, in place; games without such a rule: none.

        :param state: int [state_size]
        :param history: keys of the positions so far, this one among them, int64 [k]
        :param mask: legal moves of the state, bool [A]
        :return: the mask
        """
        return mask

    def grader(self) -> Any:
        """Return the exact knowledge of this game: an object with move_scores and move_values (see ``players``).

        :raises ValueError: where there is none
        """
        raise ValueError(f"{self!r} has no exact solver. TicTacToe, Nim and ConnectFour have one.")

    def perfect_player(self, seed: int | None = None) -> Any:
        """Return a player that draws uniformly among the optimal moves.

        :raises ValueError: where the game has no exact solver
        """
        return PerfectPlayer(self, self.grader(), seed)

    @abstractmethod
    def board(self, state: np.ndarray) -> np.ndarray:
        """Return one state's stones as int8 [H, W]: +1 the first player's, −1 the second's, 0 none (heaps: their sizes)."""

    @abstractmethod
    def action_to_text(self, action: int) -> str:
        """Name a move as players write it."""

    @abstractmethod
    def text_to_action(self, text: str) -> int:
        """Read a move as players write it.

        :raises ValueError: where the text names no move
        """

    def render_text(self, state: np.ndarray) -> str:
        """Draw one state in plain text: X the first player, O the second."""
        rows = [" ".join(".XO"[int(cell)] for cell in row) for row in self.board(state)]
        return "\n".join(rows)

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.law == self.law

    def __hash__(self) -> int:
        return hash((type(self), self.law))

    def __repr__(self) -> str:
        values = ", ".join(f"{name}={value}" for name, value in self.law._asdict().items())
        return f"{type(self).__name__}({values})"


def grid_symmetries(height: int, width: int, n_extra: int = 0) -> Symmetries:
    """Return the symmetries of a board whose actions are its cells and then ``n_extra`` that stay (a pass).

    :param height: rows
    :param width: columns; a square has all eight symmetries of the dihedral group, a rectangle four
    :param n_extra: actions after the cells that no symmetry moves
    """
    cells = np.arange(height * width, dtype=np.int64).reshape(height, width)
    turns = range(4) if height == width else range(0, 4, 2)
    boards = [np.rot90(flip, k).ravel() for flip in (cells, cells[:, ::-1]) for k in turns]
    table = np.stack(boards)
    extra = np.tile(np.arange(n_extra, dtype=np.int64) + height * width, (len(table), 1))
    return Symmetries(table, np.concatenate([table, extra], axis=1))
