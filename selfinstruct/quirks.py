"""What the released code does oddly, shown on the texts at hand: as published, put right, and how many rows it touches.

    material = load_material(run)
    contrast("Q1", "candidates", material.candidates, split_instructions, lambda t: split_instructions(t, "fixed"), "Say NASA.")

Notebook 22 goes through all twenty. The rules themselves are in `parsing`, `filters`, `export` and `bootstrap`, under
`quirks="published"` and `quirks="fixed"`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar

from .datasets import load_dataset
from .filters import INSTRUCTION_RULES
from .parsing import check_quirks, parse_instances, split_instructions
from .pipeline import classification_labels
from .records import (
    ClassificationAnswer,
    InputError,
    Instance,
    InstanceRow,
    MachineInstances,
    MachineInstruction,
    Rejection,
    load_records,
    read_json,
)
from .runfolder import ALL_INSTANCES, CLASSIFICATION, INSTANCES, INSTRUCTIONS, REJECTIONS, RunFolder, find_files

if TYPE_CHECKING:
    import pandas as pd

QUIRKS = {
    "Q1": "all but the first letter of an instruction is lower-cased",
    "Q2": "a stop sequence can strike in the middle of a text",
    "Q3": "a completion that runs out of tokens is thrown away whole",
    "Q4": "banned words strike where they mean something else",
    "Q5": "the seed tasks are exempt from every rule",
    "Q6": "ROUGE-L sees only a to z and 0 to 9",
    "Q7": "every candidate is compared with everything, one pair at a time",
    "Q8": "the loop never ends where nothing comes back",
    "Q9": "the target is checked between rounds only",
    "Q10": "every instruction carries its whole prompt and response",
    "Q11": "a file is emptied before it is written again",
    "Q12": "step 3 wants the file of one engine by name",
    "Q13": "what a task gets depends on its neighbours in the batch",
    "Q14": "one class label counts as two where its case differs",
    "Q15": "instances pass through a set, whose order is not fixed",
    "Q16": "sampling instructions fails on Python 3.11 and later",
    "Q17": "a marker counts wherever it stands in a text",
    "Q18": "everything up to a colon is cut from half of the inputs",
    "Q19": "training rows do not say where they come from",
    "Q20": "step 4 compares instances within a task only",
}
T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class Contrast:
    """One quirk on the texts at hand: those that come out differently, as (text, as published, fixed)."""

    quirk: str
    unit: str
    looked_at: int
    touched: list[tuple[Any, Any, Any]]
    made_up: tuple[Any, Any, Any] | None = None

    @property
    def counts(self) -> dict[str, Any]:
        """How many texts it touches, of how many, of what kind."""
        return count(len(self.touched), self.looked_at, self.unit)

    def examples(self, show: int) -> list[dict[str, str]]:
        """The first `show` texts that it touches, or the made-up one where it touches none."""
        rows = self.touched[:show] or ([self.made_up] if self.made_up else [])
        of = "this data" if self.touched else "made up"
        names = ("text", "as published", "fixed")
        return [{"quirk": self.quirk, "from": of, **dict(zip(names, map(_shown, row), strict=True))} for row in rows]


def count(touched: int, of: int, unit: str) -> dict[str, Any]:
    """A quirk's entry in the results: how many it touches, of how many, of what kind."""
    return {"touched": touched, "of": of, "unit": unit}


def touches(counted: dict[str, Any]) -> str:
    """An entry of the results as a sentence, which tells "none of them" from "there are none here to look at"."""
    if not counted["of"]:
        return f"no {counted['unit']} in this data to tell by"
    return f"{counted['touched']:,} of {counted['of']:,} {counted['unit']}"


def show_contrasts(*contrasts: Contrast, show: int = 3) -> pd.DataFrame:
    """Print how many texts each quirk touches; returns the first `show` examples of each as a table."""
    import pandas as pd

    for one in contrasts:
        print(f"{one.quirk} touches: {touches(one.counts)}")
    columns = ["quirk", "from", "text", "as published", "fixed"]
    return pd.DataFrame([row for one in contrasts for row in one.examples(show)], columns=columns).set_index("quirk")


def _shown(value: Any) -> str:
    if isinstance(value, list):
        return " | ".join(_shown(one) for one in value) or "(nothing)"
    if hasattr(value, "input") and hasattr(value, "output"):
        return f"{value.input!r} -> {value.output!r}"
    text = str(getattr(value, "raw_instances", value))
    return text if len(text) <= 300 else text[:300] + " ..."


def contrast(
    quirk: str,
    unit: str,
    texts: Iterable[T],
    published: Callable[[T], Any],
    fixed: Callable[[T], Any],
    made_up: T | None = None,
) -> Contrast:
    """Put every text through both rules and keep those on which they part; `made_up` is shown where none does."""
    every = [(text, published(text), fixed(text)) for text in texts]
    touched = [row for row in every if row[1] != row[2]]
    example = None if made_up is None else (made_up, published(made_up), fixed(made_up))
    return Contrast(quirk, unit, len(every), touched, example)


