"""Grades of responses: the blind sample, grades on disk, the form, Figure 6, raters, and what the scorecard reads of them."""

import json
from collections import Counter

import matplotlib
import nbformat
import pytest
from helpers.notebooks import read_results, run_cells
from helpers.places import SAMPLES
from helpers.ratings import SCRIPT, grade_by, task, write_predictions, write_responses

from selfinstruct.files import PROJECT_ROOT, InputError, ParameterError, load_records, write_records
from selfinstruct.paper.scorecard import build_scorecard
from selfinstruct.paper_numbers import paper_number, paper_numbers
from selfinstruct.review.form import ReviewForm
from selfinstruct.review.questions import GRADES, MEANINGS, QUALITY, RUBRIC
from selfinstruct.review.ratings import (
    Ratings,
    compare_columns,
    describe_raters,
    draw_grades,
    load_raters,
    measure_raters,
    measure_two_raters,
    open_ratings,
    prefer_longer,
    record_ratings,
    stack_bars,
    summarise_grades,
)
from selfinstruct.review.responses import (
    KEY,
    OWN,
    PUBLISHED,
    SAMPLE,
    RatingItem,
    draw_responses,
    load_responses,
    published_grades,
)
from selfinstruct.runfolder import RunFolder
from selfinstruct.runner.parameters import check_prerequisites

matplotlib.use("Agg")


@pytest.fixture
def run(tmp_path):
    """A run folder with the responses of three columns to twelve tasks."""
    write_responses(tmp_path, ["run_data", "before_plain", "seeds_only"])
    return RunFolder(tmp_path)


@pytest.fixture
def ratings(run):
    return open_ratings(run, load_responses("", run), 5, rater="ann")[0]


# the sample


def test_a_file_names_its_column_and_a_task_is_the_same_in_every_file(run, tmp_path):
    files = [write_predictions(tmp_path / f"{name}_predictions.jsonl") for name in ("text-davinci-001", "davinci")]
    own = load_responses("", run)
    theirs = load_responses(",".join(map(str, files)), run)
    assert list(dict.fromkeys(row.column for row in own)) == ["before_plain", "seeds_only", "run_data"]
    assert list(dict.fromkeys(row.column for row in theirs)) == ["davinci", "text-davinci-001"]  # as in Figure 6
    assert {row.task for row in own} == {row.task for row in theirs} and len({row.task for row in own}) == 12
    both = load_responses([str(files[0]), str(run / "evaluation/predictions/run_data-1_predictions.jsonl")], run)
    assert {(row.column, row.training_seed) for row in both} == {("text-davinci-001", None), ("run_data", 1)}


def test_the_reference_is_the_tasks_and_no_other_columns_response(run):
    items, _ = draw_responses(load_responses("", run), 12)
    assert {item.target for item in items} == {task(k)["target"] for k in range(12)}
    assert all(item.target != item.response for item in items)


def test_every_column_answers_the_tasks_drawn_and_the_order_tells_none(run):
    responses = load_responses("", run)
    items, key = draw_responses(responses, 8, random_seed=3)
    assert Counter(row.column for row in key) == {"before_plain": 8, "seeds_only": 8, "run_data": 8}
    assert (items, key) == draw_responses(responses, 8, random_seed=3) != draw_responses(responses, 8, random_seed=4)
    columns = {row.id: row.column for row in key}
    order = [[columns[item.id] for item in items[k : k + 3]] for k in range(0, 24, 3)]
    assert all(len(set(three)) == 3 for three in order)  # task by task
    assert len({tuple(three) for three in order}) > 2  # and within a task by chance
    assert len(draw_responses(responses, 500)[0]) == 36  # all where there are fewer


