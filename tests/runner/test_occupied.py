"""One command at a time in a run folder: the second ends at once and says so; nothing of it stays, not even after kill -9."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner
from helpers.notebooks import FIRST, PARAMETERS, wait_until, write_notebook

from selfinstruct.cli import main
from selfinstruct.files import InputError, SelfInstructError
from selfinstruct.locks import LOCK_FILE, lock_folder
from selfinstruct.runner.run import run_notebooks

WRITE = """\
from selfinstruct.runfolder import open_run
from selfinstruct.files import write_records
run = open_run("02_generate_instructions", locals())
write_records(run / "machine_generated_instructions.jsonl", [{"instruction": "Say 42."}])
"""


@pytest.fixture
def notebooks(tmp_path) -> Path:
    return write_notebook(tmp_path / "notebooks", FIRST, WRITE).parent


def start_run(tmp_path: Path) -> subprocess.Popen:
    """A command of its own that is in the run folder until it is ended."""
    waiting = f"import pathlib, time\npathlib.Path({str(tmp_path / 'started')!r}).touch()\ntime.sleep(60)"
    slow = write_notebook(tmp_path / "slow", FIRST, waiting, PARAMETERS).parent
    code = f"from selfinstruct.runner.run import run_notebooks\nrun_notebooks({str(tmp_path / 'run')!r}, notebooks_dir={str(slow)!r})"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    assert wait_until(lambda: (tmp_path / "started").is_file())
    return process


def test_a_second_command_ends_at_once_and_a_killed_one_leaves_the_folder_free(tmp_path, notebooks):
    process = start_run(tmp_path)
    try:
        before = (tmp_path / "run" / "run.json").read_bytes()
        with pytest.raises(SelfInstructError) as refused:
            run_notebooks(tmp_path / "run", notebooks_dir=notebooks, out=lambda _: None)
        assert re.fullmatch(
            rf"{tmp_path}/run: another command is running in this folder \(process {process.pid}, since [-\d]+ [:\d]+\); "
            "wait until it has ended, or name another folder with --run-dir",
            str(refused.value),
        )
        assert (tmp_path / "run" / "run.json").read_bytes() == before
        run_notebooks(tmp_path / "other", notebooks_dir=notebooks, out=lambda _: None)  # another folder is free
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
    assert (tmp_path / "run" / LOCK_FILE).is_file()
    (outcome,) = run_notebooks(tmp_path / "run", notebooks_dir=notebooks, out=lambda _: None)
    assert not outcome.skipped
    assert not (tmp_path / "run" / LOCK_FILE).exists()


def test_the_command_line_says_it_in_one_line(tmp_path):
    with lock_folder(tmp_path / "run"):
        done = CliRunner().invoke(main, ["run", "--only", "01", "--run-dir", str(tmp_path / "run")])
    assert done.exit_code == 1
    assert done.output.startswith(
        f"Error: {tmp_path}/run: another command is running in this folder (process {os.getpid()}"
    )
    assert done.output.count("\n") == 1


def test_the_lock_is_no_part_of_the_run(tmp_path, notebooks):
    run = tmp_path / "run"
    run_notebooks(run, notebooks_dir=notebooks, out=lambda _: None)
    assert not (run / LOCK_FILE).exists()
    assert LOCK_FILE not in (run / "run.json").read_text() + (run / "report.html").read_text()


def test_a_run_that_is_refused_leaves_no_folder(tmp_path, notebooks):
    write_notebook(notebooks, "03_identify_classification", WRITE)
    with pytest.raises(InputError, match="no such file; 02_generate_instructions writes it"):
        run_notebooks(tmp_path / "run", only=["03"], notebooks_dir=notebooks)
    assert not (tmp_path / "run").exists()
