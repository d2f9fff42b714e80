"""Where an env stands, as plain values: what ``get_state`` and ``set_state`` of this package's envs share.

A state holds numbers, arrays, lists and dicts only, so that any file format keeps it. ``set_state`` puts another env of the
same kind there, its random generator included.
"""

from typing import Any

import numpy as np


def copy_state(env: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Take down some attributes of an env and its random generator.

    :param env: the env
    :param names: of attributes that hold numbers, arrays or None
    :return: name → value, a copy; ``np_random`` is the generator's state, None where there is none yet
    """
    state = {name: value.copy() if isinstance(value := getattr(env, name), np.ndarray) else value for name in names}
    generator = env._np_random
    return state | {"np_random": None if generator is None else generator.bit_generator.state}


def put_state(env: Any, names: tuple[str, ...], state: dict[str, Any]) -> None:
    """Put into an env what ``copy_state`` took down.

    :param env: an env of the same kind and number
    :param names: the same attributes
    :param state: what was taken down
    :raises ValueError: if it is of another kind of env
    """
    for name in names:
        mine, value = getattr(env, name), state[name]
        if isinstance(mine, np.ndarray):
            value = np.asarray(value)
            if value.shape != mine.shape or value.dtype.kind != mine.dtype.kind:
                raise ValueError(f"{name} is of shape {value.shape}, {value.dtype}, the env's of {mine.shape}, {mine.dtype}")
            mine[...] = value
        else:
            setattr(env, name, value)
    set_generator(env, "_np_random", state["np_random"])


def set_generator(owner: Any, name: str, state: dict[str, Any] | None) -> None:
    """Give an object's attribute a generator in a given state; None: none."""
    if state is None:
        setattr(owner, name, None)
        return
    kind = state["bit_generator"]
    if kind not in ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"):
        raise ValueError(f"{kind!r} is no random generator of NumPy's")
    bits = getattr(np.random, kind)()
    bits.state = state
    setattr(owner, name, np.random.Generator(bits))


def players_state(player: Any, depth: int = 0) -> dict[str, Any]:
    """Take down the random generators of an opponent, and of those that it holds (a search, two players)."""
    if player is None or depth > 3:
        return {}
    state: dict[str, Any] = {}
    if isinstance(rng := getattr(player, "rng", None), np.random.Generator):
        state["rng"] = rng.bit_generator.state
    for name in ("search", "opening", "perfect"):
        if inner := players_state(getattr(player, name, None), depth + 1):
            state[name] = inner
    return state


def put_players_state(player: Any, state: dict[str, Any]) -> None:
    """Put into an opponent what ``players_state`` took down."""
    for name, part in state.items():
        if name == "rng":
            set_generator(player, "rng", part)
        elif name in ("search", "opening", "perfect"):
            put_players_state(getattr(player, name), part)
