"""The twenty quirks: each is found in texts that have it, and in none that do not; notebook 22 counts them all."""

import warnings

import pytest
from helpers.notebooks import read_results, run_cells
from helpers.places import SAMPLES, SEED_TASKS, USER_ORIENTED, find_published

from selfinstruct.files import InputError, write_json, write_records
from selfinstruct.paper import quirks
from selfinstruct.paper.quirks import (
    Contrast,
    Material,
    cut_at_stop,
    describe_count,
    judge_by,
    load_material,
    parse_with,
    show_contrasts,
)
from selfinstruct.parsing import split_instructions
from selfinstruct.prompts import PAPER_REQUESTS
from selfinstruct.records import InstanceRow, MachineInstances, Rejection, SeedTask
from selfinstruct.runfolder import RunFolder

ITEMS = ["Explain why NASA uses Python.", "Judge the mood of the text.", "Suggest a subject for an email."]
COMPLETION = f" {ITEMS[0]}\n10. {ITEMS[1]}\n11. {ITEMS[2]}"


@pytest.fixture
def run(tmp_path):
    """A run folder of three instructions from one completion, in which nearly every quirk has struck."""
    texts = split_instructions(COMPLETION)
    metadata = {
        "prompt": "p" * 400,
        "response": {"choices": [{"text": COMPLETION, "finish_reason": "stop"}]},
        "created_at": "then",
    }
    write_records(
        tmp_path / "machine_generated_instructions.jsonl",
        [{"instruction": text, "metadata": metadata} for text in texts],
    )
    answers = [{"instruction": text, "is_classification": " Yes" if "mood" in text else " No"} for text in texts]
    write_records(tmp_path / "is_clf_or_not_SmolLM2_template_1.jsonl", answers)
    raw = [
        "Example 1\nInput: An Example of use, please.\nOutput: Rockets.",
        "Class label: Good\nText: Fine!\nClass label: good\nText: Great!",
        "Output: Lunch?",
    ]
    pairs = zip(texts, raw, strict=True)
    write_records(
        tmp_path / "machine_generated_instances.jsonl", [{"instruction": a, "raw_instances": b} for a, b in pairs]
    )
    rows = [
        {"instruction": texts[0], "input": "Lift-off at 10:30, they say.", "output": "Rockets."},
        {"instruction": texts[1], "input": "Text: Fine!", "output": "Good"},
        {"instruction": texts[2], "input": "Text: Fine!", "output": "Good"},
    ]
    write_records(tmp_path / "finetuning_data/all_generated_instances.jsonl", rows)
    rejections = [
        {"step": "1_instructions", "reason": "blacklisted_word", "candidate": "Sum up the plot of a novel."},
        {"step": "1_instructions", "reason": "blacklisted_word", "candidate": "Describe the images in the file."},
        {
            "step": "1_instructions",
            "reason": "cut_by_length",
            "candidate": "Name two rivers in Asia.",
            "request_idx": 0,
        },  # a ledger of an earlier release, without the completion
        {"step": "1_instructions", "reason": "cut_by_length", "candidate": "Tell me a", "request_idx": 0},
        {"step": "4_instances", "reason": "cut_by_length", "candidate": "Input: x"},
    ]
    write_records(tmp_path / "rejections.jsonl", rejections)
    write_json(
        tmp_path / "run.json",
        {"notebooks": {"02_generate_instructions": {"parameters": {"num_instructions_to_generate": 2}}}},
    )
    write_json(tmp_path / "results/02_generate_instructions.json", {"requested": 5, "failed": 1})
    return RunFolder(tmp_path, "22_meet_the_quirks")


def count_quirks(folder, **parameters):
    run_cells("22_meet_the_quirks", folder, **parameters)
    return read_results(folder, "22_meet_the_quirks")["quirks"]


def test_a_contrast_keeps_what_differs_and_shows_the_made_up_example_only_without():
    found = Contrast("Q1", "texts", ["Ab", "AB"], str.capitalize, str, made_up="X Y")
    assert found.counts == {"touched": 1, "of": 2, "unit": "texts"}
    assert [row["from"] for row in found.examples(3)] == ["this data"]
    none = Contrast("Q1", "texts", ["Ab"], str.capitalize, str, made_up="X Y")
    assert none.examples(3) == [
        {"quirk": "Q1", "from": "made up", "text": "X Y", "as published": "X y", "fixed": "X Y"}
    ]
    assert Contrast("Q1", "texts", [], str, str).examples(3) == []


