"""What an algorithm remembers besides its table, as torch buffers, so that SB3 saves it."""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch as th

#: names of fields that files of 0.1.0 hold and nobody reads any more: all of them belonged to running episodes
FORMER = ("active", "old_value")
#: names of fields whose content means nothing between two calls
SCRATCH = ("rows", "row", "probs")


class Memory(th.nn.Module):
    """The arrays of a rule's memory, and the random state.

    :param rng: uint64 [2], the random state (kept as int64: torch knows few operations on uint64)
    :param fields: the algorithm's arrays
    :param per_env: the fields that hold one entry an env; of another number of envs, a file's are not taken over
    :param translate: changes the entries of a file that an older version wrote into today's, in place
    """

    def __init__(
        self,
        rng: np.ndarray,
        fields: NamedTuple,
        per_env: tuple[str, ...],
        translate: Callable[[dict[str, Any]], None] = lambda old: None,
    ) -> None:
        super().__init__()
        self._type: Any = type(fields)
        self._per_env, self._translate = per_env, translate
        self.register_buffer("rng", th.from_numpy(rng.view(np.int64).copy()))
        for name, array in fields._asdict().items():
            self.register_buffer(name, th.from_numpy(array))

    def random_state(self) -> np.ndarray:
        """The random state, uint64 [2], a view."""
        return self.rng.numpy().view(np.uint64)  # type: ignore[operator]

    def arrays(self) -> NamedTuple:
        """The algorithm's named tuple, of views."""
        return self._type(**{name: getattr(self, name).numpy() for name in self._type._fields})

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        old = {name[len(prefix) :]: value for name, value in state_dict.items() if name.startswith(prefix)}
        own = self.state_dict()
        if old.keys() != own.keys():  # an older version's file, or another algorithm's (which torch refuses)
            self._translate(old)
            old = {name: value for name, value in old.items() if name not in FORMER}
            old |= {name: own[name] for name in (*self._per_env, *SCRATCH) if name in own and name not in old}
        for name in self._per_env:
            if name in old and old[name].shape != getattr(self, name).shape:
                old[name] = getattr(self, name)
        for name in [name for name in state_dict if name.startswith(prefix)]:
            del state_dict[name]
        state_dict.update({prefix + name: value for name, value in old.items()})
        super()._load_from_state_dict(state_dict, prefix, *args)
