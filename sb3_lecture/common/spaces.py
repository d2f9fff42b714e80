"""What spaces our classes take, and what they are counted from."""

from typing import Any

import numpy as np
from gymnasium import spaces

__all__ = ["check_flat", "check_kinds", "check_zero_based"]

PLAIN = (spaces.Box, spaces.Discrete, spaces.MultiDiscrete, spaces.MultiBinary)


def check_kinds(env: Any) -> None:
    """Refuse spaces that no class of SB3 knows what to do with, before SB3 stumbles over them.

    :param env: an env or a VecEnv; ids and None are passed over
    :raises ValueError: if one of its spaces, or a part of it, is of another kind or empty, or its actions are a matrix of
        choices or have no bounds
    """
    observation_space, action_space = getattr(env, "observation_space", None), getattr(env, "action_space", None)
    if not isinstance(observation_space, spaces.Space) or not isinstance(action_space, spaces.Space):
        return
    for role, whole in (("observation", observation_space), ("action", action_space)):
        for part in _parts(whole) if role == "observation" else [whole]:
            if not isinstance(part, PLAIN):
                raise ValueError(
                    f"the {role} space {_line(whole)} is not supported: it is, or has a part that is, none of Box, Discrete, "
                    f"MultiDiscrete and MultiBinary; wrap the environment: gymnasium.wrappers.Transform{role.capitalize()}"
                )
            if 0 in part.shape:  # type: ignore[operator]
                raise ValueError(f"the {role} space {_line(whole)} is empty: it has shape {part.shape}")
    if isinstance(action_space, spaces.Box) and not np.isfinite([action_space.low, action_space.high]).all():
        raise ValueError(f"the action space {action_space} has no finite bounds; wrap the environment in one that has")
    if isinstance(action_space, (spaces.MultiDiscrete, spaces.MultiBinary)) and len(action_space.shape) > 1:
        raise ValueError(f"the action space {_line(action_space)} must have one axis: gymnasium.wrappers.TransformAction")


def check_flat(observation_space: spaces.Space, scalars: bool = False) -> None:
    """Refuse observations that are a matrix of choices or, unless ``scalars``, a number without an axis.

    :param observation_space: any space of ``check_kinds``
    :param scalars: whether networks take numbers without an axis
    :raises ValueError: if it, or a part of it, is such
    """
    for part in _parts(observation_space):
        matrix = isinstance(part, spaces.MultiDiscrete) and len(part.shape) > 1
        if matrix or (isinstance(part, spaces.Box) and part.shape == () and not scalars):
            raise ValueError(
                f"the observation space {_line(observation_space)} is, or has a part, of shape {part.shape}: networks "
                "make nothing of it; wrap the environment: gymnasium.wrappers.ReshapeObservation"
            )


def check_zero_based(observation_space: spaces.Space, action_space: spaces.Space) -> None:
    """Refuse spaces of integers that do not begin with 0: networks one-hot encode and number from 0, and so does SB3.

    Without this check the actions 0 … n − 1 would be played in the place of start … start + n − 1.

    :param observation_space: any space; Dict and Tuple spaces are looked into
    :param action_space: any space
    :raises ValueError: if one of them, or a part of it, begins elsewhere, or ``check_flat`` refuses the observations
    """
    check_flat(observation_space)
    for role, space, wrapper in (
        ("observation", observation_space, "TransformObservation(env, lambda x: x - start, zero_based_space)"),
        ("action", action_space, "TransformAction(env, lambda a: a + start, zero_based_space)"),
    ):
        shifted = _shifted(space)
        if shifted is not None:
            raise ValueError(
                f"the {role} space {_line(space)} counts from start={getattr(shifted, 'start', None)}, networks from 0; "
                f"wrap the environment: gymnasium.wrappers.{wrapper}"
            )


def _shifted(space: spaces.Space) -> spaces.Space | None:
    """The first part of a space that does not begin with 0."""
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        return space if np.any(space.start) else None
    parts = space.spaces.values() if isinstance(space, spaces.Dict) else getattr(space, "spaces", ())
    return next((found for found in map(_shifted, parts) if found is not None), None)


def _parts(space: spaces.Space) -> list[spaces.Space]:
    return list(space.values()) if isinstance(space, spaces.Dict) else [space]


def _line(space: spaces.Space) -> str:
    return " ".join(str(space).split())
