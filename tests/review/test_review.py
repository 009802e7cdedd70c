"""The quality review: the sample, answers on disk, the sheet, the form, agreement, a model as rater."""

import contextlib
import csv
import inspect
import json
import re
from types import SimpleNamespace

import nbformat
import numpy as np
import pytest
from click.testing import CliRunner
from helpers.notebooks import run_cells
from helpers.scripted import ScriptedServer, prompt_of
from nbclient import NotebookClient

from selfinstruct.analysis.agreement import as_table, cohen_kappa, kappa_interval, share_interval
from selfinstruct.cli import main
from selfinstruct.data.datasets import load_dataset
from selfinstruct.files import PROJECT_ROOT, InputError, ParameterError, load_records, read_json, write_records
from selfinstruct.models.connection import connect
from selfinstruct.review import sheet as sheet_words
from selfinstruct.review.form import ReviewForm, wants_form
from selfinstruct.review.items import (
    QUESTIONS,
    Review,
    ReviewItem,
    answers_path,
    draw_sample,
    keep_sample,
    load_answers,
    measure_agreement,
    summarise_review,
)
from selfinstruct.review.model import build_rating_requests, calibrate, rate_with_model
from selfinstruct.review.sheet import export_sheet, import_sheet
from selfinstruct.runner.parameters import notebook_parameters

YES = {"valid_task": True, "input_appropriate": True, "output_correct": True}


def dataset(count=40, labels=True):
    rows = [
        {"instruction": f"Name {k // 2} rivers.", "input": "", "output": f"River {k}", "is_classification": k % 8 < 2}
        for k in range(count * 2)
    ]
    return load_dataset(rows if labels else [{**row, "is_classification": None} for row in rows])


@pytest.fixture
def review(tmp_path):
    return Review(draw_sample(dataset(), 6), tmp_path, "ann")


def test_a_sample_has_one_instance_of_each_instruction_and_is_seeded():
    items = draw_sample(dataset(), 20, random_seed=7)
    assert len({item.instruction for item in items}) == len({item.id for item in items}) == 20
    assert items == draw_sample(dataset(), 20, random_seed=7)
    assert items != draw_sample(dataset(), 20, random_seed=8)
    assert {int(item.output.split()[1]) % 2 for item in items} == {0, 1}  # first and second instances both come


def test_a_small_data_set_is_reviewed_whole():
    assert len(draw_sample(dataset(5), 200)) == 5


def test_a_stratified_sample_keeps_the_share_of_classification_tasks():
    items = draw_sample(dataset(40), 20, stratified=True)
    assert sum(item.is_classification for item in items) == 5  # a quarter, as in the data
    with pytest.raises(InputError, match="no classification labels"):
        draw_sample(dataset(labels=False), 20, stratified=True)


def test_instructions_alone_cannot_be_reviewed():
    with pytest.raises(InputError, match="no outputs in it"):
        draw_sample(load_dataset([{"instruction": "Name a river."}]), 5)


def test_a_review_takes_one_data_set(tmp_path):
    with pytest.raises(InputError, match=r"outputs/a, outputs/b: no such file \(one data set, please"):
        load_dataset("outputs/a, outputs/b")
    odd = tmp_path / "mine, and yours.jsonl"
    odd.write_text('{"instruction": "Name a river.", "input": "", "output": "Elbe"}\n')
    assert len(load_dataset(str(odd)).rows) == 1  # a comma in a name is no list


def test_another_sample_does_not_take_the_place_of_the_first(tmp_path):
    path = tmp_path / "review/sample.jsonl"
    first = keep_sample(path, draw_sample(dataset(), 6, random_seed=1))
    assert keep_sample(path, draw_sample(dataset(), 6, random_seed=1)) == first
    with pytest.raises(ParameterError, match="delete that file to draw anew"):
        keep_sample(path, draw_sample(dataset(), 6, random_seed=2))


def test_every_answer_is_on_disk_at_once_and_taken_up_again(review):
    first, second = review.items[:2]
    review.answer(first.id, **YES)
    review.answer(second.id, valid_task=True, notes="hm")
    review.answer(second.id, valid_task=False)
    again = Review(review.items, review.folder, "ann")
    assert again.of(first.id).is_complete and again.complete == 1
    assert (again.of(second.id).valid_task, again.of(second.id).notes) == (False, "hm")
    assert again.first_open() == 1


def test_a_line_cut_by_a_crash_costs_only_that_line(review):
    review.answer(review.items[0].id, **YES)
    with review.path.open("a") as file:
        file.write('{"id": "half a li')
    assert list(load_answers(review.path)) == [review.items[0].id]
    Review(review.items, review.folder, "ann").answer(review.items[1].id, **YES)
    assert len(load_answers(review.path)) == 2


def test_answers_to_another_sample_stay_in_the_file_and_out_of_the_way(review):
    review.answer(review.items[0].id, **YES)
    others = [item for item in draw_sample(dataset(), 40) if item.id != review.items[0].id]
    assert Review(others, review.folder, "ann").answers == {}
    assert Review(review.items, review.folder, "ann").complete == 1


