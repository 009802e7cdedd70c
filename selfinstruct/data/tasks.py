"""Rows to train on: their ids, and their split by task.

rows = number_rows([TrainingRow("Name a colour.", "", "Blue")])
train, validation = split_rows(rows, validation=0.1, random_seed=42)
"""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from ..files import ParameterError


@dataclass(frozen=True, slots=True)
class TrainingRow:
    """One row to train on: the instance, the (prompt, completion) of the paper, and where it comes from.

    `place` is the file and line, or row, of the instance. `is_joined` rows hold the input in their instruction.
    """

    instruction: str
    input: str
    output: str
    prompt: str = ""
    completion: str = ""
    is_seed: bool = False
    place: str = ""
    id: str = ""
    is_joined: bool = False

    @property
    def question(self) -> str:
        """What a user of a chat would write: the instruction, and the input after a blank line."""
        return f"{self.instruction}\n\n{self.input}" if self.input else self.instruction


def number_rows(rows: Iterable[TrainingRow]) -> list[TrainingRow]:
    """The rows with their ids: the first 16 hexadecimal digits of the hash of (instruction, input, output).

    The same instance has the same id in every format and export; a repetition has -2, -3 after it.
    """
    counts: dict[str, int] = {}
    numbered = []
    for row in rows:
        text = json.dumps([row.instruction, row.input, row.output])
        id = hashlib.sha256(text.encode()).hexdigest()[:16]
        counts[id] = counts.get(id, 0) + 1
        numbered.append(replace(row, id=f"{id}-{counts[id]}" if counts[id] > 1 else id))
    return numbered


def find_task(row: TrainingRow) -> str:
    """What rows of one task have in common: the words of the instruction, without capitals, punctuation and spacing.

    Of an instruction that holds its input as well, the first line.

    >>> find_task(TrainingRow("Name  a river!", "", "Elbe")) == find_task(TrainingRow("name a river", "", "Po"))
    True
    """
    text = row.instruction.strip()
    if row.is_joined:
        first = re.sub(r"^(?:Task|Definition):\s*", "", text).partition("\n")[0]
        text = re.sub(r"\s*Output:$", "", first) or text
    return join_words(text)


def join_words(text: str) -> str:
    """The words of a text without capitals, punctuation and spacing; the text itself where it has no word.

    >>> join_words("Name  a river!"), join_words("?!")
    ('name a river', '?!')
    """
    return " ".join(re.findall(r"\w+", unicodedata.normalize("NFKC", text).casefold())) or text


def split_rows(
    rows: Sequence[TrainingRow], validation: float = 0.1, random_seed: int = 42
) -> tuple[list[TrainingRow], list[TrainingRow]]:
    """(train, validation), in order; all rows of a task are on one side. `validation` is the share of the tasks, 0 for none.

    A task has its place from the hash of the seed and its words, so that it keeps its side when other rows come or go.
    Raises ParameterError for a share that is none, or that leaves a side empty.
    """
    if not 0 <= validation < 1:
        raise ParameterError(
            f"validation={validation:g}: give a share of the tasks, from 0 to less than 1, such as 0.1"
        )
    tasks = [find_task(row) for row in rows]
    unique = sorted(set(tasks), key=lambda task: hashlib.sha256(f"{random_seed}\n{task}".encode()).digest())
    count = max(1, round(validation * len(unique))) if validation else 0
    if count >= len(unique) > 0:
        raise ParameterError(
            f"validation={validation:g}: there is only {len(unique)} task, and a task is on one side; set it to 0"
            if len(unique) == 1
            else f"validation={validation:g}: nothing would be left to train on; give a smaller share"
        )
    held_out = set(unique[:count])
    sides = [task in held_out for task in tasks]
    return (
        [row for row, out in zip(rows, sides, strict=True) if not out],
        [row for row, out in zip(rows, sides, strict=True) if out],
    )
