"""Speed of writing: a small transformer with its cache of keys and values, and the same one that reads whole rows anew."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch as th
from gymnasium import spaces

from benchmarks._measure import Row, in_turn
from sb3_lecture.preferences.policies import TransformerPolicy

ROWS, LENGTH, WORDS = 64, 60, 62


def rows() -> Iterator[Row]:
    """Tokens a second of 64 rows of 60 tokens, 0.53 million parameters, the value model not counted."""
    seen, chosen = spaces.MultiDiscrete(np.full(LENGTH + 1, WORDS + 2)), spaces.Discrete(WORDS)
    policy = TransformerPolicy(seen, chosen, lambda _: 1e-3, width=120, n_layers=3, n_heads=4)
    bias: Any = policy.action_net.bias
    th.nn.init.constant_(bias[:1], -1e9)  # never stops: each row has 60 tokens
    size = sum(p.numel() for part in (policy.actor, policy.action_net) for p in part.parameters())
    prompts = th.full((ROWS, 1), WORDS)

    def write(cached: bool) -> Callable[[], int]:
        return lambda: int((policy.generate(prompts, LENGTH, cached=cached) != policy.pad).sum())

    what = f"TransformerPolicy.generate, {size / 1e6:.2f} M parameters, {ROWS} rows of {LENGTH} tokens / without the cache"
    yield Row(what, "tokens/s", *in_turn(write(True), write(False), repeats=5), at_least=5)
