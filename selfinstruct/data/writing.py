"""Data sets out: training rows in the layouts that trainers and providers read, split by task, each with an id.

    train, validation = split_rows(rows, validation=0.1, random_seed=42)
    write_export("outputs/run/exports/chat", {"train": train, "validation": validation}, "chat", {"source": "outputs/run"})

An export is a folder, written whole or not at all: the rows, `provenance.jsonl` with the id of every row in order, and
`export.json`, which says what was exported, how it was split, what was left out, and the hash of every file.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from .. import __version__
from ..files import (
    InputError,
    ParameterError,
    explain_write_error,
    iter_lines,
    read_json,
    show_path,
    write_json,
    write_records,
    write_text,
)
from ..models.protocol import TOKENS_BETWEEN, approximate_tokens
from .rows import is_blank
from .tasks import TrainingRow, find_task

RECORD, PROVENANCE, MADE_BY = "export.json", "provenance.jsonl", "selfinstruct export"
FEWEST_EXAMPLES, MOST_TOKENS, MOST_BYTES = 10, 65_536, 512_000_000  # of the provider's fine-tuning files
ROLES = ("system", "developer", "user", "assistant", "tool", "function")
CONTROL_TOKEN = re.compile(r"<\|(?:im_start|im_end|endoftext)\|>")
_TURN = re.compile(r"<\|im_(?:start|end)\|>")
NO_OUTPUT, NO_ROOM = "no output", "holds <|im_start|> or <|im_end|>, which ChatML cannot write as text"


# the formats


class Format(NamedTuple):
    """A layout: the files' suffix, how a row reads, and if a row may carry its id."""

    suffix: str
    encode: Callable[[TrainingRow], dict[str, Any]]
    has_id: bool
    purpose: str


def _encode_chat(row: TrainingRow) -> dict[str, Any]:
    turns = (("user", row.question), ("assistant", row.output))
    return {"messages": [{"role": role, "content": text} for role, text in turns]}


def _encode_sharegpt(row: TrainingRow) -> dict[str, Any]:
    turns = (("human", row.question), ("gpt", row.output))
    return {"conversations": [{"from": name, "value": text} for name, text in turns]}


def _encode_chatml(row: TrainingRow) -> dict[str, Any]:
    turns = (("user", row.question), ("assistant", row.output))
    return {"text": "".join(f"<|im_start|>{role}\n{text}<|im_end|>\n" for role, text in turns)}


def _encode_columns(row: TrainingRow) -> dict[str, Any]:
    return {"instruction": row.instruction, "input": row.input, "output": row.output}


FORMATS = {
    "paper": Format(
        ".jsonl", lambda row: {"prompt": row.prompt, "completion": row.completion}, False,
        "{prompt, completion}, as the paper trained on",
    ),
    "chat": Format(".jsonl", _encode_chat, False, "{messages: [{role, content}]}, with OpenAI's checks"),
    "alpaca": Format(".json", _encode_columns, True, "a list of {instruction, input, output}"),
    "sharegpt": Format(".json", _encode_sharegpt, True, "a list of {conversations: [{from, value}]}"),
    "chatml": Format(".jsonl", _encode_chatml, True, "{text}, with <|im_start|> and <|im_end|> around each turn"),
    "huggingface": Format(
        ".parquet", lambda row: {**_encode_columns(row), "is_seed": row.is_seed}, True,
        "a data set folder: Parquet files and a card",
    ),
}  # fmt: skip


def encode_row(row: TrainingRow, format: str) -> dict[str, Any]:
    """The row as `format` has it, with its id where the format allows one."""
    chosen = FORMATS[format]
    return {"id": row.id, **chosen.encode(row)} if chosen.has_id else chosen.encode(row)


