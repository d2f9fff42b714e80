"""TensorGame: factorise a tensor into as few rank-one tensors as possible (Fawzi et al. 2022, "Discovering faster matrix
multiplication algorithms with reinforcement learning", Nature 610).

A bilinear algorithm for c = a · b with R multiplications is a sum of R rank-one tensors,

    T = Σ_r u_r ⊗ v_r ⊗ w_r:    m_r = (Σ_i u_r[i] a_i)(Σ_j v_r[j] b_j),    c_k = Σ_r w_r[k] m_r,

so the rank of the multiplication's tensor T is the number of multiplications that are needed. The game starts with S = T; a
move subtracts one u ⊗ v ⊗ w and costs 1; it is solved at S = 0. Over Z₂ all numbers are modulo 2; over {−1, 0, 1} they are
integers.
"""

from collections.abc import Sequence
from itertools import product
from typing import Any, NamedTuple

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from numba import njit

from sb3_lecture_envs.board.game import HEADER, OVER, PLY, Game, Rules, Symmetries, register_rules
from sb3_lecture_envs.checks import action_of, choice, flag, whole
from sb3_lecture_envs.state import copy_state, put_state

#: entries of the largest table of moves that is written out
MAX_TABLE = 100_000_000
SCALE = 4.0  # observations show integers in quarters


class TensorLaw(NamedTuple):
    """The game's constants.

    :param target: T, int16 [n]
    :param moves: u ⊗ v ⊗ w of every action, int8 [A, n]
    :param shape: sizes of the three modes
    :param modulus: 2, or 0 for integers
    :param max_plies: moves at most
    """

    target: np.ndarray
    moves: np.ndarray
    shape: tuple[int, int, int]
    modulus: int
    max_plies: int


@njit(cache=True)
def _initial(law, state):  # type: ignore[no-untyped-def]
    state[:] = 0
    for i in range(law.target.shape[0]):
        state[HEADER + i] = law.target[i]


@njit(cache=True)
def _legal(law, state, mask):  # type: ignore[no-untyped-def]
    mask[:] = state[OVER] == 0
    return mask.shape[0] if state[OVER] == 0 else 0


@njit(cache=True)
def _accepts(law, state, action):  # type: ignore[no-untyped-def]
    return state[OVER] == 0 and 0 <= action < law.moves.shape[0]


@njit(cache=True)
def fibres(law, state):  # type: ignore[no-untyped-def]
    """Bound the rank of what is left by its lines along a mode, the best of the three.

    A line that is not 0 is one product; over integers as often as its largest entry says.
    """
    a, b, c = law.shape
    best = 1 << 30
    for mode in range(3):
        total = 0
        n, m, length = (b, c, a) if mode == 0 else (a, c, b) if mode == 1 else (a, b, c)
        for i in range(n):
            for j in range(m):
                largest = 0
                for k in range(length):
                    x, y, z = (k, i, j) if mode == 0 else (i, k, j) if mode == 1 else (i, j, k)
                    largest = max(largest, abs(state[HEADER + (x * b + y) * c + z]))
                total += largest
        best = min(best, total)
    return best


@njit(cache=True)
def _step(law, state, action):  # type: ignore[no-untyped-def]
    left = 0
    for i in range(law.target.shape[0]):
        entry = state[HEADER + i] - law.moves[action, i]
        if law.modulus == 2:
            entry &= 1
        state[HEADER + i] = entry
        left += entry != 0
    state[PLY] += 1
    if left == 0:
        state[OVER] = 1
        return -1.0, True
    if state[PLY] >= law.max_plies:
        state[OVER] = 1
        return -1.0 - fibres(law, state), True
    return -1.0, False


@njit(cache=True)
def _observe(law, state, out):  # type: ignore[no-untyped-def]
    a, b, c = law.shape
    scale = 1.0 if law.modulus == 2 else SCALE
    for k in range(c):
        for i in range(a):
            for j in range(b):
                out[k, i, j] = state[HEADER + (i * b + j) * c + k] / scale
    out[c] = state[PLY] / law.max_plies


