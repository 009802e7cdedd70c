"""Step 4: raw instances to fine-tuning rows (paper sections 2.2 "Filtering" and 2.3; released prepare_for_finetuning.py).

    rng = random.Random(123)
    rows = cap_instances(tasks, rng)
    finetuning = build_finetuning_rows(rows, build_seed_rows(seed_tasks), rng)

One stream of chance goes through the whole step, in the released order: cap, sample of instructions, then coin and template of
each row, shuffle. The released code draws from a `set`, so its files change with the interpreter's hash seed (Q15), and its
sampling of instructions fails on Python 3.11 (Q16). Both are corrected in both modes: first-seen order takes the set's place,
and but for that the files are the released code's, row for row.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from ..filters import instance_rejections
from ..parsing import CUT_OFF, check_quirks, parse_instances
from ..records import FinetuningRow, Instance, InstanceRow, MachineInstances, Rejection, SeedTask

MAX_INSTANCES_PER_TASK = 5
END_OF_TEXT = "<|endoftext|>"
_FIELD_NAME = re.compile(r"^[A-Za-z][\w ]{0,30}:(?=\s)", re.MULTILINE)
_WORD_AND_COLON = re.compile(r"(?<!\w)(\w+):")  # as released, "(\w+):"; so it is tried once a word, not once a letter

# {instruction}, {input}; a template that ends in "Output:" takes a space before the completion, the others none.
TEMPLATES_WITH_INPUT = (
    "{instruction}\nInput: {input}\nOutput:",
    "{instruction}\n\nInput: {input}\n\nOutput:",
    "Task: {instruction}\nInput: {input}\nOutput:",
    "{instruction}\n\n{input}\n\nOutput:",
    "{instruction}\n\n{input}\n\n",
    "{instruction}\n{input}\n\n",
    "Task: {instruction}\n\n{input}\n\n",
)
TEMPLATES_WITHOUT_INPUT = (
    "{instruction} Output:",
    "{instruction}\nOutput:",
    "{instruction}\n\nOutput:",
    "{instruction}\n",
    "{instruction}\n\n",
    "Task: {instruction}\n\n",
)


@dataclass
class ParsedTask:
    """One task after step 4's parser and filters; every one of `candidates` is in `kept` or in `rejected`."""

    instruction: str
    is_classification: bool
    candidates: list[Instance] = field(default_factory=list)
    kept: list[Instance] = field(default_factory=list)
    rejected: list[Rejection] = field(default_factory=list)

    def reject(self, candidate: Instance | str, reason: str) -> None:
        """Write down a candidate that is dropped, and the rule that drops it."""
        if isinstance(candidate, Instance):
            candidate = f"Input: {candidate.input}\nOutput: {candidate.output}"
        rejection = Rejection(step="4_instances", reason=reason, candidate=candidate, instruction=self.instruction)
        self.rejected.append(rejection)


def parse_task(record: MachineInstances, is_classification: bool, quirks: str = "published") -> ParsedTask:
    """Parse and filter the raw instances of one task; a task without any candidate is itself one rejection."""
    task = ParsedTask(record.instruction, is_classification)
    full = parse_instances(record.raw_instances, record.instruction, is_classification, None, quirks)
    if not full:
        task.reject(record.raw_instances, "no_instance_found" if record.raw_instances else "no_completion")
        return task
    choices = (record.instance_metadata.get("response") or {}).get("choices") or [{}]  # none where the request failed
    cut = CUT_OFF.get(str(choices[0].get("finish_reason")))
    task.candidates = candidates = full[:-1] if cut else full
    if cut:
        task.reject(full[-1], cut)
    for instance, reason in zip(candidates, instance_rejections(candidates), strict=True):
        if reason is None:
            task.kept.append(instance)
        else:
            task.reject(instance, reason)
    return task


