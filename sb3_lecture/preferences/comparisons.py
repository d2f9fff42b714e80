"""Comparisons: what was shown to a labeller, in the order of preference; made by a world's labeller or read from a file.

A file is an ``.npz`` of two arrays, ``prompts`` int [N, P] and ``responses`` int [N, K, L], the best first; pairs have K = 2.
A pair whose two answers belong to different prompts is written as ``prompts`` [N, K, P] and refused.
"""

import zipfile
from pathlib import Path
from typing import Any

import numpy as np

from sb3_lecture.common.files import written

__all__ = ["Comparisons", "read_comparisons", "write_comparisons"]


class Comparisons:
    """Rankings of K responses to each of N prompts.

    :param prompts: int64 [N, P]
    :param responses: int64 [N, K, L], the best first
    """

    def __init__(self, prompts: np.ndarray, responses: np.ndarray) -> None:
        self.prompts, self.responses = prompts, responses

    def __len__(self) -> int:
        return len(self.prompts)

    def tokens(self, rows: np.ndarray) -> np.ndarray:
        """Prompt and response in one row: int64 [len(rows), K, P + L]."""
        k = self.responses.shape[1]
        prompts = np.repeat(self.prompts[rows][:, None], k, axis=1)
        return np.concatenate([prompts, self.responses[rows]], axis=2)


def rank_by(world: Any, prompts: np.ndarray, responses: np.ndarray, rng: np.random.Generator) -> Comparisons:
    """Let a world's labeller rank responses.

    :param world: the world of text
    :param prompts: int64 [N, P]
    :param responses: int64 [N, K, L] in any order
    :param rng: the labeller's chance
    """
    n, k, length = responses.shape
    scores = world.score(np.repeat(prompts, k, axis=0), responses.reshape(n * k, length)).reshape(n, k)
    order = world.rank(scores, rng)
    return Comparisons(prompts, np.take_along_axis(responses, order[:, :, None], axis=1))


def write_comparisons(path: str | Path, comparisons: Comparisons) -> None:
    """Write comparisons, whole or not at all.

    :param path: an ``.npz`` file
    :param comparisons: what to write
    """
    with written(path) as part, open(part, "wb") as file:
        np.savez(file, prompts=comparisons.prompts, responses=comparisons.responses)


def read_comparisons(path: str | Path, world: Any) -> Comparisons:
    """Read comparisons for a world.

    :param path: an ``.npz`` file
    :param world: the world of text, whose tokens they must be
    :raises ValueError: if the file is none, empty, of another form, or of another vocabulary
    """
    try:
        with np.load(path, allow_pickle=False) as arrays:
            prompts, responses = np.asarray(arrays["prompts"]), np.asarray(arrays["responses"])
    except (OSError, KeyError, ValueError, EOFError, zipfile.BadZipFile) as error:
        first = (str(error).splitlines() or [type(error).__name__])[0]
        raise ValueError(f"{path} is no file of comparisons (an .npz of prompts and responses): {first}") from error
    if prompts.ndim == 3:
        unequal = np.flatnonzero((prompts != prompts[:, :1]).any(axis=(1, 2)))
        if len(unequal):
            raise ValueError(f"{path}: the answers of comparison {unequal[0]} have unequal prompts; compare answers to one")
        prompts = prompts[:, 0]
    if prompts.dtype.kind not in "iu" or responses.dtype.kind not in "iu":
        raise ValueError(f"{path}: prompts and responses must be integers, not {prompts.dtype} and {responses.dtype}")
    if prompts.ndim != 2 or responses.ndim != 3 or len(prompts) != len(responses) or responses.shape[1] < 2:
        raise ValueError(
            f"{path}: prompts must be [N, P] and responses [N, K, L] with K of at least 2, not {prompts.shape} and "
            f"{responses.shape}"
        )
    if len(prompts) == 0:
        raise ValueError(f"{path} holds no comparison: label some first")
    if prompts.shape[1] != world.prompt_length or responses.shape[2] != world.max_length:
        raise ValueError(
            f"{path}: prompts of {prompts.shape[1]} and responses of {responses.shape[2]} tokens; the world has "
            f"{world.prompt_length} and {world.max_length}"
        )
    highest = int(max(prompts.max(), responses.max()))
    words = responses[responses != world.pad]
    if min(prompts.min(), responses.min()) < 0 or highest > world.pad or (len(words) and words.max() >= world.n_words):
        raise ValueError(
            f"{path} is of another vocabulary: it holds token {highest}; responses here are made of 0 to {world.n_words - 1}, "
            f"padded with {world.pad}"
        )
    return Comparisons(prompts.astype(np.int64), responses.astype(np.int64))
