"""What the released code does oddly, shown on the texts at hand: as published, put right, and how many rows it touches.

    contrast("Q1", "candidates", material.candidates, split_instructions, lambda t: split_instructions(t, "fixed"), "Say NASA.")

Notebook 22 goes through all twenty; what it looks at comes from `quirk_material`. The rules themselves are in `parsing`,
`filters`, `export` and `bootstrap`, under `quirks="published"` and `quirks="fixed"`.
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any, TypeVar

from ..data.datasets import load_dataset
from ..files import (
    InputError,
    SelfInstructError,
    dump_line,
    load_records,
    write_records,
)
from ..filters import INSTRUCTION_RULES
from ..parsing import check_quirks, parse_instances, split_instructions
from ..prompts import PAPER_REQUESTS, load_prompts, request_settings
from ..records import (
    ClassificationAnswer,
    Instance,
    InstanceRow,
    MachineInstances,
    MachineInstruction,
    Rejection,
    SeedTask,
    failed_completion,
)
from ..runfolder import (
    ALL_INSTANCES,
    CLASSIFICATION,
    INSTANCES,
    INSTRUCTIONS,
    REJECTIONS,
    RunFolder,
)
from ..steps.classification import parse_labels
from ..steps.instances import build_instance_requests, choose_tasks
from ..steps.instructions import MACHINE_INSTRUCTIONS_IN_PROMPT, generate_instructions, sample_in_context

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
# Q1: what capitals lost leave behind: a lone "i" (no roman numeral, no i.e.), a sentence that begins small (not after e.g.)
_SMALL_I = re.compile(r"(?<![\w/(.-])i(?![\w/).-])")
_SMALL_START = re.compile(r"(?<!\be\.g)(?<!\bi\.e)(?<!\betc)(?<!\bvs)(?<!\.)[.?!] [a-z]")
_MARKER = re.compile(r"\bExample\b|\b(?:Input|Output)\s*\d*\s*:|\bClass label:")


@dataclass(frozen=True)
class Contrast:
    """One quirk on the texts at hand: those that come out differently, as (text, as published, fixed)."""

    quirk: str
    unit: str
    looked_at: int
    touched: list[tuple[Any, Any, Any]]
    made_up: tuple[Any, Any, Any] | None = None
    note: str = ""

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
        return f"no {counted['unit'].partition(',')[0]} in this data to tell by"
    return f"{counted['touched']:,} of {counted['of']:,} {counted['unit']}"


def show_contrasts(*contrasts: Contrast, show: int = 3) -> pd.DataFrame:
    """Print how many texts each quirk touches; returns the first `show` examples of each as a table."""
    import pandas as pd

    for one in contrasts:
        print(f"{one.quirk} touches: {touches(one.counts)}" + (f"; {one.note}" if one.note else ""))
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


def told_under_several_tasks(rows: Sequence[InstanceRow]) -> tuple[dict[str, Any], list[tuple[str, list[str]]]]:
    """Q20: the count of rows whose input and output stand under another task, too, of all rows with an input; and the pairs
    themselves, each with its instructions.
    """
    tasks: dict[tuple[str, str], list[str]] = {}
    for row in rows:
        if row.input:
            tasks.setdefault((row.input, row.output), []).append(row.instruction)
    shared = {pair: found for pair, found in tasks.items() if len(set(found)) > 1}
    counted = count(
        sum(map(len, shared.values())), sum(map(len, tasks.values())), "rows with an input, under several tasks"
    )
    return counted, [(f"{pair[0]!r} -> {pair[1]!r}", list(dict.fromkeys(found))) for pair, found in shared.items()]


def capitals(material: Material) -> Contrast:
    """Q1 on the candidates of a run; finished rows have none, there it is the mark that counts: small letters out of place.

    Small letters are no proof: a person may write them, too. And they understate: a lower-cased name is not told by rule.
    """
    if material.candidates or not material.instructions:
        example = "Name three NASA missions that I can explain in Python."
        fixed = lambda text: split_instructions(text, "fixed")  # noqa: E731
        return contrast("Q1", "candidates", material.candidates, split_instructions, fixed, example)
    small = [text for text in material.instructions if text[1:] == text[1:].lower()]
    lone = [text for text in small if _SMALL_I.search(text)]
    marked = lone + [text for text in small if text not in set(lone) and _SMALL_START.search(text)]
    note = f"{len(small):,} have no capital but the first letter, {len(lone):,} of them a lone i"
    touched = [(text, text, "(cannot be restored)") for text in marked]
    return Contrast("Q1", "instructions, by the mark it leaves", len(material.instructions), touched, note=note)


def banned_words(material: Material) -> Contrast:
    """Q4 on all instructions, and on those that a run's ledger says were dropped for a word."""
    texts = material.instructions + [row.candidate for row in material.rejected("blacklisted_word")]
    published, fixed = [rule_says("blacklisted_word", kind) for kind in ("published", "fixed")]
    told = contrast(
        "Q4", "instructions, kept or dropped", texts, published, fixed, "Sum up the plot of a novel that you have read."
    )
    dropped = [sum(rule(text) == "dropped" for text in texts) for rule in (published, fixed)]
    return replace(told, note=f"the published rule drops {dropped[0]:,} of them, the fixed one {dropped[1]:,}")


