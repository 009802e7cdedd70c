"""Rows to train on: those of a run and of any data set, in every layout, and the chain from a row back to the model's answers."""

from __future__ import annotations

import json
import shutil
import warnings
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.places import SAMPLES

from selfinstruct.cli import LAYOUTS, main
from selfinstruct.data import load_dataset
from selfinstruct.data.tasks import find_task
from selfinstruct.data.writing import FORMATS, PROVENANCE, encode_row
from selfinstruct.files import PROJECT_ROOT, InputError, iter_lines, read_json, write_records
from selfinstruct.runfolder import ALL_INSTANCES, CLASSIFICATION, FINETUNING, RunFolder
from selfinstruct.training.lineage import describe_chain, export_training_rows, load_training_rows, trace_row

EXAMPLE = RunFolder(PROJECT_ROOT / "outputs/example")
NO_STORE = "/nowhere/responses.sqlite"


@pytest.fixture(scope="module")
def rows():
    return load_training_rows(EXAMPLE)[0]


def lines_of(path):
    return [line for _, line in iter_lines(path)]


def test_the_rows_of_a_run_are_those_of_its_file_each_found_again(rows):
    encoded = lines_of(EXAMPLE.require(FINETUNING))
    assert [encode_row(row, "paper") for row in rows] == encoded
    assert not any(row.is_joined for row in rows)  # every one has its instance
    generated = lines_of(EXAMPLE / ALL_INSTANCES)
    for row in rows:
        if not row.is_seed:
            source = generated[int(row.place.rpartition(":")[2]) - 1]
            assert source == {"instruction": row.instruction, "input": row.input, "output": row.output}
    assert len({row.id for row in rows}) == len(rows) and any(row.is_seed for row in rows)


@pytest.mark.parametrize("layout", FORMATS)
def test_the_example_reads_back_in_every_layout(tmp_path, rows, layout):
    record = export_training_rows(EXAMPLE, tmp_path / "out", layout)
    read = [(row.instruction, row.input or "", row.output) for row in load_dataset(tmp_path / "out").rows]
    by_id = {row.id: row for row in rows}
    exported = [by_id[line["id"]] for line in lines_of(tmp_path / "out" / PROVENANCE)]
    if layout == "paper":
        expected = [(row.prompt, "", row.completion.removesuffix("<|endoftext|>")) for row in exported]
    elif layout in ("alpaca", "huggingface"):
        expected = [(row.instruction, row.input, row.output) for row in exported]
    else:
        expected = [(row.question, "", row.output) for row in exported]
    assert read == expected and record["left_out"] == {}
    assert sum(record["rows"].values()) == len(rows)


def test_no_task_of_the_example_is_on_both_sides(tmp_path, rows):
    export_training_rows(EXAMPLE, tmp_path / "out", "alpaca", validation=0.2)
    by_id = {row.id: row for row in rows}
    tasks = {"train": set(), "validation": set()}
    for line in lines_of(tmp_path / "out" / PROVENANCE):
        tasks[line["split"]].add(find_task(by_id[line["id"]]))
    assert tasks["train"] and tasks["validation"] and not tasks["train"] & tasks["validation"]


def test_without_seeds_the_ids_stay(tmp_path, rows):
    generated = load_training_rows(EXAMPLE, with_seeds=False)[0]
    assert generated == [row for row in rows if not row.is_seed]


def test_the_chain_of_a_row_leads_to_prompts_answers_and_rules(rows):
    row = next(row for row in rows if not row.is_seed)
    chain = dict(trace_row(EXAMPLE, row.id, NO_STORE))
    answers = {line["key"]: line for line in lines_of(EXAMPLE / "answers.jsonl")}
    first, label, third = (answers[chain[f"step {step}: key in the store"]] for step in (1, 2, 3))
    assert (first["step"], label["step"], third["step"]) == ("02", "03", "04")
    assert row.instruction in first["response"]["choices"][0]["text"]
    assert first["request"]["prompt"] == chain["step 1: prompt"]
    assert f"Task: {row.instruction}\n" in label["request"]["prompt"]
    assert (
        third["request"]["prompt"] == chain["step 3: prompt"]
        and f"Task: {row.instruction}\n" in chain["step 3: prompt"]
    )
    assert row.output.strip()[:20] in third["response"]["choices"][0]["text"]
    assert "too_similar" in chain["step 1: passed"] and "duplicate" in chain["step 4: passed"]
    assert chain["prompt to train on"] == row.prompt and chain["source"].startswith(ALL_INSTANCES)


def test_every_generated_row_of_the_example_has_a_whole_chain(rows):
    for row in [row for row in rows if not row.is_seed][::8]:
        chain = dict(trace_row(EXAMPLE, row.id, NO_STORE))
        keys = [chain[f"step {step}: key in the store"] for step in (1, 2, 3)]
        assert all(len(key) == 64 for key in keys), row.id


