"""report.html: complete, escaped, relative, the same bytes for the same folder."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from selfinstruct.files import PROJECT_ROOT, read_json, write_json, write_records
from selfinstruct.runfolder import RunFolder
from selfinstruct.runner.report import (
    build_funnels,
    build_page,
    describe_figure,
    flatten_numbers,
    label_model,
    sample_tasks,
    write_report,
)

EXAMPLE = PROJECT_ROOT / "outputs/example"
NASTY = '<script>alert("x")</script> & <img src=x onerror=alert(1)>'


class Page(HTMLParser):
    """The tags, links and pictures of a page, as a browser would meet them."""

    def __init__(self, text: str):
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.pictures: list[dict] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag == "a":
            self.links.append(dict(attributes)["href"])
        if tag == "img":
            self.pictures.append(dict(attributes))


@pytest.fixture
def run(tmp_path) -> Path:
    """A run folder of 3 instructions and 2 instances, with dropped candidates in both steps."""
    names = [NASTY, "Name a river.", "Name a tree."]
    write_records(tmp_path / "machine_generated_instructions.jsonl", [{"instruction": name} for name in names])
    rows = [
        {"instruction": NASTY, "input": NASTY, "output": "Rhine\nand Main"},
        {"instruction": names[1], "input": "", "output": "Elbe"},
    ]
    write_records(tmp_path / "finetuning_data" / "all_generated_instances.jsonl", rows)
    dropped = [("1_instructions", "too_similar")] * 3 + [
        ("1_instructions", "wrong_length"),
        ("4_instances", "no_output"),
    ]
    write_records(
        tmp_path / "rejections.jsonl", [{"step": step, "reason": reason, "candidate": "c"} for step, reason in dropped]
    )
    tokens = {"prompt_tokens": 5, "completion_tokens": 6}
    write_json(
        tmp_path / "run.json",
        {
            "kit_version": "0.1.0",
            "model": {"model": "SmolLM2-135M-Instruct.Q4_1"},
            "usage": {
                "02_generate_instructions": {"requests": 1200, "failed": 0, **tokens, "cost_usd": 0.25},
                "03_identify_classification": {"requests": 3, "failed": 1, **tokens, "cost_usd": 0.5},
            },
            "parameters": {"02_generate_instructions": {"random_seed": 42}},
        },
    )  # fmt: skip
    write_json(
        tmp_path / "results" / "13_measure_rouge_overlap.json",
        {"mean": 0.31234, "bins": [1, 2], "figures": {"13_overlap": "A histogram."}},
    )
    for name in ("13_overlap", "12_instruction_lengths"):
        path = tmp_path / "figures" / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"png")
    (tmp_path / "notebooks").mkdir()
    (tmp_path / "notebooks" / "02_generate_instructions.ipynb").write_text("{}")
    return tmp_path


def test_text_of_models_cannot_become_markup(run):
    page = Page(write_report(RunFolder(run)).read_text())
    assert "script" not in page.tags
    assert all(not picture["src"].startswith("x") for picture in page.pictures)


def test_every_link_is_relative_and_leads_to_a_file_or_a_section(run):
    text = write_report(RunFolder(run)).read_text()
    page = Page(text)
    assert "notebooks/02_generate_instructions.ipynb" in page.links
    for link in page.links:
        assert (f'id="{link[1:]}"' in text) if link.startswith("#") else (run / link).is_file(), link


def test_the_page_needs_nothing_from_elsewhere(run):
    assert not re.search(r"https?://|<link|<script", write_report(RunFolder(run)).read_text())


def test_every_figure_has_a_text(run):
    texts = {picture["src"]: picture["alt"] for picture in Page(write_report(RunFolder(run)).read_text()).pictures}
    assert texts == {
        "figures/12_instruction_lengths.png": "Instruction lengths",
        "figures/13_overlap.png": "A histogram.",
    }


RESULTS = {
    "11_parse_verb_nouns": {
        "headline": "3 of 4 with verb and noun", "figures": {"verb_nouns": "Root verbs."},
        "pairs": {"mine": {"write": {"story": 5, "poem": 2}, "tell": {"joke": 4}, "cook": {"soup": 1}}, "other": {}},
    },
    "12_measure_lengths": {
        "headline": "median words: instruction 10", "figures": {"lengths": "Lengths in words, 0 to 60."},
        "lengths": {"mine": {"instruction": {"median": 10.0, "count": 51}, "output": {"median": 6.5, "count": 1063}}},
    },
    "13_measure_rouge_overlap": {
        "headline": "mean 0.31", "figures": {"rouge_overlap_seeds": "Best ROUGE-L.", "rouge_overlap_others": "With others."},
        "with_seeds": {"mine": {"mean": 0.3139, "max": 0.5, "share_above": 0.0, "count": 67}},
        "with_others": {"mine": {"mean": 0.468, "max": 0.8, "share_above": 0.02, "count": 67}},
    },
    "17_compare_with_paper": {
        "headline": "of the 8 findings, 0 came out as published; the other 83 need people", "figures": {"scorecard": "Shares."},
        "scorecard": [
            {"what": "length", "published": 20.0, "ours": 10.0, "interval": [9, 11], "verdict": "differs"},
            {"what": "count", "published": 20.0, "ours": None, "interval": None, "verdict": "not measured"},
        ],
    },
}  # fmt: skip
SHOWN = {
    "verb_nouns": "3 of 4 with verb and noun; mine, commonest: write story (5), tell joke (4), write poem (2); other, commonest: none",
    "lengths": "mine, median words: instruction 10 (n = 51), output 6.5 (n = 1,063)",
    "rouge_overlap_seeds": "mine, best ROUGE-L with any seed task: mean 0.31, largest 0.50, 0.0% above the threshold (n = 67)",
    "rouge_overlap_others": "mine, best ROUGE-L with any other instruction: mean 0.47, largest 0.80, 2.0% above the threshold (n = 67)",
    "scorecard": "of the 8 findings, 0 came out as published; length: 0.50 of the published (differs)",
}  # fmt: skip


def test_who_cannot_see_a_figure_hears_what_it_shows_and_not_its_caption():
    found = {name: describe_figure(name, one) for one in RESULTS.values() for name in one["figures"]}
    assert found == SHOWN
    for odd in ({}, {"pairs": 3}, {"lengths": {"mine": {"input": None}}, "with_seeds": [], "scorecard": [{}]}):
        assert {describe_figure(name, {**odd, "headline": "5 rows"}) for name in SHOWN} == {"5 rows"}
    assert describe_figure("mine", {}) == ""


def test_every_figure_of_the_example_tells_numbers():
    figures = build_page(RunFolder(EXAMPLE))["figures"]
    told = {one["finding"] for one in figures if "method" not in one["name"]}
    assert len(told) >= 5 and all(re.search(r"\d", one) for one in told)
    assert not told & {one["text"] for one in figures}


class Boxes(HTMLParser):
    """Whether each table of a page stands in a box that scrolls, and each such box with what a keyboard needs of it."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[dict] = []
        self.loose: list[str] = []
        self.boxes: list[dict] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        one = dict(attributes)
        if tag == "div":
            self.open.append(one)
            self.boxes += [one] if one.get("class") in ("scroll", "long") else []
        if tag == "table" and not any(box.get("class") in ("scroll", "card") for box in self.open):
            self.loose.append(one.get("class", ""))

    def handle_endtag(self, tag):
        if tag == "div":
            self.open.pop()


