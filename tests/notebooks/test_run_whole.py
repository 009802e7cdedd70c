"""The main job from end to end, every notebook in a real kernel, with a scripted model; the numbers they record are read."""

import json
from collections import Counter
from pathlib import Path

import nbformat
import pytest
from helpers.notebooks import run_cells
from helpers.scripted import MODEL, ScriptedServer
from helpers.scripted_method import respond

from selfinstruct.files import load_records
from selfinstruct.models.upkeep import export_responses, import_responses
from selfinstruct.records import MachineInstruction, Rejection
from selfinstruct.runfolder import NOTEBOOKS_DIR, RunFolder
from selfinstruct.runner.run import choose_notebooks, run_notebooks

KEY = "sk-scripted-key-that-must-show-nowhere"
STEPS = ["02_generate_instructions", "03_identify_classification", "04_generate_instances", "05_filter_and_export"]
TARGET = 24
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """One scripted server and one store for the whole module."""
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch, ScriptedServer(respond) as server:
        patch.setenv("OPENAI_API_KEY", KEY)
        yield folder, server


def parameters(world, **changed):
    folder, server = world
    return {
        "model": MODEL, "base_url": server.url, "store": str(folder / "store.sqlite"), "num_instructions_to_generate": TARGET,
        **changed,
    }  # fmt: skip


@pytest.fixture(scope="module")
def first(world):
    """The main job, once."""
    folder = world[0] / "first"
    outcomes = run_notebooks(folder, parameters(world))
    return folder, outcomes


def run_steps(folder: Path, names: list[str], given: dict) -> None:
    """The cells of those notebooks, without a kernel: as the main job writes them, and quicker."""
    for name in names:
        run_cells(name, folder, **given)


def results(folder: Path, name: str) -> dict:
    return json.loads((folder / "results" / f"{name}.json").read_text())


def data_files(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*.jsonl"))}


def test_every_main_notebook_ran_without_an_error_cell(first):
    folder, outcomes = first
    assert [outcome.name for outcome in outcomes] == [path.stem for path in choose_notebooks(NOTEBOOKS_DIR)]
    for outcome in outcomes:
        page = nbformat.read(folder / "notebooks" / f"{outcome.name}.ipynb", as_version=4)
        code = [cell for cell in page.cells if cell.cell_type == "code" and cell.source]
        assert all(output.output_type != "error" for cell in code for output in cell.outputs)
        assert code[-1].outputs, outcome.name
        assert (folder / "results" / f"{outcome.name}.json").is_file()
    assert (folder / "report.html").is_file()


def test_candidates_are_accepted_or_rejected(first):
    folder, _ = first
    ledger = Counter(row.step for row in load_records(folder / "rejections.jsonl", Rejection))
    step1, step4 = results(folder, "02_generate_instructions"), results(folder, "05_filter_and_export")
    assert step1["candidates"] == step1["accepted"] + sum(step1["rejected"].values())
    assert step1["accepted"] >= TARGET and step1["failed"] == 0
    assert ledger["1_instructions"] == sum(step1["rejected"].values())
    assert step4["candidates"] == step4["accepted"] + sum(step4["rejected"].values())
    assert ledger["4_instances"] == sum(step4["rejected"].values())


def test_the_steps_agree_with_one_another(first):
    folder, _ = first
    records = load_records(folder / "machine_generated_instructions.jsonl", MachineInstruction)
    assert len(records) == results(folder, "02_generate_instructions")["accepted"]
    assert results(folder, "03_identify_classification")["instructions"] == len(records)
    assert results(folder, "04_generate_instances")["tasks"] == len(records)
    step4 = results(folder, "05_filter_and_export")
    rows = (folder / "finetuning_data/all_generated_instances.jsonl").read_text().splitlines()
    assert len(rows) == step4["accepted"]
    [finetuning] = (folder / "finetuning_data").glob("gpt3_finetuning_data_*.jsonl")
    lines = finetuning.read_text().splitlines()
    assert finetuning.stem.endswith(f"_{len(lines)}") and len(lines) == step4["finetuning_rows"]
    assert set(json.loads(lines[0])) == {"prompt", "completion"}


def test_again_everything_is_unchanged_and_no_model_is_called(world, first):
    folder, _ = first
    calls = len(world[1].bodies)
    outcomes = run_notebooks(folder, parameters(world))
    assert all(outcome.skipped for outcome in outcomes)
    assert len(world[1].bodies) == calls


def test_same_seed_same_store_another_folder_same_bytes(world, first):
    calls = len(world[1].bodies)
    run_steps(world[0] / "second", STEPS, parameters(world, concurrency=1))
    assert len(world[1].bodies) == calls
    second, all_files = data_files(world[0] / "second"), data_files(first[0])
    assert len(second) == 6
    assert second == {name: all_files[name] for name in second}


def test_the_exported_answers_of_one_run_repeat_it_whole(world, first, tmp_path):
    folder, store = tmp_path / "replayed", tmp_path / "store.sqlite"
    assert [path.stem for path in RunFolder(first[0]).find("answers/*.keys")] == ["00_start_here", *STEPS[:3]]
    given = parameters(world)
    export_responses(given["store"], tmp_path / "answers.jsonl", keys=RunFolder(first[0]).read_keys())
    import_responses(store, tmp_path / "answers.jsonl")
    calls = len(world[1].bodies)
    run_steps(folder, ["00_start_here", *STEPS], {**given, "store": str(store)})
    assert len(world[1].bodies) == calls
    again, all_files = data_files(folder), data_files(first[0])
    assert again and again == {name: all_files[name] for name in again}


def test_another_random_seed_other_data(world, first):
    folder = world[0] / "third"
    run_steps(folder, STEPS[:1], parameters(world, random_seed=7))
    name = "machine_generated_instructions.jsonl"
    assert (folder / name).read_bytes() != (first[0] / name).read_bytes()


def test_the_fixed_quirks_run_too(world):
    folder = world[0] / "fixed"
    run_steps(folder, STEPS, parameters(world, quirks="fixed", num_instructions_to_generate=10))
    assert results(folder, "02_generate_instructions")["accepted"] == 10
    [finetuning] = (folder / "finetuning_data").glob("gpt3_finetuning_data_*.jsonl")
    assert "is_seed" in json.loads(finetuning.read_text().splitlines()[0])


def test_the_key_is_nowhere_in_the_run(world, first):
    for path in world[0].rglob("*"):
        if path.is_file():
            assert KEY.encode() not in path.read_bytes(), path