def test_the_chain_of_a_seed_task_ends_at_the_person(rows):
    row = next(row for row in rows if row.is_seed)
    assert dict(trace_row(EXAMPLE, row.id))["step 1"].startswith("a seed task, written by a person")


def test_a_store_without_the_answers_says_what_to_do(tmp_path, rows):
    shutil.copytree(
        EXAMPLE.path, tmp_path / "run", ignore=shutil.ignore_patterns("answers.jsonl", "notebooks", "figures")
    )
    row = next(row for row in rows if not row.is_seed)
    chain = dict(trace_row(RunFolder(tmp_path / "run"), row.id, NO_STORE))
    assert "selfinstruct store import" in chain["step 1: key in the store"]
    assert "Come up with a series of " in chain["step 1: prompt"]  # the run itself holds it


def test_a_label_is_traced_as_the_run_read_it_without_a_warning(tmp_path, rows):
    row = next(row for row in rows if not row.is_seed)
    run = RunFolder(shutil.copytree(EXAMPLE.path, tmp_path / "run"))
    answer = {"instruction": row.instruction, "is_classification": " Yes."}
    write_records(run.require(CLASSIFICATION), [answer])
    with warnings.catch_warnings(action="error"):
        chain = dict(trace_row(run, row.id, NO_STORE))
    assert chain["step 2: answer"] == "'Yes.': no classification task"


def test_an_id_that_is_none_or_not_one_row_s_is_refused(rows):
    for id in ("nothing", ""):
        with pytest.raises(InputError, match="no row has the id"):
            trace_row(EXAMPLE, id)
    short = next(a for a in "0123456789abcdef" if sum(row.id.startswith(a) for row in rows) > 1)
    with pytest.raises(InputError, match="rows begin with"):
        trace_row(EXAMPLE, short)


def make_run(folder: Path, instances, finetuning):
    write_records(folder / ALL_INSTANCES, instances)
    write_records(folder / FINETUNING.replace("*", str(len(finetuning))), finetuning)
    return RunFolder(folder)


def test_a_row_changed_by_hand_is_its_own_source(tmp_path):
    instance = {"instruction": "Say {it}.", "input": "Word: hi\n\nnow", "output": "hi"}
    good = {
        "prompt": "Task: Say {it}.\n\nhi\nnow\n\n",
        "completion": "hi<|endoftext|>",
    }  # field name and blank line gone
    edited = {"prompt": "Say it.\nOutput:", "completion": " ho<|endoftext|>"}
    run = make_run(tmp_path, [instance], [good, edited])
    first, second = load_training_rows(run)[0]
    assert (first.instruction, first.input, first.place) == ("Say {it}.", "Word: hi\n\nnow", f"{ALL_INSTANCES}:1")
    assert second.is_joined and second.place.endswith("_2.jsonl:2") and second.output == "ho"
    assert "changed by hand" in dict(trace_row(run, second.id))["step 4"]


def test_what_a_model_wrote_cannot_colour_the_terminal(tmp_path):
    instance = {"instruction": "Say it.", "input": "", "output": "\x1b[31mred"}
    run = make_run(tmp_path, [instance], [{"prompt": "Say it.\nOutput:", "completion": " \x1b[31mred<|endoftext|>"}])
    text = describe_chain(run, load_training_rows(run)[0][0].id)
    assert "\x1b" not in text and r"\x1b[31mred" in text


# other data sets


@pytest.mark.parametrize("name", ["all_instances.jsonl", "user_oriented_instructions.jsonl"])
@pytest.mark.parametrize("layout", FORMATS)
def test_released_files_export_in_every_layout(tmp_path, name, layout):
    record = export_training_rows(SAMPLES / name, tmp_path / "out", layout)
    dataset = load_dataset(SAMPLES / name)
    left_out = sum(map(len, record["left_out"].values()))
    assert sum(record["rows"].values()) + left_out == len(dataset.rows)
    assert record["source"].endswith(name)


def test_prompts_and_completions_of_a_file_stay_as_they_are(tmp_path):
    path = EXAMPLE.require(FINETUNING)
    export_training_rows(path, tmp_path / "out", "paper", validation=0)
    assert (tmp_path / "out/train.jsonl").read_bytes() == path.read_bytes()
    export_training_rows(EXAMPLE, tmp_path / "run", "paper", validation=0)
    assert (tmp_path / "run/train.jsonl").read_bytes() == path.read_bytes()


def test_a_data_set_is_written_in_templates_that_its_texts_draw(tmp_path):
    path = write_records(
        tmp_path / "d.jsonl", [{"instruction": f"Do {n}.", "input": f"x{n}", "output": "y"} for n in range(60)]
    )
    rows = load_training_rows(path)[0]
    assert len({row.prompt.replace(row.instruction, "I").replace(row.input, "X") for row in rows}) == 7
    reordered = write_records(tmp_path / "r.jsonl", reversed(lines_of(path)))
    prompts = {row.id: row.prompt for row in rows}
    assert all(prompts[row.id] == row.prompt for row in load_training_rows(reordered)[0])
    assert {row.id: row.prompt for row in load_training_rows(path, random_seed=1)[0]} != prompts


