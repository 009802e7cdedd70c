"""A folder that another program wrote: 02 goes on from it, 03 and 04 reuse it, 05 refuses, and nothing of it is lost."""

from __future__ import annotations

import json

import pytest
from helpers.notebooks import read_results, run_cells
from helpers.scripted import ScriptedServer
from helpers.scripted_method import respond

from selfinstruct.files import InputError, append_record, iter_lines, read_json, write_json, write_records
from selfinstruct.runfolder import CLASSIFICATION, RunFolder
from selfinstruct.runner.run import run_notebooks
from selfinstruct.steps import name_answer_file

STEP_1, STEP_3 = "machine_generated_instructions.jsonl", "machine_generated_instances.jsonl"
LABELS = "is_clf_or_not_davinci_template_1.jsonl"
TASKS = [
    f"Name the {tone} tone of the {part} of a talk." for tone in ("loud", "kind") for part in ("start", "end", "rest")
]
ANSWER = "Example 1\nText: Hello.\nOutput: friendly"


@pytest.fixture
def server():
    with ScriptedServer(respond) as server:
        yield server


@pytest.fixture
def theirs(tmp_path):
    """What the released scripts leave, up to the training data; no run.json."""
    folder = tmp_path / "theirs"
    metadata = {"prompt": "p", "response": {"choices": [{"text": "t", "finish_reason": "stop"}]}, "created_at": "2022"}
    rows = [
        {
            "instruction": text,
            "most_similar": {"x": 0.2},
            "avg_similarity_score": 0.1,
            "metadata": metadata,
            "request_idx": 6,
        }
        for text in TASKS
    ]
    write_records(folder / STEP_1, rows)
    write_records(folder / LABELS, [{"instruction": text, "is_classification": " No"} for text in TASKS])
    instances = [
        {**row, "raw_instances": ANSWER, "instance_metadata": metadata, "instruction_metadata": {}} for row in rows
    ]
    write_records(folder / STEP_3, [{k: v for k, v in row.items() if k != "request_idx"} for row in instances])
    write_records(
        folder / "finetuning_data/all_generated_instances.jsonl",
        [{"instruction": TASKS[0], "input": "", "output": "o"}],
    )
    write_records(folder / "finetuning_data/gpt3_finetuning_data_1.jsonl", [{"prompt": "p", "completion": "c"}])
    return folder


def read_rows(path):
    return [row for _, row in iter_lines(path)]


def read_files(folder):
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*.jsonl")}


def ask(name, folder, server, **parameters):
    """Run a notebook on the scripted model; returns how many requests it sent."""
    before = len(server.bodies)
    store = str(folder.parent / "s.sqlite")
    run_cells(name, folder, model="org/scripted-1", base_url=server.url, store=store, **parameters)
    return len(server.bodies) - before


def test_enough_instructions_labels_and_instances_cost_nothing_and_stay(theirs, server):
    earlier = read_files(theirs)
    assert ask("02_generate_instructions", theirs, server, num_instructions_to_generate=6) == 0
    assert ask("03_identify_classification", theirs, server) == 0
    assert ask("04_generate_instances", theirs, server) == 0
    now = read_files(theirs)
    assert {name: now[name] for name in earlier if name.name != STEP_3} == {
        n: t for n, t in earlier.items() if n.name != STEP_3
    }
    assert read_rows(theirs / STEP_3) == read_rows(theirs / "taken_over" / STEP_3)
    assert not (theirs / name_answer_file("org/scripted-1")).exists()
    state = read_json(theirs / "run.json")
    assert state["taken_over"]["03_identify_classification"] == [LABELS] and "model" not in state


def test_step_1_goes_on_from_their_instructions_and_again_the_same(theirs, server):
    text = (theirs / STEP_1).read_text()
    assert ask("02_generate_instructions", theirs, server, num_instructions_to_generate=12) > 0
    written = (theirs / STEP_1).read_text()
    assert written.startswith(text) and written.count("\n") >= 12
    new = read_rows(theirs / STEP_1)[len(TASKS) :]
    assert new[0]["request_idx"] == 7  # theirs ended at 6
    assert read_results(theirs, "02_generate_instructions")["accepted"] == len(new)
    used = [text for body in server.bodies[:5] for text in TASKS if text in body["prompt"]]
    assert len(used) == 2 * 5  # two machine-written instructions in every prompt, from the first on
    assert ask("02_generate_instructions", theirs, server, num_instructions_to_generate=12) == 0
    assert (theirs / STEP_1).read_text() == written
    assert ask("02_generate_instructions", theirs, server, num_instructions_to_generate=25) > 0
    assert (theirs / STEP_1).read_text().startswith(written)


