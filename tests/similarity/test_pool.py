"""The novelty filter against rouge_score itself: equal floats, equal decisions, for any text, in any grouping.

Floats are compared with ==. The pools are small where rouge_score must score every pair; `make bench` compares a
million real pairs.
"""

from __future__ import annotations

import doctest
import random
import subprocess
import sys
import tracemalloc
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from helpers.places import RELEASE_82K, SAMPLES, TESTS, find_published
from hypothesis import given, settings
from hypothesis import strategies as st
from rouge_score.rouge_scorer import RougeScorer

from selfinstruct.files import PROJECT_ROOT, SelfInstructError, iter_lines
from selfinstruct.similarity import documents
from selfinstruct.similarity import pool as similarity
from selfinstruct.similarity import words as tokenizers
from selfinstruct.similarity.documents import merge_matches
from selfinstruct.similarity.pool import InstructionPool, best_matches, nearest_neighbours, rouge_l

SCORER = RougeScorer(["rougeL"], use_stemmer=False)
AWKWARD = [
    "",
    " \n\t",
    "?!... --- __ 。",
    "42",
    "a",
    "A a A a A a",
    "naïve café, déjà vu",
    "写一首关于秋天的诗",
    "Переведи это",
    "写 one poem 关于 autumn",
    "İstanbul K ﬁve",  # lower-cases to more characters; the Kelvin sign to k; a ligature
    "under_score and-dash 3.14",
    "\ud800 lone surrogate",
    "the of the of the of and the of",
    "x" * 5000,
]
LENGTHS = [1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 127, 128, 129, 255, 256, 257]  # around each lane and word width

words = st.sampled_from("a b c d the of 12 make list".split())
worded = st.one_of(*(st.lists(words, max_size=size).map(" ".join) for size in (8, 20, 40, 140)))
any_text = st.one_of(worded, st.text(max_size=40), st.sampled_from(AWKWARD[:-1]))
quick = settings(max_examples=60, deadline=None)


def oracle(a: str, b: str) -> float:
    return SCORER.score(a, b)["rougeL"].fmeasure


def generated(count: int, seed: int = 1) -> list[str]:
    """Instructions that resemble one another: a few patterns, a few fillers, words dropped and doubled at random."""
    rng = random.Random(seed)
    verbs, nouns = "write describe list explain translate".split(), "poem city number dog letter recipe".split()
    made = []
    for _ in range(count):
        text = f"{rng.choice(verbs)} a {rng.choice(nouns)} about the {rng.choice(nouns)} of {rng.choice(nouns)}".split()
        text += rng.choices(verbs + nouns + ["in", "and", "with", "three"], k=rng.randrange(0, 14))
        made.append(" ".join(text).capitalize() + ".")
    return made


def ours() -> list[str]:
    """Instructions that people and models wrote: seed tasks, demonstrations, the samples and golden rows of the tests."""
    paths = [*(PROJECT_ROOT / "seeds").glob("*.jsonl"), *SAMPLES.glob("*.jsonl")]
    rows = [row for path in sorted(paths) for _, row in iter_lines(path)]
    texts = [row["instruction"] for row in rows if "instruction" in row]
    texts += [text for _, row in iter_lines(TESTS / "golden" / "step1_instructions.jsonl") for text in row["kept"]]
    return random.Random(0).sample(texts, len(texts))


def released(count: int) -> list[str]:
    texts = {row["instruction"]: None for _, row in iter_lines(find_published(RELEASE_82K))}
    return random.Random(0).sample(list(texts), count)


def released_loop(texts: list[str], threshold: float = 0.7) -> list[tuple | None]:
    """The released filter in its own terms: every pair scored, the largest decides, the record of those kept."""
    pool, answers = [], []
    for text in texts:
        scores = [oracle(text, kept) for kept in pool]
        if scores and max(scores) > threshold:
            answers.append(None)
            continue
        answers.append((sorted(scores, reverse=True)[:10], float(np.mean(scores)) if scores else 0.0))
        pool.append(text)
    return answers


# ---- the floats


@quick
@given(any_text, any_text)
def test_rouge_l_is_rouge_score(a, b):
    assert rouge_l(a, b) == oracle(a, b) == rouge_l(b, a)


