"""ROUGE-L on a growing pool of instructions: rouge_score's answers to the last bit, at the speed of the machine.

The paper keeps a generated instruction only if it resembles nothing already in the task pool (section 2.2): the
released code scores it against every instruction of the pool and drops it when the largest ROUGE-L exceeds 0.7.

    >>> pool = InstructionPool(["Write a poem about autumn.", "Add two numbers."])
    >>> pool.nearest("Write a poem about spring.", k=1)
    [('Write a poem about autumn.', 0.8000000000000002)]
    >>> [admission is not None for admission in pool.admit(["Write a poem about spring.", "Name a colour."])]
    [False, True]

**Equal** means the same float as `rouge_score.RougeScorer(["rougeL"], use_stemmer=False)` (fmeasure) for any two texts,
whatever the language or length. Among equal scores the text that joined the pool first comes first (the released
order of ties depended on an unstable sort). One thread at a time may change a pool.

**Ten million instructions.** Measured by `make bench` on instructions of 10 words (time grows with their length), one
core makes 210 million comparisons a second for the full record, 470 million for decisions alone, 1,400 million for
nearest neighbours; an instruction takes 57 bytes as token ids, 170 with its text, and a batch being admitted 64 more.
By extrapolation 10M need 1.7 GB and, for their 5e13 pairs, 30 core-hours to decide or 66 with the record. They shard:

- `best_matches` of a shard of texts with a shard of references is a stateless task (lists in, two arrays out), for a
  process pool or `dask.distributed` alike; `merge_matches` joins tiles into exactly the answer of one call.
- The greedy filter takes candidates in blocks: tiles turn down those above the threshold with any part of the pool (in
  any order, since the pool only grows), the survivors go through `accept` of a pool of their own block, and what that
  keeps is the pool's next part. Decisions are those of one long `admit`.
- The record of one candidate comes from its `scores` with each part, concatenated in order: the whole pool's scores.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ..files import ParameterError
from .documents import BAND, Documents, Matches, best_scores, lcs_rows
from .words import choose_tokenizer

if TYPE_CHECKING:
    import numpy as np


BATCH = 64  # candidates compared with the pool in one pass; no answer depends on it


def rouge_l(a: str, b: str, *, quirks: str = "published", tokenizer: str | Callable = "rouge_score") -> float:
    """ROUGE-L F of two texts, in [0, 1]; 0.0 if either has no token. For many pairs use a pool: this compiles nothing but for texts of
    thousands of words.

    >>> rouge_l("Give three tips.", "Give me three good tips!")
    0.7499999999999999
    """
    split = choose_tokenizer(quirks, tokenizer)
    shorter, longer = sorted((split(a), split(b)), key=len)
    if len(shorter) > BAND:  # whole numbers of that many bits for every token would fill the memory
        return float(InstructionPool([a], quirks="fixed", tokenizer=split).scores(b)[0])
    positions: dict[str, int] = {}
    for position, token in enumerate(shorter):
        positions[token] = positions.get(token, 0) | 1 << position
    lcs = _common_length(positions, len(shorter), longer)
    if lcs == 0:
        return 0.0
    precision, recall = lcs / len(longer), lcs / len(shorter)
    return 2 * precision * recall / (precision + recall)


def _common_length(positions: dict[str, int], size: int, tokens: list[str]) -> int:
    """The recurrence of `lcs` on one big integer of size bits."""
    everywhere = v = (1 << size) - 1
    for token in tokens:
        hit = positions.get(token)
        if hit:
            v = (v + (v & hit) | v & ~hit) & everywhere
    return size - v.bit_count()


def _as_list(texts: Iterable[str]) -> list[str]:
    if isinstance(texts, str):
        raise ParameterError(f"one text where a list of texts is wanted; write [{texts[:40]!r}]")
    return list(texts)


@dataclass(frozen=True)
class Admission:
    """What the released file records of an accepted instruction, against the pool as it was just before."""

    most_similar: list[tuple[str, float]]  # descending
    avg_similarity_score: float  # mean over the whole pool, numpy's; 0.0 for the first text of an empty pool
    max_score: float


class InstructionPool:
    """Instructions in the order they joined; `texts` lists them (read it, do not change it).

    quirks="fixed" allows a tokenizer for languages that rouge_score's cannot see: "unicode", or a function from text
    to tokens. Unasked, "fixed" scores as published.
    """

    def __init__(self, texts: Iterable[str] = (), *, quirks: str = "published", tokenizer="rouge_score"):
        self.texts: list[str] = []
        self._split = choose_tokenizer(quirks, tokenizer)
        self._ids: dict[str, int] = {}
        self._documents = Documents()
        for text in _as_list(texts):
            self.add(text)

    def __len__(self) -> int:
        return len(self.texts)

    def copy(self) -> InstructionPool:
        """Another pool of the same texts, without tokenising them again: what joins one does not join the other."""
        other = InstructionPool(quirks="fixed", tokenizer=self._split)
        other.texts, other._ids, other._documents = [*self.texts], {**self._ids}, deepcopy(self._documents)
        return other

    def add(self, text: str) -> None:
        """Add one text unasked, as a seed task is."""
        self._append(text, self._learn(text))

    def _append(self, text: str, ids: Sequence[int]) -> None:
        self._documents.append(ids)
        self.texts.append(text)

    def _learn(self, text: str) -> list[int]:
        """Token ids, giving new tokens the next ones."""
        ids = self._ids
        return [ids.setdefault(token, len(ids)) for token in self._tokenize(text)]

    def _look_up(self, text: str) -> list[int]:
        """Token ids, -1 for tokens the pool has never met."""
        return [self._ids.get(token, -1) for token in self._tokenize(text)]

    def _tokenize(self, text: str) -> list[str]:
        if not isinstance(text, str):
            raise ParameterError(f"an instruction is text, not {type(text).__name__}: {text!r}")
        return self._split(text)

    def scores(self, text: str) -> np.ndarray:
        """ROUGE-L with every text of the pool, in order: float64 (len(pool),)."""
        return self._score_one(text, 1)[0]

    def nearest(self, text: str, k: int = 10) -> list[tuple[str, float]]:
        """The k most similar texts with their scores, descending."""
        return self._pair_leaders(*self._score_one(text, k)[1:])[: max(k, 0)]

    def max_score(self, text: str) -> float:
        """The largest score in the pool, 0.0 if it is empty: no floats are made but those of the leaders."""
        return float(best_matches([text], self).scores[0])

    def _score_one(self, text: str, k: int):
        import numpy as np

        queries = Documents([self._look_up(text)])
        row = lcs_rows(self._documents, queries, len(self._ids))[0]
        return self._score(row, len(queries.tokens), k, np.empty(row.size))

    def _score(self, row: np.ndarray, length: int, k: int, scores: np.ndarray):
        """Fill scores (len(pool),) of a text of `length` tokens from its LCS row; return (scores, k best, positions)."""
        import numpy as np

        from .lcs import score_row

        size = min(max(k, 1), row.size)
        top, where = np.empty(size), np.empty(size, np.int64)
        if size:
            class_lengths = np.asarray(self._documents.class_lengths)
            score_row(row, length, self._documents.arrays()[2], class_lengths, scores, top, where)
        return scores, top, where

    def _pair_leaders(self, top: np.ndarray, where: np.ndarray) -> list[tuple[str, float]]:
        return [(self.texts[position], score) for position, score in zip(where.tolist(), top.tolist(), strict=True)]

    def admit(self, texts: Iterable[str], threshold: float = 0.7, k: int = 10) -> list[Admission | None]:
        """Offer candidates in order: None for each with max > threshold; the others join the pool at once.

        A candidate meets those admitted before it in the same call. Exactly `threshold` is admitted, as released.
        """
        texts = _as_list(texts)
        batches = [texts[i : i + BATCH] for i in range(0, len(texts), BATCH)]
        return [admission for batch in batches for admission in self._admit_batch(batch, threshold, k)]

    def _admit_batch(self, texts: list[str], threshold: float, k: int) -> list[Admission | None]:
        """One pass over the pool as it was, one among the batch; then each row is cut to what is in the pool by now."""
        import numpy as np

        batch = Documents(map(self._learn, texts))
        with_pool = lcs_rows(self._documents, batch, len(self._ids))
        with_batch = lcs_rows(batch, batch, len(self._ids)) if len(batch) > 1 else [np.empty(1, np.uint8)]
        admitted, answers, scores = [], [], np.empty(len(self) + len(texts))
        for position, text in enumerate(texts):
            row = np.concatenate([with_pool[position], with_batch[position][np.array(admitted, int)]])
            ids = batch.ids(position)
            answers.append(self._admission(row, len(ids), threshold, k, scores[: row.size]))
            if answers[-1]:
                admitted.append(position)
                self._append(text, ids)
        return answers

    def _admission(self, row, length: int, threshold: float, k: int, scores: np.ndarray) -> Admission | None:
        scores, top, where = self._score(row, length, k, scores)
        if not top.size:
            return Admission([], 0.0, 0.0)
        if top[0] > threshold:
            return None
        return Admission(self._pair_leaders(top, where)[: max(k, 0)], float(scores.mean()), float(top[0]))

    def accept(self, texts: Iterable[str], threshold: float = 0.7) -> list[bool]:
        """The decisions of `admit` without its record: cheaper, and the pool grows by the same texts."""
        texts = _as_list(texts)
        batches = [texts[i : i + 8 * BATCH] for i in range(0, len(texts), 8 * BATCH)]
        return [decision for batch in batches for decision in self._accept_batch(batch, threshold)]

    def _accept_batch(self, texts: list[str], threshold: float) -> list[bool]:
        """The pool turns most of them down or not; only the rest can turn each other down."""
        decisions = best_matches(texts, self).scores <= threshold
        rest = [text for text, fresh in zip(texts, decisions, strict=True) if fresh]
        newcomers = InstructionPool(quirks="fixed", tokenizer=self._split)
        decisions[decisions] = [admission is not None for admission in newcomers.admit(rest, threshold, 1)]
        for text, fresh in zip(texts, decisions, strict=True):
            if fresh:
                self.add(text)
        return decisions.tolist()


def best_matches(
    texts: Iterable[str],
    references: Iterable[str] | InstructionPool,
    *,
    quirks: str = "published",
    tokenizer: str | Callable = "rouge_score",
) -> Matches:
    """The best ROUGE-L of each text with a fixed set, and where; the paper's Figure 4 is its histogram over the seeds.

    A pool as references brings its own tokenizer. Runs on all cores in memory that does not grow with the references.
    """
    import numpy as np

    is_pool = isinstance(references, InstructionPool)
    pool = references if is_pool else InstructionPool(references, quirks=quirks, tokenizer=tokenizer)
    queries = Documents(map(pool._look_up, _as_list(texts)))
    return best_scores(pool._documents, queries, len(pool._ids), np.full(len(queries), -1))


def nearest_neighbours(
    texts: Iterable[str], *, quirks: str = "published", tokenizer: str | Callable = "rouge_score"
) -> Matches:
    """For each text the most similar *other* one, all pairs compared; a text given twice is its own double's match."""
    import numpy as np

    pool = InstructionPool(texts, quirks=quirks, tokenizer=tokenizer)
    return best_scores(pool._documents, pool._documents, len(pool._ids), np.arange(len(pool)))