def test_steps_2_and_3_ask_about_what_is_not_there(theirs, server):
    with (theirs / STEP_1).open("a") as file:
        file.write(json.dumps({"instruction": "Find three words for rain."}) + "\n")
    write_records(theirs / LABELS, read_rows(theirs / LABELS)[:-1])
    other = (theirs / LABELS).read_bytes()
    assert ask("03_identify_classification", theirs, server, check_against_seed_tasks=0) == 2
    labels = read_rows(theirs / name_answer_file("org/scripted-1"))
    assert [row["instruction"] for row in labels] == [row["instruction"] for row in read_rows(theirs / STEP_1)]
    assert (theirs / LABELS).read_bytes() == other
    (theirs / LABELS).touch()  # a copy of the folder may have its files in any order of time
    assert RunFolder(theirs).require(CLASSIFICATION).name == name_answer_file("org/scripted-1")
    assert ask("04_generate_instances", theirs, server) == 1
    made = read_rows(theirs / STEP_3)
    assert [row["raw_instances"] for row in made[:-1]] == [ANSWER] * len(TASKS) and made[-1]["raw_instances"] != ANSWER


def test_the_models_own_file_is_taken_before_a_newer_one_of_another(theirs, server):
    own = [{"instruction": text, "is_classification": "Yes"} for text in TASKS]
    write_records(theirs / name_answer_file("org/scripted-1"), own)
    write_records(theirs / LABELS, read_rows(theirs / LABELS))
    assert ask("03_identify_classification", theirs, server) == 0
    assert read_results(theirs, "03_identify_classification")["classification"] == len(TASKS)


@pytest.mark.parametrize(
    "name", ["is_clf_or_not.jsonl", "is_clf_or_not_template_1.jsonl", "is_clf_or_not_gpt-4_template_2.jsonl"]
)
def test_labels_in_a_file_of_another_name_are_read(theirs, server, name):
    (theirs / LABELS).rename(theirs / name)
    assert ask("03_identify_classification", theirs, server) == ask("04_generate_instances", theirs, server) == 0
    assert (theirs / name).is_file()


def test_labels_that_are_true_or_false_are_read(theirs, server):
    rows = [{"instruction": text, "is_classification": number < 2} for number, text in enumerate(TASKS)]
    (theirs / LABELS).unlink()
    write_records(theirs / "is_clf_or_not.jsonl", rows)
    assert ask("03_identify_classification", theirs, server) == 0
    assert read_results(theirs, "03_identify_classification")["classification"] == 2


@pytest.mark.parametrize("only", [["05"], [], ["02", "05"]])
def test_training_data_that_the_kit_did_not_write_is_refused_before_anything_runs(theirs, only):
    earlier = read_files(theirs)
    with pytest.raises(
        InputError, match=r"all_generated_instances.jsonl: not written by this kit, and 05.* choose another"
    ):
        run_notebooks(theirs, only=only)
    assert read_files(theirs) == earlier and not (theirs / "run.json").exists()


@pytest.mark.parametrize("kept", ["gpt3_finetuning_data_1.jsonl", "sampled_generated_instances_9.jsonl"])
def test_any_file_of_step_4_is_enough_to_refuse(theirs, kept):
    (theirs / "finetuning_data/all_generated_instances.jsonl").unlink()
    (theirs / "finetuning_data/gpt3_finetuning_data_1.jsonl").rename(theirs / "finetuning_data" / kept)
    with pytest.raises(InputError, match=kept):
        run_cells("05_filter_and_export", theirs)


def test_step_4_reads_their_files_and_deletes_only_what_it_wrote(theirs):
    for path in (theirs / "finetuning_data").iterdir():
        path.unlink()
    run_cells("05_filter_and_export", theirs, include_seed_tasks=False)
    other = write_records(
        theirs / "finetuning_data/gpt3_finetuning_data_999.jsonl", [{"prompt": "p", "completion": "c"}]
    )
    append_record(theirs / STEP_3, {"instruction": TASKS[0], "raw_instances": "Output: another"})
    run_cells("05_filter_and_export", theirs, include_seed_tasks=False)
    assert other.is_file()
    assert [path.name for path in sorted((theirs / "finetuning_data").glob("gpt3_*"))] == [
        "gpt3_finetuning_data_7.jsonl", "gpt3_finetuning_data_999.jsonl",
    ]  # fmt: skip