def test_what_is_wide_or_long_scrolls_in_a_box_that_the_keyboard_reaches(run):
    write_json(
        run / "results" / "17_compare_with_paper.json", read_json(EXAMPLE / "results/17_compare_with_paper.json")
    )
    texts = {"short": "Elbe", "long": "Donau " * 200, "high": "Oder\n" * 12}
    rows = [{"instruction": f"Name {name}.", "input": "", "output": text} for name, text in texts.items()]
    write_records(run / "finetuning_data" / "all_generated_instances.jsonl", rows)
    page = Boxes(write_report(RunFolder(run)).read_text())
    assert set(page.loose) == {""}  # the model and the parameters, in two narrow columns
    assert all((box["tabindex"], box["role"]) == ("0", "region") and box["aria-label"] for box in page.boxes)
    labels = [box["aria-label"] for box in page.boxes]
    assert len(set(labels)) == len(labels) and "Table of usage and cost" in labels and "Table of findings" in labels
    assert sum(label.startswith("Output of task") for label in labels) == 2


def test_a_text_in_a_box_is_the_text_alone(run):
    text = write_report(RunFolder(run)).read_text()
    assert "<dd>Elbe</dd>" in text and "<dd>Rhine\nand Main</dd>" in text  # no blanks around: they would be shown


