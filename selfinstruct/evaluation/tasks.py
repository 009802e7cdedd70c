"""Held-out tasks: what the columns are judged on, how they are asked, and which answer is the right one.

    heldout = load_tasks("heldout")                 # ours; "user_oriented" and "superni" once they are fetched; or a file
    heldout.draw(60, random_seed=42)                # the same sample every time
    heldout.tasks[0].prompt                         # as the published predictions were asked

The reference is always what a person wrote: `target` of a file of predictions, never its `response`.
"""

from __future__ import annotations

import hashlib
import random
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..data.reading import iter_objects
from ..data.tasks import join_words
from ..files import InputError, given_path, project_path, show_path
from ..paper.release import find_published_file
from ..runfolder import RunFolder
from ..steps.export import END_OF_TEXT
from ..training.rows import build_prompt, strip_end

HELDOUT = "seeds/heldout_tasks.jsonl"
PUBLISHED = {
    "user_oriented": "human_eval/user_oriented_instructions.jsonl",
    "superni": "data/finetuning/superni_50k/superni_test_set.jsonl",
}


@dataclass(frozen=True)
class EvaluationTask:
    """One held-out instance. `cluster` is the task that it is of: rows of one task are resampled together."""

    id: str
    prompt: str
    references: tuple[str, ...]
    cluster: str
    instruction: str = ""
    input: str = ""


@dataclass(frozen=True)
class TaskSet:
    """Held-out tasks with the name and the sha256 of their file; `left_out` are rows of a published one that have no answer."""

    name: str
    tasks: tuple[EvaluationTask, ...]
    source: str
    sha256: str
    left_out: int = 0

    def draw(self, n: int, random_seed: int = 42) -> TaskSet:
        """`n` of the tasks, in their order; all of them for 0, or where there are no more."""
        if not 0 < n < len(self.tasks):
            return self
        kept = sorted(random.Random(random_seed).sample(range(len(self.tasks)), n))
        return replace(self, tasks=tuple(self.tasks[place] for place in kept))

    @property
    def units(self) -> int:
        """How many tasks there are to resample: rows of one task count once."""
        return len({one.cluster for one in self.tasks})

    @property
    def clusters(self) -> list[str] | None:
        """The task of each row, None where every row is a task of its own."""
        names = [one.cluster for one in self.tasks]
        return names if len(set(names)) < len(names) else None


def find_tasks(tasks: str) -> Path:
    """The file that `tasks` names. Raises InputError where it is missing, or published and not fetched or altered."""
    if tasks in PUBLISHED:
        return find_published_file(PUBLISHED[tasks])
    path = project_path(HELDOUT) if tasks == "heldout" else given_path(tasks)
    if not tasks or not path.is_file():
        known = ", ".join(["heldout", *PUBLISHED])
        raise InputError(f"tasks={tasks!r}: no such file of held-out tasks; name a file, or one of {known}")
    return path


def load_tasks(tasks: str = "heldout") -> TaskSet:
    """The held-out tasks of a name or a file: in the layout of the published 252 (`instruction`, `instances`), of a file of
    predictions (`instruction`, `input`, `target`), of SuperNI (`prompt`, `completion`), or rows `instruction`, `input`, `output`.

    Of equal prompts in {prompt, completion} rows every completion is a reference. A published row without an answer is left out,
    since nobody can mend it. Raises InputError with file:line.
    """
    path, left_out = find_tasks(tasks), 0
    found: dict[str, EvaluationTask] = {}
    for where, row in iter_objects(path):
        if tasks in PUBLISHED and not strip_end(str(row.get("completion", "-"))).strip():
            left_out += 1
            continue
        for task in _read_row(row, where, path.stem):
            earlier = found.get(task.prompt)
            known = earlier.references if earlier and "completion" in row else ()
            key = task.prompt if not earlier or "completion" in row else task.id
            kept = earlier if known and earlier else task
            found[key] = replace(kept, references=tuple(dict.fromkeys([*known, *task.references])))
    with path.open("rb") as file:
        sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    name = tasks if tasks in ("heldout", *PUBLISHED) else path.stem
    return TaskSet(name, tuple(found.values()), show_path(path), sha256, left_out)