@njit(cache=True)
def _state_of(law, observation, state):  # type: ignore[no-untyped-def]
    a, b, c = law.shape
    scale, left = 1.0 if law.modulus == 2 else SCALE, 0
    for k in range(c):
        for i in range(a):
            for j in range(b):
                entry = np.int64(np.rint(observation[k, i, j] * scale))
                state[HEADER + (i * b + j) * c + k] = entry
                left += entry != 0
    state[PLY] = np.int64(np.rint(observation[c, 0, 0] * law.max_plies))
    state[OVER] = left == 0 or state[PLY] >= law.max_plies


register_rules(TensorLaw, Rules(_initial, _legal, _accepts, _step, _observe, _state_of))


def multiplication_tensor(kind: str) -> tuple[np.ndarray, list[str], list[str], list[str]]:
    """The tensor of a product, and the names of its numbers.

    :param kind: "karatsuba" (two polynomials of degree 1), or "n,m,p" (an n×m by an m×p matrix)
    :return: int64 [a, b, c] of zeros and ones, names of the first factor's, the second's and the result's numbers
    :raises ValueError: for another word
    """
    if kind == "karatsuba":
        tensor = np.zeros((2, 2, 3), np.int64)
        for i, j in product(range(2), range(2)):
            tensor[i, j, i + j] = 1
        return tensor, ["a0", "a1"], ["b0", "b1"], ["c0", "c1", "c2"]
    try:
        n, m, p = (int(part) for part in kind.split(","))
    except (AttributeError, ValueError):
        raise ValueError(
            f"tensor={kind!r} is unknown: give 'karatsuba', 'n,m,p' such as '2,2,2', or an array [a, b, c]"
        ) from None
    if not (1 <= n <= 9 and 1 <= m <= 9 and 1 <= p <= 9):
        raise ValueError(f"tensor={kind!r}: the sizes of matrices must lie between 1 and 9")
    tensor = np.zeros((n * m, m * p, n * p), np.int64)
    for i, j, k in product(range(n), range(m), range(p)):
        tensor[i * m + j, j * p + k, i * p + k] = 1
    names = [
        [f"{x}{i + 1}{j + 1}" for i, j in product(range(r), range(s))] for x, r, s in (("a", n, m), ("b", m, p), ("c", n, p))
    ]
    return tensor, names[0], names[1], names[2]


def vectors(n: int, field: str) -> np.ndarray:
    """All factors of length n but 0, int64 [count, n]: bits over Z₂; over integers with a first entry above 0."""
    values = (0, 1) if field == "z2" else (-1, 0, 1)
    rows = np.array(list(product(values, repeat=n)), np.int64)
    rows = rows[rows.any(axis=1)]
    if field == "z2":
        return rows
    first = rows[np.arange(len(rows)), (rows != 0).argmax(axis=1)]
    return rows[first > 0]


