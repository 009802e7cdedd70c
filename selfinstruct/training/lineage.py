"""Where a training row comes from: the rows of a run or of any data set with their ids, and the chain that led to one.

    rows, facts = load_training_rows(RunFolder("outputs/run"))
    trace_row(RunFolder("outputs/run"), rows[0].id)     # [("id", ...), ("step 3: prompt", ...), ...]

A run's rows are those of its fine-tuning file (notebook 05), in its order; each is found again among the instances and the
seed tasks by writing those in every template.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from textwrap import indent
from typing import Any

from ..data.datasets import load_dataset
from ..data.formats import JOINED
from ..data.origin import author_of, find_prompt_set, find_quirks
from ..data.tasks import TrainingRow, number_rows, split_rows
from ..data.writing import PROVENANCE, describe_split, write_export
from ..display import count_of, reveal
from ..files import (
    InputError,
    ParameterError,
    SelfInstructError,
    given_path,
    iter_records,
    load_records,
    project_path,
    show_path,
)
from ..filters import INSTANCE_RULES, INSTRUCTION_RULES
from ..models.protocol import StoredResponse
from ..models.store import ResponseStore
from ..parsing import parse_is_classification
from ..prompts import load_prompts
from ..records import ClassificationAnswer, FinetuningRow, InstanceRow, MachineInstances, MachineInstruction
from ..runfolder import (
    ALL_INSTANCES,
    CLASSIFICATION,
    FINETUNING,
    INSTANCES,
    INSTRUCTIONS,
    SAMPLED_INSTANCES,
    RunFolder,
)
from ..steps.export import (
    END_OF_TEXT,
    build_seed_rows,
    choose_templates,
    encode_instance,
    fill_template,
    parse_task,
    strip_field_name,
)

ANSWERS = "answers.jsonl"  # of a run that was published: its answers, as `store export` writes them
Chain = list[tuple[str, str]]


# the rows


def load_training_rows(
    data: str | Path | RunFolder, random_seed: int = 42, with_seeds: bool = True
) -> tuple[list[TrainingRow], dict[str, Any]]:
    """(rows with ids, what there is to say of them) of a run folder, or of any data set that `data` readers read.

    Raises InputError where the rows have no outputs, or a run has no fine-tuning file yet.
    """
    path = data if isinstance(data, RunFolder) else given_path(data)
    run = path if isinstance(path, RunFolder) else RunFolder(path)
    if isinstance(path, RunFolder) or (path.is_dir() and run.exists()):
        rows = _load_run(run)
        facts = {"source": _name_place(str(run)), "author": author_of(run), "notes": [], "run": run}
    else:
        rows, facts = _load_others(path, random_seed)
    return [row for row in number_rows(rows) if with_seeds or not row.is_seed], facts


def _load_others(path: Path, random_seed: int) -> tuple[list[TrainingRow], dict[str, Any]]:
    dataset = load_dataset(path)
    if not dataset.has_instances:
        raise InputError(f"{dataset.source}: instructions only, no outputs; training needs a completion in every row")
    # prompts that hold their inputs: of chats, or (that alone) laid out in a template already
    is_joined, is_written = any(JOINED in note for note in dataset.notes), JOINED in dataset.notes
    source, rows = _name_place(dataset.source), []
    for number, row in enumerate(dataset.rows, 1):
        texts = (row.instruction, row.input or "", row.output or "")
        prompt, completion = (texts[0], texts[2] + END_OF_TEXT) if is_written else _encode(texts, random_seed)
        output = texts[2].strip() if is_written else texts[2]
        place = f"{source}, row {number}"
        rows.append(TrainingRow(*texts[:2], output, prompt, completion, place=place, is_joined=is_joined))
    return rows, {"source": source, "author": dataset.label, "notes": list(dataset.notes), "run": None}


def _encode(texts: tuple[str, str, str], random_seed: int) -> tuple[str, str]:
    """(prompt, completion) in the template that the texts themselves draw."""
    return _pair(encode_instance(*texts, random.Random("\n".join([str(random_seed), *texts]))))


def _name_place(path: str) -> str:
    """A path as an export holds it: below the project's root, else the name alone, since others read it."""
    return Path(path).name if Path(path).is_absolute() else path