@quick
@given(st.lists(any_text, max_size=7), any_text, st.integers(0, 8))
def test_pool_is_rouge_score(texts, query, k):
    pool = InstructionPool(texts)
    expected = [oracle(query, text) for text in texts]
    assert pool.scores(query).dtype == np.float64
    assert pool.scores(query).tolist() == expected
    assert pool.max_score(query) == max(expected, default=0.0)
    ranked = sorted(range(len(texts)), key=lambda i: (-expected[i], i))
    assert pool.nearest(query, k) == [(texts[i], expected[i]) for i in ranked[:k]]


@quick
@given(st.lists(any_text, max_size=6), st.lists(worded, min_size=1, max_size=9))
def test_best_matches_in_any_grouping(references, texts):
    """Nine texts of mixed lengths fill lanes and also leave single ones."""
    found = best_matches(texts, references)
    for text, score, position in zip(texts, *found, strict=True):
        expected = [oracle(text, reference) for reference in references]
        assert score == max(expected, default=0.0)
        assert position == (expected.index(score) if expected else -1)


def test_awkward_texts_against_each_other():
    pool = InstructionPool(AWKWARD)
    for text in AWKWARD:
        expected = [oracle(text, other) for other in AWKWARD]
        assert pool.scores(text).tolist() == expected
        assert [rouge_l(text, other) for other in AWKWARD] == expected
        assert pool.max_score(text) == max(expected)
    assert pool.scores("")[0] == 0.0


@pytest.mark.parametrize("copies", [1, 4], ids=["alone", "in lanes"])
def test_lengths_around_every_width(copies):
    rng = random.Random(3)
    texts = [" ".join(rng.choices("abcdef", k=size)) for size in LENGTHS]
    documents = texts[::3]
    expected = np.array([[oracle(text, document) for document in documents] for text in texts])
    pool = InstructionPool(documents)
    assert np.array_equal([pool.scores(text) for text in texts], expected)
    found = best_matches(texts * copies, documents)
    assert found.scores.tolist() == expected.max(1).tolist() * copies
    assert found.positions.tolist() == expected.argmax(1).tolist() * copies
    whole = [" ".join(f"{size}x{i}" for i in range(size)) for size in LENGTHS]  # one bit lost and it is not itself
    assert best_matches(whole * copies, whole).scores.tolist() == [1.0] * len(LENGTHS) * copies
    assert all(admission is None for admission in InstructionPool(whole).admit(whole * copies, threshold=0.999))


def test_thousands_of_tokens():
    rng = random.Random(4)
    long, other = (" ".join(str(rng.randrange(400)) for _ in range(size)) for size in (3000, 500))
    pool = InstructionPool([other, long, "7 8 9"])
    assert pool.scores(long).tolist() == [oracle(long, other), 1.0, oracle(long, "7 8 9")]
    assert pool.scores(other)[1] == rouge_l(other, long) == oracle(other, long)
    ones = " ".join(["same"] * 2500)  # every bit set, every carry taken
    assert InstructionPool([ones]).scores(ones + " same").tolist() == [2 * (2500 / 2501) * 1.0 / (2500 / 2501 + 1.0)]


@pytest.mark.parametrize("band", [64, 128, 192])
def test_a_query_in_bands_scores_as_one_in_one_piece(monkeypatch, band):
    monkeypatch.setattr(documents, "BAND", band)
    rng, vocabulary = random.Random(band), "a b c d e of the 12".split()
    texts = [
        " ".join(rng.choices(vocabulary, k=size)) for size in (1, 63, 64, 65, 127, 128, 129, 191, 192, 193, 257, 400)
    ]
    pool = InstructionPool(texts)
    for text in texts:
        expected = [rouge_l(text, other) for other in texts]
        assert pool.scores(text).tolist() == expected
        assert pool.max_score(text) == 1.0 == best_matches([text], texts).scores[0]
    others = [max(rouge_l(a, b) for b in texts if b is not a) for a in texts]
    assert nearest_neighbours(texts).scores.tolist() == others


def test_a_very_long_text_takes_memory_that_grows_with_its_length_alone():
    long, short = " ".join(f"w{number}" for number in range(20_000)), "w1 w3 w2 and w40"
    pool = InstructionPool([short, "nothing alike"])
    pool.scores("w1")  # compiled before it is measured
    tracemalloc.start()
    try:
        assert pool.scores(long).tolist() == [oracle(short, long), 0.0]
        assert pool.max_score(long) == pool.scores(long)[0] == rouge_l(short, long)
        assert [one is not None for one in pool.admit([long, long])] == [True, False]
        assert rouge_l(long, long) == 1.0
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 25e6  # a table of tokens by tokens has 50 MB