@pytest.mark.parametrize("rater", ["", "../ann", "a/b", "x" * 99])
def test_a_raters_name_is_a_file_name(tmp_path, rater):
    with pytest.raises(ParameterError, match="rater="):
        answers_path(tmp_path, rater)


def test_a_question_counts_where_it_is_answered_and_all_fields_where_all_are(review):
    ids = [item.id for item in review.items]
    for key in ids[:3]:
        review.answer(key, **YES)
    review.answer(ids[2], output_correct=False)
    review.answer(ids[3], valid_task=False)  # a no already, but a yes alone would not count either
    review.answer(ids[4], valid_task=True)
    summary = summarise_review(review.answers)
    assert (summary["valid_task"]["yes"], summary["valid_task"]["answered"]) == (4, 5)
    assert (summary["all_fields_valid"]["yes"], summary["all_fields_valid"]["answered"]) == (2, 3)
    assert [review.of(key).all_fields_valid for key in ids] == [True, True, False, None, None, None]


def test_two_of_three_answers_say_nothing_of_all_fields(review):
    for number, item in enumerate(review.items):
        review.answer(item.id, valid_task=number % 2 == 0, input_appropriate=True)
    summary = summarise_review(review.answers)
    assert summary["all_fields_valid"] == {"yes": 0, "answered": 0, "share": None, "interval": None}
    assert summary["valid_task"]["share"] == 0.5 and summary["input_appropriate"]["answered"] == 6


def test_the_notebook_records_a_review_with_a_question_open_throughout(tmp_path):
    rows = [{"instruction": f"Name {k} rivers.", "input": "", "output": f"River {k}"} for k in range(6)]
    write_records(tmp_path / "finetuning_data/all_generated_instances.jsonl", rows)
    review = Review(draw_sample(load_dataset(str(tmp_path))), tmp_path, "me")
    for number, item in enumerate(review.items):
        review.answer(item.id, valid_task=number < 4, input_appropriate=True)
    run_cells("14_review_quality", tmp_path, show_form="no")
    record = read_json(tmp_path / "results/14_review_quality.json")
    assert record["questions"]["all_fields_valid"] == {"yes": 0, "answered": 0, "share": None, "interval": None}
    assert record["questions"]["valid_task"]["answered"] == 6 and record["questions"]["valid_task"]["yes"] == 4
    assert (record["answered"], record["headline"]) == (
        0, "0 of 6 items rated in full; valid task 67%, input appropriate 100%"
    )  # fmt: skip
    assert list(record["figures"]) == ["14_review_quality"]
    drawn = (tmp_path / "figures/14_review_quality.svg").read_text()
    assert "0 of 6 items rated in full" in drawn
    review.answer(review.items[0].id, output_correct=True)
    run_cells("14_review_quality", tmp_path, show_form="no")
    record = read_json(tmp_path / "results/14_review_quality.json")
    assert record["questions"]["all_fields_valid"]["answered"] == record["answered"] == 1


def test_an_empty_review_has_no_shares():
    assert summarise_review({})["valid_task"] == {"yes": 0, "answered": 0, "share": None, "interval": None}


def test_wilson_interval_against_published_values():
    low, high = share_interval(81, 263)  # Newcombe 1998, table I, method 3: 0.2553 to 0.3662
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)
    assert share_interval(0, 10)[0] == 0.0 and share_interval(10, 10)[1] == pytest.approx(1.0)
    assert share_interval(0, 0) is None


def test_cohens_kappa_against_a_worked_example():
    first = ["y"] * 25 + ["n"] * 25  # the textbook table 20, 5, 10, 15: kappa 0.4
    second = ["y"] * 20 + ["n"] * 5 + ["y"] * 10 + ["n"] * 15
    assert cohen_kappa(first, second) == pytest.approx(0.4)
    low, high = kappa_interval(first, second)
    assert 0.1 < low < 0.4 < high < 0.7
    # the large-sample standard error of Fleiss, Cohen and Everitt is 0.127 here
    assert (high - low) / (2 * 1.96) == pytest.approx(0.127, abs=0.01)


def test_cohens_kappa_at_its_limits():
    assert cohen_kappa("abc", "abc") == 1.0
    assert cohen_kappa("aab", "bba") < 0
    assert cohen_kappa("aaa", "aaa") is None and cohen_kappa("", "") is None and kappa_interval("aa", "aa") is None


