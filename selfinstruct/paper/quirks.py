"""What the released code does oddly, on the reader's data: as published, as fixed, and how many texts it touches.

    material = load_material(run)
    show_contrasts(compare_capitals(material), compare_banned_words(material))

Notebook 22 goes through all twenty. The rules themselves are in `parsing`, `filters` and `steps`, under
`quirks="published"` and `quirks="fixed"`; here are the texts to try them on and the counting.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from ..data.datasets import load_dataset
from ..data.origin import find_quirks
from ..display import Table, show, show_text
from ..files import InputError, dump_line, load_records
from ..filters import INSTRUCTION_RULES
from ..parsing import check_quirks, parse_instances, parse_is_classification, split_instructions
from ..prompts import PAPER_REQUESTS, load_prompts, request_settings
from ..records import ClassificationAnswer, Instance, InstanceRow, MachineInstances, MachineInstruction, Rejection
from ..runfolder import ALL_INSTANCES, CLASSIFICATION, INSTANCES, INSTRUCTIONS, REJECTIONS, RunFolder
from ..steps.instances import build_instance_requests

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
_STEP_1 = "02_generate_instructions"
END = 90  # characters of a long text that are shown at either end
# Q1: what capitals lost leave behind: a lone "i" (no roman numeral, no i.e.), a sentence that begins small (not after e.g.)
_SMALL_I = re.compile(r"(?<![\w/(.-])i(?![\w/).-])")
_SMALL_START = re.compile(r"(?<!\be\.g)(?<!\bi\.e)(?<!\betc)(?<!\bvs)(?<!\.)[.?!] [a-z]")
_MARKER = re.compile(r"\bExample\b|\b(?:Input|Output)\s*(?:\d+\s*)?:|\bClass label:")


@dataclass
class Material:
    """The texts to look at: `step_1` are the numbers notebook 02 recorded, `target` how many instructions it was asked for."""

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
        """The completion behind each instruction of step 1, as it came; several instructions carry the same one (Q10).

        None in a run with `quirks="fixed"`, whose rows do not repeat it.
        """
        return [text for text in map(_completion_of, self.records) if text]

    @property
    def candidates(self) -> list[str]:
        """The items of those completions, with their capitals."""
        return [item for text in dict.fromkeys(self.completions) for item in split_instructions(text, "fixed")]

    @property
    def tasks(self) -> list[list[InstanceRow]]:
        """The finished rows, task by task."""
        return list(_group((row.instruction, row) for row in self.rows).values())

    @property
    def cut_completions(self) -> list[list[str]]:
        """The items of each step-1 completion that ran out of tokens (Q3); a ledger without their numbers tells rounds only."""
        cut = [row for row in self.rejected("cut_by_length") if row.step.startswith("1")]
        numbers = [getattr(row, "completion_idx", None) for row in cut]
        return list(_group(((row.request_idx, n), row.candidate) for n, row in zip(numbers, cut, strict=True)).values())

    def raw_of(self, is_classification: bool) -> list[MachineInstances]:
        """The raw instances of one type of task."""
        return [record for record in self.raw if self.labels.get(record.instruction) is is_classification]

    def rejected(self, reason: str) -> list[Rejection]:
        """The ledger's rows of one rule."""
        return [row for row in self.rejections if row.reason == reason]


def _group(pairs: Iterable[tuple[Any, Any]]) -> dict[Any, list[Any]]:
    """First of a pair -> the seconds that came with it, in order."""
    groups: dict[Any, list[Any]] = {}
    for key, value in pairs:
        groups.setdefault(key, []).append(value)
    return groups


def _completion_of(record: MachineInstruction) -> str:
    choices = (record.metadata.get("response") or {}).get("choices") or [{}]
    return choices[0].get("text") or (choices[0].get("message") or {}).get("content") or ""


def load_material(run: RunFolder, data: str = "") -> Material:
    """The texts of `run`; or, where `data` is another run folder, of that one; or the rows of the data set `data` alone.

    Raises InputError where there is neither an instruction nor a row.
    """
    chosen = RunFolder(data) if data else run
    return _load_run(chosen) if not data or chosen.exists() else _load_rows(data)


