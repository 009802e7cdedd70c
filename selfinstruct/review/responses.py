"""Responses of models to the same tasks, from any source, and a blind sample of them for people to grade.

    responses = load_responses("", run)                       # what notebook 07 wrote; or files of predictions as released
    items, key = draw_responses(responses, size=50)           # items carry no name of a model; the key has them

A column is what is compared: one model, or one way to train it. Files are in the layout of the published predictions, and named
after their column; those of notebook 07 may have a training seed after it. A task is known by its texts, so that the same task
is one task in every file.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pydantic import Field

from ..analysis.predictions import load_predictions
from ..files import InputError, given_path, show_path, write_records
from ..paper_numbers import paper_numbers
from ..records import Record
from ..runfolder import RunFolder
from .items import Identified, hash_texts, keep_sample

FILES = "*_predictions.jsonl"  # COLUMN_predictions.jsonl, or COLUMN-SEED_predictions.jsonl
FOLDERS = ("evaluation/predictions", "evaluation/scaling/predictions")  # of a run: of notebook 07, of 16
SEEDED = re.compile(r"([^-]+)-(\d+)")
SAMPLE, KEY = "ratings/sample.jsonl", "ratings/key.jsonl"
PUBLISHED = {  # column, as the released file is called -> what paper_numbers.json calls it; in the order of Figure 6
    "davinci": "gpt_3_175b", "davinci-t0-ft": "gpt_3_t0_training", "davinci-superni-ft": "gpt_3_superni_training",
    "davinci-self-instruct-and-superni-ft": "gpt_3_self_instruct_superni", "davinci-self-instruct": "gpt_3_self_instruct",
    "text-davinci-001": "instructgpt_001", "text-davinci-002": "instructgpt_002", "text-davinci-003": "instructgpt_003",
}  # fmt: skip
OWN = ("before_plain", "before_chat", "seeds_only", "generated_only", "run_data", "shuffled_outputs")


class Response(Record):
    """What one column answers to one task; `target` is the task's reference."""

    column: str = Field(min_length=1)
    training_seed: int | None = None
    instruction: str
    input: str = ""
    target: str
    response: str

    @property
    def task(self) -> str:
        """The task by its texts; blanks at their ends differ between the released files."""
        return hash_texts(self.instruction.strip(), self.input.strip(), self.target.strip())


class RatingItem(Identified):
    """A response to grade. Nothing in it says whose it is."""

    instruction: str
    input: str
    target: str
    response: str


class KeyRow(Record):
    """Whose response an item is; equal responses of two columns are one item with two rows."""

    id: str
    column: str
    task: str
    training_seed: int | None = None


def load_responses(data: str | Sequence[str], run: RunFolder) -> list[Response]:
    """The responses of one or several files or folders of them, with commas between or as a list; "" is what notebook 07 wrote in
    the run, else what 16 did, [] where it has none.

    Raises InputError, with file and line, for a file that is not there or a row without a response or its task.
    """
    paths = find_responses(data) or next(filter(None, (run.find(f"{folder}/{FILES}") for folder in FOLDERS)), [])
    return sort_columns([row for path in paths for row in _iter_responses(path)])


def find_responses(data: str | Sequence[str]) -> list[Path]:
    """The files that `data` names; raises InputError for one that is not there, or a folder without any."""
    given = data.split(",") if isinstance(data, str) else data
    named = [given_path(one.strip()) for one in given if one.strip()]
    paths = [path for one in named for path in sorted(one.glob(FILES)) or [one]]
    for path in paths:
        if not path.is_file():
            fetching = "; selfinstruct fetch brings the published files" * ("seeds/published" in path.as_posix())
            advice = "data takes files of predictions, as notebook 07 writes them"
            raise InputError(f"{show_path(path)}: no such file{fetching}; {advice}")
    return paths


def _iter_responses(path: Path) -> Iterator[Response]:
    column, seed = _read_name(path)
    for row in load_predictions(path):
        texts = row.model_dump(include={"instruction", "input", "target", "response"})
        yield Response(column=column, training_seed=seed, **texts)


