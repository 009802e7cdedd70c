"""The run folder: one object in front of its files, and the only code that opens run.json."""

from __future__ import annotations

import ast
import re
from hashlib import sha256
from pathlib import Path

import pytest

import selfinstruct
from selfinstruct.files import InputError, ParameterError, write_json, write_text
from selfinstruct.models.spending import Usage
from selfinstruct.prompts import load_prompts
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


def test_what_a_step_could_not_send_is_recorded_with_the_step(tmp_path):
    class Adapted(Client):
        def describe(self):
            return {"model": "m", "adapted": {"stop": ""}}

    RunFolder(tmp_path, "02_generate_instructions").note_model(Adapted())
    RunFolder(tmp_path, "04_generate_instances").note_model(Client())
    assert RunFolder(tmp_path).state["adapted"] == {"02_generate_instructions": {"stop": ""}}


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


def test_content_that_has_changed_under_one_path_is_another_run(tmp_path):
    run, seeds = RunFolder(tmp_path / "run", "02_generate_instructions"), tmp_path / "mine.jsonl"
    text = (PACKAGE.parent / "seeds/seed_tasks.jsonl").read_text(encoding="utf-8")
    other, third = text.replace("Name", "Say"), text.replace("Name", "Tell")

    def note(path, content):
        run.note_files(load_prompts(seed_tasks_path=write_text(path, content)).describe_files("seed_tasks"))

    note(seeds, text)
    assert run.state["seed_tasks"] == {"path": str(seeds), "sha256": sha256(text.encode()).hexdigest()}
    note(seeds, other)  # no file of the notebook was made
    write_text(run / INSTRUCTIONS, "")
    note(seeds, other)
    with pytest.raises(ParameterError, match=r"with another content of .*mine\.jsonl; choose another folder .*or put"):
        note(seeds, third)
    note(tmp_path / "moved.jsonl", other)  # the same content elsewhere


def test_each_notebook_answers_for_the_files_it_reads(tmp_path):
    prompts = load_prompts("short")
    assert set(prompts.describe_files("output_first")) == {"output_first", "output_first_start", "prompt_set"}
    run = RunFolder(tmp_path, "04_generate_instances")
    run.note_files(prompts.describe_files("input_first", "output_first"))
    assert set(run.state["files"]) == {"04_generate_instances"} and "seed_tasks" not in run.state


def test_a_run_whose_stop_was_recorded_as_it_was_not_sent_goes_on(tmp_path):
    given, made = {"run_dir": str(tmp_path), "max_instances_to_generate": 2}, "04_generate_instances"
    write_json(tmp_path / "run.json", {"parameters": {made: {**given, "stop": ["Example 6", "Task:"]}}})
    write_text(tmp_path / "machine_generated_instances.jsonl", "")
    open_run(made, {**given, "max_instances_to_generate": 0}, stop=("Example 3", "Task:"))
    with pytest.raises(ParameterError, match=r"stop was \['Example 3', 'Task:'\], now \['Example 6', 'Task:'\]"):
        open_run(made, {**given, "max_instances_to_generate": 0}, stop=("Example 6", "Task:"))


@pytest.mark.parametrize("name", ["01_read_seed_tasks", "10_describe_dataset"])
def test_a_folder_with_notebooks_of_ones_own_is_no_run_folder(tmp_path, name):
    """The project's root, for one: executed copies would take their place."""
    write_text(tmp_path / f"notebooks/{name}.ipynb", "{}")
    with pytest.raises(InputError, match=rf"{name}.ipynb: not written by this kit, and {name} would replace it"):
        open_run(name, {"run_dir": str(tmp_path)})
    assert not RunFolder(tmp_path).exists()


def test_arguments_are_the_parameters_that_a_function_takes(tmp_path):
    run = open_run("a_notebook_of_my_own", {"run_dir": str(tmp_path), "model": "m", "other": 1})
    assert run.arguments(lambda model, step: None) == {"model": "m"}


def test_a_run_from_before_prompt_sets_goes_on(tmp_path):
    """Its run.json says prompt_source, and 8 where a notebook of today says -1 and records what that comes to."""
    earlier = {"prompt_source": "", "num_prompt_instructions": 8, "temperature": 0.7}
    write_json(tmp_path / "run.json", {"parameters": {"02_generate_instructions": earlier}})
    write_text(tmp_path / INSTRUCTIONS, "")
    assert RunFolder(tmp_path).state["parameters"]["02_generate_instructions"]["prompt_set"] == ""
    declared = {"run_dir": str(tmp_path), "prompt_set": "", "num_prompt_instructions": -1, "temperature": None}
    recorded = {"temperature": 0.7, **load_prompts().count_demonstrations()}
    run = open_run("02_generate_instructions", declared, **recorded)
    assert run.state["parameters"]["02_generate_instructions"]["num_machine_instructions"] == 2
    with pytest.raises(ParameterError, match="prompt_set was '', now 'german'"):
        open_run("02_generate_instructions", {**declared, "prompt_set": "german"}, **recorded)


def test_a_run_from_when_rounds_were_parameters_goes_on(tmp_path):
    """The runner's record of what was given says 0, -1 and "by model" there; what the notebook made of it is recorded as before."""
    given = {"requests_per_round": 0, "classification_requests": -1, "blocked_starts": "by model", "temperature": None}
    run = RunFolder(tmp_path)
    write_text(run / INSTRUCTIONS, "")
    run.check_parameters("02_generate_instructions", given, {"temperature": None})
    with pytest.raises(ParameterError, match="requests_per_round was 4, now None"):
        run.check_parameters("02_generate_instructions", {**given, "requests_per_round": 4}, {"temperature": None})


def test_a_parameter_that_went_into_the_prompt_set_is_refused_where_papermill_lets_it_pass(tmp_path):
    declared = {"run_dir": str(tmp_path), "prompt_set": "", "requests_per_round": 4}
    with pytest.raises(ParameterError, match=r"requests_per_round is no parameter any more: .*prompt.yaml"):
        open_run("02_generate_instructions", declared)


def test_a_prompt_set_that_has_changed_is_another_run(tmp_path):
    folder = tmp_path / "mine"
    write_text(folder / "instructions.txt", "Write tasks:\n")
    run = RunFolder(tmp_path / "run", "02_generate_instructions")
    run.note_files(load_prompts(folder).describe_files("seed_tasks"))
    write_text(run / INSTRUCTIONS, "")
    run.note_files(load_prompts(folder).describe_files("seed_tasks"))
    write_text(folder / "instructions.txt", "Write short tasks:\n")
    with pytest.raises(
        ParameterError, match=r"with another content of .*mine; choose another folder .*or put the file back"
    ):
        run.note_files(load_prompts(folder).describe_files("seed_tasks"))
