"""Gymnasium's ``TimeLimit`` as Gymnasium defines it.

rl_zoo3 puts a subclass in its place in every module of Gymnasium; whoever imports it after rl_zoo3 would get that, and an env
that was wrapped before would be none of its kind.
"""

from typing import Any

from gymnasium.wrappers import common

TimeLimit: Any = next(kind for kind in common.TimeLimit.__mro__ if kind.__module__ == common.__name__)