def _read_name(path: Path) -> tuple[str, int | None]:
    """(column, training seed) of a file's name; the number in a published name is no seed."""
    name = path.stem.removesuffix("_predictions")
    seeded = SEEDED.fullmatch(name) if path.parent.as_posix().endswith(FOLDERS) else None
    return (seeded[1], int(seeded[2])) if seeded else (name, None)


def sort_columns(rows: list[Any]) -> list[Any]:
    """`rows` column by column: as Figure 6 has them, then those of notebook 07, then others as they come."""
    order = {name: number for number, name in enumerate((*PUBLISHED, *OWN))}
    return sorted(rows, key=lambda row: order.get(row.column, len(order)))


def draw_responses(
    responses: Sequence[Response], size: int = 50, random_seed: int = 42
) -> tuple[list[RatingItem], list[KeyRow]]:
    """`size` random tasks (all where there are fewer) that every column answers, with one response of each; and whose each is.

    Tasks come in random order and the responses to each in an order of its own: whoever stops midway has graded every column
    on nearly the same tasks. Of several training seeds of a column, chance takes one for each task. Raises InputError where no task
    is answered by all columns.
    """
    answers: dict[str, dict[str, list[Response]]] = {}
    for row in responses:
        answers.setdefault(row.column, {}).setdefault(row.task, []).append(row)
    if not answers:
        return [], []
    first, *others = answers.values()
    shared = [task for task in first if all(task in other for other in others)]
    if not shared:
        counts = ", ".join(f"{name} ({len(tasks)})" for name, tasks in answers.items())
        raise InputError(f"no task is answered by every column: {counts}; name files of responses to the same tasks")
    rng = random.Random(random_seed)
    tasks = rng.sample(shared, min(size, len(shared)))
    drawn = [(task, [rng.choice(column[task]) for column in answers.values()]) for task in tasks]
    key = [_build_key(row, task) for task, rows in drawn for row in rows]
    items: dict[str, RatingItem] = {}
    for _, rows in drawn:
        items |= {item.id: item for item in map(_build_item, rng.sample(rows, len(rows)))}
    return list(items.values()), sort_columns(key)


def _build_key(row: Response, task: str) -> KeyRow:
    return KeyRow(id=_build_item(row).id, column=row.column, task=task, training_seed=row.training_seed)


def _build_item(row: Response) -> RatingItem:
    texts = {"instruction": row.instruction, "input": row.input, "target": row.target, "response": row.response}
    texts = {name: text.strip() for name, text in texts.items()}
    return RatingItem(id=hash_texts(*texts.values()), **texts)


def keep_responses(run: RunFolder, items: Sequence[RatingItem], key: Sequence[KeyRow]) -> None:
    """Write the sample to the run folder at the first call, and next to it the key: apart, so that the sample stays blind."""
    if items:
        keep_sample(run / SAMPLE, items)
        write_records(run / KEY, key)


def name_published(column: str) -> str:
    """What the paper calls the model of a published column; the column's own name where it is another's."""
    known = {number.id: number.what for number in paper_numbers()}
    what = known.get(f"fig6.{PUBLISHED.get(column)}.d", "")
    return what.partition(", ")[2] or column


def published_grades() -> dict[str, dict[str, float]]:
    """column -> grade -> how many of 252 responses got it in Figure 6.

    Of plain GPT-3 the figure shows A and B only together: it has the key "AB".
    """
    counts = {number.id: number.value for number in paper_numbers() if number.id.startswith("fig6.")}
    found = {}
    for column, name in PUBLISHED.items():
        grades = {grade.upper(): counts.get(f"fig6.{name}.{grade}") for grade in "abcd"}
        together = {"AB": counts.get(f"fig6.{name}.a_b")}
        found[column] = {grade: value for grade, value in {**together, **grades}.items() if value is not None}
    return found
