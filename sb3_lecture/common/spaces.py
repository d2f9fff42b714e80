"""What spaces are counted from."""

import numpy as np
from gymnasium import spaces

__all__ = ["check_zero_based"]


def check_zero_based(observation_space: spaces.Space, action_space: spaces.Space) -> None:
    """Refuse spaces of integers that do not begin with 0: networks one-hot encode and number from 0, and so does SB3.

    Without this check the actions 0 … n − 1 would be played in the place of start … start + n − 1.

    :param observation_space: any space; Dict and Tuple spaces are looked into
    :param action_space: any space
    :raises ValueError: if one of them, or a part of it, begins elsewhere
    """
    for role, space, wrapper in (
        ("observation", observation_space, "TransformObservation(env, lambda x: x - start, zero_based_space)"),
        ("action", action_space, "TransformAction(env, lambda a: a + start, zero_based_space)"),
    ):
        part = _shifted(space)
        if part is not None:
            raise ValueError(
                f"the {role} space {space} counts from start={getattr(part, 'start', None)}, networks from 0; wrap the "
                f"environment: gymnasium.wrappers.{wrapper}"
            )


def _shifted(space: spaces.Space) -> spaces.Space | None:
    """The first part of a space that does not begin with 0."""
    if isinstance(space, (spaces.Discrete, spaces.MultiDiscrete)):
        return space if np.any(space.start) else None
    parts = space.spaces.values() if isinstance(space, spaces.Dict) else getattr(space, "spaces", ())
    return next((found for found in map(_shifted, parts) if found is not None), None)