@pytest.mark.parametrize("distinct", [70_000, 1_150_000])
def test_more_distinct_tokens_than_code_points(distinct):
    size = 10_000
    texts = [" ".join(map(str, range(start, start + size))) for start in range(0, distinct, size)]
    pool = InstructionPool(texts)
    first, last = texts[0].split(), texts[-1].split()
    query = " ".join([*first[:3], "never", *last[-3:]])
    scores = pool.scores(query)
    assert scores[0] == oracle(query, texts[0]) > 0 and scores[-1] == oracle(query, texts[-1]) > 0
    assert not scores[1:-1].any()
    assert pool.max_score(query) == scores.max()
    assert pool.max_score(f"{last[-1]} {last[-2]}") == oracle(f"{last[-1]} {last[-2]}", texts[-1])


def test_real_pairs():
    texts = ours()
    pool = InstructionPool(texts[:200])
    for text in texts[200:220]:
        assert pool.scores(text).tolist() == [oracle(text, other) for other in texts[:200]]


# ---- the decision


def pair_with(lcs: int, m: int, n: int) -> tuple[str, str]:
    shared = [f"s{i}" for i in range(lcs)]
    return " ".join(shared + [f"a{i}" for i in range(m - lcs)]), " ".join(shared + [f"b{i}" for i in range(n - lcs)])


@pytest.mark.parametrize(
    ("shape", "score", "kept"), [((7, 7, 13), 0.7000000000000001, False), ((7, 10, 10), 0.7, True)]
)
def test_the_last_bit_decides(shape, score, kept):
    for old, new in (pair_with(*shape), pair_with(*shape)[::-1]):
        assert rouge_l(old, new) == oracle(old, new) == score
        assert (InstructionPool([old]).admit([new])[0] is not None) is kept
        assert InstructionPool([old]).accept([new]) == [kept]
        assert [a is not None for a in InstructionPool().admit([old, new])] == [True, kept]


def test_admit_is_the_released_loop():
    texts = generated(150)
    expected = released_loop(texts)
    pool = InstructionPool()
    answers = pool.admit(texts)
    assert 10 < sum(answer is None for answer in answers) < 140
    assert [text for text, answer in zip(texts, answers, strict=True) if answer] == pool.texts
    for answer, record in zip(answers, expected, strict=True):
        assert (answer is None) == (record is None)
        if answer:
            assert ([score for _, score in answer.most_similar], answer.avg_similarity_score) == record
            assert answer.max_score == max(record[0], default=0.0)


@pytest.mark.parametrize("size", [1, 2, 40, 100])
def test_batches_do_not_matter(size):
    texts = [*AWKWARD, *generated(200, seed=2)]
    whole, parts, decided = InstructionPool(), InstructionPool(), InstructionPool()
    expected = whole.admit(texts)
    cuts = [texts[i : i + size] for i in range(0, len(texts), size)]
    assert [answer for cut in cuts for answer in parts.admit(cut)] == expected
    assert [fresh for cut in cuts for fresh in decided.accept(cut)] == [answer is not None for answer in expected]
    assert whole.texts == parts.texts == decided.texts
    probe = texts[-1]
    assert whole.scores(probe).tolist() == parts.scores(probe).tolist() == decided.scores(probe).tolist()


@pytest.mark.parametrize("threshold", [0.7, 0.5])
def test_same_accepted_as_the_released_loop_on_our_instructions(threshold):
    check_decisions(ours(), threshold)


@pytest.mark.slow
@pytest.mark.parametrize(("count", "threshold"), [(3000, 0.7), (1000, 0.5)])
def test_same_accepted_as_the_released_loop_on_released_instructions(count, threshold):
    check_decisions(released(count), threshold)


def check_decisions(texts: list[str], threshold: float) -> None:
    expected = decisions(texts, threshold)
    assert [a is not None for a in InstructionPool().admit(texts, threshold)] == expected
    assert InstructionPool().accept(texts, threshold) == expected
    assert threshold == 0.7 or not all(expected)


