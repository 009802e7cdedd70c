"""Notebook 00's task: the first that survives steps 3 and 4."""

from __future__ import annotations

import pytest
from helpers.clients import TEMPLATES, ScriptedClient, completion

from selfinstruct.prompts import request_settings
from selfinstruct.records import MachineInstruction
from selfinstruct.steps import follow_tasks

TASKS = [MachineInstruction(instruction=f"Task {letter}.") for letter in "abc"]
LABELS = dict.fromkeys((task.instruction for task in TASKS), False)
GOOD, BAD = "Input: rain\nOutput: wet", "Input: rain\nOutput: rain"


@pytest.mark.parametrize(
    ("answers", "reasons"),
    [
        ([GOOD, GOOD, GOOD], [[]]),
        ([BAD, "", GOOD], [["input_equals_output"], ["no_completion"], []]),
        ([BAD, BAD, BAD], [["input_equals_output"]] * 3),
    ],
)
def test_the_first_task_that_survives_is_the_last_that_is_asked(answers, reasons):
    client = ScriptedClient(lambda _, number: completion(answers[number]))
    trials = follow_tasks(client, TASKS, LABELS, TEMPLATES, request_settings("instances", embedded=True))
    assert [raw.instruction for raw, _ in trials] == [task.instruction for task in TASKS[: len(reasons)]]
    assert [[one.reason for one in task.rejected] for _, task in trials] == reasons
    assert [bool(task.kept) for _, task in trials] == [not of_task for of_task in reasons]
    assert len(client.asked) == len(trials)