@dataclass
class Material:
    """The texts of a run folder, or of another data set, that quirks can be shown on; parts that are not there are empty."""

    records: list[MachineInstruction] = field(default_factory=list)
    answers: list[ClassificationAnswer] = field(default_factory=list)
    raw: list[MachineInstances] = field(default_factory=list)
    rows: list[InstanceRow] = field(default_factory=list)
    rejections: list[Rejection] = field(default_factory=list)
    instructions: list[str] = field(default_factory=list)

    @property
    def labels(self) -> dict[str, bool]:
        """instruction -> is it classification, as step 2 said."""
        return classification_labels(self.answers)

    @property
    def completions(self) -> list[str]:
        """The different completions of step 1 that an instruction was taken from, as they came."""
        found = (_completion_of(record) for record in self.records)
        return list(dict.fromkeys(text for text in found if text))

    @property
    def candidates(self) -> list[str]:
        """The items of those completions, with their capitals."""
        return [item for text in self.completions for item in split_instructions(text, "fixed")]

    def raw_of(self, is_classification: bool) -> list[MachineInstances]:
        """The raw instances of one type of task."""
        labels = self.labels
        return [record for record in self.raw if labels.get(record.instruction) is is_classification]

    def rejected(self, reason: str) -> list[Rejection]:
        """The ledger's rows of one rule."""
        return [row for row in self.rejections if row.reason == reason]


def _completion_of(record: MachineInstruction) -> str:
    """The completion behind an instruction; "" in a run with `quirks="fixed"`, which does not repeat it in each row (Q10)."""
    choices = (record.metadata.get("response") or {}).get("choices") or [{}]
    return choices[0].get("text") or (choices[0].get("message") or {}).get("content") or ""


def load_material(run: RunFolder, data: str = "") -> Material:
    """What `run` holds, or the rows of the data set `data` alone.

    Raises InputError where there is neither an instruction nor a row.
    """
    if data:
        dataset = load_dataset(data)
        rows = [
            InstanceRow(instruction=r.instruction, input=r.input or "", output=r.output or "") for r in dataset.rows
        ]
        return Material(rows=rows if dataset.has_instances else [], instructions=dataset.instructions)
    material = Material(
        records=_newest(run, INSTRUCTIONS, MachineInstruction),
        answers=_newest(run, CLASSIFICATION, ClassificationAnswer),
        raw=_newest(run, INSTANCES, MachineInstances),
        rows=_newest(run, ALL_INSTANCES, InstanceRow),
        rejections=_newest(run, REJECTIONS, Rejection),
    )
    material.instructions = [record.instruction for record in material.records]
    if not material.instructions and not material.rows:
        raise InputError(
            f"{run.path.name}: no instructions in this run folder; run notebook 02 first, or set data to a file"
        )
    return material


def asked_for(run: RunFolder) -> int | None:
    """How many instructions step 1 was told to generate in this run folder; None where it was not run by the runner."""
    path = run / "run.json"
    state = read_json(path) if path.is_file() else {}
    given = state.get("notebooks", {}).get("02_generate_instructions", {}).get("parameters", {})
    return given.get("num_instructions_to_generate")


def _newest(run: RunFolder, pattern: str, record: type[R]) -> list[R]:
    found = sorted(find_files(run.path, pattern), key=lambda path: path.stat().st_mtime_ns)
    return load_records(found[-1], record) if found else []  # type: ignore[type-var]


def cut_at_stop(text: str, stops: Sequence[str]) -> str:
    """`text` as a model would return it with these stop sequences: up to the first of them."""
    ends = [text.find(stop) for stop in stops if stop in text]
    return text[: min(ends)] if ends else text


def rule_says(rule: str, quirks: str) -> Callable[[str], str]:
    """A function from an instruction to "dropped" or "kept" by one rule of step 1 alone."""
    fixed = check_quirks(quirks)
    return lambda text: "dropped" if text and INSTRUCTION_RULES[rule](text, fixed) else "kept"


def instances_of(is_classification: bool, quirks: str) -> Callable[[MachineInstances], list[Instance]]:
    """A function from a raw completion of step 3 to the instances in it."""
    return lambda record: parse_instances(record.raw_instances, record.instruction, is_classification, None, quirks)


def rounds_cut(rejections: Sequence[Rejection]) -> list[list[str]]:
    """The items of step-1 completions that ran out of tokens, round by round."""
    rounds: dict[Any, list[str]] = {}
    for row in rejections:
        if row.reason == "cut_by_length" and row.step.startswith("1"):
            rounds.setdefault(row.request_idx, []).append(row.candidate)
    return list(rounds.values())


def instances_told_twice(rows: Sequence[InstanceRow]) -> list[tuple[str, list[str]]]:
    """(input and output, the instructions that share them) for instances that stand under several tasks."""
    tasks: dict[tuple[str, str], dict[str, None]] = {}
    for row in rows:
        tasks.setdefault((row.input, row.output), {})[row.instruction] = None
    return [(f"{key[0]!r} -> {key[1]!r}", list(found)) for key, found in tasks.items() if len(found) > 1]