@pytest.mark.parametrize("count", [4, 40, 200])
def test_agreement_without_exception_is_no_certainty(count):
    said = "yn" * (count // 2)
    low, high = kappa_interval(said, said)
    assert high == 1.0
    assert low == pytest.approx((share_interval(count, count)[0] - 0.5) / 0.5)
    assert low == pytest.approx(1 - 2 * 3.8415 / (count + 3.8415), abs=1e-4)  # the docstring's words in figures


@pytest.mark.parametrize(
    "cells",
    [
        (0.69, 0.01, 0.01, 0.29),  # kappa 0.95, and four samples in ten show no disagreement
        (0.92, 0.03, 0.03, 0.02),  # yes nearly always: resampling the items would hold the truth in three of four
    ],
)
def test_the_interval_holds_the_truth_often_enough(cells):
    yes, one, other, no = cells
    chance = (yes + one) * (yes + other) + (no + one) * (no + other)
    truth, hits, draws = (yes + no - chance) / (1 - chance), 0, 0
    for yes, one, other, no in np.random.default_rng(1).multinomial(40, cells, size=200):
        first, second = "y" * (yes + one) + "n" * (other + no), "y" * yes + "n" * one + "y" * other + "n" * no
        if interval := kappa_interval(first, second):
            hits, draws = hits + (interval[0] <= truth <= interval[1]), draws + 1
    assert hits / draws > 0.93 and draws > 150


def test_a_rater_who_says_one_thing_throughout_leaves_kappa_open():
    low, high = kappa_interval("y" * 40, "y" * 30 + "n" * 10)
    wilson = share_interval(30, 40)
    assert (low, high) == pytest.approx(((wilson[0] - 0.75) / 0.25, (wilson[1] - 0.75) / 0.25))
    assert kappa_interval("y" * 40, "y" * 39 + "n")[0] == -1.0  # no kappa is below
    assert kappa_interval("y" * 40, "y" * 40) is None and kappa_interval("", "") is None


def test_a_table_to_look_at_has_two_digits_and_gaps():
    table = as_table({"a": {"kappa": 0.123456, "interval": (0.1, 0.2345)}, "b": {"kappa": None, "interval": None}})
    assert table.loc["a"].to_list() == [0.12, "0.10 to 0.23"]
    assert table.loc["b", "interval"] == "" and table["kappa"].isna().to_list() == [False, True]
    assert as_table({}).empty


def test_agreement_of_two_raters_counts_what_both_answered(review, tmp_path):
    other = Review(review.items, tmp_path, "bob")
    for number, item in enumerate(review.items):
        review.answer(item.id, **YES, notes="")
        if number < 4:
            other.answer(item.id, **{**YES, "output_correct": number % 2 == 0})
    agreement = measure_agreement(review.answers, other.answers)
    assert agreement["output_correct"]["both"] == 4 and agreement["output_correct"]["equal"] == 0.5
    assert agreement["valid_task"]["kappa"] is None  # both said yes throughout


# the sheet


def fill(path, out, fields, delimiter=","):
    with path.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    columns = {name.partition(":")[0]: name for name in rows[0]}
    for row in rows:
        row.update({columns[name]: text for name, text in fields.items()})
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0])[::-1], delimiter=delimiter)  # columns moved
        writer.writeheader()
        writer.writerows(rows[::-1])  # rows sorted another way
    return out


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_a_sheet_goes_out_and_comes_back(review, tmp_path, delimiter):
    review.answer(review.items[0].id, valid_task=False)
    sheet = export_sheet(review.items, review.answers, tmp_path / "review.csv")
    assert import_sheet(sheet, review) == 0  # unchanged
    words = {"valid_task": "Yes", "input_appropriate": "n", "output_correct": "", "notes": " =good; really "}
    filled = fill(sheet, tmp_path / "filled.csv", words, delimiter)
    assert import_sheet(filled, review) == 6
    answer = Review(review.items, review.folder, "ann").of(review.items[0].id)
    assert answer.given == [True, False, None] and answer.notes == "=good; really"


def test_a_sheet_computes_nothing(tmp_path):
    rows = [{"instruction": "=HYPERLINK(1)", "input": "-1\n+2", "output": "@x"}]
    items = draw_sample(load_dataset(rows), 1)
    review = Review(items, tmp_path, "ann")
    review.answer(items[0].id, notes="'tis fine")
    sheet = export_sheet(items, review.answers, tmp_path / "review.csv")
    with sheet.open(encoding="utf-8-sig", newline="") as file:
        (row,) = csv.DictReader(file)
    assert (row["instruction"], row["input"], row["output"]) == ("'=HYPERLINK(1)", "'-1\n+2", "'@x")
    assert import_sheet(sheet, review) == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("valid_task", "valid"), r"bad\.csv:1: no column valid_task"),
        (
            lambda text: text.replace(",,,,\n", ",maybe,,,\n", 1),
            r'bad\.csv:2, row 2: .* "maybe"; write yes',
        ),
        (lambda text: text + "abc,,,,,,,\n", r'bad\.csv:8, row 8: id "abc" is not in the sample'),
        (
            lambda text: text + text.splitlines()[1] + "\n",
            r"bad\.csv:8, row 8: id .* is in an earlier row already",
        ),
    ],
)
def test_a_bad_sheet_is_refused_whole_with_its_row(review, tmp_path, change, message):
    sheet = export_sheet(review.items, {}, tmp_path / "review.csv")
    bad = tmp_path / "bad.csv"
    bad.write_text(change(sheet.read_text(encoding="utf-8-sig")))
    with pytest.raises(InputError, match=message):
        import_sheet(bad, review)
    assert review.answers == {}


