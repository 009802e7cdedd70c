"""Small notebooks for tests of the runner, and waiting for what other processes do."""

from __future__ import annotations

import time
from pathlib import Path

import nbformat
from nbformat import v4

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


def wait_until(condition, seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()