def find_unfit(row: TrainingRow, format: str) -> str:
    """Why `format` cannot hold the row, "" where it can."""
    if is_blank(row.output):
        return NO_OUTPUT
    if format == "chatml" and _TURN.search(row.question + row.output):
        return NO_ROOM
    if format == "chat" and (count := count_tokens(_encode_chat(row)["messages"])) > MOST_TOKENS:
        return f"about {count:,} tokens; the provider takes {MOST_TOKENS:,} an example"
    return ""


def count_tokens(messages: Iterable[Mapping[str, Any]]) -> int:
    """Tokens of a conversation, by the kit's estimate: it has no provider's tokenizer."""
    return sum(approximate_tokens(str(one.get("content") or "")) + TOKENS_BETWEEN for one in messages)


# the provider's checks


def check_chat_file(path: str | Path, fewest: int = FEWEST_EXAMPLES) -> tuple[int, int]:
    """(examples, estimated tokens) of a file that a provider is to train on, checked as the provider checks it.

    Each line holds messages with a known role and a text, a user's among them and an assistant's at the end. Raises
    InputError with file:line at the first line that would be refused, and for fewer than `fewest` examples or too many bytes.
    """
    path = Path(path)
    examples = tokens = 0
    for number, value in iter_lines(path):
        if fault := _find_fault(value):
            raise InputError(
                f"{show_path(path)}:{number}: {fault}; selfinstruct export --format chat writes such a file"
            )
        examples, tokens = examples + 1, tokens + count_tokens(value["messages"])
    if examples < fewest:
        raise InputError(f"{show_path(path)}: {examples} examples; the provider needs at least {fewest}")
    if (size := path.stat().st_size) > MOST_BYTES:
        raise InputError(
            f"{show_path(path)}: {size / 1e6:,.0f} MB; the provider takes {MOST_BYTES / 1e6:,.0f} MB a file"
        )
    return examples, tokens


def _find_fault(value: Mapping[str, Any]) -> str:
    """What a provider would refuse in one example, "" for nothing."""
    messages = value.get("messages")
    if not isinstance(messages, list) or not messages:
        return 'no "messages"; expected a list of {role, content}'
    if extra := sorted(set(value) - {"messages", "tools", "parallel_tool_calls", "functions"}):
        return f'"{extra[0]}" beside "messages"; the provider allows no other field'
    for number, message in enumerate(messages, 1):
        if fault := _find_message_fault(message):
            return f"message {number}: {fault}"
    roles = [message["role"] for message in messages]
    if roles[-1] != "assistant" or "user" not in roles:
        return f"roles {', '.join(roles)}; expected a user's message, and the assistant's last"
    if (count := count_tokens(messages)) > MOST_TOKENS:
        return f"about {count:,} tokens; the provider takes {MOST_TOKENS:,} an example"
    return ""


def _find_message_fault(message: Any) -> str:
    if not isinstance(message, Mapping) or message.get("role") not in ROLES:
        role = message.get("role") if isinstance(message, Mapping) else type(message).__name__
        return f"role {role!r}; expected one of {', '.join(ROLES)}"
    if extra := sorted(
        set(message) - {"role", "content", "name", "weight", "tool_calls", "tool_call_id", "function_call"}
    ):
        return f'"{extra[0]}" is no field of a message'
    content = message.get("content")
    if not isinstance(content, str) or not content:
        return f'"content" of the {message["role"]} is {str(content)[:40]!r}; expected a text'
    return ""


# the folder