def shared_tokens(texts: list[str]) -> np.ndarray:
    """How many tokens each two texts have in common, whatever their order: an upper bound of the LCS."""
    counts = [Counter(tokenizers.split_ascii(text)) for text in texts]
    columns = {}
    ones = [[columns.setdefault((t, i), len(columns)) for t, n in count.items() for i in range(n)] for count in counts]
    matrix = np.zeros((len(texts), len(columns)), np.float32)
    for row, places in zip(matrix, ones, strict=True):
        row[places] = 1
    return matrix @ matrix.T


def decisions(texts: list[str], threshold: float) -> list[bool]:
    """The released loop, sparing rouge_score the pairs that share too few tokens to come near the threshold."""
    shared, kept = shared_tokens(texts), []
    lengths = shared.diagonal()
    near = 2 * shared > (threshold - 0.01) * (lengths[:, None] + lengths)
    for position, text in enumerate(texts):
        earlier = [other for other in kept if near[position, other]]
        if all(oracle(text, texts[other]) <= threshold for other in earlier):
            kept.append(position)
    return np.isin(np.arange(len(texts)), kept).tolist()


def test_ties_keep_the_order_of_joining():
    pool = InstructionPool([f"make list {letter}" for letter in "dbacefghijkl"])
    for k in (1, 5, 12):
        assert [text[-1] for text, _ in pool.nearest("make list z", k)] == list("dbacefghijkl")[:k]
    expected = pool.nearest("make list z")
    assert pool.admit(["make list z"])[0].most_similar == expected


@pytest.mark.parametrize("texts", [["a b"], ["a b", "b c", "c d"]], ids=["alone", "in lanes"])
def test_ties_between_lengths(texts):
    """(lcs, m, n) = (1, 2, 1) and (2, 2, 4) score alike; the four-token length is met first, the tie is not."""
    found = best_matches(texts, ["x x x x", "a", "a b y y"])
    assert (found.scores[0], found.positions[0]) == (oracle("a b", "a b y y"), 1) == (oracle("a b", "a"), 1)


def test_empty_pool_and_small_k():
    pool = InstructionPool()
    assert (len(pool), pool.scores("a").size, pool.nearest("a"), pool.max_score("a")) == (0, 0, [], 0.0)
    assert pool.admit([]) == [] and pool.accept([]) == []
    first, second, double = pool.admit(["a b", "c d", "a b"], k=0)
    assert (first.most_similar, first.avg_similarity_score, first.max_score) == ([], 0.0, 0.0)
    assert (second.most_similar, double, pool.texts) == ([], None, ["a b", "c d"])
    assert pool.nearest("a", k=-1) == []


# ---- many against many


def test_nearest_neighbours_are_the_best_others():
    texts = [*generated(60, seed=5), *AWKWARD, "Write a poem.", "Write a poem."]
    found = nearest_neighbours(texts)
    assert (found.scores[-1], found.positions[-1], found.positions[-2]) == (1.0, len(texts) - 2, len(texts) - 1)
    for i, text in enumerate(texts):
        expected = [-1.0 if i == j else oracle(text, other) for j, other in enumerate(texts)]
        assert (found.scores[i], found.positions[i]) == (max(expected), expected.index(max(expected)))
    assert nearest_neighbours(["alone"]).positions.tolist() == [-1]
    assert nearest_neighbours([]).scores.size == 0


def test_shards_add_up_to_the_whole():
    references, texts = generated(90, seed=6), [*generated(50, seed=7), ""]
    whole = best_matches(texts, references)
    offsets = [0, 40, 40, 41]  # the second part is empty
    parts = [references[a:b] for a, b in zip(offsets, [*offsets[1:], None], strict=True)]
    merged = merge_matches([best_matches(texts, part) for part in parts], offsets)
    assert np.array_equal(merged.scores, whole.scores) and np.array_equal(merged.positions, whole.positions)


def test_sharded_filter_decides_alike():
    """What the module says about ten million: tiles turn down against the pool, the survivors go one after another."""
    old, new = generated(120, seed=8), generated(150, seed=9)
    expected = InstructionPool(old).accept(new)
    tiles = [best_matches(new, old[start : start + 50]).scores for start in range(0, 120, 50)]
    fresh = np.max(tiles, axis=0) <= 0.7
    fresh[fresh] = InstructionPool().accept([text for text, keep in zip(new, fresh, strict=True) if keep])
    assert 5 < sum(expected) < 145
    assert fresh.tolist() == expected


