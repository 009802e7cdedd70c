"""Several data sets reviewed as one: nothing tells where an item is from; shares by set and a test of their difference."""

from collections import Counter
from itertools import pairwise

import pytest
from helpers.notebooks import read_results, run_cells

from selfinstruct.data.datasets import load_datasets
from selfinstruct.files import InputError, ParameterError, load_records, write_records
from selfinstruct.review.blind import KEY, SAMPLE, BlindReview, compare_sets, draw_mixed, open_blind, summarise_mixed
from selfinstruct.review.form import ReviewForm
from selfinstruct.review.items import Review, ReviewItem
from selfinstruct.runfolder import RunFolder


@pytest.fixture
def sets(tmp_path):
    """Two files of forty instructions; the first two of both are the same instance."""
    for name in ("mine", "theirs"):
        rows = [
            {
                "instruction": f"{name if k > 1 else 'Both'} {k}.",
                "input": "",
                "output": f"{k}",
                "is_classification": k < 9,
            }
            for k in range(40)
        ]
        write_records(tmp_path / f"{name}.jsonl", rows)
    return f"{tmp_path / 'mine.jsonl'}, {tmp_path / 'theirs.jsonl'}"


@pytest.fixture
def opened(sets, tmp_path):
    return open_blind(RunFolder(tmp_path / "run"), sets, 30, rater="ann")


def answer_all(review, key, output_correct):
    """Answer yes but for the outputs of a set, where every so manieth is wrong."""
    seen = Counter()
    for row in key:
        seen[row.data_set] += 1
        right = seen[row.data_set] % output_correct[row.data_set] > 0
        review.answer(row.id, valid_task=True, input_appropriate=True, output_correct=right)


def test_both_sets_come_mixed_and_nothing_names_them(opened, tmp_path):
    review, key = opened
    assert Counter(row.data_set for row in key) == {"mine": 30, "theirs": 30}
    ids = {row.id: row.data_set for row in key}
    order = [ids[item.id] for item in review.items]
    changes = sum(a != b for a, b in pairwise(order))
    assert changes > 15  # mixed, and not one set after the other
    assert {item.is_classification for item in review.items} == {None}  # only some data sets have labels
    assert set(ReviewItem.model_fields) == {"id", "instruction", "input", "output", "is_classification"}
    assert (
        "data_set" not in (tmp_path / "run" / SAMPLE).read_text() and "theirs" in (tmp_path / "run" / KEY).read_text()
    )


def test_an_instance_of_both_sets_is_one_item_and_counts_for_both(sets, tmp_path):
    datasets = load_datasets(sets, RunFolder(tmp_path))[0]
    items, key = draw_mixed(datasets, 40)
    assert (len(items), len(key)) == (78, 80)
    assert (items, key) == draw_mixed(datasets, 40) and items != draw_mixed(datasets, 40, random_seed=1)[0]


def test_the_form_of_notebook_14_takes_it_and_its_answers_lie_apart(opened, tmp_path):
    review, _ = opened
    form = ReviewForm(review)
    form.typed.value = "yyn slip\nnnn\n"
    assert [review.of(item.id).given for item in review.items[:2]] == [[True, True, False], [False] * 3]
    assert review.path.name == "blind_answers_ann.jsonl" and len(review.path.read_text().splitlines()) == 2
    assert Review(review.items, tmp_path / "run", "ann").answers == {}  # nothing that 14 would take for its own
    assert BlindReview(review.items, tmp_path / "run", "ann").complete == 2


def test_shares_by_set_and_a_test_of_their_difference(opened):
    review, key = opened
    assert compare_sets({}, key) == []
    answer_all(review, key, {"mine": 2, "theirs": 10})
    shares = summarise_mixed(review.answers, key)
    assert shares["mine"]["output_correct"]["share"] == pytest.approx(0.5, abs=0.04)
    rows = {row["question"]: row for row in compare_sets(review.answers, key)}
    row = rows["output_correct"]
    assert (row["data_set"], row["against"]) == ("theirs", "mine")
    assert row["difference"] == pytest.approx(0.4, abs=0.07) and row["interval"][0] > 0.1
    assert row["p"] < 0.01 < row["p_holm"] * 10 and row["p"] < row["p_holm"] <= 4 * row["p"] + 1e-12
    assert rows["valid_task"]["p"] == rows["valid_task"]["p_holm"] == 1.0 and rows["valid_task"]["difference"] == 0


def test_a_question_that_one_set_has_no_answer_to_is_left_out(opened):
    review, key = opened
    first = next(row for row in key if row.data_set == "mine" and "mine" in _text(review, row.id))
    review.answer(first.id, valid_task=True)
    assert compare_sets(review.answers, key) == []


def _text(review, item_id):
    return next(item.instruction for item in review.items if item.id == item_id)


def test_sets_that_cannot_be_mixed_say_why(sets, tmp_path):
    run = RunFolder(tmp_path / "run")
    assert open_blind(run, "") == (None, [])
    with pytest.raises(InputError, match=r"two or more, please.*no such file"):
        open_blind(run, f"{sets.split(', ')[0]}, {tmp_path / 'none.jsonl'}")
    open_blind(run, sets, 10)
    with pytest.raises(ParameterError, match=r"blind_sample.jsonl was drawn from other data"):
        open_blind(run, sets, 11)


def test_the_notebook_shows_them(sets, tmp_path):
    run_cells("15_rate_responses", tmp_path / "run", data_sets=sets, size=20, rater="ann")
    run = RunFolder(tmp_path / "run")
    review, key = open_blind(run, sets, 20, rater="ann")
    assert len(load_records(run / SAMPLE, ReviewItem)) == len(review.items)
    answer_all(review, key, {"mine": 2, "theirs": 10})
    run_cells("15_rate_responses", tmp_path / "run", data_sets=sets, size=20, rater="ann")
    record = read_results(tmp_path / "run", "15_rate_responses")
    assert record["data_sets"]["mine"]["valid_task"]["share"] == 1.0 and len(record["set_differences"]) == 4
