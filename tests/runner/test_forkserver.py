"""Kernels that are forked: each is as one that was started alone, and nothing passes from one to another."""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import subprocess
import sys
import time
from contextlib import suppress
from queue import Empty

import psutil
import pytest
from helpers.notebooks import FIRST, SECOND, kernel_processes, wait_until, write_notebook
from nbclient.exceptions import DeadKernelError
from nbformat import v4, write

from selfinstruct.runner.forkserver import LOADED, ForkedKernel, ForkServer, OnlyClient, can_fork
from selfinstruct.runner.kernels import kernel_environment
from selfinstruct.runner.run import run_notebooks

pytestmark = pytest.mark.skipif(not can_fork(), reason="kernels are forked on Linux only")

LOOK = """\
import json, os, sys, random, signal, warnings
import numpy as np
seen = {{
    "variable": os.environ["LOOKED_FOR"], "backend": os.environ["MPLBACKEND"], "folder": os.getcwd(), "path": sys.path,
    "arguments": [os.path.basename(sys.argv[0]), len(sys.argv)], "main": __name__, "leader": os.getsid(0) == os.getpid(),
    "signals": [str(signal.getsignal(one)) for one in (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)],
    "stdin": sys.stdin.read(), "modules": [name for name in {asks!r} if name in sys.modules],
    "filters": sorted(map(str, warnings.filters)),
}}
drawn = [np.random.rand(), random.random()]
pid = os.getpid(), os.getppid()
sys.left_behind = getattr(sys, "left_behind", 0) + 1
left = sys.left_behind
"""
ASKS_WHERE_IT_IS = ("tqdm.auto", "tqdm.autonotebook", "matplotlib_inline.backend_inline", "ipywidgets")


def look(tmp_path, another: bool, servers: int = 1) -> list[dict]:
    """What notebooks see in kernels of one command: of two, and of more until so many servers have forked one."""
    import papermill

    tail = "print(json.dumps({'seen': seen, 'drawn': drawn, 'pid': pid, 'left': left}))"
    page = v4.new_notebook(cells=[v4.new_code_cell(LOOK.format(asks=ASKS_WHERE_IT_IS) + tail)])
    write(page, tmp_path / "a.ipynb")
    looked = []
    with pytest.MonkeyPatch.context() as patch, kernel_environment() as kernels:
        patch.setenv("LOOKED_FOR", "kept")
        while len(looked) < 2 or len({one["pid"][1] for one in looked}) < servers:
            page = papermill.execute_notebook(
                tmp_path / "a.ipynb", None, kernel_name="python3", progress_bar=False, cwd=tmp_path,
                **kernels.arguments(another),
            )  # fmt: skip
            looked.append(json.loads(page.cells[0].outputs[0].text))
    return looked


def test_a_forked_kernel_sees_what_an_ordinary_one_sees(tmp_path):
    (ordinary, _), forked = look(tmp_path, another=False), look(tmp_path, another=True, servers=2)
    assert [one["seen"] for one in forked] == len(forked) * [ordinary["seen"]]
    assert ordinary["seen"]["modules"] == []
    assert forked[0]["pid"][1] == forked[1]["pid"][1]  # they are forked indeed, the last one by the server with spaCy
    assert ordinary["pid"][1] == os.getpid()
    assert [one["left"] for one in forked] == len(forked) * [1]  # nothing passes from one to the other
    for first, second in zip(forked[0]["drawn"], forked[1]["drawn"], strict=True):
        assert first != second


def test_a_forked_kernel_does_at_its_end_what_was_asked_for(tmp_path):
    import papermill

    code = "import atexit, pathlib, threading, time\natexit.register(pathlib.Path('asked').touch)\n"
    code += "threading.Thread(target=lambda: (time.sleep(0.2), pathlib.Path('thread').touch())).start()"
    write(v4.new_notebook(cells=[v4.new_code_cell(code)]), tmp_path / "a.ipynb")
    with kernel_environment() as kernels:
        papermill.execute_notebook(
            tmp_path / "a.ipynb",
            None,
            kernel_name="python3",
            progress_bar=False,
            cwd=tmp_path,
            **kernels.arguments(True),
        )
    assert {"asked", "thread"} <= {path.name for path in tmp_path.iterdir()}


def test_a_kernel_listens_on_no_port_that_others_could_take(tmp_path):
    import papermill

    code = "import ipykernel; print(ipykernel.get_connection_info())"
    write(v4.new_notebook(cells=[v4.new_code_cell(code)]), tmp_path / "a.ipynb")
    with kernel_environment() as kernels:
        page = papermill.execute_notebook(
            tmp_path / "a.ipynb", None, kernel_name="python3", progress_bar=False, **kernels.arguments(False)
        )
    assert json.loads(page.cells[0].outputs[0].text)["transport"] == "ipc"


