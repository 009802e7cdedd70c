"""The twenty quirks: each is told on texts that have it, and on none that have not; notebook 22 counts them all."""

import pytest
from helpers.notebooks import read_results, run_cells
from helpers.places import SAMPLES, find_published

from selfinstruct.files import InputError, write_json, write_records
from selfinstruct.paper import quirks
from selfinstruct.paper import quirks as quirk_trials
from selfinstruct.paper.quirks import (
    Material,
    contrast,
    cut_at_stop,
    instances_of,
    load_material,
    rule_says,
    show_contrasts,
    touches,
)
from selfinstruct.paper.release import SEED_TASKS, USER_ORIENTED
from selfinstruct.parsing import split_instructions
from selfinstruct.prompts import PAPER_REQUESTS
from selfinstruct.records import InstanceRow, MachineInstances, SeedTask
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
        },
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
    told = contrast("Q1", "texts", ["Ab", "AB"], str.capitalize, str, made_up="X Y")
    assert told.counts == {"touched": 1, "of": 2, "unit": "texts"}
    assert [row["from"] for row in told.examples(3)] == ["this data"]
    none = contrast("Q1", "texts", ["Ab"], str.capitalize, str, made_up="X Y")
    assert none.examples(3) == [
        {"quirk": "Q1", "from": "made up", "text": "X Y", "as published": "X y", "fixed": "X Y"}
    ]
    assert contrast("Q1", "texts", [], str, str).examples(3) == []
    assert list(show_contrasts(told, none).index) == ["Q1", "Q1"] and show_contrasts().empty


def test_nothing_to_look_at_is_not_nothing_found():
    assert touches({"touched": 0, "of": 7, "unit": "inputs"}) == "0 of 7 inputs"
    assert touches({"touched": 0, "of": 0, "unit": "requests"}) == "no requests in this data to tell by"
    assert touches({"touched": 0, "of": 0, "unit": "rows, under several"}) == "no rows in this data to tell by"


def test_the_texts_of_a_run_folder(run):
    material = load_material(run)
    assert material.completions == [COMPLETION]  # once, though three instructions carry it
    assert material.candidates == ITEMS
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


def test_capitals_lost_are_told_by_their_mark_in_finished_rows(capsys):
    texts = [
        "How can i win?",
        "Name one. explain it.",
        "Name three birds.",
        "Ask what I want.",
        "Match /x/i in it, i.e. once.",
        "Solve (i) and (ii).",
    ]
    told = quirks.capitals(Material(instructions=texts))
    assert [row[0] for row in told.touched] == texts[:2] and told.looked_at == 6
    assert told.touched[0][1:] == (texts[0], "(cannot be restored)")
    show_contrasts(told)
    assert "5 have no capital but the first letter, 1 of them a lone i" in capsys.readouterr().out


def test_banned_words_say_how_many_each_rule_drops():
    told = quirks.banned_words(
        Material(instructions=["Outline the plot of a film.", "Describe this image to me.", "Name three birds."])
    )
    assert told.counts["touched"] == 1 and told.note == "the published rule drops 2 of them, the fixed one 1"


def test_finished_rows_tell_of_labels_markers_and_several_instances():
    material = rows_of(
        ("Judge it.", "Fine!", "Good"), ("Judge it.", "Great!", "good"), ("Quote.", "Example: a", "An Example"), ("Add.", "1 + 1", "2"),
        ("Sum up.", "Input: x", "y"),
    )  # fmt: skip
    assert quirks.labels_spelt_twice(material, "x").counts == {"touched": 1, "of": 4, "unit": "tasks"}
    none = quirks.labels_spelt_twice(rows_of(("Add.", "1 + 1", "2")), "Class label: A\nb\nClass label: a\nc")
    assert [row["fixed"] for row in none.examples(1)] == ["'b' -> 'A' | 'c' -> 'A'"]
    told = quirks.markers_inside(material, "x")
    assert (len(told.touched), told.looked_at) == (1, 5) and told.note == "a marker stands in the text of 2"
    assert quirks.tasks_with_several(material)["touched"] == 1 and quirks.tasks_with_several(material)["of"] == 4