def test_the_page_is_made_for_the_dark_for_paper_and_for_small_screens(run):
    style = re.search(r"<style>(.*?)</style>", write_report(RunFolder(run)).read_text(), re.DOTALL)[1]
    screens, paper = style.split("@media print")
    assert "@media screen and (prefers-color-scheme: dark)" in screens  # paper is white, whatever the screen is
    names = set(re.findall(r"var\((--\w+)\)", style))
    dark = re.search(r"dark\) \{\s*:root \{(.*?)\}", screens, re.DOTALL)[1]
    assert names <= set(re.findall(r"(--\w+):", dark))  # every colour has a dark one
    assert "figure a { display: block; background: #fff" in screens and "overflow-wrap: anywhere" in screens
    # what breaks only where nothing else helps makes a table as wide as its longest word: in boxes that scroll alone
    assert [part for part in style.split("}") if "break-word" in part] == [
        " .scroll th, .scroll td { overflow-wrap: break-word; "
    ]
    assert "print-color-adjust: exact" in screens and "details-content { content-visibility: visible" in paper
    assert re.search(r"h1, h2, h3, summary \{ break-after: avoid", paper) and "overflow: visible" in paper


def test_what_went_wrong_before_any_filter_stands_below_the_funnel_of_step_4(run):
    assert build_funnels(RunFolder(run))[-1].note == ""
    quality = {"instances": 65, "copied_from_prompt": 2, "refusal": 0}
    write_json(run / "results" / "05_filter_and_export.json", {"quality": quality})
    sentence = "Of 65 instances, before any filter: copied from prompt 2, refusal 0."
    assert build_funnels(RunFolder(run))[-1].note == sentence
    assert sentence in write_report(RunFolder(run)).read_text()


ODD_FILES = {
    "machine_generated_instructions.jsonl": ('{"instruction": ""}', '{"instruction": "Go.", "most_similar": ["Go."]}', "{", "[]"),
    "finetuning_data/all_generated_instances.jsonl": ("{}", '{"instruction": 7, "input": null}', "nonsense", "\x80"),
    "rejections.jsonl": ("{}", '{"step": null}', "{", "3"),
}  # fmt: skip


@pytest.mark.parametrize("name", ODD_FILES)
def test_a_row_that_cannot_be_read_costs_a_line_and_not_the_report(run, name):
    for odd in ODD_FILES[name]:
        (run / name).write_text(f'{{"instruction": "Name a bird.", "input": "", "output": "Owl"}}\n{odd}\n', "latin-1")
        page = write_report(RunFolder(run)).read_text()
        assert (f"Not read from here on: {run}/{name}:2: " in page) == (not odd.startswith('{"') and odd != "{}")


def test_funnels_conserve_candidates(run):
    first, last = build_funnels(RunFolder(run))
    assert (first.candidates, first.accepted, first.dropped) == (7, 3, {"too_similar": 3, "wrong_length": 1})
    assert (last.candidates, last.accepted, last.dropped) == (3, 2, {"no_output": 1})
    assert [first.line(), last.line()] == [
        "Step 1: 1,200 requests, 7 candidates - 4 dropped (too_similar 3, wrong_length 1) = 3 instructions",
        "Step 4: 3 candidates - 1 dropped (no_output 1) = 2 instances of 2 instructions",
    ]