def test_what_the_server_loads_is_there_to_be_loaded():
    code = f"import importlib, sys; del sys.path[0]; [importlib.import_module(name) for name in {LOADED!r}]"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_its_server_the_next_kernel_is_started_as_ever(tmp_path):
    code = """\
import os, psutil
from selfinstruct.runfolder import open_run
run = open_run({name!r}, locals())
(run / f"{name}.txt").write_text(" ".join(psutil.Process(os.getppid()).cmdline()))
"""
    for name in (FIRST, SECOND):
        write_notebook(tmp_path / "notebooks", name, code.format(name=name))

    def kill_all(name: str) -> None:
        for process in kernel_processes(os.getpid()) if name == SECOND else ():
            with suppress(psutil.NoSuchProcess):  # the end of the server is theirs
                process.kill()
                process.wait()

    run_notebooks(tmp_path / "run", notebooks_dir=tmp_path / "notebooks", out=lambda _: None, tell_start=kill_all)
    parents = [(tmp_path / "run" / f"{name}.txt").read_text() for name in (FIRST, SECOND)]
    assert ["selfinstruct.runner.forkserver" in parent for parent in parents] == [True, False]


def test_the_server_forks_ipykernel_of_this_interpreter_and_nothing_else():
    server = ForkServer()
    try:
        assert server.fork(["/usr/bin/python3", "-m", "ipykernel_launcher"], {}, None) is None
        assert server.fork([sys.executable, "-m", "another_kernel"], {}, None) is None
        server._process.kill()
        assert server.fork([sys.executable, "-m", "ipykernel_launcher"], {}, None) is None
    finally:
        server.close()
    assert kernel_processes(os.getpid()) == []


KERNEL = [sys.executable, "-m", "ipykernel_launcher"]
PR_SET_CHILD_SUBREAPER = 36


@pytest.fixture
def server(tmp_path):
    """A server while this process adopts orphans, as a desktop's user manager does: they do not get process 1 as their parent."""
    prctl, server = ctypes.CDLL(None).prctl, ForkServer()
    prctl(PR_SET_CHILD_SUBREAPER, 1)
    yield server
    server.close()
    prctl(PR_SET_CHILD_SUBREAPER, 0)


def fork_kernel(server, folder, **env) -> ForkedKernel | None:
    ours = {"IPYTHONDIR": str(folder), "JUPYTER_RUNTIME_DIR": str(folder)}
    return server.fork(KERNEL, {**os.environ, **ours, **env}, str(folder))


def fork_until_second_server(server, folder) -> list[ForkedKernel]:
    kernels = [fork_kernel(server, folder)]
    while kernels[-1].ppid() == kernels[0].ppid():
        time.sleep(0.3)
        kernels.append(fork_kernel(server, folder))
    return kernels


def kill_successor(server, kernels) -> None:
    pids = [kernel.pid for kernel in kernels]
    children = psutil.Process(server._process.pid).children
    assert wait_until(lambda: len(children()) > len(pids))
    successor = next(one for one in children() if one.pid not in pids)
    successor.kill()
    successor.wait(10)


@pytest.mark.parametrize("forked", [1, 2, 0], ids=["before the successor", "while it loads", "after it took over"])
def test_whenever_the_runner_is_killed_its_servers_and_kernels_end(tmp_path, server, forked):
    kernels = [fork_kernel(server, tmp_path) for _ in range(forked)] or fork_until_second_server(server, tmp_path)
    server._process.stdin.close()  # as the system does at its end
    server._process.wait(10)
    assert wait_until(lambda: all(kernel.poll() is not None for kernel in kernels), 5)
    assert wait_until(lambda: kernel_processes(os.getpid()) == [])


def test_without_its_successor_the_server_goes_on(tmp_path, server):
    kernels = [fork_kernel(server, tmp_path) for _ in range(2)]
    kill_successor(server, kernels)
    assert fork_kernel(server, tmp_path).ppid() == server._process.pid
    assert [kernel.poll() for kernel in kernels] == [None, None]


def test_a_successor_that_dies_later_takes_no_other_kernel_along_and_is_not_waited_for(tmp_path, server):
    *kernels, last = fork_until_second_server(server, tmp_path)
    kill_successor(server, kernels)
    assert wait_until(lambda: last.poll() is not None, 5)
    assert [fork_kernel(server, tmp_path, LONG="x" * 9000) for _ in range(10)] == [None] * 10  # more than a pipe holds
    assert {kernel.poll() for kernel in kernels} == {None}


class Deaf(OnlyClient):
    """A client whose kernel does not answer."""

    alive = True

    def kernel_info(self):
        """Nobody hears it."""

    async def get_shell_msg(self, timeout):
        await asyncio.sleep(0)
        raise Empty

    async def is_alive(self):
        return self.alive


def test_a_kernel_that_ends_or_hangs_before_it_answers_is_not_waited_for():
    client = Deaf()
    with pytest.raises(DeadKernelError, match="hung before it answered"):
        asyncio.run(client.wait_for_ready(timeout=0.1))
    client.alive = False
    with pytest.raises(DeadKernelError, match="ended or hung"):
        asyncio.run(client.wait_for_ready(timeout=10))


def test_one_notebook_alone_needs_no_server(tmp_path):
    with kernel_environment() as kernels:
        kernels.arguments(another=False)
        assert kernel_processes(os.getpid()) == []