def test_what_joins_a_copy_does_not_join_the_pool():
    pool = InstructionPool(["Name two rivers.", "Sort a list."])
    copy = pool.copy()
    assert copy.admit(["Name two lakes.", "Write 5 puns about tea."]) == pool.copy().admit(
        ["Name two lakes.", "Write 5 puns about tea."]
    )
    assert (len(pool), len(copy)) == (2, 4) and pool.nearest("puns about tea")[0][1] == 0.0
    pool.add("Name a tree.")
    assert pool.max_score("Name a tree.") == 1.0 and copy.max_score("Name a tree.") < 1.0


def test_a_pool_grows_while_garbage_still_holds_its_memory():
    """numba leaves what a loop was compiled for in rings of references, which the collector has not come to yet."""
    pool = InstructionPool(["a b"])
    ring = [pool._documents.arrays()]
    ring.append(ring)
    del ring
    assert pool.admit(["c d", "e"]) and pool.texts == ["a b", "c d", "e"]


def test_threads_may_read_one_pool():
    pool, queries = InstructionPool(generated(300)), generated(24, seed=10)
    expected = [pool.scores(query).tolist() for query in queries]
    with ThreadPoolExecutor(4) as threads:
        assert list(threads.map(lambda query: pool.scores(query).tolist(), queries)) == expected


# ---- other languages, wrong arguments, start-up


def test_unicode_tokenizer_sees_other_languages():
    chinese, fixed = "写一首关于秋天的诗", {"quirks": "fixed", "tokenizer": "unicode"}
    assert rouge_l(chinese, chinese) == rouge_l(chinese, chinese, quirks="fixed") == 0.0
    assert rouge_l(chinese, chinese, **fixed) == 1.0
    assert 0.7 < rouge_l(chinese, "写一首关于春天的诗", **fixed) < 1
    pool = InstructionPool([chinese, "Напиши стихотворение об осени"], **fixed)
    assert pool.admit([chinese, "НАПИШИ стихотворение об осени!", "हिन्दी में लिखो"])[:2] == [None, None]
    assert pool.accept(["हिन्दी में लिखो", "ไทย"]) == [False, True]
    assert tokenizers.split_unicode("हिन्दी में ไทย Ｇｏ") == ["हिन्दी", "में", "ไ", "ท", "ย", "go"]
    assert rouge_l("ab", "ac", quirks="fixed", tokenizer=list) == 0.5
    assert (
        best_matches([chinese], [chinese], **fixed).scores[0]
        == nearest_neighbours([chinese] * 2, **fixed).scores[0]
        == 1
    )


@given(st.text(st.characters(max_codepoint=127), max_size=60))
def test_tokenizers_agree_on_ascii(text):
    assert tokenizers.split_unicode(text) == tokenizers.split_ascii(text)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: InstructionPool("one text"), "list of texts"),
        (lambda: InstructionPool().admit("one text"), "list of texts"),
        (lambda: InstructionPool().add(None), "NoneType"),
        (lambda: rouge_l("a", "a", quirks="fast"), "published"),
        (lambda: rouge_l("a", "a", tokenizer="unicode"), 'quirks="fixed"'),
        (lambda: InstructionPool(quirks="fixed", tokenizer="klingon"), "klingon"),
    ],
)
def test_errors_say_what_to_do(call, said):
    with pytest.raises(SelfInstructError, match=said):
        call()


def run_python(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()


def test_import_is_light():
    code = "import sys, selfinstruct.similarity; print({'numpy', 'numba', 'pydantic'} & set(sys.modules))"
    assert run_python(code) == "set()"


@pytest.mark.slow
def test_works_where_nothing_can_be_cached():
    """numba finds no folder to write to, as on a read-only file system: it compiles in memory instead."""
    code = """
from numba.core import caching
caching.CacheImpl._locator_classes = []
from selfinstruct.similarity import InstructionPool
from selfinstruct.similarity import lcs
print(lcs.fill_table.stats.cache_path, InstructionPool(['a b c']).scores('a c').tolist())"""
    assert run_python(code) == f"None [{oracle('a b c', 'a c')}]"


def test_docstring_examples():
    tried = doctest.testmod(similarity)
    assert tried.attempted >= 3 and tried.failed == 0