def _load_run(run: RunFolder) -> Material:
    def load(pattern: str, record: Any) -> list[Any]:
        found = run.find_newest(pattern)
        return load_records(found, record) if found else []

    records, rows = load(INSTRUCTIONS, MachineInstruction), load(ALL_INSTANCES, InstanceRow)
    if not records and not rows:
        raise InputError(f"{run}: no instructions in this run folder; run notebook 02 first, or set data to a file")
    answers, read = load(CLASSIFICATION, ClassificationAnswer), find_quirks(run)
    step_1 = run.state.get("notebooks", {}).get(_STEP_1, {})  # none where the runner did not run it
    return Material(
        name=run.path.name,
        records=records,
        answers=answers,
        label_files=[found.name for found in run.find(CLASSIFICATION)],
        raw=load(INSTANCES, MachineInstances),
        rows=rows,
        rejections=load(REJECTIONS, Rejection),
        instructions=[one.instruction for one in records] or list(dict.fromkeys(row.instruction for row in rows)),
        labels={one.instruction: parse_is_classification(one.is_classification, read) for one in answers},
        step_1=run.results(_STEP_1),
        target=step_1.get("parameters", {}).get("num_instructions_to_generate"),
    )


def _load_rows(data: str) -> Material:
    dataset = load_dataset(data)
    rows = [InstanceRow(instruction=r.instruction, input=r.input or "", output=r.output or "") for r in dataset.rows]
    labels = {row.instruction: row.is_classification for row in dataset.rows if row.is_classification is not None}
    finished = rows if dataset.has_instances else []
    return Material(name=dataset.name, rows=finished, instructions=dataset.instructions, labels=labels)


@dataclass(frozen=True)
class Contrast:
    """One quirk: the reader's texts put through both rules; `made_up` is shown where they come out alike by both."""

    quirk: str
    unit: str
    texts: Sequence[Any]
    published: Callable[[Any], Any]
    fixed: Callable[[Any], Any]
    made_up: Any = None
    note: str = ""

    @cached_property
    def touched(self) -> list[tuple[Any, Any, Any]]:
        """The texts that come out differently: (text, as published, fixed)."""
        return [row for row in map(self._apply, self.texts) if row[1] != row[2]]

    def _apply(self, text: Any) -> tuple[Any, Any, Any]:
        return text, self.published(text), self.fixed(text)

    @property
    def counts(self) -> dict[str, Any]:
        """How many texts it touches, of how many, of what kind."""
        return count(len(self.touched), len(self.texts), self.unit)

    def examples(self, rows: int) -> list[dict[str, str]]:
        """The first texts that it touches, or the made-up one where it touches none."""
        chosen = self.touched[:rows] or ([] if self.made_up is None else [self._apply(self.made_up)])
        origin = "this data" if self.touched else "made up"
        names = ("quirk", "from", "text", "as published", "fixed")
        return [dict(zip(names, (self.quirk, origin, *map(_describe, row)), strict=True)) for row in chosen]


def _describe(value: Any) -> str:
    """A text for a cell: of a long one its two ends, of many the first and the last, since rules differ at the ends."""
    if isinstance(value, list):
        items = [*map(_describe, value)] or ["(nothing)"]
        return " | ".join(items if len(items) < 4 else [items[0], f"({len(items) - 2} more)", items[-1]])
    if hasattr(value, "input") and hasattr(value, "output"):
        return _describe(f"{value.input!r} -> {value.output!r}")
    text = str(getattr(value, "raw_instances", value))
    return text if len(text) <= 2 * END else f"{text[:END]} ... {text[-END:]}"


def show_contrasts(*contrasts: Contrast, rows: int = 3) -> Table:
    """Print how many texts each quirk touches; returns the first examples of each as a table."""
    for one in contrasts:
        show_text(f"{one.quirk} touches: {describe_count(one.counts)}" + (f"; {one.note}" if one.note else ""))
    return show([row for one in contrasts for row in one.examples(rows)])


def count(touched: int, of: int, unit: str) -> dict[str, Any]:
    """A quirk's entry in the results: how many it touches, of how many, of what kind."""
    return {"touched": touched, "of": of, "unit": unit}


def describe_count(counted: dict[str, Any]) -> str:
    """An entry of the results as a sentence, which tells "none of them" from "there are none here to look at"."""
    if not counted["of"]:
        return f"no {counted['unit'].partition(',')[0]} in this data to tell by"
    return f"{counted['touched']:,} of {counted['of']:,} {counted['unit']}"