def test_nothing_on_the_screen_or_in_the_sample_names_a_column(tmp_path):
    write_predictions(tmp_path / "a_predictions.jsonl", response="The sea.")
    write_responses(tmp_path, ["run_data"])
    own = tmp_path / "evaluation/predictions/run_data-1_predictions.jsonl"
    names = [str(tmp_path / "a_predictions.jsonl"), str(own)]
    own.write_text(own.read_text().replace("run_data 1 says", "I say"))
    ratings, _ = open_ratings(RunFolder(tmp_path), load_responses(names, RunFolder(tmp_path)), 4)
    assert set(RatingItem.model_fields) == {"id", "instruction", "input", "target", "response"}
    form = ReviewForm(ratings)
    for text in ((tmp_path / SAMPLE).read_text(), form.texts.value, form.head.value):
        assert "run_data" not in text and "column" not in text and "_predictions" not in text
    assert "run_data" in (tmp_path / KEY).read_text()


def test_what_notebook_16_wrote_is_graded_where_it_is_named_or_alone(tmp_path):
    run, folder = RunFolder(tmp_path), tmp_path / "evaluation/scaling/predictions"
    write_predictions(folder / "size_0-42_predictions.jsonl")
    sizes = load_responses("", run)
    assert {(row.column, row.training_seed) for row in sizes} == {("size_0", 42)} and len(sizes) == 12
    write_responses(tmp_path, ["before_plain", "size_9"])  # of a run folder of before, 16's are among those of 07
    assert {row.column for row in load_responses("", run)} == {"before_plain", "size_9"}
    assert load_responses(str(folder), run) == sizes
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: no such file; data takes files of predictions"):
        load_responses(str(tmp_path / "empty"), run)
    check_prerequisites({"rated_tasks": 5, "data": str(folder)})
    with pytest.raises(InputError, match=r"gone\.jsonl: no such file; data takes files of predictions"):
        check_prerequisites({"rated_tasks": 5, "data": f"{folder},gone.jsonl"})


def test_equal_responses_are_graded_once_and_count_for_both(tmp_path):
    for name in ("davinci", "text-davinci-001"):
        write_predictions(tmp_path / f"{name}_predictions.jsonl", count=4, response="Nothing.")
    files = [str(path) for path in sorted(tmp_path.glob("*_predictions.jsonl"))]
    items, key = draw_responses(load_responses(files, RunFolder(tmp_path)), 4)
    assert (len(items), len(key)) == (4, 8)
    summary = summarise_grades(grade_by(key, {"davinci": "AABB"}), key)
    assert summary["davinci"]["grades"] == summary["text-davinci-001"]["grades"] == {"A": 2, "B": 2, "C": 0, "D": 0}


def test_of_several_training_seeds_chance_takes_one_for_each_task(tmp_path):
    write_responses(tmp_path, ["run_data", "seeds_only"], seeds=(1, 2, 3))
    _, key = draw_responses(load_responses("", RunFolder(tmp_path)), 12)
    assert len(key) == 24 and {row.training_seed for row in key} == {1, 2, 3}


def test_another_sample_does_not_take_the_place_of_the_first(run):
    open_ratings(run, load_responses("", run), 5)
    with pytest.raises(ParameterError, match=r"ratings/sample.jsonl was drawn from other data"):
        open_ratings(run, load_responses("", run), 6)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"instruction": "Go.", "input": "", "target": "I went."}, r'x_predictions\.jsonl:1: missing "response"'),
        ({"instruction": "Go.", "response": "I went."}, r'x_predictions\.jsonl:1: missing "target"'),
        ({"column": "a", "instruction": "Go.", "response": "x"}, r'x_predictions\.jsonl:1: missing "target"'),
    ],
)
def test_a_row_that_cannot_be_graded_is_named(tmp_path, row, message):
    write_records(tmp_path / "x_predictions.jsonl", [row])
    with pytest.raises(InputError, match=message):
        load_responses(str(tmp_path / "x_predictions.jsonl"), RunFolder(tmp_path))


