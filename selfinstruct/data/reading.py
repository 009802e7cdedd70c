"""JSON objects of a file that others wrote, each with the place it stands at: JSONL, a JSON array, gzip, Parquet, Arrow.

    for where, value in iter_objects(Path("data.jsonl")):     # "data.jsonl:17", {"instruction": ...}

A file may be anything, so that every error is an InputError that names the file, the line and what was expected.
"""

from __future__ import annotations

import gzip
import io
import json
import re
import sys
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ..files import InputError, shown_path

MAX_LINE_BYTES = 16 * 2**20  # the longest row of the 82K release has 9 KB
TABLE_FILES = ("*.parquet", "*.arrow")
TEXT_FILES = ("*.jsonl", "*.json", "*.jsonl.gz", "*.json.gz")
_NO_ROWS = {  # what lies beside a data set's rows: Hugging Face's descriptions of them
    "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json", "metadata.json",
}  # fmt: skip
TABLES = (b"PAR1", b"ARROW1", b"\xff\xff\xff\xff")  # Parquet; an Arrow file; an Arrow stream, as `save_to_disk` writes
LIST_KEYS = ("rows", "data", "train", "instances", "examples")  # where a JSON object may keep its rows


def iter_objects(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (where it stands, object) for every row of a JSONL, JSON, Parquet or Arrow file, gzipped or not.

    Raises InputError at the first row that cannot be read, and for a file without any.
    """
    name, found = shown_path(path), False
    try:
        with _opened(path) as file:
            for where, value in _iter_rows(file, name):
                found = True
                yield where, value
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
    return sorted(path for path in found if path.is_file() and not _is_beside(path.relative_to(folder)))


def _is_beside(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts)
    return hidden or path.name.startswith("cache-") or path.name in _NO_ROWS


def _opened(path: Path) -> BinaryIO:
    raw = path.open("rb")
    head = raw.peek(4)[:4]
    return gzip.open(raw) if head[:2] == b"\x1f\x8b" else raw


def _iter_rows(file: BinaryIO, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    head = file.peek(4096)[:4096]
    if head.startswith(TABLES):
        yield from _array_rows(_table_rows(io.BytesIO(file.read()), head, name), name)
    elif head.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise InputError(f"{name}:1: not UTF-8 but UTF-16 text; save it as UTF-8")
    elif head.removeprefix(b"\xef\xbb\xbf").lstrip().startswith(b"["):
        yield from _array_rows(_parsed(_decoded(file.read(), f"{name}:1"), f"{name}:1"), name)
    else:
        yield from _jsonl_rows(file, name)


def _jsonl_rows(file: BinaryIO, name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """The lines of a JSONL file; a file that is one JSON object with a list of rows in it is taken, too."""
    for number, line in enumerate(iter(lambda: file.readline(MAX_LINE_BYTES + 1), b""), 1):
        where = f"{name}:{number}"
        if len(line) > MAX_LINE_BYTES:
            raise InputError(
                f"{where}: longer than {MAX_LINE_BYTES >> 20} MB; expected one row a line, of some KB each"
            )
        text = _decoded(line, where).strip()
        if number == 1 and text == "{":  # printed over several lines
            text = f"{text}\n{_decoded(file.read(), name)}".rstrip()
        if text:
            value = _parsed(text, where)
            listed = _listed(value) if number == 1 else None
            if listed is not None:
                yield from _array_rows(listed, name)
            else:
                yield where, _object(value, where)


def _array_rows(values: list[Any], name: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, value in enumerate(values, 1):
        where = f"{name}, row {number}"
        value = _object(value, where)
        row = value.get("row")  # the Hugging Face viewer wraps its rows
        yield where, row if isinstance(row, dict) and "row_idx" in value else value


def _listed(value: Any) -> list[Any] | None:
    """The rows of a JSON object that is a whole data set, None where it is a row itself."""
    if isinstance(value, dict) and "instruction" not in value:
        for key in LIST_KEYS:
            rows = value.get(key)
            if isinstance(rows, list) and rows and isinstance(rows[0], dict):
                return rows
    return None


def _table_rows(file: BinaryIO, head: bytes, name: str) -> list[Any]:
    """The rows of a Parquet or Arrow table, with lists as lists."""
    try:
        import pyarrow as pa
        from pyarrow import parquet
    except ImportError as error:
        raise InputError(
            f"{name}: this format needs pyarrow (pip install -e '.[parquet]'); or save the rows as JSONL"
        ) from error
    read = (
        parquet.read_table
        if head.startswith(b"PAR1")
        else pa.ipc.open_file
        if head.startswith(b"ARROW1")
        else pa.ipc.open_stream
    )
    try:
        table = read(file)
        return (table if isinstance(table, pa.Table) else table.read_all()).to_pylist()
    except (pa.ArrowException, ValueError, OSError) as error:
        raise InputError(f"{name}: not a whole Parquet or Arrow file ({error})") from error


def _decoded(data: bytes, where: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{where}: not UTF-8 text (byte 0x{data[error.start]:02x} at {error.start + 1}); save it as UTF-8"
        ) from error


def _parsed(text: str, where: str) -> Any:
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        place = where if error.lineno == 1 else f"{where.rsplit(':', 1)[0]}:{error.lineno}"
        raise InputError(
            f"{place}: not JSON ({error.msg} at column {error.colno}); expected one JSON object a line, or a list of them"
        ) from error
    except ValueError as error:  # JSON sets no limit to a number's digits, Python does
        most = sys.get_int_max_str_digits()
        raise InputError(
            f"{_line_of_number(text, most, where)}: a number of more than {most:,} digits; write it as text"
        ) from error
    except RecursionError as error:
        raise InputError(f"{where}: nested too deep to be a row of data") from error


def _line_of_number(text: str, most: int, where: str) -> str:
    """The line of the first number in `text` that is longer than `most` digits, where `text` has several lines."""
    found = re.search(rf"\d{{{most + 1},}}", text)
    lines = text.count("\n", 0, found.start()) if found else 0
    return f"{where.rsplit(':', 1)[0]}:{lines + 1}" if lines else where


def _object(value: Any, where: str) -> dict[str, Any]:
    if isinstance(value, Mapping):
        return dict(value)
    raise InputError(
        f"{where}: a {type(value).__name__}, not an object; expected fields such as instruction and output"
    )
