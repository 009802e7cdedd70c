"""Differences of data sets: right against what is known, calibrated, seeded, and linear in the data."""

from __future__ import annotations

import doctest

import numpy as np
import pytest

from selfinstruct.analysis import compare
from selfinstruct.analysis.compare import (
    Sample,
    collect_lengths,
    collect_samples,
    compare_datasets,
    compare_lengths,
    compare_samples,
    find_own_verbs,
    find_twins,
    join_headlines,
    label_rows,
    note_unseen,
    tabulate_differences,
)
from selfinstruct.analysis.statistics import describe_dataset, summarise_lengths
from selfinstruct.analysis.verbs import VerbNoun
from selfinstruct.data.datasets import Dataset, load_dataset


def make_set(name: str, rows) -> Dataset:
    rows = [dict(zip(("instruction", "input", "output"), row, strict=True)) for row in rows]
    loaded = load_dataset(rows)
    return Dataset(name, loaded.rows, name)


MINE = make_set("mine", [(f"Name {i} rivers of Asia.", "of the north" * (i % 2), "a " * (i % 7)) for i in range(40)])
THEIRS = make_set("theirs", [(f"List the {i} best books that you know.", "", "b " * (i % 5)) for i in range(60)])


def by_number(records):
    return {record["number"]: record for record in records}


def test_the_worked_examples():
    assert doctest.testmod(compare).failed == 0


def test_values_are_those_of_the_tables():
    found, described = by_number(compare_datasets([MINE, THEIRS], draws=200)), describe_dataset(THEIRS)
    for number in ("mean_instruction_words", "mean_output_words", "empty_input_share", "instances_per_instruction"):
        assert found[number]["value"] == pytest.approx(described[number], abs=1e-4)
        assert found[number]["reference"] == pytest.approx(describe_dataset(MINE)[number], abs=1e-4)
    lengths, words = by_number(compare_lengths([MINE, THEIRS], draws=200)), summarise_lengths(THEIRS)
    assert lengths["median_output_words"]["value"] == words["output"]["median"]
    assert lengths["p90_instruction_words"]["value"] == pytest.approx(words["instruction"]["p90"])
    assert "mean_input_words" not in lengths  # theirs has no inputs


def test_equal_seeds_equal_intervals_and_one_data_set_has_none():
    one, again, other = (compare_datasets([MINE, THEIRS], draws=300, random_seed=seed) for seed in (1, 1, 2))
    assert one == again != other
    assert compare_datasets([MINE]) == compare_lengths([MINE]) == []


def test_a_set_and_its_copy_do_not_differ_at_all():
    copy = Dataset("copy", MINE.rows, "copy")
    for record in (*compare_datasets([MINE, copy], draws=100), *compare_lengths([MINE, copy], draws=100)):
        assert record["difference"] == 0 and record["low"] <= 0 <= record["high"] and record["shared"] == 40
        assert record["value"] in (0, 1) or (record["low"], record["high"]) == (0, 0), record


def test_rows_that_are_paired_have_the_paired_interval():
    rng = np.random.default_rng(0)
    units, base = [f"t{i}" for i in range(200)], rng.normal(0, 10, 200)
    first, second = Sample(base, units), Sample(base + rng.normal(0.5, 1, 200), units)
    (paired,) = compare_samples({"a": {"x": first}, "b": {"x": second}})
    (apart,) = compare_samples({"a": {"x": first}, "b": {"x": second._replace(units=[f"u{i}" for i in range(200)])}})
    assert (paired["shared"], apart["shared"]) == (200, 0)
    half = 1.96 * np.std(np.asarray(second.values) - base) / np.sqrt(200)
    assert paired["high"] - paired["low"] == pytest.approx(2 * half, rel=0.05)
    half = 1.96 * np.sqrt((np.var(base) + np.var(second.values)) / 200)
    assert apart["high"] - apart["low"] == pytest.approx(2 * half, rel=0.05)


def test_instances_of_one_instruction_are_drawn_together():
    units = [f"t{i // 10}" for i in range(400)]  # forty instructions with ten equal instances each
    values = np.repeat(np.random.default_rng(0).normal(0, 1, 40), 10)
    other = Sample(np.zeros(40), [f"u{i}" for i in range(40)])
    (found,) = compare_samples({"a": {"x": other}, "b": {"x": Sample(values, units)}})
    assert found["high"] - found["low"] == pytest.approx(2 * 1.96 * np.std(values) / np.sqrt(40), rel=0.06)


def test_medians_are_those_of_each_resample():
    values = np.random.default_rng(0).integers(0, 30, 101)
    units = [f"t{i}" for i in range(101)]
    resampled = compare._Resampled(Sample(values, units, 0.5), {unit: i for i, unit in enumerate(units)})
    times = np.random.default_rng(1).multinomial(101, [1 / 101] * 101, size=50).astype(float)
    expected = [np.median(np.repeat(values, one.astype(int))) for one in times]
    assert resampled.measure(times) == pytest.approx(expected)