def _read_row(row: Mapping[str, Any], where: str, stem: str) -> list[EvaluationTask]:
    """The held-out instances of one row."""
    from ..analysis.predictions import find_definition, split_prompt

    id = str(row.get("id") or f"{stem}:{where.rpartition(':')[2]}")
    try:
        if "completion" in row and "prompt" in row:
            prompt = row["prompt"].rstrip()
            reference = strip_end(row["completion"]).strip()
            texts = (find_definition(prompt), *split_prompt(prompt))
            return [EvaluationTask(id, prompt, (_check(reference, where),), *texts)]
        instruction = row["instruction"].strip()
        instances = row.get("instances") or [
            {"input": row.get("input") or "", "output": row.get("target", row.get("output"))}
        ]
        return [
            _build_task(id if len(instances) == 1 else f"{id}:{number}", instruction, one, where)
            for number, one in enumerate(instances)
        ]
    except (KeyError, AttributeError, TypeError) as error:
        expected = "instruction and instances, instruction, input and target (or output), or prompt and completion"
        raise InputError(f"{where}: not a held-out task; expected {expected}") from error


def _build_task(id: str, instruction: str, instance: Mapping[str, Any], where: str) -> EvaluationTask:
    input, output = (instance.get("input") or "").strip(), instance["output"].strip()
    prompt = build_prompt(instruction, input)
    return EvaluationTask(id, prompt, (_check(output, where),), instruction, instruction, input)


def _check(reference: str, where: str) -> str:
    if not reference:
        raise InputError(f"{where}: the reference is empty; every held-out task needs an answer that a person wrote")
    return reference


def load_heldout_pairs(count: int, random_seed: int = 42) -> list[tuple[str, str]]:
    """(prompt, completion) of `count` of our held-out tasks, drawn, for the curve of notebook 06, which decides nothing."""
    drawn = load_tasks().draw(count, random_seed).tasks if count else ()
    return [(task.prompt, f" {task.references[0]}{END_OF_TEXT}") for task in drawn]


def find_leaks(tasks: Sequence[EvaluationTask], prompts: Iterable[str]) -> list[str]:
    """The ids of held-out tasks whose instruction is one of a training file's `prompts`, in whatever template: no column that
    was trained on it may be judged on it. Two instructions with the same words are one, and so are all rows of one definition.
    """
    trained = {head for prompt in prompts for head in _list_heads(prompt)}
    return [one.id for one in tasks if join_words(one.cluster) in trained]


def _list_heads(prompt: str) -> list[str]:
    """All that may be the instruction of a prompt: what stands before the end of a line, or before "Output:"."""
    lines = prompt.strip().removeprefix("Task: ").splitlines()
    heads = [join_words("\n".join(lines[:end])) for end in range(1, len(lines) + 1)]
    return [*heads, *(head.removesuffix(" output") for head in heads[-1:])]


def describe_tasks(tasks: Sequence[EvaluationTask], run: RunFolder) -> dict[str, Any]:
    """How varied held-out tasks are: how many have an input, lengths in words, and the verbs and nouns of their instructions.

    `parses.jsonl` of the run folder keeps what spaCy parsed.
    """
    from ..analysis.verbs import find_verb_noun, load_parser, load_parses

    texts = [one.instruction for one in tasks]
    parses = load_parses(texts, load_parser(), run / "parses.jsonl")
    pairs = [pair for text in texts if (pair := find_verb_noun(parses[text])).noun]
    verbs = Counter(pair.verb for pair in pairs)
    return {
        "tasks": len(tasks), "with input": _share(tasks, lambda one: bool(one.input)),
        "words of the instruction": _mean_words(texts),
        "words of the input, if any": _mean_words([one.input for one in tasks if one.input]),
        "words of the reference": _mean_words([one.references[0] for one in tasks]),
        "with verb and noun": round(len(pairs) / len(tasks), 3), "different verbs": len(verbs),
        "different pairs": len(set(pairs)), "most frequent verbs": ", ".join(verb for verb, _ in verbs.most_common(5)),
    }  # fmt: skip


def _share(tasks: Sequence[EvaluationTask], has: Callable[[EvaluationTask], bool]) -> float:
    return round(sum(map(has, tasks)) / len(tasks), 3)


def _mean_words(texts: Sequence[str]) -> float | None:
    return round(sum(len(text.split()) for text in texts) / len(texts), 1) if texts else None


# what `describe_tasks` says of the published file, en_core_web_sm 3.8
USER_ORIENTED_252: dict[str, Any] = {
    "tasks": 252, "with input": 0.825, "words of the instruction": 17.8, "words of the input, if any": 28.6,
    "words of the reference": 50.1, "with verb and noun": 0.702, "different verbs": 54, "different pairs": 150,
    "most frequent verbs": "give, write, make, provide, create",
}  # fmt: skip
