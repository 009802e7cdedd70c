"""Sweeps in the small: the real notebooks without their kernels, and the scripted model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from helpers.notebooks import run_cells
from helpers.scripted import MODEL

from selfinstruct.files import SelfInstructError, write_json, write_records
from selfinstruct.runfolder import INSTRUCTIONS, REJECTIONS, RunFolder
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


def write_run(folder: Path, rounds: list[tuple[int, int]], threshold: float = 0.7) -> RunFolder:
    """A run of step 1: (admitted, too similar) of each round of five requests."""
    admitted = [
        {"instruction": f"{folder} {at} {n}.", "most_similar": {"x": 0.2 + 0.1 * at}, "request_idx": at}
        for at, (count, _) in enumerate(rounds)
        for n in range(count)
    ]
    dropped = [
        {"step": "1_instructions", "reason": "too_similar", "candidate": "x", "request_idx": at}
        for at, (_, count) in enumerate(rounds)
        for _ in range(count)
    ]
    write_records(folder / INSTRUCTIONS, admitted)
    write_records(folder / REJECTIONS, dropped)
    name = "02_generate_instructions"
    write_json(folder / f"results/{name}.json", {"requested": 5 * len(rounds)})
    run = RunFolder(folder)
    tokens = {"prompt_tokens": 100, "completion_tokens": 50, "cost_usd": 0.5}
    given = {"requests_per_round": 5, "rouge_threshold": threshold, "random_seed": 1, "concurrency": len(rounds)}
    run.note(parameters={name: given}, usage={name: tokens}, model={"model": "scripted"})
    return run


def write_trial(folder: Path, prompt_set: str = "ours", step: str = "instructions", **values: list[float]) -> RunFolder:
    """A run folder with a trial of notebook 20 alone: number=[value, low, high]."""
    name, counts = "20_ablate_prompts", {"requests": 8, "candidates": 20, "accepted": 16, "rejected": {"too_short": 4}}
    write_json(folder / f"results/{name}.json", {"step": step, "values": [values, values], **counts})
    run = RunFolder(folder)
    run.note(parameters={name: {"prompt_set": prompt_set, "random_seed": 1}})
    return run


def write_sweep(folder: Path, arms: tuple[str, str] = ("low", "high")) -> RunFolder:
    """A finished sweep: two arms, three seeds; one cell failed."""
    cells = {}
    for arm, bonus in zip(arms, (0, 5), strict=True):
        for seed in (1, 2, 3):
            place = f"cells/{arm}/seed{seed}"
            write_run(folder / place, [(5 + bonus + seed, 2), (5 + bonus, seed)], 0.5 if bonus else 0.7)
            cells[f"{arm} / seed {seed}"] = {"arm": arm, "random_seed": seed, "folder": place, "state": "done"}
    cells[f"{arms[1]} / seed 3"] |= {"state": "failed", "error": "02: no model"}
    write_json(folder / "sweep.json", {"cells": cells})
    return RunFolder(folder)
