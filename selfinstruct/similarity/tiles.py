"""All pairs of a large set of texts, or of two, whose ROUGE-L exceeds a threshold: in tiles, each a task without a state.

    ids = {}
    shards = build_shards(texts, choose_tokenizer("published", "rouge_score"), ids)
    tiles = list_tiles(shards, shards, 0.7, same=True)
    found = merge_pairs((find_pairs(shards[i], shards[j], 0.7, i == j) for i, j in tiles), same=True)

The texts are sorted by length and cut into shards; tile (i, j) compares shard i with shard j. Two texts of m <= n tokens have
at most m in common, so that their score is at most 2m / (m + n): whole tiles, and lengths inside a tile, need not be looked
at. The pairs, their scores and their order depend on the texts alone: not on the size
of the shards, nor on who computes which tile when. A tile needs the memory of its two shards and of the pairs that it finds.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from .documents import Documents, build_table, group_queries, row_of_one

if TYPE_CHECKING:
    import numpy as np

SHARD, SMALLEST_SHARD = 50_000, 1_000  # texts
SHARD_TOKENS = 2_000_000  # eight megabytes: Dask warns of more than ten
LEAST_SHARDS = 8  # of a small set: enough tiles for a few workers
ROOM = 8192  # pairs of a group of queries; where there are more it is compared once more
NEVER = 2**31  # an LCS that no two texts have


class Pairs(NamedTuple):
    """Pairs of texts by their positions, with their ROUGE-L: three arrays of one length."""

    first: np.ndarray  # int64
    second: np.ndarray  # int64; of one set: above `first`
    scores: np.ndarray  # float64


@dataclass(frozen=True, eq=False)
class Shard:
    """Texts as token ids, the shortest first: what a worker gets. Read like `Documents`, by the same loops."""

    tokens: np.ndarray  # uint32 (tokens,)
    starts: np.ndarray  # uint64 (texts + 1,)
    classes: np.ndarray  # uint32 (texts,), ascending: the place of its length among those of the shard
    positions: np.ndarray  # int64 (texts,), in the whole set

    def __len__(self) -> int:
        return self.positions.size

    @property
    def lengths(self) -> np.ndarray:
        """Tokens of each text, ascending: int64 (texts,)."""
        import numpy as np

        return np.diff(self.starts).astype(np.int64)

    @property
    def shortest(self) -> int:
        return int(self.starts[1] - self.starts[0])

    @property
    def longest(self) -> int:
        return int(self.starts[-1] - self.starts[-2])

    def ids(self, position: int) -> list[int]:
        return self.tokens[self.starts[position] : self.starts[position + 1]].tolist()

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.tokens, self.starts, self.classes

    def cut(self, first: int, last: int) -> Shard:
        """The texts from `first` to before `last`, in the same memory."""
        return Shard(self.tokens, self.starts[first : last + 1], self.classes[first:last], self.positions[first:last])

    def take(self) -> Shard:
        """The same in memory of one's own: what came from another process may be read-only, another type for compiled loops."""
        import numpy as np

        return Shard(*(np.require(part, requirements="W") for part in vars(self).values()))