def test_changed_texts_are_named_and_left_aside(review, tmp_path):
    sheet = export_sheet(review.items, {}, tmp_path / "review.csv")
    first = review.items[0]
    text = sheet.read_text(encoding="utf-8").replace(f",{first.output},", ",A sea,").replace(",,,,\n", ",,,yes,\n")
    sheet.write_text(text.replace(f"{review.items[1].instruction}", "Improved!"), encoding="utf-8")
    notes = []
    assert import_sheet(sheet, review, notes.append) == 6
    lines = notes[0].splitlines()
    assert lines[0].endswith(f'review.csv:2, row 2: output of "{first.id}" changed in the sheet: left aside')
    assert f':3, row 3: instruction of "{review.items[1].id}" changed' in lines[1] and len(lines) == 2
    assert Review(review.items, review.folder, "ann").of(first.id).output_correct is True


def test_what_a_spreadsheet_does_to_blanks_and_formulas_is_no_change(tmp_path):
    rows = [{"instruction": f"{k} Say\r\nthis.", "input": "=1+1 ", "output": "\t-x"} for k in range(2)]
    items = draw_sample(load_dataset(rows))
    sheet = export_sheet(items, {}, tmp_path / "review.csv")
    with sheet.open(encoding="utf-8-sig", newline="") as file:
        text = file.read()
    sheet.write_text(text.replace("\r\n", "\n").replace("'=", "="), encoding="utf-8")  # some drop the apostrophe
    notes = []
    assert import_sheet(sheet, Review(items, tmp_path, "ann"), notes.append) == 0 and notes == []


def test_a_column_sorted_alone_is_refused(review, tmp_path):
    sheet = export_sheet(review.items, {}, tmp_path / "review.csv")
    with sheet.open(encoding="utf-8-sig", newline="") as file:
        rows = list(csv.DictReader(file))
    for row, instruction in zip(rows, sorted(row["instruction"] for row in rows), strict=True):
        row.update(instruction=instruction)
    assert [row["instruction"] for row in rows] != [item.instruction for item in review.items]
    with sheet.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(InputError, match=r'csv:\d, row \d: id ".*" has the instruction of ".*sort whole rows'):
        import_sheet(sheet, review)
    assert review.answers == {}


@pytest.mark.parametrize(
    ("encoding", "delimiter", "ends"),
    [
        ("utf-8-sig", ";", "\r\n"),  # Excel, where the comma is for decimals
        ("utf-8", "\t", "\n"),
        ("utf-8", ",", "\r"),  # for an old Macintosh
    ],
)
def test_what_spreadsheets_save_is_read(tmp_path, encoding, delimiter, ends):
    items = draw_sample(load_dataset([{"instruction": f"Name, {k}; in\ntwo lines", "output": "é"} for k in range(3)]))
    review = Review(items, tmp_path, "ann")
    rows = [["Notes ", "x", " VALID_TASK", "input_appropriate", "output_correct", "id"]]
    rows += [["naïve", item.instruction, "Y", "TRUE", "0", f"item-{item.id}"] for item in items]
    with (tmp_path / "saved.csv").open("w", encoding=encoding, newline="") as file:
        csv.writer(file, delimiter=delimiter, lineterminator=ends).writerows([*rows, [""] * 6, []])
    assert import_sheet(tmp_path / "saved.csv", review) == 3
    assert {(*answer.given, answer.notes) for answer in review.answers.values()} == {(True, True, False, "naïve")}


def test_every_fault_of_a_sheet_is_named_with_the_row_that_a_spreadsheet_shows(tmp_path):
    items = draw_sample(load_dataset([{"instruction": f"{k}\nin two lines", "output": "x"} for k in range(8)]))
    review = Review(items, tmp_path, "ann")
    sheet = export_sheet(items, {}, tmp_path / "review.csv")
    words = {"valid_task": "jein", "input_appropriate": "yes", "output_correct": ""}
    with pytest.raises(InputError) as error:
        import_sheet(fill(sheet, tmp_path / "bad.csv", words), review)
    lines = str(error.value).splitlines()
    assert lines[1].endswith('bad.csv:4, row 3: valid_task is "jein"; write yes or no, or leave it empty')
    assert (len(lines), lines[-1], review.answers) == (6, "and 3 more", {})


@pytest.mark.parametrize(
    ("yes", "no"),
    [("ja", "nein"), ("Oui", "NON"), ("si", "no"), ("Sí", "No."), ("sì", "no"), ("sim", "não"), ("tak", "nie"),
     ("да", "нет"), ("是", "否"), ("はい", "いいえ"), ("예", "아니요"), ("نعم", "لا"), ("हाँ", "नहीं"), ("WAHR", "FALSCH"),
     ("VRAI", "FAUX"), ("1.0", "0.0"), ("evet", "hayır"), ("✓", "✗"), ("SI\u0301", "N\u0303"[:1]), ("1", "0")],
)  # fmt: skip
def test_yes_and_no_of_other_languages_are_read(review, tmp_path, yes, no):
    sheet = export_sheet(review.items, {}, tmp_path / "review.csv")
    words = {"valid_task": yes, "input_appropriate": no, "output_correct": f" {yes} "}
    assert import_sheet(fill(sheet, tmp_path / "filled.csv", words), review) == 6
    assert {tuple(answer.given) for answer in review.answers.values()} == {(True, False, True)}


