"""Held-out tasks: what is read from each layout, whose answer is the reference, and that none was trained on."""

from __future__ import annotations

import json

import pytest
from helpers.trained import task_set

from selfinstruct.evaluation.evaluate import leave_out_leaks
from selfinstruct.evaluation.tasks import find_leaks, load_heldout_pairs, load_tasks
from selfinstruct.files import PROJECT_ROOT, InputError, iter_lines, project_path
from selfinstruct.prompts import load_prompts
from selfinstruct.steps import build_finetuning_rows
from selfinstruct.steps.export import build_seed_rows

SUPERNI = PROJECT_ROOT / "tests/samples/superni_test_set.jsonl"  # by hand, in the layout of the published file


def write(path, *rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def test_ours_are_asked_as_the_published_predictions_were():
    heldout = load_tasks()
    rows = [row for _, row in iter_lines(project_path("seeds/heldout_tasks.jsonl"))]
    assert len(heldout.tasks) == len(rows) >= 250
    for task, row in zip(heldout.tasks, rows, strict=True):
        (instance,) = row["instances"]
        asked = f"\n\nInput: {instance['input'].strip()}" if instance["input"].strip() else ""
        assert task.prompt == f"{row['instruction'].strip()}{asked}\nOutput:"
        assert task.references == (instance["output"].strip(),)
    assert heldout.clusters is None


def test_the_reference_is_the_target_and_no_model_s_response(tmp_path):
    path = write(
        tmp_path / "davinci_predictions.jsonl",
        {"prompt": "p", "instruction": "Add.\n", "input": "1 1", "response": " 3", "target": "2"},
        {"prompt": "q", "instruction": "Add.", "input": "1 2", "response": " 2", "target": "3"},
    )
    tasks = load_tasks(path).tasks
    assert [task.references for task in tasks] == [("2",), ("3",)]
    assert tasks[0].prompt == "Add.\n\nInput: 1 1\nOutput:"


def test_rows_of_superni_are_known_by_their_definition_and_keep_every_reference(tmp_path):
    path = write(
        tmp_path / "superni.jsonl",
        {"prompt": "Add them.\n\nInput: 1 1\n\nOutput:", "completion": " 2<|endoftext|>"},
        {"prompt": "Add them.\n\nInput: 1 1\n\nOutput:", "completion": " two<|endoftext|>"},
        {"prompt": "Add them.\n\nInput: 1 2\n\nOutput:", "completion": " 3<|endoftext|>"},
        {"prompt": "Name it.\n\nInput: 1 2\n\nOutput:", "completion": " x<|endoftext|>"},
    )
    found = load_tasks(path)
    assert [task.references for task in found.tasks] == [("2", "two"), ("3",), ("x",)]
    assert found.tasks[0].prompt == "Add them.\n\nInput: 1 1\n\nOutput:"
    assert found.clusters == ["Add them.", "Add them.", "Name it."] and found.units == 2


def test_the_published_test_set_in_its_layout():
    """As the data set's card shows a row: definition, "Input:" and "Output:" a blank line apart; every completion ends in the mark."""
    found = load_tasks(str(SUPERNI))
    assert [task.references for task in found.tasks] == [("Yes",), ("No",), ("Songs",), ("She\nis hoarse.",)]
    assert found.units == 3, "two definitions that begin alike are two tasks"
    last = found.tasks[-1]
    assert (last.instruction, last.input) == (
        "You get a premise.\n\nWrite what follows.",
        "Premise: Ann sings.\nAll day.",
    )
    assert last.prompt.endswith("All day.\n\nOutput:") and last.prompt.startswith("You get a premise.\n\nWrite what")
    assert find_leaks(found.tasks, ["Task: You get a premise.\n\nWrite what follows.\n\nelse\n\n"]) == [last.id]


def test_a_published_row_without_an_answer_is_left_out_and_counted(tmp_path, monkeypatch):
    path = tmp_path / "superni_test_set.jsonl"
    path.write_text(
        SUPERNI.read_text() + '{"prompt": "Copy.\\n\\nInput: -\\n\\nOutput:", "completion": " <|endoftext|>"}\n'
    )
    with pytest.raises(InputError, match=r"jsonl:5: the reference is empty"):
        load_tasks(str(path))  # somebody's own file can be mended
    monkeypatch.setattr("selfinstruct.evaluation.tasks.find_published_file", lambda name: path)
    found, problems = leave_out_leaks(load_tasks("superni"), [])
    assert len(found.tasks) == 4 and found.name == "superni"
    assert len(problems) == 1 and problems[0].startswith("1 row of ") and "no answer to judge by" in problems[0]


def test_the_curve_s_sample_is_drawn_the_same_way_each_time_and_may_be_none():
    pairs = load_heldout_pairs(20)
    assert pairs == load_heldout_pairs(20) != load_heldout_pairs(20, random_seed=1) and len(pairs) == 20
    assert all(prompt.endswith("\nOutput:") and completion.startswith(" ") for prompt, completion in pairs)
    assert all(completion.endswith("<|endoftext|>") for _, completion in pairs)
    assert load_heldout_pairs(0) == []


def test_every_instance_of_a_row_is_judged_and_they_belong_together(tmp_path):
    instances = [{"input": "1", "output": "a"}, {"input": "2", "output": "b"}]
    path = write(
        tmp_path / "t.jsonl",
        {"id": "x", "instruction": "Do.", "instances": instances},
        {"instruction": "Name a river.", "input": "", "output": "Nile"},
    )
    found = load_tasks(path)
    assert [task.id for task in found.tasks] == ["x:0", "x:1", "t:2"]
    assert found.clusters == ["Do.", "Do.", "Name a river."]


def test_equal_rows_of_other_layouts_stay_two(tmp_path):
    row = {"instruction": "Do.", "input": "1", "output": "a"}
    assert [one.references for one in load_tasks(write(tmp_path / "t.jsonl", row, row)).tasks] == [("a",), ("a",)]


@pytest.mark.parametrize(
    ("row", "words"),
    [
        ({"prompt": "p"}, "not a held-out task; expected"),
        ({"instruction": "Do."}, "not a held-out task"),
        ({"instruction": "Do.", "input": "", "output": " "}, "the reference is empty"),
        ({"instruction": 5, "output": "x"}, "not a held-out task"),
    ],
)
def test_a_row_without_an_answer_is_named(tmp_path, row, words):
    good = {"instruction": "Name a river.", "input": "", "output": "Nile"}
    with pytest.raises(InputError, match=rf"t\.jsonl:2: {words}"):
        load_tasks(write(tmp_path / "t.jsonl", good, row))


def test_missing_files_say_what_to_do(monkeypatch, tmp_path):
    with pytest.raises(InputError, match=r"tasks='nothing\.jsonl': no such file.*heldout, user_oriented, superni"):
        load_tasks("nothing.jsonl")
    monkeypatch.setattr("selfinstruct.paper.release.project_path", lambda path: tmp_path / "none")
    with pytest.raises(InputError, match="selfinstruct fetch"):
        load_tasks("superni")


def test_a_sample_is_drawn_the_same_way_and_stays_in_order():
    whole = task_set(50)
    sample = whole.draw(10, random_seed=3)
    assert sample == whole.draw(10, random_seed=3) != whole.draw(10, random_seed=4)
    places = [whole.tasks.index(task) for task in sample.tasks]
    assert places == sorted(places) and len(set(places)) == 10
    assert whole.draw(0) == whole.draw(50) == whole.draw(99) == whole


def test_no_held_out_task_is_in_the_training_files_of_the_seed_tasks():
    import random

    rows = build_finetuning_rows([], build_seed_rows(load_prompts("ours").seed_tasks), random.Random(1))
    assert len(rows) > 150
    assert find_leaks(load_tasks().tasks, [row.prompt for row in rows]) == []


@pytest.mark.parametrize(
    "template",
    [
        "{i}\nInput: {x}\nOutput:",
        "{i}\n\n{x}\n\n",
        "{i}\n{x}\n\n",
        "Task: {i}\n\n{x}\n\n",
        "{i} Output:",
        "{i}\n",
        "Task: {i}\n\n",
    ],
)
def test_a_task_that_was_trained_on_is_found_in_every_template(template):
    tasks = task_set(4).tasks
    leaked = template.format(i=" name 2  RIVERS", x="anything")
    assert find_leaks(tasks, ["Name 20 rivers.\nOutput:", "", leaked]) == ["t2"]


def test_a_definition_that_was_trained_on_with_another_input_is_a_leak(tmp_path):
    path = write(
        tmp_path / "superni.jsonl",
        {"prompt": "Add the\nnumbers.\n\nInput: 1 1\n\nOutput:", "completion": " 2"},
        {"prompt": "Name it.\n\nInput: 1 2\n\nOutput:", "completion": " x"},
    )
    tasks = load_tasks(path).tasks
    assert find_leaks(tasks, ["Add the\nnumbers.\n\nInput: 5 5\nOutput:"]) == [tasks[0].id]
