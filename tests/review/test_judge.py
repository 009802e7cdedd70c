"""A model as judge: what it is asked, what it will cost, its habits, and its worth by a person's grades."""

import contextlib
import json

import pytest
from helpers.notebooks import read_results, run_cells
from helpers.ratings import grade_by, write_predictions, write_responses
from helpers.scripted import ScriptedServer, prompt_of

from selfinstruct.files import EndpointError, ParameterError, write_json
from selfinstruct.models.connection import connect
from selfinstruct.review.judge import (
    ANSWER_TOKENS,
    MAX_CHARACTERS,
    build_grade_requests,
    build_pair_requests,
    choose_pair,
    compare_verdicts,
    compare_with_model,
    correct_shares,
    count_answers,
    grade_with_model,
    judge_responses,
    match_pairs,
    parse_grade,
    parse_verdict,
    say_answers,
    summarise_verdicts,
)
from selfinstruct.review.questions import MEANINGS
from selfinstruct.review.ratings import load_raters
from selfinstruct.review.responses import draw_responses, load_responses
from selfinstruct.runfolder import RunFolder
from selfinstruct.steps import estimate_requests


@pytest.fixture
def sample(tmp_path):
    """(items, key) of two columns, of which the second writes more."""
    write_predictions(tmp_path / "short_predictions.jsonl", response="No {k}.")
    write_predictions(tmp_path / "much_longer_predictions.jsonl")
    files = [str(tmp_path / f"{name}_predictions.jsonl") for name in ("short", "much_longer")]
    return draw_responses(load_responses(files, RunFolder(tmp_path)), 12)


@pytest.fixture
def judge(tmp_path):
    """judge(answer) -> a client whose model says what `answer` does of each prompt."""
    with contextlib.ExitStack() as stack:

        def make(answer):
            server = stack.enter_context(ScriptedServer(lambda body: answer(prompt_of(body))))
            return stack.enter_context(connect("scripted", server.url, store=tmp_path / "store.sqlite"))

        yield make


@pytest.mark.parametrize(
    ("text", "grade"),
    [(" B", "B"), ("**c**", "C"), ("Grade: D.", "D"), ("A: valid", "A"), ("(a)", "A"), ("A response that", None), ("Apple", None),
     ("", None), ("E", None), ("I would say A", None), ("b", "B"), ("a good response", None), ("A/B", None), ("A or B", None),
     ("A, B, C or D", None), ("(A) (C)", None), ("b, c", None), ("a-d", None), ("B: a small flaw", "B"), ("B, a good one", "B"),
     ("B - a flaw", "B"), ("A: This is A", "A"), ("C. A list", "C"), ("ABCD", None), ("D'oh", None)],
)  # fmt: skip
def test_a_grade_is_read_from_the_start_of_an_answer(text, grade):
    assert parse_grade(text) == grade


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (" 1", "first"),
        ("Response 2", "second"),
        ("Tie", "tie"),
        ("**2**.", "second"),
        ("12", None),
        ("neither", None),
        ("1 or 2", None),
        ("1, 2, or tie", None),
        ("1.5", None),
        ("1st", None),
        ("", None),
        ("Response 1 is better", "first"),
        ("both 1 and 2", None),
    ],
)
def test_a_verdict_is_read_from_the_start_of_an_answer(text, verdict):
    assert parse_verdict(text) == verdict


def test_the_judge_sees_the_rubric_and_the_reference_and_no_column(sample):
    items, key = sample
    prompt = build_grade_requests(items)[0].prompt
    assert all(f"{grade}: {text}" in prompt for grade, text in MEANINGS.items())
    assert items[0].target in prompt and prompt.endswith("Grade (A, B, C or D):")
    pair = match_pairs(items, key, "short", "much_longer")[0]
    one, other = (request.prompt for request in build_pair_requests([pair]))
    first, second = (item.response for item in pair.items)
    assert one.index(first) < one.index(second) and other.index(second) < other.index(first)
    long = items[0].model_copy(update={"response": "x" * 9000})
    assert "x" * MAX_CHARACTERS in build_grade_requests([long])[0].prompt
    assert "x" * (MAX_CHARACTERS + 1) not in build_grade_requests([long])[0].prompt


def test_equal_responses_make_no_pair(tmp_path):
    for name in ("a", "b"):
        write_predictions(tmp_path / f"{name}_predictions.jsonl", response="Same.")
    files = [str(tmp_path / f"{name}_predictions.jsonl") for name in "ab"]
    items, key = draw_responses(load_responses(files, RunFolder(tmp_path)))
    assert match_pairs(items, key, "a", "b") == [] and match_pairs(items, key, "a", "none") == []