def write_export(
    out: str | Path, sides: Mapping[str, Sequence[TrainingRow]], format: str, facts: Mapping[str, Any]
) -> dict[str, Any]:
    """Write the rows of each side (train, validation) to the folder `out`, whole or not at all; returns what `export.json` holds.

    Rows that the format cannot hold are left out, with the reason and their ids. Raises ParameterError for an unknown format,
    and InputError where nothing is left, where the provider would refuse the file, and where `out` holds anything that an
    export did not write.
    """
    out = Path(out)
    if format not in FORMATS:
        raise ParameterError(f"format={format!r}: choose one of {', '.join(FORMATS)}")
    kept, left_out = _choose_fit(sides, format)
    if not kept.get("train"):
        reasons = "; ".join(f"{reason} ({len(ids)} rows)" for reason, ids in left_out.items()) or "there are none"
        raise InputError(f"{show_path(out)}: no rows to train on: {reasons}")
    record = _describe(kept, left_out, format, facts)
    with _writing_folder(out) as folder:
        files = [_write_side(folder, name, rows, format) for name, rows in kept.items()]
        if format == "chat":
            for path in files:
                check_chat_file(path, FEWEST_EXAMPLES if path.stem == "train" else 1)
        if format == "huggingface":
            files.append(write_text(folder / "README.md", _write_card(record)))
        files.append(write_records(folder / PROVENANCE, _list_provenance(kept, files)))
        record["files"] = {str(path.relative_to(folder)): _hash_file(path) for path in files}
        write_json(folder / RECORD, record)
    return record


def _choose_fit(
    sides: Mapping[str, Sequence[TrainingRow]], format: str
) -> tuple[dict[str, list[TrainingRow]], dict[str, list[str]]]:
    """(the rows of each side that are not empty, reason -> ids of what is left out)."""
    kept: dict[str, list[TrainingRow]] = {}
    left_out: dict[str, list[str]] = {}
    for name, rows in sides.items():
        for row in rows:
            if reason := find_unfit(row, format):
                left_out.setdefault(reason, []).append(row.id)
            else:
                kept.setdefault(name, []).append(row)
    return kept, left_out


def _describe(
    kept: Mapping[str, Sequence[TrainingRow]], left_out: Mapping[str, list[str]], format: str, facts: Mapping[str, Any]
) -> dict[str, Any]:
    rows = [row for side in kept.values() for row in side]
    texts = (row.question + row.output for row in rows)
    return {
        "made_by": MADE_BY, "kit_version": __version__, "format": format, **facts,
        "rows": {name: len(side) for name, side in kept.items()},
        "tasks": {name: len({find_task(row) for row in side}) for name, side in kept.items()},
        "seed_rows": sum(row.is_seed for row in rows),
        "rows_with_control_tokens": sum(bool(CONTROL_TOKEN.search(text)) for text in texts),
        "left_out": dict(left_out),
    }  # fmt: skip


def _write_side(folder: Path, name: str, rows: Sequence[TrainingRow], format: str) -> Path:
    encoded = (encode_row(row, format) for row in rows)
    suffix = FORMATS[format].suffix
    if suffix == ".parquet":
        return _write_table(folder / f"data/{name}-00000-of-00001.parquet", list(encoded))
    if suffix == ".jsonl":
        return write_records(folder / f"{name}.jsonl", encoded)
    lines = ",\n".join(json.dumps(one, ensure_ascii=False) for one in encoded)
    return write_text(folder / f"{name}.json", f"[\n{lines}\n]\n")


def _write_table(path: Path, rows: list[dict[str, Any]]) -> Path:
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(
            f"{path.name}: Parquet needs pyarrow (pip install -e '.[parquet]'); or choose alpaca"
        ) from error
    kinds = {bool: pa.bool_(), str: pa.string()}
    schema = pa.schema([(name, kinds[type(value)]) for name, value in rows[0].items()])
    path.parent.mkdir(exist_ok=True)
    parquet.write_table(pa.Table.from_pylist(rows, schema), path)
    return path


def _list_provenance(kept: Mapping[str, Sequence[TrainingRow]], files: Sequence[Path]) -> Iterator[dict[str, Any]]:
    """A line for each row, in the order of the files: its id, where it lies in the export, and where it comes from."""
    for (name, rows), path in zip(kept.items(), files, strict=False):
        for number, row in enumerate(rows, 1):
            place = {"split": name, "file": path.name, "row": number}
            yield {"id": row.id, **place, "source": row.place, "is_seed": row.is_seed, "instruction": row.instruction}


