"""The scorecard: ours is only what notebooks recorded, every verdict has its rule, every row off has its reason."""

import html
import json
import random
import re
from collections import Counter

import matplotlib
import pytest
from helpers.notebooks import read_results, run_cells
from helpers.places import RELEASE_82K, SAMPLES, SEED_TASKS, USER_ORIENTED, find_published

from selfinstruct.analysis.statistics import measure_intervals
from selfinstruct.data.datasets import Dataset
from selfinstruct.data.formats import Row
from selfinstruct.files import ParameterError, write_json, write_records
from selfinstruct.paper.scorecard import (
    GROUPS,
    VERDICTS,
    Found,
    Scorecard,
    ScoreRow,
    build_scorecard,
    judge,
    look_up,
    scorecard_html,
)
from selfinstruct.paper_numbers import Ours, PaperNumber, paper_numbers, reasons, show_value
from selfinstruct.runfolder import NOTEBOOKS, RunFolder

matplotlib.use("Agg")
NUMBER = {"id": "x", "what": "x", "where": "Table 1", "when_off": "model", "not_measured": "10"}


def number(value, **fields) -> PaperNumber:
    return PaperNumber(**{**NUMBER, "value": value, **fields})


def rows_of(card) -> dict:
    return {row.id: row for row in card.rows}


def test_the_published_numbers_are_whole():
    known, numbers = reasons(), paper_numbers()
    assert len(numbers) >= 140 and len({one.id for one in numbers}) == len(numbers)
    for one in numbers:
        assert one.not_measured in known, one.id
        assert (one.ours is None) == (one.when_off == ""), one.id
        assert one.ours is None or one.when_off in known, one.id
        assert not one.given or one.given in known, one.id
        assert one.given == "setting" or not (one.ours and one.ours.results == "run"), one.id
        assert re.match(r"(Table|Fig\.|section|appendix|released) ", one.where), one.id
    used = {name for one in numbers for name in (one.when_off, one.given, one.not_measured)}
    assert set(known) - used == set()  # no reason is left over


def test_derived_numbers_follow_from_the_printed_ones():
    value = {one.id: one.value for one in paper_numbers()}
    assert value["table1.classification"] + value["table1.not_classification"] == value["table1.instructions"]
    assert (
        round(100 * value["table1.classification"] / value["table1.instructions"], 1)
        == value["table1.classification_share"]
    )
    assert (
        round(value["table1.instances"] / value["table1.instructions"], 2) == value["table1.instances_per_instruction"]
    )
    assert round(100 * value["table1.empty_input"] / value["table1.instances"], 1) == value["table1.empty_input_share"]
    assert value["table2.faulty"] == 100 - value["table2.all_fields_valid"]
    assert len(value["fig3.verb_names"]) == value["fig3.verbs"]
    assert {pair.split()[0] for pair in value["fig3.pair_names"]} == set(value["fig3.verb_names"])
    assert round(100 * value["fig3.verb_noun"] / value["table1.instructions"], 1) == value["fig3.verb_noun_share"]
    assert round(value["table3.gpt_3_self_instruct"] - value["table3.gpt_3_175b"], 1) == value["table3.gain"]
    systems = {key.rsplit(".", 1)[0] for key in value if key.startswith("fig6.") and key.endswith(".a")}
    assert len(systems) == 7
    for system in systems:
        assert sum(value[f"{system}.{grade}"] for grade in "abcd") == 252
        assert round(100 * (value[f"{system}.a"] + value[f"{system}.b"]) / 252, 1) == value[f"{system}.valid"]


@pytest.mark.parametrize(
    ("value", "tolerance", "ours", "interval", "verdict"),
    [
        (15.9, 0.05, 15.94, None, "reproduced"),
        (15.9, 0.05, 15.85, None, "reproduced"),  # the edge, where floats are not exact
        (15.9, 0.05, 15.96, None, "differs"),
        (15.9, 0.05, 16.5, [15.7, 17.3], "reproduced"),
        (15.9, 0.05, 16.5, [16.0, 17.0], "differs"),
        (15.9, 0.05, 15.9, [10.0, 22.0], "not measured"),  # too wide to tell, even where it hits
        (15.9, 0.05, 30.0, [20.0, 60.0], "not measured"),  # beside it, but no farther than the interval is wide
        (15.9, 0.05, 60.0, [40.0, 80.0], "differs"),  # as wide, and farther
        (15.9, 0.05, None, None, "not measured"),
        (0.0, 0.0, 0.0, None, "reproduced"),
        (["\n", "Task:"], 0, ["\n", "Task:"], None, "reproduced"),
        (["\n", "Task:"], 0, ["\n", "Task"], None, "differs"),
    ],
)
def test_verdicts(value, tolerance, ours, interval, verdict):
    said, reason = judge(number(value, tolerance=tolerance), Found(ours, interval))
    assert said == verdict
    assert reason or verdict == "reproduced"