def test_one_of_something_is_written_in_the_singular(tmp_path):
    write_records(tmp_path / "machine_generated_instructions.jsonl", [{"instruction": "Name a bird."}])
    row = {"instruction": "Name a bird.", "input": "", "output": "Owl"}
    write_records(tmp_path / "finetuning_data" / "all_generated_instances.jsonl", [row])
    write_json(tmp_path / "results" / "02_generate_instructions.json", {"requested": 1, "rows": [{"a": 1}]})
    write_json(tmp_path / "results" / "05_filter_and_export.json", {"quality": {"instances": 1, "refusal": 0}})
    first, last = build_funnels(RunFolder(tmp_path))
    assert first.line() == "Step 1: 1 request, 1 candidate = 1 instruction"
    assert last.line() == "Step 4: 1 candidate = 1 instance of 1 instruction"
    page = re.sub(r"<[^>]*>", " ", write_report(RunFolder(tmp_path)).read_text())
    assert not re.search(r"(?<![\d,.])1 (instruction|instance|request|candidate|row|line|task)s\b", page)


def test_usage_is_added_up(run):
    text = write_report(RunFolder(run)).read_text()
    assert "1,203" in text and "0.7500" in text


def test_usage_without_a_price_is_not_called_free(run):
    state = json.loads((run / "run.json").read_text())
    for entry in state["usage"].values():
        entry["cost_usd"] = None
    write_json(run / "run.json", state)
    assert write_report(RunFolder(run)).read_text().count("no price") == 3


def test_the_same_folder_gives_the_same_page(run):
    assert write_report(RunFolder(run)).read_bytes() == write_report(RunFolder(run)).read_bytes()


def test_an_empty_folder_has_a_page_too(tmp_path):
    text = write_report(RunFolder(tmp_path)).read_text()
    assert "No model has been called" in text
    assert "Funnel" not in text


@pytest.mark.parametrize(
    ("model", "words"),
    [
        ({"model": "SmolLM2-135M-Instruct.Q4_1"}, "135 million parameters"),
        ({"model": "scripted"}, "a script with canned answers"),
    ],
)
def test_the_label_says_who_wrote_it(model, words):
    assert words in label_model(model)


def write_tasks(folder, inputs=(), classification=()):
    """80 instances of 40 instructions, and a run folder that holds them."""
    names = [f"Task {i}." for i in range(40)]
    rows = [{"instruction": names[i // 2], "input": "x" * (i in inputs), "output": str(i)} for i in range(80)]
    write_records(folder / "finetuning_data" / "all_generated_instances.jsonl", rows)
    labels = [{"instruction": name, "is_classification": " Yes" if name in classification else " No"} for name in names]
    write_records(folder / "is_clf_or_not_x_template_1.jsonl", labels)
    return RunFolder(folder)


def test_sample_tasks_are_drawn_at_random_the_same_each_time_and_have_each_instruction_once(tmp_path):
    run = write_tasks(tmp_path)
    tasks = [task.instruction for task in sample_tasks(run, count=10)]
    assert tasks == [task.instruction for task in sample_tasks(run, count=10)] and len(set(tasks)) == 10
    assert tasks != [task.instruction for task in sample_tasks(run, count=10, random_seed=1)]
    assert len(sample_tasks(run, count=99)) == 40


@pytest.mark.parametrize("seed", range(10))
def test_sample_tasks_have_each_kind_that_there_is(tmp_path, seed):
    run = write_tasks(tmp_path, inputs=[33], classification=["Task 7."])  # a second instance alone has an input
    tasks = sample_tasks(run, 4, seed)
    assert [task.input for task in tasks].count("x") == 1 and any(not task.input for task in tasks)
    assert [task.instruction for task in tasks if task.is_classification] == ["Task 7."]
    assert all(task.input == "x" for task in sample_tasks(write_tasks(tmp_path, inputs=range(80)), 4, seed))


def test_before_there_are_instances_the_sample_has_instructions_alone(tmp_path):
    assert sample_tasks(RunFolder(tmp_path)) == []
    write_records(tmp_path / "machine_generated_instructions.jsonl", [{"instruction": "Say yes."}])
    assert [(task.instruction, task.output) for task in sample_tasks(RunFolder(tmp_path))] == [("Say yes.", None)]


def test_nested_results_become_rows():
    assert flatten_numbers({"a_b": 1, "c": {"d": 0.5, "e": [1, 2]}}) == {"a b": 1, "c / d": 0.5, "c / e": "1, 2"}
