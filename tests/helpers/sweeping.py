"""Sweeps in the small: the real notebooks without their kernels, and the scripted model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.notebooks import run_cells
from helpers.scripted import MODEL

from selfinstruct.files import SelfInstructError
from selfinstruct.runner.execution import Step
from selfinstruct.runner.plan import SweepPlan, load_plan


def run_without_kernels(patch: pytest.MonkeyPatch) -> None:
    """Let the runner run a notebook's cells in this process; all else it does as always."""

    def execute(step: Step, copy: Path, arguments: Any) -> None:
        given = dict(step.parameters)
        try:
            run_cells(step.name, given.pop("run_dir"), **given)
        except SelfInstructError as error:
            raise type(error)(f"{step.name}: {error}") from None
        copy.write_text("executed")

    patch.setattr("selfinstruct.runner.run.execute_step", execute)


def write_plan(folder: Path, url: str, **changed: Any) -> SweepPlan:
    """A plan of notebook 02 with the scripted model at `url`: two arms, two seeds, unless `changed`."""
    import yaml

    parameters = {
        "model": MODEL, "base_url": url, "store": str(folder / "store.sqlite"), "num_instructions_to_generate": 8,
        **changed.pop("parameters", {}),
    }  # fmt: skip
    plan = {
        "notebooks": ["02"], "random_seeds": [1, 2], "grid": {"num_prompt_instructions": [8, 4]},
        "parameters": parameters, **changed,
    }  # fmt: skip
    (folder / "sweep.yaml").write_text(yaml.safe_dump(plan))
    return load_plan(folder / "sweep.yaml")
