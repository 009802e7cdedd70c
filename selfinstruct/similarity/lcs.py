"""Longest common subsequences (LCS) of token lists, many queries against many documents at once, in compiled code.

The method is Hyyro's bit-parallel recurrence (2004). A query is a word of bits, one per position. A document streams
its tokens through it: ``v = (v + (v & hit)) | (v & ~hit)``, where ``hit`` marks the query's positions holding that
token; the zeros left in ``v`` count the LCS. Up to 64 queries lie side by side in the lanes of one 128-byte row, so
that a token costs a few vector instructions for all of them. Queries over 64 tokens, and groups too small to fill
lanes, go alone through 64-bit words with a carry; of a very long one BAND words at a time, the carries of each token kept
from one band to the next.

All is integers up to `f_measure`, which is rouge_score's formula in rouge_score's order: decisions at 0.7 hang on the
last bit. `documents` decides what runs when; it imports this module late, because numba is slow to load.
"""

from __future__ import annotations

import numpy as np
from numba import carray, njit
from numba.core import cgutils, types
from numba.extending import intrinsic

ROW_BYTES = 128
BLOCK = 256  # documents whose counts stay in the first-level cache until they are turned into rows


def compile_loop(function):
    """Compile to run without the interpreter lock; kept on disk if some cache folder is writable, else in memory."""
    try:
        return njit(nogil=True, cache=True)(function)
    except RuntimeError:  # no folder numba may write to
        return njit(nogil=True)(function)


@intrinsic
def _ones(typingctx, word):
    """The number of set bits of an integer, as one instruction."""
    return word(word), lambda context, builder, signature, arguments: builder.ctpop(arguments[0])


