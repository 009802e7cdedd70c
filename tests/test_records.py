"""Bad files: what, where, and what to do."""

import pytest

from selfinstruct.files import InputError, append_record, load_records, read_json, write_json, write_records
from selfinstruct.records import MachineInstances, MachineInstruction, SeedTask, load_seed_tasks

GOOD = '{"id": "a", "name": "n", "instruction": "Do it.", "instances": [{"input": "", "output": "x"}], "is_classification": false}'


def written(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "seed_tasks.jsonl"
    path.write_bytes(text.encode(encoding))
    return path


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no seed tasks in it"),
        ("\n\n", "no seed tasks in it"),
        (GOOD + "\n{not json", r":2: not JSON"),
        (GOOD + '\n{"n": ' + 5000 * "7" + "}", r":2: not JSON"),
        (GOOD + "\n" + 100_000 * "[", r":2: not JSON"),
        (GOOD + "\n[1]", r":2: a list, not an object"),
        ('{"id": "a"}', r':1: missing "name"; a SeedTask needs id, name, instruction, instances, is_classification'),
        (GOOD.replace('[{"input": "", "output": "x"}]', "[]"), r':1: "instances": List should have at least 1 item'),
        (GOOD.replace("false", '"perhaps"'), r':1: "is_classification"'),
        (GOOD + "\n" + GOOD.replace("Do it.", "Other."), r':2: duplicate id "a", first on line 1; each needs its own'),
        (GOOD + "\n" + GOOD.replace('"a"', '"b"'), r':2: duplicate instruction "Do it.", first on line 1'),
    ],
)
def test_bad_seed_tasks(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        load_seed_tasks(written(tmp_path, text))


def test_missing_and_wrongly_encoded_files(tmp_path):
    with pytest.raises(InputError, match="no such file"):
        load_seed_tasks(tmp_path / "none.jsonl")
    with pytest.raises(InputError, match="not UTF-8"):
        load_seed_tasks(written(tmp_path, GOOD.replace("Do it.", "Café été"), "latin-1"))


def test_a_byte_order_mark_and_unknown_fields_are_fine(tmp_path):
    path = written(tmp_path, "\ufeff" + GOOD.replace('"id"', '"extra": 1, "id"'))
    assert load_records(path, SeedTask)[0].extra == 1


def test_writing_is_whole_or_not_at_all(tmp_path):
    path = write_records(tmp_path / "deep/er/x.jsonl", [{"a": "é"}])
    with pytest.raises(TypeError):
        write_records(path, [{"a": object()}])
    append_record(path, {"b": 2})
    assert path.read_text(encoding="utf-8") == '{"a": "é"}\n{"b": 2}\n'
    assert [file.name for file in path.parent.iterdir()] == ["x.jsonl"]


def test_unwritable_folder(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        write_json(tmp_path / "file" / "x.json", {})


def test_json(tmp_path):
    assert read_json(write_json(tmp_path / "x.json", {"a": 1})) == {"a": 1}
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(InputError, match="not JSON"):
        read_json(tmp_path / "x.json")


@pytest.mark.parametrize(
    "odd",
    [
        {"most_similar": ["Name a river."]},
        {"most_similar": [["Name a river.", 0.4]]},
        {"most_similar": None, "avg_similarity_score": None},
        {"avg_similarity_score": "n/a"},
        {"most_similar": {"Name a river.": "near"}},
    ],
)
def test_a_field_of_another_kind_that_nobody_needs_is_set_aside_and_kept(odd):
    row = {"instruction": "Name a lake.", "raw_instances": "x", **odd}
    for record in (MachineInstruction, MachineInstances):
        found = record.model_validate(row)
        assert (found.instruction, found.most_similar, found.avg_similarity_score) == ("Name a lake.", {}, 0.0)
        assert found.model_dump()["not_read"] == odd
    assert "not_read" not in MachineInstruction(instruction="Name a lake.").model_dump()


def test_a_field_that_is_needed_is_not_set_aside(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_text('{"instruction": 7, "most_similar": ["a"]}\n')
    with pytest.raises(InputError, match=r'rows.jsonl:1: "instruction": Input should be a valid string'):
        load_records(path, MachineInstruction)
