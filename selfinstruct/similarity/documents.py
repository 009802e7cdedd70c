"""Token lists, and the two questions asked of them: every LCS of a query, or only its best match.

Between `pool` (texts and floats) and `lcs` (compiled loops): it packs texts as integers, groups queries so that
they fill the lanes of a kernel, and spreads groups over the cores.
"""

from __future__ import annotations

import gc
import math
from array import array
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, NamedTuple

from ..files import usable_cpus

if TYPE_CHECKING:
    import numpy as np


LANE_WIDTHS = (16, 32, 64)  # bits a lane: a query takes the narrowest that has a bit for each of its tokens
FEWEST_IN_LANES = 3  # fewer queries than this are quicker one at a time
BAND = 64 * 64  # tokens of a long query that are compared at a time: the memory of its table grows with their square


class Matches(NamedTuple):
    """The best match of each text."""

    scores: np.ndarray  # float64 (texts,)
    positions: np.ndarray  # int64 (texts,), the earliest among equals; -1 where there was nothing to match


class Documents:
    """The token ids of a growing list of texts: 4 bytes a token and 12 a text, appended in amortised O(1).

    Texts of one length share a *length class*: a score is then looked up by (LCS, class) and never divided out twice.
    """

    def __init__(self, texts=()):
        self.tokens, self.starts, self.classes = array("i"), array("q", [0]), array("i")
        self.class_lengths, self._class_of = array("q"), {}
        for ids in texts:
            self.append(ids)

    def __len__(self) -> int:
        return len(self.classes)

    def append(self, ids) -> None:
        """Add one text as its token ids; -1 is a token that no document holds (of use in queries only)."""
        length = len(ids)
        if length not in self._class_of:
            self._class_of[length] = len(self.class_lengths)
            _grow(self.class_lengths, [length])
        _grow(self.tokens, ids)
        _grow(self.starts, [len(self.tokens)])
        _grow(self.classes, [self._class_of[length]])

    def ids(self, position: int) -> array:
        """The token ids of one text."""
        return self.tokens[self.starts[position] : self.starts[position + 1]]

    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(tokens, starts, classes) over the same memory, without a copy: drop them before the next `append`.

        Unsigned, so that compiled loops need not ask whether an index counts from the end; -1 becomes the largest id.
        """
        import numpy as np

        kinds = (self.tokens, np.uint32), (self.starts, np.uint64), (self.classes, np.uint32)
        return tuple(np.asarray(values).view(kind) for values, kind in kinds)


def _grow(values: array, more: Sequence[int]) -> None:
    try:
        values.extend(more)
    except BufferError:  # a loop that was compiled a moment ago still holds a view of them, in a ring of references
        gc.collect()
        values.extend(more)


def group_queries(lengths: np.ndarray):
    """Yield (positions of queries, bits a lane, or 0 for one query that goes alone); groups are as full as can be."""
    import numpy as np

    from .lcs import ROW_BYTES

    if lengths.size < FEWEST_IN_LANES:
        yield from ((np.array([position]), 0) for position in range(lengths.size))
        return
    width_of = np.searchsorted(LANE_WIDTHS, lengths)
    for index, bits in enumerate((*LANE_WIDTHS, 0)):
        members = np.flatnonzero(width_of == index)
        lanes = 8 * ROW_BYTES // bits if bits else 1
        for group in (members[i : i + lanes] for i in range(0, members.size, lanes)):
            if bits and group.size >= FEWEST_IN_LANES:
                yield group, bits
            else:
                yield from ((group[i : i + 1], 0) for i in range(group.size))


def build_table(queries: Documents, members: np.ndarray, bits: int, vocabulary: int) -> tuple[np.ndarray, np.ndarray]:
    """(row of each token id, table (rows, columns) of position bits) for one group of queries."""
    import numpy as np

    from .lcs import ROW_BYTES, fill_table

    tokens, starts, _ = queries.arrays()
    sizes = starts[members + 1] - starts[members]
    columns = 8 * ROW_BYTES // bits if bits else max(1, -(-int(sizes[0]) // 64))
    row_of = np.zeros(vocabulary, np.uint32)
    table = np.zeros((int(sizes.sum()) + 1, columns), f"u{(bits or 64) // 8}")
    fill_table(tokens, starts, members, row_of, table)
    return row_of, table


def lcs_rows(documents: Documents, queries: Documents, vocabulary: int) -> list[np.ndarray]:
    """LCS of each query with every document: one integer array (documents,) per query, in order.

    `vocabulary` is one more than the largest token id of the documents.
    """
    import numpy as np

    from .lcs import rows_by_lanes

    tokens, starts, _ = documents.arrays()
    lengths, rows = np.diff(queries.starts), [None] * len(queries)
    for members, bits in group_queries(lengths):
        if not bits:
            (member,) = members
            rows[member] = row_of_one(documents, queries, member, vocabulary)
            continue
        out = np.empty((members.size, len(documents)), np.uint8)
        rows_by_lanes(tokens, starts, *build_table(queries, members, bits, vocabulary), out)
        for member, row in zip(members, out, strict=True):
            rows[member] = row
    return rows


def row_of_one(documents: Documents, queries: Documents, member: int, vocabulary: int) -> np.ndarray:
    """LCS of a query that goes alone with every document, a band of its tokens after the other."""
    import numpy as np

    from .lcs import rows_by_words

    tokens, starts, _ = documents.arrays()
    ids = queries.ids(member)
    out = np.zeros((1, len(documents)), np.uint8 if len(ids) < 256 else np.int32)
    carries = np.zeros(tokens.size if len(ids) > BAND else 0, np.uint8)
    for first in range(0, max(len(ids), 1), BAND):
        band = Documents([ids[first : first + BAND]])
        rows_by_words(tokens, starts, *build_table(band, np.array([0]), 0, vocabulary), carries, out)
    return out[0]


def best_scores(documents: Documents, queries: Documents, vocabulary: int, own: np.ndarray) -> Matches:
    """Scores and positions of each query's best document, the earliest among equals.

    own (queries,) names a document to leave out, or -1. Groups of queries run on all cores; each takes a few
    kilobytes per length class, however many documents there are; one that goes alone a few bytes per document.
    """
    import numpy as np

    scores, positions = np.zeros(len(queries)), np.full(len(queries), -1)
    lengths = np.diff(queries.starts)

    def search(group):
        members, bits = group
        scores[members], positions[members] = _best_of_group(
            documents, queries, members, bits, vocabulary, lengths[members], own[members]
        )

    groups = list(group_queries(lengths))
    if len(groups) == 1:
        search(groups[0])
    else:
        with ThreadPoolExecutor(math.ceil(usable_cpus())) as pool:
            list(pool.map(search, groups))
    return Matches(scores, positions)


def _best_of_group(documents: Documents, queries: Documents, members, bits: int, vocabulary: int, lengths, own):
    import numpy as np

    from .lcs import ROW_BYTES, best_by_lanes, best_by_words, pick_best

    class_lengths = np.asarray(documents.class_lengths)
    shape = (class_lengths.size, 8 * ROW_BYTES // bits if bits else 1)
    best, where = np.zeros(shape, np.uint8 if bits else np.int32), np.full(shape, -1)
    if bits:
        best_by_lanes(*documents.arrays(), *build_table(queries, members, bits, vocabulary), own, best, where)
    else:
        row = row_of_one(documents, queries, members[0], vocabulary)
        best_by_words(row, documents.arrays()[2], own, best, where)
    scores, positions = np.zeros(own.size), np.full(own.size, -1)
    pick_best(best, where, lengths, class_lengths, own, len(documents), scores, positions)
    return scores, positions


def merge_matches(tiles: Sequence[Matches], offsets: Sequence[int]) -> Matches:
    """The matches of the same texts with successive parts of the references, as if they had been one set.

    offsets[i] is the position in the whole of the first reference of part i, ascending.
    """
    import numpy as np

    scores = np.stack([tile.scores for tile in tiles])
    positions = np.stack([tile.positions + offset for tile, offset in zip(tiles, offsets, strict=True)])
    first = np.where(np.stack([tile.positions for tile in tiles]) < 0, -1.0, scores).argmax(axis=0)
    chosen = first, np.arange(scores.shape[1])
    return Matches(scores[chosen], positions[chosen])