def labels_spelt_twice(material: Material, made_up: str) -> Contrast:
    """Q14 on the raw completions of classification tasks; without them, on outputs of one task that differ in case alone."""
    raw, published = material.raw_of(True), instances_of(True, "published")
    told = contrast("Q14", "classification tasks", raw, published, instances_of(True, "fixed"), _raw(made_up))
    if material.rows and not raw:
        return replace(contrast("Q14", "tasks", material.tasks, list, _one_spelling), made_up=told.made_up)
    return replace(
        told, note=f"at most {max((len(published(one)) for one in raw), default=0)} labels in one completion"
    )


def _one_spelling(rows: Sequence[InstanceRow]) -> list[InstanceRow]:
    first: dict[str, str] = {}
    return [row.model_copy(update={"output": first.setdefault(row.output.casefold(), row.output)}) for row in rows]


def markers_inside(material: Material, made_up: str) -> Contrast:
    """Q17 on the raw completions of other tasks; without them, on finished rows put back into the form of a completion.

    Instructions are left out: step 3 writes none, so that no marker in them is ever parsed.
    """
    raw, unit, note = material.raw_of(False), "other tasks", ""
    if not raw and material.rows:
        raw, unit = (
            [_raw(_as_completion(row), row.instruction) for row in material.rows],
            "rows, written as completions again",
        )
        marked = sum(bool(_MARKER.search(f"{row.input}\n{row.output}")) for row in material.rows)
        note = f"a marker stands in the text of {marked:,}"
    told = contrast("Q17", unit, raw, instances_of(False, "published"), instances_of(False, "fixed"), _raw(made_up))
    return replace(told, note=note)


def _as_completion(row: InstanceRow) -> str:
    return f"Example 1\nInput: {row.input}\nOutput: {row.output}" if row.input else f"Output: {row.output}"


def _raw(text: str, instruction: str = "A task") -> MachineInstances:
    return MachineInstances(instruction=instruction, raw_instances=text)


def tasks_with_several(material: Material) -> dict[str, Any]:
    """Q15: the tasks whose instances have an order to lose, of all tasks: by step 3's completions, else by the finished rows."""
    tasks = [instances_of(kind, "published")(raw) for kind in (True, False) for raw in material.raw_of(kind)]
    sizes = [len(task) for task in tasks or material.tasks]
    return count(sum(size > 1 for size in sizes), len(sizes), "tasks, with several instances")


def bytes_stored(records: Sequence[MachineInstruction]) -> pd.DataFrame | None:
    """Q10: bytes of step 1's file as it is and without prompts and responses; says so where there is no such file."""
    import pandas as pd

    if not records:
        print("no file of step 1 in this data: nothing to compare")
        return None
    full = sum(len(dump_line(record).encode()) for record in records)
    bare = sum(len(dump_line({**record.model_dump(), "metadata": {}}).encode()) for record in records)
    return pd.Series({"as it is": full, "without prompt and response": bare}, name="bytes").to_frame()


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
        return _of_run(run)
    other = RunFolder(data)
    a_run = any(other.find(pattern) for pattern in (INSTRUCTIONS, ALL_INSTANCES))
    return _of_run(other) if a_run else _of_rows(data)


