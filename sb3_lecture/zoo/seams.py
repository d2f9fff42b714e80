"""Where we reach into rl_zoo3: replacing a name of one of its modules while one of its functions runs."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any


@contextmanager
def replaced(module: Any, **values: Any) -> Iterator[None]:
    """Replace attributes of a module for a while.

    :param module: the module
    :param values: attribute → what stands in for it
    """
    originals = {name: getattr(module, name) for name in values}
    for name, value in values.items():
        setattr(module, name, value)
    try:
        yield
    finally:
        for name, value in originals.items():
            setattr(module, name, value)