def test_missing_files_and_columns_without_a_common_task_say_what_to_do(tmp_path):
    run = RunFolder(tmp_path)
    with pytest.raises(
        InputError, match=r"selfinstruct fetch brings the published files; data takes files of predictions"
    ):
        load_responses("seeds/published/human_eval/predictions/none_predictions.jsonl", run)
    write_predictions(tmp_path / "a_predictions.jsonl", 3)
    write_records(tmp_path / "b_predictions.jsonl", [{"instruction": "Else.", "target": "x", "response": "y"}])
    files = [str(tmp_path / f"{name}_predictions.jsonl") for name in "ab"]
    with pytest.raises(InputError, match=r"no task is answered by every column: a \(3\), b \(1\)"):
        draw_responses(load_responses(files, run))
    assert open_ratings(run, load_responses("", run)) == (None, []) and not (tmp_path / "ratings").exists()


# the form: one class, two question sets


def enter(form, text):
    form.typed.value += text + "\n"


def test_one_letter_and_enter_grade_and_turn_the_page(ratings):
    form = ReviewForm(ratings)
    enter(form, "a")
    enter(form, "B small slip")  # b is a grade here, and not the way back
    ids = [item.id for item in ratings.items]
    assert (ratings.of(ids[0]).grade, ratings.of(ids[1]).grade, ratings.of(ids[1]).notes) == ("A", "B", "small slip")
    assert form.position == 2
    enter(form, "-")
    assert form.position == 1 and form.buttons["grade"].value == "B" and form.notes.value == "small slip"


def test_a_letter_waits_for_enter_since_it_may_begin_a_word(ratings):
    form = ReviewForm(ratings)
    for end in range(1, 4):
        form.typed.value = "bad"[:end]
    assert ratings.answers == {}
    form.typed.value = "bad\n"
    assert ratings.answers == {} and form.position == 0 and "One letter, please" in form.message.value
    form.typed.value = "bad\nc"
    form.next.click()  # a letter that a button follows is meant
    assert ratings.of(ratings.items[0].id).grade == "C" and form.position == 1


def test_grades_are_on_disk_at_once_and_the_form_opens_where_it_was_left(run, ratings):
    form = ReviewForm(ratings)
    for letter in "dcb":
        enter(form, letter)
        assert len(ratings.path.read_text().splitlines()) == form.position
    again = open_ratings(run, load_responses("", run), 5, rater="ann")[0]
    assert [again.of(item.id).grade for item in again.items[:4]] == ["D", "C", "B", None]
    assert ReviewForm(again).position == 3
    with ratings.path.open("a") as file:
        file.write('{"id": "half a li')
    assert open_ratings(run, load_responses("", run), 5, rater="ann")[0].complete == 3


def test_a_button_grades_too_and_says_what_its_letter_means(ratings):
    form = ReviewForm(ratings)
    form.buttons["grade"].value = "C"
    assert ratings.of(ratings.items[0].id).grade == "C"
    buttons = form.buttons["grade"]
    assert [label for label, _ in buttons.options] == list(GRADES)
    assert list(buttons.tooltips) == [f"{grade}: {MEANINGS[grade]}" for grade in GRADES]
    words = form.children[2].children[1].value
    assert all(MEANINGS[grade] in words for grade in GRADES)


def test_every_control_of_both_sets_has_a_name(ratings):
    form = ReviewForm(ratings)
    assert form.typed.description == RUBRIC.field == "Grade" and form.notes.description == "Note"
    assert (form.back.description, form.next.description) == ("Back", "Next")
    assert QUALITY.field == "All three at once"
    headings = [shown.heading for shown in RUBRIC.texts.values()]
    assert all(f'tabindex="0" role="group" aria-label="{heading}"' in form.texts.value for heading in headings)