def compare_capitals(material: Material) -> Contrast:
    """Q1 on the candidates of a run; finished rows have none, there it is the mark that counts: small letters out of place.

    Small letters are no proof: a person may write them, too. And they understate: no rule tells a lower-cased name.
    """
    if material.candidates or not material.instructions:
        example = "Name three NASA missions that I can explain in Python."
        fixed = lambda text: split_instructions(text, "fixed")  # noqa: E731
        return Contrast("Q1", "candidates", material.candidates, split_instructions, fixed, example)
    small = {text for text in material.instructions if text[1:] == text[1:].lower()}
    lone = {text for text in small if _SMALL_I.search(text)}
    marked = lone | {text for text in small if _SMALL_START.search(text)}
    note = f"{len(small):,} have no capital but the first letter, {len(lone):,} of them a lone i"
    lost = lambda text: "(cannot be restored)" if text in marked else text  # noqa: E731
    texts = sorted(material.instructions, key=lambda text: text not in lone)  # the surest first
    return Contrast("Q1", "instructions, by the mark it leaves", texts, str, lost, note=note)


def compare_stops(texts: Sequence[str]) -> Contrast:
    """Q2 on `texts`, were they completions of step 1: cut at its stop sequences, as published and as fixed."""
    stops = [request_settings("instructions", False, quirks)["stop"] for quirks in ("published", "fixed")]
    rules = [partial(cut_at_stop, stops=one) for one in stops]
    made_up = "Tell what happened in 2016. Name one event."
    return Contrast("Q2", "instructions and seed tasks", texts, *rules, made_up)


def cut_at_stop(text: str, stops: Sequence[str]) -> str:
    """`text` as a model would return it with these stop sequences: up to the first of them."""
    return re.split("|".join(map(re.escape, stops)), text, maxsplit=1)[0]


def compare_cut_completions(material: Material) -> Contrast:
    """Q3 on the items of each completion that ran out of tokens: all are lost, or the last, unfinished one."""
    example, cut = ["Name two rivers.", "Tell me a"], material.cut_completions
    return Contrast("Q3", "completions of step 1 that were cut", cut, lambda _: [], lambda x: x[:-1], example)


def compare_banned_words(material: Material) -> Contrast:
    """Q4 on all instructions, and on those that a run's ledger says were dropped for a word."""
    texts = material.instructions + [row.candidate for row in material.rejected("blacklisted_word")]
    rules = [judge_by("blacklisted_word", quirks) for quirks in ("published", "fixed")]
    dropped = [sum(rule(text) == "dropped" for text in texts) for rule in rules]
    note = f"the published rule drops {dropped[0]:,} of them, the fixed one {dropped[1]:,}"
    made_up = "Sum up the plot of a novel that you have read."
    return Contrast("Q4", "instructions, kept or dropped", texts, *rules, made_up, note)


def judge_by(rule: str, quirks: str) -> Callable[[str], str]:
    """A function from an instruction to "dropped" or "kept" by one rule of step 1 alone."""
    fixed = check_quirks(quirks)
    return lambda text: "dropped" if text and INSTRUCTION_RULES[rule](text, fixed) else "kept"


USUAL = 2000  # characters of an instruction; rouge_score's time and memory grow with the square of longer ones


def estimate_hours(texts: Sequence[str], sizes: Sequence[int], seed_tasks: int = 175) -> dict[str, float]:
    """Q7: size of the pool -> hours that rouge_score takes on one core to fill it, from its speed on `texts` here and now."""
    from rouge_score.rouge_scorer import RougeScorer

    usual = [text[:USUAL] for text in texts]
    scorer, began = RougeScorer(["rougeL"]), time.perf_counter()
    for text in usual:
        scorer.score(usual[0], text)
    per_pair = (time.perf_counter() - began) / len(usual)
    return {f"{size:,} instructions": size * (size / 2 + seed_tasks) * per_pair / 3600 for size in sizes}


def count_bytes(records: Sequence[MachineInstruction]) -> dict[str, int]:
    """Q10: bytes of step 1's file as it is and without prompts and responses; {} where there is no such file."""
    bare = [{**record.model_dump(), "metadata": {}} for record in records]
    sizes = {"as it is": records, "without prompt and response": bare} if records else {}
    return {name: sum(len(dump_line(one).encode()) for one in lines) for name, lines in sizes.items()}


def compare_tokens(material: Material) -> Contrast:
    """Q13 on the instructions that have a label: how many tokens their instances may take with the paper's settings."""
    texts = [text for text in material.instructions if text in material.labels]
    settings, prompts = PAPER_REQUESTS["instances"], load_prompts("ours")
    allowed = {}
    for quirks in ("published", "fixed"):
        requests = build_instance_requests(texts, material.labels, prompts, settings, quirks=quirks)
        allowed[quirks] = {text: request.max_tokens for text, request in zip(texts, requests, strict=True)}
    return Contrast("Q13", "tasks with a label", texts, allowed["published"].get, allowed["fixed"].get)


