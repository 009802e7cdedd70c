"""Who computes does not matter: the same answers in the same order here, in processes and on a Dask cluster, and after deaths."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import psutil
import pytest
from helpers.clusters import start_cluster
from helpers.notebooks import wait_until

from selfinstruct import workers
from selfinstruct.files import InputError, SelfInstructError, StoppedEarly
from selfinstruct.workers import Processes, Workers, check_versions, connect_cluster, describe_versions, open_workers

CALLS = [(number, 3) for number in range(20)]
ANSWERS = [number**3 for number in range(20)]


def test_here_calls_are_made_one_by_one():
    made = []
    with open_workers(1) as crew:
        answers = crew.run(pow, (made.append(call) or call for call in CALLS))
        assert (type(crew), next(answers), len(made)) == (Workers, 0, 1)
        assert [0, *answers] == ANSWERS


def test_as_many_processes_as_there_are_processors(monkeypatch):
    monkeypatch.setattr(workers, "usable_cpus", lambda: 2.5)
    with open_workers() as crew:
        assert (type(crew), crew.count) == (Processes, 3)
    monkeypatch.setattr(workers, "usable_cpus", lambda: 0.5)
    with open_workers() as crew:
        assert type(crew) is Workers


def test_processes_answer_in_order_and_one_that_dies_loses_nothing():
    with open_workers(2) as crew:
        answers = crew.run(pow, CALLS)
        assert next(answers) == 0
        os.kill(next(iter(crew._pool._processes)), signal.SIGKILL)
        assert [0, *answers] == ANSWERS


def test_work_that_kills_every_process_ends_in_one_sentence():
    with (
        open_workers(2) as crew,
        pytest.raises(SelfInstructError, match=r"died 4 times; is there enough memory\?.*--workers 1"),
    ):
        list(crew.run(os._exit, [(1,)]))


def test_an_error_in_a_process_is_the_caller_s():
    with open_workers(2) as crew, pytest.raises(ZeroDivisionError):
        list(crew.run(divmod, [(1, 0)]))


ENDLESS = """
from selfinstruct.workers import open_workers
import time
if __name__ == "__main__":
    with open_workers(2) as crew:
        list(crew.run(time.sleep, [(0,), (0,), (600,), (600,)]))
"""


def test_processes_end_with_a_command_that_is_killed(tmp_path):
    (tmp_path / "endless.py").write_text(ENDLESS)
    command = subprocess.Popen([sys.executable, tmp_path / "endless.py"])
    try:
        assert wait_until(lambda: len(_find_children(command.pid)) == 2)
        children = _find_children(command.pid)
    finally:
        command.kill()
        command.wait()
    assert wait_until(lambda: not any(one.is_running() and one.status() != "zombie" for one in children))


def _find_children(pid: int) -> list[psutil.Process]:
    return [one for one in psutil.Process(pid).children() if "spawn_main" in " ".join(one.cmdline())]


def test_workers_of_other_versions_are_named():
    here = {"kit": "0.1.0", "code": "abc", "Python": "3.11.7"}
    check_versions({"tcp://a:1": here}, here)
    with pytest.raises(
        InputError, match=r"tcp://b:2: code xyz, here abc; tcp://b:2: Python 3.12.1, here 3.11.7; install"
    ):
        check_versions({"tcp://a:1": here, "tcp://b:2": {"kit": "0.1.0", "code": "xyz", "Python": "3.12.1"}}, here)


def test_the_code_s_version_changes_with_any_of_its_files(tmp_path, monkeypatch):
    monkeypatch.setattr(workers, "PROJECT_ROOT", tmp_path)
    seen = set()
    for name in (
        "selfinstruct/a.py",
        "selfinstruct/deep/b.py",
        "selfinstruct/p.jinja",
        "notebooks/1.ipynb",
        "seeds/s.jsonl",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
        seen.add(describe_versions()["code"])
    assert len(seen) == 5


def test_without_dask_a_scheduler_is_refused_with_the_command_that_brings_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "distributed", None)
    with (
        pytest.raises(InputError, match=r"--scheduler needs Dask: pip install"),
        open_workers(scheduler="tcp://127.0.0.1:9"),
    ):
        pass


# ---- with Dask


@pytest.fixture
def raise_slowly():
    """number ** power on a cluster, in a tenth of a second."""
    pytest.importorskip("distributed", reason="pip install -e '.[distributed]'")

    def compute(number: int, power: int) -> int:  # inside a function: it travels with the call
        time.sleep(0.1)
        return number**power

    return compute


def test_a_dead_scheduler_is_named_before_anything_runs(monkeypatch):
    pytest.importorskip("distributed", reason="pip install -e '.[distributed]'")
    monkeypatch.setattr(workers, "CONNECT_S", 1)
    began = time.monotonic()
    with (
        pytest.raises(InputError, match=r"no Dask scheduler at tcp://127.0.0.1:9 .*dask scheduler"),
        connect_cluster("tcp://127.0.0.1:9"),
    ):
        pass
    assert time.monotonic() - began < 20


@pytest.mark.slow
def test_a_cluster_answers_in_order_and_makes_again_what_a_dead_worker_had(raise_slowly, tmp_path):
    with start_cluster(tmp_path) as (address, started), open_workers(scheduler=address) as crew:
        assert wait_until(lambda: len(crew._client.nthreads()) == 2)
        three = crew.hold(3)
        answers = crew.run(raise_slowly, ((number, three) for number, _ in CALLS))
        assert next(answers) == 0
        started[1].kill()
        assert [0, *answers] == ANSWERS


@pytest.mark.slow
def test_a_scheduler_that_dies_stops_the_command_in_one_sentence(raise_slowly, tmp_path):
    with start_cluster(tmp_path, 1) as (address, started), open_workers(scheduler=address) as crew:
        answers = crew.run(raise_slowly, CALLS)
        next(answers)
        started[0].kill()
        with pytest.raises(StoppedEarly, match=r"the scheduler is gone; the same command goes on"):
            list(answers)
