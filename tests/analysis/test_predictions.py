"""Responses: published files read, ROUGE-L as Tk-Instruct computes it, scores at equal length; the published files where fetched."""

from __future__ import annotations

import doctest
import json

import numpy as np
import pytest
from helpers.places import PREDICTIONS, SAMPLES, USER_ORIENTED, find_published
from rouge_score.rouge_scorer import RougeScorer

from selfinstruct.analysis import predictions
from selfinstruct.analysis.paired import compare_columns
from selfinstruct.analysis.predictions import (
    cut_at_next_example,
    cut_to_length,
    find_definition,
    load_predictions,
    score_cuts,
    score_responses,
)
from selfinstruct.files import InputError, iter_lines, write_records

SAMPLE = SAMPLES / "predictions" / "davinci_predictions.jsonl"
ROW = {"prompt": "Greet.\nOutput:", "instruction": "Greet.\n", "input": "", "response": " Hello \n", "target": " Hi"}


def read_tasks(path):
    """(instruction, input, output) of each task."""
    return [(task["instruction"], *task["instances"][0].values()) for _, task in iter_lines(path)]


SAMPLE_TASKS = read_tasks(SAMPLES / "user_oriented_instructions.jsonl")
TASKS = [task[:2] for task in SAMPLE_TASKS]


def test_the_worked_examples():
    assert doctest.testmod(predictions).failed == 0


@pytest.mark.parametrize(
    ("response", "reference", "stemmed", "plain"),
    [
        ("The dogs are barking", "the dog barked", 200 * 3 / 7, 200 * 1 / 7),  # dog, bark match by their stems
        ("Two dogs bark", "Two dogs bark!", 100, 100),
        ("a b c d", "d c b a", 25, 25),  # order counts
        ("cat", "cats", 100, 0),
        ("his", "hiss", 0, 0),  # words of three letters keep their form
        ("", "nothing", 0, 0),
        ("something", "", 0, 0),
        ("", "", 0, 0),
        ("。", "。", 0, 0),  # no word of a-z and 0-9
        ("1,000 apples", "1000 apple", 200 * 1 / 5, 0),
    ],
)
def test_worked_cases_with_and_without_stemmer(response, reference, stemmed, plain):
    assert score_responses([response], [reference]) == pytest.approx(stemmed)
    assert score_responses([response], [reference], stemmer=False) == pytest.approx(plain)


def test_the_best_of_several_references_counts_and_none_is_zero():
    assert score_responses(["Paris"] * 3, [["Rome", "Paris"], [], "Paris in France"]) == pytest.approx([100, 0, 50])
    assert score_responses([], []).shape == (0,)


@pytest.mark.parametrize("stemmer", [True, False])
def test_equal_to_rouge_score_to_the_last_bit(stemmer):
    scorer, rng = RougeScorer(["rougeL"], use_stemmer=stemmer), np.random.default_rng(3)
    words = [word for task in SAMPLE_TASKS for word in task[2].split()] + ["running", "runs", "Ran", "flies"]
    texts = [" ".join(rng.choice(words, rng.integers(0, 40))) for _ in range(200)]
    found = score_responses(texts[:100], texts[100:], stemmer)
    known = [100 * scorer.score(two, one)["rougeL"].fmeasure for one, two in zip(texts[:100], texts[100:], strict=True)]
    assert list(found) == known and 0 < max(known) <= 100


def test_predictions_are_read_in_order_and_stripped(tmp_path):
    rows = load_predictions(SAMPLE, TASKS)
    assert len(rows) == len(TASKS) and all(row.instruction == row.instruction.strip() for row in rows)
    path = write_records(tmp_path / "p.jsonl", [{**ROW, "more": 1}])
    [row] = load_predictions(path)
    assert (row.instruction, row.response, row.target, row.prompt) == ("Greet.", "Hello", "Hi", "Greet.\nOutput:")


def test_the_reference_is_the_target_and_no_other_models_response():
    first, second = (
        load_predictions(SAMPLES / "predictions" / f"{name}_predictions.jsonl")
        for name in ("davinci", "text-davinci-001")
    )
    assert [row.target for row in first] == [row.target for row in second]
    assert [row.target for row in first] == [task[2].strip() for task in SAMPLE_TASKS]
    assert [row.response for row in first] != [row.response for row in second]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([ROW, {key: ROW[key] for key in ROW if key != "target"}], r'p\.jsonl:2: missing "target"; a Prediction needs'),
        ([{**ROW, "response": None}], r'p\.jsonl:1: "response": Input should be a valid string'),
        ([], r"p\.jsonl: no predictions in it"),
    ],
)
def test_a_malformed_file_is_named_with_its_line(tmp_path, lines, message):
    path = tmp_path / "p.jsonl"
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(InputError, match=message):
        load_predictions(path)