@pytest.mark.parametrize(
    ("unit", "value", "half", "verdict"),
    [
        ("%", 54, 6.9, "reproduced"),  # what 200 answers leave
        ("%", 54, 10.5, "not measured"),
        ("%", 22.1, 3.5, "not measured"),  # 7 points are much beside 22
        ("words", 15.9, 2.3, "reproduced"),
        ("words", 15.9, 2.5, "not measured"),
    ],
)
def test_how_wide_an_interval_may_be(unit, value, half, verdict):
    said, reason = judge(number(value, unit=unit), Found(value + 1, (value - half, value + half)))
    assert said == verdict and reason


def test_few_values_say_nothing():
    assert judge(number(15.9), Found(15.9, (15.9, 15.9), 29))[0] == "not measured"
    assert judge(number(15.9), Found(18.0, (18.0, 18.0), 1)) == (
        "not measured",
        "too little data: ours is 18, with n = 1",
    )
    assert judge(number(15.9), Found(18.0, (17.5, 18.5), 30))[0] == "differs"


def test_a_wide_interval_beside_the_published_value_says_so():
    verdict, reason = judge(number(18.9), Found(28.4, (22.7, 34.3), 51))
    assert verdict == "not measured" and reason.endswith(
        "leaves the published value out, but by less than its own width"
    )


def test_counts_compare_only_in_a_data_set_of_the_papers_size(tmp_path):
    def card(**counts):
        write_json(tmp_path / "results/10_describe_dataset.json", {"datasets": {"mine": counts}})
        return rows_of(build_scorecard(RunFolder(tmp_path)))

    small = card(instructions=995, instances=1000)
    assert (
        small["table1.instances"].verdict == "not measured"
        and "has 995: see the share" in small["table1.instances"].reason
    )
    large = card(instructions=52_445, instances=82_439)
    assert large["table1.instances"].verdict == large["table1.instructions"].verdict == "reproduced"
    assert card(instructions=52_400, instances=82_000)["table1.instances"].verdict == "differs"


def test_two_files_of_one_name_are_not_mixed(tmp_path):
    described = {"datasets": {"train": {"instructions": 995}}, "sources": {"train": "a/train.jsonl"}}
    write_json(tmp_path / "results/10_describe_dataset.json", described)
    shares = [
        {
            "data_set": "train",
            "rule": "published",
            "verb_noun": 176,
            "share": 0.7,
            "low": 0.6,
            "high": 0.8,
            "instructions": 251,
        }
    ]
    for source, problems in (("a/train.jsonl", 0), ("b/train.jsonl", 1)):
        write_json(tmp_path / "results/11_parse_verb_nouns.json", {"shares": shares, "sources": {"train": source}})
        card = build_scorecard(RunFolder(tmp_path), "train")
        assert len(card.problems) == problems
        assert (rows_of(card)["fig3.verb_noun_share"].ours is None) == bool(problems)
    assert card.problems == [
        "11_parse_verb_nouns is left out: it read b/train.jsonl, and 10_describe_dataset a/train.jsonl"
    ]


def test_the_fixed_rule_is_not_held_against_the_paper(tmp_path):
    for quirks, verdict in (("published", "differs"), ("fixed", "not measured")):
        shares = [{"data_set": "mine", "rule": "published", "instructions": 99, "share": 0.5, "low": 0.4, "high": 0.6}]
        record = {"quirks": quirks, "covered": {"mine": 0.3}, "shares": shares}
        write_json(tmp_path / "results/11_parse_verb_nouns.json", record)
        assert rows_of(build_scorecard(RunFolder(tmp_path)))["fig3.covered"].verdict == verdict