def test_rows_under_several_tasks_are_counted_of_the_rows_with_an_input():
    material = rows_of(("A", "x", "1"), ("B", "x", "1"), ("B", "y", "1"), ("C", "", "1"), ("D", "", "1"))
    counted, told = quirks.told_under_several_tasks(material.rows)
    assert (counted["touched"], counted["of"]) == (2, 3) and told == [("'x' -> '1'", ["A", "B"])]


def test_bytes_are_compared_only_where_there_is_a_file_of_step_1(run, capsys):
    assert quirks.bytes_stored([]) is None and "nothing to compare" in capsys.readouterr().out
    sizes = quirks.bytes_stored(load_material(run).records)["bytes"]
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
    assert rule_says("blacklisted_word", "published")("Sum up the plot of a novel.") == "dropped"
    assert rule_says("blacklisted_word", "fixed")("Sum up the plot of a novel.") == "kept"
    assert rule_says("blacklisted_word", "published")("Short") == "kept"  # too short, but not for this rule


def test_instances_of_one_type():
    record = MachineInstances(instruction="x", raw_instances="Class label: A\nText: t")
    assert [one.output for one in instances_of(True, "published")(record)] == ["A"]
    assert instances_of(False, "published")(record) == []


def test_the_trials():
    assert quirk_trials.rows_left_after_stop(rows=50, written=2) == {"as published": 2, "fixed": 50}
    assert quirk_trials.sample_from_set(["a", "b", "c"]).startswith("TypeError")
    texts = [f"text {k}" for k in range(12)]
    orders = [quirk_trials.order_in_set(texts, seed) for seed in (1, 2, 1)]
    assert orders[0] == orders[2] != orders[1] and sorted(orders[0]) == sorted(texts)
    assert (
        quirk_trials.hours_as_published(["word " * 200_000, "Name a bird."], [10])["10 instructions"] < 1
    )  # not its square
    hours = quirk_trials.hours_as_published(texts, [100, 200], seed_tasks=0)
    assert hours["200 instructions"] == pytest.approx(4 * hours["100 instructions"]) and hours["100 instructions"] > 0


def test_a_restart_draws_the_first_prompt_again():
    draws = quirk_trials.prompts_after_restart([f"seed {k}" for k in range(20)], ["m1", "m2", "m3"])
    assert draws["first after a restart"] == draws["first prompt"] != draws["second prompt"]
    assert {len(drawn) for drawn in draws.values()} == {8}
    assert quirk_trials.prompts_after_restart(["one"], [])["first prompt"] == ["one"]


def test_an_unseen_instruction_and_a_list_of_labels_without_end():
    said = quirk_trials.step_3_on_unseen({"x": True})
    assert said["as published"].startswith("KeyError") and "run 03_identify_classification" in said["fixed"]
    assert quirk_trials.instances_before_stop(12) == {"class labels": 12, "examples": 5}


def seed_task(k):
    instances = [{"input": "", "output": "x"}]
    return SeedTask(
        id=f"{k}", name=f"{k}", instruction=f"Name {k} birds.", instances=instances, is_classification=False
    )


def test_step_1_without_answers_ends_and_says_so():
    seeds = [seed_task(k) for k in range(9)]
    assert "after 100 failed requests: step 1 stopped: 20 rounds in a row" in quirk_trials.run_without_answers(seeds)
    assert "after 100 failed requests" in quirk_trials.run_without_answers(seeds[:1])


def test_tokens_depend_on_neighbours_as_published_only():
    texts = [f"Task {k}" for k in range(6)]
    labels = {text: text == "Task 1" for text in texts}
    published = quirk_trials.tokens_allowed(texts, labels, "published")
    fixed = quirk_trials.tokens_allowed(texts, labels, "fixed")
    most = PAPER_REQUESTS["instances"]["max_tokens"]
    assert list(published.values()) == [300] * 5 + [most] and list(fixed.values()) == [most, 300] + [most] * 4


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