def test_rows_of_another_order_or_number_are_refused(tmp_path):
    lines = SAMPLE.read_text().splitlines(keepends=True)
    path = tmp_path / "p.jsonl"
    path.write_text("".join([lines[0], lines[2], lines[1], *lines[3:]]))
    with pytest.raises(InputError, match=r'p\.jsonl:2: answers another task: ".*" where ".*" is expected'):
        load_predictions(path, TASKS)
    path.write_text("".join(lines[:3]))
    with pytest.raises(InputError, match=rf"p\.jsonl: 3 predictions for {len(TASKS)} tasks"):
        load_predictions(path, TASKS)


@pytest.mark.parametrize(
    ("text", "cut"),
    [
        (" Paris\n\nInput: Rome", "Paris"),
        ("Paris\nOutput: Rome", "Paris"),
        ("Paris\n\nTask: Name a river.", "Paris"),
        ("Paris<|endoftext|>Rome", "Paris"),
        ("Paris\n\nIt is on the Seine.", "Paris\n\nIt is on the Seine."),
        ("The Output: label is kept", "The Output: label is kept"),
        ("", ""),
    ],
)
def test_where_a_next_example_begins(text, cut):
    assert cut_at_next_example(text) == cut


def test_at_the_references_length_what_follows_the_answer_costs_nothing():
    answer, rambling = "Paris", "Paris\n\nInput: Peru\nOutput: Lima, which is the capital"
    before, after = (score_cuts([text], ["Paris"]) for text in (rambling, answer))
    assert {name: after[name][0] for name in after} == {"whole": 100, "next_example": 100, "reference_length": 100}
    assert before["whole"] < 25 and before["next_example"] == before["reference_length"] == 100
    assert cut_to_length("one two three", "") == "one" and cut_to_length("", "a b") == ""
    assert score_cuts(["one two"], [["two", "one two x"]])["reference_length"] == pytest.approx(80)


def test_the_definition_is_the_text_before_the_input():
    definition = "You are given a city. Name its country."
    prompts = [
        f"{definition}\n\nInput: Lima\n\nOutput:", f"{definition}\nInput: Quito\nOutput:", f"{definition}\n\nOslo\n\n",
        f"  {definition}\n\nNow complete the following example -\nInput: Oslo\nOutput: ",
        "You are given a city.  Name\tits country.\n\nInput: Input: Rome",
    ]  # fmt: skip
    assert {find_definition(prompt) for prompt in prompts} == {definition}
    assert find_definition("Name its river.\n\nInput: Lima") != definition and find_definition("") == ""


def read_published(name, stemmer=True):
    tasks = [task[:2] for task in read_tasks(find_published(USER_ORIENTED))]
    rows = load_predictions(find_published(PREDICTIONS.format(name)), tasks)
    return score_responses([row.response for row in rows], [row.target for row in rows], stemmer)


PUBLISHED = {
    ("davinci-self-instruct", "davinci"): (25.31, 21.56, 29.13),
    ("davinci-self-instruct", "text-davinci-001"): (-0.87, -2.87, 1.23),
    ("davinci-self-instruct", "davinci-superni-ft"): (2.37, 0.16, 4.49),
    ("text-davinci-001", "text-davinci-002"): (-4.79, -7.19, -2.50),
    ("davinci-self-instruct-and-superni-ft", "davinci-self-instruct"): (-0.72, -2.69, 1.26),
}


@pytest.mark.parametrize("pair", PUBLISHED, ids=" - ".join)
def test_differences_of_the_published_predictions(pair):
    found = compare_columns({name: read_published(name) for name in pair}, [pair]).iloc[0]
    difference, low, high = PUBLISHED[pair]
    assert found["difference"] == pytest.approx(difference, abs=0.01)
    assert (found["low"], found["high"]) == pytest.approx((low, high), abs=0.3)


def test_119_tasks_in_the_published_test_set():
    definitions = set()
    with find_published("data/finetuning/superni_50k/superni_test_set.jsonl").open() as lines:
        definitions.update(find_definition(json.loads(line)["prompt"]) for line in lines)
    assert 110 <= len(definitions) <= 119  # two tasks may share a definition