def test_texts_of_a_model_are_escaped_in_every_field(tmp_path):
    row = {"instruction": "<b>1", "input": "<b>2", "target": "<b>3", "response": "<script>x</script>"}
    write_records(tmp_path / "a_predictions.jsonl", [row])
    run = RunFolder(tmp_path)
    form = ReviewForm(open_ratings(run, load_responses(str(tmp_path / "a_predictions.jsonl"), run))[0])
    assert "<b>" not in form.texts.value and "<script>" not in form.texts.value
    assert "&lt;script&gt;" in form.texts.value and form.texts.value.index("&lt;b&gt;3") < form.texts.value.index(
        "script"
    )


def test_a_question_set_reads_its_letters_alone():
    assert RUBRIC.match(" D  no use ") == ({"grade": "D"}, "no use")
    assert [RUBRIC.match(text) for text in ("e", "ab", "abc", "", "-")] == [None] * 5
    assert QUALITY.match("yNy")[0] == {"valid_task": True, "input_appropriate": False, "output_correct": True}
    for asked in (RUBRIC, QUALITY):
        assert not asked.match(asked.back)


# Figure 6


@pytest.fixture
def key(run):
    return draw_responses(load_responses("", run), 12)[1]


def test_the_published_counts_are_the_papers():
    grades = published_grades()
    assert list(grades) == list(PUBLISHED) and len(grades) == 8
    assert grades["davinci-self-instruct"] == {"A": 112, "B": 49, "C": 66, "D": 25}
    assert all(sum(counts.values()) == 252 for counts in grades.values())
    assert list(grades["davinci"]) == ["AB", "C", "D"]


def test_shares_by_column_with_their_intervals(key):
    summary = summarise_grades(grade_by(key, {"run_data": "AABC........", "seeds_only": "D"}), key)
    assert summary["run_data"]["grades"] == {"A": 2, "B": 1, "C": 1, "D": 0} and summary["run_data"]["rated"] == 4
    assert summary["run_data"]["shares"]["valid"]["share"] == 0.75
    assert summary["seeds_only"]["shares"]["D"]["share"] == 1.0 and summary["before_plain"]["rated"] == 0
    assert summary["before_plain"]["shares"]["A"] == {"share": None, "interval": None}


def test_the_bars_stand_next_to_the_papers_and_nothing_is_drawn_of_nobody(key, tmp_path):
    assert [bar.published for bar in stack_bars(summarise_grades({}, key))] == [True] * 8
    files = [str(write_predictions(tmp_path / f"{name}_predictions.jsonl")) for name in ("text-davinci-001", "mine")]
    _, drawn = draw_responses(load_responses(files, RunFolder(tmp_path)), 12)
    bars = stack_bars(summarise_grades(grade_by(drawn, {"text-davinci-001": "AB", "mine": "C"}), drawn))
    labels = [bar.label for bar in bars]
    place = labels.index("InstructGPT 001")
    assert labels[place + 1] == "yours (n = 12)" and labels[-1] == "mine (n = 12)" and len(bars) == 10
    assert [bar.published for bar in bars[place : place + 2]] == [True, False]
    figure = draw_grades(summarise_grades(grade_by(drawn, {"mine": "ABCD"}), drawn), "n = 12")
    ax = figure.axes[0]
    assert ax.get_xlabel().startswith("share of responses") and len(ax.get_yticks()) == 9
    widths = [patch.get_width() for patch in ax.patches]
    assert sum(widths) == pytest.approx(9)  # every bar is whole
    texts = [text.get_text() for text in ax.texts]
    assert "112" in texts and "186/187" in texts


def test_two_columns_are_compared_task_by_task(key):
    grades = grade_by(key, {"before_plain": "DDDDDDDDCCCA", "run_data": "AABBAABBAABA"})
    (row,) = compare_columns(grades, key)
    assert (row["data_set"], row["against"], row["shared"]) == ("run_data", "before_plain", 12)
    assert row["difference"] == pytest.approx(11 / 12, abs=0.001) and row["interval"][0] > 0.5
    assert row["p"] == pytest.approx(2 / 2**11) == row["p_holm"]
    three = compare_columns({**grades, **grade_by(key, {"seeds_only": "A"})}, key)
    assert len(three) == 3 and three[1]["p_holm"] > three[1]["p"]
    assert compare_columns({}, key) == []
    halves = {"before_plain": "AAAAAA......", "run_data": "......AAAAAA"}
    assert compare_columns(grade_by(key, halves), key) == []  # no task in common