def test_contrasts_are_printed_and_their_examples_are_one_table(capsys):
    found = Contrast("Q1", "texts", ["AB\x1b[31m", "AC"], str.capitalize, str, note="by hand")
    page = show_contrasts(found, found, rows=1)._repr_html_()
    assert capsys.readouterr().out == "Q1 touches: 2 of 2 texts; by hand\n" * 2
    assert page.count("AB\\x1b[31m") == 4 and "AC" not in page  # the text and what the fixed rule makes of it, twice
    assert "(nothing)" in show_contrasts()._repr_html_()


def test_completions_that_were_cut_are_counted_one_by_one():
    places = [(0, 1), (0, 1), (0, 4), (1, 1), (1, 1), (1, None)]
    rows = [
        Rejection(step="1_instructions", reason="cut_by_length", candidate=f"c{i}", request_idx=a, **{"completion_idx": b})
        for i, (a, b) in enumerate(places)
    ]  # fmt: skip
    contrast = quirks.compare_cut_completions(Material(rejections=rows))
    assert contrast.texts == [["c0", "c1"], ["c2"], ["c3", "c4"], ["c5"]]
    assert contrast.counts == {"touched": 2, "of": 4, "unit": "completions of step 1 that were cut"}


@pytest.mark.parametrize(("quirks_of_run", "tasks"), [("published", 0), ("fixed", 1)])
def test_labels_are_read_under_the_quirks_of_the_run(tmp_path, quirks_of_run, tasks):
    write_records(tmp_path / "machine_generated_instructions.jsonl", [{"instruction": "Is it rude?"}])
    write_records(
        tmp_path / "is_clf_or_not_m_template_1.jsonl", [{"instruction": "Is it rude?", "is_classification": "Yes."}]
    )
    write_json(tmp_path / "run.json", {"parameters": {"03_identify_classification": {"quirks": quirks_of_run}}})
    with warnings.catch_warnings(action="error"):  # step 2 said it; who reads its labels later has heard it
        assert sum(quirks.load_material(RunFolder(tmp_path)).labels.values()) == tasks


def test_of_long_texts_and_many_both_ends_are_shown():
    many = Contrast(
        "Q3", "completions", [["first", "second", "third", "last but one", "x" * 999 + "end"]], list, lambda x: x[:-1]
    )
    ((published, fixed),) = [(row["as published"], row["fixed"]) for row in many.examples(1)]
    assert fixed == "first | (2 more) | last but one" and published.startswith("first | (3 more) | xxx")
    assert published.endswith("xend") and len(published) < 250


def test_nothing_to_look_at_is_not_nothing_found():
    assert describe_count({"touched": 0, "of": 7, "unit": "inputs"}) == "0 of 7 inputs"
    assert describe_count({"touched": 0, "of": 0, "unit": "requests"}) == "no requests in this data to tell by"
    assert describe_count({"touched": 0, "of": 0, "unit": "rows, under several"}) == "no rows in this data to tell by"


def test_the_texts_of_a_run_folder(run):
    material = load_material(run)
    assert material.completions == [COMPLETION] * 3
    assert material.candidates == ITEMS  # once, though three instructions carry them
    assert [record.raw_instances[:5] for record in material.raw_of(True)] == ["Class"]
    assert len(material.raw_of(False)) == 2 and len(material.rejected("blacklisted_word")) == 2


def test_a_run_folder_as_data_is_the_same_material_as_the_run_itself(run, tmp_path):
    elsewhere = RunFolder(tmp_path / "elsewhere", "22_meet_the_quirks")
    material = load_material(elsewhere, str(run.path))
    assert material == load_material(run)
    assert material.target == 2 and material.step_1["requested"] == 5 and len(material.rejections) == 5
    assert material.label_files == ["is_clf_or_not_SmolLM2_template_1.jsonl"]