@pytest.mark.parametrize("word", ["maybe", "?", "y/n", "jein", "2", "ay", "o", "+", "x", "yes no"])
def test_a_word_that_may_mean_either_is_named_with_its_place(review, tmp_path, word):
    sheet = export_sheet(review.items, {}, tmp_path / "review.csv")
    with pytest.raises(InputError, match=rf'bad\.csv:2, row 2: output_correct is "{re.escape(word)}"; write yes or no'):
        import_sheet(fill(sheet, tmp_path / "bad.csv", {"output_correct": word}), review)


def test_no_word_means_both():
    assert not set(sheet_words._YES.split()) & set(sheet_words._NO.split())
    assert all(word == word.casefold() for word in (*sheet_words._YES.split(), *sheet_words._NO.split()))


def test_a_sheet_carries_the_wording_of_its_questions_and_is_read_without(review, tmp_path):
    sheet = export_sheet(review.items, {}, tmp_path / "review.csv")
    text = sheet.read_text(encoding="utf-8-sig")
    head = next(csv.reader([text.partition("\n")[0]]))
    assert head[4:7] == [f"{name}: {wording}" for name, wording in QUESTIONS.items()]
    for name, wording in QUESTIONS.items():
        text = text.replace(f"{name}: {wording}", name)
    sheet.write_text(text.replace(",,,,\n", ",yes,no,yes,\n"), encoding="utf-8")  # as earlier versions wrote it
    assert import_sheet(sheet, review) == 6


def test_rows_may_be_shorter_or_longer_than_the_header(review, tmp_path):
    sheet = export_sheet(review.items, {}, tmp_path / "review.csv")
    text = sheet.read_text(encoding="utf-8")
    for old, new, count in ((",,,,\n", ",yes\n", 6), (",,,,\n", ",no,,,,aside\n", 6), ("notes\n", "notes,,\n", 6)):
        sheet.write_text(text.replace(old, new), encoding="utf-8")
        assert import_sheet(sheet, review) == count
    start, _, end = text.rpartition(",,,,\n")
    sheet.write_text(f"{start},no,,,,aside,\n{end}", encoding="utf-8")  # the last row alone
    assert import_sheet(sheet, review) == 1


def test_no_spreadsheet_takes_an_id_for_a_number(review, tmp_path):
    item = review.items[0].model_copy(update={"id": "123456789012"})
    review = Review([item], tmp_path, "ann")
    sheet = export_sheet([item], {}, tmp_path / "review.csv")
    text = sheet.read_text(encoding="utf-8")
    assert "item-123456789012," in text
    sheet.write_text(text.replace(",,,,\n", ",yes,no,yes,\n"), encoding="utf-8")
    assert import_sheet(sheet, review) == 1
    sheet.write_text(text.replace("item-", ""), encoding="utf-8")  # a sheet of an earlier version, empty again
    assert import_sheet(sheet, review) == 1


def test_a_long_text_comes_back_from_a_sheet(tmp_path):
    items = draw_sample(load_dataset([{"instruction": "Write much.", "output": "x" * 200_000}]))
    review = Review(items, tmp_path, "ann")
    assert import_sheet(export_sheet(items, {}, tmp_path / "review.csv"), review) == 0


def test_a_sheet_in_another_encoding_or_nowhere(review, tmp_path):
    (tmp_path / "latin.csv").write_bytes("id;caf\xe9".encode("latin-1"))
    with pytest.raises(InputError, match="save it as CSV UTF-8"):
        import_sheet(tmp_path / "latin.csv", review)
    with pytest.raises(InputError, match="no such file"):
        import_sheet(tmp_path / "none.csv", review)
    for text in ("", "\n\n", "id\n"):
        (tmp_path / "blank.csv").write_text(text)
        with pytest.raises(InputError, match=r"blank\.csv.*: (not a CSV in UTF-8|no column valid_task)"):
            import_sheet(tmp_path / "blank.csv", review)


# the commands


def invoke(*arguments):
    return CliRunner().invoke(main, ["review", *map(str, arguments)])


@pytest.fixture
def elsewhere(tmp_path):
    """A data set outside any run folder."""
    rows = [{"instruction": f"Name {k} rivers.", "input": "", "output": f"River {k}"} for k in range(12)]
    write_records(tmp_path / "theirs.jsonl", rows)
    return tmp_path / "theirs.jsonl"


def test_a_sheet_of_any_data_set_is_the_sample_that_the_notebook_draws(elsewhere, tmp_path):
    folder, sheet = tmp_path / "run", tmp_path / "review.csv"
    how = ("--data", elsewhere, "--size", 5, "--random-seed", 7)
    assert invoke("export", sheet, "--run-dir", folder, *how).output.startswith("5 items in ")
    kept = load_records(folder / "review/sample.jsonl", ReviewItem)
    assert kept == draw_sample(load_dataset(str(elsewhere)), 5, 7)
    run_cells("14_review_quality", folder, data=str(elsewhere), size=5, random_seed=7, show_form="no")
    assert invoke("export", sheet, "--run-dir", folder).output.startswith("5 items in ")  # no need to name them again
    other = invoke("export", sheet, "--run-dir", folder, *how[:4], "--random-seed", 8)
    assert other.exit_code == 1 and "was drawn from other data or with other parameters" in other.output


