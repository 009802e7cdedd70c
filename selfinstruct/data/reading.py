"""Objects of a file that others wrote, each with the place it has there: JSONL, a JSON array, CSV, gzip, Parquet, Arrow.

    for where, value in iter_objects(Path("data.jsonl")):     # "data.jsonl:17", {"instruction": ...}

A file may be anything, so that every error is an InputError that names the file, the line and what was expected.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ..files import InputError, show_path
from .formats import find_shape, lower_fields

FILES = {  # kind -> names; where a folder has several kinds, the first: the others may well hold the same rows
    "tables": ("*.parquet", "*.arrow"),
    "JSON files": ("*.jsonl", "*.json", "*.jsonl.gz", "*.json.gz"),
    "CSV files": ("*.csv", "*.tsv", "*.csv.gz", "*.tsv.gz"),
}
_NO_ROWS = {  # Hugging Face's descriptions of a data set's rows, and the record and the ids of an export
    "dataset_info.json", "dataset_infos.json", "dataset_dict.json", "state.json", "config.json", "metadata.json",
    "export.json", "provenance.jsonl",
}  # fmt: skip
TABLES = (b"PAR1", b"ARROW1", b"\xff\xff\xff\xff")  # Parquet; an Arrow file; an Arrow stream, as `save_to_disk` writes
LIST_KEYS = (  # where a JSON object may keep its rows
    "rows", "data", "train", "validation", "valid", "dev", "test", "eval", "train_sft", "test_sft", "instances", "examples",
)  # fmt: skip
LONGEST_CELL = 2**31 - 1  # characters of a cell of CSV; Python's own limit is 131,072


def iter_objects(path: Path, notes: list[str] | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield (its place, object) for every row of a JSONL, JSON, CSV, Parquet or Arrow file, gzipped or not.

    `notes` gets what there is to say of the file as a whole: its splits, and lists that hold no rows. Raises InputError at
    the first line that cannot be read, and for a file without any.
    """
    name, found = show_path(path), False
    try:
        with _open_file(path) as file:
            for where, value in _iter_values(file, name, [] if notes is None else notes):
                found = True
                yield where, take_object(value, where)
    except (OSError, EOFError, zlib.error) as error:
        reason = getattr(error, "strerror", None) or error
        raise InputError(f"{name}: cannot be read ({reason})") from error
    if not found:
        raise InputError(f"{name}: nothing in it; expected one JSON object a line, or a JSON list of objects")


def find_data_files(folder: Path, kind: str = "") -> list[Path]:
    """The files of one kind of FILES (of all without one) that may hold rows, anywhere below `folder`, in order.

    Left out is what describes the rows (`dataset_info.json` and the like), what `datasets` caches, and what is hidden.
    """
    patterns = FILES[kind] if kind else [pattern for patterns in FILES.values() for pattern in patterns]
    found = [path for pattern in patterns for path in folder.rglob(pattern)]
    return sorted(path for path in found if path.is_file() and _may_hold_rows(path.relative_to(folder)))


def _may_hold_rows(path: Path) -> bool:
    hidden = any(part.startswith(".") for part in path.parts)
    return not hidden and not path.name.startswith("cache-") and path.name not in _NO_ROWS


def _open_file(path: Path) -> BinaryIO:
    raw = path.open("rb")
    return gzip.open(raw) if raw.peek(2).startswith(b"\x1f\x8b") else raw


def _iter_values(file: BinaryIO, name: str, notes: list[str]) -> Iterator[tuple[str, Any]]:
    head = file.peek(4096)[:4096]
    first = head.removeprefix(b"\xef\xbb\xbf").lstrip().split(b"\n")[0].rstrip()
    suffix = Path(name.removesuffix(".gz")).suffix
    if head.startswith(TABLES):
        yield from _number_rows(_read_table(file, head, name), name)
    elif suffix in (".csv", ".tsv"):
        yield from _iter_cells(file, name, "\t" if suffix == ".tsv" else ",")
    elif first.startswith(b"[") or first == b"{":  # a list, or an object over several lines
        value = _parse(file.read(), f"{name}:1")
        yield from _iter_rows(value, name, notes) or [(f"{name}:1", value)]
    else:
        yield from _iter_lines(file, name, notes)


def _iter_lines(file: BinaryIO, name: str, notes: list[str]) -> Iterator[tuple[str, Any]]:
    for number, line in enumerate(file, 1):
        if line.strip():
            value = _parse(line, f"{name}:{number}")
            rows = _iter_rows(value, name, notes) if number == 1 else None
            yield from rows or [(f"{name}:{number}", value)]


def _iter_cells(file: BinaryIO, name: str, delimiter: str) -> Iterator[tuple[str, Any]]:
    """The rows of CSV under its header; quoted cells may hold line breaks, so that a place is where a row ends."""
    csv.field_size_limit(LONGEST_CELL)
    rows = csv.reader(io.TextIOWrapper(file, "utf-8-sig", newline=""), delimiter=delimiter)
    header: list[str] = []
    try:
        for cells in rows:
            header, is_first = header or cells, not header
            if len(cells) != len(header) and cells:
                raise InputError(f"{name}:{rows.line_num}: {len(cells)} cells; the header has {len(header)}")
            if cells and not is_first:
                yield f"{name}:{rows.line_num}", dict(zip(header, cells, strict=True))
    except UnicodeDecodeError as error:
        raise InputError(f"{name}:{rows.line_num + 1}: not UTF-8 text; save it as UTF-8") from error
    except csv.Error as error:
        raise InputError(f"{name}:{rows.line_num}: not CSV ({error})") from error


def _number_rows(rows: list[Any], name: str) -> Iterator[tuple[str, Any]]:
    return ((f"{name}, row {number}", row) for number, row in enumerate(rows, 1))


def _iter_rows(value: Any, name: str, notes: list[str]) -> Iterator[tuple[str, Any]] | None:
    """The rows of a JSON value that is a whole data set, of all its splits; None where it is a row itself."""
    if isinstance(value, list):
        return _number_rows(value, name)
    if not isinstance(value, dict) or _is_row(value):
        return None
    lists = {key: rows for key, rows in value.items() if isinstance(rows, list) and rows}
    splits = {key: rows for key, rows in lists.items() if isinstance(rows[0], dict) and _is_split(key, rows[0])}
    if not splits:
        return None
    unused = [key for key in lists if key not in splits and key != "features"]  # the Hugging Face viewer's own
    notes += [f"not used: {', '.join(unused)}"] * bool(unused)
    notes += [f"{len(splits)} splits: {', '.join(splits)}"] * (len(splits) > 1)
    if len(splits) == 1:
        return _number_rows(next(iter(splits.values())), name)
    return ((where, row) for key, rows in splits.items() for where, row in _number_rows(rows, f"{name}, {key}"))


def _is_row(value: dict[str, Any]) -> bool:
    """True for what is a row whatever lists it has: it has an instruction under that name, or outputs."""
    shape = find_shape(lower_fields(value))
    return shape is not None and (shape.has_outputs or "instruction" in shape.fields)


def _is_split(key: str, first: dict[str, Any]) -> bool:
    return key in LIST_KEYS or find_shape(lower_fields(first)) is not None


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


def take_object(value: Any, where: str) -> dict[str, Any]:
    """`value` as a row, out of the wrapping that the Hugging Face viewer gives it; raises InputError for no object."""
    if not isinstance(value, Mapping):
        expected = "expected fields such as instruction and output"
        raise InputError(f"{where}: a {type(value).__name__}, not an object; {expected}")
    row = value.get("row")
    return row if isinstance(row, dict) and "row_idx" in value else dict(value)