def test_names_are_compared_as_sets_and_say_how_many_agree():
    names = number(["write", "give", "find"], names=True)
    assert judge(names, Found(["find", "give", "write"])) == ("reproduced", "")
    verdict, reason = judge(names, Found(["give", "take"]))
    assert verdict == "differs" and reason == f"1 of 3 in common; {reasons()['model']}"
    assert judge(number(["a", "b"]), Found(["b", "a"]))[0] == "differs"  # stop sequences have an order


def test_values_as_text():
    assert show_value(["write", "give"]) == "write, give" and show_value(["\n", "16."]) == "'\\n' '16.'"
    assert show_value(["verb noun"] * 47).endswith("and 35 more") and show_value([]) == ""
    assert show_value(52445.0) == "52,445" and show_value(12.75) == "12.75" and show_value(None) == "–"


def test_the_complement_of_a_share():
    faulty = Ours(results="x", key="share", scale=-100, offset=100)
    assert faulty.in_unit(0.54) == pytest.approx(46) and faulty.in_unit(None) is None
    assert Ours(results="x", key="n").in_unit(12) == 12


def judged(folder, data="", **records):
    """The rows of the scorecard of `data`, from records by the number of the notebook."""
    names = {name[:2]: name for name in NOTEBOOKS}
    for number_, record in records.items():
        write_json(folder / f"results/{names[number_[1:]]}.json", record)
    card = build_scorecard(RunFolder(folder), data)
    return card, rows_of(card)


def describe(name, source, **numbers):
    return {"datasets": {name: {"instructions": 252, **numbers}}, "sources": {name: source}}


@pytest.mark.parametrize(
    "source",
    ["user_oriented_instructions.jsonl", "seeds/published/human_eval/user_oriented_instructions.json", "x/seed_tasks.jsonl",
     "human_eval/predictions/davinci_predictions.jsonl", "superni_test_set.jsonl", "x/my_seed_tasks.json"],
)  # fmt: skip
def test_what_nobody_generated_is_another_kind_of_data(tmp_path, source):
    card, rows = judged(tmp_path, n10=describe("theirs", source, mean_output_words=60.0, instances_per_instruction=1.0))
    row = rows["table1.mean_output_words"]
    assert (row.verdict, row.ours) == ("not measured", None) and row.reason.startswith(
        "another kind of data: this is a number of"
    )
    assert card.counts["findings"]["differs"] == 0 and "another kind of data (" in card.headline
    assert (
        judged(tmp_path / "b", n10=describe("mine", "outputs/mine", mean_output_words=60.0))[1][row.id].verdict
        == "differs"
    )


def test_numbers_of_the_seed_tasks_are_judged_where_the_seed_tasks_are(tmp_path):
    overlap = {"quirks": "published", "seeds_with_data": {"user_oriented_instructions": {"mean": 0.2, "identical": 0}}}
    seeds = {"seed_tasks": 175, "classification": 25, "not_classification": 150}

    def verdicts(name, source):
        rows = judged(tmp_path / "run", name, n01=seeds, n10=describe(name, source), n13=overlap)[1]
        return [rows[f"seeds.{key}"].verdict for key in ("user_set", "identical", "count", "not_classification")]

    assert verdicts("all_instances_82K", "data/all_instances_82K.jsonl") == ["not measured"] * 4
    assert verdicts("seed_tasks", "seeds/seed_tasks.jsonl") == ["differs", "differs", "reproduced", "reproduced"]
    assert verdicts("run", "outputs/run") == [
        "not measured",
        "not measured",
        "reproduced",
        "reproduced",
    ]  # it was given them
    assert verdicts("user_oriented_instructions", "user_oriented_instructions.jsonl")[:2] == ["differs", "differs"]