# raters


def test_two_raters_on_what_both_graded(key):
    first = grade_by(key, {"run_data": "AAAABBBCCD.."})
    second = grade_by(key, {"run_data": "AABABBCCCDAA"})
    rows = measure_two_raters(first, second)
    assert rows["four grades"]["both"] == 10 and rows["four grades"]["equal"] == pytest.approx(0.8)
    # A 4 and 3, B 3 and 3, C 2 and 3, D 1 and 1
    assert rows["four grades"]["value"] == pytest.approx((0.8 - 0.28) / 0.72)
    assert rows["A or B"]["value"] == pytest.approx((0.9 - (0.7 * 0.6 + 0.3 * 0.4)) / (1 - (0.7 * 0.6 + 0.3 * 0.4)))
    assert 0.8 < rows["spearman"]["value"] < 1 and rows["spearman"]["interval"][0] < rows["spearman"]["value"]


def test_all_raters_together_and_nothing_for_one(key):
    raters = {name: grade_by(key, {"run_data": grades}) for name, grades in
              {"ann": "ABCDABCDABCD", "bob": "ABCDABCDABC.", "eve": "ABCCABCDABDD"}.items()}  # fmt: skip
    rows = measure_raters(raters)
    assert [row["raters"] for row in rows[::3]] == ["ann, bob", "ann, eve", "bob, eve", "all"]
    assert rows[-1]["both"] == 12 and 0.8 < rows[-1]["value"] < 1 and rows[-1]["interval"][1] <= 1
    assert measure_raters({"ann": raters["ann"]}) == [] == measure_raters({})


def test_every_raters_file_is_found_and_the_notebooks_rater_comes_first(ratings):
    for name, grade in (("ann", "A"), ("zoe", "B"), ("idle", None)):
        Ratings(ratings.items, ratings.folder, name).answer(ratings.items[0].id, grade=grade)
    assert list(load_raters(ratings.items, ratings.folder, "zoe")) == ["zoe", "ann"]
    assert load_raters([], ratings.folder) == {}


def test_what_a_script_graded_is_labelled_and_fills_no_row_of_the_scorecard(key):
    assert describe_raters("ann") == describe_raters() == "person" and describe_raters("ann", SCRIPT) == "scripted"
    record = record_ratings({SCRIPT: grade_by(key, {"run_data": "A"})}, SCRIPT, key)
    assert set(record["rated"]) == set(record["differences"]) == set(record["raters"]) == {"scripted"}


def test_longer_and_better_is_counted_over_unequal_grades(run):
    items, key = draw_responses(load_responses("", run), 12)
    grades = grade_by(key, {"before_plain": "A", "run_data": "ABBBBBBBBBBB"})  # "before_plain 1 says" is the longer
    assert prefer_longer(items, grades, key) == {
        "of": 11,
        "share": 1.0,
        "interval": pytest.approx((0.741, 1.0), abs=1e-3),
    }


# the notebook and the scorecard


def test_the_notebook_without_responses_shows_the_papers_bars_alone(tmp_path, capsys):
    run_cells("15_rate_responses", tmp_path)
    assert "no responses yet: run notebook 07" in capsys.readouterr().out
    record = read_results(tmp_path, "15_rate_responses")
    assert (
        record["headline"] == "no responses graded yet" and record["rated"] == {"person": {}} and record["graded"] == 0
    )
    drawn = (tmp_path / "figures/15_rate_responses.svg").read_text()
    assert "no responses graded yet" in drawn and "yours" not in drawn
    assert not (tmp_path / "ratings").exists()