def test_the_sample_is_drawn_from_the_data_that_the_notebook_read(elsewhere, tmp_path, monkeypatch):
    folder, sheet = tmp_path / "run", tmp_path / "review.csv"
    write_records(
        folder / "finetuning_data/all_generated_instances.jsonl", [{"instruction": "Go.", "output": "I went."}]
    )
    run_cells("14_review_quality", folder, data=str(elsewhere), size=4, random_seed=7, show_form="no")
    drawn = load_records(folder / "review/sample.jsonl", ReviewItem)
    (folder / "review/sample.jsonl").unlink()
    assert invoke("export", sheet, "--run-dir", folder).output.startswith("4 items in ")
    assert load_records(folder / "review/sample.jsonl", ReviewItem) == drawn
    (folder / "review/sample.jsonl").unlink()
    assert invoke("export", sheet, "--run-dir", folder, "--size", 3).output.startswith("3 items in ")
    assert {item.output[:5] for item in load_records(folder / "review/sample.jsonl", ReviewItem)} == {"River"}
    (folder / "review/sample.jsonl").unlink()
    monkeypatch.chdir(tmp_path)  # what is named wins, and is looked for here first
    write_records(tmp_path / "own.jsonl", [{"instruction": "Name a lake.", "input": "", "output": "Como"}])
    assert invoke("export", sheet, "--run-dir", folder, "--data", "own.jsonl").output.startswith("1 item in ")


def test_what_is_not_given_is_as_in_the_notebook(elsewhere, tmp_path):
    invoke("export", tmp_path / "review.csv", "--run-dir", tmp_path / "run", "--data", elsewhere)
    run_cells("14_review_quality", tmp_path / "run", data=str(elsewhere), show_form="no")  # else it would refuse
    declared = notebook_parameters(PROJECT_ROOT / "notebooks/14_review_quality.ipynb")
    drawn = inspect.signature(draw_sample).parameters
    for name in ("size", "random_seed", "stratified"):
        assert declared[name].default == drawn[name].default


def test_neither_sample_nor_run_says_what_to_do(tmp_path):
    done = invoke("export", "x.csv", "--run-dir", tmp_path / "none")
    assert done.exit_code == 1 and "nothing to draw a sample from" in done.output
    assert f"selfinstruct review export SHEET --data FILE --run-dir {tmp_path / 'none'}" in done.output
    assert not (tmp_path / "none").exists()


@pytest.mark.parametrize("command", [("import", "x.csv"), ("summary",), ("agreement", "--second-rater", "bob")])
def test_a_command_other_than_export_draws_no_sample(tmp_path, command):
    rows = [{"instruction": "Name a river.", "input": "", "output": "Elbe"}]
    write_records(tmp_path / "finetuning_data/all_generated_instances.jsonl", rows)
    done = invoke(*command, "--run-dir", tmp_path)
    assert done.exit_code == 1 and "review/sample.jsonl: no sample has been drawn yet" in done.output
    assert f"selfinstruct review export SHEET --run-dir {tmp_path}" in done.output
    assert not (tmp_path / "review").exists()


def test_a_size_that_draws_nothing_is_refused(elsewhere, tmp_path):
    done = invoke("export", tmp_path / "x.csv", "--run-dir", tmp_path / "run", "--data", elsewhere, "--size", 0)
    assert done.exit_code == 1 and "size=0: must be at least 1" in done.output


def test_import_says_which_texts_it_left_aside(elsewhere, tmp_path):
    sheet, where = tmp_path / "review.csv", ("--run-dir", tmp_path / "run")
    invoke("export", sheet, *where, "--data", elsewhere)
    sheet.write_text(sheet.read_text(encoding="utf-8").replace(",River 3,", ",A sea,"), encoding="utf-8")
    done = invoke("import", sheet, *where)
    assert "changed in the sheet: left aside" in done.stderr and done.stdout.startswith("0 items changed")


def test_the_command_shows_the_notebooks_table_of_two_raters(elsewhere, tmp_path):
    items, folder = draw_sample(load_dataset(str(elsewhere))), tmp_path / "run"
    keep_sample(folder / "review/sample.jsonl", items)
    ann, bob = Review(items, folder, "ann"), Review(items, folder, "bob")
    for number, item in enumerate(items):
        ann.answer(item.id, valid_task=number % 2 == 0, input_appropriate=True)
        bob.answer(item.id, valid_task=number % 3 == 0, input_appropriate=True)
    table = as_table(measure_agreement(ann.answers, bob.answers))
    said = invoke("agreement", "--run-dir", folder, "--rater", "ann", "--second-rater", "bob").output
    assert [line.split() for line in said.splitlines()[:3]] == [
        ["both", "equal", "kappa", "interval"],
        ["valid_task", "12", "0.5", "0.0", *table.loc["valid_task", "interval"].split()],
        ["input_appropriate", "12", "1.0"],  # both said yes throughout
    ]
    assert said.splitlines()[4].split() == ["all_fields_valid", "0"]


