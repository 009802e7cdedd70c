"""What each column is trained on, and which tokens carry loss. Only the tests that ask for the tiny model need torch."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from helpers.tiny_model import END_TOKEN
from helpers.trained import write_base

from selfinstruct.files import InputError, load_records, write_json, write_records
from selfinstruct.records import FinetuningRow, InstanceRow, SeedTask
from selfinstruct.steps.export import build_finetuning_rows, build_seed_rows
from selfinstruct.training.lora import Settings, describe_training, find_progress
from selfinstruct.training.rows import (
    TRAINED,
    TokenRow,
    collate_rows,
    count_unmovable,
    lay_out_rows,
    load_pairs,
    mark_tokens,
    plan_batches,
    shuffle_outputs,
    sort_batches,
    split_columns,
    tokenise_rows,
    write_training_files,
)

SEEDS = [
    SeedTask.model_validate({
        "id": f"seed_task_{i}", "name": "n", "instruction": text, "is_classification": False,
        "instances": [{"input": "", "output": f"Seed answer {i}."}],
    })
    for i, text in enumerate(["Write a letter.", "Name a city.", "Tell a story."])
]  # fmt: skip
GENERATED = [InstanceRow(instruction=f"Task {i}.", input="x" * (i % 2), output=f"Answer {i}.") for i in range(7)]
EXPORT = build_finetuning_rows(GENERATED, build_seed_rows(SEEDS), random.Random(1))


def outputs(rows):
    return Counter(row.completion.strip() for row in rows)


def test_run_data_is_the_exported_file_byte_for_byte(tmp_path):
    exported = write_records(tmp_path / "export.jsonl", EXPORT)
    files = write_training_files(tmp_path, SEEDS, load_records(exported, FinetuningRow), 42)
    assert files["run_data"].read_bytes() == exported.read_bytes()
    assert list(files) == list(TRAINED)
    assert files["seeds_only"] == tmp_path / "adapters/seeds_only/train.jsonl"


def test_the_two_parts_are_the_export_and_share_nothing():
    columns = split_columns(SEEDS, EXPORT, 42)
    assert len(columns["seeds_only"]) == 3 and len(columns["generated_only"]) == 7
    assert sorted(map(str, [*columns["seeds_only"], *columns["generated_only"]])) == sorted(map(str, EXPORT))
    assert all("Seed answer" in row.completion for row in columns["seeds_only"])


def test_an_export_without_seed_tasks_still_has_a_column_of_them():
    rows = build_finetuning_rows(GENERATED, [], random.Random(1))
    columns = split_columns(SEEDS, rows, 42)
    assert columns["run_data"] == rows == columns["generated_only"]
    assert outputs(columns["seeds_only"]) == Counter(f"Seed answer {i}.<|endoftext|>" for i in range(3))


def test_shuffled_outputs_keep_prompts_outputs_and_the_space_of_each_template():
    shuffled = shuffle_outputs(EXPORT, random.Random(3))
    assert [row.prompt for row in shuffled] == [row.prompt for row in EXPORT]
    assert outputs(shuffled) == outputs(EXPORT)
    assert all(a.completion.strip() != b.completion.strip() for a, b in zip(EXPORT, shuffled, strict=True))
    assert all(row.completion.startswith(" ") == row.prompt.endswith("Output:") for row in shuffled)


def answered(*outputs):
    return [FinetuningRow(prompt=f"Do {i}.\n", completion=f"{text}<|endoftext|>") for i, text in enumerate(outputs)]


def count_own(rows, shuffled):
    texts = ([row.completion.removesuffix("<|endoftext|>").strip() for row in some] for some in (rows, shuffled))
    return sum(a == b for a, b in zip(*texts, strict=True))


@pytest.mark.parametrize("shares", [(4, 4), (3, 2, 2), (4, 1, 1, 1, 1), (9, 8, 1), (2,) * 40], ids=str)
def test_no_row_keeps_an_output_of_the_same_text_where_that_can_be(shares):
    """ "Yes" is half of the outputs, or every text comes twice: whatever is drawn, nobody keeps their own."""
    rows = answered(*(f"text {kind}" for kind, count in enumerate(shares) for _ in range(count)))
    for seed in range(50):
        order = random.Random(-seed).sample(rows, len(rows))
        shuffled = shuffle_outputs(order, random.Random(seed))
        assert count_own(order, shuffled) == count_unmovable(order) == 0
        assert outputs(shuffled) == outputs(order) and [row.prompt for row in shuffled] == [row.prompt for row in order]


def test_of_an_output_that_most_rows_share_as_few_as_can_be_stay_and_they_are_counted():
    rows = answered(*["Yes", " Yes", "Yes ", "Yes", "No", "Maybe"])  # blanks around a text make no other one
    shuffled = shuffle_outputs(rows, random.Random(5))
    assert count_unmovable(rows) == count_own(rows, shuffled) == 2
    assert shuffled == shuffle_outputs(rows, random.Random(5))
    assert any(shuffle_outputs(rows, random.Random(seed)) != shuffled for seed in range(9)), (
        "another seed, another draw"
    )
    assert shuffle_outputs([], random.Random(5)) == [] and count_unmovable([]) == 0
    assert shuffle_outputs(rows[:1], random.Random(5)) == rows[:1] and count_unmovable(rows[:1]) == 1


def test_an_adapter_of_the_file_shuffled_otherwise_is_not_taken_for_this_one(tmp_path):
    base = write_base(tmp_path)
    earlier, now = (write_training_files(tmp_path / f"{seed}", SEEDS, EXPORT, seed) for seed in (1, 2))
    for column, state in {"shuffled_outputs": "replaces", "run_data": "finished"}.items():
        folder = tmp_path / f"trained/{column}"
        write_json(folder / "training.json", describe_training(base, earlier[column], Settings()))
        (folder / "peft").mkdir()
        (folder / "peft/adapter_model.safetensors").write_bytes(b"")
        found = find_progress(folder, describe_training(base, now[column], Settings()))
        assert found.state == state and ("train_file sha256" in found.changed) == (state == "replaces")


def test_the_same_arguments_write_the_same_files_and_leave_them_alone(tmp_path):
    first = write_training_files(tmp_path, SEEDS, EXPORT, 42)
    before = {name: (path.read_bytes(), path.stat().st_mtime_ns) for name, path in first.items()}
    write_training_files(tmp_path, SEEDS, EXPORT, 42)
    assert before == {name: (path.read_bytes(), path.stat().st_mtime_ns) for name, path in first.items()}
    write_training_files(tmp_path, SEEDS, EXPORT, 43)
    assert first["shuffled_outputs"].read_bytes() != before["shuffled_outputs"][0]
    assert first["run_data"].read_bytes() == before["run_data"][0]


def test_rows_of_other_data_are_laid_out_with_the_seed_tasks():
    rows, without = lay_out_rows([*GENERATED, InstanceRow(instruction="No.", input="", output=" ")], SEEDS, 5)
    assert without == 1 and len(rows) == 10
    assert all(row.completion.endswith("<|endoftext|>") for row in rows)


@pytest.mark.parametrize(
    "line", [{"prompt": "a", "completion": ""}, {"prompt": "a"}, {"prompt": "a", "completion": "<|endoftext|>"}]
)
def test_a_line_without_a_completion_is_named(tmp_path, line):
    path = write_records(tmp_path / "train.jsonl", [{"prompt": "a", "completion": " b"}, line])
    with pytest.raises(InputError, match=r"train\.jsonl:2: no completion to learn"):
        load_pairs(path)


def test_an_empty_file_is_refused(tmp_path):
    (tmp_path / "train.jsonl").write_text("")
    with pytest.raises(InputError, match="no rows to train on"):
        load_pairs(tmp_path / "train.jsonl")


class Letters:
    """A tokenizer with a token a letter, one that opens every text, and 2 as its end."""

    eos_token_id = END_TOKEN

    def encode(self, text, add_special_tokens=True):
        return [1] * add_special_tokens + [ord(letter) for letter in text]


def test_the_mark_of_the_end_is_the_models_own_end_token_and_a_text_opens_once():
    [row] = tokenise_rows([("ab", "c<|endoftext|>")], Letters())
    assert row == TokenRow([1, ord("a"), ord("b"), ord("c"), END_TOKEN], 3)
    [without] = tokenise_rows([("ab", "c")], Letters())
    assert without.ids[-1] == ord("c")  # no end in the file, none in the row


def test_a_long_row_keeps_the_end_of_its_prompt_and_loses_that_of_its_completion():
    pairs = [("p" * 5 + "q" * 30, "c" * 60 + "<|endoftext|>"), ("a", "b<|endoftext|>")]
    long, short = tokenise_rows(pairs, Letters(), max_length=40)
    assert len(long.ids) == 40 and long.ids[-1] == ord("c") and long.ids[: long.prompt_length] == [ord("q")] * 8
    assert short.ids[-1] == END_TOKEN


ROWS = [TokenRow(list(range(1, 4 + number % 9)), 2) for number in range(60)]


def test_every_epoch_has_every_row_once_and_no_batch_is_too_large():
    plan = plan_batches(ROWS, 7, epochs=2, batch_tokens=40, batch_rows=4)
    assert Counter(number for batch in plan for number in batch) == dict.fromkeys(range(60), 2)
    assert all(len(batch) <= 4 and len(batch) * max(len(ROWS[n].ids) for n in batch) <= 40 for batch in plan)


def test_columns_get_equal_steps_whatever_their_size():
    wanted = len(plan_batches(ROWS, 7, epochs=2))
    assert len(plan_batches(ROWS[:5], 7, steps=wanted)) == wanted
    assert plan_batches(ROWS, 7, steps=3) == plan_batches(ROWS, 7, epochs=9)[:3]


def test_the_plan_is_drawn_by_its_seed():
    assert plan_batches(ROWS, 7) == plan_batches(ROWS, 7) != plan_batches(ROWS, 8)


def test_batches_without_chance_are_sorted_and_whole():
    batches = sort_batches(ROWS, 40)
    assert sorted(number for batch in batches for number in batch) == list(range(60))


def test_no_prompt_token_and_no_padding_carries_loss():
    torch = pytest.importorskip("torch")
    rows = [TokenRow([5, 6, 7, 8], 3), TokenRow([9, 10, 11, 12, 13, 14], 2)]
    ids, mask, labels = collate_rows(rows)
    assert labels.tolist() == [[-100, -100, -100, 8, -100, -100], [-100, -100, 11, 12, 13, 14]]
    assert torch.equal(ids[labels != -100], labels[labels != -100])
    assert mask.sum(1).tolist() == [4, 6]


def test_the_marked_tokens_are_the_completion_and_the_end(loaded):
    _, tokenizer = loaded
    [row] = tokenise_rows([("Say it.\nOutput:", " thin<|endoftext|>")], tokenizer)
    marked = mark_tokens(row, tokenizer)
    assert "".join(text for text, carries in marked if not carries) == "Say it.\nOutput:"
    assert "".join(text for text, carries in marked if carries) == " thin<|im_end|>"