def _write_card(record: Mapping[str, Any]) -> str:
    """The README of a Hugging Face data set folder: YAML between two rules, then words."""
    import yaml

    rows, total = record["rows"], sum(record["rows"].values())
    size = next(name for most, name in _SIZES if total < most)
    files = [{"split": name, "path": f"data/{name}-*"} for name in rows]
    head = {
        "configs": [{"config_name": "default", "data_files": files}],
        "tags": ["self-instruct", "synthetic"], "task_categories": ["text-generation"], "size_categories": [size],
    }  # fmt: skip
    lines = [
        f"Instructions with inputs and outputs, made by the method of Self-Instruct (Wang et al. 2022); source: {record['source']}.",
        f"The texts: {record.get('author') or 'their author is not recorded'}. {record['seed_rows']:,} rows are hand-written seed tasks.",
        "Before you publish this, add a `license` above: it depends on the model that wrote the texts.",
        "Rows: " + ", ".join(f"{name} {count:,} ({record['tasks'][name]:,} tasks)" for name, count in rows.items())
        + f". {describe_split(record)}",
        f"Columns: `id`, `instruction`, `input` (may be empty), `output`, `is_seed`. `{PROVENANCE}` has the source of every id; "
        "`selfinstruct export --trace ID` shows the prompts, answers and rules that a row came from.",
    ]  # fmt: skip
    return f"---\n{yaml.safe_dump(head, sort_keys=False)}---\n\n# Self-Instruct data\n\n" + "\n\n".join(lines) + "\n"


_SIZES = ((1e3, "n<1K"), (1e4, "1K<n<10K"), (1e5, "10K<n<100K"), (1e6, "100K<n<1M"), (float("inf"), "n>1M"))


def describe_split(record: Mapping[str, Any]) -> str:
    """How the rows of an export were split, in one sentence."""
    if "validation" not in record["rows"]:
        return "Not split."
    return (
        f"Split by task, not by row: all rows of an instruction are on one side (capitals, punctuation and spacing do not count); "
        f"{record['validation_share']:g} of the tasks are validation, drawn with random_seed {record['random_seed']}."
    )


def _hash_file(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def check_replaceable(out: Path) -> None:
    """Raise InputError where the folder `out` holds anything but an export as it was written."""
    if not out.exists() or (out.is_dir() and not any(out.iterdir())):
        return
    advice = "choose another folder, or move it away"
    if not out.is_dir():
        raise InputError(f"{show_path(out)}: a file; an export is a folder: {advice}")
    record = read_json(out / RECORD) if (out / RECORD).is_file() else None
    if not isinstance(record, dict) or record.get("made_by") != MADE_BY:
        raise InputError(f"{show_path(out)}: not written by {MADE_BY}; {advice}")
    written = record.get("files", {})
    here = {str(path.relative_to(out)) for path in out.rglob("*") if path.is_file()} - {RECORD}
    changed = sorted(here - written.keys()) or [name for name in here if _hash_file(out / name) != written[name]]
    if changed:
        raise InputError(f"{show_path(out / changed[0])}: changed or added since the export; {advice}")


@contextmanager
def _writing_folder(out: Path) -> Iterator[Path]:
    """A folder next to `out` that takes its place at the end; after an error `out` is as it was."""
    check_replaceable(out)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        folder = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}."))
    except OSError as error:
        raise explain_write_error(out, error, 0) from error
    try:
        yield folder
        os.chmod(folder, 0o755)
        _take_place(folder, out)
    except OSError as error:
        raise explain_write_error(out, error, sum(one.stat().st_size for one in folder.rglob("*"))) from error
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _take_place(folder: Path, out: Path) -> None:
    if not out.exists():
        folder.rename(out)
        return
    old = Path(tempfile.mkdtemp(dir=out.parent, prefix=f".{out.name}.old."))
    out.rename(old)
    try:
        folder.rename(out)
    except OSError:
        old.rename(out)
        raise
    shutil.rmtree(old, ignore_errors=True)