def test_a_second_rater_without_answers_is_named_with_those_who_have_some(elsewhere, tmp_path):
    items, folder = draw_sample(load_dataset(str(elsewhere))), tmp_path / "run"
    keep_sample(folder / "review/sample.jsonl", items)
    Review(items, folder, "ann").answer(items[0].id, **YES)
    done = invoke("agreement", "--run-dir", folder, "--rater", "ann", "--second-rater", "bbo")
    assert (
        done.exit_code == 1 and "answers_bbo.jsonl: no answers to this sample; there are answers of ann" in done.output
    )
    same = invoke("agreement", "--run-dir", folder, "--rater", "ann", "--second-rater", "ann")
    assert same.exit_code == 1 and "name another" in same.output


def test_the_summary_says_where_there_is_nothing_to_count(elsewhere, tmp_path):
    items, folder = draw_sample(load_dataset(str(elsewhere))), tmp_path / "run"
    keep_sample(folder / "review/sample.jsonl", items)
    Review(items, folder, "me").answer(items[0].id, valid_task=False, input_appropriate=True)
    said = invoke("summary", "--run-dir", folder).output.splitlines()
    assert said[0].endswith("here 0% (0% to 79%) of 1") and said[3].endswith("here nothing to count yet")


# the form


def enter(form, text):
    """Type a line and press Enter."""
    form.typed.value += text + "\n"


def test_three_letters_answer_and_turn_the_page(review):
    form = ReviewForm(review)
    enter(form, "yYn too short")
    assert review.of(review.items[0].id).given == [True, True, False]
    assert review.of(review.items[0].id).notes == "too short"
    assert (form.position, form.notes.value) == (1, "")
    enter(form, "b")
    assert form.position == 0 and form.buttons["output_correct"].value is False and form.notes.value == "too short"


@pytest.mark.parametrize("cuts", [(3, 4, 5, 8), (11,), range(12), (4, 6, 7)])
def test_letters_typed_while_the_next_item_is_drawn_are_not_lost(review, cuts):
    typed = "yyn\nnny why\nyy"  # the browser sends what stands in the field as often as the kernel lets it
    form = ReviewForm(review)
    for cut in cuts:
        form.typed.value = typed[:cut]
    form.typed.value = typed
    assert form.typed.value == typed and form.position == 2
    form.typed.value = typed + "y\n"
    given = [review.of(item.id).given for item in review.items[:3]]
    assert given == [[True, True, False], [False, False, True], [True, True, True]]
    assert [review.of(item.id).notes for item in review.items[:3]] == ["", "why", ""] and form.position == 3


@pytest.mark.parametrize("word", ["yes", "ja", "yyx", "yyyy", "<b>"])
def test_what_cannot_be_read_changes_nothing(review, word):
    form = ReviewForm(review)
    enter(form, word)
    assert review.answers == {} and "Three letters" in form.message.value and "<b>" not in form.message.value
    form = ReviewForm(review)
    form.typed.value = f"{word}\nyyy\nnnn\n"  # typed in one go: the rest was meant for other items
    assert review.answers == {} and form.position == 0
    enter(form, "")
    enter(form, "yyy")
    assert list(review.answers) == [review.items[0].id] and form.position == 1


def test_lines_that_were_taken_are_a_record(review):
    form = ReviewForm(review)
    enter(form, "yyy")
    form.typed.value = "nyy\n"
    form.typed.value = ""
    enter(form, "yyn")
    assert [review.of(item.id).given for item in review.items[:2]] == [[True] * 3, [True, True, False]]


def test_a_line_that_could_not_be_saved_turns_no_page(review, monkeypatch):
    form = ReviewForm(review)
    monkeypatch.setattr(review, "answer", lambda *_, **given: (_ for _ in ()).throw(OSError("disk full")))
    form.typed.value = "yyy\nnnn\n"
    assert form.position == 0 and "NOT saved: disk full" in form.message.value


def test_every_button_says_its_question(review):
    buttons = ReviewForm(review).buttons
    labels = [label for one in buttons.values() for label, _ in one.options]
    assert labels == ["Task: yes", "Task: no", "Input: yes", "Input: no", "Output: yes", "Output: no"]
    for name, one in buttons.items():
        assert one.tooltips == (f"Yes: {QUESTIONS[name]}", f"No: {QUESTIONS[name]}")


def test_a_click_takes_the_focus_to_the_field_and_filling_does_not(review, monkeypatch):
    form = ReviewForm(review)
    focused = []
    monkeypatch.setattr(type(form.typed), "focus", lambda self: focused.append(self))
    form.buttons["valid_task"].value = True
    form.next.click()
    form.back.click()
    assert focused == [form.typed] * 3
    form.notes.value = "a note"  # more may be written there
    form.show(0)
    assert len(focused) == 3