def test_a_data_set_without_outputs_and_a_run_without_rows_are_one_sentence(tmp_path):
    path = write_records(tmp_path / "d.jsonl", [{"instruction": "Do it."}])
    with pytest.raises(InputError, match="instructions only, no outputs; training needs a completion"):
        load_training_rows(path)
    with pytest.raises(InputError, match="05_filter_and_export writes it"):
        load_training_rows(RunFolder(tmp_path / "run"))


def test_an_export_names_no_folder_of_this_machine(tmp_path):
    path = write_records(tmp_path / "d.jsonl", [{"instruction": f"Do {n}.", "output": "y"} for n in range(12)])
    export_training_rows(path, tmp_path / "out", "huggingface")
    for name in ("export.json", PROVENANCE, "README.md"):
        assert str(tmp_path) not in (tmp_path / "out" / name).read_text(encoding="utf-8")


# the command


def invoke(*arguments):
    return CliRunner().invoke(main, ["export", *arguments])


def test_the_command_lists_the_layouts_that_there_are():
    assert tuple(FORMATS) == LAYOUTS
    text = invoke("--help").output
    assert "selfinstruct export --format alpaca --out mine" in text and all(name in text for name in FORMATS)


def test_the_command_writes_says_what_and_names_the_next_step(tmp_path):
    done = invoke(
        "--run-dir", "outputs/example", "--format", "paper", "--out", str(tmp_path / "out"), "--validation", "0.2"
    )
    assert done.exit_code == 0, done.output
    record = read_json(tmp_path / "out/export.json")
    assert f"train {record['rows']['train']} rows" in done.output and "0.2 of the tasks are validation" in done.output
    assert "Next: train on" in done.output and "docs/formats.md" in done.output
    assert (PROJECT_ROOT / "docs/formats.md").is_file()


def test_the_command_writes_into_the_run_folder_by_itself(tmp_path):
    run = make_run(tmp_path / "run", *([{"instruction": f"Do {n}.", "input": "", "output": "y"} for n in range(20)],
                   [{"prompt": f"Do {n}.\n", "completion": "y<|endoftext|>"} for n in range(20)]))  # fmt: skip
    done = invoke("--run-dir", str(run.path), "--without-seeds")
    assert done.exit_code == 0, done.output
    messages = [
        line["messages"] for side in ("train", "validation") for line in lines_of(run / f"exports/chat/{side}.jsonl")
    ]
    assert len(messages) == 20 and messages[0][1] == {"role": "assistant", "content": "y"}
    assert invoke("--run-dir", str(run.path)).exit_code == 0  # again, over its own


def test_the_command_traces(rows):
    row = next(row for row in rows if not row.is_seed)
    done = invoke("--run-dir", "outputs/example", "--trace", row.id[:10], "--store", NO_STORE)
    assert done.exit_code == 0 and "step 3: prompt" in done.output and json.dumps(row.place)[1:-1] in done.output


def test_the_command_traces_a_row_of_any_data_set_to_its_place(tmp_path):
    path = write_records(tmp_path / "d.jsonl", [{"instruction": f"Do {n}.", "output": "y"} for n in range(12)])
    out = tmp_path / "out"
    assert invoke("--data", str(path), "--out", str(out), "--format", "paper", "--random-seed", "5").exit_code == 0
    line, pair = lines_of(out / PROVENANCE)[3], lines_of(out / "train.jsonl")[3]
    done = invoke("--data", str(path), "--trace", line["id"], "--random-seed", "5")
    assert line["source"] in done.output and pair["prompt"].splitlines()[0] in done.output


def test_what_the_readers_leave_out_is_said(tmp_path):
    turns = [{"role": role, "content": "x"} for role in ("user", "assistant", "user", "assistant")]
    path = write_records(tmp_path / "d.jsonl", [{"messages": turns}] * 3 + [{"messages": turns[:1]}])
    done = invoke("--data", str(path), "--out", str(tmp_path / "out"), "--format", "alpaca", "--validation", "0")
    assert "first turns only" in done.output and "read 3 of 4 rows; left out" in done.output


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--format", "csv"], "choose one of paper"),
        (["--validation", "2"], "give a share of the tasks"),
        (["--data", "nothing.jsonl", "--out", "x"], "no such file"),
        (["--trace", "zzz"], "no row has the id"),
    ],
)
def test_what_is_wrong_is_one_line_and_exit_code_1(arguments, says):
    done = invoke("--run-dir", "outputs/example", *arguments)
    assert done.exit_code == 1 and says in done.output and "Traceback" not in done.output
