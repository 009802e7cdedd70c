"""Texts that a cell reads on its worker's own disk: a worker with others is named before anything runs. No Dask is needed."""

from __future__ import annotations

import shutil
from contextlib import contextmanager
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.scripted import ScriptedServer
from helpers.scripted_method import respond
from helpers.sweeping import write_plan

from selfinstruct import cli
from selfinstruct.files import PROJECT_ROOT, InputError
from selfinstruct.runner.cluster import check_cluster, list_texts

WORKER, MINE = "tcp://10.0.0.6:4711", "seeds/prompts/mine/instructions.txt"


class Elsewhere:
    """The client of a cluster with one worker, whose checkout is `root`."""

    def __init__(self, root: Path):
        self.root = root

    def run(self, function, *given):
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("selfinstruct.files.PROJECT_ROOT", self.root)
            return {WORKER: function(*given)}


@pytest.fixture
def worker(tmp_path, monkeypatch):
    """The worker's checkout, which is this command's, with a prompt set of one's own, word for word."""
    here, there = tmp_path / "here", tmp_path / "there"
    shutil.copytree(PROJECT_ROOT / "seeds", here / "seeds", ignore=shutil.ignore_patterns("published"))
    (here / MINE).parent.mkdir()
    (here / MINE).write_text("Come up with a series of short tasks:\n")
    shutil.copytree(here, there)
    monkeypatch.setattr("selfinstruct.files.PROJECT_ROOT", here)

    @contextmanager
    def connect(scheduler):
        yield Elsewhere(there)

    monkeypatch.setattr("selfinstruct.runner.cluster.connect_cluster", connect)
    return there


@pytest.fixture
def plan(tmp_path, worker):
    (tmp_path / "here/prices.yaml").write_text("scripted: {input: 1, output: 2}\n")
    shutil.copy(tmp_path / "here/prices.yaml", worker)
    parameters = {"price_table": "prices.yaml"}
    return write_plan(tmp_path, "http://127.0.0.1:9/v1", grid={"prompt_set": ["ours", "mine"]}, parameters=parameters)


def check(plan) -> None:
    with check_cluster(plan, "tcp://any:1"):
        pass


def test_all_that_the_parameters_name_is_looked_at_and_equal_texts_pass(plan):
    files = list_texts(plan).files
    assert {
        MINE,
        "seeds/prompts/ours/instructions.txt",
        "seeds/prompts/short/prompt.yaml",
        "prices.yaml",
    } <= files.keys()
    assert not any(".sqlite" in name for name in files)
    check(plan)


@pytest.mark.parametrize(
    ("name", "change", "says"),
    [
        (MINE, lambda path: path.write_text("Other words:\n"), "has another text"),
        (MINE, lambda path: shutil.rmtree(path.parent), "is missing"),
        ("seeds/prompts/mine/system.txt", lambda path: path.write_text("Hm."), "is there, and not here"),
        ("seeds/prompts/ours/prompt.yaml", lambda path: path.write_text("machine: 0\n"), "has another text"),
        ("prices.yaml", lambda path: path.write_text("scripted: {input: 9, output: 9}\n"), "has another text"),
    ],
)
def test_a_worker_with_another_text_is_named_with_the_file_and_what_to_do(plan, worker, name, change, says):
    change(worker / name)
    with pytest.raises(
        InputError,
        match=rf"^workers have other files than this command: {WORKER}: {name} {says}; .*under the same path",
    ):
        check(plan)


def test_of_many_files_three_are_named(plan, worker):
    for number in range(5):
        (worker / f"seeds/prompts/mine/{number}.txt").touch()
    says = r"mine/0\.txt is there, and not here, \S+/1\.txt is there, and not here, \S+/2\.txt is there, and not here, 2 more; "
    with pytest.raises(InputError, match=says):
        check(plan)


def test_the_sweep_is_refused_before_anything_runs_or_is_asked(tmp_path, worker, monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-scripted-key-that-must-show-nowhere")
    (worker / MINE).unlink()
    with ScriptedServer(respond) as server:
        write_plan(tmp_path, server.url, grid={"prompt_set": ["ours", "mine"]})
        given = ["sweep", tmp_path / "sweep.yaml", "--sweep-dir", tmp_path / "sweep", "--scheduler", "tcp://any:1"]
        done = CliRunner().invoke(cli.main, [*map(str, given), "--yes"])
    assert done.exit_code == 1 and f"{MINE} is missing" in done.output and done.output.count("\n") == 1
    assert server.bodies == [] and not (tmp_path / "sweep").exists()