@pytest.mark.parametrize("button", ["next", "back"])
def test_letters_left_without_enter_are_saved_and_the_click_that_follows_counts_once(review, button):
    form = ReviewForm(review)
    form.show(2)
    for end in range(1, 7):
        form.typed.value = "yny hm"[:end]
    assert (form.position, form.notes.value) == (2, "")  # the note may go on
    assert form.buttons["input_appropriate"].value is False and "saved" in form.message.value
    assert len(review.path.read_text().splitlines()) == 1
    getattr(form, button).click()
    assert form.position == (3 if button == "next" else 1) and form.typed.value == ""
    assert list(review.answers) == [review.items[2].id] and review.of(review.items[2].id).notes == "hm"


def test_a_b_left_without_enter_stays_on_the_page(review):
    form = ReviewForm(review)
    form.show(2)
    form.typed.value = "b"
    assert form.position == 2
    form.back.click()
    assert (form.position, form.typed.value) == (1, "")


def test_the_last_page_says_how_many_are_open(review):
    form = ReviewForm(review)
    form.show(5)
    enter(form, "yyy")
    assert form.position == 5 and "5 still open" in form.message.value


def test_buttons_and_notes_save_at_once_and_turning_the_page_saves_nothing(review):
    form = ReviewForm(review)
    form.buttons["valid_task"].value = True
    form.notes.value = "a note"
    assert len(review.path.read_text().splitlines()) == 2
    form.next.click()
    form.back.click()
    assert len(review.path.read_text().splitlines()) == 2
    assert form.buttons["valid_task"].value is True and form.buttons["output_correct"].value is None


def test_the_form_opens_where_it_was_left_and_says_when_all_is_done(review):
    enter(ReviewForm(review), "yyy")
    form = ReviewForm(Review(review.items, review.folder, "ann"))
    assert form.position == 1
    for _ in range(5):
        enter(form, "nnn")
    assert form.position == 5 and "All are answered" in form.message.value and form.bar.value == 6


def test_texts_of_a_model_are_escaped(tmp_path):
    items = draw_sample(load_dataset([{"instruction": "<script>x</script>", "input": "", "output": "<b>"}]), 1)
    form = ReviewForm(Review(items, tmp_path, "ann"))
    assert "<script>" not in form.texts.value and "&lt;script&gt;" in form.texts.value and "(none)" in form.texts.value


def test_a_headless_run_skips_the_form(monkeypatch):
    monkeypatch.setenv("SELFINSTRUCT_OWNER_PID", "1")
    assert not wants_form("auto") and wants_form("yes")
    monkeypatch.delenv("SELFINSTRUCT_OWNER_PID")
    assert wants_form("auto") and not wants_form("no")
    with pytest.raises(ParameterError, match="show_form="):
        wants_form("maybe")


def test_papermill_and_nbconvert_get_no_form(monkeypatch):
    monkeypatch.delenv("SELFINSTRUCT_OWNER_PID", raising=False)
    code = "from selfinstruct.review.form import wants_form\nprint(wants_form('auto'), wants_form('yes'))"
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(code)])
    NotebookClient(notebook, timeout=60).execute()
    assert notebook.cells[0].outputs[0].text == "False True\n"


def test_a_cell_that_a_person_runs_has_a_form(monkeypatch):
    monkeypatch.delenv("SELFINSTRUCT_OWNER_PID", raising=False)
    for allowed in (True, False):
        parent = {"content": {"allow_stdin": allowed}}
        shell = SimpleNamespace(kernel=SimpleNamespace(get_parent=lambda parent=parent: parent))
        monkeypatch.setattr("selfinstruct.review.form.get_ipython", lambda shell=shell: shell)
        assert wants_form("auto") is allowed


# a model as rater


@pytest.fixture
def rater(tmp_path):
    """rater(judge) -> a client whose model says what `judge` does of each prompt."""
    with contextlib.ExitStack() as stack:

        def make(judge):
            server = stack.enter_context(ScriptedServer(lambda body: judge(prompt_of(body))))
            return stack.enter_context(connect("scripted", server.url, store=tmp_path / "store.sqlite"))

        yield make


def test_a_model_rates_every_question_of_every_item(review, rater):
    assert len(build_rating_requests(review.items)) == 18
    said = rate_with_model(rater(lambda prompt: " Yes." if "could be done" in prompt else " perhaps"), review.items)
    assert said[review.items[0].id].given == [True, None, None]
    assert said[review.items[0].id].rater == "model: scripted"


def test_a_model_is_corrected_by_what_the_person_says(review, rater):
    items = review.items
    for number, item in enumerate(items[:4]):  # the person: half of them good
        review.answer(item.id, **{**YES, "output_correct": number < 2})
    said = rate_with_model(rater(lambda prompt: "No" if items[3].output in prompt else "Yes"), items)
    row = calibrate(review.answers, said)["output_correct"]
    assert (row["both"], row["equal"], row["yes_when_yes"], row["yes_when_no"]) == (4, 0.75, 1.0, 0.5)
    assert row["model_share"] == pytest.approx(5 / 6)
    assert row["corrected_share"] == pytest.approx((5 / 6 - 0.5) / 0.5)
    assert calibrate(review.answers, said)["valid_task"]["corrected_share"] is None  # the person never said no
    json.dumps(row)
