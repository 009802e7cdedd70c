"""Responses of columns to rate, and grades of a rater that is a script: for tests only, and named so."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from selfinstruct.files import write_records
from selfinstruct.review.ratings import Rating
from selfinstruct.review.responses import KeyRow

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


def write_responses(run_dir: Path, columns: Sequence[str], count: int = 12, seeds: Sequence[Any] = (1,)) -> list[Path]:
    """What notebook 07 writes."""
    folder = run_dir / "evaluation/predictions"
    return [
        write_predictions(folder / f"{column}-{seed}_predictions.jsonl", count, f"{column} {seed} says {{k}}.")
        for column in columns
        for seed in seeds
    ]


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
