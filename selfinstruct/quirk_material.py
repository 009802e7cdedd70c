"""The texts that notebook 22 shows quirks on: all that a run folder holds, or the finished rows of a data set.

    material = load_material(run, "outputs/example")     # a run folder: completions, labels, ledger, rows
    material = load_material(run, "rows.jsonl")          # finished rows: instructions, inputs, outputs, perhaps labels

Parts that are not there are empty: many quirks leave no trace in finished rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

from .datasets import load_dataset
from .manifest import load_results
from .parsing import split_instructions
from .pipeline import classification_labels
from .records import (
    ClassificationAnswer,
    InputError,
    InstanceRow,
    MachineInstances,
    MachineInstruction,
    Rejection,
    load_records,
    project_path,
    read_json,
    shown_path,
)
from .runfolder import ALL_INSTANCES, CLASSIFICATION, INSTANCES, INSTRUCTIONS, REJECTIONS, RunFolder, find_files

R = TypeVar("R")
_STEP_1 = "02_generate_instructions"


@dataclass
class Material:
    """What there is to look at: `step_1` are the numbers notebook 02 recorded, `target` how many instructions it was told to write."""

    name: str = ""
    records: list[MachineInstruction] = field(default_factory=list)
    answers: list[ClassificationAnswer] = field(default_factory=list)
    label_files: list[str] = field(default_factory=list)
    raw: list[MachineInstances] = field(default_factory=list)
    rows: list[InstanceRow] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    instructions: list[str] = field(default_factory=list)
    labels: dict[str, bool] = field(default_factory=dict)
    step_1: dict[str, Any] = field(default_factory=dict)
    target: int | None = None

    @property
    def completions(self) -> list[str]:
        """The different completions of step 1 that an instruction was taken from, as they came."""
        return list(dict.fromkeys(self._completions_repeated))

    @property
    def repeated(self) -> int:
        """How many instructions carry a completion that an earlier one carries already (Q10)."""
        return len(self._completions_repeated) - len(self.completions)

    @property
    def _completions_repeated(self) -> list[str]:
        return [text for text in map(_completion_of, self.records) if text]

    @property
    def candidates(self) -> list[str]:
        """The items of those completions, with their capitals."""
        return [item for text in self.completions for item in split_instructions(text, "fixed")]

    @property
    def tasks(self) -> list[list[InstanceRow]]:
        """The finished rows, task by task."""
        found: dict[str, list[InstanceRow]] = {}
        for row in self.rows:
            found.setdefault(row.instruction, []).append(row)
        return list(found.values())

    def raw_of(self, is_classification: bool) -> list[MachineInstances]:
        """The raw instances of one type of task."""
        return [record for record in self.raw if self.labels.get(record.instruction) is is_classification]

    def rejected(self, reason: str) -> list[Rejection]:
        """The ledger's rows of one rule."""
        return [row for row in self.rejections if row.reason == reason]


def _completion_of(record: MachineInstruction) -> str:
    """The completion behind an instruction; "" in a run with `quirks="fixed"`, which does not repeat it in each row (Q10)."""
    choices = (record.metadata.get("response") or {}).get("choices") or [{}]
    return choices[0].get("text") or (choices[0].get("message") or {}).get("content") or ""


def load_material(run: RunFolder, data: str = "") -> Material:
    """What `run` holds; or, where `data` is another run folder, what that one holds; or the rows of the data set `data` alone.

    Raises InputError where there is neither an instruction nor a row.
    """
    if not data:
        return _of_folder(run.path)
    path = project_path(data)
    a_run = any(find_files(path, pattern) for pattern in (INSTRUCTIONS, ALL_INSTANCES))
    return _of_folder(path) if a_run else _of_rows(data)


def _of_folder(path: Path) -> Material:
    answers, rows = _newest(path, CLASSIFICATION, ClassificationAnswer), _newest(path, ALL_INSTANCES, InstanceRow)
    records = _newest(path, INSTRUCTIONS, MachineInstruction)
    if not records and not rows:
        raise InputError(
            f"{shown_path(path)}: no instructions in this run folder; run notebook 02 first, or set data to a file"
        )
    return Material(
        name=path.name,
        records=records,
        answers=answers,
        label_files=[found.name for found in find_files(path, CLASSIFICATION)],
        raw=_newest(path, INSTANCES, MachineInstances),
        rows=rows,
        rejections=_newest(path, REJECTIONS, Rejection),
        instructions=[one.instruction for one in records] or list(dict.fromkeys(row.instruction for row in rows)),
        labels=classification_labels(answers),
        step_1=load_results(path, _STEP_1),
        target=_target(path),
    )


def _of_rows(data: str) -> Material:
    dataset = load_dataset(data)
    rows = [InstanceRow(instruction=r.instruction, input=r.input or "", output=r.output or "") for r in dataset.rows]
    labels = {row.instruction: row.is_classification for row in dataset.rows if row.is_classification is not None}
    return Material(
        name=dataset.name,
        rows=rows if dataset.has_instances else [],
        instructions=dataset.instructions,
        labels=labels,
    )


def _target(folder: Path) -> int | None:
    """How many instructions step 1 was told to generate in this run folder; None where it was not run by the runner."""
    path = folder / "run.json"
    state = read_json(path) if path.is_file() else {}
    return state.get("notebooks", {}).get(_STEP_1, {}).get("parameters", {}).get("num_instructions_to_generate")


def _newest(folder: Path, pattern: str, record: type[R]) -> list[R]:
    found = sorted(find_files(folder, pattern), key=lambda path: path.stat().st_mtime_ns)
    return load_records(found[-1], record) if found else []  # type: ignore[type-var]