def build_shards(
    texts: Iterable[str], split: Callable[[str], list[str]], ids: dict[str, int], size: int = 0
) -> list[Shard]:
    """The texts in shards of `size` (0: by their number), the shortest first; without those that have no token.

    `ids` gets the id of each token: two sets that are compared share one.
    """
    import numpy as np

    documents = Documents([ids.setdefault(token, len(ids)) for token in split(text)] for text in texts)
    lengths = np.diff(documents.starts)
    order = np.argsort(lengths, kind="stable")[int((lengths == 0).sum()) :]
    size = size or min(max(-(-len(documents) // LEAST_SHARDS), SMALLEST_SHARD), SHARD)
    tokens, starts, _ = documents.arrays()
    return [_gather(tokens, starts.astype(np.int64), order[part]) for part in _slice(lengths[order], size)]


def _slice(lengths: np.ndarray, size: int) -> Iterator[slice]:
    """Slices of at most `size` texts and SHARD_TOKENS tokens."""
    import numpy as np

    ends, start = np.cumsum(lengths), 0
    while start < lengths.size:
        most = (ends[start - 1] if start else 0) + SHARD_TOKENS
        stop = max(min(start + size, int(np.searchsorted(ends, most, "right"))), start + 1)
        yield slice(start, stop)
        start = stop


def _gather(tokens: np.ndarray, starts: np.ndarray, chosen: np.ndarray) -> Shard:
    import numpy as np

    lengths = starts[chosen + 1] - starts[chosen]
    ends = np.cumsum(lengths)
    places = np.arange(ends[-1]) + np.repeat(starts[chosen] - ends + lengths, lengths)
    classes = np.unique(lengths, return_inverse=True)[1].astype(np.uint32)
    return Shard(tokens[places], np.concatenate([[0], ends]).astype(np.uint64), classes, chosen.astype(np.int64))


def list_tiles(
    queries: Sequence[Shard], documents: Sequence[Shard], threshold: float, same: bool = False
) -> list[tuple[int, int]]:
    """The tiles that can hold a pair, row by row; of a set with itself (`same`) each two shards once."""
    return [
        (i, j)
        for i, one in enumerate(queries)
        for j, other in enumerate(documents)
        if not (same and j < i) and _can_match(one, other, threshold)
    ]


def _can_match(one: Shard, other: Shard, threshold: float) -> bool:
    """True if the lengths allow a score above the threshold."""
    m, n = min(one.longest, other.longest), max(one.shortest, other.shortest)
    return n <= m or score_lcs(m, m, n) > threshold


def count_rows(queries: Shard) -> float:
    """Rows of ROW_BYTES that a shard's queries fill: a tile costs about this times the tokens of its documents."""
    import numpy as np

    lengths = queries.lengths
    return float(np.where(lengths <= 16, 16, np.where(lengths <= 32, 32, -(-lengths // 64) * 64)).sum()) / 1024


def score_lcs(lcs, m, n):
    """ROUGE-L F of arrays of LCS and lengths: `lcs.f_measure`, operation by operation."""
    precision, recall = lcs / n, lcs / m
    return 2 * precision * recall / (precision + recall)


def _least_common(m: np.ndarray, n: np.ndarray, threshold: float) -> np.ndarray:
    """The smallest LCS that scores above the threshold, NEVER where no LCS does."""
    import numpy as np

    least = np.maximum((threshold * (m + n) / 2).astype(np.int64) - 1, 1)  # one below where it should be: floats decide
    most = np.minimum(m, n)
    while (short := (score_lcs(least, m, n) <= threshold) & (least <= most)).any():
        least[short] += 1
    return np.where(least <= most, least, NEVER)


def find_pairs(queries: Shard, documents: Shard, threshold: float, same: bool = False) -> Pairs:
    """All (query, document) above the threshold; `same`: of a shard with itself, each pair once."""
    import numpy as np

    queries, documents = queries.take(), documents.take()
    own, lengths = queries.lengths, np.unique(documents.lengths)
    vocabulary, found = int(documents.tokens.max()) + 1, [np.empty((0, 3), np.int64)]
    for members, bits in group_queries(own):
        least = _least_common(own[members][:, None], lengths[None, :], threshold)
        possible = np.flatnonzero((least < NEVER).any(axis=0))
        if possible.size:
            first, last = np.searchsorted(documents.classes, [possible[0], possible[-1] + 1])
            before = members if same else np.full(members.size, last)
            part = documents.cut(first, max(first, min(last, before[-1])))
            pairs = _match_group(queries, part, members, bits, vocabulary, least, before - first)
            pairs[:, 1] += first
            found.append(pairs)
    query, document, lcs = np.concatenate(found).T
    scores = score_lcs(lcs, own[query], documents.lengths[document])
    return Pairs(queries.positions[query], documents.positions[document], scores)


def _match_group(queries: Shard, part: Shard, members, bits: int, vocabulary: int, least, before) -> np.ndarray:
    """(query, document of the part, LCS) of each pair: int64 (pairs, 3)."""
    import numpy as np

    if not bits:
        row = row_of_one(part, queries, members[0], vocabulary)
        documents = np.flatnonzero((row >= least[0][part.classes]) & (np.arange(len(part)) < before[0]))
        return np.stack([np.full(documents.size, members[0]), documents, row[documents].astype(np.int64)], axis=1)
    found = _match_lanes(queries, part, members, bits, vocabulary, least, before)
    return np.stack([members[found[:, 1]], found[:, 0], found[:, 2]], axis=1)


def _match_lanes(queries: Shard, part: Shard, members, bits: int, vocabulary: int, least, before) -> np.ndarray:
    """(document of the part, lane, LCS) of each pair: int64 (pairs, 3)."""
    import numpy as np

    from .lcs import ROW_BYTES, pairs_by_lanes

    enough = np.full((least.shape[1], 8 * ROW_BYTES // bits), 255, np.uint8)
    enough[:, : members.size] = np.minimum(least.T, 255)
    table, room = build_table(queries, members, bits, vocabulary), ROOM
    while True:
        found = np.empty((room, 3), np.int64)
        number = pairs_by_lanes(*part.arrays(), *table, enough, before, found)
        if number <= room:
            return found[:number]
        room = number


def merge_pairs(tiles: Iterable[Pairs], same: bool = False) -> Pairs:
    """The pairs of all tiles, by first and then by second position; of one set (`same`) the earlier position is the first."""
    import numpy as np

    empty = Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
    first, second, scores = (np.concatenate(column) for column in zip(empty, *tiles, strict=True))
    if same:
        first, second = np.minimum(first, second), np.maximum(first, second)
    order = np.lexsort((second, first))
    return Pairs(first[order], second[order], scores[order])


def decide_kept(pairs: Pairs, count: int) -> np.ndarray:
    """True for each of `count` texts that step 1's filter keeps: too similar to no kept one before it. bool (count,)."""
    import numpy as np

    from .lcs import keep_first

    order, kept = np.lexsort((pairs.first, pairs.second)), np.ones(count, np.bool_)
    keep_first(pairs.first[order], pairs.second[order], kept)
    return kept
