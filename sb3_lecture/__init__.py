"""The algorithms of deep-RL lectures as Stable-Baselines3 plug-ins.

Every public name stands in ``__init__.pyi``, the one table that type checkers, IDEs and the lazy loader read (PEP 562):
``import sb3_lecture`` loads no algorithm, ``sb3_lecture.QLearning`` loads its file.
"""

import lazy_loader

from sb3_lecture_envs.compile_cache import ensure_cache

ensure_cache()  # before the first room asks numba for it
__version__ = "0.1.0"
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
