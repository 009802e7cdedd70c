"""Parser, filters and export give what the released functions gave: tests/golden/ holds inputs with their outputs."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from typing import Any

from helpers.notebooks import run_cells
from helpers.places import TESTS

from selfinstruct.files import iter_lines
from selfinstruct.filters import (
    INSTANCE_RULES,
    INSTRUCTION_RULES,
    filter_instances,
    instance_rejections,
    instruction_rejection,
)
from selfinstruct.parsing import parse_instances, parse_instructions, parse_is_classification
from selfinstruct.records import (
    ClassificationAnswer,
    FinetuningRow,
    Instance,
    InstanceRow,
    MachineInstances,
    load_records,
    load_seed_tasks,
)
from selfinstruct.steps.export import (
    TEMPLATES_WITH_INPUT,
    TEMPLATES_WITHOUT_INPUT,
    build_finetuning_rows,
    build_seed_rows,
    cap_instances,
    encode_instance,
    parse_task,
)

GOLDEN = TESTS / "golden"


def read_rows(name: str) -> list[dict[str, Any]]:
    return [row for _, row in iter_lines(GOLDEN / f"{name}.jsonl")]


def parse_row(row: dict[str, Any]) -> list[Instance]:
    return parse_instances(row["text"], row["instruction"], row["is_classification"], row["finish_reason"])


STEP_1, STEP_3, STEP_4 = (read_rows(name) for name in ("step1_instructions", "step3_instances", "step4_encode"))


def test_step_1_keeps_the_instructions_that_the_released_code_keeps():
    for row in STEP_1:
        parsed = parse_instructions(row["text"], row["finish_reason"])
        assert [text for text in parsed if instruction_rejection(text) is None] == row["kept"], row["text"]


def test_step_3_keeps_the_instances_that_the_released_code_keeps():
    for row in STEP_3:
        instruction = row["instruction"].strip()
        kept = [[instruction, one.input, one.output] for one in filter_instances(parse_row(row))]
        assert sorted(kept) == row["kept"], row["text"]


def test_step_4_encodes_a_row_as_the_released_code_does():
    for row in STEP_4:
        encoded = encode_instance(row["instruction"], row["input"], row["output"], random.Random(row["random_seed"]))
        assert encoded.model_dump() == {"prompt": row["prompt"], "completion": row["completion"]}


def test_step_4_writes_the_files_that_the_released_code_writes_row_for_row():
    folder, rng = GOLDEN / "step4_whole", random.Random(123)
    answers = load_records(folder / "is_clf_or_not_embedded_template_1.jsonl", ClassificationAnswer)
    labels = {answer.instruction: parse_is_classification(answer.is_classification) for answer in answers}
    records = load_records(folder / "machine_generated_instances.jsonl", MachineInstances)
    rows = cap_instances([parse_task(record, labels[record.instruction]) for record in records], rng)
    assert rows == load_records(folder / "all_generated_instances.jsonl", InstanceRow)
    seeds = build_seed_rows(load_seed_tasks(folder / "seed_tasks.jsonl"))
    finetuning = load_records(folder / "gpt3_finetuning_data_238.jsonl", FinetuningRow)
    assert build_finetuning_rows(rows, seeds, rng) == finetuning and len(finetuning) == 238


def test_notebook_05_writes_them_too(tmp_path):
    folder = GOLDEN / "step4_whole"
    for name in ("machine_generated_instances.jsonl", "is_clf_or_not_embedded_template_1.jsonl"):
        shutil.copy(folder / name, tmp_path)
    run_cells("05_filter_and_export", tmp_path, seed_tasks_path=str(folder / "seed_tasks.jsonl"))
    for name in ("all_generated_instances.jsonl", "gpt3_finetuning_data_238.jsonl"):
        rows = [row for _, row in iter_lines(tmp_path / "finetuning_data" / name)]
        assert rows == [row for _, row in iter_lines(folder / name)]


# the rows reach what they are there for


def test_the_rows_meet_every_rule_and_every_template():
    parsed = [text for row in STEP_1 for text in parse_instructions(row["text"], row["finish_reason"])]
    dropped = Counter(map(instruction_rejection, parsed))
    assert set(dropped) == {None, *INSTRUCTION_RULES} - {"empty"}  # the parser leaves no empty one
    assert {*INSTANCE_RULES, None} <= {reason for row in STEP_3 for reason in instance_rejections(parse_row(row))}
    assert {fit_template(row) for row in STEP_4} == {*TEMPLATES_WITH_INPUT, *TEMPLATES_WITHOUT_INPUT}


def fit_template(row: dict[str, Any]) -> str:
    """The template that `row` was written in, found by its prompt."""
    values = {"instruction": row["instruction"].strip(), "input": row["input"].strip()}
    templates = TEMPLATES_WITH_INPUT if values["input"] else TEMPLATES_WITHOUT_INPUT
    (template,) = [one for one in templates if one.format(**values) == row["prompt"]]
    return template