def _load_run(run: RunFolder) -> list[TrainingRow]:
    """The rows of the run's fine-tuning file; one that no instance gives, as after an edit by hand, is its own source."""
    path = run.require(FINETUNING)
    encoded = load_records(path, FinetuningRow)
    found = _match_rows({_pair(row) for row in encoded}, _list_instances(run), find_quirks_of_export(run))
    rows = []
    for number, row in enumerate(encoded, 1):
        if (source := found.get(_pair(row))) is not None:
            instance, is_seed, place = source
            rows.append(TrainingRow(instance.instruction, instance.input, instance.output, *_pair(row), is_seed, place))
        else:
            output = row.completion.removesuffix(END_OF_TEXT).strip()
            place = f"{path.relative_to(run.path)}:{number}"
            rows.append(TrainingRow(row.prompt, "", output, *_pair(row), place=place, is_joined=True))
    return rows


def find_quirks_of_export(run: RunFolder) -> str:
    """The reading of field names under which notebook 05 wrote the run's fine-tuning file."""
    return run.state.get("parameters", {}).get("05_filter_and_export", {}).get("quirks") or "published"


def _pair(row: FinetuningRow) -> tuple[str, str]:
    return row.prompt, row.completion


def _list_instances(run: RunFolder) -> Iterator[tuple[InstanceRow, bool, str]]:
    """(instance, is it a seed task's, its place) of all that a run may have trained on, in its order."""
    for pattern in (ALL_INSTANCES, SAMPLED_INSTANCES):
        for path in run.find(pattern):
            name = path.relative_to(run.path)
            for number, row in iter_records(path, InstanceRow):
                yield row, False, f"{name}:{number}"
    recorded = run.state.get("parameters", {}).get("05_filter_and_export", {})
    source, path = recorded.get("prompt_set") or find_prompt_set(run), recorded.get("seed_tasks_path", "")
    try:
        tasks = load_prompts(source, path).seed_tasks
    except SelfInstructError:  # gone since; its rows are then their own source
        return
    for task in tasks:
        yield from ((row, True, f"seed tasks, {task.id}") for row in build_seed_rows([task]))


def _match_rows(
    wanted: set[tuple[str, str]], instances: Iterable[tuple[InstanceRow, bool, str]], quirks: str
) -> dict[tuple[str, str], tuple[InstanceRow, bool, str]]:
    """(prompt, completion) -> the first instance that gives it in one of the templates, with or without its field name."""
    found: dict[tuple[str, str], tuple[InstanceRow, bool, str]] = {}
    for source in instances:
        row = source[0]
        for text in {row.input: None, strip_field_name(row.input, quirks).replace("\n\n", "\n"): None}:
            for template in choose_templates(text):
                pair = _pair(fill_template(template, row.instruction, text, row.output))
                if pair in wanted:
                    found.setdefault(pair, source)
    return found


def export_training_rows(
    data: str | Path | RunFolder, out: str | Path, layout: str, validation: float = 0.1, random_seed: int = 42,
    without_seeds: bool = False,
) -> dict[str, Any]:  # fmt: skip
    """Write the rows of `data` to the folder `out` in a format of `data.writing`, split by task; returns its `export.json`."""
    rows, facts = load_training_rows(data, random_seed, not without_seeds)
    train, held_out = split_rows(rows, validation, random_seed)
    origin = {name: facts[name] for name in ("source", "author", "notes")}
    origin |= {"validation_share": validation, "random_seed": random_seed, "without_seeds": without_seeds}
    return write_export(out, {"train": train, "validation": held_out}, layout, origin)


def export_run(run: RunFolder, data: str | None, layout: str, out: str | None, **options: Any) -> list[str]:
    """Export `data`, or `run` itself, to `out`, or to exports/LAYOUT in the run folder; returns what to say of it, in lines."""
    if data and not out and not run.exists():
        raise ParameterError(f"{run}: no such run folder to write to; name a folder: --out FOLDER")
    folder = Path(out).expanduser().absolute() if out else run / f"exports/{layout}"
    record = export_training_rows(data or run, folder, layout, **options)
    return describe_export(record, folder)