def test_derived_doubles_count_once(tmp_path):
    full = {"instructions": 52_445, "instances": 82_439, "instances_per_instruction": 1.572, "classification": 11_584}
    full |= {
        "not_classification": 40_861,
        "classification_share": 0.2209,
        "empty_input": 35_878,
        "empty_input_share": 0.4352,
    }
    card, rows = judged(tmp_path, n10={"datasets": {"mine": full}})
    measured = [row.id for row in card.rows if row.verdict == "reproduced"]
    counted = [row.id for row in card.rows if row.verdict == "reproduced" and row.counted]
    assert len(measured) == 8 and card.counts["findings"]["reproduced"] == len(counted) == 4
    assert {f"table1.{key}" for key in ("instructions", "classification_share", "instances_per_instruction")} < set(
        counted
    )
    assert len(card.table("reproduced")) == 8  # in the table they all stand
    alone = judged(tmp_path / "b", n10={"datasets": {"mine": {"instructions": 52_445, "instances": 82_439}}})[1]
    assert alone["table1.instances"].counted and not alone["table1.empty_input"].counted
    share = {"share": 0.54, "interval": [0.5, 0.58], "answered": 150}
    rows = judged(tmp_path / "c", n14={"answered": 150, "questions": {"all_fields_valid": share}})[1]
    assert (rows["table2.all_fields_valid"].counted, rows["table2.faulty"].counted) == (True, False)


def test_every_derived_number_names_what_it_follows_from():
    numbers = {one.id: one for one in paper_numbers()}
    sources = {one.derived_from for one in numbers.values() if one.derived_from}
    assert all(not numbers[name].derived_from for name in sources)  # none of which is a double itself
    derived = [one.id for one in numbers.values() if "(derived)" in one.where]
    assert [name for name in derived if not numbers[name].derived_from and name not in sources] == []


def test_opening_the_review_is_no_review(tmp_path):
    nobody = {
        name: {"yes": 0, "answered": 0, "share": None, "interval": None} for name in ("valid_task", "all_fields_valid")
    }
    row = judged(tmp_path, n14={"sample": 60, "answered": 0, "questions": nobody})[1]["table2.sample"]
    assert (row.verdict, row.ours, row.reason) == ("not measured", None, "nobody has answered in notebook 14")
    row = judged(tmp_path, n14={"sample": 60, "answered": 7, "questions": nobody})[1]["table2.sample"]
    assert (row.verdict, row.ours) == ("differs", 7)
    assert judged(tmp_path, n14={"sample": 200, "answered": 200})[1]["table2.sample"].verdict == "reproduced"


def test_a_review_of_other_data_is_not_this_datas(tmp_path):
    review = {"data": "alpaca.jsonl", "answered": 200, "questions": {"valid_task": {"share": 0.5, "answered": 200}}}
    card, rows = judged(tmp_path, n10=describe("mine", "outputs/mine"), n14=review)
    assert rows["table2.valid_task"].ours is None
    assert card.problems == [
        "14_review_quality is left out: it read alpaca.jsonl, and 10_describe_dataset outputs/mine"
    ]


def test_the_settings_of_the_two_prompts_are_there(tmp_path):
    asked = {"human_in_prompt": 6, "machine_in_prompt": 2}, {"demonstrations_yes": 12, "demonstrations_no": 19}
    rows = judged(tmp_path, n02=asked[0], n03=asked[1])[1]
    names = ("human", "machine", "demonstrations_yes", "demonstrations_no")
    assert [(rows[f"prompt.{name}"].ours, rows[f"prompt.{name}"].verdict) for name in names] == [
        (6, "reproduced"), (2, "reproduced"), (12, "reproduced"), (19, "reproduced"),
    ]  # fmt: skip
    assert judged(tmp_path, n03={"demonstrations_yes": 4})[1]["prompt.demonstrations_yes"].verdict == "differs"


def test_a_perfect_replication_differs_in_about_one_case_of_twenty():
    """Draws of 200 instructions from one distribution, held against its own means: an interval of 95 % misses 5 of 100."""
    rng, paper = random.Random(7), {one.id: one for one in paper_numbers()}
    sizes, weights = (1, 2, 3, 4, 5), (66, 19.9, 6.6, 4.4, 3.1)
    times = [rng.choices(sizes, weights)[0] for _ in range(5000)]  # instances of an instruction, all of one length
    tasks = [(f"{number}", count, rng.randrange(10, 28)) for number, count in enumerate(times)]
    truth = {
        "instances_per_instruction": sum(times) / 5000,
        "mean_output_words": sum(c * w for _, c, w in tasks) / sum(times),
    }
    missed = Counter()
    for draw in range(60):
        chosen = [(f"{k} {name}", count, words) for k, (name, count, words) in enumerate(rng.choices(tasks, k=200))]
        rows = [Row(name, "x", "y " * words) for name, count, words in chosen for _ in range(count)]
        for one in measure_intervals(Dataset("x", rows, "x"), draws=200, random_seed=draw):
            if (name := one["number"]) in truth:
                published = paper[f"table1.{name}"].model_copy(update={"value": truth[name]})
                found = Found(one["value"], (one["low"], one["high"]), one["n"])
                missed[name] += judge(published, found)[0] == "differs"
    assert all(missed[name] <= 9 for name in truth), missed  # of 60, expected 3


