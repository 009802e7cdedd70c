"""A run that called no model says so, and no other run does."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from helpers.notebooks import FIRST, write_notebook
from helpers.scripted import MODEL, Reply, ScriptedServer, prompt_of

from selfinstruct.models.store import NO_MODEL_CALLED
from selfinstruct.runfolder import SPENT
from selfinstruct.runner.execution import Step
from selfinstruct.runner.run import run_notebooks

REPLAYED = f"{NO_MODEL_CALLED}."
PARAMETERS = """\
run_dir: str = "outputs/run"
model: str = "embedded"
base_url: str = ""
store: str = "outputs/responses.sqlite"
prompts: list[str] = ["one", "two"]
"""
ASK = """\
from selfinstruct.models import connect
from selfinstruct.records import Request
from selfinstruct.files import write_records
from selfinstruct.runfolder import open_run
run = open_run("02_generate_instructions", locals())
requests = [Request(prompt=prompt, max_tokens=5, temperature=0, top_p=1) for prompt in prompts]
with connect(model, base_url, store=store, step="02") as client:
    answers = client.complete(requests)
    run.note_model(client)
write_records(run / "machine_generated_instructions.jsonl", [{"instruction": one.text} for one in answers])
"""
ASK_NOBODY = "from selfinstruct.runfolder import open_run\nrun = open_run('01_read_seed_tasks', locals())"


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    """(folder, server) with notebooks, and a store that knows the answers to "one" and "two"."""
    folder = tmp_path_factory.mktemp("world")
    write_notebook(folder / "notebooks", FIRST, ASK, PARAMETERS)
    write_notebook(folder / "quiet", "01_read_seed_tasks", ASK_NOBODY, PARAMETERS.splitlines()[0])
    with ScriptedServer(lambda body: Reply(422) if prompt_of(body) == "bad" else " Name a bird.") as server:
        assert REPLAYED not in run((folder, server), folder / "first")
        yield folder, server


def run(world, run_dir, notebooks="notebooks", **changed) -> list[str]:
    """The lines that a run prints."""
    folder, server = world
    lines: list[str] = []
    given = {"model": MODEL, "base_url": server.url, "store": str(folder / "store.sqlite"), **changed}
    run_notebooks(
        run_dir, given if notebooks == "notebooks" else {}, notebooks_dir=folder / notebooks, out=lines.append
    )
    return lines


def test_a_run_answered_by_the_store_says_so_once(world, tmp_path):
    asked = len(world[1].bodies)
    lines = run(world, tmp_path / "again")
    assert len(world[1].bodies) == asked == 2
    assert lines.count(REPLAYED) == 1
    assert lines.index(REPLAYED) < lines.index(next(line for line in lines if line.startswith("Step 1")))


def test_one_new_answer_is_a_call(world, tmp_path):
    asked = len(world[1].bodies)
    assert REPLAYED not in run(world, tmp_path / "more", prompts=["one", "two", f"new of {tmp_path}"])
    assert len(world[1].bodies) == asked + 1


def test_a_failed_request_is_a_call_each_time(world, tmp_path):
    for folder in (tmp_path / "once", tmp_path / "twice"):
        asked = len(world[1].bodies)
        assert REPLAYED not in run(world, folder, prompts=["one", "bad"])
        assert len(world[1].bodies) > asked


def test_a_run_that_asks_nothing_does_not_speak_of_answers(world, tmp_path):
    assert REPLAYED not in run(world, tmp_path / "quiet", "quiet")
    shutil.copytree(world[0] / "first", tmp_path / "done")
    lines = run(world, tmp_path / "done")
    assert "unchanged" in lines[1] and REPLAYED not in lines


@pytest.mark.parametrize(
    ("parameters", "asks"),
    [
        ({"model": "m", "store": "s"}, True),
        ({"data": "d"}, False),
        ({"rater_model": "", "store": "s"}, False),
        ({"rater_model": "m", "store": "s"}, True),
    ],
)
def test_who_asks_a_model(parameters, asks):
    assert Step(Path("02.ipynb"), parameters).asks_a_model == asks


def test_a_live_run_and_its_replay_write_the_same_folder(world, tmp_path):
    """All but spent.json, which alone says who asked first and how long it took."""
    runs = []
    for _ in range(2):
        run(world, tmp_path / "one", store=str(tmp_path / "store.sqlite"))
        (tmp_path / "one").rename(tmp_path / f"run{len(runs)}")
        runs.append(tmp_path / f"run{len(runs)}")
    files = [{str(one.relative_to(top)): one.read_bytes() for one in top.rglob("*") if one.is_file()} for top in runs]
    spent = [one.pop(SPENT) for one in files]
    assert files[0] == files[1] and {"run.json", "report.html", f"notebooks/{FIRST}.ipynb"} <= files[0].keys()
    usage = [json.loads(one)["usage"][FIRST] for one in spent]
    assert [(one["cached"], one["replayed"]) for one in usage] == [(0, False), (2, True)]
