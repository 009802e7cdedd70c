"""The layouts of rows that the analyses take, and how a row of each reads.

    rows, notes, left_out = read_rows(iter_objects(path))

A row is a conversation, a task with its instances, or columns under one of the names that people give them. Every row is
read, or left out with its place and the reason; `notes` say how rows were read, and what of them was not used.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from itertools import chain
from typing import Any

from ..files import InputError
from .conversations import CHATML, SPOKEN, join_messages, read_chat, read_chatml, read_transcript, read_tree
from .rows import Row, Unreadable, take_input, take_instruction, take_text

# Names of columns, the likeliest first; capitals do not matter, and a column serves once
INSTRUCTIONS = ("instruction", "prompt", "question", "query", "problem", "definition", "inputs", "task", "input")
INPUTS = ("input", "context", "inputs")
OUTPUTS = ("output", "response", "completion", "answer", "target", "targets", "chosen", "solution")
CHATS = ("messages", "conversations", "conversation", "dialog", "dialogue", "contents")
MOST_REASONS = 5  # that a line names, with the first place of each
ONE_MESSAGE = {"message_id", "parent_id", "text", "role"}  # fields of OpenAssistant's rows


@dataclass(frozen=True)
class Shape:
    """A layout of rows: the fields it is known by, how a row of it reads, and if it has outputs."""

    name: str
    fields: tuple[str, ...]
    read: Callable[[Mapping[str, Any]], Iterator[Row]]
    note: str = ""
    has_outputs: bool = True


def _take_columns(row: Mapping[str, Any], instruction: str, input: str, output: str) -> Row:
    names = {"input": input, "output": output}.items()
    remarks = [f"without an {part} (null)" for part, name in names if name in row and row[name] is None]
    text, label = take_instruction(row, instruction, remarks), row.get("is_classification")
    return Row(
        text,
        take_input(row, input, remarks) if output else None,
        take_text(row, output, remarks).removesuffix("<|endoftext|>") if output else None,
        label if isinstance(label, bool) else None,
        tuple(remarks),
    )


def _read_tasks(row: Mapping[str, Any]) -> Iterator[Row]:
    instances = row["instances"]
    if not isinstance(instances, list) or not all(isinstance(one, dict) and "output" in one for one in instances):
        raise Unreadable('"instances" must be a list of {input, output}')
    if not instances:
        raise Unreadable('"instances" is an empty list; a task needs at least one')
    name = "instruction" if "instruction" in row else "definition"
    for instance in instances:
        yield _take_columns({**row, **instance}, name, "input", "output")


JOINED = "its prompts hold instruction and input together: instruction lengths include the inputs"
_TURNS = f"first turns only; {JOINED}"
TASKS = Shape("tasks with instances", ("instruction", "instances"), _read_tasks)
DEFINED = Shape("defined tasks with instances", ("definition", "instances"), _read_tasks)
TREES = Shape("trees of replies", ("prompt",), read_tree, _TURNS)
CHATML_TEXT = Shape("a conversation in ChatML", ("text",), read_chatml, _TURNS)
_KNOWN = (  # for messages: what a file may have
    "instruction, instances", *CHATS[:2], "instruction, input, output", "instruction, context, response",
    "instruction, output", "prompt, completion", "question, answer", "instruction",
)  # fmt: skip


@cache
def _chat_shape(*names: str) -> Shape:
    return Shape("a conversation", names, read_chat(*names), _TURNS)


@cache
def _transcript_shape(name: str) -> Shape:
    return Shape("a conversation in one text", (name,), read_transcript(name), _TURNS)


@cache
def _column_shape(instruction: str, input: str, output: str) -> Shape:
    """Columns under these names, "" for one that is not there."""
    names = {"instruction": instruction, "input": input, "output": output}
    unusual = [f"{name} as {part}" for part, name in names.items() if name and name != part]
    plain = (instruction, input, output) in {
        ("instruction", "context", "response"), ("instruction", "input", "response"), ("prompt", "", "completion"),
    }  # fmt: skip
    notes = [f"read {', '.join(unusual)}"] * bool(unusual and not plain)
    notes += [JOINED] * (instruction == "prompt" and not input)
    fields = tuple(name for name in names.values() if name)

    def read(row: Mapping[str, Any]) -> Iterator[Row]:
        yield _take_columns(row, instruction, input, output)

    return Shape(", ".join(fields), fields, read, "; ".join(notes), bool(output))


def lower_fields(row: Mapping[str, Any]) -> dict[str, Any]:
    """`row` with the names of its fields in lower case, as `find_shape` knows them."""
    return {str(name).strip().casefold(): row[name] for name in row}


def find_shape(value: Mapping[str, Any]) -> Shape | None:
    """The layout that the fields of `value` belong to, None where none of them can be an instruction."""
    if "instances" in value and ("instruction" in value or "definition" in value):
        return TASKS if "instruction" in value else DEFINED
    if chat := _find_chat(value):
        return chat
    instruction = next((name for name in INSTRUCTIONS if name in value), None)
    if instruction:
        input = next((name for name in INPUTS if name in value and name != instruction), "")
        return _column_shape(instruction, input, next((name for name in OUTPUTS if name in value), ""))
    if _is_chatml(value.get("text")):
        return CHATML_TEXT
    spoken = (name for name in ("text", "chosen") if isinstance(value.get(name), str) and SPOKEN.search(value[name]))
    return next(map(_transcript_shape, spoken), None)


def _is_chatml(text: Any) -> bool:
    return isinstance(text, str) and CHATML.match(text) is not None


def _find_chat(value: Mapping[str, Any]) -> Shape | None:
    prompt = value.get("prompt")
    if name := next((name for name in CHATS if name in value), None):
        return _chat_shape(name)
    if isinstance(prompt, Mapping) and "replies" in prompt:
        return TREES
    if name := next((name for name in OUTPUTS if _holds(value.get(name), Mapping)), None):
        return _chat_shape(*[part for part in ("prompt", name) if part in value])
    return _chat_shape("data") if _holds(value.get("data"), str) else None


def _holds(value: Any, kind: type) -> bool:
    return isinstance(value, list) and bool(value) and isinstance(value[0], kind)


def read_rows(objects: Iterable[tuple[str, Any]]) -> tuple[list[Row], list[str], list[str]]:
    """(rows, notes on how they read, what was left out and why) of (place, object) pairs.

    Either all rows of a file have outputs or none has. Raises InputError for a row of no known layout, for one that lacks
    what the first one has, and where no row can be used.
    """
    rows: list[Row] = []
    left_out: dict[str, list[str]] = {}
    shapes: dict[Shape, set[str]] = {}
    first, count = "", 0
    for where, row in _prepare(objects):
        count += 1
        found = find_shape(row)
        if row:
            first = first or where
            _check_alike(where, row, first, next(iter(shapes), None), found)
            shapes.setdefault(found, set()).update(_find_unused(row, found))
        try:
            rows += list(found.read(row)) if row else _refuse_empty()
        except Unreadable as error:
            left_out.setdefault(str(error), []).append(where)
    if left_out and not rows:
        reason, places = next(iter(left_out.items()))
        raise InputError(f"{places[0]}: {reason}")
    return rows, [*_note_shapes(shapes), *_note_remarks(rows)], _note_left_out(left_out, count)


def _prepare(objects: Iterable[tuple[str, Any]]) -> Iterator[tuple[str, Any]]:
    """The objects with their fields in lower case; rows of one message each become trees."""
    objects = ((where, lower_fields(value)) for where, value in objects)
    for pair in objects:
        rest = chain([pair], objects)
        return join_messages(rest) if pair[1].keys() >= ONE_MESSAGE else rest
    return iter(())


def _refuse_empty() -> Iterator[Row]:
    raise Unreadable("an empty object; every row needs an instruction")


def _check_alike(where: str, row: Mapping[str, Any], first: str, shape: Shape | None, found: Shape | None) -> None:
    if found is None and shape is None:
        fields = ", ".join(map(str, row))[:120] or "none"
        raise InputError(f"{where}: fields: {fields}; expected one of these sets: {'; '.join(_KNOWN)}")
    if shape and (found is None or found.has_outputs != shape.has_outputs):
        missing = [name for name in shape.fields if name not in row]
        extra = sorted(set(found.fields) - set(shape.fields)) if found else []
        what = f'missing "{missing[0]}"' if missing else f"also has {', '.join(extra)}"
        alike = "and all rows of a file must be alike"
        raise InputError(f"{where}: {what}; {first} has {', '.join(shape.fields)} ({shape.name}), {alike}")


def _find_unused(row: Mapping[str, Any], shape: Shape) -> set[str]:
    """The fields that might have been the output and, where the shape has none, every other text."""
    others = [name for name in row if name not in shape.fields]
    if not shape.has_outputs:
        return {name for name in others if name in (*INPUTS, *OUTPUTS) or (isinstance(row[name], str) and row[name])}
    # what the authors call the human's answer in their models' responses is no second output
    meant = [name for name in others if name in OUTPUTS and not (name == "target" and "response" in shape.fields)]
    return {*meant, *(name for name in others if name == "rejected")}


def _note_shapes(shapes: Mapping[Shape, set[str]]) -> list[str]:
    notes = dict.fromkeys(shape.note for shape in shapes if shape.note)
    unused = sorted(set().union(*shapes.values()))
    return [*notes, *([f"not used: {', '.join(unused)}"] if unused else [])]


def _note_remarks(rows: Iterable[Row]) -> list[str]:
    counts = Counter(chain.from_iterable(row.remarks for row in rows))
    return [f"{times:,} row{'s' * (times != 1)} {remark}" for remark, times in sorted(counts.items())]


def _note_left_out(reasons: Mapping[str, list[str]], count: int) -> list[str]:
    """One line on all rows that were left out: how many, and for each reason where."""
    if not reasons:
        return []
    parts = [
        f"{places[0]}: {reason}{f' (and {len(places) - 1:,} more)' if len(places) > 1 else ''}"
        for reason, places in reasons.items()
    ]
    more = f"; and {len(parts) - MOST_REASONS} more reasons" if len(parts) > MOST_REASONS else ""
    read = count - sum(map(len, reasons.values()))
    return [f"read {read:,} of {count:,} rows; left out: {'; '.join(parts[:MOST_REASONS])}{more}"]
