"""What run.json says of a run: its author, and the seed tasks that it came from, whatever became of their file."""

from __future__ import annotations

import hashlib
import json

import pytest

from selfinstruct.data.origin import OURS, find_prompt_set, find_seeds
from selfinstruct.files import InputError, ParameterError
from selfinstruct.runfolder import RunFolder

TASK = {"id": "a", "name": "n", "instances": [{"input": "", "output": "x"}], "is_classification": False}


@pytest.fixture
def theirs(tmp_path):
    path = tmp_path / "theirs.jsonl"
    path.write_text(json.dumps({**TASK, "instruction": "Name a tree."}) + "\n")
    return path


def run_with(folder, **state):
    (folder / "run.json").write_text(json.dumps(state))
    return RunFolder(folder)


def hash_of(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_a_run_is_compared_with_its_own_seed_tasks(tmp_path, theirs):
    recorded = {"path": str(theirs), "sha256": hash_of(theirs)}
    seeds = find_seeds(run_with(tmp_path, seed_tasks=recorded))
    assert (seeds.instructions, seeds.name, seeds.problem) == (["Name a tree."], "theirs.jsonl", "")
    parameters = {"02_generate_instructions": {"prompt_set": "", "seed_tasks_path": str(theirs)}}
    assert find_seeds(run_with(tmp_path, parameters=parameters)).instructions == ["Name a tree."]


def test_a_file_that_changed_is_said(tmp_path, theirs):
    seeds = find_seeds(run_with(tmp_path, seed_tasks={"path": str(theirs), "sha256": "0" * 64}))
    assert seeds.instructions == ["Name a tree."]
    assert "theirs.jsonl has changed since this run began with it" in seeds.problem


def test_what_is_asked_for_goes_before_what_is_recorded(tmp_path, theirs):
    run = run_with(tmp_path, seed_tasks={"path": OURS})
    assert find_seeds(run, seed_tasks_path=str(theirs)).instructions == ["Name a tree."]
    assert len(find_seeds(run).instructions) == 175 and find_seeds(run).name == "ours"
    with pytest.raises(InputError):
        find_seeds(run, seed_tasks_path=str(tmp_path / "none.jsonl"))
    with pytest.raises(ParameterError):
        find_seeds(run, prompt_set="nowhere")


@pytest.mark.parametrize(
    "state",
    [
        {},
        {"seed_tasks": {}},
        {"prompt_set": "short"},
        {"prompt_set": {"name": "short", "sha256": "0"}},
        {"parameters": {"02_generate_instructions": {"prompt_set": "", "seed_tasks_path": ""}}},
    ],
)
def test_runs_that_say_nothing_have_ours(tmp_path, state):
    seeds = find_seeds(run_with(tmp_path, **state))
    assert (len(seeds.instructions), seeds.name, seeds.problem) == (175, "ours", "")
    assert find_prompt_set(RunFolder(tmp_path)) == ("short" if "prompt_set" in state else "")


@pytest.mark.parametrize(
    "state",
    [
        {"seed_tasks": {"path": "nowhere/gone.jsonl", "sha256": "0"}},
        {"parameters": {"02_generate_instructions": {"prompt_set": "nowhere", "seed_tasks_path": ""}}},
    ],
)
def test_seed_tasks_that_are_gone_are_said_and_ours_taken(tmp_path, state):
    seeds = find_seeds(run_with(tmp_path, **state))
    assert len(seeds.instructions) == 175
    assert "its seed tasks cannot be read; compared with ours" in seeds.problem and "nowhere" in seeds.problem


def test_data_without_a_run_have_ours():
    assert find_seeds(None).name == "ours"
