"""Responses of columns to rate, in both layouts, and grades of a rater that is a script: for tests only, and named so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from selfinstruct.files import write_records
from selfinstruct.review.ratings import Rating
from selfinstruct.review.responses import RESPONSES, KeyRow

SCRIPT = "scripted rater"


def task(number: int) -> dict[str, str]:
    """The task of this number; every second one has no input."""
    given = "" if number % 2 else f"Words of text {number}."
    return {"instruction": f"Say something of {number}.", "input": given, "target": f"Something of {number}."}


def write_predictions(path: Path, count: int = 12, response: str = "") -> Path:
    """A prediction file as released; the column is the file's name. `response` may have the task's number in it, as {k}."""
    name = path.stem.removesuffix("_predictions")
    response = response or name + " says {k}."
    rows = [{**task(k), "prompt": "x", "response": response.format(k=k)} for k in range(count)]
    return write_records(path, rows)


def write_responses(run_dir: Path, columns: Sequence[str], count: int = 12, seeds: Sequence[Any] = (1,)) -> Path:
    """What notebook 07 writes."""
    rows = [
        {"task_id": f"heldout_{k}", "column": column, "training_seed": seed, **task(k), "response": f"{column} {seed} says {k}.",
         "finish_reason": "stop"}
        for column in columns for seed in seeds for k in range(count)
    ]  # fmt: skip
    return write_records(run_dir / RESPONSES, rows)


def grade_by(key: Sequence[KeyRow], grades: Mapping[str, str], rater: str = SCRIPT) -> dict[str, Rating]:
    """id -> grade: of a column the letters in `grades`, task by task, from the start again when they end; "." grades nothing."""
    found, seen = {}, dict.fromkeys(grades, 0)
    for row in key:
        if row.column in grades:
            letter = grades[row.column][seen[row.column] % len(grades[row.column])]
            seen[row.column] += 1
            if letter != ".":
                found[row.id] = Rating(id=row.id, rater=rater, grade=letter)
    return found
