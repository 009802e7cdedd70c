"""A sweep on a Dask cluster of real processes: the same files as here, no request paid twice, and a worker may die."""

from __future__ import annotations

import functools
import pickle
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
from helpers.clusters import start_cluster
from helpers.notebooks import wait_until
from helpers.scripted import ScriptedServer
from helpers.scripted_method import respond
from helpers.sweeping import write_plan

from selfinstruct.files import PROJECT_ROOT, InputError, StoppedEarly
from selfinstruct.runfolder import RunFolder
from selfinstruct.runner import sweep as sweeps
from selfinstruct.runner.sweep import run_sweep

pytest.importorskip("distributed", reason="pip install -e '.[distributed]'")

from cloudpickle import dumps

from selfinstruct.runner import cluster
from selfinstruct.runner.cluster import check_cluster, run_on_cluster

KEY = "sk-scripted-key-that-must-show-nowhere"


@pytest.fixture
def scheduler(tmp_path):
    """(address, two workers started by hand)."""
    with start_cluster(tmp_path) as (address, started):
        yield address, started[1:]


def read_files(folder: Path) -> dict[str, bytes]:
    """All files of the cells but who paid and how long it took."""
    found = (path for path in folder.glob("cells/*/*/**/*") if path.is_file() and path.name != "spent.json")
    return {str(path.relative_to(folder)): path.read_bytes() for path in found}


@pytest.mark.slow
def test_two_workers_one_killed_midway_write_the_same_files_and_pay_once(scheduler, tmp_path, monkeypatch):
    address, workers = scheduler
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    monkeypatch.setattr(sweeps, "compare_sweep", lambda plan, sweep, out: {})
    with ScriptedServer(respond, latency_s=0.2) as server:
        plan = write_plan(tmp_path, server.url, grid={"prompt_set": ["ours", "chat"]})
        run_sweep(plan, RunFolder(tmp_path / "sweep"), lambda question: True, print)
        here, calls = read_files(tmp_path / "sweep"), [str(body) for body in server.bodies]
        (tmp_path / "sweep").rename(tmp_path / "here")
        for path in tmp_path.glob("store.sqlite*"):
            path.unlink()
        server.bodies.clear()

        def kill_one() -> None:
            wait_until(lambda: len(server.bodies) > 3, 120)
            workers[0].kill()

        killer = threading.Thread(target=kill_one)
        killer.start()
        run_cells = functools.partial(run_on_cluster, scheduler=address)
        run_sweep(plan, RunFolder(tmp_path / "sweep"), lambda question: True, print, run_cells)
        killer.join()
        assert workers[0].poll() is not None
        assert sorted(map(str, server.bodies)) == sorted(calls)  # each once
        assert all(f"Bearer {KEY}" in one.values() for one in server.headers)  # the command asked, with its key
    there = read_files(tmp_path / "sweep")
    assert there.keys() == here.keys()
    assert [name for name in here if here[name] != there[name]] == []


@pytest.mark.slow
def test_a_local_cluster_runs_a_sweep(tmp_path, monkeypatch):
    from distributed import LocalCluster

    monkeypatch.setattr(sweeps, "compare_sweep", lambda plan, sweep, out: {})
    local = {"n_workers": 1, "threads_per_worker": 1, "memory_limit": 0, "dashboard_address": None}
    with ScriptedServer(respond) as server, LocalCluster(**local) as started:
        plan = write_plan(tmp_path, server.url, random_seeds=[1], grid={"num_prompt_instructions": [4]})
        run_cells = functools.partial(run_on_cluster, scheduler=started.scheduler_address)
        run_sweep(plan, RunFolder(tmp_path / "sweep"), lambda question: True, print, run_cells)
        assert len(server.bodies) == 5
    assert [
        cell.name for cell in plan.list_cells() if not sweeps.is_finished(plan, RunFolder(tmp_path / "sweep"), cell)
    ] == []


@pytest.fixture
def other_checkout(tmp_path):
    """The same kit in another folder, with another word in its `ours`."""
    for name in ("selfinstruct", "notebooks", "seeds"):
        shutil.copytree(PROJECT_ROOT / name, tmp_path / "other" / name, ignore=shutil.ignore_patterns("published"))
    header = tmp_path / "other/seeds/prompts/ours/instructions.txt"
    header.write_text(header.read_text() + "Be brief.\n")
    return tmp_path / "other"


@pytest.mark.slow
def test_a_worker_with_another_text_of_a_prompt_set_is_named_before_anything_runs(
    tmp_path, monkeypatch, other_checkout
):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)
    with ScriptedServer(respond) as server, start_cluster(tmp_path, 1, other_checkout) as (address, _):
        plan = write_plan(tmp_path, server.url)
        with (
            pytest.raises(InputError, match=r"tcp://\S+: seeds/prompts/ours/instructions\.txt has another text; "),
            check_cluster(plan, address),
        ):
            pass
        run_cells = functools.partial(run_on_cluster, scheduler=address)
        with pytest.raises(InputError, match="has another text"):
            run_sweep(plan, RunFolder(tmp_path / "sweep"), lambda question: True, print, run_cells)
        assert server.bodies == []


def test_a_worker_that_comes_later_with_another_text_ends_the_sweep_in_a_sentence(tmp_path, monkeypatch):
    plan = write_plan(tmp_path, "http://127.0.0.1:9/v1")
    texts = cluster.list_texts(plan)
    late = SimpleNamespace(address="tcp://late:1", plugins={})
    monkeypatch.setattr("distributed.get_worker", lambda: late)
    for files, end in ((texts.files, ""), ({**texts.files, "seeds/prompts/ours/x.txt": "0"}, "x.txt is missing; ")):
        late.plugins[cluster.DOOR] = door = pickle.loads(dumps(cluster._make_door(texts._replace(files=files))))
        door.setup(late)
        door.teardown(late)
        assert end in door.differing and bool(door.differing) == bool(end)
    with pytest.raises(StoppedEarly, match=r"tcp://late:1: seeds/prompts/ours/x\.txt is missing"):
        cluster._run_cell("a", "outputs/x", {}, ["02"], "", "")


def test_a_cell_that_fails_says_on_which_worker(tmp_path, monkeypatch):
    door = SimpleNamespace(differing="", open=lambda cell: "http://127.0.0.1:9/x")
    worker = SimpleNamespace(address="tcp://b:2", plugins={cluster.DOOR: door})
    monkeypatch.setattr("distributed.get_worker", lambda: worker)
    _, failed = cluster._run_cell("a", str(tmp_path / "run"), {"no_such": 1}, ["02"], str(tmp_path / "here"), "")
    assert "no_such" in failed and failed.endswith(" (on worker tcp://b:2)")