@intrinsic
def _registers(typingctx, table):
    """A row of lanes of the table's type, on the stack: known to nobody else, so the compiler keeps it in registers."""

    def generate(context, builder, signature, arguments):
        word = context.get_value_type(table.dtype)
        return cgutils.alloca_once(builder, word, size=8 * ROW_BYTES // table.dtype.bitwidth)

    return types.CPointer(table.dtype)(table), generate


@intrinsic
def _lanes(typingctx, table):
    """Lanes in a row of the table: a constant for the compiler, so that loops over lanes become vector instructions."""
    lanes = 8 * ROW_BYTES // table.dtype.bitwidth
    return types.intp(table), lambda context, *_: context.get_constant(types.intp, lanes)


@compile_loop
def fill_table(tokens, starts, members, row_of, table):
    """Set the bit of every query position in its token's row; row 0 stays empty, for tokens of no query.

    Columns are queries when they lie in lanes, and the words of the only query when it goes alone. An id beyond
    row_of stands for a token that no document holds.
    """
    bits, rows = 8 * table.itemsize, 1
    for column in range(members.size):
        one = tokens[starts[members[column]] : starts[members[column] + 1]]
        for position, token in enumerate(one):
            if token < row_of.size:
                if row_of[token] == 0:
                    row_of[token] = rows
                    rows += 1
                table[row_of[token], column + position // bits] |= table.dtype.type(1) << (position % bits)


@compile_loop
def _match_lanes(tokens, start, stop, row_of, table, counts, place):
    """LCS of one document with every lane's query, into counts (lanes,)."""
    lanes = _lanes(table)  # known when compiling: the loops below become vector instructions
    v = carray(_registers(table), lanes)
    for lane in range(lanes):
        v[lane] = -1
    for position in range(start, stop):
        row = row_of[tokens[position]]
        for lane in range(lanes):
            hit = table[row, lane]
            v[lane] = (v[lane] + (v[lane] & hit)) | (v[lane] & ~hit)
    for lane in range(lanes):
        v[lane] = ~v[lane]
        counts[place, lane] = _ones(v[lane])


@compile_loop
def _match_word(tokens, start, stop, row_of, table):
    """LCS of one document with the one query whose bits are the table's only column."""
    v = ~np.uint64(0)
    for position in range(start, stop):
        hit = table[row_of[tokens[position]], 0]
        v = (v + (v & hit)) | (v & ~hit)
    return _ones(~v)


@compile_loop
def _match_words(tokens, start, stop, row_of, table, v, carries):
    """The same for a band of a query of any length, carrying from column to column, and at `carries` from band to band."""
    v[:] = -1
    for position in range(start, stop):
        row, carry = row_of[tokens[position]], np.uint64(0)
        if carries.size:
            carry = np.uint64(carries[position])
        for word in range(v.size):
            hit = table[row, word]
            partial = v[word] + (v[word] & hit)
            total = partial + carry
            carry = np.uint64(partial < v[word]) | np.uint64(total < partial)
            v[word] = total | (v[word] & ~hit)
        if carries.size:
            carries[position] = carry
    count = np.uint64(0)
    for word in range(v.size):
        count += _ones(~v[word])
    return count


@compile_loop
def rows_by_lanes(tokens, starts, row_of, table, out):
    """LCS of every query with every document, into out (queries, documents)."""
    lanes, documents = _lanes(table), starts.size - 1
    counts = np.empty((BLOCK, lanes), np.uint8)
    for first in range(0, documents, BLOCK):
        last = min(first + BLOCK, documents)
        for document in range(first, last):
            _match_lanes(tokens, starts[document], starts[document + 1], row_of, table, counts, document - first)
        for query in range(out.shape[0]):
            row, column = out[query, first:last], counts[:, query]
            for place in range(row.size):
                row[place] = column[place]


@compile_loop
def rows_by_words(tokens, starts, row_of, table, carries, out):
    """The same for a band of a query that goes alone, added to out (1, documents); without carries it is the whole query."""
    v = np.empty(table.shape[1], np.uint64)
    for document in range(starts.size - 1):
        one = tokens, starts[document], starts[document + 1], row_of, table
        if v.size == 1 and not carries.size:
            out[0, document] = _match_word(*one)
        else:
            out[0, document] += np.int64(_match_words(*one, v, carries))


@compile_loop
def best_by_lanes(tokens, starts, classes, row_of, table, own, best, where):
    """Largest LCS in each length class, and the first document that has it, into best and where (classes, lanes)."""
    lanes = _lanes(table)
    counts = np.empty((1, lanes), np.uint8)
    for document in range(classes.size):
        _match_lanes(tokens, starts[document], starts[document + 1], row_of, table, counts, 0)
        leader, better = best[classes[document]], False
        for lane in range(lanes):
            better |= counts[0, lane] > leader[lane]
        if better:  # rare once the leaders are good
            for lane in range(own.size):
                if counts[0, lane] > leader[lane] and document != own[lane]:
                    leader[lane] = counts[0, lane]
                    where[classes[document], lane] = document


@compile_loop
def best_by_words(row, classes, own, best, where):
    """The same for a query that goes alone, from its row of LCS, into best and where (classes, 1)."""
    for document in range(classes.size):
        count = row[document]
        if count > best[classes[document], 0] and document != own[0]:
            best[classes[document], 0] = count
            where[classes[document], 0] = document


@compile_loop
def f_measure(lcs, m, n):
    """ROUGE-L F of two texts of m and n tokens: the operations of rouge_score 0.1.2, in its order (0 when lcs is 0)."""
    if lcs == 0:
        return 0.0
    precision, recall = lcs / n, lcs / m
    return 2 * precision * recall / (precision + recall)


@compile_loop
def f_table(m, class_lengths):
    """F by (lcs, length class) for a query of m tokens, up to an LCS of 255; few texts have more in common."""
    table = np.zeros((min(m, class_lengths.max(), 255) + 1, class_lengths.size))
    for lcs in range(1, table.shape[0]):
        for column in range(class_lengths.size):
            if lcs <= class_lengths[column]:
                table[lcs, column] = f_measure(lcs, m, class_lengths[column])
    return table


@compile_loop
def score_row(lcs, m, classes, class_lengths, scores, top, where):
    """The scores (documents,) of a query of m tokens, and its top.size best, descending, the earlier document first among equals."""
    table = f_table(m, class_lengths)
    top[:], last = -1.0, top.size - 1
    for document in range(lcs.size):
        in_common, kind = lcs[document], classes[document]
        score = table[in_common, kind] if in_common < table.shape[0] else f_measure(in_common, m, class_lengths[kind])
        scores[document] = score
        if score > top[last]:
            place = last
            while place > 0 and top[place - 1] < score:
                top[place], where[place] = top[place - 1], where[place - 1]
                place -= 1
            top[place], where[place] = score, document


@compile_loop
def pick_best(best, where, lengths, class_lengths, own, documents, scores, positions):
    """The best score of each query over all length classes; among equals the earliest document."""
    for query in range(own.size):
        for column in range(class_lengths.size):
            score, place = f_measure(best[column, query], lengths[query], class_lengths[column]), where[column, query]
            earlier = score == scores[query] and place < positions[query]
            if place >= 0 and (score > scores[query] or earlier):
                scores[query], positions[query] = score, place
        if positions[query] < 0 and documents > (own[query] >= 0):
            positions[query] = own[query] == 0  # nothing in common with anything: the first other document


@compile_loop
def pairs_by_lanes(tokens, starts, classes, row_of, table, least, before, found):
    """Each (document, lane, LCS) with an LCS of least[class, lane] or more and a document that comes before before[lane], into
    found (room, 3); returns how many there are, also where they are more than its room.
    """
    lanes, number = _lanes(table), 0
    counts = np.empty((1, lanes), np.uint8)
    for document in range(classes.size):
        _match_lanes(tokens, starts[document], starts[document + 1], row_of, table, counts, 0)
        enough, some = least[classes[document]], False
        for lane in range(lanes):
            some |= counts[0, lane] >= enough[lane]
        if some:  # rare
            for lane in range(before.size):
                if counts[0, lane] >= enough[lane] and document < before[lane]:
                    if number < found.shape[0]:
                        found[number, 0], found[number, 1], found[number, 2] = document, lane, counts[0, lane]
                    number += 1
    return number


@compile_loop
def keep_first(first, second, kept):
    """Drop each text that is too similar to a kept one before it; the pairs are sorted by (second, first), first < second."""
    for pair in range(first.size):
        if kept[first[pair]]:
            kept[second[pair]] = False
