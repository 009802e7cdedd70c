"""The layouts of rows that the analyses take, and how a row of each reads; the first row of a file decides for all.

rows, shape = read_rows(iter_objects(path))
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..files import InputError


@dataclass(frozen=True, slots=True)
class Row:
    """One instance. `input` and `output` are None where the data set has instructions only, "" where they are empty."""

    instruction: str
    input: str | None = None
    output: str | None = None
    is_classification: bool | None = None  # None: the data set does not say
    nulls: tuple[str, ...] = field(default=(), compare=False, repr=False)  # which of input and output were null, not ""


@dataclass(frozen=True)
class Shape:
    """A layout of rows: the fields it is known by, and how a row of it reads."""

    name: str
    fields: tuple[str, ...]
    read: Callable[[Mapping[str, Any]], Iterator[Row]]
    note: str = ""


class Unreadable(Exception):
    """What is wrong with a row; `read_rows` adds its place."""


def _take_text(row: Mapping[str, Any], field: str) -> str:
    value = row.get(field)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise Unreadable(f'"{field}" is {repr(value)[:60]}; expected text')
    # lone surrogates are legal in JSON and in no file
    return value if value.isascii() else value.encode("utf-8", "replace").decode()


def _take_instruction(row: Mapping[str, Any], field: str) -> str:
    text = _take_text(row, field)
    if not text.strip():
        raise Unreadable(f'"{field}" is empty; every row needs an instruction')
    return text


def _read_columns(instruction: str, input: str = "", output: str = "") -> Callable[[Mapping[str, Any]], Iterator[Row]]:
    def read(row: Mapping[str, Any]) -> Iterator[Row]:
        label = row.get("is_classification")
        parts = {"input": input, "output": output}.items()
        yield Row(
            _take_instruction(row, instruction),
            (_take_text(row, input) if input else "") if output else None,
            _take_text(row, output).removesuffix("<|endoftext|>") if output else None,
            label if isinstance(label, bool) else None,
            tuple(part for part, field in parts if field in row and row[field] is None),
        )

    return read


def _read_tasks(row: Mapping[str, Any]) -> Iterator[Row]:
    instances = row["instances"]
    if not isinstance(instances, list) or not all(isinstance(one, dict) and "output" in one for one in instances):
        raise Unreadable('"instances" must be a list of {input, output}')
    for instance in instances:
        yield from _read_columns("instruction", "input", "output")({**row, **instance})


def _read_chats(turns: str, speaker: str, words: str) -> Callable[[Mapping[str, Any]], Iterator[Row]]:
    def read(row: Mapping[str, Any]) -> Iterator[Row]:
        messages = row[turns]
        if not isinstance(messages, list) or not all(isinstance(one, dict) for one in messages):
            raise Unreadable(f'"{turns}" must be a list of {{{speaker}, {words}}}')
        asked = [one for one in messages if one.get(speaker) in ("user", "human")]
        answers = [one for one in messages if one.get(speaker) in ("assistant", "gpt")]
        if not asked or not answers:
            raise Unreadable(f"\"{turns}\" needs a user's and an assistant's message")
        question, answer = _join_parts(asked[0], words), _join_parts(answers[0], words)
        nulls = ("output",) if answer.get(words) is None else ()
        yield Row(_take_instruction(question, words), "", _take_text(answer, words), nulls=nulls)

    return read


def _join_parts(message: Mapping[str, Any], words: str) -> Mapping[str, Any]:
    """`message` with its parts as one text, a line each; as it is where it has plain text."""
    parts = message.get(words)
    if not isinstance(parts, list):
        return message
    for part in parts:
        if not isinstance(part, Mapping) or not isinstance(part.get("text"), str):
            expected = 'expected parts {"type": "text", "text": ...}'
            raise Unreadable(f'"{words}" has a part that is no text ({repr(part)[:60]}); {expected}')
    return {**message, words: "\n".join(part["text"] for part in parts)}


_JOINED = "its prompts hold instruction and input together: instruction lengths include the inputs"
SHAPES = (  # the first whose fields a row has all of
    Shape("tasks with instances", ("instruction", "instances"), _read_tasks),
    Shape("OpenAI chat", ("messages",), _read_chats("messages", "role", "content"), f"first turns only; {_JOINED}"),
    Shape("ShareGPT chat", ("conversations",), _read_chats("conversations", "from", "value"), f"first turns only; {_JOINED}"),
    Shape("predictions", ("instruction", "input", "response", "target"), _read_columns("instruction", "input", "response")),
    Shape("instances", ("instruction", "input", "output"), _read_columns("instruction", "input", "output")),
    Shape("instances with a context", ("instruction", "context", "response"), _read_columns("instruction", "context", "response")),
    Shape("instances without inputs", ("instruction", "output"), _read_columns("instruction", output="output")),
    Shape("prompts and completions", ("prompt", "completion"), _read_columns("prompt", output="completion"), _JOINED),
    Shape("instructions", ("instruction",), _read_columns("instruction")),
)  # fmt: skip


def read_rows(objects: Iterable[tuple[str, Any]]) -> tuple[list[Row], Shape | None]:
    """All rows of (place, object) pairs and their shape; None where there are none.

    Raises InputError for a row of no known shape, of another shape than the first, or with a value that is no text.
    """
    rows: list[Row] = []
    first, shape = "", None
    for where, value in objects:
        found = find_shape(value)
        first, shape = first or where, shape or found
        if found is None or found is not shape:
            raise InputError(_explain_shape(where, value, first, shape, found))
        try:
            rows += shape.read(value)
        except Unreadable as error:
            raise InputError(f"{where}: {error}") from error
    return rows, shape


def find_shape(value: Any) -> Shape | None:
    """The first shape whose fields `value` has, None where it has those of none."""
    fields = value if isinstance(value, Mapping) else ()
    return next((shape for shape in SHAPES if all(field in fields for field in shape.fields)), None)


def _explain_shape(where: str, value: Any, first: str, shape: Shape | None, found: Shape | None) -> str:
    fields = list(value) if isinstance(value, Mapping) else []
    if shape is None:
        known = "; ".join(", ".join(one.fields) for one in SHAPES)
        return f"{where}: fields: {', '.join(map(str, fields))[:120] or 'none'}; expected one of these sets: {known}"
    missing = [field for field in shape.fields if field not in fields]
    extra = sorted(set(found.fields) - set(shape.fields)) if found else []
    what = f'missing "{missing[0]}"' if missing else f"also has {', '.join(extra)}"
    return (
        f"{where}: {what}; {first} has {', '.join(shape.fields)} ({shape.name}), and all rows of a file must be alike"
    )