def test_looking_up():
    record = {"a": {"set 1": {"n": 3}}, "rows": [{"set": "x", "k": "v", "n": 1}, {"set": "set 1", "k": "v", "n": 2}]}
    assert look_up(record, "a/{data}/n", "set 1") == 3
    assert look_up(record, "rows/set={data},k=v/n", "set 1") == 2
    assert look_up(record, "rows/#", "") == 2
    for path in ("a/{data}/n", "rows/set={data}/n", "b/#", "a/set 1/n/deeper"):
        assert look_up(record, path, "nowhere") is None
    assert look_up(None, "a", "") is None


def test_an_empty_folder_measures_nothing_and_says_why(tmp_path):
    card = build_scorecard(RunFolder(tmp_path))
    assert [sum(card.counts[kind][verdict] for kind in card.counts) for verdict in VERDICTS] == [
        0,
        0,
        sum(not one.derived_from for one in paper_numbers()),
    ]
    assert all(row.ours is None and row.reason for row in card.rows)
    assert scorecard_html(RunFolder(tmp_path)) == ""


def test_what_was_set_counts_as_no_finding(tmp_path):
    write_json(tmp_path / "run.json", {"parameters": {"02_generate_instructions": {"temperature": 0.7}}})
    write_json(tmp_path / "results/01_read_seed_tasks.json", {"seed_tasks": 175, "classification": 25})
    card = build_scorecard(RunFolder(tmp_path))
    assert card.counts["findings"]["reproduced"] == 0 and card.counts["settings"]["reproduced"] == 3
    assert card.headline.startswith("of the 0 findings this run can measure, 0 came out as published; the other ")
    assert [row["verdict"] for row in card.settings()][:3] == ["reproduced"] * 3
    assert card.table("reproduced") == []  # a table of findings
    assert all(row.reason for row in card.rows if row.verdict == "reproduced")


def score(verdict, reason="", finding=True):
    return ScoreRow("x", "x", "Table 1", "", 1, 1, None, 0, 0, verdict, reason, finding)


def test_the_headline_counts_what_could_be_measured_and_says_why_the_rest_was_not():
    missing = [
        score("not measured", "too little data: ours is 3, with n = 4"),
        score("not measured", reasons()["ratings"]),
        score("not measured", reasons()["review"]),
        score("not measured", reasons()["gpt3"]),
        score("not measured", reasons()["inputs"]),
        score("not measured", "counts 52,445 instructions, and this data set has 60: see the share"),
    ]
    settings = [score("reproduced", finding=False), score("not measured", reasons()["step"], finding=False)]
    card = Scorecard("mine", "", [score("reproduced"), score("differs"), score("differs"), *missing, *settings])
    assert card.headline == (
        "of the 3 findings this run can measure, 1 came out as published; the other 6 need people who rate (2), more data (1), "
        "the paper's models or test sets (1), another notebook or data set (1), a data set of the paper's size (1)"
    )
    assert Scorecard("mine", "", [score("differs")]).headline.endswith("0 came out as published")
    assert sum(card.reasons().values()) == len(missing)


def test_every_group_of_reasons_names_reasons_that_are_there():
    assert {key for keys in GROUPS.values() for key in keys} <= set(reasons())


def test_settings_come_from_the_runs_own_parameters(tmp_path):
    settings = {"temperature": 0.7, "top_p": 0.9, "stop": ["\n\n", "\n16", "16.", "16 ."]}
    write_json(tmp_path / "run.json", {"parameters": {"02_generate_instructions": settings}})
    rows = rows_of(build_scorecard(RunFolder(tmp_path)))
    verdicts = {
        key: rows[f"table4.instructions.{key}"].verdict for key in ("temperature", "top_p", "stop", "presence_penalty")
    }
    assert verdicts == {
        "temperature": "reproduced",
        "top_p": "differs",
        "stop": "reproduced",
        "presence_penalty": "not measured",
    }


