"""Pairs above a threshold in tiles: those of rouge_score itself, whatever the size of the shards and the order of the work."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from selfinstruct.similarity import InstructionPool, rouge_l, tiles
from selfinstruct.similarity.tiles import Pairs, build_shards, decide_kept, find_pairs, list_tiles, merge_pairs
from selfinstruct.similarity.words import split_ascii, split_unicode

SCORER = RougeScorer(["rougeL"], use_stemmer=False)
AWKWARD = [
    "",
    "?!",
    "写一首诗",
    "a",
    "A.",
    "naïve café",
    "nave caf",
    "x" * 5000,
    "\ud800 lone",
    "42",
    "42",
    "İstanbul K ﬁve",
]


def generated(count: int, seed: int) -> list[str]:
    """Texts of all lengths, many of which are others with a word or two changed; some are the same."""
    rng = random.Random(seed)
    made: list[str] = []
    for _ in range(count):
        words = rng.choices(
            "a b c d e f the of write list 12".split(), k=rng.choice([1, 2, 5, 9, 16, 17, 33, 64, 65, 130])
        )
        if made and rng.random() < 0.6:
            words = rng.choice(made).split()
            for _ in range(rng.randrange(4)):
                words[rng.randrange(len(words))] = rng.choice(["new", "x y", "z"])
            words = words[: rng.choice([-1, None, None])] or words
        made.append(" ".join(words))
    return made


def score_released(a: str, b: str) -> float:
    return SCORER.score(a, b)["rougeL"].fmeasure


def by_hand(texts, others=None, threshold=0.7, score_pair=rouge_l) -> list[tuple[int, int, float]]:
    """All pairs, one by one; `rouge_l` is rouge_score's to the bit (test_pool.py) and quicker."""
    found = []
    for i, text in enumerate(texts):
        for j, other in enumerate(texts if others is None else others):
            if others is not None or i < j:
                score = score_pair(text, other)
                found += [(i, j, score)] * (score > threshold)
    return found


def in_tiles(texts, others=None, threshold=0.7, size=0, split=split_ascii, order=None) -> list[tuple[int, int, float]]:
    ids: dict[str, int] = {}
    first = build_shards(texts, split, ids, size)
    second = first if others is None else build_shards(others, split, ids, size)
    work = list_tiles(first, second, threshold, others is None)
    (order or list)(work)
    same = others is None
    found = merge_pairs((find_pairs(first[i], second[j], threshold, same and i == j) for i, j in work), same)
    return list(zip(*(column.tolist() for column in found), strict=True))


MIXED = [*generated(100, 1), *AWKWARD]


@pytest.fixture(scope="module")
def expected():
    """The pairs of MIXED, by rouge_score."""
    return by_hand(MIXED, score_pair=score_released)


@pytest.mark.parametrize("size", [0, 1, 7, 50, 1000])
def test_pairs_are_those_of_rouge_score_whatever_the_shards(expected, size):
    assert len(expected) > 30 and len({len(MIXED[i].split()) - len(MIXED[j].split()) for i, j, _ in expected}) > 2
    assert in_tiles(MIXED, size=size, order=random.Random(1).shuffle) == expected


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.5, 2 / 3, 0.7, 0.95])
def test_pairs_with_another_set(threshold):
    texts, others = [*generated(40, 2), *AWKWARD], [*generated(40, 3), *AWKWARD[::-1]]
    expected = by_hand(texts, others, threshold)
    assert expected
    assert in_tiles(texts, others, threshold, size=9) == expected == in_tiles(texts, others, threshold)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.lists(st.sampled_from("abc"), max_size=22).map(" ".join), max_size=12), st.integers(1, 5))
def test_any_few_texts(texts, size):
    assert in_tiles(texts, size=size) == by_hand(texts, None, 0.7)


def test_a_score_of_exactly_the_threshold_is_not_above_it():
    seven, ten = " ".join("abcdefg"), " ".join("abcdefgxyz")
    exact, above = [ten, " ".join("abcdefguvw")], [seven, " ".join("abcdefghijklm")]  # 0.7, and 0.7000000000000001
    assert in_tiles(exact) == [] and in_tiles(above) == [(0, 1, 0.7000000000000001)]
    assert in_tiles(exact * 5, size=3) == by_hand(exact * 5, None, 0.7)


def test_the_words_of_any_script_with_the_tokenizer_that_sees_them():
    texts = ["写一首关于秋天的诗", "写一首关于春天的诗", "Переведи это письмо", "Переведи это длинное письмо"]
    assert in_tiles(texts) == []
    assert [pair[:2] for pair in in_tiles(texts, split=split_unicode)] == [(0, 1), (2, 3)]


def test_very_long_texts(monkeypatch):
    monkeypatch.setattr("selfinstruct.similarity.documents.BAND", 128)
    rng = random.Random(5)
    long = [" ".join(rng.choices("abcdefghij", k=size)) for size in (300, 700, 701)]
    texts = [*long, *(f"{text} z" for text in long), "a b c"]
    assert in_tiles(texts, size=2) == by_hand(texts, None, 0.7)


def test_no_text_and_texts_without_a_word():
    assert in_tiles([]) == in_tiles(["", "?!"]) == in_tiles(["a b"], []) == in_tiles(["a"]) == []


def test_more_pairs_than_there_is_room_for(monkeypatch):
    monkeypatch.setattr(tiles, "ROOM", 5)
    texts = ["write a short poem"] * 30 + ["a b c d e f g h i j k l m n o p q r s"] * 4
    assert in_tiles(texts) == by_hand(texts, None, 0.7)


def test_tiles_of_other_lengths_are_not_looked_at_and_a_shard_has_its_most(monkeypatch):
    texts = [" ".join("w" * size) for size in (2, 2, 3, 4, 20, 30, 36, 37, 38)]
    shards = build_shards(texts, split_ascii, {}, 3)
    assert [(shard.shortest, shard.longest, len(shard)) for shard in shards] == [(2, 3, 3), (4, 30, 3), (36, 38, 3)]
    assert list_tiles(shards, shards, 0.7, same=True) == [(0, 0), (0, 1), (1, 1), (1, 2), (2, 2)]
    assert len(list_tiles(shards, shards, 0.7)) == 7
    monkeypatch.setattr(tiles, "SHARD_TOKENS", 40)
    assert [len(shard) for shard in build_shards(texts, split_ascii, {}, 4)] == [4, 1, 1, 1, 1, 1]


def test_a_shard_that_may_not_be_written_to_is_compared_like_any_other():
    [shard] = build_shards(generated(40, 6), split_ascii, {})
    expected = find_pairs(shard, shard, 0.7, True)
    for part in vars(shard).values():
        part.flags.writeable = False
    assert all(np.array_equal(*columns) for columns in zip(find_pairs(shard, shard, 0.7, True), expected, strict=True))


def test_who_is_kept_is_what_the_pool_decides():
    texts = generated(200, 7)
    pairs = Pairs(*map(np.array, zip(*in_tiles(texts, size=30), strict=True)))
    kept = decide_kept(pairs, len(texts)).tolist()
    assert kept == InstructionPool().accept(texts) and 20 < sum(kept) < 180