def test_a_file_of_rows_has_labels_where_its_format_has(tmp_path):
    write_records(tmp_path / "rows.jsonl", [{"instruction": "A", "input": "", "output": "b"}])
    assert load_material(RunFolder(tmp_path, ""), str(tmp_path / "rows.jsonl")).labels == {}
    seed = {
        "id": "1",
        "name": "a",
        "instruction": "A",
        "instances": [{"input": "", "output": "b"}],
        "is_classification": True,
    }
    write_records(tmp_path / "seeds.jsonl", [seed])
    material = load_material(RunFolder(tmp_path, ""), str(tmp_path / "seeds.jsonl"))
    assert material.labels == {"A": True} and not material.label_files and material.target is None


def rows_of(*triples):
    names = ("instruction", "input", "output")
    rows = [InstanceRow(**dict(zip(names, triple, strict=True))) for triple in triples]
    return Material(rows=rows, instructions=list(dict.fromkeys(row.instruction for row in rows)))


def test_capitals_lost_are_found_by_their_mark_in_finished_rows(capsys):
    texts = [
        "How can i win?",
        "Name one. explain it.",
        "Name three birds.",
        "Ask what I want.",
        "Match /x/i in it, i.e. once.",
        "Solve (i) and (ii).",
    ]
    found = quirks.compare_capitals(Material(instructions=texts[::-1]))
    assert [row[0] for row in found.touched] == texts[:2] and found.counts["of"] == 6  # the lone i first
    assert found.touched[0][1:] == (texts[0], "(cannot be restored)")
    show_contrasts(found)
    assert "5 have no capital but the first letter, 1 of them a lone i" in capsys.readouterr().out


def test_banned_words_say_how_many_each_rule_drops():
    texts = ["Outline the plot of a film.", "Describe this image to me.", "Name three birds."]
    found = quirks.compare_banned_words(Material(instructions=texts))
    assert found.counts["touched"] == 1 and found.note == "the published rule drops 2 of them, the fixed one 1"


def test_finished_rows_show_labels_markers_and_several_instances():
    material = rows_of(
        ("Judge it.", "Fine!", "Good"), ("Judge it.", "Great!", "good"), ("Quote.", "Example: a", "An Example"), ("Add.", "1 + 1", "2"),
        ("Sum up.", "Input: x", "y"),
    )  # fmt: skip
    assert quirks.compare_labels(material, "x").counts == {"touched": 1, "of": 4, "unit": "tasks"}
    none = quirks.compare_labels(rows_of(("Add.", "1 + 1", "2")), "Class label: A\nb\nClass label: a\nc")
    assert [row["fixed"] for row in none.examples(1)] == ["'b' -> 'A' | 'c' -> 'A'"]
    found = quirks.compare_markers(material, "x")
    assert (found.counts["touched"], found.counts["of"]) == (1, 5) and found.note == "a marker stands in the text of 2"
    several = quirks.count_exposed(material)["Q15"]
    assert (several["touched"], several["of"]) == (1, 4)


def test_rows_under_several_tasks_are_counted_of_the_rows_with_an_input():
    material = rows_of(("A", "x", "1"), ("B", "x", "1"), ("B", "y", "1"), ("C", "", "1"), ("D", "", "1"))
    counted, shared = quirks.find_shared_instances(material.rows)
    assert (counted["touched"], counted["of"]) == (2, 3) and shared == [{"instance": "'x' -> '1'", "tasks": "A | B"}]


def test_bytes_are_counted_only_where_there_is_a_file_of_step_1(run):
    assert quirks.count_bytes([]) == {}
    sizes = quirks.count_bytes(load_material(run).records)
    assert sizes["as it is"] > 3 * 400 + sizes["without prompt and response"]


def test_neither_run_nor_data_is_an_error(tmp_path):
    with pytest.raises(InputError, match="run notebook 02 first, or set data to a file"):
        load_material(RunFolder(tmp_path, ""))


@pytest.mark.parametrize(
    ("text", "stops", "left"),
    [
        ("in 2016. Then", ("16.",), "in 20"),
        ("a\n16. b", ("x", "\n16"), "a"),
        ("16. a 16 .", ("16 .", "16."), ""),
        ("a", ("16.",), "a"),
    ],
)
def test_a_stop_ends_a_text_at_its_first_place(text, stops, left):
    assert cut_at_stop(text, stops) == left


def test_one_rule_alone():
    assert judge_by("blacklisted_word", "published")("Sum up the plot of a novel.") == "dropped"
    assert judge_by("blacklisted_word", "fixed")("Sum up the plot of a novel.") == "kept"
    assert judge_by("blacklisted_word", "published")("Short") == "kept"  # too short, but not for this rule


