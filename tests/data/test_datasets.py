"""Data sets of every shape load; what cannot be read is named by file and line, and keeps no other from loading."""

from __future__ import annotations

import gzip
import json

import pytest
from helpers.places import PREDICTIONS, SAMPLES, find_published

from selfinstruct.data.datasets import files_of, find_author, load_dataset, load_datasets
from selfinstruct.data.formats import Row
from selfinstruct.files import PROJECT_ROOT, InputError
from selfinstruct.runfolder import RunFolder

EXPECTED = Row("Name a colour of the sky.", "", "Blue")
SHAPES = {
    "released": {"instruction": "Name a colour of the sky.", "input": "", "output": "Blue"},
    "without_input": {"instruction": "Name a colour of the sky.", "output": "Blue"},
    "null_input": {"instruction": "Name a colour of the sky.", "input": None, "output": "Blue"},
    "chat_parts": {
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Name a colour of the sky."}]},
            {"role": "assistant", "content": [{"type": "output_text", "text": "Blue"}]},
        ]
    },
    "context": {"instruction": "Name a colour of the sky.", "context": "", "response": "Blue", "category": "qa"},
    "predictions": {
        "prompt": "Name ...\nOutput:", "instruction": "Name a colour of the sky.", "input": "", "response": "Blue", "target": "B",
    },
    "finetuning": {"prompt": "Name a colour of the sky.", "completion": "Blue<|endoftext|>"},
    "chat": {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Name a colour of the sky."},
            {"role": "assistant", "content": "Blue"},
            {"role": "user", "content": "Another one?"},
        ]
    },
    "sharegpt": {
        "conversations": [{"from": "human", "value": "Name a colour of the sky."}, {"from": "gpt", "value": "Blue"}]
    },
}  # fmt: skip


def write_lines(path, *rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows), encoding="utf-8")
    return path


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("layout", ["jsonl", "array", "indented", "gzip", "viewer", "memory"])
def test_every_shape_in_every_layout(tmp_path, shape, layout):
    row = SHAPES[shape]
    path = tmp_path / "data.json"
    if layout == "jsonl":
        write_lines(path, row, "", row)
    elif layout == "gzip":
        path.write_bytes(gzip.compress((json.dumps(row) + "\n").encode() * 2))
    elif layout != "memory":
        value = [row, row] if layout != "viewer" else {"rows": [{"row_idx": i, "row": row} for i in range(2)]}
        path.write_text(json.dumps(value, indent=None if layout == "array" else 2))
    dataset = load_dataset([row, row] if layout == "memory" else path)
    assert dataset.rows == [EXPECTED, EXPECTED]
    assert dataset.instructions == ["Name a colour of the sky."]
    assert dataset.has_instances
    assert dataset.name == ("rows in memory" if layout == "memory" else "data")


def test_shapes_that_hold_prompts_say_so(tmp_path):
    for shape in ("chat", "sharegpt", "finetuning"):
        assert "together" in load_dataset(write_lines(tmp_path / "d.jsonl", SHAPES[shape])).notes[0]


def test_tasks_with_several_instances(tmp_path):
    task = {"id": "t", "instruction": "Say yes.", "is_classification": True}
    task["instances"] = [{"input": "a", "output": "Yes"}, {"input": "", "output": "yes"}]
    assert load_dataset(write_lines(tmp_path / "d.jsonl", task)).rows == [
        Row("Say yes.", "a", "Yes", True),
        Row("Say yes.", "", "yes", True),
    ]


def test_instructions_alone(tmp_path):
    dataset = load_dataset(write_lines(tmp_path / "d.jsonl", {"instruction": "Go home."}, {"instruction": "Go away."}))
    assert dataset.rows == [Row("Go home."), Row("Go away.")]
    assert not dataset.has_instances


def test_lone_surrogates_do_not_survive(tmp_path):
    row = load_dataset(write_lines(tmp_path / "d.jsonl", '{"instruction": "Say \\ud83d now", "output": "é"}')).rows[0]
    assert row == Row("Say ? now", "", "é")
    row.instruction.encode("utf-8")


