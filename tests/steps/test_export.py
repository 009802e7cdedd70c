"""Step 4: parse, filter, cap, encode, shuffle."""

import random

import pytest

from selfinstruct.records import InstanceRow, MachineInstances, SeedTask
from selfinstruct.steps.export import (
    TEMPLATES_WITH_INPUT,
    TEMPLATES_WITHOUT_INPUT,
    build_finetuning_rows,
    build_seed_rows,
    cap_instances,
    encode_instance,
    parse_task,
    sample_instructions,
    strip_field_name,
)


def raw(text, finish_reason="stop"):
    metadata = {"response": {"choices": [{"text": text, "finish_reason": finish_reason}]}}
    return MachineInstances(instruction="Do it well.", raw_instances=text, instance_metadata=metadata)


def row(number, input="x: 1"):
    return InstanceRow(instruction=f"Task {number}", input=input, output=str(number))


def test_kept_plus_rejected_is_every_candidate():
    text = "Example 1\nInput: a\nOutput: b\nExample 2\nInput: a\nOutput: a\nExample 3\nInput: c\nOutput: cut o"
    task = parse_task(raw(text, "length"), False)
    assert [one.output for one in task.kept] == ["b"]
    assert [one.reason for one in task.rejected] == ["cut_by_length", "input_equals_output"]


@pytest.mark.parametrize(("text", "reason"), [("", "no_completion"), ("prose only", "no_instance_found")])
def test_a_task_without_candidates_is_one_rejection(text, reason):
    task = parse_task(raw(text), False)
    assert (task.kept, [one.reason for one in task.rejected]) == ([], [reason])


def test_failed_request_has_no_choices():
    failed = MachineInstances(instruction="Do it.", raw_instances="", instance_metadata={"response": None})
    assert parse_task(failed, True).rejected[0].reason == "no_completion"


def test_cap_is_five_and_says_what_it_left_out():
    text = "".join(f"Example {n}\nInput: {n}\nOutput: o{n}\n" for n in range(1, 9))
    task = parse_task(raw(text), False)
    rows = cap_instances([task], random.Random(123))
    assert len(rows) == 5
    assert [one.reason for one in task.rejected] == ["over_the_cap"] * 3
    assert rows == cap_instances([parse_task(raw(text), False)], random.Random(123))


def test_templates_and_the_leading_space():
    assert (len(TEMPLATES_WITH_INPUT), len(TEMPLATES_WITHOUT_INPUT)) == (7, 6)
    for seed in range(40):
        for input in ("X", ""):
            encoded = encode_instance(" I ", input, " O ", random.Random(seed))
            assert encoded.prompt.endswith("Output:") == encoded.completion.startswith(" ")
            assert encoded.completion.strip() == "O<|endoftext|>"
            assert ("X" in encoded.prompt) == bool(input)


def test_every_template_is_reached():
    rng = random.Random(0)
    assert len({encode_instance("I", "X", "O", rng).prompt for _ in range(200)}) == 7
    assert len({encode_instance("I", "", "O", rng).prompt for _ in range(200)}) == 6


@pytest.mark.parametrize(
    ("text", "published", "fixed"),
    [
        ("Sentence: I am here.", "I am here.", "I am here."),
        ("A: 1\nB: 2", "A: 1\nB: 2", "A: 1\nB: 2"),
        ("Text: ends in a list:", "Text: ends in a list:", "ends in a list:"),
        ("see http://a.org", "//a.org", "see http://a.org"),
        ("Meet at 10:30 today", "30 today", "Meet at 10:30 today"),
        ("no colon ", "no colon", "no colon"),
    ],
)
def test_colon_stripping(text, published, fixed):
    assert strip_field_name(text) == published
    assert strip_field_name(text, "fixed") == fixed


def test_braces_in_the_data_are_data():
    encoded = encode_instance("Fill {input} in", "{0} {instruction}", "{x}", random.Random(1))
    assert "{input}" in encoded.prompt and "{0} {instruction}" in encoded.prompt


def test_rows_are_unique_shuffled_and_repeatable():
    rows = [row(n) for n in range(30)]
    built = build_finetuning_rows([*rows, *rows], [], random.Random(123))
    assert built == build_finetuning_rows([*rows, *rows], [], random.Random(123))
    assert len({(one.prompt, one.completion) for one in built}) == len(built)
    assert built != build_finetuning_rows([*rows, *rows], [], random.Random(5))
    assert [one.completion for one in built] != sorted(one.completion for one in built)
    assert set(built[0].model_dump()) == {"prompt", "completion"}


def test_fixed_rows_say_where_they_come_from():
    task = SeedTask(
        id="s", name="n", instruction="I", instances=[{"input": "", "output": "O"}], is_classification=False
    )
    built = build_finetuning_rows([row(1)], build_seed_rows([task]), random.Random(123), "fixed")
    assert sorted((one.instruction, one.is_seed) for one in built) == [("I", True), ("Task 1", False)]


def test_sampling_instructions_keeps_their_rows():
    rows = [row(n, str(k)) for n in range(10) for k in range(2)]
    sampled = sample_instructions(rows, 3, random.Random(123))
    assert len({one.instruction for one in sampled}) == 3 and len(sampled) == 6
    assert sample_instructions(rows, 99, random.Random(123)) == rows