def test_instances_of_one_type():
    record = MachineInstances(instruction="x", raw_instances="Class label: A\nText: t")
    assert [one.output for one in parse_with(True, "published")(record)] == ["A"]
    assert parse_with(False, "published")(record) == []


def test_hours_grow_with_the_square_of_the_pool_and_not_of_one_long_text():
    texts = [f"text {k}" for k in range(12)]
    assert quirks.estimate_hours(["word " * 200_000, "Name a bird."], [10])["10 instructions"] < 1
    hours = quirks.estimate_hours(texts, [100, 200], seed_tasks=0)
    assert hours["200 instructions"] == pytest.approx(4 * hours["100 instructions"]) and hours["100 instructions"] > 0


def seed_task(k):
    instances = [{"input": "", "output": "x"}]
    return SeedTask(
        id=f"{k}", name=f"{k}", instruction=f"Name {k} birds.", instances=instances, is_classification=False
    )


def test_stops_cut_where_they_should_not_and_only_as_published():
    found = quirks.compare_stops(["It was in 2016. Then", "Name a bird."])
    assert found.touched == [("It was in 2016. Then", "It was in 20", "It was in 2016. Then")]


def test_tokens_depend_on_neighbours_as_published_only():
    texts = [f"Task {k}" for k in range(6)]
    labels = {text: text == "Task 1" for text in texts}
    found = quirks.compare_tokens(Material(instructions=[*texts, "no label"], labels=labels))
    most = PAPER_REQUESTS["instances"]["max_tokens"]
    assert [row[1:] for row in found.touched] == [(300, most)] * 4 and found.counts["of"] == 6
    assert found.touched[0][0] == "Task 0" and "Task 1" not in [row[0] for row in found.touched]


def test_the_notebook_counts_every_quirk(run):
    counts = {name: one["touched"] for name, one in count_quirks(run.path).items()}
    assert list(counts) == list(quirks.QUIRKS) == [f"Q{k}" for k in range(1, 21)]
    expected = {
        "Q1": 1, "Q2": 0, "Q3": 1, "Q4": 1, "Q6": 0, "Q7": 3, "Q8": 1, "Q9": 1, "Q10": 2, "Q11": 6, "Q12": 3, "Q13": 2, "Q14": 1,
        "Q15": 2, "Q16": 3, "Q17": 1, "Q18": 1, "Q19": 3, "Q20": 2,
    }  # fmt: skip
    assert {name: counts[name] for name in expected} == expected


def test_the_notebook_on_a_run_folder_as_data_counts_the_same(run, tmp_path):
    counts = count_quirks(run.path)
    assert count_quirks(tmp_path / "elsewhere", data=str(run.path)) == counts


def test_the_notebook_with_one_seed_task(run):
    write_records(run.path / "one.jsonl", [seed_task(3).model_dump()])
    counts = count_quirks(run.path, seed_tasks_path=str(run.path / "one.jsonl"))
    assert counts["Q5"] == {"touched": 1, "of": 1, "unit": "seed tasks"}  # "Name 3 birds." is too short


def test_the_notebook_on_rows_as_released_counts_what_they_tell(tmp_path):
    counts = count_quirks(tmp_path, data=str(SAMPLES / "all_instances.jsonl"))
    touched = {"Q1": 16, "Q5": 0, "Q15": 18, "Q16": 67, "Q18": 1, "Q19": 89}
    assert {name: counts[name]["touched"] for name in touched} == touched
    assert [name for name, one in counts.items() if not one["of"]] == ["Q3", "Q8", "Q9", "Q10", "Q11", "Q12", "Q13"]


def test_the_notebook_on_published_seed_tasks(tmp_path):
    seed_tasks = find_published(SEED_TASKS)
    counts = count_quirks(tmp_path, data=str(SAMPLES / "all_instances.jsonl"), seed_tasks_path=str(seed_tasks))
    assert counts["Q5"]["touched"] == 7  # two too short, one program, four too similar


def test_two_user_oriented_tasks_are_dropped_for_the_plot_of_a_film(tmp_path):
    counts = count_quirks(tmp_path, data=str(find_published(USER_ORIENTED)))
    assert (counts["Q4"]["touched"], counts["Q4"]["of"]) == (2, 251)