def cap_instances(tasks: Sequence[ParsedTask], rng: random.Random) -> list[InstanceRow]:
    """At most five instances of each task, drawn by `rng`; what is left out joins the task's rejections.

    As released, the draw also shuffles the instances of a task that has five or fewer.
    """
    rows = []
    for task in tasks:
        chosen = rng.sample(task.kept, min(len(task.kept), MAX_INSTANCES_PER_TASK))
        for left_out in (one for one in task.kept if one not in chosen):
            task.reject(left_out, "over_the_cap")
        rows += [InstanceRow(instruction=task.instruction, input=one.input, output=one.output) for one in chosen]
    return rows


def sample_instructions(rows: Sequence[InstanceRow], num_instructions: int, rng: random.Random) -> list[InstanceRow]:
    """The rows of `num_instructions` instructions drawn from all of them (released option --num_instructions)."""
    unique = list(dict.fromkeys(row.instruction for row in rows))
    chosen = set(rng.sample(unique, min(num_instructions, len(unique))))
    return [row for row in rows if row.instruction in chosen]


def build_seed_rows(seed_tasks: Sequence[SeedTask]) -> list[InstanceRow]:
    """Every instance of every seed task, neither capped nor filtered, as released."""
    return [
        InstanceRow(instruction=task.instruction, input=instance.input, output=instance.output)
        for task in seed_tasks
        for instance in task.instances
    ]


def strip_field_name(text: str, quirks: str = "published") -> str:
    """`text` without its field name ("Sentence: ...").

    Q18: released, all up to the first colon goes wherever the text has just one distinct `word:`, be it "http:" or the
    "10:" of a time; fixed, a short name goes if it opens the text and no other line opens with one.
    """
    if check_quirks(quirks):
        names = _FIELD_NAME.findall(text)
        return text[len(names[0]) :].strip() if len(names) == 1 and text.startswith(names[0]) else text.strip()
    if len(set(_WORD_AND_COLON.findall(text))) == 1:
        return text.split(":", 1)[1].strip()
    return text.strip()


def choose_templates(input: str) -> tuple[str, ...]:
    """The templates that an instance may be written in: those with an input, or those without."""
    return TEMPLATES_WITH_INPUT if input.strip() else TEMPLATES_WITHOUT_INPUT


def fill_template(template: str, instruction: str, input: str, output: str) -> FinetuningRow:
    """One (prompt, completion) row in this `template`."""
    prompt = template.format(instruction=instruction.strip(), input=input.strip())
    space = " " if template.endswith("Output:") else ""
    return FinetuningRow(prompt=prompt, completion=f"{space}{output.strip()}{END_OF_TEXT}")


def encode_instance(instruction: str, input: str, output: str, rng: random.Random) -> FinetuningRow:
    """One (prompt, completion) row in a template drawn at random: one of 7 with an input, one of 6 without."""
    return fill_template(rng.choice(choose_templates(input)), instruction, input, output)


def build_finetuning_rows(
    generated: Sequence[InstanceRow], seeds: Sequence[InstanceRow], rng: random.Random, quirks: str = "published"
) -> list[FinetuningRow]:
    """Fine-tuning rows: one coin for field name and blank lines, a template, exact repetitions dropped, shuffled.

    Released rows hold {prompt, completion} alone; fixed rows also say where they come from (Q19).
    """
    rows: dict[tuple[str, str], FinetuningRow] = {}
    for index, row in enumerate([*generated, *seeds]):
        text = row.input
        if rng.random() < 0.5:
            text = strip_field_name(text, quirks).replace("\n\n", "\n")
        encoded = encode_instance(row.instruction, text, row.output, rng)
        if quirks == "fixed":
            source = {**row.model_dump(), "is_seed": index >= len(generated)}
            encoded = FinetuningRow(**encoded.model_dump(), **source)
        rows.setdefault((encoded.prompt, encoded.completion), encoded)
    shuffled = list(rows.values())
    rng.shuffle(shuffled)
    return shuffled