def test_the_notebook_shows_what_was_typed_into_its_form(tmp_path):
    write_responses(tmp_path, OWN)
    form = run_cells("15_rate_responses", tmp_path, rated_tasks=4, show_form="yes", rater="ann")["form"]
    for letter in "abcdab":
        enter(form, letter)
    run_cells("15_rate_responses", tmp_path, rated_tasks=4, show_form="no", rater="ann")
    record = read_results(tmp_path, "15_rate_responses")
    assert (record["graded"], record["sample"], record["rater"]) == (6, 24, "ann")
    assert set(record["rated"]["person"]) == set(OWN)
    given = Counter()
    for row in record["rated"]["person"].values():
        given.update(row["grades"])
    assert given == {"A": 2, "B": 2, "C": 1, "D": 1}
    assert record["headline"].startswith("6 of 24 responses graded by ann; ")
    assert "before_plain (n = 1)" in (tmp_path / "figures/15_rate_responses.svg").read_text()


def test_published_predictions_graded_by_people_fill_the_rows_of_figure_6(tmp_path):
    """Every path in paper_numbers.json that leads to notebook 15 leads to a value: none is misspelt."""
    files = [str(write_predictions(tmp_path / f"{name}_predictions.jsonl", 60)) for name in PUBLISHED]
    run = RunFolder(tmp_path / "run")
    _, key = draw_responses(load_responses(files, run), 60)
    shares = {name: "AABCD" for name in PUBLISHED} | {"text-davinci-001": "AABBC"}
    graded = {"ann": grade_by(key, shares), "bob": grade_by(key, {**shares, "davinci": "ABBCD"})}
    wired = [one.id for one in paper_numbers() if one.ours and one.ours.results == "15_rate_responses"]
    assert len(wired) == 45

    def card(raters, first):
        run.notebook = "15_rate_responses"
        run.record(record_ratings(raters, first, key))
        return {row.id: row for row in build_scorecard(run).rows}

    rows = card(graded, "ann")
    assert [name for name in wired if rows[name].ours is None] == []
    assert rows["fig6.gpt_3_self_instruct.a"].ours == pytest.approx(0.4 * 252)
    assert rows["fig6.gpt_3_175b.a_b"].ours == pytest.approx(0.6 * 252)
    assert rows["fig6.instructgpt_001.valid"].ours == pytest.approx(80) and rows["agreement.raters"].ours == 2
    assert rows["fig6.gap"].ours == pytest.approx(20, abs=0.1) and len(rows["fig6.gap"].interval) == 2
    assert rows["agreement.kappa"].ours > 0.9 and rows["agreement.kappa"].verdict == "differs"
    scripted = card({SCRIPT: graded["ann"], f"{SCRIPT} 2": graded["bob"]}, SCRIPT)
    assert [name for name in wired if scripted[name].ours is not None] == []
    assert card({}, "me")["fig6.gpt_3_self_instruct.a"].verdict == "not measured"


def test_the_samples_of_predictions_can_be_rated(tmp_path):
    run_cells(
        "15_rate_responses", tmp_path, data=str(SAMPLES / "predictions/davinci_predictions.jsonl"), rated_tasks=21
    )
    assert (
        read_results(tmp_path, "15_rate_responses")["sample"] == len(load_records(tmp_path / SAMPLE, RatingItem)) > 15
    )


def test_no_file_of_the_kit_holds_a_grade():
    """No ratings are invented: what the repository brings has none."""
    assert list(PROJECT_ROOT.glob("outputs/example/ratings/*")) == []
    page = nbformat.read(PROJECT_ROOT / "notebooks/15_rate_responses.ipynb", as_version=4)
    assert '"grade":' not in json.dumps(page) and paper_number("fig6.instructgpt_001.a").value == 128