def describe_export(record: Mapping[str, Any], folder: Path) -> list[str]:
    """What an export wrote, what it left out, and what to do next, in lines."""
    tasks, left_out = record["tasks"], record["left_out"]
    rows = [f"{name} {count_of('row', n)} of {count_of('task', tasks[name])}" for name, n in record["rows"].items()]
    lines = [f"Wrote {show_path(folder)}: {', '.join(rows)} ({record['seed_rows']:,} of the rows are seed tasks)"]
    lines += [describe_split(record), *record["notes"]]
    lines += [f"left out: {count_of('row', len(ids))}: {why} (the first: {ids[0]})" for why, ids in left_out.items()]
    if count := record["rows_with_control_tokens"]:
        lines.append(
            f"{count_of('row', count)} with a token such as <|im_end|> in the text: a trainer may read it as one"
        )
    first = show_path(folder / next(iter(record["files"])))
    return [
        *lines,
        f"Next: train on {first}; docs/formats.md has a line for each trainer, and {PROVENANCE} next to it the ids for "
        "selfinstruct export --trace ID",
    ]


# the chain of one


def trace_row(
    data: str | Path | RunFolder, id: str, store: str | Path = "outputs/responses.sqlite", random_seed: int = 42
) -> Chain:
    """All that led to the row `id`, step by step, as (what, text): prompts, answers with their keys in the store, and rules.

    Of a data set that is no run the chain ends at its row; `random_seed` is that of its export. The beginning of an id will do
    where it is one row's alone. Raises InputError where no row, or more than one, has it.
    """
    rows, facts = load_training_rows(data, random_seed)
    row = _find_row(rows, id, facts["source"])
    chain = [("id", row.id), ("source", row.place), ("instruction", row.instruction)]
    chain += [("input", row.input)] * bool(row.input) + [("output", row.output)]
    chain += [("prompt to train on", row.prompt), ("completion to train on", row.completion)]
    if (run := facts["run"]) is None:
        return chain
    if row.is_seed:
        return [*chain, ("step 1", "a seed task, written by a person; no model was asked")]
    if row.is_joined:
        return [*chain, ("step 4", "no instance of this run gives this row: it or its instance was changed by hand")]
    answers = _Answers(run, store)
    return [
        *chain,
        *_trace_instruction(run, row, answers),
        *_trace_label(run, row, answers),
        *_trace_instance(run, row, answers),
    ]


def describe_chain(data: str | Path | RunFolder, id: str, *settings: Any) -> str:
    """The chain of `trace_row` as text; what a model wrote can neither move the cursor nor colour a line."""
    return "\n".join(f"{what}\n{indent(reveal(text), '    ')}" for what, text in trace_row(data, id, *settings))


def _find_row(rows: Sequence[TrainingRow], id: str, where: str) -> TrainingRow:
    exact = [row for row in rows if row.id == id]
    found = exact or [row for row in rows if id and row.id.startswith(id)]
    if len(found) != 1:
        what = f"{len(found)} rows begin with {id!r}" if found else f"no row has the id {id!r}"
        raise InputError(f"{where}: {what}; provenance.jsonl of an export lists the ids of its rows")
    return found[0]


def _trace_instruction(run: RunFolder, row: TrainingRow, answers: _Answers) -> Chain:
    record = _find_record(run, INSTRUCTIONS, MachineInstruction, row.instruction)
    if record is None:
        return [("step 1", f"{INSTRUCTIONS} does not have the instruction")]
    chain = [
        ("step 1: request", f"number {record.request_idx + 1}"),
        *_show_call("step 1", record.metadata, answers.find_call("02", record.metadata)),
    ]
    if record.most_similar:
        nearest, score = max(record.most_similar.items(), key=lambda pair: pair[1])
        chain.append(("step 1: nearest in the pool", f"ROUGE-L {score:.3f}: {nearest}"))
    return [*chain, ("step 1: passed", ", ".join([*INSTRUCTION_RULES, "too_similar"]))]