def test_an_estimate_comes_before_anything_is_asked(sample, tmp_path):
    requests = build_grade_requests(sample[0])
    line = estimate_requests(requests, "embedded")
    assert (
        line.startswith("24 requests, about ")
        and f"at most {ANSWER_TOKENS * 24} of answers" in line
        and "seconds on two quiet cores" in line
    )
    prices = write_json(
        tmp_path / "prices.json", {"as_of": "2026-11-01", "models": {"m": {"prompt": 1000, "completion": 1000}}}
    )
    assert "at most $" in estimate_requests(requests, "m", "http://127.0.0.1:1/v1", str(prices))
    assert "no price known" in estimate_requests(requests, "m", "http://127.0.0.1:1/v1")


def test_a_judge_that_looks_at_the_place_alone_flips_every_verdict(sample, judge):
    items, key = sample
    verdicts = compare_with_model(judge(lambda _: "1"), match_pairs(items, key, "short", "much_longer"))
    shares = summarise_verdicts(verdicts)["shares"]
    assert shares["flipped"]["share"] == shares["first place preferred"]["share"] == 1.0
    assert shares["won by the first column"]["share"] == shares["won by the second column"]["share"] == 0.0
    assert shares["longer preferred"] == {"of": 0, "share": None, "interval": None}


def prefer_much(prompt):
    """A judge that is for the longer response, wherever it stands."""
    first, second = prompt.split("Response 1: ")[1].split("\n\nResponse 2: ")
    return "1" if len(first) > len(second.partition("\n\nBetter")[0]) else "2"


def test_a_judge_that_looks_at_the_length_never_flips_and_is_found_out(sample, judge):
    items, key = sample
    found = summarise_verdicts(compare_with_model(judge(prefer_much), match_pairs(items, key, "short", "much_longer")))
    assert (found["pairs"], found["readable"]) == (12, 12) and found["shares"]["flipped"]["share"] == 0.0
    assert found["shares"]["longer preferred"]["share"] == found["shares"]["won by the second column"]["share"] == 1.0
    assert found["shares"]["first place preferred"]["share"] == 0.5
    assert found["shares"]["flipped"]["interval"][1] == pytest.approx(0.2425, abs=1e-3)


def test_answers_that_say_nothing_count_for_nothing(sample, judge):
    items, key = sample
    client = judge(lambda prompt: "well" if "Response 2" in prompt else "who knows")
    found = summarise_verdicts(compare_with_model(client, match_pairs(items, key, "short", "much_longer")))
    assert found["readable"] == 0 and found["shares"]["flipped"]["share"] is None
    grades = grade_with_model(client, items)
    assert {rating.grade for rating in grades.values()} == {None} and grades[items[0].id].rater == "model: scripted"
    assert correct_shares({}, grades, key)["short"]["model_share"] is None


NONSENSE = {  # what a judge may say that is no verdict -> the grade, of a letter that is one after all
    "empty": ("", None), "prose": ("The response is good", None), "two letters": ("A/B", None), "lower case": ("b", "B"),
    "thoughts": ("<think>It is a B</think>", None), "cut thoughts": ("<think>A or B? I say B", None),
    "after thoughts": ("<think>A?</think> C", "C"), "a list": ("1, 2, or tie", None),
}  # fmt: skip


@pytest.mark.parametrize(("said", "grade"), NONSENSE.values(), ids=NONSENSE)
@pytest.mark.parametrize("api", ["completions", "chat"])
def test_whatever_a_judge_says_ends_in_counted_rows_and_no_verdict_is_invented(
    sample, tmp_path, said, grade, api, capsys
):
    items, key = sample
    with (
        ScriptedServer(lambda body: said) as server,
        connect("scripted", server.url, api=api, store=tmp_path / "s.sqlite") as client,
    ):
        told = []
        found = judge_responses(client, items, key, {}, "scripted", base_url=server.url, tell=told.append)
    graded = 24 if grade else 0
    assert found["answers"] == [
        {"asked": "grade", "of": 24, "verdicts": graded, "no verdict": 24 - graded},
        {"asked": "pair", "of": 12, "verdicts": 0, "no verdict": 12},
    ]
    assert (found["graded"], found["readable"]) == (graded, 0)
    assert told[1].startswith(
        f"The judge names a grade in {graded} of 24 and a pair in 0 of 12; the others are no verdict"
    )
    assert told[1].endswith("conclude nothing from it; choose another rater_model.")
    assert {row["model_share"] for row in found["corrected"]} == ({float(grade in "AB")} if grade else {None})
    if said.startswith("<think>") and not grade:
        assert "No answer from the judge: " in capsys.readouterr().out
    json.dumps(found)


def test_a_judge_that_thinks_first_gets_the_room_it_is_given(sample, tmp_path):
    items, _ = sample
    with (
        ScriptedServer(lambda body: "<think>Hm.\nA flaw.</think>\nB") as server,
        connect("scripted", server.url, api="chat", store=tmp_path / "s.sqlite") as client,
    ):
        assert {one.grade for one in grade_with_model(client, items, 300).values()} == {"B"}
        assert {body.get("max_tokens") or body.get("max_completion_tokens") for body in server.bodies} == {300}