class TensorGame(Game):
    """The rules.

    :param tensor: "karatsuba", "n,m,p", or an int array [a, b, c]
    :param field: "z2" (default) or "integers": factors in {−1, 0, 1}
    :param max_moves: moves at most; None: as many as the bound on the tensor's rank by its fibres
    :raises ValueError: for a tensor that is none, is 0, or has entries that cannot be; for one whose moves are too many
    """

    symmetries: Symmetries = None  # type: ignore[assignment]
    state_dtype = np.int16

    def __init__(self, tensor: str | Any = "2,2,2", field: str = "z2", max_moves: int | None = None) -> None:
        self.field = choice("field", field, ("z2", "integers"))
        self.names: tuple[list[str], list[str], list[str]]
        if isinstance(tensor, str):
            array, *names = multiplication_tensor(tensor)
            self.names = (names[0], names[1], names[2])
        else:
            try:
                array = np.array(tensor)
            except (TypeError, ValueError) as error:
                raise ValueError(f"tensor={tensor!r} must be 'karatsuba', 'n,m,p', or an int array [a, b, c]") from error
            if array.ndim != 3 or array.size == 0 or array.dtype.kind not in "iu":
                raise ValueError(f"tensor of shape {array.shape} and type {array.dtype} must be an int array [a, b, c]")
            self.names = tuple([f"{x}{i}" for i in range(n)] for x, n in zip("abc", array.shape, strict=True))  # type: ignore
        allowed = (0, 1) if field == "z2" else (-4, 4)
        if not array.any() or array.min() < allowed[0] or array.max() > allowed[1]:
            raise ValueError(
                f"the tensor's entries {np.unique(array).tolist()[:9]} must be {allowed[0]} to {allowed[1]}, not all 0"
            )
        self.tensor = array.astype(np.int64)
        kind = tensor if isinstance(tensor, str) else self.tensor
        self.arguments = {"tensor": kind, "field": field, "max_moves": max_moves}
        sizes = [(2**n - 1) if field == "z2" else (3**n - 1) // 2 for n in array.shape]
        if field == "integers":
            sizes[2] *= 2  # the third factor has the sign
        if (count := int(np.prod([float(s) for s in sizes]))) * array.size > MAX_TABLE:
            raise ValueError(
                f"a tensor of shape {array.shape} has {count:,} moves over {field}; at most {MAX_TABLE // array.size:,} "
                "are written out: take a smaller tensor, or field='z2'"
            )
        self.factors = [vectors(n, field) for n in array.shape]
        if field == "integers":
            self.factors[2] = np.concatenate([self.factors[2], -self.factors[2]])
        table = np.einsum("ua,vb,wc->uvwabc", *(f.astype(np.int8) for f in self.factors))
        a, b, c = array.shape
        self.law = TensorLaw(
            self.tensor.ravel().astype(np.int16), np.ascontiguousarray(table.reshape(-1, array.size)),
            (a, b, c), 2 if field == "z2" else 0, 1,
        )  # fmt: skip
        bound = fibres(self.law, np.concatenate([np.zeros(HEADER, np.int16), self.law.target]))
        self.max_plies = int(bound) if max_moves is None else whole("max_moves", max_moves, 1, 1000)
        self.law = self.law._replace(max_plies=self.max_plies)
        self.n_actions, self.state_size = len(self.law.moves), HEADER + array.size
        self.observation_shape = (array.shape[2] + 1, array.shape[0], array.shape[1])

    def __eq__(self, other: object) -> bool:
        mine = (self.field, self.max_plies)
        return (
            isinstance(other, TensorGame)
            and mine == (other.field, other.max_plies)
            and np.array_equal(self.tensor, other.tensor)
        )

    def __hash__(self) -> int:
        return hash((self.field, self.max_plies, self.tensor.tobytes()))

    def __repr__(self) -> str:
        return f"TensorGame(shape={self.tensor.shape}, field={self.field!r}, max_moves={self.max_plies})"

    def factors_of(self, actions: Sequence[int] | np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the factors u [R, a], v [R, b] and w [R, c] of moves, int64."""
        u, v, w = self.factors
        i, j, k = np.unravel_index(np.asarray(actions, np.int64), (len(u), len(v), len(w)))
        return u[i], v[j], w[k]

    def is_factorization(self, factors: tuple[np.ndarray, np.ndarray, np.ndarray]) -> bool:
        """Whether Σ u ⊗ v ⊗ w is the tensor: by its entries, and by multiplying numbers drawn at random, exactly."""
        u, v, w = factors
        total = np.einsum("ra,rb,rc->abc", u, v, w) - self.tensor
        rng = np.random.default_rng(0)
        a, b = (rng.integers(-1000, 1000, size=(20, n)) for n in self.tensor.shape[:2])
        products = ((a @ u.T) * (b @ v.T)) @ w - np.einsum("na,nb,abc->nc", a, b, self.tensor)
        return not ((total % 2).any() or (products % 2).any()) if self.field == "z2" else not (total.any() or products.any())

    def algorithm_text(self, factors: tuple[np.ndarray, np.ndarray, np.ndarray]) -> str:
        """Write a factorisation as an algorithm: m1 = (a11 + a22)(b11 + b22) …, c11 = m1 + m4 …"""
        u, v, w = factors
        lines = [
            f"m{r + 1} = ({_sum(u[r], self.names[0])})({_sum(v[r], self.names[1])})".replace("()", "") for r in range(len(u))
        ]
        products = [f"m{r + 1}" for r in range(len(u))]
        lines += [f"{name} = {_sum(w[:, k], products) or '0'}" for k, name in enumerate(self.names[2])]
        return "\n".join(lines) + ("\n(modulo 2)" if self.field == "z2" else "")

    def demonstrations(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Draw factorisations and ask for one of their moves: what a learner can imitate without having found anything.

        A sum of R ≤ ``max_plies`` rank-one tensors is a state; any one of them is a move after which R − 1 suffice.

        :param n: how many
        :param rng: draws
        :return: states int16 [n, state_size], actions int64 [n], R int64 [n]: an upper bound of the moves that are left
        """
        length = rng.integers(1, self.max_plies + 1, size=n)
        actions = rng.integers(self.n_actions, size=(n, self.max_plies))
        used = np.arange(self.max_plies) < length[:, None]  # [n, R]
        tensors = np.zeros((n, self.tensor.size), np.int64)
        for r in range(self.max_plies):
            tensors += np.where(used[:, r, None], self.law.moves[actions[:, r]], 0)
        if self.field == "z2":
            tensors &= 1
        states = np.zeros((n, self.state_size), self.state_dtype)
        states[:, HEADER:], states[:, PLY] = tensors, self.max_plies - length
        states[:, OVER] = ~tensors.any(axis=1)  # they may cancel: no move is asked for there
        keep = states[:, OVER] == 0
        return states[keep], actions[keep, 0], length[keep]

    def board(self, state: np.ndarray) -> np.ndarray:
        """Return the slices of the tensor side by side, int8 [a, b · c]."""
        a, b, c = self.law.shape
        return np.asarray(state[HEADER:], np.int8).reshape(a, b, c).transpose(0, 2, 1).reshape(a, b * c)

    def action_to_text(self, action: int) -> str:
        """Name a move by its product: ``(a11 + a22)(b11)->c12 + c22``."""
        u, v, w = self.factors_of([action])
        return f"({_sum(u[0], self.names[0])})({_sum(v[0], self.names[1])})->{_sum(w[0], self.names[2])}"

    def text_to_action(self, text: str) -> int:
        """Read a move's number.

        :raises ValueError: if it is none
        """
        if not text.strip().isdigit() or int(text) >= self.n_actions:
            raise ValueError(f"{text!r} is no move. Write a number from 0 to {self.n_actions - 1}.")
        return int(text)

    def render_text(self, state: np.ndarray) -> str:
        """Write what is left, one slice of the result's numbers beside the other."""
        a, b, c = self.law.shape
        tensor = np.asarray(state[HEADER:]).reshape(a, b, c)
        lines = ["  ".join(f"{name:<{2 * b}}" for name in self.names[2]).rstrip()]
        lines += [
            "  ".join(" ".join(f"{x:1d}" if x else "." for x in tensor[i, :, k]) + " " for k in range(c)).rstrip()
            for i in range(a)
        ]
        return "\n".join([*lines, f"{state[PLY]} of {self.max_plies} moves"])


def _sum(coefficients: np.ndarray, names: Sequence[str]) -> str:
    """Write Σ coefficient · name, such as ``a11 - a22``."""
    text = "".join(
        f" {'-' if x < 0 else '+'} {'' if abs(x) == 1 else f'{abs(x)} '}{name}"
        for x, name in zip(coefficients, names, strict=True)
        if x
    )
    return text[3:] if text.startswith(" + ") else f"-{text[3:]}" if text else ""


def invertible(n: int, field: str, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw a change of basis and its inverse, int64 [n, n]: any invertible one over Z₂, a signed permutation of integers."""
    if field == "integers":
        matrix = np.eye(n, dtype=np.int64)[rng.permutation(n)] * rng.choice([-1, 1], size=n)
        return matrix, matrix.T
    while True:
        matrix = rng.integers(2, size=(n, n))
        work = np.concatenate([matrix, np.eye(n, dtype=np.int64)], axis=1)  # Gauss and Jordan modulo 2
        for i in range(n):
            rows = np.flatnonzero(work[i:, i]) + i
            if not len(rows):
                break
            work[[i, rows[0]]] = work[[rows[0], i]]
            others = (np.arange(n) != i) & (work[:, i] == 1)
            work[others] ^= work[i]
        else:
            return matrix, work[:, n:]


STATE = ("state", "bases", "inverses", "played")


class TensorGameEnv(gym.Env[np.ndarray, Any]):
    """Factorise a tensor: a puzzle for one player.

    ## Description
    Subtract rank-one tensors u ⊗ v ⊗ w until nothing is left; every move costs 1. A solution of R moves is an algorithm with R
    multiplications: Strassen's 7 for two 2×2 matrices, Karatsuba's 3 for two polynomials of degree 1.

    ## Action Space
    `Discrete(A)`: all triples of factors (63 for "karatsuba", 135 for "1,2,2", 3375 for "2,2,2" over Z₂).

    ## Observation Space
    `Box(0, 1, (c + 1, a, b), float32)` over Z₂ (integers in quarters without bounds): what is left, a slice for each number of
    the result, and the share of the moves used, everywhere.

    ## Rewards
    −1 a move; after the last one allowed also minus a bound on the rank of what is left (lines that are not 0).

    ## Starting State
    The tensor, or with `change_of_basis` another form of it with the same rank.

    ## Episode End
    Terminated when nothing is left (`info["rank"]`, `info["factors"]` of the tensor in its own basis, and `info["algorithm"]`
    as text), or after `max_moves`.

    ## Arguments
    - `tensor`: "2,2,2" (default), any "n,m,p", "karatsuba", or an int array [a, b, c].
    - `field`: "z2" (default) or "integers", with factors in {−1, 0, 1}.
    - `max_moves`: None (default): the bound on the tensor's rank by its lines (8 for "2,2,2").
    - `change_of_basis`: draw a basis at every reset. Default False.
    - `render_mode`: None, "ansi", "rgb_array" or "human".

    ## Version History
    - v0: first version.

    :raises ValueError: if an argument is not one of those
    """

    metadata: dict[str, Any] = {"render_modes": ["human", "rgb_array", "ansi"], "render_fps": 2}  # noqa: RUF012

    def __init__(
        self,
        tensor: str | Any = "2,2,2",
        field: str = "z2",
        max_moves: int | None = None,
        change_of_basis: bool = False,
        render_mode: str | None = None,
    ) -> None:
        self.puzzle = TensorGame(tensor, field, max_moves)
        self.change_of_basis = flag("change_of_basis", change_of_basis)
        self.render_mode = choice("render_mode", render_mode, (None, "human", "rgb_array", "ansi"))
        low, high = (0.0, 1.0) if field == "z2" else (-np.inf, np.inf)
        self.observation_space = spaces.Box(low, high, self.puzzle.observation_shape, np.float32)
        self.action_space = spaces.Discrete(self.puzzle.n_actions)
        self.state = self.puzzle.initial(1)[0]
        self.bases = np.zeros(sum(n * n for n in self.puzzle.tensor.shape), np.int64)
        self.inverses = self.bases.copy()
        self.played = np.full(self.puzzle.max_plies, -1, np.int64)
        self._window: Any = None

    def action_masks(self) -> np.ndarray:
        """Return the legal moves, bool [A]: all, until the end."""
        return np.full(self.puzzle.n_actions, self.state[OVER] == 0)

    def get_state(self) -> dict[str, Any]:
        """Where the game stands: plain values for ``set_state`` of another."""
        return copy_state(self, STATE)

    def set_state(self, state: dict[str, Any]) -> None:
        """Put the env where another of its kind stood.

        :param state: from ``get_state``
        :raises ValueError: if it is of another kind of env
        """
        put_state(self, STATE, state)

    def _parts(self, flat: np.ndarray) -> list[np.ndarray]:
        ends = np.cumsum([n * n for n in self.puzzle.tensor.shape])
        return [part.reshape(n, n) for part, n in zip(np.split(flat, ends[:-1]), self.puzzle.tensor.shape, strict=True)]

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[np.ndarray, dict[str, Any]]:
        """Start with the tensor, in a basis drawn where that is asked for."""
        super().reset(seed=seed)
        shape, modulo = self.puzzle.tensor.shape, self.puzzle.law.modulus
        drawn = [
            invertible(n, self.puzzle.field, self.np_random) if self.change_of_basis else (np.eye(n, dtype=np.int64),) * 2
            for n in shape
        ]
        self.bases[:] = np.concatenate([basis.ravel() for basis, _ in drawn])
        self.inverses[:] = np.concatenate([inverse.ravel() for _, inverse in drawn])
        tensor = np.einsum("ia,jb,kc,abc->ijk", *(basis for basis, _ in drawn), self.puzzle.tensor)
        self.state[:] = 0
        self.state[HEADER:] = (tensor % 2 if modulo else tensor).ravel()
        self.played[:] = -1
        if self.render_mode == "human":
            self.render()
        return self.puzzle.observe(self.state[None])[0], {"action_mask": self.action_masks()}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        """Subtract a rank-one tensor.

        :param action: int
        :raises ValueError: for an action outside the action space, and after the end
        """
        action = action_of(action, self.puzzle.n_actions)
        if self.state[OVER]:
            raise ValueError(f"Action {action}: the game is over: call reset().")
        self.played[int(self.state[PLY])] = action
        states, rewards, terminated = self.puzzle.step(self.state[None], np.array([action]))
        self.state[:] = states[0]
        info: dict[str, Any] = {"action_mask": self.action_masks()}
        if terminated[0] and not self.state[HEADER:].any():
            factors = self.factors()
            info |= {"rank": len(factors[0]), "factors": factors, "algorithm": self.puzzle.algorithm_text(factors)}
        if self.render_mode == "human":
            self.render()
        return self.puzzle.observe(self.state[None])[0], float(rewards[0]), bool(terminated[0]), False, info

    def factors(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the factors played so far, in the tensor's own basis: int64 [R, a], [R, b], [R, c]."""
        played = self.puzzle.factors_of(self.played[self.played >= 0])
        own = [part @ inverse.T for part, inverse in zip(played, self._parts(self.inverses), strict=True)]
        if self.puzzle.law.modulus:
            own = [part % 2 for part in own]
        return own[0], own[1], own[2]

    def render(self) -> Any:
        """Return what is left as text or as an image uint8 [height, width, 3], or show it in a window."""
        if self.render_mode is None:
            return None
        if self.render_mode == "ansi":
            return self.puzzle.render_text(self.state)
        from sb3_lecture_envs.rendering import Window  # the drawing is loaded by those who look

        board = self.puzzle.board(self.state)
        colours = np.array([(70, 110, 200), (245, 245, 245), (220, 90, 60)], np.uint8)
        image = np.kron(colours[np.sign(board) + 1].transpose(2, 0, 1), np.ones((24, 24), np.uint8)).transpose(1, 2, 0)
        image[::24], image[:, ::24] = 200, 200
        image[:, :: 24 * self.puzzle.law.shape[1]] = 60
        if self.render_mode == "rgb_array":
            return np.ascontiguousarray(image)
        self._window = self._window or Window("TensorGame", self.metadata["render_fps"])
        self._window.show(image)
        return None

    def close(self) -> None:
        """Close the window."""
        if self._window is not None:
            self._window.close()
            self._window = None
