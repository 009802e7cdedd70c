"""Ctrl-C while requests are in flight: what is said at once, what is kept, and what a second one does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import psutil
import pytest
from helpers.asking import asks, echo
from helpers.notebooks import FIRST, wait_until, write_notebook
from helpers.places import TESTS
from helpers.scripted import ScriptedServer, prompt_of

from selfinstruct.files import StoppedEarly
from selfinstruct.models.client import Progress
from selfinstruct.models.connection import connect
from selfinstruct.models.store import ResponseStore

ASK = """
import os, pathlib, sys
sys.path.insert(0, {tests!r})
from helpers.asking import asks
from selfinstruct.models import connect
from selfinstruct.files import StoppedEarly
pathlib.Path({pid!r}).write_text(str(os.getpid()))
with connect("scripted", {url!r}, store={store!r}, concurrency=4) as client:
    try:
        client.complete(asks(400), desc="asking")
    except StoppedEarly as error:
        print(error)
        raise
"""
SCRIPT = (
    "from selfinstruct.files import StoppedEarly\ntry:\n{}\nexcept StoppedEarly as error:\n    raise SystemExit(3)\n"
)
RUN = """
from selfinstruct.runner.run import run_notebooks
run_notebooks({run!r}, notebooks_dir={notebooks!r})
"""
LINE = "Ctrl-C: 4 requests in flight; waiting to keep the answers (they are paid for). Ctrl-C again leaves them."


class HeldServer(ScriptedServer):
    """A scripted model whose answers are held back until `release` is set."""

    def __init__(self) -> None:
        self.release = threading.Event()
        super().__init__(lambda body: self.release.wait(30) and echo(body))

    def __exit__(self, *error: object) -> None:
        self.release.set()
        super().__exit__(*error)


class Work:
    """A process that asks 400 requests, four at a time: a script of its own, or a notebook under the runner."""

    def __init__(self, folder: Path, url: str, how: str, **streams):
        self.store, self.pid_file = folder / "s.sqlite", folder / "pid"
        ask = ASK.format(tests=str(TESTS), pid=str(self.pid_file), url=url, store=str(self.store))
        if how == "notebook":
            notebooks = write_notebook(folder / "notebooks", FIRST, ask).parent
            ask = RUN.format(run=str(folder / "run"), notebooks=str(notebooks))
        code = SCRIPT.format("".join(f"    {line}\n" for line in ask.splitlines()))
        # a kernel that knows of pytest leaves its stderr as it was
        env = {name: value for name, value in os.environ.items() if name != "PYTEST_CURRENT_TEST"}
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | streams
        self.process = subprocess.Popen([sys.executable, "-c", code], text=True, env=env, **pipes)

    def interrupt(self) -> None:
        self.process.send_signal(signal.SIGINT)

    def ended(self) -> tuple[str, str]:
        """What it said, once it is through, and its kernel too."""
        told = self.process.communicate(timeout=20)
        assert self.process.returncode == 3
        assert wait_until(lambda: not psutil.pid_exists(int(self.pid_file.read_text())), seconds=10)
        return told


def in_flight(server: ScriptedServer) -> None:
    assert wait_until(lambda: len(server.bodies) == 4)


def stored(path: Path) -> int:
    with ResponseStore(path) as rows:
        return len(rows)


def test_ctrl_c_keeps_what_is_in_flight_and_the_same_command_goes_on(tmp_path):
    with ScriptedServer(echo, latency_s=0.1) as server:
        work = Work(tmp_path, server.url, "script")
        assert wait_until(lambda: len(server.bodies) >= 10)
        work.interrupt()
        told, _ = work.ended()
        assert "stopped by Ctrl-C" in told and "run the same command again to continue" in told
        assert 10 <= stored(work.store) == len(server.bodies) < 400
        server.latency_s = 0
        with connect("scripted", server.url, store=work.store, concurrency=16) as client:
            client.complete(asks(400))
        assert len(server.bodies) == 400


@pytest.mark.parametrize("how", ["script", "notebook"])
def test_ctrl_c_says_at_once_what_it_waits_for(tmp_path, how):
    with HeldServer() as server:
        work = Work(tmp_path, server.url, how)
        in_flight(server)
        work.interrupt()
        assert work.process.stderr.readline() == LINE + "\n"  # while no answer has come
        assert stored(work.store) == 0
        server.release.set()
        _, errors = work.ended()
    assert (errors, stored(work.store)) == ("", 4)


@pytest.mark.parametrize("how", ["script", "notebook"])
def test_a_second_ctrl_c_leaves_what_is_in_flight(tmp_path, how):
    with HeldServer() as server:
        work = Work(tmp_path, server.url, how)
        in_flight(server)
        work.interrupt()
        work.process.stderr.readline()
        work.interrupt()
        told, errors = work.ended()
        assert not server.release.is_set()
    assert (errors, stored(work.store)) == ("", 0)
    if how == "script":
        assert (
            told
            == "stopped by Ctrl-C, and the answers to 4 requests in flight were left; run the same command again to continue\n"
        )


@pytest.mark.skipif(sys.platform == "win32", reason="no pseudo-terminals")
@pytest.mark.parametrize("how", ["script", "notebook"])
def test_in_a_terminal_the_line_stands_alone_and_the_bar_below_it(tmp_path, how):
    import pty
    import termios

    terminal, its_end = pty.openpty()
    termios.tcsetwinsize(its_end, (24, 130))
    with HeldServer() as server:
        work = Work(tmp_path, server.url, how, stderr=its_end)
        in_flight(server)
        time.sleep(0.3)  # the bar is drawn
        work.interrupt()
        time.sleep(1)  # the line is written
        server.release.set()
        work.ended()
    shown = os.read(terminal, 100_000).decode()
    rows = on_screen(shown)
    assert LINE in rows
    if how == "script":
        assert rows[rows.index(LINE) + 1].startswith("asking:   1%")
    else:
        assert f"\r{FIRST}: " in shown and FIRST not in "".join(rows)  # the runner's bar, and its end


def on_screen(written: str) -> list[str]:
    """The rows that a terminal shows: a carriage return writes over what stands there."""
    rows = []
    for row in written.split("\r\n"):
        cells: list[str] = []
        for piece in row.split("\r"):
            cells[: len(piece)] = piece
        rows.append("".join(cells).rstrip())
    return rows


def test_a_client_that_left_requests_goes_on_with_others(tmp_path, monkeypatch):
    """As in an open notebook: stopped twice, then the cell is changed and run again."""
    with HeldServer() as server, connect("scripted", server.url, store=tmp_path / "s.sqlite") as client:

        def stopped(*_: object) -> None:
            in_flight(server)
            raise KeyboardInterrupt

        with monkeypatch.context() as patch, pytest.raises(StoppedEarly, match="4 requests in flight were left"):
            patch.setattr(Progress, "follow", stopped)
            client.complete(asks(400))
        server.release.set()
        assert [completion.error for completion in client.complete(asks(20))] == [None] * 20
        assert {prompt_of(body) for body in server.bodies} == {f"prompt {number}" for number in range(20)}
    assert stored(tmp_path / "s.sqlite") == 20


def test_an_error_of_ours_ends_the_asking_too(tmp_path, monkeypatch):
    """A full disk, say: nothing is sent, and paid for, behind the error's back."""
    with (
        ScriptedServer(echo, latency_s=0.02) as server,
        connect("scripted", server.url, store=tmp_path / "s.sqlite") as client,
    ):
        monkeypatch.setattr(client.store, "put", lambda stored: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            client.complete(asks(400))
        time.sleep(0.2)
        assert len(server.bodies) < 20