def test_a_task_without_a_label_is_named(theirs):
    for path in (theirs / "finetuning_data").iterdir():
        path.unlink()
    write_records(theirs / LABELS, read_rows(theirs / LABELS)[1:])
    with pytest.raises(
        Exception, match=r"1 instructions have no classification answer .*run 03_identify_classification"
    ):
        run_cells("05_filter_and_export", theirs)


@pytest.mark.parametrize("row", ['{"instruction": 7}', '{"text": "no instruction"}', "not JSON"])
def test_their_rows_that_cannot_be_read_are_named_and_left(theirs, server, row):
    with (theirs / STEP_1).open("a") as file:
        file.write(row)
    text = (theirs / STEP_1).read_bytes()
    with pytest.raises(InputError, match=rf"{STEP_1}:7: "):
        ask("02_generate_instructions", theirs, server)
    assert (theirs / STEP_1).read_bytes() == text and server.bodies == []


def test_the_ledger_of_their_step_1_stays(theirs, server):
    rows = [{"step": step, "reason": "too_short", "candidate": "Say"} for step in ("1_instructions", "4_instances")]
    write_records(theirs / "rejections.jsonl", rows)
    for _ in range(2):
        ask("02_generate_instructions", theirs, server, num_instructions_to_generate=8)
        ledger = read_rows(theirs / "rejections.jsonl")
        assert (ledger[0]["candidate"], ledger[0]["step"], ledger[-1]["step"]) == (
            "Say",
            rows[0]["step"],
            rows[1]["step"],
        )
    new = sum(read_results(theirs, "02_generate_instructions")["rejected"].values())
    assert len(ledger) == 2 + new > 2


@pytest.mark.parametrize("alone", [False, True])
def test_a_ledger_of_another_form_is_refused_before_anything_is_asked(theirs, server, alone):
    if alone:
        (theirs / STEP_1).unlink()
    write_records(theirs / "rejections.jsonl", [{"rejected": "Say"}])
    with pytest.raises(InputError, match=r"rejections.jsonl:1: missing"):
        ask("02_generate_instructions", theirs, server)
    assert server.bodies == [] and not (theirs / "taken_over").exists()


@pytest.mark.parametrize("name", ["report.html", "answers/02_generate_instructions.keys", f"taken_over/{STEP_1}"])
def test_what_lies_beside_the_step_files_is_not_replaced_either(theirs, server, name):
    (theirs / name).parent.mkdir(exist_ok=True)
    (theirs / name).write_text("theirs", encoding="utf-8")
    with pytest.raises(InputError, match=f"{name}: not written by this kit"):
        ask("02_generate_instructions", theirs, server)
    assert (theirs / name).read_text(encoding="utf-8") == "theirs" and server.bodies == []


def test_the_kit_s_own_report_on_a_folder_of_others_is_no_obstacle(theirs, server):
    (theirs / "report.html").write_text("<title>Self-Instruct: theirs</title>", encoding="utf-8")
    assert ask("02_generate_instructions", theirs, server, num_instructions_to_generate=6) == 0


def test_a_last_line_without_its_end_is_kept_whole(theirs, server):
    (theirs / STEP_1).write_text((theirs / STEP_1).read_text().rstrip("\n"))
    ask("02_generate_instructions", theirs, server, num_instructions_to_generate=8)
    assert [row["instruction"] for row in read_rows(theirs / STEP_1)][: len(TASKS)] == TASKS


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (["epoch", 1], "a list"),
        ({"model": "gpt-3", "parameters": {}}, '"model" is a str'),
        ({"parameters": [1]}, '"parameters" is a list'),
        ({"usage": None}, '"usage" is a NoneType'),
    ],
)
def test_a_run_json_of_another_program_is_refused_and_stays(theirs, server, value, message):
    earlier = write_json(theirs / "run.json", value).read_bytes()
    with pytest.raises(InputError, match=rf"run\.json: {message}, not the kit's"):
        ask("02_generate_instructions", theirs, server)
    assert (theirs / "run.json").read_bytes() == earlier


@pytest.mark.parametrize("name", [f"{STEP_1}.partial", "results/02_generate_instructions.json"])
def test_a_file_with_a_name_of_ours_that_cannot_be_continued_is_refused(theirs, server, name):
    (theirs / STEP_1).unlink()
    write_records(theirs / name, [{"theirs": 1}])
    with pytest.raises(InputError, match=rf"{name}: not written by this kit"):
        ask("02_generate_instructions", theirs, server)
    assert read_rows(theirs / name) == [{"theirs": 1}] and server.bodies == []