def parse_with(is_classification: bool, quirks: str) -> Callable[[MachineInstances], list[Instance]]:
    """A function from a raw completion of step 3 to the instances in it."""
    return lambda record: parse_instances(record.raw_instances, record.instruction, is_classification, None, quirks)


def compare_labels(material: Material, made_up: str) -> Contrast:
    """Q14 on the raw completions of classification tasks; without them, on outputs of one task that differ in case alone."""
    raw, rules = material.raw_of(True), [parse_with(True, quirks) for quirks in ("published", "fixed")]
    if material.rows and not raw:
        return Contrast("Q14", "tasks", material.tasks, list, _spell_alike, rules[0](_as_raw(made_up)))
    most = max((len(rules[0](one)) for one in raw), default=0)
    note = f"at most {most} labels in one completion"
    return Contrast("Q14", "classification tasks", raw, *rules, _as_raw(made_up), note)


def _spell_alike(rows: Sequence[Instance]) -> list[Instance]:
    first: dict[str, str] = {}
    return [row.model_copy(update={"output": first.setdefault(row.output.casefold(), row.output)}) for row in rows]


def compare_markers(material: Material, made_up: str) -> Contrast:
    """Q17 on the raw completions of other tasks; without them, on finished rows put back into the form of a completion.

    Instructions are left out: step 3 writes none, so that no marker in them is ever parsed.
    """
    raw, unit, note = material.raw_of(False), "other tasks", ""
    if not raw and material.rows:
        raw, unit = [_as_completion(row) for row in material.rows], "rows, written as completions again"
        marked = sum(bool(_MARKER.search(f"{row.input}\n{row.output}")) for row in material.rows)
        note = f"a marker stands in the text of {marked:,}"
    rules = parse_with(False, "published"), parse_with(False, "fixed")
    return Contrast("Q17", unit, raw, *rules, _as_raw(made_up), note)


def _as_completion(row: InstanceRow) -> MachineInstances:
    text = f"Example 1\nInput: {row.input}\nOutput: {row.output}" if row.input else f"Output: {row.output}"
    return _as_raw(text, row.instruction)


def _as_raw(text: str, instruction: str = "A task") -> MachineInstances:
    return MachineInstances(instruction=instruction, raw_instances=text)


def count_exposed(material: Material) -> dict[str, dict[str, Any]]:
    """Of the quirks that lie in files and programs: quirk -> how many of the data's rows are exposed to it."""
    n, answers, target = len(material.instructions), len(material.answers), material.target
    foreign = "is_clf_or_not_davinci_template_1.jsonl" not in material.label_files
    repeated = len(material.completions) - len(set(material.completions))
    tasks = [parse_with(kind, "published")(raw) for kind in (True, False) for raw in material.raw_of(kind)]
    several = [len(task) > 1 for task in tasks or material.tasks]  # these have an order to lose
    return {
        "Q7": count(n, n, "instructions"),
        "Q8": count(material.step_1.get("failed", 0), material.step_1.get("requested", 0), "requests"),
        "Q9": count(max(0, n - target) if target else 0, n if target else 0, "instructions over the target"),
        "Q10": count(repeated, len(material.records), "instructions that repeat a response"),
        "Q11": count(answers + len(material.raw), answers + len(material.raw), "rows of steps 2 and 3"),
        "Q12": count(answers * foreign, answers, "labels in a file of another name"),
        "Q15": count(sum(several), len(several), "tasks, with several instances"),
        "Q16": count(n, n, "instructions"),
        "Q19": count(len(material.rows), len(material.rows), "training rows"),
    }


def find_shared_instances(rows: Sequence[InstanceRow]) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """Q20: the count of rows whose input and output another task has, too, of all rows with an input; and the instances."""
    tasks = _group(((row.input, row.output), row.instruction) for row in rows if row.input)
    shared = {pair: found for pair, found in tasks.items() if len(set(found)) > 1}
    sizes = [sum(map(len, one.values())) for one in (shared, tasks)]
    return count(*sizes, "rows with an input, under several tasks"), [
        {"instance": f"{pair[0]!r} -> {pair[1]!r}", "tasks": " | ".join(dict.fromkeys(found))}
        for pair, found in shared.items()
    ]