@pytest.mark.parametrize("shares", [(0, 0), (1, 1), (0, 0.3), (1, 0.5)])
def test_a_share_of_none_or_all_has_an_interval_all_the_same(shares):
    units = {name: [f"{name}{i}" for i in range(40)] for name in "ab"}
    values = [np.arange(40) < 40 * share for share in shares]
    pair = {name: {"x": Sample(flags, units[name])} for name, flags in zip("ab", values, strict=True)}
    (found,) = compare_samples(pair, draws=200)
    assert found["low"] < found["difference"] < found["high"] or found["high"] - found["low"] > 0.1
    assert found["excludes_zero"] == (shares[0] != shares[1])


def test_intervals_miss_as_often_as_they_say():
    """Two halves of one population have no difference; 95 % intervals find one in about one of twenty."""
    rng, misses = np.random.default_rng(3), 0
    for trial in range(150):
        pair = {
            name: {"x": Sample(rng.lognormal(2, 0.8, 80), [f"{name}{i}" for i in range(80)])} for name in ("a", "b")
        }
        misses += compare_samples(pair, draws=400, random_seed=trial)[0]["excludes_zero"]
    assert 2 <= misses <= 16  # binomial(150, 0.05): 99.8 % lie here


def test_different_words_are_compared_for_equally_many_texts():
    words = [f"word{i}" for i in range(400)]
    rng = np.random.default_rng(0)

    def write(name, count):
        texts = [" ".join(rng.choice(words, 8)) for _ in range(count)]
        return make_set(name, [(text, "", "x") for text in texts])

    found = by_number(compare_datasets([write("small", 50), write("large", 800)], draws=50))["distinct_1"]
    assert abs(found["difference"]) < 0.05 and not found["excludes_zero"]  # of all texts: 0.63 against 0.06
    poor = make_set("poor", [(f"Name the river number {i}.", "", "x") for i in range(50)])
    assert by_number(compare_datasets([write("rich", 50), poor], draws=50))["distinct_1"]["excludes_zero"]


def test_large_sets_are_drawn_less_often():
    def count_draws(size, draws):
        return sum(len(parts[0]) for parts in compare.draw_times(np.random.default_rng(0), (0, size, 1), draws))

    assert count_draws(100, 3000) == 3000
    assert compare.FEWEST_DRAWS <= count_draws(20_000, 10_000) < 2600


def test_the_table_names_both_sets_and_marks_points():
    table = tabulate_differences(compare_datasets([MINE, THEIRS], draws=100))
    row = next(row for row in table if row["number"] == "empty input share")
    assert (row["mine"], row["theirs"], row["difference"]) == ("50.0%", "100.0%", "50.0 pp")
    assert row["95 % interval"].endswith(" pp") and row["0 outside"] == "yes"
    third = Dataset("third", MINE.rows, "third")
    rows = tabulate_differences(compare_datasets([MINE, THEIRS, third], draws=100))
    assert {row["data set"] for row in rows} == {"theirs", "third"}


def test_every_number_of_the_notebooks_is_there():
    assert {"classification_share", "latin_share", "distinct_2", "different_outputs_share"} <= collect_samples(
        MINE
    ).keys()
    assert len(collect_lengths(MINE)) == 15


def test_twins_across_sets():
    other = make_set(
        "other", [("Name 3 rivers of Asia.", "", "x"), ("Name 7 rivers of Africa.", "", "x"), ("Sing.", "", "x")]
    )
    (record,), twins = find_twins([MINE, other], 0.7)
    assert (record["twins"], record["identical"], record["instructions"]) == (2, 1, 3)
    assert twins[0] == {"ROUGE-L": 1.0, "other": "Name 3 rivers of Asia.", "mine": "Name 3 rivers of Asia."}
    assert [one["other"] for one in twins] == ["Name 3 rivers of Asia.", "Name 7 rivers of Africa."]
    assert len(find_twins([MINE, other, THEIRS])[0]) == 3 and find_twins([MINE]) == ([], [])


def test_verbs_that_one_set_alone_has():
    found = {
        "a": [VerbNoun("write"), VerbNoun("sing"), VerbNoun("sing")], "b": [VerbNoun("write"), VerbNoun("read")],
        "c": [VerbNoun("read"), VerbNoun(None)],
    }  # fmt: skip
    assert find_own_verbs(found) == {"a": ["sing 2"], "b": [], "c": []}


def test_one_set_needs_no_name():
    assert label_rows({"a": [{"n": 1}]}) == [{"n": 1}] and join_headlines({"a": "x"}) == "x"


def test_notes_name_the_set_where_there_are_several():
    chinese = make_set("zh", [("写一首关于秋天的短诗。", "", "好的")])
    assert note_unseen([MINE], "words") == note_unseen([MINE], "rouge") == []
    assert [line.split(",")[0] for line in note_unseen([chinese], "words")] == [
        "1 of 1 instructions in a script without spaces (Cjk)", "1 of 1 outputs in a script without spaces (Cjk)",
    ]  # fmt: skip
    assert [line[:9] for line in note_unseen([MINE, chinese], "verbs")] == ["zh: 1 of "]