def test_a_data_set_without_results_is_refused(tmp_path):
    write_json(tmp_path / "results/10_describe_dataset.json", {"datasets": {"mine": {}}})
    with pytest.raises(ParameterError, match=r'data_set="yours": no results of it .* there are: mine'):
        build_scorecard(RunFolder(tmp_path), "yours")


def test_what_the_notebooks_record_is_found(tmp_path):
    """Every path in paper_numbers.json that leads to notebooks 10 to 14 leads to a value: none is misspelt."""
    rows = [
        {"instruction": f"Write a letter to teacher {k}.", "input": "x y" if k % 3 else "", "output": f"Dear {k}."}
        for k in range(12)
    ]
    folder = tmp_path / "mine"
    write_records(folder / "machine_generated_instructions.jsonl", rows)
    answers = [{"instruction": row["instruction"], "is_classification": " No"} for row in rows]
    write_records(folder / "is_clf_or_not_x_template_1.jsonl", answers)
    write_records(folder / "finetuning_data/all_generated_instances.jsonl", rows)
    notebooks = (
        "01_read_seed_tasks",
        "10_describe_dataset",
        "11_parse_verb_nouns",
        "12_measure_lengths",
        "13_measure_rouge_overlap",
        "14_review_quality",
    )
    for name in notebooks:
        run_cells(name, folder)
    review = json.loads((folder / "results/14_review_quality.json").read_text())
    assert review["questions"]["valid_task"]["share"] is None  # nobody has answered
    review["questions"] = {
        name: {"share": 0.5, "interval": [0.4, 0.6], "answered": 100} for name in review["questions"]
    }
    write_json(folder / "results/14_review_quality.json", {**review, "answered": 100})
    found = rows_of(build_scorecard(RunFolder(folder)))
    elsewhere = ("seeds.user_set", "seeds.identical", "fig6.user_set")  # of another data set, see below
    measured = [one for one in paper_numbers() if one.ours and one.ours.results in notebooks]
    wired = [one.id for one in measured if one.id not in elsewhere]
    assert len(wired) >= 28
    assert [key for key in wired if found[key].ours is None] == []
    counted = [one for one in paper_numbers() if one.ours and one.ours.count]
    records = {path.stem: json.loads(path.read_text()) for path in (folder / "results").glob("*.json")}
    assert len(counted) >= 10
    assert [one.id for one in counted if look_up(records[one.ours.results], one.ours.count, "mine") is None] == []
    uncertain = [one.id for one in paper_numbers() if one.ours and one.ours.interval]
    assert [key for key in uncertain if len(found[key].interval or ()) != 2] == []
    assert found["table1.instructions"].ours == 12 and found["table2.valid_task"].ours == 50
    assert found["table2.faulty"].ours == 50 and found["table2.faulty"].interval == pytest.approx([40, 60])
    assert found["seeds.not_classification"].ours == 150 and found["table2.sample"].ours == 100
    assert found["fig3.pair_names"].ours == ["write letter"] and found["fig3.min_count"].ours == 0
    assert found["table1.empty_input_share"].ours == pytest.approx(100 / 3)
    assert found["fig3.verb_noun_share"].ours == pytest.approx(100, abs=0.1)

    run_cells("17_compare_with_paper", folder)
    record = json.loads((folder / "results/17_compare_with_paper.json").read_text())
    assert len(record["scorecard"]) == len(paper_numbers())
    counted = [row for row in record["scorecard"] if row["counted"]]
    assert sum(sum(one.values()) for one in record["counts"].values()) == len(counted) > 100
    page = scorecard_html(RunFolder(folder))
    assert "too little data: ours is write, with n = 12" in page
    cells = re.findall(r'<td class="(n|list)">([^<]*)', page)
    assert ("n", "52,445") in cells and any(kind == "list" and text.startswith("write, give") for kind, text in cells)
    assert not [
        text for kind, text in cells if kind == "n" and len(html.unescape(text)) > 30
    ]  # those cells do not wrap
    assert page.count("<tr>") == len(paper_numbers()) + 3  # three heads: findings, those not measured, settings
    folded = page[page.index("<h3>Settings</h3>\n<details>") :]
    assert folded.count("<tr>") == 1 + sum(not row["finding"] for row in record["scorecard"])
    assert "Fig. 6" not in folded.split("<table")[0] and "temperature" not in page[: page.index("<h3>Settings")]
    assert "52,445" in page and "mine" in page


