"""Notebooks 10 to 13, cell by cell without a kernel: what they record is right, whatever data they are given."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from helpers.notebooks import read_results, run_cells
from helpers.places import PREDICTIONS, SAMPLES, SEED_TASKS, USER_ORIENTED, find_published

from selfinstruct.files import PROJECT_ROOT, InputError, write_json, write_records

NAMES = ("10_describe_dataset", "11_parse_verb_nouns", "12_measure_lengths", "13_measure_rouge_overlap")

SEEDS = [
    {
        "id": f"seed_task_{i}", "name": f"n{i}", "instruction": text, "is_classification": False,
        "instances": [{"input": "", "output": "x"}],
    }
    for i, text in enumerate(["Write a letter to a friend.", "Name three cities in Europe."])
]  # fmt: skip
ROWS = [
    {"instruction": "Write a poem on the sea.", "input": "", "output": "Waves"},
    {"instruction": "Write a poem on the sea.", "input": "It is winter.", "output": "Cold waves come in."},
    {"instruction": "Write a letter to a teacher.", "input": "", "output": "Dear teacher, thank you for it all."},
    {"instruction": "Decide if the text is rude.", "input": "Go away!", "output": "Rude"},
    {"instruction": "What is the best way to learn a language?", "input": "", "output": "Speak it."},
]


def run_notebook(name: str, run_dir: Path, **parameters):
    """Everything the notebook defines, and what it recorded."""
    return run_cells(name, run_dir, **parameters), read_results(run_dir, name)


def make_run(folder: Path, rows=ROWS) -> Path:
    unique = list(dict.fromkeys(row["instruction"] for row in rows))
    write_records(folder / "machine_generated_instructions.jsonl", [{"instruction": text} for text in unique])
    answers = [{"instruction": text, "is_classification": " Yes" if "Decide" in text else " No"} for text in unique]
    write_records(folder / "is_clf_or_not_x_template_1.jsonl", answers)
    write_records(folder / "finetuning_data" / "all_generated_instances.jsonl", rows)
    write_json(folder / "run.json", {"model": {"model": "SmolLM2-135M-Instruct.Q4_1"}})
    return folder


@pytest.fixture
def run_dir(tmp_path):
    return make_run(tmp_path / "mine")


@pytest.fixture
def seed_tasks_path(tmp_path):
    return str(write_records(tmp_path / "seeds.jsonl", SEEDS))


def test_describe(run_dir):
    _, results = run_notebook("10_describe_dataset", run_dir)
    numbers = results["datasets"]["mine"]
    assert (numbers["instructions"], numbers["classification"], numbers["instances"], numbers["empty_input"]) == (
        4,
        1,
        5,
        3,
    )
    assert numbers["mean_input_words"] == (3 + 2) / 2
    assert numbers["repeated_rows"] == 0
    assert results["scripts"] == {"mine": {"Latin": 4}}
    assert sum(results["languages"]["mine"].values()) == 4
    assert results["headline"].startswith("4 instructions of")
    assert len(results["intervals"]) == 6


def test_verbs_and_nouns(run_dir):
    _, results = run_notebook("11_parse_verb_nouns", run_dir)
    by_rule = {row["rule"]: (row["verb"], row["verb_noun"]) for row in results["shares"]}
    assert by_rule == {"published": (3, 2), "fixed": (4, 3)}
    assert results["pairs"] == {"mine": {"write": {"letter": 1, "poem": 1}}}
    assert results["covered"] == {"mine": 0.5}
    assert results["parser"]["sha256"]
    assert (run_dir / "figures" / "verb_nouns.png").is_file() and (run_dir / "figures" / "verb_nouns.svg").is_file()
    assert "very small model" in results["figures"]["verb_nouns"]
    assert len((run_dir / "parses.jsonl").read_text(encoding="utf-8").splitlines()) == 4
    assert results["headline"] == "2 of 4 with verb and noun (50.0%)"
    assert results["common_verbs"] == {"mine": {"all": ["write 2", "decide 1"], "with an object": ["write 2"]}}
    _, fixed = run_notebook("11_parse_verb_nouns", run_dir, quirks="fixed")
    assert fixed["covered"] == {"mine": 0.75}
    assert fixed["headline"] == "3 of 4 with verb and noun (75.0%), rule: fixed"  # of the rule that the figure follows
    assert fixed["quirks"] == "fixed"
    assert len((run_dir / "parses.jsonl").read_text(encoding="utf-8").splitlines()) == 4  # parsed once


def test_one_text_too_long_for_the_parser_is_told_and_the_rest_parsed(run_dir, tmp_path, capsys):
    long = tmp_path / "long.jsonl"
    write_records(long, [{"instruction": "Write a poem. " * 80_000}, {"instruction": "Write a poem."}])
    _, results = run_notebook("11_parse_verb_nouns", tmp_path / "run", data=f"{run_dir}, {long}")
    assert results["not_parsed"] == {"mine": 0, "long": 1}
    (line,) = results["not_read"]
    assert line.startswith("long: 1 of its instructions not parsed") and f"NOT PARSED {line}" in capsys.readouterr().out
    found = {
        row["data_set"]: (row["instructions"], row["verb_noun"])
        for row in results["shares"]
        if row["rule"] == "published"
    }
    assert found == {"mine": (4, 2), "long": (2, 1)}
    _, lengths = run_notebook("12_measure_lengths", tmp_path / "run", data=f"{run_dir}, {long}")
    assert lengths["lengths"]["long"]["instruction"]["max"] == 240_000


def test_lengths(run_dir):
    _, results = run_notebook("12_measure_lengths", run_dir)
    lengths = results["lengths"]["mine"]
    assert [lengths[part]["count"] for part in ("instruction", "input", "output")] == [4, 2, 5]
    assert lengths["output"]["median"] == 2
    assert [row["median"] for row in results["medians"]] == [6, 2.5, 2]
    assert (run_dir / "figures" / "lengths.svg").is_file()


def test_overlap(run_dir, seed_tasks_path):
    names, results = run_notebook("13_measure_rouge_overlap", run_dir, seed_tasks_path=seed_tasks_path)
    letter = 2 * 5 / (6 + 6)  # write a letter to a _
    assert results["with_seeds"]["mine"]["max"] == pytest.approx(letter)
    assert results["above_threshold"] == {"mine": 0.25}
    assert results["seed_tasks"] == 2
    assert names["tables"]["mine"][0]["instruction"] == ROWS[2]["instruction"]
    for figure in ("rouge_overlap_seeds", "rouge_overlap_others"):
        assert (run_dir / "figures" / f"{figure}.png").is_file()
        assert "very small model" in results["figures"][figure]


ODD = {
    "one_row": [{"instruction": "Sing.", "input": "", "output": "La"}],
    "texts_only": [{"instruction": "Write a poem."}, {"instruction": "说你好"}],
    "no_verbs": [{"instruction": "", "input": "x", "output": ""} | {"instruction": text} for text in ("Hm?", "$5 + $7 =", "😀", "...")],
    "empty_outputs": [{"instruction": "Write nothing.", "input": "", "output": ""}] * 3,
    "hostile": [
        {"instruction": "<script>alert(1)</script> $\\frac{", "input": "</td><img src=x onerror=alert(2)>", "output": "`$$`\x00\x1b[31m"},
        {"instruction": "Print ## Heading", "input": "| a | b |", "output": "\ud83d"},
    ],
}  # fmt: skip


@pytest.mark.parametrize("kind", ODD)
@pytest.mark.parametrize("name", NAMES)
def test_odd_data_go_through(tmp_path, seed_tasks_path, kind, name):
    path = tmp_path / f"{kind}.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in ODD[kind]))
    extra = {"seed_tasks_path": seed_tasks_path} if name.startswith("13") else {}
    _, results = run_notebook(name, tmp_path / "run", data=str(path), **extra)
    assert results["headline"]
    assert results["not_read"] == []


@pytest.mark.parametrize("name", NAMES)
def test_several_data_sets_one_of_them_bad(tmp_path, run_dir, seed_tasks_path, name):
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"instruction": "a"}\nnonsense\n')
    extra = {"seed_tasks_path": seed_tasks_path} if name.startswith("13") else {}
    names, results = run_notebook(name, tmp_path / "run", data=f"{run_dir}, {bad}, {seed_tasks_path}", **extra)
    assert [one.name for one in names["datasets"]] == ["mine", "seeds"]
    assert len(results["not_read"]) == 1 and "bad.jsonl:2: not JSON" in results["not_read"][0]


@pytest.mark.parametrize("name", NAMES)
def test_a_folder_without_data_says_what_to_run(tmp_path, name):
    with pytest.raises(InputError, match="writes it: run that first"):
        run_notebook(name, tmp_path / "run")


def run_side_by_side(name, run_dir, seeds, *others):
    extra = {"seed_tasks_path": str(seeds)} if name.startswith("13") else {}
    return run_notebook(name, run_dir, data=", ".join(map(str, [seeds, *others])), **extra)


@pytest.mark.parametrize("name", NAMES)
def test_the_shapes_of_the_release_side_by_side(tmp_path, name):
    seeds, rows = PROJECT_ROOT / "seeds" / "seed_tasks.jsonl", SAMPLES / "all_instances.jsonl"
    others = [SAMPLES / "user_oriented_instructions.jsonl", *sorted((SAMPLES / "predictions").glob("*.jsonl"))]
    names, results = run_side_by_side(name, tmp_path / "run", seeds, rows, *others)
    assert [len(one.rows) for one in names["datasets"]] == [175, 89, 21, 21, 21]
    assert results["not_read"] == []


@pytest.mark.parametrize("name", NAMES)
def test_the_published_sets_side_by_side(tmp_path, name):
    seeds = find_published(SEED_TASKS)
    others = [USER_ORIENTED, *(PREDICTIONS.format(model) for model in ("davinci", "text-davinci-001"))]
    names, results = run_side_by_side(name, tmp_path / "run", seeds, *map(find_published, others))
    assert len(names["datasets"]) == 4
    if name.startswith("10"):
        assert results["datasets"]["seed_tasks"]["instructions"] == 175
        assert results["datasets"]["davinci_predictions"]["instances"] == 252
    if name.startswith("11"):
        top = results["common_verbs"]["seed_tasks"]
        assert top["with an object"][:6] == ["write 20", "give 10", "generate 8", "explain 7", "create 5", "make 5"]
        assert top["all"][:2] == ["write 21", "explain 10"]
    if name.startswith("13"):
        assert results["with_others"]["seed_tasks"]["mean"] == pytest.approx(0.362, abs=5e-4)


OTHERS = [
    {"instruction": text, "input": "", "output": "x"}
    for text in ("Sing a song of the sea.", "Write a poem on the sea.")
]


def run_two(name, tmp_path, run_dir, seed_tasks_path, rows=OTHERS):
    other = write_records(tmp_path / "other.jsonl", rows)
    extra = {"seed_tasks_path": seed_tasks_path} if name.startswith("13") else {}
    return run_notebook(name, tmp_path / "run", data=f"{run_dir}, {other}", **extra)


@pytest.mark.parametrize("name", NAMES)
def test_every_data_set_has_its_headline_and_its_differences(tmp_path, run_dir, seed_tasks_path, name):
    _, results = run_two(name, tmp_path, run_dir, seed_tasks_path)
    assert results["headline"].startswith("mine: ") and "; other: " in results["headline"]
    assert {(one["data_set"], one["against"]) for one in results["differences"]} == {("other", "mine")}
    assert all(one["low"] <= one["high"] and one["shared"] in (1, 2) for one in results["differences"])


def test_tables_hold_rows_of_every_data_set(tmp_path, run_dir, seed_tasks_path):
    names, _ = run_two("10_describe_dataset", tmp_path, run_dir, seed_tasks_path)
    assert {len(rows) for rows in names["drawn"].values()} == {5, 2}
    names, results = run_two("13_measure_rouge_overlap", tmp_path, run_dir, seed_tasks_path)
    assert {name: len(rows) for name, rows in names["tables"].items()} == {"mine": 4, "other": 2}
    assert (results["shared"][0]["twins"], results["shared"][0]["identical"]) == (1, 1)
    _, results = run_two("11_parse_verb_nouns", tmp_path, run_dir, seed_tasks_path)
    assert results["own_verbs"] == {"mine": ["decide 1"], "other": ["sing 1"]}


def test_each_run_is_compared_with_the_seed_tasks_that_it_came_from(tmp_path, run_dir, seed_tasks_path):
    write_json(run_dir / "run.json", {"seed_tasks": {"path": seed_tasks_path, "sha256": "0" * 64}})
    second = make_run(tmp_path / "second")
    _, results = run_notebook("13_measure_rouge_overlap", tmp_path / "run", data=f"{run_dir}, {second}")
    assert results["seeds"] == {"mine": "seeds.jsonl", "second": "ours"}
    assert results["with_seeds"]["mine"]["max"] == pytest.approx(2 * 5 / (6 + 6))
    assert len(results["not_read"]) == 1 and "seeds.jsonl has changed since" in results["not_read"][0]


@pytest.mark.parametrize("name", NAMES)
def test_scripts_without_spaces_are_noted_in_table_and_figure(tmp_path, run_dir, seed_tasks_path, name, capsys):
    rows = [{"instruction": f"写一首关于秋天的短诗{i}。", "input": "", "output": "好的"} for i in range(3)]
    names, results = run_two(name, tmp_path, run_dir, seed_tasks_path, rows)
    said = "other: 3 of 3 instructions in a script without spaces (Cjk)"
    assert f"NOTE {said}" in capsys.readouterr().out
    assert any(said in str(note) or "other" in results["notes"] for note in results["notes"])
    if not name.startswith("10"):
        assert any(said in " ".join(text.get_text().split()) for text in names["figure"].texts)


@pytest.mark.parametrize("name", NAMES)
def test_rows_left_out_are_named_in_every_notebook(tmp_path, run_dir, seed_tasks_path, name, capsys):
    rows = [*OTHERS, {"instruction": "", "input": "", "output": "x"}]
    _, results = run_two(name, tmp_path, run_dir, seed_tasks_path, rows)
    (line,) = results["not_read"]
    assert line.startswith("other: read 2 of 3 rows") and "other.jsonl:3:" in line
    assert f"NOT READ {line}" in capsys.readouterr().out
