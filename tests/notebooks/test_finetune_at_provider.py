"""Notebook 06 with backend="provider": a job against a loopback fake, headless, waiting included, and with no library for training."""

from __future__ import annotations

import nbformat
import pytest
from helpers.finetuning import TUNED, FineTuningApi
from helpers.notebooks import read_results
from helpers.scripted import ScriptedServer

from selfinstruct.files import StoppedEarly, read_json, write_records
from selfinstruct.runfolder import ALL_INSTANCES, FINETUNING
from selfinstruct.runner.run import run_notebooks

NAME = "06_finetune_model"


@pytest.fixture
def run_dir(tmp_path):
    folder = tmp_path / "run"
    write_records(
        folder / ALL_INSTANCES, [{"instruction": f"Count to {n}.", "input": "", "output": str(n)} for n in range(30)]
    )
    rows = [{"prompt": f"Count to {n}.\n", "completion": f"{n}<|endoftext|>"} for n in range(30)]
    write_records(folder / FINETUNING.replace("*", "30"), rows)
    return folder


def test_the_notebook_makes_a_job_looks_again_and_ends_with_the_model(run_dir):
    api, lines = FineTuningApi("running"), []
    with ScriptedServer(lambda body: "x", route=api) as server:
        given = {"backend": "provider", "base_model": "scripted", "base_url": server.url, "training_price": "3"}
        with pytest.raises(StoppedEarly, match="ftjob-1: running; it goes on at the provider"):
            run_notebooks(run_dir, given, only=["06"], out=lines.append)
        api.statuses = ["succeeded"]
        run_notebooks(run_dir, given, only=["06"], out=lines.append)
    results = read_results(run_dir, NAME)
    (trained,) = results["trained"]
    assert read_json(run_dir / "adapters/provider/training.json").items() <= trained.items()
    assert trained["model"] == TUNED and trained["column"] == "run_data" and (len(api.files), len(api.jobs)) == (2, 1)
    assert any(TUNED in line for line in lines), lines
    page = nbformat.read(run_dir / f"notebooks/{NAME}.ipynb", as_version=4)
    text = "".join(str(output.get("text", "")) for cell in page.cells for output in cell.get("outputs", []))
    assert "$3 a million" in text and "OpenAI is closing" in text and "job ftjob-1: succeeded" in text