def test_table_3_is_filled_by_notebook_07_on_superni_and_by_nothing_else(tmp_path):
    run, ids = (
        RunFolder(tmp_path, "07_evaluate_model"),
        ("table3.gpt_3_175b", "table3.gpt_3_self_instruct", "table3.gain"),
    )
    run.record({"tasks": "heldout", "columns": {"run_data": {"rouge_l": 39.9}}, "table_3": {}})
    rows = rows_of(build_scorecard(run))
    assert {rows[id].verdict for id in ids} == {"not measured"} and "-p tasks superni" in rows[ids[0]].reason
    judged = {"n": 11810, "tasks": 119, "gain": {"rouge_l": 2.0, "interval": [1.0, 3.0]}}
    judged |= {name: {"rouge_l": 7.0, "interval": [6.5, 7.5]} for name in ("before_plain", "run_data")}
    run.record({"tasks": "superni", "table_3": judged})
    rows = rows_of(build_scorecard(run))
    assert [rows[id].verdict for id in ids] == ["reproduced", "differs", "differs"]
    assert "other weights than GPT-3" in rows["table3.gain"].reason and rows["table3.tasks"].verdict == "reproduced"
    assert rows["table3.t0_11b"].verdict == "not measured"


def test_html_is_escaped(tmp_path):
    row = {
        **{name: "" for name in ScoreRow.__dataclass_fields__},
        "interval": None,
        "what": "<script>",
        "verdict": "differs",
    }
    record = {"data": "<b>", "label": "", "headline": "none", "scorecard": [row]}
    write_json(tmp_path / "results/17_compare_with_paper.json", record)
    page = scorecard_html(RunFolder(tmp_path))
    assert "<script>" not in page and "&lt;script&gt;" in page and "<b>&lt;b&gt;</b>" in page


def test_notebook_01_counts_what_is_known_of_the_released_seed_tasks(tmp_path):
    run_cells("01_read_seed_tasks", tmp_path, seed_tasks_path=str(find_published(SEED_TASKS)))
    record = read_results(tmp_path, "01_read_seed_tasks")
    known = {
        "seed_tasks": 175, "classification": 26, "not_classification": 149, "without_input": 50, "mean_instruction_words": 12.96,
        "distinct_names": 174, "distinct_instructions": 175, "with_line_break": 2, "non_ascii": 2, "instances_would_be_dropped": 2,
        "mean_rouge_l_of_pairs": 0.1024, "mean_largest_rouge_l": 0.3625, "above_threshold": 4, "largest_rouge_l": 0.8235,
    }  # fmt: skip
    assert {name: record[name] for name in known} == known


def test_the_user_oriented_set_reproduces_the_overlap_of_appendix_a(tmp_path):
    user_set, seed_tasks = str(find_published(USER_ORIENTED)), str(find_published(SEED_TASKS))
    run_cells("13_measure_rouge_overlap", tmp_path, data=user_set, seed_tasks_path=seed_tasks)
    run_cells("10_describe_dataset", tmp_path, data=user_set)
    rows = rows_of(build_scorecard(RunFolder(tmp_path)))
    assert rows["seeds.user_set"].ours == pytest.approx(0.3388, abs=1e-4)
    verdicts = {rows[key].verdict for key in ("seeds.user_set", "seeds.identical", "fig6.user_set")}
    assert verdicts == {"reproduced"} and rows["seeds.identical"].ours == 1


def test_rows_as_released_are_too_few_for_a_verdict_on_table_1(tmp_path):
    run_cells("10_describe_dataset", tmp_path, data=str(SAMPLES / "all_instances.jsonl"))
    rows = rows_of(build_scorecard(RunFolder(tmp_path)))
    assert (rows["table1.instructions"].ours, rows["table1.instances"].ours) == (67, 89)
    assert {row.verdict for row in rows.values() if row.what == "instances"} == {"not measured"}


def test_the_release_reproduces_table_1(tmp_path):
    run_cells("10_describe_dataset", tmp_path, data=str(find_published(RELEASE_82K)))
    rows = rows_of(build_scorecard(RunFolder(tmp_path)))
    assert {rows[f"table1.{name}"].verdict for name in ("instructions", "instances", "empty_input_share")} == {
        "reproduced"
    }
