"""The laws of small worlds of text: words, prompts, where demonstrations come from, and who judges an answer.

All work on whole batches of token arrays. A *prompt* is int64 [P]. A *response* is int64 [L]: words up to and with the stop
token 0, then ``pad``; a response that never stops fills all L places. Ids 0 … V−1 are the words that can be written, ids V
… are prompt words of their own, the last id is ``pad``.

``ExactText`` is small enough to enumerate: 8 words, at most 5 of them, hence 8⁵ = 32,768 token arrays and 19,608 different
responses to each of 4 prompts. ``WordsText`` is English from ``pydoc_data.topics``, which every Python has.
"""

from collections import Counter
from collections.abc import Callable
from functools import cache
from typing import Any, ClassVar

import numpy as np

from sb3_lecture_envs.checks import finite, whole

STOP = 0
Scorer = Callable[[np.ndarray, np.ndarray], np.ndarray]


class TextWorld:
    """What all worlds of text share.

    :param words: the words that can be written; the first is the stop token
    :param prompt_words: words that stand in prompts only
    :param prompts: token ids, int64 [X, P]; each is as likely as every other
    :param max_length: L, words of the longest response, the stop token counted
    :param scorer: (prompts int64 [B, P], responses int64 [B, L]) → scores float [B]; None: the world's own
    :param noise: τ of the labeller: P(a over b) = σ((score(a) − score(b)) / τ); 0: the better one always, ties by a coin
    """

    def __init__(
        self, words: list[str], prompt_words: list[str], prompts: np.ndarray, max_length: int, scorer: Scorer | None,
        noise: float,
    ) -> None:  # fmt: skip
        if scorer is not None and not callable(scorer):
            raise TypeError(f"scorer={scorer!r} must be a callable (prompts, responses) -> scores, or None")
        self.words, self.prompt_words, self.prompts = words, prompt_words, prompts
        self.max_length, self.noise = max_length, finite("noise", noise, 0.0)
        self.scorer = scorer or self.own_score
        self.pad = len(words) + len(prompt_words)
        self.n_words, self.n_ids, self.prompt_length = len(words), self.pad + 1, prompts.shape[1]

    def own_score(self, prompts: np.ndarray, responses: np.ndarray) -> np.ndarray:
        """The world's own judge."""
        raise NotImplementedError

    def demonstrations(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw n prompts with the answers that people gave: int64 [n, P], [n, L]."""
        raise NotImplementedError

    def score(self, prompts: np.ndarray, responses: np.ndarray) -> np.ndarray:
        """Judge a batch of responses.

        :param prompts: int64 [B, P]
        :param responses: int64 [B, L]
        :return: float64 [B]
        :raises ValueError: if the scorer returns another shape, NaN or infinity
        """
        scores = np.asarray(self.scorer(prompts, responses), np.float64)
        if scores.shape != (len(responses),):
            raise ValueError(f"the scorer returned an array of shape {scores.shape} for {len(responses)} responses")
        if not np.isfinite(scores).all():
            bad = int(np.flatnonzero(~np.isfinite(scores))[0])
            text = self.text(prompts[bad], responses[bad])
            raise ValueError(f"the scorer returned {scores[bad]} for {text!r}; scores must be finite numbers")
        return scores

    def preference_probability(self, better: np.ndarray) -> np.ndarray:
        """P(first over second) of the labeller for differences of scores (Bradley & Terry 1952).

        :param better: score of the first minus that of the second, float [B]
        :return: float64 [B]
        """
        if self.noise == 0.0:
            return 0.5 * (np.sign(better) + 1.0)
        return 0.5 * (1.0 + np.tanh(0.5 * np.asarray(better) / self.noise))  # σ without overflow

    def rank(self, scores: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Let the labeller rank K responses to the same prompt (Plackett–Luce; with K = 2 Bradley–Terry).

        :param scores: float64 [B, K]
        :param rng: the labeller's chance
        :return: order int64 [B, K]: the best first
        """
        if self.noise == 0.0:
            return np.lexsort((rng.random(scores.shape), -scores), axis=1)
        return np.argsort(-(scores / self.noise + rng.gumbel(size=scores.shape)), axis=1)

    def draw_prompts(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw prompts, int64 [n, P]."""
        return self.prompts[rng.integers(len(self.prompts), size=n)]

    def text(self, prompt: np.ndarray, response: np.ndarray) -> str:
        """Write tokens as words; "…" where a response never stopped."""
        names = [*self.words, *self.prompt_words]
        tokens = [int(t) for t in (*prompt, *response) if t != self.pad]
        ended = len(tokens) > len(prompt) and tokens[-1] == STOP
        parts = [names[t] for t in tokens[: len(tokens) - ended]]
        return " ".join(parts) + (names[STOP] if ended else " …")


def lengths_of(responses: np.ndarray, pad: int) -> np.ndarray:
    """Words of each response, the stop token counted: int64 [B]."""
    return (responses != pad).sum(axis=1)


class ExactText(TextWorld):
    """Opinions of at most five words on beer, soup, a film and a host.

    The grammar that people write by: adjectives, "very" and "not" before them, "and" between them; in a share ``slips`` of the
    places any word. The hidden judge adds up what the adjectives are worth to the thing in question ("cold" is praise of beer
    and blame of soup), "very" makes 1.5 times as much of the next word, "not" turns it round and halves it; s words worth
    so much are 2 tanh(s / 2), less 0.5 for a sentence that breaks off, less 1 for none and for one that does not stop.

    :param scorer: as in TextWorld
    :param noise: as in TextWorld (default 1)
    :param slips: share of words drawn from all (default 0.1)
    """

    WORDS: ClassVar[list[str]] = [".", "and", "very", "not", "good", "bad", "warm", "cold"]
    THINGS: ClassVar[list[str]] = ["the beer was", "the soup was", "the film was", "the host was"]
    #: worth of good, bad, warm, cold for each thing
    WORTH = np.array([[1, -1, -1, 1], [1, -1, 1, -1], [1, -1, 0.3, -0.3], [1, -1, 1, -1.5]])
    #: P(word | last word); the row "." is the beginning
    GRAMMAR = np.array([
        # .    and  very  not  good  bad  warm  cold
        [0.0, 0.0, 0.20, 0.20, 0.15, 0.15, 0.15, 0.15],
        [0.0, 0.0, 0.20, 0.20, 0.15, 0.15, 0.15, 0.15],
        [0.0, 0.0, 0.10, 0.00, 0.30, 0.20, 0.20, 0.20],
        [0.0, 0.0, 0.30, 0.00, 0.20, 0.20, 0.15, 0.15],
        *[[0.6, 0.4, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]] * 4,
    ])  # fmt: skip

    def __init__(self, scorer: Scorer | None = None, noise: float = 1.0, slips: float = 0.1) -> None:
        prompts = len(self.WORDS) + np.arange(len(self.THINGS), dtype=np.int64)[:, None]  # [4, 1]
        super().__init__(self.WORDS, self.THINGS, prompts, 5, scorer, noise)
        self.slips = finite("slips", slips, 0.0, 1.0)
        self.law = (1.0 - self.slips) * self.GRAMMAR + self.slips / len(self.WORDS)  # [last word, word]

    def own_score(self, prompts: np.ndarray, responses: np.ndarray) -> np.ndarray:
        """What the hidden judge thinks."""
        n = len(responses)
        thing = np.clip(prompts[:, 0] - self.n_words, 0, len(self.WORTH) - 1)
        worth = np.zeros((n, self.n_ids))
        worth[:, 4:8] = self.WORTH[thing]
        total, factor = np.zeros(n), np.ones(n)
        for t in range(self.max_length):  # places, not rows
            word = responses[:, t]
            total += factor * worth[np.arange(n), np.minimum(word, self.pad)]
            factor = np.where(word == 2, 1.5 * factor, np.where(word == 3, -0.5 * factor, 1.0))
        lengths = lengths_of(responses, self.pad)
        last = responses[np.arange(n), np.maximum(lengths - 1, 0)]
        stopped = last == STOP
        before = responses[np.arange(n), np.maximum(lengths - 2, 0)]
        end = np.where(stopped, np.where(lengths > 1, before, STOP), last)  # the last word proper
        breaks_off = (end >= 1) & (end <= 3)
        return 2.0 * np.tanh(total / 2.0) - 0.5 * breaks_off - 1.0 * (end == STOP) - 1.0 * ~stopped

    def demonstrations(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw n prompts with answers by the grammar: int64 [n, 1], [n, 5]."""
        prompts = self.draw_prompts(n, rng)
        responses = np.full((n, self.max_length), self.pad, np.int64)
        last, running = np.full(n, STOP), np.ones(n, np.bool_)
        for t in range(self.max_length):
            drawn = (self.law[last].cumsum(axis=1)[:, :-1] <= rng.random((n, 1))).sum(axis=1)
            responses[running, t] = drawn[running]
            running &= drawn != STOP
            last = drawn
        return prompts, responses

    def log_law(self, prefixes: np.ndarray) -> np.ndarray:
        """Log P(next word | words so far) of the grammar, for prefixes int64 [M, ≥ 1] that end at the first pad: [M, V]."""
        lengths = lengths_of(prefixes, self.pad)
        last = np.where(lengths > 0, prefixes[np.arange(len(prefixes)), np.maximum(lengths - 1, 0)], STOP)
        with np.errstate(divide="ignore"):
            return np.log(self.law[last])


@cache
def _sentences() -> list[list[str]]:
    """The sentences of Python's own documentation, as lists of lower-case words."""
    import re
    from pydoc_data.topics import topics

    text = " ".join(topics[name] for name in sorted(topics)).lower()
    return [re.findall(r"[a-z]+(?:'[a-z]+)?", part) for part in re.split(r"[.!?;:]\s", text)]


class WordsText(TextWorld):
    """English: the sentences of ``pydoc_data.topics``, word by word. The judge likes answers that rhyme.

    A prompt is three words of a sentence, an answer what follows, at most eleven words and the full stop. Words outside the
    vocabulary are "…". The score is the number of last letters, up to 3, that the answer's last word shares with the
    prompt's last word; 0 if it is the same word; −1 where there is none or no full stop.

    :param scorer: as in TextWorld
    :param noise: as in TextWorld (default 1)
    :param vocabulary: how many of the most frequent words are known (default 500)
    """

    def __init__(self, scorer: Scorer | None = None, noise: float = 1.0, vocabulary: int = 500) -> None:
        vocabulary = whole("vocabulary", vocabulary, 10, 5000)
        sentences = [s for s in _sentences() if len(s) >= 4]
        common = [word for word, _ in Counter(w for s in sentences for w in s).most_common(vocabulary)]
        words = [".", "…", *common]
        number = {word: i for i, word in enumerate(words)}
        self.pad_of_own = len(words)
        rows = np.full((len(sentences), 3 + 12), len(words), np.int64)
        for i, sentence in enumerate(sentences):
            tokens = [number.get(word, 1) for word in sentence[:15]]
            tokens += [STOP] if len(sentence) < 15 else []
            rows[i, : len(tokens)] = tokens
        rows = rows[(rows[:, :3] != 1).all(axis=1)]  # prompts of known words
        super().__init__(words, [], np.unique(rows[:, :3], axis=0), 12, scorer, noise)
        self.rows = rows
        self.shared = self._shared_endings(words)  # [V, V]

    @staticmethod
    def _shared_endings(words: list[str]) -> np.ndarray:
        """How many last letters, up to 3, two words share; 0 for the same word: int64 [V, V]."""
        shared = np.zeros((len(words), len(words)), np.int64)
        for k in (1, 2, 3):
            ends = np.array([word[-k:] if len(word) >= k and word.isalpha() else str(i) for i, word in enumerate(words)])
            shared += ends[:, None] == ends[None, :]
        return np.where(np.eye(len(words), dtype=np.bool_), 0, shared)

    def own_score(self, prompts: np.ndarray, responses: np.ndarray) -> np.ndarray:
        """How well answers rhyme."""
        n, lengths = len(responses), lengths_of(responses, self.pad)
        stopped = responses[np.arange(n), np.maximum(lengths - 1, 0)] == STOP
        last = np.minimum(responses[np.arange(n), np.maximum(lengths - 2, 0)], self.n_words - 1)
        rhyme = self.shared[np.minimum(prompts[:, -1], self.n_words - 1), last].astype(np.float64)
        return np.where(stopped & (lengths > 1), rhyme, -1.0)

    def demonstrations(self, n: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """Draw n beginnings of sentences and what follows: int64 [n, 3], [n, 12]."""
        rows = self.rows[rng.integers(len(self.rows), size=n)]
        return rows[:, :3].copy(), rows[:, 3:].copy()


SIZES: dict[str, Any] = {"exact": ExactText, "words": WordsText}
