"""Bars and news are seen where the person is who waits."""

import os
import struct
import subprocess
import sys

import nbformat
import pytest
from helpers.notebooks import FIRST, write_notebook

from selfinstruct import bars, display
from selfinstruct.bars import find_stderr, progress_bar, tell_person
from selfinstruct.runner.run import run_notebooks
from selfinstruct.session import OWNER_VARIABLE

WORK = """\
import sys, time
from selfinstruct import bars, display
bars.SECONDS_BETWEEN_LINES = float(sys.argv[1])
with bars.progress_bar(total=3, desc="training", unit="step", disable=None if bars.works_for_another() else False) as bar:
    for step in range(3):
        time.sleep(0.02)
        bar.set_postfix_str(f"loss {step}")
        bar.update()
bars.tell_person("Stopping.")
"""
CELL = """\
import time
from selfinstruct import bars, display
bars.SECONDS_BETWEEN_LINES = 0.01
with bars.progress_bar(total=2, desc="answers", mininterval=0) as bar:
    for _ in range(2):
        time.sleep(0.05)
        bar.update()
from selfinstruct.runfolder import open_run
run = open_run("02_generate_instructions", locals())
"""


def work(seconds: float, stderr: int, kernel: bool = True) -> None:
    """Run WORK in a process that works for this one, as a kernel of a run does, or in one that works for itself."""
    environment = {**os.environ, OWNER_VARIABLE: str(os.getpid()) if kernel else ""}
    subprocess.run([sys.executable, "-c", WORK, str(seconds)], env=environment, stderr=stderr, check=True)


def read_log(tmp_path, seconds: float, kernel: bool = True) -> str:
    with (tmp_path / "log").open("w+b") as log:
        work(seconds, log.fileno(), kernel)
        log.seek(0)
        return log.read().decode()


@pytest.mark.parametrize("kernel", [True, False])
def test_in_a_log_a_bar_is_a_line_now_and_then(tmp_path, kernel):
    lines = read_log(tmp_path, 0.01, kernel).splitlines()
    assert lines[-1] == "Stopping."
    assert len(lines) > 2 and all(line.startswith("  training: ") for line in lines[:-1])
    assert any("1/3" in line and "loss 1" in line for line in lines)
    assert not any("\r" in line or "█" in line for line in lines)


def test_what_is_soon_over_needs_no_line(tmp_path):
    assert read_log(tmp_path, 30) == "Stopping.\n"


def test_in_a_terminal_it_is_a_bar_that_goes_when_it_is_over():
    fcntl, termios = pytest.importorskip("fcntl"), pytest.importorskip("termios")  # not on Windows
    ours, theirs = os.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    work(30, theirs)
    os.close(theirs)
    shown = b""
    try:
        while part := os.read(ours, 65536):
            shown += part
    except OSError:  # Linux says the end so
        pass
    os.close(ours)
    *bar, _, news = shown.decode().split("\r")[:-1]
    assert any("training:" in part and "|" in part and "loss 1" in part for part in bar)
    assert bar[-1].strip() == "" and news.startswith("Stopping.")


def test_a_notebook_that_a_command_runs_shows_its_bar_there(tmp_path, capfd):
    write_notebook(tmp_path / "notebooks", FIRST, CELL)
    run_notebooks(tmp_path / "run", {}, notebooks_dir=tmp_path / "notebooks", out=lambda line: None)
    assert "  answers: " in capfd.readouterr().err
    copy = nbformat.read(tmp_path / "run" / "notebooks" / f"{FIRST}.ipynb", as_version=4)
    assert not any("answers" in str(cell.get("outputs")) for cell in copy.cells)


def test_in_a_script_bars_are_tqdms_own(monkeypatch, capfd):
    monkeypatch.delenv(OWNER_VARIABLE, raising=False)
    with progress_bar(total=1, desc="here") as bar:
        bar.update()
    tell_person("news")
    assert "here: 100%" in (shown := capfd.readouterr().err) and "news" in shown
    assert find_stderr() == sys.stderr.fileno() if hasattr(sys.stderr, "fileno") else True
    assert bars.SECONDS_BETWEEN_LINES == 30


def test_an_announcement_is_in_the_cell_and_under_the_runner_at_once_in_its_terminal(monkeypatch, tmp_path, capsys):
    terminal = tmp_path / "terminal"
    monkeypatch.delenv(OWNER_VARIABLE, raising=False)
    with terminal.open("wb") as file:
        monkeypatch.setattr(bars, "find_stderr", file.fileno)
        display.announce("two minutes")
        assert (capsys.readouterr(), terminal.read_bytes()) == (("two minutes\n", ""), b"")
        for module in (bars, display):
            monkeypatch.setattr(module, "works_for_another", lambda: True)
        display.announce("two minutes\nand one")
    assert capsys.readouterr().out == terminal.read_text() == "two minutes\nand one\n"
