"""The twenty quirks: each is told on texts that have it, and on none that have not; notebook 22 counts them all."""

import json

import pytest
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from selfinstruct import quirk_trials, quirks
from selfinstruct.parsing import split_instructions
from selfinstruct.prompts import PAPER_REQUESTS
from selfinstruct.quirks import contrast, cut_at_stop, instances_of, load_material, rule_says, show_contrasts, touches
from selfinstruct.records import PROJECT_ROOT, InputError, MachineInstances, SeedTask, write_json, write_records
from selfinstruct.runfolder import RunFolder

SAMPLE = PROJECT_ROOT.parent / "shared" / "paper" / "data" / "release_sample_1000.jsonl"
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


def run_notebook(folder, **parameters):
    name = "22_meet_the_quirks"
    page = load_notebook_node(str(PROJECT_ROOT / "notebooks" / f"{name}.ipynb"))
    page = parameterize_notebook(page, {"run_dir": str(folder), **parameters}, kernel_name="python3", language="python")
    names: dict = {}
    for cell in page.cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, cell.source[:30], "exec"), names)
    return json.loads((folder / f"results/{name}.json").read_text())["quirks"]


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


def test_the_texts_of_a_run_folder(run):
    material = load_material(run)
    assert material.completions == [COMPLETION]  # once, though three instructions carry it
    assert material.candidates == ITEMS
    assert [record.raw_instances[:5] for record in material.raw_of(True)] == ["Class"]
    assert len(material.raw_of(False)) == 2 and len(material.rejected("blacklisted_word")) == 2


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
    hours = quirk_trials.hours_as_published(texts, [100, 200], seed_tasks=0)
    assert hours["200 instructions"] == pytest.approx(4 * hours["100 instructions"]) and hours["100 instructions"] > 0


def test_step_1_without_answers_ends_and_says_so():
    seeds = [
        SeedTask(
            id=f"{k}",
            name=f"{k}",
            instruction=f"Name {k} birds.",
            instances=[{"input": "", "output": "x"}],
            is_classification=False,
        )
        for k in range(9)
    ]
    assert "after 100 failed requests: step 1 stopped: 20 rounds in a row" in quirk_trials.run_without_answers(seeds)


def test_tokens_depend_on_neighbours_as_published_only():
    texts = [f"Task {k}" for k in range(6)]
    labels = {text: text == "Task 1" for text in texts}
    published = quirk_trials.tokens_allowed(texts, labels, "published")
    fixed = quirk_trials.tokens_allowed(texts, labels, "fixed")
    most = PAPER_REQUESTS["instances"]["max_tokens"]
    assert list(published.values()) == [300] * 5 + [most] and list(fixed.values()) == [most, 300] + [most] * 4


def test_the_notebook_counts_every_quirk(run):
    counts = {name: one["touched"] for name, one in run_notebook(run.path).items()}
    assert list(counts) == list(quirks.QUIRKS) == [f"Q{k}" for k in range(1, 21)]
    expected = {
        "Q1": 1, "Q2": 0, "Q3": 1, "Q4": 1, "Q6": 0, "Q7": 3, "Q8": 1, "Q9": 1, "Q10": 2, "Q11": 6, "Q12": 3, "Q13": 2, "Q14": 1,
        "Q15": 2, "Q16": 3, "Q17": 1, "Q18": 1, "Q19": 3, "Q20": 2,
    }  # fmt: skip
    assert {name: counts[name] for name in expected} == expected


@pytest.mark.skipif(not SAMPLE.is_file(), reason="needs copies of released files beside the project")
def test_the_notebook_on_released_data_and_published_seed_tasks(tmp_path):
    counts = run_notebook(tmp_path, data=str(SAMPLE), seed_tasks_path=str(SAMPLE.with_name("seed_tasks.jsonl")))
    assert counts["Q1"] == {"touched": 0, "of": 0, "unit": "candidates"}  # finished rows hold no completions
    assert counts["Q5"]["touched"] == 7  # two too short, one program, four too similar
    assert counts["Q16"]["touched"] == 995 and counts["Q19"]["touched"] == 1000
    assert 0 < counts["Q18"]["touched"] < 556