def _of_run(run: RunFolder) -> Material:
    answers, rows = _newest(run, CLASSIFICATION, ClassificationAnswer), _newest(run, ALL_INSTANCES, InstanceRow)
    records = _newest(run, INSTRUCTIONS, MachineInstruction)
    if not records and not rows:
        raise InputError(f"{run}: no instructions in this run folder; run notebook 02 first, or set data to a file")
    return Material(
        name=run.path.name,
        records=records,
        answers=answers,
        label_files=[found.name for found in run.find(CLASSIFICATION)],
        raw=_newest(run, INSTANCES, MachineInstances),
        rows=rows,
        rejections=_newest(run, REJECTIONS, Rejection),
        instructions=[one.instruction for one in records] or list(dict.fromkeys(row.instruction for row in rows)),
        labels=parse_labels(answers),
        step_1=run.results(_STEP_1),
        target=_target(run),
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


def _target(run: RunFolder) -> int | None:
    """How many instructions step 1 was told to generate in this run folder; None where it was not run by the runner."""
    return run.state.get("notebooks", {}).get(_STEP_1, {}).get("parameters", {}).get("num_instructions_to_generate")


def _newest(run: RunFolder, pattern: str, record: type[R]) -> list[R]:
    found = run.find_newest(pattern)
    return load_records(found, record) if found else []  # type: ignore[type-var]


USUAL = 2000  # characters of an instruction; rouge_score's time and memory grow with the square of longer ones


def hours_as_published(texts: Sequence[str], sizes: Sequence[int], seed_tasks: int = 175) -> dict[str, float]:
    """Q7: size of the pool -> hours that rouge_score takes on one core to fill it, from its speed on `texts` here and now."""
    from rouge_score.rouge_scorer import RougeScorer

    usual = [text for text in texts if len(text) <= USUAL] or [text[:USUAL] for text in texts]
    scorer, began = RougeScorer(["rougeL"]), time.perf_counter()
    for text in usual:
        scorer.score(usual[0], text)
    per_pair = (time.perf_counter() - began) / len(usual)
    return {f"{size:,} instructions": size * (size / 2 + seed_tasks) * per_pair / 3600 for size in sizes}


def run_without_answers(seed_tasks: Sequence[SeedTask]) -> str:
    """Q8: what step 1 says after it has asked a model that fails every request."""
    down = SimpleNamespace(complete=lambda requests: [failed_completion("no connection", "")] * len(requests))
    failed = 0
    try:
        shown = min(8, len(seed_tasks))
        settings = request_settings("instructions", False)
        for round_ in generate_instructions(down, seed_tasks, settings, num_prompt_instructions=shown):
            failed += round_.failed
    except SelfInstructError as error:
        return f"after {failed} failed requests: {error}"
    return ""


def prompts_after_restart(human: Sequence[str], machine: Sequence[str], random_seed: int = 42) -> dict[str, list[str]]:
    """Q9: the instructions in the first two prompts of a run, and in the first after a restart as released, from one pool."""
    unbroken, again = random.Random(random_seed), random.Random(random_seed)
    draws = {"first prompt": unbroken, "second prompt": unbroken, "first after a restart": again}
    size = min(8, len(human) + min(MACHINE_INSTRUCTIONS_IN_PROMPT, len(machine)))
    return {name: sample_in_context(rng, human, machine, size) for name, rng in draws.items()}


def rows_left_after_stop(rows: int = 100, written: int = 3) -> dict[str, int]:
    """Q11: how many rows of an earlier run are on disk when its file is being written again and the run is stopped."""
    with tempfile.TemporaryDirectory() as folder:
        emptied, kept = Path(folder, "emptied.jsonl"), Path(folder, "kept.jsonl")
        for path in (emptied, kept):
            write_records(path, [{"row": number} for number in range(rows)])
        again = [{"row": number} for number in range(written)]
        with emptied.open("w") as out:
            out.writelines(dump_line(row) for row in again)
        with contextlib.suppress(KeyboardInterrupt), RunFolder(folder).writing("kept.jsonl") as write:
            write(again)
            raise KeyboardInterrupt
        paths = {"as published": emptied, "fixed": kept}
        return {name: len(path.read_text().splitlines()) for name, path in paths.items()}


def step_3_on_unseen(labels: dict[str, bool]) -> dict[str, str]:
    """Q12: what step 3 says to an instruction that step 2 has not labelled, as released and in the kit."""
    unseen, said = MachineInstruction(instruction="Name a bird that step 2 has never seen."), {}
    try:
        said["as published"] = str(labels[unseen.instruction])
    except KeyError as error:
        said["as published"] = f"KeyError: {error}"
    try:
        said["fixed"] = str(choose_tasks([unseen], labels))
    except SelfInstructError as error:
        said["fixed"] = str(error)
    return said


def instances_before_stop(written: int = 12) -> dict[str, int]:
    """Q14: how many of so many class labels, or examples, a completion still has after step 3's stop sequences."""
    request = build_instance_requests(["A task"], {"A task": True}, load_prompts("ours"), PAPER_REQUESTS["instances"])[
        0
    ]
    texts = {
        True: "".join(f"Class label: {k}\nText: t{k}\n" for k in range(1, written + 1)),
        False: "".join(f"Example {k}\nInput: i{k}\nOutput: o{k}\n" for k in range(1, written + 1)),
    }
    cut = {
        kind: MachineInstances(instruction="A task", raw_instances=cut_at_stop(text, request.stop))
        for kind, text in texts.items()
    }
    return {
        name: len(instances_of(kind, "published")(cut[kind]))
        for name, kind in (("class labels", True), ("examples", False))
    }


def tokens_allowed(instructions: Sequence[str], labels: dict[str, bool], quirks: str) -> dict[str, int]:
    """Q13: instruction -> how many tokens its instances may take with the paper's settings."""
    requests = build_instance_requests(
        instructions, labels, load_prompts("ours"), PAPER_REQUESTS["instances"], quirks=quirks
    )
    return {text: request.max_tokens for text, request in zip(instructions, requests, strict=True)}


def order_in_set(texts: Sequence[str], hash_seed: int) -> list[str]:
    """Q15: the order in which a new Python, started with this PYTHONHASHSEED, goes through the set of `texts`."""
    program = "import json, sys; print(json.dumps(list(set(json.load(sys.stdin)))))"
    environment = {**os.environ, "PYTHONHASHSEED": str(hash_seed)}
    said = subprocess.run(
        [sys.executable, "-c", program],
        input=json.dumps(texts),
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return json.loads(said.stdout)


def sample_from_set(texts: Sequence[str], count: int = 2) -> str:
    """Q16: what `random.sample` says to a set."""
    try:
        return str(random.sample(set(texts), count))  # type: ignore[arg-type]
    except TypeError as error:
        return f"TypeError: {error}"
