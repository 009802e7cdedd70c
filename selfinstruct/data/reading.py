"""JSON objects of a file that others wrote, each with the place it has there: JSONL, a JSON array, gzip, Parquet, Arrow.

    for where, value in iter_objects(Path("data.jsonl")):     # "data.jsonl:17", {"instruction": ...}

A file may be anything, so that every error is an InputError that names the file, the line and what was expected.
"""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ..files import InputError, show_path

TABLE_FILES = ("*.parquet", "*.arrow")
TEXT_FILES = ("*.jsonl", "*.json", "*.jsonl.gz", "*.json.gz")
_NO_ROWS = {  # Hugging Face's descriptions of a data set's rows
    "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json", "metadata.json",
}  # fmt: skip
TABLES = (b"PAR1", b"ARROW1", b"\xff\xff\xff\xff")  # Parquet; an Arrow file; an Arrow stream, as `save_to_disk` writes
LIST_KEYS = ("rows", "data", "train", "instances", "examples")  # where a JSON object may keep its rows


def iter_objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (its place, object) for every row of a JSONL, JSON, Parquet or Arrow file, gzipped or not.

    Raises InputError at the first row that cannot be read, and for a file without any.
    """
    name, found = show_path(path), False
    try:
        with _open_file(path) as file:
            for where, value in _iter_values(file, name):
                found = True
                yield where, _take_object(value, where)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{name}: cannot be read ({reason})") from error
    if not found:
        raise InputError(f"{name}: nothing in it; expected one JSON object a line, or a JSON list of objects")


def find_data_files(folder: Path, patterns: tuple[str, ...] = (*TABLE_FILES, *TEXT_FILES)) -> list[Path]:
    """The files like one of `patterns` that may hold rows, anywhere below `folder`, in order.

    Left out is what describes the rows (`dataset_info.json` and the like), what `datasets` caches, and what is hidden.
    """
    found = [path for pattern in patterns for path in folder.rglob(pattern)]
    return sorted(path for path in found if path.is_file() and _may_hold_rows(path.relative_to(folder)))


def _may_hold_rows(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts)
    return not hidden and not path.name.startswith("cache-") and path.name not in _NO_ROWS


def _open_file(path: Path) -> BinaryIO:
    raw = path.open("rb")
    return gzip.open(raw) if raw.peek(2).startswith(b"\x1f\x8b") else raw


def _iter_values(file: BinaryIO, name: str) -> Iterator[tuple[str, Any]]:
    head = file.peek(4096)[:4096]
    first = head.removeprefix(b"\xef\xbb\xbf").lstrip().split(b"\n")[0].rstrip()
    if head.startswith(TABLES):
        yield from _number_rows(_read_table(file, head, name), name)
    elif first.startswith(b"[") or first == b"{":  # a list, or an object over several lines
        value = _parse(file.read(), f"{name}:1")
        rows = _find_rows(value)
        yield from [(f"{name}:1", value)] if rows is None else _number_rows(rows, name)
    else:
        yield from _iter_lines(file, name)


def _iter_lines(file: BinaryIO, name: str) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(file, 1):
        if line.strip():
            value = _parse(line, f"{name}:{number}")
            rows = _find_rows(value) if number == 1 else None
            yield from [(f"{name}:{number}", value)] if rows is None else _number_rows(rows, name)


def _number_rows(rows: list[Any], name: str) -> Iterator[tuple[str, Any]]:
    return ((f"{name}, row {number}", row) for number, row in enumerate(rows, 1))


def _find_rows(value: Any) -> list[Any] | None:
    """The rows of a JSON value that is a whole data set, None where it is a row itself."""
    if isinstance(value, dict) and "instruction" not in value:
        lists = [rows for key in LIST_KEYS if isinstance(rows := value.get(key), list)]
        return next((rows for rows in lists if rows and isinstance(rows[0], dict)), None)
    return value if isinstance(value, list) else None


def _read_table(file: BinaryIO, head: bytes, name: str) -> list[Any]:
    """The rows of a Parquet or Arrow table, with lists as lists."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(
            f"{name}: this format needs pyarrow (pip install -e '.[parquet]'); or save the rows as JSONL"
        ) from error
    try:
        source = pa.BufferReader(file.read())
        if head.startswith(b"PAR1"):
            return parquet.read_table(source).to_pylist()
        open_table = pa.ipc.open_file if head.startswith(b"ARROW1") else pa.ipc.open_stream
        return open_table(source).read_all().to_pylist()
    except (pa.ArrowException, ValueError, OSError) as error:
        raise InputError(f"{name}: not a whole Parquet or Arrow file ({error})") from error


def _parse(data: bytes, where: str) -> Any:
    try:
        return json.loads(data.decode("utf-8-sig").rstrip())
    except UnicodeDecodeError as error:
        bad = f"byte 0x{data[error.start]:02x} at {error.start + 1}"
        raise InputError(f"{where}: not UTF-8 text ({bad}); save it as UTF-8") from error
    except json.JSONDecodeError as error:
        place = where if error.lineno == 1 else f"{where.rsplit(':', 1)[0]}:{error.lineno}"
        what = f"not JSON ({error.msg} at column {error.colno})"
        raise InputError(f"{place}: {what}; expected one JSON object a line, or a list of them") from error
    except (ValueError, RecursionError) as error:  # a number of over 4,300 digits, or brackets without end
        raise InputError(f"{where}: not a row of data ({error})") from error


def _take_object(value: Any, where: str) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        expected = "expected fields such as instruction and output"
        raise InputError(f"{where}: a {type(value).__name__}, not an object; {expected}")
    row = value.get("row")  # the Hugging Face viewer wraps its rows
    return row if isinstance(row, dict) and "row_idx" in value else dict(value)