GOOD = {"instruction": "Say yes to me.", "input": "", "output": "Yes"}
BAD = {
    "not_json": (b'{"instruction": "a"}\n{"instruction": \n', ":2", "not JSON"),
    "no_object": (b'{"instruction": "a"}\n[1, 2]\n', ":2", "a list, not an object"),
    "missing_field": (json.dumps(GOOD).encode() + b'\n\n{"instruction": "a", "input": ""}\n', ":3", 'missing "output"'),
    "mixed_shapes": (b'{"instruction": "a"}\n{"instruction": "a", "instances": []}\n', ":2", "all rows of a file must be alike"),
    "unknown_fields": (b'{"title": "a", "body": "b"}\n', ":1", "fields: title, body; expected one of"),
    "no_text": (b'{"instruction": "a", "input": "", "output": {"a": 7}}\n', ":1", "\"output\" is {'a': 7}; expected text"),
    "no_instruction": (b'{"instruction": " ", "input": "", "output": "b"}\n', ":1", '"instruction" is empty'),
    "instances": (b'{"instruction": "a", "instances": "b"}\n', ":1", '"instances" must be a list'),
    "chat": (b'{"messages": [{"role": "user", "content": "a"}]}\n', ":1", "needs a user's and an assistant's message"),
    "image": (
        b'{"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, {"role": "assistant"}]}\n',
        ":1", "\"content\" has a part that is no text ({'type': 'image_url'",
    ),
    "part_of_a_list": (
        b'{"messages": [{"role": "user", "content": [7]}, {"role": "assistant", "content": "b"}]}\n', ":1", "no text (7)",
    ),
    "object_of_lines": (b'{\n"rows": [\n{"instruction": }]}', ":3", "not JSON"),
    "latin_1": (b'{"instruction": "a"}\n{"instruction": "caf\xe9"}\n', ":2", "not UTF-8 text (byte 0xe9 at 21)"),
    "utf_16": ('{"instruction": "a"}\n'.encode("utf-16"), ":1", "not UTF-8 text (byte 0xff at 1)"),
    "empty": (b"", "", "nothing in it"),
    "blank": (b"\n\n", "", "nothing in it"),
    "empty_array": (b"[]", "", "nothing in it"),
    "array": (b'[{"instruction": "a"},\n 3]', ", row 2", "a int, not an object"),
    "broken_array": (b'[{"instruction": "a"},\n {"instruction": }]', ":2", "not JSON"),
    "cut_gzip": (gzip.compress(b'{"instruction": "a"}\n' * 999)[:60], "", "cannot be read"),
    "digits": (b'{"instruction": ' + b"7" * 5000 + b"}", ":1", "not a row of data"),
    "deep": (b"[" * 200_000, ":1", "not a row of data"),
    "parquet": (b"PAR1garbage", "", "arquet"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD)
def test_what_cannot_be_read_is_named(tmp_path, case):
    content, place, said = BAD[case]
    path = tmp_path / f"{case}.jsonl"
    path.write_bytes(content)
    with pytest.raises(InputError) as caught:
        load_dataset(path)
    assert f"{case}.jsonl{place}" in str(caught.value)
    assert said in str(caught.value)


def test_several_text_parts_are_lines_of_one_text():
    parts = [{"type": "text", "text": "Say yes."}, {"type": "text", "text": "Loudly."}]
    chat = [{"role": "user", "content": parts}, {"role": "assistant", "content": []}]
    assert load_dataset([{"messages": chat}]).rows == [Row("Say yes.\nLoudly.", "", "")]


def test_nulls_are_counted_and_said_and_empty_texts_are_not():
    nulls = [{**GOOD, "input": None, "output": None}, {**GOOD, "output": None}, GOOD, {**GOOD, "output": ""}]
    dataset = load_dataset(nulls)
    assert dataset.notes == ("1 row without an input (null)", "2 rows without an output (null)")
    assert dataset.rows[1] == dataset.rows[3]
    assert load_dataset([GOOD]).notes == ()
    silent = [{"role": "user", "content": "Go."}, {"role": "assistant", "content": None}]
    assert load_dataset([{"messages": silent}]).notes[1:] == ("1 row without an output (null)",)
    no_input_at_all = {"instruction": "Go.", "instances": [{"output": "Gone."}]}
    assert load_dataset([no_input_at_all]).notes == ()


def test_no_such_file():
    with pytest.raises(InputError, match="no such file; data takes a run folder"):
        load_dataset("outputs/nowhere.jsonl")


def test_a_list_of_files_where_one_is_wanted():
    with pytest.raises(InputError, match="one data set, please: notebooks 10 to 13 take several"):
        load_dataset("outputs/one.jsonl,outputs/two.jsonl")


def test_a_folder_of_files_is_read_as_one_data_set(tmp_path):
    for name in ("data/train.jsonl", "data/test.json", "dataset_info.json", ".cache/x.jsonl", "README.md"):
        (tmp_path / "mine" / name).parent.mkdir(parents=True, exist_ok=True)
        write_lines(tmp_path / "mine" / name, GOOD if "data/" in name else {"splits": []})
    dataset = load_dataset(tmp_path / "mine")
    assert (dataset.name, len(dataset.rows), dataset.notes) == ("mine", 2, ("2 files, all splits",))
    write_lines(tmp_path / "mine/data/train2.jsonl", {"instruction": "Go."})
    with pytest.raises(InputError, match=r'train2.jsonl:1: missing "input"; .*test.json:1 has instruction, input'):
        load_dataset(tmp_path / "mine")


def test_a_folder_without_data_says_what_was_looked_for(tmp_path):
    (tmp_path / "state.json").write_text("{}")
    looked_for = r"looked for a run's files \(run.json, .*\*.jsonl, \*.json, \*.parquet"
    with pytest.raises(InputError, match=f"no data in this folder; {looked_for}"):
        load_dataset(tmp_path)


@pytest.mark.parametrize(
    "written", ["run.json", "machine_generated_instances.jsonl", "is_clf_or_not_x_template_1.jsonl"]
)
def test_a_run_folder_is_never_read_as_a_folder_of_files(tmp_path, written):
    write_lines(tmp_path / written, {"instruction": "Go."})
    with pytest.raises(InputError, match="05_filter_and_export writes it"):
        load_dataset(tmp_path)


def test_a_source_is_never_empty_and_does_not_depend_on_where_python_started(tmp_path, monkeypatch):
    for name in ("one/.jsonl", "two/rows.jsonl", "three/rows.jsonl"):
        (tmp_path / name).parent.mkdir()
        write_lines(tmp_path / name, GOOD)
    first, *rows = [load_dataset(tmp_path / name) for name in ("one/.jsonl", "two/rows.jsonl", "three/rows.jsonl")]
    assert first.name == ".jsonl" and first.source
    assert [one.name for one in rows] == ["rows", "rows"] and rows[0].source != rows[1].source
    before = load_dataset("seeds/seed_tasks.jsonl").source
    monkeypatch.chdir(tmp_path)
    assert load_dataset("seeds/seed_tasks.jsonl").source == before == "seeds/seed_tasks.jsonl"
    assert load_dataset(PROJECT_ROOT / "seeds" / "seed_tasks.jsonl").source == before
    assert load_dataset([GOOD]).source == "rows in memory"


def write_tables(folder):
    """The same chat rows as Parquet, as an Arrow file, and as the folder that `Dataset.save_to_disk` writes."""
    import pyarrow as pa
    from pyarrow import parquet

    table = pa.Table.from_pylist(
        [{"messages": [{"role": "user", "content": "Go."}, {"role": "assistant", "content": "Gone."}]}] * 3
    )
    parquet.write_table(table, folder / "rows.parquet")
    with pa.ipc.new_file(folder / "rows.arrow", table.schema) as out:
        out.write_table(table)
    saved = folder / "saved"
    for name in ("train/data-00000-of-00002.arrow", "train/data-00001-of-00002.arrow", "train/cache-1.arrow"):
        (saved / name).parent.mkdir(parents=True, exist_ok=True)
        with pa.ipc.new_stream(saved / name, table.schema) as out:
            out.write_table(table)
    (saved / "train" / "state.json").write_text("{}")
    return folder / "rows.parquet", folder / "rows.arrow", saved


def test_parquet_arrow_and_saved_data_sets(tmp_path):
    *files, saved = map(load_dataset, write_tables(tmp_path))
    for dataset in (*files, saved):
        assert set(dataset.rows) == {Row("Go.", "", "Gone.")}
    assert [len(one.rows) for one in (*files, saved)] == [3, 3, 6]  # what `datasets` caches is left out
    assert saved.name == "saved" and saved.notes[1:] == ("2 files, all splits",)


def test_json_files_beside_tables_are_left_out_with_a_note(tmp_path):
    *_, saved = write_tables(tmp_path)
    write_lines(saved / "copy.jsonl", GOOD)
    assert load_dataset(saved).notes[-1] == "JSON files beside the tables left out: 1"


def test_a_cut_table_is_named(tmp_path):
    path, *_ = write_tables(tmp_path)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(InputError, match=r"rows.parquet: not a whole Parquet or Arrow file"):
        load_dataset(path)


def test_the_others_go_through(tmp_path):
    good, bad = write_lines(tmp_path / "good.jsonl", GOOD), write_lines(tmp_path / "bad.jsonl", "{")
    run = RunFolder(tmp_path / "run", "10_describe_dataset")
    datasets, problems = load_datasets(f"{good}, {bad}, {good}", run)
    assert [one.name for one in datasets] == ["good", "good (2)"]
    assert len(problems) == 1 and "bad.jsonl:1" in problems[0]
    assert load_datasets([good, bad], run)[0][0].rows == datasets[0].rows
    with pytest.raises(InputError, match=r"bad.jsonl:1.*nothing.jsonl"):
        load_datasets([bad, tmp_path / "nothing.jsonl"], run)


def test_a_comma_in_a_name_is_no_separator(tmp_path):
    path = write_lines(tmp_path / "a, b.jsonl", GOOD)
    assert load_datasets(str(path), RunFolder(tmp_path, "x"))[0][0].name == "a, b"
    other = write_lines(tmp_path / "c.jsonl", GOOD)
    for given in (f"{path},{other}", f" {path} , {other},", f"{other},{path}"):  # as `compare` joins them
        found, problems = load_datasets(given, RunFolder(tmp_path, "x"))
        assert sorted(one.name for one in found) == ["a, b", "c"] and problems == []
    assert load_datasets(f"{path},nothing,{other}", RunFolder(tmp_path))[1][0].startswith("nothing")


@pytest.fixture
def run(tmp_path):
    folder = tmp_path / "mine"
    (folder / "finetuning_data").mkdir(parents=True)
    write_lines(
        folder / "machine_generated_instructions.jsonl", {"instruction": "Say yes."}, {"instruction": "Say no."}
    )
    write_lines(
        folder / "is_clf_or_not_some_template_1.jsonl",
        {"instruction": "Say yes.", "is_classification": " Yes"},
        {"instruction": "Say no.", "is_classification": " No"},
    )
    write_lines(
        folder / "finetuning_data/all_generated_instances.jsonl",
        {"instruction": "Say yes.", "input": "", "output": "Yes"},
    )
    (folder / "run.json").write_text('{"model": {"model": "SmolLM2-135M-Instruct.Q4_1"}}')
    return RunFolder(folder, "10_describe_dataset")


def test_a_run_folder_has_two_parts(run):
    datasets, problems = load_datasets("", run)
    assert datasets[0].rows == [Row("Say yes.", "", "Yes", True)]
    assert (datasets[0].name, problems) == ("mine", [])
    assert load_datasets("", run, part="instructions")[0][0].rows == [
        Row("Say yes.", None, None, True),
        Row("Say no.", None, None, False),
    ]
    assert load_dataset(run.path).rows == datasets[0].rows


def test_a_small_models_words_are_labelled_wherever_they_are_read_from(run):
    for data in (
        run,
        run.path,
        run / "machine_generated_instructions.jsonl",
        run / "finetuning_data/all_generated_instances.jsonl",
    ):
        assert load_dataset(data).label == "written by SmolLM2-135M, a very small model"


@pytest.mark.parametrize(
    ("model", "label"),
    [("scripted", "written by a script, for tests only"), ("some-70b", "written by some-70b"), ("", "")],
)
def test_other_models_are_named(run, model, label):
    (run / "run.json").write_text(json.dumps({"model": {"model": model}}))
    assert load_dataset(run).label == label


STEPS = ("03_identify_classification", "04_generate_instances", "05_filter_and_export")


@pytest.mark.parametrize(
    ("recorded", "label"),
    [
        ({}, False),
        ({step: {"quirks": "published"} for step in STEPS}, False),
        ({step: {"quirks": "fixed"} for step in STEPS}, True),
        ({STEPS[0]: {"quirks": "fixed"}}, True),
        ({STEPS[0]: {"quirks": "published"}, STEPS[2]: {"quirks": "fixed"}}, True),  # as the instances were made
        ({STEPS[0]: {"quirks": "fixed"}, STEPS[1]: {"model": "m"}, STEPS[2]: {"quirks": "published"}}, False),
    ],
)
@pytest.mark.parametrize("part", ["instances", "instructions"])
def test_labels_are_read_under_the_quirks_that_the_run_records(run, recorded, label, part):
    answers = [{"instruction": "Say yes.", "is_classification": " yes, it is."}]
    write_lines(run / "is_clf_or_not_some_template_1.jsonl", *answers)
    (run / "run.json").write_text(json.dumps({"parameters": recorded}))
    dataset = load_dataset(run, part)
    assert dataset.rows[0].is_classification is label
    assert dataset.notes == (("labels read with quirks=fixed",) if label else ())


def test_an_empty_run_folder_says_which_notebook_writes_the_file(tmp_path):
    with pytest.raises(InputError, match="05_filter_and_export writes it"):
        load_datasets("", RunFolder(tmp_path, "10_describe_dataset"))


def test_known_authors():
    assert find_author("all_instances_82K") == "written by GPT-3, as released"
    assert find_author("davinci_predictions") == "responses of davinci"
    assert find_author("mine") == ""


@pytest.mark.parametrize(
    ("name", "rows", "instructions"),
    [
        ("all_instances", 89, 67),
        ("user_oriented_instructions", 21, 20),
        ("predictions/davinci_predictions", 21, 20),
    ],
)
def test_the_shapes_of_the_release_load(name, rows, instructions):
    dataset = load_dataset(SAMPLES / f"{name}.jsonl")
    assert (len(dataset.rows), len(dataset.instructions)) == (rows, instructions)
    assert all(row.output is not None for row in dataset.rows)


@pytest.mark.parametrize(
    ("name", "rows", "instructions"),
    [
        ("data/seed_tasks.jsonl", 175, 175),
        ("data/gpt3_generations/batch_221203/all_instances_82K.jsonl", 82_439, 52_445),
        ("human_eval/user_oriented_instructions.jsonl", 252, 251),
        *((PREDICTIONS.format(model), 252, 251) for model in ("davinci", "davinci-self-instruct", "text-davinci-001")),
    ],
)
def test_the_published_files_load(name, rows, instructions):
    dataset = load_dataset(find_published(name))
    assert (len(dataset.rows), len(dataset.instructions)) == (rows, instructions)


def test_the_folder_of_predictions_loads():
    dataset = load_dataset(SAMPLES / "predictions")
    assert (dataset.name, len(dataset.rows), dataset.notes) == ("predictions", 42, ("2 files, all splits",))


def test_the_files_of_a_folder_are_those_that_hold_its_data(tmp_path):
    write_lines(tmp_path / "plain" / "data" / "train.jsonl", GOOD)
    write_lines(tmp_path / "plain" / "dataset_info.json", {})
    assert [path.name for path in files_of(tmp_path / "plain")] == ["train.jsonl"]
    for name in (
        "run.json",
        "parses.jsonl",
        "machine_generated_instructions.jsonl",
        "finetuning_data/all_generated_instances.jsonl",
    ):
        write_lines(tmp_path / "run" / name, GOOD)
    names = {path.name for path in files_of(tmp_path / "run")}
    assert names == {"machine_generated_instructions.jsonl", "all_generated_instances.jsonl"}


def test_every_data_set_has_a_name_of_its_own(tmp_path):
    paths = [
        tmp_path / folder / name for folder, name in (("c", "rows (2).jsonl"), ("a", "rows.jsonl"), ("b", "rows.jsonl"))
    ]
    for number, path in enumerate(paths):
        write_lines(path, {**GOOD, "output": str(number)})
    datasets, _ = load_datasets([*paths, paths[1]], RunFolder(tmp_path, ""))
    assert [one.name for one in datasets] == ["rows (2)", "rows", "rows (3)", "rows (4)"]
    assert [one.rows[0].output for one in datasets] == ["0", "1", "2", "1"]


def test_a_relative_path_is_the_current_folders_where_it_is_there(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("mine.jsonl", "with, comma.jsonl"):
        (tmp_path / name).write_text(json.dumps(SHAPES["released"]) + "\n")
    assert load_dataset("mine.jsonl").rows == [EXPECTED]
    both, problems = load_datasets("with, comma.jsonl", RunFolder(tmp_path))
    assert [one.name for one in both] == ["with, comma"] and not problems
    assert load_dataset("seeds/seed_tasks.jsonl").source == "seeds/seed_tasks.jsonl"  # else from the project's root
