"""Small notebooks for tests of the runner, the cells of the real ones without a kernel, and waiting for other processes."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import nbformat
import psutil
from nbformat import v4
from papermill.iorw import load_notebook_node
from papermill.parameterize import parameterize_notebook

from selfinstruct.files import read_json
from selfinstruct.runfolder import NOTEBOOKS_DIR

FIRST, SECOND = "02_generate_instructions", "03_identify_classification"

PARAMETERS = """\
run_dir: str = "outputs/run"  # where files go
random_seed: int = 42  # draws
temperature: float = 0.7  # the paper: 0.7
quick: bool = False  # fewer rows
sizes: list[int] = [1, 2]  # of the pool
extra: dict[str, float] = {}  # anything
model: str = "embedded"  # who answers
"""


def write_notebook(folder: Path, name: str, code: str, parameters: str = PARAMETERS) -> Path:
    tagged = {"metadata": {"tags": ["parameters"]}}
    cells = [
        v4.new_code_cell(parameters, **tagged),
        v4.new_code_cell(code),
        v4.new_code_cell('run.record({"rows": 1})'),
    ]
    for number, cell in enumerate(cells):
        cell.id = f"cell-{number}"
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    folder.mkdir(exist_ok=True)
    nbformat.write(v4.new_notebook(cells=cells, metadata=kernel), folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"


def run_cells(name: str, run_dir: Path, **parameters: Any) -> dict[str, Any]:
    """Run the code cells of a notebook of the kit here, without a kernel; returns every name they define."""
    page = load_notebook_node(str(NOTEBOOKS_DIR / f"{name}.ipynb"))
    given = {"run_dir": str(run_dir), **parameters}
    page = parameterize_notebook(page, given, kernel_name="python3", language="python")
    names: dict[str, Any] = {"display": print}
    for cell in page.cells:
        if cell.cell_type == "code":
            exec(compile(cell.source, f"{name}: {cell.source[:40]}", "exec"), names)
    return names


def read_results(run_dir: Path, name: str) -> dict[str, Any]:
    """The numbers that the notebook `name` recorded."""
    return read_json(run_dir / "results" / f"{name}.json")


def wait_until(condition, seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


def kernel_processes(parent: int) -> list[psutil.Process]:
    """The kernels among the descendants of a process, and the server that forks them."""
    return [one for one in psutil.Process(parent).children(recursive=True) if _runs_kernels(one)]


def _runs_kernels(process: psutil.Process) -> bool:
    try:
        command = " ".join(process.cmdline())
    except psutil.Error:  # it has just ended
        return False
    return "ipykernel_launcher" in command or "selfinstruct.runner.forkserver" in command
