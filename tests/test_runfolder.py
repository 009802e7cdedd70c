"""The run folder: one object in front of its files, and the only code that opens run.json."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

import selfinstruct
from selfinstruct.files import InputError, ParameterError, write_json, write_text
from selfinstruct.models.spending import Usage
from selfinstruct.runfolder import INSTRUCTIONS, RunFolder, open_run

PACKAGE = Path(selfinstruct.__file__).parent


def test_run_json_is_opened_by_the_run_folder_alone():
    naming = [
        path.relative_to(PACKAGE).as_posix()
        for path in sorted(PACKAGE.rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and re.search(r"\brun\.json$", node.value)
    ]
    assert naming == ["runfolder.py"]  # once, in a constant that no other module can import


def test_a_run_folder_made_of_another_is_the_same_folder(tmp_path):
    assert RunFolder(RunFolder(tmp_path)).path == RunFolder(str(tmp_path)).path == tmp_path


def test_run_json_is_merged_one_level_deep(tmp_path):
    run = RunFolder(tmp_path)
    assert run.state == {} and not run.exists()
    run.note(usage={"02": {"requests": 1}}, kit_version="1")
    run.note(usage={"03": {"requests": 2}})
    assert run.state == {"usage": {"02": {"requests": 1}, "03": {"requests": 2}}, "kit_version": "1"}
    assert run.exists()


class Client:
    """What note_model asks of a client."""

    usage, keys = Usage(requests=2), ["a", "b"]

    def describe(self):
        return {"model": "m"}


def test_the_end_of_a_notebook_notes_its_model_its_usage_and_the_keys_of_its_answers(tmp_path):
    first = RunFolder(tmp_path, "02_generate_instructions")
    with pytest.raises(InputError, match="no keys of answers; run its notebooks again"):
        first.read_keys()
    first.note_model(Client())
    assert (first / "answers/02_generate_instructions.keys").read_text() == "a\nb\n"
    assert first.state["model"] == {"model": "m"}
    assert first.state["usage"]["02_generate_instructions"]["requests"] == 2
    RunFolder(tmp_path, "03_identify_classification").note_model(Client())
    assert first.read_keys() == ["a", "b"]  # an answer that two notebooks share is one


def test_who_rates_a_run_is_not_its_model(tmp_path):
    run = RunFolder(tmp_path, "14_review_quality")
    run.note_model(Client())
    assert "model" not in run.state and "14_review_quality" in run.state["usage"]


def test_outputs_are_what_notebooks_wrote(tmp_path):
    for name in ("run.json", "report.html", "store.sqlite-wal", INSTRUCTIONS, "figures/run.json"):
        write_text(tmp_path / name, "{}")
    assert [path.name for path in RunFolder(tmp_path).find_outputs()] == ["run.json", INSTRUCTIONS]


def test_a_missing_file_names_the_notebook_that_writes_it(tmp_path):
    advice = r"run that first \(selfinstruct run --run-dir .* --only 02\)"
    with pytest.raises(InputError, match=rf"no such file; 02_generate_instructions writes it: {advice}"):
        RunFolder(tmp_path).require(INSTRUCTIONS)
    with pytest.raises(InputError, match="no notebook of the kit writes it"):
        RunFolder(tmp_path).require("other.jsonl")


def test_files_made_with_other_parameters_are_refused_in_words_and_left(tmp_path):
    given = {"run_dir": str(tmp_path), "temperature": 0.7, "store": "a.sqlite", "sizes": (1, 2)}
    open_run("02_generate_instructions", given, model="m")
    open_run("02_generate_instructions", {**given, "temperature": 0.9}, model="m")  # no file of it was made
    write_json(tmp_path / INSTRUCTIONS, {})
    open_run("02_generate_instructions", {**given, "temperature": 0.9, "store": "b.sqlite"}, model="m")
    with pytest.raises(
        ParameterError, match=r"other parameters \(model was 'm', now 'n'; temperature was 0.9, now 0.7\)"
    ):
        open_run("02_generate_instructions", given, model="n")
    assert RunFolder(tmp_path).state["parameters"]["02_generate_instructions"]["temperature"] == 0.9


def test_arguments_are_the_parameters_that_a_function_takes(tmp_path):
    run = open_run("a_notebook_of_my_own", {"run_dir": str(tmp_path), "model": "m", "other": 1})
    assert run.arguments(lambda model, step: None) == {"model": "m"}