def test_a_judge_that_cannot_be_reached_is_an_error_and_no_null(sample, tmp_path):
    items, _ = sample
    with (
        connect("scripted", "http://127.0.0.1:1/v1", store=tmp_path / "s.sqlite", timeout_s=1) as client,
        pytest.raises(EndpointError),
    ):
        grade_with_model(client, items[:2])


def test_a_few_clear_verdicts_are_said_without_alarm():
    rows = count_answers({"grade": (20, 24), "pair": (0, 0)})
    assert rows == [{"asked": "grade", "of": 24, "verdicts": 20, "no verdict": 4}]
    assert say_answers(rows) == "The judge names a grade in 20 of 24; the others are no verdict and count for nothing."


def test_the_winner_is_set_against_the_persons_better_grade(sample, judge):
    items, key = sample
    verdicts = compare_with_model(judge(prefer_much), match_pairs(items, key, "short", "much_longer"))
    person = grade_by(key, {"short": "BBAADD......", "much_longer": "AAABCD......"}, "ann")
    row = compare_verdicts(verdicts, person)
    # the person: second, second, tie, first, second, tie; the judge: second throughout
    assert (row["both"], row["equal"]) == (6, 0.5) and row["value"] == 0.0
    assert compare_verdicts(verdicts, {})["both"] == 0


def test_the_few_grades_correct_the_many(sample):
    _, key = sample
    judged = grade_by(key, {"short": "A", "much_longer": "ABABABABABAB"}, "model: x")
    person = grade_by(key, {"short": "ADAD........", "much_longer": "AAAA........"}, "ann")
    rows = correct_shares(person, judged, key)
    assert rows["short"]["model_share"] == 1.0 and rows["short"]["person_share"] == rows["short"]["share"] == 0.5
    assert (rows["short"]["labelled"], rows["short"]["unlabelled"]) == (4, 8)
    low, high = rows["short"]["interval"]
    assert low < 0.5 < high and rows["short"]["weight"] == 0.0  # the judge says one thing of everything
    assert rows["much_longer"]["share"] == 1.0


def test_columns_of_pairs_are_two_that_are_there():
    assert choose_pair("", ["a", "b", "c"]) == ("b", "c") and choose_pair(" a , c", ["a", "b", "c"]) == ("a", "c")
    assert choose_pair("", ["a"]) is None
    for wrong in ("a", "a,a", "a,b,c", "a,x"):
        with pytest.raises(ParameterError, match="two columns, please, of a, b, c"):
            choose_pair(wrong, ["a", "b", "c"])


def answer(prompt):
    return prefer_much(prompt) if "Response 2" in prompt else ("B" if "before_chat" in prompt else "D")


def test_everything_at_once_says_first_what_it_comes_to(sample, judge):
    items, key = sample
    said = []
    found = judge_responses(
        judge(answer), items, key, {}, "scripted", base_url="http://127.0.0.1:1/v1", tell=said.append
    )
    assert said[0].startswith("48 requests, about") and (found["graded"], found["of"], found["pairs"]) == (24, 24, 12)
    assert [row["measure"] for row in found["rubric"]] == ["four grades", "A or B", "spearman", "winner of pairs"]
    assert {row["value"] for row in found["rubric"]} == {None}  # nobody has graded: nothing to say of its worth
    assert found["corrected"][0]["share"] is None and found["columns"] == ("short", "much_longer")
    json.dumps(found)


def test_the_notebook_reports_a_judge_apart_from_the_people(tmp_path):
    write_responses(tmp_path, ["before_plain", "before_chat"])
    with ScriptedServer(lambda body: answer(prompt_of(body))) as server:
        given = {"rater_model": "scripted", "base_url": server.url, "store": str(tmp_path / "s.sqlite")}
        names = run_cells("15_rate_responses", tmp_path, rated_tasks=6, **given)
        for item in names["items"][:4]:
            names["ratings"].answer(item.id, grade="B")
        run_cells("15_rate_responses", tmp_path, rated_tasks=6, **given)
        assert len(server.bodies) == 24  # the second time the store knows
    record = read_results(tmp_path, "15_rate_responses")
    judged = record["model_rater"]
    assert judged["rater"] == "scripted" and judged["graded"] == 12 and record["graded"] == 4
    assert {row["column"]: row["labelled"] for row in judged["corrected"]} == {"before_plain": 2, "before_chat": 2}
    assert record["rated"]["person"]["before_chat"]["rated"] == 2  # a machine fills in nothing in a person's place
    assert list(load_raters(names["items"], tmp_path)) == ["me"]
    assert sorted(path.name for path in (tmp_path / "ratings").iterdir()) == [
        "grades_me.jsonl", "key.jsonl", "sample.jsonl",
    ]  # fmt: skip