def _trace_label(run: RunFolder, row: TrainingRow, answers: _Answers) -> Chain:
    record = _find_record(run, CLASSIFICATION, ClassificationAnswer, row.instruction)
    if record is None:
        return [("step 2", "no label of this instruction")]
    label = parse_is_classification(record.is_classification, find_quirks(run))
    key = answers.find_asked("03", row.instruction)
    return [
        ("step 2: key in the store", key or answers.missing),
        ("step 2: answer", f"{record.is_classification.strip()!r}: {'a' if label else 'no'} classification task"),
    ]


def _trace_instance(run: RunFolder, row: TrainingRow, answers: _Answers) -> Chain:
    record = _find_record(run, INSTANCES, MachineInstances, row.instruction)
    if record is None:
        return [("step 3", f"{INSTANCES} does not have the instruction")]
    label = _find_record(run, CLASSIFICATION, ClassificationAnswer, row.instruction)
    is_classification = bool(label and parse_is_classification(label.is_classification, find_quirks(run)))
    task = parse_task(record, is_classification, find_quirks_of_export(run))
    chain = _show_call("step 3", record.instance_metadata, answers.find_call("04", record.instance_metadata))
    chain.append(("step 4: parsed", f"{count_of('candidate', len(task.candidates))}, {len(task.kept)} kept"))
    chain += [(f"step 4: dropped ({one.reason})", one.candidate) for one in task.rejected]
    passed = [*INSTANCE_RULES, "conflicting_outputs", "duplicate", "over_the_cap"]
    passed += ["copied_from_prompt"] * (find_quirks_of_export(run) == "fixed")
    return [*chain, ("step 4: passed", ", ".join(passed))]


def _show_call(step: str, metadata: Mapping[str, Any], key: str) -> Chain:
    return [
        (f"{step}: key in the store", key),
        (f"{step}: asked", str(metadata.get("created_at", "not recorded"))),
        (f"{step}: prompt", str(metadata.get("prompt", "not recorded"))),
        (f"{step}: response", _read_text(metadata.get("response") or {}) or "not recorded"),
    ]


def _find_record(run: RunFolder, pattern: str, record: Any, instruction: str) -> Any:
    path = run.find_newest(pattern)
    rows = iter_records(path, record) if path else ()
    return next((row for _, row in rows if row.instruction == instruction), None)


class _Answers:
    """The answers of a run by its keys: from the store, else from the `answers.jsonl` that a published run brings along."""

    def __init__(self, run: RunFolder, store: str | Path):
        self.run, path = run, project_path(store)
        keys = {key for file in run.find("answers/*.keys") for key in file.read_text(encoding="utf-8").split()}
        self.missing = f"not in {show_path(path)}; selfinstruct store import FILE brings a published run's answers"
        self._stored: list[StoredResponse] = []
        if keys and path.is_file():
            with ResponseStore(path) as opened:
                self._stored = list(opened.get_many(keys).values())
        if not self._stored and (run / ANSWERS).is_file():
            self._stored = [row for _, row in iter_records(run / ANSWERS, StoredResponse)]

    def find_call(self, step: str, metadata: Mapping[str, Any]) -> str:
        """The key of the call with this prompt and time; of several the one with this text, from which a run may cut the end."""
        prompt, time = metadata.get("prompt"), metadata.get("created_at")
        calls = [
            one for one in self._stored if one.step == step and one.created_at == time and _read_prompt(one) == prompt
        ]
        text = _read_text(metadata.get("response") or {})
        return next(
            (one.key for one in calls if text in _read_text(one.response)), calls[0].key if calls else self.missing
        )

    def find_asked(self, step: str, instruction: str) -> str:
        """The key of the first call of `step` whose prompt ends with a question about `instruction`."""
        asked = re.compile(rf"Task: {re.escape(instruction)}\n[^\n]*$")
        found = (one.key for one in self._stored if one.step == step and asked.search(_read_prompt(one)))
        return next(found, "")


def _read_prompt(stored: StoredResponse) -> str:
    messages = stored.request.get("messages") or [{}]
    return str(stored.request.get("prompt") or messages[-1].get("content", ""))


def _read_text(response: Mapping[str, Any]) -> str:
    choice = (response.get("choices") or [{}])[0]
    return str(choice.get("text") or (choice.get("message") or {}).get("content") or "")
